"""Requests per second of puppetmaster against a bare client, through the same broker, controller and fleet.

The bare client keeps the same number in flight and no state: nothing on disk, nothing to recover.
Both run in turn, several times; the medians and their ratio are printed. Cold is the first job after a start
of the bundle, which asks the controller about the lock of each destination it writes to; warm is the second.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.bare import BareClient, Subscriber
from benchmarks.gateways import gateway, wait_for_answers
from puppetmaster import ranges

#: What is compared: method, and who shares a lock.
ROWS = (("get", "one-model"), ("get", "per-gateway"), ("post", "per-gateway"))


def through_puppetmaster(
    client: BareClient,
    method: str,
    destinations: Sequence[str],
    *,
    times: int = 1,
    away: int = 0,
    concurrency: int | None = None,
) -> float:
    """The seconds from POST /jobs until its end is seen, by asking 50 times a second.

    Each destination gets the command so many ``times``. Raises RuntimeError when others than those that are
    ``away`` do not resolve it.
    """
    item = {"method": method, "resource": "/system/time", "__request": {"destination": list(destinations)}}
    more = {} if concurrency is None else {"concurrency": concurrency}
    begun_s = time.perf_counter()
    created = client.request("post", "/jobs", {"batch": [item] * times, **more})
    if created["code"] != 200:
        raise RuntimeError(f"expected the code 200 for POST /jobs, got {created}")
    job = created["data"]
    while job["finishedAt"] is None:
        time.sleep(0.02)
        answer = client.request("get", f"/jobs/{job['id']}?limit=0")
        job = answer["data"] if answer["code"] == 200 else job
    taken_s = time.perf_counter() - begun_s
    expected = (len(destinations) - away) * times
    if job["finishCount"] != expected:
        raise RuntimeError(f"expected {expected} resolved, got {job['counts']}")
    client.request("delete", f"/jobs/{job['id']}")
    return taken_s


def bare(client: BareClient, method: str, destinations: Sequence[str], times: int, window: int) -> float:
    """The seconds that a bare client takes, with one command in flight at each gateway, as ours has it."""
    if len(destinations) <= window:
        return client.one_at_each(method, destinations, times)
    return client.batch(method, list(destinations) * times, window)


def compare(method: str, shape: str, options: argparse.Namespace) -> None:
    """Run both in turn and print a line each for cold and warm."""
    gateways = options.gateways or options.count
    pattern, times = f"cg-[{1:05d}-{gateways:05d}]", max(1, options.count // gateways)
    destinations, count = list(ranges.expand(pattern)), gateways * times
    fleet = ["--shape", shape, "--to", pattern, "--delay", "0"]
    rates: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    with ExitStack() as stack:
        made, client = stack.enter_context(
            gateway(fleet, broker=options.broker, tuned=not options.untouched, max_in_flight=options.window)
        )
        if options.subscriber:
            subscriber = Subscriber(made.broker.port, "/jobs/+")
            stack.callback(subscriber.close)
        for number in range(options.rounds):
            if number:
                made.bundle.terminate()
                made.bundle.start()
                wait_for_answers(client)
            for pairs in rates.values():
                bare_s = bare(client, method, destinations, times, options.window)
                ours_s = through_puppetmaster(
                    client, method, destinations, times=times, concurrency=options.concurrency
                )
                pairs.append((count / bare_s, count / ours_s))
        if options.subscriber and subscriber.answers.empty():
            raise RuntimeError("expected events of the jobs at their subscriber, got none")
    where = ", untouched broker" if options.untouched else ""
    for name, pairs in rates.items():
        bare_median = statistics.median(bare for bare, _ in pairs)
        ours_median = statistics.median(ours for _, ours in pairs)
        print(
            f"{method.upper():4} {shape:11} {count:6} requests to {gateways:5} gateways, "
            f"window {options.window:4}, {name}{where}: "
            f"bare {bare_median:6.0f}/s, puppetmaster {ours_median:6.0f}/s, "
            f"ratio {statistics.median(ours / bare for bare, ours in pairs):.2f} "
            f"({', '.join(f'{ours / bare:.2f}' for bare, ours in pairs)})",
            flush=True,
        )


def main() -> None:
    """Compare reads and writes; options choose what."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests of one batch (%(default)s)")
    parser.add_argument("--gateways", type=int, help="they share the requests (as many as requests)")
    parser.add_argument("--concurrency", type=int, help="what the jobs say (nothing: it is found out)")
    parser.add_argument(
        "--only",
        type=int,
        nargs="*",
        default=[0, 1, 2],
        choices=range(len(ROWS)),
        help="rows by number: GET one model, GET, POST",
    )
    parser.add_argument("--window", type=int, default=500, help="in flight at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), help="default: mosquitto when installed")
    parser.add_argument(
        "--untouched",
        action="store_true",
        help="a mosquitto with its default settings; 1,000 gateways take 90 s to register there",
    )
    parser.add_argument(
        "--subscriber",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a view on /jobs/+ gets the events (%(default)s)",
    )
    options = parser.parse_args()
    for row in options.only:
        compare(*ROWS[row], options)


if __name__ == "__main__":
    main()
