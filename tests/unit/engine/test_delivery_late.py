"""Late answers: they correct what had timed out or was unknown, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from puppetmaster.model.job import Job, JobStatus
from tests.unit.engine.verbs import ID_WAS_USED, expired, lost, refuse, succeed
from tests.virtual import World, body


@pytest.mark.parametrize("unanswered", [lost, expired])
@pytest.mark.parametrize(("code", "status"), [(200, "resolved"), (500, "error")])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_answer_counts_also_when_the_job_has_ended(
    world: World, unanswered: Callable[[World, Any], Job], code: int, status: str, restarted: bool
) -> None:
    job = unanswered(world, body("post", "a", "b"))
    ended = world.job(job.id)
    assert ended.status is JobStatus.RESOLVED
    if restarted:
        world.restart()
    world.run(world.answered(job.first, code))
    request = world.request(job.first)
    assert request.status.value == status
    assert world.result(job.first)["late"] is True
    after = world.job(job.id)
    assert (after.status, after.finished_at) == (ended.status, ended.finished_at)
    world.run(world.answered(job.first, 418), world.answered(job.first + 1), world.answered(job.first + 1))
    assert world.request(job.first) == request, "it counts once"
    assert world.statuses(job) == [status, "resolved"]


def test_a_late_answer_counts_while_the_job_goes_on(world: World) -> None:
    items = [*body("post", "a")["batch"], *body("post", "a")["batch"]]
    job = world.create({"batch": items})
    world.advance(60)
    assert world.statuses(job) == ["timeout", "sent"], "its destination is free"
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved", "sent"]
    succeed(world, job.first + 1)
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_a_late_answer_to_a_further_sending_counts_after_a_restart(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, *ID_WAS_USED)
    world.advance(100)
    message = world.last(job.first).message
    assert message != job.first
    assert world.statuses(job) == ["timeout"]
    world.restart()
    world.run(world.answered(message, 500))
    assert world.statuses(job) == ["error"]


def test_a_late_answer_to_a_job_that_timed_out_does_not_change_its_verdict(world: World) -> None:
    job = world.create(body("post", "a", timeout=5))
    world.advance(5)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved"]
    assert world.job(job.id).status is JobStatus.TIMEOUT


@pytest.mark.parametrize("order", ["removed before", "removed first", "answered first"])
def test_a_late_answer_to_a_removed_request_is_dropped(world: World, order: str) -> None:
    job = expired(world, body("post", "a"))
    events = [lambda engine: engine.delete(job.id), world.answered(job.first)]
    if order == "removed before":
        world.run(events.pop(0))
    world.run(*(reversed(events) if order == "answered first" else events))
    assert world.store.now.request(job.first) is None
    assert world.store.now.job(job.id) is None
