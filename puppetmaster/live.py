"""A job on the screen until it ends: a live bar on a terminal, else lines, or JSON."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.live import Live
from rich.text import Text

from puppetmaster import phrases, watch
from puppetmaster.screen import STYLES, Screen, printable
from puppetmaster.watch import News, Pace

#: In a file a job that goes on is a line every so often, or when its status changes.
LINE_S = 2.0
#: Statuses of requests as parts of the bar, each with its colour, its sign, and that of a plain terminal.
PARTS = (
    (("resolved",), "green", "█", "#"),
    (phrases.FAILED, "red", "x", "x"),
    (("canceled", "skipped"), "yellow", "-", "-"),
    (("sent",), "cyan", "▒", ">"),
    (("pending",), "dim", "░", "."),
)
NARROWEST = 10

Job = Mapping[str, Any]


def follow(screen: Screen, news: Iterator[News], now: Callable[[], float] = time.monotonic) -> Job:
    """Show a job until it has ended, and what became of it: the job as it ended. No JSON."""
    job: Job = {}
    told = 0
    for one in _bar(screen, news, now) if screen.terminal else _lines(screen, news, now):
        job = one.job
        told += len(one.failures)
    if told >= watch.FAILURES_TOLD:
        screen.line(f"No more than {told} failures are told: puppetmaster results {job['id']}")
    screen.line(phrases.summary(job), style(job))
    return job


def frames(news: Iterator[News]) -> Job:
    """One JSON object per line, whenever there is news; gives the job as it ended.

    That is the job without its requests; ``collection`` holds those that failed since the line before.
    """
    job: Job = {}
    for one in news:
        job = one.job
        if one.fresh and one.trouble is None:
            print(json.dumps({**job, "collection": one.failures}), flush=True)  # noqa: T201 - output
    return job


def style(job: Job) -> str:
    """The colour of a job: that of its status, or of failures."""
    return "red" if phrases.failed(job) and job["finishedAt"] else STYLES[job["status"]]


def _lines(screen: Screen, news: Iterator[News], now: Callable[[], float]) -> Iterator[News]:
    pace = Pace(now)
    before, due_s = None, 0.0
    waiting = False
    for one in news:
        yield one
        left_s = pace.left_s(one.job)
        for request in one.failures:
            screen.line(phrases.failure(request))
        why = _held(one)
        if why and not waiting:
            screen.line(why)
        waiting = bool(why)
        condition = phrases.condition(one.job)
        due = condition != before or (one.fresh and now() >= due_s)
        if one.job["finishedAt"] is None and not waiting and due:
            screen.line(_state(screen, one.job, left_s))
            before, due_s = condition, now() + LINE_S


def _state(screen: Screen, job: Job, left_s: float | None) -> str:
    advice = phrases.advice(job)
    state = phrases.state(job, phrases.outlook(job, left_s, screen.now()))
    return f"{state}; {advice}" if advice else state


def _bar(screen: Screen, news: Iterator[News], now: Callable[[], float]) -> Iterator[News]:
    pace = Pace(now)
    with Live(console=screen.console, auto_refresh=False, transient=True) as live:
        for one in news:
            yield one
            left_s = pace.left_s(one.job)
            for request in one.failures:
                live.console.print(Text(printable(phrases.failure(request)), "red"), soft_wrap=True)
            if one.job["finishedAt"] is None:
                live.update(_drawn(screen, one, left_s), refresh=True)


def _drawn(screen: Screen, news: News, left_s: float | None) -> Text:
    """Which job, a bar, how much of it; the counts below; what keeps it, and what can be done, below that."""
    job = news.job
    done, total = job["doneCount"], job["totalCount"]
    head = f"job {job['id']} {phrases.condition(job)} "
    tail = f" {done * 100 // total}%"
    plain = screen.console.options.ascii_only
    drawn = Text().append(head, STYLES[job["status"]])
    drawn.append(bar(job, max(screen.console.width - len(head) - len(tail), NARROWEST), plain=plain))
    drawn.append(tail)
    counts = [(f"{done} of {total} done", ""), (f"{phrases.failed(job)} failed", "red")]
    counts += [(f"{job['counts']['sent']} in flight", "cyan")]
    counts += [(phrases.outlook(job, None if _held(news) else left_s, screen.now()), "")]
    drawn.append("\n")
    drawn.append(Text(", ").join(Text(text, colour) for text, colour in counts if text))
    for text in (_held(news) or phrases.reason(job), phrases.advice(job)):
        if text:
            drawn.append(f"\n{printable(text)}", "yellow")
    return drawn


def _held(news: News) -> str:
    """Why nothing goes on that could."""
    why = news.trouble or news.waits
    return f"waiting: {why}" if why else ""


def bar(job: Job, width: int, *, plain: bool = False) -> Text:
    """``width`` signs, divided as the requests of the job are; what there is at all has one at least."""
    counts = [sum(job["counts"][status] for status in statuses) for statuses, *_ in PARTS]
    drawn = Text()
    for (_, colour, sign, poor), size in zip(PARTS, _shares(counts, width), strict=True):
        drawn.append((poor if plain else sign) * size, colour)
    return drawn


def _shares(counts: list[int], width: int) -> list[int]:
    """``width`` divided as ``counts`` are, none of them left with nothing."""
    sizes = [max(count * width // max(sum(counts), 1), int(count > 0)) for count in counts]
    largest = max(range(len(sizes)), key=lambda index: counts[index])
    sizes[largest] += width - sum(sizes)
    return sizes
