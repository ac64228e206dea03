"""Who leads a bus, where more than one process may: since when, and how it came to that."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from puppetmaster.clock import iso


class Free(StrEnum):
    """Why the lead could be taken."""

    FIRST = "first"
    STOPPED = "stopped"
    GONE = "gone"
    EXPIRED = "expired"


_SAID = {
    Free.FIRST: "nobody has led before",
    Free.STOPPED: "the leader before has stopped",
    Free.GONE: "the leader before had no session in the database any more, as when its process has died",
    Free.EXPIRED: "the lease of the leader before was over, as when it stands still or has lost the database",
}


@dataclass(frozen=True, slots=True)
class Leadership:
    """The lead of one process."""

    #: How its sessions in the database are named: by machine and process.
    name: str
    #: Which leader it is, counted from the first one.
    epoch: int
    #: Since when it leads (the database's clock).
    since_s: float
    free: Free
    #: The name of the leader before, if that did not give the lead away.
    former: str | None
    #: How long the lease is still, if it is not renewed.
    lease_s: float
    #: Whether no other process can have taken the lead.
    sure: bool

    @property
    def why(self) -> str:
        """Why it leads, in a sentence without a full stop."""
        return _SAID[self.free] + (f" ('{self.former}')" if self.former is not None else "")

    def view(self) -> dict[str, Any]:
        """The leadership as the API shows it."""
        return {
            "name": self.name,
            "epoch": self.epoch,
            "since": iso(self.since_s),
            "leaseLeft": round(self.lease_s, 1),
            "sure": self.sure,
            "takeover": {"why": self.free.value, "from": self.former, "message": self.why},
        }
