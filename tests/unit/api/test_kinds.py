"""How a fault shows a value, and what kinds a property can have."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.api import kinds


@given(st.text(st.characters(exclude_categories=())))
def test_quoted_is_short_printable_ascii_in_quotes(text: str) -> None:
    shown = kinds.quoted(text)
    assert shown.startswith("'")
    assert shown.endswith("'")
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 12 * 80 + 2
    assert jsoncodec.faults(shown, "") == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0, "0"), (-1, "-1"), (10**9 + 1, "1000000001"), (10**400, "1" + "0" * 39)),
        *((math.nan, "nan"), (math.inf, "inf"), (True, "true"), (False, "false"), (None, "null")),
        *(("60", "'60'"), ("", "''"), ("a\0b", "'a\\\\0b'"), ("\ud800", "'\\ud800'")),
        *(("a" * 80, "'" + "a" * 80 + "'"), ("a" * 81, "'" + "a" * 77 + "...'")),
        *(([], "an empty list"), ([60], "a list"), ({}, "an object")),
    ],
)
def test_a_value_is_shown_shortly(value: object, shown: str) -> None:
    assert kinds.shown(value) == shown
