"""Messages that the broker may not carry: what becomes of them, and of those beside them, in virtual time."""

import re
from functools import partial
from typing import Any

import pytest

from puppetmaster.engine.engine import Engine
from puppetmaster.engine.in_flight import REFUSED_S
from puppetmaster.model.job import JobStatus
from puppetmaster.model.message import Tried
from tests.virtual import World, body

LARGE = {"text": "x" * 9000}
DID_NOT_RUN, MAY_HAVE_RUN = "it did not run", "it may have run"


def large(method: str, *destinations: str, text: dict[str, str] = LARGE, **more: Any) -> dict[str, Any]:
    given = body(method, *destinations, **more)
    given["batch"][0]["data"] = text
    return given


def close(world: World, request: int, *behind: int, whole: bool = False) -> None:
    """The broker closes the connection at the message of this request, and it is made again."""
    message = world.last(request).message
    unsent = [*([] if whole else [message]), *(world.last(one).message for one in behind)]
    world.connected = False
    world.run(lambda engine: engine.connection(up=False, unsent=unsent, tried=Tried(message, whole)))
    world.regain_link()


@pytest.mark.parametrize("method", ["get", "post"])
def test_it_ends_when_the_connection_has_ended_at_it_twice(world: World, method: str) -> None:
    job = world.create(large(method, "a"))
    close(world, job.first)
    assert len(world.sendings(job.first)) == 2, "once is an accident"
    assert world.request(job.first).attempts == 1
    close(world, job.first)
    assert world.statuses(job) == ["error"]
    said = world.result(job.first)
    assert (said["code"], said["source"]) == (413, "puppetmaster")
    assert re.fullmatch(
        r"the broker closes the connection when it is sent \(9\d\d\d bytes\): it did not run", said["message"]
    )
    assert len(world.sendings(job.first)) == 2
    assert world.job(job.id).status is JobStatus.RESOLVED


def test_others_in_flight_are_not_in_doubt(world: World) -> None:
    """The broker has read what was before it, and keeps the answers for us."""
    others = world.create(body("post", "b", "c"))
    job = world.create(large("post", "a"))
    for _ in range(2):
        close(world, job.first)
        world.advance(20.0)
        assert world.statuses(others) == ["sent", "sent"]
    for request in others.request_ids:
        world.run(world.answered(world.last(request).message))
    assert world.statuses(others) == ["resolved", "resolved"]


def test_what_waited_behind_it_is_sent_again(world: World) -> None:
    job = world.create({"batch": [*large("post", "a")["batch"], *body("post", "b")["batch"]]})
    messages = [world.last(request).message for request in job.request_ids]
    world.connected = False
    world.run(
        lambda engine: engine.connection(up=False, unsent=messages, tried=Tried(messages[0], whole=False))
    )
    world.regain_link()
    assert [len(world.sendings(request)) for request in job.request_ids] == [2, 2]


def test_once_the_broker_has_shown_it_others_of_that_length_are_not_sent(world: World) -> None:
    job = world.create(large("get", "a", "b", "c", retry={"attempts": 3}))
    close(world, *job.request_ids)
    assert world.statuses(job) == ["sent"] * 3
    close(world, *job.request_ids)
    assert world.statuses(job) == ["error"] * 3
    for request in job.request_ids:
        assert world.result(request)["message"].endswith(DID_NOT_RUN)
        assert len(world.sendings(request)) == 2
    sent = len(world.sent)
    later = world.create(large("post", "d"))
    shorter = world.create(large("post", "e", text={"text": "x" * 5000}))
    assert (world.statuses(later), world.statuses(shorter)) == (["error"], ["sent"])
    assert world.result(later.first)["code"] == 413
    assert len(world.sent) == sent + 1


def test_its_word_counts_for_some_time_and_until_the_connection_ends_for_another_reason(world: World) -> None:
    job = world.create(large("post", "a"))
    close(world, job.first)
    close(world, job.first)
    world.advance(REFUSED_S)
    assert world.statuses(world.create(large("post", "b"))) == ["sent"]
    job = world.create(large("post", "c"))
    close(world, job.first)
    close(world, job.first)
    assert world.statuses(job) == ["error"]
    world.lose_link()
    world.regain_link()
    assert world.statuses(world.create(large("post", "d"))) == ["sent"]


def test_when_all_of_it_had_left_it_may_have_run_and_is_not_repeated_for_ever(world: World) -> None:
    others = world.create(body("post", "b"))
    job = world.create(large("get", "a"))
    close(world, job.first, whole=True)
    world.advance(5.0)
    assert len(world.sendings(job.first)) == 2
    close(world, job.first, whole=True)
    assert world.statuses(job) == ["sent"], "its answer may be kept for us"
    world.advance(5.0)
    assert world.statuses(job) == ["unknown"]
    said = world.result(job.first)["message"]
    assert said.startswith("the broker closes the connection when it is sent (")
    assert said.endswith(MAY_HAVE_RUN)
    assert world.statuses(others) == ["sent"]


def test_what_must_not_run_twice_is_unknown_after_the_first_time(world: World) -> None:
    job = world.create(large("post", "a"))
    close(world, job.first, whole=True)
    world.advance(5.0)
    assert (world.statuses(job), len(world.sendings(job.first))) == (["unknown"], 1)
    assert world.result(job.first)["message"].endswith(MAY_HAVE_RUN)


def test_an_earlier_attempt_that_may_have_run_is_not_denied(world: World) -> None:
    job = world.create(large("get", "a"))
    world.lose_link()
    world.regain_link()
    world.advance(5.0)
    close(world, job.first)
    close(world, job.first)
    assert world.result(job.first)["message"].endswith("no attempt after the first ones ran")


def test_of_a_job_that_was_canceled_it_was_not_sent(world: World) -> None:
    job = world.create(large("post", "a"))
    close(world, job.first)
    message = world.last(job.first).message
    world.do(lambda engine: engine.control(job.id, JobStatus.CANCELED, force=False))
    world.run(lambda engine: engine.connection(up=False, unsent=[message], tried=Tried(message, whole=False)))
    assert world.statuses(job) == ["canceled"]


def test_an_answer_that_came_before_the_end_counts(world: World) -> None:
    """As does a message of nobody's, such as an event: it puts no request in doubt."""
    job = world.create(large("post", "a"))
    message = world.last(job.first).message
    world.run(world.answered(message))
    others = world.create(body("post", "b"))
    for tried in (Tried(message, whole=True), Tried(0, whole=True)):
        world.run(partial(Engine.connection, up=False, tried=tried))
        world.regain_link()
    world.advance(20.0)
    assert (world.statuses(job), world.statuses(others)) == (["resolved"], ["sent"])
