"""When a percentage of failures aborts a job that does not say after how many."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from puppetmaster.model.job import Job, JobEvent, JobStatus
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes
from tests.virtual import World, body

SETTINGS = Settings(request_timeout_s=60.0, lock_wait_s=30.0, grace_s=5.0)
ABORT = {"errors": "5%"}


@pytest.fixture
def world() -> Iterator[World]:
    made = World(SETTINGS)
    yield made
    made.stop()


@pytest.fixture
def job(world: World) -> Job:
    """A hundred requests, one after the other."""
    return world.create(body("post", *[f"cg-{index}" for index in range(100)], concurrency=1, abort=ABORT))


def answer(world: World, id_: int, code: int = 200) -> None:
    """The device answers the last message of this request."""
    world.run(world.answered(world.last(id_).message, code))


def test_one_failure_of_a_hundred_does_not_abort(world: World, job: Job) -> None:
    answer(world, job.first, 500)
    for index in range(1, 20):
        answer(world, job.first + index)
    assert world.job(job.id).ending is None, "one of twenty is within the percentage"
    answer(world, job.first + 20, 500)
    found = world.job(job.id)
    assert found.status is JobStatus.ABORTED
    assert found.reason == "2 of 21 requests failed, more than the 5% that it bears"


def test_a_job_of_an_earlier_version_aborts_as_it_did(world: World, job: Job) -> None:
    world.store.commit(Changes(jobs={job.id: replace(world.job(job.id), given={"abort": ABORT})}))
    world.restart()
    world.advance(SETTINGS.grace_s)
    assert world.job(job.id).ending is JobEvent.ABORT
    assert world.job(job.id).reason == "1 of 1 requests failed, more than the 5% that it bears"
