"""Two bundles with one database: the one that waits answers over HTTP as the one that leads."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection

from puppetmaster.errors import LOOK_AGAIN
from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process, free_port
from tests.conftest import require
from tests.desk import until
from tests.flow import LEADS, MARKER, SETTINGS, WAIT_S, WAITS, another, batch
from tests.web_client import fetch

NAMES = [f"cg-{number:03}" for number in range(1, 21)]


class Web:
    """The HTTP door of a bundle."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the body of its answer."""
        answer = fetch(self.port, method, path, body)
        return answer.status, answer.json

    def watch(self, path: str) -> ClientConnection:
        """A WebSocket."""
        return connect(f"ws://127.0.0.1:{self.port}{path}")

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False


class Two:
    """One that leads, and one that waits."""

    def __init__(self, cluster: Cluster, gateway: Gateway, standby: Process, ports: list[int]) -> None:
        self.cluster = cluster
        self.gateway = gateway
        self.standby = standby
        self.there, self.here = map(Web, ports)

    def ended(self, web: Web, job: int) -> Any:
        """The job, as this one shows it when it has ended."""
        until(lambda: web.ask("GET", f"/jobs/{job}")[1]["finishedAt"] is not None, "it ends")
        return web.ask("GET", f"/jobs/{job}?limit=1000")[1]

    def wait_for_the_end_of_the_lease(self) -> None:
        """From then on nobody leads, unless another one takes the lead."""
        valid = "SELECT count(*) FROM buses WHERE lease_until > now()"
        until(lambda: self.cluster.run(valid) == "0", "the lease is over")


@pytest.fixture
def two(cluster: Cluster, tmp_path: Path) -> Iterator[Two]:
    require("mosquitto")
    fleet = ["--shape", "per-gateway", "--to", MARKER, "--to", "cg-[001-020]", "--delay", "0.02"]
    ports = [free_port(), free_port()]
    doors = [{"PUPPETMASTER_HTTP": f"127.0.0.1:{port}"} for port in ports]
    settings = {**SETTINGS, "PUPPETMASTER_STORE": cluster.url(), **doors[0]}
    with (
        Gateway(tmp_path, fleet=fleet, settings=settings) as gateway,
        another(gateway.bundle, tmp_path / "second", ready=WAITS, **doors[1]) as standby,
    ):
        two = Two(cluster, gateway, standby, ports)
        until(two.here.ready, "it answers")
        yield two


#: What is asked of both: method, path, body.
ASKED: list[tuple[str, str, Any]] = [
    ("GET", "/jobs", None),
    ("GET", "/jobs/1?collection=true", None),
    ("GET", "/jobs/1/results", None),
    ("GET", "/jobs/1/events", None),
    ("GET", "/jobs/2?collection=true", None),
    ("GET", "/requests?status=pending", None),
    ("GET", "/gateways", None),
    ("GET", "/gateways/cg-001", None),
    ("GET", "/gateways/none", None),
    ("GET", "/gateways?limit=1&offset=1", None),
    ("GET", "/jobs/99", None),
    ("GET", "/jobs?color=red", None),
    ("PUT", "/jobs/99", {"status": "paused"}),
    ("PUT", "/jobs/1", {"status": "paused"}),
    ("PUT", "/jobs/1", {"status": "green", "forced": 1}),
    ("PUT", "/jobs/2?color=red", {"status": "paused"}),
    ("POST", "/jobs", {"batch": [], "concurrency": -1, "color": "red"}),
    ("POST", "/jobs", {**batch("post", ["cg-001"]), "key": "one"}),
    ("POST", "/jobs", {**batch("post", ["cg-002"]), "key": "one"}),
    ("POST", "/jobs", {**batch("post", NAMES), "dryRun": True}),
    ("POST", "/requests", {"method": "post"}),
    ("DELETE", "/jobs/99", None),
    ("DELETE", "/templates/9", None),
    ("POST", "/templates/9/jobs", {}),
    ("PUT", "/gateways/cg-003", {"labels": {"line": "3"}}),
]
#: Times of the moment, which differ from one answer to the next.
MOMENTARY = {"createdAt", "expiresAt"}


def _steady(body: Any) -> Any:
    if isinstance(body, dict):
        return {name: _steady(value) for name, value in body.items() if name not in MOMENTARY}
    if isinstance(body, list):
        return [_steady(one) for one in body]
    return body


def test_the_one_that_waits_answers_as_the_one_that_leads(two: Two) -> None:
    health = [web.ask("GET", "/health") for web in (two.there, two.here)]
    assert [(status, shown["ready"], "standby" in shown) for status, shown in health] == [
        (200, True, False),
        (200, True, True),
    ]
    assert health[0][1]["leader"]["name"] == health[1][1]["leader"]["name"]
    status, created = two.here.ask("POST", "/jobs", {**batch("post", ["cg-001"]), "key": "one"})
    assert (status, created["id"]) == (200, 1)
    assert two.ended(two.here, 1)["counts"]["resolved"] == 1
    _, waits = two.there.ask("POST", "/jobs", {**batch("post", NAMES), "startAt": "2999-01-01T00:00:00Z"})
    assert waits["id"] == 2
    shown = two.here.ask("GET", "/jobs/2?collection=true")[1]["collection"][0]["__request"]
    assert shown["whyCode"] == "start", "the one that leads was asked why it waits"
    until(
        lambda: all(one["checkedAt"] for one in two.there.ask("GET", "/gateways")[1]),
        "all gateways were asked for: what is said of them does not change between two answers",
    )
    for method, path, body in ASKED:
        told = [_steady([*web.ask(method, path, body)]) for web in (two.there, two.here)]
        assert told[0] == told[1], (method, path, body)
    for web in (two.there, two.here):
        assert fetch(web.port, "GET", "/gateways?limit=1").headers["x-total-count"] == str(len(NAMES))
    assert two.here.ask("PUT", "/jobs/2", {"status": "canceled"})[1]["status"] == "canceled"
    assert two.here.ask("DELETE", "/jobs/2")[0] == 200
    assert two.there.ask("GET", "/jobs/2")[0] == 404
    status, health = two.here.ask("GET", "/system/puppetmaster")
    assert (status, health["healthy"], health["caller"]["name"]) == (200, True, "http")
    numbers = fetch(two.here.port, "GET", "/metrics").body.decode()
    said = {line.split("{")[0] for line in numbers.splitlines() if line.startswith("puppetmaster_")}
    assert said == {"puppetmaster_build_info", "puppetmaster_leads 0.0", "puppetmaster_websockets 0.0"}


def test_it_answers_on_when_it_takes_the_lead(two: Two) -> None:
    """A job that it is asked for when the other one has just died is created by whoever leads then, once."""
    two.gateway.bundle.kill()
    status, created = two.here.ask("POST", "/jobs", {**batch("post", NAMES), "key": "one"})
    assert (status, created["id"]) == (200, 1)
    two.standby.wait_for(LEADS, WAIT_S)
    assert two.ended(two.here, 1)["counts"]["resolved"] == len(NAMES)
    until(two.here.ready, "the controller answers it")
    assert "standby" not in two.here.ask("GET", "/health")[1]
    assert two.here.ask("POST", "/jobs", {**batch("post", NAMES), "key": "one"})[1]["id"] == 1
    assert FleetLog(two.gateway.fleet_log).duplicates() == {}


def test_an_order_whose_leader_dies_is_told_as_not_known(two: Two) -> None:
    """The one that leads has taken it, and is frozen, and another one leads then."""
    told: list[tuple[int, Any]] = []
    body = {**batch("post", ["cg-001"]), "key": "one"}
    with psycopg.connect(two.cluster.url()) as lock:
        lock.execute("LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE")  # its turn cannot be written
        asking = threading.Thread(target=lambda: told.append(two.here.ask("POST", "/jobs", body)))
        asking.start()
        until(
            lambda: two.cluster.run("SELECT count(*) FROM orders WHERE epoch IS NOT NULL") == "1",
            "it is taken",
        )
        two.gateway.bundle.kill()
    asking.join(WAIT_S)
    ((status, answer),) = told
    assert status == 503
    assert answer["message"] == f"Not confirmed, since another puppetmaster leads now: {LOOK_AGAIN}."
    two.standby.wait_for(LEADS, WAIT_S)
    jobs = [two.here.ask("POST", "/jobs", body)[1]["id"] for _ in range(2)]
    assert jobs[0] == jobs[1], "the key tells"
    two.ended(two.here, jobs[0])
    assert FleetLog(two.gateway.fleet_log).duplicates() == {}


def test_while_nobody_leads_reads_go_on(two: Two) -> None:
    """Whoever could lead is kept from it: the row of the bus is locked."""
    two.there.ask("POST", "/jobs", {**batch("post", ["cg-001"]), "startAt": "2999-01-01T00:00:00Z"})
    with psycopg.connect(two.cluster.url()) as lock:
        lock.execute("SELECT FROM buses FOR UPDATE")
        two.gateway.bundle.kill()
        two.wait_for_the_end_of_the_lease()
        status, answer = two.here.ask("POST", "/jobs", batch("post", ["cg-001"]))
        assert (status, answer["message"].startswith("No puppetmaster leads")) == (503, True)
        assert two.here.ask("GET", "/health")[0] == 503
        for path in ("/jobs", "/jobs/1?collection=true", "/gateways", "/requests"):
            assert two.here.ask("GET", path)[0] == 200
    two.standby.wait_for(LEADS, WAIT_S)
    assert len(two.here.ask("GET", "/jobs")[1]) == 1


def test_changes_are_told_by_both(two: Two) -> None:
    """And go on to be told by the one that takes the lead, on the same connection."""
    with two.there.watch("/jobs/ws") as there, two.here.watch("/jobs/ws") as here:
        _, created = two.there.ask("POST", "/jobs", batch("post", NAMES))
        shown = [_seen(frames, lambda job: job["finishedAt"] is not None) for frames in (there, here)]
        assert shown[0] == shown[1] == {**two.ended(two.there, 1), "requests": created["requests"]}
        two.there.ask("DELETE", "/jobs/1")
        shown = [_seen(frames, lambda job: job["status"] == "deleted") for frames in (there, here)]
        assert shown[0] == shown[1]
        two.there.ask("POST", "/jobs", batch("post", NAMES, rate=4))
        with two.here.watch("/jobs/ws/2?collection=true") as requests:
            assert len(_seen(requests, lambda job: job["counts"]["resolved"] > 2)["collection"]) > 0
            two.gateway.bundle.kill()
            ended = _seen(requests, lambda job: job["finishedAt"] is not None)
        assert _seen(here, lambda job: job["finishedAt"] is not None)["counts"] == ended["counts"]
    assert FleetLog(two.gateway.fleet_log).duplicates() == {}


def test_an_api_server_needs_no_broker_and_never_leads(two: Two, tmp_path: Path) -> None:
    web = Web(free_port())
    env = {
        "PUPPETMASTER_ROLE": "api",
        "PUPPETMASTER_STORE": two.cluster.url(),
        "PUPPETMASTER_HTTP": f"127.0.0.1:{web.port}",
        "PUPPETMASTER_DATA_DIR": str(tmp_path / "third"),
        "BROKER_PORT_1883_TCP_PORT": "1",
    }
    with Process.module("api", "index", env=env, ready="answers for those that lead") as server:
        until(web.ready, "it answers")
        with web.watch("/jobs/ws") as frames:
            assert web.ask("POST", "/jobs", batch("post", NAMES))[1]["id"] == 1
            assert _seen(frames, lambda job: job["finishedAt"] is not None)["counts"]["resolved"] == len(
                NAMES
            )
        two.standby.kill()
        two.gateway.bundle.kill()
        two.wait_for_the_end_of_the_lease()
        assert web.ask("POST", "/jobs", batch("post", NAMES))[0] == 503
        assert web.ask("GET", "/jobs/1")[1]["counts"]["resolved"] == len(NAMES)
        assert not web.ready()
        assert server.terminate() == 0


def _seen(frames: Connection, holds: Callable[[Any], bool]) -> Any:
    """The first frame for which it holds, without its number."""
    while True:
        job = json.loads(frames.recv(WAIT_S))
        if holds(job):
            del job["seq"]
            return job
