"""Messages of the bus: a request is checked before a handler sees it, an answer is made so that it arrives.

The SDK makes every JSON key of a message an attribute, so a key ``match`` or ``type`` hides the method
of that name. This module passes on only the keys of the contract, each with its proper type.
"""

import json
import math
import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.errors import Fault, Invalid, TooLarge
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity

# The end of a string is optional: otherwise a long string without its end could take minutes.
_WORD = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.DOTALL)


class Kind(Enum):
    """What the controller takes a message for."""

    REQUEST = auto()
    ANSWER = auto()
    EVENT = auto()


def kind(message: Mapping[str, Any]) -> Kind:
    """Tell requests, answers and events apart as the controller does: by ``id`` and ``code`` alone.

    The controller cuts an id to 32 bits. An id that is not a number, or is 0 after that, makes an event.
    """
    if not _is_number(message.get("id")) or int(message["id"]) % 2**32 == 0:
        return Kind.EVENT
    return Kind.ANSWER if _is_number(message.get("code")) else Kind.REQUEST


def read(payload: bytes) -> tuple[dict[str, Any], Invalid | None]:
    """Decode a message. Returns it and None, or its outermost level and the error that kept us from the rest.

    Raises ValueError: not even the outermost level can be read, so nobody can be answered.
    """
    try:
        message = jsoncodec.decode_body(payload)
    except ValueError as error:
        fault = Invalid([Fault("", f"the message cannot be read: {error}")])
        return _outline(payload), fault
    return _object(message), None


def _object(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {type(message).__name__}")  # noqa: TRY004 # as not JSON
    return message


def _outline(payload: bytes) -> dict[str, Any]:
    """The outermost level of a JSON object, with null in place of each nested value."""
    kept: list[str] = []
    depth = 0
    for found in _WORD.finditer(payload.decode("utf-8", "replace")):  # no list: there may be very many words
        word = found[0]
        if word in "[{":
            depth += 1
            if depth <= 2:
                kept.append(word if depth == 1 else "null")
        elif word in "]}":
            depth -= 1
            if depth == 0:
                kept.append(word)
        elif depth <= 1:
            kept.append(word)
    return _object(jsoncodec.decode_loosely("".join(kept).encode("utf-8")))


def request(message: Mapping[str, Any]) -> dict[str, Any]:
    """The request in ``message``: a dict of id, method (lower case), resource, data (None when absent).

    ``tunnel`` and ``sign`` are in it when ``message`` has them; unknown keys are left out.
    Raises Invalid, with every fault: the message is no request.
    """
    faults = [
        Fault(key, f"expected a non-empty string, got {_shown(message.get(key))}")
        for key in ("method", "resource")
        if not _is_text(message.get(key))
    ]
    if faults:
        raise Invalid(faults)
    checked = {
        "id": message["id"],
        "method": message["method"].lower(),
        "resource": message["resource"],
        "data": message.get("data"),
    }
    if _is_text(message.get("tunnel")):
        checked["tunnel"] = message["tunnel"]
    if "sign" in message:
        checked["sign"] = _signs(message)
    return checked


def answer(
    message: Mapping[str, Any],
    signer: str,
    code: int,
    data: Any,
    capacity: Capacity = DEFAULT_CAPACITY,
) -> bytes:
    """Encode the answer to ``message`` so that the controller passes it on.

    ``message`` needs only an id. ``signer`` is the name of our bundle.

    Raises:
        TooLarge: the bus does not carry an answer of this size.
        TypeError, ValueError: ``data`` is not JSON.
    """
    answered = {
        "id": message["id"],
        "code": code,
        "method": _text(message.get("method")),
        "resource": _text(message.get("resource")),
        "data": data,
        "sign": [*_signs(message), signer],
    }
    encoded = jsoncodec.encode(jsoncodec.carriable(answered))
    if (size := capacity.size(encoded)) > capacity.message_bytes:
        raise TooLarge(
            f"the answer has {size:,} bytes, and the bus carries less than "
            f"{capacity.message_bytes + 1:,}; ask for less, for example with ?limit="
        )
    return encoded


def refused(encoded: bytes) -> bytes | None:
    """The error to send in place of an answer that the broker does not take; None: it is no answer."""
    message = jsoncodec.decode_loosely(encoded)
    if kind(message) is not Kind.ANSWER:
        return None
    signs = _signs(message)
    return answer(
        {**message, "sign": signs[:-1]},
        signs[-1] if signs else "unknown",
        TooLarge.status,
        {
            "message": f"The answer has {len(encoded)} bytes, and the broker closes the connection when it "
            "is sent: ask for less, for example with limit, or over HTTP. What was asked for may be done."
        },
    )


def _text(value: Any) -> str:
    """A method or resource for an answer: the bridge wants a non-empty string there."""
    return value if _is_text(value) else "unknown"


def _signs(message: Mapping[str, Any]) -> list[str]:
    given = message.get("sign")
    return [sign for sign in given if isinstance(sign, str)] if isinstance(given, list) else []


def _shown(value: Any) -> str:
    """The value for a sentence. An object or a list is only named, for it may be large or deep."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value)[:60]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: Any) -> bool:
    # math.isfinite would raise for an integer that no float can hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
