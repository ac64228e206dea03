"""The store in PostgreSQL where it is more than the contract: turns of unknown outcome, faults, copies."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Timer
from typing import Any, NoReturn

import psycopg
import pytest

from puppetmaster.errors import NotKnown, SettingsError, StoreError
from puppetmaster.model.job import JobStatus
from puppetmaster.model.request import RequestEvent, RequestStatus
from puppetmaster.store.base import REQUEST_BYTES, Changes, Ids, ahead
from puppetmaster.store.datadir import Known
from puppetmaster.store.postgres import connection as connections
from puppetmaster.store.postgres import rows, schema, turns
from puppetmaster.store.postgres.connection import Call, Connection, Lost
from puppetmaster.store.postgres.store import PostgresStore
from sandbox.postgres import USER, Cluster
from tests.desk import until
from tests.examples import AT
from tests.postgres import MEMORY, cluster
from tests.stored import TEMPLATES, as_ended, as_sent, assert_held, creation, everything, fill, first_of

Pipeline = Callable[[Connection, Iterable[Call]], None]


class Ended(Exception):
    """Instead of the end of the process."""


def ended(why: str) -> NoReturn:
    raise Ended(why)


@pytest.fixture
def store(where: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(where, ended=ended)) as opened:
        yield opened


# A turn of unknown outcome


def _cut(monkeypatch: pytest.MonkeyPatch, *turns: Pipeline) -> None:
    """Cut the connection in the next turns, of which the server gets what these do."""
    left = list(turns)

    def pipeline(connection: Connection, calls: Iterable[Call]) -> None:
        if not left:
            committed(connection, calls)
            return
        left.pop(0)(connection, calls)
        connection.close()
        raise Lost("cut")

    monkeypatch.setattr(connections, "pipeline", pipeline)


committed = connections.pipeline


def begun(_: Connection, calls: Iterable[Call]) -> None:
    """The other calls were not made yet."""
    next(iter(calls))


@pytest.mark.parametrize("turn", [committed, begun])
@pytest.mark.parametrize("times", [1, 3])
def test_a_turn_whose_outcome_is_not_known_is_settled(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, turn: Pipeline, times: int
) -> None:
    changes = creation(1)
    _cut(monkeypatch, *[turn] * times)
    store.commit(changes)
    assert everything(store) == ([changes.jobs[1]], list(changes.requests.values()))
    assert store.ids == changes.ids
    fill(store, 2)
    assert [job.id for job in store.now.jobs({})] == [2, 1]


@pytest.mark.parametrize("turn", [committed, begun])
def test_what_nobody_knows_of_is_undone_with_the_next_turn(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, turn: Pipeline
) -> None:
    """The engine has forgotten the job that it told its caller not to know of."""
    fill(store, 1)
    sent = as_sent(store.now.requests({})[0])
    monkeypatch.setattr(turns, "SETTLE_S", 0.0)
    real = store._door.connect
    with monkeypatch.context() as patch:
        patch.setattr(store._door, "connect", _away)
        _cut(patch, turn)
        with pytest.raises(NotKnown, match="cannot be written: it is away"):
            store.commit(replace(creation(2), sendings={first_of(2) + 90: sent}))
        for _ in range(2):
            with pytest.raises(StoreError, match="it is away"):
                store.commit(Changes(requests={sent.id: sent}))
    assert store._door.connect == real
    assert store.ids == creation(1).ids
    store.commit(Changes(requests={sent.id: sent}))
    jobs, requests = everything(store)
    assert [job.id for job in jobs] == [1]
    assert requests[0] == sent
    assert len(requests) == 3
    assert store.now.sending(first_of(2) + 90) is None
    assert store.now.items_by_id([first_of(2)]) == {}
    fill(store, 2)
    assert len(everything(store)[1]) == 6


def _away() -> NoReturn:
    raise StoreError("it is away")


def test_a_standby_server_that_is_away_holds_up_no_writer_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its dispatcher would not feed the watchdog, and nothing could be read after two minutes."""
    monkeypatch.setattr(connections, "ANSWER_S", 0.2)
    monkeypatch.setattr(turns, "SETTLE_S", 0.0)
    directory = MEMORY if MEMORY.is_dir() else None
    with Cluster(directory=directory) as own, closing(PostgresStore(own.url(), ended=ended)) as store:
        fill(store, 1)
        own.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        own.run("SELECT pg_reload_conf()")
        until(lambda: _refused(store, creation(2)) is NotKnown, "it is waited for")
        for _ in range(5):
            assert issubclass(_refused(store, creation(2)) or int, StoreError)
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'puppetmaster %'"
        assert int(own.run(sessions)) < 6, "what was given up is ended at the server"
        own.run("ALTER SYSTEM RESET synchronous_standby_names")
        own.run("SELECT pg_reload_conf()")
        until(lambda: _refused(store, creation(2)) is None, "it can be written again")
        assert [job.id for job in store.now.jobs({})] == [2, 1]
        assert len(everything(store)[1]) == 6


def _refused(store: PostgresStore, changes: Changes) -> type[Exception] | None:
    """With which error these changes are refused; None: they are written."""
    try:
        store.commit(changes)
    except StoreError as error:
        return type(error)
    return None


def test_a_turn_that_comes_late_is_not_committed(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server had not read it yet when its outcome was asked for."""
    late: list[list[Call]] = []
    _cut(monkeypatch, lambda _, calls: late.append(list(calls)))
    store.commit(Changes(jobs={1: as_ended(creation(1).jobs[1])}))
    with closing(store._door.connect()) as connection:
        connections.prepare(connection, rows.STATEMENTS)
        with pytest.raises(psycopg.errors.DivisionByZero):
            committed(connection, late[0])
    fill(store, 2)


def test_the_server_works_on_a_call_while_the_next_is_made(store: PostgresStore, sql: Any) -> None:
    pid = store._turns.connection.info.backend_pid

    def calls() -> Iterator[Call]:
        yield rows.OWNED, []
        works = f"SELECT query FROM pg_stat_activity WHERE pid = {pid}"
        until(lambda: sql(works) == [(rows.OWNED.sql,)], "it works on it")

    store._turns.write(calls())


def test_a_request_that_looks_known_and_is_not_there_is_written_with_all_others(store: PostgresStore) -> None:
    """It is sent in the turn that writes the last part of its draft."""
    changes = creation(1, total=4)
    *first, last = changes.requests.values()
    sent = [as_sent(one) for one in (first[1], last)]
    store.commit(replace(changes, requests={one.id: one for one in first}))
    assert store.ids.next_request > last.id
    store.commit(Changes(requests={one.id: one for one in sent}))
    assert everything(store)[1] == [first[0], sent[0], first[2], sent[1]]


def test_requests_are_changed_by_index_even_when_the_table_was_empty(store: PostgresStore, sql: Any) -> None:
    """The plan stays when it is full."""
    sql("VACUUM ANALYZE requests")
    plan = store._turns.connection.execute(f"EXPLAIN EXECUTE {rows.CHANGED.name} ('1', 'sent', '{{}}', '1')")
    lines = [line for (line,) in plan]
    assert any("Index Cond: (id = ANY (" in line and "$1" in line for line in lines), lines


def test_requests_that_change_stay_where_they_are(store: PostgresStore, sql: Any) -> None:
    """So that a change touches no index; here all requests of several pages change in one turn."""
    changes = creation(1, total=100)
    store.commit(changes)
    where = "SELECT id, (ctid::text::point)[0], pg_indexes_size('requests') FROM requests ORDER BY id"
    before = sql(where)
    sent = {id_: as_sent(one) for id_, one in changes.requests.items()}
    result = {"code": 200, "data": {}, "source": "device"}
    ended = {id_: one.after(RequestEvent.SUCCEED, AT, result=result) for id_, one in sent.items()}
    for requests in (sent, ended):
        store.commit(Changes(requests=requests))
        assert sql(where) == before


def test_a_turn_whose_end_never_comes_does_not_keep_the_row_of_the_bus(
    store: PostgresStore, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network was cut after the fence: the server waits for the rest, and knows of nothing."""
    cut: list[Connection] = []
    gone = store._door.connect()
    gone.close()

    def turn(connection: Connection, calls: Iterable[Call]) -> None:
        cut.append(connection)
        committed(connection, chain([next(iter(calls))], _ends(connection)))

    def _ends(connection: Connection) -> Iterator[Call]:
        locked = (
            f"SELECT count(*) FROM pg_locks WHERE pid = {connection.info.backend_pid} AND mode ~ 'RowExcl'"
        )
        until(lambda: sql(locked) != [(0,)], "the row is locked")
        store._turns._connection = gone  # the one before is not closed, which the server would notice
        monkeypatch.setattr(connection, "close", lambda: None)
        yield from ()
        raise OSError("cut")

    _cut(monkeypatch, turn)
    late = Timer(30, lambda: psycopg.Connection.close(cut[0]))  # else the turn would wait for ever
    late.start()
    store.commit(creation(1))
    assert late.is_alive()
    late.cancel()
    psycopg.Connection.close(cut[0])
    assert everything(store)[0] == [creation(1).jobs[1]]


def test_a_server_that_is_restarted_between_turns_is_not_noticed(store: PostgresStore, sql: Any) -> None:
    fill(store, 1)
    with store.reading() as reader:
        assert len(reader.jobs({})) == 1
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'puppetmaster %'")
    fill(store, 2)
    with store.reading() as reader:
        assert len(reader.jobs({})) == 2


def test_a_server_that_crashes_loses_nothing_that_was_committed() -> None:
    own = Cluster(durable=True, directory=MEMORY if MEMORY.is_dir() else None)
    with own, closing(PostgresStore(own.url(), ended=ended)) as store:
        fill(store, 1)
        own.process.kill()
        with pytest.raises(StoreError, match=r"cannot be (written|reached)"):
            fill(store, 2)
        with pytest.raises(StoreError), store.reading():
            pass
        with pytest.raises(StoreError):
            store.now.jobs({})
        own.start()
        fill(store, 2)
        assert [job.id for job in everything(store)[0]] == [2, 1]
        assert store.disk_bytes() > 0


# What the server refuses


def test_a_full_disk_is_told_and_nothing_of_the_turn_is_there(store: PostgresStore, sql: Any) -> None:
    sql(
        "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space left'; "
        "END $$"
    )
    fill(store, 1)
    before = everything(store)
    sql("CREATE TRIGGER is_full BEFORE INSERT ON jobs EXECUTE FUNCTION is_full()")
    with pytest.raises(StoreError, match="cannot be written: no space left"):
        fill(store, 2)
    assert everything(store) == before, "reading goes on"
    sql("DROP TRIGGER is_full ON jobs")
    fill(store, 2)
    assert len(everything(store)[1]) == 6


# What a start meets


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://host/db", "expected an address such as postgresql://host/database"),
        ("postgresql://me:secret@host/db", "a password there is seen by whoever sees the settings"),
        ("host=h password=secret", "name that in PGPASSFILE"),
        ("postgresql://me:100%secret@host/db", "name that in PGPASSFILE"),
        ("postgresql://host/db?password=secret&tiemout=1", "name that in PGPASSFILE"),
        ("postgresql://host/db?tiemout=1", r"got 'postgresql://host/db\?tiemout=1': .*\"tiemout\"\.$"),
    ],
)
def test_an_address_that_is_none_or_tells_too_much(given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        PostgresStore(given)
    assert "secret" not in caught.value.message


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(StoreError, match=r'cannot be reached: .*database "nowhere" does not exist\.'):
        PostgresStore(cluster().url("nowhere"))


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be reached: .*No such file or directory.*\?\.$"):
        PostgresStore(f"postgresql:///x?host={tmp_path}")


def test_a_database_that_is_read_only(where: str) -> None:
    PostgresStore(where).close()
    with pytest.raises(StoreError, match=r"cannot be reached: .*session is read-only"):
        PostgresStore(f"{where}%20-cdefault_transaction_read_only%3Don")


def test_a_database_of_another_encoding() -> None:
    cluster().run("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreError, match="its encoding is SQL_ASCII: make it anew with CREATE DATABASE"):
        PostgresStore(cluster().url("ascii"))


@pytest.mark.parametrize("table", ["meta (x int)", "jobs (id int)"])
def test_tables_of_another_program(where: str, sql: Any, table: str) -> None:
    sql(f"CREATE TABLE {table}")
    with pytest.raises(StoreError, match="it is no store of puppetmaster's"):
        PostgresStore(where)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
    assert sql(tables) == [(1,)]


def test_a_newer_format_is_refused_unless_it_says_otherwise(where: str, sql: Any) -> None:
    PostgresStore(where).close()
    sql(f"UPDATE meta SET format = {schema.FORMAT + 1}")
    PostgresStore(where).close()  # what came has only been added
    sql(f"UPDATE meta SET least = {schema.FORMAT + 1}")
    said = f"has format {schema.FORMAT + 1} and this version reads up to {schema.FORMAT}: use the version"
    with pytest.raises(StoreError, match=said):
        PostgresStore(where)
    assert sql("SELECT owner FROM buses") == [(None,)]


def test_the_steps_to_a_newer_format_are_done_once(
    where: str, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    PostgresStore(where).close()
    step = "ALTER TABLE requests ADD COLUMN bus int NOT NULL DEFAULT 1"
    monkeypatch.setattr(schema, "STEPS", {schema.FORMAT + 1: (step, schema.FORMAT)})
    for _ in range(2):
        with closing(PostgresStore(where)) as store:
            assert sql("SELECT format, least FROM meta") == [(schema.FORMAT + 1, schema.FORMAT)]
    monkeypatch.undo()
    with closing(PostgresStore(where)) as store:  # the version before goes on
        fill(store, 1)
    assert sql("SELECT DISTINCT bus FROM requests") == [(1,)]


def test_another_installations_database_is_refused(where: str) -> None:
    with closing(PostgresStore(where)) as store:
        known = store.known
    other = Known("0123456789abcdef", 1, "/data/puppetmaster.postgresql")
    with pytest.raises(StoreError, match=r"what ran here last was of 0123456789abcdef.*remove /data/pupp"):
        PostgresStore(where, other)
    PostgresStore(where, known).close()


# Copies


#: What is copied: a job that sends, and templates of which one starts by itself.
IDS = Ids(2, first_of(2), 5)
ORIGINAL = replace(creation(1), templates=TEMPLATES, ids=IDS)


def _is_held(where: str, known: Known | None = None) -> None:
    with closing(PostgresStore(where, known)) as store:
        (job,) = store.now.jobs({})
        assert job.status is JobStatus.PAUSED
        assert "the store is a copy" in str(job.reason)
        assert_held(store.now, "the store is a copy")
        assert store.ids == ahead(IDS)


def test_an_older_copy_sends_nothing_by_itself(where: str) -> None:
    with closing(PostgresStore(where)) as store:
        store.commit(ORIGINAL)
        known = store.known
    _is_held(where, known._replace(epoch=known.epoch + 1))


def test_a_copy_in_another_cluster_sends_nothing_by_itself(where: str, sql: Any) -> None:
    with closing(PostgresStore(where)) as store:
        store.commit(ORIGINAL)
    sql("UPDATE meta SET cluster = 'elsewhere'")
    for _ in range(2):  # it is a copy once
        _is_held(where)


# What a store says of itself


def test_large_documents_count_in_the_size(store: PostgresStore) -> None:
    changes = creation(1)
    store.commit(changes)
    assert store.size_bytes == 4 * REQUEST_BYTES
    job = as_ended(changes.jobs[1])
    first = changes.requests[first_of(1)]
    large = replace(first, status=RequestStatus.RESOLVED, finished_at=AT, result={"data": "x" * 10_000})
    store.commit(Changes(jobs={1: job}, requests={first.id: large}))
    assert 4 * REQUEST_BYTES + 9_000 < store.size_bytes < 4 * REQUEST_BYTES + 11_000
    store.commit(Changes(deleted={1: job}))
    assert store.size_bytes == 0


def test_sessions_are_named_so_that_they_can_be_found(store: PostgresStore, sql: Any) -> None:
    names = sql("SELECT DISTINCT application_name FROM pg_stat_activity WHERE usename = '" + USER + "'")
    assert (store._door.name,) in names


def test_a_server_that_does_not_wait_for_the_disk_is_told_to(where: str) -> None:
    with closing(PostgresStore(f"{where}%20-csynchronous_commit%3Doff")) as store:
        assert store._turns.connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_requests_of_all_statuses_are_counted_at_once(store: PostgresStore) -> None:
    fill(store, 1, 2)
    with store.reading() as reader:
        before = [reader.count_requests({"status": "pending"})]
        asked = reader._rows  # type: ignore[attr-defined]
        reader._rows = None  # type: ignore[attr-defined]
        more = [reader.count_requests({"status": one}) for one in ("sent", ["pending", "pending"], [])]
        reader._rows = asked  # type: ignore[attr-defined]
    assert (before, more) == ([6], [0, 6, 0])
