"""The dispatcher's own MQTT connection: one socket, one thread, and a list of what has not left.

Paho, which the SDK brings, will not do. Version 1.5.0 acknowledges a message before it hands the message on,
so a message that arrives while the program dies is lost. It cannot say which messages had left when a
connection broke. Each message costs it several system calls and wakes a thread (figures: decision 0009).

- A message leaves once, at QoS 0. When the connection breaks, the listener is given the ids of the messages
  that the operating system had not taken completely: they have not left.
- A broker may close the connection when a message is too long for it. A message is therefore *tried* when it
  is much longer than all that this connection has carried (or, soon after a loss, longer at all). All but its
  last byte is written, and nothing else for ``TRIAL_S``; then its last byte, and again nothing for
  ``TRIAL_S``. When the connection ends meanwhile, the messages behind it have not left, and the broker has
  read those before it (decision 0036).
- Bytes that the operating system does not take at once wait in memory. ``waiting_bytes`` says how many, and
  the listener's ``room`` is called when few are left (decision 0052).
- Received messages that are still in memory are counted in bytes. While they exceed ``HELD_BYTES``, nothing
  is read; the broker keeps the rest.
- A received message is acknowledged when its receiver says so. Until then the broker keeps it, and delivers
  it again after a reconnect. The thread reconnects when a message stays unacknowledged for
  ``UNACKNOWLEDGED_S``, because the broker holds back all others behind a few such messages.
"""

import logging
import math
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from puppetmaster.bus import packets, visit
from puppetmaster.bus.credentials import LASTING_S, Attempts, Complaints, Credentials, Endings, Refused
from puppetmaster.bus.nudge import NUDGE, QUICK_ACK, Nudges
from puppetmaster.jsoncodec import FEW_BYTES
from puppetmaster.model.message import Outgoing, Tried
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.bus.connection")

#: The keep-alive that CONNECT names. After half of it in silence the thread sends a PINGREQ; after one and a
#: half without a byte from the broker the connection counts as dead.
KEEPALIVE_S = 16
#: The longest sleep of the thread: a deadline is noticed at most this much too late.
LOOK_UP_S = 4.0
#: Timeout of the TCP connect, and of the broker's answers to CONNECT and SUBSCRIBE.
CONNECT_S = 10.0
#: Shortest pause between two tries to connect.
AGAIN_S = 1.0
#: How long ``stop`` waits for the backlog to be written.
LEAVE_S = 0.3
#: Most topics in one SUBSCRIBE.
SUBSCRIBE_TOPICS = 100
#: A message that is not acknowledged after this time was lost in this program. Then the thread reconnects, so
#: that the broker delivers the message again.
UNACKNOWLEDGED_S = 60.0
#: Most bytes of one ``recv``, and of all reads before the messages in them go to the listener.
READ_BYTES, ROUND_BYTES = 64 * 1024, 256 * 1024
#: While received messages of this size are in memory, nothing more is read.
HELD_BYTES = 4 * 1024 * 1024
#: Longest received payload, without its indentation. The controller takes messages below 1 MiB, but expands
#: what it passes on (0.1 becomes 0.10000000000000001), so they can be this long when they reach us.
MESSAGE_LIMIT_BYTES = 6 * 1024 * 1024


#: Messages up to this length are never tried: no broker closes a connection for one.
TRIED_BYTES = 4096
#: How long a broker is given to close the connection for a message that is being tried.
TRIAL_S = 0.25
#: A message is not tried when it is up to this many times as long as the longest that was carried. For
#: ``CAREFUL_S`` after a loss, each message that is longer than the longest is tried.
UNTRIED_FACTOR, CAREFUL_S = 2, 60.0

#: Short messages are joined into writes of about this many bytes.
TOGETHER_BYTES = 64 * 1024

#: The packet id of the SUBSCRIBE with which a connection begins.
FIRST_PACKET = 1
_topic = lru_cache(maxsize=4096)(packets.Topic)


class Closed(ConnectionError):
    """The broker ended the connection without sending a packet that says why."""

    def __init__(self) -> None:
        super().__init__("the broker closed it")


class Receipt(NamedTuple):
    """What ``acknowledge`` needs to know of a received message."""

    #: Number of the connection that it came on, counted from 1.
    connection: int
    #: Packet id of the PUBLISH.
    packet: int


class Received(NamedTuple):
    """A received message."""

    topic: str
    #: At most ``MESSAGE_LIMIT_BYTES`` + 1 bytes: a longer payload is cut there.
    payload: bytes
    #: What ``acknowledge`` is given; None: the message came at QoS 0.
    receipt: Receipt | None
    #: Whether the broker had kept it from before our subscription.
    retained: bool


class Listener(NamedTuple):
    """The functions that the connection calls, on its own thread. They must not block; they may ``send``."""

    #: The connection is up and its topics are subscribed. Nothing else is told before this has returned.
    up: Callable[[], None]
    #: The connection is down. Given the ids of the messages that have not left, and the message that was
    #: being tried (None: no message was).
    down: Callable[[tuple[int, ...], Tried | None], None]
    #: Messages have arrived.
    messages: Callable[[list["Received"]], None]
    #: The broker has refused subscriptions that ``subscribe`` asked for. Given their topics.
    refused: Callable[[tuple[str, ...]], None]
    #: More than ``FEW_BYTES`` were waiting to be written, and now no more than those are.
    room: Callable[[], None]
    #: Whether we may have a connection: is asked before CONNECT, and after CONNACK. It may block.
    permit: Callable[[], bool] = lambda: True
    #: Whether we wait for an answer that the broker may be holding back. Any thread may call it.
    waits: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class _Unsent:
    """Bytes that the operating system has not taken completely: packets that are written together."""

    data: memoryview
    #: Each message's id, and the offset in ``data`` at which it ends.
    ends: list[tuple[int, int]]
    #: Whether ``data`` is one message that may be too long for the broker, and is tried first.
    tried: bool = False
    #: How many bytes of ``data`` the system has taken.
    written: int = 0
    #: Nothing is written until this time (monotonic clock): the broker may be closing the connection.
    pause_until_s: float = 0.0

    @property
    def next_end(self) -> int:
        """The offset up to which ``data`` may be written in this step: all but the last byte at first."""
        size = len(self.data)
        return size - 1 if self.tried and self.written < size - 1 else size


class Connection:
    """An MQTT connection that is made again whenever it breaks. Any thread may call its methods.

    ``address`` is the broker's host and port; ``topics`` are those of the first SUBSCRIBE, each with its QoS.
    """

    def __init__(
        self,
        address: tuple[str, int],
        credentials: Credentials,
        client_id: str,
        topics: Sequence[tuple[str, int]],
        listener: Listener,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._attempts = Attempts()
        self._attempts.credentials = credentials
        self._client_id = client_id
        self._endings = Endings(client_id)
        self._complaints = Complaints()
        self._known = False  # whether the broker had kept our session when it let us in
        self._since_s = 0.0  # when the connection came up (monotonic clock)
        self._topics = topics
        self._listener = listener
        self._lock = threading.Lock()  # guards the attributes down to _broken, and the use of the socket
        self._up = False
        self._connection = 0  # number of the connection, counted from 1
        self._backlog: deque[_Unsent] = deque()
        self._waiting_bytes = 0  # bytes of the backlog that are not written yet
        self._untried_bytes = TRIED_BYTES  # packets up to this length are not tried
        self._careful_until_s = self._spoke_s = -math.inf
        self._subscribing: dict[int, tuple[str, ...]] = {}  # packet id of a SUBSCRIBE -> its topics
        self._packets = count(1)
        self._open: dict[Receipt, float] = {}  # unacknowledged -> when it arrived; the oldest is the first
        self._held_bytes = 0  # size of received messages in memory, on this connection and earlier ones
        self._socket: socket.socket | None = None
        self._broken: OSError | None = None  # why the last write failed; None: it did not
        self._stopping = threading.Event()
        self._wakes: socket.socket | None = None  # a byte written here wakes the thread
        self.nudges = Nudges(listener.waits)
        self._outworn: str | None = None  # why a new connection is to be made; None: this one stays
        self.thread = Vital(target=self._run, name="pm-bus")

    @property
    def up(self) -> bool:
        """Whether the connection is up."""
        return self._up

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were sent and that the operating system has not taken yet."""
        return self._waiting_bytes

    @property
    def reason(self) -> str | None:
        """Why there is no connection, or none that lasts, and what to do; None: the connection is up."""
        return self._attempts.reason or self._endings.reason

    def start(self) -> None:
        """Start the thread: it connects, and connects again whenever the connection breaks."""
        self.thread.start()

    def stop(self, timeout_s: float) -> None:
        """Disconnect, and wait up to ``timeout_s`` for the thread. The broker keeps what comes meanwhile."""
        self._stopping.set()
        self._wake()
        self.thread.join(timeout_s)

    def send(self, messages: Sequence[Outgoing]) -> bool:
        """Send messages in their order; never blocks. Returns False, and sends none, without a connection."""
        done = True
        with self._lock:
            if not self._up:
                return False
            for part in _parts(messages, self._untried_bytes):
                done = self._put(part)  # False for one part is False for all later ones: they queue behind it
            sleeps = self.nudges.passed(time.monotonic())
        if not done or sleeps:
            self._wake()  # the thread writes on when there is room, or finds out what is wrong, or nudges
        return True

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> bool:
        """Subscribe to these topics too, each with its QoS, ahead of later messages. Never blocks.

        Holds for this connection: the next one subscribes to its first topics only. Returns False when there
        is no connection.
        """
        with self._lock:
            if not self._up:
                return False
            done = True
            for begin in range(0, len(topics), SUBSCRIBE_TOPICS):
                some = topics[begin : begin + SUBSCRIBE_TOPICS]
                packet = next(self._packets) % 0xFFFF + 1
                self._subscribing[packet] = tuple(topic for topic, _ in some)
                done = self._put(_Unsent(memoryview(packets.subscribe(packet, some)), []))
        if not done:
            self._wake()
        return True

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """Send a PUBACK for each message; those of an earlier connection are skipped, and come again."""
        open_receipts: dict[int, list[bytes]] = {}
        with self._lock:
            for receipt in receipts:
                self._open.pop(receipt, None)
                open_receipts.setdefault(receipt.connection, []).append(packets.puback(receipt.packet))
        for connection, acknowledged in open_receipts.items():
            self._write(b"".join(acknowledged), connection)

    def renew(self, why: str) -> None:
        """End the connection and make a new one. Does not wait."""
        self._outworn = why
        self._wake()

    def hold(self, size_bytes: int) -> None:
        """Count received messages of this size as in memory, until ``release``."""
        with self._lock:
            self._held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count received messages of this size as no longer in memory, and read on if that makes room."""
        with self._lock:
            full = self.full
            self._held_bytes -= size_bytes
            room = full and not self.full
        if room:
            self._wake()  # the thread reads on

    @property
    def full(self) -> bool:
        """Whether nothing is read, because too much of what was received is still in memory."""
        return self._held_bytes >= HELD_BYTES

    def _write(self, data: bytes, connection: int | None = None) -> bool:
        """Write ``data``. Returns False without a connection, and when its number is not this one."""
        with self._lock:
            if not self._up or connection not in (None, self._connection):
                return False
            done = self._put(_Unsent(memoryview(data), []))
        if not done:
            self._wake()
        return True

    def _put(self, unsent: _Unsent) -> bool:
        """Write ``unsent``, or queue it for the thread. Returns whether it is all written. Under the lock."""
        if not self._backlog and not unsent.tried and self._push(unsent):
            return True
        self._backlog.append(unsent)
        self._waiting_bytes += len(unsent.data) - unsent.written
        return False

    def _push(self, unsent: _Unsent) -> bool:
        """Write as much of this step as the system takes. Returns whether that was all of the step.

        An error is only noted here: the thread raises it, or the next read does.
        """
        assert self._socket is not None
        end = unsent.next_end
        try:
            while unsent.written < end:
                unsent.written += self._socket.send(unsent.data[unsent.written : end])
            self._spoke_s, self._broken = time.monotonic(), None
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._broken = error
        return unsent.written == end

    def _wake(self) -> None:
        wakes = self._wakes
        with suppress(OSError):  # full: it wakes anyway; closed: there is nobody to wake
            if wakes is not None:
                wakes.send(b"\0")

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            greeted = False
            try:
                self._ask_permit()
                with visit.reach(self._address, self._credentials, CONNECT_S) as connection:
                    greeted = True
                    decoder = packets.Decoder(MESSAGE_LIMIT_BYTES)
                    early = self._introduce(connection, decoder)
                    self._attempts.worked()
                    self._listener.up()
                    self._deliver(early)
                    self._converse(connection, decoder)
                    self._leave(connection)
            except (OSError, packets.Malformed) as error:
                self._failed(error, greeted)
            except Exception:
                log.exception("the connection to the broker broke")
            finally:
                self._lost()
            self._stopping.wait(max(self._attempts.wait_s(AGAIN_S), self._endings.wait_s(AGAIN_S)))

    def _ask_permit(self) -> None:
        """Raises ConnectionError: we may not have a connection now.

        A broker gives the session to whoever connects last with its client id. So a process that was replaced
        must not connect. A process that was replaced while it connected must not go on.
        """
        if not self._listener.permit():
            raise ConnectionError("the database cannot be asked whether this process leads")

    def _failed(self, error: Exception, greeted: bool) -> None:
        if self._up:
            self._ended(error)
            return
        self._endings.over()
        if self._attempts.failed(error, greeted=greeted):
            log.warning("no connection to the broker at %s:%d: %s", *self._address, self._attempts.reason)

    def _ended(self, error: Exception) -> None:
        """Note the end of a connection that was up. Another client with our client id may have caused it."""
        log.warning("the connection to the broker at %s:%d ended: %s", *self._address, error)
        with self._lock:
            trying = any(one.tried and one.written for one in self._backlog)
        if isinstance(error, (Closed, ConnectionResetError, BrokenPipeError)) and not trying:
            self._endings.ended(time.monotonic() - self._since_s, known=self._known)
        else:
            self._endings.over()
        if (reason := self._endings.reason) is not None and self._complaints.due(reason):
            log.warning("%s", reason, extra={"action": "taken_over"})

    def _introduce(self, connection: socket.socket, decoder: packets.Decoder) -> list[packets.Published]:
        """Send CONNECT and SUBSCRIBE, and wait for their answers. Then the connection is up.

        Returns the messages that the broker had kept for our session and sent before its SUBACK.

        Raises:
            OSError: the broker refused us, closed the connection, or did not answer in time.
            Malformed: it sent something that is not MQTT.
        """
        # In docs/model/takeover.pml this is the label ``connect``, with ``permit`` on both sides of CONNECT.
        credentials = self._credentials
        connection.sendall(
            packets.connect(
                self._client_id, keepalive_s=KEEPALIVE_S, user=credentials.user, password=credentials.password
            )
        )
        early: list[packets.Published] = []
        size, deadline_s = 0, time.monotonic() + CONNECT_S
        subscribed = False
        # Kept messages prove that the session has our subscriptions: past HELD_BYTES no SUBACK is awaited.
        while not subscribed and size < HELD_BYTES:
            connection.settimeout(max(0.01, deadline_s - time.monotonic()))
            if not (data := connection.recv(READ_BYTES)):
                raise Closed
            for packet in decoder.feed(data):
                if isinstance(packet, packets.Connack):
                    if packet.code:
                        raise Refused(packet.code)
                    self._ask_permit()  # before what was kept for us is read
                    self._known = packet.known
                    connection.sendall(packets.subscribe(FIRST_PACKET, self._topics))
                elif isinstance(packet, packets.Suback):
                    if packets.REFUSED in packet.granted:
                        raise Refused
                    subscribed = True
                elif isinstance(packet, packets.Published):
                    early.append(packet)
                    size += len(packet.payload)
        connection.setblocking(False)
        with self._lock:
            self._socket, self._broken = connection, None
            self._connection += 1
            self._untried_bytes = TRIED_BYTES
            self._subscribing.clear()
            self._open.clear()
            self._since_s = self._spoke_s = time.monotonic()
            self._up = True
        return early

    def _converse(self, connection: socket.socket, decoder: packets.Decoder) -> None:
        """Read and write until ``stop`` is called. Raises OSError, Malformed: the connection broke."""
        heard_s = looked_s = time.monotonic()
        self._outworn = None
        more, watched = False, 0
        woken, wakes = socket.socketpair()
        with selectors.DefaultSelector() as selector, woken, wakes:
            wakes.setblocking(False)
            self._wakes = wakes
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                full, pause_s = self._limits()
                if full:  # we do not read, so the broker's silence means nothing
                    heard_s = time.monotonic()
                    if self._broken is not None:  # else a read finds it out, after what has come before
                        raise self._broken
                reading = 0 if full else selectors.EVENT_READ
                wanted = reading | (selectors.EVENT_WRITE if pause_s <= 0 else 0)
                if wanted != watched:
                    _watch(selector, connection, wanted)
                    watched = wanted
                wait_s = self._wait_s(pause_s)
                reads_on = more and not full
                ready = {key.fileobj: events for key, events in selector.select(0 if reads_on else wait_s)}
                if woken in ready:
                    woken.recv(4096)
                events = ready.get(connection, 0)
                self._write_on()
                if (reads_on or events & selectors.EVENT_READ) and not self.full:  # it may be full by now
                    more = self._read(connection, decoder)
                    heard_s = time.monotonic()
                if self._outworn is not None:
                    raise ConnectionError(self._outworn)
                self._nudge()
                self._keep_alive(heard_s)
                looked_s = self._look_at_receipts(looked_s)

    def _wait_s(self, pause_s: float) -> float:
        """How long the thread may sleep at most, when writing is paused for ``pause_s``."""
        nudge_s = max(self.nudges.due_s - time.monotonic(), 0.0)
        return min(pause_s if pause_s > 0 else LOOK_UP_S, nudge_s, LOOK_UP_S)

    def _nudge(self) -> None:
        with self._lock:  # a message that is sent just now begins a silence of its own
            due = self.nudges.take(time.monotonic()) and not self._waiting_bytes
        if due:
            self._write(NUDGE)

    def _limits(self) -> tuple[bool, float]:
        """Whether reading is paused, and for how many seconds writing is.

        0 or less: there is something to write. Infinite: there is nothing to write.
        """
        with self._lock:
            if not self._backlog:
                return self.full, math.inf
            return self.full, self._backlog[0].pause_until_s - time.monotonic()

    def _look_at_receipts(self, looked_s: float) -> float:
        """Check the age of the oldest unacknowledged message. Returns the time now.

        ``looked_s`` is when this was checked last. Raises ConnectionError: a message is too old.
        """
        now_s = time.monotonic()
        with self._lock:
            if now_s - looked_s > KEEPALIVE_S:  # the whole program was suspended, so the ages mean nothing
                self._open = dict.fromkeys(self._open, now_s)
            since_s = next(iter(self._open.values()), now_s)
        if now_s - since_s > UNACKNOWLEDGED_S:
            raise ConnectionError(f"a message was not taken in for {now_s - since_s:.0f} s")
        return now_s

    def _keep_alive(self, heard_s: float) -> None:
        """Send a PINGREQ after a silence. Raises ConnectionError: the broker has been silent for too long."""
        now_s = time.monotonic()
        if now_s - self._since_s > LASTING_S:
            self._endings.over()
        if now_s - heard_s > 1.5 * KEEPALIVE_S:
            raise ConnectionError(f"the broker has said nothing for {now_s - heard_s:.0f} s")
        if now_s - min(heard_s, self._spoke_s) > KEEPALIVE_S / 2:
            self._write(packets.PINGREQ)

    def _write_on(self) -> None:
        with self._lock:
            before = self._waiting_bytes
            self._write_backlog(time.monotonic())
            room = before > FEW_BYTES >= self._waiting_bytes
        if room:
            self._listener.room()

    def _write_backlog(self, now_s: float) -> None:
        """Write as much of the backlog as the system takes, up to a pause. Under the lock."""
        while self._backlog and self._backlog[0].pause_until_s <= now_s:
            head = self._backlog[0]
            size, before = len(head.data), head.written
            if not before:  # a message before it may have been as long, and was carried
                head.tried = head.tried and size > self._untried_bytes
            if before < size:
                done = self._push(head)
                self._waiting_bytes -= head.written - before
                if not done:
                    return
                if head.tried:
                    head.pause_until_s = now_s + TRIAL_S
                    return
            elif head.tried:
                careful = now_s < self._careful_until_s
                self._untried_bytes = size if careful else size * UNTRIED_FACTOR
            self._backlog.popleft()

    def _read(self, connection: socket.socket, decoder: packets.Decoder) -> bool:
        """Read what has arrived and give the messages to the listener. Returns whether there may be more.

        Raises OSError: the connection ended; Malformed: the broker sent something that is not MQTT.
        """
        size, closed, drained = 0, False, False
        published: list[packets.Published] = []
        while size < ROUND_BYTES and not closed and not drained:
            try:
                with self._lock:  # TLS does not read while it writes
                    data = connection.recv(READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            closed = not data
            # TLS gives one record at a time, however many have arrived.
            drained = len(data) < READ_BYTES and not isinstance(connection, ssl.SSLSocket)
            size += len(data)
            for packet in decoder.feed(data):
                if isinstance(packet, packets.Published):
                    published.append(packet)
                elif isinstance(packet, packets.Suback):
                    self._subscribed(packet)
        # A broker that holds small packets back waits for the ACK. Else that would wait for the disk.
        if QUICK_ACK is not None and not closed:  # the system drops the option soon, so it is set each time
            with suppress(OSError):  # the next read raises what is wrong
                connection.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        self._deliver(published)
        if closed:
            raise Closed
        return size >= ROUND_BYTES

    def _subscribed(self, packet: packets.Suback) -> None:
        with self._lock:
            topics = self._subscribing.pop(packet.packet, None)
        if topics is None:  # the SUBACK of the first SUBSCRIBE, which came behind many kept messages
            if packets.REFUSED in packet.granted:
                raise Refused
            return
        refused = tuple(
            topic
            for topic, granted in zip(topics, packet.granted, strict=False)
            if granted == packets.REFUSED
        )
        if refused:
            self._listener.refused(refused)

    def _deliver(self, published: list[packets.Published]) -> None:
        if not published:
            return
        came_s = time.monotonic()
        messages = [
            Received(
                one.topic.decode("utf-8", "replace"),
                one.payload,
                Receipt(self._connection, one.packet) if one.packet else None,
                one.retained,
            )
            for one in published
        ]
        with self._lock:
            self.nudges.passed(came_s)
            self._open |= {one.receipt: came_s for one in messages if one.receipt is not None}
        self._listener.messages(messages)

    def _leave(self, connection: socket.socket) -> None:
        """Write the backlog and a DISCONNECT. Raises TimeoutError after ``LEAVE_S``."""
        with self._lock:
            rest = b"".join([*(one.data[one.written :] for one in self._backlog), packets.DISCONNECT])
            self._backlog.clear()
            self._waiting_bytes = 0
        connection.settimeout(LEAVE_S)
        connection.sendall(rest)

    def _lost(self) -> None:
        """Clear up after a connection: give the listener the ids of the messages that have not left."""
        with self._lock:
            was_up, self._up, self._socket = self._up, False, None
            if was_up:
                self._careful_until_s = time.monotonic() + CAREFUL_S
            backlog, self._backlog = self._backlog, deque()
            self._waiting_bytes = 0
        if was_up:
            tried = next((_tried(one) for one in backlog if one.tried and one.written), None)
            unsent = (id_ for one in backlog for id_, end in one.ends if end > one.written)
            self._listener.down(tuple(id_ for id_ in unsent if id_), tried)


def _watch(selector: selectors.BaseSelector, connection: socket.socket, events: int) -> None:
    """Have the selector wait for these events of the connection; 0: for none."""
    known = connection in selector.get_map()
    if events and known:
        selector.modify(connection, events)
    elif events:
        selector.register(connection, events)
    elif known:
        selector.unregister(connection)


def _parts(messages: Iterable[Outgoing], untried_bytes: int) -> Iterator[_Unsent]:
    """Messages as they are written: short ones joined, those longer than ``untried_bytes`` alone."""
    data, ends = bytearray(), list[tuple[int, int]]()
    for message in messages:
        packet = _topic(message.topic).publish(message.payload)
        if len(packet) <= untried_bytes:
            data += packet
            ends.append((message.id, len(data)))
        if ends and (len(packet) > untried_bytes or len(data) >= TOGETHER_BYTES):
            yield _Unsent(memoryview(data), ends)
            data, ends = bytearray(), []
        if len(packet) > untried_bytes:
            yield _Unsent(memoryview(packet), [(message.id, len(packet))], tried=True)
    if ends:
        yield _Unsent(memoryview(data), ends)


def _tried(one: _Unsent) -> Tried:
    return Tried(one.ends[0][0], whole=one.written == len(one.data))
