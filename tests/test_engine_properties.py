"""Whatever happens, in whatever order: what the API promises holds on disk after every turn.

Random jobs with every policy, answers of every kind, losses, crashes and full disks in virtual time.
The pretend controller tells the truth: what it refuses does not run, and what it passed on it does not
refuse.
"""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from puppetmaster import batch, chores
from puppetmaster.clock import iso, seconds
from puppetmaster.engine import Engine
from puppetmaster.errors import Conflict, NotFound, Unavailable
from puppetmaster.job import GateStatus, Job, JobEvent, JobStatus
from puppetmaster.request import UNANSWERED, Item, Request, RequestStatus
from puppetmaster.rollout import Policy
from puppetmaster.settings import Settings
from puppetmaster.turns import CATCH_UP_S
from tests.virtual import Event, World, own_model

SETTINGS = Settings(request_timeout_s=20.0, lock_wait_s=15.0, grace_s=5.0, window=4, lock_cache_s=30.0)
DESTINATIONS = "abcd"
#: Thousands of transactions that need not outlive the test: a disk is too slow for them.
MEMORY = Path("/dev/shm")
#: A job of so many requests has no more waves than that, and each may need a push.
WAVES_MOST = 2 * len(DESTINATIONS)
#: Statuses that nothing changes any more.
SETTLED = frozenset(
    {RequestStatus.RESOLVED, RequestStatus.ERROR, RequestStatus.CANCELED, RequestStatus.SKIPPED}
)
OWNERS = [
    own_model,
    lambda _: ["/remote/+"],
    lambda one: ["/remote/a", "/remote/b"] if one in "ab" else None,
]

#: What the world may say to a message: who says it, its code and its text.
PASSED_ON = [
    ("device", 200, ""),
    ("device", 204, ""),
    ("device", 500, ""),
    ("device", 404, ""),
    ("remote", 502, ""),
    ("controller", 404, ""),
    ("controller", 408, "session failed due to ttl expired ."),
]
LOCKED = [("controller", 423, "resource is locked"), ("controller", 503, "service unavailable")]
ID_WAS_USED = ("controller", 403, "'id' was used, please use another 'id'")

BATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["get", "post", "put", "delete"]),
            "resource": st.just("/system/any"),
            "__request": st.fixed_dictionaries(
                {"destination": st.lists(st.sampled_from(DESTINATIONS), min_size=1, max_size=4, unique=True)}
            ),
        },
        optional={"code": st.just(200)},
    ),
    min_size=1,
    max_size=2,
)
RETRIES = st.fixed_dictionaries(
    {"attempts": st.integers(1, 3)},
    optional={
        "on": st.sampled_from([["timeout"], ["error"], ["timeout", "error"]]),
        "delay": st.sampled_from([0, 1, 30]),
        "factor": st.sampled_from([1, 3]),
        "maxDelay": st.sampled_from([2, 60]),
    },
)
ERRORS = st.sampled_from([0, 1, "0%", "25%"])
ABORTS = st.fixed_dictionaries({"errors": ERRORS}, optional={"after": st.integers(1, 4)})
WAVES = st.sampled_from([[1], [1, 3, "100%"], ["50%"], [2, "100%"], [1, 2, 3, 4]])
GATES = st.fixed_dictionaries(
    {},
    optional={
        "errors": ERRORS,
        "soak": st.sampled_from([0, 1, 20]),
        "onFail": st.sampled_from(["abort", "pause"]),
    },
)
BODIES = st.fixed_dictionaries(
    {"batch": BATCHES},
    optional={
        "timeout": st.sampled_from([2, 30, 300]),
        "requestTimeout": st.sampled_from([1, 10]),
        "concurrency": st.sampled_from([1, 2, "50%"]),
        "rate": st.sampled_from([0.2, 3, 200]),
        "idempotent": st.booleans(),
        "retry": RETRIES,
        "abort": ABORTS,
        "waves": WAVES,
        "gate": GATES,
        "key": st.sampled_from(["k", "l"]),
    },
)


class EngineMachine(RuleBasedStateMachine):
    """One installation, through anything that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.world = World(Path(self.directory.name), SETTINGS)
        self.world.watch = lambda _: self.check_durable()
        #: What arrives in the next turn, beside what that step is about.
        self.arrived: list[Event] = []
        self.jobs: dict[int, Job] = {}
        self.items: dict[int, Item] = {}
        self.requests: dict[int, Request] = {}
        self.removed: set[int] = set()
        #: All that were ever on disk.
        self.known: set[int] = set()
        #: Messages that left, by their place in ``world.sent``: what the world did with them.
        self.locked: set[int] = set()
        self.id_used: set[int] = set()
        self.passed_on: set[int] = set()
        self.failed: set[int] = set()
        #: So many of them have been looked at, and where each process began.
        self.seen = 0
        self.began: list[int] = [0]
        #: Jobs that somebody told to go on, since the last turn that became durable.
        self.told: set[int] = set()
        #: The latest that the wall has shown since then.
        self.wall_was_s = 0.0

    # -- turns --------------------------------------------------------------------------------------

    def happen(self, *events: Event) -> None:
        """All that has arrived and these, in one turn; who asked for what cannot be is told so."""

        def told(event: Event) -> Event:
            def heard(engine: Engine) -> None:
                with suppress(Conflict, NotFound, Unavailable):
                    event(engine)

            return heard

        arrived, self.arrived = self.arrived, []
        self.world.run(*map(told, [*arrived, *events]))

    # -- callers ------------------------------------------------------------------------------------

    @initialize(owners=st.sampled_from(OWNERS))
    def controller(self, owners: Any) -> None:
        self.world.owners = owners

    @rule(
        given=BODIES,
        begins=st.booleans(),
        starts_in_s=st.sampled_from([None, None, None, -5.0, 1.0, 40.0, 2e7]),
    )
    def create(self, given: dict[str, Any], begins: bool, starts_in_s: float | None) -> None:
        if "waves" not in given:
            given.pop("gate", None)
        if starts_in_s is not None:
            given["startAt"] = iso(max(self.world.clock.wall_s() + starts_in_s, 0.0))
        spec, made = batch.parse_job(given, 100), list[Job]()
        self.happen(lambda engine: made.append(engine.create(spec)))
        for job in made:
            if job.id in self.world.revoked:
                continue
            if job.id not in self.jobs and not self.world.engine.drafting(job):
                assert self.world.store.full or job.id in self.removed, "it is durable when the caller hears"
            if begins:
                self.happen(lambda engine, id_=job.id: engine.begin_job(id_))  # type: ignore[misc]

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), wanted=st.sampled_from(["paused", "dispatching", "canceled"]), force=st.booleans())
    def control(self, data: st.DataObject, wanted: str, force: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        if wanted == "dispatching":
            self.told.add(job_id)
        self.happen(lambda engine: engine.control(job_id, JobStatus(wanted), force=force))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        self.removed.add(job_id)
        self.happen(lambda engine: engine.delete(job_id))

    @rule()
    def look(self) -> None:
        """Why something waits is said for what waits, and for nothing else."""
        engine = self.world.engine
        for id_, said in engine.why(list(self.requests)).items():
            if engine.ledger.knows(id_):
                assert (said is not None) == (engine.ledger.request(id_).status is RequestStatus.PENDING)
            else:
                assert said is None

    # -- the bus ------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data(), refuses=st.booleans(), at_once=st.booleans())
    def answer(self, data: st.DataObject, refuses: bool, at_once: bool) -> None:
        """One of the last messages is answered, perhaps not for the first time."""
        sent = self.world.sent
        message = data.draw(st.sampled_from(sent[-8:])).message
        place = max(place for place, one in enumerate(sent) if one.message == message)
        if place in self.locked | self.id_used or (refuses and place not in self.passed_on):
            who, code, text = data.draw(st.sampled_from([*LOCKED, ID_WAS_USED]))
            (self.id_used if code == ID_WAS_USED[1] else self.locked).add(place)
        else:
            who, code, text = data.draw(st.sampled_from(PASSED_ON))
            self.passed_on.add(place)
            if code >= 300 and code != 408:
                self.failed.add(place)
        if who == "device":
            event = self.world.answered(message, code)
        elif who == "remote":
            event = self.world.said({"id": message, "code": code, "data": None})
        else:
            event = self.world.refused(message, code, text)
        if not at_once or self.arrived:
            self.arrived.append(event)
            return
        before = self.world.engine.ledger.find_request(message)
        self.happen(event)
        if before is not None and who == "device" and not self.world.store.full:
            self.check_answer(before, message, code)

    def check_answer(self, before: Request, message: int, code: int) -> None:
        """It decides the request that waits for it, in time or late, and no other."""
        after, job = self.world.request(before.id), self.jobs[before.job]
        is_event = self.items[before.item].code is not None
        succeeds = code < 300 or is_event
        last = message == before.sending
        waits = before.status in UNANSWERED or (before.status is RequestStatus.SENT and last)
        if succeeds and (waits or (before.open and before.history and not last)):
            late = before.status is not RequestStatus.SENT or not last
            assert after.status is RequestStatus.RESOLVED
            assert after.result is not None
            assert after.result["code"] == (200 if is_event else code)
            assert after.result.get("late", False) == late
        elif waits and last:
            again = len(after.history) > len(before.history)
            assert again or after.status is RequestStatus.ERROR
            assert not again or Policy.of(job.given, job.total).retry.attempts > before.attempts
            result = after.history[-1]["result"] if again else after.result
            assert result is not None
            assert result["code"] == code
        elif not before.open:
            assert after == before

    @rule(id_=st.integers(2**31 - 2, 2**31 + 40))
    def answer_for_nobody(self, id_: int) -> None:
        """Somebody on the bus answers what we did not send, or not under this id."""
        if id_ not in {one.message for one in self.world.sent}:
            self.happen(self.world.answered(id_))

    @rule(told=st.booleans())
    def lose_link(self, told: bool) -> None:
        self.world.connected = False
        self.world.asked = []
        self.happen(*([lambda engine: engine.link(up=False)] if told else []))

    @rule(answers=st.booleans())
    def regain_link(self, answers: bool) -> None:
        self.world.connected = True
        self.happen(lambda engine: engine.link(up=True), lambda engine: engine.controller(up=answers))

    @rule(ago_s=st.sampled_from([0.0, 0.5, 3.0]))
    def restart_controller(self, ago_s: float) -> None:
        known_s = self.world.clock.now_s() - ago_s
        self.happen(lambda engine: engine.controller_restarted(known_s))

    @rule(owners=st.sampled_from([*OWNERS, None]))
    def change_controller(self, owners: Any) -> None:
        self.world.owners = owners

    # -- time, disk, crashes ------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.02, 0.3, 2.0, 6.0, 25.0]))
    def advance(self, seconds: float) -> None:
        self.happen()
        self.world.advance(seconds)

    @rule(step_s=st.sampled_from([-1e7, 1e7]))
    def step_the_wall(self, step_s: float) -> None:
        self.wall_was_s = max(self.wall_was_s, self.world.clock.wall_s())
        self.world.clock.wall_ahead_s += step_s

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        self.world.store.full = full
        self.happen()

    @rule(reboot=st.booleans(), durable=st.booleans())
    def crash(self, reboot: bool, durable: bool) -> None:
        """The process is killed in a turn: before the turn is durable, or before anything of it is done."""
        engine = self.world.engine
        engine.begin()
        for event in self.arrived:
            event(engine)
        self.arrived = []
        turn = engine.decide()
        if durable and turn.changes and not self.world.store.full:
            self.world.store.commit(turn.changes)
            self.check_durable()
        self.world.stop()
        if reboot:
            self.world.clock.reboot()
        self.began.append(len(self.world.sent))
        self.world.start()

    # -- what always holds --------------------------------------------------------------------------

    def check_durable(self) -> None:
        """What is on disk after a turn, by itself, beside what was there before, and beside memory."""
        store = self.world.store.now
        jobs = {job.id: job for job in store.jobs({})}
        requests = {request.id: request for request in store.requests({})}
        self.items = store.items(jobs)
        policies = {job.id: Policy.of(job.given, job.total) for job in jobs.values()}
        for job in jobs.values():
            its = [one for one in requests.values() if one.job == job.id]
            self.check_job(job, its)
            self.check_rollout(job, policies[job.id], its)
        for request in requests.values():
            self.check_request(request, jobs[request.job], policies[request.job])
        self.check_history(jobs, requests)
        self.check_flight(requests, policies)
        self.check_memory(jobs, requests, policies)
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
        assert job.id not in self.world.revoked

    def check_rollout(self, job: Job, policy: Policy, requests: list[Request]) -> None:
        """Waves, gates, thresholds and the time to start: what they keep back is kept back."""
        end = job.first + policy.waves[job.wave - 1]
        begin = job.first + policy.waves[job.wave - 2] if job.wave > 1 else job.first
        assert all(not one.open for one in requests if one.id < begin), "a wave is done before the next"
        kept_back = [one for one in requests if one.id >= end or job.status is JobStatus.PENDING]
        assert all(one.sent_at is None and not one.attempts for one in kept_back)
        if job.final or job.ending:
            return
        assert policy.aborts(job.failed_count, job.done_count) is None
        wave_is_done = job.wave < len(policy.waves) and all(not one.open for one in requests if one.id < end)
        if job.gate is not None:
            assert wave_is_done
        if job.gate is GateStatus.CLOSED:
            assert job.status is JobStatus.PAUSED
            assert not policy.gate.aborts
        if job.status is JobStatus.DISPATCHING and wave_is_done:
            assert job.gate is GateStatus.SOAK, "nobody has to push it"

    def check_request(self, request: Request, job: Job, policy: Policy) -> None:
        status, method = request.status, self.items[request.item].method
        assert (request.finished_at is not None) == (not request.open)
        assert (request.result is not None) == (not request.open)
        if status is RequestStatus.SENT:
            assert request.sent_at is not None
        if status is RequestStatus.SKIPPED:
            stops = (JobStatus.TIMEOUT, JobStatus.ABORTED)
            assert job.status in stops or job.ending in (JobEvent.EXPIRE, JobEvent.ABORT)
        if status is RequestStatus.CANCELED:
            assert JobEvent.CANCEL is job.ending or job.status is JobStatus.CANCELED
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
        policy = Policy.of(job.given, job.total)
        ends = (0, *policy.waves)
        for wave in range(before.wave, job.wave):
            its = [requests[job.first + index] for index in range(ends[wave - 1], ends[wave])]
            failed = sum(one.status is not RequestStatus.RESOLVED for one in its)
            assert policy.gate_fails(wave, failed) is None
        if before.status is JobStatus.PENDING and job.status is JobStatus.DISPATCHING:
            assert job.start_at is not None
            assert seconds(job.start_at) <= max(self.wall_was_s, self.world.clock.wall_s())

    def check_flight(self, requests: dict[int, Request], policies: dict[int, Policy]) -> None:
        flying = [one for one in requests.values() if one.status is RequestStatus.SENT]
        assert len({one.destination for one in flying}) == len(flying) <= SETTINGS.window
        assert len({one.sending for one in flying}) == len(flying)
        lanes = self.world.engine.lanes
        for one in flying:
            old = self.requests.get(one.id)
            if old is not None and (old.status, old.attempts) == (one.status, one.attempts):
                continue
            waiting = [
                other.id
                for other in requests.values()
                if other.destination == one.destination
                and other.status is RequestStatus.PENDING
                and lanes.holds(other.id)
            ]
            assert all(one.id < id_ for id_ in waiting), "in order of creation"
        for job_id, count in Counter(one.job for one in flying).items():
            limit = policies[job_id].concurrency
            assert limit is None or count <= limit

    def check_memory(
        self, jobs: dict[int, Job], requests: dict[int, Request], policies: dict[int, Policy]
    ) -> None:
        ledger = self.world.engine.ledger
        open_jobs = [job for job in jobs.values() if not job.final]
        assert ledger.open_jobs == len(open_jobs)
        for job in open_jobs:
            opened = ledger.opened(job.id)
            assert opened is not None
            assert opened.job == job
            assert opened.requests == {
                one.id: one for one in requests.values() if one.job == job.id and one.open
            }
            assert opened.items == {id_: item for id_, item in self.items.items() if item.job == job.id}
            assert opened.policy == policies[job.id]
        for request in requests.values():
            holds = self.world.engine.lanes.holds(request.id)
            if self.world.engine.busy:
                assert holds or request.status is not RequestStatus.SENT
            else:
                assert holds == self.has_turns(request, jobs[request.job], policies[request.job])

    def has_turns(self, request: Request, job: Job, policy: Policy) -> bool:
        """Whether it is in flight, or waits for nothing but its turn."""
        if request.status is RequestStatus.PENDING:
            begun = self.world.engine.timers.deadline_s(("begin", job.id)) is None
            goes_on = job.status is JobStatus.DISPATCHING and job.ending is None
            return begun and goes_on and request.id < job.first + policy.waves[job.wave - 1]
        return request.status is RequestStatus.SENT

    @invariant()
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
            job = self.jobs[request.job]
            if not Policy.of(job.given, job.total).repeats(self.items[request.item].method):
                assert answered.issuperset(before), f"{request} may have run already"
        self.seen = len(sent)

    @invariant()
    def no_message_id_twice(self) -> None:
        owner = {one.message: one.request for one in self.world.sent}
        assert all(owner[one.message] == one.request for one in self.world.sent)

    @invariant()
    def rates_hold(self) -> None:
        for job in self.jobs.values():
            rate = job.given.get("rate")
            if rate is None:
                continue
            times = [one.at_s for one in self.world.sent[self.began[-1] :] if one.request in job.request_ids]
            for many in range(1, len(times)):
                for first_s, last_s in zip(times, times[many:], strict=False):
                    assert many <= rate * (last_s - first_s + CATCH_UP_S) + 1e-6

    def teardown(self) -> None:
        """Every job ends, though nobody answers any more; then nothing of it is left in memory."""
        try:
            self.world.hasty = False
            self.world.store.full = False
            self.happen()
            self.world.regain_link()
            for _ in range(WAVES_MOST):
                for job_id in [id_ for id_, job in sorted(self.jobs.items()) if not job.final]:
                    self.told.add(job_id)
                    self.happen(
                        lambda engine, id_=job_id: engine.control(id_, JobStatus.DISPATCHING, force=False)  # type: ignore[misc]
                    )
                self.world.advance(1000)
            assert all(job.final for job in self.jobs.values())
            self.at_most_once()
            self.rates_hold()
            engine = self.world.engine
            assert (engine.ledger.open_requests, engine.lanes.in_flight) == (0, 0)
            assert len(engine.timers) == 0
        finally:
            self.world.stop()
            self.directory.cleanup()


class PartByPart(EngineMachine):
    """The same, with everything that is long done a step a turn, and whatever happens in between."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = chores.STEPS
        chores.STEPS = 1
        self.world.hasty = True

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            chores.STEPS = self.steps


THOROUGH = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
EngineMachine.TestCase.settings = PartByPart.TestCase.settings = THOROUGH
TestEngineThroughAnything = EngineMachine.TestCase
TestEnginePartByPart = PartByPart.TestCase
