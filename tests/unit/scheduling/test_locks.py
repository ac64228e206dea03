"""Who shares a lock, who of us holds it, and until when others do."""

from collections.abc import Callable

import pytest

from puppetmaster.scheduling import locks as module
from puppetmaster.scheduling.locks import Locks

CACHE_S = 60.0
#: The domain of two.
GROUP = "/remote/a and 1 more"


@pytest.fixture
def locks() -> Locks:
    return Locks(CACHE_S)


def asked(locks: Locks, most: int = 100, now_s: float = 0.0) -> list[str]:
    return list(locks.questions(most, now_s))


@pytest.mark.parametrize(
    ("resources", "domains"),
    [
        (["/remote/a"], {"a": "/remote/a", "b": None}),
        (["/remote/b", "/remote/a", "/other"], {"a": GROUP, "b": GROUP, "c": None}),
        (["/remote/+"], {"a": "/remote/+", "z": "/remote/+"}),
        (["/remote/#", "/remote/a"], {"a": "/remote/#", "z": "/remote/#"}),
        (None, {"a": "/remote/a", "b": None}),
        ([], {"a": "/remote/a"}),
        (["/system/x"], {"a": "/remote/a"}),
    ],
)
def test_the_controllers_word_makes_domains(
    locks: Locks, resources: list[str] | None, domains: dict[str, str | None]
) -> None:
    locks.learn("a", resources, 0.0)
    assert {name: locks.domain(name, 1.0) for name in domains} == domains


def test_a_group_has_one_domain_whoever_of_it_was_asked_for(locks: Locks) -> None:
    locks.learn("b", ["/remote/b", "/remote/a"], 0.0)
    first = locks.domain("a", 0.0)
    locks.learn("a", ["/remote/a", "/remote/b"], 1.0)
    assert locks.domain("b", 1.0) == first == locks.domain("a", 1.0)


def test_a_word_is_believed_for_a_while(locks: Locks) -> None:
    locks.learn("a", ["/remote/a"], 10.0)
    assert locks.domain("a", 10.0 + CACHE_S - 0.001) == "/remote/a"
    assert locks.domain("a", 10.0 + CACHE_S) is None


def test_each_is_asked_for_once_and_so_many_at_a_time(locks: Locks) -> None:
    for name in ("a", "b", "a", "c"):
        locks.want(name)
    assert asked(locks, 2) == ["a", "b"]
    assert asked(locks, 2) == []
    locks.want("a")
    assert asked(locks, 3) == ["c"]
    locks.want("d")
    locks.learn("a", None, 0.0)
    assert asked(locks, 3) == ["d"]


def test_who_was_named_in_an_answer_is_not_asked_for(locks: Locks) -> None:
    locks.want("b")
    locks.want("c")
    locks.learn("a", ["/remote/a", "/remote/b"], 0.0)
    assert asked(locks) == ["c"]


def test_who_is_not_wanted_any_more_is_not_asked_for(locks: Locks) -> None:
    locks.want("a")
    locks.unwant("a")
    assert asked(locks) == []


def test_a_question_without_an_answer_is_asked_again(locks: Locks) -> None:
    locks.want("a")
    assert asked(locks) == ["a"]
    locks.ask_again("a")
    assert asked(locks) == ["a"]


def test_one_lock_for_all_makes_other_questions_needless(locks: Locks) -> None:
    locks.want("a")
    locks.want("b")
    assert asked(locks, 1) == ["a"]
    locks.learn("a", ["/remote/+"], 0.0)
    assert asked(locks) == []


def test_one_lock_for_all_is_believed_until_the_next_answer_is_there(locks: Locks) -> None:
    locks.learn("a", ["/remote/+"], 0.0)
    locks.want("a")
    assert asked(locks, now_s=CACHE_S) == ["a"], "asked for again, by itself, and once"
    locks.want("a")
    assert asked(locks, now_s=CACHE_S + 1) == []
    assert locks.domain("z", CACHE_S + 1) == "/remote/+"
    locks.learn("a", ["/remote/a"], CACHE_S + 1)
    assert locks.domain("a", CACHE_S + 1) == "/remote/a"
    assert locks.domain("z", CACHE_S + 1) is None


def test_another_destination_of_its_own_does_not_end_one_lock_for_all(locks: Locks) -> None:
    locks.learn("a", ["/remote/+"], 0.0)
    locks.learn("b", None, 1.0)
    assert locks.domain("b", 1.0) == "/remote/+"


def test_what_was_wrong_is_forgotten(locks: Locks) -> None:
    locks.learn("a", ["/remote/a", "/remote/b"], 0.0)
    locks.forget("a")
    assert (locks.domain("a", 0.0), locks.domain("b", 0.0)) == (None, GROUP)
    locks.doubt("b")
    assert locks.domain("b", 0.0) is None
    locks.learn("a", ["/remote/+"], 0.0)
    locks.doubt("a")
    assert locks.domain("a", 0.0) == "/remote/+", "that others hold it says nothing about whose it is"
    locks.forget("a")
    assert locks.domain("a", 0.0) is None


def test_another_controller_is_asked_for_all_again(locks: Locks) -> None:
    locks.learn("a", ["/remote/a"], 0.0)
    locks.want("b")
    assert asked(locks) == ["b"]
    locks.want("c")
    locks.forget_all()
    assert locks.domain("a", 0.0) is None
    assert asked(locks, 1) == ["b"], "what was under way is lost"
    assert asked(locks, 2) == ["c"]
    for name in "defgh":
        locks.want(name)
    locks.forget_all()
    assert asked(locks, 7) == list("bcdefgh"), "in the order in which they were wanted"
    locks.learn("b", ["/remote/+"], 0.0)
    locks.forget_all()
    assert locks.domain("z", 0.0) is None


def test_a_large_fleet_does_not_fill_the_memory(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_LIMIT", 10)
    for number in range(100):
        locks.learn(f"n{number}", [f"/remote/n{number}", "/remote/n"], 0.0)
        assert locks.domain(f"n{number}", 0.0) == "/remote/n and 1 more"
    assert sum(locks.domain(f"n{number}", 0.0) is not None for number in range(100)) <= 11


# When the answers are all alike


@pytest.fixture
def alike(locks: Locks) -> Locks:
    """So many answers were of a lock for each that the last one made it the rule."""
    locks.want("waiting")
    for number in range(module.ALIKE):
        assert not locks.alike
        learned = locks.learn(f"n{number}", [f"/remote/n{number}"], 0.0)
        assert learned.everybody == (number == module.ALIKE - 1)
    assert locks.alike
    return locks


def test_who_was_not_asked_for_is_like_the_others(alike: Locks) -> None:
    assert alike.domain("any", 1.0) == "/remote/any"
    assert asked(alike) == [], "who waited to be asked for need not wait"
    assert alike.domain("n1", CACHE_S + 1) == "/remote/n1", "and what is known need not be asked for again"
    assert not alike.learn("any", ["/remote/any"], 1.0).everybody, "it is no news"


def test_an_answer_without_an_owner_says_nothing_of_others(locks: Locks) -> None:
    for number in range(2 * module.ALIKE):
        locks.learn(f"n{number}", None, 0.0)
    assert not locks.alike
    for number in range(module.ALIKE):
        locks.learn(f"n{number}", None, 0.0)
        locks.learn(f"m{number}", [f"/remote/m{number}"], 0.0)
    assert locks.alike


def test_one_that_shares_ends_it(alike: Locks) -> None:
    learned = alike.learn("x", ["/remote/x", "/remote/y"], 0.0)
    assert learned.outdated == {"/remote/x", "/remote/y"}, "they were believed to have locks of their own"
    assert not alike.alike
    assert alike.domain("any", 0.0) is None
    assert alike.domain("y", 0.0) == "/remote/x and 1 more"


def test_a_lock_that_others_hold_is_asked_for(alike: Locks) -> None:
    alike.doubt("x")
    assert alike.domain("x", 0.0) is None
    alike.learn("x", ["/remote/x"], 0.0)
    assert alike.domain("x", CACHE_S + 1) == "/remote/x"


def test_one_that_shared_is_asked_for_again_and_not_believed_to_be_like_others(locks: Locks) -> None:
    locks.learn("x", ["/remote/x", "/remote/y"], 0.0)
    for number in range(module.ALIKE):
        locks.learn(f"n{number}", [f"/remote/n{number}"], 0.0)
    assert locks.alike
    assert locks.domain("y", CACHE_S - 1) == "/remote/x and 1 more"
    assert (locks.domain("x", CACHE_S + 1), locks.domain("y", CACHE_S + 1)) == (None, None)


def test_a_pattern_that_owns_all_comes_before_it(alike: Locks) -> None:
    assert alike.learn("x", ["/remote/+"], 0.0).everybody
    assert alike.domain("any", 0.0) == "/remote/+"


@pytest.mark.parametrize(
    "end", [Locks.forget_all, lambda locks: locks.learn("x", ["/remote/x", "/remote/y"], 0)]
)
def test_it_has_to_be_said_anew(alike: Locks, end: Callable[[Locks], None]) -> None:
    """By another controller, or after one that shares."""
    alike.doubt("any")
    end(alike)
    assert alike.domain("any", 0.0) is None
    for number in range(module.ALIKE):
        assert not alike.alike
        alike.learn(f"n{number}", [f"/remote/n{number}"], 0.0)
    assert alike.domain("another", 0.0) == "/remote/another"
    believed = "/remote/any" if end is Locks.forget_all else None
    assert alike.domain("any", 0.0) == believed, "what the other one made doubtful is not any more"


def test_what_was_asked_for_one_by_one_is_not_doubted(locks: Locks) -> None:
    locks.doubt("x")
    for number in range(module.ALIKE):
        locks.learn(f"n{number}", [f"/remote/n{number}"], 0.0)
    assert locks.domain("x", 0.0) == "/remote/x"


def test_others_hold_it_until_it_is_tried_again(locks: Locks) -> None:
    locks.others_hold("d", 5.0)
    locks.others_hold("d", 3.0)
    assert locks.held("d", 4.999)
    assert not locks.held("d", 5.0)
    assert locks.writer("d") is None
    locks.take("d", 1)
    locks.free("d")
    assert not locks.held("d", 0.0)


# -- wildcards inside a segment --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/remote/cg-+", ["cg-1", "cg-x.y:z"], ["cg-", "cg", "a", "xcg-1"]),
        ("/remote/cg-#", ["cg-1"], ["cg-", "a"]),
        ("/remote/+", ["cg-1", "a", "é"], []),
        ("/remote/c+g", [], ["cg-1", "c1g", "a"]),
    ],
)
def test_a_wildcard_in_a_segment_owns_what_it_matches(
    locks: Locks, pattern: str, matching: list[str], others: list[str]
) -> None:
    locks.learn("cg-7", [pattern, "/elsewhere"], 0.0)
    assert {locks.domain(name, 1.0) for name in matching} <= {pattern}
    assert all(locks.domain(name, 1.0) is None for name in others)
    assert locks.many(pattern) is bool(matching)
    assert not locks.many(None)


def test_of_two_patterns_the_closer_one_counts(locks: Locks) -> None:
    locks.learn("a", ["/remote/+"], 0.0)
    locks.learn("cg-1", ["/remote/cg-+"], 0.0)
    assert [locks.domain(name, 1.0) for name in ("cg-2", "a")] == ["/remote/cg-+", "/remote/+"]


def test_those_that_a_pattern_matches_are_not_asked_for_and_the_others_are(locks: Locks) -> None:
    for name in ("cg-1", "cg-2", "b"):
        locks.want(name)
    assert asked(locks, 1) == ["cg-1"]
    assert locks.learn("cg-1", ["/remote/cg-+"], 0.0).everybody
    assert asked(locks) == ["b"]


def test_a_pattern_whose_owner_has_gone_is_forgotten_when_it_is_asked_for_again(locks: Locks) -> None:
    locks.learn("cg-1", ["/remote/cg-+"], 0.0)
    assert asked(locks, now_s=CACHE_S) == ["cg-1"]
    assert locks.domain("cg-2", CACHE_S) == "/remote/cg-+", "believed until the answer is there"
    assert locks.learn("cg-1", ["/remote/cg-1"], CACHE_S).outdated is None, "any may be of another domain now"
    assert [locks.domain(name, CACHE_S) for name in ("cg-1", "cg-2")] == ["/remote/cg-1", None]
