"""Schedulers with few words: jobs and requests by letter, what may go, what the controller said."""

from collections.abc import Sequence

from puppetmaster.scheduling.locks import ALIKE
from puppetmaster.scheduling.scheduler import Scheduler
from puppetmaster.scheduling.window import Window

CACHE_S = 60.0


def lanes_of(
    *jobs: int, most: int = 100, limit: int | None = None, rate: float | None = None, known: bool = False
) -> Scheduler:
    """Scheduler with these jobs open, and an adaptive window that is in nobody's way.

    With ``known`` every gateway is known to have a lock of its own.
    """
    scheduler = Scheduler(most, CACHE_S)
    set_window(scheduler, most)
    if known:
        all_alike(scheduler)
    for job in jobs:
        scheduler.open_job(job, limit, rate)
    return scheduler


def all_alike(scheduler: Scheduler) -> None:
    """The controller says of some that each has a model of its own: that is believed of the others too."""
    for number in range(ALIKE):
        scheduler.learn(f"known-{number}", [f"/remote/known-{number}"], 0.0)


def set_window(scheduler: Scheduler, size: int) -> None:
    """Give the adaptive window this size."""
    scheduler._fair.window = Window(size)
    scheduler.window._size = size


def room_at_owner(scheduler: Scheduler, size: int = 100) -> None:
    """Let the owner of all gateways be known to work on this many at once."""
    scheduler.owners.of("/remote/+").size = size


def pause(scheduler: Scheduler, *ids: int) -> None:
    """A paused job takes its requests out; it adds them again when it goes on."""
    for id_ in ids:
        scheduler.remove(id_)


def reads(scheduler: Scheduler, job: int, destinations: Sequence[str], first: int) -> None:
    """Add one read per name, or letter, with ids from ``first``."""
    for id_, destination in enumerate(destinations, first):
        scheduler.add(id_, job, destination, write=False)


def writes(scheduler: Scheduler, job: int, destinations: str, first: int) -> None:
    for id_, destination in enumerate(destinations, first):
        scheduler.add(id_, job, destination, write=True)


def picks(scheduler: Scheduler, now_s: float = 0.0) -> list[int]:
    """All that may go now."""
    return list(iter(lambda: scheduler.pick(now_s) or 0, 0))


def teach(
    scheduler: Scheduler, destinations: str, resources: list[str] | None = None, now_s: float = 0.0
) -> None:
    """Answer for each letter: ``resources``, or a model of its own."""
    for one in destinations:
        scheduler.learn(one, resources or [f"/remote/{one}"], now_s)


def one_lock(*jobs: int) -> Scheduler:
    """Scheduler of job 1 with writes 1 and 2, to a and b; both are under one lock, and 1 is in flight."""
    scheduler = lanes_of(1, *jobs)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
    return scheduler


def drained(scheduler: Scheduler, now_s: float = 0.0) -> list[int]:
    """The order in which all go when each ends before the next is picked."""
    order = []
    while (id_ := scheduler.pick(now_s)) is not None:
        order.append(id_)
        scheduler.remove(id_)
    return order
