"""The use cases of ``/templates``: jobs that are kept to be started again, by hand or by a schedule."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from puppetmaster.api import bodies, outlook
from puppetmaster.api.gateways import CHANGE_TIMEOUT_S
from puppetmaster.api.pages import Chunks, Part
from puppetmaster.api.query import Query, number_of
from puppetmaster.bus.limit import Limit
from puppetmaster.clock import iso
from puppetmaster.dispatcher import Decider
from puppetmaster.errors import Conflict, NotFound, PuppetmasterError
from puppetmaster.model.gateway import Target
from puppetmaster.model.spec import JobSpec
from puppetmaster.model.template import NewTemplate, Outcome, Record, Template
from puppetmaster.settings import Settings
from puppetmaster.store.base import Readable, Reader

#: How many of the next starts are shown.
SHOWN = 5


class Templates:
    """The templates behind all doors. Any thread may call it. Ids come as text, as in ``Service``.

    ``parse`` parses the job in a body of POST /jobs.
    """

    def __init__(
        self,
        settings: Settings,
        store: Readable,
        dispatcher: Decider,
        limit: Limit,
        parse: Callable[[Any], JobSpec],
    ) -> None:
        self._settings = settings
        self._store = store
        self._dispatcher = dispatcher
        self._limit = limit
        self._parse = parse

    def kept(self, asked: Query) -> Chunks:
        """GET /templates, the oldest first."""

        def read(ids: Sequence[int]) -> Part:
            with self._store.reading() as reader:
                found = reader.template(ids[0])  # one at a time, because its job may be large
            return Part([] if found is None else [view(found)], 1)

        with self._store.reading() as reader:
            ids = _ids(reader, asked.where)
        return Chunks(len(ids), asked.page(ids), read)

    def template(self, template_id: str) -> dict[str, Any]:
        """GET /templates/:id. Raises NotFound."""
        return view(self.find(template_id))

    def find(self, template_id: str) -> Template:
        """The template of this id, as it is on disk. Raises NotFound."""
        number = number_of(template_id, "template")
        with self._store.reading() as reader:
            found = reader.template(number)
        if found is None:
            raise NotFound(f"There is no template {template_id}: GET /templates lists those there are.")
        return found

    def create(self, body: Any) -> dict[str, Any]:
        """POST /templates: the template, which is on disk. Raises Invalid, Conflict, Unavailable."""
        new = bodies.parse_template(body, self._parse)
        if body.get("dryRun"):
            bare = Template(id=0, name="", job={}, record=Record(decided_s=time.time()))
            return self._planned(new, bare)
        return view(self._dispatcher.call(lambda engine: engine.put_template(None, new), CHANGE_TIMEOUT_S))

    def change(self, template_id: str, body: Any) -> dict[str, Any]:
        """PUT /templates/:id: the template after that. Raises as ``create``, and NotFound."""
        number = number_of(template_id, "template")
        new = bodies.parse_template(body, self._parse, new=False)
        if body.get("dryRun"):
            return self._planned(new, self.find(template_id))
        return view(self._dispatcher.call(lambda engine: engine.put_template(number, new), CHANGE_TIMEOUT_S))

    def remove(self, template_id: str) -> dict[str, Any]:
        """DELETE /templates/:id: the template as it last was; its jobs stay. Raises NotFound, Unavailable."""
        number = number_of(template_id, "template")
        return view(self._dispatcher.call(lambda engine: engine.remove_template(number), CHANGE_TIMEOUT_S))

    def specified(self, job: Mapping[str, Any], find: Callable[[Target], tuple[str, ...]]) -> JobSpec:
        """The job of a template as it would be now. Raises PuppetmasterError: it cannot be started."""
        return bodies.specified(job, find, self._settings.max_requests, self._limit.capacity)

    def _planned(self, new: NewTemplate, known: Template) -> dict[str, Any]:
        """What a template would be. Raises Conflict: its name is taken."""
        wall_s = time.time()
        template = new.onto(known, wall_s)
        with self._store.reading() as reader:
            other = reader.template_named(template.name)
            if other is not None and other.id != known.id:
                raise Conflict(f"The name '{template.name}' belongs to template {other.id}.")
            try:
                spec = self.specified(
                    template.job, lambda target: target.without(reader.gateway_names(target.sought))
                )
                job = spec.job(0, 1, iso(wall_s), wall_s, self._settings.request_timeout_s)
                would = outlook.sentences(spec, job)
            except PuppetmasterError as error:
                would = [f"Started now, it would fail: {error.message}"]
        plan = [*outlook.starts(template, wall_s), *would]
        return {**view(template), "id": None, "dryRun": True, "plan": plan}


def view(template: Template) -> dict[str, Any]:
    """The template as the API shows it."""
    record = template.record
    upcoming = [iso(at_s) for at_s in template.upcoming(time.time(), SHOWN)]
    return {
        "id": template.id,
        "name": template.name,
        "job": template.job,
        "schedule": None if template.schedule is None else template.schedule.document(),
        "nextAt": upcoming[0] if upcoming and template.scheduled else None,
        "nextStarts": upcoming,
        "queuedAt": None if record.queued_s is None else iso(record.queued_s),
        "lastJob": record.last_job,
        "lastStart": record.last,
        "starts": {one.value: record.counts.get(one.value, 0) for one in Outcome},
    }


def _ids(reader: Reader, where: Mapping[str, Any]) -> Sequence[int]:
    if "name" not in where:
        return reader.template_ids()
    found = reader.template_named(where["name"])
    return [] if found is None else [found.id]
