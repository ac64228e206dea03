"""How long a request waits after a controller has refused it."""

import random
from collections import Counter

#: The wait after a refusal doubles from the first of these to the last.
FIRST_DELAY_S, LAST_DELAY_S = 0.02, 2.0


class Backoff:
    """How long a request waits after a controller has refused it. For one thread."""

    def __init__(self) -> None:
        #: Number of refusals since the start, by code. Most are 423.
        self.counts: Counter[int] = Counter()
        self._in_a_row: dict[int, tuple[int, float]] = {}  # request -> (number, seconds of waits)

    def add(self, id_: int, code: int) -> tuple[float, float]:
        """Note a refusal of a request. Returns seconds: how long it has waited so far, and how long now.

        Only waits after refusals count, and no time in which its job was paused or the bus was down.
        """
        self.counts[code] += 1
        times, waited_s = self._in_a_row.get(id_, (0, 0.0))
        delay_s = min(FIRST_DELAY_S * 2 ** min(times, 16), LAST_DELAY_S) * random.uniform(0.5, 1.0)
        self._in_a_row[id_] = (times + 1, waited_s + delay_s)
        return waited_s, delay_s

    def forget(self, id_: int) -> None:
        """Forget the refusals of a request that is done, or was passed on: its next refusal is the first."""
        self._in_a_row.pop(id_, None)
