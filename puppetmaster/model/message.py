"""The messages of the bus: how long they may be, and how a command is encoded.

The controller drops messages that it cannot carry, without a report: 1 MiB or more, NaN and Infinity, an
integer beyond 64 bits, NUL in a string, a lone surrogate, deep nesting (seen with sanji-controller 1.6.2).
This module knows the lengths; ``jsoncodec`` finds the rest.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from puppetmaster.jsoncodec import compact

#: The controller drops a message of this many bytes or more.
MESSAGE_LIMIT_BYTES = 1_048_576
#: Longest ``data`` of an answer; a longer one becomes 413. The rest is for the envelope around it.
ANSWER_LIMIT_BYTES = 900 * 1024
#: Most that MQTT adds to a message: kind and length (5), packet id (2), the topic's length (2) and the topic,
#: the longest of which is a tunnel (63). The topic of a gateway's own controller may be longer, but a command
#: sent to it is shorter by more than that.
PACKET_BYTES = 5 + 2 + 2 + 63
#: Bytes kept free for the envelope of an answer when the broker's limit counts.
ENVELOPE_BYTES = 2048
#: How a topic of ``direct_tunnel`` begins and ends.
DIRECT_BEGINS, DIRECT_ENDS = "/puppetmaster-", "/remote"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_INDENTED = re.compile(rb"\{\}|\[\]|[\[{]|[\]}]|[,:]|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
#: Most characters with which the controller writes a number that is no integer.
_REAL_BYTES = 24
#: The topic on which the controller takes messages to pass on.
CONTROLLER_TOPIC = "/controller"
#: The controller's resource, and topic, with which models are registered.
REGISTRATION = "/controller/registration"
#: The controller's resource that answers who owns the resource named behind it.
DEPENDENCY = "/controller/resource/dependency?resource="


class Outgoing(NamedTuple):
    """A message to be sent."""

    #: The message id; 0: nobody needs to know whether this message has left.
    id: int
    #: Its JSON.
    payload: bytes
    #: The topic to publish it to.
    topic: str = CONTROLLER_TOPIC
    #: The topic that its answer comes to; empty: our common tunnel.
    tunnel: str = ""


class Tried(NamedTuple):
    """A long message that was being sent, alone, when the connection ended."""

    #: Its message id.
    id: int
    #: Whether all of it had left. If not, its last byte had not, so nobody can have passed it on.
    whole: bool


def direct_topic(destination: str) -> str:
    """The topic for messages to a gateway's own controller; the gateway's bridge takes them there."""
    return f"/{destination}{CONTROLLER_TOPIC}"


def direct_tunnel(tunnel: str, destination: str) -> str:
    """The topic on which a gateway's own controller answers; its bridge brings ``/+/remote``.

    The topic is a digest of the destination, keyed with our own ``tunnel``, which the gateways do not see. So
    no gateway can answer in the name of another, whatever message id it uses. At most 63 characters.
    """
    token = hashlib.blake2b(destination.encode(), key=tunnel.encode()[:64], digest_size=12).hexdigest()
    return f"{DIRECT_BEGINS}{token}{DIRECT_ENDS}"


def is_direct_tunnel(topic: str) -> bool:
    """Whether the topic is one that ``direct_tunnel`` makes."""
    return topic.startswith(DIRECT_BEGINS) and topic.endswith(DIRECT_ENDS)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How long a message may be: up to the limit of the controller or of the broker, whichever is smaller.

    Most messages pass the broker twice: as they were sent, and indented, as the controller passes them on. A
    broker drops a longer one without a report, or closes the sender's connection.
    """

    #: The longest MQTT packet that the broker carries.
    broker_bytes: int = MESSAGE_LIMIT_BYTES

    @property
    def limited(self) -> bool:
        """Whether the broker carries less than the controller."""
        return self.broker_bytes < MESSAGE_LIMIT_BYTES

    @property
    def message_bytes(self) -> int:
        """Most bytes of a message's JSON, as ``size`` counts them."""
        return self.broker_bytes - (PACKET_BYTES if self.limited else 1)

    @property
    def answer_bytes(self) -> int:
        """Most bytes of an answer's ``data``, as ``size`` counts them."""
        return max(min(ANSWER_LIMIT_BYTES, self.broker_bytes - ENVELOPE_BYTES), 0)

    def size(self, encoded: bytes, depth: int = 0) -> int:
        """Length of compact JSON that stands ``depth`` levels deep in its message, where it is longest."""
        return _indented(encoded, depth) if self.limited else len(encoded)


DEFAULT_CAPACITY = Capacity()


def _indented(encoded: bytes, depth: int) -> int:
    """Most bytes that compact JSON can have with the controller's indentation, on a line of its own."""
    size = len(encoded) + 1 + 4 * depth
    for found in _INDENTED.finditer(_STRING.sub(b"s", encoded)):
        part = found[0]
        if part in b"{[":
            depth += 1
        elif part in b"}]":
            depth -= 1
        elif part == b":":
            size += 1
            continue
        elif part != b",":
            if not part.lstrip(b"-").isdigit() and part not in (b"{}", b"[]"):
                size += max(_REAL_BYTES - len(part), 0)
            continue
        size += 1 + 4 * depth
    return size


class EncodedCommand:
    """The command of one item, encoded once for each route. Each request adds its id and destination.

    ``tunnel`` is the topic that answers through the remote bundle come to.
    """

    __slots__ = ("_command", "_direct", "_growth_bytes", "_remote", "_tunnel")

    def __init__(self, command: Mapping[str, Any], tunnel: str) -> None:
        self._command = command
        self._tunnel = tunnel
        self._direct = self._remote = ""
        self._growth_bytes: int | None = None

    def packet_bytes(self, outgoing: Outgoing) -> int:
        """Length of a message of this command where it is longest at our broker, with MQTT's header.

        That is where our controller passes it on, indented. A gateway's own controller passes it on at the
        gateway's broker, which does not matter here.
        """
        if outgoing.tunnel:
            return PACKET_BYTES + len(outgoing.topic.encode()) + len(outgoing.payload)
        if self._growth_bytes is None:  # the same for every destination: ids and names are not indented
            self._growth_bytes = _indented(outgoing.payload, 0) - len(outgoing.payload)
        return PACKET_BYTES + len(outgoing.payload) + self._growth_bytes

    def message(self, message_id: int, destination: str) -> Outgoing:
        """The message that carries the command to ``/remote/<destination>`` under ``message_id``."""
        if not self._remote:
            inner = compact(self._command)
            method = self._command["method"]
            self._remote = f'"method":"{method}","tunnel":"{self._tunnel}","data":{inner},"resource":'
        resource = json.dumps(f"/remote/{destination}")
        return Outgoing(message_id, f'{{"id":{message_id},{self._remote}{resource}}}'.encode("ascii"))

    def direct(self, message_id: int, destination: str) -> Outgoing:
        """The message that carries the command to the gateway's own controller under ``message_id``."""
        if not self._direct:
            command = {key: self._command[key] for key in ("method", "resource", "data")}
            self._direct = compact(command).removeprefix("{")
        tunnel = direct_tunnel(self._tunnel, destination)
        payload = f'{{"id":{message_id},"tunnel":"{tunnel}",{self._direct}'.encode("ascii")
        return Outgoing(message_id, payload, direct_topic(destination), tunnel)
