"""Requests per second to bridged gateways: through the remote bundle, and directly to their controllers.

Each gateway has a broker and a controller of its own (`sandbox.bridged`) and answers at once. A bare client
keeps requests in flight and no state. Through the remote bundle a write locks the whole fleet, so one is in
flight, and of reads as many as the bundle has threads. Directly each gateway has a lock of its own.

For the figures of a site set SANDBOX_CONTROLLER to the real controller: the stand-in sets TCP_NODELAY, waits
for no delayed acknowledgement, and lets up to twelve times as many writes through.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.bare import BareClient, DirectClient
from puppetmaster import names
from sandbox.bridged import BridgedFleet

REMOTE_READS = 3  # the threads of the remote bundle
DIRECT_READS = 64
DIRECT_TIMES = 20  # as many commands as through the remote bundle


@contextmanager
def fleet(
    gateways: Sequence[str], *, tuned: bool, bundle: bool, **settings: object
) -> Iterator[BridgedFleet]:
    """A started fleet; with puppetmaster it is set by ``PUPPETMASTER_<NAME>`` as in ``settings``."""
    given = {"log_level": "warning", **settings}
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
        variables = {f"PUPPETMASTER_{name.upper()}": str(value) for name, value in given.items()}
        made = BridgedFleet(Path(directory), gateways, tuned=tuned, bundle=bundle, settings=variables)
        made.server.bundle.ready = None  # it logs warnings only
        with made:
            yield made


def bare_rates(port: int, gateways: Sequence[str], count: int) -> dict[str, float]:
    """Requests per second of each way, by its name; ``count`` to each gateway through the remote bundle."""
    rates: dict[str, float] = {}
    many = list(gateways) * count
    with closing(BareClient(port)) as client:
        rates[f"GET  bare remote, window {REMOTE_READS}"] = len(many) / client.batch(
            "get", many, REMOTE_READS
        )
        rates["POST bare remote, window 1"] = len(many) / client.batch("post", many, 1)
    more = many * DIRECT_TIMES
    with closing(DirectClient(port)) as client:
        rates[f"GET  bare direct, window {DIRECT_READS}"] = len(more) / client.batch(
            "get", more, DIRECT_READS
        )
        taken_s = client.one_at_each("post", gateways, count * DIRECT_TIMES)
        rates["POST bare direct, one for each gateway"] = len(more) / taken_s
    return rates


def compare(gateways: Sequence[str], options: argparse.Namespace, *, tuned: bool) -> None:
    """Measure all ways in turn, several times, and print the medians."""
    with fleet(gateways, tuned=tuned, bundle=False) as made:
        rounds = [bare_rates(made.server.broker.port, gateways, options.count) for _ in range(options.rounds)]
    brokers = "brokers tuned" if tuned else "brokers untouched"
    for name in rounds[0]:
        rate = statistics.median(each[name] for each in rounds)
        print(f"{len(gateways)} gateways, {brokers}: {name:38} {rate:6.1f}/s", flush=True)


def main() -> None:
    """Measure with brokers as they are installed, then with tuned ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bridged", description=__doc__)
    parser.add_argument("--gateways", type=int, default=6, help="(%(default)s)")
    parser.add_argument(
        "--count", type=int, default=10, help="requests to each through the remote bundle (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    gateways = names.expand(f"cg-[1-{options.gateways}]")
    for tuned in (False, True):
        compare(gateways, options, tuned=tuned)


if __name__ == "__main__":
    main()
