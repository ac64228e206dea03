"""How we show the broker who we are: user, password, TLS; and what it means when that fails.

The same for both connections.
"""

import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Self

from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings

#: What is said again and again is said once, and then so often.
REPEAT_S = 60.0
#: Between two tries to log in where we are refused, at most: nobody gains from more.
REFUSED_S = 15.0
#: Until there, whatever the first wait was: a float holds no more than some.
_MOST_DOUBLINGS = 20

#: A connection that stands for so long lasts; so many in a row that do not were taken over.
LASTING_S, TAKEN_OVER = 60.0, 2

#: What a broker says to a CONNECT that it refuses (MQTT 3.1.1, section 3.2.2.3).
REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not accept our client id",
    3: "it is not available",
    4: "the user or the password is wrong",
    5: "we are not authorized",
}
#: Why a certificate is not believed (OpenSSL, X509_V_ERR_..), with the cure.
_CERTIFICATES = {
    9: "its certificate is not valid yet: is the clock of this machine right?",
    10: "its certificate has expired: renew it there, unless the clock of this machine is wrong",
    18: "its certificate is not signed by the authority in PUPPETMASTER_BROKER_CA: set it to the right one",
    62: "its certificate is for another name: set BROKER_PORT_1883_TCP_ADDR to the name in it",
}
_CERTIFICATES |= dict.fromkeys((19, 20, 21), _CERTIFICATES[18]) | {64: _CERTIFICATES[62]}
_WHERE = "BROKER_PORT_1883_TCP_ADDR and BROKER_PORT_1883_TCP_PORT"


class Refused(ConnectionError):
    """The broker answered our CONNECT, or what we subscribe, with no. ``code`` is that of its CONNACK."""

    def __init__(self, code: int | None = None) -> None:
        why = "it refuses our subscriptions" if code is None else REFUSALS.get(code, f"code {code}")
        super().__init__(f"the broker refuses it: {why}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection needs to log in; empty and None: the broker asks for nothing."""

    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    certified: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say. Raises SettingsError; nothing secret is in it."""
        if settings.broker_password and not settings.broker_user:
            raise SettingsError("PUPPETMASTER_BROKER_PASSWORD: expected PUPPETMASTER_BROKER_USER beside it.")
        if not settings.broker_ca and (settings.broker_cert or settings.broker_key):
            raise SettingsError("PUPPETMASTER_BROKER_CERT: expected PUPPETMASTER_BROKER_CA beside it.")
        tls = _context(settings) if settings.broker_ca else None
        return cls(settings.broker_user, settings.broker_password, tls, bool(settings.broker_cert))

    def apply(self, client: Any) -> None:
        """Have a paho client, which the SDK's connection is, log in so."""
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


def explain(error: Exception, login: Credentials, *, greeted: bool) -> str:
    """Why there is no connection, with the cure. ``greeted``: TCP and TLS had come about."""
    if isinstance(error, Refused):
        return f"{error}{_refused(error.code, login)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(
            error.verify_code, f"its certificate is not believed: {error.verify_message}"
        )
    if greeted:
        return _turned_away(error, login)
    if login.tls is not None and isinstance(error, (ssl.SSLError, ConnectionResetError)):
        return (
            f"TLS does not come about ({error}): set BROKER_PORT_1883_TCP_PORT to the port at which the "
            "broker speaks TLS, or PUPPETMASTER_BROKER_CA to nothing; or it takes no more connections"
        )
    return _out_of_reach(error)


def _refused(code: int | None, login: Credentials) -> str:
    if code is None:
        return ": its ACL must let us read puppetmaster/#"
    if code not in (4, 5):
        return ""
    if code == 5 and not login.user:
        return ": it asks who we are: set PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"
    return ": check PUPPETMASTER_BROKER_USER and PUPPETMASTER_BROKER_PASSWORD"


def _turned_away(error: Exception, login: Credentials) -> str:
    """A connection that ended before the broker had answered us."""
    if isinstance(error, TimeoutError):
        return "it takes connections and does not answer: it hangs, or it is no MQTT broker"
    if not isinstance(error, OSError):
        return f"what answers there is no MQTT broker ({error}): set {_WHERE} to where it is"
    if login.tls is None:
        return (
            f"it closes the connection without a word ({error}): it may speak TLS at this port: set "
            "PUPPETMASTER_BROKER_CA; or it takes no more connections (mosquitto: max_connections)"
        )
    asked = (
        "it may not accept our certificate: see PUPPETMASTER_BROKER_CERT"
        if login.certified
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
    """Which complaints are to be made: each once, and then once a minute, until it is over."""

    def __init__(self) -> None:
        self._made: dict[str, float] = {}

    def due(self, text: str, now_s: float | None = None) -> bool:
        """Whether to say it, at this time of the monotonic clock; then it counts as said."""
        now_s = time.monotonic() if now_s is None else now_s
        last_s = self._made.get(text)
        if last_s is not None and now_s - last_s < REPEAT_S:
            return False
        self._made[text] = now_s
        return True

    def over(self) -> None:
        """It is well again: what comes then is news."""
        self._made.clear()


class Endings:
    """Connections with our client id that the broker has ended without a word, soon after they stood.

    It does so when somebody else logs in with the same id: a bundle whose data directory is a copy of ours.
    Both come back at once, and end each other's connection in turn.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._in_a_row = 0

    def ended(self, lasted_s: float, *, known: bool) -> None:
        """The broker has ended one. ``known``: it had kept our session, so it was not restarted before."""
        self._in_a_row = self._in_a_row + 1 if known and lasted_s < LASTING_S else 0

    def over(self) -> None:
        """A connection lasts, or ended for another reason, or none comes about."""
        self._in_a_row = 0

    @property
    def reason(self) -> str | None:
        """Why our connections do not last, with the cure; None: they do."""
        if self._in_a_row < TAKEN_OVER:
            return None
        return (
            "the broker ends our connection again and again, and lets us in each time: another bundle logs "
            f"in as '{self._client_id}', from a copy of our data directory: stop it, and begin there with an "
            "empty one; if there is none, see to the broker's ACL, which must let us write to /controller"
        )

    def wait_s(self, first_s: float) -> float:
        """Until the next connection: twice as long each time, so that each has some time for itself."""
        return min(first_s * 2.0 ** min(max(0, self._in_a_row - 1), 20), REFUSED_S)


class Attempts:
    """Tries to connect that have failed since it last worked: why, whether to say so, when to try again."""

    def __init__(self) -> None:
        self.login = Credentials()
        self.reason: str | None = None
        self.refusals = 0
        self._complaints = Complaints()

    def failed(self, error: Exception, *, greeted: bool) -> bool:
        """Take note; whether it is to be said."""
        self.reason = explain(error, self.login, greeted=greeted)
        lasting = isinstance(error, (Refused, ssl.SSLError))
        self.refusals = self.refusals + 1 if lasting else 0
        return self._complaints.due(self.reason)

    def worked(self) -> None:
        """There is a connection, and we are logged in."""
        self.reason, self.refusals = None, 0
        self._complaints.over()

    def wait_s(self, first_s: float) -> float:
        """Until the next try: ``first_s``, and twice as long after each refusal of our login."""
        doublings = min(self.refusals, _MOST_DOUBLINGS) - 1
        return max(first_s, min(first_s * 2.0**doublings, REFUSED_S))
