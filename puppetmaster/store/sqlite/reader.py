"""Look-ups in the file: jobs, requests and items, by id, by filter, in pages.

Jobs in the table ``trash``, whose requests are still being removed or written, are not seen.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway, Sought, glob
from puppetmaster.model.job import Job
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import FAILURES, OPEN, Item, Request, RequestStatus
from puppetmaster.model.selector import Operator, Requirement
from puppetmaster.model.template import Template
from puppetmaster.store.base import PLAIN, Filter, LastResult, Reader, made, made_gateway
from puppetmaster.store.sqlite.documents import Contains, Except, Fields, Present, SqliteTinyDB, Where

T = TypeVar("T")
P = ParamSpec("P")

#: What a ``LastResult`` has after its id.
LAST = ("status", "result.code", "finishedAt", "result.source")
STATUSES = [status.value for status in RequestStatus]


#: What SQLite, the disk and damaged JSON raise.
FOREIGN = (sqlite3.Error, OSError, json.JSONDecodeError)


@contextmanager
def as_store_error(what: str) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into StoreError: "<what>: <why>."."""
    try:
        yield
    except FOREIGN as error:
        raise _said(what, error) from error


def _said(what: str, error: Exception) -> StoreError:
    return StoreError(f"{what}: {str(error).rstrip('.')}.")


def _reads(
    verb: Callable[Concatenate["SqliteReader", P], T],
) -> Callable[Concatenate["SqliteReader", P], T]:
    """Let a verb raise StoreError when the file cannot be read."""

    @wraps(verb)
    def reading(self: "SqliteReader", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:  # not as_store_error, which costs as much as a look-up
            return verb(self, *args, **kwargs)
        except FOREIGN as error:
            raise _said(f"{self.path} cannot be read", error) from error

    return reading


class SqliteReader(Reader):
    """A connection to the file. One thread uses it at a time. See ``store.base.Reader`` for the verbs."""

    def __init__(self, db: SqliteTinyDB, path: Path) -> None:
        self.path = path
        self._db = db
        self._jobs, self._items = db.table("jobs"), db.table("items")
        self._requests, self._sendings = db.table("requests"), db.table("sendings")
        self._trash, self._gateways = db.table("trash"), db.table("gateways")
        self._outbox = db.table("outbox")
        self._templates = db.table("templates")

    @_reads
    def job(self, id_: int) -> Job | None:
        """The job with this id; None: there is none."""
        document = self._jobs.get(doc_id=id_)
        return made(Job.from_document, "job", id_, document) if document is not None else None

    @_reads
    def job_by_key(self, key: str) -> Job | None:
        """The job with this idempotency key; None: there is none."""
        document = self._jobs.get(Fields(key=key))
        return None if document is None else made(Job.from_document, "job", document.doc_id, document)

    @_reads
    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """Jobs, newest first. ``where`` as in the port."""
        plain = {field: value for field, value in where.items() if field in PLAIN}
        if len(plain) == len(where):
            return self._as_jobs(self._jobs.page(where, order="desc", limit=limit, offset=offset))
        page = self.job_ids(where)[offset : None if limit is None else offset + limit]
        return self._as_jobs(self._jobs.get(doc_ids=page))[::-1]

    @_reads
    def job_ids(self, where: Filter) -> list[int]:
        """The ids of jobs, newest first. ``where`` as for ``jobs``."""
        plain = {field: value for field, value in where.items() if field in PLAIN}
        ids = self._jobs.ids(plain).tolist()[::-1]
        if "failed" in where:
            failed = self._with_failures()
            ids = [id_ for id_ in ids if (id_ in failed) is where["failed"]]
        if "destination" in where:
            there = self._still({"destination": where["destination"]})
            jobs = {job for _, job in self._requests.values(("job",), there)}
            ids = [id_ for id_ in ids if id_ in jobs]
        if "text" in where:
            ids = self._with_text(ids, str(where["text"]))
        return ids

    def _with_failures(self) -> set[int]:
        """The jobs that have a request which failed, as their counts say."""
        found = self._jobs.values(("counts",), {})
        return {id_ for id_, counts in found if any(map(json.loads(counts).get, FAILURES))}

    def _with_text(self, ids: list[int], text: str) -> list[int]:
        """Those of these jobs whose id, name, key, or the resource of an item contains a text."""
        if "\0" in text:  # SQLite would end the text there
            return []
        part = Contains(text)
        found = {*self._jobs.ids({"name": part}), *self._jobs.ids({"key": part})}
        found |= {job for _, job in self._items.values(("job",), {"resource": part})}
        return [id_ for id_ in ids if id_ in found or text in str(id_)]

    @_reads
    def request(self, id_: int) -> Request | None:
        """The request with this id; None: there is none."""
        document = self._requests.get(doc_id=id_)
        found = None if document is None else made(Request.from_document, "request", id_, document)
        return None if found is None or found.job in self._trash.ids() else found

    @_reads
    def sending(self, message: int) -> int | None:
        """The request that was sent again under this message id; None: there is none."""
        document = self._sendings.get(doc_id=message)
        return None if document is None else int(document["request"])

    @_reads
    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """Requests in the order of their ids. ``where``: ``job``, ``status``, ``destination``."""
        return self._as_requests(self._requests.page(self._still(where), limit=limit, offset=offset))

    @_reads
    def request_ids(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
        """The ids of requests, ascending, in 8 bytes each."""
        return self._requests.ids(self._still(where), limit=limit, offset=offset)

    @_reads
    def requests_within(self, ids: Sequence[int], most_bytes: int) -> tuple[list[Request], int]:
        """The requests of the first of these ascending ids, and how many ids were looked up."""
        documents, taken = self._requests.within(ids, most_bytes)
        thrown = self._trash.ids()
        return [one for one in self._as_requests(documents) if one.job not in thrown], taken

    @_reads
    def count_requests(self, where: Filter) -> int:
        """Number of requests that fit."""
        return self._requests.count(Fields(self._still(where)))

    @_reads
    def count_jobs(self, where: Filter) -> int:
        """Number of jobs that fit ``status`` and ``name``."""
        return self._jobs.count(Fields(where))

    @_reads
    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """The batch items of these jobs, by their id."""
        thrown = self._trash.ids()
        ids = [id_ for id_ in jobs if id_ not in thrown]
        return self._as_items(self._items.search(Fields(job=ids)) if ids else [])

    @_reads
    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """The batch items of these ids."""
        return self._still_there(self._items.get(doc_ids=list(ids)))

    @_reads
    def items_within(self, ids: Sequence[int], most_bytes: int) -> tuple[dict[int, Item], int]:
        """As ``items_by_id``, bounded as ``requests_within``."""
        documents, taken = self._items.within(ids, most_bytes)
        return self._still_there(documents), taken

    @_reads
    def gateway_names(self, sought: Sought) -> list[str]:
        """The names of the gateways that fit, in order."""
        required = () if sought.selector is None else sought.selector.requirements
        names = self._gateways.distinct("name", map(_condition, required))
        return names if sought.match is None else list(filter(glob(sought.match), names))

    @_reads
    def gateways(self, names: Sequence[str]) -> list[Gateway]:
        """The gateways of these names, in order."""
        found = self._gateways.search(Fields(name=list(names)))
        made = [made_gateway(one.doc_id, one) for one in found]
        return sorted(made, key=lambda one: one.name)

    @_reads
    def last_results(self, names: Sequence[str]) -> dict[str, LastResult]:
        """How the newest request of each destination ended, of those that are done."""
        done: Where = {"status": Except(sorted(OPEN))}
        if thrown := self._trash.ids():
            done = {**done, "job": Except(thrown)}
        found = {}
        for name in names:
            last = self._requests.last_values(LAST, {"destination": name, **done})
            if last is not None:
                found[name] = LastResult(*last)
        return found

    @_reads
    def owed(self) -> list[Owed]:
        """All that webhooks are owed, by ascending number."""
        return [made(Owed.from_document, "notice", one.doc_id, one) for one in self._outbox.all()]

    @_reads
    def template(self, id_: int) -> Template | None:
        """The template with this id; None: there is none."""
        return self._as_template(self._templates.get(doc_id=id_))

    @_reads
    def template_named(self, name: str) -> Template | None:
        """The template of this name; None: there is none."""
        return self._as_template(self._templates.get(Fields(name=name)))

    @_reads
    def template_ids(self) -> Sequence[int]:
        """The ids of all templates, ascending."""
        return self._templates.ids()

    @contextmanager
    def snapshot(self) -> Iterator["SqliteReader"]:
        """Let all look-ups inside see one state of the file."""
        with self._db.transaction():
            yield self

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _still(self, where: Filter) -> Where:
        """The condition without jobs in ``trash``. A job gets a status too, as the index has both."""
        thrown = self._trash.ids()
        if "job" not in where:
            return {**where, "job": Except(thrown)} if thrown else where
        if where["job"] in thrown:
            return {**where, "job": []}
        return where if "status" in where else {**where, "status": STATUSES}

    def _as_jobs(self, documents: Iterable[Any]) -> list[Job]:
        return [made(Job.from_document, "job", document.doc_id, document) for document in documents]

    def _as_template(self, document: Any) -> Template | None:
        if document is None:
            return None
        return made(Template.from_document, "template", document.doc_id, document)

    def _as_items(self, documents: Iterable[Any]) -> dict[int, Item]:
        return {one.doc_id: made(Item.from_document, "item", one.doc_id, one) for one in documents}

    def _still_there(self, documents: Sequence[Any]) -> dict[int, Item]:
        thrown = self._trash.ids()
        return {id_: item for id_, item in self._as_items(documents).items() if item.job not in thrown}

    def _as_requests(self, documents: Iterable[Any]) -> list[Request]:
        return [made(Request.from_document, "request", document.doc_id, document) for document in documents]


def _condition(required: Requirement) -> Where:
    """What a selector requires of a label, as a condition on the documents of gateways."""
    wanted = {
        Operator.IN: list(required.values),
        Operator.NOT_IN: Except(required.values),
        Operator.PRESENT: Present(),
        Operator.ABSENT: None,
    }
    return {f"labels.{required.key}": wanted[required.operator]}
