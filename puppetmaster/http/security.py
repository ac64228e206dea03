"""Who may come in: checks of every HTTP request and WebSocket before anything else sees it.

ASGI middleware. It refuses with the errors of the API, limits bodies in size and time, and sets
the headers that keep a browser from being used against us.
"""

import asyncio
import hmac
import ipaddress
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
from puppetmaster.http.protocols import HEADER_LIMIT_BYTES, HEADERS_TOO_LARGE
from puppetmaster.settings import Settings

#: The subprotocol that a WebSocket is answered with when its client offers it.
SUBPROTOCOL = "puppetmaster"
#: A client that can set no header, as a browser's WebSocket, offers this before its token.
TOKEN_PREFIX = "token."  # noqa: S105 - not a token
#: Methods that change nothing.
READING = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


#: A body up to this size waits for nobody; a larger one so long at most.
SMALL_BYTES = 64 * 1024
ROOM_S = 60.0


class Room:
    """How many bytes of bodies may be in memory at once; first come, first served. On one loop only."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int, timeout_s: float) -> int:
        """Wait until there is room; how much was taken. Raises Unavailable after ``timeout_s``."""
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
        """What was taken is free again."""
        self._left += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, admitted = self._waiting.popleft()
            if not admitted.done():
                self._left -= size
                admitted.set_result(None)


class Security:
    """Around the whole application. The page, ``/`` and ``/static/``, needs no token; its data does."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._token = settings.token.encode()
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
        else:
            await self._app(scope, receive, send)

    # -- the checks -------------------------------------------------------------------------------

    def _check(self, scope: Scope) -> None:
        """Raises HeadersTooLarge, Forbidden, Unauthorized."""
        headers = Headers(scope=scope)
        _check_size(scope)
        host = headers.get("host", "")
        self._check_host(host)
        if scope["type"] == "websocket" or scope["method"] not in READING:
            _check_origin(headers, host)
        if self._token and not self._is_open(scope):
            self._check_token(scope, headers)

    def _check_host(self, host: str) -> None:
        """A page of a stranger can make its own name point to us, but not an address or one of our names."""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() in self._names:
            return
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise Forbidden(
                f"Expected an address or a known name as Host, got '{name[:80]}': "
                "name it in PUPPETMASTER_HTTP_NAMES if it is ours."
            ) from None

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return (
            scope["type"] == "http"
            and scope["method"] in READING
            and (path == "/" or path.startswith("/static/"))
        )

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        offered = [given.strip()] if scheme.lower() == "bearer" else []
        offered += [
            one.removeprefix(TOKEN_PREFIX)
            for one in scope.get("subprotocols", ())
            if one.startswith(TOKEN_PREFIX)
        ]
        known = [hmac.compare_digest(one.encode("utf-8", "replace"), self._token) for one in offered]
        if not any(known):
            raise Unauthorized


class _Body:
    """The body of one request: raises TooLarge and RequestTimeout, for the body as a whole.

    One that is not small waits for room first, and Unavailable says that there was none: what is made of it
    takes memory until the request has its answer. Of one that does not say its size the beginning is read
    before that.
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
        #: All of it was read.
        self.complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        if (length := headers.get("content-length", "0")).isdigit():
            self._expected = int(length)
            self._check(self._expected)

    async def receive(self) -> Message:
        """Take the next part; once all is read, wait for the end of the connection."""
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
        """The request has its answer: nothing of the body is needed any more."""
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
    """Uvicorn limits only headers of which the end is not there yet."""
    size = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    if size > HEADER_LIMIT_BYTES:
        raise HeadersTooLarge(HEADERS_TOO_LARGE)


def _check_origin(headers: Headers, host: str) -> None:
    """What a browser sends for a page of another origin is refused; other clients send neither header."""
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        raise Forbidden("This may not be asked for by a page of another origin.")
    if origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise Forbidden(f"Expected a page of this origin, '{host}', got one of '{origin[:80]}'.")


def _listed(text: str) -> list[str]:
    return [one.strip().lower() for one in text.split(",") if one.strip()]


async def refuse(error: PuppetmasterError, send: Send, kind: str = "http.response") -> None:
    """Answer with an error."""
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
    if close:  # what follows in the connection is a body that nobody has read
        headers["Connection"] = "close"
