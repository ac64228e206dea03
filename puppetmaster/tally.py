"""How often something took how long: counted by one thread, read by any."""

from bisect import bisect_left

#: Upper bounds of the buckets, seconds; one more bucket has no bound.
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Tally:
    """A histogram in plain numbers: adding costs next to nothing, a reader may be one addition behind."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float, times: int = 1) -> None:
        """Something took this long, so many times."""
        self.counts[bisect_left(BOUNDS_S, took_s)] += times
        self.sum_s += took_s * times
