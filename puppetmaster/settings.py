"""Every setting, with its unit, its default and its bounds.

The broker's address is read from the SDK's own variables (``BROKER_PORT_1883_TCP_ADDR`` and
``BROKER_PORT_1883_TCP_PORT``), all other settings from ``PUPPETMASTER_<NAME>``. Settings that the environment
does not have are read from ``puppetmaster.json`` in the data directory, under the names that GET
/system/puppetmaster shows. Without that file ``puppetmaster.json.factory`` is read, which every Sanji bundle
ships. ``PUPPETMASTER_SETTINGS`` names another file in place of both, as the Debian package does.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from puppetmaster.errors import SettingsError

_DATA = Path("data")
#: The files of settings in the data directory; the first that exists is read.
FILES = ("puppetmaster.json", "puppetmaster.json.factory")
#: Smallest limit of a broker: with a smaller one it would refuse some of our own messages.
LEAST_BROKER_BYTES = 10_000
ROUTES = ("remote", "direct", "auto")
PREFIX = "PUPPETMASTER_"
#: Names the file of settings, wherever that is.
FILE_VARIABLE = "PUPPETMASTER_SETTINGS"
#: Variables with our prefix that are no settings; the command line reads the second.
ELSEWHERE = (FILE_VARIABLE, "PUPPETMASTER_URL")
#: Variables that Docker and Kubernetes set for a container or service named puppetmaster.
_LINKED = re.compile(r"PUPPETMASTER_(NAME|ENV_.*|SERVICE_(HOST|PORT.*)|PORT(_\d+_.*)?)")
SWITCH = ("on", "off")
#: What a process does.
ROLES = ALL, API, DISPATCHER = ("all", "api", "dispatcher")
#: What a text cannot have: no file, name or message of the bus can carry it.
_UNFIT = re.compile("[\0\ud800-\udfff]")
#: Most characters of a wrong value in an error.
_SHOWN = 80
LOG_LEVELS = ("debug", "info", "warning", "error")
#: Setting -> the words that it may be; in any letter case, except those of ``route``.
CHOICES = {
    "broker_push": SWITCH,
    "log_level": LOG_LEVELS,
    "log_events": SWITCH,
    "standby": SWITCH,
    "role": ROLES,
    "route": ROUTES,
}


def _knob(
    default: Any,
    about: str,
    *,
    low: float | None = None,
    high: float | None = None,
    env: str = "",
    old: str = "",
    secret: bool = False,
) -> Any:
    """A setting. ``about`` describes it; ``low`` and ``high`` are its bounds (None: unbounded).

    ``env`` is its environment variable (empty: PUPPETMASTER_ and its name). ``old`` is the name that it had
    in earlier versions, which is still taken (empty: it had no other). A ``secret`` is never shown.
    """
    about_it = {"about": about, "low": low, "high": high, "env": env, "old": old, "secret": secret}
    return field(default=default, repr=not secret, metadata=about_it)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. ``from_environment`` checks their values."""

    broker_host: str = _knob("localhost", "the broker's address", env="BROKER_PORT_1883_TCP_ADDR")
    broker_port: int = _knob(1883, "the broker's port", low=1, high=65535, env="BROKER_PORT_1883_TCP_PORT")
    broker_user: str = _knob("", "the name to log in to the broker with")
    broker_password: str = _knob("", "the password that goes with it", secret=True)
    broker_ca: str = _knob("", "a file with the certificates that the broker is known by; turns on TLS")
    broker_cert: str = _knob("", "a file with our own certificate, for a broker that asks for one")
    broker_key: str = _knob("", "a file with that certificate's private key")
    broker_limit_bytes: int = _knob(
        1_048_576,
        "the longest MQTT packet that the broker carries, where that is less than 1 MiB: the smaller of "
        "max_packet_size and message_size_limit of mosquitto",
        low=LEAST_BROKER_BYTES,
        high=1_048_576,
    )
    broker_push: str = _knob(
        "on",
        "whether a broker on this machine without set_tcp_nodelay is pushed to send on what it holds back, "
        "with up to 6.4 MB a second to /controller: on, off",
    )
    data_dir: Path = _knob(_DATA, "where puppetmaster.db is kept")  # noqa: RUF009 - a Path is immutable
    store: str = _knob(
        "",
        "where jobs are kept, if not in puppetmaster.db: a PostgreSQL database, postgresql://host/database",
    )
    standby: str = _knob(
        "on",
        "whether to wait while another puppetmaster leads with the same PostgreSQL database, and to take "
        "over when that is gone: on, off",
    )
    ttl_s: int = _knob(
        0,
        "how long the controller waits for our answer to another bundle; 0: 20, and 5 where the store is "
        "PostgreSQL and another puppetmaster may take over",
        low=0,
        high=60,
    )
    role: str = _knob(
        "all",
        "what this process does: all; api: it answers over HTTP for those that lead with the same database, "
        "and needs no broker; dispatcher: all but HTTP",
    )
    log_level: str = _knob("info", f"how much is logged: {', '.join(LOG_LEVELS)}, in any letter case")
    request_timeout_s: float = _knob(
        60.0, "from sent to answer, for requests that name no other", low=0.1, high=86400 * 30
    )
    lock_wait_s: float = _knob(
        600.0,
        "how long a request is refused by locks in a row before it ends as an error",
        low=1,
        high=86400 * 30,
    )
    grace_s: float = _knob(
        5.0, "after a crash or a lost connection: how long late answers are waited for", low=0, high=3600
    )
    booting_s: float = _knob(
        120.0,
        "how long after the start of the machine gateways are waited for that are not registered yet",
        low=0,
        high=3600,
    )
    registering_s: float = _knob(
        120.0,
        "how long after a restart of the controller gateways are waited for that are not registered yet",
        low=0,
        high=3600,
    )
    route: str = _knob(
        "remote",
        "which way requests go: remote, through /remote/<gateway>; direct, to each gateway's own controller; "
        "auto, directly where a bridge says that it is connected",
    )
    presence: str = _knob(
        "/cgs/+/connection_status",
        "topics where bridges say whether they are connected, comma separated, + for the gateway; off: none",
    )
    offline_codes: str = _knob(
        "",
        "codes, comma separated, with which the remote bundle says that a gateway is offline and nothing ran",
    )
    gateway_check_s: float = _knob(
        60.0,
        "how often the controller is asked anew whether a gateway is registered, at most 20 a second; "
        "0: only when somebody wants to know",
        low=0,
        high=86400,
    )
    max_in_flight: int = _knob(500, "most requests in flight over all jobs", low=1, high=10000, old="window")
    max_in_flight_per_owner: int = _knob(
        500, "most requests in flight at one owner of many gateways, such as /remote/+", low=1, high=10000
    )
    max_open_jobs: int = _knob(1000, "most jobs that have not ended", low=1, high=1000000)
    max_open_requests: int = _knob(200000, "most requests of them that are not done", low=1, high=10000000)
    keep_jobs: int = _knob(1000, "most jobs that have ended to keep", low=0, high=10000000)
    keep_days: float = _knob(30.0, "how long jobs that have ended are kept", low=0, high=36500)
    keep_mb: float = _knob(
        64.0, "how large the store may grow before the oldest jobs that have ended go", low=1, high=1000000
    )
    max_requests: int = _knob(50000, "most requests in one job", low=1, high=1000000)
    probe_interval_s: float = _knob(
        1.5, "how often the controller is asked whether it still knows us", low=0.1, high=60
    )
    lock_cache_s: float = _knob(
        60.0, "how long the controller's word on who shares a lock is believed", low=1, high=86400
    )
    http: str = _knob("127.0.0.1:8700", "where HTTP is answered, address:port; off: nowhere")
    http_names: str = _knob(
        "", "names, comma separated, under which clients may reach HTTP, beside localhost and addresses"
    )
    token: str = _knob(
        "", "what HTTP clients must know; required unless http is loopback, or there are tokens", secret=True
    )
    tokens: str = _knob("", "a file with named tokens for HTTP clients: a line each, NAME ROLE SHA256")
    log_events: str = _knob(
        "off",
        "whether what happens to jobs, and who labels gateways, is in the log too, as lines of JSON: on, off",
    )
    webhooks: str = _knob(
        "", "a file with the webhooks that are told when a job ends or a gate closes: JSON, name, url, secret"
    )
    tls_cert: str = _knob("", "a file with the certificate, and its chain, for HTTPS")
    tls_key: str = _knob("", "a file with the certificate's private key")
    body_limit_bytes: int = _knob(
        16 * 1024 * 1024, "largest body that HTTP takes", low=1024, high=1024 * 1024 * 1024
    )
    http_timeout_s: float = _knob(
        15.0, "how long an HTTP client may take to send its request, or to read on", low=0.1, high=3600
    )
    http_connections: int = _knob(900, "most HTTP and WebSocket connections at once", low=1, high=100000)

    def __post_init__(self) -> None:
        """Turn whole floats into integers, so that 60.0 is shown as 60 everywhere."""
        for knob in fields(self):
            value = getattr(self, knob.name)
            if isinstance(value, float) and value.is_integer():
                object.__setattr__(self, knob.name, int(value))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **defaults: Any) -> "Settings":
        """The settings of ``environ``; for those that it lacks the file's, then ``defaults``, then our own.

        Raises SettingsError: a value is wrong, a name is unknown, or the file cannot be read.
        """
        _check_names(environ)
        given = {
            knob.name: _read(knob, text, name)
            for knob in fields(cls)
            for name in _variables(knob)
            if (text := environ.get(name, "").strip())
        }
        data_dir = given.get("data_dir", defaults.get("data_dir", _DATA))
        named = environ.get(FILE_VARIABLE, "").strip()
        file = Path(named) if named else _file_in(data_dir)
        settings = cls(**{**defaults, **_from_file(file), **given})
        lower = {name: getattr(settings, name).lower() for name in CHOICES if name != "route"}
        settings = replace(settings, **lower)
        for name, known in CHOICES.items():
            if (value := getattr(settings, name)) not in known:
                expected = f"PUPPETMASTER_{name.upper()}: expected one of {', '.join(known)}"
                raise SettingsError(f"{expected}, got '{value[:_SHOWN]}'.")
        _ = settings.presence_topics, settings.offline  # raises, if they are wrong
        settings._check_broker_host()
        return settings

    def _check_broker_host(self) -> None:
        """Raises SettingsError: no name or address can look like this."""
        try:
            encoded = self.broker_host.encode("idna")  # as each connection does
        except UnicodeError:
            encoded = b""
        if not encoded:
            raise SettingsError(
                "BROKER_PORT_1883_TCP_ADDR: expected a name or an address such as broker.example or "
                f"192.0.2.1, got '{self.broker_host[:_SHOWN]}'."
            )

    @property
    def presence_topics(self) -> tuple[str, ...]:
        """The topics to subscribe to for ``presence``, each with one ``+``. Raises SettingsError."""
        if self.presence.lower() == "off":
            return ()
        topics = tuple(one.strip() for one in self.presence.split(",") if one.strip())
        for topic in topics:
            if topic.split("/").count("+") != 1 or topic.count("+") != 1 or "#" in topic:
                raise SettingsError(
                    "PUPPETMASTER_PRESENCE: expected topics with one level '+' for the gateway, such as "
                    f"/cgs/+/connection_status, or 'off', got '{topic[:_SHOWN]}'."
                )
        return topics

    @property
    def offline(self) -> frozenset[int]:
        """The codes of ``offline_codes``. Raises SettingsError."""
        found = [one.strip() for one in self.offline_codes.split(",") if one.strip()]
        for one in found:
            if re.fullmatch("[3-9][0-9]{2}", one) is None or one == "408":
                raise SettingsError(
                    "PUPPETMASTER_OFFLINE_CODES: expected codes from 300 to 999 with commas between, and not "
                    f"408, after which it may have run, got '{one[:_SHOWN]}'."
                )
        return frozenset(map(int, found))

    def public(self) -> dict[str, Any]:
        """The settings as GET /system/puppetmaster shows them (``requestTimeout``), without secrets.

        A setting that was renamed is there under both names.
        """
        shown = {
            name: getattr(self, knob.name)
            for knob in fields(self)
            if not knob.metadata["secret"]
            for name in _names_in_file(knob)
        }
        return {name: str(value) if isinstance(value, Path) else value for name, value in shown.items()}


def _check_names(environ: Mapping[str, str]) -> None:
    """Raises SettingsError: a variable has our prefix and is no setting, so it may be misspelt."""
    names = [name for knob in fields(Settings) for name in _variables(knob)]
    known = [name for name in names if name.startswith(PREFIX)]
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in (*known, *ELSEWHERE) or _LINKED.fullmatch(name):
            continue
        close = difflib.get_close_matches(name[len(PREFIX) :], [one[len(PREFIX) :] for one in known], 1)
        listed = "docs/settings.md and 'man puppetmaster.json' list all settings"
        hint = f"; did you mean {PREFIX}{close[0]}?" if close else f"; {listed}"
        raise SettingsError(f"{name[:_SHOWN]}: unknown setting{hint}")


def _file_in(data_dir: Path) -> Path | None:
    try:
        return next((path for name in FILES if (path := data_dir / name).is_file()), None)
    except OSError as error:
        raise SettingsError(
            f"PUPPETMASTER_DATA_DIR: expected a directory that can be read, and {str(data_dir)[:_SHOWN]} "
            f"cannot: {error.strerror}."
        ) from error


def _from_file(path: Path | None) -> dict[str, Any]:
    """The values in the file of settings, by field; empty: there is no file. Raises SettingsError."""
    if path is None:
        return {}
    try:
        given = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: expected JSON, and it cannot be read as such: {error}.") from error
    if not isinstance(given, dict):
        raise SettingsError(f'{path}: expected an object such as {{"keepDays": 30}}.')
    # The data directory cannot be set in the file: it says where that is.
    settable = [knob for knob in fields(Settings) if knob.name != "data_dir"]
    knobs = {name: knob for knob in settable for name in _names_in_file(knob)}
    for name in given.keys() - knobs.keys():
        close = difflib.get_close_matches(name, knobs, 1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(knobs)}"
        raise SettingsError(f"{path}: unknown setting {name[:_SHOWN]!a}{hint}")
    found = ((knob, name, given[name]) for name, knob in knobs.items() if name in given)
    return {knob.name: _checked(knob, value, f"{path}: {name}") for knob, name, value in found}


def _checked(knob: "Field[Any]", value: Any, where: str) -> Any:
    kind: Any = type(knob.default)
    if kind is str:
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits and (kind is float or isinstance(value, int) or value.is_integer())
    if not fits:
        expected = {str: "a text", int: "a whole number"}.get(kind, "a number")
        raise SettingsError(f"{where}: expected {expected}, got {json.dumps(value)[:_SHOWN]}.")
    # First the bounds: an integer in the file may be too large for a float.
    return kind(_bounded(knob, value, json.dumps(value), where))


def name_in_file(name: str) -> str:
    """A setting's name as the API writes it: in camel case, and without the unit of seconds."""
    first, *rest = name.removesuffix("_s").split("_")
    return first + "".join(word.capitalize() for word in rest)


def _names_in_file(knob: "Field[Any]") -> list[str]:
    """The names of this setting in the file, the older one first: what has both takes the newer one."""
    return [name_in_file(name) for name in (knob.metadata["old"], knob.name) if name]


def variable(knob: "Field[Any]") -> str:
    """The environment variable of this setting."""
    return knob.metadata["env"] or f"{PREFIX}{knob.name.upper()}"


def _variables(knob: "Field[Any]") -> list[str]:
    """As ``variable``, with the older name before it."""
    old = knob.metadata["old"]
    return [f"{PREFIX}{old.upper()}", variable(knob)] if old else [variable(knob)]


def _read(knob: "Field[Any]", text: str, where: str) -> Any:
    kind: Any = type(knob.default)
    try:
        value = kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{where}: expected {expected}, got '{text[:_SHOWN]}'.") from None
    return _bounded(knob, value, text, where)


def _bounded(knob: "Field[Any]", value: Any, shown: str, where: str) -> Any:
    low, high = knob.metadata["low"], knob.metadata["high"]
    if isinstance(value, str) and (unfit := _UNFIT.search(value)):
        raise SettingsError(f"{where}: expected text in UTF-8 without NUL, got {unfit[0]!a} in it.")
    if low is not None and not value >= low:
        raise SettingsError(f"{where}: expected at least {low}, got {shown[:_SHOWN]}.")
    if high is not None and not value <= high:
        raise SettingsError(f"{where}: expected at most {high}, got {shown[:_SHOWN]}.")
    return value
