"""What an answer from the bus means for the request that it answers.

An answer has an outer code: of the remote bundle, or of the controller if it is signed ``["controller"]``.
When its ``data`` is a message of the gateway's own bus, it has an inner code too: of the device, or of the
gateway's controller if that message is signed in the same way. Then the inner code counts: some remote
bundles repeat the device's code as the outer one, others say 200. The codes and texts are those of
sanji-controller 1.6.2 and of the published remote bundle, sanji-bundle-remote 0.9.6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from puppetmaster import jsoncodec
from puppetmaster.model.request import RequestEvent

CONTROLLER = ["controller"]
#: The text that the published remote bundle answers, with 500, when a gateway has not answered it in time.
REMOTE_TIMEOUT = "Remote requests timeout"
MAY_HAVE_RUN = "it may have run"


class Refusal(StrEnum):
    """Why a controller did not pass a request on. The request did not run and can be sent again."""

    LOCKED = "locked"  #: 423 or 503: somebody holds the lock that the request needs
    LOCKED_THERE = "locked there"  #: the same at the gateway's controller; no other gateway shares that lock
    ID_USED = "id used"  #: 403: another message with this id is in flight on our bus or on the gateway's


@dataclass(slots=True)
class Reply:
    """What an answer means for its request."""

    #: What happens to the request.
    event: Final[RequestEvent]
    #: The request's result: ``{"code", "data", "source"}``, and ``"message"`` if it is no success.
    result: Final[Mapping[str, Any]]
    #: Why a controller refused the request; None: it was not refused.
    refusal: Final[Refusal | None] = None
    #: Whether the gateway's controller had passed the request on.
    delivered: Final[bool] = False

    @property
    def locked(self) -> bool:
        """Whether the request was refused because somebody holds a lock of our own bus."""
        return self.refusal is Refusal.LOCKED

    def as_delivery(self) -> "Reply":
        """The reply if the command is an event: once delivered it has succeeded, whatever was answered."""
        if not self.delivered:
            return self
        result = {"code": 200, "data": self.result.get("data"), "source": "remote"}
        return Reply(RequestEvent.SUCCEED, result)


def is_answer(message: Any) -> bool:
    """Whether ``message`` is an answer at all: an object with a number as id and as code."""
    if not isinstance(message, dict) or not _is_number(message.get("code")):
        return False
    id_: Any = message.get("id")
    return _is_number(id_) and abs(id_) < 2**63  # the store has no larger ids


def read(message: Mapping[str, Any]) -> Reply:
    """What ``message`` means, an answer (``is_answer``) that came through our own controller."""
    code, data = _integer(message["code"]), message.get("data")
    if message.get("sign") == CONTROLLER:
        return _too_deep(data) or _from_controller(code, data)
    if isinstance(data, dict) and _is_message(data, passed_on=200 <= code <= 299):
        return from_gateway(data)
    return _too_deep(data) or _from_remote(code, data)


def from_gateway(message: Mapping[str, Any]) -> Reply:
    """What ``message`` means, an answer of a device or of its gateway's controller.

    Its ``code`` is a number. It came within the answer of a remote bundle, or directly.
    """
    code, data = _integer(message["code"]), message.get("data")
    if (garbled_ := _too_deep(data)) is not None:
        return garbled_
    if message.get("sign") == CONTROLLER:
        return _from_its_controller(code, data)
    return _outcome(code, data, "device", delivered=True)


def _is_message(data: dict[str, Any], *, passed_on: bool) -> bool:
    """Whether ``data`` is a message of the gateway's bus.

    Errors of the remote bundle itself may have a ``code`` too. So without ``passed_on`` (the outer code is no
    success) ``data`` must also have a method and a resource.
    """
    return _is_integer(data.get("code")) and (passed_on or ("method" in data and "resource" in data))


def _too_deep(data: Any) -> Reply | None:
    if jsoncodec.depth(data) <= jsoncodec.DEPTH_LIMIT:
        return None
    return garbled(f"it is nested deeper than {jsoncodec.DEPTH_LIMIT} levels")


def garbled(reason: str) -> Reply:
    """The reply for an answer that arrived but cannot be kept, for example because it is not JSON."""
    return Reply(
        RequestEvent.FAIL,
        {
            "code": 502,
            "data": None,
            "source": "puppetmaster",
            "message": f"the answer cannot be kept: {reason}",
        },
    )


def may_have_run(event: RequestEvent, result: Mapping[str, Any]) -> bool:
    """Whether a sent request may have run though it ends without success: its answer is missing or garbled.

    An error of the device or of the remote bundle is an answer; an error of a controller says that the
    request did not run.
    """
    return event is not RequestEvent.FAIL or result.get("source") == "puppetmaster"


def _from_controller(code: float, data: Any) -> Reply:
    refusal = _refusal(code, data, Refusal.LOCKED)
    if refusal is not None:
        return _refused(code, data, "controller", refusal)
    if _is_unknown(code, data):
        message = "no gateway of this name is registered at the controller"
        return Reply(RequestEvent.FAIL, _result(code, data, "controller", message))
    if code == 408:
        message = f"passed on by the controller, but not answered in the owner's ttl: {MAY_HAVE_RUN}"
        return Reply(RequestEvent.EXPIRE, _result(code, data, "controller", message))
    return _outcome(code, data, "controller")


def _from_its_controller(code: float, data: Any) -> Reply:
    """What an answer of the gateway's own controller means. Its locks and resources are not our bus's."""
    refusal = _refusal(code, data, Refusal.LOCKED_THERE)
    if refusal is not None:
        return _refused(code, data, "device", refusal)
    if _is_unknown(code, data):
        return Reply(RequestEvent.FAIL, _result(code, data, "device", "the gateway has no such resource"))
    if code == 408:
        message = (
            f"passed on by the gateway's controller, but not answered in the owner's ttl: {MAY_HAVE_RUN}"
        )
        return Reply(RequestEvent.EXPIRE, _result(code, data, "device", message), delivered=True)
    return _outcome(code, data, "device")


def _from_remote(code: float, data: Any) -> Reply:
    if code == 500 and _text(data) == REMOTE_TIMEOUT:
        return Reply(RequestEvent.EXPIRE, _result(code, data, "remote", f"{REMOTE_TIMEOUT}: {MAY_HAVE_RUN}"))
    return _outcome(code, data, "remote")


def _refusal(code: float, data: Any, locked: Refusal) -> Refusal | None:
    """Why a controller refused the request, ``locked`` for a held lock; None: it did not refuse it."""
    if code in (423, 503):
        return locked
    return Refusal.ID_USED if code == 403 and "'id' was used" in _text(data) else None


def _refused(code: float, data: Any, source: str, refusal: Refusal) -> Reply:
    result = _result(code, data, source, _text(data) or "refused")
    return Reply(RequestEvent.REFUSE, result, refusal)


def _is_unknown(code: float, data: Any) -> bool:
    """Whether a controller says that nobody owns the resource."""
    return code == 404 or (code == 403 and "no subscribed model" in _text(data))


def _outcome(code: float, data: Any, source: str, *, delivered: bool = False) -> Reply:
    if 200 <= code <= 299:
        return Reply(RequestEvent.SUCCEED, _result(code, data, source), delivered=delivered)
    message = _text(data) or f"the {source} answered {code}"
    event = RequestEvent.FAIL
    if code == 408:  # a timeout on the way, or in the device
        event, message = RequestEvent.EXPIRE, f"{message}: {MAY_HAVE_RUN}"
    return Reply(event, _result(code, data, source, message), delivered=delivered)


def _result(code: float, data: Any, source: str, message: str | None = None) -> dict[str, Any]:
    result = {"code": code, "data": data, "source": source}
    return result if message is None else {**result, "message": message}


def _text(data: Any) -> str:
    """The text in an error's ``data``: its message and, in a controller's error, its log; else empty."""
    if not isinstance(data, dict):
        return ""
    return ", ".join(text for key in ("message", "log") if isinstance(text := data.get(key), str) and text)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(code: float) -> float:
    """200.0 as 200. Other floats (200.9, 1e30), which the controller also passes on, stay as they are."""
    return int(code) if abs(code) < 2**53 and code == int(code) else code
