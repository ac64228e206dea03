"""Templates: kept, changed, and started, by hand or when their schedules say so.

What is decided on a start is written in the transaction that creates its job. ``model.template.decide`` says
what becomes of the starts that have come; this looks when, makes the jobs, and takes back what could not be
written.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from puppetmaster.clock import is_known, iso
from puppetmaster.engine.context import Context
from puppetmaster.engine.lifecycle import Lifecycle
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.errors import Conflict, NotFound, PuppetmasterError, StoreError, Unavailable
from puppetmaster.model.gateway import Target
from puppetmaster.model.job import Job
from puppetmaster.model.spec import JobSpec
from puppetmaster.model.template import (
    GRACE_S,
    NewTemplate,
    Outcome,
    Record,
    Schedule,
    Template,
    Told,
    decide,
)
from puppetmaster.model.timeline import ITSELF
from puppetmaster.store.base import Reader

log = logging.getLogger("sanji.puppetmaster.engine.templates")

#: Most templates. Each is a document on disk, and a timer.
MOST_TEMPLATES = 1000
#: Most templates that are looked at in one turn.
AT_ONCE = 5
#: The wall clock is looked at least this often, because it may be set.
CHECK_S = 30.0
#: When the wall clock has been set back by this since the last look, the schedule is read again.
STEP_S = 60.0

#: What has become of starts of which no job came.
NOT_STARTED = frozenset({Outcome.MISSED, Outcome.SKIPPED, Outcome.FAILED})

Find = Callable[[Target], tuple[str, ...]]
Specify = Callable[[Mapping[str, Any], Find], JobSpec]
"""Makes a job's specification of a template's body, with the gateways that are found now.

Raises PuppetmasterError: it has faults by now, or no gateway is found.
"""


def _nothing(_job: Mapping[str, Any], _find: Find) -> JobSpec:
    raise Unavailable("Templates cannot be started here.")


class Look(NamedTuple):
    """A template's schedule, as it was last looked at."""

    #: Its next time (wall clock); None: none comes.
    due_s: float | None
    #: The wall clock at the look.
    wall_s: float


class Begun(NamedTuple):
    """A job of a template that is not on disk yet."""

    template: int
    #: The record before it was started.
    before: Record


class Templates:
    """Keeps and starts templates. One thread uses it: the dispatcher's."""

    def __init__(self, context: Context, lifecycle: Lifecycle, reader: Reader) -> None:
        self._state = context.state
        self._timers = context.timers
        self._moment = context.moment
        self._lifecycle = lifecycle
        self._reader = reader
        #: Makes a job of a template's body; whoever builds the engine sets it.
        self.specify: Specify = _nothing
        #: How many starts had each outcome since the start of the program.
        self.counts: Counter[Outcome] = Counter()
        #: Is called with each start that did not come about, and the time.
        self.not_started: Callable[[Template, Told, str], None] = lambda *_: None
        #: Is called with a start of ``not_started`` that could not be written, and is decided on again.
        self.taken_back: Callable[[Template, Told], None] = lambda *_: None
        self._taken_up = False
        self._looks: dict[int, Look] = {}
        #: Templates whose time may have come, in order; and the templates that wait for a job to end.
        self._due: deque[int] = deque()
        self._queued: dict[int, int] = {}
        #: Id of a new job that is not on disk yet -> where it comes from.
        self._begun: dict[int, Begun] = {}
        #: What is logged and counted when it is on disk, each with its template.
        self._told: list[tuple[Template, Told]] = []

    def __bool__(self) -> bool:
        """Whether there is work for another turn."""
        return bool(self._due) or not all(map(self._lifecycle.is_open, self._queued.values()))

    # -- what callers ask for ---------------------------------------------------------------------

    def find(self, id_: int) -> Template:
        """The template of this id, with what is not on disk yet. Raises NotFound, StoreError."""
        changes = self._state.changes
        found = changes.templates.get(id_)
        if found is None and id_ not in changes.removed_templates:
            found = self._reader.template(id_)
        if found is None:
            raise NotFound(f"There is no template {id_}: GET /templates lists those there are.")
        return found

    def create(self, new: NewTemplate) -> Template:
        """Keep a new template. Raises Conflict: its name is taken, or there are too many."""
        assert new.name is not None
        assert new.job is not None
        self._check_name(new.name, None)
        changes = self._state.changes
        known = {*self._reader.template_ids(), *changes.templates} - changes.removed_templates
        if len(known) >= MOST_TEMPLATES:
            raise Conflict(f"There are {len(known)} templates, which are the most: delete one.")
        wall_s = self._moment.wall_s
        bare = Template(
            id=self._state.new_template(), name=new.name, job=new.job, record=Record(decided_s=wall_s)
        )
        return self._keep(new.onto(bare, wall_s))

    def change(self, id_: int, new: NewTemplate) -> Template:
        """Change a template. Returns it after that. Raises NotFound, Conflict: its new name is taken."""
        known = self.find(id_)
        if new.name is not None:
            self._check_name(new.name, id_)
        return self._keep(new.onto(known, self._moment.wall_s))

    def remove(self, id_: int) -> Template:
        """Remove a template; its jobs stay. Returns it as it last was. Raises NotFound."""
        known = self.find(id_)
        self._state.changes.templates.pop(id_, None)
        self._state.changes.removed_templates.add(id_)
        self._forget(id_)
        return known

    def start(self, id_: int, spec: JobSpec) -> Job:
        """Start a job of a template by hand. Raises NotFound, and what ``Lifecycle.create`` raises."""
        record = self.find(id_).record
        existing = self._lifecycle.existing(spec)
        return existing or self._begin(id_, spec, record, lambda record, _: record)

    def _check_name(self, name: str, but: int | None) -> None:
        changes = self._state.changes
        stored = self._reader.template_named(name)
        new = [one for one in changes.templates.values() if one.name == name]
        if stored is not None and stored.id not in changes.templates:
            new.append(stored)
        for one in new:
            if one.id != but and one.id not in changes.removed_templates:
                raise Conflict(
                    f"The name '{name}' belongs to template {one.id}: change that, or take another."
                )

    def _keep(self, template: Template) -> Template:
        self._state.changes.templates[template.id] = template
        self._forget(template.id)
        if template.scheduled:
            self._look_soon(template.id)
        return template

    def _forget(self, id_: int) -> None:
        self._timers.cancel(Timer(TimerKind.SCHEDULE, id_))
        self._looks.pop(id_, None)
        self._queued.pop(id_, None)

    # -- schedules --------------------------------------------------------------------------------

    def fire(self, id_: int) -> None:
        """Look at a schedule: its time may have come, or the wall clock may have been set."""
        look, wall_s = self._looks.get(id_), self._moment.wall_s
        if look is None or look.due_s is None or wall_s >= look.due_s or wall_s < look.wall_s - STEP_S:
            self._look_soon(id_)
        else:
            self._wait(id_, Look(look.due_s, wall_s))

    def _look_soon(self, id_: int) -> None:
        if id_ not in self._due:
            self._due.append(id_)

    def _wait(self, id_: int, look: Look) -> None:
        self._looks[id_] = look
        left_s = CHECK_S if look.due_s is None else min(max(look.due_s - self._moment.wall_s, 0.0), CHECK_S)
        self._timers.set(Timer(TimerKind.SCHEDULE, id_), self._moment.now_s + left_s)

    def work(self) -> None:
        """Start what is due, a few in each turn."""
        self._take_up()
        for id_, job_id in list(self._queued.items()):
            if not self._lifecycle.is_open(job_id):
                del self._queued[id_]
                self._look_soon(id_)
        for _ in range(min(AT_ONCE, len(self._due))):
            id_ = self._due.popleft()
            try:
                self._look(id_)
            except NotFound:
                self._forget(id_)
            except StoreError as error:  # it keeps no other template from starting
                log.error("template %s: %s", id_, error, extra={"action": "store_fault"})  # noqa: TRY400
                self._wait(id_, Look(None, self._moment.wall_s))

    def _take_up(self) -> None:
        """Look at all templates, once after the start of the program."""
        if self._taken_up:
            return
        try:
            self._due.extend(self._reader.template_ids())
        except StoreError as error:
            log.error("templates: %s", error, extra={"action": "store_fault"})  # noqa: TRY400
            return
        self._taken_up = True

    def _look(self, id_: int) -> None:
        template = self.find(id_)
        if not template.scheduled or template.schedule is None:
            self._forget(id_)
            return
        if self._is_begun(id_):  # its job is being written
            self._wait(id_, Look(None, self._moment.wall_s))
            return
        wall_s, running = self._moment.wall_s, self._running(id_)
        decided = decide(template.schedule, template.record, wall_s, running)
        if decided.start_s is None:
            record = self._tell_all(template, decided.record, decided.told)
        else:
            record = self._start(template, decided.record, decided.start_s, decided.told)
        if record != template.record and not self._is_begun(id_):
            self._state.changes.templates[id_] = replace(template, record=record)
        if record.queued_s is not None and running is not None:
            self._queued[id_] = running
        self._wait(id_, Look(self._next_s(template.schedule, record), wall_s))

    def _next_s(self, schedule: Schedule, record: Record) -> float | None:
        wall_s = self._moment.wall_s
        if not is_known(wall_s):
            return None
        return next(schedule.times.after(max(record.decided_s, wall_s - GRACE_S)), None)

    def _is_begun(self, id_: int) -> bool:
        """Whether a job of this template is not on disk yet."""
        return any(one.template == id_ for one in self._begun.values())

    def _running(self, id_: int) -> int | None:
        """A job of this template that has not ended, the latest; None: there is none."""
        return max(self._lifecycle.open_of(id_), default=None)

    def _start(self, template: Template, record: Record, due_s: float, others: tuple[Told, ...]) -> Record:
        """Start a job for a due time. Returns the record with the outcome of it, and of ``others``.

        These are told when the job exists: until then all of it may be decided on again.
        """
        key = template.key_of(due_s)
        if (taken := self._lifecycle.with_key(key)) is not None:
            if taken.template == template.id:  # the wall clock was set back by far: this time has its job
                return self._tell_all(template, record, others)
            why = f"not started: job {taken.id}, which is not of this template, has its key '{key}'"
            return self._tell_all(template, record, (*others, Told(Outcome.FAILED, iso(due_s), why)))
        late_s = self._moment.wall_s - due_s

        def noted(record: Record, job: Job) -> Record:
            record = self._tell_all(template, record, others)
            late = f", {late_s:.0f} s after its time" if late_s > GRACE_S else ""
            told = Told(Outcome.STARTED, iso(due_s), f"job {job.id} was started{late}")
            return self._tell(template, record, told)

        try:
            spec = self.specify(template.job, self._found)
            asked = replace(spec, key=key, template=template.id, created_by=ITSELF)
            self._begin(template.id, asked, record, noted)
        except StoreError:
            raise
        except PuppetmasterError as error:
            failed = Told(Outcome.FAILED, iso(due_s), f"not started: {error.message}")
            return self._tell_all(template, record, (*others, failed))
        return record

    def _found(self, target: Target) -> tuple[str, ...]:
        return target.without(self._reader.gateway_names(target.sought))

    def _begin(self, id_: int, spec: JobSpec, record: Record, noted: Callable[[Record, Job], Record]) -> Job:
        """Create a job of a template. When it exists, ``record`` is kept with what ``noted`` adds to it."""
        before = self.find(id_).record

        def exists(job: Job) -> None:
            try:
                template = self.find(id_)
            except NotFound:  # it was removed while its job was written
                return
            except StoreError as error:  # the job is right all the same; its key tells for which time it is
                said = "template %s: that job %s was started is not noted: %s"
                log.error(said, id_, job.id, error, extra={"action": "store_fault"})  # noqa: TRY400
                return
            # It may have been changed while a large job was written. The key tells that the time has its job.
            now = noted(record if template.record == before else template.record, job)
            self._state.changes.templates[id_] = replace(template, record=replace(now, last_job=job.id))

        job = self._lifecycle.create(spec, exists)
        self._begun[job.id] = Begun(id_, before)
        return job

    def _tell_all(self, template: Template, record: Record, many: Iterable[Told]) -> Record:
        for told in many:
            record = self._tell(template, record, told)
        return record

    def _tell(self, template: Template, record: Record, told: Told) -> Record:
        self._told.append((template, told))
        if told.outcome in NOT_STARTED:
            self.not_started(template, told, self._moment.at)
        return record.telling(told, self._moment.at)

    # -- the end of a turn ------------------------------------------------------------------------

    def committed(self) -> None:
        """Tell what was decided, because it is on disk."""
        for job_id in [id_ for id_ in self._begun if not self._lifecycle.is_draft(id_)]:
            template_id = self._begun.pop(job_id).template
            if (look := self._looks.get(template_id)) is not None and look.due_s is None:
                self._look_soon(template_id)  # its time may have come while the job was written
        told, self._told = self._told, []
        for template, one in told:
            self.counts[one.outcome] += one.many
            fine = one.outcome in (Outcome.STARTED, Outcome.QUEUED)
            said = f"template {template.id} ({template.name}), due at {one.due_at}: {one.message}"
            log.log(
                logging.INFO if fine else logging.WARNING,
                "%s",
                said,
                extra={"action": f"schedule_{one.outcome}"},
            )

    def revoke(self, jobs: Iterable[int]) -> None:
        """Take back that these jobs were started, because they could not be written. They are due again."""
        # The latest first: of several starts of a template the record before the first of them counts.
        for begun in [self._begun.pop(id_) for id_ in sorted(jobs, reverse=True) if id_ in self._begun]:
            changes = self._state.changes
            if (changed := changes.templates.get(begun.template)) is not None:
                changes.templates[begun.template] = replace(changed, record=begun.before)
            for one, told in self._told:
                if one.id == begun.template and told.outcome in NOT_STARTED:
                    self.taken_back(one, told)
            self._told = [(one, told) for one, told in self._told if one.id != begun.template]
            self._look_soon(begun.template)
