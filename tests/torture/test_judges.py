"""The judges of schedules, webhooks and orders: they must see each broken promise, and no other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.clock import iso
from puppetmaster.model.timeline import ITSELF
from sandbox.fleet_log import Command
from tests.receiver import Got
from tests.torture.account import LATE_S, Account
from tests.torture.askers import Order
from tests.torture.starts import EVERY_S, Answer, Schedules, start_faults, times
from tests.torture.told import ENDED, NOT_STARTED, told_faults

#: A time of the schedules.
BEGUN_S = 1_800_000_000.0
DUE = times(BEGUN_S, BEGUN_S + 3 * EVERY_S)

Change = Callable[[Any], Any]


def job(number: int, **more: Any) -> dict[str, Any]:
    """A job of template 1, for the time of this number."""
    key = f"template 1: {DUE[number - 1]}"
    shown = {"id": number, "key": key, "name": None, "createdBy": ITSELF, "template": 1, "status": "resolved"}
    return {**shown, "finishedAt": "2027-01-15T08:00:01.000Z", "createdAt": DUE[number - 1], **more}


def template(**starts: int) -> dict[str, Any]:
    none = dict.fromkeys(("started", "queued", "missed", "skipped", "failed"), 0)
    return {"id": 1, "queuedAt": None, "starts": {**none, **starts}}


def expect(faults: list[str], *texts: str) -> None:
    assert len(faults) == len(texts), faults
    for fault, text in zip(faults, texts, strict=True):
        assert text in fault


def test_times_come_every_few_seconds() -> None:
    assert [iso(BEGUN_S + EVERY_S * number) for number in (1, 2, 3)] == DUE


@pytest.mark.parametrize(
    ("jobs", "starts", "sure", "texts"),
    [
        ([1, 2, 3], {"started": 3}, None, []),
        ([1, 3], {"started": 2, "missed": 1}, None, []),
        ([1, 3], {"started": 2, "skipped": 1, "queued": 5}, None, []),
        ([1, 2], {"started": 2}, 2, []),
        ([1, 2], {"started": 2}, None, ["tells of 2"]),
        ([1, 2, 2], {"started": 3}, None, ["was started 2 times for"]),
        ([1, 2], {"started": 3}, None, ["has 2 jobs by its schedule, and tells of 3"]),
        ([1, 2, 3], {"started": 3, "missed": 1}, None, ["tells of 4"]),
    ],
)
def test_starts(jobs: list[int], starts: dict[str, int], sure: int | None, texts: list[str]) -> None:
    expect([*start_faults(template(**starts), [job(number) for number in jobs], DUE, sure)], *texts)


def test_a_start_at_no_time_and_one_of_somebody_else() -> None:
    jobs = [job(1), job(2, key="template 1: 2027-01-15T08:00:01.000Z"), job(3, createdBy="ann")]
    texts = ["is said to be created by ann", "which is none of its times"]
    expect([*start_faults(template(started=3), jobs, DUE)], *texts)


def test_a_job_that_was_started_by_hand_is_none_of_the_schedules() -> None:
    jobs = [job(1), job(2, key="order-1", createdBy="ann")]
    expect([*start_faults(template(started=1), jobs, DUE[:1])])


class Scripted:
    """A bundle with these templates, of which every other answer is lost."""

    def __init__(self) -> None:
        self.templates: list[dict[str, Any]] = []
        self.asked = 0

    def ask(self, method: str, path: str, body: Any) -> Answer:
        answer = self._answer(method, path, body)
        self.asked += 1
        return answer if self.asked % 2 else None

    def _answer(self, method: str, path: str, body: Any) -> Answer:
        if method == "post":
            if any(one["name"] == body["name"] for one in self.templates):
                return 409, {"message": "taken"}
            self.templates.append({**template(), **body, "id": len(self.templates) + 1})
        elif method == "put":
            self.templates[int(path.rpartition("/")[2]) - 1] |= body
        elif "?name=" in path:
            return 200, [one for one in self.templates if one["name"] == path.partition("=")[2]]
        return 200, self.templates[int(path.rpartition("/")[2]) - 1] if method == "get" else None


def test_templates_are_put_once_though_answers_are_lost() -> None:
    bundle = Scripted()
    schedules = Schedules(bundle.ask, lambda name, slow: {"name": name, "slow": slow})
    schedules.begin()
    assert [one.id for one in schedules.kept] == [1, 2, 3, 4]
    assert [one["job"]["slow"] for one in bundle.templates] == [True, True, False, False]
    schedules.end()
    assert [one["job"]["slow"] for one in bundle.templates] == [False] * 4
    assert not any(one["schedule"]["enabled"] for one in bundle.templates)


def ended(number: int, **more: Any) -> dict[str, Any]:
    """What is told of the end of a job."""
    event = {"number": 3, "event": "ended"}
    data = {"event": event, "job": {**job(number), **more}}
    return {"type": ENDED, "subject": f"/jobs/{number}", "data": data}


def got(id_: str, event: dict[str, Any]) -> Got:
    return Got("/hook", {"webhook-id": id_}, json.dumps(event).encode())


JOBS = {number: job(number) for number in (1, 2)}
LINES: dict[int, list[dict[str, Any]]] = {
    number: [{"number": 3, "event": "ended"}] for number in JOBS
}  # of each job
TOLD = [got("job-1-3", ended(1)), got("job-2-3", ended(2))]


@pytest.mark.parametrize(
    ("told", "texts"),
    [
        (TOLD, []),
        ([*TOLD, TOLD[0]], []),
        (TOLD[:1], ["the end of job 2 was not told"]),
        ([*TOLD, got("job-2-4", ended(2))], ["the end of /jobs/2 is told under 2 ids"]),
        ([*TOLD, got("job-2-3", ended(2, name="x"))], ["job-2-3 was told with two bodies"]),
        ([TOLD[0], got("job-2-3", ended(2, status="error"))], ["told with status error, and has resolved"]),
        ([*TOLD, got("job-3-3", ended(3))], ["job 3 was told, and there is no such job"]),
    ],
)
def test_what_is_told(told: list[Got], texts: list[str]) -> None:
    expect([*told_faults(told, JOBS, LINES)], *texts)


def test_what_is_told_of_a_job_that_was_removed() -> None:
    expect([*told_faults([*TOLD, got("job-3-3", ended(3))], JOBS, LINES, removed=[3])])


def test_what_is_told_and_is_in_no_time_line() -> None:
    expect([*told_faults(TOLD, JOBS, {**LINES, 2: []})], "its time line has no")


@pytest.mark.parametrize(("many", "texts"), [(3, []), (2, ["{1: 3} were told, and there were {1: 2, "])])
def test_starts_that_did_not_come_about(many: int, texts: list[str]) -> None:
    data = {"template": {"id": 1}, "many": 3}
    notice = got("template-1-missed", {"type": NOT_STARTED, "subject": "/templates/1", "data": data})
    expect([*told_faults([*TOLD, notice, notice], JOBS, LINES, not_started={1: many, 2: 0})], *texts)


class Served:
    """A door at which these jobs are shown."""

    by = "bob"

    def __init__(self, *jobs: dict[str, Any], events: list[dict[str, Any]]) -> None:
        self._jobs = {str(one["id"]): one for one in jobs}
        self._events = events

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        _, _, id_, *rest = (path.partition("?")[0] + "/").split("/")
        if not id_:
            return 200, [*self._jobs.values()]
        return 200, self._events if "events" in rest else self._jobs[id_]


def order(**more: Any) -> Order:
    asked: dict[str, Any] = {"name": "order-1", "by": "bob", "path": "/jobs", "body": {}, "id": 7, **more}
    return Order(destinations=["a", "b"], **asked)


def request(destination: str, **more: Any) -> dict[str, Any]:
    inner = {"destination": destination, "status": "resolved", "sentAt": iso(BEGUN_S), **more}
    return {"resource": "/do/order-1/0", "__request": {"finishedAt": iso(BEGUN_S + 1), **inner}}


def judged(
    tmp_path: Path,
    one: Order,
    change: dict[str, Any] | None = None,
    *,
    requests: list[dict[str, Any]] | None = None,
    commands: str = "ab",
    at_s: float = BEGUN_S,
    there: bool = True,
    events: list[dict[str, Any]] | None = None,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """What is wrong with a job of two requests whose commands came once each, but for what is given."""
    requests = requests or [request("a"), request("b")]
    stored = {
        **job(1),
        "id": 7,
        "name": "order-1",
        "key": "order-1",
        "createdBy": "bob",
        "requests": requests,
    }
    monkeypatch.setattr("tests.torture.account.time.time", lambda: 0.0)
    monkeypatch.setattr("tests.torture.account.time.monotonic", lambda: 0.0)
    log = tmp_path / "log"
    reached = [
        Command(at_s, 100 + number, to, "post", "/do/order-1/0", None) for number, to in enumerate(commands)
    ]
    log.write_bytes(b"".join(command.line() for command in reached))
    door = Served(*([{**stored, **(change or {})}] if there else []), events=events or [])
    return [*Account(door, log).faults([one])]


@pytest.mark.parametrize(
    ("one", "given", "texts"),
    [
        (order(), {}, []),
        (order(id=None, refused=False), {}, []),
        (order(id=None), {"there": False, "commands": ""}, []),
        (order(id=None, refused=False), {"there": False, "commands": ""}, []),
        (order(removal_asked=True), {"there": False}, []),
        (order(), {"there": False, "commands": ""}, ["was answered with 200 as job 7, and is not there"]),
        (order(id=None), {}, ["and its caller was told that nothing was changed"]),
        (order(id=None, refused=False), {"there": False, "commands": "a"}, ["reached a, and is not there"]),
        (order(id=8), {}, ["was answered as job 8"]),
        (order(removal_asked=True, removed=True), {}, ["was removed, and is there"]),
        (order(), {"change": {"createdBy": "ann"}}, ["was created by bob, and is said to be by ann"]),
        (order(), {"requests": [request("a")]}, ["has 1 requests, and was asked for 2"]),
        (order(name="order-2", id=None), {}, ["order-1) is there, and nobody asked for it"]),
        (order(), {"commands": "aab"}, ["order-1/0 reached a 2 times"]),
        (order(), {"commands": "a"}, ["it is resolved, and never came"]),
        (order(), {"at_s": BEGUN_S + 2}, ["it came after its end"] * 2),
        (order(events={"paused"}), {}, ["was paused by bob, and its time line does not say so"]),
        (order(events={"paused"}), {"events": [{"event": "paused", "by": "bob"}]}, []),
        (order(events={"paused"}), {"events": [{"event": "paused", "by": "ann"}]}, ["was paused by bob"]),
        (order(events={"canceled"}), {"events": [{"event": "canceled", "by": "bob"}]}, ["and is resolved"]),
        (
            order(),
            {"requests": [request("a"), request("b", finishedAt=None)]},
            ["job 7, b (resolved): it has not ended"],
        ),
        (
            order(),
            {"requests": [request("a"), request("b", status="canceled")]},
            ["it says that it never ran, and it came"],
        ),
        (
            order(),
            {
                "requests": [request("a"), request("b", finishedAt=iso(BEGUN_S + 60))],
                "commands": "b",
                "at_s": BEGUN_S + LATE_S + 1,
            },
            ["it is resolved, and never came", "after it was on record as sent"],
        ),
    ],
)
def test_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Order, given: dict[str, Any], texts: list[str]
) -> None:
    expect(judged(tmp_path, one, monkeypatch=monkeypatch, **given), *texts)


@pytest.mark.parametrize(
    ("one", "commands", "texts"),
    [
        (order(name="order-2", id=None, command="order-1", removal_asked=True), "aabb", []),
        (
            order(name="order-2", id=None, command="order-1", removal_asked=True),
            "aaabb",
            ["reached a 3 times"],
        ),
        (order(name="order-2", id=None, command="order-1", refused=False), "aab", ["reached a 2 times"]),
    ],
)
def test_commands_of_a_template_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Order, commands: str, texts: list[str]
) -> None:
    by_schedule = {"key": f"template 1: {DUE[0]}", "name": None}
    expect(judged(tmp_path, one, by_schedule, commands=commands, monkeypatch=monkeypatch), *texts)
