"""The messages of the bus: how long they may be, and what a command looks like on its way.

The controller drops what it cannot carry without a word: a message of 1 MiB or more, NaN and
Infinity, an integer beyond 64 bits, NUL in a string, a lone surrogate, deep nesting (seen with
sanji-controller 1.6.2). ``jsoncodec`` finds what it cannot carry; here it is what is too long.
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
#: An answer beyond this is refused with 413: the envelope needs room too.
ANSWER_LIMIT_BYTES = 900 * 1024
#: What MQTT adds to a message at most: kind and length (5), the packet's number and the topic's length (2
#: each), and the topic, the longest of which is a tunnel. That of a gateway's own controller may be longer,
#: but not by as much as the way through the remote bundle adds to a command.
PACKET_BYTES = 5 + 2 + 2 + 63
#: What is kept free for the envelope of an answer, where the broker's limit counts.
ENVELOPE_BYTES = 2048
DIRECT_BEGINS, DIRECT_ENDS = "/puppetmaster-", "/remote"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_INDENTED = re.compile(rb"\{\}|\[\]|[\[{]|[\]}]|[,:]|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
#: The controller writes a number that is no integer with up to so many characters.
_REAL_BYTES = 24
#: Where the controller of a bus takes what is to be passed on.
CONTROLLER_TOPIC = "/controller"
#: Whoever asks this resource of the controller is told who owns the resource that is named after it.
DEPENDENCY = "/controller/resource/dependency?resource="


class Outgoing(NamedTuple):
    """A message that is to leave: its id, 0 when nobody asks for it, and its JSON.

    ``topic`` is where it is published, ``tunnel`` where its answer comes, if that is not the common one.
    """

    id: int
    payload: bytes
    topic: str = CONTROLLER_TOPIC
    tunnel: str = ""


class Tried(NamedTuple):
    """A long message that was alone on the connection when that ended.

    ``whole``: all of it had left. Else its last byte had not: nobody can have passed it on.
    """

    id: int
    whole: bool


def direct_topic(destination: str) -> str:
    """Where a message for a gateway's own controller is published: the gateway's bridge takes it there."""
    return f"/{destination}{CONTROLLER_TOPIC}"


def direct_tunnel(tunnel: str, destination: str) -> str:
    """Where a gateway's own controller answers: a topic that its bridge brings (``/+/remote``).

    It is made of our own ``tunnel``, which the gateways do not see, and each gateway has another one. So none
    can answer for another gateway, whatever message id it takes. At most 63 characters.
    """
    token = hashlib.blake2b(destination.encode(), key=tunnel.encode()[:64], digest_size=12).hexdigest()
    return f"{DIRECT_BEGINS}{token}{DIRECT_ENDS}"


def is_direct_tunnel(topic: str) -> bool:
    """Whether ``direct_tunnel`` makes such topics."""
    return topic.startswith(DIRECT_BEGINS) and topic.endswith(DIRECT_ENDS)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How long a message on the bus may be: what the controller takes, or the broker, where that is less.

    A broker with a limit sees most messages twice: as they were sent and, indented, as the controller passes
    them on. It drops one that is longer without a word, or closes the connection of who sent it.
    """

    #: The longest MQTT packet that the broker carries.
    broker_bytes: int = MESSAGE_LIMIT_BYTES

    @property
    def limited(self) -> bool:
        """Whether the broker carries less than the controller."""
        return self.broker_bytes < MESSAGE_LIMIT_BYTES

    @property
    def message_bytes(self) -> int:
        """The most that the JSON of a message may have, as ``size`` counts it."""
        return self.broker_bytes - (PACKET_BYTES if self.limited else 1)

    @property
    def answer_bytes(self) -> int:
        """The most that the data of an answer may have, as ``size`` counts it."""
        return max(min(ANSWER_LIMIT_BYTES, self.broker_bytes - ENVELOPE_BYTES), 0)

    def size(self, encoded: bytes, depth: int = 0) -> int:
        """How many bytes compact JSON has where it is longest, if it stands so deep in its message."""
        return _indented(encoded, depth) if self.limited else len(encoded)


DEFAULT_CAPACITY = Capacity()


def _indented(encoded: bytes, depth: int) -> int:
    """The length of compact JSON with the controller's indentation, at most; on a line of its own."""
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
    """What is sent for one batch item, encoded once for each way; each request adds id and destination."""

    __slots__ = ("_command", "_direct", "_growth_bytes", "_remote", "_tunnel")

    def __init__(self, command: Mapping[str, Any], tunnel: str) -> None:
        self._command = command
        self._tunnel = tunnel
        self._direct = self._remote = ""
        self._growth_bytes: int | None = None

    def packet_bytes(self, outgoing: Outgoing) -> int:
        """The length of a message of this command where it is longest at our broker, with MQTT's header.

        That is as our controller passes it on. The controller of a gateway does that on its own broker.
        """
        if outgoing.tunnel:
            return PACKET_BYTES + len(outgoing.topic.encode()) + len(outgoing.payload)
        if self._growth_bytes is None:  # the same for every destination: ids and names are not indented
            self._growth_bytes = _indented(outgoing.payload, 0) - len(outgoing.payload)
        return PACKET_BYTES + len(outgoing.payload) + self._growth_bytes

    def message(self, message_id: int, destination: str) -> Outgoing:
        """The Sanji message that carries it to ``/remote/<destination>`` under ``message_id``."""
        if not self._remote:
            inner = compact(self._command)
            method = self._command["method"]
            self._remote = f'"method":"{method}","tunnel":"{self._tunnel}","data":{inner},"resource":'
        resource = json.dumps(f"/remote/{destination}")
        return Outgoing(message_id, f'{{"id":{message_id},{self._remote}{resource}}}'.encode("ascii"))

    def direct(self, message_id: int, destination: str) -> Outgoing:
        """The Sanji message that the gateway's own controller is given under ``message_id``."""
        if not self._direct:
            command = {key: self._command[key] for key in ("method", "resource", "data")}
            self._direct = compact(command).removeprefix("{")
        tunnel = direct_tunnel(self._tunnel, destination)
        payload = f'{{"id":{message_id},"tunnel":"{tunnel}",{self._direct}'.encode("ascii")
        return Outgoing(message_id, payload, direct_topic(destination), tunnel)
