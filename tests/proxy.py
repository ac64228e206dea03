"""A TCP proxy between a client and the broker that can cut, hold, truncate and swallow what passes."""

import contextlib
import socket
import threading
from typing import Self

from sandbox.process import free_port

CHUNK = 65_536


class Proxy:
    """Listens on 127.0.0.1 and passes each connection on to ``target``, until it is told otherwise.

    A context manager. What it does to connections it does to those that stand and, unless it says otherwise,
    not to later ones.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.accepted = 0
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._changed = threading.Condition()  # guards all from _links to _budget, and accepted
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._refusing = False
        self._old = False
        self._held = False
        self._silent: set[socket.socket] = set()
        self._budget: int | None = None
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    # -- faults -----------------------------------------------------------------------------------

    def cut(self) -> None:
        """End every connection at once, in the middle of whatever it carries."""
        with self._changed:
            links, self._links = self._links, []
            self._budget = None
            self._changed.notify_all()
        for pair in links:
            for end in pair:
                _close(end)

    def cut_after(self, count: int) -> None:
        """Pass so many more bytes from clients to the broker, then cut: the last message arrives in part."""
        with self._changed:
            self._budget = count

    def hold(self) -> None:
        """Pass nothing in either direction; connections stay open."""
        with self._changed:
            self._held = True

    def release(self) -> None:
        """Pass on what was held, and what comes."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def silence(self) -> None:
        """Let everything vanish that comes over the connections that stand, their ends too: half-open."""
        with self._changed:
            self._silent = {end for pair in self._links for end in pair}

    def refuse_mqtt_5(self) -> None:
        """Close each connection that begins with the CONNECT of MQTT 5, as a broker of MQTT 3.1.1 may."""
        with self._changed:
            self._old = True

    def refuse(self, *, refusing: bool) -> None:
        """Whether new connections are closed at once."""
        with self._changed:
            self._refusing = refusing

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        self.cut()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                refusing = self._refusing
            try:
                server = None if refusing else socket.create_connection(self._target, timeout=5)
            except OSError:
                server = None
            if server is None:
                _close(client)
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.accepted += 1
                self._links.append((client, server))
            for source, sink, counted in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pump, args=(source, sink, counted), name="proxy-pump", daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        """Pass on one direction until either end closes."""
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                with self._changed:
                    if self._old and counted and _is_mqtt_5(chunk):
                        break
                    self._changed.wait_for(lambda: not self._held)
                    if sink in self._silent:
                        continue
                    part, over = self._part(chunk) if counted else (chunk, False)
                sink.sendall(part)
                if over:
                    self.cut()
                    return
        with self._changed:
            silent = sink in self._silent
        if not silent:
            _close(source)
            _close(sink)

    def _part(self, chunk: bytes) -> tuple[bytes, bool]:
        """What of a chunk may still pass, and whether that was all. Caller holds _changed."""
        if self._budget is None:
            return chunk, False
        part = chunk[: self._budget]
        self._budget -= len(part)
        return part, self._budget == 0


def _is_mqtt_5(chunk: bytes) -> bool:
    """Whether a CONNECT of MQTT 5 begins here; that of a long password does not fit into this test."""
    return chunk[0] == 0x10 and chunk[2:9] == b"\0\4MQTT\5"


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
