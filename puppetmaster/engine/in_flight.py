"""What is in flight: under which message id, since when, until when it is waited for."""

from puppetmaster.engine.context import Timer, TimerKind
from puppetmaster.timers import Timers

#: So soon after each other the connection ends at long messages, when the broker does not carry them.
IN_A_ROW_S = 60.0
#: How long the broker's word on the length of messages counts.
REFUSED_S = 600.0


class InFlight:
    """Requests that were sent and are not answered. Used by one thread, the dispatcher's.

    Their deadlines are timers.
    """

    def __init__(self, timers: Timers[Timer], grace_s: float) -> None:
        self._timers = timers
        self._grace_s = grace_s
        self._request_of: dict[int, int] = {}  # by message id
        self._sent_s: dict[int, float] = {}
        self._own_s: dict[int, float] = {}  # until when it would be waited for if nobody had gone away
        self._doubtful: set[int] = set()
        self._direct: set[int] = set()  # not given to our own controller

    def __len__(self) -> int:
        return len(self._request_of)

    def sent(
        self, request: int, message: int, now_s: float, timeout_s: float, *, direct: bool = False
    ) -> None:
        """A request goes out; its answer is waited for so long. ``direct``: our controller never sees it."""
        if direct:
            self._direct.add(request)
        self._request_of[message] = request
        self._sent_s[request] = now_s
        self._own_s[request] = now_s + timeout_s
        self._timers.set(_timer(request), now_s + timeout_s)

    def taken_up(
        self, request: int, message: int, now_s: float, timeout_s: float, *, direct: bool = False
    ) -> None:
        """A request that an earlier process had sent: only an answer that was kept for us can come."""
        self.sent(request, message, now_s, timeout_s, direct=direct)
        self._doubtful.add(request)

    def landed(self, request: int, message: int) -> None:
        """It is answered, or not waited for any more."""
        self._request_of.pop(message, None)
        self._sent_s.pop(request, None)
        self._own_s.pop(request, None)
        self._doubtful.discard(request)
        self._direct.discard(request)
        self._timers.cancel(_timer(request))

    def request_of(self, message: int) -> int | None:
        """The request that went out under this message id, while it is in flight."""
        return self._request_of.get(message)

    def sent_s(self, request: int) -> float:
        """When a request in flight was sent."""
        return self._sent_s[request]

    def doubt(self, sent_before_s: float | None = None, *, controller: bool = False) -> None:
        """Whoever would bring the answers went away. All that are in flight, or were sent before some time.

        With ``controller`` that was our controller alone: what went directly to gateways is not in doubt.

        The answers may be kept for us. Until somebody is there to bring them, which ``hurry`` says, each has
        its own time.
        """
        for request, sent_s in self._sent_s.items():
            if controller and request in self._direct:
                continue
            if sent_before_s is None or sent_s < sent_before_s:
                self._doubtful.add(request)
                self._timers.set(_timer(request), self._own_s[request])

    def undecided(self) -> list[int]:
        """The message ids of what our controller was given, and is not in doubt."""
        return [
            message
            for message, request in self._request_of.items()
            if request not in self._doubtful and request not in self._direct
        ]

    def doubt_one(self, request: int) -> None:
        """It is in doubt whether this one arrived; its answer may be kept for us."""
        self._doubtful.add(request)
        self._timers.set(_timer(request), self._own_s[request])

    def hurry(self, now_s: float) -> None:
        """What was kept for us comes now: who is in doubt is not waited for much longer."""
        for request in self._doubtful:
            deadline_s = self._timers.deadline_s(_timer(request)) or self._own_s[request]
            self._timers.set(_timer(request), min(now_s + self._grace_s, deadline_s))

    def doubtful(self, request: int) -> bool:
        """Whether it is in doubt that its answer can come."""
        return request in self._doubtful


def _timer(request: int) -> Timer:
    return Timer(TimerKind.ANSWER, request)


class Trials:
    """What the broker may not carry: the connection ended when a long message was alone on it.

    Once is an accident. Twice in a row, soon after each other, is the broker's word on all messages of that
    length or more, for some time. Used by one thread, the dispatcher's.
    """

    def __init__(self) -> None:
        self._ended: tuple[int, float] | None = None  # at a message of what size the last one ended, and when
        self._refused: tuple[int, float] | None = None  # from what size on messages are refused, until when

    def ended(self, size: int, now_s: float) -> bool:
        """The connection ended at a message of this size; whether the broker refuses such."""
        before, self._ended = self._ended, (size, now_s)
        if self.refuses(size, now_s):
            return True
        if before is None or now_s - before[1] > IN_A_ROW_S:
            return False
        refused_bytes = max(size, before[0]) if self._refused is None else size
        self._refused = (refused_bytes, now_s + REFUSED_S)
        return size >= refused_bytes

    def lost(self) -> None:
        """It ended for another reason: the next one may be to another broker."""
        self._ended = self._refused = None

    def refuses(self, size: int, now_s: float) -> bool:
        """Whether the broker refuses messages of this size."""
        if self._refused is not None and now_s >= self._refused[1]:
            self._refused = None
        return self._refused is not None and size >= self._refused[0]
