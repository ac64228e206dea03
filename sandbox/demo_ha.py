"""``make demo-ha``: three puppetmasters with one database; the one that leads is killed, again and again.

PostgreSQL, broker, controller, fleet and the three run as processes of their own. In the middle of a job the
leader is killed with ``kill -9``, and started again when another one leads. At the end the fleet's log says
how often each gateway got its command. The page stays at one address: what comes there is passed on to
whichever answers, as a load balancer does it.
"""

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self

from puppetmaster import ranges
from sandbox.demo import caller_on, command, look_further, page_port, show
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Parts, Process, ProcessError, free_port

AGAIN = "make demo-ha KEEP=1"
COUNT = 3
#: So long it may take until another one leads, and until the next command is at a gateway.
TAKEOVER_S = 60.0


class Front:
    """One address in front of several: a connection is passed on to the first of them that takes it."""

    def __init__(self, port: int, behind: Sequence[int]) -> None:
        self._port = port
        #: The ports behind it, the one that leads first.
        self.behind = tuple(behind)
        self._loop = asyncio.new_event_loop()

    def start(self) -> None:
        """Listen, on a thread that ends with the process. Raises OSError."""
        server = asyncio.start_server(self._pass_on, "127.0.0.1", self._port)
        self._server = self._loop.run_until_complete(server)
        Thread(target=self._loop.run_forever, name="demo-front", daemon=True).start()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self.behind:
            with suppress(OSError):
                inner, outer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
                return
        writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()


class Three(Parts):
    """A gateway with three puppetmasters, of which one leads, and the database that they share."""

    def __init__(self, directory: Path, page: int, names: Sequence[str]) -> None:
        super().__init__()
        self.cluster = Cluster(durable=True)
        fleet = ["--shape", "per-gateway", "--delay", "0.3", "--jitter", "0.2"]
        settings = {
            "PUPPETMASTER_STORE": self.cluster.url(),
        }
        to = [word for name in names for word in ("--to", name)]
        self.gateway = Gateway(directory, fleet=[*fleet, *to], settings=settings)
        self._ports = [free_port() for _ in range(COUNT)]
        self.front = Front(page, self._ports)
        self.bundles = [
            Process.module(
                f"puppetmaster {number}",
                "index",
                env={
                    **self.gateway.bundle.env,
                    "PUPPETMASTER_DATA_DIR": str(directory / f"data-{number}"),
                    "PUPPETMASTER_HTTP": f"127.0.0.1:{port}",
                },
            )
            for number, port in enumerate(self._ports, 1)
        ]
        self.log = FleetLog(self.gateway.fleet_log)

    def start(self) -> Self:
        """Start all, and wait until one of the three leads."""
        try:
            self._parts.enter_context(self.cluster)
            self._parts.callback(self.gateway.stop)
            self.gateway.start(bundle=False)
            for bundle in self.bundles:
                self._parts.push(bundle)
                bundle.start()
            self.front.start()
            leader, _ = self.next_leader(None)
            leader.wait_for(self.gateway.bundle.ready or "", TAKEOVER_S)
        except BaseException:
            self._parts.close()
            raise
        return self

    def next_leader(self, former: Process | None) -> tuple[Process, int]:
        """Wait until another one than this leads. Returns it, and its epoch. Raises ProcessError."""
        pause, deadline_s = Event(), time.monotonic() + TAKEOVER_S
        while time.monotonic() < deadline_s:
            with suppress(subprocess.CalledProcessError):  # the table is not made yet
                owner, _, epoch = self.cluster.run("SELECT owner, epoch FROM buses").rpartition("|")
                for bundle, port in zip(self.bundles, self._ports, strict=True):
                    if bundle is not former and f":{bundle.pid} " in owner:
                        self.front.behind = (port, *(one for one in self._ports if one != port))
                        return bundle, int(epoch)
            pause.wait(0.05)
        last = "\n  ".join(self.bundles[0].output()[-15:]) or "(nothing)"
        raise ProcessError(
            f"nobody has taken the lead within {TAKEOVER_S:g} s; the last lines of {self.bundles[0].name} "
            f"were:\n  {last}"
        )

    def kill_leader(self, after: int, over: Event) -> None:
        """Kill the leader when so many commands are at the gateways, and say what comes of it."""
        while len(self.log.commands()) < after and not over.wait(0.05):
            pass
        if over.is_set():
            return
        leader, _ = self.next_leader(None)
        leader.kill()
        killed_s, before = time.monotonic(), len(self.log.commands())
        say(f"{leader.name} leads, and is killed (-9): {before} gateways have their command")
        other, epoch = self.next_leader(leader)
        say(f"{other.name} leads {time.monotonic() - killed_s:.1f} s later, as leader number {epoch}")
        leader.start()
        while len(commands := self.log.commands()) <= before and not over.wait(0.05):
            pass
        if len(commands) > before:
            say(f"the next command is at its gateway, {commands[before].t_s - killed_s:.1f} s after the kill")


def say(what: str) -> None:
    """Print a line that is seen among those of ``watch``."""
    print(f"** {what}.", flush=True)


def watched(url: str, job: int) -> None:
    """Watch a job to its end. In lines, also on a terminal: others say something in between."""
    words = [*command(), "watch", str(job)]
    print(f"\n$ {' '.join(words)}", flush=True)
    with subprocess.Popen(
        words,
        env={**os.environ, "PUPPETMASTER_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as watch:
        assert watch.stdout is not None
        for line in watch.stdout:
            print(line, end="", flush=True)


def run(three: Three, url: str, names: Sequence[str], kills: int) -> bool:
    """One job, and the leader is killed so often in the middle. Returns whether no command came twice."""
    body = {
        "name": "one command for each gateway",
        "concurrency": max(4, len(names) // 20),
        "batch": [
            {
                "method": "post",
                "resource": "/system/reboot",
                "data": {},
                "__request": {"destination": list(names)},
            }
        ],
    }
    job = caller_on(three.gateway).create(body)
    print(
        f"\nA command that may not be repeated, for {len(names)} gateways: "
        f"POST /jobs on the bus, job {job['id']}."
    )
    over = Event()

    def kill() -> None:
        for number in range(1, kills + 1):
            three.kill_leader(number * len(names) // (kills + 1), over)

    killer = Thread(target=kill, name="demo-killer", daemon=True)
    killer.start()
    watched(url, job["id"])
    over.set()
    killer.join()
    show(url, "results", str(job["id"]))
    arrived = Counter(command.destination for command in three.log.commands())
    times = Counter(arrived[name] for name in names)
    print(f"\n{counted(times)}", flush=True)
    return max(times) <= 1


def counted(times: Counter[int]) -> str:
    """What the gateways say, in a sentence or two: how many of them got their command so many times."""
    more = sum(gateways for count, gateways in times.items() if count > 1)
    said = f"{times[1]} of {times.total()} gateways got the command once, {more} more than once."
    if times[0]:
        said += f" {times[0]} never got it: the leader was killed between its note and the sending."
    return said


def main() -> None:
    """Run the demo; ends with 0 when no gateway got its command twice, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo_ha", description=__doc__)
    keep = parser.add_mutually_exclusive_group()
    keep.add_argument("--keep", action="store_true", help="go on running afterwards, until Ctrl-C")
    keep.add_argument("--end", action="store_true", help="end by itself, also on a terminal")
    parser.add_argument("--kills", type=int, default=4, help="how often the leader is killed (%(default)s)")
    parser.add_argument("--gateways", type=int, default=300, help="(%(default)s)")
    options = parser.parse_args()
    logging.getLogger("sanji").addHandler(logging.NullHandler())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = ranges.expand(f"cg-[001-{options.gateways:03}]")
    port = page_port()
    url = f"http://127.0.0.1:{port}"
    try:
        print(
            f"Starting PostgreSQL, a broker, a controller, {len(names)} gateways and three puppetmasters ..",
            flush=True,
        )
        with (
            tempfile.TemporaryDirectory(prefix="puppetmaster-demo-") as directory,
            Three(Path(directory), port, names) as three,
        ):
            print(f"They run, and one leads: the page is on {url}/, whoever that is.", flush=True)
            fine = run(three, url, names, options.kills)
            if options.keep or (sys.stdout.isatty() and not options.end):
                look_further(three.gateway, url)
                Event().wait()
        print(f"\nThe job has ended. {AGAIN} leaves all running, to look further, at the page too.")
        sys.exit(int(not fine))
    except KeyboardInterrupt:
        print("\nStopped; nothing is left running.")
        sys.exit(130)
    except (ProcessError, RuntimeError, OSError) as error:
        sys.exit(f"The demo cannot go on: {error}")


if __name__ == "__main__":
    main()
