"""Jobs from their creation to their end: created once, begun, paused, canceled, removed."""

import logging

import pytest

from puppetmaster.engine.lifecycle import BEGIN_S
from puppetmaster.errors import Conflict, NotFound
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import RequestStatus
from tests.unit.engine.verbs import (
    CANCELED,
    DISPATCHING,
    ID_WAS_USED,
    PAUSED,
    answer,
    control,
    delete,
    paused,
    refuse,
    spec,
    why,
)
from tests.virtual import World, body

# -- creation --------------------------------------------------------------------------------------


def test_requests_are_sent_when_the_creator_has_the_answer(world: World) -> None:
    job = world.create(body("post", "a"), begin=False)
    assert (world.job(job.id), world.statuses(job), world.sent) == (job, ["pending"], []), "it is on disk"
    assert why(world, job.first) == "the job is about to begin"
    world.run(lambda engine: engine.lifecycle.begin_job(job.id))
    assert [one.destination for one in world.sent] == ["a"]


def test_requests_are_sent_soon_also_when_nobody_says_that_the_answer_is_out(world: World) -> None:
    world.create(body("post", "a"), begin=False)
    world.advance(BEGIN_S - 0.01)
    assert world.sent == []
    world.advance(0.01)
    assert len(world.sent) == 1


def test_to_begin_a_job_that_is_gone_or_paused_sends_nothing(world: World) -> None:
    gone = world.create(body("post", "a"), begin=False)
    delete(world, gone)
    held = paused(world, body("post", "b"))
    world.run(
        lambda engine: engine.lifecycle.begin_job(gone.id), lambda engine: engine.lifecycle.begin_job(held.id)
    )
    world.advance(BEGIN_S)
    assert world.sent == []


def test_to_resume_a_job_sends_nothing_before_its_creator_has_the_answer(world: World) -> None:
    job = paused(world, body("post", "a"))
    control(world, job, DISPATCHING)
    assert world.sent == []
    world.run(lambda engine: engine.lifecycle.begin_job(job.id))
    assert len(world.sent) == 1


def test_the_same_key_and_body_answers_the_job_that_exists(world: World) -> None:
    given = body("post", "a", key="k")
    job = world.create(given)
    assert world.do(lambda engine: engine.create(spec(given))).id == job.id
    answer(world, job.first)
    again = world.do(lambda engine: engine.create(spec(given)))
    assert (again.id, again.status) == (job.id, JobStatus.RESOLVED)
    world.restart()
    assert world.do(lambda engine: engine.create(spec(given))).id == job.id
    assert len(world.sent) == 1


def test_the_same_key_twice_in_one_turn_is_one_job(world: World) -> None:
    given, made = body("post", "a", key="k"), list[Job]()
    world.run(*[lambda engine: made.append(engine.create(spec(given)))] * 2)
    assert len({job.id for job in made}) == len(world.store.now.jobs({})) == 1


def test_the_same_key_with_another_body_is_a_conflict(world: World) -> None:
    world.create(body("post", "a", key="k"))
    with pytest.raises(Conflict, match="key 'k' belongs to job 1"):
        world.create(body("post", "b", key="k"))


def test_the_key_of_a_removed_job_is_free_again(world: World) -> None:
    job = world.create(body("post", "a", key="k"))
    delete(world, job)
    assert world.create(body("post", "b", key="k")).id == job.id + 1


# -- control ---------------------------------------------------------------------------------------


def test_a_paused_job_sends_no_more_and_lets_end_what_is_in_flight(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    held = control(world, job, PAUSED)
    assert (held.status, held.reason) == (JobStatus.PAUSED, "paused by a request")
    assert world.job(job.id) == held
    answer(world, job.first)
    world.advance(1000)
    assert world.statuses(job) == ["resolved", "pending"]
    assert why(world, job.first + 1) == "the job is paused"
    resumed = control(world, job, DISPATCHING)
    assert (resumed.status, resumed.reason) == (JobStatus.DISPATCHING, None)
    assert world.statuses(job) == ["resolved", "sent"]


def test_a_paused_job_ends_with_its_last_request(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, PAUSED)
    answer(world, job.first)
    done = world.job(job.id)
    assert (done.status, done.reason) == (JobStatus.RESOLVED, None)


def test_to_pause_or_resume_twice_changes_nothing(world: World) -> None:
    job = world.create(body("post", "a"))
    for wanted in (DISPATCHING, PAUSED, PAUSED, DISPATCHING, DISPATCHING):
        assert control(world, job, wanted).status is wanted
    assert len(world.sent) == 1


def test_a_refused_request_of_a_paused_job_waits(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, PAUSED)
    refuse(world, job.first)
    world.advance(100)
    assert len(world.sent) == 1
    control(world, job, DISPATCHING)
    assert len(world.sent) == 2


def test_a_cancel_ends_what_waits_and_lets_end_what_is_in_flight(world: World) -> None:
    job = world.create(body("post", "a", "b", "c", concurrency=2))
    job_after = control(world, job, CANCELED)
    assert world.statuses(job) == ["sent", "sent", "canceled"]
    assert not job_after.final
    assert world.request(job.first + 2).attempts == 0
    answer(world, job.first)
    assert not world.job(job.id).final
    world.advance(60)
    assert world.statuses(job) == ["resolved", "timeout", "canceled"]
    done = world.job(job.id)
    assert (done.status, done.reason) == (JobStatus.CANCELED, "canceled by a request")


def test_a_forced_cancel_waits_for_nothing(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    done = control(world, job, CANCELED, force=True)
    assert done.status is JobStatus.CANCELED
    assert world.statuses(job) == ["unknown", "canceled"]
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved", "canceled"]
    assert world.job(job.id).status is JobStatus.CANCELED


def test_a_cancel_can_be_forced_later(world: World) -> None:
    job = world.create(body("get", "a"))
    assert not control(world, job, CANCELED).final
    assert control(world, job, CANCELED, force=True).status is JobStatus.CANCELED
    assert world.statuses(job) == ["unknown"]


def test_what_does_not_fit_the_status_is_a_conflict(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, CANCELED)
    for wanted in (PAUSED, DISPATCHING):
        with pytest.raises(Conflict, match="is being stopped"):
            control(world, job, wanted)
    answer(world, job.first)
    for wanted in (PAUSED, DISPATCHING, CANCELED):
        with pytest.raises(Conflict, match="it has ended"):
            control(world, job, wanted)
    with pytest.raises(NotFound):
        world.do(lambda engine: engine.control(99, PAUSED, force=False))


def test_a_canceled_request_frees_the_next_of_its_destination(world: World) -> None:
    first = world.create(body("post", "a"))
    second = world.create(body("post", "a"))
    refuse(world, first.first, *ID_WAS_USED)
    assert world.statuses(second) == ["pending"]
    control(world, first, CANCELED)
    assert world.statuses(second) == ["sent"]


def test_a_request_of_a_paused_job_keeps_nobody_from_its_destination(world: World) -> None:
    first = world.create(body("post", "a"))
    second = world.create({"batch": body("post", "a")["batch"] * 2})
    control(world, first, PAUSED)
    refuse(world, first.first, *ID_WAS_USED)
    assert world.statuses(second) == ["sent", "pending"]
    control(world, first, DISPATCHING)
    assert world.statuses(first) == ["pending"]
    answer(world, second.first)
    assert world.statuses(first) == ["sent"], "it was created before"
    assert world.statuses(second) == ["resolved", "pending"]


def test_a_removed_job_is_stopped_and_gone(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    other = world.create(body("post", "a"))
    last = delete(world, job)
    assert (last.status, last.reason) == (JobStatus.CANCELED, "removed by a request")
    assert (last.counts[RequestStatus.UNKNOWN], last.counts[RequestStatus.CANCELED]) == (1, 1)
    assert world.store.now.job(job.id) is None
    assert world.statuses(job) == []
    assert world.statuses(other) == ["sent"], "what it held is free"
    world.run(world.answered(job.first))
    assert world.statuses(job) == []
    with pytest.raises(NotFound):
        delete(world, job)


def test_the_log_says_who_removed_a_job(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ended, kept, runs = (world.create(body("post", "a")) for _ in range(3))
    for job in (ended, kept):
        answer(world, job.first)
    caplog.set_level(logging.INFO)
    world.do(lambda engine: engine.delete(ended.id, "ann"))
    world.do(lambda engine: engine.delete(runs.id, "ann"))
    delete(world, kept)
    said = [one.getMessage() for one in caplog.records if "removed" in one.getMessage()]
    assert said == ["job 1 removed by ann", "job 3 removed by ann: 1 unknown (removed by a request)"]


def test_a_job_can_be_removed_in_the_turn_that_creates_it(world: World) -> None:
    world.run(lambda engine: engine.create(spec(body("post", "a"))), lambda engine: engine.delete(1))
    assert world.store.now.jobs({}) == []
    assert world.store.now.requests({}) == []
    assert world.create(body("post", "a")).id == 2
