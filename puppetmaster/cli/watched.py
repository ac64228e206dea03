"""The list of jobs as it changes, until Ctrl-C."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rich.console import Group
from rich.live import Live
from rich.text import Text

from puppetmaster.cli import tables
from puppetmaster.cli.client import Client, Unreachable
from puppetmaster.cli.follow import PATIENCE_S, Clock
from puppetmaster.cli.terminal import Screen, printable

#: Pause between two questions for the list.
POLL_S = 1.0


class Look(NamedTuple):
    """What one look at the list has shown."""

    jobs: list[dict[str, Any]]
    total: int
    #: Why puppetmaster cannot be asked now; empty: it can.
    trouble: str = ""


def looks(
    client: Client,
    filters: Mapping[str, Any],
    *,
    pause: Callable[[float], None] = time.sleep,
    now: Clock = time.monotonic,
) -> Iterator[Look]:
    """Look every ``POLL_S``. While puppetmaster cannot be reached the last look is repeated, with why.

    Raises Unreachable: at first, or for longer than ``PATIENCE_S``.
    """
    look, away_since = None, None
    while True:
        try:
            look = Look(*client.jobs(**filters))
            away_since = None
        except Unreachable as error:
            away_since = now() if away_since is None else away_since
            if look is None or not error.passing or now() - away_since > PATIENCE_S:
                raise
            look = look._replace(trouble=str(error))
        yield look
        pause(POLL_S)


def jobs(screen: Screen, client: Client, filters: Mapping[str, Any]) -> None:
    """Show them: on a terminal in place, else a line for each that has changed; as JSON the whole list."""
    if screen.terminal:
        _in_place(screen, looks(client, filters))
        return
    before: dict[int, Any] = {}
    last = None
    for look in looks(client, filters):
        if screen.json and look.jobs != last:
            screen.value(look.jobs)
        elif not screen.json:
            rows = {one["id"]: tables.job_row(one) for one in reversed(look.jobs)}
            screen.rows(row for id_, row in rows.items() if before.get(id_) != row)
            before = rows
        last = look.jobs


def _in_place(screen: Screen, found: Iterator[Look]) -> None:
    with Live(console=screen.console, auto_refresh=False) as live:
        for look in found:
            below = [f"{len(look.jobs)} of {look.total} are shown"] if look.total > len(look.jobs) else []
            below += [f"waiting: {printable(look.trouble)}"] if look.trouble else []
            shown = (
                screen.grid(*tables.job_table(screen, look.jobs))
                if look.jobs
                else Text("There are no such jobs.")
            )
            live.update(Group(shown, *(Text(line, "yellow") for line in below)), refresh=True)
