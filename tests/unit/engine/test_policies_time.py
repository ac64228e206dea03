"""When a job starts, and how it is stopped at each moment and over restarts, in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from puppetmaster.engine.lifecycle import START_CHECK_S
from puppetmaster.errors import Conflict
from puppetmaster.model.job import Job, JobStatus
from tests.unit.engine.verbs import (
    CANCELED,
    DISPATCHING,
    PAUSED,
    answer,
    at,
    control,
    delete,
    names,
    sent,
    status,
    wave,
    why,
)
from tests.virtual import World, body

# -- startAt ---------------------------------------------------------------------------------------


def test_nothing_is_sent_before_its_time(world: World) -> None:
    start = at(world, 100)
    job = world.create(body("post", "a", startAt=start))
    assert job.status is JobStatus.PENDING
    assert why(world, job.first) == f"the job starts at {start}"
    world.advance(99.5)
    assert (status(world, job), world.sent) == (("pending", None), [])
    world.advance(0.5)
    assert sent(world, job) == [0]
    assert world.job(job.id).started_at == start


def test_a_time_to_start_is_kept_over_a_restart(world: World) -> None:
    job = world.create(body("post", "a", startAt=at(world, 100)))
    world.restart()
    world.advance(99)
    assert status(world, job) == ("pending", None)
    world.clock.monotonic_s += 50
    world.restart()
    assert sent(world, job) == [0]


@pytest.mark.parametrize("step_s", [3000, -3000])
def test_the_wall_says_when_it_is_time(world: World, step_s: float) -> None:
    job = world.create(body("post", "a", startAt=at(world, 4000)))
    world.clock.wall_ahead_s += step_s
    world.advance(4000 - step_s - 1)
    assert world.sent == []
    world.advance(1)
    assert sent(world, job) == [0]


def test_a_clock_set_past_the_time_is_noticed_soon(world: World) -> None:
    job = world.create(body("post", "a", startAt=at(world, 4000)))
    world.clock.wall_ahead_s += 5000
    world.advance(START_CHECK_S)
    assert sent(world, job) == [0]


def test_the_time_of_a_job_counts_from_its_start(world: World) -> None:
    job = world.create(body("post", "a", startAt=at(world, 100), timeout=50))
    world.advance(149)
    assert status(world, job)[0] == "dispatching"
    world.advance(1)
    assert status(world, job) == ("timeout", "its timeout of 50 s is over")


def test_a_time_to_start_long_ago_does_not_count_for_the_time_of_the_job(world: World) -> None:
    job = world.create(body("get", "a", startAt=at(world, -10_000), timeout=500, requestTimeout=600))
    world.clock.reboot(off_s=30)
    world.restart()
    world.advance(10)
    assert status(world, job)[0] == "dispatching"
    world.advance(500)
    assert status(world, job)[0] == "timeout"


def test_a_pending_job_can_be_started_paused_and_canceled(world: World) -> None:
    early = world.create(body("post", "a", startAt=at(world, 100)))
    assert control(world, early, DISPATCHING).status is DISPATCHING
    assert sent(world, early) == [0]
    held = world.create(body("post", "b", startAt=at(world, 100)))
    control(world, held, PAUSED)
    world.advance(200)
    assert (sent(world, held), status(world, held)[0]) == ([], "paused")
    control(world, held, DISPATCHING)
    assert sent(world, held) == [0], "its time has come meanwhile"
    never = world.create(body("post", "c", startAt=at(world, 100)))
    assert control(world, never, CANCELED).status is CANCELED
    gone = world.create(body("post", "d", startAt=at(world, 100)))
    delete(world, gone)
    world.advance(200)
    assert [one.destination for one in world.sent] == ["a", "b"]


def test_a_job_that_is_resumed_before_its_time_waits_for_it(world: World) -> None:
    job = world.create(body("post", "a", startAt=at(world, 100), timeout=50))
    control(world, job, PAUSED)
    world.advance(10)
    assert control(world, job, DISPATCHING).status is JobStatus.PENDING
    assert why(world, job.first) == f"the job starts at {job.start_at}"
    world.restart()
    world.advance(89)
    assert not world.sent
    world.advance(2)
    assert sent(world, job) == [0]
    control(world, job, PAUSED)
    assert control(world, job, DISPATCHING).status is DISPATCHING, "it has begun"
    world.advance(50)
    assert status(world, job)[0] == "timeout"


@pytest.mark.parametrize("started", ["by hand", "late"])
def test_the_time_of_a_job_counts_from_when_it_really_began(world: World, started: str) -> None:
    later = at(world, 1000 if started == "by hand" else 10)
    job = world.create(body("get", "a", startAt=later, timeout=600, requestTimeout=3600))
    if started == "late":
        control(world, job, PAUSED)
        world.advance(5000)
    control(world, job, DISPATCHING)
    world.advance(20)
    world.clock.reboot(off_s=30)
    world.restart()
    world.advance(600 - 50 - 1)
    assert not world.job(job.id).final
    world.advance(1)
    assert status(world, job)[0] == "timeout"


# -- control at each moment, and over restarts -----------------------------------------------------

Moment = Callable[[World, Job], None]


def _waits_for_a_retry(world: World, job: Job) -> None:
    answer(world, job.first, 500)


def _is_refused(world: World, job: Job) -> None:
    world.run(world.refused(world.last(job.first).message))


MOMENTS: dict[str, tuple[dict[str, Any], Moment]] = {
    "in flight": ({}, lambda world, job: None),
    "one done": ({}, lambda world, job: answer(world, job.first)),
    "waits for a retry": ({"retry": {"attempts": 2, "delay": 20}}, _waits_for_a_retry),
    "refused by a lock": ({}, _is_refused),
    "paused": ({}, lambda world, job: (control(world, job, PAUSED), None)[1]),
    "paced": ({"rate": 0.1}, lambda world, job: None),
    "at rest": ({"waves": [1], "gate": {"soak": 30}}, lambda world, job: answer(world, job.first)),
    "gate closed": ({"waves": [1]}, lambda world, job: answer(world, job.first, 500)),
    "link down": ({}, lambda world, job: world.lose_link()),
    "pending": ({"startAt": "2100-01-01T00:00:00Z"}, lambda world, job: None),
    "being aborted": ({"abort": {"errors": 0}}, lambda world, job: answer(world, job.first, 500)),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("restarted", ["before", "after", "never"])
@pytest.mark.parametrize("verb", ["cancel", "force", "delete"])
def test_a_job_can_be_stopped_at_each_moment(world: World, moment: str, restarted: str, verb: str) -> None:
    more, reach = MOMENTS[moment]
    job = world.create(body("post", *names(4), concurrency=2, **more))
    reach(world, job)
    if restarted == "before":
        world.restart()
    count = len(world.sent)
    if verb == "delete":
        delete(world, job)
    else:
        control(world, job, CANCELED, force=verb == "force")
    if restarted == "after":
        world.restart()
    if not world.connected:
        world.regain_link()
    world.advance(200)
    assert len(world.sent) == count, "nothing more is sent"
    assert (world.engine.scheduler.in_flight, world.engine.state.open_requests) == (0, 0)
    if verb == "delete":
        assert world.store.now.job(job.id) is None
        return
    wanted = "aborted" if moment == "being aborted" else "canceled"
    assert status(world, job)[0] == wanted
    assert not {"pending", "sent"} & set(world.statuses(job))
    never = {one.status.value for one in world.store.now.requests({"job": job.id}) if not one.attempts}
    assert never <= {"skipped" if moment == "being aborted" else "canceled"}
    assert len(world.engine.timers) <= 1, "the lock of a refused one at most"
    with pytest.raises(Conflict):
        control(world, job, DISPATCHING)


@pytest.mark.parametrize("moment", [name for name in MOMENTS if name != "being aborted"])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_job_can_be_paused_at_each_moment_and_goes_on_to_its_end(
    world: World, moment: str, restarted: bool
) -> None:
    more, reach = MOMENTS[moment]
    job = world.create(body("get", *names(4), concurrency=2, **more))
    reach(world, job)
    control(world, job, PAUSED)
    count = len(world.sent)
    if restarted:
        world.restart()
    world.advance(100)
    if not world.connected:
        world.regain_link()
        world.advance(100)
    assert (len(world.sent), status(world, job)[0]) == (count, "paused")
    assert sent(world, job) == []
    for _ in range(3):
        if world.job(job.id).status in (PAUSED, JobStatus.PENDING):
            control(world, job, DISPATCHING)
        for _ in range(6):
            wave(world, job)
            world.advance(30)
    assert status(world, job) == ("resolved", None)
