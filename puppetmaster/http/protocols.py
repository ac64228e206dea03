"""The protocols of HTTP and WebSocket connections: uvicorn's own, with timeouts and errors in JSON.

uvicorn's methods are wrapped, so its version is pinned.
"""

import asyncio
import struct
import sys
from collections.abc import Sequence
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.connection import ConnectionState

from puppetmaster import jsoncodec

#: Most bytes of the request line and the headers together.
HEADER_LIMIT_BYTES = 16 * 1024
#: Most characters of a method, and of what is wrong with a request, in an error.
SHOWN = 80
HEADERS_TOO_LARGE = f"The headers are too large: {HEADER_LIMIT_BYTES} bytes are the most."


class Patience(asyncio.Protocol):
    """Ends a connection whose client reads nothing for ``timeout_s`` while there is more to write.

    A mixin that wraps methods of uvicorn's class. The transport calls ``pause_writing`` when its buffer is
    full, and ``resume_writing`` when the client has read most of that.
    """

    timeout_s: float
    transport: asyncio.Transport
    _unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Start the timeout: the transport's buffer is full."""
        super().pause_writing()
        self._unread = asyncio.get_running_loop().call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timeout: the client has read most of the buffer."""
        super().resume_writing()
        self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout: the connection has ended."""
        self._forget()
        super().connection_lost(exc)

    def end(self) -> None:
        """End the connection at once, because puppetmaster stops and the connection has had its time."""
        self.transport.abort()

    def _forget(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class WebSocket(Patience, WSProtocol):
    """uvicorn's WebSocket with a timeout, and with texts in parts that many connections share.

    Such a text is ASCII and comes as ``{"type": "websocket.send", "parts": (b"..", ..)}``. The parts are
    written as they are, so no connection has to encode, or keep, a copy of a long text.
    """

    async def send(self, message: Any) -> None:
        """Send an ASGI message of the application; ``parts`` become one text frame."""
        if "parts" not in message:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        if self.conn.state is ConnectionState.OPEN:
            self.transport.write(text_frame(message["parts"]))


def upgrade_fault(event: h11.Request) -> str | None:
    """What is wrong with the headers of a WebSocket, as a sentence; None: nothing is."""
    given = dict(event.headers)  # their names are in small letters
    if event.method != b"GET":
        return f"Expected GET for a WebSocket, got {event.method[:SHOWN].decode('ascii')}."
    if given.get(b"sec-websocket-version") != b"13" or b"sec-websocket-key" not in given:
        return "Expected the headers 'Sec-WebSocket-Version: 13' and 'Sec-WebSocket-Key', got others."
    try:
        given.get(b"host", b"").decode("idna")
        for name, value in event.headers:
            if name == b"connection" or name.startswith(b"sec-websocket-"):
                value.decode("ascii")
    except UnicodeError:
        return "Expected ASCII in the headers of a WebSocket, and a name or an address as Host, got others."
    return None


def text_frame(parts: Sequence[bytes]) -> bytes:
    """One unmasked text frame (RFC 6455, section 5.2) with the parts as its payload."""
    size = sum(map(len, parts))
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return b"".join((head, *parts))


class Http(Patience, H11Protocol):
    """uvicorn's HTTP with timeouts, also for headers that do not come, and with errors in JSON."""

    #: Most connections at once; a further one is answered 503.
    most: int
    _surplus = False
    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        """Start the timeout for the headers of a new connection."""
        super().connection_made(transport)
        self._surplus = len(self.connections) > self.most
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and stop the timeout for the headers when all headers have come."""
        if self._surplus:
            self._answer(503, f"There are {self.most} connections, which are the most: try again later.")
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._headers_came()
        elif self._headers_due is None:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeouts: the connection has ended."""
        self._headers_came()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Stop the timeout and hand the connection over to the WebSocket protocol, if it will take it.

        An error in that protocol's own checks would leave it among the open connections for ever.
        """
        self._headers_came()
        if (fault := upgrade_fault(event)) is not None:
            self._answer(400, fault)
        else:
            super().handle_websocket_upgrade(event)

    def end(self) -> None:
        """End the connection. A client that is still sending a body is answered 503: nothing was done."""
        if self.cycle is not None and self.cycle.more_body and not self.cycle.response_started:
            self._answer(503, "Puppetmaster is stopping: try again later.")
        else:
            super().end()

    def _expect_headers(self) -> None:
        self._headers_due = asyncio.get_running_loop().call_later(self.timeout_s, self.transport.abort)

    def _headers_came(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP. uvicorn calls this while it handles h11's error."""
        error = sys.exception()
        assert isinstance(error, h11.RemoteProtocolError)
        status = error.error_status_hint
        why = str(error).partition(": bytearray")[0]  # behind that it repeats what came
        unreadable = f"Expected HTTP/1.1, but it cannot be read: {why[:SHOWN]}."
        msg = HEADERS_TOO_LARGE if status == 431 else unreadable
        self._answer(status, msg)

    def _answer(self, status: int, message: str) -> None:
        """Answer with an error and end the connection, whatever the client has sent so far."""
        body = jsoncodec.encode({"message": message})
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for part in (h11.Response(status_code=status, headers=headers), h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()
