"""Long answers in parts: their rows are read while they are sent.

So a job of 50,000 requests is never in memory as a whole, nor are 500 requests that share 1 MB of data. No
state of the file is kept open for a slow client, and other callers are answered between two parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from puppetmaster import jsoncodec
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity

#: Most rows that are read at once, and about the most bytes of their documents.
PART = 500
PART_BYTES = 256 * 1024
#: A list is counted as this beside its rows: if it is indented, its brackets are on lines of their own.
_BRACKETS = [0]


class Part(NamedTuple):
    """Some rows of a list."""

    rows: list[Any]
    #: How many keys were looked up for them. Keys without a row are skipped.
    taken: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """The rows of a list, which are read part by part. Each part is one state of the store."""

    #: Number of rows before paging.
    total: int
    #: The keys of the rows on this page, such as ids or names.
    keys: Sequence[Any]
    #: Reads the rows of the first of some keys: of one key at least. It skips rows that are gone, or that do
    #: not fit the filter any more.
    read: Callable[[Sequence[Any]], Part]

    def parts(self) -> Iterator[list[Any]]:
        """The rows, part by part. Raises what ``read`` raises."""
        at = 0
        while at < len(self.keys):
            rows, taken = self.read(self.keys[at : at + PART])
            at += taken
            yield rows


def ids(some: Sequence[int]) -> Chunks:
    """A list of ids, in parts too: there may be a million."""
    return Chunks(len(some), some, lambda part: Part(list(part), len(part)))


class Full(Exception):
    """An answer has more bytes than it may have. ``rows`` of its longest list would fit."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


class _Room:
    """The bytes that an answer may still have, as the bus counts them."""

    def __init__(self, limit: float, capacity: Capacity) -> None:
        self.limit = self.left = limit
        self._capacity = capacity

    def take(self, value: Any, depth: int) -> None:
        """Count a value that is nested ``depth`` levels deep in its message. Raises Full."""
        if self.limit != float("inf"):
            self.left -= self._capacity.size(jsoncodec.encode(value), depth) + 1
        if self.left < 0:
            raise Full(0)


def whole(value: Any, limit: float = float("inf"), capacity: Capacity = DEFAULT_CAPACITY) -> Any:
    """``value`` with all its rows read. Raises Full as soon as its JSON has more than ``limit`` bytes.

    Bytes are counted as ``capacity`` says, for the data of an answer: one level deep in its message.
    """
    return _whole(value, _Room(limit, capacity), 1)


def _whole(value: Any, room: _Room, depth: int) -> Any:
    if isinstance(value, Chunks):
        room.take(_BRACKETS, depth)
        return _whole_rows(value, room, depth + 1)
    if has_rows(value):
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
                # Later pages may have larger rows, so the largest row that was seen counts.
                raise Full(min(len(found), int(begun // max(largest, before - room.left)))) from None
            largest = max(largest, before - room.left)
    return found


def encoded(value: Any) -> Iterator[bytes]:
    """``value`` as JSON, in pieces of moderate size. Raises what the reading of its rows raises.

    The JSON of a row is in memory only while it is sent.
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
                if has_rows(row):
                    yield separator
                    yield from encoded(row)
                else:
                    yield separator + jsoncodec.encode(row)
                separator = b","
        yield b"]"
    elif has_rows(value):
        separator = b"{"
        for key, child in value.items():
            yield separator + jsoncodec.encode(key) + b":"
            yield from encoded(child)
            separator = b","
        yield b"}"
    else:
        yield jsoncodec.encode(value)


def has_rows(value: Any) -> bool:
    """Whether this is an object with a list whose rows are read part by part."""
    return isinstance(value, dict) and any(isinstance(child, Chunks) for child in value.values())
