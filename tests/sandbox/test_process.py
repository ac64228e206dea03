"""A child process of the sandbox that several threads start, look at and end."""

import sys
import threading

import pytest

from sandbox.process import Process


def test_it_runs_only_once_all_of_it_is_there_to_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who ends it at that moment waits for a thread that was not started."""
    process = Process("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
    start, running = threading.Thread.start, []

    def seen(thread: threading.Thread) -> None:
        if thread.name == "sleeper-output":
            running.append(process.running)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", seen)
    with process:
        assert running == [False]
        assert process.running
