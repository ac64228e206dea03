"""The two clocks: a monotonic one for every timer, the wall's for what is written down."""

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path


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
