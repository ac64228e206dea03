"""Who asks those that lead, at every door at once: on the bus, through a standby, through an API server.

Promised is: an order that was answered with 200 is carried out, whoever dies then. One that was answered with
an error, or not at all, is carried out as a whole or not at all, and not at all where the answer says so.
"""

import http.client
import random
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.bus_client import BusClient
from tests.torture.starts import Answer, Kept
from tests.web_client import fetch

GATEWAYS = 200
NAMES = [f"cg-{number:03}" for number in range(1, GATEWAYS + 1)]
#: With these the API refuses what is asked for.
REFUSALS = (400, 404, 409, 413)
#: A job with so many commands for all gateways is written in parts.
LARGE = 6
#: In the sentence of an error after which nothing is there.
NOTHING = ("othing was changed", "o job was created", "o job can be created")
#: The event in the time line of a job after each control.
EVENTS = {"paused": "paused", "canceled": "canceled"}
#: So long callers on the bus wait for an answer.
BUS_S = 5.0


def batch(command: str, destinations: Collection[str], items: int = 1, **more: Any) -> dict[str, Any]:
    """A job of this command, so often for each destination."""
    to = {"destination": sorted(destinations)}
    resources = [f"/do/{command}/{number}" for number in range(items)]
    return {"batch": [{"method": "post", "resource": one, "__request": to} for one in resources], **more}


def command_of(resource: str) -> str:
    """What the command of a resource names."""
    return resource.split("/")[2]


class Door(Protocol):
    """Where somebody asks."""

    #: By what name the caller is known there.
    by: str

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """The status and the data of an answer; None: there is none."""


class BusDoor:
    """The bus."""

    by = "bus"

    def __init__(self, client: BusClient) -> None:
        self._client = client

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        try:
            answer = self._client.request(method, path, body, timeout_s=BUS_S)
        except (TimeoutError, OSError, RuntimeError):
            return None
        if answer["code"] != 200 and answer.get("sign") in (None, ["controller"]):
            return None  # nobody of ours has said this
        return int(answer["code"]), answer.get("data")


class WebDoor:
    """The HTTP doors at these ports, any of them each time, asked with a token of this name."""

    def __init__(self, by: str, token: str, ports: Sequence[int], rng: random.Random) -> None:
        self.by = by
        self._token = token
        self._ports = ports
        self._rng = rng

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        port = self._rng.choice(self._ports)
        try:
            answer = fetch(port, method.upper(), path, body, Authorization=f"Bearer {self._token}")
            return answer.status, answer.json
        except (OSError, http.client.HTTPException, ValueError):
            return None


@dataclass(slots=True)
class Order:
    """A job that somebody asked for, and what the answers said."""

    name: str  #: and its key
    by: str
    path: str
    body: dict[str, Any]
    destinations: Sequence[str]  #: each so often as the job has commands for it
    command: str = ""  #: what its commands name, where that is a template
    id: int | None = None  #: once it was answered with 200
    refused: bool = True  #: each answer until now says that nothing was changed
    said: list[Any] = field(default_factory=list)  #: those answers
    events: set[str] = field(default_factory=set)  #: what must be in its time line, by the same caller
    removal_asked: bool = False
    removed: bool = False

    def faults(
        self, job: Mapping[str, Any] | None, lines: Mapping[int, Sequence[Mapping[str, Any]]]
    ) -> Iterator[str]:
        """What is wrong with the job that it became, which has ended; None: there is none."""
        if job is None:
            if self.id is not None and not self.removal_asked:
                yield f"{self.name} was answered with 200 as job {self.id}, and is not there"
            return
        named = f"job {job['id']} ({self.name})"
        if self.id is None and self.refused:
            yield f"{named} is there, and its caller was told that nothing was changed"
            yield from (f"{named}: {answer}" for answer in self.said)
        if self.id not in (None, job["id"]):
            yield f"{named} was answered as job {self.id}"
        if self.removed:
            yield f"{named} was removed, and is there"
        there = [one["__request"]["destination"] for one in job["requests"]]
        if sorted(there) != sorted(self.destinations):
            yield f"{named} has {len(there)} requests, and was asked for {len(self.destinations)}"
        if job["createdBy"] != self.by:
            yield f"{named} was created by {self.by}, and is said to be by {job['createdBy']}"
        told = {one["event"] for one in lines[job["id"]] if one["by"] == self.by}
        for event in self.events - told:
            yield f"{named} was {event} by {self.by}, and its time line does not say so"
        if "canceled" in self.events and job["status"] != "canceled":
            yield f"{named} was canceled, and is {job['status']}"


class Asker:
    """Creates, controls and removes jobs, and starts templates by hand, in a thread of its own."""

    def __init__(self, number: int, door: Door, rng: random.Random, kept: Sequence[Kept]) -> None:
        self.orders: list[Order] = []
        self.broken: list[str] = []  #: promises that were seen broken on the way
        #: How many answers had each status; None: there was none.
        self.answers: dict[int | None, int] = {}
        self._number = number
        self._door = door
        self._rng = rng
        self._kept = kept
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"asker-{number}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for nothing more. ``join`` waits until what was asked for is answered."""
        self._over.set()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(self._rng.uniform(0.2, 1.0)):
                choice = self._rng.random()
                if choice < 0.55:
                    self._create()
                elif choice < 0.65:
                    self._start()
                elif choice < 0.85:
                    self._control()
                else:
                    self._look()
        except BaseException as error:
            self.broken.append(f"asker {self._number} ended early: {error!r}")
            raise

    def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        answer = self._door.ask(method, path, body)
        status = None if answer is None else answer[0]
        self.answers[status] = self.answers.get(status, 0) + 1
        return answer

    def _name(self) -> str:
        return f"order-{self._number}-{len(self.orders)}"

    def _create(self) -> None:
        name = self._name()
        some, items = self._rng.sample(NAMES, self._rng.randrange(5, 60)), 1
        pace = self._rng.choice([{}, {"concurrency": 40}, {"rate": 20}])
        if self._rng.random() < 0.03:
            some, items, pace = NAMES, LARGE, {"concurrency": 40}
        body = batch(name, some, items, name=name, key=name, **pace)
        self._order(Order(name, self._door.by, "/jobs", body, [*some] * items))

    def _start(self) -> None:
        """Start a template by hand."""
        if self._kept:
            one, name = self._rng.choice(self._kept), self._name()
            item, body = one.quick["batch"][0], {"name": name, "key": name}
            path, command = f"/templates/{one.id}/jobs", command_of(item["resource"])
            self._order(Order(name, self._door.by, path, body, item["__request"]["destination"], command))

    def _order(self, order: Order) -> None:
        """Ask for it. Mostly it is asked for again when the answer is bad, which the key allows."""
        self.orders.append(order)
        while order.id is None:
            self._post(order)
            if order.id is not None or self._rng.random() < 0.3 or self._over.wait(0.5):
                return

    def _post(self, order: Order) -> None:
        answer = self._ask("post", order.path, order.body)
        if answer is None:
            order.refused = False
        elif answer[0] == 200:
            order.id = answer[1]["id"]
        elif answer[0] in REFUSALS:
            self.broken.append(f"{order.name} is answered {answer}")
        elif not any(said in str(answer[1]) for said in NOTHING):
            order.refused = False
        else:
            order.said.append(answer)

    def _some(self) -> Order | None:
        known = [one for one in self.orders[-8:] if one.id is not None and not one.removal_asked]
        return self._rng.choice(known) if known else None

    def _control(self) -> None:
        order = self._some()
        if order is None:
            return
        if self._rng.random() < 0.15:
            order.removal_asked = True
            answer = self._ask("delete", f"/jobs/{order.id}")
            order.removed |= answer is not None and answer[0] == 200
            return
        # A job of a template that is paused would be in the way of all starts to come.
        wanted = "canceled" if order.command else self._rng.choice(["paused", "dispatching", "canceled"])
        answer = self._ask("put", f"/jobs/{order.id}", {"status": wanted})
        self._see(order, answer)
        if answer is not None and answer[0] == 200 and wanted in EVENTS:
            order.events.add(EVENTS[wanted])

    def _look(self) -> None:
        order = self._some()
        if order is not None:
            self._see(order, self._ask("get", f"/jobs/{order.id}?collection=false"))

    def _see(self, order: Order, answer: Answer) -> None:
        if answer is not None and answer[0] == 404:
            self.broken.append(f"job {order.id} was answered with 200, and {order.by} is told {answer[1]}")
        if answer is not None and answer[0] == 200 and answer[1]["name"] != order.name:
            self.broken.append(f"job {order.id} was {order.name}, and is {answer[1]['name']}")
