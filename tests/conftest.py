"""What the tests share: a broker, a controller on it, and what to do where mosquitto is missing."""

import os
from collections.abc import Iterator

import pytest

from puppetmaster.changes import FIRST_REQUEST_ID
from sandbox.broker import Broker, Kind
from sandbox.process import Process


@pytest.fixture(scope="session", autouse=True)
def _known_ids() -> Iterator[None]:
    """Request ids of the stores that tests make begin at 2^31; else they begin anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("puppetmaster.store.first_request_id", lambda: FIRST_REQUEST_ID)
        yield


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
