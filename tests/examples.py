"""Jobs, items and requests for tests: whole values of which a test names only what it is about."""

from typing import Any

from puppetmaster.model.job import Job, fresh_counts
from puppetmaster.model.request import Item, Request, RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID

AT = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-02T03:04:06.789Z"


def counts(**given: int) -> dict[RequestStatus, int]:
    """Counts by status; those that are not given are 0."""
    return {status: given.get(status.value, 0) for status in RequestStatus}


def a_job(**given: Any) -> Job:
    """Job 1 of three pending requests, unless ``given`` says otherwise."""
    values: dict[str, Any] = {
        "id": 1,
        "first": FIRST_REQUEST_ID,
        "total": 3,
        "created_at": AT,
        "request_timeout_s": 60,
        **given,
    }
    values.setdefault("counts", fresh_counts(values["total"]))
    return Job(**values)


def an_item(**given: Any) -> Item:
    """The one item of job 1: a reboot."""
    return Item(
        **{
            "id": FIRST_REQUEST_ID,
            "job": 1,
            "method": "post",
            "resource": "/system/reboot",
            "data": {},
            **given,
        }
    )


def a_request(**given: Any) -> Request:
    """The first request of job 1, pending."""
    return Request(
        **{
            "id": FIRST_REQUEST_ID,
            "job": 1,
            "item": FIRST_REQUEST_ID,
            "destination": "00:0c:29:1c:e8:01",
            **given,
        }
    )
