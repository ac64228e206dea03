"""The command line against a server that answers what a test tells it to, or a bundle without a bus."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from puppetmaster.cli import follow
from tests.fake_http import FakeServer
from tests.terminal import Run, typed
from tests.web_client import Door, running

#: What a terminal does not show.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as started:
        yield started


@pytest.fixture
def run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the fake server."""
    monkeypatch.setattr(follow, "POLL_S", 0.0)
    return typed(server.url)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path / "data", gateway_check_s=0) as started:
        yield started


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door for all tests of a file that are refused."""
    with running(tmp_path_factory.mktemp("shared")) as started:
        yield started


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns that shows colours, whatever the tests run on."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
