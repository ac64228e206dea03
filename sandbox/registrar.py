"""The models of a simulated fleet, and how they stay registered with the controller.

No socket and no clock: the controller's answers and the time go in, messages to it come out.
"""

import hashlib
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sandbox.devices import REMOTE, Message

_logger = logging.getLogger("sandbox.registrar")


@dataclass(frozen=True, slots=True)
class Model:
    """What is registered with the controller: one write lock over all of `resources`."""

    name: str
    resources: tuple[str, ...]
    probe: str  # a resource without wildcard that belongs to this model


def models(shape: str, destinations: Sequence[str], name: str = "fleet") -> list[Model]:
    """Give the models that carry `destinations` in this shape.

    `one-model`: a single one on `/remote/+`. `per-gateway`: one for each destination, on
    `/remote/<destination>`. `grouped:N`: one for each N destinations, with their literal resources.

    Raises:
        ValueError: another shape.
    """
    if shape == "one-model":
        return [Model(name, (REMOTE + "+",), REMOTE + destinations[0])]
    kind, _, number = shape.partition(":")
    if shape == "per-gateway":
        groups = [(each, [each]) for each in destinations]
    elif kind == "grouped" and number.isdecimal() and int(number) > 0:
        size = int(number)
        starts = range(0, len(destinations), size)
        groups = [(str(i), list(destinations[start : start + size])) for i, start in enumerate(starts, 1)]
    else:
        raise ValueError(
            f"expected the shape one-model, per-gateway or grouped:N with N from 1, got {shape!r}"
        )
    resources = [(word, tuple(REMOTE + each for each in group)) for word, group in groups]
    return [Model(short_name(f"{name}-{word}"), owned, owned[0]) for word, owned in resources]


def short_name(name: str) -> str:
    """Keep a model's name under 32 characters: the controller tells names apart by their first 31."""
    return name if len(name) <= 31 else f"{name[:22]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class Registrar:
    """Keeps models registered with the controller.

    One request at a time, because the controller answers 423 to a second registration while one is under
    way. A name that is taken (403) is deregistered first: it is our own, from an earlier life or from a
    registration whose answer was lost. Once a second it asks after one model, in turn; when the controller
    does not know that one, it was restarted, and the others are asked after too.

    Args:
        registered: the models.
        tunnel: the topic to which the controller shall answer.
        ttl_s: of the models.
        watch: False never asks whether the controller still knows a model.
        ids: message ids.
    """

    ANSWER_S = 2.0  # the controller answers in less than 0.1 s when it is there
    WATCH_S = 1.0
    RETRY_S = 0.1

    def __init__(
        self,
        registered: Sequence[Model],
        *,
        tunnel: str,
        ttl_s: int,
        watch: bool,
        ids: "itertools.count[int]",
    ) -> None:
        self._models = list(registered)
        self._tunnel = tunnel
        self._ttl_s = ttl_s
        self._watch = watch
        self._ids = ids
        self._rotation = itertools.cycle(self._models)
        self._tunnel_of: dict[Model, str] = {}
        self._model_of: dict[str, Model] = {}
        self._todo: deque[tuple[str, Model]] = deque()
        self._asked: tuple[int, str, Model] | None = None
        self._settled = False  # whether nobody has to be asked after but for the watch
        self.due_s = -inf  #: poll() has nothing to do before this time

    def complete(self) -> bool:
        """Whether every model is registered, as far as known, and none is still to be asked after."""
        return self._settled and len(self._tunnel_of) == len(self._models)

    @property
    def tunnels(self) -> list[str]:
        """The topics on which commands arrive."""
        return list(self._model_of)

    def model(self, tunnel: str) -> Model | None:
        """Give the model to which this topic belongs."""
        return self._model_of.get(tunnel)

    def connected(self, now_s: float) -> None:
        """Begin, or begin again after the connection was lost: then an answer may be lost too."""
        self._asked = None
        self._todo.clear()
        for model in self._models:
            if model not in self._tunnel_of:
                self._todo.append(("post", model))
            elif self._watch:
                self._todo.append(("get", model))
        self._settled = not self._todo
        self.due_s = now_s

    def poll(self, now_s: float) -> Message | None:
        """Give the next message for the controller, None when there is none to send now."""
        if now_s < self.due_s:
            return None
        if self._asked is not None:  # not answered in time
            self._todo.appendleft(self._asked[1:])
        elif not self._todo:
            if not self._watch:
                self.due_s = inf
                return None
            self._todo.append(("get", next(self._rotation)))
        method, model = self._todo.popleft()
        self._asked = (next(self._ids), method, model)
        self.due_s = now_s + self.ANSWER_S
        return self._message(*self._asked)

    def answered(self, message: Any, now_s: float) -> str | None:
        """Take an answer of the controller; give a tunnel that is to be subscribed to, if it brings one."""
        if self._asked is None or not isinstance(message, dict) or message.get("id") != self._asked[0]:
            return None  # late: it was asked again meanwhile
        _, method, model = self._asked
        self._asked = None
        code, data = message.get("code"), message.get("data")
        self.due_s = now_s
        tunnel = None
        if method == "get":
            self._checked(model, code, data)
        elif code == 200 and method == "delete":
            self._todo.appendleft(("post", model))
        elif code == 200 and isinstance(data, dict) and isinstance(data.get("tunnel"), str):
            tunnel = self._tunnel_of[model] = data["tunnel"]
            self._model_of[tunnel] = model
        elif code == 403 and method == "post":
            self._todo.appendleft(("delete", model))
        else:
            if code != 423:
                _logger.warning("controller answers %s %s to %s of model %s", code, data, method, model.name)
            self._todo.appendleft((method, model))
            self.due_s = now_s + self.RETRY_S
        if not self._todo:
            self._settled = True
            self.due_s = now_s + self.WATCH_S
        return tunnel

    def _checked(self, model: Model, code: Any, data: Any) -> None:
        """Judge the answer to "who depends on this resource"; an odd one leaves things as they are."""
        listed = data.get("resources") if isinstance(data, dict) else None
        # 200 alone does not say that we are known: with a view on every resource the list is just empty.
        known = code == 200 and isinstance(listed, list) and model.resources[0] in listed
        if known or code not in (200, 404):
            return
        _logger.warning("the controller has forgotten model %s", model.name)
        self._model_of.pop(self._tunnel_of.pop(model, ""), None)
        if self._settled:  # the watch found it; else the others are being asked after already
            self._todo.extend(("get", each) for each in self._models if each in self._tunnel_of)
        self._settled = False
        self._todo.appendleft(("post", model))

    def _message(self, id_: int, method: str, model: Model) -> Message:
        message: Message = {"id": id_, "method": method, "tunnel": self._tunnel}
        if method == "get":
            return message | {"resource": f"/controller/resource/dependency?resource={model.probe}"}
        data: Message = {"name": model.name}
        if method == "post":
            data |= {"description": "simulated gateways", "role": "model", "ttl": self._ttl_s}
            data["resources"] = list(model.resources)
        return message | {"resource": "/controller/registration", "data": data}
