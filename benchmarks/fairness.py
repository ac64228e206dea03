"""How long a job of 3 requests takes while one of 50,000 runs, beside the same job alone."""

import argparse
import statistics
import time

from benchmarks.bare import BareClient
from benchmarks.gateways import body, created, ended, gateway
from puppetmaster import names


def small(client: BareClient, destinations: list[str], rounds: int) -> list[float]:
    """Seconds from POST to the end, of several such jobs."""
    taken = []
    for _ in range(rounds):
        begun_s = time.perf_counter()
        job = created(client, body("get", destinations))
        ended(client, job["id"], poll_s=0.002)
        taken.append(time.perf_counter() - begun_s)
        time.sleep(0.1)
    return taken


def main() -> None:
    """Measure alone, then beside the large job."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--count", type=int, default=50000, help="requests of the large job (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    parser.add_argument(
        "--delay", type=float, default=0.05, help="seconds that a gateway takes (%(default)s)"
    )
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count + 3:05d}]"
    fleet = ["--shape", "one-model", "--to", pattern, "--delay", str(options.delay)]
    with gateway(fleet, max_requests=options.count) as (_, client):
        everybody = names.expand(pattern)
        alone = small(client, everybody[-3:], options.rounds)
        large = created(client, body("get", everybody[:-3]))
        beside = small(client, everybody[-3:], options.rounds)
        job = client.request("get", f"/jobs/{large['id']}?collection=false&limit=0")["data"]
        client.request("delete", f"/jobs/{large['id']}")
    one, other = statistics.median(alone), statistics.median(beside)
    print(
        f"3 requests: alone {one * 1000:.0f} ms, beside {options.count} ({job['doneCount']} of them done "
        f"in the end) {other * 1000:.0f} ms, longest {max(beside) * 1000:.0f} ms, ratio {other / one:.1f}"
    )


if __name__ == "__main__":
    main()
