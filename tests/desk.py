"""A dispatcher that runs, in memory or on a file, with a bus and a disk that do what a test says."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

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
from puppetmaster.model.job import Job
from puppetmaster.model.message import Outgoing
from puppetmaster.model.request import RequestStatus
from puppetmaster.settings import Settings
from puppetmaster.store.base import Keep, Store
from puppetmaster.store.sqlite.store import SqliteStore
from tests.virtual import body

WAIT_S = 40.0
S = TypeVar("S", bound=Store)
T = TypeVar("T")


def until(condition: Callable[[], T | None], what: str, timeout_s: float = WAIT_S) -> T:
    """Wait until it holds: its value. Fails, naming ``what``, when that takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        threading.Event().wait(0.02)
    return found


def disk_fault(text: str, code: int) -> sqlite3.OperationalError:
    """An error as SQLite itself raises it."""
    fault = sqlite3.OperationalError(text)
    fault.sqlite_errorcode = code
    return fault


class FailingDisk:
    """The connection of a store. While ``error`` is set each COMMIT raises it, and ``tries`` counts them.

    So does what is done for the log at the close.
    """

    def __init__(self, store: SqliteStore) -> None:
        self.error: Exception | None = None
        self.tries = 0
        self._connection = store._db.storage.connection
        store._db.storage.connection = cast(sqlite3.Connection, self)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith(("COMMIT", "PRAGMA wal_checkpoint")) and self.error is not None:
            self.tries += 1
            raise self.error
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class RecordingBus:
    """What leaves; each message is looked up in the store at the moment when it does."""

    def __init__(self, store: Store) -> None:
        self.sent: list[int] = []
        self.unrecorded: list[int] = []
        self.acknowledged: list[int] = []
        #: How often all that is on its way was asked for.
        self.syncs = 0
        #: The next messages do not leave: there is no connection.
        self.refusing = False
        self.refused = 0
        #: What was sent and has not been taken by the broker.
        self.waiting_bytes = 0
        #: What it is told of commands whose answers are waited for.
        self.in_flight = 0
        self.released_bytes = 0
        #: Called with each receipt, at the moment when it is acknowledged.
        self.watch: Callable[[Receipt], None] = lambda _: None
        #: Takes the controller's word on who owns a destination.
        self.told: Callable[[Owners], None] = lambda _: None
        self._store = store

    def send(self, commands: Sequence[Outgoing]) -> bool:
        for message in [command.id for command in commands]:
            with self._store.reading() as reader:
                request = reader.request(reader.sending(message) or message)
            if request is None or request.status is not RequestStatus.SENT or request.sending != message:
                self.unrecorded.append(message)
            if self.refusing:
                self.refused += 1
            else:
                self.sent.append(message)
        return not self.refusing

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            self.watch(receipt)
            self.acknowledged.append(receipt.packet)

    def release(self, size_bytes: int) -> None:
        self.released_bytes += size_bytes

    def expect(self, destinations: Iterable[str]) -> None:
        """No gateway of these tests answers directly."""

    def check(self, messages: Iterable[int]) -> None:
        """Nobody answers."""

    def prove(self) -> None:
        """Nobody answers."""

    def sync(self) -> None:
        """The test says when all is there."""
        self.syncs += 1

    def ask(self, destinations: Iterable[str], *, inquiry: bool = False) -> None:
        """Every gateway has a lock of its own."""
        for destination in destinations:
            self.told(Owners(destination, (f"/remote/{destination}",), inquiry))


class JumpingClock(Clock):
    """The machine's clock, which a test can set ahead: that is how it seems to a process that stood still.

    The wall's can be set by itself.
    """

    ahead_s = 0.0
    step_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.ahead_s

    def wall_s(self) -> float:
        return super().wall_s() + self.step_s


class Desk(Generic[S]):
    """A dispatcher that runs, with its store and its bus."""

    def __init__(
        self, store: S, clock: JumpingClock | None = None, keep: Keep = KEEP_ALL, **settings: Any
    ) -> None:
        self.store = store
        self.bus = RecordingBus(self.store)
        self.clock, hub = clock or JumpingClock(), Hub()
        self.engine = Engine(
            Settings(booting_s=0, **settings), self.clock, self.store.now, self.store.ids, "tunnel"
        )
        self.dispatcher = Dispatcher(self.engine, self.store, cast(BusClient, self.bus), hub, keep)
        self.bus.told = self.post
        self.dispatcher.start()
        self.post(ConnectionChanged(up=True), ControllerChanged(up=True))

    def post(self, *events: BusEvent) -> None:
        self.dispatcher.post(events)

    def create(self, *names: str, timeout_s: float = WAIT_S, **more: Any) -> Job:
        spec = bodies.parse_job(body("get", *names, **more), 10_000)
        return self.dispatcher.call(lambda engine: engine.create(spec), timeout_s)

    def sent(self, *names: str, **more: Any) -> Job:
        """A job of whose requests each has left."""
        before = len(self.bus.sent)
        job = self.create(*names, **more)
        until(lambda: len(self.bus.sent) == before + len(names), "they leave")
        return job

    def answer(self, message: int, size_bytes: int = 0) -> None:
        inner = {"code": 200, "method": "get", "resource": "/any", "data": {"n": message}}
        read = reply.read({"id": message, "code": 200, "data": inner, "sign": ["remote"]})
        self.post(Answered(message, read, Receipt(1, message % 1000), size_bytes=size_bytes))

    def status(self, request_id: int) -> str:
        """In the store."""
        with self.store.reading() as reader:
            request = reader.request(request_id)
        assert request is not None
        return request.status.value

    def job(self, job_id: int) -> Job:
        """In the store."""
        with self.store.reading() as reader:
            job = reader.job(job_id)
        assert job is not None
        return job

    def in_flight(self) -> int:
        return self.dispatcher.look(lambda engine: engine.scheduler.in_flight, WAIT_S)

    def close(self) -> None:
        self.dispatcher.stop(WAIT_S)
        self.store.close()


class DiskDesk(Desk[SqliteStore]):
    """One on a file, with the disk below it."""

    def __init__(self, data_dir: Path) -> None:
        store = SqliteStore(data_dir)
        self.disk = FailingDisk(store)
        super().__init__(store)

    def close(self) -> None:
        self.dispatcher.stop(WAIT_S)
        self.disk.error = None
        self.store.close()
