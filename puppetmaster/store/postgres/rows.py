# ruff: noqa: S608 - the names in the SQL are this package's own; values are parameters
"""What a turn writes: the changes of a commit as calls of prepared statements.

The values of a column travel as one text, a value a line: PostgreSQL takes that apart faster than psycopg
puts an array together.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.model.gateway import Gateway
from puppetmaster.model.job import Job
from puppetmaster.model.request import FAILURES, OPEN, Item, Request, RequestStatus
from puppetmaster.model.template import Template
from puppetmaster.store.base import REQUEST_BYTES, Changes, Ids
from puppetmaster.store.postgres.connection import Call, Statement
from puppetmaster.store.postgres.schema import CLUSTER

decode = json.JSONDecoder().decode

#: Number of requests of removed jobs that are deleted at once.
SWEEP = 500
#: Number of requests that are written at once: the server writes them while the next are put into text.
TOGETHER = 35

#: In a column PostgreSQL takes no NUL and no lone surrogate, and lines have other uses here. These stand for
#: them, and the last one for an empty text. The documents have them as they were written.
_PRIVATE = 0x10F000
_EMPTY = chr(_PRIVATE)
_ODD = {code: _PRIVATE + 1 + code for code in (0, 1, 10)} | {
    code: _PRIVATE + 0x100 + code - 0xD800 for code in range(0xD800, 0xE000)
}
_PLAIN = {stands: code for code, stands in _ODD.items()} | {_PRIVATE: None}
#: Stands for null in a list of values.
_NULL = "\x01"


def column(text: str) -> str:
    """A text as it is kept in a column."""
    if text.isprintable() and text:
        return text
    return text.translate(_ODD) or _EMPTY


def plain(kept: str) -> str:
    """The text that ``column`` was given."""
    return kept if kept.isprintable() else kept.translate(_PLAIN)


def _lines(values: Iterable[Any]) -> str:
    return "\n".join([_NULL if value is None else str(value) for value in values])


def _columns(*types: str) -> str:
    """Columns of parameters from $1 on, each a text with a line for each row."""
    taken = (f"string_to_array(${n}, E'\\n', E'\\x01')::{type_}[]" for n, type_ in enumerate(types, 1))
    return f"unnest({', '.join(taken)})"


def _upsert(table: str, columns: Mapping[str, str], changed: Sequence[str], besides: str = "") -> Statement:
    """Insert rows, or change some columns of the rows that are there."""
    sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
    return Statement(
        f"put_{table}",
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM {_columns(*columns.values())} "
        f"ON CONFLICT ({next(iter(columns))}) DO UPDATE SET {sets}{besides}",
    )


#: The first of each turn: fails unless we lead still and the turn comes after the last one. In
#: docs/model/takeover.pml these are ``fenced`` and ``follows``; there a claim leaves no number out.
FENCE = Statement(
    "fence",
    """WITH fence AS (
        UPDATE buses SET turn = $3::bigint, next_job = $4::bigint, next_request = $5::bigint,
            next_template = $7::bigint, lease_until = now() + make_interval(secs => $6::float8)
        WHERE id = $1::int AND epoch = $2::bigint AND turn < $3::bigint RETURNING 1
    ) SELECT 1 / count(*) FROM fence""",
)
REQUESTS = _upsert(
    "requests",
    {
        "id": "bigint",
        "job": "bigint",
        "destination": "text",
        "status": "text",
        "doc": "text",
    },
    ("status", "doc"),
)
_IDS = r"string_to_array($1, E'\n')::bigint[]"
#: Requests that are there -> one status and their documents; fails unless all are there. It takes a quarter
#: less of the server's time than REQUESTS. It is no join: the plan of a join suits one size of a table.
CHANGED = Statement(
    "change_requests",
    rf"""WITH changed AS (
        UPDATE requests SET status = $2::text,
            doc = (SELECT string_to_array($3, E'\n'))[array_position((SELECT {_IDS}), id)]
        WHERE id = ANY({_IDS}) RETURNING 1
    ) SELECT sqrt(count(*) - $4::int) FROM changed""",
)
ITEMS = _upsert(
    "items", {"id": "bigint", "job": "bigint", "resource": "text", "doc": "text"}, ("job", "resource", "doc")
)
_JOB = {
    "id": "bigint",
    "first": "bigint",
    "total": "bigint",
    "status": "text",
    "name": "text",
    "key": "text",
    "finished_at": "text",
    "ended_boot": "text",
    "ended_s": "float8",
    "failed": "boolean",
    "large": "bigint",
    "template": "bigint",
    "doc": "text",
}
JOBS = _upsert(
    "jobs",
    _JOB,
    [name for name in _JOB if name not in ("id", "large")],
    ", large = jobs.large + excluded.large",
)
SENDINGS = _upsert("sendings", {"id": "bigint", "request": "bigint", "job": "bigint"}, ("request", "job"))
TRASH = _upsert(
    "trash",
    {"id": "bigint", "first": "bigint", "total": "bigint", "draft": "boolean"},
    ("first", "total", "draft"),
)
GATEWAYS = _upsert("gateways", {"name": "text", "labels": "jsonb", "doc": "text"}, ("labels", "doc"))
OUTBOX = _upsert("outbox", {"id": "bigint", "doc": "text"}, ("doc",))
#: A copy tells nothing that its original owes.
NOTHING_OWED = Statement("clear_outbox", "DELETE FROM outbox")
TEMPLATES = _upsert("templates", {"id": "bigint", "name": "text", "doc": "text"}, ("name", "doc"))
#: Gateways that were discovered, and are named now, are as others. It is the last field of a document.
NAMED = Statement(
    "name",
    f"""UPDATE gateways SET doc = left(doc, -length(field)) || '}}'
    FROM {_columns("text")} AS given (name), (VALUES (',"discovered":true}}')) AS discovered (field)
    WHERE gateways.name = given.name AND right(doc, length(field)) = field""",
)
#: Names -> gateways, as long as there are fewer than $3; gateways that are known stay as they are.
LEARNED = Statement(
    "learn",
    f"""WITH fresh AS MATERIALIZED (
        SELECT given.name, given.doc FROM {_columns("text", "text")} AS given (name, doc)
        WHERE NOT EXISTS (SELECT FROM gateways WHERE gateways.name = given.name)
    ) INSERT INTO gateways SELECT name, '{{}}', doc FROM fresh ORDER BY name COLLATE "C"
    LIMIT CASE WHEN EXISTS (SELECT FROM fresh)
        THEN greatest($3::bigint - (SELECT count(*) FROM gateways), 0) ELSE 0 END""",
)
FORGOTTEN = Statement(
    "forget",
    f"DELETE FROM gateways USING {_columns('text')} AS gone (name) WHERE gateways.name = gone.name",
)


def _delete(table: str, by: str = "id") -> Statement:
    return Statement(
        f"delete_{table}_by_{by}",
        f"DELETE FROM {table} USING {_columns('bigint')} AS gone (value) WHERE {table}.{by} = gone.value",
    )


def _delete_ranges(table: str) -> Statement:
    return Statement(
        f"delete_{table}",
        f"DELETE FROM {table} USING {_columns('bigint', 'bigint')} AS gone (first, beyond) "
        f"WHERE {table}.id >= gone.first AND {table}.id < gone.beyond",
    )


NO_JOBS, NO_TRASH, NO_SENDINGS = _delete("jobs"), _delete("trash"), _delete("sendings")
NO_OUTBOX = _delete("outbox")
NO_TEMPLATES = _delete("templates")
NO_SENDINGS_OF = _delete("sendings", "job")
NO_REQUESTS, NO_ITEMS = _delete_ranges("requests"), _delete_ranges("items")
#: Takes back what was made in a turn that is not to be: whatever has an id that was not given out.
UNDONE = tuple(
    Statement(f"undo_{table}", f"DELETE FROM {table} WHERE id >= $1::bigint")
    for table in ("jobs", "trash", "items", "requests", "sendings")
)
#: Drafts of an earlier process will never exist.
ABANDONED = Statement("abandon", "UPDATE trash SET draft = false WHERE draft")
#: The tables are no copy from now on.
OWNED = Statement("own", f"UPDATE meta SET cluster = ({CLUSTER})")
#: An installation goes on with these tables.
INSTALLATION = Statement("install", "UPDATE meta SET installation = $1::text")


#: What a connection of a writer has to know.
STATEMENTS = (*(one for one in list(globals().values()) if isinstance(one, Statement)), *UNDONE)


def calls_of(changes: Changes, most_learned: int, known: int = 0) -> Iterator[Call]:
    """The calls that write these changes. Raises what a document raises that cannot be made.

    A request below the id ``known`` that does not look new is changed, which fails if it is not there.
    """
    large: Counter[int] = Counter()
    yield from _trash(changes.drafts.values(), draft=True)
    yield from _trash(changes.abandoned.values(), draft=False)
    if changes.completed:
        yield NO_TRASH, [_lines(changes.completed)]
    if changes.items:
        yield items(changes.items.values(), large)
    yield from _requests(changes.requests.values(), large, known)
    if changes.jobs:
        yield jobs(changes.jobs.values(), large)
    if changes.refused:
        yield NO_SENDINGS, [_lines(changes.refused)]
    if changes.sendings:
        yield sendings((id_, one.id, one.job) for id_, one in changes.sendings.items())
    yield from _removed(changes.deleted.values())
    yield from _gateways(changes, most_learned)
    yield from _outbox(changes)
    if changes.removed_templates:
        yield NO_TEMPLATES, [_lines(changes.removed_templates)]
    if changes.templates:
        yield templates(changes.templates.values())


def _requests(some: Iterable[Request], large: Counter[int], known: int) -> Iterator[Call]:
    """Put requests, as ``calls_of`` says."""
    fresh: list[Request] = []
    changed: dict[str, list[Request]] = defaultdict(list)
    for one in some:
        there = one.id < known and (one.attempts or one.status is not RequestStatus.PENDING)
        (changed[one.status.value] if there else fresh).append(one)
    for part in _parts(fresh):
        yield requests(part, large)
    for status, those in changed.items():
        for part in _parts(those):
            documents = _lines(_document(one, large) for one in part)
            yield CHANGED, [_lines(one.id for one in part), status, documents, str(len(part))]


def _parts(some: Sequence[Request]) -> Iterator[Sequence[Request]]:
    return (some[begin : begin + TOGETHER] for begin in range(0, len(some), TOGETHER))


def _document(one: Request, large: Counter[int]) -> str:
    """The document of a request. ``large`` counts the bytes of the large ones that are done, by job."""
    doc = jsoncodec.text(one.document())
    if len(doc) > REQUEST_BYTES and one.status not in OPEN:
        large[one.job] += len(doc) - REQUEST_BYTES
    return doc


def requests(some: Iterable[Request], large: Counter[int]) -> Call:
    """Put requests. ``large`` counts, by job, the bytes of the large requests that are done."""
    ids, of, destinations, statuses, docs = [], [], [], [], []
    for one in some:
        ids.append(str(one.id))
        of.append(str(one.job))
        destinations.append(column(one.destination))
        statuses.append(one.status.value)
        docs.append(_document(one, large))
    return REQUESTS, ["\n".join(values) for values in (ids, of, destinations, statuses, docs)]


def items(some: Iterable[Item], large: Counter[int]) -> Call:
    """Put items. ``large`` is as for requests."""
    rows = []
    for one in some:
        doc = jsoncodec.text(one.document())
        large[one.job] += max(len(doc) - REQUEST_BYTES, 0)
        rows.append((one.id, one.job, _column(one.resource), doc))
    return ITEMS, _turned(rows)


def jobs(some: Iterable[Job], large: Mapping[int, int]) -> Call:
    """Put jobs. ``large`` has the bytes that come to those of each."""
    rows = []
    for one in some:
        document = one.document()
        failed = any(map(document["counts"].get, FAILURES))
        ended = (document["finishedAt"], document["endedBoot"], document["ended"])
        names = (_column(document["name"]), _column(document["key"]))
        marks = (one.id, one.first, one.total, document["status"])
        more = (failed, large.get(one.id, 0), one.template, jsoncodec.text(document))
        rows.append((*marks, *names, *ended, *more))
    return JOBS, _turned(rows)


def sendings(some: Iterable[tuple[int, int, int]]) -> Call:
    """Put sendings: the message's id, the request, its job."""
    return SENDINGS, _turned(some)


def gateways(some: Iterable[Gateway]) -> Call:
    """Put gateways."""
    rows = []
    for one in some:
        document = one.document()
        labels = {column(key): column(value) for key, value in one.labels.items()}
        rows.append((column(one.name), jsoncodec.text(labels), jsoncodec.text(document)))
    return GATEWAYS, _turned(rows)


def templates(some: Iterable[Template]) -> Call:
    """Put templates."""
    return TEMPLATES, _turned((one.id, column(one.name), jsoncodec.text(one.document())) for one in some)


def swept(job: int, first: int, total: int) -> list[Call]:
    """Remove the next requests of a removed job, and the job from the trash after the last ones."""
    part = min(total, SWEEP)
    gone: list[Call] = _deleted([range(first, first + part)])
    if part < total:
        return [*gone, (TRASH, _turned([(job, first + part, total - part, False)]))]
    return [*gone, (NO_TRASH, [str(job)])]


def undone(ids: Ids) -> list[Call]:
    """Remove all that has an id from these on."""
    jobs, trash, *others = UNDONE
    first = [str(ids.next_request)]
    return [*((one, [str(ids.next_job)]) for one in (jobs, trash)), *((one, first) for one in others)]


def _column(text: str | None) -> str | None:
    return None if text is None else column(text)


def _turned(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Rows as columns."""
    return [_lines(values) for values in zip(*rows, strict=True)]


def _trash(some: Iterable[Job], *, draft: bool) -> Iterator[Call]:
    rows = [(job.id, job.first, job.total, draft) for job in some]
    if rows:
        yield TRASH, _turned(rows)


def _removed(deleted: Collection[Job]) -> Iterator[Call]:
    """Remove jobs: with their requests if they are few; of others the sweep removes them."""
    if not deleted:
        return
    ids = [_lines(job.id for job in deleted)]
    yield NO_JOBS, ids
    yield NO_SENDINGS_OF, ids
    room, ranges, rest = SWEEP, [], []
    for job in deleted:
        if job.total <= room:
            room -= job.total
            ranges.append(job.request_ids)
        else:
            rest.append(job)
    if ranges:
        yield from _deleted(ranges)
    yield from _trash(rest, draft=False)


def _deleted(ranges: Sequence[range]) -> list[Call]:
    values = [_lines(one.start for one in ranges), _lines(one.stop for one in ranges)]
    return [(NO_REQUESTS, values), (NO_ITEMS, values)]


def _outbox(changes: Changes) -> Iterator[Call]:
    if changes.owed:
        yield OUTBOX, _turned((id_, jsoncodec.text(one.document())) for id_, one in changes.owed.items())
    if changes.told:
        yield NO_OUTBOX, [_lines(changes.told)]


def _gateways(changes: Changes, most: int) -> Iterator[Call]:
    if changes.forgotten:
        yield FORGOTTEN, [_lines(map(column, changes.forgotten))]
    if changes.gateways:
        yield gateways(changes.gateways.values())
    if learned := sorted(changes.to_learn - changes.gateways.keys()):
        rows = [(column(name), jsoncodec.text(Gateway(name=name).document())) for name in learned]
        names, documents = _turned(rows)
        yield NAMED, [names]
        yield LEARNED, [names, documents, str(most)]
