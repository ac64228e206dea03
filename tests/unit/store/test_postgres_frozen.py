"""A server that is frozen: its connections stay open, nothing answers, and nobody waits for ever."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from threading import Thread
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from psycopg import waiting

from puppetmaster.errors import PuppetmasterError, StoreError, Unavailable
from puppetmaster.events import Hub
from puppetmaster.store.postgres import connection as connections
from puppetmaster.store.postgres import lead, orders, sessions
from puppetmaster.store.postgres.connection import Door, Silent
from puppetmaster.store.postgres.orders import Asker
from puppetmaster.store.postgres.store import PostgresStore
from sandbox.postgres import Cluster
from tests.conftest import needed
from tests.desk import until
from tests.postgres import MEMORY
from tests.stored import creation, fill

#: In place of half a minute, and of seconds.
ANSWER_S = 0.3
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    needed(Cluster.available(), "postgresql")
    with Cluster(directory=MEMORY if MEMORY.is_dir() else None) as started:
        yield started


@pytest.fixture
def own(server: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A server of the test's own, and short waits for it."""
    for statement in ("DROP DATABASE postgres WITH (FORCE)", "CREATE DATABASE postgres"):
        server.run(statement, "template1")
    for module, name in ((connections, "ANSWER_S"), (sessions, "QUICK_S"), (orders, "QUICK_S")):
        monkeypatch.setattr(module, name, ANSWER_S)
    monkeypatch.setattr(lead, "CLOSE_S", ANSWER_S)
    return server


def ended(why: str) -> NoReturn:
    pytest.fail(why)


@pytest.fixture
def store(own: Cluster) -> Iterator[PostgresStore]:
    with closing(PostgresStore(own.url(), ended=ended)) as opened:
        fill(opened, 1)
        yield opened


def said(verb: Callable[[], object]) -> str:
    """With which words it fails. It has to fail in time."""
    told: list[str] = []

    def run() -> None:
        try:
            verb()
        except PuppetmasterError as error:
            told.append(error.message)
        except Silent as error:
            told.append(str(error))

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive(), "it waits without an end"
    assert told, "it went well"
    return told[0]


def jobs(store: PostgresStore | Asker) -> list[int]:
    with store.reading() as reader:
        return [*reader.job_ids({})]


def test_a_read_over_a_connection_that_was_kept_ends(store: PostgresStore, own: Cluster) -> None:
    assert jobs(store) == [1]
    with own.frozen():
        assert said(lambda: jobs(store)) == f"{own.url()} cannot be read: it did not answer within 0.3 s."
    assert jobs(store) == [1]


def test_a_read_that_has_begun_ends(store: PostgresStore, own: Cluster) -> None:
    def read() -> None:
        with store.reading() as reader, own.frozen():
            reader.jobs({})

    assert said(read).endswith("cannot be read: it did not answer within 0.3 s.")
    assert jobs(store) == [1]


def test_what_a_session_that_was_given_up_had_locked_is_free(own: Cluster) -> None:
    door = Door(own.url())
    with closing(door.connect()) as other:
        other.execute("CREATE TABLE held (id int)")
        other.execute("BEGIN")
        other.execute("LOCK TABLE held")
        with closing(door.connect()) as waits:
            waits.execute("BEGIN")
            waits.execute("SELECT pg_advisory_xact_lock(1)")
            assert said(lambda: waits.execute("SELECT FROM held")) == "it did not answer within 0.3 s"
        with closing(door.connect()) as third:
            third.execute("SELECT pg_advisory_lock(1)")


def test_it_is_no_silence_when_much_comes_slowly(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    def slow() -> Generator[Any, Any, list[int]]:
        came = []
        for _ in range(5):
            came.append((yield waiting.WAIT_W))  # the socket can be written to, at once
            now_s[0] += ANSWER_S - 0.1
        came.append((yield waiting.WAIT_R))  # nothing is there to be read
        return came

    with closing(Door(own.url()).connect()) as connection:
        assert connection.wait(slow()) == [waiting.READY_W] * 5 + [waiting.READY_NONE]


def test_a_leader_doubts_and_leads_on(store: PostgresStore, own: Cluster) -> None:
    with own.frozen():
        said_by = []
        thread = Thread(target=lambda: said_by.append(store.confirm()), daemon=True)
        thread.start()
        thread.join(WAIT_S)
        assert said_by == [False], "no permit"
        assert not store.may_act()
        assert "cannot be reached" in (store.held_up() or "")
    until(store.may_act, "it has renewed its lease")
    assert store.confirm()
    fill(store, 2)


def test_a_leader_that_is_closed_ends(store: PostgresStore, own: Cluster) -> None:
    store.serve(lambda asked: asked, Hub())
    with closing(Asker(own.url())) as asker:
        assert asker.ask("one", WAIT_S) == "one"  # its connections are kept
    with own.frozen():
        for end in (store.end_serving, store.close):
            thread = Thread(target=end, daemon=True)
            thread.start()
            thread.join(WAIT_S)
            assert not thread.is_alive(), "it waits without an end"


def test_who_asks_the_leader_is_told(store: PostgresStore, own: Cluster) -> None:
    store.serve(lambda asked: asked, Hub())
    with closing(Asker(own.url())) as asker:
        assert asker.ask("one", WAIT_S) == "one"
        with own.frozen():
            assert "did not answer within 0.3 s" in said(lambda: asker.ask("two", WAIT_S))
        assert asker.ask("three", WAIT_S) == "three"
    store.end_serving()


def test_an_order_whose_answer_does_not_come_is_told_as_not_known(
    store: PostgresStore, own: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "SLACK_S", 0.0)
    with closing(Asker(own.url())) as asker, ExitStack() as frozen:

        def answer(asked: str) -> str:
            frozen.enter_context(own.frozen())
            return asked

        store.serve(answer, Hub())
        with pytest.raises((Unavailable, StoreError), match="Not confirmed"):
            asker.ask("one", 1.0)
    store.end_serving()


def test_a_standby_says_that_it_waits_for_the_server(store: PostgresStore, own: Cluster) -> None:
    told: list[str] = []

    standby = Thread(target=lambda: PostgresStore(own.url(), waiting=told.append, ended=ended).close())
    standby.start()
    until(lambda: told, "it waits")
    with own.frozen():
        until(lambda: any("did not answer within 0.3 s" in one for one in told), "it says so")
    store.close()
    standby.join(WAIT_S)
    assert not standby.is_alive(), "it has led"


def test_a_turn_that_is_not_answered_is_settled_afterwards(store: PostgresStore, own: Cluster) -> None:
    with own.frozen():
        assert "cannot be written" in said(lambda: store.commit(creation(2)))
    until(lambda: written(store), "it can be written again")
    assert jobs(store) == [2, 1]


def written(store: PostgresStore) -> bool:
    try:
        store.commit(creation(2))
    except StoreError:
        return False
    return True
