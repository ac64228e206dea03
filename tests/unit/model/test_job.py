"""The table of a job's statuses, its counts, the stored form, and the object that the API shows."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from puppetmaster.errors import IllegalTransition
from puppetmaster.model.job import (
    FINAL,
    TRANSITIONS,
    GateStatus,
    Job,
    JobEvent,
    JobStatus,
    OpenedGate,
    fresh_counts,
)
from puppetmaster.model.request import RequestStatus
from puppetmaster.model.why import Reason, code_of
from tests.examples import AT, LATER, a_job, counts

#: The whole table, written once more: a change of the module's must be a change here.
LEGAL = {
    ("pending", "start"): "dispatching",
    ("pending", "pause"): "paused",
    ("pending", "cancel"): "canceled",
    ("pending", "abort"): "aborted",
    ("pending", "expire"): "timeout",
    ("dispatching", "pause"): "paused",
    ("dispatching", "finish"): "resolved",
    ("dispatching", "cancel"): "canceled",
    ("dispatching", "abort"): "aborted",
    ("dispatching", "expire"): "timeout",
    ("paused", "resume"): "dispatching",
    ("paused", "wait"): "pending",
    ("paused", "finish"): "resolved",
    ("paused", "cancel"): "canceled",
    ("paused", "abort"): "aborted",
    ("paused", "expire"): "timeout",
}
ILLEGAL = [pair for pair in product(JobStatus, JobEvent) if pair not in LEGAL]
ENDS = {pair: status for pair, status in LEGAL.items() if status in FINAL}
ENDINGS = sorted({JobEvent(event) for _, event in ENDS})
MOVES = {pair: status for pair, status in LEGAL.items() if status not in FINAL}
#: Every key of the job object, in the order of the API's example, without ``requests``.
KEYS = list(a_job().view())


def _ended_requests(status: str, **given: Any) -> Job:
    """A job in this status of which no request is open."""
    return a_job(status=JobStatus(status), counts=counts(resolved=2, error=1), **given)


# The table


def test_the_table_is_the_one_that_is_documented() -> None:
    assert {(a.value, b.value): c.value for (a, b), c in TRANSITIONS.items()} == LEGAL


@pytest.mark.parametrize(("status", "event"), MOVES)
def test_a_move_keeps_the_job_open(status: str, event: str) -> None:
    before = a_job(status=JobStatus(status), reason="before")
    after = before.after(JobEvent(event), LATER, reason="why")
    assert after == replace(before, status=JobStatus(LEGAL[status, event]), reason="why")
    assert before.after(JobEvent(event), LATER).reason is None


@pytest.mark.parametrize(("status", "event"), ENDS)
def test_an_end_is_timed(status: str, event: str) -> None:
    before = _ended_requests(status, ending=JobEvent.CANCEL, started_at=AT)
    after = before.after(JobEvent(event), LATER)
    assert after.status == LEGAL[status, event]
    assert after.final
    assert (after.started_at, after.finished_at, after.ending) == (AT, LATER, None)
    assert after.counts == before.counts


@pytest.mark.parametrize(("status", "event"), [pair for pair in ENDS if pair[1] != "finish"])
def test_an_end_says_why(status: str, event: str) -> None:
    before = _ended_requests(status).stopping(JobEvent(event), "said when it began to stop")
    assert before.after(JobEvent(event), LATER).reason == "said when it began to stop"
    assert before.after(JobEvent(event), LATER, reason="said now").reason == "said now"


@pytest.mark.parametrize("status", ["dispatching", "paused"])
def test_a_resolved_job_has_no_reason(status: str) -> None:
    paused = _ended_requests(status, reason="paused by a request")
    assert paused.after(JobEvent.FINISH, LATER).reason is None


@pytest.mark.parametrize(("status", "event"), ENDS)
@pytest.mark.parametrize("still", ["pending", "sent"])
def test_a_job_with_open_requests_does_not_end(status: str, event: str, still: str) -> None:
    before = a_job(status=JobStatus(status), counts=counts(resolved=2, **{still: 1}))
    with pytest.raises(IllegalTransition, match="job 1 cannot end: 1 of its requests are open"):
        before.after(JobEvent(event), LATER)
    assert before == a_job(status=JobStatus(status), counts=counts(resolved=2, **{still: 1}))


@pytest.mark.parametrize(("status", "event"), ILLEGAL)
def test_an_illegal_event_raises_and_nothing_happens(status: JobStatus, event: JobEvent) -> None:
    before = _ended_requests(status)
    with pytest.raises(IllegalTransition, match=f"job 1 is {status}: .* '{event}'"):
        before.after(event, LATER, reason="why")
    assert before == _ended_requests(status)


def test_the_first_verdict_stands() -> None:
    stopping = a_job().stopping(JobEvent.CANCEL, "canceled by a request")
    assert (stopping.ending, stopping.reason, stopping.status) == (
        JobEvent.CANCEL,
        "canceled by a request",
        "dispatching",
    )
    assert stopping.stopping(JobEvent.EXPIRE, "its timeout is over") == stopping


# Its counts


def test_a_new_job_waits_as_a_whole() -> None:
    assert fresh_counts(3) == counts(pending=3)
    assert list(fresh_counts(3)) == list(RequestStatus)


def test_deltas_move_the_counts() -> None:
    before = a_job(total=5)
    sent = before.tallied({RequestStatus.PENDING: -2, RequestStatus.SENT: 2})
    assert sent.counts == counts(pending=3, sent=2)
    assert sent.tallied({}) == sent
    assert before.counts == counts(pending=5)
    assert (before.open_count, sent.open_count) == (5, 5)
    assert sent.tallied({RequestStatus.SENT: -2, RequestStatus.ERROR: 2}).open_count == 3


@pytest.mark.parametrize(
    "deltas",
    [
        {RequestStatus.PENDING: -1},
        {RequestStatus.SENT: 1},
        {RequestStatus.PENDING: -4, RequestStatus.SENT: 4},
        {RequestStatus.ERROR: -1, RequestStatus.RESOLVED: 1},
    ],
)
def test_deltas_that_do_not_add_up_raise(deltas: Mapping[RequestStatus, int]) -> None:
    with pytest.raises(IllegalTransition, match=r"job 1: the counts .* do not add up to 3"):
        a_job().tallied(deltas)


def test_its_requests_follow_each_other() -> None:
    assert list(a_job(first=2**31 + 7, total=3).request_ids) == [2**31 + 7, 2**31 + 8, 2**31 + 9]


# The stored form

#: One with everything that a job may have.
FULL = a_job(
    total=36,
    counts={status: number for number, status in enumerate(RequestStatus, 1)},
    name="gerät",
    summary="post /x",
    key="k",
    digest="d",
    parent=2,
    template=3,
    started_at=AT,
    finished_at=LATER,
    start_at=AT,
    boot="boot 1",
    reason="why",
    timeout_s=0.5,
    expires_s=1e9,
    request_timeout_s=7,
    wave=2,
    wave_errors=5,
    opened_gates=(OpenedGate(1, 8, AT), OpenedGate(3, 0, LATER)),
    given={"waves": [1, "50%"], "gate": {"errors": 0, "onFail": "abort"}, "startAt": LATER},
)


@pytest.mark.parametrize(
    "job",
    [
        *(a_job(), a_job(name="", summary="", key="", reason="", digest="", boot=""), FULL),
        *(replace(FULL, status=one) for one in JobStatus),
        *(replace(FULL, ending=one) for one in ENDINGS),
        *(replace(FULL, gate=one) for one in GateStatus),
    ],
)
def test_the_stored_form_keeps_everything(job: Job) -> None:
    stored = json.loads(json.dumps(job.document()))
    found = Job.from_document(job.id, stored)
    assert found == job
    assert type(found.status) is JobStatus
    assert type(found.ending) in (JobEvent, type(None))
    assert type(found.gate) in (GateStatus, type(None))
    assert all(type(status) is RequestStatus for status in found.counts)


def test_a_stored_job_of_an_earlier_version_had_no_gate_that_was_opened() -> None:
    stored = a_job(opened_gates=(OpenedGate(1, 8, AT),)).document()
    del stored["openedGates"]
    assert Job.from_document(1, stored).opened_gates == ()


# What the API shows


def test_the_view_of_a_new_job() -> None:
    job = a_job(id=123145, timeout_s=36000, summary="post /system/reboot")
    expected = {
        "id": 123145,
        "name": None,
        "summary": "post /system/reboot",
        "key": None,
        "parent": None,
        "template": None,
        "createdAt": AT,
        "createdBy": None,
        "startedAt": None,
        "finishedAt": None,
        "timeout": 36000,
        "status": "dispatching",
        "reason": None,
        "reasonCode": None,
        "ending": None,
        "progress": 0,
        "totalCount": 3,
        "doneCount": 0,
        "finishCount": 0,
        "errorCount": 0,
        "counts": counts(pending=3),
    }
    view = job.view()
    assert view == expected == json.loads(json.dumps(view))
    assert list(view) == list(expected)
    assert list(view["counts"]) == list(RequestStatus)


def test_the_view_of_a_job_that_has_ended() -> None:
    view = a_job(
        total=7,
        counts=counts(resolved=2, error=1, timeout=1, unknown=1, canceled=1, skipped=1),
        status=JobStatus.CANCELED,
        reason=Reason.CANCELED.said(),
        name="night",
        key="k-1",
        parent=4,
        started_at=AT,
        finished_at=LATER,
        given={"requestTimeout": 5, "concurrency": 10, "idempotent": False},
    ).view()
    assert (view["finishCount"], view["errorCount"], view["doneCount"], view["progress"]) == (2, 5, 7, 100)
    assert (view["status"], view["reason"], view["name"], view["key"], view["parent"]) == (
        *("canceled", "canceled by a request", "night", "k-1", 4),
    )
    assert (view["reasonCode"], view["ending"]) == ("canceled", None)
    assert (view["startedAt"], view["finishedAt"], view["timeout"]) == (AT, LATER, None)
    assert list(view) == [*KEYS, "requestTimeout", "concurrency", "idempotent"]
    assert (view["requestTimeout"], view["concurrency"], view["idempotent"]) == (5, 10, False)


@pytest.mark.parametrize("gate", [None, *GateStatus])
def test_a_job_in_waves_shows_the_open_one_and_what_stands_behind_it(gate: GateStatus | None) -> None:
    view = a_job(given={"waves": [1, "50%"]}, wave=2, wave_errors=1, gate=gate).view()
    assert list(view) == [*KEYS, "waves", "waveEnds", "wave", "gateStatus", "openedGates"]
    assert (view["waves"], view["wave"], view["gateStatus"]) == ([1, "50%"], 2, gate)
    assert view["waveEnds"] == [1, 2, 3]
    assert view["openedGates"] == []


@pytest.mark.parametrize("status", ["pending", "dispatching", "paused"])
@pytest.mark.parametrize(
    ("event", "status_then"), [("cancel", "canceled"), ("abort", "aborted"), ("expire", "timeout")]
)
def test_a_job_that_is_stopping_shows_what_it_will_end_as(status: str, event: str, status_then: str) -> None:
    job = a_job(status=JobStatus(status)).stopping(JobEvent(event), Reason.REMOVED.said())
    assert (job.view()["status"], job.view()["ending"]) == (status, status_then)
    assert job.view()["reasonCode"] == "removed"


def test_the_code_of_a_reason_is_kept() -> None:
    job = a_job(status=JobStatus.PAUSED, reason=Reason.IMPORTED.said())
    assert code_of(Job.from_document(1, job.document()).reason) == "imported"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"status": JobStatus.CANCELED}, "canceled"),
        ({"status": JobStatus.TIMEOUT}, "timeout"),
        ({"status": JobStatus.PAUSED, "gate": GateStatus.CLOSED}, "gate"),
        ({"status": JobStatus.PAUSED}, None),
        ({"status": JobStatus.ABORTED}, None),
        ({"status": JobStatus.PAUSED, "ending": JobEvent.CANCEL}, "canceled"),
        ({"status": JobStatus.DISPATCHING, "ending": JobEvent.EXPIRE}, "timeout"),
    ],
)
def test_a_job_of_an_earlier_version_has_the_code_that_its_status_tells(
    given: dict[str, Any], code: str | None
) -> None:
    document = a_job(reason="some sentence", **given).document()
    del document["reasonCode"]
    kept = Job.from_document(1, document)
    assert (kept.reason, code_of(kept.reason)) == ("some sentence", code)


@pytest.mark.parametrize(
    ("done", "total", "percent"), [(0, 3, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100), (199, 200, 99)]
)
def test_progress_is_whole_percent_rounded_down(done: int, total: int, percent: int) -> None:
    job = a_job(total=total, counts=counts(pending=total - done, error=done))
    assert job.view()["progress"] == percent
