"""What the demo says of itself."""

import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox import demo, demo_ha, postgres
from sandbox.postgres import Cluster
from sandbox.process import ProcessError, free_port
from tests import ROOT
from tests.conftest import needed


@pytest.mark.parametrize("target", ["demo", "demo-bridged", "demo-ha"])
def test_it_goes_on_when_that_is_wanted(target: str) -> None:
    said = [
        subprocess.run(["make", "-n", target, *words], cwd=ROOT, capture_output=True, text=True, check=True)
        for words in ([], ["KEEP=1"])
    ]
    assert ["--keep" in one.stdout for one in said] == [False, True]
    assert f"make {target} KEEP=1" in {*demo.AGAIN.values(), demo_ha.AGAIN}


def test_its_commands_are_those_that_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert demo.command() == [".venv/bin/python", "-m", "puppetmaster"]
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/puppetmaster").touch()
    assert demo.command() == [".venv/bin/puppetmaster"]


def test_a_leader_is_killed_and_the_job_goes_on() -> None:
    needed(Cluster.available(), "postgresql")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.demo_ha", "--kills", "1", "--gateways", "40"],
        cwd=ROOT,
        env={**os.environ, "PUPPETMASTER_HTTP": f"127.0.0.1:{free_port()}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "leads, and is killed (-9)" in done.stdout
    assert "as leader number 2." in done.stdout
    said = re.search(r"(\d+) of 40 gateways got the command once, 0 more than once\.", done.stdout)
    assert said is not None
    assert int(said[1]) >= 38, "those that were being sent when it was killed may be missing"


def test_a_cluster_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "program", lambda _: "/bin/ls")  # which does not take these options
    with ExitStack() as ends:
        made = Cluster()
        ends.push(made)
        with pytest.raises(ProcessError, match=r"initdb to make a cluster in .*, it did not:\n.*/ls: "):
            made.start()


def test_what_the_gateways_say_is_counted() -> None:
    assert demo_ha.counted(Counter({1: 7})) == "7 of 7 gateways got the command once, 0 more than once."
    said = demo_ha.counted(Counter({1: 7, 2: 1, 3: 1, 0: 1}))
    assert said.startswith("7 of 10 gateways got the command once, 2 more than once. 1 never got it")
