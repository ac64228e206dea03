"""How a process that does not lead does what is asked of it: it reads, and has the leader do the rest.

An operation that only the leader can do travels to it as an order, with its body and its caller, and its
answer or its error comes back. So it is the same as if the leader had been asked.
"""

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from puppetmaster import errors
from puppetmaster.api.gateways import CHANGE_TIMEOUT_S, LOOK_TIMEOUT_S
from puppetmaster.api.operations import OPERATIONS, Asked, Backend, Operation
from puppetmaster.api.pages import Chunks, Part, encoded
from puppetmaster.api.query import Query
from puppetmaster.api.service import Service
from puppetmaster.dispatcher import Decider
from puppetmaster.errors import Fault, Invalid, PuppetmasterError, Unavailable
from puppetmaster.model.caller import Caller, Role
from puppetmaster.model.why import Said, code_of
from puppetmaster.settings import Settings
from puppetmaster.store.base import Elsewhere

log = logging.getLogger("sanji.puppetmaster.api.orders")

#: Orders that are no operations: why requests wait, and that the creator of a job has its answer.
WHY, BEGIN = "why", "begin"
#: What only the leader knows. Where it cannot be asked, what is on disk is shown all the same.
KNOWN_THERE = frozenset({"/gateways", "/gateways/{id}"})
#: And what cannot be said at all without it.
STATE = "/system/puppetmaster"
NOTHING = Query()

_OPERATIONS = {(one.method, one.path): one for one in OPERATIONS}
_ERRORS = {
    one.code: one
    for one in reversed(vars(errors).values())
    if isinstance(one, type) and issubclass(one, PuppetmasterError)
}


def carry_out(backend: Backend, asked: str) -> str:
    """At the leader: do what an order says. Returns the answer, which may be an error."""
    try:
        what, *words = json.loads(asked)
        if what == WHY:
            known = backend.service.known_why({int(id_): waits for id_, waits in words[0]})
            return json.dumps({"data": [[id_, said, code_of(said)] for id_, said in known.items()]})
        if what == BEGIN:
            backend.service.begin(words[0])
            return json.dumps({"data": None})
        return _operated(backend, _OPERATIONS[what, words[0]], *words[1:])
    except PuppetmasterError as error:
        return json.dumps({"error": error.code, **error.body()})
    except Exception:
        log.exception("an order failed", extra={"action": "order_fault"})
        return json.dumps({"error": PuppetmasterError.code, **PuppetmasterError().body()})


def _operated(
    backend: Backend, operation: Operation, id_: str, given: Mapping[str, Any], body: Any, caller: list[str]
) -> str:
    data = operation.run(backend, id_, given, body, Caller(caller[0], Role(caller[1])))
    total = json.dumps(data.total if isinstance(data, Chunks) else None)
    return f'{{"total":{total},"data":{b"".join(encoded(data)).decode("ascii")}}}'


class Away(Decider):
    """The engine of another process: no verb reaches it. What may be asked of it is an order."""

    def __init__(self, place: str) -> None:
        self._said = f"Another puppetmaster leads with {place}: nothing was changed here."

    def call(self, verb: Callable[..., Any], timeout_s: float) -> Any:
        """Raises Unavailable."""
        del verb, timeout_s
        raise Unavailable(self._said)

    def create(self, verb: Callable[..., Any], timeout_s: float) -> Any:
        """Raises Unavailable."""
        del verb, timeout_s
        raise Unavailable(self._said)

    def look(self, verb: Callable[..., Any], timeout_s: float) -> Any:
        """Raises Unavailable."""
        del verb, timeout_s
        raise Unavailable(self._said)

    def do(self, verb: Callable[..., Any]) -> None:
        """Do nothing: nobody waits for it."""
        del verb


class Onlooker(Service):
    """The API where another process leads: it reads, and asks the leader why requests wait."""

    def __init__(self, settings: Settings, store: Elsewhere) -> None:
        super().__init__(settings, store, Away(store.place))
        self._elsewhere = store

    def known_why(self, pending: Mapping[int, bool]) -> Mapping[int, str | None]:
        """What the leader says of open requests."""
        asked = json.dumps([WHY, [*pending.items()]])
        found = _read(self._elsewhere.ask(asked, LOOK_TIMEOUT_S))["data"]
        return {id_: None if text is None else Said(text, code) for id_, text, code in found}

    def begin(self, job_id: int | None) -> None:
        """Tell the leader that the creator of a job has its answer. Without that it begins a moment later."""
        if job_id is not None:
            with suppress(Unavailable):
                self._elsewhere.ask(json.dumps([BEGIN, job_id]), LOOK_TIMEOUT_S)


def onlooking(settings: Settings, store: Elsewhere) -> Backend:
    """What the doors call where another process leads."""
    backend = Backend(Onlooker(settings, store), lambda: _health(store))

    def do(operation: Operation, asked: Asked, given: Mapping[str, Any]) -> Any:
        assert operation.call is not None
        known_there = operation.path in KNOWN_THERE and operation.method == "GET"
        if operation.method == "GET" and not known_there and operation.path != STATE:
            return operation.call(backend, asked)
        try:
            return _passed_on(store, operation, asked, given)
        except Unavailable:
            if not known_there:
                raise
            return operation.call(backend, asked)

    backend.elsewhere = do
    return backend


def _passed_on(store: Elsewhere, operation: Operation, asked: Asked, given: Mapping[str, Any]) -> Any:
    words = [operation.method, operation.path, asked.id, given, asked.body, asked.caller]
    timeout_s = LOOK_TIMEOUT_S if operation.method == "GET" else CHANGE_TIMEOUT_S
    answer = _read(store.ask(json.dumps(words), timeout_s))
    rows, total = answer["data"], answer["total"]
    if total is None:
        return rows
    return Chunks(total, range(len(rows)), lambda some: Part([rows[place] for place in some], len(some)))


def _health(store: Elsewhere) -> dict[str, Any]:
    """The health of the leader. Raises Unavailable: there is none."""
    asked = Asked("", NOTHING, None, Caller("standby", Role.VIEWER))
    health: dict[str, Any] = _passed_on(store, _OPERATIONS["GET", STATE], asked, {})
    return health


def _read(answer: str) -> dict[str, Any]:
    """What an answer holds. Raises the error that it is."""
    found: dict[str, Any] = json.loads(answer)
    if (code := found.get("error")) is None:
        return found
    if code == Invalid.code:
        raise Invalid([Fault(**fault) for fault in found["errors"]], found["message"])
    raise _ERRORS.get(code, PuppetmasterError)(found["message"])
