"""What systemd hears of us, and in which form the journal gets the log."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from puppetmaster.bundle.systemd import TELL_S, JournalFormat, Manager, journal


class Ear:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(tmp_path / "notify")
    yield made
    made.close()


def test_the_first_turn_says_that_we_run_and_later_ones_that_we_still_do(ear: Ear) -> None:
    now_s = 100.0
    manager = Manager({"NOTIFY_SOCKET": str(ear.path), "WATCHDOG_USEC": "9000000"}, lambda: now_s)
    manager.turned(lambda: "All is\nwell.")
    assert ear.heard() == [["READY=1", "WATCHDOG=1", "STATUS=All is well."]]
    now_s = 102.9
    manager.turned(lambda: pytest.fail("it is not time yet"))
    now_s = 103.0
    manager.turned(lambda: "Still.")
    assert ear.heard() == [["WATCHDOG=1", "STATUS=Still."]]
    manager.stopping()
    assert ear.heard() == [["STOPPING=1", "STATUS=Stopping."]]
    now_s = 120.0
    manager.turned(lambda: pytest.fail("what stops is not told as running"))
    assert ear.heard() == []


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_of_ours_the_status_is_told_now_and_then(
    ear: Ear, watchdog: dict[str, str]
) -> None:
    now_s = 0.0
    manager = Manager({"NOTIFY_SOCKET": str(ear.path), **watchdog}, lambda: now_s)
    manager.turned(str)
    now_s = TELL_S - 0.1
    manager.turned(str)
    assert len(ear.heard()) == 1
    now_s = TELL_S
    manager.turned(str)
    assert len(ear.heard()) == 1


def test_a_socket_without_a_file_is_spoken_to_too() -> None:
    name = f"puppetmaster-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{name}")
        there.settimeout(5)
        Manager({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert there.recv(4096).startswith(b"STOPPING=1")


def test_nobody_that_listens_is_no_error(tmp_path: Path) -> None:
    Manager({}).turned(lambda: pytest.fail("nobody asked"))
    gone = Manager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.turned(str)
    gone.stopping()


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        found = os.fstat(log.fileno())
        stream = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert journal(stream, log.fileno())
        assert not journal({"JOURNAL_STREAM": f"{found.st_dev}:1"}, log.fileno())
        assert not journal({}, log.fileno())
    assert not journal(stream, 1_000_000), "a standard error that is closed"


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_each_line_for_the_journal_has_its_level(level: int, number: int) -> None:
    record = logging.LogRecord("a", level, "", 0, "it is %s", ("so",), None)
    record.threadName = "pm-dispatcher"
    try:
        raise ValueError("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *rest = JournalFormat().format(record).split("\n")
    assert first == f"<{number}>pm-dispatcher it is so"
    assert rest
    assert all(line.startswith(f"<{number}>") for line in rest)


def test_a_line_of_json_is_one_in_the_journal_too() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "%s", ('{"job": 1}',), None)
    record.bare = True
    assert JournalFormat().format(record) == '<6>{"job": 1}'
