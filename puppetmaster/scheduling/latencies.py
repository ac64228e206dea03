"""How long answers took, in numbers that tell whether they have become slower."""

import math
from dataclasses import dataclass

#: Answers have become slower when they take this much longer on average than others, and longer than chance
#: explains: by this many standard errors.
SLOWER, ERRORS = 1.25, 2.0


@dataclass(slots=True)
class Latencies:
    """Of some answers; with ``memory`` of them each counts half from there."""

    memory: float = math.inf
    count: float = 0
    sum_s: float = 0.0
    squares: float = 0.0

    def add(self, latency_s: float) -> None:
        """One more answer."""
        if self.count >= self.memory:
            self.count, self.sum_s, self.squares = self.count / 2, self.sum_s / 2, self.squares / 2
        self.count += 1
        self.sum_s += latency_s
        self.squares += latency_s * latency_s

    def include(self, others: "Latencies") -> None:
        """All those answers, too."""
        self.count += others.count
        self.sum_s += others.sum_s
        self.squares += others.squares

    @property
    def mean_s(self) -> float:
        """Their mean; there is at least one."""
        return self.sum_s / self.count

    @property
    def error(self) -> float:
        """The variance of that mean."""
        return max(self.squares / self.count - self.mean_s**2, 0.0) / self.count

    def limit_s(self, slack_s: float = 0.0) -> float:
        """Up to this mean others are not slower; ``slack_s``: so much longer is not worth a word."""
        return self.mean_s + max((SLOWER - 1) * self.mean_s, slack_s)

    def slower_than(self, other: "Latencies", slack_s: float = 0.0) -> bool:
        """Whether they are longer than the others, and not by chance."""
        if self.mean_s <= other.limit_s(slack_s):
            return False
        return self.mean_s - other.mean_s > ERRORS * math.sqrt(self.error + other.error)
