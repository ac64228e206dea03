"""The use cases of the API, which the doors call.

They take bodies, queries and ids, return plain JSON values, and raise ``PuppetmasterError``. Any thread may
call them. What changes something goes through the dispatcher; what only looks reads the store.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

from puppetmaster.api import bodies, fields, outlook, results
from puppetmaster.api.gateways import CHANGE_TIMEOUT_S, LOOK_TIMEOUT_S, Gateways, Registration
from puppetmaster.api.pages import PART, PART_BYTES, Chunks, Full, Part, whole
from puppetmaster.api.pages import ids as listed
from puppetmaster.api.query import Query, number_of
from puppetmaster.api.templates import Templates
from puppetmaster.bus.limit import Limit
from puppetmaster.clock import iso
from puppetmaster.dispatcher import Decider
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import Conflict, Fault, Invalid, NotFound, TooLarge, Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.policy import wave_of
from puppetmaster.model.request import OPEN, Item, Request, RequestStatus
from puppetmaster.model.spec import JobSpec, Rerun, specs_of
from puppetmaster.model.timeline import ITSELF
from puppetmaster.model.why import Why
from puppetmaster.settings import Settings
from puppetmaster.store.base import Readable, Reader

#: Why a request waits, if the dispatcher does not answer.
NOT_KNOWN = Why.NOT_KNOWN.said()

#: The most values in a body: this number, or this many for each request that a job may have.
MOST_VALUES, VALUES_EACH = 1_000_000, 20
#: The ids in the answer to POST /requests have fewer bytes than this.
ID_BYTES = 100


class Service:
    """The API behind all doors. Ids come as text; the methods raise NotFound for those that are none."""

    def __init__(
        self, settings: Settings, store: Readable, dispatcher: Decider, limit: Limit | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._dispatcher = dispatcher
        self.gateways = Gateways(store, dispatcher)
        self._limit = limit or Limit(settings.broker_limit_bytes)
        #: Gives the names of the webhooks of the settings.
        self.hooks: Callable[[], Collection[str]] = tuple
        self.templates = Templates(settings, store, dispatcher, self._limit, self._parse_job)

    @property
    def most_values(self) -> int:
        """Most values in a body. As objects in memory they are many times as large as their JSON."""
        return max(MOST_VALUES, VALUES_EACH * self._settings.max_requests)

    # -- jobs -------------------------------------------------------------------------------------

    def create_job(self, body: Any, by: str | None = None) -> dict[str, Any]:
        """POST /jobs, as ``by`` asks. The job is on disk then; its requests wait until ``begin``.

        Raises:
            Invalid: the body has faults.
            TooLarge: the job has too many requests.
            NotFound: the job that is to be run again does not exist.
            Conflict: the key belongs to another body, or nothing is to be run again.
            Unavailable, StoreError: it was not created, or that is not known: the message says which.
        """
        return self._found_or_created(replace(self._parse_job(body), created_by=by), Engine.create)

    def start_template(self, template_id: str, body: Any, by: str | None = None) -> dict[str, Any]:
        """POST /templates/:id/jobs: as ``create_job``, for the job of a template with what ``body`` says."""
        template = self.templates.find(template_id)
        spec = bodies.parse_start(template.job, body, self._parse_job)
        return self._found_or_created(
            replace(spec, template=template.id, created_by=by),
            lambda engine, spec: engine.start_template(template.id, spec),
        )

    def _parse_job(self, body: Any) -> JobSpec:
        return bodies.parse_job(body, self._settings.max_requests, self._limit.capacity, self.hooks())

    def _found_or_created(self, spec: JobSpec, create: Callable[[Engine, JobSpec], Job]) -> dict[str, Any]:
        if spec.key is not None and (spec.rerun is not None or spec.dry_run or spec.seeks):
            # The key is looked for first: the job that is to be run again may have changed since, or be gone,
            # and so may the gateways.
            # The job with this key may still be written: what is answered is on disk.
            existing = self._dispatcher.look(lambda engine: engine.lifecycle.existing(spec), CHANGE_TIMEOUT_S)
            if existing is not None and not spec.dry_run:
                return _with_ids(existing)
        if spec.rerun is not None:
            spec = self._again(spec, spec.rerun)
        if spec.seeks:
            most, capacity = self._settings.max_requests, self._limit.capacity
            spec = bodies.aimed(spec, self.gateways.finder(), most, capacity)
        if spec.dry_run:
            return self._plan(spec)
        return _with_ids(self._dispatcher.create(lambda engine: create(engine, spec), CHANGE_TIMEOUT_S))

    def begin(self, job_id: int | None) -> None:
        """Let the requests of a new job be sent, because its creator has the answer. None: a dry run."""
        if job_id is not None:
            self._dispatcher.do(lambda engine: engine.lifecycle.begin_job(job_id))

    def _again(self, spec: JobSpec, rerun: Rerun) -> JobSpec:
        """The job with the commands of those requests of another job that have the wanted statuses.

        Raises:
            NotFound: there is no such job.
            Conflict: it has no request with these statuses.
            TooLarge: it has too many.
        """
        commands: list[tuple[int, str]] = []
        with self._store.reading() as reader:
            _found_job(reader, str(rerun.job))
            ids = reader.request_ids({"job": rerun.job, "status": rerun.statuses})
            for some in _parts(reader, ids):
                commands += [(request.item, request.destination) for request in some]
            items = reader.items([rerun.job])
        if not commands:
            wanted = ", ".join(rerun.statuses)
            raise Conflict(f"There is nothing to run again: no request of job {rerun.job} is {wanted}.")
        again = replace(spec, items=specs_of(commands, items))
        bodies.check_size(again, self._settings.max_requests)
        return again

    def _plan(self, spec: JobSpec) -> dict[str, Any]:
        wall_s = time.time()
        job = spec.job(0, 1, iso(wall_s), wall_s, self._settings.request_timeout_s)
        return plan(spec, job, self.gateways.registration if spec.dry_run else None)

    def jobs(self, asked: Query) -> Chunks:
        """GET /jobs, newest first."""

        def read(ids: Sequence[int]) -> Part:
            with self._store.reading() as reader:
                found = [job for id_ in ids if (job := reader.job(id_)) is not None]
            if not asked.collection:
                return Part([job.view() for job in found], len(ids))
            return Part([{**job.view(), "collection": self._requests_of(job)} for job in found], len(ids))

        with self._store.reading() as reader:
            ids = reader.job_ids(asked.where)
        return Chunks(len(ids), asked.page(ids), read)

    def job(self, job_id: str, asked: Query) -> dict[str, Any]:
        """GET /jobs/:id. Raises NotFound."""
        with self._store.reading() as reader:
            job = _found_job(reader, job_id)
            ids = asked.page(job.request_ids)
            rows = self._requests_of(job, ids)
            if len(ids) <= PART and asked.collection is not False:  # few enough to be read with their job
                views, taken = self._some_views(reader, ids)
                if taken == len(ids):
                    rows = Chunks(job.total, ids, lambda _: Part(views, taken))
        if asked.collection is False:
            return {**job.view(), "requests": listed(ids)}
        if asked.collection:
            return {**job.view(), "requests": listed(ids), "collection": rows}
        return {**job.view(), "requests": rows}

    def watched_job(self, job_id: str) -> Job:
        """The job that a WebSocket is to follow. Raises NotFound."""
        with self._store.reading() as reader:
            return _found_job(reader, job_id)

    def events(self, job_id: str, asked: Query) -> Chunks:
        """GET /jobs/:id/events: what has happened to the job, the oldest first. Raises NotFound."""
        with self._store.reading() as reader:
            events = _found_job(reader, job_id).events

        def read(places: Sequence[int]) -> Part:
            return Part([events[place].view() for place in places], len(places))

        return Chunks(len(events), asked.page(range(len(events))), read)

    def results(self, job_id: str, asked: Query) -> Chunks:
        """GET /jobs/:id/results: groups of equal results, the largest first. Raises NotFound."""
        done = [status.value for status in RequestStatus if status not in OPEN]
        with self._store.reading() as reader:
            job = _found_job(reader, job_id)
            groups = results.Groups(by_item=job.policy.stops)
            ids = reader.request_ids({"job": job.id, "status": done})
            for some in _parts(reader, ids):
                groups.add(some)
        ordered = groups.ordered()
        good = results.good(ordered) if asked.diff else {}

        def read(places: Sequence[int]) -> Part:
            group = ordered[places[0]]  # one group at a time, because its sample may be large
            best = good.get(group.item)
            with self._store.reading() as reader:
                first = reader.request(group.first)
                beside = reader.request(best.first) if best is not None else None
                item = reader.items_by_id([group.item]).get(group.item) if group.item else None
            # After a late answer a sample may belong to another group: this one is skipped then.
            if first is None or results.likeness_of(first) != group.likeness:
                return Part([], 1)
            shown = results.view(group, first, full=bool(asked.collection), beside=beside, item=item)
            return Part([shown], 1)

        return Chunks(len(ordered), asked.page(range(len(ordered))), read)

    def control_job(self, job_id: str, body: Any, by: str = ITSELF) -> dict[str, Any]:
        """PUT /jobs/:id, as ``by`` asks. Raises Invalid, NotFound, Conflict, Unavailable."""
        wanted, force = _control(body)
        number = number_of(job_id, "job")
        job = self._dispatcher.call(
            lambda engine: engine.control(number, wanted, force=force, by=by), CHANGE_TIMEOUT_S
        )
        return _with_ids(job)

    def delete_job(self, job_id: str, by: str = ITSELF) -> dict[str, Any]:
        """DELETE /jobs/:id, as ``by`` asks: the job as it last was. Raises NotFound, Unavailable."""
        number = number_of(job_id, "job")
        return _with_ids(self._dispatcher.call(lambda engine: engine.delete(number, by), CHANGE_TIMEOUT_S))

    # -- requests ---------------------------------------------------------------------------------

    def create_request(self, body: Any, by: str | None = None, *, over_bus: bool = False) -> dict[str, Any]:
        """POST /requests: create a job of one request, as ``create_job``. Returns the request.

        Raises also TooLarge: ``over_bus``, and the bus does not carry the answer. Nothing was created then.
        """
        capacity = self._limit.capacity
        spec = bodies.parse_request(body, self._settings.max_requests, capacity)
        most = capacity.answer_bytes
        try:
            if over_bus:
                whole(self._plan(spec)["requests"], most - ID_BYTES, capacity)
        except Full:
            raise TooLarge(
                f"The answer, with the data in it, would have more than {most} bytes, which are the most "
                "that the bus carries: POST /jobs, which answers with ids, or use HTTP."
            ) from None
        spec = replace(spec, created_by=by)
        job = self._dispatcher.create(lambda engine: engine.create(spec), CHANGE_TIMEOUT_S)
        return self.request(str(job.first))

    def requests(self, asked: Query, job_id: str | None = None) -> Chunks:
        """GET /requests, and GET /jobs/:id/requests with ``job_id``. Raises NotFound."""
        where: dict[str, Any] = dict(asked.where)
        with self._store.reading() as reader:
            if job_id is not None:
                where["job"] = _found_job(reader, job_id).id
            total, ids = _request_ids(reader, where, asked)

        return Chunks(total, ids, lambda some: self.request_views(some, where.get("status")))

    def request(self, request_id: str) -> dict[str, Any]:
        """GET /requests/:id. Raises NotFound."""
        with self._store.reading() as reader:
            request = reader.request(number_of(request_id, "request"))
            # A request without its job is being removed.
            views = []
            if request is not None:
                views = self._views(reader, [request], reader.items_by_id([request.item]))
        if not views:
            raise NotFound(f"There is no request {request_id}: GET /requests lists those there are.")
        return views[0]

    def request_views(self, ids: Sequence[int], statuses: Sequence[str] | None = None) -> Part:
        """The requests with the first of these ascending ids, as they are now: ``PART_BYTES`` or about.

        Requests that are gone, or have none of the ``statuses`` any more (None: any), are left out.
        """
        with self._store.reading() as reader:
            return self._some_views(reader, ids, statuses)

    def _some_views(self, reader: Reader, ids: Sequence[int], statuses: Sequence[str] | None = None) -> Part:
        found, taken = reader.requests_within(ids, PART_BYTES)
        wanted = sorted({request.item for request in found})
        items, with_items = reader.items_within(wanted, PART_BYTES)
        if with_items < len(wanted):  # an item has the id of its first request
            taken = bisect_left(ids, wanted[with_items], 0, taken)
            found = [one for one in found if one.item < wanted[with_items]]
        fitting = [one for one in found if statuses is None or one.status in statuses]
        return Part(self._views(reader, fitting, items), taken)

    def _requests_of(self, job: Job, ids: Sequence[int] | None = None) -> Chunks:
        return Chunks(job.total, job.request_ids if ids is None else ids, self.request_views)

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of jobs and requests by status: ``{"jobs": {..}, "requests": {..}}``."""
        with self._store.reading() as reader:
            return {
                "jobs": {one.value: reader.count_jobs({"status": one.value}) for one in JobStatus},
                "requests": {
                    one.value: reader.count_requests({"status": one.value}) for one in RequestStatus
                },
            }

    def _views(
        self, reader: Reader, requests: list[Request], items: Mapping[int, Item]
    ) -> list[dict[str, Any]]:
        jobs = {id_: reader.job(id_) for id_ in {request.job for request in requests}}
        why = self._why([one for one in requests if one.open])
        views = []
        for request in requests:
            job = jobs[request.job]
            if job is not None:
                views.append(
                    request.view(
                        items[request.item],
                        created_at=job.created_at,
                        timeout_s=job.request_timeout_s,
                        why=why.get(request.id),
                    )
                )
        return views

    def known_why(self, pending: Mapping[int, bool]) -> Mapping[int, str | None]:
        """What the engine says of open requests; True: it waits. Raises Unavailable: it does not answer."""
        return self._dispatcher.look(lambda engine: engine.why(pending), LOOK_TIMEOUT_S)

    def _why(self, requests: Iterable[Request]) -> dict[int, str | None]:
        """Why open requests wait, by id, or that the gateway of a request in flight went away."""
        pending = {one.id: one.status is RequestStatus.PENDING for one in requests}
        if not pending:
            return {}
        try:
            known = self.known_why(pending)
        except Unavailable:  # the requests are shown all the same
            return {id_: NOT_KNOWN if waits else None for id_, waits in pending.items()}
        # A request may have been sent or have ended since it was read.
        return {id_: known[id_] or (Why.NEXT.said() if waits else None) for id_, waits in pending.items()}


def _request_ids(reader: Reader, where: Mapping[str, Any], asked: Query) -> tuple[int, Sequence[int]]:
    """Number of requests that fit, and the ids of those on the page."""
    ids = reader.request_ids(where, limit=asked.limit, offset=asked.offset)
    return reader.count_requests(where), ids


def _parts(reader: Reader, ids: Sequence[int]) -> Iterator[list[Request]]:
    """The requests with these ascending ids, few at a time."""
    at = 0
    while at < len(ids):
        found, taken = reader.requests_within(ids[at : at + PART], PART_BYTES)
        at += taken
        yield found


def _with_ids(job: Job) -> dict[str, Any]:
    return {**job.view(), "requests": list(job.request_ids)}


def _found_job(reader: Reader, job_id: str) -> Job:
    job = reader.job(number_of(job_id, "job"))
    if job is None:
        raise NotFound(f"There is no job {job_id}: GET /jobs lists those there are.")
    return job


def _control(body: Any) -> tuple[JobStatus, bool]:
    if not isinstance(body, dict):
        raise Invalid([Fault("", 'expected an object such as {"status": "canceled"}')])
    faults = fields.faults(fields.CONTROL, body)
    status, force = body.get("status"), body.get("force", False)
    if force is True and status != JobStatus.CANCELED:
        faults.add("force", "expected only with the status canceled")
    faults.check()
    return JobStatus(str(status)), force


def plan(
    spec: JobSpec, job: Job, find_out: Callable[[Sequence[str]], Registration] | None = None
) -> dict[str, Any]:
    """What this job would be: ids are null, nothing is created.

    ``waveSizes`` says what goes when, and ``plan`` all of it in sentences. ``find_out`` finds out which of
    its gateways the controller knows.
    """
    waves = job.policy.waves
    found = None
    if find_out is not None:
        found = find_out(list(dict.fromkeys(name for item in spec.items for name in item.destinations)))
    planned = spec.requests_of(job)

    def read(places: Sequence[int]) -> Part:
        return Part([_planned(job, waves, *one) for one in islice(planned, len(places))], len(places))

    sizes = [end - before for before, end in pairwise((0, *waves))]
    sentences = outlook.sentences(spec, job)
    told: dict[str, Any] = {"dryRun": True, "waveSizes": sizes, "plan": sentences}
    if found is not None:
        sentences += outlook.registration(found)
        told["registration"] = found.view()
    return {**job.view(), "id": None, **told, "requests": Chunks(job.total, range(job.total), read)}


def _planned(job: Job, waves: Sequence[int], item: Item, request: Request) -> dict[str, Any]:
    wave = wave_of(waves, request.id - job.first)
    view = request.view(
        item,
        created_at=job.created_at,
        timeout_s=job.request_timeout_s,
        why=Why.WAVE.said(wave=wave, before=wave - 1) if wave > 1 else Why.DRY_RUN.said(),
    )
    return {**view, "id": None, "job": None}
