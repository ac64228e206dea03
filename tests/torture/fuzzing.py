"""Malformed messages and bodies, made from good ones by a seeded mutator, against the bundle's inner parts.

The parts run in this process without a broker. What a message meets on its way in is the real thing: what the
bundle's threads run, the bus connection's callback, the dispatcher, the store. So a hundred thousand take a
minute. Watched for: no thread dies, memory is flat, nothing is written outside the data directory, nothing is
evaluated or started, no answer shows a traceback, and none is logged.
"""

import json
import logging
import os
import random
import resource
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from puppetmaster.app import Puppetmaster
from puppetmaster.bundle import envelope, sdk
from puppetmaster.bundle.requests import BusRequest, Response, handle
from puppetmaster.bus.client import ConnectionChanged, ControllerChanged, Owners
from puppetmaster.bus.connection import Received
from puppetmaster.errors import PuppetmasterError
from puppetmaster.model.message import Outgoing
from puppetmaster.settings import Settings
from sandbox.process import PROJECT

FIRST_ID = 2**31
LEAKS = ("Traceback", 'File "', "puppetmaster/", "sqlite3", ".py")
#: Of so many inputs one is made about so long. What the controller passes on ends at 1 MiB, and grows then.
SELDOM, LONG = 400, (900_000, 1_048_000, 3_000_000)
#: Memory may grow by so much after the first tenth of the inputs.
GROWTH_MIB = 40

GOOD_BODIES: tuple[Any, ...] = (
    {"batch": [{"method": "post", "resource": "/a", "data": {}, "__request": {"destination": ["x", "y"]}}]},
    {"timeout": 36, "name": "n", "key": "k", "concurrency": 2, "idempotent": True, "requestTimeout": 1.5,
     "batch": [{"method": "get", "resource": "/a?b=1", "__destination": "x"}]},
    {"destinations": ["x"], "message": {"method": "get", "resource": "/a"}, "options": {"timeout": 3}},
    {"destination": "x", "message": {"method": "put", "resource": "/a", "data": [1]}},
    {"status": "canceled", "force": True},
    {"status": "paused"},
    {"name": "t", "schedule": {"cron": "0 3 * * 1-5", "timezone": "Europe/Berlin", "missed": "run"},
     "job": {"batch": [{"method": "get", "resource": "/a", "__destination": "x"}]}},
)  # fmt: skip
RESOURCES = (
    "/jobs", "/jobs", "/jobs", "/jobs/1", "/jobs/1?collection=true&limit=2", "/jobs/2/requests?status=error",
    "/requests", "/requests?limit=3", "/requests/2147483648", "/request/2147483649", "/system/puppetmaster",
    "/templates", "/templates/1", "/templates?name=t", "/templates/1/jobs",
    "/jobs/../../etc/passwd", "/jobs/%00", "/jobs?limit=-1", "/jobs?status=x&limit=99999999999999999999",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 0.5, 1e308, 2**31, 2**32, 2**63, 2**64, -(2**70), "", "a", "/", "../../x",
    "\0", "{0.__class__}",
    "\ud800", "é" * 100, "x" * 5000, [], {}, [[]], {"": ""}, "__class__", "$(touch x)",
    "'; DROP TABLE doc_jobs; --", "%s%n", "1" * 30, "type", "match", ["get"], {"code": 200}, "infinity",
    "NaN",
)  # fmt: skip
KEYS = ("id", "code", "method", "resource", "data", "tunnel", "sign", "type", "match", "to_response", "batch",
        "__request", "destination", "__class__", "timeout", "status", "query", "param")  # fmt: skip


@dataclass(slots=True)
class Report:
    """What a run came to."""

    inputs: int
    seed: int
    seconds: float = 0
    growth_mib: float = 0
    commands: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """For a person."""
        codes = ", ".join(f"{n} x {code}" for code, n in sorted(self.codes.items()))
        return (
            f"{self.inputs} malformed inputs (seed {self.seed}): {self.commands} commands sent, "
            f"answered {codes}; memory grew by {self.growth_mib:.0f} MiB, "
            f"{len(self.faults)} broken promises, {self.seconds:.0f} s"
        )


class Mutator:
    """Makes bad inputs of good ones, from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def request(self) -> bytes:
        """A request to one of our resources as the controller would pass it on, more or less."""
        rng = self.rng
        method = rng.choice(["get", "post", "post", "put", "delete", "GET", "patch"])
        resource = rng.choice(RESOURCES)
        if rng.random() < 0.4:
            method, resource = "post", "/jobs"
        body = {"id": rng.randrange(1, 2**20), "method": method, "resource": resource, "tunnel": "t"}
        if method in ("post", "put", "patch"):
            good = rng.choice(GOOD_BODIES)
            body["data"] = self.value(good) if rng.random() < 0.6 else good
        return self.payload(body if rng.random() < 0.7 else self.value(body))

    def answer(self, in_flight: Sequence[int]) -> bytes:
        """An answer to one of our commands as the controller would pass it on, more or less."""
        rng = self.rng
        id_ = rng.choice(in_flight) if in_flight and rng.random() < 0.7 else FIRST_ID + rng.randrange(2000)
        inner = {"code": rng.choice([200, 404, 500, "200"]), "method": "get", "resource": "/a", "data": {}}
        sign = rng.choice([["controller"], ["m"], [], None])
        code = rng.choice([200, 200, 200, 403, 404, 408, 423, 503, 0, -1])
        answer = {"id": id_, "code": code, "sign": sign, "data": inner}
        return self.payload(answer if rng.random() < 0.3 else self.value(answer))

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value with one or a few things wrong in it."""
        rng = self.rng
        if rng.random() < 0.12 or depth > 6:
            return self._odd()
        if isinstance(value, dict):
            changed = {
                key: self.value(one, depth + 1) if rng.random() < 0.4 else one for key, one in value.items()
            }
            if changed and rng.random() < 0.15:
                changed.pop(rng.choice(list(changed)))
            if rng.random() < 0.15:
                changed[rng.choice(KEYS)] = self._odd()
            return changed
        if isinstance(value, list):
            changed_list = [self.value(one, depth + 1) for one in value]
            return changed_list * rng.choice([1, 1, 1, 2]) if rng.random() < 0.5 else changed_list
        return value

    def _long(self, value: Any) -> Any:
        """The value with a text, or a list, in it that makes it long."""
        length = self.rng.choice(LONG)
        filling: Any = self.rng.choice(["x" * length, [0.1] * (length // 5), {"é" * (length // 6): 1}])
        if not isinstance(value, dict):
            return filling
        data = value.get("data")
        return {**value, "data": {**data, "data": filling} if isinstance(data, dict) else filling}

    def _odd(self) -> Any:
        if self.rng.random() < 0.01:
            deep: Any = 1
            for _ in range(self.rng.choice([150, 300, 900])):
                deep = [deep]
            return deep
        return self.rng.choice(ODD)

    def payload(self, value: Any) -> bytes:
        """The bytes of it, sometimes damaged."""
        rng = self.rng
        if rng.randrange(SELDOM) == 0:
            value = self._long(value)
        text = json.dumps(value)
        if rng.random() < 0.03:
            text = text.replace("1", rng.choice(["NaN", "Infinity", "1e999", "-0", "01", "1" * 400]), 1)
        payload = text.encode()
        if rng.random() < 0.1 and payload:
            at = rng.randrange(len(payload))
            match rng.randrange(4):
                case 0:
                    payload = payload[:at]
                case 1:
                    payload = payload[:at] + bytes([rng.randrange(256)]) + payload[at + 1 :]
                case 2:
                    payload = payload[:at] + payload[at // 2 :]
                case _:
                    payload = rng.randbytes(rng.randrange(60))
        return payload


class Target:
    """The bundle's parts, started, without a broker; what it sends is collected in place of being sent."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.answers: list[bytes] = []
        self.commands = 0
        given = {"broker_port": 1, "log_level": "error", "max_requests": 50, "http": "off", **settings}
        self.bundle = Puppetmaster(
            settings=Settings(data_dir=directory / "data", **given),
            connection=_Unplugged(),
            bundle=sdk.Bundle(bundle_dir=str(PROJECT)),
        )
        self.bus = self.bundle.app.site.bus
        self.in_flight: deque[int] = deque(maxlen=20)  #: ids of commands that were sent last
        self.bus.send = self._send  # type: ignore[method-assign]
        self.bus.ask = self._ask  # type: ignore[method-assign]
        self._post = self.bundle.app.site.dispatcher.post
        self._post([ConnectionChanged(up=True), ControllerChanged(up=True)])

    def _send(self, commands: Sequence[Outgoing]) -> bool:
        self.commands += len(commands)
        self.in_flight.extend(command.id for command in commands)
        return True

    def _ask(self, destinations: Iterable[str], *, inquiry: bool = False) -> None:
        self._post([Owners(one, (f"/remote/{one}",), inquiry) for one in destinations])

    def take_request(self, payload: bytes) -> None:
        """As the bundle's reader and handler threads do."""
        message, fault = envelope.read(payload)
        if envelope.kind(message) is not envelope.Kind.REQUEST:
            return
        response = Response(self.answers.append, message, "puppetmaster")
        try:
            if fault is not None:
                raise fault
            request = BusRequest(envelope.request(message))
        except PuppetmasterError as error:
            response.refuse(error)
        else:
            handle(self.bundle, request, response)
            if not response.sent:
                raise AssertionError(f"no answer to {payload[:200]!r}")

    def take_answer(self, payload: bytes) -> None:
        """As the network thread does."""
        self.bus._take_all([Received(self.bus.tunnel, payload, None, retained=False)])

    def settle(self) -> None:
        """Return when the dispatcher has worked through its inbox."""
        self.bundle.app.site.dispatcher.look(lambda engine: engine.state.open_jobs, 30)

    def clean(self) -> None:
        """Remove all jobs, so that the store stays small."""
        with self.bundle.app.store.reading() as reader:
            ids = [job.id for job in reader.jobs({})]
        for id_ in ids:
            self.bundle.app.service.delete_job(str(id_))

    def close(self) -> None:
        """End it."""
        self.bundle.stop()


class Failures(logging.Handler):
    """Collects what the bundle logs with a traceback: an error that nobody had thought of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note, from any thread."""
        if record.exc_info and record.exc_info[0] is not None:
            trace = traceback.extract_tb(record.exc_info[2])[-1]
            place = f"{Path(trace.filename).name}:{trace.lineno}"
            self.seen[f"{record.getMessage()}: {record.exc_info[1]!r} at {place}"] += 1


class Watch:
    """Python's audit events: what is opened for writing elsewhere, what is evaluated, what is started."""

    FORBIDDEN = ("compile", "exec", "os.exec", "os.posix_spawn", "os.system", "os.mkdir", "os.remove",
                 "os.rename", "shutil.rmtree", "subprocess.Popen")  # fmt: skip

    def __init__(self, directory: Path) -> None:
        self.directory: Path | None = directory  #: None: watches no more; a hook cannot be taken out
        self.seen: Counter[str] = Counter()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if self.directory is None:
            return
        if event in self.FORBIDDEN and not _is_import(event, given):
            self.seen[f"{event} {str(given)[:200]}"] += 1
        elif event == "open" and self._writes(*given):
            self.seen[f"opened {given[0]} for writing"] += 1

    def _writes(self, path: Any, mode: str | None, flags: int) -> bool:
        writing = flags & (os.O_WRONLY | os.O_RDWR) or any(letter in (mode or "") for letter in "wax+")
        return bool(writing) and not str(path).startswith(str(self.directory))


def _is_import(event: str, given: tuple[Any, ...]) -> bool:
    file = getattr(given[0], "co_filename", "") if given else ""
    return event == "exec" and (file.endswith(".py") or file.startswith("<frozen"))


class _Unplugged:
    """In place of the SDK's connection: nothing is connected, nothing is sent."""

    def __init__(self) -> None:
        self.tunnels: dict[str, Any] = {"internel": (None, None), "model": (None, None), "view": (None, None)}

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_kwargs: None


def run(inputs: int, seed: int) -> Report:
    """Feed so many inputs, and watch."""
    report = Report(inputs, seed)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        _run(Path(folder), report)
    report.seconds = time.monotonic() - begun_s
    return report


def _run(directory: Path, report: Report) -> None:
    mutator, failures = Mutator(report.seed), Failures()
    logger = logging.getLogger("sanji.puppetmaster")
    logger.addHandler(failures)
    with patch("puppetmaster.store.sqlite.store.first_request_id", lambda: FIRST_ID):
        target = Target(directory)
    watch = Watch(directory / "data")
    threads = {thread.name for thread in threading.enumerate()}
    base_mib = 0.0
    try:
        for number in range(report.inputs):
            payload = mutator.answer(list(target.in_flight)) if number % 2 else mutator.request()
            try:
                (target.take_answer if number % 2 else target.take_request)(payload)
            except ValueError:
                pass  # not even an id: the reader thread logs it and drops it
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                report.faults.append(
                    f"input {number} of seed {report.seed}: {error!r} from {payload[:300]!r}"
                )
            if number % 500 == 499:
                _judge(target, report)
                target.clean()
            if number == report.inputs // 10:
                target.settle()
                base_mib = _memory_mib()
        target.settle()
        _judge(target, report)
        report.commands = target.commands
        report.growth_mib = _memory_mib() - base_mib
        if report.growth_mib > GROWTH_MIB:
            report.faults.append(f"memory grew by {report.growth_mib:.0f} MiB")
        report.faults += [f"{n} times: {said}" for said, n in failures.seen.items()]
        dead = threads - {thread.name for thread in threading.enumerate()}
        if dead:
            report.faults.append(f"threads died: {', '.join(sorted(dead))}")
        report.faults += [f"{n} times: {said}" for said, n in watch.seen.items()]
        written = [str(path) for path in directory.iterdir() if path.name != "data"]
        if written:
            report.faults.append(f"written outside of the data directory: {', '.join(written)}")
    finally:
        watch.directory = None
        target.close()
        logger.removeHandler(failures)


def _judge(target: Target, report: Report) -> None:
    """Look at the answers so far, and forget them."""
    target.settle()
    for answer in target.answers:
        code = json.loads(answer)["code"]
        report.codes[code] += 1
        said = json.dumps(json.loads(answer)["data"])
        if code == 500 or (code >= 400 and any(leak in said for leak in LEAKS[:2])):
            report.faults.append(f"answered {code}: {said[:300]}")
    target.answers.clear()


def _memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
