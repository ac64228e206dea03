"""What comes to our tunnel: whatever carries an id of ours is an answer that came, and all else is none."""

import json
import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from puppetmaster.bus import client as module
from puppetmaster.bus.client import (
    FIRST_QUESTION_ID,
    LAST_QUESTION_ID,
    Answered,
    BridgeChanged,
    BusClient,
    BusEvent,
    ConnectionChanged,
    ControllerChanged,
    ControllerForgot,
    ControllerKnows,
    Deregistering,
    Held,
    Owners,
    Registering,
    SubscriptionsRefused,
    Synced,
)
from puppetmaster.bus.connection import MESSAGE_LIMIT_BYTES, Receipt, Received
from puppetmaster.clock import Clock
from puppetmaster.model.message import DEPENDENCY, REGISTRATION, Capacity, Outgoing, direct_tunnel
from puppetmaster.model.message import MESSAGE_LIMIT_BYTES as MESSAGE_LIMIT
from puppetmaster.model.request import RequestEvent
from puppetmaster.settings import Settings
from sandbox.process import free_port

ID = 2**31 + 5
RECEIPT = Receipt(1, 7)


class StandingClock(Clock):
    """It shows what the test says."""

    at_s = 1.0

    def now_s(self) -> float:
        return self.at_s


class Wire:
    """A bus without a network: the test brings what comes, and sees what leaves."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, clock: Clock, route: str = "auto", push: str = "on"
    ) -> None:
        self.told: list[BusEvent] = []
        self.acknowledged: list[Receipt] = []
        self.sent: list[dict[str, Any]] = []
        self.ids: set[int] = set()  # under which it is told what has not left
        settings = Settings(
            broker_host="127.0.0.1",
            broker_port=free_port(),
            probe_interval_s=1000,
            presence="/cgs/+/connection_status, /site/+",
            route=route,
            broker_push=push,
        )
        self.bus = BusClient(settings, "0123456789abcdef", "/jobs", self.told.extend, clock)
        monkeypatch.setattr(self.bus._connection, "acknowledge", self.acknowledged.extend)
        monkeypatch.setattr(self.bus._connection, "send", self._send)
        monkeypatch.setattr(self.bus, "_ask_limit", lambda: None)

    def _send(self, messages: Iterable[Outgoing]) -> bool:
        self.sent += [json.loads(message.payload) for message in messages]
        self.ids |= {message.id for message in messages}
        return True

    def comes(self, message: Any, topic: str = "", *, retained: bool = False) -> Sequence[BusEvent]:
        """All that the dispatcher is told of this message, on our tunnel or on this topic."""
        self.told.clear()
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.bus._take_all([Received(topic or self.bus.tunnel, payload, RECEIPT, retained)])
        return list(self.told)

    def answered(self, message: Any, topic: str = "") -> Answered:
        """The answer to one of our requests that this message is."""
        (told,) = self.comes(message, topic)
        assert isinstance(told, Answered)
        return told

    def owned(self, question: dict[str, Any], **answer: Any) -> Sequence[BusEvent]:
        """The controller answers a question so; else, that it knows us."""
        said = answer or {"code": 200, "data": {"resources": ["/jobs"]}}
        return self.comes({**said, "id": question["id"]})


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, clock: StandingClock) -> Wire:
    return Wire(monkeypatch, clock)


#: The data of an answer, and the end of its message.
UNREADABLE = {
    "NaN": b'{"code":200,"data":NaN}}',
    "a number that is too large": b"1e999}",
    "a letter that is none": b'"\xff"}',
    "a fault in it": b'{"a" 1}}',
    "too long": b'"' + b"x" * MESSAGE_LIMIT_BYTES,
    "what breaks its reader": b"null}",
    **{
        f"{levels} levels": b'{"code":200,"data":' + b"[" * levels + b"1" + b"]" * levels + b"}}"
        for levels in (201, 900, 1000, 1500, 2040)
    },
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_one_that_came(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaks = fault == "what breaks its reader"
    if breaks:
        monkeypatch.setattr("puppetmaster.jsoncodec.decode", Mock(side_effect=MemoryError))
    told = wire.answered(b'{"id":%d,"code":200,"data":%s' % (ID, UNREADABLE[fault]))
    assert (told.message, told.receipt) == (ID, RECEIPT)
    assert (told.answer.event, told.answer.result["code"]) == (RequestEvent.FAIL, 502)
    assert told.answer.result["message"].startswith("the answer cannot be kept: ")
    assert wire.acknowledged == [], "not before it is on disk"
    assert wire.bus.dropped == 0
    levels = [record.levelno for record in caplog.records]
    assert levels == [*[logging.ERROR] * breaks, logging.WARNING]
    assert f"message {ID}: the answer cannot be kept: " in caplog.text
    assert ("longer than 6291456 bytes" in caplog.text) == (fault == "too long")
    assert ("MemoryError" in caplog.text) == breaks


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


def test_answers_count_as_held_until_they_are_taken_in(wire: Wire) -> None:
    connection = wire.bus._connection
    few = [{"id": ID, "code": 200, "data": "x" * 10_000}, {"id": ID + 1, "code": 200, "data": [[]] * 10_000}]
    text, lists = (json.dumps(one, separators=(",", ":")).encode() for one in few)
    told = wire.answered(text)
    assert len(text) < told.size_bytes < len(text) + 1000
    assert connection._held_bytes == told.size_bytes
    more = wire.answered(lists)
    assert more.size_bytes > 10_000 * sys.getsizeof([]), "its values take more than its text"
    wire.bus.release(told.size_bytes)
    wire.bus.release(more.size_bytes)
    assert connection._held_bytes == 0
    wire.comes(b"x" * 10_000)
    assert connection._held_bytes == 0, "what is dropped is not there"


def test_more_values_than_a_message_can_have_are_not_taken_in(wire: Wire) -> None:
    """Each takes a byte of it at least, before its controller indents it: but as an object far more."""
    most = json.dumps({"id": ID, "code": 200, "data": []}, indent=4).encode()
    commas = b"," * (MESSAGE_LIMIT - most.count(b",") - most.count(b"{") - most.count(b"["))
    kept = wire.answered(most.replace(b"[]", b'["' + commas + b'"]'))
    refused = wire.answered(most.replace(b"[]", b'[",' + commas + b'"]'))
    assert kept.answer.result["code"] == 200
    said = "the answer cannot be kept: it has more values than a controller passes on"
    assert (refused.message, refused.answer.result["message"]) == (ID, said)


def test_a_sync_is_told_when_the_controller_answers_what_was_asked_for_it(
    wire: Wire, clock: StandingClock
) -> None:
    wire.bus._probe()
    clock.at_s += 1
    wire.bus.sync()
    before, asked = wire.sent
    assert Synced() not in wire.owned(before), "it may have overtaken something"
    assert asked["id"] >= FIRST_QUESTION_ID
    assert Synced() in wire.owned(asked)
    wire.bus._probe()
    assert Synced() not in wire.owned(wire.sent[-1]), "once"


def test_a_sync_outlives_its_connection(wire: Wire) -> None:
    wire.bus.sync()
    wire.bus._went_down((), None)
    wire.bus._came_up()
    assert ConnectionChanged(up=True) in wire.told
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
        (f"/site/{'x' * 1023}", b"1", [BridgeChanged("x" * 1023, True)]),
        (f"/site/{'x' * 1024}", b"1", []),
    ],
)
def test_the_status_of_a_bridge(
    wire: Wire, topic: str, payload: bytes, events: list[BusEvent], caplog: pytest.LogCaptureFixture
) -> None:
    assert wire.comes(payload, topic) == events
    assert (wire.bus.dropped == 0) is bool(events)
    assert wire.acknowledged == [RECEIPT]
    assert caplog.records == [], "what others say there is no fault of ours"


def test_what_is_on_disk_is_acknowledged(wire: Wire) -> None:
    wire.bus.acknowledge([RECEIPT])
    assert wire.acknowledged == [RECEIPT]


def test_of_nothing_nobody_is_told(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(wire.bus, "_listener", calls.append)
    monkeypatch.setattr(wire.bus._connection, "acknowledge", calls.append)
    wire.bus._take_all([Received(wire.bus.tunnel, b"", None, retained=False)])
    assert (calls, wire.bus.dropped) == ([], 1)


def test_a_status_that_was_there_before_is_told_as_that(wire: Wire) -> None:
    said = wire.comes(b"0", "/cgs/cg-1/connection_status", retained=True)
    assert said == [BridgeChanged("cg-1", False, retained=True)]


@pytest.mark.parametrize("id_", [2**31, 2**30 + 5])
def test_what_a_gateway_answers_directly_is_its_own_message(wire: Wire, id_: int) -> None:
    """Also under an id that our own questions have on our own bus."""
    tunnel = direct_tunnel(wire.bus.tunnel, "cg-1")
    message = {"id": id_, "code": 404, "data": {"message": "gone"}, "sign": ["controller"]}
    answered = wire.answered(message, tunnel)
    assert (answered.message, answered.tunnel, answered.receipt) == (id_, tunnel, RECEIPT)
    assert answered.answer.result["source"] == "device"
    garbled = wire.answered(b'{"id": 5, "code": 200, "data": NaN}', tunnel)
    assert (garbled.message, garbled.tunnel) == (5, tunnel)


def test_tunnels_of_gateways_are_subscribed_to_before_anything_is_sent_and_once(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(
        wire.bus._connection, "subscribe", lambda topics: done.append([one for one, _ in topics])
    )
    monkeypatch.setattr(
        wire.bus._connection, "send", lambda messages: done.append([one.id for one in messages])
    )
    wire.bus.expect(["cg-0"])
    wire.bus.send([Outgoing(1, b"", "/a/controller", "T1"), Outgoing(2, b""), Outgoing(3, b"", "", "T1")])
    wire.bus.send([Outgoing(4, b"", "/b/controller", "T2"), Outgoing(5, b"", "/a/controller", "T1")])
    wire.bus.send([Outgoing(6, b"", "/a/controller", "T1")])
    mine = direct_tunnel(wire.bus.tunnel, "cg-0")
    assert done == [[mine], ["T1"], [1, 2, 3], ["T2"], [4, 5], [6]]
    done.clear()
    wire.bus._came_up()
    watched = ["/cgs/+/connection_status", "/site/+", REGISTRATION]
    assert done[0] == [*watched, mine, "T1", "T2"], "the next connection"


def test_with_too_many_gateways_each_is_subscribed_to_when_it_is_used(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TUNNELS", 3)
    asked: list[str] = []
    monkeypatch.setattr(
        wire.bus._connection, "subscribe", lambda topics: asked.extend(one for one, _ in topics)
    )
    for tunnel in ("a", "b", "c", "d", "a", "d"):
        wire.bus.send([Outgoing(1, b"{}", "", tunnel)])
    assert asked == ["a", "b", "c", "d", "a"]


def test_what_is_asked_or_told_is_nothing_that_is_waited_for(wire: Wire) -> None:
    wire.bus.ask(["cg-1"])
    wire.bus.check([ID])
    wire.bus.prove()
    assert wire.bus.tell(b"{}")
    assert (len(wire.sent), wire.ids) == (4, {0})


def test_the_broker_keeps_answers_for_us_and_nothing_else(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QoS 1 for what must not be lost; who is there is said again at each connection."""
    subscribed: list[tuple[str, int]] = []
    monkeypatch.setattr(wire.bus._connection, "subscribe", subscribed.extend)
    wire.bus.expect(["cg-0"])
    wire.bus._came_up()
    mine = (direct_tunnel(wire.bus.tunnel, "cg-0"), 1)
    assert subscribed == [mine, ("/cgs/+/connection_status", 0), ("/site/+", 0), (REGISTRATION, 0), mine]
    assert wire.bus._connection._topics == [(wire.bus.tunnel, 1), (f"{wire.bus.tunnel}/ask", 0)]


def test_subscriptions_that_the_broker_refuses_are_told(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    one, two = direct_tunnel("t", "a"), direct_tunnel("t", "b")
    for topics in (("/site/+",), (one, two), ("/site/+", one, "elsewhere")):
        wire.bus._refused(topics)
    assert wire.told == [
        SubscriptionsRefused(presence=True),
        SubscriptionsRefused(direct=True),
        SubscriptionsRefused(presence=True, direct=True),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "the broker refuses our subscription to '/site/+'",
        f"the broker refuses our subscription to '{one}' and 1 more",
        "the broker refuses our subscription to '/site/+' and 2 more",
    ]


# -- the connection comes and goes -------------------------------------------------------------------


def test_a_connection_that_came_is_told_when_the_topics_are_asked_for(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wire.bus._came_up()
    assert wire.told == [ConnectionChanged(up=True)]
    assert [one["resource"] for one in wire.sent] == [DEPENDENCY + "/jobs"], "is the controller there?"
    assert "connected to the broker at 127.0.0.1:" in caplog.text


def test_with_the_connection_comes_how_long_messages_may_be(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for told in (100_000, None):  # it could not be asked again
        monkeypatch.setattr(wire.bus, "_ask_limit", lambda told=told: told)
        wire.bus._came_up()
        assert wire.told[-1] == ConnectionChanged(up=True, capacity=Capacity(100_000))


@pytest.mark.parametrize(
    ("route", "push", "limit_bytes", "held", "on"),
    [
        ("auto", "on", None, True, True),
        ("remote", "on", 66_000, True, True),
        ("auto", "on", 65_000, True, False),
        ("direct", "on", None, True, False),
        ("auto", "on", None, False, False),
        ("auto", "off", None, True, False),
    ],
)
def test_a_broker_that_holds_small_packets_back_is_pushed_where_that_serves(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    route: str,
    push: str,
    limit_bytes: int | None,
    held: bool,
    on: bool,
) -> None:
    caplog.set_level(logging.INFO)
    wire = Wire(monkeypatch, Clock(), route, push)
    monkeypatch.setattr(wire.bus, "_ask_limit", lambda: limit_bytes)
    monkeypatch.setattr(wire.bus, "_holds_back", lambda: held)
    wire.bus._came_up()
    assert wire.bus._connection.nudges.on == on
    assert ("set_tcp_nodelay" in caplog.text) == on


def test_something_is_waited_for_while_the_controller_answers(wire: Wire) -> None:
    waits = wire.bus._waits
    wire.bus.in_flight = 1
    assert not waits(), "the controller has never answered"
    wire.bus.prove()
    wire.owned(wire.sent[-1])
    assert waits()
    wire.bus.in_flight = 0
    assert not waits()
    wire.bus.ask(["cg-1"])
    assert waits()
    wire.owned(wire.sent[-1])
    assert not waits()


def test_a_connection_that_is_lost_is_told_with_what_has_not_left(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.bus._went_down((ID, ID + 1), None)
    assert wire.told == [ConnectionChanged(up=False, unsent=(ID, ID + 1))]
    assert "lost the broker" in caplog.text


def test_our_own_end_is_no_loss(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    wire.bus.stop()
    wire.bus._went_down((), None)
    assert wire.told == [ConnectionChanged(up=False)]
    assert not caplog.records


def test_the_answer_to_a_question_of_an_earlier_connection_is_dropped(wire: Wire) -> None:
    wire.bus.ask(["cg-1"])
    wire.bus.prove()
    asked, proving = wire.sent
    wire.bus._went_down((), None)
    assert (wire.bus._questions, wire.bus._probes, wire.bus._wanted) == ({}, {}, set())
    assert wire.owned(asked) == []
    assert wire.owned(proving) == []


# -- the watch over the controller -------------------------------------------------------------------


def test_the_controller_is_there_when_it_answers_and_gone_after_three_probes(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(module.MISSED_PROBES + 2):
        wire.bus._look_after()
    assert wire.told == [], "one that was never there is not lost"
    assert wire.owned(wire.sent[-1]) == [ControllerChanged(up=True)]
    wire.bus._look_after()
    assert wire.owned(wire.sent[-1]) == [], "told once"
    for _ in range(module.MISSED_PROBES):
        wire.bus._look_after()
    assert wire.told == []
    wire.bus._look_after()
    assert wire.told == [ControllerChanged(up=False)]
    assert [record.getMessage() for record in caplog.records] == ["the controller does not answer"]
    wire.bus._look_after()
    assert wire.told == [ControllerChanged(up=False)], "told once"
    assert wire.owned(wire.sent[-1]) == [ControllerChanged(up=True)]


def test_many_questions_at_once_are_no_sign_that_it_is_gone(wire: Wire) -> None:
    wire.bus._look_after()
    wire.owned(wire.sent[-1])
    wire.told.clear()
    for _ in range(10 * module.MISSED_PROBES):
        wire.bus.prove()
    wire.bus._look_after()
    assert wire.told == []


def test_an_answer_that_comes_as_it_is_given_up_is_told_last(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told last is what counts: else no request would leave any more, and nobody would say so."""
    told: list[BusEvent] = []
    wire.bus._listener = told.extend

    def answer() -> None:
        wire.owned(wire.sent[-1])

    network = threading.Thread(target=answer)

    def warning(*_: object, **__: object) -> None:
        network.start()
        network.join(0.2)  # without the lock its answer would be told first

    wire.bus._look_after()
    answer()
    monkeypatch.setattr(module.log, "warning", warning)
    for _ in range(module.MISSED_PROBES + 1):
        wire.bus._look_after()
    network.join()
    assert told == [ControllerChanged(up=True), ControllerChanged(up=False), ControllerChanged(up=True)]


def test_an_answer_says_the_same_of_all_that_was_asked_before(wire: Wire, clock: StandingClock) -> None:
    for _ in range(3):
        wire.bus._probe()
        clock.at_s += 1
    wire.owned(wire.sent[1])
    assert list(wire.bus._probes) == [wire.sent[2]["id"]]
    assert wire.owned(wire.sent[0]) == [], "it was not waited for any more"


def test_after_a_loss_the_controller_has_to_answer_again(wire: Wire) -> None:
    wire.bus._probe()
    wire.owned(wire.sent[-1])
    wire.bus._went_down((), None)
    wire.bus._came_up()
    assert wire.owned(wire.sent[-1]) == [ControllerChanged(up=True)]


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 200, "data": {"resources": ["/other"]}},
        {"code": 200, "data": {"resources": []}},
        {"code": 200, "data": {"resources": [5, None]}},
        {"code": 200, "data": {"resources": "/jobs"}},
        {"code": 200, "data": ["/jobs"]},
        {"code": 200},
        {"code": 404, "data": {"resources": ["/jobs"]}},
    ],
)
def test_a_controller_that_does_not_know_us_says_since_when(
    wire: Wire, clock: StandingClock, answer: dict[str, Any]
) -> None:
    clock.at_s = 5.0
    wire.bus._probe()
    wire.owned(wire.sent[-1])
    clock.at_s = 9.0
    wire.bus._probe()
    clock.at_s = 10.0
    assert wire.owned(wire.sent[-1], **answer) == [ControllerForgot(known_s=5.0, asked_s=9.0)]
    wire.bus._probe()
    assert wire.owned(wire.sent[-1], **answer) == [ControllerForgot(known_s=None, asked_s=10.0)]


def test_that_it_knows_us_is_told_to_who_wants_to_know(wire: Wire, clock: StandingClock) -> None:
    wire.bus._probe()
    wire.owned(wire.sent[-1])
    clock.at_s = 7.0
    wire.bus.prove()
    assert wire.owned(wire.sent[-1]) == [ControllerKnows(7.0)]
    assert (wire.bus._wanted, wire.bus.known_s) == (set(), 7.0)
    wire.bus._probe()
    assert wire.owned(wire.sent[-1]) == []


# -- whose lock it is, and whether the controller waits ------------------------------------------------


def test_the_owners_of_destinations_are_asked_for(wire: Wire) -> None:
    wire.bus.ask(["cg-1", "cg-2"])
    one, two = wire.sent
    assert [each["resource"] for each in wire.sent] == [
        "/controller/resource/dependency?resource=/remote/cg-1",
        "/controller/resource/dependency?resource=/remote/cg-2",
    ]
    assert {(each["method"], each["tunnel"]) for each in wire.sent} == {("get", f"{wire.bus.tunnel}/ask")}
    assert wire.owned(two) == [Owners("cg-2", ("/jobs",))]
    assert wire.owned(one, code=404) == [Owners("cg-1", None)]
    wire.bus.ask(["cg-1"], inquiry=True)
    assert wire.owned(wire.sent[-1], code=404) == [Owners("cg-1", None, inquiry=True)]
    assert wire.owned(one, code=404) == [], "it was answered"
    assert one["id"] != two["id"]


@pytest.mark.parametrize(
    ("answer", "resources"),
    [
        ({"code": 200, "data": {"resources": ["/remote/+", 5, "/b"]}}, ("/remote/+", "/b")),
        ({"code": 200, "data": {"resources": []}}, None),  # as the controller says it beside the HTTP bridge
        ({"code": 200, "data": {"resources": [5]}}, None),
        ({"code": 200, "data": {"resources": "/remote/+"}}, None),
        ({"code": 200, "data": "resources"}, None),
        ({"code": 404, "data": {"resources": ["/remote/+"]}}, None),
    ],
)
def test_who_owns_a_destination(wire: Wire, answer: dict[str, Any], resources: Any) -> None:
    wire.bus.ask(["cg-1"])
    assert wire.owned(wire.sent[0], **answer) == [Owners("cg-1", resources)]


def test_without_a_connection_no_question_is_open(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.bus._connection, "send", lambda _: False)
    wire.bus.ask(["cg-1"])
    assert wire.bus._questions == {}
    assert not wire.bus.send([Outgoing(1, b"{}")])
    assert not wire.bus.tell(b"{}")


def test_a_question_for_nobody_is_not_sent(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Any] = []
    monkeypatch.setattr(wire.bus._connection, "send", handed.append)
    wire.bus.ask([])
    assert handed == []


@pytest.mark.parametrize(
    ("code", "text", "held"),
    [(403, "'id' was used, please use another 'id'", True), (200, "", False), (404, "", False)],
)
def test_it_is_asked_under_the_messages_own_id_whether_it_waits(
    wire: Wire, code: int, text: str, held: bool
) -> None:
    wire.bus.check([ID])
    assert [(one["id"], one["resource"]) for one in wire.sent] == [(ID, DEPENDENCY + "/jobs")]
    said = {"id": ID, "code": code, "data": {"message": text}, "sign": ["controller"]}
    assert wire.comes(said, f"{wire.bus.tunnel}/ask") == [Held(ID, held)]
    assert wire.answered(said), "to what was sent; that is no word on whether it waits"


def test_what_a_gateway_answers_to_that_question_is_its_answer(wire: Wire) -> None:
    said = {"id": ID, "code": 200, "data": {"code": 200, "data": 1}, "sign": ["remote"]}
    told = wire.answered(said, f"{wire.bus.tunnel}/ask")
    assert (told.message, told.tunnel) == (ID, "")


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (
            {"method": "post", "data": {"name": "m", "resources": ["/remote/a", "/b", 5, "/remote/+"]}},
            Registering("m", ("/remote/a", "/remote/+")),
        ),
        ({"method": "POST", "data": {"resources": "/remote/a"}}, Registering("", ("/remote/a",))),
        (
            {
                "method": "post",
                "resource": f"{REGISTRATION}/m",
                "data": {"name": None, "resources": "/remote/a"},
            },
            Registering("m", ("/remote/a",)),
        ),
        ({"method": "delete", "resource": REGISTRATION, "data": {"name": "m"}}, Deregistering("m")),
        ({"method": "DELETE", "resource": f"{REGISTRATION}/m"}, Deregistering("m")),
        ({"method": "delete", "resource": REGISTRATION, "data": {}}, None),
        ({"method": "get", "data": {"resources": ["/remote/a"]}}, None),
        ({"method": "post", "data": {"resources": ["/other"]}}, None),
        ({"method": "post", "data": {}}, None),
        ({"method": "post", "data": ["/remote/a"]}, None),
        (["/remote/a"], None),
    ],
)
def test_who_asks_to_be_registered_is_told(
    wire: Wire, payload: Any, told: BusEvent | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert wire.comes(payload, REGISTRATION) == ([told] if told else [])
    assert (caplog.records, wire.bus.dropped) == ([], 0), (
        "what others say there is no fault of theirs or ours"
    )


def test_ids_of_questions_stay_in_their_range(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.bus, "_ids", iter([0, LAST_QUESTION_ID - FIRST_QUESTION_ID - 1, 2**30]))
    ids = [wire.bus._next_id() for _ in range(3)]
    assert ids[:2] == [FIRST_QUESTION_ID, LAST_QUESTION_ID - 1]
    assert FIRST_QUESTION_ID <= ids[2] <= LAST_QUESTION_ID


def test_why_there_is_no_connection_is_told_with_the_address(wire: Wire) -> None:
    connection = wire.bus._connection
    assert wire.bus.reason is None
    connection._attempts.failed(ConnectionRefusedError(111, "Connection refused"), greeted=False)
    assert str(wire.bus.reason).startswith("there is no connection to the broker at 127.0.0.1:")
    connection._attempts.worked()
    for _ in range(2):
        connection._endings.ended(1, known=True)
    assert str(wire.bus.reason).startswith("there is no connection to the broker at 127.0.0.1:")
    states = [wire.bus.connected]
    connection._up = True
    assert [*states, wire.bus.connected] == [False, True]
    assert str(wire.bus.reason).startswith("the broker ends our connection again and again")


def test_what_was_started_has_ended_after_stop(wire: Wire) -> None:
    wire.bus.start()
    assert [thread.name for thread in wire.bus.threads if thread.is_alive()] == ["pm-bus", "pm-watch"]
    wire.bus.stop()
    assert [thread.name for thread in wire.bus.threads if thread.is_alive()] == []


def test_while_the_connection_is_lost_the_controller_is_not_asked(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter([False, False, True])
    monkeypatch.setattr(wire.bus._stopping, "wait", lambda _: next(rounds))
    ups = iter([False, True])
    monkeypatch.setattr(type(wire.bus._connection), "up", property(lambda _: next(ups)))
    wire.bus._watch()
    assert len(wire.sent) == 1


def test_a_connection_over_which_the_controller_never_answers_is_made_anew(
    wire: Wire, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[str] = []
    monkeypatch.setattr(wire.bus._connection, "renew", renewed.append)
    monkeypatch.setattr(wire.bus._connection, "subscribe", lambda _: True)
    rest_s = module.SILENT_FIRST_S
    for times in (1, 2):
        wire.bus._came_up()
        clock.at_s += rest_s - 1
        wire.bus._renew_if_silent()
        assert len(renewed) == times - 1
        clock.at_s += 1
        wire.bus._renew_if_silent()
        assert renewed[-1] == f"the controller has not answered over it for {rest_s:g} s"
        wire.bus._renew_if_silent()
        assert len(renewed) == times, "once for each connection"
        rest_s *= 2
    wire.bus._came_up()
    wire.owned(wire.sent[-1])
    clock.at_s += 10 * module.SILENT_LAST_S
    wire.bus._renew_if_silent()
    assert len(renewed) == 2, "it answers"
    for _ in range(module.MISSED_PROBES + 1):
        wire.bus._look_after()
    clock.at_s += module.SILENT_FIRST_S
    wire.bus._renew_if_silent()
    assert len(renewed) == 3, "it answered once, and does not any more"
