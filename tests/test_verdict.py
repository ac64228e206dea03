"""docs/verdict.md is tried: every combination of what it names ends as its first row that fits says."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from puppetmaster.errors import Conflict
from puppetmaster.job import Job, JobStatus
from puppetmaster.settings import Settings
from tests.virtual import World, body

PAGE = Path(__file__).resolve().parent.parent / "docs" / "verdict.md"
TIMEOUT_S = 50
POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "abort": {"abort": {"errors": 0}},
    "gate aborts": {"waves": [2], "gate": {"onFail": "abort"}},
    "gate pauses": {"waves": [2]},
}
#: The codes with which the first and the second request are answered.
ANSWERS: dict[str, tuple[int, ...]] = {
    "neither": (),
    "one well": (200,),
    "one badly": (500,),
    "both well": (200, 200),
    "both badly": (500, 200),
}
THEN = ("nothing", "cancel", "forced cancel", "timeout", "pause", "resume", "removal")
REASONS = {
    "failed": "1 of 1 requests failed, more than the 0 that it bears",
    "gate": "wave 1 failed its gate: 1 of 2 requests failed, more than the 0 that its gate allows",
    "canceled": "canceled by a request",
    "timeout": f"its timeout of {TIMEOUT_S} s is over",
    "paused": "paused by a request",
    "none": None,
}


class Rule(NamedTuple):
    policy: str
    answered: str
    then: str
    job: str
    reason: str
    in_flight: str
    waiting: str

    def fits(self, combination: tuple[str, str, str]) -> bool:
        return all(
            wanted == "any" or one in wanted.split(", ")
            for wanted, one in zip(self[:3], combination, strict=True)
        )


def rules() -> list[Rule]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [Rule(*row) for row in rows[1:]]


COMBINATIONS = list(itertools.product(POLICIES, ANSWERS, THEN))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, Settings(request_timeout_s=1000, grace_s=5))
    yield made
    made.stop()


def happens(world: World, job: Job, then: str) -> None:
    wanted = {
        "cancel": JobStatus.CANCELED,
        "forced cancel": JobStatus.CANCELED,
        "pause": JobStatus.PAUSED,
        "resume": JobStatus.DISPATCHING,
    }.get(then)
    if wanted is not None:
        try:
            world.do(lambda engine: engine.control(job.id, wanted, force=then == "forced cancel"))
        except Conflict:
            assert world.engine.ledger.find_job(job.id).ending or world.job(job.id).final
    elif then == "removal":
        world.do(lambda engine: engine.delete(job.id))
    elif then == "timeout":
        world.advance(TIMEOUT_S)


def answer_all(world: World, job: Job) -> None:
    while going := [one.id for one in world.store.now.requests({"job": job.id}) if one.status == "sent"]:
        world.run(*(world.answered(world.last(id_).message) for id_ in going))


def in_flight_ends(rule: Rule, then: str, code: int | None) -> str:
    """How a request ends that was in flight, and was answered with this code, if it was."""
    if code is not None:
        return "resolved" if code == 200 else "error"
    if rule.in_flight == "first verdict":
        return {"cancel": "resolved", "forced cancel": "unknown", "timeout": "timeout"}[then]
    return "resolved" if rule.in_flight == "as answered" else rule.in_flight


@pytest.mark.parametrize("combination", COMBINATIONS, ids=", ".join)
def test_each_combination_ends_as_the_page_says(world: World, combination: tuple[str, str, str]) -> None:
    policy, answered, then = combination
    rule = next(rule for rule in rules() if rule.fits(combination))
    given = body("post", "a", "b", "c", "d", concurrency=2, timeout=TIMEOUT_S, **POLICIES[policy])
    job = world.create(given)
    codes = ANSWERS[answered]
    # In one turn: otherwise what waits would be sent between the two.
    world.run(*(world.answered(job.first + index, code) for index, code in enumerate(codes)))
    before = world.statuses(job)
    happens(world, job, then)
    answer_all(world, job)
    if rule.job == "removed":
        assert world.store.now.job(job.id) is None
        return
    now, after = world.job(job.id), world.statuses(job)
    assert now.status.value == rule.job
    if rule.reason == "failed" and answered == "both badly":
        assert now.reason == "1 of 2 requests failed, more than the 0 that it bears"
    else:
        assert now.reason == REASONS[rule.reason]
    for index, was in enumerate(before):
        code = codes[index] if index < len(codes) else None
        if was == "pending" or (was == "skipped" and index >= 2):
            assert after[index] == rule.waiting, f"request {index}"
        else:
            assert after[index] == in_flight_ends(rule, then, code), f"request {index}"


def test_each_row_holds_for_something() -> None:
    first = [next(rule for rule in rules() if rule.fits(one)) for one in COMBINATIONS]
    assert set(first) == set(rules())


def test_the_page_names_what_is_tried() -> None:
    known = [set(POLICIES), set(ANSWERS), set(THEN)]
    for rule in rules():
        for named, names in zip(rule[:3], known, strict=True):
            assert named == "any" or set(named.split(", ")) <= names


def test_a_late_answer_does_not_change_a_verdict(world: World) -> None:
    job = world.create(body("post", "a", timeout=10))
    world.advance(10)
    before = world.job(job.id)
    world.run(world.answered(job.first))
    after = world.job(job.id)
    assert (before.status, before.reason) == (after.status, after.reason)
    assert world.statuses(job) == ["resolved"]
