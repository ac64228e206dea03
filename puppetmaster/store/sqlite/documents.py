"""TinyDB kept in SQLite: one row per document, a write-ahead log, transactions.

`SqliteTinyDB` means what TinyDB means, with four differences: documents come in the order of their ids, not
of their insertion; ids are 64-bit integers; what is returned never aliases what is stored; there is no
query cache, so a reader sees what another connection has committed. On which private parts of TinyDB this
rests: docs/store.md.

Threads: one connection writes, and each reading thread has a read-only one of its own; neither waits for
the other. A connection may be handed from thread to thread, but one uses it at a time: a transaction
belongs to the thread that began it, and another thread's on the same connection raises
`sqlite3.ProgrammingError`. A plain read is not checked so: within another thread's transaction it would see
what is not committed.

Errors pass unchanged. `sqlite3.OperationalError`: no such file, locked by another writer, disk full,
read-only. Other `sqlite3.DatabaseError`: not a database, damaged; `sqlite3.IntegrityError` among them: a
field of a `Fixed` index has changed. `sqlite3.ProgrammingError`: closed, two threads at once. `ValueError`:
NaN or infinity, a field name that is none. `TypeError`: not JSON, an id that is no integer. `OverflowError`:
an id beyond 64 bits. `RecursionError`: nested too deeply for Python's JSON, about 1,000 levels on 3.11. None
of them leaves half of an operation behind.
"""

import os
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import index
from os import PathLike
from pathlib import Path
from threading import get_ident
from typing import Any, Literal, cast

from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table

from puppetmaster.store.sqlite.rows import (
    Changes,
    Contains,
    Except,
    Fields,
    Fixed,
    Partial,
    Present,
    Snapshot,
    TableRows,
    Where,
    encode,
    name_of,
)

__all__ = [
    "Contains",
    "Except",
    "Fields",
    "Fixed",
    "Indexes",
    "Partial",
    "Present",
    "SqliteStorage",
    "SqliteTable",
    "SqliteTinyDB",
    "Where",
    "read_only_uri",
]

Indexes = Mapping[str, Sequence[tuple[str, ...]]]
"""Table -> its indexes, each a tuple of top-level fields, or a `Partial` or `Fixed` one."""

BUSY_TIMEOUT_S = 5.0  # another process may hold the file for the time of a backup or a checkpoint

#: A page is written as a whole, twice, for each small change in it. Small pages spare flash.
PAGE_BYTES = 1024
#: The value of SQLite's auto_vacuum with which free pages are given back when we say so.
INCREMENTAL = 2
#: The log is moved into the file when it has the first number of bytes. If it has grown beyond the second, it
#: is cut then.
CHECKPOINT_BYTES, LOG_BYTES = 4 * 1024 * 1024, 8 * 1024 * 1024
#: How much of the file a reading connection keeps in memory. There may be 40 connections.
READER_CACHE_KIB = 256


class SqliteStorage(Storage):
    """The file: tables of documents, and transactions.

    A reader (`read_only`) needs the file to exist; it fails to write, also within a transaction.
    `indexes` of tables that exist are made at once, of others with their table. Of the tables that they name
    any other index is removed.
    """

    def __init__(
        self, path: str | PathLike[str], *, read_only: bool = False, indexes: Indexes | None = None
    ) -> None:
        super().__init__()
        self._read_only = read_only
        self._indexes = dict(indexes or {})
        self._rows: dict[str, TableRows] = {}
        self._depth = 0  # of nested transactions
        self._owner = 0  # the thread that began the outermost
        self.connection = _connect(Path(path), read_only=read_only)
        try:
            self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        self.connection.execute("PRAGMA foreign_keys = OFF")
        if self._read_only:
            self.connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
            self.names()  # the first access raises an error if this is no database
            return
        self.connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # for a file that is made now
        if self.connection.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
            # For a file that is made now. A file that has it would be written again, and a full disk has no
            # room for that.
            self.connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")  # each commit waits for the disk
        (page_bytes,) = self.connection.execute("PRAGMA page_size").fetchone()
        self.connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // page_bytes}")
        self.connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        with self.transaction():
            for name in self._indexes:
                self.rows(name).schema.bring_up()

    def damage(self) -> str | None:
        """What SQLite's quick check finds wrong with the file, as a sentence; None: nothing is wrong."""
        found = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return None if found == "ok" else str(found)

    def size_bytes(self) -> int:
        """How many bytes of the file are in use. The file may be larger."""
        pages, free, page_bytes = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page_bytes)

    def give_back(self, pages: int) -> bool:
        """Make the file smaller by ``pages`` free pages at most. Returns whether there were any."""
        if not self.connection.execute("PRAGMA freelist_count").fetchone()[0]:
            return False
        # Not execute(), which on Python 3.11 takes only the first step of this statement: one page.
        self.connection.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
        return True

    def rows(self, name: str) -> TableRows:
        """The table of this name, which need not exist."""
        if name not in self._rows:
            self._rows[name] = TableRows(self.connection, name, self._indexes.get(name, ()))
        return self._rows[name]

    def names(self) -> set[str]:
        """The names of all tables."""
        sql = "SELECT substr(name, 5) FROM sqlite_master WHERE type = 'table' AND name GLOB 'doc_*'"
        return {name_of(encoded) for (encoded,) in self.connection.execute(sql).fetchall()}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside the block durable together. A reader sees one state of the file inside it.

        A nested transaction joins the outer one: nothing is durable before the outermost one ends. An
        exception undoes the changes inside each block that it leaves.
        """
        connection = self.connection
        if self._depth and self._owner != get_ident():
            raise sqlite3.ProgrammingError(
                "expected one thread at a time, but another has a transaction open"
            )
        if self._depth and not connection.in_transaction:
            raise sqlite3.OperationalError(
                "expected an open transaction, but SQLite has given it up: leave it"
            )
        if self._depth:
            begin, commit, rollback = "SAVEPOINT nested", "RELEASE nested", "ROLLBACK TO nested"
        else:
            begin, commit, rollback = "BEGIN" if self._read_only else "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"
        connection.execute(begin)
        self._owner = get_ident()
        self._depth += 1
        try:
            yield
            connection.execute(commit)
        except BaseException:
            if connection.in_transaction:  # SQLite ends it by itself if the disk is full
                connection.execute(rollback)
                if self._depth > 1:
                    connection.execute(commit)
            raise
        finally:
            self._depth -= 1

    def read(self) -> dict[str, dict[str, Any]] | None:
        """All documents, as in TinyDB's JSON file: table -> id as text -> document. None: no tables."""
        with self.transaction():
            return {name: dict(Snapshot(self.rows(name))) for name in self.names()} or None

    def write(self, data: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> None:
        """Make all tables equal to `data` in one transaction. Only documents that differ are written."""
        with self.transaction():
            for name in self.names() - data.keys():
                self.rows(name).schema.drop()
            for name, documents in data.items():
                rows = self.rows(name)
                rows.schema.create()
                stored = rows.texts()
                texts = {int(doc_id): encode(dict(document)) for doc_id, document in documents.items()}
                rows.delete(stored.keys() - texts.keys())
                rows.put((doc_id, text) for doc_id, text in texts.items() if stored.get(doc_id) != text)

    def close(self) -> None:
        """Move the log into the file as far as readers allow, and close. May be called twice."""
        try:
            if not self._read_only:
                with suppress(sqlite3.ProgrammingError):  # closed already
                    self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            self.connection.close()


class SqliteTable(Table):
    """TinyDB's table, reading and writing only the rows it needs, with a few verbs of its own.

    `Fields` is a query that SQLite answers: with an index on the fields it looks at what fits only, without
    one at every document. Python parses no document but those returned.
    """

    _next_id: int | None  # type: ignore[assignment]  # TinyDB declares the None it begins with

    def __init__(
        self, storage: SqliteStorage, name: str, cache_size: int = 0, persist_empty: bool = False
    ) -> None:
        del cache_size  # a cached answer would stay after a rollback, or another connection's commit
        self._sqlite = storage
        self._rows = storage.rows(name)
        super().__init__(storage, name, cache_size=0, persist_empty=persist_empty)

    # -- TinyDB's verbs, where a look-up by index or primary key answers ----------------------------

    def get(
        self, cond: QueryLike | None = None, doc_id: int | None = None, doc_ids: list[int] | None = None
    ) -> Any:
        """As in TinyDB; `Fields`, `doc_id` and `doc_ids` are looked up."""
        if doc_id is None and doc_ids is not None:
            return self._rows.get(doc_ids)
        if doc_id is None and isinstance(cond, Fields):
            return next(iter(self.page(cond, limit=1)), None)
        return super().get(cond, doc_id, doc_ids)  # type: ignore[arg-type]  # whichever was given

    def search(self, cond: QueryLike) -> list[Document]:
        """As in TinyDB; `Fields` are looked up."""
        return self.page(cond) if isinstance(cond, Fields) else super().search(cond)

    def count(self, cond: QueryLike, most: int | None = None) -> int:
        """As in TinyDB; `Fields` are looked up. If there are more than `most`, it is `most`."""
        return self._rows.count(cond, most) if isinstance(cond, Fields) else super().count(cond)

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """As in TinyDB, but an id may be named twice; `Fields` and `doc_ids` are looked up."""
        if doc_ids is not None:
            wanted = dict.fromkeys(doc_ids)
            with self._sqlite.transaction():
                self._rows.schema.create()
                there = set(self._rows.delete(wanted))
            return [doc_id for doc_id in wanted if doc_id in there]
        if not isinstance(cond, Fields):
            return super().remove(cond)
        with self._sqlite.transaction():
            self._rows.schema.create()
            return self._rows.delete_where(cond)

    # -- verbs that TinyDB does not have --------------------------------------------------------------

    def put(self, documents: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Insert or replace whole documents by id, in one transaction, without reading any."""
        with self._sqlite.transaction():
            self._rows.put((index(doc_id), encode(_dict(document))) for doc_id, document in documents)
        self._next_id = None

    def put_all(self, documents: Mapping[int, dict[str, Any]]) -> None:
        """As `put`, in one statement: faster, but all of them are in memory as one text."""
        self._rows.put_all(encode(documents))
        self._next_id = None

    def append(self, documents: Iterable[dict[str, Any]]) -> None:
        """Insert documents under the next ids, as `put_all`."""
        self.put_all(dict(enumerate(documents, self._rows.max_id() + 1)))

    def last_id(self) -> int:
        """The highest id; 0: the table is empty."""
        return self._rows.max_id()

    def page(
        self,
        where: Where,
        *,
        order: Literal["asc", "desc"] = "asc",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Document]:
        """The documents that fit, by id, without the first `offset`, at most `limit` (None: all)."""
        return self._rows.select(where, order, limit, offset)

    def within(self, doc_ids: Sequence[int], most_bytes: int) -> tuple[list[Document], int]:
        """The documents with the first of these ascending ids, until they have `most_bytes`.

        Returns the documents, and how many of the ids were looked up.
        """
        return self._rows.within(doc_ids, most_bytes)

    def ids(self, where: Where | None = None, *, limit: int | None = None, offset: int = 0) -> "array[int]":
        """The ids of the documents that fit, ascending, in 8 bytes each; pages as in `page`."""
        return self._rows.ids(where or {}, limit, offset)

    def values(self, fields: Sequence[str], where: Where) -> list[tuple[Any, ...]]:
        """(id, fields ..) of the documents that fit, by id. The fields are top-level texts and numbers."""
        return self._rows.values(fields, where)

    def last_values(self, fields: Sequence[str], where: Where) -> tuple[Any, ...] | None:
        """As `values`, of the document that fits and has the highest id; None: none fits."""
        return self._rows.last_values(fields, where)

    def distinct(self, field: str, wheres: Iterable[Where] = ()) -> list[Any]:
        """The values of a field in the documents that fit all of `wheres`, each once, in order."""
        return self._rows.distinct(field, wheres)

    def next_values(self, fields: Sequence[str], after: int, limit: int) -> list[tuple[Any, ...]]:
        """As `values`, for the next `limit` documents after the id `after`. No other row is read."""
        return self._rows.next_values(fields, after, limit)

    def _get_next_id(self) -> int:
        next_id = self._rows.max_id() + 1 if self._next_id is None else self._next_id
        self._next_id = next_id + 1
        return next_id

    def _read_table(self) -> Snapshot:  # type: ignore[override]  # TinyDB says dict, and reads it as a Mapping
        return Snapshot(self._rows)

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        with self._sqlite.transaction():
            self._rows.schema.create()
            changes = Changes(self._rows)
            updater(changes)
            changes.write()


class SqliteTinyDB(TinyDB):
    """A TinyDB in an SQLite file; see `SqliteStorage` for the arguments.

    A middleware of TinyDB goes around the storage of a plain TinyDB instead:
    `TinyDB(path, storage=CachingMiddleware(SqliteStorage))`.
    """

    table_class = SqliteTable  # type: ignore[assignment]  # TinyDB declares its own default's type
    default_storage_class = SqliteStorage  # type: ignore[assignment]  # the same
    _storage: SqliteStorage

    def __init__(
        self, path: str | PathLike[str], *, read_only: bool = False, indexes: Indexes | None = None
    ) -> None:
        super().__init__(path, read_only=read_only, indexes=indexes)

    @property
    def storage(self) -> SqliteStorage:
        """The file."""
        return self._storage

    def table(self, name: str, **kwargs: Any) -> SqliteTable:
        """The table of this name. The first write creates it."""
        return cast(SqliteTable, super().table(name, **kwargs))

    def tables(self) -> set[str]:
        """The names of all tables, without reading them."""
        return self.storage.names()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside the block durable together; see `SqliteStorage.transaction`.

        An exception undoes the tables' next ids too.
        """
        tables = dict(self._tables)
        next_ids = {name: table._next_id for name, table in tables.items()}
        try:
            with self.storage.transaction():
                yield
        except BaseException:
            self._tables.update(tables)
            for name, table in self._tables.items():
                table._next_id = next_ids.get(name)
            raise


def _dict(document: Mapping[str, Any]) -> dict[str, Any]:
    return document if isinstance(document, dict) else dict(document)


def read_only_uri(path: Path) -> str:
    """The URI with which SQLite opens a file and writes nothing, not even when it closes it.

    SQLite reads the log of a killed writer. On a read-only disk, or in another user's directory, it cannot
    make the index of a log. If there is no log either, no process writes there, and none is needed.
    """
    log = path.with_name(f"{path.name}-wal")
    alone = not log.exists() and not os.access(path.absolute().parent, os.W_OK, effective_ids=True)
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    # isolation_level None: no BEGIN but ours, on every Python.
    uri = read_only_uri(path) if read_only else f"{path.absolute().as_uri()}?mode=rwc"
    try:
        return sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
        )
    except sqlite3.OperationalError as error:
        if not read_only or path.exists():
            raise
        sentence = (
            f"expected a database at {path}, found no file: set PUPPETMASTER_DATA_DIR to where the store is"
        )
        raise sqlite3.OperationalError(sentence) from error
