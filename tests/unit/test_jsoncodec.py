"""What the bus can carry: nothing that the controller would drop passes, and all else passes unchanged."""

import json
import math
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.bus import packets
from puppetmaster.model import message
from puppetmaster.model.message import (
    ANSWER_LIMIT_BYTES,
    DEFAULT_CAPACITY,
    ENVELOPE_BYTES,
    MESSAGE_LIMIT_BYTES,
    PACKET_BYTES,
    Capacity,
    EncodedCommand,
    direct_tunnel,
    is_direct_tunnel,
)
from puppetmaster.settings import Settings
from tests.costs import calls

LOW, HIGH = -(2**63), 2**63 - 1

#: Text of every kind, with much of what is at the edge: NUL, halves of pairs, whole pairs, look-alikes.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.text(st.sampled_from("a\0\ud83d\ude00\U0001f600\ufffd\\u0")),
    st.sampled_from(["\\u0000", "\\ud800", "9" * 19, "\ud83d\ude00", "\ude00\ud83d", ""]),
)
INTEGERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([LOW - 1, LOW, LOW + 1, HIGH - 1, HIGH, HIGH + 1, 10**19, -(10**19), 10**400]),
)
#: Everything that JSON can say, and everything that Python takes for JSON beside it.
ANYTHING = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
#: The same without NaN and infinities, which are no JSON.
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def _whole_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def _is_carried(value: Any) -> bool:
    """Whether the controller passes it on; said once more, in other words than the module's."""
    if isinstance(value, dict):
        return all(_whole_text(key) and _is_carried(child) for key, child in value.items())
    if isinstance(value, list):
        return all(map(_is_carried, value))
    if isinstance(value, str):
        return _whole_text(value)
    if isinstance(value, float):
        return value - value == 0
    return value is None or value.bit_length() < 64 or value == LOW


def _nested(levels: int, core: Any = 1) -> Any:
    for level in range(levels):
        core = [core] if level % 2 else {"k": core}
    return core


@pytest.fixture
def _all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsoncodec, "MANY_VALUES", 0)


@pytest.fixture(params=[None, "_all_is_large"])
def _whole_and_in_steps(request: pytest.FixtureRequest) -> None:
    if request.param:
        request.getfixturevalue(request.param)


# What cannot be carried


@pytest.mark.usefixtures("_whole_and_in_steps")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING)
def test_a_fault_is_found_if_and_only_if_the_controller_would_drop_it(value: Any) -> None:
    assert bool(jsoncodec.faults(value, "data")) is not _is_carried(value)


@given(ANYTHING)
def test_what_is_said_about_a_fault_can_itself_be_answered(value: Any) -> None:
    for fault in jsoncodec.faults(value, "data"):
        assert fault.path.startswith("data")
        assert _is_carried([fault.path, fault.message])
        assert fault.message.startswith("expected ")
        assert ", got " in fault.message or "which the bus cannot carry" in fault.message


@pytest.mark.parametrize(
    ("value", "path", "about"),
    [
        (math.nan, "data", "a number that JSON knows, got nan"),
        ([0, math.inf], "data[1]", "a number that JSON knows, got inf"),
        ({"a": [{"b": -math.inf}]}, "data.a[0].b", "a number that JSON knows, got -inf"),
        (HIGH + 1, "data", "an integer of 64 bits"),
        ({"n": LOW - 1}, "data.n", "an integer of 64 bits"),
        ("a\0b", "data", "a string without \\u0000"),
        (["\ud800"], "data[0]", "a string of whole characters"),
        ("\ude00\ud83d", "data", "a string of whole characters"),
        ({"\0": 1}, "data.\\u0000", "a key without \\u0000"),
        ({"\udfff": 1}, "data.\\udfff", "a key of whole characters"),
        ({"é": "\0"}, "data.\\xe9", "a string without \\u0000"),
        ({"a..": ["\0"]}, "data.a..[0]", "a string without \\u0000"),
    ],
)
def test_a_fault_names_its_place_and_what_is_wrong(value: Any, path: str, about: str) -> None:
    (fault,) = jsoncodec.faults(value, "data")
    assert fault.path == path
    assert fault.message.startswith(f"expected {about}")


def test_all_faults_are_found_at_once() -> None:
    value = {"a": math.nan, "\0": ["\0", 2**64], "fine": 1}
    assert [fault.path for fault in jsoncodec.faults(value, "x")] == [
        "x.a",
        "x.\\u0000",
        "x.\\u0000[0]",
        "x.\\u0000[1]",
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        LOW,
        HIGH,
        1e300,
        5e-324,
        -0.0,
        "",
        "\U0001f600",
        "\\u0000",
        "\\ud800",
        "12345678901234567890",
        {},
        [],
        {"": {"": []}},
        {"sent": "é\n\t\x7f\uffff"},
    ],
)
def test_what_looks_suspicious_and_is_fine(value: Any) -> None:
    assert jsoncodec.faults(value, "data") == []
    assert json.dumps(jsoncodec.carriable(value)) == json.dumps(value)


# How deep


@pytest.mark.parametrize(
    ("value", "depth"), [(1, 0), ("[[", 0), ([], 0), ([1], 1), ({"a": [1, {"b": 2}]}, 3)]
)
def test_depth(value: Any, depth: int) -> None:
    assert jsoncodec.depth(value) == depth


def test_as_deep_as_the_limit_and_no_deeper() -> None:
    for core in (1, "\U0001f600", "0" * 19):
        assert jsoncodec.faults(_nested(jsoncodec.DEPTH_LIMIT, core), "data") == []
    (fault,) = jsoncodec.faults(_nested(jsoncodec.DEPTH_LIMIT + 1), "data")
    assert fault.message == f"expected at most {jsoncodec.DEPTH_LIMIT} levels of nesting, got more"
    assert fault.path.startswith("data.k[0].k")


def test_very_deep_is_one_fault_with_a_short_path() -> None:
    (fault,) = jsoncodec.faults(_nested(100_000), "data")
    assert len(fault.path) < 300
    assert jsoncodec.depth(_nested(100_000)) == jsoncodec.DEPTH_LIMIT + 1


def test_other_faults_are_found_beside_too_deep_a_place() -> None:
    found = jsoncodec.faults({"a": "\0", "b": _nested(1000), "c": 2**64}, "data")
    assert [fault.path[:6] for fault in found] == ["data.a", "data.b", "data.c"]


# Made to fit


@given(JSON)
def test_carriable_is_carried_and_leaves_alone_what_was(value: Any) -> None:
    before = json.dumps(value)
    fitting = jsoncodec.carriable(value)
    assert jsoncodec.faults(fitting, "data") == []
    assert json.dumps(value) == before
    if _is_carried(value):
        assert json.dumps(fitting) == before
    _assert_nearest(value, fitting)


def _assert_nearest(value: Any, fitting: Any) -> None:
    if isinstance(value, list):
        assert len(fitting) == len(value)
        for one, other in zip(value, fitting, strict=True):
            _assert_nearest(one, other)
    elif isinstance(value, dict):
        assert isinstance(fitting, dict)
        for key in value:
            if _whole_text(key):
                assert key in fitting
    elif _is_carried(value):
        assert fitting == value
        assert type(fitting) is type(value)
    elif isinstance(value, int):
        assert fitting == str(value)
    elif _whole_text(paired := json.loads(json.dumps(value))):
        assert fitting == paired
    else:
        assert "\ufffd" in fitting


@pytest.mark.parametrize(
    ("value", "fitting"),
    [
        ("a\0b", "a\ufffdb"),
        ("\ud800x", "\ufffdx"),
        ("\ud83d\ude00", "\U0001f600"),
        ({"\0": ["\udfff", HIGH + 1]}, {"\ufffd": ["\ufffd", str(HIGH + 1)]}),
        ([LOW - 1, True, 1.5, None], [str(LOW - 1), True, 1.5, None]),
    ],
)
def test_the_nearest_that_fits(value: Any, fitting: Any) -> None:
    assert jsoncodec.carriable(value) == fitting


# JSON


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
def test_what_is_no_number_is_neither_encoded_nor_made_to_fit(value: Any) -> None:
    for change in (jsoncodec.encode, jsoncodec.carriable):
        with pytest.raises(ValueError):
            change(value)


@pytest.mark.usefixtures("_whole_and_in_steps")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON)
def test_what_is_encoded_is_read_as_it_was(value: Any) -> None:
    """By itself, and in a command."""
    value = json.loads(json.dumps(value))  # two surrogates may be one letter, and two names one
    for payload in (jsoncodec.encode(value), json.dumps(value).encode()):
        assert payload.isascii()
        for decode in (jsoncodec.decode, jsoncodec.decode_body, jsoncodec.decode_loosely):
            assert decode(payload) == value
    body = {"code": 999, "method": "get", "resource": "/a", "data": value}
    assert json.loads(EncodedCommand(body, "tunnel").message(1, "a").payload)["data"] == body


@pytest.mark.parametrize("has_c", [True, False])
def test_the_text_is_that_of_the_standard_library(monkeypatch: pytest.MonkeyPatch, *, has_c: bool) -> None:
    if not has_c:
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    text = jsoncodec._encoder()
    value = {"é": ["\ud800\0", 2**64, -1.5, 1e308, True, None, {}, []], "a": "x", "1": {"b": [[1]]}}
    for one in (value, [value, value], "é", 5, None):
        assert text(one) == json.dumps(one, separators=(",", ":"))


@pytest.mark.usefixtures("_whole_and_in_steps")
@pytest.mark.parametrize("name", ["a", "b", "k" * 100])
def test_a_property_that_is_there_twice_is_refused_in_a_body(name: str) -> None:
    payload = json.dumps({"first": 1, "twice": 2, "last": {"twice": 3}}).replace("last", "other")
    assert jsoncodec.decode_body(payload.encode())["other"] == {"twice": 3}
    twice = f'{{"first": 1, "{name}": 2, "{name}": [], "last": 1}}'.encode()
    with pytest.raises(ValueError, match=f'the property "{name[:80]}" is there twice'):
        jsoncodec.decode_body(twice)
    assert jsoncodec.decode(twice)[name] == []


# What is large: in steps, between which others run


@pytest.mark.usefixtures("_whole_and_in_steps")
@pytest.mark.parametrize(
    "payload", [b"NaN", b"[1,NaN]", b'{"a":Infinity}', b"[-Infinity]", b"1e999", b'{"a":[-1e400]}']
)
def test_decode_tells_numbers_that_are_none_from_what_is_no_json(payload: bytes) -> None:
    for decode in (jsoncodec.decode, jsoncodec.decode_body):
        with pytest.raises(jsoncodec.Uncarriable):
            decode(payload)
    jsoncodec.decode_loosely(payload)


@pytest.mark.usefixtures("_whole_and_in_steps")
@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[1,", b'{"a":[1]} x', b"\xff", b"[1,'a']", b"{1:2}", b"[" * 100_000, b"1" * 5000]
)
def test_decode_refuses_what_is_no_json(payload: bytes) -> None:
    for decode in (jsoncodec.decode, jsoncodec.decode_body):
        with pytest.raises(ValueError) as refused:
            decode(payload)
        assert not isinstance(refused.value, jsoncodec.Uncarriable)
        assert "sys." not in str(refused.value)
    with pytest.raises(ValueError):
        jsoncodec.decode_loosely(payload)


def steps(action: Callable[[], Any]) -> int:
    return calls(action, of_c=False)


MANY = 2_000


@pytest.mark.parametrize("value", [["a"] * MANY, {f"k{n}": n for n in range(MANY)}, {"a": [[1]] * MANY}])
def test_many_values_are_not_one_step(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsoncodec, "MANY_VALUES", MANY // 2)
    payload = jsoncodec.encode(value)
    for decode in (jsoncodec.decode, jsoncodec.decode_body, jsoncodec.decode_loosely):
        assert steps(lambda decode=decode: decode(payload)) > MANY  # type: ignore[misc]
    assert steps(lambda: jsoncodec.faults(value, "data")) > MANY
    command = EncodedCommand({"method": "get", "resource": "/a", "data": value}, "tunnel")
    assert steps(lambda: command.message(1, "a")) > MANY


def test_few_values_are_not_taken_in_steps() -> None:
    """They would take several times as long."""
    value = ["a"] * 1000
    payload = jsoncodec.encode(value)
    assert steps(lambda: jsoncodec.decode_body(payload)) < 100
    assert steps(lambda: jsoncodec.faults(value, "data")) < 100


@pytest.mark.parametrize(
    "place", [0, jsoncodec.PART_LENGTH - 3, jsoncodec.PART_LENGTH + 1, 3 * jsoncodec.PART_LENGTH]
)
@pytest.mark.parametrize("bad", ["\0", "\ud800"])
def test_in_a_long_text_nothing_is_overlooked(place: int, bad: str) -> None:
    assert len(jsoncodec.faults("x" * place + bad + "x" * jsoncodec.PART_LENGTH, "data")) == 1


# Whose message it is


@pytest.mark.parametrize(
    ("payload", "numbers"),
    [
        (b'{"id": 7, "code": 200}', {"id": 7, "code": 200}),
        (b' {"code":2e2,\n"id" :-7}\n', {"code": 200.0, "id": -7}),
        (b'{"id":7,"code":"200","data":{"id":8,"code":9}}', {"id": 7}),
        (b'{"data":[{"id":8}],"id":7}', {"id": 7}),
        (b'{"id":8,"id":7}', {"id": 7}),
        (b'{"a\\"b":"\\"id\\": 8, {","id":7,"x":"y\\\\"}', {"id": 7}),
        (b'{"s":"id","t": 5}', {"t": 5}),
        (b'{"id":7,"data":NaN,"code":-Infinity}', {"id": 7, "data": math.nan, "code": -math.inf}),
        (b'{"id":7,"code":1.2.3}', {"id": 7}),
        (b'{"id":7', {}),
        (b'{"id":7,', {}),
        (b'{"id":7} x', {}),
        (b'{"id":7}{"id":8}', {}),
        (b'{"id":7,"data":"torn', {}),
        (b'["id", 7]', {}),
        (b'"id": 7', {}),
        (b"", {}),
        (b"\xff\xfe", {}),
    ],
)
def test_the_numbers_at_the_top(payload: bytes, numbers: dict[str, float]) -> None:
    assert repr(jsoncodec.numbers(payload)) == repr(numbers)


@pytest.mark.parametrize("levels", [201, 1000, 2048, 100_000])
def test_the_numbers_at_the_top_are_found_however_deep_the_rest_is(levels: int) -> None:
    payload = b'{"code":200,"data":' + b'{"id":[' * levels + b"]}" * levels + b',"id":7}'
    assert jsoncodec.numbers(payload) == {"code": 200, "id": 7}


@pytest.mark.parametrize("end", [b"", b'"da', b'"data":"text', b'"data":[[{"id":8', b'"x\\'])
def test_of_a_torn_message_the_beginning_counts(end: bytes) -> None:
    assert jsoncodec.numbers(b'{"id":7,"code":200,' + end, torn=True) == {"id": 7, "code": 200}


@given(st.dictionaries(st.text(), JSON))
def test_the_numbers_at_the_top_are_those_that_a_decoder_finds(value: dict[str, Any]) -> None:
    expected = {
        json.dumps(key)[1:-1]: one
        for key, one in value.items()
        if isinstance(one, (int, float)) and not isinstance(one, bool)
    }
    for payload in (jsoncodec.encode(value), json.dumps(value, indent=4).encode()):
        assert jsoncodec.numbers(payload) == expected


@given(JSON, st.lists(st.integers(1, 40), max_size=30))
def test_indentation_is_taken_away_however_the_message_comes(value: Any, sizes: list[int]) -> None:
    payload = json.dumps(value, indent=4, ensure_ascii=False).encode("utf-8", "surrogatepass")
    short, at = jsoncodec.Unindented(2**20), 0
    for size in [*sizes, len(payload)]:
        short.take(payload[at : at + size])
        at += size
    without = json.dumps(value, separators=(",", ": "), ensure_ascii=False)
    assert bytes(short.text) == without.encode("utf-8", "surrogatepass")


def test_of_a_message_that_is_too_long_the_beginning_is_kept() -> None:
    short = jsoncodec.Unindented(10)
    for part in (b"[\n ", b"  1,\n    2", b",\n    333333", b"444444"):
        short.take(part)
    assert bytes(short.text) == b"[1,2,33333"


def test_decode_takes_what_json_allows() -> None:
    assert jsoncodec.decode(b' {"a": 1.0e2, "a": -0.5, "b": "\\ud800", "c": 123456789012345678901} ') == {
        "a": -0.5,
        "b": "\ud800",
        "c": 123456789012345678901,
    }


# A command

DESTINATIONS = ["00:0c:29:1c:e8:01", "cg-000c291ce801", "gerät", 'a"b\\c', "\U0001f600"]


@pytest.mark.parametrize("destination", DESTINATIONS)
@pytest.mark.parametrize("data", [{}, None, 0, "text", [1, {"a": "é"}], {"id": 7, "tunnel": "other"}])
def test_a_command_is_the_message_of_the_sanji_contract(destination: str, data: Any) -> None:
    body = {"method": "put", "resource": "/system/time?tz=1&a=/b", "data": data}
    command = EncodedCommand(body, "pm-1234")
    assert json.loads(command.message(2**31, destination).payload) == {
        "id": 2**31,
        "method": "put",
        "resource": f"/remote/{destination}",
        "tunnel": "pm-1234",
        "data": body,
    }


def test_a_command_is_encoded_once_for_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data may have a megabyte, and go to thousands."""
    encode = Mock(wraps=jsoncodec.compact)
    monkeypatch.setattr(message, "compact", encode)
    command = EncodedCommand({"method": "get", "resource": "/a", "data": {}}, "t")
    assert len({command.message(id_, "cg-1") for id_ in range(3)}) == 3
    assert len({command.direct(id_, "cg-1") for id_ in range(3)}) == 3
    assert encode.call_count == 2


def test_what_is_plainly_fine_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(jsoncodec, "_walk")
    monkeypatch.delattr(jsoncodec, "_replaced")
    for value in (1, "é", _nested(jsoncodec.DEPTH_LIMIT)):
        assert jsoncodec.faults(value, "data") == []
        assert jsoncodec.carriable(value) is value


def test_limits_are_those_of_the_controller() -> None:
    assert MESSAGE_LIMIT_BYTES == 2**20
    assert ANSWER_LIMIT_BYTES == 900 * 1024


# -- a broker that carries less -------------------------------------------------------------------

LETTERS = st.text('ab"\\[]{},:7\n', max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | LETTERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LETTERS, inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_a_message_is_as_long_as_the_controller_makes_it(value: Any) -> None:
    capacity, encoded = Capacity(100_000), jsoncodec.encode(value)
    assert capacity.size(encoded) == len(json.dumps(value, indent=4)) + 1
    assert capacity.size(jsoncodec.encode([value])) == capacity.size(encoded, 1) + len("\n[\n]")
    assert DEFAULT_CAPACITY.size(encoded) == len(encoded)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_may_get_more_digits(number: float) -> None:
    size = Capacity(100_000).size(jsoncodec.encode([number]))
    assert len(f"[\n    {number:.17g}\n]") <= size == len(f"[\n    {'9' * 24}\n]\n")


@given(PLAIN, st.text("ab\u00e9", min_size=1))
def test_a_packet_is_as_long_as_the_controller_makes_it(data: Any, destination: str) -> None:
    command = EncodedCommand({"method": "post", "resource": "/a", "data": data}, "puppetmaster/1")
    command.packet_bytes(command.message(2**31, "another"))
    outgoing = command.message(2**31, destination)
    printed = json.dumps(json.loads(outgoing.payload), indent=4)
    assert command.packet_bytes(outgoing) == PACKET_BYTES + len(printed) + 1
    direct = command.direct(2**31, destination)
    assert command.packet_bytes(direct) == PACKET_BYTES + len(direct.payload) + len(
        f"/{destination}/controller".encode()
    )


def test_what_a_broker_carries_is_what_the_controller_takes_unless_it_is_less() -> None:
    capacity = Capacity(Settings().broker_limit_bytes)
    assert capacity == DEFAULT_CAPACITY
    assert not capacity.limited
    assert (capacity.message_bytes, capacity.answer_bytes) == (2**20 - 1, 900 * 1024)
    small = Capacity(100_000)
    assert small.limited
    assert small.message_bytes == 100_000 - PACKET_BYTES
    assert small.answer_bytes == 100_000 - ENVELOPE_BYTES
    assert [Capacity(next_to_nothing).answer_bytes for next_to_nothing in (0, 1000)] == [0, 0]


@given(st.text(st.characters(codec="utf-8", exclude_characters="/?#+"), min_size=1, max_size=900))
def test_a_packet_is_no_longer_than_what_was_checked_whichever_way_it_goes(destination: str) -> None:
    command = {"code": 999, "method": "put", "resource": "/a", "data": {}}
    checked = len(EncodedCommand(command, "t" * 63).message(2**32 - 1, destination).payload) + PACKET_BYTES
    sent = EncodedCommand(command, "t" * 29)
    for outgoing in (sent.message(2**32 - 1, destination), sent.direct(2**32 - 1, destination)):
        assert len(packets.Topic(outgoing.topic).publish(outgoing.payload)) <= checked


# -- directly to a gateway -------------------------------------------------------------------------


def test_a_direct_command_is_the_gateways_own_message() -> None:
    command = EncodedCommand({"method": "put", "resource": "/system/x", "data": {"é": 1}, "code": 1}, "t/1")
    sent = command.direct(2**31, "00:0c:29:1c:e8:01")
    assert sent.topic == "/00:0c:29:1c:e8:01/controller"
    assert json.loads(sent.payload) == {
        "id": 2**31,
        "method": "put",
        "resource": "/system/x",
        "data": {"é": 1},
        "tunnel": sent.tunnel,
    }
    assert command.message(1, "a").topic == "/controller"
    assert command.message(1, "a").tunnel == ""


def test_each_gateway_answers_on_a_topic_of_its_own() -> None:
    tunnels = {direct_tunnel(ours, name) for ours in ("t/1", "t/2") for name in ("a", "b", "é" * 300)}
    assert len(tunnels) == 6
    ours = direct_tunnel("t/1", "a")
    assert ours == "/puppetmaster-b2c26651d533add4c97f4d47/remote", "after a restart too, of a later version"
    assert is_direct_tunnel(direct_tunnel("t" * 100, "a"))
    for tunnel in tunnels:
        assert is_direct_tunnel(tunnel)
        assert len(tunnel) <= 63, "a controller cuts longer ones"
        first, name, last = tunnel.split("/")
        assert (first, bool(name), last) == ("", True, "remote"), "the bridge brings /+/remote"
    assert not is_direct_tunnel("puppetmaster/0123")
    assert not is_direct_tunnel("/server/remote")


def test_the_place_of_a_fault_is_not_endless() -> None:
    found = jsoncodec.faults({"k" * 100_000: {"l" * 100_000: ["\0", "\0"]}, "a": ["\0"]}, "data")
    assert [fault.path for fault in found][2] == "data.a[0]"
    assert found[0].path.startswith("data.kkk")
    assert max(len(fault.path) for fault in found) <= jsoncodec.PATH_LENGTH + 2


@pytest.mark.parametrize("beyond", [0, 1, 2, 100])
def test_a_place_that_is_not_shown_whole_ends_with_dots(beyond: int) -> None:
    name = "k" * (jsoncodec.PATH_LENGTH - len(".") + beyond)
    assert [fault.path for fault in jsoncodec.faults({name: "\0"}, "")] == [
        f".{name}" if not beyond else f".{name[: jsoncodec.PATH_LENGTH - 1]}.."
    ]


def test_memory_is_counted_in_texts_names_and_values() -> None:
    value = {"image": "x" * 1000, "list": [1, None, {"y" * 500: True}]}
    assert jsoncodec.memory(value) == 1000 + 500 + len("image") + len("list") + 7 * jsoncodec.VALUE_BYTES
