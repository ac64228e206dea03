"""One seeded run: a world, a workload, kills, and the verdict."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from sandbox.process import ProcessError
from tests.torture import starts
from tests.torture.bridged import BridgedWorld
from tests.torture.verdict import BridgedVerdict, Verdict
from tests.torture.workload import Workload
from tests.torture.world import USUAL, Conditions, World

#: So long everything may take to come to its end once nothing breaks any more.
FINISH_S = 240


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    kills: int = 0
    jobs: int = 0
    commands: int = 0
    seconds: float = 0
    #: Why requests were rightly told that there is no such gateway, and it came back later.
    absences: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    told: int = 0
    faults: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Outcome") -> Self:
        """Add what another run came to."""
        self.kills += other.kills
        self.jobs += other.jobs
        self.commands += other.commands
        self.absences += other.absences
        self.points += other.points
        self.statuses += other.statuses
        self.starts += other.starts
        self.told += other.told
        self.faults += other.faults
        return self


#: Breaks the world so often as it wants to; what it does decides what kind of run it is.
Breakage = Callable[[World], None]


def killing(count: int, wait_s: float = 1.2, limit_s: float = 240) -> Breakage:
    """Break something so often, mostly the bundle, and each time after up to ``wait_s`` of work.

    Where a time of the schedules comes within that, it is broken around it. After ``limit_s`` it is enough.
    """

    def breakage(world: World) -> None:
        deadline_s = time.monotonic() + limit_s
        while world.kills < count - 1 and time.monotonic() < deadline_s:
            left_s = starts.next_s()
            around = world.conditions.scheduled and left_s < wait_s
            world.wreck(left_s + world.rng.uniform(-0.02, 0.12) if around else world.rng.uniform(0.1, wait_s))
        world.settle()

    return breakage


def at_every_point(faults: Sequence[str], most: int, wait_s: float = 3.0) -> Breakage:
    """Kill the bundle by each of these, again when it was not passed in ``wait_s``, ``most`` times in all."""

    def breakage(world: World) -> None:
        while world.kills < most:
            now = world.gateway.bundle.env["FAULT"]
            missing = [fault for fault in faults if fault.partition(":")[0] not in world.points]
            if not missing:
                break
            world.planned = [fault for fault in missing if fault != now][:1] or missing
            world.kill_bundle(wait_s)
        world.settle()

    return breakage


def run(
    seed: int,
    breakage: Breakage,
    directory: Path | None = None,
    *,
    faults: Sequence[str] = (),
    proxied: bool = False,
    conditions: Conditions = USUAL,
    bridged: bool = False,
) -> Outcome:
    """Break the world while it is used, then let everything come to its end, and judge.

    ``bridged``: its gateways have brokers of their own, behind the published remote bundle.
    """
    kind = BridgedWorld if bridged else World
    with tempfile.TemporaryDirectory(prefix=f"torture-{seed}-") as folder:
        world = kind(directory or Path(folder), seed, faults=faults, proxied=proxied, conditions=conditions)
        begun_s = time.monotonic()
        try:
            return _run(world, seed, breakage)
        except ProcessError as error:  # what broke stays broken: the other seeds go on
            world.keep_log()
            seconds = time.monotonic() - begun_s
            return Outcome(
                seed, world.kills, seconds=seconds, points=Counter(world.points), faults=[str(error)]
            )
        finally:
            world.stop()


def _run(world: World, seed: int, breakage: Breakage) -> Outcome:
    begun_s = time.monotonic()
    world.start()
    workload = Workload(world, seed)
    try:
        workload.start()
        breakage(world)
        workload.stop()
        workload.finish(FINISH_S)
        workload.settle(FINISH_S)
    finally:
        workload.stop()
        workload.close()
    noise = [line for line in world.gateway.bundle.output() if "Traceback" in line]
    world.gateway.bundle.terminate()
    world.keep_log()
    judge = BridgedVerdict if isinstance(world, BridgedWorld) else Verdict
    verdict = judge(world, workload.orders)
    return Outcome(
        seed,
        world.kills,
        len(workload.orders),
        verdict.commands,
        time.monotonic() - begun_s,
        verdict.absences,
        Counter(world.points),
        verdict.counts,
        +workload.starts,
        workload.told,
        [
            *workload.broken,
            *(world.listener.broken if world.listener is not None else []),
            *verdict.faults(),
            *workload.keeper.faults(verdict.labels),
            *(f"the log has a {line}" for line in noise),
        ],
    )
