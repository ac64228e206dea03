"""Jobs from their creation to their end: start, pause, waves and gates, verdict.

This is one half of the engine's decisions; engine/delivery.py has those about requests. It knows no threads
and no sockets.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from puppetmaster.clock import iso, left_s, seconds
from puppetmaster.engine import background
from puppetmaster.engine.background import Background
from puppetmaster.engine.context import Context
from puppetmaster.engine.delivery import Delivery, said
from puppetmaster.engine.state import SMALL_BYTES, Commands, OpenJob
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.errors import Conflict, Unavailable
from puppetmaster.jsoncodec import memory
from puppetmaster.model.job import GateStatus, Job, JobEvent, JobStatus
from puppetmaster.model.request import Item, Request, RequestEvent, RequestStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.model.timeline import ITSELF, What
from puppetmaster.model.why import Reason, Said

log = logging.getLogger("sanji.puppetmaster.engine.lifecycle")

#: What is noted of a job that is being stopped.
STOPPED = {JobEvent.CANCEL: What.CANCELED, JobEvent.ABORT: What.ABORTED, JobEvent.EXPIRE: What.TIMEOUT}
FORCED = Reason.FORCED.said()
#: A new job is held until its creator has the answer, but no longer than this.
BEGIN_S = 0.25
#: Most bytes of large data of open jobs in memory. With more, no other job with large data is created.
LARGE_BYTES = 32 * 1024 * 1024
#: A time is compared with the wall clock at least this often, because the clock may be set.
START_CHECK_S = 30.0


class Lifecycle:
    """Takes each job to its end. One thread uses it: the dispatcher's."""

    def __init__(self, context: Context, delivery: Delivery, background: Background) -> None:
        self._settings = context.settings
        self._state = context.state
        self._scheduler = context.scheduler
        self._timers = context.timers
        self._moment = context.moment
        self._tunnel = context.tunnel
        self._delivery = delivery
        self._background = background
        self._drafts = background.drafts
        #: Kind of a timer -> what to do with the open job when it fires.
        self.timers: dict[TimerKind, Callable[[OpenJob], None]] = {
            TimerKind.EXPIRE: self._expire,
            TimerKind.BEGIN: self._begin,
            TimerKind.START: self._start_if_due,
            TimerKind.SOAK: partial(self._judge_wave, rested=True),
            TimerKind.WINDOW: self._look_at_window,
        }

    # -- what callers ask for ---------------------------------------------------------------------

    def existing(self, spec: JobSpec) -> Job | None:
        """The job that has the same key; None: there is none. Raises Conflict: it has another body."""
        if spec.key is None:
            return None
        existing = self.with_key(spec.key)
        if existing is None or existing.digest == spec.digest:
            return existing
        raise Conflict(
            f"The key '{spec.key}' belongs to job {existing.id}, which was created with another body: "
            "send that body again, or use a new key."
        )

    def with_key(self, key: str) -> Job | None:
        """The job that has this key, or will have it once it is written; None: there is none."""
        return self._drafts.find_by_key(key) or self._state.find_by_key(key)

    def is_draft(self, job_id: int) -> bool:
        """Whether this job is still being written."""
        return job_id in self._drafts

    def is_open(self, job_id: int) -> bool:
        """Whether this job has not ended."""
        return self._state.opened(job_id) is not None

    def open_of(self, template: int) -> list[int]:
        """The ids of the jobs of a template that have not ended."""
        return [one.job.id for one in self._state.all_opened() if one.job.template == template]

    def create(self, spec: JobSpec, exists: Callable[[Job], None] = lambda _: None) -> Job:
        """Create a job. ``exists`` is called in the turn in which it begins to exist.

        Raises Unavailable: there is no room for it, or no ids are left.
        """
        self._check_room(spec.total)
        self._check_data(spec)
        ids = self._state.new_ids(spec.total)
        made = spec.job(
            ids.job, ids.first, self._moment.at, self._moment.wall_s, self._settings.request_timeout_s
        )
        job = self._timed(made) if made.status is JobStatus.DISPATCHING else made

        def exist(job: Job, items: dict[int, Item], requests: list[Request]) -> None:
            opened = self._take_up(job, items)
            opened.held = True
            self._state.create(opened, requests)
            self._timers.set(Timer(TimerKind.BEGIN, job.id), self._moment.now_s + BEGIN_S)
            exists(job)

        if job.total > background.STEPS:
            self._drafts.begin(job, spec, exist)
        else:
            rows = list(spec.requests_of(job))
            for item, request in rows:
                self._state.draft(item, request)
            exist(job, {item.id: item for item, _ in rows}, [request for _, request in rows])
        return job

    def _check_room(self, total: int) -> None:
        """Raises Unavailable: too many jobs or requests are open. These are all in memory."""
        open_jobs = self._state.open_jobs + len(self._drafts)
        open_requests = self._state.open_requests + self._drafts.requests
        most_jobs, most_requests = self._settings.max_open_jobs, self._settings.max_open_requests
        if open_jobs >= most_jobs:
            full, most = f"{open_jobs} have not ended", "PUPPETMASTER_MAX_OPEN_JOBS"
        elif open_requests + total > most_requests and open_jobs:
            full = f"{open_requests} requests have not ended, and {most_requests} may be open at once"
            most = "PUPPETMASTER_MAX_OPEN_REQUESTS"
        else:
            return
        raise Unavailable(f"No job can be created: {full}. Wait for one to end, delete one, or raise {most}.")

    def _check_data(self, spec: JobSpec) -> None:
        """Raises Unavailable: open jobs have ``LARGE_BYTES`` of large data in memory, and more would come."""
        open_bytes = self._state.large_bytes
        if open_bytes >= LARGE_BYTES and any(memory(one.data) > SMALL_BYTES for one in spec.items):
            raise Unavailable(
                f"No job with much data can be created: that of jobs that have not ended takes "
                f"{open_bytes / 1e6:.0f} MB. Wait for one of them to end, or delete one."
            )

    def begin_job(self, job_id: int) -> None:
        """Let the requests of a new job be sent, because its creator has the answer."""
        opened = self._state.opened(job_id)
        if opened is not None and opened.held:
            self._timers.cancel(Timer(TimerKind.BEGIN, job_id))
            self._begin(opened)

    def _begin(self, opened: OpenJob) -> None:
        opened.held = False
        self.release(opened)

    def control(self, job_id: int, wanted: JobStatus, *, force: bool, by: str = ITSELF) -> Job:
        """Pause, resume or cancel a job, as ``by`` asks: the job after that. Raises NotFound, Conflict."""
        opened = self._state.opened(job_id)
        if opened is None:
            ended = self._state.find_job(job_id)
            raise Conflict(f"Job {job_id} is {ended.status}: it has ended and cannot become {wanted}.")
        self._state.tally(opened)
        if wanted is JobStatus.CANCELED:
            self._stop(opened, JobEvent.CANCEL, Reason.CANCELED.said(), force=force, by=by)
        elif opened.job.ending:
            raise Conflict(f"Job {job_id} is being stopped ({opened.job.reason}): it cannot become {wanted}.")
        elif wanted is JobStatus.PAUSED and opened.job.status is not JobStatus.PAUSED:
            self._pause(opened, Reason.PAUSED.said())
            self._note(opened, What.PAUSED, by=by)
        elif wanted is JobStatus.DISPATCHING and opened.job.status is not JobStatus.DISPATCHING:
            self._resume(opened, by)
        return self.settle(job_id)

    def delete(self, job_id: int, by: str = ITSELF) -> Job:
        """Stop a job if it runs, and remove it. Returns the job as it last was. Raises NotFound."""
        opened = self._state.opened(job_id)
        job = self._state.find_job(job_id) if opened is None else self._drop(job_id, by)
        self._state.remove(job)
        if opened is None and by != ITSELF:
            log.info("job %s removed by %s", job_id, by, extra={"action": "job_removed"})
        return job

    def _drop(self, job_id: int, by: str) -> Job:
        """Let go of an open job. Returns it as it is when all its open requests end now."""
        left, requests = self._state.drop(job_id)
        stopped = left.stopping(JobEvent.CANCEL, Reason.REMOVED.said())
        job = stopped.tallied(self._delivery.counted_out(stopped, requests))
        for request in requests:
            if request.status is RequestStatus.SENT:
                self._delivery.unanswered(request)
                self._delivery.let_go(request)
        self._background.clear_away(job_id, requests, self.close)
        ended = job.after(job.ending or JobEvent.CANCEL, self._moment.at)
        ended = ended.noted(What.ENDED, self._moment.at, by=by, why=ended.reason)
        self._state.note_happened(ended, ended.events[-1])
        self._state.count_dropped(left, ended)
        log.info("job %s removed by %s: %s", job_id, by, _summary(ended), extra={"action": "job_removed"})
        return ended

    # -- beginnings -------------------------------------------------------------------------------

    def recover(self, job: Job, items: dict[int, Item], requests: list[Request]) -> None:
        """Take up an open job of an earlier process, with its requests that are not done."""
        # Without a boot id the machine may have been restarted.
        if job.expires_s is not None and not (job.boot and job.boot == self._moment.boot):
            assert job.timeout_s is not None
            left = left_s(job.timeout_s, job.timed_at or job.created_at, self._moment.wall_s)
            job = replace(job, boot=self._moment.boot, expires_s=self._moment.now_s + left)
        # Its last request may have been sent just before the restart: its rate counts from now.
        opened = self._take_up(job, items, paced=job.started_at is not None)
        opened.taken_up = True
        opened.told = job.events[-1].number if job.events else 0
        self._state.open_job(opened, requests)
        for item in items.values():
            self._state.weigh(item)
        for request in requests:
            self._delivery.taken_up(opened, request)
        if job.gate is GateStatus.SOAK:
            self._timers.set(Timer(TimerKind.SOAK, job.id), self._moment.now_s + opened.policy.gate.soak_s)
        if job.ending:
            self._background.end(opened)
        self.release(opened)

    def clock_was_set(self) -> None:
        """Note anew when open jobs began, because somebody has set the wall clock.

        After a restart of the machine only this tells how much of a timeout is left.
        """
        for opened in self._state.all_opened():
            self._background.clock_was_set(opened)
            job = opened.job
            if job.timeout_s is None or job.expires_s is None:
                continue
            gone_s = self._moment.now_s - (job.expires_s - job.timeout_s)
            self._state.write_job(replace(job, timed_at=iso(max(self._moment.wall_s - gone_s, 0.0))))

    def _take_up(self, job: Job, items: dict[int, Item], *, paced: bool = False) -> OpenJob:
        policy = job.policy
        next_s = self._moment.now_s + 1 / policy.rate if paced and policy.rate else 0.0
        self._scheduler.open_job(job.id, policy.concurrency, policy.rate, next_s)
        if job.expires_s is not None:
            self._timers.set(Timer(TimerKind.EXPIRE, job.id), job.expires_s)
        if job.status is JobStatus.PENDING:
            self._timers.set(Timer(TimerKind.START, job.id), self._moment.now_s + self._until_start_s(job))
        opened = OpenJob(job, items, Commands(items, self._tunnel), policy)
        self._watch_window(opened)
        return opened

    def _watch_window(self, opened: OpenJob) -> None:
        """Note whether a maintenance window of a job is open, and look again when that changes."""
        windows, wall_s = opened.policy.maintenance, self._moment.wall_s
        if windows is None:
            return
        is_open, until_s = windows.at(wall_s)
        opened.shut = not is_open
        opened.opens_at = None if until_s is None else iso(until_s)
        left_s = START_CHECK_S if until_s is None else min(max(until_s - wall_s, 0.0), START_CHECK_S)
        self._timers.set(Timer(TimerKind.WINDOW, opened.job.id), self._moment.now_s + left_s)

    def _look_at_window(self, opened: OpenJob) -> None:
        was_shut = opened.shut
        self._watch_window(opened)
        if opened.shut and not was_shut:
            self._background.stand_aside(opened)
        elif was_shut:
            self.release(opened)

    def _timed(self, job: Job) -> Job:
        """The job with its timeout running from now."""
        timed = replace(job, timed_at=self._moment.at)
        if job.timeout_s is None:
            return timed
        return replace(timed, boot=self._moment.boot, expires_s=self._moment.now_s + job.timeout_s)

    def _until_start_s(self, job: Job) -> float:
        left_s = seconds(job.start_at or job.created_at) - self._moment.wall_s
        return min(max(left_s, 0.0), START_CHECK_S)

    def _start_if_due(self, opened: OpenJob) -> None:
        left_s = self._until_start_s(opened.job)
        if opened.job.status is not JobStatus.PENDING:
            return
        if left_s > 0:
            self._timers.set(Timer(TimerKind.START, opened.job.id), self._moment.now_s + left_s)
        else:
            self._start(opened, JobEvent.START)
            self._note(opened, What.DUE)

    def _start(self, opened: OpenJob, event: JobEvent) -> None:
        job = opened.job.after(event, self._moment.at)
        if job.timed_at is None:
            job = self._timed(job)
        if job.expires_s is not None:
            self._timers.set(Timer(TimerKind.EXPIRE, job.id), job.expires_s)
        self._state.write_job(job)
        self.release(opened)

    def _pause(self, opened: OpenJob, reason: Said) -> None:
        self._state.write_job(opened.job.after(JobEvent.PAUSE, self._moment.at, reason=reason))
        self._background.stand_aside(opened)

    def _note(
        self,
        opened: OpenJob,
        what: What,
        *,
        by: str = ITSELF,
        wave: int | None = None,
        why: str | None = None,
    ) -> None:
        """Note what has just happened to a job."""
        self._state.write_job(opened.job.noted(what, self._moment.at, by=by, wave=wave, why=why))

    def _resume(self, opened: OpenJob, by: str) -> None:
        """Let a paused job go on, and open its closed gate; start a pending job before its time."""
        job = opened.job
        if job.status is JobStatus.PAUSED and job.timed_at is None and self._until_start_s(job) > 0:
            self._state.write_job(job.after(JobEvent.WAIT, self._moment.at))
            self._note(opened, What.RESUMED, by=by)
            self._timers.set(Timer(TimerKind.START, job.id), self._moment.now_s + self._until_start_s(job))
            return
        self._start(opened, JobEvent.RESUME if job.status is JobStatus.PAUSED else JobEvent.START)
        self._note(opened, What.RESUMED, by=by)
        if job.gate is GateStatus.CLOSED:
            self._open_wave(opened, opened.job.opened_by_hand(self._moment.at), by=by, why=job.reason)

    def release(self, opened: OpenJob) -> None:
        """Put the requests of the open waves into the scheduler, if the job sends at all."""
        if opened.sends:
            self._background.enter(opened)

    # -- waves, and the end -----------------------------------------------------------------------

    def fire(self, kind: TimerKind, job_id: int) -> None:
        """Do what is due when a timer of a job fires."""
        if (opened := self._state.opened(job_id)) is None:
            return
        self._state.tally(opened)
        if opened.job.ending is None or kind is TimerKind.EXPIRE:
            self.timers[kind](opened)
        else:
            log.debug("%s: the timer of job %s is over, and it is being stopped", kind, job_id)

    def _expire(self, opened: OpenJob) -> None:
        reason = Reason.TIMEOUT.said(timeout_s=opened.job.timeout_s)
        self._stop(opened, JobEvent.EXPIRE, reason, force=True)

    def settle_all(self, *, sends: bool = False) -> None:
        """Bring all jobs up to date whose requests have changed.

        ``sends``: more of them will change in this turn. Jobs that go on whatever they count come later.
        """
        for job_id in self._state.touched():
            (self.settle_early if sends else self.settle)(job_id)

    def settle_early(self, job_id: int) -> None:
        """Bring a job up to date in the middle of a turn, unless it goes on whatever its counts are."""
        if not self._state.goes_on(job_id):
            self.settle(job_id)

    def settle(self, job_id: int) -> Job:
        """Bring a job up to date: it stops, goes on to its next wave, ends, or goes on. Returns the job."""
        opened = self._state.opened(job_id)
        job = self._state.settle(job_id, self._moment.at, boot=self._moment.boot, now_s=self._moment.now_s)
        if opened is not None and not job.final and job.ending is None:
            why = opened.policy.aborts(*_failed_and_done(opened, job))
            if why is not None:
                self._stop(opened, JobEvent.ABORT, why, force=False)
            elif job.status is JobStatus.DISPATCHING and job.gate is None:
                self._judge_wave(opened, rested=False)
            if job_id in self._state.touched():
                return self.settle(job_id)
        if job.final:
            self.close(job_id)
            log.info("job %s %s: %s", job_id, job.status, _summary(job), extra={"action": "job_ended"})
        return job

    def _judge_wave(self, opened: OpenJob, *, rested: bool) -> None:
        """Look at the gate behind the open wave, if that is done: it fails, rests, or opens."""
        job, policy = opened.job, opened.policy
        if job.wave == len(policy.waves) or job.done_count < policy.waves[job.wave - 1]:
            return
        why = policy.gate_fails(job.wave, job.failures - job.wave_errors)
        if why is not None and policy.gate.aborts:
            self._stop(opened, JobEvent.ABORT, why, force=False)
        elif why is not None:  # the job dispatches: a gate that rests has passed, and fails no more
            self._pause(opened, why)
            self._state.write_job(replace(opened.job, gate=GateStatus.CLOSED))
            self._note(opened, What.GATE_CLOSED, wave=job.wave, why=why)
        elif policy.gate.soak_s and not rested:
            self._state.write_job(replace(job, gate=GateStatus.SOAK))
            self._timers.set(Timer(TimerKind.SOAK, job.id), self._moment.now_s + policy.gate.soak_s)
        else:
            self._open_wave(opened, job.in_next_wave())

    def _open_wave(self, opened: OpenJob, job: Job, *, by: str = ITSELF, why: str | None = None) -> None:
        self._timers.cancel(Timer(TimerKind.SOAK, job.id))
        self._state.write_job(job)
        self._note(opened, What.WAVE_OPENED, by=by, wave=job.wave, why=why)
        self.release(opened)

    def _stop(self, opened: OpenJob, event: JobEvent, reason: Said, *, force: bool, by: str = ITSELF) -> None:
        """Stop a job: no more of it is sent. With ``force`` what is in flight ends at once."""
        again = opened.job.ending is not None
        self._state.write_job(opened.job.stopping(event, reason))
        if force or not again:
            why = reason if event is not JobEvent.CANCEL else FORCED if force else None
            self._note(opened, STOPPED[event], by=by, why=why)
        if force:
            text = f"no answer before the job ended ({reason}): it may have run"
            expired = event is JobEvent.EXPIRE
            how = RequestEvent.EXPIRE if expired else RequestEvent.LOSE
            for request in [one for one in opened.requests.values() if one.status is RequestStatus.SENT]:
                self._delivery.unanswered(request)
                self._delivery.end(request, how, said(text, 408 if expired else None))
        self._background.end(opened)

    def revoke_created(self) -> list[int]:
        """Forget the jobs that were created in a turn that could not be committed. Returns their ids."""
        created = sorted(self._state.created)
        for job_id in created:
            self._background.clear_away(job_id, self._state.revoke(job_id), self.close)
        return [*created, *self._drafts.revoke()]

    def close(self, job_id: int) -> None:
        """Forget a job that has ended."""
        self._scheduler.close_job(job_id)
        for kind in (*self.timers, TimerKind.PACE):
            self._timers.cancel(Timer(kind, job_id))


def _failed_and_done(opened: OpenJob, job: Job) -> tuple[int, int]:
    """Number of failed and of done requests, or gateways, as ``abort`` counts them."""
    if opened.steps is None or job.gateways is None:
        return job.failed_count, job.done_count
    return job.failed_gateways, job.gateways - len(opened.steps)


def _summary(job: Job) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in job.counts.items() if count)
    return f"{counts} ({job.reason})" if job.reason else counts
