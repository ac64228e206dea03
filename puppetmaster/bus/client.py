"""The bus client: it sends commands, takes answers, and watches the controller and the gateways' bridges.

The dispatcher has this connection beside the SDK's, because the SDK's timeouts, random ids and blocking
calls cannot carry a batch. Commands leave at QoS 0, so none is sent twice. Answers are subscribed to at
QoS 1 in a session that the broker keeps, and are acknowledged when they are on disk. The broker delivers
answers that arrive while this program is down as soon as it is back.

A gateway that is bridged to our broker can also be reached directly: its controller listens on a topic of its
own. Its bridge publishes on a status topic whether it is connected; the client subscribes to those topics.

The client asks the controller every few seconds for the owner of our own resource. That question takes no
lock. An answer proves that the controller runs, and shows whether it still knows us (a controller that
restarts forgets all bundles and does not tell them). The same question about ``/remote/<destination>``
shows which destinations share a write lock.
"""

import logging
import random
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

from puppetmaster import jsoncodec
from puppetmaster.bus import nudge, visit
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
    REGISTRATION,
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

#: The controller counts as gone after this number of probes of the watch in a row without an answer.
MISSED_PROBES = 3
#: Most probes that wait for their answers. Refusals may ask for one at each turn, faster than answers come:
#: the next probe is then sent when an answer has come.
PROBES = 6
#: When the controller has not answered over a connection for this time, the connection is made anew; then
#: after twice the time, up to the last. A broker may let nothing through to one client (seen with mosquitto
#: 2.0.11: it answered our PINGREQ and wrote nothing else), and only a new connection ends that.
SILENT_FIRST_S, SILENT_LAST_S = 60.0, 960.0
#: The controller answers questions in their order. Once it has answered one, those that were asked so long
#: before are never answered: it was restarted meanwhile.
LOST_S = 1.0
#: How long ``stop`` waits for each thread.
STOP_S = 1.0
#: Number of gateways' tunnels that the client remembers as subscribed. Beyond it the client forgets all of
#: them, and subscribes to each again when it is next used.
TUNNELS = 200_000
#: Longest name of a gateway, in characters: a longer one does not fit into a resource (api.md, section 2).
NAME_LIMIT = 1023
#: The retained payloads of a bridge's status topic (mosquitto.conf(5), notifications): True is connected,
#: False is not connected, None is a status that was removed.
STATUSES = {b"1": True, b"0": False, b"": None}
#: Message ids of our questions to the controller: clear of request ids (from 2^31) and of the SDK's ids
#: (below 655,351).
FIRST_QUESTION_ID, LAST_QUESTION_ID = 2**30, 2**31 - 1
_QUESTION_IDS = LAST_QUESTION_ID - FIRST_QUESTION_ID


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection to the broker came up or went down."""

    up: bool
    #: When it went down: the ids of the messages that were handed to it and have not left.
    unsent: tuple[int, ...] = ()
    #: When it went down: the long message that was being tried, for which the broker may have ended the
    #: connection. None: no message was being tried.
    tried: Tried | None = None
    #: When it came up: how long messages may be on this connection.
    capacity: Capacity = DEFAULT_CAPACITY


@dataclass(frozen=True, slots=True)
class Room:
    """The bytes that wait for the broker to take them have become few; the dispatcher may send more."""


@dataclass(frozen=True, slots=True)
class ControllerChanged:
    """The controller has begun to answer (``up``), or has stopped answering."""

    up: bool


@dataclass(frozen=True, slots=True)
class ControllerForgot:
    """The controller says that we do not own our resource. Both times are seconds of the monotonic clock."""

    #: When the latest question was asked whose answer said that it knew us; None: there was none yet.
    known_s: float | None
    #: When the question was asked whose answer says that it does not know us.
    asked_s: float


@dataclass(frozen=True, slots=True)
class ControllerKnows:
    """The controller knew us when ``prove`` had it asked, at ``asked_s`` (monotonic clock, seconds)."""

    asked_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """The controller's reply to ``check``: whether it still waits for the answer to ``message``."""

    message: int
    held: bool


@dataclass(frozen=True, slots=True)
class Registering:
    """A model asks the controller to register it with its resources. The controller may still refuse it."""

    model: str
    #: Those below /remote.
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deregistering:
    """A model asks the controller to deregister it. The controller may still refuse it."""

    model: str


@dataclass(slots=True)
class Answered:
    """An answer has arrived on one of our tunnels."""

    #: The id of the message that it answers.
    message: Final[int]
    answer: Final[Reply]
    #: What ``acknowledge`` is given once the answer is on disk. None: it came at QoS 0.
    receipt: Final[Receipt | None] = None
    #: The tunnel of the gateway that answered directly; empty: the answer came through our own controller.
    tunnel: Final[str] = ""
    #: About how much memory the answer takes. ``release`` is given it when the answer is no longer in memory.
    size_bytes: Final[int] = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Owners:
    """The controller's reply to ``ask``: who owns a destination."""

    destination: str
    #: All resources that its owner has registered; None: the controller knows no owner.
    resources: tuple[str, ...] | None
    #: Whether it is the answer to an inquiry; see ``ask``.
    inquiry: bool = False


@dataclass(frozen=True, slots=True)
class BridgeChanged:
    """A gateway's bridge has published its status."""

    gateway: str
    #: Whether the bridge is connected to our broker; None: its status was removed from the broker.
    connected: bool | None
    #: Whether the broker had kept this status from before our subscription.
    retained: bool = False


@dataclass(frozen=True, slots=True)
class SubscriptionsRefused:
    """The broker has refused one of our subscriptions."""

    #: To a status topic of the bridges.
    presence: bool = False
    #: To a tunnel on which a gateway answers directly.
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The reply to ``sync``: all messages that were on their way to us when it was called have arrived."""


BusEvent = (
    ConnectionChanged
    | Room
    | ControllerChanged
    | ControllerForgot
    | ControllerKnows
    | Held
    | Registering
    | Deregistering
    | Answered
    | Owners
    | BridgeChanged
    | SubscriptionsRefused
    | Synced
)


class _Question(NamedTuple):
    """A question about the owner of a destination, whose answer has not come."""

    destination: str
    #: Whether it is an inquiry; see ``ask``.
    inquiry: bool
    #: When it was asked (monotonic clock).
    asked_s: float


class BusClient:
    """One MQTT connection with two tunnels: one for gateways' answers, one for answers of the controller.

    ``installation`` is the random name in our tunnels and our client id. ``resource`` is our own, for whose
    owner the controller is asked every ``probe_interval_s``. ``presence`` are the patterns of the bridges'
    status topics, each with one ``+``.

    ``listener`` is called with events in their order, on the thread ``pm-bus`` or ``pm-watch``. It must not
    block and must not call back. ``limit`` learns the broker's limit at each connect.
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
        #: Whether there has been a connection to the broker.
        self.was_connected = False
        #: Whether we may have a connection to the broker. May block.
        self.permit: Callable[[], bool] = lambda: True
        self.dropped = 0
        #: Number of commands whose answers are waited for.
        self.in_flight = 0
        self._address = f"{settings.broker_host}:{settings.broker_port}"
        self._asking = f"{self.tunnel}/ask"
        self._resource = resource
        self._presence = settings.presence_topics
        self._statuses = [_status_topic(pattern) for pattern in self._presence]
        self._tunnels: dict[str, None] = {}  # gateways' tunnels that we have subscribed to, oldest first
        self._probe_interval_s = settings.probe_interval_s
        self._listener = listener
        self._clock = clock
        #: How long messages may be.
        self.limit = Limit(settings.broker_limit_bytes)
        self._ids = count(random.randrange(_QUESTION_IDS))
        self._lock = threading.Lock()  # guards the attributes down to _sync_s, and _tunnels
        self._questions: dict[int, _Question] = {}
        self._probes: dict[int, float] = {}
        self._wanted: set[int] = set()  # ids of probes whose good answer is an event too (ControllerKnows)
        # Whether a probe that waits until another one is answered is wanted; None: no probe waits.
        self._due: bool | None = None
        self._sync_s: float | None = None  # when the Synced that is still due was asked for
        self._known_s: float | None = None
        # Held while it is decided and told whether the controller answers. Otherwise the network thread and
        # the watching thread could tell in another order than they decided, and what is wrong would stand.
        self._telling = threading.RLock()
        self._answers_at_all = False
        self._missed = 0  # probes of the watching thread in a row since the controller last answered one
        self._silent_since_s: float | None = None  # since when the controller does not answer; None: it does
        self._patience_s = SILENT_FIRST_S
        self._stopping = threading.Event()
        address, credentials = (settings.broker_host, settings.broker_port), Credentials.of(settings)
        visitor = (address, credentials, f"puppetmaster-{installation}-limit")
        self._ask_limit = partial(visit.limit_bytes, *visitor)
        self._holds_back = partial(nudge.holds_back, *visitor)
        # On the direct way our controller has no commands of ours, and there is nothing to push.
        self._may_nudge = settings.broker_push == "on" and settings.route != "direct"
        self._connection = Connection(
            address,
            credentials,
            f"puppetmaster-{installation}",
            [(self.tunnel, 1), (self._asking, 0)],
            Listener(
                self._came_up,
                self._went_down,
                self._take_all,
                self._refused,
                lambda: self._tell([Room()]),
                lambda: self.permit(),
                self._waits,
            ),
        )
        self._watcher = Vital(target=self._watch, name="pm-watch")

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._connection.up

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were sent and wait in memory until the broker takes them; ``Room`` follows."""
        return self._connection.waiting_bytes

    @property
    def reason(self) -> str | None:
        """Why there is no connection to the broker, or none that lasts, and what to do; None: it is up."""
        reason = self._connection.reason
        if reason is None or self._connection.up:
            return reason
        return f"there is no connection to the broker at {self._address}: {reason}"

    @property
    def known_s(self) -> float | None:
        """When the latest question was asked whose answer said that the controller knows us.

        Monotonic clock, seconds; None: there was none yet, or the controller has forgotten us since.
        """
        return self._known_s

    @property
    def threads(self) -> tuple[Vital, ...]:
        """The network thread and the watching thread; both run from ``start`` to ``stop``."""
        return self._connection.thread, self._watcher

    def start(self) -> None:
        """Start the threads: they connect, and connect again whenever the connection breaks."""
        self._connection.start()
        self._watcher.start()

    def stop(self) -> None:
        """Disconnect, and end the threads. The broker keeps the answers that come meanwhile."""
        self._stopping.set()
        self._connection.stop(STOP_S)
        self._watcher.join(STOP_S)

    def send(self, commands: Sequence[Outgoing]) -> bool:
        """Send commands in their order. Returns False when there is no connection: then none has left."""
        if tunnels := [command.tunnel for command in commands if command.tunnel]:
            self._expect(tunnels)
        return self._connection.send(commands)

    def expect(self, destinations: Iterable[str]) -> None:
        """Subscribe to the tunnels of gateways that an earlier process sent commands to directly."""
        self._expect([direct_tunnel(self.tunnel, destination) for destination in destinations])

    def _expect(self, tunnels: Sequence[str]) -> None:
        with self._lock:
            new = [tunnel for tunnel in dict.fromkeys(tunnels) if tunnel not in self._tunnels]
            if len(self._tunnels) + len(new) > TUNNELS:
                self._tunnels.clear()
            self._tunnels.update(dict.fromkeys(new))
        if new:
            # Returns False without a connection: ``_came_up`` subscribes to all of them.
            self._connection.subscribe([(tunnel, 1) for tunnel in new])

    def tell(self, payload: bytes) -> bool:
        """Send the controller an event. Returns False when there is no connection."""
        return self._connection.send([Outgoing(0, payload)])

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """Acknowledge answers that are on disk, so that the broker need not keep them any more."""
        self._connection.acknowledge(receipts)

    def release(self, size_bytes: int) -> None:
        """Say that received answers of this size are no longer in memory, so that more may be read."""
        self._connection.release(size_bytes)

    def ask(self, destinations: Iterable[str], *, inquiry: bool = False) -> None:
        """Ask the controller who owns ``/remote/<destination>``; an ``Owners`` event answers each.

        ``inquiry``: it is only looked whether the gateway is registered. The event says so.
        """
        now_s = self._clock.now_s()
        questions = {self._next_id(): _Question(one, inquiry, now_s) for one in destinations}
        with self._lock:
            self._questions.update(questions)
        asked = [self._question(id_, f"/remote/{one.destination}") for id_, one in questions.items()]
        if asked and not self._connection.send(asked):
            with self._lock:
                for id_ in questions:
                    self._questions.pop(id_, None)

    def sync(self) -> None:
        """Ask for a ``Synced`` event as soon as all messages that are on their way to us have arrived.

        A question goes to the controller and back, behind those messages. Messages that the broker holds back
        until earlier ones are acknowledged may still be missing then. Without a connection the event comes
        after the next connect.
        """
        with self._lock:
            self._sync_s = self._clock.now_s()
        self._probe()

    def check(self, messages: Iterable[int]) -> None:
        """Ask whether the controller still waits for the answers to these messages; a ``Held`` answers each.

        Each question has the id of its message. The controller refuses an id that it has in flight, and the
        message itself is not disturbed.
        """
        asked = [self._question(message, self._resource) for message in messages]
        self._connection.send(asked)

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
        with self._telling:
            self._silent_since_s = self._clock.now_s()
        self.was_connected = True
        if (limit_bytes := self._ask_limit()) is not None:  # before anything is sent
            self.limit.learn(limit_bytes)
        self._connection.nudges.on = self._may_nudge and self._fits(nudge.NUDGE) and self._holds_back()
        log.info("connected to the broker at %s", self._address, extra={"action": "bus_up"})
        if self._connection.nudges.on:
            log.info(
                "the broker holds small packets back, and gets large ones that push them on: set_tcp_nodelay "
                "true in its configuration makes that needless",
                extra={"action": "broker_holds_back"},
            )
        with self._lock:
            tunnels = [(tunnel, 1) for tunnel in self._tunnels]
        # Before anything is sent: so it is known which gateways are away, and no answer comes too early.
        watched = [(pattern, 0) for pattern in (*self._presence, REGISTRATION)]
        self._connection.subscribe([*watched, *tunnels])
        self._tell([ConnectionChanged(up=True, capacity=self.limit.capacity)])
        # In docs/model/takeover.pml this is the label ``barrier``, with ``EARLY_PROBE``: the dispatcher may
        # be about to send something, which then comes behind this probe. The grace after its answer covers
        # that.
        self._probe()

    def _went_down(self, unsent: tuple[int, ...], tried: Tried | None) -> None:
        with self._lock:
            self._questions.clear()
            self._probes.clear()
            self._wanted.clear()
            self._due = None
        if not self._stopping.is_set():
            log.warning("lost the broker at %s", self._address, extra={"action": "bus_down"})
        with self._telling:
            self._answers_at_all = False
            self._tell([ConnectionChanged(up=False, unsent=unsent, tried=tried)])

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
        with self._telling:
            self._take_each(messages)

    def _take_each(self, messages: list[Received]) -> None:
        events: list[BusEvent] = []
        done: list[Receipt] = []
        size_bytes = 0
        for message in messages:
            try:
                found = self._take(message)
            except ValueError as fault:
                found = self._take_garbled(message, str(fault))
            except Exception:
                log.exception("a message on %s cannot be read", message.topic)
                found = self._take_garbled(message, "it cannot be read")
            events += found
            answered = found[0] if found else None  # an answer is the only event of its message
            if isinstance(answered, Answered):
                size_bytes += answered.size_bytes
            elif message.receipt is not None:
                done.append(message.receipt)
        if done:
            self._connection.acknowledge(done)
        if events:
            # Held before the events are passed on: the dispatcher may release them at once.
            self._connection.hold(size_bytes)
            self._tell(events)

    def _take(self, received: Received) -> list[BusEvent]:
        """The events that a message stands for. Raises ValueError: the message cannot be read."""
        topic = received.topic
        if topic == REGISTRATION:
            return _registering(received.payload)
        for pattern in self._statuses:
            if (found := pattern.fullmatch(topic)) is not None:
                return self._take_status(found[1], received)
        payload = received.payload
        if len(payload) > MESSAGE_LIMIT_BYTES and jsoncodec.values(payload) > MESSAGE_LIMIT_BYTES:
            # Decoded it would take far more memory than its bytes.
            raise ValueError("it has more values than a controller passes on")
        message = jsoncodec.decode(payload)
        if not reply.is_answer(message):
            return self._drop(topic, "it is no answer")
        id_ = int(message["id"])
        if is_direct_tunnel(topic):
            return [self._answered(id_, reply.from_gateway(message), received)]
        if FIRST_QUESTION_ID <= id_ <= LAST_QUESTION_ID:
            return self._match(id_, message)
        if topic == self._asking and message.get("sign") == reply.CONTROLLER:
            # Not signed by the controller: the gateway's answer to the request that had this id in flight,
            # which came to the tunnel of our question.
            return [Held(id_, reply.read(message).refusal is reply.Refusal.ID_USED)]
        return [self._answered(id_, reply.read(message), received)]

    def _take_status(self, gateway: str, received: Received) -> list[BusEvent]:
        if received.payload not in STATUSES or len(gateway) > NAME_LIMIT:
            return self._drop(received.topic, "it is no status of a bridge")
        return [BridgeChanged(gateway, STATUSES[received.payload], received.retained)]

    def _take_garbled(self, received: Received, why: str) -> list[BusEvent]:
        """The event for a message that cannot be read: a garbled answer if its id can be found, else none."""
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
        """The events for the controller's answer to a question of ours; none when no question has this id."""
        with self._lock:
            question = self._questions.pop(id_, None)
            asked_s = self._probes.pop(id_, None)
            wanted = id_ in self._wanted
            self._wanted.discard(id_)
        if question is not None:
            return [Owners(question.destination, _resources(message), question.inquiry)]
        return [] if asked_s is None else self._probed(asked_s, _resources(message), wanted=wanted)

    def _drop(self, topic: str, why: str) -> list[BusEvent]:
        self.dropped += 1
        log.debug("a message on %s was dropped: %s", topic, why)
        return []

    def _tell(self, events: Sequence[BusEvent]) -> None:
        self._listener(events)

    def _fits(self, packet: bytes) -> bool:
        return len(packet) <= self.limit.capacity.broker_bytes

    def _waits(self) -> bool:
        return self._answers_at_all and bool(self.in_flight or self._questions)

    # -- the controller watch ---------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(self._probe_interval_s):
            if self._connection.up:
                self._look_after()

    def _look_after(self) -> None:
        """Say so when the controller has stopped answering, and ask it again."""
        with self._telling:
            if self._connection.full:  # we do not read, so its silence means nothing
                self._missed = 0
                if self._silent_since_s is not None:
                    self._silent_since_s = self._clock.now_s()
                return
            if self._missed >= MISSED_PROBES and self._answers_at_all:
                self._answers_at_all = False
                self._silent_since_s = self._clock.now_s()
                log.warning("the controller does not answer", extra={"action": "controller_down"})
                self._tell([ControllerChanged(up=False)])
            self._missed += 1
            self._give_up_oldest()
            self._probe()
            self._renew_if_silent()

    def _renew_if_silent(self) -> None:
        """Make the connection anew when the controller has not answered over it for long."""
        with self._telling:
            since_s = self._silent_since_s
            if since_s is None or self._clock.now_s() - since_s < self._patience_s:
                return
            self._silent_since_s = None  # ``_came_up`` begins anew
            self._connection.renew(f"the controller has not answered over it for {self._patience_s:g} s")
            self._patience_s = min(2 * self._patience_s, SILENT_LAST_S)

    def _give_up_oldest(self) -> None:
        """When too many probes wait, give up the oldest: a controller that was restarted answers none."""
        with self._lock:
            if len(self._probes) >= PROBES:
                id_ = next(iter(self._probes))
                del self._probes[id_]
                if id_ in self._wanted:
                    self._wanted.discard(id_)
                    self._due = True

    def _probe(self, *, wanted: bool = False) -> None:
        """Ask the controller, now or, when too many probes wait, as soon as it has answered one of them."""
        with self._lock:
            if len(self._probes) >= PROBES:
                self._due = wanted or bool(self._due)
                return
            id_ = self._next_id()
            self._probes[id_] = self._clock.now_s()
            if wanted:
                self._wanted.add(id_)
        if not self._connection.send([self._question(id_, self._resource)]):
            with self._lock:
                self._probes.pop(id_, None)
                self._wanted.discard(id_)

    def _probed(self, asked_s: float, resources: tuple[str, ...] | None, *, wanted: bool) -> list[BusEvent]:
        with self._lock:
            answered = [id_ for id_, at_s in self._probes.items() if at_s <= asked_s]
            for id_ in answered:
                del self._probes[id_]
            wanted = wanted or not self._wanted.isdisjoint(answered)
            self._wanted.difference_update(answered)
            lost = [id_ for id_, one in self._questions.items() if one.asked_s < asked_s - LOST_S]
            for id_ in lost:
                del self._questions[id_]
            synced = self._sync_s is not None and asked_s >= self._sync_s
            if synced:
                self._sync_s = None
            due, self._due = self._due, None
        if due is not None:
            self._probe(wanted=due)
        events: list[BusEvent] = [Synced()] if synced else []
        self._missed, self._silent_since_s, self._patience_s = 0, None, SILENT_FIRST_S
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
    """The event for a registration with resources below /remote, or for its end; none for other messages."""
    message = jsoncodec.decode(payload)
    if not isinstance(message, dict):
        return []
    method, data = str(message.get("method")).lower(), message.get("data")
    data = data if isinstance(data, dict) else {}
    _, _, at_end = str(message.get("resource")).partition(f"{REGISTRATION}/")
    model = str(data.get("name") or at_end)
    if method == "delete":
        return [Deregistering(model)] if model else []
    resources = data.get("resources") if method == "post" else None
    some = resources if isinstance(resources, list) else [resources]
    remote = tuple(one for one in some if isinstance(one, str) and one.startswith("/remote/"))
    return [Registering(model, remote)] if remote else []


def _status_topic(pattern: str) -> re.Pattern[str]:
    """A regular expression for the topics of a pattern with one ``+``; its group 1 is what stands there."""
    before, _, after = pattern.partition("+")
    return re.compile(f"{re.escape(before)}([^/]+){re.escape(after)}")
