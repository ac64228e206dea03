"""The stand-in controller without a broker, and the real one on a broker, asked in the same words."""

import itertools
import json
import queue
import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Self

import paho.mqtt.client as mqtt

from sandbox.broker import Broker
from sandbox.controller import Controller, controller_process
from sandbox.routing import Message
from tests.conftest import require

OWN_TOPICS = ("/controller", "/controller/registration", "/controller/resource/dependency")
LOCKED = {"message": "resource is locked"}
EXPIRED = {"message": "session failed due to ttl expired ."}
SIGN = ["controller"]
Sent = list[tuple[str, Message]]


class Bus(ABC):
    """A controller on a bus of its own, asked as other bundles ask it."""

    @abstractmethod
    def put(self, message: Message | bytes, topic: str = "/controller") -> Sent:
        """Publish; return what the controller published to others because of it."""

    def ask(self, method: str, resource: str, number: object = 1, **more: object) -> Sent:
        return self.put({"id": number, "method": method, "resource": resource, "tunnel": "me", **more})

    def answer(self, number: object = 1, code: object = 200, **more: object) -> Sent:
        return self.put({"id": number, "code": code, **more})

    def register(
        self, name: str, *resources: str, role: str = "model", ttl: object = 10, **more: object
    ) -> str:
        data = {
            "name": name,
            "description": "d",
            "role": role,
            "ttl": ttl,
            "resources": list(resources),
            **more,
        }
        [(_, answer)] = self.ask("post", "/controller/registration", 900, data=data)
        assert answer["code"] == 200, answer
        return str(answer["data"]["tunnel"])

    def deregister(self, name: str) -> Message:
        [(_, answer)] = self.ask("delete", "/controller/registration", 901, data={"name": name})
        return answer


class StandInBus(Bus):
    """The stand-in without a broker: it is given its own messages back, and its clock is the test's."""

    def __init__(self) -> None:
        self.controller = Controller()

    def put(self, message: Message | bytes, topic: str = "/controller") -> Sent:
        todo = [(topic, message if isinstance(message, bytes) else json.dumps(message).encode())]
        sent = []
        while todo:
            for to, answer in self.controller.handle(*todo.pop(0)):
                if to in OWN_TOPICS:
                    todo.append((to, json.dumps(answer).encode()))
                else:
                    sent.append((to, answer))
        return sent

    def tick(self, now_s: float) -> Sent:
        """Look at the ttls at this time."""
        return self.controller.tick(now_s)


class RealBus(Bus):
    """The real controller on a broker, where everything that is published can be seen."""

    MARK = "mark"
    WAIT_S = 10

    def __init__(self) -> None:
        self._parts = ExitStack()
        self._marks = itertools.count(3_000_000_000)
        self._seen: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._subscribed = threading.Event()
        self._client = mqtt.Client("everybody")
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._seen.put(
            (message.topic, message.payload)
        )

    def __enter__(self) -> Self:
        require("mosquitto")
        broker = self._parts.enter_context(Broker("mosquitto"))
        self._parts.enter_context(controller_process(broker, publish_qos=0))
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self._parts.callback(self._client.loop_stop)
        self._parts.callback(self._client.disconnect)
        self._client.subscribe("#")
        assert self._subscribed.wait(self.WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def put(self, message: Message | bytes, topic: str = "/controller") -> Sent:
        self._client.publish(topic, message if isinstance(message, bytes) else json.dumps(message))
        # The bus keeps the order: a mark comes back after what the controller sent before. Three times, as a
        # registration is sent to the controller itself, and its answer too.
        sent = []
        for _ in range(3):
            mark = {"id": next(self._marks), "method": "get", "resource": "nowhere", "tunnel": self.MARK}
            self._client.publish("/controller", json.dumps(mark))
            while (seen := self._seen.get(timeout=self.WAIT_S))[0] != self.MARK:
                if seen[0] not in OWN_TOPICS:
                    sent.append((seen[0], json.loads(seen[1])))
        return sent


def codes(sent: Sent) -> list[tuple[str, object]]:
    return [(topic, message.get("code")) for topic, message in sent]


CONTEXT = {"name": "ma", "description": "ma", "role": "model", "ttl": 10, "resources": ["/alpha/+", "/beta"]}
