"""The commands about who did what: what has happened to a job, and new tokens."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import click

from puppetmaster.api.answers import HAPPENED
from puppetmaster.cli import wording
from puppetmaster.cli.context import Command, Context, Mistake, job_argument
from puppetmaster.cli.kinds import OneOf
from puppetmaster.cli.terminal import Column, Screen
from puppetmaster.model.caller import FORM, NAME, TAKEN, Role, digest

#: Begins a token, so that programs that look for secrets find it.
PREFIX = "pm_"


@click.command(cls=Command, short_help="Show what has happened to a job, and who did it.")
@job_argument
@click.pass_obj
def events(session: Context, job: int) -> None:
    """Show what has happened to a job, and who did it: the oldest first."""
    screen = session.screen()
    found, _ = session.client().events(job)
    if screen.json:
        screen.value(found)
    elif screen.terminal:
        columns = (Column("when"), Column("who"), Column("what", wraps=True))
        screen.table(columns, [(wording.local(one["at"]), one["by"], _said(one)) for one in found])
    else:
        keys = ("at", "by", "event", "status", "wave", "why")
        screen.rows([one[key] for key in keys] for one in found)
    _say_gaps(screen, found)


def _said(event: Mapping[str, Any]) -> str:
    what = HAPPENED.get(event["event"], event["event"]).format(**event)
    return f"{what} ({event['why']})" if event["why"] else what


def _say_gaps(screen: Screen, found: Sequence[Mapping[str, Any]]) -> None:
    missing = found[-1]["number"] - len(found) if found else 0
    if missing:
        click.echo(f"{missing} events between are not kept", err=not screen.terminal)


@click.command(cls=Command, ignored=("url",), short_help="Make a token and its line for the file of tokens.")
@click.argument("name")
@click.option("--role", type=OneOf([*Role]), required=True, help=f"What it may do: {', '.join(Role)}.")
@click.pass_obj
def token(session: Context, name: str, role: str) -> None:
    """Make a token and its line for the file that PUPPETMASTER_TOKENS names.

    The token is shown once, and kept nowhere: give it to NAME. The line, which has only the token's SHA-256,
    goes into the file.
    """
    if NAME.fullmatch(name) is None or name in TAKEN:
        raise Mistake(
            "NAME: expected up to 64 letters, digits and . _ @ -, and not "
            f"{', '.join(sorted(TAKEN))}, got '{name[:80]}'"
        )
    made = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {role} {digest(made)}"
    if session.json:
        session.screen().value({"token": made, "line": line})
        return
    click.echo(f"The token, shown this once: put it into PUPPETMASTER_TOKEN of whoever is {name}.", err=True)
    click.echo(made)
    click.echo(f"Its line ({FORM}) for the file that PUPPETMASTER_TOKENS of the bundle names:", err=True)
    click.echo(line)
