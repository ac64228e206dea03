"""Operations that travel to the process that leads, and what comes back."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from puppetmaster import errors
from puppetmaster.api.operations import OPERATIONS, Backend, Operation
from puppetmaster.api.orders import carry_out, onlooking
from puppetmaster.api.pages import Chunks, Part, whole
from puppetmaster.api.service import Service
from puppetmaster.errors import Conflict, Fault, Invalid, NotFound, PuppetmasterError, StoreError, Unavailable
from puppetmaster.model.caller import ANYBODY, Caller, Role
from puppetmaster.model.why import Why, code_of
from puppetmaster.settings import Settings
from puppetmaster.store.base import Elsewhere, Reader
from puppetmaster.store.memory import MemoryStore


class Wire:
    """The way to a process that leads, which is a backend of the test's; it can be asked, and read here."""

    place = "here"

    def __init__(self, leader: Backend | None) -> None:
        self.leader = leader
        self.asked: list[Any] = []
        self._store = MemoryStore()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        with self._store.reading() as reader:
            yield reader

    def ask(self, asked: str, timeout_s: float) -> str:
        assert timeout_s > 0
        self.asked.append(json.loads(asked))
        if self.leader is None:
            raise Unavailable("nobody leads")
        return carry_out(self.leader, asked)


class Leading:
    """A service whose creations end as the test wants."""

    def __init__(self, create: Callable[[Any, str], Any]) -> None:
        self.create_job = create
        self.begun: list[int] = []

    def begin(self, job_id: int) -> None:
        self.begun.append(job_id)

    def known_why(self, pending: dict[int, bool]) -> dict[int, Any]:
        return {id_: Why.BUS.said() if waits else None for id_, waits in pending.items()}


def operation(method: str, path: str) -> Operation:
    return next(one for one in OPERATIONS if (one.method, one.path) == (method, path))


def leading(create: Callable[[Any, str], Any]) -> tuple[Leading, Wire]:
    service = Leading(create)
    return service, Wire(Backend(cast(Service, service), dict))


def onlooker(wire: Wire) -> Backend:
    """What answers in a process that does not lead."""
    return onlooking(Settings(), cast(Elsewhere, wire))


def create(wire: Wire, body: Any = None, caller: Caller = ANYBODY) -> Any:
    """A job, by a process that does not lead."""
    return operation("POST", "/jobs").run(onlooker(wire), "", {}, body or {}, caller)


@pytest.mark.parametrize(
    "error",
    [
        Invalid([Fault("batch[0].method", "expected one"), Fault("", "two")]),
        NotFound("no job"),
        Conflict("another"),
        Unavailable("busy"),
        StoreError("not written"),
        PuppetmasterError(),
    ],
    ids=lambda error: error.code,
)
def test_an_error_comes_back_as_it_is(error: PuppetmasterError) -> None:
    def fail(*_: Any) -> Any:
        raise error

    _, wire = leading(fail)
    with pytest.raises(type(error)) as caught:
        create(wire)
    assert (type(caught.value), caught.value.body()) == (type(error), error.body())


def test_all_errors_of_the_api_are_known() -> None:
    codes = {
        one.code
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, PuppetmasterError)
    }
    for code in codes:
        _, wire = leading(lambda *_: None)
        wire.ask = lambda *_, code=code: json.dumps(  # type: ignore[method-assign]
            {"error": code, "message": "m", "errors": [{"path": "", "message": "m"}]}
        )
        with pytest.raises(PuppetmasterError) as caught:
            create(wire)
        assert caught.value.code == code


def test_a_fault_there_is_told_without_what_it_is() -> None:
    _, wire = leading(lambda *_: 1 // 0)
    with pytest.raises(PuppetmasterError) as caught:
        create(wire)
    assert caught.value.body() == PuppetmasterError().body()


def test_body_and_caller_travel() -> None:
    body = {"odd": ["\ud800", "\x00", 1e400, 2**70, "\u20ac"]}
    came: list[Any] = []
    _, wire = leading(lambda *given: came.append(given) or {"id": None})  # type: ignore[func-returns-value]
    assert create(wire, body, Caller("ann", Role.OPERATOR)) == {"id": None}
    assert came == [(body, "ann")]


def test_who_may_not_is_refused_here() -> None:
    _, wire = leading(lambda *_: None)
    with pytest.raises(errors.Forbidden):
        create(wire, caller=Caller("ann", Role.VIEWER))
    assert wire.asked == []


def test_why_requests_wait_is_asked_there() -> None:
    _, wire = leading(lambda *_: None)
    known = onlooker(wire).service.known_why({7: True, 8: False})
    assert known == {7: Why.BUS.said(), 8: None}
    assert code_of(known[7]) == "bus"


def test_a_creator_that_has_its_answer_is_told_there() -> None:
    service, wire = leading(lambda *_: None)
    onlooker(wire).service.begin(7)
    assert service.begun == [7]
    onlooker(Wire(None)).service.begin(7)


def test_a_list_keeps_its_total() -> None:
    wire = Wire(None)
    gateways = operation("GET", "/gateways")
    rows = Chunks(700, range(600), lambda some: Part([{"name": str(one)} for one in some], len(some)))
    service = type("There", (), {"gateways": type("Known", (), {"known": lambda _, __: rows})()})()
    wire.leader = Backend(cast(Service, service), dict)
    told = gateways.run(onlooker(wire), "", {}, None, ANYBODY)
    assert (told.total, whole(told)) == (700, [{"name": str(one)} for one in range(600)])


def test_what_is_on_disk_is_shown_when_nobody_leads() -> None:
    backend = onlooker(Wire(None))
    assert whole(operation("GET", "/gateways").run(backend, "", {}, None, ANYBODY)) == []
    assert whole(operation("GET", "/jobs").run(backend, "", {}, None, ANYBODY)) == []
    with pytest.raises(Unavailable, match="nobody leads"):
        operation("GET", "/system/puppetmaster").run(backend, "", {}, None, ANYBODY)
    with pytest.raises(Unavailable, match="nobody leads"):
        backend.health()
    for verb in ("call", "create", "look"):
        with pytest.raises(Unavailable, match="nothing was changed here"):
            getattr(backend.service._dispatcher, verb)(lambda _: None, 1.0)


def test_who_takes_the_lead_does_it_itself() -> None:
    service, wire = leading(lambda *_: {"id": 1})
    backend = onlooker(Wire(None))
    backend.service, backend.elsewhere = cast(Service, service), None
    assert operation("POST", "/jobs").run(backend, "", {}, {}, ANYBODY) == {"id": 1}
    assert wire.asked == []
