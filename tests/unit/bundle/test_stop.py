"""How a bundle's process ends: by SIGINT or SIGTERM, in time, whatever its handlers and the broker do.

``python -m tests.unit.bundle.test_stop HOST PORT CLASS`` is the process.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from puppetmaster.bundle import sdk
from puppetmaster.bundle.runtime import SteadySanji
from sandbox.broker import Broker
from sandbox.process import Process, ProcessError, free_port
from tests.bus_client import BusClient

SIGNALS = [signal.SIGINT, signal.SIGTERM]
LIMIT_S = 3.0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Routes:
    """The routes of both bundles, which say on stdout how far they are."""

    def init(self, *_args: Any, **_kwargs: Any) -> None:
        self.reg_delay = 0

    def run(self) -> None:
        say("registered")

    def before_stop(self) -> None:
        say("before stop")

    @sdk.Route(methods="get", resource="/things/:id")
    def get(self, message: Any, response: Any) -> None:
        response(data=message.param)

    @sdk.Route(methods="put", resource="/things/:id")
    def busy(self, message: Any, response: Any) -> None:
        say("busy")
        threading.Event().wait(60)
        response()


class Plain(Routes, sdk.Sanji):  # type: ignore[misc]
    """The SDK's own."""


class Steady(Routes, SteadySanji):
    """Ours."""

    def _start_threads(self) -> None:
        super()._start_threads()
        say("started")


def main(host: str, port: str, kind: str) -> None:
    bundle = sdk.Bundle(load=False)
    bundle.profile = {
        "name": "sample",
        "description": "a sample",
        "role": "model",
        "ttl": 10,
        "resources": [{"methods": ["get"], "resource": "/things/:id"}],
    }
    classes: dict[str, Any] = {"plain": Plain, "steady": Steady}
    made = classes[kind](bundle=bundle, connection=sdk.connection(host, port))
    made.start()
    say("start returned")


@contextmanager
def process(host: str, port: int, kind: str, ready: str = "registered") -> Iterator[Process]:
    with Process.module("bundle", "tests.unit.bundle.test_stop", host, port, kind, ready=ready) as started:
        yield started


def send(target: Process, number: signal.Signals) -> None:
    if number is signal.SIGINT:
        target.interrupt()
    else:
        target._signal(number)


@pytest.fixture
def steady(broker: Broker, controller: Process) -> Iterator[Process]:
    with process(broker.host, broker.port, "steady") as started:
        yield started


@pytest.fixture
def plain(broker: Broker, controller: Process) -> Iterator[Process]:
    with process(broker.host, broker.port, "plain") as started:
        yield started


def ends_well(target: Process, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal; the process ends with code 0, in time, and after ``before_stop``."""
    send(target, number)
    code = target.wait(LIMIT_S)
    said = target.output()
    assert code == 0, "\n".join(said)
    assert said.index("before stop") < said.index("start returned")
    assert "Traceback" not in "\n".join(said)


@pytest.mark.parametrize("number", SIGNALS)
def test_idle_it_ends_deregistered(broker: Broker, steady: Process, number: signal.Signals) -> None:
    """F13: SIGTERM ends the SDK's with code -15 and without ``before_stop``; both leave the registration."""
    with BusClient(broker) as client:
        assert client.request("get", "/things/1")["code"] == 200
        ends_well(steady, number)
        assert client.request("get", "/things/1")["code"] == 404


def test_a_busy_handler_does_not_hold_it(broker: Broker, steady: Process) -> None:
    """F13: the SDK waits for it without limit."""
    with BusClient(broker) as client:
        for handler in range(2):  # the second is refused with 423, as the first holds the lock
            client.ask("put", f"/things/{handler}")
        steady.wait_for("busy", 20)
        ends_well(steady)


def test_a_broker_that_is_gone_does_not_hold_it(broker: Broker, steady: Process) -> None:
    broker.kill()
    ends_well(steady)


def test_a_broker_that_hangs_does_not_hold_it(broker: Broker, steady: Process) -> None:
    broker.pause()
    try:
        ends_well(steady)
    finally:
        broker.resume()


def test_a_controller_that_is_gone_does_not_hold_it(controller: Process, steady: Process) -> None:
    controller.kill()
    ends_well(steady)


def test_it_ends_before_it_ever_found_a_broker() -> None:
    with process("127.0.0.1", free_port(), "steady", ready="started") as waiting:
        ends_well(waiting)


def test_a_busy_handler_and_a_broker_that_hangs_and_impatience(broker: Broker, steady: Process) -> None:
    with BusClient(broker) as client:
        client.ask("put", "/things/1")
        steady.wait_for("busy", 20)
        broker.pause()
        try:
            for _ in range(5):  # so close together that they do not all reach the main thread
                send(steady, signal.SIGTERM)
                send(steady, signal.SIGINT)
            ends_well(steady)
        finally:
            broker.resume()


def test_the_sdk_dies_of_sigterm(plain: Process) -> None:
    """F13, the fault itself."""
    send(plain, signal.SIGTERM)
    assert plain.wait(20) == -signal.SIGTERM
    assert "before stop" not in plain.output()


def test_the_sdk_hangs_with_a_busy_handler(broker: Broker, plain: Process) -> None:
    """F13, the fault itself."""
    with BusClient(broker) as client:
        client.ask("put", "/things/1")
        plain.wait_for("busy", 20)
        send(plain, signal.SIGINT)
        with pytest.raises(ProcessError):
            plain.wait(LIMIT_S)
        plain.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
