"""What a table's own verbs answer, and what each operation costs."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.storages import MemoryStorage
from tinydb.table import Document

from puppetmaster.store.sqlite.documents import (
    Contains,
    Except,
    Fields,
    Fixed,
    Indexes,
    Partial,
    Present,
    SqliteTable,
    SqliteTinyDB,
    Where,
)
from puppetmaster.store.sqlite.rows import Changes, Schema

INDEXES: Indexes = {"requests": [("job", "status"), Fixed(("destination",)), Partial(("message",))]}

EVERY = list(range(1, 61))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteTinyDB]:
    with SqliteTinyDB(tmp_path / "a.db", indexes=INDEXES) as db:
        yield db


@pytest.fixture
def requests(db: SqliteTinyDB) -> SqliteTable:
    """Ids 1 to 60 over jobs 0 to 2; every tenth has a message."""
    table = db.table("requests")
    table.put((number, request(number)) for number in range(1, 61))
    return table


def request(number: int) -> dict[str, Any]:
    return {
        "job": number % 3,
        "status": "sent" if number % 2 else "pending",
        "destination": f"cg-{number}",
        "message": number if number % 10 == 0 else None,
    }


# Its own verbs


def test_the_last_that_fits_is_found(requests: SqliteTable) -> None:
    assert requests.last_values(("job", "status"), {"status": "pending", "job": 1}) == (58, 1, "pending")
    assert requests.last_values(("job",), {"job": 7}) is None


def test_values_are_listed_once_in_order(requests: SqliteTable) -> None:
    assert requests.distinct("job") == [0, 1, 2]
    assert requests.distinct("message") == [10, 20, 30, 40, 50, 60]
    names = requests.distinct("destination", [{"job": 1}, {"status": "sent"}, {"job": Except([2])}])
    assert names == sorted(f"cg-{number}" for number in range(1, 61, 6))


def test_a_field_of_an_object_is_a_field(db: SqliteTinyDB) -> None:
    table = db.table("t")
    table.put([(1, {"labels": {"a.b/c-d": "x"}}), (2, {"labels": {"a": {"b/c-d": "x"}}}), (3, {"labels": 5})])
    assert table.ids({"labels.a.b/c-d": "x"}).tolist() == [1]
    assert table.distinct("labels.a.b/c-d") == ["x"]
    assert table.ids({"labels.a": None}).tolist() == [1, 3]


def test_put_inserts_and_replaces(db: SqliteTinyDB) -> None:
    table = db.table("t")
    table.put([(5, {"a": 1}), (2**40, {"b": 2})])
    table.put([(5, {"c": 3})])
    assert table.all() == [{"c": 3}, {"b": 2}]
    assert table.insert({}) == 2**40 + 1
    table.append([{"d": 4}, {"e": 5}])
    assert table.get(doc_id=2**40 + 3) == {"e": 5}
    table.put([(2**41, {})])
    assert table.insert({}) == 2**41 + 1


@pytest.mark.parametrize("doc_id", [None, "1", 1.0])
def test_ids_are_integers(db: SqliteTinyDB, doc_id: Any) -> None:
    with pytest.raises(TypeError, match="integer"):
        db.put([(1, {}), (doc_id, {})])
    with pytest.raises(TypeError, match="integer"):
        db.insert(Document({}, doc_id=doc_id))
    assert len(db) == 0


def test_documents_within_so_many_bytes(requests: SqliteTable, db: SqliteTinyDB) -> None:
    with db.transaction():
        found, taken = requests.within(range(1, 61), 300)
        assert 2 <= len(found) < 6
        assert (found, taken) == (requests.get(doc_ids=list(range(1, len(found) + 1))), len(found))
        assert requests.within([5, 200, 7, 8][:3], 1) == (requests.get(doc_ids=[5]), 1)
        assert requests.within([5, 6, 900], 10_000) == (requests.get(doc_ids=[5, 6]), 3)
        assert requests.within([900, 901], 1) == ([], 2)
        assert db.table("none").within([1], 1) == ([], 1)


def test_ids_in_few_bytes_and_in_pages(requests: SqliteTable, db: SqliteTinyDB) -> None:
    assert requests.ids({"job": 1}).tolist() == list(range(1, 61, 3))
    assert requests.ids(limit=2, offset=3).tolist() == [4, 5]
    assert requests.ids().itemsize == 8
    assert db.table("none").ids().tolist() == []


def test_delete(requests: SqliteTable) -> None:
    assert requests.remove(doc_ids=[2, 1, 2, 999]) == [2, 1]
    assert requests.remove(doc_ids=[]) == []
    assert len(requests) == 58


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Fields(job=Except([0, 2]), status="sent"), list(range(1, 61, 6))),
        (Fields(job=Except([1])), [number for number in EVERY if number % 3 != 1]),
        (Fields(job=Except([])), EVERY),
        (Fields(message=Except([10, 20])), [number for number in EVERY if number not in (10, 20)]),
        (Fields(nowhere=Except([1])), EVERY),
        (Fields(message=Present()), [10, 20, 30, 40, 50, 60]),
        (Fields(destination=Contains("G-7")), [7]),
        (Fields(status=Contains("en")), EVERY),
        (Fields(destination=Contains("%")), []),
        (Fields(nowhere=Contains("a")), []),
        (Fields(destination=Contains("")), EVERY),
    ],
)
def test_any_tinydb_takes_a_query_by_fields(requests: SqliteTable, query: Fields, ids: list[int]) -> None:
    found = [(number, request(number)) for number in ids]
    assert [(d.doc_id, d) for d in requests.search(query)] == found
    assert requests.count(query) == len(ids)
    assert [(d.doc_id, d) for d in requests if query(d)] == found
    plain = TinyDB(storage=MemoryStorage)
    plain.insert_multiple(requests.all())
    for _ in range(2):  # it keeps the answer
        assert [(d.doc_id, d) for d in plain.search(query)] == found


@pytest.mark.parametrize(("text", "found"), [("straÉ", 1), ("STRAÉ", 1), ("straé", 0)])
def test_letters_beyond_a_to_z_are_as_they_are(requests: SqliteTable, text: str, found: int) -> None:
    """For SQLite and for us."""
    requests.insert({"destination": "straÉ"})
    query = Fields(destination=Contains(text))
    assert requests.count(query) == sum(query(one) for one in requests) == found


def test_remove_by_fields(requests: SqliteTable) -> None:
    assert requests.remove(Fields(job=[0, 1])) == [number for number in range(1, 61) if number % 3 < 2]
    assert len(requests) == 20
    with pytest.raises(RuntimeError, match="truncate"):
        requests.remove()
    assert len(requests) == 20


def test_no_more_are_counted_than_somebody_wants_to_know(requests: SqliteTable) -> None:
    assert [requests.count(Fields(job=1), most) for most in (5, 20, 99)] == [5, 20, 20]


def test_a_table_that_is_not_there_is_empty(db: SqliteTinyDB) -> None:
    table = db.table("t")
    assert (table.all(), list(table.ids()), len(table), table.count(Fields(a=1))) == ([], [], 0, 0)
    assert (table.get(doc_id=1), table.get(doc_ids=[1])) == (None, [])
    assert (table.remove(doc_ids=[1]), table.remove(Fields(a=1))) == ([], [])
    assert db.tables() == {"t"}, "who removes from a table makes it, as in TinyDB"


def test_only_a_missing_table_is_an_empty_one(db: SqliteTinyDB) -> None:
    db.storage.connection.execute('CREATE TABLE "doc_t" (other INTEGER)')
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        db.table("t").all()


@pytest.mark.parametrize(
    "field", ["", "a b", "a'", "1a", "a.", ".b", "a.b c", 'a."', "a\n", "é", "$", "a')--"]
)
def test_a_field_is_a_plain_name(db: SqliteTinyDB, tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match="expected a field"):
        db.search(Fields({field: 1}))
    with pytest.raises(ValueError, match="expected a field"):
        SqliteTinyDB(tmp_path / "b.db", indexes={"t": [(field,)]})


def test_order_is_asc_or_desc(requests: SqliteTable) -> None:
    with pytest.raises(ValueError, match="'asc' or 'desc', got 'up'"):
        requests.page({}, order="up")  # type: ignore[arg-type]


wanted = st.sampled_from([None, True, False, 0, 1, 2, 1.0, 1.5, "", "1", "a", "A", "é", "\ud800", "'", '"'])
documents = st.dictionaries(st.sampled_from(["a", "b", "c"]), wanted)
conditions = st.dictionaries(st.sampled_from(["a", "b", "c"]), wanted | st.lists(wanted, max_size=3))


@given(st.lists(documents, max_size=8), st.lists(conditions, min_size=1, max_size=3), st.data())
def test_conditions_mean_equality(found: list[Any], some: list[dict[str, Any]], data: st.DataObject) -> None:
    def fits(document: dict[str, Any], condition: dict[str, Any]) -> bool:
        return all(document.get(f) in (v if isinstance(v, list) else [v]) for f, v in condition.items())

    indexes = {"t": [("a", "b"), Partial(("c",)), Fixed(("b",))]}
    with TemporaryDirectory() as directory, SqliteTinyDB(Path(directory, "a.db"), indexes=indexes) as db:
        table = db.table("t")
        table.put(enumerate(found))
        plain = TinyDB(storage=MemoryStorage)
        plain.insert_multiple(Document(one, doc_id) for doc_id, one in enumerate(found))
        for condition in some:
            ids = [doc_id for doc_id, document in enumerate(found) if fits(document, condition)]
            limit, offset = data.draw(st.none() | st.integers(0, 4)), data.draw(st.integers(0, 4))
            order = data.draw(st.sampled_from(["asc", "desc"]))
            end = None if limit is None else offset + limit
            assert table.ids(condition).tolist() == ids
            assert [d.doc_id for d in table.search(Fields(condition))] == ids
            assert [d.doc_id for d in plain.search(Fields(condition))] == ids, "any TinyDB takes it"
            assert table.count(Fields(condition)) == len(ids)
            assert table.contains(Fields(condition)) == bool(ids)
            first = table.get(Fields(condition))
            assert (None if first is None else first.doc_id) == (ids[0] if ids else None)
            page = table.page(condition, order=order, limit=limit, offset=offset)
            assert [d.doc_id for d in page] == (ids if order == "asc" else ids[::-1])[offset:end]
            assert page == [found[d.doc_id] for d in page]


def test_a_table_that_is_as_it_should_be_is_not_made_anew(tmp_path: Path) -> None:
    versions = []
    for _ in range(2):
        with SqliteTinyDB(tmp_path / "a.db", indexes=INDEXES) as db:
            db.table("requests").insert({"job": 1})
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            versions += connection.execute("PRAGMA schema_version").fetchall()
    assert versions[0] == versions[1]


# Documents


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_what_is_not_json_is_refused(db: SqliteTinyDB, value: Any) -> None:
    doc_id = db.insert({"value": 1})
    with pytest.raises((ValueError, TypeError)):
        db.update({"value": value})
    with pytest.raises((ValueError, TypeError)):
        db.put([(2, {}), (3, {"value": value})])
    assert db.all() == [{"value": 1}]
    assert db.get(doc_id=doc_id) == {"value": 1}


def test_nothing_returned_is_shared(db: SqliteTinyDB) -> None:
    document = {"deep": [1]}
    db.insert(document)
    document["deep"].append(2)
    for found in (
        db.all()[0],
        db.get(doc_id=1),
        db.get(doc_ids=[1])[0],
        db.search(where("deep").exists())[0],
    ):
        found["deep"].append(3)
    assert db.all() == [{"deep": [1]}]


def test_changes_are_a_mapping(requests: SqliteTable) -> None:
    def updater(changes: Changes) -> None:
        del changes[2]
        changes[100] = {"new": True}
        assert list(changes) == [1, *range(3, 61), 100]
        assert len(changes) == 60
        assert 2 not in changes
        with pytest.raises(KeyError):
            del changes[2]
        changes.clear()
        assert 1 not in changes
        assert not changes
        changes[3] = request(3)

    def cleared(changes: Changes) -> None:
        changes.clear()
        assert 3 not in changes
        changes[3] = request(3)

    requests._update_table(updater)
    requests._update_table(cleared)
    assert [(d.doc_id, d) for d in requests] == [(3, request(3))]


# What it costs


def test_cost_does_not_grow_with_the_table(db: SqliteTinyDB) -> None:
    table = db.table("requests")
    operations: list[Callable[[], object]] = [
        lambda: table.insert({}),
        lambda: table.insert_multiple([{}, {}, Document({}, doc_id=50)]),
        lambda: table.update({"a": 1}, doc_ids=[5]),
        lambda: table.upsert(Document({"a": 2}, doc_id=5)),
        lambda: table.remove(doc_ids=[6]),
        lambda: table.put([(5, {"job": 77}), (8, {})]),
        lambda: table.get(doc_id=5),
        lambda: table.get(doc_ids=[5, 7]),
        lambda: table.contains(doc_id=4),
        lambda: table.search(Fields(job=77)),
        lambda: table.count(Fields(job=77)),
        lambda: table.remove(doc_ids=[7]),
        lambda: table.remove(Fields(destination="none")),
        lambda: db.tables(),
    ]

    def costs(size: int) -> list[int]:
        table.truncate()
        table.put((-number, request(number)) for number in range(10, 10 + size))
        table.put([(5, {"job": 77}), (6, {"job": 77})])
        return [steps(db, operation) for operation in operations]

    small, large = costs(10), costs(1_000)
    assert steps(db, table.all) > 500  # the measure does see a walk
    assert all(after <= before + 5 for before, after in zip(small, large, strict=True)), (small, large)


def test_only_what_changed_is_written(db: SqliteTinyDB, requests: SqliteTable) -> None:
    assert changed(db, lambda: requests.update({"a": 1}, where("destination") == "cg-7")) == 1
    assert changed(db, lambda: requests.update({"a": 1}, where("destination") == "cg-7")) == 0
    assert changed(db, lambda: requests.update({"a": True}, where("destination") == "cg-7")) == 1
    assert changed(db, lambda: requests.update({"job": 1})) == 40
    assert changed(db, lambda: requests.update(lambda d: d["deep"].append(1) if "deep" in d else None)) == 0
    assert changed(db, lambda: requests.remove(where("status") == "sent")) == 30


def test_indexes_reach_a_table_that_exists(tmp_path: Path) -> None:
    with SqliteTinyDB(tmp_path / "b.db") as db:
        db.table("requests").insert({"job": 1})
    with SqliteTinyDB(tmp_path / "b.db", indexes=INDEXES) as db:
        assert "index_requests.job.status" in plan(db, lambda: db.table("requests").ids({"job": 1}))


def test_a_fixed_field_comes_to_a_table_that_exists_and_goes_again(tmp_path: Path) -> None:
    documents = {1: {"destination": "cg-1", "a": 1}, 2: {"destination": None}, 3: {}, 2**40: {"a": [{}]}}
    for indexes in (
        INDEXES,
        {"requests": []},
        {"requests": [Fixed(("a", "job")), ("destination",)]},
        INDEXES,
    ):
        with SqliteTinyDB(tmp_path / "b.db", indexes=indexes) as db:
            table = db.table("requests")
            table.put(documents.items())
            assert {one.doc_id: one for one in table.all()} == documents
            assert table.ids({"destination": "cg-1"}).tolist() == [1]
            assert table.ids({"a": [1]}).tolist() == [1]
            assert table.ids({"destination": None}).tolist() == [2, 3, 2**40]


def test_a_fixed_field_stays_as_it_is(db: SqliteTinyDB, requests: SqliteTable) -> None:
    before = requests.get(doc_id=7)
    for change in (
        lambda: requests.put([(7, {**before, "destination": "cg-8"})]),
        lambda: requests.update({"destination": None}, doc_ids=[7]),
        lambda: requests.update_multiple(
            [({"job": 9}, where("job") == 1), ({"destination": ""}, where("job") == 9)]
        ),
    ):
        with pytest.raises(sqlite3.IntegrityError, match="fixed_destination"):
            change()
        assert requests.get(doc_id=7) == before
    requests.update({"status": "resolved", "destination": "cg-7"}, doc_ids=[7])
    assert requests.ids({"destination": "cg-7"}).tolist() == [7]
    requests.remove(doc_ids=[7])
    requests.put([(7, {"destination": "cg-8"})])
    assert requests.ids({"destination": "cg-8"}).tolist() == [7, 8]


def test_an_index_of_fixed_fields_is_not_touched_by_other_changes(db: SqliteTinyDB) -> None:
    def touched(*indexes: tuple[str, ...]) -> int:
        put = Schema(db.storage.connection, "t", indexes)
        put.bring_up()
        program = db.storage.connection.execute(f"EXPLAIN {put.put}", (1, "{}")).fetchall()
        return sum(step[1] == "IdxDelete" for step in program)

    db.table("t").insert({})
    assert (touched(), touched(("a",)), touched(Fixed(("a",))), touched(Fixed(("a",)), ("b",))) == (
        0,
        1,
        0,
        1,
    )


def test_indexes_that_are_not_needed_any_more_go(tmp_path: Path) -> None:
    def indexes() -> list[str]:
        connection = sqlite3.connect(tmp_path / "b.db")
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
        connection.close()
        return sorted(name for (name,) in names)

    with SqliteTinyDB(tmp_path / "b.db", indexes={"a": [("x",), Partial(("y",))], "b": [("x",)]}) as db:
        db.table("a").insert({"x": 1, "y": 2})
        db.table("b").insert({"x": 1})
    assert indexes() == ["index_a.x", "index_b.x", "partial_a.y"]
    with SqliteTinyDB(tmp_path / "b.db", indexes={"a": [("x", "y"), ("x",)]}) as db:
        assert db.table("a").ids({"x": 1}).tolist() == [1]
    assert indexes() == ["index_a.x", "index_a.x.y", "index_b.x"]
    SqliteTinyDB(tmp_path / "b.db").close()
    assert len(indexes()) == 3


JOB, DESTINATION, MESSAGE = (
    "index_requests.job.status",
    "fixed_requests.destination",
    "partial_requests.message",
)


@pytest.mark.parametrize(
    ("condition", "used", "sorts"),
    [
        ({"job": 1, "status": "sent"}, JOB, False),
        ({"job": 1, "status": ["sent", "pending"]}, JOB, True),
        ({"job": 1, "status": None}, JOB, False),
        ({"job": 1, "status": [None, "sent"]}, JOB, True),
        ({"job": 1}, JOB, True),
        ({"destination": "cg-1"}, DESTINATION, False),
        ({"destination": ["cg-1", "cg-2"]}, DESTINATION, True),
        ({"message": 10}, MESSAGE, False),
        ({"message": [10, 20]}, MESSAGE, True),
    ],
)
def test_conditions_use_indexes(
    db: SqliteTinyDB, requests: SqliteTable, condition: Where, used: str, sorts: bool
) -> None:
    for verb in (
        lambda: requests.search(Fields(condition)),
        lambda: requests.page(condition, order="desc", limit=10, offset=20),
        lambda: requests.ids(condition),
        lambda: requests.count(Fields(condition)),
        lambda: requests.remove(Fields(condition)),
    ):
        steps = plan(db, verb)
        assert f"INDEX {used} (" in steps
        assert "SCAN doc_requests" not in steps
    assert ("TEMP B-TREE" in plan(db, lambda: requests.ids(condition))) is sorts


def test_a_partial_index_holds_few(db: SqliteTinyDB, requests: SqliteTable) -> None:
    entries = {key: int(key in (10, 20, 30, 40, 50, 60)) for key in (9, 10, 11, 60)}
    assert {key: requests.count(Fields(message=key)) for key in entries} == entries
    schema = db.storage.connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = ?", (MESSAGE,)
    ).fetchall()
    assert schema[0][0].endswith("WHERE json_extract(doc, '$.message') IS NOT NULL")


def changed(db: SqliteTinyDB, operation: Callable[[], object]) -> int:
    """How many rows it writes or removes."""
    before = db.storage.connection.total_changes
    operation()
    return db.storage.connection.total_changes - before


def steps(db: SqliteTinyDB, operation: Callable[[], object]) -> int:
    """How far SQLite's machine runs for it: grows with the rows looked at, not with time."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    db.storage.connection.set_progress_handler(step, 1)
    operation()
    db.storage.connection.set_progress_handler(None, 1)
    return count


def plan(db: SqliteTinyDB, operation: Callable[[], object]) -> str:
    """How SQLite goes about the statements on documents that it runs."""
    seen: list[str] = []
    connection = db.storage.connection
    connection.set_trace_callback(seen.append)
    operation()
    connection.set_trace_callback(None)
    rows = [connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in seen if "json_" in sql]
    return "\n".join(row[3] for found in rows for row in found)
