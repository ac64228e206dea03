"""The whole thing: the bundle as a process, a real broker, the stand-in controller, a simulated fleet."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.bundle import sdk
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.process import Process
from tests.bus_client import BusClient
from tests.conftest import any_broker
from tests.desk import until
from tests.flow import batch

MACS = ["00:0c:29:1c:e8:01", "00:0c:29:1c:e8:02", "00:0c:29:1c:e8:03"]
REBOOT = {
    "timeout": 36000,
    "batch": [
        {
            "method": "post",
            "resource": "/system/reboot",
            "data": {},
            "__request": {"destination": MACS},
        }
    ],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    any_broker()
    return tmp_path


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with three remote ones, named by their MAC addresses, each with a model of its own.

    It is the same for all tests that break nothing of it: each makes jobs of its own.
    """
    any_broker()
    fleet = ["--shape", "per-gateway", *(word for mac in MACS for word in ("--to", mac))]
    with Gateway(tmp_path_factory.mktemp("gateway"), fleet=fleet) as started:
        yield started


@pytest.fixture
def client(gateway: Gateway) -> Iterator[BusClient]:
    with BusClient(gateway.broker) as connected:
        yield connected


def names(count: int) -> list[str]:
    return [f"cg-{number:04d}" for number in range(1, count + 1)]


def ended(client: BusClient, job_id: int, timeout_s: float = 60) -> dict[str, Any]:
    """The job once it has ended, as the events on the bus told."""
    news = client.register_view(f"watch-{job_id}", [f"/jobs/{job_id}"])
    job: dict[str, Any] = client.request("get", f"/jobs/{job_id}?collection=false")["data"]
    while job["finishedAt"] is None:
        job = news.get(timeout=timeout_s)["data"]
    client.deregister(f"watch-{job_id}")
    return job


def test_the_missions_example(gateway: Gateway, client: BusClient) -> None:
    answer = client.request("post", "/jobs", REBOOT)
    assert answer["code"] == 200
    created = answer["data"]
    assert created["status"] == "dispatching"
    assert created["startedAt"] is None
    assert created["counts"]["pending"] == created["totalCount"] == 3
    assert len(created["requests"]) == 3

    job = ended(client, created["id"])
    assert (job["status"], job["progress"], job["finishCount"], job["errorCount"]) == ("resolved", 100, 3, 0)
    assert job["timeout"] == 36000

    shown = client.request("get", f"/jobs/{created['id']}")["data"]
    assert [request["__request"]["destination"] for request in shown["requests"]] == MACS
    assert [request["id"] for request in shown["requests"]] == created["requests"]
    for request in shown["requests"]:
        assert request["__request"]["status"] == "resolved"
        assert request["__request"]["result"]["code"] == 200
        assert request["__request"]["result"]["source"] == "device"
        assert client.request("get", f"/request/{request['id']}")["data"] == request

    commands = FleetLog(gateway.fleet_log).commands()
    commands = [command for command in commands if command.id in created["requests"]]
    assert sorted(command.destination for command in commands) == MACS
    assert {(command.method, command.resource) for command in commands} == {("post", "/system/reboot")}


def test_every_resource_answers_on_the_bus(client: BusClient) -> None:
    def get(resource: str) -> Any:
        answer = client.request("get", resource)
        assert answer["code"] == 200, answer
        return answer["data"]

    ended_there = f"/requests?destination={MACS[0]}&status=resolved,error"
    before, there_before = len(get("/requests")), len(get(ended_there))
    job = client.request("post", "/jobs", {**batch("get", MACS), "name": "times"})["data"]
    ended(client, job["id"])
    told = [(one["event"], one["by"]) for one in get(f"/jobs/{job['id']}/events")]
    assert told == [("created", "bus"), ("started", "puppetmaster"), ("ended", "puppetmaster")]
    assert job["createdBy"] == "bus"
    request = client.request(
        "post", "/requests", {"destination": MACS[0], "message": batch("get", MACS)["batch"][0]}
    )
    assert request["code"] == 400  # an item of a batch is not a message: __request is unknown there
    message = {"method": "get", "resource": "/system/time"}
    request = client.request("post", "/requests", {"destination": MACS[0], "message": message})["data"]
    assert request["__request"]["destination"] == MACS[0]
    ended(client, request["job"])

    jobs = get("/jobs")[:2]
    assert [one["id"] for one in jobs] == [request["job"], job["id"]]
    assert all("requests" not in one and "collection" not in one for one in jobs)
    assert [one["id"] for one in get("/jobs?name=times")] == [job["id"]]
    assert get(f"/jobs?destination={MACS[1]}")[0]["id"] == job["id"]
    assert [one["id"] for one in get("/jobs?status=resolved&limit=1&offset=1")] == [job["id"]]
    assert get("/jobs?status=paused") == []
    assert get("/jobs?failed=true&name=times") == []
    assert len(get("/jobs?collection=true&name=times")[0]["collection"]) == 3
    with_collection = get(f"/jobs/{job['id']}?collection=true")
    assert with_collection["requests"] == job["requests"]
    assert with_collection["collection"] == get(f"/jobs/{job['id']}")["requests"]
    assert get(f"/jobs/{job['id']}?limit=1&offset=1")["requests"] == with_collection["collection"][1:2]
    assert len(get("/requests")) == before + 4
    assert len(get(ended_there)) == there_before + 2
    assert [one["id"] for one in get(f"/jobs/{job['id']}/requests?limit=2")] == job["requests"][:2]
    assert get(f"/requests/{request['id']}")["__request"]["status"] == "resolved"
    health = get("/system/puppetmaster")
    assert health["healthy"] is True
    assert health["counters"]["inFlight"] == 0

    removed = client.request("delete", f"/jobs/{job['id']}")
    assert (removed["code"], removed["data"]["status"]) == (200, "resolved")
    assert client.request("get", f"/jobs/{job['id']}")["code"] == 404
    assert client.request("get", f"/requests/{job['requests'][0]}")["code"] == 404
    assert client.request("delete", f"/jobs/{job['id']}")["code"] == 404
    assert client.request("get", "/jobs/none")["code"] == 404


def test_errors_name_every_fault_and_change_nothing(client: BusClient) -> None:
    before = client.request("get", "/jobs")["data"]
    answer = client.request("post", "/jobs", {"batch": [{"method": "fly", "resource": "x"}], "concurency": 3})
    assert answer["code"] == 400
    paths = {fault["path"] for fault in answer["data"]["errors"]}
    assert paths == {"concurency", "batch[0].method", "batch[0].resource", "batch[0].__request.destination"}
    assert client.request("get", "/jobs?limt=3")["code"] == 400
    assert client.request("put", "/jobs", {})["code"] == 405
    assert client.request("get", "/jobs")["data"] == before


@pytest.mark.timeout(240)  # the real controller takes up to 90 s to register them
@pytest.mark.parametrize("shape", ["one-model", "per-gateway"])
def test_a_thousand_gateways_each_run_it_once(directory: Path, shape: str) -> None:
    fleet = ["--shape", shape, "--to", "cg-[0001-1000]"]
    with Gateway(directory, fleet=fleet) as gateway, BusClient(gateway.broker) as client:
        with BusClient(gateway.broker, first_id=2**20) as other:
            # Somebody else takes the same locks all the while.
            stop = threading.Event()
            rival = threading.Thread(target=_disturb, args=(other, stop), name="rival")
            rival.start()
            try:
                job = client.request("post", "/jobs", batch("post", names(1000)))["data"]
                end = ended(client, job["id"])
            finally:
                stop.set()
                rival.join()
        assert (end["finishCount"], end["status"]) == (1000, "resolved")
        ours = [command for command in FleetLog(gateway.fleet_log).commands() if command.id >= 2**31]
        assert len(ours) == 1000
        assert len({command.destination for command in ours}) == 1000


def _disturb(client: BusClient, stop: threading.Event) -> None:
    command = {"method": "post", "resource": "/system/time", "data": {}}
    while not stop.is_set():
        client.request("post", "/remote/cg-0500", command)
        stop.wait(0.002)


def test_a_thousand_reads_go_side_by_side(directory: Path) -> None:
    fleet = ["--shape", "one-model", "--to", "cg-[0001-1000]", "--delay", "0.05"]
    with Gateway(directory, fleet=fleet) as gateway, BusClient(gateway.broker) as client:
        job = client.request("post", "/jobs", batch("get", names(1000)))["data"]
        assert ended(client, job["id"])["finishCount"] == 1000
        commands = FleetLog(gateway.fleet_log).commands()
        first, last = commands[0].t_s, commands[-1].t_s
        assert len(commands) == 1000
        assert last - first < 1000 * 0.05 / 4  # one after the other it would be 50 s


def test_another_bundle_follows_a_job_with_the_plain_sdk(gateway: Gateway) -> None:
    """As any bundle does it: the SDK's blocking calls, nothing of ours but the shims."""

    class Caller(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
        """A bundle that only calls."""

        def init(self, *args: Any, **kwargs: Any) -> None:
            self.reg_delay = 0
            self.outcome: dict[str, Any] | None = None

        def run(self) -> None:
            job = self.publish.direct.post("/jobs", data=REBOOT, timeout=10).data
            while job["finishedAt"] is None:
                job = self.publish.direct.get(f"/jobs/{job['id']}", timeout=10).data
            self.outcome = job
            self.stop_event.set()

    profile = sdk.Bundle(bundle_dir=str(gateway.directory), load=False)
    profile.profile = {"name": "caller", "description": "calls", "role": "model", "ttl": 10, "resources": []}
    caller = Caller(bundle=profile, connection=sdk.connection(gateway.broker.host, gateway.broker.port))
    runner = threading.Thread(target=caller.start, name="caller")
    runner.start()
    runner.join(timeout=30)
    assert not runner.is_alive()
    assert caller.outcome is not None
    assert (caller.outcome["status"], caller.outcome["finishCount"]) == ("resolved", 3)


def test_the_file_of_settings_counts_for_every_connection_and_the_log(directory: Path) -> None:
    with Gateway(directory) as gateway:
        broker = gateway.broker
        gateway.bundle.terminate()
        told = {
            "brokerHost": broker.host,
            "brokerPort": broker.port,
            "logLevel": "debug",
            "http": "off",
            "booting": 0,
        }
        (directory / "data" / "puppetmaster.json").write_text(json.dumps(told))
        variables = {
            name: "" for name in gateway.bundle.env if name.endswith(("ADDR", "PORT", "HTTP", "BOOTING_S"))
        }
        bundle = Process.module(
            "puppetmaster",
            "index",
            env={**gateway.bundle.env, **variables},
            ready="registered with the controller",
        )
        with bundle, BusClient(broker) as client:

            def bus() -> Any:
                return client.request("get", "/system/puppetmaster")["data"]["bus"]

            # the SDK's connection has registered us; the dispatcher's own asks the controller by itself
            until(lambda: bus()["controller"], "the controller answers the dispatcher's connection")
            assert bus() == {"connected": True, "controller": True, "registered": True, "reason": None}
            assert any(" DEBUG " in line for line in bundle.output())


def test_it_starts_before_its_broker(directory: Path) -> None:
    gateway = Gateway(directory, fleet=["--to", "cg-0001"])
    gateway.bundle.ready = None
    gateway.bundle.start()
    gateway.bundle.wait_for("keeps its jobs in", 10)
    try:
        gateway.start(bundle=False)
        gateway.bundle.wait_for("registered with the controller", 15)
        with BusClient(gateway.broker) as client:
            job = client.request("post", "/jobs", batch("get", ["cg-0001"]))["data"]
            assert ended(client, job["id"])["finishCount"] == 1
    finally:
        gateway.bundle.terminate()
        gateway.stop()


def test_it_ends_cleanly_in_the_middle_of_a_job(directory: Path) -> None:
    fleet = ["--to", "cg-[0001-0100]", "--delay", "0.1"]
    with Gateway(directory, fleet=fleet) as gateway, BusClient(gateway.broker) as client:
        client.request("post", "/jobs", batch("post", names(100)))
        until(lambda: len(FleetLog(gateway.fleet_log).commands()) >= 3, "commands arrive")
        gateway.bundle.terminate()
        assert gateway.bundle.wait(3) == 0
        assert not any("Traceback" in line for line in gateway.bundle.output())
        assert client.request("get", "/jobs")["code"] == 404  # it has taken its registration back
