"""The adaptive window: how many requests of jobs without a concurrency are in flight, found out by trying.

The window starts small and doubles while answers come (slow start); after a fall it grows slowly. It falls
when more than ``RARE`` of our requests find a lock that others hold (423). It also falls when two rounds in a
row show that a larger window made answers slower, by more than ``SLACK_S``, without more throughput. When
answers are no faster after a fall, the fall was useless, and the window doubles again. This module knows no
clock: times are passed in, in monotonic seconds.
"""

import math
from collections import deque

from puppetmaster.scheduling.latencies import Latencies

#: The first size.
FIRST = 10
#: A fall multiplies the size by ``FALL``. Between two falls because of locks are at least ``FALL_PAUSE_S``.
FALL, FALL_PAUSE_S = 0.7, 0.1
#: Refusals (423) less than this apart count as one episode: a refused request is sent again after up to 2 s,
#: and may then be refused for the same cause.
EPISODE_S = 3.0
#: Refusals up to this part of all that comes back are passed over: somebody writes to a few gateways.
RARE = 0.1
#: A round has as many answers as the size of the window, and at least this many.
ROUND = 20
#: A larger window pays when throughput grew by at least this part of what the window grew by.
PAYS = 0.2
#: A mean latency that is longer by this much does not count as slower. An untouched mosquitto alone delays
#: answers by up to 88 ms, and by less when there are many.
SLACK_S = 0.1
#: Most entries of ``Window.trace``.
TRACE = 200


class Window:
    """The adaptive window. ``size`` is between 1 and ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = float(min(FIRST, most))
        self._threshold = float(most)  # below it the size doubles, from it on it grows slowly
        self._fell_s = -FALL_PAUSE_S  # when it fell last
        self._refused_s = -EPISODE_S  # when a refusal counted last
        self._refusals = 0.0  # the part of refusals in what comes back, the latest counting most
        #: When the present round began, and with what size.
        self._begun_s, self._begun = -math.inf, self._size
        #: Latencies of answers in this round, to requests that were sent in it.
        self._answers = Latencies()
        #: Whether all of the window was in use at some time of this round.
        self._busy = False
        #: Whether the last round was slower without more throughput. The window does not grow until the next
        #: round shows whether that lasts.
        self._doubted = False
        #: The latest size that paid, with its latencies; None: none yet.
        self._paid: tuple[float, Latencies] | None = None
        #: The size before the last fall, with its latencies, until a round shows whether the fall helped.
        self._fallen: tuple[float, Latencies] | None = None
        #: The latest falls: when (monotonic clock), to what size, and why.
        self.trace: deque[tuple[float, int, str]] = deque(maxlen=TRACE)

    @property
    def size(self) -> int:
        """How many requests may be in flight."""
        return int(self._size)

    def answered(self, latency_s: float, now_s: float, *, full: bool) -> None:
        """Note an answer, ``latency_s`` after its request was sent. ``full``: the whole window was in use."""
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
        """Whether an answer of this latency may make the window grow.

        Not a slow one, and none while a slow round or a fall waits for the next round to confirm it.
        """
        if self._doubted or self._fallen is not None:
            return False
        return self._paid is None or latency_s <= self._paid[1].limit_s(SLACK_S)

    def refused(self, now_s: float, *, full: bool) -> None:
        """Note a 423: somebody else holds a lock that was needed. ``full``: the whole window was in use."""
        self._refusals += (1 - self._refusals) / max(ROUND, self._begun)
        if not full or self._refusals <= RARE:
            return
        threshold, lasts = self._threshold, now_s - self._refused_s < EPISODE_S
        self._refused_s = now_s
        if now_s - self._fell_s >= FALL_PAUSE_S:
            self._fall(FALL * self._size, now_s, "locked by others")
            self._begin_round(now_s)
        if lasts:
            # The same episode as the last fall: after it the window may quickly grow to where it was before.
            self._threshold = threshold

    def _begin_round(self, now_s: float) -> None:
        self._begun_s, self._begun = now_s, self._size
        self._answers, self._busy = Latencies(), False

    def _judge(self, now_s: float) -> None:
        """Decide after a round whether the size with which it began paid, did no harm, or was too large."""
        size, now, paid = self._begun, self._answers, self._paid
        doubted, self._doubted = self._doubted, False
        fallen, self._fallen = self._fallen, None
        if not self._busy:
            return
        if fallen is not None and _growth(*fallen, size, now) > 0.5:
            # The smaller window is hardly faster. Nothing waited in the bus; the gateways are slow.
            self._paid, self._threshold = fallen, float(self.most)
        elif paid is None or size <= paid[0] or _growth(size, now, *paid) >= PAYS:
            self._paid = (size, now)
        elif now.slower_than(paid[1], SLACK_S):
            if not doubted:
                self._doubted = True
                return
            # By Little's law the latency at this size is halfway between the usual one and the limit.
            enough = size / now.mean_s * (paid[1].mean_s + paid[1].limit_s(SLACK_S)) / 2
            self._fall(min(FALL * size, max(size / 2, enough)), now_s, "slower without more throughput")
            self._fallen = (size, now)

    def _fall(self, size: float, now_s: float, why: str) -> None:
        self._fell_s = now_s
        self._size = max(1.0, size)
        self._threshold = self._size
        self.trace.append((now_s, self.size, why))


def _growth(size: float, now: Latencies, less: float, before: Latencies) -> float:
    """Growth of throughput as a part of the window's growth, from ``less`` to ``size``.

    By Little's law throughput is the size divided by the latency.
    """
    if not now.mean_s:
        return 1.0
    return (size / now.mean_s * before.mean_s / less - 1) / (size / less - 1)
