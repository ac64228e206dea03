"""What is shown, to a terminal, to a pipe and to a program."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster import watch
from puppetmaster.screen import Screen, printable
from puppetmaster.watch import News
from tests.fake_http import job, request

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("cg-[001-002]", "cg-[001-002]"),
        ("a\x1b[2J\nb\t", "a\\x1b[2J\\nb\\t"),
        ("é", "é"),
        ("\ud800", "\\ud800"),
        (None, ""),
        (7, "7"),
        ({"a": "\x1b"}, '{"a": "\\u001b"}'),
    ],
)
def test_what_a_device_sent_stays_in_its_line(value: Any, text: str) -> None:
    assert printable(value) == text


def test_a_table_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=False).table(("a", "b"), [(1, "x\ty"), (None, "resolved")])
    assert capsys.readouterr().out == "1\tx\\ty\n\tresolved\n"


def test_a_table_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=True).table(("a", "status"), [(1, "resolved"), (2, "[red]cg-[1-2]")])
    shown = capsys.readouterr().out
    assert "\x1b[32mresolved" in shown
    assert [line.split() for line in ESCAPES.sub("", shown).splitlines()] == [
        ["a", "status"],
        ["1", "resolved"],
        ["2", "[red]cg-[1-2]"],
    ]


def test_lines_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=True).line("[bold]\x1b", "red")
    Screen(terminal=False).line("plain", "red")
    Screen(as_json=True).value({"a": [1, "é"]})
    assert capsys.readouterr().out == '\x1b[31m[bold]\\x1b\x1b[0m\nplain\n{"a": [1, "\\u00e9"]}\n'


def test_no_colour_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(terminal=True).line("plain", "red")
    assert capsys.readouterr().out == "plain\n"


def news() -> Iterator[News]:
    yield News(job("dispatching", sent=1, pending=3), [])
    yield News(job("dispatching", error=1, pending=3), [request("cg-1", code=500)])
    yield News(job("dispatching", error=1, pending=3), [], "gone for tea")
    yield News(job("dispatching", error=1, pending=3), [], "gone for tea")
    yield News(job("paused", error=1, pending=3), [])
    yield News(job("aborted", error=1, skipped=3), [])


SUMMARY = "job 7 aborted: 0 of 4 resolved, 1 error, 3 skipped."


def test_a_job_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert Screen(terminal=False).follow(news())["status"] == "aborted"
    assert capsys.readouterr().out.splitlines() == [
        "job 7 dispatching: 0 of 4 done, 0 failed, 1 in flight",
        "cg-1 error 500",
        "waiting: gone for tea",
        "job 7 paused: 1 of 4 done, 1 failed, 0 in flight",
        SUMMARY,
    ]


def test_a_job_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=True).follow(news())
    shown = capsys.readouterr().out
    assert "\x1b[31mcg-1 error 500" in shown
    assert shown.endswith("\x1b[0m\n")
    assert "\x1b[?25h" in shown  # the cursor is back
    plain = ESCAPES.sub("", shown)
    assert "1 of 4 done 1 failed 0 in flight" in plain
    assert "away, waiting" in plain
    assert SUMMARY in plain


def test_a_job_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(as_json=True).follow(news())
    frames = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [frame["status"] for frame in frames] == ["dispatching", "dispatching", "paused", "aborted"]
    assert [len(frame["collection"]) for frame in frames] == [0, 1, 0, 0]


def test_the_end_of_a_job_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(as_json=True).follow(news(), frames=False)
    assert json.loads(capsys.readouterr().out)["status"] == "aborted"


def test_failures_beyond_what_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "FAILURES_TOLD", 1)
    Screen(terminal=False).follow(news())
    assert "No more than 1 failures are told: puppetmaster results 7" in capsys.readouterr().out
