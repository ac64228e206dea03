"""Behind nginx, as docs/howto/proxy.md has it: under a path, with another name, with a WebSocket."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from sandbox.process import free_port
from tests.conftest import program
from tests.desk import until
from tests.web_client import Answer, Door, batch, fetch, running

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "proxy.md"
NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
    {around}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, door: Door, *, leave_out: str = "$^") -> Iterator[int]:
    """Nginx as the page of the docs has it, without the lines that fit ``leave_out``; its port."""
    found = re.search(r"```nginx\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    shown = found[1].replace("127.0.0.1:8700", f"127.0.0.1:{door.port}")
    kept = "\n".join(line for line in shown.splitlines() if not re.search(leave_out, line))
    around, location = kept.split("# in server { }")
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, port=port, around=around, location=location, user=user))
    command = [program("nginx", "nginx"), "-c", str(file), "-p", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or _listens(port), "nginx listens")
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        return fetch(port, "GET", "/").status > 0
    except OSError:
        return False


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path, http_names="gateway.example") as started:
        yield started


def asked(port: int, method: str, path: str, body: object = None) -> Answer:
    """As a browser asks whose page came from the proxy."""
    name = f"gateway.example:{port}"
    return fetch(port, method, path, body, Host=name, Origin=f"http://{name}")


def test_page_api_and_location_stand_under_the_path(tmp_path: Path, door: Door) -> None:
    with nginx(tmp_path, door) as port:
        assert b"<title>" in asked(port, "GET", "/puppetmaster/").body
        assert asked(port, "GET", "/puppetmaster/static/app.js").status == 200
        created = asked(port, "POST", "/puppetmaster/jobs", batch("a"))
        assert (created.status, created.headers["location"]) == (200, "/puppetmaster/jobs/1")
        assert asked(port, "GET", created.headers["location"]).json["id"] == 1
        assert asked(port, "GET", "/puppetmaster/openapi.json").json["servers"] == [{"url": "."}]


def test_a_websocket_passes(tmp_path: Path, door: Door) -> None:
    door.ask("POST", "/jobs", batch("a"))
    with nginx(tmp_path, door) as port:
        place = f"ws://127.0.0.1:{port}/puppetmaster/jobs/1/ws"
        with connect(place, open_timeout=10, origin=f"http://127.0.0.1:{port}") as socket:  # type: ignore[arg-type]
            assert json.loads(socket.recv(timeout=10))["id"] == 1


def test_a_large_body_passes(tmp_path: Path, door: Door) -> None:
    body = batch("a")
    body["batch"][0] |= {"method": "post", "data": "x" * 900_000}
    body["batch"] *= 4
    with nginx(tmp_path, door) as port:
        assert asked(port, "POST", "/puppetmaster/jobs", body).status == 200


def test_what_is_missing_at_the_proxy_is_named(tmp_path: Path, door: Door) -> None:
    with nginx(tmp_path, door, leave_out="Host") as port:
        refused = asked(port, "POST", "/puppetmaster/jobs", batch("a"))
    assert refused.status == 403
    assert "proxy_set_header Host $http_host" in refused.json["message"]


def test_a_name_that_is_not_known_is_told_where_to_name_it(tmp_path: Path) -> None:
    with running(tmp_path / "data") as door, nginx(tmp_path, door) as port:
        refused = asked(port, "GET", "/puppetmaster/jobs")
    assert refused.status == 403
    assert "PUPPETMASTER_HTTP_NAMES" in refused.json["message"]
