"""Which gateways are registered, on the real bus: where registrations are seen, and where they are not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.desk import until
from tests.flow import SETTINGS, Flow, Played, batch, running
from tests.strict_broker import ACL

#: So seldom gateways are asked for in turn where registrations can be watched, and where they cannot.
CHECK_S = {"watched": "3600", "forbidden": "1"}


@pytest.fixture(scope="module", params=CHECK_S)
def watch(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, watch: str) -> Iterator[Flow]:
    """The tests have it one after the other: the last one breaks something."""
    require("mosquitto")
    tmp_path = tmp_path_factory.mktemp(watch)
    settings = {**SETTINGS, "PUPPETMASTER_GATEWAY_CHECK_S": CHECK_S[watch], "PUPPETMASTER_REGISTERING_S": "0"}
    config = ""
    if watch == "forbidden":
        (tmp_path / "passwords").write_text("keeper:open sesame\n")
        subprocess.run(["mosquitto_passwd", "-U", tmp_path / "passwords"], check=True, capture_output=True)
        (tmp_path / "acl").write_text(f"topic readwrite #\n\nuser keeper\n{ACL}")
        for name in ("passwords", "acl"):
            (tmp_path / name).chmod(0o644)
        config = f"password_file {tmp_path}/passwords\nacl_file {tmp_path}/acl\n"
        settings |= {
            "PUPPETMASTER_BROKER_USER": "keeper",
            "PUPPETMASTER_BROKER_PASSWORD": "open sesame",
        }
    with running(tmp_path, "--to", "cg-[1-3]", settings=settings, broker_config=config) as started:
        until(lambda: started.get("/system/puppetmaster")["bus"]["controller"], "the controller answers")
        yield started


def said(flow: Flow) -> dict[str, Any]:
    return {one["name"]: one["registered"] for one in flow.get("/gateways")}


def soon(flow: Flow, **expected: bool | None) -> None:
    """Within some seconds this is known of these gateways."""
    wanted = {name.replace("_", "-"): registered for name, registered in expected.items()}
    until(lambda: {**said(flow), **wanted} == said(flow), f"{wanted} of {said(flow)}")


def test_who_comes_and_who_goes_is_noticed(flow: Flow, watch: str) -> None:
    flow.client.request("post", "/gateways", [{"name": name} for name in ("cg-1", "cg-2", "away")])
    soon(flow, cg_1=True, cg_2=True, away=False)
    Played(flow.stage, "away")
    soon(flow, away=True)
    flow.stage.register_model("one of two", ["/remote/two-1", "/remote/two-2"], lambda _: None)
    if watch == "watched":
        soon(flow, two_1=True, two_2=True)
        assert [flow.get(f"/gateways/{name}")["discovered"] for name in ("two-1", "away")] == [True, False]
    else:
        flow.client.request("post", "/gateways", [{"name": "two-1"}, {"name": "two-2"}])
        soon(flow, two_1=True, two_2=True)
    flow.stage.deregister("one of two")
    flow.stage.deregister("away")
    soon(flow, two_1=False, two_2=False, away=False)
    assert [one["name"] for one in flow.get("/gateways?registered=false")] == ["away", "two-1", "two-2"]


def test_a_restarted_controller_is_asked_anew(flow: Flow) -> None:
    (gone,) = flow.played(1)
    flow.client.request("post", "/gateways", [{"name": gone.name}, {"name": "cg-1"}])
    soon(flow, **{gone.name: True}, cg_1=True)
    flow.gateway.controller.kill()
    flow.gateway.controller.start()

    path = f"/gateways/{gone.name}"
    until(lambda: flow.asked("get", path)["registered"] is False, "it has not registered again")
    soon(flow, cg_1=True)


def test_an_owner_of_many_says_nothing_of_one(tmp_path: Path) -> None:
    require("mosquitto")
    with running(tmp_path, "--to", "cg-[1-3]", shape="one-model") as flow:
        flow.client.request("put", "/gateways/cg-1", {})
        until(lambda: flow.get("/gateways/cg-1")["checkedAt"] is not None, "it was asked for")
        shown = flow.get("/gateways/cg-1")
        assert (shown["registered"], shown["lastSeenAt"]) == (None, None)
        flow.ended(flow.create(batch("get", ["cg-1"])))
        assert flow.get("/gateways/cg-1")["lastSeenAt"] is not None
        plan = flow.create({**batch("get", ["cg-1", "cg-9"]), "dryRun": True})
        assert (plan["registration"]["unknown"], plan["registration"]["unanswered"]) == (2, 0)
