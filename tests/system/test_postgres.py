"""A bundle whose jobs are in PostgreSQL, on a real bus: it dies, the server dies, another one is started."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from puppetmaster.store.postgres.lead import LEASE_S
from sandbox.gateway import Gateway
from sandbox.postgres import Cluster
from sandbox.process import Process
from tests.bus_client import BusClient
from tests.conftest import any_broker, needed
from tests.flow import MARKER, SETTINGS, WAIT_S, Flow, batch


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, which it may kill."""
    needed(Cluster.available(), "postgresql")
    with Cluster(durable=True) as started:
        yield started


@pytest.fixture
def flow(cluster: Cluster, tmp_path: Path) -> Iterator[Flow]:
    any_broker()
    settings = {**SETTINGS, "PUPPETMASTER_STORE": cluster.url()}
    with (
        Gateway(tmp_path, fleet=["--shape", "per-gateway", "--to", MARKER], settings=settings) as gateway,
        BusClient(gateway.broker) as client,
        BusClient(gateway.broker, first_id=2**20) as stage,
    ):
        yield Flow(gateway, client, stage)


def _another(flow: Flow, directory: Path) -> Process:
    """A second bundle with the same database, which does not wait."""
    own = {"PUPPETMASTER_DATA_DIR": str(directory / "second"), "PUPPETMASTER_STANDBY": "off"}
    env = {**flow.gateway.bundle.env, **own}
    return Process.module("second", "index", env=env)


def test_a_bundle_that_is_killed_goes_on_with_its_jobs(flow: Flow, tmp_path: Path) -> None:
    first, second = flow.played(2)
    job = flow.create(batch("post", [first.name, second.name]))
    first.answer(first.next())
    sent = second.next()
    flow.until(job, lambda shown: shown["finishCount"] == 1)
    flow.restart()
    second.answer(sent)
    ended = flow.ended(job)
    assert ended["counts"]["resolved"] == 2, ended
    assert not (tmp_path / "data" / "puppetmaster.db").exists()


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


def test_while_one_runs_a_second_one_says_so_and_ends(flow: Flow, tmp_path: Path) -> None:
    with _another(flow, tmp_path) as second:
        assert second.wait(WAIT_S) == 75
        assert "puppetmaster cannot start: Another puppetmaster leads with postgresql:" in second.output()[-1]
    (gateway,) = flow.played(1)
    job = flow.create(batch("get", [gateway.name]))
    gateway.answer(gateway.next())
    assert flow.ended(job)["counts"]["resolved"] == 1


def test_who_stood_still_for_longer_than_its_lease_ends_without_a_word(
    flow: Flow, cluster: Cluster, tmp_path: Path
) -> None:
    """Another one leads meanwhile: what it had in flight is the other's."""
    (gateway,) = flow.played(1)
    job = flow.create(batch("post", [gateway.name]))
    command = gateway.next()
    flow.gateway.bundle.pause()
    gateway.answer(command)
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute("SELECT pg_sleep_until(lease_until + interval '0.1 s') FROM buses")
    second = _another(flow, tmp_path)
    second.ready = "registered with the controller"
    with second:
        assert flow.ended(job)["counts"]["resolved"] == 1, "the broker kept the answer"
        flow.gateway.bundle.resume()
        assert flow.gateway.bundle.wait(LEASE_S + WAIT_S) == 75
        assert "Another puppetmaster has taken the lead" in "\n".join(flow.gateway.bundle.output())
        assert flow.show(job)["counts"]["resolved"] == 1
        assert len(gateway.reached) == 1
