"""A small client of the Sanji bus for tests: asks, answers, registers and listens, without the SDK."""

import itertools
import json
import queue
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt

from sandbox.broker import Broker

CONTROLLER = "/controller"
#: The real controller registers one at a time, 90 ms each: a fleet that comes back keeps it busy for seconds.
REGISTRATION_TRIES = 500

Message = dict[str, Any]
Handler = Callable[[Message], tuple[int, Any] | None]
"""Takes a request, returns code and data of the answer, or None: `BusClient.answer` does it later, or nobody.
It runs in the client's network thread and must not block."""


class BusClient:
    """One MQTT connection on the bus, with a tunnel of its own and ids counted from 1.

    A context manager: connects on entry, disconnects on exit. What a handler raises is raised again on exit.
    After a loss of the broker it connects and subscribes again by itself, within about a second.

    Args:
        broker: where to connect.
        name: the MQTT client id and the name of the network thread.
        first_id: where the ids begin, from 1 to 2^31-1; clients that share a bus need ranges of their own.
        qos: of everything published.
    """

    def __init__(self, broker: Broker, *, name: str = "", first_id: int = 1, qos: int = 0) -> None:
        self.name = name or f"test-{uuid.uuid4().hex[:12]}"
        self.tunnel = f"{self.name}-answers"
        self.ids = itertools.count(first_id)
        self.answers: queue.Queue[Message] = queue.Queue()
        """Messages on the tunnel whose id nobody waits for."""
        self._address = (broker.host, broker.port)
        self._qos = qos
        self._waiting: dict[object, Future[Message]] = {}
        self._topics: dict[str, Callable[[bytes], None]] = {}
        self._confirmed: dict[int, threading.Event] = {}  # by the number of the subscription
        self._connected = threading.Event()
        self._lock = threading.Lock()  # guards _waiting; never held while publishing
        self._faults: list[Exception] = []
        self._client = mqtt.Client(self.name)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def connect(self) -> Self:
        """Connect and wait until the tunnel is subscribed."""
        self._client.connect(*self._address)
        # Not loop_forever in a thread of our own: then disconnect() would close the socket under that thread.
        self._client.loop_start()
        if not self._connected.wait(10):
            raise TimeoutError(f"expected the broker on {self._address} to accept the connection in 10 s")
        self.subscribe(self.tunnel, self._on_answer)
        return self

    def close(self) -> None:
        """Disconnect; raises the first error of a handler, if there was one."""
        self._client.disconnect()
        self._client.loop_stop()
        if self._faults:
            raise self._faults[0]

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._faults.clear()  # the error under way is the first one
        self.close()

    # --- asking ---

    def request(self, method: str, resource: str, data: object = None, timeout_s: float = 10) -> Message:
        """Send a request through the controller and return its answer, whatever its code.

        Raises:
            TimeoutError: none came in time.
        """
        return self.ask(method, resource, data).result(timeout_s)

    def ask(self, method: str, resource: str, data: object = None, **more: object) -> "Future[Message]":
        """Send a request and return its answer to come. `data` None sends no data; `more` are further keys.

        A key ``id`` in `more` takes the place of the counter.
        """
        message: Message = {
            "id": next(self.ids),
            "method": method,
            "resource": resource,
            "tunnel": self.tunnel,
        }
        if data is not None:
            message["data"] = data
        message |= more
        future: Future[Message] = Future()
        with self._lock:
            self._waiting[message["id"]] = future
        self.send(message)
        return future

    def probe(self, timeout_s: float = 10) -> None:
        """Return when the controller has handled everything that this client sent before.

        The bus keeps the order, and the controller answers this itself.
        """
        self.request("get", "/controller/resource/dependency?resource=/", timeout_s=timeout_s)

    def send(self, message: Message | bytes, topic: str = CONTROLLER, *, retain: bool = False) -> None:
        """Publish a message as JSON, or bytes as they are."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._client.publish(topic, payload, self._qos, retain)

    # --- answering and listening ---

    def register_model(
        self,
        name: str,
        resources: list[str],
        handler: Handler,
        ttl: float = 10,
        hook: list[str] | None = None,
    ) -> str:
        """Register a model whose requests go to `handler`; return its tunnel."""

        def on_request(message: Message) -> None:
            result = handler(message)
            if result is not None:
                self.answer(message, *result)

        return self._register("model", name, resources, on_request, ttl, hook)

    def register_view(self, name: str, resources: list[str], ttl: float = 10) -> "queue.Queue[Message]":
        """Register a view; return the queue into which the events and answers that it gets are put."""
        events: queue.Queue[Message] = queue.Queue()
        self._register("view", name, resources, events.put, ttl, None)
        return events

    def deregister(self, name: str) -> Message:
        """Remove a registration; return the controller's answer."""
        return self.request("delete", "/controller/registration", {"name": name})

    def answer(self, request: Message, code: float = 200, data: object = None) -> None:
        """Answer a request; `data` None sends no data. May be called from any thread."""
        message: Message = {key: request[key] for key in ("id", "method", "resource")}
        message |= {"code": code, "sign": [self.name]}
        if data is not None:
            message["data"] = data
        self.send(message)

    def subscribe(self, topic: str, callback: Callable[[bytes], None], timeout_s: float = 10) -> None:
        """Have `callback` called with the payload of each message of a topic, in the network thread."""
        self._topics[topic] = callback
        _, number = self._client.subscribe(topic, 1)
        if not self._confirmation(number).wait(timeout_s):
            raise TimeoutError(
                f"expected the broker to confirm the subscription of {topic} in {timeout_s:g} s"
            )

    # --- the network thread ---

    def _on_connect(self, client: mqtt.Client, _userdata: object, _flags: object, _code: int) -> None:
        threading.current_thread().name = f"{self.name}-mqtt"
        client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._topics:
            client.subscribe([(topic, 1) for topic in list(self._topics)])
        self._connected.set()

    def _on_subscribe(self, _client: mqtt.Client, _userdata: object, number: int, _granted: object) -> None:
        self._confirmation(number).set()

    def _confirmation(self, number: int) -> threading.Event:
        # No lock: one held while subscribing and taken here, where paho holds its own, would be a deadlock.
        return self._confirmed.setdefault(number, threading.Event())

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        try:
            self._topics[message.topic](message.payload)
        except Exception as error:  # noqa: BLE001 - raised again by close(); paho would only log it
            self._faults.append(error)

    def _on_answer(self, payload: bytes) -> None:
        message: Message = json.loads(payload)
        with self._lock:
            future = self._waiting.pop(message.get("id"), None)
        if future is None:
            self.answers.put(message)
        else:
            future.set_result(message)

    def _register(
        self,
        role: str,
        name: str,
        resources: list[str],
        callback: Callable[[Message], None],
        ttl: float,
        hook: list[str] | None,
    ) -> str:
        data = {"name": name, "description": name, "role": role, "ttl": ttl, "resources": resources}
        data |= {"hook": hook} if hook else {}
        answer = self.request("post", "/controller/registration", data)
        pause = threading.Event()
        for _ in range(REGISTRATION_TRIES):
            if answer["code"] != 423:  # somebody else is being registered at this moment
                break
            pause.wait(0.02)
            answer = self.request("post", "/controller/registration", data)
        if answer["code"] != 200:
            raise RuntimeError(f"expected the registration of {name} to be answered 200, got {answer}")
        tunnel = str(answer["data"]["tunnel"])
        self.subscribe(tunnel, lambda payload: callback(json.loads(payload)))
        return tunnel
