"""Who leads a bus: one process at a time, by a row with an epoch and a lease, on the database's clock.

A leader's every transaction names its epoch, so that whoever was replaced can write nothing more. It renews
its lease with each turn, and from a thread of its own when there are none. Another process may take the lead
when the lease is over, or when all sessions of the leader are gone, as they are soon after it was killed.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock
from typing import NoReturn

import psycopg

from puppetmaster.errors import NotLeading, StoreError
from puppetmaster.store.postgres.connection import Connection, Door, close
from puppetmaster.store.postgres.schema import BUS
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.lead")

#: How long a lease is, and how often it is renewed.
LEASE_S, RENEW_S = 5.0, 1.0

_SEEN = """
SELECT epoch, owner, lease_until > now(), EXISTS (
    SELECT FROM pg_stat_activity WHERE application_name = owner AND datname = current_database())
FROM buses WHERE id = %s
"""
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %s AND datname = current_database() AND pid <> pg_backend_pid()
"""
_TAKE = """
UPDATE buses SET epoch = epoch + 1, owner = %s, lease_until = now() + make_interval(secs => %s)
WHERE id = %s AND epoch = %s RETURNING epoch
"""
_RENEW = """
UPDATE buses SET lease_until = now() + make_interval(secs => %s) WHERE id = %s AND epoch = %s RETURNING 1
"""
_RELEASE = "UPDATE buses SET owner = NULL, lease_until = '-infinity' WHERE id = %s AND epoch = %s"


def end_process(why: str) -> NoReturn:
    """End this process at once: nothing that it has in its buffers may leave."""
    log.critical("%s This process ends.", why, extra={"action": "lead_lost"})
    os._exit(NotLeading.exit_code)


class Lead:
    """The lead of the bus: ``take`` it, and then ``keep`` it.

    Args:
        door: where the database is.
        connection: one to it, for this alone from ``keep`` on.
        ended: is called from any thread when another process has taken the lead, and must not return.
    """

    def __init__(
        self, door: Door, connection: Connection, ended: Callable[[str], NoReturn] = end_process
    ) -> None:
        self._door = door
        self._ended = ended
        #: Which leader this is, counted from the first one.
        self.epoch = 0
        self._lock = Lock()  # guards _connection
        self._connection: Connection | None = connection
        self._over = Event()
        self._thread = Vital(target=self._renew_on, name="pm-lead")

    def take(self) -> int:
        """Take the lead. Returns the epoch.

        Raises:
            NotLeading: another process leads.
            psycopg.Error: the database cannot be used.
        """
        assert self._connection is not None
        epoch, owner, valid, alive = self._connection.execute(_SEEN, [BUS]).fetchone() or (0, None, 0, 0)
        if owner is not None and valid and alive:
            raise NotLeading(
                f"Another puppetmaster leads with {self._door.place} (its sessions are named '{owner}'): "
                "stop it, or give this one a database of its own."
            )
        if owner is not None:  # a transaction that it left open would hold us up
            self._connection.execute(_END_SESSIONS, [owner])
        taken = self._connection.execute(_TAKE, [self._door.name, LEASE_S, BUS, epoch]).fetchone()
        if taken is None:
            raise NotLeading(f"Another puppetmaster has just taken the lead with {self._door.place}.")
        self.epoch = int(taken[0])
        if owner is not None:
            log.info("%s: the lead is taken over from '%s'", self._door.place, owner)
        return self.epoch

    def keep(self) -> None:
        """Renew the lease from now on, until ``close``."""
        self._thread.start()

    def lost(self) -> NoReturn:
        """End: another process has taken the lead."""
        self._ended(f"Another puppetmaster has taken the lead with {self._door.place}.")

    def _renew_on(self) -> None:
        while not self._over.wait(RENEW_S):
            with self._lock:
                renewed = self._renewed()
            if not renewed and not self._over.is_set():
                self.lost()

    def _renewed(self) -> bool:
        """Renew the lease. Returns whether we lead still, as far as the database can be asked."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._door.connect()
            return bool(self._connection.execute(_RENEW, [LEASE_S, BUS, self.epoch]).fetchone())
        except (psycopg.Error, OSError, StoreError):  # the dispatcher meets the same, and says so
            close(self._connection)
            self._connection = None
            return True

    def close(self) -> None:
        """Give the lead away, so that another process may take it at once."""
        self._over.set()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None and self.epoch:
            with suppress(psycopg.Error, OSError):
                connection.execute(_RELEASE, [BUS, self.epoch])
        close(connection)
        self._thread.join()
