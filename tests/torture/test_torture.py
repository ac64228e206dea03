"""The verdict of the torture on bridged gateways: it must see each broken promise, and no other."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from puppetmaster.engine.absent import Absent
from puppetmaster.model import reply
from puppetmaster.model.job import Job
from puppetmaster.model.policy import Policy
from puppetmaster.settings import Settings
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes
from puppetmaster.store.sqlite.store import SqliteStore
from sandbox.fleet_log import Command
from tests.torture.absences import LONG, NEW, RESTARTS, Absences
from tests.torture.orders import Order
from tests.torture.verdict import BridgedVerdict
from tests.torture.world import BUNDLE, CONTROLLER, EVERYTHING, NOBODY, Conditions, Loss
from tests.virtual import Sending, World

GATEWAY = "cg-1"
MARK = "order-0/0"
#: An id of the remote bundle, and of another command of it.
PASSED_ON, PASSED_ON_TOO = 4711, 4712


@dataclass
class Case:
    """Jobs that were played in virtual time, and what a gateway's log is said to hold."""

    directory: Path
    route: str
    log: list[Command] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    conditions: Conditions = field(default_factory=Conditions)
    orders: dict[str, Order] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(Settings(route=self.route))
        self.world.clock.wall_ahead_s = time.time() - self.world.clock.monotonic_s

    def create(self, destination: str = GATEWAY, **more: Any) -> Job:
        """Create the job of an order: a post for one gateway, with the same mark each time."""
        key = f"order-{len(self.orders)}"
        item = {
            "method": "post",
            "resource": "/system/setting",
            "data": {"key": key, "mark": MARK},
            "__request": {"destination": [destination]},
        }
        given = {"key": key, "batch": [item], **more}
        job = self.world.create(given)
        order = Order(key, "/jobs", given, "order-0", frozenset([destination]))
        order.job = job.id
        self.orders[key] = order
        return job

    def grown_up(self) -> None:
        """Let the machine have run for so long that gateways are no longer waited for."""
        self.world.clock.monotonic_s = self.world.settings.booting_s + 1
        self.world.clock.wall_ahead_s = time.time() - self.world.clock.monotonic_s

    def refuse(self, job: Job) -> None:
        """Have the controller say that it knows no such gateway."""
        self.world.run(self.world.refused(job.first, 404, "", None))

    def answer(self, code: int = 200) -> Sending:
        """Have the device answer what was sent last."""
        sent = self.world.sent[-1]
        said = {"id": sent.message, "code": code, "method": "post", "resource": "/system/setting", "data": {}}
        read = reply.from_gateway(said)
        self.world.run(lambda engine: engine.delivery.answered(sent.message, read, sent.tunnel))
        return sent

    def ran(self, *ids: int, mark: str = MARK) -> None:
        """Write into the log that the gateway ran commands of these ids."""
        data = {"key": mark.partition("/")[0], "mark": mark}
        for id_ in ids:
            self.log.append(Command(time.monotonic(), id_, GATEWAY, "post", "/system/setting", data))

    def judge(self) -> list[str]:
        """Return the broken promises."""
        self._write_store()
        self.world.stop()
        log, journal = self.directory / "fleet.log", self.directory / "journal"
        log.write_bytes(b"".join(command.line() for command in self.log))
        journal.write_text("".join(f"{sent.message} {time.monotonic()}\n" for sent in self.world.sent))
        world: Any = SimpleNamespace(
            gateway=SimpleNamespace(directory=self.directory, fleet_log=log),
            journal=journal,
            losses=self.losses,
            fleet=(GATEWAY,),
            hardly=(NOBODY,),
            conditions=self.conditions,
        )
        return BridgedVerdict(world, self.orders).faults()

    def _write_store(self) -> None:
        """Write what the store in memory has into a file, as a bundle would have left it."""
        with self.world.store.reading() as reader, closing(SqliteStore(self.directory / "data")) as file:
            jobs = {job.id: job for job in reader.jobs({})}
            requests = {request.id: request for request in reader.requests({})}
            file.commit(Changes(jobs=jobs, items=reader.items(jobs), requests=requests))


@pytest.fixture
def remote(tmp_path: Path) -> Case:
    return Case(tmp_path, "remote")


@pytest.fixture
def direct(tmp_path: Path) -> Case:
    return Case(tmp_path, "direct")


def expect(faults: list[str], *texts: str) -> None:
    assert len(faults) == len(texts), faults
    for fault, text in zip(faults, texts, strict=True):
        assert text in fault


@pytest.mark.parametrize(
    ("ran", "faults"),
    [
        ([PASSED_ON], []),
        ([PASSED_ON, PASSED_ON], []),  # the remote bundle's connection repeated it
        ([PASSED_ON, PASSED_ON_TOO], ["2 times as [4711, 4712], expected 1 to 1"]),
        ([], ["0 times as [], expected 1 to 1"]),
    ],
)
def test_what_is_resolved_ran_once(remote: Case, ran: list[int], faults: list[str]) -> None:
    remote.create()
    remote.answer()
    remote.ran(*ran)
    expect(remote.judge(), *faults)


@pytest.mark.parametrize(
    ("ran", "faults"),
    [
        (lambda message: [message], []),
        (lambda message: [message, message], ["reached a gateway 2 times", "expected 1 to 1"]),
        (lambda _: [PASSED_ON], ["never ran, and is told as resolved"]),
    ],
)
def test_a_direct_message_is_known_by_its_id(
    direct: Case, ran: Callable[[int], list[int]], faults: list[str]
) -> None:
    direct.create()
    sent = direct.answer()
    direct.ran(*ran(sent.message))
    expect(direct.judge(), *faults)


def test_a_timeout_may_have_run_once(remote: Case) -> None:
    remote.create(requestTimeout=2)
    remote.world.advance(2)
    remote.ran(PASSED_ON)
    expect(remote.judge())


def test_a_retry_is_as_many_runs_as_it_has_attempts(remote: Case) -> None:
    remote.create(retry={"attempts": 2, "on": ["error"], "delay": 0})
    remote.answer(500)
    remote.answer()
    remote.ran(PASSED_ON, PASSED_ON_TOO)
    expect(remote.judge())


def test_a_retry_of_what_may_have_run(remote: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "tries_again", lambda _self, _outcome, attempts, *_, **__: attempts < 2)
    remote.create(retry={"attempts": 2, "on": ["timeout"], "delay": 0}, requestTimeout=2)
    remote.world.advance(2)
    remote.answer()
    remote.ran(PASSED_ON)
    expect(remote.judge(), "which may have run: {'code': 408")


def test_what_was_run_again_is_counted_together(remote: Case) -> None:
    """Each run of an order has the same mark."""
    remote.create(requestTimeout=2)
    remote.world.advance(2)
    remote.create()
    remote.answer()
    remote.ran(PASSED_ON, PASSED_ON_TOO, 4713)
    expect(remote.judge(), "3 times as [4711, 4712, 4713], expected 1 to 2")


def test_a_removed_job_may_have_run(remote: Case) -> None:
    job = remote.create()
    remote.world.do(lambda engine: engine.delete(job.id))
    remote.orders["order-0"].removal_asked = True
    remote.ran(PASSED_ON)
    expect(remote.judge())


def test_a_job_that_is_gone(remote: Case) -> None:
    job = remote.create()
    remote.world.do(lambda engine: engine.delete(job.id))
    expect(remote.judge(), "was acknowledged, and None is stored")


def test_what_says_that_it_did_not_run_did_not(direct: Case) -> None:
    direct.world.run(lambda engine: engine.bridge(GATEWAY, connected=False))
    job = direct.create()
    result = direct.world.request(job.first).result
    assert result is not None
    assert result["message"].endswith("it did not run")
    direct.ran(PASSED_ON)
    expect(direct.judge(), "1 times as [4711], expected 0 to 0")


def test_a_direct_message_of_a_removed_job_is_of_no_other_with_its_mark(direct: Case) -> None:
    """That job ran the steps of this one again, and was removed."""
    marks = [MARK, "order-0/1"]
    batch = [
        {"method": "post", "resource": "/x", "data": {"mark": one}, "__request": {"destination": GATEWAY}}
        for one in marks
    ]
    direct.create(batch=batch, onFail="stop")
    direct.ran(direct.answer(500).message)
    again = Order("order-1", "/jobs", {"batch": batch}, "order-0", frozenset([GATEWAY]))
    again.removal_asked = True
    direct.orders["order-1"] = again
    for id_, mark in enumerate(marks, FIRST_REQUEST_ID + 1000):
        direct.ran(id_, mark=mark)
    expect(direct.judge())


def test_a_direct_message_that_was_answered_in_vain(direct: Case) -> None:
    """Nothing broke, the gateway ran it, and its answer is said not to have come."""
    direct.create(requestTimeout=2)
    direct.world.advance(2)
    direct.ran(direct.world.sent[-1].message)
    expect(direct.judge(), "its gateway answers")


@pytest.mark.parametrize(("name", "away"), [(GATEWAY, True), (NOBODY, False)])
def test_a_gateway_that_is_away_or_does_not_exist_need_not_answer(
    direct: Case, name: str, away: bool
) -> None:
    direct.create(name, requestTimeout=2)
    direct.world.advance(2)
    if away:
        now_s = time.monotonic()
        direct.losses.append(Loss("gateway switched off", now_s - 1, now_s + 1, name))
    expect(direct.judge())


@pytest.mark.parametrize("times", [1.0, 0.1])
def test_a_gateway_that_was_not_waited_for_long_enough(
    remote: Case, monkeypatch: pytest.MonkeyPatch, times: float
) -> None:
    noted = Absent.noted
    monkeypatch.setattr(Absent, "noted", lambda self, one, what, s: noted(self, one, what, s * times))
    remote.world.clock.monotonic_s = remote.world.settings.booting_s + 1
    remote.world.owners = lambda _: None
    job = remote.create(NOBODY, deliveryTimeout=60)
    remote.refuse(job)
    remote.world.advance(60)
    expect(remote.judge(), *(["and the job was 6.000 s old"] if times < 1 else []))


def test_what_has_not_ended(remote: Case) -> None:
    remote.create()
    expect(remote.judge(), "has not ended", "it is not final")


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        (None, ["and nobody was restarted"]),
        (BUNDLE, ["and nobody was restarted"]),
        (CONTROLLER, ["and that one had been registered for"]),
    ],
)
def test_a_gateway_that_is_said_to_be_none(remote: Case, what: str | None, texts: list[str]) -> None:
    remote.grown_up()
    remote.refuse(remote.create())
    if what is not None:
        now_s = time.monotonic()
        remote.losses.append(Loss(what, now_s - 10, now_s - 5))
    expect(remote.judge(), *texts)


def test_the_owner_of_bridged_gateways_is_back_when_all_of_a_loss_is_over(remote: Case) -> None:
    remote.grown_up()
    remote.refuse(remote.create())
    now_s = time.monotonic()
    remote.losses += [Loss(EVERYTHING, now_s - 10, now_s - 5), Loss(EVERYTHING, now_s - 11, now_s + 1)]
    expect(remote.judge())


#: The controller was restarted at 100, and the gateway registered at 107; it is waited for 5 s.
RESTART = Loss(CONTROLLER, 100, 101)


@pytest.mark.parametrize(
    ("losses", "created_s", "at_s", "expected"),
    [
        ([], 90, 102, "and nobody was restarted"),
        ([RESTART], 90, 99, "and nobody was restarted"),
        ([RESTART], 90, 104, "and would have been waited for 1.000 s longer"),
        ([RESTART], 102, 104, "and would have been waited for 1.000 s longer"),
        ([RESTART], 90, 106, LONG),
        ([RESTART], 90, 107.2, LONG),
        ([RESTART], 90, 108, "and that one had been registered for 1.000 s"),
        ([RESTART, Loss(BUNDLE, 103, 104)], 90, 106, "and would have been waited for 2.000 s longer"),
        ([RESTART, Loss(BUNDLE, 103, 104)], 105, 106, NEW),
        ([Loss(BUNDLE, 98, 99), RESTART], 98.5, 106, LONG),
        ([Loss(BUNDLE, 98, 101), RESTART], 101, 102, NEW),
    ],
)
def test_when_it_is_right_to_say_that_there_is_no_such_gateway(
    losses: list[Loss], created_s: float, at_s: float, expected: str
) -> None:
    absences = Absences(losses, RESTARTS, 5.0, lambda _, restart: restart.from_s + 7)
    assert absences.judge(GATEWAY, created_s, at_s) == (expected in (LONG, NEW), expected)
