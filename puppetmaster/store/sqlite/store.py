"""Jobs and requests on disk, as TinyDB documents in ``puppetmaster.db``.

    jobs      id -> Job.document()
    items     id of the first request -> Item.document(): method, resource and data, once per batch item
    requests  id -> Request.document()
    trash     job id -> {"first", "total"}, for removed jobs whose requests are still being removed;
              with "draft" for jobs whose requests are still being written: until then they do not exist
    sendings  message id -> {"request", "job"}, for messages that went out under another id than the request's
    outbox    a number -> Owed.document(): what webhooks are to be told
    templates id -> Template.document()
    gateways  a number -> Gateway.document(): of gateways that were put, or were a destination
    meta      1 -> {"format", "installation", "nextJob", "nextRequest", "nextTemplate", "generation", "inode",
              "undone"}

The dispatcher's thread writes, through ``commit``: one durable transaction for any number of changes. All
other threads read through ``reading()``, which shows one committed state of the file.
"""

import json
import logging
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from tinydb import operations
from tinydb.table import Document

from puppetmaster.errors import NotKnown, StoreError
from puppetmaster.model.gateway import bare
from puppetmaster.model.job import FINAL, Job
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import Item, Request
from puppetmaster.model.template import Template
from puppetmaster.model.why import Reason, Said
from puppetmaster.store.base import (
    FIELDS,
    MOST_LEARNED,
    PRUNED_AT_ONCE,
    Changes,
    Ended,
    Ids,
    Look,
    Reader,
    Store,
    ahead,
    first_request_id,
    jobs_held,
    templates_held,
)
from puppetmaster.store.datadir import FILE_NAME as FILE_NAME  # for modules that know the store only
from puppetmaster.store.datadir import DataDir
from puppetmaster.store.sqlite import migrations
from puppetmaster.store.sqlite.documents import Fields, Fixed, Indexes, Partial, SqliteTinyDB
from puppetmaster.store.sqlite.reader import SqliteReader, as_store_error

log = logging.getLogger("sanji.puppetmaster.store.sqlite.store")

#: The reason of open jobs in a copy. They are paused, because the original may have sent their requests.
COPIED = Reason.COPIED.said()
#: With less than this left on the disk, an error is reported as a full disk.
LITTLE_BYTES = 128 * 1024
ROOM = (
    "The disk is full: make room on it and start again. Nothing is lost; "
    "leave puppetmaster.db-wal where it is, it belongs to the store."
)
WRITABLE = "Set PUPPETMASTER_DATA_DIR to a directory that the bundle's user can write."

INDEXES: Indexes = {
    "jobs": [("status",), ("name",), Partial(("key",)), Partial(("template",))],
    "items": [("job",)],
    "requests": [("status", "job"), Fixed(("destination",))],
    "sendings": [("job",)],
    "trash": [],
    "gateways": [Fixed(("name",))],
    "outbox": [],
    "templates": [],
}

#: After these errors SQLite has not written the mark that completes a commit. With the last one it has not
#: begun: another program is writing to the file.
NEVER_WRITTEN = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_BUSY)
#: Number of small documents that are put by one statement.
AT_ONCE = 500
#: Number of requests of removed jobs that are deleted at once, and of pages that are given back.
SWEEP, SWEEP_PAGES = 500, 400


class SqliteStore(Store):
    """The file, its lock against a second process, and its one writer.

    The thread that will ``commit`` makes it, or no other thread uses it yet. Raises StoreError.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE_NAME
        self.place = str(self.path)
        self._spare: LifoQueue[SqliteReader] = LifoQueue()
        self._closed = False
        with _way_out(data_dir):
            with as_store_error(f"{data_dir} cannot be used"):
                self._dir = DataDir(data_dir)
            try:
                with as_store_error(f"{self.path} cannot be opened"):
                    self._db = self._open()
            except BaseException:
                self._dir.close()
                raise
        self.now = SqliteReader(self._db, self.path)

    def _open(self) -> SqliteTinyDB:
        if (meta := self._look()) is not None:
            self._bring_up(meta)
        db = SqliteTinyDB(self.path, indexes=INDEXES)
        try:
            self._meta = self._opened_meta(db)
        except BaseException:
            db.close()
            raise
        return db

    def _look(self) -> Mapping[str, Any] | None:
        """Look at the file before anything is written to it. Returns its meta document; None: it is empty.

        Raises StoreError: it is damaged, no store of ours, or of a newer version.
        """
        try:
            with closing(SqliteTinyDB(self.path, read_only=True)) as db:
                damage = db.storage.damage()
                meta = db.table("meta").get(doc_id=1) if damage is None else None
                ours = meta is not None or not db.tables()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            damage = str(error)
        if damage is not None:
            raise StoreError(
                f"{self.path} is damaged ({damage.rstrip('.')}): move it away and start with an empty store, "
                "or put a copy of an earlier day or an import in its place; nothing was written to it."
            )
        if not ours or meta is not None:
            migrations.check(meta or {}, self.path)
        return meta

    def _bring_up(self, meta: Mapping[str, Any]) -> None:
        """Bring documents of an older format up to date, before any table is touched."""
        if meta["format"] < migrations.FORMAT:
            with closing(SqliteTinyDB(self.path)) as db:
                migrations.bring_up(db, meta, self.path)

    def _opened_meta(self, db: SqliteTinyDB) -> dict[str, Any]:
        """Begin this process's use of the file. Returns its meta document."""
        found = db.table("meta").get(doc_id=1)
        generation = 1 + max(self._dir.generation, 0 if found is None else found.get("generation", 0))
        marks = {"generation": generation, "inode": self._dir.inode}
        if found is None:
            meta = self._new(db, marks)
        elif self._is_copy(found):
            meta = self._taken_over(db, {**found, **marks})
        else:
            meta = self._gone_on(db, found, marks)
        with suppress(OSError):  # on a full disk the number stays behind, which does no harm
            self._dir.generation = meta.get("generation", 0)
        return meta

    def _new(self, db: SqliteTinyDB, marks: Mapping[str, int]) -> dict[str, Any]:
        meta = {"format": migrations.FORMAT, "installation": uuid.uuid4().hex[:16], **marks}
        meta = with_ids(meta, Ids(next_request=first_request_id()))
        with db.transaction():
            db.table("meta").put([(1, meta)])
            for name in INDEXES:
                db.table(name).put([])
        return meta

    def _taken_over(self, db: SqliteTinyDB, meta: dict[str, Any]) -> dict[str, Any]:
        """Go on with a copy: leave out ids, and pause the jobs that have not ended."""
        log.warning("%s: jobs that have not ended are paused: %s", self.path, COPIED)
        meta = with_ids(meta, ahead(ids_in(meta)))
        with db.transaction():
            _abandon_drafts(db)
            if "gateways" not in db.tables():
                learn_gateways(db)
            send_nothing(db, self.path, COPIED)
            db.table("outbox").truncate()  # the original tells it
            db.table("meta").upsert(Document(meta, doc_id=1))
        return meta

    def _gone_on(
        self, db: SqliteTinyDB, found: Mapping[str, Any], marks: Mapping[str, int]
    ) -> dict[str, Any]:
        """Go on where an earlier process ended. On a full disk the store can be read at least."""
        try:
            with db.transaction():
                _abandon_drafts(db)  # if that fails, they are hidden all the same
                if "gateways" not in db.tables():
                    learn_gateways(db)
                db.table("meta").upsert(Document(marks, doc_id=1))
        except sqlite3.OperationalError as error:
            log.warning("%s cannot be written: %s", self.path, error, extra={"action": "store_fault"})
            return dict(found)
        return {**found, **marks}

    def _is_copy(self, meta: Mapping[str, Any]) -> bool:
        """Whether this is not the store that was last used here, which may have sent commands since."""
        moved = "inode" in meta and meta["inode"] != self._dir.inode
        return moved or self._dir.generation > int(meta.get("generation", 0))

    @property
    def marks(self) -> dict[str, Any]:
        """The part of the meta document that belongs to this file, and not to its content."""
        return {name: self._meta[name] for name in ("generation", "inode") if name in self._meta}

    @property
    def installation(self) -> str:
        """The id of the installation: 16 hexadecimal digits, made once with the file."""
        return str(self._meta["installation"])

    @property
    def ids(self) -> Ids:
        """The next ids, as last committed."""
        return ids_in(self._meta)

    def commit(self, changes: Changes) -> None:
        """Make all of ``changes`` durable, or nothing. Blocks until the disk has it. For the writing thread.

        Raises:
            StoreError: the disk is full, read-only, or fails; nothing was committed.
            NotKnown: the same, but a crash may bring the changes back.
        """
        meta = with_ids(self._meta, changes.ids) if changes.ids else self._meta
        try:
            with as_store_error(f"{self.path} cannot be written"):
                self._dir.check()
            self._write(changes, meta)
        except StoreError as error:
            if not self._undone(error):
                raise NotKnown(error.message) from error
            raise
        self._meta = meta

    def _undone(self, error: StoreError) -> bool:
        """Undo a commit that failed. Returns whether nothing is left of it.

        When only the wait for the disk failed, all of the commit is in the log, and the next process to open
        the file after a crash would take it in. So another commit, which changes no job, is written over it.
        """
        if getattr(error.__cause__, "sqlite_errorcode", None) in NEVER_WRITTEN:
            return True
        # The number must change: SQLite does not write a page that stays the same.
        meta = {**self._meta, "undone": self._meta.get("undone", 0) + 1}
        try:
            with as_store_error(f"{self.path} cannot be written"), self._db.transaction():
                self._db.table("meta").put([(1, meta)])
        except StoreError:
            return False
        self._meta = meta
        return True

    def _write(self, changes: Changes, meta: dict[str, Any]) -> None:
        with as_store_error(f"{self.path} cannot be written"), self._db.transaction():
            self._write_drafts(changes)
            self._put("items", changes.items)
            self._put_requests(changes.requests)
            self._put("jobs", changes.jobs)
            if changes.refused:
                self._db.table("sendings").remove(doc_ids=changes.refused)
            if changes.sendings:
                sendings = changes.sendings.items()
                self._db.table("sendings").put((id_, {"request": r.id, "job": r.job}) for id_, r in sendings)
            room = SWEEP
            for job in changes.deleted.values():
                room -= self._throw_away(job, room)
            self._write_gateways(changes)
            self._put("outbox", changes.owed)
            if changes.told:
                self._db.table("outbox").remove(doc_ids=changes.told)
            self._put("templates", changes.templates)
            if changes.removed_templates:
                self._db.table("templates").remove(doc_ids=changes.removed_templates)
            if changes.ids:
                self._db.table("meta").put([(1, meta)])

    def _write_gateways(self, changes: Changes) -> None:
        table = self._db.table("gateways")
        if changes.forgotten:
            table.remove(Fields(name=list(changes.forgotten)))
        names = changes.gateways.keys() | changes.to_learn
        if not names:
            return
        found = table.values(("name", "discovered"), {"name": list(names)})
        known = {name: id_ for id_, name, _ in found}
        put = changes.gateways
        named = [id_ for id_, name, discovered in found if discovered and name not in put]
        if named:
            table.put((one.doc_id, without_discovered(one)) for one in table.get(doc_ids=named))
        table.put((known[name], one.document()) for name, one in put.items() if name in known)
        fresh = [one.document() for name, one in put.items() if name not in known]
        if learned := sorted(names - known.keys() - put.keys()):
            room = MOST_LEARNED - len(fresh)
            if table.last_id() > room - len(learned):  # there are as many at most: else none is counted
                learned = learned[: max(room - table.count(Fields()), 0)]
            fresh += map(bare, learned)
        if fresh:
            table.append(fresh)

    def _write_drafts(self, changes: Changes) -> None:
        trash = self._db.table("trash")
        if changes.drafts:
            trash.put((job.id, {**_rest(job), "draft": True}) for job in changes.drafts.values())
        if changes.abandoned:
            trash.put((job.id, _rest(job)) for job in changes.abandoned.values())
        if changes.completed:
            trash.remove(doc_ids=changes.completed)

    def _put(self, table: str, changed: Mapping[int, Item | Job | Owed | Template]) -> None:
        if changed:
            self._db.table(table).put((id_, one.document()) for id_, one in changed.items())

    def _put_requests(self, changed: Mapping[int, Request]) -> None:
        """Put requests. Those that no gateway has answered are small: as many as a turn drafts go at once."""
        table, small, others = self._db.table("requests"), {}, []
        for id_, one in changed.items():
            if one.result is not None or one.history:
                others.append(one)
                continue
            small[id_] = one.document()
            if len(small) == AT_ONCE:
                table.put_all(small)
                small.clear()
        if small:
            table.put_all(small)
        if others:
            table.put((one.id, one.document()) for one in others)

    def _throw_away(self, job: Job, room: int) -> int:
        """Remove a job, with its requests if they are ``room`` at most. Returns how many were removed."""
        self._db.table("jobs").remove(doc_ids=[job.id])
        self._db.table("sendings").remove(Fields(job=job.id))
        if job.total <= room:
            return self._delete(job.request_ids)
        self._db.table("trash").put([(job.id, _rest(job))])
        return 0

    def _delete(self, ids: range) -> int:
        """Remove requests and the items that have the same ids. Returns how many requests there were."""
        self._db.table("items").remove(doc_ids=ids)
        return len(self._db.table("requests").remove(doc_ids=ids))

    def sweep(self) -> bool:
        """Remove the next part of removed jobs, or free pages. Returns whether there was any.

        Raises StoreError.
        """
        with as_store_error(f"{self.path} cannot be written"):
            trash = self._db.table("trash").get(Fields(draft=None))
            if trash is None:
                return self._db.storage.give_back(SWEEP_PAGES)
            job_id = trash.doc_id
            part = min(trash["total"], SWEEP)
            left = {"first": trash["first"] + part, "total": trash["total"] - part}
            with self._db.transaction():
                self._delete(range(trash["first"], trash["first"] + part))
                if left["total"]:
                    self._db.table("trash").put([(job_id, left)])
                else:
                    self._db.table("trash").remove(doc_ids=[job_id])
            return True

    def look_on(self, look: Look) -> None:
        """Give a look the next jobs. Raises StoreError."""
        with as_store_error(f"{self.path} cannot be read"):
            rows = self._db.table("jobs").next_values(("status", *FIELDS), look.last_id, look.at_once)
        ended = (Ended(id_, *fields) for id_, status, *fields in rows if status in FINAL)
        look.take(ended, rows[-1][0] if rows else look.last_id, complete=len(rows) < look.at_once)

    def outlived(self, look: Look) -> dict[int, str]:
        """The next jobs of a complete look that need not be kept, by id, each with the limit that says so.

        The limit of bytes counts only when all that was removed is swept, because until then it takes space.
        Raises StoreError.
        """
        with as_store_error(f"{self.path} cannot be read"):
            most = look.keep.jobs + PRUNED_AT_ONCE
            count = self._db.table("jobs").count(Fields(status=sorted(FINAL)), most)
            swept = not len(self._db.table("trash"))
            too_large = self.size_bytes - look.keep.bytes if swept else 0
        return look.part(count, too_large)

    @property
    def size_bytes(self) -> int:
        """How many bytes of the file are in use. Raises StoreError."""
        with as_store_error(f"{self.path} cannot be read"):
            return self._db.storage.size_bytes()

    def disk_bytes(self) -> int:
        """The sizes of the file, its log, and the index of that. Raises StoreError."""
        files = (self.path, *(self.path.with_name(f"{self.path.name}-{what}") for what in ("wal", "shm")))
        with as_store_error(f"{self.path} cannot be read"):
            return sum(file.stat().st_size for file in files if file.exists())

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A reader of one committed state of the file, for any thread. Raises StoreError."""
        try:
            reader = self._spare.get_nowait()
        except Empty:
            with as_store_error(f"{self.path} cannot be read"):
                reader = SqliteReader(SqliteTinyDB(self.path, read_only=True, indexes=INDEXES), self.path)
        try:
            with as_store_error(f"{self.path} cannot be read"), reader.snapshot():
                yield reader
        finally:
            self._spare.put(reader)
            if self._closed:  # by another thread, meanwhile
                self._close_spare()

    def _close_spare(self) -> None:
        with suppress(Empty):
            while True:
                self._spare.get_nowait().close()

    def close(self) -> None:
        """Close all connections, and release the directory.

        Raises StoreError, after all is closed: the disk fails. What was committed is in the log then.
        """
        self._closed = True
        self._close_spare()
        try:
            with as_store_error(f"{self.path} cannot be written"):
                self._db.close()
        finally:
            self._dir.close()


def _abandon_drafts(db: SqliteTinyDB) -> None:
    """Turn drafts of an earlier process into removed jobs: they will never exist."""
    db.table("trash").update(operations.delete("draft"), Fields(draft=True))


def without_discovered(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a gateway that somebody has named."""
    return {name: value for name, value in document.items() if name != "discovered"}


def learn_gateways(db: SqliteTinyDB) -> None:
    """Make gateways of all destinations, because an earlier version has kept none."""
    names = db.table("requests").distinct("destination")
    db.table("gateways").put((id_, bare(name)) for id_, name in enumerate(names, 1))


def send_nothing(db: SqliteTinyDB, path: Path, reason: Said) -> None:
    """Pause all jobs in a file, and switch all schedules off, so that a person decides."""
    reader = SqliteReader(db, path)
    db.table("jobs").put((one.id, one.document()) for one in jobs_held(reader, reason))
    db.table("templates").put((one.id, one.document()) for one in templates_held(reader, reason))


@contextmanager
def _way_out(data_dir: Path) -> Iterator[None]:
    """Add what to do to an error of a store's start, if the disk is full or the directory cannot be used."""
    try:
        yield
    except StoreError as error:
        # Not Path.exists, which raises what else is wrong with the directory.
        there = next(filter(os.path.exists, (data_dir, *data_dir.absolute().parents)))
        usage = shutil.disk_usage(there)
        if usage.total and usage.free < LITTLE_BYTES:
            raise StoreError(f"{error.message} {ROOM}") from error
        if isinstance(error.__cause__, OSError):
            raise StoreError(f"{error.message} {WRITABLE}") from error
        raise


def _rest(job: Job) -> dict[str, Any]:
    """The document in ``trash`` of a job whose requests are still to be removed."""
    return {"first": job.first, "total": job.total}


def ids_in(meta: Mapping[str, Any]) -> Ids:
    """The next ids in a meta document. One of a version without templates has none for them."""
    return Ids(meta["nextJob"], meta["nextRequest"], meta.get("nextTemplate", 1))


def with_ids(meta: Mapping[str, Any], ids: Ids) -> dict[str, Any]:
    """A meta document with these next ids."""
    stored = {"nextJob": ids.next_job, "nextRequest": ids.next_request, "nextTemplate": ids.next_template}
    return {**meta, **stored}
