"""What the tests share: how Hypothesis works, a broker, a controller on it, what to do without mosquitto."""

import os
import shutil
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from puppetmaster.store.base import FIRST_REQUEST_ID
from sandbox.broker import Broker, Kind
from sandbox.controller import controller_process, real_controller
from sandbox.process import Process

#: For all tests with Hypothesis, which name only how many examples they want. On a slow machine an example
#: takes as long as it takes. In CI the examples are the same each time: whether a change passes lies in the
#: change. Elsewhere they are others each time, and those that failed are tried again.
settings.register_profile(
    "puppetmaster",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("puppetmaster")


@pytest.fixture(scope="session", autouse=True)
def _known_ids() -> Iterator[None]:
    """Request ids of the stores that tests make begin at 2^31; else they begin anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("sqlite.store", "memory", "postgres.store"):
            patch.setattr(f"puppetmaster.store.{module}.first_request_id", lambda: FIRST_REQUEST_ID)
        yield


#: The files that wait longest for processes: they are the first, in this order.
LONGEST = (
    "test_package.py",
    "test_kills.py",
    "test_standby.py",
    "test_outages.py",
    "test_leaders.py",
    "test_onlooking.py",
    "test_flow.py",
    "test_door.py",
)
#: So many workers begin a browser and a fleet, for a part of the files of ``tests/page`` each.
BROWSERS = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several workers run, let files that wait (tests/system and LONGEST) run beside those that work.

    All of them are begun in the first half, so that at the end no worker is left with a long one.
    """
    if not hasattr(config, "workerinput"):
        return
    files = dict.fromkeys(item.path for item in items)
    rank = {name: at for at, name in enumerate(LONGEST)}
    waits = [path for path in files if "system" in path.parts or path.name in rank]
    works = [path for path in files if path not in waits]
    waits.sort(key=lambda one: rank.get(one.name, len(rank)))
    place = {path: at / len(waits) / 2 for at, path in enumerate(waits)}
    place |= {path: at / len(works) for at, path in enumerate(works)}
    items.sort(key=lambda item: place[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As ``--dist loadfile``, but files of the page go together: else each begins a browser of its own."""
    from xdist.scheduler import LoadFileScheduling  # mutants run without it

    scheduler = LoadFileScheduling(config, log)
    groups: dict[str, str] = {}

    def group(nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if not file.startswith("tests/page/"):
            return file
        return groups.setdefault(file, f"page {len(groups) % BROWSERS}")

    scheduler._split_scope = group
    return scheduler


#: What tests may find missing: Debian's packages of these names bring it.
PACKAGES = (
    "chromium",
    "chromium-headless-shell",
    "debhelper",
    "gcc",
    "mmdebstrap",
    "mosquitto",
    "nginx",
    "openssl",
    "postgresql",
    "prometheus",
    "python3-venv",
    "spin",
    "systemd",
)


def needed(there: bool, package: str) -> None:
    """Skip the test when what it needs is not ``there``; in CI (environment CI=true) fail instead."""
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{package} is not installed, and CI must not skip what needs it")
    pytest.skip(f"{package} is not installed")


def require(kind: Kind) -> None:
    """Skip the test when this kind of broker is not installed, as ``needed`` does."""
    needed(Broker.available(kind), kind)


def program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, and fails in CI (environment CI=true)."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    needed(found is not None, package)
    return str(found)


def any_broker() -> None:
    """For a test that the embedded broker serves too: where mosquitto is not installed, it runs on that.

    In CI mosquitto is required all the same.
    """
    if os.environ.get("CI") == "true":
        require("mosquitto")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Say in the last line what was skipped because something is not installed, and what brings it."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return result
    skipped = reporter.stats.get("skipped", [])
    reasons = [str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)]
    missing = [name for name in PACKAGES if any(f"{name} is not installed" in reason for reason in reasons)]
    if missing:
        count = sum("is not installed" in reason for reason in reasons)
        cure = f"apt-get install {' '.join(missing)}"
        reporter.write_line(f"{count} tests need what is not installed here. To run them too: {cure}")
    return result


def stand_in_only(reason: str) -> pytest.MarkDecorator:
    """Skip the test when the controller is the real one (``SANDBOX_CONTROLLER``), which cannot do this."""
    return pytest.mark.skipif(real_controller() is not None, reason=f"the stand-in's only: {reason}")


@pytest.fixture
def broker() -> Iterator[Broker]:
    """Give a fresh broker of the test's own: a tuned mosquitto, where that is installed."""
    any_broker()
    with Broker() as started:
        yield started


@pytest.fixture
def controller(broker: Broker) -> Iterator[Process]:
    """Give a fresh controller on the test's broker; the stand-in reconnects to it 0.2 s after a loss."""
    with controller_process(broker, refresh_ms=100, reconnect_s=0.2, registration_s=0) as started:
        yield started
