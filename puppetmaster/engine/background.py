"""Long work in parts: a little in each turn, so that nothing else has to wait for all of it.

To write 50,000 requests, to put them into the scheduler, to take them out or to end them takes up to a
second. Done in one turn, no timer would fire meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from puppetmaster.engine.context import Context
from puppetmaster.engine.delivery import Delivery
from puppetmaster.engine.state import OpenJob, State
from puppetmaster.model.job import Job
from puppetmaster.model.request import Item, Request, RequestStatus
from puppetmaster.model.spec import JobSpec

#: Steps in one turn: about 10 ms of work and 10 ms of writing, on one core of a Xeon.
STEPS = 500

Chore = Iterator[None]
"""Yields after each step, until it is done. Between two steps its job may change in any way."""


class Chores:
    """A queue of chores. One thread uses it: the dispatcher's."""

    def __init__(self) -> None:
        self._queue: deque[Chore] = deque()
        self._left = STEPS

    def __bool__(self) -> bool:
        return bool(self._queue)

    def begin(self) -> None:
        """Begin a turn."""
        self._left = STEPS

    def add(self, chore: Chore) -> None:
        """Add a chore. If it is the only one, it begins at once with the steps that this turn has left."""
        self._queue.append(chore)
        if len(self._queue) == 1:
            self.work()

    def work(self) -> None:
        """Do the steps of this turn."""
        while self._queue and self._left > 0:
            left = self._left
            for _ in islice(self._queue[0], left):
                left -= 1
            self._left = left
            if self._left > 0:
                self._queue.popleft()


class Background:
    """Moves the waiting requests of jobs, part by part. One thread uses it: the dispatcher's.

    Jobs enter the scheduler one after the other, so that requests to one destination keep the order of their
    creation.
    """

    def __init__(self, context: Context, delivery: Delivery) -> None:
        # Two queues, so that a small job is not kept from being sent while a large one is written or ended.
        # A third for requests whose gateways are back: they are sent to at once.
        self._entering, self._returning, self._chores = Chores(), Chores(), Chores()
        self.drafts = Drafts(context.state, self._chores)
        self._state = context.state
        self._scheduler = context.scheduler
        self._delivery = delivery

    def __bool__(self) -> bool:
        return bool(self._entering) or bool(self._returning) or bool(self._chores)

    def begin(self) -> None:
        """Begin a turn."""
        self._entering.begin()
        self._returning.begin()
        self._chores.begin()

    def work(self) -> None:
        """Do the steps of this turn."""
        self._entering.work()
        self._returning.work()
        self._chores.work()

    def enter(self, opened: OpenJob) -> None:
        """Put the requests of a job's open waves into the scheduler, as long as it ``sends``."""
        end = opened.open_end
        self._scheduler.resume_job(opened.job.id)
        ids = [id_ for id_ in opened.requests if id_ < end]
        self._entering.add(self._each(opened, ids, self._enter, lambda: opened.sends))

    def back(self, gateway: str) -> None:
        """Put the requests that waited for this gateway into the scheduler, because it may be back."""
        ids: dict[int, list[int]] = {}
        for id_ in self._delivery.absent.back(gateway):
            ids.setdefault(self._state.request(id_).job, []).append(id_)
        for job_id, some in ids.items():
            opened = self._state.opened(job_id)
            assert opened is not None
            self._returning.add(self._each(opened, some, self._enter, partial(_sends, opened)))

    def clock_was_set(self, opened: OpenJob) -> None:
        """Note anew since when the requests of a job wait for their gateways."""
        if opened.policy.delivery_s:
            self._chores.add(self._each(opened, list(opened.requests), self._note_anew, lambda: True))

    def stand_aside(self, opened: OpenJob) -> None:
        """Take the requests of a job that does not send out of the scheduler: they hold up no other job."""
        self._scheduler.suspend_job(opened.job.id)
        self._chores.add(self._each(opened, list(opened.requests), self._leave, lambda: not opened.sends))

    def end(self, opened: OpenJob) -> None:
        """End the waiting requests of a job that sends no more."""
        self._scheduler.suspend_job(opened.job.id)
        self._chores.add(self._each(opened, list(opened.requests), self._end, lambda: True))

    def clear_away(self, job_id: int, requests: Sequence[Request], close: Callable[[int], None]) -> None:
        """Forget the requests of a job that is gone, and then ``close`` it."""
        self._scheduler.suspend_job(job_id)
        self._chores.add(self._clear_away(job_id, requests, close))

    def _each(
        self,
        opened: OpenJob,
        ids: Sequence[int],
        step: Callable[[OpenJob, Request], None],
        still: Callable[[], bool],
    ) -> Chore:
        """Do ``step`` with each of these requests that waits, while the job is open and ``still`` is true."""
        for id_ in ids:
            if self._state.opened(opened.job.id) is not opened or not still():
                return
            request = opened.requests.get(id_)
            if request is not None and request.status is RequestStatus.PENDING:
                step(opened, request)
            yield

    def _enter(self, opened: OpenJob, request: Request) -> None:
        if not self._scheduler.holds(request.id):
            self._delivery.enter(opened, request)

    def _leave(self, _opened: OpenJob, request: Request) -> None:
        self._delivery.absent.forget(request)
        if self._scheduler.holds(request.id):
            self._scheduler.remove(request.id)

    def _note_anew(self, _opened: OpenJob, request: Request) -> None:
        self._delivery.clock_was_set(request)

    def _end(self, _opened: OpenJob, request: Request) -> None:
        self._delivery.end_unsent(request)

    def _clear_away(self, job_id: int, requests: Sequence[Request], close: Callable[[int], None]) -> Chore:
        for request in requests:
            self._delivery.let_go(request)
            yield
        close(job_id)


def _sends(opened: OpenJob) -> bool:
    return opened.sends


Done = Callable[[Job, dict[int, Item], list[Request]], None]


class Drafts:
    """Jobs that are being written and do not exist yet. One thread uses it: the dispatcher's."""

    def __init__(self, state: State, chores: Chores) -> None:
        self._state = state
        self._chores = chores
        self._jobs: dict[int, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._jobs

    @property
    def requests(self) -> int:
        """Number of requests that they will have."""
        return sum(job.total for job in self._jobs.values())

    def find_by_key(self, key: str) -> Job | None:
        """The draft with this idempotency key; None: there is none."""
        return next((job for job in self._jobs.values() if job.key == key), None)

    def begin(self, job: Job, spec: JobSpec, done: Done) -> None:
        """Write a job's items and requests, part by part, and then call ``done`` with all of them."""
        self._jobs[job.id] = job
        self._state.begin_draft(job)
        self._chores.add(self._write(job, spec, done))

    def _write(self, job: Job, spec: JobSpec, done: Done) -> Chore:
        items: dict[int, Item] = {}
        requests: list[Request] = []
        for item, request in spec.requests_of(job):
            if job.id not in self._jobs:
                return
            items[item.id] = item
            requests.append(request)
            self._state.draft(item, request)
            yield
        if self._jobs.pop(job.id, None) is not None:
            self._state.complete_draft(job)
            done(job, items, requests)

    def revoke(self) -> list[int]:
        """Give up all drafts, because they cannot be written. Returns their ids."""
        revoked, self._jobs = list(self._jobs.values()), {}
        for job in revoked:
            self._state.abandon_draft(job)
        return [job.id for job in revoked]
