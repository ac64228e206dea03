"""Long work in parts: a little in each turn, so that nothing else has to wait for all of it.

What a job of 50,000 requests needs done at once (to be written, to join the scheduler, to leave them, to end)
would take the dispatcher up to a second, and no timer would fire meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from puppetmaster.engine.context import Context
from puppetmaster.engine.delivery import Delivery
from puppetmaster.engine.state import OpenJob, State
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import Item, Request, RequestStatus
from puppetmaster.model.spec import JobSpec

#: Steps in one turn: some 10 ms of work and as much of writing, measured on one core of a Xeon.
STEPS = 500

Chore = Iterator[None]
"""Does a step and yields, until it is done. Between two steps anything may happen to what it works on."""


class Chores:
    """What is still to be done, in the order in which it came. Used by one thread, the dispatcher's."""

    def __init__(self) -> None:
        self._queue: deque[Chore] = deque()
        self._left = STEPS

    def __bool__(self) -> bool:
        return bool(self._queue)

    def begin(self) -> None:
        """A turn begins."""
        self._left = STEPS

    def add(self, chore: Chore) -> None:
        """Do this after what came before; at once, as far as this turn has steps left."""
        self._queue.append(chore)
        if len(self._queue) == 1:
            self.work()

    def work(self) -> None:
        """Do the steps of this turn."""
        while self._queue and self._left > 0:
            chore = self._queue[0]
            for _ in islice(chore, self._left):
                self._left -= 1
            if self._left > 0:
                self._queue.popleft()


class Background:
    """Moves all that wait of a job, part by part. Used by one thread, the dispatcher's.

    Jobs enter one after the other, in the order in which they may, so that their requests to one destination
    keep the order of creation.
    """

    def __init__(self, context: Context, delivery: Delivery) -> None:
        # Two queues, so that a small job that may go does not wait until a large one is written, or ends.
        self._entering, self._chores = Chores(), Chores()
        self.drafts = Drafts(context.state, self._chores)
        self._state = context.state
        self._scheduler = context.scheduler
        self._delivery = delivery

    def __bool__(self) -> bool:
        return bool(self._entering) or bool(self._chores)

    def begin(self) -> None:
        """A turn begins."""
        self._entering.begin()
        self._chores.begin()

    def work(self) -> None:
        """Do the steps of this turn."""
        self._entering.work()
        self._chores.work()

    def enter(self, opened: OpenJob) -> None:
        """Let those of the waves that are open wait for their turn, as long as their job ``sends``."""
        end = opened.open_end
        self._scheduler.resume_job(opened.job.id)
        ids = [id_ for id_ in opened.requests if id_ < end]
        self._entering.add(self._each(opened, ids, self._enter, lambda: opened.sends))

    def stand_aside(self, opened: OpenJob) -> None:
        """Their job is paused: they leave the scheduler, so that they hold up nobody."""
        self._scheduler.suspend_job(opened.job.id)
        self._chores.add(
            self._each(
                opened, list(opened.requests), self._leave, lambda: opened.job.status is JobStatus.PAUSED
            )
        )

    def end(self, opened: OpenJob) -> None:
        """Their job sends no more: they end."""
        self._scheduler.suspend_job(opened.job.id)
        self._chores.add(self._each(opened, list(opened.requests), self._end, lambda: True))

    def clear_away(self, job_id: int, requests: Sequence[Request], close: Callable[[int], None]) -> None:
        """Their job is gone: nothing of them stays, and then it is closed."""
        self._scheduler.suspend_job(job_id)
        self._chores.add(self._clear_away(job_id, requests, close))

    def _each(
        self,
        opened: OpenJob,
        ids: Sequence[int],
        step: Callable[[OpenJob, Request], None],
        still: Callable[[], bool],
    ) -> Chore:
        """Do a step with each that waits, while the job is there and it is ``still`` wanted."""
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
        if self._scheduler.holds(request.id):
            self._scheduler.remove(request.id)

    def _end(self, _opened: OpenJob, request: Request) -> None:
        self._delivery.end_unsent(request)

    def _clear_away(self, job_id: int, requests: Sequence[Request], close: Callable[[int], None]) -> Chore:
        for request in requests:
            self._delivery.let_go(request)
            yield
        close(job_id)


Done = Callable[[Job, dict[int, Item], list[Request]], None]


class Drafts:
    """Jobs that do not exist yet, by id. Used by one thread, the dispatcher's."""

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
        """How many requests they will have."""
        return sum(job.total for job in self._jobs.values())

    def find_by_key(self, key: str) -> Job | None:
        """The job that is being created under this idempotency key."""
        return next((job for job in self._jobs.values() if job.key == key), None)

    def begin(self, job: Job, spec: JobSpec, done: Done) -> None:
        """Write a job's items and requests, part by part; then it is ``done``."""
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
        """None of them can be written: they never will be. Their ids."""
        revoked, self._jobs = list(self._jobs.values()), {}
        for job in revoked:
            self._state.abandon_draft(job)
        return [job.id for job in revoked]
