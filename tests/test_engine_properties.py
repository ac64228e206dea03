"""Whatever happens, in whatever order: what the API promises holds on disk after every turn.

Random jobs, answers of every kind, losses, crashes and full disks in virtual time. The pretend
controller tells the truth: what it refuses does not run, and what it passed on it does not refuse.
It refuses a message once: MQTT keeps the order, so no copy of that comes after the next sending.
"""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from puppetmaster import batch
from puppetmaster.engine import Engine
from puppetmaster.errors import Conflict, NotFound, Unavailable
from puppetmaster.job import Job, JobEvent, JobStatus
from puppetmaster.request import UNANSWERED, Item, Request, RequestStatus
from puppetmaster.rollout import Policy
from puppetmaster.settings import Settings
from tests.virtual import Event, Sending, World, own_model

SETTINGS = Settings(request_timeout_s=20.0, lock_wait_s=15.0, grace_s=5.0, window=4, lock_cache_s=30.0)
DESTINATIONS = "abcd"
#: Thousands of transactions that need not outlive the test: a disk is too slow for them.
MEMORY = Path("/dev/shm")
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
REFUSED = [
    ("controller", 423, "resource is locked"),
    ("controller", 503, "service unavailable"),
    ("controller", 403, "'id' was used, please use another 'id'"),
]

BATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["get", "post", "put", "delete"]),
            "resource": st.just("/system/any"),
            "__request": st.fixed_dictionaries(
                {"destination": st.lists(st.sampled_from(DESTINATIONS), min_size=1, max_size=4, unique=True)}
            ),
        }
    ),
    min_size=1,
    max_size=2,
)
BODIES = st.fixed_dictionaries(
    {"batch": BATCHES},
    optional={
        "timeout": st.sampled_from([2, 30, 300]),
        "requestTimeout": st.sampled_from([1, 10]),
        "concurrency": st.sampled_from([1, 2]),
        "idempotent": st.booleans(),
        "key": st.sampled_from(["k", "l"]),
        "retry": st.sampled_from([{"attempts": 2, "delay": 1}, {"attempts": 3, "on": ["timeout"]}]),
        "rate": st.sampled_from([1, 50]),
        "abort": st.just({"errors": 1, "after": 2}),
    },
)

#: How it is rolled out: all at once, or in waves with some gate between them.
ROLLOUTS = [
    {},
    {"waves": [1, "50%", "100%"]},
    {"waves": [1, "100%"], "gate": {"errors": 1, "soak": 2}},
    {"waves": ["50%"], "gate": {"errors": 0, "onFail": "abort"}},
]


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
        #: Sendings, by their place in ``World.sent``, by what the world said to them.
        self.refused: set[int] = set()
        self.passed_on: set[int] = set()
        self.failed: set[int] = set()

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

    @rule(given=BODIES, rollout=st.sampled_from(ROLLOUTS), begins=st.booleans())
    def create(self, given: dict[str, Any], rollout: dict[str, Any], begins: bool) -> None:
        spec, made = batch.parse_job({**given, **rollout}, 100), list[Job]()
        self.happen(lambda engine: made.append(engine.create(spec)))
        for job in made:
            if job.id in self.world.revoked:
                continue
            if job.id not in self.jobs:
                assert self.world.store.full or job.id in self.removed, "it is durable when the caller hears"
            if begins:
                self.begin(job.id)

    def begin(self, job_id: int) -> None:
        self.happen(lambda engine: engine.begin_job(job_id))

    def resume(self, job_id: int) -> None:
        self.happen(lambda engine: engine.control(job_id, JobStatus.DISPATCHING, force=False))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), wanted=st.sampled_from(["paused", "dispatching", "canceled"]), force=st.booleans())
    def control(self, data: st.DataObject, wanted: str, force: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
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
        place = data.draw(st.integers(max(0, len(sent) - 8), len(sent) - 1))
        sending = sent[place]
        if place in self.refused:
            return
        refuses = refuses and place not in self.passed_on
        (self.refused if refuses else self.passed_on).add(place)
        who, code, text = data.draw(st.sampled_from(REFUSED if refuses else PASSED_ON))
        event = self.said(sending.message, who, code, text)
        if not refuses and code not in (200, 204, 408):
            self.failed.add(place)
        if not at_once or self.arrived:
            self.arrived.append(event)
            return
        before = self.requests.get(sending.request)
        self.happen(event)
        if before is not None and who == "device" and not self.world.store.full:
            self.check_answer(before, sending, code)

    def said(self, message: int, who: str, code: int, text: str) -> Event:
        if who == "device":
            return self.world.answered(message, code)
        if who == "remote":
            return self.world.said({"id": message, "code": code, "data": None})
        return self.world.refused(message, code, text)

    def check_answer(self, before: Request, sending: Sending, code: int) -> None:
        """It decides the request that waits for it, in time or late, and no other."""
        job = self.jobs[before.job]
        if self.policy(job).retry.attempts > 1 or before.history:
            return
        after = self.world.request(before.id)
        unanswered = before.status in UNANSWERED
        if before.status is not RequestStatus.SENT and not unanswered:
            assert after.result == before.result
            return
        assert sending.message == before.sending
        assert after.status is (RequestStatus.RESOLVED if code < 300 else RequestStatus.ERROR)
        assert after.result is not None
        assert after.result["code"] == code
        assert after.result.get("late", False) == unanswered

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
        self.world.stop()
        if reboot:
            self.world.clock.reboot()
        self.world.start()

    # -- what always holds --------------------------------------------------------------------------

    def check_durable(self) -> None:
        """What is on disk after a turn, by itself, beside what was there before, and beside memory."""
        store = self.world.store.now
        jobs = {job.id: job for job in store.jobs({})}
        requests = {request.id: request for request in store.requests({})}
        self.items = store.items(jobs)
        for job in jobs.values():
            self.check_job(job, [one for one in requests.values() if one.job == job.id])
        for request in requests.values():
            self.check_request(request, jobs[request.job])
        self.check_history(jobs, requests)
        self.check_flight(requests, jobs)
        self.check_memory(jobs, requests)
        self.jobs, self.requests = jobs, requests

    def check_job(self, job: Job, requests: list[Request]) -> None:
        counts = Counter(one.status for one in requests)
        assert {status: count for status, count in job.counts.items() if count} == counts
        assert len(requests) == job.total == sum(job.counts.values())
        view = job.view()
        assert view["doneCount"] == view["finishCount"] + view["errorCount"] == job.total - job.open_count
        assert view["progress"] == view["doneCount"] * 100 // job.total
        assert (job.finished_at is not None) == job.final == (job.open_count == 0)
        goes_well = job.status in (JobStatus.RESOLVED, JobStatus.DISPATCHING) and job.ending is None
        assert (job.reason is None) == goes_well
        assert job.id not in self.world.revoked

    def policy(self, job: Job) -> Policy:
        return Policy.of(job.given, job.total)

    def may_repeat(self, request: Request, job: Job) -> bool:
        return self.policy(job).repeats(self.items[request.item].method)

    def check_request(self, request: Request, job: Job) -> None:
        status = request.status
        assert (request.finished_at is not None) == (not request.open)
        assert (request.result is not None) == (not request.open)
        assert (request.sent_at is not None) or status is not RequestStatus.SENT
        if status is RequestStatus.SKIPPED:
            assert JobStatus.CANCELED is not job.status not in (JobStatus.RESOLVED, JobStatus.PENDING)
        if status is RequestStatus.CANCELED:
            assert JobEvent.CANCEL is job.ending or job.status is JobStatus.CANCELED
        never_ran = status in (RequestStatus.CANCELED, RequestStatus.SKIPPED)
        if never_ran or (status is RequestStatus.PENDING and not request.history):
            assert request.attempts == 0
        elif status is not RequestStatus.ERROR and status is not RequestStatus.PENDING:
            assert request.attempts >= 1
        if not self.may_repeat(request, job):
            assert request.attempts <= self.policy(job).retry.attempts

    def check_history(self, jobs: dict[int, Job], requests: dict[int, Request]) -> None:
        for id_, before in self.jobs.items():
            if (job := jobs.get(id_)) is None:
                assert id_ in self.removed, "only who asks for it loses a job"
            elif before.final:
                assert (job.status, job.finished_at) == (before.status, before.finished_at)
        new = [id_ for id_ in jobs if id_ not in self.jobs]
        assert all(id_ > max(self.jobs, default=0) and id_ not in self.removed for id_ in new)
        for id_, old in self.requests.items():
            if id_ in requests and old.status in SETTLED:
                assert requests[id_] == old
            if id_ in requests and old.status in UNANSWERED and requests[id_] != old:
                assert requests[id_].status in (RequestStatus.RESOLVED, RequestStatus.ERROR)
                assert (requests[id_].result or {}).get("late") is True

    def check_flight(self, requests: dict[int, Request], jobs: dict[int, Job]) -> None:
        flying = [one for one in requests.values() if one.status is RequestStatus.SENT]
        assert len({one.destination for one in flying}) == len(flying) <= SETTINGS.window
        assert len({one.sending for one in flying}) == len(flying)
        for one in flying:
            waiting = [
                other.id
                for other in requests.values()
                if (other.job, other.destination) == (one.job, one.destination)
                and other.status is RequestStatus.PENDING
            ]
            assert all(one.id < id_ for id_ in waiting), "in order of creation"
        for job_id, count in Counter(one.job for one in flying).items():
            limit = self.policy(jobs[job_id]).concurrency
            assert limit is None or count <= limit

    def check_memory(self, jobs: dict[int, Job], requests: dict[int, Request]) -> None:
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

    @invariant()
    def at_most_once(self) -> None:
        """What may not run twice is sent again only when it is known that it did not run, or failed."""
        before: dict[int, int] = {}
        for place, one in enumerate(self.world.sent):
            earlier = before.get(one.request)
            before[one.request] = place
            request = self.requests.get(one.request)
            if request is None or earlier is None or self.may_repeat(request, self.jobs[request.job]):
                continue
            assert earlier in self.refused or earlier in self.failed, f"{request} left again"

    @invariant()
    def no_message_id_twice(self) -> None:
        """But for a sending that a lock was in the way of: the controller has not taken note of its id."""
        before: dict[int, int] = {}
        for place, one in enumerate(self.world.sent):
            earlier = before.get(one.message)
            before[one.message] = place
            assert earlier is None or earlier in self.refused
            assert earlier is None or self.world.sent[earlier].request == one.request

    def teardown(self) -> None:
        """Every job ends, though nobody answers any more; then nothing of it is left in memory."""
        try:
            self.world.store.full = False
            self.happen()
            self.world.regain_link()
            for _ in range(6):  # gates may close again
                for job_id in sorted(self.jobs):
                    self.resume(job_id)
                self.world.advance(500)
            assert all(job.final for job in self.jobs.values())
            self.at_most_once()
            engine = self.world.engine
            assert (engine.ledger.open_requests, engine.lanes.in_flight) == (0, 0)
        finally:
            self.world.stop()
            self.directory.cleanup()


EngineMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEngineThroughAnything = EngineMachine.TestCase
