"""A connection with what it tells, and sockets and brokers that do what the test says."""

import logging
import queue
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import cast

import pytest

from puppetmaster.bus import connection as connection_module
from puppetmaster.bus import packets
from puppetmaster.bus.connection import Connection, Listener, Receipt, Received
from puppetmaster.bus.credentials import Credentials
from puppetmaster.model.message import Outgoing, Tried
from sandbox.process import free_port

WAIT_S = 30.0
INBOX = "connection/inbox"
ELSEWHERE = "elsewhere"


class Ear(logging.Handler):
    """A connection and what it tells."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.ups: queue.Queue[None] = queue.Queue()
        self.downs: queue.Queue[tuple[int, ...]] = queue.Queue()
        self.tried: list[Tried | None] = []
        self.messages: queue.Queue[Received] = queue.Queue()
        self.refused: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.room: queue.Queue[None] = queue.Queue()
        #: What it is told when it asks whether it may connect; when there is no more: that it may.
        self.permits: list[bool] = []
        self.connection = Connection(
            ("127.0.0.1", port),
            Credentials(),
            "connection-test",
            [(INBOX, 1)],
            Listener(
                lambda: self.ups.put(None),
                self._down,
                self._take,
                self.refused.put,
                lambda: self.room.put(None),
                lambda: self.permits.pop(0) if self.permits else True,
            ),
        )

    def _down(self, unsent: tuple[int, ...], tried: Tried | None) -> None:
        self.tried.append(tried)
        self.downs.put(unsent)

    def _take(self, messages: list[Received]) -> None:
        for message in messages:
            self.messages.put(message)

    def send(self, *payloads: bytes, topic: str = ELSEWHERE) -> bool:
        return self.connection.send([Outgoing(id_, one, topic) for id_, one in enumerate(payloads, 1)])

    def next_received(self) -> Received:
        return self.messages.get(timeout=WAIT_S)

    def next(self) -> tuple[bytes, Receipt]:
        """The payload and the receipt of the next message, which came at QoS 1."""
        received = self.next_received()
        assert received.receipt is not None
        return received.payload, received.receipt


@contextmanager
def listening(port: int) -> Iterator[Ear]:
    ear = Ear(port)
    ear.connection.start()
    try:
        yield ear
    finally:
        ear.connection.stop(5)
        assert not ear.connection.thread.is_alive()


@contextmanager
def connected(port: int) -> Iterator[Ear]:
    with listening(port) as ear:
        ear.ups.get(timeout=WAIT_S)
        yield ear


class Full:
    """A socket that takes so many bytes, and then no more until there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        part = bytes(data[: self.room])
        self.room -= len(part)
        self.taken += part
        return len(part)


class Trial:
    """A connection that is up, on a socket with little room, and the time that the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.ear, self.now_s = Ear(free_port()), 1000.0
        self.socket = Full(room)
        self.connection = self.ear.connection
        self.connection._up, self.connection._socket = True, cast(socket.socket, self.socket)
        monkeypatch.setattr(connection_module, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def writes(self) -> int:
        """How much is written when there is room for all."""
        before = len(self.socket.taken)
        self.socket.room = 100_000
        self.connection._write_on()
        return len(self.socket.taken) - before


class Ignoring:
    """It takes whatever comes, and finds no packet in it."""

    def feed(self, _data: bytes) -> list[packets.Packet]:
        return []


class Script:
    """Accepts connections one after the other, and reads what a client says packet by packet."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT_S)
        self.port: int = self.listener.getsockname()[1]
        self.client: socket.socket | None = None
        self._read = b""

    def accept(self) -> None:
        self.close_client()
        self.client, _ = self.listener.accept()
        self.client.settimeout(WAIT_S)
        self._read = b""

    def hear(self) -> bytes:
        """The next packet, if shorter than 128 bytes."""
        assert self.client is not None
        while len(self._read) < 2 or len(self._read) < 2 + self._read[1]:
            data = self.client.recv(4096)
            if not data:
                raise EOFError
            self._read += data
        packet, self._read = self._read[: 2 + self._read[1]], self._read[2 + self._read[1] :]
        return packet

    def hear_bytes(self, size: int) -> bytes:
        """So many bytes; EOFError: no more come."""
        assert self.client is not None
        while len(self._read) < size:
            data = self.client.recv(65536)
            if not data:
                raise EOFError
            self._read += data
        found, self._read = self._read[:size], self._read[size:]
        return found

    def hears_nothing(self, for_s: float) -> bool:
        """Whether nothing comes for a while."""
        assert self.client is not None
        return not self._read and not select.select([self.client], [], [], for_s)[0]

    def hear_the_end(self) -> None:
        """Nothing but pings, and then the client gives up."""
        with suppress(EOFError, ConnectionResetError):
            while True:
                assert self.hear() == packets.PINGREQ

    def say(self, data: bytes) -> None:
        assert self.client is not None
        self.client.sendall(data)

    def welcome(self) -> None:
        self.accept()
        assert self.hear()[0] == 0x10
        self.say(b"\x20\x02\x00\x00")
        assert self.hear()[0] == 0x82
        self.say(b"\x90\x03\x00\x01\x01")

    def close_client(self) -> None:
        if self.client is not None:
            self.client.close()


class Ahead:
    """The clock of connections, which the test puts ahead: how fast the machine is then decides nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_s = 0.0
        #: For each look at the clock, when the broker was heard last.
        self._looks: queue.Queue[float] = queue.Queue()
        keep_alive = Connection._keep_alive

        def watched(connection: Connection, heard_s: float) -> None:
            keep_alive(connection, heard_s)
            self._looks.put(heard_s)

        monkeypatch.setattr(Connection, "_keep_alive", watched)
        monkeypatch.setattr(connection_module, "time", SimpleNamespace(monotonic=self.now_s))

    def now_s(self) -> float:
        return time.monotonic() + self.by_s

    def silence(self, ear: Ear, script: Script, keepalives: float) -> None:
        """The broker answers a ping, and then says nothing for so many times KEEPALIVE_S."""
        said_s = self.now_s()
        script.say(b"\xd0\x00")
        while self._looks.get(timeout=WAIT_S) < said_s:
            pass
        self.by_s += keepalives * connection_module.KEEPALIVE_S
        ear.connection._wake()
