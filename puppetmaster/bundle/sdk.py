"""The only door to the ``sanji`` package.

sanji 1.1.2 was written for Python 2.7. Importing this module first makes it work on Python 3.11 and
later (``apply_shims``); ``connection`` gives it a link to the broker that can be relied on. All other
modules take what they need of the SDK from here. ``docs/sdk.md`` lists each fault that was met and its cure.
"""

import collections
import collections.abc
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
#: The broker is asked whether it is there after so long a silence, and counts as gone after twice as long.
KEEPALIVE_S = 15
#: A shorter message is nothing that a broker closes a connection for.
SUSPECT_BYTES = 4096
FLUSH_S = 0.3  # how long the end of a link waits for a broker that takes nothing


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
    """``select.select`` for paho, by poll: select knows no descriptor beyond 1,023.

    As many HTTP connections are possible; a link to the broker that is made meanwhile would never stand.
    Raises TypeError and ValueError as select does: what is in the lists is no open socket.
    """
    events = dict.fromkeys(reading, select.POLLIN)
    for one in writing:
        events[one] = events.get(one, 0) | select.POLLOUT
    poll = select.poll()
    for one, wanted in events.items():
        poll.register(one, wanted)
    found = dict(poll.poll(timeout_s * 1000))
    # An error is both: the next read, or write, tells which.
    told = {one: found.get(one.fileno(), 0) for one in events}
    return (
        [one for one in reading if told[one] & ~select.POLLOUT],
        [one for one in writing if told[one] & ~select.POLLIN],
        failing,
    )


def apply_shims() -> None:
    """Give sanji 1.1.2 and voluptuous 0.11.5 what Python 3.10 and 3.11 took away, and paho a better select.

    May be called again.
    """
    paho.select = SimpleNamespace(select=_ready)
    sanji.router.compile_resource = compile_resource  # Route.__init__ looks this global up
    if not hasattr(inspect, "getargspec"):
        inspect.getargspec = inspect.getfullargspec  # type: ignore[attr-defined]
    if not hasattr(collections, "Mapping"):
        collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]


apply_shims()


class Connection(Mqtt):  # type: ignore[misc] # the SDK has no types
    """The SDK's ``Mqtt`` with a loop that survives what it meets and ends when it is told to.

    A broker that is away, at first or later, is tried again after ``connect_delay`` seconds, one that refuses
    our login ever more rarely. ``attempts.reason`` says why there is no connection. Once ``disconnect`` was
    called the connection is over for good; what was queued before leaves first.

    paho sends what is not acknowledged again after each loss. A message that the broker closes the connection
    for would do so for ever: after the second time ``instead`` says what to send in its place.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(broker_host=host, broker_port=port, broker_keepalive=KEEPALIVE_S)
        self.connect_delay = 0.5
        self.attempts = Attempts()
        #: What to send in place of a message that the broker does not take; None: it is sent again.
        self.instead: Callable[[bytes], bytes | None] = lambda _: None
        self._unacknowledged: set[int] = set()  # by paho's number; what was, and is long, at the last loss
        self._up = False
        self._closing = Event()
        self._loop_lock = Lock()  # held while connect() runs: its sockets must not be closed then

    def connect(self) -> None:
        """Connect, and connect again after each loss; returns after ``disconnect``."""
        with self._loop_lock:
            while not self._closing.is_set():
                try:
                    self._run_once()
                except OSError as error:
                    self._failed(error, greeted=False)
                except Exception:  # of a callback, inside paho 1.5.0; this thread must not die of it
                    _logger.exception("the link to the broker broke, connecting again")
                self._up = False
                self._closing.wait(self.attempts.wait_s(self.connect_delay))
            self._flush()
        self._close_wakeup()

    def _run_once(self) -> None:
        """One connection, from connect to its loss.

        paho's ``loop_forever`` is not used: its waits grow to 120 s, and a ``disconnect`` while it
        connects is forgotten.
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
        """The connection is lost, perhaps for the longest message that was open at this loss and the last."""
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
        """Take the broker's answer to our login, 0: welcome; returns whether it is that."""
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
        """Write what is queued, unless the broker does not take it, and close the socket."""
        deadline = time.monotonic() + FLUSH_S
        while self.client.want_write() and self.client.socket() is not None and time.monotonic() < deadline:
            self.client.loop(0.05)
        self.client._sock_close()

    def disconnect(self) -> None:
        """End the link in good order; ``connect`` returns soon after. Never blocks."""
        self.client.disconnect()  # before the flag: ``connect`` closes what this wakes it by
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
    """Return a link to the broker, not yet connected.

    Without ``host`` or ``port`` the environment decides, read now: BROKER_PORT_1883_TCP_ADDR ("localhost")
    and BROKER_PORT_1883_TCP_PORT (1883). Raises ValueError when the port is not a number from 1 to 65535.
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
