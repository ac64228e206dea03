"""Jobs on the real bus, controlled and over kills of the bundle: when commands arrive, what is shown."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bus_client import BusClient, Message
from tests.conftest import any_broker
from tests.flow import Flow, Played, batch, names, running

MAC = "00:0c:29:1c:e8:01"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    any_broker()
    fleet = ["--to", MAC, "--to", "cg-[01-24]", "--to", "bad-[1-9]", "--fail", "bad-[1-9]:500"]
    with running(tmp_path_factory.mktemp("flow"), *fleet) as started:
        yield started


@pytest.fixture
def flow(system: Flow) -> Flow:
    """The system that all tests here share; a test that failed may have left it without its bundle."""
    system.start()
    return system


def begun(flow: Flow) -> tuple[Message, list[Played], Message]:
    """A job for three gateways, one after the other, with its first command in flight."""
    gateways = flow.played(3)
    job = flow.create(batch("post", names(gateways), concurrency=1))
    return job, gateways, gateways[0].next()


def reached(gateways: list[Played]) -> list[int]:
    return [len(gateway.reached) for gateway in gateways]


# -- pause, resume, cancel, delete -------------------------------------------------------------------


def test_a_paused_job_sends_nothing_until_it_is_resumed(flow: Flow) -> None:
    job, gateways, command = begun(flow)
    paused = flow.control(job, "paused")
    assert (paused["status"], paused["reason"]) == ("paused", "paused by a request")
    flow.kill()
    gateways[0].answer(command)  # what was in flight ends, even if nobody is there to hear it
    flow.start()
    flow.until(job, lambda shown: shown["finishCount"] == 1)
    flow.sent_by_now()
    assert flow.show(job)["status"] == "paused"
    assert flow.whys(job) == [None, "the job is paused", "the job is paused"]
    assert reached(gateways) == [1, 0, 0]

    assert flow.control(job, "dispatching")["status"] == "dispatching"
    for gateway in gateways[1:]:
        gateway.answer(gateway.next())
    end = flow.ended(job)
    assert (end["status"], end["finishCount"], end["reason"]) == ("resolved", 3, None)
    assert reached(gateways) == [1, 1, 1]


def test_a_canceled_job_lets_end_what_is_in_flight(flow: Flow) -> None:
    job, gateways, command = begun(flow)
    stopping = flow.control(job, "canceled")
    assert (stopping["reason"], stopping["finishedAt"]) == ("canceled by a request", None)
    assert flow.statuses(job) == ["sent", "canceled", "canceled"]
    flow.restart()
    gateways[0].answer(command)
    end = flow.until(job, lambda shown: shown["finishCount"] == 1)
    assert (end["status"], end["reason"]) == ("canceled", "canceled by a request")
    assert (end["finishCount"], end["errorCount"], end["counts"]["canceled"]) == (1, 2, 2)
    flow.restart()
    assert flow.show(job) == end
    assert flow.client.request("put", f"/jobs/{job['id']}", {"status": "dispatching"})["code"] == 409
    flow.sent_by_now()
    assert reached(gateways) == [1, 0, 0]


def test_a_job_can_be_removed_in_the_middle(flow: Flow) -> None:
    job, gateways, command = begun(flow)
    removed = flow.client.request("delete", f"/jobs/{job['id']}")
    assert (removed["code"], removed["data"]["status"], removed["data"]["doneCount"]) == (200, "canceled", 3)
    flow.restart()
    gateways[0].answer(command)  # dropped: nobody asks any more
    flow.sent_by_now()
    assert flow.client.request("get", f"/jobs/{job['id']}")["code"] == 404
    for id_ in job["requests"]:
        assert flow.client.request("get", f"/requests/{id_}")["code"] == 404
    assert job["id"] not in [one["id"] for one in flow.get("/jobs")]
    assert reached(gateways) == [1, 0, 0]

    again = flow.create(batch("post", names(gateways)))
    assert again["id"] > job["id"]
    assert min(again["requests"]) > max(job["requests"])
    for gateway in gateways:
        gateway.answer(gateway.next())
    assert flow.ended(again)["finishCount"] == 3
    assert reached(gateways) == [2, 1, 1]


# -- when commands reach the gateways ----------------------------------------------------------------


def test_a_write_that_may_run_twice_is_tried_again_once_its_lock_is_free(flow: Flow) -> None:
    [gateway] = flow.played(1)
    retry = {"attempts": 2, "on": ["timeout"], "delay": 0}
    body = batch("post", [gateway.name], requestTimeout=0.4, retry=retry, idempotent=True)
    job = flow.create(body)
    first = gateway.next()
    ours = f"locked by request {job['requests'][0]}, which was not answered in its time"
    flow.until(job, lambda _: ours in str(flow.whys(job)[0]))
    gateway.answer(first, 500)
    gateway.answer(gateway.next())
    flow.until(job, lambda shown: shown["finishCount"] == 1)
    [request] = flow.requests(job)
    assert (request["attempts"], len(gateway.reached)) == (2, 2)
    [attempt] = request["history"]
    assert (attempt["status"], attempt["result"]["code"], attempt["result"]["late"]) == ("error", 500, True)


def test_one_write_per_lock_and_locks_side_by_side(tmp_path: Path) -> None:
    any_broker()
    delay_s = 0.3
    groups = [[f"cg-{group}{number}" for number in range(4)] for group in range(3)]
    to = [name for numbered in zip(*groups, strict=True) for name in numbered]
    fleet = [word for group in groups for name in group for word in ("--to", name)]
    with running(tmp_path, *fleet, "--delay", str(delay_s), shape="grouped:4") as flow:
        sendings = spy(flow.client)
        job = flow.create(batch("post", to))
        assert flow.ended(job)["finishCount"] == 12
        commands = flow.commands(*to)
    arrived = [
        sorted(command.t_s for command in commands if command.destination in group) for group in groups
    ]
    assert [len(times) for times in arrived] == [4, 4, 4]
    for times in arrived:
        assert min(later - earlier for earlier, later in pairwise(times)) > delay_s * 0.9
    at_once = max(sum(one.t_s <= command.t_s < one.t_s + delay_s for one in commands) for command in commands)
    assert 1 < at_once <= 3
    assert len(sendings) == 12, "no lock was ever found held"


def spy(client: BusClient) -> list[Message]:
    """What is sent to gateways from now on, also what the controller does not pass on."""
    seen: list[Message] = []

    def look(payload: bytes) -> None:
        message = json.loads(payload)
        if "code" not in message and str(message["resource"]).startswith("/remote/cg-"):
            seen.append(message)

    client.subscribe("/controller", look)
    return seen


# -- what is in a job ----------------------------------------------------------------------------------


def test_what_failed_runs_again_as_a_job_of_its_own(flow: Flow) -> None:
    gateways = flow.played(4)
    item = {"method": "put", "resource": "/network", "data": {"dhcp": True}}
    body = {"batch": [{**item, "__request": {"destination": names(gateways)}}], "concurrency": 1}
    job = flow.create({**body, "abort": {"errors": 1}})
    for gateway, code in zip(gateways, [200, 500, 503], strict=False):
        gateway.answer(gateway.next(), code)
    assert flow.ended(job)["status"] == "aborted"
    assert flow.statuses(job) == ["resolved", "error", "error", "skipped"]

    again = flow.create({"rerun": {"job": job["id"], "status": ["error"]}})
    assert (again["parent"], again["totalCount"]) == (job["id"], 2)
    for gateway in gateways[1:3]:
        message = gateway.next()
        assert message["data"] == item
        gateway.answer(message)
    assert flow.ended(again)["finishCount"] == 2
    assert [request["destination"] for request in flow.requests(again)] == names(gateways[1:3])
    assert flow.statuses(job) == ["resolved", "error", "error", "skipped"]
    assert reached(gateways) == [1, 2, 2, 0]


# -- to whom a job goes --------------------------------------------------------------------------------


def test_a_job_goes_to_the_gateways_that_a_selector_finds(flow: Flow) -> None:
    put = flow.client.request("put", f"/gateways/{MAC}", {"labels": {"site": "north"}})
    assert (put["code"], put["data"]["name"]) == (200, MAC)
    fleet = [{"name": f"cg-2{number}", "labels": {"site": "north", "n": str(number)}} for number in (1, 2, 3)]
    answer = flow.client.request("post", "/gateways", fleet)
    assert answer["data"] == {"put": 3, "created": 3}
    flow.restart()
    listed = flow.get("/gateways?selector=site=north,n!=2&limit=2")
    assert [one["name"] for one in listed] == [MAC, "cg-21"]
    gone = flow.client.request("delete", "/gateways/cg-23")
    assert (gone["code"], gone["data"]["labels"]["n"]) == (200, "3")
    assert flow.client.request("get", "/gateways/cg-23")["code"] == 404

    item = {"method": "get", "resource": "/system/time"}
    target = {"selector": "site=north", "except": ["cg-22"]}
    job = flow.ended(flow.create({"batch": [{**item, "__request": {"destination": target}}]}))
    assert (job["finishCount"], job["targets"]) == (2, [{"item": 0, **target, "found": 2}])
    shown = flow.get(f"/gateways/{MAC}")
    last = shown["lastResult"]
    assert (last["status"], last["code"]) == ("resolved", 200)
    assert flow.get(f"/requests/{last['request']}")["__request"]["destination"] == MAC

    for body in ({"name": "x"}, [{"name": "a/b"}], []):
        assert flow.client.request("post", "/gateways", body)["code"] == 400
