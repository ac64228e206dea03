"""What the broker does not take: more than it keeps up with, and messages that are too long."""

import re
from typing import Any

import pytest

from puppetmaster.engine import delivery
from puppetmaster.engine.engine import BROKER_IS_SLOW
from puppetmaster.jsoncodec import FEW_BYTES, WAITING_BYTES
from puppetmaster.model.job import JobStatus
from puppetmaster.model.message import Capacity
from puppetmaster.settings import Settings
from tests.unit.engine.verbs import answer
from tests.virtual import World, body


def long_body(*names: str) -> dict[str, Any]:
    """A command of 1 MB to each."""
    some = {"destination": list(names)}
    return {"batch": [{"method": "post", "resource": "/a", "data": "x" * 1_000_000, "__request": some}]}


def test_no_more_leaves_while_much_of_what_was_sent_is_in_memory(world: World) -> None:
    world.engine.waiting_bytes = WAITING_BYTES
    job = world.create(long_body(*"abcdefgh"))
    assert world.sent == []
    assert world.engine.why([job.first]) == {job.first: BROKER_IS_SLOW}
    seen = []
    for waiting_bytes in (WAITING_BYTES - 1_500_000, FEW_BYTES, FEW_BYTES):
        world.engine.waiting_bytes = waiting_bytes
        world.turn()
        seen.append(("".join(one.destination for one in world.sent), world.engine.busy))
    assert seen == [
        ("ab", False),  # until it is as much again; there is room when the broker has taken something
        ("abcdef", True),  # perhaps all of it was taken at once, and then nothing more happens
        ("abcdefgh", False),
    ]
    for id_ in job.request_ids:
        answer(world, id_)
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_who_waits_for_the_broker_waits_for_the_bus_too(world: World) -> None:
    world.engine.waiting_bytes = WAITING_BYTES
    job = world.create(long_body("a"))
    world.run(lambda engine: engine.connection(up=False))
    assert not world.engine.busy
    assert world.engine.why([job.first]) == {job.first: "the bus is down"}
    world.engine.waiting_bytes = 0
    world.run(lambda engine: engine.connection(up=True), lambda engine: engine.controller(up=True))
    assert [one.request for one in world.sent] == [job.first]


def with_data(data: Any, *destinations: str) -> dict[str, Any]:
    made = body("post", *destinations)
    made["batch"][0]["data"] = data
    return made


def test_what_the_broker_does_not_carry_any_more_is_not_sent() -> None:
    """Its limit was not known, or another, when the job was made."""
    world = World()
    world.lose_link()
    long = world.create(with_data(list(range(4000)), "cg-1", "cg-2"))
    short = world.create(with_data({}, "cg-3"))
    world.connected = True
    world.run(lambda engine: engine.connection(up=True, capacity=Capacity(50_000)))
    world.run(lambda engine: engine.controller(up=True))
    assert world.statuses(long) == ["error", "error"]
    result = world.result(long.first)
    assert (result["code"], result["source"]) == (413, "puppetmaster")
    assert re.fullmatch(
        r"the broker carries 50000 bytes, and indented, as the controller passes it on, this has \d{5}: "
        "it did not run",
        result["message"],
    )
    assert [one.request for one in world.sent] == [short.first]
    world.stop()


def test_messages_that_are_too_long_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 1 MB takes a millisecond: a turn for 50,000 of them would hold up all others."""
    monkeypatch.setattr(delivery, "WAITING_BYTES", 100_000)
    world = World(Settings(route="direct"))
    world.lose_link()
    job = world.create(with_data(list(range(11_000)), *"abcde"))
    world.turn(
        lambda engine: engine.connection(up=True, capacity=Capacity(50_000)),
        lambda engine: engine.controller(up=True),
    )
    assert world.job(job.id).failed_count == 2
    world.run()
    assert world.statuses(job) == ["error"] * 5
    world.stop()


def test_what_goes_past_our_controller_is_not_indented_on_our_broker() -> None:
    world = World(Settings(route="direct"))
    world.run(lambda engine: engine.connection(up=True, capacity=Capacity(50_000)))
    job = world.create(with_data(list(range(4000)), "cg-1"))
    world.create(with_data(list(range(11_000)), "cg-2"))
    assert [one.request for one in world.sent] == [job.first]
    world.stop()
