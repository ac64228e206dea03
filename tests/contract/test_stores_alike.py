"""Random verbs on every implementation of the store side by side: readers see the same."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from puppetmaster.model.gateway import Gateway, Sought
from puppetmaster.model.job import JobStatus
from puppetmaster.model.notice import Notice, Owed
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.model.selector import parse
from puppetmaster.model.template import Outcome, Overlap, Record, Schedule, Template, Told
from puppetmaster.store.base import Changes, Ids, Keep, Look, Now, Reader, Store
from tests.contract.conftest import IMPLEMENTATIONS
from tests.examples import LATER, counts
from tests.stored import as_ended, creation, first_of

#: Hundreds of transactions that need not outlive the test: a disk is too slow for them.
MEMORY = Path("/dev/shm")
JOBS, TOTAL = range(1, 7), 4
MESSAGES = range(100, 104)
KEYS, NAMES = (None, "k", "K"), (None, "night", "Day 1")
WHERES: list[dict[str, Any]] = [
    {},
    {"status": ["pending", "dispatching"]},
    {"status": "resolved"},
    {"status": []},
]
JOB_WHERES: list[dict[str, Any]] = [
    *WHERES,
    {"name": "night"},
    {"destination": "cg-1"},
    {"failed": True},
    {"failed": False},
    {"text": "IGH"},
    {"text": "1"},
    {"text": "", "status": "resolved"},
    {"destination": "cg-3", "name": "Day 1", "text": "k"},
    {"template": 2},
    {"template": 1, "status": "resolved", "destination": "cg-1"},
]
REQUEST_WHERES: list[dict[str, Any]] = [
    *WHERES,
    {"job": 2},
    {"job": 3, "status": ["sent", "pending"]},
    {"destination": "cg-1"},
    {"destination": "cg-0", "job": 1},
]

GATEWAYS = [f"cg-{place}" for place in range(TOTAL)]
LABELS: list[dict[str, str]] = [{}, {"site": "north"}, {"site": "south", "a.b/c-d": ""}, {"a.b/c-d": "x"}]
SOUGHT = [
    Sought(selector=None if text is None else parse(text), match=match)
    for text in (None, "site=north", "site!=north", "site,a.b/c-d in (,x)", "!site", "site in (north,south)")
    for match in (None, "cg-[12]", "CG-*")
]

TEMPLATES = range(1, 4)
TEMPLATE_NAMES = ("nightly", "Nightly", "é\ud800")
SCHEDULES = (None, Schedule(cron="0 3 * * 1-5", timezone="Europe/Berlin", overlap=Overlap.QUEUE))

Verb = tuple[Any, ...]
jobs = st.sampled_from(JOBS)
templates = st.sampled_from(TEMPLATES)
requests = st.tuples(jobs, st.integers(0, TOTAL - 1)).map(lambda at: first_of(at[0]) + at[1])
verbs = st.one_of(
    st.tuples(st.just("create"), jobs, st.integers(1, TOTAL), st.sampled_from(KEYS), st.sampled_from(NAMES)),
    st.tuples(st.just("draft"), jobs, st.integers(1, TOTAL)),
    st.tuples(st.just("complete"), jobs),
    st.tuples(st.just("abandon"), jobs),
    st.tuples(st.just("end"), jobs, st.sampled_from([LATER, "2026-01-01T00:00:00.000Z"])),
    st.tuples(st.just("remove"), st.sets(jobs, min_size=1, max_size=2)),
    st.tuples(st.just("change"), st.sets(requests, min_size=1), st.sampled_from(RequestStatus)),
    st.tuples(st.just("send"), st.sampled_from(MESSAGES), requests),
    st.tuples(st.just("refuse"), st.sampled_from(MESSAGES)),
    st.tuples(
        st.just("put"), st.dictionaries(st.sampled_from(GATEWAYS), st.sampled_from(LABELS), min_size=1)
    ),
    st.tuples(st.just("forget"), st.sets(st.sampled_from(GATEWAYS), min_size=1)),
    st.tuples(st.just("owe"), st.integers(1, 4), st.sampled_from(["ops", "é\ud800"]), st.integers(0, 3)),
    st.tuples(st.just("tell"), st.sets(st.integers(1, 5), min_size=1)),
    st.tuples(st.just("keep"), templates, st.sampled_from(TEMPLATE_NAMES), st.sampled_from(SCHEDULES)),
    st.tuples(st.just("decide"), templates, st.sampled_from(Outcome), st.none() | jobs),
    st.tuples(st.just("drop"), st.sets(templates, min_size=1, max_size=2)),
    st.tuples(st.just("start"), templates, jobs, st.integers(1, TOTAL)),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("reopen")),
)


class Script:
    """What a random verb commits, given what is there: as the engine would, which knows that."""

    def __init__(self) -> None:
        self.ids = Ids()
        self.existing: dict[int, Changes] = {}
        self.drafts: dict[int, Changes] = {}
        self.templates: dict[int, Template] = {}
        #: Jobs that there were: no id is given out twice.
        self.numbers: set[int] = set()

    def changes(self, verb: str, *given: Any) -> Changes:
        """The changes of a verb; none, where it is not possible."""
        made: Changes = getattr(self, verb)(*given)
        return made

    def create(self, number: int, total: int, key: str | None, name: str | None, **more: Any) -> Changes:
        if number in self.numbers:
            return Changes()
        self.numbers.add(number)
        created = self.existing[number] = creation(number, total=total, key=key, name=name, **more)
        return created

    def draft(self, number: int, total: int) -> Changes:
        if number in self.numbers:
            return Changes()
        self.numbers.add(number)
        draft = self.drafts[number] = creation(number, total=total, key="k", name="night")
        first = first_of(number)
        return Changes(drafts=draft.jobs, items=draft.items, requests={first: draft.requests[first]})

    def complete(self, number: int) -> Changes:
        if number not in self.drafts:
            return Changes()
        whole = self.existing[number] = self.drafts.pop(number)
        return Changes(jobs=whole.jobs, requests=whole.requests, completed=[number])

    def abandon(self, number: int) -> Changes:
        return Changes(abandoned=self.drafts.pop(number).jobs if number in self.drafts else {})

    def end(self, number: int, at: str) -> Changes:
        if number not in self.existing:
            return Changes()
        job = as_ended(self.existing[number].jobs[number], JobStatus.RESOLVED)
        failed = 1 if at == LATER else 0
        ended = counts(resolved=job.total - failed, unknown=failed)
        return Changes(jobs={number: replace(job, finished_at=at, counts=ended)})

    def remove(self, numbers: set[int]) -> Changes:
        gone = [self.existing.pop(number) for number in numbers if number in self.existing]
        return Changes(deleted={id_: job for one in gone for id_, job in one.jobs.items()})

    def change(self, ids: set[int], status: RequestStatus) -> Changes:
        found = [request for id_ in ids if (request := self._request(id_)) is not None]
        result = {"code": 200, "data": "é\ud800", "source": "device"}
        return Changes(requests={one.id: replace(one, status=status, result=result) for one in found})

    def send(self, message: int, id_: int) -> Changes:
        request = self._request(id_)
        return Changes() if request is None else Changes(sendings={message: request}, ids=self._next_ids())

    def refuse(self, message: int) -> Changes:
        return Changes(refused=[message], ids=self._next_ids())

    def put(self, labels: dict[str, dict[str, str]]) -> Changes:
        return Changes(gateways={name: Gateway(name=name, labels=some) for name, some in labels.items()})

    def forget(self, names: set[str]) -> Changes:
        return Changes(forgotten=names)

    def owe(self, id_: int, hook: str, attempts: int) -> Changes:
        notice = Notice(f"job-{id_}-3", "x.ended", "/jobs/1", LATER, {"job": {"id": id_, "name": hook}})
        return Changes(owed={id_: Owed(id_, hook, notice, attempts)})

    def tell(self, ids: set[int]) -> Changes:
        return Changes(told=ids)

    def keep(self, id_: int, name: str, schedule: Schedule | None) -> Changes:
        if any(one.name == name and one.id != id_ for one in self.templates.values()):
            return Changes()
        job = {
            "batch": [{"method": "get", "resource": f"/{name}", "__request": {"destination": {"all": True}}}]
        }
        record = Record(decided_s=1.5) if id_ not in self.templates else self.templates[id_].record
        return self._kept(Template(id=id_, name=name, job=job, schedule=schedule, record=record))

    def decide(self, id_: int, outcome: Outcome, last_job: int | None) -> Changes:
        """What has become of a start, of which no job came."""
        if id_ not in self.templates:
            return Changes()
        record = self.templates[id_].record.telling(Told(outcome, LATER, "as é\ud800", 2), LATER)
        queued_s = 0.5 if outcome is Outcome.QUEUED else None
        return self._kept(self._after(id_, replace(record, queued_s=queued_s, last_job=last_job)))

    def drop(self, ids: set[int]) -> Changes:
        for id_ in ids:
            self.templates.pop(id_, None)
        return Changes(removed_templates=ids)

    def start(self, id_: int, number: int, total: int) -> Changes:
        """A job, and the note of its start."""
        if id_ not in self.templates or number in self.numbers:
            return Changes()
        created = self.create(number, total, f"template {id_}: {number}", None, template=id_)
        record = self.templates[id_].record.telling(Told(Outcome.STARTED, LATER, "started"), LATER)
        noted = self._kept(self._after(id_, replace(record, last_job=number)))
        return replace(created, templates=noted.templates, ids=noted.ids)

    def _after(self, id_: int, record: Record) -> Template:
        return replace(self.templates[id_], record=record)

    def _kept(self, template: Template) -> Changes:
        self.templates[template.id] = template
        self.ids.next_template += 1
        return Changes(templates={template.id: template}, ids=replace(self.ids))

    def _request(self, id_: int) -> Request | None:
        return next((one.requests[id_] for one in self.existing.values() if id_ in one.requests), None)

    def _next_ids(self) -> Ids:
        self.ids.next_request += 1
        return replace(self.ids)


def seen(reader: Reader) -> list[Any]:
    """All that a reader can be asked."""
    ids = [first_of(number) + place for number in JOBS for place in range(TOTAL)]
    return [
        [reader.job(number) for number in JOBS],
        [reader.job_by_key(key) for key in ("k", "K", "")],
        [(reader.jobs(where), list(reader.job_ids(where))) for where in JOB_WHERES],
        [reader.jobs(where, limit=2, offset=1) for where in JOB_WHERES],
        [reader.count_jobs(where) for where in WHERES],
        [reader.request(id_) for id_ in ids],
        [reader.sending(message) for message in MESSAGES],
        [(reader.requests(where), list(reader.request_ids(where))) for where in REQUEST_WHERES],
        [reader.requests(where, limit=3, offset=2) for where in REQUEST_WHERES],
        [reader.count_requests(where) for where in REQUEST_WHERES],
        [reader.items(JOBS), reader.items([2]), reader.items_by_id(ids)],
        list(_walk(reader, ids)),
        reader.items_within(ids, 2**40),
        [reader.gateway_names(sought) for sought in SOUGHT],
        reader.gateways([*GATEWAYS, "unknown"]),
        reader.last_results(GATEWAYS),
        reader.owed(),
        [reader.template(id_) for id_ in (*TEMPLATES, 9)],
        [reader.template_named(name) for name in (*TEMPLATE_NAMES, "none")],
        list(reader.template_ids()),
    ]


def _walk(reader: Reader, ids: list[int]) -> Iterator[Any]:
    """The requests, read part by part: how large a part is may differ."""
    while ids:
        found, taken = reader.requests_within(ids, 500)
        yield from found
        ids = ids[taken:]


def beside(store: Store) -> list[Any]:
    """What the store itself says."""
    looks = []
    for keep in (Keep(1, float("inf"), 2**62), Keep(2**62, 3600.0, 2**62)):
        look = Look(keep, Now(1_767_400_000.0))
        look.at_once = 2
        while not look.complete:
            store.look_on(look)
        looks.append(store.outlived(look))
    return [store.ids, list(store.unfinished()), looks]


@contextmanager
def places(*names: str) -> Iterator[list[Any]]:
    """A place for each of these implementations."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield [IMPLEMENTATIONS[name](Path(directory)) for name in names]


SCRIPTS = st.lists(verbs, max_size=12)


@settings(max_examples=60)
@given(SCRIPTS)
def test_readers_see_the_same_of_files_and_of_memory(some: list[Verb]) -> None:
    compare(some, "sqlite", "memory")


@settings(max_examples=12)  # each asks a server thousands of questions
@given(SCRIPTS)
def test_readers_see_the_same_of_a_server_and_of_memory(some: list[Verb]) -> None:
    compare(some, "postgres", "memory")


def compare(some: list[Verb], *names: str) -> None:
    """Do this in stores of these implementations; all readers see the same before and after each verb."""
    script = Script()
    with places(*names) as opens:
        stores: list[Store] = [open_() for open_ in opens]
        try:
            before = _agreed(stores)
            for verb, *given in some:
                with ExitStack() as stack:
                    readers = [stack.enter_context(store.reading()) for store in stores]
                    for reader in readers:
                        reader.count_jobs({})  # its state is that of its first look
                    if verb == "reopen":
                        script.drafts.clear()
                        stack.close()
                        for store in stores:
                            store.close()
                        stores = [open_() for open_ in opens]
                    elif verb == "sweep":
                        for store in stores:
                            store.sweep()
                    else:
                        changes = script.changes(verb, *given)
                        for store in stores:
                            store.commit(changes)
                    if verb != "reopen":
                        assert all(seen(one) == before for one in readers), "it has a state of its own"
                before = _agreed(stores)
        finally:
            for store in stores:
                store.close()


def _agreed(stores: list[Store]) -> list[Any]:
    """What all readers of all stores see."""
    expected, expected_beside = seen(stores[0].now), beside(stores[0])
    for store in stores:
        assert store is stores[0] or (seen(store.now), beside(store)) == (expected, expected_beside)
        with store.reading() as reader:
            assert seen(reader) == expected
    return expected
