"""The bodies of POST /jobs and POST /requests: every form, every fault with its place, all at once."""

import json
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.api.bodies import digest, parse_job, parse_request
from puppetmaster.errors import FAULTS_SHOWN, Fault, Invalid, PuppetmasterError, TooLarge
from puppetmaster.model.message import ANSWER_LIMIT_BYTES, MESSAGE_LIMIT_BYTES, Capacity, EncodedCommand
from puppetmaster.model.spec import ItemSpec, JobSpec
from tests.costs import calls

LIMIT = 50_000
MACS = ["00:0c:29:1c:e8:01", "00:0c:29:1c:e8:02", "00:0c:29:1c:e8:03"]
MESSAGE = {"method": "post", "resource": "/system/reboot", "data": {}}


def _to(destination: Any) -> dict[str, Any]:
    return {"__request": {"destination": destination}}


def _item(destination: Any = "cg-1", **given: Any) -> dict[str, Any]:
    return {**MESSAGE, **_to(destination), **given}


def _job(*items: Any, **given: Any) -> dict[str, Any]:
    return {"batch": list(items or [_item()]), **given}


def _faults(body: Any, parse: Callable[[Any, int], JobSpec] = parse_job) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        parse(body, LIMIT)
    found = {fault.path: fault.message for fault in refused.value.faults}
    assert len(found) == len(refused.value.faults)
    return found


# What is accepted


def test_the_job_of_the_api() -> None:
    spec = parse_job({"timeout": 36000, "batch": [_item(MACS)]}, LIMIT)
    assert spec == JobSpec(
        items=(ItemSpec("post", "/system/reboot", {}, tuple(MACS)),), timeout_s=36000, given={}
    )
    assert spec.total == 3


def test_all_properties() -> None:
    body = _job(name="night", key="k-1", timeout=1.5, requestTimeout=5, concurrency=10, idempotent=False)
    spec = parse_job(body, LIMIT)
    assert (spec.name, spec.key, spec.timeout_s) == ("night", "k-1", 1.5)
    assert spec.request_timeout_s == 5
    assert spec.given == {"requestTimeout": 5, "concurrency": 10, "idempotent": False}
    assert spec.digest == digest(spec) != ""


def test_what_was_not_given_is_not_shown_as_given() -> None:
    assert parse_job(_job(idempotent=True), LIMIT).given == {"idempotent": True}
    assert parse_job(_job(name="a", key="b", timeout=1), LIMIT).given == {}


@pytest.mark.parametrize("timeout", [{}, {"timeout": None}, {"timeout": "infinity"}])
def test_no_limit_has_three_forms(timeout: dict[str, Any]) -> None:
    assert parse_job(_job(**timeout), LIMIT).timeout_s is None


@pytest.mark.parametrize("method", ["get", "GET", "Put", "dElEtE", "POST"])
def test_methods_are_kept_in_lower_case(method: str) -> None:
    assert parse_job(_job(_item(method=method)), LIMIT).items[0].method == method.lower()


@pytest.mark.parametrize("data", [None, [], [1, {"a": None}], "text", 0, 1.5, True, {"code": 5, "é": {}}])
def test_data_pass_unchanged(data: Any) -> None:
    assert parse_job(_job(_item(data=data)), LIMIT).items[0].data == data


@pytest.mark.parametrize(("code", "kept"), [(200, 200), (100, 100), (999, 999), (200.0, 200), (None, None)])
def test_an_item_with_a_code_is_an_event(code: float | None, kept: int | None) -> None:
    older = {"destinations": ["cg-1"], "message": {**MESSAGE, "code": code}}
    for body in (_job(_item(code=code)), older):
        (item,) = parse_job(body, LIMIT).items
        assert item == ItemSpec("post", "/system/reboot", {}, ("cg-1",), kept)
        assert isinstance(item.code, int) == (kept is not None)


def test_absent_data_are_an_empty_object() -> None:
    body = _job({"method": "get", "resource": "/a", "__destination": "cg-1"})
    assert parse_job(body, LIMIT).items[0].data == {}


@pytest.mark.parametrize(
    "where",
    [
        lambda found: {"__request": {"destination": found}},
        lambda found: {"__request": {"__destination": found}},
        lambda found: {"__destination": found},
        lambda found: {"__request": {}, "__destination": found},
    ],
)
@pytest.mark.parametrize(
    ("found", "destinations"), [("cg-1", ("cg-1",)), (["cg-1"], ("cg-1",)), (MACS, tuple(MACS))]
)
def test_every_form_of_destinations(where: Any, found: Any, destinations: tuple[str, ...]) -> None:
    body = _job({**MESSAGE, **where(found)})
    assert parse_job(body, LIMIT).items == (ItemSpec("post", "/system/reboot", {}, destinations),)


def test_the_order_is_batch_order_then_list_order() -> None:
    spec = parse_job(_job(_item(["b", "a"]), _item(["a", "c"], method="get"), _item("b")), LIMIT)
    assert [item.destinations for item in spec.items] == [("b", "a"), ("a", "c"), ("b",)]
    assert spec.total == 5


@pytest.mark.parametrize(
    "name",
    ["00:0c:29:1c:e8:01", "cg-000c291ce801", "a", "gerät", "\U0001f600", "a.b_c~d%2F", "'\"\\{}", "x" * 1015],
)
def test_names_that_are_real(name: str) -> None:
    assert parse_job(_job(_item([name])), LIMIT).items[0].destinations == (name,)


# The older forms


def test_the_older_form_is_the_same_job() -> None:
    older = {"destinations": MACS, "message": MESSAGE, "options": {"timeout": 7000}}
    spec = parse_job(older, LIMIT)
    assert spec.items == parse_job(_job(_item(MACS)), LIMIT).items
    assert spec.timeout_s is None
    assert spec.request_timeout_s == 7
    assert spec.given == {"requestTimeout": 7}


@pytest.mark.parametrize(
    "options",
    [{}, {"options": {}}, {"options": None}, {"options": {"timeout": None}}, {"options": {"timeout": 0}}],
)
def test_the_older_form_without_options(options: dict[str, Any]) -> None:
    spec = parse_job(
        {"destinations": "cg-1", "message": {"method": "GET", "resource": "/a"}, **options}, LIMIT
    )
    assert spec == JobSpec(items=(ItemSpec("get", "/a", {}, ("cg-1",)),), given={})


def test_one_request() -> None:
    body = {"destination": "cg-1", "message": MESSAGE, "options": {"timeout": 7000}}
    spec = parse_request(body, LIMIT)
    assert spec.items == (ItemSpec("post", "/system/reboot", {}, ("cg-1",)),)
    assert (spec.total, spec.request_timeout_s, spec.given) == (1, 7, {"requestTimeout": 7})


@pytest.mark.parametrize(("ms", "timeout_s"), [(36000, 36), (1, 0.001), (1500.0, 1.5), (10**12, 10**9)])
def test_the_timeout_of_the_older_form_is_in_milliseconds(ms: float, timeout_s: float) -> None:
    body = {"destination": "cg-1", "message": MESSAGE, "options": {"timeout": ms}}
    assert parse_request(body, LIMIT).request_timeout_s == timeout_s


@pytest.mark.parametrize("ms", [0.5, -1, 10**12 + 1, 10**400, "36000", math.nan])
def test_odd_timeouts_of_the_older_form(ms: Any) -> None:
    body = {"destination": "cg-1", "message": MESSAGE, "options": {"timeout": ms}}
    assert _faults(body, parse_request)["options.timeout"].startswith("expected milliseconds, from 1 to ")


def test_what_older_clients_send_along_is_ignored() -> None:
    message = {**MESSAGE, "id": 7, "formData": {"a": 1}}
    for form in ({"destination": "cg-1"}, {"destinations": ["cg-1"]}):
        parse = parse_request if "destination" in form else parse_job
        plain = parse({**form, "message": MESSAGE, "key": "k"}, LIMIT)
        assert parse({**form, "message": message, "key": "k", "formData": "{}"}, LIMIT) == plain
    odd = _faults(_job({**_item(["cg-1"]), "id": 7, "formData": ""}))
    assert set(odd) == {"batch[0].id", "batch[0].formData"}


@pytest.mark.parametrize("options", [5, "timeout", ["timeout"], True, []])
@pytest.mark.parametrize(("parse", "where"), [(parse_job, "destinations"), (parse_request, "destination")])
def test_odd_options(parse: Any, where: str, options: Any) -> None:
    found = _faults({where: "cg-1", "message": MESSAGE, "options": options}, parse)
    assert list(found) == ["options"]
    assert found["options"].startswith("expected an object, got ")


@pytest.mark.parametrize(("parse", "where"), [(parse_job, "destinations"), (parse_request, "destination")])
def test_all_faults_of_the_older_forms_at_once(parse: Any, where: str) -> None:
    message = {"method": "go", "resource": "a", "data": {"n": math.nan}, "__destination": "x"}
    body = {where: "a/b", "message": message, "options": {"timeout": -1}, "concurency": 1}
    assert set(_faults(body, parse)) == {
        *(where, "message.method", "message.resource", "message.data.n", "message.__destination"),
        *("options.timeout", "concurency"),
    }
    del body[where]
    assert {where, "message.method", "message.resource", "message.data.n"} < set(_faults(body, parse))


@pytest.mark.parametrize("message", [None, [], "get /a", 5])
def test_the_message_of_the_older_forms_is_an_object(message: Any) -> None:
    for parse, where in ((parse_job, "destinations"), (parse_request, "destination")):
        found = _faults({where: "", "message": message}, parse)
        assert set(found) == {where, "message"}
        assert found["message"].startswith("expected an object, got ")


def test_one_form_at_a_time() -> None:
    assert set(_faults({**_job(), "destinations": "cg-1", "message": MESSAGE})) == {"destinations", "message"}


# What is refused, and where

NONE = "expected this property, got none"
ONE = "expected one destination as a string, got"


@pytest.mark.parametrize(
    ("parse", "body", "faults"),
    [
        (parse_job, {}, {"batch": "expected either a batch or rerun"}),
        (parse_job, {"destinations": "cg-1"}, {"message": NONE}),
        (parse_job, {"message": MESSAGE}, {"destinations": NONE}),
        (parse_request, {}, {"destination": NONE, "message": NONE}),
        (parse_request, {"destination": ["cg-1"], "message": MESSAGE}, {"destination": f"{ONE} a list"}),
        (parse_request, {"destination": None, "message": MESSAGE}, {"destination": f"{ONE} null"}),
        (parse_request, {"destination": 5, "message": MESSAGE}, {"destination": f"{ONE} a number"}),
        (parse_request, {"destination": {}, "message": MESSAGE}, {"destination": f"{ONE} an object"}),
    ],
)
def test_what_is_missing_or_no_destination_is_named(parse: Any, body: Any, faults: dict[str, str]) -> None:
    assert _faults(body, parse) == faults


@pytest.mark.parametrize(
    ("found", "got"),
    [(None, "null"), ([], "a list"), ("{}", "a string"), (5, "a number"), (True, "a boolean")],
)
def test_a_body_and_an_item_are_objects(found: Any, got: str) -> None:
    for parse in (parse_job, parse_request):
        assert _faults(found, parse) == {"": f"expected an object as the body, got {got}"}
    assert _faults(_job(_item(), found)) == {"batch[1]": f"expected an object, got {got}"}


NO_LIST = "expected the destinations, got none"
SEVERAL = "expected exactly one list of destinations, got several"
NAME = "expected a name without / ? # + and white space, got"
TWICE = "expected each destination once in an item, got"
TOO_LONG = "expected /remote/<name> within 1023 bytes, got a longer one"


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({}, {"": NO_LIST}),
        ({"__request": {}}, {"": NO_LIST}),
        ({"__request": {"destination": "a", "__destination": "a"}}, {"": SEVERAL}),
        ({"__request": {"destination": "a"}, "__destination": "a"}, {"": SEVERAL}),
        ({"__request": {"__destination": "a"}, "__destination": "a"}, {"": SEVERAL}),
        ({"__request": {"destination": "a", "__destination": "a"}, "__destination": "a"}, {"": SEVERAL}),
        (_to(["cg-1", None]), {"[1]": f"{NAME} null"}),
        (_to(["cg-1", 5]), {"[1]": f"{NAME} a number"}),
        (_to(["cg-1", ["a"]]), {"[1]": f"{NAME} a list"}),
        (_to(["cg-1", True]), {"[1]": f"{NAME} a boolean"}),
        (_to("x" * 1016), {"": TOO_LONG}),
        (_to("é" * 508), {"": TOO_LONG}),
        (
            _to(["a", "b", "a", "c", "b"]),
            {"[2]": f"{TWICE} 'a' as at 0", "[4]": f"{TWICE} 'b' as at 1"},
        ),
    ],
)
def test_wrong_destinations_are_told_with_their_place(given: Any, faults: dict[str, str]) -> None:
    expected = {f"batch[0].__request.destination{path}": said for path, said in faults.items()}
    assert _faults(_job({**MESSAGE, **given})) == expected


@pytest.mark.parametrize(
    ("found", "got"), [([], "an empty list"), (None, "null"), (5, "a number"), (True, "a boolean")]
)
@pytest.mark.parametrize(
    ("where", "path"),
    [
        (lambda found: {"__request": {"destination": found}}, "batch[0].__request.destination"),
        (lambda found: {"__request": {"__destination": found}}, "batch[0].__request.__destination"),
        (lambda found: {"__destination": found}, "batch[0].__destination"),
    ],
)
def test_destinations_that_are_none(where: Any, path: str, found: Any, got: str) -> None:
    said = f"expected a string or a list of at least one string, got {got}"
    assert _faults(_job({**MESSAGE, **where(found)})) == {path: said}


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "a?b", "a#b", "a+b", "a b", "a\tb", "a\nb", " ", "a\u00a0b", "a\u2003b"),
        *("a\0", "\x1f", "\x7f", "\x85", "a\ud800", "\udfff"),
    ],
)
def test_names_that_are_none(name: str) -> None:
    path = "batch[0].__request.destination"
    for found, where in ((name, path), (["cg-1", name], f"{path}[1]")):
        ((place, said),) = _faults(_job(_item(found))).items()
        assert place == where
        assert said.startswith(f"{NAME} '")
        assert jsoncodec.faults(said, "") == []


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (math.nan, "batch[0].data"),
        ({"a": [math.inf]}, "batch[0].data.a[0]"),
        ({"a": "\0"}, "batch[0].data.a"),
        ({"\ud800": 1}, "batch[0].data.\\ud800"),
        ([2**63], "batch[0].data[0]"),
        ([-(2**63) - 1], "batch[0].data[0]"),
    ],
)
def test_data_that_the_bus_cannot_carry(data: Any, path: str) -> None:
    assert list(_faults(_job(_item(data=data)))) == [path]
    assert list(_faults(_job(_item([], data=data)))) == ["batch[0].__request.destination", path]
    older = _faults({"destinations": "a", "message": {**MESSAGE, "data": data}})
    assert list(older) == [path.replace("batch[0]", "message")]


def test_data_that_are_nested_too_deeply() -> None:
    data: Any = 1
    for _ in range(5000):
        data = [data]
    ((path, said),) = _faults(_job(_item(data=data))).items()
    assert path.startswith("batch[0].data[0]")
    assert said == "expected at most 200 levels of nesting, got more"


def _largest(data: Any, destination: str, method: str = "post", resource: str = "/a") -> bytes:
    """An event as it is sent, with a tunnel of 63 and an id of ten characters."""
    body = {"code": 200, "method": method, "resource": resource, "data": data}
    return EncodedCommand(body, "t" * 63).message(2**32 - 1, destination).payload


def _of_size(size: int, destination: str, padding: str = "x") -> dict[str, Any]:
    """An item whose largest message has this size."""
    empty = _largest("", destination)
    count, rest = divmod(size - len(empty), len(json.dumps(padding)) - 2)
    return _item(["z", destination], resource="/a", data=padding * count + "x" * rest)


@pytest.mark.parametrize("method", ["post", "get"])
def test_a_message_stays_below_what_the_broker_carries(method: str) -> None:
    """It has it indented too, from the controller."""
    capacity = Capacity(20_000)

    def job(count: int) -> dict[str, Any]:
        return _job(_item("a"), _item(["a" * 20], method=method, data={"numbers": [7] * count}))

    most = bisect_left(range(2000), True, key=lambda count: bool(_refused(job(count), capacity))) - 1
    assert most > 500
    item = parse_job(job(most), LIMIT, capacity).items[1]
    message = json.loads(_largest(item.data, "a" * 20, method))
    assert 19_000 < len(json.dumps(message, indent=4)) < 20_000 - 63
    (fault,) = _refused(job(most + 1), capacity)
    assert fault.path == "batch[1].data"
    assert "indented as the controller passes it on, what the broker carries, got 19" in fault.message
    body = {"destination": "a", "message": {"method": method, "resource": "/a", "data": [7] * 2000}}
    with pytest.raises(Invalid, match="what the broker carries"):
        parse_request(body, LIMIT, capacity)


def _refused(body: Any, capacity: Capacity) -> list[Fault]:
    try:
        parse_job(body, LIMIT, capacity)
    except Invalid as error:
        return list(error.faults)
    return []


@pytest.mark.parametrize("destination", ["cg-000c291ce801", "ä" * 20])
@pytest.mark.parametrize("padding", ["x", "é", "\U0001f600", '"'])
def test_a_message_stays_below_what_the_controller_passes(destination: str, padding: str) -> None:
    largest = _of_size(MESSAGE_LIMIT_BYTES - 1, destination, padding)
    (item,) = parse_job(_job(largest), LIMIT).items
    sent = _largest(item.data, destination, item.method, item.resource)
    assert len(sent) == MESSAGE_LIMIT_BYTES - 1
    assert parse_job(_job({**largest, "code": 200}), LIMIT).items[0].code == 200
    ((path, said),) = _faults(_job(_item(), _of_size(MESSAGE_LIMIT_BYTES, destination, padding))).items()
    assert path == "batch[1].data"
    assert said.startswith("expected a message below 1048576 bytes")
    assert said.endswith("got 1048576")


def test_all_faults_of_a_batch_at_once() -> None:
    body = {
        "timeout": -1,
        "concurency": 5,
        "waves": [2, 1],
        "batch": [
            _item(),
            {"method": "go", "resource": "a", "dta": 1, "__request": {"destination": ["a", "a"], "to": 1}},
            5,
            {"__request": 5},
            {**MESSAGE, "data": "\0", "__destination": "a/b"},
            _item(method=5, resource="\ud800"),
        ],
    }
    assert set(_faults(body)) == {
        *("timeout", "concurency", "waves"),
        *("batch[1].method", "batch[1].resource", "batch[1].dta"),
        *("batch[1].__request.destination[1]", "batch[1].__request.to"),
        "batch[2]",
        *("batch[3].method", "batch[3].resource", "batch[3].__request", "batch[3].__request.destination"),
        *("batch[4].data", "batch[4].__destination", "batch[5].method", "batch[5].resource"),
    }


def test_very_many_faults_are_counted() -> None:
    with pytest.raises(Invalid) as refused:
        parse_job(_job(_item([""] * (FAULTS_SHOWN + 500))), LIMIT)
    assert len(refused.value.faults) == FAULTS_SHOWN + 1
    assert refused.value.faults[-1].message == "500 more faults are not listed"
    assert len(jsoncodec.encode(refused.value.body())) < ANSWER_LIMIT_BYTES
    with pytest.raises(Invalid) as refused:
        parse_job(_job(_item([""] * FAULTS_SHOWN)), LIMIT)
    assert len(refused.value.faults) == FAULTS_SHOWN
    assert "more faults" not in refused.value.faults[-1].message


def test_items_beyond_the_limit_are_not_looked_at() -> None:
    body: dict[str, Any] = {"batch": [{}] * (LIMIT + 1)}

    def refused() -> None:
        with pytest.raises(TooLarge, match=f"makes {LIMIT + 1} requests"):
            parse_job(body, LIMIT)

    assert calls(refused) < 2000
    with pytest.raises(Invalid):
        parse_job({**body, "nme": "x"}, LIMIT)


# Limits


def test_as_many_requests_as_the_limit_and_no_more() -> None:
    assert parse_job(_job(_item(["a", "b"]), _item("c")), 3).total == 3
    with pytest.raises(TooLarge) as refused:
        parse_job(_job(_item(["a", "b"]), _item(["c", "d"])), 3)
    assert "makes 4 requests, and 3 are the most" in refused.value.message
    assert "PUPPETMASTER_MAX_REQUESTS" in refused.value.message
    with pytest.raises(TooLarge):
        parse_job({"destinations": ["a", "b"], "message": MESSAGE}, 1)


def test_faults_come_before_the_limit() -> None:
    with pytest.raises(Invalid):
        parse_job(_job(_item(["a", "b"]), nme="x"), 1)


class _Counted(str):
    """A name that makes each of its comparisons a call, so that they are counted too."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


@pytest.mark.parametrize(
    "form", [lambda names: _job(_item(names)), lambda names: {"destinations": names, "message": MESSAGE}]
)
def test_50_000_destinations_cost_a_few_calls_each(form: Any) -> None:
    names = [_Counted(f"00:0c:29:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}") for n in range(LIMIT)]
    body = form(names)
    assert calls(lambda: parse_job(body, LIMIT)) < 25 * LIMIT


def test_50_000_items_cost_a_few_calls_each() -> None:
    few, many = _job(*[_item()] * 100), _job(*[_item()] * 1000)
    assert calls(lambda: parse_job(many, LIMIT)) < 11 * calls(lambda: parse_job(few, LIMIT))


# The fingerprint


def test_the_same_job_has_the_same_fingerprint() -> None:
    one = parse_job({"key": "k", "timeout": 1, "batch": [_item(data={"a": 1, "b": 2})]}, LIMIT)
    for other in (
        {"batch": [_item(data={"b": 2, "a": 1})], "timeout": 1, "key": "k"},
        {"batch": [_item(data={"b": 2, "a": 1})], "timeout": 1.0, "key": "k", "name": None},
        {"batch": [{**_item(data={"a": 1, "b": 2}), "method": "POST"}], "timeout": 1, "key": "k"},
        {"batch": [_item(data={"a": 1, "b": 2})], "timeout": 1, "key": "k", "dryRun": True},
    ):
        assert parse_job(other, LIMIT).digest == one.digest != ""


@pytest.mark.parametrize(
    "change", [{"timeout": 2}, {"name": "x"}, {"batch": [_item("cg-2")]}, {"batch": [_item(data={"a": 1})]}]
)
def test_another_body_has_another_fingerprint(change: dict[str, Any]) -> None:
    body = _job(key="k")
    assert parse_job(body, LIMIT).digest != parse_job({**body, **change}, LIMIT).digest


def test_a_job_without_a_key_needs_none() -> None:
    assert parse_job(_job(), LIMIT).digest == ""


# Whatever comes

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | st.sampled_from(["post", "/a", "cg-1", "timeout", "infinity"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("batch", "method", "resource", "data", "__request", "__destination", "destination"),
                    *("destinations", "message", "options", "timeout", "name", "key", "concurrency"),
                ]
            )
            | st.text(st.characters(exclude_categories=()), max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "batch": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "method": st.just("get") | ODD,
                    "resource": st.just("/a") | ODD,
                    "data": ODD,
                    "__request": st.fixed_dictionaries({"destination": st.just("cg-1") | ODD}) | ODD,
                    "__destination": ODD,
                },
            )
            | ODD,
            max_size=3,
        ),
        "destination": st.just("cg-1") | ODD,
        "destinations": ODD,
        "message": st.fixed_dictionaries({"method": st.just("put") | ODD, "resource": st.just("/a") | ODD})
        | ODD,
        "options": st.fixed_dictionaries({"timeout": ODD}) | ODD,
        "timeout": ODD,
        "key": ODD,
        "concurrency": ODD,
        "idempotent": ODD,
    },
)


@given(ODD | NEARLY, st.sampled_from([parse_job, parse_request]))
def test_whatever_comes_is_a_job_or_an_error_that_can_be_answered(body: Any, parse: Any) -> None:
    before = json.dumps(body)
    refused, spec = None, None
    try:
        spec = parse(body, LIMIT)
    except PuppetmasterError as error:
        refused = error
    if refused is not None:
        assert refused.status in (400, 413)
        assert jsoncodec.faults(refused.body(), "") == []
        assert all(len(fault.message) < 1500 for fault in getattr(refused, "faults", ()))
    if spec is not None:
        assert spec.total > 0
        for item in spec.items:
            assert (
                jsoncodec.faults([item.method, item.resource, item.data, list(item.destinations)], "") == []
            )
    assert json.dumps(body) == before


def test_the_digest_does_not_say_who_asked() -> None:
    spec = parse_job(_job(key="k"), LIMIT)
    assert digest(replace(spec, created_by="ann")) == spec.digest


def test_a_job_names_webhooks_that_are_known() -> None:
    asked = _job(notify=["ops", "lab"])
    assert parse_job(asked, LIMIT).given["notify"] == ["ops", "lab"]
    assert parse_job(asked, LIMIT, hooks=("ops", "lab")).given["notify"] == ["ops", "lab"]
    faults = _faults({**asked, "waves": [0]}, lambda body, most: parse_job(body, most, hooks=("ops",)))
    assert set(faults) == {"waves", "notify[1]"}
