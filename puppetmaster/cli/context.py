"""One use of the command line: whom it asks, where it shows what came, and how it ends."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from puppetmaster.api import fields
from puppetmaster.api.fields import Field, Form
from puppetmaster.cli import follow, jobfile, wording
from puppetmaster.cli.client import DEFAULT_URL, Client, ClientError, Refused
from puppetmaster.cli.terminal import Screen
from puppetmaster.model.request import RequestStatus

#: As shells have it for a program that Ctrl-C ended.
INTERRUPTED = 130
#: As shells have it for a program whose reader has gone.
NOBODY_READS = 141
#: "no" to a question.
DECLINED = 2


@dataclass
class Context:
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
        news = follow.follow(client, job_id)
        try:
            if created is not None and not screen.json:
                screen.line(created_line(created))
            if not screen.json:
                job = follow.show(screen, news)
            elif created is None:
                job = follow.frames(news)
            else:
                job = [one.job for one in news][-1]
                screen.value({**job, "requests": created["requests"]})
        except KeyboardInterrupt:
            again = f"puppetmaster watch {job_id}"
            click.echo(f"Detached: job {job_id} goes on. Watch it again: {again}", err=True)
            sys.exit(INTERRUPTED)
        if not screen.json and job["errorCount"]:
            screen.line(f"What came back: puppetmaster results {job_id} --diff")
            screen.line(f"Run the rest again: puppetmaster rerun {job_id} --failed{wording.warning(job)}")
        sys.exit(follow.verdict(job))


def created_line(job: Mapping[str, Any]) -> str:
    """That a job exists now, whether its time to start was past, and how to follow it."""
    about = [wording.requests(job["totalCount"]), wording.past_start(job)]
    return f"job {job['id']}: {', '.join(filter(None, about))}; puppetmaster watch {job['id']}"


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
        setattr(context.ensure_object(Context), parameter.name, value)
    context.ensure_object(Context)


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


#: So many rows of a list, unless told otherwise.
SHOWN = 20
#: How long the shell waits for the ids of jobs while somebody types.
COMPLETION_S = 1.0

Function = TypeVar("Function", bound=Callable[..., Any])


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong with the words is a mistake in the use."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None


class _Read(click.ParamType[Any]):
    """A type that one of the functions of ``submission`` reads."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or a mistake in the use."""
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Statuses(click.ParamType[str]):
    """Some of these words, with commas between them."""

    name = "status,.."

    def __init__(self, known: Sequence[str]) -> None:
        self._known = list(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same text, or a mistake in the use."""
        for one in value.split(","):
            if one not in self._known:
                self.fail(f"expected some of {', '.join(self._known)}, got '{one}'", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the last word can become."""
        del ctx, param
        done, comma, last = incomplete.rpartition(",")
        return [CompletionItem(done + comma + one) for one in self._known if one.startswith(last)]


def _listed(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    del context, parameter
    return value.split(",") if value else None


def _jobs_there(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Job ids for the shell; none rather than an error."""
    del context, parameter
    url = os.environ.get("PUPPETMASTER_URL") or DEFAULT_URL
    try:
        with closing(Context(url).client(timeout_s=COMPLETION_S)) as client:
            rows, _ = client.jobs(limit=50)
    except (ClientError, click.UsageError):
        return []
    return [
        CompletionItem(str(row["id"]), help=f"{row['status']} {row['name'] or row.get('summary', '')}")
        for row in rows
        if str(row["id"]).startswith(incomplete)
    ]


job_argument = click.argument("job", type=click.IntRange(1), shell_complete=_jobs_there)
status_option = click.option(
    "--status", type=Statuses([one.value for one in RequestStatus]), help="Only requests that are so."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def limit_option(what: str) -> Callable[[Function], Function]:
    """How many of a list are shown."""
    return click.option(
        "--limit",
        type=click.IntRange(0),
        default=SHOWN,
        show_default=True,
        metavar="N",
        help=f"Most {what} shown.",
    )


#: How each sort of value is read from a word; the gateway knows the limits.
_TYPES: Mapping[Form, click.ParamType[Any]] = {
    Form.SHARE: _Read("N|N%", jobfile.share),
    Form.SHARES: _Read("N,N%,..", jobfile.shares),
    Form.NUMBER: click.FloatRange(0, min_open=True),
    Form.PAUSE: click.FloatRange(0),
    Form.COUNT: click.IntRange(1),
}
_BESIDE = (click.option("--wait", is_flag=True, help="Watch it to its end; the exit code is its verdict."),)


def _option(name: str, field: Field) -> Callable[[Function], Function]:
    """The option of a new job that sets this field."""
    more: dict[str, Any] = {"help": f"{field.sentence}."}
    kind = field.kind
    if kind.form is Form.FLAG:
        more["is_flag"] = True
    elif kind.form is Form.CHOICE:
        more["type"] = click.Choice(kind.schema["enum"])
    elif kind.form is Form.CHOICES:
        more |= {"type": Statuses(kind.schema["items"]["enum"]), "callback": _listed}
    elif kind.form is Form.TIME:
        more["metavar"] = "TIME"
    else:
        more |= {"type": _TYPES.get(kind.form), "metavar": kind.unit or None}
    names = filter(None, (jobfile.flag(name), jobfile.OLD_FLAGS.get(name)))
    return click.option(*names, **more)


def policies(function: Function) -> Function:
    """Give a command the options of a new job."""
    options = [_option(name, fields.at(place)) for name, place in jobfile.PLACES.items()]
    for option in reversed((*_BESIDE, *options)):
        function = option(function)
    return function
