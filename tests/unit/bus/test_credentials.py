"""A broker that asks who one is: with what we log in, and what is said when it does not let us in."""

import gc
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest

from puppetmaster.bundle import sdk
from puppetmaster.bus import credentials
from puppetmaster.bus.connection import Connection, Listener
from puppetmaster.bus.credentials import Attempts, Complaints, Credentials, Refused
from puppetmaster.cli import doctor
from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings
from tests.desk import until
from tests.strict_broker import asking, broker_with, make_certificates, tls

TLS = ssl.create_default_context()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def settings(certificates: Path, **more: Any) -> Settings:
    """A login with all there is, or with these values in its place; files are among the certificates."""
    files = {"broker_ca": "ca.pem", "broker_cert": "client.pem", "broker_key": "client.key"}
    wanted: dict[str, Any] = {"broker_user": "keeper", "broker_password": "open sesame", **files, **more}
    for name in files:
        wanted[name] = wanted[name] and str(certificates / wanted[name])
    return Settings(**wanted)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"broker_password": "x"}, "PUPPETMASTER_BROKER_USER"),
        ({"broker_cert": "x"}, "PUPPETMASTER_BROKER_CA"),
        ({"broker_key": "x"}, "PUPPETMASTER_BROKER_CA"),
        ({"broker_ca": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        ({"broker_ca": "ca.pem", "broker_cert": "/nowhere/us.pem"}, "BROKER_CERT: .* and /nowhere/us.pem"),
        ({"broker_ca": "ca.pem", "broker_cert": "client.pem"}, "PUPPETMASTER_BROKER_CERT: .* its key"),
    ],
)
def test_what_cannot_be_is_said(certificates: Path, wanted: dict[str, Any], sentence: str) -> None:
    files: dict[str, Any] = {name: str(certificates / value) for name, value in wanted.items()}
    with pytest.raises(SettingsError, match=sentence):
        Credentials.of(Settings(**files))


def test_each_part_of_a_login_may_be_there_alone(certificates: Path) -> None:
    assert Credentials.of(Settings()) == Credentials()
    assert Credentials.of(Settings(broker_user="keeper")) == Credentials("keeper")
    plain = Credentials.of(Settings(broker_ca=str(certificates / "ca.pem")))
    assert (plain.tls is not None, plain.certified) == (True, False)
    both = certificates / "both.pem"
    both.write_text((certificates / "client.pem").read_text() + (certificates / "client.key").read_text())
    assert Credentials.of(Settings(broker_ca=str(certificates / "ca.pem"), broker_cert=str(both))).certified


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (Credentials(), []),
        (Credentials("keeper"), [call.username_pw_set("keeper", None)]),
        (Credentials("keeper", "sesame"), [call.username_pw_set("keeper", "sesame")]),
        (Credentials(tls=TLS), [call.tls_set_context(TLS)]),
    ],
)
def test_a_client_is_given_what_there_is(wanted: Credentials, calls: list[Any]) -> None:
    client = Mock()
    wanted.apply(client)
    assert client.mock_calls == calls


def test_the_password_is_shown_nowhere(certificates: Path) -> None:
    wanted = settings(certificates)
    assert "open sesame" not in f"{wanted!r} {wanted.public()} {Credentials.of(wanted)!r}"


# ---- why there is no connection -----------------------------------------------------------------------

NOBODY, WRONG = {"broker_user": "", "broker_password": ""}, {"broker_password": "wrong"}
PLAIN = {"broker_ca": "", "broker_cert": "", "broker_key": ""}
UNCERTIFIED = {"broker_cert": "", "broker_key": ""}
CHECK_LOGIN = "check PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"

#: How a broker is configured, given a directory and the certificates.
BROKERS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "plain": lambda _here, _files: {},
    "asks for a password": lambda here, _: asking(here),
    "TLS": lambda _, files: tls(files),
    "TLS, expired": lambda _, files: tls(files, "expired"),
    "TLS, misnamed": lambda _, files: tls(files, "misnamed"),
    "TLS on both sides": lambda _, files: {**tls(files), "require_certificate": "true"},
}
#: What the broker does, what we do, what is said of both connections.
FAILURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrong password": ("asks for a password", {**PLAIN, **WRONG}, CHECK_LOGIN),
    "no password": (
        "asks for a password",
        {**PLAIN, **NOBODY},
        "it asks who we are: set PUPPETMASTER_BROKER_USER",
    ),
    "expired certificate": ("TLS, expired", {}, "its certificate has expired: renew it"),
    "certificate of another name": ("TLS, misnamed", {}, "for another name: set BROKER_PORT_1883_TCP_ADDR"),
    "another authority": (
        "TLS",
        {"broker_ca": "other.pem"},
        "not signed by the authority in PUPPETMASTER_BROKER_CA",
    ),
    "no certificate of ours": (
        "TLS on both sides",
        UNCERTIFIED,
        "it may ask for a certificate of ours: set PUPPETMASTER_BROKER_CERT",
    ),
    "an expired certificate of ours": (
        "TLS on both sides",
        {"broker_cert": "expired.pem", "broker_key": "expired.key"},
        "it may not accept our certificate: see PUPPETMASTER_BROKER_CERT",
    ),
    "TLS against plain": ("plain", {}, "TLS does not come about ("),
    "plain against TLS": ("TLS", PLAIN, "it may speak TLS at this port: set PUPPETMASTER_BROKER_CA"),
}


# paho 1.5.0 leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("failure", FAILURES)
def test_why_there_is_no_connection_is_named_with_the_cure(
    failure: str, tmp_path: Path, certificates: Path
) -> None:
    broker, given, cause = FAILURES[failure]
    with broker_with(tmp_path, BROKERS[broker](tmp_path, certificates)) as port:
        wanted = Credentials.of(settings(certificates, **given))
        never = Listener(lambda: None, lambda *_: None, lambda _: None, lambda _: None, lambda: None)
        ours = Connection(("127.0.0.1", port), wanted, "ours", [("a", 1)], never)
        connection = sdk.connection("127.0.0.1", port)
        connection.attempts.credentials = wanted
        wanted.apply(connection.client)
        connection.set_on_connect(lambda _client, _userdata, _flags, code: connection.accepted(code))
        running = threading.Thread(target=connection.connect, name="test-sdk", daemon=True)
        ours.start()
        running.start()
        try:
            until(lambda: ours.reason and connection.attempts.reason, "both say why")
            reasons = [str(ours.reason), str(connection.attempts.reason)]
        finally:
            ours.stop(5)
            connection.disconnect()
            running.join(10)
        here = {"broker_host": "127.0.0.1", "broker_port": port}
        (check,) = doctor.entrance(settings(certificates, **given, **here))
        assert (check.name, check.mark) == ("broker", "fail")
        reasons.append(check.says)
        assert [cause in reason for reason in reasons] == [True, True, True], reasons
        gc.collect()


def unproven(code: int) -> ssl.SSLCertVerificationError:
    """The certificate is not believed, for the reason that has this code in OpenSSL."""
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "a reason of its own"
    return error


@pytest.mark.parametrize(
    ("error", "greeted", "cause"),
    [
        (ConnectionRefusedError(), False, "nothing listens there: start the broker, or set BROKER_PORT_1883"),
        (
            socket.gaierror(-2, "unknown"),
            False,
            "its name is not known (unknown): set BROKER_PORT_1883_TCP_ADDR",
        ),
        (TimeoutError(), False, "nothing answers there: is that machine up"),
        (TimeoutError(), True, "it takes connections and does not answer"),
        (OSError("no route"), False, "no route: start the broker, or set"),
        (ValueError("a packet of the kind 0x48"), True, "what answers there is no MQTT broker (a packet"),
        (Refused(), True, "the broker refuses it: it refuses our subscriptions: its ACL must let us read"),
        (Refused(3), True, "the broker refuses it: it is not available"),
        (Refused(99), True, "the broker refuses it: code 99"),
        (Refused(4), True, f"the broker refuses it: the user or the password is wrong: {CHECK_LOGIN}"),
        (ConnectionResetError("reset"), False, "reset: start the broker, or set"),
        (
            ConnectionResetError("reset"),
            True,
            "it closes the connection without a word (reset): it may speak",
        ),
        (unproven(9), False, "its certificate is not valid yet"),
        (unproven(10), False, "its certificate has expired"),
        *((unproven(code), False, "its certificate is not signed by") for code in (18, 19, 20, 21)),
        *((unproven(code), False, "its certificate is for another name") for code in (62, 64)),
        (unproven(22), False, "its certificate is not believed: a reason of its own"),
    ],
)
def test_what_no_broker_here_can_do(error: Exception, greeted: bool, cause: str) -> None:
    assert credentials.explain(error, Credentials(), greeted=greeted).startswith(cause)


@pytest.mark.parametrize(
    ("error", "greeted", "cause"),
    [
        (Refused(5), True, f"the broker refuses it: we are not authorized: {CHECK_LOGIN}"),
        (ConnectionRefusedError(), False, "nothing listens there"),
        (ConnectionResetError("reset"), False, "TLS does not come about (reset): set"),
        (ssl.SSLError("no"), False, "TLS does not come about ("),
        (
            ConnectionResetError("reset"),
            True,
            "it closes the connection after TLS had come about (reset): it",
        ),
    ],
)
def test_what_no_broker_with_tls_here_can_do(error: Exception, greeted: bool, cause: str) -> None:
    assert credentials.explain(error, Credentials("keeper", tls=TLS), greeted=greeted).startswith(cause)


def test_what_lasts_is_tried_ever_more_rarely_and_what_does_not_is_not() -> None:
    attempts = Attempts()
    waits = []
    for _ in range(7):
        attempts.failed(Refused(5), greeted=True)
        waits.append(attempts.wait_s(1.0))
    assert waits == [1, 2, 4, 8, 15, 15, 15]
    attempts.failed(ConnectionRefusedError(), greeted=False)
    assert attempts.wait_s(1.0) == 1
    attempts.failed(ssl.SSLError(), greeted=False)
    attempts.failed(ssl.SSLError(), greeted=False)
    assert attempts.wait_s(0.5) == 1
    attempts.worked()
    assert (attempts.wait_s(1.0), attempts.reason) == (1, None)
    attempts.failed(Refused(5), greeted=True)
    assert attempts.wait_s(1.0) == 1, "it is the first one again"
    attempts.refusals = 10_000
    assert (attempts.wait_s(1.0), attempts.wait_s(30.0)) == (credentials.REFUSED_S, 30)


def test_a_complaint_is_made_once_and_then_once_a_minute() -> None:
    complaints = Complaints()
    assert [complaints.due("a", now_s) for now_s in (0, 1, 59, 60, 61, 119, 120)] == [
        *(True, False, False),
        *(True, False, False, True),
    ]
    assert [complaints.due("b", 121), complaints.due("a", 122)] == [True, False]
    complaints.over()
    assert complaints.due("a", 123)
    assert [complaints.due("now"), complaints.due("now")] == [True, False]


def test_a_refusal_of_the_bus_door_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    connection = sdk.connection("127.0.0.1", 1)
    with caplog.at_level(logging.INFO):
        assert [connection.accepted(5) for _ in range(5)] == [False] * 5
    connection.disconnect()
    (told,) = [one.getMessage() for one in caplog.records if one.name.startswith("sanji.puppetmaster")]
    assert "we are not authorized: it asks who we are" in told


# ---- connections that do not last ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endings", "taken_over", "wait_s"),
    [
        ([], False, 1),
        ([(3600, True)], False, 1),
        ([(3600, True), (1, True)], False, 1),
        ([(3600, True), (1, True), (2, True)], True, 2),
        ([(1, True)] * 4, True, 8),
        ([(15, True)] * 40, True, credentials.REFUSED_S),
        ([(1, False)] * 4, False, 1),  # the broker has forgotten us: it was restarted
        ([(1, True), (1, True), (61, True)], False, 1),
    ],
)
def test_a_client_id_that_somebody_else_has_too(
    endings: list[tuple[float, bool]], taken_over: bool, wait_s: float
) -> None:
    seen = credentials.Endings("puppetmaster-1")
    for lasted_s, known in endings:
        seen.ended(lasted_s, known=known)
    assert seen.wait_s(1) == wait_s
    said = seen.reason or ""
    assert ("logs in as 'puppetmaster-1', from a copy of our data directory: stop it" in said) is taken_over
    seen.over()
    assert (seen.reason, seen.wait_s(1)) == (None, 1)
