"""Starts by schedules in virtual time: each once, over crashes, full disks and clocks that are set."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puppetmaster.api import bodies
from puppetmaster.clock import iso, seconds
from puppetmaster.engine import templates
from puppetmaster.errors import Conflict, NotFound, StoreError, Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.model.template import NewTemplate, Template
from tests.unit.engine.verbs import SETTINGS
from tests.virtual import World, body

DAY_S = 86_400.0
THREE = seconds("2026-03-02T03:00:00Z")


def parse(asked: Any) -> JobSpec:
    return bodies.parse_job(asked, 10_000)


def put(world: World, name: str = "nightly", cron: str = "0 3 * * *", **more: Any) -> Template:
    asked = {"name": name, "job": body("post", "cg-1"), "schedule": {"cron": cron}, **more}
    new = bodies.parse_template(asked, parse)
    return world.do(lambda engine: engine.put_template(None, new))


def changed(world: World, id_: int, **asked: Any) -> Template:
    new = bodies.parse_template(asked, parse, new=False)
    return world.do(lambda engine: engine.put_template(id_, new))


def kept(world: World, id_: int = 1) -> Template:
    found = world.store.now.template(id_)
    assert found is not None
    return found


def jobs(world: World) -> list[Job]:
    return world.store.now.jobs({})[::-1]


def due(world: World) -> list[str]:
    """The times for which jobs were started, of all templates."""
    return [str(job.key).partition(": ")[2][:16] for job in jobs(world)]


def end(world: World) -> None:
    """Answer all that is in flight."""
    world.run(*(world.answered(one.message) for one in world.sent))
    world.sent.clear()


def at(world: World, wall_s: float) -> None:
    """Let time pass until the wall clock shows this."""
    world.advance(wall_s - world.clock.wall_s())


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS)
    made.clock.wall_ahead_s = THREE - 3600 - made.clock.monotonic_s
    yield made
    made.stop()


def test_a_start_is_on_time_and_noted_with_its_job(world: World) -> None:
    put(world)
    at(world, THREE - 0.5)
    assert jobs(world) == []
    at(world, THREE + 0.5)
    (job,) = jobs(world)
    assert (job.template, job.key, job.created_at) == (1, "template 1: 2026-03-02T03:00:00.000Z", iso(THREE))
    assert [one.destination for one in world.sent] == ["cg-1"]
    record = kept(world).record
    assert (record.last_job, record.decided_s, record.counts) == (job.id, THREE, {"started": 1})
    assert record.last == {
        "at": iso(THREE),
        "dueAt": iso(THREE),
        "outcome": "started",
        "message": "job 1 was started",
    }
    end(world)
    at(world, THREE + 3 * DAY_S + 1)
    assert due(world)[:2] == ["2026-03-02T03:00", "2026-03-03T03:00"]
    assert world.engine.snapshot().starts["started"] == 4


@pytest.mark.parametrize(("missed", "expected"), [("skip", []), ("run", ["2026-03-04T03:00"])])
def test_what_was_missed_while_the_program_was_down(world: World, missed: str, expected: list[str]) -> None:
    put(world, schedule={"cron": "0 3 * * *", "missed": missed})
    world.clock.monotonic_s += 3 * DAY_S
    world.restart()
    world.run()
    assert due(world) == expected
    counts = kept(world).record.counts
    assert counts == ({"missed": 3} if missed == "skip" else {"missed": 2, "started": 1})
    if expected:
        assert kept(world).record.last == {
            "at": iso(world.clock.wall_s()),
            "dueAt": "2026-03-04T03:00:00.000Z",
            "outcome": "started",
            "message": "job 1 was started, 82800 s after its time",
        }


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_start_while_a_job_runs(world: World, overlap: str) -> None:
    put(world, schedule={"cron": "*/10 * * * *", "overlap": overlap})
    job = body("post", "cg-1", requestTimeout=10_000)
    changed(world, 1, job=job)
    at(world, THREE + 1850 - 3600)
    assert [job.id for job in jobs(world)] == [1]
    assert kept(world).record.counts == (
        {"started": 1, "skipped": 2} if overlap == "skip" else {"started": 1, "queued": 1, "skipped": 1}
    )
    end(world)
    assert len(jobs(world)) == (1 if overlap == "skip" else 2)
    at(world, THREE + 2401 - 3600)
    assert due(world)[-1] == ("2026-03-02T02:40" if overlap == "skip" else "2026-03-02T02:20")


def test_a_queued_start_outlives_the_program(world: World) -> None:
    put(
        world,
        schedule={"cron": "0 3 * * *", "overlap": "queue"},
        job=body("post", "cg-1", requestTimeout=1e6),
    )
    by_hand = world.do(lambda engine: engine.start_template(1, spec(world)))
    at(world, THREE + 5)
    assert kept(world).record.queued_s == THREE
    world.restart()
    world.run()
    assert [job.id for job in jobs(world)] == [by_hand.id]
    world.do(lambda engine: engine.control(by_hand.id, JobStatus.CANCELED, force=True))
    world.run()
    assert (due(world)[-1], kept(world).record.queued_s) == ("2026-03-02T03:00", None)


def spec(world: World, **more: Any) -> Any:
    parsed = bodies.parse_start(kept(world).job, more, parse)
    return replace(parsed, template=1)


def test_a_start_by_hand_is_of_the_template_and_decides_nothing(world: World) -> None:
    put(world)
    before = kept(world).record
    job = world.do(lambda engine: engine.start_template(1, spec(world, name="now", key="k")))
    assert (job.template, job.name) == (1, "now")
    assert kept(world).record == replace(before, last_job=job.id)
    again = world.do(lambda engine: engine.start_template(1, spec(world, name="now", key="k")))
    assert again.id == job.id
    with pytest.raises(Conflict):
        world.do(lambda engine: engine.start_template(1, spec(world, name="other", key="k")))


def test_what_cannot_be_started_is_told(world: World) -> None:
    sought = {
        **body("get"),
        "batch": [{**body("get")["batch"][0], "__request": {"destination": {"match": "x*"}}}],
    }
    put(world, job=sought)
    at(world, THREE + 1)
    assert jobs(world) == []
    record = kept(world).record
    assert record.counts == {"failed": 1}
    assert "none of them fits" in str(record.last)
    world.create(body("get", "x-1"))
    at(world, THREE + DAY_S + 1)
    assert [job.template for job in jobs(world)] == [None, 1]


def test_that_another_job_has_the_key_is_told(world: World) -> None:
    template = put(world)
    world.create(body("get", "cg-9", key=template.key_of(THREE)))
    at(world, THREE + 1)
    assert [job.template for job in jobs(world)] == [None]
    assert kept(world).record.counts == {"failed": 1}
    assert "job 1, which is not of this template, has its key" in str(kept(world).record.last)


def test_no_room_for_a_job_is_told(world: World) -> None:
    put(world)
    world.settings = replace(SETTINGS, max_open_jobs=1)
    world.restart()
    world.create(body("post", "cg-9", requestTimeout=1e6))
    at(world, THREE + 1)
    assert "No job can be created: 1 have not ended" in str(kept(world).record.last)


def test_a_schedule_that_is_off_starts_nothing_until_it_is_on(world: World) -> None:
    put(world)
    changed(world, 1, schedule={"cron": "0 3 * * *", "enabled": False})
    at(world, THREE + 1)
    assert jobs(world) == []
    changed(world, 1, schedule={"cron": "0 3 * * *", "missed": "run"})
    at(world, THREE + 100)
    assert jobs(world) == []
    at(world, THREE + DAY_S + 1)
    assert due(world) == ["2026-03-03T03:00"]
    changed(world, 1, schedule=None)
    at(world, THREE + 2 * DAY_S + 1)
    assert len(jobs(world)) == 1


def test_a_template_that_is_removed_starts_nothing(world: World) -> None:
    put(world)
    assert world.do(lambda engine: engine.remove_template(1)).name == "nightly"
    at(world, THREE + 1)
    assert (jobs(world), world.store.now.template(1)) == ([], None)
    with pytest.raises(NotFound, match="There is no template 1"):
        world.do(lambda engine: engine.remove_template(1))
    with pytest.raises(NotFound, match="There is no template 1"):
        changed(world, 1, name="again")
    assert put(world).id == 2


def test_names_are_unique_and_templates_are_not_too_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world)
    with pytest.raises(Conflict, match="The name 'nightly' belongs to template 1"):
        put(world)
    put(world, "other")
    with pytest.raises(Conflict, match="belongs to template 1"):
        changed(world, 2, name="nightly")
    assert changed(world, 2, name="other").name == "other"
    monkeypatch.setattr(templates, "MOST_TEMPLATES", 2)
    with pytest.raises(Conflict, match="There are 2 templates, which are the most"):
        put(world, "third")


def test_a_full_disk_takes_back_the_start_and_its_note(world: World) -> None:
    put(world)
    before = kept(world)
    at(world, THREE - 1)
    world.store.full = True
    world.clock.monotonic_s += 1
    world.turn()
    assert (world.revoked, world.engine.stalled) == ([1], "The disk is full.")
    assert world.engine.snapshot().starts["started"] == 0
    with pytest.raises(Unavailable):
        put(world, "other")
    world.store.full = False
    world.clock.monotonic_s += 2
    world.run()
    assert due(world) == ["2026-03-02T03:00"]
    assert (kept(world).record.last_job, before.record.last_job) == (2, None)
    world.restart()
    world.run()
    assert len(jobs(world)) == 1


@pytest.fixture
def large(world: World) -> World:
    """A world in which a large job of a template is being written."""
    put(world, job=body("get", *(f"cg-{n}" for n in range(1200)), requestTimeout=1e6))
    at(world, THREE - 1)
    world.clock.monotonic_s += 1
    world.turn()
    assert (jobs(world), kept(world).record.counts) == ([], {})
    return world


def test_a_large_job_is_noted_when_it_exists(large: World) -> None:
    large.restart()  # killed while it was written
    assert due(large) == ["2026-03-02T03:00"]
    assert (kept(large).record.last_job, kept(large).record.counts) == (jobs(large)[0].id, {"started": 1})


def test_a_template_that_is_changed_while_its_large_job_is_written_stays_so(large: World) -> None:
    new = NewTemplate(name="renamed", schedules=True)
    large.turn(lambda engine: engine.put_template(1, new))
    large.run()
    assert (kept(large).name, kept(large).schedule, len(jobs(large))) == ("renamed", None, 1)
    assert kept(large).record.last_job == 1


def test_a_template_that_is_removed_while_its_large_job_is_written_stays_removed(large: World) -> None:
    large.run(lambda engine: engine.remove_template(1))
    assert ([job.template for job in jobs(large)], large.store.now.template(1)) == ([1], None)


def test_a_large_job_that_could_not_be_written_is_due_again(large: World) -> None:
    large.store.full = True
    large.turn()
    assert large.revoked == [1]
    large.store.full = False
    large.clock.monotonic_s += 2
    large.run()
    assert due(large) == ["2026-03-02T03:00"]
    assert (kept(large).record.last_job, kept(large).record.counts) == (2, {"started": 1})


def test_a_start_that_is_due_while_a_large_job_is_written_is_decided_on_after_that(world: World) -> None:
    put(world, job=body("get", *(f"cg-{n}" for n in range(1200)), requestTimeout=1e6))
    at(world, THREE - 1)
    by_hand = spec(world)
    world.turn(lambda engine: engine.start_template(1, by_hand))
    world.clock.monotonic_s += 1
    world.turn()
    assert jobs(world) == [], "it is still written"
    world.run()
    assert len(jobs(world)) == 1
    assert kept(world).record.counts == {"skipped": 1}, "the job by hand has not ended"


def test_starts_by_hand_that_could_not_be_written_leave_no_trace(world: World) -> None:
    put(world)
    before, first, second = kept(world).record, spec(world), spec(world)
    world.store.full = True
    world.turn(
        lambda engine: engine.start_template(1, first),
        lambda engine: engine.start_template(1, second),
    )
    assert world.revoked == [1, 2]
    world.store.full = False
    world.clock.monotonic_s += 2
    world.run()
    assert (kept(world).record, jobs(world)) == (before, [])


@pytest.mark.parametrize("off", [{"schedule": None}, {"schedule": {"cron": "0 3 * * *", "enabled": False}}])
def test_a_schedule_that_is_taken_back_at_once_starts_nothing(world: World, off: dict[str, Any]) -> None:
    asked = {"name": "nightly", "job": body("post", "cg-1"), "schedule": {"cron": "0 3 * * *"}}
    new, then = bodies.parse_template(asked, parse), bodies.parse_template(off, parse, new=False)
    world.run(lambda engine: engine.put_template(None, new), lambda engine: engine.put_template(1, then))
    world.run(
        lambda engine: engine.put_template(None, replace(new, name="2")), lambda one: one.remove_template(2)
    )
    world.restart()
    at(world, THREE + 1)
    assert jobs(world) == []


def test_a_template_that_cannot_be_read_keeps_nobody_from_starting(world: World) -> None:
    put(world, "broken")
    put(world, "fine")

    read = world.store.now.template

    def unreadable(id_: int) -> Any:
        if id_ == 1:
            raise StoreError("changed")
        return read(id_)

    world.store.now.template = unreadable  # type: ignore[method-assign]
    at(world, THREE + 40)
    assert [job.template for job in jobs(world)] == [2]


@pytest.mark.parametrize("name", ["template_ids", "gateway_names"])
def test_what_cannot_be_read_once_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sought = body("get")
    sought["batch"][0]["__request"]["destination"] = {"match": "x*"}
    put(world, job=sought)
    world.create(body("get", "x-1"))
    world.restart()
    read, times = getattr(world.store.now, name), []

    def unreadable_once(*args: Any) -> Any:
        times.append(world.clock.now_s())
        if len(times) == 1:
            raise StoreError("it cannot be read")
        return read(*args)

    monkeypatch.setattr(world.store.now, name, unreadable_once)
    world.engine.templates._taken_up = False
    at(world, THREE + 40)
    assert (due(world)[1:], len(times)) == (["2026-03-02T03:00"], 2)


@pytest.mark.parametrize("many", [1, 1200])
def test_a_job_exists_also_when_its_template_cannot_be_read_at_that_moment(
    world: World, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Who is told that nothing was done would start it once more."""
    put(world, job=body("get", *(f"cg-{n}" for n in range(many))))
    asked, read, reads = spec(world), world.store.now.template, count(1)

    def template(id_: int) -> Template | None:
        if next(reads) == 3:
            raise StoreError("it cannot be read")
        return read(id_)

    monkeypatch.setattr(world.store.now, "template", template)
    job = world.do(lambda engine: engine.start_template(1, asked))
    assert [one.id for one in jobs(world)] == [job.id]


def test_few_start_in_one_turn(world: World) -> None:
    for number in range(12):
        put(world, f"t{number}", job=body("get", f"cg-{number}"))
    at(world, THREE - 1)
    world.clock.monotonic_s += 1
    for expected in (5, 10, 12):
        world.turn()
        assert len(jobs(world)) == expected


def test_a_gateway_that_starts_in_1970(world: World) -> None:
    put(world, schedule={"cron": "0 3 * * *", "missed": "run"})
    world.clock.reboot()
    world.clock.wall_ahead_s = 0.0
    world.restart()
    world.advance(4000)
    assert jobs(world) == []
    world.clock.wall_ahead_s = THREE + 4 * DAY_S - 5000 - world.clock.monotonic_s
    world.advance(40)
    assert due(world) == ["2026-03-05T03:00"]
    at(world, THREE + 4 * DAY_S + 1)
    end(world)
    at(world, THREE + 5 * DAY_S + 1)
    assert len(due(world)) >= 2


def test_a_clock_that_is_set_back_by_a_day_starts_nothing_twice(world: World) -> None:
    put(world)
    at(world, THREE + 60)
    end(world)
    world.clock.wall_ahead_s -= DAY_S
    at(world, THREE - DAY_S / 2)
    end(world)
    at(world, THREE + 60)
    end(world)
    assert due(world) == ["2026-03-02T03:00"]
    at(world, THREE + DAY_S + 60)
    assert due(world) == ["2026-03-02T03:00", "2026-03-03T03:00"]


steps = st.one_of(
    st.tuples(st.just("pass"), st.floats(1, 900)),
    st.tuples(st.just("set"), st.sampled_from((-3 * DAY_S, -7200.0, -1800.0, -1.0, 1.0, 1800.0, 2 * DAY_S))),
    st.tuples(st.just("kill"), st.floats(0, 900)),
    st.tuples(st.just("reboot"), st.floats(0, 900)),
    st.tuples(st.just("full"), st.floats(1, 200)),
    st.tuples(st.just("answer"), st.just(0.0)),
    st.tuples(st.just("large"), st.booleans()),
)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(steps, max_size=10),
    cron=st.sampled_from(("*/5 * * * *", "7 * * * *", "* * * * *")),
    missed=st.sampled_from(("skip", "run")),
    overlap=st.sampled_from(("skip", "queue")),
)
def test_no_time_starts_twice_and_none_is_lost(
    script: list[tuple[str, float]], cron: str, missed: str, overlap: str
) -> None:
    world = World(SETTINGS)
    world.clock.wall_ahead_s = THREE - world.clock.monotonic_s
    put(world, schedule={"cron": cron, "missed": missed, "overlap": overlap})
    for what, value in script:
        if what == "pass":
            world.advance(value)
        elif what == "set":
            world.clock.wall_ahead_s += value
        elif what in ("kill", "reboot"):
            world.turn()  # a part of what was to be done
            world.stop()
            if what == "reboot":
                world.clock.reboot(value)
            else:
                world.clock.monotonic_s += value
            world.start()
        elif what == "full":
            world.store.full = True
            world.advance(value)
            world.store.full = False
            world.run()  # as the dispatcher, which tries again after a while
        elif what == "large":
            names = [f"cg-{n}" for n in range(700 if value else 1)]
            changed(world, 1, job=body("get", *names, requestTimeout=30))
        else:
            end(world)
    world.advance(65)
    record = kept(world).record
    started = Counter(due(world))
    assert max(started.values(), default=0) <= 1, started
    assert record.counts.get("started", 0) == len(jobs(world))
    schedule = kept(world).schedule
    assert schedule is not None
    assert record.decided_s <= world.clock.wall_s() + 3600
    assert next(schedule.times.after(record.decided_s)) > world.clock.wall_s() - 1
    if "set" not in dict(script):  # each time has one outcome
        outcomes = sum(record.counts.get(one, 0) for one in ("started", "missed", "skipped"))
        expected = len(schedule.times.passed(THREE, record.decided_s, 10_000))
        assert outcomes + (record.queued_s is not None) == expected, record
    world.stop()
