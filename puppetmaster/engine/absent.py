"""Requests that wait for gateways that are away: which for which, and when to ask for a gateway.

A gateway comes back when its bridge says so, when it registers, when it answers anybody, or when the
controller, asked for it, names an owner. Each sets the timer ``BACK``; then the requests wait for their turns
like all others. An owner of many gateways does not say whether one of them is there: there the first request
is tried. The scheduler does not know requests that wait here. This module knows no threads and no sockets.
"""

import math
import random
import re
from collections import Counter
from dataclasses import dataclass, field, replace

from puppetmaster.clock import Moment, iso, left_s
from puppetmaster.engine.presence import Presence
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.model.request import CONNECTED, Absence, Request
from puppetmaster.model.why import Said, Why
from puppetmaster.timers import Timers

#: A gateway is asked for after a random part of the first time, from half of it on; then after twice as long
#: each time, up to the last.
FIRST_S, LAST_S = 10.0, 60.0
#: When the controller was not asked for a gateway for a while, it is asked within this time.
SOON_S = 1.0
#: Most gateways that are asked for in one round, and the pause until the next round: 50 gateways a second.
AT_ONCE, APART_S = 10, 0.2
#: A gateway that asks to be registered is sent to after this time: the controller answers it first, in 44 to
#: 90 ms, and only then can it subscribe to the topic that the answer names. What comes before is lost.
REGISTERED_S = 0.5
ASK = Timer(TimerKind.ASK, 0)


@dataclass(slots=True, eq=False)
class _Gateway:
    """A gateway that was found to be away, while requests to it are open that it can keep waiting."""

    #: What the gateway is not: ``CONNECTED`` or ``REGISTERED``.
    what: str
    #: It is asked for again after this number of seconds at most.
    wait_s: float = FIRST_S
    #: Whether it may be back, so that requests to it are sent.
    tried: bool = False
    #: The requests that wait, and those let go since: when one of these fails, the intervals go on growing.
    requests: dict[int, None] = field(default_factory=dict)


class Absent:
    """All gateways that are away and waited for. One thread uses it: the dispatcher's."""

    def __init__(self, timers: Timers[Timer], moment: Moment, presence: Presence) -> None:
        self._timers = timers
        self._moment = moment
        self._presence = presence
        self._gateways: dict[str, _Gateway] = {}
        self._waiting: dict[int, int] = {}  # request -> its job
        #: How many requests of each job wait.
        self.of_jobs: Counter[int] = Counter()
        self._asks: Timers[str] = Timers()
        self._pause_s = 0.0  # until when nobody is asked for

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def holds(self, request: int) -> bool:
        """Whether a request waits here."""
        return request in self._waiting

    def lacks(self, gateway: str) -> str | None:
        """What a gateway is not that is away; None: nothing is known, or it is tried."""
        if self._presence.why_away(gateway) is not None:
            return CONNECTED
        found = self._gateways.get(gateway)
        return None if found is None or found.tried else found.what

    def tried(self, gateway: str) -> bool:
        """Whether a gateway was away and may be back."""
        return gateway in self._gateways and self._gateways[gateway].tried

    def noted(self, request: Request, what: str, delivery_s: float) -> Request:
        """The request with its absence: its gateway is not ``what``. Its time began with the first."""
        old, now = request.absence, self._moment
        since, until_s = (now.at, now.now_s + delivery_s) if old is None else (old.since, old.until_s)
        return replace(request, absence=Absence(what, since, now.boot, until_s))

    def in_this_boot(self, request: Request, delivery_s: float) -> Request:
        """The request with the end of its time on the clock of this boot of the machine."""
        absence, now = request.absence, self._moment
        if absence is None or (absence.boot and absence.boot == now.boot):
            return request
        until_s = now.now_s + left_s(delivery_s, absence.since, now.wall_s)
        return replace(request, absence=replace(absence, boot=now.boot, until_s=until_s))

    def since_by_the_wall(self, request: Request, delivery_s: float) -> Request:
        """The request with the beginning of its time by the present wall clock."""
        if (absence := request.absence) is None:
            return request
        gone_s = self._moment.now_s - (absence.until_s - delivery_s)
        since = iso(max(self._moment.wall_s - gone_s, 0.0))
        return replace(request, absence=replace(absence, since=since))

    def wait(self, request: Request, *, soon: bool = False) -> None:
        """Let a request wait for its gateway, until the time of its absence is over.

        ``soon``: the controller is asked for the gateway soon, because it was not for a while.
        """
        absence = request.absence
        assert absence is not None
        name = request.destination
        found = self._gateways.setdefault(name, _Gateway(absence.what))
        if soon:
            self._asks.set(name, self._moment.now_s + random.uniform(0, SOON_S))
        elif self._asks.deadline_s(name) is None:
            self._ask_later(name, found)
        found.what, found.tried = absence.what, False
        found.requests[request.id] = None
        if request.id not in self._waiting:
            self._waiting[request.id] = request.job
            self.of_jobs[request.job] += 1
        self._timers.set(Timer(TimerKind.ABSENT, request.id), absence.until_s)

    def forget(self, request: Request) -> None:
        """Forget a request that has ended, or is not to be sent now."""
        self._leave(request.id)
        found = self._gateways.get(request.destination)
        if found is not None:
            found.requests.pop(request.id, None)
            if not found.requests:
                del self._gateways[request.destination]
                self._asks.cancel(request.destination)
                self._timers.cancel(_back(request.destination))

    def _leave(self, request: int) -> None:
        if request in self._waiting:
            job = self._waiting.pop(request)
            self.of_jobs[job] -= 1
            if not self.of_jobs[job]:
                del self.of_jobs[job]
            self._timers.cancel(Timer(TimerKind.ABSENT, request))

    # -- gateways that come back --------------------------------------------------------------------

    def seen(self, gateway: str, after_s: float = 0.0) -> None:
        """A gateway is there, or will be ``after_s`` seconds from now: what waits for it is sent then."""
        if (found := self._gateways.get(gateway)) is None:
            return
        at_s, timer = self._moment.now_s + after_s, _back(gateway)
        if found.tried:
            found.wait_s = FIRST_S
        elif at_s < (self._timers.deadline_s(timer) or math.inf):
            self._timers.set(timer, at_s)

    def registering(self, names: list[str]) -> None:
        """Gateways of these names, or patterns of names, ask to be registered."""
        for name in names:
            pattern = _pattern(name)
            for gateway in [name] if pattern is None else filter(pattern.fullmatch, list(self._gateways)):
                self.seen(gateway, REGISTERED_S)

    def coming(self, gateway: str) -> bool:
        """Whether a gateway was seen to register, and is about to be tried."""
        return self._timers.deadline_s(_back(gateway)) is not None

    def back(self, gateway: str) -> list[int]:
        """A gateway is tried: the requests that wait for it do so no longer. Returns them."""
        found = self._gateways.get(gateway)
        if found is None:
            return []
        found.tried = True
        self._asks.cancel(gateway)
        back = [id_ for id_ in found.requests if id_ in self._waiting]
        for id_ in back:
            self._leave(id_)
        return back

    # -- gateways that are asked for ----------------------------------------------------------------

    def questions(self) -> list[str]:
        """The gateways that the controller is to be asked for now. Sets the timer for the next ones."""
        now_s, asked = self._moment.now_s, list[str]()
        if now_s >= self._pause_s:
            for name in self._asks.due(now_s):
                self._ask_later(name, self._gateways[name])
                if self._presence.why_away(name) is None:  # of the others only their bridges tell
                    asked.append(name)
                    if len(asked) == AT_ONCE:
                        break
            if asked:
                self._pause_s = now_s + APART_S
        if (next_s := self._asks.next_s()) is not None:
            at_s = max(next_s, self._pause_s)
            if at_s != self._timers.deadline_s(ASK):
                self._timers.set(ASK, at_s)
        else:
            self._timers.cancel(ASK)
        return asked

    def _ask_later(self, name: str, found: _Gateway) -> None:
        self._asks.set(name, self._moment.now_s + random.uniform(found.wait_s / 2, found.wait_s))
        found.wait_s = min(2 * found.wait_s, LAST_S)

    # -- in words -----------------------------------------------------------------------------------

    def why(self, request: Request) -> Said | None:
        """What a request waits for that waits here; None: it does not."""
        absence = request.absence
        if absence is None or request.id not in self._waiting:
            return None
        until = iso(self._moment.wall_s + absence.until_s - self._moment.now_s)
        away = self._presence.why_away(request.destination) or f"not {absence.what} since {absence.since}"
        return Why.ABSENT.said(away=away, until=until)


def _back(gateway: str) -> Timer:
    return Timer(TimerKind.BACK, gateway)


def _pattern(name: str) -> re.Pattern[str] | None:
    """A regular expression for the names that a resource with wildcards owns; None: it has no wildcard."""
    parts = re.split("[+#]", name)
    return re.compile(".+".join(map(re.escape, parts))) if len(parts) > 1 else None
