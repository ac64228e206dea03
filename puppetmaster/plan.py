"""What a job is to do: its policies in words, and what a dry run would send, when and where."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from json import dumps
from math import ceil
from operator import itemgetter
from typing import Any, NamedTuple

from puppetmaster import names, phrases
from puppetmaster.clock import seconds
from puppetmaster.rollout import Gate, Policy, Retry, Threshold

#: So many patterns of destinations are shown of one step; JSON holds all.
PATTERNS = 12
#: So much of the data of a command is shown; JSON holds all.
LONGEST = 100

Job = Mapping[str, Any]


class Step(NamedTuple):
    """So many requests of one command, one after the other, in the ``wave`` (from 1); ``to`` in ranges."""

    wave: int
    requests: int
    command: str
    to: str


def steps(job: Job) -> list[Step]:
    """What a dry run would send, in order."""
    waves = (wave for wave, size in enumerate(job["waveSizes"], 1) for _ in range(size))
    commands = map(_command, job["requests"])
    destinations = (request["__request"]["destination"] for request in job["requests"])
    found = []
    for (wave, command), group in groupby(zip(waves, commands, destinations, strict=True), itemgetter(0, 1)):
        to = [destination for _, _, destination in group]
        found.append(Step(wave, len(to), command, _folded(to)))
    return found


def _command(request: Mapping[str, Any]) -> str:
    data = request["data"]
    return f"{request['method']} {request['resource']}" + (
        "" if data == {} else f" {phrases.cut(dumps(data), LONGEST)}"
    )


def _folded(destinations: Sequence[str]) -> str:
    patterns = names.fold(destinations)
    if len(patterns) <= PATTERNS:
        return " ".join(patterns)
    return f"{' '.join(patterns[:PATTERNS])} and {len(patterns) - PATTERNS} more"


def policies(job: Job, now_s: float, moment: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Name and sentence of each policy of a job. ``now_s``: seconds since 1970; ``moment`` writes a time."""
    policy = Policy.of(job, job["totalCount"])
    if job.get("waves"):
        sizes = [end - before for before, end in zip((0, *policy.waves), policy.waves, strict=False)]
        yield "waves", ", ".join(map(str, sizes))
        yield "gate", _gate(policy.gate)
    yield "window", _window(policy, job)
    if policy.rate:
        yield "rate", f"at most {policy.rate:g} requests sent per second"
    if job.get("retry"):
        yield "attempts", _retry(policy.retry)
    if policy.abort is not None:
        after = f", once {policy.abort.after} are done" if policy.abort.after > 1 else ""
        yield "abort", f"when {_more_than(policy.abort.errors)} failed{after}"
    if policy.idempotent is not None:
        yield "idempotent", "it may be sent twice" if policy.idempotent else "nothing is sent twice"
    if job.get("requestTimeout"):
        yield "answers", f"within {phrases.duration(job['requestTimeout'])} each"
    if job.get("timeout"):
        yield "timeout", f"{phrases.duration(job['timeout'])} for the whole job"
    if job.get("startAt"):
        left_s = ceil(seconds(job["startAt"]) - now_s)
        when = f", in {phrases.duration(left_s)}" if left_s > 0 else ""
        yield "start", f"not before {moment(job['startAt'])}{when}"


def _window(policy: Policy, job: Job) -> str:
    if policy.concurrency is None:
        return "automatic: it grows while answers come"
    given = job["concurrency"]
    share = f" ({given})" if isinstance(given, str) else ""
    return f"at most {phrases.requests(policy.concurrency)} in flight{share}"


def _gate(gate: Gate) -> str:
    fails = "the job is aborted" if gate.aborts else "the job pauses"
    rest = f"a rest of {phrases.duration(gate.soak_s)} after each wave; " if gate.soak_s else ""
    return f"{rest}{fails} when {_more_than(gate.errors)} of a wave failed"


def _retry(retry: Retry) -> str:
    outcomes = " or ".join(sorted(retry.on))
    first = phrases.duration(retry.delay_s)
    return f"up to {retry.attempts} in all, after {outcomes}; the second {first} later at most"


def _more_than(threshold: Threshold) -> str:
    return "any" if str(threshold) in ("0", "0%") else f"more than {threshold}"
