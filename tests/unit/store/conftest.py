"""The store in a file, for its own tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from puppetmaster.store.sqlite.store import SqliteStore

Open = Callable[[], SqliteStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """Open the store, again and again on the same data; what is still open at the end is closed."""
    opened: list[SqliteStore] = []

    def open_() -> SqliteStore:
        while opened:
            opened.pop().close()
        opened.append(SqliteStore(tmp_path / "data"))
        return opened[-1]

    yield open_
    while opened:
        opened.pop().close()


@pytest.fixture
def store(open_store: Open) -> SqliteStore:
    return open_store()
