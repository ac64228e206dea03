"""What a process that does not lead asks of the one that does: a row in ``orders``, and its answer.

The leader takes an order before it does anything for it, with its epoch, and no order is taken twice. So an
order is carried out once or not at all, whoever dies meanwhile.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from queue import Empty, Full, LifoQueue
from threading import Event, Semaphore

import psycopg

from puppetmaster.errors import LOOK_AGAIN, StoreError, Unavailable
from puppetmaster.events import Hub
from puppetmaster.store.base import Elsewhere, Reader
from puppetmaster.store.postgres.changes import Watcher
from puppetmaster.store.postgres.connection import Connection, Door, as_store_error, close, sentence
from puppetmaster.store.postgres.durability import held_up
from puppetmaster.store.postgres.schema import BUS
from puppetmaster.store.postgres.snapshots import SPARE, Snapshots
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.orders")

#: On this channel the leader is told that there is an order.
CHANNEL = "puppetmaster_orders"
#: Most orders that are carried out at once.
AT_ONCE = 8
#: A notification can be lost with its connection: who waits looks this often.
LOOK_S = 1.0
#: How long the leader's own time to answer may be over before its asker gives up.
SLACK_S = 5.0
#: The pause before the next try to reach the database.
PAUSE_S = 0.2
#: Orders that are over for so long are removed, and how often that is looked for.
KEEP_S, SWEEP_S = 60, 30.0

_GIVE = """
WITH given AS (
    INSERT INTO orders (reply, asked, until)
    SELECT %s, %s, now() + make_interval(secs => %s) FROM buses
    WHERE id = %s AND owner IS NOT NULL AND lease_until > now() RETURNING id
) SELECT id, pg_notify(%s, '') FROM given
"""
#: An order that was taken by a leader which has been replaced is not answered any more.
_LOOK = """
SELECT answer, orders.epoch < buses.epoch FROM orders, buses WHERE orders.id = %s AND buses.id = %s
"""
_DROP = "DELETE FROM orders WHERE id = %s"
_WITHDRAW = "DELETE FROM orders WHERE id = %s AND epoch IS NULL RETURNING id"
_TAKE = """
UPDATE orders SET epoch = %(epoch)s WHERE id IN (
    SELECT id FROM orders WHERE epoch IS NULL AND until > now()
    ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED
) AND EXISTS (SELECT FROM buses WHERE id = %(bus)s AND epoch = %(epoch)s AND owner IS NOT NULL)
RETURNING id, asked
"""
_ANSWER = """
WITH answered AS (UPDATE orders SET answer = %s WHERE id = %s RETURNING id, reply)
SELECT pg_notify(reply, id::text) FROM answered
"""
_SWEEP = "DELETE FROM orders WHERE until < now() - make_interval(secs => %s)"


class _Line:
    """A connection of one asker at a time, and the channel on which it hears of answers."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.reply = f"puppetmaster_{uuid.uuid4().hex}"
        self.connection = self._open()

    def _open(self) -> Connection:
        made = self._door.connect()
        made.execute(f"LISTEN {self.reply}")
        return made

    def open(self) -> None:
        """Connect again if the connection is lost. Raises psycopg.Error, StoreError."""
        if self.connection.closed:
            self.connection = self._open()


class Asker(Elsewhere):
    """The database at ``address``, in which another process leads. Any thread may read and ask.

    Raises SettingsError.
    """

    def __init__(self, address: str) -> None:
        self._door = Door(address)
        self.place = self._door.place
        self._snapshots = Snapshots(self._door)
        self._spare: LifoQueue[_Line] = LifoQueue(SPARE)
        self._closed = False
        self._watcher: Watcher | None = None

    def reading(self) -> AbstractContextManager[Reader]:
        """A reader of one committed state. Raises StoreError."""
        return self._snapshots.reading()

    def ask(self, asked: str, timeout_s: float) -> str:
        """Have the leader answer. See the port.

        Raises Unavailable: nothing was done, or that is not known; the message says which.
        """
        line = self._line()
        try:
            id_ = self._give(line, asked, timeout_s)
            return self._answer(line, id_, timeout_s)
        finally:
            self._give_back(line)

    def _line(self) -> _Line:
        """A connection that works. One that was kept may be broken."""
        with suppress(Empty):
            while True:
                kept = self._spare.get_nowait()
                try:
                    kept.connection.execute("SELECT")
                except (psycopg.Error, OSError):
                    close(kept.connection)
                else:
                    return kept
        with as_store_error(f"{self.place} cannot be reached"):
            return _Line(self._door)

    def _give(self, line: _Line, asked: str, timeout_s: float) -> int:
        try:
            values = [line.reply, asked, timeout_s, BUS, CHANNEL]
            given = line.connection.execute(_GIVE, values).fetchone()
        except psycopg.errors.UndefinedTable:
            raise Unavailable(
                f"The puppetmaster that leads with {self.place} is an earlier version, and takes no orders: "
                "nothing was changed. Ask that one."
            ) from None
        except (psycopg.Error, OSError) as error:
            raise Unavailable(f"Not confirmed ({sentence(error)}): {LOOK_AGAIN}.") from error
        if given is None:
            said = f"No puppetmaster leads with {self.place} at present: nothing was changed. Try again."
            with suppress(psycopg.Error, OSError):
                why = held_up(line.connection, self.place)
                said = f"{said} {why}" if why else said
            raise Unavailable(said)
        return int(given[0])

    def _answer(self, line: _Line, id_: int, timeout_s: float) -> str:
        """Wait for the answer to an order."""
        begun_s = time.monotonic()
        while True:
            try:
                line.open()
                answer = self._look(line.connection, id_)
                if answer is not None:
                    line.connection.execute(_DROP, [id_])
                    return answer
                late_s = time.monotonic() - begun_s - timeout_s
                if late_s >= 0 and line.connection.execute(_WITHDRAW, [id_]).fetchone():
                    raise Unavailable(f"Not begun within {timeout_s:g} s: nothing was changed. Try again.")
                if late_s < SLACK_S:
                    [*line.connection.notifies(timeout=LOOK_S, stop_after=1)]
            except (psycopg.Error, OSError, StoreError):
                close(line.connection)
                time.sleep(PAUSE_S)
                late_s = time.monotonic() - begun_s - timeout_s
            if late_s >= SLACK_S:
                raise Unavailable(f"Not confirmed within {timeout_s + SLACK_S:g} s: {LOOK_AGAIN}.")

    def _look(self, connection: Connection, id_: int) -> str | None:
        """The answer; None: there is none yet. Raises Unavailable: there will be none."""
        found = connection.execute(_LOOK, [id_, BUS]).fetchone()
        if found is None:
            raise Unavailable(f"Not confirmed, since the database was started again: {LOOK_AGAIN}.")
        answer, replaced = found
        if answer is None and replaced:
            raise Unavailable(f"Not confirmed, since another puppetmaster leads now: {LOOK_AGAIN}.")
        return None if answer is None else str(answer)

    @property
    def threads(self) -> Sequence[Vital]:
        """The thread that hears of changes, while there is one."""
        return () if self._watcher is None else (self._watcher.thread,)

    def watch(self, hub: Hub) -> None:
        """Post to ``hub`` from now on what the leader tells of jobs."""
        self._watcher = Watcher(self._door, self._snapshots, hub)

    def end_watching(self) -> None:
        """Post what has changed since, and end."""
        if self._watcher is not None:
            self._watcher.close()

    def _give_back(self, line: _Line) -> None:
        if not self._closed and not line.connection.closed:
            with suppress(Full):
                self._spare.put_nowait(line)
                return
        close(line.connection)

    def close(self) -> None:
        """Close all connections that are not in use. May be called twice."""
        self._closed = True
        self._snapshots.close()
        with suppress(Empty):
            while True:
                close(self._spare.get_nowait().connection)


class Taker:
    """The leader's side: takes orders in the thread ``pm-orders``, and has a few of them answered at once."""

    def __init__(self, door: Door, epoch: int, answer: Callable[[str], str]) -> None:
        self._door = door
        self._epoch = epoch
        self._do = answer
        self._over = Event()
        self._free = Semaphore(AT_ONCE)
        self._spare: LifoQueue[Connection] = LifoQueue(AT_ONCE)
        self._swept_s = 0.0
        self._workers = ThreadPoolExecutor(AT_ONCE, "pm-order")
        self.thread = Vital(target=self._run, name="pm-orders")
        self.thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            connection = None
            try:
                connection = self._door.connect()
                connection.execute(f"LISTEN {CHANNEL}")
                self._take_on(connection)
            except (psycopg.Error, OSError, StoreError) as error:
                log.debug("orders cannot be taken: %s", error)
                self._over.wait(PAUSE_S)
            finally:
                close(connection)

    def _take_on(self, connection: Connection) -> None:
        while not self._over.is_set():
            most = self._claimed()
            taken: list[tuple[int, str]] = []
            try:
                values = {"epoch": self._epoch, "most": most, "bus": BUS}
                taken = connection.execute(_TAKE, values).fetchall()
            finally:
                self._free.release(most - len(taken)) if most > len(taken) else None
            for id_, asked in taken:
                self._workers.submit(self._carry_out, id_, asked)
            if time.monotonic() >= self._swept_s:
                self._swept_s = time.monotonic() + SWEEP_S
                connection.execute(_SWEEP, [KEEP_S])
            if len(taken) < most:
                [*connection.notifies(timeout=LOOK_S, stop_after=1)]

    def _claimed(self) -> int:
        """Wait for a free worker. Returns how many are."""
        self._free.acquire()
        most = 1
        while self._free.acquire(blocking=False):
            most += 1
        return most

    def _carry_out(self, id_: int, asked: str) -> None:
        try:
            answer = self._do(asked)
            for _ in range(2):  # a connection that was kept may be broken
                try:
                    connection = self._connected()
                    connection.execute(_ANSWER, [answer, id_])
                except (psycopg.Error, OSError, StoreError) as error:
                    log.debug("order %s could not be answered: %s", id_, error)
                else:
                    self._spare.put_nowait(connection)
                    return
        except Exception:
            log.exception("order %s failed", id_, extra={"action": "order_fault"})
        finally:
            self._free.release()

    def _connected(self) -> Connection:
        with suppress(Empty):
            return self._spare.get_nowait()
        return self._door.connect()

    def close(self) -> None:
        """Take no more, and wait for those that are being carried out. May be called twice."""
        self._over.set()
        with suppress(psycopg.Error, OSError, StoreError):
            connection = self._connected()
            connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])
            close(connection)
        self.thread.join(LOOK_S)
        self._workers.shutdown()
        with suppress(Empty):
            while True:
                close(self._spare.get_nowait())
