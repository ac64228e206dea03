"""The door to the SDK: shims, the link to the broker, and a plain SDK bundle that lives on them."""

import gc
import inspect
import os
import queue
import re
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
import pytest
import sanji.router
import voluptuous

from puppetmaster.bundle import sdk
from sandbox.broker import Broker
from sandbox.process import Process, free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.unit.bundle.benches import described


@contextmanager
def link(
    broker: Broker, on_connect: Callable[[sdk.Connection], Any] = lambda made: None
) -> Iterator[sdk.Connection]:
    """Give a connection whose loop runs, and see that the loop ends."""
    made = sdk.connection(broker.host, broker.port)
    made.connect_delay = 0.05
    made.set_on_connect(lambda *_: on_connect(made))
    thread = threading.Thread(target=made.connect, name="test-connection", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.disconnect()
        thread.join(10)
        assert not thread.is_alive()


# ---- shims --------------------------------------------------------------------------------------------


def test_importing_the_door_makes_routes_schemas_and_dispatch_work() -> None:
    """Shim 1: the three things that Python 3.7, 3.10 and 3.11 broke."""
    assert sanji.router.Route("/jobs/:id").resource_regex.search("jobs/12") is not None
    assert voluptuous.Schema({"a": int})({"a": 1}) == {"a": 1}
    assert len(inspect.getargspec(lambda self, message: None).args) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["12", "00:0c:29:1c:e8:01", "cg-000c291ce801", "a.b.c", "%2Fx", "é", "a@b,c"]
)
def test_a_route_parameter_takes_any_name_of_one_segment(name: str) -> None:
    """Shim 1: the SDK's pattern knows neither colon, dot nor percent."""
    found = sdk.compile_resource("/remote/:id").search(f"remote/{name}")
    assert found is not None
    assert found.groupdict() == {"id": name, "querystring": None}


@pytest.mark.parametrize(
    "resource", ["remote", "remote/", "remote/a/b", "remote/a b", "xremote/a", "remote/a#b"]
)
def test_a_route_parameter_takes_nothing_else(resource: str) -> None:
    assert sdk.compile_resource("/remote/:id").search(resource) is None


def test_a_query_is_cut_off_and_literal_parts_are_literal() -> None:
    found = sdk.compile_resource("/a.b/:id/ws").search("a.b/7/ws?x=1&y=/?z")
    assert found is not None
    assert found.groupdict() == {"id": "7", "querystring": "x=1&y=/?z"}
    assert sdk.compile_resource("/a.b").search("axb") is None


def test_applying_the_shims_twice_changes_nothing() -> None:
    before = inspect.getargspec  # type: ignore[attr-defined]
    sdk.apply_shims()
    assert inspect.getargspec is before  # type: ignore[attr-defined]
    assert isinstance(sanji.router.Route("/a/:b").resource_regex, re.Pattern)


# ---- connection ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_broker_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sdk.HOST_VARIABLE, raising=False)
    monkeypatch.delenv(sdk.PORT_VARIABLE, raising=False)


def test_the_port_of_the_environment_becomes_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: read when asked for, not when the SDK is imported, and not left a string."""
    monkeypatch.setenv(sdk.HOST_VARIABLE, "broker.example")
    monkeypatch.setenv(sdk.PORT_VARIABLE, "1884")
    made = sdk.connection()
    made.disconnect()
    assert (made.broker_host, made.broker_port) == ("broker.example", 1884)


def test_without_environment_it_is_the_broker_of_this_machine() -> None:
    made = sdk.connection()
    made.disconnect()
    assert (made.broker_host, made.broker_port) == ("localhost", 1883)


@pytest.mark.parametrize("port", ["mqtt", "tcp://172.17.0.2:1883", "0", "-1", "65536", "1883.0"])
def test_a_port_that_is_none_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """F1: the SDK would try for ever and say nothing."""
    monkeypatch.setenv(sdk.PORT_VARIABLE, port)
    with pytest.raises(ValueError, match=rf"from 1 to 65535, got '{re.escape(port)}'; set BROKER_PORT"):
        sdk.connection()


def test_a_message_that_the_broker_closes_for_is_replaced_after_the_second_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Paho sends it again after each loss, and would do so for ever. It is the longest that is open."""
    require("mosquitto")
    asked: list[int] = []

    def instead(payload: bytes) -> bytes:
        asked.append(len(payload))
        return b"%d were too many" % len(payload)

    def on_connect(made: sdk.Connection) -> None:
        made.accepted(0)
        connections.release()

    came: queue.Queue[bytes] = queue.Queue()
    connections = threading.Semaphore(0)
    payloads = [b"x" * 5000, b"y" * 30_000, b"small", b"z" * 25_000]
    with Broker("mosquitto", config="max_packet_size 20000\n") as broker, BusClient(broker) as client:
        client.subscribe("inbox", came.put)
        with link(broker, on_connect) as made:
            made.instead = instead
            assert connections.acquire(timeout=20)
            for payload in payloads:
                made.client.publish("inbox", payload, qos=1)
            got: set[bytes] = set()
            while len(got) < 4:
                got.add(came.get(timeout=20))
            assert got == {payloads[0], payloads[2], b"30000 were too many", b"25000 were too many"}
    assert asked == [30_000, 25_000]
    told = [
        record.getMessage() for record in caplog.records if "an error is sent in its place" in record.message
    ]
    assert len(told) == 2
    assert "when an answer of 30000 bytes was sent" in told[0]


@pytest.mark.parametrize("payload", [b"x" * 10_000, b"small"])
def test_a_message_that_was_lost_with_the_broker_once_is_sent_again(payload: bytes) -> None:
    """And a short one however often: no broker closes for that."""
    made = sdk.connection("127.0.0.1", free_port())
    made.instead = lambda _: b"replaced"
    message = made.client.publish("inbox", payload, qos=1)
    (queued,) = made.client._out_messages.values()
    queued.state = paho.mqtt_ms_wait_for_puback
    for _ in range(1 if len(payload) > sdk.SUSPECT_BYTES else 5):
        made._suspect()
    assert (queued.payload, queued.mid) == (payload, message.mid)
    made._suspect()
    assert queued.payload == (b"replaced" if len(payload) > sdk.SUSPECT_BYTES else payload)
    made.disconnect()


def test_an_error_in_a_callback_does_not_end_the_link(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """F5: paho 1.5.0 lets it end the network thread: the process lives on and is deaf."""
    subscribed = threading.Semaphore(0)

    def on_connect(made: sdk.Connection) -> None:
        made.client.on_subscribe = lambda *_: subscribed.release()
        made.message_callback_add("poison", lambda *_: 1 / 0)
        made.subscribe("poison")

    with link(broker, on_connect), BusClient(broker) as client:
        assert subscribed.acquire(timeout=20)
        client.send({}, topic="poison")
        assert subscribed.acquire(timeout=20)
    assert "ZeroDivisionError" in caplog.text


def test_it_ends_while_the_broker_is_away() -> None:
    made = sdk.connection("127.0.0.1", free_port())
    thread = threading.Thread(target=made.connect, name="test-connection", daemon=True)
    thread.start()
    made.disconnect()
    thread.join(10)
    assert not thread.is_alive()


def test_it_ends_while_the_broker_hangs(broker: Broker) -> None:
    connected = threading.Event()
    with link(broker, lambda _: connected.set()) as made:
        assert connected.wait(20)
        broker.pause()
        for _ in range(30):  # more than the socket's buffers take
            made.client.publish("anywhere", b"x" * 1_000_000)
        begun = time.monotonic()
        made.disconnect()
        assert time.monotonic() - begun < 1
    broker.resume()


@contextmanager
def crowded(files: int = 1100) -> Iterator[None]:
    """So many files are open that the next one has a number that select does not know."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], files + 200), limits[1]))
    gc.collect()  # no file of a test before this one is closed meanwhile
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(files)]
    try:
        yield
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_it_stands_with_more_open_files_than_select_knows(broker: Broker) -> None:
    connected, came = threading.Event(), queue.Queue[bytes]()
    with BusClient(broker) as client:
        client.subscribe("a/b", came.put)
        with crowded(), link(broker, lambda _: connected.set()) as made:
            assert connected.wait(20)
            assert made.client.socket().fileno() > 1023
            made.publish(topic="a/b", qos=1, payload=1)
            assert came.get(timeout=20) == b"1"


def test_a_socket_that_is_none_is_told_as_select_tells_it() -> None:
    """Paho 1.5.0 takes both for the loss of its connection."""
    ours, other = socket.socketpair()
    with other:
        assert paho.select.select([ours], [ours], [], 0) == ([], [ours], [])
        other.send(b"x")
        assert paho.select.select([ours], [], [], 20) == ([ours], [], [])
        ours.close()
        with pytest.raises(ValueError):
            paho.select.select([ours], [], [], 0)
        with pytest.raises(TypeError):
            paho.select.select([None], [], [], 0)


def test_the_link_stands_until_the_goodbye_is_said(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The goodbye wakes the loop through a pair of sockets that the loop closes when it ends."""
    connected = threading.Event()
    with link(broker, lambda _: connected.set()) as made:
        assert connected.wait(20)
        goodbye, ended = made.client.disconnect, []

        def slow() -> None:
            ended.append(made._closing.wait(0.1))
            goodbye()

        monkeypatch.setattr(made.client, "disconnect", slow)
        made.disconnect()
        assert ended == [False]


def test_what_was_published_before_the_end_arrives(broker: Broker) -> None:
    came: queue.Queue[bytes] = queue.Queue()

    def on_connect(made: sdk.Connection) -> None:
        made.publish(topic="last-words", qos=0, payload="farewell")  # queued: we are in a callback
        made.disconnect()

    with BusClient(broker) as client:
        client.subscribe("last-words", came.put)
        with link(broker, on_connect):
            assert came.get(timeout=20) == b'"farewell"'


def test_a_connection_that_never_began_leaves_no_socket_open() -> None:
    made = sdk.connection("127.0.0.1", free_port())
    pair: list[socket.socket] = [made.client._sockpairR, made.client._sockpairW]
    made.disconnect()
    assert [each.fileno() for each in pair] == [-1, -1]


# ---- a plain SDK bundle on top ------------------------------------------------------------------------


def test_another_bundle_may_use_the_plain_sdk(broker: Broker, controller: Process) -> None:
    """A client made of the SDK's own class and our link: registers, asks a model, gets its answer, ends."""

    class Another(sdk.Sanji):  # type: ignore[misc]
        def init(self, *_args: Any, **_kwargs: Any) -> None:
            self.reg_delay = 0
            self.outcome: queue.Queue[Any] = queue.Queue()
            self.answered = threading.Event()

        def run(self) -> None:
            answer = self.publish.direct.post("/jobs", data={"batch": ["é"]})
            self.outcome.put((answer.code, answer.data))

        @sdk.Route(methods="get", resource="/another/:id")
        def get(self, message: Any, response: Any) -> None:
            response(data=message.param)
            self.answered.set()

    bundle = described(name="another", resources=[{"methods": ["get"], "resource": "/another/:id"}])
    with BusClient(broker) as client:
        client.register_model("jobs", ["/jobs"], lambda message: (200, message["data"]))
        connection = sdk.connection(broker.host, broker.port)
        with ThreadPoolExecutor(1) as pool:  # on the main thread it would take SIGINT away from pytest
            another: Any = pool.submit(Another, bundle=bundle, connection=connection).result()
        thread = threading.Thread(target=another.start, name="another", daemon=True)
        thread.start()
        try:
            assert another.outcome.get(timeout=30) == (200, {"batch": ["é"]})
            answer = client.request("get", "/another/00:0c:29:1c:e8:01")
            assert (answer["code"], answer["data"]) == (200, {"id": "00:0c:29:1c:e8:01"})
            # The answer is here before its handler knows that it left; without a connection it never does.
            assert another.answered.wait(30)
        finally:
            another.stop_event.set()
            thread.join(20)
        assert not thread.is_alive()
