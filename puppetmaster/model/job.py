"""A job: a batch of requests, its counts and its verdict.

As in model/request.py, the status changes only by an event that is looked up in ``TRANSITIONS``.
A job that was told to stop while requests are in flight keeps its status until the last of them
has ended; ``ending`` says which verdict it is on its way to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from puppetmaster.errors import IllegalTransition
from puppetmaster.model.policy import Policy
from puppetmaster.model.request import OPEN, RequestStatus
from puppetmaster.model.why import Reason, Said, code_of


class JobStatus(StrEnum):
    """Where a job is. Each says: what it means; who moves it on; what a crash leaves behind."""

    #: Not started: its start time has not come. Its timer starts it; a crash leaves it so.
    PENDING = "pending"
    #: Requests are sent as their turn comes, or the last in flight are let end. The end of its
    #: last request ends it; after a crash it goes on.
    DISPATCHING = "dispatching"
    #: Nothing is sent until it is resumed; what is in flight ends. A crash leaves it so.
    PAUSED = "paused"
    #: Every request was tried and ended. Final.
    RESOLVED = "resolved"
    #: Somebody stopped it. Final.
    CANCELED = "canceled"
    #: It stopped itself: too many failures, or a gate. Final.
    ABORTED = "aborted"
    #: Its own time was over. Final.
    TIMEOUT = "timeout"


class JobEvent(StrEnum):
    """What can happen to a job."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    WAIT = "wait"  #: it is resumed before its time to start
    FINISH = "finish"  #: every request was tried and ended
    CANCEL = "cancel"
    ABORT = "abort"  #: too many failures
    EXPIRE = "expire"  #: its own time is over


class GateStatus(StrEnum):
    """What stands between a wave that is done and the next one."""

    SOAK = "soak"  #: the wave passed, and rests
    CLOSED = "closed"  #: the wave failed; the job is paused until somebody resumes it


_S, _E = JobStatus, JobEvent

TRANSITIONS: Mapping[tuple[JobStatus, JobEvent], JobStatus] = {
    (_S.PENDING, _E.START): _S.DISPATCHING,
    (_S.DISPATCHING, _E.PAUSE): _S.PAUSED,
    (_S.PENDING, _E.PAUSE): _S.PAUSED,
    (_S.PAUSED, _E.RESUME): _S.DISPATCHING,
    (_S.PAUSED, _E.WAIT): _S.PENDING,
    (_S.DISPATCHING, _E.FINISH): _S.RESOLVED,
    (_S.PAUSED, _E.FINISH): _S.RESOLVED,
    **{(status, _E.CANCEL): _S.CANCELED for status in (_S.PENDING, _S.DISPATCHING, _S.PAUSED)},
    **{(status, _E.ABORT): _S.ABORTED for status in (_S.PENDING, _S.DISPATCHING, _S.PAUSED)},
    **{(status, _E.EXPIRE): _S.TIMEOUT for status in (_S.PENDING, _S.DISPATCHING, _S.PAUSED)},
}

#: Statuses of a job that has ended; the others are open.
FINAL = frozenset({_S.RESOLVED, _S.CANCELED, _S.ABORTED, _S.TIMEOUT})
OPEN_JOB = frozenset(_S) - FINAL
#: What a job ends as, by the event that ends it.
ENDS: Mapping[JobEvent, JobStatus] = {
    event: status for (_, event), status in TRANSITIONS.items() if status in FINAL
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One batch. A value: a change is a new one.

    Its requests have the ids ``first`` to ``first + total - 1``. ``given`` holds the optional
    properties of the API as they were given; policy.py reads them. ``summary`` says what it does, for lists:
    method and resource of its first item. ``digest`` is that of the body, for ``key``. ``boot`` and
    ``expires_s`` say when its time is over, by the monotonic clock of one start of the machine, ``timed_at``
    when it began to run (None: not yet). ``ended_boot`` and ``ended_s`` say by the same clock when it ended.
    ``wave`` is the open one, from 1, and ``wave_errors`` how many had
    failed before it.
    """

    id: int
    first: int
    total: int
    created_at: str
    name: str | None = None
    summary: str = ""
    key: str | None = None
    digest: str = ""
    parent: int | None = None
    started_at: str | None = None
    finished_at: str | None = None
    ended_boot: str = ""
    ended_s: float | None = None
    timeout_s: float | None = None
    boot: str = ""
    expires_s: float | None = None
    timed_at: str | None = None
    request_timeout_s: float
    start_at: str | None = None
    wave: int = 1
    wave_errors: int = 0
    gate: GateStatus | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    status: JobStatus = JobStatus.DISPATCHING
    ending: JobEvent | None = None
    reason: str | None = None
    counts: Mapping[RequestStatus, int]

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    @property
    def open_count(self) -> int:
        """How many of its requests are not done."""
        return sum(self.counts[status] for status in OPEN)

    @property
    def done_count(self) -> int:
        """How many of its requests are done."""
        return self.total - self.open_count

    @property
    def failed_count(self) -> int:
        """How many of its requests ended in any other way than resolved."""
        return self.done_count - self.counts[RequestStatus.RESOLVED]

    @property
    def request_ids(self) -> range:
        """The ids of its requests, in their order."""
        return range(self.first, self.first + self.total)

    def after(self, event: JobEvent, at: str, *, reason: str | None = None) -> "Job":
        """The job after ``event`` at ``at``. Raises IllegalTransition, as does an end with open requests."""
        status = TRANSITIONS.get((self.status, event))
        if status is None:
            raise IllegalTransition(f"job {self.id} is {self.status}: it cannot take the event '{event}'.")
        if status not in FINAL:
            return replace(self, status=status, reason=reason)
        if self.open_count:
            raise IllegalTransition(f"job {self.id} cannot end: {self.open_count} of its requests are open.")
        why = None if status is JobStatus.RESOLVED else reason or self.reason
        return replace(self, status=status, reason=why, finished_at=at, ending=None, gate=None)

    def stopping(self, event: JobEvent, reason: str) -> "Job":
        """The job on its way to the verdict of ``event``. The first verdict stands."""
        return self if self.ending else replace(self, ending=event, reason=reason)

    def tallied(self, deltas: Mapping[RequestStatus, int]) -> "Job":
        """The job with its counts changed by ``deltas``."""
        counts = {status: count + deltas.get(status, 0) for status, count in self.counts.items()}
        if min(counts.values()) < 0 or sum(counts.values()) != self.total:
            raise IllegalTransition(f"job {self.id}: the counts {counts} do not add up to {self.total}.")
        return replace(self, counts=counts)

    def document(self) -> dict[str, Any]:
        """The job as it is stored, under its id."""
        return {
            "first": self.first,
            "total": self.total,
            "createdAt": self.created_at,
            "name": self.name,
            "summary": self.summary,
            "key": self.key,
            "digest": self.digest,
            "parent": self.parent,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "endedBoot": self.ended_boot,
            "ended": self.ended_s,
            "timeout": self.timeout_s,
            "boot": self.boot,
            "expires": self.expires_s,
            "timedAt": self.timed_at,
            "requestTimeout": self.request_timeout_s,
            "startAt": self.start_at,
            "wave": self.wave,
            "waveErrors": self.wave_errors,
            "gate": self.gate and self.gate.value,
            "given": dict(self.given),
            "status": self.status.value,
            "ending": self.ending and self.ending.value,
            "reason": self.reason,
            "reasonCode": code_of(self.reason),
            "counts": {status.value: count for status, count in self.counts.items()},
        }

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Job":
        """The job that ``document()`` was made of."""
        return cls(
            id=id_,
            first=document["first"],
            total=document["total"],
            created_at=document["createdAt"],
            name=document["name"],
            summary=document.get("summary", ""),  # jobs of earlier versions have none
            key=document["key"],
            digest=document["digest"],
            parent=document["parent"],
            started_at=document["startedAt"],
            finished_at=document["finishedAt"],
            ended_boot=document.get("endedBoot", ""),  # jobs of earlier versions have none
            ended_s=document.get("ended"),
            timeout_s=document["timeout"],
            boot=document["boot"],
            expires_s=document["expires"],
            timed_at=document.get("timedAt", _timed_at(document)),
            request_timeout_s=document["requestTimeout"],
            start_at=document["startAt"],
            wave=document["wave"],
            wave_errors=document["waveErrors"],
            gate=GateStatus(document["gate"]) if document["gate"] else None,
            given=document["given"],
            status=JobStatus(document["status"]),
            ending=JobEvent(document["ending"]) if document["ending"] else None,
            reason=_reason(document),
            counts={status: document["counts"][status.value] for status in RequestStatus},
        )

    def view(self) -> dict[str, Any]:
        """The job object of the API, without ``requests`` and ``collection``."""
        return {
            "id": self.id,
            "name": self.name,
            "summary": self.summary,
            "key": self.key,
            "parent": self.parent,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "timeout": self.timeout_s,
            "status": self.status.value,
            "reason": self.reason,
            "reasonCode": code_of(self.reason),
            "ending": self.ending and ENDS[self.ending].value,
            "progress": self.done_count * 100 // self.total,
            "totalCount": self.total,
            "doneCount": self.done_count,
            "finishCount": self.counts[RequestStatus.RESOLVED],
            "errorCount": self.failed_count,
            "counts": {status.value: count for status, count in self.counts.items()},
            **self.given,
            **(self._waves() if "waves" in self.given else {}),
        }

    def _waves(self) -> dict[str, Any]:
        """Where its waves end, which one is open, and what stands before the next."""
        ends = Policy.of(self.given, self.total).waves
        return {"waveEnds": list(ends), "wave": self.wave, "gateStatus": self.gate}


def _timed_at(document: Mapping[str, Any]) -> str | None:
    """When a job of an earlier version began, which does not say so: when it was created, if it has begun."""
    began: str = document["createdAt"]
    return None if document["expires"] is None and document["status"] == JobStatus.PENDING else began


#: Why a job of an earlier version, which kept the sentence only, is as it is. What aborted it is not known.
_KEPT_REASONS = {
    JobStatus.CANCELED: Reason.CANCELED,
    JobStatus.TIMEOUT: Reason.TIMEOUT,
}


def _reason(document: Mapping[str, Any]) -> str | None:
    """Why a job is as it is, with its code."""
    text: str | None = document["reason"]
    if text is None:
        return None
    if "reasonCode" in document:
        return Said(text, document["reasonCode"])
    if document["gate"] == GateStatus.CLOSED:
        return Said(text, Reason.GATE.value)
    ending = document["ending"]
    status = ENDS[JobEvent(ending)] if ending else JobStatus(document["status"])
    return Said(text, _KEPT_REASONS[status].value if status in _KEPT_REASONS else None)


def fresh_counts(total: int) -> dict[RequestStatus, int]:
    """The counts of a job of ``total`` requests that was just created."""
    return {status: total if status is RequestStatus.PENDING else 0 for status in RequestStatus}
