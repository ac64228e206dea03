"""The disk is full, read-only, or fails: nothing acknowledged is lost, and nothing leaves unrecorded.

The first tests run the bundle as a process with its data on a small file system of their own, the
others its dispatcher on a store whose disk fails when the test says so.
"""

import errno
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from puppetmaster.api import bodies
from puppetmaster.errors import NotKnown, StoreError, Unavailable
from puppetmaster.model.request import RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes
from puppetmaster.store.sqlite.documents import SqliteTinyDB
from puppetmaster.store.sqlite.reader import SqliteReader, as_store_error
from puppetmaster.store.sqlite.store import FILE_NAME, INDEXES, SqliteStore
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from tests.bus_client import BusClient, Message
from tests.conftest import require
from tests.desk import WAIT_S, DiskDesk, disk_fault, until
from tests.examples import a_job, a_request
from tests.virtual import body

# A file system of its own


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The bundle's data directory, on a file system of 6 MB."""
    require("mosquitto")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=6m", "tmpfs", data_dir)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must be able to mount a tmpfs (root): {error}")
        pytest.skip(f"only root can mount a tmpfs: {error}")
    yield data_dir
    subprocess.run(["umount", "--lazy", data_dir], check=True)


def _fill(data_dir: Path) -> Path:
    """Leave not one page free. Returns the file that takes the room."""
    ballast = data_dir / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(data_dir).free == 0
    return ballast


@contextmanager
def _full(data_dir: Path) -> Iterator[None]:
    ballast = _fill(data_dir)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def _reading(data_dir: Path) -> Iterator[SqliteReader]:
    file = data_dir / FILE_NAME
    with closing(SqliteTinyDB(file, read_only=True)) as db:
        yield SqliteReader(db, file)


def _posted(client: BusClient, job: Message) -> Message:
    """The answer to POST /jobs; 423 is the controller's, who has another POST open."""
    while (said := client.request("post", "/jobs", job))["code"] == 423:
        threading.Event().wait(0.02)
    return said


def _health(client: BusClient) -> dict[str, Any]:
    while (said := client.request("get", "/system/puppetmaster"))["code"] != 200:
        threading.Event().wait(0.02)
    found: dict[str, Any] = said["data"]
    return found


def _tried(data_dir: Path, tries: set[int]) -> int:
    """How many tries to write have been seen: each, also one that fails, changes the time of the log."""
    tries.add((data_dir / f"{FILE_NAME}-wal").stat().st_mtime_ns)
    return len(tries)


def test_a_disk_that_is_full_for_a_while(disk: Path) -> None:
    count = 300
    gateway = Gateway(
        disk.parent,
        fleet=["--shape", "per-gateway", "--to", f"cg-[001-{count}]", "--delay", "0.3"],
        settings={"PUPPETMASTER_MAX_IN_FLIGHT": "20"},
    )
    fleet_log = FleetLog(gateway.fleet_log)

    def arrived() -> set[int]:
        return {command.id for command in fleet_log.commands()}

    with gateway, BusClient(gateway.broker) as client:
        names = [f"cg-{number:03}" for number in range(1, count + 1)]
        job = _posted(client, body("post", *names))
        assert job["code"] == 200, job
        job_id, first = job["data"]["id"], job["data"]["requests"][0]
        until(lambda: len(arrived()) > 60, "commands reach the fleet")
        with _full(disk):
            until(lambda: not _health(client)["store"]["writable"], "the full disk is noticed")
            refused = _posted(client, body("post", "cg-001"))
            assert refused["code"] == 503, refused
            assert "full" in refused["data"]["message"]
            assert refused["data"]["message"].startswith("No job can be created: ")
            health = _health(client)
            assert not health["healthy"]
            assert str(disk / FILE_NAME) in health["store"]["reason"]
            until(lambda: _health(client)["counters"]["inFlight"] == 0, "what is in flight is answered")
            reached = arrived()
            assert len(reached) < count - 50, "the job still had commands to send"
            with _reading(disk) as reader:
                recorded = {
                    id_
                    for id_ in reader.request_ids({"job": job_id})
                    if (request := reader.request(id_)) and request.status is not RequestStatus.PENDING
                }
                unanswered = reader.count_requests({"job": job_id, "status": ["sent"]})
            assert reached <= recorded
            assert unanswered > 0, "some answers are in memory only"
            shown = client.request("get", f"/jobs/{job_id}?collection=false&limit=1")
            assert shown["code"] == 200, "reading goes on"
            tries: set[int] = set()
            until(lambda: _tried(disk, tries) > 3, "it is tried again, and again")
            assert arrived() == reached, "nothing else has left"

        def ended() -> Message | None:
            said = client.request("get", f"/jobs/{job_id}?collection=false&limit=0")
            done = said["code"] == 200 and said["data"]["finishedAt"] is not None
            return cast(Message, said["data"]) if done else None

        until(ended, "the job ends")
        view = ended()
        assert view is not None
        assert view["counts"]["resolved"] == count, view
        assert _health(client)["healthy"]
        assert arrived() == set(range(first, first + count))
        assert fleet_log.duplicates() == {}
        again = _posted(client, body("post", "cg-001"))
        assert again["code"] == 200, again
        assert again["data"]["id"] > job_id
        assert "a step of the dispatcher failed" not in "\n".join(gateway.bundle.output())
        assert gateway.bundle.terminate() == 0
    with closing(SqliteStore(disk)) as store:
        assert store.now.count_requests({"job": job_id, "status": ["resolved"]}) == count
        assert store._db.storage.damage() is None


def test_a_file_system_that_is_read_only(disk: Path) -> None:
    gateway = Gateway(disk.parent, fleet=["--shape", "per-gateway", "--to", "cg-1"])
    with gateway, BusClient(gateway.broker) as client:
        job = _posted(client, body("post", "cg-1"))
        assert job["code"] == 200, job
        gateway.bundle.kill()
        before = (disk / FILE_NAME).read_bytes()
        _mount("-o", "remount,ro", disk)
        bundle = gateway.bundle
        bundle.ready = "puppetmaster cannot start"
        bundle.start()
        assert bundle.wait(WAIT_S) == 1
        assert f"puppetmaster cannot start: {disk} cannot be used: " in "\n".join(bundle.output())
        assert "Read-only file system" in "\n".join(bundle.output())
        assert (disk / FILE_NAME).read_bytes() == before
        _mount("-o", "remount,rw", disk)
        bundle.ready = "registered with the controller"
        bundle.start()
        said = client.request("get", f"/jobs/{job['data']['id']}?collection=false")
        assert said["code"] == 200, said


def test_a_disk_that_is_full_from_the_start(disk: Path) -> None:
    gateway = Gateway(disk.parent)
    gateway.start(bundle=False)
    try:
        with _full(disk):
            gateway.bundle.ready = "puppetmaster cannot start"
            gateway.bundle.start()
            assert gateway.bundle.wait(WAIT_S) == 1
            assert "a step of the dispatcher failed" not in "\n".join(gateway.bundle.output())
        gateway.bundle.ready = "registered with the controller"
        gateway.bundle.start()
    finally:
        gateway.stop()


def test_a_disk_that_is_full_after_a_kill(disk: Path) -> None:
    """One can look; without the index of the log, which a kill leaves, it says what to do."""
    gateway = Gateway(disk.parent, fleet=["--shape", "per-gateway", "--to", "cg-1"])
    bundle = gateway.bundle
    with gateway, BusClient(gateway.broker) as client:
        job = _posted(client, body("post", "cg-1"))
        assert job["code"] == 200, job
        bundle.kill()
        with _full(disk):
            bundle.start()
            said = client.request("get", f"/jobs/{job['data']['id']}?collection=false")
            assert said["code"] == 200, said
            bundle.kill()
            (disk / f"{FILE_NAME}-shm").unlink()
            _fill(disk)
            bundle.ready = "puppetmaster cannot start"
            bundle.start()
            assert bundle.wait(WAIT_S) == 1
            assert "The disk is full: make room on it and start again." in "\n".join(bundle.output())
        bundle.ready = "registered with the controller"
        bundle.start()
        said = client.request("get", f"/jobs/{job['data']['id']}?collection=false")
        assert said["code"] == 200, said


# A commit that fails


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[DiskDesk]:
    made = DiskDesk(tmp_path / "data")
    yield made
    made.close()
    assert made.bus.unrecorded == []


FAULTS = [
    sqlite3.OperationalError("database or disk is full"),
    OSError(errno.EROFS, "Read-only file system"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_commit_that_fails(desk: DiskDesk, fault: Exception) -> None:
    first = desk.create("cg-1", "cg-2", concurrency=1)
    until(lambda: desk.bus.sent, "the first command leaves")
    one, two = first.request_ids
    assert desk.bus.sent == [one]
    desk.disk.error = fault
    desk.answer(one)
    until(lambda: desk.disk.tries > 0, "the answer is to be written")
    assert desk.in_flight() == 0, "the answer is kept"
    assert desk.status(one) == "sent", "but it is in memory only"
    with pytest.raises(Unavailable, match="No job can be created") as refused:
        desk.create("cg-3")
    assert refused.value.status == 503
    tries = desk.disk.tries
    until(lambda: desk.disk.tries >= tries + 2, "it is tried again")
    assert desk.bus.sent == [one], "the other command would not be on record"
    desk.disk.error = None
    until(lambda: len(desk.bus.sent) > 1, "the work goes on")
    assert desk.bus.sent == [one, two]
    assert desk.status(one) == "resolved"
    desk.answer(two)
    until(lambda: desk.status(two) == "resolved", "the second answer")
    assert desk.create("cg-3").id > first.id


def test_a_job_whose_creation_cannot_be_written_never_was(desk: DiskDesk) -> None:
    desk.disk.error = disk_fault("database or disk is full", sqlite3.SQLITE_FULL)
    with pytest.raises(StoreError, match=r"No job was created: .* disk is full") as refused:
        desk.create("cg-1", key="k")
    assert refused.value.status == 503
    with pytest.raises(Unavailable, match=r"No job can be created: .* disk is full"):
        desk.create("cg-1", key="k")
    desk.disk.error = None
    until(lambda: desk.dispatcher.look(lambda engine: engine.stalled is None, WAIT_S), "it is up again")
    job = desk.create("cg-1", key="k")
    until(lambda: desk.bus.sent, "its command leaves")
    assert desk.bus.sent == [job.first]
    with desk.store.reading() as reader:
        assert [one.id for one in reader.jobs({})] == [job.id]
        assert list(reader.request_ids({})) == [job.first]


def test_a_job_that_may_be_there_after_a_crash_is_not_called_never_created(desk: DiskDesk) -> None:
    desk.disk.error = disk_fault("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(StoreError, match=r"It is not known whether the job was created; .*same key"):
        desk.create("cg-1", key="k")


def _write_without_the_disk(store: SqliteStore, changes: Changes, meta: dict[str, Any]) -> None:
    """All pages and the mark of the commit get into the log; the wait for the disk fails.

    SQLite takes the commit for failed then. What it has written is made in a copy here.
    """
    log_file = store.path.with_name(f"{FILE_NAME}-wal")
    copy = store.path.parent.parent / "unsynced"
    copy.mkdir()
    for file in (store.path, log_file):
        shutil.copy(file, copy)
    twin = object.__new__(SqliteStore)
    twin.path = copy / FILE_NAME
    with closing(SqliteTinyDB(twin.path, indexes=INDEXES)) as twin._db:
        SqliteStore._write(twin, changes, meta)
        written = (copy / log_file.name).read_bytes()
    with log_file.open("r+b") as log:
        log.write(written)
    with as_store_error(f"{store.path} cannot be written"):
        raise disk_fault("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)


def _after_a_kill(store: SqliteStore, to: Path) -> list[int]:
    """The jobs that a process finds that starts after this one was killed."""
    to.mkdir()
    for file in (store.path, store.path.with_name(f"{FILE_NAME}-wal")):
        shutil.copy(file, to)
    with closing(SqliteStore(to)) as found:
        return found.now.job_ids({})


def test_of_a_commit_that_the_disk_did_not_confirm_nothing_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes(jobs={1: a_job()}, requests={FIRST_REQUEST_ID: a_request()})
    with closing(SqliteStore(tmp_path / "data")) as store:
        with monkeypatch.context() as patch:
            patch.setattr(store, "_write", lambda *args: _write_without_the_disk(store, *args))
            with pytest.raises(StoreError, match="disk I/O error"):
                store._write(changes, store._meta)
            assert _after_a_kill(store, tmp_path / "unmended") == [1], "the log holds it"
            shutil.rmtree(tmp_path / "unsynced")
            store._undone(StoreError())
            with pytest.raises(StoreError, match="disk I/O error") as failed:
                store.commit(changes)
        assert not isinstance(failed.value, NotKnown)
        assert _after_a_kill(store, tmp_path / "killed") == []
        assert store.now.job_ids({}) == []
        store.commit(changes)
        assert _after_a_kill(store, tmp_path / "later") == [1]


def test_a_key_leads_to_its_job_though_the_disk_is_full(desk: DiskDesk) -> None:
    job = desk.create("cg-1", key="k")
    asked = bodies.parse_job(body("get", "cg-1", key="k"), 10)
    for stalled in (False, True):
        desk.disk.error = FAULTS[0]
        if stalled:
            with pytest.raises(StoreError):
                desk.create("cg-2")
        found = desk.dispatcher.create(lambda engine: engine.create(asked), WAIT_S)
        assert found.id == job.id
