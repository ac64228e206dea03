"""Why a request waits, and why a job is as it is: codes for programs, each with its sentence for people.

A sentence is a text that knows its code (``Said``). Programs look at codes; sentences may be put better.
"""

from enum import StrEnum


class Said(str):
    """A sentence with its code. Where a text is wanted it is one."""

    __slots__ = ("code",)

    code: str | None

    def __new__(cls, text: str, code: str | None) -> "Said":
        """``code``: None for a sentence of which only the text is known."""
        said = super().__new__(cls, text)
        said.code = code
        return said


def code_of(text: str | None) -> str | None:
    """The code of a sentence; None: there is no sentence, or it was kept by a version without codes."""
    return text.code if isinstance(text, Said) else None


class _Code(StrEnum):
    """A code with its sentence, in which braces stand for what differs from one time to another."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> "_Code":
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    def said(self, **values: object) -> Said:
        """Its sentence with these values."""
        return Said(self.sentence.format(**values), self.value)


class Why(_Code):
    """What a request waits for, ``whyCode``; the last member is for requests in flight."""

    # -- its job
    BEGINNING = "beginning", "the job is about to begin"
    START = "start", "the job starts at {at}"
    PAUSED = "paused", "the job is paused"
    MAINTENANCE = "maintenance", "it waits for the maintenance window at {at}"
    STOPPING = "stopping", "the job is being stopped: {reason}"
    WAVE = "wave", "wave {wave} waits for wave {before}"
    SOAK = "soak", "wave {wave} is done and rests for another {left_s:.0f} s"
    GATE = "gate", "the gate is closed: {reason}"
    CONCURRENCY = (
        "concurrency",
        "no free slot: the job has {in_flight} in flight, which is its concurrency",
    )
    RATE = "rate", "the job's rate is {rate:g} per second"
    DRY_RUN = "dryRun", "nothing: this is a dry run"
    # -- room among all jobs
    NEXT = "next", "next to be sent"
    MOST = "most", "no free slot: {in_flight} requests are in flight, which is the most"
    RESERVED = (
        "reserved",
        "no free slot: {in_flight} requests are in flight, "
        "and the last {kept} slots are for jobs that have none",
    )
    WINDOW = "window", "no free slot: {in_flight} requests are in flight, which is the window now"
    # -- its gateway, and who owns that
    DESTINATION = "destination", "request {request} of job {job} to the same destination is {state}"
    STEP = "step", "request {request} of this job to the same gateway has not ended"
    ABSENT = "absent", "{away}: waited for until {until}"
    RETRY = "retry", "the last attempt failed"
    ASKING = "asking", "the controller is asked who owns its lock"
    OUR_LOCK = "ourLock", "request {request} holds the lock of {domain}"
    LOCKED = "locked", "locked by somebody else"
    LOCKED_THERE = "lockedThere", "locked by somebody else at the gateway"
    LATE_LOCK = (
        "lateLock",
        "locked by request {request}, which was not answered in its time, until its owner's ttl is over",
    )
    ID_USED = "idUsed", "somebody else uses its message id"
    UNREGISTERED = (
        "unregistered",
        "the controller, which has just restarted, does not know the gateway yet",
    )
    OWNER_SILENT = (
        "ownerSilent",
        "the owner of {domain} answers nothing: {busy} requests are in flight there",
    )
    OWNER_BUSY = (
        "ownerBusy",
        "{busy} requests are in flight at the owner of {domain}: as many as it works on",
    )
    # -- all that is around
    BUS = "bus", "the bus is down"
    BROKER_SLOW = "brokerSlow", "the broker has yet to take what was sent before"
    CONTROLLER = "controller", "the controller does not answer"
    STORE = "store", "{reason}"
    NOT_KNOWN = "notKnown", "puppetmaster is stopping or busy, and cannot say"
    AWAY = "away", "its gateway is {away}: it was sent before, and may have run"


class Reason(_Code):
    """Why a job is as it is, ``reasonCode``."""

    PAUSED = "paused", "paused by a request"
    IMPORTED = (
        "imported",
        "it was imported, and what waits may have run since the export: resume it, or cancel it",
    )
    COPIED = (
        "copied",
        "the store is a copy, and what waits may have run since it was made: resume it, or cancel it",
    )
    CANCELED = "canceled", "canceled by a request"
    FORCED = "forced", "canceled by a request, and what was in flight was not waited for"
    REMOVED = "removed", "removed by a request"
    TIMEOUT = "timeout", "its timeout of {timeout_s:g} s is over"
    ERRORS = "errors", "{failed} of {done} {what} failed, and at most {errors} may"
    GATE = (
        "gate",
        "wave {wave} failed its gate: {failed} of {size} {what} failed, and at most {errors} may",
    )
