"""What is asked of the process that leads: done once or not at all, and told as what it is."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from puppetmaster.errors import LOOK_AGAIN, StoreError, Unavailable
from puppetmaster.store.postgres import orders
from puppetmaster.store.postgres.connection import Door
from puppetmaster.store.postgres.orders import Asker, Taker
from puppetmaster.store.postgres.store import PostgresStore
from tests.desk import until
from tests.postgres import address

WAIT_S = 30.0


class Done:
    """Orders that were carried out."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    def note(self, asked: str) -> str:
        self.orders.append(asked)
        return asked


@pytest.fixture
def where(tmp_path: Path) -> str:
    """Where somebody leads, who answers nothing."""
    place = address(tmp_path)
    PostgresStore(place).close()
    with psycopg.connect(place) as connection:
        connection.execute("UPDATE buses SET owner = 'somebody', lease_until = 'infinity'")
    return place


@pytest.fixture
def asker(where: str) -> Iterator[Asker]:
    with closing(Asker(where)) as made:
        yield made


@pytest.fixture
def sql(where: str) -> Iterator[Callable[[str], Any]]:
    with psycopg.connect(where, autocommit=True) as connection:
        yield lambda text: connection.execute(text)


@pytest.fixture
def taking(where: str) -> Iterator[Callable[..., Taker]]:
    """Answers orders as the leader of an epoch does."""
    with ExitStack() as stack:

        def take(answer: Callable[[str], str], epoch: int = 1) -> Taker:
            return stack.enter_context(closing(Taker(Door(where), epoch, answer)))

        yield take


def test_an_order_is_answered_and_leaves_nothing(asker: Asker, taking: Any, sql: Any) -> None:
    taking(lambda asked: asked.upper())
    assert [asker.ask(text, WAIT_S) for text in ("one", "two", "\u20ac")] == ["ONE", "TWO", "\u20ac"]
    assert sql("SELECT count(*) FROM orders").fetchone() == (0,)


def test_many_ask_at_once(asker: Asker, taking: Any) -> None:
    taking(lambda asked: asked * 2)
    told: dict[int, str] = {}

    def ask(number: int) -> None:
        told[number] = asker.ask(str(number), WAIT_S)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert told == {number: str(number) * 2 for number in range(30)}


def test_it_is_answered_when_all_connections_that_were_kept_are_broken(
    asker: Asker, taking: Any, sql: Any
) -> None:
    """As after a restart of the server."""
    at_once = threading.Barrier(4)

    def answer(asked: str) -> str:
        if asked == "together":
            at_once.wait(WAIT_S)
        return asked

    taking(answer)
    threads = [threading.Thread(target=asker.ask, args=["together", WAIT_S]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'puppetmaster %'")
    assert asker.ask("after", WAIT_S) == "after"


def test_what_nobody_takes_is_withdrawn(asker: Asker, taking: Any, sql: Any) -> None:
    with pytest.raises(Unavailable) as caught:
        asker.ask("one", 0.0)
    assert caught.value.message == "Not begun within 0 s: nothing was changed. Try again."
    assert sql("SELECT count(*) FROM orders").fetchone() == (0,)


def test_what_is_too_old_is_not_taken(asker: Asker, taking: Any, sql: Any) -> None:
    """Its asker is dead."""
    sql("INSERT INTO orders (reply, asked, until) VALUES ('r', 'old', now() - interval '1 s')")
    done = Done()
    taking(done.note)
    assert asker.ask("new", WAIT_S) == "new"
    assert done.orders == ["new"]


def test_an_order_of_an_asker_that_died_is_carried_out_once(taking: Any, sql: Any, asker: Asker) -> None:
    sql("INSERT INTO orders (reply, asked, until) VALUES ('r', 'left', now() + interval '9 s')")
    done = Done()
    for _ in range(2):
        taking(done.note)
    until(lambda: done.orders, "it is carried out")
    assert [asker.ask("after", WAIT_S) for _ in range(3)] == ["after"] * 3
    assert sorted(done.orders) == ["after"] * 3 + ["left"]


def test_whoever_does_not_lead_takes_nothing(asker: Asker, taking: Any, sql: Any) -> None:
    done = Done()
    taking(done.note, epoch=0)
    with pytest.raises(Unavailable, match="Not begun"):
        asker.ask("one", 0.5)
    assert done.orders == []


def test_one_that_a_former_leader_has_taken_is_not_known(asker: Asker, taking: Any, sql: Any) -> None:
    ends = threading.Event()

    def never(asked: str) -> str:
        sql("UPDATE buses SET epoch = epoch + 1")
        ends.wait(WAIT_S)
        return asked

    taking(never)
    with pytest.raises(Unavailable) as caught:
        asker.ask("one", WAIT_S)
    ends.set()
    assert caught.value.message == f"Not confirmed, since another puppetmaster leads now: {LOOK_AGAIN}."


def test_one_whose_answer_does_not_come_is_not_known(
    asker: Asker, taking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "SLACK_S", 0.2)
    ends = threading.Event()
    taking(lambda asked: asked if ends.wait(WAIT_S) else "")
    with pytest.raises(Unavailable) as caught:
        asker.ask("one", 0.2)
    ends.set()
    assert caught.value.message == f"Not confirmed within 0.4 s: {LOOK_AGAIN}."


def test_after_a_crash_of_the_server_it_is_not_known(asker: Asker, taking: Any, sql: Any) -> None:
    """The table is empty then."""
    ends = threading.Event()

    def crash(asked: str) -> str:
        sql("TRUNCATE orders")
        ends.wait(WAIT_S)
        return asked

    taking(crash)
    with pytest.raises(Unavailable, match="the database was started again: look again later"):
        asker.ask("one", WAIT_S)
    ends.set()


def test_an_answer_comes_over_a_new_connection_too(asker: Asker, taking: Any, sql: Any) -> None:
    def cut(asked: str) -> str:
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'puppetmaster %' AND query LIKE '%FROM orders, buses%'"
        )
        return asked

    taking(cut)
    assert asker.ask("one", WAIT_S) == "one"
    assert asker.ask("two", WAIT_S) == "two"


def test_an_answer_that_was_read_is_not_lost_with_the_connection(
    asker: Asker, taking: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut:
        """A connection that is lost when the server has removed an order."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def execute(self, sql: str, values: Any) -> Any:
            done = self._connection.execute(sql, values)
            if sql == orders._DROP:
                self._connection.close()
                raise psycopg.OperationalError("lost")
            return done

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    line = orders._Line(Door(where))
    line.connection = Cut(line.connection)  # type: ignore[assignment]
    monkeypatch.setattr(asker, "_line", lambda: line)
    taking(lambda asked: asked.upper())
    assert asker.ask("one", WAIT_S) == "ONE"


def test_at_the_end_nothing_more_is_taken(
    where: str, sql: Any, taking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not be carried out, and nobody could withdraw it."""
    monkeypatch.setattr(orders, "AT_ONCE", 1)
    monkeypatch.setattr(orders, "LOOK_S", 0.0)
    begun, ends = threading.Event(), threading.Event()

    def slow(asked: str) -> str:
        begun.set()
        assert ends.wait(WAIT_S)
        return asked

    order = "INSERT INTO orders (reply, asked, until) VALUES ('r', '{}', now() + interval '1 hour')"
    sql(order.format("one"))
    taker = taking(slow)
    assert begun.wait(WAIT_S)
    sql(order.format("two"))
    closing_ = threading.Thread(target=taker.close)
    closing_.start()
    until(taker._over.is_set, "it is to end")
    ends.set()
    closing_.join(WAIT_S)
    taker.thread.join(WAIT_S)
    assert sql("SELECT epoch FROM orders WHERE asked = 'two'").fetchone() == (None,)


def test_while_the_server_waits_for_its_standby_that_is_said_too(
    asker: Asker, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is not renewed then, and who takes over waits too."""
    monkeypatch.setattr("puppetmaster.store.postgres.orders.held_up", lambda *_: "It waits for its standby.")
    sql("UPDATE buses SET lease_until = now()")
    with pytest.raises(Unavailable, match=r"nothing was changed\. Try again\. It waits for its standby\."):
        asker.ask("one", WAIT_S)


def test_while_nobody_leads_nothing_is_asked(asker: Asker, sql: Any) -> None:
    sql("UPDATE buses SET lease_until = now()")
    with pytest.raises(Unavailable, match=r"No puppetmaster leads with .* at present: nothing was changed"):
        asker.ask("one", WAIT_S)
    assert sql("SELECT count(*) FROM orders").fetchone() == (0,)


def test_an_earlier_version_takes_no_orders(asker: Asker, sql: Any) -> None:
    sql("DROP TABLE orders")
    with pytest.raises(Unavailable, match="an earlier version, and takes no orders: nothing was changed"):
        asker.ask("one", WAIT_S)


def test_where_no_server_is_nothing_is_asked(tmp_path: Path) -> None:
    with closing(Asker(f"postgresql:///x?host={tmp_path}")) as asker:
        with pytest.raises(StoreError, match="cannot be reached"):
            asker.ask("one", WAIT_S)
        with pytest.raises(StoreError, match="cannot be reached"), asker.reading():
            pass
