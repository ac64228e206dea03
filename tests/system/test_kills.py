"""The bundle is killed (SIGKILL) at every boundary while it works; what it promised is true all the same.

This is the short form; ``make torture`` kills it hundreds of times.
"""

from pathlib import Path

import pytest

from tests.conftest import require
from tests.faulty_bundle import POINTS
from tests.torture import kills
from tests.torture.bridged import BridgedWorld
from tests.torture.world import Conditions, World


@pytest.mark.timeout(400)  # what waits for silent gateways at the end goes one after the other
def test_every_promise_holds_over_kills_at_every_boundary(tmp_path: Path) -> None:
    require("mosquitto")
    often = {"sending": 7, "sent": 7, "answered": 7, "pruning": 1}
    faults = [f"{point}:{often.get(point, 2)}" for point in POINTS]
    outcome = kills.run(4, kills.at_every_point(faults, most=60), tmp_path, faults=faults[:1])
    assert not outcome.faults
    assert outcome.points.keys() >= POINTS.keys(), "60 kills were enough to pass each"
    assert outcome.statuses["resolved"] > 50
    assert outcome.starts["started"] > 5
    assert outcome.told > 10


@pytest.mark.timeout(400)
def test_every_promise_holds_on_bridged_gateways(tmp_path: Path) -> None:
    """What is broken there and not elsewhere, one after the other; the way is chosen for each request."""
    require("mosquitto")

    def breakage(world: World) -> None:
        assert isinstance(world, BridgedWorld)
        gateway = world.gateways["cg-1"]
        world.kill_bundle(1)
        world.switch_off(gateway, 1)
        world.cut_off(gateway, 1)
        world.restart_broker()
        world.settle()

    outcome = kills.run(1, breakage, tmp_path, conditions=Conditions(route="auto"), bridged=True)
    assert not outcome.faults
    assert outcome.statuses["resolved"] > 10
