"""The window: it starts small, grows while that pays, and falls when it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.scheduling.latencies import Latencies
from puppetmaster.scheduling.window import FALL, FALL_PAUSE_S, FIRST, TRACE, Window


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


def test_when_others_let_go_it_soon_is_where_it_was() -> None:
    window = Window(500)
    round_trips(window, 4, 0.1)
    for number in range(60):
        window.refused(1.0 + number * FALL_PAUSE_S, full=True)
    assert window.size == 1
    round_trips(window, 7, 0.1, 10.0)
    assert window.size >= int(160 * FALL)
    round_trips(window, 1, 0.1, 11.0)
    assert window.size < 160 * FALL + 5, "and from there on it grows slowly"


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


def test_it_falls_when_answers_get_slower_and_not_more() -> None:
    window, now_s = Window(500), 0.0
    for _ in range(40):
        # A server of 200 answers a second, each 0.1 s away: 20 are enough.
        latency_s = max(0.1, window.size / 200)
        for _ in range(window.size):
            now_s += max(0.1 / window.size, 1 / 200)
            window.answered(latency_s, now_s, full=True)
    assert {why for _, _, why in window.trace} == {"slower without more throughput"}
    assert 10 < window.size < 80


def test_one_slow_round_trip_is_no_reason_to_fall() -> None:
    window = Window(500)
    now_s = round_trips(window, 8, 0.05)
    now_s = round_trips(window, 1, 1.0, now_s)
    round_trips(window, 8, 0.05, now_s)
    assert window.size == 500
    assert not window.trace


def test_what_is_slow_does_not_let_it_grow() -> None:
    window = Window(500)
    now_s = round_trips(window, 2, 0.1)
    assert window.size == 40
    now_s = round_trips(window, 1, 0.19, now_s)
    assert window.size == 80
    round_trips(window, 1, 0.3, now_s)
    assert window.size == 80


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


def test_it_never_closes() -> None:
    window = Window(500)
    for number in range(100):
        window.refused(number * 1.0, full=True)
    assert window.size == 1
    window.answered(0.1, 101.0, full=True)
    assert window.size == 2


def test_the_trace_has_an_end() -> None:
    window = Window(500)
    for number in range(TRACE + 50):
        window.refused(number * 1.0, full=True)
    assert len(window.trace) == TRACE
    assert window.trace[-1][0] == TRACE + 49


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
