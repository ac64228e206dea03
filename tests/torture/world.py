"""A gateway on a real broker whose parts are killed at seeded moments, and a record of when."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.gateway import Gateway
from sandbox.process import Process, ProcessError
from tests.bus_client import BusClient
from tests.faulty_bundle import POINTS
from tests.proxy import Proxy

FLEET_SIZE = 40
FLEET = tuple(f"cg-{number:02d}" for number in range(1, FLEET_SIZE + 1))
#: How some of the fleet misbehave; everybody else is good.
SILENT, DEAD, FAILING, TWICE, GARBAGE, SLOW = "cg-01", "cg-02", "cg-03", "cg-04", "cg-05", "cg-06"
NOBODY = "cg-nobody"
DELAY_S, JITTER_S, SLOW_S = 0.02, 0.06, 0.9
REQUEST_TIMEOUT_S = 3.0
GRACE_S = 1.0
#: Who shares a lock, and how much is in flight at most: of each seed one.
SHAPES, WINDOWS = ("per-gateway", "grouped:4"), (500, 6)
#: Points that are passed once per open job or command are passed more often than those of a turn.
OFTEN = {"recovering": 4, "sending": 40, "sent": 40, "answered": 40, "pruning": 1}


@dataclass(frozen=True, slots=True)
class Loss:
    """Something was away, by time.monotonic(): what was on its way then may be lost."""

    what: str
    from_s: float
    to_s: float


class World:
    """Broker, controller, a fleet that logs every command, and the bundle, all of which can be broken.

    Args:
        directory: for the bundle's data, the fleet's log and the journal.
        seed: decides about every fault.
        faults: those that come first, each "point:n"; the rest is random.
        proxied: the bundle reaches the broker through ``proxy``.
    """

    def __init__(
        self, directory: Path, seed: int, *, faults: Sequence[str] = (), proxied: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        shape, window = self.rng.choice(SHAPES), self.rng.choice(WINDOWS)
        self.planned = list(faults)
        self.journal = directory / "journal"
        self.losses: list[Loss] = []
        self.kills = 0
        self.alive = threading.Event()  #: whether it makes sense to ask the bundle
        self.connections = 0  #: grows when whoever uses the bus has to connect again
        self.points: dict[str, int] = {}
        self.gateway = Gateway(
            directory,
            fleet=[
                *("--to", "cg-[01-40]", "--shape", shape, "--ttl", "5"),
                *("--delay", str(DELAY_S), "--jitter", str(JITTER_S), "--seed", str(seed)),
                *("--silent", SILENT, "--dead", DEAD, "--fail", f"{FAILING}:500"),
                *("--twice", TWICE, "--garbage", GARBAGE, "--slow", f"{SLOW}:{SLOW_S}"),
            ],
            controller={"refresh_ms": 100},
        )
        self.proxy = Proxy(self.gateway.broker.port) if proxied else None
        port = self.proxy.port if self.proxy else self.gateway.broker.port
        self.gateway.bundle = Process.module(
            "puppetmaster",
            "tests.faulty_bundle",
            env={
                "BROKER_PORT_1883_TCP_ADDR": self.gateway.broker.host,
                "BROKER_PORT_1883_TCP_PORT": str(port),
                "PUPPETMASTER_DATA_DIR": str(directory / "data"),
                "PUPPETMASTER_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
                "PUPPETMASTER_GRACE_S": str(GRACE_S),
                "PUPPETMASTER_WINDOW": str(window),
                "PUPPETMASTER_PROBE_INTERVAL_S": "0.3",
                "PUPPETMASTER_REGISTERING_S": "2",  # some orders are for gateways that do not exist
                "PUPPETMASTER_HTTP": "off",
                "BUNDLE_TTL": "2",
                "SWEEP": "4",
                "KEEPALIVE": "2",
                "JOURNAL": str(self.journal),
            },
        )

    def start(self) -> None:
        """Start everything; the bundle without a fault, or with the first that is planned."""
        self.gateway.start(bundle=False)
        if self.proxy:
            self.proxy.start()
        self.start_bundle(self.planned.pop(0) if self.planned else "")

    def start_bundle(self, fault: str = "") -> bool:
        """Start the bundle with this fault; whether it lived long enough to be registered."""
        bundle = self.gateway.bundle
        bundle.env["FAULT"] = fault
        bundle.start()
        try:
            bundle.wait_for("registered with the controller", 20)
        except ProcessError:
            if not fault:
                raise
            bundle.wait(1)  # who printed nothing more and lives is no victim of its fault
            return False
        self.alive.set()
        return True

    def next_fault(self) -> str:
        """A point and how often it is to be passed, or nothing: then somebody else kills it."""
        if self.planned:
            return self.planned.pop(0)
        if self.rng.random() < 0.3:
            return ""
        point = self.rng.choice(list(POINTS))
        return f"{point}:{self.rng.randint(1, OFTEN.get(point, 15))}"

    def kill_bundle(self, wait_s: float) -> None:
        """Wait so long for the bundle to die of its fault, then kill it; start it again with another."""
        bundle = self.gateway.bundle
        try:
            bundle.wait(wait_s)
        except ProcessError:
            bundle.kill()
            self._count("a random moment")
        else:
            self._count(bundle.env["FAULT"].partition(":")[0])
        died_s = time.monotonic()
        self.alive.clear()
        while not self.start_bundle(self.next_fault()):
            self.losses.append(Loss("bundle", time.monotonic(), time.monotonic()))
            self._count(bundle.env["FAULT"].partition(":")[0])
        self.losses.append(Loss("bundle", died_s, time.monotonic()))

    @contextmanager
    def losing(self, what: str) -> Iterator[None]:
        """Broken inside, mended on the way out; done when the bundle answers again."""
        begun_s = time.monotonic()
        self.alive.clear()
        yield
        self._wait_for_an_answer(20)
        self.losses.append(Loss(what, begun_s, time.monotonic()))
        self._count(what)
        self.connections += 1
        self.alive.set()

    def _wait_for_an_answer(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        with BusClient(self.gateway.broker, first_id=2**19) as client:
            while time.monotonic() < deadline_s:
                with suppress(TimeoutError):
                    if client.request("get", "/system/puppetmaster", timeout_s=0.5)["code"] == 200:
                        return
                time.sleep(0.02)
        raise ProcessError(f"expected the bundle to answer within {timeout_s:g} s, it does not")

    def settle(self) -> None:
        """End the bundle whatever its fault, and start it without one: from here on nothing breaks."""
        self.gateway.bundle.kill()
        died_s = time.monotonic()
        self.alive.clear()
        self.start_bundle()
        self.losses.append(Loss("bundle", died_s, time.monotonic()))
        self._count("a random moment")

    def stop(self) -> None:
        """End everything."""
        self.gateway.stop()
        if self.proxy:
            self.proxy.close()

    def _count(self, point: str) -> None:
        self.kills += 1
        self.points[point] = self.points.get(point, 0) + 1
