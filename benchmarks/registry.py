"""How much work the list of gateways and its selectors are, and how much memory, beside how many there are.

All of it runs in this process: the dispatcher with a store on disk, and the use cases that both doors call.
Times are of the processor, over all threads: what other programs do to the machine is not in them.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from puppetmaster.api import query
from puppetmaster.api.pages import encoded
from puppetmaster.api.service import Service
from puppetmaster.bundle.runtime import SteadySanji
from puppetmaster.clock import Clock
from puppetmaster.engine.engine import Engine
from puppetmaster.events import Hub
from puppetmaster.settings import Settings
from puppetmaster.site import Site
from puppetmaster.store.sqlite.store import SqliteStore

ASKED = (
    "limit=100",
    "limit=100&offset=40000",
    "limit=100&selector=site=site-3",
    "limit=100&selector=site!=site-3,model in (uc-1,uc-2),!retired",
    "limit=100&match=cg-*7",
    "limit=0&selector=serial=s77",
    "limit=100&registered=false",
    "limit=100&registered=true&offset=20000",
    "limit=100&registered=unknown&selector=site=site-3",
    "",
)


def fleet(count: int) -> list[dict[str, Any]]:
    """Gateways with four labels each, one of them of its own."""
    return [
        {
            "name": f"cg-{number:06d}",
            "labels": {
                "site": f"site-{number % 20}",
                "model": f"uc-{number % 7}",
                "example.com/env": "production" if number % 3 else "test",
                "serial": f"s{number}",
            },
        }
        for number in range(count)
    ]


def spent_ms(work: Callable[[], Any], rounds: int) -> float:
    """Milliseconds of the processor, the median of some rounds."""
    found = []
    for _ in range(rounds):
        begun_s = time.process_time()
        work()
        found.append((time.process_time() - begun_s) * 1000)
    return statistics.median(found)


def main() -> None:
    """Import them twice, ask for them, and look for the gateways of a job."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registry", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[5000, 50_000], help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    for count in options.counts:
        with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
            measure(Path(directory), count, options.rounds)


def measure(directory: Path, count: int, rounds: int) -> None:
    """Measure with so many gateways."""
    settings = Settings(data_dir=directory, broker_port=1, log_level="error")
    store = SqliteStore(directory)
    bundle = cast(SteadySanji, SimpleNamespace())
    site = Site(settings, store, Hub(), Clock(), cast(Any, bundle))
    service = Service(settings, store, site.dispatcher)
    site.dispatcher.start()
    try:
        body = fleet(count)
        for what in ("new", "known already"):
            waited_s = time.perf_counter()
            taken_ms = spent_ms(lambda: service.gateways.put_all(body, "http"), 1)
            waited_s = time.perf_counter() - waited_s
            print(f"{count} gateways, {what}: put in {taken_ms:.0f} ms, {waited_s:.1f} s with the disk")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        names = [one["name"] for one in body]
        taken_ms = spent_ms(lambda: said(site, names), 1)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{count} gateways, what the controller says of each: {taken_ms:.0f} ms, {grown:.1f} MB")
        taken_ms = spent_ms(lambda: service.gateways.registration(names), rounds)
        print(f"{count} gateways, which of a plan's are registered: {taken_ms:.1f} ms")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for asked in ASKED:
            taken_ms = spent_ms(lambda asked=asked: answered(service, asked), rounds)  # type: ignore[misc]
            print(f"{count} gateways, GET /gateways?{asked}: {taken_ms:.1f} ms")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{count} gateways: {grown:.1f} MB more memory at most while they were listed", flush=True)
    finally:
        site.dispatcher.stop()
        store.close()


def said(site: Site, names: Sequence[str]) -> None:
    """The controller has answered for each gateway; each tenth is not registered, and some are not known."""

    def take(engine: Engine) -> None:
        for number, name in enumerate(names[: len(names) * 9 // 10]):
            engine.owners(name, None if number % 10 == 0 else [f"/remote/{name}"])

    site.dispatcher.look(take, 60)


def answered(service: Service, asked: str) -> int:
    """Bytes of the answer, part by part as a door sends it."""
    wanted = query.parse(query.parameters(asked), ("limit", "offset", "selector", "match", "registered"))
    return sum(map(len, encoded(service.gateways.known(wanted))))


if __name__ == "__main__":
    main()
