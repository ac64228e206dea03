"""Which gateways are registered: who is asked for, when, and what is known after that."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from puppetmaster.clock import iso, seconds
from puppetmaster.engine import registered as module
from puppetmaster.engine.engine import Known
from puppetmaster.engine.registered import AFTER_S, GIVEN_UP_S, OPEN
from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway, Put
from tests.unit.engine.verbs import SETTINGS, names
from tests.virtual import World, body, own_model

CHECK_S = 60.0


class Fleet:
    """A world in which gateways are asked for in turn, and the controller that answers."""

    def __init__(self, *known: str, here: Iterable[str] = (), **settings: Any) -> None:
        self.here = set(here)
        self.asked: list[tuple[float, str]] = []
        #: Whether one owner answers for all.
        self.many = False
        given = replace(SETTINGS, **{"gateway_check_s": CHECK_S, **settings})
        self.world = World(given, owners=self.owned, checks=True)
        self.start_s = self.world.clock.now_s()
        if known:
            self.put(*known)

    def owned(self, name: str) -> Iterable[str] | None:
        self.asked.append((self.world.clock.now_s() - self.start_s, name))
        own = [f"/remote/{name}"] if name in self.here else None
        return ["/remote/+"] if self.many else own

    def put(self, *known: str) -> None:
        self.world.do(lambda engine: engine.put_gateways([Put(name=name) for name in known]))

    def registers(self, model: str, *resources: str) -> None:
        self.world.run(lambda engine: engine.registering(model, resources))

    def deregisters(self, model: str) -> None:
        self.world.run(lambda engine: engine.registered.deregistering(model))

    def said(self, *wanted: str) -> list[bool | None]:
        return [self.world.engine.registered.of(name).registered for name in wanted]

    def counts(self) -> list[int]:
        now = self.world.engine.snapshot()
        return [now.registered, now.not_registered, now.not_known]

    def known(self) -> list[Gateway]:
        """Those of some names that are on disk."""
        return self.world.store.now.gateways([*self.here, "a", "b", "x"])


# -- in turn -------------------------------------------------------------------------------------------


def test_known_gateways_are_asked_for_in_turn_and_anew() -> None:
    fleet = Fleet("a", "b", here=["a"])
    fleet.world.advance(1)
    assert fleet.said("a", "b", "c") == [True, False, None]
    assert fleet.counts() == [1, 1, 0]
    fleet.world.advance(CHECK_S - 2)
    assert len(fleet.asked) == 2
    fleet.here = {"b"}
    fleet.world.advance(2)
    assert (len(fleet.asked), fleet.said("a", "b")) == (4, [False, True])


def test_at_most_twenty_are_asked_for_in_a_second() -> None:
    fleet = Fleet(*names(1000))
    fleet.world.advance(30)
    times = [at_s for at_s, _ in fleet.asked]
    assert len(times) == pytest.approx(600, abs=10)
    for start in range(29):
        assert sum(start <= at_s < start + 1 for at_s in times) <= 20
    fleet.world.advance(30)
    assert sorted(name for _, name in fleet.asked) == names(1000)[: len(fleet.asked)], "each once"


def test_while_requests_are_sent_few_are_asked_for() -> None:
    fleet = Fleet(*names(1000), here=names(1000))
    fleet.world.advance(0.2)
    fleet.asked.clear()
    fleet.world.engine.registered.questions(sending=True)
    fleet.world.clock.monotonic_s += 1
    assert len(fleet.world.do(lambda engine: engine.registered.questions(sending=True))) == 1
    fleet.world.clock.monotonic_s += 0.3
    assert fleet.world.do(lambda engine: engine.registered.questions(sending=False)) == []
    fleet.world.clock.monotonic_s += 0.3
    assert len(fleet.world.do(lambda engine: engine.registered.questions(sending=False))) == 5


def test_what_a_job_has_found_out_is_not_asked_again() -> None:
    fleet = Fleet("a", here=["a"])
    fleet.world.advance(30)
    fleet.world.run(lambda engine: engine.owners("a", ["/remote/a"]))
    fleet.asked.clear()
    fleet.world.advance(50)
    assert fleet.asked == []
    fleet.world.advance(11)
    assert len(fleet.asked) == 1


def test_destinations_of_a_new_job_come_first() -> None:
    fleet = Fleet(*names(500))
    fleet.world.advance(1)
    fleet.world.create(body("get", "x", startAt=iso(fleet.world.clock.wall_s() + 3600)))
    fleet.world.advance(0.5)
    assert "x" in [name for _, name in fleet.asked]


def test_who_comes_first_and_is_due_in_its_turn_too_is_asked_for_once() -> None:
    fleet = Fleet("a", "b")
    fleet.world.advance(1)
    fleet.deregisters("b")
    fleet.world.clock.monotonic_s += CHECK_S
    asked = fleet.world.do(lambda engine: engine.registered.questions(sending=False))
    assert sorted(asked) == ["a", "b"]


def test_nobody_is_asked_for_in_turn_where_that_is_off() -> None:
    fleet = Fleet("a", here=["a"], gateway_check_s=0)
    fleet.world.create(body("get", "b", startAt=iso(fleet.world.clock.wall_s() + 3600)))
    fleet.world.advance(600)
    assert fleet.asked == []
    fleet.registers("a", "/remote/a")
    fleet.world.advance(1)
    assert fleet.said("a") == [True]


def test_a_question_without_an_answer_is_given_up_and_asked_again_in_its_turn() -> None:
    fleet = Fleet("a", here=["a"])
    fleet.world.owners = None
    fleet.world.advance(GIVEN_UP_S + 1)
    assert fleet.world.inquired == ["a"]
    fleet.world.inquired.clear()
    fleet.world.advance(CHECK_S)
    assert fleet.world.inquired == ["a"]


def test_an_owner_of_many_says_nothing_of_one() -> None:
    fleet = Fleet("a")
    fleet.many = True
    fleet.world.advance(1)
    known = fleet.world.do(lambda engine: engine.known(["a"]))["a"]
    assert known == Known(None, None, known.checked_at, None)
    before_s = fleet.world.clock.wall_s() - seconds(known.checked_at or "")
    assert before_s == pytest.approx(1, abs=0.1)
    assert fleet.counts() == [0, 0, 1]
    fleet.world.owners = lambda name: ["/remote/+", f"/remote/{name}"]
    fleet.world.advance(CHECK_S)
    assert fleet.said("a") == [True]


def test_where_one_owner_answers_for_all_few_are_asked_for() -> None:
    fleet = Fleet(*names(500))
    fleet.many = True
    fleet.world.advance(10)
    assert len(fleet.asked) == pytest.approx(20 + 2 * 9, abs=5)
    fleet.many = False
    fleet.world.advance(10)
    assert len(fleet.asked) > 100, "one of its own is enough"


def test_after_a_restart_of_the_controller_all_are_asked_for_anew() -> None:
    fleet = Fleet("a", "b", here=["a", "b"])
    fleet.world.advance(1)
    fleet.here = {"a"}
    fleet.world.owners = None
    fleet.world.run(lambda engine: engine.delivery.controller_restarted(None))
    assert (fleet.said("a", "b"), fleet.counts()) == ([None, None], [0, 0, 2])
    fleet.world.owners = fleet.owned
    fleet.world.advance(1)
    assert fleet.said("a", "b") == [True, False]
    fleet.world.lose_link()
    assert fleet.said("a", "b") == [None, None]
    fleet.world.regain_link()
    fleet.world.advance(1)
    assert fleet.said("a", "b") == [True, False]


def test_after_a_restart_of_ours_all_are_asked_for_anew() -> None:
    fleet = Fleet("a", here=["a"])
    fleet.world.advance(1)
    fleet.world.restart()
    fleet.world.advance(1)
    assert fleet.said("a") == [True]


def test_what_is_forgotten_is_not_asked_for() -> None:
    fleet = Fleet("a", "b", here=["a"])
    fleet.world.advance(1)
    fleet.world.do(lambda engine: engine.forget_gateway("a"))
    assert fleet.counts() == [0, 1, 0]
    fleet.asked.clear()
    fleet.world.advance(CHECK_S)
    assert [name for _, name in fleet.asked] == ["b"]


def test_where_requests_go_directly_nobody_is_asked_for() -> None:
    fleet = Fleet("a", route="direct")
    fleet.world.advance(CHECK_S)
    done: list[int] = []
    fleet.world.run(lambda engine: engine.ask_now(["a"], lambda: done.append(1)))
    assert (fleet.asked, done) == ([], [1])
    fleet.world.run(lambda engine: engine.refused(presence=False, direct=True))
    fleet.world.advance(CHECK_S)
    assert fleet.asked != [], "they go through the controller now"


def test_a_job_goes_in_its_order_though_one_of_its_gateways_is_being_checked() -> None:
    world = World(replace(SETTINGS, gateway_check_s=CHECK_S), owners=None, checks=True)
    world.do(lambda engine: engine.put_gateways([Put(name="b")]))
    world.advance(0.1)
    world.create(body("post", "a", "b", "c", concurrency=1))
    assert (world.inquired, world.asked) == (["b"], ["a", "b", "c"])
    world.run(lambda engine: engine.owners("b", ["/remote/b"], inquiry=True))
    world.owners = own_model
    world.run()
    assert [one.destination for one in world.sent] == ["a"]


# -- seen ----------------------------------------------------------------------------------------------


def test_who_registers_is_asked_for_soon_and_known_from_then_on() -> None:
    fleet = Fleet("a", gateway_check_s=3600)
    fleet.world.advance(1)
    assert fleet.said("a") == [False]
    fleet.here |= {"a", "x"}
    fleet.registers("a", "/remote/a")
    fleet.registers("model of x", "/remote/x", "/system/x", "/remote/y/z", "/remote/+")
    fleet.world.advance(AFTER_S + 0.1)
    assert fleet.said("a", "x") == [True, True]
    assert fleet.known() == [Gateway(name="a"), Gateway(name="x", discovered=True)]
    seen_at = fleet.world.do(lambda engine: engine.known(["x"]))["x"].seen_at
    assert seen_at is not None
    fleet.put("x")
    assert fleet.known() == [Gateway(name="a"), Gateway(name="x")]


def test_who_is_discovered_and_then_named_by_a_job_is_not_discovered_any_more() -> None:
    fleet = Fleet(here=["x"])
    fleet.registers("x", "/remote/x")
    fleet.world.advance(1)
    assert fleet.known() == [Gateway(name="x", discovered=True)]
    fleet.world.create(body("get", "x"))
    assert fleet.known() == [Gateway(name="x")]


def test_a_store_that_cannot_be_read_when_a_gateway_is_discovered_holds_up_no_request() -> None:
    fleet = Fleet(here=["x"])
    fleet.registers("x", "/remote/x")
    world, answers = fleet.world, fleet.world.owners
    world.owners = None
    job = world.create(body("post", "x"))
    read = world.store.now.gateways

    def unreadable(names: Sequence[str]) -> list[Gateway]:
        raise StoreError(f"{names} cannot be read")

    world.owners, world.store.now.gateways = answers, unreadable  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        world.run()
    world.store.now.gateways = read  # type: ignore[method-assign]
    world.run()
    assert [one.request for one in world.sent] == [job.first]


def test_a_registration_that_was_refused_discovers_nobody() -> None:
    fleet = Fleet()
    fleet.registers("x", "/remote/x")
    fleet.world.advance(1)
    assert (fleet.said("x"), fleet.known()) == ([False], [])
    fleet.here = {"x"}
    fleet.world.run(lambda engine: engine.owners("x", ["/remote/x"]))
    assert fleet.known() == [], "it was not seen to register this time"


def test_who_deregisters_is_asked_for_soon() -> None:
    fleet = Fleet("a", "b", "c", here=["a", "b", "c"], gateway_check_s=3600)
    fleet.registers("both", "/remote/b", "/remote/c")
    fleet.world.advance(2)
    fleet.here = set()
    fleet.asked.clear()
    for model in ("a", "both", "somebody else"):
        fleet.deregisters(model)
    fleet.world.advance(1)
    assert fleet.said("a", "b", "c") == [False, False, False]
    assert len(fleet.asked) == 3


# -- at once -------------------------------------------------------------------------------------------


def test_a_caller_is_answered_at_once() -> None:
    fleet = Fleet(*names(500), here=names(500))
    done: list[int] = []
    fleet.world.run(lambda engine: engine.ask_now(["x", *names(500)], lambda: done.append(1)))
    assert (done, fleet.said("x", "cg-000", "cg-499")) == ([1], [False, True, True])
    assert len(fleet.asked) == 501


def test_few_questions_are_open_at_once() -> None:
    fleet = Fleet()
    fleet.world.owners = None
    done: list[int] = []
    fleet.world.run(lambda engine: engine.ask_now(names(100), lambda: done.append(1)))
    assert len(fleet.world.inquired) == OPEN
    fleet.world.owners = fleet.owned
    fleet.world.advance(0)
    assert (len(fleet.asked), done) == (100, [1])


def test_a_caller_waits_no_longer_than_for_the_controller() -> None:
    fleet = Fleet()
    done: list[str] = []
    fleet.world.run(lambda engine: engine.ask_now([], lambda: done.append("nobody")))
    fleet.world.owners = None
    fleet.world.run(lambda engine: engine.ask_now(["x"], lambda: done.append("silent")))
    assert done == ["nobody"]
    fleet.world.advance(GIVEN_UP_S)
    assert done == ["nobody", "silent"]
    fleet.world.run(lambda engine: engine.ask_now(["x"], lambda: done.append("lost")))
    fleet.world.lose_link()
    assert done[2:] == ["lost"]
    fleet.world.run(lambda engine: engine.ask_now(["x"], lambda: done.append("no link")))
    assert done[3:] == ["no link"]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KNOWN_LIMIT", "STRANGERS", "MOST_FIRST"):
        monkeypatch.setattr(module, name, 3)
    fleet = Fleet("a", "b", "c", "d", here=names(9))
    for name in names(9):
        fleet.world.run(lambda engine, name=name: engine.owners(name, [f"/remote/{name}"]))  # type: ignore[misc]
    assert fleet.said("cg-005", "cg-006", "cg-008") == [None, True, True]
    fleet.registers("x", "/remote/x")
    fleet.world.advance(1)
    assert sum(fleet.counts()) == 3


def test_the_scheduler_learns_only_what_it_asked_for() -> None:
    """Who is asked for in turn is not taken to have a lock of its own."""
    fleet = Fleet("a", here=["a"])
    fleet.world.advance(1)
    fleet.asked.clear()
    fleet.world.create(body("post", "a"))
    assert [name for _, name in fleet.asked] == ["a"]
