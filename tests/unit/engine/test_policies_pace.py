"""How fast a job goes, in virtual time: concurrency and rate."""

import pytest

from tests.unit.engine.verbs import answer, names, sent, status
from tests.virtual import World, body

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


def test_without_a_number_the_window_grows_with_the_answers(world: World) -> None:
    job = world.create(body("post", *names(200)))
    first = sent(world, job)
    assert len(first) == world.engine.scheduler.window.size == 10
    for id_ in first:
        answer(world, job.first + id_)
    assert len(sent(world, job)) == world.engine.scheduler.window.size == 20


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


def test_a_rate_holds_over_a_restart(world: World) -> None:
    job = world.create(body("get", *names(3), rate=0.1))
    assert sent(world, job) == [0]
    world.restart()
    world.advance(9.9)
    assert len(world.sent) == 1
    world.advance(0.1)
    assert len(world.sent) == 2
