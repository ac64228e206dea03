# ruff: noqa: T201 - this is a program
"""The long form: ``python -m tests.torture --kills 300 --seed 1 --inputs 100000``."""

import argparse
import math
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.torture import fuzzing, kills

KILLS_A_SEED = 15


def main() -> None:
    """Torture, show progress, and end with code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how often the bundle is killed (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many malformed ones (%(default)s)")
    parser.add_argument("--at-once", type=int, default=3, help="seeds side by side (%(default)s)")
    parser.add_argument("--keep", type=Path, help="keep the data of each seed below this directory")
    options = parser.parse_args()
    killed = kill(options.kills, options.seed, options.at_once, options.keep)
    fuzzed = fuzz(options.inputs, options.seed)
    if killed or fuzzed:
        sys.exit(1)


def kill(count: int, first_seed: int, at_once: int, keep: Path | None) -> int:
    """Kill the bundle so often, spread over seeds, and print what came of it; how many promises broke."""
    begun_s = time.monotonic()
    total = kills.Outcome(first_seed)
    with ThreadPoolExecutor(at_once, thread_name_prefix="torture") as pool:
        seeds = range(first_seed, first_seed + math.ceil(count / KILLS_A_SEED))
        for outcome in pool.map(
            lambda seed: kills.run(seed, kills.killing(KILLS_A_SEED), _folder(keep, seed)), seeds
        ):
            total += outcome
            print(
                f"seed {outcome.seed}: {outcome.kills} kills, {outcome.jobs} jobs, "
                f"{outcome.commands} commands, {_listed(outcome.statuses)}, {outcome.seconds:.0f} s, "
                f"{len(outcome.faults)} broken promises",
                flush=True,
            )
            for fault in outcome.faults:
                print(f"  {fault}", flush=True)
            if outcome.faults:
                print(
                    f"  again: python -m tests.torture --kills 1 --inputs 0 --seed {outcome.seed}", flush=True
                )
    print(
        f"{total.kills} kills ({_listed(total.points)}), {total.jobs} jobs, "
        f"{total.statuses.total()} requests ({_listed(total.statuses)}), "
        f"{total.commands} commands at gateways, {len(total.faults)} broken promises, "
        f"{time.monotonic() - begun_s:.0f} s"
    )
    return len(total.faults)


def fuzz(inputs: int, seed: int) -> int:
    """Send so many malformed messages and bodies, and print what came of it; how many promises broke."""
    if not inputs:
        return 0
    report = fuzzing.run(inputs, seed)
    print(report.sentence())
    for fault in report.faults:
        print(f"  {fault}")
    return len(report.faults)


def _folder(keep: Path | None, seed: int) -> Path | None:
    if keep is None:
        return None
    (keep / str(seed)).mkdir(parents=True)
    return keep / str(seed)


def _listed(counts: "Counter[str]") -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.most_common())


if __name__ == "__main__":
    main()
