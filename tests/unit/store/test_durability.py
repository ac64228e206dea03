"""What the doctor says of a database."""

import re
from contextlib import closing
from pathlib import Path

import pytest

from puppetmaster.cli import doctor
from puppetmaster.cli.doctor import Check
from puppetmaster.store.postgres import durability
from puppetmaster.store.postgres.connection import Door
from puppetmaster.store.postgres.store import PostgresStore
from sandbox.postgres import Cluster
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
