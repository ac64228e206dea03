"""Two bundles on one bus with one database: one leads, the other one waits, and takes over."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from puppetmaster.clock import iso
from puppetmaster.model.cron import Cron
from puppetmaster.store.postgres.lead import RESIGN_S
from sandbox.fleet_log import FleetLog
from sandbox.postgres import Cluster
from sandbox.process import Process
from tests.conftest import require
from tests.desk import until
from tests.flow import LEADS, MARKER, SETTINGS, WAIT_S, WAITS, Flow, another, batch, running
from tests.proxy import Proxy
from tests.receiver import SECRET, Receiver, hooks_file
from tests.system.test_schedules import MINUTELY, Wall
from tests.torture.faults import Shim
from tests.torture.starts import start_faults
from tests.torture.told import told_faults

#: From a kill -9 to the next command, on a busy machine.
GOES_ON_S = 15.0
TAKEOVERS = 4
NAMES = [f"cg-{number:03}" for number in range(1, 401)]


@pytest.fixture
def flow(cluster: Cluster, tmp_path: Path) -> Iterator[Flow]:
    require("mosquitto")
    fleet = ["--to", f"cg-[001-{len(NAMES):03}]", "--delay", "0.02"]
    settings = {**SETTINGS, "PUPPETMASTER_STORE": cluster.url()}
    with running(tmp_path, *fleet, settings=settings) as started:
        yield started


@pytest.fixture
def standby(flow: Flow, tmp_path: Path) -> Iterator[Process]:
    """A second bundle, which waits."""
    with another(flow.gateway.bundle, tmp_path / "second", ready=WAITS) as process:
        yield process


def _leads(process: Process) -> None:
    process.wait_for(LEADS, WAIT_S)


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
    assert "Another puppetmaster has taken the lead" in "\n".join(flow.gateway.bundle.output())
    flow.sent_by_now()
    assert flow.commands(*NAMES) == before, "nothing came of it after it woke"
    assert FleetLog(flow.gateway.fleet_log).duplicates() == {}
    counts = ended["counts"]
    assert counts["resolved"] + counts["unknown"] == len(NAMES), counts


@pytest.fixture
def behind(flow: Flow, tmp_path: Path) -> Iterator[tuple[Process, Proxy]]:
    """The one that leads, whose way to the broker can be cut; the other one waits."""
    other = flow.gateway.bundle
    other.kill()
    with Proxy(flow.gateway.broker.port) as proxy:
        way = {"BROKER_PORT_1883_TCP_PORT": str(proxy.port)}
        with another(other, tmp_path / "behind", ready=LEADS, **way) as leader:
            other.ready = WAITS
            other.start()
            yield leader, proxy


def test_a_leader_that_is_cut_off_from_the_broker_resigns(flow: Flow, behind: tuple[Process, Proxy]) -> None:
    leader, proxy = behind
    job = flow.create(batch("post", NAMES, concurrency=40))
    flow.until(job, lambda shown: shown["finishCount"] >= 40)
    proxy.refuse(refusing=True)
    proxy.cut()
    assert leader.wait(WAIT_S) == 75
    _leads(flow.gateway.bundle)
    flow.restored(job)
    assert FleetLog(flow.gateway.fleet_log).duplicates() == {}
    assert "this one resigns" in "\n".join(leader.output())


def test_a_leader_keeps_the_lead_while_the_broker_is_away_for_all(
    flow: Flow, behind: tuple[Process, Proxy]
) -> None:
    leader, _ = behind
    flow.gateway.broker.kill()
    time.sleep(RESIGN_S + 3)  # so long nobody is better off
    assert leader.running
    flow.gateway.broker.start()
    flow.asked("get", "/system/puppetmaster")  # the caller's own connection was lost too
    flow.ended(flow.create(batch("post", NAMES[:3])))
    assert leader.running
    assert WAITS in flow.gateway.bundle.output()[-1]


def _all_told(flow: Flow) -> None:
    """Wait until all jobs have ended, and that is told."""
    until(lambda: all(job["finishedAt"] for job in flow.asked("get", "/jobs")), "all have ended")
    hook = "/system/puppetmaster"
    until(lambda: not flow.asked("get", hook)["webhooks"]["ops"]["waiting"], "that is told")


@pytest.mark.timeout(300)
def test_a_schedule_starts_once_and_is_told_once_over_takeovers(flow: Flow, tmp_path: Path) -> None:
    """The leader is killed around a due start, while the end of the job before it is to be told again.

    Each process tells at a path of its own, which shows who has told.
    """
    if not Shim.available():
        pytest.skip("gcc is not installed")
    rng, shim = random.Random(15), Shim(tmp_path)
    wall, leader = Wall(shim), flow.gateway.bundle
    second = another(leader, tmp_path / "second", ready=WAITS)
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
        flow.asked("post", "/templates", template)
        for _ in range(TAKEOVERS):
            told = len(receiver.got)  # from here on until the kill one leads and one waits
            wall.go_to_minute(before_s=0.5)
            flow.asked("put", "/templates/1", template)  # so that it looks at the clock at once
            receiver.wait(told + 1)
            wall.go_to_minute(before_s=0.5)
            due_s = wall.now_s() + 0.5
            flow.asked("put", "/templates/1", template)
            time.sleep(max(due_s - wall.now_s() + rng.uniform(-0.02, 0.12), 0))  # any moment around it
            assert {one.path for one in receiver.got[told:]} == {paths[leader]}, "only the leader tells"
            leader.kill()
            _leads(waiting)
            leader, waiting = waiting, leader
            waiting.start()
            _all_told(flow)
        flow.sent_by_now()
        time.sleep(1.5)  # the longest sleep of the dispatcher: what is due has begun
        shown, jobs = flow.asked("get", "/templates/1"), flow.asked("get", "/jobs?template=1")
        minutes = [iso(at_s) for at_s in Cron(MINUTELY["cron"], "UTC").passed(begun_s, wall.now_s(), 100)]
        flow.sent_by_now()
        _all_told(flow)
        ended = {job["id"]: job for job in flow.asked("get", "/jobs")}
        lines = {id_: flow.asked("get", f"/jobs/{id_}/events") for id_ in ended}
    assert not [*start_faults(shown, jobs, minutes)]
    assert not [*told_faults(receiver.got, ended, lines)]
    assert len(jobs) >= TAKEOVERS
    assert len(flow.commands(NAMES[0])) <= len(jobs)
    ids = {one.id for one in receiver.got}
    assert len({(one.id, one.path) for one in receiver.got}) > len(ids), (
        "some were told again by the next leader"
    )
