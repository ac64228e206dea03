"""Open jobs over a store in memory, without an engine."""

from typing import Any

from puppetmaster.engine.state import Commands, OpenJob, State
from puppetmaster.model.job import Job, fresh_counts
from puppetmaster.model.policy import Policy
from puppetmaster.model.request import Item, Request, RequestEvent
from puppetmaster.store.memory import Memory, MemoryStore

AT = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-02T03:05:05.678Z"


class Book:
    """A state over a store, with short words for what the engine does."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.open()

    def open(self) -> None:
        self.store = MemoryStore(self.memory)
        self.state = State(self.store.now, self.store.ids)

    def create(self, total: int = 1, code: int | None = None, **more: Any) -> Job:
        ids = self.state.new_ids(total)
        job = Job(
            id=ids.job,
            first=ids.first,
            total=total,
            created_at=AT,
            request_timeout_s=60,
            counts=fresh_counts(total),
            **more,
        )
        item = Item(id=job.first, job=job.id, method="post", resource="/r", data={}, code=code)
        requests = [
            Request(id=id_, job=job.id, item=job.first, destination=f"g{id_}") for id_ in job.request_ids
        ]
        for request in requests:
            self.state.draft(item, request)
        self.state.create(OpenJob(job, {item.id: item}, Commands({}, ""), Policy.of({}, total)), requests)
        return job

    def after(self, id_: int, event: RequestEvent, **more: Any) -> Request:
        old = self.state.request(id_)
        new = old.after(event, AT, **more)
        self.state.write(old, new)
        return new

    def finish(self, job: Job) -> Job:
        """Send and answer all requests of a job, and end it."""
        for id_ in job.request_ids:
            self.after(id_, RequestEvent.SEND)
            self.after(id_, RequestEvent.SUCCEED, result={"code": 200})
        return self.state.settle(job.id, LATER)

    def message(self, id_: int) -> int:
        """A fresh message id for another sending of this request."""
        message = self.state.message_id(self.state.request(id_))
        assert message is not None
        return message

    def send_again(self, id_: int) -> int:
        """Refuse what was sent, and send it under a fresh message id."""
        message = self.message(id_)
        self.after(id_, RequestEvent.REFUSE, message=message)
        self.after(id_, RequestEvent.SEND)
        return message

    def commit(self) -> None:
        for job_id in self.state.touched():
            self.state.settle(job_id, LATER)
        self.store.commit(self.state.changes)
        self.state.committed()
