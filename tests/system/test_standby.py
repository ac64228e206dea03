"""Two bundles on one bus with one database: one leads, the other one waits, and takes over."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from puppetmaster.clock import iso
from puppetmaster.model.cron import Cron
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process
from tests.bus_client import BusClient
from tests.conftest import needed, require
from tests.flow import MARKER, SETTINGS, WAIT_S, Flow, batch
from tests.receiver import SECRET, Receiver, hooks_file
from tests.system.test_schedules import MINUTELY, Wall, asked
from tests.torture.faults import Shim
from tests.torture.starts import start_faults
from tests.torture.told import told_faults

#: From a kill -9 to the next command, on a busy machine.
GOES_ON_S = 15.0
TAKEOVERS = 4
WAITS = "this one waits to take over"
NAMES = [f"cg-{number:03}" for number in range(1, 401)]


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    needed(Cluster.available(), "postgresql")
    require("mosquitto")
    fleet = ["--shape", "per-gateway", "--to", MARKER, "--to", f"cg-[001-{len(NAMES):03}]", "--delay", "0.02"]
    with Cluster(durable=True) as cluster:
        settings = {**SETTINGS, "PUPPETMASTER_STORE": cluster.url()}
        with (
            Gateway(tmp_path, fleet=fleet, settings=settings) as gateway,
            BusClient(gateway.broker) as client,
            BusClient(gateway.broker, first_id=2**20) as stage,
        ):
            yield Flow(gateway, client, stage)


@pytest.fixture
def standby(flow: Flow, tmp_path: Path) -> Iterator[Process]:
    """A second bundle, which waits."""
    env = {**flow.gateway.bundle.env, "PUPPETMASTER_DATA_DIR": str(tmp_path / "second")}
    with Process.module("standby", "index", env=env, ready=WAITS) as process:
        yield process


def _leads(process: Process) -> None:
    process.wait_for("registered with the controller", WAIT_S)


def test_one_that_is_killed_is_followed_and_no_command_runs_twice(flow: Flow, standby: Process) -> None:
    first, second = flow.played(2)
    jobs = [flow.create(batch("post", [one.name])) for one in (first, second)]
    first.answer(first.next())
    sent = second.next()
    flow.until(jobs[0], lambda shown: shown["finishedAt"] is not None)
    killed_s = time.monotonic()
    flow.kill()
    second.answer(sent)
    _leads(standby)
    assert time.monotonic() - killed_s < GOES_ON_S
    assert flow.restored(jobs[1])["counts"]["resolved"] == 1
    assert [len(one.reached) for one in (first, second)] == [1, 1]
    flow.sent_by_now()


def test_callers_on_the_bus_are_answered_soon_though_a_post_was_lost(flow: Flow, standby: Process) -> None:
    """The lost one holds our resources locked until its time at the controller is over."""
    flow.kill()
    flow.client.ask("post", "/jobs", batch("post", [MARKER]))
    killed_s = time.monotonic()
    _leads(standby)
    while flow.client.request("post", "/jobs", batch("post", [MARKER]))["code"] != 200:
        assert time.monotonic() - killed_s < GOES_ON_S
        time.sleep(0.1)


def test_one_that_stops_hands_over_at_once(flow: Flow, standby: Process) -> None:
    assert flow.gateway.bundle.terminate() == 0
    _leads(standby)
    flow.sent_by_now()
    assert standby.running


def test_one_that_waits_can_be_stopped(flow: Flow, standby: Process) -> None:
    standby.terminate()
    assert not standby.running
    flow.sent_by_now()


def test_one_that_stood_still_with_a_job_under_way_sends_nothing_when_it_wakes(
    flow: Flow, standby: Process
) -> None:
    """It had decided, committed, and perhaps not yet written when it was stopped."""
    job = flow.create(batch("post", NAMES, concurrency=40))
    flow.until(job, lambda shown: shown["finishCount"] >= 40)
    flow.gateway.bundle.pause()
    _leads(standby)
    ended = flow.restored(job)
    before = flow.commands(*NAMES)
    flow.gateway.bundle.resume()
    assert flow.gateway.bundle.wait(WAIT_S) == 75
    flow.sent_by_now()
    assert flow.commands(*NAMES) == before, "nothing came of it after it woke"
    assert FleetLog(flow.gateway.fleet_log).duplicates() == {}
    counts = ended["counts"]
    assert counts["resolved"] + counts["unknown"] == len(NAMES), counts


def _all_told(flow: Flow) -> None:
    """Wait until all jobs have ended, and that is told."""
    deadline_s = time.monotonic() + WAIT_S
    while (
        not all(job["finishedAt"] for job in asked(flow, "get", "/jobs"))
        or asked(flow, "get", "/system/puppetmaster")["webhooks"]["ops"]["waiting"]
    ):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_schedule_starts_once_and_is_told_once_over_takeovers(flow: Flow, tmp_path: Path) -> None:
    """The leader is killed around a due start, while the end of the job before it is to be told again.

    Each process tells at a path of its own, which shows who has told.
    """
    if not Shim.available():
        pytest.skip("gcc is not installed")
    rng, shim = random.Random(15), Shim(tmp_path)
    wall, leader = Wall(shim), flow.gateway.bundle
    second = Process.module("second", "index", env=dict(leader.env), ready=WAITS)
    second.env["PUPPETMASTER_DATA_DIR"] = str(tmp_path / "second")
    waiting, paths = second, {leader: "/first", second: "/second"}
    with Receiver() as receiver, second:
        for process, path in paths.items():
            (folder := tmp_path / f"hook{path}").mkdir(parents=True)
            url = f"http://127.0.0.1:{receiver.port}{path}"
            file = hooks_file(folder, [{"name": "ops", "url": url, "secret": SECRET, "all": True}])
            process.env |= {**shim.env, "PUPPETMASTER_WEBHOOKS": str(file)}
            process.kill()
        receiver.answer = lambda got: (500 * all(got.id != one.id for one in receiver.got) or 204, {})
        wall.go_to_minute(before_s=50)  # nothing is due when the counting begins
        leader.start()
        leader.ready = WAITS
        waiting.start()
        begun_s = wall.now_s()
        template = {"name": "minutely", "job": batch("post", [NAMES[0]]), "schedule": MINUTELY}
        asked(flow, "post", "/templates", template)
        for _ in range(TAKEOVERS):
            told = len(receiver.got)  # from here on until the kill one leads and one waits
            wall.go_to_minute(before_s=0.5)
            asked(flow, "put", "/templates/1", template)  # so that it looks at the clock at once
            receiver.wait(told + 1)
            wall.go_to_minute(before_s=0.5)
            due_s = wall.now_s() + 0.5
            asked(flow, "put", "/templates/1", template)
            time.sleep(max(due_s - wall.now_s() + rng.uniform(-0.02, 0.12), 0))  # any moment around it
            assert {one.path for one in receiver.got[told:]} == {paths[leader]}, "only the leader tells"
            leader.kill()
            _leads(waiting)
            leader, waiting = waiting, leader
            waiting.start()
            _all_told(flow)
        flow.sent_by_now()
        time.sleep(1.5)  # the longest sleep of the dispatcher: what is due has begun
        shown, jobs = asked(flow, "get", "/templates/1"), asked(flow, "get", "/jobs?template=1")
        minutes = [iso(at_s) for at_s in Cron(MINUTELY["cron"], "UTC").passed(begun_s, wall.now_s(), 100)]
        flow.sent_by_now()
        _all_told(flow)
        ended = {job["id"]: job for job in asked(flow, "get", "/jobs")}
        lines = {id_: asked(flow, "get", f"/jobs/{id_}/events") for id_ in ended}
    assert not [*start_faults(shown, jobs, minutes)]
    assert not [*told_faults(receiver.got, ended, lines)]
    assert len(jobs) >= TAKEOVERS
    assert len(flow.commands(NAMES[0])) <= len(jobs)
    ids = {one.id for one in receiver.got}
    assert len({(one.id, one.path) for one in receiver.got}) > len(ids), (
        "some were told again by the next leader"
    )
