"""Write locks of the controller: which destinations share one, who of us holds it, until when others do.

A write locks the model that owns its destination, with all other resources of that model, until it is
answered; while it is held nothing else passes, reads neither. So destinations of one model are one
*domain*. The controller says who owns what; its word is believed for a while. Knows no clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: So many destinations are remembered with their domain; then all are asked for anew.
KNOWN_LIMIT = 200_000
EVERYWHERE = ("/remote/+", "/remote/#")


@dataclass(slots=True, eq=False)
class Lock:
    """The lock of one domain, while somebody holds it."""

    writer: int | None = None
    until_s: float = 0.0


class Locks:
    """What is known of domains and their locks. Used by one thread, the dispatcher's."""

    def __init__(self, cache_s: float) -> None:
        self._cache_s = cache_s
        self._held: dict[str, Lock] = {}
        self._known: dict[str, tuple[str, float]] = {}
        #: One lock for every destination: its name, until when that is believed, for whom it was told.
        self._everywhere: tuple[str, float, str] | None = None
        self._wanted: dict[str, None] = {}
        self._asked: set[str] = set()

    # -- which domain -----------------------------------------------------------------------------

    def domain(self, destination: str, now_s: float) -> str | None:
        """The domain of a destination; None: it is not known."""
        if self._everywhere is not None:
            return self._everywhere[0]
        known = self._known.get(destination)
        return known[0] if known is not None and now_s < known[1] else None

    def want(self, destination: str) -> None:
        """Somebody needs to know the domain of this destination."""
        if destination not in self._asked:
            self._wanted[destination] = None

    def unwant(self, destination: str) -> None:
        """Nobody needs to know any more."""
        self._wanted.pop(destination, None)

    def questions(self, most: int, now_s: float) -> Iterator[str]:
        """Destinations that the controller is to be asked for, at most ``most`` under way at once."""
        if self._everywhere is not None and self._everywhere[1] <= now_s:
            # Believed until the answer is there: everything that waits would have to ask otherwise.
            name, _, destination = self._everywhere
            self._everywhere = (name, now_s + self._cache_s, destination)
            self._wanted.pop(destination, None)
            self._asked.add(destination)
            yield destination
        while self._wanted and len(self._asked) < most:
            destination = next(iter(self._wanted))
            del self._wanted[destination]
            self._asked.add(destination)
            yield destination

    def learn(
        self, destination: str, resources: Iterable[str] | None, now_s: float
    ) -> tuple[list[str], set[str]]:
        """The controller's answer: all resources of the owner of ``destination``; None when there is none.

        A pattern among them is one lock for every destination. Without an owner it has its own. Returns the
        destinations that it spoke for, and the domains that some of them do not belong to any more.
        """
        self._asked.discard(destination)
        owned = sorted(one for one in resources or () if one.startswith("/remote/"))
        good_until_s = now_s + self._cache_s
        pattern = next((one for one in owned if one in EVERYWHERE), None)
        if pattern is not None:
            self._everywhere = (pattern, good_until_s, destination)
            self._wanted.clear()
        elif self._everywhere is not None and self._everywhere[2] == destination:
            self._everywhere = None
        if len(self._known) > KNOWN_LIMIT:
            self._known.clear()
        told = [destination, *(resource.removeprefix("/remote/") for resource in owned)]
        before = {self._known[name][0] for name in told if name in self._known}
        self._known[destination] = (f"/remote/{destination}", good_until_s)
        for name in told[1:]:
            self._known[name] = (owned[0], good_until_s)
        for name in told:
            self.unwant(name)
        return told, before - {self._known[name][0] for name in told}

    def forget(self, destination: str) -> None:
        """What is known about this destination was wrong."""
        self._known.pop(destination, None)
        self._everywhere = None

    def doubt(self, destination: str) -> None:
        """Somebody holds its lock: it may be shared with others than was said."""
        self._known.pop(destination, None)

    def ask_again(self, destination: str) -> None:
        """No answer came."""
        self._asked.discard(destination)
        self.want(destination)

    def forget_all(self) -> None:
        """The controller is another one now, or was away: what it said may not hold."""
        self._known.clear()
        self._everywhere = None
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
