"""Timers on one monotonic clock: a heap of deadlines by key. Knows no thread and reads no clock."""

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """At most one deadline per key; setting a key again moves it. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._deadlines: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = count()

    def set(self, key: K, at_s: float) -> None:
        """Fire ``key`` at ``at_s``, and not at the time it was set to before."""
        serial = next(self._serial)
        self._deadlines[key] = (at_s, serial)
        heapq.heappush(self._heap, (at_s, serial, key))
        # Most timers are cancelled long before their time: without this they would pile up.
        if len(self._heap) > 64 + 2 * len(self._deadlines):
            self._heap = [(at, n, k) for k, (at, n) in self._deadlines.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forget ``key``; nothing happens when it is not set."""
        self._deadlines.pop(key, None)

    def deadline_s(self, key: K) -> float | None:
        """When ``key`` fires, or None."""
        entry = self._deadlines.get(key)
        return None if entry is None else entry[0]

    def due(self, now_s: float) -> Iterator[K]:
        """Take out and yield every key whose time has come, earliest first."""
        while self._heap and self._heap[0][0] <= now_s:
            at, serial, key = heapq.heappop(self._heap)
            if self._deadlines.get(key) == (at, serial):
                del self._deadlines[key]
                yield key

    def next_s(self) -> float | None:
        """When the next key fires, or None when none is set."""
        while self._heap:
            at, serial, key = self._heap[0]
            if self._deadlines.get(key) == (at, serial):
                return at
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._deadlines)
