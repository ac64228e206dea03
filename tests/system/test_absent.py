"""Gateways that are away when their job is made, on the real bus: it waits for them (``deliveryTimeout``)."""

import time
from collections.abc import Iterator

import pytest

from tests.bus_client import Message
from tests.conftest import any_broker
from tests.flow import SETTINGS, Flow, Played, batch, running


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    any_broker()
    # One that registers is no reason to wait for others: else who is missing is told so 15 s later.
    settings = {**SETTINGS, "PUPPETMASTER_REGISTERING_S": "0"}
    with running(tmp_path_factory.mktemp("absent"), settings=settings) as started:
        yield started


def awaited(flow: Flow, name: str, **more: object) -> Message:
    """A job for a gateway that nobody knows, once it waits for it."""
    job = flow.create(batch("post", [name], **{"deliveryTimeout": 60, **more}))
    flow.until(job, lambda _: [one["whyCode"] for one in flow.requests(job)] == ["absent"])
    return job


def test_a_gateway_that_registers_later_gets_its_command_within_a_second(flow: Flow) -> None:
    job = awaited(flow, "late")
    (request,) = flow.requests(job)
    assert request["why"].startswith("not registered since ")
    late = Played(flow.stage, "late")
    registered_s = time.monotonic()
    command = late.next()
    assert time.monotonic() - registered_s < 1
    late.answer(command)
    assert flow.ended(job)["finishCount"] == 1
    assert [one["attempts"] for one in flow.requests(job)] == [1]


def test_one_that_registers_while_the_bundle_is_dead_is_asked_for(flow: Flow) -> None:
    job = awaited(flow, "later")
    flow.kill()
    later = Played(flow.stage, "later")
    flow.start()
    later.answer(later.next())
    assert flow.restored(job)["finishCount"] == 1
