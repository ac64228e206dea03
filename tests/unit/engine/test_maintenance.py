"""Maintenance windows in virtual time: nothing is sent outside of them, and what is in flight goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.clock import iso, seconds
from puppetmaster.engine.lifecycle import START_CHECK_S
from puppetmaster.model.job import Job
from puppetmaster.model.maintenance import Edge, Maintenance
from tests.unit.engine.verbs import CANCELED, DISPATCHING, PAUSED, SETTINGS, control, status, why
from tests.virtual import World, body

#: From one to two every night.
NIGHTLY = {"cron": "0 1 * * *", "duration": 3600}
ONE = seconds("2026-03-02T01:00:00Z")
DAY_S = 86_400.0


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS)
    made.clock.wall_ahead_s = ONE - 1000 - made.clock.monotonic_s
    yield made
    made.stop()


def at(world: World, wall_s: float) -> None:
    world.advance(wall_s - world.clock.wall_s())


def created(world: World, *names: str, **more: Any) -> Job:
    return world.create(body("post", *names, **{"maintenance": NIGHTLY, **more}))


def sent(world: World) -> list[str]:
    return [one.destination for one in world.sent]


def answer(world: World) -> None:
    """Answer what was sent last."""
    world.run(world.answered(world.sent[-1].message))


def test_nothing_is_sent_before_the_window(world: World) -> None:
    job = created(world, "a")
    other = world.create(body("post", "a"))
    assert status(world, job)[0] == "dispatching"
    assert why(world, job.first) == "it waits for the maintenance window at 2026-03-02T01:00:00.000Z"
    assert sent(world) == ["a"]
    assert world.sent[0].request == other.first
    answer(world)
    at(world, ONE - 0.5)
    assert len(world.sent) == 1
    at(world, ONE + 0.5)
    assert [one.request for one in world.sent] == [other.first, job.first]
    answer(world)
    assert status(world, job)[0] == "resolved"


def test_what_is_in_flight_when_it_closes_goes_on_and_the_rest_waits(world: World) -> None:
    job = created(world, "a", "b", concurrency=1, requestTimeout=10_000)
    at(world, ONE + 3599)
    assert sent(world) == ["a"]
    at(world, ONE + 3601)
    answer(world)
    assert sent(world) == ["a"]
    assert world.statuses(job) == ["resolved", "pending"]
    assert why(world, job.first + 1) == "it waits for the maintenance window at 2026-03-03T01:00:00.000Z"
    at(world, ONE + DAY_S)
    assert sent(world) == ["a", "b"]


def test_another_attempt_waits_for_the_next_window(world: World) -> None:
    job = created(world, "a", retry={"attempts": 2, "delay": 1}, requestTimeout=10_000)
    at(world, ONE + 3700)
    world.run(world.answered(world.sent[-1].message, code=500))
    world.advance(2000)
    assert world.statuses(job) == ["pending"]
    assert sent(world) == ["a"]
    at(world, ONE + DAY_S + 1)
    assert sent(world) == ["a", "a"]


def test_within_a_window_it_is_sent_at_once(world: World) -> None:
    at(world, ONE + 1800)
    job = created(world, "a")
    assert sent(world) == ["a"]
    assert job.policy.maintenance == Maintenance("0 1 * * *", 3600)


def test_the_time_of_a_job_goes_on_outside_of_windows(world: World) -> None:
    job = created(world, "a", timeout=100)
    world.advance(101)
    assert status(world, job) == ("timeout", "its timeout of 100 s is over")
    assert world.statuses(job) == ["skipped"]
    assert world.sent == []


def test_a_job_is_paused_resumed_and_canceled_outside_of_windows(world: World) -> None:
    job = created(world, "a")
    control(world, job, PAUSED)
    assert why(world, job.first) == "the job is paused"
    at(world, ONE + 100)
    assert world.sent == []
    control(world, job, DISPATCHING)
    assert sent(world) == ["a"]
    at(world, ONE + 3700)
    other = created(world, "b")
    control(world, other, PAUSED)
    control(world, other, DISPATCHING)
    assert "maintenance window" in str(why(world, other.first))
    third = created(world, "c")
    control(world, third, CANCELED)
    assert status(world, third)[0] == "canceled"


def test_waves_and_steps_go_on_in_the_next_window(world: World) -> None:
    job = created(world, "a", "b", waves=[1, 2], gate={"soak": 10_000}, requestTimeout=10)
    at(world, ONE + 1)
    answer(world)
    at(world, ONE + DAY_S - 1)
    assert sent(world) == ["a"]
    assert world.job(job.id).wave == 2
    at(world, ONE + DAY_S + 1)
    assert sent(world) == ["a", "b"]


def test_a_window_is_kept_over_a_restart(world: World) -> None:
    job = created(world, "a")
    world.restart()
    assert world.sent == []
    world.clock.monotonic_s += 1500
    world.restart()
    assert sent(world) == ["a"]
    assert world.job(job.id).given["maintenance"] == NIGHTLY


@pytest.mark.parametrize("step_s", [1000.0, -DAY_S])
def test_a_clock_that_is_set_is_noticed_soon(world: World, step_s: float) -> None:
    at(world, ONE - 1000 if step_s > 0 else ONE + DAY_S - 500)
    created(world, "a")
    world.clock.wall_ahead_s += step_s + (500 if step_s < 0 else 0)
    world.advance(START_CHECK_S)
    assert sent(world) == ["a"]


def test_while_the_clock_is_not_set_no_window_is_open(world: World) -> None:
    world.clock.wall_ahead_s = 0.0
    job = created(world, "a", maintenance={"cron": "* * * * *", "duration": 120})
    world.advance(4000)
    assert world.sent == []
    assert "a time that is known when the clock is set" in str(why(world, job.first))
    world.clock.wall_ahead_s = ONE
    world.advance(START_CHECK_S)
    assert sent(world) == ["a"]


def test_a_job_that_waits_for_a_window_is_not_the_oldest_that_waits(world: World) -> None:
    created(world, "a")
    world.advance(500)
    assert world.engine.snapshot().oldest_waiting_s == 0.0


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [
        (-1.0, Edge(False, ONE)),
        (0.0, Edge(True, ONE + 3600)),
        (3599.0, Edge(True, ONE + 3600)),
        (3600.0, Edge(False, ONE + DAY_S)),
    ],
)
def test_the_edges_of_a_window(after_s: float, expected: Edge) -> None:
    assert Maintenance.of(NIGHTLY) == Maintenance("0 1 * * *", 3600)
    assert Maintenance("0 1 * * *", 3600).at(ONE + after_s) == expected


def test_windows_that_overlap_are_one_window() -> None:
    always = Maintenance("0 * * * *", 7200)
    assert all(always.at(ONE + part * 600).is_open for part in range(30))
    assert Maintenance("* * * * *", 366 * DAY_S).at(ONE + 1) == Edge(True, ONE + 366 * DAY_S)
    assert always.at(1000.0) == Edge(False, None)


def test_a_night_of_summer_time_has_a_window_of_its_length() -> None:
    berlin = Maintenance("30 2 * * *", 3600, "Europe/Berlin")
    opens = seconds("2026-03-29T01:00:00Z")
    assert berlin.at(opens - 1) == Edge(False, opens)
    assert berlin.at(opens + 3599) == Edge(True, opens + 3600)
    assert iso(opens) == "2026-03-29T01:00:00.000Z"
