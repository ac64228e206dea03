"""The bundle with a fault in it, for tests: it kills itself (SIGKILL) where and when it was told to.

``python -m tests.faulty_bundle`` takes the place of ``python index.py``. The environment says what differs:

``FAULT``      ``<point>:<n>``: die when that point is passed for the n-th time; see ``POINTS``
``JOURNAL``    a file that gets a line, id and time, for every command that is handed to the bus, and one with
               ``DIED`` in place of the id when the fault comes
``SWEEP``      how many requests of a removed job go at once, in place of the store's own number
``BUNDLE_TTL`` seconds in place of bundle.json's ttl, so that who dies inside a POST is soon free again
``EVERY_S``    schedules start every so many seconds, see ``tests.torture.starts``
``KEEPALIVE``  seconds in place of the bus connection's keepalive, so that a hung broker is soon noticed

The product itself knows nothing of this: its seams are wrapped from outside.
"""

import functools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import index
from puppetmaster.bundle import sdk
from puppetmaster.bus import connection
from puppetmaster.bus.client import BusClient
from puppetmaster.engine.context import Context
from puppetmaster.engine.delivery import Delivery
from puppetmaster.engine.lifecycle import Lifecycle
from puppetmaster.events import Hub
from puppetmaster.model.message import Outgoing
from puppetmaster.store.sqlite import store
from puppetmaster.store.sqlite.documents import SqliteStorage
from puppetmaster.store.sqlite.store import SqliteStore
from sandbox.process import PROJECT
from tests.torture import starts

#: Longer than a checkpoint of these small files takes: the kill falls into it or just after.
CHECKPOINT_S = 0.004

#: In the journal, for who dies of its fault.
DIED = "died"

Pass = Callable[[], None]


class Fuse:
    """Counts how often a point is passed, and kills this process at the n-th time."""

    def __init__(self, nth: int) -> None:
        self._left = nth
        self._lock = threading.Lock()  # guards _left

    def burn(self) -> bool:
        """Count; whether this was the one."""
        with self._lock:
            self._left -= 1
            return self._left == 0

    def __call__(self) -> None:
        """Count, and die if this was the one."""
        if self.burn():
            die()


def die() -> None:
    """End this process as a power cut would, as far as the kernel lets one."""
    if path := os.environ.get("JOURNAL"):
        with Path(path).open("a") as journal:
            journal.write(f"{DIED} {time.monotonic()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)  # the signal is on its way


def _before(owner: type, name: str) -> Callable[[Fuse], None]:
    def install(fuse: Fuse) -> None:
        _wrap(owner, name, before=lambda *_: fuse())

    return install


def _after(owner: type, name: str) -> Callable[[Fuse], None]:
    def install(fuse: Fuse) -> None:
        _wrap(owner, name, after=lambda *_: fuse())

    return install


def _wrap(
    owner: type,
    name: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(self, *args)
        value = original(self, *args, **kwargs)
        if after is not None:
            after(self, *args)
        return value

    setattr(owner, name, wrapped)


def _between(fuse: Fuse, leaves: int) -> None:
    """Die at the n-th command; of its turn it leaves (1) or not (0), and none behind it does."""
    original = BusClient.send

    def send(self: BusClient, commands: Sequence[Outgoing]) -> bool:
        for before in range(len(commands)):
            if fuse.burn():
                original(self, commands[: before + leaves])
                die()
        return original(self, commands)

    setattr(BusClient, "send", send)  # noqa: B010 - mypy lets no method be assigned


def _written(fuse: Fuse) -> None:
    original = SqliteStorage.transaction

    @contextmanager
    def transaction(self: SqliteStorage) -> Iterator[None]:
        with original(self):
            yield
            if not self._read_only and self._depth == 1:
                fuse()

    setattr(SqliteStorage, "transaction", transaction)  # noqa: B010 - mypy lets no method be assigned


def _checkpoint(fuse: Fuse) -> None:
    def checkpoint(file: SqliteStore, *_: Any) -> None:
        if fuse.burn():
            threading.Timer(random.uniform(0, CHECKPOINT_S), die).start()
            file._db.storage.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            die()

    _wrap(SqliteStore, "commit", after=checkpoint)


#: Where it can die. What a turn of the dispatcher passes comes in the order in which it passes it.
POINTS: dict[str, Callable[[Fuse], None]] = {
    "recovering": _before(Lifecycle, "recover"),  # an unfinished job is about to be taken up again
    "answered": _after(Delivery, "answered"),  # an answer is decided on, not yet on disk
    "decided": _before(SqliteStore, "commit"),
    "written": _written,  # everything of the turn is in the transaction, which is not committed
    "committed": _before(Context, "committed"),  # on disk, nothing has left
    "sending": lambda fuse: _between(fuse, 0),  # before a command leaves, so also between two
    "sent": lambda fuse: _between(fuse, 1),  # after it has left
    "told": _after(Hub, "post"),  # callers have their replies, the mailboxes the changes
    "checkpoint": _checkpoint,  # while SQLite moves its log into the file
    "pruning": _after(SqliteStore, "outlived"),  # it is known which ended jobs need not be kept
    "sweeping": _before(SqliteStore, "sweep"),  # before a part of a removed job goes, so also between two
}


def arm(fault: str) -> None:
    """Install ``<point>:<n>``. Raises ValueError."""
    point, _, nth = fault.partition(":")
    if point not in POINTS:
        raise ValueError(f"FAULT: expected one of {', '.join(POINTS)}, got {point!r}")
    POINTS[point](Fuse(int(nth or 1)))


def keep_journal(path: str) -> None:
    """Write down every command that leaves, in a way that survives a kill."""
    journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def sent(_bus: BusClient, commands: Sequence[Outgoing]) -> None:
        at_s = time.monotonic()
        os.write(journal, "".join(f"{command.id} {at_s}\n" for command in commands).encode())

    _wrap(BusClient, "send", before=sent)


def main() -> None:
    """Run the bundle until it ends, one way or another."""
    if path := os.environ.get("JOURNAL"):
        keep_journal(path)
    if fault := os.environ.get("FAULT"):
        arm(fault)
    starts.install()
    if seconds := os.environ.get("KEEPALIVE"):
        connection.KEEPALIVE_S = int(seconds)
    if part := os.environ.get("SWEEP"):
        store.SWEEP = int(part)
    profile = sdk.Bundle(bundle_dir=str(PROJECT))
    profile.profile["ttl"] = int(os.environ.get("BUNDLE_TTL") or profile.profile["ttl"])
    setattr(index, "Index", functools.partial(index.Index, bundle=profile))  # noqa: B010 - a type otherwise
    index.main()


if __name__ == "__main__":
    main()
