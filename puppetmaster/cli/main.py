"""The commands of the command line. Each asks puppetmaster over HTTP and shows the answer."""

import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any

import click
from click.shell_completion import get_completion_class

from puppetmaster import __version__, places
from puppetmaster.cli import doctor, tables, wording
from puppetmaster.cli.archive import export_store, import_store
from puppetmaster.cli.client import Client
from puppetmaster.cli.context import (
    Commands,
    Context,
    Statuses,
    confirm,
    job_argument,
    limit_option,
    status_option,
    yes_option,
)
from puppetmaster.cli.submit import rerun, submit
from puppetmaster.cli.terminal import Screen
from puppetmaster.model.job import JobStatus

NAME = "puppetmaster"
INDEX = places.home() / "index.py"
#: Statuses of requests in three groups, as filters of the API. The open group is asked for first: then a
#: request that ends between two questions may come twice, but is never missed.
OPEN, FAILED, DONE = "pending,sent", "error,timeout,unknown", "resolved,canceled,skipped"


@click.group(NAME, cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Run batches of commands on remote gateways, and follow every request to its end.

    PUPPETMASTER_URL says where puppetmaster is, PUPPETMASTER_TOKEN is its token when it has one.

    Exit codes: 0 all resolved, 1 some failed, 2 usage, 3 aborted, 4 canceled, 5 timeout, 6 some unknown,
    7 cannot reach it, 130 Ctrl-C.
    """


@cli.command()
def run() -> None:
    """Run the bundle, as 'python index.py' does."""
    os.execv(sys.executable, [sys.executable, str(INDEX)])  # noqa: S606 - ourselves, no shell


# -- looking --------------------------------------------------------------------------------------


@cli.command("watch")
@job_argument
@click.pass_obj
def watch_job(session: Context, job: int) -> None:
    """Watch a job to its end; the exit code is its verdict. Ctrl-C leaves the job alone."""
    session.follow(session.client(), job)


@cli.command("list")
@click.option("--status", type=Statuses([one.value for one in JobStatus]), help="Only jobs that are so.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--text", help="Only jobs whose number, name, key or resource contains this.")
@click.option("--to", "destination", help="Only jobs with a request for this destination.")
@click.option("--failed", flag_value="true", help="Only jobs with requests that failed.")
@limit_option("jobs")
@click.pass_obj
def list_jobs(session: Context, /, **filters: Any) -> None:
    """List jobs, newest first."""
    screen = session.screen()
    jobs, total = session.client().jobs(**filters)
    if screen.json:
        screen.value(jobs)
    elif jobs or not screen.terminal:
        tables.jobs(screen, jobs)
    else:
        screen.line("There is no such job." if _narrowed(filters) else "There are no jobs yet.")
    _say_rest(screen, len(jobs), total)


def _narrowed(filters: Mapping[str, Any]) -> bool:
    return any(value for name, value in filters.items() if name != "limit")


@cli.command()
@job_argument
@status_option
@click.option("--to", "destination", help="Only requests for this destination.")
@limit_option("requests")
@click.pass_obj
def show(session: Context, /, job: int, **filters: Any) -> None:
    """Show a job and its requests, those that failed first."""
    client, screen = session.client(), session.screen()
    found = client.job(job)
    requests, total = client.requests(job, **filters) if filters["status"] else _all(client, job, **filters)
    if screen.json:
        screen.value({**found, "requests": requests})
    else:
        tables.job(screen, found)
        if requests:
            screen.line("")
            tables.requests(screen, requests)
    _say_rest(screen, len(requests), total)


def _all(client: Client, job: int, **filters: Any) -> tuple[list[dict[str, Any]], int]:
    """Requests of any status: failed ones first, then open ones, then others; and the number of all."""
    asked = {status: client.requests(job, **{**filters, "status": status}) for status in (OPEN, FAILED, DONE)}
    latest = {row["id"]: row for rows, _ in asked.values() for row in rows}
    order = dict.fromkeys(row["id"] for status in (FAILED, OPEN, DONE) for row in asked[status][0])
    rows = [latest[id_] for id_ in order]
    return rows[: filters["limit"]], sum(total for _, total in asked.values())


def _say_rest(screen: Screen, shown: int, total: int) -> None:
    if total > shown:
        click.echo(f"{shown} of {total} are shown: --limit {total} shows all", err=not screen.terminal)


@cli.command()
@job_argument
@click.option("--diff", is_flag=True, help="How the others differ from the largest group that resolved.")
@click.option("--full", is_flag=True, help="Every destination by its name.")
@limit_option("groups")
@click.pass_obj
def results(session: Context, job: int, diff: bool, full: bool, limit: int) -> None:
    """Show what came back, equal results folded into groups."""
    screen = session.screen()
    groups, total = session.client().results(job, diff=diff, full=full, limit=limit)
    if screen.json:
        screen.value(groups)
    else:
        tables.results(screen, groups)
    _say_rest(screen, len(groups), total)


# -- control --------------------------------------------------------------------------------------


@cli.command()
@job_argument
@click.pass_obj
def pause(session: Context, job: int) -> None:
    """Send no more of a job for now; what is in flight ends."""
    _show_state(session, session.client().control(job, "paused"))


@cli.command()
@job_argument
@click.pass_obj
def resume(session: Context, job: int) -> None:
    """Send on, and open a closed gate between waves."""
    _show_state(session, session.client().control(job, "dispatching"))


@cli.command(short_help="End a job; what is in flight may end.")
@job_argument
@click.option("--force", is_flag=True, help="Do not wait for what is in flight: it ends as unknown.")
@yes_option
@click.pass_obj
def cancel(session: Context, job: int, force: bool, yes: bool) -> None:
    """End a job: what was not sent is canceled, what is in flight may end."""
    if force:
        confirm(f"Cancel job {job} and give up what is in flight, which may run all the same?", yes=yes)
    _show_state(session, session.client().control(job, "canceled", force=force))


@cli.command(short_help="Stop a job, and remove it for good.")
@job_argument
@yes_option
@click.pass_obj
def delete(session: Context, job: int, yes: bool) -> None:
    """Stop a job if it still runs, and remove it with all its requests."""
    confirm(f"Remove job {job} and all its requests for good?", yes=yes)
    last = session.client().delete(job)
    screen = session.screen()
    if screen.json:
        screen.value(last)
    else:
        screen.line(wording.removal(last))


def _show_state(session: Context, job: Mapping[str, Any]) -> None:
    screen = session.screen()
    if screen.json:
        screen.value(job)
    else:
        screen.line(wording.summary(job) if job["finishedAt"] else wording.state(job))


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


@cli.command(short_help="Print what makes a shell complete the words.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete: eval "$(puppetmaster completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, NAME, "_PUPPETMASTER_COMPLETE").source())


for command in (submit, rerun):
    cli.add_command(command)
cli.add_command(export_store)
cli.add_command(import_store)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a device's text may not fit the terminal's encoding
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name=NAME)
