"""Times are written as the API says, and read back as they were written."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import clock
from puppetmaster.clock import BUILT_S, SETTLE_S, STEP_S, Clock, Steadiness, is_known, iso, seconds
from tests.virtual import VirtualClock

#: From 1970 to the year 9999, which is as far as the text reaches.
WALL_S = st.floats(0, 253_402_300_799, allow_nan=False)


@pytest.mark.parametrize(
    ("wall_s", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1767323045.678, "2026-01-02T03:04:05.678Z"),
        (1767323045.0009, "2026-01-02T03:04:05.000Z"),
        (1767323045.9999, "2026-01-02T03:04:05.999Z"),
        (1767323045.05, "2026-01-02T03:04:05.050Z"),
        (951782400, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_iso(wall_s: float, text: str) -> None:
    assert iso(wall_s) == text


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.678Z", "2026-01-02T04:04:05.678+01:00", "2026-01-01T21:04:05.678-06:00"]
)
def test_seconds_reads_any_zone(text: str) -> None:
    assert seconds(text) == pytest.approx(1767323045.678, abs=1e-6)


@given(WALL_S)
def test_iso_has_one_form_and_seconds_reads_it_to_the_millisecond(wall_s: float) -> None:
    text = iso(wall_s)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert wall_s - 0.001 - 1e-4 <= seconds(text) <= wall_s + 1e-4


@given(WALL_S, WALL_S)
def test_text_sorts_as_time_does(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert iso(earlier) <= iso(later)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00.000Z", "12"])
def test_seconds_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def test_the_monotonic_clock_never_goes_back() -> None:
    times = [Clock().now_s() for _ in range(100)]
    assert times == sorted(times)


def test_the_wall_clock_is_of_1970() -> None:
    before = datetime.now(UTC).timestamp()
    now = Clock().wall_s()
    after = datetime.now(UTC).timestamp()
    assert before - 1 <= now <= after + 1


def test_one_start_of_the_machine_has_one_name() -> None:
    assert Clock().boot() == Clock().boot()
    assert "\n" not in Clock().boot()


def test_a_machine_that_does_not_name_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> str:
        raise OSError("no such file")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert clock._boot.__wrapped__() == ""


# Clocks that somebody sets


def test_times_before_the_program_was_built_are_no_times() -> None:
    assert seconds("2026-01-01T00:00:00Z") == BUILT_S
    assert Clock().wall_s() > BUILT_S, "set it to a day that has been"
    assert [is_known(wall_s) for wall_s in (0, BUILT_S - 1, BUILT_S)] == [False, False, True]


def test_the_walls_clock_is_steady_a_while_after_it_was_set() -> None:
    virtual = VirtualClock()
    steadiness = Steadiness(virtual)
    stepped: list[bool] = []

    def look() -> bool:
        steady = steadiness.look()
        stepped.append(steadiness.stepped)
        return steady

    assert not look(), "the machine has just started"
    virtual.monotonic_s = SETTLE_S
    assert look()
    for step_s in (STEP_S + 1, -STEP_S - 1):
        virtual.wall_ahead_s += STEP_S - 1
        assert look(), "it was not set, it goes wrong"
        virtual.wall_ahead_s += step_s
        assert not look()
        virtual.monotonic_s += SETTLE_S - 1
        assert not look()
        virtual.monotonic_s += 1
        assert look()
    virtual.wall_ahead_s = -virtual.monotonic_s
    assert not look()
    virtual.monotonic_s += SETTLE_S
    assert not look(), "1970 is never right"
    assert stepped == [False, False, *[False, True, False, False] * 2, True, False]
