"""What the documents say that the code knows better: ``python -m docs.generate`` writes it, a test compares.

The drawings come from the transition tables, the waves of a policy, the contract of the wings and what spin
tells, the rest from the declarations of settings, operations, fields, answers, codes, errors and metrics:
``PAGES``.
"""

import inspect
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from click import Context, Option, Parameter

from docs import drawings
from puppetmaster.api.answers import ANSWERS
from puppetmaster.api.fields import NEW_JOB, NEW_TEMPLATE, Field, Many, at
from puppetmaster.api.operations import OPERATIONS, Operation
from puppetmaster.api.query import PARAMETERS
from puppetmaster.cli.jobfile import PLACES
from puppetmaster.cli.submit import submit
from puppetmaster.dispatcher import Tally
from puppetmaster.engine.engine import Snapshot
from puppetmaster.errors import PuppetmasterError
from puppetmaster.http.metrics import Metrics
from puppetmaster.model import job, request, timeline
from puppetmaster.model.policy import wave_ends
from puppetmaster.model.why import Reason, Why
from puppetmaster.settings import Settings, name_in_file, variable

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = "| variable | default | meaning |\n|---|---|---|\n"
SCHEDULES = "| of a schedule | meaning | what it may be | default |\n|---|---|---|---|\n"
PROPERTIES = "| property | meaning | what it may be | default |\n|---|---|---|---|\n"
#: The table of an answer, and what is called so in ``ANSWERS``.
ANSWER = "| of a {} | meaning |\n|---|---|\n"
ANSWERS_SHOWN = {
    "job": "Job",
    "request": "Request",
    "group of results": "Result",
    "time line's event": "Event",
    "gateway": "Gateway",
    "gateway that is known": "KnownGateway",
    "template": "Template",
}
CODES = "| `{}` | sentence |\n|---|---|\n"
BRACES = re.compile(r"\{.*?\}")
OPTIONS = "| option | in the job | meaning |\n|---|---|---|\n"
#: Their table is the mission document's.
SEED_PROPERTIES = ("batch", "timeout")
RESOURCES = "| method, resource | what | parameters | role | door | origin |\n|---|---|---|---|---|---|\n"

METRICS = "| name | kind | labels | meaning |\n|---|---|---|---|\n"
ERRORS = "| code | sentence |\n|---|---|\n"
STATUSES = "| status of a {} | meaning |\n|---|---|\n"
EVENTS = "| event of a {} | when |\n|---|---|\n"
HAPPENED = "| `event` | what happened |\n|---|---|\n"
#: A comment that describes a member of an enumeration, above it or behind it.
DESCRIBED = re.compile(r"((?:^    #: .*\n)*)^    \w+ = \"(\w+)\"(?:  #: (.*))?$", re.MULTILINE)
#: The waves that are drawn, and of how many requests.
CANARY, SITE = (1, "10%", "100%"), 50


def images() -> dict[str, str]:
    """The drawings, by their names in docs/images."""
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return {
        "request-states.svg": drawings.transitions(
            request.TRANSITIONS, [request.RequestStatus.PENDING], "The statuses of a request"
        ),
        "job-states.svg": drawings.transitions(
            job.TRANSITIONS, [job.JobStatus.PENDING, job.JobStatus.DISPATCHING], "The statuses of a job"
        ),
        "waves.svg": drawings.waves(wave_ends(CANARY, SITE), f"{SITE} gateways in three waves with gates"),
        "wings.svg": drawings.layers(layers["layers"], "The wings: each imports only from those below it"),
        "takeover.svg": drawings.sequence(
            ("database", "A", "B", "broker", "gateway"),
            (ROOT / "docs" / "model" / "no_client_id.txt").read_text().splitlines(),
            "What goes wrong without one client id for each bus",
        ),
    }


def with_states(page: str) -> str:
    """docs/states.md with its tables as the comments in the code have them."""
    for name, statuses, events in (
        ("request", request.RequestStatus, request.RequestEvent),
        ("job", job.JobStatus, job.JobEvent),
    ):
        page = _with_rows(page, STATUSES.format(name), _described(statuses))
        page = _with_rows(page, EVENTS.format(name), _described(events))
    return page


def _with_happened(page: str) -> str:
    return _with_rows(page, HAPPENED, _described(timeline.What))


def _described(members: type[StrEnum]) -> str:
    rows = []
    for above, value, behind in DESCRIBED.findall(inspect.getsource(members)):
        said = " ".join(above.replace("#: ", "").split()) or behind
        if said:
            for one in members:
                said = re.sub(rf"\b{one.name}\b", f"`{one}`", said)
            rows.append(f"| `{value}` | {said} |")
    return "\n".join(rows)


def with_metrics(page: str) -> str:
    """docs/metrics.md with its table as a scrape has it, all numbers 0, with a value for each label."""
    some: dict[str, Any] = {
        one.name: {"resolved": 0} if "dict" in str(one.type) else 0 for one in fields(Snapshot)
    }
    leader = {"name": "", "takeover": {"why": ""}, "epoch": 0, "since": "1970-01-01T00:00Z", "leaseLeft": 0}
    counts = ("connected", "away", "changes", "registered", "notRegistered", "unknown")
    gateways = {**dict.fromkeys(counts, 0), "owners": {"/remote/+": {"window": 0, "busy": 0}}}
    bus = dict.fromkeys(("connected", "controller", "registered"), False)
    health = {"bus": bus, "store": {"writable": True}, "gateways": gateways, "leader": leader}
    service = SimpleNamespace(counts=lambda: {what: {"pending": 0} for what in ("jobs", "requests")})
    times = dict.fromkeys(("commits", "dispatches", "turns"), Tally())
    dispatcher = SimpleNamespace(look=lambda *_: Snapshot(**some), **times)
    metrics = Metrics(cast(Any, service), cast(Any, dispatcher), lambda: health, lambda: 0, lambda: 0)
    rows = []
    for one in metrics.collect():
        labels = dict.fromkeys(name for sample in one.samples for name in sample.labels if name != "le")
        name = one.name + {"counter": "_total", "info": "_info"}.get(one.type, "")
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{name}` | {one.type} | {shown} | {one.documentation} |")
    return _with_rows(page, METRICS, "\n".join(rows))


def with_codes(page: str) -> str:
    """docs/failures.md with its table of codes as the errors have them."""
    found: list[type[PuppetmasterError]] = [PuppetmasterError, *PuppetmasterError.__subclasses__()]
    known = {one.status: one for one in reversed(found)}  # the first of those with one status
    rows = [f"| {status} | {' '.join((known[status].__doc__ or '').split())} |" for status in sorted(known)]
    return _with_rows(page, ERRORS, "\n".join(rows))


def settings() -> str:
    """The rows of the table of settings."""
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


def with_settings(page: str) -> str:
    """docs/settings.md with its table as the code has it."""
    return _with_rows(page, SETTINGS, settings())


def _with_rows(page: str, head: str, rows: str) -> str:
    before, rest = page.split(head, 1)
    after = re.sub(r"\A(?:\|.*\n)*", "", rest)
    return f"{before}{head}{rows}\n{after}"


def with_tables(page: str) -> str:
    """docs/api.md with its tables of resources, properties and codes as the code has them."""
    page = _with_rows(page, RESOURCES, "\n".join(map(_resource, OPERATIONS)))
    page = _with_rows(page, PROPERTIES, "\n".join(_properties()))
    (schedule,) = (one for one in NEW_TEMPLATE if one.name == "schedule")
    page = _with_rows(page, SCHEDULES, "\n".join(_property(one.name, one) for one in schedule.parts))
    for shown, name in ANSWERS_SHOWN.items():
        page = _with_rows(page, ANSWER.format(shown), "\n".join(_answer(ANSWERS[name], set())))
    page = _with_happened(page)
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
    return f"| {one.method} {path} | {one.about} | {known} | {one.needs} | {door} | {one.origin} |"


def factory() -> str:
    """All of data/puppetmaster.json.factory: the settings at first, without what is empty, or the SDK's."""
    older = [name_in_file(knob.metadata["old"]) for knob in fields(Settings)]
    left_out = ("dataDir", "brokerHost", "brokerPort", *older)
    known = Settings().public()
    shown = {name: value for name, value in known.items() if value != "" and name not in left_out}
    return json.dumps(shown, indent=2) + "\n"


#: The pages with something generated in them, and what puts it there.
PAGES = {
    "states.md": with_states,
    "settings.md": with_settings,
    "metrics.md": with_metrics,
    "failures.md": with_codes,
    "api.md": with_tables,
    "cli.md": with_options,
}


def main() -> None:
    """Write them."""
    (ROOT / "data" / "puppetmaster.json.factory").write_text(factory())
    for name, image in images().items():
        (ROOT / "docs" / "images" / name).write_text(image)
    for name, made in PAGES.items():
        page = ROOT / "docs" / name
        page.write_text(made(page.read_text()))


if __name__ == "__main__":
    main()
