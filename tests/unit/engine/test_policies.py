"""The policies of a job, through the engine in virtual time: what is sent when, and how it all ends."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from puppetmaster.clock import iso
from puppetmaster.engine.context import Timer, TimerKind
from puppetmaster.engine.lifecycle import BEGIN_S, START_CHECK_S
from puppetmaster.errors import Conflict
from puppetmaster.model.job import GateStatus, Job, JobStatus
from puppetmaster.model.policy import JITTER
from puppetmaster.model.request import RequestStatus
from puppetmaster.scheduling.fairness import RESERVED
from puppetmaster.settings import Settings
from tests.virtual import World, body, one_model

SETTINGS = Settings(request_timeout_s=60.0, lock_wait_s=30.0, grace_s=5.0)
PAUSED, DISPATCHING, CANCELED = JobStatus.PAUSED, JobStatus.DISPATCHING, JobStatus.CANCELED


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS)
    yield made
    made.stop()


def names(number: int) -> list[str]:
    return [f"cg-{index:03}" for index in range(number)]


def control(world: World, job: Job, wanted: JobStatus, *, force: bool = False) -> Job:
    return world.do(lambda engine: engine.control(job.id, wanted, force=force))


def delete(world: World, job: Job) -> Job:
    return world.do(lambda engine: engine.delete(job.id))


def why(world: World, id_: int) -> str | None:
    return world.do(lambda engine: engine.why([id_]))[id_]


def answer(world: World, id_: int, code: int = 200) -> None:
    """The device answers the last message of this request."""
    world.run(world.answered(world.last(id_).message, code))


def sent(world: World, job: Job) -> list[int]:
    """The requests of a job that are in flight, counted from 0."""
    return [id_ - job.first for id_ in job.request_ids if world.request(id_).status is RequestStatus.SENT]


def at(world: World, after_s: float) -> str:
    return iso(world.clock.wall_s() + after_s)


def status(world: World, job: Job) -> tuple[str, str | None]:
    now = world.job(job.id)
    return now.status.value, now.reason


# -- concurrency -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("concurrency", "total", "at_once"),
    [(1, 5, 1), (3, 5, 3), (9, 5, 5), ("10%", 30, 3), ("1%", 30, 1), ("34%", 10, 4), ("100%", 30, 30)],
)
def test_so_many_are_in_flight_at_once(
    world: World, concurrency: int | str, total: int, at_once: int
) -> None:
    job = world.create(body("post", *names(total), concurrency=concurrency))
    assert len(sent(world, job)) == at_once
    answer(world, job.first)
    assert len(sent(world, job)) == min(at_once, total - 1)


def test_a_concurrency_is_not_held_to_the_window(world: World) -> None:
    job = world.create(body("post", *names(100), concurrency=60))
    assert len(sent(world, job)) == 60 > world.engine.scheduler.window.size


def test_the_most_of_all_jobs_holds_for_a_concurrency_too() -> None:
    world = World(Settings(window=7))
    job = world.create(body("post", *names(20), concurrency=20))
    assert len(sent(world, job)) == 7
    assert why(world, job.first + 19) == "no free slot: 7 requests are in flight, which is the most"
    world.stop()


def test_without_a_number_the_window_grows_with_the_answers(world: World) -> None:
    job = world.create(body("post", *names(200)))
    first = sent(world, job)
    assert len(first) == world.engine.scheduler.window.size == 10
    for id_ in first:
        answer(world, job.first + id_)
    assert len(sent(world, job)) == world.engine.scheduler.window.size == 20


def test_silent_gateways_do_not_keep_others_from_their_turn(world: World) -> None:
    dead = [f"dead-{index}" for index in range(10)]
    large = world.create(body("get", *dead, *names(100), requestTimeout=3600))
    assert sent(world, large) == list(range(10)), "the window is full of those that will not answer"
    small = world.create(body("get", "x", "y", "z"))
    assert sent(world, small) == [0], "who has nothing in flight comes first, whatever the window"
    assert why(world, small.first + 1) == "no free slot: 11 requests are in flight, which is the window now"
    world.advance(2)
    assert len(sent(world, large)) + len(sent(world, small)) == 21, "those who are silent make room"
    assert sent(world, small) == [0, 1, 2]


def test_no_concurrency_takes_the_last_slots(world: World) -> None:
    large = world.create(body("get", *[f"dead-{index}" for index in range(600)], concurrency=600))
    assert len(sent(world, large)) == SETTINGS.window - RESERVED
    kept = f"and the last {RESERVED} slots are for jobs that have none"
    assert why(world, large.first + 599) == f"no free slot: 480 requests are in flight, {kept}"
    jobs = [world.create(body("get", "x", f"y{index}")) for index in range(2)]
    assert [sent(world, job) for job in jobs] == [[0], [1]], "each has one; x is the first job's now"


def test_one_lock_for_all_lets_one_write_go_whatever_the_concurrency() -> None:
    world = World(SETTINGS, one_model)
    job = world.create(body("post", *names(5), concurrency=5))
    for index in range(5):
        assert sent(world, job) == [index]
        if index < 4:
            assert why(world, job.first + 4) == f"request {job.first + index} holds the lock of /remote/+"
        answer(world, job.first + index)
    assert status(world, job) == ("resolved", None)
    world.stop()


# -- rate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.5, 1, 3, 40])
def test_never_more_than_the_rate_in_a_second(world: World, rate: float) -> None:
    count = int(rate * 4) + 2
    job = world.create(body("post", *names(count), rate=rate, concurrency=count))
    world.advance(count / rate + 1)
    times = [one.at_s for one in world.sent]
    assert len(times) == count
    for start_s in times:
        in_a_second = [one for one in times if start_s <= one < start_s + 1 - 1e-9]
        assert len(in_a_second) <= max(1, rate)
    assert times[-1] - times[0] == pytest.approx((count - 1) / rate, rel=0.01)
    assert status(world, job)[0] == "dispatching"


def test_a_rate_that_fell_behind_does_not_burst(world: World) -> None:
    job = world.create(body("post", *names(30), rate=10, concurrency=30))
    world.advance(0.5)
    before = len(world.sent)
    control(world, job, PAUSED)
    world.advance(100)
    control(world, job, DISPATCHING)
    world.advance(0.5)
    assert len(world.sent) - before <= 6
    world.advance(100)
    assert len(world.sent) == 30


def test_a_rate_holds_over_a_restart(world: World) -> None:
    job = world.create(body("get", *names(3), rate=0.1))
    assert sent(world, job) == [0]
    world.restart()
    world.advance(9.9)
    assert len(world.sent) == 1
    world.advance(0.1)
    assert len(world.sent) == 2


def test_each_job_has_its_own_rate(world: World) -> None:
    slow = world.create(body("post", *names(5), rate=1))
    fast = world.create(body("post", *[f"other-{one}" for one in names(5)], rate=100))
    world.advance(1)
    assert len(sent(world, slow)) <= 2
    assert len(sent(world, fast)) == 5


def test_a_retry_counts_for_the_rate(world: World) -> None:
    job = world.create(body("post", "a", "b", rate=1, retry={"attempts": 2, "delay": 0}))
    answer(world, job.first, 500)
    assert len(world.sent) == 1
    world.advance(2)
    assert len(world.sent) == 3


# -- retry -----------------------------------------------------------------------------------------


def test_without_retry_there_is_one_attempt(world: World) -> None:
    job = world.create(body("post", "a"))
    answer(world, job.first, 500)
    assert world.statuses(job) == ["error"]
    assert world.request(job.first).history == ()


@pytest.mark.parametrize(
    ("method", "more", "tried_again"),
    [
        ("get", {}, True),
        ("post", {}, False),
        ("post", {"idempotent": True}, True),
        ("get", {"idempotent": False}, False),
    ],
)
@pytest.mark.parametrize(
    "source", ["own", "controller", "remote", "remote 408", "there", "device", "garbled"]
)
def test_where_it_may_have_run_only_what_may_run_twice_is_tried_again(
    world: World, method: str, more: dict[str, Any], tried_again: bool, source: str
) -> None:
    job = world.create(body(method, "a", retry={"attempts": 2, "delay": 1}, **more))
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    answers = {
        "controller": world.refused(job.first, 408, "session failed due to ttl expired ."),
        "remote": world.said({"id": job.first, "code": 500, "data": {"message": "Remote requests timeout"}}),
        "remote 408": world.said({"id": job.first, "code": 408, "data": None}),
        "there": world.gateway_said(job.first, 408, "session failed due to ttl expired ."),
        "device": world.answered(job.first, 408),
        "garbled": world.answered(job.first, 200, deep),
    }
    if source == "own":
        world.advance(SETTINGS.request_timeout_s)
    else:
        world.run(answers[source])
    ended = "error" if source == "garbled" else "timeout"
    assert world.statuses(job) == ["pending" if tried_again else ended]
    world.advance(1)
    assert len(world.sent) == 1 + tried_again


@pytest.mark.parametrize("method", ["get", "post"])
def test_after_an_error_each_is_tried_again(world: World, method: str) -> None:
    job = world.create(body(method, "a", retry={"attempts": 2, "delay": 1}))
    answer(world, job.first, 500)
    assert world.statuses(job) == ["pending"]
    world.advance(1)
    answer(world, job.first)
    assert world.statuses(job) == ["resolved"]
    assert world.request(job.first).attempts == 2


@pytest.mark.parametrize(("on", "ends"), [(["timeout"], "error"), (["error"], "timeout")])
def test_only_the_outcomes_that_were_named_are_tried_again(world: World, on: list[str], ends: str) -> None:
    job = world.create(body("get", "a", retry={"attempts": 3, "on": on, "delay": 0}))
    if ends == "error":
        answer(world, job.first, 500)
    else:
        world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == [ends]


def test_the_attempts_come_to_an_end(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 3, "delay": 1}))
    for code in (500, 501, 502):
        answer(world, job.first, code)
        world.advance(10)
    request = world.request(job.first)
    assert request.status is RequestStatus.ERROR
    assert request.result is not None
    assert request.result["code"] == 502
    assert request.attempts == 3
    assert [one["result"]["code"] for one in request.history] == [500, 501]
    assert [one["status"] for one in request.history] == ["error", "error"]
    assert status(world, job) == ("resolved", None)


def test_each_attempt_has_a_message_id_of_its_own_and_the_history_names_it(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 3, "delay": 1}))
    answer(world, job.first, 500)
    world.advance(10)
    answer(world, job.first, 500)
    world.advance(10)
    messages = world.sendings(job.first)
    assert messages[0] == job.first
    assert len(set(messages)) == 3
    assert [one["message"] for one in world.request(job.first).history] == messages[:2]
    assert world.request(job.first).sending == messages[2]


def test_the_waits_grow_within_their_bounds(world: World) -> None:
    retry = {"attempts": 7, "delay": 2, "factor": 3, "maxDelay": 40}
    job = world.create(body("post", *names(10), retry=retry, concurrency=10))
    seen = set()
    for longest_s in (2, 6, 18, 40, 40, 40):
        began_s, count = world.clock.now_s(), len(world.sent)
        for id_ in job.request_ids:
            answer(world, id_, 500)
        assert len(world.sent) == count
        world.advance(JITTER * longest_s - 0.001)
        assert len(world.sent) == count
        world.advance((1 - JITTER) * longest_s + 0.002)
        waits = [one.at_s - began_s for one in world.sent[count:]]
        assert len(waits) == 10
        assert all(JITTER * longest_s <= wait_s <= longest_s for wait_s in waits)
        seen |= set(waits)
    assert len(seen) == 60, "no two wait just as long"


def test_a_slot_is_free_while_a_request_waits_for_its_next_attempt(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1, retry={"attempts": 2, "delay": 10}))
    answer(world, job.first, 500)
    assert sent(world, job) == [1]
    assert re.fullmatch(
        r"the last attempt failed; it is tried again in (10|\d\.\d) s", str(why(world, job.first))
    )


def test_the_next_request_to_a_destination_waits_for_all_attempts(world: World) -> None:
    first = world.create(body("post", "a", retry={"attempts": 2, "delay": 10}))
    second = world.create(body("post", "a"))
    answer(world, first.first, 500)
    assert sent(world, second) == []
    expected = f"request {first.first} of job {first.id} to the same destination is before it"
    assert why(world, second.first) == expected
    world.advance(10)
    answer(world, first.first, 500)
    assert sent(world, second) == [0]


def test_a_locked_controller_is_no_attempt_and_gets_a_fresh_message_id(world: World) -> None:
    job = world.create(body("post", "a"))
    for _ in range(3):
        world.run(world.refused(world.last(job.first).message))
        assert world.request(job.first).attempts == 0
        assert re.fullmatch(
            r"locked by somebody else; it is tried again in \d\.\d s", str(why(world, job.first))
        )
        world.advance(2)
    assert len(set(world.sendings(job.first))) == 4
    answer(world, job.first)
    request = world.request(job.first)
    assert (request.status, request.attempts, request.history) == (RequestStatus.RESOLVED, 1, ())


def test_a_used_id_is_no_attempt_and_gets_a_fresh_one(world: World) -> None:
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 403, "'id' was used, please use another 'id'"))
    assert world.request(job.first).attempts == 0
    world.advance(2)
    first, second = world.sendings(job.first)
    assert first != second
    answer(world, job.first)
    assert world.statuses(job) == ["resolved"]


def test_a_late_success_of_an_earlier_attempt_settles_what_waits(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 10}))
    world.advance(SETTINGS.request_timeout_s)
    world.run(world.answered(job.first))
    request = world.request(job.first)
    assert request.status is RequestStatus.RESOLVED
    assert request.result is not None
    assert request.result["late"] is True
    assert status(world, job) == ("resolved", None)
    world.advance(100)
    assert len(world.sent) == 1


def test_a_late_success_of_an_earlier_attempt_settles_what_is_in_flight(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 1}))
    world.advance(SETTINGS.request_timeout_s + 1)
    first, second = world.sendings(job.first)
    world.run(world.answered(first))
    request = world.request(job.first)
    assert request.status is RequestStatus.RESOLVED
    assert request.result is not None
    assert request.result["late"] is True
    assert world.engine.scheduler.in_flight == 0
    world.run(world.answered(second, 500))
    assert world.request(job.first) == request, "who succeeded has"


def test_a_late_failure_of_an_earlier_attempt_changes_nothing(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 1}))
    world.advance(SETTINGS.request_timeout_s)
    world.run(world.answered(job.first, 500))
    assert world.statuses(job) == ["pending"]
    world.advance(1)
    world.run(world.answered(job.first, 500))
    assert world.statuses(job) == ["sent"]
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["timeout"]
    world.run(world.answered(job.first, 500))
    assert world.statuses(job) == ["timeout"]
    world.run(world.answered(world.last(job.first).message, 500))
    assert world.statuses(job) == ["error"]


def test_a_late_failure_of_an_attempt_is_how_it_ended_when_no_other_is_made(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 100}))
    world.advance(SETTINGS.request_timeout_s)
    world.run(world.answered(job.first, 500))
    control(world, job, CANCELED)
    request = world.request(job.first)
    assert request.status is RequestStatus.ERROR
    assert request.result is not None
    assert (request.result["code"], request.result["late"]) == (500, True)


def test_a_late_failure_is_seen_in_the_history(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 100}))
    world.advance(SETTINGS.request_timeout_s)
    for code in (500, 502):
        world.run(world.answered(job.first, code))
    (attempt,) = world.request(job.first).history
    assert (attempt["status"], attempt["result"]["code"]) == ("error", 500), "the first answer stands"
    assert world.statuses(job) == ["pending"], "the other attempt is made all the same"


def test_a_late_success_of_any_attempt_corrects_what_has_ended(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 3, "delay": 1}))
    world.advance(4 * SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["timeout"]
    world.restart()
    world.run(world.answered(world.sendings(job.first)[1]))
    request = world.request(job.first)
    assert request.status is RequestStatus.RESOLVED
    assert request.result is not None
    assert request.result["late"] is True
    assert world.job(job.id).failed_count == 0


def test_attempts_are_counted_over_a_restart(world: World) -> None:
    job = world.create(body("get", "a", retry={"attempts": 2, "delay": 1}))
    answer(world, job.first, 500)
    world.restart()
    world.advance(1)
    answer(world, job.first, 500)
    request = world.request(job.first)
    assert (request.status, request.attempts, len(request.history)) == (RequestStatus.ERROR, 2, 1)
    assert len(set(world.sendings(job.first))) == 2


def test_the_wait_for_another_attempt_is_kept_over_a_pause(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 100}))
    answer(world, job.first, 500)
    due_s = world.engine.timers.deadline_s(Timer(TimerKind.WAKE, job.first))
    assert due_s is not None
    world.advance(5)
    control(world, job, PAUSED)
    control(world, job, DISPATCHING)
    assert len(world.sent) == 1
    world.advance(due_s - world.clock.now_s() - 0.001)
    assert len(world.sent) == 1
    world.advance(0.001)
    assert len(world.sent) == 2


def test_a_wait_that_is_over_when_the_job_goes_on_is_over(world: World) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 10}))
    answer(world, job.first, 500)
    control(world, job, PAUSED)
    world.advance(50)
    assert len(world.sent) == 1
    control(world, job, DISPATCHING)
    assert len(world.sent) == 2


@pytest.mark.parametrize("off_s", [0, 30])
def test_the_wait_for_another_attempt_is_kept_over_a_restart(world: World, off_s: float) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 100}))
    answer(world, job.first, 500)
    world.advance(20)
    if off_s:
        world.clock.reboot(off_s)
    world.restart()
    world.advance(JITTER * 100 - 20 - off_s - 0.01)
    assert len(world.sent) == 1
    world.advance((1 - JITTER) * 100 + 0.02)
    assert len(world.sent) == 2


@pytest.mark.parametrize("step_s", [-1e6, 1e6])
def test_a_wall_clock_that_was_set_makes_no_wait_longer_than_it_was(world: World, step_s: float) -> None:
    job = world.create(body("post", "a", retry={"attempts": 2, "delay": 100}))
    answer(world, job.first, 500)
    world.clock.wall_ahead_s += step_s
    world.restart()
    world.advance(100)
    assert len(world.sent) == 2


@pytest.mark.parametrize(("code", "ends"), [(500, "error"), (None, "timeout")])
@pytest.mark.parametrize("wanted", ["cancel", "expire"])
def test_what_was_tried_and_is_not_tried_again_keeps_its_last_outcome(
    world: World, code: int | None, ends: str, wanted: str
) -> None:
    given = body("get", "a", timeout=100, requestTimeout=50, retry={"attempts": 2, "delay": 300})
    job = world.create(given)
    if code is None:
        world.advance(50)
    else:
        answer(world, job.first, code)
    if wanted == "cancel":
        control(world, job, CANCELED)
    else:
        world.advance(100)
    request = world.request(job.first)
    assert (request.status.value, request.attempts, request.history) == (ends, 1, ())
    assert (request.sending, request.sent_at) == (job.first, job.created_at)
    assert request.result is not None
    assert request.result["message"].endswith(f"; not sent again: {world.job(job.id).reason}")
    assert status(world, job)[0] == ("canceled" if wanted == "cancel" else "timeout")


def test_an_abort_ends_what_waits_for_another_attempt_as_it_was(world: World) -> None:
    more: dict[str, Any] = {"retry": {"attempts": 2, "on": ["timeout"], "delay": 300}, "abort": {"errors": 0}}
    job = world.create(body("get", "a", "b", "c", concurrency=1, **more))
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["pending", "sent", "pending"]
    answer(world, job.first + 1, 500)
    assert world.statuses(job) == ["timeout", "error", "skipped"]
    world.run(world.answered(job.first))
    assert world.statuses(job)[0] == "resolved", "its late answer still counts"


# -- abort -----------------------------------------------------------------------------------------


def test_more_failures_than_are_borne_abort(world: World) -> None:
    job = world.create(body("post", *names(10), concurrency=3, abort={"errors": 1}))
    answer(world, job.first, 500)
    assert status(world, job) == ("dispatching", None)
    answer(world, job.first + 1, 500)
    assert world.job(job.id).status is DISPATCHING, "what is in flight ends first"
    assert world.statuses(job) == ["error", "error", "sent", "sent", *["skipped"] * 6]
    answer(world, job.first + 2)
    answer(world, job.first + 3, 500)
    reason = "2 of 2 requests failed, more than the 1 that it bears"
    assert status(world, job) == ("aborted", reason)
    assert world.statuses(job)[:4] == ["error", "error", "resolved", "error"]
    skipped = world.request(job.first + 9)
    assert skipped.result is not None
    assert skipped.result["message"] == f"not sent: {reason}"
    assert skipped.attempts == 0


def test_a_percentage_is_of_those_that_are_done(world: World) -> None:
    job = world.create(body("post", *names(20), concurrency=20, abort={"errors": "50%", "after": 4}))
    for index, code in enumerate((500, 500, 200)):
        answer(world, job.first + index, code)
    assert world.job(job.id).ending is None, "not before so many are done"
    answer(world, job.first + 3)
    assert world.job(job.id).ending is None, "half of them is borne"
    answer(world, job.first + 4, 500)
    assert world.job(job.id).ending is not None
    assert world.job(job.id).reason == "3 of 5 requests failed, more than the 50% that it bears"


def test_to_abort_waits_for_after(world: World) -> None:
    job = world.create(body("post", *names(10), concurrency=1, abort={"errors": 0, "after": 3}))
    for index in range(2):
        answer(world, job.first + index, 500)
    assert world.job(job.id).ending is None
    answer(world, job.first + 2)
    assert status(world, job)[0] == "aborted"
    assert world.statuses(job).count("skipped") == 7


def test_a_job_whose_last_request_passes_the_threshold_was_tried_whole(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1, abort={"errors": 0, "after": 2}))
    answer(world, job.first)
    answer(world, job.first + 1, 500)
    assert status(world, job) == ("resolved", None)


def test_an_attempt_that_is_followed_by_another_is_no_failure(world: World) -> None:
    job = world.create(
        body("post", "a", "b", concurrency=1, abort={"errors": 0}, retry={"attempts": 2, "delay": 1})
    )
    answer(world, job.first, 500)
    assert world.job(job.id).ending is None
    answer(world, job.first + 1)
    world.advance(1)
    answer(world, job.first)
    assert status(world, job) == ("resolved", None)


@pytest.mark.parametrize("how", ["timeout", "unknown"])
def test_each_way_to_fail_counts(world: World, how: str) -> None:
    job = world.create(body("post", "a", "b", concurrency=1, abort={"errors": 0}))
    if how == "timeout":
        world.advance(SETTINGS.request_timeout_s)
    else:
        world.lose_link()
        world.regain_link()
        world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == [how, "skipped"]
    assert status(world, job)[0] == "aborted"


def test_an_abort_goes_on_over_a_restart(world: World) -> None:
    job = world.create(body("post", *names(4), concurrency=2, abort={"errors": 0}))
    answer(world, job.first, 500)
    world.restart()
    assert world.statuses(job) == ["error", "sent", "skipped", "skipped"]
    world.advance(SETTINGS.grace_s)
    assert world.statuses(job)[1] == "unknown"
    assert status(world, job)[0] == "aborted"


# -- waves and gates -------------------------------------------------------------------------------


def wave(world: World, job: Job, code: int = 200) -> list[int]:
    """Answer all that is in flight; which those were."""
    those = sent(world, job)
    for index in those:
        answer(world, job.first + index, code)
    return those


def test_waves_go_one_after_another(world: World) -> None:
    job = world.create(body("post", *names(20), waves=[1, "25%", 12], concurrency=20))
    assert wave(world, job) == [0]
    assert sent(world, job) == [1, 2, 3, 4]
    answer(world, job.first + 1)
    assert world.job(job.id).wave == 2
    assert why(world, job.first + 5) == "wave 3 waits for wave 2"
    assert why(world, job.first + 12) == "wave 4 waits for wave 3"
    wave(world, job)
    assert wave(world, job) == [5, 6, 7, 8, 9, 10, 11]
    assert wave(world, job) == list(range(12, 20))
    assert status(world, job) == ("resolved", None)


def test_a_wave_keeps_to_the_concurrency(world: World) -> None:
    job = world.create(body("post", *names(9), waves=[4], concurrency=3))
    assert sent(world, job) == [0, 1, 2]
    answer(world, job.first)
    answer(world, job.first + 1)
    assert sent(world, job) == [2, 3], "the second wave has not begun"


def test_the_gate_closes_on_the_first_failure_by_default(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    answer(world, job.first)
    answer(world, job.first + 1, 500)
    reason = "wave 1 failed its gate: 1 of 2 requests failed, more than the 0 that its gate allows"
    assert status(world, job) == ("paused", reason)
    assert world.job(job.id).gate is GateStatus.CLOSED
    assert why(world, job.first + 2) == f"the gate is closed: {reason}"
    world.advance(1000)
    assert sent(world, job) == []


def test_to_resume_opens_a_closed_gate(world: World) -> None:
    job = world.create(body("post", *names(6), waves=[2, 4], concurrency=4))
    wave(world, job, 500)
    after = control(world, job, DISPATCHING)
    assert (after.status, after.reason, after.gate, after.wave) == (DISPATCHING, None, None, 2)
    assert wave(world, job) == [2, 3], "failures of the first wave are not those of the second"
    assert wave(world, job) == [4, 5]
    assert status(world, job) == ("resolved", None)


def test_each_gate_looks_at_its_own_wave(world: World) -> None:
    job = world.create(body("post", *names(30), waves=[10, 20], gate={"errors": "10%"}, concurrency=30))
    for index in range(10):
        answer(world, job.first + index, 500 if index == 0 else 200)
    for index in range(10, 20):
        answer(world, job.first + index, 500 if index < 12 else 200)
    reason = "wave 2 failed its gate: 2 of 10 requests failed, more than the 10% that its gate allows"
    assert status(world, job) == ("paused", reason)


@pytest.mark.parametrize(("failed", "then"), [(1, "dispatching"), (2, "paused")])
def test_a_late_success_of_an_earlier_wave_makes_neither_more_nor_less_room_in_the_next(
    world: World, failed: int, then: str
) -> None:
    """Of two, and one is borne."""
    job = world.create(
        body("post", *names(6), waves=[2, 4], gate={"errors": 1}, concurrency=4, requestTimeout=10)
    )
    answer(world, job.first)
    world.advance(10)
    assert world.statuses(job)[:4] == ["resolved", "timeout", "sent", "sent"]
    world.run(world.answered(job.first + 1))
    assert world.statuses(job)[1] == "resolved"
    for index, code in ((2, 500), (3, 500 if failed == 2 else 200)):
        answer(world, job.first + index, code)
    assert status(world, job)[0] == then


@pytest.mark.parametrize("soak", [0, 60])
def test_a_late_success_in_the_turn_that_opens_a_gate_makes_no_room_in_the_next_wave(
    world: World, soak: int
) -> None:
    gate = {"errors": 1 if soak else 0, "soak": soak}
    job = world.create(body("get", *names(6), waves=[2, 4], gate=gate, concurrency=6))
    answer(world, job.first, 200)
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job)[:2] == ["resolved", "timeout"]
    late = world.answered(world.last(job.first + 1).message)
    if soak:
        world.clock.monotonic_s += soak
        world.run(late)
    else:
        world.run(late, lambda engine: engine.control(job.id, DISPATCHING, force=False))
    assert sent(world, job) == [2, 3]
    answer(world, job.first + 2, 500)
    answer(world, job.first + 3, 500 if soak else 200)
    assert status(world, job)[0] == "paused"
    assert world.job(job.id).gate is GateStatus.CLOSED


def test_of_a_job_that_has_ended_no_gate_is_shown(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    wave(world, job, 500)
    control(world, job, CANCELED)
    assert world.job(job.id).view()["gateStatus"] is None


def test_a_gate_may_abort(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], gate={"onFail": "abort"}, concurrency=4))
    answer(world, job.first, 500)
    assert sent(world, job) == [1], "the wave itself goes on"
    answer(world, job.first + 1)
    assert status(world, job) == (
        "aborted",
        "wave 1 failed its gate: 1 of 2 requests failed, more than the 0 that its gate allows",
    )
    assert world.statuses(job) == ["error", "resolved", "skipped", "skipped"]


def test_there_is_no_gate_behind_the_last_wave(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2, "100%"], gate={"onFail": "abort"}))
    wave(world, job)
    wave(world, job, 500)
    assert status(world, job) == ("resolved", None)


def test_a_wave_rests_before_the_next(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], gate={"soak": 60}, concurrency=4))
    wave(world, job)
    assert status(world, job) == ("dispatching", None)
    assert why(world, job.first + 2) == "wave 1 is done and rests for another 60 s"
    world.advance(20)
    assert why(world, job.first + 3) == "wave 1 is done and rests for another 40 s"
    world.advance(39.9)
    assert sent(world, job) == []
    world.advance(0.1)
    assert sent(world, job) == [2, 3]


def test_a_wave_that_failed_does_not_rest_first(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], gate={"soak": 60}, concurrency=4))
    wave(world, job, 500)
    assert status(world, job)[0] == "paused"


def test_a_rest_begins_again_after_a_restart(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], gate={"soak": 60}, concurrency=4))
    wave(world, job)
    world.advance(50)
    world.restart()
    world.advance(59)
    assert sent(world, job) == []
    world.advance(1)
    assert sent(world, job) == [2, 3]


def test_a_closed_gate_stays_closed_over_a_restart_until_somebody_resumes(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    wave(world, job, 500)
    before = world.job(job.id)
    world.restart()
    world.advance(1000)
    assert world.job(job.id) == before
    assert sent(world, job) == []
    control(world, job, DISPATCHING)
    assert sent(world, job) == [2, 3]


def test_a_restart_in_the_middle_of_a_wave_does_not_open_the_next(world: World) -> None:
    job = world.create(body("get", *names(6), waves=[1, 4], concurrency=4))
    wave(world, job)
    answer(world, job.first + 1)
    world.restart()
    world.advance(SETTINGS.grace_s)
    assert sent(world, job) == [2, 3]
    wave(world, job)
    assert sent(world, job) == [4, 5]


def test_a_pause_holds_between_waves(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    control(world, job, PAUSED)
    wave(world, job)
    assert sent(world, job) == []
    assert why(world, job.first + 2) == "the job is paused"
    control(world, job, DISPATCHING)
    assert sent(world, job) == [2, 3]


def test_a_rest_that_is_over_while_the_job_is_paused_sends_nothing(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], gate={"soak": 10}, concurrency=4))
    wave(world, job)
    control(world, job, PAUSED)
    world.advance(20)
    assert sent(world, job) == []
    assert why(world, job.first + 2) == "the job is paused"
    control(world, job, DISPATCHING)
    assert sent(world, job) == [2, 3]


def test_a_gate_that_is_to_be_judged_after_a_pause_may_close(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    control(world, job, PAUSED)
    wave(world, job, 500)
    control(world, job, DISPATCHING)
    assert status(world, job)[0] == "paused"
    assert world.job(job.id).gate is GateStatus.CLOSED
    control(world, job, DISPATCHING)
    assert sent(world, job) == [2, 3]


def test_a_job_can_be_canceled_at_a_closed_gate_and_at_rest(world: World) -> None:
    closed = world.create(body("post", *names(4), waves=[2], concurrency=4))
    wave(world, closed, 500)
    assert control(world, closed, CANCELED).status is CANCELED
    resting = world.create(body("post", *names(4), waves=[2], gate={"soak": 10}, concurrency=4))
    wave(world, resting)
    assert control(world, resting, CANCELED).status is CANCELED
    assert world.statuses(resting) == ["resolved", "resolved", "canceled", "canceled"]
    world.advance(100)
    assert len(world.sent) == 4


def test_waves_with_a_percentage_of_few_are_not_empty(world: World) -> None:
    job = world.create(body("post", *names(3), waves=[1, "10%", "50%", "100%"]))
    assert [wave(world, job) for _ in range(3)] == [[0], [1], [2]]


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


def test_a_time_that_has_passed_is_now(world: World) -> None:
    job = world.create(body("post", "a", startAt=at(world, -100)))
    assert sent(world, job) == [0]


def test_a_time_to_start_is_kept_over_a_restart(world: World) -> None:
    job = world.create(body("post", "a", startAt=at(world, 100)))
    world.restart()
    world.advance(99)
    assert status(world, job) == ("pending", None)
    world.stop()
    world.clock.monotonic_s += 50
    world.start()
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
    world.stop()
    world.clock.reboot(off_s=30)
    world.start()
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
    if started == "by hand":
        control(world, job, DISPATCHING)
    else:
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
    "being aborted": (
        {"abort": {"errors": 0}},
        lambda world, job: answer(world, job.first, 500),
    ),
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


def test_a_cancel_while_one_waits_for_a_retry_does_not_say_that_it_never_ran(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1, retry={"attempts": 2, "delay": 20}))
    answer(world, job.first, 500)
    control(world, job, CANCELED, force=True)
    first, second = world.store.now.requests({"job": job.id})
    assert (first.status.value, second.status.value) == ("error", "unknown")


# -- events ----------------------------------------------------------------------------------------


def event(destination: str, **more: Any) -> dict[str, Any]:
    item = {
        "method": "put",
        "resource": "/system/state",
        "code": 200,
        "data": {"state": 1},
        "__request": {"destination": destination},
    }
    return {"batch": [item], **more}


def test_an_event_carries_its_code(world: World) -> None:
    world.create(event("a"))
    assert world.sent[0].body["data"] == {
        "code": 200,
        "method": "put",
        "resource": "/system/state",
        "data": {"state": 1},
    }


@pytest.mark.parametrize("inside", [200, 404, 500])
def test_an_event_is_delivered_whatever_is_inside(world: World, inside: int) -> None:
    job = world.create(event("a"))
    world.run(world.answered(job.first, inside))
    request = world.request(job.first)
    assert request.status is RequestStatus.RESOLVED
    assert request.result is not None
    assert (request.result["code"], request.result["source"]) == (200, "remote")


def test_an_event_that_its_gateway_does_not_pass_on_is_not_delivered(world: World) -> None:
    job = world.create(event("a"))
    world.run(world.gateway_said(job.first, 423, "resource is locked"))
    assert world.statuses(job) == ["pending"]
    world.advance(1)
    world.run(world.gateway_said(world.last(job.first).message, 404, ""))
    assert world.statuses(job) == ["error"]


def test_an_event_that_the_remote_bundle_refuses_has_failed(world: World) -> None:
    job = world.create(event("a"))
    world.run(world.said({"id": job.first, "code": 500, "data": {"message": "no"}, "sign": ["remote"]}))
    assert world.statuses(job) == ["error"]


@pytest.mark.parametrize("inside", [408, 500])
def test_a_late_event_is_delivered_too(world: World, inside: int) -> None:
    job = world.create(event("a"))
    world.advance(SETTINGS.request_timeout_s)
    world.run(world.answered(job.first, inside))
    assert world.statuses(job) == ["resolved"]


# -- why -------------------------------------------------------------------------------------------


def test_what_a_request_waits_for_is_true_at_that_moment(world: World) -> None:
    job = world.create(body("post", "a", "b", concurrency=1), begin=False)
    second = job.first + 1
    assert why(world, second) == "the job is about to begin"
    world.advance(BEGIN_S)
    assert why(world, second) == "no free slot: the job has 1 in flight, which is its concurrency"
    control(world, job, PAUSED)
    assert why(world, second) == "the job is paused"
    control(world, job, DISPATCHING)
    world.run(lambda engine: engine.controller(up=False))
    assert why(world, second) == "the controller does not answer"
    world.lose_link()
    assert why(world, second) == "the bus is down"
    world.regain_link()
    assert why(world, job.first) is None, "it is in flight"
    other = world.create(body("post", "a"))
    expected = f"request {job.first} of job {job.id} to the same destination is in flight"
    assert why(world, other.first) == expected
    answer(world, job.first)
    assert why(world, second) is None
    assert why(world, job.first) is None, "it is done"


def test_why_says_that_a_job_is_paused_while_it_rests(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], gate={"soak": 60}, concurrency=4))
    wave(world, job)
    control(world, job, PAUSED)
    assert why(world, job.first + 2) == "the job is paused"


def test_why_names_the_rate(world: World) -> None:
    job = world.create(body("post", "a", "b", rate=0.5))
    assert why(world, job.first + 1) == "the job's rate is 0.5 per second"
    world.advance(2)
    assert why(world, job.first + 1) is None


def test_why_names_the_window(world: World) -> None:
    job = world.create(body("post", *names(11)))
    expected = "no free slot: 10 requests are in flight, which is the window now"
    assert why(world, job.first + 10) == expected


def test_why_names_the_lock() -> None:
    world = World(SETTINGS, one_model)
    job = world.create(body("post", "a", "b"))
    assert why(world, job.first + 1) == f"request {job.first} holds the lock of /remote/+"
    world.run(world.refused(job.first))
    said = r"locked by somebody else; it is tried again in \d\.\d s"
    for id_ in job.request_ids:
        assert re.fullmatch(said, str(why(world, id_)))
    world.stop()


def test_why_names_the_question() -> None:
    world = World(SETTINGS, None)
    job = world.create(body("post", "a"))
    assert why(world, job.first) == "the controller is asked who owns its lock"
    world.stop()


def test_a_question_that_was_lost_with_the_link_is_asked_again_at_once(world: World) -> None:
    world.lose_link(told=False)
    job = world.create(body("post", "a"))
    world.lose_link()
    world.regain_link()
    assert sent(world, job) == [0]


# -- key -------------------------------------------------------------------------------------------


def test_a_key_stands_for_one_job_with_all_its_policies(world: World) -> None:
    given = body("post", "a", "b", key="k", concurrency=1, waves=[1], startAt=at(world, 100))
    job = world.create(given)
    world.restart()
    assert world.create(given).id == job.id
    with pytest.raises(Conflict):
        world.create({**given, "concurrency": 2})
    world.advance(100)
    assert sent(world, job) == [0]
    assert len(world.store.now.jobs({})) == 1
