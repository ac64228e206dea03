"""Which job sends next: jobs take turns, each within its own concurrency and rate, all within the window.

Knows no lock and no destination: what a job has to send lies in queues, which lanes.py fills and reads.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from puppetmaster.window import Window

#: A rate that fell behind by less than this catches up, so that short delays do not add up.
CATCH_UP_S = 0.01


@dataclass(slots=True, eq=False)
class Waiting:
    """One request, from ``Lanes.add`` to ``Lanes.remove``."""

    id: int
    job: int
    destination: str
    write: bool
    in_flight: bool = False
    gone: bool = False
    #: What it waits for though it leads its lane, until ``wake``; empty: it does not.
    delayed: str = ""
    until_s: float = 0.0
    domain: str | None = None

    def __lt__(self, other: "Waiting") -> bool:
        return self.id < other.id


@dataclass(slots=True, eq=False)
class Queue:
    """The requests of one job that wait for one domain, reads and writes apart."""

    share: "Share"
    domain: str | None
    write: bool
    waiting: deque[Waiting] = field(default_factory=deque)
    listed: bool = False


@dataclass(slots=True, eq=False)
class Share:
    """What one job has in the lanes."""

    job: int
    limit: int | None
    rate: float | None
    next_s: float = 0.0
    in_flight: int = 0
    #: It sends nothing, for a while or for good, though what it has may still be here.
    suspended: bool = False
    queues: dict[tuple[str | None, bool], Queue] = field(default_factory=dict)
    ready: deque[Queue] = field(default_factory=deque)
    listed: bool = False

    @property
    def full(self) -> bool:
        """Whether it may send nothing more now, whatever others do."""
        return self.suspended or (self.limit is not None and self.in_flight >= self.limit)


class Turns:
    """The jobs that have something to send, and how much all of them have in flight.

    The adaptive window limits jobs that name no concurrency; ``most`` limits all.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.window = Window(most)
        self.in_flight = 0
        self.automatic = 0  # in flight of jobs without a concurrency of their own
        self._shares: dict[int, Share] = {}
        self._lists: tuple[deque[Share], deque[Share]] = (deque(), deque())  # with a concurrency, without
        self._next_list = 0
        self._paced: dict[int, float] = {}

    def open(self, job: int, limit: int | None, rate: float | None) -> None:
        """Make room for a job."""
        self._shares[job] = Share(job, limit, rate)

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
        if share.ready and not share.listed and not share.full:
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
        while (share := self._pop()) is not None:
            share.listed = False
            if share.full or not self.knows(share):
                continue
            if share.rate is not None and share.next_s > now_s:
                self._paced[share.job] = share.next_s
                continue
            return share
        return None

    def _pop(self) -> Share | None:
        for _ in range(2):
            kind, self._next_list = self._next_list, 1 - self._next_list
            if kind == 1 and self.automatic >= self.window.size:
                continue
            if self._lists[kind]:
                return self._lists[kind].popleft()
        return None

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
        self.take_up(waiting)

    def take_up(self, waiting: Waiting) -> None:
        """A request is in flight."""
        share = self._shares[waiting.job]
        waiting.in_flight = True
        share.in_flight += 1
        self.in_flight += 1
        self.automatic += share.limit is None

    def land(self, waiting: Waiting) -> None:
        """A request is not in flight any more: its slot is free."""
        share = self._shares[waiting.job]
        waiting.in_flight = False
        share.in_flight -= 1
        self.in_flight -= 1
        self.automatic -= share.limit is None
        self.list(share)

    def may_send(self, share: Share, now_s: float) -> bool:
        """Whether its limits let it send something now."""
        if share.full or share.next_s > now_s:
            return False
        return share.limit is not None or self.automatic < self.window.size

    def why(self, job: int, now_s: float) -> str | None:
        """What keeps a job from sending more now, as one sentence; None: nothing of this."""
        share = self._shares[job]
        if share.limit is not None and share.in_flight >= share.limit:
            return f"no free slot: the job has {share.in_flight} in flight, which is its concurrency"
        if share.rate is not None and share.next_s > now_s:
            return f"the job's rate is {share.rate:g} per second"
        if self.in_flight >= self.most:
            return f"no free slot: {self.in_flight} requests are in flight, which is the most"
        if share.limit is None and self.automatic >= self.window.size:
            return f"no free slot: {self.automatic} requests are in flight, which is the window now"
        return None
