"""What the file and its log take, and give back."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from puppetmaster.clock import seconds
from puppetmaster.errors import StoreError
from puppetmaster.model.request import RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, Changes, Keep, Look, Now
from puppetmaster.store.sqlite.documents import LOG_BYTES
from puppetmaster.store.sqlite.store import FILE_NAME, SWEEP, SqliteStore
from tests.examples import LATER, a_job, a_request
from tests.stored import as_ended, creation, first_of
from tests.unit.store.conftest import Open


def _size(store: SqliteStore) -> int:
    """Of the file, when all of the log is in it."""
    store._db.storage.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store.path.stat().st_size


def test_a_large_job_is_removed_in_parts_and_the_file_shrinks(store: SqliteStore, open_store: Open) -> None:
    total = 2 * SWEEP + 10
    large, small = creation(1, total=total, key="k"), creation(9)
    store.commit(replace(large, sendings={5: large.requests[first_of(1)]}, destinations=set()))
    store.commit(small)
    before = _size(store)
    store.commit(Changes(deleted=large.jobs))
    left = [total, total - SWEEP, 10, 0]
    for index, stored in enumerate(left):
        if index == 2:
            store = open_store()  # what was begun goes on after a restart
        assert len(store._db.table("requests")) == stored + 3
        if stored:
            assert store.sweep()
    while store.sweep():  # what became free is given back
        pass
    assert not store.sweep()
    assert store._db.storage.connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert _size(store) < before / 3


def test_several_small_jobs_go_at_once_up_to_a_part(store: SqliteStore) -> None:
    jobs = {}
    for number in range(1, 5):
        changes = creation(number, total=SWEEP // 3)
        store.commit(changes)
        jobs[number] = changes.jobs[number]
    store.commit(Changes(deleted=jobs))
    assert len(store._db.table("requests")) == SWEEP // 3
    assert store.now.count_requests({}) == 0
    assert store.sweep()
    assert len(store._db.table("requests")) == 0


def test_a_sweep_that_cannot_be_written_is_a_store_error(store: SqliteStore) -> None:
    changes = creation(1, total=SWEEP + 1)
    store.commit(changes)
    store.commit(Changes(deleted=changes.jobs))
    store._db.storage.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="cannot be written"):
        store.sweep()
    store._db.storage.connection.execute("PRAGMA query_only = OFF")
    assert store.sweep()


def _many_ended(store: SqliteStore, count: int) -> None:
    store.commit(Changes(jobs={id_: as_ended(a_job(id=id_)) for id_ in range(1, count + 1)}))


def test_a_look_reads_few_jobs_at_a_time(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _many_ended(store, 30)
    rows, steps = Counter[int](), 0
    read = store._db.storage.rows("jobs")._fetch

    def counted(*args: Any) -> list[tuple[Any, ...]]:
        found = read(*args)
        rows[steps] += len(found)
        return found

    monkeypatch.setattr(store._db.storage.rows("jobs"), "_fetch", counted)
    look = Look(Keep(jobs=28, age_s=float("inf"), bytes=2**62), Now(seconds(LATER)))
    look.at_once = 7
    while not look.complete:
        store.look_on(look)
        steps += 1
    assert list(rows.values()) == [7, 7, 7, 7, 2]
    assert list(store.outlived(look)) == [1, 2]
    assert rows[steps] == 1, "a number"


def test_the_log_does_not_grow_without_bound(store: SqliteStore) -> None:
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


def test_a_turn_in_which_nothing_is_drafted_does_not_touch_what_is_kept_of_drafts(store: SqliteStore) -> None:
    """Most turns are such: each statement more costs all of them."""
    store.commit(Changes(jobs={1: a_job()}, requests={FIRST_REQUEST_ID: a_request()}))
    statements: list[str] = []
    store._db.storage.connection.set_trace_callback(statements.append)
    store.commit(Changes(requests={FIRST_REQUEST_ID: a_request(status=RequestStatus.SENT)}))
    assert any("doc_requests" in statement for statement in statements)
    assert not [statement for statement in statements if "doc_trash" in statement]
