"""The use cases of templates where nobody decides: what they read, and what a dry run would keep."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from puppetmaster.api.bodies import parse_job
from puppetmaster.api.pages import whole
from puppetmaster.api.query import Query
from puppetmaster.api.templates import Templates
from puppetmaster.bus.limit import Limit
from puppetmaster.clock import seconds
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.errors import Conflict, Invalid, NotFound
from puppetmaster.model.template import Outcome, Record, Schedule, Template
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes
from puppetmaster.store.memory import MemoryStore

NOW_S = seconds("2026-03-02T12:00:00Z")
NIGHTLY = Schedule(cron="0 3 * * *")
BATCH = [{"method": "get", "resource": "/system/time", "data": {}, "__request": {"destination": ["cg-1"]}}]
JOB = {"batch": BATCH}


def kept(id_: int, name: str, schedule: Schedule | None = None) -> Template:
    record = Record(decided_s=NOW_S, counts={Outcome.STARTED.value: 2})
    return Template(id=id_, name=name, job=JOB, schedule=schedule, record=record)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore()
    some = (kept(1, "nightly", NIGHTLY), kept(2, "by hand"), kept(3, "weekly", NIGHTLY))
    made.commit(Changes(templates={one.id: one for one in some}))
    yield made
    made.close()


@pytest.fixture
def templates(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Templates:
    """The use cases without a dispatcher: who asked it would fail."""
    monkeypatch.setattr("puppetmaster.api.templates.time.time", lambda: NOW_S)
    settings = Settings()
    limit = Limit(settings.broker_limit_bytes)
    return Templates(
        settings, store, cast(Dispatcher, None), limit, lambda body: parse_job(body, settings.max_requests)
    )


def names(templates: Templates, asked: Query) -> list[str]:
    return [one["name"] for one in whole(templates.kept(asked))]


def test_they_are_listed_in_pages_or_by_name(templates: Templates) -> None:
    assert names(templates, Query()) == ["nightly", "by hand", "weekly"]
    assert names(templates, Query(limit=1, offset=1)) == ["by hand"]
    assert names(templates, Query(where={"name": "weekly"})) == ["weekly"]
    assert names(templates, Query(where={"name": "yearly"})) == []


def test_one_that_goes_while_a_list_is_read_is_left_out(templates: Templates, store: MemoryStore) -> None:
    listed = templates.kept(Query())
    store.commit(Changes(removed_templates={2}))
    assert [one["name"] for one in whole(listed)] == ["nightly", "weekly"]


@pytest.mark.parametrize("id_", ["9", "x", "-1", "1" * 19])
def test_what_is_no_template_is_not_found(templates: Templates, id_: str) -> None:
    with pytest.raises(NotFound, match="There is no template"):
        templates.template(id_)


def test_a_dry_run_keeps_nothing_and_says_what_would_be(templates: Templates) -> None:
    body = {"name": "new", "job": JOB, "schedule": {"cron": "0 4 * * *"}, "dryRun": True}
    would = templates.create(body)
    assert (would["id"], would["name"], would["dryRun"]) == (None, "new", True)
    assert would["plan"][0].startswith("It starts by itself at 0 4 * * * (UTC), first at 2026-03-03T04:00")
    assert "1 request to 1 gateway: get /system/time." in would["plan"]
    assert names(templates, Query()) == ["nightly", "by hand", "weekly"]


def test_a_dry_run_of_a_change_starts_from_what_is_kept(templates: Templates) -> None:
    would = templates.change("1", {"schedule": None, "dryRun": True})
    assert (would["id"], would["name"], would["schedule"]) == (None, "nightly", None)
    assert would["plan"][0] == "It is started by hand."
    made_up = templates.change("1", {"schedule": {"cron": "0 3 * * *", "missed": "run"}, "dryRun": True})
    assert "was missed is made up for" in made_up["plan"][0]
    with pytest.raises(NotFound):
        templates.change("9", {"schedule": None, "dryRun": True})


def test_a_dry_run_with_a_name_that_is_taken_is_a_conflict(templates: Templates) -> None:
    with pytest.raises(Conflict, match="The name 'weekly' belongs to template 3"):
        templates.change("1", {"name": "weekly", "dryRun": True})
    with pytest.raises(Conflict):
        templates.create({"name": "weekly", "job": JOB, "dryRun": True})
    assert templates.change("3", {"name": "weekly", "dryRun": True})["name"] == "weekly"


def test_the_plan_says_why_a_start_would_fail(templates: Templates) -> None:
    nobody: dict[str, Any] = {"batch": [{**BATCH[0], "__request": {"destination": {"selector": "site=x"}}}]}
    would = templates.create({"name": "new", "job": nobody, "dryRun": True})
    assert would["plan"][-1].startswith("Started now, it would fail: ")
    assert "none of them fits" in would["plan"][-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda templates: templates.create({"name": "new", "job": JOB, "schedule": {"cron": "often"}}),
        lambda templates: templates.change("1", {"job": {**JOB, "key": "k"}}),
        lambda templates: templates.create([]),
    ],
)
def test_what_is_wrong_is_refused_before_anybody_is_asked(
    templates: Templates, change: Callable[[Templates], object]
) -> None:
    with pytest.raises(Invalid):
        change(templates)
