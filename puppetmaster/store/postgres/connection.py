"""Connections to PostgreSQL: how they are made, what their errors become, and a turn in one round trip."""

import os
import platform
import re
import select
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

from puppetmaster.errors import SettingsError, StoreError

T = TypeVar("T")

#: A server that is waited for and says nothing for longer than this counts as gone. The second is for what it
#: answers at once, the third for what reads or writes a whole table.
ANSWER_S, QUICK_S, LONG_S = 30.0, 5.0, 600.0
#: What a connection has unless the address says otherwise. A server that is not there is noticed in seconds.
DEFAULTS = {
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
}
#: What psycopg and the network raise; and with what ``Door.connect`` makes of that.
FOREIGN = (psycopg.Error, OSError)
FAULTS = (*FOREIGN, StoreError)
#: With these nothing that was acknowledged survives a crash, so a session does not keep them.
FORGETFUL = ("off",)
#: An address that cannot be read has a password in it, as far as can be seen.
_SECRET = re.compile(r"//[^/?#]*:.*@|password", re.DOTALL)

#: Statements of turns are planned when they first run, which may be while the tables are empty. The plan has
#: to be good for all sizes, so it reads no table as a whole where there is an index.
_PLANNED_ONCE = """
SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)
"""

#: The server goes on with what it was asked for, and keeps its locks, though nobody waits for it.
_END_ABANDONED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s) AND application_name = %s
"""


class Silent(psycopg.OperationalError):
    """The server said nothing for too long. The connection is closed."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait has an end: see ``ANSWER_S``. ``Door`` makes it."""

    #: For how many seconds the server may say nothing; None: ``ANSWER_S``.
    answer_s: float | None = None
    #: The number of the server's process.
    pid = 0
    #: Where the numbers of processes are kept that are to be ended.
    abandoned: set[int]

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait as psycopg does, which waits here for everything. Raises Silent: there was no answer."""
        return super().wait(self._ending(gen), *args, **kwargs)

    def _ending(self, gen: PQGen[T]) -> PQGen[T]:
        """What ``gen`` waits for, with an end. A tenth of a second without anything comes as a zero."""
        heard_s = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s >= self.limit_s:
                    self.abandon()
                    raise self.silent()
                wanted = gen.send(ready)
        except StopIteration as ended:
            value: T = ended.value
            return value

    @property
    def limit_s(self) -> float:
        """For how many seconds the server may say nothing."""
        return ANSWER_S if self.answer_s is None else self.answer_s

    def silent(self) -> Silent:
        """The error for a server that said nothing for too long."""
        return Silent(f"it did not answer within {self.limit_s:g} s")

    @contextmanager
    def within(self, answer_s: float) -> Generator[None]:
        """Let the server be silent for this long meanwhile."""
        before, self.answer_s = self.answer_s, answer_s
        try:
            yield
        finally:
            self.answer_s = before

    def abandon(self) -> None:
        """Close it, while the server may still be at work. The next one that is made ends its session."""
        self.abandoned.add(self.pid)
        close(self)


class Lost(psycopg.OperationalError):
    """The connection was lost while a turn was under way: whether it was committed is not known."""


class Statement(NamedTuple):
    """A statement that each connection of a writer prepares."""

    name: str
    sql: str


#: A statement, and its parameters as text.
Call = tuple[Statement, Sequence[str]]


class Door:
    """Makes connections to the database of one address. All of a process have the same name there.

    Raises SettingsError: the address cannot be read, or has a password in it.
    """

    def __init__(self, address: str) -> None:
        try:
            given = {name: str(value) for name, value in conninfo.conninfo_to_dict(address).items() if value}
        except psycopg.Error as error:
            if _SECRET.search(address):  # libpq's sentence may have it too
                raise _tells_too_much() from None
            raise SettingsError(
                "PUPPETMASTER_STORE: expected an address such as postgresql://host/database, got "
                f"'{address}': {sentence(error)}."
            ) from error
        if "password" in given:
            raise _tells_too_much()
        #: The address as it is shown.
        self.place = address
        #: How the sessions of this process are named in the database: 63 letters of ASCII at most.
        host = platform.node().encode("ascii", "replace").decode("ascii")[:30]
        self.name = f"puppetmaster {host}:{os.getpid()} {uuid.uuid4().hex[:8]}"
        self._given = {**DEFAULTS, **given, "application_name": self.name}
        self._abandoned: set[int] = set()

    @property
    def hosts(self) -> int:
        """How many servers the address names."""
        return str(self._given.get("host", "")).count(",") + 1

    def connect(self) -> Connection:
        """A connection without a transaction. Raises StoreError: there is none to be had."""
        with as_store_error(f"{self.place} cannot be reached"):
            made = Connection.connect(conninfo.make_conninfo(**self._given), autocommit=True)
            made.pid, made.abandoned = made.info.backend_pid, self._abandoned
            try:
                with made.within(QUICK_S):
                    self._prepare(made)
            except BaseException:
                made.close()
                raise
            return made

    def _prepare(self, made: Connection) -> None:
        encoding = made.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"{self.place} cannot be used: its encoding is {encoding}: make it anew with "
                "CREATE DATABASE .. ENCODING 'UTF8' TEMPLATE template0."
            )
        made.execute("SELECT set_config('client_encoding', 'UTF8', false), set_config('jit', 'off', false)")
        (commits,) = made.execute("SHOW synchronous_commit").fetchone() or ("on",)
        if commits in FORGETFUL:
            made.execute("SET synchronous_commit TO on")
        if pids := list(self._abandoned):
            made.execute(_END_ABANDONED, [pids, self.name])
            self._abandoned.difference_update(pids)


def _tells_too_much() -> SettingsError:
    return SettingsError(
        "PUPPETMASTER_STORE: a password there is seen by whoever sees the settings: write it into a "
        "file that only the bundle's user can read, and name that in PGPASSFILE."
    )


def sentence(error: Exception) -> str:
    """What PostgreSQL or libpq says, in one line without a full stop."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = primary or "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return (text or type(error).__name__).rstrip(".")


@contextmanager
def as_store_error(what: str) -> Iterator[None]:
    """Turn errors of PostgreSQL into StoreError: "<what>: <why>."."""
    try:
        yield
    except FOREIGN as error:
        raise StoreError(f"{what}: {sentence(error)}.") from error


def prepare(connection: Connection, statements: Iterable[Statement]) -> None:
    """Prepare the statements that ``pipeline`` will be given. Raises psycopg.Error."""
    connection.execute(_PLANNED_ONCE)
    lines = connection.pgconn
    lines.enter_pipeline_mode()
    for statement in statements:
        lines.send_prepare(statement.name.encode(), statement.sql.encode())
    lines.pipeline_sync()
    failed = _ended(connection)
    lines.exit_pipeline_mode()
    if failed is not None:
        raise error_from_result(failed)


def pipeline(connection: Connection, calls: Iterable[Call]) -> None:
    """Run prepared statements as one transaction, in one round trip.

    PostgreSQL makes one transaction of all that comes before the end of a pipeline, without BEGIN and COMMIT.
    Each call is sent as soon as it is made: the server works on it while the next one is made.

    Raises:
        Lost: the connection was lost, and it is not known whether the transaction was committed.
        psycopg.Error: a statement failed; nothing was committed.
        Exception: what ``calls`` raised; nothing was committed, and the connection is closed.
    """
    lines = connection.pgconn
    try:
        lines.enter_pipeline_mode()
        for statement, values in calls:
            lines.send_query_prepared(statement.name.encode(), [value.encode() for value in values])
            lines.flush()
        lines.pipeline_sync()
        failed = _ended(connection)
        lines.exit_pipeline_mode()
    except (psycopg.OperationalError, OSError) as error:
        connection.abandon()
        raise Lost(sentence(error)) from error
    except BaseException:
        connection.close()
        raise
    if failed is not None:
        raise error_from_result(failed)


def ask(connection: Connection, sql: str, values: Iterable[str]) -> list[str | None] | None:
    """Run a statement that may have to wait. Returns its first row, as texts; None: it gives no row.

    Raises psycopg.Error: it failed, or was not answered in time. Then the connection is closed.
    """
    lines = connection.pgconn
    try:
        lines.send_query_params(sql.encode(), [value.encode() for value in values])
        (result,) = iter(_results(connection).__next__, None)
    except BaseException:
        connection.abandon()
        raise
    if result.status == ExecStatus.FATAL_ERROR:
        connection.close()
        raise error_from_result(result)
    if not result.ntuples:
        return None
    row = (result.get_value(0, column) for column in range(result.nfields))
    return [None if value is None else value.decode() for value in row]


def _ended(connection: Connection) -> PGresult | None:
    """Wait for the end of the pipeline. Returns the first result that is an error; None: all went well.

    Raises psycopg.OperationalError: the connection was lost before its end.
    """
    failed: PGresult | None = None
    for result in _results(connection):
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            break
        if result.status == ExecStatus.FATAL_ERROR and failed is None:
            failed = result
    return failed


def _results(connection: Connection) -> Iterator[PGresult | None]:
    """Send what waits to be sent. Then what comes: results, and None where those of a statement end.

    Raises psycopg.OperationalError: the connection was lost, or nothing came in time.
    """
    lines, wait = connection.pgconn, _waiter(connection)
    while lines.flush():
        if wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
            lines.consume_input()
    while True:
        while lines.is_busy():
            wait(select.POLLIN)
            lines.consume_input()
        result = lines.get_result()
        if result is None and lines.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection was lost")
        yield result


def _waiter(connection: Connection) -> Callable[[int], int]:
    """A function that waits until one of some events has come to the connection, and says which have."""
    poll = select.poll()
    socket = connection.pgconn.socket

    def wait(events: int) -> int:
        poll.register(socket, events)
        ready = poll.poll(connection.limit_s * 1000)
        if not ready:
            raise connection.silent()
        return ready[0][1]

    return wait


def close(connection: Connection | None) -> None:
    """Close a connection, whatever its state."""
    if connection is not None:
        with suppress(*FOREIGN):
            connection.close()
