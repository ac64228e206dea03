"""What a new process finds and does: each request goes on, none is sent twice that may not be."""

from dataclasses import replace

import pytest

from puppetmaster.model.job import JobStatus
from puppetmaster.store.base import Changes
from tests.unit.engine.verbs import SETTINGS, answer
from tests.virtual import World, body


@pytest.mark.parametrize("step_s", [-86_400.0, 0.0, 86_400.0])
def test_after_a_crash_late_answers_are_waited_for_and_then_it_is_unknown(
    world: World, step_s: float
) -> None:
    job = world.create(body("post", "a", "b"))
    world.clock.wall_ahead_s += step_s
    world.restart()
    assert world.statuses(job) == ["sent", "sent"]
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved", "sent"]
    world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == ["resolved", "unknown"]
    assert world.job(job.id).status is JobStatus.RESOLVED
    assert len(world.sent) == 2


def test_after_a_crash_a_read_is_sent_again(world: World) -> None:
    job = world.create(body("get", "a"))
    world.restart()
    world.advance(SETTINGS.grace_s)
    first, second = world.sendings(job.first)
    assert first != second
    assert world.request(job.first).attempts == 2


def test_a_job_without_open_requests_ends_after_a_restart(world: World) -> None:
    """A file that an interrupted version left so: no job stays open for ever."""
    job = world.create(body("post", "a"))
    answer(world, job.first)
    left = replace(world.job(job.id), status=JobStatus.DISPATCHING, finished_at=None)
    world.store.commit(Changes(jobs={job.id: left}))
    world.restart()
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_a_restart_without_link_waits_until_answers_can_come(world: World) -> None:
    job = world.create(body("get", "a"))
    world.lose_link()
    world.restart()
    world.advance(SETTINGS.request_timeout_s - 1)
    assert world.statuses(job) == ["sent"]
    world.regain_link()
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved"]
    assert len(world.sent) == 1


def test_a_restart_without_link_does_not_wait_for_ever(world: World) -> None:
    job = world.create(body("get", "a"))
    world.lose_link()
    world.restart()
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["pending"]
    world.regain_link()
    assert len(world.sent) == 2
