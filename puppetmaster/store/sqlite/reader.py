"""Look-ups in the store: jobs, requests and items, by id, by filter, in pages.

What was thrown away and is still being removed (table ``trash``) is nowhere to be seen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from puppetmaster.errors import StoreError
from puppetmaster.model.job import Job
from puppetmaster.model.request import Item, Request, RequestStatus
from puppetmaster.store.sqlite.documents import Contains, Except, SqliteTinyDB, Where

T = TypeVar("T")
Filter = Mapping[str, str | int | Sequence[str]]

STATUSES = [status.value for status in RequestStatus]


class Reader:
    """One connection to the file, used by one thread at a time."""

    def __init__(self, db: SqliteTinyDB) -> None:
        self._db = db
        self._jobs, self._items = db.table("jobs"), db.table("items")
        self._requests, self._sendings = db.table("requests"), db.table("sendings")
        self._trash = db.table("trash")

    def job(self, id_: int) -> Job | None:
        """The job of this id, or None."""
        document = self._jobs.get(doc_id=id_)
        return _made(Job.from_document, "job", id_, document) if document is not None else None

    def job_by_key(self, key: str) -> Job | None:
        """The job that was created with this idempotency key, or None."""
        return next(iter(self._as_jobs(self._jobs.select({"key": key}, limit=1))), None)

    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """Jobs, newest first. ``where``: ``status``, ``name``, ``destination``, ``text``."""
        plain = {field: value for field, value in where.items() if field in ("status", "name")}
        if len(plain) == len(where):
            return self._as_jobs(self._jobs.select(where, order="desc", limit=limit, offset=offset))
        page = self.job_ids(where)[offset : None if limit is None else offset + limit]
        return self._as_jobs(self._jobs.get(doc_ids=page))[::-1]

    def job_ids(self, where: Filter) -> list[int]:
        """The ids of jobs, newest first. ``where`` as for ``jobs``."""
        plain = {field: value for field, value in where.items() if field in ("status", "name")}
        ids = self._jobs.ids(plain)[::-1]
        if "destination" in where:
            there = self._still({"destination": where["destination"]})
            jobs = {job for _, job in self._requests.values(("job",), there)}
            ids = [id_ for id_ in ids if id_ in jobs]
        if "text" in where:
            ids = self._with_text(ids, str(where["text"]))
        return ids

    def _with_text(self, ids: list[int], text: str) -> list[int]:
        """Those of these jobs whose id, name, key, or the resource of an item contains a text."""
        if "\0" in text:  # for SQLite it would end there
            return []
        part = Contains(text)
        found = {*self._jobs.ids({"name": part}), *self._jobs.ids({"key": part})}
        found |= {job for _, job in self._items.values(("job",), {"resource": part})}
        return [id_ for id_ in ids if id_ in found or text in str(id_)]

    def request(self, id_: int) -> Request | None:
        """The request of this id, or None."""
        return next(iter(self.requests_by_id([id_])), None)

    def sending(self, message: int) -> int | None:
        """The request that went out under this message id, which is not its own; None: there is none."""
        document = self._sendings.get(doc_id=message)
        return None if document is None else int(document["request"])

    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """Requests in the order of their ids. ``where``: ``job``, ``status``, ``destination``."""
        return self._as_requests(self._requests.select(self._still(where), limit=limit, offset=offset))

    def request_ids(self, where: Filter) -> list[int]:
        """The ids of requests, ascending. ``where`` as for ``requests``."""
        return self._requests.ids(self._still(where))

    def every_request_id(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
        """As ``request_ids``, in 8 bytes each: there may be a million. Only in a snapshot."""
        return self._requests.id_array(self._still(where), limit=limit, offset=offset)

    def requests_within(self, ids: Sequence[int], most_bytes: int) -> tuple[list[Request], int]:
        """As ``requests_by_id``, of the first of these ascending ids, until they have so many bytes.

        With them comes how many of the ids they are the answer for. Only in a snapshot.
        """
        documents, taken = self._requests.within(ids, most_bytes)
        thrown = self._trash.ids() if documents else []
        return [one for one in self._as_requests(documents) if one.job not in thrown], taken

    def requests_by_id(self, ids: Iterable[int]) -> list[Request]:
        """The requests of these ids, ascending; ids that nothing has are skipped."""
        found = self._as_requests(self._requests.get(doc_ids=list(ids)))
        thrown = self._trash.ids() if found else []
        return [request for request in found if request.job not in thrown]

    def count_requests(self, where: Filter) -> int:
        """How many requests fit."""
        return self._requests.count_where(self._still(where))

    def count_jobs(self, where: Filter) -> int:
        """How many jobs fit ``status`` and ``name``."""
        return self._jobs.count_where(where)

    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """The batch items of these jobs, by their id."""
        thrown = self._trash.ids()
        ids = [id_ for id_ in jobs if id_ not in thrown]
        documents = self._items.select({"job": ids}) if ids else []
        return self._as_items(documents)

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """The batch items of these ids."""
        documents = self._items.get(doc_ids=list(ids))
        return self._as_items(documents)

    def items_within(self, ids: Sequence[int], most_bytes: int) -> tuple[dict[int, Item], int]:
        """As ``items_by_id``; the rest as ``requests_within``."""
        documents, taken = self._items.within(ids, most_bytes)
        return self._as_items(documents), taken

    @contextmanager
    def snapshot(self) -> Iterator["Reader"]:
        """Read one state of the file throughout."""
        with self._db.transaction():
            yield self

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _still(self, where: Filter) -> Where:
        """The condition without what was thrown away; one of a job names a status too, as the index does."""
        thrown = self._trash.ids()
        if "job" not in where:
            return {**where, "job": Except(thrown)} if thrown else where
        if where["job"] in thrown:
            return {**where, "job": []}
        return where if "status" in where else {**where, "status": STATUSES}

    def _as_jobs(self, documents: Iterable[Any]) -> list[Job]:
        return [_made(Job.from_document, "job", document.doc_id, document) for document in documents]

    def _as_items(self, documents: Iterable[Any]) -> dict[int, Item]:
        return {one.doc_id: _made(Item.from_document, "item", one.doc_id, one) for one in documents}

    def _as_requests(self, documents: Iterable[Any]) -> list[Request]:
        return [_made(Request.from_document, "request", document.doc_id, document) for document in documents]


def _made(make: Callable[[int, Any], T], what: str, id_: int, document: Any) -> T:
    """The thing that a document is of. Raises StoreError when it is none: somebody has changed it."""
    try:
        return make(id_, document)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StoreError(
            f"The store's {what} {id_} cannot be read ({type(error).__name__}: {error}): it was changed; "
            "put a copy of an earlier day or an import in its place."
        ) from error
