"""How long a POST takes by the number of its destinations, and what one costs beside a POST of 1,000.

The jobs start in an hour, so nothing is sent meanwhile; each is removed before the next one.
"""

import argparse
import statistics
import time
from datetime import UTC, datetime, timedelta

from benchmarks.bare import BareClient
from benchmarks.gateways import body, created, gateway
from puppetmaster import ranges


def posted(client: BareClient, destinations: list[str]) -> float:
    """Seconds from the POST to its answer."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    job = body("post", destinations, startAt=later)
    begun_s = time.perf_counter()
    answer = created(client, job)
    taken_s = time.perf_counter() - begun_s
    client.request("delete", f"/jobs/{answer['id']}")
    # What was removed is swept in parts, which must not disturb the next measurement.
    time.sleep(0.2 + len(destinations) / 20_000)
    return taken_s


def main() -> None:
    """Measure all sizes in turn, several times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.creation", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 50_000], help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    everybody = ranges.expand(f"cg-[00001-{max(options.sizes):05d}]")
    found: dict[int, list[float]] = {size: [] for size in options.sizes}
    with gateway([], max_requests=len(everybody)) as (_, client):
        for _ in range(options.rounds):
            for size, taken in found.items():
                taken.append(posted(client, everybody[:size]))
    first = options.sizes[0]
    for size, taken in found.items():
        ratios = [one / size / (other / first) for one, other in zip(taken, found[first], strict=True)]
        print(
            f"POST of {size:5} destinations: {statistics.median(taken) * 1000:5.0f} ms "
            f"(longest {max(taken) * 1000:.0f} ms), {statistics.median(taken) / size * 1e6:4.1f} us each, "
            f"beside one of {first} ratio {statistics.median(ratios):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
