"""The command line: its commands, each of which asks the HTTP door and shows the answer."""

import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from puppetmaster import __version__, doctor, submission, tables, watch
from puppetmaster.archive import export_store, import_store
from puppetmaster.client import Client, Unreachable
from puppetmaster.job import JobStatus
from puppetmaster.options import (
    INTERRUPTED,
    Commands,
    Session,
    Statuses,
    job_argument,
    policies,
    status_option,
    usage,
    yes_option,
)
from puppetmaster.schemas import METHODS
from puppetmaster.screen import Screen

NAME = "puppetmaster"
INDEX = Path(__file__).resolve().parent.parent / "index.py"
#: So many rows of a list, unless told otherwise.
SHOWN = 20
NOT_RESOLVED = ["error", "timeout", "unknown", "skipped", "canceled"]


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


# -- new jobs -------------------------------------------------------------------------------------


@cli.command(short_help="Create a job.")
@click.argument("method", required=False, type=click.Choice(METHODS, case_sensitive=False))
@click.argument("resource", required=False)
@click.argument("data", required=False)
@click.option("--to", multiple=True, metavar="NAMES", help="Names, cg-[001-200] or @file; several times.")
@click.option("--file", metavar="FILE", help="A whole job as JSON; - is standard input.")
@policies
@click.pass_obj
def submit(
    session: Session,
    /,
    method: str | None,
    resource: str | None,
    data: str | None,
    to: tuple[str, ...],
    file: str | None,
    **options: Any,
) -> None:
    """Create a job: METHOD RESOURCE [DATA] for every --to, or a whole one from --file or standard input.

    DATA is JSON, @file, or - for standard input.
    """
    files = submission.Files()
    with usage():
        if method is not None:
            if resource is None or not to or file is not None:
                raise ValueError("expected --to NAMES METHOD RESOURCE [DATA], without --file")
            content = {} if data is None else submission.data(data, files)
            body = submission.batch(method, resource, content, submission.destinations(to, files))
        elif to:
            raise ValueError("expected METHOD RESOURCE after --to; a whole job names its own destinations")
        elif file is None and _somebody_types():
            raise ValueError("expected --to NAMES METHOD RESOURCE, --file FILE, or a job on standard input")
        else:
            name = file or "-"
            body = submission.whole(files.read(name), "standard input" if name == "-" else name)
    _create(session, body, options)


@cli.command()
@job_argument
@click.option("--failed", is_flag=True, help="All that did not end resolved; so it is without --status.")
@click.option("--status", type=Statuses(NOT_RESOLVED), help="Only those that ended so.")
@policies
@click.pass_obj
def rerun(session: Session, /, job: int, failed: bool, status: str | None, **options: Any) -> None:
    """Create a job with the requests of JOB that did not end resolved."""
    if failed and status:
        raise click.UsageError("expected --failed or --status, got both")
    wanted = status.split(",") if status else NOT_RESOLVED
    _create(session, {"rerun": {"job": job, "status": wanted}}, options)


def _create(session: Session, body: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    client, screen = session.client(), session.screen()
    sent = submission.with_options(body, options)
    try:
        job = client.create(sent)
    except KeyboardInterrupt:
        click.echo("puppetmaster: interrupted; 'puppetmaster list' shows whether the job exists", err=True)
        sys.exit(INTERRUPTED)
    except Unreachable as error:
        if not error.lost or not sent.get("key"):
            raise
        again = f"{error} The job may exist: the same command with --key {sent['key']} finds or creates it."
        raise Unreachable(again) from error
    if options["wait"] and job["id"] is not None:
        _follow(session, client, job["id"], created=job)
    elif screen.json:
        screen.value(job)
    elif job["id"] is None:
        screen.line(f"This job would have {_requests(job)}; nothing was created.")
        tables.requests(screen, job["requests"][:SHOWN])
        _say_rest(screen, min(SHOWN, job["totalCount"]), job["totalCount"], "--json")
    else:
        screen.line(_created(job))


def _created(job: Mapping[str, Any]) -> str:
    return f"job {job['id']}: {_requests(job)}; puppetmaster watch {job['id']}"


def _requests(job: Mapping[str, Any]) -> str:
    count = job["totalCount"]
    return f"{count} request" if count == 1 else f"{count} requests"


# -- looking --------------------------------------------------------------------------------------


@cli.command("watch")
@job_argument
@click.pass_obj
def watch_job(session: Session, job: int) -> None:
    """Watch a job to its end; the exit code is its verdict. Ctrl-C leaves the job alone."""
    _follow(session, session.client(), job)


def _follow(
    session: Session, client: Client, job_id: int, *, created: Mapping[str, Any] | None = None
) -> NoReturn:
    """Show a job until it ends, and end with its verdict. With ``created``, JSON is the end alone."""
    screen = session.screen()
    news = watch.follow(client, job_id)
    try:
        if created is not None and not screen.json:
            screen.line(_created(created))
        job = screen.follow(news, frames=created is None)
    except KeyboardInterrupt:
        again = f"puppetmaster watch {job_id}"
        click.echo(f"Detached: job {job_id} goes on. Watch it again: {again}", err=True)
        sys.exit(INTERRUPTED)
    if not screen.json and job["errorCount"]:
        screen.line(f"What came back: puppetmaster results {job_id} --diff")
    sys.exit(watch.verdict(job))


@cli.command("list")
@click.option("--status", type=Statuses([one.value for one in JobStatus]), help="Only jobs that are so.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--text", help="Only jobs whose number, name, key or resource contains this.")
@click.option("--to", "destination", help="Only jobs with a request for this destination.")
@click.option("--limit", type=click.IntRange(0), default=SHOWN, show_default=True, help="Most jobs shown.")
@click.pass_obj
def list_jobs(session: Session, /, **filters: Any) -> None:
    """List jobs, newest first."""
    screen = session.screen()
    jobs, total = session.client().jobs(**filters)
    if screen.json:
        screen.value(jobs)
        return
    tables.jobs(screen, jobs)
    _say_rest(screen, len(jobs), total, f"--limit {total}")


@cli.command()
@job_argument
@status_option
@click.option("--to", "destination", help="Only requests for this destination.")
@click.option(
    "--limit", type=click.IntRange(0), default=SHOWN, show_default=True, help="Most requests shown."
)
@click.pass_obj
def show(session: Session, /, job: int, **filters: Any) -> None:
    """Show a job and its requests."""
    client, screen = session.client(), session.screen()
    found = client.job(job)
    requests, total = client.requests(job, **filters)
    if screen.json:
        screen.value({**found, "requests": requests})
        return
    tables.job(screen, found)
    tables.requests(screen, requests)
    _say_rest(screen, len(requests), total, f"--limit {total}")


def _say_rest(screen: Screen, shown: int, total: int, cure: str) -> None:
    if total > shown:
        click.echo(f"{shown} of {total} are shown: {cure} shows all", err=not screen.terminal)


@cli.command()
@job_argument
@click.option("--diff", is_flag=True, help="How the others differ from the largest group that resolved.")
@click.option("--full", is_flag=True, help="Every destination by its name.")
@click.pass_obj
def results(session: Session, job: int, diff: bool, full: bool) -> None:
    """Show what came back, equal results folded into groups."""
    screen = session.screen()
    groups = session.client().results(job, diff=diff, full=full)
    if screen.json:
        screen.value(groups)
    else:
        tables.results(screen, groups)


# -- control --------------------------------------------------------------------------------------


@cli.command()
@job_argument
@click.pass_obj
def pause(session: Session, job: int) -> None:
    """Send no more of a job for now; what is in flight ends."""
    _show_state(session, session.client().control(job, "paused"))


@cli.command()
@job_argument
@click.pass_obj
def resume(session: Session, job: int) -> None:
    """Send on, and open a closed gate between waves."""
    _show_state(session, session.client().control(job, "dispatching"))


@cli.command()
@job_argument
@click.option("--force", is_flag=True, help="Do not wait for what is in flight: it ends as unknown.")
@yes_option
@click.pass_obj
def cancel(session: Session, job: int, force: bool, yes: bool) -> None:
    """End a job: what was not sent is canceled, what is in flight may end."""
    if force:
        _confirm(f"Cancel job {job} and give up what is in flight, which may run all the same?", yes=yes)
    _show_state(session, session.client().control(job, "canceled", force=force))


@cli.command()
@job_argument
@yes_option
@click.pass_obj
def delete(session: Session, job: int, yes: bool) -> None:
    """Stop a job if it still runs, and remove it with all its requests."""
    _confirm(f"Remove job {job} and all its requests for good?", yes=yes)
    last = session.client().delete(job)
    screen = session.screen()
    if screen.json:
        screen.value(last)
    else:
        screen.line(f"job {job} is removed; it was {last['status']}")


def _confirm(question: str, *, yes: bool) -> None:
    """Ask, if there is somebody to ask."""
    if not yes and _somebody_types() and not click.confirm(question, err=True):
        click.echo("Nothing was changed.", err=True)
        sys.exit(2)


def _somebody_types() -> bool:
    return sys.stdin.isatty()


def _show_state(session: Session, job: Mapping[str, Any]) -> None:
    screen = session.screen()
    if screen.json:
        screen.value(job)
    else:
        screen.line(watch.state(job))


# -- around ---------------------------------------------------------------------------------------


@cli.command("doctor")
@click.pass_obj
def examine(session: Session) -> None:
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


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete: eval "$(puppetmaster completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, NAME, "_PUPPETMASTER_COMPLETE").source())


cli.add_command(export_store)
cli.add_command(import_store)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a device's word may not fit the terminal's encoding
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name=NAME)
