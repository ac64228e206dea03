"""The simulated gateways: what a device answers and when, and how some of them misbehave.

No socket, and the time is an argument: messages go in, what is to be logged and sent comes out.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.fleet_log import Command

Message = dict[str, Any]

REMOTE = "/remote/"  # a gateway's resource on the bus is this and its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How one gateway differs from a good one.

    Of the first five, the one that comes first wins; the last two apply to whatever is answered.
    """

    dead: bool = False  #: the command does not reach it: not executed, not logged, not answered
    refuse: int | None = None  #: the remote bundle answers with this outer code: not executed, not logged
    silent: bool = False  #: executes and logs, never answers
    garbage: bool = False  #: executes, outer code 200 with something that is no device's answer
    fail: int | None = None  #: the device logs it and answers with this nested code
    after_s: float | None = None  #: answers after this time in place of delay and jitter
    twice: bool = False  #: each answer is sent twice


GOOD = Fault()

# Keys of an outer answer with code 200 that carries no device's answer; a command's id picks one of them.
GARBAGE: tuple[Message, ...] = (
    {"data": "rubbish"},
    {"data": ["rubbish", 200]},
    {"data": None},
    {"data": {"message": "no code"}},
    {"data": {"code": "two hundred", "data": {}}},
    {"data": 200},
    {},
)

FAILURE: Message = {"message": "fails on purpose"}  # the same for all: equal results are shown as one group

VERSIONS = ("1.4.2",) * 12 + ("1.4.1",) * 3 + ("1.3.9",)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a message to a gateway sets off."""

    command: Command | None  # to be logged, before anything is answered
    answers: tuple[Message, ...]  # to the controller
    after_s: float


NOTHING = Reaction(None, (), 0)


class Gateways:
    """The gateways behind the models, with what PUT left on them.

    Args:
        destinations: their names; for any other one the answer has the outer code 404.
        faults: by destination; who is not in it is good.
        delay_s: from arrival to answer, for all; to it comes a random part of jitter_s.
        rng: for the jitter.
        clock: the time that `/system/time` tells.
    """

    def __init__(
        self,
        destinations: Sequence[str],
        *,
        faults: Mapping[str, Fault] | None = None,
        delay_s: float = 0,
        jitter_s: float = 0,
        rng: random.Random | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._faults = dict.fromkeys(destinations, GOOD) | dict(faults or {})
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._rng = rng or random.Random()
        self._clock = clock
        self._kept: dict[tuple[str, str], Any] = {}

    def receive(self, model: str, message: Any, now_s: float) -> Reaction:
        """Take a message that came to this model: any JSON value; what is no request sets off nothing."""
        if not _is_request(message):
            return NOTHING
        destination = message["resource"].removeprefix(REMOTE).partition("?")[0]
        fault = self._faults.get(destination)
        after_s = self._delay_s + self._jitter_s * self._rng.random()
        outer = {key: message[key] for key in ("id", "method", "resource")} | {"code": 200, "sign": [model]}
        if fault is None:
            return Reaction(None, (_error(outer, 404, "no such gateway"),), after_s)
        if fault.dead:
            return NOTHING
        if fault.after_s is not None:
            after_s = fault.after_s
        copies = 2 if fault.twice else 1
        if fault.refuse is not None:
            return Reaction(
                None, (_error(outer, fault.refuse, "refused by the remote bundle"),) * copies, after_s
            )
        order = message.get("data")
        if not _is_order(order):
            sentence = "expected data with method and resource, both strings"
            return Reaction(None, (_error(outer, 400, sentence),) * copies, after_s)
        command = Command(
            now_s, message["id"], destination, order["method"], order["resource"], order.get("data")
        )
        answer = outer | self._content(command, fault)
        return Reaction(command, () if fault.silent else (answer,) * copies, after_s)

    def _content(self, command: Command, fault: Fault) -> Message:
        """Execute the command; give the keys that its outcome adds to the outer answer."""
        code, data = self.execute(command)
        if fault.garbage:
            return GARBAGE[command.id % len(GARBAGE)]
        inner: Message = {"code": code, "method": command.method, "resource": command.resource, "data": data}
        return {"data": inner | {"id": command.id, "sign": [command.resource.split("/")[1] or "device"]}}

    def execute(self, command: Command) -> tuple[int, Any]:
        """Execute the command of a gateway that is among ours; give the device's code and data."""
        fail = self._faults[command.destination].fail
        return (200, self._do(command)) if fail is None else (fail, FAILURE)

    def _do(self, command: Command) -> Any:
        """Do what a good device does and give its data."""
        method, resource = command.method.lower(), command.resource.partition("?")[0]
        place = (command.destination, resource)
        if method == "put":
            self._kept[place] = command.data
        elif method == "delete":
            self._kept.pop(place, None)
        elif (method, resource) == ("post", "/system/reboot"):
            return {"rebooting": True}
        elif method == "get" and place in self._kept:
            return self._kept[place]
        elif (method, resource) == ("get", "/system/time"):
            return {"time": self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        elif (method, resource) == ("get", "/system/log"):
            return {"log": "x" * int(command.resource.partition("?bytes=")[2] or 0)}
        elif (method, resource) == ("get", "/system/info"):
            return {"name": command.destination, "version": version(command.destination)}
        return {} if command.data is None else command.data


def version(destination: str) -> str:
    """Give the firmware of a gateway: most have the newest, always the same ones have an older one."""
    return VERSIONS[hashlib.sha256(destination.encode()).digest()[0] % len(VERSIONS)]


def _is_request(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and type(message.get("id")) is int
        and "code" not in message
        and isinstance(message.get("method"), str)
        and isinstance(message.get("resource"), str)
        and message["resource"].startswith(REMOTE)
    )


def _is_order(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("method"), str)
        and isinstance(data.get("resource"), str)
        and data["resource"].startswith("/")
    )


def _error(outer: Message, code: int, sentence: str) -> Message:
    return outer | {"code": code, "data": {"message": sentence}}
