"""When a request is sent, sent again, and sent no more: as tables and as properties."""

import math
import random
import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.model.policy import (
    JITTER,
    Abort,
    Gate,
    Policy,
    Retry,
    Threshold,
    abort_after,
    adding_nobody,
    completed,
    out_of_order,
    wave_ends,
    wave_of,
)
from puppetmaster.model.request import RequestStatus

ERROR, TIMEOUT, UNKNOWN = RequestStatus.ERROR, RequestStatus.TIMEOUT, RequestStatus.UNKNOWN
SHARES = st.integers(1, 60_000) | st.floats(0.01, 100).map(lambda part: f"{part:.4f}%")


def test_a_job_that_names_nothing_has_no_limits() -> None:
    policy = Policy.of({}, 10)
    assert policy == Policy(waves=(10,))
    assert (policy.concurrency, policy.rate, policy.abort, policy.retry.attempts) == (None, None, None, 1)


def test_a_policy_is_what_was_given() -> None:
    given_: dict[str, Any] = {
        "concurrency": "10%",
        "rate": 2.5,
        "idempotent": True,
        "retry": {"attempts": 3, "on": ["error"], "delay": 1, "factor": 3, "maxDelay": 9},
        "abort": {"errors": "5%", "after": 20},
        "waves": [1, "10%", "100%"],
        "gate": {"errors": 2, "soak": 60, "onFail": "abort"},
    }
    assert Policy.of(given_, 200) == Policy(
        waves=(1, 20, 200),
        concurrency=20,
        rate=2.5,
        idempotent=True,
        retry=Retry(3, frozenset({ERROR}), 1, 3, 9),
        abort=Abort(Threshold(percent=5.0), 20),
        gate=Gate(Threshold(count=2), 60, aborts=True),
    )


@pytest.mark.parametrize(
    ("given_", "total", "waves"),
    [
        ([1, "10%", "100%"], 100, (1, 10, 100)),
        ([1, "10%", "100%"], 5, (1, 5)),
        ([1], 5, (1, 5)),
        ([5], 5, (5,)),
        ([500], 5, (5,)),
        (["50%", 1], 10, (5, 10)),
        ([5, "10%", "100%"], 20, (5, 20)),
        (["10%", "20%"], 1, (1,)),
        (["0.1%"], 10, (1, 10)),
        (["33%"], 10, (4, 10)),
        (["29%"], 100, (29, 100)),
    ],
)
def test_waves_end_at_these(given_: list[int | str], total: int, waves: tuple[int, ...]) -> None:
    assert Policy.of({"waves": given_}, total).waves == waves


@given(st.lists(SHARES, min_size=1, max_size=20), st.integers(1, 50_000))
def test_waves_are_none_empty_and_cover_all(given_: list[int | str], total: int) -> None:
    waves = Policy.of({"waves": given_}, total).waves
    assert waves[-1] == total
    assert all(before < after for before, after in zip((0, *waves), waves, strict=False))
    assert [wave_of(waves, end - 1) for end in waves] == list(range(1, len(waves) + 1))
    assert [wave_of(waves, end) for end in waves[:-1]] == list(range(2, len(waves) + 1))


@given(SHARES, st.integers(1, 50_000))
def test_a_concurrency_is_at_least_one_and_its_part_rounded_up(share: int | str, total: int) -> None:
    found = Policy.of({"concurrency": share}, total).concurrency
    assert found is not None
    if isinstance(share, int):
        assert found == share
    else:
        part = float(share[:-1]) * total / 100
        assert 1 <= found <= total
        assert part - 1e-6 <= found < part + 1


@pytest.mark.parametrize(("share", "total", "number"), [("29%", 100, 29), ("7%", 100, 7), ("57%", 100, 57)])
def test_whole_parts_are_not_rounded_up(share: str, total: int, number: int) -> None:
    assert total * float(share[:-1]) / 100 == pytest.approx(number)
    assert Policy.of({"concurrency": share}, total).concurrency == number


@pytest.mark.parametrize(
    ("errors", "failed", "among", "passed"),
    [
        (0, 0, 10, False),
        (0, 1, 10, True),
        (5, 5, 10, False),
        (5, 6, 10, True),
        ("10%", 1, 10, False),
        ("10%", 2, 10, True),
        ("0%", 0, 10, False),
        ("0%", 1, 1000, True),
        ("100%", 10, 10, False),
        ("0.1%", 1, 1000, False),
        ("10%", 0, 0, False),
    ],
)
def test_so_many_failures_are_borne(errors: int | str, failed: int, among: int, passed: bool) -> None:
    assert Threshold.of(errors).passed(failed, among) is passed
    assert str(Threshold.of(errors)) == str(errors)


@given(st.integers(0, 100) | st.integers(0, 100).map(lambda part: f"{part}%"), st.integers(1, 1000))
def test_more_failures_are_not_borne_better(errors: int | str, among: int) -> None:
    passed = [Threshold.of(errors).passed(failed, among) for failed in range(among + 1)]
    assert passed == sorted(passed)
    assert not passed[0]


@given(st.integers(1, 100), st.floats(0, 1e9), st.floats(1, 100), st.floats(0, 1e9), st.integers(0, 2**32))
def test_a_wait_is_within_its_bounds(
    attempts: int, delay_s: float, factor: float, most_s: float, seed: int
) -> None:
    random.seed(seed)
    retry = Retry(100, delay_s=delay_s, factor=factor, max_delay_s=most_s)
    wait_s = retry.wait_s(attempts)
    assert math.isfinite(wait_s)
    assert 0 <= wait_s <= most_s
    longest_s = min(delay_s * factor ** min(attempts - 1, 64), most_s)
    assert JITTER * longest_s <= wait_s <= longest_s


@pytest.mark.parametrize("outcome", list(RequestStatus))
@pytest.mark.parametrize("on", [["error"], ["timeout"], ["error", "timeout"], None])
def test_who_is_tried_again(outcome: RequestStatus, on: list[str] | None) -> None:
    retry = {"attempts": 3} if on is None else {"attempts": 3, "on": on}
    named = outcome.value in (on or ["error", "timeout"])
    methods, answers = ("get", "post", "put", "delete"), (True, False)
    for idempotent, method, attempts, in_doubt in product((*answers, None), methods, (1, 2, 3), answers):
        policy = Policy.of({"retry": retry, "idempotent": idempotent}, 1)
        twice = idempotent if idempotent is not None else method == "get"
        assert policy.repeats(method) is twice
        expected = attempts < 3 and named and (not in_doubt or twice)
        found = policy.tries_again(outcome, attempts, method, may_have_run=in_doubt)
        assert found is expected, (idempotent, method, attempts, in_doubt)


def test_abort_says_why() -> None:
    policy = Policy.of({"abort": {"errors": "10%", "after": 10}}, 100)
    assert policy.aborts(9, 9) is None
    assert policy.aborts(1, 10) is None
    assert policy.aborts(2, 10) == "2 of 10 requests failed, and at most 10% may"
    assert Policy.of({}, 100).aborts(100, 100) is None


@pytest.mark.parametrize(
    ("errors", "total", "after"),
    [
        ("5%", 100, 20),
        ("5%", 15, 15),
        ("10%", 100, 10),
        ("33%", 100, 10),
        ("100%", 100, 10),
        ("100%", 3, 3),
        ("7%", 100, 15),
        ("0.3%", 50_000, 334),
        ("0.000001%", 50_000, 50_000),
        ("0%", 100, 1),
    ],
)
def test_a_percentage_aborts_once_so_many_are_done(errors: str, total: int, after: int) -> None:
    assert completed({"abort": {"errors": errors}, "rate": 2}, total) == {
        "abort": {"errors": errors, "after": after},
        "rate": 2,
    }


@given(st.integers(1, 100 * 10**6), st.integers(1, 500))
def test_one_failure_is_within_the_percentage_by_then(millionths: int, total: int) -> None:
    errors = f"{millionths / 10**6:.6f}%"
    bears_one = (done for done in range(10, total) if not Threshold.of(errors).passed(1, done))
    assert abort_after(Threshold.of(errors), total) == next(bears_one, total)


@pytest.mark.parametrize(
    "given_",
    [{}, {"abort": {"errors": 5}}, {"abort": {"errors": 0}}, {"abort": {"errors": "5%", "after": 1}}],
)
def test_what_an_abort_says_itself_counts(given_: dict[str, Any]) -> None:
    assert completed(given_, 100) == given_


def test_a_job_of_an_earlier_version_is_aborted_by_its_first_failure() -> None:
    assert Policy.of({"abort": {"errors": "5%"}}, 100).aborts(1, 1) is not None


def test_waves_out_of_order_and_waves_that_add_nobody() -> None:
    assert list(out_of_order([5, "10%", 30, "50%"], 20)) == [(1, 5, 2), (3, 20, 10)]
    assert list(out_of_order([1, "10%", "100%", 30], 20)) == []
    assert adding_nobody([1, "1%", "100%", 30], 20) == [1, 3]
    assert adding_nobody([1, "10%", "100%"], 20) == []


@given(st.lists(SHARES, min_size=1, max_size=20), st.integers(1, 50_000))
def test_each_wave_in_order_adds_somebody_or_is_told(given_: list[int | str], total: int) -> None:
    if not list(out_of_order(given_, total)):
        waves = Policy.of({"waves": given_}, total).waves
        rest = waves[-1] > wave_ends(given_, total)[-1]
        assert len(waves) == len(given_) - len(adding_nobody(given_, total)) + rest


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        (Retry(2), "2.5 to 5 s later"),
        (Retry(3), "2.5 to 5 s later, then 2 times as long each time, at most 300 s"),
        (Retry(3, factor=1), "2.5 to 5 s later"),
        (Retry(3, delay_s=1, max_delay_s=1), "0.5 to 1 s later"),
        (Retry(3, delay_s=9, max_delay_s=1), "0.5 to 1 s later"),
        (Retry(3, delay_s=0), "at once"),
    ],
)
def test_pauses_are_said_as_they_are(retry: Retry, pauses: str) -> None:
    assert retry.pauses == pauses
    first = [float(one) for one in re.findall(r"([0-9.]+)(?: to| s later)", pauses)] or [0, 0]
    assert all(first[0] <= retry.wait_s(1) <= first[1] for _ in range(100))


@pytest.mark.parametrize("twice", [True, False, None])
@pytest.mark.parametrize("on", [["error"], ["timeout"], ["error", "timeout"]])
def test_after_what_there_is_another_attempt(on: list[str], twice: bool | None) -> None:
    """What is said is what is done: each outcome that is named, for those of whom it is said."""
    policy = Policy.of({"retry": {"attempts": 2, "on": on}, "idempotent": twice}, 1)
    said = policy.again_after(twice)
    assert ("an error" in said) is policy.tries_again(ERROR, 1, "post", may_have_run=False)
    assert ("a timeout" in said) is policy.tries_again(TIMEOUT, 1, "get", may_have_run=True)
    everybody = policy.tries_again(TIMEOUT, 1, "post", may_have_run=True)
    assert ("a timeout" in said and "of a get" not in said) is everybody
    assert Policy.of({"retry": {"on": on}}, 1).again_after(twice) == ""


def test_a_gate_says_why() -> None:
    policy = Policy.of({"waves": [10, 30], "gate": {"errors": "10%"}}, 100)
    assert policy.gate_fails(1, 1) is None
    assert policy.gate_fails(1, 2) == "wave 1 failed its gate: 2 of 10 requests failed, and at most 10% may"
    assert policy.gate_fails(2, 2) is None
    assert policy.gate_fails(2, 3) == "wave 2 failed its gate: 3 of 20 requests failed, and at most 10% may"
