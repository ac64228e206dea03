"""How much an owner of many gateways is given: by example, and in simulated fleets of every kind."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puppetmaster.scheduling.owners import (
    BLOCKED_S,
    FIRST,
    FORGET_S,
    LONGEST_PAUSE_S,
    PART,
    STUCK_S,
    Owner,
    Owners,
)
from sandbox.simulator import Scenario, Simulation

MOST = 500


class Fleet:
    """An owner that works on ``threads`` commands at once, each for ``takes_s``; it is given all it may."""

    def __init__(self, threads: int, takes_s: float = 0.1, most: int = MOST) -> None:
        self.owner = Owner(most)
        self.now_s = 100.0
        self._threads = threads
        self._takes_s = takes_s
        self._given: list[tuple[int, float]] = []  # epoch, since when
        self._worked: list[tuple[float, int, float]] = []  # done at, epoch, since when
        self.most_given = 0

    def run(self, for_s: float) -> None:
        """Let time pass."""
        end_s = self.now_s + for_s
        while True:
            while self.owner.may_send(self.now_s):
                self._given.append((self.owner.send(self.now_s), self.now_s))
                self.most_given = max(self.most_given, self.owner.busy)
            while self._given and len(self._worked) < self._threads:
                epoch, since_s = self._given.pop(0)
                self._worked.append((self.now_s + self._takes_s, epoch, since_s))
            done_s, epoch, since_s = min(self._worked)
            if done_s > end_s:
                self.now_s = end_s
                return
            self.now_s = done_s
            self._worked.remove((done_s, epoch, since_s))
            self.owner.answered(epoch, done_s - since_s, done_s)
            self.owner.land()


def test_it_begins_with_two() -> None:
    owner = Owner(MOST)
    assert [owner.may_send(0.0), owner.send(0.0), owner.may_send(0.0), owner.send(0.0)] == [True, 0, True, 0]
    assert not owner.may_send(0.0)
    assert FIRST == 2


def test_it_is_never_given_more_than_the_setting_says() -> None:
    assert Owner(1).size == 1
    fleet = Fleet(1000, most=7)
    fleet.run(60.0)
    assert fleet.owner.size == fleet.most_given == 7


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 10, 40])
def test_it_finds_what_the_owner_works_on_at_once(threads: int) -> None:
    fleet = Fleet(threads)
    fleet.run(30.0)
    assert 0.85 * threads <= fleet.owner.size <= max(1.7 * threads, FIRST + 1)
    assert fleet.most_given <= max(4 * threads, 2 * FIRST), "also on the way there"


def test_it_does_so_within_seven_round_trips() -> None:
    """With 2, 4, 8, 16, 32 and 128 in flight, and then with all."""
    fleet = Fleet(10_000, takes_s=1.0)
    fleet.run(7.0)
    assert fleet.most_given == MOST


def test_first_answers_that_came_sooner_than_a_broker_lets_most_come_do_not_narrow_it() -> None:
    fleet = Fleet(10_000, takes_s=0.001)
    fleet.run(0.0)  # the first two are on their way
    fleet._takes_s = 0.088
    fleet.run(2.0)
    assert fleet.owner.size == MOST


def test_gateways_that_become_slower_do_not_narrow_it_for_long() -> None:
    fleet = Fleet(10_000, takes_s=0.05)
    fleet.run(3.0)
    fleet._takes_s = 1.0
    fleet.run(3 * LONGEST_PAUSE_S)
    assert fleet.owner.size == MOST


@pytest.mark.parametrize("seed", range(6))
def test_one_thread_that_gateways_keep_for_a_minute_again_and_again(seed: int) -> None:
    scenario = Scenario(
        gateways=150, shape="one-model", latency_s=0.1, threads=1, dead=0.1, ttl_s=60.0, seed=seed
    )
    assert len(run(scenario, requestTimeout=61).ran_late) <= 32


def test_what_the_bus_alone_takes_longer_does_not_narrow_it() -> None:
    """One that answers after 1 ms with few in flight, and after 40 ms with many."""
    fleet = Fleet(10_000, takes_s=0.001)
    fleet.run(0.01)
    fleet._takes_s = 0.04
    fleet.run(2.0)
    assert fleet.owner.size == MOST


# -- to the answer -------------------------------------------------------------------------------


def answers(owner: Owner, count: int, latency_s: float, now_s: float) -> int:
    """So many answers at one moment, with all of the size in use; the size after them."""
    for _ in range(count):
        while owner.busy < owner.size:
            owner.send(now_s)
        owner.answered(owner.epoch, latency_s, now_s)
        owner.land()
    return owner.size


def grown_to(size: int, most: int = MOST) -> Owner:
    """An owner that was never given too much, just grown to this size; it answers in 0.1 s."""
    owner = Owner(most)
    while owner.size < size:
        answers(owner, 1, 0.1, 0.0)
    return owner


def falls(owner: Owner, now_s: float, latency_s: float = 0.2) -> int:
    """It is twice as slow until it is given less; how many answers that took."""
    before, took = owner.size, 0
    while owner.size == before:
        answers(owner, 1, latency_s, now_s)
        took += 1
    return took


def test_it_doubles_after_as_many_answers_as_places_and_after_half_as_many_as_it_has_many() -> None:
    owner = Owner(MOST)
    rounds = {2: 2, 4: 4, 8: 8, 16: 8, 32: 16, 128: 64}
    for (size, round_), larger in zip(rounds.items(), [*rounds, MOST][1:], strict=True):
        assert answers(owner, round_ - 1, 0.1, 0.0) == size
        assert answers(owner, 1, 0.1, 0.0) == larger


def test_one_that_is_not_given_all_that_it_may_tells_nothing_of_more() -> None:
    owner = Owner(MOST)
    for _ in range(100):
        owner.answered(owner.send(0.0), 0.1, 0.0)
        owner.land()
    assert owner.size == FIRST


def test_what_was_sent_before_its_size_changed_tells_nothing() -> None:
    owner = grown_to(16)
    for _ in range(100):
        owner.answered(owner.epoch - 1, 5.0, 0.0)
    assert (answers(owner, 7, 0.1, 0.0), answers(owner, 1, 0.1, 0.0)) == (16, 32)


def test_a_slow_round_has_to_be_followed_by_another_whole_one() -> None:
    owner = grown_to(128)
    assert answers(owner, int(128 * PART), 0.2, 0.0) == 128, "doubted"
    assert answers(owner, 128, 0.01, 0.0) == 128, "those do not count"
    assert answers(owner, 127, 0.2, 0.0) == 128
    assert answers(owner, 1, 0.2, 0.0) == 64, "half of it was worked on at once"
    assert answers(owner, 64, 0.01, 5.0) == 64, "those were sent together with too many"
    assert answers(owner, 63, 0.2, 5.0) == 64, "half of the places is not enough any more"
    assert answers(owner, 1, 0.2, 5.0) == 80


def test_slow_rounds_by_turns_with_others_are_chance() -> None:
    owner = grown_to(16, most=16)
    for _ in range(5):
        assert answers(owner, 16 + 16, 0.2, 0.0) == 16, "a round, and the answers that do not count"
        assert answers(owner, 16, 0.1, 0.0) == 16


def test_it_is_compared_with_few_in_flight_and_not_with_the_size_before() -> None:
    """What each size alone adds is worth no word; all together it is."""
    owner = Owner(MOST)
    assert [answers(owner, count, latency_s, 0.0) for count, latency_s in ((2, 0.1), (4, 0.14))] == [4, 8]
    falls(owner, 0.0, 0.19)
    assert owner.size == round(8 * (2 * 0.1 + 4 * 0.14) / 6 / 0.19), "the first six tell how quick it can be"


def test_while_its_size_stays_it_is_compared_with_the_last_round() -> None:
    owner = grown_to(32)
    falls(owner, 0.0)
    answers(owner, 16, 0.1, 0.5)
    for latency_s in (0.1, 0.14, 0.18, 0.22, 0.26):
        assert answers(owner, 64, latency_s, 0.5) == 16
    assert answers(owner, 16, 0.3, 1.0) == 20


def test_pauses_become_longer_each_time_that_more_was_too_much() -> None:
    owner, now_s = grown_to(32), 0.0
    for pause_s in (1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S):
        falls(owner, now_s)
        size = owner.size
        round_ = max(size, 8)
        owner.heard(now_s + pause_s / 2)
        assert answers(owner, size + 5 * round_, 0.1, now_s + pause_s - 0.01) == size
        now_s += pause_s
        assert answers(owner, round_ - 1, 0.1, now_s) == size
        assert answers(owner, 1, 0.1, now_s) == max(size + 1, int(1.25 * size))


def test_one_that_has_more_to_work_with_than_it_had_is_tried_after_short_pauses_again() -> None:
    owner = grown_to(32)
    falls(owner, 0.0)
    while owner.size < 47:
        answers(owner, 1, 0.1, 50.0)
    falls(owner, 50.0)
    size = owner.size
    assert answers(owner, size + 5 * size, 0.1, 50.99) == size
    assert answers(owner, size, 0.1, 51.0) > size


def test_one_that_was_stuck_grows_slowly_from_there() -> None:
    owner = grown_to(16)
    owner.heard(0.1 + STUCK_S)
    assert owner.size == 8
    assert answers(owner, 8, 0.1, 0.1 + STUCK_S) == 10


def test_with_a_smaller_size_it_is_compared_with_the_last_round_again() -> None:
    owner = grown_to(32)
    falls(owner, 0.0)
    assert answers(owner, 16 + 16, 0.1, 0.5) == 16
    owner.heard(0.6 + STUCK_S)
    assert [answers(owner, size, latency_s, 21.0) for size, latency_s in ((8, 0.14), (10, 0.18))] == [10, 12]


def test_with_all_that_it_may_have_what_is_in_flight_tells_on() -> None:
    owner = grown_to(16, most=16)
    epoch = owner.epoch
    answers(owner, 5 * 16, 0.1, 1.0)
    assert owner.epoch == epoch


def test_no_size_is_less_than_the_first() -> None:
    owner = grown_to(4)
    falls(owner, 0.0, 100.0)
    assert owner.size == FIRST
    owner.heard(0.1 + STUCK_S)
    assert owner.size == FIRST


@pytest.mark.parametrize(("busy", "blocked"), [(0, False), (1, True), (2, True), (3, True)])
def test_one_that_answers_nothing_may_be_given_the_first_few(busy: int, blocked: bool) -> None:
    owner = Owner(MOST, size=10)
    for number in range(busy):
        owner.send(5.0 + number)  # what it is given besides is no sign of life
    assert owner.blocked(5.1 + BLOCKED_S) == blocked
    assert owner.may_send(5.1 + BLOCKED_S) == (busy < FIRST)
    owner.answered(owner.epoch, 1.0, 5.1 + BLOCKED_S)
    assert not owner.blocked(5.1 + BLOCKED_S)
    assert owner.may_send(5.1 + BLOCKED_S)


def test_one_that_was_stuck_is_given_half_from_there() -> None:
    owner = Owner(MOST, size=10)
    epoch = owner.send(5.0)
    owner.heard(5.0 + STUCK_S)
    assert owner.size == 10
    owner.heard(5.1 + 2 * STUCK_S)
    assert owner.size == 5
    assert owner.epoch > epoch, "what waited meanwhile tells nothing of its speed"


def test_one_that_was_idle_is_not_blocked() -> None:
    owner = Owner(MOST, size=10)
    owner.send(5.0)
    owner.land()
    assert not owner.blocked(500.0)
    owner.send(500.0)
    assert owner.may_send(500.0 + BLOCKED_S)


def test_what_was_given_up_is_counted_until_its_answer_comes() -> None:
    owners = Owners(MOST)
    owner = owners.of("/remote/+")
    for message in (1, 2):
        owner.send(0.0)
        assert owners.overdue("/remote/+", message, 30.0) == 30.0 + FORGET_S
        owner.land()
    assert (owner.in_flight, owner.busy) == (0, 2)
    assert not owner.may_send(31.0)
    assert owners.came(1, 60.0) == "/remote/+"
    assert owners.came(1, 60.0) is None
    assert owner.may_send(60.0)


def test_what_was_given_up_is_not_counted_for_ever() -> None:
    owners = Owners(MOST)
    owners.overdue("/remote/+", 1, 0.0)
    owners.overdue("/remote/+", 2, 1.0)
    assert owners.forget_overdue(FORGET_S - 0.001) == []
    assert owners.forget_overdue(FORGET_S) == ["/remote/+"]
    assert owners.sizes() == {"/remote/+": (FIRST, 1)}
    assert owners.came(1, FORGET_S) is None
    owners.forget_all()
    assert owners.sizes() == {"/remote/+": (FIRST, 0)}


# -- in a simulated fleet --------------------------------------------------------------------------


def run(scenario: Scenario, method: str = "get", **more: Any) -> Simulation:
    random.seed(scenario.seed)
    simulation = Simulation(scenario)
    simulation.create(method, **more)
    simulation.run(100_000.0)
    return simulation


@settings(max_examples=40)
@given(
    threads=st.integers(1, 12),
    dead=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    method=st.sampled_from(["get", "post"]),
    seed=st.integers(0, 1000),
)
def test_every_job_ends_and_next_to_nothing_runs_late(
    threads: int, dead: float, method: str, seed: int
) -> None:
    """An owner of some threads, of which dead gateways keep one each for a minute."""
    scenario = Scenario(
        gateways=150, shape="one-model", latency_s=0.1, threads=threads, dead=dead, ttl_s=60.0, seed=seed
    )
    simulation = run(scenario, method, requestTimeout=61)
    summary = simulation.summary()
    silent, late = round(dead * 150), len(simulation.ran_late)
    assert sum(summary["requests"].values()) == 150
    # What waits behind gateways that are away, when all threads are kept by them, is little.
    little = max(4 * threads, 4 * FIRST) * (1 + silent // threads)
    assert late <= little
    assert silent <= summary["requests"].get("timeout", 0) <= silent + little


@pytest.mark.parametrize("timeout_s", [2, 61])
def test_a_blocked_owner_is_given_nothing_to_run_late(timeout_s: float) -> None:
    """All three threads are kept by gateways that are away; twenty others are there."""
    scenario = Scenario(gateways=20, shape="one-model", threads=3, dead=0.0, ttl_s=60.0)
    simulation = Simulation(scenario)
    simulation._controller.dead |= {"cg-00001", "cg-00002", "cg-00003"}
    simulation.create("get", requestTimeout=timeout_s)
    simulation.run(50.0)
    assert len(simulation.sent_s) == FIRST, "not even the third of them is asked, while two say nothing"
    simulation.run(1000.0)
    assert simulation.ran_late == []
    assert simulation.summary()["requests"] == {"resolved": 17, "timeout": 3}


def test_an_owner_of_many_threads_is_used() -> None:
    """Against three threads that are never idle: 150 commands of 0.1 s."""
    simulation = run(Scenario(gateways=600, shape="one-model", latency_s=0.1, spread=0.3, threads=3))
    assert 600 * 0.1 / 3 / simulation.clock.at_s > 0.9
