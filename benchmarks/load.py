"""How soon the API answers while a job of 50,000 requests and 200 others run, beside the same when idle."""

import argparse
import threading
import time
from typing import Any

from benchmarks.bare import BareClient
from benchmarks.gateways import asked, body, created, gateway, percentile
from puppetmaster import ranges

Times = dict[str, list[float]]


def measure(
    client: BareClient, job_id: int, seconds: float, destination: str, *, idle: bool = False
) -> Times:
    """Ask and create by turns for so long, or until that job ends, unless it is to be idle.

    Milliseconds from request to answer; for POST also those with the wait while somebody else's was open.
    """
    asked, posted = "GET /jobs/:id?collection=false", "POST /jobs"
    waited = "POST /jobs, with the wait for another's POST"
    times: Times = {asked: [], posted: [], waited: []}
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        taken_ms, _, answer = timed(client, "get", f"/jobs/{job_id}?collection=false&limit=10")
        times[asked].append(taken_ms)
        if not idle and answer["code"] == 200 and answer["data"]["finishedAt"] is not None:
            break
        taken_ms, all_ms, _ = timed(client, "post", "/jobs", body("get", [destination]))
        times[posted].append(taken_ms)
        times[waited].append(all_ms)
        time.sleep(0.01)
    return times


def timed(
    client: BareClient, method: str, resource: str, data: Any = None
) -> tuple[float, float, dict[str, Any]]:
    """Milliseconds of a request that the bundle answered, those from the first try on, and the answer.

    The controller refuses a POST with 423 while another one is open; it is sent again at once.
    """
    first_s = time.perf_counter()
    while True:
        begun_s = time.perf_counter()
        answer = client.request(method, resource, data)
        if answer["code"] != 423:
            ended_s = time.perf_counter()
            return (ended_s - begun_s) * 1000, (ended_s - first_s) * 1000, answer


def crowd(port: int, everybody: list[str], jobs: int) -> None:
    """Create so many jobs of 20 requests, as somebody else."""
    client = BareClient(port, tunnel="crowd", first_id=2**26)
    for number in range(jobs):
        created(client, body("get", everybody[number * 20 : number * 20 + 20]))
    client.close()


def main() -> None:
    """Measure idle, then loaded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--count", type=int, default=50000, help="requests of the large job (%(default)s)")
    parser.add_argument("--jobs", type=int, default=200, help="other jobs at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count:05d}]"
    fleet = ["--shape", "one-model", "--to", pattern, "--delay", "0.01"]
    with gateway(fleet, max_requests=options.count) as (made, client):
        everybody = ranges.expand(pattern)
        first = created(client, body("get", everybody[:1]))["id"]
        idle = measure(client, first, options.seconds / 2, everybody[-1], idle=True)
        begun_s = time.perf_counter()
        large = created(client, body("get", everybody))["id"]
        print(f"POST /jobs with {options.count} requests: {(time.perf_counter() - begun_s) * 1000:.0f} ms")
        others = threading.Thread(
            target=crowd, args=(made.broker.port, everybody, options.jobs), name="crowd", daemon=True
        )
        others.start()
        loaded = measure(client, large, options.seconds, everybody[-1])
        others.join(60)
        job = asked(client, "get", f"/jobs/{large}?collection=false&limit=0")
        client.request("delete", f"/jobs/{large}")
    print(f"{options.jobs} other jobs beside it; at the end {job['doneCount']} of its requests were done")
    for name, values in loaded.items():
        before = idle[name]
        print(
            f"{name}: {len(values)} answers, p50 {percentile(values, 50):.1f} ms, "
            f"p99 {percentile(values, 99):.1f} ms, longest {max(values):.1f} ms; "
            f"idle p50 {percentile(before, 50):.1f} ms, p99 {percentile(before, 99):.1f} ms; "
            f"ratio of the p99 {percentile(values, 99) / percentile(before, 99):.1f}"
        )


if __name__ == "__main__":
    main()
