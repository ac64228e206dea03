"""Times of cron expressions: both changes of summer time, and the same times whenever they are asked for."""

from datetime import datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.clock import iso, seconds
from puppetmaster.model.cron import Cron, faults, zones

#: Its summer time is half an hour.
HOWE = "Australia/Lord_Howe"


def after(text: str, zone: str, at: str, count: int = 3) -> list[str]:
    found = islice(Cron(text, zone).after(seconds(at)), count)
    return [iso(one).removesuffix(":00.000Z") for one in found]


@pytest.mark.parametrize(
    ("text", "zone", "at", "expected"),
    [
        ("0 3 * * 1-5", "UTC", "2026-01-02T03:00:00Z", ["2026-01-05T03:00", "2026-01-06T03:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-01-02T01:59:59.5Z", ["2026-01-02T02:00", "2026-01-03T02:00"]),
        # 02:30 is left out on 29 March: it starts at 03:00, which is 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        # 02:30 comes twice on 25 October, at 00:30 and at 01:30 UTC: it starts once.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:59:00Z", ["2026-10-26T01:30", "2026-10-27T01:30"]),
        # Every 30 minutes goes on by real time through both.
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:15:00Z", ["2026-10-25T00:30", "2026-10-25T01:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:35:00Z", ["2026-03-29T01:00", "2026-03-29T01:30"]),
        # At Lord Howe 02:00 to 02:30 is left out on 4 October, and 01:30 to 02:00 comes twice on 5 April.
        ("15 2 * * *", HOWE, "2026-10-03T12:00:00Z", ["2026-10-03T15:30", "2026-10-04T15:15"]),
        ("0 3 * * *", HOWE, "2026-10-03T12:00:00Z", ["2026-10-03T16:00", "2026-10-04T16:00"]),
        ("45 1 * * *", HOWE, "2026-04-04T12:00:00Z", ["2026-04-04T14:45", "2026-04-05T15:15"]),
        ("45 1 * * *", HOWE, "2026-04-04T14:50:00Z", ["2026-04-05T15:15", "2026-04-06T15:15"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ],
)
def test_what_comes_next(text: str, zone: str, at: str, expected: list[str]) -> None:
    assert after(text, zone, at, 2) == expected


def test_the_last_one() -> None:
    daily = Cron("0 3 * * *", "UTC")
    three = seconds("2026-01-02T03:00:00Z")
    assert (daily.last(three), daily.last(three + 86_399), daily.last(three - 1)) == (
        three,
        three,
        three - 86_400,
    )
    assert daily.last(three + 3601, 3600) is None
    assert daily.last(three + 3599, 3600) == three
    assert Cron("0 0 29 2 *", "UTC").last(three) is None


def test_those_that_have_passed() -> None:
    hourly, three = Cron("0 * * * *", "UTC"), seconds("2026-01-02T03:00:00Z")
    assert hourly.passed(three, three + 7200, 9) == [three + 3600, three + 7200]
    assert hourly.passed(three, three + 1e9, 2) == [three + 3600, three + 7200]
    assert hourly.passed(three, three + 3599, 9) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", ["five places"]),
        ("* * * *", ["five places"]),
        ("0 0 3 * * *", ["five places"]),
        ("@daily", ["five places"]),
        ("61 25 * * *", ["0 to 59 as the minute", "0 to 23 as the hour"]),
        ("x 3 0 13 8", ["minute", "day of the month", "1 to 12 or JAN to DEC as the month", "week"]),
        ("0 3 30 2 *", ["a time that comes within 50 years"]),
        ("* * */20 * 1L", ["a time that comes within 50 years"]),
        ("0 " * 200, ["five places"]),
        ("0 9" + "9" * 240 + " * * *", ["hour"]),
        ("*/0 3 * * *", ["minute"]),
        ("0 3 * * MON-FRI", []),
        ("*/5 0-6/2 L * 1,3,5", []),
    ],
)
def test_all_that_is_wrong_is_said(text: str, wrong: list[str]) -> None:
    found = faults(text)
    assert len(found) == len(wrong)
    assert all(part in one for part, one in zip(wrong, found, strict=True))


def test_zones_are_there_without_the_systems_files() -> None:
    assert {"UTC", "Europe/Berlin", "Asia/Taipei"} < zones()
    assert "Europe/Nowhere" not in zones()


ZONES = (*("UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Asia/Beirut", "Pacific/Apia"), HOWE)
#: Days on which clocks change somewhere of these.
CHANGES = (
    "2026-03-29",
    "2026-10-25",
    "2026-03-08",
    "2026-11-01",
    "2011-12-30",
    "2026-07-01",
    "2026-04-04",
    "2026-10-03",
)
places = st.tuples(
    st.sampled_from(("*", "0", "*/7", "30", "5-55", "0,59")),
    st.sampled_from(("*", "2", "*/3", "0", "1-3", "23")),
    st.sampled_from(("*", "29", "1-28")),
    st.just("*"),
    st.sampled_from(("*", "0", "1-5")),
)


def test_the_hour_after_a_change_at_midnight_is_not_lost() -> None:
    change_s = datetime.fromisoformat("2026-03-28T22:00:00+00:00").timestamp()
    times = Cron("*/30 1-3 * * 0", "Asia/Beirut")  # 00:00 is followed by 01:00
    assert list(islice(times.after(change_s - 3600), 3)) == [change_s, change_s + 1800, change_s + 3600]
    assert times.last(change_s + 1800) == change_s + 1800


@given(
    text=places.map(" ".join),
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(CHANGES),
    at=st.integers(-90_000, 90_000),
    share=st.floats(0, 0.999),
)
def test_a_time_is_the_same_whenever_it_is_asked_for(
    text: str, zone: str, day: str, at: int, share: float
) -> None:
    times = Cron(text, zone)
    begun_s = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() + at
    found = list(islice(times.after(begun_s), 6))
    assert found == sorted(set(found))
    for before, following in zip([begun_s, *found], found, strict=False):
        between = before + (following - before) * share
        assert next(times.after(between)) == following
        assert times.last(following) == following
