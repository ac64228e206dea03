"""The properties of a batch and what each of them may be, as voluptuous schemas; faults in our words."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import voluptuous as vol

from puppetmaster import jsoncodec
from puppetmaster.clock import seconds
from puppetmaster.errors import FAULTS_SHOWN, Fault, Faults

METHODS = ("get", "post", "put", "delete")
RESOURCE_LIMIT_BYTES = 1023
NAME_LIMIT = 128
KEY_LIMIT = 255
#: No time in a body is shorter, but none at all, or longer.
SHORTEST_S, LONGEST_S = 0.001, 1_000_000_000
LONGEST_MS = LONGEST_S * 1000

MOST_WAVES = 100
MOST_ATTEMPTS = 100
#: Of a list that may name a few words, again and again.
MOST_NAMES = 100
#: A request in nearly three hours; with less a job would hardly end.
LEAST_RATE, MOST_RATE = 0.0001, 100_000
#: Optional properties that a job shows as they were given.
GIVEN = (
    "requestTimeout",
    "concurrency",
    "rate",
    "retry",
    "idempotent",
    "abort",
    "waves",
    "gate",
    "startAt",
    "rerun",
)
#: What ``retry.on`` may name, and what ``rerun.status`` may.
RETRIED = ("timeout", "error")
RERUN = ("error", "timeout", "unknown", "skipped", "canceled")
#: A percentage above 0, as a pattern that JSON Schema reads as Python does.
PERCENT = r"(100(\.0{1,6})?|[1-9][0-9]?(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9]0{0,5})%"
MOST = 1_000_000


def _expect(test: Callable[[Any], bool], expected: str) -> Callable[[Any], Any]:
    """A validator: what passes ``test`` passes; the fault says what was expected and what came."""

    def validate(value: Any) -> Any:
        if not test(value):
            raise vol.Invalid(f"expected {expected}, got {_shown(value)}")
        return value

    return validate


def _any(value: Any) -> Any:
    return value


def _is_text(limit: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, str) and 0 < len(value) <= limit and not jsoncodec.faults(value, "")
    )


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and SHORTEST_S <= value <= LONGEST_S


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_resource(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith("/") or jsoncodec.faults(value, ""):
        return False
    return len(value.encode()) <= RESOURCE_LIMIT_BYTES


def _is_count(low: int, high: int = MOST) -> Callable[[Any], bool]:
    """A whole number; in JSON 5.0 is one too."""
    return lambda value: _is_number(value) and value == value // 1 and low <= value <= high


def _is_percent(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(PERCENT, value))


def _is_share(low: int) -> Callable[[Any], bool]:
    """A number from ``low``, or a percentage; of failures none may be borne, so there 0% is one too."""
    return lambda value: _is_count(low)(value) or _is_percent(value) or (low == 0 and value == "0%")


def _is_time(value: Any) -> bool:
    try:
        return seconds(value) >= 0
    except (TypeError, ValueError, OverflowError):
        return False


def _is_some_of(known: Iterable[str]) -> Callable[[Any], bool]:
    names = set(known)
    return lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= MOST_NAMES
        and all(isinstance(one, str) and one in names for one in value)
    )


def _waves(value: Any) -> Any:
    """Each wave ends behind the one before it, as far as one can say without the size of the job."""
    expected = f"a list of 1 to {MOST_WAVES} numbers from 1 or percentages, each larger than the one before"
    if value is None:
        return value
    fits = isinstance(value, list) and 0 < len(value) <= MOST_WAVES and all(map(_is_share(1), value))
    if not fits:
        raise vol.Invalid(f"expected {expected}, got {_shown(value)}")
    for like in (
        [one for one in value if not isinstance(one, str)],
        [float(one[:-1]) for one in value if isinstance(one, str)],
    ):
        if like != sorted(set(like)):
            raise vol.Invalid(f"expected {expected}")
    return value


def _optional(validator: Any) -> Any:
    """Null stands for an optional property that is not given."""
    schema = vol.Schema(validator)
    return lambda value: None if value is None else schema(value)


_SECONDS = f"seconds, from {SHORTEST_S} to {LONGEST_S}"
_METHOD = _expect(lambda m: isinstance(m, str) and m.lower() in METHODS, "get, post, put or delete")
_RESOURCE = _expect(
    _is_resource,
    f"a string that begins with / of at most {RESOURCE_LIMIT_BYTES} bytes that the bus can carry",
)
_OBJECT = _expect(lambda value: isinstance(value, dict), "an object")
_KEY = _optional(_expect(_is_text(KEY_LIMIT), f"1 to {KEY_LIMIT} characters"))
_REQUEST_TIMEOUT = _expect(_is_seconds, _SECONDS)

_CODE = _expect(_is_count(100, 999), "a code of three digits, which makes it an event")

MESSAGE = vol.Schema(
    {
        vol.Required("method"): _METHOD,
        vol.Required("resource"): _RESOURCE,
        "data": _any,
        "code": _optional(_CODE),
    }
)
ITEM = vol.Schema(
    {
        **MESSAGE.schema,
        "__request": vol.All(_OBJECT, vol.Schema({"destination": _any, "__destination": _any})),
        "__destination": _any,
    }
)
_ERRORS = _expect(_is_share(0), 'a number from 0 or a percentage such as "10%"')
_PAUSE = _expect(lambda value: _is_seconds(value) or (_is_number(value) and value == 0), f"0, or {_SECONDS}")

RETRY = {
    "attempts": _expect(_is_count(1, MOST_ATTEMPTS), f"a whole number from 1 to {MOST_ATTEMPTS}"),
    "on": _expect(_is_some_of(RETRIED), f"a list of at least one of {', '.join(RETRIED)}"),
    "delay": _PAUSE,
    "factor": _expect(lambda f: _is_number(f) and 1 <= f <= 100, "a number from 1 to 100"),
    "maxDelay": _PAUSE,
}
ABORT = {vol.Required("errors"): _ERRORS, "after": _expect(_is_count(1), "a whole number from 1")}
GATE = {
    "errors": _ERRORS,
    "soak": _PAUSE,
    "onFail": _expect(lambda v: v in ("abort", "pause"), '"abort" or "pause"'),
}
RERUN_OF = {
    vol.Required("job"): _expect(_is_count(1, 2**53), "the id of a job"),
    "status": _expect(_is_some_of(RERUN), f"a list of at least one of {', '.join(RERUN)}"),
}

JOB = vol.Schema(
    {
        "batch": _expect(lambda b: isinstance(b, list) and bool(b), "a list of at least one item"),
        "timeout": _expect(
            lambda t: t is None or t == "infinity" or _is_seconds(t), f'{_SECONDS}, "infinity" or null'
        ),
        "name": _optional(_expect(_is_text(NAME_LIMIT), f"1 to {NAME_LIMIT} characters")),
        "key": _KEY,
        "requestTimeout": _optional(_REQUEST_TIMEOUT),
        "concurrency": _optional(
            _expect(_is_share(1), 'a whole number from 1 or a percentage such as "10%"')
        ),
        "rate": _optional(
            _expect(
                lambda rate: _is_number(rate) and LEAST_RATE <= rate <= MOST_RATE,
                f"a number from {LEAST_RATE} to {MOST_RATE}",
            )
        ),
        "retry": _optional(vol.All(_OBJECT, RETRY)),
        "idempotent": _optional(_expect(lambda i: isinstance(i, bool), "true or false")),
        "abort": _optional(vol.All(_OBJECT, ABORT)),
        "waves": _waves,
        "gate": _optional(vol.All(_OBJECT, GATE)),
        "startAt": _optional(
            _expect(_is_time, "an ISO 8601 time with its zone, such as 2026-01-02T03:04:05Z")
        ),
        "rerun": _optional(vol.All(_OBJECT, RERUN_OF)),
        "dryRun": _optional(_expect(lambda d: isinstance(d, bool), "true or false")),
    }
)
#: In the earlier puppetmaster no options, and a timeout of null or 0, were the same as none given. Its unit
#: was the millisecond.
_COMPAT_TIMEOUT = _expect(
    lambda timeout: timeout is None or timeout == 0 or (_is_number(timeout) and 1 <= timeout <= LONGEST_MS),
    f"milliseconds, from 1 to {LONGEST_MS}",
)
_OPTIONS = _optional(vol.All(_OBJECT, vol.Schema({"timeout": _COMPAT_TIMEOUT})))
#: What its clients sent along, and it made nothing of.
IGNORED = {"formData": _any}
COMPAT_MESSAGE = vol.Schema({**MESSAGE.schema, "id": _any, **IGNORED})
_COMPAT = {vol.Required("message"): _OBJECT, "options": _OPTIONS, "key": _KEY, **IGNORED}
JOB_COMPAT = vol.Schema({vol.Required("destinations"): _any, **_COMPAT})
REQUEST = vol.Schema({vol.Required("destination"): _any, **_COMPAT})


#: Every name that some property has.
KNOWN = frozenset(
    str(name)
    for schema in (JOB, ITEM, COMPAT_MESSAGE, JOB_COMPAT, REQUEST)
    for name in (*schema.schema, *RETRY, *ABORT, *GATE, *RERUN_OF)
)


def plain(value: Any) -> Any:
    """``value`` with each whole float as the integer that it is in JSON Schema: 5.0 is shown as 5."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def faults(
    schema: vol.Schema, value: Mapping[str, Any], path: str = "", found: Faults | None = None
) -> Faults:
    """All that ``schema`` finds wrong with ``value``, each with its place below ``path``: in ``found``."""
    found = Faults() if found is None else found
    few, left_out = _few(value)
    try:
        schema(few)
    except vol.MultipleInvalid as error:
        for one in error.errors:
            found.take((_fault(one, schema, path, hinting=found.hinting),))
            # voluptuous keeps the error in a list of a frame that the error's traceback has: a cycle, which
            # would keep the whole body in memory until somebody looks for cycles.
            one.__traceback__ = one.__context__ = one.__cause__ = None
    found.more += left_out
    return found


def _few(value: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """``value`` with so many properties that each can be looked at, and how many unknown ones are left out.

    Data, and the message of the older form, which is looked at by itself, may hold as many as they like.
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
    """``text`` in quotes, fit for one line of ASCII, and not endless."""
    short = text if len(text) <= 80 else text[:77] + "..."
    return json.dumps(short).replace("\\u0000", "\\\\0").replace('"', "'")


def kind(value: Any) -> str:
    """What ``value`` is, for a sentence about what came."""
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
