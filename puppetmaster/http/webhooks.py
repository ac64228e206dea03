"""Sends webhooks the notices that they are owed, over HTTP, in the thread ``pm-webhooks``.

The notices that a webhook is owed go out in order, one notice after the other. While a webhook fails, only
its first notice is tried, at growing intervals, so that it keeps none of the others from being told.
"""

import http.client
import logging
import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from puppetmaster import __version__, jsoncodec
from puppetmaster.clock import Clock, is_known, seconds
from puppetmaster.engine.outbox import Outbox
from puppetmaster.model.notice import TYPE, Hook, Hooks, Owed, signed
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.http.webhooks")

#: How long a webhook may take to connect, and between two bytes; and how long in all.
TIMEOUT_S, ATTEMPT_S = 10.0, 15.0
#: Most seconds to the second attempt, how many times as long each further wait is, and the longest.
FIRST_S, FACTOR, LONGEST_S = 1.0, 4.0, 3600.0
#: After this number of failures in a row the wait is the longest. No float holds the 512th power of 4.
ENOUGH = 6
#: A notice is given up after this number of attempts, or at this age.
MOST_ATTEMPTS, GIVE_UP_S = 100, 3 * 86400.0
#: With this status a webhook says that it will never take it.
GONE = 410
#: With these statuses a webhook may say when to come back.
BUSY = (429, 503)
STOP_S = 1.0
#: The thread looks whether the settings name other webhooks after this number of seconds at most.
LOOK_S = 2.0

Report = Callable[[Callable[[Outbox], None]], None]


class Refusal(NamedTuple):
    """Why an attempt has failed."""

    reason: str
    #: Seconds to wait at least, as the webhook says.
    wait_s: float = 0.0
    #: Whether no other attempt is worth it.
    last: bool = False


class _Lane:
    """What one webhook is owed. ``Webhooks`` guards it."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.waiting: deque[Owed] = deque()
        #: How many attempts in a row have failed.
        self.failures = 0
        #: When it is tried again (monotonic clock).
        self.due_s = 0.0
        #: Why the last attempt has failed; None: it did not, or there was none.
        self.reason: str | None = None

    def use(self, hook: Hook) -> None:
        """Note what the settings say of it now. If that has changed, it is tried at once."""
        if hook != self.hook:
            self.hook = hook
            self.failures, self.due_s = 0, 0.0


class Webhooks:
    """The webhooks of the settings, and the thread that tells them.

    Args:
        known: gives the webhooks of the settings, the same object until they have changed.
        installation: the id of the installation.
        report: does something with the outbox, later, in the thread that owns it.
        clock: the time.
    """

    def __init__(self, known: Callable[[], Hooks], installation: str, report: Report, clock: Clock) -> None:
        self._known = known
        self._installation = installation
        self._report = report
        self._clock = clock
        self._looking = threading.Lock()  # so that nobody takes, or reports, older webhooks for the newer
        self._condition = threading.Condition()  # guards hooks, _lanes and _stopped
        #: The webhooks that are told.
        self.hooks = known()
        self._lanes = {hook.name: _Lane(hook) for hook in self.hooks}
        self._stopped = False
        self.thread = Vital(target=self._run, name="pm-webhooks")

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # takes a while: no takeover is to wait for it

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread. An attempt that is under way is left alone: it is made again after a restart."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self.thread.join(STOP_S)

    def post(self, owed: Iterable[Owed]) -> None:
        """Take notices that are owed, and on disk; give up those for a webhook that is gone. Never blocks."""
        with self._condition:
            for one in owed:
                if (lane := self._lanes.get(one.hook)) is not None:
                    lane.waiting.append(one)
                else:
                    self._forget(one)
            self._condition.notify()

    def names(self) -> tuple[str, ...]:
        """The names of the webhooks that the settings name now."""
        self._look()
        return tuple(hook.name for hook in self.hooks)

    def view(self) -> dict[str, Any]:
        """How it stands with each webhook, by name: how many notices wait, why the last attempt failed."""
        with self._condition:
            return {
                name: {"waiting": len(lane.waiting), "reason": lane.reason}
                for name, lane in self._lanes.items()
            }

    def _look(self) -> None:
        """Take up changes of the settings. Notices that are owed to a webhook that is gone are given up."""
        with self._looking:
            hooks = self._known()
            with self._condition:
                if hooks is self.hooks:
                    return
                self.hooks, former = hooks, self._lanes
                self._lanes = {hook.name: former.pop(hook.name, _Lane(hook)) for hook in hooks}
                for hook in hooks:
                    self._lanes[hook.name].use(hook)
                unknown = [one for lane in former.values() for one in lane.waiting]
                self._condition.notify()
            self._report(lambda outbox: outbox.use(hooks))
            for one in unknown:
                self._forget(one)

    def _forget(self, owed: Owed) -> None:
        log.warning("webhook %s is not in the settings: not told of %s", owed.hook, owed.notice.key)
        self._give_up(owed)

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while (lane := self._next()) is not None:
            owed, hook = lane.waiting[0], lane.hook  # only this thread takes it away
            try:
                refusal = self._attempt(hook, owed)
            except Exception as error:
                log.exception("webhook %s was not told", hook.name, extra={"action": "webhook_fault"})
                refusal = Refusal(f"our own fault: {type(error).__name__}")
            with self._condition:
                if refusal is None or hook == lane.hook:  # else it is tried at once at its new place
                    self._take(lane, owed, refusal)

    def _next(self) -> _Lane | None:
        """Wait until a webhook is to be told something. None: the thread is to end."""
        while True:
            self._look()
            with self._condition:
                if self._stopped:
                    return None
                lanes = [lane for lane in self._lanes.values() if lane.waiting]
                first = min(lanes, key=lambda lane: lane.due_s, default=None)
                left_s = LOOK_S if first is None else first.due_s - self._clock.now_s()
                if first is not None and left_s <= 0:
                    return first
                self._condition.wait(min(left_s, LOOK_S))

    def _take(self, lane: _Lane, owed: Owed, refusal: Refusal | None) -> None:
        """Take in the outcome of an attempt."""
        if refusal is None:
            if lane.failures:
                log.info("webhook %s can be told again", lane.hook.name, extra={"action": "webhook_up"})
            lane.waiting.popleft()
            lane.failures, lane.reason = 0, None
            lane.due_s = self._clock.now_s()  # webhooks that have waited longer come first
            self._report(lambda outbox: outbox.told(owed.id))
            return
        if not lane.failures:
            log.warning("webhook %s: %s", lane.hook.name, refusal.reason, extra={"action": "webhook_down"})
        most_s = min(FIRST_S * FACTOR ** min(lane.failures, ENOUGH), LONGEST_S)
        wait_s = most_s * random.uniform(0.5, 1.0)
        lane.failures += 1
        lane.reason = refusal.reason
        lane.due_s = self._clock.now_s() + min(max(wait_s, refusal.wait_s), LONGEST_S)
        self._report(lambda outbox: outbox.failed(owed.id))
        tried = owed._replace(attempts=owed.attempts + 1)
        if refusal.last or tried.attempts >= MOST_ATTEMPTS or self._is_old(tried):
            log.error(
                "webhook %s is not told of %s: given up after %s attempts (%s)",
                lane.hook.name,
                owed.notice.key,
                tried.attempts,
                refusal.reason,
                extra={"action": "webhook_given_up"},
            )
            lane.waiting.popleft()
            self._give_up(owed)
        else:
            lane.waiting[0] = tried

    def _give_up(self, owed: Owed) -> None:
        self._report(lambda outbox: outbox.give_up(owed.id))

    def _is_old(self, owed: Owed) -> bool:
        now_s, at_s = self._clock.wall_s(), seconds(owed.notice.at)
        return is_known(now_s) and is_known(at_s) and now_s - at_s > GIVE_UP_S

    # -- one attempt ------------------------------------------------------------------------------

    def _attempt(self, hook: Hook, owed: Owed) -> Refusal | None:
        """Tell a webhook something. Returns why that failed; None: it has taken it."""
        event = owed.notice.cloud_event(self._installation)
        body = jsoncodec.encode(event)
        headers = {
            "Content-Type": TYPE,
            "User-Agent": f"puppetmaster/{__version__}",
            **signed(hook.key, event["id"], int(self._clock.wall_s()), body),
        }
        connection = self._connection(hook)
        # Without this a webhook that sends a byte now and then would hold up all others.
        watch = threading.Timer(ATTEMPT_S, _cut, [connection])
        watch.daemon = True
        watch.start()
        try:
            parts = urlsplit(hook.url)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
            return _refusal(response.status, response.getheader("Retry-After") or "")
        except (OSError, http.client.HTTPException) as error:
            return Refusal(_why(error))
        finally:
            watch.cancel()
            connection.close()

    def _connection(self, hook: Hook) -> http.client.HTTPConnection:
        parts = urlsplit(hook.url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=self._context)
        return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a connection while another thread waits on it."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _refusal(status: int, retry_after: str) -> Refusal | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Refusal(f"it answers {status}, and redirects are not followed")
    wait_s = float(retry_after) if status in BUSY and retry_after.isdecimal() else 0.0
    return Refusal(f"it answers {status}", wait_s, last=status == GONE)


def _why(error: Exception) -> str:
    """Why a webhook could not be asked, in a few words. What a URL or an answer holds is not told."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return "it does not speak TLS as expected"
        case ConnectionRefusedError():
            return "nothing listens there"
        case socket.gaierror():
            return "the name of its host is not known"
        case TimeoutError():
            return f"no answer within {TIMEOUT_S:g} s"
        case http.client.RemoteDisconnected() | http.client.IncompleteRead() | ConnectionError():
            return "it ended the connection without an answer"
        case http.client.HTTPException():
            return "it does not speak HTTP"
        case _:
            return str(getattr(error, "strerror", None) or type(error).__name__)
