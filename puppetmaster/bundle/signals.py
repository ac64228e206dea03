"""SIGINT and SIGTERM, noticed without disturbing the code that they interrupt.

Python runs a signal handler between any two steps of the main thread, which may be in the middle of taking
or releasing a lock. A handler that raises an exception there, as the SDK's does, or that takes a lock, breaks
or hangs that code. So the handler only sets a flag, and ``wait`` ends because the system writes a byte to a
socket for every signal.
"""

import signal
import socket
import threading
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType
from typing import Any, Self

#: The signals that ask a bundle to end.
NUMBERS = (signal.SIGINT, signal.SIGTERM)


def end_within(seconds: int) -> None:
    """Have the system kill this process with SIGALRM after ``seconds``, whatever it is stuck in."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


class Signals:
    """A context manager that takes SIGINT and SIGTERM while it is entered. Off the main thread it takes none.

    With ``take`` False it installs no handlers, and only restores at the end the handlers that others have
    changed. ``seen`` is whether a signal has come.
    """

    def __init__(self, *, take: bool = True) -> None:
        self.seen = False
        self._take = take
        self._woken: socket.socket | None = None
        self._undo = ExitStack()

    def note(self, _number: int | None = None, _frame: FrameType | None = None) -> None:
        """The signal handler: set ``seen``."""
        self.seen = True

    def wait(self, timeout_s: float) -> None:
        """Wait ``timeout_s``, or until a signal comes to any thread. Call it on the thread that entered."""
        if self._woken is None:
            threading.Event().wait(timeout_s)
            return
        self._woken.settimeout(timeout_s)
        with suppress(TimeoutError):
            self._woken.recv(100)

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in NUMBERS:
            self._undo.callback(signal.signal, number, signal.getsignal(number))
        if self._take:
            self._listen()
            for number in NUMBERS:
                signal.signal(number, self.note)
        return self

    def _listen(self) -> None:
        self._woken, wakes = socket.socketpair()
        self._undo.enter_context(self._woken)
        self._undo.enter_context(wakes)
        wakes.setblocking(False)
        before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        self._undo.callback(signal.set_wakeup_fd, before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        return self._undo.__exit__(kind, error, trace)
