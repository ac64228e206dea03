"""Requests per second to bridged gateways: through the remote bundle, and directly to their controllers.

Each gateway has a broker and a controller of its own (`sandbox.bridged`) and answers at once. A bare client
keeps requests in flight and no state; directly it keeps one in flight at each gateway, as puppetmaster
does. Through the remote bundle a write locks the whole fleet, so one is in
flight, and of reads as many as the bundle has threads. Directly each gateway has a lock of its own.

For the figures of a site set SANDBOX_CONTROLLER to the real controller: the stand-in sets TCP_NODELAY, waits
for no delayed acknowledgement, and lets up to twelve times as many writes through.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.bare import BareClient, DirectClient
from benchmarks.flow import through_puppetmaster
from benchmarks.gateways import wait_for_answers
from puppetmaster import ranges
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


def compare(
    gateways: Sequence[str], options: argparse.Namespace, route: str, *, tuned: bool
) -> dict[str, float]:
    """Puppetmaster beside a bare client that goes the same way; its requests per second, by row."""
    ours: dict[str, float] = {}
    times = options.count * (DIRECT_TIMES if route == "direct" else 1)
    many = len(gateways) * times
    pairs: dict[str, list[tuple[float, float]]] = {}
    with fleet(gateways, tuned=tuned, bundle=False, route=route) as made:
        port = made.server.broker.port
        for _ in range(options.rounds):
            made.server.bundle.start()
            with closing(BareClient(port)) as client:
                wait_for_answers(client)
                for how in ("cold", "warm"):
                    for method in ("get", "post"):
                        bare = many / bare_way(client, port, route, method, gateways, times)
                        taken_s = through_puppetmaster(client, method, gateways, times=times)
                        pairs.setdefault(f"{method.upper():4} {how}", []).append((bare, many / taken_s))
            made.server.bundle.terminate()
    for row, measured in pairs.items():
        bare, ours[row] = (statistics.median(each[side] for each in measured) for side in (0, 1))
        ratio = statistics.median(mine / other for other, mine in measured)
        print(
            f"{_brokers(tuned)}, {route:6} {row}: bare {bare:6.1f}/s, puppetmaster {ours[row]:6.1f}/s, "
            f"ratio {ratio:.2f}",
            flush=True,
        )
    return ours


def bare_way(
    remote: BareClient, port: int, route: str, method: str, gateways: Sequence[str], times: int
) -> float:
    """The seconds of a bare client, with as much in flight as the bundle works on, or one at each gateway."""
    if route == "direct":
        with closing(DirectClient(port)) as client:
            return client.one_at_each(method, gateways, times)
    return remote.batch(method, list(gateways) * times, REMOTE_READS if method == "get" else 1)


def some_away(gateways: Sequence[str], options: argparse.Namespace, route: str, *, tuned: bool) -> None:
    """A job to all of them, and to as many more that a quarter is away: how much longer that takes."""
    away = ranges.expand(f"away-[1-{max(1, round(len(gateways) / 3))}]")
    times = options.count * (DIRECT_TIMES if route == "direct" else 1)
    ratios: dict[str, list[float]] = {"get": [], "post": []}
    with fleet([*gateways, *away], tuned=tuned, bundle=True, route=route) as made:
        for name in away:
            made.gateways[name].off()
        with closing(BareClient(made.server.broker.port)) as client:
            wait_for_answers(client)
            mixed = [name for pair in itertools.zip_longest(away, gateways) for name in pair if name]
            for _ in range(options.rounds):
                for method, measured in ratios.items():
                    alone_s = through_puppetmaster(client, method, gateways, times=times)
                    mixed_s = through_puppetmaster(client, method, mixed, times=times, away=len(away))
                    measured.append(mixed_s / alone_s)
    for method, measured in ratios.items():
        print(
            f"{_brokers(tuned)}, {route:6} {method.upper():4} {len(away)} of {len(mixed)} away: "
            f"{statistics.median(measured):.2f} times as long as without them",
            flush=True,
        )


def _brokers(tuned: bool) -> str:
    return "brokers tuned" if tuned else "brokers untouched"


def main() -> None:
    """Measure with brokers as they are installed, then with tuned ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bridged", description=__doc__)
    parser.add_argument("--gateways", type=int, default=6, help="(%(default)s)")
    parser.add_argument(
        "--count", type=int, default=10, help="requests to each through the remote bundle (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    gateways = ranges.expand(f"cg-[1-{options.gateways}]")
    for tuned in (False, True):
        with fleet(gateways, tuned=tuned, bundle=False) as made:
            rates = bare_rates(made.server.broker.port, gateways, options.count)
        for name, rate in rates.items():
            print(f"{len(gateways)} gateways, {_brokers(tuned)}: {name:38} {rate:6.1f}/s", flush=True)
        remote, direct = (compare(gateways, options, route, tuned=tuned) for route in ("remote", "direct"))
        for row, rate in remote.items():
            print(f"{_brokers(tuned)}, {row}: directly {direct[row] / rate:.1f} times as many", flush=True)
        for route in ("remote", "direct"):
            some_away(gateways, options, route, tuned=tuned)


if __name__ == "__main__":
    main()
