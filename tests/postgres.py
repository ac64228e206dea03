"""PostgreSQL for tests: a cluster for all of them, and in it a place for each store."""

import hashlib
from functools import cache
from pathlib import Path

import psycopg

from sandbox.postgres import Cluster
from tests.conftest import needed

#: Data that need not outlive the tests.
MEMORY = Path("/dev/shm")


@cache
def cluster() -> Cluster:
    """The cluster of this process, which ends with it. Without PostgreSQL the test is skipped."""
    needed(Cluster.available(), "postgresql")
    return Cluster(directory=MEMORY if MEMORY.is_dir() else None).start()


@cache
def _connection() -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(cluster().url(), autocommit=True)


def address(place: Path) -> str:
    """The address of a store of its own, the same for the same ``place``."""
    schema = f"s{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"
    _connection().execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    return cluster().url(schema=schema)
