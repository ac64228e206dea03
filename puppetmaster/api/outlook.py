"""What a job would do, in sentences. The page and the command line show them as they are."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from json import dumps
from typing import Any

from puppetmaster.api.gateways import Registration
from puppetmaster.clock import iso, seconds
from puppetmaster.model.job import Job
from puppetmaster.model.policy import Abort, Gate, Policy, Threshold, adding_nobody, ends_of
from puppetmaster.model.spec import JobSpec, starts_at_once
from puppetmaster.model.template import Missed, Overlap, Template

#: Most waves whose sizes are listed, and most waves that add nobody.
TOLD = 10


def sentences(spec: JobSpec, job: Job) -> list[str]:
    """How many requests a job has, in which order, what stops it, what is sent twice, and what is odd."""
    policy = job.policy
    gateways = len({destination for item in spec.items for destination in item.destinations})
    found = [
        *(_found(target) for target in job.given.get("targets", ())),
        f"{_count(job.total, 'request')} to {_count(gateways, 'gateway')}: {job.summary}.",
        _order(policy, job, gateways if spec.by_gateway else None),
        *_windows(policy, job),
        *_absent(policy),
        _stops(policy, job),
        _twice(policy, _may_run_twice(policy, spec)),
    ]
    return [*found, *_odd(job, gateways if spec.by_gateway else None)]


def starts(template: Template, wall_s: float) -> list[str]:
    """When a template starts by itself, and what becomes of a start that is missed or overlaps."""
    schedule = template.schedule
    if schedule is None:
        return ["It is started by hand."]
    if not schedule.enabled:
        return ["Its schedule is off: it is started by hand."]
    first = next(iter(template.upcoming(wall_s, 1)), None)
    begins = "once the clock is set" if first is None else f"first at {iso(first)}"
    missed = {Missed.SKIP: "is left out", Missed.RUN: "is made up for, once for all that were missed"}
    overlap = {Overlap.SKIP: "is left out", Overlap.QUEUE: "waits for that to end, one at most"}
    return [
        f"It starts by itself at {schedule.cron} ({schedule.timezone}), {begins}; a start that was missed "
        f"{missed[schedule.missed]}, and a start while a job of it has not ended {overlap[schedule.overlap]}."
    ]


def registration(found: Registration) -> Iterator[str]:
    """Which gateways the controller does not know, and of how many that could not be found out."""
    total, missing = _count(found.gateways, "gateway"), len(found.missing)
    if missing:
        are = "is" if missing == 1 else "are"
        yield f"{missing} of {total} {are} not registered: {_listed(found.missing)}."
    if found.unanswered:
        are = "is" if found.unanswered == 1 else "are"
        yield f"Whether {found.unanswered} of {total} {are} registered was not found out in time."


def _found(target: Mapping[str, Any]) -> str:
    """How many gateways an item is for that does not name them."""
    asked = [target[name] for name in ("selector", "match") if name in target]
    out = f", without {_listed(target['except'])}" if "except" in target else ""
    which = " and ".join(asked) or "all that are known"
    return f"batch[{target['item']}] is for {_count(target['found'], 'gateway')}: {which}{out}."


def _order(policy: Policy, job: Job, gateways: int | None) -> str:
    """In which order requests are sent. ``gateways``: number of gateways, if waves count them; else None."""
    if job.total == 1:
        return "It is sent as soon as its gateway is free."
    pace = "as many at once as answers come for"
    if policy.concurrency is not None:
        pace = f"at most {policy.concurrency} at once"
    rate = f" and {policy.rate:g} a second" if policy.rate else ""
    order = f"in the order of the batch, past gateways that are busy, {pace}{rate}"
    if policy.stops:
        order += "; a gateway gets each request when its one before ended well, and no more when that failed"
    if len(policy.waves) == 1:
        return f"They are sent {order}."
    ends = policy.waves if gateways is None else ends_of(job.given["waves"], gateways)
    sizes = [str(end - before) for before, end in pairwise((0, *ends))]
    rest = f" and has rested for {policy.gate.soak_s:.15g} s" if policy.gate.soak_s else ""
    what = "" if gateways is None else " gateways"
    waves = f"in {len(sizes)} waves of {_listed(sizes)}{what}, each when the one before it is done{rest}"
    return f"They are sent {waves}; within a wave {order}."


def _windows(policy: Policy, job: Job) -> Iterator[str]:
    """When requests may be sent, unless that is at any time."""
    windows = policy.maintenance
    if windows is None:
        return
    wall_s = max(seconds(job.created_at), seconds(job.start_at or job.created_at))
    is_open, until_s = windows.at(wall_s)
    now = "the next one opens once the clock is set"
    if until_s is not None:
        now = f"one is open until {iso(until_s)}" if is_open else f"the next one opens at {iso(until_s)}"
    yield (
        f"Requests are sent only in maintenance windows of {windows.duration_s:.15g} s, at {windows.cron} "
        f"({windows.timezone}); {now}. Outside of them requests wait."
    )
    if (
        job.timeout_s is not None
        and not is_open
        and until_s is not None
        and until_s - wall_s >= job.timeout_s
    ):
        yield "Its timeout is over before a window opens: nothing is sent."


def _absent(policy: Policy) -> Iterator[str]:
    """What becomes of requests whose gateways are away, unless they end at once."""
    if policy.delivery_s:
        yield (
            f"A request to a gateway that is away waits for it for up to {policy.delivery_s:.15g} s, keeps "
            "nobody else from being sent, and is sent when the gateway is back."
        )


def _stops(policy: Policy, job: Job) -> str:
    """What ends the job, or pauses it, before all requests are tried."""
    found = list(_stopping(policy, job))
    if not found:
        return "Nothing stops it by itself: each request is tried, however many fail."
    return f"It {'; it '.join(found)}."


def _stopping(policy: Policy, job: Job) -> Iterator[str]:
    if policy.abort is not None:
        total, those = (job.gateways or 0, "the gateways") if policy.stops else (job.total, "those")
        yield _aborts(policy.abort, total, those)
    if len(policy.waves) > 1:
        yield _pauses(policy.gate, "the gateways of a wave" if policy.stops else "a wave")
    if job.timeout_s is not None:
        yield f"ends {job.timeout_s:.15g} s after its start, done or not"


def _aborts(abort: Abort, total: int, those: str) -> str:
    if abort.after >= total:
        return f"is not aborted, however many fail: that is looked at once {abort.after} are done, of {total}"
    once = f", looked at once {abort.after} are done" if abort.after > 1 else ""
    return f"is aborted when {_more_than(abort.errors)} of {those} that are done failed{once}"


def _pauses(gate: Gate, wave: str) -> str:
    fails = "is aborted" if gate.aborts else "pauses"
    return f"{fails} when {_more_than(gate.errors)} of {wave} but the last failed"


def _more_than(errors: Threshold) -> str:
    return f"more than {errors}" if errors.count or errors.percent else "any"


def _may_run_twice(policy: Policy, spec: JobSpec) -> bool | None:
    """Whether all requests may run twice; None: only those with the method ``get``."""
    some = {policy.repeats(item.method) for item in spec.items}
    return some.pop() if len(some) == 1 else None


def _twice(policy: Policy, twice: bool | None) -> str:
    lost = {
        True: "what was in flight when the bundle or the bus went away is sent again too",
        False: "what may have run, as after a timeout, is not sent again",
        None: "of what may have run, as after a timeout, only a get is sent again",
    }[twice]
    after = policy.again_after(twice)
    if after:
        most = f"Each request is sent up to {policy.retry.attempts} times, again after {after}"
        return f"{most}, {policy.retry.pauses}; {lost}."
    return {
        True: "Only what was in flight when the bundle or the bus went away is sent twice.",
        False: f"Nothing is sent twice: {lost}.",
        None: "Only a get that was in flight when the bundle or the bus went away is sent twice.",
    }[twice]


def _odd(job: Job, gateways: int | None) -> Iterator[str]:
    """What the creator of the job may not have meant."""
    if at_once := starts_at_once(job.start_at, seconds(job.created_at)):
        yield f"It {at_once}."
    waves, among = job.given.get("waves", ()), gateways or job.total
    if nobody := [f"waves[{place}] ({dumps(waves[place])})" for place in adding_nobody(waves, among)]:
        add = "adds nobody: it ends" if len(nobody) == 1 else "add nobody: they end"
        where = f"where the one before {'it' if len(nobody) == 1 else 'them'} does"
        whom = _count(among, "request" if gateways is None else "gateway")
        yield f"Of {whom}, {_listed(nobody)} {add} {where}."


def _listed(some: Sequence[str]) -> str:
    """``1, 1 and 18``; of many only the first ``TOLD``."""
    shown, left = list(some[:TOLD]), len(some) - TOLD
    if left > 0:
        shown.append(f"{left} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
