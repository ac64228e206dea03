"""Mean and variance of latencies, and whether answers have become slower."""

import math
from dataclasses import dataclass

#: Answers are slower than others when their mean is ``SLOWER`` times as long, and the difference of the means
#: is more than ``ERRORS`` standard errors, so that it is hardly chance.
SLOWER, ERRORS = 1.25, 2.0


@dataclass(slots=True)
class Latencies:
    """The latencies of a number of answers."""

    #: When this many answers are counted, the weight of all of them is halved before the next is added.
    memory: float = math.inf
    #: Number of answers, by weight.
    count: float = 0
    #: Sum of their latencies, in seconds.
    sum_s: float = 0.0
    #: Sum of the squares of their latencies.
    squares: float = 0.0

    def add(self, latency_s: float) -> None:
        """Add one answer."""
        if self.count >= self.memory:
            self.count, self.sum_s, self.squares = self.count / 2, self.sum_s / 2, self.squares / 2
        self.count += 1
        self.sum_s += latency_s
        self.squares += latency_s * latency_s

    def include(self, others: "Latencies") -> None:
        """Add all answers of another one."""
        self.count += others.count
        self.sum_s += others.sum_s
        self.squares += others.squares

    @property
    def mean_s(self) -> float:
        """The mean latency. Raises ZeroDivisionError: there is no answer."""
        return self.sum_s / self.count

    @property
    def error(self) -> float:
        """The variance of the mean, in square seconds."""
        return max(self.squares / self.count - self.mean_s**2, 0.0) / self.count

    def limit_s(self, slack_s: float = 0.0) -> float:
        """The longest mean at which others do not count as slower; at least ``slack_s`` above this mean."""
        return self.mean_s + max((SLOWER - 1) * self.mean_s, slack_s)

    def slower_than(self, other: "Latencies", slack_s: float = 0.0) -> bool:
        """Whether these answers are slower than the others, and not by chance."""
        if self.mean_s <= other.limit_s(slack_s):
            return False
        return self.mean_s - other.mean_s > ERRORS * math.sqrt(self.error + other.error)
