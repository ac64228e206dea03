"""The store in PostgreSQL beside the one in a file: changes a second by changes per turn, and whole gateways.

Both are durable, on the same disk, in turns within one run. PostgreSQL is Debian's as it is installed, on
this machine, over its unix socket.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.flow import through_puppetmaster
from benchmarks.gateways import gateway
from benchmarks.store import fill, per_second
from puppetmaster import ranges
from puppetmaster.model.request import Request
from puppetmaster.store.base import Changes, Store
from puppetmaster.store.postgres.store import PostgresStore
from puppetmaster.store.sqlite.store import SqliteStore
from sandbox.postgres import Cluster

STORED = 10_000
SIZES = (1, 10, 32, 100)
#: Turns in a row in one store.
TURNS = 30


def changes(cluster: Cluster, directory: Path, rounds: int) -> None:
    """How many sent requests become resolved in a second, so many of them in each turn; and sent again."""
    with ExitStack() as stack:
        stores: dict[str, Store] = {
            "file": stack.enter_context(closing(SqliteStore(directory))),
            "postgresql": stack.enter_context(closing(PostgresStore(cluster.url()))),
        }
        for store in stores.values():
            fill(store, STORED)
        cluster.run("VACUUM ANALYZE")
        for size in SIZES:
            found: dict[str, list[float]] = {name: [] for name in stores}
            for turn in range(rounds):
                passed, part = divmod(turn, STORED // (TURNS * size))  # no document is written as it is
                numbers = range(part * TURNS * size, (part + 1) * TURNS * size)
                for name, store in stores.items():
                    found[name].append(_per_second(store, numbers, size, done=passed % 2 == 0))
            _say(f"{size:3} changes a turn", "/s", found)


def _per_second(store: Store, numbers: range, size: int, *, done: bool) -> float:
    def write(some: list[Request], _: list[str]) -> None:
        store.commit(Changes(requests={request.id: request for request in some}))

    return per_second(write, numbers, size, done=done)


def end_to_end(cluster: Cluster, count: int, rounds: int) -> None:
    """Requests a second of whole gateways, from POST /jobs until the end of the job is seen."""
    pattern = f"cg-[{1:05d}-{count:05d}]"
    destinations = list(ranges.expand(pattern))
    fleet = ["--shape", "per-gateway", "--to", pattern, "--delay", "0"]
    cluster.run("CREATE DATABASE whole")
    kinds = {"file": "", "postgresql": cluster.url("whole")}
    with ExitStack() as stack:
        made = {name: stack.enter_context(gateway(fleet, store=address)) for name, address in kinds.items()}
        for method in ("get", "post"):
            found: dict[str, list[float]] = {name: [] for name in made}
            for number in range(rounds + 1):
                for name, (_, client) in made.items():
                    rate = count / through_puppetmaster(client, method, destinations)
                    if number:  # the first one learns who owns the gateways
                        found[name].append(rate)
            _say(f"{method.upper():4} {count} requests", " requests/s", found)


def _say(what: str, unit: str, found: dict[str, list[float]]) -> None:
    ratios = [ours / file for ours, file in zip(found["postgresql"], found["file"], strict=True)]
    medians = ", ".join(f"{name} {statistics.median(rates):.0f}{unit}" for name, rates in found.items())
    each = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"{what}: {medians}, ratio {statistics.median(ratios):.2f} ({each})", flush=True)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description=__doc__)
    parser.add_argument("--directory", help="on the disk to measure; default: the one for temporary files")
    parser.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    parser.add_argument(
        "--count", type=int, default=10_000, help="requests end to end; 0: none (%(default)s)"
    )
    options = parser.parse_args()
    if not Cluster.available():
        print("PostgreSQL is not installed here: apt install postgresql")
        return
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-", dir=options.directory) as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another user
        with Cluster(durable=True, directory=Path(directory)) as cluster:
            changes(cluster, Path(directory) / "file", options.rounds)
            if options.count:
                end_to_end(cluster, options.count, max(options.rounds // 3, 1))


if __name__ == "__main__":
    main()
