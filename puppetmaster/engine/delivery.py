"""What becomes of a request: it is sent, answered, refused or lost, is tried again, and ends.

This is one half of the engine's decisions; engine/lifecycle.py has those about jobs. It knows no threads and
no sockets.
"""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from puppetmaster.clock import seconds
from puppetmaster.engine.absent import REGISTERED_S, Absent
from puppetmaster.engine.backoff import Backoff
from puppetmaster.engine.context import Context
from puppetmaster.engine.corrections import Corrections
from puppetmaster.engine.in_flight import InFlight, Trials
from puppetmaster.engine.state import OpenJob
from puppetmaster.engine.timer import Timer, TimerKind
from puppetmaster.jsoncodec import WAITING_BYTES
from puppetmaster.model.job import Job, JobEvent
from puppetmaster.model.message import DEFAULT_CAPACITY, EncodedCommand, Outgoing, Tried, direct_tunnel
from puppetmaster.model.policy import RETRIED
from puppetmaster.model.reply import Refusal, Reply, may_have_run
from puppetmaster.model.request import (
    CONNECTED,
    DIRECT_WAY,
    REGISTERED,
    REMOTE_WAY,
    TRANSITIONS,
    Item,
    Request,
    RequestEvent,
    RequestStatus,
)
from puppetmaster.model.why import Why
from puppetmaster.scheduling.locks import WILDCARDS
from puppetmaster.scheduling.scheduler import LOCKED

log = logging.getLogger("sanji.puppetmaster.engine.delivery")

#: The codes of our own results: the gateway is away; the broker does not carry the message.
AWAY, TOO_LONG = 503, 413
#: What a request's gateway was not, while the request waited in vain -> the result's text, and its code.
UNDELIVERED = {
    REGISTERED: ("its gateway was not registered within {:g} s", 404),
    CONNECTED: ("its gateway was not connected within {:g} s", AWAY),
}
#: Most requests that one call of ``send`` finds to be for gateways that are away. The next turn goes on.
MOST_UNSENT = 500
#: Most questions about owners that are under way at once.
QUESTIONS = 64
#: After this time a question is given up, and the destination is taken to have a lock of its own.
QUESTION_TIMEOUT_S = 5.0
#: Most repetitions of a request after losses of the bus. After the last one it ends as unknown.
MOST_LOST = 10
#: After each registration other gateways are waited for at least this long.
MORE_S = 15.0
#: While we see registrations, a request to an unregistered gateway is tried about this often.
UNREGISTERED_S = 10.0
ROOM = Timer(TimerKind.ROOM, 0)
#: Why a delayed request waits, by the refusal; None: the controller does not know its gateway yet.
RETRIED_WHY = Why.RETRY.said()
WHY = {
    Refusal.LOCKED: LOCKED,
    Refusal.LOCKED_THERE: Why.LOCKED_THERE.said(),
    Refusal.ID_USED: Why.ID_USED.said(),
    None: Why.UNREGISTERED.said(),
}
TOO_LARGE = "the broker carries {} bytes, and indented, as the controller passes it on, this has {}"
TOO_LARGE_DIRECT = "the broker carries {} bytes, and this has {}"
CLOSES = "the broker closes the connection when it is sent ({} bytes)"
NO_IDS = "not sent again: this installation has given out all message ids"


class Delivery:
    """Takes each request to its end. One thread uses it: the dispatcher's."""

    def __init__(self, context: Context) -> None:
        self.refusals = Backoff()
        #: How long messages to the broker may be.
        self.capacity = DEFAULT_CAPACITY
        #: Number of sendings since the start that were not the first of their request.
        self.resent = 0
        #: Whether requests are held back until the broker has taken what was sent before, or the next turn.
        self.held_back = False
        self.in_flight = InFlight(context.timers, context.settings.grace_s)
        self._trials = Trials()
        self._context = context
        self._settings = context.settings
        self._state = context.state
        self._scheduler = context.scheduler
        self._timers = context.timers
        self._moment = context.moment
        self._presence = context.presence
        self._registered = context.registered
        self._offline = context.settings.offline
        self.absent = Absent(context.timers, context.moment, context.presence)
        self._tunnel = context.tunnel
        self._corrections = Corrections(context.state, context.moment)
        self._again_s: dict[int, float] = {}  # request -> when its next attempt may be made
        #: Until when gateways may register again: for all jobs, and for jobs that an earlier process began.
        #: The latter counts from the controller's first answer to this process.
        self._registering_until_s, self._all_anew_until_s = 0.0, math.inf
        #: Message -> (an answer that there is no such gateway, since when we doubt it).
        self._unbelieved: dict[int, tuple[Reply, float]] = {}
        #: Destination -> the request that waits for it to be registered.
        self._unregistered: dict[str, int] = {}
        self._watching = False
        self._full = False
        self._foreign = 0

    def begin(self) -> None:
        """Begin a turn."""
        # All answers of a turn count as answers in a full window, though each of them makes room.
        self._full = self._scheduler.automatic >= self._scheduler.window.size - 1

    def stall(self) -> None:
        """Let all requests wait again that this turn was to send."""
        for outgoing in self._context.turn.sends:
            self.not_sent(outgoing.id)
        self._context.turn.sends.clear()

    # -- out --------------------------------------------------------------------------------------

    def enter(self, opened: OpenJob, request: Request) -> None:
        """Put a request into the scheduler; a request that an earlier process sent is in flight there."""
        in_flight = request.status is RequestStatus.SENT
        if not in_flight and opened.steps is not None and opened.steps.before(request) is not None:
            return  # ``_step_on`` lets it in
        if not in_flight and (self._kept_back(request) or self._still_waits(request)):
            return
        item = opened.items[request.item]
        self._scheduler.add(
            request.id,
            request.job,
            request.destination,
            write=item.method != "get",
            in_flight=in_flight,
            remote_only=item.code is not None,
        )
        again_s = self._again_s.get(request.id)
        if again_s is not None and again_s > self._moment.now_s:
            self._delay(request.id, again_s, RETRIED_WHY)

    # -- gateways that are away -------------------------------------------------------------------

    def _kept_back(self, request: Request) -> bool:
        """Do not send a request whose gateway is known to be away: it waits, or ends. Returns whether so."""
        lacks = self.absent.lacks(request.destination)
        if lacks is None:
            return False
        if self._waits(request, lacks):
            return True
        away = self._presence.why_away(request.destination)
        if away is not None:
            self.end(request, RequestEvent.FAIL, said(f"{away}: {_did_not_run(request)}", AWAY))
        return away is not None

    def _still_waits(self, request: Request) -> bool:
        """Let a request wait on that did so before the job was paused, or in an earlier process.

        When its time is over meanwhile it is tried: nobody has looked for its gateway.
        """
        absence = request.absence
        if absence is None or absence.until_s <= self._moment.now_s or self.absent.tried(request.destination):
            return False
        self.absent.wait(request, soon=True)
        return True

    def _waits(self, request: Request, what: str) -> bool:
        """Let a request, which did not run, wait for its gateway; False: its job does not wait for them."""
        opened = self._state.opened_of(request.id)
        if not opened.policy.delivery_s:
            return False
        back = request if request.status is RequestStatus.PENDING else self._not_passed_on(request)
        if back is None:
            return True
        back = self.absent.noted(back, what, opened.policy.delivery_s)
        self._state.write(request, back)
        self.in_flight.landed(request.id, request.sending)
        if self._scheduler.holds(request.id):
            self._scheduler.remove(request.id)
        if opened.job.ending:
            self.end_unsent(back)
        elif back.absence is not None and back.absence.until_s <= self._moment.now_s:
            self._end_undelivered(back)
        elif opened.sends:
            self.absent.wait(back)
        return True

    def delivery_is_over(self, id_: int) -> None:
        """End a request that waits for its gateway, unless that was just seen to come: then it is tried."""
        request = self._state.request(id_)
        if not self.absent.coming(request.destination):
            self._end_undelivered(request)

    def _end_undelivered(self, request: Request) -> None:
        assert request.absence is not None
        text, code = UNDELIVERED[request.absence.what]
        within = text.format(self._state.opened_of(request.id).policy.delivery_s)
        self.end(request, RequestEvent.FAIL, said(f"{within}: {_did_not_run(request)}", code))

    def _is_away(self, request: Request, answer: Reply, *, nobody: bool) -> bool:
        """Let a request wait if this answer says that its gateway is away. Returns whether it waits.

        ``nobody``: the controller knows no such gateway.
        """
        source, code = answer.result.get("source"), answer.result.get("code")
        if nobody:
            self._scheduler.forget(request.destination)
            self._registered.owned(request.destination, None)
            return self._waits(request, REGISTERED)
        if answer.event is RequestEvent.FAIL and source == "remote" and code in self._offline:
            return self._waits(request, CONNECTED)
        if answer.event is RequestEvent.SUCCEED or source == "device":
            self.absent.seen(request.destination)
            self._presence.seen(request.destination, self._moment.at)
        return False

    def clock_was_set(self, request: Request) -> None:
        """Note anew since when a request waits for its gateway, because somebody has set the wall clock."""
        delivery_s = self._state.opened_of(request.id).policy.delivery_s
        if (anew := self.absent.since_by_the_wall(request, delivery_s)) is not request:
            self._state.write(request, anew)

    def taken_up(self, opened: OpenJob, request: Request) -> None:
        """Take up an open request of an earlier process: it is in flight, or waits."""
        before, request = request, self.absent.in_this_boot(request, opened.policy.delivery_s)
        if request is not before:
            self._state.write(before, request)
        if request.status is RequestStatus.SENT:
            self.enter(opened, request)
            timeout_s = opened.job.request_timeout_s
            self.in_flight.taken_up(
                request.id,
                request.sending,
                self._moment.now_s,
                timeout_s,
                direct=request.route == DIRECT_WAY,
            )
        elif request.history and request.history[-1]["status"] in RETRIED:
            wait_s = opened.policy.retry.wait_s(request.attempts)
            waited_s = self._moment.wall_s - seconds(request.history[-1]["finishedAt"])
            # The wall clock may have been set meanwhile: the request waits between 0 and the whole time.
            self._again_s[request.id] = self._moment.now_s + min(max(wait_s - waited_s, 0.0), wait_s)

    def send(self, waiting_bytes: int, settle: Callable[[int], object]) -> None:
        """Send the requests that may go now, and ask for the owners that are not known.

        ``waiting_bytes`` of earlier messages wait in memory. Once these and the new ones are WAITING_BYTES or
        more, the rest is held back. The last message may exceed that: its length is known when it is made.
        The rest is held back too once MOST_UNSENT gateways were found away, so that the turn stays short.
        ``settle`` is told of a job of which a request fails here: that may end it, and nothing more leaves.
        """
        now_s, scheduler, unsent = self._moment.now_s, self._scheduler, 0
        self.held_back = waiting_bytes >= WAITING_BYTES
        while not self.held_back and (id_ := scheduler.pick(now_s)) is not None:
            request = self._state.request(id_)
            if self._kept_back(request):
                settle(request.job)
                unsent += 1
            else:
                waiting_bytes += self._send(request, settle)
            self.held_back = waiting_bytes >= WAITING_BYTES or unsent >= MOST_UNSENT
        for job_id, at_s in scheduler.paced():
            self._timers.set(Timer(TimerKind.PACE, job_id), at_s)
        if (room_s := scheduler.room_s(now_s)) is not None:
            self._timers.set(ROOM, room_s)
        self._context.turn.questions += self.absent.questions()
        for destination in scheduler.questions(QUESTIONS):
            self._context.turn.questions.append(destination)
            self._timers.set(Timer(TimerKind.QUESTION, destination), now_s + QUESTION_TIMEOUT_S)

    def _send(self, request: Request, settle: Callable[[int], object]) -> int:
        """Send a request, or end it because its message is too long. Returns the message's length."""
        opened = self._state.opened_of(request.id)
        direct = self._presence.direct(request.destination) and opened.items[request.item].code is None
        route = DIRECT_WAY if direct else REMOTE_WAY
        sent = request.after(RequestEvent.SEND, self._moment.at, route=route)
        outgoing = self._message(sent, direct=direct)
        if (why := self._why_too_long(opened.commands[request.item], outgoing)) is not None:
            self.end(request, RequestEvent.FAIL, _too_long(request, why))
            settle(request.job)
        else:
            self._state.write(request, sent)
            self.resent += sent.sending != request.id
            timeout_s = opened.job.request_timeout_s
            self.in_flight.sent(request.id, sent.sending, self._moment.now_s, timeout_s, direct=direct)
            self._context.turn.sends.append(outgoing)
        return len(outgoing.payload)

    def _why_too_long(self, command: EncodedCommand, outgoing: Outgoing) -> str | None:
        """Why the broker does not carry a message; None: as far as we know it does."""
        most_bytes = self.capacity.broker_bytes
        if self.capacity.limited and (size := command.packet_bytes(outgoing)) > most_bytes:
            return (TOO_LARGE_DIRECT if outgoing.tunnel else TOO_LARGE).format(most_bytes, size)
        if self._trials.some and self._trials.refuses(size := _size(outgoing), self._moment.now_s):
            return CLOSES.format(size)
        return None

    def not_sent(self, message: int) -> None:
        """Let the request of a message that never left wait again. The attempt does not count."""
        if (id_ := self.in_flight.request_of(message)) is not None:
            request = self._state.request(id_)
            self._wait_again(request, request.after(RequestEvent.REFUSE, self._moment.at))

    def connection_lost(self, unsent: Iterable[int], tried: Tried | None) -> None:
        """Note that the connection to the broker was lost.

        Args:
            unsent: the ids of messages that had not left.
            tried: the long message at which the broker closed the connection; None: at none. The broker has
                read all messages before it, so that only ``tried`` is in doubt, if all of it had left.
        """
        id_ = None if tried is None else self.in_flight.request_of(tried.id)
        refused = id_ is not None and self._ended_at(self._state.request(id_))
        for message in unsent:
            if tried is not None and message == tried.id and refused:
                self._give_up_too_long(message)
            else:
                self.not_sent(message)
        if tried is None:
            self._trials.lost()
            self.in_flight.doubt()
        elif id_ is not None and tried.whole:
            self.in_flight.doubt_one(id_)

    def _ended_at(self, request: Request) -> bool:
        """Note that the connection ended at a request's message. Returns whether it is not sent again."""
        size = self._size_of(request)
        if not self._trials.ended(size, self._moment.now_s):
            return False
        log.warning(
            "the broker closes the connection when a message of %s bytes is sent: request %s is not sent "
            "again; PUPPETMASTER_BROKER_LIMIT_BYTES tells what the broker carries",
            size,
            request.id,
            extra={"action": "message_refused"},
        )
        return True

    def _give_up_too_long(self, message: int) -> None:
        if (id_ := self.in_flight.request_of(message)) is None:
            return
        request = self._state.request(id_)
        if self._state.opened_of(id_).job.ending:
            self.not_sent(message)
        else:
            back = request.after(RequestEvent.REFUSE, self._moment.at)
            self._give_up(request, back, _too_long(request, CLOSES.format(self._size_of(request))))

    def _size_of(self, request: Request) -> int:
        """The length of the message of a request in flight, in bytes."""
        return _size(self._message(request, direct=request.route == DIRECT_WAY))

    def _message(self, request: Request, *, direct: bool) -> Outgoing:
        """The message of a request, for its gateway's own controller (``direct``) or for ours."""
        command = self._state.opened_of(request.id).commands[request.item]
        encode = command.direct if direct else command.message
        return encode(request.sending, request.destination)

    # -- in ---------------------------------------------------------------------------------------

    def answered(self, message: int, answer: Reply, tunnel: str = "") -> None:
        """Take an answer to a message. It may be late, a duplicate, or for no request of ours.

        ``tunnel`` is the tunnel of the gateway that answered directly; empty: it came through our controller.
        """
        id_ = self.in_flight.request_of(message)
        request = self._state.find_request(message) if id_ is None else self._state.request(id_)
        if request is not None and tunnel != self._tunnel_of(request, message):
            log.log(
                logging.DEBUG if self._foreign else logging.WARNING,  # a gateway could send many
                "an answer for request %s came from another gateway than %s: it is dropped",
                request.id,
                request.destination,
                extra={"action": "foreign_answer"},
            )
            self._foreign += 1
            return
        if self._scheduler.came(message, self._moment.now_s):  # its owner is not busy with it any more
            self._timers.cancel(Timer(TimerKind.OVERDUE, message))
        if id_ is None or request is None:
            if (ended := self._corrections.answered(message, answer)) is not None:
                self.let_go(ended)
                self._step_on(ended)
            return
        nobody = answer.result.get("source") == "controller" and answer.result.get("code") in (403, 404)
        doubted = self._unbelieved.pop(message, None) is not None
        if answer.refusal or (nobody and self._may_register(request)):
            self._refuse(request, answer)
            return
        if nobody and not doubted:
            # A controller that has just restarted knows no gateways: ask it whether it knows us.
            self._unbelieved[message] = (answer, self._moment.now_s)
            self._context.turn.proves = True
            return
        answer = answer if self._item(request).code is None else answer.as_delivery()
        latency_s = self._moment.now_s - self.in_flight.sent_s(id_)
        if answer.event is RequestEvent.EXPIRE:
            self._scheduler.heard(id_, self._moment.now_s)
        else:
            self._scheduler.answered(id_, self._moment.now_s)
        self._scheduler.window.answered(latency_s, self._moment.now_s, full=self._full)
        if not self._is_away(request, answer, nobody=nobody):
            self.end(request, answer.event, answer.result)

    def _tunnel_of(self, request: Request, message: int) -> str:
        """The tunnel of the answer to this sending of a request; empty: it comes through our controller."""
        if request.route_of(message) != DIRECT_WAY:
            return ""
        return direct_tunnel(self._tunnel, request.destination)

    def unanswered(self, request: Request) -> None:
        """Stop waiting for a request in flight. Its gateway's owner may still be busy with it."""
        if not self._scheduler.holds(request.id) or self.in_flight.doubtful(request.id):
            return
        until_s = self._scheduler.overdue(request.id, request.sending, self._moment.now_s)
        if until_s is not None:
            self._timers.set(Timer(TimerKind.OVERDUE, request.sending), until_s)

    def controller_restarted(self, known_s: float | None) -> None:
        """Note that the controller was restarted: it has forgotten all models, and what it had passed on.

        ``known_s`` is when it last knew us (monotonic clock); None: it never did, because it or we have just
        started. Requests that were sent before that are in doubt. The controller is asked about the others.
        """
        self._scheduler.forget_all()
        self._registered.forget_all()
        if known_s is not None:
            self.in_flight.doubt(sent_before_s=known_s, controller=True)
            self.in_flight.hurry(self._moment.now_s)
        until_s = self._moment.now_s + self._settings.registering_s
        if known_s is None:
            self._all_anew_until_s = max(self._all_anew_until_s, until_s)
        else:
            self._registering_until_s = max(self._registering_until_s, until_s)
        self.disbelieve()
        self._context.turn.checks += self.in_flight.undecided()

    def _may_register(self, request: Request) -> bool:
        """Whether the gateway of a request may not have registered again yet.

        After our own start nothing shows whether the controller is new too: it may know us, and nobody else.
        What an earlier process began may have had a gateway; what is new is told at once that there is none,
        unless gateways are seen to register.
        """
        now_s = self._moment.now_s
        anew = now_s < self._all_anew_until_s and self._state.opened_of(request.id).taken_up
        return anew or now_s < self._registering_until_s

    def disbelieve(self) -> None:
        """Let requests wait again that ended at "no such gateway": the controller may have forgotten all."""
        for message, (answer, _) in list(self._unbelieved.items()):
            id_ = self.in_flight.request_of(message)
            del self._unbelieved[message]
            if id_ is not None:
                self._refuse(self._state.request(id_), answer)

    def controller_knows(self, asked_s: float) -> None:
        """Believe what the controller said of gateways before ``asked_s``: it knew us at that time."""
        for message, (answer, since_s) in list(self._unbelieved.items()):
            if since_s <= asked_s:
                self.answered(message, answer)

    def held(self, message: int, *, held: bool) -> None:
        """Note whether the restarted controller waits for the answer to this message (``held``)."""
        id_ = self.in_flight.request_of(message)
        if id_ is not None and not held:
            self.in_flight.doubt_one(id_)
            self.in_flight.hurry(self._moment.now_s)

    def registering(self, resources: Iterable[str]) -> None:
        """A model asks to be registered with these resources: requests that wait for that are sent soon."""
        self._watching = True
        now_s = self._moment.now_s
        if now_s < max(self._registering_until_s, self._all_anew_until_s):  # where all has just started
            until_s = now_s + min(MORE_S, self._settings.registering_s)
            self._registering_until_s = max(self._registering_until_s, until_s)
        names = [resource.removeprefix("/remote/") for resource in resources]
        self.absent.registering(names)
        anybody = any(WILDCARDS.search(name) for name in names)
        for name in list(self._unregistered) if anybody else names:
            id_ = self._unregistered.pop(name, None)
            if id_ is not None and self._timers.deadline_s(Timer(TimerKind.WAKE, id_)) is not None:
                self._timers.set(Timer(TimerKind.WAKE, id_), now_s + REGISTERED_S)

    def controller_up(self) -> None:
        """It answers, and what was kept for us comes. Where all has just started, gateways may be missing."""
        self.in_flight.hurry(self._moment.now_s)
        until_s = self._moment.now_s + self._settings.registering_s
        self._all_anew_until_s = min(self._all_anew_until_s, until_s)  # the first time
        # The monotonic clock counts from the start of the machine.
        self._registering_until_s = max(self._registering_until_s, self._settings.booting_s)

    def time_is_over(self, id_: int) -> None:
        """End a request in flight whose time is over, or try it again."""
        request = self._state.request(id_)
        opened = self._state.opened_of(id_)
        if (unbelieved := self._unbelieved.pop(request.sending, None)) is not None:
            self._refuse(request, unbelieved[0])
            return
        if not self.in_flight.doubtful(request.id):
            asked = ", asked directly" if request.route == DIRECT_WAY else ""
            away = self._presence.why_away(request.destination)
            gone = f"; its gateway is {away}" if away is not None else ""
            text = f"no answer within {opened.job.request_timeout_s:g} s{asked}: it may have run{gone}"
            self.unanswered(request)
            self.end(request, RequestEvent.EXPIRE, said(text, 408))
            return
        result = said("the program, the bus or the controller went away before an answer: it may have run")
        lost = sum(one["status"] == RequestStatus.UNKNOWN for one in request.history)
        repeats = opened.policy.repeats(self._item(request).method) and lost < MOST_LOST
        size = self._size_of(request)
        if self._trials.refuses(size, self._moment.now_s):
            repeats = False
            result = said(f"{CLOSES.format(size)}: it may have run")
        if opened.job.ending is None and repeats:
            self._try_again(request, RequestStatus.UNKNOWN, result, wait_s=None)
        else:
            self.end(request, RequestEvent.LOSE, result)

    # -- the end, or another attempt --------------------------------------------------------------

    def _item(self, request: Request) -> Item:
        return self._state.opened_of(request.id).items[request.item]

    def end_unsent(self, request: Request) -> None:
        """End a request that is not to be sent any more. After earlier attempts it ends like the last one."""
        job = self._state.opened_of(request.id).job
        if request.history:
            event, result = request.last_outcome()
            text = f"{result.get('message')}; not sent again: {job.reason}"
            ended = request.without_retry().after(event, self._moment.at, result={**result, "message": text})
            self._state.write(request, ended)
            self.let_go(request)
            self._step_on(ended)
            return
        event = RequestEvent.CANCEL if job.ending is JobEvent.CANCEL else RequestEvent.SKIP
        self.end(request, event, said(f"not sent: {job.reason}"))

    def counted_out(self, job: Job, requests: Iterable[Request]) -> Counter[RequestStatus]:
        """How the counts of a stopped job change when these requests end now, unsent or unanswered."""
        unsent = RequestStatus.CANCELED if job.ending is JobEvent.CANCEL else RequestStatus.SKIPPED
        deltas: Counter[RequestStatus] = Counter()
        for request in requests:
            deltas[request.status] -= 1
            if request.status is RequestStatus.SENT:
                deltas[RequestStatus.UNKNOWN] += 1
            else:
                deltas[RequestStatus(request.history[-1]["status"]) if request.history else unsent] += 1
        return deltas

    def end(self, request: Request, event: RequestEvent, result: Any) -> None:
        """End a request, unless its job allows another attempt. Forget it when it has ended."""
        opened = self._state.opened_of(request.id)
        if request.status is RequestStatus.SENT and opened.job.ending is None:
            outcome = TRANSITIONS[(request.status, event)]
            method = opened.items[request.item].method
            in_doubt = may_have_run(event, result)
            if opened.policy.tries_again(outcome, request.attempts, method, may_have_run=in_doubt):
                wait_s = opened.policy.retry.wait_s(request.attempts)
                self._try_again(request, outcome, result, wait_s=wait_s)
                return
        ended = request.after(event, self._moment.at, result=result)
        self._state.write(request, ended)
        self.let_go(request)
        self._step_on(ended)

    def _step_on(self, ended: Request) -> None:
        """Give the next request to a gateway its turn, or skip all later ones, in a job with ``steps``."""
        opened = self._state.opened(ended.job)
        if opened is None or opened.steps is None:
            return
        following = opened.steps.ended(ended)
        if following is None or opened.job.ending is not None:  # then all that wait end by themselves
            return
        if ended.status is RequestStatus.RESOLVED:
            if opened.sends and following < opened.open_end:
                self.enter(opened, opened.requests[following])
            return
        result = said(f"not sent: request {ended.id}, an earlier step, ended as {ended.status}")
        for id_ in opened.steps.drop(ended):
            left = opened.requests[id_]
            self._state.write(left, left.after(RequestEvent.SKIP, self._moment.at, result=result))
            self.let_go(left)

    def let_go(self, request: Request) -> None:
        """Forget a request that is done."""
        self.in_flight.landed(request.id, request.sending)
        self.refusals.forget(request.id)
        self.absent.forget(request)
        self._unbelieved.pop(request.sending, None)
        if self._unregistered.get(request.destination) == request.id:
            del self._unregistered[request.destination]
        self._again_s.pop(request.id, None)
        self._timers.cancel(Timer(TimerKind.WAKE, request.id))
        if self._scheduler.holds(request.id):
            self._scheduler.remove(request.id)

    def _try_again(
        self, request: Request, outcome: RequestStatus, result: Any, *, wait_s: float | None
    ) -> None:
        """Try a request again under a fresh message id, after ``wait_s``; None: when its turn comes."""
        message = self._state.message_id(request)
        back = request.after(
            RequestEvent.RETRY, self._moment.at, result=result, outcome=outcome, message=message
        )
        if message is None:
            self._give_up(request, back, said(NO_IDS))
            return
        self.refusals.forget(request.id)
        again_s = None if wait_s is None else self._moment.now_s + wait_s
        if again_s is not None:
            self._again_s[request.id] = again_s
        self._wait_again(request, back, again_s, RETRIED_WHY)

    def _wait_again(
        self,
        request: Request,
        back: Request,
        until_s: float | None = None,
        why: str = "",
        *,
        locked: bool = False,
    ) -> None:
        """Let a request wait that was in flight: for its turn, until ``until_s``, or for its job."""
        self._state.write(request, back)
        self.in_flight.landed(request.id, request.sending)
        opened = self._state.opened_of(back.id)
        if opened.job.ending:
            self.end_unsent(back)
        elif not opened.sends:
            self._scheduler.remove(back.id)
        elif until_s is None:
            self._scheduler.put_back(back.id)
        else:
            self._delay(back.id, until_s, why, locked=locked)

    def _delay(self, id_: int, until_s: float, why: str, *, locked: bool = False) -> None:
        self._scheduler.delay(id_, until_s, why, locked=locked)
        self._timers.set(Timer(TimerKind.WAKE, id_), until_s)

    def _refuse(self, request: Request, answer: Reply) -> None:
        """Let a request wait that a controller did not pass on. After ``lock_wait_s`` in all it ends."""
        waited_s, delay_s = self.refusals.add(request.id, answer.result.get("code") or 0)
        if answer.refusal is None:  # its gateway is not registered
            self._unregistered[request.destination] = request.id
            if self._watching:
                delay_s = UNREGISTERED_S * random.uniform(0.5, 1.0)
        if answer.locked:
            self._scheduler.window.refused(self._moment.now_s, full=self._full)
        back = self._not_passed_on(request)
        if back is None:
            return
        if waited_s >= self._settings.lock_wait_s and not self._state.opened_of(request.id).job.ending:
            text = f"{answer.result.get('message')}; refused for {waited_s:.0f} s, {_did_not_run(request)}"
            self._give_up(request, back, {**answer.result, "message": text})
        else:
            self._wait_again(
                request, back, self._moment.now_s + delay_s, WHY[answer.refusal], locked=answer.locked
            )

    def _not_passed_on(self, request: Request) -> Request | None:
        """A request in flight as it waits after a refusal; None: it has ended, because no id is left."""
        # The next sending has a fresh id, even if the old one is free again: this refusal may come twice,
        # and must not count for the next sending.
        self._state.never_ran(request)
        message = self._state.message_id(request)
        back = request.after(RequestEvent.REFUSE, self._moment.at, message=message)
        if message is not None:
            return back
        self._give_up(request, back, said(NO_IDS))
        return None

    def _give_up(self, request: Request, back: Request, result: Any) -> None:
        """End a request that was in flight, and must not be sent again."""
        self._state.write(request, back)
        self.in_flight.landed(request.id, request.sending)
        self.end(back, RequestEvent.FAIL, result)


def said(message: str, code: int | None = None) -> dict[str, Any]:
    """A result that puppetmaster gives itself: ``{"code", "data", "source", "message"}``."""
    return {"code": code, "data": None, "source": "puppetmaster", "message": message}


def _size(outgoing: Outgoing) -> int:
    return len(outgoing.topic.encode()) + len(outgoing.payload)


def _too_long(request: Request, why: str) -> dict[str, Any]:
    return said(f"{why}: {_did_not_run(request)}", TOO_LONG)


def _did_not_run(request: Request) -> str:
    return "no attempt after the first ones ran" if request.history else "it did not run"
