"""What the tests of the engine do to a world, in short words: control, refuse, answer, lose."""

from typing import Any

from puppetmaster.api import bodies
from puppetmaster.clock import iso
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import RequestStatus
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


def names(number: int) -> list[str]:
    return [f"cg-{index:03}" for index in range(number)]


def answer(world: World, id_: int, code: int = 200) -> None:
    """The device answers the last message of this request."""
    world.run(world.answered(world.last(id_).message, code))


def sent(world: World, job: Job) -> list[int]:
    """The requests of a job that are in flight, counted from 0."""
    return [id_ - job.first for id_ in job.request_ids if world.request(id_).status is RequestStatus.SENT]


def at(world: World, after_s: float) -> str:
    return iso(world.clock.wall_s() + after_s)


def status(world: World, job: Job) -> tuple[str, str | None]:
    now = world.job(job.id)
    return now.status.value, now.reason


def wave(world: World, job: Job, code: int = 200) -> list[int]:
    """Answer all that is in flight; which those were."""
    those = sent(world, job)
    for index in those:
        answer(world, job.first + index, code)
    return those
