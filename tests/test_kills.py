"""The bundle is killed (SIGKILL) at every boundary while it works; what it promised is true all the same.

This is the short form; ``make torture`` kills it hundreds of times.
"""

from pathlib import Path

from tests.conftest import require
from tests.faulty_bundle import POINTS
from tests.torture import kills


def test_every_promise_holds_over_kills_at_every_boundary(tmp_path: Path) -> None:
    require("mosquitto")
    often = {"sending": 7, "sent": 7, "answered": 7, "pruning": 1}
    faults = [f"{point}:{often.get(point, 2)}" for point in POINTS]
    outcome = kills.run(4, kills.killing(len(faults) + 2, wait_s=3.0), tmp_path, faults=faults)
    assert not outcome.faults
    assert outcome.kills >= len(faults)
    assert len(outcome.points.keys() & POINTS.keys()) >= len(POINTS) - 3, outcome.points
    assert outcome.statuses["resolved"] > 50
