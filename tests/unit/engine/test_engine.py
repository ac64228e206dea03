"""The engine where something comes to its end: the disk, the ids, what is in memory."""

from collections.abc import Callable, Sized

import pytest

from puppetmaster.engine.backoff import LAST_DELAY_S
from puppetmaster.errors import Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, LAST_REQUEST_ID, Changes, Ids
from tests.unit.engine.verbs import ID_WAS_USED, PAUSED, SETTINGS, control, delete, expired, refuse, why
from tests.virtual import Event, World, body

# -- the store cannot be written -------------------------------------------------------------------


def write_again(world: World) -> None:
    """The disk has room again: what was kept is written, and then what may be sent is."""
    world.store.full = False
    world.run()
    world.run()


def test_nothing_is_sent_while_nothing_can_be_made_durable(world: World) -> None:
    job = world.create(body("post", "a", "b"), begin=False)
    world.store.full = True
    world.run(lambda engine: engine.lifecycle.begin_job(job.id))
    world.advance(10)
    assert world.sent == []
    assert why(world, job.first) == "The disk is full."
    with pytest.raises(Unavailable, match="Nothing was changed: The disk is full"):
        world.do(lambda engine: engine.forget_gateway("a"))
    write_again(world)
    assert len(world.sent) == 2
    assert world.statuses(job) == ["sent", "sent"]
    assert world.request(job.first).attempts == 1


def test_a_job_that_could_not_be_made_durable_does_not_exist(world: World) -> None:
    world.store.full = True
    job = world.create(body("post", "a", key="k"))
    assert world.revoked == [job.id]
    with pytest.raises(Unavailable, match="No job can be created: The disk is full"):
        world.create(body("post", "b"))
    world.advance(100)
    write_again(world)
    assert world.store.now.jobs({}) == []
    assert world.store.now.requests({}) == []
    assert world.store.now.items([job.id]) == {}
    assert world.sent == []
    again = world.create(body("post", "a", key="k"))
    assert again.id > job.id
    assert again.first > job.first
    assert len(world.sent) == 1


def test_answers_are_kept_and_recorded_when_the_store_is_back(world: World) -> None:
    late = expired(world, body("post", "z"))
    job = world.create(body("post", "a", "b", "c", "d", concurrency=3))
    world.store.full = True
    world.run(world.answered(job.first), world.answered(late.first))
    world.run(world.answered(job.first, 500), world.refused(job.first + 1))
    world.advance(10)
    assert world.statuses(job) == ["sent", "sent", "sent", "pending"], "that is what the disk has"
    write_again(world)
    assert world.statuses(job) == ["resolved", "sent", "sent", "sent"]
    assert world.statuses(late) == ["resolved"]
    assert len(world.sendings(job.first)) == 1


def test_timers_run_while_the_store_cannot_be_written(world: World) -> None:
    job = world.create(body("post", "a", timeout=30))
    world.store.full = True
    world.advance(100)
    write_again(world)
    assert world.statuses(job) == ["timeout"]
    assert world.job(job.id).status is JobStatus.TIMEOUT


def test_a_removal_that_could_not_be_made_durable_is_made_so_later(world: World) -> None:
    job = world.create(body("post", "a"))
    world.store.full = True
    delete(world, job)
    assert world.job(job.id).id == job.id
    with pytest.raises(Unavailable, match=r"Nothing was changed: The disk is full\."):
        control(world, job, PAUSED)
    with pytest.raises(Unavailable, match=r"Nothing was changed: The disk is full\."):
        delete(world, job)
    write_again(world)
    assert world.store.now.jobs({}) == []


def test_a_crash_while_the_store_cannot_be_written_sends_nothing_twice(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    world.store.full = True
    world.run(world.answered(job.first))
    world.restart()
    world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == ["unknown", "sent"]
    assert len(world.sent) == 2


# -- the end of the id space -----------------------------------------------------------------------


def near_the_end(world: World, left: int) -> None:
    """Give out all request ids but ``left``."""
    world.store.commit(Changes(ids=Ids(next_job=7, next_request=LAST_REQUEST_ID + 1 - left)))
    world.restart()


def test_no_message_leaves_with_an_id_that_the_bus_does_not_know(world: World) -> None:
    near_the_end(world, 4)
    job = world.create(body("post", "a", "b"))
    for _ in range(6):
        for id_ in job.request_ids:
            if world.request(id_).status is RequestStatus.SENT:
                refuse(world, id_, *ID_WAS_USED)
        world.advance(LAST_DELAY_S)
    assert all(FIRST_REQUEST_ID <= one.message <= LAST_REQUEST_ID for one in world.sent)
    assert len({one.message for one in world.sent}) == len(world.sent) == 4
    assert world.statuses(job) == ["error", "error"]
    assert world.job(job.id).status is JobStatus.RESOLVED


# -- everything that is done leaves memory ---------------------------------------------------------


#: What is remembered though nothing waits: who owns what, how often was refused, what a timer does.
KEPT = {"_known", "_everywhere", "counts", "_fires"}


def test_nothing_stays_in_memory_of_what_has_ended(world: World) -> None:
    events: list[Callable[[Job], Event]] = [
        lambda job: world.answered(job.first),
        lambda job: world.refused(job.first),
        lambda job: world.refused(job.first, 404),
        lambda job: world.refused(job.first, 408),
        lambda job: world.refused(job.first, *ID_WAS_USED),
    ]
    for event in events:
        job = world.create(body("post", "a", "b", timeout=300))
        world.run(event(job))
    delete(world, world.create(body("post", "a", "c")))
    world.lose_link()
    world.advance(1000)
    world.regain_link()
    engine = world.engine
    assert (engine.state.open_jobs, engine.state.open_requests, engine.scheduler.in_flight) == (0, 0, 0)
    assert len(engine.timers) == 0
    delivery, scheduler = engine.delivery, engine.scheduler
    for part in (engine, delivery, delivery.in_flight, delivery.refusals, scheduler, scheduler.locks):
        for name, value in vars(part).items():
            if isinstance(value, Sized) and not isinstance(value, str) and name not in KEPT:
                assert not (any(value) if isinstance(value, tuple) else value), name
