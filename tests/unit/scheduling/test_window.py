"""The window: it starts small, grows while that pays, and falls when it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.scheduling.latencies import Latencies
from puppetmaster.scheduling.window import EPISODE_S, FALL, FALL_PAUSE_S, FIRST, TRACE, Window


def round_trips(window: Window, count: int, latency_s: float, now_s: float = 0.0) -> float:
    """All of the window is answered, again and again; the time after that."""
    for _ in range(count):
        now_s += latency_s
        for _ in range(window.size):
            window.answered(latency_s, now_s, full=True)
    return now_s


@pytest.mark.parametrize(("most", "size"), [(500, FIRST), (10, 10), (3, 3), (1, 1)])
def test_it_starts_small(most: int, size: int) -> None:
    assert Window(most).size == size


def test_it_doubles_with_each_round_trip_up_to_the_most() -> None:
    window, sizes = Window(100), []
    for _ in range(5):
        round_trips(window, 1, 0.1)
        sizes.append(window.size)
    assert sizes == [20, 40, 80, 100, 100]


def test_it_does_not_grow_for_those_who_do_not_use_it() -> None:
    window = Window(500)
    for number in range(1000):
        window.answered(0.1, number * 0.01, full=False)
    assert window.size == FIRST


def test_locks_of_others_let_it_fall_and_not_for_each_of_them() -> None:
    window = Window(500)
    round_trips(window, 4, 0.1)
    assert window.size == 160
    for _ in range(50):
        window.refused(1.0, full=True)
    assert window.size == int(160 * FALL)
    window.refused(1.0 + FALL_PAUSE_S, full=True)
    assert window.size == int(160 * FALL * FALL)
    assert [(at_s, why) for at_s, _, why in window.trace] == [
        (1.0, "locked by others"),
        (1.0 + FALL_PAUSE_S, "locked by others"),
    ]


def test_a_gateway_that_somebody_else_writes_to_is_no_reason_to_send_less_to_others() -> None:
    window, now_s = Window(500), 0.0
    for _ in range(40):
        now_s = round_trips(window, 1, 0.1, now_s)
        window.refused(now_s, full=True)
    assert window.size == 500
    assert not window.trace


def test_nor_is_one_while_the_window_is_not_in_use() -> None:
    window = Window(500)
    for number in range(100):
        window.refused(number * 1.0, full=False)
    assert window.size == FIRST
    round_trips(window, 2, 0.1, 100.0)
    assert window.size == 4 * FIRST


def test_it_falls_by_half_at_most_and_tries_again_when_that_was_in_vain() -> None:
    window = Window(500)
    now_s = round_trips(window, 6, 0.01)
    window._paid = (100.0, Latencies(count=100, sum_s=1.0, squares=0.01))
    now_s = round_trips(window, 4, 1.0, now_s)  # the gateways are slow: as slow with 250 as with 500
    assert [size for _, size, _ in window.trace] == [250]
    round_trips(window, 4, 1.0, now_s)
    assert window.size == 500
    assert len(window.trace) == 1


def test_it_does_not_fall_while_more_pays() -> None:
    window, now_s = Window(500), 0.0
    for _ in range(40):
        # Each answer takes longer when there are more, but there are more of them.
        latency_s = 0.1 + window.size / 1000
        for _ in range(window.size):
            now_s += latency_s / window.size
            window.answered(latency_s, now_s, full=True)
    assert window.size == 500
    assert not window.trace


def test_the_trace_has_an_end() -> None:
    window = Window(500)
    for number in range(TRACE + 50):
        window.refused(number * 1.0, full=True)
    assert len(window.trace) == TRACE
    assert window.trace[-1][0] == TRACE + 49


# -- to the answer and to the refusal ------------------------------------------------------------


def answers(window: Window, count: int, latency_s: float, now_s: float, *, full: bool = True) -> int:
    """So many answers at one moment; the size after them."""
    for _ in range(count):
        window.answered(latency_s, now_s, full=full)
    return window.size


def of_sixty(most: int = 500) -> Window:
    """A window of 60, at 0.25 s: 0.125 s with 30 paid, and a round of 60 begins."""
    window = Window(most)
    assert answers(window, 20, 0.125, 0.125) == 30
    assert answers(window, 30, 0.125, 0.25) == 60
    return window


@pytest.mark.parametrize(
    ("latency_s", "size"),
    [(0.24, int(FALL * 60)), (0.3125, 33), (1.0, 30)],
    ids=["hardly slower", "as many as bring back half of what they may take longer", "half of it"],
)
def test_it_falls_after_two_slow_rounds_to_what_is_enough(latency_s: float, size: int) -> None:
    window = of_sixty()
    assert answers(window, 60, latency_s, 0.25 + latency_s) == 60
    assert answers(window, 59, latency_s, 0.25 + 2 * latency_s) == 60
    assert answers(window, 1, latency_s, 0.25 + 2 * latency_s) == size
    assert window.trace.pop() == (0.25 + 2 * latency_s, size, "slower without more throughput")


def test_after_a_slow_round_it_does_not_grow_until_another_tells_that_it_was_chance() -> None:
    window = of_sixty()
    answers(window, 60, 1.0, 1.25)
    assert answers(window, 59, 0.125, 1.375) == 60
    assert answers(window, 2, 0.125, 1.5) == 61


def test_after_a_fall_it_does_not_grow_until_a_round_tells_whether_fewer_are_faster() -> None:
    window = of_sixty()
    for now_s in (0.5625, 0.875):
        answers(window, 60, 0.3125, now_s)
    assert answers(window, 34, 0.125, 1.0) == 33, "a round"
    assert [answers(window, count, 0.125, 1.125) for count in (13, 1)] == [33, 34], "from 33.6, slowly"


def test_what_is_slower_by_less_than_is_worth_a_word_is_borne() -> None:
    window, now_s = of_sixty(most=60), 0.25
    for _ in range(10):
        now_s += 0.21875
        assert answers(window, 60, 0.21875, now_s) == 60
    assert not window.trace


def test_a_round_in_which_the_window_was_never_full_tells_nothing() -> None:
    window = Window(500)
    answers(window, 20, 0.001, 0.125, full=False)
    assert answers(window, 20, 0.15, 0.5) == 30, "it is not compared with a window that was not in use"
    answers(window, 30, 0.001, 0.625, full=False)
    assert answers(window, 30, 0.2, 1.0) == 60
    answers(window, 60, 2.0, 4.0, full=False)
    answers(window, 60, 2.0, 7.0, full=False)
    assert answers(window, 1, 0.2, 8.0) == 61


def test_a_round_in_which_the_window_was_full_once_tells() -> None:
    window = of_sixty()
    for now_s in (1.25, 2.25):
        answers(window, 1, 1.0, now_s)
        answers(window, 59, 1.0, now_s, full=False)
    assert window.size == 30


def test_answers_that_took_no_time_pay() -> None:
    assert answers(of_sixty(), 60, 0.0, 0.5) == 120


def test_two_refusals_in_twenty_are_borne_and_the_third_lets_it_fall() -> None:
    sizes, window = [], Window(500)
    for _ in range(3):
        window.refused(0.0, full=True)
        sizes.append(window.size)
    assert sizes == [10, 10, 7]
    assert [answers(window, count, 0.1, 0.2) for count in (7, 1)] == [7, 8], "slowly: a seventh for each"


@pytest.mark.parametrize(("between", "size"), [(12, 7), (13, 10)])
def test_answers_between_refusals_make_them_rare(between: int, size: int) -> None:
    window = Window(500)
    for _ in range(2):
        window.refused(0.0, full=True)
    answers(window, between, 0.1, 0.1, full=False)
    window.refused(0.2, full=True)
    assert window.size == size


@pytest.mark.parametrize(("later_s", "size"), [(EPISODE_S - 0.5, 8), (EPISODE_S, 5)])
def test_refusals_of_one_cause_let_it_come_back_to_where_it_was_at_once(later_s: float, size: int) -> None:
    """The first fall was from 10 to 7: up to there it grows by one for each answer."""
    window = Window(500)
    for now_s in (0.0, 0.0, 0.0, later_s):
        window.refused(now_s, full=True)
    assert window.size == 4
    assert answers(window, 5, 0.1, later_s + 1.0) == size


def test_what_was_sent_before_a_fall_tells_nothing_of_the_window_after_it() -> None:
    window = of_sixty()
    for _ in range(10):
        window.refused(10.0, full=True)
    assert answers(window, 200, 1.0, 10.5) == 42
    assert answers(window, 43, 0.125, 10.75) == 43, "it grows, with nothing to be in doubt about"


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 5), st.floats(0, 2)), max_size=200),
)
def test_it_stays_between_one_and_the_most(most: int, steps: list[tuple[bool, bool, float, float]]) -> None:
    window, now_s = Window(most), 0.0
    for refused, full, latency_s, passed_s in steps:
        now_s += passed_s
        before = window.size
        if refused:
            window.refused(now_s, full=full)
            assert window.size <= before
        else:
            window.answered(latency_s, now_s, full=full)
            assert window.size <= before + 1
        assert 1 <= window.size <= most
