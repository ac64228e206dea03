"""The query of a GET: what each parameter may be, and all that is wrong with it at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.api.query import LARGEST, Query, parse
from puppetmaster.errors import HINTS, Fault, Invalid

OF_JOBS = ("limit", "offset", "jobStatus", "name", "text", "destination", "failed", "collection")
OF_REQUESTS = ("limit", "offset", "status", "destination")


def _faults(given: dict[str, Any], allowed: tuple[str, ...] = OF_JOBS) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        parse(given, allowed)
    return {fault.path: fault.message for fault in refused.value.faults}


def test_the_largest_number_is_one_that_sqlite_takes() -> None:
    assert LARGEST < 2**63


def test_nothing_asked_is_everything() -> None:
    assert parse({}, OF_JOBS) == Query(limit=None, offset=0, collection=None, where={})


def test_everything_asked() -> None:
    given = {
        "limit": "10",
        "offset": "20",
        "status": "resolved,canceled",
        "name": "night",
        "text": "/system/",
        "destination": "00:0c:29:1c:e8:01",
        "failed": "true",
        "collection": "true",
    }
    where: dict[str, Any] = {
        "status": ["resolved", "canceled"],
        "name": "night",
        "text": "/system/",
        "destination": "00:0c:29:1c:e8:01",
        "failed": True,
    }
    assert parse(given, OF_JOBS) == Query(limit=10, offset=20, collection=True, where=where)


@pytest.mark.parametrize("name", ["limit", "offset"])
@pytest.mark.parametrize(("text", "number"), [("0", 0), ("1", 1), ("007", 7), (str(LARGEST), LARGEST)])
def test_a_whole_number(name: str, text: str, number: int) -> None:
    assert getattr(parse({name: text}, OF_JOBS), name) == number


@pytest.mark.parametrize("name", ["limit", "offset"])
@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.5", "ten", " 1", "1_0", "٣", "²", "1e3", str(LARGEST + 1), "9" * 5000]
)
def test_what_is_no_whole_number(name: str, text: str) -> None:
    assert _faults({name: text}) == {name: f"expected a whole number from 0, got '{text[:80]}'"}


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("false", False)])
def test_a_flag(text: str, flag: bool) -> None:
    assert parse({"collection": text}, OF_JOBS).collection is flag


@pytest.mark.parametrize("text", ["", "1", "True", "yes", "null"])
def test_what_is_no_flag(text: str) -> None:
    assert _faults({"collection": text}) == {"collection": f"expected true or false, got '{text}'"}


@pytest.mark.parametrize(
    "status", ["pending", "dispatching", "paused", "resolved", "canceled", "aborted", "timeout"]
)
def test_every_status_of_a_job(status: str) -> None:
    assert parse({"status": status}, OF_JOBS).where == {"status": [status]}


@pytest.mark.parametrize(
    "status", ["pending", "sent", "resolved", "error", "timeout", "unknown", "canceled", "skipped"]
)
def test_every_status_of_a_request(status: str) -> None:
    assert parse({"status": f"{status}, {status}"}, OF_REQUESTS).where == {"status": [status, status]}


@pytest.mark.parametrize(
    ("allowed", "status", "known"),
    [
        (OF_JOBS, "sent", "pending, dispatching, paused, resolved, canceled, aborted, timeout"),
        (OF_REQUESTS, "paused", "pending, sent, resolved, error, timeout, unknown, canceled, skipped"),
        (OF_REQUESTS, "", "pending, sent, resolved, error, timeout, unknown, canceled, skipped"),
        (OF_REQUESTS, "SENT", "pending, sent, resolved, error, timeout, unknown, canceled, skipped"),
    ],
)
def test_a_status_of_something_else(allowed: tuple[str, ...], status: str, known: str) -> None:
    assert _faults({"status": status}, allowed) == {"status": f"expected one of {known}, got '{status}'"}


def test_each_wrong_status_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse({"status": "resolved,done,failed"}, OF_JOBS)
    assert [fault.message[-6:] for fault in refused.value.faults] == ["'done'", "ailed'"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ofset", "unknown parameter; did you mean 'offset'?"),
        ("Status", "unknown parameter; did you mean 'status'?"),
        ("xyz", "unknown parameter; known here: limit, offset, status, destination"),
        ("jobStatus", "unknown parameter; did you mean 'status'?"),
        ("collection", "unknown parameter; known here: limit, offset, status, destination"),
        ("name", "unknown parameter; known here: limit, offset, status, destination"),
    ],
)
def test_an_unknown_parameter_is_named(name: str, said: str) -> None:
    assert _faults({name: "1"}, OF_REQUESTS) == {name: said}


def test_what_was_meant_is_sought_for_the_first_of_many_only() -> None:
    """It takes time."""
    said = _faults({f"ofset{number}": "1" for number in range(HINTS + 1)}, OF_REQUESTS)
    assert ["did you mean" in one for one in said.values()] == [True] * HINTS + [False]


def test_where_nothing_is_known() -> None:
    assert parse({}, ()) == Query()
    assert _faults({"limit": "1"}, ()) == {"limit": "unknown parameter; known here: none"}


def test_the_name_of_a_status_parameter_is_the_same_for_jobs_and_requests() -> None:
    assert "jobStatus" not in _faults({"zzz": "1"})["zzz"]
    assert "status" in _faults({"zzz": "1"})["zzz"]


@pytest.mark.parametrize("name", ["limit", "status", "name", "collection"])
@pytest.mark.parametrize(("value", "got"), [(True, "none"), (["1", "2"], "several")])
def test_a_parameter_has_one_value(name: str, value: Any, got: str) -> None:
    assert _faults({name: value}) == {name: f"expected one value, got {got}"}


def test_all_faults_at_once() -> None:
    given = {"limit": "x", "offset": True, "status": "done", "colection": "true", "name": "fine"}
    assert list(_faults(given)) == ["limit", "offset", "status", "colection"]


@given(st.dictionaries(st.text() | st.sampled_from(["limit", "status", "name"]), st.text() | st.just(True)))
def test_whatever_is_asked_is_understood_or_refused(given: dict[str, Any]) -> None:
    faults: tuple[Fault, ...] = ()
    asked = None
    try:
        asked = parse(given, OF_JOBS)
    except Invalid as refused:
        faults = refused.faults
    assert all(len(fault.path) <= 80 and len(fault.message) < 400 for fault in faults)
    assert (asked is None) == bool(faults)
    if asked is not None:
        assert set(given) <= {"limit", "offset", "status", "name", "destination", "collection"}
        assert set(asked.where) <= {"status", "name", "destination"}
