"""How long the dispatcher is held up while jobs are removed or pruned, beside the same work without.

One large job first, then many small ones: they are looked through, and all but a few of them pruned, as when
PUPPETMASTER_KEEP_JOBS was lowered.

The dispatcher runs a job over a bus that answers at once; meanwhile it is asked something every 2 ms, and the
longest wait for the reply is how long anything that arrives may have to wait.
"""

import argparse
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import cast

from benchmarks.gateways import body, percentile
from benchmarks.store import filled
from puppetmaster import ranges
from puppetmaster.api import bodies
from puppetmaster.bus.client import (
    Answered,
    BusClient,
    BusEvent,
    ConnectionChanged,
    ControllerChanged,
    Owners,
)
from puppetmaster.bus.connection import Receipt
from puppetmaster.clock import Clock
from puppetmaster.dispatcher import KEEP_ALL, Dispatcher
from puppetmaster.engine.engine import Engine
from puppetmaster.events import Hub
from puppetmaster.model import reply
from puppetmaster.model.message import Outgoing
from puppetmaster.settings import Settings
from puppetmaster.store.base import Keep
from puppetmaster.store.sqlite.documents import SqliteTinyDB
from puppetmaster.store.sqlite.store import FILE_NAME, SqliteStore

WAIT_S = 60.0
ASK_S = 0.002


class Echo:
    """A bus on which every command is answered after a moment, by a thread of its own."""

    waiting_bytes = 0

    def __init__(self) -> None:
        self.listener: Callable[[Sequence[BusEvent]], None] | None = None
        self._sent: SimpleQueue[int | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._answer, name="echo", daemon=True)
        self._thread.start()

    def send(self, commands: Sequence[Outgoing]) -> bool:
        """Commands leave."""
        for command in commands:
            self._sent.put(command.id)
        return True

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """Nobody keeps anything."""

    def ask(self, destinations: Iterable[str]) -> None:
        """Every gateway has a lock of its own."""
        if self.listener is not None:
            self.listener([Owners(destination, (f"/remote/{destination}",)) for destination in destinations])

    def sync(self) -> None:
        """Nothing is on its way."""

    def close(self) -> None:
        """Answer no more."""
        self._sent.put(None)
        self._thread.join(WAIT_S)

    def _answer(self) -> None:
        while (message := self._sent.get()) is not None:
            time.sleep(0.0002)
            inner = {"code": 200, "method": "get", "resource": "/system/time", "data": {"n": message}}
            read = reply.read({"id": message, "code": 200, "data": inner, "sign": ["remote"]})
            if self.listener is not None:
                self.listener([Answered(message, read)])


@contextmanager
def running(store: SqliteStore, keep: Keep) -> Iterator[Dispatcher]:
    """A dispatcher on the store, over an echo."""
    clock, hub, echo = Clock(), Hub(), Echo()
    engine = Engine(Settings(max_in_flight=200), clock, store.now, store.ids, "tunnel")
    dispatcher = Dispatcher(engine, store, cast(BusClient, echo), hub, keep)
    echo.listener = dispatcher.post
    dispatcher.start()
    try:
        dispatcher.post([ConnectionChanged(up=True), ControllerChanged(up=True)])
        yield dispatcher
    finally:
        dispatcher.stop(WAIT_S)
        echo.close()


def waits_ms(dispatcher: Dispatcher, until: Callable[[], bool]) -> list[float]:
    """How long each question waited for its reply while a job ran, until it and what else runs is done."""
    spec = bodies.parse_job(body("get", ranges.expand("cg-[0001-5000]")), 5000)
    job = dispatcher.call(lambda engine: engine.create(spec), WAIT_S)
    dispatcher.call(lambda engine: engine.lifecycle.begin_job(job.id), WAIT_S)
    found: list[float] = []
    while dispatcher.look(lambda engine: engine.state.open_requests, WAIT_S) or not until():
        begun_s = time.perf_counter()
        dispatcher.look(lambda _: None, WAIT_S)
        found.append((time.perf_counter() - begun_s) * 1000)
        time.sleep(ASK_S)
    return found


def swept(store: SqliteStore, job_id: int) -> bool:
    """Whether nothing is left of the job."""
    with store.reading() as reader, closing(SqliteTinyDB(store.path, read_only=True)) as db:
        return reader.job(job_id) is None and not len(db.table("trash"))


def left(store: SqliteStore, jobs: int) -> bool:
    """Whether no more jobs than these are left."""
    with store.reading() as reader:
        return reader.count_jobs({}) <= jobs


def main() -> None:
    """Measure all in turn, several times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retention", description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help="requests of the large job (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=100_000, help="how many small ones (%(default)s)")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    none, few, some = (replace(KEEP_ALL, jobs=jobs) for jobs in (0, 100, options.jobs + 100))
    for turn in range(options.rounds):
        print(f"round {turn + 1}, one job of {options.count} requests:")
        one = (options.count, options.count)
        measure("nothing", *one, KEEP_ALL, lambda _: True)
        measure("removed", *one, KEEP_ALL, partial(swept, job_id=1), remove=True)
        measure("pruned", *one, none, partial(swept, job_id=1))
        print(f"round {turn + 1}, {options.jobs} jobs of one request:")
        many = (options.jobs, 1)
        measure("nothing", *many, KEEP_ALL, lambda _: True)
        measure("looked through", *many, some, lambda _: True)
        measure("pruned", *many, few, partial(left, jobs=102))


def measure(
    what: str,
    requests: int,
    each: int,
    keep: Keep,
    until: Callable[[SqliteStore], bool],
    *,
    remove: bool = False,
) -> None:
    """Run a job on a store of so many requests, in jobs of so many each, and print how long replies took."""
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory:
        store = filled(Path(directory), requests, job=each)
        before = store.path.stat().st_size
        begun_s = time.perf_counter()
        with running(store, keep) as dispatcher:
            if remove:
                dispatcher.do(lambda engine: engine.delete(1))
            waits = waits_ms(dispatcher, partial(until, store))
        taken_s = time.perf_counter() - begun_s
        log_mb = store.path.with_name(f"{FILE_NAME}-wal").stat().st_size / 1e6
        store.close()
        after = store.path.stat().st_size
    print(
        f"  {what:14} a reply waits {percentile(waits, 50):5.1f} ms in the middle, "
        f"{percentile(waits, 99):5.1f} ms at 99 %, {max(waits):5.1f} ms at the longest; {taken_s:.1f} s; "
        f"the log has {log_mb:.1f} MB, the file went from {before / 1e6:.1f} to {after / 1e6:.1f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
