"""Every rule of sending, ending, control and recovery, in virtual time on a real store."""

import re
from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from typing import Any

import pytest

from puppetmaster.api import bodies
from puppetmaster.engine.delivery import (
    LAST_DELAY_S,
    MORE_S,
    MOST_LOST,
    QUESTION_TIMEOUT_S,
    REGISTERED_S,
    UNREGISTERED_S,
)
from puppetmaster.engine.engine import BROKER_IS_SLOW
from puppetmaster.engine.lifecycle import BEGIN_S
from puppetmaster.errors import Conflict, NotFound, Unavailable
from puppetmaster.jsoncodec import FEW_BYTES, WAITING_BYTES
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.message import Capacity
from puppetmaster.model.request import RequestStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.scheduling.fairness import PATIENT_S
from puppetmaster.scheduling.window import FIRST
from puppetmaster.settings import Settings
from puppetmaster.store.base import FIRST_REQUEST_ID, LAST_REQUEST_ID, Changes, Ids
from tests.virtual import TUNNEL, Event, World, body, one_model

SETTINGS = Settings(request_timeout_s=60.0, lock_wait_s=30.0, grace_s=5.0)
PAUSED, DISPATCHING, CANCELED = JobStatus.PAUSED, JobStatus.DISPATCHING, JobStatus.CANCELED


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS)
    yield made
    made.stop()


def control(world: World, job: Job, wanted: JobStatus, *, force: bool = False) -> Job:
    return world.do(lambda engine: engine.control(job.id, wanted, force=force))


def delete(world: World, job: Job) -> Job:
    return world.do(lambda engine: engine.delete(job.id))


def why(world: World, id_: int) -> str | None:
    return world.do(lambda engine: engine.why([id_]))[id_]


def refuse(world: World, id_: int, code: int = 423, text: str = "resource is locked") -> None:
    """The controller refuses the last message of this request."""
    world.run(world.refused(world.last(id_).message, code, text))


def succeed(world: World, id_: int) -> None:
    """The device answers the last message of this request."""
    world.run(world.answered(world.last(id_).message))


def paused(world: World, given: Any) -> Job:
    """A job that was paused before anything of it was sent."""
    job = world.create(given, begin=False)
    return control(world, job, PAUSED)


def write_again(world: World) -> None:
    """The disk has room again: what was kept is written, and then what may be sent is."""
    world.store.full = False
    world.run()
    world.run()


def spec(given: Any) -> JobSpec:
    return bodies.parse_job(given, 50_000)


def check_counts(world: World, job: Job) -> None:
    """The job's counts on disk are those of its requests on disk."""
    stored, statuses = world.job(job.id), world.statuses(job)
    assert {status.value: count for status, count in stored.counts.items() if count} == {
        status: statuses.count(status) for status in statuses
    }


# -- creation --------------------------------------------------------------------------------------


def test_a_job_is_on_disk_before_anything_of_it_is_sent(world: World) -> None:
    job = world.create(body("post", "a", "b"), begin=False)
    assert world.job(job.id) == job
    assert world.statuses(job) == ["pending", "pending"]
    assert world.sent == []


def test_requests_are_sent_when_the_creator_has_the_answer(world: World) -> None:
    job = world.create(body("post", "a"), begin=False)
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


def test_the_message_is_the_one_of_the_contract(world: World) -> None:
    job = world.create(body("POST", "00:0c:29:1c:e8:01", resource="/system/reboot?now=1"))
    assert world.sent[0].body == {
        "id": job.first,
        "method": "post",
        "resource": "/remote/00:0c:29:1c:e8:01",
        "tunnel": TUNNEL,
        "data": {"method": "post", "resource": "/system/reboot?now=1", "data": {}},
    }


def test_requests_come_in_batch_order_then_in_list_order(world: World) -> None:
    items = [*body("get", "b", "a")["batch"], *body("put", "a", "c")["batch"]]
    job = world.create({"batch": items}, begin=False)
    requests = world.store.now.requests({"job": job.id})
    assert [request.destination for request in requests] == ["b", "a", "a", "c"]
    assert [request.id for request in requests] == list(job.request_ids)
    found = world.store.now.items([job.id])
    assert [found[request.item].method for request in requests] == ["get", "get", "put", "put"]


def test_the_same_key_and_body_answers_the_job_that_exists(world: World) -> None:
    given = body("post", "a", key="k")
    job = world.create(given)
    assert world.do(lambda engine: engine.create(spec(given))).id == job.id
    succeed(world, job.first)
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


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [(200, "resolved"), (299, "resolved"), (300, "error"), (404, "error"), (500, "error")]
)
def test_the_device_decides_how_its_request_ends(world: World, code: int, status: str) -> None:
    job = world.create(body("post", "a"))
    world.run(world.answered(job.first, code, {"any": 1}))
    request = world.request(job.first)
    assert request.status.value == status
    assert request.result is not None
    assert (request.result["code"], request.result["data"], request.result["source"]) == (
        code,
        {"any": 1},
        "device",
    )
    assert "late" not in request.result
    done = world.job(job.id)
    assert done.status is JobStatus.RESOLVED
    assert done.finished_at is not None
    assert done.reason is None
    check_counts(world, job)


def test_the_remote_bundle_may_fail_for_the_device(world: World) -> None:
    job = world.create(body("post", "a"))
    world.run(world.said({"id": job.first, "code": 502, "data": {"message": "tunnel down"}}))
    result = world.request(job.first).result
    assert world.statuses(job) == ["error"]
    assert result is not None
    assert (result["source"], result["message"]) == ("remote", "tunnel down")


@pytest.mark.parametrize(
    ("code", "log", "status"),
    [(404, None, "error"), (403, "resource has no subscribed model", "error"), (408, None, "timeout")],
)
def test_the_controller_may_end_a_request(world: World, code: int, log: str | None, status: str) -> None:
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, code, "request forbidden", log))
    assert world.statuses(job) == [status]
    assert world.request(job.first).attempts == 1


def test_an_answer_counts_once(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    world.run(world.answered(job.first, 200), world.answered(job.first, 500))
    world.run(world.answered(job.first, 500), world.refused(job.first))
    assert world.statuses(job) == ["resolved", "sent"]
    check_counts(world, job)


def test_an_answer_for_nobody_changes_nothing(world: World) -> None:
    job = world.create(body("post", "a"))
    before = world.request(job.first)
    world.run(*(world.answered(id_) for id_ in (0, 7, job.first + 1, 2**40, -1)))
    assert world.request(job.first) == before


def test_an_answer_does_not_count_for_what_was_never_sent(world: World) -> None:
    job = world.create(body("post", "a"), begin=False)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["pending"]


def test_destinations_go_side_by_side_and_each_in_order_of_creation(world: World) -> None:
    first = world.create(body("post", "a", "b"))
    second = world.create(body("get", "a", "c"))
    assert [one.request for one in world.sent] == [*first.request_ids, second.first + 1]
    assert why(world, second.first) == f"request {first.first} of job 1 to the same destination is in flight"
    succeed(world, first.first)
    assert world.sent[-1].request == second.first


def test_writes_under_one_lock_go_one_at_a_time() -> None:
    world = World(SETTINGS, owners=one_model)
    job = world.create(body("post", "a", "b", "c"))
    for id_ in job.request_ids:
        assert world.sent[-1].request == id_
        succeed(world, id_)
    assert len(world.sent) == 3
    world.stop()


def test_a_job_keeps_its_concurrency(world: World) -> None:
    job = world.create(body("post", *"abcde", concurrency=2))
    assert len(world.sent) == 2
    succeed(world, job.first)
    assert len(world.sent) == 3
    assert why(world, job.first + 4) == "no free slot: the job has 2 in flight, which is its concurrency"


def test_a_question_without_an_answer_holds_a_write_up_for_a_while_only() -> None:
    world = World(SETTINGS, owners=None)
    job = world.create(body("post", "a"))
    assert world.asked == ["a"]
    assert why(world, job.first) == "the controller is asked who owns its lock"
    world.advance(QUESTION_TIMEOUT_S)
    assert len(world.sent) == 1
    world.stop()


def test_an_error_of_a_device_says_nothing_about_locks() -> None:
    """With one lock for ten thousand, a 404 of one device must not have all of them asked for anew."""
    world = World(SETTINGS, owners=one_model)
    job = world.create(body("post", "a", "b"))
    world.owners = None
    world.run(world.answered(job.first, 404))
    assert world.sent[-1].request == job.first + 1
    world.stop()


def test_a_gateway_that_is_gone_is_asked_for_again(world: World) -> None:
    job = world.create({"batch": body("post", "a")["batch"] * 2})
    world.owners = None
    world.run(world.refused(job.first, 404))
    assert world.asked == ["a"]


# -- refused by the controller ---------------------------------------------------------------------

ID_WAS_USED = (403, "'id' was used, please use another 'id'")
REFUSALS = [(423, "resource is locked"), (503, "service unavailable"), ID_WAS_USED]


@pytest.mark.parametrize(("code", "text"), REFUSALS)
def test_a_refusal_is_no_attempt(world: World, code: int, text: str) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, code, text)
    request = world.request(job.first)
    assert (request.status, request.attempts, request.sent_at) == (RequestStatus.PENDING, 0, None)
    said = why(world, job.first)
    assert said is not None
    holder = "somebody else uses its message id" if code == 403 else "locked by somebody else"
    assert re.fullmatch(rf"{holder}; it is tried again in 0\.\d s", said)
    world.advance(1)
    first, second = world.sendings(job.first)
    assert first == job.first
    assert second not in job.request_ids
    assert world.request(job.first).attempts == 1
    succeed(world, job.first)
    assert world.statuses(job) == ["resolved"]


LOCKED_THERE = [(423, "resource is locked"), (503, "service unavailable")]


@pytest.mark.parametrize(("code", "text"), LOCKED_THERE)
def test_a_lock_at_the_gateway_is_none_of_the_servers(code: int, text: str) -> None:
    """With one lock for all: the next write goes at once, and the window does not fall."""
    world = World(SETTINGS, owners=one_model)
    job = world.create(body("post", "a", "b"))
    assert [one.destination for one in world.sent] == ["a"]
    world.owners = None
    size = world.engine.scheduler.window.size
    for _ in range(3):
        world.run(world.gateway_said(world.last(job.first).message, code, text))
        said = why(world, job.first)
        assert said is not None
        assert re.fullmatch(r"locked by somebody else at the gateway; it is tried again in 0\.\d s", said)
        assert world.last(job.first + 1).destination == "b"
        if world.request(job.first + 1).status is RequestStatus.SENT:
            succeed(world, job.first + 1)
        world.advance(1)
    assert world.asked == [], "nobody asks for the lock anew"
    assert world.engine.scheduler.window.size >= size
    assert world.request(job.first).attempts == 1
    succeed(world, job.first)
    assert world.statuses(job) == ["resolved", "resolved"]
    world.stop()


def test_a_lock_at_the_gateway_is_not_waited_for_for_ever(world: World) -> None:
    job = world.create(body("post", "a"))
    begun_s = world.clock.monotonic_s
    while world.statuses(job) != ["error"]:
        assert world.clock.monotonic_s - begun_s < 2 * SETTINGS.lock_wait_s + 60
        world.run(world.gateway_said(world.last(job.first).message, 423, "resource is locked"))
        world.advance(2)
    result = world.request(job.first).result
    assert result is not None
    assert (result["code"], result["source"]) == (423, "device")
    assert result["message"].endswith("it did not run")


def test_a_resource_that_a_gateway_has_not_is_an_error_also_while_gateways_register(world: World) -> None:
    """The gateway is there: only who is not registered at the controller of the server is waited for."""
    job = world.create(body("post", "a"))
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s()))
    world.run(world.gateway_said(job.first, 404, ""))
    result = world.request(job.first).result
    assert result is not None
    assert (result["code"], result["message"]) == (404, "the gateway has no such resource")


def test_a_refusal_that_comes_twice_causes_no_third_sending(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, 423, "resource is locked")
    world.advance(1)
    first, second = world.sendings(job.first)
    world.run(world.refused(first, 423, "resource is locked"))
    world.advance(1)
    assert world.sendings(job.first) == [first, second]
    assert world.request(job.first).status is RequestStatus.SENT
    world.run(world.refused(second, 423, "resource is locked"))
    world.advance(1)
    assert world.store.now.sending(second) is None, "nothing ran under it"
    succeed(world, job.first)
    assert world.statuses(job) == ["resolved"]


def test_an_id_that_was_used_is_not_used_again(world: World) -> None:
    job = world.create(body("post", *"abc"))
    for _ in range(5):
        for id_ in job.request_ids:
            refuse(world, id_, *ID_WAS_USED)
        world.advance(LAST_DELAY_S)
    messages = [one.message for one in world.sent]
    assert len(messages) == len(set(messages)) == 18


@pytest.mark.parametrize(("code", "text"), REFUSALS)
def test_nobody_answers_what_was_not_passed_on(world: World, code: int, text: str) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, code, text)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["pending"]


def test_the_answer_to_an_id_that_was_used_is_somebody_elses(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, *ID_WAS_USED)
    world.advance(1)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["sent"]


def test_a_request_is_not_refused_for_ever(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    succeed(world, job.first + 1)
    began_s = world.clock.now_s()
    while world.statuses(job)[0] != "error":
        if world.statuses(job)[0] == "sent":
            refuse(world, job.first)
        world.advance(0.01)
    took_s = world.clock.now_s() - began_s
    assert SETTINGS.lock_wait_s <= took_s <= SETTINGS.lock_wait_s + 2 * LAST_DELAY_S
    result = world.request(job.first).result
    assert result is not None
    assert (result["code"], result["source"]) == (423, "controller")
    assert "did not run" in result["message"]
    assert world.request(job.first).attempts == 0
    assert len(world.sendings(job.first)) < 60, "the wait doubles"
    assert world.job(job.id).final


def test_a_pause_is_not_time_spent_with_refusals(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first)
    control(world, job, PAUSED)
    world.advance(10 * SETTINGS.lock_wait_s)
    control(world, job, DISPATCHING)
    refuse(world, job.first)
    assert world.statuses(job) == ["pending"]


def test_a_refusal_after_the_cancel_means_that_it_never_ran(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, CANCELED)
    assert not world.job(job.id).final
    refuse(world, job.first)
    assert world.statuses(job) == ["canceled"]
    assert world.job(job.id).status is JobStatus.CANCELED
    world.advance(100)
    assert len(world.sent) == 1


def test_a_refused_request_that_was_canceled_is_not_sent_again(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first)
    control(world, job, CANCELED)
    world.advance(100)
    assert world.statuses(job) == ["canceled"]
    assert len(world.sent) == 1


def test_what_never_left_is_no_attempt_and_waits(world: World) -> None:
    world.lose_link(told=False)
    job = world.create(body("post", "a"))
    world.lose_link()
    assert world.statuses(job) == ["pending"]
    assert world.request(job.first).attempts == 0
    assert why(world, job.first) == "the bus is down"
    world.regain_link()
    assert world.request(job.first).attempts == 1
    assert len(world.sent) == 1


# -- time ------------------------------------------------------------------------------------------


def test_no_answer_in_its_time_is_a_timeout(world: World) -> None:
    job = world.create(body("post", "a", "b", requestTimeout=7))
    world.advance(6.9)
    assert world.statuses(job) == ["sent", "sent"]
    succeed(world, job.first)
    world.advance(0.1)
    assert world.statuses(job) == ["resolved", "timeout"]
    result = world.request(job.first + 1).result
    assert result is not None
    assert (result["code"], result["source"]) == (408, "puppetmaster")
    assert "7 s" in result["message"]
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_a_timeout_is_not_repeated_even_where_it_may_be(world: World) -> None:
    job = world.create(body("get", "a"))
    world.advance(1000)
    assert world.statuses(job) == ["timeout"]
    assert len(world.sent) == 1


def test_the_time_runs_from_the_last_sending(world: World) -> None:
    job = world.create(body("post", "a", requestTimeout=10))
    world.advance(9)
    refuse(world, job.first)
    world.advance(9)
    assert world.statuses(job) == ["sent"]


def test_a_request_that_timed_out_frees_its_destination(world: World) -> None:
    items = [*body("post", "a")["batch"], *body("post", "a")["batch"]]
    job = world.create({"batch": items})
    assert len(world.sent) == 1
    world.advance(60)
    assert world.statuses(job) == ["timeout", "sent"]


def test_the_time_of_a_job_ends_what_was_not_sent_and_what_was(world: World) -> None:
    job = world.create(body("post", "a", "b", "c", timeout=20, concurrency=2))
    succeed(world, job.first)
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
    check_counts(world, job)
    check_counts(world, items)


@pytest.mark.parametrize("create", [World.create, paused])
def test_the_time_of_a_job_ends_it_while_nothing_can_be_sent(
    world: World, create: Callable[[World, Any], Job]
) -> None:
    world.lose_link()
    job = create(world, body("post", "a", timeout=20))
    world.advance(20)
    assert world.statuses(job) == ["skipped"]
    assert world.job(job.id).status is JobStatus.TIMEOUT


def test_a_job_that_ended_has_no_timer_left(world: World) -> None:
    job = world.create(body("post", "a", timeout=20))
    succeed(world, job.first)
    world.advance(100)
    assert len(world.engine.timers) == 0
    assert world.job(job.id).status is JobStatus.RESOLVED


@pytest.mark.parametrize("step_s", [-1e8, 1e8])
def test_a_stepped_clock_changes_no_timer(world: World, step_s: float) -> None:
    job = world.create(body("post", "a", "b", timeout=30, requestTimeout=10, concurrency=1))
    world.advance(5)
    world.clock.wall_ahead_s += step_s
    world.advance(4.9)
    assert world.statuses(job) == ["sent", "pending"]
    world.advance(0.1)
    assert world.statuses(job) == ["timeout", "sent"]
    world.restart()
    world.advance(4.9)
    world.run(world.answered(job.first + 1, 500))
    assert world.statuses(job) == ["timeout", "error"]


@pytest.mark.parametrize("step_s", [-1e8, 0, 1e8])
def test_the_time_of_a_job_goes_on_over_a_restart_whatever_the_wall_says(world: World, step_s: float) -> None:
    job = paused(world, body("post", "a", timeout=3000))
    world.advance(1000)
    world.stop()
    world.clock.monotonic_s += 500
    world.clock.wall_ahead_s += step_s
    world.start()
    world.advance(1499)
    assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT


def test_the_time_of_a_job_may_end_while_nobody_looks(world: World) -> None:
    job = world.create(body("post", "a", "a2", timeout=3000, concurrency=1))
    world.stop()
    world.clock.monotonic_s += 5000
    world.start()
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
    world.stop()
    world.clock.reboot(off_s=30)
    world.clock.wall_ahead_s += step_s
    world.start()
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
    world.stop()
    world.clock.reboot(off_s=30)
    world.clock.wall_ahead_s = right_s if unset == "at its creation" else unset_s
    world.start()
    world.advance(2999)
    assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT


def test_what_is_left_of_a_jobs_time_is_right_after_the_clock_was_set_and_a_restart(world: World) -> None:
    """It was two months behind when the job was made."""
    job = paused(world, body("post", "a", timeout=3000))
    endless = paused(world, body("post", "a"))
    world.advance(1000)
    world.clock.wall_ahead_s += 60 * 86400.0
    world.run(lambda engine: engine.lifecycle.clock_was_set())
    world.stop()
    world.clock.reboot(off_s=30)
    world.start()
    world.advance(3000 - 1000 - 30 - 1)
    assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT
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
    world.advance(3000 - 1000 - 30 - 1)
    assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT


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
        world.stop()
        world.clock.reboot(off_s=100)
        world.start()
    world.advance(999)
    assert not world.job(job.id).final
    world.advance(1)
    assert world.job(job.id).status is JobStatus.TIMEOUT


def test_while_timers_are_held_an_answer_counts_though_its_time_is_over(world: World) -> None:
    job = world.create(body("post", "a", "b", timeout=SETTINGS.request_timeout_s + 1))
    world.engine.timers_held = True
    world.clock.monotonic_s += SETTINGS.request_timeout_s + 10
    world.run()
    assert world.statuses(job) == ["sent", "sent"]
    succeed(world, job.first)
    world.engine.timers_held = False
    world.run()
    assert world.statuses(job) == ["resolved", "timeout"]
    assert world.request(job.first).result == {"code": 200, "data": None, "source": "device"}


# -- late answers ----------------------------------------------------------------------------------


def lost(world: World, given: Any) -> Job:
    """A job whose requests became ``unknown``, because the bus went away."""
    job = world.create(given)
    world.lose_link()
    world.regain_link()
    world.advance(SETTINGS.grace_s)
    assert set(world.statuses(job)) == {"unknown"}
    return job


def expired(world: World, given: Any) -> Job:
    """A job whose requests timed out."""
    job = world.create(given)
    world.advance(SETTINGS.request_timeout_s)
    assert set(world.statuses(job)) == {"timeout"}
    return job


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
    assert request.result is not None
    assert request.result["late"] is True
    after = world.job(job.id)
    assert (after.status, after.finished_at) == (ended.status, ended.finished_at)
    check_counts(world, job)
    world.run(world.answered(job.first, 418), world.answered(job.first + 1), world.answered(job.first + 1))
    assert world.request(job.first) == request, "it counts once"
    assert world.statuses(job) == [status, "resolved"]
    check_counts(world, job)


def test_two_late_answers_in_one_turn_both_count(world: World) -> None:
    job = expired(world, body("post", "a", "b"))
    world.run(world.answered(job.first), world.answered(job.first), world.answered(job.first + 1, 500))
    assert world.statuses(job) == ["resolved", "error"]
    check_counts(world, job)


def test_a_late_answer_counts_while_the_job_goes_on(world: World) -> None:
    items = [*body("post", "a")["batch"], *body("post", "a")["batch"]]
    job = world.create({"batch": items})
    world.advance(60)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved", "sent"]
    check_counts(world, job)
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


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("code", [200, 500])
def test_of_the_late_answers_to_earlier_attempts_those_count_that_succeed(
    world: World, code: int, restarted: bool
) -> None:
    job = world.create(body("get", "a", retry={"attempts": 3, "delay": 1}))
    world.advance(1000)
    assert world.statuses(job) == ["timeout"]
    first, second, third = world.sendings(job.first)
    if restarted:
        world.restart()
    world.run(world.answered(second, code))
    assert world.statuses(job) == ["resolved" if code == 200 else "timeout"]
    world.run(world.answered(first, 500), world.answered(third, 418))
    assert world.statuses(job) == ["resolved" if code == 200 else "error"]
    check_counts(world, job)


@pytest.mark.parametrize("code", [200, 500])
def test_nobody_answers_an_attempt_that_was_not_made(world: World, code: int) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 100}))
    world.run(world.answered(job.first, 500))
    request = world.request(job.first)
    assert request.status is RequestStatus.PENDING
    world.run(world.answered(request.sending, code))
    assert world.request(job.first) == request


def test_a_late_delivery_of_an_event_counts_whatever_the_device_said(world: World) -> None:
    given = body("get", "a", retry={"attempts": 2, "delay": 100})
    given["batch"][0]["code"] = 200
    job = world.create(given)
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["pending"]
    world.run(world.answered(job.first, 500))
    assert world.statuses(job) == ["resolved"]


@pytest.mark.parametrize("code", [408, 423])
def test_a_late_word_of_the_controller_changes_nothing(world: World, code: int) -> None:
    job = expired(world, body("post", "a"))
    world.run(world.refused(job.first, code))
    assert world.statuses(job) == ["timeout"]


def test_a_late_answer_to_a_job_that_timed_out_does_not_change_its_verdict(world: World) -> None:
    job = world.create(body("post", "a", timeout=5))
    world.advance(5)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved"]
    assert world.job(job.id).status is JobStatus.TIMEOUT
    check_counts(world, job)


def test_a_late_answer_to_a_removed_request_is_dropped(world: World) -> None:
    job = expired(world, body("post", "a"))
    delete(world, job)
    world.run(world.answered(job.first))
    assert world.store.now.request(job.first) is None
    assert world.store.now.job(job.id) is None


def test_a_late_answer_in_the_turn_of_the_removal_is_dropped(world: World) -> None:
    job = expired(world, body("post", "a"))
    world.run(lambda engine: engine.delete(job.id), world.answered(job.first))
    assert world.store.now.request(job.first) is None
    assert world.store.now.job(job.id) is None


def test_a_removal_in_the_turn_of_a_late_answer_leaves_nothing(world: World) -> None:
    job = expired(world, body("post", "a"))
    world.run(world.answered(job.first), lambda engine: engine.delete(job.id))
    assert world.store.now.request(job.first) is None
    assert world.store.now.job(job.id) is None


# -- the bus and the controller come and go --------------------------------------------------------


def test_nothing_is_sent_without_link_or_controller(world: World) -> None:
    world.run(lambda engine: engine.controller(up=False))
    job = world.create(body("post", "a"))
    assert why(world, job.first) == "the controller does not answer"
    world.run(lambda engine: engine.link(up=False))
    assert why(world, job.first) == "the bus is down"
    world.run(lambda engine: engine.controller(up=True))
    world.run(lambda engine: engine.link(up=True))
    assert world.sent == [], "the controller has not answered over this link"
    world.run(lambda engine: engine.controller(up=True))
    assert len(world.sent) == 1


def test_nothing_is_sent_before_the_controller_has_answered() -> None:
    world = World(SETTINGS, connected=False)
    world.connected = True
    job = world.create(body("post", "a"))
    world.run(lambda engine: engine.link(up=True))
    world.advance(30)
    assert (world.sent, world.engine.controller_up) == ([], False)
    assert why(world, job.first) == "the controller does not answer"
    world.run(lambda engine: engine.controller(up=True))
    assert len(world.sent) == 1
    world.stop()


def test_nothing_is_sent_over_a_new_link_before_the_controller_has_answered_over_it(world: World) -> None:
    world.run(lambda engine: engine.link(up=False), lambda engine: engine.link(up=True))
    job = world.create(body("post", "a"))
    assert (world.sent, world.engine.controller_up) == ([], False)
    world.run(lambda engine: engine.controller(up=True))
    assert [one.request for one in world.sent] == [job.first]


def test_silent_gateways_that_fill_the_window_let_others_go_after_a_while(world: World) -> None:
    """Nothing arrives: only a timer lets them go."""
    silent, begun_s = (
        world.create(body("get", *(f"silent-{one}" for one in range(FIRST)))),
        world.clock.now_s(),
    )
    other = world.create(body("get", "a", "b"))
    assert len(world.sendings(other.first)) == 1, "a job that has nothing in flight comes first"
    assert world.sendings(other.first + 1) == []
    world.advance(PATIENT_S - 0.1)
    assert world.sendings(other.first + 1) == []
    world.advance(0.2)
    assert world.last(other.first + 1).at_s == begun_s + PATIENT_S
    assert world.statuses(silent) == ["sent"] * FIRST


def test_a_retry_keeps_nobody_else_from_its_lock() -> None:
    world = World(SETTINGS, owners=one_model)
    failing = world.create(body("post", "a", retry={"attempts": 2, "delay": 20}))
    other = world.create(body("post", "b"))
    assert [one.request for one in world.sent] == [failing.first]
    world.run(world.answered(failing.first, 500))
    assert [one.request for one in world.sent] == [failing.first, other.first]
    assert "the last attempt failed; it is tried again in" in str(why(world, failing.first))
    succeed(world, other.first)
    control(world, failing, PAUSED)
    control(world, failing, DISPATCHING)
    third = world.create(body("post", "c"))
    assert len(world.sendings(third.first)) == 1, "also when it has waited aside"
    succeed(world, third.first)
    world.advance(60)
    assert len(world.sendings(failing.first)) == 2
    world.stop()


def test_an_answer_in_the_grace_time_counts_in_time(world: World) -> None:
    job = world.create(body("post", "a"))
    world.lose_link()
    world.advance(SETTINGS.request_timeout_s - SETTINGS.grace_s)
    assert world.statuses(job) == ["sent"], "as long as the bus is away, answers may be kept for us there"
    world.regain_link()
    world.advance(SETTINGS.grace_s - 0.1)
    assert world.statuses(job) == ["sent"]
    world.run(world.answered(job.first))
    result = world.request(job.first).result
    assert world.statuses(job) == ["resolved"]
    assert result is not None
    assert "late" not in result


def test_after_the_grace_time_it_is_unknown_and_not_sent_again(world: World) -> None:
    job = lost(world, body("post", "a"))
    world.advance(1000)
    result = world.request(job.first).result
    assert result is not None
    assert "may have run" in result["message"]
    assert len(world.sent) == 1


@pytest.mark.parametrize(
    ("method", "more", "again"),
    [
        ("get", {}, True),
        ("put", {"idempotent": True}, True),
        ("get", {"idempotent": False}, False),
        ("delete", {}, False),
    ],
)
def test_only_what_may_run_twice_is_sent_again(
    world: World, method: str, more: dict[str, Any], again: bool
) -> None:
    job = world.create(body(method, "a", **more))
    world.lose_link()
    world.regain_link()
    world.advance(SETTINGS.grace_s - 0.1)
    assert len(world.sent) == 1
    world.advance(0.1)
    assert world.statuses(job) == ["sent" if again else "unknown"]
    assert len(world.sent) == 1 + again
    if again:
        first, second = world.sendings(job.first)
        assert second != first
        assert world.request(job.first).attempts == 2
        world.run(world.answered(first, 500), world.refused(first, 408))
        assert world.statuses(job) == ["sent"], "the failure of an earlier one says nothing of the last"
        world.run(world.answered(first))
        assert world.statuses(job) == ["resolved"]
        result = world.request(job.first).result
        assert result is not None
        assert result["late"] is True
        world.run(world.answered(second, 500))
        assert world.statuses(job) == ["resolved"]


def test_each_loss_begins_the_grace_time_anew_but_not_beyond_its_own_time(world: World) -> None:
    job = world.create(body("post", "a"))
    for _ in range(19):
        world.regain_link()
        world.advance(SETTINGS.grace_s - 2)
        world.lose_link()
    assert world.statuses(job) == ["sent"]
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["unknown"]


def test_doubt_does_not_prolong_the_time_for_an_answer(world: World) -> None:
    job = world.create(body("post", "a", requestTimeout=2))
    world.advance(1)
    world.lose_link()
    world.advance(1)
    assert world.statuses(job)[0] in ("unknown", "timeout")


def test_what_is_sent_after_the_link_is_back_is_not_in_doubt(world: World) -> None:
    world.lose_link()
    job = world.create(body("post", "a"))
    world.regain_link()
    world.advance(SETTINGS.grace_s + 1)
    assert world.statuses(job) == ["sent"]


def test_after_the_start_of_the_machine_gateways_may_come_later(world: World) -> None:
    job = world.create(body("post", "a"))
    world.clock.reboot()
    world.restart()
    world.advance(SETTINGS.grace_s)
    other = world.create(body("post", "b"))
    world.run(world.refused(other.first, 404))
    assert world.statuses(other) == ["pending"]
    assert "does not know the gateway yet" in (why(world, other.first) or "")
    world.advance(SETTINGS.booting_s)
    world.run(world.refused(world.last(other.first).message, 404))
    assert world.statuses(job) == ["unknown"]
    assert world.statuses(other) == ["error"]


def test_a_bundle_that_restarts_alone_waits_for_no_gateway(world: World) -> None:
    world.restart()
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["error"]


def test_gateways_may_register_again_after_a_restart_of_the_controller(world: World) -> None:
    job = world.create(body("post", "a"))
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 100))
    world.run(world.refused(job.first, 404, "nobody"))
    request = world.request(job.first)
    assert (request.status, request.attempts) == (RequestStatus.PENDING, 0), "nobody got it: it waits"
    world.advance(1)
    assert len(world.sendings(job.first)) == 2
    succeed(world, job.first)
    assert world.statuses(job) == ["resolved"]


def test_who_has_not_registered_again_by_then_does_not_exist(world: World) -> None:
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 100))
    world.advance(SETTINGS.registering_s)
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404, "nobody"))
    assert world.statuses(job) == ["error"]
    assert len(world.sendings(job.first)) == 1


def restarted(world: World, known_s: float | None) -> list[int]:
    """The controller was restarted: the messages of which it is asked whether it has them."""
    world.checked.clear()
    world.run(lambda engine: engine.delivery.controller_restarted(known_s))
    return list(world.checked)


def test_a_restarted_controller_lost_what_it_had_been_given(world: World) -> None:
    before = world.create(body("post", "a"))
    world.advance(2)
    known_s = world.clock.now_s()
    world.advance(2)
    after, later = world.create(body("post", "b")), world.create(body("get", "c"))
    world.advance(1)
    assert restarted(world, known_s) == [after.first, later.first]
    world.run(lambda engine: engine.delivery.held(after.first, held=True))
    world.run(lambda engine: engine.delivery.held(later.first, held=False))
    world.advance(SETTINGS.grace_s)
    assert world.statuses(before) == ["unknown"]
    assert world.statuses(after) == ["sent"], "it is the new one that has it"
    assert len(world.sendings(later.first)) == 2, "that one is lost, and may be repeated"
    world.advance(60)
    assert world.statuses(after) == ["timeout"]


def test_an_answer_that_was_on_its_way_counts_though_the_controller_does_not_wait_for_it(
    world: World,
) -> None:
    job = world.create(body("post", "a"))
    restarted(world, world.clock.now_s() - 1)
    world.run(lambda engine: engine.delivery.held(job.first, held=False))
    succeed(world, job.first)
    world.run(lambda engine: engine.delivery.held(job.first, held=False))
    assert world.statuses(job) == ["resolved"]


def test_a_controller_that_has_forgotten_us_is_not_believed_that_there_is_no_such_gateway(
    world: World,
) -> None:
    """It says so of everybody, before anybody has noticed that it was restarted."""
    world.known = False
    job = world.create(body("post", "a", "b"))
    world.run(world.refused(job.first, 404), world.refused(job.first + 1, 403, "no subscribed model"))
    assert world.statuses(job) == ["sent", "sent"]
    assert world.proving
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 1))
    assert world.statuses(job) == ["pending", "pending"]
    world.known = True
    world.advance(1)
    for request in (job.first, job.first + 1):
        succeed(world, request)
    assert world.statuses(job) == ["resolved", "resolved"]


@pytest.mark.parametrize("lost", ["time", "link"])
def test_who_is_not_known_to_exist_did_not_run(world: World, lost: str) -> None:
    world.known = False
    job = world.create(body("post", "a", requestTimeout=5))
    world.run(world.refused(job.first, 404))
    if lost == "time":
        world.advance(5)
    else:
        world.lose_link()
    assert world.statuses(job) in (["pending"], ["sent"])
    assert world.request(job.first).attempts == len(world.sendings(job.first)) - 1


def test_what_an_earlier_process_began_waits_for_gateways_when_the_controller_is_new_too(
    world: World,
) -> None:
    old = world.create(body("get", "a"))
    world.restart()
    restarted(world, None)
    new = world.create(body("post", "b"))
    world.advance(SETTINGS.grace_s)  # what was sent before is lost, and sent again
    world.run(world.refused(world.last(old.first).message, 404), world.refused(new.first, 404))
    assert (world.statuses(old), world.statuses(new)) == (["pending"], ["error"])


def test_who_registers_again_is_sent_to_at_once_and_the_others_are_left_alone(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    restarted(world, world.clock.now_s() - 100)
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    world.run(world.refused(job.first, 404), world.refused(job.first + 1, 404))
    world.advance(UNREGISTERED_S / 2 - 0.1)
    assert len(world.sent) == 2, "while one sees who comes, nobody is asked in vain"
    world.run(lambda engine: engine.delivery.registering(["/remote/a"]))
    world.advance(REGISTERED_S)
    assert [one.destination for one in world.sent[2:]] == ["a"]
    world.run(lambda engine: engine.delivery.registering(["/remote/+"]))
    world.advance(REGISTERED_S)
    assert [one.destination for one in world.sent[2:]] == ["a", "b"]


def test_while_more_gateways_register_the_others_are_waited_for(world: World) -> None:
    restarted(world, world.clock.now_s() - 100)
    world.advance(SETTINGS.registering_s - 1)
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    world.advance(MORE_S - 1)
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["pending"]
    world.advance(SETTINGS.lock_wait_s)
    world.run(world.refused(world.last(job.first).message, 404))
    assert world.statuses(job) == ["error"], "not for ever"


def test_a_restarted_controller_is_asked_for_locks_again() -> None:
    world = World(SETTINGS, owners=one_model)
    job = world.create(body("post", "a", "b"))
    world.owners = None
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s()))
    succeed(world, job.first)
    assert world.asked == ["b"]
    assert len(world.sent) == 1
    world.stop()


# -- control ---------------------------------------------------------------------------------------


def test_a_paused_job_sends_no_more_and_lets_end_what_is_in_flight(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    held = control(world, job, PAUSED)
    assert (held.status, held.reason) == (JobStatus.PAUSED, "paused by a request")
    assert world.job(job.id) == held
    succeed(world, job.first)
    world.advance(1000)
    assert world.statuses(job) == ["resolved", "pending"]
    assert why(world, job.first + 1) == "the job is paused"
    resumed = control(world, job, DISPATCHING)
    assert (resumed.status, resumed.reason) == (JobStatus.DISPATCHING, None)
    assert world.statuses(job) == ["resolved", "sent"]


def test_a_paused_job_ends_with_its_last_request(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, PAUSED)
    succeed(world, job.first)
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
    succeed(world, job.first)
    assert not world.job(job.id).final
    world.advance(60)
    assert world.statuses(job) == ["resolved", "timeout", "canceled"]
    done = world.job(job.id)
    assert (done.status, done.reason) == (JobStatus.CANCELED, "canceled by a request")
    check_counts(world, job)


def test_a_forced_cancel_waits_for_nothing(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    done = control(world, job, CANCELED, force=True)
    assert done.status is JobStatus.CANCELED
    assert world.statuses(job) == ["unknown", "canceled"]
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved", "canceled"]
    assert world.job(job.id).status is JobStatus.CANCELED
    check_counts(world, job)


def test_a_cancel_can_be_forced_later(world: World) -> None:
    job = world.create(body("get", "a"))
    assert not control(world, job, CANCELED).final
    assert control(world, job, CANCELED, force=True).status is JobStatus.CANCELED
    assert world.statuses(job) == ["unknown"]


def test_what_is_lost_again_and_again_is_unknown_in_the_end(world: World) -> None:
    """Else a link that flaps would keep a job without a time of its own open for ever."""
    job = world.create(body("get", "a"))
    for _ in range(MOST_LOST + 1):
        assert world.statuses(job) == ["sent"]
        world.lose_link()
        world.regain_link()
        world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == ["unknown"]
    assert len(world.sent) == MOST_LOST + 1
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_a_canceled_job_repeats_nothing(world: World) -> None:
    job = world.create(body("get", "a"))
    control(world, job, CANCELED)
    world.lose_link()
    world.regain_link()
    world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == ["unknown"]
    assert world.job(job.id).status is JobStatus.CANCELED


def test_the_first_verdict_stands(world: World) -> None:
    job = world.create(body("post", "a", timeout=10))
    control(world, job, CANCELED)
    world.advance(10)
    assert world.job(job.id).status is JobStatus.CANCELED
    assert world.statuses(job) == ["timeout"]


def test_what_does_not_fit_the_status_is_a_conflict(world: World) -> None:
    job = world.create(body("post", "a"))
    control(world, job, CANCELED)
    for wanted in (PAUSED, DISPATCHING):
        with pytest.raises(Conflict, match="is being stopped"):
            control(world, job, wanted)
    succeed(world, job.first)
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
    succeed(world, second.first)
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


def test_a_job_that_ended_can_be_removed(world: World) -> None:
    job = world.create(body("post", "a"))
    succeed(world, job.first)
    assert delete(world, job).status is JobStatus.RESOLVED
    assert world.store.now.jobs({}) == []


def test_a_job_can_be_removed_in_the_turn_that_creates_it(world: World) -> None:
    world.run(lambda engine: engine.create(spec(body("post", "a"))), lambda engine: engine.delete(1))
    assert world.store.now.jobs({}) == []
    assert world.store.now.requests({}) == []
    assert world.create(body("post", "a")).id == 2


# -- recovery --------------------------------------------------------------------------------------


def test_after_a_crash_late_answers_are_waited_for_and_then_it_is_unknown(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    world.restart()
    assert world.statuses(job) == ["sent", "sent"]
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["resolved", "sent"]
    world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == ["resolved", "unknown"]
    assert world.job(job.id).status is JobStatus.RESOLVED
    assert len(world.sent) == 2
    check_counts(world, job)


def test_after_a_crash_a_read_is_sent_again(world: World) -> None:
    job = world.create(body("get", "a"))
    world.restart()
    world.advance(SETTINGS.grace_s)
    first, second = world.sendings(job.first)
    assert first != second
    assert world.request(job.first).attempts == 2


def test_after_a_crash_the_order_and_the_one_in_flight_stay(world: World) -> None:
    items = [*body("get", "a")["batch"], *body("get", "a")["batch"]]
    job = world.create({"batch": items})
    other = world.create(body("get", "a"))
    world.restart()
    assert len(world.sent) == 1
    succeed(world, job.first)
    assert world.sent[-1].request == job.first + 1
    succeed(world, job.first + 1)
    assert world.sent[-1].request == other.first


def test_a_turn_that_was_not_durable_never_was(world: World) -> None:
    job = world.create(body("post", "a"), begin=False)
    engine = world.engine
    engine.begin()
    engine.lifecycle.begin_job(job.id)
    engine.create(spec(body("post", "b")))
    engine.owners("a", ["/remote/a"])
    assert engine.decide().sends, "it was about to leave"
    world.restart()
    assert len(world.store.now.jobs({})) == 1
    assert [one.request for one in world.sent] == [job.first], "it is sent by the new process, once"


# -- what waits for the broker -----------------------------------------------------------------------


def long_body(*names: str) -> dict[str, Any]:
    """A command of 1 MB to each."""
    some = {"destination": list(names)}
    return {"batch": [{"method": "post", "resource": "/a", "data": "x" * 1_000_000, "__request": some}]}


def test_no_more_leaves_while_much_of_what_was_sent_is_in_memory(world: World) -> None:
    world.engine.waiting_bytes = WAITING_BYTES
    job = world.create(long_body(*"abcdefgh"))
    assert world.sent == []
    assert world.engine.why([job.first]) == {job.first: BROKER_IS_SLOW}
    seen = []
    for waiting_bytes in (WAITING_BYTES - 1_500_000, FEW_BYTES, FEW_BYTES):
        world.engine.waiting_bytes = waiting_bytes
        world.turn()
        seen.append(("".join(one.destination for one in world.sent), world.engine.busy))
    assert seen == [
        ("ab", False),  # until it is as much again; there is room when the broker has taken something
        ("abcdef", True),  # perhaps all of it was taken at once, and then nothing more happens
        ("abcdefgh", False),
    ]
    for id_ in job.request_ids:
        succeed(world, id_)
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_who_waits_for_the_broker_waits_for_the_bus_too(world: World) -> None:
    world.engine.waiting_bytes = WAITING_BYTES
    job = world.create(long_body("a"))
    world.run(lambda engine: engine.link(up=False))
    assert not world.engine.busy
    assert world.engine.why([job.first]) == {job.first: "the bus is down"}
    world.engine.waiting_bytes = 0
    world.run(lambda engine: engine.link(up=True), lambda engine: engine.controller(up=True))
    assert [one.request for one in world.sent] == [job.first]


def test_an_id_is_not_used_again_after_a_crash(world: World) -> None:
    job = world.create(body("get", *"abc"))
    for round_ in range(3):
        refuse(world, job.first, *ID_WAS_USED)
        if round_:
            delete(world, world.create(body("get", "z")))
        world.restart()
        world.advance(LAST_DELAY_S)
    world.create(body("get", "y"))
    messages = [one.message for one in world.sent]
    assert len(set(messages)) == len(messages)
    requests = [request.id for request in world.store.now.requests({})]
    assert {one.message for one in world.sent if one.request != one.message}.isdisjoint(requests)


def test_a_refused_request_gets_a_fresh_message_id_also_after_a_crash(world: World) -> None:
    job = world.create(body("post", "a"))
    refuse(world, job.first, *ID_WAS_USED)
    world.restart()
    assert len(set(world.sendings(job.first))) == 2


def test_a_paused_job_stays_paused_over_a_restart(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1))
    control(world, job, PAUSED)
    world.restart()
    world.advance(100)
    assert world.statuses(job) == ["unknown", "pending"]
    assert world.job(job.id).status is JobStatus.PAUSED
    control(world, job, DISPATCHING)
    assert world.statuses(job) == ["unknown", "sent"]


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_job_that_was_being_stopped_ends_after_a_restart(world: World, method: str) -> None:
    job = world.create(body(method, "a", "b", concurrency=1))
    control(world, job, CANCELED)
    world.restart()
    world.advance(SETTINGS.grace_s)
    done = world.job(job.id)
    assert (done.status, done.reason) == (JobStatus.CANCELED, "canceled by a request")
    assert world.statuses(job) == ["unknown", "canceled"]
    assert len(world.sent) == 1


def test_a_job_without_open_requests_ends_after_a_restart(world: World) -> None:
    """A file that an interrupted version left so: no job stays open for ever."""
    job = world.create(body("post", "a"))
    succeed(world, job.first)
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


def test_an_outage_that_the_broker_survives_is_no_failure(world: World) -> None:
    job = world.create(body("post", *"abcde", abort={"errors": 2}, concurrency=3))
    world.lose_link()
    world.advance(30)
    world.regain_link()
    world.run(*(world.answered(sending.message) for sending in world.sent[:3]))
    assert world.statuses(job) == ["resolved"] * 3 + ["sent"] * 2


def test_limits_hold_over_a_restart(world: World) -> None:
    job = world.create(body("get", *"abcd", concurrency=2))
    world.restart()
    assert len(world.sent) == 2
    succeed(world, job.first)
    assert len(world.sent) == 3


# -- the store cannot be written -------------------------------------------------------------------


def test_nothing_is_sent_while_nothing_can_be_made_durable(world: World) -> None:
    job = world.create(body("post", "a", "b"), begin=False)
    world.store.full = True
    world.run(lambda engine: engine.lifecycle.begin_job(job.id))
    world.advance(10)
    assert world.sent == []
    assert why(world, job.first) == "The disk is full."
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


def test_a_revoked_job_may_have_been_canceled_already(world: World) -> None:
    world.store.full = True
    world.run(
        lambda engine: engine.create(spec(body("post", "a"))),
        lambda engine: engine.control(1, CANCELED, force=False),
    )
    assert world.revoked == [1]
    write_again(world)
    assert world.store.now.jobs({}) == []


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
    check_counts(world, job)
    check_counts(world, late)


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


def test_a_job_that_needs_more_ids_than_there_are_is_refused(world: World) -> None:
    near_the_end(world, 10)
    with pytest.raises(Unavailable, match="given out all request ids"):
        world.create(body("post", *"abcdefghijk"))
    job = world.create(body("post", *"abcde"))
    assert max(job.request_ids) <= LAST_REQUEST_ID
    with pytest.raises(Unavailable):
        world.create(body("post", *"abcdef"))


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
    for part in (engine, delivery, delivery.flight, delivery.refusals, scheduler, scheduler.locks):
        for name, value in vars(part).items():
            if isinstance(value, Sized) and not isinstance(value, str) and name not in KEPT:
                assert not (any(value) if isinstance(value, tuple) else value), name


def with_data(data: Any, *destinations: str) -> dict[str, Any]:
    made = body("post", *destinations)
    made["batch"][0]["data"] = data
    return made


def test_what_the_broker_does_not_carry_any_more_is_not_sent() -> None:
    """Its limit was not known, or another, when the job was made."""
    world = World()
    world.lose_link()
    long = world.create(with_data(list(range(4000)), "cg-1", "cg-2"))
    short = world.create(with_data({}, "cg-3"))
    world.connected = True
    world.run(lambda engine: engine.link(up=True, capacity=Capacity(50_000)))
    world.run(lambda engine: engine.controller(up=True))
    assert world.statuses(long) == ["error", "error"]
    result = world.request(long.first).result
    assert result is not None
    assert (result["code"], result["source"]) == (413, "puppetmaster")
    assert re.fullmatch(
        r"the broker carries 50000 bytes, and indented, as the controller passes it on, this has \d{5}: "
        "it did not run",
        result["message"],
    )
    assert [one.request for one in world.sent] == [short.first]
    world.stop()


def test_what_goes_past_our_controller_is_not_indented_on_our_broker() -> None:
    world = World(Settings(route="direct"))
    world.run(lambda engine: engine.link(up=True, capacity=Capacity(50_000)))
    job = world.create(with_data(list(range(4000)), "cg-1"))
    world.create(with_data(list(range(11_000)), "cg-2"))
    assert [one.request for one in world.sent] == [job.first]
    world.stop()
