"""The short form of ``make torture-ha``: few faults, and the control run, which must break promises."""

import pytest

from sandbox.postgres import Cluster
from tests.conftest import needed, require
from tests.torture import leaders

#: Faults follow each other so soon.
RESTS_S = (0.5, 1.5)


@pytest.fixture(autouse=True)
def _installed() -> None:
    needed(Cluster.available(), "postgresql")
    require("mosquitto")


@pytest.mark.timeout(300)
def test_every_promise_holds_over_takeovers() -> None:
    assert leaders.run(1, 2, only=("trapped", "kill"), rests_s=RESTS_S) == []


@pytest.mark.timeout(300)
def test_without_the_fence_at_the_broker_commands_come_late() -> None:
    broken = leaders.run(1, 1, only=("trapped",), unfenced=True, rests_s=RESTS_S)
    assert any("it came after its end" in said or "on record as sent" in said for said in broken), broken
