"""What the engine notes of a job: each thing that happens to it, by whom and why, with the change itself."""

from typing import Any

import pytest

from puppetmaster.clock import iso
from puppetmaster.engine.engine import Engine
from puppetmaster.model.job import Job, JobStatus
from tests.unit.engine.verbs import CANCELED, DISPATCHING, PAUSED, answer, names
from tests.virtual import World, body


def told(world: World, job: Job) -> list[tuple[Any, ...]]:
    """What is on disk of a job: what, by whom, its status, the wave."""
    found = world.job(job.id)
    return [(event.what.value, event.by, event.status, event.wave) for event in found.events]


def asked(world: World, job: Job, wanted: JobStatus, by: str, *, force: bool = False) -> None:
    def verb(engine: Engine) -> Job:
        return engine.control(job.id, wanted, force=force, by=by)

    world.do(verb)


def test_a_job_from_its_creation_to_its_end(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    answer(world, job.first)
    answer(world, job.first + 1, 500)
    assert told(world, job) == [
        ("created", "puppetmaster", "dispatching", None),
        ("started", "puppetmaster", "dispatching", None),
        ("ended", "puppetmaster", "resolved", None),
    ]
    assert [event.number for event in world.job(job.id).events] == [1, 2, 3]
    assert world.job(job.id).events[0].at == world.job(job.id).created_at
    assert world.job(job.id).events[1].at == world.job(job.id).started_at
    assert world.job(job.id).events[2].at == world.job(job.id).finished_at


def test_who_paused_resumed_and_canceled_it(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    asked(world, job, PAUSED, "ann")
    asked(world, job, PAUSED, "eve")  # it is paused: nothing happens to it
    asked(world, job, DISPATCHING, "bob")
    asked(world, job, CANCELED, "ann")
    asked(world, job, CANCELED, "eve")
    asked(world, job, CANCELED, "bob", force=True)
    assert told(world, job)[2:] == [
        ("paused", "ann", "paused", None),
        ("resumed", "bob", "dispatching", None),
        ("canceled", "ann", "dispatching", None),
        ("canceled", "bob", "dispatching", None),
        ("ended", "puppetmaster", "canceled", None),
    ]
    assert [event.why for event in world.job(job.id).events][-3:] == [
        None,
        "canceled by a request, and what was in flight was not waited for",
        "canceled by a request",
    ]


def test_a_gate_that_closed_and_was_opened_by_hand(world: World) -> None:
    job = world.create(body("post", *names(3), waves=[1, 2, 3], gate={"errors": 0}))
    answer(world, job.first, 500)
    asked(world, job, DISPATCHING, "ann")
    answer(world, job.first + 1)
    assert told(world, job)[2:] == [
        ("gateClosed", "puppetmaster", "paused", 1),
        ("resumed", "ann", "dispatching", None),
        ("waveOpened", "ann", "dispatching", 2),
        ("waveOpened", "puppetmaster", "dispatching", 3),
    ]
    closed, _, opened, by_itself = world.job(job.id).events[2:]
    assert closed.why == opened.why == "wave 1 failed its gate: 1 of 1 requests failed, and at most 0 may"
    assert by_itself.why is None


def test_a_job_that_is_aborted_says_why(world: World) -> None:
    job = world.create(body("post", *names(3), concurrency=2, abort={"errors": 0}))
    answer(world, job.first, 500)
    assert told(world, job)[-1] == ("aborted", "puppetmaster", "dispatching", None)
    assert world.job(job.id).events[-1].why == "1 of 1 requests failed, and at most 0 may"


def test_a_job_whose_time_is_over(world: World) -> None:
    job = world.create(body("post", "a", timeout=5))
    world.advance(6)
    assert [what for what, *_ in told(world, job)][2:] == ["timeout", "ended"]


@pytest.mark.parametrize(
    ("by_hand", "what"),
    [(True, ("resumed", "ann", "dispatching")), (False, ("due", "puppetmaster", "dispatching"))],
)
def test_a_job_that_starts_later(world: World, by_hand: bool, what: tuple[str, ...]) -> None:
    job = world.create(body("post", "a", startAt=iso(world.clock.wall_s() + 60)))
    if by_hand:
        asked(world, job, DISPATCHING, "ann")
    else:
        world.advance(61)
    assert told(world, job)[0] == ("created", "puppetmaster", "pending", None)
    assert told(world, job)[1][:3] == what
    assert told(world, job)[2][0] == "started"


def test_what_happened_is_told_once_and_after_it_is_on_disk(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    world.happened.clear()
    world.store.full = True
    asked(world, job, PAUSED, "ann")
    assert world.happened == []
    assert told(world, job)[-1][0] == "started"
    world.store.full = False
    world.engine.retry_s = 0.0
    world.run()
    assert [(one.id, event.what, event.by) for one, event in world.happened] == [(job.id, "paused", "ann")]
    assert world.happened[0][0].status is PAUSED


def test_after_a_restart_what_was_told_is_not_told_again(world: World) -> None:
    job = world.create(body("post", "a"))
    world.restart()
    world.happened.clear()
    answer(world, job.first)
    assert [event.what for _, event in world.happened] == ["ended"]
