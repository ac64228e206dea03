"""What the doctor says of a database."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event

import psycopg
import pytest

from puppetmaster.cli import doctor
from puppetmaster.cli.doctor import Check
from puppetmaster.errors import StoreError
from puppetmaster.store.postgres import durability
from puppetmaster.store.postgres.connection import Door
from puppetmaster.store.postgres.store import PostgresStore
from sandbox.postgres import Cluster, program
from sandbox.process import Process
from tests.postgres import MEMORY, address, cluster


def test_a_database_that_keeps_what_it_is_given_is_in_order() -> None:
    with Cluster(durable=True, directory=MEMORY if MEMORY.is_dir() else None) as own:
        said = Check("database", "ok", f"{own.url()} can be used")
        assert doctor.database(own.url()) == said, "there is no store yet"
        PostgresStore(own.url()).close()
        with closing(PostgresStore(own.url())):
            assert doctor.database(own.url()) == said, "while it is used"


def test_a_server_that_forgets_is_told(tmp_path: Path) -> None:
    found = doctor.database(address(tmp_path))
    assert found.mark == "warn"
    assert re.findall(r"\((\w+) is off\)", found.says) == ["fsync", "full_page_writes"]


def test_two_servers_of_which_none_waits_for_the_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Door, "hosts", 2)
    assert "set synchronous_standby_names" in durability.doubts(cluster().url())[-1]
    monkeypatch.undo()
    assert Door("postgresql://a,b/db").hosts == 2
    assert Door("postgresql://a/db").hosts == Door("postgresql:///db").hosts == 1


def _until(own: Cluster, sql: str, wanted: str) -> None:
    pause = Event()
    for _ in range(200):
        if own.run(sql) == wanted:
            return
        pause.wait(0.02)
    pytest.fail(f"{sql} did not become {wanted}")


def test_a_standby_that_nobody_waits_for_is_told(tmp_path: Path) -> None:
    with Cluster(directory=MEMORY if MEMORY.is_dir() else None) as own, ExitStack() as stack:
        own.run("SELECT pg_create_physical_replication_slot('s')")
        receive = [program("pg_receivewal") or "", "--slot", "s", "--synchronous", "-D", str(tmp_path)]
        stack.enter_context(Process("standby", [*receive, "-d", own.url()]))
        _until(own, "SELECT state FROM pg_stat_replication", "streaming")
        assert "names a server with a standby and" in durability.doubts(own.url())[-1]
        own.run("ALTER SYSTEM SET synchronous_standby_names = 'another'")
        own.run("SELECT pg_reload_conf()")
        _until(own, "SHOW synchronous_standby_names", "another")
        assert "nobody waits for the standby pg_receivewal, so that" in durability.doubts(own.url())[-1]
        own.run("ALTER SYSTEM SET synchronous_standby_names = 'pg_receivewal'")
        own.run("SELECT pg_reload_conf()")
        _until(own, "SELECT sync_state FROM pg_stat_replication", "sync")
        assert not [said for said in durability.doubts(own.url()) if "standby" in said]
        own.run("ALTER ROLE puppetmaster SET synchronous_commit = 'local'")
        assert "is local and waits for no standby" in durability.doubts(own.url())[-1]


def test_a_pooler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It invents the number of the server's process."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)
    assert "a pooler is between, perhaps in transaction mode" in durability.doubts(cluster().url())[-1]
    monkeypatch.setattr(durability, "_backend", lambda _: 7)
    assert "a pooler is between, in transaction mode" in durability.doubts(cluster().url())[-1]


@pytest.mark.parametrize(("off_s", "said"), [(60, "60 s ahead of that"), (-60, "60 s behind that")])
def test_clocks_that_are_apart_are_told(off_s: float, said: str) -> None:
    assert said in durability.doubts(cluster().url(), lambda: time.time() + off_s)[-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://x", "PUPPETMASTER_STORE: expected an address"),
        ("postgresql:///x?host=/none", "cannot be reached"),
    ],
)
def test_a_database_that_cannot_be_used(given: str, said: str) -> None:
    found = doctor.database(given)
    assert (found.mark, found.name) == ("fail", "database")
    assert said in found.says


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[str]:
    """The address of a store of its own for a user who may read and write tables, and make none."""
    where = address(tmp_path)
    (schema,) = re.findall(r"search_path%3D(\w+)", where)
    cluster().run(
        f"CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {schema} TO guest; "
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO guest"
    )
    yield where.replace("user=puppetmaster", "user=guest")
    cluster().run("DROP OWNED BY guest; DROP ROLE guest")


def test_a_user_who_may_make_no_tables_is_told(guest: str) -> None:
    said = re.escape(f"{guest} lets guest make no tables: make guest its owner")
    with pytest.raises(StoreError, match=said):
        PostgresStore(guest)
    assert re.match(said, doctor.database(guest).says)
    assert doctor.database(guest).mark == "fail"


def test_a_user_who_does_not_see_who_leads_is_told(guest: str) -> None:
    PostgresStore(guest.replace("user=guest", "user=puppetmaster")).close()
    said = "the tables are those of puppetmaster, and guest does not see whether a session"
    assert said in doctor.database(guest).says
    cluster().run("GRANT pg_read_all_stats TO guest")
    assert said not in doctor.database(guest).says
