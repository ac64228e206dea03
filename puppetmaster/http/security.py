"""ASGI middleware that checks every HTTP request and WebSocket before anything else sees it.

It refuses with the errors of the API, limits bodies in size and time, and sets the headers that keep
browsers from being used against us.
"""

import asyncio
import ipaddress
import re
from collections import deque
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from puppetmaster import jsoncodec
from puppetmaster.errors import (
    Forbidden,
    HeadersTooLarge,
    PuppetmasterError,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from puppetmaster.http.keys import CALLER, Keys
from puppetmaster.http.protocols import HEADER_LIMIT_BYTES, HEADERS_TOO_LARGE
from puppetmaster.settings import Settings

#: The WebSocket subprotocol that is accepted when the client offers it.
SUBPROTOCOL = "puppetmaster"
#: The code with which a WebSocket is closed whose token is not known any more.
NOT_KNOWN = 4401
#: A path of one or more segments. Not ``//host``, which would lead elsewhere.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
#: Methods that change nothing.
READING = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


#: A body up to this size is read at once; a larger one waits until there is room for it.
SMALL_BYTES = 64 * 1024
#: How long a larger body waits for room before it is refused.
ROOM_S = 60.0


class Room:
    """Limits the bytes of bodies in memory to ``most``; first come, first served. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int, timeout_s: float) -> int:
        """Wait for room for ``size`` bytes, and take it. Returns the bytes taken, at most ``most``.

        Raises Unavailable: there was no room within ``timeout_s``.
        """
        size = min(size, self._most)
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, admitted))
        self._admit()
        try:
            async with asyncio.timeout(timeout_s):
                await admitted
        except BaseException as error:
            if admitted.done() and not admitted.cancelled():
                self.give(size)
            self._waiting = deque(one for one in self._waiting if one[1] is not admitted)
            self._admit()
            if isinstance(error, TimeoutError):
                raise Unavailable("Other large bodies are being read: try again later.") from None
            raise
        return size

    def give(self, size: int) -> None:
        """Give back ``size`` bytes that ``take`` returned."""
        self._left += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, admitted = self._waiting.popleft()
            if not admitted.done():
                self._left -= size
                admitted.set_result(None)


class Security:
    """Middleware around the application. The page (``/`` and ``/static/``) needs no token; its data does."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self._app = app
        self._keys = keys
        self._names = {"localhost", settings.http.rpartition(":")[0].lower(), *_listed(settings.http_names)}
        self._body_limit_bytes = settings.body_limit_bytes
        self._timeout_s = settings.http_timeout_s
        self._room = Room(settings.body_limit_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: _Body | None = None

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                _complete(MutableHeaders(raw=message["headers"]), scope, close=not (body and body.complete))
            await send(message)

        try:
            self._check(scope)
            body = _Body(receive, Headers(scope=scope), self._body_limit_bytes, self._timeout_s, self._room)
        except PuppetmasterError as error:
            await refuse(error, with_headers)
            return
        try:
            await self._app(scope, body.receive, with_headers)
        finally:
            body.end()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
        except PuppetmasterError as error:
            await receive()
            await refuse(error, send, "websocket.http.response")
            return

        async def while_known(message: Message) -> None:
            if message["type"] == "websocket.send" and self._keys.caller(scope) is None:
                message = {"type": "websocket.close", "code": NOT_KNOWN, "reason": "The token is not known."}
            await send(message)

        await self._app(scope, receive, while_known)

    # -- the checks -------------------------------------------------------------------------------

    def _check(self, scope: Scope) -> None:
        """Check one request or WebSocket.

        Raises:
            HeadersTooLarge: path, query and headers exceed the limit.
            Forbidden: the Host is not ours, or a page of another origin asks.
            Unauthorized: the token is missing or wrong.
        """
        headers = Headers(scope=scope)
        _check_size(scope)
        host = headers.get("host", "")
        self._check_host(host)
        if scope["type"] == "websocket" or scope["method"] not in READING:
            _check_origin(headers, host)
        caller = self._keys.caller(scope)
        if caller is None and not self._is_open(scope):
            raise Unauthorized
        scope[CALLER] = caller

    def _check_host(self, host: str) -> None:
        """Raises Forbidden: the Host is neither an address nor a name of ours.

        A stranger's page can make its own host name point to our address (DNS rebinding), but it cannot have
        an address or a name of ours as its Host.
        """
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() in self._names:
            return
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise Forbidden(
                f"Expected an address or a known name as Host, got '{name[:80]}': "
                "name it in PUPPETMASTER_HTTP_NAMES if it is ours, or a reverse proxy's before us."
            ) from None

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return (
            scope["type"] == "http"
            and scope["method"] in READING
            and (path == "/" or path.startswith("/static/"))
        )


class _Body:
    """The body of one request, limited in size and time as a whole.

    A body of more than ``SMALL_BYTES`` waits for room first, because it takes memory until the request is
    answered. A body without a Content-Length is read up to that size before it waits.

    Raises:
        TooLarge: the body exceeds ``limit_bytes``. Raised here, and by ``receive``.
    """

    def __init__(
        self, receive: Receive, headers: Headers, limit_bytes: int, timeout_s: float, room: Room
    ) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._due_s = asyncio.get_running_loop().time() + timeout_s
        self._size = 0
        self._room = room
        self._taken = 0
        self._expected = 0
        #: Whether the whole body was read.
        self.complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        if (length := headers.get("content-length", "0")).isdigit():
            self._expected = int(length)
            self._check(self._expected)

    async def receive(self) -> Message:
        """Receive the next part; after the last, wait for the end of the connection.

        Raises:
            TooLarge: the body exceeds the limit.
            RequestTimeout: the body did not arrive in time.
            Unavailable: there was no room for it.
        """
        if self.complete:
            return await self._receive()
        if not self._taken and max(self._expected, self._size) > SMALL_BYTES:
            self._taken = await self._room.take(self._expected or self._limit_bytes, ROOM_S)
            self._due_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(self._due_s):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout(f"The body did not arrive within {self._timeout_s:g} s.") from None
        self.complete = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        self._check(self._size)
        return message

    def end(self) -> None:
        """Give back the room of the body, because the request is answered."""
        if self._taken:
            self._room.give(self._taken)
            self._taken = 0

    def _check(self, size: int) -> None:
        if size > self._limit_bytes:
            raise TooLarge(
                f"The body has {size} bytes or more and {self._limit_bytes} are the most: "
                "split it, or raise PUPPETMASTER_BODY_LIMIT_BYTES."
            )


def _check_size(scope: Scope) -> None:
    """Raises HeadersTooLarge. uvicorn limits only headers that have not arrived completely."""
    size = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    if size > HEADER_LIMIT_BYTES:
        raise HeadersTooLarge(HEADERS_TOO_LARGE)


def _check_origin(headers: Headers, host: str) -> None:
    """Raises Forbidden: a browser asks for a page of another origin.

    Clients other than browsers send neither Origin nor Sec-Fetch-Site.
    """
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        raise Forbidden("This may not be asked for by a page of another origin.")
    if origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise Forbidden(
            f"Expected a page of this origin, '{host}', got one of '{origin[:80]}': a reverse proxy "
            "has to pass on the header Host as it came (nginx: proxy_set_header Host $http_host)."
        )


def prefix(headers: Headers) -> str:
    """The path under which a reverse proxy shows us, from ``X-Forwarded-Prefix``; empty: under none.

    Nothing is allowed or refused by it, so it may come from anybody. It is no other host's address.
    """
    given = headers.get("x-forwarded-prefix", "").rstrip("/")
    return given if _PREFIX.fullmatch(given) else ""


def _listed(text: str) -> list[str]:
    return [one.strip().lower() for one in text.split(",") if one.strip()]


async def refuse(error: PuppetmasterError, send: Send, kind: str = "http.response") -> None:
    """Answer with an error. ``kind`` is the beginning of the ASGI message types of the answer."""
    body = jsoncodec.encode(error.body())
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if error.status == Unauthorized.status:
        headers.append((b"www-authenticate", b'Bearer realm="puppetmaster"'))
    await send({"type": f"{kind}.start", "status": error.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _complete(headers: MutableHeaders, scope: Scope, *, close: bool) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-cache" if scope["method"] in READING else "no-store")
    if close:  # the rest of the body is unread: it would be taken for the next request
        headers["Connection"] = "close"
