"""Jobs so large that they are written in parts: they exist as a whole, or not at all."""

from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.api import bodies
from puppetmaster.clock import iso
from puppetmaster.engine import background, lifecycle
from puppetmaster.errors import Conflict, NotFound, Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import RequestStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.settings import Settings
from tests.virtual import World, body

NAMES = [f"cg-{number:02}" for number in range(10)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Three steps a turn, so that a job of ten is written in four parts."""
    monkeypatch.setattr(background, "STEPS", 3)
    made = World(Settings(max_open_jobs=2), hasty=True)
    yield made
    made.stop()


def spec(*names: str, **more: Any) -> JobSpec:
    return bodies.parse_job(body("post", *(names or NAMES), **more), 100)


def begun(world: World, wanted: JobSpec | None = None) -> Job:
    """A job of which the first part is written."""
    job = world.do(lambda engine: engine.create(wanted or spec()))
    assert world.engine.drafting(job)
    return job


def finish(world: World) -> None:
    while world.engine.busy:
        world.run()


def on_disk(world: World) -> int:
    """How many requests are kept, whether they exist or not."""
    return len(world.memory.tables.requests)


def swept(world: World) -> None:
    while world.store.sweep():
        pass


def test_it_is_written_in_parts_and_exists_with_the_last(world: World) -> None:
    job = begun(world)
    parts = []
    while world.engine.drafting(job):
        parts.append(on_disk(world))
        assert world.store.now.job(job.id) is None
        assert world.store.now.requests({}) == []
        assert world.store.now.request(job.first) is None
        assert world.store.now.count_requests({"status": "pending"}) == 0
        world.run()
    assert parts == [3, 6, 9]
    assert world.job(job.id) == job
    assert [one.destination for one in world.store.now.requests({"job": job.id})] == NAMES
    assert not world.memory.tables.drafts


def test_a_small_one_is_written_at_once(world: World) -> None:
    job = world.do(lambda engine: engine.create(spec("a", "b", "c")))
    assert not world.engine.drafting(job)
    assert world.job(job.id) == job


def test_until_then_nobody_can_look_at_it_or_stop_it(world: World) -> None:
    job = begun(world)
    with pytest.raises(NotFound):
        world.engine.control(job.id, JobStatus.CANCELED, force=False)
    with pytest.raises(NotFound):
        world.engine.delete(job.id)


def test_its_key_stands_for_it_from_the_beginning(world: World) -> None:
    job = begun(world, spec(key="k"))
    again = world.do(lambda engine: engine.create(spec(key="k")))
    assert again == job
    assert world.engine.drafting(again), "who repeats it waits for the same job"
    with pytest.raises(Conflict):
        world.engine.create(spec("other", key="k"))
    finish(world)
    assert world.engine.create(spec(key="k")) == job


def test_it_counts_as_open_from_the_beginning(world: World) -> None:
    begun(world)
    begun(world)
    with pytest.raises(Unavailable, match="2 have not ended"):
        world.engine.create(spec("a"))


def test_its_requests_count_as_open_from_the_beginning(world: World) -> None:
    world.settings = Settings(max_open_requests=19)
    world.restart()
    begun(world)
    with pytest.raises(Unavailable, match="10 requests have not ended, and 19 may be open"):
        world.engine.create(spec())
    assert world.engine.create(spec(*NAMES[:9])).total == 9


@pytest.mark.parametrize("names", [NAMES[:2], NAMES], ids=["written at once", "in parts"])
@pytest.mark.parametrize("end", ["ended", "deleted", "unwritten"])
def test_its_large_data_counts_from_the_beginning_until_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch, names: list[str], end: str
) -> None:
    """It is in memory, but for what is small, which counts with its request."""
    monkeypatch.setattr(lifecycle, "LARGE_BYTES", 10_000)

    def large(*to: str, size: int = 5000) -> JobSpec:
        asked = body("post", *to)
        asked["batch"][0]["data"] = {"image": ["x" * size]}
        return bodies.parse_job(asked, 100)

    def create(wanted: JobSpec) -> Job:
        return world.do(lambda engine: engine.create(wanted))

    world.settings = Settings()
    world.restart()
    for _ in range(3):
        create(large("a", size=3800))
    create(large("b"))
    world.store.full = end == "unwritten"
    job = create(large(*names))
    world.store.full = False
    world.run()
    if end != "unwritten":
        for restarted in (False, True):
            finish(world)
            if restarted:
                world.restart()
            with pytest.raises(Unavailable, match=r"much data can be created: .* not ended takes 0 MB"):
                create(large("c"))
            create(spec("c"))
    if end == "ended":
        world.do(lambda engine: engine.control(job.id, JobStatus.CANCELED, force=True))
        finish(world)
    elif end == "deleted":
        world.do(lambda engine: engine.delete(job.id))
    create(large("c"))


def test_two_are_written_one_after_the_other(world: World) -> None:
    one, two = begun(world), begun(world)
    finish(world)
    for job in (one, two):
        assert [one.id for one in world.store.now.requests({"job": job.id})] == list(job.request_ids)


def test_its_time_counts_from_the_request(world: World) -> None:
    job = begun(world, spec(timeout=30))
    world.clock.monotonic_s += 10
    finish(world)
    world.hasty = False
    world.advance(19.9)
    assert not world.job(job.id).final
    world.advance(0.2)
    assert world.job(job.id).status is JobStatus.TIMEOUT


@pytest.mark.parametrize("turns", range(4))
def test_of_one_that_a_crash_interrupts_nothing_is_left(world: World, turns: int) -> None:
    job = begun(world)
    for _ in range(turns):
        world.run()
    exists = not world.engine.drafting(job)
    assert exists == (turns == 3)
    world.restart()
    swept(world)
    assert on_disk(world) == (10 if exists else 0)
    assert (world.store.now.job(job.id) is not None) == exists
    later = world.create(body("post", "a"))
    assert later.id > job.id
    assert later.first > job.request_ids[-1], "its ids are not given out again"


@pytest.mark.parametrize("turns", range(3))
def test_of_one_that_a_full_disk_interrupts_nothing_is_left(world: World, turns: int) -> None:
    job = begun(world)
    for _ in range(turns):
        world.run()
    world.store.full = True
    world.run()
    assert world.revoked == [job.id]
    assert not world.engine.drafting(job)
    finish(world)
    world.store.full = False
    world.run()
    swept(world)
    assert on_disk(world) == 0
    assert not world.memory.tables.drafts
    other = begun(world)
    finish(world)
    assert world.job(other.id).total == 10


def test_one_that_begins_on_a_full_disk_leaves_nothing(world: World) -> None:
    world.store.full = True
    job = world.do(lambda engine: engine.create(spec()))
    assert world.revoked == [job.id]
    world.store.full = False
    finish(world)
    world.run()
    assert on_disk(world) == 0
    assert not world.memory.tables.drafts


def test_what_is_being_written_is_not_swept(world: World) -> None:
    job = begun(world)
    while world.engine.drafting(job):
        swept(world)
        world.run()
    swept(world)
    assert len(world.store.now.requests({"job": job.id})) == 10


def test_a_job_that_is_stopped_part_by_part_is_not_started_meanwhile(world: World) -> None:
    later = iso(world.clock.wall_s() + 1)
    job = begun(world, spec(startAt=later))
    finish(world)
    stopping = world.do(lambda engine: engine.control(job.id, JobStatus.CANCELED, force=False))
    assert not stopping.final
    world.clock.monotonic_s += 2
    finish(world)
    ended = world.job(job.id)
    assert (ended.status, ended.reason) == (JobStatus.CANCELED, "canceled by a request")


def test_a_job_that_is_stopped_part_by_part_is_stopped_to_the_end_after_a_crash(world: World) -> None:
    job = begun(world, spec(startAt=iso(world.clock.wall_s() + 1000)))
    finish(world)
    world.do(lambda engine: engine.control(job.id, JobStatus.CANCELED, force=False))
    assert 0 < world.job(job.id).counts[RequestStatus.CANCELED] < 10
    world.restart()
    finish(world)
    ended = world.job(job.id)
    assert (ended.status, ended.counts[RequestStatus.CANCELED]) == (JobStatus.CANCELED, 10)
