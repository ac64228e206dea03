"""What the doors ask for that is put together here: results, pages, reruns, controls, why requests wait."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from puppetmaster.api import service as module
from puppetmaster.api.pages import encoded, whole
from puppetmaster.api.query import Query
from puppetmaster.api.service import Service
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.message import Capacity
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.model.why import Why, code_of
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes
from puppetmaster.store.memory import MemoryStore
from tests.costs import memory_of
from tests.examples import LATER, a_job, a_request, an_item, counts

FIRST = 2**31


def ended(number: int, data: Any, code: int = 200) -> Request:
    """The request of this number, with its result."""
    return a_request(
        id=FIRST + number,
        destination=f"cg-{number:02}",
        status=RequestStatus.RESOLVED if code == 200 else RequestStatus.ERROR,
        finished_at=LATER,
        result={"code": code, "data": data, "source": "device"},
    )


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryStore]:
    """Ten requests that ended in three ways: six, three and one alike. Two are read at a time."""
    monkeypatch.setattr(module, "PART", 2)
    made = MemoryStore()
    requests = [ended(number, "old" if number % 3 else "new") for number in range(9)]
    requests.append(ended(9, None, code=500))
    job = a_job(id=1, first=FIRST, total=10, counts=counts(resolved=9, error=1))
    made.commit(
        Changes(
            jobs={1: job},
            items={FIRST: an_item(id=FIRST, job=1)},
            requests={request.id: request for request in requests},
        )
    )
    yield made
    made.close()


class Away:
    """A dispatcher that does not answer, and counts what it is to create."""

    asked = 0

    def look(self, *_: Any) -> Any:
        raise Unavailable("It does not answer.")

    def create(self, *_: Any) -> Any:
        self.asked += 1
        raise Unavailable("It does not answer.")


def serving(store: MemoryStore, dispatcher: object = None, **settings: Any) -> Service:
    return Service(Settings(**settings), store, cast(Dispatcher, dispatcher))


@pytest.fixture
def service(store: MemoryStore) -> Service:
    """Its dispatcher is none at all."""
    return serving(store)


def shown(service: Service, limit: int | None = None, offset: int = 0) -> list[tuple[int, Any]]:
    groups = whole(service.results("1", Query(limit=limit, offset=offset)))
    return [(group["count"], group["sample"]["result"]["data"]) for group in groups]


def test_the_groups_of_results_are_paged(service: Service) -> None:
    everything = [(6, "old"), (3, "new"), (1, None)]
    assert shown(service) == everything
    assert shown(service, limit=1) == everything[:1]
    assert shown(service, limit=2, offset=1) == everything[1:]
    assert shown(service, offset=3) == []
    assert service.results("1", Query(limit=1)).total == 3


def test_a_page_is_held_beside_the_good_group_that_is_on_another(service: Service) -> None:
    (group,) = whole(service.results("1", Query(limit=1, offset=1, diff=True)))
    assert group["diff"] == [{"path": "", "good": "old", "here": "new"}]
    assert group["destinations"] == ["cg-00", "cg-03", "cg-06"]


def test_a_group_whose_sample_has_just_changed_is_left_out(service: Service, store: MemoryStore) -> None:
    """A late answer came between the folding and the showing: what would be shown is of another group."""
    rows = service.results("1", Query())
    late = replace(ended(9, "late"), result={"code": 200, "data": "late", "source": "device", "late": True})
    store.commit(Changes(requests={late.id: late}))
    assert [group["count"] for group in whole(rows)] == [6, 3]


# -- what is run again ---------------------------------------------------------------------------------


@pytest.fixture
def three_failed(store: MemoryStore) -> dict[str, Any]:
    """Says which: how many they are is known only when they have been looked for."""
    failed = [ended(number, None, code=500) for number in (0, 1)]
    store.commit(Changes(requests={request.id: request for request in failed}))
    return {"rerun": {"job": 1, "status": ["error"]}}


def test_what_is_run_again_is_no_larger_than_other_jobs(store: MemoryStore, three_failed: Any) -> None:
    """The setting may have been larger when the first job was made."""
    body = {**three_failed, "dryRun": True}
    assert serving(store, Away(), max_requests=3).create_job(body)["totalCount"] == 3
    with pytest.raises(TooLarge, match="makes 3 requests, and 2 are the most"):
        serving(store, Away(), max_requests=2).create_job(body)


def test_waves_of_what_is_run_again_are_in_order(service: Service, three_failed: Any) -> None:
    with pytest.raises(Invalid, match='of 3 requests, "100%" ends at 3, and 1 at 1'):
        service.create_job({**three_failed, "waves": ["100%", 1]})


def test_there_is_nothing_to_run_again(service: Service) -> None:
    with pytest.raises(Conflict, match="no request of job 1 is timeout"):
        service.create_job({"rerun": {"job": 1, "status": ["timeout"]}})
    with pytest.raises(NotFound):
        service.create_job({"rerun": {"job": 2, "status": ["error"]}})


@pytest.mark.parametrize("settings", [{}, {"broker_limit_bytes": 100_000}])
def test_a_request_whose_answer_the_bus_does_not_carry_is_not_created(
    store: MemoryStore, settings: dict[str, Any]
) -> None:
    """Its command is carried, but not the answer, in which its data is too."""
    capacity = Capacity(Settings(**settings).broker_limit_bytes)
    message = {"method": "post", "resource": "/a", "data": "x" * (capacity.answer_bytes - 50)}
    away = Away()
    service = serving(store, away, **settings)
    body = {"destination": "a", "message": message}
    with pytest.raises(TooLarge, match=f"more than {capacity.answer_bytes} bytes"):
        service.create_request(body, over_bus=True)
    assert away.asked == 0
    for over_bus, shorter in ((False, 0), (True, 1000)):
        message["data"] = "x" * (capacity.answer_bytes - 50 - shorter)
        with pytest.raises(Unavailable):
            service.create_request(body, over_bus=over_bus)
    assert away.asked == 2


# -- what a job is to become ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"status": "paused", "force": True}, ["force"]),
        ({"status": "dispatching", "force": True}, ["force"]),
        ({"status": "canceled", "force": 1}, ["force"]),
        ({"status": "canceled", "force": None}, ["force"]),
        ({"force": True}, ["status", "force"]),
        ({"status": "resolved"}, ["status"]),
        ({"status": ["paused"]}, ["status"]),
        ({"status": None}, ["status"]),
        ({"status": "paused", "when": 1, "x" * 100: 1}, ["when", "x" * 77 + "..."]),
        ([], [""]),
        (None, [""]),
    ],
)
def test_a_control_that_is_wrong_names_its_faults(service: Service, body: Any, paths: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        service.control_job("1", body)
    assert [fault.path for fault in refused.value.faults] == paths


class Controlled:
    """A dispatcher that notes what it is called for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def call(self, verb: Callable[[Any], Job], _timeout_s: float) -> Job:
        return verb(self)

    def control(self, number: int, wanted: JobStatus, *, force: bool, by: str) -> Job:
        self.asked.append((number, wanted, force, by))
        return a_job(first=FIRST, total=2)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({"status": "canceled", "force": True}, (JobStatus.CANCELED, True)),
        ({"status": "canceled"}, (JobStatus.CANCELED, False)),
        ({"status": "paused", "force": False}, (JobStatus.PAUSED, False)),
        ({"status": "dispatching"}, (JobStatus.DISPATCHING, False)),
    ],
)
def test_a_control_is_handed_on(store: MemoryStore, body: Any, asked: Any) -> None:
    controlled = Controlled()
    service = serving(store, controlled)
    assert service.control_job("1", body, "ann")["requests"] == [FIRST, FIRST + 1]
    assert controlled.asked == [(1, *asked, "ann")]


@pytest.mark.parametrize("text", ["x", "", "-1", "1.0", "\u0661", "1" * 19, " 1"])
def test_what_cannot_be_an_id_is_one_that_nothing_has(service: Service, text: str) -> None:
    for look in (service.watched_job, service.request):
        with pytest.raises(NotFound, match="There is no"):
            look(text)


# -- pages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 10, None])
def test_pages_of_requests_are_the_same_however_they_are_read(service: Service, limit: int | None) -> None:
    """Up to two, which is a part here, are looked up at once."""
    rows = service.requests(Query(limit=limit, offset=3, where={"status": ["resolved", "error"]}), "1")
    expected = list(range(FIRST + 3, FIRST + 10))[:limit]
    assert [one["id"] for one in whole(rows)] == expected
    assert rows.total == 10


# -- what requests wait for ----------------------------------------------------------------------------


WAITS, SENT = FIRST + 8, FIRST + 9
AWAY = Why.AWAY.said(away="gone")


@pytest.mark.parametrize(
    ("why", "shown_why"),
    [
        ({WAITS: Why.BUS.said(), SENT: None}, [Why.BUS.said(), None]),
        ({WAITS: None, SENT: AWAY}, [Why.NEXT.said(), AWAY]),
        (None, [module.NOT_KNOWN, None]),
    ],
)
def test_what_waits_says_why(store: MemoryStore, why: Any, shown_why: list[str | None]) -> None:
    pending = a_request(id=WAITS, destination="cg-08")
    sent = a_request(id=SENT, destination="cg-09", status=RequestStatus.SENT, sent_at=LATER, attempts=1)
    store.commit(Changes(requests={WAITS: pending, SENT: sent}))
    looking = Away() if why is None else SimpleNamespace(look=lambda *_: why)
    service = serving(store, looking)
    views = service.request_views([WAITS, SENT]).rows
    assert [view["__request"]["why"] for view in views] == shown_why
    assert [view["__request"]["whyCode"] for view in views] == [code_of(said) for said in shown_why]


@pytest.mark.parametrize("shown", ["job", "requests", "results"])
def test_large_results_are_shown_few_at_a_time(shown: str) -> None:
    store = MemoryStore()
    for number in range(60):
        job = a_job(id=1, first=FIRST, total=60, counts=counts(resolved=60))
        one = ended(number, {"log": str(number) * 100_000})
        store.commit(Changes(jobs={1: job}, items={FIRST: an_item(id=FIRST, job=1)}, requests={one.id: one}))
    service = serving(store)

    def size_shown() -> int:
        if shown == "results":
            rows: Any = service.results("1", Query())
        else:
            rows = service.job("1", Query()) if shown == "job" else service.requests(Query(limit=60))
        return sum(map(len, encoded(rows)))

    size, peak = memory_of(size_shown)
    store.close()
    assert size > 10_000_000
    assert peak < 3_000_000


def test_items_with_much_data_are_shown_few_at_a_time() -> None:
    store = MemoryStore()
    job = a_job(id=1, first=FIRST, total=60, counts=counts(resolved=60))
    items = {
        FIRST + number: an_item(id=FIRST + number, job=1, data={"image": "x" * 200_000})
        for number in range(0, 60, 2)
    }
    requests = {
        FIRST + number: replace(ended(number, None), item=FIRST + number - number % 2) for number in range(60)
    }
    store.commit(Changes(jobs={1: job}, items=items, requests=requests))
    service = serving(store)
    found: list[int] = []
    for part in service.requests(Query()).parts():
        assert 2 <= len(part) <= 4
        found += [one["id"] for one in part]
    store.close()
    assert found == list(requests)
