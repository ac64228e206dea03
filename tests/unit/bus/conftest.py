"""A broker that does what the test says, and a connection that has little patience."""

from collections.abc import Iterator

import pytest

from puppetmaster.bus import connection as connection_module
from puppetmaster.bus import packets
from tests.unit.bus.connections import WAIT_S, Ahead, Ear, Script, listening


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.close_client()
    made.listener.close()


@pytest.fixture
def ear(script: Script) -> Iterator[Ear]:
    """A connection that this broker has let in."""
    with listening(script.port) as made:
        script.welcome()
        made.ups.get(timeout=WAIT_S)
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has ended is made anew at once."""
    monkeypatch.setattr(connection_module, "AGAIN_S", 0.01)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    return Ahead(monkeypatch)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, soon: None) -> None:
    """Everything that takes seconds takes parts of one."""
    monkeypatch.setattr(connection_module, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(connection_module, "LOOK_UP_S", 0.05)
    monkeypatch.setattr(connection_module, "CONNECT_S", 0.3)
    connect = packets.connect
    monkeypatch.setattr(packets, "connect", lambda *a, **k: connect(*a, **{**k, "keepalive_s": 1}))
