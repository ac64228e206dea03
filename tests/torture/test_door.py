"""The bus door over takeovers, in short."""

from pathlib import Path

import pytest

from sandbox.postgres import Cluster
from tests.conftest import needed, require
from tests.torture import door


@pytest.mark.timeout(300)
def test_callers_over_the_bus_are_answered_soon_over_takeovers(tmp_path: Path) -> None:
    needed(Cluster.available(), "postgresql")
    require("mosquitto")
    callers = door.run(tmp_path, seed=2, takeovers=4)
    assert door.faults(callers) == []
    assert all(len(caller.ids) > 4 for caller in callers), "they called all the time"


def test_who_waits_for_too_long_is_seen() -> None:
    slow, twice = door.Caller.__new__(door.Caller), door.Caller.__new__(door.Caller)
    slow.slow_s, slow.ids = [door.LIMIT_S], {"a": 1}
    twice.slow_s, twice.ids = [], {"b": 1}
    assert door.faults([slow, twice]) == [
        "a caller had its answer after 10.0 s",
        "1 callers were given the job of another one",
    ]
