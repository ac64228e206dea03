"""What comes to our tunnel: whatever carries an id of ours is an answer that came, and all else is none."""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from puppetmaster import bus as module
from puppetmaster.bus import (
    FIRST_QUESTION_ID,
    REGISTRATION,
    Answered,
    BridgeChanged,
    Bus,
    BusEvent,
    LinkChanged,
    SubscriptionsRefused,
    Synced,
)
from puppetmaster.clock import Clock
from puppetmaster.link import MESSAGE_LIMIT_BYTES, Receipt, Received
from puppetmaster.login import Login
from puppetmaster.request import RequestEvent
from puppetmaster.wire import Outgoing, direct_tunnel
from sandbox.process import free_port

ID = 2**31 + 5
RECEIPT = Receipt(1, 7)


class Wire:
    """A bus without a network: the test brings what comes, and sees what leaves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[BusEvent] = []
        self.acknowledged: list[Receipt] = []
        self.sent: list[dict[str, Any]] = []
        self.bus = Bus(
            "127.0.0.1",
            free_port(),
            login=Login(),
            installation="0123456789abcdef",
            resource="/jobs",
            probe_interval_s=1000,
            presence=["/cgs/+/connection_status", "/site/+"],
            listener=self.told.extend,
            clock=Clock(),
        )
        monkeypatch.setattr(self.bus._link, "acknowledge", self.acknowledged.extend)
        monkeypatch.setattr(self.bus._link, "send", self._send)

    def _send(self, messages: Iterable[Outgoing]) -> bool:
        self.sent += [json.loads(message.payload) for message in messages]
        return True

    def comes(self, payload: bytes, topic: str = "", *, retained: bool = False) -> Sequence[BusEvent]:
        """All that the dispatcher is told of this message, on our tunnel or on this topic."""
        self.told.clear()
        self.bus._take_all([Received(topic or self.bus.tunnel, payload, RECEIPT, retained)])
        return list(self.told)

    def owned(self, question: dict[str, Any]) -> Sequence[BusEvent]:
        """The controller answers a question."""
        answer = {"id": question["id"], "code": 200, "data": {"resources": ["/jobs"]}}
        return self.comes(json.dumps(answer).encode())


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def nested(levels: int) -> bytes:
    """The answer of a gateway, as the controller indents it."""
    whole = {"id": ID, "code": 200, "data": {"code": 200, "data": None}, "sign": ["remote"]}
    deep = "[" * levels + "1" + "]" * levels
    return json.dumps(whole, indent=4).replace("null", deep).encode()


@pytest.mark.parametrize("levels", [201, 900, 1000, 1500, 2040])
def test_an_answer_that_is_nested_deeply_is_one_that_came(
    wire: Wire, levels: int, caplog: pytest.LogCaptureFixture
) -> None:
    (told,) = wire.comes(nested(levels))
    assert isinstance(told, Answered)
    assert (told.message, told.receipt) == (ID, RECEIPT)
    assert (told.answer.event, told.answer.result["code"]) == (RequestEvent.FAIL, 502)
    assert told.answer.result["message"].startswith("the answer cannot be kept: ")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert wire.acknowledged == [], "not before it is on disk"
    assert wire.bus.dropped == 0


UNREADABLE = {
    "NaN": b'{"id":%d,"code":200,"data":{"code":200,"data":NaN}}',
    "a number that is too large": b'{"id":%d,"code":200,"data":1e999}',
    "a letter that is none": b'{"id":%d,"code":200,"data":"\xff"}',
    "a fault in it": b'{"id":%d,"code":200,"data":{"a" 1}}',
    "too long": b'{"id":%d,"code":200,"data":"' + b"x" * MESSAGE_LIMIT_BYTES,
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_one_that_came(
    wire: Wire, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    (told,) = wire.comes(UNREADABLE[fault] % ID)
    assert isinstance(told, Answered)
    assert (told.message, told.answer.result["code"], told.receipt) == (ID, 502, RECEIPT)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"message {ID}: the answer cannot be kept: " in caplog.text
    assert ("longer than 6291456 bytes" in caplog.text) == (fault == "too long")


def test_an_answer_that_breaks_its_reader_is_one_that_came(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_payload: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr("puppetmaster.wire.decode", broken)
    (told,) = wire.comes(b'{"id":%d,"code":200}' % ID)
    assert isinstance(told, Answered)
    assert (told.message, told.answer.result["code"]) == (ID, 502)
    assert "MemoryError" in caplog.text


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"id":7}',
        b'{"id":"7","code":200,"data":NaN}',
        b'{"id":%d,"code":200' % ID,
        b'{"id":%d,"code":200,"data":"torn' % ID,
        b'{"id":%d,"code":200,"data":NaN} and more' % ID,
        b'{"data":"' + b"x" * MESSAGE_LIMIT_BYTES,
    ],
)
def test_all_else_is_dropped_and_acknowledged(wire: Wire, payload: bytes) -> None:
    assert wire.comes(payload) == []
    assert (wire.acknowledged, wire.bus.dropped) == ([RECEIPT], 1)


# -- whatever is on its way is here ----------------------------------------------------------------


def test_a_sync_is_told_when_the_controller_answers_what_was_asked_for_it(wire: Wire) -> None:
    wire.bus._probe()
    wire.bus.sync()
    before, asked = wire.sent
    assert Synced() not in wire.owned(before), "it may have overtaken something"
    assert asked["id"] >= FIRST_QUESTION_ID
    assert Synced() in wire.owned(asked)
    wire.bus._probe()
    assert Synced() not in wire.owned(wire.sent[-1]), "once"


def test_a_sync_outlives_its_connection(wire: Wire) -> None:
    wire.bus.sync()
    wire.bus._went_down(())
    wire.bus._came_up()
    assert LinkChanged(up=True) in wire.told
    assert wire.owned(wire.sent[0]) == [], "that question is not open any more"
    assert Synced() in wire.owned(wire.sent[-1])


# -- what bridges say, and what gateways answer directly --------------------------------------------


@pytest.mark.parametrize(
    ("topic", "payload", "events"),
    [
        ("/cgs/cg-1/connection_status", b"1", [BridgeChanged("cg-1", True)]),
        ("/cgs/00:0c:29/connection_status", b"0", [BridgeChanged("00:0c:29", False)]),
        ("/cgs/cg-1/connection_status", b"", [BridgeChanged("cg-1", None)]),
        ("/site/cg-2", b"1", [BridgeChanged("cg-2", True)]),
        ("/cgs/cg-1/connection_status", b"2", []),
        ("/cgs/cg-1/connection_status", b" 1", []),
        ("/cgs/cg-1/connection_status", b"true", []),
        ("/cgs/cg-1/connection_status", b"\xff" * 2_000_000, []),
        ("/cgs//connection_status", b"1", []),
        ("/cgs/a/b/connection_status", b"1", []),
        ("/cgs/" + "x" * 2000 + "/connection_status", b"1", []),
    ],
)
def test_the_status_of_a_bridge(wire: Wire, topic: str, payload: bytes, events: list[BusEvent]) -> None:
    assert wire.comes(payload, topic) == events
    assert (wire.bus.dropped == 0) is bool(events)
    assert wire.acknowledged == [RECEIPT]


def test_a_status_that_was_there_before_is_told_as_that(wire: Wire) -> None:
    said = wire.comes(b"0", "/cgs/cg-1/connection_status", retained=True)
    assert said == [BridgeChanged("cg-1", False, retained=True)]


@pytest.mark.parametrize("id_", [2**31, 2**30 + 5])
def test_what_a_gateway_answers_directly_is_its_own_message(wire: Wire, id_: int) -> None:
    """Also under an id that our own questions have on our own bus."""
    tunnel = direct_tunnel(wire.bus.tunnel, "cg-1")
    message = {"id": id_, "code": 404, "data": {"message": "gone"}, "sign": ["controller"]}
    (answered,) = wire.comes(json.dumps(message).encode(), tunnel)
    assert isinstance(answered, Answered)
    assert (answered.message, answered.tunnel, answered.receipt) == (id_, tunnel, RECEIPT)
    assert answered.answer.result["source"] == "device"
    (garbled,) = wire.comes(b'{"id": 5, "code": 200, "data": NaN}', tunnel)
    assert isinstance(garbled, Answered)
    assert (garbled.message, garbled.tunnel) == (5, tunnel)


def test_tunnels_of_gateways_are_subscribed_to_before_anything_is_sent_and_once(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(wire.bus._link, "subscribe", lambda topics: done.append([one for one, _ in topics]))
    monkeypatch.setattr(wire.bus._link, "send", lambda messages: done.append([one.id for one in messages]))
    wire.bus.expect(["cg-0"])
    wire.bus.send([Outgoing(1, b"", "/a/controller", "T1"), Outgoing(2, b""), Outgoing(3, b"", "", "T1")])
    wire.bus.send([Outgoing(4, b"", "/b/controller", "T2"), Outgoing(5, b"", "/a/controller", "T1")])
    mine = direct_tunnel(wire.bus.tunnel, "cg-0")
    assert done == [[mine], ["T1"], [1, 2, 3], ["T2"], [4, 5]]
    done.clear()
    wire.bus._came_up()
    watched = ["/cgs/+/connection_status", "/site/+", REGISTRATION]
    assert done[0] == [*watched, mine, "T1", "T2"], "the next connection"


def test_with_too_many_gateways_each_is_subscribed_to_when_it_is_used(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TUNNELS", 3)
    asked: list[str] = []
    monkeypatch.setattr(wire.bus._link, "subscribe", lambda topics: asked.extend(one for one, _ in topics))
    for tunnel in ("a", "b", "c", "d", "a", "d"):
        wire.bus.send([Outgoing(1, b"{}", "", tunnel)])
    assert asked == ["a", "b", "c", "d", "a"]


def test_subscriptions_that_the_broker_refuses_are_told(wire: Wire) -> None:
    wire.bus._refused(("/site/+",))
    wire.bus._refused((direct_tunnel("t", "a"), direct_tunnel("t", "b")))
    assert wire.told == [SubscriptionsRefused(presence=True), SubscriptionsRefused(direct=True)]
