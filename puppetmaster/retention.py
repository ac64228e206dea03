"""Which jobs need not be kept any longer: by their number, their age and the size of the store."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from puppetmaster.clock import seconds

#: So many jobs, of so many requests together, are pruned at once, but one always.
PRUNED_AT_ONCE, PRUNED_REQUESTS = 20, 20000
#: What ended less than this ago is not pruned because the store is too large.
FRESH_S = 3600.0
#: Before 2025 no clock of a gateway was right.
PLAUSIBLE_S = 1_735_689_600
#: How much of the file a request is thought to take.
REQUEST_BYTES = 300


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of jobs that have ended: so many, for so long, in a file of this size."""

    jobs: int
    age_s: float
    bytes: int


def outlived(ended: Iterable[tuple[Any, ...]], keep: Keep, too_large: int, wall_s: float) -> dict[int, str]:
    """Some of the jobs that have ended, the first to end first, and by which limit.

    ``ended``: id, finishedAt and total of each; ``too_large``: by how many bytes the store is.
    """
    ranked = sorted((_ended_s(finished_at), job_id, total) for job_id, finished_at, total in ended)
    too_many = len(ranked) - keep.jobs
    gone: dict[int, str] = {}
    requests = 0
    for index, (ended_s, job_id, total) in enumerate(ranked):
        age_s = wall_s - ended_s if ended_s else None
        why = _outlives(index < too_many, too_large > 0, age_s, keep)
        if why is None:
            continue
        requests += total
        if len(gone) == PRUNED_AT_ONCE or (gone and requests > PRUNED_REQUESTS):
            break
        gone[job_id] = why
        too_large -= total * REQUEST_BYTES
    return gone


def _ended_s(finished_at: str) -> float:
    """When a job ended; 0: nobody knows, for a gateway without a battery wakes up in 1970."""
    ended_s = seconds(finished_at)
    return ended_s if ended_s > PLAUSIBLE_S else 0.0


def _outlives(many: bool, large: bool, age_s: float | None, keep: Keep) -> str | None:
    """By which limit a job need not be kept; its age is None where nobody knows it."""
    if many:
        return "there are more"
    if age_s is not None and age_s > keep.age_s:
        return "they are older"
    # What has just ended is kept whatever its size: somebody is about to look at it.
    return "the store is larger" if large and (age_s is None or age_s > FRESH_S) else None
