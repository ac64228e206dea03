"""Thousands of gateways in virtual time: how jobs fare with locks, slow devices and a busy controller.

The engine decides as in the bundle; the store is in memory, bus, controller and gateways are pretended.

    python -m sandbox.simulator --gateways 5000 --shape grouped:50 --method post --slow 0.05

Seconds of a fleet pass in a fraction of that, and the same seed gives the same run.
"""

import argparse
import heapq
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.api import bodies
from puppetmaster.clock import Clock
from puppetmaster.engine.context import Turn
from puppetmaster.engine.engine import Engine
from puppetmaster.model import reply
from puppetmaster.model.job import Job
from puppetmaster.settings import Settings
from puppetmaster.store.base import Ids
from puppetmaster.store.memory import MemoryStore
from sandbox.devices import REMOTE
from sandbox.registrar import Model, models

#: The dispatcher takes what arrived while the last turn was written: a turn lasts so long.
TURN_S = 0.001
#: From us to the controller, or back.
HOP_S = 0.0005
#: An untouched broker sends the controller the next messages when the last ones are acknowledged, which takes
#: this long, or when so many wait: Nagle's algorithm and delayed acknowledgements.
STALL_S, STALLED = 0.044, 20
_MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody else holds the locks of this share of the models, from one second to another."""

    share: float
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The world that jobs meet.

    ``latency_s`` is a gateway's own, up to ``spread`` of it more or less. ``slow`` and ``dead`` are shares of
    the gateways; who is dead never answers, and the controller says so after ``ttl_s``. The controller takes
    ``capacity`` messages a second, one after another; more of them wait. A model works on ``threads``
    requests at once, others wait in its queue; a dead gateway keeps a thread for ``ttl_s``. None: on all.
    ``untouched``: the broker is, so that messages to the controller wait for one another.
    """

    gateways: int = 1000
    shape: str = "per-gateway"
    latency_s: float = 0.05
    spread: float = 0.5
    slow: float = 0.0
    slow_s: float = 3.0
    dead: float = 0.0
    ttl_s: float = 10.0
    threads: int | None = None
    capacity: float = 2000.0
    untouched: bool = False
    holds: tuple[Hold, ...] = ()
    max_in_flight: int = 500
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at one moment; the counts are of all before it."""

    at_s: float
    window: int
    in_flight: int
    done: int
    refused: int


class VirtualClock(Clock):
    """Goes where the simulation says."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        """Seconds since the simulation began."""
        return self.at_s

    def wall_s(self) -> float:
        """The same, from some day on."""
        return 1_800_000_000.0 + self.at_s

    def boot(self) -> str:
        """There is one start only."""
        return "simulated"


class Simulation:
    """One run. ``create`` jobs, ``run``, and look at ``samples`` and the counts."""

    def __init__(self, scenario: Scenario, *, sample_s: float = 0.1) -> None:
        self.scenario = scenario
        self.samples: list[Sample] = []
        #: Messages that we sent although a write of ours held the lock that they need.
        self.collisions = 0
        #: By destination: when each of its commands was sent.
        self.sent_s: dict[str, list[float]] = {}
        #: How long each job's answers took, from the last sending to the answer.
        self.latencies_s: dict[int, list[float]] = {}
        self.clock = VirtualClock()
        self.store = MemoryStore()
        settings = Settings(max_in_flight=scenario.max_in_flight)
        self.engine = Engine(settings, self.clock, self.store.now, Ids(), "simulated")
        self._sample_s = sample_s
        self._random = random.Random(scenario.seed)
        self.destinations = [f"cg-{number:05}" for number in range(1, scenario.gateways + 1)]
        self._controller = _Controller(scenario, self.destinations, self._random)
        self._serial = itertools.count()
        self._events: list[tuple[float, int, Callable[[Engine], Any]]] = []
        self._stalled: list[Callable[[], None]] = []
        self._acknowledged_s = 0.0
        self._at(0.0, lambda engine: engine.connection(up=True))
        self._at(0.0, lambda engine: engine.controller(up=True))
        self._turn()

    def create(self, method: str, destinations: Sequence[str] | None = None, **more: Any) -> Job:
        """POST /jobs now: one command to all gateways, or to these."""
        whom = list(self.destinations if destinations is None else destinations)
        item = {"method": method, "resource": "/any", "__request": {"destination": whom}}
        spec = bodies.parse_job({"batch": [item], **more}, _MOST_REQUESTS)
        self.engine.begin()
        job = self.engine.create(spec)
        while self.engine.drafting(job):
            self._turn()
        self.engine.lifecycle.begin_job(job.id)
        self._turn()
        return job

    @property
    def ran_late(self) -> list[str]:
        """Gateways whose command ran after the controller had given it up."""
        return self._controller.ran_late

    @property
    def dead(self) -> frozenset[str]:
        """The gateways that never answer."""
        return frozenset(self._controller.dead)

    def job(self, job: Job) -> Job:
        """The job as it is now."""
        return self.engine.state.find_job(job.id)

    def run(self, for_s: float = 3600.0) -> float:
        """Let time pass until no job is open, or this long; the seconds that passed."""
        began_s = self.clock.at_s
        while self.engine.state.open_jobs:
            next_s = self._next_s()
            if next_s is None or next_s > began_s + for_s:
                self.clock.at_s = began_s + for_s
                break
            self.clock.at_s = max(self.clock.at_s, next_s) + TURN_S
            self._turn()
            if not self.samples or self.clock.at_s >= self.samples[-1].at_s + self._sample_s:
                self._take_sample()
        self._take_sample()
        return self.clock.at_s - began_s

    def _next_s(self) -> float | None:
        if self.engine.busy:
            return self.clock.at_s
        times = [self.engine.timers.next_s(), self._events[0][0] if self._events else None]
        return min((one for one in times if one is not None), default=None)

    def _at(self, at_s: float, event: Callable[[Engine], Any]) -> None:
        heapq.heappush(self._events, (at_s, next(self._serial), event))

    def _turn(self) -> None:
        """As the dispatcher: take what has arrived, decide, keep, act."""
        engine = self.engine
        engine.begin()
        while self._events and self._events[0][0] <= self.clock.at_s:
            heapq.heappop(self._events)[2](engine)
        engine.turn(self.store.commit, self._act, engine.stall)

    def _act(self, turn: Turn) -> None:
        now_s, controller = self.clock.at_s, self._controller
        for outgoing in turn.sends:
            body = jsoncodec.decode(outgoing.payload)
            destination = body["resource"].removeprefix(REMOTE)
            self.sent_s.setdefault(destination, []).append(now_s)
            self.collisions += controller.ours_holds(destination)
            self._to_controller(partial(self._handle, outgoing.id, body, now_s))
        if turn.proves:
            self._to_controller(partial(self._prove, now_s))
        for destination in turn.questions:
            self._to_controller(partial(self._ask, destination))

    def _to_controller(self, act: Callable[[], None]) -> None:
        """A message reaches the controller: at once, or with others that wait, as the broker is."""
        if not self.scenario.untouched:
            act()
            return
        self._stalled.append(act)
        if self.clock.at_s >= self._acknowledged_s or len(self._stalled) >= STALLED:
            self._unstall()
        elif len(self._stalled) == 1:
            self._at(self._acknowledged_s, lambda _engine: self._unstall())

    def _unstall(self) -> None:
        acts, self._stalled = self._stalled, []
        if acts:
            self._acknowledged_s = self.clock.at_s + STALL_S
        for act in acts:
            act()

    def _handle(self, message: int, body: Any, sent_s: float) -> None:
        """The controller has a command of ours."""
        done_s, code, release = self._controller.handle(body, self.clock.at_s)
        arrives = self._answer(message, code, release, sent_s)
        if self.scenario.untouched and code == 200:  # the model's answer is a message to the controller, too
            self._at(done_s, lambda engine: self._to_controller(partial(arrives, engine)))
        else:
            self._at(done_s, arrives)

    def _ask(self, destination: str) -> None:
        """The controller is asked who owns it."""
        self._at(self._controller.passes_s(self.clock.at_s) + HOP_S, self._owner(destination))

    def _prove(self, asked_s: float) -> None:
        """The controller is asked whether it knows us."""
        knows_s = self._controller.passes_s(self.clock.at_s) + HOP_S
        self._at(knows_s, lambda engine: engine.delivery.controller_knows(asked_s))

    def _answer(
        self, message: int, code: int, release: Callable[[], None], sent_s: float
    ) -> Callable[[Engine], None]:
        by_device = {"id": message, "code": 200, "data": {"code": 200, "data": {}}, "sign": ["remote"]}
        by_controller = {"id": message, "code": code, "data": {"message": _TEXTS.get(code, "")}}
        said = reply.read(by_device if code == 200 else {**by_controller, "sign": ["controller"]})

        def arrives(engine: Engine) -> None:
            release()
            request = engine.state.find_request(message)
            if request is not None and code == 200:
                self.latencies_s.setdefault(request.job, []).append(self.clock.at_s - sent_s)
            engine.delivery.answered(message, said)

        return arrives

    def _owner(self, destination: str) -> Callable[[Engine], None]:
        resources = self._controller.model(destination).resources
        return lambda engine: engine.owners(destination, resources)

    def _take_sample(self) -> None:
        scheduler, refused = self.engine.scheduler, self.engine.delivery.refusals.counts.total()
        done = sum(map(len, self.latencies_s.values()))
        self.samples.append(
            Sample(self.clock.at_s, scheduler.window.size, scheduler.in_flight, done, refused)
        )

    def summary(self) -> dict[str, Any]:
        """What came of it, in figures."""
        all_s = sorted(itertools.chain.from_iterable(self.latencies_s.values()))
        counts: Counter[str] = Counter()
        for id_ in self.store.now.job_ids({}):
            job = self.engine.state.find_job(id_)
            counts.update({status.value: count for status, count in job.counts.items() if count})
        lasted_s = self.clock.at_s
        return {
            "seconds": round(lasted_s, 3),
            "answersPerSecond": round(len(all_s) / lasted_s, 1) if lasted_s else 0,
            "latency": {
                "median": round(all_s[len(all_s) // 2], 4) if all_s else None,
                "p99": round(all_s[len(all_s) * 99 // 100], 4) if all_s else None,
            },
            "requests": dict(counts),
            "refusals": {str(code): count for code, count in self.engine.delivery.refusals.counts.items()},
            "collisions": self.collisions,
            "ranLate": len(self.ran_late),
            "owners": self.engine.scheduler.owners.sizes(),
            "window": {
                "now": self.engine.scheduler.window.size,
                "most": max(one.window for one in self.samples),
            },
        }


@dataclass(slots=True)
class _Lock:
    """Of one model: how many writes of ours hold it, and when others do."""

    ours: int = 0
    others: list[Hold] = field(default_factory=list)


_TEXTS = {423: "resource is locked", 408: "session failed due to ttl expired ."}


class _Controller:
    """Locks and queues of the controller: a write locks all that its model owns until it is answered."""

    def __init__(self, scenario: Scenario, destinations: Sequence[str], rng: random.Random) -> None:
        self._scenario, self._random = scenario, rng
        owned = models(scenario.shape, destinations)
        self._model_of: dict[str, Model] = {
            resource.removeprefix(REMOTE): model for model in owned for resource in model.resources
        }
        self._any = owned[0]
        self._locks = {model.name: _Lock() for model in owned}
        for hold in scenario.holds:
            for model in rng.sample(owned, max(1, round(hold.share * len(owned)))):
                self._locks[model.name].others.append(hold)
        slow, dead = round(scenario.slow * len(destinations)), round(scenario.dead * len(destinations))
        odd = rng.sample(list(destinations), slow + dead)
        self._slow, self.dead = set(odd[:slow]), set(odd[slow:])
        self._free_s = 0.0
        #: When each thread of a model is free.
        self._threads = {model.name: [0.0] * (scenario.threads or 0) for model in owned}
        self.ran_late: list[str] = []

    def model(self, destination: str) -> Model:
        """Who owns it."""
        return self._model_of.get(destination, self._any)

    def passes_s(self, now_s: float) -> float:
        """When a message that comes now is through."""
        self._free_s = max(self._free_s, now_s + HOP_S) + 1 / self._scenario.capacity
        return self._free_s

    def ours_holds(self, destination: str) -> bool:
        """Whether a write of ours is in flight under this lock."""
        return self._locks[self.model(destination).name].ours > 0

    def handle(self, body: Any, now_s: float) -> tuple[float, int, Callable[[], None]]:
        """When the answer is there, its code, and what happens then."""
        destination = body["resource"].removeprefix(REMOTE)
        lock, passed_s = self._locks[self.model(destination).name], self.passes_s(now_s)
        if lock.ours or any(hold.from_s <= now_s < hold.until_s for hold in lock.others):
            return passed_s + HOP_S, 423, _nothing
        gives_up_s = passed_s + self._scenario.ttl_s
        done_s = self._done_s(destination, passed_s)
        answered_s, code = (done_s + HOP_S, 200) if done_s < gives_up_s else (gives_up_s + HOP_S, 408)
        if body["method"] == "get":
            return answered_s, code, _nothing
        lock.ours += 1

        def release() -> None:
            lock.ours -= 1

        return answered_s, code, release

    def _done_s(self, destination: str, passed_s: float) -> float:
        """When its model has done it. One with threads begins when one of them is free."""
        dead, ttl_s = destination in self.dead, self._scenario.ttl_s
        takes_s = ttl_s if dead else self._own_s(destination)
        threads = self._threads[self.model(destination).name]
        if not threads:
            return passed_s + takes_s
        begins_s = max(passed_s, heapq.heappop(threads))
        heapq.heappush(threads, begins_s + takes_s)
        if begins_s >= passed_s + ttl_s and not dead:
            self.ran_late.append(destination)
        return begins_s + takes_s

    def _own_s(self, destination: str) -> float:
        scenario = self._scenario
        if destination in self._slow:
            return scenario.slow_s
        return scenario.latency_s * (1 + scenario.spread * self._random.uniform(-1, 1))


def _nothing() -> None:
    pass


def _hold(text: str) -> Hold:
    try:
        share, from_s, until_s = map(float, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected share:from:until such as 0.5:2:4, got '{text}'") from None
    return Hold(share, from_s, until_s)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    known = Scenario()
    options = argparse.ArgumentParser("python -m sandbox.simulator", description=__doc__.split("\n")[0])
    add = options.add_argument
    add("--gateways", type=int, default=known.gateways, help="how many there are")
    add("--shape", default=known.shape, help="who shares a lock: one-model, per-gateway or grouped:N")
    add("--latency", type=float, default=known.latency_s, help="seconds that a gateway takes")
    add("--spread", type=float, default=known.spread, help="part of the latency, more or less")
    add("--slow", type=float, default=known.slow, help="share of gateways that are slow")
    add("--slow-latency", type=float, default=known.slow_s, help="seconds that those take")
    add("--dead", type=float, default=known.dead, help="share of gateways that never answer")
    add("--ttl", type=float, default=known.ttl_s, help="seconds after which the controller says so")
    add("--threads", type=int, default=known.threads, help="a model works on this many requests at once")
    add("--capacity", type=float, default=known.capacity, help="messages a second through the controller")
    add("--untouched", action="store_true", help="a broker as it is installed: messages wait for 44 ms")
    add("--hold", type=_hold, action="append", default=[], help="others hold locks: share:from:until")
    add("--max-in-flight", type=int, default=known.max_in_flight, help="most in flight over all jobs")
    add("--seed", type=int, default=known.seed, help="the same seed gives the same run")
    add("--method", default="post", help="of the command")
    add("--jobs", type=int, default=1, help="how many jobs go to all gateways at once")
    add("--policies", type=json.loads, default={}, help="more properties of the jobs, as a JSON object")
    add("--sample", type=float, default=0.25, help="seconds between two lines of the trace")
    add("--seconds", type=float, default=3600.0, help="stop after so long")
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how the window went, why it fell, and what came of it."""
    given = parse(arguments)
    scenario = Scenario(
        gateways=given.gateways,
        shape=given.shape,
        latency_s=given.latency,
        spread=given.spread,
        slow=given.slow,
        slow_s=given.slow_latency,
        dead=given.dead,
        ttl_s=given.ttl,
        threads=given.threads,
        capacity=given.capacity,
        untouched=given.untouched,
        holds=tuple(given.hold),
        max_in_flight=given.max_in_flight,
        seed=given.seed,
    )
    random.seed(scenario.seed)
    simulation = Simulation(scenario, sample_s=given.sample)
    for _ in range(given.jobs):
        simulation.create(given.method, **given.policies)
    simulation.run(given.seconds)
    print(f"{'seconds':>9} {'window':>7} {'in flight':>10} {'answered':>9} {'refused':>8}")
    for one in simulation.samples:
        print(f"{one.at_s:9.3f} {one.window:7} {one.in_flight:10} {one.done:9} {one.refused:8}")
    for at_s, size, why in simulation.engine.scheduler.window.trace:
        print(f"at {at_s:.3f} s the window fell to {size}: {why}")
    print(json.dumps(simulation.summary(), indent=2))


if __name__ == "__main__":
    main()
