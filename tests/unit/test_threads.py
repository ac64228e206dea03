"""What happens when a thread ends that is not to end, or cannot be started."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.app import Puppetmaster
from puppetmaster.bundle import sdk
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import PuppetmasterError, Unavailable
from puppetmaster.settings import Settings
from puppetmaster.threads import Vital, ended
from sandbox.process import PROJECT, Process
from tests.desk import until

VITAL = {
    *("pm-dispatcher", "pm-publisher", "pm-bus", "pm-watch", "pm-http", "pm-sockets", "pm-webhooks"),
    *("sdk-aging", "sdk-connection", "sdk-registration", "sdk-resolve-0"),
    *("sdk-dispatch-0", "sdk-dispatch-1", "sdk-dispatch-2"),
}


def test_what_a_thread_raises_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit("for a test")

    thread = Vital(target=fail, name="pm-some")
    assert thread.daemon, "the process can end whatever it does"
    assert ended([thread]) is None, "it was not started yet"
    thread.join()
    thread.start()
    thread.join()
    assert "the thread pm-some has failed" in caplog.text
    assert "SystemExit: for a test" in caplog.text
    assert ended([thread]) == (
        "the thread pm-some has ended unexpectedly; the log says why, and only a restart helps"
    )
    assert str(ended([thread, thread])).startswith("the threads pm-some, pm-some have ended")
    assert thread.daemon, "a process that ends does not wait for it"


def test_a_thread_that_cannot_be_started_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(
        PuppetmasterError, match=r"pm-some cannot be started \(can't start new thread\): give"
    ):
        Vital(name="pm-some").start()


# -- alone in its process ----------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    """The bundle, alone in its process, broken as the test says; no broker is there."""
    child = Process(
        "puppetmaster",
        [sys.executable, "-m", "tests.broken_bundle", *request.param],
        env={
            "PYTHONPATH": str(PROJECT),
            "BROKER_PORT_1883_TCP_PORT": "1",
            "PUPPETMASTER_DATA_DIR": str(tmp_path / "data"),
            "PUPPETMASTER_HTTP": "127.0.0.1:0",
        },
    )
    with child:
        yield child


@pytest.mark.parametrize(
    ("broken", "name"),
    [(["begin"], "pm-dispatcher"), (["end", "thread-resolve-0"], "sdk-resolve-0")],
    indirect=["broken"],
)
def test_a_process_of_its_own_ends_with_the_thread(broken: Process, name: str) -> None:
    assert broken.wait(60) == 1
    said = broken.output()
    assert said[-1] == (
        f"puppetmaster has stopped: the thread {name} has ended unexpectedly; "
        "the log says why, and only a restart helps"
    )
    assert [line for line in said if line == "MemoryError: for a test"] == ["MemoryError: for a test"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (["start", "pm-watch"], "puppetmaster cannot start: pm-watch cannot be started"),
        (["start", "sdk-connection"], "puppetmaster has stopped: sdk-connection cannot be started"),
        (["start", "thread-dispatch-1"], "puppetmaster has stopped: a thread for requests cannot be started"),
    ],
    indirect=["broken"],
)
def test_a_process_of_its_own_ends_when_a_thread_cannot_be_started(broken: Process, said: str) -> None:
    assert broken.wait(60) == 1
    assert broken.output()[-1].startswith(said)
    assert not [line for line in broken.output() if "Traceback" in line]


# -- beside others in one process --------------------------------------------------------------------


class Idle:
    """A connection that never comes about."""

    def __init__(self) -> None:
        self.tunnels: dict[str, Any] = {"internel": (None, None), "model": (None, None), "view": (None, None)}
        self._over = threading.Event()

    def connect(self) -> None:
        self._over.wait()

    def disconnect(self) -> None:
        self._over.set()

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_kwargs: None


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Puppetmaster]:
    """The bundle as Sanji's bootstrap runs it: on a thread of a process that is not its own."""
    made = Puppetmaster(
        settings=Settings(data_dir=tmp_path / "data", broker_port=1, http="127.0.0.1:0"),
        connection=Idle(),
        bundle=sdk.Bundle(bundle_dir=str(PROJECT)),
    )
    thread = threading.Thread(target=made.start)
    thread.start()
    try:
        until(lambda: hasattr(made, "conn_thread") and made.conn_thread.is_alive(), "it runs")
        yield made
    finally:
        made.stop()
        thread.join()


def test_these_threads_are_looked_after(bundle: Puppetmaster) -> None:
    """Whichever of them ends: that one is named, and the process ends."""
    assert {thread.name for thread in bundle.threads()} == VITAL
    assert bundle.fault is None


def test_beside_others_it_says_so_and_does_not_end_them(
    bundle: Puppetmaster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Engine) -> float:
        raise MemoryError("for a test")

    assert bundle.app.health()["version"]
    monkeypatch.setattr(Engine, "begin", fail)
    until(lambda: bundle.fault, "it is noticed")
    with pytest.raises(Unavailable, match=r"cannot go on: the thread pm-dispatcher has ended unexpectedly; "):
        bundle.app.health()
    with pytest.raises(Unavailable):  # at once
        bundle.app.site.dispatcher.look(lambda _: None, 600)
    assert not bundle.stop_event.is_set()
    assert caplog.text.count("the bundle cannot go on") == 1
