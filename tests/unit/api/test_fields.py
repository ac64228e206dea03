"""What each property may be, and the words in which a fault is told."""

import difflib
import math
from typing import Any

import pytest
import voluptuous as vol

from puppetmaster.api import fields, kinds
from puppetmaster.errors import FAULTS_SHOWN, HINTS, Fault

ITEM = {"method": "post", "resource": "/system/reboot"}
#: What no property takes but those that take anything.
ODD: list[Any] = [[], {}, [1], {"a": 1}]


def _said(schema: vol.Schema, name: str, value: Any) -> list[tuple[str, str]]:
    """What is wrong with this property, beside others that are missing."""
    found = fields.faults(schema, {name: value})
    return [(path, message) for path, message in found if path.split(".")[0] == name]


LABELS: list[Any] = [None, "a", "Nächtlicher Neustart \U0001f600"]
NO_LABELS = ["", 5, True, "a\0b", "\ud800", *ODD]
CODE = "a code of three digits, which makes it an event"
NO_CODES = [99, 1000, 200.5, True, "200", math.nan, *ODD]


@pytest.mark.parametrize(
    ("schema", "name", "expected", "takes", "refuses"),
    [
        (
            fields.JOB,
            "timeout",
            'seconds, from 0.001 to 1000000000, "infinity" or null',
            [0.001, 1, 60.5, 10**9, None, "infinity"],
            [
                *(0, -1, 10**9 + 1, 10**400, math.nan, math.inf, True, False),
                *("60", "Infinity", "", [], [60], {}),
            ],
        ),
        (fields.JOB, "name", "1 to 128 characters", [*LABELS, "a" * 128], [*NO_LABELS, "a" * 129]),
        (fields.JOB, "key", "1 to 255 characters", [*LABELS, "a" * 255], [*NO_LABELS, "a" * 256]),
        (fields.JOB, "batch", "a list of at least one item", [], [[], {}, None, "a", 1]),
        (
            fields.ITEM,
            "method",
            "get, post, put or delete",
            ["get", "dElEtE"],
            ["", "patch", "get ", "gét", "\0", "\ud800", None, 1, True, *ODD],
        ),
        (
            fields.ITEM,
            "resource",
            "a string that begins with / of at most 1023 bytes that the bus can carry",
            ["/", "/system/reboot", "/a?b=c&d=/e", "/ä", "/" + "a" * 1022, "/" + "ä" * 511],
            [
                *("", "system", " /a", "/" + "a" * 1023, "/" + "ä" * 512, "/a\0", "/\ud800", None, 1, True),
                *ODD,
            ],
        ),
        (fields.ITEM, "code", CODE, [100, 999, 200.0, None], NO_CODES),
        (fields.COMPAT_MESSAGE, "code", CODE, [100, 999, 200.0, None], NO_CODES),
        (fields.ITEM, "__request", "an object", [], [None, 1, "cg-1", [], ["cg-1"]]),
    ],
)
def test_a_property_takes_what_its_words_say(
    schema: vol.Schema, name: str, expected: str, takes: list[Any], refuses: list[Any]
) -> None:
    assert [value for value in takes if _said(schema, name, value)] == []
    for value in refuses:
        said = f"expected {expected}, got {kinds.shown(value)}"
        assert _said(schema, name, value) == [(name, said)]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("concurency", "; did you mean 'concurrency'?"),
        ("Batch", "; did you mean 'batch'?"),
        ("requesttimeout", "; did you mean 'requestTimeout'?"),
        ("zzz", ""),
        ("retri", "; did you mean 'retry'?"),
    ],
)
def test_an_unknown_property_is_named(name: str, hint: str) -> None:
    assert fields.faults(fields.JOB, {"batch": [1], name: 1}) == [Fault(name, f"unknown property{hint}")]


@pytest.mark.parametrize("name", ["\0", "\ud800", "a" * 1000, 'a"b', "é", "a\nb"])
def test_an_unknown_property_can_be_named_in_an_answer(name: str) -> None:
    (fault,) = fields.faults(fields.ITEM, {**ITEM, name: 1}, "batch[0]")
    assert fault.path.startswith("batch[0].")
    assert len(fault.path) < 100
    assert fault.path.isascii()
    assert fault.path.isprintable()


@pytest.mark.parametrize("where", ["top", "retry"])
def test_of_very_many_misspelt_properties_few_are_looked_at(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    close = difflib.get_close_matches

    def counted(name: str, *rest: Any) -> list[str]:
        asked.append(name)
        return close(name, *rest)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    many = {f"concurency{number}": 5 for number in range(20_000)}
    body: dict[str, Any] = {"batch": [1], "name": "", "retry": {"attempts": 0}}
    body = {**many, **body} if where == "top" else {**body, "retry": {**many, "attempts": 0}}
    found = fields.faults(fields.JOB, body)
    assert (len(found), found.total) == (FAULTS_SHOWN, 20_002)
    assert len(asked) <= HINTS
    shown = {fault.path for fault in found}
    assert ("concurency0" if where == "top" else "retry.concurency0") in shown
    assert "retry.attempts" in shown


def test_data_may_have_as_many_properties_as_it_likes() -> None:
    data = {f"any{number}": 5 for number in range(FAULTS_SHOWN * 2)}
    for schema, body in ((fields.ITEM, {**ITEM, "data": data}), (fields.JOB_COMPAT, {"message": data})):
        found = fields.faults(schema, body)
        assert found.total == len(found) == (schema is fields.JOB_COMPAT), "destinations are missing there"


def test_a_list_of_a_few_words_is_not_endless() -> None:
    assert _said(fields.JOB, "retry", {"on": ["error"] * kinds.MOST_NAMES}) == []
    assert _said(fields.JOB, "retry", {"on": ["error"] * (kinds.MOST_NAMES + 1)}) != []
