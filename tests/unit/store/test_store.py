"""What the engine and readers may rely on, whichever store keeps the jobs; then what is this file's own."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.clock import seconds
from puppetmaster.errors import StoreError
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import Request, RequestStatus
from puppetmaster.store.base import (
    FIRST_REQUEST_ID,
    FRESH_S,
    LAST_REQUEST_ID,
    PRUNED_AT_ONCE,
    PRUNED_REQUESTS,
    REQUEST_BYTES,
    Changes,
    Ids,
    Keep,
    Look,
    Now,
)
from puppetmaster.store.sqlite import migrations
from puppetmaster.store.sqlite.documents import LOG_BYTES, SqliteTinyDB
from puppetmaster.store.sqlite.migrations import FORMAT
from puppetmaster.store.sqlite.store import FILE_NAME, SWEEP, Store
from tests import ROOT
from tests.desk import FailingDisk
from tests.examples import AT, LATER, a_job, a_request, an_item, counts

WAIT_S = 30.0
Open = Callable[[], Store]


@pytest.fixture(params=[Store])
def implementation(request: pytest.FixtureRequest) -> Callable[[Path], Store]:
    """Every store there is: the contract is the same for each."""
    made: Callable[[Path], Store] = request.param
    return made


@pytest.fixture
def open_store(implementation: Callable[[Path], Store], tmp_path: Path) -> Iterator[Open]:
    """Open the store, again and again on the same data; what is still open at the end is closed."""
    opened: list[Store] = []

    def open_() -> Store:
        while opened:
            opened.pop().close()
        opened.append(implementation(tmp_path / "data"))
        return opened[-1]

    yield open_
    while opened:
        opened.pop().close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


def _first(number: int) -> int:
    """The id of the first request of job ``number``; each job of these tests has room for 1,000."""
    return FIRST_REQUEST_ID + number * 1000


def _whole(number: int, total: int = 3, **given: Any) -> Changes:
    """All that the creation of a job writes: the job, its item, its pending requests, the ids."""
    job = a_job(id=number, first=_first(number), total=total, **given)
    item = an_item(id=job.first, job=number)
    requests = [
        a_request(id=id_, job=number, item=item.id, destination=f"cg-{id_ - job.first}")
        for id_ in job.request_ids
    ]
    return Changes(
        jobs={number: job},
        items={item.id: item},
        requests={request.id: request for request in requests},
        ids=Ids(next_job=number + 1, next_request=_first(number) + total),
    )


def _fill(store: Store, *numbers: int) -> None:
    for number in numbers:
        store.commit(_whole(number))


def _ended(job: Job, status: JobStatus = JobStatus.RESOLVED) -> Job:
    return replace(job, status=status, finished_at=LATER, counts=counts(resolved=job.total))


def _everything(store: Store) -> tuple[list[Job], list[Request]]:
    with store.reading() as reader:
        return reader.jobs({}), reader.requests({})


# The contract: what was committed is there


def test_a_new_store_is_empty(store: Store) -> None:
    assert _everything(store) == ([], [])
    assert list(store.unfinished()) == []
    assert store.ids == Ids(next_job=1, next_request=2**31)
    assert (FIRST_REQUEST_ID, LAST_REQUEST_ID) == (2**31, 2**32 - 1)


def test_what_was_committed_is_read_at_once_and_after_a_restart(store: Store, open_store: Open) -> None:
    changes = _whole(1, name="night", key="k", timeout_s=1.5, given={"concurrency": 2})
    store.commit(changes)
    for restarted in (False, True):
        current = open_store() if restarted else store
        with current.reading() as reader:
            for reading in (reader, current.now):
                assert reading.job(1) == changes.jobs[1]
                assert reading.requests({}) == list(changes.requests.values())
                assert reading.items([1]) == changes.items
                assert [reading.request(id_) for id_ in changes.requests] == list(changes.requests.values())


def test_a_change_replaces_what_was(store: Store) -> None:
    changes = _whole(1)
    store.commit(changes)
    job = replace(changes.jobs[1], reason="paused by a request", status=JobStatus.PAUSED)
    sent = replace(
        changes.requests[_first(1)],
        status=RequestStatus.SENT,
        sent_at=AT,
        message=_first(1),
        attempts=1,
        route="remote",
    )
    store.commit(Changes(jobs={1: job}, requests={sent.id: sent}))
    with store.reading() as reader:
        assert reader.job(1) == job
        assert reader.requests({}) == [sent, *list(changes.requests.values())[1:]]
        assert reader.items([1]) == changes.items


def test_what_is_not_there_is_none(store: Store) -> None:
    _fill(store, 1)
    with store.reading() as reader:
        assert reader.job(2) is None
        assert reader.request(1) is None
        assert reader.sending(1) is None
        assert reader.job_by_key("k") is None
        assert reader.items([2]) == {}
        assert reader.items([]) == {}


def test_no_changes_are_no_changes(store: Store) -> None:
    assert not Changes()
    _fill(store, 1)
    before = _everything(store)
    store.commit(Changes())
    assert _everything(store) == before


@pytest.mark.parametrize("part", ["jobs", "items", "requests", "deleted", "ids"])
def test_any_part_makes_changes(part: str) -> None:
    given = Ids() if part == "ids" else {1: object()}
    assert Changes(**{part: given})  # type: ignore[arg-type]


# The contract: ids


def test_ids_are_kept(store: Store, open_store: Open) -> None:
    store.commit(Changes(ids=Ids(next_job=7, next_request=2**31 + 500)))
    assert store.ids == Ids(7, 2**31 + 500)
    assert open_store().ids == Ids(7, 2**31 + 500)


def test_changes_without_ids_leave_them(store: Store, open_store: Open) -> None:
    _fill(store, 1)
    store.commit(Changes(jobs={1: a_job(first=_first(1))}))
    assert store.ids == Ids(2, _first(1) + 3)
    assert open_store().ids == Ids(2, _first(1) + 3)


def test_ids_are_not_given_back_by_a_removal(store: Store, open_store: Open) -> None:
    changes = _whole(1)
    store.commit(changes)
    store.commit(Changes(deleted=changes.jobs))
    assert open_store().ids == Ids(2, _first(1) + 3)


def test_ids_that_somebody_holds_are_a_copy(store: Store) -> None:
    store.ids.next_job += 5
    assert store.ids == Ids()


def test_the_installation_has_one_name(store: Store, open_store: Open, tmp_path: Path) -> None:
    name = store.installation
    assert len(name) == 16
    assert int(name, 16) >= 0
    assert open_store().installation == name
    other = Store(tmp_path / "other")
    assert other.installation != name
    other.close()


# The contract: all or nothing


class _Refuses:
    """A job whose stored form cannot be made: the commit fails after everything else was written."""

    id = 9

    def document(self) -> dict[str, Any]:
        raise StoreError("not this one")


def test_a_turn_in_which_nothing_is_drafted_does_not_touch_what_is_kept_of_drafts(store: Store) -> None:
    """Most turns are such: each statement more costs all of them."""
    store.commit(Changes(jobs={1: a_job()}, requests={FIRST_REQUEST_ID: a_request()}))
    statements: list[str] = []
    store._db.storage.connection.set_trace_callback(statements.append)
    store.commit(Changes(requests={FIRST_REQUEST_ID: a_request(status=RequestStatus.SENT)}))
    assert any("doc_requests" in statement for statement in statements)
    assert not [statement for statement in statements if "doc_trash" in statement]


def test_a_commit_that_fails_leaves_nothing(store: Store, open_store: Open) -> None:
    _fill(store, 1)
    before, ids = _everything(store), store.ids
    changes = _whole(2)
    changes.jobs[9] = _Refuses()  # type: ignore[assignment]
    changes.deleted = {1: a_job()}
    with pytest.raises(StoreError):
        store.commit(changes)
    assert (_everything(store), store.ids) == (before, ids)
    store.commit(_whole(2))
    assert len(_everything(store)[0]) == 2
    assert len(_everything(open_store())[1]) == 6


def test_what_is_no_json_is_refused_as_a_whole(store: Store) -> None:
    changes = _whole(1)
    first = changes.requests[_first(1)]
    changes.requests[first.id] = replace(first, result={"code": float("nan")})
    with pytest.raises(ValueError):
        store.commit(changes)
    assert _everything(store) == ([], [])


def test_a_killed_process_leaves_whole_commits(tmp_path: Path) -> None:
    """Each commit of the child writes a job with its three requests; it is killed between its answers."""
    script = (
        "import sys, pathlib\n"
        "from puppetmaster.store.sqlite.store import Store\n"
        "from tests.unit.store.test_store import _whole\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "for number in range(1, 100000):\n"
        "    store.commit(_whole(number))\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as child:
        assert child.stdout
        told = 0
        while told < 20:
            told = int(child.stdout.readline())
        child.kill()
        told = int((child.stdout.read().split("\n")[:-1] or [str(told)])[-1])
    store = Store(tmp_path)
    jobs, requests = _everything(store)
    assert len(jobs) >= told
    assert len(requests) == 3 * len(jobs)
    assert store.ids.next_job == len(jobs) + 1
    store.close()


# The contract: what is unfinished


def test_unfinished_are_the_open_jobs_with_their_open_requests(store: Store, open_store: Open) -> None:
    _fill(store, *range(1, 9))
    with store.reading() as reader:
        jobs = {job.id: job for job in reader.jobs({})}
        first = {id_: reader.requests({"job": id_}) for id_ in jobs}
    statuses = dict(zip(jobs, reversed(JobStatus), strict=False))
    changed = {id_: replace(jobs[id_], status=status) for id_, status in statuses.items()}
    still_open = {id_: first[id_][0] for id_ in jobs}
    done = {id_: replace(first[id_][1], status=RequestStatus.TIMEOUT, finished_at=LATER) for id_ in jobs}
    sent = {
        id_: replace(
            first[id_][2],
            status=RequestStatus.SENT,
            sent_at=AT,
            message=first[id_][2].id,
            attempts=1,
            route="remote",
        )
        for id_ in jobs
    }
    requests = [*done.values(), *sent.values()]
    store.commit(Changes(jobs=changed, requests={request.id: request for request in requests}))
    found = list(open_store().unfinished())
    expected = {
        id_
        for id_ in jobs
        if statuses.get(id_, JobStatus.DISPATCHING)
        in (JobStatus.PENDING, JobStatus.DISPATCHING, JobStatus.PAUSED)
    }
    assert [job.id for job, _ in found] == sorted(expected)
    assert len(found) == 4
    for job, requests in found:
        assert job == changed.get(job.id, jobs[job.id])
        assert requests == [still_open[job.id], sent[job.id]]


@pytest.mark.parametrize("status", RequestStatus)
def test_a_request_of_each_status_is_open_or_not(store: Store, status: RequestStatus) -> None:
    changes = _whole(1, total=1)
    changes.requests[_first(1)] = replace(changes.requests[_first(1)], status=status)
    store.commit(changes)
    ((_, requests),) = store.unfinished()
    assert len(requests) == (status in ("pending", "sent"))


# The contract: removal


def test_a_removal_takes_the_job_with_all_that_is_its(store: Store, open_store: Open) -> None:
    _fill(store, 1, 2)
    with store.reading() as reader:
        job, kept = reader.job(1), reader.requests({"job": 2})
    assert job
    store.commit(Changes(deleted={1: job}))
    for restarted in (False, True):
        with (open_store() if restarted else store).reading() as reader:
            assert [job.id for job in reader.jobs({})] == [2]
            assert reader.requests({}) == kept
            assert reader.items([1]) == {}
            assert list(reader.items([2])) == [_first(2)]


def test_what_was_never_there_can_be_removed(store: Store) -> None:
    _fill(store, 1)
    store.commit(Changes(deleted={5: a_job(id=5)}))
    assert len(_everything(store)[0]) == 1


def test_one_commit_may_change_one_job_and_remove_another(store: Store) -> None:
    _fill(store, 1, 2)
    with store.reading() as reader:
        first, second = reader.job(1), reader.job(2)
    assert first
    assert second
    store.commit(Changes(jobs={2: _ended(second)}, deleted={1: first}))
    with store.reading() as reader:
        assert reader.jobs({}) == [_ended(second)]


# The contract: look-ups, filters and pages


def test_a_job_by_its_key(store: Store) -> None:
    for number, key in ((1, "a"), (2, "b"), (3, None)):
        store.commit(_whole(number, key=key))
    with store.reading() as reader:
        assert [job and job.id for job in (reader.job_by_key("a"), reader.job_by_key("b"))] == [1, 2]
        assert reader.job_by_key("A") is None
        assert reader.job_by_key("") is None


@pytest.mark.parametrize("key", ["1", "null", "true", "a'b", 'a"b', "ä", "{}", "%", "1.0"])
def test_a_key_is_found_as_it_was_written(store: Store, key: str) -> None:
    store.commit(_whole(1, key=key))
    store.commit(_whole(2, key=key + " "))
    found = store.now.job_by_key(key)
    assert found
    assert found.id == 1


def test_a_request_by_the_other_messages_it_went_out_as(store: Store) -> None:
    changes = _whole(1)
    first, second, third = changes.requests.values()
    store.commit(replace(changes, sendings={_first(1) + 900: second, _first(1) + 901: second}))
    with store.reading() as reader:
        assert reader.sending(_first(1) + 900) == reader.sending(_first(1) + 901) == second.id
        assert [reader.sending(message) for message in (first.id, second.id, third.id, 5)] == [None] * 4
    store.commit(Changes(refused=[_first(1) + 901]))
    assert store.now.sending(_first(1) + 900) == second.id
    assert store.now.sending(_first(1) + 901) is None, "it was not carried out: no answer is to come"
    store.commit(Changes(deleted=changes.jobs))
    assert store.now.sending(_first(1) + 900) is None


def test_jobs_come_newest_first_in_pages(store: Store) -> None:
    _fill(store, 3, 1, 10, 2)
    with store.reading() as reader:

        def page(**given: int) -> list[int]:
            return [job.id for job in reader.jobs({}, **given)]

        assert page() == [10, 3, 2, 1]
        assert page(limit=2) == [10, 3]
        assert page(limit=2, offset=1) == [3, 2]
        assert page(offset=3) == [1]
        assert page(offset=4) == page(limit=0) == []
        assert page(limit=2**62, offset=2) == [2, 1]


def test_requests_come_in_the_order_of_their_ids_in_pages(store: Store) -> None:
    _fill(store, 2, 1)
    with store.reading() as reader:

        def page(where: dict[str, Any], **given: int) -> list[int]:
            return [request.id for request in reader.requests(where, **given)]

        all_ids = [_first(job) + number for job in (1, 2) for number in range(3)]
        assert page({}) == all_ids
        assert page({}, limit=2, offset=2) == all_ids[2:4]
        assert page({}, limit=0) == page({}, offset=6) == []
        assert page({"job": 2}, offset=1) == all_ids[4:]


@pytest.fixture
def mixed(store: Store) -> Store:
    """Ten jobs; odd ones ended, every third is "night"; 4 has a key, 5 alone the destination "cg-5000"."""
    for number in range(1, 11):
        key = "the Key 4" if number == 4 else None
        changes = _whole(number, name="night" if number % 3 == 0 else None, key=key)
        if number % 2:
            changes.jobs[number] = _ended(changes.jobs[number])
            changes.requests = {
                id_: replace(request, status=RequestStatus.RESOLVED, finished_at=LATER)
                for id_, request in changes.requests.items()
            }
        if number == 5:
            changes.requests[_first(5)] = replace(changes.requests[_first(5)], destination="cg-5000")
        store.commit(changes)
    return store


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
        assert reader.job_ids(where) == ids
        assert [job.id for job in reader.jobs(where, limit=2, offset=1)] == ids[1:3]
        assert [job.id for job in reader.jobs(where, offset=2)] == ids[2:]
        assert reader.jobs(where, limit=0) == []
        if not {"destination", "text"} & where.keys():
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
        assert reader.request_ids(where) == [request.id for request in found]
        assert [request.id for request in found] == sorted(request.id for request in found)
        for request in found:
            assert request.job == where.get("job", request.job)
            assert request.status in where.get("status", RequestStatus)
            assert request.destination == where.get("destination", request.destination)
        assert reader.requests(where, limit=3, offset=1) == found[1:4]


def test_items_of_several_jobs(store: Store) -> None:
    _fill(store, 1, 2, 3)
    with store.reading() as reader:
        assert sorted(reader.items([1, 3])) == [_first(1), _first(3)]
        assert sorted(reader.items(iter([2]))) == [_first(2)]


def test_requests_and_items_by_their_ids(store: Store) -> None:
    _fill(store, 1, 2)
    with store.reading() as reader:
        wanted = [_first(2), 5, _first(1) + 2, _first(1), _first(2)]
        found = reader.requests_by_id(iter(wanted))
        assert [request.id for request in found] == [_first(1), _first(1) + 2, _first(2)]
        assert found[0] == reader.request(_first(1))
        assert reader.items_by_id(iter([_first(2), 5])) == reader.items([2])
        assert reader.requests_by_id([]) == []
        assert reader.items_by_id([]) == {}


# The contract: readers


def test_a_reader_sees_one_state_throughout_and_the_next_one_sees_the_commit(store: Store) -> None:
    _fill(store, 1)
    with store.reading() as reader:
        assert len(reader.jobs({})) == 1
        store.commit(_whole(2))
        assert len(reader.jobs({})) == 1
        assert reader.requests({"job": 2}) == []
        with store.reading() as later:
            assert [job.id for job in later.jobs({})] == [2, 1]
    with store.reading() as reader:
        assert [job.id for job in reader.jobs({})] == [2, 1]


def test_the_writer_reads_its_own_commits(store: Store) -> None:
    _fill(store, 1)
    assert [job.id for job in store.now.jobs({})] == [1]
    assert store.now.count_requests({"job": 1, "status": ["pending"]}) == 3


def test_an_error_of_the_caller_passes_and_the_reader_is_used_again(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), store.reading():
            raise KeyError("mine")
    with store.reading() as reader:
        assert reader.jobs({}) == []


def test_threads_read_whole_commits_while_one_is_writing(store: Store) -> None:
    _fill(store, 1)
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
                store.commit(_whole(number))
        finally:
            ends.set()
        for reader in readers:
            assert 1 <= reader.result(WAIT_S) <= 39


# This file's own: who may open it


def test_a_second_store_on_the_same_directory_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as refused:
        Store(tmp_path / "data")
    assert refused.value.message == (
        f"Another puppetmaster uses {tmp_path / 'data'}: stop it, or set PUPPETMASTER_DATA_DIR to another."
    )
    _fill(store, 1)
    assert len(_everything(store)[0]) == 1


def test_another_process_holds_the_directory_until_it_is_gone(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from puppetmaster.store.sqlite.store import Store\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="Another puppetmaster uses"):
            Store(tmp_path)
        child.kill()
    Store(tmp_path).close()


def test_closing_lets_the_next_one_in(open_store: Open) -> None:
    for _ in range(3):
        open_store()


def test_the_directory_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    assert store.path == tmp_path / "a" / "b" / FILE_NAME
    assert store.path.exists()
    store.close()


# This file's own: what cannot be opened is told in a sentence and left as it is


def _refused(data_dir: Path) -> StoreError:
    with pytest.raises(StoreError) as refused:
        Store(data_dir)
    assert str(data_dir) in refused.value.message
    assert refused.value.message.endswith(".")
    assert not refused.value.message.endswith("..")
    return refused.value


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The file of a store that was used and closed."""
    store = Store(tmp_path)
    _fill(store, 1, 2)
    store.close()
    return tmp_path / FILE_NAME


def _wreck_header(file: Path) -> None:
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])


def _wreck_pages(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * (file.stat().st_size - 4096))


def _replace_by_text(file: Path) -> None:
    file.write_text('{"jobs": {}}\n' * 1000)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [_wreck_header, _wreck_pages, _replace_by_text, _cut])
def test_a_damaged_file_is_refused_and_not_touched(closed: Path, damage: Callable[[Path], None]) -> None:
    damage(closed)
    before = closed.read_bytes()
    message = _refused(closed.parent).message
    assert message.startswith(f"{closed} is damaged (")
    assert message.endswith(
        "): move it away and start with an empty store, or put a copy of an earlier day or an import in its "
        "place; nothing was written to it."
    )
    assert closed.read_bytes() == before
    _refused(closed.parent)


def _meta(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with SqliteTinyDB(file) as db:
        meta = dict(db.table("meta").get(doc_id=1))
        change(meta)
        db.table("meta").put([(1, meta)])


def _rows(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 'doc_*'")]
    rows = [
        (name, connection.execute(f'SELECT * FROM "{name}" ORDER BY id').fetchall()) for name in sorted(names)
    ]
    connection.close()
    return rows


@pytest.mark.parametrize("found", [FORMAT + 1, 0, -1, True, "1", 1.5, None])
def test_another_format_is_refused_and_not_touched(closed: Path, found: Any) -> None:
    """Not even its indexes, which a newer version may have chosen otherwise."""
    with SqliteTinyDB(closed, indexes={"requests": [("item",)], "jobs": []}):
        _meta(closed, lambda meta: meta.update(format=found))
    before = closed.read_bytes()
    if found == FORMAT + 1:
        expected = f"and this version reads up to {FORMAT}: use the version that wrote it, or a newer one"
    else:
        expected = f"expected a number from 1 to {FORMAT}: it is no store of puppetmaster's; move it away"
    assert f"{closed} has format {found}{',' if 'number' in expected else ''} {expected}" in (
        _refused(closed.parent).message
    )
    assert closed.read_bytes() == before


def test_a_log_that_a_killed_process_left_of_a_newer_format_is_not_touched_either(closed: Path) -> None:
    with SqliteTinyDB(closed) as db:
        db.table("meta").update({"format": FORMAT + 1})
        left = {path.name: path.read_bytes() for path in closed.parent.iterdir()}
    assert b'"format":%d' % (FORMAT + 1) in left[f"{FILE_NAME}-wal"]
    for name, content in left.items():
        (closed.parent / name).write_bytes(content)
    assert f"has format {FORMAT + 1}" in _refused(closed.parent).message
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        assert (closed.parent / name).read_bytes() == left[name], name


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with SqliteTinyDB(tmp_path / FILE_NAME) as db:
        db.table("others").insert({"a": 1})
    before = (tmp_path / FILE_NAME).read_bytes()
    assert "it is no store of puppetmaster's" in _refused(tmp_path).message
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    store = Store(tmp_path)
    assert store.ids == Ids()
    store.close()


def test_a_file_that_names_no_format_is_refused(closed: Path) -> None:
    _meta(closed, lambda meta: meta.pop("format"))
    assert f"has format None, expected a number from 1 to {FORMAT}" in _refused(closed.parent).message


def test_what_was_refused_can_be_opened_when_it_is_repaired(closed: Path) -> None:
    whole = closed.read_bytes()
    _wreck_header(closed)
    _refused(closed.parent)
    closed.write_bytes(whole)
    store = Store(closed.parent)
    assert len(_everything(store)[0]) == 2
    store.close()


def test_a_document_that_is_no_json_is_told_as_a_store_error(closed: Path) -> None:
    connection = sqlite3.connect(closed, isolation_level=None)
    for (index,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall():
        connection.execute(f'DROP INDEX "{index}"')
    connection.execute("""UPDATE doc_items SET doc = '{"job":1,' WHERE id = ?""", (_first(1),))
    connection.close()
    store = None
    with pytest.raises(StoreError, match=str(closed)):
        store = Store(closed.parent)
    assert store is None


def test_a_stored_text_that_no_index_reads_is_told_as_a_store_error(store: Store) -> None:
    _fill(store, 1)
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute("UPDATE doc_meta SET doc = '{'")
    connection.close()
    path = store.path
    store.close()
    with pytest.raises(StoreError, match=str(path)):
        Store(path.parent)


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    _refused(tmp_path / "data")
    _refused(tmp_path / "data" / "below")


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert "Is a directory" in _refused(tmp_path).message
    (tmp_path / FILE_NAME).rmdir()
    Store(tmp_path).close()


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Root may write anywhere: be somebody else for the moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only_dir() -> Iterator[Path]:
    """A directory that everybody may look into and nobody but root may write, with a store's files in it."""
    data_dir = Path(tempfile.mkdtemp())
    store = Store(data_dir)
    _fill(store, 1)
    store.close()
    for file in data_dir.iterdir():
        file.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    data_dir.chmod(0o555)
    yield data_dir
    data_dir.chmod(0o755)
    shutil.rmtree(data_dir)


def test_a_directory_that_cannot_be_written(read_only_dir: Path) -> None:
    before = (read_only_dir / FILE_NAME).read_bytes()
    with _unprivileged():
        message = _refused(read_only_dir).message
        _refused(read_only_dir / "below")
    assert message.startswith(f"{read_only_dir} cannot be used: ")
    assert "Permission denied" in message
    assert (read_only_dir / FILE_NAME).read_bytes() == before


# This file's own: errors of SQLite are store errors


@contextmanager
def _full_disk(store: Store) -> Iterator[None]:
    """Let the file of this store not grow any more, as on a full disk."""
    connection = store._db.storage.connection
    connection.execute("PRAGMA max_page_count = 1")
    try:
        yield
    finally:
        connection.execute("PRAGMA max_page_count = 1073741823")


def test_a_full_disk_is_a_store_error_and_writes_nothing(store: Store, open_store: Open) -> None:
    _fill(store, 1)
    before, ids = _everything(store), store.ids
    with _full_disk(store):
        for _ in range(2):
            with pytest.raises(StoreError) as refused:
                store.commit(_whole(2, total=500))
            assert refused.value.message.startswith(f"{store.path} cannot be written: ")
            assert "full" in refused.value.message
            assert refused.value.status == 503
            assert isinstance(refused.value.__cause__, sqlite3.Error)
            assert (_everything(store), store.ids) == (before, ids)
    store.commit(_whole(2, total=500))
    assert len(_everything(open_store())[1]) == 503


def test_after_the_close_everything_is_a_store_error(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError) as refused:
        store.commit(_whole(1))
    assert refused.value.message == f"{store.path} cannot be written: Cannot operate on a closed database."
    with pytest.raises(StoreError, match="cannot be read"):
        list(store.unfinished())


def test_a_file_that_went_away_is_a_store_error(store: Store) -> None:
    store.path.unlink()
    with pytest.raises(StoreError, match="cannot be read"), store.reading():
        pass


def test_an_odd_document_does_not_break_the_reading_of_others(store: Store) -> None:
    changes = _whole(1)
    item = an_item(id=_first(1), data={"a": "\ud800\0", "n": 2**80, "deep": [[[]]], "é": 0.1})
    request = replace(
        changes.requests[_first(1)], result={"code": 200, "data": "\0\udfff", "source": "device"}
    )
    store.commit(replace(changes, items={item.id: item}, requests={request.id: request}))
    with store.reading() as reader:
        assert reader.items([1]) == {item.id: item}
        assert reader.request(request.id) == request


def test_a_reader_that_comes_back_after_the_close_is_closed(store: Store) -> None:
    with store.reading() as reader:
        store.close()
    assert store._spare.empty()
    with pytest.raises(sqlite3.ProgrammingError):
        reader.job(1)


def test_a_close_that_the_disk_does_not_confirm_is_a_store_error(open_store: Open) -> None:
    store = open_store()
    _fill(store, 1)
    disk = FailingDisk(store)
    disk.error = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(StoreError, match="cannot be written: disk I/O error"):
        store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        disk.execute("SELECT 1")
    disk.error = None
    assert len(_everything(open_store())[0]) == 1


@pytest.mark.parametrize(
    ("table", "lacks", "said"),
    [
        ("jobs", "first", r"job 1 cannot be read \(KeyError: 'first'\): it was changed"),
        ("items", "method", rf"item {_first(1)} cannot be read \(TypeError: .*'method'"),
        ("requests", "destination", rf"request {_first(1)} cannot be read \(KeyError: 'destination'"),
    ],
)
def test_a_document_that_lacks_a_field_is_told_as_a_store_error(
    store: Store, table: str, lacks: str, said: str
) -> None:
    _fill(store, 1)
    id_ = 1 if table == "jobs" else _first(1)
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE doc_{table} SET doc = json_remove(doc, '$.{lacks}') WHERE id = {id_}")
    connection.close()
    look: Callable[[Any], Any] = getattr(store.now, table)
    with pytest.raises(StoreError, match=said):
        look([1] if table == "items" else {})


@pytest.mark.parametrize("field", ["installation", "nextJob", "nextRequest"])
def test_a_file_whose_meta_lacks_a_field_is_refused(closed: Path, field: str) -> None:
    _meta(closed, lambda meta: meta.pop(field))
    assert f"lacks {field} in its meta document" in _refused(closed.parent).message


# This file's own: a file of an older format


def _format_1(data_dir: Path) -> Path:
    """A store as format 1 had it, made by hand: its indexes, and jobs without waves."""
    file = data_dir / FILE_NAME
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for name in ("jobs", "items", "requests", "meta"):
        connection.execute(f"CREATE TABLE doc_{name} (id INTEGER PRIMARY KEY, doc TEXT NOT NULL)")
    for fields in (("job", "status"), ("destination",), ("status",), ("message",)):
        columns = ", ".join(f"json_extract(doc, '$.{field}')" for field in fields)
        connection.execute(f'CREATE INDEX "index_requests.{".".join(fields)}" ON doc_requests ({columns})')
    job = a_job().document()
    for field in ("startAt", "wave", "waveErrors", "gate"):
        del job[field]
    job.update(concurrency=5, idempotent=True, given={"concurrency": 5, "idempotent": True})
    request = {"job": 1, "item": _first(0), "destination": "cg-0", "status": "sent", "sentAt": AT}
    meta = {"format": 1, "installation": "0123456789abcdef", "nextJob": 2, "nextRequest": _first(0) + 1003}
    for name, id_, document in [
        ("meta", 1, meta),
        ("jobs", 1, job),
        ("items", _first(0), an_item().document()),
        ("requests", _first(0), {**request, "attempts": 1}),
        ("requests", _first(0) + 1, {**request, "attempts": 2, "message": _first(1) + 2}),
        ("requests", _first(0) + 2, {**request, "status": "pending"}),
    ]:
        connection.execute(f"INSERT INTO doc_{name} VALUES (?, ?)", (id_, json.dumps(document)))
    connection.close()
    return file


def test_a_store_of_format_1_is_brought_up_to_date(tmp_path: Path) -> None:
    file = _format_1(tmp_path)
    for _ in range(2):
        store = Store(tmp_path)
        assert (store.installation, store.ids) == ("0123456789abcdef", Ids(2, _first(1) + 3))
        ((job, requests),) = store.unfinished()
        assert job == a_job(given={"concurrency": 5, "idempotent": True})
        assert [request.sending for request in requests] == [_first(0), _first(1) + 2, _first(0) + 2]
        assert store.now.sending(_first(1) + 2) == _first(0) + 1
        assert store.now.sending(_first(0)) is None
        store.close()
    with SqliteTinyDB(file) as db:
        assert db.table("meta").get(doc_id=1)["format"] == FORMAT
    connection = sqlite3.connect(file)
    indexes = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'doc_requests' ORDER BY name"
    ).fetchall()
    connection.close()
    assert indexes == [("fixed_requests.destination",), ("index_requests.status.job",)]


def test_a_migration_that_fails_leaves_the_old_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _format_1(tmp_path)
    before = _rows(file)

    def fails(db: SqliteTinyDB) -> None:
        db.table("jobs").truncate()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setitem(migrations.MIGRATIONS, 1, fails)
        assert "database or disk is full" in _refused(tmp_path).message
    assert [row for row in _rows(file) if row[1]] == before
    Store(tmp_path).close()


def test_there_is_a_step_from_every_format() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, FORMAT))


# This file's own: a large job goes in parts


def test_a_large_job_is_removed_in_parts_and_hidden_at_once(store: Store, open_store: Open) -> None:
    total = 2 * SWEEP + 10
    large, small = _whole(1, total=total, key="k"), _whole(9)
    store.commit(replace(large, sendings={5: large.requests[_first(1)]}))
    store.commit(small)
    store.commit(Changes(deleted=large.jobs))
    left = [total, total - SWEEP, 10, 0]
    for index, stored in enumerate(left):
        if index == 2:
            store = open_store()  # what was begun goes on after a restart
        assert len(store._db.table("requests")) == stored + 3
        with store.reading() as reading:
            for reader in (reading, store.now):
                assert [job.id for job in reader.jobs({})] == [9]
                assert [job.id for job in reader.jobs({"destination": "cg-0"})] == [9]
                assert reader.job_by_key("k") is None
                assert reader.sending(5) is None
                assert reader.items([1, 9]) == small.items
                assert reader.request(large.jobs[1].request_ids[-1]) is None
                assert reader.requests_by_id(large.jobs[1].request_ids) == []
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
        if stored:
            assert store.sweep()
    while store.sweep():  # what became free is given back
        pass
    assert not store.sweep()
    assert store._db.storage.connection.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_several_small_jobs_go_at_once_up_to_a_part(store: Store) -> None:
    jobs = {}
    for number in range(1, 5):
        changes = _whole(number, total=SWEEP // 3)
        store.commit(changes)
        jobs[number] = changes.jobs[number]
    store.commit(Changes(deleted=jobs))
    assert len(store._db.table("requests")) == SWEEP // 3
    assert store.now.count_requests({}) == 0
    assert store.sweep()
    assert len(store._db.table("requests")) == 0


def test_the_file_shrinks_when_a_job_is_swept(store: Store) -> None:
    changes = _whole(1, total=5000)
    store.commit(changes)
    store._db.storage.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = store.path.stat().st_size
    store.commit(Changes(deleted=changes.jobs))
    while store.sweep():
        pass
    store._db.storage.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.path.stat().st_size < before / 5


def test_a_sweep_that_cannot_be_written_is_a_store_error(store: Store) -> None:
    changes = _whole(1, total=SWEEP + 1)
    store.commit(changes)
    store.commit(Changes(deleted=changes.jobs))
    store._db.storage.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="cannot be written"):
        store.sweep()
    store._db.storage.connection.execute("PRAGMA query_only = OFF")
    assert store.sweep()


# This file's own: what need not be kept

ALL = Keep(jobs=2**62, age_s=float("inf"), bytes=2**62)
DAY_S = 86400.0


@pytest.fixture
def kept(store: Store) -> Store:
    """Jobs 1 to 6: 3 is open, the others ended on the 1st to the 6th of January."""
    for number in range(1, 7):
        changes = _whole(number)
        if number != 3:
            ended = replace(_ended(changes.jobs[number]), finished_at=f"2026-01-0{number}T00:00:00.000Z")
            changes.jobs[number] = ended
        store.commit(changes)
    return store


def _at(day: int, later_s: float = 0.0) -> Now:
    return Now(seconds(f"2026-01-{day:02}T00:00:00.000Z") + later_s)


def _looked(store: Store, keep: Keep, now: Now) -> Look:
    look = Look(keep, now)
    while not look.complete:
        store.look_on(look)
    return look


def _outlived(store: Store, keep: Keep, now: Now) -> dict[int, str]:
    """What the first part of a look finds."""
    return store.outlived(_looked(store, keep, now))


@pytest.mark.parametrize(
    ("keep", "day", "gone"),
    [
        (ALL, 31, []),
        (replace(ALL, jobs=5), 6, []),
        (replace(ALL, jobs=3), 6, [1, 2]),
        (replace(ALL, jobs=0), 6, [1, 2, 4, 5, 6]),
        (replace(ALL, age_s=2 * DAY_S), 6, [1, 2]),
        (replace(ALL, age_s=0), 31, [1, 2, 4, 5, 6]),
        (replace(ALL, age_s=0), 1, []),
        (replace(ALL, bytes=1), 7, [1, 2, 4, 5, 6]),
        (replace(ALL, jobs=4, age_s=2.5 * DAY_S), 6, [1, 2]),
    ],
)
def test_what_is_outlived(kept: Store, keep: Keep, day: int, gone: list[int]) -> None:
    assert list(_outlived(kept, keep, _at(day))) == gone


def test_no_more_bytes_are_removed_than_need_be(kept: Store) -> None:
    size = kept.size_bytes
    for bytes_, gone in ((size, []), (size - 1, [1]), (size - 3 * REQUEST_BYTES - 1, [1, 2])):
        assert list(_outlived(kept, replace(ALL, bytes=bytes_), _at(6))) == gone


def test_what_has_just_ended_is_kept_whatever_its_size(kept: Store) -> None:
    keep = replace(ALL, bytes=1)
    assert list(_outlived(kept, keep, _at(6, FRESH_S))) == [1, 2, 4, 5]
    assert list(_outlived(kept, keep, _at(6, FRESH_S + 1))) == [1, 2, 4, 5, 6]
    assert list(_outlived(kept, replace(keep, jobs=0), _at(6))) == [1, 2, 4, 5, 6], "a number is a number"


def test_those_that_ended_first_go_first_whenever_they_were_created(store: Store) -> None:
    for number, day in ((1, 9), (2, 3), (3, 5)):
        changes = _whole(number)
        ended = replace(_ended(changes.jobs[number]), finished_at=f"2026-01-0{day}T00:00:00.000Z")
        store.commit(Changes(jobs={number: ended}))
    assert list(_outlived(store, replace(ALL, jobs=1), _at(31))) == [2, 3]
    assert list(_outlived(store, replace(ALL, age_s=24 * DAY_S), _at(31))) == [2, 3]


def test_jobs_of_unknown_age_keep_no_others(store: Store) -> None:
    """A gateway without a battery wakes up in 1970."""
    for number in range(1, PRUNED_AT_ONCE + 6):
        day = f"1970-01-01T00:00:{number:02}.000Z" if number <= PRUNED_AT_ONCE else "2026-01-01T00:00:00.000Z"
        job = replace(_ended(_whole(number).jobs[number]), finished_at=day)
        store.commit(Changes(jobs={number: job}))
    keep = replace(ALL, age_s=DAY_S)
    assert list(_outlived(store, keep, _at(9))) == list(range(PRUNED_AT_ONCE + 1, PRUNED_AT_ONCE + 6))
    assert len(_outlived(store, replace(ALL, jobs=0), _at(9))) == PRUNED_AT_ONCE


def test_it_is_said_why(kept: Store) -> None:
    whys = set(_outlived(kept, Keep(jobs=4, age_s=3.5 * DAY_S, bytes=1), _at(6)).values())
    assert whys == {"there are more", "they are older", "the store is larger"}


def test_what_is_thrown_away_but_not_swept_does_not_count_as_too_large(store: Store) -> None:
    for number in (1, 5):
        changes = _whole(number, total=SWEEP + 1)
        changes.jobs[number] = _ended(changes.jobs[number])
        store.commit(changes)
    keep = replace(ALL, bytes=store.size_bytes - 1)
    assert list(_outlived(store, keep, _at(6))) == [1]
    store.commit(Changes(deleted={1: a_job(first=_first(1), total=SWEEP + 1)}))
    assert not _outlived(store, keep, _at(6))
    while store.sweep():
        pass
    assert not _outlived(store, keep, _at(6))
    assert store.size_bytes <= keep.bytes


def test_a_job_that_is_larger_than_what_goes_at_once_goes_alone(store: Store) -> None:
    jobs = [_ended(a_job(id=number, total=PRUNED_REQUESTS + 1)) for number in (1, 2)]
    store.commit(Changes(jobs={job.id: job for job in jobs}))
    assert list(_outlived(store, replace(ALL, jobs=0), _at(9))) == [1]


def test_large_jobs_are_pruned_few_at_a_time(store: Store) -> None:
    for number in range(1, 4):
        job = _ended(a_job(id=number, total=PRUNED_REQUESTS // 2 + number))
        store.commit(Changes(jobs={number: job}))
    assert list(_outlived(store, replace(ALL, jobs=0), _at(6))) == [1]
    store.commit(Changes(jobs={1: _ended(a_job(id=1, total=PRUNED_REQUESTS // 2 - 3))}))
    assert list(_outlived(store, replace(ALL, jobs=0), _at(6))) == [1, 2]


def test_many_jobs_are_pruned_few_at_a_time(store: Store) -> None:
    store.commit(Changes(jobs={id_: _ended(a_job(id=id_)) for id_ in range(1, PRUNED_AT_ONCE + 9)}))
    gone = _outlived(store, replace(ALL, jobs=0), _at(6))
    assert list(gone) == list(range(1, PRUNED_AT_ONCE + 1))


def _many_ended(store: Store, count: int) -> None:
    store.commit(Changes(jobs={id_: _ended(a_job(id=id_)) for id_ in range(1, count + 1)}))


def test_a_look_reads_few_jobs_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puppetmaster.store.sqlite.store.PART", 7)
    _many_ended(store, 30)
    rows, steps = Counter[int](), 0
    read = store._db.storage.rows("jobs")._fetch

    def counted(*args: Any) -> list[tuple[Any, ...]]:
        found = read(*args)
        rows[steps] += len(found)
        return found

    monkeypatch.setattr(store._db.storage.rows("jobs"), "_fetch", counted)
    look = Look(replace(ALL, jobs=28), _at(6))
    while not look.complete:
        store.look_on(look)
        steps += 1
    assert list(rows.values()) == [7, 7, 7, 7, 2]
    assert list(store.outlived(look)) == [1, 2]
    assert rows[steps] == 1, "a number"


def test_what_a_look_has_found_is_not_read_again_for_each_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _many_ended(store, 3 * PRUNED_AT_ONCE)
    look = _looked(store, replace(ALL, jobs=3), _at(6))
    monkeypatch.setattr(store, "look_on", None)
    sizes, gone = list[int](), list[int]()
    while part := store.outlived(look):
        store.commit(Changes(deleted={id_: _ended(a_job(id=id_)) for id_ in part}))
        sizes.append(len(part))
        gone += part
    assert sizes == [PRUNED_AT_ONCE, PRUNED_AT_ONCE, PRUNED_AT_ONCE - 3]
    assert gone == list(range(1, 3 * PRUNED_AT_ONCE - 2))
    assert look.over
    assert look.gone == {"there are more": 3 * PRUNED_AT_ONCE - 3}


def test_a_look_remembers_so_many_and_the_next_one_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puppetmaster.store.sqlite.store.PART", 3)
    monkeypatch.setattr("puppetmaster.store.base.MOST", 4)
    for number in range(1, 12):  # the last to be created ended first
        _end(store, number, f"2026-01-{20 - number:02}T00:00:00.000Z")
    gone: list[list[int]] = []
    more = True
    while more:
        look = _looked(store, replace(ALL, jobs=2), _at(31))
        gone.append(list(store.outlived(look)))
        store.commit(Changes(deleted={id_: _ended(_whole(id_).jobs[id_]) for id_ in gone[-1]}))
        more = look.has_more
    assert gone == [[11, 10, 9, 8], [7, 6, 5, 4], [3]]


def test_jobs_of_unknown_age_do_not_fill_a_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puppetmaster.store.base.MOST", 4)
    for number in range(1, 8):
        _end(store, number, f"1970-01-01T00:00:{number:02}.000Z")
    _end(store, 8, "2026-01-01T00:00:00.000Z")
    assert _outlived(store, replace(ALL, age_s=DAY_S), _at(9)) == {8: "they are older"}


def test_no_more_go_than_are_too_many_when_somebody_removes_some_meanwhile(store: Store) -> None:
    _many_ended(store, 10)
    look = _looked(store, replace(ALL, jobs=5), _at(6))
    store.commit(Changes(deleted={id_: _ended(a_job(id=id_)) for id_ in (7, 8, 9)}))
    assert list(store.outlived(look)) == [1, 2]


# This file's own: the log beside the file


def test_the_log_does_not_grow_without_bound(store: Store) -> None:
    log_file = store.path.with_name(f"{FILE_NAME}-wal")

    def commit(number: int, total: int) -> None:
        ids = range(FIRST_REQUEST_ID + number * 50_000, FIRST_REQUEST_ID + number * 50_000 + total)
        requests = {id_: a_request(id=id_, job=number, destination=f"{id_}{'-' * 300}") for id_ in ids}
        store.commit(Changes(requests=requests))

    for number in range(25):  # nearly 1 MB each
        commit(number, 1000)
        assert log_file.stat().st_size <= LOG_BYTES
    commit(50, 20_000)
    assert log_file.stat().st_size > LOG_BYTES
    commit(51, 1)
    assert log_file.stat().st_size <= LOG_BYTES


def test_what_ended_before_the_clock_was_set_has_no_age(kept: Store) -> None:
    """A gateway without a battery wakes up in 1970, and learns the time later."""
    job = kept.now.job(1)
    assert job is not None
    kept.commit(Changes(jobs={1: replace(job, finished_at="1970-01-01T00:05:00.000Z")}))
    assert 1 not in _outlived(kept, replace(ALL, age_s=1), _at(6))


def _end(store: Store, number: int, finished_at: str, boot: str = "", ended_s: float | None = None) -> None:
    job = _ended(_whole(number).jobs[number])
    ended = replace(job, finished_at=finished_at, ended_boot=boot, ended_s=ended_s)
    store.commit(Changes(jobs={number: ended}))


@pytest.mark.parametrize(("boot", "gone"), [("this", []), ("another", [1])])
def test_the_age_of_what_ended_since_the_start_of_the_machine_is_not_by_the_walls_clock(
    store: Store, boot: str, gone: list[int]
) -> None:
    """The clock was two months behind when it ended, and was set since."""
    _end(store, 1, "2026-01-01T00:00:00.000Z", boot, 1000.0)
    now = Now(_at(1, 60 * DAY_S).wall_s, boot="this", now_s=1060.0)
    assert list(_outlived(store, replace(ALL, age_s=30 * DAY_S), now)) == gone
    assert list(_outlived(store, replace(ALL, age_s=59), now)) == [1]
    assert list(_outlived(store, replace(ALL, bytes=1), now)) == gone, "it is as fresh as that"


def test_nothing_is_too_old_while_the_clock_may_be_set_again(store: Store) -> None:
    _end(store, 1, "2026-01-01T00:00:00.000Z", "another", 1000.0)
    keep = replace(ALL, age_s=DAY_S)
    assert list(_outlived(store, keep, replace(_at(31), steady=False))) == []
    assert list(_outlived(store, keep, _at(31))) == [1]
    assert list(_outlived(store, replace(ALL, jobs=0), replace(_at(31), steady=False))) == [1]


def test_what_ended_since_the_start_of_the_machine_ended_last(store: Store) -> None:
    _end(store, 1, "2026-01-01T00:00:00.000Z", "this", 70.0)
    _end(store, 2, "2026-01-02T00:00:00.000Z", "this", 50.0)
    _end(store, 3, "2026-03-01T00:00:00.000Z", "another", 90.0)
    _end(store, 4, "1970-01-01T00:00:00.000Z")
    for keep, gone in ((3, [4]), (2, [4, 3]), (1, [4, 3, 2])):
        now = Now(_at(31).wall_s, boot="this", now_s=100.0)
        assert list(_outlived(store, replace(ALL, jobs=keep), now)) == gone
