"""The metrics for Prometheus, read at each scrape and kept in a registry of their own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from puppetmaster import __version__, clock
from puppetmaster.api.gateways import LOOK_TIMEOUT_S
from puppetmaster.api.service import Service
from puppetmaster.dispatcher import BOUNDS_S, Dispatcher, Tally
from puppetmaster.engine.engine import Engine, Snapshot

_BUS = {
    "connected": "1 when the broker is connected",
    "controller": "1 when the controller answers",
    "registered": "1 when we are registered with the controller",
}
#: Value of ``status`` -> the field of the health that has the number of such gateways.
_REGISTERED = {"registered": "registered", "not_registered": "notRegistered", "unknown": "unknown"}
_OWNERS = {
    "window": "Most requests in flight at an owner of many gateways at present",
    "busy": "Requests that an owner of many gateways may be busy with",
}


class Metrics(Collector):
    """Collects the metrics at each scrape. Between scrapes it does nothing.

    ``dispatcher``: None where another process leads: its numbers are not ours.
    """

    def __init__(
        self,
        service: Service,
        dispatcher: Dispatcher | None,
        health: Callable[[], dict[str, Any]],
        stored_bytes: Callable[[], int],
        subscribers: Callable[[], int],
    ) -> None:
        self._service = service
        self._dispatcher = dispatcher
        self._health = health
        self._stored_bytes = stored_bytes
        self._subscribers = subscribers
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The text that Prometheus reads. Raises Unavailable, StoreError: the numbers cannot be read now."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """No metrics, so that registering this collector does not read them all."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield InfoMetricFamily("puppetmaster_build", "What runs here", value={"version": __version__})
        about = "1 when this process leads, 0 when another one does or is to"
        yield _gauge("leads", about, int(self._dispatcher is not None))
        if self._dispatcher is not None:
            yield from self._of_leader(self._dispatcher)
        yield _gauge("websockets", "WebSockets that are open", self._subscribers())

    def _of_leader(self, dispatcher: Dispatcher) -> Iterator[Metric]:
        health = self._health()
        for what, counts in self._service.counts().items():
            yield _by(GaugeMetricFamily, what, f"{what.capitalize()} in the store", "status", counts)
        yield from _from_engine(dispatcher.look(Engine.snapshot, LOOK_TIMEOUT_S))
        yield from _of_gateways(health["gateways"])
        if "leader" in health:
            yield from _of_lead(health["leader"])
        yield _histogram("commit_seconds", "Time a transaction took to be durable", dispatcher.commits)
        yield _histogram(
            "dispatch_seconds",
            "From the decision to send a request until the bus had it, its transaction included",
            dispatcher.dispatches,
        )
        yield _histogram("turn_seconds", "Time a turn of the dispatcher took", dispatcher.turns)
        for name, about in _BUS.items():
            yield _gauge(f"bus_{name}", about, int(health["bus"][name]))
        yield _gauge("store_writable", "1 when the store can be written", int(health["store"]["writable"]))
        yield _gauge("store_bytes", "Size of the store on its disk", self._stored_bytes())


def _from_engine(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("in_flight", "Requests sent and not answered", now.in_flight)
    yield _gauge("window", "Most requests in flight at present", now.window)
    refusals = {str(code): count for code, count in {423: 0, **now.refusals}.items()}
    about = "Requests that the controller did not pass on"
    yield _by(CounterMetricFamily, "refusals", about, "code", refusals)
    yield CounterMetricFamily(
        "puppetmaster_retries", "Sendings of a request after its first", value=now.resent
    )
    for what, ended in (("requests", now.ended_requests), ("jobs", now.ended_jobs)):
        about = f"{what.capitalize()} that have ended since the start"
        yield _by(CounterMetricFamily, f"{what}_ended", about, "status", ended)
    about = "Attempts to tell webhooks something, and notices that were given up"
    yield _by(CounterMetricFamily, "webhooks", about, "outcome", now.webhooks)
    yield _gauge("webhooks_waiting", "Notices that webhooks are still to be told", now.webhooks_waiting)
    about = "How long the oldest notice to a webhook has waited"
    yield _gauge("webhooks_oldest_waiting_seconds", about, now.webhooks_oldest_s)
    about = "Starts by schedules since the start of the bundle"
    yield _by(CounterMetricFamily, "schedule_starts", about, "outcome", now.starts)
    about = "How long the oldest request has waited for its turn, of the jobs that are being sent"
    yield _gauge("oldest_waiting_seconds", about, now.oldest_waiting_s)
    about = "Requests that wait for gateways that are away"
    yield _gauge("waiting_for_gateways", about, now.waiting_for_gateways)


def _of_lead(leader: dict[str, Any]) -> Iterator[Metric]:
    """What there is where the store is PostgreSQL."""
    told = {"name": leader["name"], "why": leader["takeover"]["why"]}
    yield InfoMetricFamily(
        "puppetmaster_leader", "Which process leads, and why the lead was free", value=told
    )
    yield _gauge("leader_epoch", "Which leader it is, counted from the first one", leader["epoch"])
    about = "When it took the lead, in Unix time"
    yield _gauge("leader_since_timestamp_seconds", about, clock.seconds(leader["since"]))
    yield _gauge("lease_left_seconds", "Until its lease is over, if it is not renewed", leader["leaseLeft"])


def _of_gateways(gateways: dict[str, Any]) -> Iterator[Metric]:
    bridges = {status: gateways[status] for status in ("connected", "away")}
    about = "Gateways whose bridges say whether they are connected"
    yield _by(GaugeMetricFamily, "gateways", about, "status", bridges)
    registered = {status: gateways[name] for status, name in _REGISTERED.items()}
    about = "Gateways that are known, as the controller says"
    yield _by(GaugeMetricFamily, "gateways_known", about, "status", registered)
    yield CounterMetricFamily(
        "puppetmaster_gateway_changes", "How often a bridge came or went", value=gateways["changes"]
    )
    for name, about in _OWNERS.items():
        by_owner = {owner: numbers[name] for owner, numbers in gateways["owners"].items()}
        yield _by(GaugeMetricFamily, f"owner_{name}", about, "owner", by_owner)


def _by(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    about: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    """One number for each value of ``label``."""
    family = kind(f"puppetmaster_{name}", f"{about}, by {label}", labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"puppetmaster_{name}", about, value=value)


def _histogram(name: str, about: str, tally: Tally) -> Metric:
    buckets, total = [], 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), tally.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(f"puppetmaster_{name}", about, buckets=buckets, sum_value=tally.sum_s)
