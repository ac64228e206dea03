"""What watchers cost: a running job with and without 200 WebSockets on it, and how soon frames arrive.

Both runs of a round follow each other, in changing order; medians and their ratio are printed. The watchers
are one process of their own that reads and throws away, so that their work is not counted as ours, though on
a small machine it takes processor time from all the rest.
"""

import argparse
import json
import multiprocessing
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

from benchmarks.bare import BareClient
from benchmarks.flow import through_puppetmaster
from puppetmaster import names
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
    """The watchers' process: read from all of them until told to end; answers how many bytes came."""
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
                raise RuntimeError("a watcher was disconnected")
            size += came


@contextmanager
def watchers(port: int, count: int, path: str, received: list[int]) -> Iterator[None]:
    """``count`` open WebSockets on ``path``; the bytes that came are appended to ``received``."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=read_all, args=(port, count, path, theirs), daemon=True
    )
    process.start()
    ours.recv()
    try:
        yield
    finally:
        ours.send(None)
        received.append(ours.recv())
        process.join(10)


def latencies(port: int, changes: int) -> list[float]:
    """Seconds from asking for a job to its first frame: the way in and the disk included, so an upper bound.

    The jobs are further apart than what is merged; the connection that is timed is the last one served.
    """
    connection = opened(port, "/jobs/ws")
    seen, at_s, took_s = threading.Event(), [0.0], []

    def read() -> None:
        while connection.recv(1 << 16):
            if not seen.is_set():
                at_s[0] = time.perf_counter()
                seen.set()

    reader = threading.Thread(target=read, name="bench-reader", daemon=True)
    reader.start()
    for _ in range(changes):
        time.sleep(0.22)
        seen.clear()
        begun_s = time.perf_counter()
        create(port)
        if not seen.wait(5):
            raise RuntimeError("expected a frame within 5 s, got none")
        took_s.append(at_s[0] - begun_s)
    connection.shutdown(socket.SHUT_RDWR)
    reader.join(5)
    connection.close()
    return took_s


def create(port: int) -> None:
    """One small job."""
    item = {"method": "get", "resource": "/system/time", "__request": {"destination": "cg-00001"}}
    body = json.dumps({"batch": [item]}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/jobs", body, timeout=30) as answer:
        answer.read()


def main() -> None:
    """Compare; options choose how much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sockets", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests of the job (%(default)s)")
    parser.add_argument("--watchers", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--changes", type=int, default=120, help="changes whose frames are timed")
    options = parser.parse_args()
    destinations = names.expand(f"cg-[{1:05d}-{options.count:05d}]")
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
                for with_watchers in (False, True) if number % 2 == 0 else (True, False):
                    if with_watchers:
                        with watchers(port, options.watchers, "/jobs/ws", received):
                            watched.append(options.count / through_puppetmaster(client, "get", destinations))
                    else:
                        without.append(options.count / through_puppetmaster(client, "get", destinations))
            report(options, without, watched, received)
            alone = latencies(port, options.changes)
            with watchers(port, options.watchers, "/jobs/ws", received):
                crowded = latencies(port, options.changes)
            client.close()
    for what, took_s in (("alone", alone), (f"among {options.watchers} watchers", crowded)):
        ranked = sorted(took_s)
        p50, p99 = statistics.median(ranked), ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]
        print(f"change to frame, {what}: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms", flush=True)


def report(
    options: argparse.Namespace, without: list[float], watched: list[float], received: list[int]
) -> None:
    """Print the comparison."""
    alone, among = statistics.median(without), statistics.median(watched)
    print(
        f"{options.count} requests: alone {alone:.0f}/s, with {options.watchers} watchers {among:.0f}/s, "
        f"ratio {among / alone:.2f}; frames of {statistics.median(received) / 1e6:.0f} MB a job",
        flush=True,
    )


if __name__ == "__main__":
    main()
