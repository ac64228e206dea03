"""What the parts of the engine share: what is known, the time of the turn, and what wants to leave."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from puppetmaster.clock import Moment
from puppetmaster.engine.presence import Presence
from puppetmaster.engine.state import State
from puppetmaster.model.message import Outgoing
from puppetmaster.scheduling.scheduler import Scheduler
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes
from puppetmaster.timers import Timers


class TimerKind(StrEnum):
    """What has come when a timer fires; in brackets: whose id it has."""

    ANSWER = "answer"  # the end of waiting for an answer (request)
    WAKE = "wake"  # the end of the delay of a request that waits for its turn again then (request)
    PACE = "pace"  # the time at which the rate of a job allows another request (job)
    QUESTION = "question"  # the end of waiting for who owns a destination (destination)
    OVERDUE = "overdue"  # the end of the time that an owner is busy with what it did not answer (message)
    ROOM = "room"  # the time at which the window has room by itself (0: there is one window)
    EXPIRE = "expire"  # the timeout of a job (job)
    BEGIN = "begin"  # the time by which whoever created a job has the answer (job)
    START = "start"  # the time to look whether a job starts (job)
    SOAK = "soak"  # the end of the rest after a wave (job)


class Timer(NamedTuple):
    """The key of a timer of the engine."""

    kind: TimerKind
    id: int | str


@dataclass(slots=True)
class Turn:
    """What one turn of the dispatcher decided: durable as a whole first, acted on after."""

    changes: Changes
    created: set[int]
    sends: list[Outgoing] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    #: Of the answers to these messages the controller is asked whether it waits for them.
    checks: list[int] = field(default_factory=list)
    #: The controller is asked whether it knows us.
    proves: bool = False


@dataclass(slots=True, eq=False)
class Context:
    """All that a decision is made with. Used by one thread, the dispatcher's."""

    settings: Settings
    moment: Moment
    state: State
    scheduler: Scheduler
    presence: Presence
    #: The topic that answers through our controller come to.
    tunnel: str
    timers: Timers[Timer] = field(default_factory=Timers)
    #: The turn at hand.
    turn: Turn = field(init=False)

    def __post_init__(self) -> None:
        self.turn = Turn(self.state.changes, self.state.created)

    def committed(self) -> None:
        """The turn is durable: the next one begins empty."""
        self.state.committed()
        self.turn = Turn(self.state.changes, self.state.created)
