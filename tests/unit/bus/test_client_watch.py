"""The watch over the controller, where questions are many, or get lost, or two threads meet."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from puppetmaster.bus import client as module
from puppetmaster.bus.client import ControllerChanged, ControllerKnows, Synced
from puppetmaster.bus.connection import HELD_BYTES
from tests.unit.bus.test_client import StandingClock, Wire

#: For how long another thread is given the chance to come in between. It must not take it.
CHANCE_S = 0.2


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, clock: StandingClock) -> Wire:
    made = Wire(monkeypatch, clock)
    monkeypatch.setattr(made.bus._connection, "subscribe", lambda _: True)
    return made


@pytest.fixture
def renewed(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why the connection was given up for a new one, each time."""
    whys: list[str] = []
    monkeypatch.setattr(wire.bus._connection, "renew", whys.append)
    return whys


class Meanwhile:
    """Lets another thread do something, as far as a lock lets it, the first time that this is called."""

    def __init__(self, does: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=does)
        self._begun = False

    def __call__(self) -> None:
        if not self._begun:
            self._begun = True
            self._thread.start()
            self._thread.join(CHANCE_S)

    def end(self) -> None:
        self._thread.join()


def test_more_questions_than_may_wait_are_one_when_an_answer_has_come(wire: Wire) -> None:
    for _ in range(20):
        wire.bus._probe()
    assert len(wire.sent) == len(wire.bus._probes) == module.PROBES
    wire.owned(wire.sent[0])
    assert len(wire.sent) == module.PROBES + 1, "all that was left out is asked for once"
    for question in list(wire.sent):
        wire.owned(question)
    assert len(wire.sent) == module.PROBES + 1
    assert wire.bus._probes == {}


def test_questions_that_got_lost_keep_no_answer_from_being_heard(wire: Wire, clock: StandingClock) -> None:
    """A controller that was restarted answers none of them, and refusals ask at each turn."""
    for _ in range(module.PROBES):
        wire.bus._probe()
    clock.at_s += 1
    wire.bus._look_after()
    asked = wire.sent[-1]
    wire.told.clear()
    for _ in range(20):
        wire.bus.prove()
    assert wire.sent[-1] is asked
    assert wire.owned(asked) == [ControllerChanged(up=True)]
    assert wire.owned(wire.sent[-1]) == [ControllerKnows(2.0)], "the question that was put off"
    assert (wire.bus._probes, wire.bus._wanted) == ({}, set())


def test_questions_that_a_restarted_controller_does_not_answer_are_not_waited_for(
    wire: Wire, clock: StandingClock
) -> None:
    """Else a broker that holds small packets back would be pushed on for them after every message."""
    wire.bus.ask(["cg-1"])
    clock.at_s += module.LOST_S
    wire.bus.ask(["cg-2"])
    clock.at_s += module.LOST_S / 2
    wire.bus._probe()
    wire.owned(wire.sent[-1])
    assert [one.destination for one in wire.bus._questions.values()] == ["cg-2"], "it may just be on its way"
    assert wire.bus._waits()
    clock.at_s += module.LOST_S
    wire.bus._probe()
    wire.owned(wire.sent[-1])
    assert not wire.bus._waits()


@pytest.mark.parametrize("lost", ["given up", "overtaken"])
def test_who_wants_to_know_is_told_though_that_question_got_lost(
    wire: Wire, clock: StandingClock, lost: str
) -> None:
    wire.bus.prove()
    if lost == "given up":
        for _ in range(module.PROBES):
            wire.bus._look_after()
        wire.owned(wire.sent[-2])
    clock.at_s += 1
    wire.bus._probe()
    assert ControllerKnows(2.0) in wire.owned(wire.sent[-1])
    assert wire.bus._wanted == set()


def test_a_question_that_did_not_leave_does_not_wait(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.bus._connection, "send", lambda _: False)
    wire.bus.prove()
    assert (wire.bus._probes, wire.bus._wanted) == ({}, set())


def test_while_nothing_is_read_nobody_is_silent(wire: Wire, clock: StandingClock, renewed: list[str]) -> None:
    """Else a store that cannot be written for long would have the controller blamed, and us cut off."""
    wire.bus._came_up()
    wire.bus._look_after()
    wire.owned(wire.sent[-1])
    wire.told.clear()
    wire.bus._connection.hold(HELD_BYTES)
    for _ in range(2 * module.MISSED_PROBES):
        clock.at_s += module.SILENT_FIRST_S
        wire.bus._look_after()
    assert (wire.told, renewed) == ([], [])
    wire.bus._went_down((), None)
    wire.bus._came_up()
    clock.at_s += module.SILENT_FIRST_S
    wire.bus._look_after()
    wire.bus.release(HELD_BYTES)
    wire.bus._look_after()
    assert renewed == [], "what is to be read may be its answer"
    clock.at_s += module.SILENT_FIRST_S
    wire.bus._look_after()
    assert len(renewed) == 1


def test_a_new_connection_is_watched_though_the_former_is_just_being_given_up(
    wire: Wire, clock: StandingClock, renewed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.bus._came_up()
    clock.at_s += module.SILENT_FIRST_S
    comes_up = Meanwhile(wire.bus._came_up)
    now_s = clock.now_s

    def look() -> float:
        comes_up()
        return now_s()

    monkeypatch.setattr(clock, "now_s", look)
    wire.bus._renew_if_silent()
    comes_up.end()
    clock.at_s += module.SILENT_LAST_S
    wire.bus._renew_if_silent()
    assert len(renewed) == 2


def test_what_is_asked_for_as_an_earlier_answer_comes_is_told_too(wire: Wire, clock: StandingClock) -> None:
    """Else the timers would be held for as long as they may, or fire before all is read."""
    asks_again = Meanwhile(wire.bus.sync)

    class Asked(float):
        """When the first question was asked. It is compared with when it was asked for."""

        def __ge__(self, other: float) -> bool:
            if type(other) is Asked:
                asks_again()
            return float(self) >= float(other)

    clock.at_s = Asked(1.0)
    wire.bus.sync()
    clock.at_s = 2.0
    assert Synced() in wire.owned(wire.sent[0])
    asks_again.end()
    assert Synced() in wire.owned(wire.sent[1])
