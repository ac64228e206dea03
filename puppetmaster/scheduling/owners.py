"""Owners of many gateways: how many requests may be in flight at each of them, found out by trying.

A model with a wildcard (``/remote/+``) answers for a whole fleet. The published remote bundle does so with
three threads: further requests wait in its queue, and a gateway that is away keeps a thread for a minute.
Requests that wait behind such gateways have timed out for us by then, and run all the same, late. So an owner
is never given much more than it works on. Its *size*, the number that may be in flight, starts at two and
grows while answers do not become slower. Nothing more is sent while no answer comes back. A command that was
not answered in time is counted until its answer comes or ``FORGET_S`` have passed: the owner may still be
busy with it.

This module knows no clock: times are passed in, in monotonic seconds.
"""

from dataclasses import dataclass, field

from puppetmaster.scheduling.latencies import Latencies

#: The size with which an owner begins, and its smallest.
FIRST = 2
#: With nothing answered for this long while something is in flight, the owner counts as blocked.
BLOCKED_S = 2.0
#: After this long without an answer, gateways that are away have kept all of the owner's threads. Then the
#: size is halved, and answers to earlier commands do not count: they say nothing about the owner's speed.
STUCK_S = 20.0
#: A command that was not answered in time is counted this long. The published bundle gives up after 60 s, and
#: so does the controller (the owner's ttl is 60 s); both send an answer then.
FORGET_S = 90.0
#: A mean latency that is longer by this much does not count as slower: the bus alone can cause it.
SLACK_S = 0.05
#: The same for the first small sizes, where few answers are compared: an untouched mosquitto delays some of
#: them by 88 ms and others not.
FEW_SLACK_S = 0.1
#: A round, which judges a size, has as many answers as the size, and at least ``ROUND``. Until a size was too
#: large fewer will do: the size if it is below ``ROUND``, else the larger of ``ROUND`` and ``PART`` of it.
ROUND, PART = 8, 0.5
#: ``Latencies.memory`` of a round.
MEMORY = 64
#: The factors by which the size grows. Until a size was too large: ``DOUBLE``, and from the size ``LARGE`` on
#: ``LEAP`` (an owner with a few threads would have become slower before that). After that: ``TRY``.
DOUBLE, LARGE, LEAP, TRY = 2.0, 32, 4.0, 1.25
#: How long no larger size is tried after one that was too large: doubled each time, from first to longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


@dataclass(slots=True, eq=False)
class Owner:
    """One owner of many gateways."""

    #: The largest size.
    most: int
    #: How many requests may be in flight at it now.
    size: int = FIRST
    in_flight: int = 0
    #: Commands that were not answered in time: message id -> until when the command is counted.
    overdue: dict[int, float] = field(default_factory=dict)
    #: Grows with each change of the size: only answers to commands of the same epoch are used to judge it.
    epoch: int = 0
    #: When its latest answer came, or the first command was sent to it while it was idle.
    _heard_s: float = 0.0
    #: Latencies of answers at this size.
    _now: Latencies = field(default_factory=lambda: Latencies(MEMORY))
    #: Number of answers in this round.
    _answers: int = 0
    #: Whether all of the size was in use at some time of this round.
    _full: bool = False
    #: Number of answers still to skip: requests in flight before the size changed have slowed them down.
    _skipped: int = 0
    #: Whether the last round was slower. The size shrinks only when the next round is slower too.
    _doubted: bool = False
    #: Latencies while the owner did not have too much to do; None: not known.
    _usual: Latencies | None = None
    #: The size at which ``_usual`` was measured.
    _measured: int = 0
    #: How many requests the owner worked on at once when it last had too much to do; 0: it never had.
    _worked_on: int = 0
    #: The factor by which the size grows next.
    _factor: float = DOUBLE
    #: How long no larger size will be tried after the next one that is too large.
    _pause_s: float = FIRST_PAUSE_S
    #: Before this time no larger size is tried.
    _grows_s: float = 0.0

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    @property
    def busy(self) -> int:
        """Number of our commands that the owner may be busy with: in flight, or overdue."""
        return self.in_flight + len(self.overdue)

    def blocked(self, now_s: float) -> bool:
        """Whether the owner has commands of ours and has answered none of them for ``BLOCKED_S``."""
        return self.busy > 0 and now_s - self._heard_s > BLOCKED_S

    def may_send(self, now_s: float) -> bool:
        """Whether the owner may be sent another command. A blocked owner gets no more than ``FIRST``."""
        return self.busy < self.size and (self.busy < FIRST or not self.blocked(now_s))

    def send(self, now_s: float) -> int:
        """Count a command that is sent to the owner. Returns the epoch that the command belongs to."""
        if not self.busy:
            self._heard_s = now_s
        self.in_flight += 1
        self._full |= self.busy >= self.size
        return self.epoch

    def land(self) -> None:
        """Count a command as no longer in flight."""
        self.in_flight -= 1

    def heard(self, now_s: float) -> None:
        """Note that the owner has sent an answer of any kind."""
        if now_s - self._heard_s > STUCK_S:
            self._factor = TRY
            self._resize(max(FIRST, self.size // 2))
        self._heard_s = now_s

    def answered(self, epoch: int, latency_s: float, now_s: float) -> None:
        """Note a gateway's answer, ``latency_s`` after its command was sent in ``epoch``; adapt the size."""
        self.heard(now_s)
        if epoch != self.epoch:
            return
        if self._skipped:
            self._skipped -= 1
            return
        self._now.add(latency_s)
        self._answers += 1
        if self._answers >= self._enough():
            if self._full:
                self._judge(now_s)
            self._answers, self._full = 0, self.busy >= self.size

    def _enough(self) -> int:
        """Number of answers in a round."""
        if self._doubted or self._factor != DOUBLE:
            return max(ROUND, self.size)
        return max(min(ROUND, self.size), int(self.size * PART))

    def _judge(self, now_s: float) -> None:
        """Decide after a round in which all of the size was in use: let the size grow, stay or shrink."""
        now, usual, begins = self._now, self._usual, self._factor == DOUBLE
        few = begins and self.size < ROUND
        if usual is None or not now.slower_than(usual, FEW_SLACK_S if few else SLACK_S):
            self._doubted = False
            if usual is None or self.size <= self._measured:
                # Measured at the smallest size: the latencies to compare with must not grow with the size.
                self._usual, self._measured = now, self.size
            elif few and self.size < self.most:
                usual.include(now)
            if now_s >= self._grows_s and self.size < self.most:
                if self.size > 2 * self._worked_on:  # the owner can do more at once than it could before
                    self._pause_s = FIRST_PAUSE_S
                factor = LEAP if begins and self.size >= LARGE else self._factor
                self._resize(max(self.size + 1, int(self.size * factor)))
        elif not self._doubted:
            self._doubted, self._skipped, self._now = True, self.size, Latencies(MEMORY)
        else:
            self._factor = TRY
            self._grows_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            # Measured again: if fewer in flight are no faster, the gateways are slow, not the owner.
            self._usual = None
            # By Little's law the owner works on this many at once, and the others wait in its queue.
            self._worked_on = max(round(self.size * usual.mean_s / now.mean_s), FIRST)
            self._resize(self._worked_on)
            self._skipped = self.size

    def _resize(self, size: int) -> None:
        self.size = min(size, self.most)
        self.epoch += 1
        self._now, self._skipped, self._doubted = Latencies(MEMORY), 0, False


class Owners:
    """All owners of many gateways by the domain of their lock. Used by one thread, the dispatcher's."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._owners: dict[str, Owner] = {}
        self._overdue: dict[int, str] = {}  # message id -> domain of the owner at which it is overdue

    def of(self, domain: str) -> Owner:
        """The owner of this domain; a new one at its first use."""
        owner = self._owners.get(domain)
        if owner is None:
            owner = self._owners[domain] = Owner(self._most)
        return owner

    def overdue(self, domain: str, message: int, now_s: float) -> float:
        """Note a command not answered in time. Returns until when the owner counts as busy with it."""
        until_s = now_s + FORGET_S
        self.of(domain).overdue[message] = until_s
        self._overdue[message] = domain
        return until_s

    def came(self, message: int, now_s: float) -> str | None:
        """Note the answer to an overdue message. Returns its owner's domain; None: it was not overdue."""
        domain = self._overdue.pop(message, None)
        if domain is not None:
            owner = self.of(domain)
            del owner.overdue[message]
            owner.heard(now_s)
        return domain

    def forget_overdue(self, now_s: float) -> list[str]:
        """Stop counting commands that are overdue for ``FORGET_S``. Returns the domains of their owners."""
        freed = []
        for domain, owner in self._owners.items():
            gone = [message for message, until_s in owner.overdue.items() if until_s <= now_s]
            for message in gone:
                del owner.overdue[message], self._overdue[message]
            if gone:
                owner.heard(now_s)
                freed.append(domain)
        return freed

    def sizes(self) -> dict[str, tuple[int, int]]:
        """For metrics: domain -> (size, busy) of its owner."""
        return {domain: (owner.size, owner.busy) for domain, owner in self._owners.items()}

    def forget_all(self) -> None:
        """Forget all overdue commands, because the controller was restarted or away."""
        for owner in self._owners.values():
            owner.overdue.clear()
        self._overdue.clear()
