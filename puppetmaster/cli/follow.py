"""Following a job over HTTP: its news, how long it may still take, and its exit code."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.live import Live
from rich.text import Text

from puppetmaster.cli import wording
from puppetmaster.cli.called import command
from puppetmaster.cli.client import Client, Refused, Unreachable
from puppetmaster.cli.terminal import STYLES, Screen, printable

#: Pause between two questions for the job.
POLL_S = 0.3
#: Shortest time between two questions for failed requests, or for what requests wait for: those answers are
#: longer than the counts.
FAILURES_S = 1.0
#: After this time without a request that got done, the client asks what the job waits for.
IDLE_S = 2.0
#: Most failures that are shown one by one; further ones are shown at the end, equal ones in a line.
ONE_BY_ONE = 20
#: Most failures that are shown at all.
FAILURES_TOLD = 500
#: How long puppetmaster may be away while a job is followed: it may be restarting.
PATIENCE_S = 60.0
#: The time over which the speed of a job is measured, for the time left.
PACE_S = 30.0

FAILED = ",".join(wording.FAILED)
_VERDICTS = {"aborted": 3, "canceled": 4, "timeout": 5}
#: The exit code of a job that is left at a closed gate.
GATE_CLOSED = 8
#: Without a terminal: shortest time between two lines about a job whose status has not changed.
LINE_S = 2.0
#: The parts of the bar: statuses of requests, colour, sign, and sign on an ASCII terminal.
PARTS = (
    (("resolved",), "green", "█", "#"),
    (wording.FAILED, "red", "x", "x"),
    (("canceled", "skipped"), "yellow", "-", "-"),
    (("sent",), "cyan", "▒", ">"),
    (("pending",), "dim", "░", "."),
)
#: The narrowest bar, in signs.
NARROWEST = 10

Clock = Callable[[], float]
Job = Mapping[str, Any]


class Removed(Refused):
    """The job was removed while it was watched, which cancels it."""

    exit_code = 4


class News(NamedTuple):
    """What one look at the job has shown."""

    #: The job as it is now, without its requests.
    job: Job
    #: The requests that have failed since the last look.
    failures: list[dict[str, Any]]
    #: Why puppetmaster cannot be asked now; None: it can.
    trouble: str | None = None
    #: Why nothing of the job is in flight; None: something is, or it is not known.
    waits: str | None = None
    #: Whether anything has changed since the last look. If not, only clocks need an update.
    fresh: bool = True


def follow(
    client: Client, job_id: int, *, pause: Callable[[float], None] = time.sleep, now: Clock = time.monotonic
) -> Iterator[News]:
    """Yield news of the job every ``POLL_S`` until it has ended.

    While puppetmaster cannot be reached the last state is repeated with ``trouble``, up to ``PATIENCE_S``.

    Raises:
        Unreachable: puppetmaster cannot be reached at first, or for longer than that.
        Refused: there is no such job.
        Removed: the job was removed meanwhile.
    """
    job: dict[str, Any] = {}
    etag = ""
    failures, waits = _Failures(client, job_id, now), _Waits(client, job_id, now)
    away_since: float | None = None
    while True:
        try:
            found, tag = client.look(job_id, etag)
            if found is not None:
                job, etag = found, tag
                job.pop("requests", None)  # empty because of the limit: it would say that there are none
            failed = failures.new(job)
            why = waits.why(job)
        except Unreachable as error:
            fresh = away_since is None
            away_since = now() if away_since is None else away_since
            if not job or not error.passing or now() - away_since > PATIENCE_S:
                raise
            yield News(job, [], trouble=str(error), fresh=fresh)
        except Refused as error:
            if not job or error.status != 404:
                raise
            raise Removed(f"Job {job_id} was removed while it was watched.", error.status) from error
        else:
            fresh = found is not None or bool(failed) or away_since is not None or waits.changed
            yield News(job, failed, waits=why, fresh=fresh)
            away_since = None
            if job["finishedAt"] is not None:
                return
        pause(POLL_S)


def until_gate(news: Iterator[News]) -> Iterator[News]:
    """The same, until a gate of the job is closed."""
    for one in news:
        yield one
        if one.trouble is None and one.job.get("gateStatus") == "closed":
            return


class _Failures:
    """The failed requests of a job, each returned once."""

    def __init__(self, client: Client, job_id: int, now: Clock) -> None:
        self._client = client
        self._job_id = job_id
        self._now = now
        self._told: set[int] = set()
        self._known = 0
        self._read_at = float("-inf")

    def new(self, job: Job) -> list[dict[str, Any]]:
        """The requests that have failed since the last call, read only if the counts have changed."""
        count = sum(job["counts"][status] for status in FAILED.split(","))
        early = self._now() - self._read_at < FAILURES_S and job["finishedAt"] is None
        if count == self._known or early or len(self._told) >= FAILURES_TOLD:
            return []
        self._read_at = self._now()
        found, _ = self._client.requests(self._job_id, status=FAILED, limit=FAILURES_TOLD)
        self._known = count
        fresh = [one for one in found if one["id"] not in self._told]
        self._told.update(one["id"] for one in fresh)
        return fresh


class _Waits:
    """What the next request of a job waits for, asked when the job has made no progress for ``IDLE_S``."""

    def __init__(self, client: Client, job_id: int, now: Clock) -> None:
        self._client = client
        self._job_id = job_id
        self._now = now
        self._done = -1
        self._since = 0.0
        self._read_at = float("-inf")
        self._why: str | None = None
        self.changed = False  #: whether the last call of ``why`` has changed between None and a sentence

    def why(self, job: Job) -> str | None:
        """What the job waits for, as a sentence; None: it does not wait, or its own reason says why."""
        before = self._why
        self._why = self._ask(job)
        self.changed = (self._why is None) != (before is None)
        return self._why

    def _ask(self, job: Job) -> str | None:
        if job["doneCount"] != self._done:
            self._done, self._since = job["doneCount"], self._now()
        counts = job["counts"]
        runs = job["status"] == "dispatching" and not wording.stopping(job) and counts["pending"]
        if not runs or self._now() - self._since < IDLE_S:
            return None
        if counts["sent"] or self._now() - self._read_at < FAILURES_S:
            return self._why
        self._read_at = self._now()
        found, _ = self._client.requests(self._job_id, status="pending", limit=1)
        return found[0]["__request"]["why"] if found else None


class Pace:
    """Estimates how long a job may still take, by its speed over the last ``PACE_S``."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()

    def left_s(self, job: Job) -> float | None:
        """Seconds that the job may still take; None: not known, for nothing is sent or nothing got done."""
        at, done = self._now(), job["doneCount"]
        if job["status"] != "dispatching":
            self._seen.clear()
            return None
        self._seen.append((at, done))
        while at - self._seen[0][0] > PACE_S and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        if done <= before or at <= since:
            return None
        return float((job["totalCount"] - done) * (at - since) / (done - before))


def verdict(job: Job) -> int:
    """The exit code for a job that has ended, or that is left at a closed gate."""
    if job["finishedAt"] is None:
        return GATE_CLOSED
    if job["status"] in _VERDICTS:
        return _VERDICTS[job["status"]]
    if job["counts"]["unknown"]:
        return 6  # goes before 1: running these again needs more thought
    return 1 if job["errorCount"] else 0


def show(screen: Screen, news: Iterator[News], now: Callable[[], float] = time.monotonic) -> Job:
    """Show a job until it has ended, and how it ended, as text. Returns the job as it ended."""
    job: Job = {}
    failures: list[dict[str, Any]] = []
    for one in _bar(screen, news, now) if screen.terminal else _lines(screen, news, now):
        job = one.job
        failures += one.failures
    for line in wording.failures(failures[ONE_BY_ONE:]):
        screen.line(line, "red")
    if len(failures) >= FAILURES_TOLD:
        screen.line(f"No more than {len(failures)} failures are told: {command('results', job['id'])}")
    if job["finishedAt"]:
        screen.line(wording.summary(job), style(job))
    elif screen.terminal:
        screen.line(_state(screen, job, None), style(job))
    return job


class _OneByOne:
    """The lines for failures while a job runs: one each for the first, then that there are more."""

    def __init__(self) -> None:
        self._shown = 0

    def lines(self, failures: Sequence[Mapping[str, Any]], job: Job) -> Iterator[str]:
        """The lines for these."""
        left = ONE_BY_ONE - self._shown
        self._shown += len(failures)
        yield from map(wording.failure, failures[: max(left, 0)])
        if 0 <= left < len(failures):
            yield f"Further failures are told at the end; until then: {command('results', job['id'])}"


def frames(news: Iterator[News]) -> Job:
    """Print a JSON object in a line whenever the job has changed. Returns the job as it ended.

    The object is the job without its requests; ``collection`` has the requests that failed since the last
    line.
    """
    job: Job = {}
    for one in news:
        job = one.job
        if one.fresh and one.trouble is None:
            print(json.dumps({**job, "collection": one.failures}), flush=True)  # noqa: T201 - output
    return job


def style(job: Job) -> str:
    """The colour of a job: red when it has ended with failures, else the colour of its status."""
    return "red" if wording.failed(job) and job["finishedAt"] else STYLES[job["status"]]


def _lines(screen: Screen, news: Iterator[News], now: Callable[[], float]) -> Iterator[News]:
    pace, told = Pace(now), _OneByOne()
    before, due_s = None, 0.0
    waiting = False
    for one in news:
        yield one
        left_s = pace.left_s(one.job)
        for line in told.lines(one.failures, one.job):
            screen.line(line)
        why = _held(one)
        if why and not waiting:
            screen.line(why)
        waiting = bool(why)
        condition = wording.condition(one.job)
        due = condition != before or (one.fresh and now() >= due_s)
        if one.job["finishedAt"] is None and not waiting and due:
            screen.line(_state(screen, one.job, left_s))
            before, due_s = condition, now() + LINE_S


def _state(screen: Screen, job: Job, left_s: float | None) -> str:
    advice = wording.advice(job)
    state = wording.state(job, wording.outlook(job, left_s, screen.now()))
    return f"{state}; {advice}" if advice else state


def _bar(screen: Screen, news: Iterator[News], now: Callable[[], float]) -> Iterator[News]:
    pace, told = Pace(now), _OneByOne()
    with Live(console=screen.console, auto_refresh=False, transient=True) as live:
        for one in news:
            yield one
            left_s = pace.left_s(one.job)
            for line in told.lines(one.failures, one.job):
                live.console.print(Text(printable(line), "red"), soft_wrap=True)
            if one.job["finishedAt"] is None:
                live.update(_drawn(screen, one, left_s), refresh=True)


def _drawn(screen: Screen, news: News, left_s: float | None) -> Text:
    """The live text of a job: a bar, its counts, what holds it up, and what the user can do."""
    job = news.job
    done, total = job["doneCount"], job["totalCount"]
    head = f"job {job['id']} {wording.condition(job)} "
    tail = f" {done * 100 // total}%"
    plain = screen.console.options.ascii_only
    drawn = Text().append(head, STYLES[job["status"]])
    drawn.append(bar(job, max(screen.console.width - len(head) - len(tail), NARROWEST), plain=plain))
    drawn.append(tail)
    counts = [(f"{done} of {total} done", ""), (f"{wording.failed(job)} failed", "red")]
    counts += [(f"{job['counts']['sent']} in flight", "cyan")]
    counts += [(wording.outlook(job, None if _held(news) else left_s, screen.now()), "")]
    drawn.append("\n")
    drawn.append(Text(", ").join(Text(text, colour) for text, colour in counts if text))
    for text in (screen.said(_held(news)) or wording.reason(job), wording.advice(job)):
        if text:
            drawn.append(f"\n{printable(text)}", "yellow")
    return drawn


def _held(news: News) -> str:
    """Why a job that is not paused does not go on; empty: it goes on."""
    why = news.trouble or news.waits
    return f"waiting: {why}" if why else ""


def bar(job: Job, width: int, *, plain: bool = False) -> Text:
    """A bar of ``width`` signs, divided as the job's requests are. A part that is not empty has a sign."""
    counts = [sum(job["counts"][status] for status in statuses) for statuses, *_ in PARTS]
    drawn = Text()
    for (_, colour, sign, poor), size in zip(PARTS, _shares(counts, width), strict=True):
        drawn.append((poor if plain else sign) * size, colour)
    return drawn


def _shares(counts: list[int], width: int) -> list[int]:
    """``width`` divided in proportion to ``counts``; each count above 0 gets at least 1."""
    sizes = [max(count * width // max(sum(counts), 1), int(count > 0)) for count in counts]
    largest = max(range(len(sizes)), key=lambda index: counts[index])
    sizes[largest] += width - sum(sizes)
    return sizes
