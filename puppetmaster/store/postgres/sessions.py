"""Sessions with the database: some are kept for their next use, and some listen."""

import logging
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, LifoQueue
from threading import Event
from typing import Generic, TypeVar

from puppetmaster.store.postgres.connection import (
    FAULTS,
    FOREIGN,
    QUICK_S,
    Connection,
    Door,
    Silent,
    close,
)

log = logging.getLogger("sanji.puppetmaster.store.postgres.sessions")

#: A notification can be lost with its connection: a thread that waits for one looks this often.
LOOK_S = 1.0
#: The pause before the next try to reach the database.
PAUSE_S = 0.2

S = TypeVar("S")


class Kept(Generic[S]):
    """Sessions that nobody uses at present. Any thread may call.

    Args:
        most: most that are kept.
        connection: the connection of a session.
    """

    def __init__(self, most: int, connection: Callable[[S], Connection]) -> None:
        self._sessions: LifoQueue[S] = LifoQueue(most)
        self._connection = connection
        self._closed = Event()

    def take(self, begin: str) -> S | None:
        """A session that works: the statement ``begin`` was run in it. None: there is none.

        Broken sessions, as after a restart of the server, are closed. Raises Silent: the server says nothing.
        """
        with suppress(Empty):
            while True:
                session = self._sessions.get_nowait()
                connection = self._connection(session)
                try:
                    with connection.within(QUICK_S):
                        connection.execute(begin)
                except Silent:  # nor would the others be answered
                    raise
                except FOREIGN:
                    close(connection)
                else:
                    return session
        return None

    def give_back(self, session: S) -> None:
        """Keep a session for its next use, or close it."""
        connection = self._connection(session)
        if not self._closed.is_set() and not connection.closed:
            with suppress(Full):
                self._sessions.put_nowait(session)
                if self._closed.is_set():  # meanwhile, by another thread
                    self.close()
                return
        close(connection)

    def close(self) -> None:
        """Close all sessions that are kept, and all that are given back from now on. May be called twice."""
        self._closed.set()
        with suppress(Empty):
            while True:
                close(self._connection(self._sessions.get_nowait()))


def listen(door: Door, channel: str, over: Event, hear: Callable[[Connection], object]) -> None:
    """Listen on a channel until ``over`` is set. ``hear`` is called with each connection that does.

    It is called again, with another connection, when it has raised an error of the database.
    """
    while not over.is_set():
        connection = None
        try:
            connection = door.connect()
            connection.execute(f"LISTEN {channel}")
            hear(connection)
        except FAULTS as error:
            log.debug("%s cannot be listened to: %s", channel, error)
            over.wait(PAUSE_S)
        finally:
            close(connection)


def wait(connection: Connection, timeout_s: float = LOOK_S) -> set[str]:
    """Wait for a notification, or ``timeout_s``. Returns what was said.

    Raises psycopg.Error: the connection is lost.
    """
    return {said.payload for said in connection.notifies(timeout=timeout_s, stop_after=1)}
