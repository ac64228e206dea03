"""What has happened to a job: when, by whom and why. The oldest comes first; their number is bounded."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from puppetmaster.model.why import Said, code_of

#: The name in ``Event.by`` where no caller asked for it.
ITSELF = "puppetmaster"
#: Of more events these are kept: the first, and the latest. Their numbers show the gap.
FIRST, LATEST = 10, 90


class What(StrEnum):
    """What happened, ``event``."""

    CREATED = "created"
    DUE = "due"  #: its time to start has come
    STARTED = "started"  #: its first request was sent
    PAUSED = "paused"
    RESUMED = "resumed"  #: it goes on after a pause, or starts before its time
    GATE_CLOSED = "gateClosed"  #: the wave failed, and the next one waits until it is opened by hand
    WAVE_OPENED = "waveOpened"  #: a caller opened it over a failed gate, or puppetmaster after the last wave
    CANCELED = "canceled"  #: nothing more of it is sent; what is in flight may end
    ABORTED = "aborted"  #: the same, because too many requests failed
    TIMEOUT = "timeout"  #: its time is over
    ENDED = "ended"  #: all its requests have ended


class Event(NamedTuple):
    """One thing that happened to a job."""

    #: Its number in the job, from 1.
    number: int
    #: When, as ISO 8601.
    at: str
    what: What
    #: The name of the caller, or ``ITSELF``.
    by: str
    #: The status of the job after it.
    status: str
    #: The wave that it is about; None: about none.
    wave: int | None = None
    #: Why, as a sentence; None: there is no more to say.
    why: str | None = None

    def document(self) -> list[Any]:
        """The event as it is stored: short, because a job is written often."""
        return [self.number, self.at, self.what.value, self.by, self.status, self.wave, *self._why()]

    @classmethod
    def from_document(cls, document: Sequence[Any]) -> "Event":
        """The event that ``document()`` was made of."""
        number, at, what, by, status, wave, *why = document
        return cls(number, at, What(what), by, status, wave, Said(*why) if why else None)

    def _why(self) -> tuple[str, str | None] | tuple[()]:
        return () if self.why is None else (str(self.why), code_of(self.why))

    def view(self) -> dict[str, Any]:
        """The event object of the API."""
        return {
            "number": self.number,
            "at": self.at,
            "event": self.what.value,
            "by": self.by,
            "status": self.status,
            "wave": self.wave,
            "why": self.why,
            "whyCode": code_of(self.why),
        }


Events = tuple[Event, ...]


def with_event(events: Events, event: Event) -> Events:
    """These events and a later event. With too many of them, the oldest behind the ``FIRST`` is left out."""
    if len(events) < FIRST + LATEST:
        return (*events, event)
    return (*events[:FIRST], *events[FIRST + 1 :], event)
