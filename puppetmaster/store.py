"""Jobs and requests on disk, as TinyDB documents in ``puppetmaster.db``.

    jobs      id -> Job.document()
    items     id of the first request -> Item.document(): method, resource and data, once per batch item
    requests  id -> Request.document()
    trash     job id -> {"first", "total"}, for removed jobs whose requests are still being removed
    sendings  message id -> {"request", "job"}, for messages that went out under another id than the request's
    meta      1 -> {"format", "installation", "nextJob", "nextRequest"}

One thread writes (the dispatcher's), through ``commit``: one durable transaction for any number of
changes. Everybody else reads through ``reading()``, one consistent state of the file at a time.
"""

import fcntl
import json
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from puppetmaster.clock import seconds
from puppetmaster.errors import StoreError
from puppetmaster.job import FINAL, OPEN_JOB, Job
from puppetmaster.request import OPEN, Item, Request
from puppetmaster.sqlite_storage import Indexes, Partial, SqliteTinyDB

log = logging.getLogger("sanji.puppetmaster.store")

FORMAT = 2
FILE_NAME = "puppetmaster.db"

INDEXES: Indexes = {
    "jobs": [("status",), ("name",), Partial(("key",))],
    "items": [("job",)],
    "requests": [("job", "status"), ("destination",), ("status",)],
    "sendings": [("job",)],
    "trash": [],
}

#: The first request id: clear of the SDK's random message ids and of counters that start at 1.
FIRST_REQUEST_ID = 2**31
#: The bus has ids of 32 bits.
LAST_REQUEST_ID = 2**32 - 1

#: Of a removed job so many requests are deleted at once, and so many pages given back.
SWEEP, SWEEP_PAGES = 500, 200
#: So many jobs are pruned at once; how much of the file a request is thought to take.
PRUNED_AT_ONCE, REQUEST_BYTES = 20, 300

Filter = Mapping[str, str | int | Sequence[str]]


@dataclass(slots=True)
class Ids:
    """The next ids to give out. None is given out twice in the life of an installation."""

    next_job: int = 1
    next_request: int = FIRST_REQUEST_ID


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of jobs that have ended: so many, for so long, in a file of this size."""

    jobs: int
    age_s: float
    bytes: int


@dataclass(slots=True)
class Changes:
    """What one transaction makes durable."""

    jobs: dict[int, Job] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    sendings: dict[int, Request] = field(default_factory=dict)
    deleted: dict[int, Job] = field(default_factory=dict)
    ids: Ids | None = None

    def __bool__(self) -> bool:
        return bool(self.jobs or self.items or self.requests or self.sendings or self.deleted or self.ids)


class Reader:
    """One connection to the file, used by one thread at a time."""

    def __init__(self, db: SqliteTinyDB) -> None:
        self._db = db
        self._jobs, self._items = db.table("jobs"), db.table("items")
        self._requests, self._sendings = db.table("requests"), db.table("sendings")

    def job(self, id_: int) -> Job | None:
        """The job of this id, or None."""
        document = self._jobs.get(doc_id=id_)
        return Job.from_document(id_, document) if document is not None else None

    def job_by_key(self, key: str) -> Job | None:
        """The job that was created with this idempotency key, or None."""
        return next(iter(self._as_jobs(self._jobs.select({"key": key}, limit=1))), None)

    def jobs(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Job]:
        """Jobs, newest first. ``where``: ``status``, ``name``, ``destination``."""
        destination = where.get("destination")
        if destination is None:
            return self._as_jobs(self._jobs.select(where, order="desc", limit=limit, offset=offset))
        ids = {document["job"] for document in self._requests.select({"destination": destination})}
        found = self._as_jobs(self._jobs.get(doc_ids=list(ids)))[::-1]
        fitting = [job for job in found if _fits(job, where)]
        return fitting[offset : None if limit is None else offset + limit]

    def job_ids(self, where: Filter) -> list[int]:
        """The ids of jobs, newest first. ``where`` as for ``jobs``."""
        if "destination" in where:
            return [job.id for job in self.jobs(where)]
        return self._jobs.ids(where)[::-1]

    def request(self, id_: int) -> Request | None:
        """The request of this id, or None."""
        document = self._requests.get(doc_id=id_)
        return Request.from_document(id_, document) if document is not None else None

    def sending(self, message: int) -> int | None:
        """The request that went out under this message id, which is not its own; None: there is none."""
        document = self._sendings.get(doc_id=message)
        return None if document is None else int(document["request"])

    def requests(self, where: Filter, *, limit: int | None = None, offset: int = 0) -> list[Request]:
        """Requests in the order of their ids. ``where``: ``job``, ``status``, ``destination``."""
        return self._as_requests(self._requests.select(where, limit=limit, offset=offset))

    def request_ids(self, where: Filter) -> list[int]:
        """The ids of requests, ascending. ``where`` as for ``requests``."""
        return self._requests.ids(where)

    def requests_by_id(self, ids: Iterable[int]) -> list[Request]:
        """The requests of these ids, ascending; ids that nothing has are skipped."""
        return self._as_requests(self._requests.get(doc_ids=list(ids)))

    def count_requests(self, where: Filter) -> int:
        """How many requests fit."""
        return self._requests.count_where(where)

    def count_jobs(self, where: Filter) -> int:
        """How many jobs fit ``status`` and ``name``."""
        return self._jobs.count_where(where)

    def items(self, jobs: Iterable[int]) -> dict[int, Item]:
        """The batch items of these jobs, by their id."""
        ids = list(jobs)
        documents = self._items.select({"job": ids}) if ids else []
        return {document.doc_id: Item.from_document(document.doc_id, document) for document in documents}

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """The batch items of these ids."""
        documents = self._items.get(doc_ids=list(ids))
        return {document.doc_id: Item.from_document(document.doc_id, document) for document in documents}

    @contextmanager
    def snapshot(self) -> Iterator["Reader"]:
        """Read one state of the file throughout."""
        with self._db.transaction():
            yield self

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _as_jobs(self, documents: Iterable[Any]) -> list[Job]:
        return [Job.from_document(document.doc_id, document) for document in documents]

    def _as_requests(self, documents: Iterable[Any]) -> list[Request]:
        return [Request.from_document(document.doc_id, document) for document in documents]


class Store:
    """The file, its lock against a second process, and its one writer.

    Made by the thread that will ``commit``, or before any other thread uses it. Raises StoreError.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE_NAME
        self._spare: LifoQueue[Reader] = LifoQueue()
        with _as_store_error(f"{data_dir} cannot be used"):
            data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (data_dir / "puppetmaster.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StoreError(
                f"Another puppetmaster uses {data_dir}: stop it, or set PUPPETMASTER_DATA_DIR to another."
            ) from None
        try:
            with _as_store_error(
                f"{self.path} cannot be opened: keep a copy of it before you repair or remove it"
            ):
                self._db = SqliteTinyDB(self.path, indexes=INDEXES)
                try:
                    self._check()
                    self._meta = self._open_meta()
                except BaseException:
                    self._db.close()
                    raise
        except BaseException:
            self._lock.close()
            raise
        self.now = Reader(self._db)

    def _check(self) -> None:
        damage = self._db.storage.damage()
        if damage is not None:
            raise StoreError(
                f"{self.path} is damaged ({damage}): move it away and start anew, or restore a copy; "
                "nothing was written to it."
            )

    def _open_meta(self) -> dict[str, Any]:
        table = self._db.table("meta")
        meta = table.get(doc_id=1)
        if meta is None:
            meta = {"format": FORMAT, "installation": uuid.uuid4().hex[:16], **_stored(Ids())}
            with self._db.transaction():
                table.put([(1, meta)])
                for name in INDEXES:
                    self._db.table(name).put([])
        for older in range(meta.get("format", 0), FORMAT):
            meta = self._migrate(older, meta)
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"{self.path} has format {meta.get('format')} and this version reads format {FORMAT}: "
                "use the version that wrote it."
            )
        return dict(meta)

    def _migrate(self, older: int, meta: Mapping[str, Any]) -> dict[str, Any]:
        """One step from an older format to the next, whole or not at all."""
        step = MIGRATIONS.get(older)
        if step is None:
            raise StoreError(f"{self.path} has format {older}, which this version cannot read.")
        newer = {**meta, "format": older + 1}
        with self._db.transaction():
            step(self._db)
            self._db.table("meta").put([(1, newer)])
        log.info("%s is brought from format %s to %s", self.path, older, older + 1)
        return newer

    @property
    def installation(self) -> str:
        """16 hexadecimal digits, made once with the file."""
        return str(self._meta["installation"])

    @property
    def ids(self) -> Ids:
        """The ids as they were last committed."""
        return Ids(next_job=self._meta["nextJob"], next_request=self._meta["nextRequest"])

    def commit(self, changes: Changes) -> None:
        """Make all of ``changes`` durable, or none of it. Blocks until the disk has it.

        Raises StoreError: disk full, read-only, I/O error. Only the writing thread calls it.
        """
        meta = {**self._meta, **_stored(changes.ids)} if changes.ids else self._meta
        with _as_store_error(f"{self.path} cannot be written"), self._db.transaction():
            self._db.table("items").put((id_, item.document()) for id_, item in changes.items.items())
            self._db.table("requests").put((id_, one.document()) for id_, one in changes.requests.items())
            self._db.table("jobs").put((id_, job.document()) for id_, job in changes.jobs.items())
            self._db.table("sendings").put(
                (id_, {"request": one.id, "job": one.job}) for id_, one in changes.sendings.items()
            )
            for job in changes.deleted.values():
                self._throw_away(job)
            if changes.ids:
                self._db.table("meta").put([(1, meta)])
        self._meta = meta

    def _throw_away(self, job: Job) -> None:
        """Remove a job. Of a large one the requests go later, in parts, to hold up nobody."""
        self._db.table("jobs").delete([job.id])
        self._db.table("items").delete_where({"job": job.id})
        self._db.table("sendings").delete_where({"job": job.id})
        if job.total <= SWEEP:
            self._db.table("requests").delete(job.request_ids)
        else:
            self._db.table("trash").put([(job.id, {"first": job.first, "total": job.total})])

    def sweep(self) -> bool:
        """Remove the next part of what was thrown away. Whether there was anything. Raises StoreError."""
        with _as_store_error(f"{self.path} cannot be written"):
            thrown = self._db.table("trash").select(limit=1)
            if not thrown:
                return self._db.storage.give_back(SWEEP_PAGES)
            trash, job_id = thrown[0], thrown[0].doc_id
            part = min(trash["total"], SWEEP)
            left = {"first": trash["first"] + part, "total": trash["total"] - part}
            with self._db.transaction():
                self._db.table("requests").delete(range(trash["first"], trash["first"] + part))
                if left["total"]:
                    self._db.table("trash").put([(job_id, left)])
                else:
                    self._db.table("trash").delete([job_id])
            return True

    def outlived(self, keep: Keep, wall_s: float) -> list[int]:
        """Some jobs that have ended and need not be kept, oldest first. Raises StoreError."""
        with _as_store_error(f"{self.path} cannot be read"):
            ended = self._db.table("jobs").ids({"status": sorted(FINAL)})
            too_many = max(len(ended) - keep.jobs, 0)
            too_large = self._db.storage.size_bytes() - keep.bytes
            gone = []
            for index, job_id in enumerate(ended[:PRUNED_AT_ONCE]):
                job = self.now.job(job_id)
                if job is None or job.finished_at is None:
                    continue
                if index < too_many or too_large > 0 or wall_s - seconds(job.finished_at) > keep.age_s:
                    gone.append(job_id)
                    too_large -= job.total * REQUEST_BYTES
            return gone

    @property
    def size_bytes(self) -> int:
        """How much of the file is in use."""
        return self._db.storage.size_bytes()

    def unfinished(self) -> Iterator[tuple[Job, list[Request]]]:
        """Every job that has not ended, oldest first, with its requests that are not done."""
        with _as_store_error(f"{self.path} cannot be read"):
            for job in reversed(self.now.jobs({"status": sorted(OPEN_JOB)})):
                yield job, self.now.requests({"job": job.id, "status": sorted(OPEN)})

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A reader that sees one committed state of the file; for any thread. Raises StoreError."""
        try:
            reader = self._spare.get_nowait()
        except Empty:
            with _as_store_error(f"{self.path} cannot be read"):
                reader = Reader(SqliteTinyDB(self.path, read_only=True))
        try:
            with _as_store_error(f"{self.path} cannot be read"), reader.snapshot():
                yield reader
        finally:
            self._spare.put(reader)

    def close(self) -> None:
        """Close every connection and let another process have the directory."""
        with suppress(Empty):
            while True:
                self._spare.get_nowait().close()
        self._db.close()
        self._lock.close()


def _from_1_to_2(db: SqliteTinyDB) -> None:
    """Jobs got waves and times to start; sendings a table of their own."""
    jobs = db.table("jobs")
    for document in jobs.select():
        known = {key: value for key, value in document.items() if key not in ("concurrency", "idempotent")}
        jobs.put([(document.doc_id, {**known, "startAt": None, "wave": 1, "waveErrors": 0, "gate": None})])
    requests = db.table("requests")
    sent = [one for one in requests.select() if one.get("message", one.doc_id) != one.doc_id]
    db.table("sendings").put((one["message"], {"request": one.doc_id, "job": one["job"]}) for one in sent)


#: What brings a file from a format to the next.
MIGRATIONS: Mapping[int, Callable[[SqliteTinyDB], None]] = {1: _from_1_to_2}


def _stored(ids: Ids) -> dict[str, int]:
    return {"nextJob": ids.next_job, "nextRequest": ids.next_request}


def _fits(job: Job, where: Filter) -> bool:
    statuses, name = where.get("status"), where.get("name")
    if isinstance(statuses, Sequence) and job.status not in statuses:
        return False
    return name is None or job.name == name


@contextmanager
def _as_store_error(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, json.JSONDecodeError) as error:
        raise StoreError(f"{what}: {str(error).rstrip('.')}.") from error
