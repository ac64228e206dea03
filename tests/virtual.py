"""A small world in virtual time: the engine on a store in memory, a pretend bus, a clock that the test moves.

No thread, no socket, no sleep. ``World.turn`` does what the dispatcher's loop does: take, decide,
make durable, act. What left for the controller is in ``World.sent``; the test says what comes back.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from puppetmaster import jsoncodec
from puppetmaster.api import bodies
from puppetmaster.clock import Clock
from puppetmaster.engine.context import Turn
from puppetmaster.engine.engine import Engine
from puppetmaster.model import reply, timeline
from puppetmaster.model.job import Job
from puppetmaster.model.message import Outgoing
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes
from puppetmaster.store.memory import Memory, MemoryStore

T = TypeVar("T")
Event = Callable[[Engine], Any]
#: Whose lock a destination is under: the answer of the controller, or None where it knows no owner.
Owners = Callable[[str], Iterable[str] | None]

TUNNEL = "puppetmaster/0123456789abcdef"
#: More turns than this without an end to them is a loop, not work.
TURN_LIMIT = 10_000


class VirtualClock(Clock):
    """Stands still until the test moves it; the wall's clock can be set on its own."""

    def __init__(self) -> None:
        self.monotonic_s = 1000.0
        self.wall_ahead_s = 1_767_323_045.0
        self.boot_id = "boot 1"

    def now_s(self) -> float:
        return self.monotonic_s

    def wall_s(self) -> float:
        return self.monotonic_s + self.wall_ahead_s

    def boot(self) -> str:
        return self.boot_id

    def reboot(self, off_s: float = 30.0) -> None:
        """The machine starts again after ``off_s``: monotonic seconds begin anew, the wall's go on."""
        wall_s = self.wall_s() + off_s
        self.monotonic_s = 5.0
        self.wall_ahead_s = wall_s - self.monotonic_s
        self.boot_id = f"boot {int(self.boot_id.split()[1]) + 1}"


@dataclass(frozen=True)
class Sending:
    """One message that left for the controller."""

    message: int
    request: int
    destination: str
    body: Any
    at_s: float
    topic: str
    tunnel: str


def own_model(destination: str) -> list[str]:
    """Every gateway has a model, and so a lock, of its own."""
    return [f"/remote/{destination}"]


def one_model(_: str) -> list[str]:
    """One model, one lock, for all gateways."""
    return ["/remote/+"]


@dataclass
class World:
    """Engine, store and bus over one memory; starts with the bus and the controller up."""

    settings: Settings = field(default_factory=Settings)
    owners: Owners | None = own_model
    clock: VirtualClock = field(default_factory=VirtualClock)
    #: Whether a message that is handed to the bus leaves.
    connected: bool = True
    #: What outlives a process, as a file does.
    memory: Memory = field(default_factory=Memory)
    sent: list[Sending] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    inquired: list[str] = field(default_factory=list)
    #: Messages of which the controller was asked whether it waits for their answers: the test answers.
    checked: list[int] = field(default_factory=list)
    #: Whether the controller knows us, and says so when it is asked; whether it has been asked.
    known: bool = True
    proving: bool = False
    #: Jobs that this process had to take back, because they could not be made durable.
    revoked: list[int] = field(default_factory=list)
    #: What happened to jobs, once it was on disk.
    happened: list[tuple[Job, timeline.Event]] = field(default_factory=list)
    #: Long work is done part by part, and what happens next arrives between two parts.
    hasty: bool = False
    #: Gateways are asked for in turn, as ``settings`` say.
    checks: bool = False
    #: The requests that the last turn changed, in the order of their first change.
    written: list[int] = field(default_factory=list)
    #: So many turns had changes that became durable.
    commits: int = 0
    #: Called when a turn has become durable, before anything of it is done.
    watch: Callable[["World"], None] | None = None

    def __post_init__(self) -> None:
        if not self.checks:
            self.settings = replace(self.settings, gateway_check_s=0)
        self.start()

    def start(self) -> None:
        """Begin a process on the memory, as the dispatcher does."""
        self.store = MemoryStore(self.memory)
        self.engine = Engine(self.settings, self.clock, self.store.now, self.store.ids, TUNNEL)
        self.engine.templates.specify = partial(bodies.specified, max_requests=self.settings.max_requests)
        for job, requests in self.store.unfinished():
            self.engine.lifecycle.recover(job, self.store.now.items([job.id]), requests)
        self.asked, self.inquired, self.revoked = [], [], []
        if self.connected:
            self.run(lambda engine: engine.connection(up=True), lambda engine: engine.controller(up=True))

    def stop(self) -> None:
        """End the process: nothing is left of it but what its store kept."""
        self.store.close()

    def restart(self) -> None:
        """A new process; what was not durable is gone."""
        self.stop()
        self.start()

    # -- turns ------------------------------------------------------------------------------------

    def turn(self, *events: Event) -> None:
        """One turn of the dispatcher, in which ``events`` arrive."""
        engine = self.engine
        engine.begin()
        for event in events:
            event(engine)
        engine.turn(self._commit, self._act, lambda error: self.revoked.extend(engine.stall(error)))

    def _commit(self, changes: Changes) -> None:
        self.store.commit(changes)
        self.written = list(changes.requests)
        self.commits += 1

    def run(self, *events: Event) -> None:
        """Turns until nothing is left to do at this moment; questions about locks are answered at once."""
        self.turn(*self._answers(), *events)
        while not self.hasty and self._stirs:
            self.turn(*self._answers())

    @property
    def _stirs(self) -> bool:
        """Whether there is work left, or an answer to a question is on its way."""
        answers = self.owners is not None and (self.asked or self.inquired)
        return self.engine.busy or bool(answers) or (self.proving and self.known)

    def _answers(self) -> list[Event]:
        """To what the controller was asked."""
        knows, self.proving = self.proving and self.known, False
        now_s = self.clock.now_s()
        answers: list[Event] = [lambda engine: engine.delivery.controller_knows(now_s)] if knows else []
        if self.owners is None:
            return answers
        asked, self.asked, inquired, self.inquired = self.asked, [], self.inquired, []
        answers += [self.owned(one) for one in asked]
        return answers + [self.owned(one, inquiry=True) for one in inquired]

    def do(self, verb: Callable[[Engine], T]) -> T:
        """Do ``verb`` in a turn of its own, and what follows from it: its value."""
        values: list[T] = []
        self.run(lambda engine: values.append(verb(engine)))
        return values[0]

    def advance(self, seconds: float) -> None:
        """Let time pass; every timer on the way fires at its time, and without one there is no turn.

        So it is in the dispatcher, where nothing happens until something arrives or a timer is due.
        """
        end_s = self.clock.monotonic_s + seconds
        for _ in range(TURN_LIMIT):
            due_s = self.engine.timers.next_s()
            if due_s is None or due_s > end_s:
                break
            self.clock.monotonic_s = max(self.clock.monotonic_s, due_s)
            self.run()
        else:
            raise AssertionError(f"{TURN_LIMIT} turns, and a timer is due again")
        self.clock.monotonic_s = end_s
        if self._stirs:
            self.run()

    def _act(self, turn: Turn) -> None:
        self.happened += turn.happened
        if self.watch is not None:
            self.watch(self)
        sending = {
            request.sending: request
            for request in turn.changes.requests.values()
            if request.status is RequestStatus.SENT
        }
        for outgoing in turn.sends:
            self._leave(outgoing, sending[outgoing.id])
        if self.connected:
            self.asked += turn.questions
            self.inquired += turn.inquiries
            self.checked += turn.checks
            self.proving |= turn.proves

    def _leave(self, outgoing: Outgoing, request: Request) -> None:
        message = outgoing.id
        durable = self.store.now.request(request.id)
        assert durable == request, "it is on disk as sent, under this message id, before it leaves"
        body = jsoncodec.decode(outgoing.payload)
        assert body["id"] == message
        if self.connected:
            now_s = self.clock.now_s()
            self.sent.append(
                Sending(
                    message, request.id, request.destination, body, now_s, outgoing.topic, outgoing.tunnel
                )
            )
        else:
            self.engine.delivery.not_sent(message)

    # -- what callers do --------------------------------------------------------------------------

    def create(self, body: Any, *, begin: bool = True) -> Job:
        """POST /jobs; with ``begin`` its creator has the answer, so that its requests may leave."""
        spec = bodies.parse_job(body, self.settings.max_requests)
        job = self.do(lambda engine: engine.create(spec))
        if begin:
            self.run(lambda engine: engine.lifecycle.begin_job(job.id))
        return job

    def job(self, job_id: int) -> Job:
        """The job as it is on disk."""
        job = self.store.now.job(job_id)
        assert job is not None, f"there is no job {job_id}"
        return job

    def request(self, request_id: int) -> Request:
        """The request as it is on disk."""
        request = self.store.now.request(request_id)
        assert request is not None, f"there is no request {request_id}"
        return request

    def result(self, request_id: int) -> Mapping[str, Any]:
        """How the request ended, as it is on disk."""
        found = self.request(request_id).result
        assert found is not None, f"request {request_id} has no result"
        return found

    def statuses(self, job: Job) -> list[str]:
        """The statuses of a job's requests on disk, in their order."""
        return [request.status.value for request in self.store.now.requests({"job": job.id})]

    # -- what the bus brings ----------------------------------------------------------------------

    def last(self, request_id: int) -> Sending:
        """The last message that left for this request."""
        return next(one for one in reversed(self.sent) if one.request == request_id)

    def sendings(self, request_id: int) -> list[int]:
        """The ids of all messages that left for this request."""
        return [one.message for one in self.sent if one.request == request_id]

    def answered(self, message: int, code: float = 200, data: Any = None) -> Event:
        """The device's answer, through the remote bundle."""
        inner = {"code": code, "method": "post", "resource": "/any", "data": data}
        return self.said({"id": message, "code": 200, "data": inner, "sign": ["remote"]})

    def gateway_said(self, message: int, code: int, text: str) -> Event:
        """The answer of the gateway's own controller, as the published remote bundle hands it on."""
        inner = {"code": code, "method": "POST", "resource": "/any", "id": 4711, "sign": ["controller"]}
        inner["data"] = {"message": text}
        return self.said({"id": message, "code": code, "data": inner, "sign": ["remote"]})

    def refused(
        self, message: int, code: int = 423, text: str = "resource is locked", log: str | None = None
    ) -> Event:
        """The controller's own answer."""
        data = {"message": text} if log is None else {"message": text, "log": log}
        return self.said({"id": message, "code": code, "data": data, "sign": ["controller"]})

    def said(self, message: dict[str, Any]) -> Event:
        """Any answer, as it is on the wire."""
        assert reply.is_answer(message)
        read = reply.read(message)
        return lambda engine: engine.delivery.answered(message["id"], read)

    def owned(self, destination: str, *, inquiry: bool = False) -> Event:
        """The controller's answer about the owner of a destination."""
        assert self.owners is not None
        resources = self.owners(destination)
        return lambda engine: engine.owners(destination, resources, inquiry=inquiry)

    def lose_link(self, *, told: bool = True) -> None:
        """The broker is gone; with ``told`` the engine knows."""
        self.connected = False
        self.asked, self.inquired = [], []
        if told:
            self.run(lambda engine: engine.connection(up=False))

    def regain_link(self) -> None:
        """The broker is back, and the controller answers."""
        self.connected = True
        self.run(lambda engine: engine.connection(up=True), lambda engine: engine.controller(up=True))


def body(method: str, *destinations: str, resource: str = "/system/any", **more: Any) -> dict[str, Any]:
    """The body of POST /jobs with one item."""
    item = {"method": method, "resource": resource, "__request": {"destination": list(destinations)}}
    return {"batch": [item], **more}
