"""The fields of the API's bodies, each described once: its values, what it means, and its default.

Validation (by voluptuous, with our own words for faults), the OpenAPI document, the options of the command
line and the hints of the page's form are made from these.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import voluptuous as vol

from puppetmaster import jsoncodec
from puppetmaster.clock import seconds
from puppetmaster.errors import FAULTS_SHOWN, Fault, Faults
from puppetmaster.model import policy, selector
from puppetmaster.model.caller import NAME
from puppetmaster.model.job import JobStatus

METHODS = ("get", "post", "put", "delete")
RESOURCE_LIMIT_BYTES = 1023
NAME_LIMIT = 128
KEY_LIMIT = 255
#: The shortest and the longest time in a body. Some fields take 0 too.
SHORTEST_S, LONGEST_S = 0.001, 1_000_000_000
LONGEST_MS = LONGEST_S * 1000

NOTE_LIMIT = 1000
MOST_LABELS = 64
MOST_BESIDES = 1000
#: Most items of a job that look for their gateways.
MOST_TARGETS = 100
#: Most gateways that are put at once.
MOST_GATEWAYS = 50_000
MOST_WAVES = 100
MOST_ATTEMPTS = 100
#: Most entries of a list of words; words may be repeated.
MOST_NAMES = 100
#: With the smallest rate a request is sent every 2.8 hours.
LEAST_RATE, MOST_RATE = 0.0001, 100_000
#: What ``retry.on`` may name, and what ``rerun.status`` may.
RETRIED = tuple(status.value for status in policy.RETRIED)
RERUN = tuple(status.value for status in policy.RERUN)
#: The statuses that a control may ask for.
CONTROLS = (JobStatus.CANCELED.value, JobStatus.PAUSED.value, JobStatus.DISPATCHING.value)
#: A percentage above 0, as a pattern that JSON Schema reads as Python does.
PERCENT = r"(100(\.0{1,6})?|[1-9][0-9]?(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9]0{0,5})%"
#: A name of a webhook, as JSON Schema reads it too.
HOOK = f"^{NAME.pattern}$"
MOST = 1_000_000
#: A reference to a schema of the OpenAPI document is this and its name.
REF = "#/components/schemas/"

Shape = dict[str, Any]
Validator = Callable[[Any], Any]


class Form(StrEnum):
    """The sort of a field's value. The command line and the page read each sort in its own way."""

    ANY = "any"
    TEXT = "text"
    NUMBER = "number"
    PAUSE = "pause"  #: a number that may be 0
    COUNT = "count"
    SHARE = "share"  #: a whole number or a percentage
    SHARES = "shares"
    CHOICE = "choice"  #: one of some words
    CHOICES = "choices"
    NAMES = "names"  #: some words of one's own
    FLAG = "flag"
    TIME = "time"


class Many(StrEnum):
    """How a property holds several objects that are alike."""

    LIST = "list"
    MAP = "map"  #: an object that has each under its name


class Kind(NamedTuple):
    """The values that a field may have."""

    #: The values as JSON Schema. It may be narrower than the check, where JSON Schema cannot say it.
    schema: Shape
    #: The values in words, as they follow "expected" in a fault.
    expected: str
    #: Returns the value, or raises ``vol.Invalid``.
    check: Validator
    #: The sort of the values.
    form: Form = Form.ANY
    #: The letter that stands for a number in the help of the command line: S for seconds, N for others.
    unit: str = ""


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


# -- kinds of values ------------------------------------------------------------------------------


def _expect(test: Callable[[Any], bool], expected: str) -> Validator:
    """A validator for values that pass ``test``. Its fault says what was expected and what came."""

    def validate(value: Any) -> Any:
        if not test(value):
            raise vol.Invalid(f"expected {expected}, got {_shown(value)}")
        return value

    return validate


def _kind(
    schema: Shape, expected: str, test: Callable[[Any], bool], form: Form = Form.ANY, unit: str = ""
) -> Kind:
    return Kind(schema, expected, _expect(test, expected), form, unit)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(low: int, high: int = MOST) -> Callable[[Any], bool]:
    """A whole number; in JSON 5.0 is one too."""
    return lambda value: _is_number(value) and value == value // 1 and low <= value <= high


def _whole(low: int, high: int = MOST, expected: str = "") -> Kind:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    upto = "" if high == MOST else f" to {high}"
    said = expected or f"a whole number from {low}{upto}"
    return _kind(schema, said, _is_count(low, high), Form.COUNT, "N")


def _number(low: float, high: float, expected: str = "", unit: str = "N") -> Kind:
    schema = {"type": "number", "minimum": low, "maximum": high}
    said = expected or f"a number from {low} to {high}"
    return _kind(schema, said, lambda value: _is_number(value) and low <= value <= high, Form.NUMBER, unit)


def _text(limit: int) -> Kind:
    schema = {"type": "string", "minLength": 1, "maxLength": limit, "pattern": r"^[^\u0000]+$"}

    def is_text(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= limit and not jsoncodec.faults(value, "")

    return _kind(schema, f"1 to {limit} characters", is_text, Form.TEXT)


def _is_percent(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(PERCENT, value))


def _is_share(low: int) -> Callable[[Any], bool]:
    """A number from ``low``, or a percentage. Where ``low`` is 0, as for failures, 0% is valid too."""
    return lambda value: _is_count(low)(value) or _is_percent(value) or (low == 0 and value == "0%")


def _share(low: int) -> Kind:
    percent = {"type": "string", "pattern": f"^{PERCENT}$"}
    zero = [{"const": "0%"}] if low == 0 else []
    return _kind(
        {"anyOf": [_whole(low).schema, percent, *zero]},
        f'a {"whole " if low else ""}number from {low} or a percentage such as "10%"',
        _is_share(low),
        Form.SHARE,
    )


def _one_of(known: Sequence[str], expected: str = "") -> Kind:
    said = expected or " or ".join(f'"{one}"' for one in known)
    return _kind({"enum": list(known)}, said, lambda value: value in known, Form.CHOICE)


def _some_of(known: Sequence[str]) -> Kind:
    items = {"enum": list(known)}
    return _kind(
        {"type": "array", "minItems": 1, "maxItems": MOST_NAMES, "items": items},
        f"a list of at least one of {', '.join(known)}",
        lambda value: (
            isinstance(value, list)
            and 0 < len(value) <= MOST_NAMES
            and all(isinstance(one, str) and one in known for one in value)
        ),
        Form.CHOICES,
    )


def _is_resource(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith("/") or jsoncodec.faults(value, ""):
        return False
    return len(value.encode()) <= RESOURCE_LIMIT_BYTES


def _is_time(value: Any) -> bool:
    try:
        return seconds(value) >= 0
    except (TypeError, ValueError, OverflowError):
        return False


def _is_infinite(value: Any) -> bool:
    return value is None or value == "infinity"


def _check_waves(value: Any) -> Any:
    """Each wave ends behind the one before it, as far as one can say without the size of the job."""
    fits = isinstance(value, list) and 0 < len(value) <= MOST_WAVES and all(map(_is_share(1), value))
    if not fits:
        raise vol.Invalid(f"expected {_WAVES_ARE}, got {_shown(value)}")
    for like in (
        [one for one in value if not isinstance(one, str)],
        [float(one[:-1]) for one in value if isinstance(one, str)],
    ):
        if like != sorted(set(like)):
            raise vol.Invalid(f"expected {_WAVES_ARE}")
    return value


def _optional(validator: Any) -> Validator:
    """Null stands for an optional property that is not given."""
    schema = vol.Schema(validator)
    return lambda value: None if value is None else schema(value)


ANY = Kind({}, "anything", lambda value: value)
_FLAG = _kind({"type": "boolean"}, "true or false", lambda value: isinstance(value, bool), Form.FLAG)
_OBJECT = _kind({"type": "object"}, "an object", lambda value: isinstance(value, dict))
_IN_SECONDS = f"seconds, from {SHORTEST_S} to {LONGEST_S}"
_SECONDS = _number(SHORTEST_S, LONGEST_S, _IN_SECONDS, "S")
_PAUSE = _kind(
    {"anyOf": [{"const": 0}, _SECONDS.schema]},
    f"0, or {_IN_SECONDS}",
    lambda value: _is_number(value) and (value == 0 or SHORTEST_S <= value <= LONGEST_S),
    Form.PAUSE,
    "S",
)
_TIMEOUT = _kind(
    {"anyOf": [_SECONDS.schema, {"type": "null"}, {"const": "infinity"}]},
    f'{_IN_SECONDS}, "infinity" or null',
    lambda value: _is_infinite(value) or (_is_number(value) and SHORTEST_S <= value <= LONGEST_S),
    Form.NUMBER,
    "S",
)
#: In the earlier puppetmaster no options, and a timeout of null or 0, were the same as none given. Its unit
#: was the millisecond.
_MILLISECONDS = _kind(
    {"type": "number", "minimum": 1, "maximum": LONGEST_MS},
    f"milliseconds, from 1 to {LONGEST_MS}",
    lambda value: value is None or value == 0 or (_is_number(value) and 1 <= value <= LONGEST_MS),
)
_SHARE, _ERRORS = _share(1), _share(0)
_WAVES_ARE = f"a list of 1 to {MOST_WAVES} numbers from 1 or percentages, each larger than the one before"
_WAVES = Kind(
    {
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_WAVES,
        "uniqueItems": True,
        "items": _SHARE.schema,
    },
    _WAVES_ARE,
    _check_waves,
    Form.SHARES,
)
#: The JSON Schema describes times in the usual form. Other forms of ISO 8601 are accepted too.
_TIME = _kind(
    {
        "type": "string",
        "format": "date-time",
        "pattern": r"^(19[89][0-9]|[2-8][0-9]{3})-[01][0-9]-[0-3][0-9]"
        r"T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-][0-2][0-9]:[0-5][0-9])$",
    },
    "an ISO 8601 time with its zone, such as 2026-01-02T03:04:05Z",
    _is_time,
    Form.TIME,
)
_HOOKS = _kind(
    {"type": "array", "minItems": 1, "maxItems": MOST_NAMES, "items": {"type": "string", "pattern": HOOK}},
    f"a list of 1 to {MOST_NAMES} names of webhooks",
    lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= MOST_NAMES
        and all(isinstance(one, str) and re.fullmatch(HOOK, one) for one in value)
    ),
    Form.NAMES,
)
_METHOD = _kind(
    {
        "type": "string",
        "pattern": "^(" + "|".join("".join(f"[{c}{c.upper()}]" for c in one) for one in METHODS) + ")$",
    },
    "get, post, put or delete",
    lambda value: isinstance(value, str) and value.lower() in METHODS,
)
_RESOURCE = _kind(
    {"type": "string", "pattern": r"^/[^\u0000]*$", "maxLength": RESOURCE_LIMIT_BYTES},
    f"a string that begins with / of at most {RESOURCE_LIMIT_BYTES} bytes that the bus can carry",
    _is_resource,
)
#: Keys and selectors as JSON Schema says them: some that the check takes are left out, such as long prefixes.
_LABEL_KEY = (
    rf"([a-z0-9]([-a-z0-9]{{0,20}}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{{0,20}}[a-z0-9])?){{0,8}}/)?{selector.NAME}"
)
_LABEL_VALUE = rf"({selector.NAME})?"
_REQUIREMENT = (
    rf"(!?{_LABEL_KEY}|{_LABEL_KEY}(==?|!=){_LABEL_VALUE}"
    rf"|{_LABEL_KEY} (in|notin) \({_LABEL_VALUE}(,{_LABEL_VALUE}){{0,20}}\))"
)
SELECTOR: Shape = {"type": "string", "pattern": rf"^{_REQUIREMENT}(,{_REQUIREMENT}){{0,20}}$"}
PATTERN: Shape = {"type": "string", "minLength": 1, "maxLength": NAME_LIMIT}
#: The limit counts bytes. A destination that is not ASCII may have fewer characters.
GATEWAY_NAME: Shape = {
    "type": "string",
    "pattern": r"^[^/?#+\s\x00-\x1f\x7f-\x9f]+$",
    "maxLength": RESOURCE_LIMIT_BYTES - len("/remote/"),
}
#: Which of the known gateways are meant.
_TARGET: Shape = {
    "type": "object",
    "properties": {
        "selector": SELECTOR,
        "match": PATTERN,
        "all": {"const": True},
        "except": {"type": "array", "items": PATTERN, "minItems": 1, "maxItems": MOST_BESIDES},
    },
    "additionalProperties": False,
    "anyOf": [
        {"required": ["all"], "properties": {"selector": False, "match": False}},
        {"required": ["selector"], "properties": {"all": False}},
        {"required": ["match"], "properties": {"all": False}},
    ],
}
DESTINATIONS: Shape = {
    "anyOf": [
        _TARGET,
        GATEWAY_NAME,
        {"type": "array", "items": GATEWAY_NAME, "minItems": 1, "uniqueItems": True},
    ]
}
_ITEMS = _kind(
    {"type": "array", "minItems": 1, "items": {"$ref": f"{REF}Item"}},
    "a list of at least one item",
    lambda value: isinstance(value, list) and bool(value),
)


_NOTE = _kind(
    {"type": "string", "maxLength": NOTE_LIMIT, "pattern": r"^[^\u0000]*$"},
    f"at most {NOTE_LIMIT} characters",
    lambda value: isinstance(value, str) and len(value) <= NOTE_LIMIT and not jsoncodec.faults(value, ""),
    Form.TEXT,
)
#: ``api.fleet`` checks each label.
_LABELS = _OBJECT._replace(
    schema={
        "type": "object",
        "maxProperties": MOST_LABELS,
        "propertyNames": {"pattern": f"^{_LABEL_KEY}$"},
        "additionalProperties": {"type": "string", "pattern": f"^{_LABEL_VALUE}$"},
    }
)


def described(schema: Shape) -> Kind:
    """A kind without a check: its values are answers, or ``api.bodies`` looks at them."""
    return ANY._replace(schema=schema)


# -- fields ---------------------------------------------------------------------------------------

_MESSAGE = (
    Field(name="method", about="What the device is to do, in any letter case", kind=_METHOD, required=True),
    Field(
        name="resource", about="What it is asked of; a query string is allowed", kind=_RESOURCE, required=True
    ),
    Field(
        name="data",
        about="Passed on unchanged, an object or any other JSON",
        kind=described({"$ref": f"{REF}Value"}),
        otherwise="`{}`",
    ),
    Field(
        name="code",
        about="It is an event: resolved when the remote bundle confirms that it was delivered",
        kind=_whole(100, 999, "a code of three digits, which makes it an event"),
        nullable=True,
    ),
)
ITEM_FIELDS = (
    *_MESSAGE,
    Field(
        name="__request",
        about="Where it goes",
        kind=_OBJECT,
        parts=(
            Field(
                name="destination",
                about="A gateway, a list of them, or which of the known ones: one request each",
                kind=described({"$ref": f"{REF}Destinations"}),
            ),
            Field(name="__destination", kind=ANY),
        ),
    ),
    Field(name="__destination", kind=ANY),
)
_KEY = Field(
    name="key",
    about="The same key with the same body is the same job; with another body it is an error",
    kind=_text(KEY_LIMIT),
    nullable=True,
)
_RETRY, _ABORT, _GATE = policy.Retry(), policy.Abort(policy.Threshold()), policy.Gate()
NEW_JOB = (
    Field(name="batch", about="What is to be done, and where", kind=_ITEMS),
    Field(name="timeout", about="Seconds for the whole job", kind=_TIMEOUT, otherwise="no limit"),
    Field(name="name", about="A label", kind=_text(NAME_LIMIT), nullable=True),
    _KEY,
    Field(
        name="requestTimeout",
        about="Seconds from sent to answer, for each attempt",
        kind=_SECONDS,
        nullable=True,
        otherwise="the configured one, 60",
        given=True,
    ),
    Field(
        name="deliveryTimeout",
        about="Seconds that a request waits for a gateway that is away, and is sent as soon as that is back",
        kind=_PAUSE,
        nullable=True,
        default=0,
        given=True,
    ),
    Field(
        name="concurrency",
        about="Most requests in flight at once, a number or a percentage of the job",
        kind=_SHARE,
        nullable=True,
        otherwise="automatic",
        given=True,
    ),
    Field(
        name="rate",
        about="Most requests sent per second",
        kind=_number(LEAST_RATE, MOST_RATE),
        nullable=True,
        otherwise="no limit",
        given=True,
    ),
    Field(
        name="retry",
        about="Whether a request that failed is sent again",
        kind=_OBJECT,
        parts=(
            Field(
                name="attempts",
                about="How often it is sent at most, the first time included; again after a timeout only "
                "where it may run twice",
                kind=_whole(1, MOST_ATTEMPTS),
                default=_RETRY.attempts,
            ),
            Field(
                name="on",
                about="After these outcomes only; after a timeout only what may run twice",
                kind=_some_of(RETRIED),
                default=list(RETRIED),
            ),
            Field(
                name="delay",
                about="Most seconds to the second attempt, and half of them at least",
                kind=_PAUSE,
                default=int(_RETRY.delay_s),
            ),
            Field(
                name="factor",
                about="How many times as long each further delay is",
                kind=_number(1, 100),
                default=int(_RETRY.factor),
            ),
            Field(
                name="maxDelay",
                about="Seconds that a delay is at most",
                kind=_PAUSE,
                default=int(_RETRY.max_delay_s),
            ),
        ),
        nullable=True,
        given=True,
    ),
    Field(
        name="idempotent",
        about="It may run twice: it is sent again when it may have run",
        kind=_FLAG,
        nullable=True,
        otherwise="true for get, else false",
        given=True,
    ),
    Field(
        name="onFail",
        about="What follows at a gateway when one of its requests fails: with stop each is sent when the one "
        "before it ended well, and is skipped when that failed; abort and gate count gateways then",
        kind=_one_of(("continue", "stop")),
        nullable=True,
        otherwise="continue",
        given=True,
    ),
    Field(
        name="abort",
        about="When no more is sent because of failures",
        kind=_OBJECT,
        parts=(
            Field(
                name="errors",
                about="Send no more once more than these have failed, a number or a percentage of those done",
                kind=_ERRORS,
                required=True,
            ),
            Field(
                name="after",
                about="Requests that are done before that holds",
                kind=_whole(1),
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
        kind=_WAVES,
        nullable=True,
        otherwise="one wave",
        given=True,
    ),
    Field(
        name="gate",
        about="What stands between two waves",
        kind=_OBJECT,
        parts=(
            Field(
                name="errors",
                about="Most failures of a wave that let the next one start, a number or a percentage of it",
                kind=_ERRORS,
                default=_GATE.errors.count,
            ),
            Field(
                name="soak", about="Seconds of rest between two waves", kind=_PAUSE, default=int(_GATE.soak_s)
            ),
            Field(
                name="onFail",
                about="What the job does when more failed",
                kind=_one_of(("abort", "pause")),
                default="abort" if _GATE.aborts else "pause",
            ),
        ),
        nullable=True,
        given=True,
    ),
    Field(
        name="startAt",
        about="Send nothing before this time, or at once when it is past; until then the job is pending",
        kind=_TIME,
        nullable=True,
        otherwise="now",
        given=True,
    ),
    Field(
        name="notify",
        about="Webhooks that are told when it ends or a gate closes, by their names in the settings",
        kind=_HOOKS,
        nullable=True,
        otherwise="those that are told of all jobs",
        given=True,
    ),
    Field(
        name="rerun",
        about="Instead of `batch`: the requests of another job once more",
        kind=_OBJECT,
        parts=(
            Field(name="job", about="Its id", kind=_whole(1, 2**53, "the id of a job"), required=True),
            Field(
                name="status",
                about="Only those of its requests with one of these statuses",
                kind=_some_of(RERUN),
                default=list(RERUN),
            ),
        ),
        nullable=True,
        given=True,
    ),
    Field(
        name="dryRun",
        about="Answer the job as it would be, with its waves and a plan in sentences, and create nothing",
        kind=_FLAG,
        nullable=True,
        default=False,
    ),
)
#: Names of the optional properties that a job shows as they were given.
GIVEN = tuple(one.name for one in NEW_JOB if one.given)

#: Clients of the earlier puppetmaster sent this, and it was not used.
_IGNORED = Field(name="formData", about="Ignored", kind=ANY)
_COMPAT_MESSAGE = (*_MESSAGE, Field(name="id", about="Ignored", kind=ANY), _IGNORED)
_COMPAT = (
    Field(name="message", about="What is to be done", kind=_OBJECT, required=True),
    Field(
        name="options",
        about="Of the earlier puppetmaster",
        kind=_OBJECT,
        parts=(
            Field(
                name="timeout",
                about="Milliseconds from sent to answer",
                kind=_MILLISECONDS,
                otherwise="the configured one, 60000",
            ),
        ),
        nullable=True,
    ),
    _KEY,
    _IGNORED,
)
NEW_REQUEST = (
    Field(name="destination", about="The gateway", kind=described(GATEWAY_NAME), required=True),
    *(replace(one, parts=_COMPAT_MESSAGE) if one.name == "message" else one for one in _COMPAT),
)

CONTROL_FIELDS = (
    Field(
        name="status",
        about="What the job is to be: paused sends no more, dispatching goes on, canceled ends it",
        kind=_one_of(CONTROLS, f"{', '.join(CONTROLS[:-1])} or {CONTROLS[-1]}"),
        required=True,
    ),
    Field(
        name="force",
        about="With canceled: what is in flight is not waited for, and becomes unknown",
        kind=_FLAG,
        default=False,
    ),
)

GATEWAY_FIELDS = (
    Field(
        name="labels",
        about="Keys and values by the rules of Kubernetes, all of them",
        kind=_LABELS,
        nullable=True,
        otherwise="they stay",
    ),
    Field(name="note", about="A sentence; empty for none", kind=_NOTE, nullable=True, otherwise="it stays"),
)
NAMED_GATEWAY_FIELDS = (
    Field(name="name", about="The gateway", kind=described(GATEWAY_NAME), required=True),
    *GATEWAY_FIELDS,
)

JOB, ITEM, MESSAGE, COMPAT_MESSAGE, CONTROL = (
    vol.Schema(_checks(some)) for some in (NEW_JOB, ITEM_FIELDS, _MESSAGE, _COMPAT_MESSAGE, CONTROL_FIELDS)
)
JOB_COMPAT = vol.Schema({vol.Required("destinations"): ANY.check, **_checks(_COMPAT)})
GATEWAY, NAMED_GATEWAY = vol.Schema(_checks(GATEWAY_FIELDS)), vol.Schema(_checks(NAMED_GATEWAY_FIELDS))
REQUEST = vol.Schema({vol.Required("destination"): ANY.check, **_checks(_COMPAT)})


#: The names of all properties.
KNOWN = frozenset(
    one.name
    for some in (NEW_JOB, ITEM_FIELDS, _COMPAT_MESSAGE, NEW_REQUEST, CONTROL_FIELDS, NAMED_GATEWAY_FIELDS)
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
    return quoted(str(part))[1:-1]


def quoted(text: str) -> str:
    """``text`` in quotes, in one line of ASCII, cut if it is long."""
    short = text if len(text) <= 80 else text[:77] + "..."
    return json.dumps(short).replace("\\u0000", "\\\\0").replace('"', "'")


def kind(value: Any) -> str:
    """The JSON type of ``value`` in words, such as ``a list``."""
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        dict: "an object",
        list: "a list",
        str: "a string",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (dict, list)) or value is None or isinstance(value, bool):
        return (
            "an empty list"
            if value == []
            else kind(value)
            if not isinstance(value, bool)
            else json.dumps(value)
        )
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]
