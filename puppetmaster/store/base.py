"""The port of the store: the protocols ``Store`` and ``Reader``, and the values that they take and give.

A bundle runs on ``store.sqlite`` or ``store.postgres``; the simulator and tests use ``store.memory``. Tests
in ``tests/contract/test_store.py`` hold all of them to the protocols.
"""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

from puppetmaster.clock import is_known, iso, seconds
from puppetmaster.errors import StoreError
from puppetmaster.events import Hub
from puppetmaster.model.gateway import Gateway, Sought
from puppetmaster.model.job import OPEN_JOB, Job, JobEvent, JobStatus
from puppetmaster.model.leadership import Leadership
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import OPEN, Item, Request
from puppetmaster.model.template import Template
from puppetmaster.model.timeline import What
from puppetmaster.model.why import Said
from puppetmaster.threads import Vital

T = TypeVar("T")

#: The lowest request id. The SDK's random message ids and counters that begin at 1 stay below it.
FIRST_REQUEST_ID = 2**31
#: The highest request id: message ids of the bus have 32 bits.
LAST_REQUEST_ID = 2**32 - 1
#: A new store begins at a random one of this many ids, so that it does not use those of an earlier store.
STARTS = 2**30
#: A copy leaves out this many ids, because the store that it was made of may have given them out since.
JOBS_AHEAD, REQUESTS_AHEAD = 10_000, 2**24
#: Most jobs, and most requests of them, that are pruned at once; one job is always pruned.
PRUNED_AT_ONCE, PRUNED_REQUESTS = 20, 20000
#: A look reads ``PART`` jobs at once, and remembers ``MOST`` of them.
PART, MOST = 500, 5000
#: A job that ended less than this ago is not pruned for the size of the store.
FRESH_S = 3600.0
#: About how many bytes of the file a request takes.
REQUEST_BYTES = 300
#: When this number of gateways is known, destinations of jobs are no longer added: nothing prunes gateways.
MOST_LEARNED = 200_000


@dataclass(slots=True)
class Ids:
    """The next ids to give out. No id is given out twice in the life of an installation."""

    next_job: int = 1
    #: Message ids of repeated sendings are taken from here too.
    next_request: int = FIRST_REQUEST_ID
    next_template: int = 1


def first_request_id() -> int:
    """A random id at which the request ids of a new store begin."""
    return FIRST_REQUEST_ID + secrets.randbelow(STARTS)


def ahead(ids: Ids) -> Ids:
    """The next ids of a copy of a store that has these."""
    return Ids(
        ids.next_job + JOBS_AHEAD,
        max(ids.next_request, min(ids.next_request + REQUESTS_AHEAD, LAST_REQUEST_ID)),
        ids.next_template,
    )


def jobs_held(reader: "Reader", reason: Said) -> list[Job]:
    """The jobs of a copy, or of an import, that would send: paused. What waits in them may have run since."""
    at = iso(time.time())
    going = reader.jobs({"status": [JobStatus.PENDING.value, JobStatus.DISPATCHING.value]})
    return [
        job.after(JobEvent.PAUSE, at, reason=reason).noted(What.PAUSED, at, why=reason)
        for job in going
        if job.ending is None
    ]


def templates_held(reader: "Reader", reason: Said) -> list[Template]:
    """The templates of a copy, or of an import, that would start: with their schedules off."""
    at = iso(time.time())
    found = filter(None, map(reader.template, reader.template_ids()))
    return [one.held(reason, at) for one in found if one.scheduled]


@dataclass(slots=True)
class Changes:
    """What one transaction makes durable. The dicts have ids as keys."""

    #: New jobs, and those that have changed.
    jobs: dict[int, Job] = field(default_factory=dict)
    #: New items.
    items: dict[int, Item] = field(default_factory=dict)
    #: New requests, and those that have changed.
    requests: dict[int, Request] = field(default_factory=dict)
    #: Message id -> the request that is sent again under it.
    sendings: dict[int, Request] = field(default_factory=dict)
    #: Message ids of sendings that were refused. They need not lead to their requests any more.
    refused: list[int] = field(default_factory=list)
    #: Jobs that are removed with their requests.
    deleted: dict[int, Job] = field(default_factory=dict)
    #: Ids of jobs in ``deleted`` that had not ended before.
    dropped: set[int] = field(default_factory=set)
    #: Jobs that do not exist yet, while their requests are written.
    drafts: dict[int, Job] = field(default_factory=dict)
    #: Ids of drafts that exist from now on.
    completed: list[int] = field(default_factory=list)
    #: Drafts that will never exist.
    abandoned: dict[int, Job] = field(default_factory=dict)
    #: Gateways by name: new ones, and those that have changed.
    gateways: dict[str, Gateway] = field(default_factory=dict)
    #: Names of gateways that are forgotten. ``gateways`` and ``destinations`` count after that.
    forgotten: set[str] = field(default_factory=set)
    #: Destinations of new jobs. Those that are not known yet become gateways without labels, while fewer than
    #: ``MOST_LEARNED`` are known. Those that were discovered are so no longer.
    destinations: set[str] = field(default_factory=set)
    #: Destinations of earlier commits. The store need not look for them again.
    learned: set[str] = field(default_factory=set)
    #: What webhooks are owed: new, and what was tried in vain.
    owed: dict[int, Owed] = field(default_factory=dict)
    #: Numbers of what was owed, and is not any more.
    told: set[int] = field(default_factory=set)
    #: Templates by id: new ones, and those that have changed.
    templates: dict[int, Template] = field(default_factory=dict)
    #: Ids of templates that are removed.
    removed_templates: set[int] = field(default_factory=set)
    #: The next ids; None: they have not changed.
    ids: Ids | None = None

    @property
    def to_learn(self) -> set[str]:
        """The destinations that the store has to look for."""
        return self.destinations - self.learned

    def __bool__(self) -> bool:
        return bool(
            self.jobs
            or self.items
            or self.requests
            or self.sendings
            or self.deleted
            or self.drafts
            or self.abandoned
            or self.gateways
            or self.forgotten
            or self.owed
            or self.told
            or self.templates
            or self.removed_templates
            or self.ids
        )


@dataclass(frozen=True, slots=True)
class Keep:
    """Which jobs that have ended are kept."""

    #: Most of them.
    jobs: int
    #: How long each is kept, in seconds after its end.
    age_s: float
    #: How large the store may be.
    bytes: int


@dataclass(frozen=True, slots=True)
class Now:
    """The time by both clocks."""

    #: The wall clock, seconds since 1970.
    wall_s: float
    #: Whether the wall clock can be believed.
    steady: bool = True
    #: The boot id of the machine; empty: it has none.
    boot: str = ""
    #: The monotonic clock of that boot.
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What retention has to know of a job that has ended."""

    id: int
    #: When it ended, as ISO 8601.
    finished_at: str
    #: Number of its requests.
    total: int
    #: The boot id of the machine when it ended; None or empty: not known.
    boot: str | None
    #: When it ended, on the monotonic clock of that boot; None: not known.
    ended_s: float | None

    def rank(self, now: Now) -> "Rank":
        """A key that sorts by the end: first unknown ends, then those before this boot, then the others."""
        if self.ended_s is not None and self.boot and self.boot == now.boot:
            return 2, self.ended_s, self.id  # the monotonic clock is never set
        finished_s = seconds(self.finished_at)
        return (1, finished_s, self.id) if is_known(finished_s) else (0, 0.0, self.id)


Rank = tuple[int, float, int]
_Ranked = tuple[Rank, Ended]


def _age_s(rank: Rank, now: Now) -> float | None:
    """Seconds since a job ended; None: not known (a gateway without a battery starts in 1970)."""
    kind, ended_s, _ = rank
    if kind == 2:
        return now.now_s - ended_s
    return now.wall_s - ended_s if kind == 1 and now.steady else None


#: The fields of a job that ``Ended`` is made of, after its id.
FIELDS = ("finishedAt", "total", "endedBoot", "ended")


class Look:
    """A search for jobs that need not be kept any longer. Each call does a bounded amount of work.

    First ``take`` is given all jobs that have ended. The look remembers the ``MOST`` that ended first, and
    the ``MOST`` that ended first of those that are too old. Then ``part`` names those that need not be kept.
    """

    def __init__(self, keep: Keep, now: Now) -> None:
        self.keep = keep
        #: When the look began.
        self.now = now
        #: How many jobs the store gives it at once.
        self.at_once = PART
        #: The id of the last job that was read.
        self.last_id = 0
        #: Whether all jobs were read.
        self.complete = False
        self._first: list[_Ranked] = []
        self._old: list[_Ranked] = []
        self._left: deque[_Ranked] = deque()
        #: Number of jobs that ``part`` has named, by the limit.
        self.gone: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Whether all jobs were read, and ``part`` has named all that need not be kept."""
        return self.complete and not self._left

    @property
    def has_more(self) -> bool:
        """Whether another look would find more, because this look was full."""
        return bool(self.gone) and max(len(self._first), len(self._old)) >= MOST

    def take(self, ended: Iterable[Ended], last_id: int, *, complete: bool) -> None:
        """Take the next jobs that have ended, up to the id ``last_id``; ``complete``: these are the last."""
        ranked = [(job.rank(self.now), job) for job in ended]
        self._first = _first(self._first, ranked)
        self._old = _first(self._old, [one for one in ranked if self._is_old(one[0])])
        self.last_id, self.complete = last_id, complete
        if complete:
            both = {job.id: (rank, job) for rank, job in (*self._first, *self._old)}
            self._left.extend(sorted(both.values(), key=_rank))

    def part(self, count: int, too_large: int) -> dict[int, str]:
        """The next jobs that need not be kept, by id, each with the limit that says so.

        Args:
            count: how many jobs have ended, or a smaller number above ``keep.jobs``.
            too_large: how many bytes too large the store is.
        """
        too_many = count - self.keep.jobs
        gone: dict[int, str] = {}
        requests = 0
        for rank, job in list(islice(self._left, PART)):
            if len(gone) == PRUNED_AT_ONCE:
                break
            why = self._outlives(rank, many=too_many > 0, large=too_large > 0)
            if why is not None:
                requests += job.total
                if gone and requests > PRUNED_REQUESTS:
                    break
                gone[job.id] = why
                too_many -= 1
                too_large -= job.total * REQUEST_BYTES
            self._left.popleft()
        self.gone.update(gone.values())
        return gone

    def _is_old(self, rank: Rank) -> bool:
        age_s = _age_s(rank, self.now)
        return age_s is not None and age_s > self.keep.age_s

    def _outlives(self, rank: Rank, *, many: bool, large: bool) -> str | None:
        """The limit by which a job need not be kept; None: it is kept."""
        if many:
            return "there are more"
        if self._is_old(rank):
            return "they are older"
        age_s = _age_s(rank, self.now)
        # A job that has just ended is kept whatever its size: its creator is about to look at it.
        return "the store is larger" if large and (age_s is None or age_s > FRESH_S) else None


def _rank(ranked: _Ranked) -> Rank:
    return ranked[0]


def _first(known: list[_Ranked], more: list[_Ranked]) -> list[_Ranked]:
    """The ``MOST`` that ended first of both lists, in order."""
    return sorted([*known, *more], key=_rank)[:MOST]


class LastResult(NamedTuple):
    """How a request ended."""

    #: Its id.
    request: int
    status: str
    #: The code of its answer; None: it has none.
    code: int | None
    #: When it ended, as ISO 8601; None: not known.
    at: str | None = None
    #: Who says so, as in a result; None: not known.
    source: str | None = None

    @classmethod
    def of(cls, id_: int, document: Mapping[str, Any]) -> "LastResult":
        """How the request that is stored as ``document`` has ended."""
        result = document.get("result") or {}
        ended = (document.get("finishedAt"), result.get("source"))
        return cls(id_, document["status"], result.get("code"), *ended)


def made(make: Callable[[Any, Any], T], what: str, id_: Any, document: Any) -> T:
    """The value that a document holds. Raises StoreError: the document was changed."""
    try:
        return make(id_, document)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StoreError(
            f"The store's {what} {id_} cannot be read ({type(error).__name__}: {error}): it was changed; "
            "put a copy of an earlier day or an import in its place."
        ) from error


def made_gateway(id_: Any, document: Any) -> Gateway:
    """The gateway that a document holds; ``id_`` is for the error. Raises StoreError: as ``made``."""
    return made(lambda _, found: Gateway.from_document(found), "gateway", id_, document)


#: The fields of a job by which it is found without looking at anything else.
PLAIN = ("status", "name", "template")
#: Field -> its value, or a list of the values that it may have. All fields must fit.
Filter = Mapping[str, str | int | Sequence[str]]


class Reader(Protocol):
    """Look-ups of what is committed, for one thread at a time. All raise StoreError: it cannot be read.

    Jobs that were removed, and drafts, are not seen, nor are their items and requests.
    """

    def job(self, id_: int) -> Job | None:
        """Look up a job; None: there is none with this id."""

    def job_by_key(self, key: str) -> Job | None:
        """Look up the job that was created with this idempotency key; None: there is none."""

    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """List jobs, newest first, without the first ``offset``, at most ``limit`` (None: all).

        ``where`` may have ``status``, ``name``, ``template``, ``destination`` (of one of the job's requests),
        ``text`` (a part of the job's id, name, key or of an item's resource, letters a to z in either case)
        and ``failed``: whether a request of it ran and failed, or may have run.
        """

    def job_ids(self, where: Filter) -> Sequence[int]:
        """List the ids of jobs, newest first; ``where`` as for ``jobs``."""

    def count_jobs(self, where: Filter) -> int:
        """Count jobs. ``where`` may have ``status`` and ``name``."""

    def request(self, id_: int) -> Request | None:
        """Look up a request; None: there is none with this id."""

    def sending(self, message: int) -> int | None:
        """Look up the request that was sent again under this message id; None: there is none."""

    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """List requests by ascending id, in pages as ``jobs``.

        ``where`` may have ``job``, ``status`` and ``destination``.
        """

    def request_ids(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
        """List the ids of requests, as ``requests``. An id takes few bytes: there may be a million."""

    def count_requests(self, where: Filter) -> int:
        """Count requests; ``where`` as for ``requests``."""

    def requests_within(self, ids: Sequence[int], most_bytes: int) -> tuple[list[Request], int]:
        """List the requests with the first of these ascending ids, until they have about ``most_bytes``.

        Returns the requests, and how many of the ids were looked up: at least one. Unknown ids are skipped.
        """

    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """Look up the items of these jobs, by item id."""

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """Look up items by id. Unknown ids are skipped."""

    def items_within(self, ids: Sequence[int], most_bytes: int) -> tuple[dict[int, Item], int]:
        """As ``items_by_id``, bounded as ``requests_within``."""

    def gateway_names(self, sought: Sought) -> list[str]:
        """List the names of the gateways that fit, in the order of their letters' code points."""

    def gateways(self, names: Sequence[str]) -> list[Gateway]:
        """Look up gateways by name, in the order of their names. Unknown names are skipped."""

    def last_results(self, names: Sequence[str]) -> dict[str, LastResult]:
        """How the newest request of each destination ended, of those that are done.

        A destination without such a request is left out.
        """

    def owed(self) -> list[Owed]:
        """All that webhooks are owed, by ascending number."""

    def template(self, id_: int) -> Template | None:
        """Look up a template; None: there is none with this id."""

    def template_named(self, name: str) -> Template | None:
        """Look up the template of this name; None: there is none."""

    def template_ids(self) -> Sequence[int]:
        """List the ids of all templates, ascending."""


class Readable(Protocol):
    """What can be read, by any thread, each time one committed state. Raises StoreError when that fails."""

    def reading(self) -> AbstractContextManager[Reader]:
        """Give a reader of one committed state, for any thread."""


class Elsewhere(Readable, Protocol):
    """A store that another process leads: it is read here, and what is to be changed is asked of that one.

    For any thread.
    """

    #: Where it is, for people.
    place: str

    @property
    def threads(self) -> Sequence[Vital]:
        """The threads that run until ``end_watching``."""
        return ()

    def ask(self, asked: str, timeout_s: float) -> str:
        """Have the leader answer. It takes no order after ``timeout_s``, and none a second time.

        Raises Unavailable: nobody leads, or nobody has taken it, and nothing was done; or that is not known.
        The message says which.
        """

    def watch(self, hub: Hub) -> None:
        """Post to ``hub`` from now on what the leader tells of jobs."""

    def end_watching(self) -> None:
        """Post what has changed since, and end. The caller leads now, and has changed nothing yet."""

    def close(self) -> None:
        """Close all connections. May be called twice."""


class Store(Readable, Protocol):
    """What is durable. One thread writes. Any thread reads, each a committed state of its own.

    All methods raise StoreError when the store fails. After ``close`` the writer's methods do.
    """

    #: The latest committed state, for the thread that writes.
    now: Reader
    #: Where it is, for people.
    place: str
    #: The tunnel on which the bundle is registered, or was in an earlier process; None: not known. For any
    #: thread. It is kept where another process may go on with it; elsewhere it is forgotten.
    tunnel: str | None = None

    @property
    def installation(self) -> str:
        """The id of the installation: 16 hexadecimal digits, made once in the life of a store."""

    @property
    def ids(self) -> Ids:
        """A copy of the next ids, as last committed."""

    @property
    def size_bytes(self) -> int:
        """About how many bytes are in use. ``Keep.bytes`` is compared with this."""

    def disk_bytes(self) -> int:
        """How many bytes it takes on a disk, what is free in it included. For any thread."""

    def commit(self, changes: Changes) -> None:
        """Make all of ``changes`` durable, or nothing. When it returns, no crash can undo it.

        From then on removed jobs are not seen. Drafts are seen once they are in ``completed``.

        Raises:
            StoreError: nothing was committed.
            NotKnown: nothing was committed, but after a crash the changes may be there.
        """

    def unfinished(self) -> Iterator[tuple[Job, list[Request]]]:
        """List the jobs that have not ended, oldest first, each with its requests that are not done.

        Drafts that an earlier process did not complete are not among them.
        """
        for job in reversed(self.now.jobs({"status": sorted(OPEN_JOB)})):
            yield job, self.now.requests({"job": job.id, "status": sorted(OPEN)})

    @property
    def threads(self) -> Sequence[Vital]:
        """The threads that run until ``close``."""
        return ()

    def may_act(self) -> bool:
        """Whether this process may send and acknowledge now, as far as is known here. For any thread.

        Where another process may use the store too, only one of them may.
        """
        return True

    def serve(self, answer: Callable[[str], str], hub: Hub) -> None:
        """Answer from now on what processes ask that do not lead, and tell them what is posted to ``hub``.

        ``answer`` is called in threads of the store. Where no other process can ask, nothing is done.
        """
        del answer, hub

    def end_serving(self) -> None:
        """Take no order any more, and wait until those that were taken are answered. May be called twice."""
        return

    def held_up(self) -> str | None:
        """Why a write takes so long, as a sentence, and what to do; None: that is not known.

        For any thread; takes a moment, whatever the writer waits for.
        """
        return None

    def resigns(self, connected: Callable[[], bool | None], resign: Callable[[], object]) -> None:
        """Call ``resign`` once we have had no broker for a while, and a process that waits reaches it.

        ``connected`` says whether we have the broker; None: we never had it, and then the while is longer.
        Both are called in a thread of the store. Where nobody can wait for the lead, nothing is done.
        """
        del connected, resign

    def leadership(self) -> Leadership | None:
        """How this process leads; None: no other one can use the store. For any thread; asks nobody."""
        return None

    def confirm(self) -> bool:
        """Ask, where that is written down, whether this process may act for the bus. For any thread."""
        return True

    def sweep(self) -> bool:
        """Free a part of what removed jobs take. Returns whether there was any. For the writer."""

    def look_on(self, look: Look) -> None:
        """Give a look the next ``look.at_once`` jobs."""

    def outlived(self, look: Look) -> dict[int, str]:
        """The next jobs of a complete look that need not be kept, by id, each with the limit that says so.

        The limit of bytes counts only when all that was removed is swept, because until then it takes space.
        """

    def close(self) -> None:
        """Close the store, so that another process may open it. What was committed stays.

        Raises StoreError, after all is closed: the store failed.
        """
