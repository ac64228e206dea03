"""Child processes of the sandbox, and the brokers that run in them."""

import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from sandbox.broker import Broker, Kind
from sandbox.controller import controller_process
from sandbox.gateway import Gateway
from sandbox.process import PROJECT, Process, ProcessError, free_port
from tests.bus_client import BusClient
from tests.conftest import require

ECHO = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
print("one", flush=True)
print("two", file=sys.stderr, flush=True)
print("ready", flush=True)
while True:
    time.sleep(60)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(60)"
)


def child(code: str, *, ready: str | None = "ready") -> Process:
    return Process("child", [sys.executable, "-u", "-c", code], ready=ready)


# --- Process -----------------------------------------------------------------------------------------------


def test_start_waits_for_the_ready_line_and_keeps_the_output() -> None:
    with child(ECHO) as process:
        assert process.returncode is None
        assert process.output() == ["one", "two", "ready"]
        assert process.wait_for("tw", 0) == "two"
        process.interrupt()
        assert process.wait_for("interrupted", 10) == "interrupted"
    assert not process.running
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("code", ["print('a fault'); raise SystemExit(3)", "print('a fault')"])
def test_a_child_that_ends_before_it_is_ready_is_told_with_its_last_lines(code: str) -> None:
    process = child(code)
    with pytest.raises(
        ProcessError, match=r"expected child to print 'ready', but its output ended[^$]*a fault"
    ):
        process.start()
    assert not process.running


def test_a_child_that_is_not_ready_in_time_is_killed() -> None:
    process = child("import time; time.sleep(60)")
    with pytest.raises(ProcessError, match=r"0\.2 s passed"):
        process.start(timeout_s=0.2)
    assert process.returncode == -signal.SIGKILL


def test_a_program_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ProcessError, match="no-such-program"):
        Process("child", ["no-such-program"], ready="ready").start()


def test_terminate_insists_and_wakes_a_paused_child() -> None:
    with child(STUBBORN) as process:
        assert process.terminate(timeout_s=0.2) == -signal.SIGKILL
    with child(ECHO) as process:
        process.pause()
        assert process.terminate(timeout_s=10) == -signal.SIGTERM
        assert process.terminate() == -signal.SIGTERM, "again is no error"


def test_a_child_can_be_started_again_with_fresh_output() -> None:
    with child(ECHO) as process:
        first = process.pid
        with pytest.raises(ProcessError, match="runs already"):
            process.start()
        assert process.kill() == -signal.SIGKILL
        process.start()
        assert process.pid != first
        assert process.output() == ["one", "two", "ready"]


def test_a_child_that_was_never_started_says_so() -> None:
    process = child(ECHO)
    assert (process.running, process.returncode, process.output()) == (False, None, [])
    with pytest.raises(ProcessError, match="never started"):
        process.kill()


def test_a_child_outlives_the_thread_that_started_it_and_has_its_own_session() -> None:
    process = child(ECHO)
    thread = threading.Thread(target=process.start, name="starter")
    thread.start()
    thread.join(30)
    with process:
        process.interrupt()
        process.wait_for("interrupted", 10)
        assert os.getsid(process.pid) == process.pid
        assert [t.name for t in threading.enumerate() if t.name == "child-output"] == ["child-output"]


def test_it_runs_only_once_all_of_it_is_there_to_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who ends it at that moment waits for a thread that was not started."""
    process = child(ECHO, ready=None)
    start, running = threading.Thread.start, []

    def seen(thread: threading.Thread) -> None:
        if thread.name == "child-output":
            running.append(process.running)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", seen)
    with process:
        assert running == [False]
        assert process.running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
@pytest.mark.parametrize(
    "what", ["Process('child', ['sleep', '60']).start()", "Broker('mosquitto').start().process"]
)
def test_a_child_dies_with_its_parent(what: str) -> None:
    require("mosquitto")
    code = (
        f"from sandbox.process import Process; from sandbox.broker import Broker; child = {what}\n"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watch = os.pidfd_open(pid)
        parent.kill()
        parent.wait(10)
        assert select.select([watch], [], [], 10)[0] == [watch], (
            "a pidfd is readable once its process has ended"
        )
        os.close(watch)


def test_free_ports_are_free_and_no_outgoing_connection_takes_them() -> None:
    port = free_port()
    assert port < 32768
    with socket.create_server(("127.0.0.1", port)):
        pass


# --- Broker ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["mosquitto", "amqtt"])
def each_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    kind: Kind = request.param
    require(kind)
    with Broker(kind) as broker:
        yield broker


def accepts(broker: Broker) -> bool:
    try:
        socket.create_connection((broker.host, broker.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_broker_comes_back_on_its_port(each_broker: Broker) -> None:
    port = each_broker.port
    assert accepts(each_broker)
    each_broker.restart()
    each_broker.kill()
    assert not accepts(each_broker)
    each_broker.start()
    assert accepts(each_broker)
    each_broker.stop()
    each_broker.stop()
    assert not accepts(each_broker)
    assert each_broker.port == port


def test_messages_go_through_and_stand_still_while_it_is_paused(each_broker: Broker) -> None:
    got: queue.Queue[bytes] = queue.Queue()
    with BusClient(each_broker) as client:
        client.subscribe("a", got.put)
        client.send(b"1", "a")
        assert got.get(timeout=10) == b"1"
        each_broker.pause()
        client.send(b"2", "a")
        with pytest.raises(queue.Empty):
            got.get(timeout=0.2)
        each_broker.resume()
        assert got.get(timeout=10) == b"2"


def publish_all(broker: Broker, topic: str, payloads: list[bytes]) -> None:
    """Publish at QoS 1 and return when the broker has dealt with all of it."""
    done = threading.Event()
    with BusClient(broker, qos=1) as sender:
        sender.subscribe("last", lambda _: done.set())
        for payload in payloads:
            sender.send(payload, topic)
        sender.send(b"", "last")
        assert done.wait(20)


def kept_for_an_absent_client(broker: Broker, payloads: list[bytes]) -> list[bytes]:
    """What of all this a persistent session still has when its client comes back."""
    got: list[bytes] = []
    ended = threading.Event()
    subscribed = threading.Event()
    client = mqtt.Client("visitor", clean_session=False)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _userdata, message: got.append(message.payload)
    for away in (True, False):
        client.connect(broker.host, broker.port)
        client.loop_start()
        if away:
            client.subscribe([("kept", 1)])
            assert subscribed.wait(10)
        else:
            client.message_callback_add("end", lambda *_: ended.set())
            client.subscribe("end", 1)
            with BusClient(broker) as sender:
                deadline = time.monotonic() + 20
                while not ended.wait(0.1) and time.monotonic() < deadline:
                    sender.send(b"", "end")
        client.disconnect()
        client.loop_stop()
        if away:
            publish_all(broker, "kept", payloads)
    return got


def test_a_persistent_session_keeps_what_arrives_while_its_client_is_away(each_broker: Broker) -> None:
    payloads = [b"%d" % number for number in range(30)]
    assert kept_for_an_absent_client(each_broker, payloads) == payloads


def test_a_whole_request_goes_through_each_broker(each_broker: Broker) -> None:
    with (
        controller_process(each_broker),
        BusClient(each_broker) as client,
        BusClient(each_broker, first_id=1_000_000) as model,
    ):
        model.register_model("m", ["/a"], lambda message: (200, message["data"]))
        assert client.request("post", "/a", {"x": 1})["data"] == {"x": 1}


@pytest.mark.skipif(not Broker.available("rabbitmq"), reason="RabbitMQ is tried by hand, not in CI")
def test_rabbitmq_takes_the_place_of_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_BROKER", "rabbitmq")
    with Broker() as broker:
        assert broker.kind == "rabbitmq"
        test_a_persistent_session_keeps_what_arrives_while_its_client_is_away(broker)
        test_a_whole_request_goes_through_each_broker(broker)
        test_messages_go_through_and_stand_still_while_it_is_paused(broker)


def test_an_untuned_broker_loses_what_a_slow_receiver_did_not_take() -> None:
    require("mosquitto")
    for tuned in (False, True):
        with Broker("mosquitto", tuned=tuned) as broker:
            assert len(kept_for_an_absent_client(broker, [b"x"] * 1500)) == (1500 if tuned else 1000)


@pytest.mark.parametrize("tuned", [True, False])
def test_a_gateway_may_have_an_untouched_broker(tmp_path: Path, tuned: bool) -> None:
    assert Gateway(tmp_path, tuned=tuned).broker.tuned is tuned


def test_the_broker_runs_in_the_foreground() -> None:
    for kind in ("mosquitto", "amqtt"):
        require(kind)
        port = free_port()
        ready = f"broker ready on 127.0.0.1:{port} ({kind})"
        with Process.module(
            "broker", "sandbox.broker", "--kind", kind, "--port", port, ready=ready
        ) as process:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            assert process.terminate(timeout_s=10) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_taken_port_is_said(each_broker: Broker) -> None:
    with pytest.raises(ProcessError, match="in use"), Broker(each_broker.kind, each_broker.port):
        pass


def test_a_kind_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "available", staticmethod(lambda kind: kind == "amqtt"))
    assert Broker().kind == "amqtt"
    with pytest.raises(ProcessError, match="apt install mosquitto"):
        Broker("mosquitto")


# --- what tests do without a broker ------------------------------------------------------------------------


def test_a_missing_broker_skips_at_home_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "available", staticmethod(lambda kind: False))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require("mosquitto")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        require("mosquitto")
