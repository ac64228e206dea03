"""WebSockets that follow jobs: one thread makes the frames, the loop of ``pm-http`` sends them.

The thread ``pm-sockets`` reads the hub. What it keeps of a job is its latest change; what it keeps of a
watcher is which jobs, and which requests of them, it has yet to be told. A watcher that is still being
sent a frame gets no other: it falls behind, and is told the latest state next. One that reads nothing
is disconnected by the server, one that falls behind by too many jobs here.
"""

import asyncio
import logging
import math
import threading
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from puppetmaster import query, wire
from puppetmaster.clock import Clock
from puppetmaster.errors import NotFound, PuppetmasterError
from puppetmaster.events import Change, Hub
from puppetmaster.guard import SUBPROTOCOL, refuse
from puppetmaster.job import Job
from puppetmaster.sdk import parse_querystring
from puppetmaster.service import Service
from puppetmaster.threads import Vital
from puppetmaster.watcher import FRAME_BYTES, INTERVAL_S, Backlog, Frame, Watcher

log = logging.getLogger("sanji.puppetmaster.sockets")

#: What a frame for one watcher costs, and each of its bytes: processor time of this thread and ``pm-http``,
#: as measured with 200 watchers (Python 3.11, Xeon). So that many watchers do not slow dispatching,
#: ordinary changes are told rarely enough to take no more than SHARE of one processor.
FRAME_S, BYTE_S, SHARE = 30e-6, 0.1e-9, 0.1
#: Between two looks through the watchers, for each of them, and at most.
LOOK_S, LONGEST_LOOK_S = 100e-6, 0.02
#: A watcher that is being sent a frame is looked at again after this.
BUSY_S = 0.03
#: Frames that are on their way may have so many bytes in all; who is not told now is told later.
MOST_BYTES = 16 * 1024 * 1024
#: Jobs that a watcher may have yet to be told of.
MOST_BEHIND = 2000

UNKNOWN, TOO_SLOW, NOT_NOW = 4404, 1008, 1013


class Topic:
    """The latest of one job, and its text, without its end, once somebody needs it."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.text: bytes | None = None


class Sockets:
    """All watchers, and the thread that tells them."""

    def __init__(self, service: Service, hub: Hub, clock: Clock) -> None:
        self._service = service
        self._hub = hub
        self._clock = clock
        self._mailbox = hub.subscribe()
        self._lock = threading.Lock()  # guards _joining and _leaving
        self._joining: list[Watcher] = []
        self._leaving: list[Watcher] = []
        self._watchers: dict[Watcher, None] = {}
        self._topics: dict[int, Topic] = {}
        self._paced_s = 0.0
        #: One round's: by the ids of requests their texts, and how many of the ids these are.
        self._views: dict[tuple[int, ...], tuple[bytes, int]] = {}
        self._stopping = threading.Event()
        self.thread = Vital(target=self._run, name="pm-sockets", daemon=True)

    @property
    def count(self) -> int:
        """How many are connected."""
        return len(self._watchers)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """Tell what is unread, and end."""
        self._hub.unsubscribe(self._mailbox)
        self._mailbox.close()
        self._stopping.set()
        if self.thread.ident is not None:
            self.thread.join(timeout=1.0)

    # -- on the loop ------------------------------------------------------------------------------

    async def watch(self, socket: WebSocket) -> None:
        """One WebSocket, from its opening to its end."""
        try:
            given = parse_querystring(socket.scope["query_string"].decode("latin-1"))
            collection = bool(query.parse(given, ("collection",)).collection)
        except PuppetmasterError as error:
            await socket.receive()
            await refuse(error, socket.send, "websocket.http.response")
            return
        offered = SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None
        await socket.accept(offered)
        job = None
        try:
            if "id" in socket.path_params:
                job = await run_in_threadpool(self._service.watched_job, socket.path_params["id"])
        except PuppetmasterError as error:
            code = UNKNOWN if isinstance(error, NotFound) else NOT_NOW
            await socket.close(code, error.message[:100])
            return
        watcher = Watcher(job, collection=collection, loop=asyncio.get_running_loop())
        self._enter(watcher, self._joining)
        sending = asyncio.create_task(_send(socket, watcher))
        receiving = asyncio.create_task(_receive(socket))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._enter(watcher, self._leaving)
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def _enter(self, watcher: Watcher, where: list[Watcher]) -> None:
        with self._lock:
            where.append(watcher)
        self._mailbox.wake()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s: float | None = None
        while (changes := self._mailbox.take(wait_s)) is not None:
            try:
                wait_s = self._round(changes, self._clock.now_s())
            except Exception:
                log.exception("watchers were not told", extra={"action": "sockets_fault"})
                wait_s = INTERVAL_S
            # Looking through all watchers for each change would cost more than telling them.
            self._stopping.wait(min(LOOK_S * len(self._watchers), LONGEST_LOOK_S))

    def _round(self, changes: list[Change], now_s: float) -> float | None:
        """Take in what happened, tell what is due; the seconds until more is due, None: nothing is."""
        self._come_and_go()
        for change in changes:
            self._take(change)
        return self._tell(now_s)

    def _come_and_go(self) -> None:
        with self._lock:
            joining, self._joining = self._joining, []
            leaving, self._leaving = self._leaving, []
        for watcher in joining:
            self._watchers[watcher] = None
            if watcher.collection:
                self._mailbox.detailed = True
        for watcher in joining:
            if watcher.job is not None:
                self._welcome(watcher, watcher.job)
        for watcher in leaving:
            self._watchers.pop(watcher, None)
        if leaving and self._mailbox.detailed:
            self._mailbox.detailed = any(watcher.collection for watcher in self._watchers)

    def _welcome(self, watcher: Watcher, job: Job) -> None:
        """The present state comes first, read now: what happens from now on follows."""
        try:
            job = self._service.watched_job(str(job.id))
        except PuppetmasterError:
            self._close(watcher, UNKNOWN)
            return
        self._topics.setdefault(job.id, Topic(Change(job)))
        watcher.behind.add(job.id)
        watcher.urgent.add(job.id)
        if watcher.collection:
            watcher.backlogs[job.id] = Backlog(job, everything=True)

    def _take(self, change: Change) -> None:
        interested = [
            watcher for watcher in self._watchers if watcher.job is None or watcher.job.id == change.job.id
        ]
        if not interested:
            return
        self._topics[change.job.id] = Topic(change)
        for watcher in interested:
            watcher.note(change)

    def _tell(self, now_s: float) -> float | None:
        deliveries: list[tuple[Watcher, list[Frame]]] = []
        due_s = math.inf
        self._views.clear()
        held = sum(watcher.handed for watcher in self._watchers if watcher.busy)
        for watcher in list(self._watchers):
            if not watcher.behind:
                continue
            if watcher.busy or held >= MOST_BYTES:
                due_s = min(due_s, now_s + BUSY_S)
                if len(watcher.behind) > MOST_BEHIND:
                    self._close(watcher, TOO_SLOW)
                continue
            frames, next_s = self._frames(watcher, now_s)
            due_s = min(due_s, next_s)
            if frames:
                watcher.busy = True
                watcher.handed = sum(len(part) for frame in frames for part in frame)
                held += watcher.handed
                deliveries.append((watcher, frames))
        if deliveries:
            sizes = [sum(map(len, frame)) for _, frames in deliveries for frame in frames]
            took_s = FRAME_S * len(sizes) + BYTE_S * sum(sizes)
            self._paced_s = max(self._paced_s, now_s) + took_s / SHARE
            deliveries[0][0].loop.call_soon_threadsafe(_hand_out, deliveries)
        self._forget(now_s)
        return None if due_s == math.inf else max(0.0, due_s - now_s)

    def _frames(self, watcher: Watcher, now_s: float) -> tuple[list[Frame], float]:
        """What this watcher is to be sent now, and when more of what it is behind by is due."""
        frames, next_s = [], math.inf
        for job_id in sorted(watcher.behind):
            due_s = watcher.due_s(job_id)
            if job_id not in watcher.urgent:
                due_s = max(due_s, self._paced_s)
            if due_s > now_s:
                next_s = min(next_s, due_s)
                continue
            frames.append(self._frame(watcher, self._topics[job_id]))
            watcher.sent(job_id, now_s)
            if watcher.backlogs.get(job_id):
                next_s = min(next_s, now_s + INTERVAL_S)
            else:
                watcher.behind.discard(job_id)
        return frames, next_s

    def _frame(self, watcher: Watcher, topic: Topic) -> Frame:
        change = topic.change
        if topic.text is None:
            view = change.job.view()
            if change.deleted:
                view["status"] = "deleted"
            topic.text = b'%s,"requests":%s' % (wire.encode(view)[:-1], _listed(change.job.request_ids))
        watcher.seq += 1
        end = b',"seq":%d}' % watcher.seq
        if not watcher.collection:
            return topic.text, end
        return topic.text, b',"collection":', self._collection(watcher, change), end

    def _collection(self, watcher: Watcher, change: Change) -> bytes:
        backlog = watcher.backlogs.get(change.job.id)
        if backlog is None or change.deleted:
            watcher.backlogs.pop(change.job.id, None)
            return b"[]"
        ids = backlog.take()
        try:
            text, taken = self._views.get(ids) or self._views.setdefault(ids, self._texts(ids))
        except PuppetmasterError as error:
            log.warning("requests cannot be shown to a watcher now: %s", error)
            text, taken = b"[]", 0
        if taken < len(ids):
            backlog.add(frozenset(ids[taken:]))
        return text

    def _texts(self, ids: tuple[int, ...]) -> tuple[bytes, int]:
        """The requests of the first of these ids, until they are as long as a frame may be, and how many."""
        texts: list[bytes] = []
        size, taken = 0, 0
        while taken < len(ids) and size < FRAME_BYTES:
            part = self._service.request_views(ids[taken:])
            for view in part.rows:
                if size >= FRAME_BYTES:
                    return b"[%s]" % b",".join(texts), bisect_left(ids, view["id"])
                texts.append(wire.encode(view))
                size += len(texts[-1])
            taken += part.taken
        return b"[%s]" % b",".join(texts), taken

    def _forget(self, now_s: float) -> None:
        """Keep nothing of jobs that every watcher knows the latest of."""
        behind: set[int] = set()
        for watcher in self._watchers:
            behind |= watcher.behind
        for job_id, topic in list(self._topics.items()):
            # Its text may be long, and those who are behind now will want a later one.
            topic.text = None
            if job_id not in behind:
                del self._topics[job_id]
        for watcher in self._watchers:
            watcher.forget(now_s)

    def _close(self, watcher: Watcher, code: int) -> None:
        self._watchers.pop(watcher, None)
        watcher.behind.clear()
        watcher.loop.call_soon_threadsafe(watcher.outbox.put_nowait, code)


@lru_cache(maxsize=8)
def _listed(ids: range) -> bytes:
    """The ids of a job's requests, which never change and are most of its frames."""
    return wire.encode(list(ids))


def _hand_out(deliveries: Iterable[tuple[Watcher, list[Frame]]]) -> None:
    for watcher, frames in deliveries:
        watcher.outbox.put_nowait(frames)


async def _send(socket: WebSocket, watcher: Watcher) -> None:
    """Send what comes; ends when the watcher is closed, or with the connection."""
    try:
        while True:
            news = await watcher.outbox.get()
            if isinstance(news, int):
                await socket.close(news)
                return
            for parts in news:
                await socket.send({"type": "websocket.send", "parts": parts})
            watcher.busy = False
    except (WebSocketDisconnect, OSError, RuntimeError) as error:
        log.debug("a watcher went away: %s", error)


async def _receive(socket: WebSocket) -> None:
    """Throw away what a watcher says; ends with the connection."""
    while True:
        message: Any = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
