"""Who shares a lock, who of us holds it, and until when others do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import locks as module
from puppetmaster.locks import Locks

CACHE_S = 60.0


@pytest.fixture
def locks() -> Locks:
    return Locks(CACHE_S)


def asked(locks: Locks, most: int = 100, now_s: float = 0.0) -> list[str]:
    return list(locks.questions(most, now_s))


@pytest.mark.parametrize(
    ("resources", "domains"),
    [
        (["/remote/a"], {"a": "/remote/a", "b": None}),
        (["/remote/b", "/remote/a", "/other"], {"a": "/remote/a", "b": "/remote/a", "c": None}),
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
    locks.want("a")
    assert asked(locks, 2) == []
    locks.learn("a", None, 0.0)
    assert asked(locks, 2) == ["c"]


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
    assert asked(locks, now_s=CACHE_S) == ["a"], "asked for again, by itself"
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
    assert (locks.domain("a", 0.0), locks.domain("b", 0.0)) == (None, "/remote/a")
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
    assert sorted(asked(locks)) == ["b", "c"], "what was under way is lost"


def test_a_large_fleet_does_not_fill_the_memory(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_LIMIT", 10)
    for number in range(100):
        locks.learn(f"n{number}", [f"/remote/n{number}"], 0.0)
        assert locks.domain(f"n{number}", 0.0) == f"/remote/n{number}"
    assert sum(locks.domain(f"n{number}", 0.0) is not None for number in range(100)) <= 11


def test_a_write_of_ours_holds_its_lock_until_it_is_answered(locks: Locks) -> None:
    assert not locks.held("d", 0.0)
    locks.take("d", 7)
    assert locks.held("d", 1e9)
    assert locks.writer("d") == 7
    locks.give_back("d", 8)
    assert locks.writer("d") == 7, "another's answer does not free it"
    locks.give_back("d", 7)
    assert not locks.held("d", 0.0)
    assert locks.writer("d") is None


def test_others_hold_it_until_it_is_tried_again(locks: Locks) -> None:
    locks.others_hold("d", 5.0)
    locks.others_hold("d", 3.0)
    assert locks.held("d", 4.999)
    assert not locks.held("d", 5.0)
    assert locks.writer("d") is None
    locks.take("d", 1)
    locks.free("d")
    assert not locks.held("d", 0.0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "give"]), st.sampled_from("de"), st.integers(1, 3)), max_size=30
    )
)
def test_a_lock_is_held_by_who_took_it_last_and_has_not_given_it_back(
    steps: list[tuple[str, str, int]],
) -> None:
    locks, holder = Locks(CACHE_S), dict[str, int | None]()
    for what, domain, writer in steps:
        if what == "take":
            locks.take(domain, writer)
            holder[domain] = writer
        else:
            locks.give_back(domain, writer)
            holder[domain] = None if holder.get(domain) == writer else holder.get(domain)
        for one in "de":
            assert locks.writer(one) == holder.get(one)
            assert locks.held(one, 0.0) == (holder.get(one) is not None)
