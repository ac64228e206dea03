"""Which request is sent next: destinations, locks, concurrency, and the window."""

from puppetmaster.engine.delivery import QUESTION_TIMEOUT_S
from puppetmaster.scheduling.fairness import PATIENT_S
from puppetmaster.scheduling.window import FIRST
from tests.unit.engine.verbs import DISPATCHING, PAUSED, answer, control, why
from tests.virtual import World, body, one_model


def test_a_question_without_an_answer_holds_a_write_up_for_a_while_only(world: World) -> None:
    world.owners = None
    job = world.create(body("post", "a"))
    assert world.asked == ["a"]
    assert why(world, job.first) == "the controller is asked who owns its lock"
    world.advance(QUESTION_TIMEOUT_S)
    assert len(world.sent) == 1


def test_an_error_of_a_device_says_nothing_about_locks(world: World) -> None:
    """With one lock for ten thousand, a 404 of one device must not have all of them asked for anew."""
    world.owners = one_model
    job = world.create(body("post", "a", "b"))
    world.owners = None
    world.run(world.answered(job.first, 404))
    assert world.sent[-1].request == job.first + 1


def test_a_gateway_that_is_gone_is_asked_for_again(world: World) -> None:
    job = world.create({"batch": body("post", "a")["batch"] * 2})
    world.owners = None
    world.run(world.refused(job.first, 404))
    assert world.asked == ["a"]


def test_silent_gateways_that_fill_the_window_let_others_go_after_a_while(world: World) -> None:
    """Nothing arrives: only a timer lets them go."""
    silent, begun_s = (
        world.create(body("get", *(f"silent-{one}" for one in range(FIRST)))),
        world.clock.now_s(),
    )
    other = world.create(body("get", "a", "b"))
    assert len(world.sendings(other.first)) == 1, "a job that has nothing in flight comes first"
    assert world.sendings(other.first + 1) == []
    world.advance(PATIENT_S - 0.1)
    assert world.sendings(other.first + 1) == []
    world.advance(0.2)
    assert world.last(other.first + 1).at_s == begun_s + PATIENT_S
    assert world.statuses(silent) == ["sent"] * FIRST


def test_a_retry_keeps_nobody_else_from_its_lock(world: World) -> None:
    world.owners = one_model
    failing = world.create(body("post", "a", retry={"attempts": 2, "delay": 20}))
    other = world.create(body("post", "b"))
    assert [one.request for one in world.sent] == [failing.first]
    world.run(world.answered(failing.first, 500))
    assert [one.request for one in world.sent] == [failing.first, other.first]
    assert "the last attempt failed; it is tried again in" in str(why(world, failing.first))
    answer(world, other.first)
    control(world, failing, PAUSED)
    control(world, failing, DISPATCHING)
    third = world.create(body("post", "c"))
    assert len(world.sendings(third.first)) == 1, "also when it has waited aside"
    answer(world, third.first)
    world.advance(60)
    assert len(world.sendings(failing.first)) == 2
