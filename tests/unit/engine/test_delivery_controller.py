"""The controller is restarted: what it lost, and gateways that register again."""

import pytest

from puppetmaster.engine.absent import REGISTERED_S
from puppetmaster.engine.delivery import MORE_S, UNREGISTERED_S
from puppetmaster.model.request import RequestStatus
from tests.unit.engine.verbs import SETTINGS, answer, why
from tests.virtual import World, body, one_model


def test_after_the_start_of_the_machine_gateways_may_come_later(world: World) -> None:
    job = world.create(body("post", "a"))
    world.clock.reboot()
    world.restart()
    world.advance(SETTINGS.grace_s)
    other = world.create(body("post", "b"))
    world.run(world.refused(other.first, 404))
    assert world.statuses(other) == ["pending"]
    assert "does not know the gateway yet" in (why(world, other.first) or "")
    world.advance(SETTINGS.booting_s)
    world.run(world.refused(world.last(other.first).message, 404))
    assert world.statuses(job) == ["unknown"]
    assert world.statuses(other) == ["error"]


def test_a_bundle_that_restarts_alone_waits_for_no_gateway(world: World) -> None:
    world.restart()
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["error"]


def test_gateways_may_register_again_after_a_restart_of_the_controller(world: World) -> None:
    job = world.create(body("post", "a"))
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 100))
    world.run(world.refused(job.first, 404, "nobody"))
    request = world.request(job.first)
    assert (request.status, request.attempts) == (RequestStatus.PENDING, 0), "nobody got it: it waits"
    world.advance(1)
    assert len(world.sendings(job.first)) == 2
    answer(world, job.first)
    assert world.statuses(job) == ["resolved"]


def test_who_has_not_registered_again_by_then_does_not_exist(world: World) -> None:
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 100))
    world.advance(SETTINGS.registering_s)
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404, "nobody"))
    assert world.statuses(job) == ["error"]
    assert len(world.sendings(job.first)) == 1


def restarted(world: World, known_s: float | None) -> list[int]:
    """The controller was restarted: the messages of which it is asked whether it has them."""
    world.checked.clear()
    world.run(lambda engine: engine.delivery.controller_restarted(known_s))
    return list(world.checked)


def test_a_restarted_controller_lost_what_it_had_been_given(world: World) -> None:
    before = world.create(body("post", "a"))
    world.advance(2)
    known_s = world.clock.now_s()
    world.advance(2)
    after, later = world.create(body("post", "b")), world.create(body("get", "c"))
    world.advance(1)
    assert restarted(world, known_s) == [after.first, later.first]
    world.run(lambda engine: engine.delivery.held(after.first, held=True))
    world.run(lambda engine: engine.delivery.held(later.first, held=False))
    world.advance(SETTINGS.grace_s)
    assert world.statuses(before) == ["unknown"]
    assert world.statuses(after) == ["sent"], "it is the new one that has it"
    assert len(world.sendings(later.first)) == 2, "that one is lost, and may be repeated"
    world.advance(60)
    assert world.statuses(after) == ["timeout"]


def test_an_answer_that_was_on_its_way_counts_though_the_controller_does_not_wait_for_it(
    world: World,
) -> None:
    job = world.create(body("post", "a"))
    restarted(world, world.clock.now_s() - 1)
    world.run(lambda engine: engine.delivery.held(job.first, held=False))
    answer(world, job.first)
    world.run(lambda engine: engine.delivery.held(job.first, held=False))
    assert world.statuses(job) == ["resolved"]


def test_a_controller_that_has_forgotten_us_is_not_believed_that_there_is_no_such_gateway(
    world: World,
) -> None:
    """It says so of everybody, before anybody has noticed that it was restarted."""
    world.known = False
    job = world.create(body("post", "a", "b"))
    world.run(world.refused(job.first, 404), world.refused(job.first + 1, 403, "no subscribed model"))
    assert world.statuses(job) == ["sent", "sent"]
    assert world.proving
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s() - 1))
    assert world.statuses(job) == ["pending", "pending"]
    world.known = True
    world.advance(1)
    for request in (job.first, job.first + 1):
        answer(world, request)
    assert world.statuses(job) == ["resolved", "resolved"]


@pytest.mark.parametrize("lost", ["time", "link"])
def test_who_is_not_known_to_exist_did_not_run(world: World, lost: str) -> None:
    world.known = False
    job = world.create(body("post", "a", requestTimeout=5))
    world.run(world.refused(job.first, 404))
    if lost == "time":
        world.advance(5)
    else:
        world.lose_link()
    assert world.statuses(job) in (["pending"], ["sent"])
    assert world.request(job.first).attempts == len(world.sendings(job.first)) - 1


@pytest.mark.parametrize("forgotten", [True, False])
def test_what_an_earlier_process_began_waits_for_gateways_after_our_start(
    world: World, *, forgotten: bool
) -> None:
    """The controller may be new too, also where it knows us: we were quicker to register than to ask."""
    old = world.create(body("get", "a"))
    world.restart()
    if forgotten:
        restarted(world, None)
    new = world.create(body("post", "b"))
    world.advance(SETTINGS.grace_s)  # what was sent before is lost, and sent again
    world.run(world.refused(world.last(old.first).message, 404), world.refused(new.first, 404))
    assert (world.statuses(old), world.statuses(new)) == (["pending"], ["error"])
    world.advance(SETTINGS.registering_s)
    world.run(world.refused(world.last(old.first).message, 404))
    assert world.statuses(old) == ["error"]


def test_that_wait_counts_from_the_first_answer_of_the_controller(world: World) -> None:
    world.lose_link()
    job = world.create(body("post", "a", requestTimeout=600))
    world.restart()
    world.advance(2 * SETTINGS.registering_s)
    world.regain_link()
    world.advance(SETTINGS.registering_s - 1)
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["pending"]
    world.lose_link()
    world.regain_link()
    world.advance(2)
    world.run(world.refused(world.last(job.first).message, 404))
    assert world.statuses(job) == ["error"], "the second time does not begin it anew"


def test_what_is_new_waits_too_when_gateways_are_seen_to_register_after_our_start(world: World) -> None:
    world.restart()
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["pending"]
    world.advance(MORE_S)
    world.run(world.refused(world.last(job.first).message, 404))
    assert world.statuses(job) == ["error"], "until no more of them come"


def test_an_answer_that_was_doubted_is_taken_once(world: World) -> None:
    world.restart()
    world.known = False
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    world.run(lambda engine: engine.delivery.controller_knows(world.clock.now_s()))
    assert world.statuses(job) == ["pending"]
    commits = world.commits
    world.run(lambda engine: engine.delivery.controller_knows(world.clock.now_s()))
    assert world.commits == commits


def test_who_registers_later_says_nothing_of_the_others(world: World) -> None:
    world.restart()
    world.advance(SETTINGS.registering_s)
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["error"]


def test_who_registers_again_is_sent_to_at_once_and_the_others_are_left_alone(world: World) -> None:
    job = world.create(body("post", "a", "b"))
    restarted(world, world.clock.now_s() - 100)
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    world.run(world.refused(job.first, 404), world.refused(job.first + 1, 404))
    world.advance(UNREGISTERED_S / 2 - 2 * REGISTERED_S - 0.1)
    assert len(world.sent) == 2, "while one sees who comes, nobody is asked in vain"
    world.run(lambda engine: engine.delivery.registering(["/remote/a"]))
    world.advance(REGISTERED_S)
    assert [one.destination for one in world.sent[2:]] == ["a"]
    world.run(lambda engine: engine.delivery.registering(["/remote/z", "/remote/+"]))
    world.advance(REGISTERED_S)
    assert [one.destination for one in world.sent[2:]] == ["a", "b"]


def test_while_more_gateways_register_the_others_are_waited_for(world: World) -> None:
    restarted(world, world.clock.now_s() - 100)
    world.advance(SETTINGS.registering_s - 1)
    world.run(lambda engine: engine.delivery.registering(["/remote/z"]))
    world.advance(MORE_S - 1)
    job = world.create(body("post", "a"))
    world.run(world.refused(job.first, 404))
    assert world.statuses(job) == ["pending"]
    world.advance(SETTINGS.lock_wait_s)
    world.run(world.refused(world.last(job.first).message, 404))
    assert world.statuses(job) == ["error"], "not for ever"


def test_a_restarted_controller_is_asked_for_locks_again(world: World) -> None:
    world.owners = one_model
    job = world.create(body("post", "a", "b"))
    world.owners = None
    world.run(lambda engine: engine.delivery.controller_restarted(world.clock.now_s()))
    answer(world, job.first)
    assert world.asked == ["b"]
    assert len(world.sent) == 1
