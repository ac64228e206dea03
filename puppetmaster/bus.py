"""The dispatcher's own connection to the bus: commands out, answers in, and who is there.

Beside the SDK's connection, because the SDK's timeouts, random ids and blocking calls cannot carry
a batch. Commands leave at QoS 0, which never sends twice: at QoS 1 and 2 paho sends again after a
reconnect. Answers are subscribed to at QoS 1 in a session that the broker keeps, so those that
arrive while this program restarts are still delivered.

The controller is asked every few seconds for the owner of our own resource. The answer takes no lock
and tells three things: it is there; it still knows us (after its restart it knows nobody, and tells
nobody); and, asked about ``/remote/<destination>``, which destinations share a write lock.
"""

import logging
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import paho.mqtt.client as mqtt

from puppetmaster import answer, wire
from puppetmaster.answer import Answer
from puppetmaster.clock import Clock

log = logging.getLogger("sanji.puppetmaster.bus")

CONTROLLER = "/controller"
DEPENDENCY = "/controller/resource/dependency?resource="
KEEPALIVE_S = 20
#: So many probes in a row without an answer, and the controller counts as gone.
MISSED_PROBES = 3
#: Ids of questions: clear of request ids (from 2^31) and of the SDK's (below 655,351).
FIRST_QUESTION_ID, LAST_QUESTION_ID = 2**30, 2**31 - 1


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The connection to the broker came up or went down."""

    up: bool


@dataclass(frozen=True, slots=True)
class ControllerChanged:
    """The controller answers, or does not any more."""

    up: bool


@dataclass(frozen=True, slots=True)
class ControllerForgot:
    """Asked at ``asked_s`` the controller did not know us; at ``known_s`` (None: never yet) it did."""

    known_s: float | None
    asked_s: float


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer came to our tunnel."""

    message: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Owners:
    """All resources of the owner of a destination; None: the controller knows no owner."""

    destination: str
    resources: tuple[str, ...] | None


BusEvent = LinkChanged | ControllerChanged | ControllerForgot | Answered | Owners


class Bus:
    """One MQTT connection with a tunnel of its own. ``listener`` gets every ``BusEvent``.

    ``login`` tells the MQTT client who it is. The listener is called on the network thread (``pm-bus``)
    or the watching one (``pm-watch``); it must not block and must not call back.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        login: Callable[[Any], None],
        installation: str,
        resource: str,
        probe_interval_s: float,
        listener: Callable[[BusEvent], None],
        clock: Clock,
    ) -> None:
        self.tunnel = f"puppetmaster/{installation}"
        self.connected = False
        self.dropped = 0
        self._address = (host, port)
        self._resource = resource
        self._probe_interval_s = probe_interval_s
        self._listener = listener
        self._clock = clock
        self._ids = count(random.randrange(FIRST_QUESTION_ID, LAST_QUESTION_ID - 2**28))
        self._lock = threading.Lock()  # guards _questions and _probes
        self._questions: dict[int, str] = {}
        self._probes: dict[int, float] = {}
        self._known_s: float | None = None
        self._answers_at_all = False
        self._stopping = threading.Event()
        self._client = mqtt.Client(client_id=f"puppetmaster-{installation}", clean_session=False)
        login(self._client)
        self._client.reconnect_delay_set(min_delay=1, max_delay=2)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_socket_open = _send_at_once
        self._threads = [
            threading.Thread(target=self._run, name="pm-bus", daemon=True),
            threading.Thread(target=self._watch, name="pm-watch", daemon=True),
        ]

    def start(self) -> None:
        """Connect, for as long as it takes, and stay connected."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Disconnect. The broker goes on keeping the answers that come."""
        self._stopping.set()
        self._client.disconnect()
        for thread in self._threads:
            thread.join(timeout=1.0)

    def send(self, payload: bytes) -> bool:
        """Hand one message to the controller. False: there is no connection, it has not left."""
        if not self.connected:
            return False
        return bool(self._client.publish(CONTROLLER, payload, qos=0).rc == mqtt.MQTT_ERR_SUCCESS)

    def ask(self, destination: str) -> None:
        """Ask the controller who owns ``/remote/<destination>``; an ``Owners`` event answers."""
        id_ = self._next_id()
        with self._lock:
            self._questions[id_] = destination
        if not self._send_question(id_, f"/remote/{destination}"):
            with self._lock:
                self._questions.pop(id_, None)

    def _next_id(self) -> int:
        return FIRST_QUESTION_ID + next(self._ids) % (LAST_QUESTION_ID - FIRST_QUESTION_ID)

    def _send_question(self, id_: int, resource: str) -> bool:
        question = {"id": id_, "method": "get", "resource": DEPENDENCY + resource, "tunnel": self.tunnel}
        return self.send(wire.encode({**question, "data": {}}))

    # -- the network thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._client.connect(*self._address, keepalive=KEEPALIVE_S)
                self._client.loop_forever()
            except (OSError, ValueError) as error:
                log.debug("no connection to the broker at %s:%s: %s", *self._address, error)
            self._stopping.wait(1.0)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, code: int) -> None:
        del userdata, flags
        if code != 0:
            log.error("the broker refuses the connection: %s", mqtt.connack_string(code))
            return
        client.subscribe(self.tunnel, qos=1)
        self.connected = True
        log.info("connected to the broker at %s:%s", *self._address, extra={"action": "bus_up"})
        self._tell(LinkChanged(up=True))
        self._probe()

    def _on_disconnect(self, client: Any, userdata: Any, code: int) -> None:
        del client, userdata
        if not self.connected:
            return
        self.connected = False
        self._answers_at_all = False
        with self._lock:
            self._questions.clear()
            self._probes.clear()
        if not self._stopping.is_set():
            log.warning("lost the broker: %s", mqtt.error_string(code), extra={"action": "bus_down"})
        self._tell(LinkChanged(up=False))

    def _on_message(self, client: Any, userdata: Any, packet: Any) -> None:
        del client, userdata
        try:
            self._take(packet.payload)
        except Exception:
            log.exception("a message on %s was dropped", self.tunnel)

    def _take(self, payload: bytes) -> None:
        if len(payload) > 4 * wire.MESSAGE_LIMIT_BYTES:
            self._drop(f"it is {len(payload)} bytes long")
            return
        try:
            message = wire.decode(payload)
        except wire.Uncarriable as fault:
            self._take_garbled(payload, str(fault))
            return
        except ValueError as fault:
            self._drop(f"it is not JSON: {fault}")
            return
        if not answer.is_answer(message):
            self._drop("it is no answer")
            return
        self._match(int(message["id"]), message)

    def _take_garbled(self, payload: bytes, fault: str) -> None:
        """NaN and the like are not JSON, but one can still tell whose answer they came in."""
        try:
            message = wire.decode_loosely(payload)
        except ValueError as error:
            self._drop(f"it is not JSON: {error}")
            return
        if answer.is_answer(message):
            self._tell(Answered(int(message["id"]), answer.garbled(fault)))
        else:
            self._drop("it is no answer")

    def _match(self, id_: int, message: dict[str, Any]) -> None:
        with self._lock:
            destination = self._questions.pop(id_, None)
            asked_s = self._probes.pop(id_, None)
        if destination is not None:
            self._tell(Owners(destination, _resources(message)))
        elif asked_s is not None:
            self._probed(asked_s, _resources(message))
        else:
            self._tell(Answered(id_, answer.read(message)))

    def _drop(self, why: str) -> None:
        self.dropped += 1
        log.debug("a message on %s was dropped: %s", self.tunnel, why)

    def _tell(self, event: BusEvent) -> None:
        self._listener(event)

    # -- the controller watch ---------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(self._probe_interval_s):
            if self.connected:
                self._probe()

    def _probe(self) -> None:
        id_, now_s = self._next_id(), self._clock.now_s()
        with self._lock:
            missed = len(self._probes)
            if missed >= 2 * MISSED_PROBES:
                self._probes.pop(next(iter(self._probes)))
            self._probes[id_] = now_s
        if missed >= MISSED_PROBES and self._answers_at_all:
            self._answers_at_all = False
            log.warning("the controller does not answer", extra={"action": "controller_down"})
            self._tell(ControllerChanged(up=False))
        self._send_question(id_, self._resource)

    def _probed(self, asked_s: float, resources: tuple[str, ...] | None) -> None:
        with self._lock:
            for id_ in [id_ for id_, at_s in self._probes.items() if at_s <= asked_s]:
                del self._probes[id_]
        if not self._answers_at_all:
            self._answers_at_all = True
            self._tell(ControllerChanged(up=True))
        if resources is not None and self._resource in resources:
            self._known_s = asked_s
            return
        known_s, self._known_s = self._known_s, None
        self._tell(ControllerForgot(known_s, asked_s))


def _resources(message: dict[str, Any]) -> tuple[str, ...] | None:
    data = message.get("data")
    resources = data.get("resources") if isinstance(data, dict) else None
    if message["code"] != 200 or not isinstance(resources, list):
        return None
    return tuple(one for one in resources if isinstance(one, str)) or None


def _send_at_once(client: Any, userdata: Any, sock: socket.socket) -> None:
    """Small messages must not wait for acknowledgements of earlier ones."""
    del client, userdata
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
