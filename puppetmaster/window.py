"""How much is in flight at once, when nobody says a number: found out by trying.

The window starts small and doubles while answers come (slow start), then grows slowly. It falls
when others hold locks (423), more than a few, and when a larger window only made answers slower. Knows no
clock: times are given, in monotonic seconds.
"""

from collections import deque

FIRST = 10
#: It falls to this part of itself, and at most once in so many seconds.
FALL, FALL_PAUSE_S = 0.7, 0.1
#: Refusals that follow one another within so many seconds have one cause; who is refused waits up to 2 s.
EPISODE_S = 3.0
#: Up to this part of what comes back, refusals tell of a gateway or two that somebody else writes to.
RARE = 0.1
#: Answers are compared over stretches of a round trip: of so many answers as the window has places, and of
#: at least so many seconds and answers.
STRETCH_S, STRETCH_ANSWERS = 0.05, 20
#: A larger window pays when throughput grows by this part of what the window grew.
PAYS = 0.25
#: Answers have become slower when they take this much longer than before.
SLOWER = 1.3
#: It is compared with a size that is smaller by this part at least.
GROWN = 0.05
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
        self._begun_s: float | None = None
        self._answers = 0
        self._enough = STRETCH_ANSWERS
        self._latency_s = 0.0
        self._busy = False
        #: The last size that paid, with its answers per second and their latency.
        self._paid: tuple[float, float, float] | None = None
        #: When it changed its course, to what size, and why.
        self.trace: deque[tuple[float, int, str]] = deque(maxlen=TRACE)

    @property
    def size(self) -> int:
        """Requests that may be in flight."""
        return int(self._size)

    def answered(self, latency_s: float, now_s: float, *, full: bool) -> None:
        """An answer came so long after its request was sent; ``full``: all of the window was in use."""
        self._busy = self._busy or full
        self._refusals -= self._refusals / self._enough
        if full:
            # Nobody who does not use the window learns anything about a larger one.
            self._size += 1.0 if self._size < self._threshold else 1.0 / self._size
            self._size = min(self._size, float(self.most))
        if self._begun_s is None:
            self._begun_s = now_s
        self._answers += 1
        self._latency_s += latency_s
        lasted_s = now_s - self._begun_s
        if lasted_s >= STRETCH_S and self._answers >= self._enough:
            self._compare(lasted_s, now_s)

    def refused(self, now_s: float, *, full: bool) -> None:
        """Somebody else holds a lock that was needed; ``full``: all of the window was in use."""
        self._refusals += (1 - self._refusals) / self._enough
        if not full or self._refusals <= RARE:
            return
        threshold, lasts = self._threshold, now_s - self._refused_s < EPISODE_S
        self._refused_s = now_s
        self._fall(now_s, "locked by others")
        if lasts:
            # One cause lets it fall again and again; when that is over, it soon comes back to where it was.
            self._threshold = threshold

    def _compare(self, lasted_s: float, now_s: float) -> None:
        rate, latency_s = self._answers / lasted_s, self._latency_s / self._answers
        size, busy = self._size, self._busy
        self._begun_s, self._answers, self._latency_s, self._busy = now_s, 0, 0.0, False
        self._enough = max(STRETCH_ANSWERS, self.size)
        if not busy:
            return
        paid = self._paid
        if paid is None or size <= paid[0]:
            self._paid = (size, rate, latency_s)
            return
        grown, gained = size / paid[0] - 1, rate / paid[1] - 1
        if gained >= PAYS * grown:
            self._paid = (size, rate, latency_s)
        elif grown > GROWN and latency_s > SLOWER * paid[2]:
            self._fall(now_s, "slower without more throughput")

    def _fall(self, now_s: float, why: str) -> None:
        if now_s - self._fell_s < FALL_PAUSE_S:
            return
        self._fell_s = now_s
        self._size = max(1.0, self._size * FALL)
        self._threshold = self._size
        self.trace.append((now_s, self.size, why))
