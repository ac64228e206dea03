"""How a job is rolled out: waves, gates, retries and the other optional properties of the API, as values.

A policy is pure: its answers depend on the arguments only. A job keeps the properties as they were given, and
``Policy.of`` reads them again after a restart. ``api.fields`` has checked them by then.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from puppetmaster.model.maintenance import Maintenance
from puppetmaster.model.request import RequestStatus
from puppetmaster.model.why import Reason, Said

#: Outcomes after which a request may be tried again, by their names in ``retry.on``.
RETRIED = (RequestStatus.TIMEOUT, RequestStatus.ERROR)
#: The statuses of requests that a rerun may take into another job.
RERUN = (
    RequestStatus.ERROR,
    RequestStatus.TIMEOUT,
    RequestStatus.UNKNOWN,
    RequestStatus.SKIPPED,
    RequestStatus.CANCELED,
)
#: The smallest random factor of a retry's delay (the largest is 1), so that retries spread out.
JITTER = 0.5
#: A percentage of failures says nothing of fewer requests.
LEAST_DONE = 10


@dataclass(frozen=True, slots=True)
class Threshold:
    """The most failures that are allowed. Either ``count`` or ``percent`` is set."""

    #: Most failures.
    count: int | None = None
    #: Most failures as a percentage of the requests that are looked at.
    percent: float | None = None

    @classmethod
    def of(cls, given: int | str) -> "Threshold":
        """The threshold for a number (``5``) or a percentage (``"10%"``)."""
        return cls(percent=_percent(given)) if isinstance(given, str) else cls(count=given)

    def passed(self, failed: int, among: int) -> bool:
        """Whether ``failed`` of ``among`` requests are more than are allowed."""
        if self.count is not None:
            return failed > self.count
        return failed * 100 > (self.percent or 0.0) * among

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class Retry:
    """When a request gets another attempt."""

    #: Most attempts, the first one included.
    attempts: int = 1
    #: The outcomes after which another attempt follows.
    on: frozenset[RequestStatus] = frozenset(RETRIED)
    #: Delay before the second attempt.
    delay_s: float = 5.0
    #: The factor by which each further delay is longer.
    factor: float = 2.0
    #: Longest delay.
    max_delay_s: float = 300.0

    def wait_s(self, attempts: int) -> float:
        """Seconds to wait after this number of attempts: longer each time, times a random factor."""
        # The exponent has a bound so that the power is never too large for a float.
        longest_s = min(self.delay_s * self.factor ** min(attempts - 1, 64), self.max_delay_s)
        return longest_s * random.uniform(JITTER, 1.0)

    @property
    def pauses(self) -> str:
        """How long it waits before each further attempt: ``2.5 to 5 s later``."""
        first_s = min(self.delay_s, self.max_delay_s)
        if not first_s:
            return "at once"
        said = f"{first_s * JITTER:.15g} to {first_s:.15g} s later"
        if self.attempts < 3 or self.factor == 1 or first_s == self.max_delay_s:
            return said
        return f"{said}, then {self.factor:g} times as long each time, at most {self.max_delay_s:.15g} s"


@dataclass(frozen=True, slots=True)
class Abort:
    """When a job sends no more requests, because too many have failed."""

    #: Most failures among the requests that are done.
    errors: Threshold
    #: The job is not aborted before this number of requests is done.
    after: int = 1


@dataclass(frozen=True, slots=True)
class Gate:
    """What stands between two waves."""

    #: Most failures of the wave with which the gate opens.
    errors: Threshold = Threshold(count=0)
    #: How long the gate waits after the wave before it opens.
    soak_s: float = 0.0
    #: Whether a gate that does not open aborts the job. If not, it pauses the job.
    aborts: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """All that decides when a job's requests are sent, sent again, and sent no more."""

    #: For each wave the number of requests at which it ends, counted from the job's first request. The last
    #: is the number of all requests.
    waves: tuple[int, ...]
    #: Most requests in flight; None: the adaptive window decides.
    concurrency: int | None = None
    #: Most requests sent per second; None: no limit.
    rate: float | None = None
    #: Whether a request may be sent again when it may have run; None: only reads may.
    idempotent: bool | None = None
    retry: Retry = Retry()
    #: None: the job is never aborted because of failures.
    abort: Abort | None = None
    #: The gate between any two waves.
    gate: Gate = Gate()
    #: How long a request waits for a gateway that is away; 0: not at all.
    delivery_s: float = 0.0
    #: Whether a gateway gets its requests one after the other, and no more once one of them has failed.
    #: Then a gateway fails once at most, and ``abort`` and ``gate`` count gateways.
    stops: bool = False
    #: For each wave the number of gateways at which it ends; None: the gate counts requests.
    in_gateways: tuple[int, ...] | None = None
    #: When requests may be sent; None: at any time.
    maintenance: Maintenance | None = None

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any],
        total: int,
        gateways: int | None = None,
        ends: Sequence[int] | None = None,
    ) -> "Policy":
        """The policy of a job of ``total`` requests, from its properties as they were given to the API.

        ``gateways``: how many gateways it has; None: nothing of it counts them. ``ends``: the number of
        requests at which each wave ends; None: the waves are counted in requests.
        """
        stops = given.get("onFail") == "stop"
        waves = ends_of(given.get("waves") or (), total) if ends is None else tuple(ends)
        return cls(
            waves=waves,
            delivery_s=given.get("deliveryTimeout") or 0.0,
            stops=stops,
            in_gateways=ends_of(given.get("waves") or (), gateways) if stops and gateways else None,
            concurrency=_share(given["concurrency"], total) if given.get("concurrency") else None,
            rate=given.get("rate"),
            idempotent=given.get("idempotent"),
            retry=_retry(given.get("retry") or {}),
            abort=_abort(given.get("abort")),
            gate=_gate(given.get("gate") or {}),
            maintenance=Maintenance.of(given.get("maintenance")),
        )

    def repeats(self, method: str) -> bool:
        """Whether a request of ``method`` may be sent again when it is unknown whether it ran."""
        return method == "get" if self.idempotent is None else self.idempotent

    def tries_again(self, outcome: RequestStatus, attempts: int, method: str, *, may_have_run: bool) -> bool:
        """Whether a request that would end as ``outcome`` after ``attempts`` gets another attempt.

        A request that may have run gets another only if ``repeats`` allows that.
        """
        if attempts >= self.retry.attempts or outcome not in self.retry.on:
            return False
        return not may_have_run or self.repeats(method)

    def again_after(self, twice: bool | None) -> str:
        """After what there is another attempt: ``an error or a timeout``; nothing: after nothing.

        ``twice``: whether the requests may run twice; None: those with the method ``get`` may.
        """
        error = "an error" if RequestStatus.ERROR in self.retry.on else ""
        timeout = {True: "a timeout", False: "", None: "a timeout of a get"}[twice]
        timed = timeout if RequestStatus.TIMEOUT in self.retry.on else ""
        return " or ".join(filter(None, (error, timed))) if self.retry.attempts > 1 else ""

    def aborts(self, failed: int, done: int) -> Said | None:
        """Why the job is aborted when ``failed`` of ``done`` requests have failed; None: it goes on."""
        abort = self.abort
        if abort is None or done < abort.after or not abort.errors.passed(failed, done):
            return None
        return Reason.ERRORS.said(failed=failed, done=done, errors=abort.errors, what=self.what)

    @property
    def what(self) -> str:
        """What ``abort`` and ``gate`` count."""
        return "gateways" if self.stops else "requests"

    def gate_fails(self, wave: int, failed: int) -> Said | None:
        """Why the gate after ``wave`` (from 1) does not open after ``failed`` failures; None: it opens."""
        ends = (0, *(self.in_gateways or self.waves))
        size = ends[wave] - ends[wave - 1]
        if not self.gate.errors.passed(failed, size):
            return None
        said = {"failed": failed, "size": size, "errors": self.gate.errors, "what": self.what}
        return Reason.GATE.said(wave=wave, **said)


def wave_of(waves: Sequence[int], index: int) -> int:
    """The wave, from 1, of the request at ``index`` (from 0) in its job."""
    return next(number for number, end in enumerate(waves, 1) if index < end)


def wave_ends(given: Sequence[int | str], total: int) -> list[int]:
    """The number of requests at which each of the waves ends, as they were given, in a job of ``total``."""
    return [min(_share(one, total), total) for one in given]


def ends_by_gateway(given: Sequence[int | str], requests: Sequence[int]) -> tuple[int, ...]:
    """The number of requests at which each wave ends, when waves are counted in gateways.

    ``requests`` is how many requests each gateway has, in their order.
    """
    upto = list(accumulate(requests))
    return tuple(upto[end - 1] for end in ends_of(given, len(upto)))


def out_of_order(given: Sequence[int | str], total: int) -> Iterator[tuple[int, int, int]]:
    """Each wave that would end before the one before it: its place, where that one ends, where it would."""
    for place, (before, end) in enumerate(pairwise(wave_ends(given, total)), 1):
        if end < before:
            yield place, before, end


def adding_nobody(given: Sequence[int | str], total: int) -> list[int]:
    """The places of the waves that end where the one before them does: they are left out."""
    return [
        place for place, (before, end) in enumerate(pairwise(wave_ends(given, total)), 1) if end == before
    ]


def completed(given: Mapping[str, Any], total: int) -> Mapping[str, Any]:
    """The properties of a new job of ``total`` requests, with what its ``abort`` does not say itself.

    ``total`` is the number of its gateways when ``abort`` counts those.
    A job keeps it, so that another version reads the same. Jobs of earlier versions have none: there it is 1.
    """
    abort = given.get("abort")
    if abort is None or "after" in abort or not isinstance(abort["errors"], str):
        return given
    return {**given, "abort": {**abort, "after": abort_after(Threshold.of(abort["errors"]), total)}}


def abort_after(errors: Threshold, total: int) -> int:
    """How many are done before a job of ``total`` aborts for a percentage of failures, unless it says.

    Then one failure is within the percentage. Where none is ever borne, the first one aborts.
    """
    if not errors.percent:
        return 1
    done = math.floor(100 / errors.percent)
    while errors.passed(1, done):
        done += 1
    return min(max(LEAST_DONE, done), total)


def ends_of(given: Sequence[int | str], total: int) -> tuple[int, ...]:
    """As ``wave_ends``, without waves that add nobody, and with one for the rest."""
    # Jobs of earlier versions may have waves out of order: there, one that ends before another is none.
    return tuple(sorted({*accumulate(wave_ends(given, total), max), total}))


def _share(given: int | str, total: int) -> int:
    """The number for ``5``, or for ``"10%"`` of ``total``, which is rounded up and at least 1."""
    if isinstance(given, str):
        return max(1, math.ceil(round(total * _percent(given) / 100, 9)))
    return given


def _percent(given: str) -> float:
    return float(given.removesuffix("%"))


def _retry(given: Mapping[str, Any]) -> Retry:
    known = Retry()
    return Retry(
        attempts=given.get("attempts", known.attempts),
        on=frozenset(map(RequestStatus, given["on"])) if "on" in given else known.on,
        delay_s=given.get("delay", known.delay_s),
        factor=given.get("factor", known.factor),
        max_delay_s=given.get("maxDelay", known.max_delay_s),
    )


def _abort(given: Mapping[str, Any] | None) -> Abort | None:
    return None if given is None else Abort(Threshold.of(given["errors"]), given.get("after", 1))


def _gate(given: Mapping[str, Any]) -> Gate:
    return Gate(
        errors=Threshold.of(given.get("errors", 0)),
        soak_s=given.get("soak", 0),
        aborts=given.get("onFail", "pause") == "abort",
    )
