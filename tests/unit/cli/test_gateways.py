"""The commands about gateways, and jobs for those that are known, against a bundle without a bus."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.bus.client import Owners
from puppetmaster.cli import context
from puppetmaster.cli.terminal import Screen
from tests.terminal import Run, typed
from tests.web_client import Controller, Door

FLEET = "name,note,site,example.com/rack\ncg-1,attic,north,7\ncg-2,,north,\n\ncg-10,,south,\n"


@pytest.fixture
def controller(door: Door, monkeypatch: pytest.MonkeyPatch) -> Controller:
    return Controller(door, monkeypatch)


@pytest.fixture
def run(door: Door) -> Run:
    """Run a command; it must end well unless a test says otherwise."""
    return typed(door.url, code=0)


def labels(door: Door) -> dict[str, Any]:
    return {one["name"]: one["labels"] for one in door.ask("GET", "/gateways").json}


def test_a_file_is_imported_and_exported_again(run: Run, door: Door, tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text(f"\ufeff{FLEET}")
    assert run("gateways", "import", f"{tmp_path}/fleet.csv").stdout == "3 put, 3 of them new\n"
    assert labels(door) == {
        "cg-1": {"site": "north", "example.com/rack": "7"},
        "cg-10": {"site": "south"},
        "cg-2": {"site": "north"},
    }
    exported = run("gateways", "export").stdout
    assert exported.splitlines() == [
        "name,note,example.com/rack,site",
        "cg-1,attic,7,north",
        "cg-10,,,south",
        "cg-2,,,north",
    ]
    door.ask("PUT", "/gateways/cg-1", {"labels": {"other": "x"}})
    answer = json.loads(run("gateways", "import", "-", "--json", text=exported).stdout)
    assert answer == {"put": 3, "created": 0}
    assert labels(door)["cg-1"] == {"site": "north", "example.com/rack": "7"}


def test_what_looks_like_a_formula_comes_back_as_it_was(run: Run, door: Door) -> None:
    door.ask("PUT", "/gateways/-a", {"note": "=1", "labels": {"k": "v"}})
    door.ask("PUT", "/gateways/b", {"note": "it's"})
    before = door.ask("GET", "/gateways").json
    exported = run("gateways", "export").stdout
    assert "'-a,'=1,v" in exported
    run("gateways", "import", "-", text=exported)
    assert door.ask("GET", "/gateways").json == before


def test_each_label_comes_back_as_it_was(run: Run, door: Door) -> None:
    """One without a value too: a job for '!retired' must not go to who has been retired."""
    door.ask("PUT", "/gateways/cg-1", {"labels": {"retired": "", "site": "north"}})
    door.ask("PUT", "/gateways/cg-2", {"labels": {"name": "x", "note": "y"}, "note": "of its own"})
    before = labels(door)
    exported = run("gateways", "export").stdout
    assert exported.splitlines() == [
        "name,note,label:name,label:note,retired,site",
        "cg-1,,,,'=,north",
        "cg-2,of its own,x,y,,",
    ]
    run("gateways", "import", "-", text=exported)
    assert labels(door) == before
    run("gateways", "import", "-", text="name,label:site,retired\ncg-3,south,=\n")
    assert labels(door)["cg-3"] == {"site": "south", "retired": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a heading with name in it"),
        ("name,site,label:site\na,b,c\n", "each column once"),
        ('name,note\na,"b\nc,d\n', "standard input, line 3: expected CSV, but unexpected end of data"),
        ('name\n"a"b\n', "standard input, line 2: expected CSV, but"),
        (f'name,note\na,"{"b" * 140_000}"\n', "line 2: expected CSV, but field larger than field limit"),
        ("site\nnorth\n", "expected a heading with name in it"),
        ("name,a,a\n", "each column once"),
        ("name\n\n", "expected a gateway on each line"),
        ("name\na,b\n", "standard input, line 2: expected 1 cells, got 2"),
        (f"name\na\n{'x' * 200_000}\n", "standard input, line 3: expected CSV, but field larger than"),
        ("x" * 200_000, "standard input, line 1: expected CSV, but field larger than"),
        ("name,site\na,no rth\n", "line 2: labels.site: expected as a value"),
        ("name,-x,k\na,1,\n\na b,,é\n", "2 things are wrong, and nothing was changed:"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(shared: Door, text: str, said: str) -> None:
    stderr = typed(shared.url, code=2)("gateways", "import", "-", text=text).stderr
    if "things" in said:
        assert "  line 2: labels.-x: " in stderr
        assert "  line 4: name: " in stderr
        said = "things are wrong, and nothing was changed:"
    assert said in stderr
    assert labels(shared) == {}


def test_labels_are_set_added_and_removed(run: Run, door: Door) -> None:
    run("gateways", "set", "cg-1", "site=north", "model=", "--note", "attic")
    run("gateways", "set", "cg-2", "site=south")
    assert run("gateways", "label", "cg-[1-3],cg-2", "site=west", "model-").stdout == "3 put, 1 of them new\n"
    assert labels(door) == {f"cg-{number}": {"site": "west"} for number in (1, 2, 3)}
    run("gateways", "label", "x" * 200, "rack=7")  # longer than a pattern for names may be
    assert labels(door).pop("x" * 200) == {"rack": "7"}
    run("gateways", "forget", "x" * 200)
    run("gateways", "label", "cg-1", "rack=7")
    assert labels(door)["cg-1"] == {"site": "west", "rack": "7"}
    shown = run("gateways", "set", "cg-1", "--note", "")
    assert shown.stdout == "cg-1\nlabel rack\t7\nlabel site\twest\n"
    assert "expected KEY=VALUE" in run("gateways", "label", "cg-1", "x", code=2).stderr


def test_gateways_are_listed_and_shown(run: Run, door: Door) -> None:
    run("gateways", "import", "-", text=FLEET)
    listed = run("gateways", "list", "--selector", "site=north").stdout.splitlines()
    assert listed == ["cg-1\t\t\t\texample.com/rack=7,site=north", "cg-2\t\t\t\tsite=north"]
    assert run("gateways", "list", "--match", "cg-1?", "--json").stdout.startswith('[{"name": "cg-10"')
    result = run("gateways", "list", "--limit", "1")
    assert result.stderr == "1 of 3 are shown: --limit 3 shows all\n"
    assert run("gateways", "show", "cg-1").stdout.startswith("cg-1\nnote\tattic\n")
    assert "'puppetmaster gateways list' shows" in run("gateways", "show", "x", code=2).stderr
    assert run("gateways", "forget", "cg-1").stdout == "cg-1 is forgotten\n"
    assert "cg-1" not in labels(door)
    assert "expected a" not in run("gateways", "--help").output
    assert "selector: expected" in run("gateways", "list", "--selector", "a b", code=2).stderr


@pytest.mark.parametrize("name", ["cg-1", "x" * 120])
def test_a_row_is_as_wide_as_the_terminal(
    run: Run, door: Door, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(context, "Screen", partial(Screen, terminal=True))
    door.ask("PUT", f"/gateways/{name}", {"labels": {"site": "north"}})
    for columns in (60, 100):
        listed = run("gateways", "list", COLUMNS=str(columns), NO_COLOR="1").stdout
        lines = re.sub(r"\x1b\[[0-9;]*m", "", listed).splitlines()
        assert max(map(len, lines)) <= columns
        assert "seen" in lines[0], "the heading is one line"
        assert "site=north" in listed


def test_those_that_are_not_registered_are_shown(run: Run, door: Door, controller: Controller) -> None:
    run("gateways", "import", "-", text=FLEET)
    controller.here = {"cg-1", "cg-10"}
    checked = run("gateways", "check", code=1)
    assert checked.stdout == "cg-2\tnot registered\t\t\tsite=north\n"
    assert checked.stderr == "1 of 3 is not registered\n"
    assert run("gateways", "check", "cg-1,cg-10").stderr == "0 of 2 are not registered\n"
    assert run("gateways", "check", "--selector", "site=south").stderr == "0 of 1 are not registered\n"
    assert "1 is not known here: cg-9\n" in run("gateways", "check", "cg-[9-10]", code=1).stderr
    found = json.loads(run("gateways", "check", "--match", "cg-2", "--json", code=1).stdout)
    assert [(one["name"], one["registered"]) for one in found] == [("cg-2", False)]
    assert run("gateways", "list", "--registered", "false").stdout.startswith("cg-2\tnot registered\t")
    assert run("gateways", "list", "--registered", "unknown").stdout == ""
    wrong = run("gateways", "list", "--registered", "no", code=2)
    assert "expected true, false or unknown, got 'no'" in wrong.stderr
    assert "is\tregistered (asked 20" in run("gateways", "show", "cg-1").stdout


def test_more_names_than_one_question_takes_are_checked(run: Run, door: Door, controller: Controller) -> None:
    door.ask("POST", "/gateways", [{"name": f"cg-{number:03}"} for number in range(250)])
    run("gateways", "check", "cg-[000-249]", code=1)
    assert len(controller.asked) == 250


def test_a_check_says_of_whom_nothing_could_be_found_out(
    run: Run, door: Door, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puppetmaster.api.gateway_bodies.CHECK_TIMEOUT_S", 0.05)
    door.ask("POST", "/gateways", [{"name": "a"}, {"name": "b"}])
    controller.silent = True
    assert "of 2 the controller has said nothing\n" in run("gateways", "check", code=1).stderr
    controller.silent = False
    door.app.site.dispatcher.post([Owners(name, ("/remote/+",)) for name in ("a", "b")])
    controller.wildcard = True
    said = "0 of 2 are not registered\nof 2 that is not known: their owner answers for many gateways\n"
    assert run("gateways", "check").stderr == said


def test_a_job_goes_to_known_gateways(run: Run, door: Door) -> None:
    run("gateways", "import", "-", text=FLEET)
    words = ["--selector", "site=north", "--except", "cg-2,x"]
    job = json.loads(run("submit", *words, "get", "/a", "--json").stdout)
    assert job["targets"] == [{"item": 0, "selector": "site=north", "except": ["cg-2", "x"], "found": 1}]
    assert "sought\tsite=north without cg-2, x (1)\n" in run("show", str(job["id"])).stdout
    wrong = run("submit", "--all", "--match", "cg-1*", "--dry-run", "get", "/a", code=2)
    assert "--match: expected either all, or selector, match or both" in wrong.stderr
    job = json.loads(run("submit", "--all", "--except", "cg-[01-10]", "get", "/a", "--json").stdout)
    left_out = [f"cg-{number:02}" for number in range(1, 11)]
    assert job["targets"] == [{"item": 0, "all": True, "except": left_out, "found": 2}]
    planned = run("submit", "--match", "cg-1*", "--dry-run", "get", "/a")
    assert "batch[0] is for 2 gateways: cg-1*.\n" in planned.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "a", "--all", "get", "/a"], "expected --to, or --selector, --match or --all, got both"),
        (["--to", "a", "--except", "b", "get", "/a"], "--except: expected --selector, --match or --all"),
        (["--all"], "expected METHOD RESOURCE after --all"),
        (["--selector", "site=north", "get", "/a"], "--selector: expected gateways that are known"),
        (["--selector", "a b", "get", "/a"], "--selector: expected key, !key"),
        (["--match", "cg-[001-200]", "get", "/a"], "--match: expected no range"),
        (["--match", "x" * 200, "get", "/a"], "--match: expected a pattern"),
    ],
)
def test_mistakes_are_told_by_the_option(shared: Door, words: list[str], said: str) -> None:
    assert said in typed(shared.url, code=2)("submit", *words).stderr
