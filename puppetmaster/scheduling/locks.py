"""Write locks of the controller: which destinations share a lock, and who holds it.

A write locks the model that owns its destination, with all other resources of that model, until the write is
answered. Meanwhile the controller passes on nothing else to that model, reads neither. So the destinations of
one model are one *domain*.

The controller says who owns a destination; its answer is used for ``cache_s``. Each question costs the
controller a walk through all models. So after ``ALIKE`` answers in a row that name a lock for one destination
alone, all other destinations are taken to have a lock of their own too, until an answer, or a lock that
somebody else holds, shows otherwise. This module knows no clock: times are passed in, in monotonic seconds.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

#: Most destinations whose domain is remembered. Beyond it all are forgotten, and asked for again.
KNOWN_LIMIT = 200_000
REMOTE = "/remote/"
WILDCARDS = re.compile("[+#]")
#: Number of answers in a row, each "a lock for this destination alone", after which all others count as such.
ALIKE = 20


@dataclass(slots=True, eq=False)
class Lock:
    """The lock of one domain, while somebody holds it."""

    #: Id of our request that holds it; None: none of ours does.
    writer: int | None = None
    #: Until this time somebody else is taken to hold it.
    until_s: float = 0.0


class Pattern(NamedTuple):
    """An owner with a wildcard: one lock for all destinations with the same beginning."""

    domain: str
    #: When the controller is to be asked again.
    until_s: float
    #: The destination that the controller was asked about.
    asked: str


class Learned(NamedTuple):
    """What an answer of the controller changed."""

    #: The destinations whose domain the answer names.
    named: list[str]
    #: Domains that have lost a destination with this answer; None: every domain may have.
    outdated: set[str] | None
    #: Whether the answer may also show the domains of other destinations than ``named``.
    everybody: bool


class _Changed(NamedTuple):
    """How an answer changed what is known of patterns."""

    #: Whether there are other patterns than before.
    patterns: bool
    #: As in ``Learned``.
    everybody: bool


class Locks:
    """What is known of domains and their locks. Used by one thread, the dispatcher's."""

    def __init__(self, cache_s: float) -> None:
        self._cache_s = cache_s
        self._held: dict[str, Lock] = {}  # by domain
        self._known: dict[str, tuple[str, float]] = {}  # destination -> domain, until when that is used
        #: Owners with a wildcard, by the beginning of their destinations; empty: every destination.
        self._patterns: dict[str, Pattern] = {}
        self._alike = 0  # answers in a row that named a lock for one destination alone
        self._doubted: set[str] = set()  # destinations that are not taken to have a lock of their own
        self._wanted: dict[str, None] = {}  # destinations to ask about, in order
        self._asked: dict[str, None] = {}  # destinations whose answer is awaited, in order

    # -- which domain -----------------------------------------------------------------------------

    def many(self, domain: str | None) -> bool:
        """Whether the owner of this domain answers for all destinations of a pattern."""
        return bool(self._patterns) and any(pattern.domain == domain for pattern in self._patterns.values())

    @property
    def alike(self) -> bool:
        """Whether destinations that nothing is known of are taken to have a lock of their own."""
        return self._alike >= ALIKE

    def domain(self, destination: str, now_s: float) -> str | None:
        """The domain of a destination; None: not known, the controller has to be asked."""
        for begins, pattern in self._patterns.items():
            if destination.startswith(begins) and destination != begins:
                return pattern.domain
        known = self._known.get(destination)
        if known is not None and now_s < known[1]:
            return known[0]
        own = f"/remote/{destination}"
        shared = known is not None and known[0] != own  # it shared a lock when it was last asked about
        return None if shared or not self.alike or destination in self._doubted else own

    def want(self, destination: str) -> None:
        """Have the controller asked about this destination."""
        if destination not in self._asked:
            self._wanted[destination] = None

    def unwant(self, destination: str) -> None:
        """Do not ask about this destination any more."""
        self._wanted.pop(destination, None)

    def questions(self, most: int, now_s: float) -> Iterator[str]:
        """Destinations to ask the controller about now. At most ``most`` questions are open at once."""
        for begins, pattern in self._patterns.items():
            if pattern.until_s <= now_s:
                # Used until the answer is there: otherwise each waiting request would have to ask.
                self._patterns[begins] = pattern._replace(until_s=now_s + self._cache_s)
                self._wanted.pop(pattern.asked, None)
                self._asked[pattern.asked] = None
                yield pattern.asked
        while self._wanted and len(self._asked) < most:
            destination = next(iter(self._wanted))
            del self._wanted[destination]
            self._asked[destination] = None
            yield destination

    def learn(self, destination: str, resources: Iterable[str] | None, now_s: float) -> Learned:
        """Take in the controller's answer: the owner of ``destination`` has ``resources`` (None: no owner).

        A pattern among the resources is one lock for every destination that it matches. ``+`` and ``#`` are
        wildcards inside a segment too, and stand for at least one character. A destination without an owner
        counts as having a lock of its own.
        """
        self._asked.pop(destination, None)
        owned = sorted(one for one in resources or () if one.startswith(REMOTE))
        begins = {
            match.string[len(REMOTE) : match.start()]: match.string
            for match in map(WILDCARDS.search, owned)
            if match is not None and match.end() == len(match.string)
        }
        named = [destination, *(resource.removeprefix(REMOTE) for resource in owned)]
        before = {self.domain(name, now_s) for name in named}
        # The name of a group of destinations differs from that of each destination's own lock.
        first = next(iter(begins.values()), owned[0] if owned else "")
        group = first if begins or len(owned) == 1 else f"{first} and {len(owned) - 1} more"
        patterns = dict.fromkeys(begins, Pattern(group, now_s + self._cache_s, destination))
        changed = self._compare(destination, owned, patterns)
        if len(self._known) > KNOWN_LIMIT:
            self._known.clear()
        self._known[destination] = (f"{REMOTE}{destination}", now_s + self._cache_s)
        for name in named[1:]:
            self._known[name] = (group, now_s + self._cache_s)
        for name in named:
            self.unwant(name)
            self._doubted.discard(name)
        if changed.everybody:
            self._wanted = {name: None for name in self._wanted if self.domain(name, now_s) is None}
        outdated = before - {self.domain(name, now_s) for name in named}
        known = {domain for domain in outdated if domain is not None}
        return Learned(named, None if changed.patterns else known, changed.everybody)

    def _compare(self, destination: str, owned: list[str], patterns: dict[str, Pattern]) -> "_Changed":
        """Update the patterns with those of an answer, and count answers that are alike."""
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
        """Forget the domain of this destination, which was wrong, with all patterns of that domain."""
        domain = self.domain(destination, 0.0)
        self._known.pop(destination, None)
        self._patterns = {
            begins: pattern for begins, pattern in self._patterns.items() if pattern.domain != domain
        }

    def doubt(self, destination: str) -> None:
        """Ask about this destination again: somebody else holds its lock, so it may be shared."""
        self._known.pop(destination, None)
        if self.alike:
            self._doubted.add(destination)

    def ask_again(self, destination: str) -> None:
        """Ask about this destination again: no answer came."""
        self._asked.pop(destination, None)
        self.want(destination)

    def forget_all(self, waiting: Iterable[str] = ()) -> None:
        """Forget all domains, because the controller was restarted or away; ask open questions again.

        The controller is asked about the destinations ``waiting`` first, in their order.
        """
        self._known.clear()
        self._doubted.clear()
        self._patterns.clear()
        self._alike = 0
        # Answers to open questions are lost, or came from the controller as it was before.
        self._wanted = dict.fromkeys([*waiting, *self._asked, *self._wanted])
        self._asked.clear()

    # -- who holds it -----------------------------------------------------------------------------

    def held(self, domain: str, now_s: float) -> bool:
        """Whether somebody holds the lock of this domain, so that nothing may be sent to it."""
        lock = self._held.get(domain)
        return lock is not None and (lock.writer is not None or lock.until_s > now_s)

    def writer(self, domain: str) -> int | None:
        """Id of our request that holds the lock of this domain; None: none of ours does."""
        lock = self._held.get(domain)
        return None if lock is None else lock.writer

    def take(self, domain: str, writer: int) -> None:
        """Note that the request ``writer`` holds the lock of this domain from now on."""
        self._held.setdefault(domain, Lock()).writer = writer

    def give_back(self, domain: str, writer: int) -> None:
        """Note that the request ``writer`` does not hold the lock any more."""
        lock = self._held.get(domain)
        if lock is not None and lock.writer == writer:
            lock.writer = None

    def others_hold(self, domain: str, until_s: float) -> None:
        """Note that somebody else holds the lock; it is tried again at ``until_s``."""
        lock = self._held.setdefault(domain, Lock())
        lock.until_s = max(lock.until_s, until_s)

    def free(self, domain: str) -> None:
        """Note that nobody holds the lock of this domain any more."""
        self._held.pop(domain, None)
