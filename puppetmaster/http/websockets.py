"""WebSockets that follow jobs: the thread ``pm-sockets`` makes frames, the loop of ``pm-http`` sends them.

The thread takes changes from the hub. It keeps the latest change of each job, and for each subscriber the
jobs, and the requests of them, that the subscriber has yet to be sent. A subscriber whose frame is still
being sent gets no other frame: it falls behind, and is sent the latest state next. The server disconnects a
subscriber that reads nothing; this module disconnects a subscriber that falls behind by too many jobs.
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

log = logging.getLogger("sanji.puppetmaster.http.websockets")

#: A frame's text in parts. A part that many subscribers are sent is in memory once.
Frame = tuple[bytes, ...]
#: Shortest time between two frames of a job to one subscriber. Urgent changes are sent at once.
INTERVAL_S = 0.1
#: Most frames of a job to one subscriber in any second, urgent ones included.
MOST_FRAMES = 10
#: Most requests in one frame of ``?collection=true``; others follow in the next frame.
FRAME_REQUESTS = 500
#: A frame takes no further request once its requests have this many bytes. A single request may be longer.
FRAME_BYTES = 1024 * 1024
#: Most changed requests of a job that are remembered for one subscriber. Beyond it all are sent again.
MOST_CHANGED = 10_000
#: Processor time of a frame for one subscriber, and of each of its bytes, in this thread and ``pm-http``
#: together; measured with 200 subscribers (Python 3.11, Xeon). Ordinary changes are sent rarely enough to
#: take at most ``SHARE`` of one processor, so that many subscribers do not slow the dispatcher.
FRAME_S, BYTE_S, SHARE = 30e-6, 0.1e-9, 0.1
#: Pause after each round for each subscriber, and at most.
LOOK_S, LONGEST_LOOK_S = 100e-6, 0.02
#: Pause before the next look at a subscriber that is busy.
BUSY_S = 0.03
#: Most bytes of all frames that are being sent. Other subscribers have to wait meanwhile.
MOST_BYTES = 16 * 1024 * 1024
#: Most jobs in ``Subscriber.behind`` of a busy subscriber before it is disconnected.
MOST_BEHIND = 2000

#: The codes with which a WebSocket is closed: no such job, subscriber too slow, store or dispatcher busy.
UNKNOWN, TOO_SLOW, NOT_NOW = 4404, 1008, 1013


class Backlog:
    """The requests of one job that a subscriber has yet to be sent.

    ``everything``: at first all requests of the job.
    """

    def __init__(self, job: Job, *, everything: bool) -> None:
        self._ids = job.request_ids
        self._next = 0 if everything else len(self._ids)
        self._changed: set[int] = set()

    def add(self, changed: frozenset[int] | None) -> None:
        """Add requests that changed, by id; None: all. Requests that are to be sent anyway are left out."""
        if changed is not None:
            ahead = self._ids[self._next] if self._next < len(self._ids) else self._ids.stop
            self._changed.update(id_ for id_ in changed if id_ < ahead)
        if changed is None or len(self._changed) > MOST_CHANGED:
            self._next = 0
            self._changed.clear()

    def take(self) -> tuple[int, ...]:
        """Remove and return the next ids to send, ascending, at most ``FRAME_REQUESTS``."""
        taken = sorted(self._changed)[:FRAME_REQUESTS]
        self._changed.difference_update(taken)
        more = self._ids[self._next : self._next + FRAME_REQUESTS - len(taken)]
        self._next += len(more)
        return (*taken, *more)

    def __bool__(self) -> bool:
        return bool(self._changed) or self._next < len(self._ids)


class Subscriber:
    """One WebSocket, of all jobs (``job`` is None) or of one job.

    The thread ``pm-sockets`` sets ``busy`` and the loop resets it. Everything else but ``outbox`` belongs to
    the thread.
    """

    def __init__(self, job: Job | None, *, collection: bool, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.collection = collection
        self.loop = loop
        #: Frames to send, or the code to close the WebSocket with.
        self.outbox: asyncio.Queue[list[Frame] | int] = asyncio.Queue()
        #: Whether frames are being sent to it.
        self.busy = False
        #: Bytes of the frames that are being sent, which are in memory until then.
        self.handed = 0
        #: Number of frames made for it.
        self.seq = 0
        #: Ids of the jobs that have changed since it was last sent them.
        self.behind: set[int] = set()
        #: Those of them that are sent without a pause: created, ended or removed, or the subscriber is new.
        self.urgent: set[int] = set()
        #: Job id -> its requests that are still to be sent, with ``collection``.
        self.backlogs: dict[int, Backlog] = {}
        #: Job id -> when its latest frames were sent.
        self._sent_s: dict[int, deque[float]] = {}

    def due_s(self, job_id: int) -> float:
        """The earliest time at which a frame of this job may be sent (monotonic clock)."""
        sent_s = self._sent_s.get(job_id)
        if sent_s is None:
            return -math.inf
        earliest_s = sent_s[0] + 1.0 if len(sent_s) == MOST_FRAMES else -math.inf
        return earliest_s if job_id in self.urgent else max(earliest_s, sent_s[-1] + INTERVAL_S)

    def sent(self, job_id: int, now_s: float) -> None:
        """Note that a frame of this job is being sent."""
        self._sent_s.setdefault(job_id, deque(maxlen=MOST_FRAMES)).append(now_s)
        self.urgent.discard(job_id)

    def forget(self, now_s: float) -> None:
        """Drop the times of frames that no longer count, and empty backlogs."""
        if len(self._sent_s) > len(self.behind) + 100:
            self._sent_s = {id_: sent_s for id_, sent_s in self._sent_s.items() if now_s - sent_s[-1] < 1.0}
        if len(self.backlogs) > len(self.behind):
            self.backlogs = {id_: left for id_, left in self.backlogs.items() if left}

    def note(self, change: Change) -> None:
        """Note a change that it has yet to be sent."""
        self.behind.add(change.job.id)
        if change.created or change.ended or change.deleted:
            self.urgent.add(change.job.id)
        if self.collection:
            backlog = self.backlogs.get(change.job.id)
            if backlog is None:
                backlog = self.backlogs[change.job.id] = Backlog(change.job, everything=False)
            backlog.add(change.requests)


class Topic:
    """The latest change of one job. ``text`` is its JSON but for the end; None until it is needed."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.text: bytes | None = None


class Broadcaster:
    """All subscribers, and the thread that makes their frames."""

    def __init__(self, service: Service, hub: Hub, clock: Clock) -> None:
        #: What is asked for jobs and requests. It may be replaced at any time.
        self.service = service
        self._hub = hub
        self._clock = clock
        self._mailbox = hub.subscribe()
        self._lock = threading.Lock()  # guards _joining and _leaving
        self._joining: list[Subscriber] = []
        self._leaving: list[Subscriber] = []
        self._subscribers: dict[Subscriber, None] = {}
        self._topics: dict[int, Topic] = {}
        self._paced_s = 0.0
        #: In one round: ids of requests -> their JSON, and how many of the ids it covers.
        self._views: dict[tuple[int, ...], tuple[bytes, int]] = {}
        self.thread = Vital(target=self._run, name="pm-sockets")

    @property
    def count(self) -> int:
        """Number of subscribers."""
        return len(self._subscribers)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Send the changes that are still unread, and wait up to a second for the thread."""
        self._hub.unsubscribe(self._mailbox)
        self._mailbox.close()
        self.thread.join(1.0)

    # -- on the loop ------------------------------------------------------------------------------

    async def watch(self, socket: WebSocket) -> None:
        """Serve one WebSocket, from its opening to its end."""
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
                job = await run_in_threadpool(self.service.watched_job, socket.path_params["id"])
        except PuppetmasterError as error:
            await socket.close(_closing(error), error.message[:100])
            return
        subscriber = Subscriber(job, collection=collection, loop=asyncio.get_running_loop())
        self._enter(subscriber, self._joining)
        sending = asyncio.create_task(_send(socket, subscriber))
        receiving = asyncio.create_task(_receive(socket))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._enter(subscriber, self._leaving)
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def _enter(self, subscriber: Subscriber, where: list[Subscriber]) -> None:
        with self._lock:
            where.append(subscriber)
        self._mailbox.wake()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s: float | None = None
        while (changes := self._mailbox.take(wait_s)) is not None:
            try:
                wait_s = self._round(changes, self._clock.now_s())
            except Exception:
                log.exception("subscribers were not told", extra={"action": "sockets_fault"})
                wait_s = INTERVAL_S
            # Without this pause each change would cost a look through all subscribers.
            time.sleep(min(LOOK_S * len(self._subscribers), LONGEST_LOOK_S))

    def _round(self, changes: list[Change], now_s: float) -> float | None:
        """Take in changes and send what is due. Returns the seconds until more is due; None: nothing is."""
        self._come_and_go()
        for change in changes:
            self._take(change)
        return self._tell(now_s)

    def _come_and_go(self) -> None:
        with self._lock:
            joining, self._joining = self._joining, []
            leaving, self._leaving = self._leaving, []
        for subscriber in joining:
            self._subscribers[subscriber] = None
            if subscriber.collection:
                self._mailbox.detailed = True
        for subscriber in joining:
            if subscriber.job is not None:
                self._welcome(subscriber, subscriber.job)
        for subscriber in leaving:
            self._subscribers.pop(subscriber, None)
        if leaving and self._mailbox.detailed:
            self._mailbox.detailed = any(subscriber.collection for subscriber in self._subscribers)

    def _welcome(self, subscriber: Subscriber, job: Job) -> None:
        """Give a new subscriber the present state of its job, read now. Later changes follow it."""
        try:
            job = self.service.watched_job(str(job.id))
        except PuppetmasterError as error:
            self._close(subscriber, _closing(error))
            return
        self._topics.setdefault(job.id, Topic(Change(job)))
        subscriber.behind.add(job.id)
        subscriber.urgent.add(job.id)
        if subscriber.collection:
            subscriber.backlogs[job.id] = Backlog(job, everything=True)

    def _take(self, change: Change) -> None:
        interested = [
            subscriber
            for subscriber in self._subscribers
            if subscriber.job is None or subscriber.job.id == change.job.id
        ]
        if not interested:
            return
        self._topics[change.job.id] = Topic(change)
        for subscriber in interested:
            subscriber.note(change)

    def _tell(self, now_s: float) -> float | None:
        deliveries: list[tuple[Subscriber, list[Frame]]] = []
        try:
            due_s = self._deliver(deliveries, now_s)
        finally:  # whoever is in it is busy until these are out, also when those of others cannot be made
            self._send_off(deliveries, now_s)
        self._forget(now_s)
        return None if due_s == math.inf else max(0.0, due_s - now_s)

    def _deliver(self, deliveries: list[tuple[Subscriber, list[Frame]]], now_s: float) -> float:
        """Add the frames that are due to ``deliveries``. Returns when more is due (infinite: nothing is)."""
        due_s = math.inf
        self._views.clear()
        held = sum(subscriber.handed for subscriber in self._subscribers if subscriber.busy)
        for subscriber in list(self._subscribers):
            if not subscriber.behind:
                continue
            if subscriber.busy or held >= MOST_BYTES:
                due_s = min(due_s, now_s + BUSY_S)
                if len(subscriber.behind) > MOST_BEHIND:
                    self._close(subscriber, TOO_SLOW)
                continue
            frames, next_s = self._frames(subscriber, now_s)
            due_s = min(due_s, next_s)
            if frames:
                subscriber.busy = True
                subscriber.handed = sum(len(part) for frame in frames for part in frame)
                held += subscriber.handed
                deliveries.append((subscriber, frames))
        return due_s

    def _send_off(self, deliveries: list[tuple[Subscriber, list[Frame]]], now_s: float) -> None:
        if not deliveries:
            return
        sizes = [sum(map(len, frame)) for _, frames in deliveries for frame in frames]
        took_s = FRAME_S * len(sizes) + BYTE_S * sum(sizes)
        self._paced_s = max(self._paced_s, now_s) + took_s / SHARE
        deliveries[0][0].loop.call_soon_threadsafe(_hand_out, deliveries)

    def _frames(self, subscriber: Subscriber, now_s: float) -> tuple[list[Frame], float]:
        """The frames that this subscriber is to be sent now, and when the next is due (infinite: none is)."""
        frames, next_s = [], math.inf
        for job_id in sorted(subscriber.behind):
            due_s = subscriber.due_s(job_id)
            if job_id not in subscriber.urgent:
                due_s = max(due_s, self._paced_s)
            if due_s > now_s:
                next_s = min(next_s, due_s)
                continue
            frames.append(self._frame(subscriber, self._topics[job_id]))
            subscriber.sent(job_id, now_s)
            if subscriber.backlogs.get(job_id):
                next_s = min(next_s, now_s + INTERVAL_S)
            else:
                subscriber.behind.discard(job_id)
        return frames, next_s

    def _frame(self, subscriber: Subscriber, topic: Topic) -> Frame:
        change = topic.change
        if topic.text is None:
            view = change.job.view()
            if change.deleted:
                view["status"] = "deleted"
            topic.text = b'%s,"requests":%s' % (jsoncodec.encode(view)[:-1], _listed(change.job.request_ids))
        subscriber.seq += 1
        end = b',"seq":%d}' % subscriber.seq
        if not subscriber.collection:
            return topic.text, end
        return topic.text, b',"collection":', self._collection(subscriber, change), end

    def _collection(self, subscriber: Subscriber, change: Change) -> bytes:
        backlog = subscriber.backlogs.get(change.job.id)
        if backlog is None or change.deleted:
            subscriber.backlogs.pop(change.job.id, None)
            return b"[]"
        ids = backlog.take()
        try:
            text, taken = self._views.get(ids) or self._views.setdefault(ids, self._texts(ids))
        except PuppetmasterError as error:
            log.warning("requests cannot be shown to a subscriber now: %s", error)
            text, taken = b"[]", 0
        if taken < len(ids):
            backlog.add(frozenset(ids[taken:]))
        return text

    def _texts(self, ids: tuple[int, ...]) -> tuple[bytes, int]:
        """The JSON list of these requests, up to ``FRAME_BYTES``, and how many of the ids it covers."""
        texts: list[bytes] = []
        size, taken = 0, 0
        while taken < len(ids) and size < FRAME_BYTES:
            part = self.service.request_views(ids[taken:])
            for view in part.rows:
                if size >= FRAME_BYTES:
                    return b"[%s]" % b",".join(texts), bisect_left(ids, view["id"])
                texts.append(jsoncodec.encode(view))
                size += len(texts[-1])
            taken += part.taken
        return b"[%s]" % b",".join(texts), taken

    def _forget(self, now_s: float) -> None:
        """Drop jobs whose latest state every subscriber has been sent."""
        behind: set[int] = set()
        for subscriber in self._subscribers:
            behind |= subscriber.behind
        for job_id, topic in list(self._topics.items()):
            # The text may be long, and subscribers that are still behind will be sent a later one.
            topic.text = None
            if job_id not in behind:
                del self._topics[job_id]
        for subscriber in self._subscribers:
            subscriber.forget(now_s)

    def _close(self, subscriber: Subscriber, code: int) -> None:
        self._subscribers.pop(subscriber, None)
        subscriber.behind.clear()
        subscriber.loop.call_soon_threadsafe(subscriber.outbox.put_nowait, code)


def _closing(error: PuppetmasterError) -> int:
    """The code with which a WebSocket is closed whose job could not be read."""
    return UNKNOWN if isinstance(error, NotFound) else NOT_NOW


@lru_cache(maxsize=8)
def _listed(ids: range) -> bytes:
    """The JSON list of a job's request ids, which never change and are most of its frames."""
    return jsoncodec.encode(list(ids))


def _hand_out(deliveries: Iterable[tuple[Subscriber, list[Frame]]]) -> None:
    for subscriber, frames in deliveries:
        subscriber.outbox.put_nowait(frames)


async def _send(socket: WebSocket, subscriber: Subscriber) -> None:
    """Send the frames of a subscriber until it is closed or the connection ends."""
    try:
        while True:
            news = await subscriber.outbox.get()
            if isinstance(news, int):
                await socket.close(news)
                return
            for parts in news:
                await socket.send({"type": "websocket.send", "parts": parts})
            subscriber.busy = False
    except (WebSocketDisconnect, OSError, RuntimeError) as error:
        log.debug("a subscriber went away: %s", error)


async def _receive(socket: WebSocket) -> None:
    """Drop the messages of a client until the connection ends."""
    while True:
        message: Any = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
