"""What need not be kept, whichever implementation keeps the jobs."""

from dataclasses import replace

import pytest

from puppetmaster.clock import seconds
from puppetmaster.store.base import (
    FRESH_S,
    PART,
    PRUNED_AT_ONCE,
    PRUNED_REQUESTS,
    REQUEST_BYTES,
    Changes,
    Keep,
    Look,
    Now,
    Store,
)
from tests.examples import a_job
from tests.stored import as_ended, creation, first_of

ALL = Keep(jobs=2**62, age_s=float("inf"), bytes=2**62)
DAY_S = 86400.0


@pytest.fixture(scope="module")
def kept(shared_store: Store) -> Store:
    """Jobs 1 to 6: 3 is open, the others ended on the 1st to the 6th of January."""
    for number in range(1, 7):
        shared_store.commit(creation(number))
        if number != 3:
            _end(shared_store, number, f"2026-01-0{number}T00:00:00.000Z")
    return shared_store


def _end(store: Store, number: int, finished_at: str, boot: str = "", ended_s: float | None = None) -> None:
    job = as_ended(creation(number).jobs[number])
    ended = replace(job, finished_at=finished_at, ended_boot=boot, ended_s=ended_s)
    store.commit(Changes(jobs={number: ended}))


def _at(day: int, later_s: float = 0.0) -> Now:
    return Now(seconds(f"2026-01-{day:02}T00:00:00.000Z") + later_s)


def _looked(store: Store, keep: Keep, now: Now, at_once: int = PART) -> Look:
    look = Look(keep, now)
    look.at_once = at_once
    while not look.complete:
        store.look_on(look)
    return look


def _outlived(store: Store, keep: Keep, now: Now) -> dict[int, str]:
    """What the first part of a look finds."""
    return store.outlived(_looked(store, keep, now))


@pytest.mark.parametrize(
    ("keep", "day", "gone"),
    [
        (ALL, 31, []),
        (replace(ALL, jobs=5), 6, []),
        (replace(ALL, jobs=3), 6, [1, 2]),
        (replace(ALL, jobs=0), 6, [1, 2, 4, 5, 6]),
        (replace(ALL, age_s=2 * DAY_S), 6, [1, 2]),
        (replace(ALL, age_s=0), 31, [1, 2, 4, 5, 6]),
        (replace(ALL, age_s=0), 1, []),
        (replace(ALL, bytes=1), 7, [1, 2, 4, 5, 6]),
        (replace(ALL, jobs=4, age_s=2.5 * DAY_S), 6, [1, 2]),
    ],
)
def test_what_is_outlived(kept: Store, keep: Keep, day: int, gone: list[int]) -> None:
    assert list(_outlived(kept, keep, _at(day))) == gone


def test_no_more_bytes_are_removed_than_need_be(kept: Store) -> None:
    size = kept.size_bytes
    for bytes_, gone in ((size, []), (size - 1, [1]), (size - 3 * REQUEST_BYTES - 1, [1, 2])):
        assert list(_outlived(kept, replace(ALL, bytes=bytes_), _at(6))) == gone


def test_what_has_just_ended_is_kept_whatever_its_size(kept: Store) -> None:
    keep = replace(ALL, bytes=1)
    assert list(_outlived(kept, keep, _at(6, FRESH_S))) == [1, 2, 4, 5]
    assert list(_outlived(kept, keep, _at(6, FRESH_S + 1))) == [1, 2, 4, 5, 6]
    assert list(_outlived(kept, replace(keep, jobs=0), _at(6))) == [1, 2, 4, 5, 6], "a number is a number"


def test_those_that_ended_first_go_first_whenever_they_were_created(store: Store) -> None:
    for number, day in ((1, 9), (2, 3), (3, 5)):
        _end(store, number, f"2026-01-0{day}T00:00:00.000Z")
    assert list(_outlived(store, replace(ALL, jobs=1), _at(31))) == [2, 3]
    assert list(_outlived(store, replace(ALL, age_s=24 * DAY_S), _at(31))) == [2, 3]


def test_jobs_of_unknown_age_keep_no_others(store: Store) -> None:
    """A gateway without a battery wakes up in 1970."""
    for number in range(1, PRUNED_AT_ONCE + 6):
        day = f"1970-01-01T00:00:{number:02}.000Z" if number <= PRUNED_AT_ONCE else "2026-01-01T00:00:00.000Z"
        _end(store, number, day)
    keep = replace(ALL, age_s=DAY_S)
    assert list(_outlived(store, keep, _at(9))) == list(range(PRUNED_AT_ONCE + 1, PRUNED_AT_ONCE + 6))
    assert len(_outlived(store, replace(ALL, jobs=0), _at(9))) == PRUNED_AT_ONCE


def test_it_is_said_why(kept: Store) -> None:
    whys = set(_outlived(kept, Keep(jobs=4, age_s=3.5 * DAY_S, bytes=1), _at(6)).values())
    assert whys == {"there are more", "they are older", "the store is larger"}


def test_what_is_thrown_away_but_not_swept_does_not_count_as_too_large(store: Store) -> None:
    for number in (1, 5):
        changes = creation(number, total=1010)
        changes.jobs[number] = as_ended(changes.jobs[number])
        store.commit(changes)
    keep = replace(ALL, bytes=store.size_bytes - 1)
    assert list(_outlived(store, keep, _at(6))) == [1]
    store.commit(Changes(deleted={1: a_job(first=first_of(1), total=1010)}))
    assert not _outlived(store, keep, _at(6))
    while store.sweep():
        pass
    assert not _outlived(store, keep, _at(6))
    assert store.size_bytes <= keep.bytes


@pytest.mark.parametrize(
    ("totals", "gone"),
    [
        ([PRUNED_REQUESTS + 1] * 2, [1]),
        ([PRUNED_REQUESTS // 2 + 1] * 3, [1]),
        ([PRUNED_REQUESTS // 2 - 2, PRUNED_REQUESTS // 2 + 2, PRUNED_REQUESTS // 2 + 3], [1, 2]),
    ],
)
def test_large_jobs_are_pruned_few_at_a_time_and_at_least_one(
    store: Store, totals: list[int], gone: list[int]
) -> None:
    jobs = {number: as_ended(a_job(id=number, total=total)) for number, total in enumerate(totals, 1)}
    store.commit(Changes(jobs=jobs))
    assert list(_outlived(store, replace(ALL, jobs=0), _at(9))) == gone


def _many_ended(store: Store, count: int) -> None:
    store.commit(Changes(jobs={id_: as_ended(a_job(id=id_)) for id_ in range(1, count + 1)}))


def test_what_a_look_has_found_is_not_read_again_for_each_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _many_ended(store, 3 * PRUNED_AT_ONCE)
    look = _looked(store, replace(ALL, jobs=3), _at(6))
    monkeypatch.setattr(store, "look_on", None)
    sizes, gone = list[int](), list[int]()
    while part := store.outlived(look):
        store.commit(Changes(deleted={id_: as_ended(a_job(id=id_)) for id_ in part}))
        sizes.append(len(part))
        gone += part
    assert sizes == [PRUNED_AT_ONCE, PRUNED_AT_ONCE, PRUNED_AT_ONCE - 3]
    assert gone == list(range(1, 3 * PRUNED_AT_ONCE - 2))
    assert look.over
    assert look.gone == {"there are more": 3 * PRUNED_AT_ONCE - 3}


def test_a_look_remembers_so_many_and_the_next_one_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puppetmaster.store.base.MOST", 4)
    for number in range(1, 12):  # the last to be created ended first
        _end(store, number, f"2026-01-{20 - number:02}T00:00:00.000Z")
    gone: list[list[int]] = []
    more = True
    while more:
        look = _looked(store, replace(ALL, jobs=2), _at(31), at_once=3)
        gone.append(list(store.outlived(look)))
        store.commit(Changes(deleted={id_: as_ended(creation(id_).jobs[id_]) for id_ in gone[-1]}))
        more = look.has_more
    assert gone == [[11, 10, 9, 8], [7, 6, 5, 4], [3]]


def test_jobs_of_unknown_age_do_not_fill_a_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puppetmaster.store.base.MOST", 4)
    for number in range(1, 8):
        _end(store, number, f"1970-01-01T00:00:{number:02}.000Z")
    _end(store, 8, "2026-01-01T00:00:00.000Z")
    assert _outlived(store, replace(ALL, age_s=DAY_S), _at(9)) == {8: "they are older"}


def test_no_more_go_than_are_too_many_when_somebody_removes_some_meanwhile(store: Store) -> None:
    _many_ended(store, 10)
    look = _looked(store, replace(ALL, jobs=5), _at(6))
    store.commit(Changes(deleted={id_: as_ended(a_job(id=id_)) for id_ in (7, 8, 9)}))
    assert list(store.outlived(look)) == [1, 2]


@pytest.mark.parametrize(("boot", "gone"), [("this", []), ("another", [1])])
def test_the_age_of_what_ended_since_the_start_of_the_machine_is_not_by_the_walls_clock(
    store: Store, boot: str, gone: list[int]
) -> None:
    """The clock was two months behind when it ended, and was set since."""
    _end(store, 1, "2026-01-01T00:00:00.000Z", boot, 1000.0)
    now = Now(_at(1, 60 * DAY_S).wall_s, boot="this", now_s=1060.0)
    assert list(_outlived(store, replace(ALL, age_s=30 * DAY_S), now)) == gone
    assert list(_outlived(store, replace(ALL, age_s=59), now)) == [1]
    assert list(_outlived(store, replace(ALL, bytes=1), now)) == gone, "it is as fresh as that"


def test_nothing_is_too_old_while_the_clock_may_be_set_again(store: Store) -> None:
    _end(store, 1, "2026-01-01T00:00:00.000Z", "another", 1000.0)
    keep = replace(ALL, age_s=DAY_S)
    assert list(_outlived(store, keep, replace(_at(31), steady=False))) == []
    assert list(_outlived(store, keep, _at(31))) == [1]
    assert list(_outlived(store, replace(ALL, jobs=0), replace(_at(31), steady=False))) == [1]


def test_what_ended_since_the_start_of_the_machine_ended_last(store: Store) -> None:
    _end(store, 1, "2026-01-01T00:00:00.000Z", "this", 70.0)
    _end(store, 2, "2026-01-02T00:00:00.000Z", "this", 50.0)
    _end(store, 3, "2026-03-01T00:00:00.000Z", "another", 90.0)
    _end(store, 4, "1970-01-01T00:00:00.000Z")
    for keep, gone in ((3, [4]), (2, [4, 3]), (1, [4, 3, 2])):
        now = Now(_at(31).wall_s, boot="this", now_s=100.0)
        assert list(_outlived(store, replace(ALL, jobs=keep), now)) == gone
