"""What a broker says when it is visited, whatever broker that is."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import Mock, call

import pytest

from puppetmaster.bus import packets, visit
from puppetmaster.bus.credentials import Credentials
from sandbox.broker import Broker, Kind
from sandbox.process import free_port
from tests.conftest import require


@pytest.mark.parametrize(
    ("config", "limit_bytes"), [("max_packet_size 100000\n", 100_000), ("", packets.LARGEST_BYTES)]
)
def test_mosquitto_says_what_it_carries(config: str, limit_bytes: int) -> None:
    require("mosquitto")
    with Broker("mosquitto", config=config) as broker:
        assert visit.limit_bytes((broker.host, broker.port), Credentials(), "visitor") == limit_bytes


def test_a_broker_that_speaks_mqtt_3_only_cannot_be_asked() -> None:
    kind: Kind = "amqtt"
    require(kind)
    with Broker(kind) as broker:
        assert visit.limit_bytes((broker.host, broker.port), Credentials(), "visitor") is None


@contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[str, int]]:
    """Something that answers so to whatever comes, then ends; None: it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                if answer is not None:
                    connection.sendall(answer)
                else:
                    connection.recv(4096)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield ("127.0.0.1", listening.getsockname()[1])
        thread.join(10)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x20\x02\x00\x01", b"HTTP/1.1 400 Bad Request\r\n", b"\x20\x0e\x00", b"\x20\x03\x00\x87\x00"],
)
def test_who_does_not_say_it_is_not_believed_to_have_said_it(answer: bytes) -> None:
    with answering(answer) as address:
        assert visit.limit_bytes(address, Credentials(), "visitor") is None


def test_who_says_nothing_is_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "VISIT_S", 0.1)
    began_s = time.monotonic()
    with answering(None) as address:
        assert visit.limit_bytes(address, Credentials(), "visitor") is None
    assert time.monotonic() - began_s < 5


def test_nobody_is_there() -> None:
    assert visit.limit_bytes(("127.0.0.1", free_port()), Credentials(), "visitor") is None


def test_tls_is_spoken_with_who_has_the_name_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    tls, plain = Mock(), Mock()
    monkeypatch.setattr(socket, "create_connection", Mock(return_value=plain))
    login = Credentials(tls=tls)
    assert visit.reach(("broker", 8883), login, 1.0) is tls.wrap_socket.return_value
    assert tls.wrap_socket.mock_calls == [call(plain, server_hostname="broker")]
    assert not plain.close.called
    tls.wrap_socket.side_effect = ssl.SSLError
    with pytest.raises(ssl.SSLError):
        visit.reach(("broker", 8883), login, 1.0)
    assert plain.close.call_count == 1
