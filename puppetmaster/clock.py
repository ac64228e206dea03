"""The two clocks: the monotonic clock for every timer, the wall clock for times that are written down."""

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

#: The beginning of 2026, in seconds since 1970; later with each release. A wall clock that shows less is
#: wrong, as on a gateway without a battery until its clock is set.
BUILT_S = 1_767_225_600
#: The wall clock counts as set when it has moved against the monotonic clock by more than ``STEP_S``. For
#: ``SETTLE_S`` after that, and after the start of the machine, it may be set again.
STEP_S, SETTLE_S = 60.0, 6 * 3600.0


class Clock:
    """The machine's clocks. Tests pass their own."""

    def now_s(self) -> float:
        """Seconds of the monotonic clock, which all processes share from the start of the machine."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Seconds since 1970 by the wall clock, which may be set back or forth at any time."""
        return time.time()

    def boot(self) -> str:
        """The boot id of the machine, to which the monotonic clock belongs; empty: not known."""
        return _boot()


class Moment:
    """The time of a turn, the same for all decisions in it: ``now_s``, ``wall_s``, and ``at`` as ISO 8601."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Begin a turn: read both clocks."""
        self.now_s = self._clock.now_s()
        self.wall_s = self._clock.wall_s()
        self.at = iso(self.wall_s)
        self.boot = self._clock.boot()


class Steadiness:
    """Decides whether ages by the wall clock can be trusted: not if it is wrong, or was set recently."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s: float | None = None
        #: Whether the wall clock was set between the last two calls of ``look``.
        self.stepped = False
        self._set_s = 0.0

    def look(self) -> bool:
        """Read both clocks. Returns whether ages by the wall clock can be trusted now."""
        now_s, wall_s = self._clock.now_s(), self._clock.wall_s()
        self.stepped = self._offset_s is not None and abs(wall_s - now_s - self._offset_s) > STEP_S
        if self.stepped:
            self._set_s = now_s
        self._offset_s = wall_s - now_s
        return is_known(wall_s) and now_s - self._set_s >= SETTLE_S


def is_known(wall_s: float) -> bool:
    """Whether a time is from a wall clock that may have been right: not before ``BUILT_S``."""
    return wall_s >= BUILT_S


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def left_s(lasting_s: float, since: str, wall_s: float) -> float:
    """Seconds that are left at ``wall_s`` of a time that began at ``since`` (ISO 8601), by the wall clock.

    The wall clock may be wrong by years. If it was wrong then, or is now, all of the time is left.
    """
    began_s = seconds(since)
    gone_s = wall_s - began_s if is_known(wall_s) and is_known(began_s) else 0.0
    return min(max(lasting_s - gone_s, 0.0), lasting_s)


def iso(wall_s: float) -> str:
    """ISO 8601 in UTC with milliseconds, as the API writes times."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def seconds(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 time. Raises ValueError: it is no such time, or has no zone."""
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        raise ValueError(f"expected a time with its zone, got '{text}'")
    return stamp.timestamp()
