"""Write locks of the controller: which destinations share one, who of us holds it, until when others do.

A write locks the model that owns its destination, with all other resources of that model, until it is
answered; while it is held nothing else passes, reads neither. So destinations of one model are one
*domain*. The controller says who owns what; its word is believed for a while. Each question costs it a walk
through all models, so when its answers are all alike, a lock for each, the rest is believed to be so too,
until a lock that somebody holds, or an answer, says otherwise. Knows no clock.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

#: So many destinations are remembered with their domain; then all are asked for anew.
KNOWN_LIMIT = 200_000
REMOTE = "/remote/"
WILDCARDS = re.compile("[+#]")
#: After so many answers in a row of "this one has a lock of its own", that is believed of all others.
ALIKE = 20


@dataclass(slots=True, eq=False)
class Lock:
    """The lock of one domain, while somebody holds it."""

    writer: int | None = None
    until_s: float = 0.0


class Pattern(NamedTuple):
    """One lock for all destinations that begin in some way."""

    domain: str
    until_s: float
    #: The destination that the controller was asked for.
    asked: str


class Learned(NamedTuple):
    """What an answer of the controller changed."""

    #: The destinations that it spoke for.
    told: list[str]
    #: Domains that some of these do not belong to any more; None: some destinations of any domain.
    outdated: set[str] | None
    #: The domains of destinations that were not asked for may be known with this answer.
    everybody: bool


class _Changed(NamedTuple):
    """Whether other patterns are known; whether with them, or by likeness, more destinations are."""

    patterns: bool
    everybody: bool


class Locks:
    """What is known of domains and their locks. Used by one thread, the dispatcher's."""

    def __init__(self, cache_s: float) -> None:
        self._cache_s = cache_s
        self._held: dict[str, Lock] = {}
        self._known: dict[str, tuple[str, float]] = {}
        #: Owners of many destinations, by how these begin: the empty beginning is every destination.
        self._patterns: dict[str, Pattern] = {}
        self._alike = 0
        self._doubted: set[str] = set()  # not believed to be like the others
        self._wanted: dict[str, None] = {}
        self._asked: set[str] = set()

    # -- which domain -----------------------------------------------------------------------------

    def many(self, domain: str | None) -> bool:
        """Whether the owner of this domain answers for all destinations of a pattern."""
        return any(pattern.domain == domain for pattern in self._patterns.values())

    @property
    def alike(self) -> bool:
        """Whether those that nothing is known of are believed to have a lock of their own."""
        return self._alike >= ALIKE

    def domain(self, destination: str, now_s: float) -> str | None:
        """The domain of a destination; None: it is not known."""
        for begins, pattern in self._patterns.items():
            if destination.startswith(begins) and destination != begins:
                return pattern.domain
        known = self._known.get(destination)
        if known is not None and now_s < known[1]:
            return known[0]
        own = f"/remote/{destination}"
        shared = known is not None and known[0] != own  # it was, and is not believed to be another now
        return None if shared or not self.alike or destination in self._doubted else own

    def want(self, destination: str) -> None:
        """Somebody needs to know the domain of this destination."""
        if destination not in self._asked:
            self._wanted[destination] = None

    def unwant(self, destination: str) -> None:
        """Nobody needs to know any more."""
        self._wanted.pop(destination, None)

    def questions(self, most: int, now_s: float) -> Iterator[str]:
        """Destinations that the controller is to be asked for, at most ``most`` under way at once."""
        for begins, pattern in self._patterns.items():
            if pattern.until_s <= now_s:
                # Believed until the answer is there: everything that waits would have to ask otherwise.
                self._patterns[begins] = pattern._replace(until_s=now_s + self._cache_s)
                self._wanted.pop(pattern.asked, None)
                self._asked.add(pattern.asked)
                yield pattern.asked
        while self._wanted and len(self._asked) < most:
            destination = next(iter(self._wanted))
            del self._wanted[destination]
            self._asked.add(destination)
            yield destination

    def learn(self, destination: str, resources: Iterable[str] | None, now_s: float) -> Learned:
        """The controller's answer: all resources of the owner of ``destination``; None when there is none.

        A pattern among them is one lock for every destination that it matches: ``+`` and ``#`` are wildcards
        inside a segment too, and stand for one character at least. Without an owner it has its own.
        """
        self._asked.discard(destination)
        owned = sorted(one for one in resources or () if one.startswith(REMOTE))
        begins = {
            match.string[len(REMOTE) : match.start()]: match.string
            for match in map(WILDCARDS.search, owned)
            if match is not None and match.end() == len(match.string)
        }
        told = [destination, *(resource.removeprefix(REMOTE) for resource in owned)]
        before = {self.domain(name, now_s) for name in told}
        # A group has a name that nobody's own lock has, so that one can tell them apart.
        first = next(iter(begins.values()), owned[0] if owned else "")
        group = first if begins or len(owned) == 1 else f"{first} and {len(owned) - 1} more"
        patterns = dict.fromkeys(begins, Pattern(group, now_s + self._cache_s, destination))
        changed = self._compare(destination, owned, patterns)
        if len(self._known) > KNOWN_LIMIT:
            self._known.clear()
        self._known[destination] = (f"{REMOTE}{destination}", now_s + self._cache_s)
        for name in told[1:]:
            self._known[name] = (group, now_s + self._cache_s)
        for name in told:
            self.unwant(name)
            self._doubted.discard(name)
        if changed.everybody:
            self._wanted = {name: None for name in self._wanted if self.domain(name, now_s) is None}
        outdated = before - {self.domain(name, now_s) for name in told}
        known = {domain for domain in outdated if domain is not None}
        return Learned(told, None if changed.patterns else known, changed.everybody)

    def _compare(self, destination: str, owned: list[str], patterns: dict[str, Pattern]) -> "_Changed":
        """Take in who owns patterns, and whether the answers are all alike."""
        was_alike = self.alike
        old = {begins: pattern.domain for begins, pattern in self._patterns.items()}
        kept = {begins: pattern for begins, pattern in self._patterns.items() if pattern.asked != destination}
        # The longest beginning first, where two match.
        self._patterns = dict(sorted({**kept, **patterns}.items(), key=lambda one: -len(one[0])))
        if owned:
            self._alike = self._alike + 1 if owned == [f"{REMOTE}{destination}"] else 0
        new = {begins: pattern.domain for begins, pattern in self._patterns.items()}
        return _Changed(new != old, bool(new.items() - old.items()) or (self.alike and not was_alike))

    def forget(self, destination: str) -> None:
        """What is known about this destination was wrong."""
        domain = self.domain(destination, 0.0)
        self._known.pop(destination, None)
        self._patterns = {
            begins: pattern for begins, pattern in self._patterns.items() if pattern.domain != domain
        }

    def doubt(self, destination: str) -> None:
        """Somebody holds its lock: it may be shared with others than was said."""
        self._known.pop(destination, None)
        if self.alike:
            self._doubted.add(destination)

    def ask_again(self, destination: str) -> None:
        """No answer came."""
        self._asked.discard(destination)
        self.want(destination)

    def forget_all(self) -> None:
        """The controller is another one now, or was away: what it said may not hold."""
        self._known.clear()
        self._doubted.clear()
        self._patterns.clear()
        self._alike = 0
        # What was under way is lost with it, or was answered by the other one.
        self._wanted = dict.fromkeys([*self._asked, *self._wanted])
        self._asked.clear()

    # -- who holds it -----------------------------------------------------------------------------

    def held(self, domain: str, now_s: float) -> bool:
        """Whether nothing may pass now."""
        lock = self._held.get(domain)
        return lock is not None and (lock.writer is not None or lock.until_s > now_s)

    def writer(self, domain: str) -> int | None:
        """The write of ours that holds it."""
        lock = self._held.get(domain)
        return None if lock is None else lock.writer

    def take(self, domain: str, writer: int) -> None:
        """A write of ours has it from here."""
        self._held.setdefault(domain, Lock()).writer = writer

    def give_back(self, domain: str, writer: int) -> None:
        """That write is answered."""
        lock = self._held.get(domain)
        if lock is not None and lock.writer == writer:
            lock.writer = None

    def others_hold(self, domain: str, until_s: float) -> None:
        """Somebody else has it; it is tried again at ``until_s``."""
        lock = self._held.setdefault(domain, Lock())
        lock.until_s = max(lock.until_s, until_s)

    def free(self, domain: str) -> None:
        """Nobody holds it any more."""
        self._held.pop(domain, None)
