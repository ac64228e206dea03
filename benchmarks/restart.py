"""How soon a killed bundle sends again with 10,000 open requests, beside one that has nothing to take up."""

import argparse
import time
from pathlib import Path

from benchmarks.bare import BareClient
from benchmarks.gateways import body, created, gateway
from puppetmaster import ranges
from sandbox.gateway import Gateway


def restart(made: Gateway, client: BareClient, fresh: str) -> float:
    """Kill and start; seconds from the start of the process until a command reaches the fleet.

    With nothing open there is none before somebody asks: a job for ``fresh`` is created then.
    """
    made.bundle.kill()
    before = _size(made.fleet_log)
    begun_s = time.perf_counter()
    made.bundle.start()
    if fresh:
        made.bundle.wait_for("registered with the controller", 20)
        created(client, body("get", [fresh]))
    while _size(made.fleet_log) == before:
        time.sleep(0.002)
    return time.perf_counter() - begun_s


def _size(path: Path) -> int:
    return path.stat().st_size


def main() -> None:
    """Measure with an empty store, then with open requests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--count", type=int, default=10000, help="open requests (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count:05d}]"
    fleet = ["--shape", "one-model", "--to", pattern, "--delay", "0.5"]
    with gateway(fleet, max_in_flight=50, grace_s=1, log_level="info") as (made, client):
        everybody = ranges.expand(pattern)
        empty = min(restart(made, client, everybody[0]) for _ in range(options.rounds))
        created(client, body("get", everybody))
        time.sleep(1)
        full = []
        for _ in range(options.rounds):
            full.append(restart(made, client, ""))
            time.sleep(0.5)
    print(
        f"from the start of the process to the first command: {min(full):.2f} s (longest {max(full):.2f} s) "
        f"with {options.count} open requests, {empty:.2f} s with none, ratio {min(full) / empty:.1f}"
    )


if __name__ == "__main__":
    main()
