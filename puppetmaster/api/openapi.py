"""The OpenAPI 3.1 document, made from the operations' table; ``python -m puppetmaster.openapi`` prints it."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from puppetmaster import __version__
from puppetmaster.api import fields, query, samples, shapes
from puppetmaster.api.shapes import Shape, ref
from puppetmaster.http.resources import OPERATIONS, Operation

#: What each code means; api/samples.py has messages that come with it.
_ERRORS = {
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


def _parameter(name: str, schema: Shape, about: str, where: str = "query") -> Shape:
    return {"name": name, "in": where, "required": where == "path", "description": about, "schema": schema}


_ID = _parameter("id", {"type": "integer", "minimum": 1, "maximum": 2**53}, "As answered at creation", "path")
_COUNT: Shape = {"type": "integer", "minimum": 0, "maximum": query.LARGEST}
_PAGE = [
    _parameter("limit", _COUNT, "At most so many; default: all"),
    _parameter("offset", _COUNT, "After so many"),
]
_COLLECTION = _parameter("collection", {"type": "boolean"}, "Adds `collection`, the request objects")
_DESTINATION = _parameter("destination", shapes.TEXT, "Only those for this destination")
_KNOWN = _parameter("If-None-Match", {"type": "string"}, "An ETag that is known", "header")
_KEY = _parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$", "maxLength": fields.KEY_LIMIT},
    "As `key` in the body: the same key with the same body answers the job that exists",
    "header",
)


def _status(known: Any) -> Shape:
    listed = {"type": "string", "enum": list(known)}
    parameter = _parameter(
        "status", {"type": "array", "items": listed, "minItems": 1}, "Only those in one of these"
    )
    return {**parameter, "style": "form", "explode": False}


_JOB_STATUS, _REQUEST_STATUS = _status(shapes.JOB_STATUS), _status(shapes.REQUEST_STATUS)
_NAME = _parameter("name", shapes.TEXT, "Only those of this name")
_TEXT = _parameter("text", shapes.TEXT, "Only those whose id, name, key or resource contains this")
_JOBS = {"type": "array", "items": ref("Job")}
_REQUESTS = {"type": "array", "items": ref("Request")}
#: What a request's ``why`` and counters say changes at any time, so an ETag is offered on jobs.
_DOCS: Mapping[tuple[str, str], Shape] = {
    ("GET", "/jobs"): {
        "summary": "The jobs, newest first",
        "parameters": [*_PAGE, _JOB_STATUS, _NAME, _TEXT, _DESTINATION, _COLLECTION, _KNOWN],
        "answer": _JOBS,
        "example": [samples.RUNNING],
    },
    ("POST", "/jobs"): {
        "summary": "Create a job; it is on disk when this answers, and nothing was sent yet",
        "parameters": [_KEY],
        "body": (
            ref("NewJob"),
            {
                "reboot": {"value": samples.BATCH},
                "rollout": {"value": samples.ROLLOUT},
                "dryRun": {"value": samples.DRY_RUN},
                "event": {"value": samples.EVENT},
                "rerun": {"value": samples.RERUN},
            },
        ),
        "answer": ref("Job"),
        "example": samples.JOB,
    },
    ("GET", "/jobs/{id}"): {
        "summary": "One job with its requests",
        "parameters": [_ID, *_PAGE, _COLLECTION, _KNOWN],
        "answer": ref("Job"),
        "example": {**samples.JOB, "requests": [samples.REQUEST]},
    },
    ("PUT", "/jobs/{id}"): {
        "summary": "Pause, resume or cancel a job",
        "parameters": [_ID],
        "body": (ref("Control"), {"pause": {"value": {"status": "paused"}}}),
        "answer": ref("Job"),
        "example": samples.PAUSED,
    },
    ("DELETE", "/jobs/{id}"): {
        "summary": "Stop a job if it still runs, and remove it: the job as it last was",
        "parameters": [_ID],
        "answer": ref("Job"),
        "example": samples.REMOVED,
    },
    ("GET", "/jobs/{id}/requests"): {
        "summary": "The requests of a job",
        "parameters": [_ID, *_PAGE, _REQUEST_STATUS, _DESTINATION],
        "answer": _REQUESTS,
        "example": [samples.REQUEST],
    },
    ("GET", "/jobs/{id}/results"): {
        "summary": "Equal results of a job folded into groups",
        "parameters": [
            _ID,
            *_PAGE,
            _parameter("collection", {"type": "boolean"}, "Lists destinations one by one, not as ranges"),
            _parameter("diff", {"type": "boolean"}, "Adds how a group differs from the largest good one"),
        ],
        "answer": {"type": "array", "items": ref("Result")},
        "example": samples.RESULTS,
    },
    ("GET", "/requests"): {
        "summary": "Requests over all jobs",
        "parameters": [*_PAGE, _REQUEST_STATUS, _DESTINATION],
        "answer": _REQUESTS,
        "example": [samples.REQUEST],
    },
    ("POST", "/requests"): {
        "summary": "Create one request for one destination: a job of one",
        "parameters": [_KEY],
        "body": (ref("NewRequest"), {"time": {"value": samples.NEW_REQUEST}}),
        "answer": ref("Request"),
        "example": samples.REQUEST,
    },
    ("GET", "/requests/{id}"): {
        "summary": "One request",
        "parameters": [_ID],
        "answer": ref("Request"),
        "example": samples.DONE_REQUEST,
    },
    ("GET", "/request/{id}"): {
        "summary": "One request, under its other name",
        "parameters": [_ID],
        "answer": ref("Request"),
        "example": samples.DONE_REQUEST,
    },
    ("GET", "/system/puppetmaster"): {
        "summary": "Health, version, limits, counters",
        "parameters": [],
        "answer": ref("Gateway"),
        "example": samples.GATEWAY,
    },
}


def _operation(one: Operation) -> Shape:
    doc = _DOCS[one.method, one.path]
    headers: Shape = {}
    if one.created is not None:
        headers["Location"] = {"description": "Where it is from now on", "schema": {"type": "string"}}
    if doc["answer"] in (_JOBS, _REQUESTS):
        about = "How many there are before paging"
        headers["X-Total-Count"] = {"description": about, "schema": {"type": "integer", "minimum": 0}}
    if one.method == "GET":
        about = "Absent from a long answer about a job that still runs"
        headers["ETag"] = {"description": about, "schema": {"type": "string"}}
    responses: Shape = {"200": {**_json("OK", doc["answer"], doc["example"]), "headers": headers}}
    if one.method == "GET":
        responses["304"] = {"description": "What If-None-Match names is still so"}
    plain = one.method == "GET" and not _takes_query(doc)
    responses |= _errors(set(_ERRORS) - ({400, 408, 409, 413} if plain else set()))
    words = one.path.replace("{id}", "one").strip("/").split("/")
    operation: Shape = {
        "operationId": "-".join([one.method.lower(), *words]),
        "summary": doc["summary"],
        "parameters": doc["parameters"],
        "responses": responses,
    }
    if "body" in doc:
        schema, examples = doc["body"]
        content = {"application/json": {"schema": schema, "examples": examples}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _json(about: str, schema: Shape, example: Any) -> Shape:
    return {"description": about, "content": {"application/json": {"schema": schema, "example": example}}}


def _errors(codes: Iterable[int]) -> Shape:
    return {str(code): {"$ref": f"#/components/responses/{code}"} for code in sorted(codes)}


def _watched() -> Mapping[str, Shape]:
    """What is for those who watch the gateway: it has no place in the operations' table."""
    text = {"text/plain": {"schema": {"type": "string"}, "example": "puppetmaster_in_flight 0\n"}}
    asked = set(_ERRORS) - {400, 404, 408, 409, 413}
    return {
        "/health": {
            "get": {
                "operationId": "get-health",
                "summary": "200 when a batch would be carried out now; else 503, and why not",
                "responses": {
                    "200": _json("It would", ref("Readiness"), samples.READY),
                    **_errors(asked),
                    "503": _json("It would not", ref("Readiness"), samples.NOT_READY),
                },
            }
        },
        "/metrics": {
            "get": {
                "operationId": "get-metrics",
                "summary": "Counters and gauges for Prometheus",
                "responses": {"200": {"description": "OK", "content": text}, **_errors(asked)},
            }
        },
    }


def _takes_query(doc: Shape) -> bool:
    return any(parameter["in"] == "query" for parameter in doc["parameters"])


def description() -> Shape:
    """The document."""
    paths: dict[str, Shape] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "puppetmaster",
            "version": __version__,
            "description": "Runs batches of commands on remote gateways and follows each request to its end. "
            "Changes of jobs are told over WebSocket at /jobs/ws, /jobs/ws/{id} and /jobs/{id}/ws.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": {**paths, **_watched()},
        "components": {
            "schemas": shapes.SCHEMAS,
            "responses": {
                str(code): _json(about, ref("Error"), samples.ERRORS[code]) for code, about in _ERRORS.items()
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


TEXT = json.dumps(description(), indent=2).encode("ascii") + b"\n"


if __name__ == "__main__":
    sys.stdout.write(TEXT.decode("ascii"))
