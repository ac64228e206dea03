"""The query of a GET: what each parameter may be, and all that is wrong with it at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.api.query import LARGEST, Query, parse
from puppetmaster.errors import HINTS, Fault, Invalid

OF_JOBS = ("limit", "offset", "jobStatus", "name", "text", "destination", "failed", "collection")
OF_REQUESTS = ("limit", "offset", "status", "destination")
JOB_STATUSES = "pending, dispatching, paused, resolved, canceled, aborted, timeout"
REQUEST_STATUSES = "pending, sent, resolved, error, timeout, unknown, canceled, skipped"


def _faults(given: dict[str, Any], allowed: tuple[str, ...] = OF_JOBS) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        parse(given, allowed)
    return {fault.path: fault.message for fault in refused.value.faults}


def test_the_largest_number_is_one_that_sqlite_takes() -> None:
    assert LARGEST < 2**63


@pytest.mark.parametrize("allowed", [OF_JOBS, ()])
def test_nothing_asked_is_everything(allowed: tuple[str, ...]) -> None:
    assert parse({}, allowed) == Query(limit=None, offset=0, collection=None, where={})


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


@pytest.mark.parametrize("status", JOB_STATUSES.split(", "))
def test_every_status_of_a_job(status: str) -> None:
    assert parse({"status": status}, OF_JOBS).where == {"status": [status]}


@pytest.mark.parametrize("status", REQUEST_STATUSES.split(", "))
def test_every_status_of_a_request(status: str) -> None:
    assert parse({"status": f"{status}, {status}"}, OF_REQUESTS).where == {"status": [status, status]}


KNOWN = "unknown parameter; known here: limit, offset, status, destination"


@pytest.mark.parametrize(
    ("allowed", "name", "value", "said"),
    [
        (OF_JOBS, "status", "sent", f"expected one of {JOB_STATUSES}, got 'sent'"),
        *(
            (OF_REQUESTS, "status", text, f"expected one of {REQUEST_STATUSES}, got '{text}'")
            for text in ("paused", "", "SENT")
        ),
        *(
            (OF_JOBS, "collection", text, f"expected true or false, got '{text}'")
            for text in ("", "1", "True", "yes", "null")
        ),
        (OF_REQUESTS, "ofset", "1", "unknown parameter; did you mean 'offset'?"),
        (OF_REQUESTS, "Status", "1", "unknown parameter; did you mean 'status'?"),
        (OF_REQUESTS, "jobStatus", "1", "unknown parameter; did you mean 'status'?"),
        *((OF_REQUESTS, name, "1", KNOWN) for name in ("xyz", "collection", "name")),
        (
            OF_JOBS,
            "zzz",
            "1",
            "unknown parameter; known here: limit, offset, status, name, text, destination, failed, "
            "collection",
        ),
        ((), "limit", "1", "unknown parameter; known here: none"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    allowed: tuple[str, ...], name: str, value: str, said: str
) -> None:
    assert _faults({name: value}, allowed) == {name: said}


def test_each_wrong_status_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse({"status": "resolved,done,failed"}, OF_JOBS)
    assert [fault.message[-6:] for fault in refused.value.faults] == ["'done'", "ailed'"]


def test_what_was_meant_is_sought_for_the_first_of_many_only() -> None:
    """It takes time."""
    said = _faults({f"ofset{number}": "1" for number in range(HINTS + 1)}, OF_REQUESTS)
    assert ["did you mean" in one for one in said.values()] == [True] * HINTS + [False]


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
