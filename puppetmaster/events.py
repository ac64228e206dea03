"""Mailboxes for changes of jobs: bounded, with the latest state of each job for each reader.

The dispatcher posts changes after a turn is durable. A mailbox merges the changes of a job: a slow reader
gets fewer states, never an endless queue, and always the last state.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from puppetmaster.model.job import Job

#: Most ids in ``Change.requests``; with more it is None.
MOST_REQUESTS = 10_000


class Kind(StrEnum):
    """What happened to a job."""

    CREATED = "created"
    CHANGED = "changed"
    ENDED = "ended"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """A job as it is now, and what has happened to it since its reader last took changes."""

    job: Job
    #: Whether it was created since then.
    created: bool = False
    #: Whether it ended since then.
    ended: bool = False
    #: Whether it was removed since then.
    deleted: bool = False
    #: Ids of its requests that changed since then, if a mailbox is ``detailed``; None: too many to list.
    requests: frozenset[int] | None = frozenset()

    @classmethod
    def of(cls, kind: Kind, job: Job, requests: frozenset[int] | None = frozenset()) -> "Change":
        """A single change of this kind."""
        return cls(job, kind is Kind.CREATED, kind is Kind.ENDED, kind is Kind.DELETED, requests)

    def merged(self, later: "Change") -> "Change":
        """This change and a later one of the same job as one change."""
        requests = None if self.requests is None or later.requests is None else self.requests | later.requests
        if requests is not None and len(requests) > MOST_REQUESTS:
            requests = None
        created, ended = self.created or later.created, self.ended or later.ended
        return Change(later.job, created, ended, later.deleted, requests)


class Mailbox:
    """The unread changes of one reader: at most one per job."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # guards _unread, _woken and _closed
        self._unread: dict[int, Change] = {}
        self._woken = False
        self._closed = False
        #: Whether its reader needs ``Change.requests``. Any thread may set this.
        self.detailed = False

    def post(self, change: Change) -> None:
        """Add a change, merged with the unread one of the same job. Never blocks."""
        with self._condition:
            unread = self._unread.get(change.job.id)
            self._unread[change.job.id] = unread.merged(change) if unread else change
            self._condition.notify()

    def take(self, timeout_s: float | None = None) -> list[Change] | None:
        """Wait up to ``timeout_s`` (None: for ever) for a change, and take all unread changes, one per job.

        Empty: the time was over, or ``wake`` was called. None: the mailbox is closed and empty.
        """
        with self._condition:
            if not (self._unread or self._woken or self._closed):
                self._condition.wait(timeout_s)
            self._woken = False
            if not self._unread:
                return None if self._closed else []
            changes, self._unread = list(self._unread.values()), {}
            return changes

    def wake(self) -> None:
        """Have ``take`` return at once, even if there is no change."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def close(self) -> None:
        """Have ``take`` return None once all unread changes were taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Hub:
    """All mailboxes. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _mailboxes
        self._mailboxes: list[Mailbox] = []

    def subscribe(self) -> Mailbox:
        """Make a mailbox, which gets the changes that are posted from now on."""
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
        """Whether any reader needs ``Change.requests``."""
        with self._lock:
            return any(mailbox.detailed for mailbox in self._mailboxes)

    def post(self, changes: Iterable[Change]) -> None:
        """Add the changes to every mailbox. Never blocks."""
        with self._lock:
            mailboxes = list(self._mailboxes)
        for change in changes:
            for mailbox in mailboxes:
                mailbox.post(change)
