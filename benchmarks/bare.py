"""A client that keeps requests in flight and no state at all: what the bus can do, to compare with."""

import itertools
import json
import queue
import socket
import time
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as mqtt

#: What every gateway is asked for, or told, by the method.
COMMAND: dict[str, Any] = {"resource": "/system/time", "data": {}}

Answers = queue.SimpleQueue[dict[str, Any]]


class BareClient:
    """One MQTT connection, one tunnel, ids from a counter."""

    def __init__(self, port: int, tunnel: str = "bare", first_id: int = 2**24) -> None:
        self.tunnel = tunnel
        self.ids = itertools.count(first_id)
        self.answers: Answers = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._client = mqtt.Client()
        self._client.on_socket_open = lambda _client, _userdata, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self._client.on_connect = lambda *_: self._client.subscribe(tunnel)
        self._client.on_subscribe = lambda *_: self._ready.put(None)
        self._client.on_message = lambda _client, _userdata, packet: self.answers.put(
            json.loads(packet.payload)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._ready.get(timeout=10)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def request(self, method: str, resource: str, data: Any = None, timeout_s: float = 60) -> dict[str, Any]:
        """One request and its answer; answers to others meanwhile are thrown away."""
        id_ = self._send(method, resource, {} if data is None else data)
        while True:
            answer = self.answers.get(timeout=timeout_s)
            if answer["id"] == id_:
                return answer

    def command(self, method: str, destination: str) -> int:
        """Send a gateway a command; the id of the message."""
        return self._send(method, f"/remote/{destination}", {"method": method, **COMMAND})

    def _send(self, method: str, resource: str, data: Any, topic: str = "/controller") -> int:
        id_ = next(self.ids)
        message = {"id": id_, "method": method, "resource": resource, "tunnel": self.tunnel, "data": data}
        self._client.publish(topic, json.dumps(message))
        return id_

    def batch(self, method: str, destinations: Sequence[str], window: int) -> float:
        """Send a command to each destination, ``window`` in flight; the seconds until the last answer.

        Raises RuntimeError when one is not answered 200.
        """
        begun_s = time.perf_counter()
        waiting = iter(destinations)
        for destination in itertools.islice(waiting, window):
            self.command(method, destination)
        for _ in destinations:
            self._next_answer()
            for destination in itertools.islice(waiting, 1):
                self.command(method, destination)
        return time.perf_counter() - begun_s

    def one_at_each(self, method: str, destinations: Sequence[str], count: int) -> float:
        """Send each destination ``count`` commands, one in flight at each; the seconds until the last answer.

        Raises RuntimeError when one is not answered 200.
        """
        begun_s = time.perf_counter()
        left = dict.fromkeys(destinations, count - 1)
        in_flight = {self.command(method, destination): destination for destination in destinations}
        while in_flight:
            destination = in_flight.pop(self._next_answer()["id"])
            if left[destination]:
                left[destination] -= 1
                in_flight[self.command(method, destination)] = destination
        return time.perf_counter() - begun_s

    def _next_answer(self) -> dict[str, Any]:
        answer = self.answers.get(timeout=60)
        if answer["code"] != 200:
            raise RuntimeError(f"expected the code 200, got {answer}")
        return answer


class DirectClient(BareClient):
    """Sends each command to the gateway's own controller, over the bridge to that gateway."""

    def __init__(self, port: int, name: str = "bare") -> None:
        super().__init__(port, tunnel=f"/{name}/remote")

    def command(self, method: str, destination: str) -> int:
        """Send a gateway a command; the id of the message."""
        return self._send(method, COMMAND["resource"], COMMAND["data"], f"/{destination}/controller")


class Subscriber(BareClient):
    """A view on ``resource``, registered with the controller; its events are put among the ``answers``."""

    def __init__(self, port: int, resource: str, name: str = "subscriber") -> None:
        super().__init__(port, tunnel=name, first_id=2**27)
        profile = {"name": name, "description": name, "role": "view", "ttl": 10, "resources": [resource]}
        answer = self.request("post", "/controller/registration", profile)
        if answer["code"] != 200:
            raise RuntimeError(f"expected the code 200 for a registration, got {answer}")
        self._client.subscribe(answer["data"]["tunnel"])
        self._ready.get(timeout=10)
