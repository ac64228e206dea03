"""Equal results of a job folded into groups, and how the groups differ.

A thousand gateways that say the same are one line; the three that say something else stand out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from puppetmaster import names
from puppetmaster.request import Request, RequestStatus

#: So many differences are listed; more say nothing more.
DIFFERENCES = 100
_ABSENT = object()


def fold(requests: Iterable[Request], *, full: bool, diff: bool) -> list[dict[str, Any]]:
    """Groups of requests with the same status, code and data, the largest first.

    Each is ``{"count", "status", "code", "destinations", "sample"}``, with the destinations in compact
    form (``cg-[001-038]``), or one by one when ``full``. With ``diff`` the others have ``diff``: how
    their data differ from that of the largest group that is resolved.
    """
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(_likeness(request), []).append(request)
    ordered = sorted(groups.values(), key=lambda group: (-len(group), group[0].id))
    good = next((group[0] for group in ordered if group[0].status is RequestStatus.RESOLVED), None)
    return [_view(group, full=full, good=good if diff else None) for group in ordered]


def _likeness(request: Request) -> str:
    """Text that is the same for requests whose results are the same."""
    result = request.result or {}
    # A message of our own tells of one request; two that differ in nothing else came to the same.
    alike = [request.status, result.get("code"), result.get("source"), result.get("data")]
    return json.dumps(alike, sort_keys=True)


def _view(group: list[Request], *, full: bool, good: Request | None) -> dict[str, Any]:
    first = group[0]
    result = first.result or {}
    destinations = [request.destination for request in group]
    view = {
        "count": len(group),
        "status": first.status.value,
        "code": result.get("code"),
        "destinations": destinations if full else names.fold(sorted(destinations)),
        "sample": {"request": first.id, "result": dict(result)},
    }
    if good is not None and first is not good:
        return {**view, "diff": list(_limited(result.get("data"), (good.result or {}).get("data")))}
    return view


def _limited(here: Any, good: Any) -> Iterator[dict[str, Any]]:
    for number, difference in enumerate(differences(here, good)):
        if number == DIFFERENCES:
            yield {"path": "", "message": f"more than {DIFFERENCES} differences: the rest is not listed"}
            return
        yield difference


def differences(here: Any, good: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Where ``here`` differs from ``good``: ``{"path", "good", "here"}``, without what is absent."""
    if isinstance(here, Mapping) and isinstance(good, Mapping):
        for key in sorted({*here, *good}):
            below = f"{path}.{key}" if path else str(key)
            yield from differences(here.get(key, _ABSENT), good.get(key, _ABSENT), below)
    elif isinstance(here, list) and isinstance(good, list):
        for index in range(max(len(here), len(good))):
            left = here[index] if index < len(here) else _ABSENT
            right = good[index] if index < len(good) else _ABSENT
            yield from differences(left, right, f"{path}[{index}]")
    elif here is _ABSENT or good is _ABSENT or type(here) is not type(good) or here != good:
        sides = {"good": good, "here": here}
        yield {"path": path, **{side: value for side, value in sides.items() if value is not _ABSENT}}
