"""How late timeouts fire at full load, beside the same when idle: by the times that the bundle wrote down."""

import argparse
from datetime import datetime

from benchmarks.bare import BareClient
from benchmarks.gateways import body, created, ended, gateway, percentile
from puppetmaster import names


def lateness(client: BareClient, dead: list[str], timeout_s: float) -> list[float]:
    """Milliseconds between when each of these requests was to end and when it did."""
    job = created(client, body("get", dead, requestTimeout=timeout_s))
    ended(client, job["id"], poll_s=0.2)
    late = []
    for request in client.request("get", f"/jobs/{job['id']}/requests")["data"]:
        inner = request["__request"]
        took_s = _seconds(inner["finishedAt"]) - _seconds(inner["sentAt"])
        late.append((took_s - timeout_s) * 1000)
    return late


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
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count + options.dead:05d}]"
    everybody = names.expand(pattern)
    dead = everybody[-options.dead :]
    faults = ["--dead", f"cg-[{options.count + 1:05d}-{options.count + options.dead:05d}]"]
    fleet = ["--shape", "one-model", "--to", pattern, "--ttl", "60", *faults]
    with gateway(fleet, max_requests=options.count) as (_, client):
        idle = lateness(client, dead, options.timeout)
        large = created(client, body("get", everybody[: options.count]))
        loaded: list[float] = []
        for _ in range(options.rounds):
            loaded += lateness(client, dead, options.timeout)
        job = client.request("get", f"/jobs/{large['id']}?collection=false&limit=0")["data"]
        client.request("delete", f"/jobs/{large['id']}")
    print(
        f"{len(loaded)} timeouts of {options.timeout:g} s beside {options.count} requests "
        f"({job['doneCount']} done in the end): late by {percentile(loaded, 50):.0f} ms (p50), "
        f"{percentile(loaded, 99):.0f} ms (p99), {max(loaded):.0f} ms at most; "
        f"idle {percentile(idle, 50):.0f} ms (p50), {max(idle):.0f} ms at most"
    )


if __name__ == "__main__":
    main()
