"""The two clocks: a monotonic one for every timer, the wall's for what is written down."""

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

#: 2026, and later with each release: no clock that is right says less than when this program was built. That
#: of a gateway without a battery does, until somebody sets it.
BUILT_S = 1_767_225_600
#: The wall's clock was set when it has moved against the monotonic one by more than this. For a while after
#: that, and after the start of the machine, it may be set again.
STEP_S, SETTLE_S = 60.0, 6 * 3600.0


class Clock:
    """The machine's clocks. Tests pass their own."""

    def now_s(self) -> float:
        """Monotonic seconds; the same count for every process since the machine started."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Seconds since 1970, which somebody may set back and forth at any time."""
        return time.time()

    def boot(self) -> str:
        """Which start of the machine the monotonic seconds belong to; empty when it does not say."""
        return _boot()


class Moment:
    """The time of a turn: the same for all that is decided in it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """It is now."""
        self.now_s = self._clock.now_s()
        self.wall_s = self._clock.wall_s()
        self.at = iso(self.wall_s)
        self.boot = self._clock.boot()


class Steadiness:
    """Whether the wall's clock tells ages: not where it cannot be right, nor soon after it was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s: float | None = None
        #: The clock was set between the last two looks.
        self.stepped = False
        self._set_s = 0.0

    def look(self) -> bool:
        """Look at both clocks; what was set between two looks is seen by the second."""
        now_s, wall_s = self._clock.now_s(), self._clock.wall_s()
        self.stepped = self._offset_s is not None and abs(wall_s - now_s - self._offset_s) > STEP_S
        if self.stepped:
            self._set_s = now_s
        self._offset_s = wall_s - now_s
        return is_known(wall_s) and now_s - self._set_s >= SETTLE_S


def is_known(wall_s: float) -> bool:
    """Whether a time was told by a clock that may have been right."""
    return wall_s >= BUILT_S


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def iso(wall_s: float) -> str:
    """ISO 8601 in UTC with milliseconds, as the API writes times."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def seconds(text: str) -> float:
    """The seconds since 1970 of an ISO 8601 time with its zone. Raises ValueError."""
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        raise ValueError(f"expected a time with its zone, got '{text}'")
    return stamp.timestamp()
