"""What one transaction makes durable, and the ids that are given out with it."""

import secrets
from dataclasses import dataclass, field

from puppetmaster.job import Job
from puppetmaster.request import Item, Request

#: The lowest request id: clear of the SDK's random message ids and of counters that start at 1.
FIRST_REQUEST_ID = 2**31
#: The bus has ids of 32 bits.
LAST_REQUEST_ID = 2**32 - 1
#: A new store begins anywhere in so many ids: what it sends is none of what an earlier one here sent.
STARTS = 2**30
#: A copy leaves out so many ids: the store that it was made of may have given them out since.
JOBS_AHEAD, REQUESTS_AHEAD = 10_000, 2**24


@dataclass(slots=True)
class Ids:
    """The next ids to give out. None is given out twice in the life of an installation."""

    next_job: int = 1
    next_request: int = FIRST_REQUEST_ID


def first_request_id() -> int:
    """Where the request ids of a new store begin."""
    return FIRST_REQUEST_ID + secrets.randbelow(STARTS)


def ahead(ids: Ids) -> Ids:
    """The next ids of a copy."""
    return Ids(
        ids.next_job + JOBS_AHEAD,
        max(ids.next_request, min(ids.next_request + REQUESTS_AHEAD, LAST_REQUEST_ID)),
    )


@dataclass(slots=True)
class Changes:
    """What one transaction makes durable."""

    jobs: dict[int, Job] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    sendings: dict[int, Request] = field(default_factory=dict)
    #: Message ids under which nothing ran: they need not lead to their requests any more.
    refused: list[int] = field(default_factory=list)
    deleted: dict[int, Job] = field(default_factory=dict)
    #: Those of them that ended by being removed.
    dropped: set[int] = field(default_factory=set)
    #: Jobs whose requests are written before they exist; those that do exist now; those that never will.
    drafts: dict[int, Job] = field(default_factory=dict)
    completed: list[int] = field(default_factory=list)
    abandoned: dict[int, Job] = field(default_factory=dict)
    ids: Ids | None = None

    def __bool__(self) -> bool:
        return bool(
            self.jobs
            or self.items
            or self.requests
            or self.sendings
            or self.deleted
            or self.drafts
            or self.abandoned
            or self.ids
        )
