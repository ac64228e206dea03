"""JSON as the Sanji bus carries it, and what the bus cannot carry.

The controller drops messages with NaN or Infinity, an integer beyond 64 bits, NUL in a string, a lone
surrogate or deep nesting, without a report (seen with sanji-controller 1.6.2). So commands are checked before
they are accepted, and our answers are made to fit.
"""

import json
import json.encoder
import json.scanner
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from puppetmaster.errors import Fault

#: Limits for bytes that were sent and wait in memory for the broker. From ``WAITING_BYTES`` on nothing more
#: is sent, until no more than ``FEW_BYTES`` wait.
WAITING_BYTES, FEW_BYTES = 4 * 1024 * 1024, 1024 * 1024
#: Most memory of a small value: its object, and its place in a list or dict.
VALUE_BYTES = 72
#: Most levels of nesting. The controller takes 2,048 levels, Python's decoder fewer; commands need far less.
DEPTH_LIMIT = 200

#: JSON with more values than this is decoded and encoded by Python code, between whose steps other threads
#: run. The C code is faster, but holds the interpreter lock all the time.
MANY_VALUES = 50_000
#: Number of properties that are put into an object in one step.
PROPERTIES = 10_000
#: A long text is searched in parts of this many characters, which overlap so that no find is missed.
PART_LENGTH, OVERLAP = 256 * 1024, 20

#: Most characters of a fault's place.
PATH_LENGTH = 200


_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1
_PART = re.compile(
    rb'"(?P<key>(?:[^"\\]|\\.)*+)"(?:\s*+:\s*+(?P<number>-?(?:\d[\d.eE+-]*+|Infinity)|NaN)(?=[\s,}]))?'
    rb'|(?P<opens>[\[{])|(?P<closes>[\]}])|(?P<torn>")',
    re.DOTALL,
)
_INDENTATION = re.compile(rb"\n *+")
_COMPACT = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_HALF = re.compile("[\ud800-\udfff]")
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|\d{19}")


class Uncarriable(ValueError):
    """A message contains something that JSON does not know: NaN, Infinity, or a number too large."""


def _encoder() -> Callable[[Any], str]:
    """The standard library's encoder of values as compact JSON.

    ``JSONEncoder.encode`` makes a new C encoder for each value. That takes as long as the value of a request.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _COMPACT.encode
    quoted = json.encoder.encode_basestring_ascii
    parts = make(None, _COMPACT.default, quoted, None, ":", ",", False, False, False)  # no NaN, as above
    return lambda value: "".join(parts(value, 0))


#: Compact JSON of a value, as text in ASCII. Raises ValueError: NaN or Infinity.
text = _encoder()


def encode(value: Any) -> bytes:
    """As ``text``, but as bytes."""
    return text(value).encode("ascii")


def compact(value: Any) -> str:
    """As ``text``, but in steps when there are more than ``MANY_VALUES``."""
    if _extent(value)[1] > MANY_VALUES:
        return "".join(_COMPACT.iterencode(value))
    return text(value)


def _refuse(constant: str) -> float:
    raise Uncarriable(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Uncarriable(f"{text} is larger than a number can be")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for begin in range(0, len(pairs), PROPERTIES):
        found.update(pairs[begin : begin + PROPERTIES])
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the property {json.dumps(twice[:80])} is there twice")
    return found


_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_ONCE = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once)
_LOOSE = json.JSONDecoder()


def _in_steps(decoder: json.JSONDecoder) -> json.JSONDecoder:
    """The same decoder in Python code, between whose steps other threads run."""
    patient = json.JSONDecoder(
        parse_constant=decoder.parse_constant,
        parse_float=decoder.parse_float,
        object_pairs_hook=decoder.object_pairs_hook,
    )
    patient.scan_once = json.scanner.py_make_scanner(patient)  # type: ignore[attr-defined]
    return patient


def _decoded(decoder: json.JSONDecoder, payload: bytes | bytearray) -> Any:
    """Decode with this decoder, in steps when there are many values. Raises ValueError: not JSON."""
    if len(payload) > MANY_VALUES and values(payload) > MANY_VALUES:
        decoder = _in_steps(decoder)
    try:
        return decoder.decode(payload.decode(json.detect_encoding(payload), "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        if "set_int_max_str_digits" in str(error):  # Python's own advice is nothing for a caller
            raise ValueError("it has a number of more than 4300 digits") from None
        raise


def decode(payload: bytes) -> Any:
    """Decode JSON. Raises ValueError: it is not JSON; ``Uncarriable``: it contains NaN or Infinity."""
    return _decoded(_STRICT, payload)


def decode_body(payload: bytes | bytearray) -> Any:
    """As ``decode``, for requests to us: a property that an object has twice is a ValueError too.

    Only one of the two would count, and perhaps not the one that the caller meant.
    """
    return _decoded(_ONCE, payload)


def values(payload: bytes | bytearray) -> int:
    """Most values that the JSON can have: the number of its commas and opening brackets."""
    # Three steps, between which other threads run.
    return payload.count(b"[") + payload.count(b"{") + payload.count(b",")


def weight(payload: bytes) -> int:
    """About how many bytes of memory the payload and its decoded form take together."""
    return len(payload) + VALUE_BYTES * values(payload)


def memory(value: Any) -> int:
    """About how many bytes of memory ``value``, which is decoded, takes."""
    size, layer = 0, [value]
    while layer:
        size += VALUE_BYTES * len(layer) + sum(len(one) for one in layer if isinstance(one, str))
        parents = [one for one in layer if isinstance(one, (dict, list))]
        size += sum(len(key) for one in parents if isinstance(one, dict) for key in one)
        layer = [child for one in parents for child in (one.values() if isinstance(one, dict) else one)]
    return size


def decode_loosely(payload: bytes | bytearray) -> Any:
    """As ``decode``, but NaN and Infinity are decoded as floats, so that the message's id can be read."""
    return _decoded(_LOOSE, payload)


def numbers(payload: bytes, *, torn: bool = False) -> dict[str, float]:
    """The numbers at the top level of the JSON object in ``payload``, by key.

    This finds the id of a message that ``decode`` refuses, however deeply the rest is nested. Empty when the
    payload is not one whole object. With ``torn`` the payload is only the beginning of an object.
    """
    found: dict[str, float] = {}
    depth = end = 0
    for part in _PART.finditer(payload):
        if part["torn"]:
            break
        if part["opens"]:
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
    """Removes the controller's indentation from a message while it arrives.

    The indentation may be longer than the rest of the message. ``text`` is the message without it, cut after
    ``most`` bytes.
    """

    def __init__(self, most: int) -> None:
        self.text = bytearray()
        self._most = most
        self._begun = b""  # the beginning of an indentation that may go on in the next part

    def take(self, part: bytes) -> None:
        """Add the next bytes of the message."""
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
    """Everything in ``value``, which is at the place ``path``, that the bus cannot carry."""
    return list(each_fault(value, path))


def each_fault(value: Any, path: str) -> Iterator[Fault]:
    """As ``faults``, but as an iterator, because there may be very many."""
    levels, count = _extent(value)
    try:
        if levels <= DEPTH_LIMIT and count <= MANY_VALUES and not _suspect(value):
            return iter(())
    except (ValueError, TypeError, RecursionError):
        pass
    return _walk(value, path, 0)


def _suspect(value: Any) -> bool:
    """Whether ``value`` may contain something that the bus cannot carry. Raises ValueError: NaN."""
    text = json.dumps(value, allow_nan=False)
    return any(
        _SUSPECT.search(text, begin, begin + PART_LENGTH + OVERLAP)
        for begin in range(0, len(text), PART_LENGTH)
    )


def depth(value: Any) -> int:
    """Number of levels of nesting in ``value``: 0 for a number or a string."""
    return _extent(value)[0]


def _extent(value: Any) -> tuple[int, int]:
    """Number of levels of nesting in ``value``, and of values; both are counted down to ``DEPTH_LIMIT``."""
    level, layer, count = 0, [value], 1
    while layer := [
        child
        for parent in layer
        if isinstance(parent, (dict, list))
        for child in (parent.values() if isinstance(parent, dict) else parent)
    ]:
        level += 1
        count += len(layer)
        if level > DEPTH_LIMIT:
            break
    return level, count


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
    """The place one level deeper. A long one is cut, because it may be listed many times."""
    return path + step if len(path) + len(step) <= PATH_LENGTH else (path + step)[:PATH_LENGTH] + ".."


def _shown(key: str) -> str:
    shown = key[:PATH_LENGTH].encode("ascii", "backslashreplace").decode("ascii")
    return shown.replace("\0", "\\u0000")


def _text_faults(text: str, path: str, what: str) -> Iterator[Fault]:
    if "\0" in text:
        yield Fault(path, f"expected a {what} without \\u0000, which the bus cannot carry")
    if not text.isascii() and _HALF.search(text):
        yield Fault(path, f"expected a {what} of whole characters, got half of a surrogate pair")


def carriable(value: Any) -> Any:
    """``value`` with everything replaced that the bus cannot carry, for answers that show a device's data.

    Lone surrogates and NUL become U+FFFD, integers beyond 64 bits become strings. Raises ValueError: NaN.
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
