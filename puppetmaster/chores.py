"""Long work in parts: a little in each turn, so that nothing else has to wait for all of it.

What a job of 50,000 requests needs done at once (to be written, to join the lanes, to leave them, to end)
would take the dispatcher up to a second, and no timer would fire meanwhile.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice

#: Steps in one turn: some 10 ms of work and as much of writing, measured on one core of a Xeon.
STEPS = 500

Chore = Iterator[None]
"""Does a step and yields, until it is done. Between two steps anything may happen to what it works on."""


class Chores:
    """What is still to be done, in the order in which it came. Used by one thread, the dispatcher's."""

    def __init__(self) -> None:
        self._queue: deque[Chore] = deque()
        self._left = STEPS

    def __bool__(self) -> bool:
        return bool(self._queue)

    def begin(self) -> None:
        """A turn begins."""
        self._left = STEPS

    def add(self, chore: Chore) -> None:
        """Do this after what came before; at once, as far as this turn has steps left."""
        self._queue.append(chore)
        if len(self._queue) == 1:
            self.work()

    def work(self) -> None:
        """Do the steps of this turn."""
        while self._queue and self._left > 0:
            chore = self._queue[0]
            for _ in islice(chore, self._left):
                self._left -= 1
            if self._left > 0:
                self._queue.popleft()
