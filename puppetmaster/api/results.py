"""Groups of equal results of a job, and how the groups differ.

A thousand gateways that answer the same are one line; three that answer something else are seen at once. Of
each request only the destination is kept, so that a job of any size can be grouped part by part.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from puppetmaster import ranges
from puppetmaster.model.request import Item, Request, RequestStatus

#: Most differences that are listed for a group.
DIFFERENCES = 100
#: The statuses of requests that were not sent.
UNSENT = frozenset({RequestStatus.SKIPPED, RequestStatus.CANCELED})
_ABSENT = object()


@dataclass(slots=True)
class Group:
    """Requests that have the same status, code, source and data."""

    #: The id of the first of them.
    first: int
    #: The item of all of them; 0: any item.
    item: int
    status: RequestStatus
    #: The digest that they have in common: ``likeness_of``.
    likeness: bytes
    destinations: list[str] = field(default_factory=list)


class Groups:
    """The groups of one job. ``by_item``: a group has requests of one item only."""

    def __init__(self, *, by_item: bool = False) -> None:
        self._by_item = by_item
        self._groups: dict[tuple[int, bytes], Group] = {}

    def add(self, requests: Iterable[Request]) -> None:
        """Add more requests that are done, in the order of their ids."""
        for request in requests:
            likeness = likeness_of(request)
            item = request.item if self._by_item else 0
            group = self._groups.get((item, likeness))
            if group is None:
                group = self._groups[item, likeness] = Group(request.id, item, request.status, likeness)
            group.destinations.append(request.destination)

    def ordered(self) -> list[Group]:
        """All groups: those of an item together, the largest first."""
        return sorted(
            self._groups.values(), key=lambda group: (group.item, -len(group.destinations), group.first)
        )


def good(ordered: Iterable[Group]) -> dict[int, Group]:
    """Item -> its largest group that is resolved, to compare others with."""
    found: dict[int, Group] = {}
    for group in ordered:
        if group.status is RequestStatus.RESOLVED:
            found.setdefault(group.item, group)
    return found


def likeness_of(request: Request) -> bytes:
    """A digest that is the same for requests whose results are the same."""
    result = request.result or {}
    # Without ``message``: our own messages may name the request, and differ where nothing else does.
    alike = [request.status, result.get("code"), result.get("source"), result.get("data")]
    return hashlib.blake2b(json.dumps(alike, sort_keys=True).encode("ascii"), digest_size=16).digest()


def view(
    group: Group, first: Request, *, full: bool, beside: Request | None, item: Item | None
) -> dict[str, Any]:
    """A group as the API shows it: ``{"count", "status", "code", "destinations", "sample"}``, and more.

    Args:
        group: the group.
        first: its first request.
        full: whether destinations are listed one by one, instead of folded (``cg-[001-038]``).
        beside: a request of the good group, with which ``diff`` compares the data; None: without ``diff``.
            Of requests that were not sent there is nothing to compare.
        item: the item of all its requests, whose command is the ``step``; None: without ``step``.
    """
    result = first.result or {}
    shown = {
        "count": len(group.destinations),
        "status": first.status.value,
        "code": result.get("code"),
        "destinations": group.destinations if full else ranges.fold(ranges.ordered(group.destinations)),
        "sample": {"request": first.id, "result": dict(result)},
    }
    if item is not None:
        shown["step"] = f"{item.method} {item.resource}"
    if beside is not None and first.id != beside.id and first.status not in UNSENT:
        return {**shown, "diff": list(_limited(result.get("data"), (beside.result or {}).get("data")))}
    return shown


def _limited(here: Any, good: Any) -> Iterator[dict[str, Any]]:
    for number, difference in enumerate(differences(here, good)):
        if number == DIFFERENCES:
            yield {"path": "", "message": f"more than {DIFFERENCES} differences: the rest is not listed"}
            return
        yield difference


def differences(here: Any, good: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Where ``here`` differs from ``good``: ``{"path", "good", "here"}`` each, without absent sides."""
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
