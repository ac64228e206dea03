"""The JSON Schemas of the API's bodies and answers; api/samples.py has examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from puppetmaster.api import fields
from puppetmaster.model.job import GateStatus, JobStatus
from puppetmaster.model.request import DIRECT_WAY, REMOTE_WAY, RequestStatus
from puppetmaster.settings import ROUTES

Shape = dict[str, Any]

JOB_STATUS = [status.value for status in JobStatus]
REQUEST_STATUS = [status.value for status in RequestStatus]
#: Settings that may be larger than what is in force, and what else that may be from.
IN_FORCE = {"brokerLimitBytes": ("broker", "controller"), "httpConnections": ("openFiles",)}
COUNTERS = ("openJobs", "openRequests", "inFlight", "window", "idsLeft", "messagesDropped")


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


def _whole(low: int, high: int = fields.MOST) -> Shape:
    return {"type": "integer", "minimum": low, "maximum": high}


def _text(limit: int) -> Shape:
    return {"type": "string", "minLength": 1, "maxLength": limit, "pattern": r"^[^\u0000]+$"}


def _some_of(known: Sequence[str]) -> Shape:
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": fields.MOST_NAMES,
        "items": {"enum": list(known)},
    }


TEXT: Shape = {"type": "string", "minLength": 1}
_TIME: Shape = {"type": "string", "format": "date-time"}
_SECONDS: Shape = {"type": "number", "minimum": fields.SHORTEST_S, "maximum": fields.LONGEST_S}
_YES: Shape = {"type": "boolean"}
_COUNT: Shape = {"type": "integer", "minimum": 0}
_ID: Shape = {"type": "integer", "minimum": 1}
#: What is allowed is counted in bytes: beyond ASCII it is less than this.
_DESTINATION: Shape = {
    "type": "string",
    "pattern": r"^[^/?#+\s\x00-\x1f\x7f-\x9f]+$",
    "maxLength": fields.RESOURCE_LIMIT_BYTES - len("/remote/"),
}
_MESSAGE: Mapping[str, Shape] = {
    "method": {
        "type": "string",
        "pattern": "^([gG][eE][tT]|[pP][oO][sS][tT]|[pP][uU][tT]|[dD][eE][lL][eE][tT][eE])$",
    },
    "resource": {"type": "string", "pattern": r"^/[^\u0000]*$", "maxLength": fields.RESOURCE_LIMIT_BYTES},
}
_DATA: Mapping[str, Shape] = {"data": ref("Value"), "code": _or_null(_whole(100, 999))}
_MILLISECONDS: Shape = {"type": "number", "minimum": 1, "maximum": fields.LONGEST_MS}
_PERCENT: Shape = {"type": "string", "pattern": f"^{fields.PERCENT}$"}
_SHARE: Shape = {"anyOf": [_whole(1), _PERCENT]}
_ERRORS: Shape = {"anyOf": [_whole(0), _PERCENT, {"const": "0%"}]}
_PAUSE: Shape = {"anyOf": [{"const": 0}, _SECONDS]}
_KEY = _or_null(_text(fields.KEY_LIMIT))

_RETRY = _object(
    {},
    {
        "attempts": _whole(1, fields.MOST_ATTEMPTS),
        "on": _some_of(fields.RETRIED),
        "delay": _PAUSE,
        "factor": {"type": "number", "minimum": 1, "maximum": 100},
        "maxDelay": _PAUSE,
    },
)
_GATE = _object({}, {"errors": _ERRORS, "soak": _PAUSE, "onFail": {"enum": ["abort", "pause"]}})
_RERUN = _object({"job": _whole(1, 2**53)}, {"status": _some_of(fields.RERUN)})
WAVES: Shape = {
    "description": "Where each wave ends, counted from the first request: each number is larger than the one "
    "before, and so is each percentage",
    "type": "array",
    "minItems": 1,
    "maxItems": fields.MOST_WAVES,
    "uniqueItems": True,
    "items": _SHARE,
}
#: A time that no calendar disputes; ISO 8601 has other forms, which are taken too.
_START: Shape = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^(19[89][0-9]|[2-8][0-9]{3})-[01][0-9]-[0-3][0-9]"
    r"T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-][0-2][0-9]:[0-5][0-9])$",
}

#: The optional properties of a new job; a job shows those of ``schemas.GIVEN`` as they were given.
_OPTIONS: Mapping[str, Shape] = {
    "timeout": {"anyOf": [_SECONDS, {"type": "null"}, {"const": "infinity"}]},
    "name": _or_null(_text(fields.NAME_LIMIT)),
    "key": _KEY,
    "requestTimeout": _or_null(_SECONDS),
    "concurrency": _or_null(_SHARE),
    "rate": _or_null({"type": "number", "minimum": fields.LEAST_RATE, "maximum": fields.MOST_RATE}),
    "retry": _or_null(_RETRY),
    "idempotent": _or_null({"type": "boolean"}),
    "abort": _or_null(_object({"errors": _ERRORS}, {"after": _whole(1)})),
    "waves": _or_null(WAVES),
    "gate": _or_null(_GATE),
    "startAt": _or_null(_START),
    "rerun": _or_null(_RERUN),
    "dryRun": _or_null({"type": "boolean"}),
}


def _new_job() -> Shape:
    """Either a batch or a rerun; a gate only between waves."""
    batch: Shape = {"type": "array", "minItems": 1, "items": ref("Item")}
    return {
        **_object({}, {"batch": batch, **_OPTIONS}),
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
    "NewJob": _new_job(),
    "NewRequest": _object(
        {"destination": _DESTINATION, "message": _object(_MESSAGE, {**_DATA, "id": {}, "formData": {}})},
        {"options": _object({}, {"timeout": _MILLISECONDS}), "key": _KEY, "formData": {}},
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
            "summary": {"description": "Its first command, and how many others", "type": "string"},
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
            **{name: _OPTIONS[name] for name in fields.GIVEN},
            "wave": {"description": "The open one, from 1; where waves were given", **_whole(1)},
            "gateStatus": {
                "description": "What stands before the next wave: it rests, or it failed",
                "enum": [None, *(status.value for status in GateStatus)],
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
