"""The stand-in controller against what the real one was seen to do: tables for its logic, a few real runs."""

import itertools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest

from sandbox.broker import Broker
from sandbox.controller import Controller, controller_process, real_controller
from sandbox.process import Process
from sandbox.routing import Message, uint32
from tests.bus_client import BusClient
from tests.conftest import require, stand_in_only

OWN_TOPICS = ("/controller", "/controller/registration", "/controller/resource/dependency")
LOCKED = {"message": "resource is locked"}
NO_QUERY = {
    "message": "query forbidden",
    "log": "only allow with query string '?resource=[identifier]'",
}
EXPIRED = {"message": "session failed due to ttl expired ."}
SIGN = ["controller"]
Sent = list[tuple[str, Message]]


class Bus:
    """A controller on a bus of its own, asked as other bundles ask it."""

    def put(self, message: Message | bytes, topic: str = "/controller") -> Sent:
        """Publish; return what the controller published to others because of it."""
        raise NotImplementedError

    def ask(self, method: str, resource: str, number: object = 1, **more: object) -> Sent:
        return self.put({"id": number, "method": method, "resource": resource, "tunnel": "me", **more})

    def answer(self, number: object = 1, code: object = 200, **more: object) -> Sent:
        return self.put({"id": number, "code": code, **more})

    def register(
        self, name: str, *resources: str, role: str = "model", ttl: object = 10, **more: object
    ) -> str:
        data = {
            "name": name,
            "description": "d",
            "role": role,
            "ttl": ttl,
            "resources": list(resources),
            **more,
        }
        [(_, answer)] = self.ask("post", "/controller/registration", 900, data=data)
        assert answer["code"] == 200, answer
        return str(answer["data"]["tunnel"])

    def deregister(self, name: str) -> Message:
        [(_, answer)] = self.ask("delete", "/controller/registration", 901, data={"name": name})
        return answer


class StandInBus(Bus):
    """The stand-in without a broker: it is given its own messages back, and its clock is the test's."""

    def __init__(self) -> None:
        self.controller = Controller()

    def put(self, message: Message | bytes, topic: str = "/controller") -> Sent:
        todo = [(topic, message if isinstance(message, bytes) else json.dumps(message).encode())]
        sent = []
        while todo:
            for to, answer in self.controller.handle(*todo.pop(0)):
                if to in OWN_TOPICS:
                    todo.append((to, json.dumps(answer).encode()))
                else:
                    sent.append((to, answer))
        return sent

    def tick(self, now_s: float) -> Sent:
        """Look at the ttls at this time."""
        return self.controller.tick(now_s)


class RealBus(Bus):
    """The real controller on a broker, where everything that is published can be seen."""

    MARK = "mark"
    WAIT_S = 10

    def __init__(self) -> None:
        self._parts = ExitStack()
        self._marks = itertools.count(3_000_000_000)
        self._seen: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._subscribed = threading.Event()
        self._client = mqtt.Client("everybody")
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._seen.put(
            (message.topic, message.payload)
        )

    def __enter__(self) -> Self:
        require("mosquitto")
        broker = self._parts.enter_context(Broker("mosquitto"))
        self._parts.enter_context(controller_process(broker, publish_qos=0))
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self._parts.callback(self._client.loop_stop)
        self._parts.callback(self._client.disconnect)
        self._client.subscribe("#")
        assert self._subscribed.wait(self.WAIT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def put(self, message: Message | bytes, topic: str = "/controller") -> Sent:
        self._client.publish(topic, message if isinstance(message, bytes) else json.dumps(message))
        # The bus keeps the order: a mark comes back after what the controller sent before. Three times, as a
        # registration is sent to the controller itself, and its answer too.
        sent = []
        for _ in range(3):
            mark = {"id": next(self._marks), "method": "get", "resource": "nowhere", "tunnel": self.MARK}
            self._client.publish("/controller", json.dumps(mark))
            while (seen := self._seen.get(timeout=self.WAIT_S))[0] != self.MARK:
                if seen[0] not in OWN_TOPICS:
                    sent.append((seen[0], json.loads(seen[1])))
        return sent


@pytest.fixture
def bus() -> Iterator[Bus]:
    """Give the stand-in, and with ``SANDBOX_CONTROLLER`` the real controller: both pass the same tests."""
    if real_controller() is None:
        yield StandInBus()
    else:
        with RealBus() as real:
            yield real


@pytest.fixture
def stand_in() -> StandInBus:
    """Give the stand-in; its clock goes on when the test says so."""
    return StandInBus()


def codes(sent: Sent) -> list[tuple[str, object]]:
    return [(topic, message.get("code")) for topic, message in sent]


# --- registration ------------------------------------------------------------------------------------------

CONTEXT = {"name": "ma", "description": "ma", "role": "model", "ttl": 10, "resources": ["/alpha/+", "/beta"]}


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


# --- matching ----------------------------------------------------------------------------------------------


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


# --- who gets the answer -----------------------------------------------------------------------------------


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


# --- refusals and locks ------------------------------------------------------------------------------------


def test_a_refusal_has_an_upper_case_method_and_404_no_data(bus: Bus) -> None:
    answer = {"id": 1, "code": 404, "method": "GET", "resource": "/no?x", "sign": SIGN}
    assert bus.ask("get", "/no?x") == [("me", answer)]


@pytest.mark.parametrize("method", ["patch", "GETS", "", "é"])
def test_a_refusal_of_an_unknown_method_has_none(bus: Bus, method: str) -> None:
    assert bus.ask(method, "/no") == [("me", {"id": 1, "code": 404, "resource": "/no", "sign": SIGN})]


def test_a_refusal_shows_1023_bytes_of_the_resource(bus: Bus) -> None:
    [(_, answer)] = bus.ask("get", "/" + "r" * 1500)
    assert answer["resource"] == "/" + "r" * 1022


def test_a_write_that_meets_a_lock_on_another_of_its_resources_fails_and_takes_that_lock_away(
    bus: Bus,
) -> None:
    bus.register("ma", "/a", "/shared")
    bus.register("mb", "/b", "/shared")
    bus.ask("post", "/a", 1)
    [(_, answer)] = bus.ask("post", "/b", 2)
    assert (answer["code"], answer["data"]["log"]) == (503, "failed to lock resource")
    assert codes(bus.ask("get", "/a", 3)) == [("me", 423)]
    assert codes(bus.ask("post", "/b", 4)) != [("me", 503)], "the lock on what they share is gone"


def test_views_of_the_moment_of_the_request_get_its_answer(bus: Bus) -> None:
    bus.register("m", "/a")
    early = bus.register("early", "/a", role="view")
    bus.put({"id": 7, "method": "get", "resource": "/a"})
    bus.register("late", "/a", role="view")
    assert [topic for topic, _ in bus.answer(7)] == [early]


def test_with_a_view_of_everything_an_unknown_resource_is_forbidden(bus: Bus) -> None:
    bus.register("bridge", "/#", role="view")
    [(_, answer)] = bus.ask("get", "/no")
    assert answer["code"] == 403
    assert answer["data"] == {"message": "request forbidden", "log": "resource has no subscribed model"}


@pytest.mark.parametrize("again", [5, 5.5, 2**32 + 5])
def test_an_id_in_flight_is_refused_whoever_uses_it(bus: Bus, again: object) -> None:
    bus.register("m1", "/a")
    bus.register("m2", "/b")
    bus.ask("post", "/a", 5)
    [(topic, answer)] = bus.ask("get", "/b", again, tunnel="other")
    assert (topic, answer["code"], answer["id"]) == ("other", 403, 5)
    assert answer["data"] == {"message": "'id' was used, please use another 'id'"}
    assert codes(bus.ask("get", "/a", again)) == [("me", 403)], "before 423"
    assert codes(bus.ask("get", "/no", again)) == [("me", 404)], "after 404"


@pytest.mark.parametrize("method", ["post", "PUT", "delete", "patch", "whatever"])
def test_a_write_locks_all_resources_of_its_model_for_every_method(bus: Bus, method: str) -> None:
    tunnel = bus.register("m", "/remote/+", "/beta")
    other = bus.register("other", "/other")
    bus.ask(method, "/remote/cg-1", 1)
    for number, (again, resource) in enumerate(
        [("get", "/beta"), ("post", "/beta"), ("get", "/remote/cg-2"), ("put", "/remote/cg-2")], start=2
    ):
        [(topic, answer)] = bus.ask(again, resource, number)
        assert (topic, answer["code"], answer["data"]) == ("me", 423, LOCKED)
    assert bus.ask("post", "/other", 8)[0][0] == other
    bus.answer(1, code=500)
    assert bus.ask("get", "/beta", 9)[0][0] == tunnel


def test_gets_take_no_lock_and_are_answered_under_one(bus: Bus) -> None:
    tunnel = bus.register("m", "/remote/+")
    for number in range(1, 6):
        assert codes(bus.ask("GET", f"/remote/{number}", number)) == [(tunnel, None)]
    assert codes(bus.ask("post", "/remote/6", 6)) == [(tunnel, None)], "a pending GET does not hinder a write"
    assert codes(bus.answer(1)) == [("me", 200)]
    assert codes(bus.ask("get", "/remote/7", 7)) == [("me", 423)]


def test_a_second_owner_is_hindered_by_the_lock_of_the_first(bus: Bus) -> None:
    bus.register("all", "/remote/+")
    bus.register("one", "/remote/cg-1")
    bus.ask("post", "/remote/cg-2", 1)
    assert codes(bus.ask("post", "/remote/cg-1", 2)) == [("me", 423)]


@pytest.mark.parametrize(
    ("ttl", "looked_at", "asked_at", "expires_at"),
    [
        (5, 100.0, 100.0, 105),
        (5, 100.9, 100.9, 105),
        (2.9, 100.0, 100.0, 102),
        (1, 100.0, 100.9, 101),
        (0, 100.5, 100.5, 101),
        (-3, 100.5, 100.5, 101),
        (2, 99.9, 100.8, 101),  # the second that had begun before it came counts too
    ],
)
def test_a_ttl_is_counted_in_whole_seconds_at_ticks(
    stand_in: StandInBus, ttl: float, looked_at: float, asked_at: float, expires_at: float
) -> None:
    bus = stand_in
    bus.register("m", "/a", ttl=ttl)
    bus.tick(looked_at)
    bus.ask("post", "/a", -1)
    assert bus.tick(asked_at) == []
    assert bus.tick(expires_at - 0.01) == []
    [(topic, answer)] = bus.tick(expires_at)
    assert topic == "me"
    assert answer == {
        "id": 4294967295,
        "code": 408,
        "method": "POST",
        "resource": "/a",
        "sign": SIGN,
        "data": EXPIRED,
    }
    assert bus.tick(expires_at + 100) == []
    assert bus.answer(-1) == [], "the late answer finds nobody"
    assert len(bus.ask("get", "/a", 2)) == 1, "the lock is gone"


def test_a_late_answer_resolves_the_next_request_with_the_same_id(stand_in: StandInBus) -> None:
    bus = stand_in
    bus.register("m", "/a", ttl=3)
    bus.tick(100)
    bus.ask("get", "/a", 1, tunnel="first")
    assert codes(bus.tick(103)) == [("first", 408)]
    bus.ask("get", "/a", 1, tunnel="second")
    assert bus.answer(1, data="late")[0][0] == "second"
    bus.ask("get", "/a", 1, tunnel="third")
    assert codes(bus.tick(106)) == [("third", 408)], "once, though the second had a deadline too"


# --- ids and codes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "seen"),
    [
        (1, 1),
        (4294967295, 4294967295),
        (-1, 4294967295),
        (1.5, 1),
        (2**32 + 1, 1),
        (2**32, 0),
        (0, 0),
        (0.5, 0),
        (float(2**63), 0),
        (2**63 - 1, 0),
        (1e30, 0),
        ("1", 0),
        (None, 0),
        (True, 0),
        ([1], 0),
    ],
)
def test_an_id_becomes_an_unsigned_32_bit_number(bus: Bus, number: object, seen: int) -> None:
    assert uint32(number) == seen
    tunnel, view = bus.register("m", "/a"), bus.register("v", "/a", role="view")
    [(topic, message)] = bus.ask("get", "/a", number)
    assert (topic, message["id"]) == (tunnel if seen else view, number)
    if seen:
        assert bus.answer(number) == [("me", {"id": number, "code": 200})]


@pytest.mark.parametrize("code", [201, 204, 0, -0.9, 404, -2, 200.9, 99999999999])
def test_any_number_is_a_code(bus: Bus, code: float) -> None:
    bus.register("m", "/a")
    bus.ask("get", "/a")
    assert bus.answer(code=code) == [("me", {"id": 1, "code": code})]


@pytest.mark.parametrize("code", ["200", None, True, -1, -1.9])
def test_what_is_no_number_or_minus_one_is_no_answer(bus: Bus, code: object) -> None:
    bus.register("m", "/a")
    bus.ask("post", "/a")
    assert bus.answer(code=code) == []
    assert codes(bus.answer(code=201)) == [("me", 201)], "it is still waited for"


@pytest.mark.parametrize(
    "data", [{"a": 1}, [1], "x", 3, None, {"code": 200, "data": {"message": "x"}, "id": 9}]
)
def test_any_data_is_passed(bus: Bus, data: object) -> None:
    bus.register("m", "/a")
    bus.ask("post", "/a")
    assert bus.answer(data=data)[0][1]["data"] == data


# --- what is dropped ---------------------------------------------------------------------------------------


def request_with(data: bytes) -> bytes:
    return b'{"id": 1, "method": "get", "resource": "/a", "tunnel": "me", "data": ' + data + b"}"


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (b"null", True),
        (b"null} x", False),
        (b"null}\0 x", True),
        (b"null,", False),
        (b"NaN", False),
        (b"Infinity", False),
        (b"-Infinity", False),
        (b"9223372036854775807", True),
        (b"9223372036854775808", False),
        (b"9223372036854775808.0", True),
        (b'"9223372036854775808"', True),
        (b'"\\u0000"', False),
        (b'[[{"x\\u0000": 1}]]', False),
        (b'"\\\\u0000"', True),
        (b'"\\ud83d"', False),
        (b'{"\\udc00": 1}', False),
        (b'"\\ud83d\\ude00"', True),
        (b'"\\u00e9\\/"', True),
        (b'"\xc3\xa9"', True),
        (b'"\xe9"', False),
        (b'"\xed\xa0\x80"', False),
        (b'"' + b"x" * 600_000 + b'"', True),
        (b'"' + b"x" * (1_048_576 - len(request_with(b'""'))) + b'"', False),
        (b'"' + b"x" * (1_048_575 - len(request_with(b'""'))) + b'"', True),
        (b"[" * 2047 + b"]" * 2047, True),
        (b"[" * 2048 + b"]" * 2048, False),
        (b"[" * 100_000 + b"]" * 100_000, False),
        (b"[]," * 3000, False),
        (b"[" + b"[]," * 3000 + b"[]]", True),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_what_the_controller_drops(
    bus: Bus, data: bytes, passes: bool, request: pytest.FixtureRequest
) -> None:
    limit = sys.getrecursionlimit()
    request.addfinalizer(lambda: sys.setrecursionlimit(limit))
    sys.setrecursionlimit(20_000)  # as the controller does
    bus.register("m", "/a")
    assert len(bus.put(request_with(data))) == passes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe{\0}\0",
        b'\xef\xbb\xbf{"method":"get","resource":"/a"}',
        b'{"id":1}',
        b'{"id":1,"method":"get"}',
        b'{"id":1,"resource":"/a"}',
        b'{"id":1,"method":"get","resource":""}',
        b'{"id":1,"method":3,"resource":"/a"}',
        b'{"resource":"/a"}',
    ],
)
def test_what_is_no_message_is_dropped_on_every_topic(bus: Bus, raw: bytes) -> None:
    bus.register("v", "/#", role="view")
    assert [bus.put(raw, topic) for topic in OWN_TOPICS] == [[], [], []]


def test_of_equal_keys_the_last_counts(bus: Bus) -> None:
    bus.register("m", "/a")
    assert bus.put(request_with(b'{"b": 1, "a": 2, "b": 3}'))[0][1]["data"] == {"b": 3, "a": 2}


# --- events, hooks, dependency -----------------------------------------------------------------------------


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


def test_each_level_has_its_own_ttl(stand_in: StandInBus) -> None:
    bus = stand_in
    bus.register("A", "/a", ttl=5)
    bus.register("B", "/b", ttl=20, hook=["A"])
    bus.tick(100)
    bus.ask("post", "/a")
    bus.tick(103)
    bus.answer()
    assert bus.tick(122) == []
    assert codes(bus.tick(123)) == [("me", 408)]


def test_of_two_models_the_shorter_ttl_counts(stand_in: StandInBus) -> None:
    bus = stand_in
    bus.register("m1", "/a", ttl=20)
    bus.register("m2", "/a", ttl=5)
    bus.tick(100)
    bus.ask("get", "/a")
    bus.answer()
    assert codes(bus.tick(105)) == [("me", 408)]


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


# --- through a real broker ---------------------------------------------------------------------------------


@pytest.fixture
def client(broker: Broker, controller: Process) -> Iterator[BusClient]:
    with BusClient(broker) as connected:
        yield connected


@pytest.fixture
def model(broker: Broker, controller: Process) -> Iterator[BusClient]:
    with BusClient(broker, first_id=1_000_000) as connected:
        yield connected


def test_a_request_and_its_answer_over_a_broker(client: BusClient, model: BusClient) -> None:
    seen: queue.Queue[Message] = queue.Queue()

    def handler(message: Message) -> tuple[int, object]:
        seen.put(message)
        return 200, {"né": 0.1}

    model.register_model("m", ["/remote/+"], handler)
    answer = client.request("POST", "/remote/a", {"x": [1, "\u00e9"]})
    assert (answer["code"], answer["data"], answer["sign"]) == (200, {"né": 0.1}, [model.name])
    assert seen.get(timeout=5)["data"] == {"x": [1, "é"]}
    assert client.request("get", "/nobody")["code"] == 404


def test_messages_are_dumped_again_with_four_spaces(client: BusClient, model: BusClient) -> None:
    raw: queue.Queue[bytes] = queue.Queue()
    client.subscribe("raw", raw.put)
    model.register_model("m", ["/a"], lambda _: None)
    client.send({"id": 7, "method": "get", "resource": "/a", "tunnel": "raw"})
    client.probe()
    client.send(b'{"id":7,"code":200,"data":["\\u00e9\\/",[]]}')
    assert raw.get(timeout=10).decode() == (
        '{\n    "id": 7,\n    "code": 200,\n    "data": [\n        "é/",\n        []\n    ]\n}'
    )


def test_ttl_and_lock_in_real_time(client: BusClient, model: BusClient) -> None:
    model.register_model("m", ["/a"], lambda _: None, ttl=2)
    silent = client.ask("post", "/a")
    assert client.request("get", "/a")["code"] == 423
    answer = silent.result(10)
    assert (answer["code"], answer["data"], answer["sign"]) == (408, EXPIRED, SIGN)


def test_rubbish_is_survived_and_2040_levels_pass(client: BusClient, model: BusClient) -> None:
    raw: queue.Queue[bytes] = queue.Queue()
    client.subscribe("raw", raw.put)
    model.register_model("m", ["/a"], lambda _: None)
    for rubbish in (b"", b"rubbish", b"[" * 500_000, b'{"id":1,"method":"get","resource":"/x","tunnel":"#"}'):
        client.send(rubbish)
    client.send({"id": 7, "method": "get", "resource": "/a", "tunnel": "raw"})
    client.probe()
    client.send(b'{"id":7,"code":200,"data":' + b"[" * 2040 + b"]" * 2040 + b"}")
    assert raw.get(timeout=20).count(b"[") == 2040


def test_retained_messages_are_ignored(client: BusClient, controller: Process) -> None:
    client.send({"id": 5, "method": "get", "resource": "/no", "tunnel": client.tunnel}, retain=True)
    assert client.answers.get(timeout=10)["code"] == 404, "who is there gets it as a normal message"
    controller.terminate()
    controller.start()  # the broker now gives it the retained one
    assert client.request("get", "/no")["code"] == 404
    assert client.answers.empty()


def test_whoever_listens_sees_each_registration_as_it_was_asked_for(
    client: BusClient, model: BusClient
) -> None:
    seen: queue.Queue[Message] = queue.Queue()
    client.subscribe("/controller/registration", lambda payload: seen.put(json.loads(payload)))
    model.register_model("cg-1", ["/remote/cg-1"], lambda _: None, ttl=5)
    message = seen.get(timeout=10)
    assert (message["method"], message["resource"]) == ("post", "/controller/registration")
    asked = {"name": "cg-1", "description": "cg-1", "role": "model", "ttl": 5, "resources": ["/remote/cg-1"]}
    assert message["data"] == asked
    assert model.deregister("cg-1")["code"] == 200
    message = seen.get(timeout=10)
    assert (message["method"], message["data"]) == ("delete", {"name": "cg-1"})


@pytest.mark.parametrize("tuned", [True, False])
def test_registrations_take_their_time(tuned: bool) -> None:
    require("mosquitto")
    # The real one waits for acknowledgements that come late, every other time.
    with Broker("mosquitto", tuned=tuned) as broker, controller_process(broker), BusClient(broker) as client:
        begun_s = time.monotonic()
        for number in range(4):
            client.register_model(f"m{number}", [f"/m/{number}"], lambda _: None)
        assert time.monotonic() - begun_s > 0.08


@stand_in_only("a time of registration that can be set")
def test_who_registers_meanwhile_is_refused_and_all_else_goes_on(broker: Broker) -> None:
    with controller_process(broker, registration_s=1), BusClient(broker) as client:
        begun_s = time.monotonic()
        first = client.ask("post", "/controller/registration", CONTEXT)
        second = client.ask("post", "/controller/registration", CONTEXT | {"name": "mb"})
        assert second.result(10)["code"] == 423
        client.probe()
        assert not first.done()
        assert first.result(10)["code"] == 200
        assert time.monotonic() - begun_s > 1


@stand_in_only("compact messages")
def test_options_for_compact_messages_at_another_qos(broker: Broker) -> None:
    raw: queue.Queue[bytes] = queue.Queue()
    with (
        controller_process(broker, indent=0, publish_qos=0),
        BusClient(broker) as client,
    ):
        client.subscribe("raw", raw.put)
        client.send({"id": 7, "method": "get", "resource": "/no", "tunnel": "raw"})
        expected = b'{"id":7,"code":404,"method":"GET","resource":"/no","sign":["controller"]}'
        assert raw.get(timeout=10) == expected


def test_a_controller_waits_for_its_broker_and_ends_in_good_order(broker: Broker) -> None:
    broker.stop()
    controller = controller_process(broker, reconnect_s=0.1)
    ready, controller.ready = controller.ready, "Connection refused"
    assert ready is not None
    with controller:
        broker.start()
        controller.wait_for(ready, 15)
        assert controller.terminate() == 0


def test_a_restart_forgets_every_registration(
    client: BusClient, model: BusClient, controller: Process
) -> None:
    model.register_model("m", ["/a"], lambda _: (200, None))
    assert client.request("get", "/a")["code"] == 200
    controller.kill()
    controller.start()
    assert client.request("get", "/a")["code"] == 404


def test_after_a_broker_restart_registrations_are_kept(broker: Broker, controller: Process) -> None:
    with BusClient(broker) as client:
        client.register_view("v", ["/v"])
        broker.restart()
        with BusClient(broker) as other:
            assert answer_at_last(other, "/v")["code"] == 403, "still known, as a view"


def answer_at_last(client: BusClient, resource: str) -> Message:
    """Ask until the controller, which may be away for 5 s, answers."""
    for _ in range(30):
        with suppress(TimeoutError):
            return client.request("get", resource, timeout_s=0.5)
    raise TimeoutError(f"expected an answer to GET {resource} within 15 s, got none")


# --- the real one in its place -----------------------------------------------------------------------------


def test_the_real_controller_takes_the_options_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(port=1884)
    monkeypatch.setenv("SANDBOX_CONTROLLER", "/opt/sanji-controller")
    process = controller_process(broker, refresh_ms=100, publish_qos=0, indent=0, reconnect_s=0.1)
    address = ["-H", "127.0.0.1", "-p", "1884"]
    assert process.argv == [
        "/opt/sanji-controller", "-f", "-c", os.devnull, *address, "-i", "100", "-Q", "0",
    ]  # fmt: skip
    monkeypatch.setenv("SANDBOX_CONTROLLER", "")
    process = controller_process(broker, refresh_ms=100, indent=0)
    assert process.argv[1:3] == ["-m", "sandbox.controller"]
    assert process.argv[-4:] == ["--refresh-ms", "100", "--indent", "0"]
