"""What thousands of gateways show of scheduler, locks and the window, in virtual time."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sandbox import simulator
from sandbox.simulator import Hold, Scenario, Simulation


@pytest.fixture(autouse=True)
def _same_dice() -> Iterator[None]:
    """The engine's jitter is drawn from the one generator; the same run every time."""
    state = random.getstate()
    random.seed(1)
    yield
    random.setstate(state)


def windows(simulation: Simulation, from_s: float, until_s: float) -> list[int]:
    """Its sizes in this stretch of time."""
    return [one.window for one in simulation.samples if from_s <= one.at_s < until_s]


def answered(simulation: Simulation, from_s: float, until_s: float) -> int:
    """How many answers came in this stretch of time."""
    counts = [one.done for one in simulation.samples if from_s <= one.at_s < until_s]
    return counts[-1] - counts[0]


@pytest.mark.parametrize("shape", ["per-gateway", "grouped:20", "one-model"])
def test_one_write_in_flight_per_lock_always(shape: str) -> None:
    simulation = Simulation(Scenario(gateways=400, shape=shape, latency_s=0.02, slow=0.02, slow_s=0.5))
    for _ in range(2):
        simulation.create("post")
    simulation.run()
    assert simulation.collisions == 0
    assert simulation.summary()["requests"] == {"resolved": 800}
    assert simulation.summary()["refusals"] == {}


def test_as_many_locks_are_busy_as_there_are() -> None:
    simulation = Simulation(Scenario(gateways=2000, shape="grouped:40", latency_s=0.1, capacity=1e5))
    simulation.create("post")
    simulation.run()
    assert max(one.in_flight for one in simulation.samples) == 50
    assert simulation.clock.at_s < 1.5 * 40 * 0.1, "40 writes one after another, in 50 groups at once"


def test_the_window_falls_on_locks_of_others_and_recovers() -> None:
    scenario = Scenario(gateways=16000, shape="grouped:10", capacity=1e5, holds=(Hold(0.5, 0.6, 1.6),))
    simulation = Simulation(scenario, sample_s=0.05)
    simulation.create("post")
    simulation.run()
    falls = [(at_s, size) for at_s, size, _ in simulation.engine.scheduler.window.trace]
    before, low = max(windows(simulation, 0, 0.6)), min(size for _, size in falls)
    assert low < before / 2
    assert len(falls) > 5, "again and again: it doubles between two falls"
    assert 0.6 < falls[0][0] < falls[-1][0] < 1.7, "while they are held, and not after that"
    assert max(windows(simulation, 1.6, 1e9)) > 1.4 * low
    assert {why for _, _, why in simulation.engine.scheduler.window.trace} == {"locked by others"}
    assert simulation.summary()["requests"] == {"resolved": 16000}
    assert simulation.collisions == 0


def test_a_lock_of_others_is_asked_for_seldom() -> None:
    simulation = Simulation(Scenario(gateways=1000, shape="one-model", holds=(Hold(1, 0.0, 20.0),)))
    simulation.create("post")
    simulation.run(20)
    assert simulation.engine.delivery.refusals.counts[423] < 40, "everybody waits for the one who tries"


def test_the_window_falls_when_answers_get_slower_and_not_more() -> None:
    scenario = Scenario(gateways=6000, latency_s=0.05, capacity=500)
    simulation = Simulation(scenario)
    simulation.create("get")
    simulation.run()
    assert "slower without more throughput" in {why for _, _, why in simulation.engine.scheduler.window.trace}
    needed = scenario.capacity * scenario.latency_s
    assert all(needed < size < 8 * needed for size in windows(simulation, 2, 10))
    rate = answered(simulation, 2, 10) / 8
    assert rate > 0.95 * scenario.capacity, "the controller is busy all the time"


def test_few_messages_wait_for_acknowledgements_on_an_untouched_broker() -> None:
    def latency_s(gateways: int) -> float:
        scenario = Scenario(gateways=gateways, latency_s=0.0002, capacity=8000, untouched=True)
        simulation = Simulation(scenario)
        simulation.create("get", concurrency=min(gateways, 400))
        simulation.run()
        return float(simulation.summary()["latency"]["median"])

    assert 0.08 < latency_s(5) < 0.1, "two stalls of 44 ms"
    assert latency_s(4000) < 0.07, "many do not wait, but for the controller"


@pytest.mark.parametrize("method", ["get", "post"])
def test_stalls_of_an_untouched_broker_are_no_reason_to_fall(method: str) -> None:
    """Answers take 88 ms with few in flight, 20 ms with some, and longer again with many."""
    scenario = Scenario(gateways=10_000, latency_s=0.0002, capacity=8000, untouched=True)
    simulation = Simulation(scenario)
    simulation.create(method)
    simulation.run()
    assert not simulation.engine.scheduler.window.trace
    assert windows(simulation, 0.6, 9.0) == [480] * len(windows(simulation, 0.6, 9.0))


def test_gateways_that_become_slower_narrow_the_window_for_a_moment_only() -> None:
    simulation = Simulation(Scenario(gateways=6000, latency_s=0.01, capacity=1e5))
    simulation.create("get", simulation.destinations[:1000])
    simulation.run()
    simulation._controller._scenario = replace(simulation.scenario, latency_s=0.8)
    simulation.create("get", simulation.destinations[1000:])
    simulation.run()
    assert simulation.engine.scheduler.window.size == 480
    assert simulation.clock.at_s < 12.0, "5,000 of 0.8 s, 480 at once: 8.3 s"


@pytest.mark.parametrize("slow_s", [3.0, 20.0])
def test_a_few_slow_gateways_are_no_reason_to_fall(slow_s: float) -> None:
    simulation = Simulation(Scenario(gateways=6000, slow=0.02, slow_s=slow_s, capacity=1e5))
    simulation.create("get")
    simulation.run()
    assert not simulation.engine.scheduler.window.trace


def test_a_few_locks_of_others_slow_only_a_little_down() -> None:
    scenario = Scenario(gateways=20_000, capacity=5000, holds=(Hold(0.02, 0.5, 3.0),))
    simulation = Simulation(scenario)
    simulation.create("post")
    assert simulation.run() < 1.25 * scenario.gateways / scenario.capacity


@pytest.mark.parametrize("shape", ["one-model", "grouped:25"])
def test_reads_keep_flowing_around_writes(shape: str) -> None:
    simulation = Simulation(Scenario(gateways=100, shape=shape, latency_s=0.05))
    writes = simulation.create("post")
    for _ in range(5):
        simulation.create("get")
    simulation.run(0.9)
    open_ = simulation.job(writes).open_count
    assert 0 < open_ < 100, "writes go on"
    reads = sum(len(found) for job, found in simulation.latencies_s.items() if job != writes.id)
    assert reads > 3 * (100 - open_), "and reads do"
    simulation.run()
    assert simulation.summary()["requests"] == {"resolved": 600}
    assert simulation.summary()["refusals"] == {}, "no read was sent into a write of ours"


def test_slow_and_dead_gateways_hold_up_nobody_else() -> None:
    simulation = Simulation(Scenario(gateways=2000, latency_s=0.05, slow=0.01, slow_s=8, dead=0.01, ttl_s=10))
    simulation.create("post")
    simulation.run(7.0)
    assert simulation.summary()["requests"]["resolved"] == 1960
    simulation.run()
    assert simulation.summary()["requests"] == {"resolved": 1980, "timeout": 20}
    assert simulation.clock.at_s < 20


@pytest.mark.parametrize("dead", [0.1, 0.6, 0.9])
def test_dead_gateways_hold_up_no_other_job(dead: float) -> None:
    simulation = Simulation(Scenario(gateways=3003, latency_s=0.05, dead=dead, ttl_s=60))
    alive = [one for one in simulation.destinations if one not in simulation.dead][:3]
    simulation.create("get", [one for one in simulation.destinations if one not in alive])
    simulation.run(5)
    small = simulation.create("get", alive)
    simulation.run(5)
    assert simulation.job(small).final


def test_the_same_seed_is_the_same_run() -> None:
    def run() -> object:
        random.seed(5)
        simulation = Simulation(
            Scenario(gateways=300, shape="grouped:7", holds=(Hold(0.3, 0.1, 0.5),), seed=5)
        )
        simulation.create("post")
        simulation.run()
        return simulation.summary(), simulation.samples

    assert run() == run()


def test_five_thousand_gateways_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    simulator.main(
        ["--gateways", "5000", "--method", "get", "--hold", "0.5:1:2", "--policies", '{"rate": 2500}']
    )
    shown = capsys.readouterr().out
    assert shown.startswith("  seconds  window  in flight  answered  refused\n")
    assert "the window fell to" in shown
    assert json.loads(shown[shown.index("{") :])["requests"] == {"resolved": 5000}


@pytest.mark.parametrize("text", ["", "1", "1:2", "a:1:2"])
def test_a_hold_names_a_share_and_two_times(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simulator.parse(["--hold", text])
    assert "expected share:from:until" in capsys.readouterr().err
