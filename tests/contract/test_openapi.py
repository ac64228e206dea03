"""The OpenAPI document: complete, valid, the same everywhere, and kept by a running door."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from puppetmaster.api import fields
from puppetmaster.api.operations import OPERATIONS, WEBSOCKET
from puppetmaster.errors import SettingsError
from puppetmaster.http import app
from schema import generate
from tests import ROOT
from tests.contract.conftest import validator
from tests.waves_in_order import ordered
from tests.web_client import Door, batch, hooks, running

FILE = ROOT / "schema" / "openapi.json"
EXAMPLES = generate.EXAMPLES["operations"]
BODIES = EXAMPLES["POST /jobs"]["bodies"]
BATCH, RERUN = BODIES["reboot"], BODIES["rerun"]
#: Those that need no job to be there.
NEW_JOBS = [body for name, body in BODIES.items() if name != "rerun"]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with running(tmp_path, webhooks=hooks(tmp_path)) as started:
        yield started


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """For tests that do not care which jobs there are."""
    place = tmp_path_factory.mktemp("data")
    with running(place, webhooks=hooks(place)) as started:
        yield started


def test_every_operation_is_described() -> None:
    paths = generate.description()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    shown = {(one.method, one.path) for one in OPERATIONS} - {("GET", "/openapi.json")}
    assert described == {(method, path) for method, path in shown if method != WEBSOCKET}
    names = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(names) == len(set(names))


def test_the_files_are_up_to_date() -> None:
    assert FILE.read_bytes() == generate.text(), "make it anew: python -m schema.generate"
    assert generate.PAGE_FILE.read_bytes() == generate.page_words(), "make it anew: python -m schema.generate"


def test_the_file_is_what_the_door_shows(shared: Door) -> None:
    answer = shared.ask("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == FILE.read_bytes()
    assert answer.json["openapi"] == "3.1.0"


def test_without_the_file_it_does_not_start_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "DESCRIPTION", tmp_path / "openapi.json")
    said = r"openapi.json cannot be read .*: install it again"
    with pytest.raises(SettingsError, match=said), running(tmp_path):
        pass


def examples() -> Iterator[Any]:
    """All that the document has, each with its schema, as ``POST /jobs reboot`` or ``GET /jobs 200``."""
    document = generate.description()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            sent = operation.get("requestBody", {}).get("content", {})
            for media in sent.values():
                for name, example in media["examples"].items():
                    yield pytest.param(media["schema"], example["value"], id=f"{method} {path} {name}")
            for code, response in operation["responses"].items():
                if "$ref" in response:
                    response = document["components"]["responses"][code]
                for media in response.get("content", {}).values():
                    yield pytest.param(media["schema"], media["example"], id=f"{method} {path} {code}")


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_the_examples_are_valid(schema: Any, example: Any) -> None:
    root = {**schema, "components": {"schemas": dict(generate.SCHEMAS)}}
    jsonschema_rs.validator_for(root).validate(example)


def test_the_examples_are_accepted_and_answered_as_described(door: Door) -> None:
    job = door.ask("POST", "/jobs", BATCH).json
    request = door.ask("POST", "/requests", EXAMPLES["POST /requests"]["bodies"]["time"]).json
    assert set(job) == set(EXAMPLES["POST /jobs"]["answer"])
    assert set(request["__request"]) == set(EXAMPLES["POST /requests"]["answer"]["__request"])


@pytest.mark.parametrize("body", [*NEW_JOBS, RERUN])
def test_every_kind_of_job_is_described_as_it_is_shown(shared: Door, body: Any) -> None:
    if "rerun" in body:
        job = shared.ask("POST", "/jobs", batch("a")).json["id"]
        shared.ask("PUT", f"/jobs/{job}", {"status": "canceled"})
        body = {"rerun": {"job": job, "status": ["canceled"]}}
    answer = shared.ask("POST", "/jobs", body)
    assert answer.status == 200, answer
    validator("Job").validate(answer.json)
    if answer.json["id"] is not None:
        validator("Job").validate(shared.ask("GET", f"/jobs/{answer.json['id']}").json)
    optional = {name: value for name, value in body.items() if name != "batch"}
    assert optional.items() <= answer.json.items()


def test_every_optional_property_is_described_and_has_an_example() -> None:
    known = {str(name) for name in fields.JOB.schema}
    assert set(generate.SCHEMAS["NewJob"]["properties"]) == known
    shown = {*fields.GIVEN, "wave", "gateStatus", "waveSizes", "plan"}
    assert set(generate.SCHEMAS["Job"]["properties"]) >= shown
    assert {name for body in [*NEW_JOBS, RERUN] for name in body} == known


#: Of any sort, and at the ends of what is allowed. Times and the order of waves JSON Schema knows not fully.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 1.0, 1.5, -1, 5, 100, 101, 128, 10**6, 10**6 + 1, 2**53, 2**53 + 1),
    *(0.0001, 0.00009, 0.001, 0.0009, 100_000, 100_001, 1e9, 1e9 + 1),
    *("", "a", "x" * 128, "x" * 129, "x" * 255, "x" * 256, "a\0b", "infinity", "abort", "pause"),
    *("0%", "10%", "0.5%", "100%", "101%", "10", "ten%", "tomorrow", "2026-01-02T03:04:05Z"),
    *([], ["error"], ["error", "timeout"], ["done"], [1], ["10%"], [1, "10%"], [0], [[]], ["error"] * 101),
    *({}, {"any": 1}),
    *("* * * * *", "0 3 * * 1-5", "*/5 0,12 1 1 *", "0 3 * *", "60 3 * * *", "0 24 * * *", "x"),
    *("UTC", "Europe/Berlin", "Europe/Nowhere", "utc", "../etc"),
]


def described() -> Iterator[Any]:
    """Each property of a new job that has a value of its own, with its JSON Schema."""
    known = generate.SCHEMAS["NewJob"]["properties"]
    for one in fields.NEW_JOB:
        if one.name != "batch" and not one.parts:
            yield pytest.param(one, known[one.name], id=one.name)
        for part in one.parts:
            schema = known[one.name]["anyOf"][0]["properties"][part.name]
            yield pytest.param(part, schema, id=f"{one.name}.{part.name}")


@pytest.mark.parametrize(("one", "schema"), list(described()))
def test_a_field_takes_what_its_schema_takes(one: fields.Field, schema: Any) -> None:
    assert schema["description"] == one.sentence
    valid = jsonschema_rs.validator_for({**schema, "components": {"schemas": dict(generate.SCHEMAS)}})
    taken = [value for value in VALUES if not fields.faults(fields.schema([one]), {one.name: value})]
    assert taken == [value for value in VALUES if valid.is_valid(value)]
    assert taken


@pytest.mark.parametrize(
    "wrong",
    [
        {"rerun": {"job": 1}, "batch": BATCH["batch"]},
        {"name": "neither"},
        {"batch": None},
        {**BATCH, "gate": {}},
        {**BATCH, "waves": None, "gate": {}},
        {**BATCH, "retry": {"attemps": 2}},
    ],
)
def test_what_is_refused_is_not_described(shared: Door, wrong: Any) -> None:
    assert not validator("NewJob").is_valid(wrong)
    assert shared.ask("POST", "/jobs", wrong).status == 400


def test_the_messages_of_errors_are_those_that_come(door: Door) -> None:
    wrong = batch("a")
    wrong["batch"][0]["method"] = "foo"
    asked = {400: ("POST", "/jobs", wrong), 404: ("GET", "/jobs/12", None), 405: ("DELETE", "/jobs", None)}
    for code, (method, path, body) in asked.items():
        answer = door.ask(method, path, body)
        assert (answer.status, answer.json) == (code, generate.EXAMPLES["errors"][str(code)])


def test_waves_are_put_in_order() -> None:
    waves = ["89%", 5, "5%", 5.0, 2, "5.0%"]
    assert ordered(waves, 3) == ["5.0%", 2, 5.0, "89%"]
    assert ordered(waves, 100) == [2, 5.0, "5.0%", "89%"]


#: A job in a template takes as long as a job, and is made in three ways.
@pytest.mark.parametrize(("which", "examples"), [("include", 6), ("exclude", 25)])
def test_schemathesis_finds_nothing(door: Door, tmp_path: Path, which: str, examples: int) -> None:
    """In templates, and in all else: two tests, because each takes long."""
    door.ask("POST", "/jobs", batch("a", "b"))
    found = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://127.0.0.1:{door.port}/openapi.json",
            "--checks=all",
            # A request goes with its job: schemathesis may delete that before it looks for the request.
            "--exclude-checks=ensure_resource_availability",
            f"--{which}-path-regex=^/templates",
            "--exclude-path=/health",  # 503 is what it says here, where no broker is
            f"--max-examples={examples}",
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
