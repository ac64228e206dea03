"""docs/verdict.md is tried: every combination of what it names ends as its first row that fits says."""

from collections import Counter
from collections.abc import Iterator

import pytest

from puppetmaster.cli import follow
from puppetmaster.model.job import Job
from puppetmaster.model.request import Request
from puppetmaster.settings import Settings
from tests.play import GRACE_S, SHORT_S, TIMEOUT_S, Play
from tests.verdict_page import (
    ANSWERED,
    BADLY,
    CONTROL,
    LAST,
    POLICIES,
    THEN,
    Combination,
    Rule,
    beginnings,
    combinations,
    rules,
)
from tests.virtual import World, body

RULES = rules()
STOPPED = ("aborted", "canceled", "timeout")


@pytest.fixture
def world() -> Iterator[World]:
    made = World(Settings(grace_s=GRACE_S))
    yield made
    made.stop()


def rule_of(one: Combination) -> Rule:
    return next(rule for rule in RULES if rule.fits(one))


def reason(rule: Rule, play: Play) -> str | None:
    if rule.reason == "failed":
        failed, done = play.first_failures()
        return f"{failed} of {done} requests failed, and at most 0 may"
    if rule.reason == "gate":
        failed = sum(one.status != "resolved" for one in play.requests()[:2])
        return f"wave 1 failed its gate: {failed} of 2 requests failed, and at most 0 may"
    return {
        "canceled": "canceled by a request",
        "timeout": f"its timeout of {TIMEOUT_S:g} s is over",
        "paused": "paused by a request",
        "none": None,
    }[rule.reason]


def answered_last(rule: Rule, one: Combination, attempts: int) -> str:
    """How a request ends that is answered in the end, this attempt being its first or second."""
    if one.last == "well":
        return "resolved"
    again = one.policy == "retry" and attempts < 2 and rule.job not in STOPPED
    return "pending" if again and rule.job == "paused" else "error"


def ends(rule: Rule, one: Combination, index: int, before: Request) -> str:
    """How a request ends that was like this before."""
    waits_again = before.status == "pending" and before.history
    if waits_again and rule.job in STOPPED:
        return str(before.history[-1]["status"])
    if waits_again:
        return "pending" if rule.job == "paused" else answered_last(rule, one, 2)
    if before.status == "sent" or (one.answered == "not started" and index < 2):
        said, attempts = rule.in_flight, max(before.attempts, 1)
    elif before.attempts == 0:
        said, attempts = rule.waiting, 1
    else:
        return before.status.value
    return answered_last(rule, one, attempts) if said == "as answered" else said


def check_before(one: Combination, before: list[Request]) -> None:
    """Two in flight, unless something keeps the others back; what was answered badly has failed."""
    done = {"not started": 2, "neither": 0, "one well": 1, "one badly": 1}.get(one.answered, 2)
    passed = one.answered == "both well" and one.policy != "gate pauses"
    keeps_back = "waves" in POLICIES[one.policy] and not passed
    stopped = "abort" in POLICIES[one.policy] and one.badly
    flying = 2 - done if keeps_back or stopped or one.answered == "not started" else 2
    assert sum(request.status == "sent" for request in before) == flying
    if one.badly:
        first = before[0]
        outcome = str(first.history[-1]["status"]) if first.history else first.status.value
        assert outcome == BADLY[one.badly]
        assert bool(first.history) == (one.policy == "retry")


def check_promises(job: Job, requests: list[Request]) -> None:
    """What the API says of every job."""
    counts = Counter(one.status for one in requests)
    assert {status: count for status, count in job.counts.items() if count} == counts
    assert job.final == (job.finished_at is not None) == (not any(one.open for one in requests))
    assert all((one.finished_at is None) == one.open for one in requests)


def check_exit(rule: Rule, job: Job, statuses: list[str]) -> None:
    if rule.exit == "waits":
        assert not job.final
        return
    wanted = rule.exit
    if wanted == "counts":
        wanted = "0" if set(statuses) == {"resolved"} else "6" if "unknown" in statuses else "1"
    assert follow.verdict(job.view()) == int(wanted)


def check(world: World, one: Combination) -> None:
    rule, play = rule_of(one), Play(world, one)
    check_before(one, play.before)
    play.finish()
    job, requests = play.job(), play.requests()
    if rule.job == "removed":
        assert job is None
        assert requests == []
        play.answer_again()
        assert play.job() is None
        return
    assert job is not None
    statuses = [request.status.value for request in requests]
    assert (job.status.value, job.reason) == (rule.job, reason(rule, play))
    assert statuses == [ends(rule, one, index, before) for index, before in enumerate(play.before)]
    check_promises(job, requests)
    check_exit(rule, job, statuses)
    if not job.final:
        play.push()
        return
    play.answer_again()
    late = play.job()
    assert late is not None
    assert (late.status, late.reason, late.finished_at) == (job.status, job.reason, job.finished_at)
    check_promises(late, play.requests())
    for status, request in zip(statuses, play.requests(), strict=True):
        assert request.status == ("resolved" if status in ("timeout", "unknown") else status)


@pytest.mark.parametrize("beginning", beginnings(), ids=", ".join)
def test_each_combination_ends_as_the_page_says(world: World, beginning: tuple[str, str, str]) -> None:
    for one in combinations(*beginning):
        try:
            check(world, one)
        except AssertionError as error:
            error.add_note(f"{one}\n{rule_of(one)}")
            raise
    state = world.engine.state
    assert (state.open_jobs, state.open_requests, world.engine.scheduler.in_flight) == (0, 0, 0)
    assert len(world.engine.timers) == 0


def test_each_row_holds_for_something() -> None:
    first = {rule_of(one) for beginning in beginnings() for one in combinations(*beginning)}
    assert first == set(RULES)


def test_the_page_names_what_is_tried() -> None:
    known = [set(POLICIES), set(ANSWERED), set(CONTROL), set(THEN), set(LAST)]
    for rule in RULES:
        for named, names in zip(rule[:5], known, strict=True):
            assert named == "any" or set(named.split(", ")) <= names


def test_a_retry_that_waits_when_its_job_is_aborted_is_not_made(world: World) -> None:
    retry, abort = {"attempts": 2, "on": ["error"]}, {"errors": 0}
    job = world.create(body("post", "a", "b", "c", "d", concurrency=2, retry=retry, abort=abort))
    world.run(world.answered(job.first, 500))
    assert world.statuses(job) == ["pending", "sent", "sent", "pending"]
    world.run(world.refused(job.first + 1, 408, "session failed due to ttl expired ."))
    assert world.statuses(job) == ["error", "timeout", "sent", "skipped"]
    assert world.job(job.id).status == "dispatching"
    world.run(world.answered(job.first + 2))
    ended = world.job(job.id)
    assert (ended.status, ended.reason) == ("aborted", "1 of 1 requests failed, and at most 0 may")
    result = world.result(job.first)
    assert result["code"] == 500
    assert result["message"].endswith(f"not sent again: {ended.reason}")


def test_an_attempt_that_may_have_run_is_the_last_of_what_may_not_run_twice(world: World) -> None:
    retry = {"attempts": 3, "on": ["timeout", "error"]}
    job = world.create(body("post", "a", "b", "c", requestTimeout=SHORT_S, retry=retry))
    world.run(world.refused(job.first, 408, "session failed due to ttl expired ."))
    world.run(world.answered(job.first + 1, 500))
    world.advance(SHORT_S)
    assert world.statuses(job) == ["timeout", "sent", "timeout"]
    world.restart()
    world.advance(GRACE_S)
    assert world.statuses(job) == ["timeout", "unknown", "timeout"]
    assert world.job(job.id).status == "resolved"
