"""The publisher sends job changes as Sanji events on the bus, for the views that are registered there.

A job has at most one event a second, but for its creation, its end and its removal, which are always sent.
"""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.clock import Clock
from puppetmaster.events import Change, Hub, Mailbox
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.bus.publisher")

#: Shortest time between two events of a job.
INTERVAL_S = 1.0
#: Pause of the thread after each look at the changes. A running job changes in every turn of the dispatcher,
#: and each look would take the interpreter from it.
PAUSE_S = 0.05
#: How long ``stop`` waits for the thread.
STOP_S = 1.0
#: Most jobs whose changes are kept while the bus is down. Beyond it the oldest change is never sent.
MOST_HELD = 2000


class Publisher:
    """A thread that takes job changes from the hub and sends them as events.

    ``send`` is given the payload of one event and does not block for long. It returns False when the bus is
    down; the publisher then keeps the change and tries again.
    """

    def __init__(self, hub: Hub, send: Callable[[bytes], bool], clock: Clock) -> None:
        self._hub = hub
        self._send = send
        self._clock = clock
        self._mailbox: Mailbox = hub.subscribe()
        self._held: dict[int, Change] = {}
        #: Job id -> when its latest event was sent, and whether the job had ended by then.
        self._last: dict[int, tuple[float, bool]] = {}
        self._stopping = threading.Event()
        self.thread = Vital(target=self._run, name="pm-publisher")

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Send the changes that are still unread, and wait up to ``STOP_S`` for the thread."""
        self._hub.unsubscribe(self._mailbox)
        self._mailbox.close()
        self._stopping.set()
        self.thread.join(STOP_S)

    def _run(self) -> None:
        while (changes := self._mailbox.take(INTERVAL_S / 4 if self._held else None)) is not None:
            self._guarded(changes, self._clock.now_s())
            self._stopping.wait(PAUSE_S)
        self._guarded([], math.inf)

    def _guarded(self, changes: list[Change], now_s: float) -> None:
        try:
            self.announce(changes, now_s)
        except Exception:
            log.exception("job changes were not announced")

    def announce(self, changes: list[Change], now_s: float) -> None:
        """Send the events that are due at ``now_s`` (monotonic clock); merge the rest with later changes."""
        for change in changes:
            held = self._held.get(change.job.id)
            self._held[change.job.id] = held.merged(change) if held else change
        self._last = {id_: last for id_, last in self._last.items() if now_s - last[0] < INTERVAL_S}
        for job_id, change in list(self._held.items()):
            if job_id in self._last:
                _, had_ended = self._last[job_id]
                # A late answer changes a job that has ended, and its change says "ended" again.
                if not (change.created or change.deleted or (change.ended and not had_ended)):
                    continue
            left = self._emit(change)
            if left is not None:  # the bus is down: all is sent later, merged with the changes until then
                self._held[job_id] = left
                break
            del self._held[job_id]
            self._last[job_id] = (now_s, change.job.final)
        while len(self._held) > MOST_HELD:
            del self._held[next(iter(self._held))]

    def _emit(self, change: Change) -> Change | None:
        """Send the events of a change. Returns the part that could not be sent; None: all of it was."""
        view = change.job.view()
        if change.created:
            if not self._tell("post", view):
                return change
            change = replace(change, created=False)
        elif not change.deleted:
            return None if self._tell("put", view) else change
        if change.ended:
            if not self._tell("put", view):
                return change
            change = replace(change, ended=False)
        if change.deleted and not self._tell("delete", {**view, "status": "deleted"}):
            return change
        return None

    def _tell(self, method: str, data: dict[str, Any]) -> bool:
        event = {"code": 200, "method": method, "resource": f"/jobs/{data['id']}", "data": data}
        return self._send(jsoncodec.encode(jsoncodec.carriable(event)))
