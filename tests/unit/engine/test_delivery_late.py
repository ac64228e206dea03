"""Late answers: they correct what had timed out or was unknown, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from puppetmaster.errors import StoreError
from puppetmaster.model.job import Job, JobStatus
from tests.unit.engine.verbs import expired, lost
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


@pytest.mark.parametrize("order", ["removed before", "removed first", "answered first"])
def test_a_late_answer_to_a_removed_request_is_dropped(world: World, order: str) -> None:
    job = expired(world, body("post", "a"))
    events = [lambda engine: engine.delete(job.id), world.answered(job.first)]
    if order == "removed before":
        world.run(events.pop(0))
    world.run(*(reversed(events) if order == "answered first" else events))
    assert world.store.now.request(job.first) is None
    assert world.store.now.job(job.id) is None


def test_a_late_answer_counts_also_when_its_job_can_be_read_the_second_time_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = expired(world, body("post", "a"))

    def unreadable(_: int) -> None:
        raise StoreError("it cannot be read")

    with monkeypatch.context() as now:
        now.setattr(world.store.now, "job", unreadable)
        with pytest.raises(StoreError):
            world.run(world.answered(job.first))
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved"]
    assert world.job(job.id).failed_count == 0
