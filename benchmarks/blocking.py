"""The same batch by the SDK's own blocking calls, from one thread and from many, beside puppetmaster.

A plain bundle on the SDK calls ``publish.direct.get`` for each destination, at the SDK's default QoS 2;
nothing of what it does is kept anywhere. Both are measured in turn, through the same broker, controller and
fleet.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.flow import through_puppetmaster
from benchmarks.gateways import gateway
from puppetmaster import ranges
from puppetmaster.bundle import sdk

TIMEOUT_S = 20
#: It owns nothing: it only asks.
PROFILE = {
    "name": "blocking",
    "version": "0.0.1",
    "author": "benchmark",
    "email": "",
    "description": "asks with blocking calls",
    "license": "MIT",
    "main": "index.py",
    "argument": "",
    "priority": 30,
    "hook": [],
    "dependencies": {},
    "repository": "",
    "role": "model",
    "ttl": 10,
    "resources": [],
}


@contextmanager
def plain_bundle(port: int) -> Iterator[sdk.Sanji]:
    """A bundle of the SDK as it is, connected."""
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
        Path(directory, "bundle.json").write_text(json.dumps(PROFILE))
        connection = sdk.connection("127.0.0.1", port)
        bundle = sdk.Sanji(
            connection=connection, bundle=sdk.Bundle(bundle_dir=directory), stop_event=threading.Event()
        )
        bundle.reg_delay = 0
        runner = threading.Thread(target=bundle.start, name="plain-bundle", daemon=True)
        runner.start()
        if not bundle.is_ready.wait(30):
            raise RuntimeError("expected the bundle to be ready within 30 s, it was not")
        try:
            yield bundle
        finally:
            bundle.stop_event.set()
            runner.join(10)


def through_sdk(bundle: sdk.Sanji, destinations: Sequence[str], threads: int) -> tuple[float, int]:
    """Seconds for all of them, and how many were not answered 200."""

    def ask(destination: str) -> bool:
        command = {"method": "get", "resource": "/system/time", "data": {}}
        try:
            answer = bundle.publish.direct.get(f"/remote/{destination}", command, timeout=TIMEOUT_S)
        except sdk.SdkTimeout:
            return False
        return bool(answer.code == 200)

    begun_s = time.perf_counter()
    with ThreadPoolExecutor(threads, thread_name_prefix="asking") as pool:
        good = sum(pool.map(ask, destinations))
    return time.perf_counter() - begun_s, len(destinations) - good


def main() -> None:
    """Measure each number of threads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocking", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="requests of one batch (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 10, 100], help="(%(default)s)")
    parser.add_argument(
        "--delay", type=float, default=0.02, help="seconds that a gateway takes (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count:05d}]"
    destinations = ranges.expand(pattern)
    fleet = ["--shape", "one-model", "--to", pattern, "--delay", str(options.delay)]
    with gateway(fleet) as (made, client), plain_bundle(made.broker.port) as bundle:
        for threads in options.threads:
            theirs, ours, lost = [], [], 0
            for _ in range(options.rounds):
                taken_s, failed = through_sdk(bundle, destinations, threads)
                theirs.append(options.count / taken_s)
                lost += failed
                ours.append(options.count / through_puppetmaster(client, "get", destinations))
            theirs_median, ours_median = statistics.median(theirs), statistics.median(ours)
            print(
                f"GET {options.count} requests of {options.delay * 1000:.0f} ms: blocking calls from "
                f"{threads:3} threads {theirs_median:5.0f}/s ({lost} not answered), "
                f"puppetmaster {ours_median:5.0f}/s, ratio {ours_median / theirs_median:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
