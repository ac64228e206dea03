"""``make demo``: a batch reaches simulated gateways over a real broker, and is watched to its end.

Broker, controller, fleet and the bundle run as processes of their own; the jobs are created and
followed by another bundle, with the SDK's own blocking calls. On a terminal with bars and tables,
elsewhere with plain lines.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from puppetmaster import names, sdk
from puppetmaster.clock import seconds
from sandbox.gateway import Gateway
from sandbox.process import ProcessError

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
            "__request": {"destination": [*names.expand("cg-[001-200]"), "cg-lost"]},
        }
    ],
}
POLL_S = 0.2
STATUS_STYLES = {"resolved": "green", "error": "red", "timeout": "yellow", "unknown": "magenta"}


class Caller(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
    """Another bundle on the same bus; all it does is call."""

    def init(self, *args: Any, show: "Show", **kwargs: Any) -> None:
        """Register without the SDK's random wait."""
        del args, kwargs
        self.reg_delay = 0
        self.show = show
        self.failed: Exception | None = None

    def run(self) -> None:
        """Sanji calls this once the bundle is registered."""
        try:
            for body in (REBOOT, UPDATE):
                self._follow(self._call("post", "/jobs", body))
        except Exception as error:  # noqa: BLE001 - whatever it is, call_jobs raises it
            self.failed = error
        finally:
            self.stop_event.set()

    def _follow(self, job: dict[str, Any]) -> None:
        with self.show.following(job):
            while job["finishedAt"] is None:
                self.stop_event.wait(POLL_S)
                job = self._call("get", f"/jobs/{job['id']}?collection=false")
                self.show.progress(job)
        self.show.outcome(job, self._call("get", f"/jobs/{job['id']}/requests"))

    def _call(self, method: str, resource: str, data: Any = None) -> Any:
        answer = getattr(self.publish.direct, method)(resource, data=data, timeout=10)
        if answer.code != 200:
            raise RuntimeError(f"{method} {resource} was answered {answer.code}: {answer.data}")
        return answer.data


class Show:
    """What is printed: bars and tables on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._bar: Progress | None = None
        self._last = ""

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, soft_wrap=True)

    def following(self, job: dict[str, Any]) -> Progress:
        """Begin to show a job; a context manager that ends it."""
        item = f"{job['totalCount']} requests"
        self.say(f"\n[bold]POST /jobs[/] -> job {job['id']}" + (f", {job['name']}" if job["name"] else ""))
        self._last = ""
        columns = (
            TextColumn(f"  {item}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._bar.add_task("", total=job["totalCount"])
        return self._bar

    def progress(self, job: dict[str, Any]) -> None:
        """Show how far it is."""
        counts = job["counts"]
        line = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        if self._bar is not None and self.console.is_terminal:
            task = self._bar.tasks[0].id
            self._bar.update(task, completed=job["doneCount"], description=f"{counts['sent']} in flight")
        elif line != self._last:
            self.say(f"  {job['progress']:3d}%  {line}")
        self._last = line

    def outcome(self, job: dict[str, Any], requests: Sequence[dict[str, Any]]) -> None:
        """Print the job's end, and its requests by equal results."""
        took_s = seconds(job["finishedAt"]) - seconds(job["startedAt"])
        self.say(f"  job {job['id']} is [bold]{job['status']}[/]: {self._last}, in {took_s:.1f} s")
        found = groups(requests)
        if not self.console.is_terminal:
            for (status, said), destinations in found:
                which = ", ".join(names.fold(destinations))
                self.say(f"    {len(destinations):3d} {status}: {said}: {which}")
            return
        table = Table("gateways", "status", "what came back", "which", box=None, padding=(0, 3, 0, 0))
        for (status, said), destinations in found:
            style = STATUS_STYLES.get(status, "")
            which = ", ".join(names.fold(destinations))
            table.add_row(str(len(destinations)), f"[{style}]{status}[/]" if style else status, said, which)
        self.console.print(table)


def groups(requests: Sequence[dict[str, Any]]) -> list[tuple[tuple[str, str], list[str]]]:
    """Destinations by equal status and result, the largest group first."""
    found: dict[tuple[str, str], list[str]] = {}
    for request in requests:
        inner = request["__request"]
        result = inner["result"]
        said = result.get("message") or str(result.get("data"))
        code = result.get("code")
        key = (inner["status"], f"{code} {said}" if code else said)
        found.setdefault(key, []).append(inner["destination"])
    return sorted(found.items(), key=lambda group: -len(group[1]))


def call_jobs(gateway: Gateway, show: Show) -> None:
    """Create both jobs and follow them, as another bundle would. Raises what went wrong there."""
    failures: list[Exception | None] = []

    def call() -> None:
        bundle = sdk.Bundle(bundle_dir=str(gateway.directory), load=False)
        bundle.profile = {
            "name": "demo",
            "description": "creates jobs and watches them",
            "role": "model",
            "ttl": 10,
            "resources": [],
        }
        connection = sdk.connection(gateway.broker.host, gateway.broker.port)
        caller = Caller(bundle=bundle, connection=connection, show=show)
        caller.start()
        failures.append(caller.failed)

    # Not on the main thread: there the SDK takes Ctrl-C, and waits for its handlers before it ends.
    thread = Thread(target=call, name="demo-caller", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    for failure in filter(None, failures):
        raise failure


def look_further(gateway: Gateway, show: Show) -> None:
    """Say how to ask more."""
    port = gateway.broker.port
    show.say("\n[bold]Look further[/], while it runs, from another terminal:")
    for words in ("get /jobs", "get '/jobs/2/requests?status=error'", "get /system/puppetmaster"):
        show.say(f"  .venv/bin/python -m sandbox.ask {port} {words}")
    show.say("Ctrl-C ends it.")


def main() -> None:
    """Run the demo; ends with 0 when every job ended, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="go on running afterwards, until Ctrl-C")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), help="default: mosquitto when installed")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    show = Show()
    try:
        with tempfile.TemporaryDirectory(prefix="puppetmaster-demo-") as directory:
            gateway = Gateway(Path(directory), fleet=FLEET, broker=options.broker)
            show.say("Starting a broker, a controller, 203 gateways and puppetmaster ..")
            with gateway:
                show.say(f"They run: {gateway.broker.kind} on 127.0.0.1:{gateway.broker.port}.")
                call_jobs(gateway, show)
                if options.keep:
                    look_further(gateway, show)
                    Event().wait()
        show.say("\nAll jobs ended. To look further while it runs: .venv/bin/python -m sandbox.demo --keep")
    except KeyboardInterrupt:
        show.say("\nStopped; nothing is left running.")
        sys.exit(130)
    except (ProcessError, RuntimeError) as error:
        sys.exit(f"The demo cannot go on: {error}")


if __name__ == "__main__":
    main()
