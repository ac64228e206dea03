"""The requests of a job that wait, all of them at once: they enter the lanes, stand aside, end, or go.

Each of it in parts (chores.py), between which anything may happen to the job.
"""

from collections.abc import Callable, Sequence

from puppetmaster.chores import Chore, Chores
from puppetmaster.courier import Courier
from puppetmaster.job import JobStatus
from puppetmaster.lanes import Lanes
from puppetmaster.ledger import Ledger, OpenJob
from puppetmaster.request import Request, RequestStatus


class Crowd:
    """Moves them. Used by one thread, the dispatcher's.

    Jobs enter one after the other, in the order in which they may, so that their requests to one destination
    keep the order of creation; ``entering`` are these chores, ``chores`` all others.
    """

    def __init__(
        self, ledger: Ledger, lanes: Lanes, courier: Courier, entering: Chores, chores: Chores
    ) -> None:
        self._ledger = ledger
        self._lanes = lanes
        self._courier = courier
        self._entering = entering
        self._chores = chores

    def enter(self, opened: OpenJob, sends: Callable[[OpenJob], bool]) -> None:
        """Let those of the waves that are open wait for their turn, as long as their job ``sends``."""
        end = opened.job.first + opened.policy.waves[opened.job.wave - 1]
        self._lanes.resume_job(opened.job.id)
        ids = [id_ for id_ in opened.requests if id_ < end]
        self._entering.add(self._each(opened, ids, self._enter, lambda: sends(opened)))

    def stand_aside(self, opened: OpenJob) -> None:
        """Their job is paused: they leave the lanes, so that they hold up nobody."""
        self._lanes.suspend_job(opened.job.id)
        self._chores.add(
            self._each(
                opened, list(opened.requests), self._leave, lambda: opened.job.status is JobStatus.PAUSED
            )
        )

    def end(self, opened: OpenJob) -> None:
        """Their job sends no more: they end."""
        self._lanes.suspend_job(opened.job.id)
        self._chores.add(self._each(opened, list(opened.requests), self._end, lambda: True))

    def clear_away(self, job_id: int, requests: Sequence[Request], close: Callable[[int], None]) -> None:
        """Their job is gone: nothing of them stays, and then it is closed."""
        self._lanes.suspend_job(job_id)
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
            if self._ledger.opened(opened.job.id) is not opened or not still():
                return
            request = opened.requests.get(id_)
            if request is not None and request.status is RequestStatus.PENDING:
                step(opened, request)
            yield

    def _enter(self, opened: OpenJob, request: Request) -> None:
        if not self._lanes.holds(request.id):
            self._courier.enter(opened, request)

    def _leave(self, _opened: OpenJob, request: Request) -> None:
        if self._lanes.holds(request.id):
            self._lanes.remove(request.id)

    def _end(self, _opened: OpenJob, request: Request) -> None:
        self._courier.end_unsent(request)

    def _clear_away(self, job_id: int, requests: Sequence[Request], close: Callable[[int], None]) -> Chore:
        for request in requests:
            self._courier.let_go(request)
            yield
        close(job_id)
