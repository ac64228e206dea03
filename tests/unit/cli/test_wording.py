"""What is said of jobs, requests and times."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.cli import wording
from tests.fake_http import job, request

NOW_S = 1767323105.0  # 2026-01-02T03:05:05Z
GATE = "wave 1 failed its gate: 6 of 8 requests failed, and at most 0 may"
CANCELED = "canceled by a request"
PAUSED, REMOVED = "paused, as somebody wished", "away with it"
TIMEOUT = "its timeout of 5 s is over"


@pytest.fixture
def clock_of_taipei(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Taipei")
        time.tzset()
        yield
    time.tzset()


#: By what a job is told: the code beside it. The sentences are those of no version: nobody reads them.
CODES = {PAUSED: "paused", CANCELED: "canceled", GATE: "gate", TIMEOUT: "timeout", REMOVED: "removed"}


def with_reason(found: dict[str, Any], reason: str, **more: Any) -> dict[str, Any]:
    ending = "canceled" if reason == CANCELED and found["finishedAt"] is None else None
    return {**found, "reason": reason, "reasonCode": CODES[reason], "ending": ending, **more}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (job(resolved=2), "resolved"),
        (job(resolved=2, error=1, timeout=2, unknown=3), "resolved, 6 failed"),
        (job("canceled", canceled=3, skipped=1), "canceled"),  # none of those ran
        (job("aborted", error=1, skipped=3), "aborted, 1 failed"),
    ],
)
def test_the_status_has_a_sign_for_failures(found: dict[str, Any], status: str) -> None:
    assert wording.status(found) == status


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (job("dispatching", sent=1, resolved=2), "job 7 dispatching: 2 of 3 done, 0 failed, 1 in flight"),
        (
            with_reason(job("paused", pending=1, sent=1), PAUSED),
            f"job 7 {PAUSED}: 0 of 2 done, 0 failed, 1 in flight",
        ),
        (
            with_reason(job("paused", pending=1, error=1), GATE, gateStatus="closed"),
            f"job 7 paused: 1 of 2 done, 1 failed, 0 in flight; {GATE}",
        ),
        (
            with_reason(job("dispatching", canceled=1, sent=1), CANCELED),
            f"job 7 stopping: 1 of 2 done, 0 failed, 1 in flight; {CANCELED}",
        ),
        (
            with_reason(job("paused", canceled=1, sent=1), CANCELED),
            f"job 7 stopping: 1 of 2 done, 0 failed, 1 in flight; {CANCELED}",
        ),
    ],
)
def test_how_far_an_open_job_is(found: dict[str, Any], line: str) -> None:
    assert wording.state(found) == line
    assert wording.state(found, "5 s left").split("; ")[0] == f"{line.split('; ')[0]}, 5 s left"


WAVES = {"waves": [2, "100%"], "waveEnds": [2, 10], "wave": 1, "gateStatus": None}


@pytest.mark.parametrize(
    ("found", "left_s", "text"),
    [
        (job("dispatching", pending=1, sent=1), 0.2, "1 s left"),
        (job("dispatching", pending=1, sent=1), 61.5, "1 min 02 s left"),
        (job("dispatching", pending=1, sent=1), None, ""),
        (job("dispatching", resolved=9, sent=1), 5, "waiting for 1 answer"),
        (job("dispatching", resolved=9, sent=4), None, "waiting for 4 answers"),
        (job("paused", pending=9, sent=4), None, "waiting for 4 answers"),
        (job("paused", pending=9), None, ""),
        (with_reason(job("dispatching", canceled=9, sent=4), CANCELED), 5, "waiting for 4 answers"),
        ({**job("dispatching", resolved=1, sent=1, pending=8), **WAVES}, 5, "wave 1 waits for 1 answer"),
        ({**job("dispatching", sent=1, pending=9), **WAVES}, 5, "5 s left"),
        (
            {**job("dispatching", resolved=2, pending=8), **WAVES, "gateStatus": "soak"},
            5,
            "wave 1 is done and rests",
        ),
        ({**job("pending", pending=3), "startAt": "2026-01-02T03:06:10Z"}, None, "starts in 1 min 05 s"),
        ({**job("pending", pending=3), "startAt": "2026-01-02T03:00:00Z"}, None, "starts in 1 s"),
    ],
)
def test_what_is_ahead(found: dict[str, Any], left_s: float | None, text: str) -> None:
    assert wording.outlook(found, left_s, NOW_S) == text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (with_reason(job("paused", pending=1), PAUSED), True),
        (with_reason(job("paused", pending=1), GATE, gateStatus="closed"), True),
        (with_reason(job("paused", canceled=1, sent=1), CANCELED), False),
        (job("dispatching", pending=1), False),
        (with_reason(job("aborted", error=1), GATE, gateStatus="closed"), False),
    ],
)
def test_what_can_be_done_about_a_paused_job(found: dict[str, Any], said: bool) -> None:
    advice = "puppetmaster resume 7 sends on, puppetmaster cancel 7 ends it"
    assert wording.advice(found) == (advice if said else "")


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (job(resolved=2), "job 7 resolved after 1 min 00 s: 2 of 2 resolved."),
        ({**job(resolved=2), "startedAt": None}, "job 7 resolved: 2 of 2 resolved."),
        (
            with_reason(job("canceled", resolved=1, canceled=2), CANCELED),
            "job 7 canceled by a request after 1 min 00 s: 1 of 3 resolved, 2 canceled.",
        ),
        (
            with_reason(job("aborted", resolved=1, error=2, skipped=3), GATE),
            f"job 7 aborted after 1 min 00 s: 1 of 6 resolved, 2 error, 3 skipped, because {GATE}.",
        ),
        (
            with_reason(job("timeout", skipped=3), TIMEOUT),
            "job 7 timeout after 1 min 00 s: 0 of 3 resolved, 3 skipped, because its timeout of 5 s is over.",
        ),
    ],
)
def test_what_became_of_a_job(found: dict[str, Any], line: str) -> None:
    assert wording.summary(found) == line


def test_what_is_said_of_a_removed_job() -> None:
    assert wording.removal(job(resolved=1, error=1)) == "job 7 is removed; it was resolved, 1 failed."
    stopped = with_reason(job("canceled", resolved=1, canceled=2), REMOVED)
    assert wording.removal(stopped) == "job 7 is stopped and removed: 1 of 3 resolved, 2 canceled."


def test_a_warning_before_what_may_have_run_is_run_again() -> None:
    assert wording.warning(job(error=1, skipped=3)) == ""
    assert wording.warning(job(error=1, timeout=1, unknown=2)) == " (3 of them may have run already)"


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ({"code": 500, "source": "device", "data": {"message": "no"}}, "a error 500 from device: no"),
        ({"code": 404, "source": "controller", "message": "none"}, "a error 404 from controller: none"),
        ({"code": 500, "source": "device", "data": [1]}, "a error 500 from device"),
        ({}, "a error"),
    ],
)
def test_a_failure_in_a_line(result: dict[str, Any], line: str) -> None:
    assert wording.failure(request("a", **result)) == line


@pytest.mark.parametrize(("text", "shown"), [("12345", "12345"), ("123456", "123.."), ("", "")])
def test_long_texts_are_cut(text: str, shown: str) -> None:
    assert wording.cut(text, 5) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0 s"),
        (0.44, "0.4 s"),
        (3.0, "3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7440, "2 h 04 min"),
        (86400 * 2 - 1, "47 h 59 min"),
        (86400 * 3 + 3600 * 4, "3 d 04 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("later_s", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (119, "1 min"), (7200, "2 h"), (86400 * 9, "9 d")],
)
def test_ages(later_s: float, text: str) -> None:
    assert wording.age("2026-01-02T03:05:05.000Z", NOW_S + later_s) == text


@pytest.mark.usefixtures("clock_of_taipei")
def test_a_time_is_that_on_the_wall() -> None:
    assert wording.local("2026-01-02T23:04:05.678Z") == "2026-01-03 07:04:05"


def test_requests_are_counted() -> None:
    assert [wording.requests(count) for count in (0, 1, 2)] == ["0 requests", "1 request", "2 requests"]


def test_a_time_that_no_calendar_here_has_is_shown_as_it_is() -> None:
    assert wording.local("9999-12-31T23:59:59-14:00") == "9999-12-31T23:59:59-14:00"
