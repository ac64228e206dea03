"""A bundle with its threads running and no broker."""

from collections.abc import Iterator

import pytest

from tests.unit.bundle.benches import Bench


@pytest.fixture
def steady() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()
