"""One WebSocket that follows jobs, and what it has yet to be told of."""

import asyncio
import math
from collections import deque

from puppetmaster.events import Change
from puppetmaster.job import Job

#: A frame's text in parts: what many watchers are told alike is in memory once.
Frame = tuple[bytes, ...]
#: Between two frames of one job for ordinary changes; what is urgent goes at once.
INTERVAL_S = 0.1
#: Frames of one job in any second, urgent ones included.
MOST_FRAMES = 10
#: Requests in one frame of ``?collection=true``; others follow in the next.
FRAME_REQUESTS = 500
#: A frame takes no more of them once they have so many bytes; one request may be longer.
FRAME_BYTES = 1024 * 1024
#: Changed requests of one job that are remembered for one watcher; beyond it is told all of them anew.
MOST_CHANGED = 10_000


class Backlog:
    """The requests of one job that a watcher has yet to be told of."""

    def __init__(self, job: Job, *, everything: bool) -> None:
        self._ids = job.request_ids
        self._next = 0 if everything else len(self._ids)
        self._changed: set[int] = set()

    def add(self, changed: frozenset[int] | None) -> None:
        """These changed (None: too many to list). What is to be told anyway is not remembered."""
        if changed is not None:
            ahead = self._ids[self._next] if self._next < len(self._ids) else self._ids.stop
            self._changed.update(id_ for id_ in changed if id_ < ahead)
        if changed is None or len(self._changed) > MOST_CHANGED:
            self._next = 0
            self._changed.clear()

    def take(self) -> tuple[int, ...]:
        """The next ids to tell, ascending."""
        taken = sorted(self._changed)[:FRAME_REQUESTS]
        self._changed.difference_update(taken)
        more = self._ids[self._next : self._next + FRAME_REQUESTS - len(taken)]
        self._next += len(more)
        return (*taken, *more)

    def __bool__(self) -> bool:
        return bool(self._changed) or self._next < len(self._ids)


class Watcher:
    """One WebSocket. The thread sets ``busy`` and the loop resets it; all else is the thread's."""

    def __init__(self, job: Job | None, *, collection: bool, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.collection = collection
        self.loop = loop
        self.outbox: asyncio.Queue[list[Frame] | int] = asyncio.Queue()
        self.busy = False
        #: Bytes of frames that it was last handed; while it is busy they are in memory.
        self.handed = 0
        self.seq = 0
        self.behind: set[int] = set()
        #: Jobs of which it is told however busy we are: they were created, ended or removed, or it is new.
        self.urgent: set[int] = set()
        self.backlogs: dict[int, Backlog] = {}
        self._sent_s: dict[int, deque[float]] = {}

    def due_s(self, job_id: int) -> float:
        """When a frame of this job may be sent, at the earliest."""
        sent_s = self._sent_s.get(job_id)
        if sent_s is None:
            return -math.inf
        earliest_s = sent_s[0] + 1.0 if len(sent_s) == MOST_FRAMES else -math.inf
        return earliest_s if job_id in self.urgent else max(earliest_s, sent_s[-1] + INTERVAL_S)

    def sent(self, job_id: int, now_s: float) -> None:
        """A frame of this job is being sent."""
        self._sent_s.setdefault(job_id, deque(maxlen=MOST_FRAMES)).append(now_s)
        self.urgent.discard(job_id)

    def forget(self, now_s: float) -> None:
        """Keep nothing of frames that no longer count."""
        if len(self._sent_s) > len(self.behind) + 100:
            self._sent_s = {id_: sent_s for id_, sent_s in self._sent_s.items() if now_s - sent_s[-1] < 1.0}
        if len(self.backlogs) > len(self.behind):
            self.backlogs = {id_: left for id_, left in self.backlogs.items() if left}

    def note(self, change: Change) -> None:
        """It has yet to be told of this change."""
        self.behind.add(change.job.id)
        if change.created or change.ended or change.deleted:
            self.urgent.add(change.job.id)
        if self.collection:
            backlog = self.backlogs.get(change.job.id)
            if backlog is None:
                backlog = self.backlogs[change.job.id] = Backlog(change.job, everything=False)
            backlog.add(change.requests)
