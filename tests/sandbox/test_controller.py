"""The controller as a process on a broker, the stand-in or the real one, and its options."""

import json
import os
import queue
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sandbox.broker import Broker
from sandbox.controller import controller_process
from sandbox.process import Process
from sandbox.routing import Message
from tests.bus_client import BusClient
from tests.conftest import require, stand_in_only
from tests.sandbox.buses import CONTEXT, EXPIRED, SIGN


@pytest.fixture
def client(broker: Broker, controller: Process) -> Iterator[BusClient]:
    with BusClient(broker) as connected:
        yield connected


@pytest.fixture
def model(broker: Broker, controller: Process) -> Iterator[BusClient]:
    with BusClient(broker, first_id=1_000_000) as connected:
        yield connected


def test_a_request_and_its_answer_over_a_broker(client: BusClient, model: BusClient) -> None:
    seen: queue.Queue[Message] = queue.Queue()

    def handler(message: Message) -> tuple[int, object]:
        seen.put(message)
        return 200, {"né": 0.1}

    model.register_model("m", ["/remote/+"], handler)
    answer = client.request("POST", "/remote/a", {"x": [1, "\u00e9"]})
    assert (answer["code"], answer["data"], answer["sign"]) == (200, {"né": 0.1}, [model.name])
    assert seen.get(timeout=5)["data"] == {"x": [1, "é"]}
    assert client.request("get", "/nobody")["code"] == 404


def test_messages_are_dumped_again_with_four_spaces(client: BusClient, model: BusClient) -> None:
    raw: queue.Queue[bytes] = queue.Queue()
    client.subscribe("raw", raw.put)
    model.register_model("m", ["/a"], lambda _: None)
    client.send({"id": 7, "method": "get", "resource": "/a", "tunnel": "raw"})
    client.probe()
    client.send(b'{"id":7,"code":200,"data":["\\u00e9\\/",[]]}')
    assert raw.get(timeout=10).decode() == (
        '{\n    "id": 7,\n    "code": 200,\n    "data": [\n        "é/",\n        []\n    ]\n}'
    )


def test_ttl_and_lock_in_real_time(client: BusClient, model: BusClient) -> None:
    model.register_model("m", ["/a"], lambda _: None, ttl=2)
    silent = client.ask("post", "/a")
    assert client.request("get", "/a")["code"] == 423
    answer = silent.result(10)
    assert (answer["code"], answer["data"], answer["sign"]) == (408, EXPIRED, SIGN)


def test_rubbish_is_survived_and_2040_levels_pass(client: BusClient, model: BusClient) -> None:
    raw: queue.Queue[bytes] = queue.Queue()
    client.subscribe("raw", raw.put)
    model.register_model("m", ["/a"], lambda _: None)
    for rubbish in (b"", b"rubbish", b"[" * 500_000, b'{"id":1,"method":"get","resource":"/x","tunnel":"#"}'):
        client.send(rubbish)
    client.send({"id": 7, "method": "get", "resource": "/a", "tunnel": "raw"})
    client.probe()
    client.send(b'{"id":7,"code":200,"data":' + b"[" * 2040 + b"]" * 2040 + b"}")
    assert raw.get(timeout=20).count(b"[") == 2040


def test_retained_messages_are_ignored(client: BusClient, controller: Process) -> None:
    client.send({"id": 5, "method": "get", "resource": "/no", "tunnel": client.tunnel}, retain=True)
    assert client.answers.get(timeout=10)["code"] == 404, "who is there gets it as a normal message"
    controller.terminate()
    controller.start()  # the broker now gives it the retained one
    assert client.request("get", "/no")["code"] == 404
    assert client.answers.empty()


def test_whoever_listens_sees_each_registration_as_it_was_asked_for(
    client: BusClient, model: BusClient
) -> None:
    seen: queue.Queue[Message] = queue.Queue()
    client.subscribe("/controller/registration", lambda payload: seen.put(json.loads(payload)))
    model.register_model("cg-1", ["/remote/cg-1"], lambda _: None, ttl=5)
    message = seen.get(timeout=10)
    assert (message["method"], message["resource"]) == ("post", "/controller/registration")
    asked = {"name": "cg-1", "description": "cg-1", "role": "model", "ttl": 5, "resources": ["/remote/cg-1"]}
    assert message["data"] == asked
    assert model.deregister("cg-1")["code"] == 200
    message = seen.get(timeout=10)
    assert (message["method"], message["data"]) == ("delete", {"name": "cg-1"})


@pytest.mark.parametrize("tuned", [True, False])
def test_registrations_take_their_time(tuned: bool) -> None:
    require("mosquitto")
    # The real one waits for acknowledgements that come late, every other time.
    with Broker("mosquitto", tuned=tuned) as broker, controller_process(broker), BusClient(broker) as client:
        begun_s = time.monotonic()
        for number in range(4):
            client.register_model(f"m{number}", [f"/m/{number}"], lambda _: None)
        assert time.monotonic() - begun_s > 0.08


@stand_in_only("a time of registration that can be set")
def test_who_registers_meanwhile_is_refused_and_all_else_goes_on(broker: Broker) -> None:
    with controller_process(broker, registration_s=1), BusClient(broker) as client:
        begun_s = time.monotonic()
        first = client.ask("post", "/controller/registration", CONTEXT)
        second = client.ask("post", "/controller/registration", CONTEXT | {"name": "mb"})
        assert second.result(10)["code"] == 423
        client.probe()
        assert not first.done()
        assert first.result(10)["code"] == 200
        assert time.monotonic() - begun_s > 1


@stand_in_only("compact messages")
def test_options_for_compact_messages_at_another_qos(broker: Broker) -> None:
    raw: queue.Queue[bytes] = queue.Queue()
    with (
        controller_process(broker, indent=0, publish_qos=0),
        BusClient(broker) as client,
    ):
        client.subscribe("raw", raw.put)
        client.send({"id": 7, "method": "get", "resource": "/no", "tunnel": "raw"})
        expected = b'{"id":7,"code":404,"method":"GET","resource":"/no","sign":["controller"]}'
        assert raw.get(timeout=10) == expected


def test_a_controller_waits_for_its_broker_and_ends_in_good_order(broker: Broker) -> None:
    broker.stop()
    controller = controller_process(broker, reconnect_s=0.1)
    ready, controller.ready = controller.ready, "Connection refused"
    assert ready is not None
    with controller:
        broker.start()
        controller.wait_for(ready, 15)
        assert controller.terminate() == 0


def test_a_restart_forgets_every_registration(
    client: BusClient, model: BusClient, controller: Process
) -> None:
    model.register_model("m", ["/a"], lambda _: (200, None))
    assert client.request("get", "/a")["code"] == 200
    controller.kill()
    controller.start()
    assert client.request("get", "/a")["code"] == 404


def test_after_a_broker_restart_registrations_are_kept(broker: Broker, controller: Process) -> None:
    with BusClient(broker) as client:
        client.register_view("v", ["/v"])
        broker.restart()
        with BusClient(broker) as other:
            assert answer_at_last(other, "/v")["code"] == 403, "still known, as a view"


def answer_at_last(client: BusClient, resource: str) -> Message:
    """Ask until the controller, which may be away for 5 s, answers."""
    for _ in range(30):
        with suppress(TimeoutError):
            return client.request("get", resource, timeout_s=0.5)
    raise TimeoutError(f"expected an answer to GET {resource} within 15 s, got none")


# --- the real one in its place -----------------------------------------------------------------------------


def test_the_real_controller_takes_the_options_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(port=1884)
    monkeypatch.setenv("SANDBOX_CONTROLLER", "/opt/sanji-controller")
    process = controller_process(broker, refresh_ms=100, publish_qos=0, indent=0, reconnect_s=0.1)
    address = ["-H", "127.0.0.1", "-p", "1884"]
    assert process.argv == [
        "/opt/sanji-controller", "-f", "-c", os.devnull, *address, "-i", "100", "-Q", "0",
    ]  # fmt: skip
    monkeypatch.setenv("SANDBOX_CONTROLLER", "")
    process = controller_process(broker, refresh_ms=100, indent=0)
    assert process.argv[1:3] == ["-m", "sandbox.controller"]
    assert process.argv[-4:] == ["--refresh-ms", "100", "--indent", "0"]
