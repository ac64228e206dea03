"""What a process that leads tells of jobs, and what is heard of it where another one leads."""

from collections.abc import Iterator
from contextlib import closing
from threading import Event
from typing import Any

import pytest

from puppetmaster.events import Change, Hub, Kind, Mailbox
from puppetmaster.model.job import JobStatus
from puppetmaster.store.base import Changes
from puppetmaster.store.postgres import changes
from puppetmaster.store.postgres.orders import Asker
from puppetmaster.store.postgres.sessions import PAUSE_S
from puppetmaster.store.postgres.store import PostgresStore
from tests.desk import until
from tests.examples import a_job

WAIT_S = 30.0


@pytest.fixture
def leader(where: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(where)) as made:
        yield made


@pytest.fixture
def hub(leader: PostgresStore) -> Iterator[Hub]:
    """Of the one that leads."""
    hub = Hub()
    leader.serve(lambda asked: asked, hub)
    yield hub
    leader.end_serving()


class Heard:
    """Where another one leads."""

    def __init__(self, where: str) -> None:
        hub = Hub()
        self.mailbox: Mailbox = hub.subscribe()
        self.asker = Asker(where)
        self.asker.watch(hub)

    def close(self) -> None:
        self.asker.end_watching()
        self.asker.close()

    def next(self) -> Change:
        """The next change, of which there is one only."""
        taken = self.mailbox.take(WAIT_S)
        assert taken is not None
        (change,) = taken
        return change


@pytest.fixture
def heard(where: str, leader: PostgresStore) -> Iterator[Heard]:
    leader.commit(Changes(jobs={1: a_job(id=1)}))
    with closing(Heard(where)) as made:
        watcher = made.asker._watcher
        until(lambda: watcher is not None and watcher._last_id == 1, "it has read what there is")
        yield made


def test_a_change_is_told_with_its_requests(leader: PostgresStore, hub: Hub, heard: Heard) -> None:
    job = a_job(id=2, first=2**31 + 500)
    leader.commit(Changes(jobs={2: job}))
    hub.post([Change.of(Kind.CREATED, job, frozenset({2**31 + 500}))])
    assert heard.next() == Change.of(Kind.CREATED, job, frozenset({2**31 + 500}))
    assert hub.detailed
    named = [thread.name for thread in (*leader.threads, *heard.asker.threads)]
    assert named == ["pm-lead", "pm-orders", "pm-teller", "pm-changes"]


def test_a_job_that_is_gone_is_told_as_it_was(leader: PostgresStore, hub: Hub, heard: Heard) -> None:
    job = a_job(id=1)
    leader.commit(Changes(deleted={1: job}))
    hub.post([Change.of(Kind.DELETED, job)])
    assert heard.next() == Change.of(Kind.DELETED, job)


def test_what_a_former_leader_did_not_tell_is_read(leader: PostgresStore, heard: Heard, sql: Any) -> None:
    """It was killed between its commit and the next time of telling."""
    ended = a_job(id=1, status=JobStatus.CANCELED)
    leader.commit(Changes(jobs={1: ended}))
    leader.close()
    sql("UPDATE buses SET epoch = epoch + 1")
    assert heard.next() == Change(ended, ended=True, requests=None)


def test_who_takes_the_lead_reads_the_rest_itself(leader: PostgresStore, heard: Heard) -> None:
    created = a_job(id=2, first=2**31 + 500)
    leader.commit(Changes(jobs={2: created}, deleted={1: a_job(id=1)}))
    heard.asker.end_watching()
    taken = {change.job.id: change for change in heard.mailbox.take(WAIT_S) or []}
    assert taken == {1: Change(a_job(id=1), deleted=True), 2: Change(created, created=True, requests=None)}


def test_after_a_connection_that_broke_what_was_missed_is_read(
    leader: PostgresStore, heard: Heard, sql: Any
) -> None:
    job = a_job(id=1, status=JobStatus.PAUSED)
    leader.commit(Changes(jobs={1: job}))
    name = heard.asker._door.name
    sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'")
    assert heard.next() == Change(job, requests=None)


def test_what_was_told_and_swept_while_it_stood_still_is_read(
    leader: PostgresStore, heard: Heard, sql: Any
) -> None:
    ended = a_job(id=1, status=JobStatus.CANCELED)
    leader.commit(Changes(jobs={1: ended}))
    sql(  # in one transaction
        "INSERT INTO changes (epoch, doc) SELECT epoch, '[]' FROM buses, generate_series(1, 2);"
        "DELETE FROM changes WHERE seq < (SELECT max(seq) FROM changes); NOTIFY puppetmaster_changes"
    )
    assert heard.next() == Change(ended, ended=True, requests=None)


def test_a_leader_that_tells_nothing_is_rarely_listened_to_and_named_once(
    leader: PostgresStore,
    where: str,
    sql: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is of an earlier version, which has no such table. When it is brought up to date, it is heard."""
    waits: list[float | None] = []

    class Noting(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return super().wait(0.01)

    sql("ALTER TABLE changes RENAME TO gone")
    monkeypatch.setattr(changes, "Event", Noting)
    leader.commit(Changes(jobs={1: a_job(id=1)}))
    with closing(Heard(where)) as heard:
        until(lambda: len(waits) > 5, "it is listened to again and again")
        assert waits[:4] == [changes.EARLIER_S, PAUSE_S] * 2
        sql("ALTER TABLE gone RENAME TO changes")
        watcher = heard.asker._watcher
        until(lambda: watcher is not None and watcher._last_id == 1, "it has read what there is")
    said = [record.getMessage() for record in caplog.records if record.name == changes.log.name]
    assert [one for one in said if "tells no changes" in one] == [
        f"The puppetmaster that leads with {where} is an earlier version, and tells no changes: "
        "WebSockets of this one show none. Bring that one up to date."
    ]


def test_what_cannot_be_told_is_told_later(leader: PostgresStore, hub: Hub, heard: Heard, sql: Any) -> None:
    sql("ALTER TABLE changes RENAME TO gone")
    job = a_job(id=1, status=JobStatus.PAUSED)
    hub.post([Change.of(Kind.CHANGED, job, frozenset({2**31}))])
    teller = leader._teller
    until(lambda: teller is not None and teller._untold, "it could not be told")
    leader.commit(Changes(jobs={1: job}))
    sql("ALTER TABLE gone RENAME TO changes")
    change = heard.next()
    assert change.job == job
