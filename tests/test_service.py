"""What the doors ask for that is put together here: results of large jobs, page by page."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from puppetmaster import service as module
from puppetmaster.changes import Changes
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.request import Request, RequestStatus
from puppetmaster.rows import encoded, whole
from puppetmaster.service import Service
from puppetmaster.settings import Settings
from puppetmaster.store import Store
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
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Ten requests that ended in three ways: six, three and one alike. Two are read at a time."""
    monkeypatch.setattr(module, "PART", 2)
    made = Store(tmp_path)
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


@pytest.fixture
def service(store: Store) -> Service:
    return Service(Settings(), store, cast(Dispatcher, None))


def shown(service: Service, **given: str) -> list[tuple[int, Any]]:
    return [
        (group["count"], group["sample"]["result"]["data"]) for group in whole(service.results("1", given))
    ]


def test_the_groups_of_results_are_paged(service: Service) -> None:
    everything = [(6, "old"), (3, "new"), (1, None)]
    assert shown(service) == everything
    assert shown(service, limit="1") == everything[:1]
    assert shown(service, limit="2", offset="1") == everything[1:]
    assert shown(service, offset="3") == []
    assert service.results("1", {"limit": "1"}).total == 3


def test_a_page_is_held_beside_the_good_group_that_is_on_another(service: Service) -> None:
    (group,) = whole(service.results("1", {"limit": "1", "offset": "1", "diff": "true"}))
    assert group["diff"] == [{"path": "", "good": "old", "here": "new"}]
    assert group["destinations"] == ["cg-00", "cg-03", "cg-06"]


def test_a_group_whose_sample_has_just_changed_is_left_out(service: Service, store: Store) -> None:
    """A late answer came between the folding and the showing: what would be shown is of another group."""
    rows = service.results("1", {})
    late = replace(ended(9, "late"), result={"code": 200, "data": "late", "source": "device", "late": True})
    store.commit(Changes(requests={late.id: late}))
    assert [group["count"] for group in whole(rows)] == [6, 3]


@pytest.mark.parametrize("shown", ["job", "requests", "results"])
def test_large_results_are_shown_few_at_a_time(tmp_path: Path, shown: str) -> None:
    store = Store(tmp_path)
    for number in range(60):
        job = a_job(id=1, first=FIRST, total=60, counts=counts(resolved=60))
        one = ended(number, {"log": str(number) * 100_000})
        store.commit(Changes(jobs={1: job}, items={FIRST: an_item(id=FIRST, job=1)}, requests={one.id: one}))
    service = Service(Settings(), store, cast(Dispatcher, None))
    tracemalloc.start()
    try:
        rows: Any = service.results("1", {})
        if shown != "results":
            rows = service.job("1", {}) if shown == "job" else service.requests({"limit": "60"})
        size = sum(map(len, encoded(rows)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        store.close()
    assert size > 10_000_000
    assert peak < 3_000_000


def test_items_with_much_data_are_shown_few_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = a_job(id=1, first=FIRST, total=60, counts=counts(resolved=60))
    items = {
        FIRST + number: an_item(id=FIRST + number, job=1, data={"image": "x" * 200_000})
        for number in range(0, 60, 2)
    }
    requests = {
        FIRST + number: replace(ended(number, None), item=FIRST + number - number % 2) for number in range(60)
    }
    store.commit(Changes(jobs={1: job}, items=items, requests=requests))
    service = Service(Settings(), store, cast(Dispatcher, None))
    found: list[int] = []
    for part in service.requests({}).parts():
        assert 2 <= len(part) <= 4
        found += [one["id"] for one in part]
    store.close()
    assert found == list(requests)
