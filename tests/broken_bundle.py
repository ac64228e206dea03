"""The bundle with a thread that fails, for tests: ``python -m tests.broken_bundle <how> [<thread>]``.

``begin``: what the dispatcher does outside of its guard raises. ``end <thread>``: that thread fails soon
after its start. ``start <thread>``: the system has no thread for it.
"""

import sys
import threading
import time

import index
from puppetmaster.engine.engine import Engine


def break_begin() -> None:
    """Let the engine's third ``begin`` fail."""
    begin, left = Engine.begin, [2]

    def failing(engine: Engine) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError("for a test")
        return begin(engine)

    setattr(Engine, "begin", failing)  # noqa: B010 - mypy lets no method be assigned


def break_run(name: str) -> None:
    """Let a thread fail a moment after its start."""
    run = threading.Thread.run

    def failing(thread: threading.Thread) -> None:
        if thread.name == name:
            time.sleep(0.3)
            raise MemoryError("for a test")
        run(thread)

    setattr(threading.Thread, "run", failing)  # noqa: B010 - as above


def break_start(name: str) -> None:
    """Let a thread not be started."""
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    setattr(threading.Thread, "start", failing)  # noqa: B010 - as above


def main() -> None:
    """Break it, and run it."""
    match sys.argv[1:]:
        case ["begin"]:
            break_begin()
        case ["end", name]:
            break_run(name)
        case ["start", name]:
            break_start(name)
    index.main()


if __name__ == "__main__":
    main()
