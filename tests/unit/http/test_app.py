"""All of the HTTP door together, without a connection: whether it is healthy, what is there, and faults."""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from puppetmaster.api.operations import Backend
from puppetmaster.api.service import Service
from puppetmaster.clock import Clock
from puppetmaster.errors import StoreError, Unavailable
from puppetmaster.events import Hub
from puppetmaster.http import app as module
from puppetmaster.http.app import NO_IDS, NOT_SURE, NOWHERE, HttpApp
from puppetmaster.http.server import Address
from puppetmaster.http.websockets import Broadcaster
from puppetmaster.settings import Settings
from tests.web_client import Told

WELL: dict[str, Any] = {
    "bus": {"connected": True, "controller": True, "registered": True, "reason": None},
    "store": {"writable": True, "reason": None},
    "counters": {"idsLeft": 7},
}


class Asked(Told):
    """A door that nobody can reach but the test, and the health that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.health: Callable[[], dict[str, Any]] = lambda: WELL
        self.numbers: Callable[[], bytes] = lambda: b"puppetmaster_jobs 1"
        settings, service = Settings(http="127.0.0.1:0"), cast(Service, None)
        sockets = Broadcaster(service, Hub(), Clock())
        backend = Backend(service, lambda: self.health())
        self.door = HttpApp(settings, Address("127.0.0.1", 0), backend, sockets)
        self.door.metrics = lambda: self.numbers()
        self._app = self.door._app(settings)

    def get(self, path: str, method: str = "GET", kind: str = "http") -> Any:
        """What is answered: JSON, or bytes."""
        more: dict[str, Any] = {"subprotocols": [], "extensions": {}}
        body = self.by(self._app, type=kind, method=method, path=path, **more)
        return json.loads(body) if self.headers.get("content-type") == "application/json" else body


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    yield made
    made.door.stop()


def ill(part: str, **values: Any) -> dict[str, Any]:
    return {**WELL, part: {**WELL[part], **values}}


def test_it_is_ready_when_a_batch_would_be_carried_out(asked: Asked) -> None:
    assert asked.get("/health") == {"ready": True, "reasons": []}
    assert asked.status == 200


@pytest.mark.parametrize(
    ("health", "reasons"),
    [
        (ill("bus", connected=False), ["there is no connection to the broker"]),
        (ill("bus", controller=False), ["the controller does not answer"]),
        (ill("bus", registered=False), ["the controller has not registered us"]),
        (ill("bus", registered=False, reason="its ACL"), ["its ACL"]),
        (ill("bus", reason="another bundle logs in"), ["another bundle logs in"]),
        (
            ill("bus", connected=False, controller=False, reason="why"),
            ["why", "the controller does not answer"],
        ),
        (ill("store", writable=False, reason="full"), ["the store cannot be written (full)"]),
        (ill("counters", idsLeft=0), [NO_IDS]),
        ({**WELL, "leader": {"sure": False}}, [NOT_SURE]),
        (
            {**ill("bus", registered=False), "store": {"writable": False, "reason": "full"}},
            ["the controller has not registered us", "the store cannot be written (full)"],
        ),
    ],
)
def test_it_says_why_it_is_not_ready(asked: Asked, health: dict[str, Any], reasons: list[str]) -> None:
    asked.health = lambda: health
    said = asked.get("/health")
    assert (asked.status, said["ready"], said["reasons"]) == (503, False, reasons)
    assert said["message"] == f"Not ready: {'; '.join(reasons)}."


def test_it_says_who_leads_ready_or_not(asked: Asked) -> None:
    for sure in (True, False):
        leads = {"name": "a", "sure": sure}
        asked.health = lambda leads=leads: {**WELL, "leader": leads}  # type: ignore[misc]
        said = asked.get("/health")
        assert (said["leader"], said["ready"]) == (leads, sure)


def test_one_that_cannot_say_is_not_ready(asked: Asked) -> None:
    def busy() -> dict[str, Any]:
        raise Unavailable("busy")

    asked.health = busy
    assert (asked.get("/health")["message"], asked.status) == ("busy", 503)


def test_numbers_and_their_faults(asked: Asked) -> None:
    def broken() -> bytes:
        raise StoreError("it cannot be read")

    assert (asked.get("/metrics"), asked.status) == (b"puppetmaster_jobs 1", 200)
    assert asked.headers["content-type"].startswith("text/plain")
    asked.numbers = broken
    assert asked.get("/metrics")["message"] == "it cannot be read"


def test_a_fault_of_ours_is_an_error_of_the_api(asked: Asked) -> None:
    asked.numbers = lambda: cast(bytes, 1 // 0)
    told: list[Any] = []
    with pytest.raises(ZeroDivisionError):  # Starlette raises it again, for the server to log it
        told.append(asked.get("/metrics"))
    assert (asked.status, asked.headers["content-type"]) == (500, "application/json")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/static/nothing.js", "GET", 404),
        ("/static/", "GET", 404),
        ("/health/", "GET", 404),
        ("/health", "POST", 405),
        ("/jobs/ws", "GET", 426),
        ("/jobs/ws/1", "GET", 426),
        ("/jobs/1/ws", "GET", 426),
    ],
)
def test_what_is_not_there_is_an_error_of_the_api(asked: Asked, path: str, method: str, status: int) -> None:
    said = asked.get(path, method)
    assert (asked.status, "message" in said) == (status, True)
    if status == 405:
        assert {*asked.headers["allow"].split(", ")} == {"GET", "HEAD"}
        assert said["message"] == f"Expected {asked.headers['allow']} here, got POST."
    if status == 426:
        assert asked.headers["upgrade"] == "websocket"
        assert "WebSocket" in said["message"]


def test_a_websocket_to_nowhere_is_refused(asked: Asked) -> None:
    assert asked.get("/other", kind="websocket") == {"message": NOWHERE}
    assert asked.status == 404


@pytest.mark.parametrize("name", ["", *sorted(file.name for file in module.DASHBOARD.iterdir())])
def test_the_page_has_its_kind_and_an_etag(asked: Asked, name: str) -> None:
    file = module.DASHBOARD / (name or "index.html")
    assert asked.get(f"/static/{name}" if name else "/") == file.read_bytes()
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert asked.headers["content-type"].split(";")[0] in (
        kinds.get(file.suffix, ""),
        "application/javascript",
    )
    assert asked.headers["etag"].startswith('W/"')
