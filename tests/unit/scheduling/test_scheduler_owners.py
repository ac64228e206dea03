"""How much an owner of many gateways is given by the scheduler, and what it leaves unanswered."""

from collections.abc import Callable
from typing import Any

import pytest

from puppetmaster.scheduling.owners import BLOCKED_S, FORGET_S
from puppetmaster.scheduling.owners import FIRST as FIRST_OF_OWNER
from puppetmaster.scheduling.scheduler import Scheduler
from tests.unit.scheduling.lanes import CACHE_S, lanes_of, picks, reads, room_at_owner, teach, writes


def one_owner(size: int, **more: Any) -> Scheduler:
    """Scheduler with reads 1 to 9, all of one owner that works on this many at once."""
    scheduler = lanes_of(1, **more)
    teach(scheduler, "a", ["/remote/+"])
    room_at_owner(scheduler, size)
    reads(scheduler, 1, "abcdefghi", 1)
    return scheduler


def busy(scheduler: Scheduler) -> int:
    """With how many the owner may be busy."""
    return scheduler.owners.sizes()["/remote/+"][1]


def test_an_owner_of_many_is_given_as_many_as_it_works_on_and_why_says_so() -> None:
    scheduler = one_owner(3)
    assert picks(scheduler) == [1, 2, 3]
    assert (
        scheduler.why(4, 0.0) == "3 requests are in flight at the owner of /remote/+: as many as it works on"
    )
    scheduler.answered(1, 0.5)
    scheduler.remove(1)
    assert scheduler.why(4, 0.5) == "next to be sent"
    assert picks(scheduler, 0.5) == [4]


def test_an_owner_of_many_is_never_given_more_than_its_setting() -> None:
    for owner_most, most in ((1, 1), (None, FIRST_OF_OWNER)):
        scheduler = Scheduler(100, CACHE_S, owner_most)
        scheduler.open_job(1, None)
        teach(scheduler, "a", ["/remote/+"])
        reads(scheduler, 1, "abcd", 1)
        assert len(picks(scheduler)) == most


def test_an_owner_of_many_that_says_nothing_is_given_nothing_and_why_says_so() -> None:
    scheduler = one_owner(5)
    assert [scheduler.pick(0.0), scheduler.pick(0.0)] == [1, 2]
    assert scheduler.why(3, BLOCKED_S) == "next to be sent"
    later_s = BLOCKED_S + 0.1
    assert picks(scheduler, later_s) == []
    assert scheduler.why(3, later_s) == (
        "the owner of /remote/+ answers nothing: 2 requests are in flight there"
    )


@pytest.mark.parametrize("sign", [Scheduler.heard, Scheduler.answered])
def test_a_sign_of_life_of_an_owner_lets_others_go(sign: Callable[[Scheduler, int, float], None]) -> None:
    scheduler = one_owner(5)
    assert [scheduler.pick(0.0), scheduler.pick(0.0)] == [1, 2]
    assert picks(scheduler, 9.0) == []
    sign(scheduler, 1, 9.0)
    scheduler.remove(1)
    assert picks(scheduler, 9.0) == [3, 4, 5, 6]


def test_an_owner_of_one_gateway_is_asked_for_no_signs_of_life() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "a", 1)
    writes(scheduler, 1, "b", 2)
    assert picks(scheduler) == [1, 2]
    for id_ in (1, 2):
        scheduler.heard(id_, 5.0)
        scheduler.answered(id_, 5.0)
        assert scheduler.overdue(id_, 70 + id_, 5.0) is None
        scheduler.remove(id_)
    scheduler.came(72, 6.0)
    assert scheduler.owners.sizes() == {}


def test_an_owner_is_given_more_while_answers_are_quick_and_less_when_they_are_slow() -> None:
    """Their time counts from when each was picked."""
    scheduler, now_s, sizes = lanes_of(1), 0.0, []
    teach(scheduler, "a", ["/remote/+"])
    reads(scheduler, 1, [f"cg-{number}" for number in range(200)], 1)
    for latency_s in (*[0.1] * 3, *[1.0] * 10):
        gone = picks(scheduler, now_s)
        now_s += latency_s
        for id_ in gone:
            scheduler.answered(id_, now_s)
            scheduler.remove(id_)
        sizes.append(scheduler.owners.sizes()["/remote/+"][0])
    assert sizes[:3] == [4, 8, 16]
    assert min(sizes[3:]) == 2


def test_what_was_not_answered_in_time_keeps_a_place_until_its_answer_comes() -> None:
    scheduler = one_owner(2)
    assert picks(scheduler) == [1, 2]
    for id_ in (1, 2):
        assert scheduler.overdue(id_, 70 + id_, 1.0) == 1.0 + FORGET_S
        scheduler.remove(id_)
    assert busy(scheduler) == 2
    assert picks(scheduler, 1.0) == []
    scheduler.came(99, 2.0)
    assert picks(scheduler, 2.0) == []
    scheduler.came(71, 3.0)
    assert picks(scheduler, 3.0) == [3]
    scheduler.forget_overdue(1.0 + FORGET_S)
    assert busy(scheduler) == 1
    assert picks(scheduler, 1.0 + FORGET_S) == [4]
