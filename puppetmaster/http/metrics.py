"""The metrics for Prometheus, read at each scrape and kept in a registry of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from puppetmaster.api.service import LOOK_TIMEOUT_S, Service
from puppetmaster.dispatcher import BOUNDS_S, Dispatcher, Tally
from puppetmaster.engine.engine import Engine

_BUS = {
    "connected": "1 when the broker is connected",
    "controller": "1 when the controller answers",
    "registered": "1 when we are registered with the controller",
}
_OWNERS = {
    "window": "Most requests in flight at an owner of many gateways at present",
    "busy": "Requests that an owner of many gateways may be busy with",
}
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """Collects the metrics at each scrape. Between scrapes it does nothing."""

    def __init__(
        self,
        service: Service,
        dispatcher: Dispatcher,
        health: Callable[[], dict[str, Any]],
        store_path: Path,
        watchers: Callable[[], int],
    ) -> None:
        self._service = service
        self._dispatcher = dispatcher
        self._health = health
        self._store_path = store_path
        self._watchers = watchers
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """The text that Prometheus reads. Raises Unavailable, StoreError: the numbers cannot be read now."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """No metrics, so that registering this collector does not read them all."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        health = self._health()
        for what, counts in self._service.counts().items():
            by_status = GaugeMetricFamily(
                f"puppetmaster_{what}", f"{what.capitalize()} in the store by status", labels=["status"]
            )
            for status, count in counts.items():
                by_status.add_metric([status], count)
            yield by_status
        yield from self._from_engine()
        yield from _of_gateways(health["gateways"])
        yield _histogram("commit_seconds", "Time a transaction took to be durable", self._dispatcher.commits)
        yield _histogram(
            "dispatch_seconds",
            "From the decision to send a request until the bus had it, its transaction included",
            self._dispatcher.dispatches,
        )
        for name, about in _BUS.items():
            yield _gauge(f"bus_{name}", about, int(health["bus"][name]))
        yield _gauge("store_writable", "1 when the store can be written", int(health["store"]["writable"]))
        yield _gauge("store_bytes", "Size of the store's files", self._store_bytes())
        yield _gauge("websockets", "WebSockets that are open", self._watchers())

    def _from_engine(self) -> Iterator[Metric]:
        now = self._dispatcher.look(Engine.snapshot, LOOK_TIMEOUT_S)
        yield _gauge("in_flight", "Requests sent and not answered", now.in_flight)
        yield _gauge("window", "Most requests in flight at present", now.window)
        refusals = CounterMetricFamily(
            "puppetmaster_refusals", "Requests that the controller did not pass on, by code", labels=["code"]
        )
        for code, count in {423: 0, **now.refusals}.items():
            refusals.add_metric([str(code)], count)
        yield refusals
        yield CounterMetricFamily(
            "puppetmaster_retries", "Sendings of a request after its first", value=now.resent
        )

    def _store_bytes(self) -> int:
        path = self._store_path
        files = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
        return sum(file.stat().st_size for file in files if file.exists())


def _of_gateways(gateways: dict[str, Any]) -> Iterator[Metric]:
    bridges = GaugeMetricFamily(
        "puppetmaster_gateways", "Gateways whose bridges say whether they are connected", labels=["status"]
    )
    for status in ("connected", "away"):
        bridges.add_metric([status], gateways[status])
    yield bridges
    yield CounterMetricFamily(
        "puppetmaster_gateway_changes", "How often a bridge came or went", value=gateways["changes"]
    )
    for name, about in _OWNERS.items():
        by_owner = GaugeMetricFamily(f"puppetmaster_owner_{name}", about, labels=["owner"])
        for owner, numbers in gateways["owners"].items():
            by_owner.add_metric([owner], numbers[name])
        yield by_owner


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"puppetmaster_{name}", about, value=value)


def _histogram(name: str, about: str, tally: Tally) -> Metric:
    buckets, total = [], 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), tally.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(f"puppetmaster_{name}", about, buckets=buckets, sum_value=tally.sum_s)
