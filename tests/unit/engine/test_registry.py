"""The gateways that the engine knows, before and after they are on disk."""

import pytest

from puppetmaster.engine.registry import Registry
from puppetmaster.engine.state import State
from puppetmaster.errors import NotFound
from puppetmaster.model.gateway import Gateway, Put, Sought
from puppetmaster.store.base import Ids
from puppetmaster.store.memory import MemoryStore
from tests.examples import a_request, an_item


class Desk:
    """A registry over a store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.state = State(self.store.now, Ids())
        self.registry = Registry(self.state, self.store.now)

    def put(self, puts: list[Put]) -> int:
        return self.registry.put(puts, "ann", "then")

    def forget(self, name: str) -> Gateway:
        return self.registry.forget(name, "bob", "later")

    def commit(self) -> list[Gateway]:
        """What is on disk after a commit."""
        self.store.commit(self.state.changes)
        self.state.committed()
        return self.store.now.gateways(self.store.now.gateway_names(Sought()))


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_not_given_stays(on_disk: bool) -> None:
    desk = Desk()
    assert desk.put([Put(name="a", labels={"site": "north"}, note="x"), Put(name="b")]) == 2
    if on_disk:
        desk.commit()
    assert desk.put([Put(name="a", note="y"), Put(name="c")]) == 1
    assert desk.put([Put(name="b", labels={"site": "south"})]) == 0
    a, b, c = desk.commit()
    assert (a.labels, a.note, b.labels, c.labels) == ({"site": "north"}, "y", {"site": "south"}, {})
    desk.put([Put(name="a", labels={}, note="")])
    assert desk.commit()[0] == Gateway(name="a")


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_forgotten_is_gone_with_its_labels(on_disk: bool) -> None:
    desk = Desk()
    desk.put([Put(name="a", labels={"site": "north"})])
    if on_disk:
        desk.commit()
    assert desk.forget("a").labels == {"site": "north"}
    with pytest.raises(NotFound, match="no gateway 'a'"):
        desk.forget("a")
    assert desk.put([Put(name="a", note="again")]) == 1
    assert desk.commit() == [Gateway(name="a", note="again")]


def test_a_destination_is_known_and_can_be_forgotten() -> None:
    desk = Desk()
    desk.put([Put(name="b", note="x")])
    for name in ("a", "b"):
        desk.state.draft(an_item(), a_request(destination=name))
    assert desk.put([Put(name="a", note="y")]) == 0
    assert desk.commit() == [Gateway(name="a", note="y"), Gateway(name="b", note="x")]
    desk.state.draft(an_item(), a_request(destination="c"))
    desk.forget("c")
    assert [one.name for one in desk.commit()] == ["a", "b"]


def test_who_changes_labels_or_notes_is_noted_until_that_is_on_disk() -> None:
    desk = Desk()
    north = {"site": "north"}
    desk.put([Put(name="a", labels=north), Put(name="b")])
    desk.put([Put(name="a", labels=north)])
    desk.put([Put(name="a", note="x")])
    desk.forget("a")
    desk.forget("b")
    assert [one.view() for one in desk.state.relabelled] == [
        {"gateway": "a", "at": "then", "event": "labeled", "by": "ann"}
        | {"labels": north, "note": None, "before": None},
        {"gateway": "a", "at": "then", "event": "labeled", "by": "ann"}
        | {"labels": north, "note": "x", "before": {"labels": north, "note": None}},
        {"gateway": "a", "at": "later", "event": "forgotten", "by": "bob"}
        | {"labels": {}, "note": None, "before": {"labels": north, "note": "x"}},
    ]
    desk.commit()
    assert desk.state.relabelled == []
