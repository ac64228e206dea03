# ruff: noqa: T201 - this is a program
"""Callers that try their POST over the bus until it is taken, while one leader after the other goes away.

Promised is: each is answered soon, however unlucky its first tries are, and each job is there once.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from sandbox.broker import Broker
from tests.bus_client import BusClient
from tests.desk import until
from tests.torture.askers import NAMES, batch
from tests.torture.leaders import World

#: So soon each caller has its answer, also when the leader only stands still: its lease is 5 s.
LIMIT_S, FROZEN_LIMIT_S = 10.0, 15.0
CALLERS = 3
#: How long a caller waits for the answer to one try, and before its next one.
TRY_S, PAUSE_S = 2.0, 0.1


class Caller:
    """Posts one job after the other over the bus, each with a key, and tries again until it is answered."""

    def __init__(self, broker: Broker, number: int, over: Event, frozen: Event) -> None:
        self._broker = broker
        self._number = number
        self._over = over
        self._frozen = frozen  # a leader stands still
        #: How long each took, those that took too long, and the ids that were answered by key.
        self.took_s: list[float] = []
        self.slow_s: list[float] = []
        self.ids: dict[str, int] = {}
        self.thread = Thread(target=self._call_on, name=f"caller-{number}")

    def _call_on(self) -> None:
        with BusClient(self._broker, first_id=2**21 + self._number * 2**16) as client:
            while not self._over.is_set():
                self._post(client, f"caller-{self._number}-{len(self.took_s)}")
                self._over.wait(PAUSE_S)

    def _post(self, client: BusClient, key: str) -> None:
        body = batch(key, NAMES[:1], key=key)
        begun_s, limit_s = time.monotonic(), LIMIT_S
        while key not in self.ids and time.monotonic() - begun_s < 6 * LIMIT_S:
            limit_s = FROZEN_LIMIT_S if self._frozen.is_set() else limit_s
            with suppress(TimeoutError, RuntimeError, OSError):
                answer = client.request("post", "/jobs", body, timeout_s=TRY_S)
                if answer["code"] == 200:
                    self.ids[key] = answer["data"]["id"]
                    break
            time.sleep(PAUSE_S)
        self.took_s.append(time.monotonic() - begun_s)
        if self.took_s[-1] >= limit_s:
            self.slow_s.append(self.took_s[-1])


def run(folder: Path, seed: int, takeovers: int) -> list[Caller]:
    """Take the leader away so often, while callers call."""
    world, over, frozen = World(folder, seed, unfenced=False), Event(), Event()
    callers = [Caller(world.gateway.broker, number, over, frozen) for number in range(CALLERS)]
    with world.running():
        _leads(world, 0)
        for caller in callers:
            caller.thread.start()
        try:
            for _ in range(takeovers):
                _answered(callers)
                time.sleep(world.random.uniform(1, 3))  # the one that ended is back, and waits
                epoch = _epoch(world)
                if (leader := world.leader()) is None:
                    continue
                way = world.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
                if way is signal.SIGSTOP:
                    frozen.set()
                os.kill(leader.pid, way)  # not waited for: what ends is started again at once
                _leads(world, epoch)
                frozen.clear()
                leader.resume()
            _answered(callers)
        finally:
            over.set()
            for caller in callers:
                caller.thread.join()
    return callers


def _answered(callers: list[Caller]) -> None:
    """Wait until each caller is answered. A try that was lost locks us to all of them for 5 s."""
    for caller in callers:
        before = len(caller.took_s)
        while len(caller.took_s) == before:
            time.sleep(PAUSE_S)


def _epoch(world: World) -> int:
    return int(world.cluster.run("SELECT epoch FROM buses"))


def _leads(world: World, epoch: int) -> None:
    """Wait until there is a leader after that of this number."""
    until(lambda: world.leader() is not None and _epoch(world) > epoch, "somebody leads", 6 * LIMIT_S)


def faults(callers: list[Caller]) -> list[str]:
    """What was broken, a sentence each."""
    slow = [took_s for caller in callers for took_s in caller.slow_s]
    ids = [id_ for caller in callers for id_ in caller.ids.values()]
    twice = len(ids) - len(set(ids))
    found = [f"a caller had its answer after {took_s:.1f} s" for took_s in slow]
    return found + ([f"{twice} callers were given the job of another one"] if twice else [])


def main() -> None:
    """Take leaders away, and end with code 1 when a caller waited for too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.door", description=__doc__)
    parser.add_argument("--takeovers", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="door-") as place:
        callers = run(Path(place), options.seed, options.takeovers)
    took_s = sorted(one for caller in callers for one in caller.took_s)
    broken = faults(callers)
    print(
        f"seed {options.seed}: {options.takeovers} takeovers, {len(took_s)} POSTs over the bus, median "
        f"{took_s[len(took_s) // 2]:.2f} s, longest {took_s[-1]:.1f} s, {len(broken)} broken promises"
    )
    for one in broken[:20]:
        print(f"  {one}")
    sys.exit(int(bool(broken)))


if __name__ == "__main__":
    main()
