"""A bundle whose jobs are in PostgreSQL, on a real bus: it dies, the server dies, another one is started."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.postgres import Cluster
from sandbox.process import free_port
from tests.conftest import any_broker
from tests.desk import until
from tests.flow import SETTINGS, WAIT_S, Flow, another, batch, running
from tests.web_client import fetch

#: From SIGTERM to the end, whatever the database does.
STOPS_S = 20.0


@pytest.fixture
def flow(cluster: Cluster, tmp_path: Path) -> Iterator[Flow]:
    any_broker()
    with running(tmp_path, settings={**SETTINGS, "PUPPETMASTER_STORE": cluster.url()}) as started:
        yield started


def test_a_server_that_is_killed_holds_everything_up_until_it_is_back(flow: Flow, cluster: Cluster) -> None:
    first, second = flow.played(2)
    job = flow.create(batch("post", [first.name]))
    command = first.next()
    cluster.process.kill()
    first.answer(command)
    refused = flow.client.request("post", "/jobs", batch("post", [second.name]))
    assert refused["code"] == 503, refused
    cluster.start()
    flow.until(job, lambda shown: shown["finishedAt"] is not None)
    assert flow.ended(job)["counts"]["resolved"] == 1
    later = flow.create(batch("post", [second.name]))
    second.answer(second.next())
    assert flow.ended(later)["counts"]["resolved"] == 1
    assert (len(first.reached), len(second.reached)) == (1, 1)


@pytest.mark.parametrize("writes", [True, False], ids=["a write waits", "only the lease is to be renewed"])
def test_health_says_that_a_write_waits_for_a_standby_server(
    flow: Flow, cluster: Cluster, writes: bool
) -> None:
    """Its COMMIT does not return before the standby has it."""
    (gateway,) = flow.played(1)
    cluster.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    cluster.run("SELECT pg_reload_conf()")
    if writes:
        flow.client.ask("post", "/jobs", batch("post", [gateway.name]))
    begun_s = time.monotonic()
    said = ""
    while "synchronous_standby_names = 'nobody'" not in said:
        assert time.monotonic() - begun_s < WAIT_S, said
        answer = flow.stage.request("get", "/system/puppetmaster")
        data = answer["data"]
        said = str(data["store"]["reason"] if answer["code"] == 200 else data["message"])
    assert "SELECT pg_reload_conf()" in said
    assert answer["code"] == 503 or not data["healthy"]
    cluster.run("ALTER SYSTEM RESET synchronous_standby_names")
    cluster.run("SELECT pg_reload_conf()")
    if not writes:
        flow.client.ask("post", "/jobs", batch("post", [gateway.name]))
    gateway.answer(gateway.next())
    flow.until({"id": 1}, lambda shown: shown["finishedAt"] is not None)
    assert flow.stage.request("get", "/system/puppetmaster")["data"]["store"]["writable"]


def test_a_server_that_is_frozen_holds_nothing_up_without_an_end(cluster: Cluster, tmp_path: Path) -> None:
    """Its connections stay open, and nothing answers."""
    any_broker()
    port = free_port()
    web = {"PUPPETMASTER_STORE": cluster.url(), "PUPPETMASTER_HTTP": f"127.0.0.1:{port}"}
    with running(tmp_path, settings={**SETTINGS, **web}) as flow:
        (gateway,) = flow.played(1)
        assert fetch(port, "GET", "/jobs").json == []
        with cluster.frozen():
            answer = fetch(port, "GET", "/jobs")
            assert answer.status == 503
            assert answer.json["message"] == f"{cluster.url()} cannot be read: it did not answer within 5 s."
            health = until(lambda: _unwell(port), "health says so")
            assert cluster.url() in str(health)
        until(lambda: fetch(port, "GET", "/health").status == 200, "it goes on")
        job = flow.create(batch("post", [gateway.name]))
        gateway.answer(gateway.next())
        assert flow.ended(job)["counts"]["resolved"] == 1
        with cluster.frozen():
            assert flow.gateway.bundle.terminate(STOPS_S) in {0, 1}


def _unwell(port: int) -> object:
    """What /health says is wrong; None: nothing."""
    answer = fetch(port, "GET", "/health")
    return answer.json if answer.status == 503 else None


def test_while_one_runs_a_second_one_says_so_and_ends(flow: Flow, tmp_path: Path) -> None:
    with another(flow.gateway.bundle, tmp_path / "second", PUPPETMASTER_STANDBY="off") as second:
        assert second.wait(WAIT_S) == 75
        assert "puppetmaster cannot start: Another puppetmaster leads with postgresql:" in second.output()[-1]
    (gateway,) = flow.played(1)
    job = flow.create(batch("get", [gateway.name]))
    gateway.answer(gateway.next())
    assert flow.ended(job)["counts"]["resolved"] == 1
    assert not (tmp_path / "data" / "puppetmaster.db").exists()
