"""Who leads a bus: one process at a time, by a row with an epoch and a lease, on the database's clock.

A leader's every transaction names its epoch, so that whoever was replaced can write nothing more. It renews
its lease with each turn, and from a thread of its own when there are none. Another process may take the lead
when the lease is over, or when all sessions of the leader are gone, as they are soon after it was killed.

A transaction is not all that a leader does: it sends and acknowledges. For that it has a window of trust, on
its own monotonic clock, which is over before the lease is, and at once when a connection is lost.
"""

import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock
from typing import NamedTuple, NoReturn

import psycopg

from puppetmaster.errors import NotLeading, StoreError
from puppetmaster.model.leadership import Free, Leadership
from puppetmaster.store.postgres.connection import Connection, Door, close
from puppetmaster.store.postgres.schema import BUS
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.lead")

#: How long a lease is, how often it is renewed, and by how much the window of trust is shorter.
LEASE_S, RENEW_S, MARGIN_S = 5.0, 1.0, 1.0
#: How often one that waits for the lead looks, and in how many looks in a row a leader has no session.
LOOK_S, GONE = 0.2, 2
#: How long ``close`` waits for a server that does not answer.
CLOSE_S = 2.0

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
WHERE id = %s AND epoch = %s
RETURNING epoch, tunnel, extract(epoch FROM now())::float8
"""
_RENEW = """
UPDATE buses SET lease_until = now() + make_interval(secs => %s) WHERE id = %s AND epoch = %s RETURNING 1
"""
_REGISTER = "UPDATE buses SET tunnel = %s WHERE id = %s AND epoch = %s"
_RELEASE = "UPDATE buses SET owner = NULL, lease_until = '-infinity' WHERE id = %s AND epoch = %s"


def end_process(why: str) -> NoReturn:
    """End this process at once: nothing that it has in its buffers may leave."""
    log.critical("%s This process ends.", why, extra={"action": "lead_lost"})
    os._exit(NotLeading.exit_code)


class _Seen(NamedTuple):
    """The row of the bus."""

    epoch: int
    #: The name of the leader's sessions; None: nobody leads.
    owner: str | None
    #: Whether its lease is not over.
    valid: bool
    #: Whether it has a session.
    alive: bool

    @property
    def free(self) -> Free:
        """Why the lead can be taken, if it can."""
        if self.owner is None:
            return Free.STOPPED if self.epoch else Free.FIRST
        return Free.EXPIRED if self.alive else Free.GONE


class Lead:
    """The lead of the bus: ``take`` it, or ``wait`` for it, and then ``keep`` it.

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
        #: The tunnel on which the leader before us was registered; None: not known.
        self.tunnel: str | None = None
        self._since_s = 0.0
        self._taken_from: _Seen | None = None
        self._lease_until_s = self._trusted_until_s = -math.inf
        self._lock = Lock()  # guards _connection
        self._connection: Connection | None = connection
        self._over = Event()
        self.thread = Vital(target=self._renew_on, name="pm-lead")

    def take(self) -> int:
        """Take the lead. Returns the epoch.

        Raises:
            NotLeading: another process leads.
            psycopg.Error: the database cannot be used.
        """
        seen = self._look()
        if seen.owner is not None and seen.valid and seen.alive:
            raise NotLeading(f"{self._who_leads(seen)}: stop it, or give this one a database of its own.")
        if not self._taken(seen):
            raise NotLeading(f"Another puppetmaster has just taken the lead with {self._door.place}.")
        return self.epoch

    def wait(self, waiting: Callable[[str], None], pause: Callable[[float], object] = time.sleep) -> int:
        """Take the lead as soon as it is free. Returns the epoch.

        ``waiting`` is called again and again, with a sentence that says what is waited for.
        """
        gone, told, sessions_tell_s = 0, "", 0.0
        while True:
            try:
                seen = self._look()
                gone = 0 if seen.alive or time.monotonic() < sessions_tell_s else gone + 1
                if (seen.owner is None or not seen.valid or gone >= GONE) and self._taken(seen):
                    return self.epoch
                said = f"{self._who_leads(seen)}: this one waits to take over."
            except (psycopg.Error, OSError, StoreError) as error:
                # A server that was started again has lost the leader's sessions too, not the leader.
                sessions_tell_s = time.monotonic() + LEASE_S
                said = str(error).strip()
                close(self._connection)
            if said != told:
                log.info("%s", said, extra={"action": "standby"})
                told = said
            waiting(said)
            pause(LOOK_S)

    def _who_leads(self, seen: _Seen) -> str:
        return f"Another puppetmaster leads with {self._door.place} (its sessions are named '{seen.owner}')"

    def _look(self) -> _Seen:
        found = self._connected().execute(_SEEN, [BUS]).fetchone()
        assert found is not None
        return _Seen(*found)

    def _taken(self, seen: _Seen) -> bool:
        """Take the lead, if nobody was faster."""
        if seen.owner is not None:  # a transaction that it left open would hold us up
            self._connected().execute(_END_SESSIONS, [seen.owner])
        begun_s = time.monotonic()
        taken = self._connected().execute(_TAKE, [self._door.name, LEASE_S, BUS, seen.epoch]).fetchone()
        if taken is None:
            return False
        self.epoch, self.tunnel, self._since_s = int(taken[0]), taken[1], float(taken[2])
        self._taken_from = seen
        self.renewed(begun_s)
        level = logging.INFO if seen.owner is None else logging.WARNING
        said = "%s: this one ('%s') leads, as leader number %d: %s"
        shown = self.shown()
        log.log(
            level, said, self._door.place, shown.name, shown.epoch, shown.why, extra={"action": "lead_taken"}
        )
        return True

    def shown(self) -> Leadership:
        """The lead as it is now. For any thread; asks nobody. We must have taken it."""
        taken_from = self._taken_from
        assert taken_from is not None
        return Leadership(
            name=self._door.name,
            epoch=self.epoch,
            since_s=self._since_s,
            free=taken_from.free,
            former=taken_from.owner,
            lease_s=max(0.0, self._lease_until_s - time.monotonic()),
            sure=self.trusted,
        )

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._door.connect()
        return self._connection

    def keep(self) -> None:
        """Renew the lease from now on, until ``close``."""
        self.thread.start()

    def renewed(self, begun_s: float) -> None:
        """Note that a transaction that began at ``begun_s`` (monotonic clock) has renewed the lease."""
        self._lease_until_s = max(self._lease_until_s, begun_s + LEASE_S)
        self._trusted_until_s = max(self._trusted_until_s, begun_s + LEASE_S - MARGIN_S)

    def doubt(self) -> None:
        """Note that a connection was lost: another process may take the lead now."""
        self._trusted_until_s = -math.inf

    @property
    def trusted(self) -> bool:
        """Whether no other process can have taken the lead yet. For any thread; asks nobody."""
        return time.monotonic() < self._trusted_until_s

    def confirm(self) -> bool:
        """Ask the database whether we lead, and renew the lease. For any thread.

        Returns False when it cannot be asked. When we do not lead, this does not return.
        """
        with self._lock:
            led = self._renewed()
        if led is False and not self._over.is_set():
            self.lost()
        return bool(led)

    def register(self, tunnel: str | None) -> None:
        """Keep the tunnel on which we are registered, for the next leader; if that fails, there is none."""
        with self._lock, suppress(psycopg.Error, OSError, StoreError):
            self._connected().execute(_REGISTER, [tunnel, BUS, self.epoch])

    def lost(self) -> NoReturn:
        """End: another process has taken the lead."""
        self._ended(f"Another puppetmaster has taken the lead with {self._door.place}.")

    def _renew_on(self) -> None:
        while not self._over.wait(RENEW_S):
            self.confirm()

    def _renewed(self) -> bool | None:
        """Renew the lease. Returns whether we lead; None: the database cannot be asked."""
        begun_s = time.monotonic()
        try:
            led = bool(self._connected().execute(_RENEW, [LEASE_S, BUS, self.epoch]).fetchone())
        except (psycopg.Error, OSError, StoreError):  # the dispatcher meets the same, and says so
            self.doubt()
            close(self._connection)
            return None
        if led:
            self.renewed(begun_s)
        return led

    def close(self) -> None:
        """Give the lead away, so that another process may take it at once."""
        self._over.set()
        if self._lock.acquire(timeout=CLOSE_S):  # else the server does not answer: the lease will be over
            connection, self._connection = self._connection, None
            self._lock.release()
            if connection is not None and self.epoch:
                with suppress(psycopg.Error, OSError):
                    connection.execute(_RELEASE, [BUS, self.epoch])
            close(connection)
        self.thread.join(CLOSE_S)
