"""The bus door: Sanji routes that translate between messages and ``api.service``, and decide nothing."""

import logging
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.api.operations import OPERATIONS, Backend, Operation
from puppetmaster.api.pages import Full, whole
from puppetmaster.bundle.runtime import SteadySanji
from puppetmaster.bundle.sdk import Route
from puppetmaster.bus.limit import Limit
from puppetmaster.errors import TooLarge
from puppetmaster.model.caller import BUS
from puppetmaster.model.message import Capacity

log = logging.getLogger("sanji.puppetmaster.bundle.routes")


class Routes(SteadySanji):
    """A bundle whose resources are the operations of the API. A subclass sets what is declared here."""

    #: What the operations are done with.
    backend: Backend
    #: How long an answer may be.
    limit: Limit

    def respond(self, operation: Operation, message: Any, response: Any) -> None:
        """Answer a request of the bus for this operation. Raises PuppetmasterError."""
        id_ = message.param.get("id", "")
        data = operation.run(self.backend, id_, message.query, message.data, BUS, over_bus=True)
        job_id = operation.created(data)[1] if operation.created is not None else None
        try:
            if operation.changes and data["id"] is not None:
                self._answer_change(response, data)
            else:
                self._answer(response, data, "make the dry run over HTTP." if operation.changes else None)
        finally:
            self.backend.service.begin(job_id)

    def _answer(self, response: Any, data: Any, cure: str | None = None) -> None:
        """Answer 200 with ``data``.

        Raises TooLarge: the bus does not carry ``data``; ``cure`` (None: ask for pages) is the advice in it.
        """
        response(code=200, data=_fitting(data, self.limit.capacity, cure))

    def _answer_change(self, response: Any, data: dict[str, Any]) -> None:
        """Answer 200 with what was changed. What is too long is left out: an error would be wrong here.

        Of a job these are its requests, then its targets too; of a template it is its job.
        """
        capacity = self.limit.capacity
        left_out: dict[str, Any] = {"requests": []} if "requests" in data else {"job": None}
        short = {**data, **left_out}
        shorter = {name: value for name, value in short.items() if name != "targets"}
        fitting = (
            one
            for one in (data, short)
            if capacity.size(jsoncodec.encode(one), depth=1) <= capacity.answer_bytes
        )
        response(code=200, data=next(fitting, shorter))


def _route(operation: Operation) -> Any:
    """A handler of the SDK's for this operation."""

    def handle(bundle: Routes, message: Any, response: Any) -> None:
        bundle.respond(operation, message, response)

    resource = operation.path.replace("{id}", ":id")
    return Route(resource=resource, methods=operation.method.lower())(handle)


# The SDK looks for its routes among the methods of the class.
for _number, _operation in enumerate(OPERATIONS):
    if _operation.over_bus:
        setattr(Routes, f"route_{_number}", _route(_operation))


def _fitting(data: Any, capacity: Capacity, cure: str | None = None) -> Any:
    try:
        return whole(data, capacity.answer_bytes, capacity)
    except Full as full:
        text = f"The answer has more than {capacity.answer_bytes} bytes, the most that the bus carries"
        raise TooLarge(f"{text}: {cure or _cure(full.rows)}") from None


def _cure(rows: int) -> str:
    if not rows:
        return "ask for its parts with collection=false and one request at a time, or over HTTP."
    return f"ask for it in pages, limit={rows} fits, or over HTTP."
