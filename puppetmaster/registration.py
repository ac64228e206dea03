"""Keeps the bundle known to the controller.

A controller that restarts forgets everybody and tells nobody; a broker that restarts takes our
subscriptions along. ``Registration`` is one thread that registers whenever either happened, and until it
worked. Its requests go through a ``Channel`` of their own: the SDK's sessions take their time from
acknowledgements and their ids from a small random range, and both fail under load.
"""

import itertools
import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Event, Lock, Thread
from typing import Any, Protocol

from puppetmaster import wire

_logger = logging.getLogger("sanji.puppetmaster.registration")

RESOURCE = "/controller/registration"
ANSWER_S = 2.0
BACKOFF_S = (0.1, 0.2, 0.5, 1.0)  # then the last one again and again

# One id space serves the whole bus: the SDK draws from 0 to 655,350, Node bundles count from 1, and the
# dispatcher counts up from 2^31. Ours start anywhere in the upper quarter, clear of all of them.
_FIRST_ID, _IDS = 3 * 2**30, 2**30

Message = dict[str, Any]


class RegistrationError(Exception):
    """The controller did not register us: it refused, did not answer, or the link was lost meanwhile."""


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
        self.tunnel = f"puppetmaster-{uuid.uuid4().hex}"
        self._link = link
        self._ids = itertools.count(random.randrange(_IDS))
        self._lock = Lock()  # guards _ids and _waiting; never held while something is sent
        self._waiting: dict[int, Future[Message]] = {}

    def open(self) -> None:
        """Subscribe the tunnel; wanted after every connect, and safe on the network thread."""
        self._link.set_tunnel("channel", self.tunnel, self._on_answer)

    def call(
        self, method: str, resource: str, data: Any, timeout_s: float, topic: str = "/controller"
    ) -> Message:
        """Send a request and return its answer. Raises ``RegistrationError`` when none comes in time."""
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
            self._link.publish(topic=topic, qos=0, payload=message)  # QoS 0: never sent late, never twice
            return answer.result(timeout_s)
        except TimeoutError:
            raise RegistrationError(f"no answer to {method} {resource} within {timeout_s:g} s") from None
        except RuntimeError as error:
            raise RegistrationError(f"{method} {resource} was not sent: {error}") from error
        finally:
            with self._lock:
                self._waiting.pop(message_id, None)

    def settle(self, timeout_s: float) -> None:
        """Return once the broker has taken in every subscription made so far.

        It handles the packets of one connection in order, so a message to ourselves that comes back says so.
        """
        self.call("get", "/", None, timeout_s, topic=self.tunnel)

    def cancel(self, reason: str) -> None:
        """End every call that waits with ``RegistrationError``."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.set_exception(RegistrationError(reason))

    def _on_answer(self, _client: object, _userdata: object, packet: Any) -> None:
        """Match an answer. Called on the network thread, which an exception here would end."""
        try:
            message = wire.decode(packet.payload)
            with self._lock:
                answer = self._waiting.pop(message["id"], None)  # who takes it out resolves it
            if answer is not None:
                answer.set_result(message)
        except (ValueError, TypeError, KeyError) as error:
            _logger.warning("a message to our own tunnel was dropped, it is no answer: %s", error)


class Registration:
    """Registers the profiles after each connect and whenever ``again`` asks for it, until it worked.

    Args:
        channel: carries the requests.
        profiles: returns what to register: objects with ``name``, ``role``, ``resources`` and so on.
        accept: called with role and tunnel of each profile that was registered; subscribes the tunnel.
        ready: called on the registration's own thread each time all of them are registered.
    """

    def __init__(
        self,
        channel: Channel,
        profiles: Callable[[], Sequence[Message]],
        accept: Callable[[str, str], None],
        ready: Callable[[], None],
    ) -> None:
        self.registered = Event()  # whether the controller knows us, as far as we know
        self._registered_s = -math.inf
        self.count = 0  # how often we registered
        self._channel = channel
        self._profiles = profiles
        self._accept = accept
        self._ready = ready
        self._changed = Condition()  # guards the four below and the setting of registered
        self._generation = 0  # counts the connections
        self._linked = False
        self._due = False
        self._stopping = False
        self._thread = Thread(target=self._run, name="sdk-registration", daemon=True)

    def start(self) -> None:
        """Begin to register as soon as there is a link."""
        self._thread.start()

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
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if linked:
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
        while (generation := self._next()) is not None:
            try:
                self._try(generation)
            except Exception:  # whatever it is, the bundle would stay deaf if this thread ended
                _logger.exception("registration failed, trying again")
                self._pause(generation, BACKOFF_S[-1])

    def _next(self) -> int | None:
        """Wait until a registration is due; returns the generation it belongs to, None when stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or (self._linked and self._due))
            return None if self._stopping else self._generation

    def _try(self, generation: int) -> None:
        """Register, and again after each failure, while this generation's link lives."""
        for backoff_s in itertools.chain(BACKOFF_S, itertools.repeat(BACKOFF_S[-1])):
            try:
                self._register(generation)
            except RegistrationError as error:
                _logger.info("not registered yet: %s", error)
                if self._pause(generation, backoff_s):
                    return
            else:
                self._succeed(generation)
                return

    def _pause(self, generation: int, timeout_s: float) -> bool:
        """Wait; returns True, at once, when the generation was overtaken or the bundle stops."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping or self._generation != generation, timeout_s)

    def _register(self, generation: int) -> None:
        for profile in self._profiles():
            if self._pause(generation, 0):
                raise RegistrationError("overtaken by a newer connection")
            # Who crashed, or lost its link, is still registered: its name has to be taken back first.
            self._ask("delete", profile, ANSWER_S)
            tunnel = self._ask("post", profile, ANSWER_S).get("tunnel")
            if not isinstance(tunnel, str) or not tunnel:
                raise RegistrationError(f"expected a tunnel for {profile['name']}, got {tunnel!r}")
            self._accept(profile["role"], tunnel)
        self._channel.settle(ANSWER_S)

    def _ask(self, method: str, profile: Message, timeout_s: float) -> Message:
        """Ask the controller and return the data of its answer; ``RegistrationError`` if it is not a 200.

        423 (one of our resources is locked) and 403 (the id is in flight elsewhere; the next try has
        another one) pass with time.
        """
        answer = self._channel.call(method, RESOURCE, profile, timeout_s)
        data = answer.get("data")
        if answer.get("code") != 200:
            raise RegistrationError(f"{method} of {profile['name']}: answered {answer.get('code')} {data}")
        return data if isinstance(data, dict) else {}

    def _succeed(self, generation: int) -> None:
        with self._changed:
            if self._stopping or self._generation != generation:
                return
            self._due = False
            self.count += 1
            self._registered_s = time.monotonic()
            self.registered.set()
        self._ready()
