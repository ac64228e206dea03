"""What becomes of starts: due, late, missed, overlapping; whatever the wall clock shows."""

from dataclasses import replace
from typing import Any

import pytest

from puppetmaster.clock import seconds
from puppetmaster.model.template import (
    BACK_S,
    GRACE_S,
    MOST_COUNTED,
    Decision,
    Missed,
    NewTemplate,
    Outcome,
    Overlap,
    Record,
    Schedule,
    Template,
    decide,
)

DAY_S = 86_400.0
#: A Friday.
THREE = seconds("2026-01-02T03:00:00Z")
DAILY = Schedule(cron="0 3 * * *")
MINUTELY = Schedule(cron="* * * * *")
NEW = Record(decided_s=THREE - 10)


def outcomes(decision: Decision) -> list[tuple[str, int]]:
    return [(told.outcome.value, told.many) for told in decision.told]


def test_before_its_time_nothing_is_decided() -> None:
    assert decide(DAILY, NEW, THREE - 0.001, None) == Decision(NEW)


@pytest.mark.parametrize("late_s", [0.0, 1.5, GRACE_S])
def test_at_its_time_it_starts_once(late_s: float) -> None:
    first = decide(DAILY, NEW, THREE + late_s, None)
    assert (first.start_s, first.told) == (THREE, ())
    assert decide(DAILY, first.record, THREE + late_s + 1, None) == Decision(first.record)
    assert decide(DAILY, first.record, THREE + DAY_S, None).start_s == THREE + DAY_S


@pytest.mark.parametrize(("missed", "starts"), [(Missed.SKIP, None), (Missed.RUN, THREE + 2 * DAY_S)])
def test_missed_starts_are_told_and_made_up_for_once(missed: Missed, starts: float | None) -> None:
    late = decide(replace(DAILY, missed=missed), NEW, THREE + 2 * DAY_S + 7000, None)
    assert late.start_s == starts
    assert outcomes(late) == [("missed", 3 if starts is None else 2)]
    assert late.record.decided_s == THREE + 2 * DAY_S
    (told,) = late.told
    assert told.due_at == ("2026-01-04T03:00:00.000Z" if starts is None else "2026-01-03T03:00:00.000Z")
    assert "from 2026-01-02T03:00:00.000Z on" in told.message


def test_a_short_standstill_misses_those_that_are_too_late() -> None:
    found = decide(MINUTELY, NEW, THREE + 125, None)
    assert (found.start_s, outcomes(found)) == (THREE + 120, [("missed", 2)])


def test_ten_years_of_minutes_are_not_counted_to_the_end() -> None:
    found = decide(MINUTELY, NEW, THREE + 3650 * DAY_S + 30, None)
    assert found.start_s == THREE + 3650 * DAY_S
    assert outcomes(found) == [("missed", MOST_COUNTED - 1)]
    assert " or more were" in found.told[0].message or "or more missed" in found.told[0].message


def test_an_overlapping_start_is_left_out() -> None:
    found = decide(DAILY, NEW, THREE, 7)
    assert (found.start_s, outcomes(found), found.record.decided_s) == (None, [("skipped", 1)], THREE)
    assert "job 7 has not ended" in found.told[0].message
    assert decide(DAILY, found.record, THREE + 5, None).start_s is None


def test_an_overlapping_start_waits_and_only_one_does() -> None:
    queueing = replace(MINUTELY, overlap=Overlap.QUEUE)
    first = decide(queueing, NEW, THREE, 7)
    assert (outcomes(first), first.record.queued_s) == ([("queued", 1)], THREE)
    second = decide(queueing, first.record, THREE + 60, 7)
    assert (outcomes(second), second.record.queued_s) == ([("skipped", 1)], THREE)
    assert "one start waits already" in second.told[0].message
    ended = decide(queueing, second.record, THREE + 90, None)
    assert (ended.start_s, ended.record.queued_s, ended.told) == (THREE, None, ())


def test_a_start_that_is_due_when_the_queued_one_begins_waits_in_turn() -> None:
    queueing = replace(MINUTELY, overlap=Overlap.QUEUE)
    found = decide(queueing, replace(NEW, decided_s=THREE, queued_s=THREE), THREE + 61, None)
    assert (found.start_s, found.record.queued_s, outcomes(found)) == (THREE, THREE + 60, [("queued", 1)])
    skipping = decide(MINUTELY, replace(NEW, decided_s=THREE, queued_s=THREE), THREE + 61, None)
    assert (skipping.start_s, skipping.record.queued_s, outcomes(skipping)) == (THREE, None, [("skipped", 1)])


def test_a_clock_that_is_not_set_starts_nothing_and_misses_nothing() -> None:
    begun = Record(decided_s=12.0)
    assert decide(MINUTELY, begun, 4000.0, None) == Decision(begun)
    found = decide(MINUTELY, begun, THREE + 30, None)
    assert (found.start_s, found.told, found.record.decided_s) == (None, (), THREE + 30)


def test_a_clock_that_is_set_back_a_little_repeats_nothing() -> None:
    started = decide(DAILY, NEW, THREE, None).record
    back = decide(DAILY, started, THREE - BACK_S, None)
    assert back == Decision(started)
    assert decide(DAILY, started, THREE + 1, None) == Decision(started)


def test_a_clock_that_was_far_ahead_does_not_hold_up_what_is_to_come() -> None:
    ahead = replace(NEW, decided_s=THREE + 3650 * DAY_S)
    back = decide(DAILY, ahead, THREE - 100, None)
    assert back == Decision(replace(NEW, decided_s=THREE - 100))
    assert decide(DAILY, back.record, THREE, None).start_s == THREE


def test_the_record_counts_and_keeps_what_was_told_last() -> None:
    found = decide(DAILY, NEW, THREE + DAY_S + 900, None)
    record = NEW.telling(found.told[0], "2026-01-03T03:15:00.000Z")
    record = record.telling(found.told[0], "2026-01-03T03:15:00.000Z")
    assert record.counts == {"missed": 4}
    assert record.last == {
        "at": "2026-01-03T03:15:00.000Z",
        "dueAt": "2026-01-03T03:00:00.000Z",
        "outcome": "missed",
        "message": "2 starts were missed from 2026-01-02T03:00:00.000Z on: nothing ran here, "
        "or the clock was set",
    }
    assert Record.from_document(record.document()) == record


TEMPLATE = Template(id=3, name="nightly", job={"batch": []}, schedule=DAILY, record=NEW)


@pytest.mark.parametrize(
    ("new", "begins"),
    [
        (NewTemplate(name="other"), False),
        (NewTemplate(job={"batch": [1]}), False),
        (NewTemplate(schedules=True, schedule=replace(DAILY, missed=Missed.RUN)), False),
        (NewTemplate(schedules=True, schedule=replace(DAILY, cron="0 4 * * *")), True),
        (NewTemplate(schedules=True, schedule=replace(DAILY, timezone="Asia/Taipei")), True),
        (NewTemplate(schedules=True, schedule=replace(DAILY, enabled=False)), True),
    ],
)
def test_a_schedule_that_is_changed_begins_anew(new: NewTemplate, begins: bool) -> None:
    after = new.onto(TEMPLATE, THREE + 5)
    assert (after.record.decided_s == THREE + 5) == begins
    assert Template.from_document(3, after.document()) == after


def test_a_schedule_that_is_removed_leaves_nothing_waiting() -> None:
    waiting = replace(TEMPLATE, record=replace(NEW, queued_s=THREE))
    gone = NewTemplate(schedules=True).onto(waiting, THREE)
    assert (gone.schedule, gone.record.queued_s, gone.scheduled) == (None, None, False)
    off = NewTemplate(schedules=True, schedule=replace(DAILY, enabled=False)).onto(waiting, THREE)
    assert (off.scheduled, off.record.queued_s) == (False, None)
    assert NewTemplate(name="x").onto(waiting, THREE).record.queued_s == THREE


@pytest.mark.parametrize(
    ("decided_s", "expected"),
    [(THREE - 10, THREE), (THREE, THREE + DAY_S), (THREE + BACK_S + 1, THREE), (0.0, THREE)],
)
def test_the_next_times_are_those_that_are_not_decided_on(decided_s: float, expected: float) -> None:
    template = replace(TEMPLATE, record=Record(decided_s=decided_s))
    assert template.upcoming(THREE - 5, 2) == [expected, expected + DAY_S]
    assert template.upcoming(1000.0, 2) == []
    there = replace(template, schedule=replace(DAILY, timezone="Asia/Taipei"))
    assert {one % DAY_S for one in there.upcoming(THREE, 2)} == {(3 - 8 + 24) * 3600.0}
    assert replace(template, schedule=None).upcoming(THREE, 2) == []


def test_a_template_that_is_held_says_why() -> None:
    held = replace(TEMPLATE, record=replace(NEW, queued_s=THREE)).held("it is a copy", "2026-01-02T03:00:00Z")
    last: Any = held.record.last
    assert (held.scheduled, held.record.queued_s) == (False, None)
    assert (last["outcome"], "it is a copy" in last["message"]) == (Outcome.SKIPPED, True)
    assert held.held("again", "x") is held
