"""Destinations that are looked for: checked, resolved once, shown, and compared by what was asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.api import kinds
from puppetmaster.api.bodies import aimed, digest, parse_job
from puppetmaster.errors import Invalid
from puppetmaster.model.message import Capacity
from tests.web_client import Door, batch, running

FLEET = [
    {"name": "cg-1", "labels": {"site": "north"}},
    {"name": "cg-2", "labels": {"site": "north", "retired": ""}},
    {"name": "cg-10", "labels": {"site": "south"}},
    {"name": "x"},
]


def asked(*destinations: Any, **more: Any) -> dict[str, Any]:
    """A job with an item for each of these."""
    items = [{"method": "get", "resource": "/a", "__request": {"destination": one}} for one in destinations]
    return {"batch": items, **more}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path, max_requests=6) as started:
        started.ask("POST", "/gateways", FLEET)
        yield started


def destinations(door: Door, job: Any) -> list[str]:
    shown = door.ask("GET", f"/jobs/{job['id']}").json
    return [one["__request"]["destination"] for one in shown["requests"]]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ({"selector": "site=north"}, ["cg-1", "cg-2"]),
        ({"selector": "site,!retired"}, ["cg-1", "cg-10"]),
        ({"match": "cg-1*"}, ["cg-1", "cg-10"]),
        ({"match": "cg-*", "selector": "site=south"}, ["cg-10"]),
        ({"all": True}, ["cg-1", "cg-10", "cg-2", "x"]),
        ({"all": True, "except": ["cg-1", "x*"]}, ["cg-10", "cg-2"]),
    ],
)
def test_a_job_goes_to_what_was_found_and_shows_what_was_asked(
    door: Door, target: Any, found: list[str]
) -> None:
    job = door.ask("POST", "/jobs", asked(target)).json
    assert job["targets"] == [{"item": 0, **target, "found": len(found)}]
    assert door.ask("GET", f"/jobs/{job['id']}").json["targets"] == job["targets"]
    assert destinations(door, job) == found


def test_what_is_labeled_later_is_not_in_the_job(door: Door) -> None:
    job = door.ask("POST", "/jobs", asked({"selector": "site=north"})).json
    door.ask("PUT", "/gateways/x", {"labels": {"site": "north"}})
    door.ask("DELETE", "/gateways/cg-1")
    assert destinations(door, job) == ["cg-1", "cg-2"]


def test_items_that_name_theirs_may_stand_beside(door: Door) -> None:
    job = door.ask("POST", "/jobs", asked("x", {"match": "cg-1*"}, ["y", "z"])).json
    assert [target["item"] for target in job["targets"]] == [1]
    assert destinations(door, job) == ["x", "cg-1", "cg-10", "y", "z"]
    assert "targets" not in door.ask("POST", "/jobs", asked("x")).json


def test_nothing_found_is_refused_with_its_place(door: Door) -> None:
    answer = door.ask("POST", "/jobs", asked("x", {"selector": "site=west"}, {"all": True, "except": ["*"]}))
    assert answer.status == 400
    paths = [one["path"] for one in answer.json["errors"]]
    assert paths == [f"batch[{place}].__request.destination" for place in (1, 2)]
    assert door.ask("GET", "/jobs").json == []


def test_more_than_a_job_may_have_is_refused(door: Door) -> None:
    assert door.ask("POST", "/jobs", asked({"all": True}, {"all": True})).status == 413


def test_waves_are_those_of_what_was_found(door: Door) -> None:
    target = {"match": "cg-*"}
    job = door.ask("POST", "/jobs", asked(target, waves=[1, "100%"], startAt="2126-01-01T00:00:00Z")).json
    assert job["waveEnds"] == [1, 3]
    wrong = door.ask("POST", "/jobs", asked(target, waves=[2, "10%"]))
    assert [one["path"] for one in wrong.json["errors"]] == ["waves[1]"]


def test_a_dry_run_says_how_many_were_found(door: Door) -> None:
    target = {"selector": "site=north", "match": "cg-*", "except": ["cg-1", "cg-3"]}
    shown = door.ask("POST", "/jobs", asked(target, {"all": True}, dryRun=True)).json
    assert [one["found"] for one in shown["targets"]] == [1, 4]
    assert shown["plan"][:2] == [
        "batch[0] is for 1 gateway: site=north and cg-*, without cg-1 and cg-3.",
        "batch[1] is for 4 gateways: all that are known.",
    ]
    assert shown["totalCount"] == 5


def test_the_key_is_compared_by_what_was_asked(door: Door) -> None:
    body = asked({"selector": "site=north"}, key="k")
    job = door.ask("POST", "/jobs", body).json
    for name in ("cg-1", "cg-2"):
        door.ask("DELETE", f"/gateways/{name}")
    again = door.ask("POST", "/jobs", body)
    assert (again.status, again.json["id"]) == (200, job["id"])
    assert door.ask("POST", "/jobs", asked({"selector": "site==north"}, key="k")).status == 409
    assert door.ask("POST", "/jobs", asked(["cg-1", "cg-2"], key="k")).status == 409
    assert door.ask("POST", "/jobs", asked({"selector": "site=north"}, key="other")).status == 400


def test_a_job_that_names_its_gateways_has_the_digest_of_earlier_versions() -> None:
    spec = parse_job(batch("a", key="k"), 10)
    assert digest(spec) == "1f4b1180063c942f1e1a60b1d756eac0c6eb09bb9b619b21ba39ae095b09d786"


@pytest.mark.parametrize(
    ("target", "paths"),
    [
        ({}, [""]),
        ({"all": False}, [".all"]),
        ({"all": True, "match": "x"}, [""]),
        ({"except": ["x"]}, [""]),
        ({"selector": "a b", "match": "", "excpt": []}, [".excpt", ".match", ".selector"]),
        ({"match": "x", "except": None}, [".except"]),
        ({"selector": 5, "except": "x"}, [".except", ".selector"]),
        ({"all": True, "except": []}, [".except"]),
        ({"all": True, "except": ["cg-[001-010]"]}, [".except"]),
        ({"match": "cg-[01-ff]"}, [".match"]),
        ({"match": "cg-[1-200]"}, [".match"]),
        ({"all": True, "except": ["x", 5]}, [".except"]),
    ],
)
def test_all_faults_of_a_target_are_named(target: Any, paths: list[str]) -> None:
    body = asked(target)
    body["batch"][0]["method"] = "foo"
    with pytest.raises(Invalid) as refused:
        parse_job(body, 10)
    found = sorted(fault.path for fault in refused.value.faults)
    where = "batch[0].__request.destination"
    assert found == sorted([*(f"{where}{path}" for path in paths), "batch[0].method"])


def test_a_message_that_is_too_long_for_what_was_found_is_refused() -> None:
    body = asked({"all": True})
    body["batch"][0]["data"] = "x" * 3000
    spec = parse_job(body, 10)
    assert aimed(spec, lambda _: ("a",), 10).total == 1
    with pytest.raises(Invalid, match=r"batch\[0\]\.data"):
        aimed(spec, lambda _: ("a" * 900,), 10, Capacity(4000))


def test_only_some_items_may_look_for_their_gateways() -> None:
    body = asked(*[{"all": True}] * (kinds.MOST_TARGETS + 1))
    with pytest.raises(Invalid, match="at most 100 items"):
        parse_job(body, 1000)
