"""The directory of the store: who may read it, who may use it, and what is told of a copy."""

import errno
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from puppetmaster.errors import NotKnown, StoreError
from puppetmaster.model.job import Job, JobEvent, JobStatus
from puppetmaster.store import base
from puppetmaster.store.base import FIRST_REQUEST_ID, JOBS_AHEAD, REQUESTS_AHEAD, Changes, Ids, ahead
from puppetmaster.store.datadir import FILE_NAME, GENERATION_NAME, KNOWN_NAME, LOCK_NAME, DataDir, known
from puppetmaster.store.sqlite import documents
from puppetmaster.store.sqlite import store as store_module
from puppetmaster.store.sqlite.store import COPIED, SqliteStore
from tests.examples import LATER, a_job, a_request, an_item, counts
from tests.stored import NIGHTLY, TEMPLATES, assert_held

# Who may read it


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def everything_allowed() -> object:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("everything_allowed")
def test_nobody_else_reads_a_new_store(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with closing(SqliteStore(data_dir)) as store:
        store.commit(Changes(jobs={1: a_job()}))
        names = {path.name for path in data_dir.iterdir()}
        assert {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", LOCK_NAME, GENERATION_NAME} == names
        assert {_mode(path) for path in data_dir.iterdir()} == {0o600}
        assert _mode(data_dir) == 0o700


@pytest.mark.usefixtures("everything_allowed")
def test_what_was_left_open_is_closed_and_a_directory_is_its_owners(tmp_path: Path) -> None:
    """By an earlier version, or by a process that was killed, which left its log too."""
    data_dir = tmp_path / "left"
    with closing(SqliteStore(tmp_path / "running")) as store:
        store.commit(Changes(jobs={1: a_job()}))
        shutil.copytree(tmp_path / "running", data_dir)
    data_dir.chmod(0o755)
    for path in data_dir.iterdir():
        path.chmod(0o666)
    with closing(SqliteStore(data_dir)):
        assert data_dir / f"{FILE_NAME}-wal" in data_dir.iterdir()
        assert {_mode(path) for path in data_dir.iterdir()} == {0o600}
        assert _mode(data_dir) == 0o755


# Who may use it


def test_the_lock_file_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("all I have")
    (tmp_path / LOCK_NAME).symlink_to(tmp_path / "precious")
    SqliteStore(tmp_path).close()
    assert (tmp_path / "precious").read_text() == "all I have"


@pytest.mark.parametrize("removed", [(), (LOCK_NAME,)])
def test_one_process_at_a_time_also_without_the_lock_file(tmp_path: Path, removed: tuple[str, ...]) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        for name in removed:
            (tmp_path / name).unlink()
        with pytest.raises(StoreError) as refused:
            SqliteStore(tmp_path)
        assert refused.value.message == (
            f"Another puppetmaster uses {tmp_path}: stop it, or set PUPPETMASTER_DATA_DIR to another."
        )
        store.commit(Changes(jobs={1: a_job()}))
    SqliteStore(tmp_path).close()


def test_nothing_is_written_to_a_store_that_was_replaced(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        aside = store.path.rename(tmp_path / "aside")
        for there in (False, True):
            if there:
                store.path.touch()
            with pytest.raises(StoreError, match="was removed or replaced while it is in use"):
                store.commit(Changes(jobs={1: a_job()}))
        aside.rename(store.path)
        store.commit(Changes(jobs={1: a_job()}))


def test_a_directory_that_cannot_even_be_looked_for(tmp_path: Path) -> None:
    """As a directory in another user's, which only root may enter."""
    with pytest.raises(StoreError, match=r"cannot be used: .*File name too long"):
        SqliteStore(tmp_path / ("x" * 300))


def test_a_size_that_a_broken_disk_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteStore(tmp_path)) as store:
        assert store.disk_bytes() > 0
        monkeypatch.setattr(Path, "stat", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        with pytest.raises(StoreError, match=r"cannot be read: \[Errno 5\] Input/output error\.$"):
            store.disk_bytes()
        monkeypatch.undo()


def test_while_another_program_writes_to_the_file_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that is known, unlike after a disk that did not confirm."""
    monkeypatch.setattr(documents, "BUSY_TIMEOUT_S", 0.01)
    with closing(SqliteStore(tmp_path)) as store, closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"cannot be written: database is locked\.$") as refused:
            store.commit(Changes(jobs={1: a_job()}))
        assert not isinstance(refused.value, NotKnown)
        other.rollback()
        store.commit(Changes(jobs={1: a_job()}))


def test_a_directory_that_cannot_be_looked_into_is_an_error_of_the_store(tmp_path: Path) -> None:
    """As a directory whose disk fails, or is of another machine."""
    directory, aside = tmp_path / "data", tmp_path / "aside"
    with closing(SqliteStore(directory)) as store:
        directory.rename(aside)
        directory.touch()
        with pytest.raises(StoreError, match=r"cannot be written: .*Not a directory"):
            store.commit(Changes(jobs={1: a_job()}))
        directory.unlink()
        aside.rename(directory)
        store.commit(Changes(jobs={1: a_job()}))


# Copies

#: A job whose requests are not all written: it does not exist.
HALF = a_job(id=6, first=FIRST_REQUEST_ID + 15)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A store with jobs that wait, send, are paused, are being stopped and have ended, and half of another.

    It has templates too, and nobody uses it.
    """
    path = tmp_path / "data"
    with closing(SqliteStore(path)) as store:
        jobs = {
            1: a_job(status=JobStatus.PENDING, start_at=LATER),
            2: a_job(id=2),
            3: a_job(id=3, status=JobStatus.PAUSED, reason="paused by a request"),
            4: a_job(id=4, ending=JobEvent.CANCEL, reason="canceled by a request"),
            5: a_job(id=5, status=JobStatus.RESOLVED, finished_at=LATER, counts=counts(resolved=3)),
        }
        store.commit(
            Changes(
                jobs=jobs,
                items={FIRST_REQUEST_ID: an_item()},
                requests={
                    FIRST_REQUEST_ID: a_request(),
                    HALF.first: a_request(id=HALF.first, job=HALF.id, item=HALF.first),
                },
                drafts={HALF.id: HALF},
                templates=TEMPLATES,
                ids=Ids(7, HALF.first + HALF.total, 5),
            )
        )
    return path


def _jobs(data_dir: Path) -> tuple[list[Job], Ids]:
    with closing(SqliteStore(data_dir)) as store:
        return store.now.jobs({})[::-1], store.ids


def _states(jobs: list[Job]) -> list[tuple[JobStatus, str | None]]:
    return [(job.status, job.reason) for job in jobs]


def _assert_paused(data_dir: Path, ids: Ids) -> None:
    jobs, now = _jobs(data_dir)
    assert _states(jobs) == [
        (JobStatus.PAUSED, COPIED),
        (JobStatus.PAUSED, COPIED),
        (JobStatus.PAUSED, "paused by a request"),
        (JobStatus.DISPATCHING, "canceled by a request"),
        (JobStatus.RESOLVED, None),
    ]
    assert now == ahead(ids)
    assert _jobs(data_dir) == (jobs, now), "it is told once"
    with closing(SqliteStore(data_dir)) as store:
        assert_held(store.now, "the store is a copy")


def test_the_same_store_goes_on(data_dir: Path, tmp_path: Path) -> None:
    jobs, ids = _jobs(data_dir)
    assert JobStatus.PAUSED not in [job.status for job in jobs[:2]]
    data_dir.rename(tmp_path / "moved")
    (tmp_path / "moved" / LOCK_NAME).unlink()
    assert _jobs(tmp_path / "moved") == (jobs, ids)
    with closing(SqliteStore(tmp_path / "moved")) as store:
        assert store.now.template(NIGHTLY.id) == NIGHTLY


def test_a_copied_directory_sends_nothing_by_itself(data_dir: Path, tmp_path: Path) -> None:
    _, ids = _jobs(data_dir)
    shutil.copytree(data_dir, tmp_path / "copy")
    _assert_paused(tmp_path / "copy", ids)
    with closing(SqliteStore(tmp_path / "copy")) as store:
        while store.sweep():
            pass
        assert store._db.table("requests").ids().tolist() == [FIRST_REQUEST_ID], "half a job is swept"


def _unmark(data_dir: Path) -> None:
    """Make of it a store of an earlier version."""
    with closing(SqliteStore(data_dir)) as store:
        kept = ("format", "installation", "nextJob", "nextRequest", "nextTemplate")
        meta = {name: store._meta[name] for name in kept}
        store._db.table("meta").put([(1, meta)])


@pytest.mark.parametrize("marked", [True, False], ids=["of this version", "of an earlier version"])
def test_an_old_copy_in_its_place_sends_nothing_by_itself(data_dir: Path, marked: bool) -> None:
    _, ids = _jobs(data_dir)
    if not marked:
        _unmark(data_dir)
    before = (data_dir / FILE_NAME).read_bytes()
    if marked:
        _jobs(data_dir)
    (data_dir / FILE_NAME).write_bytes(before)
    _assert_paused(data_dir, ids)


def test_a_start_on_a_full_disk_makes_no_copy_of_a_store_of_an_earlier_version(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    before = _jobs(data_dir)
    _unmark(data_dir)
    (data_dir / GENERATION_NAME).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_abandon_drafts", full)
        assert _jobs(data_dir) == before
    assert _jobs(data_dir) == before


def test_a_kill_between_the_two_marks_makes_no_copy(data_dir: Path) -> None:
    before = (data_dir / GENERATION_NAME).read_text()
    jobs, ids = _jobs(data_dir)
    (data_dir / GENERATION_NAME).write_text(before)
    assert _jobs(data_dir) == (jobs, ids)
    (data_dir / GENERATION_NAME).unlink()
    assert _jobs(data_dir) == (jobs, ids)


# Ids


def test_the_ids_of_a_new_store_begin_anywhere() -> None:
    starts = [base.first_request_id() for _ in range(50)]
    assert len(set(starts)) > 40
    assert all(2**31 <= start < 2**31 + 2**30 for start in starts)


def test_a_copy_leaves_out_ids_as_far_as_there_are_any() -> None:
    assert ahead(Ids(5, 2**31)) == Ids(5 + JOBS_AHEAD, 2**31 + REQUESTS_AHEAD)
    assert ahead(Ids(5, 2**32 - 5)) == Ids(5 + JOBS_AHEAD, 2**32 - 1)
    assert ahead(Ids(5, 2**32)) == Ids(5 + JOBS_AHEAD, 2**32)


# How often it was opened


@pytest.mark.parametrize("found", [None, "", "x", "7\n"])
def test_how_often_a_directory_was_opened_is_kept(tmp_path: Path, found: str | None) -> None:
    """What a crash has left half written is in nobody's way."""
    if found is not None:
        (tmp_path / GENERATION_NAME).write_text(found, encoding="ascii")
    (tmp_path / f"{GENERATION_NAME}.part").write_text("8", encoding="ascii")
    directory = DataDir(tmp_path)
    assert directory.generation == (7 if found == "7\n" else 0)
    directory.generation = 9
    assert directory.generation == 9
    assert [path.name for path in tmp_path.glob(f"{GENERATION_NAME}*")] == [GENERATION_NAME]


@pytest.mark.parametrize("found", ["", "[]", "{", "[" * 100_000])
def test_what_is_known_of_a_database_may_be_broken(tmp_path: Path, found: str) -> None:
    (tmp_path / KNOWN_NAME).write_text(found)
    assert known(tmp_path) is None
