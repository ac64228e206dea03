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


def break_thread(method: str, name: str, error: Exception) -> None:
    """Let this method of a thread fail, after a moment."""
    real = getattr(threading.Thread, method)

    def failing(thread: threading.Thread) -> None:
        if thread.name == name:
            time.sleep(0.3)
            raise error
        real(thread)

    setattr(threading.Thread, method, failing)


def main() -> None:
    """Break it, and run it."""
    match sys.argv[1:]:
        case ["begin"]:
            break_begin()
        case ["end", name]:
            break_thread("run", name, MemoryError("for a test"))
        case ["start", name]:
            break_thread("start", name, RuntimeError("can't start new thread"))
    index.main()


if __name__ == "__main__":
    main()
