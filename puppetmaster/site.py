"""All that belongs to one controller: its bus, the engine, the dispatcher, the publisher."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from puppetmaster.bus.client import BusClient, BusEvent, ControllerForgot
from puppetmaster.bus.credentials import Credentials
from puppetmaster.bus.publisher import Publisher
from puppetmaster.bus.visit import SILENT_CONTROLLER, NotLetIn, controller_answers
from puppetmaster.clock import Clock
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.engine.engine import Engine, Snapshot
from puppetmaster.errors import SettingsError, StoreError
from puppetmaster.events import Hub
from puppetmaster.settings import Settings
from puppetmaster.store.base import Keep, Store
from puppetmaster.threads import Vital

#: The controller is asked for this resource of ours, to see whether it still knows us.
PROBED = "/jobs"


class Bundle(Protocol):
    """What a site needs of the bundle that is registered with its controller."""

    #: An event that is set while the bundle is registered.
    registered: Any
    #: Why the bundle cannot go on, as a sentence; None: it can.
    fault: str | None

    def register_again(self, asked_s: float) -> None:
        """Register again, because the controller did not know us at ``asked_s``. Must not block."""

    def resign(self) -> None:
        """Stop, so that another process leads. Must not block."""

    def leave(self) -> None:
        """Delete the registration, for good."""

    def why_not_registered(self) -> str | None:
        """Why requests do not reach us, as a sentence; None: they do, or the reason is not known."""

    def twin(self) -> str | None:
        """That another process of this installation runs, and what to do; None: none was seen lately."""


def reaches_bus(settings: Settings) -> bool:
    """Whether the broker and its controller can be reached from here; takes a few seconds at most."""
    try:
        address = (settings.broker_host, settings.broker_port)
        return controller_answers(address, Credentials.of(settings))
    except (NotLetIn, SettingsError):
        return False


class Site:
    """All that decides and talks for one controller. Each change of a job is posted to ``hub``.

    Several sites could share one store and one hub; today there is one. Raises SettingsError.
    """

    def __init__(self, settings: Settings, store: Store, hub: Hub, clock: Clock, bundle: Bundle) -> None:
        self._bundle = bundle
        self._clock = clock
        self.bus = BusClient(settings, store.installation, PROBED, self._heard, clock)
        self.bus.permit = store.confirm
        #: How long messages on this bus may be.
        self.limit = self.bus.limit
        self.engine = Engine(settings, clock, store.now, store.ids, self.bus.tunnel)
        keep = Keep(settings.keep_jobs, settings.keep_days * 86400, int(settings.keep_mb * 1_000_000))
        self.dispatcher = Dispatcher(self.engine, store, self.bus, hub, keep)
        self.publisher = Publisher(hub, self.bus.tell, clock)

    @property
    def threads(self) -> Iterator[Vital]:
        """The threads that run from ``start`` to ``stop``."""
        yield from (self.dispatcher.thread, self.publisher.thread, *self.bus.threads)

    def start(self) -> None:
        """Take up the open jobs of an earlier process, then listen to the bus.

        Raises:
            StoreError: the store cannot be read or written.
            PuppetmasterError: a thread cannot be started.
        """
        self.dispatcher.start()
        self.publisher.start()
        self.bus.start()

    def stop(self) -> None:
        """Stop the dispatcher, then the bus.

        Raises StoreError, after all has stopped: not all could be written.
        """
        self.dispatcher.stop()
        self.publisher.stop()
        self.bus.stop()
        if (stalled := self.engine.stalled) is not None:
            raise StoreError(f"{stalled} Answers that were in memory only are lost.")

    def _heard(self, events: Sequence[BusEvent]) -> None:
        for event in events:
            if isinstance(event, ControllerForgot):
                self._bundle.register_again(event.asked_s)
        self.dispatcher.post(events)

    def controller_forgot(self, known_s: float) -> None:
        """Note that the controller was restarted after ``known_s``. The caller registers us again."""
        known_s = max(known_s, self.bus.known_s or known_s)
        self.dispatcher.post([ControllerForgot(known_s, self._clock.now_s())])

    def health(self, now: Snapshot) -> dict[str, Any]:
        """The state of the bus: ``{"connected", "controller", "registered", "reason"}``.

        ``reason`` is what is wrong and what to do, the first cause only; None: nothing is wrong.
        """
        bus: dict[str, Any] = {
            "connected": self.bus.connected,
            "controller": now.controller_up,
            "registered": self._bundle.registered.is_set(),
        }
        return {**bus, "reason": self._reason(**bus)}

    def _reason(self, *, connected: bool, controller: bool, registered: bool) -> str | None:
        if (twin := self._bundle.twin()) is not None:
            return twin
        if not connected or self.bus.reason is not None:
            return self.bus.reason
        if not controller:
            return SILENT_CONTROLLER
        why = None if registered else self._bundle.why_not_registered()
        return why and f"the controller has not registered us: {why}"
