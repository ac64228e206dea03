"""Job changes as Sanji events on the bus, for the views that are registered there.

At most one per job and second, and always those that say that it was created, ended or removed.
"""

import logging
import threading
from collections.abc import Callable

from puppetmaster import wire
from puppetmaster.clock import Clock
from puppetmaster.events import Change, Hub, Mailbox

log = logging.getLogger("sanji.puppetmaster.announcer")

INTERVAL_S = 1.0


class Announcer:
    """A thread between the hub and the bus. ``send`` takes one message and never blocks for long."""

    def __init__(self, hub: Hub, send: Callable[[bytes], bool], clock: Clock) -> None:
        self._hub = hub
        self._send = send
        self._clock = clock
        self._mailbox: Mailbox = hub.subscribe()
        self._held: dict[int, Change] = {}
        self._last_s: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="pm-announcer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Announce what is unread, and end."""
        self._hub.unsubscribe(self._mailbox)
        self._mailbox.close()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (changes := self._mailbox.take(INTERVAL_S / 4 if self._held else None)) is not None:
            try:
                self.announce(changes, self._clock.now_s())
            except Exception:
                log.exception("job changes were not announced")

    def announce(self, changes: list[Change], now_s: float) -> None:
        """Send what is due at ``now_s``; the rest is held and merged with what comes."""
        for change in changes:
            held = self._held.get(change.job.id)
            self._held[change.job.id] = held.merged(change) if held else change
        for job_id, change in list(self._held.items()):
            marked = change.created or change.ended or change.deleted
            if not marked and now_s - self._last_s.get(job_id, -INTERVAL_S) < INTERVAL_S:
                continue
            del self._held[job_id]
            self._last_s[job_id] = now_s
            if change.job.final or change.deleted:
                self._last_s.pop(job_id, None)
            self._emit(change)

    def _emit(self, change: Change) -> None:
        data = change.job.view()
        methods = ["post"] if change.created else []
        if change.deleted:
            data = {**data, "status": "deleted"}
            methods.append("delete")
        elif change.ended or not change.created:
            methods.append("put")
        for method in methods:
            event = {"code": 200, "method": method, "resource": f"/jobs/{change.job.id}", "data": data}
            self._send(wire.encode(wire.carriable(event)))
