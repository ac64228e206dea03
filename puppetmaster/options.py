"""The words that the commands of the command line share: options, arguments, and their types."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from puppetmaster import submission
from puppetmaster.client import DEFAULT_URL, ClientError
from puppetmaster.request import RequestStatus
from puppetmaster.schemas import RETRIED
from puppetmaster.session import Session

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
        with closing(Session(url).client(timeout_s=COMPLETION_S)) as client:
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


_SHARE = _Read("N|N%", submission.share)
_SHARES = _Read("N,N%,..", submission.shares)
_SECONDS = click.FloatRange(0, min_open=True)
_PAUSE = click.FloatRange(0)
_COUNT = click.IntRange(1)
_POLICIES = (
    click.option("--wait", is_flag=True, help="Watch it to its end; the exit code is its verdict."),
    click.option("--dry-run", is_flag=True, help="Show what would be sent, and when; create nothing."),
    click.option("--name", help="A label."),
    click.option("--key", help="The same key with the same body is the same job."),
    click.option("--timeout", type=_SECONDS, metavar="S", help="Seconds for the whole job."),
    click.option("--request-timeout", type=_SECONDS, metavar="S", help="Seconds from sent to answer."),
    click.option("--window", type=_SHARE, help="Most requests in flight at once."),
    click.option("--rate", type=_SECONDS, metavar="N", help="Most requests sent per second."),
    click.option("--attempts", type=_COUNT, metavar="N", help="Send so often, the first time included."),
    click.option("--retry-on", type=Statuses(RETRIED), callback=_listed, help="Try again after these only."),
    click.option("--retry-delay", type=_PAUSE, metavar="S", help="Seconds to the second attempt."),
    click.option("--max-errors", type=_SHARE, help="Send no more once more than these have failed."),
    click.option("--max-errors-after", type=_COUNT, metavar="N", help="That holds once N are done."),
    click.option("--waves", type=_SHARES, help="How far each wave goes, such as 1,10%,100%."),
    click.option("--gate-errors", type=_SHARE, help="Most failures of a wave that let the next one start."),
    click.option(
        "--gate-on-fail", type=click.Choice(("pause", "abort")), help="What the job does when more failed."
    ),
    click.option("--soak", type=_PAUSE, metavar="S", help="Seconds of rest between waves."),
    click.option("--start-at", metavar="TIME", help="Send nothing before, such as 2026-01-02T03:04:05Z."),
    click.option("--idempotent", is_flag=True, help="It does no harm to send it twice."),
)


def policies(function: Function) -> Function:
    """Give a command the options of a new job."""
    for option in reversed(_POLICIES):
        function = option(function)
    return function
