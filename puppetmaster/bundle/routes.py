"""The bus door: Sanji routes that translate between messages and ``api.service``, and decide nothing."""

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.api import query
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
    """The bundle. Sanji calls ``init`` when the bundle is made, and ``before_stop`` when it is to end."""

    def init(self, *args: Any, settings: Settings | None = None, **kwargs: Any) -> None:
        """Build the application and start it; the broker need not run yet. Without ``settings`` read them.

        Raises:
            SettingsError: a setting is wrong.
            StoreError: the store cannot be opened.
        """
        del args, kwargs
        #: Why the store could not write everything when the bundle stopped; None: it wrote everything.
        self.unwritten: str | None = None
        data_dir = Path(self.bundle.bundle_dir) / "data"
        settings = settings or Settings.from_environment(data_dir=data_dir)
        credentials = Credentials.of(settings)
        credentials.apply(self._conn.client)
        if isinstance(self._conn, Connection):
            self._conn.attempts.login = credentials
        self.app = App(settings, self)
        self.installation = self.app.store.installation
        self.limit = self.app.limit
        self.service = self.app.service
        self.app.start()

    def controller_forgot(self, known_s: float) -> None:
        """Tell the dispatcher that the controller was restarted, before we are registered again."""
        self.app.controller_forgot(known_s)

    def threads(self) -> Iterator[Thread]:
        """The threads that must run until ``stop``: the bundle's, and the application's."""
        yield from super().threads()
        yield from self.app.threads()

    def before_stop(self) -> None:
        """Let the dispatcher finish its turn, and close the store."""
        try:
            self.app.stop()
        except StoreError as error:
            self.unwritten = error.message
            log.error("stopping: %s", self.unwritten, extra={"action": "store_fault"})  # noqa: TRY400 - a sentence

    @Route(resource="/jobs", methods="get")
    def get_jobs(self, message: Any, response: Any) -> None:
        """List the jobs."""
        self._answer(response, self.service.jobs(message.query))

    @Route(resource="/jobs", methods="post")
    def post_job(self, message: Any, response: Any) -> None:
        """Create a job."""
        _check_no_query(message)
        job = self.service.create_job(message.data)
        if job["id"] is None:
            self._answer(response, job, "make the dry run over HTTP.")
            return
        try:
            self._answer_change(response, job)
        finally:
            self.service.begin(job["id"])

    @Route(resource="/jobs/:id", methods="get")
    def get_job(self, message: Any, response: Any) -> None:
        """Show one job with its requests."""
        self._answer(response, self.service.job(message.param["id"], message.query))

    @Route(resource="/jobs/:id", methods="put")
    def put_job(self, message: Any, response: Any) -> None:
        """Pause, resume or cancel a job."""
        _check_no_query(message)
        self._answer_change(response, self.service.control_job(message.param["id"], message.data))

    @Route(resource="/jobs/:id", methods="delete")
    def delete_job(self, message: Any, response: Any) -> None:
        """Stop and remove a job."""
        _check_no_query(message)
        self._answer_change(response, self.service.delete_job(message.param["id"]))

    @Route(resource="/jobs/:id/requests", methods="get")
    def get_job_requests(self, message: Any, response: Any) -> None:
        """List a job's requests."""
        self._answer(response, self.service.requests(message.query, message.param["id"]))

    @Route(resource="/jobs/:id/results", methods="get")
    def get_job_results(self, message: Any, response: Any) -> None:
        """Fold equal results of a job into groups."""
        self._answer(response, self.service.results(message.param["id"], message.query))

    @Route(resource="/requests", methods="get")
    def get_requests(self, message: Any, response: Any) -> None:
        """List requests over all jobs."""
        self._answer(response, self.service.requests(message.query))

    @Route(resource="/requests", methods="post")
    def post_request(self, message: Any, response: Any) -> None:
        """Create one request for one destination."""
        _check_no_query(message)
        request = self.service.create_request(message.data, over_bus=True)
        try:
            self._answer(response, request)
        finally:
            self.service.begin(request["job"])

    @Route(resource="/requests/:id", methods="get")
    def get_request(self, message: Any, response: Any) -> None:
        """Show one request."""
        _check_no_query(message)
        self._answer(response, self.service.request(message.param["id"]))

    @Route(resource="/request/:id", methods="get")
    def get_request_by_its_other_name(self, message: Any, response: Any) -> None:
        """Show one request."""
        _check_no_query(message)
        self._answer(response, self.service.request(message.param["id"]))

    @Route(resource="/system/puppetmaster", methods="get")
    def get_system(self, message: Any, response: Any) -> None:
        """Show the health, version, limits and counters."""
        _check_no_query(message)
        self._answer(response, self.app.health())

    def _answer(self, response: Any, data: Any, cure: str | None = None) -> None:
        """Answer 200 with ``data``.

        Raises TooLarge: the bus does not carry ``data``; ``cure`` (None: ask for pages) is the advice in it.
        """
        response(code=200, data=_fitting(data, self.limit.capacity, cure))

    def _answer_change(self, response: Any, job: dict[str, Any]) -> None:
        """Answer 200 with a job that was changed; without its requests when the bus does not carry those.

        An error would be wrong here: the change has happened.
        """
        capacity = self.limit.capacity
        fits = capacity.size(jsoncodec.encode(job), depth=1) <= capacity.answer_bytes
        response(code=200, data=job if fits else {**job, "requests": []})


def _check_no_query(message: Any) -> None:
    """Raises Invalid: the message has a query parameter, and this route knows none."""
    query.parse(message.query, ())


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
