"""How a bundle's process ends: by SIGINT or SIGTERM, in time, whatever its handlers and the broker do.

``python -m tests.unit.bundle.test_stop HOST PORT`` is the process.
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
from sandbox.process import Process, free_port
from tests.bus_client import BusClient
from tests.unit.bundle.benches import described

SIGNALS = [signal.SIGINT, signal.SIGTERM]
LIMIT_S = 3.0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Sample(SteadySanji):
    """A bundle that says on stdout how far it is."""

    def _start_threads(self) -> None:
        super()._start_threads()
        say("started")

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


@contextmanager
def process(host: str, port: int, ready: str = "registered") -> Iterator[Process]:
    with Process.module("bundle", "tests.unit.bundle.test_stop", host, port, ready=ready) as started:
        yield started


@pytest.fixture
def bundle(broker: Broker, controller: Process) -> Iterator[Process]:
    with process(broker.host, broker.port) as started:
        yield started


def send(target: Process, number: signal.Signals) -> None:
    if number is signal.SIGINT:
        target.interrupt()
    else:
        target._signal(number)


def ends_well(target: Process, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal; the process ends with code 0, in time, and after ``before_stop``."""
    send(target, number)
    code = target.wait(LIMIT_S)
    said = target.output()
    assert code == 0, "\n".join(said)
    assert said.index("before stop") < said.index("start returned")
    assert "Traceback" not in "\n".join(said)


@pytest.mark.parametrize("number", SIGNALS)
def test_idle_it_ends_deregistered(broker: Broker, bundle: Process, number: signal.Signals) -> None:
    """F13: SIGTERM ends the SDK's with code -15 and without ``before_stop``; both leave the registration."""
    with BusClient(broker) as client:
        assert client.request("get", "/things/1")["code"] == 200
        ends_well(bundle, number)
        assert client.request("get", "/things/1")["code"] == 404


def test_a_broker_that_is_gone_does_not_hold_it(broker: Broker, bundle: Process) -> None:
    broker.kill()
    ends_well(bundle)


def test_a_controller_that_is_gone_does_not_hold_it(controller: Process, bundle: Process) -> None:
    controller.kill()
    ends_well(bundle)


def test_it_ends_before_it_ever_found_a_broker() -> None:
    with process("127.0.0.1", free_port(), ready="started") as waiting:
        ends_well(waiting)


def test_a_busy_handler_and_a_broker_that_hangs_and_impatience(broker: Broker, bundle: Process) -> None:
    """F13: the SDK waits for such a handler without limit."""
    with BusClient(broker) as client:
        client.ask("put", "/things/1")
        bundle.wait_for("busy", 20)
        broker.pause()
        try:
            for _ in range(5):  # so close together that they do not all reach the main thread
                send(bundle, signal.SIGTERM)
                send(bundle, signal.SIGINT)
            ends_well(bundle)
        finally:
            broker.resume()


if __name__ == "__main__":
    Sample(bundle=described(), connection=sdk.connection(*sys.argv[1:])).start()
    say("start returned")
