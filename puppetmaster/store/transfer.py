"""Export of the store to one plain TinyDB JSON file, which ``tinydb.TinyDB(file)`` reads, and import.

Any process may call both: ``export`` also while the bundle runs, ``import_`` only while it does not.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from puppetmaster.errors import StoreError
from puppetmaster.model.job import Job
from puppetmaster.model.why import Reason
from puppetmaster.store.base import Reader, ahead
from puppetmaster.store.datadir import FILE_NAME, PRIVATE
from puppetmaster.store.sqlite import migrations
from puppetmaster.store.sqlite.documents import Except, SqliteTinyDB
from puppetmaster.store.sqlite.reader import SqliteReader, as_store_error
from puppetmaster.store.sqlite.store import (
    INDEXES,
    SqliteStore,
    ids_in,
    learn_gateways,
    send_nothing,
    with_ids,
)

#: The reason of jobs that had not ended when they were exported. They are paused.
IMPORTED = Reason.IMPORTED.said()
#: The tables in the order in which they are written.
TABLES = ("meta", "jobs", "items", "sendings", "requests", "gateways", "templates")
#: Number of documents that are in memory at once.
PART = 1000

Tables = dict[str, dict[int, dict[str, Any]]]


def export(data_dir: Path, file: Path) -> int:
    """Write all jobs with their requests to a new ``file``, as they are at one moment. Returns how many jobs.

    The file appears when it is whole and on disk. Raises StoreError: it exists, it cannot be written, or the
    store cannot be read.
    """
    source = data_dir / FILE_NAME
    with (
        as_store_error(f"{source} cannot be exported"),
        closing(SqliteTinyDB(source, read_only=True)) as db,
        db.transaction(),
    ):
        meta = db.table("meta").get(doc_id=1)
        migrations.check(meta or {}, source)
        write(file, {name: _documents(db, name) for name in TABLES})
        return len(db.table("jobs"))


def write(file: Path, tables: Mapping[str, Iterator[str]]) -> None:
    """Write a new file, which appears when it is whole and on disk: tables with the members of their objects.

    Raises StoreError: it exists, or it cannot be written.
    """
    if os.path.lexists(file):  # a link that leads nowhere is one too
        raise StoreError(f"{file} exists: name another file, or move that one away.")
    with as_store_error(f"{file} cannot be written"), _appearing(file) as part:
        for index, (name, pieces) in enumerate(tables.items()):
            part.write(f'{"," if index else "{"}\n"{name}": {{'.encode())
            for piece in pieces:
                part.write(piece.encode())
            part.write(b"}")
        part.write(b"}\n")


def import_(file: Path, data_dir: Path) -> int:
    """Fill an empty store with what ``export`` wrote, as a whole or not at all. Returns how many jobs.

    The store takes the id of the installation too, so that late answers still find their requests. It leaves
    out ids that the exported store may have given out since. Jobs that have not ended are paused, because
    they may have run since. An older format is brought up to date.

    Raises StoreError: the file is no export, the store is not empty, or one of them cannot be used.
    """
    tables = _read(file)
    with closing(SqliteStore(data_dir)) as store:
        if store.ids.next_job > 1:
            raise StoreError(
                f"{store.path} is not empty: import into another directory (PUPPETMASTER_DATA_DIR), "
                "or move that file away."
            )
        meta = tables["meta"][1] = {**tables["meta"][1], **store.marks}
        with (
            as_store_error(f"{store.path} cannot be written"),
            closing(SqliteTinyDB(store.path, indexes=INDEXES)) as db,
            _as_fault_of(file),
            db.transaction(),
        ):
            for name, documents in tables.items():
                db.table(name).put(documents.items())
            brought = migrations.bring_up(db, meta, file)
            if "gateways" not in tables:
                learn_gateways(db)
            jobs = _verified(SqliteReader(db, store.path), brought, file)
            send_nothing(db, store.path, IMPORTED)
            db.table("meta").put([(1, with_ids(brought, ahead(ids_in(brought))))])
            return jobs


def _documents(db: SqliteTinyDB, name: str) -> Iterator[str]:
    """The documents of a table as members of a JSON object, without those of removed jobs and drafts."""
    table = db.table(name)
    thrown = db.table("trash").ids() if name in ("items", "requests") else []
    ids = table.ids({"job": Except(thrown)} if thrown else {})
    for start in range(0, len(ids), PART):
        found = table.get(doc_ids=ids[start : start + PART].tolist())
        members = (f'"{document.doc_id}": {json.dumps(document, allow_nan=False)}' for document in found)
        yield ("," if start else "") + "\n" + ",\n".join(members)


@contextmanager
def _appearing(file: Path) -> Iterator[Any]:
    """A file to write to. It gets its name when it is whole and on disk; after an error it is removed."""
    part = file.with_name(f"{file.name}.part")
    try:
        part.unlink(missing_ok=True)  # of an export that was killed
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)  # follows no link
        with os.fdopen(opened, "wb") as writing:
            yield writing
            writing.flush()
            os.fsync(writing.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    directory = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(file: Path) -> Tables:
    """The tables in a TinyDB JSON file, with ids as numbers. Raises StoreError."""
    with as_store_error(f"{file} cannot be read"), _as_fault_of(file):
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise StoreError(f"expected an object with tables, got {type(found).__name__}.")
        tables: Tables = {
            name: {int(id_): dict(document) for id_, document in documents.items()}
            for name, documents in found.items()
        }
    if not tables.keys() <= set(TABLES) or 1 not in tables.get("meta", {}):
        raise StoreError(
            f"{file} is no export of puppetmaster's: expected the tables {', '.join(TABLES)}, "
            f"got {', '.join(tables) or 'none'}."
        )
    migrations.check(tables["meta"][1], file)
    return tables


def _verified(reader: Reader, meta: dict[str, Any], file: Path) -> int:
    """The number of imported jobs. Raises StoreError: requests or items are missing, or ids are too high."""
    jobs = reader.jobs({})
    for job in jobs:
        _verify(reader, job, file)
    total = sum(job.total for job in jobs)
    if reader.count_requests({}) != total:
        raise StoreError(f"{file}: expected {total} requests of its jobs, got {reader.count_requests({})}.")
    for job in jobs:
        if job.id >= meta["nextJob"] or job.first + job.total > meta["nextRequest"]:
            raise StoreError(f"{file}: job {job.id} has ids that are still to be given out: see its meta.")
    return len(jobs)


def _verify(reader: Reader, job: Job, file: Path) -> None:
    items = reader.items([job.id])
    requests = reader.requests({"job": job.id})
    if [request.id for request in requests] != list(job.request_ids):
        raise StoreError(
            f"{file}: expected the requests {job.first} to {job.first + job.total - 1} of job {job.id}, "
            f"got {len(requests)} others."
        )
    missing = {request.item for request in requests} - items.keys()
    if missing:
        raise StoreError(f"{file}: expected the item {min(missing)} of job {job.id}, got none.")


@contextmanager
def _as_fault_of(file: Path) -> Iterator[None]:
    """Turn what is wrong with a document into a StoreError that names the file."""
    try:
        yield
    except StoreError as error:
        if str(file) in error.message:
            raise
        raise StoreError(f"{file} is no export of puppetmaster's, or was changed: {error.message}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            raise
        raise StoreError(
            f"{file} is no export of puppetmaster's, or was changed: {type(error).__name__}: {error}."
        ) from error
