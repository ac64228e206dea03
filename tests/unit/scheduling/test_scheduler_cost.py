"""What a step costs, and what is kept of requests that are gone, counted instead of timed."""

from collections.abc import Callable

import pytest

from puppetmaster.scheduling.fairness import FEW
from puppetmaster.scheduling.scheduler import LOCKED, Scheduler
from tests.costs import calls
from tests.unit.scheduling.lanes import drained, lanes_of, picks, reads, teach


def shuffled(many: int) -> list[int]:
    """Ids from 2, in no order."""
    return [2 + 37 * number % many for number in range(many)]


def lane_of_a_hundred() -> tuple[Scheduler, Callable[[], int]]:
    """Request 1 is in flight, ids from 2 wait behind it for the same gateway; how many are kept."""
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    for id_ in shuffled(100):
        scheduler.add(id_, 1, "a", write=False)
    return scheduler, lambda: len(scheduler._lanes["a"])


def queue_of_a_hundred() -> tuple[Scheduler, Callable[[], int]]:
    """The same with a gateway each, and a job that may have one in flight; all of one owner."""
    scheduler = lanes_of(1, limit=1)
    teach(scheduler, "a", ["/remote/+"])
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    for id_ in range(2, 102):
        scheduler.add(id_, 1, f"g{id_}", write=False)
    (queue,) = scheduler._fair.share(1).queues.values()
    return scheduler, lambda: len(queue.waiting)


@pytest.mark.parametrize("backlog", [lane_of_a_hundred, queue_of_a_hundred])
def test_who_is_gone_is_kept_while_they_are_few_or_less_than_half(
    backlog: Callable[[], tuple[Scheduler, Callable[[], int]]],
) -> None:
    """To take each out at once would cost too much; the order of the others stays."""
    scheduler, kept = backlog()
    waiting = set(range(2, 102))
    for gone, left in ((50, 100), (1, 49), (FEW, 49), (1, 16)):
        for id_ in sorted(waiting, key=lambda id_: id_ * 31 % 101)[:gone]:
            waiting.remove(id_)
            scheduler.remove(id_)
        assert kept() == left
    scheduler.remove(1)
    assert drained(scheduler) == sorted(waiting)


def backlog(
    many: int,
    most: int = 10,
    *,
    own: bool = False,
    one: bool = False,
    reads: bool = False,
    jobs: bool = False,
) -> Scheduler:
    """Writes of one job to a gateway each, under one lock for all, or locks of their own.

    Or all to one gateway, every other one a read, or a job for each.
    """
    scheduler = lanes_of(*range(1, many + 1 if jobs else 2), most=most)
    if one:
        scheduler.learn("a", None, 0.0)
    elif not own:
        scheduler.learn("0", ["/remote/+"], 0.0)
    for id_ in range(1, many + 1):
        gateway = "a" if one else f"g{id_}"
        if own:
            scheduler.learn(gateway, [f"/remote/{gateway}"], 0.0)
        scheduler.add(id_, id_ if jobs else 1, gateway, write=not reads or bool(id_ % 2))
    return scheduler


def steps_of_fifty(scheduler: Scheduler) -> int:
    """The calls for fifty requests picked and ended."""
    picks(scheduler)
    flying = [id_ for id_ in scheduler._requests if scheduler._requests[id_].in_flight]

    def fifty() -> None:
        for _ in range(50):
            scheduler.remove(flying.pop(0))
            flying.extend(picks(scheduler))

    return calls(fifty)


@pytest.mark.parametrize(
    "shape",
    [{}, {"own": True}, {"one": True}, {"reads": True}, {"jobs": True}],
    ids=["one lock", "own locks", "one gateway", "reads and writes", "many jobs"],
)
def test_a_step_costs_the_same_however_many_wait(shape: dict[str, bool]) -> None:
    few, many = steps_of_fifty(backlog(200, **shape)), steps_of_fifty(backlog(4000, **shape))
    assert many < 1.5 * few + 100, f"{few} calls with 200 waiting, {many} with 4000"


def steps_of_waking(many: int) -> int:
    """The calls for fifty that wake while ``many`` are delayed, each under a lock of its own."""
    scheduler = backlog(many, many, own=True)
    for id_ in picks(scheduler):
        scheduler.delay(id_, float(id_), LOCKED, locked=True)

    def fifty() -> None:
        for id_ in range(1, 51):
            scheduler.wake(id_, float(id_))

    return calls(fifty)


def test_waking_one_costs_the_same_however_many_are_delayed() -> None:
    few, many = steps_of_waking(200), steps_of_waking(4000)
    assert many < 1.5 * few + 100, f"{few} calls with 200 delayed, {many} with 4000"
