"""Which jobs need not be kept any longer: by their number, their age and the size of the store."""

import secrets
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from puppetmaster.clock import is_known, seconds
from puppetmaster.model.job import Job
from puppetmaster.model.request import Item, Request

#: The lowest request id: clear of the SDK's random message ids and of counters that start at 1.
FIRST_REQUEST_ID = 2**31
#: The bus has ids of 32 bits.
LAST_REQUEST_ID = 2**32 - 1
#: A new store begins anywhere in so many ids: what it sends is none of what an earlier one here sent.
STARTS = 2**30
#: A copy leaves out so many ids: the store that it was made of may have given them out since.
JOBS_AHEAD, REQUESTS_AHEAD = 10_000, 2**24


@dataclass(slots=True)
class Ids:
    """The next ids to give out. None is given out twice in the life of an installation."""

    next_job: int = 1
    next_request: int = FIRST_REQUEST_ID


def first_request_id() -> int:
    """Where the request ids of a new store begin."""
    return FIRST_REQUEST_ID + secrets.randbelow(STARTS)


def ahead(ids: Ids) -> Ids:
    """The next ids of a copy."""
    return Ids(
        ids.next_job + JOBS_AHEAD,
        max(ids.next_request, min(ids.next_request + REQUESTS_AHEAD, LAST_REQUEST_ID)),
    )


@dataclass(slots=True)
class Changes:
    """What one transaction makes durable."""

    jobs: dict[int, Job] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    sendings: dict[int, Request] = field(default_factory=dict)
    #: Message ids under which nothing ran: they need not lead to their requests any more.
    refused: list[int] = field(default_factory=list)
    deleted: dict[int, Job] = field(default_factory=dict)
    #: Those of them that ended by being removed.
    dropped: set[int] = field(default_factory=set)
    #: Jobs whose requests are written before they exist; those that do exist now; those that never will.
    drafts: dict[int, Job] = field(default_factory=dict)
    completed: list[int] = field(default_factory=list)
    abandoned: dict[int, Job] = field(default_factory=dict)
    ids: Ids | None = None

    def __bool__(self) -> bool:
        return bool(
            self.jobs
            or self.items
            or self.requests
            or self.sendings
            or self.deleted
            or self.drafts
            or self.abandoned
            or self.ids
        )


#: So many jobs, of so many requests together, are pruned at once, but one always.
PRUNED_AT_ONCE, PRUNED_REQUESTS = 20, 20000
#: A look reads so many jobs at once, and remembers so many of them.
PART, MOST = 500, 5000
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

    def rank(self, now: Now) -> "Rank":
        """Which ended first: those of which nobody knows when, others, those of this start of the machine."""
        if self.ended_s is not None and self.boot and self.boot == now.boot:
            return 2, self.ended_s, self.id  # by the clock that nobody sets
        finished_s = seconds(self.finished_at)
        return (1, finished_s, self.id) if is_known(finished_s) else (0, 0.0, self.id)


Rank = tuple[int, float, int]
_Ranked = tuple[Rank, Ended]


def _age_s(rank: Rank, now: Now) -> float | None:
    """How long ago a job ended; None: nobody knows, for a gateway without a battery wakes up in 1970."""
    kind, ended_s, _ = rank
    if kind == 2:
        return now.now_s - ended_s
    return now.wall_s - ended_s if kind == 1 and now.steady else None


#: The fields of a job that ``Ended`` is made of, after its id.
FIELDS = ("finishedAt", "total", "endedBoot", "ended")


class Look:
    """A look for jobs that need not be kept any longer, in parts: each call does a bounded amount of work.

    First every job that has ended is taken in, and ``MOST`` are remembered: the first to end of all, and as
    many again of those that are too old. Then ``part`` gives away what of these need not be kept.
    """

    def __init__(self, keep: Keep, now: Now) -> None:
        self.keep = keep
        #: When it began.
        self.now = now
        #: The last job that was read.
        self.last_id = 0
        #: Every job was read.
        self.complete = False
        self._first: list[_Ranked] = []
        self._old: list[_Ranked] = []
        self._left: deque[_Ranked] = deque()
        #: How many jobs were given away by which limit.
        self.gone: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Nothing is left to be read, nor to be given away."""
        return self.complete and not self._left

    @property
    def has_more(self) -> bool:
        """Whether another look would find more: this one was full, and made room."""
        return bool(self.gone) and max(len(self._first), len(self._old)) >= MOST

    def take(self, ended: Iterable[Ended], last_id: int, *, complete: bool) -> None:
        """Take in the next jobs, up to the one with ``last_id``; ``complete``: these are the last."""
        ranked = [(job.rank(self.now), job) for job in ended]
        self._first = _first(self._first, ranked)
        self._old = _first(self._old, [one for one in ranked if self._is_old(one[0])])
        self.last_id, self.complete = last_id, complete
        if complete:
            both = {job.id: (rank, job) for rank, job in (*self._first, *self._old)}
            self._left.extend(sorted(both.values(), key=_rank))

    def part(self, count: int, too_large: int) -> dict[int, str]:
        """Some jobs that need not be kept, the first to end first, and by which limit; once each.

        ``count`` jobs have ended, or more, and the store is too large by ``too_large`` bytes.
        """
        too_many = count - self.keep.jobs
        gone: dict[int, str] = {}
        requests = 0
        for rank, job in list(islice(self._left, PART)):
            why = self._outlives(rank, many=too_many > 0, large=too_large > 0)
            requests += job.total if why is not None else 0
            if len(gone) == PRUNED_AT_ONCE or (gone and requests > PRUNED_REQUESTS):
                break
            self._left.popleft()
            if why is not None:
                gone[job.id] = why
                too_many -= 1
                too_large -= job.total * REQUEST_BYTES
        self.gone.update(gone.values())
        return gone

    def _is_old(self, rank: Rank) -> bool:
        age_s = _age_s(rank, self.now)
        return age_s is not None and age_s > self.keep.age_s

    def _outlives(self, rank: Rank, *, many: bool, large: bool) -> str | None:
        """By which limit a job need not be kept; None: it is kept."""
        if many:
            return "there are more"
        if self._is_old(rank):
            return "they are older"
        age_s = _age_s(rank, self.now)
        # What has just ended is kept whatever its size: somebody is about to look at it.
        return "the store is larger" if large and (age_s is None or age_s > FRESH_S) else None


def _rank(ranked: _Ranked) -> Rank:
    return ranked[0]


def _first(known: list[_Ranked], more: list[_Ranked]) -> list[_Ranked]:
    """The ``MOST`` that ended first, in order; those that are known are in order."""
    if len(known) == MOST:
        more = [one for one in more if one[0] < known[-1][0]]
    return sorted([*known, *more], key=_rank)[:MOST] if more else known
