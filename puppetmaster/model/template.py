"""A template: a job that is kept to be started again, by hand or by a schedule, and what a schedule decides.

A start is *due* at a time of the schedule. On each that has come it is decided once: ``Record.decided_s``
says up to where, by the wall clock. The record is written in the transaction that creates the job, so that no
crash starts a due time twice or forgets it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from puppetmaster.clock import is_known, iso
from puppetmaster.model.cron import Cron

#: A start that is later than this was missed.
GRACE_S = 60.0
#: When the wall clock is set back by less than this, no time counts again until the clock has passed where it
#: was. When it is set back further, it was wrong before: what is to come then is due again, unless it has a
#: job.
BACK_S = 3600.0
#: Most missed starts that are counted at once.
MOST_COUNTED = 1000


class Missed(StrEnum):
    """What becomes of a start at whose time the program was down, or stood still."""

    SKIP = "skip"  #: it is told, and left out
    RUN = "run"  #: it is made up for: one job, however many were missed


class Overlap(StrEnum):
    """What becomes of a start at whose time a job of the template has not ended."""

    SKIP = "skip"  #: it is told, and left out
    QUEUE = "queue"  #: it waits until that job has ended; one waits at most


class Outcome(StrEnum):
    """What has become of a start."""

    STARTED = "started"
    QUEUED = "queued"
    MISSED = "missed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a template starts by itself."""

    cron: str
    timezone: str = "UTC"
    enabled: bool = True
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.SKIP

    @property
    def times(self) -> Cron:
        """Its times."""
        return Cron(self.cron, self.timezone)

    def document(self) -> dict[str, Any]:
        """The schedule as it is stored, and as the API shows it."""
        return {
            "cron": self.cron,
            "timezone": self.timezone,
            "enabled": self.enabled,
            "missed": self.missed.value,
            "overlap": self.overlap.value,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Schedule":
        """The schedule that ``document()`` was made of. What is not there has its default."""
        return cls(
            cron=document["cron"],
            timezone=document.get("timezone", "UTC"),
            enabled=document.get("enabled", True),
            missed=Missed(document.get("missed", Missed.SKIP)),
            overlap=Overlap(document.get("overlap", Overlap.SKIP)),
        )


class Told(NamedTuple):
    """What has become of a start, or of several."""

    outcome: Outcome
    #: When it was due, as ISO 8601; of several the last.
    due_at: str
    #: In a sentence.
    message: str
    #: How many they are.
    many: int = 1

    def view(self, at: str) -> dict[str, Any]:
        """As the record keeps it, and the API shows it; told at ``at``."""
        return {"at": at, "dueAt": self.due_at, "outcome": self.outcome.value, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What has become of a template's starts."""

    #: All starts up to this time (wall clock) are decided on.
    decided_s: float
    #: The due time of the start that waits for a job to end; None: none waits.
    queued_s: float | None = None
    #: The id of the latest job; None: there was none.
    last_job: int | None = None
    #: What has become of the latest start; None: none was due.
    last: Mapping[str, Any] | None = None
    #: How many starts by the schedule had each outcome.
    counts: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The record as it is stored."""
        return {
            "decided": self.decided_s,
            "queued": self.queued_s,
            "lastJob": self.last_job,
            "last": None if self.last is None else dict(self.last),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Record":
        """The record that ``document()`` was made of."""
        return cls(
            decided_s=document["decided"],
            queued_s=document["queued"],
            last_job=document["lastJob"],
            last=document["last"],
            counts=document["counts"],
        )

    def telling(self, told: Told, at: str) -> "Record":
        """The record with what was told at ``at``."""
        counts = {**self.counts, told.outcome.value: self.counts.get(told.outcome.value, 0) + told.many}
        return replace(self, last=told.view(at), counts=counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A job that is kept to be started again. An immutable value."""

    id: int
    #: No other template has it.
    name: str
    #: The body of POST /jobs that it starts, as it was given.
    job: Mapping[str, Any]
    #: None: it starts by hand only.
    schedule: Schedule | None = None
    record: Record

    @property
    def scheduled(self) -> bool:
        """Whether it starts by itself."""
        return self.schedule is not None and self.schedule.enabled

    def document(self) -> dict[str, Any]:
        """The template as it is stored, under its id."""
        return {
            "name": self.name,
            "job": dict(self.job),
            "schedule": None if self.schedule is None else self.schedule.document(),
            "record": self.record.document(),
        }

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Template":
        """The template that ``document()`` was made of."""
        schedule = document["schedule"]
        return cls(
            id=id_,
            name=document["name"],
            job=document["job"],
            schedule=None if schedule is None else Schedule.from_document(schedule),
            record=Record.from_document(document["record"]),
        )

    def upcoming(self, wall_s: float, count: int) -> list[float]:
        """The next times of its schedule after ``wall_s``, also when that is off; none: it has none."""
        if self.schedule is None or not is_known(wall_s):
            return []
        decided_s = self.record.decided_s
        from_s = decided_s if wall_s < decided_s <= wall_s + BACK_S else wall_s
        return self.schedule.times.passed(from_s, float("inf"), count)

    def key_of(self, due_s: float) -> str:
        """The idempotency key of the job that is started for a due time."""
        return f"template {self.id}: {iso(due_s)}"

    def held(self, why: str, at: str) -> "Template":
        """The template with its schedule off, because of ``why``: see ``last``."""
        if not self.scheduled or self.schedule is None:
            return self
        told = Told(Outcome.SKIPPED, at, f"the schedule was switched off: {why}", 0)
        record = replace(self.record.telling(told, at), queued_s=None)
        return replace(self, schedule=replace(self.schedule, enabled=False), record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTemplate:
    """What a caller puts: a template, or its new name, job or schedule."""

    #: None: it stays.
    name: str | None = None
    #: None: it stays.
    job: Mapping[str, Any] | None = None
    #: None: it has none any more, if ``schedules``.
    schedule: Schedule | None = None
    #: Whether ``schedule`` counts.
    schedules: bool = False

    def onto(self, known: Template, wall_s: float) -> Template:
        """The template after that. A schedule that is new or on again begins at ``wall_s``."""
        schedule = self.schedule if self.schedules else known.schedule
        record = known.record
        if schedule != known.schedule:
            record = replace(record, queued_s=None)
            if schedule is not None and not _same_times(schedule, known.schedule):
                record = replace(record, decided_s=wall_s)
        return replace(
            known,
            name=known.name if self.name is None else self.name,
            job=known.job if self.job is None else self.job,
            schedule=schedule,
            record=record,
        )


def _same_times(new: Schedule, old: Schedule | None) -> bool:
    return old is not None and (new.cron, new.timezone, new.enabled) == (old.cron, old.timezone, old.enabled)


class Decision(NamedTuple):
    """What is decided on the starts of a template that have come."""

    #: The record with that, but without the start and what is told.
    record: Record
    #: The due time for which a job is to be started now; None: none is.
    start_s: float | None = None
    #: What is told.
    told: tuple[Told, ...] = ()


def decide(schedule: Schedule, record: Record, wall_s: float, running: int | None) -> Decision:
    """Decide on all starts that have come at ``wall_s`` by the wall clock.

    ``running``: a job of the template that has not ended; None: there is none.
    """
    if not is_known(wall_s):
        return Decision(record)
    if not is_known(record.decided_s) or record.decided_s - wall_s > BACK_S:
        record = replace(record, decided_s=wall_s)  # a clock was wrong then
    queued_s = record.queued_s if running is None else None
    if queued_s is not None:
        record = replace(record, queued_s=None)
    passed = schedule.times.passed(record.decided_s, wall_s, MOST_COUNTED)
    if not passed:
        return Decision(record, queued_s)
    due_s = passed[-1]
    if len(passed) == MOST_COUNTED:
        due_s = schedule.times.last(wall_s) or due_s
    record = replace(record, decided_s=due_s)
    late = wall_s - due_s > GRACE_S
    runs = not late or schedule.missed is Missed.RUN
    missed = len(passed) - 1 if runs else len(passed)
    told = () if not missed else (_missed(passed, missed, due_s, runs=runs),)
    if not runs:
        return Decision(record, queued_s, told)
    if running is None and queued_s is None:
        return Decision(record, due_s, told)
    return _overlapping(schedule, record, due_s, running, queued_s, told)


def _missed(passed: list[float], missed: int, due_s: float, *, runs: bool) -> Told:
    last_at = iso(passed[-2] if runs else due_s)
    many = f"{missed} starts were" if missed > 1 else "1 start was"
    more = " or more" if len(passed) == MOST_COUNTED else ""
    rest = "; the last one is made up for" if runs else ""
    return Told(
        Outcome.MISSED,
        last_at,
        f"{many}{more} missed from {iso(passed[0])} on: nothing ran here, or the clock was set{rest}",
        missed,
    )


def _overlapping(
    schedule: Schedule,
    record: Record,
    due_s: float,
    running: int | None,
    queued_s: float | None,
    told: tuple[Told, ...],
) -> Decision:
    """What becomes of a start while a job runs, or is started now for another due time (``queued_s``)."""
    busy = "the start before it begins only now" if running is None else f"job {running} has not ended"
    if schedule.overlap is Overlap.QUEUE and record.queued_s is None:
        waits = Told(Outcome.QUEUED, iso(due_s), f"{busy}: it starts after that")
        return Decision(replace(record, queued_s=due_s), queued_s, (*told, waits))
    waiting = ", and one start waits already" if record.queued_s is not None else ""
    skipped = Told(Outcome.SKIPPED, iso(due_s), f"not started: {busy}{waiting}")
    return Decision(record, queued_s, (*told, skipped))
