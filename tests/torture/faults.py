# ruff: noqa: T201 - this is a program
"""Disks that fail, clocks that are set, few files: ``python -m tests.torture.faults --seeds 4 --seed 1``.

A library of a few lines of C is preloaded into the bundle. What it does is in a file that both sides map, so
that faults come and go while the bundle runs. Built by gcc; without one there is no such torture.
"""

import argparse
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests.torture import kills
from tests.torture.world import UNTOLD, Loss, World

SOURCE = Path(__file__).with_name("shim.c")
#: Of reads, and of waits for the disk, so many fail while a disk does: none ever works, or some do.
LIKELY = (1.0, 0.3, 0.05)
#: By how many seconds the clock is behind for a while. It is never ahead: what begins at a time would begin
#: too early for whoever counts by the right one.
BEHIND_S = (90.0, 3600.0, 60 * 86400.0, 36 * 365 * 86400.0)
#: The bundle may open so many files; its HTTP is off here.
FILES = 48
WINDOW_S = 1.5


class Shim:
    """The library, built, and the file that says what it does."""

    def __init__(self, directory: Path) -> None:
        self._told = directory / "shim.told"
        self._library = directory / "shim.so"
        compiler = shutil.which("gcc")
        assert compiler, "gcc is needed"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", self._library, SOURCE, "-ldl"], check=True
        )
        self.tell()

    @staticmethod
    def available() -> bool:
        """Whether it can be built here."""
        return sys.platform == "linux" and shutil.which("gcc") is not None

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to have it."""
        return {"LD_PRELOAD": str(self._library), "SHIM": str(self._told)}

    def tell(self, *, reads: float = 0.0, syncs: float = 0.0, behind_s: float = 0.0) -> None:
        """From now on this is so, in a process that runs already too."""
        with self._told.open("r+b" if self._told.exists() else "wb", buffering=0) as file:
            file.write(struct.pack("3d", reads, syncs, -behind_s))


def failing(count: int) -> kills.Breakage:
    """Let the disk fail, or the clock be set, so often, each for a while; the bundle may die meanwhile."""

    def breakage(world: World) -> None:
        shim = Shim(world.gateway.directory)
        bundle = world.gateway.bundle
        bundle.env.update(shim.env)
        if world.rng.random() < 0.5:
            bundle.argv = ["sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"', *bundle.argv]
        world.kill_bundle(0.1)
        while world.kills < count - 1:
            _fail(world, shim)
        world.settle()

    return breakage


def _fail(world: World, shim: Shim) -> None:
    rng, begun_s = world.rng, time.monotonic()
    what = rng.choice(["reads fail", "syncs fail", "the disk fails", "the clock is set"])
    likely = rng.choice(LIKELY)
    shim.tell(
        reads=likely if what in ("reads fail", "the disk fails") else 0.0,
        syncs=likely if what in ("syncs fail", "the disk fails") else 0.0,
        behind_s=rng.choice(BEHIND_S) if what == "the clock is set" or rng.random() < 0.2 else 0.0,
    )
    time.sleep(rng.uniform(0.2, WINDOW_S))
    dies = rng.random() < 0.3
    if dies:
        world.alive.clear()
        world.gateway.bundle.kill()
    shim.tell()
    # What came and could not be written ends with the process: as if the network had lost it.
    world.losses.append(Loss(what, begun_s, time.monotonic() + 1))
    if dies:
        world.gateway.bundle.env["FAULT"] = what
        world.kill_bundle(0.1)
    else:
        world.kills += 1
        world.points[what] = world.points.get(what, 0) + 1
        time.sleep(rng.uniform(0.2, 1.0))  # it comes to itself


def main() -> None:
    """Torture seed after seed; end with code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    parser.add_argument("--faults", type=int, default=15, help="of each seed (%(default)s)")
    options = parser.parse_args()
    if not Shim.available():
        sys.exit("gcc, on Linux, is needed")
    broken = 0
    for seed in range(options.seed, options.seed + options.seeds):
        outcome = kills.run(seed, failing(options.faults), conditions=UNTOLD)
        print(f"seed {seed}: {outcome}", flush=True)
        for fault in outcome.faults:
            print(f"  {fault}", flush=True)
        broken += len(outcome.faults)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
