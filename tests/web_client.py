"""Clients from outside for tests: plain HTTP, and the whole door over a store of the test's own."""

import asyncio
import base64
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.types import ASGIApp, Message
from websockets.sync.client import ClientConnection, connect

from puppetmaster.app import App
from puppetmaster.bus.client import ConnectionChanged, ControllerChanged, Owners
from puppetmaster.settings import Settings

#: Nothing listens there: the bus stays down, and requests stay pending.
NO_BROKER = {"broker_host": "127.0.0.1", "broker_port": 1}


CONNECT = {"type": "websocket.connect"}


class Bundle:
    """What the application needs of the bundle around it."""

    fault: str | None = None

    def __init__(self) -> None:
        self.registered = threading.Event()

    def register_again(self, asked_s: float) -> None:
        pass

    def resign(self) -> None:
        pass

    def leave(self) -> None:
        pass

    def twin(self) -> str | None:
        return None

    def why_not_registered(self) -> str | None:
        return None


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(port: int, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request; ``body`` is sent as JSON unless it is bytes; ``_`` in header names stands for ``-``."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, sent, named)
        answer = connection.getresponse()
        shown = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, shown, answer.read())
    finally:
        connection.close()


class Door:
    """An application that runs in this process, reached through its port."""

    def __init__(self, app: App) -> None:
        self.app = app
        assert app.door is not None
        self.port = app.door.server.port
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """As ``fetch``."""
        return fetch(self.port, method, path, body, **headers)

    def raw(self, *parts: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        for part in parts:
            connection.sendall(part)
        return connection

    def answered(self, *parts: bytes) -> bytes:
        """All that is answered to these bytes until the connection ends."""
        with self.raw(*parts) as connection:
            return received(connection)

    def watch(self, path: str, **options: Any) -> ClientConnection:
        """A WebSocket."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", open_timeout=10, **options)


class Told:
    """What an ASGI application answers without a server."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []

    def by(self, app: ASGIApp, body: bytes = b"", **scope: Any) -> bytes:
        """Ask it for what this says. The client waits for the whole answer; returns its body."""
        defaults = {"type": "http", "method": "GET", "path": "/jobs", "query_string": b""}
        scope = {**defaults, "headers": [(b"host", b"localhost")], **scope}
        self.pieces, parts = [], [body]

        async def receive() -> Message:
            if not parts:
                await asyncio.Event().wait()
            more = parts.pop()
            return {"type": "http.request", "body": more} if scope["type"] == "http" else CONNECT

        async def send(message: Message) -> None:
            if "status" in message:
                self.status = message["status"]
                self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            elif message.get("body"):
                self.pieces.append(message["body"])

        async def ask() -> None:
            await app(scope, receive, send)

        asyncio.run(ask())
        return b"".join(self.pieces)


def batch(*destinations: str, **more: Any) -> dict[str, Any]:
    item = {"method": "get", "resource": "/system/time", "__request": {"destination": list(destinations)}}
    return {"batch": [item], **more}


def many(count: int) -> list[str]:
    return [f"cg-{number:05d}" for number in range(count)]


def heavy(*destinations: str, data_bytes: int = 200_000, **more: Any) -> dict[str, Any]:
    """A job that is made at once, and whose requests are long when they are shown: each shows its data."""
    body = batch(*destinations, **more)
    body["batch"][0]["data"] = {"image": "x" * data_bytes}
    return body


def hooks(directory: Path) -> str:
    """A file with a webhook ``ops`` at which nothing listens."""
    secret = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
    file = directory / "hooks.json"
    file.write_text(json.dumps([{"name": "ops", "url": "http://127.0.0.1:1/", "secret": secret}]))
    return str(file)


@contextmanager
def running(directory: Path, **settings: Any) -> Iterator[Door]:
    """The application with its door on a free port, without a bus."""
    values = {"data_dir": directory, "http": "127.0.0.1:0", **NO_BROKER, **settings}
    app = App(Settings(**values), Bundle())
    app.start()
    try:
        yield Door(app)
    finally:
        app.stop()


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side ends the connection."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


class Controller:
    """What the controller says of gateways when it is asked: those in ``here`` are registered."""

    def __init__(self, door: Door, monkeypatch: pytest.MonkeyPatch, *here: str) -> None:
        self.here = set(here)
        self.asked: list[str] = []
        #: Whether it answers nothing; whether it has one owner for all gateways.
        self.silent = self.wildcard = False
        self._dispatcher = door.app.site.dispatcher
        monkeypatch.setattr(door.app.site.bus, "ask", self.ask)
        self._dispatcher.post([ConnectionChanged(up=True), ControllerChanged(up=True)])

    def ask(self, names: list[str], *, inquiry: bool = False) -> None:
        """Take the questions of the bus client."""
        self.asked += names
        if not self.silent:
            self._dispatcher.post([Owners(name, self._resources(name), inquiry) for name in names])

    def _resources(self, name: str) -> tuple[str, ...] | None:
        if self.wildcard:
            return ("/remote/+",)
        return (f"/remote/{name}",) if name in self.here else None
