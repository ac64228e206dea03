"""Examples of what is asked and answered, for the OpenAPI description; tests hold them against it."""

from collections.abc import Mapping

from puppetmaster.api.shapes import COUNTERS, REQUEST_STATUS, Shape

BATCH: Shape = {
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
_CLOCKS: Shape = {
    "method": "put",
    "resource": "/system/time",
    "data": {"ntp": {"enable": True}},
    "__request": {"destination": [f"cg-000c291ce8{number:02d}" for number in range(1, 5)]},
}
ROLLOUT: Shape = {
    "name": "ntp",
    "key": "ntp-2026-01",
    "requestTimeout": 30,
    "concurrency": "50%",
    "rate": 20,
    "retry": {"attempts": 3, "on": ["timeout", "error"], "delay": 5, "factor": 2, "maxDelay": 300},
    "idempotent": True,
    "abort": {"errors": "10%", "after": 20},
    "waves": [1, "50%", "100%"],
    "gate": {"errors": 0, "soak": 60, "onFail": "pause"},
    "startAt": "2026-01-02T03:04:05Z",
    "batch": [_CLOCKS],
}
DRY_RUN: Shape = {"dryRun": True, "waves": [1, "50%"], "batch": [_CLOCKS]}
#: An event: the remote bundle confirms that it was delivered, and no device answers.
EVENT: Shape = {"batch": [{**_CLOCKS, "code": 200}]}
RERUN: Shape = {"rerun": {"job": 12, "status": ["error", "timeout"]}}
RESULTS: list[Shape] = [
    {
        "count": 38,
        "status": "resolved",
        "code": 200,
        "destinations": ["cg-[001-038]"],
        "sample": {
            "request": 2147483648,
            "result": {"code": 200, "data": {"ntp": True}, "source": "device"},
        },
    },
    {
        "count": 1,
        "status": "resolved",
        "code": 200,
        "destinations": ["cg-039"],
        "sample": {
            "request": 2147483686,
            "result": {"code": 200, "data": {"ntp": False}, "source": "device"},
        },
        "diff": [{"path": "ntp", "good": True, "here": False}],
    },
]
JOB: Shape = {
    "id": 12,
    "name": None,
    "summary": "post /system/reboot",
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
NEW_REQUEST: Shape = {
    "destination": "00:0c:29:1c:e8:01",
    "message": {"method": "get", "resource": "/system/time"},
}
REQUEST: Shape = {
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
        "route": None,
        "result": {},
    },
}
#: One of its requests has come back, the others are on their way; then it was paused, then removed.
RUNNING: Shape = {
    **JOB,
    "startedAt": "2026-01-02T03:04:05.690Z",
    "progress": 33,
    "doneCount": 1,
    "finishCount": 1,
    "counts": {**dict.fromkeys(REQUEST_STATUS, 0), "resolved": 1, "sent": 2},
}
PAUSED: Shape = {**RUNNING, "status": "paused", "reason": "paused by a request"}
REMOVED: Shape = {
    **RUNNING,
    "finishedAt": "2026-01-02T03:05:01.234Z",
    "status": "canceled",
    "reason": "removed by a request",
    "progress": 100,
    "doneCount": 3,
    "errorCount": 2,
    "counts": {**dict.fromkeys(REQUEST_STATUS, 0), "resolved": 1, "unknown": 2},
}
DONE_REQUEST: Shape = {
    **REQUEST,
    "__request": {
        **{name: value for name, value in REQUEST["__request"].items() if name != "why"},
        "sentAt": "2026-01-02T03:04:05.690Z",
        "finishedAt": "2026-01-02T03:04:05.894Z",
        "status": "resolved",
        "progress": 100,
        "attempts": 1,
        "route": "remote",
        "result": {"code": 200, "data": {"rebooting": True}, "source": "device"},
    },
}
GATEWAY: Shape = {
    "version": "0.1.0",
    "startedAt": "2026-01-02T03:00:00.000Z",
    "healthy": True,
    "bus": {"connected": True, "controller": True, "registered": True, "reason": None},
    "store": {"writable": True, "reason": None, "path": "/opt/sanji/puppetmaster/data/puppetmaster.db"},
    "limits": {"requestTimeout": 60, "maxRequests": 50000},
    "inForce": {
        "brokerLimitBytes": {"value": 100000, "from": "broker"},
        "httpConnections": {"value": 900, "from": "setting"},
    },
    "counters": {**dict.fromkeys(COUNTERS, 0), "window": 10, "idsLeft": 1610612735},
    "gateways": {
        "connected": 38,
        "away": 2,
        "changes": 5,
        "watched": True,
        "route": "remote",
        "owners": {"/remote/+": {"window": 3, "busy": 1}},
    },
}
READY: Shape = {"ready": True, "reasons": []}
NOT_READY: Shape = {
    "message": "Not ready: the controller does not answer.",
    "ready": False,
    "reasons": ["the controller does not answer"],
}
#: Messages that come with the codes of errors.
ERRORS: Mapping[int, Shape] = {
    400: {
        "message": "batch[0].method: expected get, post, put or delete, got 'foo'",
        "errors": [{"path": "batch[0].method", "message": "expected get, post, put or delete, got 'foo'"}],
    },
    401: {"message": "This needs the token: send it as 'Authorization: Bearer <token>'."},
    403: {"message": "This may not be asked for by a page of another origin."},
    404: {"message": "There is no job 12: GET /jobs lists those there are."},
    405: {"message": "Expected GET, HEAD, POST on this resource, got DELETE."},
    408: {"message": "The body did not arrive within 10 s."},
    409: {"message": "Job 12 is canceled: it has ended and cannot become paused."},
    413: {
        "message": "The body has 16777217 bytes or more and 16777216 are the most: "
        "split it, or raise PUPPETMASTER_BODY_LIMIT_BYTES."
    },
    431: {"message": "The headers are too large: 16384 bytes are the most."},
    500: {"message": "Something went wrong inside puppetmaster; its log says what."},
    503: {"message": "Puppetmaster is stopping: nothing was changed."},
}
