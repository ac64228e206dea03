"""Builds all parts from the settings, starts them, and stops them in order."""

import ctypes
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from puppetmaster import __version__
from puppetmaster.api.gateways import LOOK_TIMEOUT_S
from puppetmaster.api.operations import Backend
from puppetmaster.api.orders import carry_out, onlooking
from puppetmaster.api.service import Service
from puppetmaster.bundle.routes import Routes
from puppetmaster.bundle.sdk import Connection
from puppetmaster.bundle.signals import Signals
from puppetmaster.bundle.systemd import Manager
from puppetmaster.bus.credentials import Credentials
from puppetmaster.clock import Clock, iso
from puppetmaster.engine.engine import Engine, Snapshot
from puppetmaster.engine.outbox import Outbox
from puppetmaster.errors import PuppetmasterError, SettingsError, StoreError, Unavailable
from puppetmaster.events import Hub
from puppetmaster.http.app import HttpApp
from puppetmaster.http.reread import Reread
from puppetmaster.http.server import Address, address
from puppetmaster.http.webhooks import Webhooks
from puppetmaster.http.websockets import Broadcaster
from puppetmaster.model.gateway import Relabelled
from puppetmaster.model.job import Job
from puppetmaster.model.notice import Hooks, hooks_of
from puppetmaster.model.timeline import Event
from puppetmaster.settings import ALL, Settings
from puppetmaster.site import Bundle, Site, reaches_bus
from puppetmaster.store.opening import open_elsewhere, open_store
from puppetmaster.threads import Vital, ended

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # as in glibc's malloc.h
#: glibc maps pieces of memory from this size on, and gives them back when they are freed. It raises the limit
#: by itself unless it is told one.
LARGE_BYTES = 64 * 1024
#: How long the controller waits for an answer of ours where there is a standby. When a process dies with a
#: POST on its way, our resources are locked until then.
STANDBY_TTL_S = 5
#: When the dispatcher has not answered for this long, the store is asked what a write waits for.
HELD_UP_S = 2.0

log = logging.getLogger("sanji.puppetmaster.app")
event_log = logging.getLogger("sanji.puppetmaster.events")


def spare_memory() -> None:
    """Have glibc give large pieces of memory back to the system, and keep one pool for all threads.

    By itself it keeps a pool for each thread, of which most is left free: only one thread at a time runs
    Python.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no mallopt, and needs none
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
            mallopt(_M_ARENA_MAX, 1)


def ttl_s(settings: Settings, usual_s: int) -> int:
    """How long the controller waits for our answer, in seconds. ``usual_s``: as bundle.json has it."""
    followed = settings.store and settings.standby == "on"
    return settings.ttl_s or (STANDBY_TTL_S if followed else usual_s)


def log_labels(relabelled: Iterable[Relabelled]) -> None:
    """Write what happened to labels and notes of gateways to the log, as ``log_events`` does."""
    event_log.setLevel(logging.INFO)
    for one in relabelled:
        event_log.info("%s", json.dumps(one.view()), extra={"action": "gateway_event", "bare": True})


def log_events(happened: Iterable[tuple[Job, Event]]) -> None:
    """Write what happened to jobs to the log: a line of JSON each, with nothing before it."""
    event_log.setLevel(logging.INFO)  # at any ``log_level``: the setting ``log_events`` asks for these lines
    for job, event in happened:
        line = {"job": job.id, "name": job.name, **event.view()}
        event_log.info("%s", json.dumps(line), extra={"action": "job_event", "bare": True})


class OnlookingDoor:
    """The HTTP door of a process that does not lead. Raises SettingsError."""

    def __init__(self, settings: Settings, where: Address, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self.store = open_elsewhere(settings)
        backend = onlooking(settings, self.store)
        self.door = HttpApp(settings, where, backend, Broadcaster(backend.service, hub, clock))

    def start(self) -> None:
        """Answer requests, and tell changes. Raises PuppetmasterError: a thread cannot be started."""
        self.store.watch(self._hub)
        self.door.start()


class ApiServer:
    """A process of the role ``api``: it never leads, and needs no broker. Raises SettingsError."""

    def __init__(self, settings: Settings) -> None:
        where = address(settings)
        if where is None or not settings.store:
            raise SettingsError(
                "PUPPETMASTER_ROLE: an API server needs the PostgreSQL database of those that lead "
                "(PUPPETMASTER_STORE), and an address to answer at (PUPPETMASTER_HTTP)."
            )
        spare_memory()
        self._place = settings.store
        self._manager = Manager()
        self._onlooking = OnlookingDoor(settings, where, Hub(), Clock())

    def run(self) -> str | None:
        """Answer until SIGINT or SIGTERM comes. Returns why it cannot go on, as a sentence; None: it could.

        Raises PuppetmasterError: a thread cannot be started.
        """
        fault = None
        with Signals() as signals:
            self._onlooking.start()
            log.info("puppetmaster %s answers for those that lead with %s", __version__, self._place)
            while not signals.seen and fault is None:
                signals.wait(1.0)
                self._manager.turned(lambda: f"It answers for those that lead with {self._place}.")
                fault = ended((*self._onlooking.door.threads, *self._onlooking.store.threads))
        self._manager.stopping()
        self._onlooking.door.stop()
        self._onlooking.store.close()
        return fault


class App:
    """All parts but the SDK's. Raises SettingsError, StoreError."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        where = address(settings) if settings.role == ALL else None
        self._hooks: Reread[Hooks] = Reread("webhooks", settings.webhooks, hooks_of, ())
        spare_memory()
        self.settings = settings
        self._bundle = bundle
        self._clock = Clock()
        self._manager = Manager(now_s=self._clock.now_s)
        self._started_at = iso(self._clock.wall_s())
        self.hub = Hub()
        self.door: HttpApp | None = None
        #: Where to answer while another process leads; None: nowhere.
        self._where = where
        #: Answers while another process leads; None: there was none, or its port was not free.
        self._onlooking: OnlookingDoor | None = None
        self.store = open_store(settings, self._waiting, lambda: reaches_bus(settings))
        self.site = Site(settings, self.store, self.hub, self._clock, bundle)
        if settings.standby == "on":
            self.store.resigns(self._connected, bundle.resign)
        self.site.dispatcher.turned = self._turned
        if settings.log_events == "on":
            self.site.dispatcher.happened = log_events
            self.site.dispatcher.relabelled = log_labels
        self.service = Service(settings, self.store, self.site.dispatcher, self.site.limit)
        self.webhooks = self._webhooks()
        self.site.engine.templates.specify = self.service.templates.specified
        #: What the doors call.
        self.backend = Backend(self.service, self.health)
        if where is not None and self._onlooking is None:
            try:
                self.door = self._door(where)
            except SettingsError:
                self.store.close()
                raise

    def _webhooks(self) -> Webhooks:
        dispatcher, outbox = self.site.dispatcher, self.site.engine.outbox

        def report(what: Callable[[Outbox], None]) -> None:
            dispatcher.do(lambda engine: what(engine.outbox))

        webhooks = Webhooks(self._hooks.now, self.store.installation, report, self._clock)
        outbox.hooks = webhooks.hooks
        webhooks.post(outbox.all())
        dispatcher.owed = webhooks.post
        self.service.hooks = webhooks.names
        return webhooks

    def _door(self, where: Address) -> HttpApp:
        door = HttpApp(self.settings, where, self.backend, Broadcaster(self.service, self.hub, self._clock))
        door.lead(self.backend, self.site.dispatcher, self.store.disk_bytes)
        return door

    def _lead(self) -> None:
        """Have the HTTP door ask this process, which has taken the lead."""
        if self._onlooking is not None:
            self.door = self._onlooking.door
            self.door.lead(self.backend, self.site.dispatcher, self.store.disk_bytes)
            self._onlooking.store.close()
        elif self.door is not None:
            self.door.start()

    def threads(self) -> Iterator[Vital]:
        """The threads that run from ``start`` to ``stop``."""
        yield from (*self.store.threads, *self.site.threads)
        yield self.webhooks.thread
        if self.door is not None:
            yield from self.door.threads

    def start(self) -> None:
        """Take up the open jobs of an earlier process, then listen to the bus and to HTTP.

        Raises:
            StoreError: the store cannot be read or written.
            PuppetmasterError: a thread cannot be started.
        """
        log.info("puppetmaster %s keeps its jobs in %s", __version__, self.store.place)
        try:
            if self._onlooking is not None:
                self._onlooking.store.end_watching()
            self.site.start()
            self.webhooks.start()
            self._lead()
            self.store.serve(lambda asked: carry_out(self.backend, asked), self.hub)
        except PuppetmasterError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the dispatcher, then the doors, and close the store.

        Raises StoreError, after all has stopped: not all could be written.
        """
        self._manager.stopping()
        if self.door is not None:
            self.door.ask_to_stop()
        try:
            self.site.stop()
        finally:
            self.store.end_serving()
            self.webhooks.stop()
            if self.door is not None:
                self.door.stop()
            self._bundle.leave()  # while no other process leads, which may have registered anew
            if not self.site.dispatcher.running:
                self.store.close()

    def _waiting(self, said: str) -> None:
        self._manager.turned(lambda: said)
        if self._where is None or self._onlooking is not None:
            return
        try:
            self._onlooking = OnlookingDoor(self.settings, self._where, self.hub, self._clock)
        except SettingsError as error:  # the leader may be on this machine, and have the port
            log.warning("Nothing is answered over HTTP while it waits: %s", error)
            self._where = None
        else:
            self._onlooking.start()

    def _connected(self) -> bool | None:
        """Whether there is a connection to the broker; None: there never was."""
        bus = self.site.bus
        return bus.connected if bus.was_connected else None

    def _turned(self) -> None:
        self._manager.turned(self._status)

    def _status(self) -> str:
        """How things stand, in a sentence for ``systemctl status``. Called in the dispatcher's thread."""
        engine, bus = self.site.engine, self.site.bus
        wrong = engine.stalled or (None if bus.connected else bus.reason)
        if wrong is not None:
            return wrong
        state, in_flight = engine.state, engine.scheduler.in_flight
        return f"{state.open_jobs} jobs and {state.open_requests} requests are open, {in_flight} in flight."

    def health(self) -> dict[str, Any]:
        """The answer to GET /system/puppetmaster.

        Raises Unavailable: only a restart helps, or the dispatcher is busy.
        """
        if self._bundle.fault is not None:
            raise Unavailable(f"Puppetmaster cannot go on: {self._bundle.fault}.")
        now = self._snapshot()
        bus = self.site.health(now)
        fine = all(bus[name] for name in ("connected", "controller", "registered")) and bus["reason"] is None
        lead = self.store.leadership()
        stalled = now.stalled or (None if lead is None or lead.sure else self.store.held_up())
        return {
            "version": __version__,
            "startedAt": self._started_at,
            "healthy": fine and stalled is None and now.ids_left > 0 and (lead is None or lead.sure),
            **({} if lead is None else {"leader": lead.view()}),
            "bus": bus,
            "store": {"writable": stalled is None, "reason": stalled, "path": self.store.place},
            "limits": self.settings.public(),
            "inForce": self._in_force(),
            "files": self._files(),
            "webhooks": self.webhooks.view(),
            "counters": {
                "openJobs": now.open_jobs,
                "openRequests": now.open_requests,
                "inFlight": now.in_flight,
                "window": now.window,
                "idsLeft": now.ids_left,
                "messagesDropped": self.site.bus.dropped,
            },
            "gateways": {
                "connected": now.connected,
                "away": now.away,
                "registered": now.registered,
                "notRegistered": now.not_registered,
                "unknown": now.not_known,
                "changes": now.changes,
                "route": now.route,
                "owners": {
                    owner: {"window": size, "busy": busy} for owner, (size, busy) in now.owners.items()
                },
                "watched": bool(self.settings.presence_topics) and not now.unseen,
            },
        }

    def _snapshot(self) -> Snapshot:
        """The state of the engine. Raises Unavailable: its thread is busy, or waits for a write."""
        try:
            return self.site.dispatcher.look(Engine.snapshot, HELD_UP_S)
        except Unavailable:
            if (why := self.store.held_up()) is not None:
                raise Unavailable(why) from None
        return self.site.dispatcher.look(Engine.snapshot, LOOK_TIMEOUT_S - HELD_UP_S)

    def _files(self) -> dict[str, dict[str, Any]]:
        """The files that are read again when they have changed, and why what each says now does not hold."""
        files = {"tokens": None if self.door is None else self.door.keys.file, "webhooks": self._hooks}
        return {name: {"reason": file.fault} for name, file in files.items() if file}

    def _in_force(self) -> dict[str, Any]:
        """The limits that may be smaller than their settings: ``{name: {"value", "from"}}``."""
        wanted = self.settings.http_connections
        most = wanted if self.door is None else self.door.server.most
        http = {"value": most, "from": "openFiles" if most < wanted else "setting"}
        return {"brokerLimitBytes": self.site.limit.view(), "httpConnections": http}


class Puppetmaster(Routes):
    """The bundle. Sanji calls ``init`` when it is made, and ``before_stop`` before it ends."""

    def init(self, *args: Any, settings: Settings | None = None, **kwargs: Any) -> None:
        """Build the application and start it. The broker need not be there yet.

        Raises SettingsError, StoreError.
        """
        del args, kwargs
        #: Why not all could be written when it stopped, as a sentence; None: all was written.
        self.unwritten: str | None = None
        #: Whether it stops because another process should lead.
        self.resigned = False
        data_dir = Path(self.bundle.bundle_dir) / "data"
        settings = settings or Settings.from_environment(data_dir=data_dir)
        credentials = Credentials.of(settings)
        credentials.apply(self._conn.client)
        if isinstance(self._conn, Connection):
            self._conn.attempts.credentials = credentials
        self.app = App(settings, self)
        self.installation = self.app.store.installation
        if (former := self.app.store.tunnel) is not None:
            self.former = [former]
        self.bundle.profile["ttl"] = ttl_s(settings, self.bundle.profile["ttl"])
        self.limit = self.app.site.limit
        self.backend = self.app.backend
        self.app.start()

    def resign(self) -> None:
        """Stop, so that another process leads."""
        self.resigned = True
        self.stop_event.set()

    def registered_on(self, tunnel: str) -> None:
        """Keep it for a process that takes over."""
        self.app.store.tunnel = tunnel

    def controller_forgot(self, known_s: float) -> None:
        """Tell the dispatcher that the controller was restarted, before we register again."""
        self.app.site.controller_forgot(known_s)

    def threads(self) -> Iterator[Thread]:
        """The threads of the bundle, and of the application."""
        yield from super().threads()
        yield from self.app.threads()

    def before_stop(self) -> None:
        """Finish the turn at hand, stop all parts, and close the store."""
        try:
            self.app.stop()
        except StoreError as error:
            self.unwritten = error.message
            log.error("stopping: %s", self.unwritten, extra={"action": "store_fault"})  # noqa: TRY400 - a sentence
