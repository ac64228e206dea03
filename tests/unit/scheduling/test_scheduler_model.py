"""The scheduler against a naive model of the whole rule."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from puppetmaster.scheduling.fairness import CATCH_UP_S, PATIENT_S
from puppetmaster.scheduling.owners import BLOCKED_S
from puppetmaster.scheduling.scheduler import LOCKED, Scheduler
from tests.unit.scheduling.lanes import CACHE_S, set_window


@dataclass(eq=False)
class Wanted:
    """A request as the model knows it."""

    id: int
    job: int
    destination: str
    write: bool
    remote_only: bool = False
    in_flight: bool = False
    went_s: float = 0.0
    counted: bool = False
    #: The lock that it took when it was picked.
    lock: str | None = None
    delayed: bool = False


DESTINATIONS = "abcdef"
JOBS = (1, 2, 3, 4)
LIMITS = (None, 1, 2, None)
#: Of the last of them, per second.
RATE = 2.0
EVERYTHING = "/remote/+"
MOST, WINDOW = 4, 3
#: What the scheduler keeps of requests and jobs that are here.
KEPT = ("requests", "lanes", "stale", "leaders", "parked", "offered", "readers", "passes", "unknown")
#: What the controller says, by turns: one lock for all; two pairs and two alone; all alone.
FLEETS: list[dict[str, list[str]]] = [
    {one: [EVERYTHING] for one in DESTINATIONS},
    {
        **{one: ["/remote/a", "/remote/b"] for one in "ab"},
        **{one: ["/remote/d", "/system/x", "/remote/c"] for one in "cd"},
        "e": ["/remote/e"],
        "f": [],
    },
    {one: [f"/remote/{one}"] for one in DESTINATIONS},
]


class LanesMachine(RuleBasedStateMachine):
    """Every step is checked against a list of requests and the plain rule of who may go."""

    def __init__(self) -> None:
        super().__init__()
        #: Destinations that can be asked directly, and jobs that send nothing for now.
        self.direct: set[str] = set()
        self.suspended: set[int] = set()
        self.scheduler = Scheduler(MOST, CACHE_S, direct=self.direct.__contains__)
        self.set_window(WINDOW)
        self.now_s = 0.0
        self.ids = iter(range(1, 10_000))
        #: In the scheduler; and of paused jobs, which are not.
        self.wanted: list[Wanted] = []
        self.aside: list[Wanted] = []
        self.limits = dict(zip(JOBS, LIMITS, strict=True))
        for job, limit in self.limits.items():
            self.scheduler.open_job(job, limit, self.rate_of(job))
        self.fleet = FLEETS[0]
        self.asked: list[str] = []
        self.known: dict[str, tuple[str, float]] = {}
        self.everywhere: tuple[str, float, str] | None = None
        self.locked_until_s: dict[str, float] = {}
        self.wakes: dict[int, float] = {}
        #: When requests of the job with a rate went, and when the scheduler want to hear of it again.
        self.went_s: list[float] = []
        self.paces: dict[int, float] = {}
        #: When the owner of all was last heard of, and until when it may be busy with what was given up.
        self.heard_s = 0.0
        self.overdue: dict[int, float] = {}

    # -- the model ----------------------------------------------------------------------------------

    def lock_of(self, one: Wanted) -> str | None:
        if one.destination in self.direct and not one.remote_only:
            return f"/{one.destination}/controller"
        if self.everywhere is not None:
            return self.everywhere[0]
        lock, until_s = self.known.get(one.destination, ("", 0.0))
        return lock if self.now_s < until_s else None

    def leads(self, one: Wanted) -> bool:
        """The one in flight, or else the oldest."""
        rivals = [other for other in self.wanted if other.destination == one.destination]
        return min(rivals, key=lambda other: (not other.in_flight, other.id)) is one

    def rate_of(self, job: int) -> float | None:
        return RATE if job == JOBS[-1] else None

    def is_early(self, one: Wanted) -> bool:
        """Whether its rate may keep it; a rate that fell behind catches up a little, so it need not."""
        return self.rate_of(one.job) is not None and self.now_s < max(self.went_s, default=-1.0) + 1 / RATE

    def automatic(self) -> int:
        return sum(one.counted for one in self.flying())

    def be_patient(self) -> None:
        """What has been in flight for long does not count in the window, as soon as somebody may go."""
        for one in self.flying() if len(self.flying()) < MOST else ():
            one.counted = one.counted and self.now_s < one.went_s + PATIENT_S

    def job_is_full(self, job: int) -> bool:
        limit = self.limits[job]
        flying = sum(one.job == job for one in self.flying())
        if limit is None:
            return flying > 0 and self.automatic() >= self.window
        return flying >= limit

    def may_go(self, one: Wanted) -> bool:
        """The whole rule. An unknown lock is checked at the end: the controller is asked first."""
        if one.in_flight or one.delayed or one.job in self.suspended or not self.leads(one):
            return False
        if len(self.flying()) >= MOST or self.job_is_full(one.job):
            return False
        lock = self.lock_of(one)
        if lock is None or (lock == EVERYTHING and not self.owner_has_room()):
            return False
        if self.locked_until_s.get(lock, 0.0) > self.now_s:
            return False
        return not any(other.write and other.lock == lock for other in self.flying())

    def busy(self) -> int:
        return sum(one.lock == EVERYTHING for one in self.flying()) + len(self.overdue)

    def owner_has_room(self) -> bool:
        blocked = self.now_s - self.heard_s > BLOCKED_S
        return self.busy() < self.scheduler.owners.of(EVERYTHING).size and not (blocked and self.busy() >= 2)

    def flying(self) -> list[Wanted]:
        return [one for one in self.wanted if one.in_flight]

    # -- what happens -------------------------------------------------------------------------------

    @rule(
        job=st.sampled_from(JOBS),
        destination=st.sampled_from(DESTINATIONS),
        write=st.booleans(),
        remote_only=st.sampled_from([False, False, False, True]),
    )
    def add(self, job: int, destination: str, write: bool, remote_only: bool) -> None:
        self.enter(Wanted(next(self.ids), job, destination, write, remote_only))

    def enter(self, one: Wanted) -> None:
        self.wanted.append(one)
        self.scheduler.add(one.id, one.job, one.destination, write=one.write, remote_only=one.remote_only)

    def leave(self, one: Wanted) -> None:
        one.in_flight, one.lock, one.delayed = False, None, False
        self.wanted.remove(one)
        self.scheduler.remove(one.id)

    @rule()
    def pick(self) -> None:
        self.be_patient()
        may = {one.id: one for one in self.wanted if self.may_go(one)}
        id_ = self.scheduler.pick(self.now_s)
        self.paces.update(self.scheduler.paced())
        if id_ is None:
            stays = {one.id for one in may.values() if self.is_early(one)}
            assert may.keys() == stays, f"{sorted(may)} may go, and nobody was picked"
            assert not stays or JOBS[-1] in self.paces
            return
        one = next(one for one in self.wanted if one.id == id_)
        assert id_ in may, f"{one} may not go"
        lock = self.lock_of(one)
        if lock == EVERYTHING and not self.busy():
            self.heard_s = self.now_s
        one.in_flight, one.lock = True, lock
        one.went_s, one.counted = self.now_s, self.limits[one.job] is None
        if self.rate_of(one.job) is not None:
            self.went_s.append(self.now_s)

    @rule()
    def pick_all(self) -> None:
        for _ in range(MOST + 1):
            self.pick()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.wanted)))

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.flying())))

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        if one.lock == EVERYTHING:
            self.heard_s = self.now_s
        self.scheduler.answered(one.id, self.now_s)
        self.leave(one)

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def time_is_over(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        until_s = self.scheduler.overdue(one.id, one.id, self.now_s)
        assert (until_s is not None) == (one.lock == EVERYTHING)
        if until_s is not None:
            self.overdue[one.id] = until_s
        self.leave(one)

    @precondition(lambda self: self.overdue)
    @rule(data=st.data())
    def comes_late(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(sorted(self.overdue)))
        del self.overdue[message]
        self.heard_s = self.now_s
        self.scheduler.came(message, self.now_s)

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        one.in_flight, one.lock = False, None
        self.scheduler.put_back(one.id)

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), delay_s=st.sampled_from([0.5, 2.0, 70.0]), locked=st.booleans())
    def delay(self, data: st.DataObject, delay_s: float, locked: bool) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        until_s = self.now_s + delay_s
        lock = self.lock_of(one)
        if locked:
            self.known.pop(one.destination, None)
            if lock is not None:
                self.locked_until_s[lock] = max(self.locked_until_s.get(lock, 0.0), until_s)
        one.in_flight, one.lock, one.delayed = False, None, True
        self.wakes[one.id] = until_s
        self.scheduler.delay(one.id, until_s, LOCKED if locked else "it failed", locked=locked)

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 80.0]))
    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        for id_, until_s in sorted(self.wakes.items(), key=lambda wake: wake[1]):
            if until_s > end_s:
                break
            del self.wakes[id_]
            self.now_s = until_s
            for one in self.wanted:
                one.delayed = one.delayed and one.id != id_
            self.scheduler.wake(id_, self.now_s)
        self.now_s = end_s
        if gone := [message for message, until_s in self.overdue.items() if until_s <= end_s]:
            for message in gone:
                del self.overdue[message]
            self.heard_s = end_s
            self.scheduler.forget_overdue(end_s)
        for job in [job for job, at_s in self.paces.items() if at_s <= end_s]:
            del self.paces[job]
            self.scheduler.pace_over(job)

    @rule(job=st.sampled_from(JOBS))
    def pause(self, job: int) -> None:
        for one in [one for one in self.wanted if one.job == job and not one.in_flight]:
            self.leave(one)
            self.aside.append(one)

    @rule(job=st.sampled_from(JOBS))
    def resume(self, job: int) -> None:
        back = [one for one in self.aside if one.job == job]
        self.aside = [one for one in self.aside if one.job != job]
        for one in back:
            self.enter(one)

    @rule(job=st.sampled_from(JOBS))
    def suspend(self, job: int) -> None:
        self.suspended.add(job)
        self.scheduler.suspend_job(job)

    @rule(job=st.sampled_from(JOBS))
    def go_on(self, job: int) -> None:
        self.suspended.discard(job)
        self.scheduler.resume_job(job)

    @rule(destination=st.sampled_from(DESTINATIONS))
    def reroute(self, destination: str) -> None:
        self.direct ^= {destination}
        self.scheduler.rerouted(destination)

    @rule(window=st.integers(1, MOST))
    def set_window(self, window: int) -> None:
        self.window = window
        set_window(self.scheduler, window)

    @rule(job=st.sampled_from(JOBS))
    def close_job(self, job: int) -> None:
        """All of a job's requests go, and a new job takes its place."""
        self.aside = [one for one in self.aside if one.job != job]
        for one in [one for one in self.wanted if one.job == job]:
            self.leave(one)
        self.suspended.discard(job)
        self.scheduler.close_job(job)
        self.scheduler.open_job(job, self.limits[job], self.rate_of(job))
        if self.rate_of(job) is not None:
            self.went_s = []

    @rule(most=st.integers(1, 4))
    def ask(self, most: int) -> None:
        if self.everywhere is not None and self.everywhere[1] <= self.scheduler._now_s:
            self.everywhere = (self.everywhere[0], self.scheduler._now_s + CACHE_S, self.everywhere[2])
        new = list(self.scheduler.questions(most))
        assert len(set(new)) == len(new)
        self.asked = list(dict.fromkeys([*self.asked, *new]))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), says=st.booleans())
    def answer(self, data: st.DataObject, says: bool) -> None:
        destination = data.draw(st.sampled_from(self.asked))
        self.asked.remove(destination)
        self.learn(destination, self.fleet[destination] if says else None)

    def learn(self, destination: str, resources: list[str] | None) -> None:
        self.scheduler.learn(destination, resources, self.now_s)
        owned = sorted(one for one in resources or () if one.startswith("/remote/"))
        if "/remote/+" in owned:
            self.everywhere = ("/remote/+", self.now_s + CACHE_S, destination)
        elif self.everywhere is not None and self.everywhere[2] == destination:
            self.everywhere = None
        for resource in owned:
            self.known[resource.removeprefix("/remote/")] = (owned[0], self.now_s + CACHE_S)
        if f"/remote/{destination}" not in owned:
            self.known[destination] = (f"/remote/{destination}", self.now_s + CACHE_S)

    @rule(fleet=st.sampled_from(FLEETS))
    def controller_is_another(self, fleet: dict[str, list[str]]) -> None:
        self.fleet = fleet
        self.overdue.clear()
        self.known.clear()
        self.everywhere = None
        self.asked = []
        self.scheduler.forget_all()

    @rule(destination=st.sampled_from(DESTINATIONS))
    def forget(self, destination: str) -> None:
        self.known.pop(destination, None)
        self.everywhere = None
        self.scheduler.forget(destination)

    # -- what always holds --------------------------------------------------------------------------

    @invariant()
    def limits_hold(self) -> None:
        flying = self.flying()
        assert self.scheduler.in_flight == len(flying) <= MOST
        assert self.scheduler.automatic == self.automatic()
        assert self.scheduler.owners.of(EVERYTHING).busy == self.busy()
        assert all(count == 1 for count in Counter(one.destination for one in flying).values())
        locks = Counter(one.lock for one in flying if one.write and one.lock)
        assert all(count == 1 for count in locks.values())
        for job, limit in self.limits.items():
            assert limit is None or sum(one.job == job for one in flying) <= limit
        for many, last_s in enumerate(reversed(self.went_s)):
            assert many <= RATE * (self.went_s[-1] - last_s + CATCH_UP_S) + 1e-6

    @invariant()
    def why_is_true(self) -> None:
        for one in self.aside:
            assert self.scheduler.why(one.id, self.now_s) is None
        for one in self.wanted:
            said = self.scheduler.why(one.id, self.now_s)
            assert (said is None) == one.in_flight
            if said is not None:
                self.check_why(one, said)

    def check_why(self, one: Wanted, said: str) -> None:
        if "to the same destination" in said:
            ahead = next(
                other
                for other in self.wanted
                if other.destination == one.destination and f"request {other.id} of job {other.job} " in said
            )
            assert self.leads(ahead)
            assert ahead is not one
            assert ("in flight" in said) == ahead.in_flight
        elif "its concurrency" in said:
            assert self.limits[one.job] is not None
            assert self.job_is_full(one.job)
        elif "holds the lock" in said:
            assert any(other.write and f"request {other.id} " in said for other in self.flying())
        elif "the most" in said:
            assert len(self.flying()) >= MOST
        elif "the window" in said:
            assert self.automatic() >= self.window

    def teardown(self) -> None:
        """Nobody starves: once nothing is paused, all go. Nothing is kept of them."""
        for job in JOBS:
            self.resume(job)
            self.go_on(job)
        self.set_window(2)
        for _ in range(200):
            if not self.wanted:
                break
            self.pick_all()
            self.limits_hold()
            for one in self.flying():
                if one.lock == EVERYTHING:
                    self.heard_s = self.now_s
                self.scheduler.answered(one.id, self.now_s)
                self.leave(one)
            self.ask(2)
            for destination in self.asked:
                self.learn(destination, self.fleet[destination])
            self.asked = []
            self.advance(1.0)
        assert not self.wanted, f"{[one.id for one in self.wanted]} never went"
        assert (self.scheduler.in_flight, self.scheduler.automatic) == (0, 0)
        for job in JOBS:
            self.scheduler.close_job(job)
        assert [name for name in KEPT if getattr(self.scheduler, f"_{name}")] == []


LanesMachine.TestCase.settings = settings(max_examples=400, stateful_step_count=50)
TestLanesAgainstTheModel = LanesMachine.TestCase
