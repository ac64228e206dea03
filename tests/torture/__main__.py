# ruff: noqa: T201 - this is a program
"""The long form: ``python -m tests.torture --kills 300 --bridged 100 --seed 1 --inputs 100000``."""

import argparse
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.torture import fuzzing, kills
from tests.torture.world import Conditions

KILLS_A_SEED = 15
BRIDGED_A_SEED = 15


def main() -> None:
    """Torture, show progress, and end with code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how often the bundle is killed (%(default)s)")
    parser.add_argument(
        "--bridged", type=int, default=100, help="how often on bridged gateways (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many malformed ones (%(default)s)")
    parser.add_argument("--at-once", type=int, default=3, help="seeds side by side (%(default)s)")
    limit = (
        "the server's broker hangs up on who sends more in one packet (no limit); below 100000 that is the "
        "controller itself, which indents what it passes on and sends it again after each connection"
    )
    parser.add_argument("--packet-limit", type=int, metavar="BYTES", help=limit)
    parser.add_argument("--keep", type=Path, help="keep the data of each seed below this directory")
    options = parser.parse_args()
    killed = kill(options, options.kills) + kill(options, options.bridged, bridged=True)
    fuzzed = fuzz(options.inputs, options.seed)
    if killed or fuzzed:
        sys.exit(1)


def kill(options: argparse.Namespace, count: int, *, bridged: bool = False) -> int:
    """Break things so often, spread over seeds, and print what came of it; how many promises broke.

    ``bridged``: where gateways have brokers of their own.
    """
    if not count:
        return 0
    begun_s = time.monotonic()
    total = kills.Outcome(options.seed)
    each = min(count, BRIDGED_A_SEED if bridged else KILLS_A_SEED)
    words = f"--bridged {each} --kills 0" if bridged else f"--bridged 0 --kills {each}"

    def run(seed: int) -> kills.Outcome:
        conditions = Conditions.of(seed, bridged=bridged, packet_limit=options.packet_limit)
        folder = _folder(options.keep, f"bridged-{seed}" if bridged else str(seed))
        return kills.run(seed, kills.killing(each), folder, conditions=conditions, bridged=bridged)

    with ThreadPoolExecutor(options.at_once, thread_name_prefix="torture") as pool:
        for outcome in pool.map(run, range(options.seed, options.seed + math.ceil(count / each))):
            total += outcome
            name = "bridged seed" if bridged else "seed"
            print(f"{name} {outcome.seed}: {outcome}", flush=True)
            for fault in outcome.faults:
                print(f"  {fault}", flush=True)
            if outcome.faults:
                print(
                    f"  again: python -m tests.torture {words} --inputs 0 --seed {outcome.seed}", flush=True
                )
    total.seconds = time.monotonic() - begun_s
    print(f"all: {total}", flush=True)
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


def _folder(keep: Path | None, name: str) -> Path | None:
    if keep is None:
        return None
    (keep / name).mkdir(parents=True)
    return keep / name


if __name__ == "__main__":
    main()
