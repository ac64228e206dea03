"""A broker that asks who one is: user and password, TLS with certificates on both sides."""

import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from puppetmaster.errors import SettingsError
from puppetmaster.login import Login
from puppetmaster.settings import Settings
from sandbox.process import Process, free_port
from tests.conftest import require


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem and what it signed: server.pem, client.pem and their keys."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-subj")
    # From Python 3.13 on an authority has to say what its key is for (RFC 5280, 4.2.1.3).
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *key, "/CN=test ca", *usage, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name in ("server", "client"):
        openssl("req", *key, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@pytest.fixture
def strict_broker(tmp_path: Path, certificates: Path) -> Iterator[int]:
    """The port of a mosquitto that asks for TLS, a certificate of ours, a user and a password."""
    require("mosquitto")
    port = free_port()
    (tmp_path / "passwords").write_text("keeper:open sesame\n")
    subprocess.run(["mosquitto_passwd", "-U", tmp_path / "passwords"], check=True, capture_output=True)
    (tmp_path / "passwords").chmod(0o644)
    config = {
        "listener": f"{port} 127.0.0.1",
        "cafile": certificates / "ca.pem",
        "certfile": certificates / "server.pem",
        "keyfile": certificates / "server.key",
        "require_certificate": "true",
        "allow_anonymous": "false",
        "password_file": tmp_path / "passwords",
        "user": "root",
    }
    (tmp_path / "broker.conf").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    argv = ["/usr/sbin/mosquitto", "-c", str(tmp_path / "broker.conf")]
    with Process("strict broker", argv, ready="running"):
        yield port


def settings(certificates: Path, **more: Any) -> Settings:
    known = {
        "broker_user": "keeper",
        "broker_password": "open sesame",
        "broker_ca": str(certificates / "ca.pem"),
        "broker_cert": str(certificates / "client.pem"),
        "broker_key": str(certificates / "client.key"),
    }
    return Settings(**{**known, **more})


def connect(port: int, wanted: Settings) -> int:
    """The broker's answer to a login: 0 is welcome. Raises OSError when TLS does not come about."""
    codes: list[int] = []
    client = mqtt.Client()
    Login.of(wanted).apply(client)
    client.on_connect = lambda _client, _userdata, _flags, code: codes.append(code)
    client.connect("127.0.0.1", port)
    try:
        while not codes:
            client.loop(0.1)
    finally:
        client.disconnect()
    return codes[0]


def test_it_is_let_in(strict_broker: int, certificates: Path) -> None:
    assert connect(strict_broker, settings(certificates)) == 0


def test_a_wrong_password_is_not(strict_broker: int, certificates: Path) -> None:
    assert connect(strict_broker, settings(certificates, broker_password="wrong")) == 5


# paho 1.5.0 leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_broker_that_is_another_one_is_not_trusted(strict_broker: int, certificates: Path) -> None:
    other = settings(certificates, broker_ca=str(certificates / "client.pem"))
    with pytest.raises(OSError, match="certificate"):
        connect(strict_broker, other)
    gc.collect()


def test_the_bundle_logs_in_with_both_connections(
    strict_broker: int, certificates: Path, tmp_path: Path
) -> None:
    wanted = settings(certificates)
    environment = {
        "BROKER_PORT_1883_TCP_ADDR": "127.0.0.1",
        "BROKER_PORT_1883_TCP_PORT": str(strict_broker),
        "PUPPETMASTER_DATA_DIR": str(tmp_path / "data"),
        "PUPPETMASTER_HTTP": "off",
        "PUPPETMASTER_LOG_LEVEL": "debug",
        "PUPPETMASTER_BROKER_USER": wanted.broker_user,
        "PUPPETMASTER_BROKER_PASSWORD": wanted.broker_password,
        "PUPPETMASTER_BROKER_CA": wanted.broker_ca,
        "PUPPETMASTER_BROKER_CERT": wanted.broker_cert,
        "PUPPETMASTER_BROKER_KEY": wanted.broker_key,
    }
    with Process.module("puppetmaster", "index", env=environment, ready="keeps its jobs in") as bundle:
        bundle.wait_for("pm-bus connected to the broker", 10)
        bundle.wait_for(": connected", 10)
        assert bundle.terminate() == 0
        assert not any("open sesame" in line for line in bundle.output())


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"broker_password": "x"}, "PUPPETMASTER_BROKER_USER"),
        ({"broker_cert": "x"}, "PUPPETMASTER_BROKER_CA"),
        ({"broker_ca": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
    ],
)
def test_what_cannot_be_is_said(wanted: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Login.of(Settings(**wanted))


def test_the_password_is_shown_nowhere(certificates: Path) -> None:
    wanted = settings(certificates)
    assert "open sesame" not in f"{wanted!r} {wanted.public()} {Login.of(wanted)!r}"
