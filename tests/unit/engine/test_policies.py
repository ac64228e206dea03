"""Events, and what requests wait for, in virtual time."""

import re
from typing import Any

import pytest

from puppetmaster.engine.lifecycle import BEGIN_S
from puppetmaster.model.request import RequestStatus
from tests.unit.engine.verbs import DISPATCHING, PAUSED, answer, control, sent, why
from tests.virtual import World, body, one_model

# -- events ----------------------------------------------------------------------------------------


def event(destination: str, **more: Any) -> dict[str, Any]:
    item = {
        "method": "put",
        "resource": "/system/state",
        "code": 200,
        "data": {"state": 1},
        "__request": {"destination": destination},
    }
    return {"batch": [item], **more}


def test_an_event_carries_its_code(world: World) -> None:
    world.create(event("a"))
    assert world.sent[0].body["data"] == {
        "code": 200,
        "method": "put",
        "resource": "/system/state",
        "data": {"state": 1},
    }


@pytest.mark.parametrize("inside", [200, 404, 500])
def test_an_event_is_delivered_whatever_is_inside(world: World, inside: int) -> None:
    job = world.create(event("a"))
    world.run(world.answered(job.first, inside))
    request = world.request(job.first)
    assert request.status is RequestStatus.RESOLVED
    assert (world.result(job.first)["code"], world.result(job.first)["source"]) == (200, "remote")


# -- why -------------------------------------------------------------------------------------------


def test_what_a_request_waits_for_is_true_at_that_moment(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1), begin=False)
    second = job.first + 1
    assert why(world, second) == "the job is about to begin"
    world.advance(BEGIN_S)
    assert why(world, second) == "no free slot: the job has 1 in flight, which is its concurrency"
    control(world, job, PAUSED)
    assert why(world, second) == "the job is paused"
    control(world, job, DISPATCHING)
    world.run(lambda engine: engine.controller(up=False))
    assert why(world, second) == "the controller does not answer"
    world.lose_link()
    assert why(world, second) == "the bus is down"
    world.regain_link()
    assert why(world, job.first) is None, "it is in flight"
    other = world.create(body("post", "a"))
    expected = f"request {job.first} of job {job.id} to the same destination is in flight"
    assert why(world, other.first) == expected
    answer(world, job.first)
    assert why(world, second) is None
    assert why(world, job.first) is None, "it is done"


def test_why_names_the_lock(world: World) -> None:
    world.owners = one_model
    job = world.create(body("post", "a", "b"))
    assert why(world, job.first + 1) == f"request {job.first} holds the lock of /remote/+"
    world.run(world.refused(job.first))
    said = r"locked by somebody else; it is tried again in \d\.\d s"
    for id_ in job.request_ids:
        assert re.fullmatch(said, str(why(world, id_)))


def test_a_question_that_was_lost_with_the_link_is_asked_again_at_once(world: World) -> None:
    world.lose_link(told=False)
    job = world.create(body("post", "a"))
    world.lose_link()
    world.regain_link()
    assert sent(world, job) == [0]
