"""When this process may open no more files: the HTTP door gives way, the bus and the store go on."""

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from puppetmaster.http.server import RESERVE, SURPLUS, Room
from sandbox.gateway import Gateway
from sandbox.process import PROJECT, Process, free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.desk import until

#: A server of its own, whose process then opens all the files it may, until a file is there.
FULL = """
import os, resource, sys, threading
from pathlib import Path
from starlette.responses import PlainTextResponse
from puppetmaster.http.server import Address, Server
from puppetmaster.settings import Settings
import logging
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
server = Server(PlainTextResponse("well"), Address("127.0.0.1", int(sys.argv[1])), Settings())
server.start()
opened = []
def fill():
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
threading.Event().wait(0.5)  # until the loop has its own
fill()
print("full", flush=True)
while not os.path.exists(sys.argv[2]):
    threading.Event().wait(0.05)
for one in opened:
    os.close(one)
print("free", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("wanted", "files", "room"),
    [
        (900, 1024, Room(1024 - RESERVE - SURPLUS, SURPLUS)),
        (800, 1024, Room(800, SURPLUS)),
        (900, 65536, Room(900, SURPLUS)),
        (900, sys.maxsize, Room(900, SURPLUS)),
        (900, 160, Room(60, 20)),
        (10, 160, Room(10, 20)),
        (900, 64, Room(24, 8)),
    ],
)
def test_the_smaller_counts(wanted: int, files: int, room: Room) -> None:
    assert Room.of(wanted, files) == room


def _get(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(1000)
        except ConnectionError:
            return b""


def test_with_no_file_left_connections_are_closed_and_it_is_said_once(tmp_path: Path) -> None:
    port = free_port()
    child = Process(
        "full",
        [sys.executable, "-c", FULL, str(port), str(tmp_path / "free")],
        env={"PYTHONPATH": str(PROJECT)},
        ready="full",
    )
    with child:
        assert {_get(port) for _ in range(200)} == {b""}
        assert len([line for line in child.output() if "connections are closed at once" in line]) == 1
        assert not [line for line in child.output() if "Traceback" in line]
        (tmp_path / "free").touch()
        child.wait_for("free", 10)
        assert _get(port).startswith(b"HTTP/1.1 200")


@pytest.mark.timeout(120)
def test_few_files_and_thousands_of_connections_leave_the_bus_and_the_store_alone(tmp_path: Path) -> None:
    require("mosquitto")
    port = free_port()
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{port}", "PUPPETMASTER_HTTP_TIMEOUT_S": "60"}
    gateway = Gateway(tmp_path, fleet=["--to", "cg-[01-10]"], settings=settings)
    gateway.bundle.argv = ["sh", "-c", 'ulimit -n 160 && exec "$0" "$@"', *gateway.bundle.argv]
    with gateway, ExitStack() as held:
        for _ in range(3):
            held.close()
            for _ in range(700):
                held.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        with BusClient(gateway.broker) as client:
            destinations = [f"cg-{number:02}" for number in range(1, 11)]
            body = {"method": "get", "resource": "/a", "__request": {"destination": destinations}}
            made = client.request("post", "/jobs", {"batch": [body]})
            assert made["code"] == 200

            def asked() -> bool:
                job = client.request("get", f"/jobs/{made['data']['id']}")["data"]
                return bool(job["status"] == "resolved")

            until(asked, "the job ends")
            shown = client.request("get", "/system/puppetmaster")["data"]
            assert shown["limits"]["httpConnections"] == 900
            assert shown["inForce"]["httpConnections"] == {"value": 60, "from": "openFiles"}
        gateway.broker.kill()
        gateway.broker.start()
        gateway.bundle.wait_for("lost the broker", 20)
        until(lambda: _ups(gateway) == 2, "a connection is made anew")
        said = gateway.bundle.output()
    assert [line for line in said if "HTTP: 60 connections at once, not 900" in line]
    assert not [line for line in said if "Traceback" in line or "Too many open files" in line]
    assert len(said) < 100


def _ups(gateway: Gateway) -> int:
    return len([line for line in gateway.bundle.output() if "connected to the broker at" in line])
