"""What tests put into a store, and all that is in it; whichever implementation it is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import Request, RequestEvent
from puppetmaster.model.template import Record, Schedule, Template
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes, Ids, Reader, Store
from tests.examples import AT, LATER, a_job, a_request, an_item, counts

S = TypeVar("S", bound=Store)

#: Templates of which one starts by itself, and a start of it is queued.
NIGHTLY = Template(
    id=4,
    name="nightly",
    job={"batch": []},
    schedule=Schedule(cron="0 3 * * *"),
    record=Record(decided_s=5.0, queued_s=5.0),
)
BY_HAND = Template(id=2, name="by hand", job={"batch": []}, record=Record(decided_s=5.0))
TEMPLATES = {one.id: one for one in (NIGHTLY, BY_HAND)}


def first_of(number: int) -> int:
    """The id of the first request of job ``number``; each job of these tests has room for 1,000."""
    return FIRST_REQUEST_ID + number * 1000


def creation(number: int, total: int = 3, **given: Any) -> Changes:
    """All that the creation of a job writes: the job, its item, its pending requests, the ids."""
    job = a_job(id=number, first=first_of(number), total=total, **given)
    item = an_item(id=job.first, job=number)
    requests = [
        a_request(id=id_, job=number, item=item.id, destination=f"cg-{id_ - job.first}")
        for id_ in job.request_ids
    ]
    return Changes(
        jobs={number: job},
        items={item.id: item},
        requests={request.id: request for request in requests},
        destinations={request.destination for request in requests},
        ids=Ids(next_job=number + 1, next_request=first_of(number) + total),
    )


def fill(store: Store, *numbers: int) -> None:
    for number in numbers:
        store.commit(creation(number))


def as_ended(job: Job, status: JobStatus = JobStatus.RESOLVED) -> Job:
    return replace(job, status=status, finished_at=LATER, counts=counts(resolved=job.total))


def as_sent(request: Request) -> Request:
    return request.after(RequestEvent.SEND, AT)


def reopening(open_: Callable[[], S]) -> Iterator[Callable[[], S]]:
    """Open a store, again and again on the same data; what is still open at the end is closed."""
    opened: list[S] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def again() -> S:
        close()
        opened.append(open_())
        return opened[-1]

    yield again
    close()


def everything(store: Store) -> tuple[list[Job], list[Request]]:
    with store.reading() as reader:
        return reader.jobs({}), reader.requests({})


def assert_held(reader: Reader, why: str) -> None:
    """Of these templates none starts by itself any more, and it is said why."""
    held = reader.template(NIGHTLY.id)
    assert held is not None
    assert held.schedule is not None
    assert held.record.last is not None
    assert (held.scheduled, held.schedule.cron, held.record.queued_s) == (False, "0 3 * * *", None)
    assert why in held.record.last["message"]
    assert reader.template(BY_HAND.id) == BY_HAND
