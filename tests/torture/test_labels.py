"""The judge of labels: it must see each that is lost, and no other."""

import random

import pytest

from tests.torture.labels import LATE_S, MANY, Change, Keeper

FLEET = ("a", "b", "c", "d")


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(random.Random(1), FLEET)


def put(keeper: Keeper, number: int, *, acknowledged: bool, at_s: float = 0.0, name: str = "a") -> None:
    labels = {} if number == 0 else {"number": str(number)}
    keeper.changes.append(Change("put", "", None, {name: labels}, at_s, acknowledged))


def faults(keeper: Keeper, **numbers: int) -> list[str]:
    """What is wrong when gateways of these names have labels of these numbers."""
    return list(keeper.faults({name: {"number": str(to)} for name, to in numbers.items()}))


@pytest.mark.parametrize(("stored", "fine"), [(2, True), (1, False), (3, True), (4, False)])
def test_the_last_that_was_acknowledged_or_one_after_it(keeper: Keeper, stored: int, fine: bool) -> None:
    put(keeper, 1, acknowledged=True, at_s=1)
    put(keeper, 2, acknowledged=True, at_s=2)
    put(keeper, 3, acknowledged=False, at_s=3)
    assert (faults(keeper, a=stored) == []) is fine


def test_one_that_is_gone_with_its_gateway_is_seen(keeper: Keeper) -> None:
    put(keeper, 1, acknowledged=True)
    assert faults(keeper) == ["a has the labels None, and may have [{'number': '1'}]"]


def test_what_was_not_answered_may_come_late_but_not_for_ever(keeper: Keeper) -> None:
    put(keeper, 1, acknowledged=False, at_s=0)
    put(keeper, 2, acknowledged=True, at_s=LATE_S - 1)
    assert faults(keeper, a=1) == []
    put(keeper, 3, acknowledged=True, at_s=LATE_S + 1)
    assert len(faults(keeper, a=1)) == 1


def test_one_that_was_forgotten_has_none(keeper: Keeper) -> None:
    put(keeper, 1, acknowledged=True, at_s=1)
    put(keeper, 0, acknowledged=True, at_s=2)
    assert faults(keeper) == []
    assert len(faults(keeper, a=1)) == 1


def test_what_nobody_acknowledged_need_not_be_there(keeper: Keeper) -> None:
    put(keeper, 1, acknowledged=False)
    assert faults(keeper) == []


def test_the_keeper_draws_each_kind_and_no_labels_twice(keeper: Keeper) -> None:
    drawn = [keeper.draw() for _ in range(200)]
    assert {one.method for one in drawn} == {"put", "post", "delete"}
    assert any(set(one.labels) == set(MANY) for one in drawn)
    numbers = [labels["number"] for one in drawn for labels in one.labels.values() if labels]
    assert len(numbers) == len({*numbers})
