"""Owners of many gateways: how much is in flight at each of them, found out by trying.

A model with a wildcard (``/remote/+``) answers for a whole fleet. The published remote bundle does so with
three threads: what it is given beyond that waits in its queue, and a gateway that is away keeps a thread for
a minute. Whatever waits behind such gateways is over for us by then, and runs all the same, late. So an
owner is never given much more than it works on: the number in flight starts at two and grows while the
answers do not become slower, and nothing more is sent while nothing comes back. What was not answered in its
time is counted until its answer comes, or ``FORGET_S`` are over: the owner may still be busy with it.

Knows no clock: times are given, in monotonic seconds.
"""

from dataclasses import dataclass, field

from puppetmaster.scheduling.latencies import Latencies

FIRST = 2
#: With nothing answered for this long while something is in flight, the owner counts as blocked.
BLOCKED_S = 2.0
#: With nothing answered for this long, absent gateways kept all its threads: what was sent before tells
#: nothing of its speed, and half as much is enough to be kept by the next of them.
STUCK_S = 20.0
#: A command that was not answered in its time is counted this long. The published bundle gives up after 60 s,
#: and the controller after the owner's ttl, which is 60 s there too: both say so.
FORGET_S = 90.0
#: This much longer is no sign that commands wait for the owner's threads: the bus alone takes that.
SLACK_S = 0.05
#: At the beginning, when few answers are compared, this much longer is none either: an untouched broker lets
#: some of them wait for 88 ms and others not.
FEW_SLACK_S = 0.1
#: A size is judged by as many answers as it has places, and by this many at least. As long as no size was too
#: large fewer will do: as many as a small one has places, this many for a larger one, and for a large one
#: half of its places, as half of them and more are new and come back together.
ROUND, PART = 8, 0.5
#: With this many answers each of them counts half from there.
MEMORY = 64
#: As long as no size was too large it doubles; from the large one on, which no owner with a few threads would
#: have borne, it grows by more. Later it is tried with the last factor.
DOUBLE, LARGE, LEAP, TRY = 2.0, 32, 4.0, 1.25
#: After a size that was too large none larger is tried for this long: from the first to the longest pause.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


@dataclass(slots=True, eq=False)
class Owner:
    """One owner of many gateways. ``most`` is the most that it is ever given at once."""

    most: int
    size: int = FIRST
    in_flight: int = 0
    #: By message id: until when a command that was not answered in its time is counted.
    overdue: dict[int, float] = field(default_factory=dict)
    #: Grows with each change of the size: only what was sent since then tells about it.
    epoch: int = 0
    _heard_s: float = 0.0
    #: Of answers with this size; of this round how many there were, and whether all of the size was in use.
    _now: Latencies = field(default_factory=lambda: Latencies(MEMORY))
    _answers: int = 0
    _full: bool = False
    #: Answers that do not count yet, for what was in flight before the size changed slowed them down.
    _skipped: int = 0
    #: The last round was slow: another whole one tells whether it was more than the change of the size.
    _doubted: bool = False
    #: Of answers while the owner was not given too much, and with what size; None: not known.
    _usual: Latencies | None = None
    _measured: int = 0
    #: What the owner was found to work on at once when it was last given too much; 0: it never was.
    _worked_on: int = 0
    _factor: float = DOUBLE
    _pause_s: float = FIRST_PAUSE_S
    _grows_s: float = 0.0

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    @property
    def busy(self) -> int:
        """With how many commands of ours the owner may be busy."""
        return self.in_flight + len(self.overdue)

    def blocked(self, now_s: float) -> bool:
        """Whether something is in flight and nothing comes back."""
        return self.busy > 0 and now_s - self._heard_s > BLOCKED_S

    def may_send(self, now_s: float) -> bool:
        """Whether the owner may be given one more; the first few it may, whatever comes back."""
        return self.busy < self.size and (self.busy < FIRST or not self.blocked(now_s))

    def send(self, now_s: float) -> int:
        """Give the owner one more: the epoch that it belongs to."""
        if not self.busy:
            self._heard_s = now_s
        self.in_flight += 1
        self._full |= self.busy >= self.size
        return self.epoch

    def land(self) -> None:
        """One of those in flight is not in flight any more."""
        self.in_flight -= 1

    def heard(self, now_s: float) -> None:
        """The owner has answered something."""
        if now_s - self._heard_s > STUCK_S:
            self._factor = TRY
            self._resize(max(FIRST, self.size // 2))
        self._heard_s = now_s

    def answered(self, epoch: int, latency_s: float, now_s: float) -> None:
        """A gateway's answer came ``latency_s`` after its command was sent, in this epoch."""
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
        """How many answers judge the size."""
        if self._doubted or self._factor != DOUBLE:
            return max(ROUND, self.size)
        return max(min(ROUND, self.size), int(self.size * PART))

    def _judge(self, now_s: float) -> None:
        """A round is over in which all of the size was in use: the size grows, stays, or was too large."""
        now, usual, begins = self._now, self._usual, self._factor == DOUBLE
        few = begins and self.size < ROUND
        if usual is None or not now.slower_than(usual, FEW_SLACK_S if few else SLACK_S):
            self._doubted = False
            if usual is None or self.size <= self._measured:
                # With few in flight: what a larger size is compared with must not creep up with the size.
                self._usual, self._measured = now, self.size
            elif few and self.size < self.most:
                usual.include(now)
            if now_s >= self._grows_s and self.size < self.most:
                if self.size > 2 * self._worked_on:  # the owner has more to work with than it had
                    self._pause_s = FIRST_PAUSE_S
                factor = LEAP if begins and self.size >= LARGE else self._factor
                self._resize(max(self.size + 1, int(self.size * factor)))
        elif not self._doubted:
            self._doubted, self._skipped, self._now = True, self.size, Latencies(MEMORY)
        else:
            self._factor = TRY
            self._grows_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            # When fewer in flight are no faster, it is the gateways that are slow now, and not the owner.
            self._usual = None
            # By Little's law: this many are worked on at once, and the others wait.
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
        self._overdue: dict[int, str] = {}  # by message id: at which owner

    def of(self, domain: str) -> Owner:
        """The owner that this domain belongs to."""
        owner = self._owners.get(domain)
        if owner is None:
            owner = self._owners[domain] = Owner(self._most)
        return owner

    def overdue(self, domain: str, message: int, now_s: float) -> float:
        """A command was not answered in its time: until when the owner is taken to be busy with it."""
        until_s = now_s + FORGET_S
        self.of(domain).overdue[message] = until_s
        self._overdue[message] = domain
        return until_s

    def came(self, message: int, now_s: float) -> str | None:
        """An answer came for this message: the domain whose owner is free of it, if one was busy with it."""
        domain = self._overdue.pop(message, None)
        if domain is not None:
            owner = self.of(domain)
            del owner.overdue[message]
            owner.heard(now_s)
        return domain

    def forget_overdue(self, now_s: float) -> list[str]:
        """What is overdue for too long is not counted any more: the domains of its owners."""
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
        """By domain: how many may be in flight at once, and with how many the owner may be busy."""
        return {domain: (owner.size, owner.busy) for domain, owner in self._owners.items()}

    def forget_all(self) -> None:
        """The controller is another one now, or was away: who owns what may not hold, nor what is overdue."""
        for owner in self._owners.values():
            owner.overdue.clear()
        self._overdue.clear()
