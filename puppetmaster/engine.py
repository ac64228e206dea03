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
from puppetmaster.batch import JobSpec
from puppetmaster.clock import Clock, iso, seconds
from puppetmaster.errors import Conflict, Unavailable
from puppetmaster.job import Job, JobEvent, JobStatus, fresh_counts
from puppetmaster.lanes import Lanes
from puppetmaster.ledger import Ledger, OpenJob
from puppetmaster.request import UNANSWERED, Item, Request, RequestEvent, RequestStatus
from puppetmaster.settings import Settings
from puppetmaster.store import Changes, Ids, Reader
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
        self.ledger = Ledger(reader, ids)
        self.lanes = Lanes(settings.window, settings.lock_cache_s)
        self.timers = Timers()
        #: Refusals by code, 423 above all, and sendings after the first: since the start.
        self.refusals: Counter[int] = Counter()
        self.resent = 0
        self._settings = settings
        self._clock = clock
        self._tunnel = tunnel
        self._flight: dict[int, int] = {}  # message id -> request id
        self._doubtful: set[int] = set()  # in flight, but whoever could bring the answer went away
        self._refused: dict[int, tuple[int, float]] = {}  # how often, and how long it waited for that
        self._sends: list[tuple[int, bytes]] = []
        self._questions: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A turn begins: the time is now."""
        self._now_s = self._clock.now_s()
        self._at = iso(self._clock.wall_s())

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
        ids = self.ledger.new_ids(spec.total)
        job = Job(
            id=ids.job,
            first=ids.first,
            total=spec.total,
            created_at=self._at,
            name=spec.name,
            key=spec.key,
            digest=spec.digest,
            timeout_s=spec.timeout_s,
            boot=self._clock.boot(),
            expires_s=None if spec.timeout_s is None else self._now_s + spec.timeout_s,
            request_timeout_s=spec.request_timeout_s or self._settings.request_timeout_s,
            concurrency=spec.concurrency,
            idempotent=spec.idempotent,
            given=spec.given,
            counts=fresh_counts(spec.total),
        )
        items, requests = _expand(spec, job)
        self.ledger.create(self._take_up(job, items, held=True), requests)
        self._enter(requests, items)
        self.timers.set(("begin", job.id), self._now_s + BEGIN_S)
        return job

    def begin_job(self, job_id: int) -> None:
        """Whoever created the job has its answer, or had time enough: its requests may be sent."""
        self.timers.cancel(("begin", job_id))
        opened = self.ledger.opened(job_id)
        if opened is not None and opened.job.status is JobStatus.DISPATCHING:
            self.lanes.hold(job_id, held=False)

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
        elif opened.job.status is not wanted:
            paused = wanted is JobStatus.PAUSED
            event = JobEvent.PAUSE if paused else JobEvent.RESUME
            reason = "paused by a request" if paused else None
            self.ledger.write_job(opened.job.after(event, self._at, reason=reason))
            self.lanes.hold(job_id, held=paused)
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
        if self.ledger.opened_of(id_).job.status is JobStatus.PAUSED:
            return "the job is paused"
        if self.stalled:
            return self.stalled
        if not self.link_up:
            return "the bus is down"
        if not self.controller_up:
            return "the controller does not answer"
        return self.lanes.why(id_)

    # -- what happens on the bus ------------------------------------------------------------------

    def answered(self, message: int, answer: Answer) -> None:
        """An answer came for the message of this id; perhaps late, twice, or for nobody."""
        id_ = self._flight.get(message)
        if id_ is None:
            self._answered_late(message, answer)
        elif answer.refusal:
            self._refuse(id_, answer)
        else:
            request = self.ledger.request(id_)
            if answer.result.get("source") == "controller" and answer.result.get("code") in (403, 404):
                self.lanes.forget(request.destination)
            self._end(request, answer.event, answer.result)

    def not_sent(self, message: int) -> None:
        """This message never left: its request waits again, and the attempt does not count."""
        self._put_back(self.ledger.request(self._flight[message]), RequestEvent.REFUSE)

    def link(self, *, up: bool) -> None:
        """The connection to the broker came or went; what is in flight may have gone with it."""
        self.link_up = up
        if not up:
            self.controller_up = False
            self.lanes.forget_all()
            self._doubt(self._flight.values())

    def controller(self, *, up: bool) -> None:
        """The controller answers, or it does not any more."""
        self.controller_up = up and self.link_up

    def controller_restarted(self, known_s: float) -> None:
        """It has forgotten everybody, and the answers to what it was given up to ``known_s``.

        What was sent after that cannot be told from what the new one has: it keeps its own time.
        """
        self.lanes.forget_all()
        self._doubt([id_ for id_ in self._flight.values() if self._sent_s(id_) < known_s])

    def owners(self, destination: str, resources: Iterable[str] | None) -> None:
        """The controller's answer to a question of a turn; None: it knows no owner."""
        self.timers.cancel(("question", destination))
        self.lanes.learn(destination, resources, self._now_s)

    def recover(self, job: Job, items: dict[int, Item], requests: list[Request]) -> None:
        """Take up a job that an earlier process left, with its requests that are not done."""
        if job.expires_s is not None and job.boot != self._clock.boot():
            job = replace(job, boot=self._clock.boot(), expires_s=self._now_s + self._time_left_s(job))
        self.ledger.open_job(
            self._take_up(job, items, held=job.status is not JobStatus.DISPATCHING), requests
        )
        self._enter(requests, items)
        for request in requests:
            if request.status is RequestStatus.SENT:
                self._flight[request.message or request.id] = request.id
                self._doubtful.add(request.id)
                self.timers.set(request.id, self._now_s + self._settings.grace_s)

    def _time_left_s(self, job: Job) -> float:
        """After a restart of the machine only the wall clock can say; it may be wrong by years."""
        assert job.timeout_s is not None
        gone_s = self._clock.wall_s() - seconds(job.created_at)
        return min(max(job.timeout_s - gone_s, 0.0), job.timeout_s)

    # -- the end of a turn ------------------------------------------------------------------------

    def decide(self) -> Turn:
        """Fire what is due, send what may go, bring the jobs up to date: all of it in the turn."""
        for key in self.timers.due(self._now_s):
            self._fire(key)
        if self.link_up and self.controller_up and not self.stalled:
            self._send()
        for job_id in self.ledger.touched():
            self._settle(job_id)
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
            self._put_back(self.ledger.request(self._flight[message]), RequestEvent.REFUSE)
        self._sends = []
        revoked = sorted(self.ledger.created)
        for job_id in revoked:
            for request in self.ledger.revoke(job_id):
                self._let_go(request)
            self._close(job_id)
        for job_id in self.ledger.touched():
            self._settle(job_id)
        return revoked

    def _fire(self, key: Any) -> None:
        if isinstance(key, int):
            self._time_is_over(self.ledger.request(key))
            return
        what, whom = key
        if what == "begin":
            self.begin_job(whom)
        elif what == "wake":
            self.lanes.wake(whom, self._now_s)
        elif what == "question":
            self.lanes.learn(whom, None, self._now_s)
        elif (opened := self.ledger.opened(whom)) is not None:
            reason = f"its timeout of {opened.job.timeout_s:g} s is over"
            self._stop(opened, JobEvent.EXPIRE, reason, force=True)

    def _time_is_over(self, request: Request) -> None:
        opened = self.ledger.opened_of(request.id)
        job = opened.job
        if request.id not in self._doubtful:
            said = f"no answer within {job.request_timeout_s:g} s: it may have run"
            self._end(request, RequestEvent.EXPIRE, _said(said, 408))
        elif job.ending is None and job.repeats(opened.items[request.item].method):
            self._put_back(request, RequestEvent.REPEAT)
        else:
            said = "the program, the bus or the controller went away before an answer: it may have run"
            self._end(request, RequestEvent.LOSE, _said(said))

    def _send(self) -> None:
        now_s, lanes, ledger = self._now_s, self.lanes, self.ledger
        while (id_ := lanes.pick(now_s)) is not None:
            opened = ledger.opened_of(id_)
            request = opened.requests[id_]
            message = id_ if request.message is None else ledger.message_id()
            if message is None:
                said = "not sent again: this installation has given out all message ids"
                self._end(request, RequestEvent.FAIL, _said(said))
                continue
            self.resent += message != id_
            ledger.write(request, request.after(RequestEvent.SEND, self._at, message=message))
            self._flight[message] = id_
            self.timers.set(id_, now_s + opened.job.request_timeout_s)
            self._sends.append((message, opened.commands[request.item].message(message, request.destination)))
        for destination in lanes.questions(QUESTIONS):
            self._questions.append(destination)
            self.timers.set(("question", destination), now_s + QUESTION_TIMEOUT_S)

    def _settle(self, job_id: int) -> Job:
        job = self.ledger.settle(job_id, self._at)
        if job.final:
            self._close(job_id)
            log.info("job %s %s: %s", job_id, job.status, _summary(job), extra={"action": "job_ended"})
        return job

    # -- steps ------------------------------------------------------------------------------------

    def _take_up(self, job: Job, items: dict[int, Item], *, held: bool) -> OpenJob:
        self.lanes.open_job(job.id, job.concurrency, held=held)
        if job.expires_s is not None:
            self.timers.set(("job", job.id), job.expires_s)
        commands = {
            id_: wire.Command(item.method, item.resource, item.data, self._tunnel)
            for id_, item in items.items()
        }
        return OpenJob(job, items, commands)

    def _enter(self, requests: Iterable[Request], items: dict[int, Item]) -> None:
        for request in requests:
            self.lanes.add(
                request.id,
                request.job,
                request.destination,
                write=items[request.item].method != "get",
                in_flight=request.status is RequestStatus.SENT,
            )

    def _close(self, job_id: int) -> None:
        self.lanes.close_job(job_id)
        self.timers.cancel(("job", job_id))
        self.timers.cancel(("begin", job_id))

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

    def _end_unsent(self, request: Request) -> None:
        job = self.ledger.opened_of(request.id).job
        event = RequestEvent.CANCEL if job.ending is JobEvent.CANCEL else RequestEvent.SKIP
        self._end(request, event, _said(f"not sent: {job.reason}"))

    def _end(self, request: Request, event: RequestEvent, result: Any) -> None:
        """It is done: nothing of it stays in memory."""
        self.ledger.write(request, request.after(event, self._at, result=result))
        self._let_go(request)

    def _let_go(self, request: Request) -> None:
        self._land(request)
        self._refused.pop(request.id, None)
        self.lanes.remove(request.id)

    def _land(self, request: Request) -> None:
        """It is not in flight any more."""
        if request.message is not None:
            self._flight.pop(request.message, None)
        self._doubtful.discard(request.id)
        self.timers.cancel(request.id)

    def _wait_again(self, request: Request, event: RequestEvent) -> Request:
        back = request.after(event, self._at)
        self.ledger.write(request, back)
        self._land(request)
        return back

    def _put_back(self, request: Request, event: RequestEvent) -> None:
        back = self._wait_again(request, event)
        self.lanes.put_back(back.id)
        if self.ledger.opened_of(back.id).job.ending:
            self._end_unsent(back)

    def _refuse(self, id_: int, answer: Answer) -> None:
        """The controller did not pass it on: it waits a little and is sent again, not for ever."""
        back = self._wait_again(self.ledger.request(id_), RequestEvent.REFUSE)
        self.refusals[answer.result.get("code") or 0] += 1
        times, waited_s = self._refused.get(id_, (0, 0.0))
        if self.ledger.opened_of(id_).job.ending:
            self._end_unsent(back)
        elif waited_s >= self._settings.lock_wait_s:
            said = f"{answer.result.get('message')}; refused for {waited_s:.0f} s, it did not run"
            self._end(back, RequestEvent.FAIL, {**answer.result, "message": said})
        else:
            longest_s = min(FIRST_DELAY_S * 2 ** min(times, 16), LAST_DELAY_S)
            delay_s = longest_s * random.uniform(0.5, 1.0)
            # Only this counts, not how long its job was paused or the bus away meanwhile.
            self._refused[id_] = (times + 1, waited_s + delay_s)
            self.lanes.delay(id_, self._now_s + delay_s)
            self.timers.set(("wake", id_), self._now_s + delay_s)

    def _doubt(self, ids: Iterable[int]) -> None:
        """Their answers may never come: wait for late ones, but not as long as for an answer."""
        until_s = self._now_s + self._settings.grace_s
        for id_ in ids:
            self._doubtful.add(id_)
            self.timers.set(id_, min(until_s, self.timers.deadline_s(id_) or until_s))

    def _sent_s(self, id_: int) -> float:
        deadline_s = self.timers.deadline_s(id_) or self._now_s
        return deadline_s - self.ledger.opened_of(id_).job.request_timeout_s

    def _answered_late(self, message: int, answer: Answer) -> None:
        if answer.event not in (RequestEvent.SUCCEED, RequestEvent.FAIL):
            return
        request = self.ledger.find_request(message)
        if request is None or request.status not in UNANSWERED:
            log.debug("an answer for message %s came twice, or for nobody", message)
            return
        self.ledger.correct(request, request.after(answer.event, self._at, result=answer.result))


def _expand(spec: JobSpec, job: Job) -> tuple[dict[int, Item], list[Request]]:
    """The items and the requests of a new job, in batch order, then in the order of destinations."""
    items: dict[int, Item] = {}
    requests: list[Request] = []
    for one in spec.items:
        first = job.first + len(requests)
        items[first] = Item(id=first, job=job.id, method=one.method, resource=one.resource, data=one.data)
        requests += [
            Request(id=id_, job=job.id, item=first, destination=destination)
            for id_, destination in enumerate(one.destinations, first)
        ]
    return items, requests


def _said(message: str, code: int | None = None) -> dict[str, Any]:
    """A result of our own making."""
    return {"code": code, "data": None, "source": "puppetmaster", "message": message}


def _summary(job: Job) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in job.counts.items() if count)
    return f"{counts} ({job.reason})" if job.reason else counts
