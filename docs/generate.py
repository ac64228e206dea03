"""What the documents say that the code knows better: ``python -m docs.generate`` writes it, a test compares.

The diagrams of docs/states.md come from the transition tables, the settings in README.md and in
data/puppetmaster.json.factory from their declaration.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from puppetmaster.model import job, request
from puppetmaster.settings import Settings, variable

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "| variable | default | meaning |\n|---|---|---|\n", "\n\n"

STATES = """# The states of jobs and requests

A status changes only by an event that stands in one of these tables (`puppetmaster/job.py`,
`puppetmaster/request.py`); any other raises and changes nothing. The source says of each status what it
means, who moves it on, and what a crash leaves behind. `python -m docs.generate` draws this page.

## A request

{request}

`timeout` and `unknown` are final for the job's end; only an answer that comes late moves them.

## A job

{job}
"""


def diagram(table: Mapping[tuple[Any, Any], StrEnum], first: Iterable[StrEnum]) -> str:
    """A Mermaid state diagram of a transition table."""
    lines = ["```mermaid", "stateDiagram-v2", *(f"    [*] --> {status}" for status in first)]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in table.items()]
    lines += [f"    {status} --> [*]" for status in _without_way_out(table)]
    return "\n".join([*lines, "```"])


def _without_way_out(table: Mapping[tuple[Any, Any], StrEnum]) -> list[StrEnum]:
    left = {before for before, _ in table}
    return sorted(set(table.values()) - left)


def states() -> str:
    """All of docs/states.md."""
    return STATES.format(
        request=diagram(request.TRANSITIONS, [request.RequestStatus.PENDING]),
        job=diagram(job.TRANSITIONS, [job.JobStatus.PENDING, job.JobStatus.DISPATCHING]),
    )


def settings() -> str:
    """The rows of the README's table of settings."""
    rows = []
    for knob in fields(Settings):
        default = "`data/` of the bundle" if knob.name == "data_dir" else f"`{plain(knob.default)}`"
        rows.append(f"| `{variable(knob)}` | {default} | {knob.metadata['about']} |")
    return "\n".join(rows)


def plain(value: object) -> str:
    """A setting's value as the documents show it."""
    if value is None or value == "":
        return "none"
    return (
        f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )


def with_settings(readme: str) -> str:
    """README.md with its table of settings as the code has them."""
    before, rest = readme.split(BEGIN, 1)
    return before + BEGIN + settings() + END + rest.split(END, 1)[1]


def factory() -> str:
    """All of data/puppetmaster.json.factory: the settings at first, without what is empty, or the SDK's."""
    left_out = ("dataDir", "brokerHost", "brokerPort")
    known = Settings().public()
    shown = {name: value for name, value in known.items() if value != "" and name not in left_out}
    return json.dumps(shown, indent=2) + "\n"


def main() -> None:
    """Write them."""
    (ROOT / "data" / "puppetmaster.json.factory").write_text(factory())
    (ROOT / "docs" / "states.md").write_text(states())
    readme = ROOT / "README.md"
    readme.write_text(with_settings(readme.read_text()))


if __name__ == "__main__":
    main()
