# ruff: noqa: T201 - this is a program
"""Three bundles with one database, of which one leads, while everything breaks.

Promised is: no command reaches a gateway twice, none after its request has ended, and a job that was answered
with 200 is there and ends. ``--unfenced`` is the control run: it must break promises.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process, ProcessError
from tests.bus_client import BusClient

GATEWAYS = 200
NAMES = [f"cg-{number:03}" for number in range(1, GATEWAYS + 1)]
#: A command that comes so long after the end of its request is late: clocks are read at both ends.
TOLERANCE_S = 0.1
#: Who holds back a command for longer than this has lost its lease. A late answer would correct the request.
LATE_S = 5.5
#: So long all may take to end when nothing breaks any more.
END_S = 180.0
SETTINGS = {
    "PUPPETMASTER_GRACE_S": "1",
    "PUPPETMASTER_REQUEST_TIMEOUT_S": "10",
    "PUPPETMASTER_LOG_LEVEL": "warning",
    "PUPPETMASTER_KEEP_MB": "1000",
    "PUPPETMASTER_KEEP_JOBS": "100000",
}


class World:
    """The bus, the database, and the bundles, which are started again whenever they end."""

    def __init__(self, folder: Path, seed: int, *, unfenced: bool, bundles: int = 3) -> None:
        self.random = random.Random(seed)
        self.cluster = Cluster(durable=True)
        self.trap = folder / "trap"
        fleet = ["--shape", "per-gateway", "--to", f"cg-[001-{GATEWAYS:03}]", "--delay", "0.02"]
        settings = {**SETTINGS, "PUPPETMASTER_STORE": self.cluster.url(), "TRAP": str(self.trap)}
        self.gateway = Gateway(folder, fleet=fleet, settings=settings)
        env = {**self.gateway.bundle.env, **({"UNFENCED": "1"} if unfenced else {})}
        self.bundles = [
            Process.module(
                f"bundle-{number}",
                "tests.torture.trapped",
                env={**env, "PUPPETMASTER_DATA_DIR": str(folder / f"data-{number}")},
            )
            for number in range(bundles)
        ]
        self.exits: Counter[int] = Counter()
        self.jobs: dict[int, str] = {}  # id -> its name, for those that were answered with 200
        self.over = threading.Event()
        self._keeping = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """All of it."""
        with ExitStack() as stack:
            stack.enter_context(self.cluster)
            self.gateway.start(bundle=False)
            stack.callback(self.gateway.stop)
            for bundle in self.bundles:
                bundle.start()
                stack.callback(bundle.kill)
            keeper = threading.Thread(target=self._keep_on)
            keeper.start()
            stack.callback(keeper.join)
            stack.callback(self.over.set)
            yield

    def _keep_on(self) -> None:
        while not self.over.wait(0.2):
            for bundle in self.bundles:
                if not bundle.running:
                    self.exits[bundle.returncode or 0] += 1
                    bundle.start()

    def leader(self) -> Process | None:
        """The bundle that leads now; None: none does, or nobody can be asked."""
        with suppress(CalledProcessError):
            owner = self.cluster.run("SELECT owner FROM buses")
            for bundle in self.bundles:
                if f":{bundle.pid} " in owner:
                    return bundle
        return None

    # -- what breaks --------------------------------------------------------------------------------

    def kill(self) -> None:
        """The leader is killed."""
        if (leader := self.leader()) is not None:
            leader.kill()

    def stop(self) -> None:
        """The leader is asked to stop."""
        if (leader := self.leader()) is not None:
            leader.terminate(10)

    def freeze(self) -> None:
        """The leader stands still, for less or for more than its lease."""
        if (leader := self.leader()) is not None:
            leader.pause()
            self.over.wait(self.random.choice((1.0, 4.5, 5.5, 8.0)))
            leader.resume()

    def trapped(self) -> None:
        """The leader stands still at the worst moment, until another one leads and works."""
        leader = self.leader()
        self.trap.touch()
        deadline_s = time.monotonic() + 5
        while self.trap.exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self.trap.unlink(missing_ok=True)
        self.over.wait(self.random.choice((10.0, 13.0)))
        if leader is not None:
            leader.resume()

    def cut(self) -> None:
        """All sessions of the leader at the database are ended."""
        with suppress(CalledProcessError):
            self.cluster.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity, buses WHERE application_name = owner"
            )

    def crash(self) -> None:
        """The database crashes, and is there again after a while."""
        self.cluster.process.kill()
        self.over.wait(self.random.choice((0.0, 2.0, 7.0)))
        for _ in range(20):  # the shared memory of the killed one is free in a moment
            with suppress(ProcessError):
                self.cluster.start()
                return
            self.over.wait(0.5)

    def broker(self) -> None:
        """The broker is started anew, and has forgotten everything."""
        self.gateway.broker.restart()

    # -- what goes on -------------------------------------------------------------------------------

    def work(self) -> None:
        """Make jobs, one after the other, through the bus."""
        names = random.Random(7)
        with BusClient(self.gateway.broker, first_id=2**21) as client:
            while not self.over.is_set():
                name = f"job-{names.randrange(2**48):012x}"
                some = names.sample(NAMES, names.randrange(20, 120))
                item = {"method": "post", "resource": f"/do/{name}", "__request": {"destination": some}}
                body = {"batch": [item], "name": name, "key": name, "concurrency": 40}
                with suppress(TimeoutError, OSError, RuntimeError):
                    answer = client.request("post", "/jobs", body, timeout_s=3)
                    if answer["code"] == 200:
                        self.jobs[answer["data"]["id"]] = name
                self.over.wait(0.3)


def verdict(world: World, client: BusClient) -> list[str]:
    """The promises that were broken, a sentence each."""
    broken = []
    offset_s = time.time() - time.monotonic()
    arrived: dict[tuple[str, str], list[float]] = {}
    for command in FleetLog(world.gateway.fleet_log).commands():
        arrived.setdefault((command.resource, command.destination), []).append(command.t_s + offset_s)
    for (resource, name), times in arrived.items():
        if len(times) > 1:
            broken.append(f"{resource} reached {name} {len(times)} times")
    for id_, name in world.jobs.items():
        job = _asked(client, f"/jobs/{id_}?limit=1000")
        if job is None or job["name"] != name:
            broken.append(f"job {id_} was answered with 200 and is not there")
            continue
        for request in job["requests"]:
            one = request["__request"]
            fault = _fault(one, arrived.get((f"/do/{name}", one["destination"]), []))
            if fault is not None:
                broken.append(f"job {id_}, {one['destination']} ({one['status']}): {fault}")
    return broken


def _fault(request: Mapping[str, Any], times: list[float]) -> str | None:
    """What is wrong with a request whose commands arrived at these times; None: nothing is."""
    if request["finishedAt"] is None:
        return "it has not ended"
    if not times:
        return "it is resolved, and never came" if request["status"] == "resolved" else None
    if max(times) > _seconds(request["finishedAt"]) + TOLERANCE_S:
        return "it came after its end"
    if max(times) > _seconds(request["sentAt"]) + LATE_S:
        return f"it came {max(times) - _seconds(request['sentAt']):.1f} s after it was on record as sent"
    return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _asked(client: BusClient, resource: str) -> Any:
    for _ in range(60):
        with suppress(TimeoutError):
            answer = client.request("get", resource, timeout_s=2)
            if answer["code"] in (200, 404) and not (answer["code"] == 404 and "sign" not in answer):
                return answer["data"] if answer["code"] == 200 else None
        time.sleep(0.5)
    raise RuntimeError(f"no answer to GET {resource}")


def run(seed: int, faults: int, *, unfenced: bool, only: str | None) -> int:
    """Break things so often; how many promises broke."""
    with tempfile.TemporaryDirectory(prefix="leaders-") as place:
        world = World(Path(place), seed, unfenced=unfenced)
        breaks: list[Callable[[], None]] = [
            *(world.kill, world.stop, world.freeze, world.trapped, world.cut, world.crash, world.broker)
        ]
        if only is not None:
            breaks = [getattr(world, only)]
        begun_s, happened = time.monotonic(), Counter[str]()
        with world.running(), ExitStack() as stack:
            client = stack.enter_context(BusClient(world.gateway.broker, first_id=2**22))
            worker = threading.Thread(target=world.work)
            worker.start()
            stack.callback(worker.join)
            stack.callback(world.over.set)
            time.sleep(8)
            for _ in range(faults):
                broke = world.random.choice(breaks)
                happened[broke.__name__] += 1
                broke()
                time.sleep(world.random.uniform(1, 6))
            world.over.set()
            worker.join()
            world.over.clear()
            for bundle in world.bundles:
                bundle.resume()
            broken = _ended(world, client)
        statuses = ", ".join(f"{count} {name}" for name, count in happened.items())
        commands = FleetLog(world.gateway.fleet_log).commands()
        gaps = [after.t_s - one.t_s for one, after in pairwise(commands)]
        print(
            f"seed {seed}: {faults} faults ({statuses}), {len(world.jobs)} jobs, {len(commands)} commands, "
            f"exits {dict(world.exits)}, longest silence {max(gaps, default=0):.1f} s, "
            f"{time.monotonic() - begun_s:.0f} s, {len(broken)} broken promises",
            flush=True,
        )
        for one in broken[:20]:
            print(f"  {one}")
        return len(broken)


def _ended(world: World, client: BusClient) -> list[str]:
    """What was broken, when all jobs have ended, or had the time for it."""
    keeper = threading.Thread(target=world._keep_on)
    keeper.start()
    deadline_s = time.monotonic() + END_S
    try:
        while time.monotonic() < deadline_s:
            shown = _asked(client, "/jobs?status=pending,dispatching,paused&limit=1")
            if not shown:
                break
            time.sleep(1)
        return verdict(world, client)
    finally:
        world.over.set()
        keeper.join()


def main() -> None:
    """Torture, and end with code 1 when a promise was broken, or with ``--unfenced`` when none was."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.leaders", description=__doc__)
    parser.add_argument("--faults", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--only", help="only this fault, such as trapped")
    parser.add_argument("--unfenced", action="store_true", help="the control run")
    options = parser.parse_args()
    broken = run(options.seed, options.faults, unfenced=options.unfenced, only=options.only)
    sys.exit(int(bool(broken) != options.unfenced))


if __name__ == "__main__":
    main()
