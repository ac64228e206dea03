"""Export to one plain TinyDB file and import from it, both judged by TinyDB itself."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB, where

from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway, Sought
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes, Ids, ahead
from puppetmaster.store.sqlite.migrations import FORMAT
from puppetmaster.store.sqlite.store import FILE_NAME, SWEEP, SqliteStore
from puppetmaster.store.transfer import IMPORTED, PART, export, import_
from tests.examples import AT, LATER, a_job, a_request, an_item
from tests.stored import TEMPLATES, assert_held

FIRST = FIRST_REQUEST_ID
SECOND = FIRST + SWEEP + 1


def _made(id_: int, first: int, total: int, **given: Any) -> Changes:
    requests = [a_request(id=first + n, job=id_, item=first, destination=f"cg-{n}") for n in range(total)]
    requests[0] = replace(
        requests[0],
        status=RequestStatus.SENT,
        sent_at=AT,
        message=first + 900_000,
        attempts=2,
        result={"code": 200, "data": "\0\ud800ä", "n": 2**70},
    )
    return Changes(
        jobs={id_: a_job(id=id_, first=first, total=total, **given)},
        items={first: an_item(id=first, job=id_, data={"ä": [0.1]})},
        requests={request.id: request for request in requests},
        sendings={first + 900_000: requests[0]},
        ids=Ids(id_ + 1, first + total),
    )


def _filled(data_dir: Path) -> SqliteStore:
    """Job 1 of many requests, job 2 of three, a gateway with labels, and templates."""
    made = SqliteStore(data_dir)
    made.commit(_made(1, FIRST, SWEEP + 1, name="night"))
    made.commit(_made(2, SECOND, 3, status=JobStatus.RESOLVED, finished_at=LATER))
    gateway = Gateway(name="cg-x", labels={"site": "north"}, note="x")
    made.commit(Changes(gateways={"cg-x": gateway}, templates=TEMPLATES, ids=Ids(3, SECOND + 3, 5)))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(_filled(tmp_path / "data")) as made:
        yield made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, for tests that only read it."""
    place = tmp_path_factory.mktemp("exported")
    with closing(_filled(place / "data")):
        export(place / "data", place / "all.json")
    return place / "all.json"


def _everything(store: SqliteStore) -> tuple[list[Job], list[Any], Ids, str]:
    with store.reading() as reader:
        others = [
            reader.requests({}),
            reader.items([1, 2]),
            [reader.sending(first + 900_000) for first in (FIRST, SECOND)],
            reader.gateways(reader.gateway_names(Sought())),
        ]
        return reader.jobs({}), others, store.ids, store.installation


def test_tinydb_reads_an_export(store: SqliteStore, tmp_path: Path) -> None:
    assert export(tmp_path / "data", tmp_path / "all.json") == 2
    with TinyDB(tmp_path / "all.json") as plain:
        assert plain.tables() == {"meta", "jobs", "items", "requests", "sendings", "gateways", "templates"}
        assert dict(plain.table("meta").all()[0]) == {
            "format": FORMAT,
            "installation": store.installation,
            "nextJob": 3,
            "nextRequest": SECOND + 3,
            "nextTemplate": 5,
            **store.marks,
        }
        jobs = plain.table("jobs")
        assert [Job.from_document(job.doc_id, job) for job in jobs] == store.now.jobs({})[::-1]
        (night,) = jobs.search(where("name") == "night")
        requests = plain.table("requests").search(where("job") == night.doc_id)
        assert [Request.from_document(one.doc_id, one) for one in requests] == store.now.requests({"job": 1})
        assert len(plain.table("requests")) == SWEEP + 4
        found = plain.table("sendings").get(doc_id=SECOND + 900_000)
        assert found == {"request": SECOND, "job": 2}


def test_an_import_is_what_was_exported(store: SqliteStore, tmp_path: Path) -> None:
    export(tmp_path / "data", tmp_path / "all.json")
    assert import_(tmp_path / "all.json", tmp_path / "new") == 2
    with closing(SqliteStore(tmp_path / "new")) as new:
        (ended, night), others, ids, name = _everything(store)
        noted = new.now.jobs({"status": "paused"})[0].events
        assert [(event.what, event.by, event.why) for event in noted] == [
            ("paused", "puppetmaster", IMPORTED)
        ]
        paused = replace(night, status=JobStatus.PAUSED, reason=IMPORTED, events=noted)
        assert _everything(new) == ([ended, paused], others, ahead(ids), name)
        assert_held(new.now, "it was imported")
        assert [job.id for job, _ in new.unfinished()] == [1]
    export(tmp_path / "new", tmp_path / "again.json")
    before, again = (json.loads((tmp_path / f"{file}.json").read_text()) for file in ("all", "again"))
    for changed in ("meta", "jobs", "templates"):
        del before[changed], again[changed]
    assert again == before


@pytest.mark.usefixtures("store")
def test_an_export_replaces_no_file_follows_no_link_and_is_for_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("all I have")
    (tmp_path / "all.json").symlink_to(tmp_path / "nowhere")
    for there in ("precious", "all.json"):
        with pytest.raises(StoreError, match=f"{there} exists: name another file"):
            export(tmp_path / "data", tmp_path / there)
    (tmp_path / "more.json.part").symlink_to(tmp_path / "precious")
    export(tmp_path / "data", tmp_path / "more.json")
    assert (tmp_path / "precious").read_text() == "all I have"
    assert not (tmp_path / "more.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "more.json").stat().st_mode) == 0o600


@pytest.mark.usefixtures("store")
def test_an_export_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, synced = tmp_path / "all.json", list[tuple[bool, bool]]()

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), file.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    export(tmp_path / "data", file)
    assert synced == [(False, False), (True, True)], "the file, and then the directory with its name"


def test_what_tinydb_changed_is_imported(exported: Path, tmp_path: Path) -> None:
    """TinyDB writes the file in its own way."""
    shutil.copy(exported, tmp_path)
    with TinyDB(tmp_path / "all.json") as plain:
        plain.table("jobs").update({"name": "day"}, doc_ids=[2])
    import_(tmp_path / "all.json", tmp_path / "new")
    with closing(SqliteStore(tmp_path / "new")) as new:
        assert [job.name for job in new.now.jobs({})] == ["day", "night"]
        assert len(new.now.requests({})) == SWEEP + 4


def test_an_empty_store_goes_out_and_in(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "data")) as store:
        assert export(tmp_path / "data", tmp_path / "none.json") == 0
        name = store.installation
    assert import_(tmp_path / "none.json", tmp_path / "new") == 0
    with closing(SqliteStore(tmp_path / "new")) as new:
        assert new.installation == name


def test_parts_join(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "data")) as store:
        store.commit(_made(1, FIRST, 2 * PART + 1))
        export(tmp_path / "data", tmp_path / "all.json")
    assert len(json.loads((tmp_path / "all.json").read_text())["requests"]) == 2 * PART + 1


def test_what_was_thrown_away_is_not_exported(store: SqliteStore, tmp_path: Path) -> None:
    job = store.now.job(1)
    assert job is not None
    store.commit(Changes(deleted={1: job}))
    assert export(tmp_path / "data", tmp_path / "all.json") == 1
    with TinyDB(tmp_path / "all.json") as plain:
        assert {request["job"] for request in plain.table("requests")} == {2}
    import_(tmp_path / "all.json", tmp_path / "new")


def test_an_export_of_format_1_is_imported(tmp_path: Path) -> None:
    """It has no gateways, which are those of its requests."""
    with closing(SqliteStore(tmp_path / "data")) as store:
        store.commit(_made(1, FIRST, 3))
        export(tmp_path / "data", tmp_path / "all.json")
        sent = store.now.request(FIRST)
    whole = json.loads((tmp_path / "all.json").read_text())
    whole["meta"]["1"]["format"] = 1
    del whole["sendings"], whole["gateways"]
    for field in ("startAt", "wave", "waveErrors", "gate"):
        del whole["jobs"]["1"][field]
    whole["jobs"]["1"].update(concurrency=None, idempotent=None)
    (tmp_path / "old.json").write_text(json.dumps(whole))
    import_(tmp_path / "old.json", tmp_path / "new")
    with closing(SqliteStore(tmp_path / "new")) as new:
        (job,) = new.now.jobs({})
        assert replace(job, events=()) == a_job(status=JobStatus.PAUSED, reason=IMPORTED)
        assert new.now.request(FIRST) == sent
        assert new.now.sending(FIRST + 900_000) == FIRST
        assert new.now.gateway_names(Sought()) == ["cg-0", "cg-1", "cg-2"]


def test_a_store_that_is_not_empty_takes_no_import(store: SqliteStore, tmp_path: Path) -> None:
    export(tmp_path / "data", tmp_path / "all.json")
    import_(tmp_path / "all.json", tmp_path / "new")
    with pytest.raises(StoreError, match=r"new/puppetmaster\.db is not empty: import into another directory"):
        import_(tmp_path / "all.json", tmp_path / "new")
    with pytest.raises(StoreError, match="Another puppetmaster uses"):
        import_(tmp_path / "all.json", tmp_path / "data")


@pytest.mark.parametrize(("text", "came"), [("[]", "list"), ("null", "NoneType"), ("5", "int")])
def test_what_has_no_tables_is_no_export(tmp_path: Path, text: str, came: str) -> None:
    (tmp_path / "all.json").write_text(text)
    with pytest.raises(StoreError, match=f"no export of puppetmaster's.* an object with tables, got {came}"):
        import_(tmp_path / "all.json", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_store_no_export(tmp_path: Path) -> None:
    said = f"{FILE_NAME} cannot be exported: expected a database at .* set PUPPETMASTER_DATA_DIR to where"
    with pytest.raises(StoreError, match=said):
        export(tmp_path, tmp_path / "all.json")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_no_file(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"none/all\.json cannot be written"):
        export(tmp_path / "data", tmp_path / "none" / "all.json")
    with closing(SqliteStore(tmp_path / "newer")) as newer:
        newer._db.table("meta").update({"format": FORMAT + 1})
        with pytest.raises(StoreError, match=f"has format {FORMAT + 1}"):
            export(tmp_path / "newer", tmp_path / "all.json")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"all\.json cannot be written: .*No space left"):
        export(tmp_path / "data", tmp_path / "all.json")
    assert [path.name for path in tmp_path.glob("*.json*")] == []


Wreck = Callable[[dict[str, Any]], object]

WRECKS: list[tuple[Wreck, str]] = [
    (lambda whole: whole.clear(), "is no export of puppetmaster's: expected the tables meta, .* got none"),
    (lambda whole: whole.pop("meta"), "expected the tables"),
    (lambda whole: whole.update(_default={"1": {}}), "got .*_default"),
    (lambda whole: whole["meta"]["1"].update(format=FORMAT + 1), f"has format {FORMAT + 1} and this version"),
    (lambda whole: whole["meta"]["1"].pop("format"), "has format None"),
    (lambda whole: whole["meta"]["1"].update(nextJob=2), "job 2 has ids that are still to be given out"),
    (lambda whole: whole["meta"]["1"].update(nextRequest=SECOND + 2), "job 2 has ids that are still"),
    (lambda whole: whole["meta"]["1"].pop("nextJob"), "lacks nextJob in its meta document"),
    (lambda whole: whole["jobs"]["2"].pop("first"), "KeyError: 'first'"),
    (lambda whole: whole["jobs"]["2"].update(status="odd"), "ValueError: 'odd'"),
    (lambda whole: whole["jobs"].pop("2"), f"expected {SWEEP + 1} requests of its jobs, got {SWEEP + 4}"),
    (lambda whole: whole["jobs"].update(x={}), "ValueError: invalid literal"),
    (lambda whole: whole["jobs"].update({str(2**64): {}}), "OverflowError"),
    (lambda whole: whole.update(jobs=[]), "AttributeError"),
    (lambda whole: whole["items"].pop(str(SECOND)), f"expected the item {SECOND} of job 2, got none"),
    (lambda whole: whole["requests"].pop(str(SECOND)), f"expected the requests {SECOND} to {SECOND + 2}"),
    (lambda whole: whole["requests"].update({str(SECOND): 5}), "TypeError"),
]


@pytest.mark.parametrize(("wreck", "expected"), WRECKS)
def test_what_is_no_export_is_refused_as_a_whole(
    exported: Path, tmp_path: Path, wreck: Wreck, expected: str
) -> None:
    whole = json.loads(exported.read_text())
    wreck(whole)
    (tmp_path / "wrecked.json").write_text(json.dumps(whole))
    with pytest.raises(StoreError, match=f"wrecked.json.*{expected}"):
        import_(tmp_path / "wrecked.json", tmp_path / "new")
    assert import_(exported, tmp_path / "new") == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"meta": {"1": {"format": "x"}}}', "\ufeff{}"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(StoreError, match=r"odd\.json"):
        import_(tmp_path / "odd.json", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"odd\.json cannot be read: .*No such file"):
        import_(tmp_path / "odd.json", tmp_path / "new")
