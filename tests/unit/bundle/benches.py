"""A bundle on a connection that carries nothing."""

import itertools
import json
import queue
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from voluptuous import Required, Schema

from puppetmaster.bundle import sdk
from puppetmaster.bundle.runtime import SteadySanji
from puppetmaster.errors import Conflict, PuppetmasterError, StoreError, Unavailable

Message = dict[str, Any]
PROFILE: Message = {
    "name": "sample",
    "description": "a sample",
    "role": "model",
    "ttl": 10,
    "resources": [{"methods": ["get"], "resource": "/things/:id"}],
}


class DeadLink:
    """A connection that carries nothing: keeps what is published, acknowledges nothing, and can be `away`."""

    def __init__(self) -> None:
        self.published: queue.Queue[Message] = queue.Queue()
        self.away = False
        self.subscribed: dict[str, tuple[Any, Any]] = {}
        self.unheard: list[str] = []
        self.connects = 0
        self.tunnels: dict[str, tuple[Any, Any]] = {
            "internel": ("i", None),
            "model": (None, None),
            "view": (None, None),
        }

    def set_on_publish(self, function: Any) -> None: ...

    def set_on_message(self, function: Any) -> None: ...

    def set_on_connect(self, function: Any) -> None: ...

    def set_tunnels(self, tunnels: Any) -> None:
        self.subscribed = dict(tunnels)

    def set_tunnel(self, kind: str, tunnel: str, callback: Any = None) -> None:
        self.tunnels[kind] = (tunnel, callback)

    def message_callback_remove(self, tunnel: str) -> None:
        self.unheard.append(tunnel)

    def connect(self) -> None:
        self.connects += 1

    def disconnect(self) -> None: ...

    def publish(self, topic: str = "/controller", qos: int = 2, payload: Any = None) -> int:
        if self.away:
            raise RuntimeError("No connection")
        text = getattr(payload, "encoded_json", None)
        self.published.put({"qos": qos, **(json.loads(text) if text else payload)})
        return 1


#: What a handler raises that is told to.
RAISED = {
    "raises": KeyError("secret"),
    "exits": SystemExit(3),
    "conflicts": Conflict("not now"),
    "store": StoreError(),
    "ours": PuppetmasterError("said by us"),
    "unavailable": Unavailable("later"),
}


class Steady(SteadySanji):
    """A bundle with handlers of every kind."""

    def init(self, *_args: Any, **_kwargs: Any) -> None:
        self.calls: queue.Queue[str] = queue.Queue()
        self.gate = threading.Event()

    @sdk.Route(methods="get", resource="/things/:id")
    def get(self, message: Any, response: Any) -> None:
        self.calls.put("get")
        response(data={"id": message.param["id"], "query": message.query})

    @sdk.Route(methods="post", resource="/things/:id")
    def echo(self, message: Any, response: Any) -> None:
        response(code=201, data=message.data)

    @sdk.Route(methods="get", resource="/things/all")
    def get_all(self, message: Any, response: Any) -> None:
        self.calls.put("get_all")
        response(data="all")

    @sdk.Route(methods="post", resource="/checked", schema=Schema({Required("a"): int}))
    def checked(self, message: Any, response: Any) -> None:
        response(data=message.data)

    @sdk.Route(methods="put", resource="/broken/:how")
    def broken(self, message: Any, response: Any) -> None:
        how = message.param["how"]
        if how in RAISED:
            raise RAISED[how]
        if how == "unserialisable":
            response(data=object())
        if how == "nan":
            response(data=float("nan"))
        if how == "large":
            response(data="x" * 1_100_000)
        if how == "twice":
            response(data=1)
            response(data=2)
        if how == "after":
            response(data=1)
            raise KeyError("secret")

    @sdk.Route(methods="get", resource="/busy")
    def busy(self, message: Any, response: Any) -> None:
        self.calls.put("busy")
        self.gate.wait(60)
        response()

    @sdk.Route(methods="put", resource="/things/:id")
    def event(self, message: Any) -> None:
        self.calls.put("event")


def described(**settings: Any) -> sdk.Bundle:
    """What the SDK reads from bundle.json, with these settings."""
    bundle = sdk.Bundle(load=False)
    bundle.profile = {**PROFILE, **settings}
    return bundle


class Bench:
    """A bundle on a dead link with its threads running."""

    def __init__(self, kind: type[Steady] = Steady, **settings: Any) -> None:
        self.link = DeadLink()
        self.bundle: Any = kind(bundle=described(**settings), connection=self.link)
        self.bundle._create_thread_pool()
        self.threads = [thread for thread, _ in self.bundle.thread_list]
        self._ids = itertools.count(1)

    def deliver(self, message: Message | bytes) -> None:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.bundle.on_sanji_message(None, None, SimpleNamespace(payload=payload))

    def ask(self, method: Any, resource: Any, **more: Any) -> Message:
        """Deliver a request and return its answer; ten seconds without one are a failure."""
        message_id = next(self._ids)
        self.deliver({"id": message_id, "tunnel": "t", "method": method, "resource": resource, **more})
        return self.answer(message_id)

    def answer(self, message_id: Any = None, timeout_s: float = 10) -> Message:
        answer = self.link.published.get(timeout=timeout_s)
        assert message_id is None or answer["id"] == message_id
        return answer

    def occupy(self, handlers: int) -> None:
        """So many handlers are busy until the gate is opened, with the requests 100, 101 and so on."""
        for number in range(handlers):
            self.deliver({"id": 100 + number, "method": "get", "resource": "/busy"})
            assert self.bundle.calls.get(timeout=10) == "busy"

    def silent(self) -> bool:
        """Whether nothing is published for a while."""
        with suppress(queue.Empty):
            self.link.published.get(timeout=0.3)
            return False
        return True

    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)

    def close(self) -> None:
        self.bundle.gate.set()
        self.bundle.stop()
        assert self.alive() == 0
