"""Puppetmaster in front of bridged gateways: through the published remote bundle, and directly."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.bridged import BridgedFleet, status_topic
from sandbox.devices import FAILURE
from tests.bus_client import BusClient, Message
from tests.conftest import require
from tests.desk import until
from tests.flow import SETTINGS, WAIT_S, Flow, batch

GOOD, OTHER, FAILING, QUIET = "cg-1", "cg-2", "cg-bad", "cg-quiet"
#: The remote bundle's own patience, and that of its model: shorter than in the field.
REMOTE_TIMEOUT_S, TTL_S = 2, 3


class Ghost:
    """A gateway that the test plays on the server's broker: its status, what reaches it, what it answers."""

    def __init__(self, bus: BusClient, name: str) -> None:
        self.name = name
        self._bus = bus
        self._arrived: queue.Queue[Message] = queue.Queue()
        bus.subscribe(f"/{name}/controller", lambda payload: self._arrived.put(json.loads(payload)))

    def status(self, payload: bytes) -> None:
        """What its bridge says of itself, retained."""
        self._bus.send(payload, status_topic(self.name), retain=True)

    def next(self) -> Message:
        """The next command that reaches it."""
        return self._arrived.get(timeout=WAIT_S)

    def answer(self, message: Message, code: int = 200, tunnel: str = "", **more: Any) -> None:
        """Answer as the gateway's device, or to another tunnel than the one that was asked for."""
        said = {"id": message["id"], "code": code, "method": "post", "resource": "/a", "data": {}, **more}
        self._bus.send(said, tunnel or message["tunnel"])


class BridgedFlow(Flow):
    """A fleet of bridged gateways, puppetmaster, and those that ask."""

    def __init__(self, fleet: BridgedFleet, route: str, client: BusClient, stage: BusClient) -> None:
        super().__init__(fleet.server, client, stage)
        self.fleet = fleet
        self.route = route
        self._ghosts = 0

    def ghost(self, status: bytes = b"1") -> Ghost:
        """A new gateway in the test's hands; puppetmaster has heard of its status."""
        self._ghosts += 1
        ghost = Ghost(self.stage, f"ghost-{self._ghosts}")
        if status:
            before = self.presence()
            ghost.status(status)
            self.wait_for_presence(lambda now: now != before)
        return ghost

    def presence(self) -> dict[str, Any]:
        """How many gateways are connected and away, as GET /system/puppetmaster says."""
        shown = self.get("/system/puppetmaster")["gateways"]
        return {"connected": shown["connected"], "away": shown["away"]}

    def wait_for_presence(self, holds: Any) -> None:
        """Return when this holds of what is said of gateways."""
        until(lambda: holds(self.presence()), "this is said of gateways")

    def wait_until_registered(self) -> None:
        """Return when puppetmaster answers on the bus again, and sends."""
        until(lambda: self.asked("get", "/system/puppetmaster")["healthy"], "it is healthy")

    def run(self, method: str, *gateways: str, **more: Any) -> list[Message]:
        """Create a job, wait for its end: its requests."""
        job = self.create(batch(method, list(gateways), **more))
        self.ended(job)
        return self.requests(job)


@contextmanager
def bridged(directory: Path, route: str, **settings: str) -> Iterator[BridgedFlow]:
    require("mosquitto")
    fleet = BridgedFleet(
        directory,
        [GOOD, OTHER, FAILING, QUIET],
        settings={**SETTINGS, "PUPPETMASTER_ROUTE": route, **settings},
        timeout_s=REMOTE_TIMEOUT_S,
        ttl_s=TTL_S,
        fail={FAILING: 409},
        quiet=[QUIET],
    )
    with (
        fleet,
        BusClient(fleet.server.broker) as client,
        BusClient(fleet.server.broker, first_id=2**20, qos=1) as stage,
    ):
        flow = BridgedFlow(fleet, route, client, stage)
        flow.wait_for_presence(lambda now: now["connected"] == 3)
        yield flow


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgedFlow]:
    with bridged(tmp_path_factory.mktemp("remote"), "remote") as flow:
        yield flow


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgedFlow]:
    with bridged(tmp_path_factory.mktemp("direct"), "direct") as flow:
        yield flow


@pytest.fixture(params=["remote", "direct"])
def either(request: pytest.FixtureRequest) -> BridgedFlow:
    flow: BridgedFlow = request.getfixturevalue(request.param)
    return flow


# -- answers, whichever way ------------------------------------------------------------------------


def test_what_a_device_answers_is_its_own_word(either: BridgedFlow) -> None:
    good, bad = either.run("post", GOOD, FAILING)
    assert (good["status"], good["result"]["code"], good["result"]["source"]) == ("resolved", 200, "device")
    assert (bad["status"], bad["result"]["code"], bad["result"]["source"]) == ("error", 409, "device")
    assert bad["result"]["message"] == FAILURE["message"]


def test_each_command_runs_once_and_says_which_way_it_went(either: BridgedFlow) -> None:
    before = len(either.commands(GOOD, OTHER))
    requests = [request for _ in range(5) for request in either.run("post", GOOD, OTHER)]
    assert {request["status"] for request in requests} == {"resolved"}
    assert {request["route"] for request in requests} == {either.route}
    assert len(either.commands(GOOD, OTHER)) - before == 10


def test_a_gateway_that_is_away_ends_at_once_and_holds_up_nobody(either: BridgedFlow) -> None:
    away = either.fleet.gateways[OTHER]
    away.off()
    try:
        either.wait_for_presence(lambda now: now["away"] >= 1)
        first, second, third = either.run("post", OTHER, GOOD, FAILING)
    finally:
        away.on()
    assert (first["status"], first["sentAt"], first["route"]) == ("error", None, None)
    assert first["result"]["message"].startswith("not connected since 2")
    assert first["result"]["message"].endswith(": it did not run")
    assert first["result"]["source"] == "puppetmaster"
    assert (second["status"], third["status"]) == ("resolved", "error")
    either.wait_for_presence(lambda now: now["connected"] >= 3)
    assert either.run("post", OTHER)[0]["status"] == "resolved"


# -- through the remote bundle ---------------------------------------------------------------------


def test_a_timeout_of_the_remote_bundle_may_have_run(remote: BridgedFlow) -> None:
    """Nothing says that this one is away: it has to be asked."""
    away = remote.fleet.gateways[QUIET]
    away.off()
    try:
        quiet, good = remote.run("post", QUIET, GOOD)
    finally:
        away.on()
    assert quiet["status"] == "timeout"
    assert quiet["result"]["source"] in ("remote", "controller")
    assert "may have run" in quiet["result"]["message"]
    assert (quiet["attempts"], good["status"]) == (1, "resolved")


# -- directly --------------------------------------------------------------------------------------


def test_another_gateway_cannot_answer(direct: BridgedFlow) -> None:
    ghost, other = direct.ghost(), direct.ghost()
    job = direct.create(batch("post", [ghost.name, other.name]))
    asked, told = ghost.next(), other.next()
    assert asked["tunnel"] != told["tunnel"]
    other.answer(asked, 500, tunnel=told["tunnel"])  # as if it had been asked
    direct.client.send({"id": asked["id"], "code": 500, "data": {}})  # anybody on the server's bus
    other.answer(told)
    direct.until(job, lambda shown: shown["doneCount"] == 1)
    assert direct.statuses(job) == ["sent", "resolved"]
    ghost.answer(asked)
    assert direct.ended(job)["finishCount"] == 2


def test_what_a_gateway_answers_while_we_are_down_is_not_lost(direct: BridgedFlow) -> None:
    ghost = direct.ghost()
    job = direct.create(batch("post", [ghost.name]))
    asked = ghost.next()
    direct.kill()
    ghost.answer(asked)
    direct.start()
    assert direct.ended(job)["finishCount"] == 1


def test_a_broker_that_forgot_us_still_brings_answers(direct: BridgedFlow) -> None:
    """The session is gone with the broker: what is in flight is subscribed to again."""
    ghost = direct.ghost()
    job = direct.create(batch("get", [ghost.name]))
    asked = ghost.next()
    direct.broker.restart()
    direct.wait_until_registered()
    ghost.answer(asked)
    assert direct.ended(job)["finishCount"] == 1
    direct.wait_for_presence(lambda now: now["connected"] >= 3)


# -- what bridges may say --------------------------------------------------------------------------


def test_a_gateway_that_flaps_ends_all_its_requests_and_runs_none_twice(direct: BridgedFlow) -> None:
    ghost = direct.ghost()
    arrived: list[Message] = []
    over = threading.Event()

    def flap() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            ghost.status(b"%d" % (number % 2))

    flapping = threading.Thread(target=flap)
    flapping.start()
    try:
        jobs = [direct.create(batch("post", [ghost.name], requestTimeout=5)) for _ in range(20)]
        while not all(direct.show(job)["finishedAt"] for job in jobs):
            try:
                arrived.append(ghost._arrived.get(timeout=0.1))
                ghost.answer(arrived[-1])
            except queue.Empty:
                pass
    finally:
        over.set()
        flapping.join()
    statuses = [direct.statuses(job)[0] for job in jobs]
    assert set(statuses) <= {"resolved", "error"}
    assert statuses.count("resolved") == len(arrived) == len({message["id"] for message in arrived})


def test_two_gateways_with_one_id_are_one_request_and_the_first_answer_counts(direct: BridgedFlow) -> None:
    """Both get the command. Their bridges throw each other off the broker, which looks like flapping."""
    first = direct.ghost()
    with BusClient(direct.broker, qos=1) as bus:
        second = Ghost(bus, first.name)
        job = direct.create(batch("post", [first.name]))
        asked, asked_too = first.next(), second.next()
        assert asked == asked_too
        for status in (b"0", b"1"):
            second.status(status)
        second.answer(asked, 409, data={"message": "the other one"})
        assert direct.ended(job)["errorCount"] == 1
        first.answer(asked)
        later = direct.ghost()  # what is answered after it is here with that
        other = direct.create(batch("post", [later.name]))
        later.answer(later.next())
        direct.ended(other)
        (request,) = direct.requests(job)
    assert (request["status"], request["result"]["message"]) == ("error", "the other one")
