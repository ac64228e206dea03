"""TinyDB in SQLite means what TinyDB means: random operations side by side, and what they do not reach."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, operations, where
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import JSONStorage, MemoryStorage
from tinydb.table import Document

from puppetmaster.store.sqlite.documents import READER_CACHE_KIB, Fields, SqliteStorage, SqliteTinyDB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteTinyDB]:
    """The writer."""
    with SqliteTinyDB(path) as db:
        yield db


# What TinyDB means


def test_tables(store: SqliteTinyDB) -> None:
    store.insert({})
    store.table("seen")
    assert store.tables() == {"_default"}
    store.table("kept", persist_empty=True)
    store.table("jobs").insert({"a": 1})
    assert store.tables() == {"_default", "kept", "jobs"}
    assert store.table("jobs").all() == [{"a": 1}]
    store.drop_table("jobs")
    store.drop_table("jobs")
    assert store.tables() == {"_default", "kept"}
    assert store.table("jobs").insert({}) == 1
    assert "jobs" in repr(store)
    store.drop_tables()
    assert store.tables() == set()
    assert len(store) == 0


def test_table_names_are_exact(store: SqliteTinyDB) -> None:
    names = ["", "a", "A", 'a"; DROP TABLE "doc_a"; --', "a b", "%41", "é", "\ud800", "a\0b", "sqlite_x"]
    for number, name in enumerate(names):
        store.table(name).insert({"number": number})
    assert store.tables() == set(names)
    assert [store.table(name).all() for name in names] == [[{"number": n}] for n in range(len(names))]


# Random operations, side by side with TinyDB

Db = Any  # either of the two: TinyDB or SqliteTinyDB
Operation = Callable[[Db], Any]


class SortedMemoryStorage(MemoryStorage):
    """As a JSON file in memory, with the one difference that we state: documents in the order of ids."""

    def read(self) -> dict[str, dict[str, Any]] | None:
        return json.loads(self.memory) if self.memory else None

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        ordered = {name: dict(sorted(data[name].items(), key=lambda item: int(item[0]))) for name in data}
        self.memory = json.dumps(ordered, allow_nan=False)


texts = st.text(st.sampled_from('ab"é\ud800\0'), max_size=3)
scalars = st.none() | st.booleans() | st.integers(0, 3) | texts
values = st.recursive(
    scalars | st.integers() | st.just(2**80) | st.floats(),  # with NaN, which both refuse
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)
fields = st.sampled_from(["a", "b", "c"])
documents = st.dictionaries(fields, scalars | values, max_size=3)
ids = st.integers(-1, 8)
numbered = st.builds(Document, documents, ids)
names = st.sampled_from(["_default", "t", "T"])
queries = st.builds(lambda f, v: where(f) == v, fields, scalars) | st.builds(
    lambda f: where(f).exists(), fields
)
changers = documents | st.sampled_from(
    [operations.increment("a"), operations.delete("b"), operations.set("c", [1]), operations.add("a", 0.5)]
)


def on_table(method: str, *arguments: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]) -> Any:
    def call(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Operation:
        return lambda db: getattr(db.table(name), method)(*arguments, **named)

    return st.builds(call, names, st.tuples(*arguments), st.fixed_dictionaries(named))


some_ids = st.lists(ids, max_size=3)
some_operations: Any = st.one_of(
    on_table("insert", documents | numbered),
    on_table("insert_multiple", st.lists(documents | documents | numbered | st.just(1), max_size=4)),
    on_table("upsert", documents | numbered, queries),
    on_table("update", changers, queries),
    on_table("update", changers, doc_ids=some_ids),
    on_table("update", documents),
    on_table("update_multiple", st.lists(st.tuples(changers, queries), max_size=2)),
    on_table("remove", queries),
    on_table("remove", doc_ids=st.lists(ids, max_size=3, unique=True)),
    on_table("remove"),
    on_table("truncate"),
    on_table("search", queries),
    on_table("count", queries),
    on_table("contains", queries),
    on_table("contains", doc_id=ids),
    on_table("get"),
    on_table("get", queries),
    on_table("get", doc_id=ids),
    on_table("get", doc_ids=some_ids),
    on_table("__len__"),
    st.builds(lambda name: lambda db: db.drop_table(name), names),
    st.just(lambda db: db.drop_tables()),
)


class UndoError(Exception):
    """Leaves a transaction."""


class Sides:
    """The model and ours; each step must come to the same on both."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model: Any = TinyDB(storage=SortedMemoryStorage)
        self.open()

    def open(self) -> None:
        self.ours = SqliteTinyDB(self.path)
        self.ours.storage.connection.execute("PRAGMA synchronous = OFF")  # speed; no power fails here

    def reopen(self) -> None:
        self.ours.close()
        self.open()
        self.model._tables.clear()

    def step(self, operation: Operation) -> None:
        assert outcome(operation, self.ours) == outcome(operation, self.model)
        assert state(self.ours) == state(self.model)

    def transaction(self, steps: list[Any], undo: bool) -> None:
        memory, tables = self.model.storage.memory, dict(self.model._tables)
        next_ids = {name: table._next_id for name, table in tables.items()}
        with suppress(UndoError), self.ours.transaction():
            for step in steps:
                self.transaction(*step) if isinstance(step, tuple) else self.step(step)
            if undo:
                raise UndoError
        if undo:
            self.model.storage.memory = memory
            self.model._tables.update(tables)
            for name, table in self.model._tables.items():
                table._next_id = next_ids.get(name)
                table.clear_cache()
        assert state(self.ours) == state(self.model)


def outcome(operation: Operation, db: Db) -> Any:
    try:
        result = operation(db)
    except Exception as error:  # noqa: BLE001 - whatever it is, both must raise it
        return type(error)
    found = result if isinstance(result, list) else [result]
    return json.dumps(result), [getattr(item, "doc_id", None) for item in found]


def state(db: Db) -> Any:
    # As JSON text, for 1, 1.0 and True are equal in Python; and the order of keys counts.
    return {name: [(d.doc_id, json.dumps(d)) for d in db.table(name)] for name in db.tables()}


transactions = st.recursive(
    st.tuples(st.lists(some_operations, max_size=4), st.booleans()),
    lambda inner: st.tuples(st.lists(some_operations | inner, max_size=4), st.booleans()),
    max_leaves=3,
)


@settings(max_examples=300)
@given(st.lists(some_operations | transactions | st.none(), max_size=12))
def test_random_operations_equal_tinydbs(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        sides = Sides(Path(directory, "a.db"))
        try:
            for step in steps:
                if step is None:
                    sides.reopen()
                elif isinstance(step, tuple):
                    sides.transaction(*step)
                else:
                    sides.step(step)
        finally:
            sides.ours.close()


# Transactions


def test_a_transaction_is_one_step_for_readers(store: SqliteTinyDB, path: Path) -> None:
    store.insert({"n": 1})
    with SqliteTinyDB(path, read_only=True) as reader:
        with store.transaction():
            store.insert({"n": 2})
            store.table("other").insert({})
            assert len(store) == 2
            assert reader.search(where("n").exists()) == [{"n": 1}]
            assert reader.tables() == {"_default"}
        assert reader.search(where("n").exists()) == [{"n": 1}, {"n": 2}]
        assert reader.tables() == {"_default", "other"}


def test_a_walk_sees_the_table_as_it_was_when_it_began(store: SqliteTinyDB) -> None:
    store.insert_multiple({"n": number} for number in range(3))
    walk = iter(store)
    assert next(walk) == {"n": 0}
    store.truncate()
    assert list(walk) == [{"n": 1}, {"n": 2}]


def test_an_exception_undoes_everything(store: SqliteTinyDB) -> None:
    store.insert({"n": 1})
    store.table("dropped").insert_multiple([{}, {}])
    store.table("dropped").remove(doc_ids=[2])
    with suppress(UndoError), store.transaction():
        store.insert_multiple([{}, {}])
        store.update({"n": 9})
        store.table("made").put([(7, {})])
        store.drop_table("dropped")
        with store.transaction():
            raise UndoError  # passes both
    assert store.tables() == {"_default", "dropped"}
    assert store.all() == [{"n": 1}]
    assert [store.table(name).insert({}) for name in ("_default", "made", "dropped")] == [2, 1, 3]


def test_a_transaction_that_sqlite_gave_up_takes_no_more(store: SqliteTinyDB) -> None:
    def changes() -> None:
        with store.transaction():
            store.insert({"n": 1})
            store.storage.connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
            store.insert({"n": 2})

    with pytest.raises(sqlite3.OperationalError, match="given it up"):
        changes()
    assert len(store) == 0
    assert store.insert({}) == 1


def test_half_an_operation_is_none(store: SqliteTinyDB) -> None:
    def broken() -> Iterator[tuple[int, dict[str, Any]]]:
        yield 1, {}
        raise UndoError

    with store.transaction():
        with pytest.raises(UndoError):
            store.put(broken())
        with pytest.raises(ValueError, match="JSON compliant"):
            store.insert_multiple([{}, {"n": float("nan")}])
    assert len(store) == 0


# Connections and files


def test_each_commit_waits_for_the_disk(store: SqliteTinyDB) -> None:
    pragma = store.storage.connection.execute
    assert pragma("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert pragma("PRAGMA synchronous").fetchall() == [(2,)]  # FULL


def test_to_open_a_file_that_is_there_writes_nothing(store: SqliteTinyDB, path: Path) -> None:
    """Who wants to look at it may have a full disk."""
    store.insert({"n": 1})
    log = path.with_name(f"{path.name}-wal")
    before = log.read_bytes()
    with SqliteTinyDB(path) as again:
        assert again.all() == [{"n": 1}]
        assert log.read_bytes() == before


def test_a_reader_cannot_write(store: SqliteTinyDB, path: Path) -> None:
    store.insert({"n": 1})
    with SqliteTinyDB(path, read_only=True) as reader:
        for write in (
            lambda: reader.insert({}),
            lambda: reader.put([(1, {})]),
            lambda: reader.remove(doc_ids=[1]),
            lambda: reader.remove(Fields(n=1)),
            lambda: reader.drop_table("_default"),
            reader.drop_tables,
            reader.truncate,
        ):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                write()
        assert reader.all() == [{"n": 1}]


def test_a_reader_needs_the_file(path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match=f"expected a database at {path}, found no file"):
        SqliteTinyDB(path, read_only=True)
    assert not path.exists()


def test_a_reader_that_was_there_first_sees_what_is_written_then(path: Path) -> None:
    SqliteTinyDB(path).close()
    with SqliteTinyDB(path, read_only=True) as reader, SqliteTinyDB(path) as writer:
        assert reader.all() == []
        writer.insert({"name": "plum"})
        assert reader.all() == [{"name": "plum"}]


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_database_is_refused(path: Path, read_only: bool) -> None:
    path.write_text("no database " * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database") as refused:
        SqliteTinyDB(path, read_only=read_only)
    opened = [one.resolve() for one in Path("/proc/self/fd").iterdir()]
    assert path.resolve() not in opened, "though somebody has the error, and with it the connection"
    assert refused.tb


def test_a_path_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=ro#%41é.db"
    with SqliteTinyDB(path) as db:
        db.insert({})
    assert path.exists()


def in_another_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1, thread_name_prefix="test-other") as pool:
        return pool.submit(work).result()


def test_each_thread_may_have_a_reader(store: SqliteTinyDB, path: Path) -> None:
    def read() -> list[Document]:
        with SqliteTinyDB(path, read_only=True) as reader:
            return reader.all()  # type: ignore[no-any-return]  # TinyDB forwards it untyped

    with store.transaction():
        store.insert({"n": 1})
        assert in_another_thread(read) == []
    assert in_another_thread(read) == [{"n": 1}]


def test_a_connection_may_be_handed_over(path: Path) -> None:
    store = in_another_thread(lambda: SqliteTinyDB(path))
    assert store.insert({"n": 1}) == 1
    assert in_another_thread(store.all) == [{"n": 1}]
    in_another_thread(store.close)


def test_a_transaction_belongs_to_its_thread(store: SqliteTinyDB) -> None:
    with store.transaction():
        store.insert({"n": 1})
        with pytest.raises(sqlite3.ProgrammingError, match="one thread at a time"):
            in_another_thread(lambda: store.insert({"n": 2}))
        store.insert({"n": 3})
    assert in_another_thread(lambda: store.insert({"n": 4})) == 4
    assert store.count(Fields(n=[1, 3, 4])) == len(store) == 3


def test_close_moves_the_log_into_the_file(path: Path) -> None:
    store = SqliteTinyDB(path)
    store.insert({"n": 1})
    with SqliteTinyDB(path, read_only=True):  # with it open SQLite itself would leave the log
        store.close()
        store.close()
        copy = path.with_name("copy.db")
        shutil.copyfile(path, copy)
    with SqliteTinyDB(copy, read_only=True) as db:
        assert db.all() == [{"n": 1}]
    with pytest.raises(sqlite3.ProgrammingError):
        store.all()


def test_what_is_free_is_given_back_in_parts(store: SqliteTinyDB) -> None:
    def free() -> int:
        return int(store.storage.connection.execute("PRAGMA freelist_count").fetchone()[0])

    assert not store.storage.give_back(5)
    store.put((number, {"text": "x" * 200}) for number in range(1000))
    store.truncate()
    before = free()
    assert before > 100
    assert store.storage.give_back(5)
    assert free() == before - 5
    assert store.storage.give_back(10_000)
    assert free() == 0
    assert not store.storage.give_back(5)


def test_storage_of_a_plain_tinydb(path: Path) -> None:
    caching = CachingMiddleware(SqliteStorage)  # type: ignore[no-untyped-call]
    with TinyDB(path, storage=caching) as plain:
        plain.insert_multiple([{"n": 1}, {"n": 2}])
        plain.table("other").insert({})
    with TinyDB(path, storage=SqliteStorage) as plain:
        plain.remove(where("n") == 1)
        plain.drop_table("other")
        assert plain.tables() == {"_default"}
        changes = plain.storage.connection.total_changes
        plain.insert(Document({"n": 0}, doc_id=-1))
        assert plain.storage.connection.total_changes - changes == 1
    with SqliteTinyDB(path) as db:
        assert [(d.doc_id, d) for d in db] == [(-1, {"n": 0}), (2, {"n": 2})]


def test_everything_to_json_and_back(store: SqliteTinyDB, tmp_path: Path) -> None:
    store.insert({"text": "\ud800", "number": 2**70})
    store.table("other", persist_empty=True)
    everything = store.storage.read()
    with TinyDB(tmp_path / "a.json", storage=JSONStorage) as plain:
        plain.storage.write(everything)
        back = plain.storage.read()
    store.drop_tables()
    assert store.storage.read() is None
    store.storage.write(back)
    assert store.storage.read() == everything


def test_what_only_reads_keeps_little_of_the_file_in_memory(tmp_path: Path) -> None:
    SqliteTinyDB(tmp_path / "a.db").close()
    with SqliteTinyDB(tmp_path / "a.db", read_only=True) as db:
        assert db.storage.connection.execute("PRAGMA cache_size").fetchone() == (-READER_CACHE_KIB,)
