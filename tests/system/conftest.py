"""A PostgreSQL that waits for the disk: one cluster for all tests here, and for each an empty database."""

from collections.abc import Iterator

import pytest

from sandbox.postgres import Cluster
from tests.conftest import needed


@pytest.fixture(scope="session")
def lasting() -> Iterator[Cluster]:
    needed(Cluster.available(), "postgresql")
    with Cluster(durable=True) as started:
        yield started


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    """It runs, and nothing is in it. The test may kill it."""
    if not lasting.process.running:
        lasting.start()
    for statement in ("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()"):
        lasting.run(statement, "template1")
    for statement in ("DROP DATABASE postgres WITH (FORCE)", "CREATE DATABASE postgres"):
        lasting.run(statement, "template1")
    return lasting
