"""Messages that arrive, in every shape, and answers that have to get through the controller."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.bundle import envelope
from puppetmaster.bundle.envelope import Kind
from puppetmaster.bundle.requests import Response
from puppetmaster.errors import Fault, Invalid, TooLarge
from puppetmaster.model.message import MESSAGE_LIMIT_BYTES, Capacity
from tests.costs import memory_of

text = st.text(st.characters(exclude_categories=()))  # lone surrogates are in it
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"id": 1}, Kind.REQUEST),
        ({"id": -1}, Kind.REQUEST),
        ({"id": 1.5}, Kind.REQUEST),
        ({"id": 2**32 + 1, "sign": ["a"]}, Kind.REQUEST),
        ({"id": 1, "code": "200"}, Kind.REQUEST),
        ({"id": 1, "code": True}, Kind.REQUEST),
        ({"id": 1, "code": 200}, Kind.ANSWER),
        ({"id": 1, "code": 0, "tunnel": "t"}, Kind.ANSWER),
        ({}, Kind.EVENT),
        ({"id": None}, Kind.EVENT),
        ({"id": True}, Kind.EVENT),
        ({"id": "7"}, Kind.EVENT),
        ({"id": 0}, Kind.EVENT),
        ({"id": 0.5}, Kind.EVENT),
        ({"id": 2**32}, Kind.EVENT),
        ({"id": float("inf")}, Kind.EVENT),
        ({"id": float("nan")}, Kind.EVENT),
        ({"id": [1]}, Kind.EVENT),
    ],
)
def test_the_kind_is_what_the_controller_takes_it_for(message: dict[str, Any], kind: Kind) -> None:
    assert envelope.kind(message) is kind


def test_a_whole_message_is_read_as_it_is() -> None:
    message = {"id": 1, "method": "get", "resource": "/a", "data": {"deep": [[1]]}}
    assert envelope.read(json.dumps(message).encode()) == (message, None)


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"[1]", b"7", b"null", b"{", b'{"id":1', b"\xff\xfe", b'"\\']
)
def test_what_is_no_object_is_nobodys_message(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        envelope.read(payload)


#: What is in a message that cannot be read as a whole -> what is said.
BROKEN = {
    "many lists": ("[" * 100_000 + "1" + "]" * 100_000, "nested too deeply"),
    "many objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    "no number": ('{"x": NaN}', "NaN"),
    "a property twice": ('{"a": 1, "a": 2}', 'the property "a" is there twice'),
}


@pytest.mark.parametrize("what", BROKEN)
def test_of_a_message_that_cannot_be_read_the_outermost_level_is_read(what: str) -> None:
    """F5: the controller passes 2,048 levels, Python's decoder fewer; without an answer we stay locked."""
    data, said = BROKEN[what]
    payload = f'{{"id": 7, "data": {data}, "method": "po\\"st", "resource": "/a[{{"}}'.encode()
    message, fault = envelope.read(payload)
    assert message == {"id": 7, "data": None, "method": 'po"st', "resource": "/a[{"}
    assert fault is not None
    assert said in fault.message


@pytest.mark.timeout(20)
def test_reading_the_outermost_level_takes_no_longer_for_a_hostile_message() -> None:
    with pytest.raises(ValueError, match=r".+"):
        envelope.read(b'{"id": 7, "data": "' + b'\\"' * 500_000)


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_whatever_arrives_is_read_or_refused(payload: bytes) -> None:
    try:
        message, fault = envelope.read(payload)
    except ValueError:
        return
    assert isinstance(message, dict)
    assert fault is None or isinstance(fault, Invalid)


def test_only_the_keys_of_the_contract_pass() -> None:
    """F5: with the SDK each of these keys hides the method of its name."""
    of_methods = ("type", "_type", "match", "to_response", "to_json", "to_dict", "to_event", "generate_id")
    shadows = {key: {"a": 1} for key in [*of_methods, "param", "query", "__init__", "__class__", "__dict__"]}
    message = {"id": 1, "method": "GeT", "resource": "/a", "tunnel": "t", "sign": ["b", 5], **shadows}
    assert envelope.request(message) == {
        "id": 1,
        "method": "get",
        "resource": "/a",
        "data": None,
        "tunnel": "t",
        "sign": ["b"],
    }


@given(st.dictionaries(st.sampled_from(["method", "resource", "data", "tunnel", "sign", "param"]), anything))
def test_a_request_is_whole_or_every_fault_is_named(message: dict[str, Any]) -> None:
    wrong = {
        key for key in ("method", "resource") if not message.get(key) or not isinstance(message[key], str)
    }
    if wrong:
        with pytest.raises(Invalid) as raised:
            envelope.request({"id": 1, **message})
        assert {fault.path for fault in raised.value.faults} == wrong
        assert len(raised.value.message) < 300
    else:
        assert envelope.request({"id": 1, **message})["method"] == message["method"].lower()


def test_an_answer_repeats_the_request_and_is_signed() -> None:
    message = {"id": 3000, "method": "get", "resource": "/a?x=1", "tunnel": "t", "sign": ["b"], "data": 1}
    assert json.loads(envelope.answer(message, "me", 200, {"x": 2})) == {
        "id": 3000,
        "code": 200,
        "method": "get",
        "resource": "/a?x=1",
        "data": {"x": 2},
        "sign": ["b", "me"],
    }


@given(st.dictionaries(st.sampled_from(["method", "resource", "sign"]), anything), anything)
def test_an_answer_is_something_the_controller_passes_on(message: dict[str, Any], data: Any) -> None:
    """F17: the controller drops what it does not like without a word, and the lock stays until ttl."""
    try:
        encoded = envelope.answer({"id": 1, **message}, "me", 200, data)
    except ValueError:
        with pytest.raises(ValueError, match="JSON compliant"):  # nothing else than NaN or Infinity in data
            json.dumps(data, allow_nan=False)
        return
    answer = json.loads(encoded)
    assert jsoncodec.faults(answer, "answer") == []
    assert answer["sign"][-1] == "me"
    assert isinstance(answer["method"], str)


def test_an_answer_the_bus_cannot_carry_is_refused_in_words() -> None:
    most = MESSAGE_LIMIT_BYTES - 1 - len(envelope.answer({"id": 1}, "me", 200, ""))
    assert len(envelope.answer({"id": 1}, "me", 200, "x" * most)) == MESSAGE_LIMIT_BYTES - 1
    with pytest.raises(TooLarge, match="1,048,576 bytes, and the bus carries less than 1,048,576"):
        envelope.answer({"id": 1}, "me", 200, "x" * (most + 1))


def test_an_answer_is_refused_when_the_broker_does_not_carry_it() -> None:
    capacity = Capacity(10_000)
    asked = {"id": 1, "method": "get", "resource": "/a"}
    assert envelope.answer(asked, "us", 200, "x" * 9_700, capacity)
    with pytest.raises(TooLarge, match="less than 9,929"):
        envelope.answer(asked, "us", 200, "x" * 9_850, capacity)
    with pytest.raises(TooLarge, match="ask for less"):
        envelope.answer(asked, "us", 200, [1] * 1000, capacity)  # 2 KB, as the controller passes it on 11 KB


def test_in_place_of_what_the_broker_does_not_take_goes_an_error_of_the_same_id() -> None:
    asked = {"id": 2**31 + 7, "method": "get", "resource": "/jobs/1", "sign": ["bridge"]}
    answered = envelope.answer(asked, "puppetmaster", 200, "x" * 5000)
    instead = envelope.refused(answered)
    assert instead is not None
    message = json.loads(instead)
    assert message["data"].pop("message").startswith(f"The answer has {len(answered)} bytes, and the broker")
    assert message == {**asked, "code": 413, "data": {}, "sign": ["bridge", "puppetmaster"]}
    assert envelope.refused(b'{"id": 1, "method": "post", "resource": "/controller/registration"}') is None
    unsigned = envelope.refused(b'{"id": 1, "code": 200}')
    assert unsigned is not None
    assert json.loads(unsigned)["sign"] == ["unknown"]


def test_of_what_is_wrong_only_the_beginning_is_repeated() -> None:
    with pytest.raises(Invalid) as raised:
        envelope.request({"id": 1, "method": 10**70, "resource": "/a"})
    (fault,) = raised.value.faults
    assert fault.message == f"expected a non-empty string, got 1{'0' * 59}"


def test_an_error_that_the_broker_does_not_carry_is_told_without_its_list() -> None:
    sent: list[bytes] = []
    asked = {"id": 1, "method": "post", "resource": "/jobs"}
    response = Response(sent.append, asked, "us", Capacity(10_000))
    response.refuse(Invalid([Fault(f"batch[{number}]", "expected " + "x" * 600) for number in range(100)]))
    (answer,) = map(json.loads, sent)
    assert (answer["code"], set(answer["data"])) == (400, {"message"})
    assert answer["data"]["message"].startswith("batch[0]: expected xxx")


def test_a_broken_message_of_very_many_values_takes_little_memory() -> None:
    payload = b'{"id":7,"method":"get","resource":"/a","data":["\xff",' + b"10," * 100_000 + b"1]}"
    (message, fault), most = memory_of(lambda: envelope.read(payload))
    assert (message["id"], message["data"]) == (7, None)
    assert fault is not None
    assert most < 8 * len(payload)
