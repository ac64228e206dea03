"""SIGINT and SIGTERM, noticed without disturbing whatever they interrupt.

Python runs a signal's handler between any two steps of the main thread, which may be in the middle of taking
or giving back a lock. A handler that raises there, as the SDK's does, or that takes a lock, breaks or hangs
it. So the handler only leaves word, and the wait ends because the system writes a byte for every signal.
"""

import signal
import socket
import threading
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType
from typing import Any, Self

#: What asks a bundle to end.
NUMBERS = (signal.SIGINT, signal.SIGTERM)


def end_within(seconds: int) -> None:
    """Have the system end this process with SIGALRM if it is still there then, whatever it is stuck in."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


class Signals:
    """From entering to leaving it has both signals, on the main thread; elsewhere it has none.

    ``take`` False leaves the handlers as they are, and only gives back at the end what others have changed.
    """

    def __init__(self, *, take: bool = True) -> None:
        self.seen = False
        self._take = take
        self._woken: socket.socket | None = None
        self._undo = ExitStack()

    def note(self, _number: int | None = None, _frame: FrameType | None = None) -> None:
        """Leave word: the handler."""
        self.seen = True

    def wait(self, timeout_s: float) -> None:
        """Wait so long, on the thread that entered; a signal ends it early, whichever thread it went to."""
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
