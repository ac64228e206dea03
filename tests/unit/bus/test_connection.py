"""The dispatcher's connection: what has left, what is acknowledged, and every way in which it can break."""

import fcntl
import itertools
import logging
import queue
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock, call

import pytest

from puppetmaster.bus import connection as link_module
from puppetmaster.bus import packets, visit
from puppetmaster.bus.connection import Connection, Listener, Receipt, Received
from puppetmaster.bus.credentials import Credentials, Refused
from puppetmaster.jsoncodec import FEW_BYTES
from puppetmaster.model.message import Outgoing, Tried
from sandbox.broker import Broker
from sandbox.process import free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.desk import until
from tests.proxy import Proxy

WAIT_S = 30.0
INBOX = "link/inbox"
ELSEWHERE = "elsewhere"


class Ear(logging.Handler):
    """A link and what it tells."""

    def __init__(
        self,
        port: int,
        client_id: str = "link-test",
        login: Credentials | None = None,
    ) -> None:
        super().__init__()
        self.ups: queue.Queue[None] = queue.Queue()
        self.downs: queue.Queue[tuple[int, ...]] = queue.Queue()
        self.tried: list[Tried | None] = []
        self.messages: queue.Queue[Received] = queue.Queue()
        self.refused: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.room: queue.Queue[None] = queue.Queue()
        self.link = Connection(
            ("127.0.0.1", port),
            login or Credentials(),
            client_id,
            [(INBOX, 1)],
            Listener(lambda: self.ups.put(None), self._down, self._take, self.refused.put, self._room),
        )

    def _down(self, unsent: tuple[int, ...], tried: Tried | None) -> None:
        self.tried.append(tried)
        self.downs.put(unsent)

    def _take(self, messages: list[Received]) -> None:
        for message in messages:
            self.messages.put(message)

    def _room(self) -> None:
        self.room.put(None)

    def send(self, *payloads: bytes, topic: str = ELSEWHERE) -> bool:
        return self.link.send([Outgoing(id_, one, topic) for id_, one in enumerate(payloads, 1)])

    def next_received(self) -> Received:
        return self.messages.get(timeout=WAIT_S)

    def next(self) -> tuple[bytes, Receipt | None]:
        received = self.next_received()
        return received.payload, received.receipt


@contextmanager
def listening(port: int, **more: Any) -> Iterator[Ear]:
    ear = Ear(port, **more)
    ear.link.start()
    try:
        yield ear
    finally:
        ear.link.stop(5)
        assert not ear.link.thread.is_alive()


@contextmanager
def connected(port: int, **more: Any) -> Iterator[Ear]:
    with listening(port, **more) as ear:
        ear.ups.get(timeout=WAIT_S)
        yield ear


# Silence, at times that the test says


@pytest.mark.parametrize(
    ("heard_ago_s", "spoke_ago_s", "pings"),
    [
        (0.0, 0.0, False),
        (8.0, 8.0, False),
        (0.0, 8.5, True),  # it hears much, and has said nothing: the broker would end the connection
        (8.5, 0.0, True),  # it says much, and hears nothing: is the broker there?
        (24.0, 0.0, True),
    ],
)
def test_a_ping_is_sent_when_one_side_was_silent_for_half_of_the_time(
    monkeypatch: pytest.MonkeyPatch, heard_ago_s: float, spoke_ago_s: float, pings: bool
) -> None:
    link, sent = Ear(free_port()).link, queue.Queue[bytes]()
    monkeypatch.setattr("puppetmaster.bus.connection.time.monotonic", lambda: 1000.0)
    monkeypatch.setattr(link, "_write", sent.put)
    link._spoke_s = 1000.0 - spoke_ago_s
    link._keep_alive(1000.0 - heard_ago_s)
    assert [sent.get_nowait() for _ in range(sent.qsize())] == ([packets.PINGREQ] if pings else [])


def test_a_broker_that_was_silent_for_half_as_long_again_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Ear(free_port()).link
    monkeypatch.setattr("puppetmaster.bus.connection.time.monotonic", lambda: 1000.0)
    link._spoke_s = 1000.0
    with pytest.raises(ConnectionError, match="the broker has said nothing for 25 s"):
        link._keep_alive(975.0)


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


@pytest.mark.parametrize(("room", "wakes"), [(0, True), (3, True), (1000, False)])
def test_the_thread_is_woken_to_write_on_what_did_not_fit(room: int, wakes: bool) -> None:
    """It would sleep for seconds else."""
    ear, taking, waking = Ear(free_port()), Full(room), Full(10)
    ear.link._up, ear.link._socket = True, cast(socket.socket, taking)
    ear.link._wakes = cast(socket.socket, waking)
    assert ear.send(b"one")
    assert (waking.taken != b"") == wakes
    waking.taken, taking.room = b"", 1000
    assert ear.link.subscribe([("two", 0)])
    assert (waking.taken != b"") == wakes, "what came later does not overtake it"
    ear.link._write_on()
    assert taking.taken == packets.Topic(ELSEWHERE).publish(b"one") + packets.subscribe(2, [("two", 0)])


def unsent(*sizes: int, untried: int) -> list[tuple[list[int], bool]]:
    """How messages of these sizes are written: which of them together, and whether they are tried."""
    head = len(packets.Topic(ELSEWHERE).publish(b""))
    messages = [Outgoing(id_, b"x" * (size - head), ELSEWHERE) for id_, size in enumerate(sizes, 1)]
    parts = list(link_module._parts(messages, untried))
    for part in parts:
        assert [end for _, end in part.ends] == list(itertools.accumulate(sizes[i - 1] for i, _ in part.ends))
        assert len(part.data) == part.ends[-1][1]
    return [([id_ for id_, _ in part.ends], part.tried) for part in parts]


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([100, 20, 100], [([1, 2, 3], False)]),
        ([101], [([1], True)]),
        ([20, 101, 100, 30], [([1], False), ([2], True), ([3, 4], False)]),
        ([101, 102, 20], [([1], True), ([2], True), ([3], False)]),
    ],
)
def test_messages_are_written_together_but_for_those_that_are_tried(
    sizes: list[int], parts: list[tuple[list[int], bool]]
) -> None:
    assert unsent(*sizes, untried=100) == parts


def test_numbers_of_subscriptions_are_those_that_mqtt_has(monkeypatch: pytest.MonkeyPatch) -> None:
    link, asked = Ear(free_port()).link, list[tuple[int, int]]()

    def subscribe(packet: int, topics: Sequence[tuple[str, int]]) -> bytes:
        asked.append((packet, len(topics)))
        return b""

    monkeypatch.setattr(packets, "subscribe", subscribe)
    monkeypatch.setattr(link, "_packets", itertools.count(0xFFFF - 1))
    monkeypatch.setattr(link, "_write", Mock(side_effect=[True, False, True]))
    assert not link.subscribe([(str(number), 0) for number in range(201)]), "not all of them"
    assert asked == [(0xFFFF, 100), (1, 100), (2, 1)]


class Trial:
    """A link that is up, on a socket with little room, and the time that the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.ear, self.now_s = Ear(free_port()), 1000.0
        self.socket = Full(room)
        self.link = self.ear.link
        self.link._up, self.link._socket = True, cast(socket.socket, self.socket)
        monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def writes(self) -> int:
        """How much is written when there is room for all."""
        before = len(self.socket.taken)
        self.socket.room = 100_000
        self.link._write_on()
        return len(self.socket.taken) - before


@pytest.mark.parametrize(
    ("room", "unsent", "tried"),
    [
        (0, (1, 3), None),
        (1, (1, 3), Tried(1, whole=False)),
        (5000, (1, 3), Tried(1, whole=False)),
    ],
)
def test_what_is_lost_with_a_connection(
    monkeypatch: pytest.MonkeyPatch, room: int, unsent: tuple[int, ...], tried: Tried | None
) -> None:
    """Of what has no id nobody is told."""
    trial = Trial(monkeypatch, room)
    assert trial.link.send([Outgoing(1, b"x" * 5000), Outgoing(0, b"event"), Outgoing(3, b"behind")])
    trial.link._write_on()
    assert len(trial.socket.taken) == room
    trial.link._lost()
    assert trial.ear.downs.get_nowait() == unsent
    assert trial.ear.tried == [tried]
    trial.link._lost()
    assert trial.ear.downs.empty(), "what is not up does not go down"


def test_what_is_cut_off_within_was_not_tried_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, 3)
    assert trial.ear.send(b"short", b"behind")
    trial.link._lost()
    assert (trial.ear.downs.get_nowait(), trial.ear.tried) == ((1, 2), [None])


def test_each_step_of_a_message_that_is_tried_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, 0)
    long = len(packets.Topic("/controller").publish(b"x" * 5000))
    assert trial.ear.send(b"x" * 5000, topic="/controller")
    assert trial.link.subscribe([("a", 0)])
    steps = []
    for _ in range(3):
        steps.append(trial.writes())
        trial.now_s += link_module.TRIAL_S - 0.01
        assert trial.writes() == 0, "it waits"
        trial.now_s += 0.01
    assert steps == [long - 1, 1, len(packets.subscribe(1, [("a", 0)]))]
    assert trial.link._untried_bytes == link_module.UNTRIED_FACTOR * long


@pytest.mark.parametrize(
    ("lost_ago_s", "factor"),
    [(1.0, 1), (link_module.CAREFUL_S - 0.01, 1), (link_module.CAREFUL_S, link_module.UNTRIED_FACTOR)],
)
def test_soon_after_a_loss_what_is_longer_is_tried(
    monkeypatch: pytest.MonkeyPatch, lost_ago_s: float, factor: int
) -> None:
    trial = Trial(monkeypatch, 0)
    trial.link._lost()
    trial.link._up, trial.link._socket = True, cast(socket.socket, trial.socket)
    trial.now_s += lost_ago_s - 2 * link_module.TRIAL_S
    trial.ear.send(b"x" * 5000, topic="/controller")
    for _ in range(3):
        trial.writes()
        trial.now_s += link_module.TRIAL_S
    assert trial.link._untried_bytes == factor * len(packets.Topic("/controller").publish(b"x" * 5000))


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


class Ignoring:
    """It takes whatever comes, and finds no packet in it."""

    def feed(self, _data: bytes) -> list[packets.Packet]:
        return []


@pytest.mark.parametrize(
    ("size", "more", "left"),
    [
        (10, False, 0),
        (link_module.ROUND_BYTES - 1, False, 0),
        (link_module.ROUND_BYTES, True, 0),
        (link_module.ROUND_BYTES + 10, True, 10),
    ],
)
def test_what_is_read_is_handed_on_before_all_of_it_is_read(size: int, more: bool, left: int) -> None:
    """What TLS has taken in already shows nowhere else: whether there may be more has to be said."""
    said = Said(size)
    assert Ear(free_port()).link._read(cast(Any, said), cast(Any, Ignoring())) is more
    assert said.size == left


def test_the_end_waits_for_what_is_still_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, goodbye = Trial(monkeypatch, 3), Mock()
    assert trial.ear.send(b"first")
    assert trial.ear.send(b"second")
    trial.link._leave(goodbye)
    rest = b"".join(packets.Topic(ELSEWHERE).publish(one) for one in (b"first", b"second"))[3:]
    assert goodbye.mock_calls == [
        call.settimeout(link_module.LEAVE_S),
        call.sendall(rest + packets.DISCONNECT),
    ]
    trial.link._lost()
    assert trial.ear.downs.get_nowait() == ()


def test_of_no_messages_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    link, listener = Ear(free_port()).link, Mock()
    monkeypatch.setattr(link, "_listener", listener)
    link._deliver([])
    assert listener.mock_calls == []


def test_between_two_tries_to_connect_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: queue.Queue[None] = queue.Queue()

    def refused(*_: object) -> socket.socket:
        tries.put(None)
        raise ConnectionRefusedError

    monkeypatch.setattr(link_module, "AGAIN_S", 600.0)
    ear = Ear(free_port())
    monkeypatch.setattr(visit, "reach", refused)
    ear.link.start()
    tries.get(timeout=WAIT_S)
    with pytest.raises(queue.Empty):
        tries.get(timeout=0.1)
    assert str(ear.link.reason).startswith("nothing listens there")
    ear.link.stop(5)
    assert not ear.link.thread.is_alive()


@pytest.mark.parametrize(
    ("open_s", "looked_ago_s", "since_s"),
    [(60.0, 16.0, 940.0), (60.5, 16.0, None), (60.5, 16.5, 1000.0), (0.0, 0.0, 1000.0)],
)
def test_how_long_a_message_may_be_open(
    monkeypatch: pytest.MonkeyPatch, open_s: float, looked_ago_s: float, since_s: float | None
) -> None:
    trial = Trial(monkeypatch, 0)
    trial.link._open = {Receipt(1, 7): 1000.0 - open_s, Receipt(1, 8): 1000.0}
    if since_s is None:
        with pytest.raises(ConnectionError, match="a message was not taken in for 60 s"):
            trial.link._look_at_receipts(1000.0 - looked_ago_s)
    else:
        assert trial.link._look_at_receipts(1000.0 - looked_ago_s) == 1000.0
        assert trial.link._open == {Receipt(1, 7): since_s, Receipt(1, 8): 1000.0}


class Dripping:
    """A broker that says a byte, and a byte, and never enough."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    def sendall(self, _data: bytes) -> None: ...

    def settimeout(self, timeout_s: float) -> None:
        self.waits_s.append(timeout_s)
        if timeout_s < 1:
            raise TimeoutError

    def recv(self, _most: int) -> bytes:
        return b"x"


def test_all_that_a_broker_says_before_it_lets_us_in_has_one_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(100.0, 4.0)
    monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=clock.__next__))
    broker = Dripping()
    with pytest.raises(TimeoutError):
        Ear(free_port()).link._introduce(cast(Any, broker), cast(Any, Ignoring()))
    assert broker.waits_s == [6.0, 2.0, 0.01]


def test_what_the_system_does_not_take_is_counted_and_its_end_is_told() -> None:
    ear, taking = Ear(free_port()), Full(0)
    ear.link._up, ear.link._socket = True, cast(socket.socket, taking)
    payloads = [b"x" * 1000] * 4000
    packet = len(packets.Topic(ELSEWHERE).publish(payloads[0]))
    assert ear.send(*payloads)
    whole = 4000 * packet
    assert ear.link.waiting_bytes == whole
    steps = [whole - FEW_BYTES - 1, 1, FEW_BYTES]  # much is still there, it has become little, all is out
    for step, told, left in zip(steps, (0, 1, 1), (FEW_BYTES + 1, FEW_BYTES, 0), strict=True):
        taking.room = step
        ear.link._write_on()
        assert ear.link.waiting_bytes == left
        assert ear.room.qsize() == told, "once, when it has become little"
    assert len(taking.taken) == whole


def test_what_waits_for_a_connection_that_is_gone_is_not_counted() -> None:
    ear = Ear(free_port())
    ear.link._up, ear.link._socket = True, cast(socket.socket, Full(0))
    assert ear.send(b"x" * 3000, b"y" * 3000)
    ear.link._lost()
    assert ear.downs.get_nowait() == (1, 2)
    assert ear.link.waiting_bytes == 0


# On a real broker


def test_what_is_sent_arrives_in_order(broker: Broker) -> None:
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker) as client, connected(broker.port) as ear:
        client.subscribe("elsewhere", came.put)
        payloads = [b"%d" % number + b"x" * (number * 37 % 3000) for number in range(500)]
        assert ear.send(*payloads[:250])
        assert ear.send(*payloads[250:])
        assert [came.get(timeout=WAIT_S) for _ in payloads] == payloads


def test_topics_that_are_asked_for_later_are_heard_from_then_on(broker: Broker) -> None:
    require("mosquitto")
    with BusClient(broker) as client, connected(broker.port) as ear:
        there: queue.Queue[bytes] = queue.Queue()
        client.subscribe("later/1", there.put)
        client.send(b"kept", "later/1", retain=True)
        there.get(timeout=WAIT_S)
        names = [f"later/{number}" for number in range(250)]
        assert ear.link.subscribe([(name, 1) for name in names])
        assert ear.send(b"itself", topic="later/249"), "what is sent after it finds the subscription"
        first, second = ear.next_received(), ear.next_received()
        assert {(one.topic, one.payload, one.retained) for one in (first, second)} == {
            ("later/1", b"kept", True),
            ("later/249", b"itself", False),
        }


def test_without_a_connection_no_topic_is_asked_for() -> None:
    with listening(free_port()) as ear:
        assert not ear.link.subscribe([("a", 0)])


def test_threads_that_send_at_once_do_not_mix(broker: Broker) -> None:
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker) as client, connected(broker.port) as ear:
        client.subscribe("elsewhere", came.put)
        threads = [
            threading.Thread(target=lambda letter=letter: [ear.send(letter * 50_000) for _ in range(40)])
            for letter in (b"a", b"b", b"c")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bodies = [came.get(timeout=WAIT_S) for _ in range(120)]
        assert sorted(bodies) == [letter * 50_000 for letter in (b"a", b"b", b"c") for _ in range(40)]


def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(broker: Broker) -> None:
    require("mosquitto")
    with BusClient(broker, qos=1) as client:
        with connected(broker.port) as ear:
            for payload in (b"one", b"two"):
                client.send(payload, INBOX)
            (first, receipt), (second, _) = ear.next(), ear.next()
            assert (first, second) == (b"one", b"two")
            assert receipt is not None
            ear.link.acknowledge([receipt])
        client.send(b"three", INBOX)
        with connected(broker.port) as ear:
            assert [ear.next()[0] for _ in range(2)] == [b"two", b"three"]


def test_an_acknowledgement_of_an_earlier_connection_is_not_one_of_this(broker: Broker) -> None:
    require("mosquitto")
    with Proxy(broker.port) as proxy, BusClient(broker, qos=1) as client, connected(proxy.port) as ear:
        client.send(b"one", INBOX)
        _, old = ear.next()
        proxy.cut()
        ear.ups.get(timeout=WAIT_S)
        payload, new = ear.next()
        assert payload == b"one"
        assert old is not None
        assert new is not None
        assert old.packet == new.packet, "the broker numbers it as before"
        assert old != new
        ear.link.acknowledge([old])
        proxy.cut()
        ear.ups.get(timeout=WAIT_S)
        payload, again = ear.next()
        assert payload == b"one"
        assert again is not None
        ear.link.acknowledge([again])


def test_messages_of_qos_0_need_no_acknowledgement(broker: Broker) -> None:
    require("mosquitto")
    with BusClient(broker) as client, connected(broker.port) as ear:
        client.send(b"one", INBOX)
        assert ear.next() == (b"one", None)


def test_nothing_is_read_while_much_of_what_was_received_is_in_memory(broker: Broker) -> None:
    """The broker keeps the rest, and the connection lives on: it pings, and writes."""
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker, qos=1) as client, connected(broker.port) as ear:
        client.subscribe(ELSEWHERE, came.put)
        ear.link.hold(link_module.HELD_BYTES - 1)
        client.send(b"one", INBOX)
        first, receipt = ear.next()
        ear.link.hold(1)
        ear.link._wake()  # it looks again, as it does every few seconds
        client.send(b"two", INBOX)
        assert first == b"one"
        assert receipt is not None
        ear.link.acknowledge([receipt])
        assert ear.send(b"out", b"x" * 500_000, b"last")
        assert [came.get(timeout=WAIT_S)[:4] for _ in range(3)] == [b"out", b"xxxx", b"last"]
        assert ear.messages.empty()
        ear.link.release(1)
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
    ear.link.hold(link_module.HELD_BYTES)
    introduce = ear.link._introduce

    def watched(*args: Any) -> Any:
        early = introduce(*args)
        sizes.append(sum(len(one.payload) for one in early))
        return early

    monkeypatch.setattr(ear.link, "_introduce", watched)
    ear.link.start()
    try:
        ear.ups.get(timeout=WAIT_S)
        ear.link.release(link_module.HELD_BYTES)
        for payload in kept:
            message, receipt = ear.next()
            assert message == payload
            assert receipt is not None
            ear.link.acknowledge([receipt])
        assert sizes[0] < link_module.HELD_BYTES + 2_000_000
        assert ear.send(b"one"), "the connection is well"
    finally:
        ear.link.stop(5)


def test_a_first_subscription_that_is_refused_late_ends_the_connection() -> None:
    """It stands behind all that the broker had kept."""
    link = Ear(free_port()).link
    link._subscribed(packets.Suback(link_module.FIRST_PACKET, (1,)))
    with pytest.raises(Refused):
        link._subscribed(packets.Suback(link_module.FIRST_PACKET, (packets.REFUSED,)))


def test_silence_while_nothing_is_read_is_no_sign_of_a_broken_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: queue.Queue[None] = queue.Queue()
    with connected(broker.port) as ear:
        keep_alive = ear.link._keep_alive

        def watched(heard_s: float) -> None:
            looked.put(None)
            keep_alive(heard_s)

        ear.link.hold(link_module.HELD_BYTES)
        monkeypatch.setattr(ear.link, "_keep_alive", watched)
        monkeypatch.setattr(link_module, "KEEPALIVE_S", 0.1)
        monkeypatch.setattr(link_module, "LOOK_UP_S", 0.025)
        ear.link._wake()
        for _ in range(20):  # each after a quarter of that time, and it is patient for one and a half of it
            looked.get(timeout=WAIT_S)
        assert ear.downs.empty()


def test_long_messages(broker: Broker) -> None:
    """The controller expands what it passes on, so an answer may be longer than the 1 MiB it takes."""
    long = bytes(range(256)) * 8192
    with BusClient(broker, qos=1) as client, connected(broker.port) as ear:
        client.send(long, INBOX)
        client.send(long * 4, INBOX)
        client.send(b"short", INBOX)
        received = [ear.next() for _ in range(3)]
        cut = (long * 4).replace(b"\n", b"")[: link_module.MESSAGE_LIMIT_BYTES + 1]
        assert [payload for payload, _ in received] == [long, cut, b"short"]
        assert all(receipt is not None for _, receipt in received)


def test_it_waits_for_a_broker_that_comes_later(broker: Broker) -> None:
    broker.stop()
    with listening(broker.port) as ear:
        assert not ear.link.up
        assert not ear.send(b"one")
        broker.start()
        ear.ups.get(timeout=WAIT_S)
        assert ear.link.up


def test_it_comes_back_after_the_broker_was_killed(broker: Broker) -> None:
    with connected(broker.port) as ear:
        broker.kill()
        assert ear.downs.get(timeout=WAIT_S) == ()
        assert not ear.send(b"one")
        broker.start()
        ear.ups.get(timeout=WAIT_S)
        assert ear.send(b"one")


def test_two_with_one_client_id_say_so_and_leave_each_other_time(broker: Broker) -> None:
    with listening(broker.port) as first, listening(broker.port) as second:
        until(lambda: first.link.reason and second.link.reason, "both say so")
        for ear in (first, second):
            assert "another bundle logs in as 'link-test', from a copy of our " in str(ear.link.reason)
            assert ear.link._endings.wait_s(link_module.AGAIN_S) >= 2 * link_module.AGAIN_S
        second.link.stop(5)
        until(lambda: first.link.up, "it comes back")
        assert first.link.reason is not None, "it may be ended again"


def test_a_connection_that_lasts_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Ear(free_port()).link
    for _ in range(2):
        link._endings.ended(1, known=True)
    for since_s, well in ((950.0, False), (930.0, True)):
        monkeypatch.setattr("puppetmaster.bus.connection.time.monotonic", lambda: 1000.0)
        link._since_s = since_s
        link._keep_alive(1000.0)
        assert (link.reason is None) is well


@pytest.mark.parametrize(
    ("error", "taken_over"),
    [
        (link_module.Closed(), True),
        (ConnectionResetError(), True),
        (ConnectionError("the broker has said nothing for 25 s"), False),
        (packets.Malformed("no MQTT"), False),
    ],
)
def test_only_an_end_without_a_word_tells_of_somebody_else(error: Exception, taken_over: bool) -> None:
    link = Ear(free_port()).link
    link._known = True
    for _ in range(2):
        link._since_s = time.monotonic()
        link._ended(error)
    assert (link.reason is not None) is taken_over


def test_a_message_that_is_tried_is_why_it_ends() -> None:
    link = Ear(free_port()).link
    link._known = True
    for _ in range(2):
        link._since_s = time.monotonic()
        link._backlog.append(link_module._Unsent(memoryview(b"long"), [(1, 4)], tried=True, written=3))
        link._ended(link_module.Closed())
    assert link.reason is None


def test_what_has_not_left_is_named(broker: Broker) -> None:
    """Those that are named never arrive; of those before them all may have."""
    came: queue.Queue[bytes] = queue.Queue()
    with Proxy(broker.port) as proxy, BusClient(broker) as client, connected(proxy.port) as ear:
        client.subscribe("elsewhere", came.put)
        assert ear.send(b"as long" + b"x" * 100_000, b"behind")  # or the first of the others would be tried
        while came.get(timeout=WAIT_S) != b"behind":
            pass
        proxy.hold()
        payloads = [b"%03d" % number + b"x" * 100_000 for number in range(1, 301)]
        for _ in range(2):
            assert ear.send(*payloads), "it takes them, and does not wait"
        proxy.cut()
        proxy.release()
        named = ear.downs.get(timeout=WAIT_S)
        assert 0 < len(named) < 600, "the system had taken some, not all"
        assert named[-1] == 300
        ear.ups.get(timeout=WAIT_S)
        client.send(b"end", "elsewhere")
        arrived = list(iter(lambda: came.get(timeout=WAIT_S), b"end"))
        assert len(arrived) + len(named) <= 600


def test_nothing_is_written_beside_a_message_that_is_tried_and_all_of_it_arrives(broker: Broker) -> None:
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker) as client, connected(broker.port) as ear:
        client.subscribe(ELSEWHERE, came.put)
        payloads = [b"%d" % number + b"x" * size for number, size in enumerate((10, 9000, 10, 8000, 9001, 5))]
        assert ear.send(*payloads[:4])
        assert ear.link.subscribe([("later", 0)])
        assert ear.send(*payloads[4:])
        assert [came.get(timeout=WAIT_S) for _ in payloads] == payloads
        assert ear.link._untried_bytes == 2 * len(packets.Topic(ELSEWHERE).publish(payloads[1]))


def test_a_broker_with_a_limit_has_none_of_what_is_too_long() -> None:
    """And all that was before it, nothing of what waited behind it."""
    require("mosquitto")
    came: queue.Queue[bytes] = queue.Queue()
    with (
        Broker("mosquitto", config="max_packet_size 20000\n") as broker,
        BusClient(broker) as client,
        connected(broker.port) as ear,
    ):
        client.subscribe(ELSEWHERE, came.put)
        for first in (b"x" * 9000, b"x" * 19_000):
            assert ear.send(b"before", first, b"x" * 21_000, b"behind")
            assert ear.downs.get(timeout=WAIT_S) == (3, 4)
            ear.ups.get(timeout=WAIT_S)
        assert ear.tried == [Tried(3, whole=False)] * 2
        assert ear.send(b"again")
        assert [len(came.get(timeout=WAIT_S)) for _ in range(5)] == [6, 9000, 6, 19_000, 5]


def test_a_broker_that_hangs_holds_nobody_up(broker: Broker) -> None:
    with connected(broker.port) as ear:
        broker.pause()
        try:
            begun_s = time.monotonic()
            for _ in range(50):  # more than the system takes
                assert ear.send(b"x" * 1_000_000)
            ear.link.stop(5)
            assert time.monotonic() - begun_s < 5
            assert not ear.link.thread.is_alive()
        finally:
            broker.resume()


# On a broker that does what the test says


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


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.close_client()
    made.listener.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes seconds takes parts of one."""
    monkeypatch.setattr(link_module, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(link_module, "LOOK_UP_S", 0.05)
    monkeypatch.setattr(link_module, "CONNECT_S", 0.3)
    monkeypatch.setattr(link_module, "AGAIN_S", 0.01)
    connect = packets.connect
    monkeypatch.setattr(packets, "connect", lambda *a, **k: connect(*a, **{**k, "keepalive_s": 1}))


Act = Callable[[Script], Any]

FAULTS: dict[str, Sequence[Act]] = {
    "closes at once": [],
    "refuses the login": [Script.hear, lambda script: script.say(b"\x20\x02\x00\x05")],
    "refuses in a way of its own": [Script.hear, lambda script: script.say(b"\x20\x02\x00\x63")],
    "refuses the subscription": [
        Script.hear,
        lambda script: script.say(b"\x20\x02\x00\x00"),
        Script.hear,
        lambda script: script.say(b"\x90\x03\x00\x01\x80"),
    ],
    "speaks another protocol": [lambda script: script.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")],
    "says nothing": [Script.hear, Script.hear_the_end],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("hasty")
def test_a_broker_that_does_not_let_us_in(script: Script, fault: str) -> None:
    with listening(script.port) as ear:
        for _ in range(3):
            script.accept()
            for act in FAULTS[fault]:
                act(script)
        assert ear.ups.empty()
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        assert ear.link.reason is None
        assert ear.downs.empty(), "what never was up does not go down"


@pytest.mark.usefixtures("hasty")
def test_a_refusal_is_told_once(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    with listening(script.port):
        for _ in range(4):
            script.accept()
            script.hear()
            script.say(b"\x20\x02\x00\x04")
        script.welcome()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        f"no connection to the broker at 127.0.0.1:{script.port}: the broker refuses it: "
        "the user or the password is wrong: check PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"
    ]


def test_it_writes_on_as_soon_as_there_is_room(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "LOOK_UP_S", 600.0)
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        payloads = [b"x" * 4000] * 2000
        assert ear.send(*payloads)
        assert ear.link._backlog, "that is more than the system takes"
        script.hear_bytes(len(payloads) * len(packets.Topic(ELSEWHERE).publish(payloads[0])))


def test_the_thread_sleeps_on_when_what_woke_it_is_done(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: queue.Queue[float] = queue.Queue()
    monkeypatch.setattr(link_module, "LOOK_UP_S", 600.0)
    with listening(script.port) as ear:
        monkeypatch.setattr(ear.link, "_keep_alive", rounds.put)
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        script.say(b"\xd0\x00")
        rounds.get(timeout=WAIT_S)
        ear.link._wake()
        rounds.get(timeout=WAIT_S)
        with pytest.raises(queue.Empty):
            rounds.get(timeout=0.1)
        ear.send(b"x" * 5000)
        script.hear_bytes(len(packets.Topic(ELSEWHERE).publish(b"x" * 5000)))
        assert rounds.qsize() < 20, "it sleeps while a message is tried, too"
        assert ear.link._socket is not None
        assert ear.link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.usefixtures("hasty")
def test_silence_is_broken_and_ends_the_connection_when_it_lasts(script: Script) -> None:
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        for _ in range(3):
            assert script.hear() == packets.PINGREQ
            script.say(b"\xd0\x00")
        assert ear.downs.empty()
        script.hear_the_end()
        assert ear.downs.get(timeout=WAIT_S) == ()


@pytest.mark.usefixtures("hasty")
def test_what_is_not_acknowledged_for_long_shall_come_again(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a few of them a broker holds back all others, and nothing would come any more."""
    monkeypatch.setattr(link_module, "UNACKNOWLEDGED_S", 0.5)
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        script.say(b"\x32\x06\x00\x01t\x00\x07x" + b"\x32\x06\x00\x01t\x00\x08y")
        begun_s = time.monotonic()
        (_, first), (_, second) = ear.next(), ear.next()
        assert first is not None
        ear.link.acknowledge([first])
        assert script.hear() == packets.puback(7)
        for _ in range(100):  # the broker is there, and answers
            try:
                assert script.hear() == packets.PINGREQ
                script.say(b"\xd0\x00")
            except (EOFError, OSError):
                break
        else:
            raise AssertionError("it keeps the connection")
        ear.downs.get(timeout=WAIT_S)
        assert time.monotonic() - begun_s > 0.5
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        script.say(b"\x32\x06\x00\x01t\x00\x08y")
        _, again = ear.next()
        assert again is not None
        assert again != second
        ear.link.acknowledge([again])
        assert script.hear() == packets.puback(8)
        assert ear.link._open == {}


def test_a_program_that_stood_still_has_not_left_anything_unacknowledged() -> None:
    link = Ear(free_port()).link
    now_s = time.monotonic()
    link._open = {Receipt(1, 7): now_s - 500}
    link._look_at_receipts(now_s - 400)
    assert link._open[Receipt(1, 7)] >= now_s
    link._open = {Receipt(1, 7): now_s - 500}
    with pytest.raises(ConnectionError, match="a message was not taken in for 500 s"):
        link._look_at_receipts(now_s - 1)


@pytest.mark.usefixtures("hasty")
def test_what_was_open_on_a_connection_is_not_waited_for_on_the_next(script: Script) -> None:
    """It comes again, under another receipt; nobody will acknowledge the old one."""
    with listening(script.port) as ear:
        script.welcome()
        script.say(b"\x32\x06\x00\x01t\x00\x07x")
        ear.next()
        assert [*ear.link._open] == [Receipt(1, 7)]
        assert ear.link.subscribe([("later", 0)])
        script.welcome()
        ear.downs.get(timeout=WAIT_S)
        assert [ear.ups.get(timeout=WAIT_S) for _ in range(2)] == [None, None]
        assert (ear.link._open, ear.link._subscribing) == ({}, {})


@pytest.mark.usefixtures("hasty")
def test_what_came_on_one_connection_is_not_acknowledged_on_the_next(script: Script) -> None:
    """Under that number it may be another message there, which is on no disk yet."""
    with listening(script.port) as ear:
        script.welcome()
        script.say(b"\x32\x06\x00\x01t\x00\x07x")
        _, old = ear.next()
        assert old is not None
        script.welcome()
        assert [ear.ups.get(timeout=WAIT_S) for _ in range(2)] == [None, None]
        script.say(b"\x32\x06\x00\x01t\x00\x08y")
        _, new = ear.next()
        assert new is not None
        ear.link.acknowledge([old, new])
        heard = iter(script.hear, None)
        assert next(packet for packet in heard if packet != packets.PINGREQ) == packets.puback(8)


@pytest.mark.usefixtures("hasty")
def test_what_is_no_mqtt_ends_the_connection(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        script.say(b"\x00\x00")
        ear.downs.get(timeout=WAIT_S)
        why = "a packet of the kind 0x00 with 0 bytes, which we did not ask for"
        assert [record.getMessage() for record in caplog.records] == [
            f"the connection to the broker at 127.0.0.1:{script.port} ended: {why}"
        ]
        script.welcome()
        ear.ups.get(timeout=WAIT_S)


@pytest.mark.usefixtures("hasty")
@pytest.mark.skipif(link_module.QUICK_ACK is None, reason="the system has no such option")
def test_what_came_is_confirmed_to_the_system_of_the_broker_before_anybody_acts_on_it(script: Script) -> None:
    """Else a broker without TCP_NODELAY waits with what comes next, for our next message or for 40 ms."""
    unconfirmed: queue.Queue[int] = queue.Queue()

    def look(_messages: list[Received]) -> None:
        assert script.client is not None
        (size,) = struct.unpack("i", fcntl.ioctl(script.client, termios.TIOCOUTQ, b"\0" * 4))
        unconfirmed.put(size)

    ear = Ear(script.port)
    ear.link._listener = ear.link._listener._replace(messages=look)
    ear.link.start()
    try:
        script.welcome()
        for _ in range(20):  # the system confirms the first ones at once, until it sees question and answer
            script.say(b"\x30\x04\x00\x01tx")
            assert unconfirmed.get(timeout=WAIT_S) == 0
            assert ear.send(b"y")
            script.hear()
    finally:
        ear.link.stop(5)


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
        ear.link.acknowledge([Receipt(1, 7)])
        assert script.hear() == packets.puback(7)


def _fail(_messages: object) -> None:
    raise ZeroDivisionError


@pytest.mark.usefixtures("hasty")
def test_a_listener_that_fails_does_not_end_the_thread(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(script.port) as ear:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ear.link, "_listener", ear.link._listener._replace(messages=_fail))
            script.welcome()
            script.say(b"\x32\x06\x00\x01t\x00\x07x")
            ear.downs.get(timeout=WAIT_S)
        script.welcome()
        assert [ear.ups.get(timeout=WAIT_S) for _ in range(2)] == [None, None]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.usefixtures("hasty")
def test_the_end_says_goodbye(script: Script) -> None:
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        ear.send(b"last", topic="t")
        ear.link.stop(5)
        assert script.hear() == packets.Topic("t").publish(b"last")
        assert script.hear() == packets.DISCONNECT


@pytest.mark.parametrize("whole", [False, True])
def test_the_connection_ends_at_a_message_that_is_tried(
    script: Script, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Its last byte waits, and what is behind it waits for the broker to have seen that."""
    monkeypatch.setattr(link_module, "AGAIN_S", 0.01)
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        long = packets.Topic(ELSEWHERE).publish(b"x" * 5000)
        assert ear.send(b"before", b"x" * 5000, b"behind")
        assert script.hear() == packets.Topic(ELSEWHERE).publish(b"before")
        assert script.hear_bytes(len(long) - 1) == long[:-1]
        assert script.hears_nothing(link_module.TRIAL_S / 2)
        if whole:
            assert script.hear_bytes(1) == long[-1:]
            assert script.hears_nothing(link_module.TRIAL_S / 2)
        script.close_client()
        assert ear.downs.get(timeout=WAIT_S) == ((3,) if whole else (2, 3))
        assert ear.tried == [Tried(2, whole=whole)]


def test_what_is_not_much_longer_than_what_was_carried_is_not_tried(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after a loss, perhaps for that, whatever is longer is."""
    monkeypatch.setattr(link_module, "AGAIN_S", 0.01)
    payloads = [b"x" * size for size in (5000, 5000, 4500, 9000)]
    long = [packets.Topic(ELSEWHERE).publish(payload) for payload in payloads]
    with listening(script.port) as ear:
        for careful in (False, True):
            script.welcome()
            ear.ups.get(timeout=WAIT_S)
            assert ear.send(*payloads)
            script.hear_bytes(len(long[0]) - 1)
            assert script.hear_bytes(1 + sum(map(len, long[1:3]))).endswith(long[2])
            script.hear_bytes(len(long[3]) - 1)
            assert script.hears_nothing(link_module.TRIAL_S / 2) == careful
            script.hear_bytes(1)
            script.close_client()
            assert ear.downs.get(timeout=WAIT_S) == ()
        assert ear.tried == [None, Tried(4, whole=True)]


def test_topics_that_the_broker_refuses_are_named(script: Script) -> None:
    with listening(script.port) as ear:
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        assert ear.link.subscribe([("open", 0), ("closed/1", 0), ("closed/2", 1)])
        assert ear.link.subscribe([("open/2", 0)])
        first, second = script.hear()[2:4], script.hear()[2:4]
        assert first != second
        script.say(b"\x90\x03" + second + b"\x00" + b"\x90\x05" + first + b"\x00\x80\x80")
        assert ear.refused.get(timeout=WAIT_S) == ("closed/1", "closed/2")


def test_it_ends_though_it_never_began() -> None:
    ear = Ear(free_port())
    ear.link.stop(1)
    assert not ear.send(b"one")
