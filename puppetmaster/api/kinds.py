"""The kinds of values that the API takes: each as JSON Schema, in words, and as a check.

``api.fields`` says which property has which kind.
"""

import json
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import voluptuous as vol

from puppetmaster import jsoncodec
from puppetmaster.clock import seconds
from puppetmaster.model import cron, policy, selector
from puppetmaster.model.caller import NAME
from puppetmaster.model.job import JobStatus

METHODS = ("get", "post", "put", "delete")
RESOURCE_LIMIT_BYTES = 1023
NAME_LIMIT = 128
KEY_LIMIT = 255
#: The shortest and the longest time in a body. Some fields take 0 too.
SHORTEST_S, LONGEST_S = 0.001, 1_000_000_000
LONGEST_MS = LONGEST_S * 1000

LONGEST_WINDOW_S = 366 * 86400

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


def _expect(test: Callable[[Any], bool], expected: str) -> Validator:
    """A validator for values that pass ``test``. Its fault says what was expected and what came."""

    def validate(value: Any) -> Any:
        if not test(value):
            raise vol.Invalid(f"expected {expected}, got {shown(value)}")
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


def whole(low: int, high: int = MOST, expected: str = "") -> Kind:
    """A whole number. ``expected``: the values in words, where no number says it."""
    schema = {"type": "integer", "minimum": low, "maximum": high}
    upto = "" if high == MOST else f" to {high}"
    said = expected or f"a whole number from {low}{upto}"
    return _kind(schema, said, _is_count(low, high), Form.COUNT, "N")


def number(low: float, high: float, expected: str = "", unit: str = "N") -> Kind:
    """A number from ``low`` to ``high``. ``unit``: as ``Kind`` has it."""
    schema = {"type": "number", "minimum": low, "maximum": high}
    said = expected or f"a number from {low} to {high}"
    return _kind(schema, said, lambda value: _is_number(value) and low <= value <= high, Form.NUMBER, unit)


def text(limit: int) -> Kind:
    """A string of 1 to ``limit`` characters."""
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
        {"anyOf": [whole(low).schema, percent, *zero]},
        f'a {"whole " if low else ""}number from {low} or a percentage such as "10%"',
        _is_share(low),
        Form.SHARE,
    )


def one_of(known: Sequence[str], expected: str = "") -> Kind:
    """One of the ``known`` words."""
    said = expected or " or ".join(f'"{one}"' for one in known)
    return _kind({"enum": list(known)}, said, lambda value: value in known, Form.CHOICE)


def some_of(known: Sequence[str]) -> Kind:
    """A list of some of the ``known`` words."""
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
        raise vol.Invalid(f"expected {_WAVES_ARE}, got {shown(value)}")
    for like in (
        [one for one in value if not isinstance(one, str)],
        [float(one[:-1]) for one in value if isinstance(one, str)],
    ):
        if like != sorted(set(like)):
            raise vol.Invalid(f"expected {_WAVES_ARE}")
    return value


ANY = Kind({}, "anything", lambda value: value)
HOOKS = _kind(
    {"type": "array", "minItems": 1, "maxItems": MOST_NAMES, "items": {"type": "string", "pattern": HOOK}},
    f"a list of 1 to {MOST_NAMES} names of webhooks",
    lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= MOST_NAMES
        and all(isinstance(one, str) and re.fullmatch(HOOK, one) for one in value)
    ),
    Form.NAMES,
)
FLAG = _kind({"type": "boolean"}, "true or false", lambda value: isinstance(value, bool), Form.FLAG)
OBJECT = _kind({"type": "object"}, "an object", lambda value: isinstance(value, dict))
_IN_SECONDS = f"seconds, from {SHORTEST_S} to {LONGEST_S}"
SECONDS = number(SHORTEST_S, LONGEST_S, _IN_SECONDS, "S")
PAUSE = _kind(
    {"anyOf": [{"const": 0}, SECONDS.schema]},
    f"0, or {_IN_SECONDS}",
    lambda value: _is_number(value) and (value == 0 or SHORTEST_S <= value <= LONGEST_S),
    Form.PAUSE,
    "S",
)
TIMEOUT = _kind(
    {"anyOf": [SECONDS.schema, {"type": "null"}, {"const": "infinity"}]},
    f'{_IN_SECONDS}, "infinity" or null',
    lambda value: _is_infinite(value) or (_is_number(value) and SHORTEST_S <= value <= LONGEST_S),
    Form.NUMBER,
    "S",
)
#: In the earlier puppetmaster no options, and a timeout of null or 0, were the same as none given. Its unit
#: was the millisecond.
MILLISECONDS = _kind(
    {"type": "number", "minimum": 1, "maximum": LONGEST_MS},
    f"milliseconds, from 1 to {LONGEST_MS}",
    lambda value: value is None or value == 0 or (_is_number(value) and 1 <= value <= LONGEST_MS),
)
SHARE, ERRORS = _share(1), _share(0)
_WAVES_ARE = f"a list of 1 to {MOST_WAVES} numbers from 1 or percentages, each larger than the one before"
WAVES = Kind(
    {
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_WAVES,
        "uniqueItems": True,
        "items": SHARE.schema,
    },
    _WAVES_ARE,
    _check_waves,
    Form.SHARES,
)
#: The JSON Schema describes times in the usual form. Other forms of ISO 8601 are accepted too.
TIME = _kind(
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
METHOD = _kind(
    {
        "type": "string",
        "pattern": "^(" + "|".join("".join(f"[{c}{c.upper()}]" for c in one) for one in METHODS) + ")$",
    },
    "get, post, put or delete",
    lambda value: isinstance(value, str) and value.lower() in METHODS,
)
RESOURCE = _kind(
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
ITEMS = _kind(
    {"type": "array", "minItems": 1, "items": {"$ref": f"{REF}Item"}},
    "a list of at least one item",
    lambda value: isinstance(value, list) and bool(value),
)


NOTE = _kind(
    {"type": "string", "maxLength": NOTE_LIMIT, "pattern": r"^[^\u0000]*$"},
    f"at most {NOTE_LIMIT} characters",
    lambda value: isinstance(value, str) and len(value) <= NOTE_LIMIT and not jsoncodec.faults(value, ""),
    Form.TEXT,
)
#: ``api.gateway_bodies`` checks each label.
LABELS = OBJECT._replace(
    schema={
        "type": "object",
        "maxProperties": MOST_LABELS,
        "propertyNames": {"pattern": f"^{_LABEL_KEY}$"},
        "additionalProperties": {"type": "string", "pattern": f"^{_LABEL_VALUE}$"},
    }
)


def _check_cron(value: Any) -> Any:
    wrong = cron.faults(value) if isinstance(value, str) else ["a cron expression such as 0 3 * * 1-5"]
    if wrong:
        raise vol.Invalid(f"expected {'; '.join(wrong)}, got {shown(value)}")
    return value


def _place(numbers: str, ranges: str) -> str:
    """A place of a cron expression, as the pattern of its JSON Schema says it."""
    one = rf"({numbers}|{ranges})"
    return rf"(\*(/[1-9])?|{one}(,{one}){{0,9}})"


#: Names of days and months, L, # and some lists and ranges are left out.
CRON = Kind(
    {
        "type": "string",
        "maxLength": cron.LONGEST,
        "pattern": "^"
        + " ".join(
            (
                _place("([0-9]|[1-5][0-9])", "[0-9]-[1-5][0-9]"),
                _place("([0-9]|1[0-9]|2[0-3])", "[0-9]-(1[0-9]|2[0-3])"),
                _place("([1-9]|1[0-9]|2[0-8])", "[1-9]-(1[0-9]|2[0-8])"),
                _place("([1-9]|1[0-2])", "[1-9]-1[0-2]"),
                _place("[0-6]", "[0-4]-[5-6]"),
            )
        )
        + "$",
    },
    "a cron expression",
    _check_cron,
    Form.TEXT,
)
ZONE = _kind(
    {"$ref": f"{REF}TimeZone"},
    "the name of a time zone such as UTC or Europe/Berlin",
    lambda value: isinstance(value, str) and value in cron.zones(),
    Form.TEXT,
)
#: How long a maintenance window is open: a longer one than a year is none.
WINDOW = number(1, LONGEST_WINDOW_S, f"seconds, from 1 to {LONGEST_WINDOW_S}", "S")


def described(schema: Shape) -> Kind:
    """A kind without a check: its values are answers, or ``api.bodies`` looks at them."""
    return ANY._replace(schema=schema)


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


def shown(value: Any) -> str:
    """``value`` as a fault shows it."""
    match value:
        case str():
            return quoted(value)
        case bool():
            return json.dumps(value)
        case float():
            return f"{value:g}"
        case []:
            return "an empty list"
        case None | dict() | list():
            return kind(value)
    return str(value)[:40]
