"""A job on the screen until it ends, on a terminal, in a pipe, for a program."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.cli import follow
from puppetmaster.cli.follow import News
from puppetmaster.cli.terminal import Screen
from tests.fake_http import job, request
from tests.terminal import Display

GATE = "wave 1 failed its gate: 1 of 1 requests failed, and at most 0 may"
SUMMARY = "job 7 aborted after 1 min 00 s: 0 of 4 resolved, 1 error, 3 skipped."
ADVICE = "puppetmaster resume 7 sends on, puppetmaster cancel 7 ends it"


class Clock:
    """A second goes by at every look."""

    def __init__(self, step_s: float = 1.0) -> None:
        self._now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        return self._now_s

    def through(self, news: Iterator[News]) -> Iterator[News]:
        for one in news:
            yield one
            self._now_s += self._step_s


@pytest.fixture(autouse=True)
def narrow(colours: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def closed() -> dict[str, Any]:
    return {**job("paused", error=1, pending=3), "reason": GATE, "reasonCode": "gate", "gateStatus": "closed"}


def news() -> Iterator[News]:
    yield News(job("dispatching", sent=1, pending=3), [])
    yield News(job("dispatching", error=1, pending=3), [request("cg-1", code=500)])
    yield News(job("dispatching", error=1, pending=3), [], trouble="gone for tea")
    yield News(job("dispatching", error=1, pending=3), [], trouble="gone for tea", fresh=False)
    yield News(closed(), [])
    yield News(job("aborted", error=1, skipped=3), [])


def test_a_job_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow.show(Screen(terminal=False), news(), Clock())["status"] == "aborted"
    assert capsys.readouterr().out.splitlines() == [
        "job 7 dispatching: 0 of 4 done, 0 failed, 1 in flight",
        "cg-1 error 500",
        "waiting: gone for tea",
        f"job 7 paused: 1 of 4 done, 1 failed, 0 in flight; {GATE}; {ADVICE}",
        SUMMARY,
    ]


def test_a_pipe_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Every two seconds, when something is new; looks are half a second apart here."""
    clock = Clock(0.5)
    looks = [News(job("dispatching", resolved=done, pending=20 - done), []) for done in range(10)]
    looks += [News(looks[-1].job, [], fresh=False)] * 10
    follow.show(Screen(terminal=False), clock.through(iter([*looks, News(job(resolved=20), [])])), clock)
    assert capsys.readouterr().out.splitlines() == [
        "job 7 dispatching: 0 of 20 done, 0 failed, 0 in flight",
        "job 7 dispatching: 4 of 20 done, 0 failed, 0 in flight, 8 s left",
        "job 7 dispatching: 8 of 20 done, 0 failed, 0 in flight, 6 s left",
        "job 7 resolved after 1 min 00 s: 20 of 20 resolved.",
    ]


def frames(news: Iterator[News], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What stands on a terminal of 60 columns after each of the news, and at the end."""
    display = Display(60)
    seen = []

    def looked_at() -> Iterator[News]:
        for number, one in enumerate(news):
            if number:
                look()
            yield one

    def look() -> None:
        display.write(capsys.readouterr().out.replace("\n", "\r\n"))  # as a terminal does
        seen.append(display.text())

    clock = Clock()
    follow.show(Screen(terminal=True, now=lambda: 0.0), clock.through(looked_at()), clock)
    look()
    return seen


def test_a_job_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    *_, away, still_away, gate, end = frames(news(), capsys)
    bar = "xxxxxxxxx" + "░" * 29
    assert away == still_away
    assert away.splitlines() == [
        "cg-1 error 500",
        f"job 7 dispatching {bar} 25%",
        "1 of 4 done, 1 failed, 0 in flight",
        "waiting: gone for tea",
    ]
    assert gate.splitlines() == [
        "cg-1 error 500",
        f"job 7 paused xxxxxxxxxx{'░' * 33} 25%",
        "1 of 4 done, 1 failed, 0 in flight",
        "wave 1 failed its gate: 1 of 1 requests failed, and at most",
        "0 may",
        "puppetmaster resume 7 sends on, puppetmaster cancel 7 ends",
        "it",
    ]
    assert end.splitlines() == ["cg-1 error 500", SUMMARY[:59], SUMMARY[60:]]


def test_a_terminal_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    follow.show(Screen(terminal=True), news())
    shown = capsys.readouterr().out
    assert "\x1b[31mcg-1 error 500" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    assert shown.endswith("\x1b[0m\n")


def test_a_clock_goes_on_while_nothing_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    left = {**job("pending", pending=1), "startAt": "1970-01-01T00:01:00Z"}
    ticks = iter(range(100))
    screen = Screen(terminal=True, now=lambda: float(next(ticks)))
    follow.show(screen, iter([News(left, []), News(left, [], fresh=False), News(job(resolved=1), [])]))
    shown = capsys.readouterr().out
    assert "starts in 1 min 00 s" in shown
    assert "starts in 59 s" in shown


def test_the_last_answers_are_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    last = [News(job("dispatching", resolved=8, sent=2), []), News(job(resolved=10), [])]
    first, _ = frames(iter(last), capsys)
    assert first.splitlines()[1] == "8 of 10 done, 0 failed, 2 in flight, waiting for 2 answers"


def test_a_job_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    ended = follow.frames(iter([*news(), News(job(resolved=1), [], fresh=False)]))
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [frame["status"] for frame in told] == ["dispatching", "dispatching", "paused", "aborted"]
    assert [len(frame["collection"]) for frame in told] == [0, 1, 0, 0]
    assert ended["status"] == "resolved"


def test_many_failures_are_told_together_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The first one by one; of the rest equal ones are a line, however they came."""
    failed = [request(f"cg-{number:03}", "error", number, code=500) for number in range(1, 41)]
    failed[30:32] = [request(f"x-{number}", "timeout", number, message="silent") for number in (31, 32)]
    running = job("dispatching", error=38, timeout=2, pending=1)
    looks = [News(running, failed[:15]), News(running, failed[15:30]), News(running, failed[30:])]
    follow.show(Screen(terminal=False), iter([*looks, News(job(error=38, timeout=2), [])]))
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if not line.startswith("job 7 ")]
    assert told[:20] == [f"cg-{number:03} error 500" for number in range(1, 21)]
    assert told[20:] == [
        "Further failures are told at the end; until then: puppetmaster results 7",
        "18 more: cg-[021-030] cg-[033-040] error 500",
        "2 more: x-[31-32] timeout: silent",
    ]
    shown = frames(iter([*looks, News(job(error=38, timeout=2), [])]), capsys)[-1]
    assert shown.splitlines()[:23] == [*told[:20], told[20][:60], told[20][60:], told[21]]


def test_a_job_that_is_left_at_a_gate(capsys: pytest.CaptureFixture[str]) -> None:
    open_, away = News(job("dispatching", sent=1, pending=3), []), News(closed(), [], trouble="gone for tea")
    looks = list(follow.until_gate(iter([open_, away, News(closed(), []), News(job(resolved=4), [])])))
    assert len(looks) == 3  # while nobody answers it may have been opened
    state = f"job 7 paused: 1 of 4 done, 1 failed, 0 in flight; {GATE}; {ADVICE}"
    for terminal in (False, True):
        left = follow.show(Screen(terminal=terminal), iter(looks))
        assert follow.verdict(left) == 8
        assert capsys.readouterr().out.count(state) == 1


def test_failures_beyond_what_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "FAILURES_TOLD", 1)
    follow.show(Screen(terminal=False), news())
    assert "No more than 1 failures are told: puppetmaster results 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("counts", "plain", "drawn"),
    [
        ({"resolved": 1, "pending": 1}, False, "█████░░░░░"),
        ({"resolved": 1, "pending": 1}, True, "#####....."),
        ({"resolved": 996, "error": 1, "skipped": 1, "sent": 1, "pending": 1}, False, "██████x-▒░"),
        ({"pending": 9}, False, "░░░░░░░░░░"),
        ({"timeout": 1, "unknown": 1, "canceled": 2}, False, "xxxxx-----"),
        ({"resolved": 1, "sent": 2}, True, "###>>>>>>>"),
    ],
)
def test_the_bar_has_a_part_for_all_there_is(counts: dict[str, int], plain: bool, drawn: str) -> None:
    assert follow.bar(job("dispatching", **counts), 10, plain=plain).plain == drawn


@pytest.mark.parametrize(
    ("found", "style"),
    [
        (job(resolved=1), "green"),
        (job(resolved=1, error=1), "red"),
        (job("dispatching", sent=1, error=1), "cyan"),
        (job("canceled", canceled=1), "yellow"),
        (job("aborted", skipped=1), "red"),
    ],
)
def test_failures_show_in_the_colour_of_a_job(found: dict[str, Any], style: str) -> None:
    assert follow.style(found) == style
