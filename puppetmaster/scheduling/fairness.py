"""Which job sends next: jobs take turns, each within its own concurrency and rate, all within the window.

This module knows no locks and no destinations: scheduler.py fills and empties the queues of a job.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from puppetmaster.model.why import Said, Why
from puppetmaster.scheduling.window import Window

#: A rate that fell behind by less than this catches up, so that short delays do not add up.
CATCH_UP_S = 0.01
#: A request that has been in flight for this long does not count in the window any more. The window limits
#: the work of the bus, and such a request only waits for its gateway: silent gateways would fill the window.
PATIENT_S = 2.0
#: This number of the ``most`` slots, and at most a tenth, is kept for jobs that have nothing in flight.
RESERVED = 20
#: This many removed requests may stay in a queue before it is cleaned.
FEW = 32


@dataclass(slots=True, eq=False)
class Waiting:
    """One request, from ``Scheduler.add`` to ``Scheduler.remove``. Times are on the monotonic clock."""

    id: int
    job: int
    destination: str
    #: Whether its command needs the lock of its domain.
    write: bool
    #: Whether it must go through the remote bundle, even when the gateway can be reached directly.
    remote_only: bool = False
    in_flight: bool = False
    #: Whether it was removed from the scheduler. It stays in its lane and queue until they are cleaned.
    gone: bool = False
    #: What it waits for until ``wake``, for a sentence; empty: it is not delayed.
    delayed: str = ""
    #: Until when it is delayed.
    until_s: float = 0.0
    #: Number of its sendings.
    sendings: int = 0
    #: Whether its latest sending counts in the window.
    counted: bool = False
    #: The domain whose lock it holds, or whose owner works on it; None: neither.
    domain: str | None = None
    #: Whether an owner of many gateways works on it.
    owned: bool = False
    #: The owner's epoch when it was sent.
    epoch: int = 0
    #: When it was sent, if ``owned``.
    sent_s: float = 0.0
    #: The queue in which it waits; None: it is in none.
    queue: "Queue | None" = None

    def __lt__(self, other: "Waiting") -> bool:
        return self.id < other.id


@dataclass(slots=True, eq=False)
class Queue:
    """The requests of one job that wait for one domain, reads and writes apart."""

    share: "Share"
    domain: str
    write: bool
    waiting: deque[Waiting] = field(default_factory=deque)
    #: Whether the queue is in its share's ``ready``, or is parked until a lock is free.
    listed: bool = False
    #: How many of ``waiting`` are gone.
    gone: int = 0

    def put(self, waiting: Waiting, *, first: bool) -> None:
        """Add a request at the end of the queue, or with ``first`` at its beginning."""
        waiting.queue = self
        if first:
            self.waiting.appendleft(waiting)
        else:
            self.waiting.append(waiting)

    def take(self) -> Waiting:
        """Remove the first request and return it."""
        waiting = self.waiting.popleft()
        waiting.queue = None
        self.gone -= waiting.gone
        return waiting

    def forget(self) -> None:
        """Note that a request of the queue is gone; when many are, remove them all at once."""
        self.gone += 1
        if self.gone > FEW and 2 * self.gone > len(self.waiting):
            self.waiting = deque(waiting for waiting in self.waiting if not waiting.gone)
            self.gone = 0


@dataclass(slots=True, eq=False)
class Share:
    """One job in the scheduler: its limits and its queues."""

    #: The job's id.
    job: int
    #: Most requests of it in flight; None: the window limits them.
    limit: int | None
    #: Most requests of it that are sent per second; None: no limit.
    rate: float | None
    #: Before this time nothing of it is sent (monotonic clock); its rate moves it on.
    next_s: float = 0.0
    #: How many of its requests are in flight.
    in_flight: int = 0
    #: Whether it sends nothing, for example because it is paused. Its requests may still be here.
    suspended: bool = False
    #: Its queues by domain and ``write``.
    queues: dict[tuple[str, bool], Queue] = field(default_factory=dict)
    #: The queues that may have something to send.
    ready: deque[Queue] = field(default_factory=deque)
    #: Whether it is in the list of jobs that have something in flight and wait for a turn.
    listed: bool = False
    #: Whether it is in the list of jobs that have nothing in flight and wait for a turn.
    idle: bool = False

    @property
    def full(self) -> bool:
        """Whether it may send nothing more now, whatever other jobs do."""
        return self.suspended or (self.limit is not None and self.in_flight >= self.limit)


class FairQueue:
    """The jobs that have something to send, in turn, and the number of their requests in flight.

    The adaptive window limits the jobs without a concurrency of their own; ``most`` limits all jobs together.
    A job that has nothing in flight comes first, whatever the window: no job can keep another from going on.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._reserved = min(RESERVED, most // 10)
        self.window = Window(most - self._reserved)
        self.in_flight = 0
        self.automatic = 0  # requests in flight that count in the window
        self._shares: dict[int, Share] = {}  # by job
        self._idle: deque[Share] = deque()  # jobs with nothing in flight
        self._lists: tuple[deque[Share], deque[Share]] = (
            deque(),
            deque(),
        )  # jobs with a concurrency; without
        self._next_list = 0
        self._counted: deque[tuple[float, Waiting, int]] = deque()  # counts until when, request, its sending
        self._paced: dict[int, float] = {}  # job -> before when its rate lets it send nothing

    def open(self, job: int, limit: int | None, rate: float | None, next_s: float) -> None:
        """Add a job (see ``Share``); nothing of it is sent before ``next_s``."""
        self._shares[job] = Share(job, limit, rate, next_s)

    def close(self, job: int) -> Share | None:
        """Remove a job. Returns its share; None: the job was not here."""
        return self._shares.pop(job, None)

    def share(self, job: int) -> Share:
        """The share of a job. Raises KeyError: the job is not here."""
        return self._shares[job]

    def knows(self, share: Share) -> bool:
        """Whether the job of this share is still here."""
        return self._shares.get(share.job) is share

    def list(self, share: Share) -> None:
        """Put a job in the list for its next turn, if it may have something to send."""
        if not share.ready or share.full:
            return
        if not share.in_flight and not share.idle:
            share.idle = True
            self._idle.append(share)
        elif share.in_flight and not share.listed:
            share.listed = True
            self._lists[share.limit is None].append(share)

    def suspend(self, job: int) -> None:
        """Have a job send nothing until ``resume``. Does nothing when the job is not here."""
        if (share := self._shares.get(job)) is not None:
            share.suspended = True

    def resume(self, job: int) -> None:
        """Let a job send again."""
        share = self._shares[job]
        share.suspended = False
        self.list(share)

    def next(self, now_s: float) -> Share | None:
        """The job whose turn it is and whose limits let it send; None: there is none.

        Jobs with a concurrency and jobs without take turns; the latter share the adaptive window.
        """
        self._grow_patient(now_s)
        while (share := self._pop()) is not None:
            if share.full or not self.knows(share):
                continue
            if share.rate is not None and share.next_s > now_s:
                self._paced[share.job] = share.next_s
                continue
            return share
        return None

    def _pop(self) -> Share | None:
        while self._idle:
            share = self._idle.popleft()
            share.idle = False
            if not share.in_flight:
                return share
            self.list(share)
        if self.in_flight >= self.most - self._reserved:
            return None
        for _ in range(2):
            kind, self._next_list = self._next_list, 1 - self._next_list
            if kind == 1 and self.automatic >= self.window.size:
                continue
            if self._lists[kind]:
                share = self._lists[kind].popleft()
                share.listed = False
                return share
        return None

    def _grow_patient(self, now_s: float) -> None:
        """Take the requests that have been in flight for ``PATIENT_S`` out of the window's count."""
        while self._counted:
            until_s, waiting, sending = self._counted[0]
            flies = waiting.counted and waiting.sendings == sending
            if flies and until_s > now_s:
                return
            self._counted.popleft()
            if flies:
                self._uncount(waiting)

    def _uncount(self, waiting: Waiting) -> None:
        if waiting.counted:
            waiting.counted = False
            self.automatic -= 1

    def room_s(self, now_s: float) -> float | None:
        """When the oldest request stops counting in the window, which makes room (monotonic clock).

        None: no job waits for room in the window.
        """
        self._grow_patient(now_s)
        if not self._lists[1] or self.in_flight >= self.most - self._reserved:
            return None
        return self._counted[0][0] if self._counted and self.automatic >= self.window.size else None

    def paced(self) -> Iterator[tuple[int, float]]:
        """The jobs that wait for their rate, each with the time at which it may send. Removes them."""
        while self._paced:
            yield self._paced.popitem()

    def pace_over(self, job: int) -> None:
        """Give a job a turn, because the time that ``paced`` named has come."""
        if (share := self._shares.get(job)) is not None:
            self.list(share)

    def start(self, waiting: Waiting, now_s: float) -> None:
        """Count a request that is sent now: in its job's rate, and as in flight."""
        share = self._shares[waiting.job]
        if share.rate is not None:
            late = now_s - share.next_s < CATCH_UP_S
            share.next_s = (share.next_s if late else now_s) + 1 / share.rate
        self.take_up(waiting, now_s)

    def take_up(self, waiting: Waiting, now_s: float) -> None:
        """Count a request as in flight: for its job, for all jobs, and in the window."""
        share = self._shares[waiting.job]
        waiting.in_flight = True
        waiting.sendings += 1
        share.in_flight += 1
        self.in_flight += 1
        if share.limit is None:
            waiting.counted = True
            self.automatic += 1
            self._counted.append((now_s + PATIENT_S, waiting, waiting.sendings))

    def land(self, waiting: Waiting) -> None:
        """Count a request as no longer in flight, and give its job a turn."""
        share = self._shares[waiting.job]
        waiting.in_flight = False
        share.in_flight -= 1
        self.in_flight -= 1
        self._uncount(waiting)
        self.list(share)

    def may_send(self, share: Share, now_s: float) -> bool:
        """Whether the job's limits and the window let it send a request now."""
        if share.full or share.next_s > now_s:
            return False
        if not share.in_flight:
            return True
        if self.in_flight >= self.most - self._reserved:
            return False
        return share.limit is not None or self.automatic < self.window.size

    def why(self, job: int, now_s: float) -> Said | None:
        """Which limit keeps a job from sending more now, as one sentence; None: no limit does."""
        share = self._shares[job]
        if share.limit is not None and share.in_flight >= share.limit:
            return Why.CONCURRENCY.said(in_flight=share.in_flight)
        if share.rate is not None and share.next_s > now_s:
            return Why.RATE.said(rate=share.rate)
        if self.in_flight >= self.most:
            return Why.MOST.said(in_flight=self.in_flight)
        if share.in_flight and self.in_flight >= self.most - self._reserved:
            return Why.RESERVED.said(in_flight=self.in_flight, kept=self._reserved)
        if share.in_flight and share.limit is None and self.automatic >= self.window.size:
            return Why.WINDOW.said(in_flight=self.automatic)
        return None
