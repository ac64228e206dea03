"""How much is in flight at once, when nobody says a number: found out by trying.

The window starts small and doubles while answers come (slow start), after a fall it grows slowly. It falls
when others hold locks (423), more than a few, and when a larger window only made answers slower, by more
than ``SLACK_S`` and in two rounds. When a fall does not make them faster it was in vain: the window doubles
again. Knows no clock: times are given, in monotonic seconds.
"""

import math
from collections import deque

from puppetmaster.scheduling.latencies import Latencies

FIRST = 10
#: It falls to this part of itself, for locks at most once in so many seconds.
FALL, FALL_PAUSE_S = 0.7, 0.1
#: Refusals that follow one another within so many seconds have one cause; who is refused waits up to 2 s.
EPISODE_S = 3.0
#: Up to this part of what comes back, refusals tell of a gateway or two that somebody else writes to.
RARE = 0.1
#: Answers are compared over rounds of as many as the window has places, and of at least this many.
ROUND = 20
#: A larger window pays when throughput grows by this part of what the window grew.
PAYS = 0.2
#: Answers that take this much longer, because they wait for one another, harm nobody. An untouched mosquitto
#: alone lets them wait for up to 88 ms, and less when there are many.
SLACK_S = 0.1
#: So many points of the trace are kept.
TRACE = 200


class Window:
    """The size of the window, between 1 and ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = float(min(FIRST, most))
        self._threshold = float(most)
        self._fell_s = -FALL_PAUSE_S
        self._refused_s = -EPISODE_S
        self._refusals = 0.0  # their part of what comes back, the latest counting most
        #: The round at hand: when and with what size it began, answers to what was sent since then, and
        #: whether all of the window was in use.
        self._begun_s, self._begun = -math.inf, self._size
        self._answers = Latencies()
        self._busy = False
        #: The last round was slower and not more: nothing grows until another one confirms that.
        self._doubted = False
        #: The last size that paid, with its answers.
        self._paid: tuple[float, Latencies] | None = None
        #: The size before the last fall with its answers, until it is seen whether fewer are faster.
        self._fallen: tuple[float, Latencies] | None = None
        #: When it changed its course, to what size, and why.
        self.trace: deque[tuple[float, int, str]] = deque(maxlen=TRACE)

    @property
    def size(self) -> int:
        """Requests that may be in flight."""
        return int(self._size)

    def answered(self, latency_s: float, now_s: float, *, full: bool) -> None:
        """An answer came so long after its request was sent; ``full``: all of the window was in use."""
        self._refusals -= self._refusals / max(ROUND, self._begun)
        if full and self._may_grow(latency_s):
            self._size += 1.0 if self._size < self._threshold else 1.0 / self._size
            self._size = min(self._size, float(self.most))
        if now_s - latency_s < self._begun_s:
            return
        self._busy = self._busy or full
        self._answers.add(latency_s)
        if self._answers.count >= max(ROUND, self._begun):
            self._judge(now_s)
            self._begin_round(now_s)

    def _may_grow(self, latency_s: float) -> bool:
        """Nobody who does not use the window learns anything about a larger one, nor from what is slow."""
        if self._doubted or self._fallen is not None:
            return False
        return self._paid is None or latency_s <= self._paid[1].limit_s(SLACK_S)

    def refused(self, now_s: float, *, full: bool) -> None:
        """Somebody else holds a lock that was needed; ``full``: all of the window was in use."""
        self._refusals += (1 - self._refusals) / max(ROUND, self._begun)
        if not full or self._refusals <= RARE:
            return
        threshold, lasts = self._threshold, now_s - self._refused_s < EPISODE_S
        self._refused_s = now_s
        if now_s - self._fell_s >= FALL_PAUSE_S:
            self._fall(FALL * self._size, now_s, "locked by others")
            self._begin_round(now_s)
        if lasts:
            # One cause lets it fall again and again; when that is over, it soon comes back to where it was.
            self._threshold = threshold

    def _begin_round(self, now_s: float) -> None:
        self._begun_s, self._begun = now_s, self._size
        self._answers, self._busy = Latencies(), False

    def _judge(self, now_s: float) -> None:
        """A round is over: the size with which it began paid, did no harm, or was too large."""
        size, now, paid = self._begun, self._answers, self._paid
        doubted, self._doubted = self._doubted, False
        fallen, self._fallen = self._fallen, None
        if not self._busy:
            return
        if fallen is not None and _growth(*fallen, size, now) > 0.5:
            # Fewer are hardly faster. Nothing waited in the bus: it is the gateways that are slow now.
            self._paid, self._threshold = fallen, float(self.most)
        elif paid is None or size <= paid[0] or _growth(size, now, *paid) >= PAYS:
            self._paid = (size, now)
        elif now.slower_than(paid[1], SLACK_S):
            if not doubted:
                self._doubted = True
                return
            # By Little's law this size brings back half of what they may take longer.
            enough = size / now.mean_s * (paid[1].mean_s + paid[1].limit_s(SLACK_S)) / 2
            self._fall(min(FALL * size, max(size / 2, enough)), now_s, "slower without more throughput")
            self._fallen = (size, now)

    def _fall(self, size: float, now_s: float, why: str) -> None:
        self._fell_s = now_s
        self._size = max(1.0, size)
        self._threshold = self._size
        self.trace.append((now_s, self.size, why))


def _growth(size: float, now: Latencies, less: float, before: Latencies) -> float:
    """By what part of the window throughput grew with it; by Little's law it is the size over the latency."""
    if not now.mean_s:
        return 1.0
    return (size / now.mean_s * before.mean_s / less - 1) / (size / less - 1)
