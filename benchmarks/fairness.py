"""How long a job of 3 requests takes while one of 50,000 runs, beside the same job alone.

Whoever keeps hundreds in flight fills the controller's queue, whatever the bundle does; so the same steps are
also taken by a bare client (a request to the bundle, three to gateways, a request to the bundle) alone and
while another bare client keeps as many in flight as the bundle did.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from benchmarks.bare import BareClient
from benchmarks.gateways import asked, body, created, ended, gateway, meanwhile
from puppetmaster import ranges


def times_s(steps: Callable[[], object], rounds: int) -> list[float]:
    """Seconds that these steps take, each time."""
    taken = []
    for _ in range(rounds):
        begun_s = time.perf_counter()
        steps()
        taken.append(time.perf_counter() - begun_s)
        time.sleep(0.1)
    return taken


def a_job(client: BareClient, destinations: list[str]) -> None:
    """POST it and see its end."""
    ended(client, created(client, body("get", destinations))["id"], poll_s=0.002)


def the_same(client: BareClient, destinations: list[str]) -> None:
    """The same without jobs."""
    asked(client, "get", "/system/puppetmaster")
    client.batch("get", destinations, len(destinations))
    asked(client, "get", "/system/puppetmaster")


def main() -> None:
    """Measure alone, then beside the large job; both ways."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--count", type=int, default=50000, help="requests of the large job (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    parser.add_argument(
        "--delay", type=float, default=0.05, help="seconds that a gateway takes (%(default)s)"
    )
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count + 3:05d}]"
    fleet = ["--shape", "one-model", "--to", pattern, "--delay", str(options.delay)]
    with gateway(fleet, max_requests=options.count) as (made, client):
        everybody = ranges.expand(pattern)
        three, others = everybody[-3:], everybody[:-3]
        alone = times_s(lambda: a_job(client, three), options.rounds)
        large = created(client, body("get", others))
        beside = times_s(lambda: a_job(client, three), options.rounds)
        job = asked(client, "get", f"/jobs/{large['id']}?collection=false&limit=0")
        window = asked(client, "get", "/system/puppetmaster")["counters"]["window"]
        asked(client, "delete", f"/jobs/{large['id']}")
        bare_alone = times_s(lambda: the_same(client, three), options.rounds)
        with meanwhile(made.broker.port, lambda other: other.batch("get", others[: 10 * window], window)):
            bare_beside = times_s(lambda: the_same(client, three), options.rounds)
    tell(f"3 requests beside {options.count}, {job['doneCount']} of them done in the end", alone, beside)
    tell(f"the same bare, beside {window} that a bare client keeps in flight", bare_alone, bare_beside)


def tell(what: str, alone: list[float], beside: list[float]) -> None:
    """Print the medians and their ratio."""
    one, other = statistics.median(alone), statistics.median(beside)
    print(
        f"{what}: alone {one * 1000:.0f} ms, beside {other * 1000:.0f} ms, longest "
        f"{max(beside) * 1000:.0f} ms, ratio {other / one:.1f}"
    )


if __name__ == "__main__":
    main()
