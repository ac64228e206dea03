"""Long answers in parts: rows that are read while they are written out.

A job of 50,000 requests is never in memory as a whole, nor are 500 requests that share 1 MB of data; no
state of the file is kept open for a slow reader, and what another caller asks meanwhile is answered
between two parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from puppetmaster import jsoncodec
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity

#: So many rows are read at a time, fewer when their documents have so many bytes.
PART = 500
PART_BYTES = 256 * 1024
#: What counts for a list beside its rows: where it is indented its brackets are on lines of their own.
_BRACKETS = [0]


class Part(NamedTuple):
    """Rows that were read, and how many of the keys asked for they stand for, from the first on."""

    rows: list[Any]
    taken: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """The rows of a list, read part by part.

    ``total`` is how many there are before paging. ``keys`` are those to show; ``read`` makes rows of the
    first of some, as many as it likes but one at least, and leaves out those that are gone or do not fit
    any more. Each part is one state.
    """

    total: int
    keys: Sequence[int]
    read: Callable[[Sequence[int]], Part]

    def parts(self) -> Iterator[list[Any]]:
        """The rows, part by part. Raises what ``read`` raises."""
        at = 0
        while at < len(self.keys):
            rows, taken = self.read(self.keys[at : at + PART])
            at += taken
            yield rows


def ids(some: Sequence[int]) -> Chunks:
    """A list of ids, which are written out part by part too: there may be a million."""
    return Chunks(len(some), some, lambda part: Part(list(part), len(part)))


class Full(Exception):
    """What was read has more bytes than there is room for: ``rows`` of its longest list fit."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


class _Room:
    """How many bytes may still be read, as the bus counts them."""

    def __init__(self, limit: float, capacity: Capacity) -> None:
        self.limit = self.left = limit
        self._capacity = capacity

    def take(self, value: Any, depth: int) -> None:
        """``value`` stands so deep in its message. Raises Full."""
        if self.limit != float("inf"):
            self.left -= self._capacity.size(jsoncodec.encode(value), depth) + 1
        if self.left < 0:
            raise Full(0)


def whole(
    value: Any, limit: float = float("inf"), capacity: Capacity = DEFAULT_CAPACITY, depth: int = 1
) -> Any:
    """``value`` with all rows in it read. Raises Full as soon as its JSON has more than ``limit`` bytes.

    They count as ``capacity`` counts them, so deep in the message: the data of an answer is in its envelope.
    """
    return _whole(value, _Room(limit, capacity), depth)


def _whole(value: Any, room: _Room, depth: int) -> Any:
    if isinstance(value, Chunks):
        room.take(_BRACKETS, depth)
        return _whole_rows(value, room, depth + 1)
    if _has_rows(value):
        plain = {key: _BRACKETS if isinstance(child, Chunks) else child for key, child in value.items()}
        room.take(plain, depth)
        return {
            key: _whole_rows(child, room, depth + 2) if isinstance(child, Chunks) else child
            for key, child in value.items()
        }
    room.take(value, depth)
    return value


def _whole_rows(rows: Chunks, room: _Room, depth: int) -> list[Any]:
    found: list[Any] = []
    begun, largest = room.left, 1.0
    for part in rows.parts():
        for row in part:
            before = room.left
            try:
                found.append(_whole(row, room, depth))
            except Full:
                # The next pages may have larger rows: the largest that was seen counts.
                raise Full(min(len(found), int(begun // max(largest, before - room.left)))) from None
            largest = max(largest, before - room.left)
    return found


def encoded(value: Any) -> Iterator[bytes]:
    """``value`` as JSON, in pieces of moderate size. Raises what reading the rows raises.

    A row is in memory as JSON only while it is written out.
    """
    if isinstance(value, Chunks):
        yield b"["
        separator = b""
        for part in value.parts():
            if part and isinstance(part[0], int):
                yield separator + jsoncodec.encode(part)[1:-1]
                separator = b","
                continue
            for row in part:
                if _has_rows(row):
                    yield separator
                    yield from encoded(row)
                else:
                    yield separator + jsoncodec.encode(row)
                separator = b","
        yield b"]"
    elif _has_rows(value):
        separator = b"{"
        for key, child in value.items():
            yield separator + jsoncodec.encode(key) + b":"
            yield from encoded(child)
            separator = b","
        yield b"}"
    else:
        yield jsoncodec.encode(value)


def _has_rows(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(child, Chunks) for child in value.values())
