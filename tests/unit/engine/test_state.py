"""What is known of open jobs, and which ids are given out."""

from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.engine.state import ID_BLOCK, State
from puppetmaster.errors import NotFound, Unavailable
from puppetmaster.model.job import JobEvent, JobStatus
from puppetmaster.model.policy import Policy
from puppetmaster.model.request import RequestEvent, RequestStatus
from puppetmaster.store.base import FIRST_REQUEST_ID, LAST_REQUEST_ID, Ids
from tests.unit.engine.book import LATER, Book


@pytest.fixture
def book() -> Iterator[Book]:
    made = Book()
    yield made
    made.store.close()


# -- ids -------------------------------------------------------------------------------------------


def test_ids_begin_clear_of_everybody_elses_and_follow_each_other(book: Book) -> None:
    first, second = book.create(3), book.create(2)
    assert (first.id, second.id) == (1, 2)
    assert first.first == FIRST_REQUEST_ID
    assert second.first == FIRST_REQUEST_ID + 3


def test_no_id_is_given_out_twice_to_requests_and_messages(book: Book) -> None:
    given: list[int] = []
    for round_ in range(3 * ID_BLOCK // 100):
        job = book.create(7)
        given += job.request_ids
        given += [book.message(job.first) for _ in range(100 if round_ % 2 else 0)]
    assert len(set(given)) == len(given)


def test_a_job_between_two_messages_does_not_cost_a_block_of_ids(book: Book) -> None:
    """Two thousand million ids have to last: a refusal and a job a minute must not use them up."""
    job = book.create()
    for _ in range(100):
        book.message(job.first)
        book.create()
    assert book.state.new_ids(1).first < FIRST_REQUEST_ID + 2 * ID_BLOCK + 200


def test_message_ids_are_durable_before_they_are_used(book: Book) -> None:
    job = book.create()
    book.commit()
    id_ = book.message(job.first)
    assert book.state.changes.ids is not None
    assert book.state.changes.ids.next_request > id_
    assert book.state.changes.sendings == {id_: book.state.request(job.first)}


def test_the_end_of_the_id_space_is_not_passed(book: Book) -> None:
    request = book.state.request(book.create().first)
    state = State(book.store.now, Ids(next_job=9, next_request=LAST_REQUEST_ID - 10))
    with pytest.raises(Unavailable):
        state.new_ids(12)
    assert state.changes.ids is None, "nothing was taken"
    first = state.new_ids(5).first
    assert first == LAST_REQUEST_ID - 10
    messages = list(iter(lambda: state.message_id(request), None))
    assert messages == list(range(first + 5, LAST_REQUEST_ID + 1))
    assert state.message_id(request) is None
    with pytest.raises(Unavailable):
        state.new_ids(1)


# -- changes ---------------------------------------------------------------------------------------


def test_a_job_ends_with_its_last_request_and_leaves_memory(book: Book) -> None:
    job = book.create(2)
    done = book.finish(job)
    assert done.status is JobStatus.RESOLVED
    assert done.finished_at == LATER
    assert book.state.opened(job.id) is None
    assert (book.state.open_jobs, book.state.open_requests) == (0, 0)
    assert book.state.find_job(job.id) == done


def test_a_job_that_was_told_to_stop_ends_with_that_verdict(book: Book) -> None:
    job = book.create()
    book.state.write_job(job.stopping(JobEvent.EXPIRE, "too late"))
    book.after(job.first, RequestEvent.SKIP)
    done = book.state.settle(job.id, LATER)
    assert (done.status, done.reason, done.ending) == (JobStatus.TIMEOUT, "too late", None)


def test_what_is_committed_is_what_is_known(book: Book) -> None:
    job = book.create(2)
    book.after(job.first, RequestEvent.SEND)
    settled = book.state.settle(job.id, LATER)
    request = book.state.request(job.first)
    book.commit()
    assert not book.state.changes
    assert book.state.created == set()
    assert book.store.now.job(job.id) == settled
    assert book.store.now.request(job.first) == request


@pytest.mark.parametrize("durable", [True, False])
def test_a_removed_job_leaves_nothing(book: Book, durable: bool) -> None:
    job = book.finish(book.create(2))
    if durable:
        book.commit()
    book.state.remove(job)
    with pytest.raises(NotFound):
        book.state.find_job(job.id)
    assert book.state.find_request(job.first) is None
    book.commit()
    assert book.store.now.job(job.id) is None
    assert book.store.now.requests({"job": job.id}) == []
    assert book.store.now.items([job.id]) == {}


@pytest.mark.parametrize("durable", [True, False])
def test_no_message_of_a_removed_job_finds_anything(book: Book, durable: bool) -> None:
    job = book.create()
    book.after(job.first, RequestEvent.SEND)
    message = book.send_again(job.first)
    book.after(job.first, RequestEvent.SUCCEED, result={})
    book.state.settle(job.id, LATER)
    if durable:
        book.commit()
    book.state.remove(book.state.find_job(job.id))
    assert book.state.find_request(message) is None
    book.commit()
    assert book.state.find_request(message) is None


def test_no_message_of_a_revoked_job_is_written(book: Book) -> None:
    job, other = book.create(), book.create()
    messages = [book.message(job.first), book.message(other.first)]
    book.state.revoke(job.id)
    assert list(book.state.changes.sendings) == messages[1:]
    assert book.state.find_request(messages[0]) is None


@pytest.mark.parametrize("ended", [False, True])
def test_a_revoked_job_never_was_but_its_ids_stay_used(book: Book, ended: bool) -> None:
    job = book.create(2, key="k")
    if ended:
        book.finish(job)
    opened = book.state.revoke(job.id)
    assert [request.id for request in opened] == ([] if ended else list(job.request_ids))
    assert book.state.find_by_key("k") is None
    assert book.state.touched() == []
    assert (book.state.open_jobs, book.state.open_requests) == (0, 0)
    book.commit()
    assert book.store.now.jobs({}) == []
    new = book.create()
    assert new.id == job.id + 1
    assert new.first not in job.request_ids


# -- look-ups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_a_key_finds_its_job_and_a_request_its_item_wherever_they_are(
    book: Book, ended: bool, durable: bool
) -> None:
    job = book.create(key="k")
    request = book.state.request(job.first)
    book.create(key="other")
    if ended:
        book.finish(job)
    if durable:
        book.commit()
    found = book.state.find_by_key("k")
    assert found is not None
    assert found.id == job.id
    assert found == book.state.find_job(job.id)
    assert book.state.find_item(request).resource == "/r"


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_a_request_is_found_by_every_message_that_it_went_out_under(
    book: Book, durable: bool, ended: bool
) -> None:
    job = book.create()
    book.after(job.first, RequestEvent.SEND)
    messages = [job.first, book.send_again(job.first), book.send_again(job.first)]
    if ended:
        book.after(job.first, RequestEvent.SUCCEED, result={})
        book.state.settle(job.id, LATER)
    if durable:
        book.commit()
        book.store.close()
        book.open()
    for message in messages:
        found = book.state.find_request(message)
        assert found is not None
        assert (found.id, found.sending) == (job.first, messages[-1])
    assert book.state.find_request(messages[-1] + 1) is None


def test_what_is_not_on_disk_yet_comes_before_what_is(book: Book) -> None:
    job = book.create()
    book.after(job.first, RequestEvent.SEND)
    book.commit()
    book.after(job.first, RequestEvent.EXPIRE, result={})
    found = book.state.find_request(job.first)
    assert found is not None
    assert found.status is RequestStatus.TIMEOUT


# -- what depends on the counts of a job -----------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "goes_on"),
    [({}, True), ({"waves": [1, 1], "gate": {}}, False), ({"abort": {"errors": 1}}, False)],
)
def test_a_job_without_gates_goes_on_until_it_is_done(
    book: Book, given: dict[str, Any], *, goes_on: bool
) -> None:
    job = book.create(2)
    opened = book.state.opened(job.id)
    assert opened is not None
    opened.policy = Policy.of(given, 2)
    for id_ in job.request_ids:
        assert book.state.goes_on(job.id) is goes_on
        book.after(id_, RequestEvent.SEND)
        book.after(id_, RequestEvent.SUCCEED, result={"code": 200})
    assert not book.state.goes_on(job.id)
