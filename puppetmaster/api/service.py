"""The use cases of the API: what every door calls, and the one place where doors meet the rest.

Doors translate: bodies, queries and paths in, plain JSON values out, errors as ``PuppetmasterError``.
Any thread may call; what changes something goes through the dispatcher, what only looks reads the
store.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

from puppetmaster.api import bodies, fields, outlook, results
from puppetmaster.api.pages import PART, PART_BYTES, Chunks, Full, Part, whole
from puppetmaster.api.pages import ids as listed
from puppetmaster.api.query import Query
from puppetmaster.bus.limit import Limit
from puppetmaster.clock import iso
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.errors import Conflict, Fault, Invalid, NotFound, TooLarge, Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.policy import wave_of
from puppetmaster.model.request import OPEN, Item, Request, RequestStatus
from puppetmaster.model.spec import JobSpec, Rerun, specs_of
from puppetmaster.model.why import Why
from puppetmaster.settings import Settings
from puppetmaster.store.base import Reader, Store

#: How long a caller waits for a change to be durable; the bus gives us ``ttl`` seconds.
CHANGE_TIMEOUT_S = 15.0
#: How long a look waits for the dispatcher to say what requests wait for.
LOOK_TIMEOUT_S = 5.0
#: Why a request waits, when the dispatcher does not say.
NOT_KNOWN = Why.NOT_KNOWN.said()

#: The most values in a body, and where jobs may be larger than usual those of a request.
MOST_VALUES, VALUES_EACH = 1_000_000, 20
#: More than the ids in the answer to POST /requests can have.
ID_BYTES = 100


class Service:
    """The API, without a door."""

    def __init__(
        self, settings: Settings, store: Store, dispatcher: Dispatcher, limit: Limit | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._dispatcher = dispatcher
        self._limit = limit or Limit(settings.broker_limit_bytes)

    @property
    def most_values(self) -> int:
        """A body may hold so many values: as objects in memory they are many times their JSON."""
        return max(MOST_VALUES, VALUES_EACH * self._settings.max_requests)

    # -- jobs -------------------------------------------------------------------------------------

    def create_job(self, body: Any) -> dict[str, Any]:
        """POST /jobs. Durable when it returns; its requests wait until the door has answered: ``begin``.

        Raises Invalid, TooLarge, NotFound, Conflict, Unavailable.
        """
        spec = bodies.parse_job(body, self._settings.max_requests, self._limit.capacity)
        if spec.key is not None and (spec.rerun is not None or spec.dry_run):
            # The job that is to be run again may be another one now, or gone, since the key was given.
            # It may be one that is still being written: what is answered is on disk.
            existing = self._dispatcher.look(lambda engine: engine.lifecycle.existing(spec), CHANGE_TIMEOUT_S)
            if existing is not None and not spec.dry_run:
                return _with_ids(existing)
        if spec.rerun is not None:
            spec = self._again(spec, spec.rerun)
        if spec.dry_run:
            return self._plan(spec)
        job = self._dispatcher.create(lambda engine: engine.create(spec), CHANGE_TIMEOUT_S)
        return _with_ids(job)

    def begin(self, job_id: int | None) -> None:
        """The answer that created this job is out: its requests may be sent. None: it was a dry run."""
        if job_id is not None:
            self._dispatcher.do(lambda engine: engine.lifecycle.begin_job(job_id))

    def _again(self, spec: JobSpec, rerun: Rerun) -> JobSpec:
        """The same commands for those requests of another job that are in the states asked for.

        Raises NotFound: no such job; Conflict: it has none in these states now; TooLarge.
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
        return plan(spec, spec.job(0, 1, iso(wall_s), wall_s, self._settings.request_timeout_s))

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
        return Chunks(len(ids), _page(ids, asked), read)

    def job(self, job_id: str, asked: Query) -> dict[str, Any]:
        """GET /jobs/:id. Raises NotFound."""
        with self._store.reading() as reader:
            job = _found_job(reader, job_id)
            ids = _page(job.request_ids, asked)
            rows = self._requests_of(job, ids)
            if len(ids) <= PART and asked.collection is not False:  # as many as can be read with their job
                views, taken = self._some_views(reader, ids)
                if taken == len(ids):
                    rows = Chunks(job.total, ids, lambda _: Part(views, taken))
        if asked.collection is False:
            return {**job.view(), "requests": listed(ids)}
        if asked.collection:
            return {**job.view(), "requests": listed(ids), "collection": rows}
        return {**job.view(), "requests": rows}

    def watched_job(self, job_id: str) -> Job:
        """The job that somebody wants to follow. Raises NotFound."""
        with self._store.reading() as reader:
            return _found_job(reader, job_id)

    def results(self, job_id: str, asked: Query) -> Chunks:
        """GET /jobs/:id/results: equal results as groups, the largest first. Raises NotFound."""
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
            group = ordered[places[0]]  # one at a time: a group has a sample, which may be large
            best = good.get(group.item)
            with self._store.reading() as reader:
                first = reader.request(group.first)
                beside = reader.request(best.first) if best is not None else None
                item = reader.items_by_id([group.item]).get(group.item) if group.item else None
            # A late answer may have changed a sample meanwhile: it tells of another group then.
            if first is None or results.likeness_of(first) != group.likeness:
                return Part([], 1)
            shown = results.view(group, first, full=bool(asked.collection), beside=beside, item=item)
            return Part([shown], 1)

        return Chunks(len(ordered), _page(range(len(ordered)), asked), read)

    def control_job(self, job_id: str, body: Any) -> dict[str, Any]:
        """PUT /jobs/:id. Raises Invalid, NotFound, Conflict, Unavailable."""
        wanted, force = _control(body)
        number = _number(job_id, "job")
        job = self._dispatcher.call(
            lambda engine: engine.control(number, wanted, force=force), CHANGE_TIMEOUT_S
        )
        return _with_ids(job)

    def delete_job(self, job_id: str) -> dict[str, Any]:
        """DELETE /jobs/:id: the job as it last was. Raises NotFound, Unavailable."""
        number = _number(job_id, "job")
        return _with_ids(self._dispatcher.call(lambda engine: engine.delete(number), CHANGE_TIMEOUT_S))

    # -- requests ---------------------------------------------------------------------------------

    def create_request(self, body: Any, *, over_bus: bool = False) -> dict[str, Any]:
        """POST /requests: a job of one, answered as its request. As ``create_job``.

        Raises TooLarge, before anything is created, when the bus does not carry that answer, ``over_bus``.
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
            request = reader.request(_number(request_id, "request"))
            # A request without its job is one that is being removed.
            views = []
            if request is not None:
                views = self._views(reader, [request], reader.items_by_id([request.item]))
        if not views:
            raise NotFound(f"There is no request {request_id}: GET /requests lists those there are.")
        return views[0]

    def request_views(self, ids: Sequence[int], statuses: Sequence[str] | None = None) -> Part:
        """The requests of the first of these ascending ids as they are now, as many as are no load.

        Those that are gone, or have not one of the ``statuses`` any more, are left out.
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
        """How many ``jobs`` and ``requests`` there are, by status."""
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

    def _why(self, requests: Iterable[Request]) -> dict[int, str | None]:
        """What those that wait wait for, and what is known of the gateways of those in flight."""
        pending = {one.id: one.status is RequestStatus.PENDING for one in requests}
        if not pending:
            return {}
        try:
            known = self._dispatcher.look(lambda engine: engine.why(pending), LOOK_TIMEOUT_S)
        except Unavailable:  # what is on disk is shown all the same
            return {id_: NOT_KNOWN if waits else None for id_, waits in pending.items()}
        # On disk they may be what they are not any more.
        return {id_: known[id_] or (Why.NEXT.said() if waits else None) for id_, waits in pending.items()}


def _request_ids(reader: Reader, where: Mapping[str, Any], asked: Query) -> tuple[int, Sequence[int]]:
    """How many requests fit, and the ids of those on the page."""
    ids = reader.request_ids(where, limit=asked.limit, offset=asked.offset)
    return reader.count_requests(where), ids


def _parts(reader: Reader, ids: Sequence[int]) -> Iterator[list[Request]]:
    """The requests of these ascending ids, few at a time."""
    at = 0
    while at < len(ids):
        found, taken = reader.requests_within(ids[at : at + PART], PART_BYTES)
        at += taken
        yield found


def _page(ids: Sequence[int], asked: Query) -> Sequence[int]:
    return ids[asked.offset : None if asked.limit is None else asked.offset + asked.limit]


def _with_ids(job: Job) -> dict[str, Any]:
    return {**job.view(), "requests": list(job.request_ids)}


def _found_job(reader: Reader, job_id: str) -> Job:
    job = reader.job(_number(job_id, "job"))
    if job is None:
        raise NotFound(f"There is no job {job_id}: GET /jobs lists those there are.")
    return job


def _number(text: str, what: str) -> int:
    """The id in a path; one that cannot be an id is one that nothing has. Raises NotFound."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise NotFound(f"There is no {what} '{text[:80]}': ids are whole numbers.")


def _control(body: Any) -> tuple[JobStatus, bool]:
    if not isinstance(body, dict):
        raise Invalid([Fault("", 'expected an object such as {"status": "canceled"}')])
    faults = fields.faults(fields.CONTROL, body)
    status, force = body.get("status"), body.get("force", False)
    if force is True and status != JobStatus.CANCELED:
        faults.add("force", "expected only with the status canceled")
    faults.check()
    return JobStatus(str(status)), force


def plan(spec: JobSpec, job: Job) -> dict[str, Any]:
    """What this job would be: ids are null, nothing is created.

    ``waveSizes`` says what goes when, and ``plan`` all of it in sentences.
    """
    waves = job.policy.waves
    planned = spec.requests_of(job)

    def read(places: Sequence[int]) -> Part:
        return Part([_planned(job, waves, *one) for one in islice(planned, len(places))], len(places))

    sizes = [end - before for before, end in pairwise((0, *waves))]
    told = {"dryRun": True, "waveSizes": sizes, "plan": outlook.sentences(spec, job)}
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
