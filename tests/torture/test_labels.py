"""The judge of labels: it must see each that is lost, and no other."""

import random
from contextlib import closing
from pathlib import Path

import pytest

from puppetmaster.model.gateway import Gateway
from puppetmaster.store.base import Changes
from puppetmaster.store.sqlite.store import SqliteStore
from tests.torture.labels import LATE_S, MANY, Change, Keeper

FLEET = ("a", "b", "c", "d")


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(random.Random(1), FLEET)


def put(keeper: Keeper, number: int, *, acknowledged: bool, at_s: float = 0.0, name: str = "a") -> None:
    labels = {} if number == 0 else {"number": str(number)}
    keeper.changes.append(Change("put", "", None, {name: labels}, at_s, acknowledged))


def faults(keeper: Keeper, directory: Path, **numbers: int) -> list[str]:
    """What is wrong when gateways of these names have labels of these numbers."""
    with closing(SqliteStore(directory)) as store:
        found = {name: Gateway(name=name, labels={"number": str(to)}) for name, to in numbers.items()}
        store.commit(Changes(gateways=found))
    return list(keeper.faults(directory))


@pytest.mark.parametrize(("stored", "fine"), [(2, True), (1, False), (3, True), (4, False)])
def test_the_last_that_was_acknowledged_or_one_after_it(
    keeper: Keeper, tmp_path: Path, stored: int, fine: bool
) -> None:
    put(keeper, 1, acknowledged=True, at_s=1)
    put(keeper, 2, acknowledged=True, at_s=2)
    put(keeper, 3, acknowledged=False, at_s=3)
    assert (faults(keeper, tmp_path, a=stored) == []) is fine


def test_one_that_is_gone_with_its_gateway_is_seen(keeper: Keeper, tmp_path: Path) -> None:
    put(keeper, 1, acknowledged=True)
    assert faults(keeper, tmp_path) == ["a has the labels None, and may have [{'number': '1'}]"]


def test_what_was_not_answered_may_come_late_but_not_for_ever(keeper: Keeper, tmp_path: Path) -> None:
    put(keeper, 1, acknowledged=False, at_s=0)
    put(keeper, 2, acknowledged=True, at_s=LATE_S - 1)
    assert faults(keeper, tmp_path, a=1) == []
    put(keeper, 3, acknowledged=True, at_s=LATE_S + 1)
    assert len(faults(keeper, tmp_path, a=1)) == 1


def test_one_that_was_forgotten_has_none(keeper: Keeper, tmp_path: Path) -> None:
    put(keeper, 1, acknowledged=True, at_s=1)
    put(keeper, 0, acknowledged=True, at_s=2)
    assert faults(keeper, tmp_path) == []
    assert len(faults(keeper, tmp_path, a=1)) == 1


def test_what_nobody_acknowledged_need_not_be_there(keeper: Keeper, tmp_path: Path) -> None:
    put(keeper, 1, acknowledged=False)
    assert faults(keeper, tmp_path) == []


def test_the_keeper_draws_each_kind_and_no_labels_twice(keeper: Keeper) -> None:
    drawn = [keeper.draw() for _ in range(200)]
    assert {one.method for one in drawn} == {"put", "post", "delete"}
    assert any(set(one.labels) == set(MANY) for one in drawn)
    numbers = [labels["number"] for one in drawn for labels in one.labels.values() if labels]
    assert len(numbers) == len({*numbers})
