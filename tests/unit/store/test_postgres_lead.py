"""Who leads a bus, and what becomes of those that do not."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

import psycopg
import pytest

from puppetmaster.errors import NotLeading, StoreError
from puppetmaster.store.base import Changes
from puppetmaster.store.postgres import lead
from puppetmaster.store.postgres.store import PostgresStore
from sandbox.process import Process
from tests.postgres import address
from tests.stored import as_ended, creation, everything, fill

WAIT_S = 30.0
#: A process that leads until it is ended.
LEADS = """
import sys, time
from puppetmaster.store.postgres.store import PostgresStore
store = PostgresStore(sys.argv[1])
print("leads", flush=True)
time.sleep(600)
"""


class Ended(BaseException):
    """Instead of the end of the process."""


class Leader(PostgresStore):
    """A store that notes that its process would have ended."""

    def __init__(self, where: str) -> None:
        self.over = Event()
        super().__init__(where, ended=self._ended)

    def _ended(self, why: str) -> NoReturn:
        assert "Another puppetmaster has taken the lead" in why
        self.over.set()
        raise Ended


@pytest.fixture
def where(tmp_path: Path) -> str:
    return address(tmp_path)


@pytest.fixture
def first(where: str) -> Iterator[Leader]:
    with closing(Leader(where)) as leader:
        yield leader


@pytest.fixture
def row(where: str) -> Iterator[Any]:
    """The row of the bus, as somebody else sees and changes it."""
    with psycopg.connect(where, autocommit=True) as connection:
        yield lambda sql: connection.execute(sql)


def test_while_one_leads_another_is_refused(first: Leader, where: str) -> None:
    fill(first, 1)
    with pytest.raises(NotLeading, match=r"Another puppetmaster leads with .*: stop it, or give") as caught:
        PostgresStore(where)
    assert caught.value.exit_code == 75
    fill(first, 2)
    assert not first.over.is_set()


def test_who_stops_gives_the_lead_away(first: Leader, where: str, row: Any) -> None:
    assert row("SELECT epoch, lease_until > now() FROM buses").fetchone() == (1, True)
    first.close()
    assert row("SELECT owner, lease_until > now() FROM buses").fetchone() == (None, False)
    with closing(PostgresStore(where)) as second:
        assert second.known.epoch == 2


def test_who_was_killed_is_followed_at_once(where: str, tmp_path: Path) -> None:
    with Process("leader", [sys.executable, "-c", LEADS, where], ready="leads") as process:
        process.kill()
    ends = Event()
    for _ in range(100):  # its sessions are gone a moment after it
        try:
            PostgresStore(where).close()
        except NotLeading:
            ends.wait(0.01)
        else:
            return
    pytest.fail("its lease was waited for")


def test_who_stands_still_is_followed_when_its_lease_is_over_and_writes_nothing_more(
    first: Leader, where: str, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(first, 1)
    row("UPDATE buses SET lease_until = now()")
    with closing(PostgresStore(where)) as second:
        fill(second, 2)
        with pytest.raises(Ended):
            first.commit(Changes(jobs={1: as_ended(creation(1).jobs[1])}))
        assert first.over.is_set()
        assert [job.finished_at for job in everything(second)[0]] == [None, None]
        fill(second, 3)


def test_who_has_nothing_to_write_notices_too(where: str, row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "RENEW_S", 0.01)
    with closing(Leader(where)) as leader:
        row("UPDATE buses SET epoch = epoch + 1")
        assert leader.over.wait(WAIT_S)


def test_a_lease_is_renewed_while_nothing_is_written(
    where: str, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "RENEW_S", 0.01)
    with closing(Leader(where)) as leader:
        row("UPDATE buses SET lease_until = '-infinity'")
        ends = Event()
        for _ in range(1000):
            if row("SELECT lease_until > now() FROM buses").fetchone() == (True,):
                break
            ends.wait(0.01)
        else:
            pytest.fail("it was not renewed")
        assert not leader.over.is_set()


def test_a_database_that_is_away_for_longer_than_the_lease_ends_nobody(
    first: Leader, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else leads: it goes on when the database is there again."""

    def away() -> NoReturn:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(first._door, "connect", away)
        row("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '"
            + first._door.name + "'")  # fmt: skip
        assert first._lead._renewed()
        assert first._lead._renewed()
        row("UPDATE buses SET lease_until = now()")
    assert first._lead._renewed()
    assert row("SELECT lease_until > now() FROM buses").fetchone() == (True,)
    fill(first, 1)


def test_the_sessions_of_who_is_followed_are_ended(
    first: Leader, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may have a transaction open, which would hold up the next leader."""
    first._turns.connection.execute("BEGIN")
    first._turns.connection.execute("UPDATE buses SET turn = turn")
    # Its lease is over, which nobody can write into the row that it holds.
    monkeypatch.setattr(lead, "_SEEN", lead._SEEN.replace("lease_until > now()", "false"))
    with closing(PostgresStore(where)) as second:
        fill(second, 1)
        with pytest.raises(StoreError, match="terminating connection"):
            first.now.jobs({})


def test_the_end_of_a_process_that_lost_the_lead() -> None:
    code = "from puppetmaster.store.postgres.lead import end_process; end_process('It is lost.')"
    with Process("lost", [sys.executable, "-c", code]) as process:
        assert process.wait(WAIT_S) == 75
        assert "It is lost. This process ends." in process.output()
