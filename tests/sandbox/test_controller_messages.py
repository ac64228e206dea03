"""What the controller takes for an id, a code and a message, and what it drops."""

import sys

import pytest

from sandbox.routing import uint32
from tests.sandbox.buses import OWN_TOPICS, Bus, codes


@pytest.mark.parametrize(
    ("number", "seen"),
    [
        (1, 1),
        (4294967295, 4294967295),
        (-1, 4294967295),
        (1.5, 1),
        (2**32 + 1, 1),
        (2**32, 0),
        (0, 0),
        (0.5, 0),
        (float(2**63), 0),
        (2**63 - 1, 0),
        (1e30, 0),
        ("1", 0),
        (None, 0),
        (True, 0),
        ([1], 0),
    ],
)
def test_an_id_becomes_an_unsigned_32_bit_number(bus: Bus, number: object, seen: int) -> None:
    assert uint32(number) == seen
    tunnel, view = bus.register("m", "/a"), bus.register("v", "/a", role="view")
    [(topic, message)] = bus.ask("get", "/a", number)
    assert (topic, message["id"]) == (tunnel if seen else view, number)
    if seen:
        assert bus.answer(number) == [("me", {"id": number, "code": 200})]


@pytest.mark.parametrize("code", [201, 204, 0, -0.9, 404, -2, 200.9, 99999999999])
def test_any_number_is_a_code(bus: Bus, code: float) -> None:
    bus.register("m", "/a")
    bus.ask("get", "/a")
    assert bus.answer(code=code) == [("me", {"id": 1, "code": code})]


@pytest.mark.parametrize("code", ["200", None, True, -1, -1.9])
def test_what_is_no_number_or_minus_one_is_no_answer(bus: Bus, code: object) -> None:
    bus.register("m", "/a")
    bus.ask("post", "/a")
    assert bus.answer(code=code) == []
    assert codes(bus.answer(code=201)) == [("me", 201)], "it is still waited for"


@pytest.mark.parametrize(
    "data", [{"a": 1}, [1], "x", 3, None, {"code": 200, "data": {"message": "x"}, "id": 9}]
)
def test_any_data_is_passed(bus: Bus, data: object) -> None:
    bus.register("m", "/a")
    bus.ask("post", "/a")
    assert bus.answer(data=data)[0][1]["data"] == data


def request_with(data: bytes) -> bytes:
    return b'{"id": 1, "method": "get", "resource": "/a", "tunnel": "me", "data": ' + data + b"}"


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        (b"null", True),
        (b"null} x", False),
        (b"null}\0 x", True),
        (b"null,", False),
        (b"NaN", False),
        (b"Infinity", False),
        (b"-Infinity", False),
        (b"9223372036854775807", True),
        (b"9223372036854775808", False),
        (b"9223372036854775808.0", True),
        (b'"9223372036854775808"', True),
        (b'"\\u0000"', False),
        (b'[[{"x\\u0000": 1}]]', False),
        (b'"\\\\u0000"', True),
        (b'"\\ud83d"', False),
        (b'{"\\udc00": 1}', False),
        (b'"\\ud83d\\ude00"', True),
        (b'"\\u00e9\\/"', True),
        (b'"\xc3\xa9"', True),
        (b'"\xe9"', False),
        (b'"\xed\xa0\x80"', False),
        (b'"' + b"x" * 600_000 + b'"', True),
        (b'"' + b"x" * (1_048_576 - len(request_with(b'""'))) + b'"', False),
        (b'"' + b"x" * (1_048_575 - len(request_with(b'""'))) + b'"', True),
        (b"[" * 2047 + b"]" * 2047, True),
        (b"[" * 2048 + b"]" * 2048, False),
        (b"[" * 100_000 + b"]" * 100_000, False),
        (b"[]," * 3000, False),
        (b"[" + b"[]," * 3000 + b"[]]", True),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_what_the_controller_drops(
    bus: Bus, data: bytes, passes: bool, request: pytest.FixtureRequest
) -> None:
    limit = sys.getrecursionlimit()
    request.addfinalizer(lambda: sys.setrecursionlimit(limit))
    sys.setrecursionlimit(20_000)  # as the controller does
    bus.register("m", "/a")
    assert len(bus.put(request_with(data))) == passes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe{\0}\0",
        b'\xef\xbb\xbf{"method":"get","resource":"/a"}',
        b'{"id":1}',
        b'{"id":1,"method":"get"}',
        b'{"id":1,"resource":"/a"}',
        b'{"id":1,"method":"get","resource":""}',
        b'{"id":1,"method":3,"resource":"/a"}',
        b'{"resource":"/a"}',
    ],
)
def test_what_is_no_message_is_dropped_on_every_topic(bus: Bus, raw: bytes) -> None:
    bus.register("v", "/#", role="view")
    assert [bus.put(raw, topic) for topic in OWN_TOPICS] == [[], [], []]


def test_of_equal_keys_the_last_counts(bus: Bus) -> None:
    bus.register("m", "/a")
    assert bus.put(request_with(b'{"b": 1, "a": 2, "b": 3}'))[0][1]["data"] == {"b": 3, "a": 2}
