"""What an answer means: by its outer and inner code, by who signed it, and whatever odd thing it holds."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.model.reply import Reply, from_gateway, garbled, is_answer, may_have_run, read
from puppetmaster.model.request import RequestEvent

CONTROLLER = ["controller"]
ID_USED = {"message": "'id' was used, please use another 'id'"}
NO_MODEL = {"message": "request forbidden", "log": "resource has no subscribed model"}


def _from_device(code: Any, data: Any = None, **inner: Any) -> dict[str, Any]:
    """An answer of the remote bundle, with that of the device in it."""
    nested = {"code": code, "method": "post", "resource": "/system/reboot", "data": data, **inner}
    return {
        "id": 7,
        "code": 200,
        "method": "post",
        "resource": "/remote/cg-1",
        "data": nested,
        "sign": ["remote"],
    }


def _from_controller(code: Any, data: Any) -> dict[str, Any]:
    """One that the controller made itself: method in upper case, signed."""
    return {
        "id": 7,
        "code": code,
        "method": "POST",
        "resource": "/remote/cg-1",
        "data": data,
        "sign": CONTROLLER,
    }


# Is it one


@pytest.mark.parametrize(
    "message",
    [
        {"id": 7, "code": 200},
        {"id": 7, "code": 404, "data": None},
        {"id": 7.0, "code": 200.9},
        {"id": 0, "code": 0},
        {"id": 7, "code": -2, "more": "keys"},
    ],
)
def test_a_number_as_id_and_as_code_make_an_answer(message: Any) -> None:
    assert is_answer(message)


@pytest.mark.parametrize("message", [None, [], "text", 7, True, {}, {"id": 7}, {"code": 200}])
def test_all_else_is_none(message: Any) -> None:
    assert not is_answer(message)


@pytest.mark.parametrize("value", ["200", None, True, False, [200], {"code": 200}])
def test_an_id_or_a_code_that_is_no_number_makes_none(value: Any) -> None:
    assert not is_answer({"id": 7, "code": value})
    assert not is_answer({"id": value, "code": 200})


@pytest.mark.parametrize("code", [7, 200.5])
def test_an_id_that_the_store_cannot_have_makes_none(code: float) -> None:
    for id_ in (2**63, -(2**63), 1e30, math.inf, -math.inf, math.nan):
        assert not is_answer({"id": id_, "code": code})
    for id_ in (2**63 - 1, -(2**63) + 1, 2**32, -7):
        assert is_answer({"id": id_, "code": code})


# What it means


def said(answer: Reply) -> str:
    """The event, the code, who has given the result, why it was refused, and the sentence."""
    result = answer.result
    refusal = [answer.refusal.name] if answer.refusal else []
    words = " ".join([answer.event, str(result["code"]), result["source"], *refusal])
    return f"{words}: {result['message']}" if "message" in result else words


def _of_its_controller(code: int, data: Any = None) -> dict[str, Any]:
    """What the gateway's own controller says."""
    return {"id": 4711, "code": code, "method": "POST", "resource": "/a", "data": data, "sign": CONTROLLER}


def _of_remote(code: Any, data: Any = None, sign: Any = ("remote",)) -> dict[str, Any]:
    return {"id": 7, "code": code, "data": data, "sign": sign}


WELL, LOCKED = {"message": "well"}, {"message": "resource is locked"}
EXPIRED = {"message": "session failed due to ttl expired ."}
Cases = list[tuple[dict[str, Any], str]]
NO_SENTENCE: list[Any] = [None, [], "broken", 0, {}, {"message": ""}, {"message": 5}, {"message": None}]
ANY_DATA: list[Any] = [{}, [1], "text", 5, None, True]
NO_OBJECT: list[Any] = [None, [], "locked"]
DEVICE: Cases = [
    *((_from_device(code, {"a": 1}), f"succeed {code} device") for code in (200, 201, 204, 250, 299)),
    *(
        (_from_device(code, WELL), f"fail {code} device: well")
        for code in (0, -1, 100, 199, 300, 400, 404, 423, 500, 503, 99999999999)
    ),
    *((_from_device(500, data), "fail 500 device: the device answered 500") for data in NO_SENTENCE),
    *((_from_device(200, data), "succeed 200 device") for data in ANY_DATA),
    ({"id": 7, "code": 200, "data": {"code": 204}}, "succeed 204 device"),
    # The inner code counts, whatever the outer one.
    *(
        ({**_from_device(inner, WELL), "code": outer}, meaning)
        for outer in (0, 200, 201, 204, 404, 408, 423, 500, 502, 503)
        for inner, meaning in (
            (200, "succeed 200 device"),
            (404, "fail 404 device: well"),
            (408, "expire 408 device: well: it may have run"),
            (423, "fail 423 device: well"),
            (500, "fail 500 device: well"),
        )
    ),
    # The published remote bundle repeats the code of the device.
    (
        _of_remote(
            409, {"code": 409, "method": "put", "resource": "/x", "sign": ["sys"], "id": 4711, "data": WELL}
        ),
        "fail 409 device: well",
    ),
]
REMOTE: Cases = [
    *(
        (_of_remote(200, {"code": inner}), "succeed 200 remote")
        for inner in (None, True, False, "500", "200", 200.0, 500.5, [500], {"code": 500})
    ),
    *(
        (_of_remote(200, data), "succeed 200 remote")
        for data in (None, {}, {"a": 1}, [], [{"code": 500}], "text", 5, True)
    ),
    ({"id": 7, "code": 200}, "succeed 200 remote"),
    *(
        (_of_remote(code, WELL, sign), f"fail {code} remote: well")
        for code in (0, -2, 199, 300, 404, 423, 500, 503)
        for sign in (None, [], ["remote"], ["controller", "remote"], ["remote", "controller"], "controller")
    ),
    # A code in it makes it no message of a gateway.
    (_of_remote(502, {"code": 200}), "fail 502 remote: the remote answered 502"),
    (_of_remote(502, {"code": 17, "message": "x"}), "fail 502 remote: x"),
    (_of_remote(502, {"code": 200, "method": "get"}), "fail 502 remote: the remote answered 502"),
    # It has waited in vain.
    (
        _of_remote(500, {"message": "Remote requests timeout"}),
        "expire 500 remote: Remote requests timeout: it may have run",
    ),
    (_of_remote(408, WELL), "expire 408 remote: well: it may have run"),
    (_of_remote(408), "expire 408 remote: the remote answered 408: it may have run"),
    (_of_remote(99999999999), "fail 99999999999 remote: the remote answered 99999999999"),
]
OURS: Cases = [
    *(
        (_from_controller(code, LOCKED), f"refuse {code} controller LOCKED: resource is locked")
        for code in (423, 503)
    ),
    *(
        (_from_controller(code, data), f"refuse {code} controller LOCKED: refused")
        for code in (423, 503)
        for data in NO_OBJECT
    ),
    (
        _from_controller(503, {"message": "service unavailable", "log": "failed to lock resource"}),
        "refuse 503 controller LOCKED: service unavailable, failed to lock resource",
    ),
    (_from_controller(403, ID_USED), f"refuse 403 controller ID_USED: {ID_USED['message']}"),
    (_from_controller(200, {"code": 500}), "succeed 200 controller"),
]


@pytest.mark.parametrize(("message", "meaning"), [*DEVICE, *REMOTE, *OURS])
def test_what_it_means(message: dict[str, Any], meaning: str) -> None:
    answer = read(message)
    assert said(answer) == meaning
    data: Any = message.get("data")
    assert answer.result["data"] == (data.get("data") if answer.result["source"] == "device" else data)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (_from_controller(404, None), "fail 404 controller: .*no gateway of this name"),
        ({"id": 7, "code": 404, "sign": CONTROLLER}, "fail 404 controller: .*no gateway of this name"),
        (_from_controller(404, {"message": "x"}), "fail 404 controller: .*no gateway of this name"),
        (_from_controller(403, NO_MODEL), "fail 403 controller: .*no gateway of this name"),
        (_from_controller(408, EXPIRED), "expire 408 controller: .*it may have run"),
        *((_from_controller(code, {}), f"fail {code} controller: .") for code in (400, 403, 405, 500)),
        (_from_controller(500, "x"), "fail 500 controller: ."),
    ],
)
def test_what_our_controller_says_in_its_words(message: dict[str, Any], meaning: str) -> None:
    assert re.match(meaning, said(read(message)))


@pytest.mark.parametrize(
    ("code", "data", "meaning"),
    [
        (404, None, "fail 404 device: the gateway has no such resource$"),
        (403, NO_MODEL, "fail 403 device: the gateway has no such resource$"),
        (423, LOCKED, "refuse 423 device LOCKED_THERE: resource is locked$"),
        (503, {"message": "service unavailable"}, "refuse 503 device LOCKED_THERE: service unavailable$"),
        (403, ID_USED, f"refuse 403 device ID_USED: {ID_USED['message']}$"),
        (408, EXPIRED, "expire 408 device: passed on by the gateway's controller.*it may have run$"),
        *((code, {"message": "no"}, f"fail {code} device: ") for code in (400, 403, 405, 500)),
    ],
)
def test_what_the_controller_of_a_gateway_says(code: int, data: Any, meaning: str) -> None:
    """By itself, and through the remote bundle: the published one, and one that says 200."""
    message = _of_its_controller(code, data)
    for answer in (
        from_gateway(message),
        *(read({"id": 7, "code": outer, "data": message}) for outer in (200, 0, code)),
    ):
        assert re.match(meaning, said(answer))
        assert not answer.locked, "no lock of the server's bus"
        assert answer.result["data"] == data


def test_a_message_that_came_by_itself_is_the_devices() -> None:
    answer = from_gateway({"id": 7, "code": 200.0, "data": {"code": 500}, "sign": ["sys"]})
    assert answer.event is RequestEvent.SUCCEED
    assert answer.result == {"code": 200, "data": {"code": 500}, "source": "device"}
    deep: Any = 1
    for _ in range(jsoncodec.DEPTH_LIMIT + 1):
        deep = [deep]
    assert from_gateway({"id": 7, "code": 200, "data": deep}).result["code"] == 502


@pytest.mark.parametrize(
    ("code", "kept", "event"),
    [
        *((200.0, 200, "succeed"), (299.5, 299.5, "fail"), (300.0, 300, "fail"), (200.9, 200.9, "succeed")),
        *((404.0, 404, "fail"), (1e30, 1e30, "fail"), (-1e300, -1e300, "fail")),
    ],
)
def test_a_code_with_a_fraction(code: float, kept: float, event: str) -> None:
    answer = read({"id": 7, "code": code})
    assert (answer.event, answer.result["code"]) == (event, kept)
    assert type(answer.result["code"]) is type(kept)
    assert jsoncodec.faults(answer.result, "result") == []


# Of an event


@pytest.mark.parametrize("code", [200, 404, 408, 500])
def test_an_event_that_was_delivered_has_succeeded_whatever_code_it_carries(code: int) -> None:
    delivered = read(_from_device(code, {"a": 1})).as_delivery()
    assert delivered.event is RequestEvent.SUCCEED
    assert delivered.result == {"code": 200, "data": {"a": 1}, "source": "remote"}


@pytest.mark.parametrize(
    "message",
    [
        {"id": 7, "code": 200, "data": {}, "sign": ["remote"]},
        {"id": 7, "code": 500, "data": {"message": "broken"}, "sign": ["remote"]},
        _from_controller(404, None),
        _from_controller(408, None),
        _from_controller(423, {"message": "locked"}),
        {"id": 7, "code": 404, "data": _of_its_controller(404)},
        {"id": 7, "code": 423, "data": _of_its_controller(423)},
        {"id": 7, "code": 500, "data": {"message": "Remote requests timeout"}},
    ],
)
def test_an_event_that_was_not_delivered_ends_as_a_request(message: dict[str, Any]) -> None:
    answer = read(message)
    assert answer.as_delivery() == answer


def test_an_event_that_its_gateway_passed_on_was_delivered() -> None:
    delivered = read({"id": 7, "code": 408, "data": _of_its_controller(408)}).as_delivery()
    assert (delivered.event, delivered.result["code"]) == (RequestEvent.SUCCEED, 200)


# What cannot be kept


def test_garbled() -> None:
    answer = garbled("NaN is not JSON")
    assert answer.event is RequestEvent.FAIL
    assert answer.result == {
        "code": 502,
        "data": None,
        "source": "puppetmaster",
        "message": "the answer cannot be kept: NaN is not JSON",
    }
    assert may_have_run(answer.event, answer.result)


@pytest.mark.parametrize("levels", [jsoncodec.DEPTH_LIMIT + 1, 900])
def test_what_is_nested_too_deeply_to_be_stored_is_not_kept(levels: int) -> None:
    data: Any = 1
    for _ in range(levels):
        data = [data]
    for message in (
        {"id": 7, "code": 200, "data": data},
        _from_device(200, data),
        _from_controller(423, data),
    ):
        answer = read(message)
        assert (answer.event, answer.refusal) == (RequestEvent.FAIL, None)
        assert (answer.result["code"], answer.result["source"]) == (502, "puppetmaster")
        assert "nested deeper than 200 levels" in answer.result["message"]


def test_what_is_nested_up_to_the_limit_is_kept() -> None:
    data: Any = 1
    for _ in range(jsoncodec.DEPTH_LIMIT):
        data = [data]
    assert read({"id": 7, "code": 200, "data": data}).result["data"] == data


NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([200, 403, 404, 408, 423])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["code", "data", "message", "log"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"id": st.integers(0, 2**32), "code": NUMBERS},
        optional={"data": VALUES, "sign": VALUES | st.just(CONTROLLER)},
    )
)
def test_whatever_comes_has_a_meaning(message: dict[str, Any]) -> None:
    assert is_answer(message)
    answer = read(message)
    assert set(answer.result) - {"message"} == {"code", "data", "source"}
    assert answer.result["source"] in ("device", "remote", "controller")
    assert not isinstance(answer.result["code"], bool)
    assert math.isfinite(answer.result["code"])
    succeeded = answer.event is RequestEvent.SUCCEED
    assert succeeded == (200 <= answer.result["code"] <= 299)
    assert succeeded == ("message" not in answer.result)
    assert (answer.refusal is not None) == (answer.event is RequestEvent.REFUSE)
    assert answer.event in ("succeed", "fail", "expire", "refuse")
    if answer.result["code"] == 408:
        assert answer.event is RequestEvent.EXPIRE
    assert may_have_run(answer.event, answer.result) == (answer.event is not RequestEvent.FAIL)
