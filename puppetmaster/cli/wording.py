"""Jobs, requests, times and durations in words, each in a line.

A ``Job`` is the job object of the API.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, groupby, pairwise
from json import dumps
from math import ceil
from operator import itemgetter
from typing import Any, NamedTuple

from puppetmaster import ranges
from puppetmaster.cli import called
from puppetmaster.clock import seconds
from puppetmaster.model.policy import Policy, Threshold
from puppetmaster.model.request import FAILURES
from puppetmaster.model.spec import starts_at_once

Job = Mapping[str, Any]

#: The times of a policy: property, name, and sentence.
_TIMES = (
    ("deliveryTimeout", "delivery", "waits up to {} for a gateway that is away"),
    ("requestTimeout", "answers", "within {} each"),
    ("timeout", "timeout", "{} for the whole job"),
)
#: What ``idempotent`` says.
_TWICE = {True: "what may have run is sent again", False: "what may have run is not sent again"}
#: Statuses of requests that ran and failed, or may have run.
FAILED = tuple(status.value for status in FAILURES)
#: Codes of reasons whose sentences say the status too: ``paused by a request``.
SELF_SAID = ("paused", "canceled")
#: Most patterns of destinations that are shown of a step; JSON has all.
PATTERNS = 12
#: Most characters that are shown of a command's data; JSON has all.
LONGEST = 100


# -- jobs -----------------------------------------------------------------------------------------


def failed(job: Job) -> int:
    """Number of requests that ran and failed, or may have run. ``errorCount`` also counts those never run."""
    return int(sum(job["counts"][status] for status in FAILED))


def status(job: Job) -> str:
    """The job's status with the number of failures: ``resolved``, ``resolved, 16 failed``."""
    return f"{job['status']}, {failed(job)} failed" if failed(job) else str(job["status"])


def condition(job: Job) -> str:
    """The job's status as it follows ``job 7`` in a sentence: ``paused by a request``, ``stopping``."""
    if job.get("reasonCode") == job["status"] and job["reasonCode"] in SELF_SAID:
        return str(job["reason"])
    return "stopping" if stopping(job) else str(job["status"])


def stopping(job: Job) -> bool:
    """Whether the job is being stopped while requests are still in flight."""
    return job.get("ending") is not None


def reason(job: Job) -> str:
    """The job's reason; empty: it has none, or ``condition`` says it already."""
    return "" if not job["reason"] or job["reason"] == condition(job) else str(job["reason"])


def state(job: Job, ahead: str = "") -> str:
    """How far an open job is, with its ``outlook`` (``ahead``), and why it does not go on."""
    counts = [f"{job['doneCount']} of {job['totalCount']} done", f"{failed(job)} failed"]
    counts += [f"{job['counts']['sent']} in flight", *([ahead] if ahead else [])]
    because = f"; {reason(job)}" if reason(job) else ""
    return f"job {job['id']} {condition(job)}: {', '.join(counts)}{because}"


def outlook(job: Job, left_s: float | None, now_s: float) -> str:
    """What the job waits for, or how long it may still take; empty: not known.

    ``left_s`` is how long it takes at its recent speed (None: not known); ``now_s`` is seconds since 1970.
    """
    pending, sent = job["counts"]["pending"], job["counts"]["sent"]
    held = job["status"] == "paused" or stopping(job)
    if job["status"] == "pending" and job.get("startAt"):
        return f"starts in {duration(ceil(max(seconds(job['startAt']) - now_s, 1)))}"
    if job.get("gateStatus") == "soak":
        return f"wave {job['wave']} is done and rests"
    if sent and (held or not pending):
        return f"waiting for {_count(sent, 'answer')}"
    if sent and job.get("waves") and pending == job["totalCount"] - _wave_end(job):
        return f"wave {job['wave']} waits for {_count(sent, 'answer')}"
    return "" if left_s is None or held else f"{duration(ceil(max(left_s, 1)))} left"


def _wave_end(job: Job) -> int:
    """Number of requests up to the end of the job's open wave."""
    return int(job["waveEnds"][job["wave"] - 1])


def advice(job: Job) -> str:
    """What the user can do about a paused job; empty: the job is not paused."""
    if job["status"] != "paused" or stopping(job):
        return ""
    return f"{called.command('resume', job['id'])} sends on, {called.command('cancel', job['id'])} ends it"


def summary(job: Job) -> str:
    """How a job has ended, in a line."""
    because = f", because {reason(job)}" if reason(job) else ""
    return f"job {job['id']} {condition(job)}{_after(job)}: {_ends(job)}{because}."


def removal(job: Job) -> str:
    """The line for a job that was removed. ``job`` is the job as it was before."""
    if job.get("reasonCode") == "removed":
        return f"job {job['id']} is stopped and removed: {_ends(job)}."
    return f"job {job['id']} is removed; it was {status(job)}."


def targets(job: Mapping[str, Any]) -> str:
    """Which gateways were looked for when the job was created, and how many there were; empty: none were."""
    said = []
    for one in job.get("targets", ()):
        asked = " and ".join(one[name] for name in ("selector", "match") if name in one) or "all"
        out = f" without {', '.join(one['except'])}" if "except" in one else ""
        said.append(f"{asked}{out} ({one['found']})")
    return "; ".join(said)


def opened_gates(job: Job, moment: Callable[[str], str]) -> str | None:
    """The gates that failed and that somebody opened; None: there are none. ``moment`` formats a time."""
    said = [
        f"behind wave {gate['wave']} over {_over(gate['failed'], job)}, {moment(gate['at'])}"
        for gate in job.get("openedGates", ())  # an older bundle has none
    ]
    return "; ".join(said) or None


def _over(failed: int, job: Job) -> str:
    stops = job.get("onFail") == "stop"
    return f"{_count(failed, 'gateway')} that failed" if stops else _count(failed, "failure")


def _ends(job: Job) -> str:
    ends = {status: count for status, count in job["counts"].items() if count and status != "resolved"}
    others = "".join(f", {count} {status}" for status, count in ends.items())
    return f"{job['finishCount']} of {job['totalCount']} resolved{others}"


def warning(job: Job) -> str:
    """A warning before failures are run again; empty: none of them may have run."""
    perhaps = job["counts"]["timeout"] + job["counts"]["unknown"]
    return f" ({perhaps} of them may have run already)" if perhaps else ""


def _after(job: Job) -> str:
    took_s = took(job)
    return "" if took_s is None else f" after {duration(took_s)}"


def took(job: Job) -> float | None:
    """Seconds from the job's start to its end; None: it has not ended, or never started."""
    if not job.get("startedAt") or not job["finishedAt"]:
        return None
    return max(seconds(job["finishedAt"]) - seconds(job["startedAt"]), 0.0)


def past_start(job: Job) -> str:
    """That it began at once, because its time to start was past; else nothing."""
    return starts_at_once(job.get("startAt"), seconds(job["createdAt"]))


def jobs(numbers: Sequence[int]) -> str:
    """``job 7``, ``jobs 7, 8 and 9``."""
    if len(numbers) == 1:
        return f"job {numbers[0]}"
    return f"jobs {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def in_steps(job: Job) -> bool:
    """Whether the job has several commands, and an order of them at each gateway."""
    ordered = job.get("onFail") == "stop" or bool(job.get("waves"))
    return ordered and bool(re.search(r" and \d+ more$", job.get("summary") or ""))


def requests(count: int) -> str:
    """``1 request``, ``20 requests``."""
    return _count(count, "request")


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# -- requests -------------------------------------------------------------------------------------


def failure(request: Mapping[str, Any]) -> str:
    """A failed request in a line: destination, status, code, source and message."""
    return f"{request['__request']['destination']} {outcome(request['__request'])}"


def failures(requests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Failed requests, a line for all that failed in the same way; the longest such list comes first."""
    alike: dict[str, list[str]] = {}
    for one in sorted(requests, key=itemgetter("id")):
        alike.setdefault(outcome(one["__request"]), []).append(one["__request"]["destination"])
    ordered = sorted(alike.items(), key=lambda group: -len(group[1]))
    return [f"{len(to)} more: {folded(to)} {how}" for how, to in ordered]


def deciding(steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Which of a gateway's requests says how it stands.

    The first that failed, else the first that is not resolved, else the last.
    """
    failed = (one for one in steps if _status(one) in FAILED)
    unresolved = (one for one in steps if _status(one) != "resolved")
    return next(chain(failed, unresolved), steps[-1])


def _status(request: Mapping[str, Any]) -> str:
    return str(request["__request"]["status"])


def progress(steps: Sequence[Mapping[str, Any]]) -> str:
    """The statuses of a gateway's requests in their order: ``2 resolved, error, 3 skipped``."""
    statuses = [(status, len(list(same))) for status, same in groupby(map(_status, steps))]
    return ", ".join(status if count == 1 else f"{count} {status}" for status, count in statuses)


def outcome(attempt: Mapping[str, Any]) -> str:
    """How a request is, or how an attempt of it ended: status, code, source, and message or reason."""
    result = attempt["result"]
    code = f" {result['code']}" if result.get("code") is not None else ""
    source = f" from {result['source']}" if result.get("source") else ""
    message = attempt.get("why") or result.get("message") or said(result.get("data"))
    late = ", late" if result.get("late") else ""
    return f"{attempt['status']}{code}{source}{late}" + (f": {message}" if message else "")


def said(data: Any) -> str:
    """The message in a device's data, where Sanji bundles put it; empty: there is none."""
    message = data.get("message") if isinstance(data, Mapping) else None
    return message if isinstance(message, str) else ""


def cut(text: str, longest: int) -> str:
    """``text``, cut to ``longest`` characters with two dots at the end if it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 2]}.."


# -- times ----------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 04 min``, ``3 d 04 h``."""
    if seconds < 9.95:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def age(at: str, now_s: float) -> str:
    """How long ago ``at`` (ISO 8601) was, in its largest unit: ``12 s``, ``3 min``, ``2 h``, ``5 d``."""
    gone_s = max(int(now_s - seconds(at)), 0)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if gone_s >= unit:
            return f"{gone_s // unit} {name}"
    return f"{gone_s} s"


def local(at: str) -> str:
    """The time ``at`` (ISO 8601) in the local time zone: ``2026-01-02 11:04:05``."""
    return datetime.fromtimestamp(seconds(at)).strftime("%Y-%m-%d %H:%M:%S")


class Step(NamedTuple):
    """Successive requests of a dry run that have the same command and wave."""

    #: Number of the wave, from 1.
    wave: int
    #: How many requests.
    requests: int
    command: str
    #: Their destinations, in ranges.
    to: str


def steps(job: Job) -> list[Step]:
    """The steps of a dry run: of each wave the commands, in the order in which each is first sent."""
    waves = (wave for wave, size in enumerate(job["waveSizes"], 1) for _ in range(size))
    found: dict[tuple[int, str], list[str]] = {}
    for wave, request in zip(waves, job["requests"], strict=True):
        found.setdefault((wave, _command(request)), []).append(request["__request"]["destination"])
    return [Step(wave, len(to), command, folded(to)) for (wave, command), to in found.items()]


def _command(request: Mapping[str, Any]) -> str:
    return f"{request['method']} {request['resource']} {shortly(request['data'])}".rstrip()


def shortly(data: Any) -> str:
    """The data of a command, cut; empty: there are none."""
    return "" if data == {} else cut(dumps(data), LONGEST)


def folded(destinations: Sequence[str]) -> str:
    """Destinations in ranges, the first ``PATTERNS`` of them."""
    return few(ranges.fold(destinations))


def few(patterns: Sequence[str]) -> str:
    """The first ``PATTERNS`` of these, and how many more there are."""
    if len(patterns) <= PATTERNS:
        return " ".join(patterns)
    return f"{' '.join(patterns[:PATTERNS])} and {len(patterns) - PATTERNS} more"


def policies(job: Job, now_s: float, moment: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Name and sentence of each policy of a job. ``now_s``: seconds since 1970; ``moment`` formats a time."""
    policy = Policy.of(job, job["totalCount"], ends=job.get("waveEnds"))
    if job.get("waves"):
        sizes = [end - before for before, end in pairwise((0, *policy.waves))]
        yield "waves", ", ".join(map(str, sizes)) + (" requests" if in_steps(job) else "")
        yield "gate", _gate(policy)
    if policy.stops:
        yield "steps", "one after the other at each gateway, and no more there once one failed"
    yield "concurrency", _concurrency(policy, job)
    if policy.rate:
        yield "rate", f"at most {policy.rate:g} requests sent per second"
    if job.get("retry"):
        yield "attempts", _retry(policy)
    if policy.abort is not None:
        after = f", once {policy.abort.after} are done" if policy.abort.after > 1 else ""
        what = f" {policy.what}" if policy.stops else ""
        yield "abort", f"when {_more_than(policy.abort.errors)}{what} failed{after}"
    if policy.idempotent is not None:
        yield "idempotent", _TWICE[policy.idempotent]
    yield from _times(policy, job, now_s, moment)
    if job.get("notify"):
        yield "tells", ", ".join(job["notify"])


def _times(policy: Policy, job: Job, now_s: float, moment: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The policies that are times, as ``policies`` has them."""
    if (windows := policy.maintenance) is not None:
        at = f"{windows.cron} ({windows.timezone})"
        yield "maintenance", f"sent only at {at}, for {duration(windows.duration_s)} each"
    for place, name, said in _TIMES:
        if job.get(place):
            yield name, said.format(duration(job[place]))
    if job.get("startAt"):
        yield "start", _start(job, now_s, moment)


def _concurrency(policy: Policy, job: Job) -> str:
    if policy.concurrency is None:
        return "automatic: it grows while answers come"
    given = job["concurrency"]
    share = f" ({given})" if isinstance(given, str) else ""
    return f"at most {requests(policy.concurrency)} in flight{share}"


def _gate(policy: Policy) -> str:
    gate = policy.gate
    whose = "the gateways of a wave" if policy.stops else "a wave"
    fails = "the job is aborted" if gate.aborts else "the job pauses"
    rest = f"a rest of {duration(gate.soak_s)} after each wave; " if gate.soak_s else ""
    return f"{rest}{fails} when {_more_than(gate.errors)} of {whose} failed"


def _retry(policy: Policy) -> str:
    after = policy.again_after(policy.idempotent)
    if not after:
        return "one: what may have run is not sent again"
    return f"up to {policy.retry.attempts} in all, after {after}; the second {policy.retry.pauses}"


def _start(job: Job, now_s: float, moment: Callable[[str], str]) -> str:
    at = moment(job["startAt"])
    if past_start(job):
        return f"at once: {at} was past"
    left_s = ceil(seconds(job["startAt"]) - now_s)
    return f"not before {at}" + (f", in {duration(left_s)}" if left_s > 0 else "")


def _more_than(threshold: Threshold) -> str:
    return "any" if str(threshold) in ("0", "0%") else f"more than {threshold}"
