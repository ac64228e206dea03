"""The dispatcher's own MQTT connection: one socket, one thread, and a word on what has left and what not.

Why not paho, which the SDK brings: version 1.5.0 acknowledges a message before it hands it on, so one that
arrives while the program dies is lost; when a connection breaks it cannot tell which messages had left; and
each message costs it several system calls and wakes a thread. Decision 0009 has the figures.

- A message that is sent leaves at QoS 0, once. Those of which nothing, or not all, was given to the system
  when the connection broke have not left, and are named then.
- A broker may close the connection for a message that is too long for it. One that is much longer than all
  that this connection has carried, or longer at all, soon after a loss, is tried first: it leaves but for its
  last byte, and nothing follows for a moment; then its last byte, and nothing follows for a moment. When the
  connection ends meanwhile, what waits behind it has not left, and what was before it has been read
  (decision 0036).
- What the system does not take at once waits in memory. Who sends can ask how much that is, and is told
  when it has become little (decision 0052).
- What was received and is still in memory is counted: while that is much, nothing is read. The broker keeps
  the rest.
- A message that is received is acknowledged when its receiver says so. Until then the broker keeps it, and
  brings it again after a reconnect. A message that stays unacknowledged for long is a reason to reconnect:
  behind a few of them the broker holds back all others.
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
from puppetmaster.jsoncodec import FEW_BYTES
from puppetmaster.model.message import Outgoing, Tried
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.bus.connection")

#: After half of it in silence we say something; after one and a half without a word the connection is dead.
KEEPALIVE_S = 16
#: How long it can go unseen that it is time for something.
LOOK_UP_S = 4.0
#: For the connection itself, and for the broker's answers to CONNECT and SUBSCRIBE.
CONNECT_S = 10.0
#: Between two tries to connect.
AGAIN_S = 1.0
#: For what is still to be written at the end.
LEAVE_S = 0.3
#: Topics of one SUBSCRIBE.
SUBSCRIBE_TOPICS = 100
#: A message that is not acknowledged after this was lost in this program: it shall come again.
UNACKNOWLEDGED_S = 60.0
#: Read at once, and before what was read is handed on.
READ_BYTES, ROUND_BYTES = 64 * 1024, 256 * 1024
#: While so much of what was received is in memory nothing more is read.
HELD_BYTES = 4 * 1024 * 1024
#: Confirms what has come at once (Linux only). A broker without ``set_tcp_nodelay`` sends nothing more before
#: that, and the system confirms with the next thing that we say, which waits for the disk, or after 40 ms.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
#: The controller expands what it passes on (0.1 becomes 0.10000000000000001): what is below 1 MiB for it can
#: be this long for us, without its indentation.
MESSAGE_LIMIT_BYTES = 6 * 1024 * 1024


#: A shorter message is nothing that a broker closes a connection for.
TRIED_BYTES = 4096
#: How long a broker is given to close the connection for what it has read of a message.
TRIAL_S = 0.25
#: What is up to so many times as long as what was carried need not be tried; so soon after a loss it must.
UNTRIED_FACTOR, CAREFUL_S = 2, 60.0

#: Messages are written together up to about so many bytes.
TOGETHER_BYTES = 64 * 1024

#: The number of the SUBSCRIBE with which a connection begins.
FIRST_PACKET = 1
_topic = lru_cache(maxsize=4096)(packets.Topic)


class Closed(ConnectionError):
    """The broker ended the connection, without a word."""

    def __init__(self) -> None:
        super().__init__("the broker closed it")


class Receipt(NamedTuple):
    """What ``acknowledge`` needs of a message that was received."""

    connection: int
    packet: int


class Received(NamedTuple):
    """A message: its topic, its payload, cut one byte beyond the limit, and what to acknowledge."""

    topic: str
    payload: bytes
    receipt: Receipt | None
    #: The broker had it before we subscribed.
    retained: bool


class Listener(NamedTuple):
    """What the link tells, on its own thread. None of it may block or call back, but for ``send``."""

    #: The connection stands, and the topics are subscribed. Nothing else comes before this has returned.
    up: Callable[[], None]
    #: It is gone; the ids of the messages that have not left, and what was being tried.
    down: Callable[[tuple[int, ...], Tried | None], None]
    #: Messages came.
    messages: Callable[[list["Received"]], None]
    #: The broker refuses subscriptions to these topics, which were asked for with ``subscribe``.
    refused: Callable[[tuple[str, ...]], None]
    #: Much was waiting to be written, and now no more than ``FEW_BYTES`` are.
    room: Callable[[], None]


@dataclass(slots=True)
class _Unsent:
    """Messages of one ``send`` that are not all given to the system; where each of them ends."""

    data: memoryview
    ends: list[tuple[int, int]]
    #: It is one message, and may be too long for the broker.
    tried: bool = False
    written: int = 0
    #: Until then nothing more is written: the broker is to show what it makes of this one.
    pause_until_s: float = 0.0

    @property
    def next_end(self) -> int:
        """How far it may be written in this step."""
        size = len(self.data)
        return size - 1 if self.tried and self.written < size - 1 else size


class Connection:
    """A connection that is made again whenever it breaks. ``send`` and ``acknowledge`` are for any thread."""

    def __init__(
        self,
        address: tuple[str, int],
        login: Credentials,
        client_id: str,
        topics: Sequence[tuple[str, int]],
        listener: Listener,
    ) -> None:
        self._address = address
        self._login = login
        self._attempts = Attempts()
        self._attempts.login = login
        self._client_id = client_id
        self._endings = Endings(client_id)
        self._complaints = Complaints()
        self._known = False  # whether the broker had kept our session when it let us in, and since when
        self._since_s = 0.0
        self._topics = topics
        self._listener = listener
        self._lock = threading.Lock()  # guards all up to _socket, and its use
        self._up = False
        self._connection = 0  # counts them
        self._backlog: deque[_Unsent] = deque()
        self._waiting_bytes = 0  # of the backlog, as far as they are not written
        self._untried_bytes = TRIED_BYTES  # what is no longer need not be tried
        self._careful_until_s = self._spoke_s = -math.inf
        self._subscribing: dict[int, tuple[str, ...]] = {}  # by the number of the SUBSCRIBE
        self._packets = count(1)
        self._open: dict[Receipt, float] = {}  # since when; the oldest is the first
        self._held_bytes = 0  # of what was received, on whichever connection
        self._socket: socket.socket | None = None
        self._stopping = threading.Event()
        self._wakes: socket.socket | None = None  # while the thread listens at its other end
        self.thread = Vital(target=self._run, name="pm-bus")

    @property
    def up(self) -> bool:
        """Whether the connection stands."""
        return self._up

    @property
    def waiting_bytes(self) -> int:
        """How much of what was sent is still in memory here, for the system has not taken it."""
        return self._waiting_bytes

    @property
    def reason(self) -> str | None:
        """Why there is no connection, or none that lasts, with the cure; None while it stands."""
        return self._attempts.reason or self._endings.reason

    def start(self) -> None:
        """Connect, for as long as it takes, and stay connected."""
        self.thread.start()

    def stop(self, timeout_s: float) -> None:
        """Say goodbye to the broker, which goes on keeping what comes, and end the thread."""
        self._stopping.set()
        self._wake()
        self.thread.join(timeout_s)

    def send(self, messages: Sequence[Outgoing]) -> bool:
        """Send messages in order; never blocks. False: there is no connection, none of them has left."""
        done = True
        with self._lock:
            if not self._up:
                return False
            for part in _parts(messages, self._untried_bytes):
                done = self._put(part)  # no other is written where this one is not
        if not done:
            self._wake()  # the thread writes on when there is room, or finds out what is wrong
        return True

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> bool:
        """Ask for these topics too, each with its QoS, before what is sent after this. Never blocks.

        The next connection does not know of them. False: there is no connection.
        """
        done = True
        for begin in range(0, len(topics), SUBSCRIBE_TOPICS):
            some = topics[begin : begin + SUBSCRIBE_TOPICS]
            with self._lock:
                packet = next(self._packets) % 0xFFFF + 1
                self._subscribing[packet] = tuple(topic for topic, _ in some)
            done = self._write(packets.subscribe(packet, some)) and done
        return done

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """These messages need not be kept for us any more; those of an earlier connection come again."""
        open_receipts: dict[int, list[bytes]] = {}
        with self._lock:
            for receipt in receipts:
                self._open.pop(receipt, None)
                open_receipts.setdefault(receipt.connection, []).append(packets.puback(receipt.packet))
        for connection, acknowledged in open_receipts.items():
            self._write(b"".join(acknowledged), connection)

    def hold(self, size_bytes: int) -> None:
        """What was received takes so much memory, until ``release``."""
        with self._lock:
            self._held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """So much of it is not in memory any more."""
        with self._lock:
            full = self._full
            self._held_bytes -= size_bytes
            room = full and not self._full
        if room:
            self._wake()  # the thread reads on

    @property
    def _full(self) -> bool:
        return self._held_bytes >= HELD_BYTES

    def _write(self, data: bytes, connection: int | None = None) -> bool:
        """Whether it was taken: there is a connection, and where it matters this one."""
        with self._lock:
            if not self._up or connection not in (None, self._connection):
                return False
            done = self._put(_Unsent(memoryview(data), []))
        if not done:
            self._wake()
        return True

    def _put(self, unsent: _Unsent) -> bool:
        """Write it, or leave it to the thread; whether all of it is written. Under the lock."""
        if not self._backlog and not unsent.tried and self._push(unsent):
            return True
        self._backlog.append(unsent)
        self._waiting_bytes += len(unsent.data) - unsent.written
        return False

    def _push(self, unsent: _Unsent) -> bool:
        """Give the system as much of this step as it takes; whether that was all of it.

        An error shows at the next read.
        """
        assert self._socket is not None
        end = unsent.next_end
        with suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, OSError):
            while unsent.written < end:
                unsent.written += self._socket.send(unsent.data[unsent.written : end])
            self._spoke_s = time.monotonic()
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
                with visit.reach(self._address, self._login, CONNECT_S) as connection:
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

    def _failed(self, error: Exception, greeted: bool) -> None:
        if self._up:
            self._ended(error)
            return
        self._endings.over()
        if self._attempts.failed(error, greeted=greeted):
            log.warning("no connection to the broker at %s:%d: %s", *self._address, self._attempts.reason)

    def _ended(self, error: Exception) -> None:
        """A connection that stood is over; perhaps somebody else has logged in with our client id."""
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
        """CONNECT and SUBSCRIBE; what the broker had kept for us may come in between. Then we are up."""
        login = self._login
        connection.sendall(
            packets.connect(
                self._client_id, keepalive_s=KEEPALIVE_S, user=login.user, password=login.password
            )
        )
        early: list[packets.Published] = []
        size, deadline_s = 0, time.monotonic() + CONNECT_S
        subscribed = False
        # What the broker had kept for a session shows that it has our subscriptions; it may be much.
        while not subscribed and size < HELD_BYTES:
            connection.settimeout(max(0.01, deadline_s - time.monotonic()))
            if not (data := connection.recv(READ_BYTES)):
                raise Closed
            for packet in decoder.feed(data):
                if isinstance(packet, packets.Connack):
                    if packet.code:
                        raise Refused(packet.code)
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
            self._socket = connection
            self._connection += 1
            self._untried_bytes = TRIED_BYTES
            self._subscribing.clear()
            self._open.clear()
            self._since_s = self._spoke_s = time.monotonic()
            self._up = True
        return early

    def _converse(self, connection: socket.socket, decoder: packets.Decoder) -> None:
        """Read and write until told to stop. Raises OSError, Malformed: it broke."""
        heard_s = looked_s = time.monotonic()
        more = False
        woken, wakes = socket.socketpair()
        with selectors.DefaultSelector() as selector, woken, wakes:
            wakes.setblocking(False)
            self._wakes = wakes
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                full, pause_s = self._limits()
                if full:  # nobody listens, so silence says nothing
                    heard_s = time.monotonic()
                reading = 0 if full else selectors.EVENT_READ
                _watch(selector, connection, reading | (selectors.EVENT_WRITE if pause_s <= 0 else 0))
                wait_s = pause_s if 0 < pause_s < LOOK_UP_S else LOOK_UP_S
                reads_on = more and not full
                ready = {key.fileobj: events for key, events in selector.select(0 if reads_on else wait_s)}
                if woken in ready:
                    woken.recv(4096)
                events = ready.get(connection, 0)
                self._write_on()
                if (reads_on or events & selectors.EVENT_READ) and not self._full:  # it may be full by now
                    more = self._read(connection, decoder)
                    heard_s = time.monotonic()
                self._keep_alive(heard_s)
                looked_s = self._look_at_receipts(looked_s)

    def _limits(self) -> tuple[bool, float]:
        """Whether nothing may be read now, and for how long nothing may be written; 0: it may."""
        with self._lock:
            if not self._backlog:
                return self._full, math.inf
            return self._full, self._backlog[0].pause_until_s - time.monotonic()

    def _look_at_receipts(self, looked_s: float) -> float:
        """The time now; ``looked_s``: of the last look. Raises ConnectionError: one is open for too long."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - looked_s > KEEPALIVE_S:  # this program stood still, and with it who acknowledges
                self._open = dict.fromkeys(self._open, now_s)
            since_s = next(iter(self._open.values()), now_s)
        if now_s - since_s > UNACKNOWLEDGED_S:
            raise ConnectionError(f"a message was not taken in for {now_s - since_s:.0f} s")
        return now_s

    def _keep_alive(self, heard_s: float) -> None:
        """Say something when there was silence for long. Raises ConnectionError when there is no answer."""
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
        """Write as much of it as the system takes, up to a pause. Under the lock."""
        while self._backlog and self._backlog[0].pause_until_s <= now_s:
            head = self._backlog[0]
            size, before = len(head.data), head.written
            if not before:  # those before it may have shown that it need not be tried
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
        """Take in what is there, and hand it on; whether there may be more. Raises OSError: no more comes."""
        size, closed = 0, False
        published: list[packets.Published] = []
        while size < ROUND_BYTES and not closed:
            try:
                with self._lock:  # TLS does not read while it writes
                    data = connection.recv(READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            closed = not data
            size += len(data)
            for packet in decoder.feed(data):
                if isinstance(packet, packets.Published):
                    published.append(packet)
                elif isinstance(packet, packets.Suback):
                    self._subscribed(packet)
        if QUICK_ACK is not None and not closed:  # the system forgets it soon, so it is said each time
            with suppress(OSError):  # the next read finds out what is wrong
                connection.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        self._deliver(published)
        if closed:
            raise Closed
        return size >= ROUND_BYTES

    def _subscribed(self, packet: packets.Suback) -> None:
        with self._lock:
            topics = self._subscribing.pop(packet.packet, None)
        if topics is None:  # the first one, behind much that the broker had kept for us
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
            Received(one.topic.decode("utf-8", "replace"), one.payload, self._receipt(one), one.retained)
            for one in published
        ]
        with self._lock:
            self._open |= {one.receipt: came_s for one in messages if one.receipt is not None}
        self._listener.messages(messages)

    def _receipt(self, one: packets.Published) -> Receipt | None:
        return Receipt(self._connection, one.packet) if one.packet else None

    def _leave(self, connection: socket.socket) -> None:
        """Say goodbye, after what is still to be written, unless the broker takes nothing."""
        with self._lock:
            rest = b"".join([*(one.data[one.written :] for one in self._backlog), packets.DISCONNECT])
            self._backlog.clear()
            self._waiting_bytes = 0
        connection.settimeout(LEAVE_S)
        connection.sendall(rest)

    def _lost(self) -> None:
        """There is no connection any more: say which messages have not left."""
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
    """Listen for these events there, or for nothing."""
    known = connection in selector.get_map()
    if events and known:
        selector.modify(connection, events)
    elif events:
        selector.register(connection, events)
    elif known:
        selector.unregister(connection)


def _parts(messages: Iterable[Outgoing], untried_bytes: int) -> Iterator[_Unsent]:
    """Messages as they are written: together, but for those that are to be tried."""
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
