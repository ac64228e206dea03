"""The policies of a job over the real bus: when its commands reach the gateways, and how it ends."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.bus_client import BusClient, Message
from tests.conftest import any_broker
from tests.flow import Flow, batch, names, running


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """One system for all tests here; `bad-*` answer 500, `mute-*` never do."""
    any_broker()
    fleet = ["--to", "cg-[01-20]", "--to", "bad-[1-9]", "--to", "mute-[1-3]"]
    faults = ["--fail", "bad-[1-9]:500", "--silent", "mute-[1-3]"]
    with running(tmp_path_factory.mktemp("flow"), *fleet, *faults) as started:
        yield started


def soon(after_s: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=after_s)).isoformat(timespec="milliseconds")


# -- retry -----------------------------------------------------------------------------------------


def test_what_always_fails_is_tried_as_often_as_asked_and_waits_longer_each_time(flow: Flow) -> None:
    retry = {"attempts": 3, "on": ["error"], "delay": 0.4, "factor": 2}
    job = flow.create(batch("post", ["bad-1"], retry=retry))
    assert flow.ended(job)["counts"]["error"] == 1

    [request] = flow.requests(job)
    assert (request["status"], request["attempts"], request["result"]["code"]) == ("error", 3, 500)
    assert [attempt["status"] for attempt in request["history"]] == ["error", "error"]
    assert {attempt["result"]["code"] for attempt in request["history"]} == {500}
    commands = flow.commands("bad-1")
    ids = [command.id for command in commands]
    assert len(set(ids)) == len(ids) == 3
    assert [attempt["message"] for attempt in request["history"]] == ids[:2]
    assert ids[0] == job["requests"][0]
    # A wait is shortened at random, at most to half of itself.
    sent = [datetime.fromisoformat(attempt["sentAt"]) for attempt in [*request["history"], request]]
    assert (sent[1] - sent[0]).total_seconds() >= 0.19
    assert (sent[2] - sent[1]).total_seconds() >= 0.39


def test_what_fails_first_is_tried_again_and_succeeds(flow: Flow) -> None:
    [gateway] = flow.played(1)
    job = flow.create(batch("post", [gateway.name], retry={"attempts": 5, "delay": 0}))
    gateway.answer(gateway.next(), 503)
    gateway.answer(gateway.next(), 200, {"set": True})
    end = flow.ended(job)
    assert (end["finishCount"], end["errorCount"]) == (1, 0)
    [request] = flow.requests(job)
    assert (request["status"], request["attempts"]) == ("resolved", 2)
    assert [attempt["result"]["code"] for attempt in request["history"]] == [503]
    assert len({message["id"] for message in gateway.reached}) == len(gateway.reached) == 2


def test_only_the_outcomes_that_were_named_are_tried_again(flow: Flow) -> None:
    job = flow.create(batch("post", ["bad-2"], retry={"attempts": 3, "on": ["timeout"], "delay": 0}))
    assert flow.ended(job)["errorCount"] == 1
    [request] = flow.requests(job)
    assert (request["status"], request["attempts"]) == ("error", 1)
    assert len(flow.commands("bad-2")) == 1


def test_a_get_is_tried_again_after_a_timeout(flow: Flow) -> None:
    retry = {"attempts": 2, "on": ["timeout"], "delay": 0}
    job = flow.create(batch("get", ["mute-1"], requestTimeout=0.3, retry=retry))
    assert flow.ended(job)["counts"]["timeout"] == 1
    [request] = flow.requests(job)
    assert (request["attempts"], request["history"][0]["status"]) == (2, "timeout")
    assert len({command.id for command in flow.commands("mute-1")}) == len(flow.commands("mute-1")) == 2


def test_a_write_is_not_tried_again_after_a_timeout(flow: Flow) -> None:
    retry = {"attempts": 2, "on": ["timeout"], "delay": 0}
    job = flow.create(batch("post", ["mute-2"], requestTimeout=0.3, retry=retry))
    assert flow.ended(job)["counts"]["timeout"] == 1
    [request] = flow.requests(job)
    assert (request["status"], request["attempts"]) == ("timeout", 1)
    assert "it may have run" in request["result"]["message"]
    assert len(flow.commands("mute-2")) == 1


def test_a_write_that_may_run_twice_is_tried_again_once_its_lock_is_free(flow: Flow) -> None:
    [gateway] = flow.played(1)
    retry = {"attempts": 2, "on": ["timeout"], "delay": 0}
    body = batch("post", [gateway.name], requestTimeout=0.4, retry=retry, idempotent=True)
    job = flow.create(body)
    first = gateway.next()
    ours = f"locked by request {job['requests'][0]}, which was not answered in its time"
    flow.until(job, lambda _: ours in str(flow.whys(job)[0]))
    gateway.answer(first, 500)
    gateway.answer(gateway.next())
    flow.until(job, lambda shown: shown["finishCount"] == 1)
    [request] = flow.requests(job)
    assert (request["attempts"], len(gateway.reached)) == (2, 2)
    [attempt] = request["history"]
    assert (attempt["status"], attempt["result"]["code"], attempt["result"]["late"]) == ("error", 500, True)


# -- late answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [(200, "resolved"), (500, "error")])
def test_a_late_answer_corrects_what_timed_out(flow: Flow, code: int, status: str) -> None:
    [gateway] = flow.played(1)
    job = flow.create(batch("post", [gateway.name], requestTimeout=0.3))
    command = gateway.next()
    end = flow.ended(job)
    assert (end["status"], end["counts"]["timeout"], end["errorCount"]) == ("resolved", 1, 1)
    assert flow.statuses(job) == ["timeout"]

    gateway.answer(command, code, {"at": "last"})
    end = flow.until(job, lambda shown: shown["counts"][status] == 1)
    assert (end["status"], end["finishCount"], end["errorCount"]) == ("resolved", code == 200, code == 500)
    assert end["counts"]["timeout"] == 0
    [request] = flow.requests(job)
    assert request["status"] == status
    assert (request["result"]["late"], request["result"]["data"]) == (True, {"at": "last"})
    assert len(gateway.reached) == 1


def test_a_late_success_spares_the_next_attempt(flow: Flow) -> None:
    [gateway] = flow.played(1)
    retry = {"attempts": 2, "on": ["timeout"], "delay": 300}
    job = flow.create(batch("get", [gateway.name], requestTimeout=0.3, retry=retry))
    command = gateway.next()
    flow.until(job, lambda _: "the last attempt failed; it is tried again in " in str(flow.whys(job)[0]))
    gateway.answer(command)
    assert flow.ended(job)["finishCount"] == 1
    [request] = flow.requests(job)
    assert (request["attempts"], request["result"]["late"]) == (1, True)
    flow.sent_by_now()
    assert len(gateway.reached) == 1


# -- abort -----------------------------------------------------------------------------------------


def test_too_many_failures_abort_the_job_and_the_rest_is_not_sent(flow: Flow) -> None:
    to = ["cg-01", "bad-3", "bad-4", "cg-02", "cg-03"]
    job = flow.create(batch("put", to, concurrency=1, abort={"errors": 1, "after": 2}))
    end = flow.ended(job)
    assert (end["status"], end["doneCount"], end["finishCount"], end["errorCount"]) == ("aborted", 5, 1, 4)
    assert end["reason"] == "2 of 3 requests failed, more than the 1 that it bears"
    requests = flow.requests(job)
    assert [one["status"] for one in requests] == ["resolved", "error", "error", "skipped", "skipped"]
    assert {one["result"]["message"] for one in requests[3:]} == {f"not sent: {end['reason']}"}
    assert [one["attempts"] for one in requests] == [1, 1, 1, 0, 0]
    flow.sent_by_now()
    assert [command.destination for command in flow.commands(*to)] == to[:3]


def test_an_aborted_job_lets_end_what_is_in_flight(flow: Flow) -> None:
    gateways = flow.played(4)
    job = flow.create(batch("post", names(gateways), concurrency=2, abort={"errors": "10%", "after": 1}))
    first, second = gateways[0].next(), gateways[1].next()
    gateways[0].answer(first, 500)
    waiting = flow.until(job, lambda shown: shown["counts"]["skipped"] == 2)
    assert waiting["finishedAt"] is None
    assert flow.statuses(job) == ["error", "sent", "skipped", "skipped"]
    gateways[1].answer(second)
    end = flow.ended(job)
    assert (end["status"], end["finishCount"]) == ("aborted", 1)
    assert end["reason"] == "1 of 1 requests failed, more than the 10% that it bears"
    flow.sent_by_now()
    assert [len(gateway.reached) for gateway in gateways] == [1, 1, 0, 0]


# -- rate, concurrency -----------------------------------------------------------------------------


def test_commands_are_no_faster_than_the_rate(flow: Flow) -> None:
    to = [f"cg-{number:02}" for number in range(4, 10)]
    job = flow.create(batch("get", to, rate=5))
    assert flow.ended(job)["finishCount"] == 6
    sent = [datetime.fromisoformat(request["sentAt"]).timestamp() for request in flow.requests(job)]
    # One that was late by some milliseconds lets the next one catch up.
    assert min(later - earlier for earlier, later in pairwise(sent)) > 0.15
    arrived = [command.t_s for command in flow.commands(*to)]
    assert len(arrived) == 6
    assert arrived[-1] - arrived[0] > 0.5  # 1 s, less what held up the first


def test_a_percentage_is_the_most_in_flight_at_once(flow: Flow) -> None:
    gateways = flow.played(8)
    job = flow.create(batch("post", names(gateways), concurrency="25%"))
    commands = [gateway.next() for gateway in gateways[:2]]
    flow.sent_by_now()
    assert flow.statuses(job) == ["sent"] * 2 + ["pending"] * 6
    assert flow.whys(job)[2] == "no free slot: the job has 2 in flight, which is its concurrency"
    assert [len(gateway.reached) for gateway in gateways] == [1, 1, 0, 0, 0, 0, 0, 0]
    for gateway, command in zip(gateways[:2], commands, strict=True):
        gateway.answer(command)
    for gateway in gateways[2:]:
        gateway.answer(gateway.next())
    assert flow.ended(job)["finishCount"] == 8


@pytest.mark.parametrize("more", [{}, {"concurrency": "50%"}], ids=["automatic", "half"])
def test_one_write_per_lock_and_locks_side_by_side(tmp_path: Path, more: dict[str, Any]) -> None:
    any_broker()
    delay_s = 0.3
    groups = [[f"cg-{group}{number}" for number in range(4)] for group in range(3)]
    to = [name for numbered in zip(*groups, strict=True) for name in numbered]
    fleet = [word for group in groups for name in group for word in ("--to", name)]
    with running(tmp_path, *fleet, "--delay", str(delay_s), shape="grouped:4") as flow:
        sendings = spy(flow.client)
        job = flow.create(batch("post", to, **more))
        assert flow.ended(job)["finishCount"] == 12
        commands = flow.commands(*to)
    arrived = [
        sorted(command.t_s for command in commands if command.destination in group) for group in groups
    ]
    assert [len(times) for times in arrived] == [4, 4, 4]
    for times in arrived:
        assert min(later - earlier for earlier, later in pairwise(times)) > delay_s * 0.9
    at_once = max(sum(one.t_s <= command.t_s < one.t_s + delay_s for one in commands) for command in commands)
    assert 1 < at_once <= 3
    assert len(sendings) == 12, "no lock was ever found held"


def spy(client: BusClient) -> list[Message]:
    """What is sent to gateways from now on, also what the controller does not pass on."""
    seen: list[Message] = []

    def look(payload: bytes) -> None:
        message = json.loads(payload)
        if "code" not in message and str(message["resource"]).startswith("/remote/cg-"):
            seen.append(message)

    client.subscribe("/controller", look)
    return seen


# -- a time to start -------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_time_to_start(flow: Flow) -> None:
    start_at = soon(1.5)
    job = flow.create(batch("get", ["cg-10", "cg-11"], startAt=start_at))
    assert (job["status"], job["startedAt"]) == ("pending", None)
    assert [str(why)[:17] for why in flow.whys(job)] == ["the job starts at"] * 2
    assert flow.ended(job)["finishCount"] == 2
    for request in flow.requests(job):
        assert datetime.fromisoformat(request["sentAt"]) >= datetime.fromisoformat(start_at)
    to_go_s = datetime.fromisoformat(start_at).timestamp() - time.time()
    assert flow.commands("cg-10", "cg-11")[0].t_s >= time.monotonic() + to_go_s - 0.1


def test_a_job_can_be_started_before_its_time(flow: Flow) -> None:
    job = flow.create(batch("get", ["cg-12"], startAt="2999-01-01T00:00:00.000Z"))
    assert flow.whys(job) == ["the job starts at 2999-01-01T00:00:00.000Z"]
    flow.sent_by_now()
    assert flow.commands("cg-12") == []
    assert flow.control(job, "dispatching")["status"] == "dispatching"
    assert flow.ended(job)["finishCount"] == len(flow.commands("cg-12")) == 1


# -- waves and gates -------------------------------------------------------------------------------


def test_a_wave_starts_when_the_one_before_it_has_passed(flow: Flow) -> None:
    gateways = flow.played(4)
    job = flow.create(batch("post", names(gateways), waves=[1, "50%", "100%"]))
    command = gateways[0].next()
    flow.sent_by_now()
    assert flow.show(job)["wave"] == 1
    assert flow.whys(job) == [None, "wave 2 waits for wave 1", *["wave 3 waits for wave 2"] * 2]
    assert [len(gateway.reached) for gateway in gateways] == [1, 0, 0, 0]

    gateways[0].answer(command)
    command = gateways[1].next()
    flow.sent_by_now()
    assert flow.show(job)["wave"] == 2
    assert [len(gateway.reached) for gateway in gateways] == [1, 1, 0, 0]

    gateways[1].answer(command)
    last = [gateway.next() for gateway in gateways[2:]]
    for gateway, command in zip(gateways[2:], last, strict=True):
        gateway.answer(command)
    end = flow.ended(job)
    assert (end["status"], end["wave"], end["gateStatus"], end["finishCount"]) == ("resolved", 3, None, 4)


def test_a_wave_rests_before_the_next_one(flow: Flow) -> None:
    job = flow.create(batch("get", ["cg-13", "bad-5", "cg-14"], waves=[2], gate={"errors": 1, "soak": 1}))
    flow.until(job, lambda shown: shown["gateStatus"] == "soak")
    assert str(flow.whys(job)[2]).startswith("wave 1 is done and rests for another ")
    end = flow.ended(job)
    assert (end["status"], end["finishCount"], end["errorCount"], end["wave"]) == ("resolved", 2, 1, 2)
    [done, _, after] = [command.t_s for command in flow.commands("cg-13", "bad-5", "cg-14")]
    assert after - done > 0.8


def test_a_gate_that_fails_can_abort(flow: Flow) -> None:
    to = ["cg-15", "bad-6", "cg-16", "cg-17"]
    job = flow.create(batch("post", to, waves=[2, "100%"], gate={"errors": "49%", "onFail": "abort"}))
    end = flow.ended(job)
    assert (end["status"], end["wave"]) == ("aborted", 1)
    failed = "wave 1 failed its gate: 1 of 2 requests failed, more than the 49% that its gate allows"
    assert end["reason"] == failed
    requests = flow.requests(job)
    assert [request["status"] for request in requests] == ["resolved", "error", "skipped", "skipped"]
    assert requests[3]["result"]["message"] == f"not sent: {failed}"
    flow.sent_by_now()
    assert {command.destination for command in flow.commands(*to)} == {"cg-15", "bad-6"}


# -- steps -----------------------------------------------------------------------------------------


def test_a_step_follows_when_the_one_before_it_ended_well_and_none_after_a_failure(flow: Flow) -> None:
    well, ill = flow.played(2)
    items = [
        {"method": "post", "resource": place, "data": {}, "__request": {"destination": [well.name, ill.name]}}
        for place in ("/backup", "/install")
    ]
    job = flow.create({"batch": items, "onFail": "stop"})
    first = well.next()
    ill.answer(ill.next(), 500)
    shown = flow.until(job, lambda now: now["counts"]["skipped"] == 1)
    assert (shown["counts"]["sent"], shown["counts"]["pending"]) == (1, 1)
    assert [command["data"]["resource"] for command in well.reached] == ["/backup"]
    flow.restart()  # what was decided is on disk
    well.answer(first)
    second = well.next()
    assert second["data"]["resource"] == "/install"
    well.answer(second)
    end = flow.restored(job)
    assert end["counts"] == {**dict.fromkeys(end["counts"], 0), "resolved": 2, "error": 1, "skipped": 1}
    assert len(ill.reached) == 1
    skipped = next(one for one in flow.requests(job) if one["status"] == "skipped")
    assert skipped["result"]["message"].endswith("an earlier step, ended as error")
