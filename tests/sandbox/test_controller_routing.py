"""Who gets a request, its answer, an event and what hooks are told of."""

import pytest

from tests.sandbox.buses import Bus, codes


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("/remote/+", "/remote/00:0c:29:1c:e8:01", True),
        ("/remote/+", "/remote/a b", True),
        ("/remote/+", "/remote/é", True),
        ("/remote/+", "/remote/%2Fx", True),
        ("/remote/+", "/remote/+", True),
        ("/remote/+", "/remote/#", True),
        ("/remote/+", "/remote/\n", True),
        ("/remote/+", "/remote/", False),
        ("/remote/+", "/remote", False),
        ("/remote/+", "/remote/a/b", False),
        ("/remote/+", "/Remote/a", False),
        ("/remote/+", "x/remote/a", False),
        ("/a/+/c", "/a/b/c", True),
        ("/a/+/c", "/a//c", False),
        ("/#", "/anything/at/all", True),
        ("/x/#", "/x/1/2\n3", True),
        ("/x/#", "/y/1", False),
        ("/x/#", "/x", False),
        ("/x/#", "/x/", False),
        ("/#", "/", False),
        ("/q#", "/q", False),
        ("/q#", "/qu/1", True),
        ("/q#/no", "/q/1", True),
        ("/networ+", "/network", True),
        ("/networ+", "/networking", True),
        ("/networ+", "/networ", False),
        ("/networ+", "/network/1", False),
        ("/remote/cg-+", "/remote/cg-1", True),
        ("/remote/cg-+", "/remote/cf-1", False),
        ("/a+b", "/axb", False),
        ("/a+b", "/a+b", True),
        ("/a++", "/abc", False),
        ("/a+/b", "/a/b", False),
        ("/a.c", "/abc", False),
        ("/a.+/+", "/a.+/c", True),
        ("/jobs", "/jobs", True),
        ("/jobs", "/jobs/", False),
        ("/jobs", "//jobs", False),
        ("/jobs", " /jobs", False),
        ("/jobs", "/Jobs", False),
        ("/jobs/+", "/jobs/12?a=?/z", True),
        ("/jobs/+", "/jobs/12?a=b/c", True),
        ("/jobs/+", "/jobs/12?a=/x?b", False),
        ("/jobs", "/jobs?x=1", True),
        ("/" + "r" * 1022, "/" + "r" * 1500, True),
        ("/" + "r" * 1500, "/" + "r" * 1022, True),
        ("/" + "r" * 1022, "/" + "r" * 1021, False),
    ],
)
def test_matching(bus: Bus, pattern: str, resource: str, matches: bool) -> None:
    tunnel = bus.register("m", pattern)
    [(topic, message)] = bus.ask("get", resource)
    assert (topic == tunnel) is matches
    assert message.get("code") == (None if matches else 404)
    if matches:
        assert message["resource"] == resource, "passed on whole"


def test_the_request_and_the_answer_are_passed_on_unchanged(bus: Bus) -> None:
    tunnel = bus.register("m", "/a")
    request = {
        "id": 7,
        "method": "Get",
        "resource": "/a?x=1",
        "tunnel": "t",
        "data": [1, None],
        "odd": {"é": 0.1},
    }
    assert bus.put(request) == [(tunnel, request)]
    answer = {
        "id": 7,
        "code": 200,
        "method": "other",
        "resource": "/other",
        "sign": ["who"],
        "extra": 1,
        "data": None,
    }
    assert bus.put(answer) == [("t", answer)]


def test_a_bare_answer_from_anybody_is_taken_once(bus: Bus) -> None:
    bus.register("m", "/a")
    bus.ask("get", "/a", 7)
    assert bus.answer(7) == [("me", {"id": 7, "code": 200})]
    assert bus.answer(7) == [], "the second is dropped"
    assert bus.answer(8) == [], "so is one that nobody asked for"


def test_a_long_tunnel_is_cut_to_63_characters_for_the_answer(bus: Bus) -> None:
    [(topic, _)] = bus.ask("get", "/nobody", tunnel="t" * 64)
    assert topic == "t" * 63


def test_without_a_tunnel_matching_views_get_the_answer_and_the_errors(bus: Bus) -> None:
    model, view = bus.register("m", "/a"), bus.register("v", "/#", role="view")
    request = {"id": 7, "method": "get", "resource": "/a"}
    assert bus.put(request) == [(model, request)], "views never get requests"
    assert bus.answer(7) == [(view, {"id": 7, "code": 200})]
    assert codes(bus.put({"id": 8, "method": "get", "resource": "/b"})) == [(view, 403)]
    bus.deregister("v")
    assert bus.put({"id": 9, "method": "get", "resource": "/b"}) == [], "no view: nobody gets the error"


def test_two_owners_of_a_resource_both_get_it_and_their_answers_are_merged(bus: Bus) -> None:
    one, two = bus.register("m1", "/a", "/one"), bus.register("m2", "/+")
    for method in ("get", "post"):
        assert [topic for topic, _ in bus.ask(method, "/a")] == [one, two]
        assert bus.answer(data={"a": 1, "b": 1}) == []
        assert bus.answer(data={"b": 2}, x=1) == [
            ("me", {"id": 1, "code": 200, "data": {"a": 1, "b": 2}, "x": 1}),
        ]


@pytest.mark.parametrize(
    ("first", "last", "merged"),
    [([1], [2], [2]), ({"a": 1}, "x", "x"), ([1], {"a": 1}, {"a": 1}), ({"a": 1}, None, None)],
)
def test_of_two_answers_the_last_counts_when_they_are_not_both_objects(
    bus: Bus, first: object, last: object, merged: object
) -> None:
    bus.register("m1", "/a")
    bus.register("m2", "/a")
    bus.ask("get", "/a")
    bus.answer(data=first)
    assert bus.answer(data=last)[0][1]["data"] == merged


def test_of_two_answers_the_first_that_is_not_200_is_final(bus: Bus) -> None:
    bus.register("m1", "/a")
    bus.register("m2", "/a")
    bus.ask("post", "/a")
    assert codes(bus.answer(code=201)) == [("me", 201)]
    assert bus.answer() == []
    assert len(bus.ask("post", "/a", 2)) == 2, "nothing is locked any more"


def test_overlapping_patterns_of_one_model(bus: Bus) -> None:
    tunnel = bus.register("m", "/x/+", "/x/1", "/x/#")
    assert [topic for topic, _ in bus.ask("get", "/x/1")] == [tunnel] * 3
    assert bus.answer() + bus.answer() == []
    assert codes(bus.answer()) == [("me", 200)]
    [(_, answer)] = bus.ask("post", "/x/1")
    assert answer["code"] == 503
    assert answer["data"] == {"message": "service unavailable", "log": "failed to lock resource"}
    assert codes(bus.ask("get", "/x/2", 2)) == [(tunnel, None)] * 2, "the failed write left no lock"


def test_events_go_whole_to_matching_views_and_never_to_models(bus: Bus) -> None:
    bus.register("m", "/a")
    views = [bus.register("v1", "/a", role="view"), bus.register("v2", "/+", role="view")]
    bus.register("v3", "/b", role="view")
    bus.ask("post", "/a")
    event = {"method": "odd", "resource": "/a", "tunnel": "t", "code": 200, "data": [1]}
    assert bus.put(event) == [(view, event) for view in views]
    assert len(bus.put(event | {"resource": "/b"})) == 2, "no model need own it"
    assert bus.put(event | {"resource": "/c/d"}) == []


def test_after_a_write_the_hooking_models_are_told_level_by_level(bus: Bus) -> None:
    a = bus.register("A", "/a")
    b = bus.register("B", "/b", hook=["A"])
    c = bus.register("C", "/c", hook=["B"])
    assert [topic for topic, _ in bus.ask("post", "/a?x", data={"in": 1})] == [a]
    # What they get is the last answer, whatever it is, without its code.
    assert bus.answer(data={"a": 1}, sign=["it"]) == [(b, {"id": 1, "sign": ["it"], "data": {"a": 1}})]
    for number, resource in enumerate(("/a", "/b", "/c"), start=2):
        assert codes(bus.ask("get", resource, number)) == [("me", 423)], "all are locked all the time"
    [(topic, told)] = bus.answer(data={"b": 2})
    assert (topic, list(told["data"].items())) == (c, [("b", 2), ("a", 1)])
    answer = {"id": 1, "code": 200, "data": {"a": 3, "b": 2}}
    assert bus.answer(data={"a": 3}) == [("me", answer)]
    bus.ask("post", "/a", 2)
    bus.answer(2, data={"a": 1})
    bus.answer(2)
    assert bus.answer(2, x="last") == [("me", {"id": 2, "code": 200, "x": "last"})], "nothing to merge into"
    assert len(bus.ask("post", "/c", 9)) == 1


@pytest.mark.parametrize(("method", "code"), [("get", 200), ("post", 201), ("post", 199.9), ("post", 500)])
def test_gets_and_other_codes_call_no_hooks(bus: Bus, method: str, code: float) -> None:
    bus.register("A", "/a")
    bus.register("B", "/b", hook=["A"])
    bus.ask(method, "/a")
    assert codes(bus.answer(code=code)) == [("me", code)]


@pytest.mark.parametrize(
    "hooks",
    [{"B": ["A"], "C": ["A", "B"]}, {"B": ["A"], "D": ["A"], "C": ["B", "D"]}],
)
def test_a_model_reached_twice_makes_every_write_fail(bus: Bus, hooks: dict[str, list[str]]) -> None:
    for name in sorted({"A", *hooks}):
        bus.register(name, f"/{name}", hook=hooks.get(name, []))
    assert codes(bus.ask("post", "/A")) == [("me", 503)]
    assert bus.ask("get", "/A")[0][1].get("code") is None
