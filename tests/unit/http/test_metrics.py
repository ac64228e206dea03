"""What Prometheus is told, before and after something happened."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from puppetmaster import __version__
from puppetmaster.bus.client import BridgeChanged
from puppetmaster.dispatcher import BOUNDS_S, Tally
from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.desk import until
from tests.web_client import Answer, Door, batch, fetch, running


def numbers(answer: Answer) -> dict[str, float]:
    """Every sample by its name and labels."""
    assert answer.status == 200
    families = text_string_to_metric_families(answer.body.decode())
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_jobs_and_requests_are_counted_by_status_and_those_that_ended_for_ever(door: Door) -> None:
    before = numbers(door.ask("GET", "/metrics"))
    assert before["puppetmaster_jobs,dispatching"] == before["puppetmaster_requests,pending"] == 0
    door.ask("POST", "/jobs", batch("a", "b", "c"))
    door.ask("POST", "/jobs", batch("a"))
    door.ask("PUT", "/jobs/2", {"status": "canceled"})
    after = numbers(door.ask("GET", "/metrics"))
    assert (after["puppetmaster_jobs,dispatching"], after["puppetmaster_jobs,canceled"]) == (1, 1)
    assert (after["puppetmaster_requests,pending"], after["puppetmaster_requests,canceled"]) == (3, 1)
    assert after["puppetmaster_commit_seconds_count"] > before["puppetmaster_commit_seconds_count"]
    assert after["puppetmaster_commit_seconds_bucket,+Inf"] == after["puppetmaster_commit_seconds_count"]
    assert after["puppetmaster_store_bytes"] > 0
    assert (after["puppetmaster_store_writable"], after["puppetmaster_bus_connected"]) == (1, 0)
    assert (after["puppetmaster_refusals_total,423"], after["puppetmaster_retries_total"]) == (0, 0)
    assert "puppetmaster_requests_ended_total,pending" not in before
    assert before["puppetmaster_requests_ended_total,canceled"] == 0
    door.ask("DELETE", "/jobs/1")  # it had not ended
    door.ask("DELETE", "/jobs/2")
    gone = numbers(door.ask("GET", "/metrics"))
    assert (gone["puppetmaster_jobs,canceled"], gone["puppetmaster_jobs_ended_total,canceled"]) == (0, 2)
    assert gone["puppetmaster_requests_ended_total,canceled"] == 4


def test_the_age_of_the_oldest_that_waits_is_told(door: Door) -> None:
    assert numbers(door.ask("GET", "/metrics"))["puppetmaster_oldest_waiting_seconds"] == 0
    door.ask("POST", "/jobs", batch("a"))
    first = numbers(door.ask("GET", "/metrics"))["puppetmaster_oldest_waiting_seconds"]
    door.ask("POST", "/jobs", batch("b"))
    assert 0 < first <= numbers(door.ask("GET", "/metrics"))["puppetmaster_oldest_waiting_seconds"]
    door.ask("PUT", "/jobs/1", {"status": "paused"})
    door.ask("PUT", "/jobs/2", {"status": "paused"})  # an operator wants it to wait
    assert numbers(door.ask("GET", "/metrics"))["puppetmaster_oldest_waiting_seconds"] == 0


def test_who_runs_since_when_and_how_long_turns_take(shared: Door) -> None:
    told = numbers(shared.ask("GET", "/metrics"))
    assert told[f"puppetmaster_build_info,{__version__}"] == 1
    assert 0 < told["process_start_time_seconds"] <= time.time()
    assert told["puppetmaster_turn_seconds_count"] > 0
    assert told["puppetmaster_leads"] == 1


def test_subscribers_are_counted(door: Door) -> None:
    door.ask("POST", "/jobs", batch("a"))
    with door.watch("/jobs/1/ws") as watching:
        watching.recv(timeout=10)
        assert numbers(door.ask("GET", "/metrics"))["puppetmaster_websockets"] == 1


def test_bridges_and_owners_of_many_gateways_are_counted(door: Door) -> None:
    """Here, and where the bundle says how it is; what the broker keeps is no change."""

    def told() -> dict[str, Any]:
        told: dict[str, Any] = door.ask("GET", "/system/puppetmaster").json["gateways"]
        found = numbers(door.ask("GET", "/metrics"))
        assert found["puppetmaster_gateways,connected"] == told["connected"]
        assert found["puppetmaster_gateways,away"] == told["away"]
        assert found["puppetmaster_gateway_changes_total"] == told["changes"]
        for owner, one in told["owners"].items():
            assert found[f"puppetmaster_owner_window,{owner}"] == one["window"]
            assert found[f"puppetmaster_owner_busy,{owner}"] == one["busy"]
        return told

    counts = ("connected", "away", "changes", "registered", "notRegistered", "unknown")
    nobody = {**dict.fromkeys(counts, 0), "watched": True, "route": "remote", "owners": {}}
    assert told() == nobody
    dispatcher = door.app.site.dispatcher
    bridges = [("cg-1", True), ("cg-2", True), ("cg-3", False)]
    dispatcher.post([BridgeChanged(name, connected, retained=True) for name, connected in bridges])
    dispatcher.post([BridgeChanged("cg-2", connected=False)])
    dispatcher.look(lambda engine: engine.scheduler.owners.of("/remote/+").send(0.0), 5)
    owners = {"/remote/+": {"window": 2, "busy": 1}}
    assert told() == {**nobody, "connected": 1, "away": 2, "changes": 1, "owners": owners}


def test_requests_that_wait_for_gateways_are_counted(door: Door) -> None:
    door.app.site.dispatcher.post([BridgeChanged("a", connected=False)])
    door.ask("POST", "/jobs", batch("a", "b", deliveryTimeout=60))
    until(
        lambda: numbers(door.ask("GET", "/metrics"))["puppetmaster_waiting_for_gateways"] == 1,
        "one waits for its gateway",
    )


def test_each_number_says_what_it_is(shared: Door) -> None:
    answer = shared.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.name.startswith(("puppetmaster_", "process_"))
        assert re.match(r"[A-Z0-9]", family.documentation)


def test_no_global_registry_is_touched(tmp_path: Path) -> None:
    for part in ("one", "two"):
        with running(tmp_path / part):
            pass
    assert not any("puppetmaster" in family.name for family in REGISTRY.collect())


def test_what_went_over_a_real_bus_is_counted(tmp_path: Path) -> None:
    require("mosquitto")
    port = free_port()
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{port}"}
    fleet = ["--shape", "per-gateway", "--to", "cg-[1-5]"]
    with Gateway(tmp_path, fleet=fleet, settings=settings) as gateway, BusClient(gateway.broker) as bus:
        health = fetch(port, "GET", "/health")
        assert (health.status, health.json) == (200, {"ready": True, "reasons": []})
        news = bus.register_view("watch", ["/jobs/1"])
        created = fetch(port, "POST", "/jobs", batch(*(f"cg-{number}" for number in range(1, 6))))
        assert created.status == 200
        while news.get(timeout=30)["data"]["status"] != "resolved":
            pass
        counted = numbers(fetch(port, "GET", "/metrics"))
        shown = bus.request("get", "/jobs/1")["data"]
        assert fetch(port, "GET", "/jobs/1").json == shown  # behind both doors the same
    assert counted["puppetmaster_dispatch_seconds_count"] == 5
    assert counted["puppetmaster_requests,resolved"] == 5
    assert (counted["puppetmaster_bus_connected"], counted["puppetmaster_bus_registered"]) == (1, 1)
    assert counted["puppetmaster_bus_controller"] == 1


def test_a_tally_puts_each_duration_in_its_bucket() -> None:
    tally = Tally()
    tally.add(BOUNDS_S[0])
    tally.add(BOUNDS_S[0] + 1e-9, 3)
    tally.add(1e9)
    assert tally.counts[:2] == [1, 3]
    assert (tally.counts[-1], sum(tally.counts)) == (1, 5)
    assert tally.sum_s == pytest.approx(1e9)
