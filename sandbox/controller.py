"""A stand-in for the Sanji controller: routing.py's rules plus registration, on an MQTT connection.

``python -m sandbox.controller --port N`` runs one in the foreground. It behaves as sanji-controller 1.6.2 was
seen to behave; like that one it forgets every registration when it ends.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TypedDict, TypeGuard, Unpack

import paho.mqtt.client as mqtt

from sandbox.broker import Broker
from sandbox.process import Process
from sandbox.routing import (
    NAME_LIMIT,
    RESOURCE_LIMIT,
    ROLE_LIMIT,
    Component,
    Message,
    Outgoing,
    Registry,
    Router,
    answer_to,
    cut,
    is_complete,
    is_number,
    parse,
)

TOPIC = "/controller"
REGISTRATION = "/controller/registration"
DEPENDENCY = "/controller/resource/dependency"
NO_QUERY = {
    "message": "query forbidden",
    "log": "only allow with query string '?resource=[identifier]'",
}
BUILT_IN_TTL_S = 10
REGISTRATION_S = 0.045  # then each takes 0.045 to 0.09 s, as the real one's, whatever broker it is
RECURSION_LIMIT = 20_000  # Python's default of 1,000 would stop at half of the 2,048 levels that must pass


class Controller:
    """The controller without its connection: bytes and the time in, messages to publish out.

    As in the real one registration is a model like any other: a request for it is published to its own topic,
    and its answer comes back over the bus. So two registrations at the same time get one 200 and a 423.

    Args:
        new_tunnel: gives the topics for components that register; None: nine or ten random digits.
    """

    def __init__(self, new_tunnel: Callable[[], str] | None = None) -> None:
        self._new_tunnel = new_tunnel or (lambda: str(random.randrange(10**8, 2**31)))
        self.registry = Registry()
        self._router = Router(self.registry)
        self._services = {REGISTRATION: self._registration, DEPENDENCY: self._dependency}
        for name, resources in (
            ("registration", (REGISTRATION, f"{REGISTRATION}/+")),
            ("dependency", (DEPENDENCY, f"{DEPENDENCY}/+")),
        ):
            built_in = Component(
                name=name, role="model", resources=resources, tunnel=resources[0], ttl_s=BUILT_IN_TTL_S
            )
            self.registry.add(built_in)

    def handle(self, topic: str, raw: bytes) -> Outgoing:
        """Take one message from one of the three topics and return what is to be published."""
        message = parse(raw)
        if message is None:
            return []
        if topic == TOPIC:
            return self._router.handle(message)
        if not is_complete(message):
            return []
        return [(TOPIC, self._services[topic](message))]

    def tick(self, now_s: float) -> Outgoing:
        """Return the 408 answers of the requests whose ttl is over."""
        return self._router.tick(now_s)

    def _registration(self, request: Message) -> Message:
        method = request["method"].lower()
        if method not in ("post", "delete"):
            return answer_to(request, 405, {"message": "method not allowed"})
        data = request.get("data")
        if method == "post" and not isinstance(data, dict):
            return _wrong(request, "Need 'data'")
        context = data if isinstance(data, dict) else {}
        path = cut(request["resource"], RESOURCE_LIMIT)
        if path == REGISTRATION:
            name = context.get("name")
        elif path.startswith(f"{REGISTRATION}/"):
            name = path.removeprefix(f"{REGISTRATION}/")
        else:
            return _wrong(request, "'resource' didn't match")
        if not _is_text(name):
            return _wrong(request, "no 'name'")
        if method == "delete":
            return self._deregister(request, name)
        fault = _fault(context)
        return _wrong(request, fault) if fault else self._register(request, name, context)

    def _register(self, request: Message, name: str, context: Message) -> Message:
        resources = _texts(context["resources"])
        if not resources:  # neither a text nor an array
            return answer_to(request, 500, {"message": "internal server error"})
        component = Component(
            name=cut(name, NAME_LIMIT),
            role=cut(context["role"], ROLE_LIMIT),
            resources=tuple(cut(resource, RESOURCE_LIMIT) for resource in resources),
            tunnel=self._new_tunnel(),
            ttl_s=int(context["ttl"]),
            hook=tuple(cut(hooked, NAME_LIMIT) for hooked in _texts(context.get("hook"))),
        )
        if any(map(self._router.is_resource_locked, component.resources)):
            return answer_to(request, 423, {"message": "the resource is locked"})
        if component.name in self.registry:
            return answer_to(request, 403, {"message": "component had beed already registered"})
        self.registry.add(component)
        return answer_to(request, 200, {"tunnel": component.tunnel})

    def _deregister(self, request: Message, name: str) -> Message:
        component = self.registry.get(name)
        if component is not None:
            if self._router.is_locked(component):
                return answer_to(request, 423, {"message": "resoures is locked"})
            self.registry.remove(component)
        return answer_to(request, 200)

    def _dependency(self, request: Message) -> Message:
        """Answer who owns a resource: the resources of its models and of those that hook them."""
        if request["method"].lower() != "get":
            return answer_to(request, 405, {"message": "method not allowed"})
        path = cut(request["resource"], RESOURCE_LIMIT)  # so the resource asked for has 982 bytes at most
        if path == DEPENDENCY:
            data = {"message": "method not allowed", "log": "not support read capability"}
            return answer_to(request, 405, data)
        query = f"{DEPENDENCY}?resource="
        resource = path.removeprefix(query) if path.startswith(query) else ""
        if not resource:
            return answer_to(request, 403, NO_QUERY)
        matched = self.registry.match(resource)
        if not matched:
            return answer_to(request, 404, {"message": "resource had not been registered"})
        levels = self.registry.levels(self.registry.listeners(matched, "model"))
        owned = self.registry.owned([model for level in levels for model in level])
        return answer_to(request, 200, {"resources": owned})


def _wrong(request: Message, log: str) -> Message:
    return answer_to(request, 400, {"message": "wrong register context", "log": log})


def _fault(context: Message) -> str | None:
    """Say what is wrong with what a component registers, beside its name; None: nothing."""
    faults = {
        "need 'description'": not _is_text(context.get("description")),
        "need 'role'": not _is_text(context.get("role")),
        "empty 'hook'": _is_empty(context.get("hook", [])) and context.get("hook", []) != [],
        "need 'ttl'": not is_number(context.get("ttl")),
        "Need 'resources'": "resources" not in context,
        "empty 'resources'": _is_empty(context.get("resources")),
    }
    return next((fault for fault, there in faults.items() if there), None)


def _is_empty(value: object) -> bool:
    """Return whether a text is empty, or an array has no members or one that is no text or an empty one."""
    return value == "" or (isinstance(value, list) and not (value and all(map(_is_text, value))))


def _texts(value: object) -> list[str]:
    """Return the texts of an array, or the one that stands in its place; of anything else none."""
    return [each for each in (value if isinstance(value, list) else [value]) if _is_text(each)]


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != ""


class Connection:
    """The controller's MQTT connection; everything happens in the thread that calls `run`.

    Args:
        indent: spaces of indentation in every message published; 0: compact. The real controller uses 4.
        publish_qos: QoS of every message published.
        refresh_s: most seconds between two looks at the ttls.
        reconnect_s: seconds of sleep before each attempt to connect again; registrations are kept.
        registration_s: seconds that a registration or its removal takes; they come one after another, and
            whoever asks for another one meanwhile is answered 423.
    """

    def __init__(
        self,
        controller: Controller,
        host: str,
        port: int,
        *,
        refresh_s: float = 1,
        publish_qos: int = 1,
        indent: int = 4,
        reconnect_s: float = 5,
        registration_s: float = 0,
    ) -> None:
        self._controller = controller
        self._address = (host, port)
        self._refresh_s = refresh_s
        self._publish_qos = publish_qos
        self._reconnect_s = reconnect_s
        self._registration_s = registration_s
        self._registrations: deque[tuple[float, bytes]] = deque()  # when each is to be answered
        self._connections = 0
        separators = None if indent else (",", ":")
        self._encode = json.JSONEncoder(
            ensure_ascii=False, check_circular=False, indent=indent or None, separators=separators
        ).encode
        self._client = mqtt.Client("controller")
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        if publish_qos < 2:
            # With a limit paho looks through all waiting messages at each acknowledgement. With QoS 2 it
            # stays, as an untuned mosquitto drops what is beyond 20.
            self._client.max_inflight_messages_set(0)

    def run(self) -> None:
        """Connect and route until an exception ends it."""
        self._connect()
        while True:
            code = self._client.loop(self._pause_s())
            if code != mqtt.MQTT_ERR_SUCCESS:
                print(f"connection lost: {mqtt.error_string(code)}", flush=True)
                time.sleep(self._reconnect_s)
                self._connect()
            now_s = time.monotonic()
            self._publish(self._controller.tick(now_s))
            while self._registrations and self._registrations[0][0] <= now_s:
                self._handle(REGISTRATION, self._registrations.popleft()[1])

    def _pause_s(self) -> float:
        """Return how long nothing has to be done unless a message comes."""
        if not self._registrations:
            return self._refresh_s
        return max(0.0, min(self._refresh_s, self._registrations[0][0] - time.monotonic()))

    def _connect(self) -> None:
        while True:
            try:
                self._client.connect(*self._address)
            except OSError as error:
                print(f"cannot connect to {self._address[0]}:{self._address[1]}: {error}", flush=True)
                time.sleep(self._reconnect_s)
            else:
                self._client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return

    def _on_connect(self, client: mqtt.Client, _userdata: object, _flags: object, code: int) -> None:
        if code == mqtt.CONNACK_ACCEPTED:
            client.subscribe([(TOPIC, 2), (REGISTRATION, 2), (DEPENDENCY, 2)])

    def _on_subscribe(self, _client: mqtt.Client, _userdata: object, _mid: int, _granted: object) -> None:
        self._connections += 1
        again = f" again, connection {self._connections}" if self._connections > 1 else ""
        print(f"controller ready{again}", flush=True)

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        if message.retain:
            return
        if message.topic == REGISTRATION and self._registration_s:
            self._registrations.append((time.monotonic() + self._registration_s, message.payload))
        else:
            self._handle(message.topic, message.payload)

    def _handle(self, topic: str, payload: bytes) -> None:
        try:
            self._publish(self._controller.handle(topic, payload))
        except Exception:  # noqa: BLE001 - one message must not end the controller; paho would swallow or die of it
            traceback.print_exc()

    def _publish(self, outgoing: Outgoing) -> None:
        for topic, message in outgoing:
            payload = self._encode(message).encode()
            try:
                self._client.publish(topic, payload, self._publish_qos)
            except ValueError:  # a tunnel that is no topic, for example with a wildcard in it
                print(f"cannot publish to {topic!r}", flush=True)


class Options(TypedDict, total=False):
    """What a controller may be started with: the words of the command line, where each is described."""

    refresh_ms: int
    publish_qos: int
    indent: int  #: the stand-in's only
    reconnect_s: float  #: the stand-in's only; the real one always sleeps 5 s
    registration_s: float  #: the stand-in's only; the real one's time depends on the broker


#: The options that sanji-controller has too.
REAL_OPTIONS = {"refresh_ms": "-i", "publish_qos": "-Q"}


def real_controller() -> str | None:
    """Return the path of the real sanji-controller, None when the stand-in takes its place.

    The environment variable ``SANDBOX_CONTROLLER`` names it.
    """
    return os.environ.get("SANDBOX_CONTROLLER") or None


def controller_process(broker: Broker, **options: Unpack[Options]) -> Process:
    """Return a controller for this broker, not started yet: the stand-in, or what `real_controller` says.

    The real one is not given the options that it does not have.
    """
    given = [(name, str(value)) for name, value in options.items()]
    binary = real_controller()
    if binary is None:
        words = [word for name, value in given for word in ("--" + name.replace("_", "-"), value)]
        address = ("--host", broker.host, "--port", broker.port)
        return Process.module("controller", "sandbox.controller", *address, *words, ready="controller ready")
    words = [word for name, value in given if name in REAL_OPTIONS for word in (REAL_OPTIONS[name], value)]
    # -c: a file that the machine may have in /etc would override the options.
    argv = [binary, "-f", "-c", os.devnull, "-H", broker.host, "-p", str(broker.port), *words]
    return Process("controller", argv, ready=f"topic('{DEPENDENCY}')")  # the last of its subscriptions


def main() -> None:
    """Run a controller in the foreground until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.controller", description="A stand-in for the Sanji controller."
    )
    parser.add_argument("--host", default="127.0.0.1", help="of the MQTT broker; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="of the MQTT broker; default: 1883")
    parser.add_argument(
        "--refresh-ms", type=int, default=1000, help="time between looks at the ttls; default: 1000"
    )
    parser.add_argument("--publish-qos", type=int, choices=(0, 1, 2), default=1, help="default: 1")
    parser.add_argument(
        "--indent", type=int, default=4, help="spaces in published JSON, 0: compact; default: 4"
    )
    parser.add_argument(
        "--reconnect-s", type=float, default=5, help="sleep before connecting again; default: 5"
    )
    parser.add_argument(
        "--registration-s",
        type=float,
        default=REGISTRATION_S,
        help="how long a registration takes, one after another; default: %(default)s, as the real one's",
    )
    options = parser.parse_args()
    sys.setrecursionlimit(RECURSION_LIMIT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    connection = Connection(
        Controller(),
        options.host,
        options.port,
        refresh_s=options.refresh_ms / 1000,
        publish_qos=options.publish_qos,
        indent=options.indent,
        reconnect_s=options.reconnect_s,
        registration_s=options.registration_s,
    )
    with contextlib.suppress(KeyboardInterrupt):
        connection.run()


if __name__ == "__main__":
    main()
