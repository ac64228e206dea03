"""Ways to gateways, in virtual time: directly where a bridge is connected, else through our controller."""

from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.engine.engine import Engine
from puppetmaster.model import reply
from puppetmaster.model.job import Job
from puppetmaster.model.message import CONTROLLER_TOPIC, direct_topic, direct_tunnel
from puppetmaster.settings import Settings
from tests.unit.engine.verbs import why
from tests.virtual import TUNNEL, Event, World, body, one_model

SETTINGS = Settings(request_timeout_s=60.0, grace_s=5.0, route="auto", booting_s=0)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS, owners=one_model)
    yield made
    made.stop()


def bridged(gateway: str, connected: bool | None = True) -> Event:
    return lambda engine: engine.bridge(gateway, connected=connected)


def said(message: int, tunnel: str, **more: Any) -> Event:
    """A gateway's own message, on the tunnel of one."""
    read = reply.from_gateway({"id": message, "code": 200, "data": "done", **more})
    return lambda engine: engine.delivery.answered(message, read, tunnel)


def from_gateway(gateway: str, message: int, **more: Any) -> Event:
    return said(message, direct_tunnel(TUNNEL, gateway), **more)


@pytest.fixture
def both(world: World) -> Job:
    """A read that went directly to a, and one that went to b through our controller."""
    world.run(bridged("a"))
    return world.create(body("get", "a", "b"))


def test_the_way_is_on_disk_before_it_is_taken(world: World, both: Job) -> None:
    a, b = world.sent
    assert (a.topic, a.tunnel) == (direct_topic("a"), direct_tunnel(TUNNEL, "a"))
    assert a.body == {
        "id": a.message,
        "tunnel": a.tunnel,
        "method": "get",
        "resource": "/system/any",
        "data": {},
    }
    assert (b.topic, b.tunnel) == (CONTROLLER_TOPIC, "")
    assert b.body["resource"] == "/remote/b"
    assert [world.request(id_).route for id_ in both.request_ids] == ["direct", "remote"]


def test_each_answer_counts_on_its_own_tunnel_only(world: World, both: Job) -> None:
    a, b = both.request_ids
    world.run(world.answered(a), from_gateway("b", a), from_gateway("a", b), from_gateway("b", b))
    assert world.statuses(both) == ["sent", "sent"], "nobody answers for another gateway"
    world.run(from_gateway("a", a), world.answered(b))
    assert world.statuses(both) == ["resolved", "resolved"]
    results = [world.request(id_).result or {} for id_ in both.request_ids]
    assert [result.get("route") for result in results] == ["direct", None]


def test_a_late_answer_counts_on_its_own_tunnel_only(world: World, both: Job) -> None:
    a, b = both.request_ids
    world.advance(61)
    assert world.statuses(both) == ["timeout", "timeout"]
    assert ", asked directly" in (world.request(a).result or {})["message"]
    assert ", asked directly" not in (world.request(b).result or {})["message"]
    world.run(world.answered(a), from_gateway("a", b))
    assert world.statuses(both) == ["timeout", "timeout"]
    world.run(from_gateway("a", a), world.answered(b))
    assert world.statuses(both) == ["resolved", "resolved"]


def test_an_answer_on_the_tunnel_of_another_leaves_an_owner_busy(world: World, both: Job) -> None:
    world.advance(SETTINGS.request_timeout_s)
    assert world.engine.snapshot().owners == {"/remote/+": (2, 1)}
    message = world.sent[1].message
    world.run(from_gateway("a", message))
    assert world.engine.snapshot().owners == {"/remote/+": (2, 1)}
    world.run(world.answered(message))
    assert world.engine.snapshot().owners == {"/remote/+": (2, 0)}


def test_after_a_restart_the_answer_comes_the_way_it_was_asked_for(world: World, both: Job) -> None:
    a = both.first
    world.restart()
    world.run(world.answered(a))
    assert world.statuses(both)[0] == "sent"
    world.run(from_gateway("a", a))
    assert world.statuses(both) == ["resolved", "sent"]


def test_a_controller_that_was_restarted_had_nothing_of_what_went_directly(world: World, both: Job) -> None:
    now_s = world.clock.now_s()
    world.run(lambda engine: engine.delivery.controller_restarted(now_s + 1))
    world.advance(6)
    assert world.statuses(both)[0] == "sent", "its answer can come as before"
    assert world.sendings(both.first + 1) != [both.first + 1], "the other one was lost, and is sent again"
    world.run(from_gateway("a", both.first))
    assert world.statuses(both)[0] == "resolved"


def test_our_controller_is_not_asked_for_what_went_directly(world: World, both: Job) -> None:
    world.run(lambda engine: engine.delivery.controller_restarted(None))
    assert world.checked == [both.first + 1]


def test_with_our_own_connection_all_is_in_doubt(world: World, both: Job) -> None:
    world.lose_link()
    world.regain_link()
    world.advance(6)
    assert len(world.sendings(both.first)) == len(world.sendings(both.first + 1)) == 2
    assert world.request(both.first).route == "remote", "of a bridge that is not heard of nothing is known"


def test_a_gateway_that_is_away_is_not_sent_to(world: World) -> None:
    world.run(bridged("a"), bridged("a", False))
    job = world.create(body("post", "a", "b"))
    assert [one.destination for one in world.sent] == ["b"]
    ended = world.request(job.first)
    assert ended.status == "error"
    assert ended.result is not None
    assert (ended.result["code"], ended.attempts) == (503, 0)
    assert ended.result["message"].startswith("not connected since ")
    assert ended.result["message"].endswith(": it did not run")


def test_of_one_in_flight_it_is_said_that_its_gateway_went_away(world: World, both: Job) -> None:
    world.run(bridged("a", False))
    assert "its gateway is not connected since" in str(why(world, both.first))
    assert why(world, both.first + 1) is None
    world.advance(61)
    assert "; its gateway is not connected" in (world.request(both.first).result or {})["message"]


def test_what_waits_for_a_lock_goes_directly_when_its_bridge_is_there(world: World) -> None:
    job = world.create(body("post", "x", "a", "b"))
    assert [one.destination for one in world.sent] == ["x"], "one lock for all"
    world.run(bridged("a"))
    assert [(one.destination, one.topic) for one in world.sent[1:]] == [("a", direct_topic("a"))]
    assert str(why(world, job.first + 2)).startswith(f"request {job.first} holds the lock of")
    world.run(world.answered(job.first))
    assert world.sent[-1].destination == "b"


def test_what_waits_for_the_owner_of_its_lock_goes_directly_when_its_bridge_is_there(world: World) -> None:
    world.owners = None
    world.create(body("post", "a"))
    assert (world.sent, world.asked) == ([], ["a"])
    world.run(bridged("a"))
    assert [one.topic for one in world.sent] == [direct_topic("a")]


def test_gateways_of_their_own_are_written_to_side_by_side(world: World) -> None:
    world.run(bridged("a"), bridged("b"))
    world.create(body("post", "a", "b"))
    assert len(world.sent) == 2
    world.create(body("post", "a"))
    assert len(world.sent) == 2, "one after the other, as ever"


def test_an_event_goes_through_the_remote_bundle(world: World) -> None:
    """What a controller is given as an event nobody answers: whether it arrived only the bundle can tell."""
    world.run(bridged("a"))
    item = {"code": 200, "method": "put", "resource": "/x", "data": {}, "__request": {"destination": ["a"]}}
    job = world.create({"batch": [item]})
    assert [one.topic for one in world.sent] == [CONTROLLER_TOPIC]
    assert world.request(job.first).route == "remote"
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved"]


def test_where_their_answers_cannot_be_heard_nothing_goes_directly(world: World) -> None:
    world.run(bridged("a"), lambda engine: engine.refused(presence=False, direct=True))
    world.create(body("get", "a"))
    assert [one.topic for one in world.sent] == [CONTROLLER_TOPIC]
    world.run(lambda engine: engine.refused(presence=False, direct=False))
    world.create(body("get", "a", resource="/other"))
    assert [one.topic for one in world.sent] == [CONTROLLER_TOPIC], "once refused it stays so"
    world.lose_link()
    world.regain_link()
    world.run(bridged("a"))

    def route(engine: Engine) -> str:
        return engine.presence.route

    assert world.do(route) == "auto", "the next connection may have other rules"


def test_the_gateways_own_controller_may_refuse(world: World, both: Job) -> None:
    refusal = {"code": 423, "data": {"message": "resource is locked"}, "sign": ["controller"]}
    world.run(from_gateway("a", both.first, **refusal))
    assert "locked by somebody else at the gateway" in str(why(world, both.first))
    world.advance(3)
    assert len(world.sendings(both.first)) == 2
    assert world.last(both.first).topic == direct_topic("a")
