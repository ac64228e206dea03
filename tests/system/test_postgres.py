"""A bundle whose jobs are in PostgreSQL, on a real bus: it dies, the server dies, another one is started."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.postgres import Cluster
from tests.conftest import any_broker
from tests.flow import SETTINGS, WAIT_S, Flow, another, batch, running


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


def test_while_one_runs_a_second_one_says_so_and_ends(flow: Flow, tmp_path: Path) -> None:
    with another(flow.gateway.bundle, tmp_path / "second", PUPPETMASTER_STANDBY="off") as second:
        assert second.wait(WAIT_S) == 75
        assert "puppetmaster cannot start: Another puppetmaster leads with postgresql:" in second.output()[-1]
    (gateway,) = flow.played(1)
    job = flow.create(batch("get", [gateway.name]))
    gateway.answer(gateway.next())
    assert flow.ended(job)["counts"]["resolved"] == 1
    assert not (tmp_path / "data" / "puppetmaster.db").exists()
