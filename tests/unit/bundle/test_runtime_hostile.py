"""Messages that nobody should send: what SteadySanji makes of them."""

import json
import logging
import threading
from typing import Any

import pytest

from puppetmaster.bundle import runtime
from puppetmaster.bundle.runtime import WAITING_LIMIT
from tests.desk import until
from tests.unit.bundle.benches import Bench


@pytest.mark.parametrize("wrong", [5, 0, None, True, [], {}, ["get"], "", 1.5])
@pytest.mark.parametrize("key", ["method", "resource"])
def test_a_request_that_is_none_is_answered_400_in_words(steady: Bench, key: str, wrong: Any) -> None:
    """F5: as it has an id, somebody waits for its answer, and a write of it is locked."""
    shown = "a list" if isinstance(wrong, list) else "an object" if wrong == {} else json.dumps(wrong)
    answer = steady.ask(**{"method": "get", "resource": "/things/1", key: wrong})
    assert answer["code"] == 400
    assert answer["data"]["errors"] == [{"path": key, "message": f"expected a non-empty string, got {shown}"}]
    assert steady.alive() == 4


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        (404, {"method": "get", "resource": "/nothing?" + "x" * 1_048_490}),
        (405, {"method": "x" * 1_048_490, "resource": "/things/1"}),
        (500, {"method": "put", "resource": "/broken/raises?" + "x" * 1_048_490}),
        (413, {"method": "get", "resource": "/things/1", "sign": ["x" * 1_048_490]}),
    ],
)
def test_a_request_that_no_answer_can_repeat_is_answered(
    steady: Bench, code: int, asked: dict[str, Any]
) -> None:
    """An answer has the method, the resource and the signs of its request, and may be longer than that."""
    answer = steady.ask(**asked)
    assert (answer["code"], answer["method"], answer["resource"]) == (code, "unknown", "unknown")
    assert len(answer["data"]["message"]) < 1000


def test_a_request_without_anything_but_an_id_is_answered(steady: Bench) -> None:
    steady.deliver({"id": 2**32 - 1})
    assert steady.answer(2**32 - 1)["code"] == 400


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
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
