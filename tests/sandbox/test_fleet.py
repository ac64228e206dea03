import json
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sandbox.broker import HOST, Broker, Kind
from sandbox.controller import controller_process
from sandbox.devices import GARBAGE, version
from sandbox.fleet import READY
from sandbox.fleet_log import FleetLog, registrations
from sandbox.fleet_options import argv
from sandbox.process import Process, free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.desk import until

StartFleet = Callable[..., Process]


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Give a fresh broker: mosquitto, or the kind that the test is parametrized with."""
    kind: Kind = getattr(request, "param", "mosquitto")
    require(kind)
    with Broker(kind) as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> FleetLog:
    return FleetLog(tmp_path / "fleet.jsonl")


@pytest.fixture
def start(broker: Broker, controller: Process, log: FleetLog) -> Iterator[StartFleet]:
    """Give a function that starts a fleet of the given names and waits until it is ready."""
    with ExitStack() as stack:

        def start(*to: str, **options: object) -> Process:
            arguments = argv(broker.host, broker.port, *to, log=log.path, **options)
            return stack.enter_context(Process.module("fleet", "sandbox.fleet", *arguments, ready=READY))

        yield start


@pytest.fixture
def bus(broker: Broker, controller: Process) -> Iterator[BusClient]:
    with BusClient(broker) as client:
        yield client


def order(method: str = "get", resource: str = "/system/info", data: object = None) -> dict[str, object]:
    return {"method": method, "resource": resource, "data": data}


@pytest.mark.parametrize(
    ("broker", "shape", "qos"),
    [
        ("mosquitto", "one-model", 0),
        ("mosquitto", "per-gateway", 1),
        ("mosquitto", "grouped:3", 2),
        ("amqtt", "grouped:2", 0),
    ],
    indirect=["broker"],
)
def test_every_gateway_answers_in_every_shape(
    start: StartFleet, bus: BusClient, log: FleetLog, shape: str, qos: int
) -> None:
    start("cg-[01-08]", "00:0c:29:1c:e8:[0e-0f]", shape=shape, qos=qos)
    names = [f"cg-0{i}" for i in range(1, 9)] + ["00:0c:29:1c:e8:0e", "00:0c:29:1c:e8:0f"]
    answers = {name: bus.ask("get", f"/remote/{name}", order()) for name in names}
    for name, future in answers.items():
        answer = future.result(10)
        assert (answer["code"], answer["data"]["code"]) == (200, 200)
        assert answer["data"]["data"] == {"name": name, "version": version(name)}
    assert sorted(command.destination for command in log.commands()) == sorted(names)
    assert log.duplicates() == {}
    assert bus.answers.empty()


@pytest.mark.parametrize(
    ("shape", "codes"),
    [
        ("one-model", {"cg-1": 423, "cg-2": 423, "cg-3": 423}),
        ("per-gateway", {"cg-1": 423, "cg-2": 200, "cg-3": 200}),
        ("grouped:2", {"cg-1": 423, "cg-2": 423, "cg-3": 200}),
    ],
)
def test_a_shape_is_what_one_write_locks(
    start: StartFleet, bus: BusClient, log: FleetLog, shape: str, codes: dict[str, int]
) -> None:
    start("cg-[1-3]", shape=shape, silent="cg-1")
    held = bus.ask("post", "/remote/cg-1", order("post"))
    bus.probe()
    assert {name: bus.request("post", f"/remote/{name}", order("post"))["code"] for name in codes} == codes
    assert not held.done()
    expected = ["cg-1", *(name for name, code in codes.items() if code == 200)]
    until(lambda: len(log.commands()) == len(expected), "what nobody answers is in the log too")
    assert [command.destination for command in log.commands()] == expected


def write_to_all(bus: BusClient, count: int) -> dict[int, dict[str, Any]]:
    """Give the answers of gw-1 to gw-<count> to one write each, all under way at the same time."""
    futures = {i: bus.ask("post", f"/remote/gw-{i}", order("post", "/x")) for i in range(1, count + 1)}
    return {i: future.result(30) for i, future in futures.items()}


def test_faults_that_are_answered(start: StartFleet, bus: BusClient, log: FleetLog) -> None:
    faults = {
        "fail": "gw-1:500",
        "refuse": "gw-2:503",
        "twice": "gw-3",
        "garbage": "gw-4",
        "slow": "gw-5:0.3",
    }
    start("gw-[1-6]", shape="per-gateway", **faults)
    answers = write_to_all(bus, 6)
    codes = {i: answer["code"] for i, answer in answers.items()}
    assert codes == {1: 200, 2: 503, 3: 200, 4: 200, 5: 200, 6: 200}
    assert answers[1]["data"]["code"] == 500
    assert answers[1]["data"]["data"] == {"message": "fails on purpose"}
    assert answers[2]["sign"] == ["fleet-gw-2"]
    assert [answers[i]["data"]["code"] for i in (3, 5, 6)] == [200, 200, 200]
    assert answers[4].get("data") == GARBAGE[answers[4]["id"] % len(GARBAGE)].get("data")
    assert {command.destination for command in log.commands()} == {f"gw-{i}" for i in (1, 3, 4, 5, 6)}
    assert log.duplicates() == {}
    assert bus.answers.empty()


def test_faults_that_end_in_408(start: StartFleet, bus: BusClient, log: FleetLog) -> None:
    start("gw-[1-3]", shape="per-gateway", ttl=1, silent="gw-1", dead="gw-2", late="gw-3:60")
    answers = write_to_all(bus, 3)
    assert [(answer["code"], answer["sign"]) for answer in answers.values()] == [(408, ["controller"])] * 3
    assert {command.destination for command in log.commands()} == {"gw-1", "gw-3"}
    assert log.duplicates() == {}


@pytest.mark.parametrize(("shape", "signed"), [("one-model", "fleet"), ("per-gateway", "controller")])
def test_who_says_that_there_is_no_such_gateway(
    start: StartFleet, bus: BusClient, log: FleetLog, shape: str, signed: str
) -> None:
    start("cg-[1-2]", shape=shape)
    answer = bus.request("get", "/remote/cg-3", order())
    assert (answer["code"], answer["sign"]) == (404, [signed])
    assert log.commands() == []


def answers_sent(seen: "queue.Queue[bytes]", id_: int, count: int) -> list[dict[str, Any]]:
    """Wait until so many answers to this request have been sent to the controller; give them."""
    answers: list[dict[str, Any]] = []
    while len(answers) < count:
        message = json.loads(seen.get(timeout=20))
        if message["id"] == id_ and "code" in message:
            answers.append(message)
    return answers


def test_twice_is_really_sent_twice(broker: Broker, start: StartFleet, bus: BusClient) -> None:
    start("cg-1", twice="cg-1")
    seen: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker, first_id=1000) as listener:
        listener.subscribe("/controller", seen.put)
        first, second = answers_sent(seen, bus.request("get", "/remote/cg-1", order())["id"], 2)
    assert first == second


def test_late_is_sent_when_the_controller_has_given_up(
    broker: Broker, start: StartFleet, bus: BusClient
) -> None:
    start("cg-1", late="cg-1:2.2", ttl=1)
    seen: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker, first_id=1000) as listener:
        listener.subscribe("/controller", seen.put)
        answer = bus.request("get", "/remote/cg-1", order())
        assert answer["code"] == 408
        (late,) = answers_sent(seen, answer["id"], 1)
    assert late["code"] == 200


def test_what_is_nested_too_deep_for_the_parser_is_survived(
    start: StartFleet, bus: BusClient, log: FleetLog
) -> None:
    start("cg-1")
    # The controller lets it pass; whether Python does depends on its version.
    deep = b"[" * 2000 + b"]" * 2000
    bus.send(b'{"id":900,"method":"get","resource":"/remote/cg-1","tunnel":"x","data":' + deep + b"}")
    assert bus.request("get", "/remote/cg-1", order())["code"] == 200
    assert [command.resource for command in log.commands()] == ["/system/info"]


@pytest.mark.parametrize("shape", ["one-model", "per-gateway"])
def test_after_a_controller_restart_the_fleet_registers_again(
    start: StartFleet, bus: BusClient, controller: Process, shape: str
) -> None:
    fleet = start("cg-[1-3]", shape=shape)
    controller.kill()
    controller.start()
    fleet.wait_for(f"{READY} again: 2", 20)
    for i in (1, 2, 3):
        assert bus.request("get", f"/remote/cg-{i}", order())["code"] == 200


def test_after_a_broker_restart_the_fleet_is_back(
    broker: Broker, start: StartFleet, controller: Process
) -> None:
    fleet = start("cg-[1-3]", shape="per-gateway")
    broker.kill()
    broker.start()
    fleet.wait_for(f"{READY} again: 2", 30)
    with BusClient(broker, first_id=1000) as bus:
        assert bus.request("get", "/remote/cg-3", order())["code"] == 200


def test_a_new_fleet_replaces_the_registrations_of_a_killed_one(
    start: StartFleet, bus: BusClient, log: FleetLog
) -> None:
    fleet = start("cg-[1-3]", shape="per-gateway")
    assert bus.request("get", "/remote/cg-2", order())["code"] == 200
    fleet.kill()
    fleet.start()
    assert bus.request("get", "/remote/cg-2", order())["code"] == 200
    assert [command.destination for command in log.commands()] == ["cg-2", "cg-2"]
    assert log.duplicates() == {}


def test_the_log_is_there_from_the_start(log: FleetLog) -> None:
    arguments = argv(HOST, free_port(), "cg-1", log=log.path)
    with Process.module("fleet", "sandbox.fleet", *arguments, ready="the broker is not there"):
        assert log.commands() == []


def test_it_writes_down_when_it_registers(start: StartFleet, controller: Process, tmp_path: Path) -> None:
    path = tmp_path / "registrations"
    begun_s = time.monotonic()
    fleet = start("cg-[1-2]", shape="per-gateway", registrations=path)
    controller.kill()
    restarted_s = time.monotonic()
    controller.start()
    fleet.wait_for(f"{READY} again: 2", 20)
    times = registrations(path)
    assert times.keys() == {"/remote/cg-1", "/remote/cg-2"}
    for first_s, second_s in times.values():
        assert begun_s < first_s < restarted_s < second_s


def test_sigterm_ends_it_in_good_order(start: StartFleet) -> None:
    assert start("cg-1").terminate() == 0


def test_a_fleet_waits_for_a_controller_that_comes_later(broker: Broker) -> None:
    fleet = Process.module("fleet", "sandbox.fleet", *argv(broker.host, broker.port, "cg-1"))
    with fleet, controller_process(broker):
        fleet.wait_for(READY, 20)
