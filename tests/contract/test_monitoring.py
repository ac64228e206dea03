"""The alert rules and the dashboard: they name numbers that there are, and fire when they should."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs import dashboard
from puppetmaster.model.leadership import Free, Leadership
from tests.conftest import program
from tests.web_client import Door, running

ALERTS = dashboard.FILE.with_name("alerts.yml")
CASES = Path(__file__).with_name("alerts_test.yml")
NUMBER = re.compile(r"\b(?:puppetmaster|process)_[a-z_]+")


def promtool(*words: str, given: bytes = b"") -> str:
    command = [program("promtool", "prometheus"), *words]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What /metrics says, where the store is PostgreSQL."""
    lead = Leadership("puppetmaster host:2 b", 2, 0, Free.GONE, "puppetmaster host:1 a", 4.5, sure=True)
    with running(tmp_path_factory.mktemp("data")) as started, pytest.MonkeyPatch.context() as patch:
        door: Door = started
        patch.setattr(door.app.store, "leadership", lambda: lead)
        return door.ask("GET", "/metrics").body


def test_the_dashboard_is_as_its_table_has_it() -> None:
    assert dashboard.FILE.read_text() == dashboard.dashboard(), "run python -m docs.dashboard"


@pytest.mark.parametrize("file", [ALERTS, dashboard.FILE], ids=lambda file: file.name)
def test_each_number_that_is_named_is_told(file: Path, told: bytes) -> None:
    text = told.decode()
    known = {one.name for family in text_string_to_metric_families(text) for one in family.samples}
    known |= {f"{family.name}_bucket" for family in text_string_to_metric_families(text)}
    named = set(NUMBER.findall(file.read_text()))
    assert len(named) > 5
    assert named <= known


def test_each_number_that_is_told_is_in_the_docs(told: bytes) -> None:
    listed = (dashboard.FILE.parents[1] / "metrics.md").read_text()
    for family in text_string_to_metric_families(told.decode()):
        assert family.name.startswith("process_") or f"| `{family.name}" in listed, (
            f"{family.name} is not in docs/metrics.md"
        )


def test_who_leads_is_told(told: bytes) -> None:
    lines = told.decode().splitlines()
    assert 'puppetmaster_leader_info{name="puppetmaster host:2 b",why="gone"} 1.0' in lines
    assert {"puppetmaster_leader_epoch 2.0", "puppetmaster_lease_left_seconds 4.5"} <= set(lines)


def test_prometheus_takes_what_is_told(told: bytes) -> None:
    promtool("check", "metrics", given=told)


def test_prometheus_takes_the_alerts() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(ALERTS))


def test_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    cases = CASES.read_text()
    names = re.findall(r"alert: (\w+)", ALERTS.read_text())
    assert all(f"alertname: {name}" in cases for name in names)
    file = tmp_path / CASES.name
    file.write_text(cases.replace("ALERTS", str(ALERTS)))
    promtool("test", "rules", str(file))


def test_the_dashboard_shows_every_panel_once() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels]
    assert len(set(places)) == len(panels) == len({one["title"] for one in panels})
