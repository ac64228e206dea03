"""What the parts of the engine share: settings, state, timers, and the turn at hand."""

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
    """What it means that a timer fires. The word in brackets says what its id is an id of."""

    ANSWER = "answer"  # an answer is not waited for any longer (request)
    WAKE = "wake"  # a delay is over, and the request waits for its turn again (request)
    PACE = "pace"  # the rate of a job allows another request (job)
    QUESTION = "question"  # the controller has not said who owns a destination (destination)
    OVERDUE = "overdue"  # an owner is not busy any longer with a command that it did not answer (message)
    ROOM = "room"  # the window has room again without an answer (0: there is one window)
    EXPIRE = "expire"  # the timeout of a job is over (job)
    BEGIN = "begin"  # a new job is not held any longer for the answer to its creator (job)
    ABSENT = "absent"  # a gateway that is away is not waited for any longer (request)
    BACK = "back"  # a gateway that was away is tried (destination)
    ASK = "ask"  # gateways that are away are to be asked for (0: those whose time has come)
    START = "start"  # look whether a job starts (job)
    SOAK = "soak"  # the rest after a wave is over (job)


class Timer(NamedTuple):
    """The key of a timer of the engine."""

    kind: TimerKind
    id: int | str


@dataclass(slots=True)
class Turn:
    """What one turn of the dispatcher decided. It is committed as a whole, and acted on after that."""

    #: What is to be made durable.
    changes: Changes
    #: Ids of the jobs that were created.
    created: set[int]
    #: The messages to send.
    sends: list[Outgoing] = field(default_factory=list)
    #: Destinations whose owner the controller is to be asked for.
    questions: list[str] = field(default_factory=list)
    #: Message ids: the controller is to be asked whether it waits for their answers.
    checks: list[int] = field(default_factory=list)
    #: Whether the controller is to be asked if it knows us.
    proves: bool = False


@dataclass(slots=True, eq=False)
class Context:
    """What the engine decides with. One thread uses it: the dispatcher's."""

    settings: Settings
    moment: Moment
    state: State
    scheduler: Scheduler
    presence: Presence
    #: The topic to which our controller sends answers.
    tunnel: str
    timers: Timers[Timer] = field(default_factory=Timers)
    #: What this turn has decided so far.
    turn: Turn = field(init=False)

    def __post_init__(self) -> None:
        self.turn = Turn(self.state.changes, self.state.created)

    def committed(self) -> None:
        """Begin an empty turn, because the last one is on disk."""
        self.state.committed()
        self.turn = Turn(self.state.changes, self.state.created)
