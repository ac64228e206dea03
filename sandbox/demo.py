"""``make demo``: a batch reaches simulated gateways over a real broker, and is watched to its end.

Broker, controller, fleet and the bundle run as processes of their own. Another bundle creates the jobs,
with the SDK's own blocking calls; they are watched with the product's own command line. ``make sandbox``
starts the same and no jobs: to try things. ``make demo-bridged`` has fewer gateways, each with a broker and a
controller of its own, and switches one off and on again. ``PUPPETMASTER_*`` variables reach the bundle.
"""

import argparse
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

from puppetmaster import ranges
from puppetmaster.bundle import sdk
from sandbox.bridged import BridgedFleet, BridgedGateway
from sandbox.broker import Kind
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.process import ProcessError, free_port

MACS = ["00:0c:29:1c:e8:01", "00:0c:29:1c:e8:02", "00:0c:29:1c:e8:03"]
FLEET = [
    *("--shape", "per-gateway"),
    *(word for mac in MACS for word in ("--to", mac)),
    *("--to", "cg-[001-200]"),
    *("--delay", "0.15", "--jitter", "0.3"),
    *("--slow", "cg-[061-072]:3"),
    *("--fail", "cg-[101-108]:500"),
    *("--fail", "cg-[155-157]:409"),
    *("--silent", "cg-[180-183]"),
]
REBOOT: Mapping[str, Any] = {
    "timeout": 36000,
    "batch": [
        {
            "method": "post",
            "resource": "/system/reboot",
            "data": {},
            "__request": {"destination": MACS},
        }
    ],
}
UPDATE: Mapping[str, Any] = {
    "name": "firmware of the whole site",
    "concurrency": 40,
    "requestTimeout": 8,
    "batch": [
        {
            "method": "put",
            "resource": "/system/firmware",
            "data": {"version": "2.1.0"},
            "__request": {"destination": [*ranges.expand("cg-[001-200]"), "cg-lost"]},
        }
    ],
}
SITE: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("Three gateways are rebooted", REBOOT),
    ("A new firmware for a whole site", UPDATE),
)
BRIDGED = ranges.expand("cg-[1-6]")
LOST = "cg-4"
LOST_AFTER = 4  # commands that all of them together have executed
AWAY_S = 8.0
REMOTE_TIMEOUT_S = 5  # the published remote bundle waits for 60 s, and all other writes with it
OUTAGE: Mapping[str, Any] = {
    "name": "firmware, and a look at it",
    "batch": [
        {
            "method": method,
            "resource": resource,
            "data": data,
            "__request": {"destination": BRIDGED},
        }
        for method, resource, data in (
            ("put", "/system/firmware", {"version": "2.1.0"}),
            ("get", "/system/firmware", {}),
        )
    ],
}
PAGE_PORT = 8700
#: What leaves a demo running, by whether it is the one with bridges.
AGAIN = {False: "make demo KEEP=1", True: "make demo-bridged KEEP=1"}


class Caller(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
    """Another bundle on the same bus; all it does is call."""

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Register without the SDK's random wait."""
        del args, kwargs
        self.reg_delay = 0
        self.ready = Event()

    def run(self) -> None:
        """Sanji calls this once the bundle is registered."""
        self.ready.set()

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a job: the answer's data. Raises RuntimeError when it is refused."""
        answer = self.publish.direct.post("/jobs", data=dict(body), timeout=10)
        if answer.code != 200:
            raise RuntimeError(f"POST /jobs was answered {answer.code}: {answer.data}")
        created: dict[str, Any] = answer.data
        return created


def caller_on(gateway: Gateway) -> Caller:
    """Start the other bundle and wait until it can call. Raises RuntimeError when it cannot."""
    made: list[Caller] = []

    def run() -> None:
        bundle = sdk.Bundle(bundle_dir=str(gateway.directory), load=False)
        bundle.profile = {
            "name": "demo",
            "description": "creates jobs",
            "role": "model",
            "ttl": 10,
            "resources": [],
        }
        connection = sdk.connection(gateway.broker.host, gateway.broker.port)
        made.append(Caller(bundle=bundle, connection=connection))
        made[0].start()

    # Not on the main thread: there the SDK takes Ctrl-C, and waits for its handlers before it ends.
    Thread(target=run, name="demo-caller", daemon=True).start()
    pause = Event()
    for _ in range(200):
        if made and made[0].ready.wait(0.05):
            return made[0]
        pause.wait(0.05)
    raise RuntimeError("the bundle that creates the jobs was not registered within 20 s")


def command() -> list[str]:
    """The product's command line as it is called here: what make has installed, else the module."""
    python = os.path.relpath(sys.executable)
    installed = Path(python).with_name("puppetmaster")
    return [str(installed)] if installed.is_file() else [python, "-m", "puppetmaster"]


def show(gateway_url: str, *words: str) -> None:
    """Run the product's command line, on this terminal."""
    print(f"\n$ {shlex.join([*command(), *words])}", flush=True)
    environment = {**os.environ, "PUPPETMASTER_URL": gateway_url}
    # Its exit code is the job's verdict: some requests of the demo are meant to fail. Ctrl-C is for the demo.
    subprocess.run(
        [*command(), *words],
        env=environment,
        check=False,
        start_new_session=True,
    )


def watch_jobs(gateway: Gateway, url: str, jobs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Create each job on the bus, and watch it to its end."""
    caller = caller_on(gateway)
    for about, body in jobs:
        job = caller.create(body)
        print(f"\n{about}: POST /jobs on the bus, job {job['id']} with {job['totalCount']} requests.")
        show(url, "watch", str(job["id"]))
        show(url, "results", str(job["id"]))


def watch_outage(fleet: BridgedFleet, url: str) -> None:
    """As `watch_jobs`, and meanwhile one gateway is switched off and on again."""
    power = Thread(target=lose, args=(fleet.gateways[LOST], FleetLog(fleet.server.fleet_log)), daemon=True)
    power.start()
    print(
        f"{LOST} is switched off once {LOST_AFTER} commands were executed, and on again {AWAY_S:g} s later. "
        "Its bridge says so: what is for it meanwhile is not sent, and holds up nobody."
    )
    watch_jobs(fleet.server, url, [("A firmware for six gateways", OUTAGE)])
    power.join()
    print(f"\n{LOST} is back: the rest is run again.")
    show(url, "rerun", "1", "--failed", "--wait")
    executed = sum(command.destination == LOST for command in FleetLog(fleet.server.fleet_log).commands())
    print(f"\n{LOST} has executed {executed} of its 2 commands.")


def lose(gateway: BridgedGateway, log: FleetLog) -> None:
    """Switch a gateway off in the middle of a job, and on again."""
    pause = Event()
    while len(log.commands()) < LOST_AFTER:
        pause.wait(0.05)
    gateway.off()
    pause.wait(AWAY_S)
    gateway.on()


def look_further(gateway: Gateway, url: str) -> None:
    """Say where to look on while it runs."""
    python, port = os.path.relpath(sys.executable), url.rpartition(":")[2]
    print(f"\nLook further, while it runs. The page: open {url}/ in a browser here; from another machine")
    print(f"first: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}")
    print("In another terminal, in this directory:")
    print(f"\n  export URL={url} PUPPETMASTER_URL={url} PORT={gateway.broker.port}")
    print(f"  {shlex.join(command())} list    # the command line")
    print(f"  {python} -m sandbox.ask $PORT get /jobs    # as another bundle asks, on the bus")
    print("\nCtrl-C ends it.", flush=True)


def plain_gateway(directory: Path, settings: Mapping[str, str], broker: Kind | None) -> Gateway:
    """The demo's gateway, not started."""
    print("Starting a broker, a controller, 203 gateways and puppetmaster ..", flush=True)
    return Gateway(directory, fleet=FLEET, broker=broker, settings=settings)


def bridged_fleet(directory: Path, settings: Mapping[str, str]) -> BridgedFleet:
    """The demo's bridged gateways and their server, not started."""
    print("Starting six gateways with brokers and controllers of their own, a server and puppetmaster ..")
    return BridgedFleet(directory, BRIDGED, settings=settings, timeout_s=REMOTE_TIMEOUT_S, delay_s=0.4)


def page_port() -> int:
    """The port that PUPPETMASTER_HTTP names; else the product's own when it is free; else another."""
    named = os.environ.get("PUPPETMASTER_HTTP", "").rpartition(":")[2]
    if named.isdigit():
        return int(named)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PAGE_PORT))
        except OSError:
            return free_port()
    return PAGE_PORT


def main() -> None:
    """Run the demo; ends with 0 when every job ended, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    keep = parser.add_mutually_exclusive_group()
    keep.add_argument("--keep", action="store_true", help="go on running afterwards, until Ctrl-C")
    keep.add_argument("--idle", action="store_true", help="as --keep, and make no jobs")
    keep.add_argument("--end", action="store_true", help="end by itself, also on a terminal")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), help="default: mosquitto when installed")
    parser.add_argument("--bridged", action="store_true", help="six gateways, each behind a bridge")
    options = parser.parse_args()
    # The other bundle has no log of its own: that the broker ends with the demo is no news.
    logging.getLogger("sanji").addHandler(logging.NullHandler())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    port = page_port()
    url = f"http://127.0.0.1:{port}"
    try:
        with tempfile.TemporaryDirectory(prefix="puppetmaster-demo-") as directory:
            settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{port}"}
            fleet = bridged_fleet(Path(directory), settings) if options.bridged else None
            gateway = fleet.server if fleet else plain_gateway(Path(directory), settings, options.broker)
            with fleet or gateway:
                print(
                    f"They run: {gateway.broker.kind} on 127.0.0.1:{gateway.broker.port}, the page on {url}/"
                )
                if not options.idle:
                    watch_outage(fleet, url) if fleet else watch_jobs(gateway, url, SITE)
                if options.idle or options.keep or (sys.stdout.isatty() and not options.end):
                    look_further(gateway, url)
                    Event().wait()
        print(
            f"\nAll jobs ended. {AGAIN[options.bridged]} leaves it running, to look further, at the page too."
        )
    except KeyboardInterrupt:
        print("\nStopped; nothing is left running.")
        sys.exit(130)
    except (ProcessError, RuntimeError) as error:
        sys.exit(f"The demo cannot go on: {error}")


if __name__ == "__main__":
    main()
