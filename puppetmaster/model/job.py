"""A job: a batch of requests, its counts and its verdict.

As in model/request.py, the status changes only by an event that is looked up in ``TRANSITIONS``. A job that
is stopped while requests are in flight keeps its status until the last of them has ended; meanwhile
``ending`` says how it will end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from puppetmaster.errors import IllegalTransition
from puppetmaster.model.policy import Policy
from puppetmaster.model.request import FAILURES, OPEN, RequestStatus
from puppetmaster.model.timeline import ITSELF, Event, Events, What, with_event
from puppetmaster.model.why import Reason, Said, code_of


class JobStatus(StrEnum):
    """The status of a job. Each comment says what it means, what changes it, and what it is after a crash."""

    #: The job's start time has not come. A timer starts it. After a crash it is still pending.
    PENDING = "pending"
    #: Requests are sent when their turn comes, or the job stops and its last requests are in flight. The end
    #: of the last request ends the job. After a crash it goes on.
    DISPATCHING = "dispatching"
    #: No request is sent until the job is resumed; requests in flight end. After a crash it is still paused.
    PAUSED = "paused"
    #: Every request was tried and has ended. Final.
    RESOLVED = "resolved"
    #: A caller stopped the job. Final.
    CANCELED = "canceled"
    #: The job stopped because of too many failures, or because of a gate. Final.
    ABORTED = "aborted"
    #: The job took longer than its timeout. Final.
    TIMEOUT = "timeout"


class JobEvent(StrEnum):
    """What can happen to a job."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    WAIT = "wait"  #: the job is resumed before its start time
    FINISH = "finish"  #: every request was tried and has ended
    CANCEL = "cancel"
    ABORT = "abort"  #: too many requests failed, or a gate did not open
    EXPIRE = "expire"  #: the job's timeout is over


class GateStatus(StrEnum):
    """The gate between a wave that is done and the next one."""

    SOAK = "soak"  #: the wave passed, and the gate waits for its soak time
    CLOSED = "closed"  #: the wave failed; the job is paused until a caller resumes it


@dataclass(frozen=True, slots=True)
class OpenedGate:
    """A gate that failed, and that a caller opened."""

    #: Number of the wave in front of it, from 1.
    wave: int
    #: How many requests of that wave had failed; with ``onFail`` stop, how many gateways.
    failed: int
    #: When it was opened.
    at: str

    def document(self) -> dict[str, Any]:
        """The gate as it is stored, and as the API shows it."""
        return {"wave": self.wave, "failed": self.failed, "at": self.at}


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
    """One batch. An immutable value: each change makes a new one. Times in text are ISO 8601."""

    id: int
    #: Id of its first request; the others follow, up to ``first + total - 1``.
    first: int
    #: Number of its requests.
    total: int
    created_at: str
    #: Who created it; None: an earlier version did not keep that.
    created_by: str | None = None
    #: What has happened to it.
    events: Events = ()
    #: None: it has no name.
    name: str | None = None
    #: Method and resource of its first item, for lists.
    summary: str = ""
    #: The idempotency key; None: it has none.
    key: str | None = None
    #: Digest of the body that it was created from, to be compared when ``key`` comes again.
    digest: str = ""
    #: Id of the job that it runs again; None: it is no rerun.
    parent: int | None = None
    #: Id of the template that it was started from; None: it was started from none.
    template: int | None = None
    #: When its first request was sent; None: not yet.
    started_at: str | None = None
    #: When it ended; None: not yet.
    finished_at: str | None = None
    #: When it ended: the boot id of the machine, and seconds of the monotonic clock of that boot. Empty and
    #: None: not yet, or it ended under a version that did not keep this.
    ended_boot: str = ""
    ended_s: float | None = None
    #: How long it may take; None: no limit.
    timeout_s: float | None = None
    #: When its timeout is over: the boot id of the machine, and seconds of the monotonic clock of that boot.
    #: None: no limit, or its time has not begun.
    boot: str = ""
    expires_s: float | None = None
    #: When its time began to run; None: not yet.
    timed_at: str | None = None
    #: How long each of its requests may take.
    request_timeout_s: float
    #: When it is to start; None: at once.
    start_at: str | None = None
    #: Number of the open wave, from 1.
    wave: int = 1
    #: How many of its requests had failed before the open wave.
    wave_errors: int = 0
    #: The gate behind the open wave; None: that wave is not done.
    gate: GateStatus | None = None
    #: How many gateways it has; None: nothing of it counts them.
    gateways: int | None = None
    #: The number of requests at which each wave ends; None: its waves are not counted in gateways.
    wave_ends: tuple[int, ...] | None = None
    #: The gates that failed and that callers opened, in the order of the waves.
    opened_gates: tuple[OpenedGate, ...] = ()
    #: The optional properties of the API, as they were given; ``model.policy`` reads them.
    given: Mapping[str, Any] = field(default_factory=dict)
    status: JobStatus = JobStatus.DISPATCHING
    #: The event that will end it once its requests in flight have ended; None: it is not being stopped.
    ending: JobEvent | None = None
    #: Why it is paused or was stopped, as a sentence; None: neither, or a caller gave no reason.
    reason: str | None = None
    #: Number of its requests by status; every status is there.
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
    def failed_gateways(self) -> int:
        """How many of its gateways had a request that failed, when each has one at most (``onFail``)."""
        return sum(self.counts[status] for status in FAILURES)

    @property
    def failures(self) -> int:
        """How many failed of what a gate counts."""
        return self.failed_gateways if self.policy.stops else self.failed_count

    @property
    def policy(self) -> Policy:
        """How it is rolled out."""
        return Policy.of(self.given, self.total, self.gateways, self.wave_ends)

    @property
    def request_ids(self) -> range:
        """The ids of its requests, in their order."""
        return range(self.first, self.first + self.total)

    def after(self, event: JobEvent, at: str, *, reason: str | None = None) -> "Job":
        """The job after ``event`` at the time ``at``.

        Raises IllegalTransition: the job cannot take this event, or would end with open requests.
        """
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
        """The job with ``event`` as its ``ending``. A job that is being stopped already stays as it is."""
        return self if self.ending else replace(self, ending=event, reason=reason)

    def noted(
        self, what: What, at: str, *, by: str = ITSELF, wave: int | None = None, why: str | None = None
    ) -> "Job":
        """The job with another event."""
        number = self.events[-1].number + 1 if self.events else 1
        event = Event(number, at, what, by, self.status.value, wave, why)
        return replace(self, events=with_event(self.events, event))

    def opened_by_hand(self, at: str) -> "Job":
        """The job with the next wave open, though the gate in front of it failed."""
        gate = OpenedGate(self.wave, self.failures - self.wave_errors, at)
        return replace(self, opened_gates=(*self.opened_gates, gate)).in_next_wave()

    def in_next_wave(self) -> "Job":
        """The job with the next wave open."""
        return replace(self, wave=self.wave + 1, wave_errors=self.failures, gate=None)

    def tallied(self, deltas: Mapping[RequestStatus, int]) -> "Job":
        """The job with ``deltas`` added to its counts. Raises IllegalTransition: they would not add up."""
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
            "createdBy": self.created_by,
            "name": self.name,
            "summary": self.summary,
            "key": self.key,
            "digest": self.digest,
            "parent": self.parent,
            **({} if self.template is None else {"template": self.template}),
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
            **({} if self.gateways is None else {"gateways": self.gateways}),
            **({} if self.wave_ends is None else {"waveEnds": list(self.wave_ends)}),
            "openedGates": [gate.document() for gate in self.opened_gates],
            "given": dict(self.given),
            "status": self.status.value,
            "ending": self.ending and self.ending.value,
            "reason": self.reason,
            "reasonCode": code_of(self.reason),
            "counts": {status.value: count for status, count in self.counts.items()},
            "events": [event.document() for event in self.events],
        }

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Job":
        """The job that ``document()`` was made of."""
        return cls(
            id=id_,
            first=document["first"],
            total=document["total"],
            created_at=document["createdAt"],
            created_by=document.get("createdBy"),  # jobs of earlier versions have neither
            events=tuple(map(Event.from_document, document.get("events", ()))),
            name=document["name"],
            summary=document.get("summary", ""),  # jobs of earlier versions have none
            key=document["key"],
            digest=document["digest"],
            parent=document["parent"],
            template=document.get("template"),
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
            gateways=document.get("gateways"),
            wave_ends=tuple(document["waveEnds"]) if "waveEnds" in document else None,
            # Jobs of earlier versions have none.
            opened_gates=tuple(OpenedGate(**gate) for gate in document.get("openedGates", ())),
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
            "template": self.template,
            "createdAt": self.created_at,
            "createdBy": self.created_by,
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
        """Where its waves end, which one is open, what stands before the next, what was opened by hand."""
        return {
            "waveEnds": list(self.policy.waves),
            "wave": self.wave,
            "gateStatus": self.gate,
            "openedGates": [gate.document() for gate in self.opened_gates],
        }


def _timed_at(document: Mapping[str, Any]) -> str | None:
    """``timed_at`` of a job of an earlier version, which did not keep it: its creation, if it has begun."""
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
