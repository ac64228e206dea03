"""What the controller did not pass on, and how long such requests wait before they are sent again."""

import random
from collections import Counter

#: The wait after a refusal: it doubles from the first to the last.
FIRST_DELAY_S, LAST_DELAY_S = 0.02, 2.0


class Refusals:
    """Used by one thread, the dispatcher's."""

    def __init__(self) -> None:
        #: By code, 423 above all, since the start.
        self.counts: Counter[int] = Counter()
        self._in_a_row: dict[int, tuple[int, float]] = {}  # how many, and how long they took together

    def add(self, id_: int, code: int) -> tuple[float, float]:
        """This request was refused: how long it has waited for that so far, and how long it waits now.

        Only these waits count, not how long its job was paused or the bus away meanwhile.
        """
        self.counts[code] += 1
        times, waited_s = self._in_a_row.get(id_, (0, 0.0))
        delay_s = min(FIRST_DELAY_S * 2 ** min(times, 16), LAST_DELAY_S) * random.uniform(0.5, 1.0)
        self._in_a_row[id_] = (times + 1, waited_s + delay_s)
        return waited_s, delay_s

    def forget(self, id_: int) -> None:
        """It is done, or was tried: the next refusal is the first."""
        self._in_a_row.pop(id_, None)
