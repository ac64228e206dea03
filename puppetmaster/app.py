"""Builds the parts from the settings, starts them and stops them in order."""

import ctypes
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from puppetmaster import __version__
from puppetmaster.api.service import LOOK_TIMEOUT_S, Service
from puppetmaster.bus.client import BusClient, BusEvent, ControllerForgot
from puppetmaster.bus.credentials import Credentials
from puppetmaster.bus.limit import Limit
from puppetmaster.bus.publisher import Publisher
from puppetmaster.bus.visit import SILENT_CONTROLLER
from puppetmaster.clock import Clock, iso
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import PuppetmasterError, SettingsError, StoreError, Unavailable
from puppetmaster.events import Hub
from puppetmaster.http.app import HttpApp
from puppetmaster.http.metrics import Metrics
from puppetmaster.http.resources import Backend
from puppetmaster.http.server import Address, address
from puppetmaster.http.websockets import Broadcaster
from puppetmaster.settings import Settings
from puppetmaster.store.base import Keep
from puppetmaster.store.sqlite.store import Store
from puppetmaster.systemd import Manager
from puppetmaster.threads import Vital

_M_MMAP_THRESHOLD = -3
#: From this size on a piece is the system's own, as glibc begins with; said aloud, it stays so.
LARGE_BYTES = 256 * 1024


def give_back_large() -> None:
    """From now on, where the C library is one that can be told so."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no such thing, and no need of it
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


log = logging.getLogger("sanji.puppetmaster.app")

#: Our own resource that the controller is asked for: does it still know us?
PROBED = "/jobs"


class Registered(Protocol):
    """What the application needs of the bundle that it runs in."""

    registered: Any
    #: Why it cannot go on; None: it can.
    fault: str | None

    def register_again(self, asked_s: float) -> None:
        """Asked at that time, the controller had forgotten us. Must not block."""

    def why_not_registered(self) -> str | None:
        """Why requests do not reach us; None when they do, or that is not known."""

    def twin(self) -> str | None:
        """That another process of our own installation runs, with the cure; None: none asked lately."""


class App:
    """Everything but the SDK's side. Raises SettingsError, StoreError."""

    def __init__(self, settings: Settings, bundle: Registered) -> None:
        where = address(settings)
        give_back_large()
        self.settings = settings
        self._bundle = bundle
        self._clock = Clock()
        self._manager = Manager(now_s=self._clock.now_s)
        self._started_at = iso(self._clock.wall_s())
        self.store = Store(settings.data_dir)
        self.hub = Hub()
        self.limit = Limit(settings.broker_limit_bytes)
        self.bus = BusClient(
            settings.broker_host,
            settings.broker_port,
            login=Credentials.of(settings),
            installation=self.store.installation,
            resource=PROBED,
            probe_interval_s=settings.probe_interval_s,
            presence=settings.presence_topics,
            listener=self._heard,
            clock=self._clock,
            limit=self.limit,
        )
        self.engine = Engine(settings, self._clock, self.store.now, self.store.ids, self.bus.tunnel)
        keep = Keep(settings.keep_jobs, settings.keep_days * 86400, int(settings.keep_mb * 1_000_000))
        self.dispatcher = Dispatcher(
            self.engine, self.store, self.bus, self.hub, self._clock, keep, self._turned
        )
        self.publisher = Publisher(self.hub, self.bus.tell, self._clock)
        self.service = Service(settings, self.store, self.dispatcher, self.limit)
        self.door = self._door(where) if where is not None else None

    def _door(self, where: Address) -> HttpApp:
        sockets = Broadcaster(self.service, self.hub, self._clock)
        numbers = Metrics(self.service, self.dispatcher, self.health, self.store.path, lambda: sockets.count)
        try:
            return HttpApp(self.settings, where, Backend(self.service, self.health), sockets, numbers)
        except SettingsError:
            self.store.close()
            raise

    def threads(self) -> Iterator[Vital]:
        """Those that run from ``start`` to ``stop``."""
        yield from (self.dispatcher.thread, self.publisher.thread, *self.bus.threads)
        if self.door is not None:
            yield from self.door.threads

    def start(self) -> None:
        """Take up what an earlier process left, then listen to the bus.

        Raises StoreError; PuppetmasterError, when a thread cannot be started.
        """
        log.info("puppetmaster %s keeps its jobs in %s", __version__, self.store.path)
        try:
            self.dispatcher.start()
            self.publisher.start()
            self.bus.start()
            if self.door is not None:
                self.door.start()
        except PuppetmasterError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop deciding first, then talking, then close the store.

        Raises StoreError, when all is stopped: not everything could be written.
        """
        self._manager.stopping()
        if self.door is not None:
            self.door.ask_to_stop()
        self.dispatcher.stop()
        self.publisher.stop()
        self.bus.stop()
        if self.door is not None:
            self.door.stop()
        if not self.dispatcher.running:
            self.store.close()
        if (stalled := self.engine.stalled) is not None:
            raise StoreError(f"{stalled} Answers that were in memory only are lost.")

    def _turned(self) -> None:
        self._manager.turned(self._status)

    def _status(self) -> str:
        """One sentence, for ``systemctl status``. In the dispatcher's thread."""
        wrong = self.engine.stalled or (None if self.bus.connected else self.bus.reason)
        if wrong is not None:
            return wrong
        state, in_flight = self.engine.state, self.engine.scheduler.in_flight
        return f"{state.open_jobs} jobs and {state.open_requests} requests are open, {in_flight} in flight."

    def _heard(self, events: Sequence[BusEvent]) -> None:
        for event in events:
            if isinstance(event, ControllerForgot):
                self._bundle.register_again(event.asked_s)
        self.dispatcher.post(events)

    def controller_forgot(self, known_s: float) -> None:
        """The controller was restarted since that time, and whoever found that out registers us again."""
        known_s = max(known_s, self.bus.known_s or known_s)
        self.dispatcher.post([ControllerForgot(known_s, self._clock.now_s())])

    def health(self) -> dict[str, Any]:
        """GET /system/puppetmaster. Raises Unavailable: only a restart helps, or the dispatcher is busy."""
        if self._bundle.fault is not None:
            raise Unavailable(f"Puppetmaster cannot go on: {self._bundle.fault}.")
        counters = self.dispatcher.look(_counters, LOOK_TIMEOUT_S)
        registered = self._bundle.registered.is_set()
        unseen, gateways = counters.pop("unseen"), counters.pop("gateways")
        stalled = counters.pop("stalled")
        bus = {
            "connected": self.bus.connected,
            "controller": counters.pop("controller"),
            "registered": registered,
        }
        reason = self._reason(bus)
        return {
            "version": __version__,
            "startedAt": self._started_at,
            "healthy": all(bus.values()) and not (reason or stalled) and counters["idsLeft"] > 0,
            "bus": {**bus, "reason": reason},
            "store": {"writable": stalled is None, "reason": stalled, "path": str(self.store.path)},
            "limits": self.settings.public(),
            "inForce": self._in_force(),
            "counters": {**counters, "messagesDropped": self.bus.dropped},
            "gateways": {**gateways, "watched": bool(self.settings.presence_topics) and not unseen},
        }

    def _in_force(self) -> dict[str, Any]:
        """The limits that may be smaller than their settings, and what each is from."""
        wanted = self.settings.http_connections
        most = wanted if self.door is None else self.door.server.most
        http = {"value": most, "from": "openFiles" if most < wanted else "setting"}
        return {"brokerLimitBytes": self.limit.view(), "httpConnections": http}

    def _reason(self, bus: dict[str, bool]) -> str | None:
        """What is wrong with the bus, with the cure: the first cause only."""
        if (twin := self._bundle.twin()) is not None:
            return twin
        if not bus["connected"] or self.bus.reason is not None:
            return self.bus.reason
        if not bus["controller"]:
            return SILENT_CONTROLLER
        why = None if bus["registered"] else self._bundle.why_not_registered()
        return why and f"the controller has not registered us: {why}"


def _counters(engine: Engine) -> dict[str, Any]:
    presence = engine.presence
    return {
        "stalled": engine.stalled,
        "controller": engine.controller_up,
        "openJobs": engine.state.open_jobs,
        "openRequests": engine.state.open_requests,
        "inFlight": engine.scheduler.in_flight,
        "window": engine.scheduler.window.size,
        "unseen": presence.unseen,
        "gateways": {
            "connected": presence.connected_count,
            "away": presence.away_count,
            "changes": presence.changes,
            "route": presence.route,
            "owners": {
                domain: {"window": size, "busy": busy}
                for domain, (size, busy) in engine.scheduler.owners.sizes().items()
            },
        },
        "idsLeft": engine.state.ids_left,
    }
