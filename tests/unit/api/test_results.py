"""Equal results are one line; what stands out says how."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.api.results import DIFFERENCES, Groups, differences, good, view
from puppetmaster.model.request import Item, Request, RequestStatus

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def request(id_: int, destination: str, data: Any, *, code: int = 200, message: str | None = None) -> Request:
    result = {"code": code, "data": data, "source": "device"}
    return Request(
        id=id_,
        job=1,
        item=1,
        destination=destination,
        status=RequestStatus.RESOLVED if code == 200 else RequestStatus.ERROR,
        result=result if message is None else {**result, "message": message},
    )


def fleet(*data: Any) -> list[Request]:
    return [request(number, f"cg-{number:03}", one) for number, one in enumerate(data, 1)]


def fold(requests: list[Request], *, full: bool, diff: bool) -> list[dict[str, Any]]:
    """All groups of these requests, sorted in two at a time."""
    groups, by_id = Groups(), {request.id: request for request in requests}
    for start in range(0, len(requests), 2):
        groups.add(requests[start : start + 2])
    best = good(groups.ordered()).get(0) if diff else None
    beside = by_id[best.first] if best is not None else None
    return [
        view(group, by_id[group.first], full=full, beside=beside, item=None) for group in groups.ordered()
    ]


def test_steps_are_never_in_one_group_and_keep_their_order() -> None:
    first = [request(number, f"cg-{number}", {}) for number in (1, 2)]
    second = [replace(request(number + 2, f"cg-{number}", {}), item=3) for number in (1, 2, 3)]
    groups = Groups(by_item=True)
    groups.add([*first, *second])
    assert [(group.item, group.destinations) for group in groups.ordered()] == [
        (1, ["cg-1", "cg-2"]),
        (3, ["cg-1", "cg-2", "cg-3"]),
    ]
    assert {item: group.first for item, group in good(groups.ordered()).items()} == {1: 1, 3: 3}
    item = Item(id=3, job=1, method="post", resource="/install", data={})
    shown = view(groups.ordered()[1], second[0], full=False, beside=None, item=item)
    assert shown["step"] == "post /install"


def test_destinations_are_folded_or_full() -> None:
    same = fleet(*[{}] * 38)
    assert fold(same, full=False, diff=False)[0]["destinations"] == ["cg-[001-038]"]
    assert fold(same, full=True, diff=False)[0]["destinations"] == [one.destination for one in same]


def test_the_largest_comes_first_and_then_the_first() -> None:
    found = fold(fleet("a", "b", "b", "c"), full=True, diff=False)
    assert [group["sample"]["request"] for group in found] == [2, 1, 4]


@pytest.mark.parametrize(
    ("one", "other", "groups"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, 1),
        ([1, 2], [2, 1], 2),
        (1, True, 2),
        (1, 1.0, 2),
        (None, {}, 2),
        ("1", 1, 2),
        (0, None, 2),
    ],
)
def test_what_is_alike(one: Any, other: Any, groups: int) -> None:
    assert len(fold(fleet(one, other), full=True, diff=False)) == groups


def test_a_status_and_a_code_make_a_difference_and_a_message_does_not() -> None:
    requests = [
        request(1, "a", None),
        request(2, "b", None, code=500, message="at noon"),
        request(3, "c", None, code=500, message="at one"),
        request(4, "d", None, code=501),
    ]
    assert [group["count"] for group in fold(requests, full=True, diff=False)] == [2, 1, 1]


def test_requests_without_a_result_are_a_group() -> None:
    waiting = [Request(id=id_, job=1, item=1, destination=f"x{id_}") for id_ in (1, 2)]
    assert fold(waiting, full=True, diff=True) == [
        {
            "count": 2,
            "status": "pending",
            "code": None,
            "destinations": ["x1", "x2"],
            "sample": {"request": 1, "result": {}},
        }
    ]
    assert fold([], full=False, diff=True) == []


def test_the_others_are_compared_with_the_largest_that_is_resolved() -> None:
    requests = [
        request(1, "a", {"v": 1}),
        request(2, "b", {"v": 2, "w": 0}),
        *[request(id_, f"c{id_}", "gone", code=500) for id_ in (3, 4, 5)],
        request(6, "d", {"v": 1}),
    ]
    failed, good, other = fold(requests, full=True, diff=True)
    assert failed["diff"] == [{"path": "", "good": {"v": 1}, "here": "gone"}]
    assert "diff" not in good
    assert other["diff"] == [{"path": "v", "good": 1, "here": 2}, {"path": "w", "here": 0}]


@pytest.mark.parametrize("status", [RequestStatus.SKIPPED, RequestStatus.CANCELED])
def test_those_that_were_not_sent_are_not_compared(status: RequestStatus) -> None:
    unsent = replace(request(2, "b", None), status=status)
    _, group = fold([request(1, "a", {"v": 1}), unsent], full=True, diff=True)
    assert "diff" not in group


def test_without_a_good_one_there_is_nothing_to_compare_with() -> None:
    requests = [request(1, "a", 1, code=500), request(2, "b", 2, code=500)]
    assert all("diff" not in group for group in fold(requests, full=True, diff=True))


def test_more_differences_say_nothing_more() -> None:
    many = {f"k{number:03}": 1 for number in range(DIFFERENCES + 5)}
    found = fold([*fleet({}, {}), request(9, "x", many)], full=True, diff=True)[1]["diff"]
    assert len(found) == DIFFERENCES + 1
    assert found[-1] == {
        "path": "",
        "message": f"more than {DIFFERENCES} differences: the rest is not listed",
    }


@pytest.mark.parametrize(
    ("here", "good", "found"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [{"path": "a.b[1]", "good": 3, "here": 2}]),
        ([1], [1, 2], [{"path": "[1]", "good": 2}]),
        ([1, 2], [1], [{"path": "[1]", "here": 2}]),
        ({}, {"a": None}, [{"path": "a", "good": None}]),
        ({"a": None}, {}, [{"path": "a", "here": None}]),
        (1, True, [{"path": "", "good": True, "here": 1}]),
        ([], {}, [{"path": "", "good": {}, "here": []}]),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_differences_have_their_place(here: Any, good: Any, found: list[dict[str, Any]]) -> None:
    assert list(differences(here, good)) == found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(JSON, JSON)
def test_there_is_a_difference_where_there_is_one(here: Any, good: Any) -> None:
    found = list(differences(here, good))
    assert bool(found) == (len(fold(fleet(here, good), full=True, diff=False)) == 2)
    mirrored = list(differences(good, here))
    assert _text([{**one, "good": 0, "here": 0} for one in found]) == _text(
        [{**one, "good": 0, "here": 0} for one in mirrored]
    )


@given(st.lists(st.tuples(st.sampled_from([200, 404, 500]), JSON), max_size=20))
def test_each_request_is_in_one_group(answers: list[tuple[int, Any]]) -> None:
    requests = [request(id_, f"n{id_}", data, code=code) for id_, (code, data) in enumerate(answers, 1)]
    found = fold(requests, full=True, diff=True)

    def destinations() -> Iterator[str]:
        for group in found:
            assert group["count"] == len(group["destinations"])
            yield from group["destinations"]

    assert sorted(destinations()) == sorted(one.destination for one in requests)
    assert [group["count"] for group in found] == sorted((group["count"] for group in found), reverse=True)
