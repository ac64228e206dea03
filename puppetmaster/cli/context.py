"""One use of the command line: whom it asks, where it shows what came, and how it ends."""

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from puppetmaster import __version__
from puppetmaster.api import fields
from puppetmaster.api.fields import Field
from puppetmaster.api.kinds import Form
from puppetmaster.cli import follow, jobfile, wording
from puppetmaster.cli.called import command
from puppetmaster.cli.client import DEFAULT_URL, Client, ClientError, Refused
from puppetmaster.cli.kinds import OneOf, Read, SomeOf, digits, whole
from puppetmaster.cli.terminal import Screen
from puppetmaster.model.request import RequestStatus

VARIABLE = "PUPPETMASTER_URL"
#: As shells have it for a program that Ctrl-C ended.
INTERRUPTED = 130
#: As shells have it for a program whose reader has gone.
NOBODY_READS = 141
#: On a terminal of fewer columns the help is laid out in another way.
NARROW = 60
#: Where a context keeps what was typed.
_TYPED = "puppetmaster.typed"
#: "no" to a question.
DECLINED = 2
#: Rows of a list that are shown, unless an option says how many.
SHOWN = 20
#: How long the shell waits for the ids of jobs while somebody types.
COMPLETION_S = 1.0

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class Context:
    """What all commands share."""

    url: str = DEFAULT_URL
    json: bool = False
    #: The option or the variable that the URL is from.
    named: str = VARIABLE

    def client(self, **options: Any) -> Client:
        """The way to puppetmaster; closed when the command ends."""
        token = os.environ.get("PUPPETMASTER_TOKEN", "").strip()
        try:
            client = Client(self.url, token, named=self.named, **options)
        except ValueError as error:
            raise Mistake(str(error)) from None
        if (context := click.get_current_context(silent=True)) is not None:
            context.call_on_close(client.close)
        return client

    def screen(self) -> Screen:
        """The way to the person, or the program, that typed the command."""
        return Screen(as_json=self.json)

    def follow(
        self,
        client: Client,
        job_id: int,
        *,
        created: Mapping[str, Any] | None = None,
        exit_at_gate: bool = False,
    ) -> NoReturn:
        """Show a job until it ends, and end with its verdict. With ``created``, JSON is the end alone."""
        screen = self.screen()
        news = follow.follow(client, job_id)
        if exit_at_gate:
            news = follow.until_gate(news)
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
            again = command("watch", job_id)
            click.echo(f"Detached: job {job_id} goes on. Watch it again: {again}", err=True)
            sys.exit(INTERRUPTED)
        if not screen.json and job["errorCount"]:
            screen.line(f"What came back: {command('results', job_id, '--diff')}")
            if job["finishedAt"]:
                again = command("rerun", job_id, "--failed")
                screen.line(f"Run the rest again: {again}{wording.warning(job)}")
        sys.exit(follow.verdict(job))


def created_line(job: Mapping[str, Any]) -> str:
    """That a job exists now, whether its time to start was past, and how to follow it."""
    about = [wording.requests(job["totalCount"]), wording.past_start(job)]
    return f"job {job['id']}: {', '.join(filter(None, about))}; {command('watch', job['id'])}"


def somebody_types() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


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


class Help(click.HelpFormatter):
    """The help, in which on a narrow terminal long options stand above what they mean."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of words with what they mean."""
        super().write_dl(rows, col_max if self.width >= NARROW else self.width // 4, col_spacing)


class Words(click.Context):
    """What was typed."""

    formatter_class = Help


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """An option that may stand before the command and after it."""
    session = context.ensure_object(Context)
    if value:
        assert parameter.name
        setattr(session, parameter.name, value)
        if parameter.name == "url":
            typed = context.get_parameter_source("url") is ParameterSource.COMMANDLINE
            session.named = "--url" if typed else VARIABLE


def _shared(ignored: Iterable[str] = (), **url: Any) -> list[click.Parameter]:
    """The options that all commands take. Those that a command ignores are not listed."""
    about = f"Where puppetmaster is; else {VARIABLE}, else {DEFAULT_URL}."
    json, where = "json" in ignored, "url" in ignored
    return [
        click.Option(
            ["--json"], is_flag=True, expose_value=False, callback=_keep, help="Print JSON only.", hidden=json
        ),
        click.Option(
            ["--url"], metavar="URL", expose_value=False, callback=_keep, help=about, hidden=where, **url
        ),
    ]


class Command(click.Command):
    """A command that takes ``--json`` and ``--url``; those in ``ignored`` mean nothing to it."""

    context_class = Words

    def __init__(self, *args: Any, ignored: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared(ignored)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words behind the command, and keep them as they were typed."""
        ctx.meta[_TYPED] = [word.partition("=")[0] for word in args]
        return super().parse_args(ctx, args)


class Commands(click.Group):
    """Commands that end with a sentence and the error's exit code."""

    command_class = Command
    context_class = Words

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared(envvar=VARIABLE)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the words before the command."""
        columns = shutil.get_terminal_size().columns
        if columns < NARROW:  # than which click knows nothing narrower
            kwargs["terminal_width"] = columns - 2
        try:
            return super().make_context(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _tell_mistake(error)
            sys.exit(error.exit_code)
        except OSError as error:  # the help is shown here
            sys.exit(_unread(error))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            tell(error)
            ctx.exit(error.exit_code)
        except click.UsageError as error:
            _tell_mistake(error)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("puppetmaster: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except OSError as error:  # all others are told where they come from
            ctx.exit(_unread(error))
        except MemoryError:
            click.echo("puppetmaster: this takes more memory than there is: allow more (ulimit -v)", err=True)
            ctx.exit(ClientError.exit_code)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            click.echo(f"puppetmaster: {_strange(ctx.ensure_object(Context).url, error)}", err=True)
            ctx.exit(ClientError.exit_code)


class Group(click.Group):
    """Commands below a command. Their errors are told where the command itself is run."""

    command_class = Command
    context_class = Words

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared()


def _strange(url: str, error: Exception) -> str:
    """That something was answered that cannot be shown, with where that was noticed."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"expected an answer of version {__version__} from {url}, and got another one, or this is a fault of "
        f"the command line itself: {type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})"
    )


def _unread(error: OSError) -> int:
    """The exit code when the output cannot be written, which is told unless its reader has gone."""
    if not isinstance(error, BrokenPipeError):
        click.echo(f"puppetmaster: cannot write what there is to say: {error.strerror}", err=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
    return NOBODY_READS


def as_typed(text: str) -> str:
    """The text, with an option in front by the older name, if that was typed."""
    context = click.get_current_context(silent=True)
    typed = context.meta.get(_TYPED, ()) if context else ()
    for option, old in jobfile.OLD_FLAGS.items():
        flag = jobfile.flag(option)
        if old in typed and text.startswith(flag):
            return old + text.removeprefix(flag)
    return text


def _tell_mistake(error: click.UsageError) -> None:
    """What is wrong with the words: with a value, as the API tells it; else with where to read on."""
    if isinstance(error, click.MissingParameter) and error.param is not None:
        said = f"{_shown(error.param)}: expected a value, got none"
    elif isinstance(error, click.BadParameter) and error.param is not None:
        said, error = f"{_shown(error.param)}: {error.message}", Mistake(error.message)
    else:
        said = error.format_message()
    click.echo(f"puppetmaster: {said}", err=True)
    if error.ctx is not None and not isinstance(error, Mistake):
        click.echo(f"Try '{error.ctx.command_path} --help' for help.", err=True)


def _shown(parameter: click.Parameter) -> str:
    """A parameter as it is typed."""
    if isinstance(parameter, click.Option):
        return as_typed(parameter.opts[0])
    shown = parameter.metavar if parameter.metavar and "|" not in parameter.metavar else parameter.name
    return str(shown).rstrip(".").upper()


def tell(error: ClientError) -> None:
    """One sentence; several mistakes at once are a list."""
    faults = error.faults if isinstance(error, Refused) else ()
    if len(faults) < 2:
        click.echo(f"puppetmaster: {error}", err=True)
        return
    click.echo(f"puppetmaster: {len(faults)} things are wrong, and nothing was changed:", err=True)
    for fault in faults:
        place = f"{fault['path']}: " if fault.get("path") else ""
        click.echo(f"  {place}{fault.get('message')}", err=True)


def each(
    session: Context,
    jobs: Sequence[int],
    ask: Callable[[int], dict[str, Any]],
    said: Callable[[Mapping[str, Any]], str],
) -> None:
    """Ask for each job and show what was answered. One that is refused keeps none of the others."""
    screen, answers, code = session.screen(), [], 0
    for job in dict.fromkeys(jobs):
        try:
            answers.append(ask(job))
        except Refused as error:
            tell(error)
            code = error.exit_code
        else:
            if not screen.json:
                screen.line(said(answers[-1]))
    if screen.json and (answers or len(jobs) > 1):
        screen.value(answers if len(jobs) > 1 else answers[0])
    sys.exit(code)


class Mistake(click.UsageError):
    """A mistake in the use whose sentence says all: the help would say no more."""


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong with the words is a mistake in the use."""
    try:
        yield
    except ValueError as error:
        raise Mistake(str(error)) from None


def _listed(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    del context, parameter
    return value.split(",") if value else None


def _jobs_there(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Job ids for the shell; none rather than an error."""
    del context, parameter
    url = os.environ.get(VARIABLE) or DEFAULT_URL
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


_JOB = whole(1, "the number of a job")
job_argument = click.argument("job", type=_JOB, shell_complete=_jobs_there)
jobs_argument = click.argument(
    "jobs", type=_JOB, nargs=-1, required=True, metavar="JOB...", shell_complete=_jobs_there
)
to_option = click.option("--to", "destination", metavar="NAME", help="Only requests for this destination.")
exit_at_gate_option = click.option(
    "--exit-at-gate", is_flag=True, help="End with code 8 when a gate closes: the job stays paused."
)
status_option = click.option(
    "--status",
    type=SomeOf([one.value for one in RequestStatus]),
    help="Only requests with such a status.",
)
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print all of them as CSV with a heading.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def limit_option(what: str) -> Callable[[Function], Function]:
    """How many of a list are shown."""
    return click.option(
        "--limit",
        type=whole(0, "a whole number from 0"),
        default=SHOWN,
        show_default=True,
        metavar="N",
        help=f"Most {what} shown.",
    )


def _kind(field: Field) -> click.ParamType[Any] | None:
    """How the value of a field is read from a word; the gateway knows the limits."""
    kind = field.kind
    lasts = Read("S|10m", jobfile.lasting) if kind.unit == "S" else None
    of_form: Mapping[Form, click.ParamType[Any] | None] = {
        Form.SHARE: Read("N|N%", jobfile.share),
        Form.SHARES: Read("N,N%,..", jobfile.shares),
        Form.NUMBER: lasts or Read("N", jobfile.number, kind.expected),
        Form.PAUSE: lasts,
        Form.COUNT: Read("N", digits, kind.expected),
        Form.NAMES: Read("NAME,..", jobfile.names),
        Form.TIME: Read("TIME|+2h", lambda text: jobfile.moment(text, time.time())),
    }
    return of_form.get(kind.form)


_BESIDE = (
    click.option("--wait", is_flag=True, help="Watch it to its end; the exit code is its verdict."),
    click.option(
        "--exit-at-gate",
        is_flag=True,
        help="As --wait, but end with code 8 when a gate closes: it stays paused.",
    ),
)


def _option(name: str, field: Field) -> Callable[[Function], Function]:
    """The option of a new job that sets this field."""
    more: dict[str, Any] = {"help": f"{field.sentence}."}
    kind = field.kind
    if kind.form is Form.FLAG:
        more["is_flag"] = True
    elif kind.form is Form.CHOICE:
        more["type"] = OneOf(kind.schema["enum"])
    elif kind.form is Form.CHOICES:
        more |= {"type": SomeOf(kind.schema["items"]["enum"]), "callback": _listed}
    elif (read := _kind(field)) is not None:
        more |= {"type": read, "metavar": read.name}
    names = filter(None, (jobfile.flag(name), jobfile.OLD_FLAGS.get(name)))
    return click.option(*names, **more)


def policies(function: Function) -> Function:
    """Give a command the options of a new job."""
    options = [_option(name, fields.at(place)) for name, place in jobfile.PLACES.items()]
    for option in reversed((*_BESIDE, *options)):
        function = option(function)
    return function
