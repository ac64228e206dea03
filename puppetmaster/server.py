"""The HTTP server: an address that is checked, a socket, and uvicorn in the thread ``pm-http``."""

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.connection import ConnectionState

from puppetmaster import wire
from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings

log = logging.getLogger("sanji.puppetmaster.server")

#: Request line and headers together.
HEADER_LIMIT_BYTES = 16 * 1024
#: Clients tell us nothing over a WebSocket: a message beyond this ends it.
MESSAGE_LIMIT_BYTES = 4096
PING_S = 20.0
#: How long ``stop`` waits; open answers get one second of it.
STOP_S = 2.0
#: A token travels as a WebSocket subprotocol too, which has these characters only.
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False


def address(settings: Settings) -> Address | None:
    """Where HTTP is to be answered; None: nowhere. Raises SettingsError, as for a lack of protection."""
    if settings.http.lower() == "off":
        return None
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+)):(\d{1,5})", settings.http)
    if match is None or int(match[3]) > 65535:
        raise SettingsError(
            f"PUPPETMASTER_HTTP: expected address:port such as 127.0.0.1:8700, or off, got '{settings.http}'."
        )
    found = Address(match[1] or match[2], int(match[3]))
    if settings.token and not TOKEN.fullmatch(settings.token):
        raise SettingsError(
            "PUPPETMASTER_TOKEN: expected at least 16 letters, digits or . _ ~ -, "
            f"got {len(settings.token)} characters that are not."
        )
    if not found.loopback and not settings.token:
        raise SettingsError(
            f"PUPPETMASTER_HTTP: {settings.http} can be reached from other machines: "
            "set PUPPETMASTER_TOKEN too, or listen on 127.0.0.1."
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("PUPPETMASTER_TLS_CERT and PUPPETMASTER_TLS_KEY: expected both or none, got one.")
    return found


class Server:
    """Listens from its making on; answers from ``start`` to ``stop``."""

    def __init__(self, app: ASGIApp, where: Address, settings: Settings) -> None:
        self._secure = bool(settings.tls_cert)
        tls: dict[str, Any] = {}
        if self._secure:
            _check_certificate(settings)
            tls = {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
        timeout_s = settings.http_timeout_s
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=type(
                    "PatientHttp", (Http,), {"timeout_s": timeout_s, "most": settings.http_connections}
                ),
                ws=type("PatientWebSocket", (WebSocket,), {"timeout_s": timeout_s}),
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws_max_size=MESSAGE_LIMIT_BYTES,
                ws_ping_interval=PING_S,
                ws_ping_timeout=PING_S,
                ws_per_message_deflate=False,
                timeout_keep_alive=max(1, int(timeout_s)),
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=HEADER_LIMIT_BYTES,
                **tls,
            )
        )
        self._socket = _listen(where)
        self._name = self._socket.getsockname()
        self._thread = threading.Thread(target=self._run, name="pm-http", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on; the settings may have left the choice to the system with 0."""
        return int(self._name[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host, port = self._name[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http{'s' if self._secure else ''}://{shown}:{port}/"

    def connections(self) -> int:
        """How many are open, WebSockets included."""
        return len(self._uvicorn.server_state.connections)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info("HTTP is answered at %s", self.url, extra={"action": "http_up"})

    def ask_to_stop(self) -> None:
        """Begin to stop; ``stop`` waits for the end."""
        self._uvicorn.should_exit = True

    def stop(self) -> None:
        """End all connections and the thread."""
        self.ask_to_stop()
        if self._thread.ident is None:
            self._socket.close()
        else:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._socket])
        except (Exception, SystemExit):
            log.exception("the HTTP server ended", extra={"action": "http_fault"})


def _listen(where: Address) -> socket.socket:
    """A socket on this address. Raises SettingsError when it is not to be had."""
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _not_ours(where, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(name)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise _not_ours(where, error) from error
    return listening


def _not_ours(where: Address, error: OSError) -> SettingsError:
    return SettingsError(
        f"PUPPETMASTER_HTTP: expected an address and a free port, but {where.host}:{where.port} cannot be "
        f"listened on ({error.strerror or error}): choose another, or end what uses it."
    )


def _check_certificate(settings: Settings) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=""
        )
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise SettingsError(
            f"PUPPETMASTER_TLS_CERT: expected a certificate and its private key, unencrypted, in PEM files, "
            f"got {settings.tls_cert} and {settings.tls_key}: {error}."
        ) from error


class Patience(asyncio.Protocol):
    """Ends a connection whose client reads nothing for ``timeout_s`` while there is more to write.

    Beside uvicorn's own class, whose methods it wraps: the transport asks for a pause when so much is
    unread that it must be kept, and ends the pause when most of that has been read.
    """

    timeout_s: float
    transport: asyncio.Transport
    _unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """So much is unread that it must be kept."""
        super().pause_writing()
        self._unread = asyncio.get_running_loop().call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Most of it has been read."""
        super().resume_writing()
        self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class WebSocket(Patience, WSProtocol):
    """uvicorn's, with an end to patience, and with texts in parts that many connections share.

    Such a text comes as ``{"type": "websocket.send", "parts": (b"..", ..)}``, ASCII, and is written as it
    is: of a long one the connections hold no copies that they would have to encode each for itself.
    """

    async def send(self, message: Any) -> None:
        """Send what the application has; parts are one text."""
        if "parts" not in message:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        if self.conn.state is ConnectionState.OPEN:
            self.transport.write(text_frame(message["parts"]))


def text_frame(parts: Sequence[bytes]) -> bytes:
    """One unmasked text frame, whole, as RFC 6455 section 5.2 has it."""
    size = sum(map(len, parts))
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return b"".join((head, *parts))


class Http(Patience, H11Protocol):
    """uvicorn's, with an end to patience, also for headers that do not come, and with errors in JSON."""

    most: int
    _surplus = False
    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        """A client has come."""
        super().connection_made(transport)
        self._surplus = len(self.connections) > self.most
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Bytes came; headers, perhaps."""
        if self._surplus:
            self._answer(503, f"There are {self.most} connections, which are the most: try again later.")
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._headers_came()
        elif self._headers_due is None:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._headers_came()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection is another protocol's from now on."""
        self._headers_came()
        super().handle_websocket_upgrade(event)

    def _expect_headers(self) -> None:
        self._headers_due = asyncio.get_running_loop().call_later(self.timeout_s, self.transport.abort)

    def _headers_came(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP. uvicorn calls this while it handles h11's error, which knows the code."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            msg = f"The headers are too large: {HEADER_LIMIT_BYTES} bytes are the most."
        self._answer(status, msg)

    def _answer(self, status: int, message: str) -> None:
        """Answer an error and end the connection, whatever the client has sent so far."""
        body = wire.encode({"message": message})
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for part in (h11.Response(status_code=status, headers=headers), h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()
