"""Short connections to the broker, each with one question to the broker or the controller."""

import random
import secrets
import socket
import time
from collections.abc import Iterator

from puppetmaster import jsoncodec
from puppetmaster.bus import packets
from puppetmaster.bus.credentials import Credentials, Refused, explain
from puppetmaster.model.message import CONTROLLER_TOPIC, DEPENDENCY

#: Timeout of a whole visit.
VISIT_S = 3.0
READ_BYTES = 4096
KEEPALIVE_S = 60
#: Longest message that is read whole: the controller's answer is far shorter.
MESSAGE_BYTES = 64 * 1024
SILENT_CONTROLLER = (
    "the controller does not answer: start it, or restart it; if it is well and the broker has an ACL, "
    "that must let us write to /controller and read puppetmaster/#"
)


class NotLetIn(ConnectionError):
    """The broker does not let us in, or cannot be reached. The text says why and what to do."""


def reach(address: tuple[str, int], credentials: Credentials, timeout_s: float) -> socket.socket:
    """Open a TCP connection to the broker, with TLS if the credentials have it; nothing is sent yet.

    Raises OSError: the broker cannot be reached, or TLS does not come about.
    """
    connection = socket.create_connection(address, timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages must not wait
        if credentials.tls is not None:
            connection = credentials.tls.wrap_socket(connection, server_hostname=address[0])
    except BaseException:
        connection.close()
        raise
    return connection


def login(client_id: str, credentials: Credentials, version: int = packets.VERSION_3) -> bytes:
    """The CONNECT of a visit: the broker keeps nothing of it."""
    return packets.connect(
        client_id,
        keepalive_s=KEEPALIVE_S,
        user=credentials.user,
        password=credentials.password,
        clean=True,
        version=version,
    )


def limit_bytes(address: tuple[str, int], credentials: Credentials, client_id: str) -> int | None:
    """Ask the broker with MQTT 5 for the longest packet that it takes, in bytes; None: it cannot be asked."""
    deadline_s = time.monotonic() + VISIT_S
    data = b""
    try:
        with reach(address, credentials, VISIT_S) as connection:
            connection.sendall(login(client_id, credentials, packets.VERSION_5))
            while (greeting := packets.greeting(data)) is None:
                connection.settimeout(max(0.01, deadline_s - time.monotonic()))
                if not (part := connection.recv(READ_BYTES)):
                    return None
                data += part
            if greeting.code:
                return None
            connection.sendall(packets.DISCONNECT)
    except (OSError, packets.Malformed):
        return None
    return greeting.limit_bytes


def controller_answers(address: tuple[str, int], credentials: Credentials) -> bool:
    """Log in to the broker and ask the controller a question. Returns whether the controller answers.

    Raises NotLetIn: the broker cannot be reached, or refuses us.
    """
    name = secrets.token_hex(8)
    tunnel = f"puppetmaster/doctor/{name}"
    greeted = False
    try:
        with reach(address, credentials, VISIT_S) as connection:
            greeted = True
            coming = arriving(connection)
            connection.sendall(login(f"puppetmaster-doctor-{name}", credentials))
            _let_in(connection, coming, tunnel)
            return _answered(connection, coming, tunnel)
    except (OSError, packets.Malformed) as error:
        raise NotLetIn(explain(error, credentials, greeted=greeted)) from error


def arriving(connection: socket.socket) -> Iterator[packets.Packet]:
    """The packets that arrive. Raises OSError: the connection ended, or ``VISIT_S`` are over; Malformed."""
    deadline_s = time.monotonic() + VISIT_S
    decoder = packets.Decoder(MESSAGE_BYTES)
    while True:
        connection.settimeout(max(0.01, deadline_s - time.monotonic()))
        if not (data := connection.recv(READ_BYTES)):
            raise ConnectionError("the broker closed it")
        yield from decoder.feed(data)


def _let_in(connection: socket.socket, coming: Iterator[packets.Packet], tunnel: str) -> None:
    """Wait until the broker has let us in and has our subscription. Raises OSError, Malformed."""
    for packet in coming:
        if isinstance(packet, packets.Connack):
            if packet.code:
                raise Refused(packet.code)
            connection.sendall(packets.subscribe(1, [(tunnel, 0)]))
        elif isinstance(packet, packets.Suback):
            if packets.REFUSED in packet.granted:
                raise Refused
            return


def _answered(connection: socket.socket, coming: Iterator[packets.Packet], tunnel: str) -> bool:
    """Ask the controller for the owner of /jobs. Returns whether any answer comes, even "no owner"."""
    question = {
        "id": random.randrange(2**30, 2**31),
        "method": "get",
        "resource": f"{DEPENDENCY}/jobs",
        "tunnel": tunnel,
        "data": {},
    }
    try:
        connection.sendall(packets.Topic(CONTROLLER_TOPIC).publish(jsoncodec.encode(question)))
        next(packet for packet in coming if isinstance(packet, packets.Published))
        connection.sendall(packets.DISCONNECT)
    except (OSError, packets.Malformed):  # mosquitto ends the connection of who may not write there
        return False
    return True
