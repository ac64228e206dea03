"""The writer's connection: a turn is one pipeline, and its outcome is always found out.

When the connection is lost while a turn is under way, PostgreSQL may have committed it. The turn's number
tells: it stands in the row of the bus, and a turn writes it first. It is read by claiming the next number, so
that a turn that is still on its way can no longer be committed.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, tee

import psycopg

from puppetmaster.errors import NotKnown, StoreError
from puppetmaster.store.base import Ids
from puppetmaster.store.postgres import connection as connections
from puppetmaster.store.postgres.connection import Call, Connection, Door, Lost, as_store_error
from puppetmaster.store.postgres.lead import LEASE_S, Lead
from puppetmaster.store.postgres.rows import FENCE, STATEMENTS, undone
from puppetmaster.store.postgres.schema import BUS

log = logging.getLogger("sanji.puppetmaster.store.postgres.turns")

#: For how many seconds a turn of unknown outcome is asked for, before its callers are told that nobody knows.
SETTLE_S = 3.0
PAUSE_S = 0.1

#: The number of a turn of unknown outcome -> one more than it if it was not committed, two more if it was. To
#: ask twice gives the same. (In docs/model/takeover.pml this is the label ``committed``, which only reads the
#: number.)
_CLAIM = """
UPDATE buses SET turn = $1::bigint + CASE WHEN turn IN ($1::bigint, $1::bigint + 2) THEN 2 ELSE 1 END,
    lease_until = now() + make_interval(secs => $2::float8)
WHERE id = $3::int AND epoch = $4::bigint RETURNING turn
"""


class NotThere(Exception):
    """A request that was to be changed is not there."""


class Turns:
    """Commits one turn after the other, for the one thread that writes. Raises StoreError."""

    def __init__(self, door: Door, lead: Lead, connection: Connection) -> None:
        self._place = door.place
        self._door = door
        self._lead = lead
        self._connection = connection
        #: Whether the connection knows the statements.
        self._prepared = False
        #: Whether the last turn was committed, is not known.
        self._in_doubt = False
        #: Whether a turn was committed that its caller was told of as failed.
        self._to_undo = False
        with as_store_error(f"{door.place} cannot be read"):
            sql = "SELECT turn, next_job, next_request, next_template FROM buses WHERE id = %s"
            found = self._connected().execute(sql, [BUS]).fetchone()
        assert found is not None
        self._turn = int(found[0])
        #: The next ids, as last committed.
        self.ids = Ids(*map(int, found[1:]))

    @property
    def connection(self) -> Connection:
        """The connection, for what the writer reads. Raises StoreError: there is none."""
        return self._connected()

    def write(self, calls: Iterable[Call], ids: Ids | None = None) -> None:
        """Commit a turn. Each call is asked for when those before it are on their way.

        Raises:
            StoreError: nothing was committed.
            NotKnown: nothing was committed as far as we know, and what was is undone with the next turn.
            NotThere: nothing was committed.
            Exception: what ``calls`` raised; nothing was committed.
        """
        ids = ids or self.ids
        calls, again = tee(calls)
        try:
            self._write(calls, ids)
        except Lost as lost:
            self._settle(list(again), ids, lost)
        self.ids = replace(ids)
        self._to_undo = False

    def fill(self, parts: Iterable[Sequence[Call]], ids: Ids) -> None:
        """Commit a turn of many parts, which need not be in memory together. Raises StoreError."""
        with as_store_error(f"{self._place} cannot be written"):
            connection = self._connected()
            with connection.transaction():
                connections.pipeline(connection, [self._fence(self._turn + 1, ids)])
                for calls in parts:
                    connections.pipeline(connection, calls)
            self._turn += 1
        self.ids = replace(ids)

    def _fence(self, turn: int, ids: Ids) -> Call:
        values = (BUS, self._lead.epoch, turn, ids.next_job, ids.next_request, LEASE_S, ids.next_template)
        return FENCE, [str(one) for one in values]

    def _write(self, calls: Iterable[Call], ids: Ids) -> None:
        """Commit a turn. Raises StoreError: it was not. Lost: that is not known."""
        # In docs/model/takeover.pml this is the label ``write``.
        connection = self._connected()
        if self._in_doubt:
            self._to_undo = self._committed(connection) or self._to_undo
        turn, begun_s = self._turn + 1, time.monotonic()
        before = undone(self.ids) if self._to_undo else []
        try:
            connections.pipeline(connection, chain([self._fence(turn, ids), *before], calls))
        except Lost:
            self._turn, self._in_doubt = turn, True
            self._lead.doubt()
            raise
        except psycopg.errors.DivisionByZero:
            self._lead.lost()
        except psycopg.errors.InvalidArgumentForPowerFunction as error:
            raise NotThere from error
        except psycopg.Error as error:
            raise StoreError(f"{self._place} cannot be written: {connections.sentence(error)}.") from error
        self._turn = turn
        self._lead.renewed(begun_s)

    def _settle(self, calls: Sequence[Call], ids: Ids, lost: Lost) -> None:
        """Find out whether the turn was committed; if not, commit it again. Raises NotKnown."""
        # In docs/model/takeover.pml this is the label ``again``.
        until_s = time.monotonic() + SETTLE_S
        why = connections.sentence(lost)
        while True:
            try:
                if self._in_doubt and self._committed(self._connected()):
                    return
                self._write(calls, ids)
            except (Lost, StoreError) as error:
                why = connections.sentence(error)
                if not self._in_doubt:
                    raise StoreError(f"{self._place} cannot be written: {why}.") from error
            else:
                return
            if time.monotonic() >= until_s:
                raise NotKnown(f"{self._place} cannot be written: {why}.") from lost
            time.sleep(PAUSE_S)

    def _committed(self, connection: Connection) -> bool:
        """Settle the doubt. Returns whether the turn was committed. Raises StoreError: it cannot be asked."""
        begun_s = time.monotonic()
        values = [str(one) for one in (self._turn, LEASE_S, BUS, self._lead.epoch)]
        with as_store_error(f"{self._place} cannot be read"):
            found = connections.ask(connection, _CLAIM, values)
        if found is None:
            self._lead.lost()
        claimed = int(found[0] or 0)
        committed = claimed == self._turn + 2
        self._turn, self._in_doubt = claimed, False
        self._lead.renewed(begun_s)
        log.info(
            "%s: the turn at which the connection was lost was %scommitted",
            self._place,
            "" if committed else "not ",
            extra={"action": "turn_settled"},
        )
        return committed

    def _connected(self) -> Connection:
        if self._connection.closed:
            self._connection, self._prepared = self._door.connect(), False
        if not self._prepared:
            try:
                with as_store_error(f"{self._place} cannot be used"):
                    connections.prepare(self._connection, STATEMENTS)
            except BaseException:
                connections.close(self._connection)
                raise
            self._prepared = True
        return self._connection

    def close(self) -> None:
        """Close the connection. May be called twice."""
        connections.close(self._connection)
