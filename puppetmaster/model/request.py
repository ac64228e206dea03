"""A request: one command for one destination, from its creation to its end.

A request's status changes only by an event that is looked up in ``TRANSITIONS``. A pair of status and event
that is not in that table raises ``IllegalTransition``. This module knows no clock, thread or socket: times
are passed in, as ISO 8601 text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from puppetmaster.errors import IllegalTransition
from puppetmaster.model.why import code_of

#: The two routes: through the remote bundle of our own bus, or directly to the gateway's own controller.
REMOTE_WAY, DIRECT_WAY = "remote", "direct"


class RequestStatus(StrEnum):
    """The status of a request. Each comment says what it means, what changes it, and what a crash does."""

    #: Not sent. The dispatcher sends it when its turn comes. After a crash it is still pending.
    PENDING = "pending"
    #: Written to disk as sent and handed to the bus; there is no answer yet. The answer, a timer or the loss
    #: of the bus changes it. After a crash an answer is awaited; without one the request becomes UNKNOWN, or
    #: PENDING if it may be repeated.
    SENT = "sent"
    #: The device answered 200 to 299. Final.
    RESOLVED = "resolved"
    #: The device, the remote bundle or the controller answered anything else. Final.
    ERROR = "error"
    #: No answer came in time, or a 408 came: the request may have run. Only a late answer changes it.
    TIMEOUT = "timeout"
    #: The program or the bus went away after it was sent: it may have run. Only a late answer changes it.
    UNKNOWN = "unknown"
    #: Its job was canceled before it was sent: it did not run. Final.
    CANCELED = "canceled"
    #: Its job was aborted or timed out before it was sent: it did not run. Final.
    SKIPPED = "skipped"


class RequestEvent(StrEnum):
    """What can happen to a request."""

    SEND = "send"  #: its turn has come
    SUCCEED = "succeed"  #: an answer of 200 to 299 came
    FAIL = "fail"  #: any other answer came
    EXPIRE = "expire"  #: no answer came in time
    LOSE = "lose"  #: the program or the bus that would have brought the answer went away
    REFUSE = "refuse"  #: a controller did not pass it on, or it never left: it did not run
    RETRY = "retry"  #: an attempt ended, and another one follows
    CANCEL = "cancel"  #: its job was canceled before it was sent
    SKIP = "skip"  #: its job ended before it was sent


_S, _E = RequestStatus, RequestEvent

TRANSITIONS: Mapping[tuple[RequestStatus, RequestEvent], RequestStatus] = {
    (_S.PENDING, _E.SEND): _S.SENT,
    (_S.PENDING, _E.SUCCEED): _S.RESOLVED,
    (_S.PENDING, _E.FAIL): _S.ERROR,
    (_S.PENDING, _E.EXPIRE): _S.TIMEOUT,
    (_S.PENDING, _E.LOSE): _S.UNKNOWN,
    (_S.PENDING, _E.CANCEL): _S.CANCELED,
    (_S.PENDING, _E.SKIP): _S.SKIPPED,
    (_S.SENT, _E.SUCCEED): _S.RESOLVED,
    (_S.SENT, _E.FAIL): _S.ERROR,
    (_S.SENT, _E.EXPIRE): _S.TIMEOUT,
    (_S.SENT, _E.LOSE): _S.UNKNOWN,
    (_S.SENT, _E.REFUSE): _S.PENDING,
    (_S.SENT, _E.RETRY): _S.PENDING,
    (_S.TIMEOUT, _E.SUCCEED): _S.RESOLVED,
    (_S.TIMEOUT, _E.FAIL): _S.ERROR,
    (_S.UNKNOWN, _E.SUCCEED): _S.RESOLVED,
    (_S.UNKNOWN, _E.FAIL): _S.ERROR,
}

#: Statuses of a request that is not done.
OPEN = frozenset({_S.PENDING, _S.SENT})
#: Statuses of a request that ran and failed, or may have run.
FAILURES = (_S.ERROR, _S.TIMEOUT, _S.UNKNOWN)
#: Statuses that a late answer can still correct.
UNANSWERED = frozenset({_S.TIMEOUT, _S.UNKNOWN})
#: The outcome of the last attempt -> the event that ends a request whose next attempt will not be made.
_LAST_OUTCOMES = {_S.ERROR: _E.FAIL, _S.TIMEOUT: _E.EXPIRE, _S.UNKNOWN: _E.LOSE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a job: the command that its requests have in common."""

    #: Id of its first request.
    id: int
    job: int
    method: str
    resource: str
    data: Any
    #: The code of a Sanji event: the remote bundle confirms its delivery, and no device answers. None: the
    #: command is a request.
    code: int | None = None

    def command(self) -> dict[str, Any]:
        """The command as it is sent to the remote bundle: method, resource, data, and code if it has one."""
        body = {"method": self.method, "resource": self.resource, "data": self.data}
        return body if self.code is None else {"code": self.code, **body}

    def document(self) -> dict[str, Any]:
        """The item as it is stored, under its id."""
        return {"job": self.job, **self.command()}

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Item":
        """The item that ``document()`` was made of."""
        return cls(id=id_, **document)


#: What a gateway that is away is not: connected, as its bridge or the remote bundle says; registered, as the
#: controller says.
CONNECTED, REGISTERED = "connected", "registered"


@dataclass(frozen=True, slots=True)
class Absence:
    """Since when a request waits for its gateway, and until when. Its time runs on while it is tried."""

    #: ``CONNECTED`` or ``REGISTERED``: what its gateway is not.
    what: str
    #: Since when, as ISO 8601.
    since: str
    #: The boot id of the machine, and until when, in seconds of the monotonic clock of that boot.
    boot: str
    until_s: float

    def document(self) -> dict[str, Any]:
        """The absence as it is stored with its request."""
        return {"what": self.what, "since": self.since, "boot": self.boot, "until": self.until_s}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Absence":
        """The absence that ``document()`` was made of."""
        return cls(document["what"], document["since"], document["boot"], document["until"])


@dataclass(slots=True, kw_only=True)
class Request:
    """One command for one destination. An immutable value: each change makes a new one.

    Its fields are ``Final``, and it is not ``frozen``: thousands are made in a second, and a frozen one takes
    three times as long.
    """

    id: Final[int]
    job: Final[int]
    #: Id of its item.
    item: Final[int]
    destination: Final[str]
    status: Final[RequestStatus] = RequestStatus.PENDING
    #: Number of sendings that may have reached the gateway.
    attempts: Final[int] = 0
    #: The message id of its last sending, or of the next one; None: the request's own id.
    message: Final[int | None] = None
    #: The route of its last sending, ``"remote"`` or ``"direct"``; None: it was not sent.
    route: Final[str | None] = None
    #: When its last sending left; None: it was never sent, or waits for another attempt.
    sent_at: Final[str | None] = None
    #: When it ended; None: not yet.
    finished_at: Final[str | None] = None
    #: ``{"code", "data", "source", "message"}`` and ``"late"``, ``"route"``, as far as there is something to
    #: say; None: it has not ended.
    result: Final[Mapping[str, Any] | None] = None
    #: Its earlier attempts, each ``{"message", "sentAt", "finishedAt", "status", "result"}``, and ``"route"``
    #: if the attempt went directly.
    history: Final[tuple[Mapping[str, Any], ...]] = ()
    #: Since this attempt first found its gateway away (``deliveryTimeout``); None: it did not.
    absence: Final[Absence | None] = None

    @property
    def sending(self) -> int:
        """The message id of its last sending, or of the next one if it waits."""
        return self.id if self.message is None else self.message

    @property
    def open(self) -> bool:
        """Whether it is not done."""
        return self.status in OPEN

    def after(
        self,
        event: RequestEvent,
        at: str,
        *,
        result: Mapping[str, Any] | None = None,
        message: int | None = None,
        outcome: RequestStatus | None = None,
        route: str = REMOTE_WAY,
    ) -> "Request":
        """The request after ``event``. Raises IllegalTransition: it cannot take this event.

        Args:
            event: what has happened.
            at: when, as ISO 8601.
            result: for events that end the request, and for RETRY: the result of the attempt.
            message: for RETRY and REFUSE: the message id of the next sending; None: the same again.
            outcome: for RETRY: how the attempt ended.
            route: for SEND: the route that it takes.
        """
        status = TRANSITIONS.get((self.status, event))
        if status is None:
            raise IllegalTransition(
                f"request {self.id} is {self.status}: it cannot take the event '{event}'."
            )
        if status is RequestStatus.SENT:
            attempts = self.attempts + 1
            return self._moved(status, attempts, route, at, self.finished_at, self.result, self.absence)
        if status is RequestStatus.PENDING:
            return self._waiting(event, at, outcome, result, self.message if message is None else message)
        if self.status in UNANSWERED or (self.status, event) == (_S.PENDING, _E.SUCCEED):
            result = {**(result or {}), "late": True}
        if self.route == DIRECT_WAY:
            result = {**(result or {}), "route": DIRECT_WAY}
        return self._moved(status, self.attempts, self.route, self.sent_at, at, result, None)

    def _moved(
        self,
        status: RequestStatus,
        attempts: int,
        route: str | None,
        sent_at: str | None,
        finished_at: str | None,
        result: Mapping[str, Any] | None,
        absence: Absence | None,
    ) -> "Request":
        """The request with these fields. ``replace`` would take three times as long."""
        return Request(
            id=self.id,
            job=self.job,
            item=self.item,
            destination=self.destination,
            status=status,
            attempts=attempts,
            message=self.message,
            route=route,
            sent_at=sent_at,
            finished_at=finished_at,
            result=result,
            history=self.history,
            absence=absence,
        )

    def _waiting(
        self,
        event: RequestEvent,
        at: str,
        outcome: RequestStatus | None,
        result: Mapping[str, Any] | None,
        message: int | None,
    ) -> "Request":
        waiting = replace(self, status=RequestStatus.PENDING, sent_at=None, message=message)
        if event is RequestEvent.REFUSE:
            return replace(
                waiting, attempts=self.attempts - 1, route=self.route if self.attempts > 1 else None
            )
        attempt = {
            "message": self.sending,
            "sentAt": self.sent_at,
            "finishedAt": at,
            "status": str(outcome),
            "result": result or {},
            **({"route": DIRECT_WAY} if self.route == DIRECT_WAY else {}),
        }
        return replace(waiting, history=(*self.history, attempt), absence=None)

    def route_of(self, message: int) -> str | None:
        """The route of the sending under this message id; None: it was not sent."""
        for attempt in self.history:
            if attempt["message"] == message:
                route: str = attempt.get("route", REMOTE_WAY)
                return route
        return self.route

    def last_outcome(self) -> tuple[RequestEvent, Mapping[str, Any]]:
        """How the last attempt in the history ended: the event that ends the request so, and the result."""
        last = self.history[-1]
        return _LAST_OUTCOMES[RequestStatus(last["status"])], last["result"]

    def with_late_failure(self, message: int, result: Mapping[str, Any]) -> "Request":
        """The open request after a late answer: its attempt under this message id failed after all."""
        late = {"status": RequestStatus.ERROR.value, "result": {**result, "late": True}}
        history = tuple(
            {**one, **late} if one["message"] == message and one["status"] in UNANSWERED else one
            for one in self.history
        )
        return replace(self, history=history)

    def without_retry(self) -> "Request":
        """The request as it was before its last RETRY: its last attempt is taken out of the history."""
        *before, last = self.history
        route = last.get("route", REMOTE_WAY)
        return replace(
            self, message=last["message"], route=route, sent_at=last["sentAt"], history=tuple(before)
        )

    def document(self) -> dict[str, Any]:
        """The request as it is stored, under its id. Fields without a value are left out."""
        document: dict[str, Any] = {
            "job": self.job,
            "item": self.item,
            "destination": self.destination,
            "status": self.status._value_,  # what ``value`` is, in a third of the time
        }
        if self.attempts:
            document["attempts"] = self.attempts
        if self.message is not None:
            document["message"] = self.message
        if self.route == DIRECT_WAY:
            document["route"] = self.route
        if self.sent_at is not None:
            document["sentAt"] = self.sent_at
        if self.finished_at is not None:
            document["finishedAt"] = self.finished_at
        if self.result is not None:
            document["result"] = self.result
        if self.history:
            document["history"] = list(self.history)
        if self.absence is not None:
            document["absence"] = self.absence.document()
        return document

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Request":
        """The request that ``document()`` was made of."""
        return cls(
            id=id_,
            job=document["job"],
            item=document["item"],
            destination=document["destination"],
            status=RequestStatus(document["status"]),
            attempts=document.get("attempts", 0),
            message=document.get("message"),
            route=document.get("route", REMOTE_WAY if document.get("attempts") else None),
            sent_at=document.get("sentAt"),
            finished_at=document.get("finishedAt"),
            result=document.get("result"),
            history=tuple(document.get("history", ())),
            absence=Absence.from_document(document["absence"]) if "absence" in document else None,
        )

    def view(self, item: Item, *, created_at: str, timeout_s: float, why: str | None) -> dict[str, Any]:
        """The request object of the API: a Sanji message with ``__request``. ``why`` is what it waits for."""
        history = {"history": list(self.history)} if self.history else {}
        return {
            "id": self.id,
            "job": self.job,
            **item.command(),
            "tunnel": "/remote",
            "__request": {
                "destination": self.destination,
                "createdAt": created_at,
                "sentAt": self.sent_at,
                "finishedAt": self.finished_at,
                "timeout": timeout_s,
                "status": self.status.value,
                "why": why if self.open else None,
                "whyCode": code_of(why) if self.open else None,
                "progress": 0 if self.open else 100,
                "attempts": self.attempts,
                "route": self.route,
                "result": self.result or {},
                **history,
            },
        }
