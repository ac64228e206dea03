"""Patience with clients of the HTTP door, on a loop whose time the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from puppetmaster.connections import Patience


class Handle:
    """A timer."""

    def __init__(self, after_s: float, verb: Callable[[], None]) -> None:
        self.after_s = after_s
        self.verb: Callable[[], None] | None = verb

    def cancel(self) -> None:
        self.verb = None


class Loop:
    """A loop of which the test lets all timers fire."""

    def __init__(self) -> None:
        self.timers: list[Handle] = []

    def call_later(self, after_s: float, verb: Callable[[], None]) -> Handle:
        self.timers.append(Handle(after_s, verb))
        return self.timers[-1]

    def fire(self) -> None:
        for timer in self.timers:
            if timer.verb is not None:
                timer.verb()


class Transport:
    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


class Heard(asyncio.Protocol):
    """uvicorn's, which is to be told too."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")


class Patient(Patience, Heard):
    timeout_s = 7.0

    def __init__(self) -> None:
        Heard.__init__(self)
        self.transport = cast(Any, Transport())


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


@pytest.mark.parametrize(
    ("steps", "aborted"),
    [
        (["pause_writing"], 1),
        (["pause_writing", "resume_writing"], 0),
        (["pause_writing", "resume_writing", "pause_writing"], 1),
        (["resume_writing"], 0),
    ],
)
def test_who_reads_nothing_for_long_is_ended(loop: Loop, steps: list[str], aborted: int) -> None:
    client = Patient()
    for step in steps:
        getattr(client, step)()
    loop.fire()
    assert cast(Any, client.transport).aborted == aborted
    assert [timer.after_s for timer in loop.timers] == [7.0] * steps.count("pause_writing")
    assert client.told == [step.partition("_")[0] for step in steps], "uvicorn waits with writing"


def test_a_connection_that_is_lost_is_not_ended_again(loop: Loop) -> None:
    client = Patient()
    client.pause_writing()
    client.connection_lost(None)
    loop.fire()
    assert (cast(Any, client.transport).aborted, client.told) == (0, ["pause", "lost"])


def test_the_end_ends_it() -> None:
    client = Patient()
    client.end()
    assert cast(Any, client.transport).aborted == 1
