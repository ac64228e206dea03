"""What is shown, to a terminal, to a pipe and to a program."""

from typing import Any

import pytest

from puppetmaster.cli.terminal import Cell, Column, Screen, printable
from tests.unit.cli.conftest import ESCAPES

pytestmark = pytest.mark.usefixtures("colours")


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


def test_rows_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=False).rows([(1, "x\ty"), (None, "resolved")])
    assert capsys.readouterr().out == "1\tx\\ty\n\tresolved\n"


def test_a_table_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("a", right=True), Column("status"), Column("b"))
    Screen(terminal=True).table(columns, [(1, "resolved", "x"), (20, "[red]cg-[1-2]", Cell("\x1b", "red"))])
    shown = capsys.readouterr().out
    assert "\x1b[32mresolved" in shown
    assert "\x1b[31m\\x1b" in shown
    assert ESCAPES.sub("", shown).splitlines() == [
        " a  status         b   ",
        " 1  resolved       x   ",
        "20  [red]cg-[1-2]  \\x1b",
    ]


COLUMNS = (
    Column("job"),
    Column("destinations", wraps=True),
    Column("took", below=50),
    Column("what", cut=True),
)
ROW = ("123456789", "cg-001 cg-002 cg-003", "3 min 05 s", "firmware of the whole site")


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            80,
            [
                "job        destinations          took        what",
                "123456789  cg-001 cg-002 cg-003  3 min 05 s  firmware of the whole site",
            ],
        ),
        (
            50,
            [
                "job        took",
                "123456789  3 min 05 s",
                "    cg-001 cg-002 cg-003",
                "    firmware of the whole site",
            ],
        ),
        (40, ["job", "123456789", "    cg-001 cg-002 cg-003", "    firmware of the whole site"]),
        (
            65,
            [
                "job        destinations          took        what",
                "123456789  cg-001 cg-002 cg-003  3 min 05 s  firmware of the who…",
            ],
        ),
    ],
)
def test_what_gives_way_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, lines: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    Screen(terminal=True).table(COLUMNS, [ROW])
    shown = [line.rstrip() for line in ESCAPES.sub("", capsys.readouterr().out).splitlines()]
    assert shown == lines
    assert max(map(len, shown)) <= width


def test_facts_without_those_that_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"a": 0, "b": None, "c": "", "d": "x"}
    Screen(terminal=False).facts(facts)
    assert capsys.readouterr().out == "a\t0\nd\tx\n"
    Screen(terminal=True).facts(facts)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["a", "0"], ["d", "x"]]


def test_lines_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=True).line("[bold]\x1b", "red")
    Screen(terminal=False).line("plain", "red")
    Screen(as_json=True).value({"a": [1, "é"]})
    assert capsys.readouterr().out == '\x1b[31m[bold]\\x1b\x1b[0m\nplain\n{"a": [1, "\\u00e9"]}\n'


def test_no_colour_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(terminal=True).line("plain", "red")
    assert capsys.readouterr().out == "plain\n"
