"""The bundle on a real bus, asked as another bundle asks it; some remote gateways are played by the test."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sandbox.broker import Broker
from sandbox.fleet_log import Command, FleetLog
from sandbox.gateway import Gateway
from sandbox.process import Process
from tests.bus_client import BusClient, Message
from tests.desk import until

WAIT_S = 30.0
#: One of every fleet here: a job for it that has ended shows that whoever could send before has sent.
MARKER = "marker"
#: What a bundle says when it can be asked on the bus; when it waits for the one that leads.
LEADS, WAITS = "registered with the controller", "this one waits to take over"
SETTINGS = {"PUPPETMASTER_GRACE_S": "1", "PUPPETMASTER_REQUEST_TIMEOUT_S": "30"}


class Played:
    """A remote gateway with a lock of its own, in the test's hands: what reaches it waits to be answered."""

    def __init__(self, bus: BusClient, name: str) -> None:
        self.name = name
        #: All that reached it, as the controller passed it on.
        self.reached: list[Message] = []
        self._bus = bus
        self._arrived: queue.Queue[Message] = queue.Queue()
        bus.register_model(name, [f"/remote/{name}"], self._take, ttl=60)

    def _take(self, message: Message) -> None:
        self.reached.append(message)
        self._arrived.put(message)

    def next(self) -> Message:
        """The next command that reaches it."""
        return self._arrived.get(timeout=WAIT_S)

    def answer(self, message: Message, code: int = 200, data: object = None) -> None:
        """Answer that command as a device does."""
        command = message["data"]
        inner = {"code": code, "method": command["method"], "resource": command["resource"], "data": data}
        self._bus.answer(message, 200, inner)


class Flow:
    """A whole gateway, and the other bundle that asks it."""

    def __init__(self, gateway: Gateway, client: BusClient, stage: BusClient) -> None:
        self.client = client
        self.gateway = gateway
        self.stage = stage
        self._played = 0

    @property
    def broker(self) -> Broker:
        """Where they all are."""
        return self.gateway.broker

    def played(self, count: int) -> list[Played]:
        """So many gateways that nobody has had before."""
        first, self._played = self._played, self._played + count
        return [Played(self.stage, f"played-{first + index}") for index in range(count)]

    def restart(self) -> None:
        """Kill the bundle, as a loss of power does, and start it again."""
        self.kill()
        self.gateway.bundle.start()

    def kill(self) -> None:
        """Kill the bundle."""
        self.gateway.bundle.kill()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The bundle's process is stopped meanwhile, as by a debugger or a frozen container."""
        self.gateway.bundle.pause()
        try:
            yield
        finally:
            self.gateway.bundle.resume()

    def start(self) -> None:
        """Start the bundle, unless it runs."""
        if not self.gateway.bundle.running:
            self.gateway.bundle.start()

    # -- asking -----------------------------------------------------------------------------------

    def get(self, resource: str) -> Any:
        """The data of a GET."""
        return self._data(self.client.request("get", resource))

    def create(self, body: Message) -> Message:
        """A new job."""
        job: Message = self._data(self.client.request("post", "/jobs", body))
        return job

    def control(self, job: Message, status: str, **more: Any) -> Message:
        """Pause, resume or cancel it."""
        changed = self.client.request("put", f"/jobs/{job['id']}", {"status": status, **more})
        shown: Message = self._data(changed)
        return shown

    def show(self, job: Message) -> Message:
        """The job now, without its requests."""
        shown: Message = self.get(f"/jobs/{job['id']}?collection=false")
        return shown

    def requests(self, job: Message) -> list[Message]:
        """Its requests now: what is in their ``__request``."""
        return [request["__request"] for request in self.get(f"/jobs/{job['id']}")["requests"]]

    def statuses(self, job: Message) -> list[str]:
        """The statuses of its requests now."""
        return [request["status"] for request in self.requests(job)]

    def whys(self, job: Message) -> list[str | None]:
        """What its requests wait for now."""
        return [request["why"] for request in self.requests(job)]

    def _data(self, answer: Message) -> Any:
        assert answer["code"] == 200, answer
        return answer["data"]

    # -- waiting ----------------------------------------------------------------------------------

    def until(self, job: Message, holds: Callable[[Message], bool]) -> Message:
        """The job as soon as this holds of it."""
        pause, deadline_s = threading.Event(), time.monotonic() + WAIT_S
        while not holds(shown := self.show(job)):
            assert time.monotonic() < deadline_s, f"still after {WAIT_S:g} s: {shown}"
            pause.wait(0.02)
        return shown

    def ended(self, job: Message) -> Message:
        """The job once it has ended."""
        return self.until(job, lambda shown: shown["finishedAt"] is not None)

    def restored(self, job: Message) -> Message:
        """The job once it has ended, though the bundle may not be registered at times."""
        path, what = f"/jobs/{job['id']}?collection=false", f"job {job['id']} ends"
        shown: Message = until(lambda: _if_ended(self.asked("get", path)), what, 2 * WAIT_S)
        return shown

    def asked(self, method: str, resource: str, data: Any = None) -> Any:
        """The data of the answer, as soon as there is one: the bundle may have been started just now."""

        def answer() -> Message | None:
            with suppress(TimeoutError):
                found = self.client.request(method, resource, data, timeout_s=1)
                return found if found["code"] == 200 else None
            return None

        return until(answer, f"{method} {resource} is answered")["data"]

    def sent_by_now(self) -> None:
        """Return when all has arrived that could be sent until now."""
        assert self.ended(self.create(batch("post", [MARKER])))["finishCount"] == 1
        self.stage.probe()  # what the controller passed on before this answer is here

    def commands(self, *destinations: str) -> list[Command]:
        """What has reached these simulated gateways, in order of arrival."""
        log = FleetLog(self.gateway.fleet_log).commands()
        return [command for command in log if command.destination in destinations]


@contextmanager
def running(
    directory: Path,
    *fleet: str,
    shape: str = "per-gateway",
    tuned: bool = True,
    settings: Mapping[str, str] = SETTINGS,
    broker_config: str = "",
) -> Iterator[Flow]:
    """Start it with a fleet of these options; the broker is set as in the sandbox, or not ``tuned``."""
    options = ["--shape", shape, *fleet, "--to", MARKER]
    system = Gateway(directory, fleet=options, settings=settings, broker_config=broker_config)
    system.broker.tuned = tuned
    with (
        system as gateway,
        BusClient(gateway.broker) as client,
        BusClient(gateway.broker, first_id=2**20) as stage,
    ):
        yield Flow(gateway, client, stage)


def another(bundle: Process, directory: Path, *, ready: str | None = None, **env: str) -> Process:
    """A second bundle on the same bus, with its data in a directory of its own."""
    env = {**bundle.env, "PUPPETMASTER_DATA_DIR": str(directory), **env}
    return Process.module(directory.name, "index", env=env, ready=ready)


def batch(method: str, destinations: list[str], **more: Any) -> Message:
    """A job of one item."""
    item = {"method": method, "resource": "/system/time", "__request": {"destination": destinations}}
    return {"batch": [item], **more}


def _if_ended(job: Message) -> Message | None:
    return job if job["finishedAt"] is not None else None


def names(gateways: list[Played]) -> list[str]:
    """Their names."""
    return [gateway.name for gateway in gateways]
