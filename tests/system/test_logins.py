"""A broker that asks who one is: the bundle logs in, and a user is told why it is not let in."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.bundle.registration import NOT_REACHED
from puppetmaster.bus import visit
from puppetmaster.bus.visit import SILENT_CONTROLLER
from puppetmaster.cli import doctor
from sandbox.process import Process, free_port
from tests.desk import until
from tests.fake_http import FakeServer, Reply
from tests.strict_broker import ACL, asking, broker_with, make_certificates, strict_broker
from tests.web_client import fetch

ACLS = {
    "enough": (ACL, None),
    "nothing may be written": (ACL.replace("topic write /controller\n", ""), SILENT_CONTROLLER),
    "answers may not be read": (ACL.replace("topic read puppetmaster/#\n", ""), SILENT_CONTROLLER),
    "requests may not be read": (ACL.replace("topic read +\n", ""), NOT_REACHED),
}


def bundle(port: int, directory: Path, **more: str) -> Process:
    """A bundle that logs in as keeper."""
    environment = {
        "BROKER_PORT_1883_TCP_ADDR": "127.0.0.1",
        "BROKER_PORT_1883_TCP_PORT": str(port),
        "PUPPETMASTER_DATA_DIR": str(directory / "data"),
        "PUPPETMASTER_HTTP": "off",
        "PUPPETMASTER_BROKER_USER": "keeper",
        "PUPPETMASTER_BROKER_PASSWORD": "open sesame",
        **more,
    }
    return Process.module("puppetmaster", "index", env=environment, ready="keeps its jobs in")


@contextmanager
def bundle_at(port: int, directory: Path, **more: str) -> Iterator[int]:
    """The HTTP port of such a bundle."""
    http = free_port()
    with bundle(port, directory, PUPPETMASTER_HTTP=f"127.0.0.1:{http}", **more):
        yield http


def system_when(http: int, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """GET /system/puppetmaster as soon as its ``bus`` is so."""

    def system() -> dict[str, Any] | None:
        with suppress(OSError, json.JSONDecodeError):
            shown: dict[str, Any] = fetch(http, "GET", "/system/puppetmaster").json
            return shown if condition(shown.get("bus", {})) else None
        return None

    return until(system, "the bus is so")


@pytest.mark.parametrize("acl", ACLS)
def test_an_acl_that_is_enough_and_those_that_are_not(tmp_path: Path, acl: str) -> None:
    lines, reason = ACLS[acl]
    (tmp_path / "acl").write_text(f"topic readwrite #\n\nuser keeper\n{lines}")
    (tmp_path / "acl").chmod(0o644)
    config = {"password_file": tmp_path / "passwords", "acl_file": tmp_path / "acl"}
    with broker_with(tmp_path, config) as port:
        options = ("--host", "127.0.0.1", "--port", port, "--refresh-ms", 100)
        controller = Process.module("controller", "sandbox.controller", *options, ready="controller ready")
        with controller, bundle_at(port, tmp_path) as http:
            if reason is None:
                system = system_when(http, lambda bus: bus.get("registered") and bus.get("controller"))
                assert system["bus"]["reason"] is None
                assert fetch(http, "GET", "/health").status == 200
                return
            system = system_when(http, lambda bus: reason in str(bus.get("reason")))
            assert "ACL" in reason
            health = fetch(http, "GET", "/health")
            assert (health.status, system["bus"]["reason"] in health.json["reasons"]) == (503, True)


@pytest.mark.parametrize(
    ("acl", "running", "controller"),
    [
        ("enough", True, ("ok", "the controller answers")),
        ("enough", False, ("fail", SILENT_CONTROLLER)),
        ("nothing may be written", True, ("fail", SILENT_CONTROLLER)),
        ("answers may not be read", True, ("fail", SILENT_CONTROLLER)),
    ],
)
def test_while_the_bundle_is_down_the_doctor_logs_in_as_it_would(
    tmp_path: Path, acl: str, running: bool, controller: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "VISIT_S", 3.0 if controller[0] == "ok" else 0.5)
    (tmp_path / "acl").write_text(f"topic readwrite #\n\nuser keeper\n{ACLS[acl][0]}")
    (tmp_path / "acl").chmod(0o644)
    config = {**asking(tmp_path), "acl_file": tmp_path / "acl"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "puppetmaster.json").write_text('{"brokerPassword": "open sesame"}')
    config["allow_anonymous"] = "true"  # the controller
    with broker_with(tmp_path, config) as port, ExitStack() as parts:
        if running:
            options = ("--host", "127.0.0.1", "--port", port)
            parts.enter_context(
                Process.module("controller", "sandbox.controller", *options, ready="controller ready")
            )
        environ = {
            "BROKER_PORT_1883_TCP_ADDR": "127.0.0.1",
            "BROKER_PORT_1883_TCP_PORT": str(port),
            "PUPPETMASTER_BROKER_USER": "keeper",
        }
        with FakeServer(lambda _: Reply({"message": "down"}, 503)) as server:
            checks = {one.name: one for one in doctor.examine(server.client(), environ, tmp_path)}
    assert checks["broker"] == ("broker", "ok", f"127.0.0.1:{port} lets us in")
    assert checks["controller"][1:] == controller


def test_the_doctor_and_health_name_the_cause(tmp_path: Path) -> None:
    with (
        broker_with(tmp_path, asking(tmp_path)) as port,
        bundle_at(port, tmp_path, PUPPETMASTER_BROKER_PASSWORD="wrong") as http,
    ):
        system = system_when(http, lambda bus: bus.get("reason"))
        where = f"there is no connection to the broker at 127.0.0.1:{port}: "
        assert system["bus"]["reason"].startswith(where)
        assert system["bus"]["reason"].endswith(
            "check PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"
        )
        assert fetch(http, "GET", "/health").json["reasons"][0] == system["bus"]["reason"]
        failed = [check.says for check in doctor.bundle(system) if check.mark == "fail"]
        assert failed[0] == system["bus"]["reason"]


def test_a_broker_that_takes_only_one_of_our_two_connections(tmp_path: Path) -> None:
    config = {"max_connections": "2", "password_file": tmp_path / "passwords"}
    with broker_with(tmp_path, config) as port:
        options = ("--host", "127.0.0.1", "--port", port)
        controller = Process.module("controller", "sandbox.controller", *options, ready="controller ready")
        with controller, bundle_at(port, tmp_path) as http:
            said = "it takes no more connections (mosquitto: max_connections)"
            system = system_when(http, lambda bus: said in str(bus.get("reason")))
            assert system["healthy"] is False
            assert fetch(http, "GET", "/health").status == 503


def test_the_bundle_logs_in_with_both_connections(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    files = {
        "PUPPETMASTER_BROKER_CA": str(certificates / "ca.pem"),
        "PUPPETMASTER_BROKER_CERT": str(certificates / "client.pem"),
        "PUPPETMASTER_BROKER_KEY": str(certificates / "client.key"),
        "PUPPETMASTER_LOG_LEVEL": "debug",
    }
    with strict_broker(tmp_path, certificates) as port, bundle(port, tmp_path, **files) as started:
        started.wait_for("pm-bus connected to the broker", 10)
        started.wait_for(": connected", 10)
        assert started.terminate() == 0
        assert not any("open sesame" in line for line in started.output())
