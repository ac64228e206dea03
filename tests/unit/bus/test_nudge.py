"""A broker that holds small packets back is found out, and is made to send them on."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from puppetmaster.bus import nudge, packets, visit
from puppetmaster.bus.credentials import Credentials
from puppetmaster.bus.nudge import APART_S, CONFIRMED_S, FIRST_S, NUDGE, OVER_S, Nudges
from puppetmaster.model.message import CONTROLLER_TOPIC
from sandbox.broker import Broker
from sandbox.controller import Controller
from sandbox.process import free_port
from tests.conftest import require
from tests.unit.bus.connections import WAIT_S, Full, Script, Trial, connected

linux = pytest.mark.skipif(nudge.QUICK_ACK is None, reason="the system has no such option")


# -- who holds packets back --------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("tuned", [True, False])
def test_mosquitto_holds_small_packets_back_unless_it_is_told_not_to(tuned: bool) -> None:
    require("mosquitto")
    with Broker("mosquitto", tuned=tuned) as broker:
        held = [nudge.holds_back((broker.host, broker.port), Credentials(), "visitor") for _ in range(3)]
    assert held.count(not tuned) >= 2, "a busy machine may let one take long that holds nothing back"


@pytest.fixture
def held(script: Script) -> Iterator[Future[bool]]:
    """What is found out of a broker that does what the test says."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(nudge.holds_back, ("127.0.0.1", script.port), Credentials(), "visitor")


@linux
def test_who_sends_both_at_once_holds_nothing_back(script: Script, held: Future[bool]) -> None:
    script.accept()
    assert script.hear()[0] == 0x10
    script.say(b"\x20\x02\x00\x00")
    assert script.hear() == script.hear() == packets.PINGREQ
    script.say(b"\xd0\x00\xd0\x00")
    assert script.hear() == packets.DISCONNECT
    assert held.result(WAIT_S) is False


@pytest.mark.parametrize("answer", [b"", b"\x20\x02\x00\x05", b"HTTP/1.1 400 Bad Request\r\n"])
def test_nothing_is_known_of_who_does_not_let_us_in(
    script: Script, held: Future[bool], answer: bytes
) -> None:
    script.accept()
    script.hear()
    script.say(answer)
    script.close_client()
    assert held.result(WAIT_S) is False


def test_who_is_not_there_or_on_another_machine_or_behind_tls_is_not_nudged(
    monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    tls: Any = SimpleNamespace()
    assert not nudge.holds_back(("127.0.0.1", free_port()), Credentials(), "visitor")
    assert not nudge.holds_back(("127.0.0.1", script.port), Credentials(tls=tls), "visitor")
    monkeypatch.setattr(nudge, "ip_address", lambda _: SimpleNamespace(is_loopback=False))
    monkeypatch.setattr(visit, "arriving", None)
    assert not nudge.holds_back(("127.0.0.1", script.port), Credentials(), "visitor")


# -- when it is nudged -------------------------------------------------------------------------------


def nudged(nudges: Nudges, from_s: float, to_s: float) -> list[float]:
    """When the controller is nudged if nothing passes, in ms from the beginning."""
    at = []
    while (now_s := nudges.due_s) < to_s:
        if nudges.take(now_s):
            at.append(round((now_s - from_s) * 1000, 3))
    return at


def made(*, on: bool = True, waits: bool = True) -> Nudges:
    nudges = Nudges(lambda: waits)
    nudges.on = on
    return nudges


def test_a_silence_is_ended_by_a_few_nudges_until_the_system_has_confirmed_by_itself() -> None:
    nudges = made()
    assert nudged(nudges, 0, math.inf) == [], "nothing has been sent yet"
    assert nudges.passed(10.0), "whoever waits for the time is to look at it again"
    assert not nudges.take(10.0)
    assert not nudges.passed(10.001)
    assert nudged(nudges, 10.001, math.inf) == [2, 6, 14, 30]
    assert 0.030 < CONFIRMED_S < 0.062
    assert nudges.passed(11.0)
    assert nudged(nudges, 11.0, math.inf) == [2, 6, 14, 30]


@pytest.mark.parametrize(("on", "waits"), [(False, True), (True, False), (False, False)])
def test_nobody_is_nudged_without_reason(on: bool, waits: bool) -> None:
    nudges = made(on=on, waits=waits)
    assert nudges.passed(10.0) == on
    assert nudged(nudges, 10.0, math.inf) == []
    assert nudges.due_s == math.inf


def test_a_broker_that_no_longer_holds_back_is_not_nudged_for_what_was_sent_before() -> None:
    nudges = made()
    nudges.passed(10.0)
    nudges.on = False
    assert nudged(nudges, 10.0, math.inf) == []


def test_there_are_no_more_nudges_than_they_are_worth() -> None:
    """Each costs the broker and the controller a few hundred microseconds."""
    nudges, number, now_s = made(), 0, 10.0
    for _ in range(2000):  # one message after the other, each in a silence that just begins
        nudges.passed(now_s)
        number += nudges.take(now_s + FIRST_S)
        now_s += FIRST_S
    assert number == pytest.approx((now_s - 10.0 + OVER_S) / APART_S, abs=2)
    nudges.passed(now_s + 3600)
    assert nudged(nudges, now_s + 3600, math.inf) == [2, 6, 14, 30], "it is saved up, up to a bound"


# -- by the connection -------------------------------------------------------------------------------


def test_what_is_sent_and_not_answered_is_followed_by_a_nudge(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, waking = Trial(monkeypatch, room=1_000_000), Full(100)
    connection = trial.connection
    connection._wakes = waking  # type: ignore[assignment]
    connection.nudges = made()
    assert trial.ear.send(b"one")
    assert waking.taken == b"\0", "the thread would sleep for seconds else"
    assert connection._wait_s(math.inf) == pytest.approx(FIRST_S)
    said = trial.socket.taken
    trial.now_s += FIRST_S / 2
    connection._nudge()
    assert trial.socket.taken == said
    connection._deliver([packets.Published(b"topic", b"{}", 0)])
    trial.now_s += FIRST_S / 2
    connection._nudge()
    assert trial.socket.taken == said, "the silence begins anew with what comes"
    trial.now_s += FIRST_S
    connection._nudge()
    assert trial.socket.taken == said + NUDGE
    assert trial.ear.send(b"two")
    assert waking.taken == b"\0", "the thread is awake"


def test_what_is_sent_while_a_silence_ends_begins_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would be nudged for it."""
    trial = Trial(monkeypatch, room=1_000_000)
    sending = threading.Thread(target=trial.ear.send, args=[b"two"])

    def waits() -> bool:
        sending.start()
        sending.join(0.2)  # without the lock it would be over, and forgotten
        return False

    trial.connection.nudges = Nudges(waits)
    trial.connection.nudges.on = True
    assert trial.ear.send(b"one")
    trial.now_s += FIRST_S
    trial.connection._nudge()
    sending.join()
    assert trial.connection._wait_s(math.inf) == pytest.approx(FIRST_S)


def test_no_nudge_queues_behind_what_the_broker_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, room=0)
    trial.connection.nudges = made()
    assert trial.ear.send(b"one")
    waiting = trial.connection.waiting_bytes
    trial.now_s += FIRST_S
    trial.connection._nudge()
    assert trial.connection.waiting_bytes == waiting > 0


def test_a_nudge_means_nothing_to_the_controller() -> None:
    (packet,) = packets.Decoder(1024 * 1024).feed(NUDGE)
    assert isinstance(packet, packets.Published)
    assert Controller().handle(packet.topic.decode(), packet.payload) == []
    assert len(NUDGE) > 0xFFFF, "the largest packet of IP"


@linux
def test_a_command_does_not_wait_until_the_system_of_a_controller_confirms_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The controller here takes everything and says nothing."""
    require("mosquitto")
    monkeypatch.setattr(nudge, "APART_S", 0.0)
    took_s: dict[bool, list[float]] = {False: [], True: []}
    with (
        Broker("mosquitto", tuned=False) as broker,
        connected(broker.port) as ear,
        socket.create_connection((broker.host, broker.port), WAIT_S) as controller,
    ):
        controller.sendall(packets.connect("controller", keepalive_s=60, clean=True))
        controller.sendall(packets.subscribe(1, [(CONTROLLER_TOPIC, 0)]))
        arriving = visit.arriving(controller)
        assert [next(arriving), next(arriving)] == [packets.Connack(0), packets.Suback(1, (0,))]
        ear.connection.nudges = Nudges(lambda: True)
        for number in range(40):
            ear.connection.nudges.on = on = bool(number % 4 > 1)
            controller.setsockopt(socket.IPPROTO_TCP, cast(int, nudge.QUICK_ACK), 0)
            began_s = time.monotonic()
            assert ear.send(b"%d" % number, topic=CONTROLLER_TOPIC)
            while cast(packets.Published, next(arriving)).payload != b"%d" % number:
                pass
            took_s[on].append(time.monotonic() - began_s)
    assert sum(took_s[True]) < sum(took_s[False])
