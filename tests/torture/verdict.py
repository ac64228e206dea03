"""The end of a run: what was promised, what is stored and what reached the fleet must tell one story."""

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from puppetmaster.clock import seconds
from puppetmaster.model.job import Job
from puppetmaster.model.policy import wave_of
from puppetmaster.model.request import DIRECT_WAY, Request, RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID
from puppetmaster.store.sqlite.store import FILE_NAME, SqliteStore
from sandbox.fleet_log import Command, FleetLog, registrations
from tests.faulty_bundle import DIED
from tests.torture.absences import BRIDGED_RESTARTS, RESTARTS, Absences
from tests.torture.account import once
from tests.torture.labels import MANY
from tests.torture.orders import Order
from tests.torture.world import BROKER, BUNDLE, EVERYTHING, REGISTRATIONS, SLOW, STILL, Loss, World

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
        self._silent = world.hardly
        self._fleet = world.fleet
        self._absences = self._judge_absences(world)
        self._wall_s = time.time() - time.monotonic()
        self._log = FleetLog(world.gateway.fleet_log)
        self._sent, self._died, times = _read_journal(world.journal)
        restarts = [loss.from_s for loss in world.losses if loss.what in (BROKER, EVERYTHING)]
        self._arrived = [*once(self._log.commands(), times, restarts)]
        self._integrity = _integrity(data / FILE_NAME)
        # Opened once: a process that another seed starts meanwhile holds its lock until it has begun.
        store = SqliteStore(data)
        try:
            #: The labels of each gateway that is known.
            self.labels = {one.name: dict(one.labels) for one in store.now.gateways([*MANY, *self._fleet])}
            with store.reading() as reader:
                self._jobs = {job.id: job for job in reader.jobs({})}
                self._requests: dict[int, list[Request]] = defaultdict(list)
                for request in reader.requests({}):
                    self._requests[request.job].append(request)
                items = reader.items(self._jobs)
                self._methods = {id_: item.method for id_, item in items.items()}
                self._marks = {id_: item.data["mark"] for id_, item in items.items()}
        finally:
            store.close()
        #: What reached the fleet for each request that is stored, and what belongs to none of these.
        self._ran: dict[int, list[Command]] = defaultdict(list)
        self._others: list[Command] = []
        self._assign()

    def _assign(self) -> None:
        """Find the request of each command: it came under the id of one of its messages."""
        of = {
            message: one.id for many in self._requests.values() for one in many for message in _messages(one)
        }
        for command in self._arrived:
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
            *self._twice(),
            *self._acknowledged(),
            *self._unasked(),
            *self._left_over(),
            *(said for order in self._orders.values() for said in self._too_early(order)),
            *(said for job in self._jobs.values() for said in self._job(job)),
            *self._unknown_to_nobody(),
        ]

    def _twice(self) -> Iterator[str]:
        """No message arrives twice."""
        for id_, times in Counter(command.id for command in self._arrived).items():
            if times > 1:
                yield f"message {id_} reached a gateway {times} times"

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
        removed = self._removed()
        ran = Counter((command.data["key"], command.destination) for command in self._others)
        for (key, destination), times in ran.items():
            most = removed[key, destination]
            if times > most:
                yield f"{destination} ran {times} commands of {key}, whose removed jobs allow {most}"

    def _removed(self) -> Counter[tuple[str, str]]:
        """How often, by key and destination, commands of removed jobs may have run at most."""
        removed: Counter[tuple[str, str]] = Counter()
        for order in self._orders.values():
            if order.removal_asked:
                items = order.body.get("batch", [order.body])
                for destination in order.destinations:
                    removed[order.root, destination] += len(items) * _most_attempts(order.body)
        return removed

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

    @property
    def absences(self) -> Counter[str]:
        """How many requests were rightly told that there is no such gateway, and it came back; by why."""
        return Counter(why for _, right, why in self._absent() if right)

    def _absent(self) -> Iterator[tuple[Request, bool, str]]:
        """The requests that were told of no such gateway, and there is one; whether rightly, and why."""
        for id_, requests in self._requests.items():
            for request in requests:
                result = request.result or {}
                nobody = result.get("source") == "controller" and result.get("code") in (403, 404)
                nobody = nobody and not result.get("late")  # when a late answer was given is not known
                if nobody and request.status == _S.ERROR and request.destination in self._fleet:
                    created_s, at_s = self._at_s(self._jobs[id_].created_at), self._at_s(request.finished_at)
                    yield request, *self._absences.judge(request.destination, created_s, at_s)

    def _at_s(self, at: str | None) -> float:
        return seconds(str(at)) - self._wall_s

    def _unknown_to_nobody(self) -> Iterator[str]:
        """A gateway is unknown only as long as it has not registered, and not before it was waited for."""
        for request, right, why in self._absent():
            if not right:
                yield f"request {request.id}, {request.destination}: {request.result}, {why}"

    def _judge_absences(self, world: World) -> Absences:
        registered = registrations(world.gateway.directory / REGISTRATIONS)

        def back_s(gateway: str, restart: Loss) -> float | None:
            times = registered.get(f"/remote/{gateway}", ())
            return next((at_s for at_s in times if at_s > restart.from_s), None)

        return Absences(world.losses, RESTARTS, world.conditions.registering_s, back_s)

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
        yield from self._steps(job, requests)
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
        waves = job.policy.waves
        times: dict[int, list[float]] = defaultdict(list)
        for request in requests:
            wave = wave_of(waves, request.id - job.first)
            times[wave] += [command.t_s for command in self._ran[request.id]]
        for before, after in pairwise(sorted(times)):
            if times[before] and times[after] and max(times[before]) > min(times[after]):
                yield f"job {job.id}: wave {after} began to run before wave {before} had ended"

    def _steps(self, job: Job, requests: list[Request]) -> Iterator[str]:
        """With ``onFail: "stop"`` each step of a gateway runs after the one before it, which ended well."""
        if not job.policy.stops:
            return
        by_gateway: dict[str, list[Request]] = defaultdict(list)
        for request in requests:
            by_gateway[request.destination].append(request)
        for gateway, steps in by_gateway.items():
            for before, after in pairwise(steps):
                ran, ran_before = self._ran[after.id], self._ran[before.id]
                if ran and before.status is not _S.RESOLVED:
                    yield f"job {job.id}, {gateway}: {after.id} ran, and {before.id} is {before.status}"
                began_s, before_s = (min((one.t_s for one in some), default=0) for some in (ran, ran_before))
                if ran and ran_before and began_s < before_s:
                    yield f"job {job.id}, {gateway}: {after.id} ran before {before.id}"

    # -- requests ---------------------------------------------------------------------------------

    def _request(self, job: Job, request: Request, order: Order) -> Iterator[str]:
        ran = self._ran[request.id]
        retried = bool(request.history)
        source = (request.result or {}).get("source")
        if len(ran) > max(request.attempts, 1):
            yield f"it ran {len(ran)} times in {request.attempts} attempts"
        yield from self._tried_again(request, order)
        match request.status:
            case _S.PENDING | _S.SENT:
                yield "it is not final"
            case _S.RESOLVED if not ran:
                yield "it never ran"
            case _S.ERROR if bool(ran) != (source in ("device", "remote")) and not retried:
                yield f"it ran {len(ran)} times, and the answer is {request.result}"
            case _S.CANCELED | _S.SKIPPED if ran:
                yield "which says that it never ran, and it did"
        for attempt in _attempts(request):
            yield from self._unanswered(job, request, attempt)
        yield from self._waited(job, request)

    def _waited(self, job: Job, request: Request) -> Iterator[str]:
        """With ``deliveryTimeout`` nobody is said to be away before that time is over."""
        waits_s, result = job.policy.delivery_s, request.result or {}
        if not waits_s or request.status is not _S.ERROR:
            return
        text = str(result.get("message"))
        took_s = self._at_s(request.finished_at) - self._at_s(job.created_at)
        # What had ended as unknown, and was then said not to have run, could not wait any more.
        if text.startswith(("no gateway of this name", "not connected since")) and not result.get("late"):
            yield f"its gateway was not waited for: {text}"
        if text.startswith("its gateway was not ") and took_s < waits_s - CLOCKS_S:
            yield f"{text}, and the job was {took_s:.3f} s old"

    def _tried_again(self, request: Request, order: Order) -> Iterator[str]:
        """Nothing is tried again that may have run, unless it may run twice."""
        if self._methods[request.item] == "get" or order.body.get("idempotent"):
            return
        if request.history and "retry" not in order.body:
            yield "it was tried again, and nothing allowed that"
        for attempt in request.history:
            if attempt["status"] in (_S.TIMEOUT, _S.UNKNOWN):
                result = attempt["result"]
                yield f"it was tried again after {attempt['message']}, which may have run: {result}"

    def _unanswered(self, job: Job, request: Request, attempt: Mapping[str, Any]) -> Iterator[str]:
        """Timeout and unknown are right where the gateway is silent, or something was away at that time."""
        message, status = attempt["message"], attempt["status"]
        if status not in (_S.TIMEOUT, _S.UNKNOWN) or request.destination in self._silent:
            return
        ended_s = self._at_s(attempt["finishedAt"])
        if any(self._lost_between(one, ended_s, request) for one in _messages(request)):
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
        """Whether the bundle died then, or went on with a connection that the broker had ended meanwhile.

        The broker does so while the bundle stands still: what is written first is lost.
        """
        if any(loss.from_s <= at_s <= loss.to_s + CLOCKS_S for loss in self._losses if loss.what == STILL):
            return True
        killed = (loss.from_s for loss in self._losses if loss.what == BUNDLE)
        return any(died_s - TURN_S <= at_s <= died_s + 0.01 for died_s in (*killed, *self._died))

    def _lost_between(self, message: int, ended_s: float, request: Request) -> bool:
        """Whether broker, controller, network or gateway were away since this message was sent.

        As long as the bundle is down, answers wait at the broker.
        """
        sent_s = self._sent.get(message)
        if sent_s is None:
            return False
        return any(
            loss.from_s <= ended_s and sent_s <= loss.to_s + 1
            for loss in self._losses
            if loss.what not in (BUNDLE, STILL) and loss.gateway in ("", request.destination)
        )


class BridgedVerdict(Verdict):
    """The verdict on bridged gateways: what went directly is known by its id, the rest by its mark.

    The remote bundle sends each command under an id of its own, and at QoS 2: where a connection breaks, its
    MQTT client may do so twice under one id. That is not counted: no caller of it can prevent it.
    """

    def _assign(self) -> None:
        self._of_mark: dict[tuple[str, str], list[Command]] = defaultdict(list)
        self._requests_of: dict[tuple[str, str], list[Request]] = defaultdict(list)
        for many in self._requests.values():
            for request in many:
                self._requests_of[self._marks[request.item], request.destination].append(request)
        of = {message: one for many in self._requests.values() for one in many for message in _messages(one)}
        passed_on: set[tuple[str, int, str]] = set()
        for command in self._log.commands():
            mark = command.data["mark"]
            again = (command.destination, command.id, mark)
            if command.id < FIRST_REQUEST_ID and again in passed_on:
                continue
            passed_on.add(again)
            requests = self._requests_of.get((mark, command.destination), [])
            self._of_mark[mark, command.destination].append(command)
            if command.id in of:
                self._ran[of[command.id].id].append(command)
            elif len(requests) == 1 and command.id < FIRST_REQUEST_ID:  # else it is of a job that was removed
                self._ran[requests[0].id].append(command)
            elif not requests:
                self._others.append(command)

    def _judge_absences(self, world: World) -> Absences:
        """The owner of all of them is registered again when a loss, and each that it is part of, is over."""

        def back_s(_: str, restart: Loss) -> float:
            return max(loss.to_s for loss in world.losses if loss.from_s <= restart.from_s <= loss.to_s)

        return Absences(world.losses, BRIDGED_RESTARTS, world.conditions.registering_s, back_s)

    @property
    def commands(self) -> int:
        """How many commands reached a gateway."""
        return sum(map(len, self._of_mark.values()))

    def faults(self) -> list[str]:
        """All that is wrong."""
        return [*super().faults(), *self._ran_as_told()]

    def _twice(self) -> Iterator[str]:
        for id_, times in self._log.duplicates().items():
            if id_ >= FIRST_REQUEST_ID:
                yield f"message {id_} reached a gateway {times} times"

    def _ran_as_told(self) -> Iterator[str]:
        """What requests with one mark say together of how often they ran is what the gateway saw.

        There are several where one was run again, as a request of another job.
        """
        removed = self._removed()
        for (mark, destination), requests in self._requests_of.items():
            ran = self._of_mark[mark, destination]
            attempts = [attempt for request in requests for attempt in _attempts(request)]
            most = sum(map(_may_have_run, attempts)) + removed[mark.partition("/")[0], destination]
            least = sum(map(_has_run, attempts))
            if not least <= len(ran) <= most:
                ids = ", ".join(f"{one.id} of job {one.job}, {one.status}" for one in requests)
                yield (
                    f"{destination} ran {mark} {len(ran)} times as {[one.id for one in ran]}, expected "
                    f"{least} to {most}: request {ids}: {[attempt['result'] for attempt in attempts]}"
                )

    def _request(self, job: Job, request: Request, order: Order) -> Iterator[str]:
        yield from self._tried_again(request, order)
        if request.open:
            yield "it is not final"
        arrived = {command.id for command in self._ran[request.id]}
        for attempt in _attempts(request):
            message = attempt["message"]
            if attempt.get("route") != DIRECT_WAY:
                continue
            if message in arrived and not _may_have_run(attempt):
                yield f"message {message} ran, and is told as {attempt['status']} {attempt['result']}"
            if message not in arrived and _has_run(attempt) and not attempt["result"].get("late"):
                yield f"message {message} never ran, and is told as {attempt['status']} {attempt['result']}"
            yield from self._unanswered(job, request, attempt)
        yield from self._waited(job, request)

    def _waves(self, job: Job, requests: list[Request]) -> Iterator[str]:
        """What was not answered may still be on its way when the next wave begins."""
        yield from super()._waves(job, [one for one in requests if all(map(_has_run, _attempts(one)))])


def _attempts(request: Request) -> list[Mapping[str, Any]]:
    """Return all attempts of a request, each as one of its history."""
    result = request.result or {}
    last = {
        "message": request.sending,
        "finishedAt": request.finished_at,
        "status": request.status,
        "result": result,
        "route": request.route,
    }
    return [*request.history, last]


def _may_have_run(attempt: Mapping[str, Any]) -> bool:
    """Whether nothing says that it did not run."""
    status, result = attempt["status"], attempt["result"]
    if status in (_S.PENDING, _S.CANCELED, _S.SKIPPED):
        return False
    if status != _S.ERROR:
        return True
    said = str(result.get("message"))
    if result.get("source") == "puppetmaster":
        return "did not run" not in said and "no attempt after" not in said
    return result.get("source") != "controller" and said != "the gateway has no such resource"


def _has_run(attempt: Mapping[str, Any]) -> bool:
    """Whether it is said to have run: the device answered."""
    answered = attempt["status"] in (_S.RESOLVED, _S.ERROR) and attempt["result"].get("source") == "device"
    return answered and _may_have_run(attempt)


def _messages(request: Request) -> list[int]:
    """The ids of all its sendings that may have arrived."""
    return [request.id, *(attempt["message"] for attempt in request.history), request.sending]


def _most_attempts(body: Mapping[str, Any]) -> int:
    """How often one request of this order may run; what may be repeated has no limit that is told here."""
    methods = [item.get("method", "post") for item in body.get("batch", [body.get("message", {})])]
    if body.get("idempotent") or "get" in methods or "rerun" in body:
        return 1000
    return int(body.get("retry", {}).get("attempts", 1))


def _read_journal(path: Path) -> tuple[dict[int, float], list[float], Counter[int]]:
    """When each message went to the bus, when the bundle died of its faults, and how often each was sent."""
    lines = [line.split() for line in path.read_text().splitlines()]
    died = [float(at) for what, at in lines if what == DIED]
    sent = [(int(message), float(at)) for message, at in lines if message != DIED]
    return dict(sent), died, Counter(message for message, _ in sent)


def _integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()
