"""The values that pass through the port."""

import pytest

from puppetmaster.store.base import Changes, Ids


@pytest.mark.parametrize("part", ["jobs", "items", "requests", "deleted", "ids"])
def test_any_part_makes_changes(part: str) -> None:
    given = Ids() if part == "ids" else {1: object()}
    assert Changes(**{part: given})  # type: ignore[arg-type]
