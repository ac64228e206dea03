"""Who owns what at the controller: how bundles register and leave, and what it says of owners."""

import json
from typing import Any

import pytest

from sandbox.controller import Controller
from sandbox.routing import Message
from tests.sandbox.buses import CONTEXT, LOCKED, SIGN, Bus, codes

NO_QUERY = {
    "message": "query forbidden",
    "log": "only allow with query string '?resource=[identifier]'",
}


def test_a_registration_goes_over_the_bus_to_the_controller_itself() -> None:
    controller = Controller(new_tunnel=lambda: "808681565")
    request = {
        "id": 3000692034,
        "method": "post",
        "resource": "/controller/registration",
        "tunnel": "t",
        "data": CONTEXT,
    }
    [(topic, passed)] = controller.handle("/controller", json.dumps(request).encode())
    assert (topic, passed) == ("/controller/registration", request)
    [(topic, answer)] = controller.handle(topic, json.dumps(passed).encode())
    expected = {
        "id": 3000692034,
        "code": 200,
        "method": "POST",
        "resource": "/controller/registration",
        "sign": SIGN,
        "data": {"tunnel": "808681565"},
    }
    assert (topic, answer) == ("/controller", expected)
    assert controller.handle(topic, json.dumps(answer).encode()) == [("t", expected)]


@pytest.mark.parametrize(
    ("change", "log"),
    [
        ({"name": None}, "no 'name'"),
        ({"name": ""}, "no 'name'"),
        ({"description": ""}, "need 'description'"),
        ({"role": 3}, "need 'role'"),
        ({"hook": ""}, "empty 'hook'"),
        ({"hook": ["a", ""]}, "empty 'hook'"),
        ({"hook": [5]}, "empty 'hook'"),
        ({"hook": [""], "ttl": None}, "empty 'hook'"),
        ({"ttl": "10"}, "need 'ttl'"),
        ({"ttl": True}, "need 'ttl'"),
        ({"ttl": None}, "need 'ttl'"),
        ({"resources": []}, "empty 'resources'"),
        ({"resources": ""}, "empty 'resources'"),
        ({"resources": ["/a", ""]}, "empty 'resources'"),
        ({"resources": ["/a", 3]}, "empty 'resources'"),
    ],
)
def test_an_incomplete_registration_is_refused(bus: Bus, change: Message, log: str) -> None:
    [(_, answer)] = bus.ask("post", "/controller/registration", data=CONTEXT | change)
    assert answer["code"] == 400
    assert answer["data"] == {"message": "wrong register context", "log": log}


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_a_registration_without_an_object_of_data_is_refused(bus: Bus, data: object) -> None:
    [(_, answer)] = bus.ask("post", "/controller/registration/ma", data=data)
    assert (answer["code"], answer["data"]["log"]) == (400, "Need 'data'")
    [(_, answer)] = bus.ask("delete", "/controller/registration", data=data)
    assert (answer["code"], answer["data"]["log"]) == (400, "no 'name'")


def test_a_registration_without_resources_is_refused(bus: Bus) -> None:
    context = {key: value for key, value in CONTEXT.items() if key != "resources"}
    [(_, answer)] = bus.ask("post", "/controller/registration", data=context)
    assert (answer["code"], answer["data"]["log"]) == (400, "Need 'resources'")
    [(_, answer)] = bus.ask("post", "/controller/registration", data=context | {"resources": None})
    assert (answer["code"], answer["data"]) == (500, {"message": "internal server error"})


@pytest.mark.parametrize("hook", [[], None, 5, {}, "A", ["A"]])
def test_a_hook_may_be_a_text_and_what_is_none_does_not_count(bus: Bus, hook: object) -> None:
    bus.register("A", "/a")
    tunnel = bus.register("B", "/b", hook=hook)
    bus.ask("post", "/a")
    assert (bus.answer()[0][0] == tunnel) is (hook in ("A", ["A"]))


def test_a_name_may_be_in_the_path(bus: Bus) -> None:
    context = {key: value for key, value in CONTEXT.items() if key != "name"}
    for name in ("other", None):
        [(_, answer)] = bus.ask("post", "/controller/registration/ma", data=context | {"name": name})
        assert answer["code"] == (200 if name else 403), "the one in the data does not count"
    [(_, answer)] = bus.ask("post", "/controller/registration?x=1", data=CONTEXT)
    assert (answer["code"], answer["data"]["log"]) == (400, "'resource' didn't match")
    assert bus.deregister("ma")["code"] == 200
    assert codes(bus.ask("get", "/beta")) == [("me", 404)]


def test_what_the_controller_says_of_itself_has_the_id_that_it_made(bus: Bus) -> None:
    [(_, answer)] = bus.ask("post", "/controller/registration", -1, data=CONTEXT)
    assert (answer["code"], answer["id"]) == (200, 4294967295)


def test_a_locked_resource_takes_no_further_owner(bus: Bus) -> None:
    bus.register("ma", "/a", "/b")
    bus.ask("post", "/a", 1)
    [(_, answer)] = bus.ask("post", "/controller/registration", 2, data=CONTEXT | {"resources": "/b"})
    assert (answer["code"], answer["data"]) == (423, {"message": "the resource is locked"})
    assert bus.register("mb", "/+"), "a pattern that matches it is another resource"


def test_one_resource_may_be_a_string(bus: Bus) -> None:
    [(_, answer)] = bus.ask("post", "/controller/registration", data=CONTEXT | {"resources": "/alone"})
    assert bus.ask("get", "/alone")[0][0] == answer["data"]["tunnel"]


def test_any_role_is_accepted_and_only_model_and_view_do_something(bus: Bus) -> None:
    bus.register("odd", "/odd", role="spectator")
    [(_, answer)] = bus.ask("get", "/odd")
    assert (answer["code"], answer["data"]["message"]) == (403, "request forbidden")
    assert bus.put({"method": "put", "resource": "/odd"}) == []


def test_a_name_is_taken_by_its_first_31_characters(bus: Bus) -> None:
    bus.register("n" * 31 + "a", "/a")
    [(_, answer)] = bus.ask("post", "/controller/registration", data=CONTEXT | {"name": "n" * 31 + "b"})
    assert answer["code"] == 403
    assert answer["data"] == {"message": "component had beed already registered"}
    assert bus.deregister("n" * 31 + "c")["code"] == 200
    assert codes(bus.ask("get", "/a")) == [("me", 404)]


@pytest.mark.parametrize("by_path", [False, True])
def test_deregistration_answers_200_without_data_also_for_unknown_names(bus: Bus, by_path: bool) -> None:
    bus.register("ma", "/a", "/b/+")
    bus.register("mb", "/a")
    resource, data = ("/ma", {}) if by_path else ("", {"name": "ma"})
    for _ in range(2):
        [(_, answer)] = bus.ask("delete", "/controller/registration" + resource, data=data)
        assert answer["code"] == 200
        assert "data" not in answer
    assert codes(bus.ask("get", "/b/1")) == [("me", 404)]
    assert len(bus.ask("get", "/a", 2)) == 1, "the other owner stays"


def test_deregistration_is_refused_while_a_write_is_in_flight_but_not_a_get(bus: Bus) -> None:
    bus.register("ma", "/a", "/b")
    bus.ask("post", "/a", 1)
    answer = bus.deregister("ma")
    assert (answer["code"], answer["data"]) == (423, {"message": "resoures is locked"})
    bus.answer(1)
    bus.ask("get", "/b", 2)
    assert bus.deregister("ma")["code"] == 200
    assert codes(bus.answer(2)) == [("me", 200)], "the answer of the pending GET still arrives"


@pytest.mark.parametrize("method", ["get", "PUT", "patch"])
def test_other_methods_on_registration_are_not_allowed(bus: Bus, method: str) -> None:
    [(_, answer)] = bus.ask(method, "/controller/registration", data=CONTEXT)
    assert (answer["code"], answer["data"]) == (405, {"message": "method not allowed"})
    assert answer.get("method") == (None if method == "patch" else method.upper())


def test_of_registrations_at_the_same_time_one_is_accepted() -> None:
    controller = Controller()
    outgoing = []
    for number in range(1, 9):
        request = {"id": number, "method": "post", "resource": "/controller/registration", "tunnel": "t"}
        request["data"] = CONTEXT | {"name": f"m{number}"}
        outgoing += controller.handle("/controller", json.dumps(request).encode())
    assert codes(outgoing) == [("/controller/registration", None)] + [("t", 423)] * 7
    assert [message.get("data") for _, message in outgoing[1:]] == [LOCKED] * 7


def dependency(bus: Bus, resource: str) -> tuple[int, Any]:
    [(_, answer)] = bus.ask("get", "/controller/resource/dependency?resource=" + resource, 800)
    return answer["code"], answer["data"]


def test_dependency_tells_the_owners_resources_also_under_a_lock(bus: Bus) -> None:
    bus.register("all", "/remote/+", "/more")
    bus.register("one", "/single/cg-1")
    bus.register("hooking", "/h", hook=["one"])
    bus.ask("post", "/remote/x", 1)
    bus.ask("post", "/single/cg-1", 2)
    assert dependency(bus, "/remote/cg-9") == (200, {"resources": ["/remote/+", "/more"]})
    assert dependency(bus, "/single/cg-1") == (200, {"resources": ["/single/cg-1", "/h"]})
    assert dependency(bus, "/no") == (404, {"message": "resource had not been registered"})
    bus.register("bridge", "/#", role="view")
    assert dependency(bus, "/no") == (200, {"resources": []})


def test_resources_are_listed_oldest_first(bus: Bus) -> None:
    bus.register("first", "/b", "/c")
    bus.register("second", "/a", "/c", "/b")
    assert dependency(bus, "/a") == (200, {"resources": ["/b", "/c", "/a"]})
    assert dependency(bus, "/c") == (200, {"resources": ["/b", "/c", "/a"]})
    bus.deregister("first")
    bus.deregister("second")
    bus.register("second", "/c", "/b", "/a", "/c")
    assert dependency(bus, "/a") == (200, {"resources": ["/c", "/b", "/a"]})


@pytest.mark.parametrize(
    ("method", "rest", "code", "data"),
    [
        ("get", "", 405, {"message": "method not allowed", "log": "not support read capability"}),
        ("get", "/x", 403, NO_QUERY),
        ("get", "?x=1&resource=/a", 403, NO_QUERY),
        ("get", "?resource=", 403, NO_QUERY),
        ("get", "?resource=/a&x=1", 404, {"message": "resource had not been registered"}),
        ("get", "/x?resource=/a", 403, NO_QUERY),
        ("get", "?resource=/a?x=1", 404, None),
        ("post", "?resource=/a", 405, {"message": "method not allowed"}),
        ("patch", "/x", 405, {"message": "method not allowed"}),
    ],
)
def test_odd_questions_about_owners(
    bus: Bus, method: str, rest: str, code: int, data: Message | None
) -> None:
    bus.register("m", "/a")
    [(_, answer)] = bus.ask(method, "/controller/resource/dependency" + rest)
    assert (answer["code"], answer.get("data")) == (code, data)


@pytest.mark.parametrize(("length", "code"), [(981, 200), (982, 404)])
def test_the_owner_of_a_resource_that_is_too_long_is_not_found(bus: Bus, length: int, code: int) -> None:
    assert len("/controller/resource/dependency?resource=" + "/" + "r" * 981) == 1023
    resource = "/" + "r" * length
    bus.register("m", resource)
    assert dependency(bus, resource)[0] == code
    assert len(bus.ask("get", resource)) == 1


def test_whether_a_request_is_still_held_is_asked_under_its_own_id(bus: Bus) -> None:
    bus.register("m", "/a")

    def held(number: int) -> bool:
        [(topic, answer)] = bus.ask(
            "get", "/controller/resource/dependency?resource=/a", number, tunnel="question"
        )
        assert topic == "question"
        if answer["code"] == 403:
            assert answer["data"] == {"message": "'id' was used, please use another 'id'"}
        else:
            assert (answer["code"], answer["data"]) == (200, {"resources": ["/a"]})
        return bool(answer["code"] == 403)

    for method in ("get", "post"):
        bus.ask(method, "/a", 7)
        assert [held(7), held(7), held(8)] == [True, True, False]
        assert bus.answer(7, data=method) == [("me", {"id": 7, "code": 200, "data": method})]
        assert not held(7)
