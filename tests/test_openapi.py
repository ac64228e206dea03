"""The OpenAPI document: complete, valid, the same everywhere, and kept by a running door."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from puppetmaster import openapi, schemas, shapes
from puppetmaster.web import OPERATIONS
from tests.waves_in_order import ordered
from tests.web_client import Door, batch, running

FILE = Path(__file__).parent.parent / "schema" / "openapi.json"
#: Those that need no job to be there.
NEW_JOBS = [shapes.EXAMPLE_BATCH, shapes.EXAMPLE_ROLLOUT, shapes.EXAMPLE_DRY_RUN, shapes.EXAMPLE_EVENT]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path) as started:
        yield started


def validator(name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": dict(shapes.SCHEMAS)}}
    return jsonschema_rs.validator_for(schema)


def test_every_operation_is_described() -> None:
    paths = openapi.description()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(one.method, one.path) for one in OPERATIONS}
    names = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(names) == len(set(names))


def test_the_file_is_what_the_door_shows(door: Door) -> None:
    answer = door.ask("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == json.loads(FILE.read_bytes()), "make it anew: python -m puppetmaster.openapi"
    assert answer.json["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("NewJob", example) for example in NEW_JOBS],
        ("Job", shapes.EXAMPLE_JOB),
        ("NewRequest", shapes.EXAMPLE_NEW_REQUEST),
        ("Request", shapes.EXAMPLE_REQUEST),
        *[("Result", result) for result in shapes.EXAMPLE_RESULTS],
        ("Control", {"status": "paused"}),
    ],
)
def test_the_examples_are_valid(name: str, value: Any) -> None:
    validator(name).validate(value)


def test_the_examples_are_accepted_and_answered_as_described(door: Door) -> None:
    job = door.ask("POST", "/jobs", shapes.EXAMPLE_BATCH).json
    request = door.ask("POST", "/requests", shapes.EXAMPLE_NEW_REQUEST).json
    validator("Job").validate(job)
    validator("Request").validate(request)
    assert set(job) == set(shapes.EXAMPLE_JOB)
    assert set(request["__request"]) == set(shapes.EXAMPLE_REQUEST["__request"])
    validator("Error").validate(door.ask("POST", "/jobs", {}).json)


@pytest.mark.parametrize("body", [*NEW_JOBS, shapes.EXAMPLE_RERUN])
def test_every_kind_of_job_is_described_as_it_is_shown(door: Door, body: Any) -> None:
    for _ in range(shapes.EXAMPLE_RERUN["rerun"]["job"]):
        door.ask("POST", "/jobs", batch("a"))
    door.ask("PUT", "/jobs/12", {"status": "canceled"})
    if "rerun" in body:
        body = {"rerun": {**body["rerun"], "status": ["canceled"]}}
    answer = door.ask("POST", "/jobs", body)
    assert answer.status == 200, answer
    validator("Job").validate(answer.json)
    if answer.json["id"] is not None:
        validator("Job").validate(door.ask("GET", f"/jobs/{answer.json['id']}").json)
    optional = {name: value for name, value in body.items() if name != "batch"}
    assert optional.items() <= answer.json.items()


def test_every_optional_property_is_described_and_has_an_example() -> None:
    known = {str(name) for name in schemas.JOB.schema}
    assert set(shapes.SCHEMAS["NewJob"]["properties"]) == known
    assert set(shapes.SCHEMAS["Job"]["properties"]) >= {*schemas.GIVEN, "wave", "gateStatus", "waveSizes"}
    assert {name for body in [*NEW_JOBS, shapes.EXAMPLE_RERUN] for name in body} == known


@pytest.mark.parametrize(
    "wrong",
    [
        {"rerun": {"job": 1}, "batch": shapes.EXAMPLE_BATCH["batch"]},
        {"name": "neither"},
        {"batch": None},
        {**shapes.EXAMPLE_BATCH, "gate": {}},
        {**shapes.EXAMPLE_BATCH, "waves": None, "gate": {}},
        {**shapes.EXAMPLE_BATCH, "concurrency": "0%"},
        {**shapes.EXAMPLE_BATCH, "concurrency": 1.5},
        {**shapes.EXAMPLE_BATCH, "retry": {"attemps": 2}},
        {**shapes.EXAMPLE_BATCH, "abort": {}},
        {**shapes.EXAMPLE_BATCH, "startAt": "tomorrow"},
    ],
)
def test_what_is_refused_is_not_described(door: Door, wrong: Any) -> None:
    assert not validator("NewJob").is_valid(wrong)
    assert door.ask("POST", "/jobs", wrong).status == 400


def test_results_are_described_as_they_are_shown(door: Door) -> None:
    door.ask("POST", "/jobs", batch("cg-01", "cg-02", "cg-04"))
    door.ask("PUT", "/jobs/1", {"status": "canceled"})
    (group,) = door.ask("GET", "/jobs/1/results?diff=true").json
    validator("Result").validate(group)
    assert (group["count"], group["destinations"]) == (3, ["cg-[01-02]", "cg-04"])


def test_waves_are_put_in_order() -> None:
    assert ordered(["89%", 5, "5%", 5.0, 2, "5.0%"]) == [2, 5.0, "5.0%", "89%"]


def test_schemathesis_finds_nothing(door: Door, tmp_path: Path) -> None:
    door.ask("POST", "/jobs", batch("a", "b"))
    found = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://127.0.0.1:{door.port}/openapi.json",
            "--checks=all",
            "--max-examples=25",
            "--seed=1",
            "--generation-database=none",
            "--output-sanitize=false",
            "--no-color",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(FILE.parent.parent),
            "SCHEMATHESIS_HOOKS": "tests.waves_in_order",
        },
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert door.ask("GET", "/jobs").status == 200
