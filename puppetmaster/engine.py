"""What happens next: every decision about jobs and requests, and none of the doing.

The dispatcher calls a method for each thing that happened and then ``decide``; what was decided is
a ``Turn``: changes to make durable, and messages that may leave once they are. The engine knows no
thread, socket or clock of its own: ``begin`` reads the one it was given.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from puppetmaster import wire
from puppetmaster.answer import Answer
from puppetmaster.clock import Clock, iso, seconds
from puppetmaster.errors import Conflict, Unavailable
from puppetmaster.flight import Flight
from puppetmaster.job import GateStatus, Job, JobEvent, JobStatus
from puppetmaster.lanes import Lanes
from puppetmaster.ledger import Ledger, OpenJob
from puppetmaster.reader import Reader
from puppetmaster.request import (
    TRANSITIONS,
    UNANSWERED,
    Item,
    Request,
    RequestEvent,
    RequestStatus,
)
from puppetmaster.rollout import Policy, wave_of
from puppetmaster.settings import Settings
from puppetmaster.spec import JobSpec
from puppetmaster.store import Changes, Ids
from puppetmaster.timers import Timers

log = logging.getLogger("sanji.puppetmaster.engine")

#: Questions about locks under way at once.
QUESTIONS = 64
#: A question that nobody answers is given up after this; then a lock of its own is assumed.
QUESTION_TIMEOUT_S = 5.0
#: A new job's requests are sent when its creator has the answer, at the latest after this.
BEGIN_S = 0.25
#: The wait after a refusal by a lock: it doubles from the first to the last.
FIRST_DELAY_S, LAST_DELAY_S = 0.02, 2.0
NO_IDS = "not sent again: this installation has given out all message ids"
#: A time to start is compared with the wall clock at least this often: somebody may set it.
START_CHECK_S = 30.0


@dataclass(slots=True)
class Turn:
    """What one turn of the dispatcher decided: durable as a whole first, acted on after."""

    changes: Changes
    created: set[int]
    sends: list[tuple[int, bytes]] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


class Engine:
    """Decides. Called by one thread, the dispatcher's."""

    def __init__(self, settings: Settings, clock: Clock, reader: Reader, ids: Ids, tunnel: str) -> None:
        self.link_up = False
        self.controller_up = False
        #: Why nothing can be made durable; None when it can.
        self.stalled: str | None = None
        #: Refusals by code, 423 above all, and sendings after the first: since the start.
        self.refusals: Counter[int] = Counter()
        self.resent = 0
        self.ledger = Ledger(reader, ids)
        self.lanes = Lanes(settings.window, settings.lock_cache_s)
        self.timers = Timers()
        self._flight = Flight(self.timers, settings.grace_s)
        self._settings = settings
        self._clock = clock
        self._tunnel = tunnel
        self._refused: dict[int, tuple[int, float]] = {}  # how often in a row, and since when
        self._sends: list[tuple[int, bytes]] = []
        self._questions: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A turn begins: the time is now."""
        self._now_s = self._clock.now_s()
        self._at = iso(self._clock.wall_s())
        # The answers of one turn all tell of a full window, though each of them makes room.
        self._full = self.lanes.automatic >= self.lanes.window.size - 1

    # -- what callers ask for ---------------------------------------------------------------------

    def create(self, spec: JobSpec) -> Job:
        """A new job, or the one that exists under the same key. Raises Conflict, Unavailable."""
        existing = self.ledger.find_by_key(spec.key) if spec.key is not None else None
        if existing is not None:
            if existing.digest == spec.digest:
                return existing
            raise Conflict(
                f"The key '{spec.key}' belongs to job {existing.id}, which was created with another body: "
                "send that body again, or use a new key."
            )
        if self.stalled:
            raise Unavailable(f"No job can be created: {self.stalled}")
        if self.ledger.open_jobs >= self._settings.max_open_jobs:
            raise Unavailable(
                f"No job can be created: {self.ledger.open_jobs} have not ended, which is the most. "
                "Wait for one, delete one, or raise PUPPETMASTER_MAX_OPEN_JOBS."
            )
        ids = self.ledger.new_ids(spec.total)
        made = spec.job(ids.job, ids.first, self._at, self._clock.wall_s(), self._settings.request_timeout_s)
        job = self._timed(made) if made.status is JobStatus.DISPATCHING else made
        items, requests = spec.expand(job)
        self.ledger.create(self._take_up(job, items), requests)
        self.timers.set(("begin", job.id), self._now_s + BEGIN_S)
        return job

    def begin_job(self, job_id: int) -> None:
        """Whoever created the job has its answer, or had time enough: its requests may be sent."""
        if self.timers.deadline_s(("begin", job_id)) is None:
            return
        self.timers.cancel(("begin", job_id))
        if (opened := self.ledger.opened(job_id)) is not None:
            self._release(opened)

    def control(self, job_id: int, wanted: JobStatus, *, force: bool) -> Job:
        """Pause, resume or cancel. Raises NotFound, Conflict."""
        opened = self.ledger.opened(job_id)
        if opened is None:
            ended = self.ledger.find_job(job_id)
            raise Conflict(f"Job {job_id} is {ended.status}: it has ended and cannot become {wanted}.")
        if wanted is JobStatus.CANCELED:
            self._stop(opened, JobEvent.CANCEL, "canceled by a request", force=force)
        elif opened.job.ending:
            raise Conflict(f"Job {job_id} is being stopped ({opened.job.reason}): it cannot become {wanted}.")
        elif wanted is JobStatus.PAUSED and opened.job.status is not JobStatus.PAUSED:
            self._pause(opened, "paused by a request")
        elif wanted is JobStatus.DISPATCHING and opened.job.status is not JobStatus.DISPATCHING:
            self._resume(opened)
        return self._settle(job_id)

    def delete(self, job_id: int) -> Job:
        """Stop the job if it runs, and remove it: the job as it last was. Raises NotFound."""
        opened = self.ledger.opened(job_id)
        if opened is not None:
            self._stop(opened, JobEvent.CANCEL, "removed by a request", force=True)
            self._settle(job_id)
        job = self.ledger.find_job(job_id)
        self.ledger.remove(job)
        return job

    def why(self, ids: Iterable[int]) -> dict[int, str | None]:
        """What each of these requests waits for; None for those that do not wait."""
        return {id_: self._why(id_) if self.ledger.knows(id_) else None for id_ in ids}

    def _why(self, id_: int) -> str | None:
        if self.ledger.request(id_).status is not RequestStatus.PENDING:
            return None
        opened = self.ledger.opened_of(id_)
        job, waves = opened.job, opened.policy.waves
        wave = wave_of(waves, id_ - job.first)
        if job.status is JobStatus.PENDING:
            return f"the job starts at {job.start_at}"
        if job.status is JobStatus.PAUSED and job.gate is None:
            return "the job is paused"
        if wave > job.wave:
            return f"wave {wave} waits for wave {wave - 1}" if job.gate is None else self._why_gate(job)
        if job.status is JobStatus.PAUSED:
            return "the job is paused"
        if self.stalled:
            return self.stalled
        if not self.link_up:
            return "the bus is down"
        if not self.controller_up:
            return "the controller does not answer"
        if not self.lanes.holds(id_):
            return "the job is about to begin"
        return self.lanes.why(id_)

    def _why_gate(self, job: Job) -> str:
        if job.gate is GateStatus.CLOSED:
            return f"the gate is closed: {job.reason}"
        left_s = (self.timers.deadline_s(("soak", job.id)) or self._now_s) - self._now_s
        return f"wave {job.wave} is done and rests for another {max(left_s, 0):.0f} s"

    # -- what happens on the bus ------------------------------------------------------------------

    def answered(self, message: int, answer: Answer) -> None:
        """An answer came for the message of this id; perhaps late, twice, or for nobody."""
        id_ = self._flight.request_of(message)
        if id_ is None:
            self._answered_late(message, answer)
            return
        request = self.ledger.request(id_)
        if answer.refusal:
            self._refuse(request, answer)
            return
        answer = answer if self._item(request).code is None else answer.as_delivery()
        self.lanes.window.answered(self._now_s - self._flight.sent_s(id_), self._now_s, full=self._full)
        if answer.result.get("source") == "controller" and answer.result.get("code") in (403, 404):
            self.lanes.forget(request.destination)
        self._end(request, answer.event, answer.result)

    def not_sent(self, message: int) -> None:
        """This message never left: its request waits again, and the attempt does not count."""
        id_ = self._flight.request_of(message)
        if id_ is not None:
            request = self.ledger.request(id_)
            self._wait_again(request, request.after(RequestEvent.REFUSE, self._at))

    def link(self, *, up: bool) -> None:
        """The connection to the broker came or went; what is in flight may have gone with it."""
        self.link_up = up
        if not up:
            self.controller_up = False
            self.lanes.forget_all()
            self._flight.doubt(self._now_s)

    def controller(self, *, up: bool) -> None:
        """The controller answers, or it does not any more."""
        self.controller_up = up and self.link_up

    def controller_restarted(self, known_s: float) -> None:
        """It has forgotten everybody, and the answers to what it was given up to ``known_s``.

        What was sent after that cannot be told from what the new one has: it keeps its own time.
        """
        self.lanes.forget_all()
        self._flight.doubt(self._now_s, sent_before_s=known_s)

    def owners(self, destination: str, resources: Iterable[str] | None) -> None:
        """The controller's answer to a question of a turn; None: it knows no owner."""
        self.timers.cancel(("question", destination))
        self.lanes.learn(destination, resources, self._now_s)

    def recover(self, job: Job, items: dict[int, Item], requests: list[Request]) -> None:
        """Take up a job that an earlier process left, with its requests that are not done."""
        if job.expires_s is not None and job.boot != self._clock.boot():
            job = replace(job, boot=self._clock.boot(), expires_s=self._now_s + self._time_left_s(job))
        opened = self._take_up(job, items)
        self.ledger.open_job(opened, requests)
        for request in requests:
            if request.status is RequestStatus.SENT:
                self._enter(opened, request)
                self._flight.taken_up(request.id, request.sending, self._now_s)
        if job.gate is GateStatus.SOAK:
            self.timers.set(("soak", job.id), self._now_s + opened.policy.gate.soak_s)
        self._release(opened)

    def _time_left_s(self, job: Job) -> float:
        """After a restart of the machine only the wall clock can say; it may be wrong by years."""
        assert job.timeout_s is not None
        began_s = max(seconds(job.start_at or job.created_at), seconds(job.created_at))
        gone_s = self._clock.wall_s() - began_s
        return min(max(job.timeout_s - gone_s, 0.0), job.timeout_s)

    # -- the end of a turn ------------------------------------------------------------------------

    def decide(self) -> Turn:
        """Fire what is due, send what may go, bring the jobs up to date: all of it in the turn."""
        for key in self.timers.due(self._now_s):
            self._fire(key)
        self._settle_all()
        if self.link_up and self.controller_up and not self.stalled:
            self._send()
            self._settle_all()
        return Turn(self.ledger.changes, self.ledger.created, self._sends, self._questions)

    def committed(self) -> None:
        """The turn is durable: the next one begins empty."""
        self.ledger.committed()
        self._sends, self._questions = [], []

    def stall(self, reason: str) -> list[int]:
        """Keep the turn, which could not be made durable, for the next try; nothing of it leaves.

        What was to be sent waits again. Jobs that were created in it do not exist: their ids are returned.
        """
        self.stalled = reason
        for message, _ in self._sends:
            self.not_sent(message)
        self._sends = []
        revoked = sorted(self.ledger.created)
        for job_id in revoked:
            for request in self.ledger.revoke(job_id):
                self._let_go(request)
            self._close(job_id)
        self._settle_all()
        return revoked

    def _fire(self, key: Any) -> None:
        if isinstance(key, int):
            self._time_is_over(self.ledger.request(key))
            return
        what, whom = key
        if what == "wake":
            self.lanes.wake(whom, self._now_s)
        elif what == "pace":
            self.lanes.pace_over(whom)
        elif what == "question":
            self._unanswered_question(whom)
        elif (opened := self.ledger.opened(whom)) is not None:
            self._fire_of_job(what, opened)

    def _fire_of_job(self, what: str, opened: OpenJob) -> None:
        if what == "begin":
            self._release(opened)
        elif what == "start":
            self._start_if_due(opened)
        elif what == "soak":
            self._judge_wave(opened, rested=True)
        else:
            reason = f"its timeout of {opened.job.timeout_s:g} s is over"
            self._stop(opened, JobEvent.EXPIRE, reason, force=True)

    def _unanswered_question(self, destination: str) -> None:
        if self.controller_up:
            self.lanes.learn(destination, None, self._now_s)
        else:
            self.lanes.locks.ask_again(destination)

    def _time_is_over(self, request: Request) -> None:
        opened = self.ledger.opened_of(request.id)
        if not self._flight.doubtful(request.id):
            said = f"no answer within {opened.job.request_timeout_s:g} s: it may have run"
            self._end(request, RequestEvent.EXPIRE, _said(said, 408))
            return
        result = _said("the program, the bus or the controller went away before an answer: it may have run")
        if opened.job.ending is None and opened.policy.repeats(self._item(request).method):
            self._try_again(request, RequestStatus.UNKNOWN, result, wait_s=None)
        else:
            self._end(request, RequestEvent.LOSE, result)

    def _send(self) -> None:
        now_s, lanes, ledger = self._now_s, self.lanes, self.ledger
        while (id_ := lanes.pick(now_s)) is not None:
            opened = ledger.opened_of(id_)
            request = opened.requests[id_]
            sent = request.after(RequestEvent.SEND, self._at)
            ledger.write(request, sent)
            message = sent.sending
            self.resent += message != id_
            self._flight.sent(id_, message, now_s, opened.job.request_timeout_s)
            command = opened.commands[request.item]
            self._sends.append((message, command.message(message, request.destination)))
        for job_id, at_s in lanes.paced():
            self.timers.set(("pace", job_id), at_s)
        for destination in lanes.questions(QUESTIONS):
            self._questions.append(destination)
            self.timers.set(("question", destination), now_s + QUESTION_TIMEOUT_S)

    # -- jobs -------------------------------------------------------------------------------------

    def _take_up(self, job: Job, items: dict[int, Item]) -> OpenJob:
        policy = Policy.of(job.given, job.total)
        self.lanes.open_job(job.id, policy.concurrency, policy.rate)
        if job.expires_s is not None:
            self.timers.set(("job", job.id), job.expires_s)
        if job.status is JobStatus.PENDING:
            self.timers.set(("start", job.id), self._now_s + self._until_start_s(job))
        commands = {id_: wire.Command(item.command(), self._tunnel) for id_, item in items.items()}
        return OpenJob(job, items, commands, policy)

    def _timed(self, job: Job) -> Job:
        """The job with its time running from now."""
        if job.timeout_s is None:
            return job
        return replace(job, boot=self._clock.boot(), expires_s=self._now_s + job.timeout_s)

    def _until_start_s(self, job: Job) -> float:
        left_s = seconds(job.start_at or job.created_at) - self._clock.wall_s()
        return min(max(left_s, 0.0), START_CHECK_S)

    def _start_if_due(self, opened: OpenJob) -> None:
        left_s = self._until_start_s(opened.job)
        if opened.job.status is not JobStatus.PENDING:
            return
        if left_s > 0:
            self.timers.set(("start", opened.job.id), self._now_s + left_s)
        else:
            self._start(opened, JobEvent.START)

    def _start(self, opened: OpenJob, event: JobEvent) -> None:
        job = opened.job.after(event, self._at)
        if job.expires_s is None:
            job = self._timed(job)
        if job.expires_s is not None:
            self.timers.set(("job", job.id), job.expires_s)
        self.ledger.write_job(job)
        self._release(opened)

    def _pause(self, opened: OpenJob, reason: str) -> None:
        self.ledger.write_job(opened.job.after(JobEvent.PAUSE, self._at, reason=reason))
        for request in opened.requests.values():
            if request.status is RequestStatus.PENDING and self.lanes.holds(request.id):
                self.lanes.remove(request.id)

    def _resume(self, opened: OpenJob) -> None:
        """Go on; a gate that is closed opens, a time to start has come."""
        closed = opened.job.gate is GateStatus.CLOSED
        paused = opened.job.status is JobStatus.PAUSED
        self._start(opened, JobEvent.RESUME if paused else JobEvent.START)
        if closed:
            self._open_wave(opened)

    def _release(self, opened: OpenJob) -> None:
        """Let those requests wait for their turn that may be sent now: of the waves that are open."""
        job = opened.job
        waits = self.timers.deadline_s(("begin", job.id)) is not None
        if waits or job.status is not JobStatus.DISPATCHING or job.ending:
            return
        end = job.first + opened.policy.waves[job.wave - 1]
        for request in opened.requests.values():
            if (
                request.id < end
                and request.status is RequestStatus.PENDING
                and not self.lanes.holds(request.id)
            ):
                self._enter(opened, request)

    def _enter(self, opened: OpenJob, request: Request) -> None:
        self.lanes.add(
            request.id,
            request.job,
            request.destination,
            write=opened.items[request.item].method != "get",
            in_flight=request.status is RequestStatus.SENT,
        )

    def _settle_all(self) -> None:
        for job_id in self.ledger.touched():
            self._settle(job_id)

    def _settle(self, job_id: int) -> Job:
        """Bring a job up to date, and see whether it stops, goes on to the next wave, or has ended."""
        opened = self.ledger.opened(job_id)
        job = self.ledger.settle(job_id, self._at)
        if opened is not None and not job.final and job.ending is None:
            why = opened.policy.aborts(job.failed_count, job.done_count)
            if why is not None:
                self._stop(opened, JobEvent.ABORT, why, force=False)
            elif job.status is JobStatus.DISPATCHING and job.gate is None:
                self._judge_wave(opened, rested=False)
            if job_id in self.ledger.touched():
                return self._settle(job_id)
        if job.final:
            self._close(job_id)
            log.info("job %s %s: %s", job_id, job.status, _summary(job), extra={"action": "job_ended"})
        return job

    def _judge_wave(self, opened: OpenJob, *, rested: bool) -> None:
        """The open wave is done: its gate fails, or opens at once, or after a rest."""
        job, policy = opened.job, opened.policy
        if job.wave == len(policy.waves) or job.done_count < policy.waves[job.wave - 1]:
            return
        why = policy.gate_fails(job.wave, job.failed_count - job.wave_errors)
        if why is not None and policy.gate.aborts:
            self._stop(opened, JobEvent.ABORT, why, force=False)
        elif why is not None:
            if job.status is JobStatus.DISPATCHING:
                self._pause(opened, why)
            self.ledger.write_job(replace(opened.job, gate=GateStatus.CLOSED, reason=why))
        elif policy.gate.soak_s and not rested:
            self.ledger.write_job(replace(job, gate=GateStatus.SOAK))
            self.timers.set(("soak", job.id), self._now_s + policy.gate.soak_s)
        else:
            self._open_wave(opened)

    def _open_wave(self, opened: OpenJob) -> None:
        job = opened.job
        self.timers.cancel(("soak", job.id))
        self.ledger.write_job(replace(job, wave=job.wave + 1, wave_errors=job.failed_count, gate=None))
        self._release(opened)

    def _stop(self, opened: OpenJob, event: JobEvent, reason: str, *, force: bool) -> None:
        """Send no more of this job; with ``force`` wait for nothing either."""
        self.ledger.write_job(opened.job.stopping(event, reason))
        for request in list(opened.requests.values()):
            if request.status is RequestStatus.PENDING:
                self._end_unsent(request)
            elif force:
                said = f"no answer before the job ended ({reason}): it may have run"
                expired = event is JobEvent.EXPIRE
                how = RequestEvent.EXPIRE if expired else RequestEvent.LOSE
                self._end(request, how, _said(said, 408 if expired else None))

    def _close(self, job_id: int) -> None:
        self.lanes.close_job(job_id)
        for what in ("job", "begin", "start", "soak", "pace"):
            self.timers.cancel((what, job_id))

    # -- requests ---------------------------------------------------------------------------------

    def _item(self, request: Request) -> Item:
        return self.ledger.opened_of(request.id).items[request.item]

    def _end_unsent(self, request: Request) -> None:
        """It is not sent any more. One that waits for another attempt ends as the last one left it."""
        job = self.ledger.opened_of(request.id).job
        if request.history:
            event, result = request.last_outcome()
            said = f"{result.get('message')}; not sent again: {job.reason}"
            ended = request.without_retry().after(event, self._at, result={**result, "message": said})
            self.ledger.write(request, ended)
            self._let_go(request)
            return
        event = RequestEvent.CANCEL if job.ending is JobEvent.CANCEL else RequestEvent.SKIP
        self._end(request, event, _said(f"not sent: {job.reason}"))

    def _end(self, request: Request, event: RequestEvent, result: Any) -> None:
        """It is done, unless its job lets it have another attempt. Nothing of it stays in memory then."""
        opened = self.ledger.opened_of(request.id)
        if request.status is RequestStatus.SENT and opened.job.ending is None:
            outcome = TRANSITIONS[(request.status, event)]
            method = opened.items[request.item].method
            if opened.policy.tries_again(outcome, request.attempts, method):
                wait_s = opened.policy.retry.wait_s(request.attempts)
                self._try_again(request, outcome, result, wait_s=wait_s)
                return
        self.ledger.write(request, request.after(event, self._at, result=result))
        self._let_go(request)

    def _let_go(self, request: Request) -> None:
        self._flight.landed(request.id, request.sending)
        self._refused.pop(request.id, None)
        if self.lanes.holds(request.id):
            self.lanes.remove(request.id)

    def _try_again(
        self, request: Request, outcome: RequestStatus, result: Any, *, wait_s: float | None
    ) -> None:
        """Another attempt, under a fresh message id, at once or after a while."""
        message = self.ledger.message_id(request)
        back = request.after(RequestEvent.RETRY, self._at, result=result, outcome=outcome, message=message)
        if message is None:
            self._give_up(request, back, _said(NO_IDS))
            return
        self._refused.pop(request.id, None)
        self._wait_again(request, back, None if wait_s is None else self._now_s + wait_s, locked=False)

    def _wait_again(
        self, request: Request, back: Request, until_s: float | None = None, *, locked: bool = False
    ) -> None:
        """It is not in flight any more, but waits: for its turn, for some time, or for its job to go on."""
        self.ledger.write(request, back)
        self._flight.landed(request.id, request.sending)
        job = self.ledger.opened_of(back.id).job
        if job.ending:
            self._end_unsent(back)
        elif job.status is not JobStatus.DISPATCHING:
            self.lanes.remove(back.id)
        elif until_s is None:
            self.lanes.put_back(back.id)
        else:
            self.lanes.delay(back.id, until_s, locked=locked)
            self.timers.set(("wake", back.id), until_s)

    def _refuse(self, request: Request, answer: Answer) -> None:
        """The controller did not pass it on: it waits a little and is sent again, not for ever."""
        self.refusals[answer.result.get("code") or 0] += 1
        if answer.locked:
            self.lanes.window.refused(self._now_s)
        message = None if answer.locked else self.ledger.message_id(request)
        back = request.after(RequestEvent.REFUSE, self._at, message=message)
        times, waited_s = self._refused.get(request.id, (0, 0.0))
        delay_s = min(FIRST_DELAY_S * 2 ** min(times, 16), LAST_DELAY_S) * random.uniform(0.5, 1.0)
        # Only this counts, not how long its job was paused or the bus away meanwhile.
        self._refused[request.id] = (times + 1, waited_s + delay_s)
        if message is None and not answer.locked:
            self._give_up(request, back, _said(NO_IDS))
        elif waited_s >= self._settings.lock_wait_s and not self.ledger.opened_of(request.id).job.ending:
            said = f"{answer.result.get('message')}; refused for {waited_s:.0f} s, it did not run"
            self._give_up(request, back, {**answer.result, "message": said})
        else:
            self._wait_again(request, back, self._now_s + delay_s, locked=answer.locked)

    def _give_up(self, request: Request, back: Request, result: Any) -> None:
        """It is not in flight any more, and shall not be sent again."""
        self.ledger.write(request, back)
        self._flight.landed(request.id, request.sending)
        self._end(back, RequestEvent.FAIL, result)

    def _answered_late(self, message: int, answer: Answer) -> None:
        """Nobody waits for it any more: it may still correct what is not known, or spare another attempt."""
        if answer.event not in (RequestEvent.SUCCEED, RequestEvent.FAIL):
            return
        request = self.ledger.find_request(message)
        if request is None or (answer.event is RequestEvent.FAIL and message != request.sending):
            return
        if self.ledger.find_item(request).code is not None:
            answer = answer.as_delivery()
        earlier = request.open and bool(request.history)
        if request.status not in UNANSWERED and not earlier:
            log.debug("an answer for message %s came twice, or for nobody", message)
        elif request.open:
            self.ledger.write(
                request, request.after(answer.event, self._at, result={**answer.result, "late": True})
            )
            self._let_go(request)
        else:
            corrected = request.after(answer.event, self._at, result=answer.result)
            self.ledger.correct(request, corrected)
            self._forgive(corrected)

    def _forgive(self, request: Request) -> None:
        """A failure of an earlier wave that was none is not counted there any more."""
        opened = self.ledger.opened(request.job)
        if opened is None or request.status is not RequestStatus.RESOLVED:
            return
        job = opened.job
        if wave_of(opened.policy.waves, request.id - job.first) < job.wave:
            self.ledger.write_job(replace(job, wave_errors=job.wave_errors - 1))


def _said(message: str, code: int | None = None) -> dict[str, Any]:
    """A result of our own making."""
    return {"code": code, "data": None, "source": "puppetmaster", "message": message}


def _summary(job: Job) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in job.counts.items() if count)
    return f"{counts} ({job.reason})" if job.reason else counts
