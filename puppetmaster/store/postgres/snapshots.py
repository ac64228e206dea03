"""Connections for reading, each of which sees one committed state. Any thread may ask for one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from puppetmaster.store.base import Reader
from puppetmaster.store.postgres.connection import FOREIGN, Connection, Door, as_store_error
from puppetmaster.store.postgres.reader import PostgresReader
from puppetmaster.store.postgres.sessions import Kept

#: Most connections that are kept when nobody uses them.
SPARE = 8
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Snapshots:
    """Gives connections and readers, and keeps some of the connections."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._place = door.place
        self._kept: Kept[Connection] = Kept(SPARE, lambda connection: connection)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A reader of one committed state. Raises StoreError."""
        with self.one() as connection:
            yield PostgresReader(lambda: connection, self._place, fixed=True)

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads. Raises StoreError."""
        with as_store_error(f"{self._place} cannot be read"):
            connection = self._kept.take(_BEGIN) or self._begun()
        try:
            yield connection
            with as_store_error(f"{self._place} cannot be read"):
                connection.execute("COMMIT")
        except BaseException:
            with suppress(*FOREIGN):
                connection.execute("ROLLBACK")
            raise
        finally:
            self._kept.give_back(connection)

    def _begun(self) -> Connection:
        """A new connection with a transaction."""
        made = self._door.connect()
        made.execute(_BEGIN)
        return made

    def close(self) -> None:
        """Close all connections that are kept. May be called twice."""
        self._kept.close()
