"""Who asks, and what they may do: roles, and the tokens by which callers over HTTP are known."""

import hashlib
import hmac
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from puppetmaster.errors import Fault, SettingsError
from puppetmaster.model.timeline import ITSELF


class Role(StrEnum):
    """What a caller may do. Each role may do what those before it may."""

    VIEWER = "viewer"  #: looks, and changes nothing
    OPERATOR = "operator"  #: creates and controls jobs, labels gateways
    ADMIN = "admin"  #: removes jobs and gateways too


_RANKS = list(Role)


class Caller(NamedTuple):
    """Who asks."""

    name: str
    role: Role

    def may(self, needed: Role) -> bool:
        """Whether the role of the caller includes ``needed``."""
        return _RANKS.index(self.role) >= _RANKS.index(needed)


#: Whoever asks over the bus.
BUS = Caller("bus", Role.ADMIN)
#: Whoever asks over HTTP where no token is set.
ANYBODY = Caller("http", Role.ADMIN)
#: Whoever has the one token of the setting ``token``.
HOLDER = Caller("token", Role.ADMIN)

#: A name of a caller.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
#: Names that a token cannot have, because they stand for somebody else.
TAKEN = frozenset({ITSELF, BUS.name, ANYBODY.name, HOLDER.name})
_DIGEST = re.compile(r"[0-9a-f]{64}")
FORM = "NAME ROLE SHA256"


def name_fault(name: str) -> str | None:
    """What is wrong with a name for a token, as a sentence; None: nothing is."""
    if NAME.fullmatch(name) is not None and name not in TAKEN:
        return None
    known = f"up to 64 letters, digits and . _ @ -, and not {', '.join(sorted(TAKEN))}"
    return f"expected a name of {known}, got '{name[:80]}'"


def digest(token: str) -> str:
    """The SHA-256 of a token, as the file of tokens has it."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Tokens:
    """The callers that a file of tokens names: a line each, ``FORM``. Empty lines, and after #, say nothing.

    Raises SettingsError: there are faults.
    """

    def __init__(self, text: str, where: str) -> None:
        self._callers: dict[str, Caller] = {}
        faults = [Fault(f"line {number}", fault) for number, fault in self._read(text)]
        if faults:
            raise SettingsError.of(where, faults)

    def __len__(self) -> int:
        return len(self._callers)

    def find(self, token: str) -> Caller | None:
        """The caller who has this token; None: nobody has. Takes the same time for every caller."""
        given, found = digest(token), None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, given):
                found = caller
        return found

    def _read(self, text: str) -> Iterator[tuple[int, str]]:
        """Take in the lines. Gives the faults, each with the number of its line."""
        roles: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 3:
                yield number, f"expected {FORM}, got {len(words)} words"
                continue
            faults = [*_faults(*words)]
            if roles.setdefault(words[0], words[1]) != words[1]:
                faults.append(f"expected one role for '{words[0]}', which was {roles[words[0]]} above")
            if words[2] in self._callers:
                faults.append("expected a token once, and this one stands above")
            yield from ((number, fault) for fault in faults)
            if not faults:
                self._callers[words[2]] = Caller(words[0], Role(words[1]))


def _faults(name: str, role: str, hashed: str) -> Iterator[str]:
    if (wrong := name_fault(name)) is not None:
        yield wrong
    if role not in _RANKS:
        yield f"expected a role of {', '.join(_RANKS)}, got '{role[:80]}'"
    if _DIGEST.fullmatch(hashed) is None:
        # What stands here may be the token itself: it is not told.
        yield "expected the token's SHA-256, 64 hexadecimal digits in small letters, got something else"
