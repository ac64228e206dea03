"""Which job sends next: turns, limits, rates, the window, jobs that are paused or suspended."""

import pytest

from puppetmaster.scheduling.fairness import PATIENT_S
from puppetmaster.scheduling.scheduler import Scheduler
from tests.unit.scheduling.lanes import CACHE_S, drained, lanes_of, picks, reads, set_window, teach, writes


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


@pytest.mark.parametrize(("most", "goes"), [(9, 9), (10, 9), (109, 99), (200, 180), (500, 480)])
def test_the_last_tenth_is_for_jobs_that_have_nothing_in_flight_and_it_is_twenty_at_most(
    most: int, goes: int
) -> None:
    scheduler = lanes_of(1, 2, most=most, known=True)
    assert Scheduler(most, CACHE_S).window.most == goes
    reads(scheduler, 1, [f"cg-{number}" for number in range(most)], 1)
    assert len(picks(scheduler)) == goes
    kept = f", and the last {most - goes} slots are for jobs that have none"
    said = f"no free slot: {goes} requests are in flight{kept}"
    assert most == goes or scheduler.why(goes + 1, 0.0) == said
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
    scheduler.remove(30)
    assert scheduler.why(32, 0.0) == "next to be sent", "its job has a concurrency"
    set_window(scheduler, 4)
    assert len(picks(scheduler)) == 2
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
