"""The door to the bus: Sanji routes that translate for the service, and decide nothing."""

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.api.operations import OPERATIONS, Backend, Operation
from puppetmaster.api.pages import Full, whole
from puppetmaster.app import App
from puppetmaster.bundle.runtime import SteadySanji
from puppetmaster.bundle.sdk import Connection, Route
from puppetmaster.bus.credentials import Credentials
from puppetmaster.errors import StoreError, TooLarge
from puppetmaster.model.message import Capacity
from puppetmaster.settings import Settings

log = logging.getLogger("sanji.puppetmaster.bundle.routes")


class Puppetmaster(SteadySanji):
    """The bundle. Sanji calls ``init`` when it is made and ``before_stop`` when it is to end."""

    def init(self, *args: Any, settings: Settings | None = None, **kwargs: Any) -> None:
        """Build the application and let it run; the bus need not be there yet.

        Raises SettingsError, StoreError.
        """
        del args, kwargs
        #: Why not everything could be written when it stopped; None: it could.
        self.unwritten: str | None = None
        data_dir = Path(self.bundle.bundle_dir) / "data"
        settings = settings or Settings.from_environment(data_dir=data_dir)
        login = Credentials.of(settings)
        login.apply(self._conn.client)
        if isinstance(self._conn, Connection):
            self._conn.attempts.login = login
        self.app = App(settings, self)
        self.installation = self.app.store.installation
        self.limit = self.app.limit
        self.service = self.app.service
        self.backend = Backend(self.service, self.app.health)
        self.app.start()

    def controller_forgot(self, known_s: float) -> None:
        """The controller was restarted: the dispatcher is told before we are registered again."""
        self.app.controller_forgot(known_s)

    def threads(self) -> Iterator[Thread]:
        """Those of the bundle, and those of the application."""
        yield from super().threads()
        yield from self.app.threads()

    def before_stop(self) -> None:
        """Finish the turn at hand, and close the store."""
        try:
            self.app.stop()
        except StoreError as error:
            self.unwritten = error.message
            log.error("stopping: %s", self.unwritten, extra={"action": "store_fault"})  # noqa: TRY400 - a sentence

    def respond(self, operation: Operation, message: Any, response: Any) -> None:
        """Answer a request of the bus for this operation. Raises PuppetmasterError."""
        id_ = message.param.get("id", "")
        data = operation.run(self.backend, id_, message.query, message.data, over_bus=True)
        job_id = operation.created(data)[1] if operation.created is not None else None
        try:
            if operation.changes and data["id"] is not None:
                self._answer_change(response, data)
            else:
                self._answer(response, data, "make the dry run over HTTP." if operation.changes else None)
        finally:
            self.service.begin(job_id)

    def _answer(self, response: Any, data: Any, cure: str | None = None) -> None:
        """Answer 200 with ``data``. Raises TooLarge, with a ``cure``, when the bus would not carry it."""
        response(code=200, data=_fitting(data, self.limit.capacity, cure))

    def _answer_change(self, response: Any, job: dict[str, Any]) -> None:
        """Answer with a job that was created, controlled or removed, whatever its size: it has happened."""
        capacity = self.limit.capacity
        fits = capacity.size(jsoncodec.encode(job), depth=1) <= capacity.answer_bytes
        response(code=200, data=job if fits else {**job, "requests": []})


def _route(operation: Operation) -> Any:
    """A handler of the SDK's for this operation."""

    def handle(bundle: Puppetmaster, message: Any, response: Any) -> None:
        bundle.respond(operation, message, response)

    resource = operation.path.replace("{id}", ":id")
    return Route(resource=resource, methods=operation.method.lower())(handle)


# The SDK looks for its routes among the methods of the class.
for _number, _operation in enumerate(OPERATIONS):
    if _operation.over_bus:
        setattr(Puppetmaster, f"route_{_number}", _route(_operation))


def _fitting(data: Any, capacity: Capacity, cure: str | None = None) -> Any:
    try:
        return whole(data, capacity.answer_bytes, capacity)
    except Full as full:
        said = f"The answer has more than {capacity.answer_bytes} bytes, the most that the bus carries"
        raise TooLarge(f"{said}: {cure or _cure(full.rows)}") from None


def _cure(rows: int) -> str:
    if not rows:
        return "ask for its parts with collection=false and one request at a time, or over HTTP."
    return f"ask for it in pages, limit={rows} fits, or over HTTP."
