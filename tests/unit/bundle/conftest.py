"""A bundle of ours and one of the SDK's own, with their threads running and no broker."""

from collections.abc import Iterator

import pytest

from tests.unit.bundle.benches import Bench, Plain, Steady


@pytest.fixture
def steady() -> Iterator[Bench]:
    bench = Bench(Steady)
    yield bench
    bench.close()


@pytest.fixture
def plain() -> Iterator[Bench]:
    bench = Bench(Plain)
    yield bench
    bench.close()
