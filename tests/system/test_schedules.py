"""The bundle is killed (SIGKILL) while its schedule is due: each minute starts once, none is forgotten."""

import random
import threading
import time
from pathlib import Path

import pytest

from puppetmaster.clock import iso
from puppetmaster.model.cron import Cron
from tests import flow
from tests.conftest import require
from tests.flow import batch
from tests.torture.faults import Shim
from tests.torture.starts import MINUTELY as EACH
from tests.torture.starts import start_faults

KILLS = 8
MINUTELY = {"cron": EACH, "missed": "run", "overlap": "queue"}


class Wall:
    """The wall clock of the bundle, which is set ahead so that nobody waits for a whole minute."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._ahead_s = 0.0

    def now_s(self) -> float:
        return time.time() + self._ahead_s

    def go_to_minute(self, before_s: float) -> None:
        """Set it to ``before_s`` before the next full minute."""
        self._ahead_s += 60 - self.now_s() % 60 - before_s
        self._shim.tell(behind_s=-self._ahead_s)


@pytest.mark.timeout(200)
def test_kills_while_a_start_is_due(tmp_path: Path) -> None:
    require("mosquitto")
    if not Shim.available():
        pytest.skip("gcc is not installed")
    rng, pause = random.Random(15), threading.Event()
    with flow.running(tmp_path, "--to", "cg-1") as started:
        shim = Shim(tmp_path)
        wall = Wall(shim)
        started.gateway.bundle.env.update(shim.env)
        started.restart()
        template = {"name": "minutely", "job": batch("post", ["cg-1"]), "schedule": MINUTELY}
        begun_s = wall.now_s()
        started.asked("post", "/templates", template)
        for _ in range(KILLS):
            wall.go_to_minute(before_s=0.2)
            pause.wait(0.2 + rng.uniform(-0.02, 0.12))
            started.restart()
            started.asked("get", "/templates/1")
        started.sent_by_now()
        pause.wait(1.5)  # the longest sleep of the dispatcher: what is due has begun
        shown = started.asked("get", "/templates/1")
        jobs = started.asked("get", "/jobs?template=1")
        for job in jobs:
            started.ended(job)
        sent = started.commands("cg-1")
    minutes = [iso(at_s) for at_s in Cron(EACH, "UTC").passed(begun_s, wall.now_s(), 100)]
    assert not [*start_faults(shown, jobs, minutes)]
    assert len(jobs) >= KILLS - 2
    assert len(sent) <= len(jobs)
