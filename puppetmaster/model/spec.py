"""A job as somebody asked for it, checked: what bodies become, and what jobs are made of."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from puppetmaster.clock import seconds
from puppetmaster.model.job import Job, JobStatus, fresh_counts
from puppetmaster.model.policy import completed
from puppetmaster.model.request import Item, Request

#: A longer command is cut in the summary of a job.
SUMMARY_LENGTH = 100


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """One item: a command and the destinations it goes to, in order. With a ``code`` it is an event."""

    method: str
    resource: str
    data: Any
    destinations: tuple[str, ...]
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Rerun:
    """Instead of items: the requests of another job that are in one of these states."""

    job: int
    statuses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as somebody asked for it. ``given`` holds the optional properties as they were given."""

    items: tuple[ItemSpec, ...]
    name: str | None = None
    key: str | None = None
    digest: str = ""
    timeout_s: float | None = None
    request_timeout_s: float | None = None
    start_at: str | None = None
    rerun: Rerun | None = None
    dry_run: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many requests it makes."""
        return sum(len(item.destinations) for item in self.items)

    @property
    def summary(self) -> str:
        """What it does, in short: ``post /system/reboot``, and how many items do other things."""
        if not self.items:
            return ""
        commands = list(dict.fromkeys(f"{one.method} {one.resource}" for one in self.items))
        first = commands[0] if len(commands[0]) <= SUMMARY_LENGTH else f"{commands[0][: SUMMARY_LENGTH - 1]}…"
        return first if len(commands) == 1 else f"{first} and {len(commands) - 1} more"

    def starts_later(self, wall_s: float) -> bool:
        """Whether it asks for a time to start that has not come."""
        return self.start_at is not None and seconds(self.start_at) > wall_s

    def job(self, id_: int, first: int, at: str, wall_s: float, request_timeout_s: float) -> Job:
        """The job that this makes, at this moment; ``request_timeout_s`` where it names none."""
        return Job(
            id=id_,
            first=first,
            total=self.total,
            created_at=at,
            name=self.name,
            summary=self.summary,
            key=self.key,
            digest=self.digest,
            parent=self.rerun.job if self.rerun else None,
            timeout_s=self.timeout_s,
            request_timeout_s=self.request_timeout_s or request_timeout_s,
            start_at=self.start_at,
            given=completed(self.given, self.total),
            status=JobStatus.PENDING if self.starts_later(wall_s) else JobStatus.DISPATCHING,
            counts=fresh_counts(self.total),
        )

    def requests_of(self, job: Job) -> Iterator[tuple[Item, Request]]:
        """The requests of ``job``, in batch order, then in the order of destinations, each with its item.

        An item has the id of its first request.
        """
        first = job.first
        for one in self.items:
            item = Item(
                id=first, job=job.id, method=one.method, resource=one.resource, data=one.data, code=one.code
            )
            for id_, destination in enumerate(one.destinations, first):
                yield item, Request(id=id_, job=job.id, item=first, destination=destination)
            first += len(one.destinations)


def starts_at_once(start_at: str | None, wall_s: float) -> str:
    """That a job does not wait for ``start_at``, when that has come at ``wall_s``; else nothing."""
    if start_at is None or seconds(start_at) > wall_s:
        return ""
    return f"starts at once: {start_at} is past"


def specs_of(commands: Iterable[tuple[int, str]], items: Mapping[int, Item]) -> tuple[ItemSpec, ...]:
    """What some requests asked for, to ask for it again: the item and destination of each, in their order."""
    again: list[ItemSpec] = []
    wanted: dict[int, list[str]] = {}
    for item_id, destination in commands:
        wanted.setdefault(item_id, []).append(destination)
    for item_id, destinations in wanted.items():
        item = items[item_id]
        again.append(ItemSpec(item.method, item.resource, item.data, tuple(destinations), item.code))
    return tuple(again)
