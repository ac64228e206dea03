"""A mailbox keeps the latest of each job and every mark, blocks nobody, and can be waited on."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.events import MOST_REQUESTS, Change, Hub, Kind, Mailbox
from tests.examples import a_job

WAIT_S = 30.0


def _change(kind: str, id_: int = 1, **given: Any) -> Change:
    return Change.of(Kind(kind), a_job(id=id_, **given))


@pytest.mark.parametrize(
    ("kind", "marks"),
    [
        ("created", (True, False, False)),
        ("changed", (False, False, False)),
        ("ended", (False, True, False)),
        ("deleted", (False, False, True)),
    ],
)
def test_a_change_of_each_kind(kind: str, marks: tuple[bool, bool, bool]) -> None:
    change = _change(kind)
    assert (change.created, change.ended, change.deleted) == marks
    assert change.job == a_job()
    assert Change(a_job()) == _change("changed")


@given(
    st.lists(st.sampled_from(["created", "changed", "ended"]), min_size=1),
    st.sampled_from(["changed", "deleted"]),
)
def test_merging_keeps_every_mark_and_the_last_job(kinds: list[str], last: str) -> None:
    changes = [_change(kind, name=str(number)) for number, kind in enumerate([*kinds, last])]
    merged = changes[0]
    for change in changes[1:]:
        merged = merged.merged(change)
    assert merged.job == changes[-1].job
    assert merged.created == ("created" in kinds)
    assert merged.ended == ("ended" in kinds)
    assert merged.deleted == (last == "deleted")


def _of_requests(ids: Any) -> Change:
    return Change.of(Kind.CHANGED, a_job(), ids)


def test_merging_gathers_the_requests_that_changed() -> None:
    assert Change.of(Kind.CHANGED, a_job()).requests == frozenset()
    merged = _of_requests(frozenset({1, 2})).merged(_of_requests(frozenset({2, 3})))
    assert merged.requests == frozenset({1, 2, 3})


def test_too_many_requests_are_not_listed_one_by_one() -> None:
    most = frozenset(range(MOST_REQUESTS))
    assert _of_requests(most).merged(_of_requests(frozenset({0}))).requests == most
    assert _of_requests(most).merged(_of_requests(frozenset({MOST_REQUESTS}))).requests is None
    assert _of_requests(None).merged(_of_requests(frozenset({1}))).requests is None
    assert _of_requests(frozenset({1})).merged(_of_requests(None)).requests is None


def test_changes_of_one_job_are_merged_and_of_two_are_not() -> None:
    mailbox = Mailbox()
    mailbox.post(_change("created", 1, name="first"))
    mailbox.post(_change("created", 2))
    mailbox.post(_change("changed", 1, name="second"))
    taken = mailbox.take(0)
    assert taken == [Change(a_job(id=1, name="second"), created=True), Change(a_job(id=2), created=True)]
    assert mailbox.take(0) == []
    mailbox.post(_change("changed"))
    assert mailbox.take(0) == [_change("changed")], "what was read is not told again"


def test_memory_is_bounded_by_the_jobs() -> None:
    mailbox = Mailbox()
    for number in range(1000):
        mailbox.post(_change("changed", 1 + number % 3, name=str(number)))
    taken = mailbox.take(0)
    assert taken is not None
    assert {change.job.id: change.job.name for change in taken} == {1: "999", 2: "997", 3: "998"}


def test_the_time_is_over() -> None:
    assert Mailbox().take(0) == []
    assert Mailbox().take(0.001) == []


def test_closed_is_told_after_what_is_unread() -> None:
    mailbox = Mailbox()
    mailbox.post(_change("ended"))
    mailbox.close()
    assert mailbox.take() == [_change("ended")]
    assert mailbox.take() is None
    assert mailbox.take(0) is None


def test_a_waiting_reader_is_woken_by_a_change() -> None:
    mailbox = Mailbox()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(mailbox.take, WAIT_S)
        mailbox.post(_change("changed"))
        assert reader.result(WAIT_S) == [_change("changed")]


def test_every_waiting_reader_is_woken_by_the_close() -> None:
    mailbox = Mailbox()
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(mailbox.take) for _ in range(3)]
        mailbox.close()
        assert [reader.result(WAIT_S) for reader in readers] == [None, None, None]


def test_a_waiting_reader_can_be_woken_without_a_change() -> None:
    mailbox = Mailbox()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(mailbox.take)
        mailbox.wake()
        assert reader.result(WAIT_S) == []
    mailbox.wake()
    mailbox.post(_change("changed"))
    assert mailbox.take() == [_change("changed")]
    assert mailbox.take(0) == []


def test_a_reader_that_was_woken_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox()
    waits: list[float | None] = []
    monkeypatch.setattr(mailbox._condition, "wait", waits.append)
    mailbox.wake()
    mailbox.take(5)
    assert waits == []
    mailbox.take(7)
    assert waits == [7]


def test_nothing_is_lost_between_threads() -> None:
    mailbox = Mailbox()
    seen: dict[int, str | None] = {}
    created: list[int] = []

    def read() -> None:
        while (changes := mailbox.take()) is not None:
            for change in changes:
                seen[change.job.id] = change.job.name
                created.extend([change.job.id] * change.created)

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    for id_ in range(1, 51):
        mailbox.post(_change("created", id_))
        for number in range(20):
            mailbox.post(_change("changed", id_, name=str(number)))
    mailbox.close()
    reader.join(WAIT_S)
    assert not reader.is_alive()
    assert seen == dict.fromkeys(range(1, 51), "19")
    assert sorted(created) == list(range(1, 51))


def test_every_mailbox_gets_every_change_from_its_subscription_on() -> None:
    hub = Hub()
    hub.post([_change("created", 1)])
    early = hub.subscribe()
    hub.post([_change("created", 2), _change("created", 3)])
    late = hub.subscribe()
    hub.post(iter([_change("ended", 3)]))
    assert early.take(0) == [_change("created", 2), Change(a_job(id=3), created=True, ended=True)]
    assert late.take(0) == [_change("ended", 3)]


def test_unsubscribed_gets_no_more() -> None:
    hub = Hub()
    gone, stays = hub.subscribe(), hub.subscribe()
    hub.post([_change("created")])
    hub.unsubscribe(gone)
    hub.unsubscribe(gone)
    hub.post([_change("ended")])
    assert gone.take(0) == [_change("created")]
    assert stays.take(0) == [Change(a_job(), created=True, ended=True)]


def test_the_hub_knows_whether_somebody_wants_details() -> None:
    hub = Hub()
    first, second = hub.subscribe(), hub.subscribe()
    assert not hub.detailed
    second.detailed = True
    details = [hub.detailed]
    hub.unsubscribe(second)
    assert [*details, hub.detailed, first.detailed] == [True, False, False]


def test_a_reader_that_leaves_hides_no_other_reader_that_needs_details() -> None:
    """Else a turn would be told without its requests, and nobody would tell them again."""
    hub = Hub()
    leaves = threading.Thread(target=lambda: hub.unsubscribe(first))

    class Leaving(Mailbox):
        @property
        def detailed(self) -> bool:
            leaves.start()
            leaves.join(0.2)  # without the lock it would be over
            return False

        @detailed.setter
        def detailed(self, wanted: bool) -> None:
            """It needs none."""

    first, second = hub.subscribe(), hub.subscribe()
    first.__class__ = Leaving
    second.detailed = True
    assert hub.detailed
    leaves.join()
