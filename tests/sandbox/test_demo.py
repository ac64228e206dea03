"""What the demo says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import demo
from tests import ROOT


@pytest.mark.parametrize("target", ["demo", "demo-bridged"])
def test_it_goes_on_when_that_is_wanted(target: str) -> None:
    said = [
        subprocess.run(["make", "-n", target, *words], cwd=ROOT, capture_output=True, text=True, check=True)
        for words in ([], ["KEEP=1"])
    ]
    assert ["--keep" in one.stdout for one in said] == [False, True]
    assert f"make {target} KEEP=1" in demo.AGAIN.values()


def test_its_commands_are_those_that_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert demo.command() == [".venv/bin/python", "-m", "puppetmaster"]
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/puppetmaster").touch()
    assert demo.command() == [".venv/bin/puppetmaster"]
