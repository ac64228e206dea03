"""The store in a file for its own tests, and a place in PostgreSQL for those of the other."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from puppetmaster.store.sqlite.store import SqliteStore
from tests.postgres import address
from tests.stored import reopening

Open = Callable[[], SqliteStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    yield from reopening(lambda: SqliteStore(tmp_path / "data"))


@pytest.fixture
def store(open_store: Open) -> SqliteStore:
    return open_store()


@pytest.fixture
def where(tmp_path: Path) -> str:
    """The address of a store of the test's own in PostgreSQL."""
    return address(tmp_path)


@pytest.fixture
def sql(where: str) -> Iterator[Callable[[str], list[Any]]]:
    """Somebody else at the database."""
    with psycopg.connect(where, autocommit=True) as connection:

        def run(statement: str) -> list[Any]:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

        yield run
