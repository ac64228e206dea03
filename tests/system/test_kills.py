"""The bundle is killed (SIGKILL) at every boundary while it works; what it promised is true all the same.

This is the short form; ``make torture`` kills it hundreds of times.
"""

from functools import partial
from pathlib import Path

import pytest

from tests.conftest import require
from tests.faulty_bundle import POINTS
from tests.torture import kills
from tests.torture.bridged import BridgedWorld
from tests.torture.kills import Outcome
from tests.torture.world import Conditions, World

#: How often points are passed until one of them kills; all others at the second time.
OFTEN = {"sending": 7, "sent": 7, "answered": 7, "pruning": 1}
#: The way is chosen for each request.
AUTO = Conditions(route="auto")


def _break_what_is_bridged(world: World) -> None:
    """What is broken there and not elsewhere, one after the other."""
    assert isinstance(world, BridgedWorld)
    gateway = world.gateways["cg-1"]
    world.kill_bundle(1)
    world.switch_off(gateway, 1)
    world.cut_off(gateway, 1)
    world.restart_broker()
    world.settle()


@pytest.mark.timeout(400)  # what waits for silent gateways at the end goes one after the other
def test_every_promise_holds_over_kills_at_every_boundary(tmp_path: Path) -> None:
    """Each of two worlds is killed at every other point, and beside them is one of bridged gateways."""
    require("mosquitto")
    faults = [f"{point}:{OFTEN.get(point, 2)}" for point in POINTS]
    folders = [tmp_path / name for name in ("one", "other", "bridged")]
    for folder in folders:
        folder.mkdir()

    def at_half(seed: int, half: list[str], folder: Path) -> Outcome:
        return kills.run(seed, kills.at_every_point(half, most=30), folder, faults=half[:1])

    one, other, bridged = kills.side_by_side(
        partial(at_half, 4, faults[::2], folders[0]),
        partial(at_half, 5, faults[1::2], folders[1]),
        partial(kills.run, 1, _break_what_is_bridged, folders[2], conditions=AUTO, bridged=True),
    )
    assert not bridged.faults
    assert bridged.statuses["resolved"] > 10
    one += other
    assert not one.faults
    assert one.points.keys() >= POINTS.keys(), "60 kills were enough to pass each"
    assert one.statuses["resolved"] > 50
    assert one.starts["started"] > 5
    assert one.told > 10
