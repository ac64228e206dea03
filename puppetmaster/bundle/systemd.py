"""What systemd gets: messages that we have started, still run, stop (sd_notify(3)), and lines of the log."""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

#: How often the status is told where no watchdog asks for more.
TELL_S = 10.0
#: sd-daemon(3): the journal takes the level from the beginning of the line.
LEVELS = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}


class Manager:
    """The service manager that has started us; where none has, nothing is sent. Never blocks or fails."""

    def __init__(
        self, environ: Mapping[str, str] = os.environ, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._now_s = now_s
        watchdog = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every_s = min(TELL_S, int(watchdog) / 3e6) if watchdog.isdigit() and ours else TELL_S
        self._next_s: float | None = None

    def turned(self, status: Callable[[], str]) -> None:
        """Note that the dispatcher has turned. ``status`` gives a sentence, and is called if it is sent.

        The first time this means that we run. It is all that feeds the watchdog.
        """
        now_s = self._now_s()
        if not self._address or (self._next_s is not None and now_s < self._next_s):
            return
        ready = "READY=1\n" if self._next_s is None else ""
        self._next_s = now_s + self._every_s
        self._tell(f"{ready}WATCHDOG=1\nSTATUS={' '.join(status().split())}")

    def stopping(self) -> None:
        """Tell that we have begun to stop. Nothing is told after that."""
        self._tell("STOPPING=1\nSTATUS=Stopping.")
        self._address = ""

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto(text.encode(), self._address)


def journal(environ: Mapping[str, str] = os.environ, descriptor: int = 2) -> bool:
    """Whether standard error goes to the journal."""
    with suppress(OSError):
        found = os.fstat(descriptor)
        return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


def bare(record: logging.LogRecord) -> bool:
    """Whether a record is a line by itself, such as one of JSON, with nothing of ours before it."""
    return getattr(record, "bare", False) is True


class JournalFormat(logging.Formatter):
    """Lines for the journal: they begin with their level, and have no time, which the journal adds."""

    def __init__(self) -> None:
        super().__init__("%(threadName)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The lines of the record, each with its level, because the journal takes each by itself."""
        level = f"<{LEVELS.get(record.levelname, 5)}>"
        text = record.getMessage() if bare(record) else super().format(record)
        return level + text.replace("\n", f"\n{level}")
