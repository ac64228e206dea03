"""The end of a run: what was promised, what is stored and what reached the fleet must tell one story."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from puppetmaster.job import Job
from puppetmaster.request import Request, RequestStatus
from puppetmaster.store import FILE_NAME, Store
from sandbox.fleet_log import Command, FleetLog
from tests.torture.workload import Order
from tests.torture.world import DEAD, REQUEST_TIMEOUT_S, SILENT, SLOW, World

#: A kill may keep what was written down as sent within this time from leaving, on a busy machine.
TURN_S = 0.5
_S = RequestStatus


class Verdict:
    """Everything that is known when all is over; ``faults`` are the broken promises, each one sentence."""

    def __init__(self, world: World, orders: dict[str, Order]) -> None:
        data = world.gateway.directory / "data"
        self._orders = orders
        self._losses = world.losses
        self._commands: dict[tuple[str, str], list[Command]] = defaultdict(list)
        self._log = FleetLog(world.gateway.fleet_log)
        for command in self._log.commands():
            self._commands[command.data["key"], command.destination].append(command)
        self._sent = _read_journal(world.journal)
        self._integrity = _integrity(data / FILE_NAME)
        store = Store(data)
        try:
            with store.reading() as reader:
                self._jobs = {job.key: job for job in reader.jobs({})}
                self._requests: dict[int, list[Request]] = defaultdict(list)
                for request in reader.requests({}):
                    self._requests[request.job].append(request)
                items = reader.items(job.id for job in self._jobs.values())
                self._methods = {id_: item.method for id_, item in items.items()}
        finally:
            store.close()

    @property
    def counts(self) -> Counter[str]:
        """How many requests ended in which way."""
        return Counter(one.status.value for many in self._requests.values() for one in many)

    @property
    def commands(self) -> int:
        """How many commands reached a gateway."""
        return sum(map(len, self._commands.values()))

    def faults(self) -> list[str]:
        """All that is wrong."""
        return [
            *([f"SQLite finds: {self._integrity}"] if self._integrity != "ok" else []),
            *(f"message {id_} reached a gateway {n} times" for id_, n in self._log.duplicates().items()),
            *self._acknowledged(),
            *self._unasked(),
            *self._left_over(),
            *(said for job in self._jobs.values() for said in self._job(job)),
        ]

    def _acknowledged(self) -> Iterator[str]:
        """Every acknowledged job is there, unless it was removed; what was removed is not."""
        for order in self._orders.values():
            job = self._jobs.get(order.key)
            if order.removed and job is not None:
                yield f"job {order.job} was removed, and is there"
            if order.job is not None and not order.removal_asked and (job is None or job.id != order.job):
                yield f"job {order.job} ({order.key}) was acknowledged, and {job and job.id} is stored"

    def _left_over(self) -> Iterator[str]:
        """Of a removed job nothing stays, also when its removal was interrupted."""
        kept = {job.id for job in self._jobs.values()}
        for job_id in self._requests.keys() - kept:
            yield f"of job {job_id}, which is not there, {len(self._requests[job_id])} requests are left"

    def _unasked(self) -> Iterator[str]:
        """Nothing reached the fleet that is not stored."""
        for (key, destination), commands in self._commands.items():
            job = self._jobs.get(key)
            if job is None:
                if not self._orders[key].removal_asked:
                    yield f"{destination} ran a command of {key}, of which nothing is stored"
                continue
            ids = {one.id for one in self._requests[job.id] if one.destination == destination}
            if not ids:
                yield f"{destination} ran a command of job {job.id}, which has no request for it: {commands}"

    def _job(self, job: Job) -> Iterator[str]:
        requests = self._requests[job.id]
        counts = Counter(request.status for request in requests)
        if not job.final or not job.finished_at:
            yield f"job {job.id} has not ended: {job.status}"
        if len(requests) != job.total or dict(counts) != {s: n for s, n in job.counts.items() if n}:
            yield f"job {job.id} counts {dict(job.counts)}, and its requests are {dict(counts)}"
        seen = self._orders[job.key].seen if job.key in self._orders else {}
        for request in requests:
            for said in self._request(job, request):
                yield f"request {request.id} of job {job.id}, {request.destination}, {request.status}: {said}"
            before = seen.get(request.id)
            if before is None or (
                before[0] in ("timeout", "unknown") and request.status in (_S.RESOLVED, _S.ERROR)
            ):
                continue
            if before != (request.status.value, dict(request.result or {})):
                yield f"request {request.id} was seen as {before}, and is {request.status} {request.result}"

    def _request(self, job: Job, request: Request) -> Iterator[str]:
        ran = self._commands.get((str(job.key), request.destination), [])
        repeats = self._methods[request.item] == "get" or self._orders[str(job.key)].body.get("idempotent")
        source = (request.result or {}).get("source")
        if len(ran) > 1 and not repeats:
            yield f"it ran {len(ran)} times"
        match request.status:
            case _S.PENDING | _S.SENT:
                yield "it is not final"
            case _S.RESOLVED if not ran:
                yield "it never ran"
            case _S.ERROR if bool(ran) != (source in ("device", "remote")) and not repeats:
                yield f"it ran {len(ran)} times, and the answer is {request.result}"
            case _S.CANCELED | _S.SKIPPED if ran:
                yield "which says that it never ran, and it did"
            case _S.UNKNOWN:
                yield from self._unknown(job, request, ran)
            case _S.TIMEOUT if request.destination not in (SILENT, DEAD, SLOW) and job.status != "timeout":
                if not self._lost_between(request):
                    yield f"its gateway answers: {request.result}"

    def _unknown(self, job: Job, request: Request, ran: list[Command]) -> Iterator[str]:
        """Unknown is right where the command was lost, others lost its answer, or nobody wanted to wait."""
        if job.status == "canceled" and (request.result or {}).get("message", "").count(
            "before the job ended"
        ):
            return
        if request.destination in (SILENT, DEAD) or self._lost_between(request):
            return
        if any(command.id == request.sending for command in ran):
            yield "it ran and was answered, and the broker keeps answers until they are on disk"
            return
        sent_s = self._sent.get(request.sending)
        if sent_s is not None and not self._died_within(sent_s):
            yield f"it left at {sent_s:.3f}, nothing broke then, and it never arrived"

    def _died_within(self, at_s: float) -> bool:
        return any(
            loss.from_s - TURN_S <= at_s <= loss.from_s + 0.01
            for loss in self._losses
            if loss.what == "bundle"
        )

    def _lost_between(self, request: Request) -> bool:
        """Whether broker, controller or network were away while it was in flight."""
        sent_s = self._sent.get(request.sending)
        if sent_s is None:
            return False
        return any(
            loss.from_s - REQUEST_TIMEOUT_S - 1 <= sent_s <= loss.to_s + 1
            for loss in self._losses
            if loss.what != "bundle"
        )


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
