"""Requests that wait for gateways that are away, without being in anybody's way (``deliveryTimeout``)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from puppetmaster.clock import iso
from puppetmaster.engine.absent import AT_ONCE, FIRST_S, LAST_S, REGISTERED_S
from puppetmaster.model.job import Job
from tests.unit.engine.verbs import (
    CANCELED,
    DISPATCHING,
    PAUSED,
    SETTINGS,
    answer,
    control,
    delete,
    names,
    sent,
    status,
    why,
)
from tests.virtual import World, body

#: How long a request waits for its gateway here.
WAITS_S = 3600.0


class Fleet:
    """The gateways that are there, as the controller says when it is asked."""

    def __init__(self, world: World, *here: str) -> None:
        self.here = set(here)
        self.asked: list[tuple[float, str]] = []
        self._world = world
        world.owners = self.owned

    def owned(self, name: str) -> Iterable[str] | None:
        self.asked.append((self._world.clock.now_s(), name))
        return [f"/remote/{name}"] if name in self.here else None


def waits(*to: str, method: str = "post", **more: Any) -> dict[str, Any]:
    """The body of a job that waits for its gateways."""
    return body(method, *to, **{"deliveryTimeout": WAITS_S, **more})


def nobody(world: World, job: Job, *numbers: int) -> None:
    """The controller knows no gateway for what was just sent of these requests of a job, counted from 0."""
    world.run(*(world.refused(world.last(job.first + one).message, 404) for one in numbers or (0,)))


def away(world: World, *to: str, **more: Any) -> Job:
    """A job that waits for gateways; the controller has said of the first that it knows none."""
    Fleet(world)
    job = world.create(waits(*to, **more))
    nobody(world, job)
    return job


def bridge(world: World, name: str, connected: bool | None) -> None:
    world.run(lambda engine: engine.bridge(name, connected=connected))


def gone(world: World, **more: Any) -> Job:
    """A job that waits for a gateway whose bridge is gone."""
    bridge(world, "a", connected=False)
    return world.create(waits("a", **more))


def registers(world: World, *resources: str) -> None:
    world.run(lambda engine: engine.delivery.registering(resources))


def waiting(world: World) -> int:
    return world.engine.snapshot().waiting_for_gateways


# -- how it waits ----------------------------------------------------------------------------------


def test_one_that_is_not_registered_is_waited_for(world: World) -> None:
    Fleet(world)
    job = world.create(waits("a"))
    since, until = world.clock.wall_s(), world.clock.wall_s() + WAITS_S
    nobody(world, job)
    assert world.statuses(job) == ["pending"]
    said = world.do(lambda engine: engine.why([job.first]))[job.first]
    assert said == f"not registered since {iso(since)}: waited for until {iso(until)}"
    assert said is not None
    assert said.code == "absent"
    assert waiting(world) == 1


def test_without_it_nobody_is_waited_for(world: World) -> None:
    Fleet(world)
    job = world.create(body("post", "a", deliveryTimeout=0))
    nobody(world, job)
    assert world.statuses(job) == ["error"]
    bridge(world, "b", connected=False)
    assert world.result(world.create(body("post", "b")).first)["code"] == 503


def test_one_whose_bridge_is_gone_is_waited_for_and_nothing_is_sent(world: World) -> None:
    bridge(world, "a", connected=False)
    since = iso(world.clock.wall_s())
    world.advance(60)
    job = world.create(waits("a"))
    said = (why(world, job.first) or "").partition(": ")[0]
    assert (said, world.sent) == (f"not connected since {since}", [])


def test_it_holds_no_slot_no_lock_and_nobodys_turn(world: World) -> None:
    Fleet(world, "c")
    job = world.create(waits("a", "b", "c", "d", concurrency=1))
    nobody(world, job)
    nobody(world, job, 1)
    assert sent(world, job) == [2], "of the only slot"
    answer(world, job.first + 2)
    assert (world.engine.scheduler.in_flight, sent(world, job)) == (1, [3])
    nobody(world, job, 3)
    other = world.create(body("post", "a"))
    assert world.statuses(other) == ["sent"], "it was not told to wait"
    assert (world.engine.scheduler.in_flight, waiting(world)) == (1, 3)
    assert world.engine.snapshot().oldest_waiting_s == 0, "those that wait for their turns"


def test_it_shares_no_lock_either(world: World) -> None:
    world.owners = lambda _: ["/remote/a", "/remote/b"]
    job = world.create(waits("a", "b"))
    assert sent(world, job) == [0]
    nobody(world, job)
    assert sent(world, job) == [1]


def test_another_of_the_same_job_is_not_sent_to_find_out_again(world: World) -> None:
    Fleet(world)
    job = world.create({"batch": waits("a")["batch"] * 3, "deliveryTimeout": WAITS_S})
    nobody(world, job)
    assert (len(world.sent), waiting(world)) == (1, 3)


def test_as_long_as_the_controller_has_just_restarted_it_is_not_believed(world: World) -> None:
    Fleet(world)
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 1))
    job = world.create(waits("a", deliveryTimeout=1))
    nobody(world, job)
    world.advance(60)
    assert world.statuses(job) == ["sent"]
    assert waiting(world) == 0


# -- it is back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [True, None], ids=["back", "its status was taken away"])
def test_it_is_sent_at_once_when_the_bridge_is_not_said_to_be_gone(
    world: World, connected: bool | None
) -> None:
    job = gone(world)
    world.advance(WAITS_S / 2)
    bridge(world, "a", connected)
    assert world.statuses(job) == ["sent"]
    answer(world, job.first)
    assert (status(world, job)[0], waiting(world), len(world.engine.timers)) == ("resolved", 0, 0)


@pytest.mark.parametrize(
    ("resource", "is_its"),
    [*((one, True) for one in ("a", "+", "#")), *((another, False) for another in ("b", "cg-+"))],
)
def test_it_is_sent_within_a_second_after_it_registers(world: World, resource: str, is_its: bool) -> None:
    job = away(world, "a")
    registers(world, f"/remote/{resource}")
    world.advance(REGISTERED_S)
    assert world.statuses(job) == ["sent" if is_its else "pending"]
    assert world.request(job.first).attempts == is_its, "the first did not run"


def test_it_is_asked_for_when_nobody_saw_it_register(world: World) -> None:
    fleet = Fleet(world)
    job = world.create(waits("a"))
    nobody(world, job)
    fleet.asked.clear()
    world.advance(WAITS_S / 2)
    assert len(world.sent) == 1, "it is asked for, and nothing is sent"
    times = [at_s for at_s, _ in fleet.asked]
    apart = [after - before for before, after in pairwise(times)]
    assert FIRST_S / 2 <= times[0] - 1000 <= FIRST_S
    assert apart[0] < apart[2]
    assert all(LAST_S / 2 <= one <= LAST_S for one in apart[3:])
    fleet.here.add("a")
    world.advance(LAST_S)
    assert world.statuses(job) == ["sent"]


def test_what_answers_somebody_else_is_there(world: World) -> None:
    job = away(world, "a")
    other = world.create(body("post", "a"))
    answer(world, other.first)
    assert world.statuses(job) == ["sent"]


def test_of_one_gateway_the_order_stays(world: World) -> None:
    bridge(world, "a", connected=False)
    first, second = world.create(waits("a")), world.create(waits("a"))
    bridge(world, "a", connected=True)
    assert (world.statuses(first), world.statuses(second)) == (["sent"], ["pending"])
    answer(world, first.first)
    assert world.statuses(second) == ["sent"]


def test_one_that_registers_and_is_gone_again_is_waited_for_with_the_time_that_is_left(world: World) -> None:
    job = away(world, "a")
    world.advance(WAITS_S - 10)
    registers(world, "/remote/a")
    world.advance(REGISTERED_S)
    nobody(world, job)
    assert world.statuses(job) == ["pending"]
    registers(world, "/remote/a")
    world.advance(REGISTERED_S)
    assert world.statuses(job) == ["sent"]
    nobody(world, job)
    world.advance(10)
    assert world.statuses(job) == ["error"]


def test_who_asks_to_be_registered_again_and_again_is_not_waited_for_longer(world: World) -> None:
    job = away(world, "a")
    registers(world, "/remote/a")
    world.advance(REGISTERED_S - 0.1)
    registers(world, "/remote/a")
    world.advance(0.1)
    assert world.statuses(job) == ["sent"]


def test_as_long_as_it_is_tried_nobody_asks_for_it(world: World) -> None:
    fleet = Fleet(world)
    job = world.create(waits("a", requestTimeout=1000))
    nobody(world, job)
    registers(world, "/remote/a")
    world.advance(REGISTERED_S)
    fleet.asked.clear()
    world.advance(900)
    assert (world.statuses(job), fleet.asked) == (["sent"], [])


def test_after_an_answer_it_is_asked_for_as_at_first(world: World) -> None:
    fleet = Fleet(world)
    job = world.create(waits("a", retry={"attempts": 2, "delay": 0}))
    nobody(world, job)
    world.advance(600)
    registers(world, "/remote/a")
    world.advance(REGISTERED_S)
    answer(world, job.first, 500)
    nobody(world, job)
    fleet.asked.clear()
    world.advance(FIRST_S)
    assert len(fleet.asked) == 1


def test_one_that_registers_at_the_very_end_is_tried(world: World) -> None:
    Fleet(world)
    job = world.create(waits("a", "b"))
    nobody(world, job, 0, 1)
    world.advance(WAITS_S - REGISTERED_S / 2)
    registers(world, "/remote/a", "/remote/b")
    world.advance(REGISTERED_S)
    assert world.statuses(job) == ["sent", "sent"]
    nobody(world, job)
    answer(world, job.first + 1)
    assert world.statuses(job) == ["error", "resolved"]


# -- it never comes --------------------------------------------------------------------------------


def test_who_is_never_registered_did_not_run(world: World) -> None:
    job = away(world, "a")
    world.advance(WAITS_S - 0.01)
    assert world.statuses(job) == ["pending"]
    world.advance(0.01)
    result = world.result(job.first)
    assert (result["code"], result["source"]) == (404, "puppetmaster")
    assert result["message"] == "its gateway was not registered within 3600 s: it did not run"
    assert (status(world, job)[0], len(world.engine.timers)) == ("resolved", 0)


def test_whose_bridge_does_not_come_back_did_not_run(world: World) -> None:
    job = gone(world)
    world.advance(WAITS_S)
    result = world.result(job.first)
    assert result["code"] == 503
    assert result["message"] == "its gateway was not connected within 3600 s: it did not run"


def test_a_retry_has_the_whole_time_again(world: World) -> None:
    job = away(world, "a", retry={"attempts": 2, "delay": 0})
    world.advance(WAITS_S - 10)
    registers(world, "/remote/a")
    world.advance(REGISTERED_S)
    answer(world, job.first, 500)
    nobody(world, job)
    world.advance(WAITS_S - 1)
    assert world.statuses(job) == ["pending"]
    world.advance(1)
    assert world.result(job.first)["message"].endswith("within 3600 s: no attempt after the first ones ran")


# -- meanwhile -------------------------------------------------------------------------------------


def test_a_cancel_does_not_wait_for_it(world: World) -> None:
    job = gone(world)
    control(world, job, CANCELED)
    assert (world.statuses(job), status(world, job)[0]) == (["canceled"], "canceled")
    assert (waiting(world), len(world.engine.timers)) == (0, 0)


def test_one_that_was_in_flight_at_the_cancel_is_not_waited_for(world: World) -> None:
    Fleet(world)
    job = world.create(waits("a"))
    control(world, job, CANCELED)
    nobody(world, job)
    assert (world.statuses(job), status(world, job)[0]) == (["canceled"], "canceled")


def test_one_that_is_about_to_come_back_is_forgotten_with_its_job(world: World) -> None:
    job = away(world, "a")
    registers(world, "/remote/a")
    control(world, job, CANCELED)
    assert len(world.engine.timers) == 0


def test_a_job_that_is_removed_takes_it_along(world: World) -> None:
    delete(world, gone(world))
    assert (waiting(world), len(world.engine.timers)) == (0, 0)


def test_the_time_of_the_job_is_over_first(world: World) -> None:
    job = gone(world, timeout=60)
    world.advance(60)
    assert (world.statuses(job), status(world, job)[0]) == (["skipped"], "timeout")


@pytest.mark.parametrize("connected", [True, False])
def test_a_paused_job_waits_on_when_it_goes_on(world: World, *, connected: bool) -> None:
    job = gone(world)
    control(world, job, PAUSED)
    assert waiting(world) == 0
    bridge(world, "a", connected=connected)
    world.advance(WAITS_S - 1)
    assert world.statuses(job) == ["pending"]
    control(world, job, DISPATCHING)
    world.advance(1)
    assert world.statuses(job) == ["sent" if connected else "error"]


def test_one_whose_time_is_over_when_the_job_goes_on_is_tried_once_more(world: World) -> None:
    job = away(world, "a")
    control(world, job, PAUSED)
    world.advance(2 * WAITS_S)
    assert world.statuses(job) == ["pending"]
    control(world, job, DISPATCHING)
    assert world.statuses(job) == ["sent"]
    nobody(world, job)
    assert world.statuses(job) == ["error"]


def test_a_wave_waits_for_it_and_its_gate_counts_it(world: World) -> None:
    bridge(world, "cg-000", connected=False)
    job = world.create(waits(*names(4), waves=[2]))
    answer(world, job.first + 1)
    assert (world.job(job.id).wave, sent(world, job)) == (1, [])
    world.advance(WAITS_S)
    assert status(world, job)[0] == "paused"
    assert world.statuses(job) == ["error", "resolved", "pending", "pending"]


def test_later_steps_wait_for_it_and_are_skipped_when_it_never_comes(world: World) -> None:
    bridge(world, "a", connected=False)
    items = [*waits("a")["batch"], *waits("a", method="get")["batch"]]
    job = world.create({"batch": items, "onFail": "stop", "deliveryTimeout": WAITS_S})
    assert why(world, job.first + 1) == f"request {job.first} of this job to the same gateway has not ended"
    world.advance(WAITS_S)
    assert world.statuses(job) == ["error", "skipped"]


def test_a_link_that_was_lost_is_no_sign_of_anybody(world: World) -> None:
    bridge(world, "a", connected=False)
    job = world.create(waits("a", "b"))
    nobody(world, job, 1)
    world.lose_link()
    world.advance(600)
    Fleet(world, "b")
    world.regain_link()
    bridge(world, "a", connected=False)
    assert world.statuses(job) == ["pending", "sent"]


def test_a_job_that_a_missing_gateway_ends_sends_nothing_more(world: World) -> None:
    world.lose_link()
    job = world.create(body("post", *names(9), abort={"errors": 0}))
    for name in names(9)[1:]:
        bridge(world, name, connected=False)
    world.regain_link()
    found = Counter(world.statuses(job))
    assert (found["error"], found["sent"] + found["skipped"]) == (1, 8)


# -- restarts --------------------------------------------------------------------------------------


def test_after_a_restart_it_waits_until_the_same_time(world: World) -> None:
    fleet = Fleet(world)
    job = world.create(waits("a", "b"))
    nobody(world, job, 0, 1)
    world.advance(100)
    world.restart()
    assert (world.statuses(job), len(world.sent)) == (["pending", "pending"], 2)
    fleet.here.add("a")
    world.advance(1)
    assert world.statuses(job) == ["sent", "pending"], "it may have come meanwhile"
    world.advance(WAITS_S - 102)
    assert world.request(job.first + 1).open
    world.advance(1)
    assert world.result(job.first + 1)["code"] == 404


@pytest.mark.parametrize("step_s", [0, 1e7])
def test_after_a_restart_of_the_machine_too_whatever_its_clock_said(world: World, step_s: float) -> None:
    job = away(world, "a")
    world.advance(100)
    world.clock.wall_ahead_s += step_s
    world.do(lambda engine: engine.lifecycle.clock_was_set())
    world.clock.reboot(off_s=1000)
    world.restart()
    world.advance(WAITS_S - 1101)
    assert world.statuses(job) == ["pending"]
    world.advance(1)
    assert world.statuses(job) == ["error"]


# -- many ------------------------------------------------------------------------------------------


def test_many_are_asked_for_at_no_more_than_fifty_a_second(world: World) -> None:
    fleet = Fleet(world)
    job = world.create(waits(*names(1000), concurrency=1000))
    while gone := sent(world, job):
        nobody(world, job, *gone)
    assert waiting(world) == 1000
    fleet.asked.clear()
    world.advance(120)
    times = [at_s for at_s, _ in fleet.asked]
    assert len({name for _, name in fleet.asked}) == 1000
    assert times[999] - times[0] < 30, "and at no fewer"
    assert all(last - first >= 0.999 for first, last in zip(times, times[50:], strict=False))
    assert max(times.count(at_s) for at_s in times) == AT_ONCE


def test_of_those_whose_bridges_are_gone_nobody_is_asked(world: World) -> None:
    fleet = Fleet(world)
    for name in names(100):
        bridge(world, name, connected=False)
    world.create(waits(*names(100)))
    world.advance(600)
    assert fleet.asked == []


# -- what is known of each ---------------------------------------------------------------------------


def test_what_the_controller_says_of_a_gateway_is_known_until_it_is_restarted(world: World) -> None:
    Fleet(world, "b")
    world.create(body("post", "b"))
    registered = world.engine.registered
    assert registered.of("b").registered is True
    job = world.create(body("post", "a"))
    world.run(lambda engine: engine.owners("a", ["/remote/a"]))
    nobody(world, job)
    assert registered.of("a").registered is False
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 1))
    assert registered.of("b").registered is None


# -- a remote bundle that says so ------------------------------------------------------------------


@pytest.fixture
def one() -> Iterable[World]:
    """A world with one model for all gateways, which says 504 of those that are offline."""
    made = World(replace(SETTINGS, offline_codes="504, 599"), owners=lambda _: ["/remote/+"])
    yield made
    made.stop()


def offline(world: World, job: Job, code: int = 504) -> None:
    world.run(world.said({"id": world.last(job.first).message, "code": code, "data": None}))


def test_the_remote_bundle_may_say_that_it_is_offline(one: World) -> None:
    job = one.create(waits("a"))
    offline(one, job)
    assert one.statuses(job) == ["pending"]
    assert (why(one, job.first) or "").startswith("not connected since ")
    assert one.request(job.first).attempts == 0


def test_a_job_that_does_not_wait_is_told_the_code(one: World) -> None:
    job = one.create(body("post", "a"))
    offline(one, job, 599)
    result = one.result(job.first)
    assert (one.statuses(job), result["code"], result["source"]) == (["error"], 599, "remote")


def test_then_it_is_tried_less_and_less_often(one: World) -> None:
    job = one.create(waits("a"))
    times = [one.clock.now_s()]
    while one.request(job.first).open:
        if one.request(job.first).status == "sent":
            times.append(one.clock.now_s())
            offline(one, job, 599)
        one.advance(1)
    apart = [after - before for before, after in pairwise(times[1:])]
    assert apart[0] <= FIRST_S + 1
    assert all(LAST_S / 2 <= one <= LAST_S + 1 for one in apart[4:])
    assert one.result(job.first)["code"] == 503


@pytest.mark.parametrize("code", [500, 503, 408])
def test_other_codes_of_it_end_the_request(one: World, code: int) -> None:
    job = one.create(waits("a"))
    offline(one, job, code)
    assert one.statuses(job) == ["timeout" if code == 408 else "error"]


def test_a_device_may_answer_with_that_code(one: World) -> None:
    job = one.create(waits("a"))
    answer(one, job.first, 504)
    assert one.statuses(job) == ["error"]
