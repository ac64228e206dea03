"""The table of the operations of the API.

The HTTP door's resources, the bus door's routes, the OpenAPI document and the table in docs/api.md are made
from it. A test compares bundle.json with it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from puppetmaster.api import query
from puppetmaster.api.query import Query
from puppetmaster.api.service import Service
from puppetmaster.errors import Forbidden
from puppetmaster.model.caller import Caller, Role

#: The method of WebSockets, which only the HTTP door has.
WEBSOCKET = "WS"
#: Where an operation comes from: the mission document, puppetmaster 0.0.9, or this project.
SEED, COMPAT, NEW = "Seed", "Compat", "new"

#: The least role that may ask with each method. It holds for every operation, at every door.
NEEDS: Mapping[str, Role] = {
    "GET": Role.VIEWER,
    WEBSOCKET: Role.VIEWER,
    "POST": Role.OPERATOR,
    "PUT": Role.OPERATOR,
    "DELETE": Role.ADMIN,
}

_PAGE = ("limit", "offset")


class Backend:
    """What the doors call. What is set here may be replaced at any time, when this process takes the lead."""

    def __init__(self, service: Service, health: Callable[[], dict[str, Any]]) -> None:
        self.service = service
        self.health = health
        #: Does an operation, with the query as it was given, while another process leads; None: we lead.
        self.elsewhere: Callable[[Operation, Asked, Mapping[str, Any]], Any] | None = None

    def do(self, operation: "Operation", asked: "Asked", given: Mapping[str, Any]) -> Any:
        """Do an operation for a caller who may ask for it. Returns the answer. Raises PuppetmasterError."""
        assert operation.call is not None
        if (elsewhere := self.elsewhere) is not None:
            return elsewhere(operation, asked, given)
        return operation.call(self, asked)


class Asked(NamedTuple):
    """A request to the API."""

    #: The id in its path; empty: the path has none.
    id: str
    query: Query
    #: Its decoded body.
    body: Any
    #: Who asks.
    caller: Caller
    #: Whether the bus brought it.
    over_bus: bool = False


class Operation(NamedTuple):
    """A method on a path."""

    #: Upper case, as HTTP has it; or ``WEBSOCKET``.
    method: str
    #: ``{id}`` stands for an id.
    path: str
    #: What it does, in a sentence.
    about: str
    #: Does it, and returns the answer; None: only the HTTP door has it, and does it by itself.
    call: Callable[[Backend, Asked], Any] | None = None
    #: The parameters that it takes, by their names in ``query.PARAMETERS``. Any other is an error.
    query: tuple[str, ...] = ()
    #: The name of its body's schema in the OpenAPI document; None: it has no body.
    takes: str | None = None
    #: The name of its answer's schema; None: the answer has none.
    gives: str | None = None
    #: Whether the answer is a list of these.
    lists: bool = False
    #: Takes the path and the job id of what it created from its answer; None: it creates nothing.
    created: Callable[[Mapping[str, Any]], tuple[str, int]] | None = None
    #: Whether it creates, changes or removes a job or a template. Such an operation is answered whatever its
    #: size.
    changes: bool = False
    #: ``SEED``, ``COMPAT`` or ``NEW``.
    origin: str = NEW

    @property
    def over_bus(self) -> bool:
        """Whether the bus door has it too."""
        return self.call is not None

    @property
    def needs(self) -> Role:
        """The least role that may ask for it."""
        return NEEDS[self.method]

    def admit(self, caller: Caller) -> None:
        """Raises Forbidden: the role of the caller is not enough."""
        if not caller.may(self.needs):
            raise Forbidden(
                f"Expected the role {self.needs} for {self.method} {self.path}, and '{caller.name}' has the "
                f"role {caller.role}: ask with another token; nothing was changed."
            )

    def run(
        self,
        backend: Backend,
        id_: str,
        given: Mapping[str, Any],
        body: Any,
        caller: Caller,
        *,
        over_bus: bool = False,
    ) -> Any:
        """Do it for a caller. Returns the answer. Raises PuppetmasterError."""
        self.admit(caller)
        asked = Asked(id_, query.parse(given, self.query), body, caller, over_bus)
        return backend.do(self, asked, given)


OPERATIONS = (
    Operation(
        "GET",
        "/jobs",
        "The jobs' meta information, newest first",
        lambda to, asked: to.service.jobs(asked.query),
        query=(*_PAGE, "jobStatus", "name", "template", "text", "destination", "failed", "collection"),
        gives="Job",
        lists=True,
        origin=SEED,
    ),
    Operation(
        "POST",
        "/jobs",
        "Create a job; it is on disk when this answers, and nothing was sent yet",
        lambda to, asked: to.service.create_job(asked.body, asked.caller.name),
        takes="NewJob",
        gives="Job",
        created=lambda job: (f"/jobs/{job['id']}", job["id"]),
        changes=True,
        origin=SEED,
    ),
    Operation(
        "GET",
        "/jobs/{id}",
        "One job with its requests",
        lambda to, asked: to.service.job(asked.id, asked.query),
        query=(*_PAGE, "collection"),
        gives="Job",
        origin=SEED,
    ),
    Operation(
        "PUT",
        "/jobs/{id}",
        "Pause, resume or cancel a job",
        lambda to, asked: to.service.control_job(asked.id, asked.body, asked.caller.name),
        takes="Control",
        gives="Job",
        changes=True,
    ),
    Operation(
        "DELETE",
        "/jobs/{id}",
        "Stop a job if it still runs, and remove it with its requests: the job as it last was",
        lambda to, asked: to.service.delete_job(asked.id, asked.caller.name),
        gives="Job",
        changes=True,
        origin=SEED,
    ),
    Operation(
        "GET",
        "/jobs/{id}/requests",
        "The requests of a job",
        lambda to, asked: to.service.requests(asked.query, asked.id),
        query=(*_PAGE, "status", "destination"),
        gives="Request",
        lists=True,
    ),
    Operation(
        "GET",
        "/jobs/{id}/results",
        "Equal results of a job folded into groups",
        lambda to, asked: to.service.results(asked.id, asked.query),
        query=(*_PAGE, "everyDestination", "diff"),
        gives="Result",
        lists=True,
    ),
    Operation(
        "GET",
        "/jobs/{id}/events",
        "What has happened to a job, and who did it, the oldest first",
        lambda to, asked: to.service.events(asked.id, asked.query),
        query=_PAGE,
        gives="Event",
        lists=True,
    ),
    Operation(
        "GET",
        "/requests",
        "Requests over all jobs",
        lambda to, asked: to.service.requests(asked.query),
        query=(*_PAGE, "status", "destination"),
        gives="Request",
        lists=True,
        origin=COMPAT,
    ),
    Operation(
        "POST",
        "/requests",
        "Create one request for one destination: a job of one",
        lambda to, asked: to.service.create_request(asked.body, asked.caller.name, over_bus=asked.over_bus),
        takes="NewRequest",
        gives="Request",
        created=lambda request: (f"/requests/{request['id']}", request["job"]),
        origin=COMPAT,
    ),
    Operation(
        "GET",
        "/requests/{id}",
        "One request",
        lambda to, asked: to.service.request(asked.id),
        gives="Request",
        origin=SEED,
    ),
    Operation(
        "GET",
        "/request/{id}",
        "One request, under its other name",
        lambda to, asked: to.service.request(asked.id),
        gives="Request",
        origin=SEED,
    ),
    Operation(
        "GET",
        "/gateways",
        "The gateways that are known, by name",
        lambda to, asked: to.service.gateways.known(asked.query),
        query=(*_PAGE, "selector", "match", "names", "registered", "check"),
        gives="KnownGateway",
        lists=True,
    ),
    Operation(
        "POST",
        "/gateways",
        "Put gateways, with labels and notes; they are on disk when this answers",
        lambda to, asked: to.service.gateways.put_all(asked.body, asked.caller.name),
        takes="NewGateways",
        gives="PutGateways",
    ),
    Operation(
        "GET",
        "/gateways/{id}",
        "One gateway, by its name",
        lambda to, asked: to.service.gateways.gateway(asked.id, asked.query),
        query=("check",),
        gives="KnownGateway",
    ),
    Operation(
        "PUT",
        "/gateways/{id}",
        "Put one gateway, or its labels or note: the gateway after that",
        lambda to, asked: to.service.gateways.put(asked.id, asked.body, asked.caller.name),
        takes="NewGateway",
        gives="KnownGateway",
    ),
    Operation(
        "DELETE",
        "/gateways/{id}",
        "Forget one gateway with its labels: the gateway as it last was",
        lambda to, asked: to.service.gateways.forget(asked.id, asked.caller.name),
        gives="KnownGateway",
    ),
    Operation(
        "GET",
        "/templates",
        "The templates, the oldest first",
        lambda to, asked: to.service.templates.kept(asked.query),
        query=(*_PAGE, "templateName"),
        gives="Template",
        lists=True,
    ),
    Operation(
        "POST",
        "/templates",
        "Keep a job as a template, with a schedule or without; it is on disk when this answers",
        lambda to, asked: to.service.templates.create(asked.body),
        takes="NewTemplate",
        gives="Template",
        changes=True,
    ),
    Operation(
        "GET",
        "/templates/{id}",
        "One template, with its next starts and what has become of the last",
        lambda to, asked: to.service.templates.template(asked.id),
        gives="Template",
    ),
    Operation(
        "PUT",
        "/templates/{id}",
        "Change the name, the job or the schedule of a template: the template after that",
        lambda to, asked: to.service.templates.change(asked.id, asked.body),
        takes="ChangedTemplate",
        gives="Template",
        changes=True,
    ),
    Operation(
        "DELETE",
        "/templates/{id}",
        "Remove a template; its jobs stay: the template as it last was",
        lambda to, asked: to.service.templates.remove(asked.id),
        gives="Template",
        changes=True,
    ),
    Operation(
        "POST",
        "/templates/{id}/jobs",
        "Start a job of a template now, with properties that stand over its own",
        lambda to, asked: to.service.start_template(asked.id, asked.body, asked.caller.name),
        takes="NewStart",
        gives="Job",
        created=lambda job: (f"/jobs/{job['id']}", job["id"]),
        changes=True,
    ),
    Operation(
        "GET",
        "/system/puppetmaster",
        "Health, version, limits, counters",
        lambda to, asked: {**to.health(), "caller": asked.caller._asdict()},
        gives="Gateway",
    ),
    Operation(WEBSOCKET, "/jobs/ws", "Changes of all jobs as they happen", query=("changed",), origin=SEED),
    Operation(WEBSOCKET, "/jobs/ws/{id}", "Changes of one job", query=("changed",), origin=SEED),
    Operation(WEBSOCKET, "/jobs/{id}/ws", "The same, under its other name", query=("changed",), origin=SEED),
    Operation(
        "GET",
        "/health",
        "200 when a batch would be carried out now; else 503, and why not",
        gives="Readiness",
    ),
    Operation("GET", "/metrics", "Counters and gauges for Prometheus"),
    Operation("GET", "/openapi.json", "This API as an OpenAPI 3.1 document"),
)
