"""One write lock, so one request at a time: the share of the time in which a gateway is at work.

By the fleet's log: the gateways' own time for all commands, over the time from the first command's arrival
to the last one's end. Beside a bare client that sends the next command as soon as it has an answer.
"""

import argparse
import statistics
from pathlib import Path

from benchmarks.bare import BareClient
from benchmarks.gateways import body, created, ended, gateway
from puppetmaster import ranges
from sandbox.fleet_log import FleetLog


def busy(log: Path, count: int, delay_s: float) -> float:
    """The share over the last ``count`` commands of the log."""
    arrivals = [command.t_s for command in FleetLog(log).commands()][-count:]
    return count * delay_s / (arrivals[-1] + delay_s - arrivals[0])


def through_puppetmaster(client: BareClient, destinations: list[str]) -> None:
    """One job of writes to its end; asked rarely, for the controller and the bundle have work to do."""
    job = created(client, body("post", destinations))
    if ended(client, job["id"], poll_s=0.25)["finishCount"] != len(destinations):
        raise RuntimeError(f"expected {len(destinations)} resolved, got fewer: job {job['id']}")


def main() -> None:
    """Measure both in turn, several times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turnaround", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="writes of one job (%(default)s)")
    parser.add_argument(
        "--delay", type=float, default=0.02, help="seconds that a gateway takes (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[0001-{options.count:04d}]"
    destinations = ranges.expand(pattern)
    fleet = ["--shape", "one-model", "--to", pattern, "--delay", str(options.delay)]
    bare, ours = [], []
    with gateway(fleet) as (made, client):
        for _ in range(options.rounds):
            client.batch("post", destinations, 1)
            bare.append(busy(made.fleet_log, options.count, options.delay))
            through_puppetmaster(client, destinations)
            ours.append(busy(made.fleet_log, options.count, options.delay))
    theirs_median, ours_median = statistics.median(bare), statistics.median(ours)
    each_ms = options.delay * 1000 * (1 / ours_median - 1)
    print(
        f"{options.count} writes under one lock, {options.delay * 1000:.0f} ms each: a gateway is at work "
        f"{ours_median:.2f} of the time ({each_ms:.1f} ms from one to the next), bare {theirs_median:.2f}, "
        f"ratio {ours_median / theirs_median:.2f}"
    )


if __name__ == "__main__":
    main()
