"""The end of a torture of leaders: what was promised, stored and brought to the fleet must tell one story."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sandbox.fleet_log import Command, FleetLog
from tests.torture.askers import Door, Order, command_of
from tests.torture.starts import BY_SCHEDULE

#: A command that comes so long after the end of its request is late: clocks are read at both ends.
TOLERANCE_S = 0.1
#: Who holds back a command for longer than this has lost its lease. A late answer would correct the request.
LATE_S = 5.5


class Account:
    """Everything that is known when all is over; ``faults`` are the broken promises, each one sentence."""

    def __init__(self, door: Door, log: Path, journal: Path, restarts: Sequence[float] = ()) -> None:
        self._door = door
        self._commands = [
            *once(FleetLog(log).commands(), Counter(map(int, journal.read_text().split())), restarts)
        ]
        ids = [job["id"] for job in self._asked("/jobs")]
        self.jobs = {id_: self._asked(f"/jobs/{id_}?limit=2000") for id_ in ids}
        self.lines = {id_: self._asked(f"/jobs/{id_}/events") for id_ in self.jobs}

    def _asked(self, path: str) -> Any:
        for _ in range(60):
            answer = self._door.ask("get", path)
            if answer is not None and answer[0] == 200:
                return answer[1]
            time.sleep(0.5)
        raise RuntimeError(f"no answer to GET {path}: {answer}")

    def faults(self, orders: Sequence[Order]) -> Iterator[str]:
        """All that is wrong with jobs, requests and commands."""
        names = {one.name: one for one in orders}
        count = Counter(job["name"] for job in self.jobs.values() if job["name"] is not None)
        yield from (f"{name} is {many} jobs" for name, many in count.items() if many > 1)
        stored = {job["name"]: job for job in self.jobs.values()}
        for order in orders:
            yield from order.faults(stored.get(order.name), self.lines)
        for job in self.jobs.values():
            if job["name"] not in names and not str(job["key"]).startswith(BY_SCHEDULE):
                yield f"job {job['id']} ({job['name']}) is there, and nobody asked for it"
        yield from self._arrived(names, stored)

    def _arrived(self, orders: Mapping[str, Order], stored: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with what reached the fleet."""
        offset_s = time.time() - time.monotonic()
        arrived: dict[tuple[str, str], list[float]] = defaultdict(list)
        for command in self._commands:
            arrived[command.resource, command.destination].append(command.t_s + offset_s)
        for id_, many in Counter(command.id for command in self._commands).items():
            if many > 1:
                yield f"message {id_} reached a gateway {many} times"
        for (resource, destination), times in arrived.items():
            name = command_of(resource)
            if name in orders and len(times) > 1:
                yield f"{resource} reached {destination} {len(times)} times"
            if name in orders and name not in stored and not orders[name].removal_asked:
                yield f"{resource} reached {destination}, and is not there"
        yield from self._requests(orders, arrived)

    def _requests(
        self, orders: Mapping[str, Order], arrived: Mapping[tuple[str, str], list[float]]
    ) -> Iterator[str]:
        """What is wrong with requests. Those of one template have one command: they are counted together."""
        removed = [one for one in orders.values() if one.command and one.removal_asked]
        runs = Counter((f"/do/{one.command}/0", to) for one in removed for to in one.destinations)
        for job in self.jobs.values():
            for request in job["requests"]:
                one = request["__request"]
                at = request["resource"], one["destination"]
                if command_of(request["resource"]) not in orders:
                    runs[at] += one["status"] not in ("canceled", "skipped")
                elif (said := _fault(one, arrived.get(at, []))) is not None:
                    yield f"job {job['id']}, {one['destination']} ({one['status']}): {said}"
        for at, most in runs.items():
            if len(arrived.get(at, [])) > most:
                yield f"{at[0]} reached {at[1]} {len(arrived[at])} times, for {most} requests"


def once(
    commands: Sequence[Command], sent: Mapping[int, int], restarts: Sequence[float]
) -> Iterator[Command]:
    """The commands without those that the controller has repeated.

    It publishes at QoS 1. When the broker is started anew, the controller does not know what has arrived. Its
    message has the same id, and was sent to it once. ``sent``: how often each message was.
    """
    before: dict[int, float] = {}
    for command in commands:
        first_s = before.setdefault(command.id, command.t_s)
        repeated = any(first_s - 1 < at_s < command.t_s for at_s in restarts)
        if first_s == command.t_s or sent.get(command.id, 0) > 1 or not repeated:
            yield command


def _fault(request: Mapping[str, Any], times: list[float]) -> str | None:
    """What is wrong with a request whose commands arrived at these times; None: nothing is."""
    if request["finishedAt"] is None:
        return "it has not ended"
    if not times:
        return "it is resolved, and never came" if request["status"] == "resolved" else None
    if request["status"] in ("canceled", "skipped"):
        return "it says that it never ran, and it came"
    if max(times) > _seconds(request["finishedAt"]) + TOLERANCE_S:
        return "it came after its end"
    if max(times) > _seconds(request["sentAt"]) + LATE_S:
        return f"it came {max(times) - _seconds(request['sentAt']):.1f} s after it was on record as sent"
    return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
