"""A broker that holds small packets back is made to send them on, by a large one.

A broker without ``set_tcp_nodelay`` lets one small packet be on its way to a client, and keeps what comes
next until the client's system has confirmed that one (Nagle's algorithm). The system of a controller that has
nothing to say does that after 40 ms, so each command waits, and each answer. A full packet is never held, and
takes along what waits before it. So when nothing comes for a while although something is waited for, the
controller is sent a message that fills a packet. It is no JSON, and the controller drops it (decision
0128).
"""

import math
import socket
from collections.abc import Callable
from ipaddress import ip_address

from puppetmaster.bus import packets, visit
from puppetmaster.bus.credentials import Credentials
from puppetmaster.model.message import CONTROLLER_TOPIC

#: The socket option that says whether the system sends a TCP ACK at once (Linux only; else None).
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
#: The largest packet of a connection within a machine has 64 KiB. No JSON: its first byte says so.
NUDGE = packets.Topic(CONTROLLER_TOPIC).publish(b"." * 64 * 1024)
#: A system confirms a small packet after 40 ms at the latest. What comes within half of that was not held.
CONFIRMED_S = 0.04
#: The silence before the first nudge. Before each further one it is twice as long, up to ``CONFIRMED_S`` / 2.
FIRST_S = 0.002
#: Time between two nudges on average, and over how long the average is taken.
APART_S, OVER_S = 0.01, 0.5


def holds_back(address: tuple[str, int], credentials: Credentials, client_id: str) -> bool:
    """Find out whether the broker holds small packets back. Takes up to ``CONFIRMED_S`` / 2 if it does.

    Two short answers are asked for, and the first is not confirmed. Returns False where that cannot be found
    out, or where nudges would cost more: over TLS, and when the broker is on another machine.
    """
    if QUICK_ACK is None or credentials.tls is not None:
        return False
    try:
        with visit.reach(address, credentials, visit.VISIT_S) as connection:
            if not ip_address(connection.getpeername()[0]).is_loopback:
                return False
            connection.sendall(visit.login(client_id, credentials))
            if next(visit.arriving(connection)) != packets.Connack(0):
                return False
            connection.settimeout(visit.VISIT_S)
            connection.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 0)
            connection.sendall(2 * packets.PINGREQ)
            connection.recv(1, socket.MSG_PEEK)  # one is here; unread, it is not confirmed
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2 * len(packets.PINGREQ))
            connection.settimeout(CONFIRMED_S / 2)
            try:
                return len(connection.recv(2 * len(packets.PINGREQ))) == len(packets.PINGREQ)
            except TimeoutError:
                return True
            finally:
                connection.sendall(packets.DISCONNECT)
    except (OSError, packets.Malformed):
        return False


class Nudges:
    """When the controller is to be nudged. Times are seconds of the monotonic clock.

    ``waits`` says whether we wait for an answer that the broker may be holding back.
    """

    __slots__ = ("_pause_s", "_spent_s", "_waits", "due_s", "on")

    def __init__(self, waits: Callable[[], bool]) -> None:
        self._waits = waits
        #: Whether the broker of this connection holds small packets back.
        self.on = False
        #: When to ask ``take`` again; infinite: once a message has passed.
        self.due_s = math.inf
        self._pause_s = FIRST_S
        self._spent_s = -math.inf

    def passed(self, now_s: float) -> bool:
        """Note that a message has come or gone. Returns whether ``due_s`` was infinite before."""
        if not self.on:
            return False
        slept = self.due_s == math.inf
        self._pause_s, self.due_s = FIRST_S, now_s + FIRST_S
        return slept

    def take(self, now_s: float) -> bool:
        """Whether the controller is to be nudged now."""
        if now_s < self.due_s:
            return False
        self._pause_s *= 2
        wanted = self.on and self._waits()
        self.due_s = now_s + self._pause_s if wanted and self._pause_s < CONFIRMED_S / 2 else math.inf
        if not wanted or self._spent_s > now_s:
            return False
        self._spent_s = max(self._spent_s, now_s - OVER_S) + APART_S
        return True
