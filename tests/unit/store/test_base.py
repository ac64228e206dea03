"""The values that pass through the port."""

from dataclasses import fields

import pytest

from puppetmaster.store.base import Changes, Ids, Keep, Look, Now

#: What goes with other parts, and changes nothing by itself.
BESIDE = {"refused", "dropped", "completed", "destinations", "learned"}


@pytest.mark.parametrize("part", [one.name for one in fields(Changes) if one.name not in BESIDE])
def test_any_part_makes_changes(part: str) -> None:
    given = Ids() if part == "ids" else {1: object()}
    assert Changes(**{part: given})  # type: ignore[arg-type]


def test_a_look_that_has_not_seen_all_is_not_over() -> None:
    """Nothing to give away is no end: the next part may have something."""
    look = Look(Keep(jobs=1, age_s=1.0, bytes=1), Now(0.0))
    assert not look.over
    look.take((), 5, complete=True)
    assert look.over
