"""Whatever happens, in whatever order: what the API promises holds on disk after every turn.

Random jobs with every policy, answers of every kind, losses, crashes and full disks in virtual time.
The pretend controller tells the truth: what it refuses does not run, and what it passed on it does not
refuse.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from puppetmaster.api import bodies
from puppetmaster.clock import iso
from puppetmaster.engine import background
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import Conflict, NotFound, Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.message import Tried
from puppetmaster.model.policy import LEAST_DONE, RERUN
from puppetmaster.model.reply import garbled
from puppetmaster.model.request import UNANSWERED, Request, RequestStatus
from puppetmaster.model.spec import JobSpec, specs_of
from puppetmaster.model.why import Why, code_of
from puppetmaster.scheduling.owners import FORGET_S
from puppetmaster.settings import Settings
from tests.arbitrary import BATCHES, DESTINATIONS, OPTIONS
from tests.promises import Promises
from tests.virtual import Event, World, own_model

SETTINGS = Settings(
    request_timeout_s=20.0,
    lock_wait_s=15.0,
    grace_s=5.0,
    max_in_flight=4,
    lock_cache_s=30.0,
    offline_codes="504",
)
#: A job of so many requests has no more waves than that, and each may need a push.
WAVES_MOST = 2 * len(DESTINATIONS)
#: Everything that needs nobody is over by then, and each open request may need this much more: an owner of
#: many gateways that answers nothing is given two at a time, and each attempt keeps its place for a while.
LONG_S, LONGER_S = 3000.0, 2 * FORGET_S
OWNERS = [own_model, lambda _: ["/remote/+"], lambda one: ["/remote/a", "/remote/b"] if one in "ab" else None]

#: What the world may say to a message: who says it, its code and its text.
PASSED_ON = [
    ("device", 200, ""),
    ("device", 204, ""),
    ("device", 500, ""),
    ("device", 404, ""),
    ("device", 408, ""),
    ("remote", 502, ""),
    ("remote", 408, ""),
    ("remote", 504, ""),
    ("garbled", 408, ""),
    ("gateway", 404, ""),
    ("gateway", 408, "session failed due to ttl expired ."),
    ("controller", 404, ""),
    ("controller", 408, "session failed due to ttl expired ."),
]
LOCKED = [
    ("controller", 423, "resource is locked"),
    ("controller", 503, "service unavailable"),
    ("gateway", 423, "resource is locked"),
]
ID_WAS_USED = ("controller", 403, "'id' was used, please use another 'id'")


def parsed(asked: dict[str, Any], given: dict[str, Any]) -> JobSpec:
    """The body of a job, checked; a gate without waves is none."""
    if "waves" not in given:
        given.pop("gate", None)
    return bodies.parse_job({**asked, **given}, 100)


class EngineMachine(RuleBasedStateMachine, Promises):
    """One installation, through anything that may happen to it."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Promises.__init__(self, World(SETTINGS))
        #: What arrives in the next turn, beside what that step is about.
        self.arrived: list[Event] = []

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
        items=BATCHES,
        given=OPTIONS,
        begins=st.booleans(),
        starts_in_s=st.sampled_from([None, None, None, -5.0, 1.0, 40.0, 2e7]),
    )
    def create(
        self, items: list[dict[str, Any]], given: dict[str, Any], begins: bool, starts_in_s: float | None
    ) -> None:
        if starts_in_s is not None:
            given["startAt"] = iso(max(self.world.clock.wall_s() + starts_in_s, 0.0))
        self.make(parsed({"batch": items}, given), begins=begins)

    @rule(
        gateway=st.sampled_from(DESTINATIONS),
        given=OPTIONS,
        waits_s=st.sampled_from([3, 40, 600]),
        bridged=st.booleans(),
    )
    def create_for_absent(self, gateway: str, given: dict[str, Any], waits_s: int, bridged: bool) -> None:
        """A job for a gateway that is away, which is to wait for it."""
        if bridged:
            self.bridge(gateway, status=False)
        item = {"method": "post", "resource": "/x", "__request": {"destination": sorted({gateway, "d"})}}
        self.make(parsed({"batch": [item]}, {**given, "deliveryTimeout": waits_s}), begins=True)
        if not bridged and self.world.sent and self.world.sent[-1].destination == gateway:
            self.nobody_there(len(self.world.sent) - 1, remote=waits_s == 40)

    def nobody_there(self, place: int, *, remote: bool) -> None:
        """This message reaches nobody, as the controller says, or the remote bundle."""
        if place in self.passed_on | self.locked | self.id_used:
            return
        message = self.world.sent[place].message
        for places in (self.passed_on, self.failed, self.nobody):
            places.add(place)
        said = {"id": message, "code": 504, "data": None}
        self.happen(self.world.said(said) if remote else self.world.refused(message, 404))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), given=OPTIONS, statuses=st.lists(st.sampled_from(RERUN), min_size=1, unique=True))
    def rerun(self, data: st.DataObject, given: dict[str, Any], statuses: list[RequestStatus]) -> None:
        """The requests of a job that are in these states, as the service finds them."""
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        spec = parsed({"rerun": {"job": job_id, "status": [str(one) for one in statuses]}}, given)
        found = self.world.store.now.requests({"job": job_id, "status": statuses})
        if not found:
            return
        items = self.world.store.now.items([job_id])
        again = replace(spec, items=specs_of([(one.item, one.destination) for one in found], items))
        for job in self.make(again, begins=True):
            if job.id in self.jobs:
                made = [self.requests[id_] for id_ in job.request_ids]
                for gateway in DESTINATIONS:
                    assert [self.items[one.item].method for one in made if one.destination == gateway] == [
                        items[one.item].method for one in found if one.destination == gateway
                    ]
                together = [one.destination if again.by_gateway else one.item for one in made]
                assert len(list(groupby(together))) == len(set(together))

    def make(self, spec: JobSpec, *, begins: bool) -> list[Job]:
        """The job that was made, or that was there under its key; none when it could not be."""
        made: list[Job] = []
        self.happen(lambda engine: made.append(engine.create(spec)))
        for job in made:
            if (asked := spec.given.get("abort")) and isinstance(asked["errors"], str):
                counted = len(spec.gateways()) if spec.stops else job.total
                unless_said = 1 if asked["errors"] == "0%" else min(counted, LEAST_DONE)
                assert job.given["abort"] == {"after": unless_said, **asked}
            if job.id in self.world.revoked:
                continue
            if job.id not in self.jobs and not self.world.engine.drafting(job):
                assert self.world.store.full or job.id in self.removed, "it is durable when the caller hears"
            if begins:
                self.happen(lambda engine, id_=job.id: engine.lifecycle.begin_job(id_))  # type: ignore[misc]
        return made

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
            if engine.state.knows(id_):
                waits = engine.state.request(id_).status is RequestStatus.PENDING
                assert waits == (said is not None and code_of(said) != Why.AWAY)
                assert said is None or code_of(said) in list(Why)
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
            if (who, code) in (("controller", 404), ("remote", 504)):
                self.nobody.add(place)
        if who == "device":
            event = self.world.answered(message, code)
        elif who == "remote":
            event = self.world.said({"id": message, "code": code, "data": None})
        elif who == "gateway":
            event = self.world.gateway_said(message, code, text)
        elif who == "garbled":
            event = lambda engine: engine.delivery.answered(message, garbled("NaN is not JSON"))  # noqa: E731
        else:
            event = self.world.refused(message, code, text)
        if not at_once or self.arrived:
            self.arrived.append(event)
            return
        before = self.world.engine.state.find_request(message)
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
            if code == 408 and before.status in UNANSWERED:
                assert after == before, "it says no more than is known"
                return
            ends = RequestStatus.TIMEOUT if code == 408 else RequestStatus.ERROR
            assert again or after.status is ends
            assert not again or job.policy.retry.attempts > before.attempts
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

    @rule(gateway=st.sampled_from(DESTINATIONS), status=st.sampled_from([True, False, None]))
    def bridge(self, gateway: str, status: bool | None) -> None:
        self.happen(lambda engine: engine.bridge(gateway, connected=status))

    @rule(resource=st.sampled_from(["/remote/a", "/remote/b", "/remote/+", "/other"]))
    def register(self, resource: str) -> None:
        self.happen(lambda engine: engine.delivery.registering([resource]))

    @rule(told=st.booleans())
    def lose_link(self, told: bool) -> None:
        self.world.connected = False
        self.world.asked = []
        self.happen(*([lambda engine: engine.connection(up=False)] if told else []))

    @precondition(lambda self: self.world.sent and self.world.connected)
    @rule(whole=st.booleans())
    def close_at_the_last(self, whole: bool) -> None:
        """The broker closes the connection at the last message, of which all but a byte had left, or all."""
        place, sent = len(self.world.sent) - 1, self.world.sent[-1]
        if place < self.began[-1]:  # an earlier process sent it, and nobody tells what of it had left
            return
        state = self.world.engine.state
        request = state.request(sent.request) if state.knows(sent.request) else None
        answered = place in self.passed_on | self.locked | self.id_used
        if answered or request is None or request.status is not RequestStatus.SENT:
            return
        if request.sending != sent.message:
            return
        if not whole:
            self.world.sent.pop()  # nobody has it
        unsent = () if whole else (sent.message,)
        self.world.connected = False
        self.world.asked = []
        self.happen(
            lambda engine: engine.connection(up=False, unsent=unsent, tried=Tried(sent.message, whole))
        )
        self.regain_link(answers=True)

    @rule(answers=st.booleans())
    def regain_link(self, answers: bool) -> None:
        self.world.connected = True
        self.happen(lambda engine: engine.connection(up=True), lambda engine: engine.controller(up=answers))

    @rule()
    def lose_controller(self) -> None:
        """It does not answer any more, though the link is up."""
        self.world.asked = []
        self.happen(lambda engine: engine.controller(up=False))

    @rule(ago_s=st.sampled_from([0.0, 0.5, 3.0]))
    def restart_controller(self, ago_s: float) -> None:
        known_s = self.world.clock.now_s() - ago_s
        self.happen(lambda engine: engine.delivery.controller_restarted(known_s))

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
        self.begin_anew()
        self.world.start()

    # -- what holds after every step ----------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        self.at_most_once()
        self.attempts_are_counted()
        self.no_message_id_twice()
        self.rates_hold()
        self.results_fold()

    def rest(self, seconds: float) -> None:
        """Let time pass until all is over that needs nobody."""
        self.world.advance(seconds + LONGER_S * self.world.engine.state.open_requests)

    def teardown(self) -> None:
        """Every job ends, though nobody answers any more; then nothing of it is left in memory."""
        try:
            self.world.hasty = False
            self.world.store.full = False
            self.happen()
            self.world.regain_link()
            self.rest(LONG_S)
            for job in self.jobs.values():
                waits = job.status in (JobStatus.PAUSED, JobStatus.PENDING)
                assert job.final or (waits and not job.ending), f"{job} is stuck"
            for _ in range(WAVES_MOST):
                for job_id in [id_ for id_, job in sorted(self.jobs.items()) if not job.final]:
                    self.told.add(job_id)
                    self.happen(
                        lambda engine, id_=job_id: engine.control(id_, JobStatus.DISPATCHING, force=False)  # type: ignore[misc]
                    )
                self.rest(1000)
            assert all(job.final for job in self.jobs.values())
            self.promises_hold()
            engine = self.world.engine
            assert (engine.state.open_requests, engine.scheduler.in_flight) == (0, 0)
            assert len(engine.timers) == 0
        finally:
            self.world.stop()


class PartByPart(EngineMachine):
    """The same, with everything that is long done a step a turn, and whatever happens in between."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = background.STEPS
        background.STEPS = 1
        self.world.hasty = True

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            background.STEPS = self.steps


THOROUGH = settings(max_examples=150, stateful_step_count=50)
EngineMachine.TestCase.settings = PartByPart.TestCase.settings = THOROUGH
TestEngineThroughAnything = EngineMachine.TestCase
TestEnginePartByPart = PartByPart.TestCase
