"""Steps of a gateway: each after the one before it, none after a failure; waves that count gateways."""

from typing import Any

import pytest

from puppetmaster.engine.steps import Steps
from puppetmaster.errors import Invalid
from puppetmaster.model.job import Job
from puppetmaster.model.request import Request
from puppetmaster.model.spec import specs_of
from tests.unit.engine.verbs import (
    DISPATCHING,
    PAUSED,
    SETTINGS,
    answer,
    control,
    names,
    sent,
    spec,
    status,
    why,
)
from tests.virtual import World


def steps(*resources: str, to: list[str], **more: Any) -> dict[str, Any]:
    """The body of a job that has these commands for all of these gateways."""
    items = [
        {"method": "post", "resource": resource, "__request": {"destination": to}} for resource in resources
    ]
    return {"batch": items, "onFail": "stop", **more}


def shown(world: World, job: Job) -> list[tuple[str, str]]:
    """The destination and the resource of each request, in order."""
    requests = [world.request(id_) for id_ in job.request_ids]
    items = world.store.now.items([job.id])
    return [(one.destination, items[one.item].resource) for one in requests]


def test_steps_come_one_after_another_at_each_gateway() -> None:
    first, other, second, third = (
        Request(id=id_, job=1, item=1, destination=to) for id_, to in zip(range(1, 5), "abaa", strict=True)
    )
    steps = Steps([third, other, second, first])
    assert [steps.before(one) for one in (first, other, second, third)] == [None, None, 1, 1]
    assert steps.ended(second) is None, "it ended out of turn: the first is still there"
    assert steps.ended(first) == third.id
    assert (steps.drop(third), steps.ended(third)) == ([third.id], None)
    assert (len(steps), steps.ended(other), len(steps)) == (1, None, 0)


def test_a_step_is_sent_when_the_one_before_it_ended_well(world: World) -> None:
    job = world.create(steps("/1", "/2", "/3", to=["a", "b"]))
    a1, b1, a2, *_ = job.request_ids
    assert sent(world, job) == [0, 1]
    assert why(world, a2) == f"request {a1} of this job to the same gateway has not ended"
    answer(world, b1)
    assert sent(world, job) == [0, 3]
    answer(world, a1)
    answer(world, a2)
    assert sent(world, job) == [3, 4]


@pytest.mark.parametrize("code", [500, 408])
def test_after_a_failure_the_later_steps_of_that_gateway_are_skipped(world: World, code: int) -> None:
    job = world.create(steps("/1", "/2", "/3", to=["a", "b"]))
    a1, b1, *_ = job.request_ids
    answer(world, a1, code)
    ended = "error" if code == 500 else "timeout"
    assert world.statuses(job) == [ended, "sent", "skipped", "pending", "skipped", "pending"]
    result = world.request(job.first + 2).result
    assert result is not None
    assert result["message"] == f"not sent: request {a1}, an earlier step, ended as {ended}"
    answer(world, b1)
    assert status(world, job) == ("dispatching", None)


def test_a_step_that_is_tried_again_holds_back_the_next_until_it_ended(world: World) -> None:
    job = world.create(steps("/1", "/2", to=["a"], retry={"attempts": 2, "delay": 0}))
    answer(world, job.first, 500)
    assert world.statuses(job) == ["sent", "pending"]
    answer(world, job.first)
    assert world.statuses(job) == ["resolved", "sent"]


def test_a_late_answer_does_not_bring_back_what_was_skipped(world: World) -> None:
    job = world.create(steps("/1", "/2", to=["a"]))
    message = world.last(job.first).message
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["timeout", "skipped"]
    world.run(world.answered(message))
    assert world.statuses(job) == ["resolved", "skipped"]


def test_a_paused_job_takes_no_further_step_until_it_goes_on(world: World) -> None:
    job = world.create(steps("/1", "/2", to=["a"]))
    control(world, job, PAUSED)
    answer(world, job.first)
    assert world.statuses(job) == ["resolved", "pending"]
    control(world, job, DISPATCHING)
    assert world.statuses(job) == ["resolved", "sent"]


def test_without_it_all_steps_are_tried(world: World) -> None:
    job = world.create(steps("/1", "/2", to=["a"], onFail="continue"))
    answer(world, job.first, 500)
    assert world.statuses(job) == ["error", "sent"]


# -- waves -----------------------------------------------------------------------------------------


def test_a_wave_takes_its_gateways_through_all_steps(world: World) -> None:
    job = world.create(steps("/1", "/2", to=names(4), waves=[1, 3], onFail="continue"))
    assert shown(world, job) == [(gateway, step) for gateway in names(4) for step in ("/1", "/2")]
    assert world.job(job.id).view()["waveEnds"] == [2, 6, 8]
    answer(world, job.first)
    assert sent(world, job) == [1]
    answer(world, job.first + 1)
    assert world.job(job.id).wave == 2


def test_gateways_may_have_different_steps(world: World) -> None:
    items = [
        {"method": "post", "resource": "/1", "__request": {"destination": ["a", "c"]}},
        {"method": "post", "resource": "/2", "__request": {"destination": ["b", "a"]}},
    ]
    job = world.create({"batch": items, "waves": [1, "50%"]})
    assert shown(world, job) == [("a", "/1"), ("a", "/2"), ("c", "/1"), ("b", "/2")]
    assert world.job(job.id).view()["waveEnds"] == [2, 3, 4]
    world.restart()
    assert world.job(job.id).policy.waves == (2, 3, 4)


def test_the_gate_counts_gateways(world: World) -> None:
    job = world.create(steps("/1", "/2", "/3", to=names(4), waves=[2], gate={"errors": 1}))
    answer(world, job.first, 500)
    for step in (3, 4, 5):
        answer(world, job.first + step)
    assert world.job(job.id).wave == 2, "one gateway of two failed, and it has three steps"


def test_a_closed_gate_says_how_many_gateways_failed(world: World) -> None:
    job = world.create(steps("/1", "/2", to=names(4), waves=[2]))
    answer(world, job.first, 500)
    answer(world, job.first + 2)
    answer(world, job.first + 3)
    said = "wave 1 failed its gate: 1 of 2 gateways failed, and at most 0 may"
    assert status(world, job) == ("paused", said)


def test_abort_counts_gateways_that_are_done(world: World) -> None:
    job = world.create(steps("/1", "/2", to=names(4), abort={"errors": "50%", "after": 2}))
    answer(world, job.first, 500)
    answer(world, job.first + 1, 500)
    for id_ in (job.first + 2, job.first + 3, job.first + 6, job.first + 7):
        if world.request(id_).status == "sent":
            answer(world, id_)
    assert status(world, job) == ("aborted", "2 of 2 gateways failed, and at most 50% may")


def test_a_percentage_of_an_abort_waits_for_gateways_not_for_requests(world: World) -> None:
    job = world.create(steps("/1", "/2", "/3", to=names(20), abort={"errors": "10%"}))
    assert job.given["abort"]["after"] == 10
    assert job.gateways == 20


def test_waves_in_the_wrong_order_are_counted_in_gateways() -> None:
    with pytest.raises(Invalid, match='of 3 gateways, "100%" ends at 3, and 2 at 2'):
        spec(steps("/1", "/2", to=names(3), waves=["100%", 2]))


def test_a_rerun_keeps_the_order_of_the_steps(world: World) -> None:
    """Though the first gateway failed in its second step only."""
    job = world.create(steps("/1", "/2", to=names(2), waves=[1], gate={"errors": 9}))
    answer(world, job.first)
    answer(world, job.first + 1, 500)
    answer(world, job.first + 2, 500)
    requests = [world.request(id_) for id_ in job.request_ids]
    failed = [(one.item, one.destination) for one in requests if one.status != "resolved"]
    again = spec_of(failed, world, job)
    assert again == [("/1", ("cg-001",)), ("/2", ("cg-000", "cg-001"))]


def spec_of(failed: list[tuple[int, str]], world: World, job: Job) -> list[tuple[str, tuple[str, ...]]]:
    found = specs_of(failed, world.store.now.items([job.id]))
    return [(one.resource, one.destinations) for one in found]
