"""What a late answer changes in its request, and what not."""

import pytest

from puppetmaster.clock import Moment
from puppetmaster.engine.corrections import Corrections
from puppetmaster.model.reply import Reply
from puppetmaster.model.request import Request, RequestEvent, RequestStatus
from tests.unit.engine.book import Book
from tests.virtual import VirtualClock

GOOD = Reply(RequestEvent.SUCCEED, {"code": 200})
BAD = Reply(RequestEvent.FAIL, {"code": 500}, delivered=True)
REFUSED = Reply(RequestEvent.REFUSE, {"code": 408})


class Late(Book):
    """A request that has been sent, over a state, and the late answers to it."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__()
        self.corrections = Corrections(self.state, Moment(VirtualClock()))
        self.id = self.create(code=code).first
        self.after(self.id, RequestEvent.SEND)

    def answer(self, message: int, answer: Reply) -> tuple[bool, str]:
        """Whether the answer ends the request, and the status after it."""
        ended = self.corrections.answered(message, answer)
        return ended is not None, self.request().status

    def request(self) -> Request:
        """The request, open or ended."""
        found = self.state.find_request(self.id)
        assert found is not None
        return found

    def again(self) -> int:
        """End the attempt by a timeout, and let the next one wait. Returns its message id."""
        message = self.message(self.id)
        self.after(
            self.id, RequestEvent.RETRY, message=message, outcome=RequestStatus.TIMEOUT, result={"code": 408}
        )
        return message


@pytest.mark.parametrize("event", [RequestEvent.EXPIRE, RequestEvent.LOSE])
@pytest.mark.parametrize(("answer", "status"), [(GOOD, "resolved"), (BAD, "error")])
def test_the_first_answer_corrects_what_nobody_had_answered(
    event: RequestEvent, answer: Reply, status: str
) -> None:
    late = Late()
    late.after(late.id, event, result={"code": 408})
    unanswered = late.request()
    assert late.answer(late.id, REFUSED) == (False, unanswered.status), "it does not say how it ended"
    assert late.answer(late.id, answer) == (False, status)
    assert late.request().result == {**answer.result, "late": True}
    for another in (GOOD, BAD):
        assert late.answer(late.id, another) == (False, status), "it counts once"
    assert late.answer(late.id + 1, GOOD) == (False, status), "nobody knows that message"


def test_an_open_request_ends_by_a_success_of_an_earlier_attempt_only() -> None:
    late = Late()
    last = late.again()
    assert late.answer(last, GOOD) == (False, "pending"), "it is not sent yet"
    assert late.answer(late.id, BAD) == (False, "pending"), "its next attempt is made all the same"
    assert late.request().history[0]["status"] == "error"
    assert late.answer(late.id, GOOD) == (True, "resolved")
    assert late.request().result == {"code": 200, "late": True}


def test_of_a_request_that_ended_only_the_last_attempt_can_fail_later() -> None:
    late = Late()
    last = late.again()
    late.after(late.id, RequestEvent.SEND)
    late.after(late.id, RequestEvent.EXPIRE, result={"code": 408})
    assert late.answer(late.id, BAD) == (False, "timeout")
    assert late.answer(last, BAD) == (False, "error")


@pytest.mark.parametrize(("code", "ended"), [(None, (False, "pending")), (200, (True, "resolved"))])
def test_an_event_has_succeeded_once_it_was_delivered(code: int | None, ended: tuple[bool, str]) -> None:
    late = Late(code)
    late.again()
    assert late.answer(late.id, BAD) == ended
