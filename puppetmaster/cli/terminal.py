"""The output of the command line: colour and tables on a terminal, else plain lines, or JSON."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from puppetmaster.cli import wording

STYLES = {
    "resolved": "green",
    "ok": "green",
    "dispatching": "cyan",
    "sent": "cyan",
    "pending": "blue",
    "paused": "yellow",
    "canceled": "yellow",
    "skipped": "yellow",
    "warn": "yellow",
    "aborted": "red",
    "timeout": "red",
    "error": "red",
    "unknown": "magenta",
    "fail": "red",
}

#: A time in a sentence of puppetmaster.
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
#: Blanks between two columns.
GAP = 2
#: Blanks in front of what stands below a row.
INDENT = 4
#: With less room for each column that wraps or is cut, these stand below the others.
NARROWEST = 18


class Column(NamedTuple):
    """A column of a table. On a narrow terminal columns that wrap or are cut become narrower."""

    title: str
    #: Whether it is aligned to the right, for numbers.
    right: bool = False
    #: Whether its texts are broken into several lines.
    wraps: bool = False
    #: Whether its texts lose their ends.
    cut: bool = False
    #: It is left out on a terminal that is narrower than this.
    below: int = 0

    @property
    def gives_way(self) -> bool:
        """Whether it becomes narrower."""
        return self.wraps or self.cut


class Cell(NamedTuple):
    """A text with a style of its own."""

    text: str
    style: str


def printable(value: Any) -> str:
    """``value`` as text in one line, with control characters escaped: devices must not steer the terminal."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Screen:
    """Standard output, as a terminal (``terminal``), as plain lines, or as JSON (``json``).

    ``terminal`` None: find out whether standard output is a terminal. ``now`` gives seconds since 1970.
    """

    def __init__(
        self, *, as_json: bool = False, terminal: bool | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.json = as_json
        self.now = now
        if terminal is None:
            terminal = _seen() and os.environ.get("TERM") != "dumb"
        self.terminal = terminal and not as_json
        self.console = Console(markup=False, highlight=False, emoji=False, force_terminal=self.terminal)

    def value(self, data: Any) -> None:
        """Print a JSON value, indented on a terminal, else in one line."""
        print(json.dumps(data, indent=2 if _seen() else None), flush=True)  # noqa: T201 - output

    def answer(self, data: Any, show: Callable[[], Any]) -> None:
        """Show an answer: its JSON, or what ``show`` shows of it."""
        if self.json:
            self.value(data)
        else:
            show()

    def line(self, text: str, style: str = "") -> None:
        """Print one line."""
        if self.terminal:
            self.console.print(Text(printable(text), style), soft_wrap=True)
        else:
            print(printable(text), flush=True)  # noqa: T201 - output

    def moment(self, at: str | None) -> str:
        """A time (ISO 8601): in the local time zone on a terminal, else as the API has it; None: empty."""
        return "" if at is None else wording.local(at) if self.terminal else at

    def said(self, sentence: str) -> str:
        """A sentence of puppetmaster, whose times are as ``moment`` has them."""
        return _TIMES.sub(lambda found: self.moment(found[0]), sentence)

    def aside(self, text: str) -> None:
        """Print a line about the output: on standard error where standard output is for a program."""
        print(text, file=sys.stdout if self.terminal else sys.stderr, flush=True)

    def rest(self, shown: int, total: int) -> None:
        """Say how many of a list are shown, if not all."""
        if total > shown:
            self.aside(f"{shown} of {total} are shown: --limit {total} shows all")

    def rows(self, rows: Iterable[Sequence[Any]]) -> None:
        """Print each row as a line, with tabs between its cells."""
        for row in rows:
            print("\t".join(map(printable, row)), flush=True)  # noqa: T201 - output

    def listed(self, data: Any, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Show a list: its JSON, a table on a terminal, else a line for each row."""
        self.answer(data, lambda: self.table(columns, rows) if self.terminal else self.rows(rows))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table that is no wider than the terminal."""
        self.console.print(self.grid(columns, rows))

    def grid(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> RenderableType:
        """A table that is no wider than the terminal."""
        shown = [index for index, column in enumerate(columns) if column.below <= self.console.width]
        cells = [[_text(row[index]) for index in shown] for row in rows]
        chosen = [columns[index] for index in shown]
        widths = [
            max(len(column.title), *(row[place].cell_len for row in cells), 1)
            for place, column in enumerate(chosen)
        ]
        sized = list(zip(chosen, widths, strict=True))
        left = self.console.width - GAP * (len(chosen) - 1)
        left -= sum(width for column, width in sized if not column.gives_way)
        giving_way = [width for column, width in sized if column.gives_way]
        if sum(giving_way) > left < NARROWEST * len(giving_way):
            return _stacked(sized, cells)
        left -= sum(width for column, width in sized if column.wraps)
        titled = any(one.title for one in columns)
        table = Table(box=None, header_style="bold", pad_edge=False, show_header=titled)
        for column, width in zip(chosen, widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.wraps,
                overflow="ellipsis" if column.cut else "fold",
                min_width=None if column.wraps or column.cut else width,
                max_width=max(left, NARROWEST) if column.cut else None,
            )
        for row in cells:
            table.add_row(*row)
        return table

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print names with their values, a line each. Values that are None or empty are left out."""
        known = [(name, value) for name, value in facts.items() if value is not None and value != ""]
        if self.terminal:
            self.table((Column(""), Column("", wraps=True)), known)
        else:
            self.rows(known)


def _stacked(sized: Sequence[tuple[Column, int]], rows: Iterable[Sequence[Text]]) -> RenderableType:
    """Rows whose columns that give way stand below the others, a line each."""
    heading = [Text("" if column.gives_way else column.title, "bold") for column, _ in sized]
    parts: list[RenderableType] = []
    for row in (heading, *rows) if any(map(str, heading)) else rows:
        line, below = Text(), []
        for (column, width), cell in zip(sized, row, strict=True):
            if column.gives_way:
                below += [Padding(cell, (0, 0, 0, INDENT))] if cell else []
                continue
            cell.align("right" if column.right else "left", width)
            line.append(" " * GAP if line else "").append(cell)
        parts += [line, *below]
    return Group(*parts)


def _seen() -> bool:
    """Whether standard output is a terminal; closed it is none."""
    return sys.stdout is not None and sys.stdout.isatty()


def _text(cell: Any) -> Text:
    if isinstance(cell, Cell):
        return Text(printable(cell.text), cell.style)
    text = printable(cell)
    return Text(text, STYLES.get(text, ""))
