"""The short form of ``make torture-ha``: few faults, and the control run, which must break promises."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.postgres import Cluster
from tests.conftest import needed, require
from tests.torture import leaders

#: Faults follow each other so soon.
RESTS_S = (0.5, 1.5)


@pytest.mark.timeout(300)
def test_every_promise_holds_over_takeovers_and_not_without_the_fence_at_the_broker() -> None:
    """The two runs mostly wait, so they run at the same time."""
    needed(Cluster.available(), "postgresql")
    require("mosquitto")
    with ThreadPoolExecutor(2) as pool:
        fenced = pool.submit(leaders.run, 1, 2, only=("trapped", "kill"), rests_s=RESTS_S)
        unfenced = pool.submit(leaders.run, 1, 1, only=("trapped",), unfenced=True, rests_s=RESTS_S)
    assert fenced.result() == []
    broken = unfenced.result()
    assert any("it came after its end" in said or "on record as sent" in said for said in broken), broken
