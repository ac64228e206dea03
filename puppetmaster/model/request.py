"""A request: one command for one destination, from its creation to its end.

Everything that decides a request's status is in this file: it changes only by an event that is
looked up in ``TRANSITIONS``. A pair that is not there raises ``IllegalTransition`` and changes
nothing. This file knows no clock, thread or socket: times are given, as ISO 8601 text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from puppetmaster.errors import IllegalTransition
from puppetmaster.model.why import code_of

#: Through the remote bundle of our own bus; to the gateway's own controller.
REMOTE_WAY, DIRECT_WAY = "remote", "direct"


class RequestStatus(StrEnum):
    """What is known of a request. Each says: what it means; who moves it on; what a crash leaves."""

    #: Not sent. The dispatcher sends it when its turn comes. After a crash it waits again.
    PENDING = "pending"
    #: On disk as sent and handed to the bus, no answer yet. The answer, its timer or the loss of
    #: the bus move it on. After a crash late answers are waited for, then it is UNKNOWN, or
    #: PENDING again when it may be repeated.
    SENT = "sent"
    #: The device answered 200 to 299. Final.
    RESOLVED = "resolved"
    #: The device, the remote bundle or the controller answered anything else. Final.
    ERROR = "error"
    #: No answer in time, or somebody on the way says so (408): it may have run. Only a late answer moves it.
    TIMEOUT = "timeout"
    #: Sent, and then the program or the bus went away: it may have run. Only a late answer moves it.
    UNKNOWN = "unknown"
    #: Never ran: its job was canceled before it was sent. Final.
    CANCELED = "canceled"
    #: Never ran: its job was aborted or timed out before it was sent. Final.
    SKIPPED = "skipped"


class RequestEvent(StrEnum):
    """What can happen to a request."""

    SEND = "send"  #: its turn has come
    SUCCEED = "succeed"  #: answered 200 to 299
    FAIL = "fail"  #: answered anything else
    EXPIRE = "expire"  #: no answer in its time
    LOSE = "lose"  #: whoever could have brought the answer is gone
    REFUSE = "refuse"  #: refused before it was passed on, or never left: it did not run
    RETRY = "retry"  #: it ended, but another attempt follows
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
#: Statuses that a late answer can still correct.
UNANSWERED = frozenset({_S.TIMEOUT, _S.UNKNOWN})
#: By how its last attempt ended: the event for one that waits for another, which is not made.
_LAST_OUTCOMES = {_S.ERROR: _E.FAIL, _S.TIMEOUT: _E.EXPIRE, _S.UNKNOWN: _E.LOSE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What one batch item asks for; its requests differ in their destinations only.

    Its ``id`` is that of its first request. With a ``code`` it is an event and not a request: the remote
    bundle confirms that it was delivered, and no device answers.
    """

    id: int
    job: int
    method: str
    resource: str
    data: Any
    code: int | None = None

    def command(self) -> dict[str, Any]:
        """What is sent to the remote bundle."""
        body = {"method": self.method, "resource": self.resource, "data": self.data}
        return body if self.code is None else {"code": self.code, **body}

    def document(self) -> dict[str, Any]:
        """The item as it is stored, under its id."""
        return {"job": self.job, **self.command()}

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Item":
        """The item that ``document()`` was made of."""
        return cls(id=id_, **document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One command for one destination. A value: a change is a new one.

    ``message`` is the Sanji message id of its last sending, or of the next one; None: its own id.
    ``route`` is the way that its last sending took, ``"direct"`` or ``"remote"``; None: it was not sent.
    ``attempts`` counts the sendings that may have reached the gateway; ``history`` keeps those that were
    followed by another: ``{"message", "sentAt", "finishedAt", "status", "result"}``, with ``"route"``
    where it went directly.
    """

    id: int
    job: int
    item: int
    destination: str
    status: RequestStatus = RequestStatus.PENDING
    attempts: int = 0
    message: int | None = None
    route: str | None = None
    sent_at: str | None = None
    finished_at: str | None = None
    result: Mapping[str, Any] | None = None
    history: tuple[Mapping[str, Any], ...] = ()

    @property
    def sending(self) -> int:
        """The message id of its last sending, or of the next one."""
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
        """The request after ``event`` at ``at``. Raises IllegalTransition.

        SEND takes the ``route``. The events that end it take a ``result``. RETRY takes that and the
        ``outcome`` of the attempt it ends, and as REFUSE the ``message`` id for the next sending, where that
        is another one.
        """
        status = TRANSITIONS.get((self.status, event))
        if status is None:
            raise IllegalTransition(
                f"request {self.id} is {self.status}: it cannot take the event '{event}'."
            )
        if status is RequestStatus.SENT:
            return replace(self, status=status, attempts=self.attempts + 1, sent_at=at, route=route)
        if status is RequestStatus.PENDING:
            return self._waiting(event, at, outcome, result, self.message if message is None else message)
        if self.status in UNANSWERED or (self.status, event) == (_S.PENDING, _E.SUCCEED):
            result = {**(result or {}), "late": True}
        if self.route == DIRECT_WAY:
            result = {**(result or {}), "route": DIRECT_WAY}
        return replace(self, status=status, finished_at=at, result=result)

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
        return replace(waiting, history=(*self.history, attempt))

    def route_of(self, message: int) -> str | None:
        """The way that the sending under this message id took."""
        for attempt in self.history:
            if attempt["message"] == message:
                route: str = attempt.get("route", REMOTE_WAY)
                return route
        return self.route

    def last_outcome(self) -> tuple[RequestEvent, Mapping[str, Any]]:
        """How the last attempt of one that has a history ended: the event for that, and its result."""
        last = self.history[-1]
        return _LAST_OUTCOMES[RequestStatus(last["status"])], last["result"]

    def with_late_failure(self, message: int, result: Mapping[str, Any]) -> "Request":
        """An earlier attempt of one that is open, of which nothing was known, has failed after all."""
        late = {"status": RequestStatus.ERROR.value, "result": {**result, "late": True}}
        history = tuple(
            {**one, **late} if one["message"] == message and one["status"] in UNANSWERED else one
            for one in self.history
        )
        return replace(self, history=history)

    def without_retry(self) -> "Request":
        """One that waits for another attempt as it was before that was decided."""
        *before, last = self.history
        route = last.get("route", REMOTE_WAY)
        return replace(
            self, message=last["message"], route=route, sent_at=last["sentAt"], history=tuple(before)
        )

    def document(self) -> dict[str, Any]:
        """The request as it is stored, under its id. What is not there yet is left out."""
        document: dict[str, Any] = {
            "job": self.job,
            "item": self.item,
            "destination": self.destination,
            "status": self.status.value,
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
        )

    def view(self, item: Item, *, created_at: str, timeout_s: float, why: str | None) -> dict[str, Any]:
        """The request object of the API (a Sanji message with ``__request``)."""
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
