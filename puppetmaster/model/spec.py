"""The specification of a job: what a checked body becomes, and what a job is made of."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import Any

from puppetmaster.clock import seconds
from puppetmaster.model.gateway import Target
from puppetmaster.model.job import Job, JobStatus, fresh_counts
from puppetmaster.model.policy import completed, ends_by_gateway
from puppetmaster.model.request import Item, Request
from puppetmaster.model.timeline import ITSELF, Event, What

#: Most characters of a command in the summary of a job; a longer one is cut.
SUMMARY_LENGTH = 100


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """One item: a command and its destinations."""

    method: str
    resource: str
    data: Any
    #: In the order of the body.
    destinations: tuple[str, ...]
    #: The code of a Sanji event; None: the command is a request.
    code: int | None = None
    #: Which gateways ``destinations`` are, as the body says it; None: it names them.
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Rerun:
    """What a job has in place of items: the requests of another job that have one of these statuses."""

    #: Id of the other job.
    job: int
    statuses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as a caller asks for it."""

    items: tuple[ItemSpec, ...]
    #: None: the job has no name.
    name: str | None = None
    #: The idempotency key; None: the job has none.
    key: str | None = None
    #: Digest of the body, by which a second POST with the same key is compared.
    digest: str = ""
    #: How long the job may take; None: no limit.
    timeout_s: float | None = None
    #: How long a request may take; None: as the settings say.
    request_timeout_s: float | None = None
    #: When the job starts (ISO 8601); None: at once.
    start_at: str | None = None
    #: None: the job has items of its own.
    rerun: Rerun | None = None
    #: Id of the template that it is started from; None: from none.
    template: int | None = None
    #: Who creates it; None: nobody in particular.
    created_by: str | None = None
    #: Whether the job is only to be checked and shown.
    dry_run: bool = False
    #: The optional properties of the API, as they were given.
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many requests the job has."""
        return sum(len(item.destinations) for item in self.items)

    @property
    def seeks(self) -> bool:
        """Whether an item says which gateways it is for without naming them."""
        return any(item.target is not None for item in self.items)

    @property
    def by_gateway(self) -> bool:
        """Whether requests are ordered by gateway, and waves are counted in gateways."""
        return len(self.items) > 1 and "waves" in self.given

    @property
    def stops(self) -> bool:
        """Whether a gateway gets no more once one of its requests has failed."""
        return self.given.get("onFail") == "stop"

    def gateways(self) -> dict[str, list[int]]:
        """By destination, in the order in which they come first: the places of the items that name it."""
        found: dict[str, list[int]] = {}
        for place, item in enumerate(self.items):
            for destination in item.destinations:
                found.setdefault(destination, []).append(place)
        return found

    @property
    def summary(self) -> str:
        """The job in short: ``post /system/reboot``, and how many other commands it has. Empty: no items."""
        if not self.items:
            return ""
        commands = list(dict.fromkeys(f"{one.method} {one.resource}" for one in self.items))
        first = commands[0] if len(commands[0]) <= SUMMARY_LENGTH else f"{commands[0][: SUMMARY_LENGTH - 1]}…"
        return first if len(commands) == 1 else f"{first} and {len(commands) - 1} more"

    def starts_later(self, wall_s: float) -> bool:
        """Whether the job starts after ``wall_s`` (seconds since 1970)."""
        return self.start_at is not None and seconds(self.start_at) > wall_s

    def job(self, id_: int, first: int, at: str, wall_s: float, request_timeout_s: float) -> Job:
        """The job with the id ``id_``, whose first request has the id ``first``.

        ``at`` and ``wall_s`` are the present time, as ISO 8601 and in seconds since 1970.
        ``request_timeout_s`` counts when the specification has none.
        """
        gateways = self.gateways() if self.by_gateway or self.stops else None
        ends = None
        if gateways is not None and self.by_gateway:
            ends = ends_by_gateway(self.given["waves"], [len(places) for places in gateways.values()])
        total = self.total
        counted = len(gateways) if gateways is not None and self.stops else total
        status = JobStatus.PENDING if self.starts_later(wall_s) else JobStatus.DISPATCHING
        return Job(
            id=id_,
            first=first,
            total=total,
            created_at=at,
            created_by=self.created_by,
            events=(Event(1, at, What.CREATED, self.created_by or ITSELF, status.value),),
            name=self.name,
            summary=self.summary,
            key=self.key,
            digest=self.digest,
            parent=self.rerun.job if self.rerun else None,
            template=self.template,
            timeout_s=self.timeout_s,
            request_timeout_s=self.request_timeout_s or request_timeout_s,
            start_at=self.start_at,
            gateways=None if gateways is None else len(gateways),
            wave_ends=ends,
            given=completed(self.given, counted),
            status=status,
            counts=fresh_counts(total),
        )

    def requests_of(self, job: Job) -> Iterator[tuple[Item, Request]]:
        """The requests of ``job`` with their items, in the order of the items, then of the destinations.

        ``by_gateway`` in the order of the gateways, then of the items. An item has the id of its first
        request.
        """
        items: dict[int, Item] = {}
        for id_, (place, destination) in enumerate(self._ordered(), job.first):
            if place not in items:
                one = self.items[place]
                items[place] = Item(
                    id=id_, job=job.id, method=one.method, resource=one.resource, data=one.data, code=one.code
                )
            item = items[place]
            yield item, Request(id=id_, job=job.id, item=item.id, destination=destination)

    def _ordered(self) -> Iterator[tuple[int, str]]:
        """The place of its item and the destination of each request."""
        if self.by_gateway:
            for destination, places in self.gateways().items():
                yield from ((place, destination) for place in places)
        else:
            for place, item in enumerate(self.items):
                yield from ((place, destination) for destination in item.destinations)


def starts_at_once(start_at: str | None, wall_s: float) -> str:
    """That a job does not wait for ``start_at``, when that has come at ``wall_s``; else nothing."""
    if start_at is None or seconds(start_at) > wall_s:
        return ""
    return f"starts at once: {start_at} is past"


def specs_of(commands: Iterable[tuple[int, str]], items: Mapping[int, Item]) -> tuple[ItemSpec, ...]:
    """The items with which some requests can be run again.

    ``commands`` are the item id and the destination of each request, in the order of the requests; ``items``
    are the items by id. At each destination the order stays.
    """
    wanted: dict[int, list[str]] = {}
    last: dict[str, int] = {}
    order: TopologicalSorter[int] = TopologicalSorter()
    for item_id, destination in commands:
        wanted.setdefault(item_id, []).append(destination)
        before = last.get(destination, item_id)
        order.add(item_id, *(() if before == item_id else (before,)))
        last[destination] = item_id
    return tuple(_again(items[item_id], wanted[item_id]) for item_id in _lowest_first(order))


def _again(item: Item, destinations: Iterable[str]) -> ItemSpec:
    return ItemSpec(item.method, item.resource, item.data, tuple(destinations), item.code)


def _lowest_first(order: TopologicalSorter[int]) -> Iterator[int]:
    """In an order that it allows; where it allows several, the lowest first."""
    ready: list[int] = []
    order.prepare()
    while order.is_active():
        for one in order.get_ready():
            heappush(ready, one)
        first = heappop(ready)
        yield first
        order.done(first)
