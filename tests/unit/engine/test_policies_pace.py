"""How fast a job goes, in virtual time: concurrency and rate."""

import pytest

from puppetmaster.scheduling.fairness import RESERVED
from puppetmaster.settings import Settings
from tests.unit.engine.verbs import DISPATCHING, PAUSED, SETTINGS, answer, control, names, sent, status, why
from tests.virtual import World, body, one_model

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
    world = World(Settings(max_in_flight=7))
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
    assert len(sent(world, large)) == SETTINGS.max_in_flight - RESERVED
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


def test_a_retry_counts_for_the_rate(world: World) -> None:
    job = world.create(body("post", "a", "b", rate=1, retry={"attempts": 2, "delay": 0}))
    answer(world, job.first, 500)
    assert len(world.sent) == 1
    world.advance(2)
    assert len(world.sent) == 3
