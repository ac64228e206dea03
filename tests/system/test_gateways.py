"""Gateways on the real bus: put, selected by labels, destinations of a job, and there after a kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import any_broker
from tests.flow import Flow, running

MAC = "00:0c:29:1c:e8:01"


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    any_broker()
    with running(tmp_path, "--to", MAC, "--to", "cg-[1-3]") as started:
        yield started


def test_a_job_goes_to_the_gateways_that_a_selector_finds(flow: Flow) -> None:
    put = flow.client.request("put", f"/gateways/{MAC}", {"labels": {"site": "north"}})
    assert (put["code"], put["data"]["name"]) == (200, MAC)
    fleet = [{"name": f"cg-{number}", "labels": {"site": "north", "n": str(number)}} for number in (1, 2, 3)]
    answer = flow.client.request("post", "/gateways", fleet)
    assert answer["data"] == {"put": 3, "created": 3}
    flow.restart()
    listed = flow.get("/gateways?selector=site=north,n!=2&limit=2")
    assert [one["name"] for one in listed] == [MAC, "cg-1"]
    gone = flow.client.request("delete", "/gateways/cg-3")
    assert (gone["code"], gone["data"]["labels"]["n"]) == (200, "3")
    assert flow.client.request("get", "/gateways/cg-3")["code"] == 404

    item = {"method": "get", "resource": "/system/time"}
    target = {"selector": "site=north", "except": ["cg-2"]}
    job = flow.ended(flow.create({"batch": [{**item, "__request": {"destination": target}}]}))
    assert (job["finishCount"], job["targets"]) == (2, [{"item": 0, **target, "found": 2}])
    shown = flow.get(f"/gateways/{MAC}")
    last = shown["lastResult"]
    assert (last["status"], last["code"]) == ("resolved", 200)
    assert flow.get(f"/requests/{last['request']}")["__request"]["destination"] == MAC

    for body in ({"name": "x"}, [{"name": "a/b"}], []):
        assert flow.client.request("post", "/gateways", body)["code"] == 400
