"""What the command line shows: colour, tables and a live bar on a terminal, else plain lines, or JSON."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from puppetmaster import watch
from puppetmaster.watch import News, Pace

#: In a file a job that goes on is a line every so often, or when its status changes.
LINE_S = 2.0
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


def printable(value: Any) -> str:
    """``value`` in one line; what a device sent must not steer the terminal."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class Screen:
    """Standard output. ``terminal``: somebody looks at it. ``json``: a program reads it."""

    def __init__(self, *, as_json: bool = False, terminal: bool | None = None) -> None:
        self.json = as_json
        if terminal is None:
            terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.terminal = terminal and not as_json
        self._console = Console(markup=False, highlight=False, emoji=False, force_terminal=self.terminal)

    def value(self, data: Any) -> None:
        """One JSON value, in one line unless somebody looks at it."""
        print(json.dumps(data, indent=2 if sys.stdout.isatty() else None), flush=True)  # noqa: T201 - output

    def line(self, text: str, style: str = "") -> None:
        """One line."""
        if self.terminal:
            self._console.print(Text(printable(text), style), soft_wrap=True)
        else:
            print(printable(text), flush=True)  # noqa: T201 - output

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table; elsewhere the cells of a row in a line, tabs between them, without the heading."""
        if not self.terminal:
            for row in rows:
                print("\t".join(map(printable, row)), flush=True)  # noqa: T201 - output
            return
        table = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            cells = [printable(cell) for cell in row]
            table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in cells))
        self._console.print(table)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Names and values below each other, without what is null."""
        self.table(("", ""), [(name, value) for name, value in facts.items() if value is not None])

    def follow(self, news: Iterator[News], *, frames: bool = True) -> Mapping[str, Any]:
        """Show a job until its end: a bar, lines, or JSON, of which no ``frames`` leaves the last job alone.

        Gives the job as it ended.
        """
        job: Mapping[str, Any] = {}
        told = 0
        shown = self._frames if self.json and frames else iter if self.json else self._watched
        for one in shown(news):
            job = one.job
            told += len(one.failures)
        if self.json:
            if not frames:
                self.value(job)
            return job
        if told >= watch.FAILURES_TOLD:
            self.line(f"No more than {told} failures are told: puppetmaster results {job['id']}")
        self.line(watch.summary(job), "red" if job["errorCount"] else STYLES[job["status"]])
        return job

    def _watched(self, news: Iterator[News]) -> Iterator[News]:
        return self._bar(news) if self.terminal else self._lines(news)

    def _frames(self, news: Iterator[News]) -> Iterator[News]:
        """One job object per line; ``collection`` holds the requests that failed since the line before."""
        for one in news:
            if one.trouble is None:
                frame = {**one.job, "collection": one.failures}
                print(json.dumps(frame), flush=True)  # noqa: T201 - output
            yield one

    def _lines(self, news: Iterator[News]) -> Iterator[News]:
        pace = Pace()
        status, due_s = "", 0.0
        trouble = None
        for one in news:
            for request in one.failures:
                self.line(watch.failure(request))
            if one.trouble and not trouble:
                self.line(f"waiting: {one.trouble}")
            left_s = pace.left_s(one.job)
            news_of_it = one.job["status"] != status or time.monotonic() >= due_s
            if one.job["finishedAt"] is None and one.trouble is None and news_of_it:
                self.line(watch.state(one.job, left_s))
                status, due_s = one.job["status"], time.monotonic() + LINE_S
            trouble = one.trouble
            yield one

    def _bar(self, news: Iterator[News]) -> Iterator[News]:
        pace = Pace()
        progress = Progress(
            TextColumn("job {task.fields[id]}"),
            TextColumn("{task.fields[status]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed} of {task.total} done"),
            TextColumn("[red]{task.fields[failed]} failed"),
            TextColumn("[cyan]{task.fields[sent]} in flight"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            expand=True,
            auto_refresh=False,
        )
        task: TaskID | None = None
        with Live(progress, console=self._console, auto_refresh=False, transient=True) as live:
            for one in news:
                for request in one.failures:
                    live.console.print(Text(printable(watch.failure(request)), "red"), soft_wrap=True)
                fields = _fields(one, pace.left_s(one.job))
                if task is None:
                    task = progress.add_task("", total=one.job["totalCount"], **fields)
                progress.update(task, completed=one.job["doneCount"], **fields)
                live.refresh()
                yield one


def _fields(news: News, left_s: float | None) -> dict[str, Any]:
    job = news.job
    left = "away, waiting" if news.trouble else "" if left_s is None else f"{watch.duration(left_s)} left"
    return {
        "id": job["id"],
        "status": job["status"],
        "failed": job["errorCount"],
        "sent": job["counts"]["sent"],
        "left": left,
    }
