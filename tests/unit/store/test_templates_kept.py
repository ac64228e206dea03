"""Templates in the file: what a store of an earlier version lacks, and what a copy must not do."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from puppetmaster.model.template import Record, Schedule, Template
from puppetmaster.store.base import Changes, Ids
from puppetmaster.store.sqlite.documents import SqliteTinyDB
from puppetmaster.store.sqlite.store import SqliteStore
from puppetmaster.store.transfer import export, import_
from tests.stored import creation

NIGHTLY = Template(
    id=4,
    name="nightly",
    job={"batch": []},
    schedule=Schedule(cron="0 3 * * *"),
    record=Record(decided_s=5.0, queued_s=5.0),
)
OFF = Template(id=2, name="by hand", job={"batch": []}, record=Record(decided_s=5.0))


def filled(data_dir: Path) -> Ids:
    with closing(SqliteStore(data_dir)) as store:
        store.commit(creation(1))
        ids = Ids(2, store.ids.next_request, 5)
        store.commit(Changes(templates={4: NIGHTLY, 2: OFF}, ids=ids))
        return ids


def assert_held(data_dir: Path, why: str) -> None:
    with closing(SqliteStore(data_dir)) as store:
        held = store.now.template(4)
        assert held is not None
        assert held.schedule is not None
        assert held.record.last is not None
        assert (held.scheduled, held.schedule.cron, held.record.queued_s) == (False, "0 3 * * *", None)
        assert why in held.record.last["message"]
        assert store.now.template(2) == OFF
        assert store.ids.next_template == 5


def test_a_store_of_an_earlier_version_has_no_templates(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(SqliteTinyDB(tmp_path / "puppetmaster.db")) as db:
        db.drop_table("templates")
        meta = dict(db.table("meta").all()[0])
        del meta["nextTemplate"]
        db.table("meta").put([(1, meta)])
    with closing(sqlite3.connect(tmp_path / "puppetmaster.db")) as connection, connection:
        connection.execute('DROP TABLE IF EXISTS "doc_templates"')
    with closing(SqliteStore(tmp_path)) as store:
        with store.reading() as reader:
            assert list(reader.template_ids()) == []
            assert (reader.template(4), reader.template_named("nightly")) == (None, None)
        assert [job.template for job in store.now.jobs({})] == [None]
        assert store.ids.next_template == 1
        store.commit(Changes(templates={1: OFF}))
        assert store.now.template_named("by hand") is not None


def test_a_copy_starts_nothing_by_itself(tmp_path: Path) -> None:
    filled(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert_held(tmp_path / "copy", "the store is a copy")
    with closing(SqliteStore(tmp_path / "data")) as store:
        assert store.now.template(4) == NIGHTLY


def test_what_is_imported_starts_nothing_by_itself(tmp_path: Path) -> None:
    filled(tmp_path / "data")
    assert export(tmp_path / "data", tmp_path / "all.json") == 1
    assert import_(tmp_path / "all.json", tmp_path / "new") == 1
    assert_held(tmp_path / "new", "it was imported")
