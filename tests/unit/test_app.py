"""Memory is given back: large pieces to the system, and all that was made of what cannot be read.

And the service manager hears how we are.
"""

import gc
import io
import json
import logging
import socket
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

import index
from puppetmaster import jsoncodec
from puppetmaster.api import bodies
from puppetmaster.app import ttl_s
from puppetmaster.bundle import envelope
from puppetmaster.bus.client import BusClient, BusEvent
from puppetmaster.bus.connection import Received
from puppetmaster.clock import Clock
from puppetmaster.errors import PuppetmasterError
from puppetmaster.settings import Settings
from puppetmaster.store.sqlite.store import SqliteStore
from tests.web_client import Bundle, batch, running

SCRIPT = """
import threading
from puppetmaster import app

def kib(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what))

def resident_kib():
    return kib("VmRSS")

app.spare_memory()
threading.stack_size(256 * 1024)
before, at_once = kib("VmSize"), threading.Barrier(8)

def work():
    kept = b"x" * 20_000
    at_once.wait(30)

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(kib("VmSize") - before)
large = b"x" * (8 << 20)
del large  # from this glibc learns to keep such pieces
before = resident_kib()
large = b"x" * (7 << 20)
beside = [b"x" * 100_000 for _ in range(20)]  # what lies behind it keeps it from being cut off
del large
print(resident_kib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_threads_share_a_pool_and_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    pools, kept = map(int, done.stdout.split())
    assert (pools < 32 * 1024, kept < 4000) == (True, True), "KiB; a pool of a thread has 64 MiB of addresses"


def test_of_what_cannot_be_read_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is something else: what would be kept for each would grow for ever."""

    def malformed(number: int) -> list[bytes]:
        letters = b"%09d" % number
        return [
            letters + bytes(range(128, 256)),
            b"[" * 2000 + letters,
            b'{"id":7,"code":200,"data":"' + letters * 500,
            b'{"id":7,"code":200,"data":NaN,"k' + letters + b'":1}',
            json.dumps({f"p{number}-{one}": 1 for one in range(20)}).encode(),
            json.dumps({"batch": [{"k": [f"{number}/{one}" for one in range(50)]}]}).encode(),
            b'{"batch":[{"data":{"' + letters + b'":"\\u0000","' + letters + b'":1}}]}',
        ]

    def take(payload: bytes) -> None:
        with suppress(PuppetmasterError, ValueError):
            bodies.parse_job(jsoncodec.decode_body(payload), 1000)
        with suppress(PuppetmasterError, ValueError):
            envelope.request(envelope.read(payload)[0])
        bus._take_all([Received(bus.tunnel, payload, None, False)])

    monkeypatch.setattr("puppetmaster.bus.client.log.disabled", True)  # what is told is kept, by pytest
    told: list[BusEvent] = []
    settings = Settings(broker_port=1, probe_interval_s=1000)
    bus = BusClient(settings, "0123456789abcdef", "/jobs", told.extend, Clock())
    sizes = []
    tracemalloc.start()
    try:
        for round_ in range(3):
            for number in range(30):
                for payload in malformed(1000 * round_ + number):
                    take(payload)
            told.clear()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # 210 of them: an object and its place for each would be more.
    assert sizes[2] - sizes[1] < 8_000


def test_the_service_manager_hears_when_the_dispatcher_runs_how_it_is_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        said = "STATUS=0 jobs and 0 requests are open, 0 in flight."
        with running(tmp_path / "data"):
            ready, watchdog, status = manager.recv(4096).decode().split("\n")
            assert (ready, watchdog) == ("READY=1", "WATCHDOG=1")
            while "nothing listens there" not in status:
                assert status == said
                watchdog, status = manager.recv(4096).decode().split("\n")
                assert watchdog == "WATCHDOG=1"
        while (last := manager.recv(4096)).startswith(b"WATCHDOG=1"):
            pass
        assert last.startswith(b"STOPPING=1")


def test_it_is_deregistered_before_another_process_may_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which might have registered under the same name by then."""
    order: list[str] = []
    monkeypatch.setattr(Bundle, "leave", lambda _: order.append("deregistered"))
    monkeypatch.setattr(BusClient, "stop", lambda _: order.append("disconnected"))
    real = SqliteStore.close

    def close(self: SqliteStore) -> None:
        order.append("closed")
        real(self)

    monkeypatch.setattr(SqliteStore, "close", close)
    with running(tmp_path):
        pass
    assert order == ["disconnected", "deregistered", "closed"]


def test_what_happens_to_jobs_is_in_the_log_as_lines_of_json_where_that_is_wished(tmp_path: Path) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(index.Format())
    logging.getLogger().addHandler(handler)
    try:
        for switch in ("off", "on"):
            with running(tmp_path / switch, log_events=switch) as door:
                door.ask("POST", "/jobs", batch("a", name="ntp"))
                door.ask("DELETE", "/jobs/1")
                door.ask("PUT", "/gateways/a", {"labels": {"site": "north"}})
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [json.loads(line) for line in written.getvalue().splitlines() if line.startswith("{")]
    labels = lines.pop()
    assert (labels["gateway"], labels["event"], labels["by"]) == ("a", "labeled", "http")
    assert (labels["labels"], labels["before"]["labels"]) == ({"site": "north"}, {})
    assert [(one["job"], one["name"], one["event"], one["by"]) for one in lines] == [
        (1, "ntp", "created", "http"),
        (1, "ntp", "ended", "http"),
    ]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 20),
        ({"PUPPETMASTER_STORE": "postgresql://h/db"}, 5),
        ({"PUPPETMASTER_STORE": "postgresql://h/db", "PUPPETMASTER_STANDBY": "off"}, 20),
        ({"PUPPETMASTER_STORE": "postgresql://h/db", "PUPPETMASTER_TTL_S": "3"}, 3),
        ({"PUPPETMASTER_TTL_S": "30"}, 30),
    ],
)
def test_the_controller_waits_less_for_us_where_another_one_may_take_over(
    environ: dict[str, str], seconds: int, tmp_path: Path
) -> None:
    assert ttl_s(Settings.from_environment(environ, data_dir=tmp_path), 20) == seconds
