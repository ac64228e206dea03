"""The time of a job, over restarts of the program and the machine, whatever the wall clock says."""

import pytest

from puppetmaster.model.job import Job, JobStatus
from tests.unit.engine.verbs import answer, paused
from tests.virtual import World, body


def ends_within(world: World, job: Job, not_before_s: float) -> None:
    """Its time is not over so long, and a second later it is."""
    world.advance(not_before_s)
    assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT


def test_the_time_of_a_job_ends_what_was_not_sent_and_what_was(world: World) -> None:
    job = world.create(body("post", "a", "b", "c", timeout=20, concurrency=2))
    answer(world, job.first)
    world.advance(19.9)
    assert not world.job(job.id).final
    items = world.create({"batch": [*body("post", "b")["batch"], *body("post", "b")["batch"]], "timeout": 5})
    world.advance(0.1)
    done = world.job(job.id)
    assert world.statuses(job) == ["resolved", "timeout", "timeout"]
    assert done.status is JobStatus.TIMEOUT
    assert done.reason is not None
    assert "20 s" in done.reason
    assert done.finished_at is not None
    world.advance(5)
    assert world.statuses(items)[1] == "skipped"
    assert world.job(items.id).status is JobStatus.TIMEOUT


@pytest.mark.parametrize("step_s", [-1e8, 0, 1e8])
def test_the_time_of_a_job_goes_on_over_a_restart_whatever_the_wall_says(world: World, step_s: float) -> None:
    job = paused(world, body("post", "a", timeout=3000))
    world.advance(1000)
    world.clock.monotonic_s += 500
    world.clock.wall_ahead_s += step_s
    world.restart()
    ends_within(world, job, 1499)


def test_the_time_of_a_job_may_end_while_nobody_looks(world: World) -> None:
    job = world.create(body("post", "a", "a2", timeout=3000, concurrency=1))
    world.clock.monotonic_s += 5000
    world.restart()
    world.run()
    assert world.job(job.id).status is JobStatus.TIMEOUT
    assert world.statuses(job) == ["timeout", "skipped"]


@pytest.mark.parametrize(
    ("step_s", "left_s"),
    [(0.0, 3000 - 1000 - 30), (1e8, 0.0), (-1e8, 3000.0)],
    ids=["true", "set forward", "set back"],
)
def test_after_a_restart_of_the_machine_the_wall_says_what_is_left_within_bounds(
    world: World, step_s: float, left_s: float
) -> None:
    job = paused(world, body("post", "a", timeout=3000))
    world.advance(1000)
    world.clock.reboot(off_s=30)
    world.clock.wall_ahead_s += step_s
    world.restart()
    if left_s:
        world.advance(left_s - 1)
        assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT


@pytest.mark.parametrize("unset", ["at its creation", "after the restart"])
def test_a_clock_that_was_not_set_says_nothing_about_the_time_of_a_job(world: World, unset: str) -> None:
    """A gateway without a battery wakes up in 1970."""
    right_s, unset_s = world.clock.wall_ahead_s, 0.0
    world.clock.wall_ahead_s = unset_s if unset == "at its creation" else right_s
    job = paused(world, body("post", "a", timeout=3000))
    world.advance(100)
    world.clock.reboot(off_s=30)
    world.clock.wall_ahead_s = right_s if unset == "at its creation" else unset_s
    world.restart()
    ends_within(world, job, 2999)


def test_what_is_left_of_a_jobs_time_is_right_after_the_clock_was_set_and_a_restart(world: World) -> None:
    """It was two months behind when the job was made."""
    job = paused(world, body("post", "a", timeout=3000))
    endless = paused(world, body("post", "a"))
    world.advance(1000)
    world.clock.wall_ahead_s += 60 * 86400.0
    world.run(lambda engine: engine.lifecycle.clock_was_set())
    world.clock.reboot(off_s=30)
    world.restart()
    ends_within(world, job, 3000 - 1000 - 30 - 1)
    assert not world.job(endless.id).final


def test_the_time_of_a_job_goes_on_where_the_machine_does_not_say_that_it_was_restarted(world: World) -> None:
    world.clock.boot_id = ""
    world.clock.monotonic_s = 1_000_000.0
    job = paused(world, body("post", "a", timeout=3000))
    world.advance(1000)
    world.stop()
    wall_s = world.clock.wall_s()
    world.clock.monotonic_s = 5.0
    world.clock.wall_ahead_s = wall_s + 30 - 5.0
    world.start()
    ends_within(world, job, 3000 - 1000 - 30 - 1)


@pytest.mark.parametrize(("boot", "known"), [("boot 1", True), ("", False)])
def test_a_job_says_by_which_clock_it_ended(world: World, boot: str, known: bool) -> None:
    world.clock.boot_id = boot
    job = world.create(body("get", "a"))
    world.advance(7)
    world.run(world.answered(world.last(job.first).message))
    ended = world.job(job.id)
    assert (ended.ended_boot, ended.ended_s) == (boot, world.clock.now_s() if known else None)


def test_after_two_restarts_of_the_machine_the_time_is_still_right(world: World) -> None:
    job = paused(world, body("post", "a", timeout=3000))
    for _ in range(2):
        world.advance(900)
        world.clock.reboot(off_s=100)
        world.restart()
    ends_within(world, job, 999)
