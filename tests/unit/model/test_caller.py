"""Roles, and the file of tokens."""

import pytest

from puppetmaster.errors import SettingsError
from puppetmaster.model.caller import Caller, Role, Tokens, digest

FILE = f"""
# who           role      SHA-256
ann             operator  {digest("ann's")}   # since March
lab@site-2.x_y  viewer    {digest("lab's")}
ann             operator  {digest("ann's next")}
"""


def test_a_role_may_what_those_before_it_may() -> None:
    may = {role: [needed for needed in Role if Caller("x", role).may(needed)] for role in Role}
    assert may == {"viewer": ["viewer"], "operator": ["viewer", "operator"], "admin": list(Role)}


def test_a_token_is_known_by_its_digest() -> None:
    tokens = Tokens(FILE, "here")
    assert len(tokens) == 3
    assert tokens.find("ann's") == tokens.find("ann's next") == Caller("ann", Role.OPERATOR)
    assert tokens.find("lab's") == Caller("lab@site-2.x_y", Role.VIEWER)
    for wrong in ("", "ann", digest("ann's"), "ann's\0", "\ud800"):
        assert tokens.find(wrong) is None


def test_an_empty_file_lets_nobody_in() -> None:
    assert Tokens("# nobody\n\n", "here").find("") is None


def test_every_fault_is_named_at_once_and_no_token_is_shown() -> None:
    text = "\n".join(
        [
            "ann operator",
            f"bus viewer {digest('1')}",
            "eve root pm_secret-that-was-put-here",
            f"bob viewer {digest('2')}",
            f"bob admin {digest('3')}",
            f"tom viewer {digest('2')}",
            f"a b c {digest('4')}",
        ]
    )
    with pytest.raises(SettingsError) as told:
        Tokens(text, "PUPPETMASTER_TOKENS: file")
    said = told.value.message
    assert said.startswith(
        "PUPPETMASTER_TOKENS: file: line 1: expected NAME ROLE SHA256, got 2 words; line 2:"
    )
    assert [said.count(f"line {number}:") for number in range(1, 8)] == [1, 1, 2, 0, 1, 1, 1]
    assert "expected one role for 'bob', which was viewer above" in said
    assert "expected a role of viewer, operator, admin, got 'root'" in said
    assert "pm_secret" not in said


def test_of_very_many_faults_the_first_hundred_are_named() -> None:
    with pytest.raises(SettingsError, match=r"; line 100: .*, got 1 words; and 9900 more\.$") as told:
        Tokens("ann\n" * 10_000, "file")
    assert told.value.message.count("line") == 100
