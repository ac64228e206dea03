"""How late timeouts fire at full load, beside the same when idle: by the times that the bundle wrote down.

Full load: while a large job runs, and while somebody creates, cancels and removes such jobs without pause.
"""

import argparse
from datetime import datetime
from typing import Any

from benchmarks.bare import BareClient
from benchmarks.gateways import asked, body, created, ended, gateway, meanwhile, percentile
from puppetmaster import ranges


def lateness(client: BareClient, dead: list[str], timeout_s: float) -> list[float]:
    """Milliseconds between when each of these requests was to end and when it did."""
    job = created(client, body("get", dead, requestTimeout=timeout_s))
    ended(client, job["id"], poll_s=0.2)
    late = []
    for request in asked(client, "get", f"/jobs/{job['id']}/requests"):
        inner = request["__request"]
        took_s = _seconds(inner["finishedAt"]) - _seconds(inner["sentAt"])
        late.append((took_s - timeout_s) * 1000)
    return late


def come_and_go(client: BareClient, job: dict[str, Any]) -> int:
    """Create this job, cancel and remove it; its id."""
    id_: int = created(client, job)["id"]
    asked(client, "put", f"/jobs/{id_}", {"status": "canceled"})
    asked(client, "delete", f"/jobs/{id_}")
    return id_


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Measure idle, then beside a large job."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timeouts", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=50000, help="requests of the job beside it (%(default)s)"
    )
    parser.add_argument("--dead", type=int, default=100, help="gateways that do not answer (%(default)s)")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds (%(default)s)")
    parser.add_argument("--jobs", type=int, default=10, help="that come and go (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count + options.dead:05d}]"
    everybody = ranges.expand(pattern)
    dead = everybody[-options.dead :]
    faults = ["--dead", f"cg-[{options.count + 1:05d}-{options.count + options.dead:05d}]"]
    fleet = ["--shape", "one-model", "--to", pattern, "--ttl", "60", *faults]
    with gateway(fleet, max_requests=options.count) as (made, client):
        idle = lateness(client, dead, options.timeout)
        large = created(client, body("get", everybody[: options.count]))
        loaded: list[float] = []
        for _ in range(options.rounds):
            loaded += lateness(client, dead, options.timeout)
        job = asked(client, "get", f"/jobs/{large['id']}?collection=false&limit=0")
        asked(client, "delete", f"/jobs/{large['id']}")
        seen: list[int] = []
        busy: list[float] = []
        job_of_all = body("get", everybody[: options.count])
        with meanwhile(made.broker.port, lambda other: seen.append(come_and_go(other, job_of_all))):
            while len(seen) < options.jobs:
                busy += lateness(client, dead, options.timeout)
    print(f"{len(idle)} timeouts of {options.timeout:g} s when idle: {shown(idle)}")
    for told, late in (
        (f"beside a job of {options.count} requests, {job['doneCount']} done in the end", loaded),
        (f"while {len(seen)} such jobs were created, canceled and removed", busy),
    ):
        ratio = percentile(late, 99) / percentile(idle, 99)
        print(f"{len(late)} timeouts {told}: {shown(late)}; ratio of the p99 to idle {ratio:.1f}")


def shown(late_ms: list[float]) -> str:
    """Half, 99 per cent and all of them."""
    return (
        f"late by {percentile(late_ms, 50):.0f} ms (p50), {percentile(late_ms, 99):.0f} ms (p99), "
        f"{max(late_ms):.0f} ms at most"
    )


if __name__ == "__main__":
    main()
