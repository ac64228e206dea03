"""Whose turn it is: by example, by counting steps, and against a naive model."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from puppetmaster.scheduling.fairness import CATCH_UP_S, FEW, PATIENT_S
from puppetmaster.scheduling.locks import ALIKE
from puppetmaster.scheduling.owners import BLOCKED_S, FORGET_S
from puppetmaster.scheduling.owners import FIRST as FIRST_OF_OWNER
from puppetmaster.scheduling.scheduler import LOCKED, READS_BEFORE_WRITE, Scheduler
from puppetmaster.scheduling.window import FIRST, Window

CACHE_S = 60.0


def lanes_of(
    *jobs: int, most: int = 100, limit: int | None = None, rate: float | None = None, known: bool = False
) -> Scheduler:
    """Scheduler with these jobs open, and an adaptive window that is in nobody's way.

    With ``known`` every gateway is known to have a lock of its own.
    """
    scheduler = Scheduler(most, CACHE_S)
    set_window(scheduler, most)
    if known:
        all_alike(scheduler)
    for job in jobs:
        scheduler.open_job(job, limit, rate)
    return scheduler


def all_alike(scheduler: Scheduler) -> None:
    """The controller says of some that each has a model of its own: that is believed of the others too."""
    for number in range(ALIKE):
        scheduler.learn(f"known-{number}", [f"/remote/known-{number}"], 0.0)


def set_window(scheduler: Scheduler, size: int) -> None:
    """Give the adaptive window this size."""
    scheduler._turns.window = Window(size)
    scheduler.window._size = size


def room_at_owner(scheduler: Scheduler, size: int = 100) -> None:
    """Let the owner of all gateways be known to work on this many at once."""
    scheduler.owners.of("/remote/+").size = size


def pause(scheduler: Scheduler, *ids: int) -> None:
    """A paused job takes its requests out; it adds them again when it goes on."""
    for id_ in ids:
        scheduler.remove(id_)


def reads(scheduler: Scheduler, job: int, destinations: Sequence[str], first: int) -> None:
    """Add one read per name, or letter, with ids from ``first``."""
    for id_, destination in enumerate(destinations, first):
        scheduler.add(id_, job, destination, write=False)


def writes(scheduler: Scheduler, job: int, destinations: str, first: int) -> None:
    for id_, destination in enumerate(destinations, first):
        scheduler.add(id_, job, destination, write=True)


def picks(scheduler: Scheduler, now_s: float = 0.0) -> list[int]:
    """All that may go now."""
    return list(iter(lambda: scheduler.pick(now_s) or 0, 0))


def teach(
    scheduler: Scheduler, destinations: str, resources: list[str] | None = None, now_s: float = 0.0
) -> None:
    """Answer for each letter: ``resources``, or a model of its own."""
    for one in destinations:
        scheduler.learn(one, resources or [f"/remote/{one}"], now_s)


def drained(scheduler: Scheduler, now_s: float = 0.0) -> list[int]:
    """The order in which all go when each ends before the next is picked."""
    order = []
    while (id_ := scheduler.pick(now_s)) is not None:
        order.append(id_)
        scheduler.remove(id_)
    return order


# -- scheduler: one in flight per destination, in order ------------------------------------------------


def test_one_destination_has_one_in_flight_and_the_order_of_creation() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "aab", 10)
    assert picks(scheduler) == [10, 12]
    scheduler.remove(12)
    assert picks(scheduler) == []
    scheduler.remove(10)
    assert picks(scheduler) == [11]


def test_the_order_of_creation_holds_over_jobs() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 2, "a", 1)
    reads(scheduler, 1, "a", 2)
    reads(scheduler, 2, "a", 3)
    assert drained(scheduler) == [1, 2, 3]


def test_an_older_request_that_comes_back_goes_before_younger_ones() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 1, "aa", 1)
    reads(scheduler, 2, "aa", 5)
    assert picks(scheduler) == [1]
    pause(scheduler, 2)
    scheduler.put_back(1)
    pause(scheduler, 1)
    assert scheduler.why(5, 0.0) == "next to be sent"
    reads(scheduler, 1, "aa", 1)
    assert scheduler.why(5, 0.0) == "request 1 of job 1 to the same destination is before it"
    assert drained(scheduler) == [1, 2, 5, 6]


def test_one_that_comes_back_does_not_overtake_what_is_in_flight() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 2, "a", 5)
    assert picks(scheduler) == [5]
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == []
    scheduler.put_back(5)
    assert len(picks(scheduler)) == 1
    assert scheduler.in_flight == 1


@pytest.mark.parametrize("again", ["put back", "delayed"])
def test_a_younger_one_that_waits_again_lets_an_older_one_go(again: str) -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 2, "a", 5)
    assert picks(scheduler) == [5]
    reads(scheduler, 1, "a", 1)
    if again == "delayed":
        scheduler.delay(5, 9.0, "it failed")
    else:
        scheduler.put_back(5)
    assert picks(scheduler) == [1]
    scheduler.remove(1)
    scheduler.wake(5, 9.0)
    assert picks(scheduler, 9.0) == [5]


def test_removing_one_that_is_not_first_frees_nobody() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "aaa", 1)
    assert picks(scheduler) == [1]
    scheduler.remove(2)
    assert picks(scheduler) == []
    scheduler.remove(1)
    assert picks(scheduler) == [3]


def test_removing_the_first_before_it_goes_lets_the_next_go() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "aa", 1)
    scheduler.remove(1)
    assert picks(scheduler) == [2]


def test_what_was_put_back_goes_before_what_came_later() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "aa", 1)
    assert picks(scheduler) == [1]
    scheduler.put_back(1)
    assert scheduler.in_flight == 0
    assert drained(scheduler) == [1, 2]


def test_one_that_was_in_flight_before_takes_its_slot_again() -> None:
    scheduler = lanes_of(1, limit=2, most=2, known=True)
    scheduler.add(1, 1, "a", write=True, in_flight=True)
    reads(scheduler, 1, "abc", 2)
    assert scheduler.in_flight == 1
    teach(scheduler, "abc")
    assert picks(scheduler) == [3]
    scheduler.remove(1)
    assert len(picks(scheduler)) == 1


def test_one_that_was_in_flight_before_is_not_joined_by_an_older_one() -> None:
    scheduler = lanes_of(1, known=True)
    scheduler.add(5, 1, "a", write=False, in_flight=True)
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == []
    assert scheduler.why(1, 0.0) == "request 5 of job 1 to the same destination is in flight"


def test_one_that_was_in_flight_before_can_be_put_back() -> None:
    scheduler = lanes_of(1, known=True)
    scheduler.add(1, 1, "a", write=False, in_flight=True)
    scheduler.put_back(1)
    assert picks(scheduler) == [1]


# -- jobs: turns, limits, hold; the window ---------------------------------------------------------


def test_jobs_take_turns() -> None:
    scheduler = lanes_of(1, 2, 3, known=True)
    reads(scheduler, 1, "abcdef", 10)
    reads(scheduler, 2, "ghi", 20)
    reads(scheduler, 3, "jk", 30)
    assert picks(scheduler) == [10, 20, 30, 11, 21, 31, 12, 22, 13, 14, 15]


def test_a_late_small_job_does_not_wait_for_an_early_large_one() -> None:
    scheduler = lanes_of(1, 2, most=2, known=True)
    reads(scheduler, 1, "abcdefgh", 10)
    assert picks(scheduler) == [10, 11]
    reads(scheduler, 2, "z", 20)
    scheduler.remove(10)
    scheduler.remove(11)
    assert 20 in picks(scheduler)


def test_jobs_take_turns_at_one_lock() -> None:
    scheduler = lanes_of(1, 2, known=True)
    writes(scheduler, 1, "abc", 10)
    writes(scheduler, 2, "def", 20)
    teach(scheduler, "a", ["/remote/+"])
    assert drained(scheduler) == [10, 20, 11, 21, 12, 22]


def test_a_job_keeps_its_limit() -> None:
    scheduler = Scheduler(100, CACHE_S)
    all_alike(scheduler)
    scheduler.open_job(1, 2)
    scheduler.open_job(2, None)
    reads(scheduler, 1, "abcd", 10)
    reads(scheduler, 2, "efg", 20)
    assert picks(scheduler) == [10, 20, 11, 21, 22]
    scheduler.remove(11)
    assert picks(scheduler) == [12]
    scheduler.put_back(10)
    assert len(picks(scheduler)) == 1


def test_there_is_a_most_for_all_jobs_together() -> None:
    scheduler = lanes_of(1, 2, most=3, known=True)
    reads(scheduler, 1, "abc", 10)
    reads(scheduler, 2, "def", 20)
    first = picks(scheduler)
    assert len(first) == scheduler.in_flight == 3
    scheduler.remove(first[0])
    assert len(picks(scheduler)) == 1


@pytest.mark.parametrize(("most", "goes"), [(9, 9), (10, 9), (109, 99), (200, 180), (500, 480)])
def test_the_last_tenth_is_for_jobs_that_have_nothing_in_flight_and_it_is_twenty_at_most(
    most: int, goes: int
) -> None:
    scheduler = lanes_of(1, 2, most=most, known=True)
    assert Scheduler(most, CACHE_S).window.most == goes
    reads(scheduler, 1, [f"cg-{number}" for number in range(most)], 1)
    assert len(picks(scheduler)) == goes
    reads(scheduler, 2, ["x", "y"], 1000)
    assert len(picks(scheduler)) == min(1, most - goes)


@pytest.mark.parametrize("most", [1, 5, 10, 20])
def test_jobs_that_have_nothing_in_flight_do_not_go_beyond_it_either(most: int) -> None:
    """They come first, whatever the window: it is the most that stops them."""
    scheduler = lanes_of(*range(30), most=most, known=True)
    for job in range(30):
        scheduler.add(100 + job, job, f"cg-{job}", write=False)
    assert picks(scheduler) == [*range(100, 100 + most)]
    assert scheduler.why(120, 0.0) == f"no free slot: {most} requests are in flight, which is the most"


def test_the_adaptive_window_limits_jobs_that_name_no_concurrency() -> None:
    scheduler = lanes_of(1, 2, known=True)
    scheduler.open_job(3, 2)
    set_window(scheduler, 3)
    reads(scheduler, 1, "abc", 10)
    reads(scheduler, 2, "def", 20)
    reads(scheduler, 3, "ghi", 30)
    first = picks(scheduler)
    assert sorted(first) == [10, 11, 20, 30, 31]
    assert scheduler.automatic == 3
    assert scheduler.why(12, 0.0) == "no free slot: 3 requests are in flight, which is the window now"
    set_window(scheduler, 4)
    assert len(picks(scheduler)) == 1
    set_window(scheduler, 2)
    scheduler.remove(10)
    assert picks(scheduler) == []


def test_what_is_sent_again_counts_in_the_window_anew() -> None:
    """Its first sending would not count any more by then; its second still does."""
    scheduler = lanes_of(1, known=True)
    set_window(scheduler, 1)
    reads(scheduler, 1, "a", 10)
    assert picks(scheduler, 0.0) == [10]
    scheduler.put_back(10)
    assert picks(scheduler, 1.0) == [10]
    reads(scheduler, 1, "b", 11)
    assert picks(scheduler, PATIENT_S) == []
    assert scheduler.room_s(PATIENT_S) == 1.0 + PATIENT_S
    assert picks(scheduler, 1.0 + PATIENT_S) == [11]


def test_the_window_has_room_by_itself_only_when_it_is_full() -> None:
    scheduler = lanes_of(1, known=True)
    set_window(scheduler, 1)
    reads(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
    assert scheduler.room_s(1.0) == PATIENT_S
    set_window(scheduler, 2)
    assert scheduler.room_s(1.0) is None


def test_what_has_ended_says_nothing_of_when_the_window_has_room() -> None:
    scheduler = lanes_of(1, known=True)
    set_window(scheduler, 2)
    reads(scheduler, 1, "abcd", 1)
    assert [scheduler.pick(0.0), scheduler.pick(1.0)] == [1, 2]
    scheduler.remove(1)
    set_window(scheduler, 1)
    assert scheduler.room_s(1.5) == 1.0 + PATIENT_S


def test_without_a_free_slot_room_in_the_window_helps_nobody() -> None:
    scheduler = lanes_of(1, most=2, known=True)
    scheduler.open_job(2, 1)
    set_window(scheduler, 1)
    reads(scheduler, 1, "ab", 1)
    reads(scheduler, 2, "c", 3)
    assert picks(scheduler) == [1, 3]
    assert scheduler.room_s(1.0) is None


def test_lanes_begin_with_the_first_size_of_the_window() -> None:
    scheduler = Scheduler(100, CACHE_S)
    all_alike(scheduler)
    scheduler.open_job(1, None)
    reads(scheduler, 1, "abcdefghijklmnop", 1)
    assert len(picks(scheduler)) == FIRST


def test_a_paused_job_sends_nothing_and_others_go_on() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 1, "ab", 10)
    reads(scheduler, 2, "bc", 20)
    pause(scheduler, 10, 11)
    assert [scheduler.holds(id_) for id_ in (10, 20)] == [False, True]
    assert sorted(picks(scheduler)) == [20, 21]
    reads(scheduler, 1, "ab", 10)
    assert picks(scheduler) == [10]
    scheduler.remove(20)
    assert picks(scheduler) == [11]


def test_a_suspended_job_sends_nothing_until_it_is_resumed() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 1, "abc", 1)
    assert scheduler.pick(0.0) == 1
    scheduler.suspend_job(1)
    scheduler.suspend_job(99)
    reads(scheduler, 1, "d", 4)
    reads(scheduler, 2, "e", 9)
    assert picks(scheduler) == [9]
    scheduler.remove(1)
    assert picks(scheduler) == []
    scheduler.resume_job(1)
    assert picks(scheduler) == [2, 3, 4]


def test_a_job_keeps_its_rate() -> None:
    scheduler = lanes_of(1, rate=2, known=True)
    reads(scheduler, 1, "abcd", 1)
    assert picks(scheduler, 10.0) == [1]
    assert list(scheduler.paced()) == [(1, 10.5)]
    assert list(scheduler.paced()) == []
    assert scheduler.why(2, 0.0) == "the job's rate is 2 per second"
    assert picks(scheduler, 10.4) == []
    scheduler.pace_over(1)
    assert picks(scheduler, 10.5) == [2]
    assert list(scheduler.paced()) == [(1, 11.0)]
    scheduler.pace_over(1)
    assert picks(scheduler, 20.0) == [3], "what was missed for long is not caught up"
    scheduler.close_job(99)
    scheduler.pace_over(99)


def test_a_paced_job_holds_up_no_other() -> None:
    scheduler = lanes_of(1, rate=1, known=True)
    scheduler.open_job(2, None)
    reads(scheduler, 1, "ab", 1)
    reads(scheduler, 2, "cd", 11)
    assert sorted(picks(scheduler)) == [1, 11, 12]


def test_a_closed_job_is_forgotten_with_all_that_waited() -> None:
    scheduler = lanes_of(1, 2, known=True)
    writes(scheduler, 1, "ab", 10)
    writes(scheduler, 2, "ab", 20)
    scheduler.remove(10)
    scheduler.remove(11)
    scheduler.close_job(1)
    assert picks(scheduler) == [20, 21]


# -- lock domains ----------------------------------------------------------------------------------


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


def test_who_is_known_to_be_like_all_others_is_not_asked_for() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1, 2]
    assert list(scheduler.questions(10)) == []


def test_with_writes_about_reads_wait_for_the_answer_too() -> None:
    scheduler = lanes_of(1)
    reads(scheduler, 1, "b", 1)
    writes(scheduler, 1, "a", 2)
    assert picks(scheduler) == []
    assert set(scheduler.questions(10)) == {"a", "b"}
    teach(scheduler, "a", ["/remote/a", "/remote/b"])
    assert picks(scheduler) == [1, 2]


def test_only_so_many_questions_are_under_way_and_all_are_asked_in_the_end() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "abcdefg", 1)
    asked = list(scheduler.questions(3))
    assert len(asked) == 3
    assert list(scheduler.questions(3)) == []
    seen = []
    while asked:
        seen += asked
        teach(scheduler, "".join(asked))
        asked = list(scheduler.questions(3))
    assert sorted(seen) == list("abcdefg")
    assert sorted(picks(scheduler)) == list(range(1, 8))


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


def test_destinations_that_an_answer_named_are_not_asked_for_again() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "abc", 1)
    assert list(scheduler.questions(1)) == ["a"]
    teach(scheduler, "a", ["/remote/a", "/remote/b", "/remote/c"])
    assert list(scheduler.questions(10)) == []
    assert drained(scheduler) == [1, 2, 3]


@pytest.mark.parametrize("resources", [None, [], ["/system/time"], ["/remote/a"]])
def test_no_shared_owner_means_a_lock_of_its_own(resources: list[str] | None) -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "ab", 1)
    scheduler.learn("a", resources, 0.0)
    scheduler.learn("b", resources and ["/remote/b"], 0.0)
    assert picks(scheduler) == [1, 2]


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
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert scheduler.in_flight == 0
    assert picks(scheduler, 4.9) == []
    scheduler.wake(1, 5.0)
    assert picks(scheduler, 5.0) == [1]
    scheduler.remove(1)
    assert picks(scheduler, 5.0) == [2]


def test_a_refusal_stops_nobody_with_another_lock() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "ab")
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1, 2]
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    scheduler.remove(2)
    writes(scheduler, 1, "b", 3)
    assert picks(scheduler, 1.0) == [3]


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
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
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
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
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


def test_a_question_that_was_forgotten_with_the_controller_is_asked_again() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "a", 1)
    assert list(scheduler.questions(10)) == ["a"]
    scheduler.forget_all()
    assert list(scheduler.questions(10)) == ["a"]
    teach(scheduler, "a")
    assert picks(scheduler) == [1]


def test_a_write_in_flight_may_end_after_its_lock_was_forgotten() -> None:
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
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


def a_lock_in_a_crowd(*, limit: int | None = None) -> Scheduler:
    """Job 1 has just ended its write on the lock of a, b, c; jobs 2 and 3 wait for it, in this order.

    Job 4 has so much else to send that there is always somebody who may go.
    """
    scheduler = lanes_of(1, 3, 4)
    scheduler.open_job(2, limit)
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


def test_what_is_gone_does_not_stay() -> None:
    """A job is paused and resumed again and again while none of its requests can go."""
    scheduler = lanes_of(1, limit=1, known=True)
    ids = range(2, 12)
    reads(scheduler, 1, ["first", *(f"g{id_}" for id_ in ids)], 1)
    assert picks(scheduler) == [1]
    for _ in range(200):
        pause(scheduler, *ids)
        reads(scheduler, 1, [f"g{id_}" for id_ in ids], 2)
    kept = sum(len(queue.waiting) for queue in scheduler._turns.share(1).queues.values())
    assert kept <= len(ids) * (FEW + 2)
    scheduler.remove(1)
    assert sorted(drained(scheduler)) == list(ids)


def test_what_is_gone_does_not_stay_behind_another_job() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    for _ in range(200):
        reads(scheduler, 2, "a", 2)
        pause(scheduler, 2)
    assert len(scheduler._scheduler["a"]) <= FEW + 2
    reads(scheduler, 2, "a", 2)
    scheduler.remove(1)
    assert picks(scheduler) == [2]
    scheduler.remove(2)
    assert not scheduler._scheduler
    assert not scheduler._stale


def shuffled(many: int) -> list[int]:
    """Ids from 2, in no order."""
    return [2 + 37 * number % many for number in range(many)]


def lane_of_a_hundred() -> tuple[Scheduler, Callable[[], int]]:
    """Request 1 is in flight, ids from 2 wait behind it for the same gateway; how many are kept."""
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    for id_ in shuffled(99):
        scheduler.add(id_, 1, "a", write=False)
    return scheduler, lambda: len(scheduler._scheduler["a"])


def queue_of_a_hundred() -> tuple[Scheduler, Callable[[], int]]:
    """The same with a gateway each, and a job that may have one in flight; all of one owner."""
    scheduler = lanes_of(1, limit=1)
    teach(scheduler, "a", ["/remote/+"])
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    for id_ in range(2, 102):
        scheduler.add(id_, 1, f"g{id_}", write=False)
    (queue,) = scheduler._turns.share(1).queues.values()
    return scheduler, lambda: len(queue.waiting)


@pytest.mark.parametrize("backlog", [lane_of_a_hundred, queue_of_a_hundred])
def test_who_is_gone_is_kept_while_they_are_few_or_less_than_half(
    backlog: Callable[[], tuple[Scheduler, Callable[[], int]]],
) -> None:
    """To take each out at once would cost too much; the order of the others stays."""
    scheduler, kept = backlog()
    waiting = set(range(2, 101))
    if backlog is queue_of_a_hundred:
        waiting.add(101)
    for gone, left in ((50, 100), (1, 49), (FEW, 49), (1, 16)):
        for id_ in sorted(waiting, key=lambda id_: id_ * 31 % 101)[:gone]:
            waiting.remove(id_)
            scheduler.remove(id_)
        assert kept() == left
    scheduler.remove(1)
    assert drained(scheduler) == sorted(waiting)


def test_a_free_lock_goes_to_the_first_that_waited() -> None:
    scheduler = a_lock_in_a_crowd()
    assert goes_soon(scheduler, 2)
    assert scheduler.why(3, 0.0) == "request 2 holds the lock of /remote/a and 2 more"
    scheduler.remove(2)
    assert goes_soon(scheduler, 3)


def test_a_free_lock_passes_by_a_job_that_sends_no_more() -> None:
    scheduler = a_lock_in_a_crowd()
    scheduler.remove(2)
    assert goes_soon(scheduler, 3)


def test_a_free_lock_passes_by_a_job_that_is_gone() -> None:
    scheduler = a_lock_in_a_crowd()
    scheduler.remove(2)
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
    scheduler = lanes_of(1)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "ab", 1)
    assert picks(scheduler) == [1]
    scheduler.forget_all()
    assert picks(scheduler) == []
    assert list(scheduler.questions(10)) == ["b"]
    teach(scheduler, "b")
    assert picks(scheduler) == [2], "the write in flight is under another lock"


# -- owners of many gateways ------------------------------------------------------------------------


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


def test_with_another_controller_nothing_is_overdue() -> None:
    scheduler = lanes_of(1, 2)
    teach(scheduler, "a", ["/remote/+"])
    writes(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    scheduler.overdue(1, 71, 1.0)
    scheduler.remove(1)
    scheduler.forget_all()
    teach(scheduler, "a", ["/remote/+"], now_s=1.0)
    assert busy(scheduler) == 0
    writes(scheduler, 1, "a", 2)
    assert picks(scheduler, 1.0) == [2]
    scheduler.delay(2, 5.0, LOCKED, locked=True)
    assert scheduler.why(2, 1.0) == "locked by somebody else; it is tried again in 4.0 s"
    scheduler.came(71, 2.0)


@pytest.mark.parametrize("end", [Scheduler.remove, Scheduler.put_back])
def test_a_place_at_an_owner_is_free_once_what_had_it_is_not_in_flight(
    end: Callable[[Scheduler, int], None],
) -> None:
    scheduler = one_owner(2)
    for _ in range(3):
        for id_ in picks(scheduler):
            end(scheduler, id_)
        assert busy(scheduler) == 0


# -- other ways to a gateway ------------------------------------------------------------------------


class Ways:
    """Scheduler of job 1 with gateways of which some can be asked directly; all others are of one owner."""

    def __init__(self, direct: str = "") -> None:
        self.direct = direct
        self.scheduler = Scheduler(100, CACHE_S, direct=lambda destination: destination in self.direct)
        set_window(self.scheduler, 100)
        self.scheduler.open_job(1, None)

    def reroute(self, direct: str) -> None:
        before, self.direct = self.direct, direct
        for destination in before + direct:
            self.scheduler.rerouted(destination)


def test_who_is_asked_directly_has_a_lock_of_its_own_and_no_question_is_needed() -> None:
    ways = Ways("ab")
    writes(ways.scheduler, 1, "aabc", 1)
    assert picks(ways.scheduler) == [1, 3]
    assert ways.scheduler.why(4, 0.0) == "the controller is asked who owns its lock"
    assert list(ways.scheduler.questions(9)) == ["c"]
    reads(ways.scheduler, 1, "a", 5)
    ways.scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert picks(ways.scheduler) == [], "others hold the lock of a"
    assert ways.scheduler.why(2, 0.0) == "request 1 of job 1 to the same destination is before it"


def test_what_goes_through_the_remote_bundle_only_needs_its_lock() -> None:
    ways = Ways("a")
    ways.scheduler.add(1, 1, "a", write=True, remote_only=True)
    assert picks(ways.scheduler) == []
    teach(ways.scheduler, "a", ["/remote/+"])
    writes(ways.scheduler, 1, "b", 2)
    assert picks(ways.scheduler) == [1]
    ways.reroute("")
    ways.reroute("a")
    assert picks(ways.scheduler) == [], "it is in flight, and b waits for it"
    assert ways.scheduler.why(2, 0.0) == "request 1 holds the lock of /remote/+"


def test_what_waits_for_the_controllers_word_goes_when_there_is_a_direct_way() -> None:
    ways = Ways()
    writes(ways.scheduler, 1, "ab", 1)
    ways.scheduler.add(3, 1, "c", write=True, remote_only=True)
    assert picks(ways.scheduler) == []
    ways.reroute("ac")
    assert picks(ways.scheduler) == [1]
    assert list(ways.scheduler.questions(9)) == ["b", "c"], "nobody asks for a any more"
    teach(ways.scheduler, "bc")
    assert picks(ways.scheduler) == [2, 3]


def test_what_waits_for_a_lock_goes_when_there_is_a_direct_way() -> None:
    ways = Ways()
    teach(ways.scheduler, "a", ["/remote/+"])
    writes(ways.scheduler, 1, "abbcd", 1)
    ways.scheduler.add(9, 1, "e", write=True, remote_only=True)
    assert picks(ways.scheduler) == [1]
    ways.reroute("bde")
    assert picks(ways.scheduler) == [2, 5]
    ways.scheduler.remove(2)
    assert picks(ways.scheduler) == [3]
    ways.scheduler.remove(1)
    assert drained(ways.scheduler) == [4, 9]


def test_what_waits_for_a_direct_way_goes_by_the_other_when_that_is_gone() -> None:
    ways = Ways("ab")
    teach(ways.scheduler, "z", ["/remote/+"])
    writes(ways.scheduler, 1, "ab", 1)
    ways.reroute("")
    assert picks(ways.scheduler) == [1], "both need one lock"
    ways.scheduler.remove(1)
    assert picks(ways.scheduler) == [2]


def test_what_is_delayed_waits_on_whatever_the_way() -> None:
    ways = Ways("a")
    reads(ways.scheduler, 1, "a", 1)
    assert picks(ways.scheduler) == [1]
    ways.scheduler.delay(1, 5.0, "it failed")
    ways.reroute("")
    assert picks(ways.scheduler) == []
    assert ways.scheduler.why(1, 0.0) == "it failed; it is tried again in 5.0 s"
    ways.scheduler.wake(1, 5.0)
    assert list(ways.scheduler.questions(9)) == ["a"]
    ways.scheduler.rerouted("nobody")


# -- why -------------------------------------------------------------------------------------------


def test_why_is_silent_about_what_does_not_wait() -> None:
    scheduler = lanes_of(1, known=True)
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    assert scheduler.why(1, 0.0) is None
    assert scheduler.why(99, 0.0) is None


def test_why_names_the_request_before_it() -> None:
    scheduler = lanes_of(1, 2, known=True)
    reads(scheduler, 1, "a", 1)
    reads(scheduler, 2, "a", 2)
    assert scheduler.why(2, 0.0) == "request 1 of job 1 to the same destination is before it"
    assert picks(scheduler) == [1]
    assert scheduler.why(2, 0.0) == "request 1 of job 1 to the same destination is in flight"


def test_why_tells_limits() -> None:
    scheduler = lanes_of(1, limit=1, most=2, known=True)
    scheduler.open_job(2, None)
    reads(scheduler, 1, "ab", 1)
    reads(scheduler, 2, "cd", 3)
    assert scheduler.why(1, 0.0) == "next to be sent"
    assert picks(scheduler) == [1, 3]
    assert scheduler.why(2, 0.0) == "no free slot: the job has 1 in flight, which is its concurrency"
    assert scheduler.why(4, 0.0) == "no free slot: 2 requests are in flight, which is the most"


def test_why_names_a_command_of_ours_that_was_not_answered_in_its_time() -> None:
    """The controller keeps the lock until the ttl of its owner is over."""
    scheduler = lanes_of(1, 2, 3)
    teach(scheduler, "ab")
    writes(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    assert scheduler.overdue(1, 77, 5.0) is None, "nobody has to wait for the owner of one gateway"
    scheduler.remove(1)
    for id_, now_s in ((2, 5.0), (3, 9.0)):
        teach(scheduler, "a", now_s=now_s)
        writes(scheduler, id_, "a", id_)
        assert picks(scheduler, now_s) == [id_]
        scheduler.delay(id_, now_s + 2, LOCKED, locked=True)
        said = scheduler.why(id_, now_s)
        scheduler.remove(id_)
        scheduler.came(
            77, now_s
        )  # the controller gives up: whoever holds the lock from here is somebody else
        whose = "request 1, which was not answered in its time, until its owner's ttl is over"
        assert said == f"locked by {whose if id_ == 2 else 'somebody else'}; it is tried again in 2.0 s"


def test_why_tells_locks() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "abc", 1)
    assert scheduler.why(1, 0.0) == "the controller is asked who owns its lock"
    teach(scheduler, "a", ["/remote/a", "/remote/b"])
    assert picks(scheduler) == [1]
    assert scheduler.why(2, 0.0) == "request 1 holds the lock of /remote/a and 1 more"
    assert scheduler.why(3, 0.0) == "the controller is asked who owns its lock"
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert (
        scheduler.why(1, 0.0)
        == scheduler.why(2, 0.0)
        == "locked by somebody else; it is tried again in 5.0 s"
    )


# -- the cost of a step ----------------------------------------------------------------------------


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the calls, of Python and of C, in the block."""
    steps = [0]

    def count(frame: Any, event: str, arg: Any) -> None:
        steps[0] += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield steps
    finally:
        sys.setprofile(before)


def one_job_one_lock(many: int) -> Scheduler:
    scheduler = lanes_of(1, most=10)
    scheduler.learn("0", ["/remote/+"], 0.0)
    for id_ in range(1, many + 1):
        scheduler.add(id_, 1, f"g{id_}", write=True)
    return scheduler


def one_job_own_locks(many: int, most: int = 10) -> Scheduler:
    scheduler = lanes_of(1, most=most)
    for id_ in range(1, many + 1):
        scheduler.learn(f"g{id_}", [f"/remote/g{id_}"], 0.0)
        scheduler.add(id_, 1, f"g{id_}", write=True)
    return scheduler


def one_destination(many: int) -> Scheduler:
    scheduler = lanes_of(1, most=10)
    scheduler.learn("a", None, 0.0)
    for id_ in range(1, many + 1):
        scheduler.add(id_, 1, "a", write=True)
    return scheduler


def reads_and_writes(many: int) -> Scheduler:
    scheduler = lanes_of(1, most=10)
    scheduler.learn("0", ["/remote/+"], 0.0)
    for id_ in range(1, many + 1):
        scheduler.add(id_, 1, f"g{id_}", write=bool(id_ % 2))
    return scheduler


def many_jobs_one_lock(many: int) -> Scheduler:
    scheduler = lanes_of(*range(1, many + 1), most=10)
    scheduler.learn("0", ["/remote/+"], 0.0)
    for id_ in range(1, many + 1):
        scheduler.add(id_, id_, f"g{id_}", write=True)
    return scheduler


BACKLOGS = [
    one_job_one_lock,
    one_job_own_locks,
    one_destination,
    reads_and_writes,
    many_jobs_one_lock,
]


def steps_of_fifty(scheduler: Scheduler) -> int:
    """The calls for fifty requests picked and ended."""
    picks(scheduler)
    flying = [id_ for id_ in scheduler._requests if scheduler._requests[id_].in_flight]
    with counted() as steps:
        for _ in range(50):
            scheduler.remove(flying.pop(0))
            flying += picks(scheduler)
    return steps[0]


@pytest.mark.parametrize("backlog", BACKLOGS)
def test_a_step_costs_the_same_however_many_wait(backlog: Callable[[int], Scheduler]) -> None:
    few, many = steps_of_fifty(backlog(200)), steps_of_fifty(backlog(4000))
    assert many < 1.5 * few + 100, f"{few} calls with 200 waiting, {many} with 4000"


def steps_of_waking(many: int) -> int:
    """The calls for fifty that wake while ``many`` are delayed, each under a lock of its own."""
    scheduler = one_job_own_locks(many, most=many)
    for id_ in picks(scheduler):
        scheduler.delay(id_, float(id_), LOCKED, locked=True)
    with counted() as steps:
        for id_ in range(1, 51):
            scheduler.wake(id_, float(id_))
    return steps[0]


def test_waking_one_costs_the_same_however_many_are_delayed() -> None:
    few, many = steps_of_waking(200), steps_of_waking(4000)
    assert many < 1.5 * few + 100, f"{few} calls with 200 delayed, {many} with 4000"


def test_one_answer_about_many_destinations_is_enough() -> None:
    scheduler = lanes_of(1)
    names = [f"g{number}" for number in range(500)]
    for id_, name in enumerate(names):
        scheduler.add(id_, 1, name, write=True)
    asked = 0
    while questions := list(scheduler.questions(64)):
        asked += len(questions)
        for one in questions:
            scheduler.learn(one, [f"/remote/{name}" for name in names], 0.0)
    assert asked <= 64


# -- against a naive model -------------------------------------------------------------------------


@dataclass(eq=False)
class Wanted:
    """A request as the model knows it."""

    id: int
    job: int
    destination: str
    write: bool
    in_flight: bool = False
    went_s: float = 0.0
    counted: bool = False
    #: The lock that it took when it was picked.
    lock: str | None = None
    delayed: bool = False


DESTINATIONS = "abcdef"
JOBS = (1, 2, 3, 4)
LIMITS = (None, 1, 2, None)
#: Of the last of them, per second.
RATE = 2.0
EVERYTHING = "/remote/+"
MOST, WINDOW = 4, 3
#: What the controller says, by turns: one lock for all; two pairs and two alone; all alone.
FLEETS: list[dict[str, list[str]]] = [
    {one: [EVERYTHING] for one in DESTINATIONS},
    {
        **{one: ["/remote/a", "/remote/b"] for one in "ab"},
        **{one: ["/remote/d", "/system/x", "/remote/c"] for one in "cd"},
        "e": ["/remote/e"],
        "f": [],
    },
    {one: [f"/remote/{one}"] for one in DESTINATIONS},
]


class LanesMachine(RuleBasedStateMachine):
    """Every step is checked against a list of requests and the plain rule of who may go."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(MOST, CACHE_S)
        self.set_window(WINDOW)
        self.now_s = 0.0
        self.ids = iter(range(1, 10_000))
        #: In the scheduler; and of paused jobs, which are not.
        self.wanted: list[Wanted] = []
        self.aside: list[Wanted] = []
        self.limits = dict(zip(JOBS, LIMITS, strict=True))
        for job, limit in self.limits.items():
            self.scheduler.open_job(job, limit, self.rate_of(job))
        self.fleet = FLEETS[0]
        self.asked: list[str] = []
        self.known: dict[str, tuple[str, float]] = {}
        self.everywhere: tuple[str, float, str] | None = None
        self.locked_until_s: dict[str, float] = {}
        self.wakes: dict[int, float] = {}
        #: When requests of the job with a rate went, and when the scheduler want to hear of it again.
        self.went_s: list[float] = []
        self.paces: dict[int, float] = {}
        #: When the owner of all was last heard of, and until when it may be busy with what was given up.
        self.heard_s = 0.0
        self.overdue: dict[int, float] = {}

    # -- the model ----------------------------------------------------------------------------------

    def lock_of(self, destination: str) -> str | None:
        if self.everywhere is not None:
            return self.everywhere[0]
        lock, until_s = self.known.get(destination, ("", 0.0))
        return lock if self.now_s < until_s else None

    def leads(self, one: Wanted) -> bool:
        """The one in flight, or else the oldest."""
        rivals = [other for other in self.wanted if other.destination == one.destination]
        return min(rivals, key=lambda other: (not other.in_flight, other.id)) is one

    def rate_of(self, job: int) -> float | None:
        return RATE if job == JOBS[-1] else None

    def is_early(self, one: Wanted) -> bool:
        """Whether its rate may keep it; a rate that fell behind catches up a little, so it need not."""
        return self.rate_of(one.job) is not None and self.now_s < max(self.went_s, default=-1.0) + 1 / RATE

    def automatic(self) -> int:
        return sum(one.counted for one in self.flying())

    def be_patient(self) -> None:
        """What has been in flight for long does not count in the window, as soon as somebody may go."""
        for one in self.flying() if len(self.flying()) < MOST else ():
            one.counted = one.counted and self.now_s < one.went_s + PATIENT_S

    def job_is_full(self, job: int) -> bool:
        limit = self.limits[job]
        flying = sum(one.job == job for one in self.flying())
        if limit is None:
            return flying > 0 and self.automatic() >= self.window
        return flying >= limit

    def may_go(self, one: Wanted) -> bool:
        """The whole rule. An unknown lock is checked at the end: the controller is asked first."""
        if one.in_flight or one.delayed or not self.leads(one):
            return False
        if len(self.flying()) >= MOST or self.job_is_full(one.job):
            return False
        lock = self.lock_of(one.destination)
        if lock is None or (lock == EVERYTHING and not self.owner_has_room()):
            return False
        if self.locked_until_s.get(lock, 0.0) > self.now_s:
            return False
        return not any(other.write and other.lock == lock for other in self.flying())

    def busy(self) -> int:
        return sum(one.lock == EVERYTHING for one in self.flying()) + len(self.overdue)

    def owner_has_room(self) -> bool:
        blocked = self.now_s - self.heard_s > BLOCKED_S
        return self.busy() < self.scheduler.owners.of(EVERYTHING).size and not (blocked and self.busy() >= 2)

    def flying(self) -> list[Wanted]:
        return [one for one in self.wanted if one.in_flight]

    # -- what happens -------------------------------------------------------------------------------

    @rule(job=st.sampled_from(JOBS), destination=st.sampled_from(DESTINATIONS), write=st.booleans())
    def add(self, job: int, destination: str, write: bool) -> None:
        one = Wanted(next(self.ids), job, destination, write)
        self.enter(one)

    def enter(self, one: Wanted) -> None:
        self.wanted.append(one)
        self.scheduler.add(one.id, one.job, one.destination, write=one.write)

    def leave(self, one: Wanted) -> None:
        one.in_flight, one.lock, one.delayed = False, None, False
        self.wanted.remove(one)
        self.scheduler.remove(one.id)

    @rule()
    def pick(self) -> None:
        self.be_patient()
        may = {one.id: one for one in self.wanted if self.may_go(one)}
        id_ = self.scheduler.pick(self.now_s)
        self.paces.update(self.scheduler.paced())
        if id_ is None:
            stays = {one.id for one in may.values() if self.is_early(one)}
            assert may.keys() == stays, f"{sorted(may)} may go, and nobody was picked"
            assert not stays or JOBS[-1] in self.paces
            return
        one = next(one for one in self.wanted if one.id == id_)
        assert id_ in may, f"{one} may not go"
        lock = self.lock_of(one.destination)
        if lock == EVERYTHING and not self.busy():
            self.heard_s = self.now_s
        one.in_flight, one.lock = True, lock
        one.went_s, one.counted = self.now_s, self.limits[one.job] is None
        if self.rate_of(one.job) is not None:
            self.went_s.append(self.now_s)

    @rule()
    def pick_all(self) -> None:
        for _ in range(MOST + 1):
            self.pick()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.wanted)))

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.flying())))

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        if one.lock == EVERYTHING:
            self.heard_s = self.now_s
        self.scheduler.answered(one.id, self.now_s)
        self.leave(one)

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def time_is_over(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        until_s = self.scheduler.overdue(one.id, one.id, self.now_s)
        assert (until_s is not None) == (one.lock == EVERYTHING)
        if until_s is not None:
            self.overdue[one.id] = until_s
        self.leave(one)

    @precondition(lambda self: self.overdue)
    @rule(data=st.data())
    def comes_late(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(sorted(self.overdue)))
        del self.overdue[message]
        self.heard_s = self.now_s
        self.scheduler.came(message, self.now_s)

    @precondition(lambda self: self.flying())
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        one.in_flight, one.lock = False, None
        self.scheduler.put_back(one.id)

    @precondition(lambda self: self.flying())
    @rule(data=st.data(), delay_s=st.sampled_from([0.5, 2.0, 70.0]), locked=st.booleans())
    def delay(self, data: st.DataObject, delay_s: float, locked: bool) -> None:
        one = data.draw(st.sampled_from(self.flying()))
        until_s = self.now_s + delay_s
        lock = self.lock_of(one.destination)
        if locked:
            self.known.pop(one.destination, None)
            if lock is not None:
                self.locked_until_s[lock] = max(self.locked_until_s.get(lock, 0.0), until_s)
        one.in_flight, one.lock, one.delayed = False, None, True
        self.wakes[one.id] = until_s
        self.scheduler.delay(one.id, until_s, LOCKED if locked else "it failed", locked=locked)

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 80.0]))
    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        for id_, until_s in sorted(self.wakes.items(), key=lambda wake: wake[1]):
            if until_s > end_s:
                break
            del self.wakes[id_]
            self.now_s = until_s
            for one in self.wanted:
                one.delayed = one.delayed and one.id != id_
            self.scheduler.wake(id_, self.now_s)
        self.now_s = end_s
        if gone := [message for message, until_s in self.overdue.items() if until_s <= end_s]:
            for message in gone:
                del self.overdue[message]
            self.heard_s = end_s
            self.scheduler.forget_overdue(end_s)
        for job in [job for job, at_s in self.paces.items() if at_s <= end_s]:
            del self.paces[job]
            self.scheduler.pace_over(job)

    @rule(job=st.sampled_from(JOBS))
    def pause(self, job: int) -> None:
        for one in [one for one in self.wanted if one.job == job and not one.in_flight]:
            self.leave(one)
            self.aside.append(one)

    @rule(job=st.sampled_from(JOBS))
    def resume(self, job: int) -> None:
        back = [one for one in self.aside if one.job == job]
        self.aside = [one for one in self.aside if one.job != job]
        for one in back:
            self.enter(one)

    @rule(window=st.integers(1, MOST))
    def set_window(self, window: int) -> None:
        self.window = window
        set_window(self.scheduler, window)

    @rule(job=st.sampled_from(JOBS))
    def close_job(self, job: int) -> None:
        """All of a job's requests go, and a new job takes its place."""
        self.aside = [one for one in self.aside if one.job != job]
        for one in [one for one in self.wanted if one.job == job]:
            self.leave(one)
        self.scheduler.close_job(job)
        self.scheduler.open_job(job, self.limits[job], self.rate_of(job))
        if self.rate_of(job) is not None:
            self.went_s = []

    @rule(most=st.integers(1, 4))
    def ask(self, most: int) -> None:
        if self.everywhere is not None and self.everywhere[1] <= self.scheduler._now_s:
            self.everywhere = (self.everywhere[0], self.scheduler._now_s + CACHE_S, self.everywhere[2])
        new = list(self.scheduler.questions(most))
        assert len(set(new)) == len(new)
        self.asked = list(dict.fromkeys([*self.asked, *new]))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), says=st.booleans())
    def answer(self, data: st.DataObject, says: bool) -> None:
        destination = data.draw(st.sampled_from(self.asked))
        self.asked.remove(destination)
        self.learn(destination, self.fleet[destination] if says else None)

    def learn(self, destination: str, resources: list[str] | None) -> None:
        self.scheduler.learn(destination, resources, self.now_s)
        owned = sorted(one for one in resources or () if one.startswith("/remote/"))
        if "/remote/+" in owned:
            self.everywhere = ("/remote/+", self.now_s + CACHE_S, destination)
        elif self.everywhere is not None and self.everywhere[2] == destination:
            self.everywhere = None
        for resource in owned:
            self.known[resource.removeprefix("/remote/")] = (owned[0], self.now_s + CACHE_S)
        if f"/remote/{destination}" not in owned:
            self.known[destination] = (f"/remote/{destination}", self.now_s + CACHE_S)

    @rule(fleet=st.sampled_from(FLEETS))
    def controller_is_another(self, fleet: dict[str, list[str]]) -> None:
        self.fleet = fleet
        self.overdue.clear()
        self.known.clear()
        self.everywhere = None
        self.asked = []
        self.scheduler.forget_all()

    @rule(destination=st.sampled_from(DESTINATIONS))
    def forget(self, destination: str) -> None:
        self.known.pop(destination, None)
        self.everywhere = None
        self.scheduler.forget(destination)

    # -- what always holds --------------------------------------------------------------------------

    @invariant()
    def limits_hold(self) -> None:
        flying = self.flying()
        assert self.scheduler.in_flight == len(flying) <= MOST
        assert self.scheduler.automatic == self.automatic()
        assert self.scheduler.owners.of(EVERYTHING).busy == self.busy()
        assert all(count == 1 for count in Counter(one.destination for one in flying).values())
        locks = Counter(one.lock for one in flying if one.write and one.lock)
        assert all(count == 1 for count in locks.values())
        for job, limit in self.limits.items():
            assert limit is None or sum(one.job == job for one in flying) <= limit
        for many, last_s in enumerate(reversed(self.went_s)):
            assert many <= RATE * (self.went_s[-1] - last_s + CATCH_UP_S) + 1e-6

    @invariant()
    def why_is_true(self) -> None:
        for one in self.aside:
            assert self.scheduler.why(one.id, self.now_s) is None
        for one in self.wanted:
            said = self.scheduler.why(one.id, self.now_s)
            assert (said is None) == one.in_flight
            if said is not None:
                self.check_why(one, said)

    def check_why(self, one: Wanted, said: str) -> None:
        if "to the same destination" in said:
            ahead = next(
                other
                for other in self.wanted
                if other.destination == one.destination and f"request {other.id} of job {other.job} " in said
            )
            assert self.leads(ahead)
            assert ahead is not one
            assert ("in flight" in said) == ahead.in_flight
        elif "its concurrency" in said:
            assert self.limits[one.job] is not None
            assert self.job_is_full(one.job)
        elif "holds the lock" in said:
            assert any(other.write and f"request {other.id} " in said for other in self.flying())
        elif "the most" in said:
            assert len(self.flying()) >= MOST
        elif "the window" in said:
            assert self.automatic() >= self.window

    def teardown(self) -> None:
        """Nobody starves: once nothing is paused, all go."""
        for job in JOBS:
            self.resume(job)
        self.set_window(2)
        for _ in range(200):
            if not self.wanted:
                break
            self.pick_all()
            self.limits_hold()
            for one in self.flying():
                if one.lock == EVERYTHING:
                    self.heard_s = self.now_s
                self.scheduler.answered(one.id, self.now_s)
                self.leave(one)
            self.ask(2)
            for destination in self.asked:
                self.learn(destination, self.fleet[destination])
            self.asked = []
            self.advance(1.0)
        assert not self.wanted, f"{[one.id for one in self.wanted]} never went"
        assert (self.scheduler.in_flight, self.scheduler.automatic) == (0, 0)


LanesMachine.TestCase.settings = settings(max_examples=400, stateful_step_count=50)
TestLanesAgainstTheModel = LanesMachine.TestCase
