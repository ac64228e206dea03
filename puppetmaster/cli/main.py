"""The commands of the command line. Each asks puppetmaster over HTTP and shows the answer."""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from typing import Any

import click
from click.shell_completion import get_completion_class

from puppetmaster import __version__, places
from puppetmaster.api.answers import HAPPENED
from puppetmaster.cli import called, doctor, sheets, tables, watched, wording
from puppetmaster.cli.archive import export_store, import_store
from puppetmaster.cli.client import Client, Refused, all_rows
from puppetmaster.cli.context import (
    INTERRUPTED,
    Commands,
    Context,
    Mistake,
    confirm,
    csv_option,
    each,
    exit_at_gate_option,
    job_argument,
    jobs_argument,
    limit_option,
    status_option,
    to_option,
    yes_option,
)
from puppetmaster.cli.gateways import gateways
from puppetmaster.cli.kinds import OneOf, SomeOf, whole
from puppetmaster.cli.submit import rerun, submit
from puppetmaster.cli.templates import templates
from puppetmaster.cli.terminal import Column, Screen
from puppetmaster.model import caller
from puppetmaster.model.job import JobStatus

NAME = called.NAME
INDEX = places.home() / "index.py"
#: Statuses of requests in three groups, as filters of the API. The open group is asked for first: then a
#: request that ends between two questions may come twice, but is never missed.
OPEN, FAILED, DONE = "pending,sent", "error,timeout,unknown", "resolved,canceled,skipped"
#: Number of requests of each group that are read for rows which stand for several.
FOLDED = 200
#: The variable in which a shell says what it wants to know.
COMPLETE = "_PUPPETMASTER_COMPLETE"
#: Begins each token, so that programs that look for secrets find it.
PREFIX = "pm_"


@click.group(NAME, cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Run batches of commands on remote gateways, and follow every request to its end.

    PUPPETMASTER_URL says where puppetmaster is, PUPPETMASTER_TOKEN is its token when it has one.

    Exit codes: 0 all resolved, 1 some failed, 2 usage, 3 aborted, 4 canceled, 5 timeout, 6 some unknown,
    7 cannot reach it, 8 a gate closed (with --exit-at-gate), 130 Ctrl-C.
    """


@cli.command(ignored=("json", "url"))
def run() -> None:
    """Run the bundle, as 'python index.py' does."""
    os.execv(sys.executable, [sys.executable, str(INDEX)])  # noqa: S606 - ourselves, no shell


# -- looking --------------------------------------------------------------------------------------


@cli.command("watch")
@job_argument
@exit_at_gate_option
@click.pass_obj
def watch_job(session: Context, job: int, exit_at_gate: bool) -> None:
    """Watch a job to its end; the exit code is its verdict. Ctrl-C leaves the job alone."""
    session.follow(session.client(), job, exit_at_gate=exit_at_gate)


@cli.command("list")
@click.option("--status", type=SomeOf([one.value for one in JobStatus]), help="Only jobs with such a status.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--text", help="Only jobs whose number, name, key or resource contains this.")
@click.option("--template", type=whole(1, "the number of a template"), help="Only jobs of this template.")
@click.option("--to", "destination", metavar="NAME", help="Only jobs with a request for this destination.")
@click.option("--failed", flag_value="true", help="Only jobs with requests that failed.")
@click.option("--watch", "goes_on", is_flag=True, help="Show them as they change, until Ctrl-C.")
@limit_option("jobs")
@click.pass_obj
def list_jobs(session: Context, /, goes_on: bool, **filters: Any) -> None:
    """List jobs, newest first."""
    screen = session.screen()
    if goes_on:
        try:
            watched.jobs(screen, session.client(), filters)
        except KeyboardInterrupt:  # that is how it ends
            sys.exit(INTERRUPTED)
    jobs, total = session.client().jobs(**filters)
    if screen.json:
        screen.value(jobs)
    elif total or not screen.terminal:
        tables.jobs(screen, jobs)
    else:
        screen.line("There is no such job." if _narrowed(filters) else "There are no jobs yet.")
    screen.rest(len(jobs), total)


def _narrowed(filters: Mapping[str, Any]) -> bool:
    return any(value for name, value in filters.items() if name != "limit")


@cli.command(short_help="Show a job and its requests, or those for one gateway in full.")
@job_argument
@click.argument("gateway", required=False)
@status_option
@to_option
@limit_option("rows")
@click.pass_obj
def show(session: Context, /, job: int, gateway: str | None, **filters: Any) -> None:
    """Show a job and its requests, those that failed first.

    With GATEWAY its requests in full: what was sent, each attempt, and what came back.
    """
    if gateway is not None:
        _show_gateway(session, job, gateway, filters["status"])
        return
    client, screen = session.client(), session.screen()
    found, most = client.job(job), filters.pop("limit")
    in_steps = screen.terminal and not filters["status"] and wording.in_steps(found)
    read = {**filters, "limit": max(most, FOLDED) if screen.terminal else most}
    if in_steps:  # a gateway is shown with all of them
        requests = list(all_rows(client.requests, job, **filters))
        total = len(requests)
    else:
        requests, total = client.requests(job, **read) if filters["status"] else _all(client, job, **read)
    if screen.json:
        shown = len(requests[:most])
        screen.value({**found, "requests": requests[:most]})
    else:
        tables.job(screen, found, requests)
        if requests:
            screen.line("")
        shown = (
            tables.gateways(screen, requests, most)
            if in_steps
            else tables.requests(screen, requests, most, fold=True)
        )
    screen.rest(shown, min(total, found["totalCount"]))  # requests that end meanwhile count twice


def _show_gateway(session: Context, job: int, gateway: str, status: str | None) -> None:
    client, screen = session.client(), session.screen()
    found, _ = client.requests(job, destination=gateway, status=status)
    if not found:
        so = f" that is {status.replace(',', ' or ')}" if status else ""
        client.job(job)  # perhaps there is no such job
        raise Refused(f"Job {job} has no request to {gateway}{so}.", 404)
    _show_requests(screen, found)


def _show_requests(screen: Screen, found: Sequence[Mapping[str, Any]]) -> None:
    if screen.json:
        screen.value(found)
        return
    for number, one in enumerate(found):
        if number:
            screen.line("")
        tables.request(screen, one)


@cli.command("request")
@click.argument("id_", metavar="ID", type=whole(1, "the number of a request"))
@click.pass_obj
def show_request(session: Context, id_: int) -> None:
    """Show one request in full: what was sent, each attempt, and what came back."""
    screen = session.screen()
    found = session.client().request(id_)
    screen.answer(found, lambda: tables.request(screen, found))


def _all(client: Client, job: int, **filters: Any) -> tuple[list[dict[str, Any]], int]:
    """Requests of each status: failed ones first, then open ones, then others; and the number of all."""
    asked = {status: client.requests(job, **{**filters, "status": status}) for status in (OPEN, FAILED, DONE)}
    latest = {row["id"]: row for rows, _ in asked.values() for row in rows}
    order = dict.fromkeys(row["id"] for status in (FAILED, OPEN, DONE) for row in asked[status][0])
    return [latest[id_] for id_ in order], sum(total for _, total in asked.values())


@cli.command("requests")
@job_argument
@status_option
@to_option
@limit_option("requests")
@csv_option
@click.pass_obj
def list_requests(session: Context, /, job: int, limit: int, as_csv: bool, **filters: Any) -> None:
    """List the requests of a job in the order of sending."""
    client, screen = session.client(), session.screen()
    if as_csv:
        every = all_rows(client.requests, job, **filters)
        _as_csv(screen, sheets.REQUESTS, sheets.requests(every))
        return
    found, total = client.requests(job, **filters, limit=limit)
    screen.answer(found, lambda: tables.requests(screen, found, limit))
    screen.rest(len(found), total)


def _as_csv(screen: Screen, head: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    if screen.json:
        raise click.UsageError("expected --csv or --json, got both")
    sheets.write(head, rows)


@cli.command()
@job_argument
@click.option("--diff", is_flag=True, help="How the others differ from the largest group that resolved.")
@click.option("--full", is_flag=True, help="Every destination by its name.")
@limit_option("groups")
@csv_option
@click.pass_obj
def results(session: Context, job: int, diff: bool, full: bool, limit: int, as_csv: bool) -> None:
    """Show what came back, equal results folded into groups."""
    client, screen = session.client(), session.screen()
    if as_csv:
        every = all_rows(client.results, job, diff=False, full=full)
        _as_csv(screen, sheets.RESULTS, sheets.results(every))
        return
    groups, total = client.results(job, diff=diff, full=full, limit=limit)
    screen.answer(groups, lambda: tables.results(screen, groups, full=full))
    screen.rest(len(groups), total)


@cli.command(short_help="Show what has happened to a job, and who did it.")
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
        screen.table(columns, [(screen.moment(one["at"]), one["by"], _happened(one)) for one in found])
    else:
        keys = ("at", "by", "event", "status", "wave", "why")
        screen.rows([one[key] for key in keys] for one in found)
    if missing := found[-1]["number"] - len(found) if found else 0:
        screen.aside(f"{missing} events between are not kept")


def _happened(event: Mapping[str, Any]) -> str:
    what = HAPPENED.get(event["event"], event["event"]).format(**event)
    return f"{what} ({event['why']})" if event["why"] else what


# -- control --------------------------------------------------------------------------------------


@cli.command()
@jobs_argument
@click.pass_obj
def pause(session: Context, jobs: Sequence[int]) -> None:
    """Send no more of a job for now; what is in flight ends."""
    client = session.client()
    each(session, jobs, lambda job: client.control(job, "paused"), _state)


@cli.command()
@jobs_argument
@click.pass_obj
def resume(session: Context, jobs: Sequence[int]) -> None:
    """Send on, and open a closed gate between waves."""
    client = session.client()
    each(session, jobs, lambda job: client.control(job, "dispatching"), _state)


@cli.command(short_help="End a job; what is in flight may end.")
@jobs_argument
@click.option("--force", is_flag=True, help="Do not wait for what is in flight: it ends as unknown.")
@yes_option
@click.pass_obj
def cancel(session: Context, jobs: Sequence[int], force: bool, yes: bool) -> None:
    """End a job: what was not sent is canceled, what is in flight may end."""
    if force:
        confirm(
            f"Cancel {wording.jobs(jobs)} and give up what is in flight, which may run all the same?", yes=yes
        )
    client = session.client()
    each(session, jobs, lambda job: client.control(job, "canceled", force=force), _state)


@cli.command(short_help="Stop a job, and remove it for good.")
@jobs_argument
@yes_option
@click.pass_obj
def delete(session: Context, jobs: Sequence[int], yes: bool) -> None:
    """Stop a job if it still runs, and remove it with all its requests."""
    confirm(f"Remove {wording.jobs(jobs)} with all requests for good?", yes=yes)
    client = session.client()
    each(session, jobs, client.delete, wording.removal)


def _state(job: Mapping[str, Any]) -> str:
    return wording.summary(job) if job["finishedAt"] else wording.state(job)


# -- around ---------------------------------------------------------------------------------------


@cli.command("doctor", short_help="Check what puppetmaster needs, and say what to do.")
@click.pass_obj
def examine(session: Context) -> None:
    """Check broker, controller, registration, store and versions, and say what to do."""
    screen = session.screen()
    checks = []
    for check in doctor.examine(session.client(timeout_s=doctor.ANSWER_TIMEOUT_S)):
        checks.append(check)
        if not screen.json:
            tables.check(screen, check)
    code = doctor.exit_code(checks)
    if screen.json:
        screen.value({"healthy": code == 0, "checks": [check._asdict() for check in checks]})
    sys.exit(code)


@cli.command(ignored=("url",), short_help="Make a token and its line for the file of tokens.")
@click.argument("name")
@click.option(
    "--role", type=OneOf([*caller.Role]), required=True, help=f"What it may do: {', '.join(caller.Role)}."
)
@click.pass_obj
def token(session: Context, name: str, role: str) -> None:
    """Make a token and its line for the file that PUPPETMASTER_TOKENS names.

    The token is shown once, and kept nowhere: give it to NAME. The line, which has only the token's SHA-256,
    goes into the file.
    """
    if (wrong := caller.name_fault(name)) is not None:
        raise Mistake(f"NAME: {wrong}")
    made = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {role} {caller.digest(made)}"
    if session.json:
        session.screen().value({"token": made, "line": line})
        return
    click.echo(f"The token, shown this once: put it into PUPPETMASTER_TOKEN of whoever is {name}.", err=True)
    click.echo(made)
    click.echo(
        f"Its line ({caller.FORM}) for the file that PUPPETMASTER_TOKENS of the bundle names:", err=True
    )
    click.echo(line)


@cli.command(
    ignored=("json", "url"),
    short_help="Print what makes a shell complete the words.",
    help=f'Print what makes a shell complete: eval "$({called.command("completion", "bash")})".',
)
@click.argument("shell", type=OneOf(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """What makes a shell complete."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, NAME, COMPLETE).source())


for command in (submit, rerun, templates, gateways, export_store, import_store):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a device's text may not fit the terminal's encoding
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name=called.name(), complete_var=COMPLETE)
