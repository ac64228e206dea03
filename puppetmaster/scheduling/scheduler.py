"""The scheduler: which request is sent next. It knows no thread, socket or clock.

- A *lane* per destination: its requests in the order of their creation, one in flight at a time.
- A write holds the lock of its destination's domain (locks.py): writes of a domain go one at a time,
  domains side by side. A read takes no lock, but waits while the lock is held. Reads that wait for a lock go
  before the next write (at most ``READS_BEFORE_WRITE``), so neither keeps the other out.
- An owner of many gateways is given few requests at once, and none while it answers nothing (owners.py).
- Jobs take turns (fairness.py), each within its own concurrency and rate, all within the window.

Every step costs the same however many requests wait: a queue that cannot send now is parked under the lock
that it waits for, and comes back when that lock is free.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

from puppetmaster.model.why import Said, Why, code_of
from puppetmaster.scheduling.fairness import FEW, FairQueue, Queue, Share, Waiting
from puppetmaster.scheduling.locks import Locks
from puppetmaster.scheduling.owners import Owner, Owners
from puppetmaster.scheduling.window import Window
from puppetmaster.timers import Timers

#: Most reads that go before the next write takes the lock that they wait for.
READS_BEFORE_WRITE = 100
LOCKED = Why.LOCKED.said()


@dataclass(slots=True, eq=False)
class Parked:
    """The queues that wait for the lock of a domain."""

    reads: list[Queue] = field(default_factory=list)
    writes: deque[Queue] = field(default_factory=deque)


class Scheduler:
    """Requests that wait and requests in flight. Called by one thread, the dispatcher's."""

    def __init__(
        self,
        most: int,
        cache_s: float,
        owner_most: int | None = None,
        direct: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Make an empty scheduler.

        Args:
            most: most requests in flight, over all jobs.
            cache_s: how long the controller's answer about an owner is used, in seconds.
            owner_most: most requests in flight at an owner of many gateways; None: ``most``.
            direct: whether requests to a destination go to its own controller, where it has its own lock.
        """
        self.locks = Locks(cache_s)
        self.owners = Owners(most if owner_most is None else owner_most)
        self._direct = direct
        self._fair = FairQueue(most)
        self._now_s = 0.0
        self._requests: dict[int, Waiting] = {}
        self._leaders: dict[str, Waiting] = {}  # destination -> the request that is in flight, or goes next
        self._lanes: dict[str, list[Waiting]] = {}  # destination -> heap by id of those behind it, if any
        self._stale: dict[str, int] = {}  # destination -> number of removed requests in that heap
        self._parked: dict[str, Parked] = {}  # by the domain whose lock they wait for
        self._offered: dict[str, None] = {}  # free domains with parked writes beside the one that may go now
        self._locked: Timers[str] = Timers()  # by domain: when the lock that others hold is tried again
        self._readers: dict[str, deque[Queue]] = {}  # queues of reads by domain
        self._passes: dict[str, int] = {}  # by domain: how many reads may still go before the next write
        self._unknown: dict[str, list[Waiting]] = {}  # by destination: requests whose domain is not known
        #: Domain -> the latest write that was not answered in time: its request id and its message id.
        self._late_writers: dict[str, tuple[int, int]] = {}
        #: The message id of such a write -> its domain.
        self._late_messages: dict[int, str] = {}

    @property
    def window(self) -> Window:
        """The adaptive window."""
        return self._fair.window

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return self._fair.in_flight

    @property
    def automatic(self) -> int:
        """How many requests in flight count in the window."""
        return self._fair.automatic

    # -- jobs and requests ------------------------------------------------------------------------

    def open_job(self, job: int, limit: int | None, rate: float | None = None, next_s: float = 0.0) -> None:
        """Add a job: at most ``limit`` in flight and ``rate`` per second, nothing before ``next_s``.

        None: the window limits what is in flight; nothing limits the rate.
        """
        self._fair.open(job, limit, rate, next_s)

    def suspend_job(self, job: int) -> None:
        """Send nothing more of a job until ``resume_job``. Its requests may stay here."""
        self._fair.suspend(job)

    def resume_job(self, job: int) -> None:
        """Let a job send again."""
        self._fair.resume(job)

    def close_job(self, job: int) -> None:
        """Remove a job. All of its requests must have been removed before."""
        share = self._fair.close(job)
        for queue in list(share.queues.values()) if share is not None else ():
            self._drop(queue)
            self._offer(queue.domain)

    def add(
        self,
        id_: int,
        job: int,
        destination: str,
        *,
        write: bool,
        in_flight: bool = False,
        remote_only: bool = False,
    ) -> None:
        """Add a request, in its lane behind the requests that were created before it.

        ``in_flight``: it was in flight when the program ended, and takes its slot again. ``remote_only``: it
        must go through the remote bundle.
        """
        waiting = Waiting(id_, job, destination, write, remote_only)
        self._requests[id_] = waiting
        leader = self._leaders.get(destination)
        if in_flight:
            self._fair.take_up(waiting, self._now_s)
        if leader is None or in_flight:
            self._leaders[destination] = waiting
        if leader is not None:
            heappush(self._lanes.setdefault(destination, []), leader if in_flight else waiting)
            self._lead(destination)
        elif not in_flight:
            self._make_ready(waiting)

    def _lead(self, destination: str, *, again: bool = False) -> None:
        """Make the oldest request of a lane its leader, unless one is in flight.

        With ``again`` the leader is made ready once more though it led before.
        """
        leader, lane = self._leaders[destination], self._behind(destination)
        if leader.in_flight:
            return
        if lane and lane[0] < leader:
            leader = self._leaders[destination] = heapreplace(lane, leader)
        elif not again:
            return
        self._make_ready(leader, first=again)

    def _behind(self, destination: str) -> list[Waiting]:
        """The heap of the requests behind a leader; the first one is not gone."""
        lane = self._lanes.get(destination)
        if lane is None:
            return []
        while lane and lane[0].gone:
            heappop(lane)
        if not lane:
            del self._lanes[destination]
            self._stale.pop(destination, None)
        return lane

    def remove(self, id_: int) -> None:
        """Remove a request that has ended, or is not to be sent now. Frees its slot, lock and place."""
        waiting = self._requests.pop(id_)
        waiting.gone = True
        if waiting.queue is not None:
            waiting.queue.forget()
        self._land(waiting)
        destination = waiting.destination
        if self._leaders[destination] is not waiting:
            self._tidy(destination)
        elif lane := self._behind(destination):
            self._leaders[destination] = heappop(lane)
            self._make_ready(self._leaders[destination])
        else:
            del self._leaders[destination]
            self._unknown.pop(destination, None)
            self.locks.unwant(destination)

    def _tidy(self, destination: str) -> None:
        """Count a removed request behind a leader. When many of the lane are removed, clean it at once."""
        stale = self._stale[destination] = self._stale.get(destination, 0) + 1
        lane = self._lanes[destination]
        if stale > FEW and 2 * stale > len(lane):
            lane[:] = [waiting for waiting in lane if not waiting.gone]
            heapify(lane)
            del self._stale[destination]

    def holds(self, id_: int) -> bool:
        """Whether the request is here."""
        return id_ in self._requests

    def put_back(self, id_: int) -> None:
        """Have a request that is in flight wait again, at the head of its lane."""
        waiting = self._requests[id_]
        self._land(waiting)
        self._lead(waiting.destination, again=True)

    def delay(self, id_: int, until_s: float, why: str, *, locked: bool = False) -> None:
        """Have a request wait until ``until_s``, when ``wake`` is to be called. ``why`` is for a sentence.

        The request is in flight, or was just added. With ``locked`` somebody else holds the lock, and all of
        its domain waits.
        """
        waiting = self._requests[id_]
        waiting.delayed, waiting.until_s = why, until_s
        if locked:
            domain = self._domain(waiting)
            waiting.delayed = self._whose(why, domain)
            self.locks.doubt(waiting.destination)
            if domain is not None:
                self.locks.others_hold(domain, until_s)
                self._locked.set(domain, max(until_s, self._locked.deadline_s(domain) or until_s))
        self._land(waiting)
        self._lead(waiting.destination)

    def forget(self, destination: str) -> None:
        """Forget the domain of this destination, which was wrong, and look at all that wait for its lock."""
        before = self.locks.domain(destination, self._now_s)
        self.locks.forget(destination)
        if before is not None:
            self._relist(before)

    def forget_all(self) -> None:
        """Forget what the controller said of domains and owners, because it was restarted or away.

        It is asked again in the order of the requests, so that they go in that order.
        """
        waiting = sorted(
            one for one in self._leaders.values() if not (one.in_flight or self._goes_directly(one))
        )
        self.locks.forget_all(one.destination for one in waiting)
        self.owners.forget_all()
        self._late_writers.clear()
        self._late_messages.clear()
        for domain in list(self._parked):
            self._relist(domain)

    def rerouted(self, destination: str) -> None:
        """Queue the leader of this destination's lane anew, because the route to it may have changed."""
        leader = self._leaders.get(destination)
        if leader is None or leader.in_flight or leader.delayed or leader.remote_only:
            return
        if leader.queue is None or leader.queue.domain != self._domain(leader):
            self._unknown.pop(destination, None)
            self.locks.unwant(destination)
            self.remove(leader.id)
            self.add(leader.id, leader.job, destination, write=leader.write)

    def _relist(self, domain: str) -> None:
        """Look at all queues parked under this domain: their requests may have another domain now."""
        parked = self._parked.pop(domain, Parked())
        for queue in (*parked.reads, *parked.writes):
            self._list_parked(queue)

    def wake(self, id_: int, now_s: float) -> None:
        """The delay of a request is over."""
        self._now_s = now_s
        waiting = self._requests.get(id_)
        if waiting is not None and waiting.delayed:
            waiting.delayed = ""
            self._make_ready(waiting, first=True)

    # -- locks ------------------------------------------------------------------------------------

    def questions(self, most: int) -> Iterator[str]:
        """Destinations to ask the controller about now. At most ``most`` questions are open at once."""
        yield from self.locks.questions(most, self._now_s)

    def learn(self, destination: str, resources: Iterable[str] | None, now_s: float) -> None:
        """Take in the controller's answer to a question; see ``Locks.learn``."""
        self._now_s = now_s
        named, outdated, everybody = self.locks.learn(destination, resources, now_s)
        for domain in list(self._parked) if outdated is None else outdated:
            self._relist(domain)
        for known in list(self._unknown) if everybody else named:
            for waiting in self._unknown.pop(known, ()):
                self._make_ready(waiting)

    # -- whose turn -------------------------------------------------------------------------------

    def pick(self, now_s: float) -> int | None:
        """Id of the next request to be sent; it counts as in flight from now on. None: there is none."""
        self._now_s = now_s
        for domain in self._locked.due(now_s):
            self._unpark(str(domain))
        while self._fair.in_flight < self._fair.most:
            share = self._fair.next(now_s)
            if share is None:
                if not self._offered:
                    break
                self._offer(next(iter(self._offered)))
                continue
            waiting = self._next_of(share)
            if waiting is None:
                continue
            self._fair.list(share)
            self._fair.start(waiting, now_s)
            return waiting.id
        return None

    def paced(self) -> Iterator[tuple[int, float]]:
        """The jobs that wait for their rate, each with the time at which it may send. Removes them."""
        return self._fair.paced()

    def room_s(self, now_s: float) -> float | None:
        """When a request in flight stops counting in the window; None: no job waits for room in it."""
        return self._fair.room_s(now_s)

    def pace_over(self, job: int) -> None:
        """Give a job a turn, because the time that ``paced`` named has come."""
        self._fair.pace_over(job)

    def _next_of(self, share: Share) -> Waiting | None:
        while share.ready:
            queue = share.ready.popleft()
            queue.listed = False
            waiting = self._first_of(queue)
            if waiting is None:
                self._drop(queue)
                self._offer(queue.domain)
                continue
            if self._domain(waiting) != queue.domain:
                queue.take()
                self._list_queue(queue)
                self._make_ready(waiting)
                continue
            if self._closed(queue.domain):
                queue.listed = True
                parked = self._parked.setdefault(queue.domain, Parked())
                (parked.writes if queue.write else parked.reads).append(queue)
                continue
            if queue.write:
                if (read := self._read_before(queue.domain)) is not None:
                    self._list_queue(queue)
                    return self._given(read, queue.domain)
                self._passes.pop(queue.domain, None)
                self.locks.take(queue.domain, waiting.id)
                waiting.domain = queue.domain
            queue.take()
            self._list_queue(queue)
            return self._given(waiting, queue.domain)
        return None

    def _domain(self, waiting: Waiting) -> str | None:
        """The domain whose lock a request needs; None: not known."""
        if self._goes_directly(waiting):
            return f"/{waiting.destination}/controller"
        return self.locks.domain(waiting.destination, self._now_s)

    def _goes_directly(self, waiting: Waiting) -> bool:
        return self._direct(waiting.destination) and not waiting.remote_only

    def _owner(self, domain: str | None) -> Owner | None:
        """The owner of many gateways that has this domain; None: the domain has no such owner."""
        return self.owners.of(domain) if domain is not None and self.locks.many(domain) else None

    def _closed(self, domain: str) -> bool:
        """Whether nothing of this domain may be sent: its lock is held, or its owner has enough to do."""
        owner = self._owner(domain)
        return self.locks.held(domain, self._now_s) or not (owner is None or owner.may_send(self._now_s))

    def _given(self, waiting: Waiting, domain: str) -> Waiting:
        """Count a request that is sent at its owner of many gateways, if it has one. Returns the request."""
        if (owner := self._owner(domain)) is not None:
            waiting.domain, waiting.sent_s = domain, self._now_s
            waiting.epoch = owner.send(self._now_s)
            waiting.owned = True
        return waiting

    def _first_of(self, queue: Queue) -> Waiting | None:
        """The first request of a queue that may be sent; those before it are removed. None: there is none."""
        while queue.waiting:
            waiting = queue.waiting[0]
            if not (waiting.gone or waiting.in_flight or waiting.delayed) and self._leads(waiting):
                return waiting
            queue.take()
        return None

    def _leads(self, waiting: Waiting) -> bool:
        return self._leaders[waiting.destination] is waiting

    def _read_before(self, domain: str) -> Waiting | None:
        """Take a read that goes before the write that is about to take this lock; None: there is none."""
        queues = self._readers.get(domain)
        if queues is None:
            return None
        passes = self._passes.get(domain, READS_BEFORE_WRITE)
        for _ in range(len(queues) if passes > 0 else 0):
            queue = queues[0]
            queues.rotate(-1)
            if not self._fair.may_send(queue.share, self._now_s):
                continue
            waiting = self._first_of(queue)
            if waiting is not None and self._domain(waiting) == domain:
                queue.take()
                self._passes[domain] = passes - 1
                return waiting
        return None

    def _make_ready(self, waiting: Waiting, *, first: bool = False) -> None:
        """Put a request that leads its lane into a queue, or have the controller asked for its domain."""
        if waiting.delayed or not self._leads(waiting):
            return
        domain = self._domain(waiting)
        if domain is None:
            self._unknown.setdefault(waiting.destination, []).append(waiting)
            self.locks.want(waiting.destination)
            return
        queue = self._queue(self._fair.share(waiting.job), domain, write=waiting.write)
        queue.put(waiting, first=first)
        self._list_queue(queue)

    def _queue(self, share: Share, domain: str, *, write: bool) -> Queue:
        queue = share.queues.get((domain, write))
        if queue is None:
            queue = share.queues[(domain, write)] = Queue(share, domain, write)
            if not write:
                self._readers.setdefault(domain, deque()).append(queue)
        return queue

    def _drop(self, queue: Queue) -> None:
        """Remove an empty queue."""
        del queue.share.queues[(queue.domain, queue.write)]
        if not queue.write:
            readers = self._readers[queue.domain]
            readers.remove(queue)
            if not readers:
                del self._readers[queue.domain]
                self._passes.pop(queue.domain, None)

    def _list_queue(self, queue: Queue) -> None:
        """Have a queue looked at when its job has a turn. An empty one is dropped then."""
        if not queue.listed:
            queue.listed = True
            queue.share.ready.append(queue)
        self._fair.list(queue.share)

    def _land(self, waiting: Waiting) -> None:
        """Free the slot and the lock of a request that is no longer in flight."""
        if not waiting.in_flight:
            return
        self._fair.land(waiting)
        if waiting.domain is not None:
            self.locks.give_back(waiting.domain, waiting.id)
            if waiting.owned:
                self.owners.of(waiting.domain).land()
                waiting.owned = False
            self._unpark(waiting.domain)
            waiting.domain = None

    def _unpark(self, domain: str) -> None:
        """Let queues that wait for this lock go on, if nobody holds it any more."""
        if not self.locks.held(domain, self._now_s):
            self.locks.free(domain)
            self._offer(domain)

    # -- owners of many gateways --------------------------------------------------------------------

    def answered(self, id_: int, now_s: float) -> None:
        """Note that a gateway answered this request, which is in flight."""
        self._now_s = now_s
        waiting = self._requests[id_]
        if waiting.domain is not None:
            self._forget_late(waiting.domain)
            if waiting.owned:
                self.owners.of(waiting.domain).answered(waiting.epoch, now_s - waiting.sent_s, now_s)

    def heard(self, id_: int, now_s: float) -> None:
        """Note that the owner of many gateways answered for a request in flight, but its gateway did not."""
        waiting = self._requests[id_]
        if waiting.owned and waiting.domain is not None:
            self.owners.of(waiting.domain).heard(now_s)

    def overdue(self, id_: int, message: int, now_s: float) -> float | None:
        """Note that a message in flight was not answered in time.

        Returns until when an owner of many gateways counts as busy with it, when ``forget_overdue`` is to be
        called, unless its answer comes first (``came``). None: it was not sent to such an owner.
        """
        waiting = self._requests[id_]
        if waiting.domain is None:
            return None
        if waiting.write:
            self._forget_late(waiting.domain)
            self._late_writers[waiting.domain] = (id_, message)
            self._late_messages[message] = waiting.domain
        return self.owners.overdue(waiting.domain, message, now_s) if waiting.owned else None

    def came(self, message: int, now_s: float) -> bool:
        """Note an answer to a message. Returns whether an owner of many gateways counted as busy with it."""
        self._now_s = now_s
        if (late := self._late_messages.get(message)) is not None:
            self._forget_late(late)
        if (domain := self.owners.came(message, now_s)) is None:
            return False
        self._unpark(domain)
        return True

    def _forget_late(self, domain: str) -> None:
        if (late := self._late_writers.pop(domain, None)) is not None:
            self._late_messages.pop(late[1], None)

    def forget_overdue(self, now_s: float) -> None:
        """Let owners be given more, because a time that ``overdue`` returned is over."""
        self._now_s = now_s
        for domain in self.owners.forget_overdue(now_s):
            self._unpark(domain)

    def _offer(self, domain: str) -> None:
        """Let all reads that wait for a free lock go, and one write.

        Other writes would only find the lock held again. They come later if that one does not take it.
        """
        # Before anything else: pick() goes on until nothing is offered.
        self._offered.pop(domain, None)
        parked = self._parked.get(domain)
        if parked is None or self._closed(domain):
            return
        reads, parked.reads = parked.reads, []
        for queue in reads:
            self._list_parked(queue)
        while parked.writes and not self._list_parked(parked.writes.popleft()):
            pass
        if parked.writes:
            self._offered[domain] = None
        else:
            del self._parked[domain]

    def _list_parked(self, queue: Queue) -> bool:
        """Put a parked queue back into its job's list. Returns whether the job may send now."""
        queue.listed = False
        if not self._fair.knows(queue.share):
            return False
        self._list_queue(queue)
        return not queue.share.full and queue.share.next_s <= self._now_s

    # -- what it waits for ------------------------------------------------------------------------

    def why(self, id_: int, now_s: float) -> Said | None:
        """What a waiting request waits for; None when it is in flight or not here."""
        self._now_s = now_s
        waiting = self._requests.get(id_)
        if waiting is None or waiting.in_flight:
            return None
        ahead = self._leaders[waiting.destination]
        if ahead is not waiting:
            state = "in flight" if ahead.in_flight else "before it"
            return Why.DESTINATION.said(request=ahead.id, job=ahead.job, state=state)
        if waiting.delayed:
            return self._until(waiting.delayed, waiting.until_s)
        return self._why_locked(waiting) or self._fair.why(waiting.job, self._now_s) or Why.NEXT.said()

    def _why_locked(self, waiting: Waiting) -> Said | None:
        domain = self._domain(waiting)
        if domain is None:
            return Why.ASKING.said()
        if (writer := self.locks.writer(domain)) is not None:
            return Why.OUR_LOCK.said(request=writer, domain=domain)
        if self.locks.held(domain, self._now_s):
            return self._until(self._whose(LOCKED, domain), self._locked.deadline_s(domain) or self._now_s)
        owner = self._owner(domain)
        if owner is None or owner.may_send(self._now_s):
            return None
        if owner.blocked(self._now_s):
            return Why.OWNER_SILENT.said(domain=domain, busy=owner.busy)
        return Why.OWNER_BUSY.said(domain=domain, busy=owner.busy)

    def _whose(self, why: str, domain: str | None) -> str:
        """The sentence for a wait for a lock. It names our own late write when that holds the lock."""
        late = self._late_writers.get(domain) if domain is not None else None
        if why != LOCKED or late is None:
            return why
        return Why.LATE_LOCK.said(request=late[0])

    def _until(self, why: str, at_s: float) -> Said:
        left_s = max(at_s - self._now_s, 0.0)
        return Said(f"{why}; it is tried again in {left_s:.{1 if left_s < 10 else 0}f} s", code_of(why))
