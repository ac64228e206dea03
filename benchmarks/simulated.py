"""Does the simulator tell the truth? The same fleet on the real bus and in virtual time, and their ratio.

The controller of the real run is the stand-in; the simulator's controller takes as many messages a second.
"""

import argparse

from benchmarks.gateways import body, created, ended, gateway
from puppetmaster import ranges
from puppetmaster.clock import seconds
from sandbox.simulator import Scenario, Simulation

CASES = (("per-gateway", "post", 500), ("one-model", "get", 500), ("grouped:50", "post", 500))


def really(shape: str, method: str, count: int, latency_s: float) -> float:
    """Seconds from the first request sent to the last answer, on the real bus."""
    pattern = f"cg-[00001-{count:05}]"
    fleet = ("--shape", shape, "--to", pattern, "--delay", str(latency_s))
    with gateway(fleet) as (_, client):
        job = ended(client, created(client, body(method, ranges.expand(pattern)))["id"])
    if job["finishCount"] != count:
        raise RuntimeError(f"expected {count} resolved, got {job['counts']}")
    return seconds(job["finishedAt"]) - seconds(job["startedAt"])


def simulated(shape: str, method: str, count: int, latency_s: float, capacity: float) -> float:
    """The same in virtual time."""
    scenario = Scenario(gateways=count, shape=shape, latency_s=latency_s, spread=0, capacity=capacity)
    simulation = Simulation(scenario)
    simulation.create(method)
    simulation.run()
    return float(simulation.summary()["seconds"])


def main() -> None:
    """Print a line for each kind of fleet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulated", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1, help="of a gateway, in seconds (%(default)s)")
    parser.add_argument("--capacity", type=float, default=8000, help="of the controller (%(default)s)")
    options = parser.parse_args()
    for shape, method, count in CASES:
        real_s = really(shape, method, count, options.latency)
        told_s = simulated(shape, method, count, options.latency, options.capacity)
        print(
            f"{method.upper():4} {shape:12} {count} gateways of {options.latency * 1000:g} ms: "
            f"simulated {told_s:.2f} s, real {real_s:.2f} s, ratio {told_s / real_s:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
