"""A Sanji bundle that stays reachable, answers whatever reaches it, and ends when it is told to.

``SteadySanji`` is the SDK's ``Sanji`` with the work of its threads replaced: routes are declared as ever with
``@Route``; ``init``, ``run`` and ``before_stop`` are called as ever. ``docs/sdk.md`` says fault by fault why.

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
from puppetmaster.threads import Vital, ended, not_started

_logger = logging.getLogger("sanji.puppetmaster.bundle.runtime")

WAITING_LIMIT = 1000  # requests, and unread messages, that may wait for a thread
WAITING_BYTES = 16 * 1024 * 1024  # as many of either; of one that is alone it does not matter
DEREGISTER_S = 1.0  # how long stop() tries to take the registration back
LOOK_UP_S = 0.2  # how long a stop_event that somebody sets can go unseen
LAST_S = 30  # how long a bundle that cannot go on has to stop, before the system ends the process
TWIN_S = 15.0  # another process of our installation asks for us every 5 s, while it runs
JOIN_S = 0.5  # how long stop() waits for handlers that are still busy
STOP_S = 3.0  # how long start() waits for a stop() on another thread


class _Waiting:
    """How many bytes wait in a queue. Any thread may call."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = Lock()  # guards _bytes

    def add(self, size: int) -> bool:
        """So many more wait; False: there is no room for them."""
        with self._lock:
            if self._bytes and self._bytes + size > WAITING_BYTES:
                return False
            self._bytes += size
            return True

    def remove(self, size: int) -> None:
        """So many wait no more."""
        with self._lock:
            self._bytes -= size


class SteadySanji(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
    """The base of a bundle class.

    Args:
        connection: the link to the broker; default ``sdk.connection()``.
        bundle: the SDK's ``Bundle``; default: made from the bundle.json beside the subclass.
        stop_event: when set, by anybody, ``start`` stops the bundle and returns.
        Everything is passed on to ``init``, with whatever else is given.
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
        self.installation = uuid.uuid4().hex[:16]  # ``init`` may set one that lasts
        self.process = uuid.uuid4().hex
        self.limit = Limit()  # ``init`` may set another one
        self.registration = Registration(
            self.channel,
            self._profiles,
            Listener(self._accept, self._announce, self.controller_forgot),
            self._own,
            self.process,
        )
        self.registered = self.registration.registered  # an Event: whether requests reach us
        self._twin: tuple[str | None, float] = (None, 0.0)  # what is to be said of it, and when it asked
        self._twin_complaints = Complaints()
        #: The process is ours alone: it is to end when the bundle cannot go on.
        self.alone = False
        #: Why the bundle cannot go on; None: it can.
        self.fault: str | None = None
        with Signals(take=False):  # the SDK takes SIGINT, which start() is to do
            super().__init__(*args, **kwargs)

    def _register_routes(self, methods: Sequence[tuple[str, Any]]) -> Any:
        """Exchange some of the SDK's parts; it calls this when they exist, and before ``init``."""
        self.bundle.profile.setdefault("role", "model")
        self._session.thread_aging.name = "sdk-aging"
        self.publish.create_response = self._response
        for method in ("get", "post", "put", "delete"):
            setattr(self.publish.event, method, self._event(method))
        client = getattr(self._conn, "client", None)  # the SDK's Mockup has none
        if client is not None:
            client.on_disconnect = self.on_disconnect
        self._conn.instead = envelope.refused  # only our own connection asks for it
        # The SDK would call every method that is named "wrapper"; its own ones have an order too.
        return super()._register_routes([each for each in methods if hasattr(each[1], "_order")])

    # ---- the link: on the network thread, where nothing may block or raise ----------------------------

    def on_connect(self, _client: Any, _userdata: Any, _flags: Any, rc: int) -> None:
        """Subscribe what we listen to, and have the registration thread register us."""
        if not getattr(self._conn, "accepted", _accepted)(rc):
            return
        self._conn.set_tunnels(self._conn.tunnels)
        self.channel.open()
        self.registration.connected()

    def on_disconnect(self, _client: Any, _userdata: Any, _rc: int) -> None:
        """The link is gone; the connection is at work on the next one."""
        self.registration.disconnected()

    def on_publish(self, _client: Any, _userdata: Any, _mid: int) -> None:
        """Nobody waits for acknowledgements here.

        The SDK would queue them, and time its sessions by that queue: they age only while it is empty,
        or at every hundredth acknowledgement.
        """

    def on_sanji_message(self, _client: Any, _userdata: Any, msg: Any) -> None:
        """Take a message in; the reader thread looks at it."""
        waiting = self.res_queue.qsize()
        full = waiting >= WAITING_LIMIT or not self._unread.add(len(msg.payload))
        if not full:
            self.res_queue.put(msg.payload)
        elif not self._flooded:
            _logger.error("messages are being dropped: %d are waiting to be read", waiting)
        self._flooded = full

    # ---- registration ---------------------------------------------------------------------------------

    def register_again(self, asked_s: float | None = None) -> None:
        """Register: the controller does not know us any more, or did not at ``asked_s``. From any thread."""
        self.registration.again(asked_s)

    def controller_forgot(self, known_s: float) -> None:
        """The controller was restarted, and has forgotten whom it knew at that time, by the monotonic clock.

        On the registration's thread.
        """

    def why_not_registered(self) -> str | None:
        """Why requests do not reach us, with the cure; None when they do, or nothing is known yet."""
        attempts = getattr(self._conn, "attempts", None)  # the SDK's own connection has none
        if attempts is not None and attempts.reason:
            return f"the bus door has no connection to the broker: {attempts.reason}"
        return self.registration.reason

    def _own(self) -> str:
        """The resource that only this installation has."""
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

    def _announce(self) -> None:
        """Leave word where the SDK does, and let ``run`` begin."""
        self.bundle.profile["currentTunnels"] = [tunnel for tunnel, _ in self._conn.tunnels.values()]
        self.bundle.profile["regCount"] = self.registration.count
        self.is_ready.set()
        _logger.info("registered with the controller", extra={"action": "registered"})

    # ---- messages -------------------------------------------------------------------------------------

    def _resolve_responses(self) -> None:
        """The reader thread: sorts what arrived, answers what is broken, hands on requests."""
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
            self._session.resolve(message["id"], sdk.Message(known))  # nobody waits for it: dropped
        else:
            _logger.debug("dropped an event: a model is sent none")

    def _admit(self, message: dict[str, Any], fault: Invalid | None, size: int) -> None:
        """Queue a request, or answer why not."""
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
        """Who we are: answered at once, by the reader thread, however busy the handlers are."""
        return identity(self.installation, self.process)

    def _note_twin(self, asking: Any) -> None:
        """Somebody asks who we are: perhaps another process of our installation, waiting for our end."""
        if not isinstance(asking, dict) or asking.get("installation") != self.installation:
            return
        if asking.get("process") == self.process:
            return
        said = (
            f"another process of our own installation{where(asking)} runs, on a copy of our data directory: "
            "stop it, and begin there with an empty one"
        )
        self._twin = (said, time.monotonic())
        if self._twin_complaints.due(said):
            _logger.warning("%s", said, extra={"action": "twin"})

    def twin(self) -> str | None:
        """That another process of our own installation runs, with the cure; None: none has asked lately."""
        said, heard_s = self._twin
        return said if time.monotonic() - heard_s < TWIN_S else None

    def _dispatch_message(self) -> None:
        """A dispatcher thread: runs handlers, and survives each of them."""
        while (waiting := self.req_queue.get()) is not None:
            request, size = waiting
            try:
                handle(self, request, self._response(request))
            except Exception:
                _logger.exception("message %s may be without an answer", request.id)
            finally:
                self._unhandled.remove(size)
                del waiting, request  # it may be large, and the next one may come late

    def _response(self, request: Any, signer: str | None = None) -> Response:
        """Take the place of the SDK's ``create_response``, whose answers wait for the broker."""
        return self._respond(request.to_dict(), signer)

    def _respond(self, message: dict[str, Any], signer: str | None = None) -> Response:
        # QoS 1: without a link paho keeps it until there is one, and the controller drops a second one.
        return Response(
            lambda payload: self._send(payload, 1),
            message,
            signer or self.bundle.profile["name"],
            self.limit.capacity,
        )

    def _event(self, method: str) -> Callable[..., None]:
        """Take the place of the SDK's ``publish.event.<method>``, which waits for the broker too."""

        def publish(resource: str, data: Any = None, code: int = 200) -> None:
            """Send an event, QoS 0. Without a link it is lost: what it tells of is old by then."""
            event = {"code": code, "method": method, "resource": resource, "data": data}
            self._send(jsoncodec.encode(jsoncodec.carriable(event)), 0)

        return publish

    def _send(self, payload: bytes, qos: int) -> None:
        """Send to the controller; neither waits nor fails."""
        with suppress(RuntimeError, OSError):  # the SDK's "No connection", and a link that ends meanwhile
            self._conn.publish(topic="/controller", qos=qos, payload=RawJSON(payload.decode("ascii")))

    # ---- start and stop -------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the bundle; returns when it has stopped: ``stop_event``, ``stop()``, SIGINT or SIGTERM.

        Also when it cannot go on and is ``alone``; then ``fault`` says why.
        The signals count on the main thread only, and are given back at the end.
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
        """Those that are to run until ``stop``; a subclass adds its own."""
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
        """The SDK's signal handler: has ``start`` stop the bundle and return."""
        self._signals.note()

    def stop(self, *_args: Any, **_kwargs: Any) -> None:
        """Deregister, end the threads and the link. A handler still busy after ``JOIN_S`` is left behind.

        Takes about 2 s at most beside ``before_stop``. Only the first call does anything.
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
        self.registration.stop(DEREGISTER_S)
        self._stop_threads()
        self.is_ready.clear()
        self._stopped.set()

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
    """The broker's answer to a login over a connection that is not ours, the SDK's own."""
    if code != 0:
        _logger.warning("the broker refused the connection with code %s", code)
    return code == 0


def _join(thread: Thread, deadline: float) -> None:
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(max(0.0, deadline - time.monotonic()))
