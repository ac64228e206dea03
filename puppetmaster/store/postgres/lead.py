"""Who leads a bus: one process at a time, by a row with an epoch and a lease, on the database's clock.

A leader's every transaction names its epoch, so that a leader that was replaced can write nothing more. It
renews its lease with each turn, and from a thread of its own when there are no turns. Another process may
take the lead when the lease is over, or when all sessions of the leader are gone, as they are soon after it
was killed.

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

from puppetmaster.errors import NotLeading
from puppetmaster.model.leadership import Free, Leadership
from puppetmaster.store.postgres import sessions
from puppetmaster.store.postgres.connection import FAULTS, FOREIGN, Connection, Door, ask, close
from puppetmaster.store.postgres.schema import BUS
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.lead")

#: How long a lease is, how often it is renewed, and by how much the window of trust is shorter.
LEASE_S, RENEW_S, MARGIN_S = 5.0, 1.0, 1.0
#: How often a process that waits for the lead looks, and for how long the leader must have no session.
LOOK_S, GONE_S = 0.2, 0.1
#: On this channel the processes that wait are told that the lead is free.
CHANNEL = "puppetmaster_lead"
#: What a leader without a broker asks there, and what a process that waits and reaches the broker answers.
ASKED, REACHED = "who reaches the broker?", "the broker is reached"
#: After the first time without a broker a leader resigns; after the second, if it never had a broker.
RESIGN_S, RESIGN_UNTRIED_S = 5.0, 60.0
#: How many times the leader asks before it resigns, and how many answers it must have heard.
ASKS = 2
#: How long ``close`` waits for a server that does not answer.
CLOSE_S = 2.0

_SEEN = """
SELECT epoch, owner,
    CASE WHEN lease_until > now() THEN extract(epoch FROM lease_until - now())::float8 ELSE 0 END, EXISTS (
    SELECT FROM pg_stat_activity WHERE application_name = owner AND datname = current_database())
FROM buses WHERE id = %s
"""
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %s AND datname = current_database() AND pid <> pg_backend_pid()
"""
_TAKE = """
UPDATE buses SET epoch = epoch + 1, owner = $1::text, lease_until = now() + make_interval(secs => $2::float8)
WHERE id = $3::int AND epoch = $4::bigint
RETURNING epoch, tunnel, extract(epoch FROM now())::float8
"""
_RENEW = """
UPDATE buses SET lease_until = now() + make_interval(secs => %s) WHERE id = %s AND epoch = %s RETURNING 1
"""
_REGISTER = "UPDATE buses SET tunnel = %s WHERE id = %s AND epoch = %s"
_RELEASE = """
WITH free AS (
    UPDATE buses SET owner = NULL, lease_until = '-infinity' WHERE id = %s AND epoch = %s RETURNING id
) SELECT pg_notify(%s, '') FROM free
"""


def end_process(why: str) -> NoReturn:
    """End this process at once: nothing that it has in its buffers may leave."""
    log.critical("%s This process ends.", why, extra={"action": "lead_lost"})
    os._exit(NotLeading.exit_code)


class _Seen(NamedTuple):
    """The row of the bus."""

    epoch: int
    #: The name of the leader's sessions; None: nobody leads.
    owner: str | None
    #: For how long its lease is not over.
    left_s: float
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
        connection: one to it, until ``keep``.
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
        #: When the latest transaction began that has renewed the lease, and when a connection was last lost.
        self._renewed_s = self._doubted_s = -math.inf
        self._lock = Lock()  # guards _connection
        self._connection: Connection | None = connection
        self._over = Event()
        #: Whether we have the broker (None: we never had), and what to do if another process has it.
        self.connected: Callable[[], bool | None] = lambda: True
        self.resign: Callable[[], object] = lambda: None
        self._answers, self._cut_s, self._resign_s = 0, math.inf, RESIGN_UNTRIED_S
        self._hears: Connection | None = None  # the connection on which the channel is listened to
        self.thread = Vital(target=self._renew_on, name="pm-lead")

    def take(self) -> int:
        """Take the lead. Returns the epoch.

        Raises:
            NotLeading: another process leads.
            psycopg.Error: the database cannot be used.
        """
        seen = self._look()
        if seen.owner is not None and seen.left_s > 0 and seen.alive:
            raise NotLeading(f"{self._who_leads(seen)}: stop it, or give this one a database of its own.")
        if not self._taken(seen):
            raise NotLeading(f"Another puppetmaster has just taken the lead with {self._door.place}.")
        return self.epoch

    def wait(self, waiting: Callable[[str], None], reaches: Callable[[], bool] = lambda: False) -> int:
        """Take the lead as soon as it is free. Returns the epoch.

        ``waiting`` is called again and again, with a sentence that says what is waited for. ``reaches`` is
        whether the broker can be reached, and is asked for when the leader wants to know.
        """
        told, gone_s, sessions_tell_s, pause_s = "", math.inf, 0.0, LOOK_S
        while True:
            try:
                if ASKED in self._heard(pause_s) and reaches():
                    self._say(REACHED)
                seen, now_s = self._look(), time.monotonic()
                gone_s = math.inf if seen.alive or now_s < sessions_tell_s else min(gone_s, now_s)
                # In docs/model/takeover.pml this is the label ``standby``, with the guard ``free``.
                free = seen.owner is None or seen.left_s <= 0 or now_s - gone_s >= GONE_S
                if free and self._taken(seen):
                    with suppress(*FOREIGN):
                        self._connected().execute(f"UNLISTEN {CHANNEL}")
                    return self.epoch
                said = f"{self._who_leads(seen)}: this one waits to take over."
                pause_s = min(LOOK_S, seen.left_s, GONE_S if gone_s < math.inf else LOOK_S)
            except FAULTS as error:
                # A server that was started again has lost the leader's sessions too, not the leader.
                sessions_tell_s = time.monotonic() + LEASE_S
                said = str(error).strip()
                close(self._connection)
                self._over.wait(LOOK_S)
            if said != told:
                log.info("%s", said, extra={"action": "standby"})
                told = said
            waiting(said)

    def _heard(self, timeout_s: float) -> set[str]:
        """The messages on the channel. Waits for the first one, unless nobody has listened yet."""
        connection = self._connected()
        if connection is not self._hears:
            connection.execute(f"LISTEN {CHANNEL}")
            self._hears = connection
            return set()
        return sessions.wait(connection, timeout_s)

    def _say(self, what: str) -> None:
        self._connected().execute("SELECT pg_notify(%s, %s)", [CHANNEL, what])

    def _who_leads(self, seen: _Seen) -> str:
        return f"Another puppetmaster leads with {self._door.place} (its sessions are named '{seen.owner}')"

    def _look(self) -> _Seen:
        found = self._connected().execute(_SEEN, [BUS]).fetchone()
        assert found is not None
        return _Seen(*found)

    def _taken(self, seen: _Seen) -> bool:
        """Take the lead, if nobody was faster."""
        # A transaction that the leader left open would hold us up.
        self._connected().execute(_END_SESSIONS, [seen.owner])
        begun_s = time.monotonic()
        values = [self._door.name, str(LEASE_S), str(BUS), str(seen.epoch)]
        taken = ask(self._connected(), _TAKE, values)
        if taken is None:
            return False
        epoch, self.tunnel, since_s = taken
        self.epoch, self._since_s = int(epoch or 0), float(since_s or 0)
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
            lease_s=max(0.0, self._renewed_s + LEASE_S - time.monotonic()),
            sure=self.trusted,
        )

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._door.connect()
        return self._connection

    def keep(self) -> Connection:
        """Renew the lease from now on, until ``close``, over a connection of its own.

        Returns the connection that was used until now.
        """
        kept = self._connected()
        with self._lock:
            self._connection = None
        self.thread.start()
        return kept

    def renewed(self, begun_s: float) -> None:
        """Note that a transaction that began at ``begun_s`` (monotonic clock) has renewed the lease."""
        self._renewed_s = max(self._renewed_s, begun_s)

    def doubt(self) -> None:
        """Note that a connection was lost: another process may take the lead now.

        What began before does not end the doubt, even if it is noted only later, by another thread.
        """
        self._doubted_s = time.monotonic()

    @property
    def trusted(self) -> bool:
        """Whether no other process can have taken the lead yet. For any thread; asks nobody."""
        renewed_s = self._renewed_s
        return self._doubted_s <= renewed_s and time.monotonic() < renewed_s + LEASE_S - MARGIN_S

    def confirm(self) -> bool:
        """Ask the database whether we lead, and renew the lease. For any thread.

        Returns False when it cannot be asked. When we do not lead, this does not return.
        """
        # In docs/model/takeover.pml this is ``permit``.
        with self._lock:
            led = None if self._over.is_set() else self._renewed()
        if led is False and not self._over.is_set():
            self.lost()
        return bool(led)

    def register(self, tunnel: str | None) -> None:
        """Keep the tunnel on which we are registered, for the next leader; if that fails, there is none."""
        with self._lock, suppress(*FAULTS):
            if not self._over.is_set():  # a connection that is made now would never be closed
                self._connected().execute(_REGISTER, [tunnel, BUS, self.epoch])

    def lost(self) -> NoReturn:
        """End: another process has taken the lead."""
        # In docs/model/takeover.pml this is the label ``gone``. In the model no leader stops or resigns.
        self._ended(f"Another puppetmaster has taken the lead with {self._door.place}.")

    def _renew_on(self) -> None:
        with self._lock, suppress(*FAULTS):
            if not self._over.is_set():
                self._connected()  # now: a permit is asked for in a moment
        while not self._over.wait(RENEW_S):
            if self.confirm():
                self._look_for_a_better()

    def _look_for_a_better(self) -> None:
        """Resign, if we have had no broker for a while and a process that waits has reached it meanwhile."""
        now_s = time.monotonic()
        if (connected := self.connected()) is not None:
            self._resign_s = RESIGN_S
        if connected:
            self._answers, self._cut_s = 0, math.inf
            return
        self._cut_s = min(self._cut_s, now_s)
        cut_s = now_s - self._cut_s
        if cut_s < self._resign_s - ASKS * RENEW_S:
            return
        with self._lock, suppress(*FAULTS):
            if not self._over.is_set():
                self._answers += REACHED in self._heard(0)
                self._say(ASKED)
        if self._answers >= ASKS and cut_s >= self._resign_s:
            said = "There has been no connection to the broker for %.0f s, and another process reaches it: "
            log.warning(said + "this one resigns.", cut_s, extra={"action": "lead_resigned"})
            self._answers, self._cut_s = 0, now_s
            self.resign()

    def _renewed(self) -> bool | None:
        """Renew the lease. Returns whether we lead; None: the database cannot be asked."""
        begun_s = time.monotonic()
        try:
            led = bool(self._connected().execute(_RENEW, [LEASE_S, BUS, self.epoch]).fetchone())
        except FAULTS:  # the dispatcher meets the same, and says so
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
            for _ in range(2 if self.epoch else 0):  # the connection may be broken
                with suppress(*FAULTS), (connection := self._connected()).within(CLOSE_S):
                    connection.execute(_RELEASE, [BUS, self.epoch, CHANNEL])
                    break
            close(self._connection)
            self._connection = None
            self._lock.release()
        self.thread.join(CLOSE_S)
