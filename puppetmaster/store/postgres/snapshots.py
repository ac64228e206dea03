"""Connections for reading, each of which sees one committed state. Any thread may ask for one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, LifoQueue

import psycopg

from puppetmaster.store.base import Reader
from puppetmaster.store.postgres import connection as connections
from puppetmaster.store.postgres.connection import Connection, Door, as_store_error
from puppetmaster.store.postgres.reader import PostgresReader

#: Most connections that are kept when nobody uses them.
SPARE = 8


class Snapshots:
    """Gives connections and readers, and keeps some of the connections."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._place = door.place
        self._spare: LifoQueue[Connection] = LifoQueue(SPARE)
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A reader of one committed state. Raises StoreError."""
        with self.one() as connection:
            yield PostgresReader(lambda: connection, self._place, fixed=True)

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads. Raises StoreError."""
        connection = self._begun()
        try:
            yield connection
            with as_store_error(f"{self._place} cannot be read"):
                connection.execute("COMMIT")
        except BaseException:
            with suppress(psycopg.Error, OSError):
                connection.execute("ROLLBACK")
            raise
        finally:
            self._give_back(connection)

    def _begun(self) -> Connection:
        """A connection with a transaction. One that was kept may be broken: then another one is taken."""
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with suppress(Empty):
            while True:
                kept = self._spare.get_nowait()
                try:
                    kept.execute(begin)
                except (psycopg.Error, OSError):
                    connections.close(kept)
                else:
                    return kept
        made = self._door.connect()
        with as_store_error(f"{self._place} cannot be read"):
            made.execute(begin)
        return made

    def _give_back(self, connection: Connection) -> None:
        if not self._closed and not connection.closed:
            with suppress(Full):
                self._spare.put_nowait(connection)
                return
        connections.close(connection)

    def close(self) -> None:
        """Close all connections that are kept. May be called twice."""
        self._closed = True
        with suppress(Empty):
            while True:
                connections.close(self._spare.get_nowait())
