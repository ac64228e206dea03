"""How soon another puppetmaster goes on, after the one that led was killed, frozen, or asked to stop.

Three of them share a PostgreSQL, a real broker and the stand-in controller. A job is under way all the time.
Measured is from the signal to the next command at a gateway that the new leader has sent, and when it reached
each step on the way there, as its log says.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from benchmarks.bare import BareClient
from benchmarks.gateways import asked, wait_for_answers
from puppetmaster import ranges
from puppetmaster.clock import seconds
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process, ProcessError

GATEWAYS, ITEMS, CONCURRENCY = 200, 40, 20
COUNT = 3
#: So long it may take at most until the next command.
LIMIT_S = 60.0
FAULTS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}
LEADS, WAITS = "leads, as leader number", "this one waits to take over"
#: What the log of the new leader says at each step.
STEPS = {
    "lead": LEADS,
    "job": "is taken up again",
    "broker": "connected to the broker at",
    "registered": "registered with the controller",
}


class Several:
    """The puppetmasters, of which one leads."""

    def __init__(self, made: Gateway, folder: Path) -> None:
        self._log = FleetLog(made.fleet_log)
        self._numbers = count(1)
        self.bundles = [
            Process.module(
                f"puppetmaster {number}",
                "index",
                env={**made.bundle.env, "PUPPETMASTER_DATA_DIR": str(folder / f"data-{number}")},
            )
            for number in range(1, COUNT + 1)
        ]
        self.leader = self.bundles[0]
        #: The clock of the log's lines is ahead of that of the commands by so much.
        self._offset_s = time.time() - time.monotonic()

    def start(self, stack: ExitStack) -> None:
        """Start them; the first one leads."""
        for bundle in self.bundles:
            stack.callback(bundle.kill)
            bundle.ready = LEADS if bundle is self.leader else WAITS
            bundle.start()
            bundle.ready = WAITS

    def round(self, client: BareClient, fault: signal.Signals) -> dict[str, float]:
        """One takeover. Returns seconds from the signal to each step, and to the next ``command``."""
        job = self._busy(client)
        former = self.leader
        begun_s = time.monotonic()
        os.kill(former.pid, fault)
        self.leader = self._next(former)
        took = {"lead": self._said(LEADS) - begun_s}
        took["command"] = self._command(begun_s + took["lead"]) - begun_s
        self.leader.wait_for(STEPS["registered"], LIMIT_S)
        took |= {name: self._said(text) - begun_s for name, text in STEPS.items()}
        former.resume()
        former.wait(LIMIT_S)
        former.start()
        wait_for_answers(client, LIMIT_S)
        asked(client, "delete", f"/jobs/{job}")
        return took

    def _busy(self, client: BareClient) -> int:
        """Begin a job that is longer than a takeover, and wait until it is well under way."""
        names = ranges.expand(f"cg-[001-{GATEWAYS:03}]")
        resource = f"/do/{next(self._numbers)}"
        item = {"method": "put", "resource": resource, "__request": {"destination": names}}
        job = asked(client, "post", "/jobs", {"batch": [item] * ITEMS, "concurrency": CONCURRENCY})
        while sum(one.resource == resource for one in self._log.commands()) < 2 * CONCURRENCY:
            time.sleep(0.05)
        return int(job["id"])

    def _next(self, former: Process) -> Process:
        """The one that leads now. Raises ProcessError."""
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            for bundle in self.bundles:
                if bundle is not former and any(LEADS in line for line in bundle.output()):
                    return bundle
            time.sleep(0.02)
        raise ProcessError(f"nobody has taken the lead within {LIMIT_S:g} s")

    def _said(self, text: str) -> float:
        """When the new leader said this, on the clock of the commands."""
        line = self.leader.wait_for(text, LIMIT_S)
        return seconds(line.split()[0]) - self._offset_s

    def _command(self, since_s: float) -> float:
        """When the first command since then came. Nobody but the new leader sends one that late."""
        while True:
            for one in self._log.commands():
                if one.t_s >= since_s:
                    return one.t_s
            time.sleep(0.02)


@contextmanager
def several(grace_s: float) -> Iterator[tuple[Several, BareClient]]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory, ExitStack() as stack:
        folder = Path(directory)
        cluster = stack.enter_context(Cluster(durable=True))
        settings = {
            "PUPPETMASTER_STORE": cluster.url(),
            "PUPPETMASTER_STANDBY": "on",
            "PUPPETMASTER_GRACE_S": str(grace_s),
            "PUPPETMASTER_LOG_LEVEL": "info",
        }
        fleet = ["--shape", "per-gateway", "--to", f"cg-[001-{GATEWAYS:03}]", "--delay", "0.1"]
        made = Gateway(folder, fleet=fleet, settings=settings)
        stack.callback(made.stop)
        made.start(bundle=False)
        made_of = Several(made, folder)
        made_of.start(stack)
        client = BareClient(made.broker.port)
        stack.callback(client.close)
        wait_for_answers(client)
        yield made_of, client


def shown(values: Sequence[float]) -> str:
    """The median, and the range."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure each kind of fault in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.takeover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="takeovers of each kind (%(default)s)")
    parser.add_argument("--only", choices=FAULTS, action="append", help="only this kind")
    parser.add_argument("--grace", type=float, default=1.0, help="seconds (%(default)s)")
    options = parser.parse_args()
    took: dict[str, list[dict[str, float]]] = {kind: [] for kind in options.only or FAULTS}
    with several(options.grace) as (made, client):
        for _ in range(options.rounds):
            for kind, rounds in took.items():
                rounds.append(made.round(client, FAULTS[kind]))
    for kind, rounds in took.items():
        print(
            f"{kind}: {shown([one['command'] for one in rounds])} to the next command, {len(rounds)} rounds"
        )
        steps = (f"{name} {statistics.median(one[name] for one in rounds):.2f}" for name in STEPS)
        print(f"  on the way, median: {', '.join(steps)} s")


if __name__ == "__main__":
    main()
