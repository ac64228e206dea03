"""The OpenAPI 3.1 document, and the API's words for the page: ``python -m schema.generate`` writes both.

Bodies, answers and operations are described in ``puppetmaster.api``; ``examples.json`` holds an example each.
A test compares both. Of this folder the document alone is installed: the HTTP door shows it as it is.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from puppetmaster import __version__
from puppetmaster.api import fields, kinds, query
from puppetmaster.api.answers import ANSWERS, HAPPENED, SOURCES, WAYS
from puppetmaster.api.fields import Field, Many
from puppetmaster.api.operations import OPERATIONS, WEBSOCKET, Operation
from puppetmaster.model import cron
from puppetmaster.model.caller import Role
from puppetmaster.model.job import JobStatus
from puppetmaster.model.request import FAILURES, OPEN, UNANSWERED, RequestStatus

FILE = Path(__file__).with_name("openapi.json")
PAGE_FILE = Path(fields.__file__).parents[1] / "dashboard" / "contract.js"
EXAMPLES: Mapping[str, Any] = json.loads(FILE.with_name("examples.json").read_bytes())

Shape = dict[str, Any]


def ref(name: str) -> Shape:
    """A reference to one of ``SCHEMAS``."""
    return {"$ref": f"{kinds.REF}{name}"}


def _object(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    properties = {**required, **(optional or {})}
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def _or_null(schema: Shape) -> Shape:
    return {"anyOf": [schema, {"type": "null"}]}


_ID: Shape = {"type": "integer", "minimum": 1}


def _field(one: Field) -> Shape:
    """The JSON Schema of a field, with its sentence and its default."""
    schema = _body(one.parts) if one.parts else one.kind.schema
    if one.many is Many.LIST:
        schema = {"type": "array", "items": schema}
    elif one.many is Many.MAP:
        schema = {"type": "object", "additionalProperties": schema}
    schema = _or_null(schema) if one.nullable else schema
    return {
        "description": one.sentence,
        **schema,
        **({} if one.default is None else {"default": one.default}),
    }


def _body(some: Iterable[Field]) -> Shape:
    """The JSON Schema of an object that has these fields."""
    told = [one for one in some if one.about]
    return _object(
        {one.name: _field(one) for one in told if one.required},
        {one.name: _field(one) for one in told if not one.required},
    )


def _item() -> Shape:
    """Its destination has older places too, so that no single one of them is required."""
    item = _body(fields.ITEM_FIELDS)
    item["required"].append("__request")
    item["properties"]["__request"]["required"] = ["destination"]
    return item


#: A gate stands only between waves.
_GATED: Shape = {
    "anyOf": [
        {"required": ["waves"], "properties": {"waves": {"type": "array"}}},
        {"properties": {"gate": {"type": "null"}}},
    ],
}


def _new_job() -> Shape:
    """Either a batch or a rerun."""
    return {
        **_body(fields.NEW_JOB),
        "oneOf": [
            {"required": ["batch"], "properties": {"rerun": {"type": "null"}}},
            {"required": ["rerun"], "properties": {"batch": False, "rerun": {"type": "object"}}},
        ],
        **_GATED,
    }


SCHEMAS: Mapping[str, Shape] = {
    "Value": {
        "description": "Any JSON value that the bus can carry",
        "anyOf": [
            {"type": ["null", "boolean"]},
            {"type": "number", "minimum": -(2**63), "maximum": 2**63 - 1},
            {"type": "string", "pattern": r"^[^\u0000]*$"},
            {"type": "array", "items": ref("Value")},
            {
                "type": "object",
                "propertyNames": {"pattern": r"^[^\u0000]*$"},
                "additionalProperties": ref("Value"),
            },
        ],
    },
    "Destinations": kinds.DESTINATIONS,
    "Item": _item(),
    "NewJob": _new_job(),
    # A pattern, because tests try each value of an enumeration.
    "TimeZone": {
        "description": "A name of the IANA time zone database",
        "type": "string",
        "pattern": f"^({'|'.join(map(re.escape, sorted(cron.zones())))})$".replace(r"\-", "-"),
    },
    "TemplateJob": {**_body(fields.TEMPLATE_JOB), **_GATED},
    "NewTemplate": _body(fields.NEW_TEMPLATE),
    "ChangedTemplate": _body(fields.CHANGED_TEMPLATE),
    "NewStart": {**_body(fields.START_FIELDS), **_GATED},
    "NewGateway": _body(fields.GATEWAY_FIELDS),
    "NewGateways": {
        "type": "array",
        "minItems": 1,
        "maxItems": kinds.MOST_GATEWAYS,
        "items": _body(fields.NAMED_GATEWAY_FIELDS),
    },
    "NewRequest": _body(fields.NEW_REQUEST),
    "Control": {
        **_body(fields.CONTROL_FIELDS),
        "anyOf": [
            {"properties": {"status": {"const": JobStatus.CANCELED.value}}},
            {"properties": {"force": {"const": False}}},
        ],
    },
    **{name: _body(some) for name, some in ANSWERS.items()},
}

#: What each code means; the examples have messages that come with it.
_CODES = {
    400: "Not JSON, not an object, or a wrong or unknown property or parameter",
    401: "No token, or a wrong one",
    403: "The role is not enough, or asked for by a page of another origin or under a name not ours",
    404: "No such job, request, gateway or template",
    405: "No such method here",
    408: "The body did not arrive in time",
    409: "The key belongs to another body, the change does not fit the status, or nothing is to run again",
    413: "The body or the batch is larger than the limit",
    431: "The headers are larger than the limit",
    500: "A fault of puppetmaster's own; its log says which",
    503: "Stopping, or the store cannot be written: nothing was changed",
}


def _parameter(name: str, schema: Mapping[str, Any], about: str, where: str = "query") -> Shape:
    listed = {"style": "form", "explode": False} if schema.get("type") == "array" else {}
    required = where == "path"
    return {"name": name, "in": where, "required": required, "description": about, "schema": schema, **listed}


_NUMBER = _parameter("id", {**_ID, "maximum": 2**53}, "As answered at creation", "path")
_NAME = _parameter("id", kinds.GATEWAY_NAME, "Its name, as a destination has it", "path")
_KNOWN = _parameter("If-None-Match", {"type": "string"}, "An ETag that is known", "header")
_NEW_KEY = _parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$", "maxLength": kinds.KEY_LIMIT},
    "As `key` in the body: the same key with the same body answers the job that exists",
    "header",
)


def _parameters(one: Operation) -> list[Shape]:
    """What is taken beside the body."""
    found = [_NAME if one.path.startswith("/gateways/") else _NUMBER] if "{id}" in one.path else []
    found += [
        _parameter(named.name, named.schema, named.about)
        for named in map(query.PARAMETERS.get, one.query)
        if named
    ]
    if one.created is not None:
        found.append(_NEW_KEY)
    # What a request's ``why`` and counters say changes at any time, so an ETag is offered on jobs.
    if one.method == "GET" and one.gives == "Job":
        found.append(_KNOWN)
    return found


def _operation(one: Operation) -> Shape:
    examples = EXAMPLES["operations"][f"{one.method} {one.path}"]
    assert one.gives is not None
    answer: Shape = {"type": "array", "items": ref(one.gives)} if one.lists else ref(one.gives)
    headers: Shape = {}
    if one.created is not None:
        headers["Location"] = {"description": "Where it is from now on", "schema": {"type": "string"}}
    if one.lists and one.gives != "Result":
        about = "How many there are before paging"
        headers["X-Total-Count"] = {"description": about, "schema": {"type": "integer", "minimum": 0}}
    if one.method == "GET":
        about = "Absent from a long answer about a job that still runs"
        headers["ETag"] = {"description": about, "schema": {"type": "string"}}
    responses: Shape = {"200": {**_json("OK", answer, examples["answer"]), "headers": headers}}
    if one.method == "GET":
        responses["304"] = {"description": "What If-None-Match names is still so"}
    plain = one.method == "GET" and not one.query
    responses |= _errors(set(_CODES) - ({400, 408, 409, 413} if plain else set()))
    operation: Shape = {
        "operationId": _name(one),
        "summary": one.about,
        "description": f"Needs the role {one.needs}.",
        "x-role": one.needs,
        "parameters": _parameters(one),
        "responses": responses,
    }
    if one.takes is not None:
        bodies = {name: {"value": body} for name, body in examples["bodies"].items()}
        content = {"application/json": {"schema": ref(one.takes), "examples": bodies}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _name(one: Operation) -> str:
    words = one.path.replace("{id}", "one").strip("/").split("/")
    return "-".join([one.method.lower(), *words])


def _watched(one: Operation) -> Shape:
    """What the HTTP door has by itself, for monitoring."""
    examples = EXAMPLES["operations"][f"{one.method} {one.path}"]
    answers: Shape = {**_errors(set(_CODES) - {400, 404, 408, 409, 413})}
    if one.gives is None:
        text = {"text/plain": {"schema": {"type": "string"}, "example": examples["answer"]}}
        answers["200"] = {"description": "OK", "content": text}
    else:
        answers["200"] = _json("It would", ref(one.gives), examples["answer"])
        answers["503"] = _json("It would not", ref(one.gives), examples["503"])
    return {
        "operationId": _name(one),
        "summary": one.about,
        "description": f"Needs the role {one.needs}.",
        "x-role": one.needs,
        "responses": dict(sorted(answers.items())),
    }


def _json(about: str, schema: Shape, example: Any) -> Shape:
    return {"description": about, "content": {"application/json": {"schema": schema, "example": example}}}


def _errors(codes: Iterable[int]) -> Shape:
    return {str(code): {"$ref": f"#/components/responses/{code}"} for code in sorted(codes)}


def _paths() -> Shape:
    paths: dict[str, Shape] = {}
    for one in OPERATIONS:
        if one.call is not None:
            paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
        elif f"{one.method} {one.path}" in EXAMPLES["operations"]:
            paths.setdefault(one.path, {})[one.method.lower()] = _watched(one)
    return paths


def description() -> Shape:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "puppetmaster",
            "version": __version__,
            "description": "Runs batches of commands on remote gateways and follows each request to its end. "
            "Changes of jobs are told over WebSocket at "
            f"{', '.join(one.path for one in OPERATIONS if one.method == WEBSOCKET)}.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "."}],  # where this description is, also behind a reverse proxy
        "security": [{}, {"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                str(code): _json(about, ref("Error"), EXAMPLES["errors"][str(code)])
                for code, about in _CODES.items()
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where PUPPETMASTER_TOKEN or PUPPETMASTER_TOKENS is set; "
                    "each operation says which role it needs: " + ", ".join(Role),
                }
            },
        },
    }


def text() -> bytes:
    """All of ``openapi.json``."""
    return json.dumps(description(), indent=2).encode("ascii") + b"\n"


def _policies() -> Iterator[tuple[str, Shape]]:
    """The optional properties of a job that a form can hold, by their paths: what is typed for each."""
    for one in fields.NEW_JOB:
        if not one.given and one.name != "timeout":
            continue
        for part in one.parts or (one,):
            kind = part.kind
            seconds = True if kind.unit == "S" else None
            told = {"default": part.default, "seconds": seconds, "words": kind.schema.get("enum")}
            if kind.form is not kinds.Form.ANY:
                path = f"{one.name}.{part.name}" if one.parts else part.name
                yield path, {"form": kind.form, **{name: it for name, it in told.items() if it is not None}}


def page_words() -> bytes:
    """All of ``contract.js``: the lists and words of the API that the page shows."""
    words = {
        "METHODS": kinds.METHODS,
        "DONE": [status for status in RequestStatus if status not in OPEN],
        "OPEN": [status for status in RequestStatus if status in OPEN],
        "FAILURES": FAILURES,
        "UNANSWERED": [status for status in RequestStatus if status in UNANSWERED],
        "JOB_STATUSES": list(JobStatus),
        "SOURCES": SOURCES,
        "WAYS": WAYS,
        "POLICIES": dict(_policies()),
        "ROLES": list(Role),
        "HAPPENED": HAPPENED,
    }
    lines = [f"export const {name} = {json.dumps(value)};\n" for name, value in words.items()]
    return "".join(["// Made by schema/generate.py from the description of the API.\n\n", *lines]).encode(
        "ascii"
    )


if __name__ == "__main__":
    FILE.write_bytes(text())
    PAGE_FILE.write_bytes(page_words())
