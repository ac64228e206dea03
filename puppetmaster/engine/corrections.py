"""Late answers: what they change in requests that nobody waits for any longer."""

import logging
from dataclasses import replace

from puppetmaster.clock import Moment
from puppetmaster.engine.state import State
from puppetmaster.model.policy import wave_of
from puppetmaster.model.reply import Reply
from puppetmaster.model.request import UNANSWERED, Request, RequestEvent, RequestStatus

log = logging.getLogger("sanji.puppetmaster.engine.corrections")

#: The events of answers that say how the request ended.
SETTLING = (RequestEvent.SUCCEED, RequestEvent.FAIL)


class Corrections:
    """Late answers: what they change in requests that nobody waits for any longer. For one thread."""

    def __init__(self, state: State, moment: Moment) -> None:
        self._state = state
        self._moment = moment

    def answered(self, message: int, answer: Reply) -> Request | None:
        """Take an answer that nothing waits for. Returns the open request that it ends; None: none."""
        if answer.event not in SETTLING and not answer.delivered:
            return None
        request = self._state.find_request(message)
        if request is None:
            return None
        if self._state.find_item(request).code is not None:
            answer = answer.as_delivery()
        if answer.event not in SETTLING:
            return None
        last = message == request.sending
        if answer.event is RequestEvent.FAIL and not last:
            if request.open:  # the next attempt is made all the same; without one the request ends so
                self._state.write(request, request.with_late_failure(message, answer.result))
            return None
        # The last sending of an open request is in flight, or is not sent yet: this is no answer to it.
        earlier = request.open and bool(request.history) and not last
        # Another sending may be on its way when this ends the request: ``late`` of docs/model/takeover.pml.
        if request.status not in UNANSWERED and not earlier:
            log.debug("an answer for message %s came twice, or for nobody", message)
            return None
        if request.open:
            result = {**answer.result, "late": True}
            ended = request.after(answer.event, self._moment.at, result=result)
            self._state.write(request, ended)
            return ended
        corrected = request.after(answer.event, self._moment.at, result=answer.result)
        self._state.correct(request, corrected)
        self._forgive(corrected)
        return None

    def _forgive(self, request: Request) -> None:
        """Take a request that has succeeded after all out of the failures of its earlier wave."""
        opened = self._state.opened(request.job)
        if opened is None or request.status is not RequestStatus.RESOLVED:
            return
        job = opened.job
        if wave_of(opened.policy.waves, request.id - job.first) < job.wave:
            self._state.write_job(replace(job, wave_errors=job.wave_errors - 1))
