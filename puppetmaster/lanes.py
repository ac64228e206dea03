"""Whose turn it is: lanes, lock domains, limits. Knows no thread, socket or clock.

- A *lane* per destination: its requests in the order of their creation, one in flight at a time.
- A *domain* is one write lock of the controller: a write takes it, and while it is held nothing
  else of that domain passes. Destinations of one model share a domain, so writes to them go one
  at a time; domains go side by side. Reads take no lock, but do not pass a held one.
- Jobs take turns, each within its own limit; the window limits all of them together.

A write goes only where the domain is known; ``questions`` yields the destinations to ask for.
Every step costs the same however many requests wait: what cannot go now is parked with what it
waits for and comes back when that is free.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

#: So many destinations are remembered with their lock; then all are asked for anew.
KNOWN_LIMIT = 200_000


@dataclass(slots=True, eq=False)
class Waiting:
    """One request, from ``add`` to ``remove``."""

    id: int
    job: int
    destination: str
    write: bool
    in_flight: bool = False
    gone: bool = False
    delayed: bool = False
    queue: "Queue | None" = None


@dataclass(slots=True, eq=False)
class Queue:
    """The requests of one job that wait for one domain, reads and writes apart."""

    job: int
    domain: str | None
    write: bool
    waiting: deque[Waiting] = field(default_factory=deque)
    listed: bool = False


@dataclass(slots=True, eq=False)
class Share:
    """What one job has in the lanes."""

    limit: int | None
    held: bool = False
    in_flight: int = 0
    queues: dict[tuple[str | None, bool], Queue] = field(default_factory=dict)
    ready: deque[Queue] = field(default_factory=deque)
    listed: bool = False

    @property
    def full(self) -> bool:
        """Whether none of it may go now."""
        return self.held or (self.limit is not None and self.in_flight >= self.limit)


@dataclass(slots=True, eq=False)
class Domain:
    """One write lock: who of us holds it, until when others do, and who waits."""

    writer: int | None = None
    locked_until_s: float = 0.0
    reads: list[Queue] = field(default_factory=list)
    writes: deque[Queue] = field(default_factory=deque)

    def held(self, now_s: float) -> bool:
        """Whether nothing may pass: a write of ours holds it, or somebody else's."""
        return self.writer is not None or self.locked_until_s > now_s


class Lanes:
    """Requests that wait and requests in flight. Called by one thread, the dispatcher's."""

    def __init__(self, window: int, cache_s: float = 60.0) -> None:
        self.window = window
        self.in_flight = 0
        self._cache_s = cache_s
        self._now_s = 0.0
        self._requests: dict[int, Waiting] = {}
        self._lanes: dict[str, deque[Waiting]] = {}
        self._shares: dict[int, Share] = {}
        self._turns: deque[int] = deque()
        self._domains: dict[str, Domain] = {}
        #: When the locks of others are tried again, as a heap.
        self._locked: list[tuple[float, str]] = []
        #: Free locks that more writes wait for than the one that was let try.
        self._offered: dict[str, None] = {}
        self._known: dict[str, tuple[str, float]] = {}
        #: One lock for every destination: its name, until when that is believed, for whom it was told.
        self._everywhere: tuple[str, float, str] | None = None
        #: The first of each destination whose lock is not known; None: nobody waits for the answer.
        self._unasked: dict[str, Waiting] = {}
        self._asked: dict[str, Waiting | None] = {}
        self._writes = 0

    # -- what comes in ---------------------------------------------------------------------------

    def open_job(self, job: int, limit: int | None, *, held: bool = False) -> None:
        """Make room for the requests of ``job``: at most ``limit`` in flight, none while held."""
        self._shares[job] = Share(limit=limit, held=held)

    def close_job(self, job: int) -> None:
        """Forget ``job``; all of its requests have been removed."""
        share = self._shares.pop(job, None)
        if share is not None:
            self._step_aside(share)

    def hold(self, job: int, *, held: bool) -> None:
        """Send nothing of ``job`` while held."""
        share = self._shares[job]
        share.held = held
        if held:
            self._step_aside(share)
        self._list_job(job)

    def add(self, id_: int, job: int, destination: str, *, write: bool, in_flight: bool = False) -> None:
        """A request waits, behind all that were added before for its destination.

        One that was in flight when the program ended before takes its slot again.
        """
        waiting = Waiting(id_, job, destination, write, in_flight)
        self._requests[id_] = waiting
        self._writes += write
        lane = self._lanes.setdefault(destination, deque())
        lane.append(waiting)
        if in_flight:
            self.in_flight += 1
            self._shares[job].in_flight += 1
        elif len(lane) == 1:
            self._make_ready(waiting)

    def remove(self, id_: int) -> None:
        """The request is done, or shall not be sent: whatever it held or waited for is free."""
        waiting = self._requests.pop(id_)
        waiting.gone = True
        self._writes -= waiting.write
        self._land(waiting)
        lane = self._lanes[waiting.destination]
        was_first = lane[0] is waiting
        while lane and lane[0].gone:
            lane.popleft()
        if not lane:
            del self._lanes[waiting.destination]
        elif was_first:
            self._make_ready(lane[0])

    def put_back(self, id_: int) -> None:
        """A request in flight waits again, first in its lane."""
        waiting = self._requests[id_]
        self._land(waiting)
        self._make_ready(waiting, first=True)

    def delay(self, id_: int, until_s: float) -> None:
        """A request in flight was refused: its domain, or it alone when that is unknown, waits until then.

        ``wake`` brings it back.
        """
        waiting = self._requests[id_]
        name = self._domain_of(waiting.destination)
        self._known.pop(waiting.destination, None)
        waiting.delayed = True
        self._land(waiting)
        if name is not None:
            domain = self._domains.setdefault(name, Domain())
            domain.locked_until_s = max(domain.locked_until_s, until_s)
            heapq.heappush(self._locked, (until_s, name))

    def wake(self, id_: int, now_s: float) -> None:
        """The delay of a request is over."""
        self._now_s = now_s
        waiting = self._requests.get(id_)
        if waiting is not None and waiting.delayed:
            waiting.delayed = False
            self._make_ready(waiting, first=True)
        while self._locked and self._locked[0][0] <= now_s:
            self._offer(heapq.heappop(self._locked)[1])

    # -- lock domains -----------------------------------------------------------------------------

    def questions(self, limit: int) -> Iterator[str]:
        """Destinations whose lock domain the controller is to be asked for, at most ``limit`` at once."""
        if self._everywhere is not None and self._everywhere[1] <= self._now_s:
            # Believed until the answer is there: to park every request meanwhile would cost more.
            name, _, destination = self._everywhere
            self._everywhere = (name, self._now_s + self._cache_s, destination)
            self._asked.setdefault(destination, None)
            yield destination
        while self._unasked and len(self._asked) < limit:
            destination, waiting = next(iter(self._unasked.items()))
            del self._unasked[destination]
            if not waiting.gone:
                self._asked[destination] = waiting
                yield destination

    def learn(self, destination: str, resources: Iterable[str] | None, now_s: float) -> None:
        """The controller's answer: all resources of the owner of ``destination``; None when it said nothing.

        A pattern among them is one lock for every destination. No owner, no lock but its own.
        """
        self._now_s = now_s
        owned = sorted(one for one in resources or () if one.startswith("/remote/"))
        good_until_s = now_s + self._cache_s
        pattern = next((one for one in owned if one in ("/remote/+", "/remote/#")), None)
        if pattern is not None:
            self._everywhere = (pattern, good_until_s, destination)
        elif self._everywhere is not None and self._everywhere[2] == destination:
            self._forget_pattern()
        names = [one.removeprefix("/remote/") for one in owned]
        if len(self._known) > KNOWN_LIMIT:
            self._known.clear()
        if destination not in names:
            self._known[destination] = (f"/remote/{destination}", good_until_s)
        for name in names:
            self._known[name] = (owned[0], good_until_s)
        # One answer may speak for many: nobody else needs to ask, or to wait for what was asked.
        told = [destination, *names] if pattern is None else [*self._asked, *self._unasked]
        for name in told:
            waiting = self._asked.get(name) or self._unasked.pop(name, None)
            if name in self._asked:
                self._asked[name] = None
            if waiting is not None and not waiting.gone:
                self._make_ready(waiting)
        self._asked.pop(destination, None)

    def forget(self, destination: str) -> None:
        """What was learnt about ``destination`` may be wrong now."""
        self._known.pop(destination, None)
        self._forget_pattern()

    def forget_all(self) -> None:
        """The controller is another one now, or was away: nothing that was learnt holds."""
        self._known.clear()
        self._everywhere = None
        for destination, waiting in self._asked.items():
            if waiting is not None:
                self._unasked[destination] = waiting
        self._asked.clear()
        for name in list(self._domains):
            self._unpark(name)

    def _forget_pattern(self) -> None:
        if self._everywhere is not None:
            name, self._everywhere = self._everywhere[0], None
            self._unpark(name)

    def _domain_of(self, destination: str) -> str | None:
        if self._everywhere is not None:
            return self._everywhere[0]
        known = self._known.get(destination)
        return known[0] if known is not None and self._now_s < known[1] else None

    # -- whose turn -------------------------------------------------------------------------------

    def pick(self, now_s: float) -> int | None:
        """The id of the next request that may go now; it counts as in flight from here. None: nobody."""
        self._now_s = now_s
        while self.in_flight < self.window and (self._turns or self._offered):
            if not self._turns:
                self._offer(next(iter(self._offered)))
                continue
            job = self._turns.popleft()
            share = self._shares.get(job)
            if share is None:
                continue
            share.listed = False
            waiting = None if share.full else self._next_of(share)
            if waiting is not None:
                self._list_job(job)
                waiting.in_flight = True
                share.in_flight += 1
                self.in_flight += 1
                return waiting.id
        return None

    def _next_of(self, share: Share) -> Waiting | None:
        while share.ready:
            queue = share.ready.popleft()
            queue.listed = False
            waiting = self._first_of(queue)
            if waiting is None:
                share.queues.pop((queue.domain, queue.write), None)
                self._offer(queue.domain)
                continue
            name = self._domain_of(waiting.destination)
            if name != queue.domain or (name is None and self._writes):
                queue.waiting.popleft()
                self._list_queue(share, queue)
                self._make_ready(waiting)
                self._offer(queue.domain)
                continue
            if name is not None:
                domain = self._domains.get(name)
                if domain is not None and domain.held(self._now_s):
                    (domain.writes if queue.write else domain.reads).append(queue)
                    queue.listed = True
                    continue
                if waiting.write:
                    self._domains.setdefault(name, Domain()).writer = waiting.id
            queue.waiting.popleft()
            waiting.queue = queue
            self._list_queue(share, queue)
            return waiting
        return None

    def _first_of(self, queue: Queue) -> Waiting | None:
        while queue.waiting and queue.waiting[0].gone:
            queue.waiting.popleft()
        return queue.waiting[0] if queue.waiting else None

    def _make_ready(self, waiting: Waiting, *, first: bool = False) -> None:
        """It leads its lane: put it where it is taken from, or ask for its domain."""
        name = self._domain_of(waiting.destination)
        if name is None and self._writes:
            if waiting.destination in self._asked:
                self._asked[waiting.destination] = waiting
            else:
                self._unasked[waiting.destination] = waiting
            return
        share = self._shares[waiting.job]
        key = (name, waiting.write)
        queue = share.queues.get(key)
        if queue is None:
            queue = share.queues[key] = Queue(waiting.job, name, waiting.write)
        if first:
            queue.waiting.appendleft(waiting)
        else:
            queue.waiting.append(waiting)
        self._list_queue(share, queue)

    def _list_queue(self, share: Share, queue: Queue) -> None:
        if queue.waiting and not queue.listed:
            queue.listed = True
            share.ready.append(queue)
        self._list_job(queue.job)

    def _list_job(self, job: int) -> None:
        share = self._shares.get(job)
        if share is not None and share.ready and not share.listed and not share.full:
            share.listed = True
            self._turns.append(job)

    def _land(self, waiting: Waiting) -> None:
        """It is no longer in flight: its slot, its share and its lock are free."""
        if not waiting.in_flight:
            return
        waiting.in_flight = False
        self.in_flight -= 1
        share = self._shares[waiting.job]
        share.in_flight -= 1
        queue, waiting.queue = waiting.queue, None
        if waiting.write and queue is not None and queue.domain is not None:
            domain = self._domains[queue.domain]
            if domain.writer == waiting.id:
                domain.writer = None
                self._offer(queue.domain)
        self._list_job(waiting.job)

    def _offer(self, name: str | None) -> None:
        """Once a domain is free, who waited for it may go: all reads, then one write.

        Reads first: they take no lock, so they do not hold up the write behind them. One write: the
        others would only find the lock held again. They come later, when that one does not take it.
        """
        domain = None if name is None else self._domains.get(name)
        if name is None or domain is None:
            return
        self._offered.pop(name, None)
        if domain.held(self._now_s):
            return
        reads, domain.reads = domain.reads, []
        for queue in reads:
            self._list_parked(queue)
        while domain.writes and not self._list_parked(domain.writes.popleft()):
            pass
        if domain.writes:
            self._offered[name] = None
        else:
            del self._domains[name]

    def _step_aside(self, share: Share) -> None:
        """It sends nothing now: locks that were offered to it are offered to others."""
        for queue in list(share.ready):
            if queue.write:
                self._offer(queue.domain)

    def _unpark(self, name: str) -> None:
        """Who waited for this domain may belong to another now."""
        domain = self._domains.get(name)
        if domain is not None:
            parked = [*domain.reads, *domain.writes]
            domain.reads, domain.writes = [], deque()
            for queue in parked:
                self._list_parked(queue)
            self._offer(name)

    def _list_parked(self, queue: Queue) -> bool:
        """Whether its job may send something now; when not, the queue waits for that."""
        queue.listed = False
        share = self._shares.get(queue.job)
        if share is None:
            return False
        self._list_queue(share, queue)
        return not share.full

    # -- what it waits for ------------------------------------------------------------------------

    def why(self, id_: int) -> str | None:
        """What a waiting request waits for, as one sentence; None when it is in flight or not here."""
        waiting = self._requests.get(id_)
        if waiting is None or waiting.in_flight:
            return None
        lane = self._lanes[waiting.destination]
        if lane[0] is not waiting:
            ahead = lane[0]
            state = "in flight" if ahead.in_flight else "before it"
            return f"request {ahead.id} of job {ahead.job} to the same destination is {state}"
        share = self._shares[waiting.job]
        if share.held:
            return "the job is about to begin"
        if share.full:
            return f"no free slot: the job has {share.in_flight} in flight, which is its concurrency"
        name = self._domain_of(waiting.destination)
        domain = self._domains.get(name) if name else None
        if waiting.delayed or (domain and domain.locked_until_s > self._now_s):
            return "locked by somebody else; it is tried again shortly"
        if name is None and self._writes:
            return "the controller is asked who owns its lock"
        if domain and domain.writer is not None:
            return f"request {domain.writer} holds the lock of {name}"
        if self.in_flight >= self.window:
            return f"no free slot: {self.in_flight} requests are in flight, which is the window"
        return "next to be sent"
