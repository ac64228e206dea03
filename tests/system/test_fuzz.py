"""Messages and bodies that are wrong in every way: no thread dies, nothing is written elsewhere.

This is the short form; ``make torture`` sends a hundred thousand.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torture import fuzzing
from tests.torture.fuzzing import GOOD_BODIES, KEYS, RESOURCES, Target

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
QUICK = settings(max_examples=200)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    started = Target(tmp_path_factory.mktemp("fuzz"))
    yield started
    started.close()


def test_a_seeded_mutator_breaks_no_promise() -> None:
    report = fuzzing.run(8000, seed=1)
    assert not report.faults
    assert report.codes[200] > 100
    assert report.codes[400] > 100
    assert report.commands > 100


@QUICK
@given(body=JSON | st.sampled_from(GOOD_BODIES))
def test_any_json_is_answered_as_a_body(target: Target, body: Any) -> None:
    message = {"id": 5, "method": "post", "resource": "/jobs", "data": body}
    assert _answer(target, json.dumps(message).encode())["code"] in (200, 400, 413)


@QUICK
@given(
    resource=st.sampled_from(RESOURCES) | st.text(),
    method=st.sampled_from(["get", "put", "delete"]),
    data=JSON,
)
def test_any_resource_is_answered(target: Target, resource: str, method: str, data: Any) -> None:
    message = {"id": 5, "method": method, "resource": resource, "data": data}
    assert _answer(target, json.dumps(message).encode())["code"] in (200, 400, 404, 405, 409)


@QUICK
@given(payload=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_may_come_as_an_answer(target: Target, payload: bytes) -> None:
    target.take_answer(payload)
    target.settle()


def test_the_watch_sees_what_it_is_to_see(tmp_path: Path) -> None:
    watch = fuzzing.Watch(tmp_path)
    (tmp_path / "inside").write_text("fine")
    assert not watch.seen
    (tmp_path.parent / "outside").write_text("not fine")
    eval("1 + 1")
    watch.directory = None
    assert [said.partition(" ")[0] for said in watch.seen] == ["opened", "compile", "exec"]


def _answer(target: Target, payload: bytes) -> dict[str, Any]:
    target.answers.clear()
    target.take_request(payload)
    answer: dict[str, Any] = json.loads(target.answers[-1])
    assert "Traceback" not in json.dumps(answer)
    return answer
