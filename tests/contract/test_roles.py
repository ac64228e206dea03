"""Roles, tried from outside: every operation of the description, as every role, over HTTP and WebSocket."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from puppetmaster.api.operations import OPERATIONS, WEBSOCKET
from puppetmaster.errors import SettingsError
from puppetmaster.model.caller import Role, digest
from puppetmaster.settings import Settings
from schema import generate
from tests.web_client import Answer, Door, batch, running

TOKENS = {role: f"pm_the-token-of-{role}-------------" for role in Role}
ONE = "the-one-token-of-the-settings"
#: What a client may try that no operation has.
OTHERS = ("PATCH", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text("".join(f"the-{role} {role} {digest(token)}\n" for role, token in TOKENS.items()))
    return file


@pytest.fixture
def door(tmp_path: Path, file: Path) -> Iterator[Door]:
    with running(tmp_path / "data", tokens=str(file), token=ONE) as started:
        yield started


def ask(door: Door, role: Role, method: str, path: str, body: Any = None) -> Answer:
    return door.ask(method, path, body, Authorization=f"Bearer {TOKENS[role]}")


def described(door: Door) -> Iterator[tuple[str, str, Role, Any]]:
    """Method, path, the role that it needs, and a body: as the running door describes them."""
    paths = ask(door, Role.VIEWER, "GET", "/openapi.json").json["paths"]
    for path, methods in paths.items():
        for method, one in methods.items():
            content = one.get("requestBody", {}).get("content", {}).get("application/json", {})
            body = next(iter(content.get("examples", {"": {"value": None}}).values()))["value"]
            yield method.upper(), path, Role(one["x-role"]), body


def filled(door: Door) -> dict[str, str]:
    """Things to change, put there by an admin: where paths have ids, each path with one."""
    job = ask(door, Role.ADMIN, "POST", "/jobs", batch("cg-1", "cg-2")).json
    ask(door, Role.ADMIN, "PUT", "/gateways/cg-1", {"labels": {"site": "north"}})
    kept = {"name": f"after-{job['id']}", "job": batch("cg-1")}
    template = ask(door, Role.ADMIN, "POST", "/templates", kept).json
    ids = {"jobs": str(job["id"]), "gateways": "cg-1", "templates": str(template["id"])}
    ids["requests"] = ids["request"] = str(job["requests"][0])
    return ids


def at(path: str, ids: dict[str, str]) -> str:
    return path.replace("{id}", ids.get(path.split("/")[1], ""))


def state(door: Door) -> list[Any]:
    """All that can be changed."""
    paths = ("/jobs?collection=true", "/requests", "/gateways", "/templates")
    return [ask(door, Role.ADMIN, "GET", path).json for path in paths]


def test_each_role_may_what_the_description_says_and_nothing_else(door: Door) -> None:
    tried = set()
    for method, path, needs, body in described(door):
        ids = filled(door)
        before = state(door)
        for role in Role:
            answer = ask(door, role, method, at(path, ids), body)
            tried.add((method, path))
            enough = list(Role).index(role) >= list(Role).index(needs)
            assert (answer.status == 403) is not enough, (role, method, path, answer)
            if not enough:
                assert f"Expected the role {needs}" in answer.json["message"]
            if role is Role.VIEWER or not enough:
                assert state(door) == before, (role, method, path)
            elif method != "GET":
                ids = filled(door)
    known = {(one.method, one.path) for one in OPERATIONS} - {("GET", "/openapi.json")}
    assert tried == {(method, path) for method, path in known if method != WEBSOCKET}


def test_what_changes_something_needs_more_than_to_look() -> None:
    for one in OPERATIONS:
        looks = one.method in ("GET", WEBSOCKET)
        assert (one.needs is Role.VIEWER) is looks, one
        assert (one.needs is Role.ADMIN) is (one.method == "DELETE"), one


def test_a_viewer_changes_nothing_with_methods_that_no_operation_has(door: Door) -> None:
    ids = filled(door)
    before = state(door)
    for path in {one.path for one in OPERATIONS} | {"/", "/static/app.js", "/nothing"}:
        for method in OTHERS:
            answer = ask(door, Role.VIEWER, method, at(path, ids), {"status": "canceled"})
            assert answer.status in (403, 404, 405), (method, path, answer)
    override = {"X-HTTP-Method-Override": "DELETE", "Authorization": f"Bearer {TOKENS[Role.VIEWER]}"}
    door.ask("GET", f"/jobs/{ids['jobs']}?_method=DELETE", **override)
    assert state(door) == before


def test_a_viewer_looks_over_websockets_and_changes_nothing_there(door: Door) -> None:
    ids = filled(door)
    before = state(door)
    for one in OPERATIONS:
        if one.method != WEBSOCKET:
            continue
        offered = [Subprotocol("puppetmaster"), Subprotocol(f"token.{TOKENS[Role.VIEWER]}")]
        with door.watch(at(one.path, ids), subprotocols=offered) as watching:
            for said in ({"status": "canceled"}, {"method": "DELETE", "path": f"/jobs/{ids['jobs']}"}):
                watching.send(json.dumps(said))
            watching.send(b"\x00")
            ask(door, Role.ADMIN, "PUT", f"/jobs/{ids['jobs']}", {"status": "paused"})
            assert json.loads(watching.recv(timeout=10))["id"] == int(ids["jobs"])
            ask(door, Role.ADMIN, "PUT", f"/jobs/{ids['jobs']}", {"status": "dispatching"})
    changed = [job for part in (before, state(door)) for job in part[0]]
    assert changed[0]["status"] == changed[1]["status"] == "dispatching"
    assert before[1:] == state(door)[1:]


def test_who_did_what_is_told_by_name(door: Door) -> None:
    job = ask(door, Role.OPERATOR, "POST", "/jobs", batch("cg-1")).json
    ask(door, Role.ADMIN, "PUT", f"/jobs/{job['id']}", {"status": "paused"})
    door.ask("PUT", f"/jobs/{job['id']}", {"status": "canceled"}, Authorization=f"Bearer {ONE}")
    answer = ask(door, Role.VIEWER, "GET", f"/jobs/{job['id']}/events")
    assert [(one["event"], one["by"]) for one in answer.json] == [
        ("created", "the-operator"),
        ("paused", "the-admin"),
        ("canceled", "token"),
        ("ended", "puppetmaster"),
    ]
    assert answer.headers["x-total-count"] == "4"
    page = ask(door, Role.VIEWER, "GET", f"/jobs/{job['id']}/events?limit=1&offset=2").json
    assert [one["number"] for one in page] == [3]
    assert job["createdBy"] == "the-operator"
    assert ask(door, Role.VIEWER, "GET", "/jobs").json[0]["createdBy"] == "the-operator"
    shown = ask(door, Role.VIEWER, "GET", "/system/puppetmaster").json["caller"]
    assert shown == {"name": "the-viewer", "role": "viewer"}
    request = ask(
        door,
        Role.OPERATOR,
        "POST",
        "/requests",
        generate.EXAMPLES["operations"]["POST /requests"]["bodies"]["time"],
    )
    assert ask(door, Role.VIEWER, "GET", f"/jobs/{request.json['job']}").json["createdBy"] == "the-operator"
    ask(door, Role.ADMIN, "DELETE", f"/jobs/{job['id']}")
    assert ask(door, Role.VIEWER, "GET", f"/jobs/{job['id']}/events").status == 404


def test_a_token_that_was_taken_out_is_refused_at_once_also_on_an_open_websocket(
    door: Door, file: Path
) -> None:
    ids = filled(door)
    offered = [Subprotocol(f"token.{TOKENS[Role.VIEWER]}")]
    with door.watch("/jobs/ws", subprotocols=offered) as watching:
        kept = [line for line in file.read_text().splitlines() if "viewer" not in line]
        file.write_text("\n".join(kept))
        assert ask(door, Role.VIEWER, "GET", "/jobs").status == 401
        assert ask(door, Role.OPERATOR, "GET", "/jobs").status == 200
        ask(door, Role.ADMIN, "PUT", f"/jobs/{ids['jobs']}", {"status": "paused"})
        with pytest.raises(ConnectionClosed) as closed:
            watching.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


def test_a_role_that_was_changed_holds_from_the_next_request_on(door: Door, file: Path) -> None:
    assert ask(door, Role.VIEWER, "POST", "/jobs", batch("a")).status == 403
    file.write_text(file.read_text().replace("the-viewer viewer", "the-viewer operator"))
    assert ask(door, Role.VIEWER, "POST", "/jobs", batch("a")).json["createdBy"] == "the-viewer"


def test_with_faults_in_the_file_it_does_not_start_and_names_all(tmp_path: Path, file: Path) -> None:
    file.write_text("ann viewer\nbob root x\n")
    with pytest.raises(SettingsError, match=r"line 1: .*line 2: "), running(tmp_path / "a", tokens=str(file)):
        pass
    missing = str(tmp_path / "missing")
    with pytest.raises(SettingsError, match="cannot be read"), running(tmp_path / "a", tokens=missing):
        pass


def test_no_token_is_shown_nor_in_the_log(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    settings = Settings(token=ONE)
    system = ask(door, Role.ADMIN, "GET", "/system/puppetmaster").body.decode()
    with door.watch("/jobs/ws", subprotocols=[Subprotocol(f"token.{ONE}")]):
        pass
    for role in Role:
        ask(door, role, "DELETE", "/jobs/1")
        with door.watch("/jobs/ws", subprotocols=[Subprotocol(f"token.{TOKENS[role]}")]):
            pass
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("websockets")]
    ours += [system, repr(settings), str(settings.public())]
    tokens = [ONE, *TOKENS.values()]
    assert not [said for said in ours for token in tokens if token in said or digest(token) in said]
