"""Schedules whose times come every few seconds, and what must have become of each of these times."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puppetmaster.clock import iso
from puppetmaster.model import template
from puppetmaster.model.cron import Cron
from puppetmaster.model.timeline import ITSELF

#: An expression knows whole minutes. In a bundle with this in its environment it comes every so many seconds.
EVERY = "EVERY_S"
EVERY_S = 5
MINUTELY = "* * * * *"
#: So long after a time, and before the next, everything that a bundle at work decides of it is decided.
QUIET_S = (2.0, 4.0)
#: With these a start overlaps with the one before it at times: one that was missed is made up for, or not.
KINDS = [{"missed": one, "overlap": other} for one in ("run", "skip") for other in ("queue", "skip")]
#: The status and the data of an answer; None: none came.
Answer = tuple[int, Any] | None
Ask = Callable[[str, str, Any], Answer]


#: How the key of a job that a schedule has started begins.
BY_SCHEDULE = "template "


class Often(Cron):
    """The times of every expression: each multiple of so many seconds."""

    def after(self, wall_s: float) -> Iterator[float]:
        """All times after ``wall_s``, in order."""
        every_s = int(os.environ.get(EVERY, EVERY_S))
        place = wall_s // every_s
        while True:
            place += 1
            yield place * every_s


def install() -> None:
    """In the process of a bundle: have its schedules start so often, if its environment says so."""
    if EVERY in os.environ:
        template.Cron = Often  # type: ignore[attr-defined]


def next_s() -> float:
    """Seconds until the next time."""
    return EVERY_S - time.time() % EVERY_S


def times(begun_s: float, until_s: float) -> list[str]:
    """The times between, as ISO 8601."""
    return [iso(at_s) for at_s in Often(MINUTELY, "UTC").passed(begun_s, until_s, 10**6)]


def start_faults(
    shown: Mapping[str, Any], jobs: Collection[Mapping[str, Any]], due: Sequence[str], sure: int | None = None
) -> Iterator[str]:
    """What is wrong with the starts of a template.

    Args:
        shown: the template.
        jobs: all its jobs.
        due: the times that have come.
        sure: how many of these are to be decided on; None: all.
    """
    name, started = (
        f"template {shown['id']}",
        [job for job in jobs if str(job["key"]).startswith(BY_SCHEDULE)],
    )
    for job in started:
        if job["createdBy"] != ITSELF:
            yield f"job {job['id']} of {name}, {job['key']}, is said to be created by {job['createdBy']}"
    count = Counter(job["key"].removeprefix(f"{name}: ") for job in started)
    for at, many in count.items():
        if many > 1:
            yield f"{name} was started {many} times for {at}"
        if at not in due:
            yield f"{name} was started for {at}, which is none of its times"
    starts = shown["starts"]
    if starts["started"] != len(started):
        yield f"{name} has {len(started)} jobs by its schedule, and tells of {starts['started']}"
    told = sum(starts[one] for one in ("started", "missed", "skipped", "failed")) + bool(shown["queuedAt"])
    if not (len(due) if sure is None else sure) <= told <= len(due):
        yield f"{name} was due {sure} to {len(due)} times, and tells of {told}: {starts}"


@dataclass(slots=True)
class Kept:
    """A template that is there."""

    id: int
    #: The body of its jobs, once they are to be quick.
    quick: Mapping[str, Any]
    #: When it was asked for, and when that was answered (wall clock); the same of the end of its schedule.
    asked_s: float
    answered_s: float
    ending_s: float = 0.0
    ended_s: float = 0.0


class Schedules:
    """Templates that are put at the begin of a run, and switched off at its end.

    ``ask`` asks a bundle, which may give no answer. ``job`` makes the body of a template's jobs, of its
    name and of whether they are to take longer than from one time to the next.
    """

    def __init__(self, ask: Ask, job: Callable[[str, bool], dict[str, Any]]) -> None:
        self._ask = ask
        self._job = job
        self.kept: list[Kept] = []

    def begin(self) -> None:
        """Put a template of each kind. The starts of some are in each other's way."""
        for number, kind in enumerate(KINDS, 1):
            name = f"template-{number}"
            job = self._job(name, kind["missed"] == "run")
            body = {"name": name, "job": job, "schedule": {"cron": MINUTELY, **kind}}
            asked_s = time.time()
            id_ = self._put(name, body)
            self.kept.append(Kept(id_, self._job(name, False), asked_s, time.time()))

    def _put(self, name: str, body: Mapping[str, Any]) -> int:
        """The id of a new template, though the first answer may be lost."""
        while True:
            self._asked("post", "/templates", body, (200, 409))
            for one in self._asked("get", f"/templates?name={name}", None):
                return int(one["id"])

    def end(self) -> None:
        """Let all that is queued begin, and switch the schedules off between two times."""
        for one in self.kept:
            self._asked("put", f"/templates/{one.id}", {"job": one.quick})
        pause = threading.Event()
        for one in self.kept:
            while True:
                shown = self._asked("get", f"/templates/{one.id}", None)
                if shown["queuedAt"] is None and QUIET_S[0] < time.time() % EVERY_S < QUIET_S[1]:
                    break
                pause.wait(0.1)
            one.ending_s = time.time()
            self._asked("put", f"/templates/{one.id}", {"schedule": {**shown["schedule"], "enabled": False}})
            one.ended_s = time.time()

    def faults(self, jobs: Collection[Mapping[str, Any]]) -> Iterator[str]:
        """What is wrong with the starts, of all jobs there are; after ``end``."""
        for one in self.kept:
            shown = self._asked("get", f"/templates/{one.id}", None)
            sure = len(times(one.answered_s, one.ending_s))
            yield from start_faults(
                shown,
                [job for job in jobs if job["template"] == one.id],
                times(one.asked_s, one.ended_s),
                sure,
            )

    def told(self) -> dict[int, int]:
        """How many starts of each template did not come about."""
        found = {}
        for one in self.kept:
            starts = self._asked("get", f"/templates/{one.id}", None)["starts"]
            found[one.id] = sum(starts[name] for name in ("missed", "skipped", "failed"))
        return found

    def _asked(self, method: str, path: str, body: Any, good: Sequence[int] = (200,)) -> Any:
        """The data of the answer, as soon as there is a good one."""
        pause, answer = threading.Event(), None
        for _ in range(600):
            answer = self._ask(method, path, body)
            if answer is not None and answer[0] in good:
                return answer[1]
            pause.wait(0.1)
        raise RuntimeError(f"no answer to {method} {path}: {answer}")
