"""A gateway on a real broker whose parts are killed at seeded moments, and a record of when."""

import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from puppetmaster.clock import iso
from sandbox.gateway import Gateway
from sandbox.process import Process, ProcessError
from tests.bus_client import BusClient
from tests.faulty_bundle import POINTS
from tests.proxy import Proxy
from tests.torture import starts
from tests.torture.told import Listener

FLEET_SIZE = 40
FLEET = tuple(f"cg-{number:02d}" for number in range(1, FLEET_SIZE + 1))
#: How some of the fleet misbehave; everybody else is good.
SILENT, DEAD, FAILING, TWICE, GARBAGE, SLOW = "cg-01", "cg-02", "cg-03", "cg-04", "cg-05", "cg-06"
NOBODY = "cg-nobody"
DELAY_S, JITTER_S, SLOW_S = 0.02, 0.06, 0.9
REQUEST_TIMEOUT_S = 3.0
GRACE_S = 1.0
#: How long the bundle stands still: longer than its requests have, and than the broker waits for it.
PAUSE_S = REQUEST_TIMEOUT_S + 1
#: The file that says when the fleet was registered.
REGISTRATIONS = "registrations"
#: The real controller sleeps 5 s before it connects again, and then everybody registers.
ANSWERS_AGAIN_S = 60
#: Who shares a lock, and how much is in flight at most: of each seed one.
SHAPES, WINDOWS = ("per-gateway", "grouped:4"), (500, 6)
#: Points that are passed once per open job or command are passed more often than those of a turn.
OFTEN = {"recovering": 4, "sending": 40, "sent": 40, "answered": 40, "pruning": 1}


#: Losses that excuse no lost answer: the broker keeps what comes meanwhile.
BUNDLE, STILL = "bundle", "bundle paused"
CONTROLLER, BROKER, EVERYTHING = "controller killed", "broker killed", "everything restarted"


@dataclass(frozen=True, slots=True)
class Loss:
    """Something was away, by time.monotonic(): what was on its way then may be lost.

    ``gateway`` is the only one that it concerns; empty: it concerns all.
    """

    what: str
    from_s: float
    to_s: float
    gateway: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which a world runs."""

    plain: bool = False  #: the bundle probes and waits as an installation does where nothing is set
    tuned: bool = True  #: False: the broker is as an untouched installation has it
    packet_limit: int | None = None  #: bytes: the broker hangs up on who sends more in one packet
    scheduled: bool = True  #: schedules start jobs, and a webhook is told of all
    route: str = "remote"  #: which way requests take; another one only to bridged gateways

    @classmethod
    def of(cls, seed: int, *, bridged: bool, **more: Any) -> Self:
        """Those of a seed: every third one is plain, every fourth one has untouched brokers."""
        route = ("remote", "direct", "auto")[seed // 3 % 3] if bridged else "remote"
        return cls(plain=seed % 3 == 0, tuned=seed % 4 != 0, route=route, **more)

    @property
    def registering_s(self) -> float:
        """For how long a gateway is waited for that is not registered.

        Some orders are for gateways that do not exist: those are waited for after each restart.
        """
        return 10.0 if self.plain else 2.0

    @property
    def settings(self) -> dict[str, str]:
        """Variables for the bundle."""
        registering = {"PUPPETMASTER_REGISTERING_S": str(self.registering_s)}
        if self.plain:
            return registering
        return {
            **registering,
            "PUPPETMASTER_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
            "PUPPETMASTER_GRACE_S": str(GRACE_S),
            "PUPPETMASTER_PROBE_INTERVAL_S": "0.3",
            "KEEPALIVE": "2",
        }

    @property
    def config(self) -> str:
        """Lines for the broker."""
        return "" if self.packet_limit is None else f"max_packet_size {self.packet_limit}\n"


USUAL = Conditions()
#: For what a clock that is set would break, and for what must not grow.
UNTOLD = Conditions(scheduled=False)


class World:
    """Broker, controller, a fleet that logs every command, and the bundle, all of which can be broken.

    Args:
        directory: for the bundle's data, the fleet's log and the journal.
        seed: decides about every fault.
        faults: those that come first, each "point:n"; the rest is random.
        proxied: the bundle reaches the broker through ``proxy``.
        conditions: under which it runs.
    """

    fleet: tuple[str, ...] = FLEET  #: the names of its gateways
    hardly: tuple[str, ...] = (
        SILENT,
        DEAD,
    )  #: who says nothing, hardly ever asked: that holds up others for seconds
    pace_s = 0.06  #: how long whoever uses it rests at most
    slowness = 1  #: how many times less happens in it than in this one
    #: Who answers at once, for jobs that come every few seconds.
    quick: tuple[str, ...] = FLEET[10:17]
    most_open: int | None = None  #: how many jobs are open at most; None: however many come

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        faults: Sequence[str] = (),
        proxied: bool = False,
        conditions: Conditions = USUAL,
    ) -> None:
        self.rng = random.Random(seed)
        self.conditions = conditions
        self.planned = list(faults)
        self.journal = directory / "journal"
        self.losses: list[Loss] = []
        self.kills = 0
        self.alive = threading.Event()  #: whether it makes sense to ask the bundle
        self.connections = 0  #: grows when whoever uses the bus has to connect again
        self.points: dict[str, int] = {}
        self.listener = Listener(random.Random(seed)) if conditions.scheduled else None
        self.gateway = self._system(directory, seed)
        self.gateway.broker.config += conditions.config
        self.proxy = Proxy(self.gateway.broker.port) if proxied else None
        port = self.proxy.port if self.proxy else self.gateway.broker.port
        self.gateway.bundle = Process.module(
            "puppetmaster",
            "tests.faulty_bundle",
            env={
                "BROKER_PORT_1883_TCP_ADDR": self.gateway.broker.host,
                "BROKER_PORT_1883_TCP_PORT": str(port),
                "PUPPETMASTER_DATA_DIR": str(directory / "data"),
                "PUPPETMASTER_MAX_IN_FLIGHT": str(self.rng.choice(WINDOWS)),
                "PUPPETMASTER_ROUTE": conditions.route,
                "PUPPETMASTER_HTTP": "off",
                "BUNDLE_TTL": "2",
                "SWEEP": "4",
                "JOURNAL": str(self.journal),
                **conditions.settings,
            },
        )
        if self.listener is not None:
            hooks = str(self.listener.file(directory, all_jobs=True))
            self.gateway.bundle.env |= {"PUPPETMASTER_WEBHOOKS": hooks, starts.EVERY: str(starts.EVERY_S)}

    def _system(self, directory: Path, seed: int) -> Gateway:
        """Return the parts that the bundle works with, not started yet."""
        return Gateway(
            directory,
            fleet=[
                *("--to", "cg-[01-40]", "--shape", self.rng.choice(SHAPES), "--ttl", "5"),
                *("--delay", str(DELAY_S), "--jitter", str(JITTER_S), "--seed", str(seed)),
                *("--silent", SILENT, "--dead", DEAD, "--fail", f"{FAILING}:500"),
                *("--twice", TWICE, "--garbage", GARBAGE, "--slow", f"{SLOW}:{SLOW_S}"),
                *("--registrations", str(directory / REGISTRATIONS)),
            ],
            controller={"refresh_ms": 100},
            tuned=self.conditions.tuned,
        )

    def start(self) -> None:
        """Start everything; the bundle without a fault, or with the first that is planned."""
        self._start_parts()
        if self.proxy:
            self.proxy.start()
        self.start_bundle(self.planned.pop(0) if self.planned else "")

    def _start_parts(self) -> None:
        self.gateway.start(bundle=False)

    def start_bundle(self, fault: str = "") -> bool:
        """Start the bundle with this fault; whether it lived long enough to be registered."""
        bundle = self.gateway.bundle
        self.keep_log()
        bundle.env["FAULT"] = fault
        bundle.start()
        try:
            bundle.wait_for("registered with the controller", ANSWERS_AGAIN_S)
        except ProcessError:
            # Who printed nothing more and lives is no victim of its fault, nor is who ended by itself.
            if not fault or bundle.wait(1) != -signal.SIGKILL:
                raise
            return False
        self.alive.set()
        return True

    def keep_log(self) -> None:
        """Append what the bundle has printed to a file, before it is started again, and what broke so far."""
        with (self.gateway.directory / "bundle.log").open("a") as log:
            log.writelines(f"{line}\n" for line in self.gateway.bundle.output())
            log.write(f"--- {time.monotonic():.3f} {iso(time.time())} {self.losses[-1:]}\n")

    def next_fault(self) -> str:
        """A point and how often it is to be passed, or nothing: then somebody else kills it."""
        if self.planned:
            return self.planned.pop(0)
        if self.rng.random() < 0.3:
            return ""
        point = self.rng.choice(list(POINTS))
        return f"{point}:{self.rng.randint(1, max(1, OFTEN.get(point, 15) // self.slowness))}"

    def kill_bundle(self, wait_s: float) -> None:
        """Wait so long for the bundle to die of its fault, then kill it; start it again with another."""
        bundle = self.gateway.bundle
        try:
            code = bundle.wait(wait_s)
        except ProcessError:
            bundle.kill()
            self._count("a random moment")
        else:
            if code != -signal.SIGKILL:
                raise ProcessError(f"the bundle ended by itself with code {code}: {bundle.output()[-5:]}")
            self._count(bundle.env["FAULT"].partition(":")[0])
        died_s = time.monotonic()
        self.alive.clear()
        while not self.start_bundle(self.next_fault()):
            self.losses.append(Loss(BUNDLE, time.monotonic(), time.monotonic()))
            self._count(bundle.env["FAULT"].partition(":")[0])
        self.losses.append(Loss(BUNDLE, died_s, time.monotonic()))

    def wreck(self, wait_s: float) -> None:
        """Break something: mostly the bundle, after it worked for so long at most."""
        choice = self.rng.random()
        if choice < 0.76:
            self.kill_bundle(wait_s)
        elif choice < 0.84:
            self.restart_everything()
        elif choice < 0.92:
            self.pause_bundle(PAUSE_S)
        elif choice < 0.96:
            self.restart_controller()
        else:
            self.restart_broker()

    def restart_controller(self) -> None:
        """Kill the controller and start it again: it knows nobody. Sometimes the bundle dies too."""
        with self.losing(CONTROLLER):
            self.gateway.controller.kill()
            self._kill_bundle_sometimes()
            self.gateway.controller.start()
            self._after_a_loss()

    def restart_broker(self) -> None:
        """Kill the broker and start it again: all sessions are gone. Sometimes the bundle dies too."""
        with self.losing(BROKER):
            self.gateway.broker.kill()
            self._kill_bundle_sometimes()
            self.gateway.broker.start()
            self._after_a_loss()

    def _kill_bundle_sometimes(self) -> None:
        if self.rng.random() < 0.3:
            self.gateway.bundle.kill()

    def _after_a_loss(self) -> None:
        """Do what an operator has to do after a restart of broker or controller: here nothing."""

    def restart_everything(self) -> None:
        """Kill all that runs at the same moment, and start all of it at the same moment, but for the broker.

        Without it nobody could connect.
        """
        with self.losing(EVERYTHING):
            parts = self._everything()
            self.gateway.broker.kill()
            for part in (*parts, self.gateway.bundle):
                part.kill()
            self.gateway.broker.start()
            with ThreadPoolExecutor(len(parts) + 1) as pool:
                starting = [pool.submit(part.start, ANSWERS_AGAIN_S) for part in parts]
                self._revive()
                for started in starting:
                    started.result()

    def _everything(self) -> list[Process]:
        """Return what is restarted beside broker and bundle."""
        fleet = self.gateway.fleet
        return [self.gateway.controller] if fleet is None else [self.gateway.controller, fleet]

    def pause_bundle(self, seconds: float) -> None:
        """Let the bundle stand still for so long (SIGSTOP)."""
        with self.losing(STILL):
            self.gateway.bundle.pause()
            time.sleep(seconds)
            self.gateway.bundle.resume()

    @contextmanager
    def losing(self, what: str) -> Iterator[None]:
        """Broken inside, mended on the way out; done when the bundle answers again.

        The bundle may die of its fault meanwhile: then it is started without one.
        """
        begun_s = time.monotonic()
        self.alive.clear()
        yield
        self._wait_for_an_answer(ANSWERS_AGAIN_S)
        self._lost(what, begun_s)
        self.connections += 1
        self.alive.set()

    def _wait_for_an_answer(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        with BusClient(self.gateway.broker, first_id=2**19 + 200 * self.kills) as client:
            while time.monotonic() < deadline_s:
                self._revive()
                with suppress(TimeoutError):
                    if client.request("get", "/system/puppetmaster", timeout_s=0.5)["code"] == 200:
                        return
                time.sleep(0.02)
        raise ProcessError(f"expected the bundle to answer within {timeout_s:g} s, it does not")

    def _revive(self) -> None:
        """Start the bundle without a fault, unless it runs."""
        if not self.gateway.bundle.running:
            died_s = time.monotonic()
            self.start_bundle()
            self.losses.append(Loss(BUNDLE, died_s, time.monotonic()))

    def settle(self) -> None:
        """End the bundle whatever its fault, and start it without one: from here on nothing breaks."""
        self.gateway.bundle.kill()
        died_s = time.monotonic()
        self.alive.clear()
        self.start_bundle()
        self.losses.append(Loss(BUNDLE, died_s, time.monotonic()))
        self._count("a random moment")

    def stop(self) -> None:
        """End everything."""
        self.gateway.stop()
        self._stop_others()

    def _stop_others(self) -> None:
        if self.proxy:
            self.proxy.close()
        if self.listener:
            self.listener.good.set()
            self.listener.down()

    def _lost(self, what: str, begun_s: float, gateway: str = "") -> None:
        """Note what was away since then until now."""
        self.losses.append(Loss(what, begun_s, time.monotonic(), gateway))
        self._count(what)

    def _count(self, point: str) -> None:
        self.kills += 1
        self.points[point] = self.points.get(point, 0) + 1
