"""What it costs to ask a process that does not lead: POSTs a second, and how soon WebSockets tell changes.

An API server has the leader carry out what changes something, and hears of changes from the database. Both
are asked in turn, several times; the medians and their ratio are printed.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.gateways import percentile
from benchmarks.sockets import timed
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process, free_port

LEADER, API = "the leader", "an API server"


@contextmanager
def both(count: int) -> Iterator[dict[str, int]]:
    """A bus with so many gateways, a leader, and an API server beside it. Gives the ports of both."""
    ports = {LEADER: free_port(), API: free_port()}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="puppetmaster-bench-")))
        cluster = stack.enter_context(Cluster(durable=True))
        settings = {
            "PUPPETMASTER_STORE": cluster.url(),
            "PUPPETMASTER_HTTP": f"127.0.0.1:{ports[LEADER]}",
            "PUPPETMASTER_LOG_LEVEL": "warning",
            "PUPPETMASTER_MAX_OPEN_JOBS": "100000",
        }
        fleet = ["--shape", "per-gateway", "--to", f"cg-[{1:05d}-{count:05d}]", "--delay", "0"]
        gateway = Gateway(directory, fleet=fleet, settings=settings)
        gateway.bundle.ready = None
        stack.enter_context(gateway)
        beside = {"PUPPETMASTER_ROLE": "api", "PUPPETMASTER_HTTP": f"127.0.0.1:{ports[API]}"}
        env = {**gateway.bundle.env, **beside, "PUPPETMASTER_DATA_DIR": str(directory / "api")}
        stack.enter_context(Process.module("api", "index", env=env))
        for port in ports.values():
            _wait_until_ready(port)
        yield ports


def _wait_until_ready(port: int, timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"expected {port} to be ready within {timeout_s:g} s, it is not")


def posted(port: int, count: int, callers: int) -> tuple[float, list[float]]:
    """POSTs a second of so many callers with so many jobs in all, and how long each POST took, in seconds.

    The jobs are of one request each and start in an hour, so nothing is sent.
    """
    took_s: list[float] = []
    item = {"method": "get", "resource": "/system/time", "__request": {"destination": ["cg-00001"]}}
    body = json.dumps({"batch": [item], "startAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(count // callers):
            begun_s = time.perf_counter()
            connection.request("POST", "/jobs", body)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"expected 200 for POST /jobs, got {answer.status}: {said[:200]!r}")
            took_s.append(time.perf_counter() - begun_s)
        connection.close()

    threads = [threading.Thread(target=post, name="bench-caller") for _ in range(callers)]
    begun_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(took_s) != count // callers * callers:
        raise RuntimeError(f"expected {count} answers, got {len(took_s)}")
    return len(took_s) / (time.perf_counter() - begun_s), took_s


def compare(ports: dict[str, int], count: int, callers: int, rounds: int) -> None:
    """POST to both in turn, and print what came of it."""
    rates: dict[str, list[float]] = {name: [] for name in ports}
    took_s: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(rounds):
        for name in ports if number % 2 == 0 else reversed(ports):
            rate, took = posted(ports[name], count, callers)
            rates[name].append(rate)
            took_s[name] += took
    for name in ports:
        p50, p99 = (percentile(took_s[name], percent) * 1000 for percent in (50, 99))
        print(
            f"{callers:2} callers, POST to {name}: {statistics.median(rates[name]):.0f}/s, "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            flush=True,
        )
    ratios = [here / there for there, here in zip(rates[LEADER], rates[API], strict=True)]
    print(f"{callers:2} callers: ratio {statistics.median(ratios):.2f}", flush=True)


def main() -> None:
    """Compare; options choose how much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orders", description=__doc__)
    parser.add_argument("--posts", type=int, default=800, help="POSTs of a round (%(default)s)")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8], help="side by side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--count", type=int, default=5000, help="requests of the job that is watched")
    parser.add_argument("--rate", type=float, default=1000, help="how many of them a second (%(default)s)")
    parser.add_argument("--jobs", type=int, default=3, help="how many such jobs are watched (%(default)s)")
    options = parser.parse_args()
    with both(options.count) as ports:
        for callers in options.callers:
            compare(ports, options.posts, callers, options.rounds)
        for name, port in ports.items():
            timed(f"{options.rate:g}/s, at {name}", port, options.count, options.jobs, rate=options.rate)


if __name__ == "__main__":
    main()
