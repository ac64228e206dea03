"""Another attempt, in virtual time: after what, when, and how it ends."""

import re
from typing import Any

import pytest

from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.model.policy import JITTER
from puppetmaster.model.reply import garbled
from puppetmaster.model.request import RequestStatus
from tests.unit.engine.verbs import (
    CANCELED,
    DISPATCHING,
    PAUSED,
    SETTINGS,
    answer,
    control,
    names,
    sent,
    status,
    why,
)
from tests.virtual import World, body

# -- retry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more", "tried_again"),
    [
        ("get", {}, True),
        ("post", {}, False),
        ("post", {"idempotent": True}, True),
        ("get", {"idempotent": False}, False),
    ],
)
@pytest.mark.parametrize(
    "source", ["own", "controller", "remote", "remote 408", "there", "device", "garbled"]
)
def test_where_it_may_have_run_only_what_may_run_twice_is_tried_again(
    world: World, method: str, more: dict[str, Any], tried_again: bool, source: str
) -> None:
    job = world.create(body(method, "a", retry={"attempts": 2, "delay": 1}, **more))
    answers = {
        "controller": world.refused(job.first, 408, "session failed due to ttl expired ."),
        "remote": world.said({"id": job.first, "code": 500, "data": {"message": "Remote requests timeout"}}),
        "remote 408": world.said({"id": job.first, "code": 408, "data": None}),
        "there": world.gateway_said(job.first, 408, "session failed due to ttl expired ."),
        "device": world.answered(job.first, 408),
        "garbled": lambda engine: engine.delivery.answered(job.first, garbled("NaN is not JSON")),
    }
    if source == "own":
        world.advance(SETTINGS.request_timeout_s)
    else:
        world.run(answers[source])
    ended = "error" if source == "garbled" else "timeout"
    assert world.statuses(job) == ["pending" if tried_again else ended]
    world.advance(1)
    assert len(world.sent) == 1 + tried_again


def test_the_attempts_come_to_an_end(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 3, "delay": 1}))
    for code in (500, 501, 502):
        answer(world, job.first, code)
        world.advance(10)
    request = world.request(job.first)
    assert request.status is RequestStatus.ERROR
    assert world.result(job.first)["code"] == 502
    assert request.attempts == 3
    assert [one["result"]["code"] for one in request.history] == [500, 501]
    assert [one["status"] for one in request.history] == ["error", "error"]
    assert status(world, job) == ("resolved", None)
    messages = world.sendings(job.first)
    assert messages[0] == job.first
    assert len(set(messages)) == 3
    assert [*(one["message"] for one in request.history), request.sending] == messages


def test_the_waits_grow_within_their_bounds(world: World) -> None:
    retry = {"attempts": 7, "delay": 2, "factor": 3, "maxDelay": 40}
    job = world.create(body("post", *names(10), retry=retry, concurrency=10))
    seen = set()
    for longest_s in (2, 6, 18, 40, 40, 40):
        began_s, count = world.clock.now_s(), len(world.sent)
        for id_ in job.request_ids:
            answer(world, id_, 500)
        assert len(world.sent) == count
        world.advance(JITTER * longest_s - 0.001)
        assert len(world.sent) == count
        world.advance((1 - JITTER) * longest_s + 0.002)
        waits = [one.at_s - began_s for one in world.sent[count:]]
        assert len(waits) == 10
        assert all(JITTER * longest_s <= wait_s <= longest_s for wait_s in waits)
        seen |= set(waits)
    assert len(seen) == 60, "no two wait just as long"


def test_a_slot_is_free_while_a_request_waits_for_its_next_attempt(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1, retry={"attempts": 2, "delay": 10}))
    answer(world, job.first, 500)
    assert sent(world, job) == [1]
    assert re.fullmatch(
        r"the last attempt failed; it is tried again in (10(\.0)?|\d\.\d) s", str(why(world, job.first))
    )


def test_the_next_request_to_a_destination_waits_for_all_attempts(world: World) -> None:
    first = world.create(body("post", "a", retry={"attempts": 2, "delay": 10}))
    second = world.create(body("post", "a"))
    answer(world, first.first, 500)
    assert sent(world, second) == []
    expected = f"request {first.first} of job {first.id} to the same destination is before it"
    assert why(world, second.first) == expected
    world.advance(10)
    answer(world, first.first, 500)
    assert sent(world, second) == [0]


def test_a_late_failure_of_an_attempt_is_how_it_ended_when_no_other_is_made(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 100}))
    world.advance(SETTINGS.request_timeout_s)
    world.run(world.answered(job.first, 500))
    control(world, job, CANCELED)
    request = world.request(job.first)
    assert request.status is RequestStatus.ERROR
    assert (world.result(job.first)["code"], world.result(job.first)["late"]) == (500, True)


def test_a_late_success_spares_the_next_attempt_and_the_next_of_its_gateway_goes(world: World) -> None:
    retry = {"attempts": 2, "on": ["timeout"], "delay": 300}
    job = world.create(body("get", "a", requestTimeout=2, retry=retry))
    other = world.create(body("get", "a"))
    world.advance(2)
    assert world.statuses(job) + world.statuses(other) == ["pending", "pending"]
    answer(world, job.first)
    assert world.statuses(job) + world.statuses(other) == ["resolved", "sent"]
    assert (world.request(job.first).attempts, world.result(job.first)["late"]) == (1, True)


def test_the_wait_for_another_attempt_is_kept_over_a_pause(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 100}))
    answer(world, job.first, 500)
    due_s = world.engine.timers.deadline_s(Timer(TimerKind.WAKE, job.first))
    assert due_s is not None
    world.advance(5)
    control(world, job, PAUSED)
    control(world, job, DISPATCHING)
    assert len(world.sent) == 1
    world.advance(due_s - world.clock.now_s() - 0.001)
    assert len(world.sent) == 1
    world.advance(0.001)
    assert len(world.sent) == 2


def test_a_wait_that_is_over_when_the_job_goes_on_is_over(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 10}))
    answer(world, job.first, 500)
    control(world, job, PAUSED)
    world.advance(50)
    assert len(world.sent) == 1
    control(world, job, DISPATCHING)
    assert len(world.sent) == 2


@pytest.mark.parametrize("off_s", [0, 30])
def test_the_wait_for_another_attempt_is_kept_over_a_restart(world: World, off_s: float) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 100}))
    answer(world, job.first, 500)
    world.advance(20)
    if off_s:
        world.clock.reboot(off_s)
    world.restart()
    world.advance(JITTER * 100 - 20 - off_s - 0.01)
    assert len(world.sent) == 1
    world.advance((1 - JITTER) * 100 + 0.02)
    assert len(world.sent) == 2


@pytest.mark.parametrize("step_s", [-1e6, 1e6])
def test_a_wall_clock_that_was_set_makes_no_wait_longer_than_it_was(world: World, step_s: float) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 100}))
    answer(world, job.first, 500)
    world.clock.wall_ahead_s += step_s
    world.restart()
    world.advance(100)
    assert len(world.sent) == 2


@pytest.mark.parametrize(("code", "ends"), [(500, "error"), (None, "timeout")])
@pytest.mark.parametrize("wanted", ["cancel", "expire"])
def test_what_was_tried_and_is_not_tried_again_keeps_its_last_outcome(
    world: World, code: int | None, ends: str, wanted: str
) -> None:
    given = body("get", "a", timeout=100, requestTimeout=50, retry={"attempts": 2, "delay": 300})
    job = world.create(given)
    if code is None:
        world.advance(50)
    else:
        answer(world, job.first, code)
    if wanted == "cancel":
        control(world, job, CANCELED)
    else:
        world.advance(100)
    request = world.request(job.first)
    assert (request.status.value, request.attempts, request.history) == (ends, 1, ())
    assert (request.sending, request.sent_at) == (job.first, job.created_at)
    assert world.result(job.first)["message"].endswith(f"; not sent again: {world.job(job.id).reason}")
    assert status(world, job)[0] == ("canceled" if wanted == "cancel" else "timeout")


def test_an_abort_ends_what_waits_for_another_attempt_as_it_was(world: World) -> None:
    more: dict[str, Any] = {"retry": {"attempts": 2, "on": ["timeout"], "delay": 300}, "abort": {"errors": 0}}
    job = world.create(body("get", "a", "b", "c", concurrency=1, **more))
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["pending", "sent", "pending"]
    answer(world, job.first + 1, 500)
    assert world.statuses(job) == ["timeout", "error", "skipped"]
    world.run(world.answered(job.first))
    assert world.statuses(job)[0] == "resolved", "its late answer still counts"
