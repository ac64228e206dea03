"""The query string of a GET: paging, filters, flags. All faults at once, as with a body."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from puppetmaster.errors import Fault, Faults
from puppetmaster.model.job import JobStatus
from puppetmaster.model.request import RequestStatus

#: Larger numbers than SQLite takes are faults, not errors of the store.
LARGEST = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a caller asked for. ``where`` holds the filters by the field they look at."""

    limit: int | None = None
    offset: int = 0
    collection: bool | None = None
    diff: bool = False
    where: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


def parameters(querystring: str | None) -> dict[str, Any]:
    """The parameters of ``a=1&b=2&b=3&c``, as the SDK has them: text, True, a list for several."""
    found = parse_qs(querystring or "", keep_blank_values=True)
    return {name: values if len(values) > 1 else values[0] or True for name, values in found.items() if name}


def parse(given: Mapping[str, Any], allowed: Sequence[str]) -> Query:
    """The query in ``given``, as the SDK parses it: text, True for no value, a list for several.

    ``allowed`` names the parameters this resource takes: ``limit``, ``offset``, ``collection``, ``diff``,
    ``status`` (``jobStatus`` where it is a job's), ``name``, ``text``, ``destination``. Raises Invalid.
    """
    faults = Faults()
    values: dict[str, Any] = {}
    where: dict[str, str | Sequence[str]] = {}
    statuses: type[JobStatus] | type[RequestStatus] = RequestStatus
    if "jobStatus" in allowed:
        statuses = JobStatus
    names = ["status" if name == "jobStatus" else name for name in allowed]
    for name, value in given.items():
        if name not in names:
            close = difflib.get_close_matches(name[:80], names, 1) if faults.hinting else []
            hint = f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(names) or 'none'}"
            faults.add(name[:80], f"unknown parameter{hint}")
        elif not isinstance(value, str):
            faults.add(name, f"expected one value, got {'none' if value is True else 'several'}")
        elif name in ("limit", "offset"):
            values[name] = _number(name, value, faults)
        elif name in ("collection", "diff"):
            values[name] = _flag(name, value, faults)
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
