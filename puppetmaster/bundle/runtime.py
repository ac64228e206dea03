"""A Sanji bundle that stays registered, answers every request that reaches it, and stops when asked to.

``SteadySanji`` is the SDK's ``Sanji`` with the work of its threads replaced. Routes are declared with
``@Route``, and ``init``, ``run`` and ``before_stop`` are called, as in the SDK. ``docs/sdk.md`` lists the
faults of the SDK that this cures.

The name sorts after ``Index`` and ``Puppetmaster`` on purpose: Sanji's bootstrap starts the alphabetically
first subclass of ``Sanji`` that it finds in index.py.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Full
from threading import Event, Lock, Thread
from types import FrameType
from typing import Any

from simplejson import RawJSON

from puppetmaster import jsoncodec
from puppetmaster.bundle import envelope, sdk
from puppetmaster.bundle.registration import Channel, Listener, Registration, identity, where
from puppetmaster.bundle.requests import BusRequest, Response, handle
from puppetmaster.bundle.signals import Signals, end_within
from puppetmaster.bus.credentials import Complaints
from puppetmaster.bus.limit import Limit
from puppetmaster.errors import Invalid, PuppetmasterError, Unavailable
from puppetmaster.model.message import CONTROLLER_TOPIC
from puppetmaster.threads import Vital, ended, not_started

_logger = logging.getLogger("sanji.puppetmaster.bundle.runtime")

WAITING_LIMIT = 1000  # most unread messages, and most requests, that wait for a thread
WAITING_BYTES = 16 * 1024 * 1024  # most bytes of either queue; an empty queue takes a message of any size
DEREGISTER_S = 1.0  # how long stop() tries to delete the registration
LOOK_UP_S = 0.2  # pause between two looks at stop_event
LAST_S = 30  # how long a bundle that cannot go on may take to stop, before the system kills the process
TWIN_S = 15.0  # how long twin() reports a process of our installation, which asks every 5 s while it runs
JOIN_S = 0.5  # how long stop() waits for handlers that are still busy
STOP_S = 3.0  # how long start() waits for a stop() on another thread


class _Waiting:
    """Counts the bytes that wait in a queue. Any thread may call."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = Lock()  # guards _bytes

    def add(self, size: int) -> bool:
        """Count ``size`` more bytes. Returns False, and counts none, when they would exceed the limit."""
        with self._lock:
            if self._bytes and self._bytes + size > WAITING_BYTES:
                return False
            self._bytes += size
            return True

    def remove(self, size: int) -> None:
        """Count ``size`` bytes less."""
        with self._lock:
            self._bytes -= size


class SteadySanji(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
    """The base of a bundle class.

    Args:
        connection: the connection to the broker; default ``sdk.connection()``.
        bundle: the SDK's ``Bundle``; default: made from the bundle.json beside the subclass.
        stop_event: when it is set, ``start`` stops the bundle and returns; default: an event of its own.
        All arguments, these and others, are passed on to ``init``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("connection") is None:
            kwargs["connection"] = sdk.connection()
        if kwargs.get("stop_event") is None:
            kwargs["stop_event"] = Event()
        self._stop_lock = Lock()  # guards _stop_begun
        self._stop_begun = self._flooded = False
        self._stopped = Event()
        self._signals = Signals()
        self._unread, self._unhandled = _Waiting(), _Waiting()
        self.channel = Channel(kwargs["connection"])
        self.installation = uuid.uuid4().hex[:16]  # ``init`` may set an id that lasts
        self.process = uuid.uuid4().hex
        self.limit = Limit()  # ``init`` may set another limit
        #: Tunnels on which an earlier process was registered; ``init`` may set them. We answer there too.
        self.former: Sequence[str] = ()
        self.registration = Registration(
            self.channel,
            self._profiles,
            Listener(self._accept, self._announce, self.controller_forgot),
            self._own,
            self.process,
        )
        self.registered = self.registration.registered  # an Event: whether requests reach us
        self._left = False  # whether requests are for another process from now on
        self._twin: tuple[str | None, float] = (None, 0.0)  # what ``twin`` returns, and when the twin asked
        self._twin_complaints = Complaints()
        #: Whether nothing but the bundle runs in this process: then ``start`` returns when it cannot go on.
        self.alone = False
        #: Why the bundle cannot go on; None: it can.
        self.fault: str | None = None
        with Signals(take=False):  # the SDK takes SIGINT here; only start() is to take it
            super().__init__(*args, **kwargs)

    def _register_routes(self, methods: Sequence[tuple[str, Any]]) -> Any:
        """Replace some parts of the SDK, which calls this when they exist, and before ``init``."""
        self.bundle.profile.setdefault("role", "model")
        self._session.thread_aging.name = "sdk-aging"
        self.publish.create_response = self._response
        for method in ("get", "post", "put", "delete"):
            setattr(self.publish.event, method, self._event(method))
        client = getattr(self._conn, "client", None)  # the SDK's Mockup has none
        if client is not None:
            client.on_disconnect = self.on_disconnect
        self._conn.instead = envelope.refused  # only ``sdk.Connection`` uses it
        # The SDK would call every method that is named "wrapper"; the methods that it means have ``_order``.
        return super()._register_routes([each for each in methods if hasattr(each[1], "_order")])

    # ---- the connection: on the network thread, where nothing may block or raise ----------------------

    def on_connect(self, _client: Any, _userdata: Any, _flags: Any, rc: int) -> None:
        """Subscribe to our tunnels, and have the registration thread register us."""
        if not getattr(self._conn, "accepted", _accepted)(rc):
            return
        self._conn.set_tunnels(self._conn.tunnels)
        for number, tunnel in enumerate(self.former):
            self._conn.set_tunnel(f"former-{number}", tunnel, self.on_sanji_message)
        self.registration.adopts = bool(self.former)
        self.channel.open()
        self.registration.connected()

    def on_disconnect(self, _client: Any, _userdata: Any, _rc: int) -> None:
        """Tell the registration that the connection is lost. ``sdk.Connection`` connects again by itself."""
        self.registration.disconnected()

    def on_publish(self, _client: Any, _userdata: Any, _mid: int) -> None:
        """Do nothing: nobody here waits for acknowledgements.

        The SDK would queue them, and time its sessions by that queue: its sessions age only while the queue
        is empty, or at every hundredth acknowledgement.
        """

    def on_sanji_message(self, _client: Any, _userdata: Any, msg: Any) -> None:
        """Queue a message for the reader thread, or drop it when too much waits, or when we have left."""
        if self._left:
            return
        waiting = self.res_queue.qsize()
        full = waiting >= WAITING_LIMIT or not self._unread.add(len(msg.payload))
        if not full:
            self.res_queue.put(msg.payload)
        elif not self._flooded:
            _logger.error("messages are being dropped: %d are waiting to be read", waiting)
        self._flooded = full

    # ---- registration ---------------------------------------------------------------------------------

    def register_again(self, asked_s: float | None = None) -> None:
        """Register, because the controller did not know us at ``asked_s`` (monotonic clock; None: now).

        Any thread may call.
        """
        self.registration.again(asked_s)

    def controller_forgot(self, known_s: float) -> None:
        """Called on the registration's thread when the controller was restarted. A subclass may override it.

        ``known_s`` is when the controller had registered us (monotonic clock); it has forgotten that since.
        """

    def registered_on(self, tunnel: str) -> None:
        """Called on the registration's thread: the controller sends us requests there from now on.

        A subclass may override it.
        """

    def why_not_registered(self) -> str | None:
        """Why requests do not reach us, and what to do; None: they do, or no try has failed yet."""
        attempts = getattr(self._conn, "attempts", None)  # the SDK's own connection has none
        if attempts is not None and attempts.reason:
            return f"the bus door has no connection to the broker: {attempts.reason}"
        return self.registration.reason

    def _own(self) -> str:
        """The resource that only this installation registers."""
        return f"/system/{self.bundle.profile['name']}/{self.installation}"

    def _profiles(self) -> list[dict[str, Any]]:
        profiles = [self.get_profile(role) for role in ("model", "view")]
        profiles = [profile for profile in profiles if profile["resources"]]
        for profile in profiles:
            if profile["role"] == "model":
                profile["resources"] = [*profile["resources"], self._own()]
        return profiles

    def _accept(self, role: str, tunnel: str) -> None:
        before, _ = self._conn.tunnels[role]
        self._conn.set_tunnel(role, tunnel, self.on_sanji_message)
        if before not in (None, tunnel):
            self._conn.message_callback_remove(before)
        self.registered_on(tunnel)

    def _announce(self) -> None:
        """Set what the SDK sets after registering, and let ``run`` begin."""
        self.bundle.profile["currentTunnels"] = [tunnel for tunnel, _ in self._conn.tunnels.values()]
        self.bundle.profile["regCount"] = self.registration.count
        self.is_ready.set()
        _logger.info("registered with the controller", extra={"action": "registered"})

    # ---- messages -------------------------------------------------------------------------------------

    def _resolve_responses(self) -> None:
        """The reader thread: read messages, answer broken requests, queue the others for the handlers."""
        while (payload := self.res_queue.get()) is not None:
            try:
                self._read(payload)
            except ValueError as error:
                _logger.warning("a message was dropped: %s", error)
            except Exception:
                _logger.exception("a message was dropped")
            finally:
                self._unread.remove(len(payload))

    def _read(self, payload: bytes) -> None:
        message, fault = envelope.read(payload)
        kind = envelope.kind(message)
        if kind is envelope.Kind.REQUEST:
            self._admit(message, fault, len(payload))
        elif kind is envelope.Kind.ANSWER and fault is None:
            known = {key: message.get(key) for key in ("id", "code", "method", "resource", "sign", "data")}
            self._session.resolve(message["id"], sdk.Message(known))  # drops an answer that nobody waits for
        else:
            _logger.debug("dropped an event: a model is sent none")

    def _admit(self, message: dict[str, Any], fault: Invalid | None, size: int) -> None:
        """Queue a request, or answer why it is not queued."""
        try:
            if fault is not None:
                raise fault
            request = BusRequest(envelope.request(message))
            if request.resource == self._own():
                self._note_twin(message.get("data"))
                self._respond(message)(data=self._identity())
                return
            waiting = self.req_queue.qsize()
            if waiting >= WAITING_LIMIT or not self._unhandled.add(size):
                raise Unavailable(f"{waiting} requests are waiting already; try again later")
        except PuppetmasterError as error:
            self._respond(message).refuse(error)
        else:
            self.req_queue.put((request, size))

    def _identity(self) -> dict[str, Any]:
        """The answer to "who are you?". The reader thread gives it at once, even while handlers are busy."""
        return identity(self.installation, self.process)

    def _note_twin(self, asking: Any) -> None:
        """Note the twin: another process of our installation that asks who we are, waiting for our end."""
        if not isinstance(asking, dict) or asking.get("installation") != self.installation:
            return
        if asking.get("process") == self.process:
            return
        sentence = (
            f"another process of our own installation{where(asking)} runs, on a copy of our data directory: "
            "stop it, and begin there with an empty one"
        )
        self._twin = (sentence, time.monotonic())
        if self._twin_complaints.due(sentence):
            _logger.warning("%s", sentence, extra={"action": "twin"})

    def twin(self) -> str | None:
        """That another process of our installation runs, and what to do; None: no process asked lately."""
        sentence, heard_s = self._twin
        return sentence if time.monotonic() - heard_s < TWIN_S else None

    def _dispatch_message(self) -> None:
        """A handler thread: run one handler after the other, whatever they raise."""
        while (waiting := self.req_queue.get()) is not None:
            request, size = waiting
            try:
                handle(self, request, self._response(request))
            except Exception:
                _logger.exception("message %s may be without an answer", request.id)
            finally:
                self._unhandled.remove(size)
                del waiting, request  # a request may be large, and the thread may wait long for the next

    def _response(self, request: Any, signer: str | None = None) -> Response:
        """The replacement of the SDK's ``create_response``, whose answers wait for the broker."""
        return self._respond(request.to_dict(), signer)

    def _respond(self, message: dict[str, Any], signer: str | None = None) -> Response:
        # QoS 1: without a connection paho keeps the answer until there is one. If the answer then arrives
        # twice, the controller drops the second.
        return Response(
            lambda payload: self._send(payload, 1),
            message,
            signer or self.bundle.profile["name"],
            self.limit.capacity,
        )

    def _event(self, method: str) -> Callable[..., None]:
        """The replacement of the SDK's ``publish.event.<method>``, which waits for the broker too."""

        def publish(resource: str, data: Any = None, code: int = 200) -> None:
            """Send an event at QoS 0. Without a connection the event is lost: it would be old later."""
            event = {"code": code, "method": method, "resource": resource, "data": data}
            self._send(jsoncodec.encode(jsoncodec.carriable(event)), 0)

        return publish

    def _send(self, payload: bytes, qos: int) -> None:
        """Send to the controller; neither waits nor raises."""
        with suppress(RuntimeError, OSError):  # the SDK's "No connection", and a connection that ends now
            self._conn.publish(topic=CONTROLLER_TOPIC, qos=qos, payload=RawJSON(payload.decode("ascii")))

    # ---- start and stop -------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the bundle until ``stop_event`` is set, ``stop`` is called, or SIGINT or SIGTERM comes.

        When the bundle cannot go on and is ``alone``, it is stopped too, and ``fault`` says why. Signals are
        taken on the main thread only, and their handlers are restored at the end.
        """
        with self._signals as signals:
            try:
                self._start_threads()
                while not (signals.seen or self.stop_event.is_set() or (self.fault and self.alone)):
                    signals.wait(LOOK_UP_S)
                    self._look_after_threads()
                if signals.seen:
                    _logger.info("stopping, as a signal asked for")
            finally:
                if self.fault and self.alone:
                    end_within(LAST_S)
                self.stop()
                self._stopped.wait(STOP_S)  # if another thread has begun it

    def threads(self) -> Iterator[Thread]:
        """The threads that must run until ``stop``. A subclass adds its own."""
        yield from (thread for thread, _ in self.thread_list)
        yield from (self._session.thread_aging, self.registration.thread, self.conn_thread)

    def _look_after_threads(self) -> None:
        if self.fault is None and (fault := ended(self.threads())) and not self.stop_event.is_set():
            self.fault = fault
            _logger.critical("the bundle cannot go on: %s", fault, extra={"action": "broken"})

    def _start_threads(self) -> None:
        try:
            self._create_thread_pool()
        except RuntimeError as error:
            raise not_started("a thread for requests", error) from error
        for thread, _ in self.thread_list:
            thread.name = f"sdk-{thread.name.removeprefix('thread-')}"
        self.registration.start()
        self.conn_thread = Vital(target=self._conn.connect, name="sdk-connection")
        self.conn_thread.start()
        if callable(getattr(self, "run", None)):
            self.main_thread = Thread(target=self._run_when_ready, name="sdk-run", daemon=True)
            self.main_thread.start()

    def _run_when_ready(self) -> None:
        self.is_ready.wait()
        try:
            self.run()
        except Exception:
            _logger.exception("run() failed")

    def exit(self, _signum: int | None = None, _frame: FrameType | None = None) -> None:
        """The replacement of the SDK's signal handler: have ``start`` stop the bundle and return."""
        self._signals.note()

    def stop(self, *_args: Any, **_kwargs: Any) -> None:
        """Delete the registration, end the threads and the connection. Only the first call does anything.

        Takes at most about 2 s beside ``before_stop``. A handler still busy after ``JOIN_S`` is left running.
        """
        with self._stop_lock:
            if self._stop_begun:
                return
            self._stop_begun = True
        self.stop_event.set()
        before_stop = getattr(self, "before_stop", None)
        if callable(before_stop):
            try:
                before_stop()
            except Exception:
                _logger.exception("before_stop() failed")
        self.leave()
        self._stop_threads()
        self.is_ready.clear()
        self._stopped.set()

    def leave(self) -> None:
        """Delete the registration, as far as that can be done in ``DEREGISTER_S``. May be called twice.

        No request is answered from then on: if the registration is still there, it may be another process's,
        which has the request too. Else two processes would answer it.
        """
        self.registration.stop(DEREGISTER_S)
        self._left = True

    def _stop_threads(self) -> None:
        deadline = time.monotonic() + JOIN_S
        for _, end in self.thread_list:
            end()
        for thread, _ in self.thread_list:
            _join(thread, deadline)
        self._conn.disconnect()  # after the handlers: their last answers leave first
        if hasattr(self, "conn_thread"):
            _join(self.conn_thread, deadline + JOIN_S)
        self._session.stop_event.set()
        with suppress(Full):
            self._session.resolve_queue.put_nowait(0)  # wakes the thread, which would sleep on for 0.5 s
        self._session.stop()


def _accepted(code: int) -> bool:
    """Whether the broker accepted a login (code 0), for a connection that is the SDK's own ``Mqtt``."""
    if code != 0:
        _logger.warning("the broker refused the connection with code %s", code)
    return code == 0


def _join(thread: Thread, deadline: float) -> None:
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(max(0.0, deadline - time.monotonic()))
