"""The OpenAPI 3.1 document: ``python -m schema.generate`` writes ``openapi.json``, a test compares.

What is answered is described here; what is asked comes from ``puppetmaster.api``. ``examples.json`` holds an
example of each. None of this is installed but the JSON: the HTTP door shows the document as it is.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from puppetmaster import __version__
from puppetmaster.api import fields, query
from puppetmaster.api.fields import Field
from puppetmaster.api.operations import OPERATIONS, WEBSOCKET, Operation
from puppetmaster.model.job import FINAL, GateStatus, JobStatus
from puppetmaster.model.request import DIRECT_WAY, REMOTE_WAY, RequestStatus
from puppetmaster.model.why import Reason, Why
from puppetmaster.settings import ROUTES

FILE = Path(__file__).with_name("openapi.json")
EXAMPLES: Mapping[str, Any] = json.loads(FILE.with_name("examples.json").read_bytes())

Shape = dict[str, Any]

JOB_STATUS = [status.value for status in JobStatus]
#: What a job may end as before its time.
ENDINGS = [status.value for status in sorted(FINAL) if status is not JobStatus.RESOLVED]
REQUEST_STATUS = [status.value for status in RequestStatus]
#: Settings that may be larger than what is in force, and what else that may be from.
IN_FORCE = {"brokerLimitBytes": ("broker", "controller"), "httpConnections": ("openFiles",)}
COUNTERS = ("openJobs", "openRequests", "inFlight", "window", "idsLeft", "messagesDropped")


def ref(name: str) -> Shape:
    """A reference to one of ``SCHEMAS``."""
    return {"$ref": f"{fields.REF}{name}"}


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


def _whole(low: int, high: int = fields.MOST) -> Shape:
    return {"type": "integer", "minimum": low, "maximum": high}


TEXT: Shape = {"type": "string", "minLength": 1}
_TIME: Shape = {"type": "string", "format": "date-time"}
_YES: Shape = {"type": "boolean"}
_COUNT: Shape = {"type": "integer", "minimum": 0}
_ID: Shape = {"type": "integer", "minimum": 1}


def _field(one: Field) -> Shape:
    """The JSON Schema of a field, with its sentence and its default."""
    schema = _body(one.parts) if one.parts else one.kind.schema
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


def _new_job() -> Shape:
    """Either a batch or a rerun; a gate only between waves."""
    return {
        **_body(fields.NEW_JOB),
        "oneOf": [
            {"required": ["batch"], "properties": {"rerun": {"type": "null"}}},
            {"required": ["rerun"], "properties": {"batch": False, "rerun": {"type": "object"}}},
        ],
        "anyOf": [
            {"required": ["waves"], "properties": {"waves": {"type": "array"}}},
            {"properties": {"gate": {"type": "null"}}},
        ],
    }


_RESULT: Shape = {
    "description": "Empty until there is one",
    "type": "object",
    "properties": {
        "code": {"type": ["number", "null"]},
        "data": {},
        "message": {"type": "string"},
        "source": {"enum": ["device", "remote", "controller", "puppetmaster"]},
        "late": {"const": True},
        "route": {"description": "Where the gateway was asked directly", "const": DIRECT_WAY},
    },
}
#: Of the bridges, and of the owners of many gateways.
_GATEWAYS = _object(
    {
        "connected": _COUNT,
        "away": _COUNT,
        "changes": {"description": "How often a bridge came or went since the start", **_COUNT},
        "watched": {"description": "Whether the broker lets us see what bridges say", **_YES},
        "route": {"description": "Which way requests go", "enum": list(ROUTES)},
        "owners": {
            "description": "By the resource that an owner of many gateways has",
            "type": "object",
            "additionalProperties": _object(
                {
                    "window": {"description": "The most that are in flight there", **_COUNT},
                    "busy": {"description": "How many it may be busy with", **_COUNT},
                }
            ),
        },
    }
)

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
    "Destinations": fields.DESTINATIONS,
    "Item": _item(),
    "NewJob": _new_job(),
    "NewRequest": _body(fields.NEW_REQUEST),
    "Control": {
        **_body(fields.CONTROL_FIELDS),
        "anyOf": [
            {"properties": {"status": {"const": JobStatus.CANCELED.value}}},
            {"properties": {"force": {"const": False}}},
        ],
    },
    "Job": {
        "type": "object",
        "required": [
            "id",
            "createdAt",
            "status",
            "progress",
            "totalCount",
            "doneCount",
            "finishCount",
            "errorCount",
            "counts",
        ],
        "properties": {
            "id": _or_null(_ID),
            "name": _or_null({"type": "string"}),
            "summary": {"description": "Its first command, and how many others", "type": "string"},
            "key": _or_null({"type": "string"}),
            "parent": _or_null(_ID),
            "createdAt": _TIME,
            "startedAt": _or_null(_TIME),
            "finishedAt": _or_null(_TIME),
            "timeout": _or_null({"type": "number"}),
            "status": {"enum": JOB_STATUS},
            "reason": _or_null({"type": "string"}),
            "reasonCode": {
                "description": "What kind of reason that is; null too where an earlier version has kept it",
                "enum": [None, *Reason],
            },
            "ending": {"description": "What it will end as, while it is stopping", "enum": [None, *ENDINGS]},
            "progress": {"type": "integer", "minimum": 0, "maximum": 100},
            "totalCount": _COUNT,
            "doneCount": _COUNT,
            "finishCount": _COUNT,
            "errorCount": _COUNT,
            "counts": _object(dict.fromkeys(REQUEST_STATUS, _COUNT)),
            **{one.name: _field(one) for one in fields.NEW_JOB if one.given},
            "waveEnds": {
                "description": "How many requests there are up to the end of each wave; with waves only",
                "type": "array",
                "items": _whole(1),
            },
            "wave": {"description": "The open one, from 1; where waves were given", **_whole(1)},
            "gateStatus": {
                "description": "What stands before the next wave: it rests, or it failed",
                "enum": [None, *(status.value for status in GateStatus)],
            },
            "openedGates": {
                "description": "The gates that failed, and that callers opened; where waves were given",
                "type": "array",
                "items": _object({"wave": _whole(1), "failed": _COUNT, "at": _TIME}),
            },
            "dryRun": {"description": "Nothing was created: ids are null", "const": True},
            "waveSizes": {"type": "array", "items": _whole(1)},
            "plan": {
                "description": "Of a dry run, a sentence each: how many requests, in which order, what stops "
                "the job, what is sent twice, and what else is to be known",
                "type": "array",
                "items": {"type": "string"},
            },
            "requests": {"type": "array", "items": {"anyOf": [_ID, ref("Request")]}},
            "collection": {"type": "array", "items": ref("Request")},
        },
    },
    "Request": _object(
        {
            "id": _or_null(_ID),
            "job": _or_null(_ID),
            "method": {"enum": list(fields.METHODS)},
            "resource": {"type": "string"},
            "tunnel": {"type": "string"},
            "data": {},
            "__request": {
                "type": "object",
                "required": ["destination", "status", "progress", "attempts", "result"],
                "properties": {
                    "destination": {"type": "string"},
                    "createdAt": _TIME,
                    "sentAt": _or_null(_TIME),
                    "finishedAt": _or_null(_TIME),
                    "timeout": {"type": "number"},
                    "status": {"enum": REQUEST_STATUS},
                    "why": _or_null({"type": "string"}),
                    "whyCode": {"description": "What kind of reason that is", "enum": [None, *Why]},
                    "progress": {"enum": [0, 100]},
                    "attempts": _COUNT,
                    "route": {
                        "description": "The way that it went: through the remote bundle, or to the gateway",
                        "enum": [None, REMOTE_WAY, DIRECT_WAY],
                    },
                    "result": _RESULT,
                    "history": {
                        "description": "The attempts that were followed by another",
                        "type": "array",
                        "items": _object(
                            {
                                "message": _ID,
                                "sentAt": _or_null(_TIME),
                                "finishedAt": _TIME,
                                "status": {"enum": REQUEST_STATUS},
                                "result": _RESULT,
                            },
                            {"route": {"const": DIRECT_WAY}},
                        ),
                    },
                },
            },
        },
        {"code": _whole(100, 999)},
    ),
    "Result": _object(
        {
            "count": _whole(1),
            "status": {"enum": REQUEST_STATUS},
            "code": {"type": ["number", "null"]},
            "destinations": {
                "description": "Folded, `cg-[001-038]`; with `collection=true` one by one",
                "type": "array",
                "items": {"type": "string"},
            },
            "sample": _object({"request": _ID, "result": _RESULT}),
        },
        {
            "diff": {
                "description": "Where its data differ from those of the largest group that is resolved",
                "type": "array",
                "items": {"type": "object", "required": ["path"]},
            }
        },
    ),
    "Error": _object(
        {"message": {"type": "string"}},
        {
            "errors": {
                "type": "array",
                "items": _object({"path": {"type": "string"}, "message": {"type": "string"}}),
            }
        },
    ),
    "Gateway": _object(
        {
            "version": {"type": "string"},
            "startedAt": _TIME,
            "healthy": {"description": "Whether a batch would be carried out now", "type": "boolean"},
            "bus": _object(
                {
                    **dict.fromkeys(("connected", "controller", "registered"), _YES),
                    "reason": _or_null({"type": "string"}),
                }
            ),
            "store": _object(
                {"writable": {"type": "boolean"}, "reason": _or_null({"type": "string"}), "path": TEXT}
            ),
            "limits": {
                "description": "The settings by name, without secrets",
                "type": "object",
                "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
            },
            "inForce": _object(
                {
                    name: _object({"value": _COUNT, "from": {"enum": ["setting", *sources]}})
                    for name, sources in IN_FORCE.items()
                }
            ),
            "counters": _object(dict.fromkeys(COUNTERS, _COUNT)),
            "gateways": _GATEWAYS,
        }
    ),
    "Readiness": _object(
        {"ready": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
        {"message": {"type": "string"}},
    ),
}

#: What each code means; the examples have messages that come with it.
_CODES = {
    400: "Not JSON, not an object, or a wrong or unknown property or parameter",
    401: "No token, or a wrong one",
    403: "Asked for by a page of another origin, or under a name that is not ours",
    404: "No such job or request",
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
_KNOWN = _parameter("If-None-Match", {"type": "string"}, "An ETag that is known", "header")
_NEW_KEY = _parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$", "maxLength": fields.KEY_LIMIT},
    "As `key` in the body: the same key with the same body answers the job that exists",
    "header",
)


def _parameters(one: Operation) -> list[Shape]:
    """What is taken beside the body."""
    found = [_NUMBER] if "{id}" in one.path else []
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
    """What the HTTP door has by itself, for those who watch the gateway."""
    examples = EXAMPLES["operations"][f"{one.method} {one.path}"]
    answers: Shape = {**_errors(set(_CODES) - {400, 404, 408, 409, 413})}
    if one.gives is None:
        text = {"text/plain": {"schema": {"type": "string"}, "example": examples["answer"]}}
        answers["200"] = {"description": "OK", "content": text}
    else:
        answers["200"] = _json("It would", ref(one.gives), examples["answer"])
        answers["503"] = _json("It would not", ref(one.gives), examples["503"])
    return {"operationId": _name(one), "summary": one.about, "responses": dict(sorted(answers.items()))}


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
        "servers": [{"url": "/"}],
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
                    "description": "Where PUPPETMASTER_TOKEN is set",
                }
            },
        },
    }


def text() -> bytes:
    """All of ``openapi.json``."""
    return json.dumps(description(), indent=2).encode("ascii") + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(text())
