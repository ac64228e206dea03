"""Broker, controller and network fail while the bundle works, and strange answers come.

The bundle's keepalive is 2 s here, its request timeout 3 s, and the controller is asked every 0.3 s
(``tests.torture.world``).
"""

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from tests.bus_client import BusClient, Message
from tests.conftest import require
from tests.desk import until
from tests.proxy import Proxy
from tests.torture import kills
from tests.torture.world import PAUSE_S, World

#: So many more commands reach the gateways before something breaks.
COMMANDS = 40
#: So long each of them may take.
BREAK_S = 60.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    require("mosquitto")
    return tmp_path


def _break_all_but_the_network(world: World) -> float:
    """One after the other, twice what is killed. Returns how long the bundle took to answer at most."""
    gateway, took_s = world.gateway, [0.0]
    for _ in range(2):
        _work(world)
        with world.losing("broker killed"):
            gateway.broker.kill()
            gateway.broker.start()  # its sessions are gone with it
        _work(world)
        with world.losing("controller killed"):  # it has forgotten everybody
            gateway.controller.kill()
            gateway.controller.start()
            begun_s = time.monotonic()
        took_s.append(time.monotonic() - begun_s)
        _work(world)
        world.restart_everything()
    _work(world)
    with world.losing("broker paused"):  # for longer than keepalive
        gateway.broker.pause()
        _until_told(world, "lost the broker")
        gateway.broker.resume()
    _work(world)
    with world.losing("controller paused"):
        gateway.controller.pause()
        _until_told(world, "the controller does not answer")
        gateway.controller.resume()
    _work(world)
    world.pause_bundle(PAUSE_S)  # for longer than its requests have
    _work(world)
    return max(took_s)


def _break_the_network(world: World) -> None:
    """It is cut in the middle of a message, or holds everything back."""
    proxy = world.proxy
    assert proxy is not None
    for count in (1, 5001):
        _cut(world, proxy, count)
    _work(world)
    with world.losing("network held"):
        accepted = proxy.accepted
        proxy.hold()
        _until_told(world, "lost the broker")
        until(lambda: proxy.accepted > accepted, "it tries to connect, in vain", BREAK_S)
        proxy.release()


def _cut(world: World, proxy: Proxy, count: int) -> None:
    """Cut it after so many more bytes."""
    _work(world)
    accepted = proxy.accepted
    with world.losing("network cut"):
        proxy.cut_after(count)
        until(lambda: proxy.accepted >= accepted + 2, "it connects again", BREAK_S)


@pytest.mark.timeout(400)
def test_broker_controller_bundle_and_network_break_one_after_the_other(directory: Path) -> None:
    """In two worlds: the network breaks in one of its own."""
    took_s: list[float] = []
    (directory / "network").mkdir()
    outcomes = kills.side_by_side(
        lambda: kills.run(1, lambda world: took_s.append(_break_all_but_the_network(world)), directory),
        lambda: kills.run(5, _break_the_network, directory / "network", proxied=True),
    )
    for outcome in outcomes:
        assert not outcome.faults
        assert outcome.statuses["resolved"] > 20, outcome.statuses
    assert took_s[0] < 5


def _work(world: World) -> None:
    """Let the world work until the gateways have got some more commands."""
    log = FleetLog(world.gateway.fleet_log)
    arrived = len(log.commands())
    until(lambda: len(log.commands()) >= arrived + COMMANDS, "commands arrive", BREAK_S)


def _until_told(world: World, text: str) -> None:
    """Leave the world broken until the bundle says so, once more."""

    def times() -> int:
        return sum(text in line for line in world.gateway.bundle.output())

    before = times()
    until(lambda: times() > before, text, BREAK_S)


# -- answers that nobody expects --------------------------------------------------------------------


class Device:
    """Gateways in the test's hands: one takes a command, and the test says what comes back."""

    def __init__(self, client: BusClient) -> None:
        self.client = client
        self.jobs: list[int] = []
        self._arrived: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def command(self, job: dict[str, Any] | None = None) -> Message:
        """Have the bundle send a command to a new gateway, and return it as it arrived there."""
        name = f"device-{len(self.jobs)}"  # the controller holds the lock of one that it saw no answer of
        self.client.register_model(name, [f"/remote/{name}"], self._arrived.put, ttl=30)
        item = {"method": "post", "resource": "/a", "__request": {"destination": [name]}}
        answer = self.client.request("post", "/jobs", {"batch": [item], **(job or {})})
        assert answer["code"] == 200, answer
        self.jobs.append(answer["data"]["id"])
        return self._arrived.get(timeout=10)

    def straight(self, command: Message, answer: Message | bytes) -> None:
        """Answer without the controller, which would drop or change some of it."""
        self.client.send(answer, topic=command["tunnel"])

    def request(self, command: Message) -> dict[str, Any]:
        """The bundle's word on the command, once it is final."""
        while True:
            answer = self.client.request("get", f"/requests/{command['id']}")
            if answer["code"] == 200 and answer["data"]["__request"]["progress"] == 100:
                inner: dict[str, Any] = answer["data"]["__request"]
                return inner
            threading.Event().wait(0.02)

    def job(self) -> dict[str, Any]:
        """The job of the last command."""
        job: dict[str, Any] = self.client.request("get", f"/jobs/{self.jobs[-1]}?collection=false")["data"]
        return job


@contextmanager
def _device(directory: Path, **settings: str) -> Iterator[Device]:
    given = {"PUPPETMASTER_REQUEST_TIMEOUT_S": "1.5", "PUPPETMASTER_HTTP": "off", **settings}
    gateway = Gateway(directory, settings=given, controller={"refresh_ms": 100})
    with gateway, BusClient(gateway.broker) as client:
        yield Device(client)
        assert not [line for line in gateway.bundle.output() if "Traceback" in line]


def _good(command: Message, **more: Any) -> Message:
    return {"id": command["id"], "code": 200, "data": {"code": 200, "data": {"n": 1}}, **more}


def test_answers_that_are_wrong_in_every_way(directory: Path) -> None:
    with _device(directory) as device:
        # Twice, and then once more as a failure: the first one counts.
        command = device.command()
        for answer in (_good(command), _good(command), {**_good(command), "code": 500, "data": {}}):
            device.straight(command, answer)
        assert device.request(command)["status"] == "resolved"

        # For other ids, truncated, no answers at all, and then the right one.
        command = device.command()
        whole = json.dumps(_good(command)).encode()
        for bad in (
            {**_good(command), "id": command["id"] + 1},
            {**_good(command), "id": 7},
            {**_good(command), "id": 2**64},
            {**_good(command), "id": str(command["id"])},
            {**_good(command), "code": None},
            whole[:-1],
            whole[: len(whole) // 2],
            whole.replace(b": 200", b": 1e999", 1)[:-3],
            b"",
            b"\xff\xfe",
            b"[" * 5000,
        ):
            device.straight(command, bad)
        device.straight(command, _good(command))
        assert device.request(command)["status"] == "resolved"

        # 2 MB is more than the controller passes on, and no reason to lose an answer.
        command = device.command()
        device.straight(command, _good(command, data={"code": 200, "data": "x" * 2_000_000}))
        until(lambda: device.job()["finishedAt"] is not None, "it ends")
        assert device.job()["counts"]["resolved"] == 1

        # Nor is the controller's indentation, however deep.
        command = device.command()
        deep: Any = [1] * 20_000
        for _ in range(100):
            deep = [deep]
        device.straight(
            command, json.dumps({**_good(command), "data": {"code": 200, "data": deep}}, indent=4).encode()
        )
        ended = device.request(command)
        assert (ended["status"], ended["result"]["data"] == deep) == ("resolved", True)

        # What cannot be kept has come all the same: far too long, and nested too deeply for a decoder.
        for data in (b'"%s"' % (b"x" * 7_000_000), b"[" * 1500 + b"]" * 1500):
            command = device.command()
            device.straight(command, b'{"id":%d,"code":200,"data":%s}' % (command["id"], data))
            ended = device.request(command)
            assert (ended["status"], ended["result"]["code"]) == ("error", 502)

        # Late: it corrects what the timeout said, also when the job had ended.
        command = device.command()
        assert device.request(command)["status"] == "timeout"
        device.straight(command, _good(command))
        until(lambda: device.request(command)["status"] == "resolved", "it is corrected")
        assert device.request(command)["result"]["late"] is True
        assert device.job()["counts"]["resolved"] == 1


def test_a_lost_reply_leaves_no_request_open(directory: Path) -> None:
    with _device(directory) as device:
        begun_s = time.monotonic()
        jobs: list[dict[str, Any]] = [{}, {"timeout": None}, {"timeout": "infinity"}, {"timeout": 3600}]
        commands = [device.command(job) for job in jobs]
        for command in commands:
            request = device.request(command)
            assert (request["status"], request["timeout"]) == ("timeout", 1.5)
        assert time.monotonic() - begun_s < 5
        for job_id in device.jobs:
            assert device.client.request("get", f"/jobs/{job_id}")["data"]["status"] == "resolved"
