"""What a process does: all, only HTTP, or all but HTTP; and who waits for the lead."""

import socket
import threading
from pathlib import Path
from queue import Queue

import pytest

from puppetmaster.app import ApiServer, App
from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings
from puppetmaster.store.postgres.store import PostgresStore
from tests.desk import until
from tests.postgres import address
from tests.web_client import NO_BROKER, Bundle, fetch, running

WAIT_S = 30.0


def test_a_dispatcher_answers_nothing_over_http(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, http="127.0.0.1:0", role="dispatcher", **NO_BROKER)  # type: ignore[arg-type]
    app = App(settings, Bundle())
    assert app.door is None
    app.store.close()
    with running(tmp_path) as door:
        assert door.ask("GET", "/jobs").status == 200


@pytest.mark.parametrize("given", [{"http": "127.0.0.1:0"}, {"store": "postgresql:///x", "http": "off"}])
def test_an_api_server_needs_a_database_and_an_address(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="PUPPETMASTER_ROLE: an API server needs the PostgreSQL"):
        ApiServer(Settings(role="api", **given))  # type: ignore[arg-type]


def test_who_waits_beside_the_one_that_leads_takes_the_port_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leader = PostgresStore(address(tmp_path))
    apps: Queue[App] = Queue()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = {"store": address(tmp_path), "standby": "on", "http": f"127.0.0.1:{port}", **NO_BROKER}
        settings = Settings(data_dir=tmp_path, **given)  # type: ignore[arg-type]
        threading.Thread(target=lambda: apps.put(App(settings, Bundle()))).start()
        until(lambda: "Nothing is answered over HTTP while it waits" in caplog.text, "it says so")
    leader.close()
    app = apps.get(timeout=WAIT_S)
    app.start()
    try:
        assert fetch(port, "GET", "/jobs").status == 200
    finally:
        app.stop()
