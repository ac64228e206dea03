"""Each check, with what it finds and what it says to do."""

import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from puppetmaster import __version__
from puppetmaster.cli import doctor
from puppetmaster.cli.doctor import Check
from puppetmaster.settings import Settings
from puppetmaster.store import opening
from puppetmaster.store.base import Changes
from puppetmaster.store.sqlite.store import SqliteStore
from puppetmaster.store.transfer import export
from tests.examples import a_job
from tests.fake_http import Answers, FakeServer, Reply, always

GOOD: Mapping[str, Any] = {
    "version": __version__,
    "bus": {"connected": True, "controller": True, "registered": True},
    "store": {"writable": True, "reason": None, "path": "data/puppetmaster.db"},
    "limits": {"route": "remote", "presence": "/cgs/+/connection_status"},
    "gateways": {"connected": 3, "away": 1, "changes": 0, "watched": True, "route": "remote", "owners": {}},
}
NOBODY = {"connected": 0, "away": 0}
DIRECT = {"route": "direct"}
#: Nobody watches the bridges, because the broker refuses it or the settings say so.
BLIND, OFF = {"watched": False}, {"presence": "off"}


def test_python() -> None:
    assert doctor.python((3, 13, 1)) == Check("python", "ok", "3.13.1")
    assert doctor.python((3, 9, 0)) == Check("python", "fail", "3.9.0: install Python 3.11 or later")


def test_the_pinned_packages_are_those_of_this_environment() -> None:
    assert doctor.packages(doctor.ROOT / "requirements.txt").mark == "ok"


def test_packages_that_are_not_as_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version_of(name: str) -> str:
        if name == "c":
            raise metadata.PackageNotFoundError
        return "1"

    pins = tmp_path / "requirements.txt"
    pins.write_text("# x==9\na==1\nb==2\nc==3\n")
    check = doctor.packages(pins, version_of)
    assert check.mark == "fail"
    assert "expected b 2 (there is 1), c 3 (there is none):" in check.says
    assert check.says.endswith(f"-m pip install -r {pins}")
    assert doctor.packages(tmp_path / "none", version_of).mark == "warn"
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert doctor.packages(pins, version_of).says.endswith(": install puppetmaster again")


def test_a_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.data_dir(tmp_path).mark == "ok"
    new = doctor.data_dir(tmp_path / "a" / "b")
    assert new == Check("data", "ok", f"{tmp_path}/a/b will be made at the first start")
    (tmp_path / "file").touch()
    assert doctor.data_dir(tmp_path / "file").mark == "fail"
    assert doctor.data_dir(tmp_path / "file" / "a").mark == "fail"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{tmp_path} cannot be written" in doctor.data_dir(tmp_path).says
    assert f"{tmp_path} cannot be written" in doctor.data_dir(tmp_path / "a" / "b").says
    assert doctor.data_dir(tmp_path, "warn").mark == "warn"


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1024 * 1024))
    check = doctor.data_dir(tmp_path)
    assert (check.mark, "1 MiB left: make room" in check.says) == ("warn", True)


def test_a_store(tmp_path: Path) -> None:
    file = tmp_path / "a#b?.db"
    assert doctor.store(file).mark == "ok"
    assert not file.exists()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
    connection.commit()
    connection.close()
    assert doctor.store(file) == Check("store file", "ok", f"{file} is whole")

    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\xff" * 4096 + whole[12288:])
    broken = doctor.store(file)
    assert (broken.mark, "is damaged" in broken.says) == ("fail", True)
    assert "put a copy in its place" in broken.says
    file.write_bytes(b"this is not a database" * 100)
    assert "is damaged" in doctor.store(file).says
    file.unlink()
    file.mkdir()
    assert "cannot be read" in doctor.store(file).says
    assert (doctor.store(file).mark, doctor.store(file, "warn").mark) == ("fail", "warn")


def test_a_store_on_a_disk_that_is_read_only(tmp_path: Path) -> None:
    """As after a clean stop: there is no log beside it, and none can be made."""
    data_dir, out = tmp_path / "data", tmp_path / "out"
    data_dir.mkdir()
    out.mkdir()
    with closing(SqliteStore(data_dir)) as store:
        store.commit(Changes(jobs={1: a_job(total=0)}))
    try:
        subprocess.run(["mount", "--bind", "-o", "ro", data_dir, data_dir], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", data_dir], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must be able to mount (root): {error}")
        pytest.skip(f"only root can mount: {error}")
    try:
        assert doctor.store(store.path) == Check("store file", "ok", f"{store.path} is whole")
        assert export(data_dir, out / "all.json") == 1
    finally:
        subprocess.run(["umount", "--lazy", data_dir], check=True)


def test_what_this_user_may_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    for check in (doctor.data_dir(tmp_path / "a"), doctor.store(tmp_path / "a" / "p.db")):
        assert check.mark == "fail"
        assert "run the doctor as the user of the bundle" in check.says


def test_a_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert doctor.broker("127.0.0.1", port).mark == "ok"
    check = doctor.broker("127.0.0.1", port)
    cure = "start the MQTT broker, or set BROKER_PORT_1883_TCP_ADDR"
    assert (check.mark, cure in check.says) == ("fail", True)


def test_settings_that_cannot_be_used_to_log_in_are_named() -> None:
    (check,) = doctor.entrance(Settings(broker_password="x"))
    assert (check.mark, "PUPPETMASTER_BROKER_USER" in check.says) == ("fail", True)


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("a", False)],
)
def test_which_machine(host: str, here: bool) -> None:
    assert doctor.loopback(host) is here


def system(**changes: Any) -> list[Check]:
    return list(doctor.bundle({**GOOD, **changes}))


def failing(**changes: Any) -> list[Check]:
    """What is not as it should be with a bundle that says this of itself."""
    return [check for check in system(**changes) if check.mark != "ok"]


def test_a_healthy_bundle() -> None:
    assert failing() == []


@pytest.mark.parametrize("key", ["connected", "controller", "registered"])
def test_a_bus_that_is_not(key: str) -> None:
    (check,) = failing(bus={**GOOD["bus"], key: False})
    assert (check.name, check.mark) == (key, "fail")


@pytest.mark.parametrize(
    ("said", "name", "says"),
    [
        (
            {"store": {"writable": False, "reason": "disk full"}},
            "store",
            "it cannot write: disk full: make room, or see to the disk",
        ),
        ({"bus": {**GOOD["bus"], "reason": "another bundle logs in"}}, "bus", "another bundle logs in"),
        (
            {"files": {"tokens": {"reason": None}, "webhooks": {"reason": "line 1 is wrong."}}},
            "webhooks in use",
            "line 1 is wrong. What it said before holds until it is put right",
        ),
    ],
)
def test_what_a_bundle_says_is_wrong_with_it(said: dict[str, Any], name: str, says: str) -> None:
    assert failing(**said) == [Check(name, "fail", says)]


def test_why_there_is_no_connection_is_said_once() -> None:
    bus = {"connected": False, "controller": False, "registered": False, "reason": "the password is wrong"}
    first, *others = [check.says for check in failing(bus=bus)]
    assert first == "the password is wrong"
    assert not [says for says in others if "password" in says]


@pytest.mark.parametrize(
    ("carried", "mark", "says"),
    [
        ({"value": 1_048_576, "from": "controller"}, "ok", "mosquitto: message_size_limit"),
        ({"value": 100_000, "from": "broker"}, "ok", "than 100000 bytes is refused: the broker says so"),
        ({"value": 100_000, "from": "setting"}, "ok", "PUPPETMASTER_BROKER_LIMIT_BYTES says so"),
        ({"value": 2_000, "from": "broker"}, "warn", "puppetmaster needs 10000: raise its limit"),
    ],
)
def test_how_long_messages_may_be(carried: Mapping[str, Any], mark: str, says: str) -> None:
    check = {one.name: one for one in system(inForce={"brokerLimitBytes": carried})}["limit"]
    assert (check.mark, says in check.says) == (mark, True), check.says
    assert "limit" not in {one.name for one in system()}, "an older bundle does not say"


@pytest.mark.parametrize(
    ("gateways", "limits", "name", "mark", "says"),
    [
        ({}, {}, "route", "ok", "through the remote bundle"),
        (DIRECT, DIRECT, "route", "ok", "to each gateway's own controller"),
        ({"route": "auto"}, {"route": "auto"}, "route", "ok", "where its bridge is connected"),
        ({}, DIRECT, "route", "warn", "not 'direct': let the bundle read /+/remote and write /+/controller"),
        ({}, {}, "gateways", "ok", "3 connected, 1 away"),
        ({"connected": 0}, {}, "gateways", "warn", "0 connected, 1 away: look at the bridges"),
        ({**NOBODY, **BLIND}, {}, "gateways", "warn", "let the bundle read /cgs/+/connection_status"),
        (NOBODY, {}, "gateways", "ok", "no bridge says who is away"),
        ({**NOBODY, **DIRECT}, DIRECT, "gateways", "warn", "turn their notifications on"),
        ({**NOBODY, **BLIND}, OFF, "gateways", "ok", "set PUPPETMASTER_PRESENCE"),
        ({**NOBODY, **DIRECT, **BLIND}, {**DIRECT, **OFF}, "gateways", "warn", "set PUPPETMASTER_PRESENCE"),
        ({"registered": 9, "notRegistered": 1}, {}, "known", "ok", "9 registered, 1 not registered"),
        ({"registered": 0, "notRegistered": 2}, {}, "known", "warn", "look whether a remote bundle runs"),
    ],
)
def test_the_gateways(gateways: Any, limits: Any, name: str, mark: str, says: str) -> None:
    told = {"gateways": {**GOOD["gateways"], **gateways}, "limits": {**GOOD["limits"], **limits}}
    check = {one.name: one for one in system(**told)}[name]
    assert (check.mark, says in check.says) == (mark, True), check.says


@pytest.mark.parametrize("gateways", [{}, {**DIRECT, "notRegistered": 1}])
def test_nothing_is_said_of_whom_the_controller_knows(gateways: Any) -> None:
    told = {"gateways": {**GOOD["gateways"], **gateways}, "limits": {**GOOD["limits"], **gateways}}
    assert "known" not in {check.name for check in system(**told)}


def test_nothing_is_said_of_gateways_without_a_bus_or_by_an_earlier_bundle() -> None:
    down = system(bus={**GOOD["bus"], "connected": False})
    earlier = doctor.bundle({name: value for name, value in GOOD.items() if name != "gateways"})
    assert not {"gateways", "route"} & {check.name for check in (*down, *earlier)}


def test_who_leads() -> None:
    takeover = {"message": "a is gone"}
    leads = {"epoch": 3, "name": "pm b:2", "since": "then", "sure": True, "takeover": takeover}
    (check,) = [check for check in system(leader=leads) if check.name == "leader"]
    assert check == Check("leader", "ok", "number 3, 'pm b:2', since then: a is gone")
    (check,) = [check for check in system(leader={**leads, "sure": False}) if check.name == "leader"]
    assert (check.mark, "it cannot renew its lease" in check.says) == ("fail", True)
    assert "leader" not in {check.name for check in system()}
    (failed,) = failing(leader=leads, limits={"grace": 0.5})
    assert (failed.name, "set PUPPETMASTER_GRACE_S to 1 or more" in failed.says) == ("grace", True)


def test_another_version() -> None:
    (check,) = failing(version="9.9")
    assert (check.name, check.mark, "restart the bundle" in check.says) == ("version", "warn", True)


def examined(answer: Answers, root: Path, **environ: str) -> dict[str, Check]:
    """All that is found, where a bundle answers so."""
    with FakeServer(answer) as server:
        return {check.name: check for check in doctor.examine(server.client(), environ, root)}


READY = Reply({"ready": True})
NO_BUNDLE = always(Reply({"message": "nothing here"}, 404))


def told(health: Reply, about: Mapping[str, Any]) -> Answers:
    return lambda asked: health if asked.path == "/health" else Reply(dict(about))


def test_what_the_bundle_says_of_its_settings_goes_first(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        limits = {"brokerHost": "127.0.0.1", "brokerPort": listening.getsockname()[1]}
        about = {**GOOD, "limits": limits, "store": {**GOOD["store"], "path": f"{tmp_path}/mine/p.db"}}
        checks = examined(told(READY, about), tmp_path, BROKER_PORT_1883_TCP_PORT="1")
    assert checks["broker"].mark == "ok"
    assert str(tmp_path / "mine") in checks["data"].says
    assert doctor.exit_code(list(checks.values())) == 0


def test_a_bundle_that_is_not_ready(tmp_path: Path) -> None:
    health = Reply({"message": "Not ready: the controller has not registered us.", "ready": False}, 503)
    checks = examined(told(health, GOOD), tmp_path)
    assert checks["answer"].mark == "ok"
    assert (checks["ready"].mark, "not registered" in checks["ready"].says) == ("fail", True)
    assert doctor.exit_code(list(checks.values())) == 1


@pytest.mark.parametrize("reply", [Reply({"message": "no"}, 401), Reply({"ok": True}), Reply(b"<html>")])
def test_a_bundle_that_does_not_answer(tmp_path: Path, reply: Reply) -> None:
    asked = {"BROKER_PORT_1883_TCP_PORT": "1", "PUPPETMASTER_MAX_IN_FLIGHT": "many"}
    checks = examined(always(reply), tmp_path, **asked)
    assert "set PUPPETMASTER_" in checks["answer"].says
    said = "PUPPETMASTER_MAX_IN_FLIGHT: expected a whole number, got 'many'."
    assert checks["settings"] == Check("settings", "fail", said)
    assert doctor.exit_code(list(checks.values())) == 7


def test_settings_that_only_the_bundle_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    asked = {"PUPPETMASTER_SETTINGS": "/etc/p.json", "BROKER_PORT_1883_TCP_PORT": "1"}
    check = examined(told(READY, GOOD), tmp_path, **asked)["settings"]
    assert (check.mark, doctor.AS_ITS_USER in check.says) == ("warn", True)
    assert examined(NO_BUNDLE, tmp_path, **asked)["settings"].mark == "fail"


def test_http_that_is_off(tmp_path: Path) -> None:
    assert examined(NO_BUNDLE, tmp_path, PUPPETMASTER_HTTP="off")["settings"].mark == "warn"


WAITS = Reply({"ready": True, "standby": True})
API_SERVER = {"PUPPETMASTER_ROLE": "api", "BROKER_PORT_1883_TCP_PORT": "1"}


def test_an_api_server_needs_no_broker_and_no_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "doubts", lambda address: [])
    theirs = {"brokerHost": "127.0.0.1", "brokerPort": 1, "tokens": "/of/the/leader", "webhooks": "/theirs"}
    about = {**GOOD, "limits": {**GOOD["limits"], **theirs}}
    asked = {**API_SERVER, "PUPPETMASTER_STORE": "postgresql://h/db"}
    checks = examined(told(WAITS, about), tmp_path, **asked)
    assert checks["broker"] == Check("broker", "ok", "an API server needs none")
    assert checks["database"] == Check("database", "ok", "postgresql://h/db can be used")
    assert "is of that one" in checks["lead"].says
    assert not {"data", "store file", "tokens", "webhooks"} & set(checks)
    assert doctor.exit_code(list(checks.values())) == 0


def test_an_api_server_where_nobody_leads(tmp_path: Path) -> None:
    nobody = "No puppetmaster leads: nothing was changed."
    checks = examined(always(Reply({"message": nobody}, 503)), tmp_path, **API_SERVER)
    assert (checks["answer"].mark, checks["ready"]) == ("ok", Check("ready", "fail", nobody))
    assert "set PUPPETMASTER_STORE" in checks["database"].says
    assert doctor.exit_code(list(checks.values())) == 1


def test_one_that_waits_is_checked_with_its_own_settings(tmp_path: Path) -> None:
    about = {**GOOD, "limits": {**GOOD["limits"], "brokerHost": "127.0.0.1", "brokerPort": 1}}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        checks = examined(told(WAITS, about), tmp_path, BROKER_PORT_1883_TCP_PORT=port)
    assert checks["broker"].mark == "ok"
    assert str(tmp_path) in checks["data"].says


def test_another_machine_is_not_checked_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "loopback", lambda host: False)
    checks = examined(told(READY, GOOD), tmp_path)
    assert "is another machine" in checks["machine"].says
    assert not {"broker", "data", "store file", "settings"} & set(checks)
