"""Requests and the locks of the controller: questions, reads and writes, refusals, who is next."""

import pytest

from puppetmaster.scheduling.scheduler import LOCKED, Scheduler
from tests.unit.scheduling.lanes import (
    drained,
    lanes_of,
    picks,
    reads,
    room_at_owner,
    set_window,
    teach,
    writes,
)


def test_nobody_is_asked_for_what_was_removed() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "ab", 1)
    scheduler.remove(1)
    assert list(scheduler.questions(10)) == ["b"]


def test_reads_of_one_lock_go_side_by_side_and_before_the_next_write() -> None:
    scheduler = lanes_of(1, 2)
    teach(scheduler, "a", ["/remote/+"])
    room_at_owner(scheduler)
    writes(scheduler, 1, "a", 9)
    reads(scheduler, 1, "bcd", 1)
    reads(scheduler, 2, "ef", 5)
    order = picks(scheduler)
    assert sorted(order) == [1, 2, 3, 5, 6, 9]
    assert order[-1] == 9


@pytest.mark.parametrize(("limit", "flying", "window"), [(2, "a", 1), (None, "", 1), (None, "a", 3)])
def test_a_read_whose_job_may_send_goes_before_a_write(limit: int | None, flying: str, window: int) -> None:
    """Another job has one in flight that counts in the window."""
    scheduler = lanes_of(2, 3, most=10)
    scheduler.open_job(1, limit)
    set_window(scheduler, window)
    teach(scheduler, "ab")
    teach(scheduler, "y", ["/remote/y", "/remote/z"])
    reads(scheduler, 3, "b", 1)
    reads(scheduler, 1, flying, 2)
    assert len(picks(scheduler)) == 1 + len(flying)
    writes(scheduler, 2, "z", 60)
    reads(scheduler, 1, "y", 50)
    assert picks(scheduler) == [50, 60]


def test_a_read_takes_no_slot_that_is_kept_for_other_jobs() -> None:
    scheduler = lanes_of(1, 2, most=10, known=True)
    teach(scheduler, "y", ["/remote/y", "/remote/z"])
    teach(scheduler, "abcdefghi")
    reads(scheduler, 1, "abcdefghiy", 1)
    assert picks(scheduler) == [*range(1, 10)]
    writes(scheduler, 2, "z", 60)
    assert picks(scheduler) == [60]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_so_many_reads_are_let_by_and_no_more(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("puppetmaster.scheduling.scheduler.READS_BEFORE_WRITE", most)
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    reads(scheduler, 1, [f"g{number}" for number in range(20)], 10)
    order = drained(scheduler)
    assert order.index(1) == 2 * most, "those, and after each of them one whose own turn it is"
    assert order.index(2) == order.index(1) + 2 + 2 * most, "and as many before the next one"


def a_lock_in_a_crowd() -> Scheduler:
    """Job 1 has just ended its write on the lock of a, b, c; jobs 2 and 3 wait for it, in this order.

    Job 4 has so much else to send that there is always somebody who may go.
    """
    scheduler = lanes_of(1, 2, 3, 4)
    teach(scheduler, "a", ["/remote/a", "/remote/b", "/remote/c"])
    for id_ in range(100, 200):
        scheduler.learn(f"g{id_}", None, 0.0)
    writes(scheduler, 1, "a", 1)
    writes(scheduler, 2, "b", 2)
    writes(scheduler, 3, "c", 3)
    assert picks(scheduler) == [1]
    for id_ in range(100, 200):
        scheduler.add(id_, 4, f"g{id_}", write=True)
    scheduler.remove(1)
    return scheduler


def goes_soon(scheduler: Scheduler, id_: int) -> bool:
    """Whether it is among the next few that go, each before the one before has ended."""
    return id_ in [scheduler.pick(0.0) for _ in range(6)]


def test_a_free_lock_goes_to_the_first_that_waited() -> None:
    scheduler = a_lock_in_a_crowd()
    assert goes_soon(scheduler, 2)
    assert scheduler.why(3, 0.0) == "request 2 holds the lock of /remote/a and 2 more"
    scheduler.remove(2)
    assert goes_soon(scheduler, 3)


@pytest.mark.parametrize("gone", [False, True])
def test_a_free_lock_passes_by_a_job_that_sends_no_more(gone: bool) -> None:
    scheduler = a_lock_in_a_crowd()
    scheduler.remove(2)
    if gone:
        scheduler.close_job(2)
    assert goes_soon(scheduler, 3)


def test_a_free_lock_passes_by_a_destination_that_has_to_be_asked_for() -> None:
    scheduler = a_lock_in_a_crowd()
    scheduler.locks.doubt("b")
    assert goes_soon(scheduler, 3)


def test_a_free_lock_passes_by_a_job_that_is_at_its_limit() -> None:
    scheduler = lanes_of(1, 3)
    scheduler.open_job(2, 1)
    teach(scheduler, "a", ["/remote/a", "/remote/b", "/remote/c"])
    teach(scheduler, "z")
    writes(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    writes(scheduler, 2, "b", 2)
    writes(scheduler, 3, "c", 3)
    assert picks(scheduler) == []
    writes(scheduler, 2, "z", 4)
    scheduler.remove(1)
    assert picks(scheduler) == [4, 3], "job 2 was offered the lock first, and then sent something else"


def test_who_waits_for_a_lock_asks_when_what_was_known_of_it_is_wrong() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/a", "/remote/b", "/remote/c"])
    writes(scheduler, 1, "abc", 1)
    assert picks(scheduler) == [1]
    scheduler.forget("nobody")
    scheduler.forget("b")
    assert picks(scheduler) == []
    assert scheduler.why(2, 0.0) == "the controller is asked who owns its lock"
    assert scheduler.why(3, 0.0) == "request 1 holds the lock of /remote/a and 2 more"
    assert list(scheduler.questions(10)) == ["b"]
    teach(scheduler, "b")
    assert picks(scheduler) == [2]
    scheduler.remove(1)
    assert picks(scheduler) == [3]


def test_a_controller_that_has_forgotten_all_is_asked_in_the_order_of_the_requests() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "b")
    writes(scheduler, 1, "abc", 1)
    assert list(scheduler.questions(1)) == ["a"]
    scheduler.forget_all()
    assert picks(scheduler) == []
    asked = list(scheduler.questions(10))
    teach(scheduler, "".join(asked))
    assert (asked, picks(scheduler)) == (["a", "b", "c"], [1, 2, 3])


def test_a_refusal_where_no_lock_is_known_delays_that_request_alone() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "ab", 1)
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert scheduler.why(1, 0.0) == "locked by somebody else; it is tried again in 5.0 s"
    teach(scheduler, "ab")
    assert picks(scheduler, 1.0) == [2]
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == [1]
