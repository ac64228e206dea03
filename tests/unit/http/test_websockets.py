"""WebSockets that follow jobs, from outside."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import wsproto
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.connection import Connection

from puppetmaster.api.pages import Part
from puppetmaster.api.service import Service
from puppetmaster.clock import Clock
from puppetmaster.errors import NotFound, PuppetmasterError, StoreError
from puppetmaster.events import MOST_REQUESTS, Change, Hub, Kind
from puppetmaster.http import websockets as sockets_module
from puppetmaster.http.protocols import text_frame
from puppetmaster.http.websockets import (
    BUSY_S,
    FRAME_BYTES,
    FRAME_REQUESTS,
    INTERVAL_S,
    MOST_FRAMES,
    Backlog,
    Broadcaster,
    Subscriber,
)
from puppetmaster.model.job import Job
from tests.desk import until as eventually
from tests.examples import a_job
from tests.web_client import Door, batch, heavy, many, running


def frame(watching: Connection) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(watching.recv(timeout=20))
    return shown


def until(watching: Connection, status: str) -> dict[str, Any]:
    while (shown := frame(watching))["status"] != status:
        pass
    return shown


@pytest.mark.parametrize("path", ["/jobs/1/ws", "/jobs/ws/1"])
def test_the_present_state_comes_first_and_then_every_change(door: Door, path: str) -> None:
    job = door.ask("POST", "/jobs", batch("a", "b")).json
    door.ask("POST", "/jobs", batch("c"))
    with door.watch(path) as watching:
        assert frame(watching) == {**job, "seq": 1}
        paused = door.ask("PUT", "/jobs/1", {"status": "paused"}).json
        door.ask("PUT", "/jobs/2", {"status": "paused"})
        assert frame(watching) == {**paused, "seq": 2}
        removed = door.ask("DELETE", "/jobs/1").json
        last = until(watching, "deleted")
        assert {**last, "seq": 0} == {**removed, "status": "deleted", "seq": 0}


def ends_with(watching: Connection, code: int) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        watching.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


@pytest.mark.parametrize("path", ["/jobs/9/ws", "/jobs/ws/9", "/jobs/x/ws"])
def test_an_unknown_job_closes_with_4404(shared: Door, path: str) -> None:
    with shared.watch(path) as watching:
        ends_with(watching, 4404)


@pytest.mark.parametrize(
    "query", ["collection=1", "collection", "collection=true&collection=true", "limit=1"]
)
def test_a_query_that_is_wrong_is_refused(shared: Door, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused, shared.watch(f"/jobs/ws?{query}"):
        pass
    assert refused.value.response.status_code == 400
    assert "errors" in json.loads(refused.value.response.body or b"")


UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("method", "other", "said"),
    [
        ("POST", {}, "Expected GET for a WebSocket, got POST."),
        ("GET", {"Sec-WebSocket-Version": "12"}, "Expected the headers 'Sec-WebSocket-Version: 13' and"),
        ("GET", {"Sec-WebSocket-Key": None}, "Expected the headers 'Sec-WebSocket-Version: 13' and"),
        ("GET", {"Connection": "Upgrade, \xff"}, "Expected ASCII in the headers of a WebSocket"),
        ("GET", {"Sec-WebSocket-Protocol": "\xff"}, "Expected ASCII in the headers of a WebSocket"),
        ("GET", {"Sec-WebSocket-Extensions": "\xff"}, "Expected ASCII in the headers of a WebSocket"),
        ("GET", {"Host": "\xff"}, "a name or an address as Host, got others."),
        ("GET", {"Host": "xn--"}, "a name or an address as Host, got others."),
    ],
)
def test_an_upgrade_that_cannot_be_is_answered_and_leaves_no_connection(
    door: Door, caplog: pytest.LogCaptureFixture, method: str, other: dict[str, str | None], said: str
) -> None:
    assert door.app.door is not None
    lines = [f"{name}: {value}" for name, value in {**UPGRADE, **other}.items() if value is not None]
    head = "\r\n".join([f"{method} /jobs/ws HTTP/1.1", *lines, "", ""])
    answer = door.answered(head.encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 400")
    assert said in json.loads(answer.partition(b"\r\n\r\n")[2])["message"]
    connections = door.app.door.server.connections
    eventually(lambda: not connections(), "the server takes leave of it a moment later")
    told = {record.name for record in caplog.records}
    assert told <= {"sanji.puppetmaster.bus.connection"}, "which finds no broker here"


def test_the_collection_is_what_changed_since_the_frame_before(door: Door) -> None:
    job = door.ask("POST", "/jobs", batch("a", "b")).json
    with (
        door.watch("/jobs/1/ws?collection=true") as watching,
        door.watch("/jobs/ws?collection=true") as every,
    ):
        first = frame(watching)
        assert [one["id"] for one in first["collection"]] == first["requests"] == job["requests"]
        assert first["collection"] == door.ask("GET", "/jobs/1/requests").json
        door.ask("PUT", "/jobs/1", {"status": "paused"})
        assert frame(watching)["collection"] == []
        assert frame(every)["collection"] == []
        door.ask("PUT", "/jobs/1", {"status": "canceled"})
        for one in (watching, every):
            last = until(one, "canceled")
            assert [each["__request"]["status"] for each in last["collection"]] == ["canceled", "canceled"]
    with door.watch("/jobs/1/ws") as watching:
        assert "collection" not in frame(watching)


def test_a_large_collection_comes_in_several_frames(door: Door) -> None:
    job = door.ask("POST", "/jobs", batch(*many(FRAME_REQUESTS * 2 + 3))).json
    with door.watch("/jobs/1/ws?collection=true", max_size=None) as watching:
        told: list[int] = []
        sizes = []
        while len(told) < job["totalCount"]:
            collection = frame(watching)["collection"]
            told += [one["id"] for one in collection]
            sizes.append(len(collection))
        assert (told, sizes) == (job["requests"], [FRAME_REQUESTS, FRAME_REQUESTS, 3])


def test_a_frame_ends_where_it_would_become_too_long(door: Door) -> None:
    job = door.ask("POST", "/jobs", heavy(*many(20), data_bytes=300_000)).json
    with door.watch("/jobs/1/ws?collection=true", max_size=None) as watching:
        told: list[int] = []
        while len(told) < job["totalCount"]:
            text = watching.recv(timeout=20)
            assert len(text) < FRAME_BYTES + 310_000
            told += [one["id"] for one in json.loads(text)["collection"]]
        assert sorted(told) == job["requests"]


def test_frames_on_their_way_have_so_many_bytes_in_all(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets_module, "MOST_BYTES", 1)
    handed: list[int] = []
    hand_out = sockets_module._hand_out

    def counted(deliveries: Any) -> None:
        handed.append(len(deliveries))
        hand_out(deliveries)

    monkeypatch.setattr(sockets_module, "_hand_out", counted)
    door.ask("POST", "/jobs", batch("a"))
    watching = [door.watch("/jobs/1/ws") for _ in range(5)]
    for each in watching:
        assert frame(each)["id"] == 1
    handed.clear()
    door.ask("DELETE", "/jobs/1")  # which is told to all of them at once
    for each in watching:
        until(each, "deleted")
        each.close()
    assert handed[-5:] == [1] * 5


def test_a_ping_is_answered_and_what_is_said_is_thrown_away(door: Door) -> None:
    with door.watch("/jobs/ws") as watching:
        assert watching.ping().wait(10)
        for _ in range(100):
            watching.send("hello")
        assert watching.ping().wait(10)


def test_one_that_does_not_read_is_disconnected_and_others_are_told(tmp_path: Path) -> None:
    with running(tmp_path, http_timeout_s=0.5) as door:
        door.ask("POST", "/jobs", batch(*many(20_000)))  # each frame has 200 kB of ids
        upgrade = (
            f"GET /jobs/1/ws HTTP/1.1\r\nHost: localhost:{door.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with deaf, door.watch("/jobs/1/ws", max_size=None) as watching:
            deaf.connect(("127.0.0.1", door.port))
            deaf.sendall(upgrade.encode())
            frame(watching)
            assert door.app.door is not None
            pausing = True
            while door.app.door.subscribers != 1:
                status = "paused" if pausing else "dispatching"
                door.ask("PUT", "/jobs/1", {"status": status})
                assert frame(watching)["status"] == status
                pausing = not pausing


def test_many_subscribers_are_told_without_a_thread_for_each(door: Door) -> None:
    door.ask("POST", "/jobs", batch("a"))
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("pm-")}
    assert {"pm-http", "pm-sockets"} <= threads
    watching = [door.watch(f"/jobs/1/ws{'?collection=true' if n % 2 else ''}") for n in range(50)]
    try:
        assert {frame(one)["status"] for one in watching} == {"dispatching"}
        assert {one.name for one in threading.enumerate() if one.name.startswith("pm-")} == threads
        door.ask("PUT", "/jobs/1", {"status": "canceled"})
        assert all(until(one, "canceled")["seq"] >= 2 for one in watching)
    finally:
        for one in watching:
            one.close()
    assert door.ask("GET", "/jobs").status == 200


def test_the_end_of_the_bundle_closes_subscribers(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        watching = door.watch("/jobs/ws")
        watching.ping().wait(10)
        begun_s = time.monotonic()
    took_s = time.monotonic() - begun_s
    ends_with(watching, 1012)
    assert took_s < 3


# -- when a subscriber may be told ----------------------------------------------------------------


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    made = Subscriber(None, collection=False, loop=asyncio.new_event_loop())
    yield made
    made.loop.close()


def test_the_first_frame_and_what_is_urgent_go_at_once(subscriber: Subscriber) -> None:
    assert subscriber.due_s(1) < 0
    subscriber.sent(1, 100.0)
    assert subscriber.due_s(1) == 100.0 + INTERVAL_S
    assert subscriber.due_s(2) < 0
    subscriber.note(Change.of(Kind.ENDED, a_job(id=1)))
    assert subscriber.due_s(1) < 100.0
    subscriber.sent(1, 100.01)
    assert subscriber.due_s(1) == 100.01 + INTERVAL_S


def test_never_more_than_ten_frames_in_a_second(subscriber: Subscriber) -> None:
    sent_s: list[float] = []
    now_s = 100.0
    for number in range(200):
        if number % 3 == 0:
            subscriber.note(Change.of(Kind.ENDED, a_job(id=1)))
        now_s = max(now_s, subscriber.due_s(1))
        subscriber.sent(1, now_s)
        sent_s.append(now_s)
    assert all(late - early >= 0.999 for early, late in zip(sent_s, sent_s[MOST_FRAMES:], strict=False))


def test_frames_that_no_longer_count_are_forgotten(subscriber: Subscriber) -> None:
    for job in range(200):
        subscriber.sent(job, 100.0)
    subscriber.sent(200, 101.5)
    subscriber.forget(101.5)
    assert [job for job in range(201) if subscriber.due_s(job) > 0] == [200]


# -- frames in parts -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_text_in_parts_is_one_frame(size: int) -> None:
    parts = [b"a" * (size // 2), b"", b"b" * (size - size // 2)]
    client = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
    client.receive_data(text_frame(parts))
    received = [one for one in client.events() if isinstance(one, wsproto.events.TextMessage)]
    assert "".join(one.data for one in received).encode() == b"".join(parts)
    assert [one.message_finished for one in received][-1:] == [True]


# -- what a subscriber has yet to be told of ---------------------------------------------------------


def taken(backlog: Backlog) -> list[int]:
    ids: list[int] = []
    while backlog:
        part = backlog.take()
        assert 0 < len(part) <= FRAME_REQUESTS
        ids += part
    return ids


def test_a_backlog_holds_what_changed_and_tells_it_once() -> None:
    job = a_job(total=2000)
    backlog = Backlog(job, everything=False)
    assert not backlog
    backlog.add(frozenset(job.request_ids[:700]))
    backlog.add(frozenset(job.request_ids[300:900]))
    assert taken(backlog) == list(job.request_ids[:900])
    assert backlog.take() == ()


def test_what_is_to_be_told_anyway_is_not_remembered() -> None:
    job = a_job(total=1200)
    backlog = Backlog(job, everything=True)
    assert backlog.take() == tuple(job.request_ids[:FRAME_REQUESTS])
    last, next_ = job.request_ids[FRAME_REQUESTS - 1 : FRAME_REQUESTS + 1]
    backlog.add(frozenset([job.first, last, next_, job.request_ids[-1]]))
    assert taken(backlog) == [job.first, last, *job.request_ids[FRAME_REQUESTS:]]


def test_too_many_changes_begin_anew() -> None:
    job = a_job(total=MOST_REQUESTS + 10)
    everything = list(job.request_ids)
    most, more = frozenset(everything[:MOST_REQUESTS]), frozenset(everything[: MOST_REQUESTS + 1])
    for changed, told in ((None, everything), (more, everything), (most, everything[:MOST_REQUESTS])):
        backlog = Backlog(job, everything=False)
        backlog.add(changed)
        assert taken(backlog) == told


# -- rounds, without a server ---------------------------------------------------------------------------


class Loop:
    """What is to be done on the loop is done at once."""

    def call_soon_threadsafe(self, verb: Callable[..., Any], *args: Any) -> None:
        verb(*args)


class Shelf:
    """A service whose requests can be unreadable, and its jobs."""

    def __init__(self) -> None:
        self.broken = False
        #: Why no job can be read.
        self.fault: PuppetmasterError | None = None
        self.asked: list[tuple[int, ...]] = []

    def watched_job(self, number: str) -> Job:
        if self.fault is not None:
            raise self.fault
        return a_job(id=int(number))

    def request_views(self, ids: tuple[int, ...]) -> Part:
        self.asked.append(ids)
        if self.broken:
            raise StoreError("it cannot be read")
        return Part([{"id": id_} for id_ in ids], len(ids))


class Rounds:
    """Broadcaster of which the test makes every round, and moves the clock."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.hub = Hub()
        self.sockets = Broadcaster(cast(Service, self.shelf), self.hub, Clock())
        self.now_s = 100.0

    def enters(self, job: Job | None = None, *, collection: bool = False) -> Subscriber:
        subscriber = Subscriber(job, collection=collection, loop=cast(asyncio.AbstractEventLoop, Loop()))
        self.sockets._enter(subscriber, self.sockets._joining)
        return subscriber

    def leaves(self, subscriber: Subscriber) -> None:
        self.sockets._enter(subscriber, self.sockets._leaving)

    def round(self, *changes: Change) -> float | None:
        return self.sockets._round(list(changes), self.now_s)

    def later(self, *changes: Change) -> float | None:
        """One a second later."""
        self.now_s += 1
        return self.round(*changes)


def frames(subscriber: Subscriber) -> list[dict[str, Any]]:
    """What it was sent since it was last looked at; all of it is out."""
    told: list[dict[str, Any]] = []
    while not subscriber.outbox.empty():
        news = subscriber.outbox.get_nowait()
        assert not isinstance(news, int), f"closed with {news}"
        told += [json.loads(b"".join(parts)) for parts in news]
    subscriber.busy = False
    return told


def closed_with(subscriber: Subscriber) -> int | None:
    news = None if subscriber.outbox.empty() else subscriber.outbox.get_nowait()
    return news if isinstance(news, int) else None


def changed(id_: int = 1, kind: Kind = Kind.CHANGED, requests: Any = frozenset(), **more: Any) -> Change:
    return Change.of(kind, a_job(id=id_, **more), requests)


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


def test_a_store_that_cannot_be_read_ends_nobodys_frames(rounds: Rounds) -> None:
    """Who wants to see requests is told of them when they can be read again; the others wait for nothing."""
    detailed, plain = rounds.enters(a_job(), collection=True), rounds.enters(a_job())
    rounds.shelf.broken = True
    assert rounds.round() == pytest.approx(INTERVAL_S), "what could not be shown is tried again"
    assert [(one["seq"], one["collection"]) for one in frames(detailed)] == [(1, [])]
    assert [one["seq"] for one in frames(plain)] == [1]
    rounds.later(changed(kind=Kind.ENDED))
    assert [one["collection"] for one in frames(detailed)] == [[]]
    assert [one["seq"] for one in frames(plain)] == [2]
    rounds.shelf.broken = False
    assert rounds.later() is None
    assert [[each["id"] for each in one["collection"]] for one in frames(detailed)] == [
        [*a_job().request_ids]
    ]
    assert frames(plain) == []


def test_one_whose_job_is_gone_is_closed_and_others_are_told(rounds: Rounds) -> None:
    rounds.shelf.fault = NotFound("1")
    late, every = rounds.enters(a_job()), rounds.enters()
    rounds.round(changed())
    assert closed_with(late) == 4404
    assert [one["id"] for one in frames(every)] == [1]
    assert rounds.sockets.count == 1


def test_one_whose_job_cannot_be_read_now_is_told_to_come_back(rounds: Rounds) -> None:
    rounds.shelf.fault = StoreError("it cannot be read")
    late = rounds.enters(a_job())
    rounds.round()
    assert closed_with(late) == 1013


def test_a_subscriber_is_told_of_its_own_job_alone(rounds: Rounds) -> None:
    mine, every = rounds.enters(a_job(id=2)), rounds.enters()
    rounds.round()
    assert [one["id"] for one in frames(mine)] == [2]
    assert frames(every) == [], "what is there already is not told to who follows all"
    rounds.later(changed(1), changed(2))
    assert [one["id"] for one in frames(mine)] == [2]
    assert [one["id"] for one in frames(every)] == [1, 2]


def test_who_left_is_told_nothing(rounds: Rounds) -> None:
    subscriber = rounds.enters()
    rounds.round()
    rounds.leaves(subscriber)
    rounds.round(changed())
    assert (frames(subscriber), rounds.sockets.count, rounds.sockets._topics) == ([], 0, {})


def test_one_that_is_being_sent_a_frame_gets_no_other(rounds: Rounds) -> None:
    subscriber = rounds.enters()
    rounds.round(changed(reason="one"))
    assert rounds.later(changed(reason="two")) == pytest.approx(BUSY_S)
    assert rounds.round(changed(reason="three")) == pytest.approx(BUSY_S)
    assert [one["reason"] for one in frames(subscriber)] == ["one"]
    assert rounds.round() is None
    assert [one["reason"] for one in frames(subscriber)] == ["three"], "it is told the latest"


@pytest.mark.parametrize(("jobs", "closed"), [(3, None), (4, 1008)])
def test_one_that_falls_behind_by_too_many_jobs_is_closed(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, jobs: int, closed: int | None
) -> None:
    monkeypatch.setattr(sockets_module, "MOST_BEHIND", 3)
    subscriber = rounds.enters()
    rounds.round(changed())
    subscriber.outbox.get_nowait()
    rounds.round(*[changed(id_) for id_ in range(2, 2 + jobs)])
    assert closed_with(subscriber) == closed
    assert rounds.sockets.count == (closed is None)


def test_ordinary_changes_wait_for_their_time_and_urgent_ones_do_not(rounds: Rounds) -> None:
    subscriber = rounds.enters()
    rounds.round(changed())
    frames(subscriber)
    rounds.now_s += INTERVAL_S / 4
    assert rounds.round(changed()) == pytest.approx(INTERVAL_S * 3 / 4)
    assert frames(subscriber) == []
    assert rounds.round(changed(kind=Kind.ENDED)) is None
    assert len(frames(subscriber)) == 1


def test_many_subscribers_slow_only_ordinary_changes(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame costs ten seconds here, a hundredth of which is our share: the next one has to wait."""
    monkeypatch.setattr(sockets_module, "FRAME_S", 0.1)
    monkeypatch.setattr(sockets_module, "BYTE_S", 0.0)
    first, second = rounds.enters(), rounds.enters()
    rounds.round(changed())
    assert [len(frames(one)) for one in (first, second)] == [1, 1]
    rounds.now_s += 1.5
    assert rounds.round(changed()) == pytest.approx(0.5), "two frames of 0.1 s are a tenth of 2 s"
    rounds.round(changed(kind=Kind.ENDED))
    assert [len(frames(one)) for one in (first, second)] == [1, 1]


def test_requests_that_several_want_to_see_are_read_once(rounds: Rounds) -> None:
    subscribers = [rounds.enters(a_job(), collection=True) for _ in range(3)]
    rounds.round()
    assert len(rounds.shelf.asked) == 1
    assert [frames(one) for one in subscribers[1:]] == [frames(subscribers[0])] * 2
    rounds.later(changed(requests=frozenset(a_job().request_ids)))
    assert len(rounds.shelf.asked) == 2, "in the next round they may be others"


def test_a_removed_job_shows_no_requests(rounds: Rounds) -> None:
    subscriber = rounds.enters(collection=True)
    rounds.round(changed(requests=frozenset([2**31])))
    assert [one["collection"] for one in frames(subscriber)] == [[{"id": 2**31}]]
    rounds.later(changed(kind=Kind.DELETED, requests=frozenset([2**31])))
    (last,) = frames(subscriber)
    assert (last["status"], last["collection"]) == ("deleted", [])
    assert subscriber.backlogs == {}


def test_which_requests_changed_is_noted_while_somebody_wants_to_see_them(rounds: Rounds) -> None:
    detailed: list[bool] = []

    def look() -> None:
        rounds.round()
        detailed.append(rounds.hub.detailed)

    plain = rounds.enters()
    look()
    one, two = rounds.enters(collection=True), rounds.enters(a_job(), collection=True)
    look()
    rounds.leaves(one)
    look()
    rounds.leaves(two)
    rounds.leaves(plain)
    look()
    assert detailed == [False, True, True, False]


def test_nothing_is_kept_of_jobs_of_which_everybody_knows_the_latest(rounds: Rounds) -> None:
    subscriber = rounds.enters()
    rounds.round(changed(1))
    assert rounds.sockets._topics == {}
    rounds.round(changed(2))
    assert {id_: topic.text for id_, topic in rounds.sockets._topics.items()} == {2: None}
    frames(subscriber)
    rounds.later()
    assert rounds.sockets._topics == {}


def test_who_comes_before_one_whose_frame_cannot_be_made_is_told(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is told of later changes too: it does not wait for ever for what was never sent."""
    plain = rounds.enters(a_job())
    rounds.enters(a_job(), collection=True)
    with monkeypatch.context() as broken:
        broken.setattr(rounds.shelf, "request_views", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rounds.round()
    assert [one["seq"] for one in frames(plain)] == [1]
    rounds.later(changed(kind=Kind.ENDED))
    assert [one["seq"] for one in frames(plain)] == [2]


def test_a_round_that_fails_is_not_the_last(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong with one subscriber, the thread goes on."""
    subscriber = rounds.enters()
    faults = [ZeroDivisionError()]
    tell = rounds.sockets._tell

    def broken(now_s: float) -> float | None:
        if faults:
            raise faults.pop()
        return tell(now_s)

    monkeypatch.setattr(rounds.sockets, "_tell", broken)
    rounds.sockets.start()
    rounds.hub.post([changed(kind=Kind.CREATED)])
    eventually(lambda: not subscriber.outbox.empty(), "it is tried again")
    rounds.sockets.stop()
    assert "subscribers were not told" in caplog.text
    assert [one["id"] for one in frames(subscriber)] == [1]
