"""What the registration is told by another thread just while its own has succeeded, or has not begun."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.bundle.registration import Channel
from puppetmaster.model.message import REGISTRATION
from tests.unit.bundle.test_registration import OK, OWN, Bench, Message, ScriptedLink


@pytest.fixture
def bench() -> Iterator[Bench]:
    link = ScriptedLink()
    channel = Channel(link)
    channel.open()
    made = Bench(link, channel)
    made.registration.start()
    yield made
    made.registration.stop(5)


def test_a_controller_that_forgets_us_while_we_succeed_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was restarted when it had answered, and the thread that has heard of it was faster."""
    publish, forgets = bench.link.publish, iter([True])

    def answered(topic: str, qos: int, payload: Any) -> None:
        publish(topic, qos, payload)
        if payload["resource"] == OWN and next(forgets, False):
            bench.registration.again(time.monotonic())

    monkeypatch.setattr(bench.link, "publish", answered)
    bench.registration.connected()
    assert bench.registered() == 1
    sent = [bench.link.next() for _ in range(bench.link.sent.qsize())]
    assert sent.count(("post", REGISTRATION)) == 2
    assert bench.forgotten.qsize() == 1


def test_the_end_of_a_connection_ends_nothing_that_is_asked_over_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, asked, cancelled = bench.channel.cancel, threading.Event(), threading.Event()

    def controller(_: Message) -> Message:
        asked.set()
        assert cancelled.wait(20)
        return OK

    def later(reason: str) -> None:
        asked.wait(0.2)  # nothing is asked before the end of this
        cancel(reason)
        cancelled.set()

    bench.link.controller = controller
    monkeypatch.setattr(bench.channel, "cancel", later)
    bench.registration.connected()
    assert bench.registered() == 1
    assert [bench.link.next() for _ in range(2)] == [("post", REGISTRATION), ("get", OWN)]
