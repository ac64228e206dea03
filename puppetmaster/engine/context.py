"""What the parts of the engine share: settings, state, timers, and the turn at hand."""

from dataclasses import dataclass, field

from puppetmaster.clock import Moment
from puppetmaster.engine.presence import Presence
from puppetmaster.engine.registered import Registered
from puppetmaster.engine.state import State
from puppetmaster.engine.timer import Timer
from puppetmaster.model.gateway import Relabelled
from puppetmaster.model.job import Job
from puppetmaster.model.message import Outgoing
from puppetmaster.model.timeline import Event
from puppetmaster.scheduling.scheduler import Scheduler
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes
from puppetmaster.timers import Timers


@dataclass(slots=True)
class Turn:
    """What one turn of the dispatcher decided. It is committed as a whole, and acted on after that."""

    #: What is to be made durable.
    changes: Changes
    #: Ids of the jobs that were created.
    created: set[int]
    #: What happened to jobs, each with the job after it.
    happened: list[tuple[Job, Event]]
    #: What happened to labels and notes of gateways.
    relabelled: list[Relabelled]
    #: The messages to send.
    sends: list[Outgoing] = field(default_factory=list)
    #: Destinations whose owner the controller is to be asked for.
    questions: list[str] = field(default_factory=list)
    #: Gateways of which the controller is to be asked whether they are registered.
    inquiries: list[str] = field(default_factory=list)
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
    registered: Registered
    #: The topic to which our controller sends answers.
    tunnel: str
    timers: Timers[Timer] = field(default_factory=Timers)
    #: What this turn has decided so far.
    turn: Turn = field(init=False)

    def __post_init__(self) -> None:
        self.turn = self._empty()

    def committed(self) -> None:
        """Begin an empty turn, because the last one is on disk."""
        self.state.committed()
        self.turn = self._empty()

    def _empty(self) -> Turn:
        state = self.state
        return Turn(state.changes, state.created, state.happened, state.relabelled)
