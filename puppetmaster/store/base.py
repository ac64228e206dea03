"""The port of the store: what everybody may ask of it, whatever it is kept in, and the values that pass.

``Store`` and ``Reader`` are protocols. Implementations are ``store.sqlite``, which a bundle runs on, and
``store.memory``, for the simulator and for tests; ``tests/contract/test_store.py`` holds each to them.
"""

import secrets
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from puppetmaster.clock import is_known, seconds
from puppetmaster.model.job import OPEN_JOB, Job
from puppetmaster.model.request import OPEN, Item, Request

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
        #: It takes in this many jobs at once.
        self.at_once = PART
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


#: Field -> the value that it has, or those that it may have; all must fit.
Filter = Mapping[str, str | int | Sequence[str]]


class Reader(Protocol):
    """Look-ups, for one thread at a time. Each of them raises StoreError when the store cannot be read.

    What was committed is there; a job that was removed, or whose requests are still being written, is not,
    and nothing of it is.
    """

    def job(self, id_: int) -> Job | None:
        """Look up a job; None: there is none of this id."""

    def job_by_key(self, key: str) -> Job | None:
        """Look up the job that was created with this idempotency key; None: there is none."""

    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """List jobs, newest first, after the first ``offset``, at most ``limit`` (None: all).

        ``where``: ``status``, ``name``, ``destination``: one of its requests goes there, ``text``: its id,
        its name, its key or the resource of one of its items has this in it, letters a to z in either case,
        ``failed``: whether a request of it ran and failed, or may have run.
        """

    def job_ids(self, where: Filter) -> Sequence[int]:
        """List the ids of jobs, newest first; ``where`` as for ``jobs``."""

    def count_jobs(self, where: Filter) -> int:
        """Count jobs; ``where``: ``status``, ``name``."""

    def request(self, id_: int) -> Request | None:
        """Look up a request; None: there is none of this id."""

    def sending(self, message: int) -> int | None:
        """Look up whose message this was: the id of the request that went out under this id, not its own."""

    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """List requests, ascending, in pages as ``jobs``; ``where``: ``job``, ``status``, ``destination``."""

    def request_ids(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
        """List the ids of requests, as ``requests``; in few bytes each, for there may be a million."""

    def count_requests(self, where: Filter) -> int:
        """Count requests; ``where`` as for ``requests``."""

    def requests_within(self, ids: Sequence[int], most_bytes: int) -> tuple[list[Request], int]:
        """List the requests of the first of these ascending ids, until they take about this many bytes.

        With them comes how many of the ids they are the answer for: all, or one at least. Ids that nothing
        has are skipped.
        """

    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """List the batch items of these jobs, by their id."""

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """List the batch items of these ids; ids that nothing has are skipped."""

    def items_within(self, ids: Sequence[int], most_bytes: int) -> tuple[dict[int, Item], int]:
        """As ``items_by_id``; the rest as ``requests_within``."""


class Store(Protocol):
    """What is durable. One thread writes, any other reads, each a state of its own; neither waits long.

    Each verb raises StoreError when what keeps the store fails; after ``close`` those of the writer do.
    """

    #: What was committed last, for the thread that writes.
    now: Reader

    @property
    def installation(self) -> str:
        """16 hexadecimal digits, made once in the life of a store."""

    @property
    def ids(self) -> Ids:
        """The ids as they were last committed, as a copy."""

    @property
    def size_bytes(self) -> int:
        """How much of its place is in use, about: what ``Keep.bytes`` is compared with."""

    def commit(self, changes: Changes) -> None:
        """Make all of ``changes`` durable, or none of it. When it returns, no crash can undo it.

        Removed jobs are nowhere to be seen from then on, and requests of drafts not before their job is
        committed with ``completed``. Raises StoreError: nothing of it is there; NotKnown: nothing of it is
        there now, but after a crash it might be.
        """

    def reading(self) -> AbstractContextManager[Reader]:
        """Give a reader that sees one committed state throughout, for any thread."""

    def unfinished(self) -> Iterator[tuple[Job, list[Request]]]:
        """Give every job that has not ended, oldest first, with its requests that are not done.

        Drafts that an earlier process did not complete are not among them, and never will be.
        """
        for job in reversed(self.now.jobs({"status": sorted(OPEN_JOB)})):
            yield job, self.now.requests({"job": job.id, "status": sorted(OPEN)})

    def sweep(self) -> bool:
        """Give back a part of the place that removed jobs take; whether there was any. For the writer."""

    def look_on(self, look: Look) -> None:
        """Have a look take in the next ``look.at_once`` jobs."""

    def outlived(self, look: Look) -> dict[int, str]:
        """Name some jobs that need not be kept, of a look that is complete, and by which limit.

        Bytes count once everything that was removed before is swept: it still takes its place.
        """

    def close(self) -> None:
        """Let go of everything; another process may open it then. What was committed stays.

        Raises StoreError, when all is closed: what keeps the store failed.
        """
