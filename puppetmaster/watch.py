"""Following a job over HTTP: what is new of it, how long it may take, and its verdict."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from puppetmaster.client import Client, Refused, Unreachable

POLL_S = 0.3
#: The list of failures is read less often: it is longer than the counts.
FAILURES_S = 1.0
#: So many failures are told one by one; more say nothing more.
FAILURES_TOLD = 500
#: How long puppetmaster may be away while a job is followed: it may be starting again.
PATIENCE_S = 60.0
#: The speed that the time left is reckoned with is that of so much time.
PACE_S = 30.0

FAILED = "error,timeout,unknown"
_VERDICTS = {"aborted": 3, "canceled": 4, "timeout": 5}

Clock = Callable[[], float]
Job = Mapping[str, Any]


class Removed(Refused):
    """The job was removed while it was watched, which cancels it."""

    exit_code = 4


class News(NamedTuple):
    """The job as it is, the requests that have failed since the last news, and what is in the way."""

    job: Job
    failures: list[dict[str, Any]]
    trouble: str | None = None


def follow(
    client: Client, job_id: int, *, pause: Callable[[float], None] = time.sleep, now: Clock = time.monotonic
) -> Iterator[News]:
    """Give news of the job when there are some, until it has ended.

    While puppetmaster is away the last state comes again with ``trouble``, for ``PATIENCE_S``.
    Raises Unreachable; Refused: there is no such job; Removed.
    """
    job: dict[str, Any] = {}
    etag = ""
    failures = _Failures(client, job_id, now)
    away_since: float | None = None
    while True:
        try:
            query = {"collection": "false", "limit": 0}
            answer = client.ask("GET", f"/jobs/{job_id}", query=query, etag=etag)
            changed = answer.data is not None
            if changed:
                job, etag = dict(answer.data), answer.etag
            failed = failures.new(job)
        except Unreachable as error:
            away_since = now() if away_since is None else away_since
            if not job or not error.passing or now() - away_since > PATIENCE_S:
                raise
            yield News(job, [], str(error))
        except Refused as error:
            if not job or error.status != 404:
                raise
            raise Removed(f"Job {job_id} was removed while it was watched.", error.status) from error
        else:
            if changed or failed or away_since is not None:
                yield News(job, failed)
            away_since = None
            if job["finishedAt"] is not None:
                return
        pause(POLL_S)


class _Failures:
    """The failed requests of a job, each told once."""

    def __init__(self, client: Client, job_id: int, now: Clock) -> None:
        self._client = client
        self._job_id = job_id
        self._now = now
        self._told: set[int] = set()
        self._known = 0
        self._read_at = float("-inf")

    def new(self, job: Job) -> list[dict[str, Any]]:
        """Those that have come; the list is read when the counts say so, and at the end at once."""
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


class Pace:
    """How long a job may still take, at its speed of late."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()

    def left_s(self, job: Job) -> float | None:
        """Seconds, or None while that cannot be said: nothing is sent, or nothing has come."""
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
    """The exit code for a job that has ended."""
    if job["status"] in _VERDICTS:
        return _VERDICTS[job["status"]]
    if job["counts"]["unknown"]:
        return 6  # before 1: to send those again is another decision
    return 1 if job["errorCount"] else 0


def state(job: Job, left_s: float | None = None) -> str:
    """How far the job is, in a line."""
    parts = [f"{job['doneCount']} of {job['totalCount']} done", f"{job['errorCount']} failed"]
    parts.append(f"{job['counts']['sent']} in flight")
    if left_s is not None:
        parts.append(f"{duration(left_s)} left")
    if job["reason"]:
        parts.append(job["reason"])
    return f"job {job['id']} {job['status']}: {', '.join(parts)}"


def summary(job: Job) -> str:
    """What became of a job that has ended, in a line."""
    ends = {status: count for status, count in job["counts"].items() if count and status != "resolved"}
    others = ", ".join(f"{count} {status}" for status, count in ends.items())
    text = f"job {job['id']} {job['status']}: {job['finishCount']} of {job['totalCount']} resolved"
    text += f", {others}" if others else ""
    return f"{text}. {job['reason']}" if job["reason"] else f"{text}."


def failure(request: Mapping[str, Any]) -> str:
    """A request that failed, in a line: where, how, why."""
    about = request["__request"]
    result = about["result"]
    code = f" {result['code']}" if result.get("code") is not None else ""
    source = f" from {result['source']}" if result.get("source") else ""
    message = result.get("message") or said(result.get("data"))
    return f"{about['destination']} {about['status']}{code}{source}" + (f": {message}" if message else "")


def said(data: Any) -> str:
    """What a device says of its failure, where it says it as Sanji bundles do."""
    message = data.get("message") if isinstance(data, Mapping) else None
    return message if isinstance(message, str) else ""


def duration(seconds: float) -> str:
    """``12 s``, ``3 min 05 s``, ``2 h 04 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
