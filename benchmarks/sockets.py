"""What subscribers cost: a running job with and without 200 WebSockets on it, and how soon frames arrive.

Both runs of a round follow each other, in changing order; medians and their ratio are printed. The
subscribers are one process of their own that reads and throws away, so that their work is not ours, though on
a small machine it takes processor time from all the rest.
"""

import argparse
import json
import selectors
import socket
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from websockets.sync.client import connect

from benchmarks.bare import BareClient
from benchmarks.flow import through_puppetmaster
from benchmarks.gateways import beside
from puppetmaster import ranges
from puppetmaster.clock import seconds
from sandbox.gateway import Gateway
from sandbox.process import free_port


def opened(port: int, path: str) -> socket.socket:
    """A WebSocket whose frames nobody takes apart: pings go unanswered, so it lasts for 40 s."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"expected 101 Switching Protocols, got {answer[:200]!r}")
    return connection


def read_all(port: int, count: int, path: str, told: Connection) -> None:
    """The subscribers' process: read from all of them until told to end; answers how many bytes came."""
    selector = selectors.DefaultSelector()
    for _ in range(count):
        connection = opened(port, path)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    selector.register(told, selectors.EVENT_READ)
    told.send(None)
    buffer, size = bytearray(1 << 20), 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is told:
                told.send(size)
                return
            assert isinstance(key.fileobj, socket.socket)
            came = key.fileobj.recv_into(buffer)
            if not came:
                raise RuntimeError("a subscriber was disconnected")
            size += came


@contextmanager
def subscribers(port: int, count: int, path: str, received: list[int]) -> Iterator[None]:
    """``count`` open WebSockets on ``path``; the bytes that came are appended to ``received``."""
    with beside(read_all, port, count, path, told=received):
        yield


class Delays(NamedTuple):
    """Seconds from a change, as its own time says, to the first frame that tells of it.

    That time is the decision's, so the transaction that makes it durable is included: ``answered`` is how
    long it took until the job's creator had its answer, which also waits for that.
    """

    answered: list[float]
    first: list[float]
    running: list[float]
    last: list[float]


def follow(port: int, count: int, jobs: int, delays: Delays) -> None:
    """Run jobs of ``count`` requests, one after the other, and see when their frames arrive."""
    arrived: SimpleQueue[tuple[float, str | bytes]] = SimpleQueue()
    with connect(f"ws://127.0.0.1:{port}/jobs/ws", max_size=None, compression=None) as connection:

        def read() -> None:
            for frame in connection:
                arrived.put((time.time(), frame))

        reader = threading.Thread(target=read, name="bench-reader", daemon=True)
        reader.start()
        for _ in range(jobs):
            created = ask(port, "/jobs", {"batch": [item(count)]})
            answered_s = time.time()
            frames: list[tuple[float, dict[str, Any]]] = []
            while not frames or frames[-1][1]["finishedAt"] is None:
                at_s, text = arrived.get(timeout=60)
                frame = json.loads(text)
                if frame["id"] == created["id"]:
                    frames.append((at_s, frame))
            delays.answered.append(answered_s - seconds(created["createdAt"]))
            delays.first.append(frames[0][0] - seconds(frames[0][1]["createdAt"]))
            delays.last.append(frames[-1][0] - seconds(frames[-1][1]["finishedAt"]))
            delays.running.extend(_running(port, created["id"], frames))
            time.sleep(0.2)
    reader.join(5)


def _running(port: int, job: int, frames: list[tuple[float, dict[str, Any]]]) -> Iterator[float]:
    """Of each request that was done: how long until a frame counted it."""
    requests = ask(port, f"/jobs/{job}/requests")
    ended_s = sorted(seconds(request["__request"]["finishedAt"]) for request in requests)
    told = 0
    for at_s, frame in frames[:-1]:
        yield from (at_s - done_s for done_s in ended_s[told : frame["doneCount"]])
        told = max(told, frame["doneCount"])


def item(count: int) -> dict[str, Any]:
    """One batch item for so many gateways."""
    destinations = ranges.expand(f"cg-[{1:05d}-{count:05d}]")
    return {"method": "get", "resource": "/system/time", "__request": {"destination": destinations}}


def ask(port: int, path: str, body: Any = None) -> Any:
    """GET, or POST ``body``."""
    sent = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", sent, timeout=60) as answer:
        return json.loads(answer.read())


def main() -> None:
    """Compare; options choose how much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sockets", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests of the job (%(default)s)")
    parser.add_argument("--subscribers", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--changes", type=int, default=60, help="small jobs whose frames are timed")
    parser.add_argument("--large", type=int, default=3, help="jobs of --count, likewise")
    options = parser.parse_args()
    destinations = ranges.expand(f"cg-[{1:05d}-{options.count:05d}]")
    port = free_port()
    settings = {
        "PUPPETMASTER_HTTP": f"127.0.0.1:{port}",
        "PUPPETMASTER_LOG_LEVEL": "warning",
    }
    fleet = ["--shape", "per-gateway", "--to", f"cg-[{1:05d}-{options.count:05d}]", "--delay", "0"]
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
        gateway = Gateway(Path(directory), fleet=fleet, settings=settings)
        gateway.bundle.ready = None
        with gateway:
            client = BareClient(gateway.broker.port)
            while client.request("get", "/system/puppetmaster")["code"] != 200:
                time.sleep(0.05)
            without: list[float] = []
            watched: list[float] = []
            received: list[int] = []
            for number in range(options.rounds):
                for with_subscribers in (False, True) if number % 2 == 0 else (True, False):
                    if with_subscribers:
                        with subscribers(port, options.subscribers, "/jobs/ws", received):
                            watched.append(options.count / through_puppetmaster(client, "get", destinations))
                    else:
                        without.append(options.count / through_puppetmaster(client, "get", destinations))
            report(options, without, watched, received)
            for count, jobs in ((1, options.changes), (options.count, options.large)):
                timed("alone", port, count, jobs)
                with subscribers(port, options.subscribers, "/jobs/ws", received):
                    timed(f"among {options.subscribers}", port, count, jobs)
            client.close()


def timed(where: str, port: int, count: int, jobs: int) -> None:
    """Print how soon the frames of such jobs arrive."""
    delays = Delays([], [], [], [])
    follow(port, count, jobs, delays)
    for which, took_s in delays._asdict().items():
        if took_s:
            ranked = sorted(took_s)
            p50, p99 = statistics.median(ranked), ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]
            print(
                f"jobs of {count}, {where}: {which} after p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
                f"of {len(ranked)}",
                flush=True,
            )


def report(
    options: argparse.Namespace, without: list[float], watched: list[float], received: list[int]
) -> None:
    """Print the comparison."""
    alone, among = statistics.median(without), statistics.median(watched)
    print(
        f"{options.count} requests: alone {alone:.0f}/s, with {options.subscribers} subscribers {among:.0f}/s"
        f", ratio {among / alone:.2f}; frames of {statistics.median(received) / 1e6:.0f} MB a job",
        flush=True,
    )


if __name__ == "__main__":
    main()
