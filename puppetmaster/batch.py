"""The body of POST /jobs and POST /requests, checked as a whole and turned into a ``JobSpec``.

Three forms become the same thing: the batch of the API, the older ``destinations`` + ``message``,
and the one ``destination`` of POST /requests. Every fault is found before anything is refused, each
with its place; an unknown property is a fault, because a misspelt limit must not start a fleet.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from puppetmaster import wire
from puppetmaster.errors import Fault, Invalid, TooLarge

METHODS = ("get", "post", "put", "delete")
RESOURCE_LIMIT_BYTES = 1023
NAME_LIMIT = 128
KEY_LIMIT = 255
LONGEST_S = 1_000_000_000
#: More faults than this are counted, not listed: the answer has to fit the bus too.
FAULTS_SHOWN = 1000

#: Properties of the API that this version refuses by name.
NOT_YET = ("rate", "retry", "abort", "waves", "gate", "startAt", "rerun", "dryRun")

_DESTINATION = re.compile(r"[^/?#+\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
#: The longest that the envelope of a message may be beside its data and destination.
_TUNNEL = "t" * 63
_ID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """One item: a command and the destinations it goes to, in order."""

    method: str
    resource: str
    data: Any
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as somebody asked for it. ``given`` holds the optional properties as they were given."""

    items: tuple[ItemSpec, ...]
    name: str | None = None
    key: str | None = None
    digest: str = ""
    timeout_s: float | None = None
    request_timeout_s: float | None = None
    concurrency: int | None = None
    idempotent: bool | None = None
    given: Mapping[str, Any]

    @property
    def total(self) -> int:
        """How many requests it makes."""
        return sum(len(item.destinations) for item in self.items)


def parse_job(body: Any, max_requests: int) -> JobSpec:
    """The job that the body of POST /jobs asks for. Raises Invalid, TooLarge."""
    if isinstance(body, dict) and "batch" not in body and ("destinations" in body or "message" in body):
        return _parse_compat(body, "destinations", max_requests)
    _check_object(body)
    faults = _faults(_JOB, body)
    items = []
    if isinstance(body.get("batch"), list):
        for index, item in enumerate(body["batch"]):
            items += _item(item, f"batch[{index}]", faults)
    return _spec(body, items, body, faults, max_requests)


def parse_request(body: Any, max_requests: int) -> JobSpec:
    """The job of one request that the body of POST /requests asks for. Raises Invalid."""
    return _parse_compat(body, "destination", max_requests)


def _parse_compat(body: Any, where: str, max_requests: int) -> JobSpec:
    _check_object(body)
    single = where == "destination"
    faults = _faults(_REQUEST if single else _JOB_COMPAT, body)
    options = body.get("options") or {}
    given = {"requestTimeout": options["timeout"]} if "timeout" in options else {}
    items = []
    if isinstance(body.get("message"), dict) and where in body:
        found = body[where]
        if single and not isinstance(found, str):
            faults.append(Fault(where, f"expected one destination as a string, got {_kind(found)}"))
        else:
            faults += _faults(_MESSAGE, body["message"], "message")
            items += _item_of(body["message"], found, where, "message", faults)
    return _spec(given, items, body, faults, max_requests)


def _spec(
    properties: Mapping[str, Any],
    items: list[ItemSpec],
    body: Mapping[str, Any],
    faults: list[Fault],
    max_requests: int,
) -> JobSpec:
    if faults:
        shown = faults[:FAULTS_SHOWN]
        if len(faults) > FAULTS_SHOWN:
            shown.append(Fault("", f"{len(faults) - FAULTS_SHOWN} more faults are not listed"))
        raise Invalid(shown)
    timeout = properties.get("timeout")
    spec = JobSpec(
        items=tuple(items),
        name=properties.get("name"),
        key=properties.get("key"),
        digest=digest(body) if properties.get("key") else "",
        timeout_s=None if timeout == "infinity" else timeout,
        request_timeout_s=properties.get("requestTimeout"),
        concurrency=properties.get("concurrency"),
        idempotent=properties.get("idempotent"),
        given={
            name: properties[name]
            for name in ("requestTimeout", "concurrency", "idempotent")
            if name in properties
        },
    )
    if spec.total > max_requests:
        raise TooLarge(
            f"The batch makes {spec.total} requests, and {max_requests} are the most that one job may have: "
            "split it, or raise PUPPETMASTER_MAX_REQUESTS."
        )
    return spec


def digest(body: Any) -> str:
    """A fingerprint of a body: the same for the same JSON, in whatever order its properties come."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()


def _item(item: Any, path: str, faults: list[Fault]) -> list[ItemSpec]:
    if not isinstance(item, dict):
        faults.append(Fault(path, f"expected an object, got {_kind(item)}"))
        return []
    faults += _faults(_ITEM, item, path)
    places = [("__destination", item)]
    if isinstance(inner := item.get("__request"), dict):
        places = [("destination", inner), ("__destination", inner), *places]
    found = [(name, holder) for name, holder in places if name in holder]
    if len(found) != 1:
        many = "exactly one list of destinations, got several" if found else "the destinations, got none"
        faults.append(Fault(f"{path}.__request.destination", f"expected {many}"))
        return []
    name, holder = found[0]
    where = f"{path}.{name}" if holder is item else f"{path}.__request.{name}"
    return _item_of(item, holder[name], where, path, faults)


def _item_of(
    message: Mapping[str, Any], found: Any, where: str, path: str, faults: list[Fault]
) -> list[ItemSpec]:
    before = len(faults)
    destinations = _destinations(found, where, faults)
    data = message.get("data", {})
    faults += wire.faults(data, f"{path}.data" if path else "data")
    method, resource = message.get("method"), message.get("resource")
    if len(faults) > before or not isinstance(method, str) or not isinstance(resource, str):
        return []
    item = ItemSpec(method.lower(), resource, data, destinations)
    if _wellformed(item):
        longest = max(destinations, key=lambda destination: len(json.dumps(destination)))
        size = len(wire.Command(item.method, resource, data, _TUNNEL).message(_ID, longest))
        if size >= wire.MESSAGE_LIMIT_BYTES:
            faults.append(
                Fault(
                    f"{path}.data",
                    f"expected a message below {wire.MESSAGE_LIMIT_BYTES} bytes, which is what the controller "
                    f"passes, got {size}",
                )
            )
    return [item]


def _wellformed(item: ItemSpec) -> bool:
    """Whether it can be encoded; what is wrong with it otherwise is already among the faults."""
    return item.method in METHODS and bool(item.destinations)


def _destinations(found: Any, where: str, faults: list[Fault]) -> tuple[str, ...]:
    if isinstance(found, str):
        names, place = [found], (lambda _: where)
    elif isinstance(found, list) and found:
        names, place = found, (lambda index: f"{where}[{index}]")
    else:
        got = "an empty list" if found == [] else _kind(found)
        faults.append(Fault(where, f"expected a string or a list of at least one string, got {got}"))
        return ()
    return _checked(names, place, faults)


def _checked(names: list[Any], place: Callable[[int], str], faults: list[Fault]) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str) or not _DESTINATION.fullmatch(name):
            got = _quoted(name) if isinstance(name, str) else _kind(name)
            said = f"expected a name without / ? # + and white space, got {got}"
            faults.append(Fault(place(index), said))
        elif len(f"/remote/{name}".encode()) > RESOURCE_LIMIT_BYTES:
            said = f"expected a name that keeps /remote/<name> within {RESOURCE_LIMIT_BYTES} bytes, got a longer one"
            faults.append(Fault(place(index), said))
        elif name in first:
            said = f"expected each destination once in an item, got {_quoted(name)} again (first at {first[name]})"
            faults.append(Fault(place(index), said))
        else:
            first[name] = index
    return tuple(first)


# -- the schemas --------------------------------------------------------------------------------


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
    return _is_number(value) and math.isfinite(value) and 0 < value <= LONGEST_S


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

_MESSAGE = vol.Schema({vol.Required("method"): _METHOD, vol.Required("resource"): _RESOURCE, "data": _any})
_ITEM = vol.Schema(
    {
        **_MESSAGE.schema,
        "__request": vol.Schema({"destination": _any, "__destination": _any}),
        "__destination": _any,
    }
)
_JOB = vol.Schema(
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
_OPTIONS = vol.Schema({"timeout": _REQUEST_TIMEOUT})
_JOB_COMPAT = vol.Schema(
    {vol.Required("destinations"): _any, vol.Required("message"): _OBJECT, "options": _OPTIONS}
)
_REQUEST = vol.Schema(
    {vol.Required("destination"): _any, vol.Required("message"): _OBJECT, "options": _OPTIONS}
)


def _check_object(body: Any) -> None:
    if not isinstance(body, dict):
        raise Invalid([Fault("", f"expected an object as the body, got {_kind(body)}")])


def _faults(schema: vol.Schema, value: Mapping[str, Any], path: str = "") -> list[Fault]:
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
    if "expected a dictionary" in error.error_message:
        return Fault(path, "expected an object")
    return Fault(path, error.error_message)


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [one for one in known if one not in NOT_YET], 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _plain(part: Any) -> str:
    return _quoted(str(part))[1:-1]


def _quoted(text: str) -> str:
    """``text`` in quotes, fit for one line of ASCII, and not endless."""
    short = text if len(text) <= 80 else text[:77] + "..."
    return json.dumps(short).replace("\\u0000", "\\\\0").replace('"', "'")


def _kind(value: Any) -> str:
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
        return _quoted(value)
    if isinstance(value, (dict, list)) or value is None or isinstance(value, bool):
        return (
            "an empty list"
            if value == []
            else _kind(value)
            if not isinstance(value, bool)
            else json.dumps(value)
        )
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]
