"""What is asked for: jobs of every shape that the API knows, drawn by a seed."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from puppetmaster.clock import iso
from tests.torture.starts import EVERY_S, Kept
from tests.torture.world import NOBODY

#: One order of so many goes to the gateways that are hardly ever asked.
WITH_SILENT = 60


@dataclass(slots=True)
class Order:
    """A job that was asked for, and what the answers said about it."""

    key: str
    path: str
    body: dict[str, Any]
    root: str  #: what its commands carry: its own key, or that of the job which it runs again
    destinations: frozenset[str]
    not_before_s: float = 0.0  #: time.monotonic(): nothing of it may run before this
    job: int | None = None  #: its id once a POST was answered: from then on it is acknowledged
    controlled: bool = False
    removal_asked: bool = False
    removed: bool = False  #: a DELETE was answered
    seen: dict[int, tuple[str, Any]] = field(default_factory=dict)  #: request id -> final status and result

    def acknowledge(self, answer: dict[str, Any]) -> int:
        """The job's id as the answer to its POST says."""
        data = answer["data"]
        return int(data["job"] if self.path == "/requests" else data["id"])


def of_template(kept: Kept, key: str) -> Order:
    """A job of a template."""
    item = kept.quick["batch"][0]
    root, destinations = item["data"]["key"], frozenset(item["__request"]["destination"])
    return Order(key, f"/templates/{kept.id}/jobs", {"key": key}, root, destinations)


class Orders:
    """Draws one order after the other.

    Each of its items carries a mark that no other has, and so does each command of that item.

    Args:
        seed: decides about all of them.
        fleet: the gateways there are.
        hardly: names, of the fleet or not, that few orders go to.
    """

    def __init__(self, seed: int, fleet: Sequence[str], hardly: Sequence[str]) -> None:
        self._rng = random.Random(seed)
        self._count = 0
        self._fleet = tuple(fleet)
        self._hardly = frozenset(hardly)

    def draw(self, known: Sequence[Order], templates: Sequence[Kept] = ()) -> Order:
        """The next order. One that runs another again takes it from those that are known."""
        rng, key = self._rng, f"order-{self._count}"
        self._count += 1
        if templates and rng.random() < 0.05:
            return of_template(rng.choice(templates), key)
        kind = rng.random()
        if kind < 0.08 and known:
            return self._again(key, rng.choice(known))
        if kind < 0.16:
            return self._single(key)
        return self._job(key)

    def _again(self, key: str, other: Order) -> Order:
        status = self._rng.sample(["error", "timeout", "unknown", "canceled", "skipped"], 3)
        body = {"key": key, "rerun": {"job": other.job, "status": status}}
        return Order(key, "/jobs", body, other.root, other.destinations)

    def _single(self, key: str) -> Order:
        destination = self._some(1)[0]
        method, resource = self._rng.choice(["post", "get"]), self._rng.choice(["/a", "/system/setting"])
        message = {"method": method, "resource": resource, "data": _data(key, 0)}
        body = {"key": key, "destination": destination, "message": message}
        return Order(key, "/requests", body, key, frozenset([destination]))

    def _some(self, count: int) -> list[str]:
        names = [*self._fleet, NOBODY]
        to = self._rng.sample(names, min(count, len(names)))
        if self._count % WITH_SILENT:
            to = [one for one in to if one not in self._hardly] or [self._fleet[3]]
        return to

    def _job(self, key: str) -> Order:
        rng = self._rng
        items = []
        steps = self._some(rng.randint(2, 25)) if rng.random() < 0.5 else None  # all items to the same ones
        for number in range(rng.choice([1, 1, 1, 2, 3])):
            item: dict[str, Any] = {
                "method": rng.choice(["post", "post", "put", "delete", "get"]),
                "resource": "/system/setting",
                "data": _data(key, number),
                "__request": {"destination": steps or self._some(rng.randint(2, 25))},
            }
            if rng.random() < 0.1:
                item["code"] = 200  # an event
            items.append(item)
        order = Order(key, "/jobs", {"key": key, "batch": items}, key, frozenset(
            name for item in items for name in item["__request"]["destination"]
        ))  # fmt: skip
        self._policies(order)
        return order

    def _policies(self, order: Order) -> None:
        rng, body = self._rng, order.body
        if rng.random() < 0.3:
            body["concurrency"] = rng.choice([1, 2, 5, "20%"])
        if rng.random() < 0.2:
            body["idempotent"] = True
        if rng.random() < 0.2:
            body["retry"] = {
                "attempts": rng.randint(2, 3),
                "on": rng.choice([["error"], ["timeout"], ["error", "timeout"]]),
                "delay": rng.uniform(0.001, 0.5),
            }
        if rng.random() < 0.1:
            body["rate"] = rng.choice([5, 20, 100])
        if rng.random() < 0.1:
            body["abort"] = {"errors": rng.choice([0, 1, "10%"]), "after": rng.randint(1, 5)}
        if rng.random() < 0.2:
            body["waves"] = rng.choice([[1, "50%"], ["30%", "60%"], [2, 3, "100%"]])
            if rng.random() < 0.8:
                body["gate"] = {
                    "errors": rng.choice([0, 1, "50%"]),
                    "soak": rng.choice([0, 0.2]),
                    "onFail": rng.choice(["abort", "pause"]),
                }
        self._time(order)
        if len(body["batch"]) > 1 and rng.random() < 0.7:
            body["onFail"] = "stop"

    def _time(self, order: Order) -> None:
        rng, body = self._rng, order.body
        if rng.random() < 0.3:
            body["requestTimeout"] = rng.choice([2, 3, 10])
        if rng.random() < 0.3:
            body["deliveryTimeout"] = rng.choice([0.3, 1, 5])
        if rng.random() < 0.1:
            body["timeout"] = rng.uniform(0.5, 4)
        if rng.random() < 0.1:
            wait_s = rng.uniform(0.2, 2.0)
            order.not_before_s = time.monotonic() + wait_s
            body["startAt"] = iso(time.time() + wait_s)


def scheduled(name: str, destinations: Sequence[str], *, slow: bool) -> dict[str, Any]:
    """The job of a template. A slow one takes longer than from one time of a schedule to the next."""
    to = {"destination": list(destinations)}
    item = {"method": "post", "resource": "/system/setting", "data": _data(name, 0), "__request": to}
    return {"batch": [item], **({"rate": len(destinations) / (EVERY_S + 2)} if slow else {})}


def _data(key: str, item: int) -> dict[str, str]:
    """What the commands of an item carry: whose they are, and a mark that no other item has."""
    return {"key": key, "mark": f"{key}/{item}"}
