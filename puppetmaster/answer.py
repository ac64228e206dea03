"""What an answer from the bus means for the request it answers.

An answer of the Sanji contract has an outer code, of the remote bundle or (signed
``["controller"]``) of the controller, and where its ``data`` holds an integer ``code``, an inner
one of the device. The controller's codes and texts were seen with sanji-controller 1.6.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from puppetmaster import wire
from puppetmaster.request import RequestEvent


class Refusal(StrEnum):
    """Why the controller did not pass a request on: it did not run and can be sent again."""

    LOCKED = "locked"  #: 423, or 503: a lock that it needs is held
    ID_USED = "id used"  #: 403: somebody on the bus has this message id in flight


@dataclass(frozen=True, slots=True)
class Answer:
    """The event an answer is for its request, the result to keep, and why it was refused, if it was."""

    event: RequestEvent
    result: Mapping[str, Any]
    refusal: Refusal | None = None

    @property
    def locked(self) -> bool:
        """Whether it was refused because somebody holds a lock."""
        return self.refusal is Refusal.LOCKED

    def as_delivery(self) -> "Answer":
        """What it means for an event: that the remote bundle took it, whatever lies within."""
        if self.result.get("source") != "device":
            return self
        result = {"code": 200, "data": self.result.get("data"), "source": "remote"}
        return Answer(RequestEvent.SUCCEED, result)


def is_answer(message: Any) -> bool:
    """Whether ``message`` is an answer at all: an object with a number as id and as code."""
    if not isinstance(message, dict) or not _is_number(message.get("code")):
        return False
    id_: Any = message.get("id")
    return _is_number(id_) and abs(id_) < 2**63  # beyond that, and at infinity, the store has no ids


def read(message: Mapping[str, Any]) -> Answer:
    """What ``message``, for which ``is_answer`` is true, means."""
    code, data = _integer(message["code"]), message.get("data")
    if wire.depth(data) > wire.DEPTH_LIMIT:
        return garbled(f"it is nested deeper than {wire.DEPTH_LIMIT} levels")
    if message.get("sign") == ["controller"]:
        return _from_controller(code, data)
    if 200 <= code <= 299 and isinstance(data, dict) and _is_integer(data.get("code")):
        return _outcome(data["code"], data.get("data"), "device")
    return _outcome(code, data, "remote")


def garbled(reason: str) -> Answer:
    """An answer that came but cannot be kept: it is not JSON, or nested too deeply to be stored and shown."""
    return Answer(
        RequestEvent.FAIL,
        {
            "code": 502,
            "data": None,
            "source": "puppetmaster",
            "message": f"the answer cannot be kept: {reason}",
        },
    )


def _from_controller(code: float, data: Any) -> Answer:
    refusal = None
    if code in (423, 503):
        refusal = Refusal.LOCKED
    elif code == 403 and "'id' was used" in _text(data):
        refusal = Refusal.ID_USED
    if refusal:
        result = _result(code, data, "controller", _text(data) or "refused")
        return Answer(RequestEvent.REFUSE, result, refusal)
    if code == 404 or (code == 403 and "no subscribed model" in _text(data)):
        result = _result(code, data, "controller", "no gateway of this name is registered at the controller")
        return Answer(RequestEvent.FAIL, result)
    if code == 408:
        said = "passed on by the controller, but not answered in the owner's ttl: it may have run"
        return Answer(RequestEvent.EXPIRE, _result(code, data, "controller", said))
    return _outcome(code, data, "controller")


def _outcome(code: float, data: Any, source: str) -> Answer:
    if 200 <= code <= 299:
        return Answer(RequestEvent.SUCCEED, _result(code, data, source))
    message = _text(data) or f"the {source} answered {code}"
    return Answer(RequestEvent.FAIL, _result(code, data, source, message))


def _result(code: float, data: Any, source: str, message: str | None = None) -> dict[str, Any]:
    result = {"code": code, "data": data, "source": source}
    return result if message is None else {**result, "message": message}


def _text(data: Any) -> str:
    """What an error's ``data`` says: its message and, of the controller, its log."""
    if not isinstance(data, dict):
        return ""
    return ", ".join(text for key in ("message", "log") if isinstance(text := data.get(key), str) and text)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(code: float) -> float:
    """200.0 is 200; 200.9 and 1e30, which the controller also passes, stay as they are."""
    return int(code) if abs(code) < 2**53 and code == int(code) else code
