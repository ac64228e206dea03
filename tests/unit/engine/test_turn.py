"""A turn is durable before anything of it is done, and kept when it cannot be made durable."""

from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.errors import StoreError
from puppetmaster.model.job import JobStatus
from puppetmaster.store.base import Changes
from tests.virtual import World, body


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.create(body("post", "a"), begin=False)
    made.engine.begin()
    yield made
    made.stop()


def steps(world: World, fault: StoreError | None = None) -> list[Any]:
    """What a turn does, in its order."""
    done: list[Any] = []

    def commit(changes: Changes) -> None:
        done.append("commit")
        if fault is not None:
            raise fault
        world.store.commit(changes)

    def stall(error: StoreError) -> None:
        done.append(error)
        world.engine.stall(error)

    world.engine.turn(commit, lambda turn: done.append(len(turn.questions)), stall)
    return done


def begin_job(world: World) -> None:
    world.engine.lifecycle.begin_job(1)


def test_it_is_durable_before_anything_of_it_is_done(world: World) -> None:
    world.do(lambda engine: engine.control(1, JobStatus.PAUSED, force=False))
    world.engine.control(1, JobStatus.DISPATCHING, force=False)
    begin_job(world)
    assert steps(world) == ["commit", 1]
    assert world.job(1).status is JobStatus.DISPATCHING


def test_one_without_changes_needs_no_disk(world: World) -> None:
    begin_job(world)
    assert steps(world, StoreError("The disk is full.")) == [1]
    assert steps(world) == [0], "what wanted to leave has left"


def test_one_that_cannot_be_written_is_kept_and_tried_again_after_a_while(world: World) -> None:
    fault = StoreError("The disk is full.")
    world.engine.control(1, JobStatus.PAUSED, force=False)
    world.engine.retry_s = world.clock.now_s() + 10
    assert steps(world, fault) == ["commit", fault]
    assert world.engine.snapshot().stalled == "The disk is full."
    assert steps(world) == [], "it is not tried yet"
    assert world.job(1).status is JobStatus.DISPATCHING
    world.clock.monotonic_s += 10
    world.engine.begin()
    assert steps(world) == ["commit", 0]
    assert world.engine.snapshot().stalled is None
    assert world.job(1).status is JobStatus.PAUSED
