"""What happens next: every decision about jobs and requests, and none of the doing.

The dispatcher calls a method for each thing that happened and then ``decide``; what was decided is
a ``Turn``: changes to make durable, and messages that may leave once they are. The engine knows no
thread, socket or clock: ``begin`` tells it the time. It holds open jobs only; what has ended is
read from the store when a late answer asks for it.
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
from puppetmaster.errors import Conflict, NotFound, Unavailable
from puppetmaster.job import VERDICT, Job, JobEvent, JobStatus, fresh_counts
from puppetmaster.lanes import Lanes
from puppetmaster.request import UNANSWERED, Item, Request, RequestEvent, RequestStatus
from puppetmaster.settings import Settings
from puppetmaster.store import LAST_REQUEST_ID, Changes, Ids, Reader
from puppetmaster.timers import Timers

log = logging.getLogger("sanji.puppetmaster.engine")

#: Message ids for further sendings are taken from the counter in blocks, to write it rarely.
ID_BLOCK = 1000
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

    changes: Changes = field(default_factory=Changes)
    created: set[int] = field(default_factory=set)
    sends: list[tuple[int, bytes]] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class OpenJob:
    """A job that has not ended, with what is needed to go on with it."""

    job: Job
    items: dict[int, Item]
    commands: dict[int, wire.Command]
    requests: dict[int, Request] = field(default_factory=dict)
    deltas: Counter[RequestStatus] = field(default_factory=Counter)


class Engine:
    """The state of all open jobs. Called by one thread, the dispatcher's."""

    def __init__(self, settings: Settings, clock: Clock, reader: Reader, ids: Ids, tunnel: str) -> None:
        self.link_up = False
        self.controller_up = False
        self.stalled: str | None = None
        self.turn = Turn()
        self.lanes = Lanes(settings.window, settings.lock_cache_s)
        self.timers = Timers()
        self._settings = settings
        self._clock = clock
        self._reader = reader
        self._ids = ids
        self._block_end = ids.next_request
        self._tunnel = tunnel
        self._open: dict[int, OpenJob] = {}
        self._owner: dict[int, int] = {}
        self._flight: dict[int, int] = {}
        self._doubtful: set[int] = set()
        self._refused: dict[int, tuple[int, float]] = {}
        self._touched: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """A turn begins: the time is now."""
        self._now_s = self._clock.now_s()
        self._at = iso(self._clock.wall_s())

    @property
    def open_jobs(self) -> int:
        """How many jobs have not ended."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many requests are not done and not in flight."""
        return len(self._owner) - len(self._flight)

    # -- what callers ask for ---------------------------------------------------------------------

    def create(self, spec: JobSpec) -> Job:
        """A new job, or the one that exists under the same key. Raises Conflict, Unavailable."""
        if spec.key is not None and (existing := self._by_key(spec.key)) is not None:
            if existing.digest != spec.digest:
                raise Conflict(
                    f"The key {spec.key!r} belongs to job {existing.id}, which was created with another body: "
                    "send that body again, or use a new key."
                )
            return existing
        if self.stalled:
            raise Unavailable(f"No job can be created: {self.stalled}")
        first = self._ids.next_request
        if max(first, self._block_end) + spec.total > LAST_REQUEST_ID:
            raise Unavailable("No job can be created: this installation has given out all request ids.")
        self._ids.next_request = self._block_end = first + spec.total
        job = self._job_of(spec, first)
        self._ids.next_job += 1
        opened = self._take_up(job, self._items_of(spec, job), held=True)
        self.timers.set(("begin", job.id), self._now_s + BEGIN_S)
        self._add_new(opened, spec)
        self.turn.changes.items.update(opened.items)
        self.turn.changes.ids = replace(self._ids)
        self.turn.created.add(job.id)
        self._touched.add(job.id)
        return job

    def _job_of(self, spec: JobSpec, first: int) -> Job:
        expires_s = None if spec.timeout_s is None else self._now_s + spec.timeout_s
        return Job(
            id=self._ids.next_job,
            first=first,
            total=spec.total,
            created_at=self._at,
            name=spec.name,
            key=spec.key,
            digest=spec.digest,
            timeout_s=spec.timeout_s,
            boot=self._clock.boot(),
            expires_s=expires_s,
            request_timeout_s=spec.request_timeout_s or self._settings.request_timeout_s,
            concurrency=spec.concurrency,
            idempotent=spec.idempotent,
            given=spec.given,
            counts=fresh_counts(spec.total),
        )

    def _items_of(self, spec: JobSpec, job: Job) -> dict[int, Item]:
        items, first = {}, job.first
        for one in spec.items:
            items[first] = Item(id=first, job=job.id, method=one.method, resource=one.resource, data=one.data)
            first += len(one.destinations)
        return items

    def _add_new(self, opened: OpenJob, spec: JobSpec) -> None:
        job = opened.job
        for (item_id, item), one in zip(opened.items.items(), spec.items, strict=True):
            write = item.method != "get"
            for id_, destination in enumerate(one.destinations, item_id):
                request = Request(id=id_, job=job.id, item=item_id, destination=destination)
                opened.requests[id_] = self.turn.changes.requests[id_] = request
                self._owner[id_] = job.id
                self.lanes.add(id_, job.id, destination, write=write)

    def begin_job(self, job_id: int) -> None:
        """Whoever created the job has its answer, or had time enough: its requests may be sent."""
        self.timers.cancel(("begin", job_id))
        opened = self._open.get(job_id)
        if opened is not None and opened.job.status is JobStatus.DISPATCHING:
            self.lanes.hold(job_id, held=False)

    def control(self, job_id: int, wanted: JobStatus, *, force: bool) -> Job:
        """Pause, resume or cancel. Raises NotFound, Conflict."""
        opened = self._open.get(job_id)
        if opened is None:
            job = self._find_job(job_id)
            raise Conflict(f"Job {job_id} is {job.status}: it has ended and cannot become {wanted}.")
        if wanted is JobStatus.CANCELED:
            self._stop(opened, JobEvent.CANCEL, "canceled by a request", force=force)
        elif opened.job.ending:
            raise Conflict(f"Job {job_id} is being stopped ({opened.job.reason}): it cannot become {wanted}.")
        elif opened.job.status is not wanted:
            event = JobEvent.PAUSE if wanted is JobStatus.PAUSED else JobEvent.RESUME
            reason = "paused by a request" if event is JobEvent.PAUSE else None
            opened.job = opened.job.after(event, self._at, reason=reason)
            self.lanes.hold(job_id, held=wanted is JobStatus.PAUSED)
        self._touched.add(job_id)
        return self._settled(job_id)

    def delete(self, job_id: int) -> Job:
        """Stop the job if it runs, and remove it: the job as it last was. Raises NotFound."""
        opened = self._open.get(job_id)
        if opened is None:
            job = self._find_job(job_id)
        else:
            self._stop(opened, JobEvent.CANCEL, "removed by a request", force=True)
            job = self._settled(job_id)
        changes = self.turn.changes
        changes.jobs.pop(job_id, None)
        for id_ in job.request_ids:
            changes.requests.pop(id_, None)
        for id_ in [id_ for id_, item in changes.items.items() if item.job == job_id]:
            del changes.items[id_]
        self.turn.created.discard(job_id)
        changes.deleted[job_id] = job
        return job

    def why(self, ids: Iterable[int]) -> dict[int, str | None]:
        """What each of these requests waits for; None for those that do not wait."""
        return {id_: self._why(id_) for id_ in ids}

    def _why(self, id_: int) -> str | None:
        job_id = self._owner.get(id_)
        if job_id is not None:
            if self._open[job_id].job.status is JobStatus.PAUSED:
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
            if answer.result.get("code") in (403, 404):
                self.lanes.forget(self._request(id_).destination)
            self._end(self._request(id_), answer.event, answer.result)

    def not_sent(self, message: int) -> None:
        """This message never left: its request waits again, and the attempt does not count."""
        self._put_back(self._request(self._flight[message]), RequestEvent.REFUSE)

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
        """It has forgotten everybody, and the answers of what it had been given by ``known_s``.

        What was sent after that is in doubt too, but cannot be told from what the new one has: it
        keeps its own time.
        """
        self.lanes.forget_all()
        self._doubt([id_ for id_ in self._flight.values() if self._sent_s(id_) < known_s])

    def owners(self, destination: str, resources: Iterable[str] | None) -> None:
        """The controller's answer to a question of a turn; None: none came."""
        self.timers.cancel(("question", destination))
        self.lanes.learn(destination, resources, self._now_s)

    def recover(self, job: Job, items: dict[int, Item], requests: Iterable[Request]) -> None:
        """Take up a job that an earlier process left, with its requests that are not done."""
        if job.expires_s is not None and job.boot != self._clock.boot():
            job = replace(job, boot=self._clock.boot(), expires_s=self._now_s + self._time_left_s(job))
        opened = self._take_up(job, items, held=job.status is not JobStatus.DISPATCHING)
        for request in requests:
            opened.requests[request.id] = request
            self._owner[request.id] = job.id
            sent = request.status is RequestStatus.SENT
            write = items[request.item].method != "get"
            self.lanes.add(request.id, job.id, request.destination, write=write, in_flight=sent)
            if sent:
                self._flight[request.message or request.id] = request.id
                self._doubtful.add(request.id)
                self.timers.set(request.id, self._now_s + self._settings.grace_s)
        self._touched.add(job.id)

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
        for job_id in list(self._touched):
            self._settled(job_id)
        return self.turn

    def committed(self) -> None:
        """The turn is durable: the next one begins empty."""
        self.turn = Turn()

    def stall(self, reason: str) -> list[int]:
        """Keep the turn, which could not be made durable, for the next try; nothing of it leaves.

        What was to be sent waits again. Jobs that were created in it do not exist: their ids are returned.
        """
        self.stalled = reason
        for message, _ in self.turn.sends:
            self._put_back(self._request(self._flight[message]), RequestEvent.REFUSE)
        self.turn.sends.clear()
        revoked = sorted(self.turn.created)
        for job_id in revoked:
            self._revoke(job_id)
        for job_id in list(self._touched):
            self._settled(job_id)
        return revoked

    def _revoke(self, job_id: int) -> None:
        opened = self._open.pop(job_id)
        for id_ in opened.job.request_ids:
            self.turn.changes.requests.pop(id_, None)
            if id_ in opened.requests:
                self._drop(opened, opened.requests[id_])
        for item_id in opened.items:
            self.turn.changes.items.pop(item_id, None)
        self.turn.changes.jobs.pop(job_id, None)
        self.turn.created.discard(job_id)
        self._touched.discard(job_id)
        self.timers.cancel(("job", job_id))
        self.lanes.close_job(job_id)

    def _fire(self, key: Any) -> None:
        if isinstance(key, int):
            self._time_is_over(self._request(key))
            return
        what, whom = key
        if what == "begin":
            self.begin_job(whom)
        elif what == "wake":
            self.lanes.wake(whom, self._now_s)
        elif what == "question":
            self.lanes.learn(whom, None, self._now_s)
        elif (opened := self._open.get(whom)) is not None:
            reason = f"its timeout of {opened.job.timeout_s:g} s is over"
            self._stop(opened, JobEvent.EXPIRE, reason, force=True)

    def _time_is_over(self, request: Request) -> None:
        job = self._open[request.job].job
        if request.id not in self._doubtful:
            said = f"no answer within {job.request_timeout_s:g} s: it may have run"
            self._end(request, RequestEvent.EXPIRE, _said(said, 408))
        elif job.ending is None and job.repeats(self._item(request).method):
            self._put_back(request, RequestEvent.REPEAT)
        else:
            said = "the program, the bus or the controller went away before an answer: it may have run"
            self._end(request, RequestEvent.LOSE, _said(said))

    def _send(self) -> None:
        now_s, lanes, sends = self._now_s, self.lanes, self.turn.sends
        while (id_ := lanes.pick(now_s)) is not None:
            opened = self._open[self._owner[id_]]
            request = opened.requests[id_]
            message = id_ if request.message is None else self._fresh_message_id()
            sent = request.after(RequestEvent.SEND, self._at, message=message)
            self._set(opened, request, sent)
            self._flight[message] = id_
            self.timers.set(id_, now_s + opened.job.request_timeout_s)
            sends.append((message, opened.commands[request.item].message(message, request.destination)))
        for destination in lanes.questions(QUESTIONS):
            self.turn.questions.append(destination)
            self.timers.set(("question", destination), now_s + QUESTION_TIMEOUT_S)

    def _fresh_message_id(self) -> int:
        if self._ids.next_request >= self._block_end:
            self._block_end = self._ids.next_request + ID_BLOCK
            self.turn.changes.ids = replace(self._ids, next_request=self._block_end)
        self._ids.next_request += 1
        return self._ids.next_request - 1

    def _settled(self, job_id: int) -> Job:
        """The job with what happened to its requests counted, and ended when nothing is left open."""
        self._touched.discard(job_id)
        opened = self._open[job_id]
        job = opened.job.tallied(opened.deltas)
        opened.deltas.clear()
        if job.started_at is None and job.counts[RequestStatus.SENT]:
            job = replace(job, started_at=self._at)
        if not job.open_count:
            job = job.after(job.ending or JobEvent.FINISH, self._at)
            del self._open[job_id]
            self.lanes.close_job(job_id)
            self.timers.cancel(("job", job_id))
            log.info("job %s %s: %s", job_id, job.status, _summary(job), extra={"action": "job_ended"})
        opened.job = self.turn.changes.jobs[job_id] = job
        return job

    # -- steps ------------------------------------------------------------------------------------

    def _take_up(self, job: Job, items: dict[int, Item], *, held: bool) -> OpenJob:
        commands = {
            id_: wire.Command(item.method, item.resource, item.data, self._tunnel)
            for id_, item in items.items()
        }
        opened = self._open[job.id] = OpenJob(job=job, items=items, commands=commands)
        self.lanes.open_job(job.id, job.concurrency, held=held)
        if job.expires_s is not None:
            self.timers.set(("job", job.id), job.expires_s)
        return opened

    def _stop(self, opened: OpenJob, event: JobEvent, reason: str, *, force: bool) -> None:
        """Send no more of this job; with ``force`` wait for nothing either."""
        opened.job = opened.job.stopping(event, reason)
        self._touched.add(opened.job.id)
        for request in list(opened.requests.values()):
            if request.status is RequestStatus.PENDING:
                self._end_unsent(request)
            elif force and event is JobEvent.EXPIRE:
                said = f"no answer before the job ended ({reason}): it may have run"
                self._end(request, RequestEvent.EXPIRE, _said(said, 408))
            elif force:
                said = f"no answer before the job was {reason}: it may have run"
                self._end(request, RequestEvent.LOSE, _said(said))

    def _end_unsent(self, request: Request) -> None:
        job = self._open[request.job].job
        canceled = VERDICT[job.ending or JobEvent.CANCEL] is JobStatus.CANCELED
        event = RequestEvent.CANCEL if canceled else RequestEvent.SKIP
        self._end(request, event, _said(f"not sent: {job.reason}"))

    def _end(self, request: Request, event: RequestEvent, result: Any) -> None:
        opened = self._open[request.job]
        ended = request.after(event, self._at, result=result)
        self._set(opened, request, ended)
        self._drop(opened, request)

    def _drop(self, opened: OpenJob, request: Request) -> None:
        """It is done: nothing of it stays in memory."""
        del opened.requests[request.id]
        del self._owner[request.id]
        if request.message is not None:
            self._flight.pop(request.message, None)
        self._doubtful.discard(request.id)
        self._refused.pop(request.id, None)
        self.timers.cancel(request.id)
        self.lanes.remove(request.id)

    def _land(self, request: Request, event: RequestEvent) -> Request:
        """It is not in flight any more, but waits again."""
        back = request.after(event, self._at)
        self._set(self._open[request.job], request, back)
        if request.message is not None:
            self._flight.pop(request.message, None)
        self._doubtful.discard(request.id)
        self.timers.cancel(request.id)
        return back

    def _put_back(self, request: Request, event: RequestEvent) -> None:
        back = self._land(request, event)
        self.lanes.put_back(back.id)
        if self._open[back.job].job.ending:
            self._end_unsent(back)

    def _refuse(self, id_: int, answer: Answer) -> None:
        """The controller did not pass it on: it waits a little and is sent again, not for ever."""
        back = self._land(self._request(id_), RequestEvent.REFUSE)
        times, since_s = self._refused.get(id_, (0, self._now_s))
        if self._open[back.job].job.ending:
            self._end_unsent(back)
        elif self._now_s - since_s >= self._settings.lock_wait_s:
            said = f"{answer.result.get('message')}; it was refused for {self._now_s - since_s:.0f} s and did not run"
            self._end(back, RequestEvent.FAIL, {**answer.result, "message": said})
        else:
            self._refused[id_] = (times + 1, since_s)
            longest_s = min(FIRST_DELAY_S * 2 ** min(times, 16), LAST_DELAY_S)
            until_s = self._now_s + longest_s * random.uniform(0.5, 1.0)
            self.lanes.delay(id_, until_s)
            self.timers.set(("wake", id_), until_s)

    def _doubt(self, ids: Iterable[int]) -> None:
        """Their answers may never come: wait for late ones, but not as long as for an answer."""
        until_s = self._now_s + self._settings.grace_s
        for id_ in ids:
            self._doubtful.add(id_)
            self.timers.set(id_, min(until_s, self.timers.deadline_s(id_) or until_s))

    def _sent_s(self, id_: int) -> float:
        deadline_s = self.timers.deadline_s(id_) or self._now_s
        return deadline_s - self._open[self._owner[id_]].job.request_timeout_s

    def _answered_late(self, message: int, answer: Answer) -> None:
        request = self._find_request(message)
        if request is None or request.status not in UNANSWERED or answer.refusal:
            log.debug("an answer for message %s came twice or for nobody", message)
            return
        if answer.event not in (RequestEvent.SUCCEED, RequestEvent.FAIL):
            return
        corrected = request.after(answer.event, self._at, result=answer.result)
        opened = self._open.get(request.job)
        if opened is not None:
            self._set(opened, request, corrected)
            return
        self.turn.changes.requests[request.id] = corrected
        job = self._find_job(request.job)
        self.turn.changes.jobs[job.id] = job.tallied({request.status: -1, corrected.status: 1})

    def _set(self, opened: OpenJob, old: Request, new: Request) -> None:
        self.turn.changes.requests[new.id] = new
        if new.open:
            opened.requests[new.id] = new
        opened.deltas[old.status] -= 1
        opened.deltas[new.status] += 1
        self._touched.add(new.job)

    # -- look-ups: what is not on disk yet comes before what is ------------------------------------

    def _request(self, id_: int) -> Request:
        return self._open[self._owner[id_]].requests[id_]

    def _item(self, request: Request) -> Item:
        return self._open[request.job].items[request.item]

    def _find_request(self, message: int) -> Request | None:
        for request in self.turn.changes.requests.values() if self.stalled else ():
            if request.message == message:
                return request
        request = self._reader.request_by_message(message)
        if request is None or request.job in self.turn.changes.deleted:
            return None
        return self.turn.changes.requests.get(request.id, request)

    def _find_job(self, job_id: int) -> Job:
        job = None
        if job_id not in self.turn.changes.deleted:
            job = self.turn.changes.jobs.get(job_id) or self._reader.job(job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}: GET /jobs lists those there are.")
        return job

    def _by_key(self, key: str) -> Job | None:
        unsaved = (opened.job for opened in self._open.values() if opened.job.id in self.turn.created)
        for job in filter(None, (*unsaved, self._reader.job_by_key(key))):
            if job.key == key and job.id not in self.turn.changes.deleted:
                opened = self._open.get(job.id)
                return opened.job if opened else self.turn.changes.jobs.get(job.id, job)
        return None


def _said(message: str, code: int | None = None) -> dict[str, Any]:
    """A result of our own making."""
    return {"code": code, "data": None, "source": "puppetmaster", "message": message}


def _summary(job: Job) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in job.counts.items() if count)
    return f"{counts} ({job.reason})" if job.reason else counts
