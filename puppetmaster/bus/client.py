"""The dispatcher's side of the bus: commands out, answers in, and who is there.

Where gateways are bridged to our broker their own controllers can be reached too, each under a topic of its
own, and their bridges say who is there: such status topics are watched.

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
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.bus import visit
from puppetmaster.bus.connection import MESSAGE_LIMIT_BYTES as READ_LIMIT_BYTES
from puppetmaster.bus.connection import Connection, Listener, Receipt, Received
from puppetmaster.bus.credentials import Credentials
from puppetmaster.bus.limit import Limit
from puppetmaster.clock import Clock
from puppetmaster.model import reply
from puppetmaster.model.message import (
    DEFAULT_CAPACITY,
    DEPENDENCY,
    MESSAGE_LIMIT_BYTES,
    Capacity,
    Outgoing,
    Tried,
    direct_tunnel,
    is_direct_tunnel,
)
from puppetmaster.model.reply import Reply
from puppetmaster.settings import Settings
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.bus.client")

#: Where models ask to be registered. The controller's own topic: whoever may read it sees who comes.
REGISTRATION = "/controller/registration"
#: So many probes in a row without an answer, and the controller counts as gone.
MISSED_PROBES = 3
#: How long ``stop`` waits for each thread.
STOP_S = 1.0
#: Tunnels of gateways that are kept in mind. With more of them each is subscribed to again when it is used.
TUNNELS = 200_000
#: Longer names of gateways than this do not fit into a resource (api.md, section 2).
NAME_LIMIT = 1023
#: What a bridge publishes about itself, retained (mosquitto.conf(5), notifications).
STATUSES = {b"1": True, b"0": False, b"": None}
#: Ids of questions: clear of request ids (from 2^31) and of the SDK's (below 655,351).
FIRST_QUESTION_ID, LAST_QUESTION_ID = 2**30, 2**31 - 1
_QUESTION_IDS = LAST_QUESTION_ID - FIRST_QUESTION_ID


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The connection to the broker came up or went down; then these messages of ours have not left.

    ``tried``: the message that it ended at, perhaps for it. ``capacity``: how long messages may be now.
    """

    up: bool
    unsent: tuple[int, ...] = ()
    tried: Tried | None = None
    capacity: Capacity = DEFAULT_CAPACITY


@dataclass(frozen=True, slots=True)
class Room:
    """Much of what was sent was waiting for the broker to take it, and now it is little."""


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
class ControllerKnows:
    """Asked at ``asked_s``, as ``prove`` wanted it to be, the controller knew us."""

    asked_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """Whether the controller still waits for the answer to a message, for which ``check`` asked."""

    message: int
    held: bool


@dataclass(frozen=True, slots=True)
class Registering:
    """A model asks the controller to register it with these resources; it may yet be refused."""

    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer came to our tunnel; once it is on disk, its ``receipt`` is to be acknowledged.

    ``tunnel`` is the one of the gateway that sent it directly; empty: it came through our own controller.
    """

    message: int
    answer: Reply
    receipt: Receipt | None = None
    tunnel: str = ""
    #: About how much memory it takes: to be released when it is not there any more.
    size_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Owners:
    """All resources of the owner of a destination; None: the controller knows no owner."""

    destination: str
    resources: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class BridgeChanged:
    """A gateway's bridge is connected to our broker, or not; None: nothing says so any more.

    ``retained``: that was so before we looked.
    """

    gateway: str
    connected: bool | None
    retained: bool = False


@dataclass(frozen=True, slots=True)
class SubscriptionsRefused:
    """The broker does not let us subscribe: to bridges' status topics, or to tunnels of gateways."""

    presence: bool = False
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """What ``sync`` asked for: whatever was on its way to us before that is here."""


BusEvent = (
    LinkChanged
    | Room
    | ControllerChanged
    | ControllerForgot
    | ControllerKnows
    | Held
    | Registering
    | Answered
    | Owners
    | BridgeChanged
    | SubscriptionsRefused
    | Synced
)


class BusClient:
    """One MQTT connection with two tunnels of its own: for answers, and for what the controller is asked.

    The ``listener`` is called on the network thread (``pm-bus``) or the watching one (``pm-watch``) with what
    happened, in order; it must not block and must not call back.

    ``limit`` learns at each connect what the broker carries.
    """

    def __init__(
        self,
        settings: Settings,
        installation: str,
        resource: str,
        listener: Callable[[Sequence[BusEvent]], None],
        clock: Clock,
    ) -> None:
        """Raises SettingsError."""
        self.tunnel = f"puppetmaster/{installation}"
        self.dropped = 0
        self._address = f"{settings.broker_host}:{settings.broker_port}"
        self._asking = f"{self.tunnel}/ask"
        self._resource = resource
        self._presence = settings.presence_topics
        self._statuses = [_status_topic(pattern) for pattern in self._presence]
        self._tunnels: dict[str, None] = {}  # of gateways, that were subscribed to
        self._probe_interval_s = settings.probe_interval_s
        self._listener = listener
        self._clock = clock
        #: How long messages may be.
        self.limit = Limit(settings.broker_limit_bytes)
        self._ids = count(random.randrange(_QUESTION_IDS))
        self._lock = threading.Lock()  # guards _questions, _probes and _tunnels
        self._questions: dict[int, str] = {}
        self._probes: dict[int, float] = {}
        self._wanted: set[int] = set()  # probes whose good answer is told, too
        self._known_s: float | None = None
        self._sync_s: float | None = None  # since when a Synced is wanted
        self._answers_at_all = False
        self._stopping = threading.Event()
        address, login = (settings.broker_host, settings.broker_port), Credentials.of(settings)
        self._ask_limit = partial(visit.limit_bytes, address, login, f"puppetmaster-{installation}-limit")
        self._link = Connection(
            address,
            login,
            f"puppetmaster-{installation}",
            [(self.tunnel, 1), (self._asking, 0)],
            Listener(
                self._came_up, self._went_down, self._take_all, self._refused, lambda: self._tell([Room()])
            ),
        )
        self._watcher = Vital(target=self._watch, name="pm-watch")

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._link.up

    @property
    def waiting_bytes(self) -> int:
        """How much of what was sent waits in memory until the broker takes it. ``Room`` tells its end."""
        return self._link.waiting_bytes

    @property
    def reason(self) -> str | None:
        """Why there is no connection to the broker, or none that lasts, with the cure; None: it stands."""
        reason = self._link.reason
        if reason is None or self._link.up:
            return reason
        return f"there is no connection to the broker at {self._address}: {reason}"

    @property
    def known_s(self) -> float | None:
        """When the controller was asked last that knew us; None: never, or it has forgotten us since."""
        return self._known_s

    @property
    def threads(self) -> tuple[Vital, ...]:
        """Those that run from ``start`` to ``stop``."""
        return self._link.thread, self._watcher

    def start(self) -> None:
        """Connect, for as long as it takes, and stay connected."""
        self._link.start()
        self._watcher.start()

    def stop(self) -> None:
        """Disconnect. The broker goes on keeping the answers that come."""
        self._stopping.set()
        self._link.stop(STOP_S)
        self._watcher.join(STOP_S)

    def send(self, commands: Sequence[Outgoing]) -> bool:
        """Hand messages to the controllers, in order. False: there is no connection, none has left."""
        self._expect([command.tunnel for command in commands if command.tunnel])
        return self._link.send(commands)

    def expect(self, destinations: Iterable[str]) -> None:
        """These gateways may answer directly, though nothing was sent to them since the start."""
        self._expect([direct_tunnel(self.tunnel, destination) for destination in destinations])

    def _expect(self, tunnels: Sequence[str]) -> None:
        with self._lock:
            new = [tunnel for tunnel in dict.fromkeys(tunnels) if tunnel not in self._tunnels]
            if len(self._tunnels) + len(new) > TUNNELS:
                self._tunnels.clear()
            self._tunnels.update(dict.fromkeys(new))
        if new:
            self._link.subscribe([(tunnel, 1) for tunnel in new])  # without a connection: when there is one

    def tell(self, payload: bytes) -> bool:
        """Hand the controller an event. False: there is no connection."""
        return self._link.send([Outgoing(0, payload)])

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """The answers of these receipts are on disk: the broker need not keep them any more."""
        self._link.acknowledge(receipts)

    def release(self, size_bytes: int) -> None:
        """Answers of this size have been taken in: there is room for others."""
        self._link.release(size_bytes)

    def ask(self, destinations: Iterable[str]) -> None:
        """Ask the controller who owns ``/remote/<destination>``; an ``Owners`` event answers each."""
        questions = {self._next_id(): destination for destination in destinations}
        with self._lock:
            self._questions.update(questions)
        asked = [self._question(id_, f"/remote/{destination}") for id_, destination in questions.items()]
        if asked and not self._link.send(asked):
            with self._lock:
                for id_ in questions:
                    self._questions.pop(id_, None)

    def sync(self) -> None:
        """Tell with a ``Synced`` when all is here that is on its way to us now.

        It goes to the controller and back, behind all that. Of what the broker holds back until something is
        acknowledged only the first is here then. Where there is no connection, it comes with the next one.
        """
        self._sync_s = self._clock.now_s()
        self._probe()

    def check(self, messages: Iterable[int]) -> None:
        """Ask the controller whether it still waits for the answers to these; a ``Held`` event answers each.

        It is asked under the same id: it refuses an id that it has in flight, and does not disturb that.
        """
        asked = [self._question(message, self._resource) for message in messages]
        self._link.send(asked)

    def prove(self) -> None:
        """Ask the controller whether it knows us: ``ControllerKnows`` or ``ControllerForgot`` answers."""
        self._probe(wanted=True)

    def _next_id(self) -> int:
        return FIRST_QUESTION_ID + next(self._ids) % _QUESTION_IDS

    def _question(self, id_: int, resource: str) -> Outgoing:
        asked = {"id": id_, "method": "get", "resource": DEPENDENCY + resource, "tunnel": self._asking}
        return Outgoing(0, jsoncodec.encode({**asked, "data": {}}))

    # -- the network thread -----------------------------------------------------------------------

    def _came_up(self) -> None:
        if (limit_bytes := self._ask_limit()) is not None:  # before anything is sent
            self.limit.learn(limit_bytes)
        log.info("connected to the broker at %s", self._address, extra={"action": "bus_up"})
        with self._lock:
            tunnels = [(tunnel, 1) for tunnel in self._tunnels]
        # First of all: who is away is known before anything is sent, and no answer comes too early.
        watched = [(pattern, 0) for pattern in (*self._presence, REGISTRATION)]
        self._link.subscribe([*watched, *tunnels])
        self._tell([LinkChanged(up=True, capacity=self.limit.capacity)])
        self._probe()

    def _went_down(self, unsent: tuple[int, ...], tried: Tried | None) -> None:
        self._answers_at_all = False
        with self._lock:
            self._questions.clear()
            self._probes.clear()
            self._wanted.clear()
        if not self._stopping.is_set():
            log.warning("lost the broker at %s", self._address, extra={"action": "bus_down"})
        self._tell([LinkChanged(up=False, unsent=unsent, tried=tried)])

    def _refused(self, topics: tuple[str, ...]) -> None:
        refused = SubscriptionsRefused(
            presence=any(topic in self._presence for topic in topics),
            direct=any(map(is_direct_tunnel, topics)),
        )
        what = f"'{topics[0]}'" + (f" and {len(topics) - 1} more" if len(topics) > 1 else "")
        log.warning(
            "the broker refuses our subscription to %s", what, extra={"action": "subscription_refused"}
        )
        self._tell([refused])

    def _take_all(self, messages: list[Received]) -> None:
        events: list[BusEvent] = []
        done: list[Receipt] = []
        for message in messages:
            try:
                told = self._take(message)
            except ValueError as fault:
                told = self._take_garbled(message, str(fault))
            except Exception:
                log.exception("a message on %s cannot be read", message.topic)
                told = self._take_garbled(message, "it cannot be read")
            events += told
            if message.receipt is not None and not any(isinstance(event, Answered) for event in told):
                done.append(message.receipt)
        if done:
            self._link.acknowledge(done)
        if events:
            # Before it is told: whoever takes it may be quick.
            self._link.hold(sum(event.size_bytes for event in events if isinstance(event, Answered)))
            self._tell(events)

    def _take(self, received: Received) -> list[BusEvent]:
        """What a message tells the dispatcher. Raises ValueError: it cannot be read."""
        topic = received.topic
        if topic == REGISTRATION:
            return _registering(received.payload)
        for pattern in self._statuses:
            if (found := pattern.fullmatch(topic)) is not None:
                return self._take_status(found[1], received)
        if jsoncodec.values(received.payload) > MESSAGE_LIMIT_BYTES:  # as objects twenty times as much memory
            raise ValueError("it has more values than a controller passes on")
        message = jsoncodec.decode(received.payload)
        if not reply.is_answer(message):
            return self._drop(topic, "it is no answer")
        id_ = int(message["id"])
        if is_direct_tunnel(topic):
            return [self._answered(id_, reply.from_gateway(message), received)]
        if FIRST_QUESTION_ID <= id_ <= LAST_QUESTION_ID:
            return self._match(id_, message)
        if topic == self._asking and message.get("sign") == reply.CONTROLLER:
            # Anything else under this id is the gateway's answer, which took the question for its request.
            return [Held(id_, reply.read(message).refusal is reply.Refusal.ID_USED)]
        return [self._answered(id_, reply.read(message), received)]

    def _take_status(self, gateway: str, received: Received) -> list[BusEvent]:
        if received.payload not in STATUSES or len(gateway) > NAME_LIMIT:
            return self._drop(received.topic, "it is no status of a bridge")
        return [BridgeChanged(gateway, STATUSES[received.payload], received.retained)]

    def _take_garbled(self, received: Received, why: str) -> list[BusEvent]:
        """A message that cannot be read. It is an answer that came, if its id can be found all the same."""
        torn = len(received.payload) > READ_LIMIT_BYTES
        numbers = jsoncodec.numbers(received.payload, torn=torn)
        if not reply.is_answer(numbers):
            return self._drop(received.topic, why)
        if torn:
            why = f"it is longer than {READ_LIMIT_BYTES} bytes"
        return [self._answered(int(numbers["id"]), reply.garbled(why), received)]

    def _answered(self, id_: int, read: Reply, received: Received) -> Answered:
        if read.result["source"] == "puppetmaster":
            log.warning("message %s: %s", id_, read.result["message"], extra={"action": "answer_garbled"})
        tunnel = received.topic if is_direct_tunnel(received.topic) else ""
        return Answered(id_, read, received.receipt, tunnel, jsoncodec.weight(received.payload))

    def _match(self, id_: int, message: dict[str, Any]) -> list[BusEvent]:
        """The answer to a question of ours; to none that is open: nothing."""
        with self._lock:
            destination = self._questions.pop(id_, None)
            asked_s = self._probes.pop(id_, None)
            wanted = id_ in self._wanted
            self._wanted.discard(id_)
        if destination is not None:
            return [Owners(destination, _resources(message))]
        return [] if asked_s is None else self._probed(asked_s, _resources(message), wanted=wanted)

    def _drop(self, topic: str, why: str) -> list[BusEvent]:
        self.dropped += 1
        log.debug("a message on %s was dropped: %s", topic, why)
        return []

    def _tell(self, events: Sequence[BusEvent]) -> None:
        self._listener(events)

    # -- the controller watch ---------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(self._probe_interval_s):
            if self._link.up:
                self._probe()

    def _probe(self, *, wanted: bool = False) -> None:
        id_, now_s = self._next_id(), self._clock.now_s()
        with self._lock:
            if wanted:
                self._wanted.add(id_)
            missed = len(self._probes)
            if missed >= 2 * MISSED_PROBES:
                self._probes.pop(next(iter(self._probes)))
            self._probes[id_] = now_s
        if missed >= MISSED_PROBES and self._answers_at_all:
            self._answers_at_all = False
            log.warning("the controller does not answer", extra={"action": "controller_down"})
            self._tell([ControllerChanged(up=False)])
        self._link.send([self._question(id_, self._resource)])

    def _probed(self, asked_s: float, resources: tuple[str, ...] | None, *, wanted: bool) -> list[BusEvent]:
        with self._lock:
            for id_ in [id_ for id_, at_s in self._probes.items() if at_s <= asked_s]:
                del self._probes[id_]
        events: list[BusEvent] = []
        if self._sync_s is not None and asked_s >= self._sync_s:
            self._sync_s = None
            events.append(Synced())
        if not self._answers_at_all:
            self._answers_at_all = True
            events.append(ControllerChanged(up=True))
        if resources is not None and self._resource in resources:
            self._known_s = asked_s
            return [*events, ControllerKnows(asked_s)] if wanted else events
        known_s, self._known_s = self._known_s, None
        return [*events, ControllerForgot(known_s, asked_s)]


def _resources(message: dict[str, Any]) -> tuple[str, ...] | None:
    data = message.get("data")
    resources = data.get("resources") if isinstance(data, dict) else None
    if message["code"] != 200 or not isinstance(resources, list):
        return None
    return tuple(one for one in resources if isinstance(one, str)) or None


def _registering(payload: bytes) -> list[BusEvent]:
    """What a request to be registered says; of anything else nothing."""
    message = jsoncodec.decode(payload)
    method = message.get("method") if isinstance(message, dict) else None
    data = message.get("data") if method in ("post", "POST") else None
    resources = data.get("resources") if isinstance(data, dict) else None
    some = resources if isinstance(resources, list) else [resources]
    remote = tuple(one for one in some if isinstance(one, str) and one.startswith("/remote/"))
    return [Registering(remote)] if remote else []


def _status_topic(pattern: str) -> re.Pattern[str]:
    """What matches the topics of a pattern with one ``+``, and gives what stands there."""
    before, _, after = pattern.partition("+")
    return re.compile(f"{re.escape(before)}([^/]+){re.escape(after)}")
