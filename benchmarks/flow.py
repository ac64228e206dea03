"""Requests per second of puppetmaster against a bare client, through the same broker, controller and fleet.

The bare client keeps the same number in flight and no state: nothing on disk, nothing to recover.
Both run in turn, several times; the medians and their ratio are printed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bare import BareClient
from puppetmaster import names
from sandbox.gateway import Gateway


def through_puppetmaster(client: BareClient, method: str, destinations: Sequence[str]) -> float:
    """The seconds from POST /jobs to the end of the job, as its end was told on the bus."""
    item = {"method": method, "resource": "/system/time", "__request": {"destination": list(destinations)}}
    begun_s = time.perf_counter()
    job = client.request("post", "/jobs", {"batch": [item]})["data"]
    while job["finishedAt"] is None:
        time.sleep(0.02)
        answer = client.request("get", f"/jobs/{job['id']}?limit=0")
        job = answer["data"] if answer["code"] == 200 else job
    taken_s = time.perf_counter() - begun_s
    if job["finishCount"] != len(destinations):
        raise RuntimeError(f"expected {len(destinations)} resolved, got {job['counts']}")
    client.request("delete", f"/jobs/{job['id']}")
    return taken_s


def compare(method: str, shape: str, count: int, window: int, rounds: int, broker: str | None) -> None:
    """Run both in turn and print a line."""
    destinations = names.expand(f"cg-[{1:05d}-{count:05d}]")
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
        gateway = Gateway(
            Path(directory),
            fleet=["--shape", shape, "--to", f"cg-[{1:05d}-{count:05d}]", "--delay", "0"],
            settings={"PUPPETMASTER_WINDOW": str(window), "PUPPETMASTER_LOG_LEVEL": "warning"},
            broker="amqtt" if broker == "amqtt" else None,
        )
        gateway.bundle.ready = None
        with gateway:
            client = BareClient(gateway.broker.port)
            while client.request("get", "/system/puppetmaster")["code"] != 200:
                time.sleep(0.05)
            bare, ours = [], []
            for _ in range(rounds):
                bare.append(count / client.batch(method, destinations, window))
                ours.append(count / through_puppetmaster(client, method, destinations))
            client.close()
    theirs_median, ours_median = statistics.median(bare), statistics.median(ours)
    print(
        f"{method.upper():4} {shape:12} {count:6} requests, window {window:4}: bare {theirs_median:6.0f}/s, "
        f"puppetmaster {ours_median:6.0f}/s, ratio {ours_median / theirs_median:.2f}",
        flush=True,
    )


def main() -> None:
    """Compare reads and writes; options choose what."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="requests of one batch (%(default)s)")
    parser.add_argument("--window", type=int, default=500, help="in flight at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), help="default: mosquitto when installed")
    options = parser.parse_args()
    for method, shape in (("get", "one-model"), ("get", "per-gateway"), ("post", "per-gateway")):
        compare(method, shape, options.count, options.window, options.rounds, options.broker)


if __name__ == "__main__":
    main()
