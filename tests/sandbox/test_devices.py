import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.devices import GARBAGE, NOTHING, Fault, Gateways, Reaction, version
from sandbox.fleet_log import Command

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def request(destination: str, method: str, resource: str, data: Any = None, id_: int = 7) -> dict[str, Any]:
    order = {"method": method, "resource": resource, "data": data}
    resource = f"/remote/{destination}"
    return {"id": id_, "method": method, "resource": resource, "tunnel": "t", "data": order}


def gateways(fault: Fault | None = None, **options: Any) -> Gateways:
    faults = {} if fault is None else {"cg-1": fault}
    return Gateways(["cg-1", "cg-2"], faults=faults, clock=lambda: NOON, **options)


def run(target: Gateways, method: str, resource: str, data: Any = None, destination: str = "cg-1") -> Any:
    """Execute one command and give the device's data."""
    (answer,) = target.receive("fleet", request(destination, method, resource, data), 0).answers
    assert answer["code"] == answer["data"]["code"] == 200
    return answer["data"]["data"]


def test_an_answer_nests_the_devices_answer() -> None:
    reaction = gateways().receive("fleet", request("cg-1", "POST", "/system/reboot", {"delay": 3}), 12.5)
    assert reaction == Reaction(
        Command(12.5, 7, "cg-1", "POST", "/system/reboot", {"delay": 3}),
        (
            {
                "id": 7,
                "code": 200,
                "method": "POST",
                "resource": "/remote/cg-1",
                "sign": ["fleet"],
                "data": {
                    "id": 7,
                    "code": 200,
                    "method": "POST",
                    "resource": "/system/reboot",
                    "sign": ["system"],
                    "data": {"rebooting": True},
                },
            },
        ),
        0,
    )


@pytest.mark.parametrize(
    ("method", "resource", "data", "expected"),
    [
        ("post", "/system/reboot", {}, {"rebooting": True}),
        ("get", "/system/time", None, {"time": "2026-01-02T12:00:00.000Z"}),
        ("GET", "/system/time?tz=1", None, {"time": "2026-01-02T12:00:00.000Z"}),
        ("get", "/system/info", None, {"name": "cg-1", "version": version("cg-1")}),
        ("post", "/anything", {"a": [1]}, {"a": [1]}),
        ("post", "/anything", None, {}),
        ("patch", "/", "text", "text"),
        ("put", "/system/time", {"time": "x"}, {"time": "x"}),
        ("delete", "/anything", None, {}),
    ],
)
def test_what_a_device_does(method: str, resource: str, data: Any, expected: Any) -> None:
    assert run(gateways(), method, resource, data) == expected


def test_what_is_put_is_kept_for_this_gateway_until_deleted() -> None:
    target = gateways()
    run(target, "put", "/system/info", {"name": "mine"})
    assert run(target, "get", "/system/info?x=1") == {"name": "mine"}
    assert run(target, "get", "/system/info", destination="cg-2")["name"] == "cg-2"
    run(target, "delete", "/system/info")
    assert run(target, "get", "/system/info")["name"] == "cg-1"


def test_a_fleet_has_few_versions_and_most_gateways_have_the_newest() -> None:
    found = [version(f"cg-{number:03}") for number in range(200)]
    assert set(found) == {"1.4.2", "1.4.1", "1.3.9"}
    assert found.count("1.4.2") > 100


def test_an_unknown_gateway() -> None:
    reaction = gateways().receive("fleet", request("cg-3", "get", "/system/time"), 0)
    assert reaction.command is None
    (answer,) = reaction.answers
    assert (answer["code"], answer["data"], answer["sign"]) == (
        404,
        {"message": "no such gateway"},
        ["fleet"],
    )


@pytest.mark.parametrize(
    "order",
    [
        None,
        "reboot",
        {},
        {"method": "get"},
        {"method": 1, "resource": "/"},
        {"method": "get", "resource": "x"},
    ],
)
def test_an_order_that_is_none_reaches_no_device(order: Any) -> None:
    reaction = gateways().receive("fleet", request("cg-1", "get", "/") | {"data": order}, 0)
    assert reaction.command is None
    assert [answer["code"] for answer in reaction.answers] == [400]


@pytest.mark.parametrize(
    ("fault", "logged", "outer_codes", "inner_codes"),
    [
        (Fault(), True, [200], [200]),
        (Fault(fail=500), True, [200], [500]),
        (Fault(refuse=503), False, [503], [None]),
        (Fault(silent=True), True, [], []),
        (Fault(dead=True), False, [], []),
        (Fault(twice=True), True, [200, 200], [200, 200]),
        (Fault(twice=True, fail=404), True, [200, 200], [404, 404]),
        (Fault(twice=True, refuse=503), False, [503, 503], [None, None]),
        (Fault(silent=True, fail=500), True, [], []),
        (Fault(dead=True, refuse=503), False, [], []),
    ],
)
def test_faults(
    fault: Fault, logged: bool, outer_codes: Sequence[int], inner_codes: Sequence[int | None]
) -> None:
    target = gateways(fault)
    reaction = target.receive("fleet", request("cg-1", "put", "/kept", {"a": 1}), 0)
    assert (reaction.command is not None) == logged
    assert [answer["code"] for answer in reaction.answers] == outer_codes
    assert [answer["data"].get("code") for answer in reaction.answers] == inner_codes
    assert run(target, "put", "/kept", destination="cg-2") == {}  # the others are well


def test_a_silent_gateway_executes_and_a_failing_one_does_not() -> None:
    for fault, kept in ((Fault(silent=True), True), (Fault(fail=500), False)):
        target = gateways(fault)
        target.receive("fleet", request("cg-1", "put", "/kept", {"a": 1}), 0)
        assert (("cg-1", "/kept") in target._kept) == kept


def test_every_kind_of_garbage_comes_and_none_is_a_devices_answer() -> None:
    target = gateways(Fault(garbage=True))
    seen = []
    for id_ in range(len(GARBAGE)):
        reaction = target.receive("fleet", request("cg-1", "get", "/", id_=id_), 0)
        assert reaction.command is not None
        (answer,) = reaction.answers
        assert answer["code"] == 200
        data = answer.get("data")
        assert not (isinstance(data, dict) and isinstance(data.get("code"), int))
        seen.append({key: answer[key] for key in answer if key == "data"})
    assert seen == list(GARBAGE)


def test_delay_jitter_and_what_replaces_them() -> None:
    message = request("cg-1", "get", "/")
    assert gateways(delay_s=0.5).receive("fleet", message, 0).after_s == 0.5
    jittery = gateways(delay_s=0.5, jitter_s=0.1, rng=random.Random(1))
    again = gateways(delay_s=0.5, jitter_s=0.1, rng=random.Random(1))
    delays = [jittery.receive("fleet", message, 0).after_s for _ in range(50)]
    assert delays == [again.receive("fleet", message, 0).after_s for _ in range(50)]
    assert 0.5 <= min(delays) < 0.52 < 0.58 < max(delays) < 0.6
    slow = gateways(Fault(after_s=2), delay_s=0.5, jitter_s=0.1)
    assert slow.receive("fleet", message, 0).after_s == 2
    assert slow.receive("fleet", request("cg-2", "get", "/"), 0).after_s < 0.6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    JSON
    | st.fixed_dictionaries(
        {},
        optional={
            "id": JSON,
            "code": JSON,
            "method": JSON,
            "resource": JSON | st.sampled_from(["/remote/", "/remote/cg-1", "/remote/cg-1?x"]),
            "data": JSON | st.fixed_dictionaries({"method": JSON, "resource": JSON | st.just("/")}),
        },
    )
)
def test_no_message_is_too_odd(message: Any) -> None:
    reaction = gateways().receive("fleet", message, 0)
    if reaction is not NOTHING:
        assert reaction.answers[0]["id"] == message["id"]
