"""The JSON Schemas of the API's bodies and answers, with examples, for its OpenAPI description."""

from collections.abc import Mapping
from typing import Any

from puppetmaster import schemas
from puppetmaster.job import JobStatus
from puppetmaster.request import RequestStatus

Shape = dict[str, Any]

JOB_STATUS = [status.value for status in JobStatus]
REQUEST_STATUS = [status.value for status in RequestStatus]


def ref(name: str) -> Shape:
    """A reference to one of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


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


TEXT: Shape = {"type": "string", "minLength": 1}
_TIME: Shape = {"type": "string", "format": "date-time"}
_SECONDS: Shape = {"type": "number", "exclusiveMinimum": 0, "maximum": schemas.LONGEST_S}
_COUNT: Shape = {"type": "integer", "minimum": 0}
_ID: Shape = {"type": "integer", "minimum": 1}
#: What is allowed is counted in bytes: beyond ASCII it is less than this.
_DESTINATION: Shape = {
    "type": "string",
    "pattern": r"^[^/?#+\s\x00-\x1f\x7f-\x9f]+$",
    "maxLength": schemas.RESOURCE_LIMIT_BYTES - len("/remote/"),
}
_MESSAGE: Mapping[str, Shape] = {
    "method": {
        "type": "string",
        "pattern": "^([gG][eE][tT]|[pP][oO][sS][tT]|[pP][uU][tT]|[dD][eE][lL][eE][tT][eE])$",
    },
    "resource": {"type": "string", "pattern": r"^/[^\u0000]*$", "maxLength": schemas.RESOURCE_LIMIT_BYTES},
}
_DATA: Mapping[str, Shape] = {"data": ref("Value")}
_PERCENT: Shape = {"type": "string", "pattern": r"^(100|[1-9]?[0-9])%$"}
_NUMBER: Shape = {"type": "integer", "minimum": 1, "maximum": 1_000_000}

#: The optional properties of a new job. Those that this version does not know yet are left out.
_OPTIONS: Mapping[str, Shape] = {
    "timeout": {"anyOf": [_SECONDS, {"type": "null"}, {"const": "infinity"}]},
    "name": _or_null(
        {"type": "string", "minLength": 1, "maxLength": schemas.NAME_LIMIT, "pattern": r"^[^\u0000]+$"}
    ),
    "key": _or_null(
        {"type": "string", "minLength": 1, "maxLength": schemas.KEY_LIMIT, "pattern": r"^[^\u0000]+$"}
    ),
    "requestTimeout": _SECONDS,
    "concurrency": _or_null(_NUMBER),
    "idempotent": _or_null({"type": "boolean"}),
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
    "Destinations": {
        "anyOf": [
            _DESTINATION,
            {"type": "array", "items": _DESTINATION, "minItems": 1, "uniqueItems": True},
        ]
    },
    "Item": _object(
        {**_MESSAGE, "__request": _object({"destination": ref("Destinations")})},
        _DATA,
    ),
    "NewJob": _object(
        {"batch": {"type": "array", "minItems": 1, "items": ref("Item")}},
        _OPTIONS,
    ),
    "NewRequest": _object(
        {"destination": _DESTINATION, "message": _object(_MESSAGE, _DATA)},
        {"options": _object({}, {"timeout": _SECONDS})},
    ),
    "Control": {
        "oneOf": [
            _object({"status": {"enum": ["paused", "dispatching"]}}, {"force": {"const": False}}),
            _object({"status": {"const": "canceled"}}, {"force": {"type": "boolean"}}),
        ]
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
            "key": _or_null({"type": "string"}),
            "parent": _or_null(_ID),
            "createdAt": _TIME,
            "startedAt": _or_null(_TIME),
            "finishedAt": _or_null(_TIME),
            "timeout": _or_null({"type": "number"}),
            "status": {"enum": JOB_STATUS},
            "reason": _or_null({"type": "string"}),
            "progress": {"type": "integer", "minimum": 0, "maximum": 100},
            "totalCount": _COUNT,
            "doneCount": _COUNT,
            "finishCount": _COUNT,
            "errorCount": _COUNT,
            "counts": _object(dict.fromkeys(REQUEST_STATUS, _COUNT)),
            "requests": {"type": "array", "items": {"anyOf": [_ID, ref("Request")]}},
            "collection": {"type": "array", "items": ref("Request")},
        },
    },
    "Request": _object(
        {
            "id": _or_null(_ID),
            "job": _or_null(_ID),
            "method": {"enum": list(schemas.METHODS)},
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
                    "progress": {"enum": [0, 100]},
                    "attempts": _COUNT,
                    "result": {"type": "object"},
                },
            },
        }
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
}

EXAMPLE_BATCH: Shape = {
    "timeout": 36000,
    "batch": [
        {
            "method": "post",
            "resource": "/system/reboot",
            "data": {},
            "__request": {"destination": ["00:0c:29:1c:e8:01", "00:0c:29:1c:e8:02", "00:0c:29:1c:e8:03"]},
        }
    ],
}
EXAMPLE_JOB: Shape = {
    "id": 12,
    "name": None,
    "key": None,
    "parent": None,
    "createdAt": "2026-01-02T03:04:05.678Z",
    "startedAt": None,
    "finishedAt": None,
    "timeout": 36000,
    "status": "dispatching",
    "reason": None,
    "progress": 0,
    "totalCount": 3,
    "doneCount": 0,
    "finishCount": 0,
    "errorCount": 0,
    "counts": {**dict.fromkeys(REQUEST_STATUS, 0), "pending": 3},
    "requests": [2147483648, 2147483649, 2147483650],
}
EXAMPLE_NEW_REQUEST: Shape = {
    "destination": "00:0c:29:1c:e8:01",
    "message": {"method": "get", "resource": "/system/time"},
}
EXAMPLE_REQUEST: Shape = {
    "id": 2147483648,
    "job": 12,
    "method": "post",
    "resource": "/system/reboot",
    "tunnel": "/remote",
    "data": {},
    "__request": {
        "destination": "00:0c:29:1c:e8:01",
        "createdAt": "2026-01-02T03:04:05.678Z",
        "sentAt": None,
        "finishedAt": None,
        "timeout": 60,
        "status": "pending",
        "why": "next to be sent",
        "progress": 0,
        "attempts": 0,
        "result": {},
    },
}
