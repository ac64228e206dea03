"""Changes of jobs, told by the leader to the processes that do not lead: ids, a few times a second.

Each telling has a number, in the order of the commits. A process that hears of changes reads the jobs. A
process that was cut off, misses a number or sees another leader reads all jobs that may have changed since.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from threading import Event, Lock
from typing import Any

import psycopg

from puppetmaster.events import Change, Hub
from puppetmaster.model.job import OPEN_JOB, Job
from puppetmaster.store.base import Reader
from puppetmaster.store.postgres.connection import FAULTS, Connection, Door, close
from puppetmaster.store.postgres.schema import BUS
from puppetmaster.store.postgres.sessions import listen, wait
from puppetmaster.store.postgres.snapshots import Snapshots
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.store.postgres.changes")

#: On this channel it is told that there are changes.
CHANNEL = "puppetmaster_changes"
#: Shortest time between two transactions that tell changes, and the pause after a transaction that failed.
INTERVAL_S, AGAIN_S = 0.1, 0.5
#: For how many seconds the changes that are unread at the end may be told.
END_S = 1.0
#: For how many seconds a telling is kept, and the number of tellings between two looks for older ones.
KEEP_S, SWEEP_EACH = 60, 300
#: The pause before a leader of an earlier version, which tells nothing, is listened to again.
EARLIER_S = 5.0

_TELL = """
WITH told AS (
    INSERT INTO changes (epoch, doc) SELECT epoch, %s FROM buses WHERE id = %s AND epoch = %s RETURNING seq
) SELECT pg_notify(%s, seq::text) FROM told
"""
_SWEEP = "DELETE FROM changes WHERE at < now() - make_interval(secs => %s)"
_STAND = "SELECT (SELECT coalesce(max(seq), 0) FROM changes), epoch FROM buses WHERE id = %s"
_NEXT = "SELECT seq, doc FROM changes WHERE seq > %s AND epoch = %s ORDER BY seq"
_EPOCH = "SELECT epoch FROM buses WHERE id = %s"


class Teller:
    """The leader's side: the thread ``pm-teller`` tells what is posted to ``hub``."""

    def __init__(self, door: Door, epoch: int, hub: Hub) -> None:
        self._door = door
        self._epoch = epoch
        self._hub = hub
        self._mailbox = hub.subscribe()
        self._mailbox.detailed = True
        self._untold: dict[int, Change] = {}
        self._connection: Connection | None = None
        self._times = 0
        self._over = Event()
        self.thread = Vital(target=self._run, name="pm-teller")
        self.thread.start()

    def _run(self) -> None:
        while (changes := self._mailbox.take(AGAIN_S if self._untold else None)) is not None:
            for change in changes:
                before = self._untold.get(change.job.id)
                self._untold[change.job.id] = before.merged(change) if before else change
            if self._untold:
                self._over.wait(INTERVAL_S if self._told() else AGAIN_S)
        close(self._connection)

    def _told(self) -> bool:
        """Tell the changes that are untold. Returns whether that went well."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._door.connect()
            doc = json.dumps([_document(change) for change in self._untold.values()])
            self._connection.execute(_TELL, [doc, BUS, self._epoch, CHANNEL])
            self._times += 1
            if self._times % SWEEP_EACH == 1:
                self._connection.execute(_SWEEP, [KEEP_S])
        except FAULTS as error:
            log.debug("changes cannot be told: %s", error)
            close(self._connection)
            return False
        self._untold.clear()
        return True

    def close(self) -> None:
        """Tell the changes that are unread, once, and end. May be called twice."""
        self._hub.unsubscribe(self._mailbox)
        self._mailbox.close()
        self._over.set()
        self.thread.join(END_S)


def _document(change: Change) -> list[Any]:
    """A change as it is told. Only a job that is gone is told as a whole."""
    requests = None if change.requests is None else sorted(change.requests)
    gone = change.job.document() if change.deleted else None
    return [change.job.id, change.created, change.ended, requests, gone]


class Watcher:
    """The other side: the thread ``pm-changes`` posts to ``hub`` what is told."""

    def __init__(self, door: Door, snapshots: Snapshots, hub: Hub) -> None:
        self._place = door.place
        self._snapshots = snapshots
        self._hub = hub
        #: Whether it was said that the leader tells nothing.
        self._said = False
        self._seq = self._epoch = 0
        #: The jobs that have not ended, as they were last read, and the largest id that was seen.
        self._open: dict[int, Job] = {}
        self._last_id: int | None = None
        self._over = Event()
        self._lock = Lock()  # guards what is known of jobs, and that nothing is posted when it is over
        self.thread = Vital(
            target=lambda: listen(door, CHANNEL, self._over, self._hear_on), name="pm-changes"
        )
        self.thread.start()

    def _hear_on(self, connection: Connection) -> None:
        try:
            self._hear(connection, again=True)
        except psycopg.errors.UndefinedTable:
            self._say_that_nothing_is_told()
            self._over.wait(EARLIER_S)
            raise
        while not self._over.is_set():
            wait(connection)
            self._hear(connection)

    def _say_that_nothing_is_told(self) -> None:
        if not self._said:
            log.warning(
                "The puppetmaster that leads with %s is an earlier version, and tells no changes: "
                "WebSockets of this one show none. Bring that one up to date.",
                self._place,
                extra={"action": "changes_untold"},
            )
        self._said = True

    def _stand(self, connection: Connection) -> None:
        """Note what was told, and read all jobs that may have changed since they were read."""
        self._seq, self._epoch = connection.execute(_STAND, [BUS]).fetchone() or (0, 0)
        with self._snapshots.reading() as reader:
            self._hub.post([*self._missed(reader)])

    def _missed(self, reader: Reader) -> Iterator[Change]:
        """The changes since jobs were last read, as far as can be seen from the jobs."""
        known, last_id = self._open, self._last_id
        now = {job.id: job for job in reader.jobs({"status": sorted(OPEN_JOB)})}
        newest_first = reader.job_ids({})
        if last_id is not None:
            new = takewhile(lambda id_: id_ > last_id, newest_first)
            for id_ in sorted({*known, *now, *new}):
                job, before = now.get(id_) or reader.job(id_), known.get(id_)
                if job is not None and job != before:
                    yield Change(job, created=id_ > last_id, ended=job.final, requests=None)
                elif job is None and before is not None:
                    yield Change(before, deleted=True)
        self._open = now
        self._last_id = max(last_id or 0, next(iter(newest_first), 0))

    def _hear(self, connection: Connection, *, again: bool = False) -> None:
        """Post the changes that were told; ``again``, or of a new leader: all that may be unheard."""
        with self._lock:
            (epoch,) = connection.execute(_EPOCH, [BUS]).fetchone() or (0,)
            if self._over.is_set():
                return
            if again or epoch != self._epoch:  # the former leader may have had no time to tell
                self._stand(connection)
            else:
                self._post(connection, epoch)

    def _post(self, connection: Connection, epoch: int) -> None:
        rows = connection.execute(_NEXT, [self._seq, epoch]).fetchall()
        if rows and rows[0][0] > self._seq + 1:  # this process stood still, and what was told was swept
            self._stand(connection)
        elif rows:
            with self._snapshots.reading() as reader:
                told = (document for _, doc in rows for document in json.loads(doc))
                self._hub.post([*self._changes(reader, told)])
            self._seq = rows[-1][0]

    def _changes(self, reader: Reader, told: Iterable[list[Any]]) -> Iterator[Change]:
        for id_, created, ended, ids, gone in told:
            requests = None if ids is None else frozenset(ids)
            self._last_id = max(self._last_id or 0, id_)
            if gone is not None:
                self._open.pop(id_, None)
                yield Change(Job.from_document(id_, gone), created, ended, deleted=True)
                continue
            job = reader.job(id_)
            if job is None:  # its removal is told next
                continue
            if job.final:
                self._open.pop(id_, None)
            else:
                self._open[id_] = job
            yield Change(job, created, ended, requests=requests)

    def close(self) -> None:
        """End, and post what was committed since. The caller leads now, and has written nothing yet."""
        self._over.set()
        with (
            self._lock,
            suppress(*FAULTS),
            self._snapshots.reading() as reader,
        ):
            self._hub.post([*self._missed(reader)])
