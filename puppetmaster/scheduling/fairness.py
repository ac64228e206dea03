"""Which job sends next: jobs take turns, each within its own concurrency and rate, all within the window.

Knows no lock and no destination: what a job has to send lies in queues, which scheduler.py fills and reads.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from puppetmaster.model.why import Said, Why
from puppetmaster.scheduling.window import Window

#: A rate that fell behind by less than this catches up, so that short delays do not add up.
CATCH_UP_S = 0.01
#: The window is how much the bus is given to do. What has been in flight for so long waits for its gateway
#: and gives the bus nothing to do. It does not count in the window any more: silent gateways would fill it.
PATIENT_S = 2.0
#: Of ``most`` so many slots, and at most a tenth, are for jobs that have nothing in flight.
RESERVED = 20
#: So many that are gone may stay in a queue.
FEW = 32


@dataclass(slots=True, eq=False)
class Waiting:
    """One request, from ``Lanes.add`` to ``Lanes.remove``."""

    id: int
    job: int
    destination: str
    write: bool
    #: It goes through the remote bundle, whatever other way there is.
    remote_only: bool = False
    in_flight: bool = False
    gone: bool = False
    #: What it waits for though it leads its lane, until ``wake``; empty: it does not.
    delayed: str = ""
    until_s: float = 0.0
    #: Counts the sendings; whether the last one counts in the window.
    sendings: int = 0
    counted: bool = False
    #: Whose lock it holds; ``owned``: an owner of many gateways works on it, since when and in which epoch.
    domain: str | None = None
    owned: bool = False
    epoch: int = 0
    sent_s: float = 0.0
    #: Where it was put to be taken from.
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
    listed: bool = False
    gone: int = 0

    def put(self, waiting: Waiting, *, first: bool) -> None:
        """It waits here, behind the others or before them."""
        waiting.queue = self
        if first:
            self.waiting.appendleft(waiting)
        else:
            self.waiting.append(waiting)

    def take(self) -> Waiting:
        """Take the first one out."""
        waiting = self.waiting.popleft()
        waiting.queue = None
        self.gone -= waiting.gone
        return waiting

    def forget(self) -> None:
        """One of them is gone. It is taken out with others, when they are many: else it costs too much."""
        self.gone += 1
        if self.gone > FEW and 2 * self.gone > len(self.waiting):
            self.waiting = deque(waiting for waiting in self.waiting if not waiting.gone)
            self.gone = 0


@dataclass(slots=True, eq=False)
class Share:
    """What one job has in the scheduler."""

    job: int
    limit: int | None
    rate: float | None
    next_s: float = 0.0
    in_flight: int = 0
    #: It sends nothing, for a while or for good, though what it has may still be here.
    suspended: bool = False
    queues: dict[tuple[str, bool], Queue] = field(default_factory=dict)
    ready: deque[Queue] = field(default_factory=deque)
    listed: bool = False
    #: Listed among those that have nothing in flight.
    idle: bool = False

    @property
    def full(self) -> bool:
        """Whether it may send nothing more now, whatever others do."""
        return self.suspended or (self.limit is not None and self.in_flight >= self.limit)


class FairQueue:
    """The jobs that have something to send, and how much all of them have in flight.

    The adaptive window limits jobs that name no concurrency; ``most`` limits all. A job that has nothing in
    flight comes first, whatever the window: so no job keeps another from going on.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._reserved = min(RESERVED, most // 10)
        self.window = Window(most - self._reserved)
        self.in_flight = 0
        self.automatic = 0  # in flight of jobs without a concurrency of their own, as far as they count
        self._shares: dict[int, Share] = {}
        self._idle: deque[Share] = deque()  # those that have nothing in flight
        self._lists: tuple[deque[Share], deque[Share]] = (deque(), deque())  # with a concurrency, without
        self._next_list = 0
        self._counted: deque[tuple[float, Waiting, int]] = deque()  # until when, which, its sending
        self._paced: dict[int, float] = {}

    def open(self, job: int, limit: int | None, rate: float | None, next_s: float) -> None:
        """Make room for a job; nothing of it goes before ``next_s``."""
        self._shares[job] = Share(job, limit, rate, next_s)

    def close(self, job: int) -> Share | None:
        """Forget a job: what it had."""
        return self._shares.pop(job, None)

    def share(self, job: int) -> Share:
        """What a job has."""
        return self._shares[job]

    def knows(self, share: Share) -> bool:
        """Whether its job is still there."""
        return self._shares.get(share.job) is share

    def list(self, share: Share) -> None:
        """It may have something to send: let it have a turn."""
        if not share.ready or share.full:
            return
        if not share.in_flight and not share.idle:
            share.idle = True
            self._idle.append(share)
        elif share.in_flight and not share.listed:
            share.listed = True
            self._lists[share.limit is None].append(share)

    def suspend(self, job: int) -> None:
        """Let a job send nothing, until ``resume``; one that is not here sends nothing anyway."""
        if (share := self._shares.get(job)) is not None:
            share.suspended = True

    def resume(self, job: int) -> None:
        """Let it send again."""
        share = self._shares[job]
        share.suspended = False
        self.list(share)

    def next(self, now_s: float) -> Share | None:
        """Whose turn it is, by its limits; None: nobody's.

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
        """What waits for its gateway for long does not count in the window."""
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
        """When the window has room by itself, if somebody waits for that and for nothing else."""
        self._grow_patient(now_s)
        if not self._lists[1] or self.in_flight >= self.most - self._reserved:
            return None
        return self._counted[0][0] if self._counted and self.automatic >= self.window.size else None

    def paced(self) -> Iterator[tuple[int, float]]:
        """The jobs whose rate lets nothing go before some time, each once, with that time."""
        while self._paced:
            yield self._paced.popitem()

    def pace_over(self, job: int) -> None:
        """That time has come."""
        if (share := self._shares.get(job)) is not None:
            self.list(share)

    def start(self, waiting: Waiting, now_s: float) -> None:
        """A request goes: it takes a slot of its job, and a moment of its rate."""
        share = self._shares[waiting.job]
        if share.rate is not None:
            late = now_s - share.next_s < CATCH_UP_S
            share.next_s = (share.next_s if late else now_s) + 1 / share.rate
        self.take_up(waiting, now_s)

    def take_up(self, waiting: Waiting, now_s: float) -> None:
        """A request is in flight."""
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
        """A request is not in flight any more: its slot is free."""
        share = self._shares[waiting.job]
        waiting.in_flight = False
        share.in_flight -= 1
        self.in_flight -= 1
        self._uncount(waiting)
        self.list(share)

    def may_send(self, share: Share, now_s: float) -> bool:
        """Whether its limits let it send something now."""
        if share.full or share.next_s > now_s:
            return False
        if not share.in_flight:
            return True
        if self.in_flight >= self.most - self._reserved:
            return False
        return share.limit is not None or self.automatic < self.window.size

    def why(self, job: int, now_s: float) -> Said | None:
        """What keeps a job from sending more now; None: nothing of this."""
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
