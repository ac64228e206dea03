"""The file: who may open it, what cannot be opened and why, what its disk does, older formats."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB, where

from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Sought
from puppetmaster.model.notice import Notice, Owed
from puppetmaster.store.base import Changes, Ids
from puppetmaster.store.sqlite import migrations
from puppetmaster.store.sqlite.documents import SqliteStorage, SqliteTinyDB
from puppetmaster.store.sqlite.migrations import FORMAT
from puppetmaster.store.sqlite.store import FILE_NAME, SqliteStore
from puppetmaster.store.transfer import export
from tests import ROOT
from tests.desk import FailingDisk
from tests.examples import AT, a_job, an_item
from tests.stored import BY_HAND, creation, everything, fill, first_of
from tests.unit.store.conftest import Open


def test_a_killed_process_had_the_directory_for_itself_and_leaves_whole_commits(tmp_path: Path) -> None:
    """Each commit of the child writes a job with its three requests; it is killed between its answers."""
    script = (
        "import sys, pathlib\n"
        "from puppetmaster.store.sqlite.store import SqliteStore\n"
        "from tests.stored import creation\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
        "for number in range(1, 100000):\n"
        "    store.commit(creation(number))\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout
        told = 0
        while told < 20:
            told = int(child.stdout.readline())
        with pytest.raises(StoreError, match="Another puppetmaster uses"):
            SqliteStore(tmp_path)
        child.kill()
        told = int((child.stdout.read().split("\n")[:-1] or [str(told)])[-1])
    store = SqliteStore(tmp_path)
    jobs, requests = everything(store)
    assert len(jobs) >= told
    assert len(requests) == 3 * len(jobs)
    assert store.ids.next_job == len(jobs) + 1
    store.close()


def _refused(data_dir: Path) -> StoreError:
    with pytest.raises(StoreError) as refused:
        SqliteStore(data_dir)
    assert str(data_dir) in refused.value.message
    assert refused.value.message.endswith(".")
    assert not refused.value.message.endswith("..")
    return refused.value


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The file of a store that was used and closed."""
    store = SqliteStore(tmp_path)
    fill(store, 1, 2)
    store.close()
    return tmp_path / FILE_NAME


def _wreck_header(file: Path) -> None:
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])


def _wreck_pages(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * (file.stat().st_size - 4096))


def _replace_by_text(file: Path) -> None:
    file.write_text('{"jobs": {}}\n' * 1000)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [_wreck_header, _wreck_pages, _replace_by_text, _cut])
def test_a_damaged_file_is_refused_and_not_touched(closed: Path, damage: Callable[[Path], None]) -> None:
    damage(closed)
    before = closed.read_bytes()
    message = _refused(closed.parent).message
    assert message.startswith(f"{closed} is damaged (")
    assert message.endswith(
        "): move it away and start with an empty store, or put a copy of an earlier day or an import in its "
        "place; nothing was written to it."
    )
    assert closed.read_bytes() == before
    _refused(closed.parent)


def _meta(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with SqliteTinyDB(file) as db:
        meta = dict(db.table("meta").get(doc_id=1))
        change(meta)
        db.table("meta").put([(1, meta)])


def _rows(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 'doc_*'")]
    rows = [
        (name, connection.execute(f'SELECT * FROM "{name}" ORDER BY id').fetchall()) for name in sorted(names)
    ]
    connection.close()
    return rows


@pytest.mark.parametrize("found", [FORMAT + 1, 0, -1, True, "1", 1.5, None])
def test_another_format_is_refused_and_not_touched(closed: Path, found: Any) -> None:
    """Not even its indexes, which a newer version may have chosen otherwise."""
    with SqliteTinyDB(closed, indexes={"requests": [("item",)], "jobs": []}):
        _meta(closed, lambda meta: meta.update(format=found))
    before = closed.read_bytes()
    if found == FORMAT + 1:
        expected = f"and this version reads up to {FORMAT}: use the version that wrote it, or a newer one"
    else:
        expected = f"expected a number from 1 to {FORMAT}: it is no store of puppetmaster's; move it away"
    assert f"{closed} has format {found}{',' if 'number' in expected else ''} {expected}" in (
        _refused(closed.parent).message
    )
    assert closed.read_bytes() == before


def test_a_log_that_a_killed_process_left_of_a_newer_format_is_not_touched_either(closed: Path) -> None:
    with SqliteTinyDB(closed) as db:
        db.table("meta").update({"format": FORMAT + 1})
        left = {path.name: path.read_bytes() for path in closed.parent.iterdir()}
    assert b'"format":%d' % (FORMAT + 1) in left[f"{FILE_NAME}-wal"]
    for name, content in left.items():
        (closed.parent / name).write_bytes(content)
    assert f"has format {FORMAT + 1}" in _refused(closed.parent).message
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        assert (closed.parent / name).read_bytes() == left[name], name


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with SqliteTinyDB(tmp_path / FILE_NAME) as db:
        db.table("others").insert({"a": 1})
    before = (tmp_path / FILE_NAME).read_bytes()
    assert "it is no store of puppetmaster's" in _refused(tmp_path).message
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    store = SqliteStore(tmp_path)
    assert store.ids == Ids()
    store.close()


@pytest.mark.parametrize("table", ["items", "meta"])
def test_a_document_that_is_no_json_is_told_as_a_store_error(closed: Path, table: str) -> None:
    with closing(sqlite3.connect(closed, isolation_level=None)) as connection:
        for (index,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall():
            connection.execute(f'DROP INDEX "{index}"')
        connection.execute(f"""UPDATE doc_{table} SET doc = '{{"job":1,'""")
    _refused(closed.parent)


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    _refused(tmp_path / "data")
    _refused(tmp_path / "data" / "below")


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert "Is a directory" in _refused(tmp_path).message
    (tmp_path / FILE_NAME).rmdir()
    SqliteStore(tmp_path).close()


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Root may write anywhere: be somebody else for the moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only_dir() -> Iterator[Path]:
    """A directory that everybody may look into and nobody but root may write, with a store's files in it."""
    data_dir = Path(tempfile.mkdtemp())
    store = SqliteStore(data_dir)
    fill(store, 1)
    store.close()
    for file in data_dir.iterdir():
        file.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    data_dir.chmod(0o555)
    yield data_dir
    data_dir.chmod(0o755)
    shutil.rmtree(data_dir)


def test_a_directory_that_cannot_be_written_can_be_exported(read_only_dir: Path) -> None:
    before = (read_only_dir / FILE_NAME).read_bytes()
    with _unprivileged(), tempfile.TemporaryDirectory() as elsewhere:
        message = _refused(read_only_dir).message
        _refused(read_only_dir / "below")
        assert export(read_only_dir, Path(elsewhere) / "all.json") == 1
    assert message.startswith(f"{read_only_dir} cannot be used: ")
    assert message.endswith(". Set PUPPETMASTER_DATA_DIR to a directory that the bundle's user can write.")
    assert "Permission denied" in message
    assert (read_only_dir / FILE_NAME).read_bytes() == before


@contextmanager
def _full_disk(store: SqliteStore) -> Iterator[None]:
    """Let the file of this store not grow any more, as on a full disk."""
    connection = store._db.storage.connection
    connection.execute("PRAGMA max_page_count = 1")
    try:
        yield
    finally:
        connection.execute("PRAGMA max_page_count = 1073741823")


def test_a_full_disk_is_a_store_error_and_writes_nothing(store: SqliteStore, open_store: Open) -> None:
    fill(store, 1)
    before, ids = everything(store), store.ids
    with _full_disk(store):
        for _ in range(2):
            with pytest.raises(StoreError) as refused:
                store.commit(creation(2, total=500))
            assert refused.value.message.startswith(f"{store.path} cannot be written: ")
            assert "full" in refused.value.message
            assert refused.value.status == 503
            assert isinstance(refused.value.__cause__, sqlite3.Error)
            assert (everything(store), store.ids) == (before, ids)
    store.commit(creation(2, total=500))
    assert len(everything(open_store())[1]) == 503


def test_after_the_close_the_path_is_named(store: SqliteStore) -> None:
    store.close()
    with pytest.raises(StoreError) as refused:
        store.commit(creation(1))
    assert refused.value.message == f"{store.path} cannot be written: Cannot operate on a closed database."
    with pytest.raises(StoreError, match="cannot be read"):
        list(store.unfinished())


def test_a_file_that_went_away_is_a_store_error(store: SqliteStore) -> None:
    store.path.unlink()
    with pytest.raises(StoreError, match="cannot be read"), store.reading():
        pass


def test_a_reader_that_comes_back_after_the_close_is_closed(store: SqliteStore) -> None:
    with store.reading() as reader:
        store.close()
    assert store._spare.empty()
    with pytest.raises(StoreError, match="closed database"):
        reader.job(1)


def test_a_close_that_the_disk_does_not_confirm_is_a_store_error(open_store: Open) -> None:
    store = open_store()
    fill(store, 1)
    disk = FailingDisk(store)
    disk.error = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(StoreError, match="cannot be written: disk I/O error"):
        store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        disk.execute("SELECT 1")
    disk.error = None
    assert len(everything(open_store())[0]) == 1


@pytest.mark.parametrize(
    ("table", "lacks", "said"),
    [
        ("jobs", "first", r"job 1 cannot be read \(KeyError: 'first'\): it was changed"),
        ("items", "method", rf"item {first_of(1)} cannot be read \(TypeError: .*'method'"),
        ("requests", "destination", rf"request {first_of(1)} cannot be read \(KeyError: 'destination'"),
    ],
)
def test_a_document_that_lacks_a_field_is_told_as_a_store_error(
    store: SqliteStore, table: str, lacks: str, said: str
) -> None:
    fill(store, 1)
    id_ = 1 if table == "jobs" else first_of(1)
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE doc_{table} SET doc = json_remove(doc, '$.{lacks}') WHERE id = {id_}")
    connection.close()
    look: Callable[[Any], Any] = getattr(store.now, table)
    with pytest.raises(StoreError, match=said):
        look([1] if table == "items" else {})


@pytest.mark.parametrize("field", ["installation", "nextJob", "nextRequest"])
def test_a_file_whose_meta_lacks_a_field_is_refused(closed: Path, field: str) -> None:
    _meta(closed, lambda meta: meta.pop(field))
    assert f"lacks {field} in its meta document" in _refused(closed.parent).message


# It is a TinyDB


def test_any_tinydb_opens_the_file_and_what_it_writes_is_read(store: SqliteStore) -> None:
    changes = creation(1, key="k")
    store.commit(changes)
    with TinyDB(store.path, storage=SqliteStorage, read_only=True) as db:
        assert db.tables() == {
            *("jobs", "items", "requests", "sendings", "trash", "meta", "gateways", "templates", "outbox")
        }
        (job,) = db.table("jobs").search(where("key") == "k")
        assert (job.doc_id, job) == (1, changes.jobs[1].document())
        assert db.table("requests").count(where("status") == "pending") == 3
    store.close()
    with TinyDB(store.path, storage=SqliteStorage) as db:
        db.table("jobs").update({"name": "by hand"}, doc_ids=[1])
    with closing(SqliteStore(store.path.parent)) as again:
        assert again.now.job(1) == replace(changes.jobs[1], name="by hand")


# A file of an older version


def test_a_store_that_had_no_gateways_learns_them_from_its_requests_once(store: SqliteStore) -> None:
    fill(store, 1, 2)
    store._db.drop_table("gateways")
    store.close()
    for left in (3, 2):
        with closing(SqliteStore(store.path.parent)) as again:
            assert again.now.gateway_names(Sought()) == ["cg-0", "cg-1", "cg-2"][:left]
            again.commit(Changes(forgotten={"cg-2"}))


def test_names_of_gateways_are_looked_up_and_last_results_too(store: SqliteStore) -> None:
    fill(store, 1)
    run = store._db.storage.connection.execute
    plans: list[str] = []
    store._db.storage.connection.set_trace_callback(plans.append)
    store.now.gateways(["cg-1"])
    store.now.last_results(["cg-1"])
    store.now.gateway_names(Sought())
    store._db.storage.connection.set_trace_callback(None)
    told = [" ".join(row[3] for row in run(f"EXPLAIN QUERY PLAN {sql}")) for sql in plans if "FROM" in sql]
    indexed = [plan for plan in told if "fixed_gateways.name" in plan or "fixed_requests.destination" in plan]
    assert len(indexed) == 3, told
    assert not any("TEMP B-TREE" in plan for plan in indexed[1:])


def _format_1(data_dir: Path) -> Path:
    """A store as format 1 had it, made by hand: its indexes, and jobs without waves."""
    file = data_dir / FILE_NAME
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for name in ("jobs", "items", "requests", "meta"):
        connection.execute(f"CREATE TABLE doc_{name} (id INTEGER PRIMARY KEY, doc TEXT NOT NULL)")
    for fields in (("job", "status"), ("destination",), ("status",), ("message",)):
        columns = ", ".join(f"json_extract(doc, '$.{field}')" for field in fields)
        connection.execute(f'CREATE INDEX "index_requests.{".".join(fields)}" ON doc_requests ({columns})')
    job = a_job().document()
    for field in ("startAt", "wave", "waveErrors", "gate"):
        del job[field]
    job.update(concurrency=5, idempotent=True, given={"concurrency": 5, "idempotent": True})
    request = {"job": 1, "item": first_of(0), "destination": "cg-0", "status": "sent", "sentAt": AT}
    meta = {"format": 1, "installation": "0123456789abcdef", "nextJob": 2, "nextRequest": first_of(0) + 1003}
    for name, id_, document in [
        ("meta", 1, meta),
        ("jobs", 1, job),
        ("items", first_of(0), an_item().document()),
        ("requests", first_of(0), {**request, "attempts": 1}),
        ("requests", first_of(0) + 1, {**request, "attempts": 2, "message": first_of(1) + 2}),
        ("requests", first_of(0) + 2, {**request, "status": "pending"}),
    ]:
        connection.execute(f"INSERT INTO doc_{name} VALUES (?, ?)", (id_, json.dumps(document)))
    connection.close()
    return file


def test_a_store_of_format_1_is_brought_up_to_date(tmp_path: Path) -> None:
    file = _format_1(tmp_path)
    for _ in range(2):
        store = SqliteStore(tmp_path)
        assert (store.installation, store.ids) == ("0123456789abcdef", Ids(2, first_of(1) + 3))
        ((job, requests),) = store.unfinished()
        assert job == a_job(given={"concurrency": 5, "idempotent": True})
        assert [request.sending for request in requests] == [first_of(0), first_of(1) + 2, first_of(0) + 2]
        assert store.now.sending(first_of(1) + 2) == first_of(0) + 1
        assert store.now.sending(first_of(0)) is None
        store.close()
    with SqliteTinyDB(file) as db:
        assert db.table("meta").get(doc_id=1)["format"] == FORMAT
    connection = sqlite3.connect(file)
    indexes = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'doc_requests' ORDER BY name"
    ).fetchall()
    connection.close()
    assert indexes == [("fixed_requests.destination",), ("index_requests.status.job",)]


def test_a_migration_that_fails_leaves_the_old_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _format_1(tmp_path)
    before = _rows(file)

    def fails(db: SqliteTinyDB) -> None:
        db.table("jobs").truncate()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setitem(migrations.MIGRATIONS, 1, fails)
        assert "database or disk is full" in _refused(tmp_path).message
    assert [row for row in _rows(file) if row[1]] == before
    SqliteStore(tmp_path).close()


def test_there_is_a_step_from_every_format() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, FORMAT))


def test_a_file_of_a_version_without_time_lines_webhooks_and_templates_opens(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        store.commit(creation(1))
    with closing(SqliteTinyDB(tmp_path / FILE_NAME)) as db:
        for table in ("outbox", "templates"):
            db.drop_table(table)
        job = dict(db.table("jobs").all()[0])
        del job["events"], job["createdBy"]
        db.table("jobs").put([(1, job)])
    _meta(tmp_path / FILE_NAME, lambda meta: meta.pop("nextTemplate"))
    with closing(SqliteStore(tmp_path)) as store:
        (found,) = store.now.jobs({})
        assert (found.events, found.created_by, found.template, store.now.owed()) == ((), None, None, [])
        assert (list(store.now.template_ids()), store.now.template(2), store.ids.next_template) == (
            [],
            None,
            1,
        )
        assert store.now.template_named("by hand") is None
        store.commit(Changes(told={1}))
        owed = Owed(1, "ops", Notice("job-1-1", "x", "/jobs/1", AT, {}))
        store.commit(Changes(owed={1: owed}, templates={2: BY_HAND}))
        assert (store.now.owed(), store.now.template_named("by hand")) == ([owed], BY_HAND)
