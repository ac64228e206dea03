"""Every decision about jobs and requests.

The dispatcher calls a method for each thing that has happened, and then ``turn``. A ``Turn`` holds what the
engine decided: changes to make durable, and messages that may leave once the changes are on disk.
``lifecycle`` decides about jobs, ``delivery`` about requests. The engine knows no threads and no sockets;
``begin`` reads the clock.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from puppetmaster.clock import Clock, Moment, iso, seconds
from puppetmaster.engine.background import Background
from puppetmaster.engine.context import Context, Turn
from puppetmaster.engine.delivery import Delivery
from puppetmaster.engine.lifecycle import Lifecycle
from puppetmaster.engine.outbox import Outbox
from puppetmaster.engine.presence import Presence
from puppetmaster.engine.registered import Registered
from puppetmaster.engine.registry import Registry
from puppetmaster.engine.state import OpenJob, State
from puppetmaster.engine.templates import Templates
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.errors import StoreError, Unavailable
from puppetmaster.jsoncodec import FEW_BYTES
from puppetmaster.model.gateway import Gateway, Put, Sought
from puppetmaster.model.job import FINAL, GateStatus, Job, JobStatus
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity, Tried
from puppetmaster.model.policy import wave_of
from puppetmaster.model.request import OPEN, RequestStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.model.template import NewTemplate, Outcome, Template
from puppetmaster.model.timeline import ITSELF
from puppetmaster.model.why import Said, Why, code_of
from puppetmaster.scheduling.scheduler import Scheduler
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes, Ids, Reader
from puppetmaster.timers import Timers

ENDED_REQUESTS = [status for status in RequestStatus if status not in OPEN]
BROKER_IS_SLOW = Why.BROKER_SLOW.said()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Numbers for health and metrics, as they are in one turn."""

    #: Why the store cannot be written, as a sentence; None: it can be written.
    stalled: str | None
    #: Whether the controller answers.
    controller_up: bool
    #: Number of jobs that have not ended.
    open_jobs: int
    #: Number of requests that are not done.
    open_requests: int
    #: Number of request ids that are left for new jobs.
    ids_left: int
    #: Number of requests in flight.
    in_flight: int
    #: The size of the adaptive window at present.
    window: int
    #: How often the controller refused a request since the start, by code.
    refusals: dict[int, int]
    #: Number of sendings since the start that were not the first of their request.
    resent: int
    #: Number of requests, and of jobs, that have ended since the start, by the status that they ended with.
    ended_requests: dict[str, int]
    ended_jobs: dict[str, int]
    #: Seconds that the oldest waiting request of a dispatching job has waited; 0: none waits.
    oldest_waiting_s: float
    #: Number of gateways whose bridges say that they are connected.
    connected: int
    #: Number of gateways whose bridges say that they are not connected.
    away: int
    #: Number of requests that wait for gateways that are away.
    waiting_for_gateways: int
    #: Number of attempts to tell webhooks something since the start that were ``sent`` or ``failed``, and of
    #: notices that were ``givenUp``.
    webhooks: dict[str, int]
    #: Number of notices that webhooks are owed.
    webhooks_waiting: int
    #: Seconds that the oldest of them has waited; 0: none waits.
    webhooks_oldest_s: float
    #: Number of known gateways that are registered at the controller, that are not, and of which that is not
    #: known.
    registered: int
    not_registered: int
    not_known: int
    #: How often a bridge came or went since the start.
    changes: int
    #: Whether the broker refuses us the topics on which bridges say whether they are connected.
    unseen: bool
    #: The route in force: ``"remote"``, ``"direct"`` or ``"auto"``.
    route: str
    #: Number of starts by schedules since this process began, by their outcome.
    starts: dict[str, int]
    #: Domain of an owner of many gateways -> (most requests that it is given, how many it is busy with).
    owners: dict[str, tuple[int, int]]


class Known(NamedTuple):
    """What is known of a gateway; None: nothing is."""

    #: Whether its bridge is connected to our broker.
    connected: bool | None = None
    #: Whether it is registered at our controller. An owner of many gateways says nothing of one of them.
    registered: bool | None = None
    #: When the controller last said something of it, as ISO 8601.
    checked_at: str | None = None
    #: When it last gave a sign of itself since the start, as ISO 8601.
    seen_at: str | None = None


class Engine:
    """The engine. One thread uses it: the dispatcher's."""

    def __init__(self, settings: Settings, clock: Clock, reader: Reader, ids: Ids, tunnel: str) -> None:
        self.clock = clock
        self.connected = False
        self.controller_up = False
        #: Why the store cannot be written, as a sentence; None: it can be written.
        self.stalled: str | None = None
        #: When a store that could not be written is tried again (monotonic clock).
        self.retry_s = 0.0
        #: Whether no timer fires, because the engine does not know yet all that has happened.
        self.timers_held = False
        #: Number of sent bytes that wait in memory until the broker takes them.
        self.waiting_bytes = 0
        self.presence = Presence(settings.route)
        self.scheduler = Scheduler(
            settings.max_in_flight,
            settings.lock_cache_s,
            settings.max_in_flight_per_owner,
            direct=self.presence.direct,
        )
        self.state = State(reader, ids)
        self._registry = Registry(self.state, reader)
        self.outbox = Outbox(self.state, reader)
        self._moment = Moment(clock)
        self.timers: Timers[Timer] = Timers()
        self.registered = Registered(
            self.timers, self._moment, reader.gateway_names(Sought()), settings.gateway_check_s
        )
        self._context = Context(
            settings,
            self._moment,
            self.state,
            self.scheduler,
            self.presence,
            self.registered,
            tunnel,
            self.timers,
        )
        self.delivery = Delivery(self._context)
        self._background = Background(self._context, self.delivery)
        self.lifecycle = Lifecycle(self._context, self.delivery, self._background)
        self.templates = Templates(self._context, self.lifecycle, reader)
        self.templates.not_started = self.outbox.not_started
        self.templates.taken_back = self.outbox.taken_back
        #: Kind of a timer -> what to do when it fires, with the id of the timer.
        self._fires: dict[TimerKind, Callable[[Any], None]] = {
            TimerKind.ANSWER: self.delivery.time_is_over,
            TimerKind.WAKE: lambda id_: self.scheduler.wake(id_, self._moment.now_s),
            TimerKind.PACE: self.scheduler.pace_over,
            TimerKind.QUESTION: self._unanswered_question,
            TimerKind.OVERDUE: lambda _: self.scheduler.forget_overdue(self._moment.now_s),
            TimerKind.ABSENT: self.delivery.delivery_is_over,
            TimerKind.BACK: self._background.back,
            TimerKind.ASK: lambda _: None,  # gateways are asked for at the end of this turn
            TimerKind.SCHEDULE: self.templates.fire,
            TimerKind.CHECK: lambda _: None,  # gateways are asked for at the end of this turn
            TimerKind.ROOM: lambda _: None,  # requests that wait for room are sent at the end of this turn
            **{kind: partial(self.lifecycle.fire, kind) for kind in self.lifecycle.timers},
        }
        self.begin()

    def begin(self) -> float:
        """Begin a turn. Returns how long ago the last turn began, in seconds."""
        before_s = self._moment.now_s
        self._moment.begin()
        self._background.begin()
        self.delivery.begin()
        return self._moment.now_s - before_s

    @property
    def busy(self) -> bool:
        """Whether there is work for another turn, even when nothing arrives.

        While many bytes wait for the broker there is none: an event tells when they have become few.
        """
        held_back = self.delivery.held_back and self.waiting_bytes <= FEW_BYTES
        return held_back or bool(self._background) or (bool(self.templates) and not self.stalled)

    # -- what callers ask for ---------------------------------------------------------------------

    def create(self, spec: JobSpec) -> Job:
        """Create a job, or find the job that has the same key.

        Raises:
            Conflict: the job with this key was created from another body.
            Unavailable: the store cannot be written, or there is no room for another job.
        """
        existing = self.lifecycle.existing(spec)
        if existing is not None:
            return existing
        if self.stalled:
            raise Unavailable(f"No job can be created: {self.stalled}")
        return self.lifecycle.create(spec)

    def ask_now(self, names: Collection[str], done: Callable[[], object]) -> None:
        """Have the controller asked for these gateways; ``done`` is called when it has answered or cannot."""
        if self.connected and self.controller_up and not self.stalled and self._through:
            self.registered.ask_now(names, done)
        else:
            done()

    @property
    def _through(self) -> bool:
        """Whether requests go through our controller, so that it matters whom it knows."""
        return self.presence.route != "direct"

    def known(self, names: Iterable[str]) -> dict[str, Known]:
        """What is known of the presence of each of these gateways."""
        return {name: self._known(name) for name in names}

    def _known(self, name: str) -> Known:
        said, presence, moment = self.registered.of(name), self.presence, self._moment
        checked_at = None if said.at_s is None else iso(moment.wall_s + said.at_s - moment.now_s)
        return Known(presence.connected(name), said.registered, checked_at, presence.seen_at(name))

    def unwritten(self, job: Any) -> bool:
        """Whether ``job`` is a new job that is not on disk yet; False for anything that is no job."""
        return isinstance(job, Job) and (self.drafting(job) or job.id in self.state.created)

    def drafting(self, job: Any) -> bool:
        """Whether ``job`` is a draft: it is still being written, and does not exist yet."""
        return isinstance(job, Job) and job.id in self._background.drafts

    def control(self, job_id: int, wanted: JobStatus, *, force: bool, by: str = ITSELF) -> Job:
        """Pause, resume or cancel a job, as ``by`` asks. Returns the job after that.

        Raises:
            NotFound: there is no such job.
            Conflict: its status does not allow it.
            Unavailable: the store cannot be written.
        """
        self._check_writable()
        return self.lifecycle.control(job_id, wanted, force=force, by=by)

    def delete(self, job_id: int, by: str = ITSELF) -> Job:
        """Stop a job if it runs, and remove it. Returns the job as it last was.

        Raises:
            NotFound: there is no such job.
            Unavailable: the store cannot be written.
        """
        self._check_writable()
        return self.lifecycle.delete(job_id, by)

    def put_gateways(self, puts: Sequence[Put], by: str = ITSELF) -> int:
        """Put gateways, each named once, as ``by`` asks. Returns how many were not known before.

        Raises Unavailable: the store cannot be written.
        """
        self._check_writable()
        return self._registry.put(puts, by, self._moment.at)

    def forget_gateway(self, name: str, by: str = ITSELF) -> Gateway:
        """Forget a gateway, as ``by`` asks. Returns it as it last was.

        Raises:
            NotFound: it is not known.
            Unavailable: the store cannot be written.
        """
        self._check_writable()
        return self._registry.forget(name, by, self._moment.at)

    def put_template(self, id_: int | None, new: NewTemplate) -> Template:
        """Keep a new template (None), or change one. Returns it after that.

        Raises:
            NotFound: there is no such template.
            Conflict: its name is taken, or there are too many.
            Unavailable: the store cannot be written.
        """
        self._check_writable()
        return self.templates.create(new) if id_ is None else self.templates.change(id_, new)

    def remove_template(self, id_: int) -> Template:
        """Remove a template. Returns it as it last was. Raises NotFound, Unavailable."""
        self._check_writable()
        return self.templates.remove(id_)

    def start_template(self, id_: int, spec: JobSpec) -> Job:
        """Start a job of a template by hand. Raises NotFound, and what ``create`` raises."""
        self._check_writable()
        return self.templates.start(id_, spec)

    def _check_writable(self) -> None:
        if self.stalled:
            raise Unavailable(f"Nothing was changed: {self.stalled}")

    def why(self, ids: Iterable[int]) -> dict[int, Said | None]:
        """What each of these requests waits for; None: it waits for its answer only, or is done."""
        return {id_: self._why(id_) if self.state.knows(id_) else None for id_ in ids}

    def _why(self, id_: int) -> Said | None:
        request = self.state.request(id_)
        if request.status is not RequestStatus.PENDING:
            away = self.presence.why_away(request.destination)
            return None if away is None else Why.AWAY.said(away=away)
        opened = self.state.opened_of(id_)
        why = self._why_job(opened, wave_of(opened.policy.waves, id_ - opened.job.first))
        if why is not None:
            return why
        if self.stalled:
            return Why.STORE.said(reason=self.stalled)
        if not self.connected:
            return Why.BUS.said()
        if not self.controller_up:
            return Why.CONTROLLER.said()
        if not self.scheduler.holds(id_):
            if (absent := self.delivery.absent.why(request)) is not None:
                return absent
            before = None if opened.steps is None else opened.steps.before(request)
            return Why.BEGINNING.said() if before is None else Why.STEP.said(request=before)
        why = self.scheduler.why(id_, self._moment.now_s)
        return BROKER_IS_SLOW if code_of(why) == Why.NEXT and self.delivery.held_back else why

    def _why_job(self, opened: OpenJob, wave: int) -> Said | None:
        """What in its job holds up a request of this wave; None: nothing in its job does."""
        job = opened.job
        if job.ending is not None:
            return Why.STOPPING.said(reason=job.reason)
        if job.status is JobStatus.PENDING:
            return Why.START.said(at=job.start_at)
        if job.status is JobStatus.PAUSED and job.gate is not GateStatus.CLOSED:
            return Why.PAUSED.said()
        if wave > job.wave:
            return Why.WAVE.said(wave=wave, before=wave - 1) if job.gate is None else self._why_gate(job)
        at = opened.opens_at or "a time that is known when the clock is set"
        return Why.MAINTENANCE.said(at=at) if opened.shut else None

    def _why_gate(self, job: Job) -> Said:
        if job.gate is GateStatus.CLOSED:
            return Why.GATE.said(reason=job.reason)
        until_s = self.timers.deadline_s(Timer(TimerKind.SOAK, job.id)) or 0.0
        return Why.SOAK.said(wave=job.wave, left_s=max(until_s - self._moment.now_s, 0))

    def snapshot(self) -> Snapshot:
        """The numbers of this turn."""
        state, scheduler, presence = self.state, self.scheduler, self.presence
        absent = self.delivery.absent
        since = state.waiting_since(absent.of_jobs)
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
            waiting_for_gateways=len(absent),
            webhooks={name: self.outbox.counts[name] for name in ("sent", "failed", "givenUp")},
            webhooks_waiting=len(self.outbox),
            webhooks_oldest_s=self.outbox.oldest_s(self.clock.wall_s()),
            registered=self.registered.count(True),
            not_registered=self.registered.count(False),
            not_known=self.registered.count(None),
            changes=presence.changes,
            unseen=presence.unseen,
            route=presence.route,
            starts=_by_status(Outcome, self.templates.counts),
            owners=scheduler.owners.sizes(),
        )

    # -- what happens on the bus ------------------------------------------------------------------

    def bridge(self, gateway: str, *, connected: bool | None, retained: bool = False) -> None:
        """Note the status of a gateway's bridge.

        Args:
            gateway: the name of the gateway.
            connected: whether the bridge is connected to our broker; None: its status was removed.
            retained: whether the broker had kept this status from before our subscription.
        """
        self.presence.heard(gateway, connected, self._moment.at, retained=retained)
        self.scheduler.rerouted(gateway)
        if connected is not False:
            self.delivery.absent.seen(gateway)

    def refused(self, *, presence: bool, direct: bool) -> None:
        """Note that the broker refused our subscription to bridges' status, or to direct answers."""
        self.presence.unseen |= presence
        self.presence.unheard |= direct

    def connection(
        self,
        *,
        up: bool,
        unsent: Iterable[int] = (),
        tried: Tried | None = None,
        capacity: Capacity = DEFAULT_CAPACITY,
    ) -> None:
        """Note that the connection to the broker was made, or was lost with what was in flight.

        Args:
            up: whether there is a connection.
            unsent: the ids of messages that had not left when it was lost. Their requests wait again.
            tried: the long message at which the broker closed the connection; None: at none.
            capacity: how long messages may be on the new connection.
        """
        self.connected = up
        if up:  # the broker may have other rules now
            self.presence.unseen = self.presence.unheard = False
            self.delivery.capacity = capacity
        else:
            self.controller_up = False
            self.delivery.connection_lost(unsent, tried)
            self.presence.forget_all()
            self.registered.forget_all()
            self.scheduler.forget_all()
            self.delivery.disbelieve()

    def controller(self, *, up: bool) -> None:
        """Note whether the controller answers."""
        self.controller_up = up and self.connected
        if self.controller_up:
            self.delivery.controller_up()

    def owners(self, destination: str, resources: Iterable[str] | None, *, inquiry: bool = False) -> None:
        """Take the controller's answer about the owner of a destination.

        ``resources`` are all resources of that owner; None: the controller knows no owner. ``inquiry``: it
        was only looked whether the gateway is registered. Then the scheduler learns nothing: the gateways of
        a new job become known in the job's order, whatever inquiries are under way.
        """
        found = None if resources is None else tuple(resources)
        if not inquiry:
            self.timers.cancel(Timer(TimerKind.QUESTION, destination))
            self.scheduler.learn(destination, found, self._moment.now_s)
        if found:
            self.delivery.absent.seen(destination)
        if self.registered.owned(destination, found):
            self.presence.seen(destination, self._moment.at)
            self._registry.discover(destination)  # last, as it may fail: it reads the store

    def registering(self, model: str, resources: Sequence[str]) -> None:
        """Note that a model asks to be registered with these resources below /remote."""
        self.registered.registering(model, resources)
        self.delivery.registering(resources)

    # -- the end of a turn ------------------------------------------------------------------------

    def decide(self) -> Turn:
        """Fire the timers that are due, send the requests that may go, bring the jobs up to date."""
        if not self.timers_held:
            for kind, id_ in self.timers.due(self._moment.now_s):
                self._fires[kind](id_)
        if not self.stalled:
            self.templates.work()
        self._background.work()
        self.delivery.held_back = False
        if self.connected and self.controller_up and not self.stalled:
            self.lifecycle.settle_all(sends=True)
            self.delivery.send(self.waiting_bytes, self.lifecycle.settle_early)
            if not self.delivery.held_back and self._through:
                turn = self._context.turn
                turn.inquiries += self.registered.questions(sending=bool(turn.sends))
        self.lifecycle.settle_all()
        return self._context.turn

    def turn(
        self,
        commit: Callable[[Changes], None],
        act: Callable[[Turn], None],
        stall: Callable[[StoreError], object],
    ) -> None:
        """Decide, commit, and only then act: nothing leaves before the change that caused it is on disk.

        Args:
            commit: makes the changes durable, or raises StoreError.
            act: sends what the turn holds.
            stall: is called with the error of ``commit``, and must call ``Engine.stall``.
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
        changes = turn.changes
        self.registered.learn(changes.gateways, changes.destinations, changes.forgotten)
        self._context.committed()
        self.templates.committed()
        act(turn)

    def stall(self, error: StoreError) -> list[int]:
        """Keep the changes of a turn that could not be committed for the next try. Nothing of it leaves.

        The requests that it was to send wait again. Jobs that were created in it do not exist: their ids are
        returned.
        """
        self.stalled = error.message
        self.delivery.stall()
        revoked = self.lifecycle.revoke_created()
        self.templates.revoke(revoked)
        self.lifecycle.settle_all()
        return revoked

    def _unanswered_question(self, destination: str) -> None:
        if self.controller_up:
            self.scheduler.learn(destination, None, self._moment.now_s)
        else:
            self.scheduler.locks.ask_again(destination)


def _by_status(statuses: Iterable[str], counted: Mapping[Any, int]) -> dict[str, int]:
    return {str(status): counted.get(status, 0) for status in statuses}
