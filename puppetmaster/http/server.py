"""The HTTP server: an address that is checked, a socket, and uvicorn in the thread ``pm-http``."""

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

#: Clients tell us nothing over a WebSocket: a message beyond this ends it.
MESSAGE_LIMIT_BYTES = 4096
PING_S = 20.0
#: How long ``stop`` waits, and how long connections have to end by themselves.
STOP_S = 2.0
ENDING_S = 0.7
#: Connections beyond the limit that are let in to be told so; the next ones are closed at once. Before the
#: end of a TLS handshake nobody can be told anything.
SURPLUS = 50
#: Files that are left to everybody else: each of up to 45 readers of the store has two open, and both
#: connections to the broker, the log and what Python itself opens need some.
RESERVE = 128
#: With no file left, and none to give up, it is tried again after this.
SHORT_S = 0.05
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
            "PUPPETMASTER_TOKEN: expected at least 16 characters, only letters, digits and . _ ~ -, "
            f"got {len(settings.token)} that are too few, or others among them."
        )
    if not found.loopback and not settings.token:
        raise SettingsError(
            f"PUPPETMASTER_HTTP: {settings.http} can be reached from other machines: "
            "set PUPPETMASTER_TOKEN too, or listen on 127.0.0.1."
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("PUPPETMASTER_TLS_CERT and PUPPETMASTER_TLS_KEY: expected both or none, got one.")
    return found


class Room(NamedTuple):
    """How many connections there may be at once, and how many more are let in to be told so."""

    most: int
    surplus: int

    @classmethod
    def of(cls, wanted: int, files: int) -> Self:
        """As many as are wanted, or as fit into so many open files: others need some of these too."""
        free = max(files - RESERVE, files // 2)
        surplus = min(SURPLUS, free // 4)
        return cls(min(wanted, free - surplus), surplus)


class Server:
    """Listens from its making on; answers from ``start`` to ``stop``."""

    def __init__(self, app: ASGIApp, where: Address, settings: Settings) -> None:
        self._secure = bool(settings.tls_cert)
        tls: dict[str, Any] = {}
        if self._secure:
            _check_certificate(settings)
            tls = {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
        timeout_s = settings.http_timeout_s
        room = _room(settings)
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
        self.thread.start()
        log.info("HTTP is answered at %s", self.url, extra={"action": "http_up"})

    def ask_to_stop(self) -> None:
        """Begin to stop; ``stop`` waits for the end."""
        self._uvicorn.should_exit = True

    def stop(self) -> None:
        """End all connections and the thread."""
        self.ask_to_stop()
        if self.thread.ident is None:
            self._socket.close()
        else:
            self.thread.join(STOP_S)

    def _run(self) -> None:
        self._uvicorn.run(sockets=[self._socket])


class _Uvicorn(uvicorn.Server):
    """uvicorn's, with an end to the patience with TLS handshakes, which take place before its protocols.

    When it stops, what does not end by itself is ended by its connection; uvicorn would cancel its own task,
    which is told in the log as a fault.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; uvicorn passes no timeout on."""
        if self.config.is_ssl:
            loop = asyncio.get_running_loop()
            create: Any = partial(loop.create_server, ssl_handshake_timeout=self.config.timeout_keep_alive)
            loop.create_server = create  # type: ignore[method-assign]
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections: those that are idle at once, the others within ``ENDING_S``."""
        asyncio.get_running_loop().call_later(ENDING_S, self._end_connections)
        await super().shutdown(sockets)

    def _end_connections(self) -> None:
        for connection in [*self.server_state.connections]:
            assert isinstance(connection, Patience)
            connection.end()


class _Accepted(socket.socket):
    """A connection that counts until it is closed."""

    door: "_Door"

    def close(self) -> None:
        """Close it, and make room for another; may be called twice."""
        if self.fileno() >= 0:
            self.door.taken -= 1
        super().close()


class _Door(socket.socket):
    """A listening socket that lets in so many connections at once, and closes those beyond.

    It keeps a file open for the moment in which this process may open no more. That is given up for the next
    connection, which is closed at once: left waiting, it would wake the loop again and again.
    """

    def __init__(self, family: int, kind: int, protocol: int, *, most: int) -> None:
        super().__init__(family, kind, protocol)
        self._most = most
        self.taken = 0
        self._spare: int | None = None
        self._complaints = Complaints()
        self._keep_spare()

    def accept(self) -> tuple[socket.socket, Any]:
        """As ever. Raises BlockingIOError: there is none, or one beyond, which is closed by then."""
        try:
            descriptor, address = self._accept()  # type: ignore[attr-defined]  # as socket.accept does
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            raise
        except OSError as error:
            self._turn_away(error)
            raise BlockingIOError from error
        accepted = _Accepted(self.family, self.type, self.proto, fileno=descriptor)
        accepted.door = self
        self.taken += 1
        if self.taken > self._most:
            accepted.close()
            raise BlockingIOError
        accepted.setblocking(False)
        return accepted, address

    def close(self) -> None:
        """Close it; may be called twice."""
        self._give_spare()
        super().close()

    def _turn_away(self, error: OSError) -> None:
        """There is no file for the next connection: close that one."""
        if self._complaints.due(str(error.strerror)):
            said = (
                "HTTP: connections are closed at once (%s): raise the limit of open files (ulimit -n), "
                "or lower PUPPETMASTER_HTTP_CONNECTIONS"
            )
            log.error(said, error.strerror, extra={"action": "http_short"})
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
        said = "HTTP: %d connections at once, not %d: this process may have %d files open (ulimit -n)"
        log.info(said, room.most, wanted, files, extra={"action": "http_room"})
    return room


def _listen(where: Address, most: int) -> socket.socket:
    """A socket on this address. Raises SettingsError when it is not to be had."""
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)[0]
        listening = _Door(family, kind, protocol, most=most)
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
