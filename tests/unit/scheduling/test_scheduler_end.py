"""Whatever happens to scheduler: picking comes to an end, and everybody goes in the end."""

import random
from collections.abc import Callable

import pytest

from puppetmaster.scheduling.scheduler import Scheduler
from tests.unit.scheduling.lanes import lanes_of

JOBS = range(1, 6)
#: Destinations that share a lock, and some with locks of their own.
GROUPS = ("abc", "def", "x", "y", "z")
STEPS = 300
#: More looks at locks than this in one pick, and it would never end.
LOOKS = 10_000


class Endless(Exception):
    """A pick that does not end."""


class Driver:
    """Does something at random, again and again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.scheduler = lanes_of(*JOBS, most=self.random.choice((1, 2, 3, 4)))
        self.direct: set[str] = set()
        self.scheduler._direct = self.direct.__contains__
        self.now_s = 0.0
        self.next_id = 1
        self.waiting: set[int] = set()
        self.flying: set[int] = set()
        self.delayed: dict[int, float] = {}
        self.looks = 0
        self.count_looks()

    def count_looks(self) -> None:
        offer = self.scheduler._offer

        def counted(domain: str) -> None:
            self.looks += 1
            if self.looks > LOOKS:
                raise Endless
            offer(domain)

        self.scheduler._offer = counted  # type: ignore[method-assign]

    def step(self) -> None:
        actions: dict[Callable[[], None], int] = {
            self.add: 30,
            self.teach: 20,
            self.pick: 30,
            self.end: 10,
            self.take_out: 2,
            self.put_back: 2,
            self.delay: 3,
            self.forget: 3,
            self.suspend: 2,
            self.reroute: 2,
            self.wait: 2,
        }
        (action,) = self.random.choices(list(actions), list(actions.values()))
        action()
        self.wake()

    def add(self) -> None:
        destination = self.random.choice("".join(GROUPS))
        job, write = self.random.choice(JOBS), self.random.random() < 0.7
        remote_only = self.random.random() < 0.1
        self.scheduler.add(self.next_id, job, destination, write=write, remote_only=remote_only)
        self.waiting.add(self.next_id)
        self.next_id += 1

    def teach(self) -> None:
        for destination in list(self.scheduler.questions(10)):
            group = next(group for group in GROUPS if destination in group)
            self.scheduler.learn(destination, [f"/remote/{name}" for name in group], self.now_s)

    def pick(self) -> None:
        self.looks = 0
        id_ = self.scheduler.pick(self.now_s)
        if id_ is not None:
            self.waiting.remove(id_)
            self.flying.add(id_)

    def end(self) -> None:
        if self.flying:
            self.scheduler.remove(self.one_of(self.flying))

    def take_out(self) -> None:
        if self.waiting:
            id_ = self.one_of(self.waiting)
            self.delayed.pop(id_, None)
            self.scheduler.remove(id_)

    def put_back(self) -> None:
        if self.flying:
            id_ = self.one_of(self.flying)
            self.scheduler.put_back(id_)
            self.waiting.add(id_)

    def delay(self) -> None:
        if self.flying:
            id_ = self.one_of(self.flying)
            self.delayed[id_] = self.now_s + 1
            self.scheduler.delay(id_, self.delayed[id_], "why", locked=self.random.random() < 0.6)
            self.waiting.add(id_)

    def forget(self) -> None:
        if self.random.random() < 0.5:
            self.scheduler.forget_all()
        else:
            self.scheduler.forget(self.random.choice("".join(GROUPS)))

    def suspend(self) -> None:
        change = self.random.choice((Scheduler.suspend_job, Scheduler.resume_job))
        change(self.scheduler, self.random.choice(JOBS))

    def reroute(self) -> None:
        destination = self.random.choice("".join(GROUPS))
        self.direct ^= {destination}
        self.scheduler.rerouted(destination)

    def wait(self) -> None:
        self.now_s += self.random.choice((0.1, 1.0, 3.0))

    def wake(self) -> None:
        for id_, until_s in list(self.delayed.items()):
            if until_s <= self.now_s:
                del self.delayed[id_]
                self.scheduler.wake(id_, self.now_s)

    def one_of(self, ids: set[int]) -> int:
        """Take one of them out."""
        id_ = self.random.choice(sorted(ids))
        ids.remove(id_)
        return id_

    def left(self) -> list[str]:
        """What the scheduler still keeps of somebody."""
        for job in JOBS:
            self.scheduler.close_job(job)
        kept = (
            "requests",
            "lanes",
            "stale",
            "leaders",
            "parked",
            "offered",
            "readers",
            "passes",
            "unknown",
        )
        return [name for name in kept if getattr(self.scheduler, f"_{name}")]

    def drain(self) -> None:
        """Let everybody go, one after the other."""
        for job in JOBS:
            self.scheduler.resume_job(job)
        for _ in range(10 * STEPS):
            self.teach()
            self.pick()
            self.end()
            if not self.flying:
                self.now_s += 0.5
            self.wake()


@pytest.mark.parametrize("first", range(0, 500, 50))
def test_picking_ends_and_everybody_goes(first: int) -> None:
    for seed in range(first, first + 50):
        driver = Driver(seed)
        for _ in range(STEPS):
            driver.step()
        driver.drain()
        assert not driver.waiting, (
            f"seed {seed}: {[driver.scheduler.why(id_, driver.now_s) for id_ in driver.waiting]}"
        )
        assert driver.left() == [], f"seed {seed}"
