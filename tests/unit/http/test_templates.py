"""Templates over HTTP: kept, changed, started with changes, removed; and all that can be wrong with one."""

import time
from typing import Any

import pytest

from puppetmaster.api import bodies
from puppetmaster.clock import iso, seconds
from tests.desk import until
from tests.web_client import Door, batch

NIGHTLY = {"cron": "0 3 * * 1-5", "timezone": "Europe/Berlin"}
FULL = {**NIGHTLY, "enabled": True, "missed": "skip", "overlap": "skip"}


def kept(door: Door, name: str = "nightly", **more: Any) -> Any:
    answer = door.ask("POST", "/templates", {"name": name, "job": batch("a", "b"), **more})
    assert answer.status == 200, answer
    return answer.json


def test_a_template_is_kept_with_its_next_starts(door: Door) -> None:
    template = kept(door, schedule=NIGHTLY)
    assert template["schedule"] == FULL
    assert (template["id"], template["name"], template["job"]) == (1, "nightly", batch("a", "b"))
    assert len(template["nextStarts"]) == 5
    assert template["nextAt"] == template["nextStarts"][0] > iso(time.time())
    assert all(one.endswith(("T01:00:00.000Z", "T02:00:00.000Z")) for one in template["nextStarts"])
    assert (template["lastJob"], template["lastStart"], template["queuedAt"]) == (None, None, None)
    assert template["starts"] == {"started": 0, "queued": 0, "missed": 0, "skipped": 0, "failed": 0}
    assert door.ask("GET", "/templates/1").json == template
    assert door.ask("GET", "/templates").json == [template]


def test_a_change_leaves_what_it_does_not_name(door: Door) -> None:
    kept(door, schedule=NIGHTLY)
    changed = door.ask("PUT", "/templates/1", {"schedule": {**FULL, "enabled": False}}).json
    assert (changed["name"], changed["job"], changed["nextAt"]) == ("nightly", batch("a", "b"), None)
    assert len(changed["nextStarts"]) == 5
    renamed = door.ask("PUT", "/templates/1", {"name": "other", "job": batch("c")}).json
    assert renamed["schedule"] == {**FULL, "enabled": False}
    gone = door.ask("PUT", "/templates/1", {"schedule": None}).json
    assert (gone["schedule"], gone["nextStarts"], gone["name"]) == (None, [], "other")


def test_a_removed_template_is_gone_and_its_jobs_stay(door: Door) -> None:
    kept(door)
    assert door.ask("POST", "/templates/1/jobs", {}).json["template"] == 1
    assert door.ask("DELETE", "/templates/1").json["name"] == "nightly"
    for method, path, body in (
        ("GET", "/templates/1", None),
        ("PUT", "/templates/1", {}),
        ("DELETE", "/templates/1", None),
        ("POST", "/templates/1/jobs", {}),
        ("GET", "/templates/x", None),
        ("GET", "/templates/99999999999999999999", None),
    ):
        assert door.ask(method, path, body).status == 404
    assert door.ask("GET", "/jobs/1").json["template"] == 1


def test_a_start_by_hand_says_what_differs(door: Door) -> None:
    kept(door, job=batch("a", "b", name="kept", concurrency=2))
    answer = door.ask("POST", "/templates/1/jobs", {"concurrency": 1, "name": "mine"}, Idempotency_Key="k")
    job = answer.json
    assert (answer.status, answer.headers["location"]) == (200, "/jobs/1")
    assert (job["concurrency"], job["name"], job["key"], job["totalCount"]) == (1, "mine", "k", 2)
    again = door.ask("POST", "/templates/1/jobs", {"concurrency": 1, "name": "mine", "key": "k"}).json
    assert again["id"] == 1
    plain = door.ask("POST", "/templates/1/jobs", {"concurrency": None}).json
    assert ("concurrency" in plain, plain["name"]) == (False, "kept")
    planned = door.ask("POST", "/templates/1/jobs", {"dryRun": True, **batch("x")}).json
    assert (planned["id"], planned["totalCount"], planned["template"]) == (None, 1, 1)
    door.ask("POST", "/jobs", batch("a"))
    assert [one["id"] for one in door.ask("GET", "/jobs?template=1").json] == [2, 1]
    assert door.ask("GET", "/templates/1").json["lastJob"] == 2
    assert door.ask("GET", "/jobs?template=x").status == 400


def test_all_that_is_wrong_is_named_at_once(door: Door) -> None:
    wrong = batch("a", "a", concurency=3, key="k", startAt="2026-01-02T03:04:05Z", gate={})
    schedule = {"cron": "61 25 * * *", "timezone": "Europe/Nowhere", "missed": "never", "on": True}
    answer = door.ask("POST", "/templates", {"name": "", "job": wrong, "schedule": schedule, "any": 1})
    assert answer.status == 400
    faults = {fault["path"]: fault["message"] for fault in answer.json["errors"]}
    of_job = ("batch[0].__request.destination[1]", "concurency", "gate", "key", "startAt")
    of_schedule = ("cron", "timezone", "missed", "on")
    wrong_ones = [f"job.{one}" for one in of_job] + [f"schedule.{one}" for one in of_schedule]
    assert set(faults) == {"name", "any", *wrong_ones}
    assert "0 to 59 as the minute" in faults["schedule.cron"]
    assert "0 to 23 as the hour" in faults["schedule.cron"]
    assert "did you mean 'concurrency'?" in faults["job.concurency"]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ([], [""]),
        ({}, ["name", "job"]),
        ({"name": "n", "job": {}}, ["job.batch"]),
        ({"name": "n", "job": {"rerun": {"job": 1}}}, ["job.rerun", "job.batch"]),
        ({"name": "n", "job": {"destinations": ["a"], "message": {}}}, ["job.batch"]),
        ({"name": "n", "job": 5}, ["job"]),
        ({"name": None, "job": batch("a"), "schedule": {}}, ["name", "schedule.cron"]),
        ({"name": "n", "job": batch("a"), "schedule": {"cron": 5}}, ["schedule.cron"]),
    ],
)
def test_what_is_no_template_is_refused(shared: Door, body: Any, paths: list[str]) -> None:
    answer = shared.ask("POST", "/templates", body)
    assert answer.status == 400
    assert {fault["path"] for fault in answer.json["errors"]} == set(paths)


def test_what_comes_of_both_is_checked(door: Door) -> None:
    kept(door, job=batch("a", waves=[1, 2], gate={}))
    answer = door.ask("POST", "/templates/1/jobs", {"waves": None, "rate": 0, "rerun": {"job": 1}})
    assert {fault["path"] for fault in answer.json["errors"]} == {"gate", "rate", "rerun", "batch"}
    assert door.ask("GET", "/jobs").json == []


def test_a_job_that_is_too_large_is_not_kept(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_KEPT_BYTES", 200)
    answer = door.ask("POST", "/templates", {"name": "n", "job": batch(*(f"cg-{n:05}" for n in range(99)))})
    assert answer.status == 413
    assert "by selector, match or all" in answer.json["message"]


def test_a_schedule_starts_by_itself(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that was missed by far is made up for at once, also by the clock of the machine."""
    template = kept(door, schedule={"cron": "* * * * *", "missed": "run"})
    # Set before the turn that looks at the schedule: a turn reads the clock once, when it begins.
    monkeypatch.setattr(door.app.site.engine.clock, "wall_s", lambda: time.time() + 3600)
    door.app.site.dispatcher.call(lambda engine: engine.templates.fire(template["id"]), 5)
    until(lambda: door.ask("GET", "/jobs?template=1").json, "the job of the schedule")
    (job,) = door.ask("GET", "/jobs?template=1").json
    shown = door.ask("GET", "/templates/1").json
    assert shown["lastJob"] == job["id"]
    assert shown["lastStart"]["outcome"] == "started"
    assert seconds(shown["lastStart"]["dueAt"]) % 60 == 0
    assert job["key"] == f"template 1: {shown['lastStart']['dueAt']}"
    metrics = door.ask("GET", "/metrics").body.decode()
    assert 'puppetmaster_schedule_starts_total{outcome="started"} 1.0' in metrics
