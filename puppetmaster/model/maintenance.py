"""Maintenance windows: when requests of a job may be sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from puppetmaster.clock import is_known
from puppetmaster.model.cron import Cron


class Edge(NamedTuple):
    """Whether a window is open, and until when that stays so."""

    is_open: bool
    #: When it closes, or opens (wall clock); None: not known, because the clock is not set, or never.
    until_s: float | None


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Windows that open at the times of a cron expression."""

    cron: str
    duration_s: float
    timezone: str = "UTC"

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> "Maintenance | None":
        """The windows as they were given to the API; None: at any time."""
        if given is None:
            return None
        return cls(given["cron"], given["duration"], given.get("timezone", "UTC"))

    def at(self, wall_s: float) -> Edge:
        """Whether a window is open at ``wall_s`` by the wall clock. While that is not set, none is."""
        if not is_known(wall_s):
            return Edge(False, None)
        times = Cron(self.cron, self.timezone)
        opened_s = times.last(wall_s, self.duration_s)
        if opened_s is not None and wall_s < opened_s + self.duration_s:
            return Edge(True, opened_s + self.duration_s)
        return Edge(False, next(times.after(wall_s), None))
