"""The table of a request's statuses, the stored form, and the object that the API shows."""

import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from puppetmaster.errors import IllegalTransition
from puppetmaster.model.request import (
    OPEN,
    REGISTERED,
    TRANSITIONS,
    Absence,
    Item,
    Request,
    RequestEvent,
    RequestStatus,
)
from puppetmaster.model.why import Why
from tests.examples import AT, LATER, a_request, an_item

#: The whole table, written once more: a change of the module's must be a change here.
LEGAL = {
    ("pending", "send"): "sent",
    ("pending", "succeed"): "resolved",
    ("pending", "fail"): "error",
    ("pending", "expire"): "timeout",
    ("pending", "lose"): "unknown",
    ("pending", "cancel"): "canceled",
    ("pending", "skip"): "skipped",
    ("sent", "succeed"): "resolved",
    ("sent", "fail"): "error",
    ("sent", "expire"): "timeout",
    ("sent", "lose"): "unknown",
    ("sent", "refuse"): "pending",
    ("sent", "retry"): "pending",
    ("timeout", "succeed"): "resolved",
    ("timeout", "fail"): "error",
    ("unknown", "succeed"): "resolved",
    ("unknown", "fail"): "error",
}
PAIRS = list(product(RequestStatus, RequestEvent))
ILLEGAL = [pair for pair in PAIRS if pair not in LEGAL]
ID = a_request().id
RESULT = {"code": 200, "data": {"a": 1}, "source": "device"}
LAST = "2026-01-02T03:04:07.890Z"
#: How an attempt that is followed by another ended, and the event for that where none follows after all.
OUTCOMES = {RequestStatus.ERROR: "fail", RequestStatus.TIMEOUT: "expire", RequestStatus.UNKNOWN: "lose"}


def test_one_that_waits_for_its_gateway_is_stored_with_until_when() -> None:
    absence = Absence(REGISTERED, AT, "a boot", 1234.5)
    waiting = replace(a_request(), absence=absence)
    stored = json.loads(json.dumps(waiting.document()))
    assert stored["absence"] == {"what": "registered", "since": AT, "boot": "a boot", "until": 1234.5}
    assert Request.from_document(ID, stored) == waiting
    assert "absence" not in a_request().document()


def test_the_time_for_a_gateway_is_of_one_attempt() -> None:
    waiting = replace(a_request(), absence=Absence(REGISTERED, AT, "a boot", 1234.5))
    sent = waiting.after(RequestEvent.SEND, AT)
    assert sent.after(RequestEvent.REFUSE, AT).absence == waiting.absence
    assert sent.after(RequestEvent.RETRY, AT, result=RESULT, outcome=RequestStatus.ERROR).absence is None
    assert sent.after(RequestEvent.FAIL, AT, result=RESULT).absence is None


def _sent() -> Request:
    """A request that was sent at ``AT`` under its own id."""
    return a_request().after(RequestEvent.SEND, AT)


def _retried(outcome: RequestStatus) -> Request:
    """One whose only attempt ended so at ``LATER``, and that waits for another under another id."""
    return _sent().after(RequestEvent.RETRY, LATER, result=RESULT, message=ID + 9, outcome=outcome)


def _in(status: RequestStatus) -> Request:
    """A request in this status as it would have come to be there."""
    sent = status not in (RequestStatus.PENDING, RequestStatus.CANCELED, RequestStatus.SKIPPED)
    final = status not in OPEN
    return a_request(
        status=status,
        attempts=int(sent),
        sent_at=AT if sent else None,
        finished_at=AT if final else None,
        result={"code": 0, "data": None, "source": "puppetmaster"} if final and sent else None,
    )


# The table


def test_the_table_is_the_one_that_is_documented() -> None:
    assert {(a.value, b.value): c.value for (a, b), c in TRANSITIONS.items()} == LEGAL


@pytest.mark.parametrize(("status", "event"), LEGAL)
def test_a_legal_event_moves_the_request(status: str, event: str) -> None:
    before = _in(RequestStatus(status))
    after = before.after(
        RequestEvent(event), LATER, result=RESULT, message=ID + 5, outcome=RequestStatus.ERROR
    )
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
        before.after(event, LATER, result=RESULT, message=ID + 5, outcome=RequestStatus.ERROR)
    assert before == _in(status)


if TYPE_CHECKING:  # mypy reports an ignore that it does not need: no field may be assigned to
    a_request().status = RequestStatus.SENT  # type: ignore[misc]
    a_request().attempts = 1  # type: ignore[misc]


# What an event leaves


def test_a_sending_counts_and_is_timed() -> None:
    sent = a_request().after(RequestEvent.SEND, AT)
    assert (sent.attempts, sent.sending, sent.sent_at) == (1, ID, AT)
    assert (sent.finished_at, sent.result, sent.history) == (None, None, ())
    assert sent.open


def test_a_sending_goes_out_under_the_id_of_the_request_or_the_one_it_was_given() -> None:
    assert (a_request().message, a_request().sending) == (None, ID)
    again = a_request(message=ID + 9)
    assert again.sending == again.after(RequestEvent.SEND, AT).sending == ID + 9


@pytest.mark.parametrize(
    ("event", "status"),
    [("succeed", "resolved"), ("fail", "error"), ("expire", "timeout"), ("lose", "unknown")],
)
def test_an_end_keeps_its_result_and_its_time(event: str, status: str) -> None:
    ended = _sent().after(RequestEvent(event), LATER, result=RESULT)
    assert (ended.status, ended.finished_at, ended.result) == (status, LATER, RESULT)
    assert (ended.attempts, ended.sending, ended.sent_at) == (1, ID, AT)
    assert not ended.open


def test_a_refused_sending_is_no_attempt() -> None:
    refused = _sent().after(RequestEvent.REFUSE, LATER)
    assert (refused.status, refused.attempts, refused.sent_at) == ("pending", 0, None)
    assert (refused.sending, refused.finished_at, refused.result) == (ID, None, None)
    assert refused.history == ()


def test_a_refused_sending_keeps_its_message_id_unless_it_is_given_another() -> None:
    refused = _sent().after(RequestEvent.REFUSE, LATER, message=ID + 9)
    assert refused.sending == ID + 9
    again = refused.after(RequestEvent.SEND, LATER)
    assert (again.attempts, again.sending) == (1, ID + 9)
    assert again.after(RequestEvent.REFUSE, LATER).sending == ID + 9


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_retried_sending_was_an_attempt(outcome: RequestStatus) -> None:
    waiting = _retried(outcome)
    assert (waiting.status, waiting.attempts, waiting.sent_at) == ("pending", 1, None)
    assert (waiting.finished_at, waiting.result) == (None, None)
    again = waiting.after(RequestEvent.SEND, LATER)
    assert (again.attempts, again.sending, again.sent_at) == (2, ID + 9, LATER)


def test_the_history_keeps_each_attempt_in_order() -> None:
    first = {"message": ID, "sentAt": AT, "finishedAt": LATER, "status": "timeout", "result": RESULT}
    waiting = _retried(RequestStatus.TIMEOUT)
    assert waiting.history == (first,)
    assert type(waiting.history[0]["status"]) is str
    sent = waiting.after(RequestEvent.SEND, LATER)
    assert sent.history == (first,)
    third = sent.after(RequestEvent.RETRY, LAST, outcome=RequestStatus.ERROR)
    second = {"message": ID + 9, "sentAt": LATER, "finishedAt": LAST, "status": "error", "result": {}}
    assert third.history == (first, second)
    assert third.sending == ID + 9


def test_a_refused_sending_leaves_no_trace_in_the_history() -> None:
    refused = _retried(RequestStatus.ERROR).after(RequestEvent.SEND, LATER).after(RequestEvent.REFUSE, LAST)
    assert refused == _retried(RequestStatus.ERROR)


@pytest.mark.parametrize(("outcome", "event"), OUTCOMES.items())
def test_what_is_not_tried_again_ends_as_its_last_attempt(outcome: RequestStatus, event: str) -> None:
    waiting = _retried(outcome)
    assert waiting.last_outcome() == (event, RESULT)
    ended = waiting.without_retry().after(RequestEvent(event), LATER, result=RESULT)
    assert ended == replace(_sent(), status=outcome, message=ID, finished_at=LATER, result=RESULT)


def test_only_the_last_attempt_is_taken_back() -> None:
    sent = _retried(RequestStatus.TIMEOUT).after(RequestEvent.SEND, LATER)
    waiting = sent.after(
        RequestEvent.RETRY, LAST, result={"code": 500}, message=ID + 11, outcome=RequestStatus.ERROR
    )
    assert waiting.last_outcome() == (RequestEvent.FAIL, {"code": 500})
    assert waiting.without_retry() == replace(sent, status=RequestStatus.PENDING)


@pytest.mark.parametrize("first", ["expire", "lose"])
@pytest.mark.parametrize(("event", "status"), [("succeed", "resolved"), ("fail", "error")])
def test_a_late_answer_corrects_and_is_marked(first: str, event: str, status: str) -> None:
    late = (
        _sent()
        .after(RequestEvent(first), AT, result={"code": 408})
        .after(RequestEvent(event), LATER, result=RESULT)
    )
    assert (late.status, late.finished_at) == (status, LATER)
    assert late.result == {**RESULT, "late": True}
    assert "late" not in RESULT


def test_a_success_of_an_earlier_attempt_ends_what_waits_for_another() -> None:
    late = _retried(RequestStatus.TIMEOUT).after(RequestEvent.SUCCEED, LAST, result=RESULT)
    assert (late.status, late.attempts, late.finished_at) == ("resolved", 1, LAST)
    assert late.result == {**RESULT, "late": True}
    assert len(late.history) == 1


@pytest.mark.parametrize("event", ["fail", "expire", "lose"])
def test_any_other_end_of_what_waits_is_not_marked_late(event: str) -> None:
    ended = _retried(RequestStatus.TIMEOUT).after(RequestEvent(event), LAST, result=RESULT)
    assert ended.result == RESULT


@pytest.mark.parametrize("event", ["cancel", "skip", "fail"])
def test_an_end_before_the_sending_leaves_no_sending(event: str) -> None:
    ended = a_request().after(RequestEvent(event), LATER)
    assert (ended.attempts, ended.message, ended.sent_at, ended.finished_at) == (0, None, None, LATER)


# The stored form


@pytest.mark.parametrize(
    "request_",
    [
        *(a_request(), a_request(destination="gerät", message=ID + 9), _sent()),
        *(_sent().after(RequestEvent(one), LATER, result=RESULT) for one in ("succeed", *OUTCOMES.values())),
        *(a_request().after(RequestEvent(one), LATER) for one in ("cancel", "skip", "fail")),
        *(_retried(outcome) for outcome in OUTCOMES),
        _retried(RequestStatus.TIMEOUT).after(RequestEvent.SEND, LATER),
        _retried(RequestStatus.TIMEOUT).after(RequestEvent.SUCCEED, LAST, result=RESULT),
        _sent().after(RequestEvent.REFUSE, LATER, message=ID + 9),
        _sent().after(RequestEvent.FAIL, LATER, result={"": None}),
    ],
)
def test_the_stored_form_keeps_everything(request_: Request) -> None:
    stored = json.loads(json.dumps(request_.document()))
    assert Request.from_document(request_.id, stored) == request_


def test_the_stored_form_of_most_requests_is_small() -> None:
    assert a_request().document() == {
        "job": 1,
        "item": ID,
        "destination": "00:0c:29:1c:e8:01",
        "status": "pending",
    }
    assert set(_sent().document()) == {"job", "item", "destination", "status", "attempts", "sentAt"}
    refused = _sent().after(RequestEvent.REFUSE, LATER)
    assert refused.document() == a_request().document()


@pytest.mark.parametrize("data", [{}, None, [1, "a"], "text", 0, {"a": {"b": 1.5}}])
def test_an_item_survives_its_stored_form(data: Any) -> None:
    item = an_item(data=data)
    assert item.document() == {"job": 1, "method": "post", "resource": "/system/reboot", "data": data}
    assert Item.from_document(item.id, json.loads(json.dumps(item.document()))) == item


def test_an_event_is_an_item_with_a_code() -> None:
    event = an_item(code=200, data={"a": 1})
    body = {"code": 200, "method": "post", "resource": "/system/reboot", "data": {"a": 1}}
    assert event.command() == body
    assert event.document() == {"job": 1, **body}
    assert Item.from_document(event.id, json.loads(json.dumps(event.document()))) == event
    assert an_item().command() == {"method": "post", "resource": "/system/reboot", "data": {}}


# What the API shows


def test_the_view_of_a_waiting_request() -> None:
    view = a_request(destination="cg-1").view(
        an_item(data={"a": 1}), created_at=AT, timeout_s=60, why=Why.WAVE.said(wave=2, before=1)
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
            "whyCode": "wave",
            "progress": 0,
            "attempts": 0,
            "route": None,
            "result": {},
        },
    }


def test_the_view_of_a_request_that_is_done() -> None:
    done = _sent().after(RequestEvent.SUCCEED, LATER, result=RESULT)
    new = a_request().view(an_item(), created_at=AT, timeout_s=60, why=None)["__request"]
    shown = done.view(an_item(), created_at=AT, timeout_s=60, why="stale")["__request"]
    assert shown == {
        **new,
        "sentAt": AT,
        "finishedAt": LATER,
        "status": "resolved",
        "progress": 100,
        "attempts": 1,
        "route": "remote",
        "result": RESULT,
    }


def test_the_view_of_a_request_that_waits_for_another_attempt() -> None:
    waiting = _retried(RequestStatus.TIMEOUT)
    shown = waiting.view(an_item(), created_at=AT, timeout_s=60, why="tried again soon")["__request"]
    assert (shown["status"], shown["why"], shown["attempts"]) == ("pending", "tried again soon", 1)
    assert (shown["sentAt"], shown["result"]) == (None, {})
    assert shown["history"] == list(waiting.history)


def test_the_view_of_an_event_has_its_code() -> None:
    view = a_request().view(an_item(code=200), created_at=AT, timeout_s=60, why=None)
    assert view["code"] == 200


@pytest.mark.parametrize("status", RequestStatus)
def test_progress_and_why_of_every_status(status: RequestStatus) -> None:
    shown = _in(status).view(an_item(), created_at=AT, timeout_s=60, why=Why.BUS.said())["__request"]
    assert shown["progress"] == (0 if status in ("pending", "sent") else 100)
    waits = status in ("pending", "sent")
    assert (shown["why"], shown["whyCode"]) == (("the bus is down", "bus") if waits else (None, None))
    assert type(shown["status"]) is str
