"""The commands about gateways: which are known, with labels, as tables and as CSV."""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from puppetmaster.cli import jobfile, sheets
from puppetmaster.cli.client import Client, all_rows
from puppetmaster.cli.context import Command, Context, Function, Group, limit_option, usage
from puppetmaster.cli.kinds import OneOf
from puppetmaster.cli.terminal import Column, Screen

#: Names in one question.
NAMES_AT_ONCE = 100
#: Most names that are told.
TOLD = 10
#: The exit code where some are not as they should be.
SOME = 1
#: A longer name is broken into several lines.
LONG_NAME = 40
COLUMNS = (
    Column("is"),
    Column("seen"),
    Column("last"),
    Column("labels", wraps=True),
)
#: A mark that spreadsheets want in front of what is no formula.
_MARKED = re.compile(r"'(?=[=+\-@\t\r])")
_PLACE = re.compile(r"\[(\d+)\]\.?")
#: Columns that are no labels. A label of such a name has ``LABEL`` in front of it in the heading.
_OWN = ("name", "note")
LABEL = "label:"
#: A cell of a label without a value: an empty cell is no label.
BARE = "="

Row = Mapping[str, Any]


@click.group(cls=Group, short_help="Know gateways, by labels.")
def gateways() -> None:
    """Know gateways: those that were put here, and those that ever were a destination."""


def _filters(function: Function) -> Function:
    """The options that say which gateways are meant."""
    selector = click.option("--selector", help="Only those whose labels it selects: 'site=north,!retired'.")
    return selector(click.option("--match", help="Only those whose name fits it: 'cg-1*'.")(function))


@gateways.command("list")
@_filters
@click.option(
    "--registered", type=OneOf(("true", "false", "unknown")), help="Only those that are, or are not."
)
@limit_option("gateways")
@click.pass_obj
def list_gateways(session: Context, /, **filters: Any) -> None:
    """List gateways by name, with labels and what is known of each."""
    screen = session.screen()
    found, total = session.client().gateways(**filters)
    screen.listed(found, _columns(found), [_row(screen, one) for one in found])
    screen.rest(len(found), total)


def _columns(found: Sequence[Row]) -> Sequence[Column]:
    long = any(len(one["name"]) > LONG_NAME for one in found)
    return Column("gateway", wraps=long), *COLUMNS


def _row(screen: Screen, gateway: Row) -> Sequence[str]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(gateway["labels"].items()))
    return gateway["name"], _presence(gateway), screen.moment(gateway["lastSeenAt"]), _last(gateway), labels


def _presence(gateway: Row) -> str:
    words = {
        "connected": {True: "connected", False: "away"},
        "registered": {True: "registered", False: "not registered"},
    }
    return ", ".join(filter(None, (words[one].get(gateway[one]) for one in words)))


def _last(gateway: Row) -> str:
    last = gateway["lastResult"]
    if last is None:
        return ""
    return " ".join(str(one) for one in (last["status"], last["code"]) if one is not None)


@gateways.command()
@click.argument("names", nargs=-1)
@_filters
@click.pass_obj
def check(session: Context, /, names: tuple[str, ...], **filters: Any) -> None:
    """Ask the controller now which gateways are registered, and show those that are not.

    NAMES are names, 'cg-[001-200]', with commas between, or @file; without any all are asked for that are
    known. The exit code is 1 when one is not registered, is not known here, or could not be asked for.
    """
    with usage():
        wanted, _ = jobfile.destinations(names, jobfile.Files()) if names else ([], [])
    screen, client = session.screen(), session.client()
    found = list(_checked(client, wanted, filters))
    missing = [one for one in found if one["registered"] is False]
    if screen.json:
        screen.value(found)
    elif screen.terminal and missing:
        screen.table(_columns(missing), [_row(screen, one) for one in missing])
    else:
        screen.rows(_row(screen, one) for one in missing)
    silent = [one for one in found if one["checkedAt"] is None]
    unknown = sorted({*wanted} - {one["name"] for one in found}) if not any(filters.values()) else []
    for said in _outcome(found, missing, silent, unknown):
        click.echo(said, err=screen.json or not screen.terminal)
    if missing or silent or unknown:
        sys.exit(SOME)


def _checked(client: Client, wanted: Sequence[str], filters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The gateways that are meant, once the controller was asked for them."""
    if not wanted:
        yield from all_rows(client.gateways, **filters, check="true")
    for at in range(0, len(wanted), NAMES_AT_ONCE):
        some = ",".join(wanted[at : at + NAMES_AT_ONCE])
        yield from client.gateways(**filters, name=some, check="true")[0]


def _outcome(
    found: Sequence[Row], missing: Sequence[Row], silent: Sequence[Row], unknown: Sequence[str]
) -> Iterator[str]:
    """The outcome of a check, a sentence for each part."""
    many = len([one for one in found if one["registered"] is None]) - len(silent)
    yield f"{len(missing)} of {len(found)} {'is' if len(missing) == 1 else 'are'} not registered"
    if many:
        yield f"of {many} that is not known: their owner answers for many gateways"
    if silent:
        yield f"of {len(silent)} the controller has said nothing"
    if unknown:
        shown = ", ".join(unknown[:TOLD]) + (", .." if len(unknown) > TOLD else "")
        yield f"{len(unknown)} {'is' if len(unknown) == 1 else 'are'} not known here: {shown}"


@gateways.command()
@click.argument("name")
@click.pass_obj
def show(session: Context, name: str) -> None:
    """Show one gateway."""
    _show(session.screen(), session.client().gateway(name))


def _show(screen: Screen, gateway: Row) -> None:
    if screen.json:
        screen.value(gateway)
        return
    screen.line(gateway["name"], "bold" if screen.terminal else "")
    last = gateway["lastResult"]
    request = "" if last is None else f", request {last['request']}"
    checked = screen.moment(gateway["checkedAt"])
    facts = {
        "note": gateway["note"],
        "is": _presence(gateway) + (f" (asked {checked})" if checked else ""),
        "last seen": screen.moment(gateway["lastSeenAt"]),
        "last result": f"{_last(gateway)}{request}",
        "known by": "its registration" if gateway["discovered"] else "",
    }
    screen.facts({**facts, **{f"label {key}": value for key, value in sorted(gateway["labels"].items())}})


@gateways.command("set")
@click.argument("name")
@click.argument("labels", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--note", help="A sentence; '' for none.")
@click.pass_obj
def set_gateway(session: Context, name: str, labels: Sequence[str], note: str | None) -> None:
    """Put a gateway: it has these labels from then on, and no others.

    Without a label its labels stay; without --note its note does.
    """
    body: dict[str, Any] = {} if note is None else {"note": note}
    if labels:
        with usage():
            changes = dict(map(_label, labels))
        body["labels"] = {key: value for key, value in changes.items() if value is not None}
    _show(session.screen(), session.client().put_gateway(name, body))


@gateways.command("label")
@click.argument("names")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@click.pass_obj
def label_gateways(session: Context, names: str, labels: Sequence[str]) -> None:
    """Label gateways: KEY=VALUE adds or changes a label, KEY- removes it.

    NAMES are names, 'cg-[001-200]', with commas between, or @file.
    """
    with usage():
        wanted, _ = jobfile.destinations([names], jobfile.Files())
        changes = dict(map(_label, labels))
    client = session.client()
    alone = wanted[0] if len(wanted) == 1 else None
    known = {one["name"]: one["labels"] for one in all_rows(client.gateways, name=alone)}
    puts = []
    for name in wanted:
        merged = {**known.get(name, {}), **changes}
        puts.append({"name": name, "labels": {key: to for key, to in merged.items() if to is not None}})
    _say_put(session.screen(), client.put_gateways(puts))


def _label(word: str) -> tuple[str, str | None]:
    """The label in a word; None: it is to be removed. Raises ValueError."""
    key, equals, value = word.partition("=")
    if equals:
        return key, value
    if word.endswith("-") and len(word) > 1:
        return word[:-1], None
    raise ValueError(f"expected KEY=VALUE, or KEY- to remove a label, got '{word}'")


@gateways.command("import")
@click.argument("file")
@click.pass_obj
def import_gateways(session: Context, file: str) -> None:
    """Put the gateways of a CSV file; - is standard input.

    Its heading is name, perhaps note, and the keys of labels. A gateway has the labels of its line from then
    on, and no others: an empty cell is none, and = is a label without a value.
    """
    with usage():
        lines, puts = _read(jobfile.Files().read(file), "standard input" if file == "-" else file)

    def named(path: str) -> str:
        return _PLACE.sub(lambda found: f"line {lines[int(found[1])]}: ", path, count=1).rstrip(": ")

    _say_put(session.screen(), session.client().put_gateways(puts, named))


def _read(text: str, place: str) -> tuple[list[int], list[dict[str, Any]]]:
    """The gateways of a CSV file, and the line of each. Raises ValueError."""
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        heading = [_column(cell.strip()) for cell in next(reader, [])]
        if "name" not in heading or len({*heading}) < len(heading):
            raise ValueError(f"{place}: expected a heading with name in it, and each column once")
        lines, puts = [], []
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) > len(heading):
                raise ValueError(
                    f"{place}, line {reader.line_num}: expected {len(heading)} cells, got {len(cells)}"
                )
            lines.append(reader.line_num)
            puts.append(_put(heading, cells))
    except csv.Error as error:  # a quote that is not closed would take in all gateways below it
        raise ValueError(f"{place}, line {reader.line_num}: expected CSV, but {error}") from None
    if not puts:
        raise ValueError(f"{place}: expected a gateway on each line below the heading, got none")
    return lines, puts


def _column(cell: str) -> str:
    """The column of a cell of the heading; for a label its key, with ``LABEL`` only where it needs that."""
    key = cell.removeprefix(LABEL)
    return cell if key in _OWN else key


def _put(heading: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """The gateway of a line."""
    row = {key: _MARKED.sub("", cell.strip(), count=1) for key, cell in zip(heading, cells, strict=False)}
    put: dict[str, Any] = {"name": row.pop("name", "")}
    if "note" in heading:
        put["note"] = row.pop("note", "")
    given = {key.removeprefix(LABEL): value for key, value in row.items() if value}
    return {**put, "labels": {key: "" if value == BARE else value for key, value in given.items()}}


def _say_put(screen: Screen, answer: Row) -> None:
    screen.answer(answer, lambda: screen.line(f"{answer['put']} put, {answer['created']} of them new"))


@gateways.command("export", cls=Command, ignored=("json",))
@_filters
@click.pass_obj
def export_gateways(session: Context, /, **filters: Any) -> None:
    """Print gateways as CSV that import takes: name, note, and a column for each label."""
    found = list(all_rows(session.client().gateways, **filters))
    keys = sorted({key for one in found for key in one["labels"]})
    sheets.write([*_OWN, *(LABEL + key if key in _OWN else key for key in keys)], _cells(found, keys))


def _cells(found: Iterable[Row], keys: Sequence[str]) -> Iterator[Sequence[Any]]:
    for one in found:
        labels = {key: value or BARE for key, value in one["labels"].items()}
        yield [one["name"], one["note"], *map(labels.get, keys)]


@gateways.command()
@click.argument("name")
@click.pass_obj
def forget(session: Context, name: str) -> None:
    """Forget a gateway with its labels, until it is put or a destination again."""
    screen = session.screen()
    gone = session.client().forget_gateway(name)
    screen.answer(gone, lambda: screen.line(f"{gone['name']} is forgotten"))
