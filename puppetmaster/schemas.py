"""The properties of a batch and what each of them may be, as voluptuous schemas; faults in our words."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import voluptuous as vol

from puppetmaster import wire
from puppetmaster.errors import Fault

METHODS = ("get", "post", "put", "delete")
RESOURCE_LIMIT_BYTES = 1023
NAME_LIMIT = 128
KEY_LIMIT = 255
LONGEST_S = 1_000_000_000

#: Properties of the API that this version refuses by name.
NOT_YET = ("rate", "retry", "abort", "waves", "gate", "startAt", "rerun", "dryRun")


def _expect(test: Callable[[Any], bool], expected: str) -> Callable[[Any], Any]:
    """A validator: what passes ``test`` passes; the fault says what was expected and what came."""

    def validate(value: Any) -> Any:
        if not test(value):
            raise vol.Invalid(f"expected {expected}, got {_shown(value)}")
        return value

    return validate


def _any(value: Any) -> Any:
    return value


def _not_yet(_: Any) -> Any:
    raise vol.Invalid("not supported yet")


def _is_text(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= limit and not wire.faults(value, "")


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and 0 < value <= LONGEST_S


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_resource(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith("/") or wire.faults(value, ""):
        return False
    return len(value.encode()) <= RESOURCE_LIMIT_BYTES


def _concurrency(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value):
        raise vol.Invalid("a percentage is not supported yet: expected a whole number")
    return _expect(lambda n: n is None or (type(n) is int and 0 < n <= 1_000_000), "a whole number from 1")(
        value
    )


_SECONDS = f"seconds, more than 0 and at most {LONGEST_S}"
_METHOD = _expect(lambda m: isinstance(m, str) and m.lower() in METHODS, "get, post, put or delete")
_RESOURCE = _expect(
    _is_resource,
    f"a string that begins with / of at most {RESOURCE_LIMIT_BYTES} bytes that the bus can carry",
)
_OBJECT = _expect(lambda value: isinstance(value, dict), "an object")
_REQUEST_TIMEOUT = _expect(_is_seconds, _SECONDS)

MESSAGE = vol.Schema({vol.Required("method"): _METHOD, vol.Required("resource"): _RESOURCE, "data": _any})
ITEM = vol.Schema(
    {
        **MESSAGE.schema,
        "__request": vol.All(_OBJECT, vol.Schema({"destination": _any, "__destination": _any})),
        "__destination": _any,
    }
)
JOB = vol.Schema(
    {
        vol.Required("batch"): _expect(
            lambda b: isinstance(b, list) and bool(b), "a list of at least one item"
        ),
        "timeout": _expect(
            lambda t: t is None or t == "infinity" or _is_seconds(t), f'{_SECONDS}, "infinity" or null'
        ),
        "name": _expect(lambda n: n is None or _is_text(NAME_LIMIT)(n), f"1 to {NAME_LIMIT} characters"),
        "key": _expect(lambda k: k is None or _is_text(KEY_LIMIT)(k), f"1 to {KEY_LIMIT} characters"),
        "requestTimeout": _REQUEST_TIMEOUT,
        "concurrency": _concurrency,
        "idempotent": _expect(lambda i: i is None or isinstance(i, bool), "true or false"),
        **dict.fromkeys(NOT_YET, _not_yet),
    }
)
_OPTIONS = vol.All(_OBJECT, vol.Schema({"timeout": _REQUEST_TIMEOUT}))
JOB_COMPAT = vol.Schema(
    {vol.Required("destinations"): _any, vol.Required("message"): _OBJECT, "options": _OPTIONS}
)
REQUEST = vol.Schema(
    {vol.Required("destination"): _any, vol.Required("message"): _OBJECT, "options": _OPTIONS}
)


def faults(schema: vol.Schema, value: Mapping[str, Any], path: str = "") -> list[Fault]:
    """All that ``schema`` finds wrong with ``value``, each with its place below ``path``."""
    try:
        schema(value)
    except vol.MultipleInvalid as error:
        return [_fault(one, schema, path) for one in error.errors]
    return []


def _fault(error: vol.Invalid, schema: vol.Schema, prefix: str) -> Fault:
    path = ".".join(filter(None, [prefix, *(_plain(part) for part in error.path)]))
    if isinstance(error, vol.RequiredFieldInvalid):
        return Fault(path, "expected this property, got none")
    if error.error_message == "extra keys not allowed":
        return Fault(path, f"unknown property{_hint(_plain(error.path[-1]), map(str, schema.schema))}")
    return Fault(path, error.error_message)


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [one for one in known if one not in NOT_YET], 1)
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
