"""Answers that nobody waits for any more: late, twice, or for nobody. Knows no thread and no socket.

A late one still corrects what is not known (``timeout``, ``unknown``), or spares another attempt.
"""

import logging
from dataclasses import replace

from puppetmaster.answer import Answer
from puppetmaster.clock import Moment
from puppetmaster.ledger import Ledger
from puppetmaster.request import UNANSWERED, Request, RequestEvent, RequestStatus
from puppetmaster.rollout import wave_of

#: The events of answers that say how it ended.
SETTLING = (RequestEvent.SUCCEED, RequestEvent.FAIL)

log = logging.getLogger("sanji.puppetmaster.corrections")


class Corrections:
    """Used by one thread, the dispatcher's."""

    def __init__(self, ledger: Ledger, moment: Moment) -> None:
        self._ledger = ledger
        self._moment = moment

    def answered(self, message: int, answer: Answer) -> Request | None:
        """An answer for a message that nothing waits for; the request that it ends, if it ends one."""
        if answer.event not in SETTLING and not answer.delivered:
            return None
        request = self._ledger.find_request(message)
        if request is None:
            return None
        if self._ledger.find_item(request).code is not None:
            answer = answer.as_delivery()
        if answer.event not in SETTLING:
            return None
        last = message == request.sending
        if answer.event is RequestEvent.FAIL and not last:
            if request.open:  # the next attempt is made all the same; without it this is how it ends
                self._ledger.write(request, request.with_late_failure(message, answer.result))
            return None
        # The last sending of one that is open is in flight, or still to come: nobody has answered it.
        earlier = request.open and bool(request.history) and not last
        if request.status not in UNANSWERED and not earlier:
            log.debug("an answer for message %s came twice, or for nobody", message)
            return None
        if request.open:
            result = {**answer.result, "late": True}
            self._ledger.write(request, request.after(answer.event, self._moment.at, result=result))
            return request
        corrected = request.after(answer.event, self._moment.at, result=answer.result)
        self._ledger.correct(request, corrected)
        self._forgive(corrected)
        return None

    def _forgive(self, request: Request) -> None:
        """A failure of an earlier wave that was none is not counted there any more."""
        opened = self._ledger.opened(request.job)
        if opened is None or request.status is not RequestStatus.RESOLVED:
            return
        job = opened.job
        if wave_of(opened.policy.waves, request.id - job.first) < job.wave:
            self._ledger.write_job(replace(job, wave_errors=job.wave_errors - 1))
