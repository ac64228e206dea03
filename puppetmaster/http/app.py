"""The HTTP door put together: resources, WebSockets, page, metrics, health, security and server."""

import mimetypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from puppetmaster import jsoncodec, places
from puppetmaster.api.operations import OPERATIONS, WEBSOCKET, Backend, Operation
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.errors import (
    MethodNotAllowed,
    NotFound,
    PuppetmasterError,
    SettingsError,
    Unavailable,
    UpgradeRequired,
)
from puppetmaster.http.keys import Keys
from puppetmaster.http.protocols import SHOWN
from puppetmaster.http.resources import JSON, Queues, Resource, document, failure
from puppetmaster.http.security import Security, refuse
from puppetmaster.http.server import Address, Server
from puppetmaster.http.websockets import Broadcaster
from puppetmaster.settings import Settings
from puppetmaster.threads import Vital

DASHBOARD = Path(__file__).parents[1] / "dashboard"
DESCRIPTION = places.home() / "schema" / "openapi.json"
#: Answers of this size or more are compressed when the client accepts gzip.
GZIP_BYTES = 4096
#: Field of ``bus`` in the health -> the reason when it is false, causes before their effects.
_MISSING = {
    "connected": "there is no connection to the broker",
    "controller": "the controller does not answer",
    "registered": "the controller has not registered us",
}
#: As long as the lease cannot be renewed.
NOT_SURE = "the database does not say that this one leads, and without that nothing is sent"
NO_IDS = "this installation has given out all request ids: export its jobs, and start with an empty store"
#: The content type of ``/metrics``.
NUMBERS = "text/plain; version=0.0.4; charset=utf-8"
NOWHERE = "There is no such resource: /openapi.json lists those there are."
Show = Callable[[Request], Response]


class HttpApp:
    """HTTP and WebSockets. The port is taken when this is made.

    Raises SettingsError: the port is not free, a file of ours is missing, or that of tokens has faults.
    """

    def __init__(
        self, settings: Settings, where: Address, backend: Backend, broadcaster: Broadcaster
    ) -> None:
        #: What is called for each request.
        self.backend = backend
        self.sockets = broadcaster
        #: Makes what ``/metrics`` shows. Until ``lead`` is called, another process leads: its numbers are not
        #: ours.
        self.metrics = self._metrics(None)
        #: Whose tokens are known.
        self.keys = Keys(settings)
        self._files = {file.name: file for file in DASHBOARD.iterdir() if file.is_file()}
        _read(DESCRIPTION)  # that it is missing is said at the start; it is not kept: it is large
        self.server = Server(self._app(settings), where, settings)

    @property
    def subscribers(self) -> int:
        """How many WebSockets are open."""
        return self.sockets.count

    @property
    def threads(self) -> tuple[Vital, ...]:
        """The server's and the WebSockets' thread; both run from ``start`` to ``stop``."""
        return self.server.thread, self.sockets.thread

    def start(self) -> None:
        """Start the threads, and answer requests."""
        self.sockets.start()
        self.server.start()

    def lead(self, backend: Backend, dispatcher: Dispatcher, disk_bytes: Callable[[], int]) -> None:
        """Have ``backend`` answer from now on: this process has taken the lead."""
        self.sockets.service = backend.service
        self.backend.service, self.backend.health = backend.service, backend.health
        self.backend.elsewhere = None
        self.metrics = self._metrics(dispatcher, disk_bytes)

    def _metrics(
        self, dispatcher: Dispatcher | None, disk_bytes: Callable[[], int] = lambda: 0
    ) -> Callable[[], bytes]:
        backend, sockets = self.backend, self.sockets

        @cache
        def metrics() -> Any:
            # Only where they are asked for: the library takes 1 MB.
            from puppetmaster.http.metrics import Metrics  # noqa: PLC0415

            return Metrics(backend.service, dispatcher, backend.health, disk_bytes, lambda: sockets.count)

        return lambda: bytes(metrics().text())

    def ask_to_stop(self) -> None:
        """Have the server begin to stop. Does not wait, so that other parts can stop meanwhile."""
        self.server.ask_to_stop()

    def stop(self) -> None:
        """Send WebSockets their last frames, and end all connections and threads."""
        self.sockets.stop()
        self.server.stop()

    def _app(self, settings: Settings) -> Starlette:
        by_path: dict[str, dict[str, Operation]] = {}
        for one in OPERATIONS:
            if one.call is not None:
                by_path.setdefault(one.path, {})[one.method] = one
        queues = Queues.new()
        watching = [one.path for one in OPERATIONS if one.method == WEBSOCKET]
        shown = {"/health": self._health, "/metrics": self._numbers, "/openapi.json": self._describe}
        app = Starlette(
            routes=[
                *(WebSocketRoute(path, self.sockets.watch) for path in watching),
                WebSocketRoute("/{path:path}", _nowhere),
                *(Route(path, _shown(_not_upgraded)) for path in watching),
                *(Route(path, Resource(self.backend, some, queues)) for path, some in by_path.items()),
                *(Route(path, _shown(show)) for path, show in shown.items()),
                Route("/", _shown(self._page)),
                Route("/static/{name}", _shown(self._page)),
            ],
            middleware=[
                Middleware(Security, settings=settings, keys=self.keys),
                Middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=4),
            ],
            exception_handlers={HTTPException: _refused, Exception: _failed},
        )
        app.router.redirect_slashes = False
        return app

    def _health(self, _request: Request) -> Response:
        """Answer 200 when a batch would be carried out; else 503 with the reasons."""
        try:
            health = self.backend.health()
        except Unavailable as error:
            return failure(error)
        reasons = [reason for name, reason in _MISSING.items() if not health["bus"][name]]
        if (reason := health["bus"]["reason"]) is not None:
            reasons[:1] = [reason]  # even while all is well: a connection that does not last has a reason too
        if not health["store"]["writable"]:
            reasons.append(f"the store cannot be written ({health['store']['reason']})")
        elif not health.get("leader", {}).get("sure", True):
            reasons.append(NOT_SURE)
        if not health["counters"]["idsLeft"]:
            reasons.append(NO_IDS)
        body = {"ready": not reasons, "reasons": reasons}
        if "leader" in health:
            body["leader"] = health["leader"]
        if self.backend.elsewhere is not None:
            body["standby"] = True
        if reasons:
            body["message"] = f"Not ready: {'; '.join(reasons)}."
        return Response(jsoncodec.encode(body), 503 if reasons else 200, media_type=JSON)

    def _numbers(self, _request: Request) -> Response:
        return Response(self.metrics(), media_type=NUMBERS)

    def _describe(self, request: Request) -> Response:
        return document(_read(DESCRIPTION), JSON, request)

    def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            raise NotFound("There is no such page: the page is at /.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return document(self._files[name].read_bytes(), kind, request)


def _read(file: Path) -> bytes:
    """What a file of ours holds. Raises SettingsError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be read ({error.strerror}): it is a part of puppetmaster: install it again."
        ) from error


async def _nowhere(socket: WebSocket) -> None:
    """Refuse a WebSocket to a path that has none."""
    await socket.receive()
    await refuse(NotFound(NOWHERE), socket.send, "websocket.http.response")


def _not_upgraded(_request: Request) -> Response:
    return failure(UpgradeRequired(), {"Connection": "Upgrade", "Upgrade": "websocket"})


def _shown(show: Show) -> Any:
    """An endpoint for GET and HEAD that runs ``show`` in a thread."""

    async def endpoint(request: Request) -> Response:
        try:
            return await run_in_threadpool(show, request)
        except PuppetmasterError as error:
            return failure(error)

    return endpoint


async def _failed(_request: Request, _error: Exception) -> Response:
    """Answer 500 for an exception outside of the resources. Starlette raises it again; the server logs it."""
    return failure(PuppetmasterError())


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: a path or a method that is not there."""
    assert isinstance(error, HTTPException)
    if error.status_code == MethodNotAllowed.status:
        allowed = (error.headers or {}).get("Allow", "")
        got = request.method[:SHOWN]
        return failure(MethodNotAllowed(f"Expected {allowed} here, got {got}."), error.headers)
    return failure(NotFound(NOWHERE))
