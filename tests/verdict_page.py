"""docs/verdict.md as the tests read it: what it names, all combinations of that, and its rows."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs" / "verdict.md"
WAVES: dict[str, Any] = {"waves": [2]}
POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "abort": {"abort": {"errors": 0}},
    "abort in waves": {**WAVES, "gate": {"errors": 4}, "abort": {"errors": 0}},
    "gate aborts": {**WAVES, "gate": {"onFail": "abort"}},
    # This rest, and that before another attempt, are longer than anything else that happens.
    "gate pauses": {**WAVES, "gate": {"soak": 1000}},
    "retry": {"retry": {"attempts": 2, "delay": 1000, "maxDelay": 1000}, "idempotent": True},
}
ANSWERED = ("not started", "neither", "one well", "one badly", "both well", "well and badly")
#: The ways to be answered badly, and how such a request ends.
BADLY = {"error": "error", "408": "timeout", "no answer": "timeout", "lost": "unknown"}
CONTROL = ("nothing", "pause", "cancel")
THEN = ("nothing", "resume", "cancel", "forced cancel", "timeout", "restart", "removal")
LAST = ("well", "badly")


class Combination(NamedTuple):
    """What happens to a job. ``badly`` says in which way, if one of its requests is answered so."""

    policy: str
    answered: str
    badly: str
    control: str
    then: str
    last: str


class Rule(NamedTuple):
    """A row of the table."""

    policy: str
    answered: str
    control: str
    then: str
    last: str
    job: str
    exit: str
    reason: str
    in_flight: str
    waiting: str

    def fits(self, one: Combination) -> bool:
        """Whether it says something about this combination."""
        named = (one.policy, one.answered, one.control, one.then, one.last)
        return all(
            wanted == "any" or is_ in wanted.split(", ") for wanted, is_ in zip(self[:5], named, strict=True)
        )


def rules() -> list[Rule]:
    """The rows of the table, in their order."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [Rule(*row) for row in rows[1:]]


def beginnings() -> list[tuple[str, str, str]]:
    """Policy, answers, and the way in which they are bad: all combinations of these."""
    return [
        (policy, answered, badly)
        for policy, answered in itertools.product(POLICIES, ANSWERED)
        for badly in (BADLY if answered in ("one badly", "well and badly") else [""])
    ]


def combinations(policy: str, answered: str, badly: str) -> list[Combination]:
    """All combinations that begin so; where nothing is left to be answered, it is answered well."""
    return [
        Combination(policy, answered, badly, control, then, last)
        for control, then, last in itertools.product(CONTROL, THEN, LAST)
        if last == "well"
        or then not in ("forced cancel", "timeout", "removal")
        or (then == "timeout" and answered == "not started")
    ]
