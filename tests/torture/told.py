"""What a webhook is told: a receiver that fails, hangs and comes back, and the judge of what it was told."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from tests.receiver import Got, Receiver

ENDED, NOT_STARTED = "puppetmaster.job.ended", "puppetmaster.schedule.notStarted"
#: Longer than the bundle waits for an answer.
HANGS_S = 11.0
#: The fields of a job that stay as they are once it has ended.
STEADY = ("status", "finishedAt", "createdAt", "createdBy", "name", "key", "template")


class Listener(Receiver):
    """A receiver that answers badly at times, until it is ``good``, and looks at all that comes."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.answer = self._answer
        self.good = threading.Event()
        #: What is wrong with what came.
        self.broken: list[str] = []
        self._rng = rng
        self._seen: set[str] = set()

    def _answer(self, got: Got) -> tuple[int, Mapping[str, str]] | None:
        try:
            got.checked()
        except Exception as error:  # noqa: BLE001 - whatever the foreign packages raise
            self.broken.append(f"a webhook was told {got.body[:200]!r}, which is not in order: {error!r}")
        again, choice = got.id in self._seen, self._rng.random()
        self._seen.add(got.id)
        if again or self.good.is_set() or choice > 0.15:  # the second time it is good: the waits stay short
            return 204, {}
        if choice < 0.01:
            self.good.wait(HANGS_S)
            return 204, {}  # which nobody may wait for any more
        return None if choice < 0.05 else (500, {})

    def away(self, seconds: float) -> None:
        """Nobody listens, for so long."""
        self.down()
        self.good.wait(seconds)
        self.up()


def told_faults(
    told: Sequence[Got],
    jobs: Mapping[int, Mapping[str, Any]],
    lines: Mapping[int, Sequence[Mapping[str, Any]]],
    removed: Collection[int] = (),
    not_started: Mapping[int, int] | None = None,
) -> Iterator[str]:
    """What is wrong with what a webhook was told that is told of all jobs.

    Args:
        told: what came, each as often as it came.
        jobs: all jobs there are, which have ended.
        lines: the events of each.
        removed: the jobs that were, or may have been, removed.
        not_started: how many starts of each template did not come about; None: these are not looked at.
    """
    bodies: dict[str, bytes] = {}
    for got in told:
        if bodies.setdefault(got.id, got.body) != got.body:
            yield f"{got.id} was told with two bodies"
    events = [json.loads(body) for body in bodies.values()]
    ended = Counter(event["subject"] for event in events if event["type"] == ENDED)
    yield from (f"the end of {it} is told under {many} ids" for it, many in ended.items() if many > 1)
    for id_ in jobs.keys() - {int(subject.rpartition("/")[2]) for subject in ended}:
        yield f"the end of job {id_} was not told"
    starts: Counter[int] = Counter()
    for event in events:
        if event["type"] == NOT_STARTED:
            starts[event["data"]["template"]["id"]] += event["data"]["many"]
        else:
            yield from _of_job(event, jobs, lines, removed)
    if not_started is not None and +starts != +Counter(not_started):
        yield f"of starts that did not come about {dict(starts)} were told, and there were {not_started}"


def _of_job(
    event: Mapping[str, Any],
    jobs: Mapping[int, Mapping[str, Any]],
    lines: Mapping[int, Sequence[Mapping[str, Any]]],
    removed: Collection[int],
) -> Iterator[str]:
    """What is wrong with what was told of a job."""
    data = event["data"]
    id_ = data["job"]["id"]
    if id_ not in jobs:
        if id_ not in removed:
            yield f"{event['type']} of job {id_} was told, and there is no such job"
        return
    if data["event"] not in lines[id_]:
        yield f"{event['type']} of job {id_} was told, and its time line has no {data['event']}"
    if event["type"] == ENDED:
        for name in STEADY:
            if data["job"][name] != jobs[id_][name]:
                yield f"job {id_} was told with {name} {data['job'][name]}, and has {jobs[id_][name]}"


def until_told(waiting: Callable[[], int | None], timeout_s: float) -> bool:
    """Wait until nothing is owed any more; ``waiting``: how many notices wait, None: not known."""
    deadline_s = time.monotonic() + timeout_s
    while waiting() != 0:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.2)
    return True
