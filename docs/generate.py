"""What the documents say that the code knows better: ``python -m docs.generate`` writes it, a test compares.

The diagrams of docs/states.md come from the transition tables, the settings in README.md and in
data/puppetmaster.json.factory from their declaration, the resources in docs/api.md from the operations, the
properties there from the fields and the answers, and the options in docs/cli.md from the fields.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from click import Context, Option, Parameter

from puppetmaster.api.answers import ANSWERS
from puppetmaster.api.fields import NEW_JOB, Field, Many, at
from puppetmaster.api.operations import OPERATIONS, Operation
from puppetmaster.api.query import PARAMETERS
from puppetmaster.cli.jobfile import PLACES
from puppetmaster.cli.submit import submit
from puppetmaster.model import job, request
from puppetmaster.model.why import Reason, Why
from puppetmaster.settings import Settings, variable

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "| variable | default | meaning |\n|---|---|---|\n", "\n\n"
PROPERTIES = "| property | meaning | what it may be | default |\n|---|---|---|---|\n"
#: The table of an answer, and its name in ``ANSWERS``.
ANSWER = "| of a {} | meaning |\n|---|---|\n"
ANSWERS_SHOWN = {"job": "Job", "request": "Request", "group of results": "Result", "gateway": "Gateway"}
CODES = "| `{}` | sentence |\n|---|---|\n"
BRACES = re.compile(r"\{.*?\}")
OPTIONS = "| option | in the job | meaning |\n|---|---|---|\n"
#: Their table is the mission document's.
SEED_PROPERTIES = ("batch", "timeout")
RESOURCES = "| method, resource | what | parameters | door | origin |\n|---|---|---|---|---|\n"

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
    return _with_rows(readme, BEGIN, settings())


def _with_rows(page: str, head: str, rows: str) -> str:
    before, rest = page.split(head, 1)
    return before + head + rows + END + rest.split(END, 1)[1]


def with_tables(page: str) -> str:
    """docs/api.md with its tables of resources, optional properties and codes as the code has them."""
    page = _with_rows(page, RESOURCES, "\n".join(map(_resource, OPERATIONS)))
    page = _with_rows(page, PROPERTIES, "\n".join(_properties()))
    for shown, name in ANSWERS_SHOWN.items():
        page = _with_rows(page, ANSWER.format(shown), "\n".join(_answer(ANSWERS[name], set())))
    for name, codes in (("whyCode", Why), ("reasonCode", Reason)):
        rows = [f"| `{one.value}` | {BRACES.sub('..', one.sentence)} |" for one in codes]
        page = _with_rows(page, CODES.format(name), "\n".join(rows))
    return page


def _properties() -> Iterator[str]:
    for one in NEW_JOB:
        if one.name not in SEED_PROPERTIES:
            yield _property(one.name, one)
            yield from (_property(f"{one.name}.{part.name}", part) for part in one.parts)


def _answer(some: Iterable[Field], told: set[int], path: str = "") -> Iterator[str]:
    """The rows of an answer's properties: each once, and those that a job was given not at all."""
    for one in some:
        if one.given or id(one) in told:
            continue
        told.add(id(one))
        here = path + one.name + {Many.LIST: "[]", Many.MAP: ".*", None: ""}[one.many]
        yield f"| `{here}` | {one.sentence} |"
        if one.name != "counts":  # a status each
            yield from _answer(one.parts, told, f"{here}.")


def _property(path: str, one: Field) -> str:
    return f"| `{path}` | {one.about} | {one.kind.expected} | {one.without} |"


def with_options(page: str) -> str:
    """docs/cli.md with its table of options as the code has them."""
    rows = []
    for option in submit.params:
        place = PLACES.get(option.name or "")
        if place is not None:
            value = (
                option.make_metavar(Context(submit)) if option.expose_value and not _is_flag(option) else ""
            )
            words = " ".join([option.opts[0], *([value.replace("|", " or ")] if value else [])])
            older = "".join(f"; before: `{name}`" for name in option.opts[1:])
            rows.append(f"| `{words}` | `{place}` | {at(place).sentence}{older} |")
    return _with_rows(page, OPTIONS, "\n".join(rows))


def _is_flag(option: Parameter) -> bool:
    return isinstance(option, Option) and option.is_flag


def _resource(one: Operation) -> str:
    known = ", ".join(f"`{PARAMETERS[name].name}`" for name in one.query)
    door = "bus, HTTP" if one.over_bus else "HTTP"
    path = one.path.replace("{id}", ":id")
    return f"| {one.method} {path} | {one.about} | {known} | {door} | {one.origin} |"


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
    api = ROOT / "docs" / "api.md"
    api.write_text(with_tables(api.read_text()))
    cli = ROOT / "docs" / "cli.md"
    cli.write_text(with_options(cli.read_text()))


if __name__ == "__main__":
    main()
