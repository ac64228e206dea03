"""SteadySanji beside the SDK's own Sanji, both without a broker: what each makes of the same messages.

Where the two differ the test says which fault of the SDK (docs/sdk.md) it is, and shows that the SDK has it.
"""

import inspect
import itertools
import json
import logging
import os
import platform
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from voluptuous import Required, Schema

from puppetmaster.bundle import envelope, runtime, sdk
from puppetmaster.bundle.runtime import WAITING_LIMIT, SteadySanji
from puppetmaster.errors import Conflict, PuppetmasterError, StoreError, Unavailable
from tests.desk import until

Message = dict[str, Any]
PROFILE: Message = {
    "name": "sample",
    "description": "a sample",
    "role": "model",
    "ttl": 10,
    "resources": [{"methods": ["get"], "resource": "/things/:id"}],
}
lets_threads_die = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class DeadLink:
    """A connection that carries nothing: keeps what is published, and can be `away`."""

    def __init__(self) -> None:
        self.published: queue.Queue[Message] = queue.Queue()
        self.away = False
        self.acknowledges = True
        self.subscribed: dict[str, tuple[Any, Any]] = {}
        self.unheard: list[str] = []
        self.connects = 0
        self.tunnels: dict[str, tuple[Any, Any]] = {
            "internel": ("i", None),
            "model": (None, None),
            "view": (None, None),
        }
        self._mids = itertools.count(1)
        self._on_publish: Callable[[Any, Any, int], None]

    def set_on_publish(self, function: Callable[[Any, Any, int], None]) -> None:
        self._on_publish = function

    def set_on_message(self, function: Any) -> None: ...

    def set_on_connect(self, function: Any) -> None: ...

    def set_tunnels(self, tunnels: Any) -> None:
        self.subscribed = dict(tunnels)

    def set_tunnel(self, kind: str, tunnel: str, callback: Any = None) -> None:
        self.tunnels[kind] = (tunnel, callback)

    def message_callback_remove(self, tunnel: str) -> None:
        self.unheard.append(tunnel)

    def connect(self) -> None:
        self.connects += 1

    def disconnect(self) -> None: ...

    def publish(self, topic: str = "/controller", qos: int = 2, payload: Any = None) -> int:
        if self.away:
            raise RuntimeError("No connection")
        text = getattr(payload, "encoded_json", None)
        mid = next(self._mids)
        self.published.put({"qos": qos, **(json.loads(text) if text else payload)})
        if self.acknowledges:
            self._on_publish(None, None, mid)
        return mid


#: What a handler raises that is told to.
RAISED = {
    "raises": KeyError("secret"),
    "exits": SystemExit(3),
    "conflicts": Conflict("not now"),
    "store": StoreError(),
    "ours": PuppetmasterError("said by us"),
    "unavailable": Unavailable("later"),
}


class Routes:
    """The routes of both bundles."""

    def init(self, *_args: Any, **_kwargs: Any) -> None:
        self.calls: queue.Queue[str] = queue.Queue()
        self.gate = threading.Event()

    @sdk.Route(methods="get", resource="/things/:id")
    def get(self, message: Any, response: Any) -> None:
        self.calls.put("get")
        response(data={"id": message.param["id"], "query": message.query})

    @sdk.Route(methods="post", resource="/things/:id")
    def echo(self, message: Any, response: Any) -> None:
        response(code=201, data=message.data)

    @sdk.Route(methods="get", resource="/things/all")
    def get_all(self, message: Any, response: Any) -> None:
        self.calls.put("get_all")
        response(data="all")

    @sdk.Route(methods="post", resource="/checked", schema=Schema({Required("a"): int}))
    def checked(self, message: Any, response: Any) -> None:
        response(data=message.data)

    @sdk.Route(methods="put", resource="/broken/:how")
    def broken(self, message: Any, response: Any) -> None:
        how = message.param["how"]
        if how in RAISED:
            raise RAISED[how]
        if how == "unserialisable":
            response(data=object())
        if how == "nan":
            response(data=float("nan"))
        if how == "large":
            response(data="x" * 1_100_000)
        if how == "twice":
            response(data=1)
            response(data=2)
        if how == "after":
            response(data=1)
            raise KeyError("secret")

    @sdk.Route(methods="get", resource="/busy")
    def busy(self, message: Any, response: Any) -> None:
        self.calls.put("busy")
        self.gate.wait(60)
        response()

    @sdk.Route(methods="put", resource="/things/:id")
    def event(self, message: Any) -> None:
        self.calls.put("event")


class Plain(Routes, sdk.Sanji):  # type: ignore[misc]
    """The SDK's own."""


class Steady(Routes, SteadySanji):
    """Ours."""


class Bench:
    """A bundle on a dead link with its threads running."""

    def __init__(self, kind: type[Any], **settings: Any) -> None:
        self.link = DeadLink()
        profile = sdk.Bundle(load=False)
        profile.profile = {**PROFILE, **settings}
        self.bundle = _off_the_main_thread(lambda: kind(bundle=profile, connection=self.link))
        self.bundle._create_thread_pool()
        self.threads = [thread for thread, _ in self.bundle.thread_list]
        self._ids = itertools.count(1)

    def deliver(self, message: Message | bytes) -> None:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.bundle.on_sanji_message(None, None, SimpleNamespace(payload=payload))

    def ask(self, method: Any, resource: Any, **more: Any) -> Message:
        """Deliver a request and return its answer; ten seconds without one are a failure."""
        message_id = next(self._ids)
        self.deliver({"id": message_id, "tunnel": "t", "method": method, "resource": resource, **more})
        return self.answer(message_id)

    def answer(self, message_id: Any = None, timeout_s: float = 10) -> Message:
        answer = self.link.published.get(timeout=timeout_s)
        assert message_id is None or answer["id"] == message_id
        return answer

    def silent(self) -> bool:
        """Whether nothing is published for a while."""
        with suppress(queue.Empty):
            self.link.published.get(timeout=0.3)
            return False
        return True

    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)

    def died(self) -> bool:
        """Wait for a thread to end; whether one did."""
        deadline = time.monotonic() + 10
        while self.alive() == len(self.threads) and time.monotonic() < deadline:
            time.sleep(0.005)  # a thread gives no event when it dies
        return self.alive() < len(self.threads)

    def close(self) -> None:
        self.bundle.gate.set()
        self.bundle._session.stop_event.set()
        if isinstance(self.bundle, SteadySanji):
            self.bundle.stop()
            assert self.alive() == 0
        for _, stop in self.bundle.thread_list:
            stop()


def _off_the_main_thread(make: Callable[[], Any]) -> Any:
    """Make a plain SDK bundle where it does not take SIGINT away from pytest."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(make()), name="maker")
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture
def steady() -> Iterator[Bench]:
    bench = Bench(Steady)
    yield bench
    bench.close()


@pytest.fixture
def plain() -> Iterator[Bench]:
    bench = Bench(Plain)
    yield bench
    bench.close()


# ---- requests and answers -----------------------------------------------------------------------------


def test_a_request_is_answered_by_its_handler(steady: Bench, caplog: pytest.LogCaptureFixture) -> None:
    answer = steady.ask("GET", "/things/00:0c:29:1c:e8:01?a=1&b=")
    assert answer == {
        "id": 1,
        "code": 200,
        "method": "get",
        "resource": "/things/00:0c:29:1c:e8:01?a=1&b=",
        "data": {"id": "00:0c:29:1c:e8:01", "query": {"a": "1", "b": True}},
        "sign": ["sample"],
        "qos": 1,
    }
    assert caplog.records == []


@pytest.mark.parametrize("data", [None, True, 0, 1.5, "x", "\ud800\0", [], [1, [2]], {}, {"a": {"b": None}}])
def test_data_of_any_kind_passes(steady: Bench, data: Any) -> None:
    expected = "\ufffd\ufffd" if data == "\ud800\0" else data  # the controller would drop the answer
    answer = steady.ask("post", "/things/1", data=data)
    assert (answer["code"], answer["data"]) == (201, expected)


def test_data_that_is_absent_is_none(steady: Bench, plain: Bench) -> None:
    """F16: the SDK leaves the attribute out; a handler that looks at it fails."""
    assert steady.ask("post", "/things/1")["data"] is None
    assert plain.ask("post", "/things/1")["code"] == 500


def test_data_of_one_megabyte_is_not_copied_for_each_route(steady: Bench) -> None:
    """F17: the SDK copies it deeply for each route that fits."""
    data = [[1, 2, 3]] * 60_000
    answer = steady.ask("post", "/things/1", data=data)
    assert answer["data"] == data


@pytest.mark.parametrize(
    ("depth", "codes"), [(150, {201}), (800, {201, 400, 500}), (2000, {201, 400, 500}), (100_000, {400})]
)
def test_nested_data_is_answered_however_deep(steady: Bench, depth: int, codes: set[int]) -> None:
    """F5: what Python cannot decode is answered too; the controller passes up to 2,048 levels."""
    nested = b"[" * depth + b"]" * depth
    steady.deliver(b'{"id": 1, "method": "post", "resource": "/things/1", "data": %s}' % nested)
    assert steady.answer(1)["code"] in codes
    assert steady.ask("get", "/things/1")["code"] == 200


def test_a_schema_says_what_is_wrong(steady: Bench, plain: Bench) -> None:
    """F16: and to a request without data the SDK says 500."""
    assert steady.ask("post", "/checked", data={"a": 1})["data"] == {"a": 1}
    answer = steady.ask("post", "/checked", data={"a": "x", "b": 1})
    assert answer["code"] == 400
    assert {fault["path"] for fault in answer["data"]["errors"]} == {"a", "b"}
    assert steady.ask("post", "/checked")["code"] == 400
    assert plain.ask("post", "/checked")["code"] == 500


def test_of_two_routes_that_fit_the_literal_one_runs_alone(steady: Bench, plain: Bench) -> None:
    """F17: the SDK runs both, and the first answer counts."""
    assert steady.ask("get", "/things/all")["data"] == "all"
    assert steady.ask("get", "/things/1")["code"] == 200
    assert [steady.bundle.calls.get_nowait() for _ in range(2)] == ["get_all", "get"]
    plain.ask("get", "/things/all")
    plain.answer()
    assert plain.bundle.calls.qsize() == 2


def test_an_unknown_resource_is_404(steady: Bench) -> None:
    answer = steady.ask("get", "/nothing")
    assert (answer["code"], answer["data"]) == (404, {"message": "there is no resource /nothing here"})
    answer = steady.ask("get", "/" + "x" * 300)
    assert answer["data"] == {"message": f"there is no resource /{'x' * 199} here"}
    answer = steady.ask("y" * 30, "/busy")
    assert answer["data"] == {"message": f"expected get here, got {'y' * 20}"}


@pytest.mark.parametrize("method", ["patch", "delete", "HEAD", "", " get"])
def test_an_unknown_method_is_answered_in_words(steady: Bench, method: str) -> None:
    answer = steady.ask(method, "/busy")
    assert answer["code"] == (405 if method else 400)
    assert ("expected get here" if method else "expected a non-empty string") in answer["data"]["message"]


def test_a_handler_for_events_is_not_taken_for_one_of_requests(steady: Bench, plain: Bench) -> None:
    """F17: the SDK finds a handler with two parameters, does not call it, and never answers."""
    assert steady.ask("put", "/things/1")["code"] == 405
    plain.deliver({"id": 9, "tunnel": "t", "method": "put", "resource": "/things/1"})
    assert plain.silent()


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("raises", 500, "internal error"),
        ("exits", 500, "internal error"),
        ("unserialisable", 500, "internal error"),
        ("nan", 500, "internal error"),
        ("silent", 500, "internal error"),
        ("store", 503, "The store cannot be read"),
        ("ours", 500, "said by us"),
        ("unavailable", 503, "later"),
        ("conflicts", 409, "not now"),
        ("large", 413, "ask for less"),
    ],
)
def test_whatever_a_handler_does_an_answer_leaves(
    steady: Bench,
    how: str,
    code: int,
    text: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F15, F17: one without a traceback; a write without an answer stays locked until ttl."""
    monkeypatch.setenv("SANJI_ENV", "debug")
    answer = steady.ask("put", f"/broken/{how}")
    assert answer["code"] == code
    assert text in answer["data"]["message"]
    assert set(answer["data"]) == {"message"}
    assert (code in (500, 503)) == bool(caplog.records)
    traced = [one.exc_info is not None for one in caplog.records]
    assert traced == [code == 500 and how != "silent"] * bool(caplog.records), "what is foreseen has no trace"
    assert steady.alive() == 4


def test_the_sdk_answers_with_a_traceback_or_not_at_all(plain: Bench) -> None:
    """F15, F17: the faults themselves."""
    assert "core.py" in plain.ask("put", "/broken/raises")["data"]["traceback"]
    plain.deliver({"id": 9, "tunnel": "t", "method": "put", "resource": "/broken/silent"})
    assert plain.silent()


@pytest.mark.parametrize("how", ["twice", "after"])
def test_only_the_first_answer_leaves(steady: Bench, how: str) -> None:
    assert steady.ask("put", f"/broken/{how}")["data"] == 1
    assert steady.silent()


def test_handlers_run_side_by_side(steady: Bench) -> None:
    for number in range(2):
        steady.deliver({"id": 100 + number, "method": "get", "resource": "/busy"})
        assert steady.bundle.calls.get(timeout=10) == "busy"
    assert steady.ask("get", "/things/1")["code"] == 200


def test_more_requests_than_can_wait_are_answered_503(steady: Bench) -> None:
    """Memory is bounded, and nobody is left without an answer."""
    for number in range(3):
        steady.deliver({"id": 100 + number, "method": "get", "resource": "/busy"})
        steady.bundle.calls.get(timeout=10)
    over = 0
    while steady.link.published.empty():
        over += 1
        assert over < 2 * WAITING_LIMIT
        steady.deliver({"id": 200 + over, "method": "get", "resource": "/things/1"})
        while not steady.bundle.res_queue.empty():
            time.sleep(0)  # the reader takes it in at once
    assert steady.answer()["code"] == 503
    assert over == WAITING_LIMIT + 1


def test_large_requests_that_wait_are_bounded_by_their_bytes(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "WAITING_BYTES", 100_000)
    for number in range(3):
        steady.deliver({"id": 100 + number, "method": "get", "resource": "/busy"})
        steady.bundle.calls.get(timeout=10)
    over, text = 0, "x" * 10_000
    while steady.link.published.empty():
        over += 1
        assert over < 20
        steady.deliver({"id": 200 + over, "method": "post", "resource": "/things/1", "data": text})
        until(lambda: steady.bundle.res_queue.empty() and not steady.bundle._unread._bytes, "it was read")
    assert steady.answer()["code"] == 503
    assert over == 10


def test_what_waits_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WAITING_BYTES", 10)
    waiting = runtime._Waiting()
    assert [waiting.add(size) for size in (6, 4, 1)] == [True, True, False]
    waiting.remove(4)
    assert [waiting.add(size) for size in (5, 4)] == [False, True]
    waiting.remove(10)
    assert waiting.add(1000), "it is alone"


# ---- hostile messages ---------------------------------------------------------------------------------

SHADOWS = [
    "type",
    "_type",
    "match",
    "to_response",
    "to_json",
    "to_dict",
    "to_event",
    "generate_id",
    "param",
    "query",
    "__init__",
]


@pytest.mark.parametrize("key", SHADOWS)
def test_a_key_hides_no_method(steady: Bench, key: str) -> None:
    """F5: the SDK makes each key an attribute."""
    assert steady.ask("get", "/things/1", **{key: 5})["data"] == {"id": "1", "query": {}}


@pytest.mark.parametrize("key", ["__class__", "__dict__"])
def test_a_key_does_not_exchange_the_message(steady: Bench, key: str) -> None:
    assert steady.ask("get", "/things/1", **{key: {"a": 1}})["code"] == 200


def test_with_the_sdk_a_key_raises_on_the_network_thread(plain: Bench) -> None:
    """F5, the fault itself: paho ends its thread for it, and the bundle is deaf."""
    with pytest.raises(TypeError):
        plain.deliver({"id": 1, "method": "get", "resource": "/things/1", "type": 5})


@lets_threads_die
@pytest.mark.parametrize("message", [{"match": 5}, {"method": 5}, {"resource": 5}])
def test_with_the_sdk_a_message_ends_a_dispatcher(plain: Bench, message: Message) -> None:
    """F4, F5, the faults themselves: three of them, and the bundle is deaf."""
    plain.deliver({"id": 1, "method": "get", "resource": "/things/1", **message})
    assert plain.died()


@pytest.mark.parametrize("wrong", [5, 0, None, True, [], {}, ["get"], "", 1.5])
@pytest.mark.parametrize("key", ["method", "resource"])
def test_a_request_that_is_none_is_answered_400_in_words(steady: Bench, key: str, wrong: Any) -> None:
    """F5: as it has an id, somebody waits for its answer, and a write of it is locked."""
    shown = "a list" if isinstance(wrong, list) else "an object" if wrong == {} else json.dumps(wrong)
    answer = steady.ask(**{"method": "get", "resource": "/things/1", key: wrong})
    assert answer["code"] == 400
    assert answer["data"]["errors"] == [{"path": key, "message": f"expected a non-empty string, got {shown}"}]
    assert steady.alive() == 4


def test_a_request_without_anything_but_an_id_is_answered(steady: Bench) -> None:
    steady.deliver({"id": 2**32 - 1})
    assert steady.answer(2**32 - 1)["code"] == 400


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"5",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe\x00",
        b"{}",
        b'{"id": null, "method": "get", "resource": "/things/1"}',
        b'{"id": [1], "method": "get", "resource": "/things/1"}',
        b'{"id": {}, "code": {}}',
        b'{"id": 5, "code": 200}',
        b'{"id": 5, "code": 200, "method": 5, "resource": 5, "sign": 5, "type": 5}',
        b'{"code": 200, "method": "put", "resource": "/things/1"}',
        b'{"id": 1e999}',
        b"[" * 100_000,
        b'{"id": ' * 100_000,
    ],
)
def test_what_nobody_waits_for_is_dropped_and_no_thread_dies(
    steady: Bench, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """F5, F8: no message at all, events, and answers to nobody."""
    steady.deliver(payload)
    assert steady.ask("get", "/things/1")["id"] == 1
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == [], "it is no fault of ours"
    assert steady.alive() == 4
    assert list(steady.bundle.calls.queue) == ["get"]  # the handler for events was not called


def test_with_the_sdk_an_answer_to_nobody_runs_a_handler(plain: Bench) -> None:
    """F8, the fault itself."""
    plain.deliver({"id": 5, "code": 200, "method": "put", "resource": "/things/1", "sign": ["x"]})
    assert plain.bundle.calls.get(timeout=10) == "event"


def test_a_flood_while_nobody_reads_is_cut_off(steady: Bench, caplog: pytest.LogCaptureFixture) -> None:
    reading = threading.Event()
    released = threading.Event()

    def slow(payload: bytes) -> None:
        reading.set()
        released.wait(60)

    steady.bundle._read = slow
    steady.deliver(b"first")
    assert reading.wait(10)
    for _ in range(WAITING_LIMIT + 5):
        steady.deliver(b"more")
    assert steady.bundle.res_queue.qsize() == WAITING_LIMIT
    assert sum("waiting to be read" in record.message for record in caplog.records) == 1
    released.set()


# ---- the broker is away or slow -----------------------------------------------------------------------


def test_a_flood_of_large_messages_is_cut_off_by_its_bytes(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "WAITING_BYTES", 1000)
    reading, released = threading.Event(), threading.Event()

    def slow(payload: bytes) -> None:
        reading.set()
        released.wait(60)

    steady.bundle._read = slow
    steady.deliver(b"x" * 2000)  # one that is alone is read, whatever its size
    assert reading.wait(10)
    for _ in range(5):
        steady.deliver(b"more")
    assert steady.bundle.res_queue.qsize() == 0
    released.set()
    until(lambda: not steady.bundle._unread._bytes, "it was read")
    steady.deliver(b"more")
    until(lambda: not steady.bundle._unread._bytes, "this one too")


def test_answers_without_a_broker_end_no_dispatcher(steady: Bench) -> None:
    """F4: the SDK raises in its error handler, and each time a dispatcher ends."""
    steady.link.away = True
    for number in range(6):
        steady.deliver({"id": 100 + number, "method": "get", "resource": "/things/1"})
        steady.bundle.calls.get(timeout=10)
    steady.link.away = False
    assert steady.ask("get", "/things/1")["id"] == 1
    assert steady.alive() == 4


@lets_threads_die
def test_with_the_sdk_an_answer_without_a_broker_ends_a_dispatcher(plain: Bench) -> None:
    """F4, the fault itself."""
    plain.link.away = True
    plain.deliver({"id": 1, "tunnel": "t", "method": "get", "resource": "/things/1"})
    assert plain.died()


@pytest.mark.parametrize(("bench", "answers"), [(Steady, 5), (Plain, 3)], ids=["steady", "plain"])
def test_an_answer_waits_for_no_acknowledgement(bench: type[Any], answers: int) -> None:
    """F10, F12: with the SDK each dispatcher waits for the broker's, ten seconds and more when none comes."""
    made = Bench(bench)
    made.link.acknowledges = False
    for number in range(1, 6):
        made.deliver({"id": number, "tunnel": "t", "method": "get", "resource": "/things/1"})
    for _ in range(answers):
        made.answer()
    assert made.silent()
    made.close()


@pytest.mark.parametrize("away", [False, True])
def test_an_event_waits_for_no_acknowledgement(steady: Bench, away: bool) -> None:
    """F10, F11, F12: the SDK waits, and fails without a broker."""
    steady.link.acknowledges = False
    steady.link.away = away
    steady.bundle.publish.event.put("/jobs/1", data={"id": 1, "name": "\0"})
    if not away:
        assert steady.answer() == {
            "code": 200,
            "method": "put",
            "resource": "/jobs/1",
            "data": {"id": 1, "name": "\ufffd"},
            "qos": 0,
        }


@pytest.mark.parametrize("kind", [Steady, Plain], ids=["steady", "plain"])
def test_acknowledgements_do_not_hold_back_a_timeout(kind: type[Any]) -> None:
    """F6, F10, F11: the SDK's sessions age only while no acknowledgement comes."""
    made = Bench(kind)
    ended: queue.Queue[type[Exception]] = queue.Queue()

    def ask() -> None:
        try:
            made.bundle.publish.direct.get("/x", timeout=0.5)
        except sdk.SdkTimeout as error:
            ended.put(type(error))

    asking = threading.Thread(target=ask, name="asking", daemon=True)
    asking.start()
    made.answer()
    for mid in range(1000, 1015):  # 1.5 s of traffic
        made.bundle.on_publish(None, None, mid)
        asking.join(0.1)
    assert asking.is_alive() == (kind is Plain)
    assert ended.get(timeout=10) is sdk.SdkTimeout
    made.close()


def test_the_queue_of_acknowledgements_stays_empty(steady: Bench) -> None:
    """F10: the SDK's holds 100, and drops what comes then."""
    for mid in range(500):
        steady.bundle.on_publish(None, None, mid)
    assert steady.bundle._session.resolve_queue.empty()


# ---- the link -----------------------------------------------------------------------------------------


def test_connecting_never_joins_a_thread(steady: Bench) -> None:
    """F3: registration under way when the link flaps."""
    for _ in range(20):
        begun = time.monotonic()
        steady.bundle.on_connect(None, None, {}, 0)
        steady.bundle.on_disconnect(None, None, 1)
        assert time.monotonic() - begun < 1


def test_with_the_sdk_connecting_waits_for_the_registration_before(plain: Bench) -> None:
    """F3, the fault itself: on the network thread, for which that registration waits in turn."""
    plain.bundle.reg_delay = 60
    plain.bundle.on_connect(None, None, {}, 0)
    second = threading.Thread(target=plain.bundle.on_connect, args=(None, None, {}, 0), name="b", daemon=True)
    second.start()
    second.join(0.5)
    assert second.is_alive()


def test_a_refused_connection_is_not_registered(steady: Bench, caplog: pytest.LogCaptureFixture) -> None:
    steady.bundle.on_connect(None, None, {}, 5)
    assert steady.link.published.empty()
    assert "refused the connection with code 5" in caplog.text


def test_connecting_subscribes_the_channel_and_what_is_there(
    steady: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    steady.bundle.on_connect(None, None, {}, 0)
    assert steady.link.subscribed == {"internel": ("i", None), "model": (None, None), "view": (None, None)}
    assert steady.link.tunnels["channel"][0] == steady.bundle.channel.tunnel
    assert caplog.records == []


def test_the_tunnel_that_the_controller_gives_takes_the_place_of_the_one_before(steady: Bench) -> None:
    for tunnel, unheard in (("1", []), ("1", []), ("2", ["1"])):
        steady.bundle._accept("model", tunnel)
        assert steady.link.tunnels["model"] == (tunnel, steady.bundle.on_sanji_message)
        assert steady.link.unheard == unheard


def test_where_the_sdk_looks_for_it_is_said_that_we_are_registered(steady: Bench) -> None:
    steady.bundle.registration.count = 3
    assert not steady.bundle.is_ready.is_set()
    steady.bundle._accept("model", "808")
    steady.bundle._announce()
    said = steady.bundle.bundle.profile
    assert (said["currentTunnels"], said["regCount"]) == (["i", "808", None], 3)
    assert steady.bundle.is_ready.is_set()
    assert steady.bundle.registered is steady.bundle.registration.registered


def test_who_signs_an_answer_may_be_said(steady: Bench) -> None:
    steady.bundle.publish.create_response(sdk.Message({"id": 1, "method": "get", "resource": "/a"}), "me")()
    assert steady.answer(1)["sign"] == ["me"]


@pytest.mark.parametrize(
    ("link", "registration", "reason"),
    [
        (None, None, None),
        (None, "refused", "refused"),
        (SimpleNamespace(reason=None), "refused", "refused"),
        (SimpleNamespace(reason="gone"), "refused", "the bus door has no connection to the broker: gone"),
    ],
)
def test_why_requests_do_not_reach_us(
    steady: Bench, link: Any, registration: Any, reason: str | None
) -> None:
    if link is not None:
        setattr(steady.link, "attempts", link)  # noqa: B010 # the SDK's own connection has none
    steady.bundle.registration.reason = registration
    assert steady.bundle.why_not_registered() == reason


def test_who_we_are_is_answered_however_busy_the_handlers_are(steady: Bench) -> None:
    for number in range(3):
        steady.deliver({"id": 100 + number, "method": "get", "resource": "/busy"})
        steady.bundle.calls.get(timeout=10)
    steady.bundle.installation = "one"
    answer = steady.ask("get", "/system/sample/one")
    who = {"installation": "one", "process": steady.bundle.process, "pid": os.getpid()}
    assert (answer["code"], answer["data"]) == (200, {**who, "host": platform.node()})


def test_the_answer_to_a_request_of_ours_finds_who_waits_for_it(steady: Bench) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    direct = steady.bundle.publish.direct
    asking = threading.Thread(target=lambda: answers.put(direct.get("/x", timeout=10)), name="asking")
    asking.start()
    asked = steady.answer()
    steady.deliver(b'{"id": %d, "code": 200, "data": NaN}' % asked["id"])  # nobody can tell what it says
    steady.deliver({"id": asked["id"], "code": 200, "data": {"a": 1}, "sign": ["b"], "match": 5})
    answer = answers.get(timeout=10)
    asking.join(10)
    assert (answer.code, answer.data, answer.sign) == (200, {"a": 1}, ["b"])
    assert callable(answer.match), "no key hides a method"


# ---- making one ---------------------------------------------------------------------------------------


def _roleless(kind: type[Any]) -> Any:
    bundle = sdk.Bundle(load=False)
    bundle.profile = {key: value for key, value in PROFILE.items() if key != "role"}
    return _off_the_main_thread(lambda: kind(bundle=bundle, connection=DeadLink()))


def test_a_bundle_without_a_role_is_a_model() -> None:
    """F22: the SDK's registration thread ends with a KeyError."""
    made = _roleless(Steady)
    assert made.get_profile("model")["role"] == "model"
    made.stop()
    made = _roleless(Plain)
    with pytest.raises(KeyError):
        made.get_profile("model")
    made._session.stop_event.set()


def test_patterns_of_routes_are_registered_with_wildcards(steady: Bench) -> None:
    (profile,) = steady.bundle._profiles()
    assert profile["resources"] == ["/things/+", f"/system/sample/{steady.bundle.installation}"]


def test_a_view_has_no_resource_of_its_own() -> None:
    view = {"methods": ["put"], "resource": "/jobs/:id", "role": "view"}
    bench = Bench(Steady, resources=[*PROFILE["resources"], view])
    assert [(one["name"], len(one["resources"])) for one in bench.bundle._profiles()] == [
        ("sample", 2),
        ("sample-view", 1),
    ]
    bench.close()


def _decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(self: Any) -> None:
        self.was_called = True

    return wrapper


def test_only_routes_are_run_when_a_bundle_is_made() -> None:
    """F21: the SDK takes every method whose name is "wrapper" for a route."""

    class SteadyDecorated(Steady):
        @_decorated
        def helper(self) -> None: ...

    class PlainDecorated(Plain):
        @_decorated
        def helper(self) -> None: ...

    bench = Bench(SteadyDecorated)
    assert not hasattr(bench.bundle, "was_called")
    bench.close()
    with pytest.raises(AttributeError, match="_order"):
        PlainDecorated(bundle=Mock(), connection=DeadLink())


def test_no_property_is_evaluated_when_a_bundle_is_made() -> None:
    """F21: the SDK evaluates every attribute before init; ours has none that does anything."""
    assert [
        name for name, _ in inspect.getmembers(SteadySanji, lambda member: isinstance(member, property))
    ] == []


def test_init_gets_what_was_given_and_can_already_send_events() -> None:
    class Eager(Steady):
        def init(self, *_args: Any, **kwargs: Any) -> None:
            super().init()
            self.given = kwargs
            self.publish.event.put("/jobs/1", data=1)

    link = DeadLink()
    link.acknowledges = False
    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    event = threading.Event()
    made = Eager(bundle=profile, connection=link, stop_event=event, service="s")
    assert made.given == {"bundle": profile, "connection": link, "stop_event": event, "service": "s"}
    assert made.stop_event is event
    assert link.published.get_nowait()["data"] == 1
    made.stop()


def test_making_one_leaves_the_signals_alone() -> None:
    """The SDK takes SIGINT when it is made; here start() does, and gives it back."""

    class Looking(Steady):
        def init(self, *_args: Any, **_kwargs: Any) -> None:
            super().init()
            self.meanwhile = signal.getsignal(signal.SIGTERM)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Looking(bundle=profile, connection=DeadLink())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert made.meanwhile == before[1], "what asks it to end then does so"
    made.stop()


def test_without_a_connection_it_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: the SDK refuses, and its own one would take the port for a string."""
    monkeypatch.setenv(sdk.PORT_VARIABLE, "1899")
    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Steady(bundle=profile)
    assert made._conn.broker_port == 1899
    assert made._conn.client.on_disconnect == made.on_disconnect
    assert made._conn.instead is envelope.refused
    made.stop()


def test_the_sdks_mockup_serves_to_test_handlers() -> None:
    """F18: `mock` is in tests/requirements.txt; no answer waits for Mockup, which never acknowledges."""
    from sanji.connection.mockup import Mockup

    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Steady(bundle=profile, connection=Mockup())
    response = Mock()
    made.get(message=SimpleNamespace(param={"id": "1"}, query={}), response=response, test=True)
    response.assert_called_once_with(data={"id": "1", "query": {}})
    made.publish.create_response(sdk.Message({"id": 1, "method": "get", "resource": "/a"}), "me")(data=1)
    made.stop()


# ---- stopping -----------------------------------------------------------------------------------------


def test_stop_calls_before_stop_once_and_survives_it(caplog: pytest.LogCaptureFixture) -> None:
    class Leaving(Steady):
        left = 0

        def before_stop(self) -> None:
            self.left += 1
            raise KeyError("oh")

    bench = Bench(Leaving)
    bench.close()
    bench.bundle.stop()
    assert bench.bundle.left == 1
    assert "before_stop() failed" in caplog.text


def test_stop_does_not_wait_for_a_busy_handler(steady: Bench) -> None:
    """F13: the SDK joins it without limit."""
    steady.deliver({"id": 1, "method": "get", "resource": "/busy"})
    steady.bundle.calls.get(timeout=10)
    begun = time.monotonic()
    steady.bundle.stop()
    assert time.monotonic() - begun < 3
    steady.bundle.gate.set()
    assert steady.answer(1)["code"] == 200
    for thread in steady.threads:
        thread.join(10)


def test_requests_that_wait_are_answered_before_the_end(steady: Bench) -> None:
    for number in range(1, 51):
        steady.deliver({"id": number, "method": "get", "resource": "/things/1"})
    while steady.link.published.qsize() < 1:
        pass
    steady.bundle.stop()
    assert steady.link.published.qsize() == 50


def test_start_returns_when_stop_event_is_set_and_run_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Running(Steady):
        def run(self) -> None:
            raise KeyError(f"ready: {self.is_ready.is_set()}")

    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Running(bundle=profile, connection=DeadLink())
    thread = threading.Thread(target=made.start, name="test-start")
    with caplog.at_level(logging.ERROR):
        thread.start()
        until(lambda: hasattr(made, "main_thread") and made.main_thread.ident, "it waits to be run")
        made.is_ready.set()
        made.stop_event.set()
        thread.join(10)
        made.main_thread.join(10)
    assert not thread.is_alive()
    assert "run() failed" in caplog.text
    assert "KeyError: 'ready: True'" in caplog.text, "not before it is registered"
    assert made.main_thread.daemon, "it may go on for ever"


@pytest.mark.parametrize(
    ("before", "stopping", "fault"),
    [(None, False, "the thread sdk-some has ended"), ("older", False, "older"), (None, True, "None")],
)
def test_a_thread_that_ends_is_a_fault_unless_all_end(
    steady: Bench, monkeypatch: pytest.MonkeyPatch, before: str | None, stopping: bool, fault: str
) -> None:
    thread = threading.Thread(target=int, name="sdk-some")
    monkeypatch.setattr(steady.bundle, "threads", lambda: [thread, threading.current_thread()])
    steady.bundle._look_after_threads()
    assert steady.bundle.fault is None
    thread.start()
    thread.join()
    steady.bundle.fault = before
    if stopping:
        steady.bundle.stop_event.set()
    steady.bundle._look_after_threads()
    assert str(steady.bundle.fault).startswith(fault)


def test_start_returns_when_a_stop_on_another_thread_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "STOP_S", 600.0)

    class Leaving(Steady):
        def before_stop(self) -> None:
            self.calls.put("leaving")
            self.gate.wait(60)

    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Leaving(bundle=profile, connection=DeadLink())
    starting = threading.Thread(target=made.start, name="test-start")
    stopping = threading.Thread(target=made.stop, name="test-stop")
    starting.start()
    stopping.start()
    made.calls.get(timeout=10)
    starting.join(0.3)
    assert starting.is_alive()
    made.gate.set()
    for thread in (starting, stopping):
        thread.join(10)
    assert not starting.is_alive()
    assert not made.is_ready.is_set()
    assert not made._session.thread_aging.is_alive()


@pytest.mark.parametrize("alone", [True, False])
def test_a_fault_ends_it_where_it_is_alone_in_its_process(
    monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Beside other bundles it says what is wrong, and goes on as far as it can."""
    limits_s: list[int] = []
    monkeypatch.setattr(runtime, "end_within", limits_s.append)
    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Steady(bundle=profile, connection=DeadLink())
    ended = threading.Thread(target=int, name="sdk-some")
    ended.start()
    ended.join()
    monkeypatch.setattr(made, "threads", lambda: [ended])
    made.alone = alone
    starting = threading.Thread(target=made.start, name="test-start")
    starting.start()
    until(lambda: made.fault, "it was seen")
    if not alone:
        starting.join(0.3)
        assert starting.is_alive()
        made.exit()
    starting.join(10)
    assert not starting.is_alive()
    assert limits_s == [runtime.LAST_S] * alone


def test_what_cannot_be_started_is_told_with_the_cure(steady: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady.bundle, "_create_thread_pool", Mock(side_effect=RuntimeError("no more")))
    with pytest.raises(PuppetmasterError, match=r"a thread for requests cannot be started \(no more\): give"):
        steady.bundle._start_threads()


def test_the_connection_is_waited_for_when_the_handlers_were(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[Any, float]] = []
    conn_thread = steady.bundle.conn_thread = threading.Thread(target=int, name="sdk-connection")
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: 100.0))
        patch.setattr(runtime, "_join", lambda thread, deadline_s: waits.append((thread, deadline_s)))
        steady.bundle._stop_threads()
    assert waits == [*((thread, 100.5) for thread in steady.threads), (conn_thread, 101.0)]


def test_every_thread_has_a_name_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    profile = sdk.Bundle(load=False)
    profile.profile = dict(PROFILE)
    made = Steady(bundle=profile, connection=DeadLink())
    made._start_threads()
    names = {thread.name for thread in set(threading.enumerate()) - before}
    made.stop()
    assert {"sdk-aging", "sdk-registration", "sdk-dispatch-0", "sdk-dispatch-2", "sdk-resolve-0"} <= names
    assert all(name.startswith("sdk-") for name in names)
    assert "sdk-run" not in names, "it has no run()"
    assert "failed" not in caplog.text, "nor a before_stop()"
    assert made.stop_event.is_set()
    assert made._conn.connects == 1


def test_the_thread_of_the_sdks_sessions_is_woken_to_end(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, woken = steady.bundle._session, list[bool]()
    monkeypatch.setattr(
        session.resolve_queue, "put_nowait", lambda _: woken.append(session.stop_event.is_set())
    )
    steady.bundle.stop()
    assert woken == [True]


@pytest.mark.parametrize(
    ("ident", "deadline_s", "waits_s"), [(5, 103.0, [3.0]), (5, 97.0, [0.0]), (None, 103.0, [])]
)
def test_a_thread_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch, ident: int | None, deadline_s: float, waits_s: list[float]
) -> None:
    waited_s: list[float] = []
    thread: Any = SimpleNamespace(ident=ident, join=waited_s.append)
    monkeypatch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: 100.0))
    runtime._join(thread, deadline_s)
    assert waited_s == waits_s
    runtime._join(threading.current_thread(), deadline_s)  # it would wait for itself
