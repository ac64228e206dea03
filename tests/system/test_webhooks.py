"""Webhooks of a whole bundle: from a body that names one to what a real server gets, over kills."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests.conftest import require
from tests.desk import until
from tests.receiver import SECRET, Got, Receiver, hooks_file
from tests.torture.told import told_faults
from tests.web_client import Door, batch, fetch, running

KILLS, JOBS = 6, 5


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def waiting(door: Door) -> int:
    shown = door.ask("GET", "/system/puppetmaster").json["webhooks"]
    return sum(int(one["waiting"]) for one in shown.values())


def test_a_job_names_who_is_told_of_its_end(tmp_path: Path, receiver: Receiver) -> None:
    with running(tmp_path / "data", webhooks=str(receiver.file(tmp_path))) as door:
        door.ask("POST", "/jobs", batch("a", name="unsaid"))
        door.ask("POST", "/jobs", batch("b", name="said", notify=["ops"]))
        for job in (1, 2):
            door.ask("PUT", f"/jobs/{job}", {"status": "canceled"})
        (got,) = receiver.wait(1)
        told = got.checked()
        assert told["type"] == "puppetmaster.job.ended"
        assert told["data"]["job"] == door.ask("GET", "/jobs").json[0]
        assert told["data"]["event"] == door.ask("GET", "/jobs/2/events").json[-1]
        until(lambda: waiting(door) == 0, "nothing is owed")
        metrics = door.ask("GET", "/metrics").body.decode()
        assert 'puppetmaster_webhooks_total{outcome="sent"} 1.0' in metrics
        assert "puppetmaster_webhooks_waiting 0.0" in metrics


def test_a_webhook_that_nobody_knows_is_refused_with_all_other_faults(
    tmp_path: Path, receiver: Receiver
) -> None:
    with running(tmp_path / "data", webhooks=str(receiver.file(tmp_path))) as door:
        answer = door.ask("POST", "/jobs", batch("a", notify=["lab", "ops", "x"], rate=0))
        assert answer.status == 400
        faults = {one["path"]: one["message"] for one in answer.json["errors"]}
        assert set(faults) == {"notify[0]", "notify[2]", "rate"}
        assert faults["notify[0]"] == "expected one of ops, got 'lab'"
        assert door.ask("POST", "/jobs", batch("a", notify="ops")).json["errors"][0]["path"] == "notify"
        url = door.ask("POST", "/jobs", batch("a", notify=[receiver.url]))
        assert url.status == 400
    with running(tmp_path / "other") as door:
        answer = door.ask("POST", "/jobs", batch("a", notify=["ops"]))
        assert "the settings name no webhook" in answer.json["message"]


def test_the_file_may_change_while_it_runs(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """With the next job that names one, as with a token. A file with faults changes nothing."""
    file = receiver.file(tmp_path)
    with running(tmp_path / "data", webhooks=str(file)) as door:
        assert door.ask("POST", "/jobs", batch("a", notify=["lab"])).status == 400
        named = json.loads(file.read_text())
        hooks_file(tmp_path, [*named, {"name": "lab", "url": receiver.url, "secret": SECRET}])
        assert door.ask("POST", "/jobs", batch("a", notify=["lab"])).status == 200
        file.write_text(file.read_text()[:-1])
        assert door.ask("POST", "/jobs", batch("b", notify=["lab"])).status == 200
        shown = door.ask("GET", "/system/puppetmaster").json
        assert "expected JSON" in shown["files"]["webhooks"]["reason"]
        assert set(shown["webhooks"]) == {"ops", "lab"}
        assert "What it said before holds." in caplog.text
        hooks_file(tmp_path, named)
        assert door.ask("POST", "/jobs", batch("b", notify=["lab"])).status == 400
        assert door.ask("GET", "/system/puppetmaster").json["files"] == {"webhooks": {"reason": None}}


def test_one_that_is_told_of_every_job_is_so_from_when_it_is_named(
    tmp_path: Path, receiver: Receiver
) -> None:
    with running(tmp_path / "data", webhooks=str(hooks_file(tmp_path, []))) as door:
        receiver.file(tmp_path, all_jobs=True)
        until(lambda: door.ask("GET", "/system/puppetmaster").json["webhooks"], "it is read")
        door.ask("POST", "/jobs", batch("a"))
        door.ask("DELETE", "/jobs/1")
        receiver.wait(1)


def test_a_copy_of_a_store_tells_nothing_that_the_original_owes(tmp_path: Path, receiver: Receiver) -> None:
    file = receiver.file(tmp_path, all_jobs=True)
    receiver.down()
    with running(tmp_path / "data", webhooks=str(file)) as door:
        door.ask("POST", "/jobs", batch("a"))
        door.ask("PUT", "/jobs/1", {"status": "canceled"})
        until(lambda: waiting(door) == 1, "one is owed")
    (tmp_path / "copy").mkdir()
    for one in (tmp_path / "data").glob("puppetmaster.db*"):
        (tmp_path / "copy" / one.name).write_bytes(one.read_bytes())
    receiver.up()
    with running(tmp_path / "copy", webhooks=str(file)) as door:
        assert waiting(door) == 0
        door.ask("POST", "/jobs", batch("a"))
        door.ask("PUT", "/jobs/10002", {"status": "canceled"})
        (got,) = receiver.wait(1)
    assert got.checked()["subject"] == "/jobs/10002"


def test_no_secret_and_no_url_is_shown(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    receiver.answer = lambda _: (500, {})
    with running(tmp_path / "data", webhooks=str(receiver.file(tmp_path, all_jobs=True))) as door:
        door.ask("POST", "/jobs", batch("a"))
        door.ask("DELETE", "/jobs/1")
        receiver.wait(2)
        shown = json.dumps(door.ask("GET", "/system/puppetmaster").json) + caplog.text
    assert SECRET not in shown
    assert "team=ops" not in shown


def test_a_receiver_that_hangs_is_in_nobodys_way(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = lambda _: time.sleep(5) or (204, {})  # type: ignore[func-returns-value]
    with running(tmp_path / "data", webhooks=str(receiver.file(tmp_path, all_jobs=True))) as door:
        for number in range(1, 21):
            begun_s = time.monotonic()
            door.ask("POST", "/jobs", batch("a"))
            door.ask("PUT", f"/jobs/{number}", {"status": "canceled"})
            assert time.monotonic() - begun_s < 5, "each waited for the receiver"
        assert waiting(door) >= 19


@pytest.mark.timeout(300)
def test_no_kill_loses_or_invents_what_is_told(tmp_path: Path, receiver: Receiver) -> None:
    """The bundle is killed while it works and tells; the receiver fails and breaks off meanwhile."""
    require("mosquitto")
    random = Random(7)

    def answer(got: Got) -> tuple[int, dict[str, str]] | None:
        again = any(one.id == got.id for one in receiver.got)  # the waits stay short
        return (204, {}) if again else random.choice([(204, {}), (200, {}), (500, {}), None])

    receiver.answer = answer
    port = free_port()
    settings = {
        "PUPPETMASTER_WEBHOOKS": str(receiver.file(tmp_path, all_jobs=True)),
        "PUPPETMASTER_HTTP": f"127.0.0.1:{port}",
    }
    with Gateway(tmp_path, fleet=["--to", "cg-[01-04]", "--delay", "0.05"], settings=settings) as gateway:
        for _ in range(KILLS):
            for _ in range(JOBS):
                assert fetch(port, "POST", "/jobs", batch("cg-01", "cg-02")).status == 200
            time.sleep(random.uniform(0.0, 0.5))  # the moment of the kill is any
            gateway.bundle.kill()
            gateway.bundle.start()

        def ended() -> Any:
            jobs = fetch(port, "GET", "/jobs").json
            return jobs if all(job["finishedAt"] for job in jobs) else None

        jobs = {job["id"]: job for job in until(ended, "all end", 60)}
        until(
            lambda: {got.checked()["data"]["job"]["id"] for got in list(receiver.got)} == set(jobs),
            "all are told",
            60,
        )

        def told() -> bool:
            shown = fetch(port, "GET", "/system/puppetmaster").json["webhooks"]["ops"]
            return bool(shown["waiting"] == 0)

        until(told, "nothing is owed", 60)
        lines = {id_: fetch(port, "GET", f"/jobs/{id_}/events").json for id_ in jobs}
    assert len(jobs) == KILLS * JOBS
    for got in receiver.got:
        got.checked()
    assert not [*told_faults(receiver.got, jobs, lines)]
    for events in lines.values():
        assert [one["number"] for one in events] == list(range(1, len(events) + 1))
        assert [one["event"] for one in events].count("ended") == 1
