"""Keeps the bundle known to the controller.

A controller that restarts forgets everybody and tells nobody; a broker that restarts takes our
subscriptions along. ``Registration`` is one thread that registers whenever either happened, and until it
worked. Its requests go through a ``Channel`` of their own: the SDK's sessions take their time from
acknowledgements and their ids from a small random range, and both fail under load.

That the controller knows us is not enough: it may know a connection that is dead, or somebody else under our
name. So we are registered with a resource that nobody else has, and ask for it over the bus: only when the
answer is of this process do requests reach us. Decision 0027 says who yields to whom.
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
from puppetmaster.model.message import DEPENDENCY
from puppetmaster.threads import Vital

_logger = logging.getLogger("sanji.puppetmaster.bundle.registration")

RESOURCE = "/controller/registration"
ANSWER_S = 2.0
BACKOFF_S = (0.1, 0.2, 0.5, 1.0)  # then the last one again and again
PREDECESSOR_S = 0.5  # for the answer of a process before us, which is hardly there any more
NOT_REACHED = (
    "a request to ourselves over the bus is not answered: a connection that carries nothing is made anew "
    "within 35 s; where the broker has an ACL, that must let us write to /controller, "
    "and read puppetmaster/# and +"
)
CHECK_S = 5.0  # between two requests to ourselves, and between two to who has our name
CHECK_ANSWER_S = 3.0
CHECKS = 2  # so many requests to ourselves in a row without an answer, and we count as not reached
DEAD_S = 60.0  # who has our name and is silent for so long is dead; what heals by itself takes less

# One id space serves the whole bus: the SDK draws from 0 to 655,350, Node bundles count from 1, and the
# dispatcher counts up from 2^31. Ours start anywhere in the upper quarter, clear of all of them.
_FIRST_ID, _IDS = 3 * 2**30, 2**30

Message = dict[str, Any]


class RegistrationError(Exception):
    """The controller did not register us: it refused, did not answer, or the link was lost meanwhile."""


class Unanswered(RegistrationError):
    """Nothing came back in time."""


class Taken(RegistrationError):
    """Somebody else has our name, and lives as far as we know."""


class Link(Protocol):
    """What is needed of the SDK's connection."""

    def publish(self, topic: str, qos: int, payload: Any) -> Any:
        """Send ``payload`` as JSON; raises RuntimeError when there is no connection."""

    def set_tunnel(self, tunnel_type: str, tunnel: str, callback: Callable[[Any, Any, Any], None]) -> None:
        """Subscribe to ``tunnel`` and give what arrives there to ``callback``, on the network thread."""


class Channel:
    """Requests of our own and their answers, each with an id and a deadline of our own.

    ``tunnel`` is the topic the answers come to; any topic will do, it needs no registration.
    """

    def __init__(self, link: Link) -> None:
        self.tunnel = f"puppetmaster/door/{uuid.uuid4().hex}"
        self._link = link
        self._ids = itertools.count(random.randrange(_IDS))
        self._lock = Lock()  # guards _ids and _waiting; never held while something is sent
        self._waiting: dict[int, Future[Message]] = {}

    def open(self) -> None:
        """Subscribe the tunnel; wanted after every connect, and safe on the network thread."""
        self._link.set_tunnel("channel", self.tunnel, self._on_answer)

    def call(self, method: str, resource: str, data: Any, timeout_s: float) -> Message:
        """Send a request and return its answer. Raises ``Unanswered`` when none comes in time."""
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
            self._link.publish(topic="/controller", qos=0, payload=message)
            return answer.result(timeout_s)
        except TimeoutError:
            raise Unanswered(f"no answer to {method} {resource} within {timeout_s:g} s") from None
        except RuntimeError as error:
            raise RegistrationError(f"{method} {resource} was not sent: {error}") from error
        finally:
            with self._lock:
                self._waiting.pop(message_id, None)

    def cancel(self, reason: str) -> None:
        """End every call that waits with ``RegistrationError``."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.set_exception(RegistrationError(reason))

    def _on_answer(self, _client: object, _userdata: object, packet: Any) -> None:
        """Match an answer. Called on the network thread, which an exception here would end."""
        try:
            message = jsoncodec.decode(packet.payload)
            with self._lock:
                answer = self._waiting.pop(message["id"], None)  # who takes it out resolves it
            if answer is not None:
                answer.set_result(message)
        except (ValueError, TypeError, KeyError) as error:
            _logger.warning("a message to our own tunnel was dropped, it is no answer: %s", error)


class Listener(NamedTuple):
    """What the registration tells, on its own thread."""

    #: A profile is registered: its role, and the tunnel that is to be subscribed to.
    accept: Callable[[str, str], None]
    #: All of them are.
    ready: Callable[[], None]
    #: The controller has forgotten us, whom it had registered at this time; we are about to register again.
    forgotten: Callable[[float], None]


class Registration:
    """Registers the profiles after each connect and whenever ``again`` asks for it, until it worked.

    Then it asks for ``own`` every few seconds, and registers again when that does not come back from here.

    Args:
        channel: carries the requests.
        profiles: returns what to register: objects with ``name``, ``role``, ``resources`` and so on.
        listener: is told what comes of it.
        own: returns the resource of the model's profile that nobody else registers.
        process: what this process answers as ``process`` when it is asked for that resource.
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
        self.reason: str | None = None  # why not
        self._registered_s = -math.inf
        self.count = 0  # how often we registered
        self._channel = channel
        self._profiles = profiles
        self._listener = listener
        self._own = own
        self._process = process
        self._ours = False  # whether the controller has our name from us; only then it is ours to take back
        self._silent: tuple[str, float] | None = None  # who has our name and does not answer, since when
        self._complaints = Complaints()
        self._changed = Condition()  # guards the four below and the setting of registered
        self._generation = 0  # counts the connections
        self._linked = self._due = self._stopping = False
        self.thread = Vital(target=self._run, name="sdk-registration")

    def start(self) -> None:
        """Begin to register as soon as there is a link."""
        self.thread.start()

    def connected(self) -> None:
        """A new connection stands: what runs is overtaken, register anew. Never blocks."""
        self._relink(linked=True)

    def disconnected(self) -> None:
        """The link is gone: stop trying until the next one. Never blocks."""
        self._relink(linked=False)

    def again(self, asked_s: float | None = None) -> None:
        """The controller does not know us any more: register, unless that is under way. From any thread.

        Its word is old when we registered after it was asked, at ``asked_s`` by the monotonic clock.
        """
        with self._changed:
            if asked_s is not None and asked_s < self._registered_s:
                return
            self._due = True
            self.registered.clear()
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """Stop registering and take our names back, as far as that can be done in ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            linked = self._linked
            self.registered.clear()
            self._changed.notify_all()
        self._channel.cancel("the bundle stops")
        self.thread.join(timeout_s)
        if linked and self._ours:
            self._leave(deadline)

    def _leave(self, deadline: float) -> None:
        for profile in self._profiles():
            try:
                self._ask("delete", profile, max(0.0, deadline - time.monotonic()))
            except RegistrationError as error:
                _logger.warning("%s stays registered: %s", profile["name"], error)

    def _relink(self, *, linked: bool) -> None:
        with self._changed:
            self._generation += 1
            self._linked = linked
            self._due = True
            self.registered.clear()
            self._changed.notify_all()
        self._channel.cancel("the connection was lost")

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
        """Wait until there is a link and a registration, or a check of it, is due; None when stopping.

        Returns the generation it belongs to, and whether it is a registration.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: self._stopping or (self._linked and self._due), CHECK_S):
                if self._linked:
                    break
            return None if self._stopping else (self._generation, self._due)

    def _pause(self, generation: int, timeout_s: float) -> bool:
        """Wait; returns True, at once, when the generation was overtaken or the bundle stops."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping or self._generation != generation, timeout_s)

    # -- registering ------------------------------------------------------------------------------

    def _try(self, generation: int) -> None:
        """Register, and again after each failure, while this generation's link lives."""
        self._silent = None
        for backoff_s in itertools.chain(BACKOFF_S, itertools.repeat(BACKOFF_S[-1])):
            try:
                self._register(generation)
            except Taken as error:
                self._ours = False
                self._complain(logging.WARNING, error)
                backoff_s = CHECK_S
            except RegistrationError as error:
                if isinstance(error, Unanswered):  # while the controller is silent, nobody else can answer
                    self._silent = None
                self._complain(logging.INFO, error)
            else:
                self._succeed(generation)
                return
            if self._pause(generation, backoff_s):
                return

    def _complain(self, level: int, error: RegistrationError) -> None:
        self.reason = str(error)
        if self._complaints.due(self.reason):
            _logger.log(level, "not registered: %s", error)

    def _register(self, generation: int) -> None:
        """Raises RegistrationError: not registered, or not reached."""
        for profile in self._profiles():
            if self._pause(generation, 0):
                raise RegistrationError("overtaken by a newer connection")
            self._claim(profile)
        self._prove(ANSWER_S)

    def _claim(self, profile: Message) -> None:
        """Have the controller know ``profile``. Raises Taken, RegistrationError."""
        if self._ours and not self._owned(profile["resources"][0]):
            self._ours = False
            self._listener.forgotten(self._registered_s)  # now: once we are registered again nothing tells
        answer = self._channel.call("post", RESOURCE, profile, ANSWER_S)
        if answer.get("code") == 403:  # the name is taken; or the id was used, which does no harm here
            if self._reached(profile):
                self._ours = True
                return
            self._ask("delete", profile, ANSWER_S)
            answer = self._channel.call("post", RESOURCE, profile, ANSWER_S)
        tunnel = _granted(answer, f"post of {profile['name']}").get("tunnel")
        if not isinstance(tunnel, str) or not tunnel:
            raise RegistrationError(f"expected a tunnel for {profile['name']}, got {tunnel!r}")
        self._ours = True
        self._listener.accept(profile["role"], tunnel)

    def _reached(self, profile: Message) -> bool:
        """Who has our name? True: this process, and it is reached. False: nobody who lives. Raises Taken."""
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
        # Its own resource is answered at once. An earlier version has only the one without an installation.
        askable = max(
            (one for one in owned if one == base or one.startswith(f"{base}/")), key=len, default=""
        )
        if askable:
            self._wait_for_end(profile["name"], askable, askable.removeprefix(base).lstrip("/"))
        return False

    def _wait_for_end(self, name: str, resource: str, installation: str) -> None:
        """Return when who owns ``resource`` has been silent for long. Raises Taken, until then."""
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
        if answer.get("code") != 423:  # locked: that says nothing
            self._silent = None
        raise Taken(
            f"{who}{_named(answer)}, has our resources: stop one of the two; "
            "this one takes over when the other has ended"
        )

    def _owned(self, resource: str) -> list[str]:
        """All resources of the model that has this one; takes no lock."""
        answer = self._channel.call("get", DEPENDENCY + resource, {}, ANSWER_S)
        data = answer.get("data")
        resources = data.get("resources") if isinstance(data, dict) else None
        return [one for one in resources if isinstance(one, str)] if isinstance(resources, list) else []

    def _who(self, resource: str, timeout_s: float) -> Message | None:
        """The answer of who owns ``resource``, who is told who asks; None: silence."""
        asking = identity(self._own().rpartition("/")[2], self._process)
        try:
            return self._channel.call("get", resource, asking, timeout_s)
        except Unanswered:
            return None

    def _is_me(self, answer: Message) -> bool:
        data = answer.get("data")
        return isinstance(data, dict) and data.get("process") == self._process

    def _ask(self, method: str, profile: Message, timeout_s: float) -> Message:
        """Ask the controller and return the data of its answer; ``RegistrationError`` if it is not a 200.

        423 (one of our resources is locked) and 403 (the id is in flight elsewhere; the next try has
        another one) pass with time.
        """
        answer = self._channel.call(method, RESOURCE, profile, timeout_s)
        return _granted(answer, f"{method} of {profile['name']}")

    def _succeed(self, generation: int) -> None:
        with self._changed:
            if self._stopping or self._generation != generation:
                return
            self._due = False
            self.count += 1
            self._registered_s = time.monotonic()
            self.reason = None
            self._complaints.over()
            self.registered.set()
        self._listener.ready()

    # -- and being reached ------------------------------------------------------------------------

    def _prove(self, timeout_s: float) -> None:
        """Ask for our own resource over the bus. Raises RegistrationError: no answer of this process."""
        own = self._own()
        if not any(own in profile["resources"] for profile in self._profiles()):
            return
        answer = self._who(own, timeout_s)
        if answer is None:
            raise Unanswered(NOT_REACHED)
        if answer.get("code") == 423:  # we are at work for somebody
            return
        _granted(answer, own)
        if not self._is_me(answer):
            raise RegistrationError(f"requests to us reach another process{_named(answer)}")

    def _check(self, generation: int) -> None:
        """We are registered: does a request reach us? If not, register anew."""
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
    """The data of an answer, {} if that is no object. Raises RegistrationError for another code than 200."""
    data = answer.get("data")
    if answer.get("code") != 200:
        raise RegistrationError(f"{asked}: answered {answer.get('code')} {data}")
    return data if isinstance(data, dict) else {}


def _named(answer: Message) -> str:
    """Where who answered runs, if the answer says so."""
    return where(answer.get("data"))


def identity(installation: str, process: str) -> Message:
    """Who this process is, as it says to whoever asks, and to whom it asks."""
    return {"installation": installation, "process": process, "pid": os.getpid(), "host": platform.node()}


def where(data: Any) -> str:
    """Where the process of an ``identity`` runs, for a sentence; empty: it is none."""
    if not isinstance(data, dict) or "pid" not in data:
        return ""
    return f" (process {data['pid']} on {data.get('host')})"
