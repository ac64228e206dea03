"""Selectors of labels, in the syntax of Kubernetes: ``site=north,model!=x,env in (a,b),!retired``.

A selector has one or more requirements, and selects labels that fulfil all of them. ``!=`` and ``notin``
select labels that lack the key too, as in Kubernetes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

#: The most characters of a name or a value, and of the prefix in front of a name.
NAME_LIMIT, PREFIX_LIMIT = 63, 253
#: The most requirements of a selector, and values in all of them: stores take no more in one question.
MOST_REQUIREMENTS, MOST_VALUES = 900, 30_000
#: The names of labels, and their values, as patterns that JSON Schema reads as Python does.
NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

_NAME, _PREFIX = re.compile(NAME), re.compile(PREFIX)
#: Everything that ends a key or a value.
_WORD = r"[^\s,()!=]+"
_ABSENT = re.compile(rf"!\s*({_WORD})")
_EQUAL = re.compile(rf"({_WORD})\s*(==|=|!=)\s*({_WORD}|)")
_AMONG = re.compile(rf"({_WORD})\s+(in|notin)\s*\(([^()]*)\)")
_PRESENT = re.compile(rf"({_WORD})")
#: A requirement ends at a comma that is not between brackets.
_PIECE = re.compile(r"(?:[^,(]|\([^)]*\)?)*")
SYNTAX = "key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)"


def key_fault(key: str) -> str | None:
    """What is wrong with the key of a label, in words that follow "expected"; None: nothing is."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= PREFIX_LIMIT and _PREFIX.fullmatch(prefix)):
        return f"before / a domain name in small letters of at most {PREFIX_LIMIT} characters"
    if not _NAME.fullmatch(name):
        return f"a name of 1 to {NAME_LIMIT} letters, digits, - _ and ., with a letter or digit at both ends"
    return None


def value_fault(value: str) -> str | None:
    """What is wrong with the value of a label, in words that follow "expected"; None: nothing is."""
    if value == "" or _NAME.fullmatch(value):
        return None
    return f"at most {NAME_LIMIT} letters, digits, - _ and ., with a letter or digit at both ends"


class Operator(StrEnum):
    """How a requirement looks at a label."""

    IN = "in"  #: its value is one of some
    NOT_IN = "notin"  #: its value is none of some, or it is not there
    PRESENT = "present"  #: it is there
    ABSENT = "absent"  #: it is not there


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a selector requires of one label."""

    key: str
    operator: Operator
    #: In order, each once. Empty: the operator takes none.
    values: tuple[str, ...] = ()

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.PRESENT:
                return value is not None
            case Operator.ABSENT:
                return value is None

    def __str__(self) -> str:
        match self.operator:
            case Operator.PRESENT:
                return self.key
            case Operator.ABSENT:
                return f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that are all to be fulfilled."""

    requirements: tuple[Requirement, ...]

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects what has these labels."""
        return all(one.fits(labels) for one in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def parse(text: str) -> Selector:
    """Read a selector. Raises ValueError: it is none; the message follows "expected"."""
    made = Selector(tuple(_requirement(piece.strip()) for piece in _pieces(text)))
    if (count := len(made.requirements)) > MOST_REQUIREMENTS:
        raise ValueError(f"at most {MOST_REQUIREMENTS} requirements, got {count}")
    if (count := sum(len(one.values) for one in made.requirements)) > MOST_VALUES:
        raise ValueError(f"at most {MOST_VALUES} values, got {count}")
    return made


def _pieces(text: str) -> Iterator[str]:
    at = 0
    while True:
        found = _PIECE.match(text, at)
        assert found is not None  # the empty text matches
        yield found[0]
        at = found.end() + 1
        if at > len(text):
            return


def _requirement(text: str) -> Requirement:
    if found := _ABSENT.fullmatch(text):
        made = Requirement(found[1], Operator.ABSENT)
    elif found := _PRESENT.fullmatch(text):
        made = Requirement(found[1], Operator.PRESENT)
    elif found := _EQUAL.fullmatch(text):
        made = Requirement(found[1], Operator.NOT_IN if found[2] == "!=" else Operator.IN, (found[3],))
    elif found := _AMONG.fullmatch(text):
        values = sorted({one.strip() for one in found[3].split(",")})
        made = Requirement(found[1], Operator(found[2]), tuple(values))
    else:
        raise ValueError(f"{SYNTAX}, got '{text[:80]}'")
    if (wrong := key_fault(made.key)) is not None:
        raise ValueError(f"as a key {wrong}, got '{made.key[:80]}'")
    for value in made.values:
        if (wrong := value_fault(value)) is not None:
            raise ValueError(f"as a value {wrong}, got '{value[:80]}'")
    return made
