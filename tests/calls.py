"""What something costs, counted instead of timed."""

import sys
from collections.abc import Callable


def calls(action: Callable[[], object], *, of_c: bool = True) -> int:
    """How many functions it calls: of Python, before each of which another thread may run, and ``of_c``."""
    counted = 0
    events = ("call", "c_call") if of_c else ("call",)

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in events

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return counted
