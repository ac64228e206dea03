"""How long a request waits that the controller did not pass on."""

import pytest

from puppetmaster.engine.backoff import FIRST_DELAY_S, LAST_DELAY_S, Backoff


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance draws the longest wait each time."""
    monkeypatch.setattr("random.uniform", lambda _, high: high)


@pytest.mark.usefixtures("most")
def test_each_wait_in_a_row_is_twice_as_long_up_to_the_last() -> None:
    refusals = Backoff()
    waited = [refusals.add(1, 423) for _ in range(100)]
    assert [delay_s for _, delay_s in waited] == [
        min(FIRST_DELAY_S * 2.0**number, LAST_DELAY_S) for number in range(100)
    ]
    assert [so_far_s for so_far_s, _ in waited] == pytest.approx(
        [sum(delay_s for _, delay_s in waited[:number]) for number in range(100)]
    )
    assert (FIRST_DELAY_S, LAST_DELAY_S) == (0.02, 2.0)


@pytest.mark.usefixtures("most")
def test_each_request_has_its_own_row_which_ends_when_it_was_tried() -> None:
    refusals = Backoff()
    for _ in range(2):
        refusals.add(1, 423)
    assert refusals.add(2, 503) == (0.0, FIRST_DELAY_S)
    refusals.forget(1)
    refusals.forget(3)
    assert refusals.add(1, 423) == (0.0, FIRST_DELAY_S)
    assert refusals.counts == {423: 3, 503: 1}


def test_waits_differ_so_that_not_all_come_back_at_once() -> None:
    refusals = Backoff()
    waits_s = {refusals.add(id_, 423)[1] for id_ in range(1000)}
    assert len(waits_s) > 900
    assert FIRST_DELAY_S / 2 <= min(waits_s) < 0.55 * FIRST_DELAY_S
    assert 0.95 * FIRST_DELAY_S < max(waits_s) <= FIRST_DELAY_S
