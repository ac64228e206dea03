"""The commands that make a job: from words, from a file, from another job."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import click

from puppetmaster.api.kinds import METHODS, RERUN
from puppetmaster.cli import jobfile, tables
from puppetmaster.cli.called import command
from puppetmaster.cli.client import Client, ClientError, Refused, Unreachable
from puppetmaster.cli.context import (
    INTERRUPTED,
    Command,
    Context,
    Function,
    as_typed,
    created_line,
    each,
    jobs_argument,
    policies,
    somebody_types,
    usage,
)
from puppetmaster.cli.kinds import OneOf, SomeOf

#: Most names that are shown of the names that were given more than once.
TWICE_TOLD = 5
#: Longest list of names in a query.
LONGEST_ASKED = 4000
#: The backspace in front keeps its lines as they are.
EXAMPLES = f"""\b
{command("submit")} --to 'cg-[001-200]' --wait post /system/reboot
{command("submit")} --to @fleet.txt --waves 1,10%,100% --dry-run put /system/time '{{"zone": "UTC"}}'
"""


_WHERE = (
    click.option(
        "--to", multiple=True, metavar="NAMES", help="Names, 'cg-[001-200]', commas between, or @file."
    ),
    click.option("--selector", help="Known gateways with these labels: 'site=north,!retired'."),
    click.option("--match", help="Known gateways whose name fits: 'cg-1*'."),
    click.option("--all", "everybody", is_flag=True, help="All known gateways."),
    click.option(
        "--except", "besides", multiple=True, metavar="NAMES", help="But not these: names or 'cg-13*'."
    ),
)
_COMMAND = (
    click.argument("method", required=False, type=OneOf(METHODS), metavar="METHOD"),
    click.argument("resource", required=False),
    click.argument("data", required=False),
    *_WHERE,
    click.option("--file", metavar="FILE", help="A whole job as JSON; - is standard input."),
)


def where(function: Function) -> Function:
    """Give a command the options that say which gateways a job is for."""
    for option in reversed(_WHERE):
        function = option(function)
    return function


def words(function: Function) -> Function:
    """Give a command the arguments and options of which a job is made."""
    for option in reversed(_COMMAND):
        function = option(function)
    return function


class Asked(NamedTuple):
    """A job as the words of a command say it."""

    body: dict[str, Any]
    #: Whether it was given as arguments, and not in a file.
    words: bool
    #: The option that said where it goes.
    to: str


@click.command(cls=Command, short_help="Create a job.", epilog=EXAMPLES)
@words
@policies
@click.pass_obj
def submit(session: Context, /, **options: Any) -> None:
    """Create a job: METHOD RESOURCE [DATA] for every --to, or a whole one from --file or standard input.

    --selector, --match and --all stand for gateways that are known, instead of --to.
    METHOD is get, post, put or delete. DATA is JSON, @file, or - for standard input.
    """
    asked = asked_for(**options)
    client = session.client()
    job = _create(client, asked.body, options, words=asked.words, to=asked.to)
    if asked.words and job["id"] is not None:
        _say_not_registered(client, asked.body["batch"][0]["__request"]["destination"])
    show(session, client, job, options)


def _say_not_registered(client: Client, destination: Any) -> None:
    """Warn of gateways of a new job that the controller is known not to know. The controller is not asked."""
    if isinstance(destination, list):
        where = {"name": ",".join(dict.fromkeys(destination))}
    else:
        where = {name: sought for name, sought in destination.items() if name != "all"}
    if "except" in where or len(where.get("name", "")) > LONGEST_ASKED:
        return  # that is not to be had in one short question
    try:
        rows, many = client.gateways(**where, registered="false", limit=TWICE_TOLD)
    except ClientError:  # the job is created, and that is what was asked for
        return
    if many:
        names = ", ".join(row["name"] for row in rows) + (", .." if many > len(rows) else "")
        are = "1 gateway of it is" if many == 1 else f"{many} gateways of it are"
        click.echo(f"puppetmaster: {are} not registered, as far as is known: {names}", err=True)


def destinations(to: Sequence[str], options: Mapping[str, Any], files: jobfile.Files) -> Any:
    """Where a job goes as the options say it; nothing: they do not. Raises ValueError, UsageError."""
    target = jobfile.target(options)
    if to and target:
        raise click.UsageError("expected --to, or --selector, --match or --all, got both")
    names, twice = jobfile.destinations(to, files)
    _say_twice(twice)
    return target or names


def asked_for(
    method: str | None,
    resource: str | None,
    data: str | None,
    to: tuple[str, ...],
    file: str | None,
    **options: Any,
) -> Asked:
    """The job that the arguments and options of ``words`` ask for."""
    files = jobfile.Files()
    with usage():
        target = jobfile.target(options)
        if method is not None:
            if resource is None or not (to or target) or file is not None:
                raise click.UsageError("expected --to NAMES METHOD RESOURCE [DATA], without --file")
            content = {} if data is None else jobfile.data(data, files)
            body = jobfile.batch(method, resource, content, destinations(to, options, files))
        elif to or target:
            raise click.UsageError(
                f"expected METHOD RESOURCE after {_way(target)}; a whole job names its own destinations"
            )
        elif file is None and somebody_types():
            raise click.UsageError(
                "expected --to NAMES METHOD RESOURCE, --file FILE, or a job on standard input"
            )
        else:
            name = file or "-"
            body = jobfile.whole(files.read(name), "standard input" if name == "-" else name)
    return Asked(body, method is not None, _way(target))


def _way(target: Mapping[str, Any]) -> str:
    """The option that said where a job goes."""
    return f"--{next(iter(target))}" if target else "--to"


def _say_twice(twice: list[str]) -> None:
    if not twice:
        return
    shown = ", ".join(twice[:TWICE_TOLD]) + (", .." if len(twice) > TWICE_TOLD else "")
    said = "1 name comes more than once in --to, and gets one request"
    if len(twice) > 1:
        said = f"{len(twice)} names come more than once in --to, and get one request each"
    click.echo(f"puppetmaster: {said}: {shown}", err=True)


@click.command(cls=Command, short_help="Create a job of what another did not resolve.")
@jobs_argument
@click.option("--failed", is_flag=True, help="All that did not end resolved; so it is without --status.")
@click.option("--status", type=SomeOf(RERUN), help="Only those that ended so.")
@policies
@click.pass_obj
def rerun(
    session: Context, /, jobs: tuple[int, ...], failed: bool, status: str | None, **options: Any
) -> None:
    """Create a job with the requests of JOB that did not end resolved, and with its name.

    Several JOBs become a job each.
    """
    if failed and status:
        raise click.UsageError("expected --failed or --status, got both")
    for one in ("wait", "exit_at_gate", "dry_run", "key"):
        if options[one] and len(jobs) > 1:
            raise click.UsageError(f"{jobfile.flag(one)}: expected one JOB, got {len(jobs)}")
    wanted = status.split(",") if status else list(RERUN)
    client = session.client()

    def create(job: int) -> dict[str, Any]:
        name = options["name"] or client.job(job)["name"]
        return _create(
            client, {"rerun": {"job": job, "status": wanted}}, {**options, "name": name}, words=False
        )

    if len(jobs) == 1:
        show(session, client, create(jobs[0]), options)
    else:
        each(session, jobs, create, created_line)


def _create(
    client: Client, body: Mapping[str, Any], options: Mapping[str, Any], *, words: bool, to: str = "--to"
) -> dict[str, Any]:
    with usage():
        sent = jobfile.with_options(body, options)
    named = partial(jobfile.spoken, options=options, words=words, to=to)
    return created(lambda: client.create(sent), sent.get("key"), lambda path: as_typed(named(path)))


def show(session: Context, client: Client, job: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Show the job that was created, to its end if that is wanted."""
    screen, at_gate = session.screen(), options["exit_at_gate"]
    if (options["wait"] or at_gate) and job["id"] is not None:
        session.follow(client, job["id"], created=job, exit_at_gate=at_gate)
    if screen.json:
        screen.value(job)
    elif job["id"] is None:
        tables.planned(screen, job)
    else:
        screen.line(created_line(job))


def created(
    create: Callable[[], dict[str, Any]], key: str | None, named: Callable[[str], str]
) -> dict[str, Any]:
    """The job, or an error that says what the person who typed the command can do."""
    try:
        return create()
    except KeyboardInterrupt:
        click.echo(f"puppetmaster: interrupted; '{command('list')}' shows whether the job exists", err=True)
        sys.exit(INTERRUPTED)
    except Refused as error:
        raise error.named(named) from error
    except Unreachable as error:
        if not error.lost or not key:
            raise
        again = f"{error} The job may exist: the same command with --key {key} finds or creates it."
        raise Unreachable(again) from error
