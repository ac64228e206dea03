"""Long answers: read part by part, only as far as there is room, and never more than a part of them."""

from collections.abc import Sequence
from typing import Any

import pytest

from puppetmaster import jsoncodec
from puppetmaster.api.pages import PART, Chunks, Full, Part, encoded, ids, whole
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity


class Source:
    """Rows of so many bytes each, and how many were read."""

    def __init__(self, total: int, size: int) -> None:
        self.total = total
        self.size = size
        self.read = 0

    def rows(self, part: int = PART) -> Chunks:
        def read(keys: Sequence[int]) -> Part:
            self.read += min(part, len(keys))
            return Part([{"n": key, "data": "x" * self.size} for key in keys[:part]], min(part, len(keys)))

        return Chunks(self.total, range(self.total), read)


def test_what_fits_is_read_whole() -> None:
    source = Source(3, 10)
    wanted = [{"n": key, "data": "x" * 10} for key in range(3)]
    assert whole({"id": 1, "requests": source.rows(2)}, 1000) == {"id": 1, "requests": wanted}
    assert whole({"id": 1}, 1000) == {"id": 1}
    assert whole(ids(range(3)), 1000) == [0, 1, 2]


@pytest.mark.parametrize("within", [lambda rows: rows, lambda rows: {"id": 1, "requests": rows}])
def test_reading_ends_with_the_part_that_does_not_fit(within: Any) -> None:
    source = Source(1_000_000, 1000)
    with pytest.raises(Full) as full:
        whole(within(source.rows(10)), 100_000)
    assert source.read <= 110
    assert 90 <= full.value.rows < 100
    fitting = Source(full.value.rows, 1000)
    assert len(whole(fitting.rows(), 100_000)) == full.value.rows


def test_the_pages_that_are_proposed_hold_rows_as_large_as_the_largest_that_was_seen() -> None:
    sizes = [10] * 50 + [20_000] * 50
    rows = Chunks(100, range(100), lambda keys: Part([{"data": "x" * sizes[key]} for key in keys], len(keys)))
    with pytest.raises(Full) as full:
        whole(rows, 100_000)
    assert full.value.rows == 4


def test_a_list_of_a_million_ids_is_read_no_further_than_it_fits() -> None:
    asked: list[int] = []

    class Ids(Sequence[int]):
        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, place: Any) -> Any:
            asked.append(place.stop)
            return list(range(*place.indices(1_000_000)))

    with pytest.raises(Full):
        whole({"id": 1, "requests": ids(Ids())}, 10_000)
    assert max(asked) <= 10 * PART


@pytest.mark.parametrize("capacity", [DEFAULT_CAPACITY, Capacity(100_000)])
@pytest.mark.parametrize(
    "within",
    [
        lambda rows: rows,
        lambda rows: {"id": 1, "requests": rows},
        lambda rows: {"id": 1, "requests": ids(range(40)), "collection": rows},
        lambda rows: Chunks(2, [1, 2], lambda keys: Part([{"id": 1, "collection": rows} for _ in keys], 2)),
    ],
)
def test_bytes_are_counted_as_the_bus_counts_them(within: Any, capacity: Capacity) -> None:
    """Where they are short and deep most of what a broker carries is the controller's indentation."""
    size = capacity.size(jsoncodec.encode(whole(within(Source(40, 1).rows()))), depth=1)
    assert whole(within(Source(40, 1).rows()), size + 100, capacity)
    with pytest.raises(Full):
        whole(within(Source(40, 1).rows()), size - 1, capacity)


def test_rows_that_share_data_are_written_out_one_by_one() -> None:
    shared = {"image": "x" * 100_000}
    rows = Chunks(50, range(50), lambda keys: Part([{"data": shared} for _ in keys], len(keys)))
    assert max(map(len, encoded({"id": 1, "requests": rows}))) < 110_000


def test_a_read_may_take_less_than_it_was_asked_for() -> None:
    source = Source(7, 1)
    assert [row["n"] for row in whole(source.rows(3))] == list(range(7))
