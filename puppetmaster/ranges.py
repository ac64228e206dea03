"""Ranges of names: `cg-[001-200]` stands for two hundred gateways."""

import re
from collections.abc import Iterable, Iterator
from itertools import product

SHOWN = 80  # most characters of a pattern in an error
MOST_NAMES = 100_000  # most names of one pattern: more is a typing error, not a fleet

_RANGE = re.compile(r"\[(0x)?([0-9a-fA-F]{1,100})-(0x)?([0-9a-fA-F]{1,100})\]")
#: What looks like a range, and not like the ``[..]`` of a pattern, which stands for one character.
LIKE_A_RANGE = re.compile(r"\[([0-9A-Za-z]{2,}-[0-9A-Za-z]+|[0-9A-Za-z]+-[0-9A-Za-z]{2,})\]")
_FORBIDDEN = re.compile(r"[\[\]/?#+\s\x00-\x1f\x7f]")
#: How the end of a name may count: decimal, or, for a byte or a MAC address, in hexadecimal of one case.
_COUNTED = {
    "d": re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL),
    "x": re.compile(r"((?:.*[^0-9A-Za-z])?)([0-9a-f]{2}|[0-9a-f]{12})", re.DOTALL),
    "X": re.compile(r"((?:.*[^0-9A-Za-z])?)([0-9A-F]{2}|[0-9A-F]{12})", re.DOTALL),
}
_DECIMAL, _HEXADECIMAL = "0123456789", "0123456789abcdefABCDEF"


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
            f"got {pattern[:SHOWN]!r}"
        )
    count = 1
    for numbers, _ in ranges:
        count *= numbers.stop - numbers.start
        if count > MOST_NAMES:
            most = f"expected at most {MOST_NAMES} names, got {count} or more; use smaller ranges"
            raise ValueError(f"{pattern[:SHOWN]!r}: {most}")
    return [_joined(literals, words) for words in product(*(_words(*each) for each in ranges))]


def expand_all(patterns: Iterable[str]) -> list[str]:
    """The names of all patterns, in order. A name that comes twice is kept once, at its first place."""
    return list(dict.fromkeys(name for pattern in patterns for name in expand(pattern)))


def fold(names: Iterable[str]) -> list[str]:
    """Patterns for `names`: neighbours whose ends count up by one share a range.

    An end counts as a decimal number, or in hexadecimal where it is a byte or a MAC address by itself
    (`00:0c:29:1c:e8:0a`, `cg-000c291ce80a`). The inverse of expand_all for names without repetition.
    """
    runs: list[_Run] = []
    for name in names:
        if not runs or not runs[-1].take(name):
            runs.append(_Run(name))
    return [pattern for run in runs for pattern in run.patterns()]


def ordered(names: Iterable[str]) -> list[str]:
    """The names in the order in which `fold` makes few patterns of them: cg-9 comes before cg-10."""
    return sorted(names, key=_place)


def _place(name: str) -> tuple[str, int, str]:
    """What the name is before its end that counts, then how long it is."""
    head = name.rstrip(_DECIMAL)
    for digits in (2, 12):  # a byte or a MAC address, as in _COUNTED
        before = name[:-digits]
        if not before[-1:].isalnum() and not name[-digits:].strip(_HEXADECIMAL):
            head = before
    return head, len(name), name


class _Run:
    """Names that count up, in each of the ``forms`` that still fit: as ``{form: (head, first, last)}``."""

    def __init__(self, name: str) -> None:
        self._first = self._last = name
        self._forms = {
            form: (match[1], match[2], match[2])
            for form, end in _COUNTED.items()
            if (match := end.fullmatch(name))
        }

    def take(self, name: str) -> bool:
        """Whether ``name`` comes next; then it belongs to the run."""
        fits = {}
        for form, (head, first, last) in self._forms.items():
            match = _COUNTED[form].fullmatch(name)
            if match and match[1] == head and _follows(first, last, match[2], form):
                fits[form] = (head, first, match[2])
        if fits:
            self._forms, self._last = fits, name
        return bool(fits)

    def patterns(self) -> list[str]:
        """One pattern, or two where hexadecimal bounds without a letter would be read as decimal."""
        if self._first == self._last:
            return [self._first]
        form, (head, first, last) = next(iter(self._forms.items()))
        if form == "d" or not (first + last).isdigit():
            return [f"{head}[{first}-{last}]"]
        end = int(last, 16) // 16 * 16  # before it stands a number that ends with f
        before, there = (format(number, f"0{len(last)}{form}") for number in (end - 1, end))
        return [f"{head}[{first}-{before}]", head + (last if there == last else f"[{there}-{last}]")]


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


def _follows(first: str, last: str, number: str, form: str) -> bool:
    """Whether `number` may extend the range from `first` to `last`, so that expand writes it the same way."""
    base = 10 if form == "d" else 16
    if int(number, base) != int(last, base) + 1:
        return False
    return len(number) == len(first) or (base == 10 and not any(_padded(each) for each in (first, number)))


def _padded(number: str) -> bool:
    return len(number) > 1 and number.startswith("0")
