"""What gateways that are away cost while requests wait for them, in process CPU time of the bundle.

At rest, and for requests to as many gateways that are there, in turns without and with those that wait.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bare import BareClient
from benchmarks.gateways import asked, body, created, ended, gateway
from puppetmaster import ranges

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """The CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def taken_s(pid: int, step: Callable[[], object]) -> float:
    """The CPU time that a process takes for this step."""
    begun_s = cpu_s(pid)
    step()
    return cpu_s(pid) - begun_s


def wait_for(client: BareClient, names: list[str]) -> int:
    """Create a job that waits for these gateways, and return its id once all of them were missed."""
    job = created(client, body("get", names, deliveryTimeout=86400))
    while not _missed(client, job["id"], len(names)):
        time.sleep(0.1)
    return int(job["id"])


def _missed(client: BareClient, job: int, count: int) -> bool:
    (last,) = asked(client, "get", f"/jobs/{job}/requests?limit=1&offset={count - 1}")
    in_flight = asked(client, "get", "/system/puppetmaster")["counters"]["inFlight"]
    return last["__request"]["whyCode"] == "absent" and not in_flight


def main() -> None:
    """Measure at rest, then in rounds without and with those that wait."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.absent", description=__doc__)
    parser.add_argument("--count", type=int, default=10000, help="of those here, and away (%(default)s)")
    parser.add_argument("--rest", type=float, default=60, help="seconds at rest (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count:05}]"
    here, away = ranges.expand(pattern), ranges.expand(f"gone-[00001-{options.count:05}]")
    fleet = ["--shape", "grouped:1000", "--to", pattern]
    with gateway(fleet, presence="off") as (made, client):
        pid = made.bundle.pid

        def run() -> None:
            ended(client, created(client, body("get", here))["id"], poll_s=0.1)

        def rest() -> float:
            seconds: float = options.rest
            return taken_s(pid, lambda: time.sleep(seconds)) / seconds

        run()  # all is warm
        alone, beside, idle, resting = [], [], [], []
        for _ in range(options.rounds):
            idle.append(rest())
            alone.append(taken_s(pid, run))
            job = wait_for(client, away)
            resting.append(rest())
            beside.append(taken_s(pid, run))
            asked(client, "delete", f"/jobs/{job}")
            time.sleep(2)
    more = statistics.median(resting) - statistics.median(idle)
    print(
        f"{options.count} gateways that are away: {100 * more:.1f} % of a core (aim: 5 %), beside "
        f"{100 * statistics.median(idle):.1f} % at rest"
    )
    ratio = statistics.median(one / other for one, other in zip(alone, beside, strict=True))
    print(
        f"{options.count} requests beside them: {statistics.median(beside):.2f} s of CPU, "
        f"alone {statistics.median(alone):.2f} s, ratio {ratio:.2f} (aim: 0.95)"
    )


if __name__ == "__main__":
    main()
