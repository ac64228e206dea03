"""CSV for spreadsheets and programs: a heading, then a line for each row."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

_TIMES = ("createdAt", "sentAt", "finishedAt")
#: As in the file that the page saves.
REQUESTS = (
    *("id", "destination", "method", "resource", "status", "why", "attempts"),
    *(*_TIMES, "code", "source", "message", "data"),
)
RESULTS = ("count", "status", "code", "destinations", "source", "message", "data", "step")
#: What a spreadsheet would take for a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")

Row = Mapping[str, Any]


def requests(found: Iterable[Row]) -> Iterator[Sequence[Any]]:
    """A line for each request."""
    for one in found:
        about = one["__request"]
        known = {**one, **about, **_result(about["result"])}
        yield [known.get(name) for name in REQUESTS]


def results(groups: Iterable[Row]) -> Iterator[Sequence[Any]]:
    """A line for each group of equal results."""
    for one in groups:
        known = {**_result(one["sample"]["result"]), **one, "destinations": " ".join(one["destinations"])}
        yield [known.get(name) for name in RESULTS]


def _result(result: Row) -> Row:
    """The columns of an answer; ``data`` are the data of the answer, not of the command."""
    return {name: result.get(name) for name in ("code", "source", "message", "data")}


def write(head: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    """Print the heading, then the rows as they come; no heading when even the first cannot be had."""
    if sys.stdout is None:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    first = list(islice(rows, 1))
    writer.writerow(head)
    for row in chain(first, rows):
        writer.writerow(map(_cell, row))
    sys.stdout.flush()


def _cell(value: Any) -> str:
    """A value as text. One that a spreadsheet would take for a formula is marked as text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    return f"'{value}" if _FORMULA.match(value) else value
