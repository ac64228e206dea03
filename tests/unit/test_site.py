"""What belongs to one controller, without a bus: its first trouble is named, and it ends in order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from puppetmaster.bus.client import BusEvent, ControllerForgot
from puppetmaster.bus.visit import SILENT_CONTROLLER
from puppetmaster.clock import Clock
from puppetmaster.errors import StoreError
from puppetmaster.events import Hub
from puppetmaster.settings import Settings
from puppetmaster.site import Site, reaches_bus
from puppetmaster.store.memory import MemoryStore
from sandbox.process import free_port
from tests import web_client

SETTINGS = Settings(broker_port=1, probe_interval_s=1000)


class Bundle(web_client.Bundle):
    """A bundle that is not registered, and may have a twin."""

    other: str | None = None

    def why_not_registered(self) -> str | None:
        return "it answers nothing"

    def twin(self) -> str | None:
        return self.other


@dataclass
class Bus:
    """The bus of a site, as its health looks at it."""

    connected: bool = True
    reason: str | None = None
    known_s: float | None = None


@pytest.fixture
def bundle() -> Bundle:
    return Bundle()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def site(bundle: Bundle, store: MemoryStore) -> Iterator[Site]:
    made = Site(SETTINGS, store, Hub(), Clock(), bundle)
    yield made
    made.stop()
    store.close()


def health(site: Site, *, controller: bool = True) -> dict[str, Any]:
    site.engine.connected = True
    site.engine.controller(up=controller)
    return site.health(site.engine.snapshot())


def test_the_first_cause_is_the_reason(site: Site, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Bus(connected=False, reason="nothing listens there")
    monkeypatch.setattr(site, "bus", bus)
    bundle.other = "another one runs: stop it"
    assert health(site, controller=False) == {
        "connected": False,
        "controller": False,
        "registered": False,
        "reason": "another one runs: stop it",
    }
    bundle.other = None
    assert health(site, controller=False)["reason"] == "nothing listens there"
    bus.connected, bus.reason = True, "the broker refuses what gateways answer"
    assert health(site, controller=False)["reason"] == "the broker refuses what gateways answer"
    bus.reason = None
    assert health(site, controller=False)["reason"] == SILENT_CONTROLLER
    assert health(site)["reason"] == "the controller has not registered us: it answers nothing"
    bundle.registered.set()
    assert health(site) == {"connected": True, "controller": True, "registered": True, "reason": None}


@pytest.mark.parametrize(("seen_s", "since_s"), [(None, 5.0), (3.0, 5.0), (7.0, 7.0)])
def test_a_restart_of_the_controller_counts_from_when_it_last_knew_us(
    site: Site, monkeypatch: pytest.MonkeyPatch, seen_s: float | None, since_s: float
) -> None:
    monkeypatch.setattr(site, "bus", Bus(known_s=seen_s))
    found: list[BusEvent] = []
    monkeypatch.setattr(site.dispatcher, "post", found.extend)
    site.controller_forgot(5.0)
    (event,) = found
    assert isinstance(event, ControllerForgot)
    assert event.known_s == since_s


def test_a_bus_that_nobody_listens_on_is_not_reached() -> None:
    assert not reaches_bus(replace(SETTINGS, broker_host="127.0.0.1", broker_port=free_port()))


def test_it_names_the_threads_that_must_not_end(site: Site) -> None:
    assert [thread.name for thread in site.threads] == ["pm-dispatcher", "pm-publisher", "pm-bus", "pm-watch"]


def test_at_its_end_it_says_what_could_not_be_written(bundle: Bundle) -> None:
    store = MemoryStore()
    site = Site(SETTINGS, store, Hub(), Clock(), bundle)
    site.start()
    site.engine.stalled = "The disk is full."
    with pytest.raises(StoreError, match=r"The disk is full\. Answers that were in memory only are lost\."):
        site.stop()
    assert [thread.name for thread in site.threads if thread.is_alive()] == []
    store.close()
