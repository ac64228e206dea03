"""How a fault shows a value, and what kinds a property can have."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.api import kinds
from puppetmaster.api.fields import Field, faults, schema


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


@pytest.mark.parametrize(
    ("kind", "takes", "refuses"),
    [
        (kinds.whole(2, 4), [2, 4, 3.0], [1, 5, 2.5, True, "2"]),
        (kinds.number(0.5, 4), [0.5, 4], [0.4, 4.1, True, "1"]),
        (kinds.text(3), ["a", "abc"], ["", "abcd", "a\0", 5, None]),
        (kinds.one_of(("a", "b")), ["a", "b"], ["c", None, ["a"]]),
        (kinds.some_of(("a", "b")), [["a"], ["b", "a", "a"]], [[], ["c"], "a", {"a": 1}]),
    ],
)
def test_a_kind_takes_what_its_words_say(
    kind: kinds.Kind, takes: list[object], refuses: list[object]
) -> None:
    one = schema([Field(name="it", kind=kind)])
    assert [value for value in takes if faults(one, {"it": value})] == []
    for value in refuses:
        ((path, said),) = faults(one, {"it": value})
        assert (path, said) == ("it", f"expected {kind.expected}, got {kinds.shown(value)}")
