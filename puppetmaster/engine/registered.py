"""Which gateways are registered at the controller, as it says when it is asked, and which are asked for next.

The question takes no lock, and costs the controller a walk through its models. So all gateways that are known
are asked for in turn, few a second, and fewer while requests are being sent. Gateways that are seen to
register or to deregister, and the destinations of new jobs, come first. For gateways that a caller wants to
know of now the controller is asked at once, ``OPEN`` of them at a time. This module knows no sockets and no
clock.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, islice
from typing import NamedTuple

from puppetmaster.clock import Moment
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.model.gateway import is_name
from puppetmaster.scheduling.locks import REMOTE, WILDCARDS
from puppetmaster.timers import Timers

#: Most gateways whose state is kept, and most of those among them that are no known gateways.
KNOWN_LIMIT, STRANGERS = 200_000, 10_000
#: Number of gateways that are asked for at once, and the pause until the next ones: 20 gateways a second.
AT_ONCE, APART_S = 5, 0.25
#: The same in turns of the dispatcher that send requests, and after ``VAIN`` answers in a row without
#: a word of the gateway, because an owner answers for many gateways. That is 2 a second.
SLOW_AT_ONCE, SLOW_APART_S, VAIN = 1, 0.5, 20
#: The shortest time until a gateway is asked for again.
SHORTEST_S = 0.05
#: Most questions that are open at once where somebody waits for the answers.
OPEN = 64
#: A question without an answer is given up after this time.
GIVEN_UP_S = 5.0
#: A gateway that was seen to register or to deregister is asked for after this time: the controller takes 44
#: to 90 ms for it.
AFTER_S = 0.5
#: Most gateways that wait to be asked for before their turn.
MOST_FIRST = 10_000
_TIMER = Timer(TimerKind.CHECK, 0)


class Said(NamedTuple):
    """What the controller has said of a gateway."""

    #: Whether it is registered; None: not known, or its owner answers for many gateways.
    registered: bool | None = None
    #: When the controller said so, in seconds of the monotonic clock; None: it has said nothing.
    at_s: float | None = None
    #: When it was last asked, or said something.
    asked_s: float = -math.inf


NOTHING = Said()


class Copy(NamedTuple):
    """What was known of all gateways at one time. Another thread may keep it."""

    known: dict[str, Said]
    strangers: dict[str, Said]
    #: When that was, in seconds of the monotonic clock.
    now_s: float = 0.0

    def of(self, name: str) -> Said:
        """What the controller had said of a gateway."""
        return self.known.get(name) or self.strangers.get(name) or NOTHING


class Registered:
    """What is known of all gateways. One thread uses it: the dispatcher's.

    ``names`` are the gateways that are known. Each is asked for every ``check_s`` seconds, if there is time;
    0: only gateways that were seen to register, or that a caller wants to know of.
    """

    def __init__(self, timers: Timers[Timer], moment: Moment, names: Iterable[str], check_s: float) -> None:
        self._timers = timers
        self._moment = moment
        self._check_s = check_s
        #: In the order in which they were asked for, or heard of: the first one is next.
        self._known = dict.fromkeys(islice(names, KNOWN_LIMIT), NOTHING)
        #: Destinations and others that are no known gateways.
        self._strangers: dict[str, Said] = {}
        self._counts: Counter[bool | None] = Counter({None: len(self._known)})
        #: Gateways to ask for before all others, in order -> not before this time.
        self._first: dict[str, float] = {}
        #: Gateways that callers want to know of now.
        self._now: dict[str, None] = {}
        self._open: dict[str, float] = {}  # gateways that the controller was asked for -> when
        #: Callers that wait for answers: the gateways that are left, and what to do when none is.
        self._waiting: list[tuple[set[str], Callable[[], object]]] = []
        self._vain = 0  # answers in a row that say nothing of a gateway
        self._pause_s = 0.0  # until when no gateway is asked for in turn
        self._registering: dict[str, None] = {}  # unknown gateways that were seen to register
        self._models: dict[str, tuple[str, ...]] = {}  # model -> its gateways, if it is not named as its one

    # -- what is known ------------------------------------------------------------------------------

    def of(self, name: str) -> Said:
        """What the controller has said of a gateway."""
        return self._known.get(name) or self._strangers.get(name) or NOTHING

    def copy(self) -> Copy:
        """What the controller has said of all gateways."""
        return Copy(self._known.copy(), self._strangers.copy(), self._moment.now_s)

    def count(self, registered: bool | None) -> int:
        """Number of known gateways that are registered (True), are not, or of which that is not known."""
        return self._counts[registered]

    def learn(self, put: Collection[str], destinations: Collection[str], forgotten: Collection[str]) -> None:
        """Take in which gateways are known from now on, and which are not known any more."""
        if not (put or destinations or forgotten):
            return
        for name in forgotten:
            if (said := self._known.pop(name, None)) is not None:
                self._counts[said.registered] -= 1
        self._know(dict.fromkeys(chain(put, destinations)))
        now_s = self._moment.now_s
        if self._check_s:
            known, asked_s = self._known, now_s - self._check_s
            due = [name for name in destinations if (known.get(name) or self.of(name)).asked_s <= asked_s]
            self._ask_first(due, 0.0)
        self._set_timer(now_s)

    def _know(self, names: Iterable[str]) -> None:
        fresh = [name for name in names if name not in self._known][: KNOWN_LIMIT - len(self._known)]
        if not fresh:
            return
        met = {name: self._strangers.pop(name) for name in fresh if name in self._strangers}
        self._known |= dict.fromkeys(fresh, NOTHING) | met
        self._counts[None] += len(fresh) - len(met)
        self._counts.update(said.registered for said in met.values())

    def owned(self, name: str, resources: Sequence[str] | None) -> bool:
        """Take in the controller's answer about a gateway: its owner has these resources; None: no owner.

        Returns whether the gateway is unknown, and was seen to register.
        """
        own = None
        if resources is None or f"{REMOTE}{name}" in resources:
            own = resources is not None
        self._vain = self._vain + 1 if own is None else 0
        self._said(name, Said(own, self._moment.now_s, self._moment.now_s))
        self._close(name)
        if name not in self._registering:
            return False
        del self._registering[name]
        return own is True

    def forget_all(self) -> None:
        """Forget what the controller has said: it has forgotten all gateways, or may be another one."""
        self._known = dict.fromkeys(self._known, NOTHING)
        self._strangers.clear()
        self._vain = 0
        self._counts = Counter({None: len(self._known)})
        self._first.clear()
        self._registering.clear()
        self._models.clear()
        for name in list(self._open):
            self._close(name)
        waiting, self._waiting = self._waiting, []
        self._now.clear()
        for _, done in waiting:
            done()

    def _said(self, name: str, said: Said) -> None:
        old = self._known.pop(name, None)
        if old is not None:
            self._counts[old.registered] -= 1
            self._counts[said.registered] += 1
            self._known[name] = said
            return
        self._strangers.pop(name, None)
        self._strangers[name] = said
        if len(self._strangers) > STRANGERS:
            del self._strangers[next(iter(self._strangers))]

    # -- gateways that are asked for ----------------------------------------------------------------

    def registering(self, model: str, resources: Iterable[str]) -> None:
        """A model asks to be registered with these resources: its gateways are asked for soon."""
        names = [one.removeprefix(REMOTE) for one in resources if WILDCARDS.search(one) is None]
        if names != [model] and len(self._models) < KNOWN_LIMIT:
            self._models[model] = tuple(names)
        room = len(self._known) < KNOWN_LIMIT and len(self._registering) < MOST_FIRST
        for name in filter(is_name, names):
            if room and name not in self._known:
                self._registering[name] = None
            self._ask_first([name], AFTER_S)

    def deregistering(self, model: str) -> None:
        """A model asks to be deregistered: its gateways are asked for soon."""
        for name in self._models.pop(model, (model,)):
            if name in self._known or name in self._strangers:
                self._ask_first([name], AFTER_S)

    def _ask_first(self, names: Iterable[str], after_s: float) -> None:
        first, at_s = self._first, self._moment.now_s + after_s
        for name in names:
            if len(first) >= MOST_FIRST:
                return
            first.pop(name, None)  # to the end: times are in order
            first[name] = at_s

    def ask_now(self, names: Collection[str], done: Callable[[], object]) -> None:
        """Ask for these gateways at once, and call ``done`` when all are answered or given up."""
        if not names:
            done()
            return
        self._waiting.append((set(names), done))
        self._now |= dict.fromkeys(name for name in names if name not in self._open)

    def questions(self, *, sending: bool) -> list[str]:
        """The gateways that the controller is to be asked for now. Sets the timer for the next ones.

        ``sending``: requests are sent in this turn.
        """
        now_s = self._moment.now_s
        for name in [name for name, asked_s in self._open.items() if asked_s + GIVEN_UP_S <= now_s]:
            self._close(name)
        asked = self._opened(list(islice(self._now, max(OPEN - len(self._open), 0))), now_s)
        slow = sending or self._vain >= VAIN
        at_once, apart_s = (SLOW_AT_ONCE, SLOW_APART_S) if slow else (AT_ONCE, APART_S)
        if now_s >= self._pause_s and len(self._open) < OPEN:
            # One that comes before its turn may be due in its turn, too.
            in_turn = self._opened([*dict.fromkeys(islice(self._in_turn(now_s), at_once))], now_s)
            asked += in_turn
            if in_turn:
                self._pause_s = now_s + apart_s
        self._set_timer(now_s)
        return asked

    def _opened(self, names: list[str], now_s: float) -> list[str]:
        """Note that the controller is asked for these. Returns them."""
        for name in names:
            self._now.pop(name, None)
            self._open[name] = now_s
            self._said(name, self.of(name)._replace(asked_s=now_s))
        return names

    def _in_turn(self, now_s: float) -> Iterable[str]:
        """The gateways that are to be asked for, in order."""
        while self._first and (first := next(iter(self._first.items())))[1] <= now_s:
            name, since_s = first
            del self._first[name]
            if name not in self._open and (self.of(name).at_s or 0.0) < since_s:
                yield name
        if self._check_s:
            for name, said in self._known.items():
                if said.asked_s + self._check_s > now_s:
                    return
                if name not in self._open:
                    yield name

    def _set_timer(self, now_s: float) -> None:
        due: list[float] = []
        if self._open:
            due.append(next(iter(self._open.values())) + GIVEN_UP_S)
        if self._first:
            due.append(max(next(iter(self._first.values())), self._pause_s))
        if self._check_s and self._known:
            due.append(max(next(iter(self._known.values())).asked_s + self._check_s, self._pause_s))
        if not due:
            self._timers.cancel(_TIMER)
        elif (at_s := max(min(due), now_s + SHORTEST_S)) != self._timers.deadline_s(_TIMER):
            self._timers.set(_TIMER, at_s)

    def _close(self, name: str) -> None:
        """A question is answered, or given up: nobody waits for it any longer."""
        self._open.pop(name, None)
        self._now.pop(name, None)
        for left, done in self._waiting:
            left.discard(name)
            if not left:
                done()
        self._waiting = [one for one in self._waiting if one[0]]
