"""A store in memory, as good as a file while its process lives: for the simulator and for tests.

It keeps every job, item and request as its document, through JSON and back, as a file would.
"""

import json
import threading
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway, Sought, glob
from puppetmaster.model.job import FINAL, Job
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import FAILURES, OPEN, Item, Request
from puppetmaster.model.template import Template
from puppetmaster.store.base import (
    FIELDS,
    MOST_LEARNED,
    PLAIN,
    REQUEST_BYTES,
    Changes,
    Ended,
    Filter,
    Ids,
    LastResult,
    Look,
    Reader,
    Store,
    first_request_id,
)

CLOSED, FULL = "The store in memory is closed.", "The disk is full."

T = TypeVar("T")
Document = dict[str, Any]
Documents = dict[int, Document]


@dataclass(frozen=True, slots=True)
class Tables:
    """Documents by id. ``drafts`` has the requests of jobs that do not exist yet."""

    ids: Ids
    jobs: Documents = field(default_factory=dict)
    items: Documents = field(default_factory=dict)
    requests: Documents = field(default_factory=dict)
    sendings: dict[int, tuple[int, int]] = field(default_factory=dict)
    drafts: dict[int, range] = field(default_factory=dict)
    gateways: dict[str, Document] = field(default_factory=dict)
    outbox: Documents = field(default_factory=dict)
    templates: Documents = field(default_factory=dict)

    def copy(self) -> "Tables":
        """A copy of the tables, with the same documents."""
        return Tables(**{one.name: _copied(getattr(self, one.name)) for one in fields(self)})


class Memory:
    """What remains of a store that is closed, as a file does."""

    def __init__(self) -> None:
        self.installation = uuid.uuid4().hex[:16]
        self.tables = Tables(Ids(next_request=first_request_id()))
        self._lock = threading.Lock()
        #: Whether a reader has these tables. Then a change makes a copy first.
        self._seen = False

    def seen(self) -> Tables:
        """The tables as they are now. They do not change any more."""
        with self._lock:
            self._seen = True
            return self.tables

    def change(self, change: Callable[[Tables], None]) -> None:
        """Change the tables. Readers that have them do not see the change."""
        with self._lock:
            if self._seen:
                self.tables, self._seen = self.tables.copy(), False
            change(self.tables)


class MemoryReader(Reader):
    """Look-ups in tables. With a filter each document is looked at."""

    def __init__(self, tables: Callable[[], Tables]) -> None:
        self._tables = tables

    def job(self, id_: int) -> Job | None:
        """The job with this id; None: there is none."""
        return _made(Job.from_document, id_, self._tables().jobs)

    def job_by_key(self, key: str) -> Job | None:
        """The job with this idempotency key; None: there is none."""
        jobs = self._tables().jobs
        return next((self.job(id_) for id_ in sorted(jobs) if jobs[id_].get("key") == key), None)

    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """Jobs, newest first."""
        jobs = self._tables().jobs
        page = _page(self.job_ids(where), limit, offset)
        return [Job.from_document(id_, jobs[id_]) for id_ in page]

    def job_ids(self, where: Filter) -> Sequence[int]:
        """The ids of jobs, newest first."""
        tables = self._tables()
        plain = {name: value for name, value in where.items() if name in PLAIN}
        ids = _fitting(tables.jobs, plain)[::-1]
        if "failed" in where:
            counts = {id_: tables.jobs[id_]["counts"] for id_ in ids}
            ids = [id_ for id_ in ids if any(map(counts[id_].get, FAILURES)) is where["failed"]]
        if "destination" in where:
            there = self.request_ids({"destination": where["destination"]})
            jobs = {tables.requests[id_]["job"] for id_ in there}
            ids = [id_ for id_ in ids if id_ in jobs]
        if "text" in where:
            text = _lower(str(where["text"]))
            resources: dict[int, list[str]] = {}
            for item in tables.items.values():
                resources.setdefault(item["job"], []).append(item["resource"])
            ids = [id_ for id_ in ids if _says(text, id_, tables.jobs[id_], resources.get(id_, ()))]
        return ids

    def count_jobs(self, where: Filter) -> int:
        """Number of jobs that fit."""
        return len(_fitting(self._tables().jobs, where))

    def request(self, id_: int) -> Request | None:
        """The request with this id; None: there is none."""
        found = _made(Request.from_document, id_, self._tables().requests)
        return found if found is not None and self._exists(found) else None

    def sending(self, message: int) -> int | None:
        """The request that was sent again under this message id; None: there is none."""
        found = self._tables().sendings.get(message)
        return None if found is None else found[0]

    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """Requests in the order of their ids."""
        requests = self._tables().requests
        page = self.request_ids(where, limit=limit, offset=offset)
        return [Request.from_document(id_, requests[id_]) for id_ in page]

    def request_ids(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> Sequence[int]:
        """The ids of requests, ascending."""
        tables = self._tables()
        found = _fitting(tables.requests, where)
        if tables.drafts:
            found = [id_ for id_ in found if tables.requests[id_]["job"] not in tables.drafts]
        return array("q", _page(found, limit, offset))

    def count_requests(self, where: Filter) -> int:
        """Number of requests that fit."""
        return len(self.request_ids(where))

    def requests_within(self, ids: Sequence[int], most_bytes: int) -> tuple[list[Request], int]:
        """The requests of the first of these ascending ids, and how many ids were looked up."""
        requests = self._tables().requests
        taken = _within(requests, ids, most_bytes)
        found = [Request.from_document(id_, requests[id_]) for id_ in ids[:taken] if id_ in requests]
        return [one for one in found if self._exists(one)], taken

    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """The batch items of these jobs, by their id."""
        wanted, items = set(jobs), self._tables().items
        return self.items_by_id(id_ for id_ in sorted(items) if items[id_]["job"] in wanted)

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """The batch items of these ids."""
        items = self._tables().items
        found = [Item.from_document(id_, items[id_]) for id_ in ids if id_ in items]
        return {item.id: item for item in found if self._exists(item)}

    def items_within(self, ids: Sequence[int], most_bytes: int) -> tuple[dict[int, Item], int]:
        """As ``items_by_id``, bounded as ``requests_within``."""
        taken = _within(self._tables().items, ids, most_bytes)
        return self.items_by_id(ids[:taken]), taken

    def gateway_names(self, sought: Sought) -> list[str]:
        """The names of the gateways that fit, in order."""
        gateways, selector = self._tables().gateways, sought.selector
        names = sorted(gateways)
        if sought.match is not None:
            names = list(filter(glob(sought.match), names))
        return [name for name in names if selector is None or selector.fits(gateways[name]["labels"])]

    def gateways(self, names: Sequence[str]) -> list[Gateway]:
        """The gateways of these names, in order."""
        gateways = self._tables().gateways
        return [Gateway.from_document(gateways[name]) for name in sorted({*names}) if name in gateways]

    def last_results(self, names: Sequence[str]) -> dict[str, LastResult]:
        """How the newest request of each destination ended, of those that are done."""
        wanted, requests = set(names), self._tables().requests
        found = {}
        for id_ in self.request_ids({}):
            one = requests[id_]
            if one["destination"] in wanted and one["status"] not in OPEN:
                found[one["destination"]] = LastResult.of(id_, one)
        return found

    def owed(self) -> list[Owed]:
        """All that webhooks are owed, by ascending number."""
        outbox = self._tables().outbox
        return [Owed.from_document(id_, outbox[id_]) for id_ in sorted(outbox)]

    def template(self, id_: int) -> Template | None:
        """The template with this id; None: there is none."""
        return _made(Template.from_document, id_, self._tables().templates)

    def template_named(self, name: str) -> Template | None:
        """The template of this name; None: there is none."""
        found = _fitting(self._tables().templates, {"name": name})
        return self.template(found[0]) if found else None

    def template_ids(self) -> Sequence[int]:
        """The ids of all templates, ascending."""
        return sorted(self._tables().templates)

    def _exists(self, one: Request | Item) -> bool:
        return one.job not in self._tables().drafts


class MemoryStore(Store):
    """A store over the ``memory`` of an earlier store; None: a new one."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.place = "memory"
        self.memory = Memory() if memory is None else memory
        #: Whether all commits fail. With this tests play a full disk.
        self.full = False
        self._closed = False
        self.now = MemoryReader(self._latest)
        self.memory.change(_abandon_drafts)

    def _latest(self) -> Tables:
        if self._closed:
            raise StoreError(CLOSED)
        return self.memory.tables

    @property
    def installation(self) -> str:
        """The id of the installation: 16 hexadecimal digits, made once with the memory."""
        return self.memory.installation

    @property
    def ids(self) -> Ids:
        """The next ids, as last committed."""
        return replace(self.memory.tables.ids)

    @property
    def size_bytes(self) -> int:
        """About how many bytes a file would have."""
        tables = self._latest()
        return REQUEST_BYTES * (len(tables.jobs) + len(tables.requests))

    def disk_bytes(self) -> int:
        """0: it takes no disk."""
        return 0

    def commit(self, changes: Changes) -> None:
        """Keep all of ``changes``, or nothing. Raises StoreError: the store is closed, or ``full``."""
        self._latest()
        if self.full:
            raise StoreError(FULL)
        changed = (changes.jobs, changes.items, changes.requests, changes.owed)
        documents = [_documents(some) for some in changed]
        gateways = {name: one.document() for name, one in changes.gateways.items()}
        templates = _documents(changes.templates)

        def change(tables: Tables) -> None:
            changing = (tables.jobs, tables.items, tables.requests, tables.outbox)
            for table, some in zip(changing, documents, strict=True):
                table.update(some)
            for id_ in changes.told:
                tables.outbox.pop(id_, None)
            _change_jobs(tables, changes)
            _change_gateways(tables, changes, gateways)
            for id_ in changes.removed_templates:
                tables.templates.pop(id_, None)
            tables.templates.update(templates)

        self.memory.change(change)

    @contextmanager
    def reading(self) -> Iterator[MemoryReader]:
        """A reader of one state, for any thread. Raises StoreError."""
        self._latest()
        tables = self.memory.seen()
        yield MemoryReader(lambda: tables)

    def sweep(self) -> bool:
        """False: removed jobs take no space. Raises StoreError."""
        self._latest()
        return False

    def look_on(self, look: Look) -> None:
        """Give a look the next jobs. Raises StoreError."""
        jobs = self._latest().jobs
        ids = sorted(id_ for id_ in jobs if id_ > look.last_id)
        some = ids[: look.at_once]
        ended = [_ended(id_, jobs[id_]) for id_ in some if jobs[id_]["status"] in FINAL]
        look.take(ended, some[-1] if some else look.last_id, complete=len(some) < look.at_once)

    def outlived(self, look: Look) -> dict[int, str]:
        """The next jobs of a complete look that need not be kept, by id, each with the limit that says so."""
        count = self.now.count_jobs({"status": sorted(FINAL)})
        return look.part(count, self.size_bytes - look.keep.bytes)

    def close(self) -> None:
        """Release the memory. May be called twice."""
        self._closed = True


def _copied(table: Any) -> Any:
    return replace(table) if isinstance(table, Ids) else dict(table)


def _documents(changed: Mapping[int, Job | Item | Request | Owed | Template]) -> Documents:
    """The documents of these as a file gives them back. Raises ValueError, TypeError: no JSON."""
    return {id_: json.loads(json.dumps(one.document(), allow_nan=False)) for id_, one in changed.items()}


def _change_jobs(tables: Tables, changes: Changes) -> None:
    """Do all of a commit but put its documents."""
    for job in changes.drafts.values():
        tables.drafts[job.id] = job.request_ids
    for id_ in changes.completed:
        tables.drafts.pop(id_, None)
    for message in changes.refused:
        tables.sendings.pop(message, None)
    tables.sendings.update({message: (one.id, one.job) for message, one in changes.sendings.items()})
    for job in (*changes.abandoned.values(), *changes.deleted.values()):
        _remove(tables, job.id, job.request_ids)
    if changes.ids is not None:
        tables.ids.next_job, tables.ids.next_request = changes.ids.next_job, changes.ids.next_request
        tables.ids.next_template = changes.ids.next_template


def _change_gateways(tables: Tables, changes: Changes, put: Mapping[str, Document]) -> None:
    for name in changes.forgotten:
        tables.gateways.pop(name, None)
    tables.gateways.update(put)
    for name in changes.destinations & tables.gateways.keys():
        tables.gateways[name] = {key: to for key, to in tables.gateways[name].items() if key != "discovered"}
    for name in sorted(changes.destinations - tables.gateways.keys()):
        if len(tables.gateways) < MOST_LEARNED:
            tables.gateways[name] = Gateway(name=name).document()


def _remove(tables: Tables, job_id: int, ids: range) -> None:
    tables.jobs.pop(job_id, None)
    tables.drafts.pop(job_id, None)
    for id_ in ids:
        tables.requests.pop(id_, None)
        tables.items.pop(id_, None)
    for message in [message for message, (_, job) in tables.sendings.items() if job == job_id]:
        del tables.sendings[message]


def _abandon_drafts(tables: Tables) -> None:
    """Remove the drafts of an earlier process: they will never exist."""
    for job_id, ids in list(tables.drafts.items()):
        _remove(tables, job_id, ids)


def _made(make: Callable[[int, Document], T], id_: int, table: Documents) -> T | None:
    document = table.get(id_)
    return None if document is None else make(id_, document)


def _ended(id_: int, job: Document) -> Ended:
    finished_at, total, boot, ended_s = map(job.get, FIELDS)
    return Ended(id_, finished_at or "", total or 0, boot, ended_s)


def _fitting(table: Documents, where: Filter) -> list[int]:
    """The ids of the documents that fit, ascending."""
    wanted = {name: (value,) if isinstance(value, str | int) else value for name, value in where.items()}
    return sorted(
        id_
        for id_, document in table.items()
        if all(document.get(name) in values for name, values in wanted.items())
    )


def _page(ids: Sequence[int], limit: int | None, offset: int) -> Sequence[int]:
    return ids[offset : None if limit is None else offset + limit]


def _says(text: str, id_: int, job: Document, resources: Iterable[str]) -> bool:
    """Whether a job's id, name, key, or an item's resource contains ``text``, in small letters."""
    if "\0" in text:  # SQLite cannot look for it
        return False
    said = (str(id_), job.get("name"), job.get("key"), *resources)
    return any(text in _lower(one) for one in said if one is not None)


def _lower(text: str) -> str:
    """The text with a to z in small letters. Other letters stay, as in SQL."""
    return "".join(letter.lower() if "A" <= letter <= "Z" else letter for letter in text)


def _within(table: Documents, ids: Sequence[int], most_bytes: int) -> int:
    """How many of these ids it takes until their documents have this many bytes; at least one."""
    for taken, id_ in enumerate(ids, 1):
        if id_ in table:
            most_bytes -= len(json.dumps(table[id_], separators=(",", ":")))
            if most_bytes <= 0:
                return taken
    return len(ids)
