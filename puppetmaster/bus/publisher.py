"""Job changes as Sanji events on the bus, for the views that are registered there.

At most one per job and second, and always those that say that it was created, ended or removed.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.clock import Clock
from puppetmaster.events import Change, Hub, Mailbox
from puppetmaster.threads import Vital

log = logging.getLogger("sanji.puppetmaster.bus.publisher")

INTERVAL_S = 1.0
#: Jobs whose changes are kept while the bus is down; beyond it the oldest news are not told.
MOST_HELD = 2000


class Publisher:
    """A thread between the hub and the bus. ``send`` takes one message and never blocks for long."""

    def __init__(self, hub: Hub, send: Callable[[bytes], bool], clock: Clock) -> None:
        self._hub = hub
        self._send = send
        self._clock = clock
        self._mailbox: Mailbox = hub.subscribe()
        self._held: dict[int, Change] = {}
        #: When a job was announced within the last interval, and whether it had ended by then.
        self._last: dict[int, tuple[float, bool]] = {}
        self.thread = Vital(target=self._run, name="pm-publisher")

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """Announce what is unread, and end."""
        self._hub.unsubscribe(self._mailbox)
        self._mailbox.close()
        self.thread.join(timeout=1.0)

    def _run(self) -> None:
        while (changes := self._mailbox.take(INTERVAL_S / 4 if self._held else None)) is not None:
            self._guarded(changes, self._clock.now_s())
        self._guarded([], math.inf)

    def _guarded(self, changes: list[Change], now_s: float) -> None:
        try:
            self.announce(changes, now_s)
        except Exception:
            log.exception("job changes were not announced")

    def announce(self, changes: list[Change], now_s: float) -> None:
        """Send what is due at ``now_s``; the rest is held and merged with what comes."""
        for change in changes:
            held = self._held.get(change.job.id)
            self._held[change.job.id] = held.merged(change) if held else change
        self._last = {id_: last for id_, last in self._last.items() if now_s - last[0] < INTERVAL_S}
        for job_id, change in list(self._held.items()):
            _, had_ended = self._last.get(job_id, (0.0, False))
            # A late answer changes a job that has ended: that is no second end.
            marked = change.created or change.deleted or (change.ended and not had_ended)
            if not marked and job_id in self._last:
                continue
            left = self._emit(change)
            if left is not None:  # the bus is down: it is told later, merged with what comes until then
                self._held[job_id] = left
                continue
            del self._held[job_id]
            self._last[job_id] = (now_s, change.job.final)
        while len(self._held) > MOST_HELD:
            del self._held[next(iter(self._held))]

    def _emit(self, change: Change) -> Change | None:
        """Tell it; what of it could not be told, None: nothing."""
        view = change.job.view()
        if change.created:
            if not self._tell("post", view):
                return change
            change = replace(change, created=False)
        elif not (change.ended or change.deleted):
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
