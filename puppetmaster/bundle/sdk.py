"""The only door to the ``sanji`` package.

sanji 1.1.2 was written for Python 2.7. Importing this module makes it work on Python 3.11 and later
(``apply_shims``); ``connection`` returns a connection to the broker that recovers from every loss. All other
modules import the SDK's names from here. ``docs/sdk.md`` lists each fault of the SDK and its cure.
"""

import inspect
import logging
import os
import re
import select
import time
from collections.abc import Callable
from threading import Event, Lock
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import sanji.router
from sanji.bundle import Bundle, BundleConfigError
from sanji.connection.mqtt import Mqtt
from sanji.core import Route as SdkRoute
from sanji.core import Sanji
from sanji.message import Message, MessageType, trim_resource
from sanji.session import TimeoutError as SdkTimeout
from voluptuous import Invalid as SchemaInvalid

from puppetmaster.bus.credentials import Attempts, Refused

__all__ = [
    "Bundle",
    "BundleConfigError",
    "Connection",
    "Message",
    "MessageType",
    "Mqtt",
    "Route",
    "Sanji",
    "SchemaInvalid",
    "SdkTimeout",
    "connection",
    "trim_resource",
]

_logger = logging.getLogger("sanji.puppetmaster.bundle.sdk")

#: The SDK's decorator of handlers ``(self, message, response)``: ``resource``, ``methods``, ``schema``.
Route: Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]] = SdkRoute

HOST_VARIABLE = "BROKER_PORT_1883_TCP_ADDR"
PORT_VARIABLE = "BROKER_PORT_1883_TCP_PORT"
#: paho pings the broker after this silence, and takes the connection for lost after twice as long.
KEEPALIVE_S = 15
#: No broker closes a connection for a message that is shorter than this.
SUSPECT_BYTES = 4096
FLUSH_S = 0.3  # how long ``disconnect`` waits for queued messages to be written


def compile_resource(resource: str) -> re.Pattern[str]:
    """Compile a route such as ``/jobs/:id``; ``:id`` takes one segment, colons and dots included.

    The SDK's own pattern is not valid since Python 3.7, and would match neither a MAC address nor ``a.b``.
    """
    pieces = re.split(r":(\w+)", trim_resource(resource))
    pattern = "".join(
        rf"(?P<{piece}>[^/?#\s]+)" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces)
    )
    return re.compile(rf"^{pattern}(\?(?P<querystring>.*))?$")


def _ready(
    reading: list[Any], writing: list[Any], failing: list[Any], timeout_s: float
) -> tuple[list[Any], list[Any], list[Any]]:
    """``select.select`` for paho, made of ``poll``: select takes no file descriptor above 1,023.

    HTTP connections can use up all lower ones, and a connection to the broker that is made then would fail.
    Raises TypeError, ValueError as select does: something in the lists is no open socket.
    """
    events = dict.fromkeys(reading, select.POLLIN)
    for one in writing:
        events[one] = events.get(one, 0) | select.POLLOUT
    poll = select.poll()
    for one, wanted in events.items():
        poll.register(one, wanted)
    found = dict(poll.poll(timeout_s * 1000))
    # A socket with an error is returned as readable and writable: the next read or write raises the error.
    ready = {one: found.get(one.fileno(), 0) for one in events}
    return (
        [one for one in reading if ready[one] & ~select.POLLOUT],
        [one for one in writing if ready[one] & ~select.POLLIN],
        failing,
    )


def apply_shims() -> None:
    """Restore what Python 3.11 removed and sanji needs; patch paho's select. Calling it again does no harm.

    The package's ``__init__`` restores what voluptuous needs.
    """
    paho.select = SimpleNamespace(select=_ready)
    sanji.router.compile_resource = compile_resource  # Route.__init__ looks this global up
    if not hasattr(inspect, "getargspec"):
        inspect.getargspec = inspect.getfullargspec  # type: ignore[attr-defined]


apply_shims()


class Connection(Mqtt):  # type: ignore[misc] # the SDK has no types
    """The SDK's ``Mqtt`` with a loop that survives every error and ends when ``disconnect`` is called.

    It connects again ``connect_delay`` seconds after a failure or a loss, and ever more rarely when the
    broker refuses our login. ``attempts.reason`` says why there is no connection. ``disconnect`` is final;
    messages that were queued before leave first.

    After each loss paho sends again what the broker has not acknowledged. A message for which the broker
    closes the connection would come back for ever, so after the second time ``instead`` replaces it.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(broker_host=host, broker_port=port, broker_keepalive=KEEPALIVE_S)
        self.connect_delay = 0.5
        self.attempts = Attempts()
        #: Given a payload that the broker does not take, returns the payload to send in its
        #: place; None: send the same again.
        self.instead: Callable[[bytes], bytes | None] = lambda _: None
        self._unacknowledged: set[int] = set()  # paho's numbers of the long messages open at the last loss
        self._up = False
        self._closing = Event()
        self._loop_lock = Lock()  # held while connect() runs: its sockets must not be closed then

    def connect(self) -> None:
        """Connect, and connect again after each loss. Returns after ``disconnect``."""
        with self._loop_lock:
            while not self._closing.is_set():
                try:
                    self._run_once()
                except OSError as error:
                    self._failed(error, greeted=False)
                except Exception:  # a callback raised, which paho 1.5.0 lets through; this thread must go on
                    _logger.exception("the connection to the broker broke, connecting again")
                self._up = False
                self._closing.wait(self.attempts.wait_s(self.connect_delay))
            self._flush()
        self._close_wakeup()

    def _run_once(self) -> None:
        """Run one connection, from its connect to its loss.

        paho's ``loop_forever`` is not used: its pauses grow to 120 s, and it forgets a ``disconnect`` that
        is called while it connects.
        """
        self.client.connect(self.broker_host, self.broker_port, self.broker_keepalive)
        refused = self.attempts.refusals
        while not self._closing.is_set() and self.client.loop() == 0:
            pass
        if not (self._up or self._closing.is_set() or self.attempts.refusals > refused):
            self._failed(ConnectionError("the broker closed it"), greeted=True)
        if self._up and not self._closing.is_set():
            self._suspect()

    def _suspect(self) -> None:
        """After a loss, replace the longest message that was unacknowledged at it and at the loss before."""
        states = (paho.mqtt_ms_wait_for_puback, paho.mqtt_ms_wait_for_pubrec)
        with self.client._out_message_mutex:
            found = {
                number: message
                for number, message in self.client._out_messages.items()
                if message.state in states and len(message.payload) >= SUSPECT_BYTES
            }
            twice = [message for number, message in found.items() if number in self._unacknowledged]
            self._unacknowledged = set(found)
            if not twice:
                return
            longest = max(twice, key=lambda message: len(message.payload))
            size = len(longest.payload)
            shorter = self.instead(longest.payload)
            if shorter is None:
                return
            longest.payload = shorter
        _logger.warning(
            "the broker closed the connection twice when an answer of %d bytes was sent: an error is sent in "
            "its place; PUPPETMASTER_BROKER_LIMIT_BYTES tells what the broker carries",
            size,
            extra={"action": "answer_refused"},
        )

    def accepted(self, code: int) -> bool:
        """Note the return code of the broker's CONNACK. Returns whether the login was accepted (code 0)."""
        self._up = code == 0
        if self._up:
            self.attempts.worked()
            _logger.info("broker %s:%s: connected", self.broker_host, self.broker_port)
        else:
            self._failed(Refused(code), greeted=True)
        return self._up

    def _failed(self, error: Exception, *, greeted: bool) -> None:
        if self.attempts.failed(error, greeted=greeted):
            _logger.warning("broker %s:%s: %s", self.broker_host, self.broker_port, self.attempts.reason)

    def _flush(self) -> None:
        """Write queued messages for up to ``FLUSH_S``, and close the socket."""
        deadline = time.monotonic() + FLUSH_S
        while self.client.want_write() and self.client.socket() is not None and time.monotonic() < deadline:
            self.client.loop(0.05)
        self.client._sock_close()

    def disconnect(self) -> None:
        """End the connection with a DISCONNECT; ``connect`` returns soon after. Never blocks."""
        self.client.disconnect()  # before the flag: this writes to a socket pair that ``connect`` closes then
        self._closing.set()
        self._close_wakeup()

    def _close_wakeup(self) -> None:
        """Close the socket pair that paho leaves to the garbage collector, unless the loop still needs it."""
        if self._loop_lock.acquire(blocking=False):
            try:
                self.client._sockpairR.close()
                self.client._sockpairW.close()
            finally:
                self._loop_lock.release()


def connection(host: str | None = None, port: int | str | None = None) -> Connection:
    """A connection to the broker that is not connected yet.

    Without ``host`` or ``port`` they are read from the environment: BROKER_PORT_1883_TCP_ADDR (default
    "localhost") and BROKER_PORT_1883_TCP_PORT (1883). Raises ValueError: the port is not from 1 to 65535.
    """
    if host is None:
        host = os.environ.get(HOST_VARIABLE) or "localhost"
    given = port if port is not None else os.environ.get(PORT_VARIABLE) or 1883
    try:
        number = int(given)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise ValueError(
            f"the broker's port: expected a number from 1 to 65535, got {given!r}; "
            f"set {PORT_VARIABLE}, or leave it away for 1883"
        )
    return Connection(host, number)
