"""What the engine and readers may rely on, whichever implementation keeps the jobs."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.errors import StoreError
from puppetmaster.model.gateway import Gateway, Sought
from puppetmaster.model.job import JobStatus
from puppetmaster.model.notice import Owed
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.model.template import Template
from puppetmaster.store.base import FIRST_REQUEST_ID, LAST_REQUEST_ID, Changes, Ids, Keep, Look, Now, Store
from tests.contract.conftest import Open, both
from tests.examples import LATER, a_job, an_item, counts
from tests.stored import NIGHTLY, TEMPLATES, as_ended, as_sent, creation, everything, fill, first_of

WAIT_S = 30.0
#: Requests of a job that no implementation need remove at once.
LARGE = 1010


# What was committed is there


def test_a_new_store_is_empty(store: Store) -> None:
    assert everything(store) == ([], [])
    assert list(store.unfinished()) == []
    assert _beside(store) == ([], [], [])
    assert store.now.template(1) is store.now.template_named("nightly") is None
    assert store.ids == Ids(next_job=1, next_request=2**31, next_template=1)
    assert (FIRST_REQUEST_ID, LAST_REQUEST_ID) == (2**31, 2**32 - 1)


def test_what_was_committed_is_read_at_once_and_after_a_restart(store: Store, open_store: Open) -> None:
    changes = creation(1, name="night", key="k", timeout_s=1.5, given={"concurrency": 2})
    store.commit(changes)
    for current in both(store, open_store):
        with current.reading() as reader:
            for reading in (reader, current.now):
                assert reading.job(1) == changes.jobs[1]
                assert reading.requests({}) == list(changes.requests.values())
                assert reading.items([1]) == changes.items
                assert [reading.request(id_) for id_ in changes.requests] == list(changes.requests.values())
                assert (reading.job(2), reading.request(1), reading.sending(1)) == (None, None, None)
                assert reading.items([2]) == reading.items([]) == {}


def test_an_odd_document_does_not_break_the_reading_of_others(store: Store) -> None:
    changes = creation(1)
    item = an_item(id=first_of(1), data={"a": "\ud800\0", "n": 2**80, "deep": [[[]]], "é": 0.1})
    request = replace(
        changes.requests[first_of(1)], result={"code": 200, "data": "\0\udfff", "source": "device"}
    )
    store.commit(replace(changes, items={item.id: item}, requests={request.id: request}))
    with store.reading() as reader:
        assert reader.items([1]) == {item.id: item}
        assert reader.request(request.id) == request


# Ids


def test_ids_are_kept(store: Store, open_store: Open) -> None:
    ids = Ids(next_job=7, next_request=2**31 + 500, next_template=5)
    store.commit(Changes(ids=ids))
    assert store.ids == ids
    store.commit(Changes(jobs={1: a_job()}))
    assert store.ids == ids, "changes without ids leave them"
    assert open_store().ids == ids


def test_ids_that_somebody_holds_are_a_copy(store: Store) -> None:
    store.ids.next_job += 5
    assert store.ids == Ids()


def test_the_installation_has_one_name(
    implementation: Callable[[Path], Open], store: Store, open_store: Open, tmp_path: Path
) -> None:
    name = store.installation
    assert len(name) == 16
    assert int(name, 16) >= 0
    assert open_store().installation == name
    other = implementation(tmp_path / "other")()
    assert other.installation != name
    other.close()


# All or nothing


class _Refuses:
    """A job whose stored form cannot be made: the commit fails after everything else was written."""

    id = 9

    def document(self) -> dict[str, Any]:
        raise StoreError("not this one")


def _beside(store: Store) -> tuple[list[Gateway], list[Template | None], list[Owed]]:
    """What there is beside jobs."""
    now = store.now
    templates = [now.template(id_) for id_ in now.template_ids()]
    return now.gateways(now.gateway_names(Sought())), templates, now.owed()


def test_a_commit_that_fails_leaves_nothing(store: Store, open_store: Open) -> None:
    fill(store, 1)
    north = Gateway(name="cg-x", labels={"site": "north"})
    store.commit(Changes(gateways={"cg-x": north}, templates=TEMPLATES))
    before, beside, ids = everything(store), _beside(store), store.ids
    changes = replace(
        creation(2),
        deleted={1: a_job()},
        gateways={"cg-y": Gateway(name="cg-y")},
        forgotten={"cg-x"},
        destinations={"cg-z"},
        templates={4: replace(NIGHTLY, record=replace(NIGHTLY.record, last_job=9))},
        removed_templates={2},
    )
    changes.jobs[9] = _Refuses()  # type: ignore[assignment]
    with pytest.raises(StoreError):
        store.commit(changes)
    assert (everything(store), _beside(store), store.ids) == (before, beside, ids)
    store.commit(creation(2))
    assert len(everything(store)[0]) == 2
    store = open_store()
    assert len(everything(store)[1]) == 6
    assert _beside(store) == beside


def test_what_is_no_json_is_refused_as_a_whole(store: Store) -> None:
    """It is the last request: a server has those before it by then."""
    changes = creation(1, total=100)
    *_, last = changes.requests.values()
    odd = replace(last, result={"code": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        store.commit(replace(changes, requests={**changes.requests, last.id: odd}))
    assert everything(store) == ([], [])
    store.commit(changes)
    assert everything(store) == ([changes.jobs[1]], list(changes.requests.values()))


# What is unfinished


def test_unfinished_are_the_open_jobs_with_their_open_requests(store: Store, open_store: Open) -> None:
    fill(store, *range(1, 8))
    expected = []
    for number, status in enumerate(reversed(JobStatus), 1):
        created = creation(number)
        job = replace(created.jobs[number], status=status)
        waits, ends, leaves = created.requests.values()
        ended = replace(ends, status=RequestStatus.TIMEOUT, finished_at=LATER)
        sent = as_sent(leaves)
        store.commit(Changes(jobs={number: job}, requests={ended.id: ended, sent.id: sent}))
        if status in (JobStatus.PENDING, JobStatus.DISPATCHING, JobStatus.PAUSED):
            expected.append((job, [waits, sent]))
    assert list(open_store().unfinished()) == expected
    assert len(expected) == 3


# Removal


def test_a_removal_takes_the_job_with_all_that_is_its(store: Store, open_store: Open) -> None:
    fill(store, 1, 2)
    with store.reading() as reader:
        job, kept = reader.job(1), reader.requests({"job": 2})
    assert job
    store.commit(Changes(deleted={1: job}))
    for current in both(store, open_store):
        assert current.ids == Ids(3, first_of(2) + 3), "no id is given back"
        with current.reading() as reader:
            assert [job.id for job in reader.jobs({})] == [2]
            assert reader.requests({}) == kept
            assert reader.items([1]) == {}
            assert list(reader.items([2])) == [first_of(2)]
            assert reader.gateway_names(Sought()) == ["cg-0", "cg-1", "cg-2"], "they stay"


def test_one_commit_may_change_one_job_and_remove_another(store: Store) -> None:
    fill(store, 1, 2)
    with store.reading() as reader:
        first, second = reader.job(1), reader.job(2)
    assert first
    assert second
    never_there = a_job(id=5)
    store.commit(Changes(jobs={2: as_ended(second)}, deleted={1: first, 5: never_there}))
    with store.reading() as reader:
        assert reader.jobs({}) == [as_ended(second)]


@pytest.mark.parametrize("reopened", [False, True])
def test_a_large_removal_is_hidden_at_once_and_goes_part_by_part(
    store: Store, open_store: Open, reopened: bool
) -> None:
    large, small = creation(1, total=LARGE, key="k"), creation(9)
    store.commit(replace(large, sendings={5: large.requests[first_of(1)]}))
    store.commit(small)
    store.commit(Changes(deleted=large.jobs))
    _only(store, small)
    more = store.sweep()
    store = open_store() if reopened else store
    while more:
        _only(store, small)
        more = store.sweep()
    _only(store, small)
    assert not store.sweep()


def _only(store: Store, small: Changes) -> None:
    """Nothing is to be seen but this job of three requests."""
    gone = range(first_of(1), first_of(1) + LARGE)
    with store.reading() as reading:
        for reader in (reading, store.now):
            assert [job.id for job in reader.jobs({})] == [9]
            assert [job.id for job in reader.jobs({"destination": "cg-0"})] == [9]
            assert reader.job_by_key("k") is None
            assert reader.sending(5) is None
            assert reader.items([1, 9]) == small.items
            assert reader.items_by_id([gone[0], first_of(9)]) == small.items
            assert reader.items_within([gone[0]], 1) == ({}, 1)
            assert reader.request(gone[-1]) is None
            assert reader.requests_within(gone, 2**40) == ([], LARGE)
            assert reader.requests({}) == list(small.requests.values())
            expected: list[tuple[dict[str, Any], int]] = [
                ({}, 3),
                ({"job": 1}, 0),
                ({"job": 1, "status": ["pending"]}, 0),
                ({"job": 9}, 3),
                ({"status": ["pending"]}, 3),
                ({"destination": "cg-1"}, 1),
                ({"destination": "cg-1", "job": 1}, 0),
            ]
            for where, count in expected:
                assert reader.count_requests(where) == count, where
                assert len(reader.requests(where)) == len(reader.request_ids(where)) == count, where


# Drafts: jobs whose requests are written before they exist


def _drafted(store: Store) -> Changes:
    """The first part of a large job is written, beside a job that exists: the changes of that one."""
    large, small = creation(1, total=LARGE, key="k"), creation(9)
    store.commit(small)
    part = dict(list(large.requests.items())[:500])
    store.commit(Changes(drafts=large.jobs, items=large.items, requests=part))
    return small


def test_a_draft_is_hidden_until_it_is_complete(store: Store, open_store: Open) -> None:
    small, large = _drafted(store), creation(1, total=LARGE, key="k")
    _only(store, small)
    assert not store.sweep(), "it may come to exist"
    rest = dict(list(large.requests.items())[500:])
    store.commit(Changes(requests=rest, jobs=large.jobs, completed=[1]))
    for current in both(store, open_store):
        with current.reading() as reader:
            assert reader.job_by_key("k") == large.jobs[1]
            assert reader.requests({"job": 1}) == list(large.requests.values())
            assert reader.items([1]) == large.items


@pytest.mark.parametrize("crashed", [False, True])
def test_of_a_draft_that_is_abandoned_nothing_is_left(store: Store, open_store: Open, crashed: bool) -> None:
    small = _drafted(store)
    before = store.size_bytes
    if crashed:
        store = open_store()
    else:
        store.commit(Changes(abandoned=creation(1, total=LARGE).jobs))
    _only(store, small)
    while store.sweep():
        _only(store, small)
    assert store.size_bytes < before, "nor of the place that it took"
    assert [job.id for job, _ in store.unfinished()] == [9]


# Look-ups, filters and pages


TEXTS = [
    *("a", "1", " 1", "1 ", "1.0", "null", "true", "a'b", 'a"b', "ä", "{}", "%", "%s"),
    *("a\nb", "é\n", "z\0", "\x01", "\ud800x\udfff", "\U0010ffff"),
]


def test_a_key_and_a_name_are_found_as_they_were_written(store: Store) -> None:
    fill(store, 100)
    for number, text in enumerate(TEXTS, 1):
        store.commit(creation(number, key=text, name=text))
    with store.reading() as reader:
        for number, text in enumerate(TEXTS, 1):
            found = reader.job_by_key(text)
            assert found, text
            assert (found.id, found.key, found.name) == (number, text, text)
            assert [job.id for job in reader.jobs({"name": text})] == [number]
        assert reader.job_by_key("A") is reader.job_by_key("") is None


def test_a_request_by_the_other_messages_it_went_out_as(store: Store) -> None:
    changes = creation(1)
    first, second, third = changes.requests.values()
    store.commit(replace(changes, sendings={first_of(1) + 900: second, first_of(1) + 901: second}))
    with store.reading() as reader:
        assert reader.sending(first_of(1) + 900) == reader.sending(first_of(1) + 901) == second.id
        assert [reader.sending(message) for message in (first.id, second.id, third.id, 5)] == [None] * 4
    store.commit(Changes(refused=[first_of(1) + 901, 7]))
    assert store.now.sending(first_of(1) + 901) is None, "nothing ran under it"
    assert store.now.sending(first_of(1) + 900) == second.id
    store.commit(Changes(deleted=changes.jobs))
    assert store.now.sending(first_of(1) + 900) is None


@pytest.fixture(scope="module")
def mixed(shared_store: Store) -> Store:
    """Ten jobs; odd ones ended, every third is "night".

    4 has a key, 5 alone the destination "cg-5000", 8 a failure.
    """
    for number in (3, 1, 10, 2, *range(4, 10)):
        key = "the Key 4" if number == 4 else None
        changes = creation(number, name="night" if number % 3 == 0 else None, key=key)
        if number % 2:
            changes.jobs[number] = as_ended(changes.jobs[number])
            changes.requests = {
                id_: replace(request, status=RequestStatus.RESOLVED, finished_at=LATER)
                for id_, request in changes.requests.items()
            }
        if number == 5:
            changes.requests[first_of(5)] = replace(changes.requests[first_of(5)], destination="cg-5000")
        if number == 8:
            changes.jobs[number] = replace(changes.jobs[number], counts=counts(pending=2, timeout=1))
        shared_store.commit(changes)
    return shared_store


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"status": ["resolved"]}, [9, 7, 5, 3, 1]),
        ({"status": ["resolved", "dispatching"]}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"status": ["paused"]}, []),
        ({"status": []}, []),
        ({"name": "night"}, [9, 6, 3]),
        ({"name": "nigh"}, []),
        ({"status": ["dispatching"], "name": "night"}, [6]),
        ({"destination": "cg-5000"}, [5]),
        ({"destination": "cg-0"}, [10, 9, 8, 7, 6, 4, 3, 2, 1]),
        ({"destination": "cg-1", "status": ["resolved"]}, [9, 7, 5, 3, 1]),
        ({"destination": "cg-1", "name": "night"}, [9, 6, 3]),
        ({"destination": "cg-1", "name": "night", "status": ["resolved"]}, [9, 3]),
        ({"destination": "nobody"}, []),
        ({"failed": True}, [8]),
        ({"failed": False, "name": "night"}, [9, 6, 3]),
        ({"failed": True, "status": "resolved"}, []),
        ({"text": "IGH"}, [9, 6, 3]),
        ({"text": "1"}, [10, 1]),
        ({"text": "key 4"}, [4]),
        ({"text": "/system/REB"}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"text": "%"}, []),
        ({"text": "igh", "status": ["resolved"]}, [9, 3]),
        ({"text": "igh", "destination": "cg-5000"}, []),
        ({"text": "5", "destination": "cg-5000"}, [5]),
    ],
)
def test_filters_of_jobs(mixed: Store, where: dict[str, Any], ids: list[int]) -> None:
    with mixed.reading() as reader:
        assert [job.id for job in reader.jobs(where)] == ids
        assert list(reader.job_ids(where)) == ids
        for limit, offset in ((2, 0), (2, 1), (None, 2), (2**62, 2), (None, len(ids)), (0, 0)):
            page = ids[offset:] if limit is None else ids[offset : offset + limit]
            assert [job.id for job in reader.jobs(where, limit=limit, offset=offset)] == page
        if not {"destination", "text", "failed"} & where.keys():
            assert reader.count_jobs(where) == len(ids)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ({}, 30),
        ({"job": 5}, 3),
        ({"job": 99}, 0),
        ({"status": ["resolved"]}, 15),
        ({"status": ["resolved", "pending"]}, 30),
        ({"status": ["sent"]}, 0),
        ({"destination": "cg-1"}, 10),
        ({"destination": "cg-5000"}, 1),
        ({"destination": "cg-0", "status": ["resolved"]}, 4),
        ({"job": 5, "destination": "cg-0"}, 0),
        ({"job": 4, "status": ["pending"], "destination": "cg-2"}, 1),
    ],
)
def test_filters_of_requests(mixed: Store, where: dict[str, Any], count: int) -> None:
    with mixed.reading() as reader:
        found = reader.requests(where)
        assert len(found) == reader.count_requests(where) == count
        assert list(reader.request_ids(where)) == [request.id for request in found]
        assert [request.id for request in found] == sorted(request.id for request in found)
        for request in found:
            assert request.job == where.get("job", request.job)
            assert request.status in where.get("status", RequestStatus)
            assert request.destination == where.get("destination", request.destination)
        for limit, offset in ((3, 1), (2, 0), (None, 1), (None, count), (0, 0)):
            page = found[offset:] if limit is None else found[offset : offset + limit]
            assert reader.requests(where, limit=limit, offset=offset) == page
            assert list(reader.request_ids(where, limit=limit, offset=offset)) == [one.id for one in page]


def test_requests_and_items_by_their_ids(store: Store) -> None:
    fill(store, 1, 2, 3)
    with store.reading() as reader:
        assert sorted(reader.items(iter([1, 3]))) == [first_of(1), first_of(3)]
        wanted = [5, first_of(1), first_of(1) + 2, first_of(2)]
        found, taken = reader.requests_within(wanted, 1_000_000)
        assert [request.id for request in found] == wanted[1:]
        assert found[0] == reader.request(first_of(1))
        assert taken == 4
        assert reader.items_by_id(iter([first_of(2), 5])) == reader.items([2])
        assert reader.items_within([5, first_of(2)], 1_000_000) == (reader.items([2]), 2)
        assert reader.items_by_id([]) == {}
        assert (reader.requests_within([], 1), reader.items_within([], 1)) == (([], 0), ({}, 0))


def test_much_is_read_part_by_part(store: Store) -> None:
    changes = creation(1, total=9)
    store.commit(changes)
    ids, found, parts = [5, *changes.requests], list[Request](), 0
    with store.reading() as reader:
        while ids:
            some, taken = reader.requests_within(ids, 200)
            assert taken >= 1
            found, ids, parts = found + some, ids[taken:], parts + 1
        items, taken = reader.items_within([5, first_of(1), first_of(1) + 8], 1)
    assert found == list(changes.requests.values())
    assert 2 < parts < 9
    assert (items, taken) == (changes.items, 2)


# Readers


def test_a_reader_sees_one_state_throughout_and_the_next_one_sees_the_commit(store: Store) -> None:
    fill(store, 1)
    with store.reading() as reader:
        assert len(reader.jobs({})) == 1
        store.commit(creation(2))
        assert len(reader.jobs({})) == 1
        assert reader.requests({"job": 2}) == []
        with store.reading() as later:
            assert [job.id for job in later.jobs({})] == [2, 1]
    with store.reading() as reader:
        assert [job.id for job in reader.jobs({})] == [2, 1]


def test_an_error_of_the_caller_passes_and_the_reader_is_used_again(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), store.reading():
            raise KeyError("mine")
    with store.reading() as reader:
        assert reader.jobs({}) == []


def test_a_store_that_is_closed_says_so(store: Store) -> None:
    fill(store, 1)
    store.close()
    verbs: list[Callable[[], object]] = [
        lambda: store.commit(creation(2)),
        lambda: list(store.unfinished()),
        lambda: store.now.job(1),
        lambda: store.now.job_by_key("k"),
        lambda: store.now.jobs({}),
        lambda: store.now.job_ids({}),
        lambda: store.now.count_jobs({}),
        lambda: store.now.request(first_of(1)),
        lambda: store.now.sending(first_of(1)),
        lambda: store.now.requests({}),
        lambda: store.now.request_ids({}),
        lambda: store.now.count_requests({}),
        lambda: store.now.requests_within([first_of(1)], 1),
        lambda: store.now.items([1]),
        lambda: store.now.items_by_id([first_of(1)]),
        lambda: store.now.items_within([first_of(1)], 1),
        store.sweep,
        lambda: store.look_on(Look(Keep(0, 0.0, 0), Now(0.0))),
        lambda: store.outlived(Look(Keep(0, 0.0, 0), Now(0.0))),
        lambda: store.size_bytes,
    ]
    for verb in verbs:
        with pytest.raises(StoreError):
            verb()


def test_threads_read_whole_commits_while_one_is_writing(store: Store) -> None:
    fill(store, 1)
    ends = threading.Event()

    def read() -> int:
        seen = 0
        while not ends.is_set():
            with store.reading() as reader:
                jobs = reader.jobs({})
                assert reader.count_requests({}) == 3 * len(jobs)
            assert len(jobs) >= seen
            seen = len(jobs)
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for number in range(2, 40):
                store.commit(creation(number))
        finally:
            ends.set()
        for reader in readers:
            assert 1 <= reader.result(WAIT_S) <= 39
