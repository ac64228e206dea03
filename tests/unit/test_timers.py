"""Deadlines by key, against a plain dictionary that does the same slowly."""

from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from puppetmaster.timers import Timers

KEYS = st.one_of(st.integers(1, 8), st.tuples(st.just("job"), st.integers(1, 4)))
TIMES_S = st.integers(0, 20).map(float)


def test_the_earliest_fires_first_and_equals_in_the_order_they_were_set() -> None:
    timers: Timers[Any] = Timers()
    for key, at_s in [("c", 3.0), ("b", 2.0), ("a", 2.0), ("d", 9.0)]:
        timers.set(key, at_s)
    assert list(timers.due(3.0)) == ["b", "a", "c"]
    assert timers.next_s() == 9.0


def test_keys_of_different_kinds_are_never_compared() -> None:
    timers: Timers[Any] = Timers()
    keys: list[Any] = [7, ("job", 7), "seven", None]
    for key in keys:
        timers.set(key, 1.0)
    assert list(timers.due(1.0)) == keys


def test_what_fires_may_cancel_and_set_others() -> None:
    timers: Timers[Any] = Timers()
    for key in ("a", "b"):
        timers.set(key, 1.0)
    fired = []
    for due in timers.due(2.0):
        fired.append(due)
        timers.cancel("b")
        if len(fired) < 3:
            timers.set("a", 2.0)
    assert fired == ["a", "a", "a"]


def test_cancelled_timers_do_not_pile_up() -> None:
    timers: Timers[Any] = Timers()
    timers.set("stays", 1e6)
    for number in range(10_000):
        timers.set(number, 1e6 + number)
        timers.cancel(number)
        timers.set("moves", 2e6 + number)
    assert len(timers._heap) <= 64 + 2 * 2
    assert len(timers) == 2
    assert list(timers.due(3e6)) == ["stays", "moves"]


@pytest.mark.parametrize("keys", [1, 2, 10])
def test_what_was_moved_is_cleared_away_once_it_is_more_than_what_counts(keys: int) -> None:
    """At 64 and twice as many as are set, and not at every step: that would cost too much."""
    timers: Timers[int] = Timers()
    for key in range(keys):
        timers.set(key, 5.0 + key)
    most = 64 + 2 * keys
    kept = []
    for number in range(most - keys + 1):
        timers.set(0, 100.0 - number)
        kept.append(len(timers._heap))
    assert kept == [*range(keys + 1, most + 1), keys]
    assert list(timers.due(1000.0)) == [*range(1, keys), 0]


class AgainstADictionary(RuleBasedStateMachine):
    """Any order of calls means what it would mean for a dictionary of deadlines."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[Any] = Timers()
        self.model: dict[Any, tuple[float, int]] = {}
        self.serial = 0

    @rule(key=KEYS, at_s=TIMES_S)
    def set(self, key: Any, at_s: float) -> None:
        self.serial += 1
        self.timers.set(key, at_s)
        self.model[key] = (at_s, self.serial)

    @rule(key=KEYS)
    def cancel(self, key: Any) -> None:
        self.timers.cancel(key)
        self.model.pop(key, None)

    @rule(now_s=TIMES_S)
    def due(self, now_s: float) -> None:
        expected = sorted((when, key) for key, when in self.model.items() if when[0] <= now_s)
        assert list(self.timers.due(now_s)) == [key for _, key in expected]
        for _, key in expected:
            del self.model[key]

    @invariant()
    def same(self) -> None:
        assert len(self.timers) == len(self.model)
        assert self.timers.next_s() == min((at for at, _ in self.model.values()), default=None)
        assert {key: self.timers.deadline_s(key) for key in self.model} == {
            key: at_s for key, (at_s, _) in self.model.items()
        }
        assert self.timers.deadline_s("never set") is None


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = hypothesis_settings(max_examples=60)
