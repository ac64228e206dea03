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
    """What happens when a timer fires; in brackets: the id that it is set for."""

    #: The answer to a request is not waited for any more (request).
    ANSWER = "answer"
    #: A request that waited for some time waits for its turn again (request).
    WAKE = "wake"
    #: The rate of a job allows another request (job).
    PACE = "pace"
    #: A question about locks was not answered (destination).
    QUESTION = "question"
    #: An owner of many gateways is not busy any more with what it did not answer (message).
    OVERDUE = "overdue"
    #: The window has room by itself (0).
    ROOM = "room"
    #: The timeout of a job is over (job).
    EXPIRE = "expire"
    #: Whoever created a job had time enough to get the answer (job).
    BEGIN = "begin"
    #: It is time to look whether a job starts (job).
    START = "start"
    #: A wave that is done has rested (job).
    SOAK = "soak"


class Timer(NamedTuple):
    """One timer of the engine."""

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
