"""Buses to ask a controller on."""

from collections.abc import Iterator

import pytest

from sandbox.controller import real_controller
from tests.sandbox.buses import Bus, RealBus, StandInBus


@pytest.fixture
def bus() -> Iterator[Bus]:
    """Give the stand-in, and with ``SANDBOX_CONTROLLER`` the real controller: both pass the same tests."""
    if real_controller() is None:
        yield StandInBus()
    else:
        with RealBus() as real:
            yield real


@pytest.fixture
def stand_in() -> StandInBus:
    """Give the stand-in; its clock goes on when the test says so."""
    return StandInBus()
