"""The table of a request's statuses, the stored form, and the object that the API shows."""

import json
from dataclasses import FrozenInstanceError
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.errors import IllegalTransition
from puppetmaster.request import OPEN, TRANSITIONS, UNANSWERED, Item, Request, RequestEvent, RequestStatus
from tests.examples import AT, LATER, a_request, an_item, patiently

#: The whole table, written once more: a change of the module's must be a change here.
LEGAL = {
    ("pending", "send"): "sent",
    ("pending", "fail"): "error",
    ("pending", "cancel"): "canceled",
    ("pending", "skip"): "skipped",
    ("sent", "succeed"): "resolved",
    ("sent", "fail"): "error",
    ("sent", "expire"): "timeout",
    ("sent", "lose"): "unknown",
    ("sent", "refuse"): "pending",
    ("sent", "repeat"): "pending",
    ("timeout", "succeed"): "resolved",
    ("timeout", "fail"): "error",
    ("unknown", "succeed"): "resolved",
    ("unknown", "fail"): "error",
}
PAIRS = list(product(RequestStatus, RequestEvent))
ILLEGAL = [pair for pair in PAIRS if pair not in LEGAL]
ID = a_request().id
RESULT = {"code": 200, "data": {"a": 1}, "source": "device"}


def _in(status: RequestStatus) -> Request:
    """A request in this status as it would have come to be there."""
    sent = status not in (RequestStatus.PENDING, RequestStatus.CANCELED, RequestStatus.SKIPPED)
    final = status not in OPEN
    return a_request(
        status=status,
        attempts=int(sent),
        message=ID if sent else None,
        sent_at=AT if sent else None,
        finished_at=AT if final else None,
        result={"code": 0, "data": None, "source": "puppetmaster"} if final and sent else None,
    )


# The table


def test_the_table_is_the_one_that_is_documented() -> None:
    assert {(a.value, b.value): c.value for (a, b), c in TRANSITIONS.items()} == LEGAL


def test_the_sets_of_statuses() -> None:
    assert {status.value for status in OPEN} == {"pending", "sent"}
    assert {status.value for status in UNANSWERED} == {"timeout", "unknown"}
    assert [status.value for status in RequestStatus] == [
        *("pending", "sent", "resolved", "error", "timeout", "unknown", "canceled", "skipped")
    ]


@pytest.mark.parametrize(("status", "event"), LEGAL)
def test_a_legal_event_moves_the_request(status: str, event: str) -> None:
    before = _in(RequestStatus(status))
    after = before.after(RequestEvent(event), LATER, result=RESULT, message=ID + 5)
    assert after.status == LEGAL[status, event]
    assert (after.id, after.job, after.item, after.destination) == (
        before.id,
        before.job,
        before.item,
        before.destination,
    )
    assert before == _in(RequestStatus(status))


@pytest.mark.parametrize(("status", "event"), ILLEGAL)
def test_an_illegal_event_raises_and_nothing_happens(status: RequestStatus, event: RequestEvent) -> None:
    before = _in(status)
    with pytest.raises(IllegalTransition, match=f"request {ID} is {status}: .* '{event}'"):
        before.after(event, LATER, result=RESULT, message=ID + 5)
    assert before == _in(status)


def test_a_request_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        a_request().status = RequestStatus.SENT  # type: ignore[misc]


# What an event leaves


def test_a_sending_counts_and_is_timed() -> None:
    sent = a_request().after(RequestEvent.SEND, AT, message=ID)
    assert (sent.attempts, sent.message, sent.sent_at) == (1, ID, AT)
    assert (sent.finished_at, sent.result) == (None, None)
    assert sent.open


@pytest.mark.parametrize(
    ("event", "status"),
    [("succeed", "resolved"), ("fail", "error"), ("expire", "timeout"), ("lose", "unknown")],
)
def test_an_end_keeps_its_result_and_its_time(event: str, status: str) -> None:
    sent = a_request().after(RequestEvent.SEND, AT, message=ID)
    ended = sent.after(RequestEvent(event), LATER, result=RESULT)
    assert (ended.status, ended.finished_at, ended.result) == (status, LATER, RESULT)
    assert (ended.attempts, ended.message, ended.sent_at) == (1, ID, AT)
    assert not ended.open


def test_a_refused_sending_is_no_attempt() -> None:
    refused = a_request().after(RequestEvent.SEND, AT, message=ID).after(RequestEvent.REFUSE, LATER)
    assert (refused.status, refused.attempts, refused.sent_at) == ("pending", 0, None)
    assert (refused.message, refused.finished_at, refused.result) == (ID, None, None)


def test_a_repeated_sending_was_an_attempt() -> None:
    lost = a_request().after(RequestEvent.SEND, AT, message=ID).after(RequestEvent.REPEAT, LATER)
    assert (lost.status, lost.attempts, lost.sent_at, lost.finished_at) == ("pending", 1, None, None)
    again = lost.after(RequestEvent.SEND, LATER, message=ID + 9)
    assert (again.attempts, again.message, again.sent_at) == (2, ID + 9, LATER)


@pytest.mark.parametrize("first", ["expire", "lose"])
@pytest.mark.parametrize(("event", "status"), [("succeed", "resolved"), ("fail", "error")])
def test_a_late_answer_corrects_and_is_marked(first: str, event: str, status: str) -> None:
    sent = a_request().after(RequestEvent.SEND, AT, message=ID)
    late = sent.after(RequestEvent(first), AT, result={"code": 408}).after(
        RequestEvent(event), LATER, result=RESULT
    )
    assert (late.status, late.finished_at) == (status, LATER)
    assert late.result == {**RESULT, "late": True}
    assert "late" not in RESULT


@pytest.mark.parametrize("event", ["succeed", "fail"])
def test_an_answer_in_time_is_not_marked_late(event: str) -> None:
    sent = a_request().after(RequestEvent.SEND, AT, message=ID)
    assert sent.after(RequestEvent(event), LATER, result=RESULT).result == RESULT


@pytest.mark.parametrize("event", ["cancel", "skip", "fail"])
def test_an_end_before_the_sending_leaves_no_sending(event: str) -> None:
    ended = a_request().after(RequestEvent(event), LATER)
    assert (ended.attempts, ended.message, ended.sent_at, ended.finished_at) == (0, None, None, LATER)


# The stored form


@st.composite
def lives(draw: st.DrawFn) -> Request:
    """A request after any legal events."""
    request = a_request(destination=draw(st.sampled_from(["cg-1", "00:0c:29:1c:e8:01", "gerät"])))
    results = st.none() | st.just(RESULT) | st.dictionaries(st.text(), st.integers() | st.text(), max_size=2)
    next_id = ID
    for _ in range(draw(st.integers(0, 6))):
        events = [event for event in RequestEvent if (request.status, event) in TRANSITIONS]
        if not events:
            break
        event = draw(st.sampled_from(events))
        request = request.after(
            event, draw(st.sampled_from([AT, LATER])), result=draw(results), message=next_id
        )
        next_id += event is RequestEvent.SEND
    return request


@patiently
@given(lives())
def test_the_stored_form_keeps_everything(request: Request) -> None:
    stored = json.loads(json.dumps(request.document()))
    assert Request.from_document(request.id, stored) == request


@patiently
@given(lives())
def test_whatever_happened_it_stays_sound(request: Request) -> None:
    assert request.attempts >= 0
    assert request.open == (request.status in OPEN) == (request.finished_at is None)
    assert (request.status is not RequestStatus.SENT) or (
        request.sent_at is not None and request.attempts > 0
    )


def test_the_stored_form_of_most_requests_is_small() -> None:
    assert a_request().document() == {
        "job": 1,
        "item": ID,
        "destination": "00:0c:29:1c:e8:01",
        "status": "pending",
    }
    sent = a_request().after(RequestEvent.SEND, AT, message=ID)
    assert set(sent.document()) == {"job", "item", "destination", "status", "attempts", "sentAt"}


def test_a_message_id_survives_a_restart_while_it_waits_again() -> None:
    waiting = a_request().after(RequestEvent.SEND, AT, message=ID).after(RequestEvent.REPEAT, LATER)
    assert Request.from_document(ID, waiting.document()).message == ID


@pytest.mark.parametrize("data", [{}, None, [1, "a"], "text", 0, {"a": {"b": 1.5}}])
def test_an_item_survives_its_stored_form(data: Any) -> None:
    item = an_item(data=data)
    assert item.document() == {"job": 1, "method": "post", "resource": "/system/reboot", "data": data}
    assert Item.from_document(item.id, json.loads(json.dumps(item.document()))) == item


# What the API shows


def test_the_view_of_a_waiting_request() -> None:
    view = a_request(destination="cg-1").view(
        an_item(data={"a": 1}), created_at=AT, timeout_s=60, why="wave 2 waits for wave 1"
    )
    assert view == {
        "id": ID,
        "job": 1,
        "method": "post",
        "resource": "/system/reboot",
        "tunnel": "/remote",
        "data": {"a": 1},
        "__request": {
            "destination": "cg-1",
            "createdAt": AT,
            "sentAt": None,
            "finishedAt": None,
            "timeout": 60,
            "status": "pending",
            "why": "wave 2 waits for wave 1",
            "progress": 0,
            "attempts": 0,
            "result": {},
        },
    }


def test_the_view_of_a_request_that_is_done() -> None:
    done = (
        a_request().after(RequestEvent.SEND, AT, message=ID).after(RequestEvent.SUCCEED, LATER, result=RESULT)
    )
    shown = done.view(an_item(), created_at=AT, timeout_s=60, why="stale")["__request"]
    assert shown == {
        "destination": "00:0c:29:1c:e8:01",
        "createdAt": AT,
        "sentAt": AT,
        "finishedAt": LATER,
        "timeout": 60,
        "status": "resolved",
        "why": None,
        "progress": 100,
        "attempts": 1,
        "result": RESULT,
    }


@pytest.mark.parametrize("status", RequestStatus)
def test_progress_and_why_of_every_status(status: RequestStatus) -> None:
    shown = _in(status).view(an_item(), created_at=AT, timeout_s=60, why="the bus is down")["__request"]
    assert shown["progress"] == (0 if status in ("pending", "sent") else 100)
    assert shown["why"] == ("the bus is down" if status == "pending" else None)
    assert type(shown["status"]) is str


@patiently
@given(lives())
def test_the_view_is_json_with_always_the_same_keys(request: Request) -> None:
    view = request.view(an_item(), created_at=AT, timeout_s=60, why=None)
    assert json.loads(json.dumps(view)) == view
    assert set(view) == {"id", "job", "method", "resource", "tunnel", "data", "__request"}
    assert len(view["__request"]) == 10
