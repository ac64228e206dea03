"""What happens next: every decision about jobs and requests, and none of the doing.

The dispatcher calls a method for each thing that happened and then ``turn``; what was decided is
a ``Turn``: changes to make durable, and messages that may leave once they are. Jobs are the
lifecycle's, requests the delivery's. None of them knows a thread or a socket; ``begin`` reads the clock.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from puppetmaster.clock import Clock, Moment, seconds
from puppetmaster.engine.background import Background
from puppetmaster.engine.context import Context, Timer, TimerKind, Turn
from puppetmaster.engine.delivery import Delivery
from puppetmaster.engine.lifecycle import Lifecycle
from puppetmaster.engine.presence import Presence
from puppetmaster.engine.state import State
from puppetmaster.errors import StoreError, Unavailable
from puppetmaster.jsoncodec import FEW_BYTES
from puppetmaster.model.job import FINAL, GateStatus, Job, JobStatus
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity, Tried
from puppetmaster.model.policy import wave_of
from puppetmaster.model.request import OPEN, RequestStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.model.why import Said, Why, code_of
from puppetmaster.scheduling.scheduler import Scheduler
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes, Ids, Reader

ENDED_REQUESTS = [status for status in RequestStatus if status not in OPEN]
BROKER_IS_SLOW = Why.BROKER_SLOW.said()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things stand, in figures."""

    #: Why nothing can be made durable; None when it can.
    stalled: str | None
    controller_up: bool
    open_jobs: int
    open_requests: int
    #: Request ids that are left for new jobs.
    ids_left: int
    #: Requests in flight, and the most that may be at present.
    in_flight: int
    window: int
    #: Since the start: how often the controller refused a request, by code; sendings after a request's first.
    refusals: dict[int, int]
    resent: int
    #: Requests and jobs that have ended since the start, by their status then.
    ended_requests: dict[str, int]
    ended_jobs: dict[str, int]
    #: How long the oldest request waits, of the jobs that are being sent; 0: no request waits.
    oldest_waiting_s: float
    #: Gateways whose bridges say that they are there, or not; how often that changed since the start.
    connected: int
    away: int
    changes: int
    #: The broker does not let us see what bridges say; the ``route`` that is in force.
    unseen: bool
    route: str
    #: By domain of an owner of many gateways: most requests that it is given, and how many it is busy with.
    owners: dict[str, tuple[int, int]]


class Engine:
    """Decides. Called by one thread, the dispatcher's."""

    def __init__(self, settings: Settings, clock: Clock, reader: Reader, ids: Ids, tunnel: str) -> None:
        self.clock = clock
        self.link_up = False
        self.controller_up = False
        #: Why nothing can be made durable; None when it can.
        self.stalled: str | None = None
        #: Before this the store, which could not be written, is not tried again.
        self.retry_s = 0.0
        #: No timer fires: of what happened before its time not all is known yet.
        self.timers_held = False
        #: How many bytes of what was sent wait in memory for the broker to take them.
        self.waiting_bytes = 0
        self.presence = Presence(settings.route)
        self.scheduler = Scheduler(
            settings.window,
            settings.lock_cache_s,
            settings.max_in_flight_per_owner,
            direct=self.presence.direct,
        )
        self.state = State(reader, ids)
        self._moment = Moment(clock)
        self._context = Context(settings, self._moment, self.state, self.scheduler, self.presence, tunnel)
        self.timers = self._context.timers
        #: What is decided about requests, and about jobs.
        self.delivery = Delivery(self._context)
        self._background = Background(self._context, self.delivery)
        self.lifecycle = Lifecycle(self._context, self.delivery, self._background)
        #: What happens when a timer fires.
        self._fires: dict[TimerKind, Callable[[Any], None]] = {
            TimerKind.ANSWER: self.delivery.time_is_over,
            TimerKind.WAKE: lambda id_: self.scheduler.wake(id_, self._moment.now_s),
            TimerKind.PACE: self.scheduler.pace_over,
            TimerKind.QUESTION: self._unanswered_question,
            TimerKind.OVERDUE: lambda _: self.scheduler.forget_overdue(self._moment.now_s),
            TimerKind.ROOM: lambda _: None,  # whoever waits for room is sent at the end of this turn
            **{kind: partial(self.lifecycle.fire, kind) for kind in self.lifecycle.timers},
        }
        self.begin()

    def begin(self) -> float:
        """A turn begins: the time is now. Seconds since the one before began."""
        before_s = self._moment.now_s
        self._moment.begin()
        self._background.begin()
        self.delivery.begin()
        return self._moment.now_s - before_s

    @property
    def busy(self) -> bool:
        """Whether there is work left that needs another turn, though nothing happens.

        While more than a few bytes wait to be taken by the broker, it happens that they have become few.
        """
        held_back = self.delivery.held_back and self.waiting_bytes <= FEW_BYTES
        return held_back or bool(self._background)

    # -- what callers ask for ---------------------------------------------------------------------

    def create(self, spec: JobSpec) -> Job:
        """A new job, or the one that exists under the same key. Raises Conflict, Unavailable."""
        existing = self.lifecycle.existing(spec)
        if existing is not None:
            return existing
        if self.stalled:
            raise Unavailable(f"No job can be created: {self.stalled}")
        return self.lifecycle.create(spec)

    def unwritten(self, job: Any) -> bool:
        """Whether this is a new job that is not on disk yet."""
        return isinstance(job, Job) and (self.drafting(job) or job.id in self.state.created)

    def drafting(self, job: Any) -> bool:
        """Whether this is a job that does not exist yet: it is still being written."""
        return isinstance(job, Job) and job.id in self._background.drafts

    def control(self, job_id: int, wanted: JobStatus, *, force: bool) -> Job:
        """Pause, resume or cancel. Raises NotFound, Conflict, Unavailable."""
        self._check_writable()
        return self.lifecycle.control(job_id, wanted, force=force)

    def delete(self, job_id: int) -> Job:
        """Stop the job if it runs, and remove it: the job as it last was. Raises NotFound, Unavailable."""
        self._check_writable()
        return self.lifecycle.delete(job_id)

    def _check_writable(self) -> None:
        if self.stalled:
            raise Unavailable(f"Nothing was changed: {self.stalled}")

    def why(self, ids: Iterable[int]) -> dict[int, Said | None]:
        """What each of these requests waits for; None for those that do not wait, or for an answer alone."""
        return {id_: self._why(id_) if self.state.knows(id_) else None for id_ in ids}

    def _why(self, id_: int) -> Said | None:
        request = self.state.request(id_)
        if request.status is not RequestStatus.PENDING:
            away = self.presence.why_away(request.destination)
            return None if away is None else Why.AWAY.said(away=away)
        opened = self.state.opened_of(id_)
        why = self._why_job(opened.job, wave_of(opened.policy.waves, id_ - opened.job.first))
        if why is not None:
            return why
        if self.stalled:
            return Why.STORE.said(reason=self.stalled)
        if not self.link_up:
            return Why.BUS.said()
        if not self.controller_up:
            return Why.CONTROLLER.said()
        if not self.scheduler.holds(id_):
            before = None if opened.steps is None else opened.steps.before(request)
            return Why.BEGINNING.said() if before is None else Why.STEP.said(request=before)
        why = self.scheduler.why(id_, self._moment.now_s)
        return BROKER_IS_SLOW if code_of(why) == Why.NEXT and self.delivery.held_back else why

    def _why_job(self, job: Job, wave: int) -> Said | None:
        """What keeps a request of this wave from its turn, if its job does."""
        if job.ending is not None:
            return Why.STOPPING.said(reason=job.reason)
        if job.status is JobStatus.PENDING:
            return Why.START.said(at=job.start_at)
        if job.status is JobStatus.PAUSED and job.gate is not GateStatus.CLOSED:
            return Why.PAUSED.said()
        if wave > job.wave:
            return Why.WAVE.said(wave=wave, before=wave - 1) if job.gate is None else self._why_gate(job)
        return Why.PAUSED.said() if job.status is JobStatus.PAUSED else None

    def _why_gate(self, job: Job) -> Said:
        if job.gate is GateStatus.CLOSED:
            return Why.GATE.said(reason=job.reason)
        until_s = self.timers.deadline_s(Timer(TimerKind.SOAK, job.id)) or 0.0
        return Why.SOAK.said(wave=job.wave, left_s=max(until_s - self._moment.now_s, 0))

    def snapshot(self) -> Snapshot:
        """How things stand now."""
        state, scheduler, presence = self.state, self.scheduler, self.presence
        since = state.waiting_since()
        return Snapshot(
            stalled=self.stalled,
            controller_up=self.controller_up,
            open_jobs=state.open_jobs,
            open_requests=state.open_requests,
            ids_left=state.ids_left,
            in_flight=scheduler.in_flight,
            window=scheduler.window.size,
            refusals=dict(self.delivery.refusals.counts),
            resent=self.delivery.resent,
            ended_requests=_by_status(ENDED_REQUESTS, state.ended_requests),
            ended_jobs=_by_status(sorted(FINAL), state.ended_jobs),
            oldest_waiting_s=0.0 if since is None else max(self.clock.wall_s() - seconds(since), 0.0),
            connected=presence.connected_count,
            away=presence.away_count,
            changes=presence.changes,
            unseen=presence.unseen,
            route=presence.route,
            owners=scheduler.owners.sizes(),
        )

    # -- what happens on the bus ------------------------------------------------------------------

    def bridge(self, gateway: str, *, connected: bool | None, retained: bool = False) -> None:
        """A gateway's bridge is connected, or not; None: nothing says so any more."""
        self.presence.heard(gateway, connected, self._moment.at, retained=retained)
        self.scheduler.rerouted(gateway)

    def refused(self, *, presence: bool, direct: bool) -> None:
        """The broker does not let us see what bridges say, or hear what gateways answer directly."""
        self.presence.unseen |= presence
        self.presence.unheard |= direct

    def link(
        self,
        *,
        up: bool,
        unsent: Iterable[int] = (),
        tried: Tried | None = None,
        capacity: Capacity = DEFAULT_CAPACITY,
    ) -> None:
        """The connection to the broker came or went; what is in flight may have gone with it.

        The messages of these ids have not left: their requests wait again. ``tried`` is what it ended at.
        Once it is up messages may be as long as ``capacity`` says.
        """
        self.link_up = up
        if up:  # whoever refused us may have other rules now
            self.presence.unseen = self.presence.unheard = False
            self.delivery.capacity = capacity
        else:
            self.controller_up = False
            self.delivery.link_lost(unsent, tried)
            self.presence.forget_all()
            self.scheduler.forget_all()
            self.delivery.disbelieve()

    def controller(self, *, up: bool) -> None:
        """The controller answers, or it does not any more."""
        self.controller_up = up and self.link_up
        if self.controller_up:
            self.delivery.controller_up()

    def owners(self, destination: str, resources: Iterable[str] | None) -> None:
        """The controller's answer to a question of a turn; None: it knows no owner."""
        self.timers.cancel(Timer(TimerKind.QUESTION, destination))
        self.scheduler.learn(destination, resources, self._moment.now_s)

    # -- the end of a turn ------------------------------------------------------------------------

    def decide(self) -> Turn:
        """Fire what is due, send what may go, bring the jobs up to date: all of it in the turn."""
        if not self.timers_held:
            for kind, id_ in self.timers.due(self._moment.now_s):
                self._fires[kind](id_)
        self._background.work()
        self.lifecycle.settle_all()
        self.delivery.held_back = False
        if self.link_up and self.controller_up and not self.stalled:
            self.delivery.send(self.waiting_bytes)
            self.lifecycle.settle_all()
        return self._context.turn

    def turn(
        self,
        commit: Callable[[Changes], None],
        act: Callable[[Turn], None],
        stall: Callable[[StoreError], object],
    ) -> None:
        """Decide, make it durable, and only then act on it: nothing leaves before what caused it is on disk.

        ``stall`` is called with what ``commit`` raised; it is to call the method of that name.
        """
        turn = self.decide()
        if turn.changes:
            if self.stalled and self._moment.now_s < self.retry_s:
                return
            try:
                commit(turn.changes)
            except StoreError as error:
                stall(error)
                return
            self.stalled = None
        self._context.committed()
        act(turn)

    def stall(self, error: StoreError) -> list[int]:
        """Keep the turn, which could not be made durable, for the next try; nothing of it leaves.

        What was to be sent waits again. Jobs that were created in it do not exist: their ids are returned.
        """
        self.stalled = error.message
        self.delivery.stall()
        revoked = self.lifecycle.revoke_created()
        self.lifecycle.settle_all()
        return revoked

    def _unanswered_question(self, destination: str) -> None:
        if self.controller_up:
            self.scheduler.learn(destination, None, self._moment.now_s)
        else:
            self.scheduler.locks.ask_again(destination)


def _by_status(statuses: Iterable[str], counted: Mapping[Any, int]) -> dict[str, int]:
    return {str(status): counted.get(status, 0) for status in statuses}
