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
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from puppetmaster import jsoncodec
from puppetmaster.api import query
from puppetmaster.api.service import Service
from puppetmaster.clock import Clock
from puppetmaster.errors import NotFound, PuppetmasterError
from puppetmaster.events import Change, Hub
from puppetmaster.http.security import SUBPROTOCOL, refuse
from puppetmaster.model.job import Job
from puppetmaster.threads import Vital

#: A frame's text in parts: what many watchers are told alike is in memory once.
Frame = tuple[bytes, ...]
#: Between two frames of one job for ordinary changes; what is urgent goes at once.
INTERVAL_S = 0.1
#: Frames of one job in any second, urgent ones included.
MOST_FRAMES = 10
#: Requests in one frame of ``?collection=true``; others follow in the next.
FRAME_REQUESTS = 500
#: A frame takes no more of them once they have so many bytes; one request may be longer.
FRAME_BYTES = 1024 * 1024
#: Changed requests of one job that are remembered for one watcher; beyond it is told all of them anew.
MOST_CHANGED = 10_000


class Backlog:
    """The requests of one job that a watcher has yet to be told of."""

    def __init__(self, job: Job, *, everything: bool) -> None:
        self._ids = job.request_ids
        self._next = 0 if everything else len(self._ids)
        self._changed: set[int] = set()

    def add(self, changed: frozenset[int] | None) -> None:
        """These changed (None: too many to list). What is to be told anyway is not remembered."""
        if changed is not None:
            ahead = self._ids[self._next] if self._next < len(self._ids) else self._ids.stop
            self._changed.update(id_ for id_ in changed if id_ < ahead)
        if changed is None or len(self._changed) > MOST_CHANGED:
            self._next = 0
            self._changed.clear()

    def take(self) -> tuple[int, ...]:
        """The next ids to tell, ascending."""
        taken = sorted(self._changed)[:FRAME_REQUESTS]
        self._changed.difference_update(taken)
        more = self._ids[self._next : self._next + FRAME_REQUESTS - len(taken)]
        self._next += len(more)
        return (*taken, *more)

    def __bool__(self) -> bool:
        return bool(self._changed) or self._next < len(self._ids)


class Subscriber:
    """One WebSocket. The thread sets ``busy`` and the loop resets it; all else is the thread's."""

    def __init__(self, job: Job | None, *, collection: bool, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.collection = collection
        self.loop = loop
        self.outbox: asyncio.Queue[list[Frame] | int] = asyncio.Queue()
        self.busy = False
        #: Bytes of frames that it was last handed; while it is busy they are in memory.
        self.handed = 0
        self.seq = 0
        self.behind: set[int] = set()
        #: Jobs of which it is told however busy we are: they were created, ended or removed, or it is new.
        self.urgent: set[int] = set()
        self.backlogs: dict[int, Backlog] = {}
        self._sent_s: dict[int, deque[float]] = {}

    def due_s(self, job_id: int) -> float:
        """When a frame of this job may be sent, at the earliest."""
        sent_s = self._sent_s.get(job_id)
        if sent_s is None:
            return -math.inf
        earliest_s = sent_s[0] + 1.0 if len(sent_s) == MOST_FRAMES else -math.inf
        return earliest_s if job_id in self.urgent else max(earliest_s, sent_s[-1] + INTERVAL_S)

    def sent(self, job_id: int, now_s: float) -> None:
        """A frame of this job is being sent."""
        self._sent_s.setdefault(job_id, deque(maxlen=MOST_FRAMES)).append(now_s)
        self.urgent.discard(job_id)

    def forget(self, now_s: float) -> None:
        """Keep nothing of frames that no longer count."""
        if len(self._sent_s) > len(self.behind) + 100:
            self._sent_s = {id_: sent_s for id_, sent_s in self._sent_s.items() if now_s - sent_s[-1] < 1.0}
        if len(self.backlogs) > len(self.behind):
            self.backlogs = {id_: left for id_, left in self.backlogs.items() if left}

    def note(self, change: Change) -> None:
        """It has yet to be told of this change."""
        self.behind.add(change.job.id)
        if change.created or change.ended or change.deleted:
            self.urgent.add(change.job.id)
        if self.collection:
            backlog = self.backlogs.get(change.job.id)
            if backlog is None:
                backlog = self.backlogs[change.job.id] = Backlog(change.job, everything=False)
            backlog.add(change.requests)


log = logging.getLogger("sanji.puppetmaster.http.websockets")

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


class Broadcaster:
    """All watchers, and the thread that tells them."""

    def __init__(self, service: Service, hub: Hub, clock: Clock) -> None:
        self._service = service
        self._hub = hub
        self._clock = clock
        self._mailbox = hub.subscribe()
        self._lock = threading.Lock()  # guards _joining and _leaving
        self._joining: list[Subscriber] = []
        self._leaving: list[Subscriber] = []
        self._watchers: dict[Subscriber, None] = {}
        self._topics: dict[int, Topic] = {}
        self._paced_s = 0.0
        #: One round's: by the ids of requests their texts, and how many of the ids these are.
        self._views: dict[tuple[int, ...], tuple[bytes, int]] = {}
        self.thread = Vital(target=self._run, name="pm-sockets")

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
        if self.thread.ident is not None:
            self.thread.join(timeout=1.0)

    # -- on the loop ------------------------------------------------------------------------------

    async def watch(self, socket: WebSocket) -> None:
        """One WebSocket, from its opening to its end."""
        try:
            given = query.parameters(socket.scope["query_string"].decode("latin-1"))
            collection = bool(query.parse(given, ("changed",)).collection)
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
        watcher = Subscriber(job, collection=collection, loop=asyncio.get_running_loop())
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

    def _enter(self, watcher: Subscriber, where: list[Subscriber]) -> None:
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
            time.sleep(min(LOOK_S * len(self._watchers), LONGEST_LOOK_S))

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

    def _welcome(self, watcher: Subscriber, job: Job) -> None:
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
        deliveries: list[tuple[Subscriber, list[Frame]]] = []
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

    def _frames(self, watcher: Subscriber, now_s: float) -> tuple[list[Frame], float]:
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

    def _frame(self, watcher: Subscriber, topic: Topic) -> Frame:
        change = topic.change
        if topic.text is None:
            view = change.job.view()
            if change.deleted:
                view["status"] = "deleted"
            topic.text = b'%s,"requests":%s' % (jsoncodec.encode(view)[:-1], _listed(change.job.request_ids))
        watcher.seq += 1
        end = b',"seq":%d}' % watcher.seq
        if not watcher.collection:
            return topic.text, end
        return topic.text, b',"collection":', self._collection(watcher, change), end

    def _collection(self, watcher: Subscriber, change: Change) -> bytes:
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
                texts.append(jsoncodec.encode(view))
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

    def _close(self, watcher: Subscriber, code: int) -> None:
        self._watchers.pop(watcher, None)
        watcher.behind.clear()
        watcher.loop.call_soon_threadsafe(watcher.outbox.put_nowait, code)


@lru_cache(maxsize=8)
def _listed(ids: range) -> bytes:
    """The ids of a job's requests, which never change and are most of its frames."""
    return jsoncodec.encode(list(ids))


def _hand_out(deliveries: Iterable[tuple[Subscriber, list[Frame]]]) -> None:
    for watcher, frames in deliveries:
        watcher.outbox.put_nowait(frames)


async def _send(socket: WebSocket, watcher: Subscriber) -> None:
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
