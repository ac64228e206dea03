"""The world that most tests of the engine begin with."""

from collections.abc import Iterator

import pytest

from tests.unit.engine.verbs import SETTINGS
from tests.virtual import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS)
    yield made
    made.stop()
