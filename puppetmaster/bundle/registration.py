"""Keeps the bundle registered with the controller.

A controller that restarts forgets all bundles and does not tell them. A broker that restarts forgets our
subscriptions. ``Registration`` is a thread that registers after either, until it succeeds. Its requests go
through a ``Channel``, because the SDK's sessions fail under load: their time depends on acknowledgements,
and their ids are drawn from a small range.

Being known to the controller is not enough: it may know a dead connection of ours, or another process under
our name. So we register a resource that nobody else has, and ask for it over the bus. Requests reach us only
when this process answers. Decision 0027 says which of two processes yields.
"""

import itertools
import logging
import math
import os
import platform
import random
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Event, Lock
from typing import Any, NamedTuple, Protocol

from puppetmaster import jsoncodec
from puppetmaster.bus.credentials import Complaints
from puppetmaster.model.message import CONTROLLER_TOPIC, DEPENDENCY, REGISTRATION
from puppetmaster.threads import Vital

_logger = logging.getLogger("sanji.puppetmaster.bundle.registration")

ANSWER_S = 2.0  # how long the controller, or another process, is given to answer
BACKOFF_S = (0.1, 0.2, 0.5, 1.0)  # pauses after failed tries; the last one is repeated
PREDECESSOR_S = 0.5  # how long an earlier process of our own, which has probably ended, is given to answer
NOT_REACHED = (
    "a request to ourselves over the bus is not answered: a connection that carries nothing is made anew "
    "within 35 s; where the broker has an ACL, that must let us write to /controller, "
    "and read puppetmaster/# and +"
)
CHECK_S = 5.0  # pause between two requests to ourselves, and between two to the process that has our name
CHECK_ANSWER_S = 3.0  # how long a request to ourselves may take
CHECKS = 2  # after this number of requests to ourselves without an answer in a row, requests do not reach us
DEAD_S = 60.0  # a process that has our name counts as dead after this silence; a shorter one may pass

# All of the bus shares one id space: the SDK draws from 0 to 655,350, Node bundles count from 1, and the
# dispatcher counts up from 2^31. Our ids start anywhere in the upper quarter, clear of all those.
_FIRST_ID, _IDS = 3 * 2**30, 2**30

Message = dict[str, Any]


class RegistrationError(Exception):
    """The controller did not register us: it refused, did not answer, or the connection was lost."""


class Unanswered(RegistrationError):
    """No answer came in time."""


class Taken(RegistrationError):
    """Another process is registered under our name, and is alive as far as we know."""


class Connection(Protocol):
    """The two methods of the SDK's connection that ``Channel`` needs."""

    def publish(self, topic: str, qos: int, payload: Any) -> Any:
        """Send ``payload`` as JSON; raises RuntimeError when there is no connection."""

    def set_tunnel(self, tunnel_type: str, tunnel: str, callback: Callable[[Any, Any, Any], None]) -> None:
        """Subscribe to ``tunnel``; ``callback`` is given each message on it, on the network thread."""


class Channel:
    """Sends requests of our own and matches their answers, with its own ids and timeouts.

    ``tunnel`` is the topic that the answers come to. It need not be registered.
    """

    def __init__(self, connection: Connection) -> None:
        self.tunnel = f"puppetmaster/door/{uuid.uuid4().hex}"
        self._connection = connection
        self._ids = itertools.count(random.randrange(_IDS))
        self._lock = Lock()  # guards _ids and _waiting; never held while something is sent
        self._waiting: dict[int, Future[Message]] = {}

    def open(self) -> None:
        """Subscribe to the tunnel. To be called after every connect; safe on the network thread."""
        self._connection.set_tunnel("channel", self.tunnel, self._on_answer)

    def call(self, method: str, resource: str, data: Any, timeout_s: float) -> Message:
        """Send a request and wait for its answer, which is returned whole.

        Raises:
            Unanswered: no answer came within ``timeout_s``.
            RegistrationError: there is no connection, or ``cancel`` was called.
        """
        answer: Future[Message] = Future()
        with self._lock:
            message_id = _FIRST_ID + next(self._ids) % _IDS
            self._waiting[message_id] = answer
        message = {
            "id": message_id,
            "method": method,
            "resource": resource,
            "tunnel": self.tunnel,
            "data": data,
        }
        try:
            # QoS 0: never sent late, never twice
            self._connection.publish(topic=CONTROLLER_TOPIC, qos=0, payload=message)
            return answer.result(timeout_s)
        except TimeoutError:
            raise Unanswered(f"no answer to {method} {resource} within {timeout_s:g} s") from None
        except RuntimeError as error:
            raise RegistrationError(f"{method} {resource} was not sent: {error}") from error
        finally:
            with self._lock:
                self._waiting.pop(message_id, None)

    def cancel(self, reason: str) -> None:
        """Have every waiting ``call`` raise ``RegistrationError`` with this reason."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.set_exception(RegistrationError(reason))

    def _on_answer(self, _client: object, _userdata: object, packet: Any) -> None:
        """Give an answer to the call that waits for it. An exception would end this, the network thread."""
        try:
            message = jsoncodec.decode(packet.payload)
            with self._lock:
                answer = self._waiting.pop(message["id"], None)  # who removes it resolves it
            if answer is not None:
                answer.set_result(message)
        except (ValueError, TypeError, KeyError):
            text = "a message to our own tunnel was dropped: expected an answer with an id, got %.80r"
            _logger.warning(text, packet.payload)


class Listener(NamedTuple):
    """What the registration tells, on its own thread."""

    #: A profile is registered: its role, and the tunnel that is to be subscribed to.
    accept: Callable[[str, str], None]
    #: All profiles are registered.
    ready: Callable[[], None]
    #: The controller has forgotten us, whom it had registered at this time; we are about to register again.
    forgotten: Callable[[float], None]


class Registration:
    """Registers the profiles after each connect, and whenever ``again`` is called, until that succeeds.

    Then it asks for the resource ``own`` every ``CHECK_S``, and registers again when this process does not
    answer.

    Args:
        channel: carries the requests.
        profiles: returns what to register: objects with ``name``, ``role``, ``resources`` and so on.
        listener: is told how registering went, on the registration's own thread.
        own: returns the resource of the model's profile that nobody else registers.
        process: the random name that this process answers with when it is asked for that resource.
    """

    def __init__(
        self,
        channel: Channel,
        profiles: Callable[[], Sequence[Message]],
        listener: Listener,
        own: Callable[[], str],
        process: str,
    ) -> None:
        self.registered = Event()  # whether requests reach us, as far as we know
        self.reason: str | None = None  # why they do not reach us; None: they do, or no try has failed yet
        self._registered_s = -math.inf  # when a question was asked whose answer says that they reach us
        self.count = 0  # how often registering has succeeded
        self.adopts = False  # whether we listen on the tunnels of an earlier process, and may go on with them
        self._channel = channel
        self._profiles = profiles
        self._listener = listener
        self._own = own
        self._process = process
        self._ours = False  # whether this process has registered our name; only then ``stop`` deletes it
        self._silent: tuple[str, float] | None = None  # a silent owner of our name: its resource, since when
        self._complaints = Complaints()
        self._changed = Condition()  # guards the five attributes below and the setting of registered
        self._generation = 0  # number of changes of the connection
        self._unknown_s = -math.inf  # when a question was asked whose answer says that we are not known
        self._connected = self._due = self._stopping = False
        self.thread = Vital(target=self._run, name="sdk-registration")

    def start(self) -> None:
        """Start the thread: it registers as soon as there is a connection."""
        self.thread.start()

    def connected(self) -> None:
        """Register over a new connection; a try that runs is given up. Never blocks."""
        self._set_connected(connected=True)

    def disconnected(self) -> None:
        """Stop trying until the next connection. Never blocks."""
        self._set_connected(connected=False)

    def again(self, asked_s: float | None = None) -> None:
        """Register, because the controller does not know us any more. Any thread may call.

        ``asked_s`` is when the controller was asked (monotonic clock); None: now. Does nothing when we have
        registered since then.
        """
        asked_s = time.monotonic() if asked_s is None else asked_s
        with self._changed:
            if asked_s < self._registered_s:
                return
            self._unknown_s = max(self._unknown_s, asked_s)
            self._due = True
            self.registered.clear()
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """Stop registering, and delete our registrations as far as that can be done in ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            connected = self._connected
            self.registered.clear()
            self._changed.notify_all()
        self._channel.cancel("the bundle stops")
        self.thread.join(timeout_s)
        if connected and self._ours:
            self._leave(deadline)

    def _leave(self, deadline: float) -> None:
        for profile in self._profiles():
            try:
                self._ask("delete", profile, max(0.0, deadline - time.monotonic()))
            except RegistrationError as error:
                _logger.warning("%s stays registered: %s", profile["name"], error)

    def _set_connected(self, *, connected: bool) -> None:
        with self._changed:
            self._generation += 1
            self._connected = connected
            self._due = True
            self.registered.clear()
            self._channel.cancel("the connection was lost")  # and no question over the next one
            self._changed.notify_all()

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            generation, due = turn
            try:
                if due:
                    self._try(generation)
                else:
                    self._check(generation)
            except Exception:  # whatever it is, the bundle would stay deaf if this thread ended
                _logger.exception("registration failed, trying again")
                self._pause(generation, BACKOFF_S[-1])

    def _next(self) -> tuple[int, bool] | None:
        """Wait until there is a connection, and a registration or a check is due.

        Returns the generation, and whether a registration is due, not a check; None: the bundle stops.
        """
        with self._changed:
            while not self._changed.wait_for(
                lambda: self._stopping or (self._connected and self._due), CHECK_S
            ):
                if self._connected:
                    break
            return None if self._stopping else (self._generation, self._due)

    def _pause(self, generation: int, timeout_s: float) -> bool:
        """Wait ``timeout_s``. Returns True, early, when there is a newer generation or the bundle stops."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping or self._generation != generation, timeout_s)

    # -- registering ------------------------------------------------------------------------------

    def _try(self, generation: int) -> None:
        """Register, and try again after each failure, until there is a newer generation."""
        self._silent = None
        for backoff_s in itertools.chain(BACKOFF_S, itertools.repeat(BACKOFF_S[-1])):
            try:
                proved_s = self._register(generation)
            except Taken as error:
                self._ours = False
                self._complain(logging.WARNING, error)
                backoff_s = CHECK_S
            except RegistrationError as error:
                if isinstance(error, Unanswered):  # a silent controller says nothing about the other process
                    self._silent = None
                self._complain(logging.INFO, error)
            else:
                self._succeed(generation, proved_s)
                return
            if self._pause(generation, backoff_s):
                return

    def _complain(self, level: int, error: RegistrationError) -> None:
        self.reason = str(error)
        if self._complaints.due(self.reason):
            _logger.log(level, "not registered: %s", error)

    def _register(self, generation: int) -> float:
        """Register all profiles. Returns when it was asked whether requests reach us: they do.

        Raises RegistrationError: that failed, or requests do not reach us.
        """
        for profile in self._profiles():
            if self._pause(generation, 0):
                raise RegistrationError("overtaken by a newer connection")
            self._claim(profile)
        asked_s = time.monotonic()
        self._prove(ANSWER_S)
        return asked_s

    def _claim(self, profile: Message) -> None:
        """Register one profile and subscribe to its tunnel.

        Raises:
            Taken: another process has our name.
            RegistrationError: the controller refused, or did not answer.
        """
        if self._ours and not self._owned(profile["resources"][0]):
            self._ours = False
            # Now, because nothing shows that it forgot us once we are registered again.
            self._listener.forgotten(self._registered_s)
        if self.adopts and self._own() in self._owned(profile["resources"][0]) and self._reached(profile):
            # A POST of a caller that was lost with the earlier process may have locked our resources:
            # then we cannot be registered anew before that lock ends, and need not be.
            self._ours = True
            return
        answer = self._channel.call("post", REGISTRATION, profile, ANSWER_S)
        if answer.get("code") == 403:  # the name is taken, or the id was in use, which does no harm here
            if self._reached(profile):
                self._ours = True
                return
            self._ask("delete", profile, ANSWER_S)
            answer = self._channel.call("post", REGISTRATION, profile, ANSWER_S)
        tunnel = _granted(answer, f"post of {profile['name']}").get("tunnel")
        if not isinstance(tunnel, str) or not tunnel:
            raise RegistrationError(f"expected a tunnel for {profile['name']}, got {tunnel!r}")
        self._ours = True
        self._listener.accept(profile["role"], tunnel)

    def _reached(self, profile: Message) -> bool:
        """Find out which process is registered under our name.

        Returns True when this process is and requests reach it, False when no live process is.
        Raises Taken: another process is.
        """
        own = self._own()
        if own not in profile["resources"]:
            return False  # a view is never sent a request: it cannot be asked
        owned = self._owned(profile["resources"][0])
        if own in owned:
            answer = self._who(own, ANSWER_S if self.count else PREDECESSOR_S)
            if answer is None:
                return False
            _granted(answer, own)
            if not self._is_me(answer):
                raise Taken(
                    f"another process of our own installation{_named(answer)} has our resources: stop it; "
                    "if its data directory is a copy of ours, begin there with an empty one"
                )
            return True
        base = own.rpartition("/")[0]
        # The resource with an installation is answered at once. An earlier version has only the base.
        askable = max(
            (one for one in owned if one == base or one.startswith(f"{base}/")), key=len, default=""
        )
        if askable:
            self._wait_for_end(profile["name"], askable, askable.removeprefix(base).lstrip("/"))
        return False

    def _wait_for_end(self, name: str, resource: str, installation: str) -> None:
        """Ask the owner of ``resource``, and return if it has been silent for ``DEAD_S``.

        Raises Taken: it answers, or is silent for less than that.
        """
        who = f"another {name}, {f'installation {installation}' if installation else 'an earlier version'}"
        answer = self._who(resource, ANSWER_S)
        if answer is None:
            now_s = time.monotonic()
            if self._silent is None or self._silent[0] != resource:
                self._silent = (resource, now_s)
            if now_s - self._silent[1] >= DEAD_S:
                _logger.warning(
                    "%s, has our resources and has not answered for %g s: taken over", who, DEAD_S
                )
                self._silent = None
                return
            raise Taken(
                f"{who}, has our resources and does not answer: after {DEAD_S:g} s of that they will be ours"
            )
        if answer.get("code") != 423:  # 423 is the controller's: it does not prove that the owner is alive
            self._silent = None
        raise Taken(
            f"{who}{_named(answer)}, has our resources: stop one of the two; "
            "this one takes over when the other has ended"
        )

    def _owned(self, resource: str) -> list[str]:
        """All resources of the model that owns ``resource``; empty: nobody does. Takes no lock."""
        answer = self._channel.call("get", DEPENDENCY + resource, {}, ANSWER_S)
        data = answer.get("data")
        resources = data.get("resources") if isinstance(data, dict) else None
        return [one for one in resources if isinstance(one, str)] if isinstance(resources, list) else []

    def _who(self, resource: str, timeout_s: float) -> Message | None:
        """Ask the owner of ``resource`` who it is, and say who we are. None: it does not answer in time."""
        asking = identity(self._own().rpartition("/")[2], self._process)
        try:
            return self._channel.call("get", resource, asking, timeout_s)
        except Unanswered:
            return None

    def _is_me(self, answer: Message) -> bool:
        data = answer.get("data")
        return isinstance(data, dict) and data.get("process") == self._process

    def _ask(self, method: str, profile: Message, timeout_s: float) -> Message:
        """Ask the controller to register or delete ``profile``. Returns the data of its answer.

        Raises RegistrationError: no answer, or none with code 200. A later try may succeed after 423 (one of
        our resources is locked) and 403 (the id is in flight elsewhere; each try has an id of its own).
        """
        answer = self._channel.call(method, REGISTRATION, profile, timeout_s)
        return _granted(answer, f"{method} of {profile['name']}")

    def _succeed(self, generation: int, proved_s: float) -> None:
        with self._changed:
            if self._stopping or self._generation != generation:
                return
            self._registered_s = proved_s
            if self._unknown_s >= proved_s:  # it has forgotten us since, and we register again
                return
            self._due = False
            self.count += 1
            self.reason = None
            self._complaints.over()
            self.registered.set()
        self._listener.ready()

    # -- and being reached ------------------------------------------------------------------------

    def _prove(self, timeout_s: float) -> None:
        """Ask for our own resource over the bus. Raises RegistrationError: this process did not answer."""
        own = self._own()
        if not any(own in profile["resources"] for profile in self._profiles()):
            return
        answer = self._who(own, timeout_s)
        if answer is None:
            raise Unanswered(NOT_REACHED)
        if answer.get("code") == 423:  # our resources are locked by a write to us, so requests do reach us
            return
        _granted(answer, own)
        if not self._is_me(answer):
            raise RegistrationError(f"requests to us reach another process{_named(answer)}")

    def _check(self, generation: int) -> None:
        """Check that requests reach us. If they do not, have the thread register again."""
        for _ in range(CHECKS):
            try:
                self._prove(CHECK_ANSWER_S)
            except Unanswered as error:
                fault: RegistrationError = error
            except RegistrationError as error:
                fault = error
                break
            else:
                return
        with self._changed:
            if self._stopping or self._generation != generation:
                return
            self._due = True
            self.reason = str(fault)
            self.registered.clear()
        _logger.warning("registering again: %s", fault)


def _granted(answer: Message, asked: str) -> Message:
    """The data of an answer, {} if that is no object. Raises RegistrationError: its code is not 200."""
    data = answer.get("data")
    if answer.get("code") != 200:
        raise RegistrationError(f"{asked}: answered {answer.get('code')} {data}")
    return data if isinstance(data, dict) else {}


def _named(answer: Message) -> str:
    """Where the process that answered runs, for a sentence; empty: the answer does not say."""
    return where(answer.get("data"))


def identity(installation: str, process: str) -> Message:
    """Who this process is, for requests and answers: installation, process, pid and host."""
    return {"installation": installation, "process": process, "pid": os.getpid(), "host": platform.node()}


def where(data: Any) -> str:
    """Where the process of an ``identity`` runs, for a sentence; empty: ``data`` is no identity."""
    if not isinstance(data, dict) or "pid" not in data:
        return ""
    return f" (process {data['pid']} on {data.get('host')})"
