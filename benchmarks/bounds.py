"""Memory of the bundle, and how late others are answered, while more is asked of it than it should hold.

Each thing is asked alone, then all at once. Meanwhile a process of its own asks for GET /jobs?limit=1 every
50 ms, over HTTP and over the bus. The memory is the most that the kernel saw during that (VmHWM). A GET over
the bus that the controller refuses with 423, because somebody's POST is open, never reaches the bundle: it
is counted, not timed.
"""

import argparse
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from websockets.sync.client import connect

from benchmarks.bare import BareClient
from benchmarks.gateways import asked, beside, created, ended, gateway, memory_mb, percentile
from puppetmaster import ranges
from puppetmaster.model.job import Job, JobStatus, fresh_counts
from puppetmaster.model.request import Item, Request, RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes, Ids
from puppetmaster.store.sqlite.store import SqliteStore
from sandbox.process import free_port

PROBE_S = 0.05
AIM_MB, AIM_MS = 150, 250
HTTP_TIMEOUT_S = 300
BEFORE, LATER = "2026-01-02T03:04:05.678Z", "2100-01-01T00:00:00Z"
STORED_JOB = 50_000
OWN_LOCKS = "commands of 1 MB to gateways with a lock each"


class Sizes(NamedTuple):
    """How much is asked."""

    gateways: int
    data_bytes: int
    stored: int
    bodies: int
    bus_data_bytes: int = 180_000
    own: int = 200
    misspelt: int = 100_000
    invalid: int = 34


class Told(NamedTuple):
    """What others saw: milliseconds to each answer over HTTP and over the bus, and how many GETs got 423."""

    http_ms: list[float]
    bus_ms: list[float]
    locked: int


# -- others ---------------------------------------------------------------------------------------


def probe(http_port: int, bus_port: int, pipe: Connection) -> None:
    """The others' process: asks until it is told to end; answers with what it saw."""
    over = threading.Event()
    told = Told([], [], 0)
    locked = [0]

    def over_http() -> None:
        while not over.is_set():
            begun_s = time.perf_counter()
            with suppress(OSError, http.client.HTTPException):
                fetch(http_port, "GET", "/jobs?limit=1")
            told.http_ms.append((time.perf_counter() - begun_s) * 1000)
            over.wait(max(0.0, PROBE_S - (time.perf_counter() - begun_s)))

    def over_bus() -> None:
        client = BareClient(bus_port, tunnel="others", first_id=2**25)
        while not over.is_set():
            begun_s = time.perf_counter()
            code = client.request("get", "/jobs?limit=1")["code"]
            if code == 423:
                locked[0] += 1
            else:
                told.bus_ms.append((time.perf_counter() - begun_s) * 1000)
            over.wait(max(0.0, PROBE_S - (time.perf_counter() - begun_s)))
        client.close()

    threads = [threading.Thread(target=each) for each in (over_http, over_bus)]
    for thread in threads:
        thread.start()
    pipe.send(None)
    pipe.recv()
    over.set()
    for thread in threads:
        thread.join()
    pipe.send(told._replace(locked=locked[0]))


@contextmanager
def others(http_port: int, bus_port: int, found: list[Told]) -> Iterator[None]:
    """Others ask meanwhile; what they saw is appended to ``found``."""
    with beside(probe, http_port, bus_port, told=found):
        yield


# -- memory ---------------------------------------------------------------------------------------


def forget_most(pid: int) -> None:
    """The kernel is to notice the most that this process has in memory from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def most_mb(pid: int) -> float:
    """The most that it had since."""
    return memory_mb(pid, "VmHWM")


# -- what is asked --------------------------------------------------------------------------------


def fetch(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, int]:
    """The status of an answer over HTTP, and how many bytes it had; they are thrown away."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_TIMEOUT_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        buffer, size = bytearray(1 << 18), 0
        while came := answer.readinto(buffer):
            size += came
        return answer.status, size
    finally:
        connection.close()


def item(destinations: Sequence[str], data_bytes: int) -> dict[str, Any]:
    """An item with so much data."""
    return {
        "method": "put",
        "resource": "/system/firmware",
        "data": {"image": "x" * data_bytes},
        "__request": {"destination": list(destinations)},
    }


class Asking:
    """All that is asked, over both doors."""

    def __init__(self, http_port: int, bus_port: int, sizes: Sizes) -> None:
        self._http = http_port
        self._bus = bus_port
        self._sizes = sizes
        self._to = ranges.expand(f"cg-[001-{sizes.gateways:03d}]")
        self._tunnels = iter(range(1000))
        self._client = BareClient(bus_port, tunnel="bounds")
        large = {"startAt": LATER, "batch": [item(self._to, sizes.data_bytes)]}
        self.job = int(created(self._client, large)["id"])

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def cases(self) -> dict[str, Callable[[], str]]:
        """Each thing by its name; called, it says in short what came back."""
        return {
            "dry run, HTTP": self.dry_run,
            "GET /jobs/:id, HTTP": lambda: self._get(f"/jobs/{self.job}"),
            "GET /jobs/:id/requests?limit=500, HTTP": lambda: self._get(
                f"/jobs/{self.job}/requests?limit=500"
            ),
            "WebSocket ?collection=true": self.watch,
            "dry run of 180 kB, bus": self.dry_run_on_the_bus,
            "GET /jobs/:id, bus": lambda: self._ask("get", f"/jobs/{self.job}"),
            "GET /requests of all, bus": lambda: self._ask("get", "/requests"),
            "GET /requests of all, HTTP": lambda: self._get("/requests"),
            "invalid bodies of 1 MB, HTTP": self.invalid,
            "misspelt properties, HTTP": self.misspelt,
            "misspelt properties, bus": self.misspelt_on_the_bus,
            "large bodies at once, HTTP": self.bodies,
            "answers of 1 MB": self.answers,
        }

    def dry_run(self) -> str:
        """Data of 1 MB to all gateways, as a plan."""
        body = {"dryRun": True, "batch": [item(self._to, self._sizes.data_bytes)]}
        return self._post(json.dumps(body).encode())

    def dry_run_on_the_bus(self) -> str:
        """As much as a message is let to hold, as a plan."""
        return self._ask(
            "post", "/jobs", {"dryRun": True, "batch": [item(self._to, self._sizes.bus_data_bytes)]}
        )

    def watch(self) -> str:
        """Follow the job of 1 MB until each of its requests was shown."""
        seen, largest = 0, 0
        url = f"ws://127.0.0.1:{self._http}/jobs/ws/{self.job}?collection=true"
        with connect(url, max_size=None, compression=None, close_timeout=1) as socket:
            while seen < self._sizes.gateways:
                frame = socket.recv(HTTP_TIMEOUT_S)
                largest = max(largest, len(frame))
                seen += frame.count('"__request"' if isinstance(frame, str) else b'"__request"')  # type: ignore[arg-type]
        return f"largest frame {largest / 1e6:.1f} MB"

    def invalid(self) -> str:
        """Bodies of 1 MB in which everything is wrong, eight at a time."""
        names_ = [f"no/{number}" for number in range(80_000)]
        body = json.dumps({"batch": [item(names_, 0)]}).encode()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: self._post(body), range(self._sizes.invalid)))
        return f"{len(found)} x {found[-1]}"

    def misspelt(self) -> str:
        """Very many properties that nobody knows."""
        return self._post(json.dumps(self._misspelt()).encode())

    def misspelt_on_the_bus(self) -> str:
        """As many of them as a message holds."""
        some = dict(list(self._misspelt().items())[: self._sizes.misspelt // 3])
        return self._ask("post", "/jobs", some)

    def bodies(self) -> str:
        """Plans of jobs with 15 MB in 15 items, many at once."""
        body = {"dryRun": True, "batch": [item([name], 1_000_000) for name in self._to[:15]]}
        text = json.dumps(body).encode()
        with ThreadPoolExecutor(self._sizes.bodies) as pool:
            found = Counter(pool.map(lambda _: self._post(text), range(self._sizes.bodies)))
        return ", ".join(f"{count} x {came}" for came, count in found.items())

    def answers(self) -> str:
        """A job whose every gateway answers with about 1 MB."""
        client = BareClient(self._bus, tunnel=f"answers-{next(self._tunnels)}", first_id=2**27)
        resource = f"/system/log?bytes={self._sizes.data_bytes}"
        one = {"method": "get", "resource": resource, "__request": {"destination": self._to}}
        job = ended(client, int(created(client, {"batch": [one]})["id"]), 0.2)
        client.close()
        return f"{job['finishCount']} of {job['totalCount']} resolved"

    def _misspelt(self) -> dict[str, Any]:
        return {f"concurency{number}": 5 for number in range(self._sizes.misspelt)}

    def _get(self, path: str) -> str:
        status, size = fetch(self._http, "GET", path)
        return f"{status}, {size / 1e6:.1f} MB"

    def _post(self, body: bytes) -> str:
        try:
            status, size = fetch(self._http, "POST", "/jobs", body)
        except ConnectionError:  # refused with 503, and the rest of the body is not read
            return "reset"
        return f"{status}, {size / 1e6:.1f} MB"

    def _ask(self, method: str, resource: str, data: Any = None) -> str:
        """Over the bus, on a connection of its own; sent again while somebody's POST is open."""
        number = next(self._tunnels)
        client = BareClient(self._bus, tunnel=f"bounds-{number}", first_id=2**28 + number * 10_000)
        try:
            while (answer := client.request(method, resource, data, 120))["code"] == 423:
                time.sleep(0.01)
            return str(answer["code"])
        except Exception as error:  # noqa: BLE001 - no answer is a figure too
            return f"no answer ({type(error).__name__})"
        finally:
            client.close()


def fill(directory: Path, stored: int) -> None:
    """A store with so many requests of jobs that have ended."""
    store = SqliteStore(directory)
    for before in range(0, stored, STORED_JOB):
        first, total = FIRST_REQUEST_ID + before, min(STORED_JOB, stored - before)
        job = Job(
            id=before // STORED_JOB + 1,
            first=first,
            total=total,
            created_at=BEFORE,
            finished_at=BEFORE,
            status=JobStatus.RESOLVED,
            request_timeout_s=60,
            counts={**fresh_counts(0), RequestStatus.RESOLVED: total},
        )
        command = Item(id=first, job=job.id, method="get", resource="/system/time", data={})
        requests = {
            id_: Request(
                id=id_,
                job=job.id,
                item=first,
                destination=f"cg-{id_ - first:05d}",
                status=RequestStatus.RESOLVED,
                attempts=1,
                sent_at=BEFORE,
                finished_at=BEFORE,
                result={"code": 200, "data": {"time": BEFORE}, "source": "device"},
            )
            for id_ in range(first, first + total)
        }
        ids = Ids(job.id + 1, first + total)
        store.commit(Changes(jobs={job.id: job}, items={first: command}, requests=requests, ids=ids))
    store.close()


def measure(name: str, pid: int, ports: tuple[int, int], step: Callable[[], str]) -> tuple[float, float]:
    """Take this step while others ask; prints a line. The most memory, and the slowest answer to others."""
    found: list[Told] = []
    forget_most(pid)
    with others(*ports, found):
        time.sleep(0.5)
        begun_s = time.perf_counter()
        came = step()
        taken_s = time.perf_counter() - begun_s
        time.sleep(0.3)
    told, mb = found[0], most_mb(pid)
    print(
        f"{name}: {mb:.0f} MB at most; slowest answer to others {max(told.http_ms, default=0):.0f} ms over "
        f"HTTP (p99 {percentile(told.http_ms or [0.0], 99):.0f}), {max(told.bus_ms, default=0):.0f} ms over "
        f"the bus (p99 {percentile(told.bus_ms or [0.0], 99):.0f}; {told.locked} locked); "
        f"{taken_s:.1f} s; {came}",
        flush=True,
    )
    return mb, max(*told.http_ms, *told.bus_ms, 0.0)


def commands(http_port: int, bus_port: int, sizes: Sizes) -> str:
    """A job with about 1 MB for each of many gateways, of which none waits for another's lock."""
    client = BareClient(bus_port, tunnel="commands", first_id=2**27)
    one = item(ranges.expand(f"cg-[001-{sizes.own:03d}]"), sizes.data_bytes)
    body = json.dumps({"batch": [one]}).encode()
    status, _ = fetch(http_port, "POST", "/jobs", body)  # no message of the bus holds it
    if status != 200:
        raise RuntimeError(f"expected 200 for a job of {len(body)} bytes, got {status}")
    job = ended(client, int(asked(client, "get", "/jobs?limit=1")[0]["id"]), 0.2)
    client.close()
    return f"{job['finishCount']} of {job['totalCount']} resolved"


def own_locks(sizes: Sizes) -> tuple[float, float]:
    """Large commands leave at once where each gateway has a model of its own."""
    http_port = free_port()
    fleet = ["--shape", "per-gateway", "--to", f"cg-[001-{sizes.own:03d}]"]
    with gateway(fleet, http=f"127.0.0.1:{http_port}", request_timeout_s=300) as (made, _):
        ports = (http_port, made.broker.port)
        return measure(OWN_LOCKS, made.bundle.pid, ports, lambda: commands(*ports, sizes))


def rest() -> str:
    """Ask for nothing."""
    time.sleep(2)
    return "nothing asked"


def at_once(cases: Sequence[Callable[[], str]]) -> str:
    """All of them, each in a thread; one that fails keeps no other from its end."""

    def step(case: Callable[[], str]) -> str:
        try:
            return case()
        except Exception as error:  # noqa: BLE001 - what came is a figure
            return f"broke off ({type(error).__name__})"

    with ThreadPoolExecutor(len(cases)) as pool:
        return "; ".join(pool.map(step, cases))


def main() -> None:
    """Measure; options choose how much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounds", description=__doc__)
    parser.add_argument("--gateways", type=int, default=500, help="(%(default)s)")
    parser.add_argument("--bytes", type=int, default=1_000_000, help="of data, and of answers (%(default)s)")
    parser.add_argument("--stored", type=int, default=200_000, help="requests of before (%(default)s)")
    parser.add_argument("--bodies", type=int, default=16, help="of 15 MB at once (%(default)s)")
    parser.add_argument("--only", default="", help="cases with this text in their name")
    parser.add_argument("--own", type=int, default=200, help="gateways with a lock each (%(default)s)")
    options = parser.parse_args()
    sizes = Sizes(options.gateways, options.bytes, options.stored, options.bodies, own=options.own)
    http_port = free_port()
    fleet = ["--shape", "one-model", "--to", f"cg-[001-{sizes.gateways:03d}]"]
    with gateway(
        fleet,
        prepare=lambda directory: fill(directory, sizes.stored),
        http=f"127.0.0.1:{http_port}",
        keep_mb=100_000,
        request_timeout_s=300,
    ) as (made, client):
        pid, ports = made.bundle.pid, (http_port, made.broker.port)
        time.sleep(1)
        forget_most(pid)
        print(f"idle: {most_mb(pid):.0f} MB", flush=True)
        asking = Asking(*ports, sizes)
        cases = asking.cases()
        chosen = {name: case for name, case in cases.items() if options.only in name}
        worst = [measure("nothing", pid, ports, rest)]
        worst += [measure(name, pid, ports, case) for name, case in chosen.items()]
        if options.only in "all at once":
            worst.append(measure("all at once", pid, ports, lambda: at_once([*cases.values()])))
        asked(client, "get", "/system/puppetmaster")
        asking.close()
    if options.only in OWN_LOCKS:
        worst.append(own_locks(sizes))
    print(
        f"in all {max(mb for mb, _ in worst):.0f} MB at most (aim: {AIM_MB} MB), "
        f"others were answered within {max(ms for _, ms in worst):.0f} ms (aim: {AIM_MS} ms)"
    )


if __name__ == "__main__":
    main()
