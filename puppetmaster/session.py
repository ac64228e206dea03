"""One use of the command line: whom it asks, where it shows what came, and how it ends."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from puppetmaster import live, phrases, watch
from puppetmaster.client import DEFAULT_URL, Client, ClientError, Refused
from puppetmaster.screen import Screen

#: As shells have it for a program that Ctrl-C ended.
INTERRUPTED = 130
#: As shells have it for a program whose reader has gone.
NOBODY_READS = 141
#: "no" to a question.
DECLINED = 2


@dataclass
class Session:
    """What all commands share."""

    url: str = DEFAULT_URL
    json: bool = False

    def client(self, **options: Any) -> Client:
        """The way to puppetmaster; closed when the command ends."""
        try:
            client = Client(self.url, os.environ.get("PUPPETMASTER_TOKEN", "").strip(), **options)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if (context := click.get_current_context(silent=True)) is not None:
            context.call_on_close(client.close)
        return client

    def screen(self) -> Screen:
        """The way to whoever asked."""
        return Screen(as_json=self.json)

    def follow(self, client: Client, job_id: int, *, created: Mapping[str, Any] | None = None) -> NoReturn:
        """Show a job until it ends, and end with its verdict. With ``created``, JSON is the end alone."""
        screen = self.screen()
        news = watch.follow(client, job_id)
        try:
            if created is not None and not screen.json:
                screen.line(created_line(created))
            if not screen.json:
                job = live.follow(screen, news)
            elif created is None:
                job = live.frames(news)
            else:
                job = [one.job for one in news][-1]
                screen.value({**job, "requests": created["requests"]})
        except KeyboardInterrupt:
            again = f"puppetmaster watch {job_id}"
            click.echo(f"Detached: job {job_id} goes on. Watch it again: {again}", err=True)
            sys.exit(INTERRUPTED)
        if not screen.json and job["errorCount"]:
            screen.line(f"What came back: puppetmaster results {job_id} --diff")
            screen.line(f"Run the rest again: puppetmaster rerun {job_id} --failed{phrases.warning(job)}")
        sys.exit(watch.verdict(job))


def created_line(job: Mapping[str, Any]) -> str:
    """That a job exists now, and how to follow it."""
    return f"job {job['id']}: {phrases.requests(job['totalCount'])}; puppetmaster watch {job['id']}"


def somebody_types() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Ask, if there is somebody to ask; anything but yes ends the command."""
    if yes or not somebody_types():
        return
    try:
        agreed, code = click.confirm(question, err=True), DECLINED
    except click.Abort:
        agreed, code = False, INTERRUPTED
        click.echo(err=True)
    if not agreed:
        click.echo("Nothing was changed.", err=True)
        sys.exit(code)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """An option that may stand before the command and after it."""
    if value:
        assert parameter.name
        setattr(context.ensure_object(Session), parameter.name, value)
    context.ensure_object(Session)


def _shared(**url: Any) -> list[click.Parameter]:
    about = f"Where puppetmaster is; else PUPPETMASTER_URL, else {DEFAULT_URL}."
    return [
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_keep, help="Print JSON only."),
        click.Option(["--url"], expose_value=False, callback=_keep, help=about, **url),
    ]


class Command(click.Command):
    """A command that takes ``--json`` and ``--url``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared()


class Commands(click.Group):
    """Commands that end with a sentence and the error's exit code."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared(envvar="PUPPETMASTER_URL")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            _tell(error)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("puppetmaster: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
            ctx.exit(NOBODY_READS)


def _tell(error: ClientError) -> None:
    """One sentence; several mistakes at once are a list."""
    faults = error.faults if isinstance(error, Refused) else ()
    if len(faults) < 2:
        click.echo(f"puppetmaster: {error}", err=True)
        return
    click.echo(f"puppetmaster: {len(faults)} things are wrong, and nothing was changed:", err=True)
    for fault in faults:
        place = f"{fault['path']}: " if fault.get("path") else ""
        click.echo(f"  {place}{fault.get('message')}", err=True)
