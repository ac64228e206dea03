"""The end of a run: what was promised, what is stored and what reached the fleet must tell one story."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from puppetmaster.job import Job
from puppetmaster.request import Request, RequestStatus
from puppetmaster.rollout import Policy, wave_of
from puppetmaster.store import FILE_NAME, Store
from sandbox.fleet_log import Command, FleetLog
from tests.torture.orders import Order
from tests.torture.world import DEAD, REQUEST_TIMEOUT_S, SILENT, SLOW, World

#: A kill may keep what was written down as sent within this time from leaving, on a busy machine.
TURN_S = 0.5
#: The log of the fleet and the clock of who gave an order differ by less.
CLOCKS_S = 0.05
_S = RequestStatus


class Verdict:
    """Everything that is known when all is over; ``faults`` are the broken promises, each one sentence."""

    def __init__(self, world: World, orders: dict[str, Order]) -> None:
        data = world.gateway.directory / "data"
        self._orders = orders
        self._losses = world.losses
        self._log = FleetLog(world.gateway.fleet_log)
        self._sent = _read_journal(world.journal)
        self._integrity = _integrity(data / FILE_NAME)
        store = Store(data)
        try:
            with store.reading() as reader:
                self._jobs = {job.id: job for job in reader.jobs({})}
                self._requests: dict[int, list[Request]] = defaultdict(list)
                for request in reader.requests({}):
                    self._requests[request.job].append(request)
                items = reader.items(self._jobs)
                self._methods = {id_: item.method for id_, item in items.items()}
        finally:
            store.close()
        #: What reached the fleet for each request that is stored, and what belongs to none of these.
        self._ran: dict[int, list[Command]] = defaultdict(list)
        self._others: list[Command] = []
        of = {
            message: one.id for many in self._requests.values() for one in many for message in _messages(one)
        }
        for command in self._log.commands():
            if command.id in of:
                self._ran[of[command.id]].append(command)
            else:
                self._others.append(command)

    @property
    def counts(self) -> Counter[str]:
        """How many requests ended in which way."""
        return Counter(one.status.value for many in self._requests.values() for one in many)

    @property
    def commands(self) -> int:
        """How many commands reached a gateway."""
        return sum(map(len, self._ran.values())) + len(self._others)

    def faults(self) -> list[str]:
        """All that is wrong."""
        return [
            *([f"SQLite finds: {self._integrity}"] if self._integrity != "ok" else []),
            *(f"message {id_} reached a gateway {n} times" for id_, n in self._log.duplicates().items()),
            *self._acknowledged(),
            *self._unasked(),
            *self._left_over(),
            *(said for order in self._orders.values() for said in self._too_early(order)),
            *(said for job in self._jobs.values() for said in self._job(job)),
        ]

    # -- orders -----------------------------------------------------------------------------------

    def _acknowledged(self) -> Iterator[str]:
        """Every acknowledged job is there, unless it was removed; what was removed is not."""
        stored = {job.key: job for job in self._jobs.values()}
        for order in self._orders.values():
            job = stored.get(order.key)
            if order.removed and job is not None:
                yield f"job {order.job} was removed, and is there"
            if order.job is not None and not order.removal_asked and (job is None or job.id != order.job):
                yield f"job {order.job} ({order.key}) was acknowledged, and {job and job.id} is stored"

    def _unasked(self) -> Iterator[str]:
        """What reached the fleet and is not stored is of removed jobs, and ran as often as these allow."""
        removed: dict[tuple[str, str], int] = Counter()
        for order in self._orders.values():
            if order.removal_asked:
                items = order.body.get("batch", [order.body])
                for destination in order.destinations:
                    removed[order.root, destination] += len(items) * _most_attempts(order.body)
        ran = Counter((command.data["key"], command.destination) for command in self._others)
        for (key, destination), times in ran.items():
            most = removed[key, destination]
            if times > most:
                yield f"{destination} ran {times} commands of {key}, whose removed jobs allow {most}"

    def _left_over(self) -> Iterator[str]:
        """Of a removed job nothing stays, also when its removal was interrupted."""
        for job_id in self._requests.keys() - self._jobs.keys():
            yield f"of job {job_id}, which is not there, {len(self._requests[job_id])} requests are left"

    def _too_early(self, order: Order) -> Iterator[str]:
        """Nothing goes before its time, unless somebody let it."""
        if order.controlled or order.job is None:
            return
        for request in self._requests.get(order.job, ()):
            for command in self._ran[request.id]:
                if command.t_s < order.not_before_s - CLOCKS_S:
                    early_s = order.not_before_s - command.t_s
                    yield f"{order.key} ran {early_s:.3f} s before its time to start"

    # -- jobs -------------------------------------------------------------------------------------

    def _job(self, job: Job) -> Iterator[str]:
        requests = self._requests[job.id]
        order = self._orders.get(str(job.key))
        counts = Counter(request.status for request in requests)
        if not job.final or not job.finished_at:
            yield f"job {job.id} has not ended: {job.status}"
        if len(requests) != job.total or dict(counts) != {s: n for s, n in job.counts.items() if n}:
            yield f"job {job.id} counts {dict(job.counts)}, and its requests are {dict(counts)}"
        if order is None:
            yield f"job {job.id} is stored, and nobody asked for it"
            return
        if job.status == "aborted" and not {"abort", "gate"} & order.body.keys():
            yield f"job {job.id} is aborted, and nothing of it says when"
        yield from self._waves(job, requests)
        for request in requests:
            for said in self._request(job, request, order):
                yield f"request {request.id} of job {job.id}, {request.destination}, {request.status}: {said}"
            before = order.seen.get(request.id)
            if before is None or (
                before[0] in ("timeout", "unknown") and request.status in (_S.RESOLVED, _S.ERROR)
            ):
                continue
            if before != (request.status.value, dict(request.result or {})):
                yield f"request {request.id} was seen as {before}, and is {request.status} {request.result}"

    def _waves(self, job: Job, requests: list[Request]) -> Iterator[str]:
        """Nothing of a wave reaches a gateway before all of the wave before it has."""
        waves = Policy.of(job.given, job.total).waves
        times: dict[int, list[float]] = defaultdict(list)
        for request in requests:
            wave = wave_of(waves, request.id - job.first)
            times[wave] += [command.t_s for command in self._ran[request.id]]
        for before, after in pairwise(sorted(times)):
            if times[before] and times[after] and max(times[before]) > min(times[after]):
                yield f"job {job.id}: wave {after} began to run before wave {before} had ended"

    # -- requests ---------------------------------------------------------------------------------

    def _request(self, job: Job, request: Request, order: Order) -> Iterator[str]:
        ran = self._ran[request.id]
        repeats = self._methods[request.item] == "get" or order.body.get("idempotent")
        retried = bool(request.history)
        source = (request.result or {}).get("source")
        if len(ran) > max(request.attempts, 1):
            yield f"it ran {len(ran)} times in {request.attempts} attempts"
        if retried and not repeats and "retry" not in order.body:
            yield "it was tried again, and nothing allowed that"
        match request.status:
            case _S.PENDING | _S.SENT:
                yield "it is not final"
            case _S.RESOLVED if not ran:
                yield "it never ran"
            case _S.ERROR if bool(ran) != (source in ("device", "remote")) and not retried:
                yield f"it ran {len(ran)} times, and the answer is {request.result}"
            case _S.CANCELED | _S.SKIPPED if ran:
                yield "which says that it never ran, and it did"
        attempts = [*request.history, {"message": request.sending, "status": request.status}]
        for attempt in attempts:
            yield from self._unanswered(job, request, attempt)

    def _unanswered(self, job: Job, request: Request, attempt: Mapping[str, Any]) -> Iterator[str]:
        """Timeout and unknown are right where the gateway is silent, or something was away at that time."""
        message, status = attempt["message"], attempt["status"]
        if status not in (_S.TIMEOUT, _S.UNKNOWN) or request.destination in (SILENT, DEAD):
            return
        if any(self._lost_between(one) for one in _messages(request)):
            return
        if status == _S.TIMEOUT:
            if request.destination != SLOW and job.status != "timeout":
                yield f"its gateway answers, and {message} was not answered: {request.result}"
            return
        if "before the job ended" in (request.result or {}).get("message", ""):
            return
        if any(command.id == message for command in self._ran[request.id]):
            yield f"{message} ran and was answered, and the broker keeps answers until they are on disk"
            return
        sent_s = self._sent.get(message)
        if sent_s is not None and not self._died_within(sent_s):
            yield f"{message} left at {sent_s:.3f}, nothing broke then, and it never arrived"

    def _died_within(self, at_s: float) -> bool:
        return any(
            loss.from_s - TURN_S <= at_s <= loss.from_s + 0.01
            for loss in self._losses
            if loss.what == "bundle"
        )

    def _lost_between(self, message: int) -> bool:
        """Whether broker, controller or network were away while this message was in flight."""
        sent_s = self._sent.get(message)
        if sent_s is None:
            return False
        return any(
            loss.from_s - REQUEST_TIMEOUT_S - 1 <= sent_s <= loss.to_s + 1
            for loss in self._losses
            if loss.what != "bundle"
        )


def _messages(request: Request) -> list[int]:
    """The ids of all its sendings that may have arrived."""
    return [request.id, *(attempt["message"] for attempt in request.history), request.sending]


def _most_attempts(body: Mapping[str, Any]) -> int:
    """How often one request of this order may run; what may be repeated has no limit that is told here."""
    methods = [item.get("method", "post") for item in body.get("batch", [body.get("message", {})])]
    if body.get("idempotent") or "get" in methods or "rerun" in body:
        return 1000
    return int(body.get("retry", {}).get("attempts", 1))


def _read_journal(path: Path) -> dict[int, float]:
    """When each message was handed to the bus."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {int(message): float(at) for message, at in lines}


def _integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()
