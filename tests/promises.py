"""What the API promises of jobs and requests, read from disk after every turn.

Memory may hold nothing else than the disk does.
"""

from collections import Counter

from puppetmaster.api.results import Groups
from puppetmaster.clock import seconds
from puppetmaster.engine.absent import REGISTERED_S
from puppetmaster.model.job import GateStatus, Job, JobEvent, JobStatus
from puppetmaster.model.policy import Policy
from puppetmaster.model.request import FAILURES, OPEN, UNANSWERED, Item, Request, RequestStatus
from puppetmaster.scheduling.fairness import CATCH_UP_S
from tests.virtual import World

#: Statuses that nothing changes any more.
SETTLED = frozenset(
    {RequestStatus.RESOLVED, RequestStatus.ERROR, RequestStatus.CANCELED, RequestStatus.SKIPPED}
)
#: Clocks count in floating point.
NEARLY = 1e-6


class Promises:
    """What was on disk after the last turn, what was done to it from outside, and what must hold of both."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.world.watch = self.check_turn
        #: So many turns of the world had changes when the disk was read.
        self.commits = 0
        self.jobs: dict[int, Job] = {}
        self.items: dict[int, Item] = {}
        self.requests: dict[int, Request] = {}
        #: How each job is rolled out, which never changes.
        self.policies: dict[int, Policy] = {}
        self.removed: set[int] = set()
        #: All that were ever on disk.
        self.known: set[int] = set()
        #: Messages that left, by their place in ``world.sent``: what the world did with them.
        self.locked: set[int] = set()
        self.id_used: set[int] = set()
        self.passed_on: set[int] = set()
        self.failed: set[int] = set()
        #: Those to which the controller said that it knows no such gateway: it may be about to register.
        self.nobody: set[int] = set()
        #: What is on disk now, by id.
        self.stored: dict[int, Request] = {}
        #: So many of them have been looked at, where each process began, and when the last one did.
        self.seen = 0
        self.began: list[int] = [0]
        self.began_s = world.clock.now_s()
        #: Messages that were in flight then.
        self.taken_up: set[int] = set()
        #: Jobs that somebody told to go on, since the last turn that became durable.
        self.told: set[int] = set()
        #: The latest that the wall has shown since then.
        self.wall_was_s = 0.0

    def begin_anew(self) -> None:
        """Another process is about to begin."""
        flying = [one for one in self.requests.values() if one.status is RequestStatus.SENT]
        self.taken_up = {one.sending for one in flying}
        self.began.append(len(self.world.sent))
        self.began_s = self.world.clock.now_s()

    def check_turn(self, world: World) -> None:
        """What is on disk after a turn; without changes it is what it was, but time and memory go on."""
        if world.commits > self.commits:
            self.commits = world.commits
            self.check_durable()
        else:
            self.check_deadlines(self.jobs, self.requests)
            self.check_memory(self.jobs, self.requests)
            self.told, self.wall_was_s = set(), 0.0

    def check_durable(self) -> None:
        """What is on disk after a turn, by itself, beside what was there before, and beside memory."""
        store = self.world.store.now
        jobs = {job.id: job for job in store.jobs({})}
        requests = {request.id: request for request in store.requests({})}
        self.items = store.items(jobs)
        self.policies = {job.id: self.policies.get(job.id) or job.policy for job in jobs.values()}
        self.stored = requests
        assert not jobs.keys() & set(self.world.revoked)
        for job in jobs.values():
            its = [one for one in requests.values() if one.job == job.id]
            if job == self.jobs.get(job.id) and all(one == self.requests.get(one.id) for one in its):
                continue  # as it was when it was looked at
            self.check_job(job, its)
            self.check_rollout(job, its)
            for request in its:
                self.check_request(request, job)
        self.check_history(jobs, requests)
        self.check_flight(requests)
        self.check_sent(jobs, requests)
        self.check_deadlines(jobs, requests)
        self.check_memory(jobs, requests)
        self.jobs, self.requests = jobs, requests
        self.told, self.wall_was_s = set(), 0.0

    def check_job(self, job: Job, requests: list[Request]) -> None:
        counts = Counter(one.status for one in requests)
        assert {status: count for status, count in job.counts.items() if count} == counts
        assert len(requests) == job.total == sum(job.counts.values())
        view = job.view()
        assert view["doneCount"] == view["finishCount"] + view["errorCount"] == job.total - job.open_count
        assert view["progress"] == view["doneCount"] * 100 // job.total
        assert (job.finished_at is not None) == job.final == (job.open_count == 0)
        goes_well = job.status in (JobStatus.RESOLVED, JobStatus.DISPATCHING, JobStatus.PENDING)
        assert (job.reason is None) == (goes_well and job.ending is None)

    def check_rollout(self, job: Job, requests: list[Request]) -> None:
        """Waves, gates, thresholds and the time to start: what they keep back is kept back."""
        policy = self.policies[job.id]
        end = job.first + policy.waves[job.wave - 1]
        begin = job.first + policy.waves[job.wave - 2] if job.wave > 1 else job.first
        assert all(not one.open for one in requests if one.id < begin), "a wave is done before the next"
        kept_back = [one for one in requests if one.id >= end or job.status is JobStatus.PENDING]
        assert all(one.sent_at is None and not one.attempts for one in kept_back)
        if job.final or job.ending:
            return
        failed, done = job.failed_count, job.done_count
        if policy.stops:
            waiting = {one.destination for one in requests if one.open}
            failed = sum(one.status in FAILURES for one in requests)
            done = len({one.destination for one in requests} - waiting)
        assert policy.aborts(failed, done) is None
        wave_is_done = job.wave < len(policy.waves) and all(not one.open for one in requests if one.id < end)
        if job.gate is not None:
            assert wave_is_done
        if job.gate is GateStatus.CLOSED:
            assert job.status is JobStatus.PAUSED
            assert not policy.gate.aborts
        if job.status is JobStatus.DISPATCHING and wave_is_done:
            assert job.gate is GateStatus.SOAK, "nobody has to push it"

    def check_request(self, request: Request, job: Job) -> None:
        policy = self.policies[job.id]
        status, method = request.status, self.items[request.item].method
        assert (request.finished_at is not None) == (not request.open)
        assert (request.result is not None) == (not request.open)
        if status is RequestStatus.SENT:
            assert request.sent_at is not None
        if status is RequestStatus.SKIPPED:
            stops = (JobStatus.TIMEOUT, JobStatus.ABORTED)
            step = policy.stops and "an earlier step" in (request.result or {})["message"]
            assert step or job.status in stops or job.ending in (JobEvent.EXPIRE, JobEvent.ABORT)
        if status is RequestStatus.CANCELED:
            assert JobEvent.CANCEL is job.ending or job.status is JobStatus.CANCELED
        if policy.stops and (status is RequestStatus.SENT or request.attempts):
            assert not self.steps_before(request), "each step waits for the one before it"
        since = request.attempts - len(request.history)
        if status in (RequestStatus.PENDING, RequestStatus.CANCELED, RequestStatus.SKIPPED):
            assert since == 0
        elif status in (RequestStatus.SENT, *UNANSWERED):
            assert since == 1
        else:
            assert since in (0, 1)
        if status in (RequestStatus.CANCELED, RequestStatus.SKIPPED):
            assert not request.attempts, "it never ran"
        # One that was lost and has failed after all, when the next was decided already, is marked late.
        outcomes = [
            RequestStatus.UNKNOWN if one["result"].get("late") else RequestStatus(one["status"])
            for one in request.history
        ]
        lost = outcomes.count(RequestStatus.UNKNOWN)
        assert request.attempts <= policy.retry.attempts + lost
        repeats = policy.repeats(method)
        for outcome in outcomes:
            assert outcome in policy.retry.on or outcome is RequestStatus.UNKNOWN
            assert repeats or outcome is RequestStatus.ERROR

    def check_history(self, jobs: dict[int, Job], requests: dict[int, Request]) -> None:
        for id_, before in self.jobs.items():
            if (job := jobs.get(id_)) is None:
                assert id_ in self.removed, "only who asks for it loses a job"
            elif before.final:
                assert (job.status, job.finished_at) == (before.status, before.finished_at)
            else:
                self.check_progress(before, job, requests)
        new = [id_ for id_ in jobs if id_ not in self.jobs]
        assert not self.known.intersection(new), "no id is given out twice"
        self.known.update(new)
        for id_, old in self.requests.items():
            if id_ in requests and old.status in SETTLED:
                assert requests[id_] == old
            if id_ in requests and old.status in UNANSWERED and requests[id_] != old:
                assert requests[id_].status in (RequestStatus.RESOLVED, RequestStatus.ERROR)
                assert (requests[id_].result or {}).get("late") is True

    def check_progress(self, before: Job, job: Job, requests: dict[int, Request]) -> None:
        """A wave opens, and a job starts, when it is time or when somebody says so."""
        assert job.wave >= before.wave
        if job.id in self.told:
            return
        policy = self.policies[job.id]
        ends = (0, *policy.waves)
        for wave in range(before.wave, job.wave):
            its = [requests[job.first + index] for index in range(ends[wave - 1], ends[wave])]
            failed = sum(
                one.status in FAILURES if policy.stops else one.status is not RequestStatus.RESOLVED
                for one in its
            )
            assert policy.gate_fails(wave, failed) is None
        if before.status is JobStatus.PENDING and job.status is JobStatus.DISPATCHING:
            assert job.start_at is not None
            assert seconds(job.start_at) <= max(self.wall_was_s, self.world.clock.wall_s())

    def check_flight(self, requests: dict[int, Request]) -> None:
        flying = [one for one in requests.values() if one.status is RequestStatus.SENT]
        assert len({one.destination for one in flying}) == len(flying) <= self.world.settings.max_in_flight
        assert len({one.sending for one in flying}) == len(flying)
        scheduler = self.world.engine.scheduler
        for one in flying:
            old = self.requests.get(one.id)
            if old is not None and (old.status, old.attempts) == (one.status, one.attempts):
                continue
            waiting = [
                other.id
                for other in requests.values()
                if other.destination == one.destination
                and other.status is RequestStatus.PENDING
                and scheduler.holds(other.id)
            ]
            assert all(one.id < id_ for id_ in waiting), "in order of creation"
        for job_id, count in Counter(one.job for one in flying).items():
            limit = self.policies[job_id].concurrency
            assert limit is None or count <= limit

    def check_sent(self, jobs: dict[int, Job], requests: dict[int, Request]) -> None:
        """What leaves is of a job that goes on, and somebody is there to take it."""
        for one in requests.values():
            old = self.requests.get(one.id)
            if one.status is not RequestStatus.SENT:
                continue
            if old is None or (old.status, old.attempts, old.sending) != (
                one.status,
                one.attempts,
                one.sending,
            ):
                job = jobs[one.job]
                goes_on = (job.status, job.ending) == (JobStatus.DISPATCHING, None)
                assert goes_on or self.failed_later(one, requests)
                assert self.world.engine.connected
                assert self.world.engine.controller_up
                assert self.world.engine.presence.why_away(one.destination) is None

    def failed_later(self, sent: Request, requests: dict[int, Request]) -> bool:
        """Whether a request of the same job failed in this turn, when this one was on its way already."""
        later = self.world.written[self.world.written.index(sent.id) + 1 :]
        return any(requests[id_].job == sent.job and requests[id_].status in FAILURES for id_ in later)

    def check_deadlines(self, jobs: dict[int, Job], requests: dict[int, Request]) -> None:
        """Nothing is in flight, or waits for its gateway, for longer than its time, and no job goes on so."""
        now_s = self.world.clock.now_s()
        left_s = {one.message: one.at_s for one in self.world.sent[self.began[-1] :]}
        for one in requests.values():
            if one.status is RequestStatus.SENT:
                sent_s = self.began_s if one.sending in self.taken_up else left_s.get(one.sending, now_s)
                assert now_s <= sent_s + jobs[one.job].request_timeout_s + NEARLY
            if self.world.engine.delivery.absent.holds(one.id):
                assert one.absence is not None
                assert one.status is RequestStatus.PENDING
                assert now_s <= one.absence.until_s + REGISTERED_S + NEARLY
                assert one.absence.until_s - now_s <= self.policies[one.job].delivery_s + NEARLY
        for job in jobs.values():
            if job.final or job.expires_s is None or job.boot != self.world.clock.boot():
                continue
            if job.id in self.jobs and now_s > job.expires_s + NEARLY:
                assert job.ending is not None, "its time is over"
                assert not job.counts[RequestStatus.SENT]

    def check_memory(self, jobs: dict[int, Job], requests: dict[int, Request]) -> None:
        state = self.world.engine.state
        open_jobs = [job for job in jobs.values() if not job.final]
        assert state.open_jobs == len(open_jobs)
        for job in open_jobs:
            opened = state.opened(job.id)
            assert opened is not None
            assert opened.job == job
            assert opened.requests == {
                one.id: one for one in requests.values() if one.job == job.id and one.open
            }
            assert opened.items == {id_: item for id_, item in self.items.items() if item.job == job.id}
            assert opened.policy == self.policies[job.id]
        for request in requests.values():
            holds = self.world.engine.scheduler.holds(request.id)
            if self.world.engine.busy:
                assert holds or request.status is not RequestStatus.SENT
            else:
                assert holds == self.has_turns(request, jobs[request.job])

    def has_turns(self, request: Request, job: Job) -> bool:
        """Whether it is in flight, or waits for nothing but its turn."""
        policy = self.policies[job.id]
        if request.status is RequestStatus.PENDING:
            opened = self.world.engine.state.opened(job.id)
            goes_on = job.status is JobStatus.DISPATCHING and job.ending is None
            begun = opened is not None and not opened.held
            absent = self.world.engine.delivery.absent.holds(request.id)
            its_turn = not absent and (not policy.stops or not self.steps_before(request))
            return begun and goes_on and its_turn and request.id < job.first + policy.waves[job.wave - 1]
        return request.status is RequestStatus.SENT

    def steps_before(self, request: Request) -> list[Request]:
        """The requests of its job to its gateway that come before it, and have not ended well."""
        return [
            one
            for one in self.stored.values()
            if (one.job, one.destination) == (request.job, request.destination)
            and one.id < request.id
            and one.status is not RequestStatus.RESOLVED
        ]

    def at_most_once(self) -> None:
        """What may not run twice is sent again only after an answer that it did not run, or failed."""
        sent = self.world.sent
        answered = self.locked | self.id_used | self.failed
        for place in range(self.seen, len(sent)):
            before = [one for one in range(place) if sent[one].request == sent[place].request]
            assert all(one in self.locked for one in before if sent[one].message == sent[place].message)
            request = self.requests.get(sent[place].request)
            if request is None:
                continue
            if not self.policies[request.job].repeats(self.items[request.item].method):
                assert answered.issuperset(before), f"{request} may have run already"
        self.seen = len(sent)

    def attempts_are_counted(self) -> None:
        """Every message that left and was not refused was an attempt."""
        refused = self.locked | self.id_used | self.nobody
        left = Counter(one.request for place, one in enumerate(self.world.sent) if place not in refused)
        for request in self.requests.values():
            assert left[request.id] <= request.attempts

    def results_fold(self) -> None:
        """Every request that is done is in one group, with those that came to the same."""
        for job in self.jobs.values():
            groups = Groups()
            groups.add(one for id_ in job.request_ids if not (one := self.requests[id_]).open)
            folded = Counter[RequestStatus]()
            for group in groups.ordered():
                folded[group.status] += len(group.destinations)
            assert folded == {
                status: count for status, count in job.counts.items() if count and status not in OPEN
            }

    def no_message_id_twice(self) -> None:
        owner = {one.message: one.request for one in self.world.sent}
        assert all(owner[one.message] == one.request for one in self.world.sent)

    def rates_hold(self) -> None:
        for job in self.jobs.values():
            rate = job.given.get("rate")
            if rate is None:
                continue
            times = [one.at_s for one in self.world.sent[self.began[-1] :] if one.request in job.request_ids]
            for many in range(1, len(times)):
                for first_s, last_s in zip(times, times[many:], strict=False):
                    assert many <= rate * (last_s - first_s + CATCH_UP_S) + NEARLY
