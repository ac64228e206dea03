"""What an answer means: by its outer and inner code, by who signed it, and whatever odd thing it holds."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.model.reply import Refusal, Reply, from_gateway, garbled, is_answer, may_have_run, read
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


# The device's


@pytest.mark.parametrize("code", [200, 201, 204, 250, 299])
def test_the_device_says_yes(code: int) -> None:
    answer = read(_from_device(code, {"a": 1}))
    assert (answer.event, answer.refusal) == (RequestEvent.SUCCEED, None)
    assert answer.result == {"code": code, "data": {"a": 1}, "source": "device"}


@pytest.mark.parametrize("code", [0, -1, 100, 199, 300, 400, 404, 423, 500, 503, 99999999999])
def test_the_device_says_no(code: int) -> None:
    answer = read(_from_device(code, {"message": "not now"}))
    assert (answer.event, answer.refusal) == (RequestEvent.FAIL, None)
    assert answer.result == {
        "code": code,
        "data": {"message": "not now"},
        "source": "device",
        "message": "not now",
    }


@pytest.mark.parametrize(
    "data", [None, [], "broken", 0, {}, {"message": ""}, {"message": 5}, {"message": None}]
)
def test_a_failure_without_a_sentence_gets_one(data: Any) -> None:
    result = read(_from_device(500, data)).result
    assert result["message"] == "the device answered 500"
    assert result["data"] == data


@pytest.mark.parametrize("data", [{}, [1], "text", 5, None, True])
def test_the_data_of_the_device_are_kept_as_they_are(data: Any) -> None:
    assert read(_from_device(200, data)).result["data"] == data


def test_a_device_that_answers_no_data() -> None:
    answer = read({"id": 7, "code": 200, "data": {"code": 204}})
    assert answer.result == {"code": 204, "data": None, "source": "device"}


@pytest.mark.parametrize("outer", [0, 200, 201, 204, 404, 408, 423, 500, 502, 503])
@pytest.mark.parametrize(
    ("inner", "event"), [(200, "succeed"), (404, "fail"), (408, "expire"), (423, "fail"), (500, "fail")]
)
def test_the_inner_code_counts_whatever_the_outer_one(outer: int, inner: int, event: str) -> None:
    answer = read({**_from_device(inner, {"message": "well"}), "code": outer})
    assert (answer.event, answer.refusal) == (event, None)
    assert (answer.result["code"], answer.result["source"]) == (inner, "device")
    assert answer.result["data"] == {"message": "well"}


def test_the_published_remote_bundle_repeats_the_device() -> None:
    inner = {
        "code": 409,
        "method": "put",
        "resource": "/system/firmware",
        "sign": ["sys"],
        "id": 4711,
        "data": {"message": "battery low"},
    }
    assert read({"id": 7, "code": 409, "data": inner, "sign": ["remote"]}).result == {
        "code": 409,
        "data": {"message": "battery low"},
        "source": "device",
        "message": "battery low",
    }


def test_the_408_of_a_device_may_have_run() -> None:
    answer = read(_from_device(408, {"message": "the modem is silent"}))
    assert (answer.event, answer.refusal) == (RequestEvent.EXPIRE, None)
    assert (answer.result["code"], answer.result["source"]) == (408, "device")
    assert answer.result["message"] == "the modem is silent: it may have run"


# Of the gateway's own bus


def _of_its_controller(code: int, data: Any = None) -> dict[str, Any]:
    """What the gateway's own controller says."""
    return {
        "id": 4711,
        "code": code,
        "method": "POST",
        "resource": "/a",
        "data": data,
        "sign": CONTROLLER,
    }


def _both_ways(message: dict[str, Any]) -> list[Reply]:
    """As it comes by itself, and through the remote bundle: the published one, and one that says 200."""
    outer = (200, 0, message["code"])
    return [from_gateway(message), *(read({"id": 7, "code": code, "data": message}) for code in outer)]


@pytest.mark.parametrize(("code", "data"), [(404, None), (403, NO_MODEL)])
def test_a_gateway_that_has_no_such_resource(code: int, data: Any) -> None:
    for answer in _both_ways(_of_its_controller(code, data)):
        assert (answer.event, answer.refusal) == (RequestEvent.FAIL, None)
        assert answer.result == {
            "code": code,
            "data": data,
            "source": "device",
            "message": "the gateway has no such resource",
        }


@pytest.mark.parametrize(
    ("code", "data", "refusal"),
    [
        (423, {"message": "resource is locked"}, Refusal.LOCKED_THERE),
        (503, {"message": "service unavailable"}, Refusal.LOCKED_THERE),
        (403, ID_USED, Refusal.ID_USED),
    ],
)
def test_what_the_gateways_controller_refuses_did_not_run(code: int, data: Any, refusal: Refusal) -> None:
    for answer in _both_ways(_of_its_controller(code, data)):
        assert (answer.event, answer.refusal) == (RequestEvent.REFUSE, refusal)
        assert not answer.locked, "no lock of the server's bus"
        assert (answer.result["code"], answer.result["source"]) == (code, "device")
        assert answer.result["message"] == data["message"]


def test_the_408_of_the_gateways_controller_may_have_run() -> None:
    for answer in _both_ways(_of_its_controller(408, {"message": "session failed due to ttl expired ."})):
        assert (answer.event, answer.refusal) == (RequestEvent.EXPIRE, None)
        assert (answer.result["code"], answer.result["source"]) == (408, "device")
        assert answer.result["message"].startswith("passed on by the gateway's controller")
        assert answer.result["message"].endswith("it may have run")


@pytest.mark.parametrize("code", [400, 403, 405, 500])
def test_any_other_failure_of_the_gateways_controller(code: int) -> None:
    for answer in _both_ways(_of_its_controller(code, {"message": "no"})):
        assert (answer.event, answer.result["source"]) == (RequestEvent.FAIL, "device")


def test_a_message_that_came_by_itself_is_the_devices() -> None:
    answer = from_gateway({"id": 7, "code": 200.0, "data": {"code": 500}, "sign": ["sys"]})
    assert answer.event is RequestEvent.SUCCEED
    assert answer.result == {"code": 200, "data": {"code": 500}, "source": "device"}
    deep: Any = 1
    for _ in range(jsoncodec.DEPTH_LIMIT + 1):
        deep = [deep]
    assert from_gateway({"id": 7, "code": 200, "data": deep}).result["code"] == 502


# The remote bundle's


@pytest.mark.parametrize("inner", [None, True, False, "500", "200", 200.0, 500.5, [500], {"code": 500}])
def test_an_inner_code_that_is_no_integer_is_the_remote_bundles_data(inner: Any) -> None:
    answer = read({"id": 7, "code": 200, "data": {"code": inner}})
    assert answer.event is RequestEvent.SUCCEED
    assert answer.result == {"code": 200, "data": {"code": inner}, "source": "remote"}


@pytest.mark.parametrize("data", [None, {}, {"a": 1}, [], [{"code": 500}], "text", 5, True])
def test_data_without_an_inner_code_are_the_remote_bundles(data: Any) -> None:
    answer = read({"id": 7, "code": 200, "data": data})
    assert answer.event is RequestEvent.SUCCEED
    assert answer.result == {"code": 200, "data": data, "source": "remote"}


def test_the_least_that_is_an_answer() -> None:
    assert read({"id": 7, "code": 200}).result == {"code": 200, "data": None, "source": "remote"}


@pytest.mark.parametrize("code", [0, -2, 199, 300, 404, 423, 500, 503])
@pytest.mark.parametrize(
    "sign", [None, [], ["remote"], ["controller", "remote"], ["remote", "controller"], "controller"]
)
def test_the_remote_bundle_says_no(code: int, sign: Any) -> None:
    answer = read({"id": 7, "code": code, "data": {"message": "no tunnel"}, "sign": sign})
    assert (answer.event, answer.refusal) == (RequestEvent.FAIL, None)
    assert answer.result == {
        "code": code,
        "data": {"message": "no tunnel"},
        "source": "remote",
        "message": "no tunnel",
    }


@pytest.mark.parametrize(
    "data", [{"code": 200}, {"code": 17, "message": "x"}, {"code": 200, "method": "get"}]
)
def test_an_error_of_the_remote_bundle_with_a_code_in_it_is_no_message_of_a_gateway(data: Any) -> None:
    answer = read({"id": 7, "code": 502, "data": data})
    assert (answer.event, answer.result["code"], answer.result["source"]) == ("fail", 502, "remote")


@pytest.mark.parametrize(
    ("code", "data", "said"),
    [
        (500, {"message": "Remote requests timeout"}, "Remote requests timeout: it may have run"),
        (408, {"message": "too slow"}, "too slow: it may have run"),
        (408, None, "the remote answered 408: it may have run"),
    ],
)
def test_a_remote_bundle_that_has_waited_in_vain_may_have_had_it_run(code: int, data: Any, said: str) -> None:
    answer = read({"id": 7, "code": code, "data": data, "sign": ["remote"]})
    assert (answer.event, answer.refusal) == (RequestEvent.EXPIRE, None)
    assert answer.result == {"code": code, "data": data, "source": "remote", "message": said}


@pytest.mark.parametrize(
    ("code", "kept", "event"),
    [
        (200.0, 200, "succeed"),
        (299.5, 299.5, "fail"),
        (300.0, 300, "fail"),
        (200.9, 200.9, "succeed"),
        (404.0, 404, "fail"),
        (1e30, 1e30, "fail"),
        (-1e300, -1e300, "fail"),
    ],
)
def test_a_code_with_a_fraction(code: float, kept: float, event: str) -> None:
    answer = read({"id": 7, "code": code})
    assert (answer.event, answer.result["code"]) == (event, kept)
    assert type(answer.result["code"]) is type(kept)
    assert jsoncodec.faults(answer.result, "result") == []


def test_a_large_code_is_said_in_full() -> None:
    assert read({"id": 7, "code": 99999999999}).result["message"] == "the remote answered 99999999999"


# The controller's


@pytest.mark.parametrize("code", [423, 503])
@pytest.mark.parametrize("data", [{"message": "resource is locked"}, None, [], "locked"])
def test_a_lock_is_a_refusal(code: int, data: Any) -> None:
    answer = read(_from_controller(code, data))
    assert (answer.event, answer.refusal) == (RequestEvent.REFUSE, Refusal.LOCKED)
    assert (answer.result["code"], answer.result["source"]) == (code, "controller")
    assert answer.result["message"] == ("resource is locked" if isinstance(data, dict) else "refused")


def test_both_sentences_of_the_controller_are_shown() -> None:
    data = {"message": "service unavailable", "log": "failed to lock resource"}
    assert (
        read(_from_controller(503, data)).result["message"] == "service unavailable, failed to lock resource"
    )


def test_an_id_in_flight_is_a_refusal() -> None:
    answer = read(_from_controller(403, ID_USED))
    assert (answer.event, answer.refusal) == (RequestEvent.REFUSE, Refusal.ID_USED)


@pytest.mark.parametrize(("code", "data"), [(404, None), (404, {"message": "x"}), (403, NO_MODEL)])
def test_no_such_gateway(code: int, data: Any) -> None:
    answer = read(_from_controller(code, data))
    assert (answer.event, answer.refusal) == (RequestEvent.FAIL, None)
    assert answer.result["code"] == code
    assert "no gateway of this name" in answer.result["message"]


def test_a_404_of_the_controller_has_no_data_at_all() -> None:
    answer = read({"id": 7, "code": 404, "sign": CONTROLLER})
    assert answer.event is RequestEvent.FAIL
    assert answer.result["data"] is None
    assert answer.result["source"] == "controller"


def test_a_408_of_the_controller_may_have_run() -> None:
    answer = read(_from_controller(408, {"message": "session failed due to ttl expired ."}))
    assert (answer.event, answer.refusal) == (RequestEvent.EXPIRE, None)
    assert answer.result["code"] == 408
    assert "it may have run" in answer.result["message"]


@pytest.mark.parametrize(
    ("code", "data"), [(403, {"message": "forbidden"}), (400, None), (405, {}), (500, "x")]
)
def test_any_other_failure_of_the_controller(code: int, data: Any) -> None:
    answer = read(_from_controller(code, data))
    assert (answer.event, answer.refusal) == (RequestEvent.FAIL, None)
    assert (answer.result["code"], answer.result["source"]) == (code, "controller")
    assert answer.result["message"]


def test_a_yes_of_the_controller() -> None:
    answer = read(_from_controller(200, {"code": 500}))
    assert answer.event is RequestEvent.SUCCEED
    assert answer.result == {"code": 200, "data": {"code": 500}, "source": "controller"}


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
