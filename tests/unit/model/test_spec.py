"""The optional properties of a job: what each may be, the words of a fault, and what a job is made of."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.api import bodies, fields
from puppetmaster.clock import iso, seconds
from puppetmaster.errors import Fault, Invalid
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import RequestStatus
from puppetmaster.model.spec import ItemSpec, JobSpec, Rerun, specs_of, starts_at_once

ITEM = {"method": "post", "resource": "/x", "__request": {"destination": ["a", "b"]}}
SECONDS_OR_NONE = "0, or seconds, from 0.001 to 1000000000"
SHARE = 'a whole number from 1 or a percentage such as "10%"'
ERRORS = 'a number from 0 or a percentage such as "10%"'
WAVES = "a list of 1 to 100 numbers from 1 or percentages, each larger than the one before"
BESIDE = {"gate": {"waves": [1]}}


def asked(name: str, value: Any) -> dict[str, Any]:
    return {"batch": [ITEM], **BESIDE.get(name, {}), name: value}


def parse(name: str, value: Any) -> JobSpec:
    return bodies.parse_job(asked(name, value), 1000)


def faults(body: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        bodies.parse_job(body, 1000)
    return [(fault.path, fault.message) for fault in caught.value.faults]


# -- what each may be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("requestTimeout", value) for value in (0.1, 1, 10**9)],
        *[("concurrency", value) for value in (1, 500, 1_000_000, "1%", "0.5%", "100%", "33.333333%")],
        *[("rate", value) for value in (0.001, 1, 2.5, 100_000)],
        *[("idempotent", value) for value in (True, False)],
        *[("retry", value) for value in ({}, {"attempts": 1}, {"attempts": 100, "delay": 0, "maxDelay": 0})],
        *[("retry", {"on": value}) for value in (["error"], ["timeout"], ["timeout", "error"])],
        *[("retry", {"factor": value}) for value in (1, 1.5, 100)],
        *[("abort", {"errors": value}) for value in (0, 5)],
        *[("abort", {"errors": value, "after": 20}) for value in (1, "0%", "10%", "100%")],
        *[("waves", value) for value in ([1], ["1%"], [1, "10%", "100%"], ["10%", 3, "100%", 4], [1, 10])],
        *[("gate", value) for value in ({}, {"errors": 0}, {"errors": "5%", "soak": 0.5, "onFail": "abort"})],
        ("gate", {"onFail": "pause"}),
        *[("startAt", value) for value in ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+02:00")],
        ("name", "x" * 128),
        ("key", "k"),
    ],
)
def test_it_is_taken_and_shown_as_it_was_given(name: str, value: Any) -> None:
    spec = parse(name, value)
    if name in fields.GIVEN:
        assert spec.given[name] == value
    shown = spec.job(1, 5, iso(0), 0.0, 60.0).view()
    assert shown[name] == value


#: By place: what is expected there, and what is refused with how it is shown.
REFUSED: dict[str, tuple[str, list[tuple[Any, str]]]] = {
    "requestTimeout": ("seconds, from 0.001 to 1000000000", [(0, "0")]),
    "concurrency": (
        SHARE,
        [
            *((0, "0"), (1.5, "1.5"), (True, "true"), ([], "an empty list"), ("\u0661%", "'\\u0661%'")),
            *((text, f"'{text}'") for text in ("10", "0%", "101%", "-1%")),
        ],
    ),
    "rate": (
        "a number from 0.0001 to 100000",
        [(0, "0"), (100_001, "100001"), (math.nan, "nan"), ("5", "'5'")],
    ),
    "idempotent": ("true or false", [("yes", "'yes'"), (1, "1")]),
    "retry": ("an object", [(3, "3")]),
    "retry.attempts": ("a whole number from 1 to 100", [(0, "0"), (None, "null")]),
    "retry.on": (
        "a list of at least one of timeout, error",
        [([], "an empty list"), ([[]], "a list"), (["unknown"], "a list"), ("error", "'error'")],
    ),
    "retry.delay": (SECONDS_OR_NONE, [(-1, "-1"), (1e-300, "1e-300"), (False, "false")]),
    "retry.maxDelay": (SECONDS_OR_NONE, [(math.inf, "inf")]),
    "retry.factor": ("a number from 1 to 100", [(0.5, "0.5")]),
    "abort.errors": (ERRORS, [(-1, "-1")]),
    "waves": (
        WAVES,
        [([], "an empty list"), (3, "3"), *((one, "a list") for one in ([0], [True], list(range(1, 102))))],
    ),
    "gate.onFail": ('"abort" or "pause"', [("stop", "'stop'"), ([], "an empty list")]),
    "gate.soak": (SECONDS_OR_NONE, [(-1, "-1")]),
    "gate.errors": (ERRORS, [("5", "'5'")]),
    "startAt": (
        "an ISO 8601 time with its zone, such as 2026-01-02T03:04:05Z",
        [
            *((text, f"'{text}'") for text in ("2026-01-02T03:04:05", "tomorrow", "1960-01-01T00:00:00Z")),
            *((1767323045, "1767323045"), ([], "an empty list")),
        ],
    ),
    "dryRun": ("true or false", [(1, "1")]),
}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (path, value, f"expected {expected}, got {got}")
        for path, (expected, some) in REFUSED.items()
        for value, got in some
    ],
)
def test_it_is_refused_with_its_place(path: str, value: Any, message: str) -> None:
    name, _, part = path.partition(".")
    assert faults(asked(name, {part: value} if part else value)) == [(path, message)]


@pytest.mark.parametrize(
    ("name", "value", "path", "message"),
    [
        ("retry", {"attemps": 2}, "retry.attemps", "unknown property"),
        ("concurency", 1, "concurency", "unknown property; did you mean 'concurrency'?"),
        ("abort", {}, "abort.errors", "expected this property, got none"),
        ("abort", {"errors": 1, "after": 0}, "abort.after", "expected a whole number from 1, got 0"),
        *(("waves", waves, "waves", f"expected {WAVES}") for waves in ([2, 1], [1, 1], ["50%", "10%"])),
    ],
)
def test_what_belongs_together_is_refused_with_its_place(
    name: str, value: Any, path: str, message: str
) -> None:
    assert faults(asked(name, value)) == [(path, message)]


@pytest.mark.parametrize("name", [*fields.GIVEN, "name", "key", "dryRun", "timeout"])
def test_null_is_not_given(name: str) -> None:
    assert parse(name, None) == bodies.parse_job({"batch": [ITEM], **BESIDE.get(name, {})}, 1000), (
        "as if it were not there"
    )


@pytest.mark.parametrize(
    ("waves", "ends"),
    [
        (["100%", 1], {1: '"100%" ends at 20, and 1 at 1'}),
        ([5, "10%", 30, "50%"], {1: '5 ends at 5, and "10%" at 2', 3: '30 ends at 20, and "50%" at 10'}),
    ],
)
def test_waves_are_in_order_in_a_job_of_this_size(waves: list[int | str], ends: dict[int, str]) -> None:
    item = {**ITEM, "__request": {"destination": [f"cg-{number}" for number in range(20)]}}
    expected = "expected a wave that ends behind the one before it: of 20 requests, "
    assert faults({"batch": [item], "waves": waves}) == [
        (f"waves[{place}]", expected + end) for place, end in ends.items()
    ]
    assert bodies.parse_job({"rerun": {"job": 1}, "waves": waves}, 1000).total == 0, "its size is not known"


@pytest.mark.parametrize("waves", [["1%", "2%"], [1, "10%", "100%"], [30, "100%"], ["100%", 30]])
def test_waves_that_add_nobody_are_taken(waves: list[int | str]) -> None:
    assert parse("waves", waves).given["waves"] == waves


def test_a_job_keeps_when_a_percentage_aborts_it() -> None:
    spec = parse("abort", {"errors": "10%"})
    assert spec.given["abort"] == {"errors": "10%"}, "what was asked for has the fingerprint that it had"
    job = spec.job(1, 5, iso(0), 0.0, 60.0)
    assert job.view()["abort"] == {"errors": "10%", "after": 2}
    assert Job.from_document(1, job.document()).given == job.given


@pytest.mark.parametrize(
    ("start_at", "said"),
    [
        (None, ""),
        (iso(1001), ""),
        (iso(1000), f"starts at once: {iso(1000)} is past"),
        ("1970-01-01T01:00:00+01:00", "starts at once: 1970-01-01T01:00:00+01:00 is past"),
    ],
)
def test_a_time_to_start_that_is_past(start_at: str | None, said: str) -> None:
    assert starts_at_once(start_at, 1000) == said


def test_a_gate_stands_between_waves() -> None:
    said = "expected waves beside it, between which it stands"
    assert faults({"batch": [ITEM], "gate": {}}) == [("gate", said)]


@pytest.mark.parametrize(
    "given_",
    [{}, {"rerun": None}, {"batch": [ITEM], "rerun": {"job": 1}}, {"name": "x"}],
    ids=["neither", "null", "both", "other"],
)
def test_either_a_batch_or_a_rerun(given_: dict[str, Any]) -> None:
    assert ("batch", "expected either a batch or rerun") in faults(given_)


@given(
    st.dictionaries(
        st.sampled_from([*fields.GIVEN, "dryRun", "name", "key", "timeout"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["errors", "on", "after", "job", "status", "x"]), inner)
            ),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_whatever_comes_is_a_spec_or_named_faults(properties: dict[str, Any]) -> None:
    named: tuple[Fault, ...] = ()
    shown = None
    try:
        shown = bodies.parse_job({"batch": [ITEM], **properties}, 1000).given
    except Invalid as error:
        named = error.faults
    assert json.loads(json.dumps(shown)) == shown
    assert (shown is None) == bool(named)
    assert all(fault.message.isascii() and "\n" not in fault.message for fault in named)


# -- rerun and dry run -----------------------------------------------------------------------------


def test_a_rerun_names_a_job_and_perhaps_states() -> None:
    spec = bodies.parse_job({"rerun": {"job": 7}}, 1000)
    assert spec.rerun == Rerun(7, ("error", "timeout", "unknown", "skipped", "canceled"))
    assert spec.items == ()
    spec = bodies.parse_job({"rerun": {"job": 7, "status": ["unknown"]}}, 1000)
    assert spec.rerun == Rerun(7, ("unknown",))
    assert spec.given["rerun"] == {"job": 7, "status": ["unknown"]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({}, "rerun.job"),
        ({"job": 0}, "rerun.job"),
        ({"job": "7"}, "rerun.job"),
        ({"job": 7, "status": []}, "rerun.status"),
        ({"job": 7, "status": ["resolved"]}, "rerun.status"),
        ({"job": 7, "status": [{}]}, "rerun.status"),
        ({"job": 7, "states": ["error"]}, "rerun.states"),
        (7, "rerun"),
    ],
)
def test_a_rerun_is_checked(value: Any, path: str) -> None:
    assert [found for found, _ in faults({"rerun": value})] == [path]


def test_a_dry_run_is_no_property_of_the_job() -> None:
    spec = parse("dryRun", True)
    assert spec.dry_run
    assert "dryRun" not in spec.given
    assert not parse("dryRun", False).dry_run


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["get", "post"]),
            st.integers(0, 3),
            st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_a_job_asked_for_can_be_asked_for_again(asked: list[tuple[str, int, list[str]]]) -> None:
    items = tuple(ItemSpec(method, f"/{path}", {"n": path}, tuple(to)) for method, path, to in asked)
    spec = JobSpec(items=items)
    job = spec.job(3, 100, iso(0), 0.0, 60.0)
    rows = list(spec.requests_of(job))
    stored, requests = {item.id: item for item, _ in rows}, [request for _, request in rows]
    assert specs_of(((one.item, one.destination) for one in requests), stored) == items
    some = requests[::2]
    again = specs_of([(one.item, one.destination) for one in some], stored)
    assert [to for item in again for to in item.destinations] == [request.destination for request in some]


# -- the job that it makes -------------------------------------------------------------------------


def test_requests_are_numbered_in_batch_order_then_in_list_order() -> None:
    one = ItemSpec("get", "/a", {}, ("x", "y"))
    two = ItemSpec("put", "/b", 5, ("y",), 200)
    spec = JobSpec(items=(one, two), rerun=Rerun(9, ("error",)))
    job = spec.job(3, 100, iso(7), 7.0, 60.0)
    rows = list(spec.requests_of(job))
    stored, requests = {item.id: item for item, _ in rows}, [request for _, request in rows]
    assert [(each.id, each.destination, each.item) for each in requests] == [
        (100, "x", 100),
        (101, "y", 100),
        (102, "y", 102),
    ]
    assert {id_: (each.method, each.data, each.code) for id_, each in stored.items()} == {
        100: ("get", {}, None),
        102: ("put", 5, 200),
    }
    assert (job.total, job.parent, job.status) == (3, 9, JobStatus.DISPATCHING)
    assert job.counts[RequestStatus.PENDING] == 3


@pytest.mark.parametrize(("off_s", "later"), [(-1, False), (0, False), (0.001, True), (1e6, True)])
def test_a_time_to_start_makes_a_pending_job_while_it_is_to_come(off_s: float, later: bool) -> None:
    now_s = seconds("2026-01-02T03:04:05Z")
    spec = parse("startAt", iso(now_s + off_s))
    assert spec.starts_later(now_s) is later
    job = spec.job(1, 1, iso(now_s), now_s, 60.0)
    assert job.status is (JobStatus.PENDING if later else JobStatus.DISPATCHING)


def test_a_job_names_its_timeout_or_gets_the_one_of_the_settings() -> None:
    assert parse("requestTimeout", 5).job(1, 1, iso(0), 0.0, 60.0).request_timeout_s == 5
    assert parse("name", "x").job(1, 1, iso(0), 0.0, 60.0).request_timeout_s == 60


@pytest.mark.parametrize(
    ("commands", "summary"),
    [
        ([("post", "/system/reboot")], "post /system/reboot"),
        ([("post", "/a"), ("post", "/a")], "post /a"),
        ([("get", "/a"), ("put", "/a"), ("get", "/b")], "get /a and 2 more"),
        ([("get", "/" + "x" * 95)], "get /" + "x" * 95),
        ([("get", "/" + "x" * 200)], "get /" + "x" * 94 + "…"),
    ],
)
def test_a_job_says_in_short_what_it_does(commands: list[tuple[str, str]], summary: str) -> None:
    spec = JobSpec(items=tuple(ItemSpec(method, resource, {}, ("a",)) for method, resource in commands))
    assert spec.job(1, 1, iso(0), 0.0, 60.0).summary == summary
    assert len(summary) <= 100
