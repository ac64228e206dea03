"""A broker with a limit on what it carries: it closes the connection of who sends more, or drops it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.fleet_log import FleetLog
from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.flow import batch
from tests.proxy import Proxy
from tests.system.test_flow import ended, names
from tests.web_client import fetch

LIMIT = 100_000
CLOSES, DROPS = f"max_packet_size {LIMIT}\n", f"message_size_limit {LIMIT}\n"
#: Of so many gateways the last three are for large commands; the first three take longer than the grace time.
FLEET = 300
SLOW = ["--shape", "per-gateway", "--slow", "cg-[0001-0003]:2"]
GRACE_S = "1"
QUICK = names(FLEET)[3:]
LARGE = {"text": "x" * (LIMIT + 50_000)}


class Limited:
    """A gateway on such a broker, over the bus and over HTTP."""

    def __init__(self, gateway: Gateway, client: BusClient, port: int) -> None:
        self.gateway = gateway
        self.client = client
        self._port = port

    def create(self, method: str, destinations: list[str], *, dry_run: bool = False, **more: Any) -> Any:
        """POST /jobs over HTTP, which has no such limit, with more in its item: status and body."""
        body = batch(method, destinations, dryRun=dry_run)
        body["batch"][0] |= more
        answer = fetch(self._port, "POST", "/jobs", body)
        return answer.status, answer.json

    def requests(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        found = fetch(self._port, "GET", f"/jobs/{job['id']}/requests").json
        return [one["__request"] for one in found]

    def losses(self) -> int:
        """How often the dispatcher's connection ended."""
        return self.said("lost the broker")

    def said(self, words: str) -> int:
        """How many lines of the log have these words."""
        return sum(words in line for line in self.gateway.bundle.output())


@contextmanager
def limited(
    directory: Path,
    config: str,
    *,
    fleet: int = FLEET,
    tuned: bool = True,
    told: bool = True,
    **settings: str,
) -> Iterator[Limited]:
    """The bundle on such a broker; not ``told``: that does not say what it carries."""
    require("mosquitto")
    port = free_port()
    gateway = Gateway(
        directory,
        fleet=[*SLOW, "--to", f"cg-[0001-{fleet:04}]"],
        tuned=tuned,
        broker_config=config,
        settings={"PUPPETMASTER_HTTP": f"127.0.0.1:{port}", "PUPPETMASTER_GRACE_S": GRACE_S, **settings},
    )
    with ExitStack() as parts:
        if not told:
            proxy = parts.enter_context(Proxy(gateway.broker.port))
            proxy.refuse_mqtt_5()
            gateway.bundle.env["BROKER_PORT_1883_TCP_PORT"] = str(proxy.port)
        parts.enter_context(gateway)
        yield Limited(gateway, parts.enter_context(BusClient(gateway.broker)), port)


@pytest.fixture(scope="module")
def closing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """One whose broker says what it carries, and closes the connection of who sends more."""
    with limited(tmp_path_factory.mktemp("closing"), CLOSES) as flow:
        yield flow


def test_what_the_broker_closes_for_ends_and_harms_nobody(tmp_path: Path) -> None:
    """A command is not sent a third time; an answer becomes an error, and the door stays."""
    with limited(tmp_path, CLOSES, told=False) as flow:
        _, others = flow.create("post", names(20))
        _, large = flow.create("post", names(FLEET)[-3:], data=LARGE)
        end = ended(flow.client, large["id"])
        assert (end["status"], end["errorCount"]) == ("resolved", 3)
        for request in flow.requests(large):
            assert request["status"] == "error"
            result = request["result"]
            assert (result["code"], result["source"]) == (413, "puppetmaster")
            assert "the broker closes the connection when it is sent (150" in result["message"]
            assert result["message"].endswith("bytes): it did not run")
        assert ended(flow.client, others["id"])["finishCount"] == 20
        assert flow.losses() == 2, "the first of the three has shown it, for all of them"
        ran = FleetLog(flow.gateway.fleet_log).commands()
        assert sorted(one.destination for one in ran) == names(20)

        _, job = flow.create("get", QUICK)
        ended(flow.client, job["id"])
        answer = flow.client.request("get", f"/jobs/{job['id']}", timeout_s=30)
        assert answer["code"] == 413
        assert "the broker closes the connection when it is sent" in answer["data"]["message"]
        assert flow.client.request("get", f"/jobs/{job['id']}?limit=10")["code"] == 200
        assert flow.said("an error is sent in its place") == 1


def kept(flow: Limited, source: str) -> None:
    """Nobody is closed for, and nothing is lost: neither ours nor what the controller makes of it."""
    shown = flow.client.request("get", "/system/puppetmaster")["data"]["inForce"]
    assert shown["brokerLimitBytes"] == {"value": LIMIT, "from": source}
    for data in (LARGE, list(range(14_000))):  # 79 KB, and 200 KB as the controller passes it on
        status, refused = flow.create("post", QUICK[:1], data=data)
        assert status == 400
        (fault,) = refused["errors"]
        assert fault["path"] == "batch[0].data"
        assert "what the broker carries" in fault["message"]
    _, job = flow.create("post", QUICK[:1], data={"numbers": list(range(4_000))})
    assert ended(flow.client, job["id"])["finishCount"] == 1

    _, job = flow.create("get", QUICK)
    ended(flow.client, job["id"])
    for path in (f"/jobs/{job['id']}", f"/jobs/{job['id']}/requests"):
        answer = flow.client.request("get", path)
        assert answer["code"] == 413
        limit = int(answer["data"]["message"].partition("limit=")[2].split()[0])
        assert limit > 50
        assert flow.client.request("get", f"{path}?limit={limit}")["code"] == 200
    assert flow.losses() == 0
    assert flow.said("the broker closed it") == 0
    assert flow.said("does not answer") == 0


def test_a_limit_that_the_broker_tells_is_kept(closing: Limited) -> None:
    kept(closing, "broker")


def test_a_limit_that_is_set_is_kept(tmp_path: Path) -> None:
    with limited(tmp_path, DROPS, PUPPETMASTER_BROKER_LIMIT_BYTES=str(LIMIT)) as flow:
        kept(flow, "setting")


def test_the_longest_command_that_is_taken_is_carried(closing: Limited) -> None:
    """A byte more is refused; at this length the controller's own connection is not closed."""

    def data(size: int) -> dict[str, Any]:
        return {"list": [[1, 0.1, "\u00e9/", {}]] * 300, "text": "x" * size}

    low, high = 0, LIMIT  # the one is taken, the other is not
    while high - low > 1:
        middle = (low + high) // 2
        status, _ = closing.create("post", QUICK[:1], data=data(middle), dry_run=True)
        low, high = (middle, high) if status == 200 else (low, middle)
    assert low > 1000
    for _ in range(3):
        _, job = closing.create("post", QUICK[:1], data=data(low))
        assert ended(closing.client, job["id"])["finishCount"] == 1
    assert closing.losses() == 0
    assert closing.said("does not answer") == 0


def test_what_the_broker_drops_ends_in_its_time_and_harms_nobody(tmp_path: Path) -> None:
    with limited(tmp_path, DROPS, fleet=21, tuned=False, PUPPETMASTER_REQUEST_TIMEOUT_S="5") as flow:
        _, others = flow.create("post", names(20))
        _, large = flow.create("post", names(21)[-1:], data=LARGE)
        assert ended(flow.client, large["id"])["counts"]["timeout"] == 1
        assert ended(flow.client, others["id"])["finishCount"] == 20
        assert flow.losses() == 0


def test_a_broker_that_closes_when_it_has_all_of_it(tmp_path: Path) -> None:
    """As mosquitto 2.0.11 does with both ``message_size_limit`` and ``max_queued_messages 0``."""
    with limited(tmp_path, DROPS) as flow:
        _, others = flow.create("post", names(20))
        _, large = flow.create("get", names(FLEET)[-1:], data=LARGE)
        assert ended(flow.client, large["id"])["counts"]["unknown"] == 1
        (request,) = flow.requests(large)
        assert "the broker closes the connection" in request["result"]["message"]
        assert request["result"]["message"].endswith("it may have run")
        assert ended(flow.client, others["id"])["finishCount"] == 20
        assert flow.losses() == 2
