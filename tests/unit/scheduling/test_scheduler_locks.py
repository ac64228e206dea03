"""Requests and the locks of the controller: questions, reads and writes, refusals, who is next."""

from collections.abc import Callable

import pytest

from puppetmaster.scheduling.scheduler import LOCKED, READS_BEFORE_WRITE, Scheduler
from tests.unit.scheduling.lanes import (
    CACHE_S,
    drained,
    lanes_of,
    one_lock,
    pause,
    picks,
    reads,
    room_at_owner,
    set_window,
    teach,
    writes,
)


def test_a_write_goes_only_after_the_controller_was_asked() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "a", 1)
    assert picks(scheduler) == []
    assert list(scheduler.questions(10)) == ["a"]
    assert list(scheduler.questions(10)) == [], "it is asked once"
    assert picks(scheduler) == []
    teach(scheduler, "a")
    assert picks(scheduler) == [1]


def test_a_read_goes_only_after_the_controller_was_asked() -> None:
    scheduler = lanes_of(1)
    reads(scheduler, 1, "ab", 1)
    assert picks(scheduler) == []
    assert scheduler.why(1, 0.0) == "the controller is asked who owns its lock"
    assert set(scheduler.questions(10)) == {"a", "b"}
    teach(scheduler, "a")
    assert picks(scheduler) == [1]


def test_nobody_is_asked_for_what_was_removed() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "ab", 1)
    scheduler.remove(1)
    assert list(scheduler.questions(10)) == ["b"]


def test_one_whose_lock_is_held_keeps_no_other_of_its_job_from_going() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/a", "/remote/b"])
    teach(scheduler, "c")
    writes(scheduler, 1, "abc", 1)
    assert picks(scheduler) == [1, 3]


def test_a_pattern_is_one_lock_for_every_destination() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "abc", 1)
    assert list(scheduler.questions(1)) == ["a"]
    teach(scheduler, "a", ["/elsewhere", "/remote/+"])
    assert list(scheduler.questions(10)) == [], "one answer spoke for all"
    assert picks(scheduler) == [1]
    scheduler.remove(1)
    assert picks(scheduler) == [2]


def test_several_literals_are_one_lock_for_those() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "abcd", 1)
    teach(scheduler, "a", ["/remote/b", "/remote/a"])
    assert picks(scheduler) == [1], "b is under the lock of a, c and d are not known"
    teach(scheduler, "cd")
    assert picks(scheduler) == [3, 4]
    scheduler.remove(1)
    assert picks(scheduler) == [2]


def test_a_read_does_not_pass_a_write_of_ours() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    room_at_owner(scheduler)
    writes(scheduler, 1, "a", 1)
    reads(scheduler, 1, "bc", 2)
    assert picks(scheduler)[-1] == 1
    reads(scheduler, 1, "de", 12)
    assert picks(scheduler) == []
    scheduler.remove(1)
    assert sorted(picks(scheduler)) == [12, 13]


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


def test_a_read_that_goes_before_a_write_of_another_job_keeps_its_own_limits() -> None:
    scheduler = lanes_of(1)
    scheduler.open_job(2, 1)
    set_window(scheduler, 1)
    teach(scheduler, "a", ["/remote/+"])
    reads(scheduler, 1, "abc", 1)
    writes(scheduler, 2, "d", 9)
    assert sorted(picks(scheduler)) == [1, 9]
    assert scheduler.automatic == 1


@pytest.mark.parametrize("kept_by", ["slots", "window", "concurrency", "rate", "suspended"])
def test_a_read_whose_job_may_send_nothing_does_not_go_before_a_write(kept_by: str) -> None:
    scheduler = lanes_of(2, most=10)
    scheduler.open_job(1, 1 if kept_by == "concurrency" else None, 1.0 if kept_by == "rate" else None)
    teach(scheduler, "abcdefghi")
    teach(scheduler, "y", ["/remote/y", "/remote/z"])
    many = 9 if kept_by == "slots" else 1
    set_window(scheduler, 1 if kept_by == "window" else 10)
    reads(scheduler, 1, "abcdefghi"[:many], 1)
    assert picks(scheduler) == [*range(1, many + 1)]
    if kept_by == "suspended":
        scheduler.suspend_job(1)
    reads(scheduler, 1, "y", 50)
    writes(scheduler, 2, "z", 60)
    assert picks(scheduler) == [60]
    set_window(scheduler, 10)
    scheduler.remove(1)
    scheduler.resume_job(1)
    assert picks(scheduler, 5.0) == []
    scheduler.remove(60)
    assert picks(scheduler, 5.0) == [50]


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


def test_reads_that_keep_coming_do_not_keep_a_write_out() -> None:
    scheduler = lanes_of(1, 2)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "a", 1)
    for id_ in range(10, 10 + 2 * READS_BEFORE_WRITE):
        scheduler.add(id_, 2, f"g{id_}", write=False)
    order = []
    while scheduler.why(1, 0.0) is not None:
        id_ = scheduler.pick(0.0) or 0
        assert id_
        order.append(id_)
        if id_ != 1:
            scheduler.remove(id_)
            scheduler.add(id_ + 10_000, 2, f"g{id_}", write=False)
        assert len(order) < 2 * READS_BEFORE_WRITE + 10


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


def test_a_write_that_was_put_back_frees_its_lock() -> None:
    scheduler = lanes_of(1, 2)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "a", 1)
    writes(scheduler, 2, "b", 2)
    assert picks(scheduler) == [1]
    scheduler.put_back(1)
    assert len(picks(scheduler)) == 1


def test_a_refused_request_waits_and_its_lock_with_it() -> None:
    scheduler = one_lock()
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert scheduler.in_flight == 0
    assert picks(scheduler, 4.9) == []
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == [1]
    scheduler.remove(1)
    assert picks(scheduler, 5.0) == [2]


def test_a_refused_destination_is_asked_for_again() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a")
    writes(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == []
    assert list(scheduler.questions(10)) == ["a"]
    teach(scheduler, "a", now_s=5.0)
    assert picks(scheduler, 5.0) == [1]


def test_a_refusal_at_a_lock_of_its_own_delays_that_request_alone() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1, 2]
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert scheduler.why(1, 0.0) == "locked by somebody else; it is tried again in 5.0 s"
    scheduler.remove(2)
    reads(scheduler, 1, "c", 3)
    assert picks(scheduler) == [3]
    scheduler.wake(1, 5.0)
    teach(scheduler, "a", now_s=5.0)
    assert picks(scheduler, 5.0) == [1]


def test_a_delay_that_is_nobodys_lock_stops_only_that_request() -> None:
    scheduler = one_lock()
    scheduler.delay(1, 5.0, "it failed")
    assert scheduler.why(1, 0.0) == "it failed; it is tried again in 5.0 s"
    assert picks(scheduler) == [2]
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == []
    scheduler.remove(2)
    assert picks(scheduler, 5.0) == [1]


def test_removing_a_delayed_request_lets_the_next_of_its_destination_go() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "aa", 1)
    assert picks(scheduler) == [1]
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    scheduler.remove(1)
    scheduler.wake(1, 5.0)
    teach(scheduler, "a", now_s=5.0)
    assert picks(scheduler, 5.0) == [2]
    assert picks(scheduler, 5.0) == []


def test_a_lock_is_free_again_also_when_the_delayed_request_was_removed() -> None:
    scheduler = one_lock()
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert picks(scheduler) == []
    scheduler.remove(1)
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == [2]


def test_the_longest_of_several_delays_counts_for_the_lock() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    room_at_owner(scheduler)
    reads(scheduler, 1, "abc", 1)
    assert picks(scheduler) == [1, 2, 3]
    scheduler.delay(1, 9.0, LOCKED, locked=True)
    scheduler.delay(2, 5.0, LOCKED, locked=True)
    scheduler.remove(3)
    reads(scheduler, 1, "d", 4)
    scheduler.wake(2, 5.0)
    assert picks(scheduler, 5.0) == []
    scheduler.wake(1, 9.0)
    assert sorted(picks(scheduler, 9.0)) == [1, 2, 4]


def test_what_was_learnt_is_believed_for_a_while_only() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a")
    writes(scheduler, 1, "aa", 1)
    assert picks(scheduler, CACHE_S - 1) == [1]
    scheduler.remove(1)
    assert picks(scheduler, CACHE_S) == []
    assert list(scheduler.questions(10)) == ["a"]


def test_a_pattern_is_asked_for_anew_while_it_is_still_believed() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "bcd", 1)
    assert picks(scheduler, CACHE_S) == [1], "to park everybody for one question would cost more"
    assert list(scheduler.questions(10)) == ["a"]
    assert list(scheduler.questions(10)) == []
    teach(scheduler, "a", ["/remote/a"], now_s=CACHE_S)
    assert picks(scheduler, CACHE_S) == []
    assert set(scheduler.questions(10)) == {"c", "d"}


@pytest.mark.parametrize(
    "forget", [lambda scheduler: scheduler.forget("a"), lambda scheduler: scheduler.forget_all()]
)
@pytest.mark.parametrize("resources", [["/remote/+"], ["/remote/a"]])
def test_what_was_forgotten_is_asked_for_again(
    forget: Callable[[Scheduler], None], resources: list[str]
) -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", resources)
    writes(scheduler, 1, "a", 1)
    forget(scheduler)
    assert picks(scheduler) == []
    assert list(scheduler.questions(10)) == ["a"]


def test_a_write_in_flight_may_end_after_its_lock_was_forgotten() -> None:
    scheduler = one_lock()
    scheduler.forget_all()
    scheduler.remove(1)
    teach(scheduler, "b")
    assert picks(scheduler) == [2]


def test_a_lock_that_is_forgotten_while_others_may_still_try_it_is_offered_to_nobody() -> None:
    scheduler = lanes_of(1, 2, 3, 4, most=2)
    shared = [f"/remote/{name}" for name in "abcd"]
    teach(scheduler, "abcd", shared)
    teach(scheduler, "x")
    writes(scheduler, 1, "ab", 10)
    writes(scheduler, 2, "c", 20)
    writes(scheduler, 3, "d", 30)
    reads(scheduler, 4, "x", 40)
    assert picks(scheduler) == [10, 40]
    scheduler.remove(10)
    assert picks(scheduler) == [11], "there is room for no other that waits for this lock"
    scheduler.forget_all()
    scheduler.remove(40)
    assert picks(scheduler) == [], "they have to ask again"
    teach(scheduler, "bcd", shared)
    scheduler.remove(11)
    assert drained(scheduler) == [20, 30]


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


def test_who_waits_for_a_lock_goes_when_it_turns_out_to_be_another() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/a", "/remote/b"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
    teach(scheduler, "b")
    assert picks(scheduler) == [2]


def test_the_lock_of_others_is_free_in_time_whatever_became_of_who_was_refused() -> None:
    scheduler = lanes_of(1, 2)
    teach(scheduler, "a", ["/remote/_", "/remote/a", "/remote/b"])
    writes(scheduler, 1, "a", 1)
    writes(scheduler, 2, "b", 2)
    assert picks(scheduler) == [1]
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert picks(scheduler) == []
    pause(scheduler, 1)
    writes(scheduler, 1, "a", 1)
    teach(scheduler, "a")
    assert picks(scheduler, 1.0) == [1]
    scheduler.delay(1, 60.0, LOCKED, locked=True)
    assert picks(scheduler, 5.0) == [2], "that wake is not for its lock"


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


def test_a_refusal_where_no_lock_is_known_delays_that_request_alone() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "ab", 1)
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert scheduler.why(1, 0.0) == "locked by somebody else; it is tried again in 5.0 s"
    teach(scheduler, "ab")
    assert picks(scheduler, 1.0) == [2]
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == [1]


def test_who_waits_for_a_lock_asks_when_the_controller_is_another_one() -> None:
    scheduler = one_lock()
    scheduler.forget_all()
    assert picks(scheduler) == []
    assert list(scheduler.questions(10)) == ["b"]
    teach(scheduler, "b")
    assert picks(scheduler) == [2], "the write in flight is under another lock"
