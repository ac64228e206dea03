"""A mosquitto that asks who one is: a password, TLS with certificates on both sides, and an ACL."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.process import Process, free_port
from tests.conftest import needed, require

#: What docs/howto/broker.md names: enough for everything but gateways that are followed on the broker.
ACL = "topic write /controller\ntopic read puppetmaster/#\ntopic read +\n"


def make_certificates(folder: Path) -> Path:
    """In this directory ca.pem, what it signed, and other.pem, another authority; and all their keys."""
    needed(shutil.which("openssl") is not None, "openssl")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    # From Python 3.13 on an authority has to say what its key is for (RFC 5280, 4.2.1.3).
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name in ("ca", "other"):
        made = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2")
        openssl("req", "-x509", *key, f"/CN=test {name}", *usage, *made)
    for file, names in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere")):
        (folder / file).write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
    for name, file, days in (
        ("server", "here", "2"),
        ("client", "here", "2"),
        ("expired", "here", "-1"),
        ("misnamed", "elsewhere", "2"),
    ):
        openssl("req", *key, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", file, "-days", days)
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@contextmanager
def broker_with(directory: Path, config: Mapping[str, Any]) -> Iterator[int]:
    """The port of a mosquitto so configured; ``passwords`` and ``acl`` are files that it may name."""
    require("mosquitto")
    port = free_port()
    (directory / "passwords").write_text("keeper:open sesame\n")
    subprocess.run(["mosquitto_passwd", "-U", directory / "passwords"], check=True, capture_output=True)
    (directory / "passwords").chmod(0o644)
    lines = {"listener": f"{port} 127.0.0.1", "user": "root", "allow_anonymous": "true", **config}
    (directory / "broker.conf").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    argv = ["/usr/sbin/mosquitto", "-c", str(directory / "broker.conf")]
    with Process("strict broker", argv, ready="running"):
        yield port


def tls(certificates: Path, name: str = "server") -> dict[str, Any]:
    """The lines of a broker that speaks TLS, as ``name``."""
    files = {"certfile": certificates / f"{name}.pem", "keyfile": certificates / f"{name}.key"}
    return {"cafile": certificates / "ca.pem", **files}


def asking(directory: Path) -> dict[str, Any]:
    """The lines of a broker that wants a password."""
    return {"allow_anonymous": "false", "password_file": directory / "passwords"}


@contextmanager
def strict_broker(directory: Path, certificates: Path) -> Iterator[int]:
    """The port of a mosquitto that asks for TLS, a certificate of ours, a user and a password."""
    config = {**tls(certificates), "require_certificate": "true", **asking(directory)}
    with broker_with(directory, config) as port:
        yield port
