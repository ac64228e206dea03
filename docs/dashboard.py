"""The Grafana dashboard: ``python -m docs.dashboard`` writes it to docs/monitoring, a test compares."""

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "monitoring" / "dashboard.json"
#: Grafana fills these in: the data source, and the puppetmasters that are shown.
SOURCE = {"type": "prometheus", "uid": "${source}"}
SHOWN = 'instance=~"$instance"'
#: Grafana's grid has 24 columns.
COLUMNS, WIDTH, HEIGHT = 24, 8, 7


class Panel(NamedTuple):
    """One picture: its title, its queries by legend, and Grafana's name of the unit."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"


def _quantile(name: str) -> dict[str, str]:
    """Half of all, and 99 of 100, are below these."""
    buckets = f"sum by (instance, le) (rate(puppetmaster_{name}_bucket{{{SHOWN}}}[$__rate_interval]))"
    return {f"{{{{instance}}}} p{part}": f"histogram_quantile(0.{part}, {buckets})" for part in ("50", "99")}


def _now(*names: str) -> dict[str, str]:
    return {f"{{{{instance}}}} {name}": f"puppetmaster_{name}{{{SHOWN}}}" for name in names}


PANELS = (
    Panel("Version", {"{{instance}} {{version}}": f"puppetmaster_build_info{{{SHOWN}}}"}, kind="stat"),
    Panel("Runs for", {"{{instance}}": f"time() - process_start_time_seconds{{{SHOWN}}}"}, "s", "stat"),
    Panel(
        "Broker, controller, registration, store: 1 is well",
        _now("bus_connected", "bus_controller", "bus_registered", "store_writable"),
    ),
    Panel(
        "Requests that ended, by status",
        {
            "{{status}}": "sum by (status) "
            f"(rate(puppetmaster_requests_ended_total{{{SHOWN}}}[$__rate_interval]))"
        },
        "reqps",
    ),
    Panel(
        "Jobs that ended in an hour, by status",
        {"{{status}}": f"sum by (status) (increase(puppetmaster_jobs_ended_total{{{SHOWN}}}[1h]))"},
    ),
    Panel("The oldest request has waited", _now("oldest_waiting_seconds"), "s"),
    Panel("In flight, and the most that may be", _now("in_flight", "window")),
    Panel(
        "Requests in the store, by status",
        {"{{status}}": f"sum by (status) (puppetmaster_requests{{{SHOWN}}})"},
    ),
    Panel(
        "Not passed on by the controller, by code",
        {"{{code}}": f"sum by (code) (rate(puppetmaster_refusals_total{{{SHOWN}}}[$__rate_interval]))"},
        "reqps",
    ),
    Panel("A transaction takes", _quantile("commit_seconds"), "s"),
    Panel("A turn takes", _quantile("turn_seconds"), "s"),
    Panel("From the decision to the bus", _quantile("dispatch_seconds"), "s"),
    Panel("Gateways by what their bridges say", {"{{status}}": f"puppetmaster_gateways{{{SHOWN}}}"}),
    Panel("Size of the store", _now("store_bytes"), "bytes"),
    Panel("Memory", {"{{instance}}": f"process_resident_memory_bytes{{{SHOWN}}}"}, "bytes"),
)


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number * WIDTH, COLUMNS)
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": column, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def dashboard() -> str:
    """The whole file, as Grafana imports it."""
    instances = {
        "name": "instance",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(puppetmaster_build_info, instance)",
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    return (
        json.dumps(
            {
                "title": "Puppetmaster",
                "uid": "puppetmaster",
                "schemaVersion": 39,
                "tags": ["puppetmaster"],
                "time": {"from": "now-6h", "to": "now"},
                "refresh": "30s",
                "templating": {"list": [source, instances]},
                "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    FILE.write_text(dashboard())
