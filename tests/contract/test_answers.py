"""Each property of the answers over HTTP is described, and each that is described is answered."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.api import answers
from puppetmaster.api.fields import Field, Many
from puppetmaster.engine.engine import Engine
from puppetmaster.model.job import JobEvent, JobStatus, OpenedGate
from puppetmaster.model.leadership import Free, Leadership
from puppetmaster.model.request import DIRECT_WAY, Request, RequestEvent, RequestStatus
from puppetmaster.model.template import Outcome, Told
from puppetmaster.store.base import Changes
from puppetmaster.store.sqlite.store import SqliteStore
from tests.contract.conftest import validator
from tests.examples import AT, LATER, a_job, a_request, an_item, counts
from tests.stored import first_of
from tests.web_client import Door, batch, hooks, running

WAIT_S = 10.0
LOST = {"code": 408, "data": None, "source": "controller", "message": "no answer"}
GOOD = {"code": 200, "data": {"load": 1}, "source": "device"}
BAD = {"code": 500, "data": {"load": 2}, "source": "device", "message": "the device answered 500"}
#: A new job with each property that a job shows again; its rerun is a job of its own.
POLICIES = {
    "name": "ntp",
    "key": "ntp-1",
    "timeout": 3600,
    "requestTimeout": 30,
    "deliveryTimeout": 86400,
    "concurrency": "50%",
    "rate": 20,
    "retry": {"attempts": 3, "on": ["timeout"], "delay": 5, "factor": 2, "maxDelay": 300},
    "idempotent": True,
    "onFail": "stop",
    "abort": {"errors": "10%", "after": 2},
    "waves": [1, "100%"],
    "gate": {"errors": 0, "soak": 60, "onFail": "pause"},
    "maintenance": {"cron": "0 1 * * *", "duration": 14400, "timezone": "Europe/Berlin"},
    "startAt": "2126-01-02T03:04:05Z",
    "notify": ["ops"],
}


def described(some: Iterable[Field], at: str = "") -> Iterator[str]:
    """The path of each property, such as ``counts.sent``."""
    for field in some:
        yield at + field.name
        yield from described(field.parts, f"{at}{field.name}.")


def answered(value: Any, some: Iterable[Field], at: str = "") -> Iterator[str]:
    """The path of each property in an answer. One that is not described fails."""
    known = {field.name: field for field in some}
    assert set(value) <= set(known), f"not described below '{at}': {set(value) - set(known)}"
    for name, child in value.items():
        field = known[name]
        yield at + name
        for one in objects(child, field) if field.parts and child is not None else ():
            yield from answered(one, field.parts, f"{at}{name}.")


def objects(value: Any, field: Field) -> Iterable[Any]:
    """The objects that the value of this property consists of."""
    if field.many is None:
        return [value]
    alike: Iterable[Any] = value if field.many is Many.LIST else value.values()
    return alike


def requests() -> dict[int, Request]:
    """Three that ended: lost, tried again directly, and answered late; well; badly."""
    first = first_of(1)
    made = [a_request(id=first + index, item=first, destination=f"cg-{index}") for index in range(3)]
    again = {"result": LOST, "outcome": RequestStatus.TIMEOUT, "message": first + 9}
    retried = made[0]
    for event, more in (
        (RequestEvent.SEND, {"route": DIRECT_WAY}),
        (RequestEvent.RETRY, again),
        (RequestEvent.SEND, {"route": DIRECT_WAY}),
        (RequestEvent.EXPIRE, {"result": LOST}),
    ):
        retried = retried.after(event, AT, **more)
    retried = retried.with_late_failure(first, BAD)
    ended = [
        retried.after(RequestEvent.FAIL, LATER, result=BAD),
        made[1].after(RequestEvent.SEND, AT).after(RequestEvent.SUCCEED, AT, result=GOOD),
        made[2].after(RequestEvent.SEND, AT).after(RequestEvent.FAIL, AT, result=BAD),
    ]
    return {request.id: request for request in ended}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    store = SqliteStore(tmp_path)
    ended = counts(resolved=1, error=2)
    given = {"onFail": "stop", "waves": [1]}
    job = a_job(id=1, first=first_of(1), status=JobStatus.DISPATCHING, counts=ended, given=given)
    job = replace(job, opened_gates=(OpenedGate(1, 1, AT),))
    item = an_item(id=job.first, code=200)
    jobs = {1: job.after(JobEvent.FINISH, LATER)}
    store.commit(Changes(jobs=jobs, items={item.id: item}, requests=requests(), destinations={"cg-0"}))
    store.close()
    with running(tmp_path, keep_days=36500, webhooks=hooks(tmp_path)) as started:
        yield started


def jobs(door: Door) -> Iterator[Any]:
    """Job objects of every sort."""
    yield door.ask("GET", "/jobs/1").json
    yield from door.ask("GET", "/jobs?collection=true").json
    yield door.ask("POST", "/jobs", batch("a", "b", **POLICIES)).json
    yield door.ask("POST", "/jobs", batch("a", "b", waves=[1, 2], dryRun=True)).json
    yield door.ask("POST", "/jobs", {"rerun": {"job": 1, "status": ["error"]}}).json
    door.ask("PUT", "/gateways/cg-1", {"labels": {"site": "north"}})
    for destination in ({"selector": "site=north", "match": "cg-*", "except": ["cg-0"]}, {"all": True}):
        body = batch()
        body["batch"][0]["__request"]["destination"] = destination
        yield door.ask("POST", "/jobs", body).json


def agree(name: str, shown: Iterable[Any], never: Iterable[str] = ()) -> None:
    """Each of these answers fits its schema; together they have each property that is described."""
    some, valid, found = answers.ANSWERS[name], validator(name), set[str]()
    for one in shown:
        valid.validate(one)
        found |= set(answered(one, some))
    assert found == set(described(some)) - set(never)


def test_jobs(door: Door) -> None:
    agree("Job", jobs(door))


def test_requests(door: Door) -> None:
    agree("Request", door.ask("GET", "/requests").json)


def test_results(door: Door) -> None:
    groups = door.ask("GET", "/jobs/1/results?diff=true").json
    agree("Result", groups, never=["diff.message"])  # that is of more than 100 differences


def test_events(door: Door) -> None:
    job = door.ask("POST", "/jobs", batch("a")).json["id"]
    door.ask("PUT", f"/jobs/{job}", {"status": "canceled"})
    events = door.ask("GET", f"/jobs/{job}/events").json
    assert len(events) == 3
    agree("Event", events)


def test_errors(door: Door) -> None:
    wrong = door.ask("POST", "/jobs", {})
    assert wrong.status == 400
    agree("Error", [wrong.json])


@pytest.fixture
def leading(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the store is PostgreSQL."""
    lead = Leadership("puppetmaster host:2 b", 2, 0, Free.GONE, "puppetmaster host:1 a", 4.5, sure=True)
    monkeypatch.setattr(door.app.store, "leadership", lambda: lead)


@pytest.mark.usefixtures("leading")
def test_the_gateway(door: Door) -> None:
    door.app.site.dispatcher.look(lambda engine: engine.scheduler.owners.of("/remote/+"), WAIT_S)
    agree("Gateway", [door.ask("GET", "/system/puppetmaster").json])


def test_gateways(door: Door) -> None:
    agree("KnownGateway", door.ask("GET", "/gateways").json)
    agree("PutGateways", [door.ask("POST", "/gateways", [{"name": "a"}]).json])


def test_templates(door: Door) -> None:
    schedule = {"cron": "* * * * *", "timezone": "UTC"}
    kept = door.ask("POST", "/templates", {"name": "t", "job": batch("a"), "schedule": schedule}).json
    planned = door.ask("PUT", "/templates/1", {"dryRun": True}).json

    def tell(engine: Engine) -> None:
        told = Told(Outcome.MISSED, AT, "1 start was missed")
        template = engine.templates.find(1)
        record = template.record.telling(told, AT)
        engine.state.changes.templates[1] = replace(template, record=record)

    door.app.site.dispatcher.call(tell, WAIT_S)
    agree("Template", [kept, planned, door.ask("GET", "/templates/1").json])


@pytest.mark.usefixtures("leading")
def test_readiness(door: Door) -> None:
    answer = door.ask("GET", "/health")
    assert answer.status == 503
    # Only a standby says that it is one: tests/system/test_onlooking.py.
    agree("Readiness", [answer.json], never=["standby"])


def test_nothing_is_said_of_a_leader_where_nobody_else_can_lead(door: Door) -> None:
    assert "leader" not in door.ask("GET", "/system/puppetmaster").json
    assert "leader" not in door.ask("GET", "/health").json
    assert b"leader" not in door.ask("GET", "/metrics").body


def test_a_property_that_nobody_described_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"not described below 'bus\.'"):
        list(answered({"bus": {"conected": True}}, answers.GATEWAY))
