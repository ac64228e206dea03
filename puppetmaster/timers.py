"""Timers: a heap of deadlines by key. This module knows no thread and reads no clock."""

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """Deadlines, at most one for each key. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._deadlines: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = count()

    def set(self, key: K, at_s: float) -> None:
        """Set the deadline of ``key`` to ``at_s``. Replaces an earlier deadline of that key."""
        serial = next(self._serial)
        self._deadlines[key] = (at_s, serial)
        heapq.heappush(self._heap, (at_s, serial, key))
        # Most deadlines are cancelled long before their time, and stay in the heap: clean it now and then.
        if len(self._heap) > 64 + 2 * len(self._deadlines):
            self._heap = [(at, n, k) for k, (at, n) in self._deadlines.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Remove the deadline of ``key``. Does nothing when it has none."""
        self._deadlines.pop(key, None)

    def deadline_s(self, key: K) -> float | None:
        """The deadline of ``key``; None: it has none."""
        entry = self._deadlines.get(key)
        return None if entry is None else entry[0]

    def due(self, now_s: float) -> Iterator[K]:
        """Remove and yield every key whose deadline is over, earliest first."""
        while self._heap and self._heap[0][0] <= now_s:
            at, serial, key = heapq.heappop(self._heap)
            if self._deadlines.get(key) == (at, serial):
                del self._deadlines[key]
                yield key

    def next_s(self) -> float | None:
        """The earliest deadline; None: there is none."""
        while self._heap:
            at, serial, key = self._heap[0]
            if self._deadlines.get(key) == (at, serial):
                return at
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._deadlines)
