"""Jobs that are being written: a large one goes to disk in parts, and exists with the last of them.

Until then what is on disk of it counts as thrown away (table ``trash``): a crash leaves nothing of it.
"""

from collections.abc import Callable

from puppetmaster.chores import Chore, Chores
from puppetmaster.job import Job
from puppetmaster.ledger import Ledger
from puppetmaster.request import Item, Request
from puppetmaster.spec import JobSpec

Done = Callable[[Job, dict[int, Item], list[Request]], None]


class Drafts:
    """Jobs that do not exist yet, by id. Used by one thread, the dispatcher's."""

    def __init__(self, ledger: Ledger, chores: Chores) -> None:
        self._ledger = ledger
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
        self._ledger.begin_draft(job)
        self._chores.add(self._write(job, spec, done))

    def _write(self, job: Job, spec: JobSpec, done: Done) -> Chore:
        items: dict[int, Item] = {}
        requests: list[Request] = []
        for item, request in spec.requests_of(job):
            if job.id not in self._jobs:
                return
            items[item.id] = item
            requests.append(request)
            self._ledger.draft(item, request)
            yield
        if self._jobs.pop(job.id, None) is not None:
            self._ledger.complete_draft(job)
            done(job, items, requests)

    def revoke(self) -> list[int]:
        """None of them can be written: they never will be. Their ids."""
        revoked, self._jobs = list(self._jobs.values()), {}
        for job in revoked:
            self._ledger.abandon_draft(job)
        return [job.id for job in revoked]
