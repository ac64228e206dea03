"""Failures that stop a job, waves and the gates between them, in virtual time."""

import pytest

from puppetmaster.clock import iso
from puppetmaster.model.job import GateStatus, JobStatus
from tests.unit.engine.verbs import (
    CANCELED,
    DISPATCHING,
    PAUSED,
    SETTINGS,
    answer,
    control,
    names,
    sent,
    status,
    wave,
    why,
)
from tests.virtual import World, body

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
    reason = "2 of 2 requests failed, and at most 1 may"
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
    assert world.job(job.id).reason == "3 of 5 requests failed, and at most 50% may"


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


def test_one_failure_of_a_hundred_does_not_abort(world: World) -> None:
    """The job does not say after how many a percentage counts."""
    job = world.create(body("post", *names(100), concurrency=1, abort={"errors": "5%"}))
    answer(world, job.first, 500)
    for index in range(1, 20):
        answer(world, job.first + index)
    assert world.job(job.id).ending is None, "one of twenty is within the percentage"
    answer(world, job.first + 20, 500)
    assert status(world, job) == ("aborted", "2 of 21 requests failed, and at most 5% may")


# -- waves and gates -------------------------------------------------------------------------------


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


def test_the_gate_closes_on_the_first_failure_by_default(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    answer(world, job.first)
    answer(world, job.first + 1, 500)
    reason = "wave 1 failed its gate: 1 of 2 requests failed, and at most 0 may"
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


def test_a_gate_that_was_opened_by_hand_is_kept_with_its_failures(world: World) -> None:
    job = world.create(body("post", *names(8), waves=[2, 4, 6], concurrency=4))
    wave(world, job, 500)
    opened_at = iso(world.clock.wall_s())
    control(world, job, DISPATCHING)
    wave(world, job)
    wave(world, job, 500)
    world.restart()
    control(world, job, DISPATCHING)
    wave(world, job)
    ended = world.job(job.id)
    assert ended.status is JobStatus.RESOLVED
    assert [(gate.wave, gate.failed) for gate in ended.opened_gates] == [(1, 2), (3, 2)]
    assert ended.opened_gates[0].at == opened_at
    assert ended.view()["openedGates"][0] == {"wave": 1, "failed": 2, "at": opened_at}


def test_to_resume_a_paused_job_opens_no_gate_by_hand(world: World) -> None:
    job = world.create(body("post", *names(4), waves=[2], concurrency=4))
    control(world, job, PAUSED)
    control(world, job, DISPATCHING)
    wave(world, job)
    wave(world, job)
    assert world.job(job.id).opened_gates == ()


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
        "wave 1 failed its gate: 1 of 2 requests failed, and at most 0 may",
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
    assert why(world, job.first + 2) == "the job is paused", "though it rests, too"
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
