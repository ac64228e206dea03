"""Times by a cron expression in a time zone, as seconds since 1970. The one door to ``cronsim``.

The rules are those of Debian's cron: what falls into the hour that is left out in spring starts right after
it, and what falls into the hour that comes twice in autumn starts once. An expression with ``*`` in front of
its minute or hour goes on by real time instead, as every 15 minutes is meant.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from importlib import resources
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

#: What each place of an expression may be.
PLACES = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or L for the last"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 or SUN to SAT"),
)
#: Most characters of an expression.
LONGEST = 255
#: How far ``last`` looks back, and the first, shortest look.
BACK_S, FIRST_LOOK_S = 366 * 86400.0, 3600.0
#: Any time, to see whether an expression is one.
_ANY = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def zones() -> frozenset[str]:
    """The names of all time zones."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())


def faults(text: str) -> list[str]:
    """What is wrong with an expression, in words that follow "expected"; nothing: it is one."""
    parts = text.split()
    if len(text) > LONGEST or len(parts) != len(PLACES):
        return [f"five places such as 0 3 * * 1-5, within {LONGEST} characters"]
    found = []
    for at, (name, known) in enumerate(PLACES):
        alone = ["*"] * len(PLACES)
        alone[at] = parts[at]
        if not _reads(" ".join(alone)):
            found.append(f"{known} as the {name} (lists, ranges and steps such as */2 too)")
    if not found and (not _reads(text) or next(CronSim(text, _ANY), None) is None):
        found.append("a time that comes within 50 years")
    return found


def _reads(text: str) -> bool:
    try:
        CronSim(text, _ANY)
    except CronSimError:
        return False
    return True


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


class Cron:
    """The times of an expression that has no ``faults``, in one of the ``zones``."""

    def __init__(self, text: str, timezone: str) -> None:
        self._text = text
        self._zone = _zone(timezone)

    def after(self, wall_s: float) -> Iterator[float]:
        """All times after ``wall_s``, in order; they end where none comes within 50 years."""
        if any(place.startswith("*") for place in self._text.split()[:2]):
            yield from self._by_real_time(wall_s // 1)
            return
        last_s = wall_s
        for found in CronSim(self._text, datetime.fromtimestamp(wall_s // 1, self._zone)):
            # Of an hour that comes twice it names the first, also when that is over.
            if (at_s := found.timestamp()) > last_s:
                last_s = at_s
                yield at_s

    def _by_real_time(self, wall_s: float) -> Iterator[float]:
        """All times after ``wall_s``, each by the difference to UTC that holds at that time.

        ``CronSim`` is asked for one difference after the other: in a zone it loses the hour after a change at
        midnight.
        """
        changed_s: float | None = wall_s
        while changed_s is not None:
            # The moment of a change may be a time itself.
            begun_s = last_s = changed_s if changed_s == wall_s else changed_s - 1
            fixed, changed_s = timezone(self._difference(changed_s)), None
            for found in CronSim(self._text, datetime.fromtimestamp(begun_s, fixed)):
                changed_s = self._change(last_s, found.timestamp(), fixed.utcoffset(None))
                if changed_s is not None:
                    break
                last_s = found.timestamp()
                yield last_s

    def _difference(self, wall_s: float) -> timedelta:
        """The difference between the zone and UTC at a time."""
        return datetime.fromtimestamp(wall_s, self._zone).utcoffset() or timedelta()

    def _change(self, after_s: float, until_s: float, known: timedelta) -> float | None:
        """The first second after ``after_s``, up to ``until_s``, of another difference; None: of none."""
        day_s = after_s + 1
        while self._difference(min(day_s, until_s)) == known:
            if day_s >= until_s:
                return None
            after_s, day_s = day_s, day_s + 86400.0
        day_s = min(day_s, until_s)
        while day_s - after_s > 1:
            middle_s = (after_s + day_s) // 2
            if self._difference(middle_s) == known:
                after_s = middle_s
            else:
                day_s = middle_s
        return day_s

    def passed(self, after_s: float, until_s: float, most: int) -> list[float]:
        """The times after ``after_s`` and up to ``until_s``, in order; of many only the first ``most``."""
        found = []
        for at_s in islice(self.after(after_s), most):
            if at_s > until_s:
                break
            found.append(at_s)
        return found

    def last(self, wall_s: float, back_s: float = BACK_S) -> float | None:
        """The last time up to ``wall_s``, and less than ``back_s`` before it; None: there is none."""
        look_s = min(FIRST_LOOK_S, back_s)
        while True:
            last_s = None
            for at_s in self.after(wall_s - look_s):
                if at_s > wall_s:
                    break
                last_s = at_s
            if last_s is not None or look_s >= back_s:
                return last_s
            look_s = min(look_s * 8, back_s)
