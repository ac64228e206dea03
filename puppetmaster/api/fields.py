"""The fields of the API's bodies, each described once: its kind of values, what it means, and its default.

Validation (by voluptuous, with our own words for faults), the OpenAPI document, the options of the command
line and the hints of the page's form are made from these.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import voluptuous as vol

from puppetmaster.api import kinds
from puppetmaster.api.kinds import Kind, Validator
from puppetmaster.errors import FAULTS_SHOWN, Fault, Faults, Invalid
from puppetmaster.model import policy
from puppetmaster.model.template import Missed, Overlap


class Many(StrEnum):
    """How a property holds several objects that are alike."""

    LIST = "list"
    MAP = "map"  #: an object that has each under its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A property of a body or of an answer: its one description."""

    name: str
    #: What it means, with its unit; empty: it is accepted, and not described.
    about: str = ""
    kind: Kind
    #: The properties of its value; (): it is no object, or its properties are checked elsewhere.
    parts: tuple["Field", ...] = ()
    #: Whether there are several objects with these parts; None: there is one.
    many: Many | None = None
    #: Whether it must be given; of an answer, whether it is always there.
    required: bool = False
    #: Whether null stands for not given; of an answer, whether it may be null.
    nullable: bool = False
    #: The default as JSON; None: ``otherwise`` says it.
    default: Any = None
    #: The default in words, if it is no value; empty: there is none.
    otherwise: str = ""
    #: Whether a job shows it as it was given.
    given: bool = False

    @property
    def validator(self) -> Any:
        """The validator of its value, for voluptuous."""
        checked: Any = vol.All(self.kind.check, _checks(self.parts)) if self.parts else self.kind.check
        return _optional(checked) if self.nullable else checked

    @property
    def without(self) -> str:
        """The default in words; empty: there is none."""
        if self.otherwise or self.default is None:
            return self.otherwise
        default = self.default
        if isinstance(default, list):
            return ", ".join(default)
        return default if isinstance(default, str) else json.dumps(default)

    @property
    def sentence(self) -> str:
        """What it means, and its default."""
        return f"{self.about}; default: {self.without}" if self.without else self.about


def schema(some: Iterable[Field]) -> vol.Schema:
    """The voluptuous schema of an object that has these properties."""
    return vol.Schema(_checks(some))


def _checks(some: Iterable[Field]) -> dict[Any, Any]:
    return {vol.Required(one.name) if one.required else one.name: one.validator for one in some}


def at(path: str) -> Field:
    """The field of a new job at a path such as ``retry.attempts``."""
    name, _, part = path.partition(".")
    found = next(one for one in NEW_JOB if one.name == name)
    return next(one for one in found.parts if one.name == part) if part else found


def _optional(validator: Any) -> Validator:
    """Null stands for an optional property that is not given."""
    schema = vol.Schema(validator)
    return lambda value: None if value is None else schema(value)


_MESSAGE = (
    Field(
        name="method", about="What the device is to do, in any letter case", kind=kinds.METHOD, required=True
    ),
    Field(
        name="resource",
        about="What it is asked of; a query string is allowed",
        kind=kinds.RESOURCE,
        required=True,
    ),
    Field(
        name="data",
        about="Passed on unchanged, an object or any other JSON",
        kind=kinds.described({"$ref": f"{kinds.REF}Value"}),
        otherwise="`{}`",
    ),
    Field(
        name="code",
        about="It is an event: resolved when the remote bundle confirms that it was delivered",
        kind=kinds.whole(100, 999, "a code of three digits, which makes it an event"),
        nullable=True,
    ),
)
ITEM_FIELDS = (
    *_MESSAGE,
    Field(
        name="__request",
        about="Where it goes",
        kind=kinds.OBJECT,
        parts=(
            Field(
                name="destination",
                about="A gateway, a list of them, or which of the known ones: one request each",
                kind=kinds.described({"$ref": f"{kinds.REF}Destinations"}),
            ),
            Field(name="__destination", kind=kinds.ANY),
        ),
    ),
    Field(name="__destination", kind=kinds.ANY),
)
_KEY = Field(
    name="key",
    about="The same key with the same body is the same job; with another body it is an error",
    kind=kinds.text(kinds.KEY_LIMIT),
    nullable=True,
)
_CRON = Field(
    name="cron",
    about="Minute, hour, day of the month, month and day of the week, as cron has them",
    kind=kinds.CRON,
    required=True,
)
_ZONE = Field(name="timezone", about="The time zone that it is meant in", kind=kinds.ZONE, default="UTC")
_RETRY, _ABORT, _GATE = policy.Retry(), policy.Abort(policy.Threshold()), policy.Gate()
NEW_JOB = (
    Field(name="batch", about="What is to be done, and where", kind=kinds.ITEMS),
    Field(name="timeout", about="Seconds for the whole job", kind=kinds.TIMEOUT, otherwise="no limit"),
    Field(name="name", about="A label", kind=kinds.text(kinds.NAME_LIMIT), nullable=True),
    _KEY,
    Field(
        name="requestTimeout",
        about="Seconds from sent to answer, for each attempt",
        kind=kinds.SECONDS,
        nullable=True,
        otherwise="the configured one, 60",
        given=True,
    ),
    Field(
        name="deliveryTimeout",
        about="Seconds that a request waits for a gateway that is away, and is sent as soon as that is back",
        kind=kinds.PAUSE,
        nullable=True,
        default=0,
        given=True,
    ),
    Field(
        name="concurrency",
        about="Most requests in flight at once, a number or a percentage of the job",
        kind=kinds.SHARE,
        nullable=True,
        otherwise="automatic",
        given=True,
    ),
    Field(
        name="rate",
        about="Most requests sent per second",
        kind=kinds.number(kinds.LEAST_RATE, kinds.MOST_RATE),
        nullable=True,
        otherwise="no limit",
        given=True,
    ),
    Field(
        name="retry",
        about="Whether a request that failed is sent again",
        kind=kinds.OBJECT,
        parts=(
            Field(
                name="attempts",
                about="How often it is sent at most, the first time included; again after a timeout only "
                "where it may run twice",
                kind=kinds.whole(1, kinds.MOST_ATTEMPTS),
                default=_RETRY.attempts,
            ),
            Field(
                name="on",
                about="After these outcomes only; after a timeout only what may run twice",
                kind=kinds.some_of(kinds.RETRIED),
                default=list(kinds.RETRIED),
            ),
            Field(
                name="delay",
                about="Most seconds to the second attempt, and half of them at least",
                kind=kinds.PAUSE,
                default=int(_RETRY.delay_s),
            ),
            Field(
                name="factor",
                about="How many times as long each further delay is",
                kind=kinds.number(1, 100),
                default=int(_RETRY.factor),
            ),
            Field(
                name="maxDelay",
                about="Seconds that a delay is at most",
                kind=kinds.PAUSE,
                default=int(_RETRY.max_delay_s),
            ),
        ),
        nullable=True,
        given=True,
    ),
    Field(
        name="idempotent",
        about="It may run twice: it is sent again when it may have run",
        kind=kinds.FLAG,
        nullable=True,
        otherwise="true for get, else false",
        given=True,
    ),
    Field(
        name="onFail",
        about="What follows at a gateway when one of its requests fails: with stop each is sent when the one "
        "before it ended well, and is skipped when that failed; abort and gate count gateways then",
        kind=kinds.one_of(("continue", "stop")),
        nullable=True,
        otherwise="continue",
        given=True,
    ),
    Field(
        name="abort",
        about="When no more is sent because of failures",
        kind=kinds.OBJECT,
        parts=(
            Field(
                name="errors",
                about="Send no more once more than these have failed, a number or a percentage of those done",
                kind=kinds.ERRORS,
                required=True,
            ),
            Field(
                name="after",
                about="Requests that are done before that holds",
                kind=kinds.whole(1),
                otherwise=f"{_ABORT.after}; of a percentage {policy.LEAST_DONE} or more",
            ),
        ),
        nullable=True,
        otherwise="never",
        given=True,
    ),
    Field(
        name="waves",
        about="Where each wave ends, counted from the first request, such as 1, 10%, 100%: each number is "
        "larger than the one before, and so is each percentage; none ends before the one before it. "
        "A batch of several items is sent gateway by gateway then, and its waves are counted in gateways",
        kind=kinds.WAVES,
        nullable=True,
        otherwise="one wave",
        given=True,
    ),
    Field(
        name="gate",
        about="What stands between two waves",
        kind=kinds.OBJECT,
        parts=(
            Field(
                name="errors",
                about="Most failures of a wave that let the next one start, a number or a percentage of it",
                kind=kinds.ERRORS,
                default=_GATE.errors.count,
            ),
            Field(
                name="soak",
                about="Seconds of rest between two waves",
                kind=kinds.PAUSE,
                default=int(_GATE.soak_s),
            ),
            Field(
                name="onFail",
                about="What the job does when more failed",
                kind=kinds.one_of(("abort", "pause")),
                default="abort" if _GATE.aborts else "pause",
            ),
        ),
        nullable=True,
        given=True,
    ),
    Field(
        name="maintenance",
        about="When requests may be sent; outside of these windows they wait, and what is in flight goes on",
        kind=kinds.OBJECT,
        parts=(
            replace(_CRON, about="When a window opens, as cron has it"),
            Field(name="duration", about="Seconds that it is open", kind=kinds.WINDOW, required=True),
            _ZONE,
        ),
        nullable=True,
        otherwise="at any time",
        given=True,
    ),
    Field(
        name="startAt",
        about="Send nothing before this time, or at once when it is past; until then the job is pending",
        kind=kinds.TIME,
        nullable=True,
        otherwise="now",
        given=True,
    ),
    Field(
        name="notify",
        about="Webhooks that are told when it ends or a gate closes, by their names in the settings",
        kind=kinds.HOOKS,
        nullable=True,
        otherwise="those that are told of all jobs",
        given=True,
    ),
    Field(
        name="rerun",
        about="Instead of `batch`: the requests of another job once more",
        kind=kinds.OBJECT,
        parts=(
            Field(name="job", about="Its id", kind=kinds.whole(1, 2**53, "the id of a job"), required=True),
            Field(
                name="status",
                about="Only those of its requests with one of these statuses",
                kind=kinds.some_of(kinds.RERUN),
                default=list(kinds.RERUN),
            ),
        ),
        nullable=True,
        given=True,
    ),
    Field(
        name="dryRun",
        about="Answer the job as it would be, with its waves and a plan in sentences, and create nothing",
        kind=kinds.FLAG,
        nullable=True,
        default=False,
    ),
)
#: Names of the optional properties that a job shows as they were given.
GIVEN = tuple(one.name for one in NEW_JOB if one.given)

#: Clients of the earlier puppetmaster sent this, and it was not used.
_IGNORED = Field(name="formData", about="Ignored", kind=kinds.ANY)
_COMPAT_MESSAGE = (*_MESSAGE, Field(name="id", about="Ignored", kind=kinds.ANY), _IGNORED)
_COMPAT = (
    Field(name="message", about="What is to be done", kind=kinds.OBJECT, required=True),
    Field(
        name="options",
        about="Of the earlier puppetmaster",
        kind=kinds.OBJECT,
        parts=(
            Field(
                name="timeout",
                about="Milliseconds from sent to answer",
                kind=kinds.MILLISECONDS,
                otherwise="the configured one, 60000",
            ),
        ),
        nullable=True,
    ),
    _KEY,
    _IGNORED,
)
NEW_REQUEST = (
    Field(name="destination", about="The gateway", kind=kinds.described(kinds.GATEWAY_NAME), required=True),
    *(replace(one, parts=_COMPAT_MESSAGE) if one.name == "message" else one for one in _COMPAT),
)

CONTROL_FIELDS = (
    Field(
        name="status",
        about="What the job is to be: paused sends no more, dispatching goes on, canceled ends it",
        kind=kinds.one_of(kinds.CONTROLS, f"{', '.join(kinds.CONTROLS[:-1])} or {kinds.CONTROLS[-1]}"),
        required=True,
    ),
    Field(
        name="force",
        about="With canceled: what is in flight is not waited for, and becomes unknown",
        kind=kinds.FLAG,
        default=False,
    ),
)

GATEWAY_FIELDS = (
    Field(
        name="labels",
        about="Keys and values by the rules of Kubernetes, all of them",
        kind=kinds.LABELS,
        nullable=True,
        otherwise="they stay",
    ),
    Field(
        name="note", about="A sentence; empty for none", kind=kinds.NOTE, nullable=True, otherwise="it stays"
    ),
)
NAMED_GATEWAY_FIELDS = (
    Field(name="name", about="The gateway", kind=kinds.described(kinds.GATEWAY_NAME), required=True),
    *GATEWAY_FIELDS,
)

#: What the job of a template cannot have: it would be the same job each time, or its time is the schedule's.
NOT_KEPT = ("key", "rerun", "dryRun", "startAt")
TEMPLATE_JOB = tuple(
    replace(one, required=one.name == "batch") for one in NEW_JOB if one.name not in NOT_KEPT
)
#: What a start by hand may say of its own.
START_FIELDS = tuple(one for one in NEW_JOB if one.name != "rerun")
SCHEDULE_FIELDS = (
    _CRON,
    _ZONE,
    Field(name="enabled", about="Whether it is on", kind=kinds.FLAG, default=True),
    Field(
        name="missed",
        about="What becomes of a start that was missed by a minute or more, as the program was down: "
        "with run one job makes up for all of them",
        kind=kinds.one_of(tuple(Missed)),
        default=Missed.SKIP.value,
    ),
    Field(
        name="overlap",
        about="What becomes of a start while a job of the template has not ended: with queue one start "
        "waits for that",
        kind=kinds.one_of(tuple(Overlap)),
        default=Overlap.SKIP.value,
    ),
)
TEMPLATE_FIELDS = (
    Field(
        name="name",
        about="Its name, which no other template has",
        kind=kinds.text(kinds.NAME_LIMIT),
        required=True,
    ),
    Field(
        name="job",
        about="The body of POST /jobs that it starts, without key, rerun, dryRun and startAt",
        kind=kinds.OBJECT._replace(schema={"$ref": f"{kinds.REF}TemplateJob"}),
        required=True,
    ),
    Field(
        name="schedule",
        about="When it starts by itself",
        kind=kinds.OBJECT,
        parts=SCHEDULE_FIELDS,
        nullable=True,
        otherwise="it is started by hand",
    ),
)
_TEMPLATE_DRY_RUN = Field(
    name="dryRun",
    about="Answer the template as it would be, with its next starts and a plan in sentences; keep nothing",
    kind=kinds.FLAG,
    default=False,
)
NEW_TEMPLATE = (*TEMPLATE_FIELDS, _TEMPLATE_DRY_RUN)
#: What a change may say.
CHANGED_TEMPLATE = (
    *(replace(one, required=False, otherwise="it stays") for one in TEMPLATE_FIELDS),
    _TEMPLATE_DRY_RUN,
)

JOB, ITEM, CONTROL = schema(NEW_JOB), schema(ITEM_FIELDS), schema(CONTROL_FIELDS)
TEMPLATE, TEMPLATE_CHANGE, START = schema(NEW_TEMPLATE), schema(CHANGED_TEMPLATE), schema(START_FIELDS)
GATEWAY, NAMED_GATEWAY = schema(GATEWAY_FIELDS), schema(NAMED_GATEWAY_FIELDS)
#: Of the earlier puppetmaster. ``api.bodies`` looks at the destinations, and at the message by itself.
JOB_COMPAT, REQUEST = (
    schema((Field(name=where, kind=kinds.ANY, required=True), *_COMPAT))
    for where in ("destinations", "destination")
)
COMPAT_MESSAGE = schema(_COMPAT_MESSAGE)


#: The names of all properties.
KNOWN = frozenset(
    one.name
    for some in (
        *(NEW_JOB, ITEM_FIELDS, _COMPAT_MESSAGE, NEW_REQUEST, CONTROL_FIELDS, NAMED_GATEWAY_FIELDS),
        *(NEW_TEMPLATE, SCHEDULE_FIELDS),
    )
    for field in some
    for one in (field, *field.parts)
) | {"destinations"}


def plain(value: Any) -> Any:
    """``value`` with whole floats as integers, as JSON Schema takes them: 5.0 becomes 5."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def body_faults(schema: vol.Schema, body: Any) -> Faults:
    """All faults of a body. Raises Invalid: it is no object."""
    if not isinstance(body, dict):
        raise Invalid([Fault("", f"expected an object as the body, got {kinds.kind(body)}")])
    return faults(schema, body)


def faults(
    schema: vol.Schema, value: Mapping[str, Any], path: str = "", found: Faults | None = None
) -> Faults:
    """Add all faults of ``value`` to ``found``, each with its place below ``path``. Returns ``found``."""
    found = Faults() if found is None else found
    few, left_out = _few(value)
    try:
        schema(few)
    except vol.MultipleInvalid as error:
        for one in error.errors:
            found.take((_fault(one, schema, path, hinting=found.hinting),))
            # voluptuous keeps the error in a list of a frame, and the error's traceback has that frame. This
            # cycle would keep the whole body in memory until the garbage collector runs.
            one.__traceback__ = one.__context__ = one.__cause__ = None
    found.more += left_out
    return found


def _few(value: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """``value`` without most of its unknown properties if they are many, and how many are left out.

    ``data`` may have any number of properties. The older form's ``message`` is checked by itself.
    """
    left_out = 0
    kept = value
    if len(value) > FAULTS_SHOWN:
        kept = {name: value[name] for name in KNOWN if name in value}
        unknown = [name for name in value if name not in KNOWN]
        kept |= {name: value[name] for name in unknown[:FAULTS_SHOWN]}
        left_out = len(unknown[FAULTS_SHOWN:])
    for name, child in kept.items():
        if isinstance(child, dict) and len(child) > FAULTS_SHOWN and name not in ("data", "message"):
            below, more = _few(child)
            kept, left_out = {**kept, name: below}, left_out + more
    return kept, left_out


def _fault(error: vol.Invalid, schema: vol.Schema, prefix: str, *, hinting: bool) -> Fault:
    path = ".".join(filter(None, [prefix, *(_plain(part) for part in error.path)]))
    if isinstance(error, vol.RequiredFieldInvalid):
        return Fault(path, "expected this property, got none")
    if error.error_message == "extra keys not allowed":
        hint = _hint(_plain(error.path[-1]), map(str, schema.schema)) if hinting else ""
        return Fault(path, f"unknown property{hint}")
    return Fault(path, error.error_message)


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _plain(part: Any) -> str:
    return kinds.quoted(str(part))[1:-1]
