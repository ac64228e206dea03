"""Who wants to know what changed: bounded mailboxes that keep the latest state of each job.

The dispatcher posts after a turn is durable. A mailbox merges: a reader that is slow gets fewer
states, never an endless queue, and always the last one.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from puppetmaster.model.job import Job

#: More changed requests of one job than this are not listed one by one.
MOST_REQUESTS = 10_000


class Kind(StrEnum):
    """What happened to a job."""

    CREATED = "created"
    CHANGED = "changed"
    ENDED = "ended"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """A job as it is now, and what happened to it since its reader last looked.

    ``created`` and ``ended`` stay true until they were read, however many changes are merged.
    ``requests`` are the ids of those that changed, for a detailed mailbox; None: too many to list.
    """

    job: Job
    created: bool = False
    ended: bool = False
    deleted: bool = False
    requests: frozenset[int] | None = frozenset()

    @classmethod
    def of(cls, kind: Kind, job: Job, requests: frozenset[int] | None = frozenset()) -> "Change":
        """One change of this kind."""
        return cls(job, kind is Kind.CREATED, kind is Kind.ENDED, kind is Kind.DELETED, requests)

    def merged(self, later: "Change") -> "Change":
        """Both changes as one."""
        requests = None if self.requests is None or later.requests is None else self.requests | later.requests
        if requests is not None and len(requests) > MOST_REQUESTS:
            requests = None
        return replace(
            later,
            created=self.created or later.created,
            ended=self.ended or later.ended,
            requests=requests,
        )


class Mailbox:
    """The unread changes of one reader: at most one per job."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # guards _unread, _woken and _closed
        self._unread: dict[int, Change] = {}
        self._woken = False
        self._closed = False
        #: Whether its reader wants to know which requests changed; any thread may set it.
        self.detailed = False

    def post(self, change: Change) -> None:
        """Leave a change; never blocks."""
        with self._condition:
            unread = self._unread.get(change.job.id)
            self._unread[change.job.id] = unread.merged(change) if unread else change
            self._condition.notify()

    def take(self, timeout_s: float | None = None) -> list[Change] | None:
        """All unread changes, after waiting for one. Empty: the time was over. None: closed and empty."""
        with self._condition:
            if not (self._unread or self._woken or self._closed):
                self._condition.wait(timeout_s)
            self._woken = False
            if not self._unread:
                return None if self._closed else []
            changes, self._unread = list(self._unread.values()), {}
            return changes

    def wake(self) -> None:
        """Let ``take`` return soon, though there may be nothing to read."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def close(self) -> None:
        """No more is posted; what is unread can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Hub:
    """All mailboxes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _mailboxes
        self._mailboxes: list[Mailbox] = []

    def subscribe(self) -> Mailbox:
        """A new mailbox; it gets what is posted from now on."""
        mailbox = Mailbox()
        with self._lock:
            self._mailboxes.append(mailbox)
        return mailbox

    def unsubscribe(self, mailbox: Mailbox) -> None:
        """Post no more to this mailbox."""
        with self._lock:
            if mailbox in self._mailboxes:
                self._mailboxes.remove(mailbox)

    @property
    def detailed(self) -> bool:
        """Whether some reader wants to know which requests changed."""
        return any(mailbox.detailed for mailbox in self._mailboxes)

    def post(self, changes: Iterable[Change]) -> None:
        """Leave the changes in every mailbox; never blocks."""
        with self._lock:
            mailboxes = list(self._mailboxes)
        for change in changes:
            for mailbox in mailboxes:
                mailbox.post(change)
