"""What a URL asks for: the id in its path, and paging, filters and flags in its query string.

All faults of a query are reported at once.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from puppetmaster.api import gateway_bodies, kinds
from puppetmaster.errors import Fault, Faults, NotFound
from puppetmaster.model.job import JobStatus
from puppetmaster.model.request import RequestStatus

#: The largest number in a query. SQLite takes no larger ones.
LARGEST = 2**62


class Parameter(NamedTuple):
    """A parameter of a query."""

    #: Its name in the query string.
    name: str
    #: What it means.
    about: str
    #: What its value is, as JSON Schema.
    schema: Mapping[str, Any]


_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0, "maximum": LARGEST}
_FLAG: Mapping[str, Any] = {"type": "boolean"}
_REGISTERED: Mapping[str, Any] = {"enum": ["true", "false", gateway_bodies.UNKNOWN]}
_TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1}


def _some_of(known: type[StrEnum]) -> Mapping[str, Any]:
    listed = {"type": "string", "enum": [one.value for one in known]}
    return {"type": "array", "items": listed, "minItems": 1}


#: Name in ``Operation.query`` -> the parameter. Two that have the same name in the query string differ here.
PARAMETERS: Mapping[str, Parameter] = {
    "limit": Parameter("limit", "The most that are listed, 0 for none; default: all", _COUNT),
    "offset": Parameter("offset", "How many are left out before them; default: 0", _COUNT),
    "jobStatus": Parameter("status", "Only those in one of these", _some_of(JobStatus)),
    "status": Parameter("status", "Only those in one of these", _some_of(RequestStatus)),
    "name": Parameter("name", "Only those of this name", _TEXT),
    "text": Parameter("text", "Only those whose id, name, key or resource contains this", _TEXT),
    "destination": Parameter("destination", "Only those for this destination", _TEXT),
    "failed": Parameter(
        "failed", "Only those with a request that is error, timeout or unknown; false: those without", _FLAG
    ),
    "collection": Parameter("collection", "Adds `collection`, the request objects", _FLAG),
    "changed": Parameter("collection", "Adds `collection`, the requests that changed", _FLAG),
    "everyDestination": Parameter("collection", "Lists destinations one by one, not as ranges", _FLAG),
    "selector": Parameter(
        "selector", "Only those whose labels this selects, as in Kubernetes", kinds.SELECTOR
    ),
    "match": Parameter("match", "Only those whose name fits this pattern of `*`, `?`, `[..]`", kinds.PATTERN),
    "names": Parameter("name", "Only those of these names, with commas between", _TEXT),
    "registered": Parameter(
        "registered",
        "Only those that are registered, that are not, or of which that is not known",
        _REGISTERED,
    ),
    "check": Parameter(
        "check",
        f"Asks the controller anew for those of the page first, {gateway_bodies.MOST_CHECKED} at most and "
        f"for {gateway_bodies.CHECK_TIMEOUT_S:g} s",
        _FLAG,
    ),
    "template": Parameter("template", "Only those that were started from the template of this id", _COUNT),
    "templateName": Parameter("name", "Only the one of this name", _TEXT),
    "diff": Parameter("diff", "Adds how a group differs from the largest good one", _FLAG),
}


#: Says what is wrong with the value of a filter, as a sentence.
_CHECKED: Mapping[str, Callable[[Any], str | None]] = {
    "selector": gateway_bodies.selector_fault,
    "match": gateway_bodies.pattern_fault,
    "registered": gateway_bodies.registered_fault,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a caller asked for. ``where`` holds the filters by the field they look at."""

    limit: int | None = None
    offset: int = 0
    collection: bool | None = None
    diff: bool = False
    check: bool = False
    where: Mapping[str, str | bool | int | Sequence[str]] = field(default_factory=dict)

    def page(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Those of all rows that are on the page."""
        return rows[self.offset : None if self.limit is None else self.offset + self.limit]


def number_of(id_: str, what: str) -> int:
    """The number that the id in a path is. Raises NotFound: it is none, so no ``what`` (a job) has it."""
    if id_.isascii() and id_.isdigit() and len(id_) < 19:
        return int(id_)
    raise NotFound(f"There is no {what} '{id_[:80]}': ids are whole numbers.")


def parameters(querystring: str | None) -> dict[str, Any]:
    """The parameters of a query string, as the SDK gives them: ``parse`` says what their values are."""
    found = parse_qs(querystring or "", keep_blank_values=True)
    return {name: values if len(values) > 1 else values[0] or True for name, values in found.items() if name}


def parse(given: Mapping[str, Any], allowed: Sequence[str]) -> Query:
    """Check the parameters of a query.

    Args:
        given: name -> value: a text, True (no value), or a list (several values).
        allowed: the names in ``PARAMETERS`` of those that the resource takes.

    Raises Invalid: unknown names, or wrong values.
    """
    faults = Faults()
    values: dict[str, Any] = {}
    where: dict[str, str | bool | int | Sequence[str]] = {}
    statuses: type[JobStatus] | type[RequestStatus] = RequestStatus
    if "jobStatus" in allowed:
        statuses = JobStatus
    names = [PARAMETERS[name].name for name in allowed]
    for name, value in given.items():
        if name not in names:
            close = difflib.get_close_matches(name[:80], names, 1) if faults.hinting else []
            hint = f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(names) or 'none'}"
            faults.add(name[:80], f"unknown parameter{hint}")
        elif not isinstance(value, str):
            faults.add(name, f"expected one value, got {'none' if value is True else 'several'}")
        elif name in ("limit", "offset"):
            values[name] = _number(name, value, faults)
        elif name in ("collection", "diff", "check"):
            values[name] = _flag(name, value, faults)
        elif name in _READ:
            where[name] = _READ[name](name, value, faults)
        elif name in _CHECKED:
            where[name] = value
            faults.take(Fault(name, wrong) for wrong in [_CHECKED[name](value)] if wrong is not None)
        elif name == "status":
            where[name] = _statuses(name, value, statuses, faults)
        else:
            where[name] = value
    faults.check()
    return Query(where=where, **values)


def _number(name: str, value: str, faults: Faults) -> int:
    if value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= LARGEST:
        return int(value)
    faults.add(name, f"expected a whole number from 0, got '{value[:80]}'")
    return 0


def _flag(name: str, value: str, faults: Faults) -> bool:
    if value not in ("true", "false"):
        faults.add(name, f"expected true or false, got '{value[:80]}'")
    return value == "true"


#: Reads the value of a filter that is no text.
_READ: Mapping[str, Callable[[str, str, Faults], int]] = {"failed": _flag, "template": _number}


def _statuses(
    name: str, value: str, known: "type[JobStatus] | type[RequestStatus]", faults: Faults
) -> list[str]:
    wanted = [one.strip() for one in value.split(",")]
    all_known = [status.value for status in known]
    faults.take(
        Fault(name, f"expected one of {', '.join(all_known)}, got '{one[:80]}'")
        for one in wanted
        if one not in all_known
    )
    return wanted
