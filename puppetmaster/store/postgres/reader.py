# ruff: noqa: S608 - the names in the SQL are this package's own; values are parameters
"""Look-ups in PostgreSQL: jobs, requests, items and gateways, by id, by filter, in pages.

Jobs in the table ``trash``, whose requests are still being removed or written, are not seen.
"""

import json
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway, Sought, glob
from puppetmaster.model.job import Job
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import OPEN, Item, Request
from puppetmaster.model.selector import Operator, Requirement
from puppetmaster.model.template import Template
from puppetmaster.store.base import Filter, LastResult, Reader, made, made_gateway
from puppetmaster.store.postgres.connection import FOREIGN, Connection, sentence
from puppetmaster.store.postgres.rows import column, decode, plain

T = TypeVar("T")
P = ParamSpec("P")

#: Most ids that are looked up at once.
AT_ONCE = 5000
#: Number of gateways whose last results are in memory at once.
RESULTS_AT_ONCE = 50
#: A condition, and its parameters.
Terms = tuple[str, list[Any]]
Row = tuple[Any, ...]

_HIDDEN = "SELECT id FROM trash"


def _reads(
    verb: Callable[Concatenate["PostgresReader", P], T],
) -> Callable[Concatenate["PostgresReader", P], T]:
    """Let a verb raise StoreError when the database cannot be read."""

    @wraps(verb)
    def reading(self: "PostgresReader", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(self, *args, **kwargs)
        except (*FOREIGN, json.JSONDecodeError) as error:
            raise StoreError(f"{self.place} cannot be read: {sentence(error)}.") from error

    return reading


class PostgresReader(Reader):
    """Look-ups over a connection, which ``connection`` gives. See ``store.base.Reader`` for the verbs.

    ``fixed``: it sees one state throughout.
    """

    def __init__(self, connection: Callable[[], Connection], place: str, *, fixed: bool = False) -> None:
        self.place = place
        self._connection = connection
        self._fixed = fixed
        self._by_status: Counter[str | int] | None = None

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection().execute(sql, values).fetchall()

    @_reads
    def job(self, id_: int) -> Job | None:
        """The job with this id; None: there is none."""
        found = self._rows("SELECT id, doc FROM jobs WHERE id = %s", [id_])
        return self._as_jobs(found)[0] if found else None

    @_reads
    def job_by_key(self, key: str) -> Job | None:
        """The job with this idempotency key; None: there is none."""
        sql = "SELECT id, doc FROM jobs WHERE key = %s ORDER BY id LIMIT 1"
        found = self._rows(sql, [column(key)])
        return self._as_jobs(found)[0] if found else None

    @_reads
    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """Jobs, newest first. ``where`` as in the port."""
        terms, values = _of_jobs(where)
        sql = f"SELECT id, doc FROM jobs WHERE {terms} ORDER BY id DESC LIMIT %s OFFSET %s"
        return self._as_jobs(self._rows(sql, [*values, limit, offset]))

    @_reads
    def job_ids(self, where: Filter) -> list[int]:
        """The ids of jobs, newest first. ``where`` as for ``jobs``."""
        terms, values = _of_jobs(where)
        return [id_ for (id_,) in self._rows(f"SELECT id FROM jobs WHERE {terms} ORDER BY id DESC", values)]

    @_reads
    def count_jobs(self, where: Filter) -> int:
        """Number of jobs that fit ``status`` and ``name``."""
        terms, values = _of_jobs(where)
        return int(self._rows(f"SELECT count(*) FROM jobs WHERE {terms}", values)[0][0])

    @_reads
    def request(self, id_: int) -> Request | None:
        """The request with this id; None: there is none."""
        sql = f"SELECT id, doc FROM requests WHERE id = %s AND job NOT IN ({_HIDDEN})"
        found = self._rows(sql, [id_])
        return self._as_requests(found)[0] if found else None

    @_reads
    def sending(self, message: int) -> int | None:
        """The request that was sent again under this message id; None: there is none."""
        found = self._rows("SELECT request FROM sendings WHERE id = %s", [message])
        return int(found[0][0]) if found else None

    @_reads
    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """Requests in the order of their ids. ``where``: ``job``, ``status``, ``destination``."""
        terms, values = _of_requests(where)
        sql = f"SELECT id, doc FROM requests WHERE {terms} ORDER BY id LIMIT %s OFFSET %s"
        return self._as_requests(self._rows(sql, [*values, limit, offset]))

    @_reads
    def request_ids(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
        """The ids of requests, ascending, in 8 bytes each."""
        terms, values = _of_requests(where)
        page = f"SELECT id FROM requests WHERE {terms} ORDER BY id LIMIT %s OFFSET %s"
        sql = f"SELECT string_agg(int8send(id), ''::bytea ORDER BY id) FROM ({page}) AS page"
        cursor = self._connection().execute(sql, [*values, limit, offset], binary=True)
        found = cursor.fetchone()
        ids = array("q", b"" if found is None or found[0] is None else bytes(found[0]))
        if sys.byteorder == "little":
            ids.byteswap()
        return ids

    @_reads
    def requests_within(self, ids: Sequence[int], most_bytes: int) -> tuple[list[Request], int]:
        """The requests of the first of these ascending ids, and how many ids were looked up."""
        rows, taken = self._within("requests", ids, most_bytes)
        return self._as_requests(rows), taken

    @_reads
    def count_requests(self, where: Filter) -> int:
        """Number of requests that fit."""
        if self._fixed and where.keys() == {"status"}:
            status = where["status"]
            counts = self._statuses()
            return sum(counts[one] for one in {*([status] if isinstance(status, str | int) else status)})
        terms, values = _of_requests(where)
        return int(self._rows(f"SELECT count(*) FROM requests WHERE {terms}", values)[0][0])

    def _statuses(self) -> Counter[str | int]:
        """Number of requests by status. No index has it, so the table is read once for all of them."""
        if self._by_status is None:
            sql = f"SELECT status, count(*) FROM requests WHERE job NOT IN ({_HIDDEN}) GROUP BY status"
            self._by_status = Counter(dict(self._rows(sql)))
        return self._by_status

    @_reads
    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """The batch items of these jobs, by their id."""
        sql = f"""
            SELECT items.id, items.doc FROM unnest(%s::bigint[]) AS wanted (id) JOIN jobs USING (id)
            JOIN items ON items.id >= jobs.first AND items.id < jobs.first + jobs.total
            WHERE jobs.id NOT IN ({_HIDDEN}) ORDER BY items.id"""
        return self._as_items(self._rows(sql, [list(jobs)]))

    @_reads
    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """The batch items of these ids."""
        sql = f"SELECT id, doc FROM items WHERE id = ANY(%s) AND job NOT IN ({_HIDDEN}) ORDER BY id"
        return self._as_items(self._rows(sql, [list(ids)]))

    @_reads
    def items_within(self, ids: Sequence[int], most_bytes: int) -> tuple[dict[int, Item], int]:
        """As ``items_by_id``, bounded as ``requests_within``."""
        rows, taken = self._within("items", ids, most_bytes)
        return self._as_items(rows), taken

    def _within(self, table: str, ids: Sequence[int], most_bytes: int) -> tuple[list[Row], int]:
        """Rows of a table with the first of these ids, until their documents have this many bytes."""
        ids = ids[:AT_ONCE]
        sql = f"""
            SELECT id, doc, job IN ({_HIDDEN}), before + octet_length(doc) FROM (
                SELECT id, doc, job, sum(octet_length(doc)) OVER (ORDER BY id) - octet_length(doc) AS before
                FROM {table} WHERE id = ANY(%s)) AS found
            WHERE before < %s ORDER BY id"""
        rows = self._rows(sql, [list(ids), most_bytes])
        full = bool(rows) and rows[-1][3] >= most_bytes
        taken = bisect_right(ids, rows[-1][0]) if full else len(ids)
        return [(id_, doc) for id_, doc, hidden, _ in rows if not hidden], taken

    @_reads
    def gateway_names(self, sought: Sought) -> list[str]:
        """The names of the gateways that fit, in order."""
        required = () if sought.selector is None else sought.selector.requirements
        terms, values = _all_of(map(_of_labels, required))
        rows = self._rows(f"SELECT name FROM gateways WHERE {terms} ORDER BY name", values)
        names = [plain(name) for (name,) in rows]
        return names if sought.match is None else list(filter(glob(sought.match), names))

    @_reads
    def gateways(self, names: Sequence[str]) -> list[Gateway]:
        """The gateways of these names, in order."""
        sql = "SELECT name, doc FROM gateways WHERE name = ANY(%s) ORDER BY name"
        rows = self._rows(sql, [[*map(column, names)]])
        return [made_gateway(name, decode(doc)) for name, doc in rows]

    @_reads
    def owed(self) -> list[Owed]:
        """All that webhooks are owed, by ascending number."""
        rows = self._rows("SELECT id, doc FROM outbox ORDER BY id")
        return [made(Owed.from_document, "notice", id_, decode(doc)) for id_, doc in rows]

    @_reads
    def last_results(self, names: Sequence[str]) -> dict[str, LastResult]:
        """How the newest request of each destination ended, of those that are done."""
        sql = f"""
            SELECT asked.name, last.id, last.doc
            FROM unnest(%s::text[]) AS asked (name), LATERAL (
                SELECT id, doc FROM requests
                WHERE destination = asked.name AND status <> ALL(%s) AND job NOT IN ({_HIDDEN})
                ORDER BY id DESC LIMIT 1) AS last"""
        found: dict[str, LastResult] = {}
        for start in range(0, len(names), RESULTS_AT_ONCE):  # a result may be large
            some = [*map(column, names[start : start + RESULTS_AT_ONCE])]
            rows = self._rows(sql, [some, sorted(OPEN)])
            found |= {plain(name): LastResult.of(id_, decode(doc)) for name, id_, doc in rows}
        return found

    @_reads
    def template(self, id_: int) -> Template | None:
        """The template with this id; None: there is none."""
        return self._as_template(self._rows("SELECT id, doc FROM templates WHERE id = %s", [id_]))

    @_reads
    def template_named(self, name: str) -> Template | None:
        """The template of this name; None: there is none."""
        sql = "SELECT id, doc FROM templates WHERE name = %s ORDER BY id LIMIT 1"
        return self._as_template(self._rows(sql, [column(name)]))

    @_reads
    def template_ids(self) -> Sequence[int]:
        """The ids of all templates, ascending."""
        return [id_ for (id_,) in self._rows("SELECT id FROM templates ORDER BY id")]

    def _as_template(self, rows: Sequence[Row]) -> Template | None:
        found = (made(Template.from_document, "template", id_, decode(doc)) for id_, doc in rows)
        return next(found, None)

    def _as_jobs(self, rows: Iterable[Row]) -> list[Job]:
        return [made(Job.from_document, "job", id_, decode(doc)) for id_, doc in rows]

    def _as_items(self, rows: Iterable[Row]) -> dict[int, Item]:
        return {id_: made(Item.from_document, "item", id_, decode(doc)) for id_, doc in rows}

    def _as_requests(self, rows: Iterable[Row]) -> list[Request]:
        return [made(Request.from_document, "request", id_, decode(doc)) for id_, doc in rows]


def _all_of(terms: Iterable[Terms]) -> Terms:
    """A condition of which each part must hold."""
    terms = list(terms)
    values = [value for _, some in terms for value in some]
    return " AND ".join(sql for sql, _ in terms) or "true", values


def _one_of(field: str, wanted: Any) -> Terms:
    wanted = [wanted] if isinstance(wanted, str | int) else wanted
    texts = [column(one) if isinstance(one, str) else one for one in wanted]
    return f"{field} = ANY(%s)", [texts]


def _of_jobs(where: Filter) -> Terms:
    return _all_of(_JOBS[field](field, wanted) for field, wanted in where.items())


def _failed(_: str, wanted: Any) -> Terms:
    return "failed = %s", [bool(wanted)]


def _destined(_: str, wanted: Any) -> Terms:
    there, values = _one_of("destination", wanted)
    return f"id IN (SELECT job FROM requests WHERE {there})", values


def _saying(_: str, wanted: Any) -> Terms:
    text = str(wanted)
    if "\0" in text:  # as in the file, where it cannot be looked for
        return "false", []
    text = column(text) if text else ""
    parts = ["strpos(id::text, %s) > 0"]
    parts += [f'strpos(lower({field}), lower(%s COLLATE "C")) > 0' for field in ("name", "key")]
    parts.append('id IN (SELECT job FROM items WHERE strpos(lower(resource), lower(%s COLLATE "C")) > 0)')
    return f"({' OR '.join(parts)})", [text] * 4


_JOBS: dict[str, Callable[[str, Any], Terms]] = {
    "status": _one_of,
    "name": _one_of,
    "template": _one_of,
    "failed": _failed,
    "destination": _destined,
    "text": _saying,
}


def _of_requests(where: Filter) -> Terms:
    """The condition on requests. Those of one job are a range of ids, which needs no index of its own."""
    terms: list[Terms] = [(f"job NOT IN ({_HIDDEN})", [])]
    job = where.get("job")
    if isinstance(job, int):
        first, beyond = (f"(SELECT {what} FROM jobs WHERE id = %s)" for what in ("first", "first + total"))
        terms.append((f"id >= {first} AND id < {beyond}", [job, job]))
    return _all_of([*terms, *(_one_of(field, wanted) for field, wanted in where.items())])


def _of_labels(required: Requirement) -> Terms:
    """What a selector requires of a label, as a condition on gateways."""
    key, values = column(required.key), [*map(column, required.values)]
    match required.operator:
        case Operator.IN:
            return "labels ->> %s = ANY(%s)", [key, values]
        case Operator.NOT_IN:
            return "coalesce(labels ->> %s <> ALL(%s), true)", [key, values]
        case Operator.PRESENT:
            return "labels ->> %s IS NOT NULL", [key]
        case Operator.ABSENT:
            return "labels ->> %s IS NULL", [key]
