"""What webhooks are owed: with the change that it tells of, or not at all."""

from collections.abc import Callable

import pytest

from puppetmaster.api import bodies
from puppetmaster.clock import seconds
from puppetmaster.engine import outbox
from puppetmaster.engine.engine import Engine
from puppetmaster.model.job import Job
from puppetmaster.model.notice import Hook, Notice
from puppetmaster.model.template import Outcome, Told
from puppetmaster.store.base import Changes
from tests.unit.engine.verbs import CANCELED, answer, control, delete, names, spec
from tests.virtual import World, body

HOOKS = (
    Hook("ops", "http://x/", b"k"),
    Hook("lab", "http://y/", b"k"),
    Hook("audit", "http://z/", b"k", all=True),
)


@pytest.fixture
def told(world: World) -> World:
    """A world with webhooks."""
    world.engine.outbox.hooks = HOOKS
    return world


def on_disk(world: World) -> list[tuple[str, str, str]]:
    return [(one.hook, one.notice.key, one.notice.type.split(".")[-1]) for one in world.store.now.owed()]


def test_the_end_is_owed_to_those_that_the_job_names_and_to_those_told_of_all(told: World) -> None:
    job = told.create(body("post", "a", notify=["ops"]))
    other = told.create(body("post", "b"))
    assert on_disk(told) == []
    answer(told, job.first)
    answer(told, other.first)
    assert on_disk(told) == [
        ("ops", f"job-{job.id}-3", "ended"),
        ("audit", f"job-{job.id}-3", "ended"),
        ("audit", f"job-{other.id}-3", "ended"),
    ]
    assert told.store.now.owed()[0].notice.data["job"]["status"] == "resolved"


def test_a_gate_that_closes_is_told_and_opening_it_is_not(told: World) -> None:
    job = told.create(body("post", *names(2), waves=[1], gate={"errors": 0}, notify=["lab"]))
    answer(told, job.first, 500)
    told.do(lambda engine: engine.control(job.id, job.status, force=False))
    assert on_disk(told) == [
        ("lab", f"job-{job.id}-3", "gateClosed"),
        ("audit", f"job-{job.id}-3", "gateClosed"),
    ]


def test_a_job_that_is_removed_while_it_runs_has_ended_and_what_is_owed_stays(told: World) -> None:
    job = told.create(body("post", "a", notify=["ops"]))
    delete(told, job)
    assert [one.notice.data["job"]["status"] for one in told.store.now.owed()] == ["canceled"] * 2
    ended = told.create(body("post", "b"))
    control(told, ended, CANCELED, force=True)
    before = on_disk(told)
    delete(told, ended)
    assert on_disk(told) == before


def test_what_is_owed_is_written_in_the_transaction_of_the_change(told: World) -> None:
    commits: list[Changes] = []
    commit = told.store.commit

    def noted(changes: Changes) -> None:
        commits.append(changes)
        commit(changes)

    told.store.commit = noted  # type: ignore[method-assign]  # to see each transaction
    job = told.create(body("post", "a"))
    answer(told, job.first)
    (owing,) = [one for one in commits if one.owed]
    assert owing.jobs[job.id].final


def test_what_could_not_be_written_is_owed_once_it_is(told: World) -> None:
    job = told.create(body("post", "a"))
    told.store.full = True
    answer(told, job.first)
    assert on_disk(told) == []
    told.store.full = False
    told.engine.retry_s = 0.0
    told.run()
    assert on_disk(told) == [("audit", f"job-{job.id}-3", "ended")]


def test_nothing_is_owed_of_a_job_that_never_was(told: World) -> None:
    def both(engine: Engine) -> None:
        job = engine.create(bodies.parse_job(body("post", "a"), 10))
        engine.control(job.id, CANCELED, force=False)

    told.store.full = True
    told.run(both)
    assert (told.engine.outbox.all(), told.revoked) == ([], [1])
    told.store.full = False
    told.engine.retry_s = 0.0
    told.run()
    assert (on_disk(told), told.store.now.jobs({}), told.happened) == ([], [], [])


def test_what_was_told_or_given_up_is_owed_no_more(told: World) -> None:
    for _ in range(3):
        control(told, told.create(body("post", "a")), CANCELED, force=True)
    first, second, third = (one.id for one in told.engine.outbox.all())
    told.run(lambda engine: engine.outbox.told(first), lambda engine: engine.outbox.failed(second))
    told.run(lambda engine: engine.outbox.give_up(third), lambda engine: engine.outbox.told(first))
    assert [(one.id, one.attempts) for one in told.store.now.owed()] == [(second, 1)]
    assert dict(told.engine.outbox.counts) == {"sent": 1, "failed": 1, "givenUp": 1}
    snapshot = told.engine.snapshot()
    assert snapshot.webhooks == {"sent": 1, "failed": 1, "givenUp": 1}
    assert snapshot.webhooks_waiting == 1


def test_the_age_of_the_oldest_is_told(told: World) -> None:
    assert told.engine.snapshot().webhooks_oldest_s == 0
    control(told, told.create(body("post", "a")), CANCELED, force=True)
    told.run(lambda engine: engine.outbox.failed(1))
    told.advance(100)
    control(told, told.create(body("post", "a")), CANCELED, force=True)
    assert told.engine.snapshot().webhooks_oldest_s == 100
    assert told.engine.outbox.oldest_s(3.0) == 0, "a clock that is not set says nothing"


def test_after_a_restart_all_is_owed_still_and_numbers_go_on(told: World) -> None:
    control(told, told.create(body("post", "a")), CANCELED, force=True)
    (owed,) = told.engine.outbox.all()
    told.run(lambda engine: engine.outbox.failed(owed.id))
    told.restart()
    told.engine.outbox.hooks = HOOKS
    assert told.engine.outbox.all() == [owed._replace(attempts=1)]
    control(told, told.create(body("post", "b")), CANCELED, force=True)
    assert [one.id for one in told.engine.outbox.all()] == [owed.id, owed.id + 1]


def test_it_is_bounded(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_OWED", 2)
    for _ in range(4):
        control(told, told.create(body("post", "a")), CANCELED, force=True)
    assert len(told.store.now.owed()) == 2
    assert told.engine.outbox.counts["givenUp"] == 2


def test_others_can_owe_something_too(told: World) -> None:
    notice = Notice(
        "template-3-x", "puppetmaster.schedule.missed", "/templates/3", "2026-01-02T03:04:05Z", {}
    )
    told.run(lambda engine: engine.outbox.owe(notice, ["ops"]))
    assert [one.hook for one in told.store.now.owed()] == ["ops", "audit"]


def test_without_webhooks_nothing_is_owed(world: World) -> None:
    job: Job = world.create(body("post", "a", notify=["ops"]))
    control(world, job, CANCELED, force=True)
    assert world.store.now.owed() == []


def test_a_schedule_that_does_not_start_its_job_is_told(told: World) -> None:
    asked = {"name": "nightly", "schedule": {"cron": "0 3 * * *"}}
    job = {**body("post", "a"), "notify": ["ops"]}
    new = bodies.parse_template({**asked, "job": job}, spec)
    template = told.do(lambda engine: engine.put_template(None, new))
    late = Told(Outcome.FAILED, "2026-03-02T03:00:00.000Z", "not started: no gateway is found")
    again = Told(Outcome.STARTED, "2026-03-03T03:00:00.000Z", "job 1 was started")

    def tell(one: Told) -> Callable[[Engine], object]:
        return lambda engine: engine.templates._tell(template, template.record, one)

    for one in (late, late, again):
        told.run(tell(one))
    assert [one.hook for one in told.store.now.owed()] == ["ops", "audit"]
    notice = told.store.now.owed()[0].notice
    assert (notice.type, notice.subject) == ("puppetmaster.schedule.notStarted", "/templates/1")
    assert notice.data["message"] == "not started: no gateway is found"
    assert notice.data["template"] == {"id": 1, "name": "nightly"}


THREE = seconds("2026-03-02T03:00:00Z")
HOUR_S = 3600.0


def late(told: World, *gateways: str) -> None:
    """Have two starts of a schedule come at once, of which the first one is missed, in a turn to come."""
    told.clock.wall_ahead_s = THREE - HOUR_S / 2 - told.clock.monotonic_s
    asked = {"name": "hourly", "schedule": {"cron": "0 * * * *"}, "job": body("post", *gateways)}
    new = bodies.parse_template(asked, spec)
    told.do(lambda engine: engine.put_template(None, new))
    told.clock.wall_ahead_s += 1.5 * HOUR_S
    told.clock.monotonic_s += 40


def missed(told: World) -> list[tuple[str, int]]:
    """The last of the missed starts that are told, and how many these are."""
    owed = [one.notice for one in told.store.now.owed() if one.notice.type.endswith("notStarted")]
    return [(one.data["dueAt"][11:16], one.data["many"]) for one in owed]


def test_missed_starts_are_told_with_the_start_that_makes_up_for_them(told: World) -> None:
    late(told, "a")
    told.run()
    assert missed(told) == [("03:00", 1)]


def test_missed_starts_are_told_once_though_they_could_not_be_written_at_first(told: World) -> None:
    """Meanwhile one more is missed."""
    late(told, "a")
    told.store.full = True
    told.turn()
    assert told.engine.stalled
    told.store.full = False
    told.clock.wall_ahead_s += HOUR_S
    told.clock.monotonic_s += 2
    told.run()
    record = told.store.now.template(1)
    assert record is not None
    assert missed(told) == [("04:00", 2)]
    assert record.record.counts == {"missed": 2, "started": 1}


def test_while_a_large_job_is_written_no_missed_start_is_told(told: World) -> None:
    """After a kill they would be decided on again."""
    late(told, *names(1200))
    told.turn()
    assert missed(told) == []
    told.run()
    assert missed(told) == [("03:00", 1)]
