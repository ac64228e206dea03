"""The dispatcher's connection: how it begins, lives and ends, and every way in which it can break."""

import itertools
import logging
import queue
import socket
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock, call

import pytest

from puppetmaster.bus import connection as connection_module
from puppetmaster.bus import packets, visit
from puppetmaster.bus.connection import Received
from puppetmaster.bus.credentials import Refused
from sandbox.broker import Broker
from sandbox.process import free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.desk import until
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
    connection, sent = Ear(free_port()).connection, queue.Queue[bytes]()
    monkeypatch.setattr("puppetmaster.bus.connection.time.monotonic", lambda: 1000.0)
    monkeypatch.setattr(connection, "_write", sent.put)
    connection._spoke_s = 1000.0 - spoke_ago_s
    connection._keep_alive(1000.0 - heard_ago_s)
    assert [sent.get_nowait() for _ in range(sent.qsize())] == ([packets.PINGREQ] if pings else [])


def test_a_broker_that_was_silent_for_half_as_long_again_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Ear(free_port()).connection
    monkeypatch.setattr("puppetmaster.bus.connection.time.monotonic", lambda: 1000.0)
    connection._spoke_s = 1000.0
    with pytest.raises(ConnectionError, match="the broker has said nothing for 25 s"):
        connection._keep_alive(975.0)


def test_numbers_of_subscriptions_are_those_that_mqtt_has(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, asked = Trial(monkeypatch, 100).connection, list[tuple[int, int]]()

    def subscribe(packet: int, topics: Sequence[tuple[str, int]]) -> bytes:
        asked.append((packet, len(topics)))
        return b""

    monkeypatch.setattr(packets, "subscribe", subscribe)
    monkeypatch.setattr(connection, "_packets", itertools.count(0xFFFF - 1))
    assert connection.subscribe([(str(number), 0) for number in range(201)])
    assert asked == [(0xFFFF, 100), (1, 100), (2, 1)]


def test_the_end_waits_for_what_is_still_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, goodbye = Trial(monkeypatch, 3), Mock()
    assert trial.ear.send(b"first")
    assert trial.ear.send(b"second")
    trial.connection._leave(goodbye)
    rest = b"".join(packets.Topic(ELSEWHERE).publish(one) for one in (b"first", b"second"))[3:]
    assert goodbye.mock_calls == [
        call.settimeout(connection_module.LEAVE_S),
        call.sendall(rest + packets.DISCONNECT),
    ]
    trial.connection._lost()
    assert trial.ear.downs.get_nowait() == ()


def test_between_two_tries_to_connect_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: queue.Queue[None] = queue.Queue()

    def refused(*_: object) -> socket.socket:
        tries.put(None)
        raise ConnectionRefusedError

    monkeypatch.setattr(connection_module, "AGAIN_S", 600.0)
    ear = Ear(free_port())
    monkeypatch.setattr(visit, "reach", refused)
    ear.connection.start()
    tries.get(timeout=WAIT_S)
    with pytest.raises(queue.Empty):
        tries.get(timeout=0.1)
    assert str(ear.connection.reason).startswith("nothing listens there")
    ear.connection.stop(5)
    assert not ear.connection.thread.is_alive()


def test_without_a_permit_it_neither_connects_nor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects last has the session: one that was replaced must not take it back."""
    monkeypatch.setattr(connection_module, "AGAIN_S", 0.01)
    monkeypatch.setattr("puppetmaster.bus.credentials.Attempts.wait_s", lambda *_: 0.01)
    script = Script()
    ear = Ear(script.port)
    ear.permits = [False, False, True, False]
    ear.connection.start()
    try:
        script.accept()
        assert ear.permits == [False], "it did not connect before"
        script.hear()
        script.say(b"\x20\x02\x00\x00")
        with pytest.raises(EOFError):  # and it did not stay
            script.hear()
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
    finally:
        ear.connection.stop(5)
        script.close_client()
        script.listener.close()


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
    monkeypatch.setattr(connection_module, "time", SimpleNamespace(monotonic=clock.__next__))
    broker = Dripping()
    with pytest.raises(TimeoutError):
        Ear(free_port()).connection._introduce(cast(Any, broker), cast(Any, Ignoring()))
    assert broker.waits_s == [6.0, 2.0, 0.01]


# On a real broker


def test_topics_that_are_asked_for_later_are_heard_from_then_on(broker: Broker) -> None:
    require("mosquitto")
    with BusClient(broker) as client, connected(broker.port) as ear:
        there: queue.Queue[bytes] = queue.Queue()
        client.subscribe("later/1", there.put)
        client.send(b"kept", "later/1", retain=True)
        there.get(timeout=WAIT_S)
        names = [f"later/{number}" for number in range(250)]
        assert ear.connection.subscribe([(name, 1) for name in names])
        assert ear.send(b"itself", topic="later/249"), "what is sent after it finds the subscription"
        first, second = ear.next_received(), ear.next_received()
        assert {first, second} == {
            Received("later/1", b"kept", None, retained=True),  # at QoS 0 it needs no acknowledgement
            Received("later/249", b"itself", None, retained=False),
        }


def test_a_first_subscription_that_is_refused_late_ends_the_connection() -> None:
    """It stands behind all that the broker had kept."""
    connection = Ear(free_port()).connection
    connection._subscribed(packets.Suback(connection_module.FIRST_PACKET, (1,)))
    with pytest.raises(Refused):
        connection._subscribed(packets.Suback(connection_module.FIRST_PACKET, (packets.REFUSED,)))


@pytest.mark.usefixtures("soon")
def test_it_waits_for_a_broker_that_comes_later_or_comes_back(broker: Broker) -> None:
    broker.stop()
    with listening(broker.port) as ear:
        for lost in (False, True):
            assert (ear.connection.up, ear.send(b"one")) == (False, False)
            broker.start()
            ear.ups.get(timeout=WAIT_S)
            assert ear.connection.up
            assert ear.send(b"one")
            if not lost:
                broker.kill()
                assert ear.downs.get(timeout=WAIT_S) == ()


@pytest.mark.usefixtures("soon")
def test_it_is_made_anew_when_that_is_asked_for(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    with connected(broker.port) as ear:
        assert ear.send(b"first", topic=INBOX)
        assert ear.next_received().payload == b"first"
        ear.connection.renew("nothing is heard")
        assert ear.downs.get(timeout=WAIT_S) == ()
        ear.ups.get(timeout=WAIT_S)
        assert ear.send(b"again", topic=INBOX)
        assert ear.next_received().payload == b"again"
        assert ear.downs.empty(), "once"
    assert "ended: nothing is heard" in caplog.text


@pytest.mark.usefixtures("soon")
def test_two_with_one_client_id_say_so_and_leave_each_other_time(broker: Broker) -> None:
    with listening(broker.port) as first, listening(broker.port) as second:
        until(lambda: first.connection.reason and second.connection.reason, "both say so")
        for ear in (first, second):
            assert "another bundle logs in as 'connection-test', from a copy of our " in str(
                ear.connection.reason
            )
            assert ear.connection._endings.wait_s(connection_module.AGAIN_S) >= 2 * connection_module.AGAIN_S
        second.connection.stop(5)
        until(lambda: first.connection.up, "it comes back")
        assert first.connection.reason is not None, "it may be ended again"


def test_a_connection_that_lasts_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Ear(free_port()).connection
    for _ in range(2):
        connection._endings.ended(1, known=True)
    for since_s, well in ((950.0, False), (930.0, True)):
        monkeypatch.setattr("puppetmaster.bus.connection.time.monotonic", lambda: 1000.0)
        connection._since_s = since_s
        connection._keep_alive(1000.0)
        assert (connection.reason is None) is well


@pytest.mark.parametrize(
    ("error", "trying", "taken_over"),
    [
        (connection_module.Closed(), False, True),
        (ConnectionResetError(), False, True),
        (connection_module.Closed(), True, False),  # a message that is tried is why it ends
        (ConnectionError("the broker has said nothing for 25 s"), False, False),
        (packets.Malformed("no MQTT"), False, False),
    ],
)
def test_only_an_end_without_a_word_tells_of_somebody_else(
    error: Exception, trying: bool, taken_over: bool
) -> None:
    connection = Ear(free_port()).connection
    connection._known = True
    if trying:
        tried = connection_module._Unsent(memoryview(b"long"), [(1, 4)], tried=True, written=3)
        connection._backlog.append(tried)
    for _ in range(2):
        connection._since_s = time.monotonic()
        connection._ended(error)
    assert (connection.reason is not None) is taken_over


# On a broker that does what the test says


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
        assert ear.connection.reason is None
        assert ear.downs.empty(), "what never was up does not go down"


@pytest.mark.usefixtures("soon")
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


def test_the_thread_sleeps_on_when_what_woke_it_is_done(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: queue.Queue[float] = queue.Queue()
    monkeypatch.setattr(connection_module, "LOOK_UP_S", 600.0)
    with listening(script.port) as ear:
        monkeypatch.setattr(ear.connection, "_keep_alive", rounds.put)
        script.welcome()
        ear.ups.get(timeout=WAIT_S)
        script.say(b"\xd0\x00")
        rounds.get(timeout=WAIT_S)
        ear.connection._wake()
        rounds.get(timeout=WAIT_S)
        with pytest.raises(queue.Empty):
            rounds.get(timeout=0.1)
        ear.send(b"x" * 5000)
        script.hear_bytes(len(packets.Topic(ELSEWHERE).publish(b"x" * 5000)))
        assert rounds.qsize() < 20, "it sleeps while a message is tried, too"
        assert ear.connection._socket is not None
        assert ear.connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_silence_is_broken_and_ends_the_connection_when_it_lasts(
    script: Script, ear: Ear, ahead: Ahead
) -> None:
    for _ in range(3):
        ahead.silence(ear, script, 0.6)
        assert script.hear() == packets.PINGREQ
    assert ear.downs.empty()
    ahead.silence(ear, script, 1.6)
    script.hear_the_end()
    assert ear.downs.get(timeout=WAIT_S) == ()


@pytest.mark.usefixtures("soon")
def test_what_is_no_mqtt_ends_the_connection(
    script: Script, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    script.say(b"\x00\x00")
    ear.downs.get(timeout=WAIT_S)
    why = "a packet of the kind 0x00 with 0 bytes, which we did not ask for"
    assert [record.getMessage() for record in caplog.records] == [
        f"the connection to the broker at 127.0.0.1:{script.port} ended: {why}"
    ]
    script.welcome()
    ear.ups.get(timeout=WAIT_S)


def _fail(_messages: object) -> None:
    raise ZeroDivisionError


@pytest.mark.usefixtures("soon")
def test_a_listener_that_fails_does_not_end_the_thread(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(script.port) as ear:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ear.connection, "_listener", ear.connection._listener._replace(messages=_fail))
            script.welcome()
            script.say(b"\x32\x06\x00\x01t\x00\x07x")
            ear.downs.get(timeout=WAIT_S)
        script.welcome()
        assert [ear.ups.get(timeout=WAIT_S) for _ in range(2)] == [None, None]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.usefixtures("soon")
def test_the_end_says_goodbye(script: Script, ear: Ear) -> None:
    ear.send(b"last", topic="t")
    ear.connection.stop(5)
    assert script.hear() == packets.Topic("t").publish(b"last")
    assert script.hear() == packets.DISCONNECT


def test_topics_that_the_broker_refuses_are_named(script: Script, ear: Ear) -> None:
    assert ear.connection.subscribe([("open", 0), ("closed/1", 0), ("closed/2", 1)])
    assert ear.connection.subscribe([("open/2", 0)])
    first, second = script.hear()[2:4], script.hear()[2:4]
    assert first != second
    script.say(b"\x90\x03" + second + b"\x00" + b"\x90\x05" + first + b"\x00\x80\x80")
    assert ear.refused.get(timeout=WAIT_S) == ("closed/1", "closed/2")


def test_it_ends_though_it_never_began() -> None:
    ear = Ear(free_port())
    assert not ear.connection.subscribe([("a", 0)])
    assert ear.connection._subscribing == {}, "nor is its answer waited for on the next connection"
    ear.connection.stop(1)
    assert not ear.send(b"one")
