"""The dispatcher's side of the bus: commands out, answers in, and who is there.

Beside the SDK's connection, because the SDK's timeouts, random ids and blocking calls cannot carry
a batch. Commands leave at QoS 0, which never sends twice. Answers are subscribed to at QoS 1 in a session
that the broker keeps, and acknowledged when they are on disk: those that arrive while this program is down,
or dies, are delivered when it is back.

The controller is asked every few seconds for the owner of our own resource. The answer takes no lock
and tells three things: it is there; it still knows us (after its restart it knows nobody, and tells
nobody); and, asked about ``/remote/<destination>``, which destinations share a write lock.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from puppetmaster import answer, mqtt, wire
from puppetmaster.answer import Answer
from puppetmaster.clock import Clock
from puppetmaster.link import Link, Listener, Receipt
from puppetmaster.login import Login
from puppetmaster.wire import Outgoing

log = logging.getLogger("sanji.puppetmaster.bus")

CONTROLLER = mqtt.Topic("/controller")
DEPENDENCY = "/controller/resource/dependency?resource="
#: So many probes in a row without an answer, and the controller counts as gone.
MISSED_PROBES = 3
#: Ids of questions: clear of request ids (from 2^31) and of the SDK's (below 655,351).
FIRST_QUESTION_ID, LAST_QUESTION_ID = 2**30, 2**31 - 1


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The connection to the broker came up or went down; then these messages of ours have not left."""

    up: bool
    unsent: tuple[int, ...] = ()


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
    """An answer came to our tunnel; once it is on disk, its ``receipt`` is to be acknowledged."""

    message: int
    answer: Answer
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Owners:
    """All resources of the owner of a destination; None: the controller knows no owner."""

    destination: str
    resources: tuple[str, ...] | None


BusEvent = LinkChanged | ControllerChanged | ControllerForgot | Answered | Owners


class Bus:
    """One MQTT connection with two tunnels of its own: for answers, and for what the controller is asked.

    The ``listener`` is called on the network thread (``pm-bus``) or the watching one (``pm-watch``) with what
    happened, in order; it must not block and must not call back.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        login: Login,
        installation: str,
        resource: str,
        probe_interval_s: float,
        listener: Callable[[Sequence[BusEvent]], None],
        clock: Clock,
    ) -> None:
        self.tunnel = f"puppetmaster/{installation}"
        self.dropped = 0
        self._address = f"{host}:{port}"
        self._asking = f"{self.tunnel}/ask"
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
        self._link = Link(
            (host, port),
            login,
            f"puppetmaster-{installation}",
            [(self.tunnel, 1), (self._asking, 0)],
            Listener(self._came_up, self._went_down, self._take_all),
        )
        self._watcher = threading.Thread(target=self._watch, name="pm-watch", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._link.up

    @property
    def reason(self) -> str | None:
        """Why there is no connection to the broker, with the cure; None while it stands."""
        reason = self._link.reason
        return reason and f"there is no connection to the broker at {self._address}: {reason}"

    def start(self) -> None:
        """Connect, for as long as it takes, and stay connected."""
        self._link.start()
        self._watcher.start()

    def stop(self) -> None:
        """Disconnect. The broker goes on keeping the answers that come."""
        self._stopping.set()
        self._link.stop(timeout_s=1.0)
        if self._watcher.ident is not None:
            self._watcher.join(timeout=1.0)

    def send(self, commands: Sequence[Outgoing]) -> bool:
        """Hand messages to the controller, in order. False: there is no connection, none has left."""
        return self._link.send(CONTROLLER, commands)

    def tell(self, payload: bytes) -> bool:
        """Hand the controller an event. False: there is no connection."""
        return self._link.send(CONTROLLER, [Outgoing(0, payload)])

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """The answers of these receipts are on disk: the broker need not keep them any more."""
        self._link.acknowledge(receipts)

    def ask(self, destinations: Iterable[str]) -> None:
        """Ask the controller who owns ``/remote/<destination>``; an ``Owners`` event answers each."""
        questions = {self._next_id(): destination for destination in destinations}
        with self._lock:
            self._questions.update(questions)
        asked = [self._question(id_, f"/remote/{destination}") for id_, destination in questions.items()]
        if asked and not self._link.send(CONTROLLER, asked):
            with self._lock:
                for id_ in questions:
                    self._questions.pop(id_, None)

    def _next_id(self) -> int:
        return FIRST_QUESTION_ID + next(self._ids) % (LAST_QUESTION_ID - FIRST_QUESTION_ID)

    def _question(self, id_: int, resource: str) -> Outgoing:
        asked = {"id": id_, "method": "get", "resource": DEPENDENCY + resource, "tunnel": self._asking}
        return Outgoing(0, wire.encode({**asked, "data": {}}))

    # -- the network thread -----------------------------------------------------------------------

    def _came_up(self) -> None:
        log.info("connected to the broker at %s", self._address, extra={"action": "bus_up"})
        self._tell([LinkChanged(up=True)])
        self._probe()

    def _went_down(self, unsent: tuple[int, ...]) -> None:
        self._answers_at_all = False
        with self._lock:
            self._questions.clear()
            self._probes.clear()
        if not self._stopping.is_set():
            log.warning("lost the broker at %s", self._address, extra={"action": "bus_down"})
        self._tell([LinkChanged(up=False, unsent=unsent)])

    def _take_all(self, messages: list[tuple[bytes | None, Receipt | None]]) -> None:
        events: list[BusEvent] = []
        done: list[Receipt] = []
        for payload, receipt in messages:
            try:
                told = self._take(payload, receipt)
            except Exception:
                log.exception("a message on %s was dropped", self.tunnel)
                told = []
            events += told
            if receipt is not None and not any(isinstance(event, Answered) for event in told):
                done.append(receipt)
        if done:
            self._link.acknowledge(done)
        if events:
            self._tell(events)

    def _take(self, payload: bytes | None, receipt: Receipt | None) -> list[BusEvent]:
        """What a message tells the dispatcher."""
        if payload is None:
            return self._drop("it is too long")
        try:
            message = wire.decode(payload)
        except wire.Uncarriable as fault:
            return self._take_garbled(payload, str(fault), receipt)
        except ValueError as fault:
            return self._drop(f"it is not JSON: {fault}")
        if not answer.is_answer(message):
            return self._drop("it is no answer")
        id_ = int(message["id"])
        if FIRST_QUESTION_ID <= id_ <= LAST_QUESTION_ID:
            return self._match(id_, message)
        return [Answered(id_, answer.read(message), receipt)]

    def _take_garbled(self, payload: bytes, fault: str, receipt: Receipt | None) -> list[BusEvent]:
        """NaN and the like are not JSON, but one can still tell whose answer they came in."""
        try:
            message = wire.decode_loosely(payload)
        except ValueError as error:
            return self._drop(f"it is not JSON: {error}")
        if not answer.is_answer(message):
            return self._drop("it is no answer")
        return [Answered(int(message["id"]), answer.garbled(fault), receipt)]

    def _match(self, id_: int, message: dict[str, Any]) -> list[BusEvent]:
        """The answer to a question of ours; to none that is open: nothing."""
        with self._lock:
            destination = self._questions.pop(id_, None)
            asked_s = self._probes.pop(id_, None)
        if destination is not None:
            return [Owners(destination, _resources(message))]
        return [] if asked_s is None else self._probed(asked_s, _resources(message))

    def _drop(self, why: str) -> list[BusEvent]:
        self.dropped += 1
        log.debug("a message on %s was dropped: %s", self.tunnel, why)
        return []

    def _tell(self, events: Sequence[BusEvent]) -> None:
        self._listener(events)

    # -- the controller watch ---------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(self._probe_interval_s):
            if self._link.up:
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
            self._tell([ControllerChanged(up=False)])
        self._link.send(CONTROLLER, [self._question(id_, self._resource)])

    def _probed(self, asked_s: float, resources: tuple[str, ...] | None) -> list[BusEvent]:
        with self._lock:
            for id_ in [id_ for id_, at_s in self._probes.items() if at_s <= asked_s]:
                del self._probes[id_]
        events: list[BusEvent] = []
        if not self._answers_at_all:
            self._answers_at_all = True
            events.append(ControllerChanged(up=True))
        if resources is not None and self._resource in resources:
            self._known_s = asked_s
            return events
        known_s, self._known_s = self._known_s, None
        return [*events, ControllerForgot(known_s, asked_s)]


def _resources(message: dict[str, Any]) -> tuple[str, ...] | None:
    data = message.get("data")
    resources = data.get("resources") if isinstance(data, dict) else None
    if message["code"] != 200 or not isinstance(resources, list):
        return None
    return tuple(one for one in resources if isinstance(one, str)) or None
