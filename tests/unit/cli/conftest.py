"""The command line against a server that answers what a test tells it to."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from puppetmaster.cli import follow, main
from tests.fake_http import FakeServer

Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as started:
        yield started


@pytest.fixture
def run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the fake server: in this process, its output no terminal."""
    monkeypatch.setattr(follow, "POLL_S", 0.0)

    def run(*words: str, text: str | None = None, **environ: str) -> Result:
        env = {"PUPPETMASTER_URL": server.url, "PUPPETMASTER_TOKEN": "", **environ}
        return CliRunner().invoke(main.cli, words, input=text, env=env, prog_name="puppetmaster")

    return run
