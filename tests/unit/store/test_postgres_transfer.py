"""Moving from the file to PostgreSQL and back, with the two commands."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from puppetmaster.cli.main import cli
from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway
from puppetmaster.model.job import JobStatus
from puppetmaster.settings import Settings
from puppetmaster.store import opening
from puppetmaster.store.base import Changes, Store
from puppetmaster.store.datadir import known
from puppetmaster.store.postgres import transfer as postgres
from puppetmaster.store.postgres.store import PostgresStore
from puppetmaster.store.sqlite.store import SqliteStore
from puppetmaster.store.transfer import PART
from tests.stored import as_ended, creation, first_of


def _fill(store: Store) -> None:
    """An ended job with odd texts, an open one, a removed one that is still being removed, a gateway."""
    ended = creation(1, total=3, name="night", key="k\n\ud800")
    ended.jobs[1] = as_ended(ended.jobs[1])
    store.commit(ended)
    waiting = creation(2, total=3)
    store.commit(waiting)
    store.commit(Changes(sendings={first_of(2) + 900: waiting.requests[first_of(2)]}))
    removed = creation(3, total=900)
    store.commit(removed)
    store.commit(Changes(deleted=removed.jobs))
    gateway = Gateway(name="cg-x", labels={"site": "north"}, note="é\ud800")
    store.commit(Changes(gateways={"cg-x": gateway}, ids=creation(3).ids))


def _content(file: Path) -> Any:
    """All that an export has, but for the gateways' numbers and what belongs to one file."""
    tables = json.loads(file.read_text())
    tables["gateways"] = sorted(tables["gateways"].values(), key=lambda one: str(one["name"]))
    tables["meta"]["1"] = {
        name: value
        for name, value in tables["meta"]["1"].items()
        if name not in ("generation", "inode", "undone")
    }
    return tables


def _told(*words: str, **env: str) -> str:
    ran = CliRunner().invoke(cli, words, env=env, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_an_installation_moves_to_postgresql_and_back_with_the_two_commands(
    where: str, tmp_path: Path
) -> None:
    with closing(SqliteStore(tmp_path / "data")) as store:
        _fill(store)
        name = store.installation
    here, there = {"PUPPETMASTER_DATA_DIR": str(tmp_path / "data")}, {"PUPPETMASTER_STORE": where}
    files = [tmp_path / f"{number}.json" for number in range(4)]
    assert _told("export", str(files[0]), **here) == f"2 jobs are in {files[0]}.\n"
    assert _told("import", str(files[0]), **here, **there) == f"2 jobs are in {where}.\n"
    _told("export", str(files[1]), **here, **there)
    back = {"PUPPETMASTER_DATA_DIR": str(tmp_path / "back")}
    _told("import", str(files[1]), **back)
    _told("export", str(files[2]), **back)
    first, second, third = (_content(file) for file in files[:3])
    assert second["meta"]["1"]["installation"] == name
    assert second["jobs"]["2"]["status"] == "paused", "it may have run since"
    for table in ("items", "requests", "sendings", "gateways"):
        assert first[table] == second[table] == third[table], table
    assert second["jobs"] == third["jobs"]
    assert second["jobs"]["1"] == first["jobs"]["1"]
    with closing(PostgresStore(where)) as moved:
        assert [job.id for job, _ in moved.unfinished()] == [2]
        assert moved.now.sending(first_of(2) + 900) == first_of(2)
        assert moved.ids.next_request > first_of(3)


def test_an_export_of_a_version_without_templates_is_taken_in(where: str, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "data")) as store:
        store.commit(creation(1, total=3))
    file = tmp_path / "all.json"
    opening.export(Settings(data_dir=tmp_path / "data"), file)
    tables = json.loads(file.read_text())
    del tables["templates"], tables["meta"]["1"]["nextTemplate"]
    file.write_text(json.dumps(tables))
    assert opening.import_(file, Settings(data_dir=tmp_path / "other", store=where)) == 1
    with closing(PostgresStore(where)) as moved:
        assert moved.ids.next_template == 1


def test_parts_join(where: str, tmp_path: Path) -> None:
    with closing(PostgresStore(where)) as store:
        store.commit(creation(1, total=2 * PART + 1))
    assert postgres.export(where, tmp_path / "all.json") == 1
    assert len(_content(tmp_path / "all.json")["requests"]) == 2 * PART + 1


def test_an_import_needs_an_empty_database_and_is_there_as_a_whole(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteStore(tmp_path / "data")) as store:
        _fill(store)
    settings = Settings(data_dir=tmp_path / "data")
    opening.export(settings, tmp_path / "all.json")
    there = Settings(data_dir=tmp_path / "other", store=where)

    def broken(*_: object) -> None:
        raise OSError("cut")

    with monkeypatch.context() as patch:
        patch.setattr("puppetmaster.store.postgres.rows.gateways", broken)
        with pytest.raises(StoreError, match="cut"):
            opening.import_(tmp_path / "all.json", there)
    assert opening.import_(tmp_path / "all.json", there) == 2
    with pytest.raises(StoreError, match="is not empty: import into another database"):
        opening.import_(tmp_path / "all.json", there)


def test_an_import_waits_for_no_bundle_that_runs(where: str, tmp_path: Path) -> None:
    with closing(PostgresStore(where)):
        postgres.export(where, tmp_path / "all.json")
        with pytest.raises(StoreError, match="Another puppetmaster leads"):
            postgres.import_(tmp_path / "all.json", where)


# What was left behind


def test_a_file_that_was_left_behind_sends_nothing_by_itself(where: str, tmp_path: Path) -> None:
    """PUPPETMASTER_STORE was unset by mistake."""
    file, database = Settings(data_dir=tmp_path), Settings(data_dir=tmp_path, store=where)
    for settings, expected in (
        (file, [JobStatus.DISPATCHING]),
        (database, [JobStatus.DISPATCHING]),
        (file, [JobStatus.PAUSED]),
        (database, [JobStatus.PAUSED]),
    ):
        store = opening.open_store(settings)
        if store.ids.next_job == 1:
            store.commit(creation(1))
        assert [job.status for job in store.now.jobs({})] == expected
        store.close()


def test_the_database_that_was_used_is_remembered(where: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", store=where)
    for number in (1, 2):
        store = opening.open_store(settings)
        found = known(tmp_path / "data")
        assert found is not None
        assert (found.installation, found.epoch) == (store.installation, number)
        store.close()
    (tmp_path / "data" / "puppetmaster.postgresql").write_text("no JSON")
    assert known(tmp_path / "data") is None
    opening.open_store(settings).close()
