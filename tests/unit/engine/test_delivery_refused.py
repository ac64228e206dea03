"""What a controller did not pass on: it did not run, and is tried again for a while under a fresh id."""

import re

import pytest

from puppetmaster.engine.backoff import LAST_DELAY_S
from puppetmaster.model.job import JobStatus
from puppetmaster.model.request import RequestStatus
from tests.unit.engine.verbs import (
    CANCELED,
    DISPATCHING,
    ID_WAS_USED,
    PAUSED,
    SETTINGS,
    answer,
    control,
    refuse,
    why,
)
from tests.virtual import World, body, one_model

REFUSALS = [(423, "resource is locked"), (503, "service unavailable"), ID_WAS_USED]


@pytest.mark.parametrize(("code", "text"), REFUSALS)
def test_a_refusal_is_no_attempt(world: World, code: int, text: str) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, code, text)
    request = world.request(job.first)
    assert (request.status, request.attempts, request.sent_at) == (RequestStatus.PENDING, 0, None)
    said = why(world, job.first)
    assert said is not None
    holder = "somebody else uses its message id" if code == 403 else "locked by somebody else"
    assert re.fullmatch(rf"{holder}; it is tried again in 0\.\d s", said)
    world.advance(1)
    first, second = world.sendings(job.first)
    assert first == job.first
    assert second not in job.request_ids
    assert world.request(job.first).attempts == 1
    answer(world, job.first)
    assert world.statuses(job) == ["resolved"]
    assert world.request(job.first).history == ()


LOCKED_THERE = [(423, "resource is locked"), (503, "service unavailable")]


@pytest.mark.parametrize(("code", "text"), LOCKED_THERE)
def test_a_lock_at_the_gateway_is_none_of_the_servers(code: int, text: str) -> None:
    """With one lock for all: the next write goes at once, and the window does not fall."""
    world = World(SETTINGS, owners=one_model)
    job = world.create(body("post", "a", "b"))
    assert [one.destination for one in world.sent] == ["a"]
    world.owners = None
    size = world.engine.scheduler.window.size
    for _ in range(3):
        world.run(world.gateway_said(world.last(job.first).message, code, text))
        said = why(world, job.first)
        assert said is not None
        assert re.fullmatch(r"locked by somebody else at the gateway; it is tried again in 0\.\d s", said)
        assert world.last(job.first + 1).destination == "b"
        if world.request(job.first + 1).status is RequestStatus.SENT:
            answer(world, job.first + 1)
        world.advance(1)
    assert world.asked == [], "nobody asks for the lock anew"
    assert world.engine.scheduler.window.size >= size
    assert world.request(job.first).attempts == 1
    answer(world, job.first)
    assert world.statuses(job) == ["resolved", "resolved"]
    world.stop()


def test_a_lock_at_the_gateway_is_not_waited_for_for_ever(world: World) -> None:
    job = world.create(body("post", "a"))
    begun_s = world.clock.monotonic_s
    while world.statuses(job) != ["error"]:
        assert world.clock.monotonic_s - begun_s < 2 * SETTINGS.lock_wait_s + 60
        world.run(world.gateway_said(world.last(job.first).message, 423, "resource is locked"))
        world.advance(2)
    result = world.result(job.first)
    assert (result["code"], result["source"]) == (423, "device")
    assert result["message"].endswith("it did not run")


def test_a_resource_that_a_gateway_has_not_is_an_error_also_while_gateways_register(world: World) -> None:
    """The gateway is there: only who is not registered at the controller of the server is waited for."""
    job = world.create(body("post", "a"))
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s()))
    world.run(world.gateway_said(job.first, 404, ""))
    result = world.result(job.first)
    assert (result["code"], result["message"]) == (404, "the gateway has no such resource")


def test_a_refusal_that_comes_twice_causes_no_third_sending(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, 423, "resource is locked")
    world.advance(1)
    first, second = world.sendings(job.first)
    world.run(world.refused(first, 423, "resource is locked"))
    world.advance(1)
    assert world.sendings(job.first) == [first, second]
    assert world.request(job.first).status is RequestStatus.SENT
    world.run(world.refused(second, 423, "resource is locked"))
    world.advance(1)
    assert world.store.now.sending(second) is None, "nothing ran under it"
    answer(world, job.first)
    assert world.statuses(job) == ["resolved"]


@pytest.mark.parametrize(("code", "text"), REFUSALS)
def test_nobody_answers_what_was_not_passed_on(world: World, code: int, text: str) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, code, text)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["pending"]


def test_the_answer_to_an_id_that_was_used_is_somebody_elses(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, *ID_WAS_USED)
    world.advance(1)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["sent"]


def test_a_request_is_not_refused_for_ever(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    answer(world, job.first + 1)
    began_s = world.clock.now_s()
    while world.statuses(job)[0] != "error":
        if world.statuses(job)[0] == "sent":
            refuse(world, job.first)
        world.advance(0.01)
    took_s = world.clock.now_s() - began_s
    assert SETTINGS.lock_wait_s <= took_s <= SETTINGS.lock_wait_s + 2 * LAST_DELAY_S
    result = world.result(job.first)
    assert (result["code"], result["source"]) == (423, "controller")
    assert "did not run" in result["message"]
    assert world.request(job.first).attempts == 0
    assert len(world.sendings(job.first)) < 60, "the wait doubles"
    assert world.job(job.id).final


def test_a_pause_is_not_time_spent_with_refusals(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first)
    control(world, job, PAUSED)
    world.advance(10 * SETTINGS.lock_wait_s)
    control(world, job, DISPATCHING)
    refuse(world, job.first)
    assert world.statuses(job) == ["pending"]


def test_a_refusal_after_the_cancel_means_that_it_never_ran(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, CANCELED)
    assert not world.job(job.id).final
    refuse(world, job.first)
    assert world.statuses(job) == ["canceled"]
    assert world.job(job.id).status is JobStatus.CANCELED
    world.advance(100)
    assert len(world.sent) == 1
