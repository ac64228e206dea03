"""The design of takeover is model-checked: docs/model/takeover.pml, by spin, over every interleaving.

The whole model shows no error. Without one of its guards it must show how that goes wrong.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.conftest import program

pytestmark = pytest.mark.timeout(900)

MODEL = ROOT / "docs" / "model" / "takeover.pml"
#: What of the model is looked at: all with one fault, one request with two.
WHOLE = ("-DFAULTS=1",)
ONCE, AGAIN = ("-DFAULTS=2", "-DONLY_ONCE"), ("-DFAULTS=2", "-DONLY_AGAIN")
SMALL, SMALL_AGAIN = ("-DFAULTS=1", "-DONLY_ONCE"), ("-DFAULTS=1", "-DONLY_AGAIN")
SAFETY = ("-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE")
#: The other way round and not too deep, which finds errors sooner.
HUNT = (*SAFETY, "-DREVERSE")
DEEP = 260
SHORTEST = ("-DSAFETY", "-DNOCLAIM", "-DBFS")
LIVENESS = ("-DNFAIR=3", "-DCOLLAPSE")
FAIR = ("-a", "-f", "-N", "settles")
#: How these assertions begin: a command comes before its request ends; it comes once; nothing is overwritten.
TOO_LATE, TWICE, OVERWRITTEN = "( !((((row[r]", "((r==1)|| !(reached))", "((((row[r]==status)||"
#: Switch -> what is looked at, and which of them is found broken without this guard.
VARIANTS = {
    "NO_CLIENT_ID": (SMALL, TOO_LATE),
    "NO_EPOCH": (SMALL, TWICE),
    "NO_TURN": (SMALL, OVERWRITTEN),
    "NO_PERMIT": (SMALL, TOO_LATE),
    "NO_BARRIER": (SMALL, TOO_LATE),
    "EARLY_PROBE": (SMALL, TOO_LATE),
    "STRICT": (SMALL_AGAIN, TOO_LATE),
}


def build(folder: Path, switches: tuple[str, ...], kind: tuple[str, ...]) -> None:
    """Make the verifier of the model in a folder. To compile it well takes longer than it runs."""
    spin, gcc = program("spin", "spin"), program("gcc", "gcc")
    shutil.copy(MODEL, folder)
    for command in (
        [spin, "-a", *switches, MODEL.name],
        [gcc, "-O0", "-w", "-DMEMLIM=1024", *kind, "-o", "pan", "pan.c"],
    ):
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr


def verify(folder: Path, *options: str) -> str:
    """Run the verifier, and return what it says. Without an error it has looked at everything."""
    ran = subprocess.run(
        ["./pan", "-m1000000", *options], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert "errors:" in ran.stdout, ran.stdout + ran.stderr
    assert errors(ran.stdout) or ("too small" not in ran.stdout and "MEMLIM" not in ran.stdout), ran.stdout
    return ran.stdout


def errors(said: str) -> int:
    return int(re.findall(r"errors: (\d+)", said)[0])


def unreached(said: str) -> set[str]:
    """The steps of processes that no run took."""
    steps = re.findall(r"takeover\.pml:(\d+), state (\d+), \"(.*)\"", said)
    return {f"{line}: {number}" for line, number, step in steps if step != "-end-"}


def test_nothing_goes_wrong_and_every_step_is_taken(tmp_path: Path) -> None:
    missed = []
    for switches in (WHOLE, ONCE, AGAIN):
        build(tmp_path, switches, SAFETY)
        said = verify(tmp_path, "-E")
        assert errors(said) == 0, said
        missed.append(unreached(said))
    assert set.intersection(*missed) == set()


@pytest.mark.parametrize("switches", [SMALL, SMALL_AGAIN], ids=["once", "again"])
def test_every_request_ends_and_somebody_leads_again(tmp_path: Path, switches: tuple[str, ...]) -> None:
    build(tmp_path, switches, LIVENESS)
    said = verify(tmp_path, *FAIR)
    assert errors(said) == 0, said


def test_without_a_lease_nobody_leads_after_a_leader_that_is_frozen_for_ever(tmp_path: Path) -> None:
    build(tmp_path, (*SMALL, "-DNO_LEASE"), LIVENESS)
    assert "acceptance cycle" in verify(tmp_path, *FAIR)


def test_commands_arrive_and_another_process_leads_whatever_the_first_was_doing(tmp_path: Path) -> None:
    build(tmp_path, SMALL, LIVENESS)
    claims = re.findall(r"^ltl (no\w+)", MODEL.read_text(), re.MULTILINE)
    assert len(claims) == 6
    for claim in claims:
        assert "assertion violated" in verify(tmp_path, "-a", "-N", claim), claim


@pytest.mark.parametrize("switch", VARIANTS)
def test_without_a_guard_it_goes_wrong(tmp_path: Path, switch: str) -> None:
    switches, broken = VARIANTS[switch]
    build(tmp_path, (*switches, f"-D{switch}"), HUNT)
    said = verify(tmp_path, "-E", f"-m{DEEP}")
    violated = re.findall(r"assertion violated (.*)", said)
    assert len(violated) == 1, said
    assert violated[0].startswith(broken)


def test_the_story_that_is_drawn_is_spins_shortest_without_the_client_id(tmp_path: Path) -> None:
    switches = (*SMALL, "-DNO_CLIENT_ID")
    build(tmp_path, switches, SHORTEST)
    assert errors(verify(tmp_path, "-E")) == 1
    told = subprocess.run(
        [program("spin", "spin"), *switches, "-T", "-t", MODEL.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    story = re.findall(r"^(?:[AB]|broker)(?: ->|:).*\n", told, re.MULTILINE)
    assert "".join(story) == (MODEL.parent / "no_client_id.txt").read_text()
