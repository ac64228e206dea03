"""The controller is started anew under a bundle whose probe, grace and patience are the delivered ones."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.gateway import Gateway
from tests.bus_client import BusClient, Message
from tests.conftest import require
from tests.flow import Flow, batch, running

#: From the controller's return to the next command, with the delivered settings.
GOES_ON_S = 10.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    require("mosquitto")
    return tmp_path


@pytest.fixture
def flow(directory: Path) -> Iterator[Flow]:
    """A bundle, and gateways that the test plays."""
    with running(directory, settings={}) as started:
        yield started


def test_what_one_lock_held_goes_on_soon(flow: Flow) -> None:
    """The write that is lost with the controller held the lock of the whole fleet."""
    reached: list[tuple[float, str]] = []

    def take(message: Message) -> None:
        reached.append((time.monotonic(), message["resource"]))
        if len(reached) > 1:
            flow.stage.answer(message, 200, {"code": 200, "data": {}})

    stage, controller = flow.stage, flow.gateway.controller
    stage.register_model("whole-fleet", ["/remote/+"], take, ttl=60)
    job = flow.create(batch("post", ["cg-1", "cg-2"], requestTimeout=60))
    flow.until(job, lambda shown: shown["counts"]["sent"] == 1 and bool(reached))
    controller.kill()
    controller.start()
    returned_s = time.monotonic()
    stage.register_model("whole-fleet", ["/remote/+"], take, ttl=60)
    counts = flow.restored(job)["counts"]
    assert (counts["resolved"], counts["unknown"]) == (1, 1)
    assert [resource for _, resource in reached] == ["/remote/cg-1", "/remote/cg-2"]
    assert reached[1][0] - returned_s < GOES_ON_S


def test_reads_that_were_lost_are_repeated_soon(flow: Flow) -> None:
    (gateway,) = flow.played(1)
    job = flow.create(batch("get", [gateway.name], requestTimeout=60))
    gateway.next()
    controller = flow.gateway.controller
    controller.kill()
    controller.start()
    returned_s = time.monotonic()
    flow.stage.register_model(gateway.name, [f"/remote/{gateway.name}"], gateway._take, ttl=60)
    gateway.answer(gateway.next())
    assert time.monotonic() - returned_s < GOES_ON_S
    assert flow.restored(job)["finishCount"] == 1


@pytest.mark.parametrize("what", ["controller", "everything"])
def test_nobody_is_said_to_be_missing_who_registers_again(directory: Path, what: str) -> None:
    """Commands flow while the controller, or all of it, is started anew; gateways take a while to be back.

    What is sent to one that has not subscribed to its topic yet is lost with 408: it is tried again.
    """
    names = [f"cg-{number:03}" for number in range(1, 101)]
    fleet = ["--shape", "per-gateway", "--to", "cg-[001-100]", "--ttl", "3"]
    retry = {"attempts": 3, "on": ["timeout"], "delay": 0.1}
    with (
        Gateway(directory, fleet=fleet, controller={"registration_s": 0.02}) as gateway,
        BusClient(gateway.broker) as client,
        BusClient(gateway.broker, first_id=2**20) as stage,
    ):
        flow = Flow(gateway, client, stage)
        jobs = [flow.create(batch("get", names, rate=100, retry=retry)) for _ in range(3)]
        flow.until(jobs[0], lambda shown: shown["doneCount"] > 20)
        if what == "everything":
            gateway.bundle.terminate()
            assert gateway.fleet is not None
            gateway.fleet.kill()
        gateway.controller.kill()
        gateway.controller.start()
        if what == "everything":
            assert gateway.fleet is not None
            starting = threading.Thread(target=gateway.fleet.start, args=(60,))
            starting.start()
            gateway.bundle.start()
            starting.join()
        ended = [flow.restored(job) for job in jobs]
        ends = Counter(request["status"] for job in jobs for request in flow.requests(job))
        errors = [one["result"] for job in jobs for one in flow.requests(job) if one["status"] != "resolved"]
        assert ends == {"resolved": 300}, (ends, errors[:3], ended[0]["counts"])
