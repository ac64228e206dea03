"""Connections of the HTTP door alone: patience, on a loop whose time the test moves, and texts in parts."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from uvicorn.protocols.utils import ClientDisconnected
from wsproto.connection import ConnectionState

from puppetmaster.http.protocols import Patience, WebSocket


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


# -- texts in parts ------------------------------------------------------------------------------------


class Line:
    """A transport that notes what is written."""

    def __init__(self, *, closing: bool = False) -> None:
        self.written: list[bytes] = []
        self.closing = closing

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)


def socket_on(
    line: Line, *, disconnected: bool = False, state: ConnectionState = ConnectionState.OPEN
) -> WebSocket:
    made = WebSocket.__new__(WebSocket)
    made.transport = cast(Any, line)
    made.disconnected = disconnected
    made.conn = cast(Any, SimpleNamespace(state=state))
    return made


def sends(socket: WebSocket, *parts: bytes) -> None:
    async def send() -> None:
        socket.writable = asyncio.Event()
        asyncio.get_running_loop().call_soon(socket.writable.set)
        await socket.send({"type": "websocket.send", "parts": parts})

    asyncio.run(send())


def test_parts_are_one_text_as_soon_as_there_is_room() -> None:
    line = Line()
    sends(socket_on(line), b"ab", b"c")
    assert line.written == [b"\x81\x03abc"]


@pytest.mark.parametrize(("closing", "disconnected"), [(True, False), (False, True), (True, True)])
def test_to_who_has_gone_nothing_is_sent(closing: bool, disconnected: bool) -> None:
    line = Line(closing=closing)
    with pytest.raises(ClientDisconnected):
        sends(socket_on(line, disconnected=disconnected), b"a")
    assert line.written == []


def test_after_the_closing_handshake_nothing_is_sent() -> None:
    line = Line()
    sends(socket_on(line, state=ConnectionState.REMOTE_CLOSING), b"a")
    assert line.written == []
