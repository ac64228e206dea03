"""What happens next: every decision about jobs and requests, and none of the doing.

The dispatcher calls a method for each thing that happened and then ``decide``; what was decided is
a ``Turn``: changes to make durable, and messages that may leave once they are. Jobs are the
lifecycle's, requests the delivery's. None of them knows a thread or a socket; ``begin`` reads the clock.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from puppetmaster.clock import Clock, Moment
from puppetmaster.engine.background import Chores, Crowd, Drafts
from puppetmaster.engine.delivery import Delivery
from puppetmaster.engine.lifecycle import Lifecycle
from puppetmaster.engine.presence import Presence
from puppetmaster.engine.state import State
from puppetmaster.errors import Unavailable
from puppetmaster.model.job import GateStatus, Job, JobStatus
from puppetmaster.model.message import Outgoing, Tried
from puppetmaster.model.policy import wave_of
from puppetmaster.model.reply import Reply
from puppetmaster.model.request import Item, Request, RequestStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.scheduling.scheduler import Scheduler
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes, Ids, Reader
from puppetmaster.timers import Timers


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


class Engine:
    """Decides. Called by one thread, the dispatcher's."""

    def __init__(self, settings: Settings, clock: Clock, reader: Reader, ids: Ids, tunnel: str) -> None:
        self.link_up = False
        self.controller_up = False
        #: Why nothing can be made durable; None when it can.
        self.stalled: str | None = None
        #: No timer fires: of what happened before its time not all is known yet.
        self.timers_held = False
        self.state = State(reader, ids)
        self.presence = Presence(settings.route)
        self.scheduler = Scheduler(
            settings.window,
            settings.lock_cache_s,
            settings.max_in_flight_per_owner,
            direct=self.presence.direct,
        )
        self.timers = Timers()
        self._moment = Moment(clock)
        # Two queues, so that a small job that may go does not wait until a large one is written, or ends.
        self._entering, self._chores = Chores(), Chores()
        self._delivery = Delivery(
            settings, self.state, self.scheduler, self.timers, self._moment, self.presence, tunnel
        )
        self._lifecycle = Lifecycle(
            settings,
            clock,
            self.state,
            self.scheduler,
            self.timers,
            self._moment,
            self._delivery,
            Crowd(self.state, self.scheduler, self._delivery, self._entering, self._chores),
            Drafts(self.state, self._chores),
            tunnel,
        )
        self.begin()

    @property
    def refusals(self) -> Counter[int]:
        """How often the controller refused a request, by code: since the start."""
        return self._delivery.refusals.counts

    @property
    def resent(self) -> int:
        """How many sendings were not a request's first: since the start."""
        return self._delivery.resent

    def begin(self) -> float:
        """A turn begins: the time is now. Seconds since the one before began."""
        before_s = self._moment.now_s
        self._moment.begin()
        self._entering.begin()
        self._chores.begin()
        self._delivery.begin()
        return self._moment.now_s - before_s

    @property
    def busy(self) -> bool:
        """Whether there is work left that needs another turn, though nothing happens."""
        return bool(self._entering) or bool(self._chores)

    # -- what callers ask for ---------------------------------------------------------------------

    def create(self, spec: JobSpec) -> Job:
        """A new job, or the one that exists under the same key. Raises Conflict, Unavailable."""
        existing = self._lifecycle.existing(spec)
        if existing is not None:
            return existing
        if self.stalled:
            raise Unavailable(f"No job can be created: {self.stalled}")
        return self._lifecycle.create(spec)

    def existing(self, spec: JobSpec) -> Job | None:
        """The job that exists under the same key. Raises Conflict when its body was another one."""
        return self._lifecycle.existing(spec)

    def begin_job(self, job_id: int) -> None:
        """Whoever created the job has its answer, or had time enough: its requests may be sent."""
        self._lifecycle.begin_job(job_id)

    def unwritten(self, job: Any) -> bool:
        """Whether this is a new job that is not on disk yet."""
        return isinstance(job, Job) and (self.drafting(job) or job.id in self.state.created)

    def drafting(self, job: Any) -> bool:
        """Whether this is a job that does not exist yet: it is still being written."""
        return isinstance(job, Job) and self._lifecycle.drafting(job.id)

    def control(self, job_id: int, wanted: JobStatus, *, force: bool) -> Job:
        """Pause, resume or cancel. Raises NotFound, Conflict, Unavailable."""
        self._check_writable()
        return self._lifecycle.control(job_id, wanted, force=force)

    def delete(self, job_id: int) -> Job:
        """Stop the job if it runs, and remove it: the job as it last was. Raises NotFound, Unavailable."""
        self._check_writable()
        return self._lifecycle.delete(job_id)

    def _check_writable(self) -> None:
        if self.stalled:
            raise Unavailable(f"Nothing was changed: {self.stalled}")

    def recover(self, job: Job, items: dict[int, Item], requests: list[Request]) -> None:
        """Take up a job that an earlier process left, with its requests that are not done."""
        self._lifecycle.recover(job, items, requests)

    def why(self, ids: Iterable[int]) -> dict[int, str | None]:
        """What each of these requests waits for; None for those that do not wait, or for an answer alone."""
        return {id_: self._why(id_) if self.state.knows(id_) else None for id_ in ids}

    def _why(self, id_: int) -> str | None:
        request = self.state.request(id_)
        if request.status is not RequestStatus.PENDING:
            away = self.presence.why_away(request.destination)
            return None if away is None else f"its gateway is {away}: it was sent before, and may have run"
        opened = self.state.opened_of(id_)
        why = self._why_job(opened.job, wave_of(opened.policy.waves, id_ - opened.job.first))
        if why is not None:
            return why
        if self.stalled:
            return self.stalled
        if not self.link_up:
            return "the bus is down"
        if not self.controller_up:
            return "the controller does not answer"
        return (
            self.scheduler.why(id_, self._moment.now_s)
            if self.scheduler.holds(id_)
            else "the job is about to begin"
        )

    def _why_job(self, job: Job, wave: int) -> str | None:
        """What keeps a request of this wave from its turn, if its job does."""
        if job.ending is not None:
            return f"the job is being stopped: {job.reason}"
        if job.status is JobStatus.PENDING:
            return f"the job starts at {job.start_at}"
        if job.status is JobStatus.PAUSED and job.gate is not GateStatus.CLOSED:
            return "the job is paused"
        if wave > job.wave:
            return f"wave {wave} waits for wave {wave - 1}" if job.gate is None else self._why_gate(job)
        return "the job is paused" if job.status is JobStatus.PAUSED else None

    def _why_gate(self, job: Job) -> str:
        if job.gate is GateStatus.CLOSED:
            return f"the gate is closed: {job.reason}"
        left_s = (self.timers.deadline_s(("soak", job.id)) or self._moment.now_s) - self._moment.now_s
        return f"wave {job.wave} is done and rests for another {max(left_s, 0):.0f} s"

    # -- what happens on the bus ------------------------------------------------------------------

    def answered(self, message: int, answer: Reply, tunnel: str = "") -> None:
        """An answer came for the message of this id; perhaps late, twice, or for nobody.

        ``tunnel`` is that of the gateway which sent it directly; empty: it came through our controller.
        """
        self._delivery.answered(message, answer, tunnel)

    def bridge(self, gateway: str, *, connected: bool | None, retained: bool = False) -> None:
        """A gateway's bridge is connected, or not; None: nothing says so any more."""
        self.presence.heard(gateway, connected, self._moment.at, retained=retained)
        self.scheduler.rerouted(gateway)

    def refused(self, *, presence: bool, direct: bool) -> None:
        """The broker does not let us see what bridges say, or hear what gateways answer directly."""
        self.presence.unseen |= presence
        self.presence.unheard |= direct

    def not_sent(self, message: int) -> None:
        """This message never left: its request waits again, and the attempt does not count."""
        self._delivery.not_sent(message)

    def link(self, *, up: bool, unsent: Iterable[int] = (), tried: Tried | None = None) -> None:
        """The connection to the broker came or went; what is in flight may have gone with it.

        The messages of these ids have not left: their requests wait again. ``tried`` is what it ended at.
        """
        self.link_up = up
        if up:  # whoever refused us may have other rules now
            self.presence.unseen = self.presence.unheard = False
        else:
            self.controller_up = False
            self._delivery.link_lost(unsent, tried)
            self.presence.forget_all()
            self.scheduler.forget_all()
            self._delivery.disbelieve()

    def controller(self, *, up: bool) -> None:
        """The controller answers, or it does not any more."""
        self.controller_up = up and self.link_up
        if self.controller_up:
            self._delivery.controller_up()

    def controller_restarted(self, known_s: float | None) -> None:
        """The controller has forgotten everybody; up to ``known_s`` it had not. None: it never knew us."""
        self._delivery.controller_restarted(known_s)

    def controller_knows(self, asked_s: float) -> None:
        """Asked at that time, as a turn wanted it to be, the controller knew us."""
        self._delivery.controller_knows(asked_s)

    def held(self, message: int, *, held: bool) -> None:
        """Whether the controller waits for the answer to a message, for which a turn asked."""
        self._delivery.held(message, held=held)

    def registering(self, resources: Iterable[str]) -> None:
        """A model asks the controller to register it with these resources."""
        self._delivery.registering(resources)

    def owners(self, destination: str, resources: Iterable[str] | None) -> None:
        """The controller's answer to a question of a turn; None: it knows no owner."""
        self.timers.cancel(("question", destination))
        self.scheduler.learn(destination, resources, self._moment.now_s)

    def clock_was_set(self) -> None:
        """The wall's clock says another time than before: what was noted by it is noted anew."""
        self._lifecycle.clock_was_set()

    # -- the end of a turn ------------------------------------------------------------------------

    def decide(self) -> Turn:
        """Fire what is due, send what may go, bring the jobs up to date: all of it in the turn."""
        if not self.timers_held:
            for key in self.timers.due(self._moment.now_s):
                self._fire(key)
        self._entering.work()
        self._chores.work()
        self._lifecycle.settle_all()
        if self.link_up and self.controller_up and not self.stalled:
            self._delivery.send()
            self._lifecycle.settle_all()
        delivery = self._delivery
        return Turn(
            self.state.changes,
            self.state.created,
            delivery.sends,
            delivery.questions,
            delivery.checks,
            delivery.proves,
        )

    def committed(self) -> None:
        """The turn is durable: the next one begins empty."""
        self.state.committed()
        self._delivery.committed()

    def stall(self, reason: str) -> list[int]:
        """Keep the turn, which could not be made durable, for the next try; nothing of it leaves.

        What was to be sent waits again. Jobs that were created in it do not exist: their ids are returned.
        """
        self.stalled = reason
        self._delivery.stall()
        revoked = self._lifecycle.revoke_created()
        self._lifecycle.settle_all()
        return revoked

    def _fire(self, key: Any) -> None:
        if isinstance(key, int):
            self._delivery.time_is_over(self.state.request(key))
            return
        what, whom = key
        if what == "wake":
            self.scheduler.wake(whom, self._moment.now_s)
        elif what == "pace":
            self.scheduler.pace_over(whom)
        elif what == "question":
            self._unanswered_question(whom)
        elif what == "overdue":
            self.scheduler.forget_overdue(self._moment.now_s)
        elif what == "room":
            return  # whoever waits for room in the window is sent at the end of this turn
        elif (opened := self.state.opened(whom)) is not None:
            self._lifecycle.fire(what, opened)

    def _unanswered_question(self, destination: str) -> None:
        if self.controller_up:
            self.scheduler.learn(destination, None, self._moment.now_s)
        else:
            self.scheduler.locks.ask_again(destination)
