"""What the tests of the engine do to a world, in short words: control, refuse, succeed, lose."""

from typing import Any

from puppetmaster.api import bodies
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.spec import JobSpec
from puppetmaster.settings import Settings
from tests.virtual import World

SETTINGS = Settings(request_timeout_s=60.0, lock_wait_s=30.0, grace_s=5.0)
PAUSED, DISPATCHING, CANCELED = JobStatus.PAUSED, JobStatus.DISPATCHING, JobStatus.CANCELED
ID_WAS_USED = (403, "'id' was used, please use another 'id'")


def control(world: World, job: Job, wanted: JobStatus, *, force: bool = False) -> Job:
    return world.do(lambda engine: engine.control(job.id, wanted, force=force))


def delete(world: World, job: Job) -> Job:
    return world.do(lambda engine: engine.delete(job.id))


def why(world: World, id_: int) -> str | None:
    return world.do(lambda engine: engine.why([id_]))[id_]


def refuse(world: World, id_: int, code: int = 423, text: str = "resource is locked") -> None:
    """The controller refuses the last message of this request."""
    world.run(world.refused(world.last(id_).message, code, text))


def succeed(world: World, id_: int) -> None:
    """The device answers the last message of this request."""
    world.run(world.answered(world.last(id_).message))


def paused(world: World, given: Any) -> Job:
    """A job that was paused before anything of it was sent."""
    job = world.create(given, begin=False)
    return control(world, job, PAUSED)


def lost(world: World, given: Any) -> Job:
    """A job whose requests became ``unknown``, because the bus went away."""
    job = world.create(given)
    world.lose_link()
    world.regain_link()
    world.advance(SETTINGS.grace_s)
    assert set(world.statuses(job)) == {"unknown"}
    return job


def expired(world: World, given: Any) -> Job:
    """A job whose requests timed out."""
    job = world.create(given)
    world.advance(SETTINGS.request_timeout_s)
    assert set(world.statuses(job)) == {"timeout"}
    return job


def spec(given: Any) -> JobSpec:
    return bodies.parse_job(given, 50_000)


def check_counts(world: World, job: Job) -> None:
    """The job's counts on disk are those of its requests on disk."""
    stored, statuses = world.job(job.id), world.statuses(job)
    assert {status.value: count for status, count in stored.counts.items() if count} == {
        status: statuses.count(status) for status in statuses
    }
