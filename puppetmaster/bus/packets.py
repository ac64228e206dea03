"""The MQTT 3.1.1 packets that the dispatcher's connection needs. Bytes in, packets out: no I/O.

Outwards: CONNECT, SUBSCRIBE, PUBLISH at QoS 0, PUBACK, PINGREQ, DISCONNECT. Inwards: CONNACK, SUBACK,
PUBLISH at QoS 0 and 1, PINGRESP. Section numbers are those of the OASIS standard of 29 October 2014.

Of MQTT 5 it knows only CONNECT and CONNACK. That CONNACK names the longest packet that a broker takes; the
CONNACK of MQTT 3.1.1 does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from puppetmaster.jsoncodec import Unindented

#: Return code in a SUBACK for a topic that the broker refuses (section 3.9.3).
REFUSED = 0x80
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"

#: The protocol levels in CONNECT of MQTT 3.1.1 and of MQTT 5.
VERSION_3, VERSION_5 = 4, 5
#: The longest packet that MQTT allows: the limit of a broker that names none.
LARGEST_BYTES = 5 + 0x0FFFFFFF

#: Properties in the CONNACK of MQTT 5 (its section 3.2.2.3). ``_FIXED``: id -> length in bytes. ``_TEXTS``:
#: id -> number of texts, each with its length before it (0x26 is a name and a value).
_FIXED = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
_TEXTS = dict.fromkeys((0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F), 1) | {0x26: 2}
_MAXIMUM_PACKET_SIZE = 0x27

_CONNACK, _PUBLISH, _SUBACK, _PINGRESP = 0x20, 0x30, 0x90, 0xD0
_OTHERS = (_CONNACK, _SUBACK, _PINGRESP)
#: Longest packet that is no PUBLISH. The longest that we can get is the SUBACK of a full SUBSCRIBE.
_OTHER_BYTES = 1024


class Malformed(ValueError):
    """The bytes are not MQTT, or a packet that we did not ask for. The connection cannot be used any more."""


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT."""

    #: 0: accepted. Else the reason for the refusal (section 3.2.2.3).
    code: int
    #: Whether the broker has kept our session.
    known: bool = False


@dataclass(frozen=True, slots=True)
class Suback:
    """The broker's answer to a SUBSCRIBE."""

    #: Packet id of the SUBSCRIBE.
    packet: int
    #: For each topic the QoS that was granted, or ``REFUSED``.
    granted: tuple[int, ...]


class Published(NamedTuple):
    """A message for us."""

    topic: bytes
    #: A payload longer than the decoder's limit has its indentation removed. When it is still longer then, it
    #: is cut one byte beyond the limit.
    payload: bytes
    #: The packet id to acknowledge; 0: none is to be (QoS 0).
    packet: int
    #: Whether the broker had kept it, and sends it because we have just subscribed (section 3.3.1.3).
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The broker's answer to PINGREQ."""


Packet = Connack | Suback | Published | Pingresp


@dataclass(frozen=True, slots=True)
class Greeting:
    """The broker's answer to the CONNECT of MQTT 5."""

    #: 0: accepted.
    code: int
    #: The longest packet that the broker takes.
    limit_bytes: int


def connect(
    client_id: str,
    *,
    keepalive_s: int,
    user: str = "",
    password: str = "",
    clean: bool = False,
    version: int = VERSION_3,
) -> bytes:
    """A CONNECT (section 3.1). Without ``clean`` the broker keeps the session while we are not connected."""
    flags = (0x02 if clean else 0) | (0x80 if user else 0) | (0x40 if user and password else 0)
    properties = b"\0" if version == VERSION_5 else b""  # none of them
    head = _text("MQTT") + bytes((version, flags)) + keepalive_s.to_bytes(2) + properties
    login = (_text(user) if user else b"") + (_text(password) if user and password else b"")
    return _packet(0x10, head + _text(client_id) + login)


def greeting(data: bytes) -> Greeting | None:
    """Read the CONNACK of MQTT 5 at the beginning of ``data``; None: it is not complete. Raises Malformed."""
    if data and data[0] != _CONNACK:
        raise Malformed(f"a packet of the kind 0x{data[0]:02x} before the broker's CONNACK")
    body = _rest(data[1:])
    if body is None:
        return None
    if len(body) < 2:
        raise Malformed(f"a CONNACK with {len(body)} bytes")
    # A broker that knows only MQTT 3.1.1 refuses us with a CONNACK of MQTT 3.1.1, which has no properties.
    properties = _rest(body[2:]) if len(body) > 2 else b""
    if properties is None:
        raise Malformed("a CONNACK that ends within its properties")
    return Greeting(body[1], _limit_bytes(properties))


def _rest(data: bytes) -> bytes | None:
    """The bytes that a length at the beginning of ``data`` counts; None: incomplete. Raises Malformed."""
    size = shift = 0
    for at, byte in enumerate(data, 1):
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return data[at : at + size] if len(data) >= at + size else None
        if shift > 21:
            raise Malformed("a length of more than four bytes")
    return None


def _limit_bytes(properties: bytes) -> int:
    at, found = 0, LARGEST_BYTES
    while at < len(properties):
        kind, at = properties[at], at + 1
        if kind in _FIXED:
            end = at + _FIXED[kind]
            if kind == _MAXIMUM_PACKET_SIZE:
                found = int.from_bytes(properties[at:end])
        elif kind in _TEXTS:
            end = at
            for _ in range(_TEXTS[kind]):
                end += 2 + int.from_bytes(properties[end : end + 2])
        else:
            raise Malformed(f"a CONNACK with the property 0x{kind:02x}")
        at = end
    if at > len(properties):
        raise Malformed("a CONNACK that ends within a property")
    return found


def subscribe(packet: int, topics: Iterable[tuple[str, int]]) -> bytes:
    """A SUBSCRIBE (section 3.8) with the id ``packet``, to topics with the highest QoS wanted for each."""
    asked = b"".join(_text(topic) + bytes((qos,)) for topic, qos in topics)
    return _packet(0x82, packet.to_bytes(2) + asked)


class Topic:
    """A topic, encoded once, to which messages are published at QoS 0 (section 3.3)."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = _text(name)

    def publish(self, payload: bytes) -> bytes:
        """A PUBLISH with this payload."""
        return b"0" + _length(len(self._name) + len(payload)) + self._name + payload


def puback(packet: int) -> bytes:
    """A PUBACK (section 3.4): the broker need not keep the message with this packet id."""
    return b"@\x02" + packet.to_bytes(2)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2) + encoded


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _length(len(body)) + body


def _length(size: int) -> bytes:
    """Encode the remaining length (section 2.2.3): seven bits in each byte, the lowest first."""
    encoded = bytearray()
    while size > 0x7F:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


@dataclass(slots=True)
class _Long:
    """A message longer than the limit, of which a part has arrived."""

    topic: bytes
    packet: int
    #: Bytes that are still to come.
    missing: int
    payload: Unindented

    def published(self) -> Published:
        return Published(self.topic, bytes(self.payload.text), self.packet)


class Decoder:
    """Takes bytes as they arrive and returns whole packets. Keeps at most one packet of ``limit_bytes``."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._long: _Long | None = None

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes. Returns the packets that are complete with them. Raises Malformed."""
        packets: list[Packet] = []
        long = self._long
        if long is not None:
            part, data = data[: long.missing], data[long.missing :]
            long.missing -= len(part)
            long.payload.take(part)
            if long.missing:
                return []
            packets.append(long.published())
            self._long = None
        self._buffer += data
        at = 0
        while (packet := self._next(at)) is not None:
            at = packet[1]
            packets.append(packet[0])
        del self._buffer[:at]
        return packets

    def _next(self, at: int) -> tuple[Packet, int] | None:
        """The packet that begins at offset ``at``, and the offset of its end; None: it is not complete."""
        buffer = self._buffer
        size, start = 0, at + 1
        for shift in range(0, 28, 7):
            if start >= len(buffer):
                return None
            byte = buffer[start]
            start += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            raise Malformed("a remaining length of more than four bytes")
        kind, end = buffer[at], start + size
        if kind & 0xF0 == _PUBLISH:
            return self._published(kind, start, end)
        if kind not in _OTHERS or size > _OTHER_BYTES:
            raise Malformed(f"a packet of the kind 0x{kind:02x} with {size} bytes, which we did not ask for")
        return (_other(kind, bytes(buffer[start:end])), end) if end <= len(buffer) else None

    def _published(self, kind: int, start: int, end: int) -> tuple[Packet, int] | None:
        buffer, qos = self._buffer, kind >> 1 & 3
        complete, size = end <= len(buffer), end - start
        if not complete and size <= self._limit:
            return None
        topic_end = start + 2 + int.from_bytes(buffer[start : start + 2])
        body = topic_end + 2 if qos else topic_end
        if qos > 1 or body > end:
            raise Malformed(f"a message of the kind 0x{kind:02x}, expected one of QoS 0 or 1")
        if len(buffer) < body:
            return None
        packet = int.from_bytes(buffer[topic_end:body])
        topic = bytes(buffer[start + 2 : topic_end])
        if size <= self._limit:
            return Published(topic, bytes(buffer[body:end]), packet, bool(kind & 1)), end
        long = _Long(topic, packet, end - len(buffer), Unindented(self._limit + 1))
        long.payload.take(bytes(buffer[body:end]))
        if complete:
            return long.published(), end
        self._long = long
        buffer.clear()
        return None


def _other(kind: int, body: bytes) -> Packet:
    if kind == _CONNACK and len(body) == 2:
        return Connack(body[1], known=bool(body[0] & 1))
    if kind == _SUBACK and len(body) > 2:
        return Suback(int.from_bytes(body[:2]), tuple(body[2:]))
    if kind == _PINGRESP and not body:
        return Pingresp()
    raise Malformed(f"a packet of the kind 0x{kind:02x} with {len(body)} bytes")
