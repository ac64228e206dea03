"""The commands about who did what, against a bundle without a bus; and the doctor's look at the tokens."""

import json
from pathlib import Path

import pytest

from puppetmaster.api.answers import HAPPENED
from puppetmaster.cli import doctor
from puppetmaster.model.caller import Caller, Role, Tokens, digest
from puppetmaster.model.timeline import What
from tests.receiver import Receiver
from tests.terminal import Run, typed
from tests.web_client import Door, batch, hooks, running


@pytest.fixture
def run(door: Door) -> Run:
    """Run a command; it must end well unless a test says otherwise."""
    return typed(door.url, code=0)


def test_what_happened_is_listed(run: Run, door: Door) -> None:
    door.ask("POST", "/jobs", batch("a"))
    run("cancel", "1")
    lines = [line.split("\t") for line in run("events", "1").stdout.splitlines()]
    assert [line[1:4] for line in lines] == [
        ["http", "created", "dispatching"],
        ["http", "canceled", "dispatching"],
        ["puppetmaster", "ended", "canceled"],
    ]
    assert json.loads(run("events", "1", "--json").stdout) == door.ask("GET", "/jobs/1/events").json
    assert "created\t" in run("show", "1").stdout
    assert ", by http" in run("show", "1").stdout
    assert "There is no job 9" in run("events", "9", code=2).stderr


def test_everything_that_can_happen_has_words() -> None:
    assert set(HAPPENED) == set(What)


def test_a_token_is_made_with_its_line(run: Run) -> None:
    made = run("token", "ann", "--role", "operator")
    token, line = made.stdout.splitlines()
    assert Tokens(line, "here").find(token) == Caller("ann", Role.OPERATOR)
    assert token not in made.stderr
    other = json.loads(run("token", "ann", "--role", "viewer", "--json").stdout)
    assert other["line"] == f"ann viewer {digest(other['token'])}"
    assert other["token"] != token
    assert "NAME: expected a name of up to 64" in run("token", "bus", "--role", "viewer", code=2).stderr
    assert "--role" in run("token", "ann", "--role", "root", code=2).stderr


def test_a_viewer_is_told_what_he_lacks(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ann viewer {digest('pm_0123456789abcdef')}")
    with running(tmp_path / "data", tokens=str(file)) as door:
        run = typed(door.url, "pm_0123456789abcdef", code=7)
        said = run("submit", "--to", "a", "get", "/system/time").stderr
        assert "Expected the role operator for POST /jobs, and 'ann' has the role viewer" in said
        assert door.ask("GET", "/jobs", Authorization="Bearer pm_0123456789abcdef").json == []


@pytest.mark.parametrize(
    ("mode", "text", "mark", "says"),
    [
        (0o600, f"ann viewer {digest('x')}", "ok", "names 1"),
        (0o640, f"ann viewer {digest('x')}", "ok", "names 1"),
        (0o644, f"ann viewer {digest('x')}", "warn", "can be read by all"),
        (0o666, f"ann viewer {digest('x')}", "fail", "can be written by others"),
        (0o600, "ann root\nbob", "fail", "line 2"),
    ],
)
def test_the_doctor_looks_at_the_file_of_tokens(
    tmp_path: Path, mode: int, text: str, mark: str, says: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    file.chmod(mode)
    check = doctor.tokens(file)
    assert check.mark == mark
    assert says in check.says
    file.unlink()
    assert doctor.tokens(file).mark == "fail"


def test_the_doctor_looks_at_the_file_of_webhooks_and_whether_each_listens(tmp_path: Path) -> None:
    with Receiver() as receiver:
        file = receiver.file(tmp_path)
        (fine,) = doctor.webhooks(file)
        assert (fine.mark, receiver.got) == ("ok", [])
        file.chmod(0o644)
        assert [one.mark for one in doctor.webhooks(file)] == ["warn", "ok"]
        file.chmod(0o600)
    (silent,) = doctor.webhooks(file)
    assert silent.mark == "warn"
    assert "ops cannot be reached at 127.0.0.1" in silent.says
    file.write_text("[{}]")
    (wrong,) = doctor.webhooks(file)
    assert (wrong.mark, "[0].url" in wrong.says) == ("fail", True)
    file.unlink()
    (missing,) = doctor.webhooks(file)
    assert missing.mark == "fail"


def test_the_doctor_says_which_webhook_could_not_be_told() -> None:
    states = {"ops": {"waiting": 3, "reason": "it answers 500"}, "lab": {"waiting": 0, "reason": None}}
    found = [one for one in doctor.bundle({"webhooks": states}) if one.name == "webhook"]
    assert [(one.mark, one.says.partition(";")[0]) for one in found] == [
        ("warn", "ops could not be told: it answers 500")
    ]


def test_a_job_that_is_submitted_names_webhooks(tmp_path: Path) -> None:
    with running(tmp_path / "data", webhooks=hooks(tmp_path)) as door:
        run = typed(door.url, code=0)
        run("submit", "--to", "a", "--notify", "ops", "get", "/system/time")
        assert door.ask("GET", "/jobs/1").json["notify"] == ["ops"]
        assert "tells\tops" in run("show", "1").stdout
        refused = run("submit", "--to", "a", "--notify", "lab,ops", "get", "/system/time", code=2)
        assert "expected one of ops, got 'lab'" in refused.stderr
