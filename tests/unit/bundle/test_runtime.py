"""SteadySanji: requests, their handlers and their answers.

Where it differs from the SDK's own Sanji the test says which fault of the SDK (docs/sdk.md) it mends. So do
the other ``test_runtime_*.py``.
"""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from puppetmaster.bundle import runtime, sdk
from puppetmaster.bundle.runtime import WAITING_LIMIT
from tests.desk import until
from tests.unit.bundle.benches import Bench


def test_a_request_is_answered_by_its_handler(steady: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """F10, F12: with the SDK each dispatcher waits for the broker's acknowledgement, ten seconds and more."""
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


@pytest.mark.parametrize(
    ("resource", "query"),
    [
        ("/things/1?text=/system/", {"text": "/system/"}),
        ("/things/1/?a=1 ", {"a": "1"}),
        ("things/1/", {}),
        ("/things/1?a=?/", {"a": "?/"}),
    ],
)
def test_slashes_are_cut_off_the_path_and_not_off_the_query(
    steady: Bench, resource: str, query: dict[str, str]
) -> None:
    assert steady.ask("get", resource)["data"] == {"id": "1", "query": query}


def test_who_has_left_answers_no_request_but_those_that_it_has(steady: Bench) -> None:
    """The next one may listen on the same tunnel."""
    steady.deliver({"id": 7, "method": "get", "resource": "/things/1"})
    assert steady.answer(7)["code"] == 200
    steady.bundle.leave()
    steady.deliver({"id": 8, "method": "get", "resource": "/things/1"})
    assert steady.silent()


@pytest.mark.parametrize("data", [None, True, 0, 1.5, "x", "\ud800\0", [], [1, [2]], {}, {"a": {"b": None}}])
def test_data_of_any_kind_passes(steady: Bench, data: Any) -> None:
    expected = "\ufffd\ufffd" if data == "\ud800\0" else data  # the controller would drop the answer
    answer = steady.ask("post", "/things/1", data=data)
    assert (answer["code"], answer["data"]) == (201, expected)


def test_data_that_is_absent_is_none(steady: Bench) -> None:
    """F16: the SDK leaves the attribute out; a handler that looks at it fails."""
    assert steady.ask("post", "/things/1")["data"] is None


@pytest.mark.parametrize(
    ("depth", "codes"), [(150, {201}), (800, {201, 400, 500}), (2000, {201, 400, 500}), (100_000, {400})]
)
def test_nested_data_is_answered_however_deep(steady: Bench, depth: int, codes: set[int]) -> None:
    """F5: what Python cannot decode is answered too; the controller passes up to 2,048 levels."""
    nested = b"[" * depth + b"]" * depth
    steady.deliver(b'{"id": 1, "method": "post", "resource": "/things/1", "data": %s}' % nested)
    assert steady.answer(1)["code"] in codes
    assert steady.ask("get", "/things/1")["code"] == 200


def test_a_schema_says_what_is_wrong(steady: Bench) -> None:
    """F16: and to a request without data the SDK says 500."""
    assert steady.ask("post", "/checked", data={"a": 1})["data"] == {"a": 1}
    answer = steady.ask("post", "/checked", data={"a": "x", "b": 1})
    assert answer["code"] == 400
    assert {fault["path"] for fault in answer["data"]["errors"]} == {"a", "b"}
    assert steady.ask("post", "/checked")["code"] == 400


def test_of_two_routes_that_fit_the_literal_one_runs_alone(steady: Bench) -> None:
    """F17: the SDK runs both, and the first answer counts."""
    assert steady.ask("get", "/things/all")["data"] == "all"
    assert steady.ask("get", "/things/1")["code"] == 200
    assert [steady.bundle.calls.get_nowait() for _ in range(2)] == ["get_all", "get"]


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


def test_a_handler_for_events_is_not_taken_for_one_of_requests(steady: Bench) -> None:
    """F17: the SDK finds a handler with two parameters, does not call it, and never answers."""
    assert steady.ask("put", "/things/1")["code"] == 405


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


@pytest.mark.parametrize("how", ["twice", "after"])
def test_only_the_first_answer_leaves(steady: Bench, how: str) -> None:
    assert steady.ask("put", f"/broken/{how}")["data"] == 1
    assert steady.silent()


def test_handlers_run_side_by_side(steady: Bench) -> None:
    steady.occupy(2)
    assert steady.ask("get", "/things/1")["code"] == 200


def test_more_requests_than_can_wait_are_answered_503(steady: Bench) -> None:
    """Memory is bounded, and nobody is left without an answer."""
    steady.occupy(3)
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
    steady.occupy(3)
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


def test_who_signs_an_answer_may_be_said(steady: Bench) -> None:
    steady.bundle.publish.create_response(sdk.Message({"id": 1, "method": "get", "resource": "/a"}), "me")()
    assert steady.answer(1)["sign"] == ["me"]


def test_who_we_are_is_answered_however_busy_the_handlers_are(steady: Bench) -> None:
    steady.occupy(3)
    steady.bundle.installation = "one"
    answer = steady.ask("get", "/system/sample/one")
    who = {"installation": "one", "process": steady.bundle.process, "pid": os.getpid()}
    assert (answer["code"], answer["data"]) == (200, {**who, "host": platform.node()})


def test_the_answer_to_a_request_of_ours_finds_who_waits_for_it(steady: Bench) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(steady.bundle.publish.direct.get, "/x", timeout=10)
        asked = steady.answer()
        steady.deliver(b'{"id": %d, "code": 200, "data": NaN}' % asked["id"])  # nobody can tell what it says
        steady.deliver({"id": asked["id"], "code": 200, "data": {"a": 1}, "sign": ["b"], "match": 5})
    answer = asking.result()
    assert (answer.code, answer.data, answer.sign) == (200, {"a": 1}, ["b"])
    assert callable(answer.match), "no key hides a method"
