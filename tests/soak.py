# ruff: noqa: T201 - this is a program
"""A soak: jobs of all shapes at a steady rate, faults all the while, and what the bundle uses stays flat.

``python -m tests.soak --minutes 30`` ends with code 1 when memory, threads, file descriptors or disk grow, or
when a promise was broken. The bundle itself is not killed here, for a new process would hide what grows;
``python -m tests.torture`` does that.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture.verdict import Verdict
from tests.torture.workload import Workload
from tests.torture.world import UNTOLD, World

KEPT_JOBS = 60
FAULT_EVERY_S = 15.0
SAMPLE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the bundle's process uses at one moment."""

    memory_mib: float
    threads: int
    descriptors: int
    disk_mib: float

    @classmethod
    def of(cls, pid: int, data: Path) -> "Sample":
        """Look at the process and its data directory."""
        status = dict(
            line.partition(":")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        disk = sum(path.stat().st_size for path in data.iterdir())
        return cls(
            int(status["VmRSS"].split()[0]) / 1024,
            int(status["Threads"]),
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
            disk / 2**20,
        )


#: What may be more at the end than at the beginning, as a factor and as an addition.
ALLOWED = {"memory_mib": (1.1, 8.0), "threads": (1.0, 2.0), "descriptors": (1.0, 4.0), "disk_mib": (1.3, 4.0)}


class Steady(Workload):
    """A workload that removes its oldest jobs, so that what is stored stays the same."""

    def _control(self) -> None:
        kept = [one for one in self.orders.values() if one.job is not None and not one.removal_asked]
        for order in kept[:-KEPT_JOBS]:
            self.remove(order)
        super()._control()


def growth(samples: Sequence[Sample]) -> list[str]:
    """What grew: the last quarter beside the second, as the first one warms up."""
    quarter = len(samples) // 4
    faults = []
    for name, (factor, addition) in ALLOWED.items():
        before, after = (
            statistics.median(getattr(sample, name) for sample in part)
            for part in (samples[quarter : 2 * quarter], samples[-quarter:])
        )
        print(f"{name}: {before:.1f} in the second quarter, {after:.1f} in the last")
        if after > before * factor + addition:
            faults.append(f"{name} grew from {before:.1f} to {after:.1f}")
    return faults


def break_something(world: World, number: int) -> None:
    """One fault of those there are, in turn."""
    assert world.proxy is not None
    pause = threading.Event()
    match number % 5:
        case 0:
            with world.losing("network cut"):
                world.proxy.cut()
        case 1:
            with world.losing("controller killed"):
                world.gateway.controller.kill()
                world.gateway.controller.start()
        case 2:
            with world.losing("broker killed"):
                world.gateway.broker.kill()
                world.gateway.broker.start()
        case 3:
            with world.losing("controller paused"):
                world.gateway.controller.pause()
                pause.wait(1)
                world.gateway.controller.resume()
        case _:
            with world.losing("network held"):
                world.proxy.hold()
                pause.wait(3)
                world.proxy.release()


def run(world: World, minutes: float, seed: int) -> list[str]:
    """Soak for so long; what was wrong."""
    world.start()
    workload = Steady(world, seed)
    samples: list[Sample] = []
    pid, data = world.gateway.bundle.pid, world.gateway.directory / "data"
    begun_s = fault_s = time.monotonic()
    pause = threading.Event()
    workload.start()
    try:
        while time.monotonic() < begun_s + minutes * 60:
            pause.wait(SAMPLE_EVERY_S)
            samples.append(Sample.of(pid, data))
            if time.monotonic() > fault_s + FAULT_EVERY_S:
                break_something(world, world.kills)
                fault_s = time.monotonic()
                last = samples[-1]
                print(
                    f"{fault_s - begun_s:5.0f} s: {len(workload.orders)} jobs, {world.kills} faults, "
                    f"{last.memory_mib:.0f} MiB, {last.threads} threads, {last.descriptors} descriptors, "
                    f"{last.disk_mib:.1f} MiB on disk",
                    flush=True,
                )
        workload.stop()
        workload.finish(120)
    finally:
        workload.stop()
        workload.close()
    world.gateway.bundle.terminate()
    verdict = Verdict(world, workload.orders)
    print(f"{len(workload.orders)} jobs, {verdict.commands} commands at gateways, {world.kills} faults")
    return [*growth(samples), *workload.broken, *verdict.faults()]


def main() -> None:
    """Soak, and end with code 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        world = World(Path(directory), options.seed, proxied=True, conditions=UNTOLD)
        try:
            faults = run(world, options.minutes, options.seed)
        finally:
            world.stop()
    for fault in faults:
        print(f"  {fault}")
    print(f"{len(faults)} things were wrong")
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
