"""What the Sanji bus can carry, and the JSON that goes over it.

The controller drops what it cannot carry without a word: a message of 1 MiB or more, NaN and
Infinity, an integer beyond 64 bits, NUL in a string, a lone surrogate, deep nesting (seen with
sanji-controller 1.6.2). So what we send is checked before it is accepted, and what we answer is
made to fit.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from puppetmaster.errors import Fault

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
#: The controller takes 2,048 levels, Python's decoder fewer; nobody's command needs more than this.
DEPTH_LIMIT = 200

#: Of the place of a fault so many characters are shown.
PATH_LENGTH = 200

DIRECT_BEGINS, DIRECT_ENDS = "/puppetmaster-", "/remote"

_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1
_PART = re.compile(
    rb'"(?P<key>(?:[^"\\]|\\.)*+)"(?:\s*+:\s*+(?P<number>-?(?:\d[\d.eE+-]*+|Infinity)|NaN)(?=[\s,}]))?'
    rb'|(?P<opens>[\[{])|(?P<closes>[\]}])|(?P<torn>")',
    re.DOTALL,
)
_INDENTATION = re.compile(rb"\n *+")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_INDENTED = re.compile(rb"\{\}|\[\]|[\[{]|[\]}]|[,:]|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
#: The controller writes a number that is no integer with up to so many characters.
_REAL_BYTES = 24
_COMPACT = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|\d{19}")


#: Where the controller of a bus takes what is to be passed on.
CONTROLLER_TOPIC = "/controller"


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
        return min(ANSWER_LIMIT_BYTES, self.broker_bytes - ENVELOPE_BYTES)

    def size(self, encoded: bytes, depth: int = 0) -> int:
        """How many bytes compact JSON has where it is longest, if it stands so deep in its message."""
        return _indented(encoded, depth) if self.limited else len(encoded)


DEFAULT_CAPACITY = Capacity()


def _indented(encoded: bytes, depth: int) -> int:
    """The length of compact JSON with the controller's indentation, at most; on a line of its own."""
    size = len(encoded) + 1 + 4 * depth
    for part in _INDENTED.findall(_STRING.sub(b"s", encoded)):
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


class Uncarriable(ValueError):
    """A message holds something that JSON, or the controller, does not know."""


def encode(value: Any) -> bytes:
    """Compact JSON, ASCII. Raises ValueError for NaN and Infinity."""
    return _COMPACT.encode(value).encode("ascii")


def _refuse(constant: str) -> float:
    raise Uncarriable(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Uncarriable(f"{text} is larger than a number can be")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the property {json.dumps(twice[:80])} is there twice")
    return found


_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode
_ONCE = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once).decode


def decode(payload: bytes) -> Any:
    """The JSON in ``payload``. Raises ValueError: not JSON; ``Uncarriable``: NaN or Infinity in it."""
    try:
        return _STRICT(payload.decode(json.detect_encoding(payload), "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_body(payload: bytes | bytearray) -> Any:
    """As ``decode``, for what somebody asks us for: a property that is there twice is a ValueError too.

    Of two only one would count, and perhaps not the one that was meant.
    """
    try:
        return _ONCE(payload.decode(json.detect_encoding(payload), "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_loosely(payload: bytes | bytearray) -> Any:
    """As ``decode``, but NaN and Infinity pass as floats: to find out whose message it is."""
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def numbers(payload: bytes, *, torn: bool = False) -> dict[str, float]:
    """The numbers at the top level of the JSON object in ``payload``, by their keys.

    To find out whose message it is that ``decode`` refuses: the rest may be nested as deeply as it likes.
    Empty when it is not one whole object; with ``torn`` only the beginning of it is there.
    """
    found: dict[str, float] = {}
    depth = end = 0
    for part in _PART.finditer(payload):
        if part["torn"]:
            depth = -1
        elif part["opens"]:
            depth += 1
        elif part["closes"]:
            depth -= 1
        elif depth == 1 and part["number"]:
            found |= _number(part["key"], part["number"])
        end = part.end()
        if depth < 1:
            break
    whole = depth == 0 and end == len(payload.rstrip())
    return found if whole or torn else {}


def _number(key: bytes, digits: bytes) -> dict[str, float]:
    try:
        return {key.decode(): json.loads(digits)}
    except ValueError:
        return {}


class Unindented:
    """A message as it comes, without the controller's indentation: that may be longer than all the rest.

    Of a message that is longer all the same ``text`` has the first ``most`` bytes.
    """

    def __init__(self, most: int) -> None:
        self.text = bytearray()
        self._most = most
        self._begun = b""  # of an indentation that may go on in the next part

    def take(self, part: bytes) -> None:
        """The next bytes of it."""
        part = self._begun + part
        before = part.rstrip(b" ")
        if before.endswith(b"\n"):
            before = before[:-1]
            self._begun = part[len(before) :]
        else:
            before, self._begun = part, b""
        # JSON has line breaks only between its parts: in a string they are written as \\n.
        self.text += _INDENTATION.sub(b"", before)
        del self.text[self._most :]


def faults(value: Any, path: str) -> list[Fault]:
    """What in ``value`` the controller would drop without a word, each with its place."""
    return list(each_fault(value, path))


def each_fault(value: Any, path: str) -> Iterator[Fault]:
    """As ``faults``, one by one: there may be very many."""
    try:
        if depth(value) <= DEPTH_LIMIT and not _SUSPECT.search(json.dumps(value, allow_nan=False)):
            return iter(())
    except (ValueError, TypeError, RecursionError):
        pass
    return _walk(value, path, 0)


def depth(value: Any) -> int:
    """How deeply ``value`` is nested: 0 for a number or a string."""
    level, layer = 0, [value]
    while layer := [
        child
        for parent in layer
        if isinstance(parent, (dict, list))
        for child in (parent.values() if isinstance(parent, dict) else parent)
    ]:
        level += 1
        if level > DEPTH_LIMIT:
            break
    return level


def _walk(value: Any, path: str, level: int) -> Iterator[Fault]:
    if level > DEPTH_LIMIT:
        yield Fault(path, f"expected at most {DEPTH_LIMIT} levels of nesting, got more")
    elif isinstance(value, dict):
        for key, child in value.items():
            place = _below(path, f".{_shown(key)}")
            yield from _text_faults(key, place, "key")
            yield from _walk(child, place, level + 1)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _walk(child, _below(path, f"[{index}]"), level + 1)
    elif isinstance(value, str):
        yield from _text_faults(value, path, "string")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(path, f"expected a number that JSON knows, got {value}")
    elif isinstance(value, int) and not _INT_LOW <= value <= _INT_HIGH:
        yield Fault(path, "expected an integer of 64 bits, which is all the bus carries, got a larger one")


def _below(path: str, step: str) -> str:
    """The place one level deeper; where that is long its beginning, for there may be many in it."""
    if path.endswith(".."):
        return path
    return path + step if len(path) + len(step) <= PATH_LENGTH else (path + step)[:PATH_LENGTH] + ".."


def _shown(key: str) -> str:
    shown = key[: PATH_LENGTH + 1].encode("ascii", "backslashreplace").decode("ascii")
    return shown.replace("\0", "\\u0000")


def _text_faults(text: str, path: str, what: str) -> Iterator[Fault]:
    if "\0" in text:
        yield Fault(path, f"expected a {what} without \\u0000, which the bus cannot carry")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        yield Fault(path, f"expected a {what} of whole characters, got half of a surrogate pair")


def carriable(value: Any) -> Any:
    """``value`` as the bus can carry it; what it cannot is replaced by the nearest that it can.

    Lone surrogates and NUL become U+FFFD, integers beyond 64 bits become strings. Meant for
    answers that show what a device once sent; what is fine stays as it is. Raises ValueError: NaN.
    """
    text = json.dumps(value, allow_nan=False)
    return _replaced(value) if _SUSPECT.search(text) else value


def _replaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {_whole(key): _replaced(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_replaced(child) for child in value]
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, int) and not _INT_LOW <= value <= _INT_HIGH:
        return str(value)
    return value


def _whole(text: str) -> str:
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return paired.replace("\0", "\ufffd")


class Command:
    """What is sent for one batch item, encoded once for each way; each request adds id and destination."""

    __slots__ = ("_command", "_direct", "_remote", "_tunnel")

    def __init__(self, command: Mapping[str, Any], tunnel: str) -> None:
        self._command = command
        self._tunnel = tunnel
        self._direct = self._remote = ""

    def message(self, message_id: int, destination: str) -> Outgoing:
        """The Sanji message that carries it to ``/remote/<destination>`` under ``message_id``."""
        if not self._remote:
            inner = encode(self._command).decode("ascii")
            method = self._command["method"]
            self._remote = f'"method":"{method}","tunnel":"{self._tunnel}","data":{inner},"resource":'
        resource = json.dumps(f"/remote/{destination}")
        return Outgoing(message_id, f'{{"id":{message_id},{self._remote}{resource}}}'.encode("ascii"))

    def direct(self, message_id: int, destination: str) -> Outgoing:
        """The Sanji message that the gateway's own controller is given under ``message_id``."""
        if not self._direct:
            command = {key: self._command[key] for key in ("method", "resource", "data")}
            self._direct = encode(command).decode("ascii").removeprefix("{")
        tunnel = direct_tunnel(self._tunnel, destination)
        payload = f'{{"id":{message_id},"tunnel":"{tunnel}",{self._direct}'.encode("ascii")
        return Outgoing(message_id, payload, direct_topic(destination), tunnel)
