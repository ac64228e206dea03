"""What each property may be, and the words in which a fault is told."""

import difflib
import math
from typing import Any

import pytest
import voluptuous as vol

from puppetmaster.api import fields, kinds
from puppetmaster.errors import FAULTS_SHOWN, HINTS, Fault

SECONDS = "seconds, from 0.001 to 1000000000"
ITEM = {"method": "post", "resource": "/system/reboot"}
#: What no property takes but those that take anything.
ODD: list[Any] = [[], {}, [1], {"a": 1}]


def _said(schema: vol.Schema, name: str, value: Any) -> list[tuple[str, str]]:
    """What is wrong with this property, beside others that are missing."""
    found = fields.faults(schema, {name: value})
    return [(path, message) for path, message in found if path.split(".")[0] == name]


def _accepts(schema: vol.Schema, name: str, value: Any) -> bool:
    return not _said(schema, name, value)


# The properties of a job


@pytest.mark.parametrize("value", [0.001, 1, 60.5, 10**9, None, "infinity"])
def test_timeout_takes(value: Any) -> None:
    assert _accepts(fields.JOB, "timeout", value)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (0, "0"),
        (-1, "-1"),
        (10**9 + 1, "1000000001"),
        (10**400, "1" + "0" * 39),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (True, "true"),
        (False, "false"),
        ("60", "'60'"),
        ("Infinity", "'Infinity'"),
        ("", "''"),
        ([], "an empty list"),
        ([60], "a list"),
        ({}, "an object"),
    ],
)
def test_timeout_refuses(value: Any, got: str) -> None:
    expected = f'expected {SECONDS}, "infinity" or null, got {got}'
    assert _said(fields.JOB, "timeout", value) == [("timeout", expected)]


@pytest.mark.parametrize(("name", "limit"), [("name", 128), ("key", 255)])
def test_labels(name: str, limit: int) -> None:
    for value in (None, "a", "a" * limit, "Nächtlicher Neustart \U0001f600"):
        assert _accepts(fields.JOB, name, value)
    for value, got in [
        ("", "''"),
        ("a" * (limit + 1), "'" + "a" * 77 + "...'"),
        (5, "5"),
        (True, "true"),
        ("a\0b", "'a\\\\0b'"),
        ("\ud800", "'\\ud800'"),
        *[(odd, kinds.shown(odd)) for odd in ODD],
    ]:
        said = f"expected 1 to {limit} characters, got {got}"
        assert _said(fields.JOB, name, value) == [(name, said)]


@pytest.mark.parametrize(
    ("value", "got"), [([], "an empty list"), ({}, "an object"), (None, "null"), ("a", "'a'"), (1, "1")]
)
def test_batch_refuses(value: Any, got: str) -> None:
    said = f"expected a list of at least one item, got {got}"
    assert _said(fields.JOB, "batch", value) == [("batch", said)]


# The properties of an item


@pytest.mark.parametrize("method", ["", "patch", "get ", "gét", "\0", "\ud800", None, 1, True, *ODD])
def test_method_refuses(method: Any) -> None:
    said = f"expected get, post, put or delete, got {kinds.shown(method)}"
    assert _said(fields.ITEM, "method", method) == [("method", said)]


@pytest.mark.parametrize(
    "resource", ["/", "/system/reboot", "/a?b=c&d=/e", "/ä", "/" + "a" * 1022, "/" + "ä" * 511]
)
def test_resource_takes(resource: str) -> None:
    assert _accepts(fields.ITEM, "resource", resource)


@pytest.mark.parametrize(
    "resource",
    [*("", "system", " /a", "/" + "a" * 1023, "/" + "ä" * 512, "/a\0", "/\ud800", None, 1, True), *ODD],
)
def test_resource_refuses(resource: Any) -> None:
    ((path, message),) = _said(fields.ITEM, "resource", resource)
    assert path == "resource"
    expected = "expected a string that begins with / of at most 1023 bytes that the bus can carry, got "
    assert message == expected + kinds.shown(resource)


@pytest.mark.parametrize("schema", [fields.ITEM, fields.COMPAT_MESSAGE])
@pytest.mark.parametrize("code", [99, 1000, 200.5, True, "200", math.nan, *ODD])
def test_code_refuses(schema: vol.Schema, code: Any) -> None:
    said = f"expected a code of three digits, which makes it an event, got {kinds.shown(code)}"
    assert _said(schema, "code", code) == [("code", said)]


@pytest.mark.parametrize("value", [None, 1, "cg-1", [], ["cg-1"]])
def test_the_request_of_an_item_is_an_object(value: Any) -> None:
    said = f"expected an object, got {kinds.shown(value)}"
    assert _said(fields.ITEM, "__request", value) == [("__request", said)]


# All of it


@pytest.mark.parametrize(
    ("schema", "required"),
    [
        (fields.JOB, []),  # either batch or rerun, which api/bodies.py sees to
        (fields.ITEM, ["method", "resource"]),
        (fields.COMPAT_MESSAGE, ["method", "resource"]),
        (fields.JOB_COMPAT, ["destinations", "message"]),
        (fields.REQUEST, ["destination", "message"]),
    ],
)
def test_what_is_required(schema: vol.Schema, required: list[str]) -> None:
    found = fields.faults(schema, {}, "at")
    assert sorted(found) == [Fault(f"at.{name}", "expected this property, got none") for name in required]


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
    assert _accepts(fields.JOB, "retry", {"on": ["error"] * kinds.MOST_NAMES})
    assert not _accepts(fields.JOB, "retry", {"on": ["error"] * (kinds.MOST_NAMES + 1)})
