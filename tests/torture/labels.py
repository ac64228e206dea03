"""Labels that are put on gateways all the while: none that was acknowledged may be lost."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

#: So long after it was sent a request that nobody has answered may still be carried out: the bundle may have
#: stood still, and it has three handlers.
LATE_S = 15.0
#: Gateways that are only labeled, in a list that is written in more than one part.
MANY = tuple(f"lab-{number:03d}" for number in range(600))

Labels = Mapping[str, str]


@dataclass(slots=True)
class Change:
    """A request that puts labels on gateways, or forgets them."""

    method: str
    resource: str
    body: Any
    #: Gateway -> its labels after that; those of one that is forgotten are empty.
    labels: Mapping[str, Labels]
    #: When it was sent, by time.monotonic().
    begun_s: float = field(default_factory=time.monotonic)
    acknowledged: bool = False


class Keeper:
    """Draws changes, and judges what is stored in the end. ``fleet``: gateways that have jobs too."""

    def __init__(self, rng: random.Random, fleet: Sequence[str]) -> None:
        self._rng = rng
        self._fleet = tuple(fleet)
        self._numbers = count(1)
        self.changes: list[Change] = []

    def draw(self) -> Change:
        """The next change. Its labels are no other's."""
        rng, kind = self._rng, self._rng.random()
        if kind < 0.1:
            name = rng.choice(self._fleet)
            change = Change("delete", f"/gateways/{name}", None, {name: {}})
        elif kind < 0.5:
            name, labels = rng.choice(self._fleet), self._labels()
            change = Change("put", f"/gateways/{name}", {"labels": labels}, {name: labels})
        else:
            names = MANY if kind > 0.95 else rng.sample(self._fleet, rng.randint(1, len(self._fleet) // 2))
            put = {name: self._labels() for name in names}
            body = [{"name": name, "labels": labels} for name, labels in put.items()]
            change = Change("post", "/gateways", body, put)
        self.changes.append(change)
        return change

    def _labels(self) -> dict[str, str]:
        return {"number": str(next(self._numbers)), self._rng.choice("abc"): "x"}

    def faults(self, stored: Mapping[str, Labels]) -> Iterator[str]:
        """The labels that were acknowledged and are not stored."""
        for name in sorted({name for change in self.changes for name in change.labels}):
            allowed = self._allowed(name)
            if stored.get(name, {}) not in allowed:
                yield f"{name} has the labels {stored.get(name)}, and may have {allowed}"

    def _allowed(self, name: str) -> list[Labels]:
        """The labels that it may have: the last that were acknowledged, and what may have come after them."""
        changes = [one for one in self.changes if name in one.labels]
        last = next((one for one in reversed(changes) if one.acknowledged), None)
        since_s = -LATE_S if last is None else last.begun_s - LATE_S
        perhaps = [one.labels[name] for one in changes if not one.acknowledged and one.begun_s > since_s]
        return [{} if last is None else last.labels[name], *perhaps]
