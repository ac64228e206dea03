"""Jobs and requests in PostgreSQL. See ``schema`` for the tables, ``turns`` for how they are written.

The dispatcher's thread writes, through ``commit``: one transaction in one round trip for any number of
changes. All other threads read through ``reading()``, each over a connection of its own, one state each.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from itertools import chain
from typing import NoReturn

import psycopg

from puppetmaster.errors import StoreError
from puppetmaster.events import Hub
from puppetmaster.model.job import FINAL
from puppetmaster.model.leadership import Leadership
from puppetmaster.model.why import Reason
from puppetmaster.store.base import (
    MOST_LEARNED,
    PRUNED_AT_ONCE,
    REQUEST_BYTES,
    Changes,
    Ended,
    Ids,
    Look,
    Reader,
    Store,
    ahead,
    first_request_id,
    jobs_held,
    templates_held,
)
from puppetmaster.store.datadir import Known
from puppetmaster.store.postgres import rows, schema
from puppetmaster.store.postgres.changes import Teller
from puppetmaster.store.postgres.connection import LONG_S, Call, Connection, Door, as_store_error, close
from puppetmaster.store.postgres.durability import held_up
from puppetmaster.store.postgres.lead import Lead, end_process
from puppetmaster.store.postgres.orders import Taker
from puppetmaster.store.postgres.reader import PostgresReader
from puppetmaster.store.postgres.snapshots import Snapshots
from puppetmaster.store.postgres.turns import NotThere, Turns
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.store")


class PostgresStore(Store):
    """The database at ``address``, and the lead of its bus. The thread that will ``commit`` makes it.

    Args:
        address: such as ``postgresql://host/database``.
        known: what this machine remembers of the database that it used last; None: nothing.
        waiting: is told again and again what is waited for, while another process leads; None: then we do
            not wait.
        reaches: whether the broker can be reached, while we wait.
        ended: see ``Lead``.

    Raises SettingsError, StoreError, NotLeading.
    """

    def __init__(
        self,
        address: str,
        known: Known | None = None,
        waiting: Callable[[str], None] | None = None,
        reaches: Callable[[], bool] = lambda: False,
        ended: Callable[[str], NoReturn] = end_process,
    ) -> None:
        self._door = Door(address)
        self.place = self._door.place
        self._snapshots = Snapshots(self._door)
        self._closed = False
        self._taker: Taker | None = None
        self._teller: Teller | None = None
        connection = self._door.connect()
        self._lead = Lead(self._door, connection, ended)
        try:
            with as_store_error(f"{self.place} cannot be used"):
                with connection.within(LONG_S):
                    installation = self._made_ready(connection, known)
                epoch = self._lead.take() if waiting is None else self._lead.wait(waiting, reaches)
                self.known = Known(installation, epoch)
            connection = self._lead.keep()
            copied = self._brought_up(connection) or (known is not None and known.epoch >= epoch)
            self._turns = Turns(self._door, self._lead, connection)
            self.now = PostgresReader(self._writing, self.place)
            self._begin(copied=copied)
        except BaseException:
            close(connection)
            self._lead.close()
            raise

    def _made_ready(self, connection: Connection, known: Known | None) -> str:
        """Make the tables if there are none. Returns the name of the installation. Raises StoreError."""
        schema.make(connection, uuid.uuid4().hex[:16], first_request_id(), self.place)
        installation = schema.check(connection, self.place)
        if known is not None and known.installation != installation:
            raise StoreError(
                f"{self.place} is of the installation {installation}, and what ran here last was of "
                f"{known.installation}: set PUPPETMASTER_STORE to its database; if another one is meant, "
                f"remove {known.file}."
            )
        return installation

    def _brought_up(self, connection: Connection) -> bool:
        """Bring the tables up to date. Returns whether they are a copy, in another cluster or database."""
        with as_store_error(f"{self.place} cannot be used"), connection.within(LONG_S):
            schema.check(connection, self.place)  # another leader may have changed it meanwhile
            for format_ in schema.bring_up(connection):
                log.info("%s is brought to format %s", self.place, format_)
            return schema.moved(connection)

    def _begin(self, *, copied: bool) -> None:
        """Abandon the drafts of an earlier process. In a copy: leave out ids, and send nothing by itself."""
        calls: list[Call] = [(rows.ABANDONED, [])]
        ids = self.ids
        if copied:
            reason = Reason.COPIED.said()
            log.warning("%s: jobs that have not ended are paused: %s", self.place, reason)
            ids = ahead(ids)
            calls += [(rows.OWNED, []), (rows.NOTHING_OWED, [])]
            if jobs := jobs_held(self.now, reason):
                calls.append(rows.jobs(jobs, {}))
            if templates := templates_held(self.now, reason):
                calls.append(rows.templates(templates))
        self._turns.write(calls, ids)

    def _writing(self) -> Connection:
        if self._closed:
            raise StoreError(f"{self.place} is closed.")
        return self._turns.connection

    @property
    def installation(self) -> str:
        """The id of the installation: 16 hexadecimal digits, made once with the tables."""
        return self.known.installation

    @property
    def ids(self) -> Ids:
        """The next ids, as last committed."""
        return replace(self._turns.ids)

    @property
    def tunnel(self) -> str | None:
        """The tunnel on which the leader before us was registered; None: not known."""
        return self._lead.tunnel

    @tunnel.setter
    def tunnel(self, name: str | None) -> None:
        self._lead.register(name)

    @property
    def size_bytes(self) -> int:
        """About how many bytes jobs and requests take: a fixed number for each, more for large ones."""
        sql = """
            SELECT (SELECT count(*) + coalesce(sum(total), 0) FROM jobs)
                + (SELECT coalesce(sum(total), 0) FROM trash), (SELECT coalesce(sum(large), 0) FROM jobs)"""
        with as_store_error(f"{self.place} cannot be read"):
            found = self._writing().execute(sql).fetchone()
        count, large = found or (0, 0)
        return int(count) * REQUEST_BYTES + int(large)

    def disk_bytes(self) -> int:
        """How many bytes the tables take on the server's disk. For any thread. Raises StoreError."""
        sql = "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name"
        with self._snapshots.one() as connection, as_store_error(f"{self.place} cannot be read"):
            found = connection.execute(sql, [[*schema.NAMES, *schema.ADDED]]).fetchone()
        return int(found[0]) if found else 0

    def commit(self, changes: Changes) -> None:
        """Make all of ``changes`` durable, or nothing. Blocks until the server says so. For the writer.

        Raises:
            StoreError: nothing was committed.
            NotKnown: the same, but after a crash the changes may be there.
        """
        self._writing()
        known = self._turns.ids.next_request
        try:
            self._turns.write(rows.calls_of(changes, MOST_LEARNED, known), changes.ids)
        except NotThere:  # a request of a long draft was sent in the turn that wrote it
            self._turns.write(rows.calls_of(changes, MOST_LEARNED), changes.ids)

    def fill(self, parts: Iterable[Sequence[Call]], ids: Ids, installation: str) -> None:
        """Take in the content of another store, as a whole or not at all. Raises StoreError: we have jobs."""
        if self.ids.next_job > 1:
            raise StoreError(
                f"{self.place} is not empty: import into another database (PUPPETMASTER_STORE), or drop that "
                "one and make it anew."
            )
        self._turns.fill(chain([[(rows.INSTALLATION, [installation])]], parts), ids)
        with suppress(psycopg.Error), (connection := self._writing()).within(LONG_S):
            connection.execute("ANALYZE")  # soon PostgreSQL does this by itself
        self.known = Known(installation, self.known.epoch)

    def serve(self, answer: Callable[[str], str], hub: Hub) -> None:
        """Answer from now on what processes ask that do not lead, and tell them what is posted to ``hub``."""
        self._taker = Taker(self._door, self._lead.epoch, answer)
        self._teller = Teller(self._door, self._lead.epoch, hub)

    def end_serving(self) -> None:
        """Take no order any more, and wait until the orders taken are answered. May be called twice."""
        if self._taker is not None:
            self._taker.close()
        if self._teller is not None:
            self._teller.close()

    @property
    def threads(self) -> Sequence[Vital]:
        """The thread that renews the lease, and the threads that serve other processes."""
        serving = [one.thread for one in (self._taker, self._teller) if one is not None]
        return (self._lead.thread, *serving)

    def may_act(self) -> bool:
        """Whether no other process can have taken the lead yet."""
        return self._lead.trusted

    def held_up(self) -> str | None:
        """What holds the server up: it does not answer, or waits for its standby. For any thread."""
        try:
            with self._snapshots.one() as connection, as_store_error(f"{self.place} cannot be read"):
                return held_up(connection, self.place)
        except StoreError as error:
            return error.message

    def resigns(self, connected: Callable[[], bool | None], resign: Callable[[], object]) -> None:
        """Resign from now on when the broker is away for us only. See the port."""
        self._lead.connected, self._lead.resign = connected, resign

    def leadership(self) -> Leadership:
        """The lead as it is now. For any thread; asks nobody."""
        return self._lead.shown()

    def confirm(self) -> bool:
        """Ask the database whether this process leads. When another process does, this one ends."""
        return self._lead.confirm()

    def sweep(self) -> bool:
        """Remove the next part of removed jobs. Returns whether there was any. Raises StoreError."""
        with as_store_error(f"{self.place} cannot be read"):
            sql = "SELECT id, first, total FROM trash WHERE NOT draft ORDER BY id LIMIT 1"
            found = self._writing().execute(sql).fetchone()
        if found is None:
            return False
        self._turns.write(rows.swept(*found))
        return True

    def look_on(self, look: Look) -> None:
        """Give a look the next jobs. Raises StoreError."""
        sql = """
            SELECT id, status, finished_at, total, ended_boot, ended_s FROM jobs
            WHERE id > %s ORDER BY id LIMIT %s"""
        with as_store_error(f"{self.place} cannot be read"):
            found = self._writing().execute(sql, [look.last_id, look.at_once]).fetchall()
        ended = (Ended(id_, *fields) for id_, status, *fields in found if status in FINAL)
        look.take(ended, found[-1][0] if found else look.last_id, complete=len(found) < look.at_once)

    def outlived(self, look: Look) -> dict[int, str]:
        """The next jobs of a complete look that need not be kept, by id, each with the limit that says so.

        The limit of bytes counts only when all that was removed is swept. Raises StoreError.
        """
        sql = """
            SELECT (SELECT count(*) FROM (SELECT FROM jobs WHERE status = ANY(%s) LIMIT %s) AS first),
                NOT EXISTS (SELECT FROM trash)"""
        most = look.keep.jobs + PRUNED_AT_ONCE
        with as_store_error(f"{self.place} cannot be read"):
            count, swept = self._writing().execute(sql, [sorted(FINAL), most]).fetchone() or (0, False)
        return look.part(int(count), self.size_bytes - look.keep.bytes if swept else 0)

    def reading(self) -> AbstractContextManager[Reader]:
        """A reader of one committed state, for any thread. Raises StoreError."""
        return self._snapshots.reading()

    def close(self) -> None:
        """Close all connections, and give the lead away. May be called twice."""
        self._closed = True
        self._snapshots.close()
        self._turns.close()
        self._lead.close()
