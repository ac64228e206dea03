"""Long answers in parts: rows that are read while they are written out.

A job of 50,000 requests is never in memory as a whole, no state of the file is kept open for a
slow reader, and what another caller asks meanwhile is answered between two parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from puppetmaster import wire

#: So many rows are read at a time.
PART = 500


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a list, read part by part.

    ``total`` is how many there are before paging. ``keys`` are those to show; ``read`` makes rows of
    some of them, and leaves out those that are gone or do not fit any more. Each part is one state.
    """

    total: int
    keys: Sequence[int]
    read: Callable[[Sequence[int]], list[Any]]

    def parts(self) -> Iterator[list[Any]]:
        """The rows, part by part. Raises what ``read`` raises."""
        for start in range(0, len(self.keys), PART):
            yield self.read(self.keys[start : start + PART])


def whole(value: Any) -> Any:
    """``value`` with all rows in it read."""
    if isinstance(value, Rows):
        return [whole(row) for part in value.parts() for row in part]
    if isinstance(value, dict):
        return {key: whole(child) if isinstance(child, Rows) else child for key, child in value.items()}
    return value


def encoded(value: Any) -> Iterator[bytes]:
    """``value`` as JSON, in pieces of moderate size. Raises what reading the rows raises."""
    if isinstance(value, Rows):
        yield b"["
        separator = b""
        for part in value.parts():
            if part and not _has_rows(part[0]):
                yield separator + wire.encode(part)[1:-1]
                separator = b","
                continue
            for row in part:
                yield separator
                yield from encoded(row)
                separator = b","
        yield b"]"
    elif _has_rows(value):
        separator = b"{"
        for key, child in value.items():
            yield separator + wire.encode(key) + b":"
            yield from encoded(child)
            separator = b","
        yield b"}"
    else:
        yield wire.encode(value)


def _has_rows(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(child, Rows) for child in value.values())
