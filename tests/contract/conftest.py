"""The stores that are held to their contract, and what answers over HTTP are held to.

A test that asks for a store runs with every implementation.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from puppetmaster.store.base import Store
from puppetmaster.store.memory import Memory, MemoryStore
from puppetmaster.store.postgres.store import PostgresStore
from puppetmaster.store.sqlite.store import SqliteStore
from schema import generate
from tests.postgres import address
from tests.stored import reopening


def validator(name: str) -> Any:
    """Of the schema of this name in the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": dict(generate.SCHEMAS)}}
    return jsonschema_rs.validator_for(schema)


#: Opens a store, again and again on the same data.
Open = Callable[[], Store]


def _sqlite(place: Path) -> Open:
    return lambda: SqliteStore(place)


def _memory(_: Path) -> Open:
    memory = Memory()
    return lambda: MemoryStore(memory)


def _postgres(place: Path) -> Open:
    where = address(place)
    return lambda: PostgresStore(where)


#: Every implementation there is: each gives its own place, and opens it.
IMPLEMENTATIONS = {"sqlite": _sqlite, "memory": _memory, "postgres": _postgres}


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> Callable[[Path], Open]:
    """The contract is the same for each."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
def open_store(implementation: Callable[[Path], Open], tmp_path: Path) -> Iterator[Open]:
    yield from reopening(implementation(tmp_path / "data"))


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all tests of a module that only read: the module fills it."""
    with closing(IMPLEMENTATIONS[request.param](tmp_path_factory.mktemp("data"))()) as opened:
        yield opened


def both(store: Store, open_store: Open) -> Iterator[Store]:
    """The store at once, and after a restart."""
    yield store
    yield open_store()
