"""Requests in flight: their message ids, when they were sent, and until when answers are waited for."""

from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.timers import Timers

#: When the connection ends at long messages twice within this time, the broker does not carry them.
IN_A_ROW_S = 60.0
#: For this long messages of such a length are taken to be refused.
REFUSED_S = 600.0


class InFlight:
    """Requests that were sent and are not answered, with a timer for each. For one thread.

    Times are seconds of the monotonic clock. A request is in doubt when something went away that would have
    brought its answer.
    """

    def __init__(self, timers: Timers[Timer], grace_s: float) -> None:
        self._timers = timers
        self._grace_s = grace_s
        self._request_of: dict[int, int] = {}  # message id -> request
        self._sent_s: dict[int, float] = {}
        self._own_s: dict[int, float] = {}  # request -> the end of its own time
        self._doubtful: set[int] = set()
        self._direct: set[int] = set()  # requests that did not go through our controller

    def __len__(self) -> int:
        return len(self._request_of)

    def sent(
        self, request: int, message: int, now_s: float, timeout_s: float, *, direct: bool = False
    ) -> None:
        """Note that a request is sent, and wait ``timeout_s`` for its answer.

        ``direct``: it does not go through our controller.
        """
        if direct:
            self._direct.add(request)
        self._request_of[message] = request
        self._sent_s[request] = now_s
        self._own_s[request] = now_s + timeout_s
        self._timers.set(_timer(request), now_s + timeout_s)

    def taken_up(
        self, request: int, message: int, now_s: float, timeout_s: float, *, direct: bool = False
    ) -> None:
        """Note a request that an earlier process sent. It is in doubt: its answer was kept, or is lost."""
        self.sent(request, message, now_s, timeout_s, direct=direct)
        self._doubtful.add(request)

    def landed(self, request: int, message: int) -> None:
        """Forget a request that is answered, or is not waited for any longer."""
        self._request_of.pop(message, None)
        self._sent_s.pop(request, None)
        self._own_s.pop(request, None)
        self._doubtful.discard(request)
        self._direct.discard(request)
        self._timers.cancel(_timer(request))

    def request_of(self, message: int) -> int | None:
        """The request in flight under this message id; None: there is none."""
        return self._request_of.get(message)

    def sent_s(self, request: int) -> float:
        """When a request in flight was sent."""
        return self._sent_s[request]

    def doubt(self, sent_before_s: float | None = None, *, controller: bool = False) -> None:
        """Put requests in doubt, because broker or controller went away. Their answers may be kept for us.

        Each is waited for until the end of its own time, or until ``hurry`` says that answers come again.

        Args:
            sent_before_s: only requests that were sent before this time; None: all.
            controller: only our controller went away, so that requests that went directly are not in doubt.
        """
        for request, sent_s in self._sent_s.items():
            if controller and request in self._direct:
                continue
            if sent_before_s is None or sent_s < sent_before_s:
                self._doubtful.add(request)
                self._timers.set(_timer(request), self._own_s[request])

    def undecided(self) -> list[int]:
        """The message ids of requests that went through our controller, and are not in doubt."""
        return [
            message
            for message, request in self._request_of.items()
            if request not in self._doubtful and request not in self._direct
        ]

    def doubt_one(self, request: int) -> None:
        """Put one request in doubt: it may not have arrived. Its answer may be kept for us."""
        self._doubtful.add(request)
        self._timers.set(_timer(request), self._own_s[request])

    def hurry(self, now_s: float) -> None:
        """Wait ``grace_s`` at most for requests in doubt, because answers that were kept for us come now."""
        # In docs/model/takeover.pml these requests are ``settled`` now; the grace is not in the model.
        for request in self._doubtful:
            deadline_s = self._timers.deadline_s(_timer(request)) or self._own_s[request]
            self._timers.set(_timer(request), min(now_s + self._grace_s, deadline_s))

    def doubtful(self, request: int) -> bool:
        """Whether a request is in doubt."""
        return request in self._doubtful


def _timer(request: int) -> Timer:
    return Timer(TimerKind.ANSWER, request)


class Trials:
    """What the broker does not carry, as seen from connections that ended at a long message. For one thread.

    Once may be an accident. Twice within IN_A_ROW_S means that the broker refuses messages of that length or
    more; this is believed for REFUSED_S. Sizes are bytes of topic and payload.
    """

    def __init__(self) -> None:
        self._ended: tuple[int, float] | None = None  # size of the message, and when
        self._refused: tuple[int, float] | None = None  # from which size on, until when

    def ended(self, size: int, now_s: float) -> bool:
        """Note that the connection ended at a message of this size. Returns whether the broker refuses it."""
        before, self._ended = self._ended, (size, now_s)
        if self.refuses(size, now_s):
            return True
        if before is None or now_s - before[1] > IN_A_ROW_S:
            return False
        refused_bytes = max(size, before[0]) if self._refused is None else size
        self._refused = (refused_bytes, now_s + REFUSED_S)
        return size >= refused_bytes

    def lost(self) -> None:
        """Forget all, because the connection ended for another reason: the next may be to another broker."""
        self._ended = self._refused = None

    @property
    def some(self) -> bool:
        """Whether the broker has refused anything."""
        return self._refused is not None

    def refuses(self, size: int, now_s: float) -> bool:
        """Whether the broker refuses messages of this size."""
        if self._refused is not None and now_s >= self._refused[1]:
            self._refused = None
        return self._refused is not None and size >= self._refused[0]
