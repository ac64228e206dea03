"""Which jobs need not be kept any longer: by their number, their age and the size of the store."""

from collections.abc import Iterable
from dataclasses import dataclass

from puppetmaster.clock import is_known, seconds

#: So many jobs, of so many requests together, are pruned at once, but one always.
PRUNED_AT_ONCE, PRUNED_REQUESTS = 20, 20000
#: What ended less than this ago is not pruned because the store is too large.
FRESH_S = 3600.0
#: How much of the file a request is thought to take.
REQUEST_BYTES = 300


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of jobs that have ended: so many, for so long, in a file of this size."""

    jobs: int
    age_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Now:
    """The time by both clocks; ``steady``: that of the wall may be believed."""

    wall_s: float
    steady: bool = True
    boot: str = ""
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, as the store keeps it."""

    id: int
    finished_at: str
    total: int
    boot: str | None
    ended_s: float | None

    def rank(self, now: Now) -> tuple[int, float, int]:
        """Which ended first: those of which nobody knows when, others, those of this start of the machine."""
        monotonic_s, finished_s = self._monotonic_s(now), seconds(self.finished_at)
        if monotonic_s is not None:
            return 2, monotonic_s, self.id
        return (1, finished_s, self.id) if is_known(finished_s) else (0, 0.0, self.id)

    def age_s(self, now: Now) -> float | None:
        """How long ago it ended; None: nobody knows, for a gateway without a battery wakes up in 1970."""
        monotonic_s, finished_s = self._monotonic_s(now), seconds(self.finished_at)
        if monotonic_s is not None:
            return now.now_s - monotonic_s
        return now.wall_s - finished_s if now.steady and is_known(finished_s) else None

    def _monotonic_s(self, now: Now) -> float | None:
        """When it ended, by the clock that nobody sets; None: the machine was started since."""
        return self.ended_s if self.boot and self.boot == now.boot else None


#: The fields of a job that ``Ended`` is made of, after its id.
FIELDS = ("finishedAt", "total", "endedBoot", "ended")


def outlived(ended: Iterable[Ended], keep: Keep, too_large: int, now: Now) -> dict[int, str]:
    """Some of the jobs that have ended, the first to end first, and by which limit.

    ``too_large``: by how many bytes the store is.
    """
    ranked = sorted(ended, key=lambda job: job.rank(now))
    too_many = len(ranked) - keep.jobs
    gone: dict[int, str] = {}
    requests = 0
    for index, job in enumerate(ranked):
        why = _outlives(index < too_many, too_large > 0, job.age_s(now), keep)
        if why is None:
            continue
        requests += job.total
        if len(gone) == PRUNED_AT_ONCE or (gone and requests > PRUNED_REQUESTS):
            break
        gone[job.id] = why
        too_large -= job.total * REQUEST_BYTES
    return gone


def _outlives(many: bool, large: bool, age_s: float | None, keep: Keep) -> str | None:
    """By which limit a job need not be kept; its age is None where nobody knows it."""
    if many:
        return "there are more"
    if age_s is not None and age_s > keep.age_s:
        return "they are older"
    # What has just ended is kept whatever its size: somebody is about to look at it.
    return "the store is larger" if large and (age_s is None or age_s > FRESH_S) else None
