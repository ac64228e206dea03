"""Ranges of names: `cg-[001-200]` stands for two hundred gateways."""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod

MOST_NAMES = 100_000  # most names of one pattern: more is a typing error, not a fleet

_RANGE = re.compile(r"\[(0x)?([0-9a-fA-F]+)-(0x)?([0-9a-fA-F]+)\]")
_FORBIDDEN = re.compile(r"[\[\]/?#+\s\x00-\x1f\x7f]")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL)


def expand(pattern: str) -> list[str]:
    """The names that `pattern` stands for, in order. A pattern without a range stands for itself.

    A range is `[first-last]`, both included. Bounds of equal length keep their zeros (`[001-200]`);
    bounds of unequal length must have none in front (`[1-200]`). A range counts in hexadecimal when
    one of its bounds has a digit a to f (`[01-ff]`) or when both are written with `0x`, which is not part of
    the names (`[0x09-0x10]`: 09, 0a .. 0f, 10). Digits are upper case if the bounds' are. With several
    ranges in one pattern the last one counts fastest.

    Raises:
        ValueError: it is no pattern, stands for more than MOST_NAMES names, or for impossible names.
    """
    literals: list[str] = []
    ranges: list[tuple[range, str]] = []
    end = 0
    for match in _RANGE.finditer(pattern):
        literals.append(pattern[end : match.start()])
        ranges.append(_counter(match))
        end = match.end()
    literals.append(pattern[end:])
    if _FORBIDDEN.search("".join(literals)) or not pattern:
        raise ValueError(
            "expected a name or a pattern such as cg-[001-200], without / ? # + and white space, "
            f"got {pattern!r}"
        )
    count = prod(numbers.stop - numbers.start for numbers, _ in ranges)
    if count > MOST_NAMES:
        raise ValueError(f"{pattern!r}: expected at most {MOST_NAMES} names, got {count}; use smaller ranges")
    return [_joined(literals, words) for words in product(*(_words(*each) for each in ranges))]


def expand_all(patterns: Iterable[str]) -> list[str]:
    """The names of all patterns, in order. A name that comes twice is kept once, at its first place."""
    return list(dict.fromkeys(name for pattern in patterns for name in expand(pattern)))


def fold(names: Iterable[str]) -> list[str]:
    """Patterns for `names`: neighbours whose last decimal digits count up by one share a range.

    The inverse of expand_all for names without repetition. Hexadecimal ranges are never made.
    """
    runs: list[tuple[str, str, str]] = []  # text before the number, first number, last number
    for name in names:
        match = _NUMBERED.fullmatch(name)
        head, number = match.groups() if match else (name, "")
        if runs and number and runs[-1][0] == head and _follows(*runs[-1][1:], number):
            runs[-1] = (head, runs[-1][1], number)
        else:
            runs.append((head, number, number))
    return [head + first if first == last else f"{head}[{first}-{last}]" for head, first, last in runs]


def _counter(match: re.Match[str]) -> tuple[range, str]:
    """The numbers of one range, and the format string that writes one. Raises ValueError: a wrong range."""
    explicit, first, explicit_last, last = match.groups()
    if bool(explicit) != bool(explicit_last):
        raise ValueError(f"{match.group()}: expected 0x before both bounds or before none")
    padded = _padded(first) or _padded(last)
    if padded and len(first) != len(last):
        raise ValueError(f"{match.group()}: expected bounds of equal length, since one of them begins with 0")
    letters = {digit for digit in first + last if digit.isalpha()}
    upper = any(letter.isupper() for letter in letters)
    if upper and any(letter.islower() for letter in letters):
        raise ValueError(f"{match.group()}: expected digits of one case, got upper and lower")
    base, kind = (16, "X" if upper else "x") if explicit or letters else (10, "d")
    numbers = range(int(first, base), int(last, base) + 1)
    if not numbers:
        raise ValueError(f"{match.group()}: expected the smaller bound first")
    return numbers, f"0{len(first)}{kind}" if padded else kind


def _words(numbers: range, form: str) -> Iterator[str]:
    return (format(number, form) for number in numbers)


def _joined(literals: list[str], words: tuple[str, ...]) -> str:
    return literals[0] + "".join(word + literal for word, literal in zip(words, literals[1:], strict=True))


def _follows(first: str, last: str, number: str) -> bool:
    """Whether `number` may extend the range from `first` to `last`, so that expand writes it the same way."""
    if not last or int(number) != int(last) + 1:
        return False
    return len(number) == len(first) or not any(_padded(each) for each in (first, number))


def _padded(number: str) -> bool:
    return len(number) > 1 and number.startswith("0")
