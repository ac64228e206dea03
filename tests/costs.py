"""What something costs, counted instead of timed."""

import sys
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


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


def memory_of(action: Callable[[], T]) -> tuple[T, int]:
    """What it returns, and the most bytes that were taken meanwhile."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
