"""Whether "no such gateway" was the right answer about a gateway that there is.

The controller forgets everybody when it is restarted, and gateways register again one after the other. The
bundle waits for them, for as long as it is set to; what was asked for after its own start is told at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.torture.world import BROKER, BUNDLE, CONTROLLER, EVERYTHING, Loss

#: Why it was the right answer.
LONG, NEW = "away for longer than is waited for", "of jobs newer than the bundle"
#: After these nobody is registered; the bridged fleet's one owner is restarted with the broker too.
RESTARTS, BRIDGED_RESTARTS = (CONTROLLER, EVERYTHING), (CONTROLLER, EVERYTHING, BROKER)
#: So long after a gateway has registered the answer that it is not may still be on its way to a decision.
DECIDED_S = 0.5


@dataclass(frozen=True, slots=True)
class Absences:
    """Judges such answers; times are of time.monotonic()."""

    losses: Sequence[Loss]
    restarts: Sequence[str]  #: the losses after which nobody is registered
    registering_s: float  #: for how long the bundle waits for a gateway
    back_s: Callable[[str, Loss], float | None]  #: when a gateway was registered after such a loss

    def judge(self, gateway: str, created_s: float, at_s: float) -> tuple[bool, str]:
        """Whether it was right to say so at that time to a job which was created at the other, and why."""
        restart = self._last(self.restarts, at_s)
        if restart is None:
            return False, "and nobody was restarted"
        back_s = self.back_s(gateway, restart)
        if back_s is not None and back_s + DECIDED_S < at_s:
            return False, f"and that one had been registered for {at_s - back_s:.3f} s"
        death = self._last((BUNDLE,), at_s)
        promised_s = [
            *([restart.from_s] if death is None or death.to_s < restart.from_s else []),  # the bundle saw it
            *([death.from_s] if death is not None and created_s < death.from_s else []),  # taken up again
        ]
        if not promised_s:
            return True, NEW
        early_s = max(promised_s) + self.registering_s - at_s
        if early_s > 0:
            return False, f"and would have been waited for {early_s:.3f} s longer"
        return True, LONG

    def _last(self, what: Sequence[str], at_s: float) -> Loss | None:
        begun = [loss for loss in self.losses if loss.what in what and loss.from_s <= at_s]
        return max(begun, key=lambda loss: loss.from_s, default=None)
