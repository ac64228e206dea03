"""/gateways over HTTP: what is put is shown, and faults are named all at once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.api import gateway_bodies, kinds
from puppetmaster.bus.client import BridgeChanged, Owners
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import StoreError
from puppetmaster.model.request import RequestStatus
from puppetmaster.store.base import Changes
from tests.desk import until
from tests.examples import AT, a_request
from tests.web_client import Controller, Door, batch, running

WAIT_S = 10.0
NORTH = {"name": "cg-1", "labels": {"site": "north", "example.com/rack": "7"}, "note": "attic"}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path) as started:
        yield started


def names(door: Door, query: str = "") -> list[str]:
    answer = door.ask("GET", f"/gateways{query}")
    assert answer.status == 200, answer
    return [one["name"] for one in answer.json]


def test_a_gateway_is_put_shown_and_forgotten(door: Door) -> None:
    put = door.ask("PUT", "/gateways/00:0c:29%3a1c", {"labels": {"site": "north"}, "note": "é"})
    assert put.status == 200
    assert put.json == {
        "name": "00:0c:29:1c",
        "labels": {"site": "north"},
        "note": "é",
        "discovered": False,
        "connected": None,
        "registered": None,
        "checkedAt": None,
        "lastSeenAt": None,
        "lastResult": None,
    }
    assert door.ask("GET", "/gateways/00:0c:29:1c").json == put.json
    changed = door.ask("PUT", "/gateways/00:0c:29:1c", {"note": ""}).json
    assert (changed["labels"], changed["note"]) == ({"site": "north"}, None)
    assert door.ask("DELETE", "/gateways/00:0c:29:1c").json == changed
    for method in ("GET", "DELETE"):
        gone = door.ask(method, "/gateways/00:0c:29:1c")
        assert (gone.status, gone.json["message"]) == (
            404,
            "There is no gateway '00:0c:29:1c': GET /gateways lists those there are.",
        )


def test_a_list_is_put_and_destinations_are_known_too(door: Door) -> None:
    door.ask("POST", "/jobs", batch("cg-1", "cg-9"))
    assert door.ask("POST", "/gateways", [NORTH, {"name": "cg-2"}]).json == {"put": 2, "created": 1}
    answer = door.ask("GET", "/gateways?limit=2&offset=1")
    assert [one["name"] for one in answer.json] == ["cg-2", "cg-9"]
    assert answer.headers["x-total-count"] == "3"
    assert {**door.ask("GET", "/gateways/cg-1").json, **NORTH} == door.ask("GET", "/gateways/cg-1").json


def test_more_than_a_part_is_put(door: Door) -> None:
    many = [{"name": f"cg-{number:04}", "labels": {"half": str(number % 2)}} for number in range(1201)]
    assert door.ask("POST", "/gateways", many).json == {"put": 1201, "created": 1201}
    assert len(names(door)) == 1201
    assert len(names(door, "?selector=half=1")) == 600


def test_selector_and_match_say_which(door: Door) -> None:
    door.ask("POST", "/gateways", [NORTH, {"name": "cg-2", "labels": {"site": "south"}}, {"name": "x"}])
    assert names(door, "?selector=site=north") == ["cg-1"]
    assert names(door, "?selector=site%20notin%20(north)") == ["cg-2", "x"]
    assert names(door, "?selector=!site&match=cg-*") == []
    assert names(door, "?match=cg-*") == ["cg-1", "cg-2"]
    wrong = door.ask("GET", "/gateways?selector=a+b&match=&registered=null")
    assert wrong.status == 400
    assert {one["path"] for one in wrong.json["errors"]} == {"selector", "match", "registered"}


def test_presence_is_shown(door: Door) -> None:
    door.ask("POST", "/gateways", [{"name": "a"}, {"name": "b"}, {"name": "c"}])

    def heard(engine: Engine) -> None:
        engine.bridge("a", connected=True)
        engine.bridge("b", connected=False)

    door.app.site.dispatcher.look(heard, WAIT_S)
    assert [one["connected"] for one in door.ask("GET", "/gateways").json] == [True, False, None]


def test_those_are_listed_that_are_registered_that_are_not_or_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, gateway_check_s=0) as door:
        door.ask("POST", "/gateways", [{"name": name} for name in ("a", "b", "c", "d")])
        assert names(door, "?registered=unknown") == ["a", "b", "c", "d"]
        Controller(door, monkeypatch, "a", "d")
        shown = door.ask("GET", "/gateways?check=true&name=a,b,x,d").json
        assert [(one["name"], one["registered"]) for one in shown] == [("a", True), ("b", False), ("d", True)]
        assert shown[0]["checkedAt"] is not None
        assert names(door, "?registered=true") == ["a", "d"]
        assert names(door, "?registered=true&limit=1&offset=1") == ["d"]
        assert names(door, "?registered=false") == ["b"]
        assert names(door, "?registered=unknown") == ["c"]
        assert door.ask("GET", "/gateways/c?check=true").json["registered"] is False
        counts = door.ask("GET", "/system/puppetmaster").json["gateways"]
        assert [counts[one] for one in ("registered", "notRegistered", "unknown")] == [2, 2, 0]


def test_a_plan_says_who_is_not_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, gateway_check_s=0) as door:
        many = [f"cg-{number:03}" for number in range(121)]
        controller = Controller(door, monkeypatch, *many[:118])
        plan = door.ask("POST", "/jobs", {**batch(*many), "dryRun": True}).json
        said = "3 of 121 gateways are not registered: cg-118, cg-119 and cg-120."
        assert said in plan["plan"]
        assert plan["registration"] == {
            "gateways": 121,
            "registered": 118,
            "notRegistered": 3,
            "unknown": 0,
            "unanswered": 0,
            "names": ["cg-118", "cg-119", "cg-120"],
        }
        assert sorted(controller.asked) == many
        door.ask("POST", "/jobs", {**batch(*many), "dryRun": True})
        assert len(controller.asked) == 121, "what was said lately is not asked again"
        assert names(door) == [], "a plan makes no gateway known"


def test_a_plan_does_not_wait_for_a_silent_controller_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_bodies, "CHECK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(gateway_bodies, "MOST_CHECKED", 2)
    with running(tmp_path, gateway_check_s=0) as door:
        controller = Controller(door, monkeypatch)
        controller.silent = True
        plan = door.ask("POST", "/jobs", {**batch("a", "b", "c"), "dryRun": True}).json
        assert "Whether 3 of 3 gateways are registered was not found out in time." in plan["plan"]
        assert (plan["registration"]["unknown"], plan["registration"]["unanswered"]) == (3, 3)
        assert controller.asked == ["a", "b"]


def test_a_plan_says_nothing_of_gateways_whose_owner_answers_for_many(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = door.app.site.dispatcher
    dispatcher.post([Owners("a", ("/remote/+",))])
    plan = door.ask("POST", "/jobs", {**batch("a"), "dryRun": True}).json
    assert (plan["registration"]["unknown"], plan["registration"]["unanswered"]) == (1, 0)
    assert not any("registered" in one for one in plan["plan"])


@pytest.mark.parametrize(("route", "missing"), [("direct", []), ("auto", ["b"]), ("remote", ["a", "b"])])
def test_those_that_are_reached_directly_need_not_be_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str, missing: list[str]
) -> None:
    with running(tmp_path, gateway_check_s=0, route=route) as door:
        Controller(door, monkeypatch)
        door.app.site.dispatcher.post([BridgeChanged("a", connected=True)])
        plan = door.ask("POST", "/jobs", {**batch("a", "b"), "dryRun": True}).json
        found = plan["registration"]
        assert (found["gateways"], found["names"], found["unanswered"]) == (2, missing, 0)
        assert any("registered" in one for one in plan["plan"]) is bool(missing)


def test_when_it_last_gave_a_sign_of_itself(door: Door) -> None:
    door.ask("POST", "/gateways", [{"name": "a"}, {"name": "b"}, {"name": "c"}])
    done = replace(
        a_request(destination="c"),
        status=RequestStatus.RESOLVED,
        finished_at=AT,
        result={"code": 200, "data": {}, "source": "device"},
    )
    late = replace(done, id=done.id + 1, destination="b", result={"code": 200, "source": "controller"})
    door.app.store.commit(Changes(requests={one.id: one for one in (done, late)}))
    door.app.site.dispatcher.look(lambda engine: engine.bridge("a", connected=True), WAIT_S)
    a, b, c = (one["lastSeenAt"] for one in door.ask("GET", "/gateways").json)
    assert (a is not None, b, c) == (True, None, AT)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (None, [""]),
        ({}, [""]),
        ([], [""]),
        ([1, {}], ["[0]", "[1].name"]),
        ([{"name": "a/b"}, {"name": 5}, {"name": "a", "label": {}}], ["[0].name", "[1].name", "[2].label"]),
        ([{"name": "a"}, {"name": "b"}, {"name": "a"}], ["[2].name"]),
        (
            [{"name": "a", "labels": {"-": "x", "k": "a b", "é": 5, "n": None}, "note": 5}],
            [
                "[0].labels.-",
                "[0].labels.\\u00e9",
                "[0].labels.\\u00e9",
                "[0].labels.k",
                "[0].labels.n",
                "[0].note",
            ],
        ),
        ([{"name": "a", "labels": "x"}, {"name": "b", "note": "x" * 1001}], ["[0].labels", "[1].note"]),
        ([{"name": "a", "labels": {f"k{n}": "" for n in range(65)}}], ["[0].labels"]),
    ],
)
def test_all_faults_of_a_list_are_named_and_nothing_is_put(door: Door, body: Any, paths: list[str]) -> None:
    answer = door.ask("POST", "/gateways", body)
    assert answer.status == 400
    assert sorted(one["path"] for one in answer.json["errors"]) == paths
    assert names(door) == []


def test_faults_of_one_gateway(door: Door) -> None:
    answer = door.ask("PUT", "/gateways/a%20b", {"labels": {"k": "é"}, "connected": True})
    assert sorted(one["path"] for one in answer.json["errors"]) == ["connected", "labels.k", "name"]
    assert door.ask("PUT", "/gateways/a", []).status == 400


def test_more_than_the_most_are_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MOST_GATEWAYS", 1)
    answer = door.ask("POST", "/gateways", [{"name": "a"}, {"name": "b"}])
    assert (answer.status, answer.json["message"]) == (
        413,
        "There are 2 gateways, and 1 are the most that are put at once.",
    )


def test_a_part_that_cannot_be_written_is_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    store = door.app.store
    commit, parts = store.commit, []

    def second_fails(changes: Any) -> None:
        if changes.gateways:
            parts.append(len(changes.gateways))
            if len(parts) == 2:
                raise StoreError("The disk is full.")
        commit(changes)

    monkeypatch.setattr(store, "commit", second_fails)
    answer = door.ask("POST", "/gateways", [{"name": f"cg-{number}"} for number in range(600)])
    assert answer.status == 503
    assert answer.json["message"].endswith("500 of 600 gateways are put for certain: put them all again.")
    until(lambda: len(names(door)) == 600, "the store is tried again")
