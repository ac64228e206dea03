"""A request on its way: its message, who may end it, and its time."""

import pytest

from puppetmaster.model.job import JobStatus
from tests.unit.engine.verbs import SETTINGS, answer, refuse, why
from tests.virtual import TUNNEL, World, body

# -- messages and answers --------------------------------------------------------------------------


def test_the_message_is_the_one_of_the_contract(world: World) -> None:
    job = world.create(body("POST", "00:0c:29:1c:e8:01", resource="/system/reboot?now=1"))
    assert world.sent[0].body == {
        "id": job.first,
        "method": "post",
        "resource": "/remote/00:0c:29:1c:e8:01",
        "tunnel": TUNNEL,
        "data": {"method": "post", "resource": "/system/reboot?now=1", "data": {}},
    }


@pytest.mark.parametrize(
    ("code", "status"), [(200, "resolved"), (299, "resolved"), (300, "error"), (404, "error"), (500, "error")]
)
def test_the_device_decides_how_its_request_ends(world: World, code: int, status: str) -> None:
    job = world.create(body("post", "a"))
    world.run(world.answered(job.first, code, {"any": 1}))
    assert world.statuses(job) == [status]
    result = world.result(job.first)
    assert (result["code"], result["data"], result["source"]) == (code, {"any": 1}, "device")
    assert "late" not in result
    done = world.job(job.id)
    assert done.status is JobStatus.RESOLVED
    assert done.finished_at is not None
    assert done.reason is None


@pytest.mark.parametrize(
    ("code", "log", "status"),
    [(404, None, "error"), (403, "resource has no subscribed model", "error"), (408, None, "timeout")],
)
def test_the_controller_may_end_a_request(world: World, code: int, log: str | None, status: str) -> None:
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, code, "request forbidden", log))
    assert world.statuses(job) == [status]
    assert world.request(job.first).attempts == 1


def test_an_answer_counts_once(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    world.run(world.answered(job.first, 200), world.answered(job.first, 500))
    world.run(world.answered(job.first, 500), world.refused(job.first))
    assert world.statuses(job) == ["resolved", "sent"]


def test_an_answer_for_nobody_changes_nothing(world: World) -> None:
    job = world.create(body("post", "a"))
    before = world.request(job.first)
    world.run(*(world.answered(id_) for id_ in (0, 7, job.first + 1, 2**40, -1)))
    assert world.request(job.first) == before


def test_an_answer_does_not_count_for_what_was_never_sent(world: World) -> None:
    job = world.create(body("post", "a"), begin=False)
    world.run(world.answered(job.first))
    assert world.statuses(job) == ["pending"]


def test_what_never_left_is_no_attempt_and_waits(world: World) -> None:
    world.lose_link(told=False)
    job = world.create(body("post", "a"))
    world.lose_link()
    assert world.statuses(job) == ["pending"]
    assert world.request(job.first).attempts == 0
    assert why(world, job.first) == "the bus is down"
    world.regain_link()
    assert world.request(job.first).attempts == 1
    assert len(world.sent) == 1


# -- time ------------------------------------------------------------------------------------------


def test_no_answer_in_its_time_is_a_timeout(world: World) -> None:
    job = world.create(body("post", "a", "b", requestTimeout=7))
    world.advance(6.9)
    assert world.statuses(job) == ["sent", "sent"]
    answer(world, job.first)
    world.advance(0.1)
    assert world.statuses(job) == ["resolved", "timeout"]
    result = world.result(job.first + 1)
    assert (result["code"], result["source"]) == (408, "puppetmaster")
    assert result["message"] == "no answer within 7 s: it may have run"
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_the_time_runs_from_the_last_sending(world: World) -> None:
    job = world.create(body("post", "a", requestTimeout=10))
    world.advance(9)
    refuse(world, job.first)
    world.advance(9)
    assert world.statuses(job) == ["sent"]


def test_while_timers_are_held_an_answer_counts_though_its_time_is_over(world: World) -> None:
    job = world.create(body("post", "a", "b", timeout=SETTINGS.request_timeout_s + 1))
    world.engine.timers_held = True
    world.clock.monotonic_s += SETTINGS.request_timeout_s + 10
    world.run()
    assert world.statuses(job) == ["sent", "sent"]
    answer(world, job.first)
    world.engine.timers_held = False
    world.run()
    assert world.statuses(job) == ["resolved", "timeout"]
    assert world.request(job.first).result == {"code": 200, "data": None, "source": "device"}
