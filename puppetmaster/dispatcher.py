"""The one thread that owns all state. In each turn it takes what has arrived, decides, commits, and acts.

All other threads post to its inbox. A turn takes all that arrived while the last turn ran, so that one write
to disk serves many changes. Nothing leaves before the change that caused it is on disk.
"""

import logging
import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from puppetmaster.bus.client import (
    Answered,
    BridgeChanged,
    BusClient,
    BusEvent,
    ConnectionChanged,
    ControllerChanged,
    ControllerForgot,
    ControllerKnows,
    Deregistering,
    Held,
    Owners,
    Registering,
    SubscriptionsRefused,
    Synced,
)
from puppetmaster.bus.connection import HELD_BYTES, Receipt
from puppetmaster.clock import Steadiness
from puppetmaster.engine.context import Turn
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import LOOK_AGAIN, NotFound, NotKnown, PuppetmasterError, StoreError, Unavailable
from puppetmaster.events import Change, Hub, Kind
from puppetmaster.model.gateway import Relabelled
from puppetmaster.model.job import Job
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import DIRECT_WAY, RequestStatus
from puppetmaster.model.timeline import Event
from puppetmaster.store.base import Changes, Keep, Look, Now, Store
from puppetmaster.threads import Vital
from puppetmaster.timers import Timers

log = logging.getLogger("sanji.puppetmaster.dispatcher")

T = TypeVar("T")

#: Most messages that a turn takes, so that it stays short.
TURN_MESSAGES = 1000
#: After a failed write the store is tried again this often.
STORE_RETRY_S = 0.5
#: The longest sleep of the loop. When nothing arrives, timers fire at most this late.
LONGEST_SLEEP_S = 1.0
#: When a turn begins this long after the last one, the process stood still (SIGSTOP, a debugger, a frozen
#: container). Answers that came in time may be unread in the connection. They are read before a timer fires;
#: timers are held for ``CATCH_UP_S`` at most.
STOOD_STILL_S = LONGEST_SLEEP_S + 1.0
CATCH_UP_S = 5.0
#: An answer that could not be taken in is tried again after the first time, then after twice as long each
#: time, up to the last.
AGAIN_FIRST_S, AGAIN_LAST_S = 0.1, 10.0
#: Most of these answers, and of their bytes, that are kept and acknowledged. The broker brings others again.
AGAIN_MOST, AGAIN_BYTES = 10_000, 16 * 1024 * 1024
#: How often the dispatcher looks for jobs that need not be kept.
PRUNE_S = 60.0
#: Upper bounds of the buckets of a ``Tally`` in seconds. One more bucket has no bound.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
KEEP_ALL = Keep(jobs=2**62, age_s=float("inf"), bytes=2**62)


class Tally:
    """A histogram of durations in plain numbers. Any thread may read it; it may miss the latest addition."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float, times: int = 1) -> None:
        """Count a duration of ``took_s`` seconds, ``times`` times."""
        self.counts[bisect_left(BOUNDS_S, took_s)] += times
        self.sum_s += took_s * times


@dataclass(slots=True)
class _Call:
    """What a caller wants to be done in the dispatcher's thread."""

    #: Does it, and returns the value for the caller.
    verb: Callable[[Engine], Any]
    #: Takes the value, or the error.
    reply: "Future[Any]"
    #: Whether it changes nothing but the new job that it may return. Any other value is given at once,
    #: without waiting for the disk.
    looks: bool = False


class Decider(Protocol):
    """Who decides, as callers see it. Any thread may call."""

    def call(self, verb: Callable[[Engine], T], timeout_s: float) -> T:
        """Do ``verb`` where the state is. Returns its value, once its changes are on disk."""

    def create(self, verb: Callable[[Engine], Job], timeout_s: float) -> Job:
        """As ``call``, for a verb that finds or creates a job."""

    def look(self, verb: Callable[[Engine], T], timeout_s: float) -> T:
        """As ``call``, for a verb that changes nothing."""

    def do(self, verb: Callable[[Engine], Any]) -> None:
        """As ``call``, without waiting."""


class Dispatcher:
    """The loop, in the thread ``pm-dispatcher``. Any thread may call its public methods."""

    def __init__(self, engine: Engine, store: Store, bus: BusClient, hub: Hub, keep: Keep = KEEP_ALL) -> None:
        self._engine = engine
        self._store = store
        self._bus = bus
        self._hub = hub
        self._clock = engine.clock
        self._inbox: SimpleQueue[Sequence[BusEvent] | _Call | None] = SimpleQueue()
        self._keep = keep
        #: Is called after each turn, every ``LONGEST_SLEEP_S`` at least.
        self.turned: Callable[[], None] = lambda: None
        #: Is called with what happened to jobs once it is on disk, each event with the job after it.
        self.happened: Callable[[Sequence[tuple[Job, Event]]], None] = lambda _: None
        #: Is called with what happened to labels and notes of gateways, once it is on disk.
        self.relabelled: Callable[[Sequence[Relabelled]], None] = lambda _: None
        #: Is called with what webhooks are owed from now on, once it is on disk.
        self.owed: Callable[[Sequence[Owed]], None] = lambda _: None
        self._steadiness = Steadiness(engine.clock)
        self._prune_s = 0.0
        self._sweeping = True
        #: The search for jobs that need not be kept, a part of it after each turn; None: none is under way.
        self._look: Look | None = None
        #: How long commits took; how long from the decision to send until the bus had the message.
        self.commits, self.dispatches = Tally(), Tally()
        #: How long turns took, with all that was done after them.
        self.turns = Tally()
        self._decided_s = 0.0
        self._replies: list[tuple[_Call, Any]] = []
        #: Receipts of answers that were taken in. They are acknowledged once the answers are on disk.
        self._receipts: list[Receipt] = []
        #: Bytes of the answers that were taken in and are still in memory, as the bus counts them.
        self._taken_bytes = 0
        #: Number of our own -> (an answer that could not be taken in, its next wait in seconds).
        self._untaken: dict[int, tuple[Answered, float]] = {}
        self._untaken_bytes = 0
        self._untaken_timers: Timers[int] = Timers()
        self._numbers = count()
        #: Until when timers are held; None: they are not held.
        self._held_until_s: float | None = None
        #: Whether answers have come since the bus was asked for a ``Synced``; whether to ask for another one.
        self._answers_came = self._asks_again = False
        self._stopped = threading.Event()
        self._ended = False  # whether nothing takes from the inbox any more
        self.thread = Vital(target=self._run, name="pm-dispatcher")

    def post(self, events: Sequence[BusEvent]) -> None:
        """Take events of the bus, in the order in which they happened. Never blocks."""
        self._inbox.put(events)

    def call(self, verb: Callable[[Engine], T], timeout_s: float) -> T:
        """Do ``verb`` in the dispatcher's thread. Returns its value, once its changes are on disk.

        Raises what the verb raises, and:
            Unavailable: ``timeout_s`` is over, or the bundle is stopping.
            StoreError: the changes could not be written.
        """
        late = f"Not confirmed within {timeout_s:g} s: {LOOK_AGAIN}."
        value: T = self._wait(_Call(verb, Future()), timeout_s, late)
        return value

    def create(self, verb: Callable[[Engine], Job], timeout_s: float) -> Job:
        """As ``call``, for a verb that finds or creates a job. A job that is on disk is returned at once."""
        late = f"Not confirmed within {timeout_s:g} s: {LOOK_AGAIN}."
        job: Job = self._wait(_Call(verb, Future(), looks=True), timeout_s, late)
        return job

    def look(self, verb: Callable[[Engine], T], timeout_s: float) -> T:
        """As ``call``, for a verb that changes nothing. Only a new job is waited for until it is on disk."""
        call = _Call(verb, Future(), looks=True)
        value: T = self._wait(call, timeout_s, f"No answer within {timeout_s:g} s.")
        return value

    def do(self, verb: Callable[[Engine], Any]) -> None:
        """As ``call``, without waiting."""
        self._inbox.put(_Call(verb, Future(), looks=True))

    def _wait(self, call: _Call, timeout_s: float, late: str) -> Any:
        if self._stopped.is_set():
            raise Unavailable("Puppetmaster is stopping: nothing was changed.")
        self._inbox.put(call)
        if self._ended:  # meanwhile
            self._turn_away()
        try:
            return call.reply.result(timeout_s)
        except TimeoutError:
            if call.reply.cancel():
                late = f"Not begun within {timeout_s:g} s: nothing was changed. Try again."
            raise Unavailable(late) from None
        finally:
            del call  # an error knows this frame, and the call knows the error: the body of a POST would stay

    def start(self) -> None:
        """Take up the open jobs of an earlier process, and start the thread. Raises StoreError."""
        for job, requests in self._store.unfinished():
            self._engine.lifecycle.recover(job, self._store.now.items([job.id]), requests)
            direct = (one for one in requests if one.status is RequestStatus.SENT)
            self._bus.expect([one.destination for one in direct if one.route == DIRECT_WAY])
            log.info(
                "job %s is taken up again with %s requests to end",
                job.id,
                len(requests),
                extra={"action": "job_recovered"},
            )
        self.thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Finish the turn at hand, and end. Callers that still wait get Unavailable."""
        self._stopped.set()
        self._inbox.put(None)
        self.thread.join(timeout_s)

    @property
    def running(self) -> bool:
        """Whether the loop runs."""
        return self.thread.is_alive()

    # -- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        finally:  # whatever has ended the loop, no caller may wait for a reply that never comes
            self._stopped.set()
            for call, _ in self._replies:
                said = "Puppetmaster stopped before the store could be written."
                call.reply.set_exception(Unavailable(said))
            self._ended = True
            self._turn_away()

    def _loop(self) -> None:
        self._engine.begin()
        while self._round():
            pass  # nothing that has arrived is kept here, because it may be large

    def _round(self) -> bool:
        """Run one turn, and what is done after it. Returns whether another turn follows."""
        arrived = self._arrived()
        begun_s = self._clock.now_s()
        late = self._engine.begin() > STOOD_STILL_S
        if late and self._held_until_s is None:  # when every turn takes long, timers fire in every other
            said = "nothing was done for more than %g s: what came meanwhile is read before timers fire"
            log.info(said, STOOD_STILL_S, extra={"action": "stood_still"})
            self._hold_timers()
        self._guarded(self._take_again)
        for one in arrived:
            if isinstance(one, _Call):
                self._guarded(self._do, one)
            for event in one if isinstance(one, Sequence) else ():
                self._guarded(self._take, event)
        self._guarded(self._turn)
        self._release()
        if self._asks_again:
            self._catch_up()
        self._guarded(self._keep_house)
        self._guarded(self.turned)
        self.turns.add(self._clock.now_s() - begun_s)
        return None not in arrived

    def _guarded(self, step: Callable[..., None], *args: Any) -> None:
        """Do a step. An error in it is logged and does not stop the loop."""
        try:
            step(*args)
        except StoreError as error:
            log.warning("%s", error, extra={"action": "store_fault"})
        except Exception:
            log.exception("a step of the dispatcher failed", extra={"action": "dispatcher_fault"})

    def _arrived(self) -> list[Sequence[BusEvent] | _Call | None]:
        """All that is in the inbox. Waits until something is there, or a timer is due."""
        arrived: list[Sequence[BusEvent] | _Call | None] = []
        size = 0
        with suppress(Empty):
            one = self._inbox.get(timeout=self._sleep_s())
            while True:
                arrived.append(one)
                size += len(one) if isinstance(one, Sequence) else 1
                if size >= TURN_MESSAGES:
                    break
                one = self._inbox.get_nowait()
        return arrived

    def _release(self) -> None:
        """Tell the bus that the answers that were taken need no memory any more, unless they stay there."""
        if self._engine.stalled:
            if self._taken_bytes >= HELD_BYTES:  # no more is read: what timers ask for may lie at the broker
                self._held_until_s = math.inf
        elif self._taken_bytes:
            self._bus.release(self._taken_bytes)
            self._taken_bytes = 0
            if self._held_until_s == math.inf:
                self._hold_timers()

    def _hold_timers(self) -> None:
        """Hold the timers after nothing was read for a while, until what came meanwhile is read."""
        self._held_until_s = self._clock.now_s() + CATCH_UP_S
        self._catch_up()

    def _catch_up(self) -> None:
        self._answers_came = self._asks_again = False
        self._guarded(self._bus.sync)

    def _sleep_s(self) -> float:
        due_s = self._engine.timers.next_s() if self._held_until_s is None else self._held_until_s
        if (again_s := self._untaken_timers.next_s()) is not None:
            due_s = again_s if due_s is None else min(due_s, again_s)
        keeps_house = self._sweeping or self._look is not None
        if self._engine.busy or (keeps_house and not self._engine.stalled):
            return 0.0
        if self._engine.stalled:
            due_s = self._engine.retry_s if due_s is None else min(due_s, self._engine.retry_s)
        if due_s is None:
            return LONGEST_SLEEP_S
        return min(max(due_s - self._clock.now_s(), 0.0), LONGEST_SLEEP_S)

    def _take(self, event: BusEvent) -> None:
        engine = self._engine
        match event:
            case Answered():
                self._answers_came = True
                self._taken_bytes += event.size_bytes
                self._take_answer(event, AGAIN_FIRST_S)
            case Owners(destination, resources, inquiry):
                engine.owners(destination, resources, inquiry=inquiry)
            case BridgeChanged(gateway, connected, retained):
                engine.bridge(gateway, connected=connected, retained=retained)
            case SubscriptionsRefused(presence, direct):
                engine.refused(presence=presence, direct=direct)
            case ConnectionChanged(up, unsent, tried, capacity):
                engine.connection(up=up, unsent=unsent, tried=tried, capacity=capacity)
            case ControllerChanged(up):
                engine.controller(up=up)
            case ControllerForgot(known_s, _):
                engine.delivery.controller_restarted(known_s)
            case Synced():
                self._synced()
            case _:
                self._take_word(event)

    def _take_word(self, event: BusEvent) -> None:
        """Take what the controller says when it is asked, and what others ask it."""
        match event:
            case ControllerKnows(asked_s):
                self._engine.delivery.controller_knows(asked_s)
            case Held(message, held):
                self._engine.delivery.held(message, held=held)
            case Registering(model, resources):
                self._engine.registering(model, resources)
            case Deregistering(model):
                self._engine.registered.deregistering(model)

    def _synced(self) -> None:
        # What came is acknowledged in this turn, and the broker then sends what it held back behind that.
        self._asks_again = self._answers_came
        if not self._answers_came and self._held_until_s != math.inf:  # else nothing is read at present
            self._held_until_s = None

    def _take_answer(self, event: Answered, wait_s: float) -> None:
        try:
            self._engine.delivery.answered(event.message, event.answer, event.tunnel)
        except Exception as error:
            first = wait_s == AGAIN_FIRST_S  # later it is acknowledged, and nobody brings it again
            if first and (len(self._untaken) >= AGAIN_MOST or self._untaken_bytes >= AGAIN_BYTES):
                raise
            self._set_aside(event, wait_s, error)
        if event.receipt is not None:  # only now: what was neither taken in nor kept must be brought again
            self._receipts.append(event.receipt)

    def _set_aside(self, event: Answered, wait_s: float, error: Exception) -> None:
        """Keep an answer that could not be taken in, so that it can be acknowledged.

        A few answers without acknowledgement hold up all that come after them at the broker.
        """
        first = wait_s == AGAIN_FIRST_S
        log.log(
            logging.ERROR if first else logging.DEBUG,
            "the answer to message %s could not be taken in, and is tried again: %s",
            event.message,
            error,
            exc_info=error if first and not isinstance(error, StoreError) else None,
            extra={"action": "answer_kept"},
        )
        number = next(self._numbers)
        self._untaken[number] = (replace(event, receipt=None), min(2 * wait_s, AGAIN_LAST_S))
        self._untaken_bytes += event.size_bytes
        self._untaken_timers.set(number, self._clock.now_s() + wait_s)

    def _take_again(self) -> None:
        for number in self._untaken_timers.due(self._clock.now_s()):
            event, wait_s = self._untaken.pop(number)
            self._untaken_bytes -= event.size_bytes
            self._take_answer(event, wait_s)

    def _do(self, call: _Call) -> None:
        if not call.reply.set_running_or_notify_cancel():
            return  # its caller has given up, and knows that nothing was changed
        try:
            value = call.verb(self._engine)
        except PuppetmasterError as error:
            call.reply.set_exception(error.with_traceback(None))  # which knows this frame: as in ``_wait``
        except Exception as error:
            log.exception("a call failed", extra={"action": "call_fault"})
            call.reply.set_exception(error)
        else:
            if call.looks and not self._engine.unwritten(value):
                call.reply.set_result(value)
            else:
                self._replies.append((call, value))

    def _keep_house(self) -> None:
        """Remove jobs that need not be kept, a small part after each turn."""
        if self._engine.stalled:
            return
        now_s = self._clock.now_s()
        if now_s >= self._prune_s and self._look is None:
            self._prune_s = now_s + PRUNE_S
            self._sweeping = True  # there may be something left that could not be swept before
            steady = self._steadiness.look()
            if self._steadiness.stepped:
                log.info("the clock was set", extra={"action": "clock_set"})
                self._engine.lifecycle.clock_was_set()
            self._look = Look(self._keep, Now(self._clock.wall_s(), steady, self._clock.boot(), now_s))
        if self._sweeping:
            self._sweeping = False  # also if it fails: then it is tried again later
            self._sweeping = self._store.sweep()
        elif self._look is not None:
            look, self._look = self._look, None  # also if it fails
            self._prune(look)
            self._look = None if look.over else look

    def _prune(self, look: Look) -> None:
        """Read a part of the jobs, or remove some of them."""
        if not look.complete:
            self._store.look_on(look)
            return
        gone = self._store.outlived(look)
        for job_id in gone:
            with suppress(NotFound):  # it was removed meanwhile
                self._engine.delete(job_id)
        if gone:
            self._turn()
        if look.over:
            for why, number in look.gone.items():
                said = "%s jobs are removed: %s than is kept (PUPPETMASTER_KEEP_JOBS, _DAYS, _MB)"
                log.info(said, number, why, extra={"action": "pruned"})
            if look.has_more:
                self._prune_s = 0.0

    def _turn(self) -> None:
        self._decided_s = self._clock.now_s()
        if self._held_until_s is not None and self._decided_s >= self._held_until_s:
            self._held_until_s, self._asks_again = None, False
        self._engine.timers_held = self._held_until_s is not None
        self._engine.waiting_bytes = self._bus.waiting_bytes
        # In docs/model/takeover.pml these are the labels ``decide``, ``committed`` and ``act``.
        self._engine.turn(self._commit, self._act, self._stall)
        self._acknowledge()

    def _commit(self, changes: Changes) -> None:
        begun_s = self._clock.now_s()
        self._store.commit(changes)
        self.commits.add(self._clock.now_s() - begun_s)
        if self._engine.stalled:
            log.info("the store can be written again", extra={"action": "store_up"})

    def _acknowledge(self) -> None:
        if self._receipts and self._store.may_act():  # else the next leader gets the answers too
            receipts, self._receipts = self._receipts, []
            self._bus.acknowledge(receipts)

    def _stall(self, error: StoreError) -> None:
        if not self._engine.stalled:
            log.error(
                "%s Nothing is sent until it can be written.", error.message, extra={"action": "store_down"}
            )
        revoked = set(self._engine.stall(error))
        self._engine.retry_s = self._clock.now_s() + STORE_RETRY_S
        # Answers that came are kept in memory, up to ``HELD_BYTES``. Without acknowledgement a few of them
        # would hold up all that comes after them at the broker, and the controller would seem to be gone.
        self._acknowledge()
        waiting, self._replies = self._replies, []
        for call, value in waiting:
            if isinstance(value, Job) and value.id in revoked:
                said = f"{_fate(error)}: {error.message}"
            else:
                # A caller that waits for the disk would keep our resources on the bus locked.
                said = f"It is in force, and will be written down as soon as that can be: {error.message}"
            call.reply.set_exception(StoreError(said))

    def _act(self, turn: Turn) -> None:
        self._sweeping = self._sweeping or bool(turn.changes.deleted)
        self._bus.in_flight = self._engine.scheduler.in_flight  # before they are sent
        if turn.sends:
            if not (self._store.may_act() and self._bus.send(turn.sends)):
                for outgoing in turn.sends:
                    self._engine.delivery.not_sent(outgoing.id)
            self.dispatches.add(self._clock.now_s() - self._decided_s, len(turn.sends))
        if turn.questions or turn.inquiries:
            self._bus.ask(turn.questions)
            self._bus.ask(turn.inquiries, inquiry=True)
        if turn.checks:
            self._bus.check(turn.checks)
        if turn.proves:
            self._bus.prove()
        replies, self._replies = self._replies, []
        for call, value in replies:
            if self._engine.drafting(value):
                self._replies.append((call, value))
            else:
                call.reply.set_result(value)
        if turn.changes.jobs or turn.changes.deleted:
            self._hub.post(_changes(turn, detailed=self._hub.detailed))
        self._tell(turn)
        self._acknowledge()

    def _tell(self, turn: Turn) -> None:
        self.happened(turn.happened)
        self.relabelled(turn.relabelled)
        if turn.changes.owed:
            self.owed([one for one in turn.changes.owed.values() if not one.attempts])

    def _turn_away(self) -> None:
        while True:
            try:
                message = self._inbox.get_nowait()
            except Empty:
                return
            # Only callers that have not given up: a second reply would raise, and the others would get none.
            if isinstance(message, _Call) and message.reply.set_running_or_notify_cancel():
                message.reply.set_exception(Unavailable("Puppetmaster is stopping: nothing was changed."))


def _fate(error: StoreError) -> str:
    """What has become of a job whose creation could not be written, as the beginning of a sentence."""
    if isinstance(error, NotKnown):
        return (
            "It is not known whether the job was created; "
            "when the disk works again, the same key tells, or GET /jobs"
        )
    return "No job was created"


def _changes(turn: Turn, *, detailed: bool) -> list[Change]:
    requests: dict[int, set[int]] = {}
    if detailed:
        for request in turn.changes.requests.values():
            requests.setdefault(request.job, set()).add(request.id)
    changes = []
    for job in turn.changes.jobs.values():
        changed = frozenset(requests.get(job.id, ()))
        if job.id in turn.created:
            changes.append(Change.of(Kind.CREATED, job, changed))
        if job.final or job.id not in turn.created:
            changes.append(Change.of(Kind.ENDED if job.final else Kind.CHANGED, job, changed))
    dropped = turn.changes.dropped
    removed = (Change.of(Kind.DELETED, job) for job in turn.changes.deleted.values())
    return [*changes, *(replace(change, ended=change.job.id in dropped) for change in removed)]
