"""What comes by a connection: how much is read, and what is acknowledged and what comes again."""

import fcntl
import queue
import socket
import struct
import termios
from typing import Any, cast
from unittest.mock import Mock

import pytest

from puppetmaster.bus import connection as connection_module
from puppetmaster.bus import nudge, packets
from puppetmaster.bus.connection import Receipt, Received
from sandbox.broker import Broker
from sandbox.process import free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.unit.bus.connections import (
    ELSEWHERE,
    INBOX,
    WAIT_S,
    Ahead,
    Ear,
    Ignoring,
    Script,
    Trial,
    connected,
    listening,
)


class Said:
    """A socket with so many bytes to read, which may have come to its end."""

    def __init__(self, size: int, *, closed: bool = False) -> None:
        self.size, self.closed = size, closed

    def recv(self, most: int) -> bytes:
        if not self.size and not self.closed:
            raise BlockingIOError
        part = min(most, self.size)
        self.size -= part
        return bytes(part)

    def setsockopt(self, *_: int) -> None:
        """Whoever reads confirms at once."""


@pytest.mark.parametrize(
    ("size", "more", "left"),
    [
        (10, False, 0),
        (connection_module.ROUND_BYTES - 1, False, 0),
        (connection_module.ROUND_BYTES, True, 0),
        (connection_module.ROUND_BYTES + 10, True, 10),
    ],
)
def test_what_is_read_is_handed_on_before_all_of_it_is_read(size: int, more: bool, left: int) -> None:
    """What TLS has taken in already shows nowhere else: whether there may be more has to be said."""
    said = Said(size)
    assert Ear(free_port()).connection._read(cast(Any, said), cast(Any, Ignoring())) is more
    assert said.size == left


def test_of_no_messages_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, listener = Ear(free_port()).connection, Mock()
    monkeypatch.setattr(connection, "_listener", listener)
    connection._deliver([])
    assert listener.mock_calls == []


@pytest.mark.parametrize(
    ("open_s", "looked_ago_s", "since_s"),
    [(60.0, 16.0, 940.0), (60.5, 16.0, None), (60.5, 16.5, 1000.0), (0.0, 0.0, 1000.0)],
)
def test_how_long_a_message_may_be_open(
    monkeypatch: pytest.MonkeyPatch, open_s: float, looked_ago_s: float, since_s: float | None
) -> None:
    trial = Trial(monkeypatch, 0)
    trial.connection._open = {Receipt(1, 7): 1000.0 - open_s, Receipt(1, 8): 1000.0}
    if since_s is None:
        with pytest.raises(ConnectionError, match="a message was not taken in for 60 s"):
            trial.connection._look_at_receipts(1000.0 - looked_ago_s)
    else:
        assert trial.connection._look_at_receipts(1000.0 - looked_ago_s) == 1000.0
        assert trial.connection._open == {Receipt(1, 7): since_s, Receipt(1, 8): 1000.0}


# On a real broker


def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(broker: Broker) -> None:
    require("mosquitto")
    with BusClient(broker, qos=1) as client:
        with connected(broker.port) as ear:
            for payload in (b"one", b"two"):
                client.send(payload, INBOX)
            (first, receipt), (second, _) = ear.next(), ear.next()
            assert (first, second) == (b"one", b"two")
            ear.connection.acknowledge([receipt])
        client.send(b"three", INBOX)
        with connected(broker.port) as ear:
            assert [ear.next()[0] for _ in range(2)] == [b"two", b"three"]


def test_nothing_is_read_while_much_of_what_was_received_is_in_memory(broker: Broker) -> None:
    """The broker keeps the rest, and the connection lives on: it pings, and writes."""
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker, qos=1) as client, connected(broker.port) as ear:
        client.subscribe(ELSEWHERE, came.put)
        ear.connection.hold(connection_module.HELD_BYTES - 1)
        client.send(b"one", INBOX)
        first, receipt = ear.next()
        ear.connection.hold(1)
        ear.connection._wake()  # it looks again, as it does every few seconds
        client.send(b"two", INBOX)
        assert first == b"one"
        ear.connection.acknowledge([receipt])
        assert ear.send(b"out", b"x" * 500_000, b"last")
        assert [came.get(timeout=WAIT_S)[:4] for _ in range(3)] == [b"out", b"xxxx", b"last"]
        assert ear.messages.empty()
        ear.connection.release(1)
        assert ear.next()[0] == b"two"


def test_what_a_broker_has_kept_is_not_read_at_once(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [b"%03d" % number + b"x" * 1_000_000 for number in range(12)]
    with connected(broker.port):
        pass
    with BusClient(broker, qos=1) as client:
        there: queue.Queue[bytes] = queue.Queue()
        client.subscribe(INBOX, there.put)
        for payload in kept:
            client.send(payload, INBOX)
        assert [there.get(timeout=WAIT_S) for _ in kept] == kept
    ear, sizes = Ear(broker.port), []
    ear.connection.hold(connection_module.HELD_BYTES)
    introduce = ear.connection._introduce

    def watched(*args: Any) -> Any:
        early = introduce(*args)
        sizes.append(sum(len(one.payload) for one in early))
        return early

    monkeypatch.setattr(ear.connection, "_introduce", watched)
    ear.connection.start()
    try:
        ear.ups.get(timeout=WAIT_S)
        ear.connection.release(connection_module.HELD_BYTES)
        for payload in kept:
            message, receipt = ear.next()
            assert message == payload
            ear.connection.acknowledge([receipt])
        assert sizes[0] < connection_module.HELD_BYTES + 2_000_000
        assert ear.send(b"one"), "the connection is well"
    finally:
        ear.connection.stop(5)


def test_silence_while_nothing_is_read_is_no_sign_of_a_broken_connection(
    broker: Broker, ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: queue.Queue[None] = queue.Queue()
    with connected(broker.port) as ear:
        keep_alive = ear.connection._keep_alive

        def watched(heard_s: float) -> None:
            ahead.by_s += connection_module.KEEPALIVE_S / 4
            keep_alive(heard_s)
            looked.put(None)

        ear.connection.hold(connection_module.HELD_BYTES)
        monkeypatch.setattr(ear.connection, "_keep_alive", watched)
        monkeypatch.setattr(connection_module, "LOOK_UP_S", 0.025)
        ear.connection._wake()
        for _ in range(20):  # each after a quarter of that time, and it is patient for one and a half of it
            looked.get(timeout=WAIT_S)
        assert ear.downs.empty()


@pytest.mark.usefixtures("soon")
def test_a_connection_that_breaks_while_nothing_is_read_is_made_anew(script: Script, ear: Ear) -> None:
    """Else the thread would try to write to it, again and again, until there is room to read."""
    ear.connection.hold(connection_module.HELD_BYTES)
    assert script.client is not None
    script.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    script.close_client()  # with a reset, as that of a broker that is killed
    ear.send(b"one")
    assert ear.downs.get(timeout=WAIT_S) == (1,)
    script.welcome()
    ear.ups.get(timeout=WAIT_S)


def test_long_messages(broker: Broker) -> None:
    """The controller expands what it passes on, so an answer may be longer than the 1 MiB it takes."""
    long = bytes(range(256)) * 8192
    with BusClient(broker, qos=1) as client, connected(broker.port) as ear:
        client.send(long, INBOX)
        client.send(long * 4, INBOX)
        client.send(b"short", INBOX)
        cut = (long * 4).replace(b"\n", b"")[: connection_module.MESSAGE_LIMIT_BYTES + 1]
        assert [ear.next()[0] for _ in range(3)] == [long, cut, b"short"]


# On a broker that does what the test says


@pytest.mark.usefixtures("soon")
def test_what_is_not_acknowledged_for_long_shall_come_again(
    script: Script, ear: Ear, ahead: Ahead, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a few of them a broker holds back all others, and nothing would come any more."""
    begun_s = ahead.now_s()
    script.say(b"\x32\x06\x00\x01t\x00\x07x" + b"\x32\x06\x00\x01t\x00\x08y")
    (_, first), (_, second) = ear.next(), ear.next()
    ear.connection.acknowledge([first])
    assert script.hear() == packets.puback(7)
    for _ in range(5):
        ahead.silence(ear, script, 0.6)
        assert script.hear() == packets.PINGREQ
    ahead.silence(ear, script, 0.9)
    script.hear_the_end()
    ear.downs.get(timeout=WAIT_S)
    assert "ended: a message was not taken in for 6" in caplog.text
    assert ahead.now_s() - begun_s > connection_module.UNACKNOWLEDGED_S
    script.welcome()
    ear.ups.get(timeout=WAIT_S)
    script.say(b"\x32\x06\x00\x01t\x00\x08y")
    _, again = ear.next()
    assert again != second
    ear.connection.acknowledge([again])
    assert script.hear() == packets.puback(8)
    assert ear.connection._open == {}


@pytest.mark.usefixtures("soon")
def test_what_came_on_one_connection_is_not_acknowledged_on_the_next(script: Script, ear: Ear) -> None:
    """It comes again, and what has its number there may be another message, which is on no disk yet."""
    script.say(b"\x32\x06\x00\x01t\x00\x07x")
    _, old = ear.next()
    assert [*ear.connection._open] == [old] == [Receipt(1, 7)]
    assert ear.connection.subscribe([("later", 0)])
    script.welcome()
    ear.downs.get(timeout=WAIT_S)
    ear.ups.get(timeout=WAIT_S)
    assert (ear.connection._open, ear.connection._subscribing) == ({}, {})
    script.say(b"\x32\x06\x00\x01t\x00\x08y")
    _, new = ear.next()
    ear.connection.acknowledge([old, new])
    heard = iter(script.hear, None)
    assert next(packet for packet in heard if packet != packets.PINGREQ) == packets.puback(8)


@pytest.mark.usefixtures("soon")
@pytest.mark.skipif(nudge.QUICK_ACK is None, reason="the system has no such option")
def test_what_came_is_confirmed_to_the_system_of_the_broker_before_anybody_acts_on_it(script: Script) -> None:
    """Else a broker without TCP_NODELAY waits with what comes next, for our next message or for 40 ms."""
    unconfirmed: queue.Queue[int] = queue.Queue()

    def look(_messages: list[Received]) -> None:
        assert script.client is not None
        (size,) = struct.unpack("i", fcntl.ioctl(script.client, termios.TIOCOUTQ, b"\0" * 4))
        unconfirmed.put(size)

    ear = Ear(script.port)
    ear.connection._listener = ear.connection._listener._replace(messages=look)
    ear.connection.start()
    try:
        script.welcome()
        for _ in range(20):  # the system confirms the first ones at once, until it sees question and answer
            script.say(b"\x30\x04\x00\x01tx")
            assert unconfirmed.get(timeout=WAIT_S) == 0
            assert ear.send(b"y")
            script.hear()
    finally:
        ear.connection.stop(5)


def test_what_was_kept_may_come_before_the_subscription_is_confirmed(script: Script) -> None:
    with listening(script.port) as ear:
        script.accept()
        script.hear()
        script.say(b"\x20\x02\x01\x00" + b"\x32\x06\x00\x01t\x00\x07x")
        script.hear()
        script.say(b"\x90\x03\x00\x01\x01")
        ear.ups.get(timeout=WAIT_S)
        payload, receipt = ear.next()
        assert (payload, receipt) == (b"x", Receipt(1, 7))
        ear.connection.acknowledge([Receipt(1, 7)])
        assert script.hear() == packets.puback(7)
