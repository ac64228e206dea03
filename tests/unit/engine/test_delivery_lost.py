"""The bus goes away: what was in flight has its grace time, and then it is repeated or unknown."""

from typing import Any

import pytest

from puppetmaster.engine.delivery import MOST_LOST
from puppetmaster.model.job import JobStatus
from tests.unit.engine.verbs import SETTINGS, why
from tests.virtual import World, body


def test_nothing_is_sent_without_link_or_controller(world: World) -> None:
    world.run(lambda engine: engine.controller(up=False))
    job = world.create(body("post", "a"))
    assert why(world, job.first) == "the controller does not answer"
    world.run(lambda engine: engine.connection(up=False))
    assert why(world, job.first) == "the bus is down"
    world.run(lambda engine: engine.controller(up=True))
    world.run(lambda engine: engine.connection(up=True))
    assert (world.sent, world.engine.controller_up) == ([], False), "it has not answered over this connection"
    world.run(lambda engine: engine.controller(up=True))
    assert len(world.sent) == 1


def test_an_answer_in_the_grace_time_counts_in_time(world: World) -> None:
    job = world.create(body("post", "a"))
    world.lose_link()
    world.advance(SETTINGS.request_timeout_s - SETTINGS.grace_s)
    assert world.statuses(job) == ["sent"], "as long as the bus is away, answers may be kept for us there"
    world.regain_link()
    world.advance(SETTINGS.grace_s - 0.1)
    assert world.statuses(job) == ["sent"]
    world.run(world.answered(job.first))
    result = world.result(job.first)
    assert world.statuses(job) == ["resolved"]
    assert "late" not in result


@pytest.mark.parametrize(
    ("method", "more", "again"),
    [
        ("get", {}, True),
        ("put", {"idempotent": True}, True),
        ("get", {"idempotent": False}, False),
        ("delete", {}, False),
    ],
)
def test_only_what_may_run_twice_is_sent_again(
    world: World, method: str, more: dict[str, Any], again: bool
) -> None:
    job = world.create(body(method, "a", **more))
    world.lose_link()
    world.regain_link()
    world.advance(SETTINGS.grace_s - 0.1)
    assert len(world.sent) == 1
    world.advance(0.1)
    assert world.statuses(job) == ["sent" if again else "unknown"]
    assert len(world.sent) == 1 + again
    if again:
        first, second = world.sendings(job.first)
        assert second != first
        assert world.request(job.first).attempts == 2
        world.run(world.answered(first, 500), world.refused(first, 408))
        assert world.statuses(job) == ["sent"], "the failure of an earlier one says nothing of the last"
        world.run(world.answered(first))
        assert world.statuses(job) == ["resolved"]
        result = world.request(job.first).result
        assert result is not None
        assert result["late"] is True
        world.run(world.answered(second, 500))
        assert world.statuses(job) == ["resolved"]


def test_each_loss_begins_the_grace_time_anew_but_not_beyond_its_own_time(world: World) -> None:
    job = world.create(body("post", "a"))
    for _ in range(19):
        world.regain_link()
        world.advance(SETTINGS.grace_s - 2)
        world.lose_link()
    assert world.statuses(job) == ["sent"]
    world.advance(SETTINGS.request_timeout_s)
    assert world.statuses(job) == ["unknown"]


def test_what_is_lost_again_and_again_is_unknown_in_the_end(world: World) -> None:
    """Else a link that flaps would keep a job without a time of its own open for ever."""
    job = world.create(body("get", "a"))
    for _ in range(MOST_LOST + 1):
        assert world.statuses(job) == ["sent"]
        world.lose_link()
        world.regain_link()
        world.advance(SETTINGS.grace_s)
    assert world.statuses(job) == ["unknown"]
    assert len(world.sent) == MOST_LOST + 1
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_an_outage_that_the_broker_survives_is_no_failure(world: World) -> None:
    job = world.create(body("post", *"abcde", abort={"errors": 2}, concurrency=3))
    world.lose_link()
    world.advance(30)
    world.regain_link()
    world.run(*(world.answered(sending.message) for sending in world.sent[:3]))
    assert world.statuses(job) == ["resolved"] * 3 + ["sent"] * 2
