"""The doctor: checks from outside whether puppetmaster can work, and says what to do about each fault.

It works while the bundle is down too: then the checks of this machine may say why.
"""

import ipaddress
import os
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from puppetmaster import __version__, places
from puppetmaster.bus import visit
from puppetmaster.bus.credentials import Credentials
from puppetmaster.cli.client import Client, ClientError, Unreachable
from puppetmaster.errors import SettingsError, StoreError
from puppetmaster.model.caller import Tokens
from puppetmaster.model.notice import Hook, hooks_of
from puppetmaster.settings import API, LEAST_BROKER_BYTES, Settings
from puppetmaster.store import opening
from puppetmaster.store.sqlite.documents import read_only_uri

ROOT = places.home()
OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 100 * 1024 * 1024
#: After a takeover RabbitMQ passes messages of the former leader for half a second.
LEAST_GRACE_S = 1
ANSWER_TIMEOUT_S = 10.0
BROKER_TIMEOUT_S = 3.0
FORMER = "What it said before holds until it is put right"
AS_ITS_USER = "run the doctor as the user of the bundle"

Mark = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """The result of one check."""

    name: str
    mark: Mark
    #: What was found, and what to do.
    says: str


def examine(client: Client, environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Iterator[Check]:
    """Run every check, causes before their effects, so that the first failure explains those after it.

    The settings that a running bundle shows go before those of our own environment.
    """
    yield python(sys.version_info[:3])
    yield packages(root / "requirements.txt")
    answers, system, health, standby = _asked(client)
    if loopback(client.host):
        yield from _machine(environ, root, system, standby=standby)
    else:
        yield Check(
            "machine",
            "ok",
            f"{client.host} is another machine: run 'puppetmaster doctor' there to check broker and store",
        )
    yield answers
    if health is not None:
        yield health
    if standby and system:
        of = "another process leads: what is said below of bus, store, gateways and webhooks is of that one"
        yield Check("lead", "ok", of)
    if system:
        yield from bundle(system)


def exit_code(checks: list[Check]) -> int:
    """The exit code. 0: no check failed. 1: a check failed. 7: puppetmaster itself cannot be reached."""
    failed = {check.name for check in checks if check.mark == "fail"}
    return 7 if "answer" in failed else 1 if failed else 0


def loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# -- this machine ---------------------------------------------------------------------------------


def python(version: tuple[int, ...]) -> Check:
    """Check the version of Python."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Check("python", "fail", f"{text}: install Python {'.'.join(map(str, OLDEST_PYTHON))} or later")
    return Check("python", "ok", text)


def packages(
    requirements: Path, version_of: Callable[[str], str] = lambda name: metadata.version(name)
) -> Check:
    """Check that the installed packages have the versions in the file ``requirements``."""
    cure = f"{sys.executable} -m pip install -r {requirements}"
    if find_spec("pip") is None:
        cure = "install puppetmaster again"
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return Check("packages", "warn", f"cannot be compared: {requirements}: {error.strerror}")
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    wrong = []
    for name, wanted in pins:
        try:
            found = version_of(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != wanted.strip():
            wrong.append(f"{name} {wanted.strip()} (there is {found})")
    if wrong:
        return Check("packages", "fail", f"expected {', '.join(wrong)}: {cure}")
    return Check("packages", "ok", f"all {len(pins)} as pinned")


def _machine(
    environ: Mapping[str, str], root: Path, system: Mapping[str, Any], *, standby: bool
) -> Iterator[Check]:
    data = places.data_dir() if root == ROOT else root / "data"
    try:
        settings = Settings.from_environment(environ, data_dir=data)
    except SettingsError as error:
        ours = system and isinstance(error.__cause__, PermissionError)  # it runs: its user can read them
        yield Check("settings", "warn" if ours else "fail", f"{error}{f' {AS_ITS_USER}' if ours else ''}")
        settings = Settings(data_dir=data)
    else:
        if settings.http.lower() == "off" and not system:
            off = "PUPPETMASTER_HTTP is off: unset it, or the command line has nobody to ask"
            yield Check("settings", "warn", off)
        else:
            yield Check("settings", "ok", "the environment can be read")
    # A process that does not lead shows the settings of the leader.
    yield from _parts(settings, {} if standby else system, runs=bool(system))


def _parts(settings: Settings, shown: Mapping[str, Any], *, runs: bool) -> Iterator[Check]:
    """Check what a process with these settings uses. What a bundle has ``shown`` goes before them."""
    limits = shown.get("limits", {})
    not_ours: Mark = "warn" if runs else "fail"
    api = settings.role == API and not shown
    if tokens_file := str(limits.get("tokens", settings.tokens)):
        yield tokens(Path(tokens_file), not_ours=not_ours)
    if not api and (hooks_file := str(limits.get("webhooks", settings.webhooks))):
        yield from webhooks(Path(hooks_file), not_ours=not_ours)
    path = Path(str(shown.get("store", {}).get("path", "")))
    directory = path.parent if path.is_absolute() else settings.data_dir
    if not api:  # a running bundle shows itself whether its user may use the directory and the store
        yield data_dir(directory, not_ours=not_ours)
    if address := str(limits.get("store", settings.store)):
        yield database(address)
    elif api:
        yield Check("database", "fail", "an API server needs that of those that lead: set PUPPETMASTER_STORE")
    else:
        yield store(directory / "puppetmaster.db", not_ours=not_ours)
    if api:
        yield Check("broker", "ok", "an API server needs none")
    elif runs:  # the bundle shows itself whether the broker lets it in, perhaps with other settings
        yield broker(
            str(limits.get("brokerHost", settings.broker_host)),
            int(limits.get("brokerPort", settings.broker_port)),
        )
    else:
        yield from entrance(settings)


def data_dir(directory: Path, not_ours: Mark = "fail") -> Check:
    """Check the data directory. ``not_ours`` is the mark when this user may not write there."""
    try:
        there = directory.is_dir()
        nearest = next(one for one in (directory, *directory.absolute().parents) if one.exists())
    except PermissionError as error:
        return Check("data", not_ours, f"{error.filename} cannot be entered: {AS_ITS_USER}")
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Check("data", not_ours, f"{nearest} cannot be written: {AS_ITS_USER}, or let this one write")
    if not there:
        return Check("data", "ok", f"{directory} will be made at the first start")
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        return Check("data", "warn", f"{directory} has {free // 1024 // 1024} MiB left: make room")
    return Check("data", "ok", f"{directory} can be written, {free // 1024 // 1024} MiB free")


def tokens(file: Path, not_ours: Mark = "fail") -> Check:
    """Check the file of tokens. ``not_ours`` is the mark when this user may not read it."""
    try:
        mode = file.stat().st_mode
        known = Tokens(file.read_text(encoding="utf-8"), str(file))
    except SettingsError as error:
        return Check("tokens", "fail", f"{error} {FORMER}")
    except PermissionError as error:
        return Check("tokens", not_ours, f"{file} cannot be read ({error.strerror}): {AS_ITS_USER}")
    except (OSError, UnicodeDecodeError) as error:
        return Check("tokens", "fail", f"{file} cannot be read ({error}): see PUPPETMASTER_TOKENS")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Check(
            "tokens", "fail", f"{file} can be written by others, who could let anybody in: chmod 600"
        )
    if mode & stat.S_IROTH:
        return Check("tokens", "warn", f"{file} can be read by all users of this machine: chmod 600 {file}")
    return Check("tokens", "ok", f"{file} names {len(known)}")


def webhooks(file: Path, not_ours: Mark = "fail") -> Iterator[Check]:
    """Check the file of webhooks, and that something listens at each. ``not_ours`` as in ``tokens``."""
    try:
        mode = file.stat().st_mode
        hooks = hooks_of(file.read_text(encoding="utf-8"), str(file))
    except SettingsError as error:
        yield Check("webhooks", "fail", f"{error} {FORMER}")
        return
    except PermissionError as error:
        yield Check("webhooks", not_ours, f"{file} cannot be read ({error.strerror}): {AS_ITS_USER}")
        return
    except (OSError, UnicodeDecodeError) as error:
        yield Check("webhooks", "fail", f"{file} cannot be read ({error}): see PUPPETMASTER_WEBHOOKS")
        return
    if mode & (stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        yield Check("webhooks", "warn", f"{file} holds secrets, and others may use it: chmod 600 {file}")
    for hook in hooks:
        yield reached(hook)


def reached(hook: Hook) -> Check:
    """Check that something listens where a webhook is. It is told nothing."""
    parts = urlsplit(hook.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=BROKER_TIMEOUT_S).close()
    except OSError as error:
        why = error.strerror or error
        said = f"{hook.name} cannot be reached at {parts.hostname}:{port} ({why}): what it is owed waits"
        return Check("webhook", "warn", said)
    if parts.scheme == "http" and not loopback(parts.hostname or ""):
        said = f"{hook.name} is told without TLS, and anybody on the way can read it: use https"
        return Check("webhook", "warn", said)
    return Check("webhook", "ok", f"{hook.name} takes connections at {parts.hostname}:{port}")


def store(file: Path, not_ours: Mark = "fail") -> Check:
    """Check the store's file, without writing. ``not_ours`` is the mark when this user may not read it."""
    cure = f"stop the bundle, move {file}* away and put a copy in its place, or start without"
    try:
        if not file.exists():
            return Check("store file", "ok", f"{file} will be made at the first start")
        if file.is_fifo():  # to open it would last for ever
            return Check("store file", "fail", f"expected a file, and {file} is a pipe: move it away")
        connection = sqlite3.connect(read_only_uri(file), uri=True, timeout=5)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
        finally:
            connection.close()
    except (PermissionError, sqlite3.OperationalError) as error:
        return Check("store file", not_ours, f"{file} cannot be read ({error}): {AS_ITS_USER}")
    except sqlite3.DatabaseError as error:
        return Check("store file", "fail", f"{file} is damaged ({error}): {cure}")
    if found != ["ok"]:
        return Check("store file", "fail", f"{file} is damaged ({' '.join(found)}): {cure}")
    return Check("store file", "ok", f"{file} is whole")


def database(address: str) -> Check:
    """Check the store in PostgreSQL: whether it can be used, and whether it keeps what it was given."""
    try:
        doubts = opening.doubts(address)
    except (SettingsError, StoreError) as error:
        return Check("database", "fail", error.message)
    if doubts:
        return Check("database", "warn", "; ".join(doubts))
    return Check("database", "ok", f"{address} can be used")


def broker(host: str, port: int) -> Check:
    """Check that something listens at the broker's address."""
    try:
        socket.create_connection((host, port), timeout=BROKER_TIMEOUT_S).close()
    except OSError as error:
        why = error.strerror or error
        return Check(
            "broker",
            "fail",
            f"{host}:{port} does not answer ({why}): start the MQTT broker, or set BROKER_PORT_1883_TCP_ADDR "
            "and BROKER_PORT_1883_TCP_PORT to where it is",
        )
    return Check("broker", "ok", f"{host}:{port} takes connections")


def entrance(settings: Settings) -> Iterator[Check]:
    """Check that the broker lets us in with these settings, and that the controller answers there."""
    host, port = settings.broker_host, settings.broker_port
    try:
        answers = visit.controller_answers((host, port), Credentials.of(settings))
    except SettingsError as error:
        yield Check("broker", "fail", str(error))
        return
    except visit.NotLetIn as error:
        yield Check("broker", "fail", f"there is no connection to the broker at {host}:{port}: {error}")
        return
    yield Check("broker", "ok", f"{host}:{port} lets us in")
    if answers:
        yield Check("controller", "ok", "the controller answers")
    else:
        yield Check("controller", "fail", visit.SILENT_CONTROLLER)


# -- the bundle -----------------------------------------------------------------------------------


def _asked(client: Client) -> tuple[Check, Mapping[str, Any], Check | None, bool]:
    """Ask puppetmaster. Returns the check of that, GET /system/puppetmaster ({}: none), and the readiness.

    The last one: whether another process leads, and answers this in its place.
    """
    answers = Check("answer", "ok", f"{client.url} answers")
    try:
        health = client.ask("GET", "/health", also=(503,))
        ready = health.data if isinstance(health.data, dict) else {}
        found = client.ask("GET", "/system/puppetmaster", also=(503,))
        system = found.data
        if not isinstance(system, dict) or (found.status == 200 and "version" not in system):
            raise Unreachable(f"{client.url} is not puppetmaster: set PUPPETMASTER_URL to where it is.")
    except ClientError as error:
        return Check("answer", "fail", str(error)), {}, None, False
    standby = bool(ready.get("standby"))
    if found.status != 200:  # nobody leads, or it cannot go on
        return answers, {}, Check("ready", "fail", str(system.get("message"))), standby
    if health.status == 200:
        return answers, system, Check("ready", "ok", "it takes and sends batches"), standby
    text = ready.get("message", "it does not say why")
    return answers, system, Check("ready", "fail", f"{text} The checks below say what to do"), standby


def bundle(system: Mapping[str, Any]) -> Iterator[Check]:
    """The checks of GET /system/puppetmaster, as a running bundle answers it."""
    bus = system.get("bus", {})
    reason = bus.get("reason")  # why the first part that is not well is so
    for key, fine, wrong in (
        (
            "connected",
            "it is connected to the broker",
            "it is not connected to the broker: is that running? mosquitto also ends the connection of "
            "whoever sends where its ACL does not let it",
        ),
        (
            "controller",
            "the controller answers it",
            "the controller does not answer: start it, or restart it",
        ),
        (
            "registered",
            "it is registered with the controller",
            "it is not registered with the controller: it tries again by itself; "
            "if it stays so, restart the controller",
        ),
    ):
        if bus.get(key):
            yield Check(key, "ok", fine)
        else:
            yield Check(key, "fail", reason or wrong)
            reason = None
    if reason is not None:
        yield Check("bus", "fail", reason)
    if bus.get("connected") and (carried := system.get("inForce", {}).get("brokerLimitBytes")):
        yield limit(carried)
    if (known := system.get("gateways")) is not None and bus.get("connected"):
        yield from gateways(known, system.get("limits", {}))
    yield from _files(system.get("files", {}))
    yield from _owed(system.get("webhooks", {}))
    if (leads := system.get("leader")) is not None:
        yield from leader(leads, system.get("limits", {}))
    kept = system.get("store", {})
    if kept.get("writable"):
        yield Check("store", "ok", f"it writes to {kept.get('path')}")
    else:
        why = kept.get("reason") or "it does not say why"
        yield Check("store", "fail", f"it cannot write: {why}: make room, or see to the disk")
    version = system.get("version")
    if version == __version__:
        yield Check("version", "ok", str(version))
    else:
        yield Check(
            "version", "warn", f"the bundle is {version}, this command {__version__}: restart the bundle"
        )


def _files(known: Mapping[str, Any]) -> Iterator[Check]:
    """Fail each file of the settings whose faults keep what it says from being taken up."""
    for name, one in known.items():
        if one["reason"] is not None:
            yield Check(f"{name} in use", "fail", f"{one['reason']} {FORMER}")


def _owed(known: Mapping[str, Any]) -> Iterator[Check]:
    """Warn of each webhook that could not be told what it is owed."""
    for name, one in known.items():
        if one["reason"] is not None:
            waits = f"{one['waiting']} wait, and it is tried again by itself"
            yield Check("webhook", "warn", f"{name} could not be told: {one['reason']}; {waits}")


def leader(leads: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[Check]:
    """Show who leads with the database, and check that it is sure of that, and that takeovers are safe."""
    says = (
        f"number {leads['epoch']}, '{leads['name']}', since {leads['since']}: {leads['takeover']['message']}"
    )
    if leads["sure"]:
        yield Check("leader", "ok", says)
    else:
        cure = "it cannot renew its lease, and sends nothing: look at the database, and at the way to it"
        yield Check("leader", "fail", f"{says}; {cure}")
    if (grace_s := limits.get("grace", LEAST_GRACE_S)) < LEAST_GRACE_S:
        late = f"{grace_s} s is less than some brokers go on for with what a former leader had sent"
        yield Check("grace", "warn", f"{late}: set PUPPETMASTER_GRACE_S to {LEAST_GRACE_S} or more")


def limit(carried: Mapping[str, Any]) -> Check:
    """Check how long messages may be. ``carried`` is the limit and its source."""
    bytes_ = int(carried["value"])
    if carried["from"] == "controller":
        silent = (
            f"messages may be of {bytes_} bytes, as far as the broker says; a limit at which it drops more "
            "is told to nobody (mosquitto: message_size_limit): PUPPETMASTER_BROKER_LIMIT_BYTES is for that"
        )
        return Check("limit", "ok", silent)
    if bytes_ < LEAST_BROKER_BYTES:
        cure = f"puppetmaster needs {LEAST_BROKER_BYTES}: raise its limit (mosquitto: max_packet_size)"
        return Check("limit", "warn", f"the broker takes no packet of more than {bytes_} bytes: {cure}")
    who = "the broker says so" if carried["from"] == "broker" else "PUPPETMASTER_BROKER_LIMIT_BYTES says so"
    return Check("limit", "ok", f"what is longer than {bytes_} bytes is refused: {who}")


def gateways(known: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[Check]:
    """Show the route of requests, and check whether bridges say which gateways are away."""
    in_force = str(known["route"])
    yield _route(in_force, str(limits.get("route", in_force)))
    topics = str(limits.get("presence", "off"))
    connected, away = int(known["connected"]), int(known["away"])
    if connected or away:
        # In a large fleet some gateways are always away; when all are, something else is wrong.
        doubt = "" if connected else f": look at the bridges, and at what is retained at {topics}"
        yield Check("gateways", "ok" if connected else "warn", f"{connected} connected, {away} away{doubt}")
    elif not known["watched"] and topics.lower() != "off":
        cure = f"let the bundle read {topics}, then restart the bundle"
        yield Check("gateways", "warn", f"the broker refuses what bridges say of themselves: {cure}")
    else:
        says = (
            "nobody looks who is away: set PUPPETMASTER_PRESENCE"
            if topics.lower() == "off"
            else f"no bridge says who is away: where there are bridges, turn their notifications on, and let "
            f"the bundle read {topics} (mosquitto's acl_file refuses without a word)"
        )
        # A fleet behind the remote bundle may have no bridges at all.
        yield Check("gateways", "ok" if in_force == "remote" else "warn", says)
    yield from _known(known, in_force)


def _known(known: Mapping[str, Any], in_force: str) -> Iterator[Check]:
    """Check whether the controller knows the gateways that are known here; nothing by an earlier bundle."""
    registered, missing = known.get("registered", 0), known.get("notRegistered", 0)
    if in_force == "direct" or not (registered or missing):
        return
    says = f"{registered} registered, {missing} not registered"
    if not registered:
        says += ": the controller knows none of those that are known here: look whether a remote bundle runs"
    yield Check("known", "ok" if registered else "warn", says)


def _route(in_force: str, wanted: str) -> Check:
    if in_force != wanted:
        return Check(
            "route",
            "warn",
            "the broker refuses what gateways answer directly, so requests go through the remote bundle and "
            f"not '{wanted}': let the bundle read /+/remote and write /+/controller, then restart the bundle",
        )
    ways = {
        "remote": "requests go through the remote bundle",
        "direct": "requests go to each gateway's own controller",
        "auto": "requests go to each gateway's own controller where its bridge is connected",
    }
    return Check("route", "ok", ways.get(in_force, in_force))
