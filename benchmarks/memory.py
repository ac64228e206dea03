"""Memory of the bundle: idle, with 10,000 open requests, and after one such job after the other."""

import argparse
import time

from benchmarks.bare import BareClient
from benchmarks.gateways import body, created, gateway, memory_mb
from puppetmaster import ranges
from sandbox.process import free_port


def job_mb(client: BareClient, pid: int, destinations: list[str]) -> tuple[float, float]:
    """The most that was seen while a job ran, and what is left after it."""
    job = created(client, body("get", destinations))
    most_mb = memory_mb(pid)
    while True:
        answer = client.request("get", f"/jobs/{job['id']}?collection=false&limit=0")
        most_mb = max(most_mb, memory_mb(pid))
        if answer["code"] == 200 and answer["data"]["finishedAt"] is not None:
            return most_mb, memory_mb(pid)
        time.sleep(0.05)


def main() -> None:
    """Measure; HTTP is on, as it is by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests of one job (%(default)s)")
    parser.add_argument("--jobs", type=int, default=10, help="one after the other (%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count:05d}]"
    destinations = ranges.expand(pattern)
    fleet = ["--shape", "one-model", "--to", pattern]
    with gateway(fleet, http=f"127.0.0.1:{free_port()}") as (made, client):
        pid = made.bundle.pid
        time.sleep(1)
        idle_mb = memory_mb(pid)
        print(f"idle: {idle_mb:.1f} MB", flush=True)
        found = []
        for number in range(options.jobs):
            found.append(job_mb(client, pid, destinations))
            most_mb, after_mb = found[-1]
            print(
                f"job {number + 1:2} of {options.count} requests: {most_mb:.1f} MB at most, "
                f"{after_mb:.1f} MB after it, ratio to idle {most_mb / idle_mb:.2f}",
                flush=True,
            )
    most = [most_mb for most_mb, _ in found]
    print(
        f"{max(most):.1f} MB at most over {options.jobs} jobs; the last one took {most[-1]:.1f} MB, "
        f"the first {most[0]:.1f} MB, ratio {most[-1] / most[0]:.2f}"
    )


if __name__ == "__main__":
    main()
