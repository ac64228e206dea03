"""A client that keeps requests in flight and no state at all: what the bus can do, to compare with."""

import itertools
import json
import queue
import socket
import time
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as mqtt

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

    def _send(self, method: str, resource: str, data: Any) -> int:
        id_ = next(self.ids)
        message = {"id": id_, "method": method, "resource": resource, "tunnel": self.tunnel, "data": data}
        self._client.publish("/controller", json.dumps(message))
        return id_

    def batch(self, method: str, destinations: Sequence[str], window: int) -> float:
        """Send a command to each destination, ``window`` in flight; the seconds until the last answer.

        Raises RuntimeError when one is not answered 200.
        """
        command = {"method": method, "resource": "/system/time", "data": {}}
        begun_s = time.perf_counter()
        waiting = iter(destinations)
        for destination in itertools.islice(waiting, window):
            self._send(method, f"/remote/{destination}", command)
        for _ in destinations:
            answer = self.answers.get(timeout=60)
            if answer["code"] != 200:
                raise RuntimeError(f"expected the code 200, got {answer}")
            for destination in itertools.islice(waiting, 1):
                self._send(method, f"/remote/{destination}", command)
        return time.perf_counter() - begun_s


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
