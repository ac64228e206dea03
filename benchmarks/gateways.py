"""A started gateway with a fleet and a bare client, for one measurement."""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bare import BareClient
from sandbox.broker import Kind
from sandbox.gateway import Gateway


@contextmanager
def gateway(
    fleet: Sequence[str],
    *,
    broker: Kind | None = None,
    tuned: bool = True,
    prepare: Callable[[Path], None] | None = None,
    **settings: object,
) -> Iterator[tuple[Gateway, BareClient]]:
    """A gateway whose bundle answers, set by ``PUPPETMASTER_<NAME>`` as in ``settings``.

    ``prepare`` is given the bundle's data directory before anything starts.
    """
    given = {"log_level": "warning", "http": "off", **settings}
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
        made = Gateway(
            Path(directory),
            fleet=fleet,
            settings={f"PUPPETMASTER_{name.upper()}": str(value) for name, value in given.items()},
            broker=broker,
            tuned=tuned,
        )
        made.bundle.ready = None
        if prepare is not None:
            (Path(directory) / "data").mkdir()
            prepare(Path(directory) / "data")
        with made:
            client = BareClient(made.broker.port)
            try:
                wait_for_answers(client)
                yield made, client
            finally:
                client.close()


def wait_for_answers(client: BareClient, timeout_s: float = 30) -> float:
    """Seconds until the bundle answers. Raises RuntimeError."""
    begun_s = time.perf_counter()
    while client.request("get", "/system/puppetmaster")["code"] != 200:
        if time.perf_counter() - begun_s > timeout_s:
            raise RuntimeError(f"expected an answer within {timeout_s:g} s, got none")
        time.sleep(0.01)
    return time.perf_counter() - begun_s


def body(method: str, destinations: Sequence[str], **more: Any) -> dict[str, Any]:
    """A job of one item."""
    item = {"method": method, "resource": "/system/time", "__request": {"destination": list(destinations)}}
    return {"batch": [item], **more}


def asked(client: BareClient, method: str, path: str, data: Any = None) -> Any:
    """The answer's data; sent again while the resources are locked by another's POST. Raises RuntimeError."""
    while (answer := client.request(method, path, data))["code"] == 423:
        time.sleep(0.001)
    if answer["code"] != 200:
        raise RuntimeError(f"expected the code 200 for {method} {path}, got {answer['code']}: {answer}")
    return answer["data"]


def created(client: BareClient, job: dict[str, Any]) -> dict[str, Any]:
    """POST it."""
    view: dict[str, Any] = asked(client, "post", "/jobs", job)
    return view


def ended(client: BareClient, job_id: int, poll_s: float = 0.02) -> dict[str, Any]:
    """The job once it has ended."""
    while True:
        job: dict[str, Any] = asked(client, "get", f"/jobs/{job_id}?collection=false&limit=0")
        if job["finishedAt"] is not None:
            return job
        time.sleep(poll_s)


@contextmanager
def meanwhile(port: int, step: Callable[[BareClient], object]) -> Iterator[None]:
    """Somebody else, with a client of their own, takes this step again and again."""
    over = threading.Event()

    def run() -> None:
        client = BareClient(port, tunnel="somebody", first_id=2**26)
        while not over.is_set():
            step(client)
        client.close()

    thread = threading.Thread(target=run, name="somebody")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def memory_mb(pid: int, line: str = "VmRSS") -> float:
    """What a process has in memory, shared libraries included; with ``VmHWM`` the most that it had."""
    for found in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = found.partition(":")
        if name == line:
            return int(value.split()[0]) / 1024
    raise RuntimeError(f"expected a line {line} in /proc/{pid}/status, got none")


@contextmanager
def beside(target: Callable[..., None], *args: object, told: list[Any]) -> Iterator[None]:
    """A process of its own that runs ``target`` meanwhile. What it tells at its end is appended to ``told``.

    ``target`` is given ``args`` and its end of a pipe. It sends something when it has begun, and what it
    tells once something comes.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    ours.recv()
    try:
        yield
    finally:
        ours.send(None)
        told.append(ours.recv())
        process.join(10)
