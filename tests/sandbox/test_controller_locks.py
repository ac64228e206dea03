"""What the controller refuses, what a write locks, and when a ttl is over."""

import pytest

from tests.sandbox.buses import EXPIRED, LOCKED, SIGN, Bus, StandInBus, codes


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
