"""The HTTP server: its address, its listening socket, and uvicorn in the thread ``pm-http``."""

import asyncio
import ipaddress
import logging
import os
import re
import resource
import socket
import ssl
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Self

import uvicorn
from starlette.types import ASGIApp

from puppetmaster.bus.credentials import Complaints
from puppetmaster.errors import SettingsError
from puppetmaster.http.protocols import HEADER_LIMIT_BYTES, Http, Patience, WebSocket
from puppetmaster.settings import Settings
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.http.server")

#: A longer message of a client ends its WebSocket. Clients have nothing to send.
MESSAGE_LIMIT_BYTES = 4096
#: Pause between two pings of a WebSocket, and how long its client may take to answer one.
PING_S = 20.0
#: How long ``stop`` waits for the thread.
STOP_S = 2.0
#: How long connections have to end by themselves when the server stops.
ENDING_S = 0.7
#: Most connections beyond the limit that are accepted to be answered 503; further ones are closed at once.
#: With TLS nothing can be answered before the handshake.
SURPLUS = 50
#: Files that are kept free for other parts: up to 45 readers of the store have two files open each, and the
#: connections to the broker, the log and Python itself need some.
RESERVE = 128
#: Pause after which a connection is accepted again when no file is left and there is no spare one.
SHORT_S = 0.05
#: The form of a token. It is also sent as a WebSocket subprotocol, which allows only these characters.
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")


class Address(NamedTuple):
    """An address to listen on."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False


def address(settings: Settings) -> Address | None:
    """The address of HTTP in the settings; None: HTTP is off.

    Raises SettingsError: a setting is wrong, or other machines could ask without a token.
    """
    if settings.http.lower() == "off":
        return None
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+)):(\d{1,5})", settings.http)
    if match is None or int(match[3]) > 65535:
        expected = "PUPPETMASTER_HTTP: expected address:port such as 127.0.0.1:8700, or off"
        raise SettingsError(f"{expected}, got '{settings.http[:80]}'.")
    found = Address(match[1] or match[2], int(match[3]))
    if settings.token and not TOKEN.fullmatch(settings.token):
        raise SettingsError(
            "PUPPETMASTER_TOKEN: expected at least 16 characters, only letters, digits and . _ ~ -, "
            f"got {len(settings.token)} that are too few, or others among them."
        )
    if not found.loopback and not settings.token and not settings.tokens:
        raise SettingsError(
            f"PUPPETMASTER_HTTP: {settings.http} can be reached from other machines: "
            "set PUPPETMASTER_TOKEN or PUPPETMASTER_TOKENS too, or listen on 127.0.0.1."
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("PUPPETMASTER_TLS_CERT and PUPPETMASTER_TLS_KEY: expected both or none, got one.")
    return found


class Room(NamedTuple):
    """The limits of connections."""

    #: Most connections at once.
    most: int
    #: Most further connections that are accepted only to be answered 503.
    surplus: int

    @classmethod
    def of(cls, wanted: int, files: int) -> Self:
        """Room for ``wanted`` connections, or for as many as this process may open ``files`` for.

        ``RESERVE`` files, and at most half of them, are kept free for other parts.
        """
        free = max(files - RESERVE, files // 2)
        surplus = min(SURPLUS, free // 4)
        return cls(min(wanted, free - surplus), surplus)


class Server:
    """The server. It listens from when it is made, and answers from ``start`` to ``stop``.

    Raises SettingsError: the address is not free, or the certificate cannot be used.
    """

    def __init__(self, app: ASGIApp, where: Address, settings: Settings) -> None:
        self._secure = bool(settings.tls_cert)
        tls: dict[str, Any] = {}
        if self._secure:
            _check_certificate(settings)
            tls = {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
        timeout_s = settings.http_timeout_s
        room = _room(settings)
        #: Most connections at once: the setting, or fewer if the process may not open enough files.
        self.most = room.most
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=type("PatientHttp", (Http,), {"timeout_s": timeout_s, "most": room.most}),
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
        self._socket = _listen(where, room.most + room.surplus)
        self._name = self._socket.getsockname()
        self.thread = Vital(target=self._run, name="pm-http")

    @property
    def port(self) -> int:
        """The port that it listens on. With port 0 in the settings the system has chosen it."""
        return int(self._name[1])

    @property
    def url(self) -> str:
        """The URL of the page, for a browser on this machine."""
        host, port = self._name[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http{'s' if self._secure else ''}://{shown}:{port}/"

    def connections(self) -> int:
        """Number of open connections, WebSockets included."""
        return len(self._uvicorn.server_state.connections)

    def start(self) -> None:
        """Start the thread, and answer requests."""
        self.thread.start()
        log.info("HTTP is answered at %s", self.url, extra={"action": "http_up"})

    def ask_to_stop(self) -> None:
        """Have the server begin to stop, without waiting; ``stop`` waits."""
        self._uvicorn.should_exit = True

    def stop(self) -> None:
        """End all connections, and wait up to ``STOP_S`` for the thread."""
        self.ask_to_stop()
        if self.thread.ident is None:
            self._socket.close()
        else:
            self.thread.join(STOP_S)

    def _run(self) -> None:
        self._uvicorn.run(sockets=[self._socket])


class _Uvicorn(uvicorn.Server):
    """uvicorn's server with a timeout for TLS handshakes, which take place before its protocols.

    When it stops, connections that do not end by themselves are ended one by one. uvicorn would cancel its
    own tasks, and log that as an error.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, with a timeout for TLS handshakes, which uvicorn does not pass on."""
        if self.config.is_ssl:
            loop = asyncio.get_running_loop()
            create: Any = partial(loop.create_server, ssl_handshake_timeout=self.config.timeout_keep_alive)
            loop.create_server = create  # type: ignore[method-assign]
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections: idle ones at once, the others within ``ENDING_S``."""
        asyncio.get_running_loop().call_later(ENDING_S, self._end_connections)
        await super().shutdown(sockets)

    def _end_connections(self) -> None:
        for connection in [*self.server_state.connections]:
            assert isinstance(connection, Patience)
            connection.end()


class _Accepted(socket.socket):
    """An accepted connection, which counts until it is closed."""

    listener: "_Listener"

    def close(self) -> None:
        """Close it, and make room for another one. A second call does nothing."""
        if self.fileno() >= 0:
            self.listener.taken -= 1
        super().close()


class _Listener(socket.socket):
    """A listening socket that accepts ``most`` connections at once, and closes further ones.

    It keeps a spare file open. When this process may open no more files, the spare file is closed, and the
    next connection is accepted in its place and closed at once: left waiting, that connection would wake the
    event loop again and again.
    """

    def __init__(self, family: int, kind: int, protocol: int, *, most: int) -> None:
        super().__init__(family, kind, protocol)
        self._most = most
        self.taken = 0
        self._spare: int | None = None
        self._complaints = Complaints()
        self._keep_spare()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, as ``socket.accept`` does.

        Raises BlockingIOError: no connection waits, or there were too many and it was closed.
        """
        try:
            descriptor, address = self._accept()  # type: ignore[attr-defined]  # as socket.accept does
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            raise
        except OSError as error:
            self._turn_away(error)
            raise BlockingIOError from error
        accepted = _Accepted(self.family, self.type, self.proto, fileno=descriptor)
        accepted.listener = self
        self.taken += 1
        if self.taken > self._most:
            accepted.close()
            raise BlockingIOError
        accepted.setblocking(False)
        return accepted, address

    def close(self) -> None:
        """Close the socket and the spare file. A second call does nothing."""
        self._give_spare()
        super().close()

    def _turn_away(self, error: OSError) -> None:
        """Close the next connection, because no file is left for it."""
        if self._complaints.due(str(error.strerror)):
            text = (
                "HTTP: connections are closed at once (%s): raise the limit of open files (ulimit -n), "
                "or lower PUPPETMASTER_HTTP_CONNECTIONS"
            )
            log.error(text, error.strerror, extra={"action": "http_short"})
        self._give_spare()
        with suppress(OSError):
            os.close(self._accept()[0])  # type: ignore[attr-defined]  # as above
        self._keep_spare()
        if self._spare is None:
            time.sleep(SHORT_S)

    def _keep_spare(self) -> None:
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _give_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


def _room(settings: Settings) -> Room:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.http_connections
    room = Room.of(wanted, sys.maxsize if files == resource.RLIM_INFINITY else files)
    if room.most < wanted:
        text = "HTTP: %d connections at once, not %d: this process may have %d files open (ulimit -n)"
        log.info(text, room.most, wanted, files, extra={"action": "http_room"})
    return room


def _listen(where: Address, most: int) -> socket.socket:
    """A listening socket on this address. Raises SettingsError: the address cannot be used."""
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)[0]
        listening = _Listener(family, kind, protocol, most=most)
    except (OSError, UnicodeError) as error:  # the latter: no name can look like this
        raise _not_ours(where, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(name)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise _not_ours(where, error) from error
    return listening


def _not_ours(where: Address, error: OSError | UnicodeError) -> SettingsError:
    why = getattr(error, "strerror", None) or error
    return SettingsError(
        f"PUPPETMASTER_HTTP: expected an address and a free port, but {where.host[:80]}:{where.port} "
        f"cannot be listened on ({why}): choose another, or end what uses it."
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
