"""How we log in to the broker (user, password, TLS), and what a failure to connect means.

The dispatcher's connection and the SDK's use the same credentials.
"""

import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Self

from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings

#: Shortest time between two equal warnings in the log.
REPEAT_S = 60.0
#: Longest pause between two tries to log in while the broker refuses us.
REFUSED_S = 15.0
#: Most times that the pause is doubled, so that the power of 2 does not overflow.
_MOST_DOUBLINGS = 20

#: A connection that is up for ``LASTING_S`` counts as lasting. After ``TAKEN_OVER`` in a row that do not
#: last, another client is taken to use our client id.
LASTING_S, TAKEN_OVER = 60.0, 2

#: Return code of a CONNACK that refuses us -> what it means (MQTT 3.1.1, section 3.2.2.3).
REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not accept our client id",
    3: "it is not available",
    4: "the user or the password is wrong",
    5: "we are not authorized",
}
#: OpenSSL's verify code (X509_V_ERR_..) -> why a certificate is not accepted, and what to do.
_CERTIFICATES = {
    9: "its certificate is not valid yet: is the clock of this machine right?",
    10: "its certificate has expired: renew it there, unless the clock of this machine is wrong",
    18: "its certificate is not signed by the authority in PUPPETMASTER_BROKER_CA: set it to the right one",
    62: "its certificate is for another name: set BROKER_PORT_1883_TCP_ADDR to the name in it",
}
_CERTIFICATES |= dict.fromkeys((19, 20, 21), _CERTIFICATES[18]) | {64: _CERTIFICATES[62]}
_WHERE = "BROKER_PORT_1883_TCP_ADDR and BROKER_PORT_1883_TCP_PORT"


class Refused(ConnectionError):
    """The broker refused our CONNECT with the return code ``code``, or our subscriptions (code None)."""

    def __init__(self, code: int | None = None) -> None:
        why = "it refuses our subscriptions" if code is None else REFUSALS.get(code, f"code {code}")
        super().__init__(f"the broker refuses it: {why}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection needs to log in to the broker."""

    #: Empty: log in without a user.
    user: str = ""
    #: Empty: log in without a password.
    password: str = field(default="", repr=False)
    #: None: connect without TLS.
    tls: ssl.SSLContext | None = None
    #: Whether ``tls`` has a certificate of our own.
    certified: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The credentials in the settings. Raises SettingsError, whose text contains no secret."""
        if settings.broker_password and not settings.broker_user:
            raise SettingsError("PUPPETMASTER_BROKER_PASSWORD: expected PUPPETMASTER_BROKER_USER beside it.")
        if not settings.broker_ca and (settings.broker_cert or settings.broker_key):
            raise SettingsError("PUPPETMASTER_BROKER_CERT: expected PUPPETMASTER_BROKER_CA beside it.")
        tls = _context(settings) if settings.broker_ca else None
        return cls(settings.broker_user, settings.broker_password, tls, bool(settings.broker_cert))

    def apply(self, client: Any) -> None:
        """Have a paho client, which the SDK's connection is, log in with these credentials."""
        if self.user:
            client.username_pw_set(self.user, self.password or None)
        if self.tls is not None:
            client.tls_set_context(self.tls)


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.broker_ca)
    except OSError as error:
        raise SettingsError(
            f"PUPPETMASTER_BROKER_CA: expected a file with certificates, and {settings.broker_ca} "
            f"cannot be read as one: {error}."
        ) from error
    if settings.broker_cert:
        try:
            context.load_cert_chain(settings.broker_cert, settings.broker_key or None)
        except OSError as error:
            raise SettingsError(
                "PUPPETMASTER_BROKER_CERT: expected a certificate and its key, and "
                f"{settings.broker_cert} cannot be read as one: {error}."
            ) from error
    return context


def explain(error: Exception, credentials: Credentials, *, greeted: bool) -> str:
    """Why there is no connection, and what to do. ``greeted``: TCP and TLS had succeeded before the error."""
    if isinstance(error, Refused):
        return f"{error}{_refused(error.code, credentials)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(
            error.verify_code, f"its certificate is not believed: {error.verify_message}"
        )
    if greeted:
        return _turned_away(error, credentials)
    if credentials.tls is not None and isinstance(error, (ssl.SSLError, ConnectionResetError)):
        return (
            f"TLS does not come about ({error}): set BROKER_PORT_1883_TCP_PORT to the port at which the "
            "broker speaks TLS, or PUPPETMASTER_BROKER_CA to nothing; or it takes no more connections"
        )
    return _out_of_reach(error)


def _refused(code: int | None, credentials: Credentials) -> str:
    if code is None:
        return ": its ACL must let us read puppetmaster/#"
    if code not in (4, 5):
        return ""
    if code == 5 and not credentials.user:
        return ": it asks who we are: set PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"
    return ": check PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"


def _turned_away(error: Exception, credentials: Credentials) -> str:
    """Why a connection ended after TCP and TLS had succeeded, before the broker answered our CONNECT."""
    if isinstance(error, TimeoutError):
        return "it takes connections and does not answer: it hangs, or it is no MQTT broker"
    if not isinstance(error, OSError):
        return f"what answers there is no MQTT broker ({error}): set {_WHERE} to where it is"
    if credentials.tls is None:
        return (
            f"it closes the connection without a word ({error}): it may speak TLS at this port: set "
            "PUPPETMASTER_BROKER_CA; or it takes no more connections (mosquitto: max_connections)"
        )
    asked = (
        "it may not accept our certificate: see PUPPETMASTER_BROKER_CERT"
        if credentials.certified
        else "it may ask for a certificate of ours: set PUPPETMASTER_BROKER_CERT and PUPPETMASTER_BROKER_KEY"
    )
    return f"it closes the connection after TLS had come about ({error}): {asked}"


def _out_of_reach(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens there: start the broker, or set {_WHERE} to where it is"
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror}): set BROKER_PORT_1883_TCP_ADDR to where it is"
    if isinstance(error, TimeoutError):
        return f"nothing answers there: is that machine up, and no firewall between? Else set {_WHERE}"
    return f"{error}: start the broker, or set {_WHERE} to where it is"


class Complaints:
    """Decides which warnings are logged: each at once, and again every ``REPEAT_S``, until ``over``."""

    def __init__(self) -> None:
        self._made: dict[str, float] = {}

    def due(self, text: str, now_s: float | None = None) -> bool:
        """Whether to log ``text`` at ``now_s`` (monotonic clock; None: now). If so, it counts as logged."""
        now_s = time.monotonic() if now_s is None else now_s
        last_s = self._made.get(text)
        if last_s is not None and now_s - last_s < REPEAT_S:
            return False
        self._made[text] = now_s
        return True

    def over(self) -> None:
        """Forget what was logged: the cause is over, and the next warning is logged at once."""
        self._made.clear()


class Endings:
    """Counts connections in a row that the broker ended soon after they came up, without saying why.

    A broker does so when another client logs in with the same client id: a bundle whose data directory is a
    copy of ours. Both reconnect at once, and each ends the other's connection.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._in_a_row = 0

    def ended(self, lasted_s: float, *, known: bool) -> None:
        """Note that the broker has ended a connection that was up for ``lasted_s`` seconds.

        ``known``: the broker had kept our session, so it had not just been restarted.
        """
        self._in_a_row = self._in_a_row + 1 if known and lasted_s < LASTING_S else 0

    def over(self) -> None:
        """Begin to count again: a connection lasts, or ended for another reason, or cannot be made."""
        self._in_a_row = 0

    @property
    def reason(self) -> str | None:
        """Why our connections do not last, and what to do; None: they last."""
        if self._in_a_row < TAKEN_OVER:
            return None
        return (
            "the broker ends our connection again and again, and lets us in each time: another bundle logs "
            f"in as '{self._client_id}', from a copy of our data directory: stop it, and begin there with an "
            "empty one; if there is none, see to the broker's ACL, which must let us write to /controller"
        )

    def wait_s(self, first_s: float) -> float:
        """Seconds until the next connection: doubled each time, so that each client has some time in turn."""
        return min(first_s * 2.0 ** min(max(0, self._in_a_row - 1), _MOST_DOUBLINGS), REFUSED_S)


class Attempts:
    """The failed tries to connect since the last success: why they failed, and when to try again."""

    def __init__(self) -> None:
        self.credentials = Credentials()
        self.reason: str | None = None
        self.refusals = 0
        self._complaints = Complaints()

    def failed(self, error: Exception, *, greeted: bool) -> bool:
        """Note a failed try (``greeted`` as in ``explain``). Returns whether it is to be logged."""
        self.reason = explain(error, self.credentials, greeted=greeted)
        lasting = isinstance(error, (Refused, ssl.SSLError))
        self.refusals = self.refusals + 1 if lasting else 0
        return self._complaints.due(self.reason)

    def worked(self) -> None:
        """Note that a connection is up and logged in."""
        self.reason, self.refusals = None, 0
        self._complaints.over()

    def wait_s(self, first_s: float) -> float:
        """Seconds until the next try: ``first_s``, doubled for each refusal in a row after the first."""
        doublings = min(self.refusals, _MOST_DOUBLINGS) - 1
        return max(first_s, min(first_s * 2.0**doublings, REFUSED_S))
