"""The properties of the API's answers, each described once: what its value is, and what it means.

The answers of the OpenAPI document, the tables in docs/api.md and the words of the page come from here;
``api.fields`` has the properties of bodies. A test compares both with what a running gateway answers.
"""

from dataclasses import replace

from puppetmaster.api import gateway_bodies
from puppetmaster.api.fields import NEW_JOB, TEMPLATE_FIELDS, Field, Many
from puppetmaster.api.kinds import METHODS, MOST, REF, Shape, described
from puppetmaster.model.caller import Role
from puppetmaster.model.job import FINAL, GateStatus, JobStatus
from puppetmaster.model.leadership import Free
from puppetmaster.model.request import DIRECT_WAY, REMOTE_WAY, RequestStatus
from puppetmaster.model.template import Outcome
from puppetmaster.model.timeline import ITSELF, What
from puppetmaster.model.why import Reason, Why
from puppetmaster.settings import ROUTES

#: Who has given a result, as people say it.
SOURCES = {
    "device": "the device",
    "remote": "the remote bundle",
    "controller": "the controller",
    "puppetmaster": "puppetmaster itself",
}
#: What happened to a job, as people say it; ``{wave}`` and ``{status}`` are the event's.
HAPPENED = {
    What.CREATED: "created",
    What.DUE: "its time to start has come",
    What.STARTED: "started: its first request was sent",
    What.PAUSED: "paused",
    What.RESUMED: "resumed",
    What.GATE_CLOSED: "the gate behind wave {wave} closed",
    What.WAVE_OPENED: "wave {wave} opened",
    What.CANCELED: "canceled",
    What.ABORTED: "stopped: aborted",
    What.TIMEOUT: "stopped: its time is over",
    What.ENDED: "ended: {status}",
}
#: The ways to a gateway, as people say them.
WAYS = {REMOTE_WAY: "through the remote bundle", DIRECT_WAY: "directly to the gateway"}

_ANY: Shape = {}
_OBJECT: Shape = {"type": "object"}
_TEXT: Shape = {"type": "string"}
_FILLED: Shape = {"type": "string", "minLength": 1}
_TEXTS: Shape = {"type": "array", "items": _TEXT}
_TIME: Shape = {"type": "string", "format": "date-time"}
_FLAG: Shape = {"type": "boolean"}
_NUMBER: Shape = {"type": "number"}
_COUNT: Shape = {"type": "integer", "minimum": 0}
_ID: Shape = {"type": "integer", "minimum": 1}
_SIZE: Shape = {"type": "integer", "minimum": 1, "maximum": MOST}
_SIZES: Shape = {"type": "array", "items": _SIZE}
_REQUEST: Shape = {"$ref": f"{REF}Request"}
_STATUS: Shape = {"enum": [status.value for status in RequestStatus]}


def _field(
    name: str,
    about: str,
    schema: Shape,
    *parts: Field,
    null: str = "",
    always: bool = True,
    many: Many | None = None,
) -> Field:
    """A property of an answer.

    Args:
        name: as it is in the answer.
        about: what it means, with its unit.
        schema: what its value is, as JSON Schema.
        parts: the properties of its value, which is an object.
        null: what null means; empty: it is never null.
        always: whether each answer has it.
        many: whether its value is several objects with these parts.
    """
    return Field(
        name=name,
        about=f"{about}; null: {null}" if null else about,
        kind=described(schema),
        parts=parts,
        many=many,
        required=always,
        nullable=bool(null),
    )


JOB = (
    _field("id", "Its number, never used again", _ID, null="it is a dry run"),
    _field("name", "Its label", _TEXT, null="it has none"),
    _field("summary", "Method and resource of its first command, and how many others there are", _TEXT),
    _field("key", "Its idempotency key", _TEXT, null="it has none"),
    _field("parent", "The job that it runs again", _ID, null="it is no rerun"),
    _field("template", "The template that it was started from", _ID, null="it was started from none"),
    _field("createdAt", "When it was created", _TIME),
    _field(
        "createdBy",
        "Who created it: the name of a token, `token` with the one token, `http` without any, `bus`",
        _TEXT,
        null="an earlier version did",
    ),
    _field("startedAt", "When its first request was sent", _TIME, null="not yet"),
    _field("finishedAt", "When it ended", _TIME, null="not yet"),
    _field("timeout", "Seconds for the whole job", _NUMBER, null="no limit"),
    _field("status", "What it does, or how it ended", {"enum": [status.value for status in JobStatus]}),
    _field("reason", "Why it is paused, is being stopped or was stopped", _TEXT, null="none of these"),
    _field(
        "reasonCode",
        "What kind of reason that is, for programs",
        {"enum": [*Reason]},
        null="no reason, or one that an earlier version has kept",
    ),
    _field(
        "ending",
        "The status that it will have once what is in flight has ended",
        {"enum": [status.value for status in sorted(FINAL) if status is not JobStatus.RESOLVED]},
        null="it is not being stopped",
    ),
    _field(
        "progress",
        "Whole percent of its requests that are done, rounded down",
        {"type": "integer", "minimum": 0, "maximum": 100},
    ),
    _field("totalCount", "Number of its requests", _COUNT),
    _field("doneCount", "Number of its requests that are done: `finishCount` + `errorCount`", _COUNT),
    _field("finishCount", "Number of its requests that ended `resolved`", _COUNT),
    _field("errorCount", "Number of its requests that ended in any other way", _COUNT),
    _field(
        "counts",
        "Number of its requests by status",
        _OBJECT,
        *(
            _field(status.value, f"Number of its requests that are {status}", _COUNT)
            for status in RequestStatus
        ),
    ),
    *(one for one in NEW_JOB if one.given),
    _field(
        "targets",
        "The items of the batch that did not name their gateways: as they were asked for",
        _OBJECT,
        _field("item", "Its place in the batch, from 0", _COUNT),
        _field("selector", "The selector of labels", _TEXT, always=False),
        _field("match", "The pattern for names", _TEXT, always=False),
        _field("all", "All that were known", {"const": True}, always=False),
        _field("except", "Patterns of the names that were left out", _TEXTS, always=False),
        _field("found", "How many were found when the job was created", _COUNT),
        many=Many.LIST,
        always=False,
    ),
    _field("waveEnds", "With `waves`: number of requests up to the end of each wave", _SIZES, always=False),
    _field("wave", "With `waves`: number of the open wave, from 1", _SIZE, always=False),
    _field(
        "gateStatus",
        "With `waves`: whether the gate before the next wave waits (soak) or failed (closed)",
        {"enum": [status.value for status in GateStatus]},
        null="neither",
        always=False,
    ),
    _field(
        "openedGates",
        "With `waves`: the gates that failed, and that callers opened",
        _OBJECT,
        _field("wave", "Number of the wave in front of it, from 1", _SIZE),
        _field("failed", "How many of that wave had failed", _COUNT),
        _field("at", "When it was opened", _TIME),
        many=Many.LIST,
        always=False,
    ),
    _field("dryRun", "Of a dry run: nothing was created, and ids are null", {"const": True}, always=False),
    _field("waveSizes", "Of a dry run: number of requests of each wave", _SIZES, always=False),
    _field(
        "plan",
        "Of a dry run, a sentence each: how many requests, in which order, what stops the job, what is sent "
        "twice, and what else is to be known",
        _TEXTS,
        always=False,
    ),
    _field(
        "registration",
        "Of a dry run: how many of its gateways the controller knows",
        _OBJECT,
        _field("gateways", "Number of its gateways", _COUNT),
        _field("registered", "Number of those that are registered", _COUNT),
        _field("notRegistered", "Number of those that are not", _COUNT),
        _field("unknown", "Number of those of which that is not known", _COUNT),
        _field("unanswered", "Number of these of which the controller has said nothing in time", _COUNT),
        _field("names", f"The first {gateway_bodies.MOST_NAMED} of those that are not registered", _TEXTS),
        always=False,
    ),
    _field(
        "requests",
        "Its requests: ids, or all of each where one job is asked for",
        {"type": "array", "items": {"anyOf": [_ID, _REQUEST]}},
        always=False,
    ),
    _field(
        "collection",
        "With `collection=true`: its requests",
        {"type": "array", "items": _REQUEST},
        always=False,
    ),
)

EVENT = (
    _field("number", "Its number in the job, from 1; where one is missing, events were left out", _ID),
    _field("at", "When it happened", _TIME),
    _field("event", "What happened", {"enum": [*What]}),
    _field("by", f"Who did it, as in `createdBy`; `{ITSELF}`: nobody asked for it then", _FILLED),
    _field("status", "The status of the job after it", {"enum": [status.value for status in JobStatus]}),
    _field("wave", "The wave that was opened, or whose gate is closed", _SIZE, null="it is about no wave"),
    _field("why", "Why, in a sentence", _TEXT, null="there is no more to say"),
    _field("whyCode", "What kind of reason that is, for programs", {"enum": [*Reason]}, null="no `why`"),
)

_RESULT = (
    _field("code", "The code of the answer", _NUMBER, null="what came had none", always=False),
    _field("data", "The data of the answer", _ANY, always=False),
    _field("message", "Of a failure: what is wrong, in a sentence", _TEXT, always=False),
    _field("source", "Who says so", {"enum": list(SOURCES)}, always=False),
    _field("late", "The answer came after the time of its attempt", {"const": True}, always=False),
)
#: Of an attempt, and of the result of the last one.
_DIRECTLY = _field("route", "The gateway was asked directly", {"const": DIRECT_WAY}, always=False)
_ATTEMPT = (
    _field("message", "The message id of its sending", _ID),
    _field("sentAt", "When it was sent", _TIME, null="not known"),
    _field("finishedAt", "When it ended", _TIME),
    _field("status", "How it ended", _STATUS),
    _field("result", "What came back", _OBJECT, *_RESULT),
    _DIRECTLY,
)
REQUEST = (
    _field("id", "Its number, never used again; the message id of its first sending", _ID, null="a dry run"),
    _field("job", "The job that it belongs to", _ID, null="a dry run"),
    _field("method", "What the device is to do", {"enum": list(METHODS)}),
    _field("resource", "What it is asked of", _TEXT),
    _field("tunnel", "Always /remote", _TEXT),
    _field("data", "What is passed on", _ANY),
    _field(
        "code", "Of an event: its code", {"type": "integer", "minimum": 100, "maximum": 999}, always=False
    ),
    _field(
        "__request",
        "What became of it",
        _OBJECT,
        _field("destination", "The gateway", _TEXT),
        _field("createdAt", "When its job was created", _TIME),
        _field("sentAt", "When its last attempt was sent", _TIME, null="not yet, or it waits for another"),
        _field("finishedAt", "When it ended", _TIME, null="not yet"),
        _field("timeout", "Seconds from sent to answer, for each attempt", _NUMBER),
        _field("status", "Where it is on its way, or how it ended", _STATUS),
        _field("why", "What it waits for, in a sentence", _TEXT, null="it is done, or in flight"),
        _field("whyCode", "What kind of reason that is, for programs", {"enum": [*Why]}, null="no `why`"),
        _field("progress", "Percent: 0 until it is done, then 100", {"enum": [0, 100]}),
        _field("attempts", "Number of sendings that may have reached the gateway", _COUNT),
        _field("route", "The way that it was last sent", {"enum": list(WAYS)}, null="it was not sent"),
        _field("result", "What came back; empty until there is something", _OBJECT, *_RESULT, _DIRECTLY),
        _field(
            "history",
            "The attempts that were followed by another",
            _OBJECT,
            *_ATTEMPT,
            many=Many.LIST,
            always=False,
        ),
    ),
)

RESULT = (
    _field("count", "Number of requests with this result", _SIZE),
    _field("status", "How they ended", _STATUS),
    _field("code", "The code of their answers", _NUMBER, null="they have none"),
    _field(
        "destinations", "Their gateways, folded: `cg-[001-038]`; with `collection=true` one by one", _TEXTS
    ),
    _field(
        "sample",
        "The first of them",
        _OBJECT,
        _field("request", "Its id", _ID),
        _field("result", "What came back", _OBJECT, *_RESULT, _DIRECTLY),
    ),
    _field("step", "With `onFail` stop: method and resource of their item", _TEXT, always=False),
    _field(
        "diff",
        "With `diff=true`: where its data differ from those of the largest group that is resolved; not where "
        "nothing was sent",
        _OBJECT,
        _field("path", "Where", _TEXT),
        _field("good", "What the largest group has there", _ANY, always=False),
        _field("here", "What this one has there", _ANY, always=False),
        _field("message", "That there are more differences", _TEXT, always=False),
        many=Many.LIST,
        always=False,
    ),
)

ERROR = (
    _field("message", "What is wrong, in a sentence", _TEXT),
    _field(
        "errors",
        "The fields that are at fault, all at once",
        _OBJECT,
        _field("path", "Which field, such as `batch[0].method`", _TEXT),
        _field("message", "What was expected, and what came", _TEXT),
        many=Many.LIST,
        always=False,
    ),
)


def _in_force(name: str, about: str, *sources: str) -> Field:
    """A setting that something else may make smaller; ``sources`` are what that may be."""
    return _field(
        name,
        about,
        _OBJECT,
        _field("value", "The limit in force", _COUNT),
        _field("from", "What it is from", {"enum": ["setting", *sources]}),
    )


_LEADER = _field(
    "leader",
    "Which process leads. Where the store is PostgreSQL, and nowhere else",
    _OBJECT,
    _field("name", "How its sessions in the database are named: by machine and process", _FILLED),
    _field("epoch", "Which leader it is, counted from the first one", _COUNT),
    _field("since", "When it took the lead, by the database's clock", _TIME),
    _field("leaseLeft", "Seconds until its lease is over, if it is not renewed", _NUMBER),
    _field(
        "sure",
        "Whether no other process can have taken the lead; while it is not sure nothing is sent",
        _FLAG,
    ),
    _field(
        "takeover",
        "How it came to lead",
        _OBJECT,
        _field("why", "Why the lead was free", {"enum": [*Free]}),
        _field("from", "The leader before, by its name", _TEXT, null="it has stopped, or there was none"),
        _field("message", "Why, in a sentence", _TEXT),
    ),
    always=False,
)

GATEWAY = (
    _field("version", "The version of puppetmaster", _TEXT),
    _field("startedAt", "When the bundle started", _TIME),
    _field("healthy", "Whether a batch would be carried out now", _FLAG),
    _LEADER,
    _field(
        "caller",
        "Who asks",
        _OBJECT,
        _field("name", "The name, as a job's `createdBy` has it", _FILLED),
        _field("role", "What that caller may do", {"enum": [*Role]}),
    ),
    _field(
        "bus",
        "The way to the controller",
        _OBJECT,
        _field("connected", "Whether there is a connection to the broker", _FLAG),
        _field("controller", "Whether the controller answers", _FLAG),
        _field(
            "registered",
            "Whether requests reach the bundle; false once it asked itself twice without an answer",
            _FLAG,
        ),
        _field("reason", "What is wrong, the first cause only, and what to do", _TEXT, null="nothing is"),
    ),
    _field(
        "store",
        "What is on disk",
        _OBJECT,
        _field("writable", "Whether it can be written", _FLAG),
        _field("reason", "Why it cannot", _TEXT, null="it can"),
        _field("path", "Its file", _FILLED),
    ),
    _field(
        "limits",
        "The settings under the names that `puppetmaster.json` takes, without secrets",
        {
            "type": "object",
            "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
        },
    ),
    _field(
        "inForce",
        "Settings that something else may make smaller",
        _OBJECT,
        _in_force(
            "brokerLimitBytes",
            "Bytes of a message: as set, as the broker says, or less than 1 MiB for the controller's sake",
            "broker",
            "controller",
        ),
        _in_force(
            "httpConnections", "HTTP connections: as set, or what the process may open files for", "openFiles"
        ),
    ),
    _field(
        "counters",
        "Numbers as they are now",
        _OBJECT,
        _field("openJobs", "Jobs that have not ended", _COUNT),
        _field("openRequests", "Requests of them that are not done", _COUNT),
        _field("inFlight", "Requests in flight", _COUNT),
        _field("window", "How many may be in flight; it adapts to how quickly answers come", _COUNT),
        _field("idsLeft", "Request ids that are left for new jobs", _COUNT),
        _field(
            "messagesDropped", "Messages that came to our tunnel since the start, and are no answer", _COUNT
        ),
    ),
    _field(
        "files",
        "Files of the settings that are read again when they have changed: `tokens`, `webhooks`",
        _OBJECT,
        _field(
            "reason",
            "Why what it says now does not hold, but what it said before",
            _TEXT,
            null="it holds",
        ),
        many=Many.MAP,
    ),
    _field(
        "webhooks",
        "The webhooks of the settings, by name",
        _OBJECT,
        _field("waiting", "How many notices it is still to be told", _COUNT),
        _field("reason", "Why the last attempt failed", _TEXT, null="it did not"),
        many=Many.MAP,
    ),
    _field(
        "gateways",
        "What is known of gateways. Where no bridge says anything, `connected`, `away` and `changes` are 0",
        _OBJECT,
        _field("connected", "Gateways that are connected", _COUNT),
        _field("away", "Gateways that are not connected", _COUNT),
        _field("registered", "Known gateways that are registered", _COUNT),
        _field("notRegistered", "Known gateways that are not registered", _COUNT),
        _field("unknown", "Known gateways of which that is not known", _COUNT),
        _field("changes", "How often a bridge came or went since the start", _COUNT),
        _field(
            "watched",
            "Whether we see what bridges say; not where `PUPPETMASTER_PRESENCE` is off, or refused",
            _FLAG,
        ),
        _field(
            "route",
            "Which way requests go; `remote` also where the broker refuses what gateways answer directly",
            {"enum": list(ROUTES)},
        ),
        _field(
            "owners",
            "By the resource that an owner of many gateways has, such as `/remote/+`",
            _OBJECT,
            _field("window", "The most that are in flight there", _COUNT),
            _field("busy", "How many it may be busy with", _COUNT),
            many=Many.MAP,
        ),
    ),
)

KNOWN_GATEWAY = (
    _field("name", "Its name, as a destination has it", _FILLED),
    _field("labels", "Its labels", {"type": "object", "additionalProperties": _TEXT}),
    _field("note", "A sentence of its keeper", _TEXT, null="it has none"),
    _field("discovered", "Whether it was seen to register, and nobody has named it since", _FLAG),
    _field(
        "connected", "Whether its bridge says that it is connected", _FLAG, null="no bridge says anything"
    ),
    _field(
        "registered",
        "Whether the controller says that it is registered",
        _FLAG,
        null="not known, or its owner answers for many gateways",
    ),
    _field("checkedAt", "When the controller last said something of it", _TIME, null="not yet"),
    _field(
        "lastSeenAt",
        "When it last answered, registered, or had a bridge that was connected",
        _TIME,
        null="not known",
    ),
    _field(
        "lastResult",
        "How its newest request ended, of those that are done and kept",
        _OBJECT,
        _field("request", "Its id", _ID),
        _field("status", "How it ended", _STATUS),
        _field("code", "The code of its answer", _NUMBER, null="it has none"),
        null="there is none",
    ),
)
PUT_GATEWAYS = (
    _field("put", "Number of gateways that were put", _COUNT),
    _field("created", "Number of those that were not known before", _COUNT),
)

TEMPLATE = (
    _field("id", "Its number, never used again", _ID, null="it is a dry run"),
    *(replace(one, required=True, nullable=one.nullable or one.name == "job") for one in TEMPLATE_FIELDS),
    _field("nextAt", "When it starts next", _TIME, null="not by itself"),
    _field(
        "nextStarts",
        "The next five times of its schedule, also when that is off; none while the clock is not set",
        {"type": "array", "items": _TIME, "maxItems": 5},
    ),
    _field("queuedAt", "When the start was due that waits for a job to end", _TIME, null="none waits"),
    _field("lastJob", "The id of its latest job, which may be removed by now", _ID, null="it had none"),
    _field(
        "lastStart",
        "What has become of the latest start that was due",
        _OBJECT,
        _field("at", "When that was", _TIME),
        _field("dueAt", "When it was due", _TIME),
        _field("outcome", "What has become of it", {"enum": [*Outcome]}),
        _field("message", "In a sentence", _TEXT),
        null="none was due",
    ),
    _field(
        "starts",
        "How many starts by its schedule there were",
        _OBJECT,
        *(_field(one.value, f"Number of those that were {one}", _COUNT) for one in Outcome),
    ),
    _field("dryRun", "Of a dry run: nothing was kept", {"const": True}, always=False),
    _field("plan", "Of a dry run: what it would do, a sentence each", _TEXTS, always=False),
)

READINESS = (
    _field("ready", "Whether a batch would be carried out now", _FLAG),
    _field(
        "reasons",
        "A sentence for each of broker, controller, registration, store, lead and ids that is missing",
        _TEXTS,
    ),
    _LEADER,
    _field("message", "The reasons in one sentence; where there are any", _TEXT, always=False),
    _field(
        "standby",
        "True where another process leads, which this one has asked; otherwise it is not there",
        _FLAG,
        always=False,
    ),
)

#: The answers by their names in the OpenAPI document.
ANSWERS = {
    "Job": JOB,
    "Request": REQUEST,
    "Result": RESULT,
    "Event": EVENT,
    "Error": ERROR,
    "Gateway": GATEWAY,
    "Readiness": READINESS,
    "KnownGateway": KNOWN_GATEWAY,
    "PutGateways": PUT_GATEWAYS,
    "Template": TEMPLATE,
}
