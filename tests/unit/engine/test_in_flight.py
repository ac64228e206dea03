"""What is in flight is found by its message id, and waited for until its time."""

import pytest

from puppetmaster.engine.in_flight import IN_A_ROW_S, REFUSED_S, InFlight, Trials
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.timers import Timers

GRACE_S = 5.0


@pytest.fixture
def timers() -> Timers[Timer]:
    return Timers()


@pytest.fixture
def flight(timers: Timers[Timer]) -> InFlight:
    return InFlight(timers, GRACE_S)


def deadline_s(timers: Timers[Timer], request: int) -> float | None:
    return timers.deadline_s(Timer(TimerKind.ANSWER, request))


def test_it_is_found_by_its_message_id_until_it_lands(flight: InFlight, timers: Timers[Timer]) -> None:
    flight.sent(1, 100, 10.0, 60.0)
    assert (flight.request_of(100), flight.request_of(1), len(flight)) == (1, None, 1)
    assert (flight.sent_s(1), deadline_s(timers, 1), flight.doubtful(1)) == (10.0, 70.0, False)
    flight.landed(1, 100)
    assert (flight.request_of(100), len(flight), len(timers)) == (None, 0, 0)


def test_what_an_earlier_process_sent_has_its_time_and_then_the_grace_time(
    flight: InFlight, timers: Timers[Timer]
) -> None:
    flight.taken_up(1, 100, 10.0, 60.0)
    assert (flight.doubtful(1), deadline_s(timers, 1), flight.request_of(100)) == (True, 70.0, 1)
    flight.hurry(20.0)
    assert deadline_s(timers, 1) == 25.0
    flight.landed(1, 100)
    flight.sent(1, 101, 20.0, 60.0)
    assert not flight.doubtful(1)


def test_doubt_prolongs_nothing_and_shortens_nothing_until_answers_can_come(
    flight: InFlight, timers: Timers[Timer]
) -> None:
    flight.sent(1, 1, 0.0, 60.0)
    flight.sent(2, 2, 0.0, 12.0)
    flight.doubt()
    assert [deadline_s(timers, id_) for id_ in (1, 2)] == [60.0, 12.0]
    flight.sent(3, 3, 10.0, 60.0)
    flight.hurry(10.0)
    assert [deadline_s(timers, id_) for id_ in (1, 2, 3)] == [15.0, 12.0, 70.0]
    flight.hurry(11.0)
    assert deadline_s(timers, 1) == 15.0
    assert [flight.doubtful(id_) for id_ in (1, 2, 3)] == [True, True, False]


def test_only_what_was_sent_before_some_time_is_in_doubt(flight: InFlight, timers: Timers[Timer]) -> None:
    flight.sent(1, 1, 0.0, 60.0)
    flight.sent(2, 2, 5.0, 60.0)
    flight.doubt(sent_before_s=5.0)
    flight.hurry(6.0)
    assert [flight.doubtful(id_) for id_ in (1, 2)] == [True, False]
    assert [deadline_s(timers, id_) for id_ in (1, 2)] == [11.0, 65.0]


def test_only_the_one_that_the_connection_ended_at_is_in_doubt(
    flight: InFlight, timers: Timers[Timer]
) -> None:
    flight.sent(1, 1, 0.0, 60.0)
    flight.sent(2, 2, 0.0, 60.0)
    flight.doubt_one(1)
    flight.hurry(6.0)
    assert [flight.doubtful(id_) for id_ in (1, 2)] == [True, False]
    assert [deadline_s(timers, id_) for id_ in (1, 2)] == [11.0, 60.0]


def test_what_went_directly_is_not_in_doubt_when_our_controller_has_gone(flight: InFlight) -> None:
    flight.sent(1, 101, 0.0, 60.0)
    flight.sent(2, 102, 0.0, 60.0, direct=True)
    flight.taken_up(3, 103, 0.0, 60.0, direct=True)
    flight.sent(4, 104, 0.0, 60.0)
    assert flight.undecided() == [101, 104]
    flight.doubt_one(4)
    assert flight.undecided() == [101]
    flight.doubt(controller=True)
    assert [flight.doubtful(id_) for id_ in (1, 2, 3, 4)] == [True, False, True, True]
    assert flight.undecided() == []
    flight.landed(2, 102)
    flight.sent(2, 105, 1.0, 60.0)
    assert flight.undecided() == [105], "this time it went through our controller"
    flight.doubt()
    assert flight.doubtful(2)


def test_who_is_in_doubt_again_has_its_own_time_until_somebody_is_there_again(
    flight: InFlight, timers: Timers[Timer]
) -> None:
    flight.sent(1, 1, 0.0, 60.0)
    flight.sent(2, 2, 0.0, 60.0)
    flight.doubt()
    flight.hurry(6.0)
    assert timers.deadline_s(Timer(TimerKind.ANSWER, 1)) == 11.0
    flight.doubt()
    assert timers.deadline_s(Timer(TimerKind.ANSWER, 1)) == 60.0
    flight.hurry(6.0)
    flight.doubt_one(1)
    assert [timers.deadline_s(Timer(TimerKind.ANSWER, id_)) for id_ in (1, 2)] == [60.0, 11.0]


def test_the_grace_time_is_not_longer_than_what_is_left_also_when_that_has_just_ended(
    flight: InFlight, timers: Timers[Timer]
) -> None:
    flight.taken_up(1, 1, 0.0, 8.0)
    assert list(timers.due(8.0)) == [Timer(TimerKind.ANSWER, 1)]
    flight.hurry(8.0)
    assert timers.deadline_s(Timer(TimerKind.ANSWER, 1)) == 8.0


def test_a_connection_that_ends_once_is_an_accident() -> None:
    trials = Trials()
    assert not trials.ended(5000, 0.0)
    assert not trials.refuses(5000, 0.0)
    assert not trials.ended(5000, IN_A_ROW_S + 1), "so long after, it is another one"
    assert trials.ended(5000, 2 * IN_A_ROW_S + 1), "and this is the next one in a row"


def test_twice_in_a_row_is_the_brokers_word_on_all_of_that_length_for_some_time() -> None:
    trials = Trials()
    trials.ended(5000, 0.0)
    assert trials.ended(5000, 1.0)
    assert [trials.refuses(size, 2.0) for size in (4999, 5000, 9000)] == [False, True, True]
    assert trials.ended(4500, 3.0), "that it does so is known"
    assert trials.refuses(4500, 3.0)
    assert trials.refuses(9000, 1.0 + REFUSED_S), "it was said again"
    assert trials.refuses(9000, 2.999 + REFUSED_S)
    assert not trials.refuses(9000, 3.0 + REFUSED_S)


def test_the_shorter_of_two_is_not_refused_for_the_longer() -> None:
    trials = Trials()
    trials.ended(9000, 0.0)
    assert not trials.ended(5000, 1.0)
    assert [trials.refuses(size, 2.0) for size in (5000, 9000)] == [False, True]
    assert trials.ended(5000, 2.0)


def test_another_loss_between_is_a_beginning() -> None:
    trials = Trials()
    trials.ended(5000, 0.0)
    trials.lost()
    assert not trials.ended(5000, 1.0)
    assert trials.ended(5000, 2.0)
    trials.lost()
    assert not trials.refuses(5000, 3.0)
