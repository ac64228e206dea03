"""Threads without which puppetmaster cannot go on: none of them ends before it is told to.

One that does is told of in the log, whatever ended it, and is found by ``ended``. Who runs the bundle decides
what comes of that (docs/decisions/0041-a-thread-that-ends.md).
"""

import logging
import threading
from collections.abc import Callable, Iterable

from puppetmaster.errors import PuppetmasterError

log = logging.getLogger("sanji.puppetmaster.threads")


class Vital(threading.Thread):
    """A thread of ours. What its target raises ends it, and is logged with its trace.

    The process does not wait for it: who stops puppetmaster waits for each thread as long as it may take.
    """

    def __init__(self, target: Callable[[], object] | None = None, *, name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)

    def start(self) -> None:
        """Start it. Raises PuppetmasterError: the system has no more threads, or no memory, for us."""
        try:
            super().start()
        except RuntimeError as error:
            raise not_started(self.name, error) from error

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end; one that was never started has none."""
        if self.ident is not None:
            super().join(timeout)

    def run(self) -> None:
        """Run the target."""
        try:
            super().run()
        except BaseException:  # SystemExit too: nobody would hear of it
            log.critical(
                "the thread %s has failed", self.name, exc_info=True, extra={"action": "thread_fault"}
            )


def not_started(what: str, error: RuntimeError) -> PuppetmasterError:
    """The error that says that a thread could not be started."""
    return PuppetmasterError(
        f"{what} cannot be started ({error}): give this process more memory, or more threads (ulimit -u)"
    )


def ended(threads: Iterable[threading.Thread]) -> str | None:
    """A sentence that names those that have ended; None: each runs, or was not started yet."""
    names = [thread.name for thread in threads if thread.ident is not None and not thread.is_alive()]
    if not names:
        return None
    one = len(names) == 1
    said = f"the thread {names[0]} has ended" if one else f"the threads {', '.join(names)} have ended"
    return f"{said} unexpectedly; the log says why, and only a restart helps"
