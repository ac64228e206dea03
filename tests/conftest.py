"""What the tests share: a broker, a controller on it, and what to do where mosquitto is missing."""

import os
from collections.abc import Iterator

import pytest

from sandbox.broker import Broker, Kind
from sandbox.process import Process


def require(kind: Kind) -> None:
    """Skip the test when this kind of broker is not installed; in CI (environment CI=true) fail instead."""
    if Broker.available(kind):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{kind} is not installed, and CI must not skip what needs it")
    pytest.skip(f"{kind} is not installed")


@pytest.fixture
def broker() -> Iterator[Broker]:
    """Give a fresh tuned mosquitto of the test's own."""
    require("mosquitto")
    with Broker("mosquitto") as started:
        yield started


@pytest.fixture
def controller(broker: Broker) -> Iterator[Process]:
    """Give a fresh controller process on the test's broker; reconnects to it 0.2 s after a loss."""
    options = ("--host", broker.host, "--port", broker.port, "--refresh-ms", 100, "--reconnect-s", 0.2)
    with Process.module("controller", "sandbox.controller", *options, ready="controller ready") as started:
        yield started
