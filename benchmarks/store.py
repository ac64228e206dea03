"""The store beside a bare append+fdatasync loop of the same bytes, bare sqlite3, and plain TinyDB.

Durable changes per second at several transaction sizes; the cost of a change with more and more requests
stored; time and memory to open. All in turn on the same disk, several times: what disturbs one disturbs all.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from tinydb import TinyDB

from puppetmaster.model.job import Job, JobStatus, fresh_counts
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes, Ids, Store
from puppetmaster.store.sqlite.store import SqliteStore

AT = "2026-01-02T03:04:05.678Z"
#: Requests of one job.
JOB = 5000
#: Makes one transaction durable: requests, and their documents as the store writes them.
Write = Callable[[list[Request], list[str]], None]

OPEN = """
import sys, time
from pathlib import Path
from puppetmaster.store.sqlite.store import SqliteStore

def kb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])

before, begun = kb(), time.perf_counter()
store = SqliteStore(Path(sys.argv[1]))
list(store.unfinished())
print(time.perf_counter() - begun, kb() - before)
"""


def request(number: int, *, done: bool, job: int = JOB) -> Request:
    """Request ``number`` of all, sent or resolved; ``job`` requests make a job."""
    return Request(
        id=FIRST_REQUEST_ID + number,
        job=number // job + 1,
        item=FIRST_REQUEST_ID + number // job * job,
        destination=f"00:0c:29:1c:{number % JOB // 256:02x}:{number % JOB % 256:02x}",
        status=RequestStatus.RESOLVED if done else RequestStatus.SENT,
        attempts=1,
        sent_at=AT,
        finished_at=AT if done else None,
        result={"code": 200, "data": {"time": AT}, "source": "device"} if done else None,
    )


def filled(directory: Path, stored: int, job: int = JOB) -> SqliteStore:
    """A store of so many requests, in jobs of ``job`` requests that have ended."""
    store = SqliteStore(directory)
    fill(store, stored, job)
    return store


def fill(store: Store, stored: int, job: int = JOB) -> None:
    """Put so many requests into a store, in jobs of ``job`` requests that have ended."""
    changes = Changes()
    for first in range(0, stored, job):
        total = min(job, stored - first)
        ended = Job(
            id=first // job + 1,
            first=FIRST_REQUEST_ID + first,
            total=total,
            created_at=AT,
            finished_at=AT,
            status=JobStatus.RESOLVED,
            request_timeout_s=60,
            counts=fresh_counts(total),
        )
        requests = {
            (one := request(number, done=False, job=job)).id: one for number in range(first, first + total)
        }
        changes.jobs[ended.id] = ended
        changes.requests |= requests
        if len(changes.requests) >= JOB or first + total == stored:
            store.commit(replace(changes, ids=Ids(ended.id + 1, ended.first + total)))
            changes = Changes()


def transaction(numbers: range, *, done: bool) -> tuple[list[Request], list[str]]:
    """These requests, and their documents as the store writes them."""
    requests = [request(number, done=done) for number in numbers]
    return requests, [json.dumps(one.document(), separators=(",", ":")) for one in requests]


@contextmanager
def bare_file(directory: Path, stored: int) -> Iterator[Write]:
    """Append the same bytes to a file and wait for the disk."""
    del stored
    with (directory / "bare").open("ab", buffering=0) as file:

        def write(_: list[Request], texts: list[str]) -> None:
            file.write("\n".join(texts).encode())
            os.fdatasync(file.fileno())

        yield write


@contextmanager
def bare_sqlite(directory: Path, stored: int) -> Iterator[Write]:
    """The same documents in a table without indexes, as durable as ours."""
    sql = "INSERT INTO requests VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc"
    with closing(sqlite3.connect(directory / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE requests (id INTEGER PRIMARY KEY, doc TEXT NOT NULL)")

        def write(requests: list[Request], texts: list[str]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(sql, zip((one.id for one in requests), texts, strict=True))
            connection.execute("COMMIT")

        write(*transaction(range(stored), done=False))
        yield write


@contextmanager
def plain_tinydb(directory: Path, stored: int) -> Iterator[Write]:
    """TinyDB's own JSON file; it does not wait for the disk at all."""
    with TinyDB(directory / "plain.json") as db:
        table = db.table("requests")

        def write(requests: list[Request], _: list[str]) -> None:
            changed = {one.id: one.document() for one in requests}
            table._update_table(lambda documents: documents.update(changed))

        write(*transaction(range(stored), done=False))
        yield write


@contextmanager
def ours(directory: Path, stored: int) -> Iterator[Write]:
    """The store."""
    with closing(filled(directory, stored)) as store:
        yield lambda requests, _: store.commit(Changes(requests={one.id: one for one in requests}))


KINDS = {"bare file": bare_file, "store": ours, "bare sqlite3": bare_sqlite, "plain TinyDB": plain_tinydb}


def per_second(write: Write, numbers: range, size: int, *, done: bool = True) -> float:
    """Changes a second: these requests become resolved, or sent, ``size`` of them in each transaction."""
    transactions = [
        transaction(numbers[start : start + size], done=done) for start in range(0, len(numbers), size)
    ]
    begun_s = time.perf_counter()
    for requests, texts in transactions:
        write(requests, texts)
    return len(numbers) / (time.perf_counter() - begun_s)


def sizes(directory: Path, rounds: int) -> None:
    """Transaction sizes, all kinds in turn."""
    stored = 10_000
    with ExitStack() as stack:
        writes = {name: stack.enter_context(kind(directory, stored)) for name, kind in KINDS.items()}
        for size in (1, 10, 100):
            found: dict[str, list[float]] = {name: [] for name in writes}
            for turn in range(rounds):
                for name, write in writes.items():
                    transactions = 2 if name == "plain TinyDB" else 30
                    start = turn * transactions * size % (stored - transactions * size + 1)
                    numbers = range(start, start + transactions * size)
                    found[name].append(per_second(write, numbers, size))
            median = {name: statistics.median(values) for name, values in found.items()}
            for name, value in median.items():
                ratio = statistics.median(a / b for a, b in zip(found["store"], found[name], strict=True))
                print(
                    f"{size:3} per transaction: {name:12} {value:8.0f}/s, store / {name} {ratio:.2f}",
                    flush=True,
                )


def scale(directory: Path, rounds: int) -> None:
    """What a change of one of the last 1,000 requests costs, without the wait for the disk."""
    stores = {}
    with ExitStack() as stack:
        for stored in (1_000, 10_000, 100_000):
            (directory / str(stored)).mkdir()
            stores[stored] = stack.enter_context(closing(filled(directory / str(stored), stored)))
            stores[stored]._db.storage.connection.execute("PRAGMA synchronous = OFF")
        for size in (1, 100):
            costs_us: dict[int, list[float]] = {stored: [] for stored in stores}
            for turn in range(rounds * 3):
                for stored, store in stores.items():
                    last = range(stored - 1000, stored)
                    requests = [request(number, done=turn % 2 == 0) for number in last]
                    begun_s = time.process_time()
                    for start in range(0, len(requests), size):
                        part = requests[start : start + size]
                        store.commit(Changes(requests={one.id: one for one in part}))
                    costs_us[stored].append((time.process_time() - begun_s) * 1e6 / len(requests))
            least = {stored: min(values) for stored, values in costs_us.items()}
            for stored, cost_us in least.items():
                ratio = cost_us / least[1_000]
                print(
                    f"{size:3} per transaction, {stored:6} stored: {cost_us:6.1f} us, ratio {ratio:.2f}",
                    flush=True,
                )


def opening(directory: Path, rounds: int) -> None:
    """Each time a process of its own opens it."""
    for stored in (0, 100_000):
        (directory / str(stored)).mkdir(exist_ok=True)
        if stored == 0:
            SqliteStore(directory / "0").close()
        found = [
            tuple(map(float, subprocess.run(
                [sys.executable, "-c", OPEN, str(directory / str(stored))],
                check=True, capture_output=True, text=True,
            ).stdout.split()))
            for _ in range(rounds)
        ]  # fmt: skip
        taken_s, kb = (statistics.median(column) for column in zip(*found, strict=True))
        print(
            f"open with {stored:6} requests: {taken_s:.3f} s, {kb / 1024:.1f} MB more than before", flush=True
        )


def main() -> None:
    """Measure all three, in a directory of the disk that is meant."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--directory", help="on the disk to measure; default: the one for temporary files")
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-", dir=options.directory) as directory:
        for index, measure in enumerate((sizes, scale, opening)):
            below = Path(directory) / ("scale" if index else "sizes")
            below.mkdir(exist_ok=True)
            measure(below, options.rounds)


if __name__ == "__main__":
    main()
