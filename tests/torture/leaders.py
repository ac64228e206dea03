# ruff: noqa: T201 - this is a program
"""Three bundles and an API server with one database, of which one bundle leads, while everything breaks.

Promised is: no command reaches a gateway twice, none after its request has ended; what was answered with
200 is there and ends; each time of a schedule starts once, or is told as missed; each end is told once.
``--unfenced`` is the control run: it must break promises.
"""

import argparse
import math
import random
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from urllib.parse import quote

from puppetmaster.model.caller import digest
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import PORT, Cluster
from sandbox.process import Process, ProcessError, free_port
from tests.bus_client import BusClient
from tests.desk import until
from tests.torture import starts
from tests.torture.account import Account
from tests.torture.askers import GATEWAYS, NAMES, Asker, BusDoor, Door, WebDoor, batch
from tests.torture.kills import listed
from tests.torture.starts import Schedules
from tests.torture.told import Listener, told_faults, until_told

#: So long all may take to start.
START_S = 60.0
#: So long all may take to end when nothing breaks any more.
END_S = 180.0
SETTINGS = {
    "PUPPETMASTER_GRACE_S": "1",
    "PUPPETMASTER_REQUEST_TIMEOUT_S": "10",
    "PUPPETMASTER_LOG_LEVEL": "warning",
    "PUPPETMASTER_KEEP_MB": "1000",
    "PUPPETMASTER_KEEP_JOBS": "100000",
    starts.EVERY: str(starts.EVERY_S),
}
#: Who asks at the doors of the bundles, and of the API server.
BUNDLES, API = "ann", "bob"
#: Of the faults so many are followed by another at once.
AT_ONCE = 0.3
#: Jobs of templates are for few gateways: those that overlap take a second each.
SLOWLY = 7


class World:
    """The bus, the database, a receiver of webhooks, and bundles, which are started again when they end."""

    def __init__(self, folder: Path, seed: int, *, unfenced: bool, bundles: int = 3) -> None:
        self.random = random.Random(seed)
        self.unfenced = unfenced
        self.cluster = Cluster(durable=True)
        self.listener = Listener(random.Random(seed))
        self.tokens = {name: secrets.token_hex(16) for name in (BUNDLES, API)}
        self.trap, self.journal = folder / "trap", folder / "journal"
        #: When the broker, or the controller, was started anew (time.monotonic()).
        self.restarts: list[float] = []
        self._folder = folder
        fleet = ["--shape", "per-gateway", "--to", f"cg-[001-{GATEWAYS:03}]", "--delay", "0.02", "--ttl", "5"]
        told = {"TRAP": str(self.trap), "JOURNAL": str(self.journal)}
        self.gateway = Gateway(folder, fleet=fleet, settings={**SETTINGS, **told})
        tokens = folder / "tokens"
        tokens.write_text("".join(f"{name} admin {digest(token)}\n" for name, token in self.tokens.items()))
        tokens.chmod(0o600)
        self._env = {
            **self.gateway.bundle.env,
            "PUPPETMASTER_TOKENS": str(tokens),
            "PUPPETMASTER_WEBHOOKS": str(self.listener.file(folder, all_jobs=True)),
            **({"UNFENCED": "1"} if unfenced else {}),
        }
        self.ports = [free_port() for _ in range(bundles + 1)]
        self.bundles = [self._process(f"bundle-{number}", self.ports[number]) for number in range(bundles)]
        self.api = self._process("api", self.ports[-1], PUPPETMASTER_ROLE="api")
        self.exits: Counter[int] = Counter()
        self.over = threading.Event()
        self._keeping = threading.Event()

    def _process(self, name: str, port: int, **more: str) -> Process:
        (self._folder / name).mkdir()
        store = self.cluster.url().replace(
            quote(str(self.cluster.place), safe=""), quote(str(self._folder / name), safe="")
        )
        env = {
            **self._env,
            "PUPPETMASTER_STORE": store,
            "PUPPETMASTER_DATA_DIR": str(self._folder / name / "data"),
            "PUPPETMASTER_HTTP": f"127.0.0.1:{port}",
            **more,
        }
        return Process.module(name, "tests.torture.trapped", env=env)

    def _way(self, process: Process) -> Path:
        """The way of a process to the database: without this name it finds none."""
        return self._folder / process.name / f".s.PGSQL.{PORT}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """All of it."""
        processes = [*self.bundles, self.api]
        with ExitStack() as stack:
            stack.enter_context(self.listener)
            stack.enter_context(self.cluster)
            self.gateway.start(bundle=False)
            stack.callback(self.gateway.stop)
            for process in processes:
                self._way(process).symlink_to(self.cluster.place / self._way(process).name)
                process.start()
                stack.callback(process.kill)
            keeper = threading.Thread(target=self._keep_on, args=[processes])
            keeper.start()
            stack.callback(keeper.join)
            stack.callback(self._keeping.set)
            stack.callback(self.listener.good.set)
            yield

    def _keep_on(self, processes: Sequence[Process]) -> None:
        while not self._keeping.wait(0.2):
            for process in processes:
                if not process.running:
                    self.exits[process.returncode or 0] += 1
                    self._keep(process)
                    process.start()

    def _keep(self, process: Process) -> None:
        """Keep what it has printed, where that says that something is wrong with it."""
        with (self._folder / "processes.log").open("a") as log:
            log.writelines(f"{process.name}: {line}\n" for line in process.output())

    def noise(self) -> list[str]:
        """Lines that no process may print."""
        for process in (*self.bundles, self.api):
            self._keep(process)
        lines = (self._folder / "processes.log").read_text().splitlines()
        return [line for line in lines if "Traceback" in line]

    def leader(self) -> Process | None:
        """The bundle that leads now; None: none does, or nobody can be asked."""
        with suppress(CalledProcessError):
            owner = self.cluster.run("SELECT owner FROM buses")
            for bundle in self.bundles:
                if f":{bundle.pid} " in owner:
                    return bundle
        return None

    def doors(self, client: BusClient) -> list[Door]:
        """Where is asked: the bus, the doors of the bundles, twice, and that of the API server."""
        bundles = [
            WebDoor(BUNDLES, self.tokens[BUNDLES], self.ports[:-1], random.Random(self.random.random()))
            for _ in range(2)
        ]
        return [BusDoor(client), *bundles, self.api_door()]

    def api_door(self) -> WebDoor:
        """The door of the API server."""
        return WebDoor(API, self.tokens[API], self.ports[-1:], random.Random(self.random.random()))

    # -- what breaks --------------------------------------------------------------------------------

    def kill(self) -> None:
        """The leader is killed, mostly around a time of the schedules."""
        if (left_s := starts.next_s()) < 3:
            self.over.wait(left_s + self.random.uniform(-0.02, 0.12))
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
        if leader is None:
            return
        while self.leader() in (leader, None) and time.monotonic() < deadline_s + 10:
            time.sleep(0.1)
        self.over.wait(self.random.uniform(2.0, 5.0))
        leader.resume()

    def cut(self) -> None:
        """All sessions of the leader at the database are ended."""
        with suppress(CalledProcessError):
            self.cluster.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity, buses WHERE application_name = owner"
            )

    def cut_off(self) -> None:
        """The same, and it finds no way to the database for a while."""
        if (leader := self.leader()) is not None:
            way = self._way(leader)
            way.unlink()
            self.cut()
            self.over.wait(self.random.choice((0.5, 2.0, 7.0)))
            way.symlink_to(self.cluster.place / way.name)

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
        self.restarts.append(time.monotonic())

    def controller(self) -> None:
        """The controller is started anew, and knows nobody."""
        self.gateway.controller.kill()
        self.gateway.controller.start()
        self.restarts.append(time.monotonic())

    def server(self) -> None:
        """The API server is killed."""
        self.api.kill()

    def deaf(self) -> None:
        """Nobody listens to what webhooks are told, and then the leader is killed."""
        self.listener.away(self.random.uniform(0.5, 3.0))
        self.kill()

    @property
    def breaks(self) -> list[Callable[[], None]]:
        """All that can break."""
        database = [self.cut, self.cut_off, self.crash]
        bus = [self.broker, self.controller]
        return [self.kill, self.stop, self.freeze, self.trapped, *database, *bus, self.server, self.deaf]


def _job(name: str, slow: bool) -> dict[str, Any]:
    """The job of a template."""
    return batch(name, NAMES[:SLOWLY], **({"rate": 1} if slow else {}))


class Run:
    """A run: those who ask, what breaks meanwhile, and the verdict."""

    def __init__(self, world: World, bus: BusClient) -> None:
        self._world = world
        doors = world.doors(bus)
        self._door = world.api_door()
        self.schedules = Schedules(doors[0].ask, _job)
        seeds = [random.Random(world.random.random()) for _ in doors]
        self.askers = [
            Asker(number, door, rng, self.schedules.kept)
            for number, (door, rng) in enumerate(zip(doors, seeds, strict=True))
        ]
        self.happened: Counter[str] = Counter()
        self.jobs = 0
        self.starts: Counter[str] = Counter()
        self.told = 0

    def work(self, breaks: Sequence[Callable[[], None]], rests_s: tuple[float, float]) -> None:
        """Let everybody ask, and break these one after the other."""
        if not self._world.unfenced:
            self.schedules.begin()
        for asker in self.askers:
            asker.start()
        try:
            # All that was started is at work when somebody was given a job.
            until(lambda: any(one.id for asker in self.askers for one in asker.orders), "a job", START_S)
            self._world.over.wait(rests_s[1])
            for broke in breaks:
                self.happened[broke.__name__] += 1
                broke()
                at_once = self._world.random.random() < AT_ONCE  # in the middle of a takeover
                self._world.over.wait(0.3 if at_once else self._world.random.uniform(*rests_s))
        finally:
            for asker in self.askers:
                asker.stop()
            for asker in self.askers:
                asker.join()
        for bundle in self._world.bundles:
            bundle.resume()

    def broken(self) -> list[str]:
        """The promises that were broken, when all jobs have ended, or had the time for it."""
        listener = self._world.listener
        listener.good.set()
        self.schedules.end()
        self._end()
        late = [] if until_told(self._waiting, END_S) else ["what webhooks are owed was not told"]
        account = Account(
            self._door, self._world.gateway.fleet_log, self._world.journal, self._world.restarts
        )
        orders = [order for asker in self.askers for order in asker.orders]
        removed = {order.id for order in orders if order.id is not None and order.removal_asked}
        starts = self.schedules.starts()
        self.starts = sum(starts.values(), Counter[str]())
        told, self.jobs = list(listener.got), len(account.jobs)
        self.told = len({one.id for one in told})
        return [
            *(said for asker in self.askers for said in asker.broken),
            *account.faults(orders),
            *self.schedules.faults(account.jobs.values()),
            *listener.broken,
            *late,
            *told_faults(told, account.jobs, account.lines, removed, starts),
            *(f"the log has a {line}" for line in self._world.noise()),
        ]

    def _end(self) -> None:
        """Let paused jobs go on, and wait until all have ended."""
        deadline_s = time.monotonic() + END_S
        while time.monotonic() < deadline_s:
            answer = self._door.ask("get", "/jobs?status=pending,dispatching,paused")
            if answer is not None and answer[0] == 200:
                for job in answer[1]:
                    if job["status"] == "paused":
                        self._door.ask("put", f"/jobs/{job['id']}", {"status": "dispatching"})
                if not answer[1]:
                    return
            time.sleep(0.3)

    def _waiting(self) -> int | None:
        answer = self._door.ask("get", "/system/puppetmaster")
        return int(answer[1]["webhooks"]["ops"]["waiting"]) if answer and answer[0] == 200 else None


def run(
    seed: int,
    faults: int,
    *,
    unfenced: bool = False,
    only: Sequence[str] = (),
    rests_s: tuple[float, float] = (1.0, 6.0),
    keep: Path | None = None,
) -> list[str]:
    """Break things so often, print what came of it, and return the promises that were broken."""
    with tempfile.TemporaryDirectory(prefix="leaders-") as place:
        world = World(keep or Path(place), seed, unfenced=unfenced)
        can = [getattr(world, name) for name in only] or world.breaks
        # Each of them as often as every other one, in any order.
        breaks = [one for _ in range(math.ceil(faults / len(can))) for one in can][:faults]
        if not only:
            world.random.shuffle(breaks)
        begun_s = time.monotonic()
        with world.running(), BusClient(world.gateway.broker, first_id=2**21) as bus:
            ran = Run(world, bus)
            ran.work(breaks, rests_s)
            broken = ran.broken()
        commands = FleetLog(world.gateway.fleet_log).commands()
        gaps = [after.t_s - one.t_s for one, after in pairwise(commands)]
        answers = sum((Counter(asker.answers) for asker in ran.askers), Counter[int | None]())
        print(
            f"seed {seed}: {faults} faults ({listed(ran.happened)}), {ran.jobs} jobs, "
            f"{len(commands)} commands, answers: {listed(answers)}, {ran.told} told, "
            f"starts: {listed(ran.starts)}, "
            f"exits: {listed(world.exits)}, longest silence {max(gaps, default=0):.1f} s, "
            f"{time.monotonic() - begun_s:.0f} s, {len(broken)} broken promises",
            flush=True,
        )
        for one in broken[:40]:
            print(f"  {one}", flush=True)
        return broken


def main() -> None:
    """Torture seed after seed; end with code 1 when a promise broke, or with ``--unfenced`` when none did."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.leaders", description=__doc__)
    parser.add_argument("--faults", type=int, default=20, help="in all (%(default)s)")
    parser.add_argument("--each", type=int, default=55, help="of a seed (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    parser.add_argument("--only", action="append", default=[], help="only this fault, such as trapped")
    parser.add_argument("--unfenced", action="store_true", help="the control run")
    parser.add_argument("--keep", type=Path, help="keep what the first seed leaves in this directory")
    options = parser.parse_args()
    left, seed, broken = options.faults, options.seed, 0
    while left > 0:
        keep = options.keep if seed == options.seed else None
        now = min(left, options.each)
        broken += len(run(seed, now, unfenced=options.unfenced, only=options.only, keep=keep))
        left, seed = left - now, seed + 1
    sys.exit(int(bool(broken) != options.unfenced))


if __name__ == "__main__":
    main()
