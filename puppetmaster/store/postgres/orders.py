"""Orders: what a process that does not lead asks of the leader. Each is a row in ``orders``.

The leader takes an order before it does anything for it, with its epoch, and no order is taken twice. So an
order is carried out once or not at all, whoever dies meanwhile.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from threading import Event, Semaphore, Thread

import psycopg

from puppetmaster.errors import LOOK_AGAIN, Unavailable
from puppetmaster.events import Hub
from puppetmaster.store.base import Elsewhere, Reader
from puppetmaster.store.postgres.changes import Watcher
from puppetmaster.store.postgres.connection import (
    FAULTS,
    FOREIGN,
    QUICK_S,
    Connection,
    Door,
    as_store_error,
    close,
    sentence,
)
from puppetmaster.store.postgres.durability import held_up
from puppetmaster.store.postgres.schema import BUS
from puppetmaster.store.postgres.sessions import LOOK_S, PAUSE_S, Kept, listen, wait
from puppetmaster.store.postgres.snapshots import SPARE, Snapshots
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.orders")

#: On this channel the leader is told that there is an order.
CHANNEL = "puppetmaster_orders"
#: Most orders that are carried out at once.
AT_ONCE = 8
#: For how many seconds after the end of the leader's time to answer its asker still waits.
SLACK_S = 5.0
#: For how many seconds ``Taker.close`` waits for orders that were taken.
END_S = 2.0
#: How long an order is kept after its time is over, and how often older ones are looked for.
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
        made.answer_s = QUICK_S  # nothing that is said there takes longer
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
        self._kept: Kept[_Line] = Kept(SPARE, lambda line: line.connection)
        self._watcher: Watcher | None = None

    def reading(self) -> AbstractContextManager[Reader]:
        """A reader of one committed state. Raises StoreError."""
        return self._snapshots.reading()

    def ask(self, asked: str, timeout_s: float) -> str:
        """Have the leader answer. See the port.

        Raises Unavailable: nothing was done, or that is not known; the message says which.
        """
        with as_store_error(f"{self.place} cannot be reached"):
            line = self._kept.take("SELECT") or self._line()
        try:
            id_ = self._give(line, asked, timeout_s)
            return self._answer(line, id_, timeout_s)
        finally:
            self._kept.give_back(line)

    def _line(self) -> _Line:
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
        except FOREIGN as error:
            raise Unavailable(f"Not confirmed ({sentence(error)}): {LOOK_AGAIN}.") from error
        if given is None:
            said = f"No puppetmaster leads with {self.place} at present: nothing was changed. Try again."
            with suppress(*FOREIGN):
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
                    with suppress(*FOREIGN):  # else the leader drops it, when its time is over
                        line.connection.execute(_DROP, [id_])
                    return answer
                late_s = time.monotonic() - begun_s - timeout_s
                if late_s >= 0 and line.connection.execute(_WITHDRAW, [id_]).fetchone():
                    raise Unavailable(f"Not begun within {timeout_s:g} s: nothing was changed. Try again.")
                if late_s < SLACK_S:
                    wait(line.connection)
            except FAULTS:
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
        """Post the changes since the last telling, and end."""
        if self._watcher is not None:
            self._watcher.close()

    def close(self) -> None:
        """Close all connections that are not in use. May be called twice."""
        self._snapshots.close()
        self._kept.close()


class Taker:
    """The leader's side: takes orders in the thread ``pm-orders``, and has a few of them answered at once."""

    def __init__(self, door: Door, epoch: int, answer: Callable[[str], str]) -> None:
        self._door = door
        self._epoch = epoch
        self._do = answer
        self._over = Event()
        self._free = Semaphore(AT_ONCE)
        self._kept: Kept[Connection] = Kept(AT_ONCE, lambda connection: connection)
        self._swept_s = 0.0
        self.thread = Vital(target=lambda: listen(door, CHANNEL, self._over, self._take_on), name="pm-orders")
        self.thread.start()

    def _take_on(self, connection: Connection) -> None:
        while not self._over.is_set():
            most = self._claimed()
            taken: list[tuple[int, str]] = []
            try:
                if self._over.is_set():  # while it was waited for
                    return
                values = {"epoch": self._epoch, "most": most, "bus": BUS}
                taken = connection.execute(_TAKE, values).fetchall()
            finally:
                if most > len(taken):
                    self._free.release(most - len(taken))
            for id_, asked in taken:
                # Not a pool's thread: such a thread keeps the process from ending.
                Thread(target=self._carry_out, args=(id_, asked), name="pm-order", daemon=True).start()
            if time.monotonic() >= self._swept_s:
                self._swept_s = time.monotonic() + SWEEP_S
                connection.execute(_SWEEP, [KEEP_S])
            if len(taken) < most:
                wait(connection)

    def _claimed(self) -> int:
        """Wait for a free worker, and claim all that are free. Returns their number."""
        self._free.acquire()
        most = 1
        while self._free.acquire(blocking=False):
            most += 1
        return most

    def _carry_out(self, id_: int, asked: str) -> None:
        try:
            self._run(_ANSWER, [self._do(asked), id_])
        except FAULTS as error:
            log.debug("order %s could not be answered: %s", id_, error)
        except Exception:
            log.exception("order %s failed", id_, extra={"action": "order_fault"})
        finally:
            self._free.release()

    def _run(self, sql: str, values: Sequence[object]) -> None:
        """Run a statement over a connection that works. Raises ``FAULTS``."""
        connection = self._kept.take("SELECT") or self._door.connect()
        try:
            connection.execute(sql, values)
        except BaseException:
            close(connection)
            raise
        self._kept.give_back(connection)

    def close(self) -> None:
        """Take no more orders, and wait up to ``END_S`` for those that are being carried out.

        May be called twice.
        """
        if self._over.is_set():
            return
        self._over.set()
        until_s = time.monotonic() + END_S
        Thread(target=self._wake, name="pm-order", daemon=True).start()
        self.thread.join(LOOK_S)
        for _ in range(AT_ONCE):
            self._free.acquire(timeout=max(0.0, until_s - time.monotonic()))
        self._kept.close()

    def _wake(self) -> None:
        """Have the thread see that it is over. It sees that by itself, a second later."""
        with suppress(*FAULTS):
            self._run("SELECT pg_notify(%s, '')", [CHANNEL])
