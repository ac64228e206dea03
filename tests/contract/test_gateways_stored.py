"""What a store promises about gateways, whichever implementation keeps them."""

from dataclasses import replace

import pytest

from puppetmaster.model.gateway import Gateway, Sought
from puppetmaster.model.request import RequestStatus
from puppetmaster.model.selector import parse
from puppetmaster.store.base import Changes, LastResult, Store
from tests.contract.conftest import Open, both
from tests.examples import AT
from tests.stored import creation, first_of

ALL = Sought()
NORTH = Gateway(name="cg-1", labels={"site": "north", "example.com/rack": "7"}, note="in the attic")
SOUTH = Gateway(name="cg-2", labels={"site": "south"})
BARE = Gateway(name="Cg:3")


def put(*gateways: Gateway) -> Changes:
    return Changes(gateways={one.name: one for one in gateways})


def names(store: Store, sought: Sought = ALL) -> list[str]:
    with store.reading() as reader:
        assert reader.gateway_names(sought) == store.now.gateway_names(sought)
        return reader.gateway_names(sought)


def test_what_was_put_is_there_until_it_is_put_again(store: Store, open_store: Open) -> None:
    store.commit(put(SOUTH, NORTH, BARE))
    for current in both(store, open_store):
        assert names(current) == ["Cg:3", "cg-1", "cg-2"]
        with current.reading() as reader:
            assert reader.gateways(["cg-2", "unknown", "cg-1", "Cg:3"]) == [BARE, NORTH, SOUTH]
    changed = replace(NORTH, labels={"site": "west"}, note=None)
    current.commit(put(changed))
    assert open_store().now.gateways(["cg-1", "cg-2", "Cg:3"]) == [BARE, changed, SOUTH]


def test_a_destination_becomes_known_and_one_that_is_known_keeps_its_labels(store: Store) -> None:
    store.commit(put(NORTH))
    store.commit(creation(1))
    store.commit(Changes(destinations={"cg-1", "cg-0"}))
    assert names(store) == ["cg-0", "cg-1", "cg-2"]
    assert store.now.gateways(["cg-0", "cg-1"]) == [Gateway(name="cg-0"), NORTH]


def test_beyond_a_limit_destinations_are_not_learned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite.store", "memory", "postgres.store"):
        monkeypatch.setattr(f"puppetmaster.store.{module}.MOST_LEARNED", 3)
    store.commit(put(NORTH))
    store.commit(replace(put(BARE), destinations={"a", "b", "cg-1"}))
    assert names(store) == ["Cg:3", "a", "cg-1"]
    store.commit(replace(put(SOUTH), destinations={"b", "c"}))
    assert names(store) == ["Cg:3", "a", "cg-1", "cg-2"]


def test_what_is_forgotten_is_gone_before_what_is_put_in_the_same_commit(
    store: Store, open_store: Open
) -> None:
    store.commit(put(NORTH, SOUTH))
    store.commit(Changes(forgotten={"cg-1", "unknown"}))
    for current in both(store, open_store):
        assert names(current) == ["cg-2"]
    current.commit(replace(put(BARE), forgotten={"cg-1", "cg-2", "Cg:3"}, destinations={"cg-2"}))
    assert current.now.gateways(["cg-1", "cg-2", "Cg:3"]) == [BARE, Gateway(name="cg-2")]


@pytest.fixture(scope="module")
def fleet(shared_store: Store) -> Store:
    shared_store.commit(put(SOUTH, NORTH, BARE))
    return shared_store


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("site=north", ["cg-1"]),
        ("site!=north", ["Cg:3", "cg-2"]),
        ("site in (north,south)", ["cg-1", "cg-2"]),
        ("site notin (north,west)", ["Cg:3", "cg-2"]),
        ("site", ["cg-1", "cg-2"]),
        ("!example.com/rack", ["Cg:3", "cg-2"]),
        ("example.com/rack=7,site", ["cg-1"]),
        ("site=north,site=south", []),
        ("other=x", []),
    ],
)
def test_a_selector_selects_by_labels(fleet: Store, selector: str, expected: list[str]) -> None:
    assert names(fleet, Sought(selector=parse(selector))) == expected


def test_a_pattern_matches_names_as_they_are_written(fleet: Store) -> None:
    assert names(fleet, Sought(match="cg-*")) == ["cg-1", "cg-2"]
    assert names(fleet, Sought(match="?g[:-][13]")) == ["Cg:3", "cg-1"]
    assert names(fleet, Sought(match="cg-*", selector=parse("site!=north"))) == ["cg-2"]


def test_the_last_result_is_that_of_the_newest_request_that_is_done(store: Store) -> None:
    for number in (1, 2, 3):
        changes = creation(number, total=2)
        for place, status in enumerate((RequestStatus.RESOLVED, RequestStatus.TIMEOUT)):
            one = changes.requests[first_of(number) + place]
            good = {"code": 200, "data": {"big": "x" * 1000}, "source": "device"}
            result = good if status == "resolved" else {}
            done = replace(one, status=status, finished_at=AT, result=result)
            changes.requests[one.id] = one if number == 3 else done
        store.commit(changes)
    with store.reading() as reader:
        expected = {
            "cg-0": LastResult(first_of(2), "resolved", 200, AT, "device"),
            "cg-1": LastResult(first_of(2) + 1, "timeout", None, AT),
        }
        assert reader.last_results(["cg-0", "cg-1", "cg-9"]) == expected
        assert reader.last_results([]) == {}


def test_a_removed_job_is_no_last_result(store: Store) -> None:
    large = creation(1, total=1010)
    first = large.requests[first_of(1)]
    large.requests[first.id] = replace(first, status=RequestStatus.RESOLVED, finished_at=AT)
    store.commit(large)
    assert store.now.last_results(["cg-0"]) == {"cg-0": LastResult(first.id, "resolved", None, AT)}
    store.commit(Changes(deleted=large.jobs))
    assert store.now.last_results(["cg-0"]) == {}


def test_who_was_discovered_is_so_until_a_job_names_it(store: Store, open_store: Open) -> None:
    found = [Gateway(name=name, discovered=True) for name in ("a", "b")]
    store.commit(put(*found, NORTH))
    assert store.now.gateways(["a", "b", "cg-1"]) == [*found, NORTH]
    store.commit(Changes(destinations={"b", "cg-1", "new"}))
    store = open_store()
    expected = [found[0], Gateway(name="b"), NORTH, Gateway(name="new")]
    assert store.now.gateways(["a", "b", "cg-1", "new"]) == expected
