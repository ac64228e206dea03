"""Threads without which puppetmaster cannot go on: none of them may end before it is stopped.

A thread that ends early logs why, and ``ended`` finds it. The code that runs the bundle decides what to do
then (docs/decisions/0041-a-thread-that-ends.md).
"""

import logging
import threading
from collections.abc import Callable, Iterable

from puppetmaster.errors import PuppetmasterError

log = logging.getLogger("sanji.puppetmaster.threads")


class Vital(threading.Thread):
    """A daemon thread. An exception of its target ends it, and is logged with its traceback."""

    def __init__(self, *, name: str, target: Callable[[], object] | None = None) -> None:
        super().__init__(name=name, target=target, daemon=True)

    def start(self) -> None:
        """Start the thread. Raises PuppetmasterError: the system has no more threads, or no memory."""
        try:
            super().start()
        except RuntimeError as error:
            raise not_started(self.name, error) from error

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread. Returns at once if it was never started."""
        if self.ident is not None:
            super().join(timeout)

    def run(self) -> None:
        """Run the target."""
        try:
            super().run()
        except BaseException:  # SystemExit too, which threading would not report
            log.critical(
                "the thread %s has failed", self.name, exc_info=True, extra={"action": "thread_fault"}
            )


def not_started(what: str, error: RuntimeError) -> PuppetmasterError:
    """The error for a thread that could not be started. ``what`` names the thread."""
    return PuppetmasterError(
        f"{what} cannot be started ({error}): give this process more memory, or more threads (ulimit -u)"
    )


def ended(threads: Iterable[threading.Thread]) -> str | None:
    """A sentence that names the threads that have ended; None: each is running or was not started yet."""
    names = [thread.name for thread in threads if thread.ident is not None and not thread.is_alive()]
    if not names:
        return None
    one = len(names) == 1
    sentence = f"the thread {names[0]} has ended" if one else f"the threads {', '.join(names)} have ended"
    return f"{sentence} unexpectedly; the log says why, and only a restart helps"
