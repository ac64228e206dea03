"""Two bundles on one bus with one database: one leads, the other one waits, and takes over."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process
from tests.bus_client import BusClient
from tests.conftest import needed, require
from tests.flow import MARKER, SETTINGS, WAIT_S, Flow, batch

#: From a kill -9 to the next command, on a busy machine.
GOES_ON_S = 15.0
NAMES = [f"cg-{number:03}" for number in range(1, 401)]


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    needed(Cluster.available(), "postgresql")
    require("mosquitto")
    fleet = ["--shape", "per-gateway", "--to", MARKER, "--to", f"cg-[001-{len(NAMES):03}]", "--delay", "0.02"]
    with Cluster(durable=True) as cluster:
        settings = {**SETTINGS, "PUPPETMASTER_STORE": cluster.url(), "PUPPETMASTER_STANDBY": "on"}
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
    with Process.module("standby", "index", env=env, ready="this one waits to take over") as process:
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
