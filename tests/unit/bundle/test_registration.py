"""Registration and its channel, against a controller that is a function of the test."""

import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from puppetmaster.bundle import registration as module
from puppetmaster.bundle.registration import Channel, Listener, Registration, RegistrationError, Unanswered
from puppetmaster.model.message import DEPENDENCY, REGISTRATION

Message = dict[str, Any]
OK: Message = {"code": 200, "data": {"tunnel": "808"}}
OWN, PROCESS = "/system/ma/one", "this process"
PROFILE: Message = {"name": "ma", "role": "model", "resources": ["/a", OWN]}
ME: Message = {"code": 200, "data": {"process": PROCESS}}
TAKEN: Message = {"code": 403, "data": {"message": "component had beed already registered"}}


class ScriptedLink:
    """Carries nothing: `controller` gives the answer to each message, or None for silence."""

    def __init__(self) -> None:
        self.controller: Callable[[Message], Message | None] = lambda message: OK
        self.door: Message | None = ME  # the answer of who owns OWN
        self.sent: queue.Queue[Message] = queue.Queue()
        self.tunnels: dict[str, Callable[[Any, Any, Any], None]] = {}

    def set_tunnel(self, tunnel_type: str, tunnel: str, callback: Callable[[Any, Any, Any], None]) -> None:
        self.tunnels[tunnel] = callback

    def publish(self, topic: str, qos: int, payload: Any) -> None:
        assert (topic, qos) == ("/controller", 0)
        self.sent.put(payload)
        answer = self.door if payload["resource"] == OWN else self.controller(payload)
        if answer is not None:
            self.deliver(payload["tunnel"], {"id": payload["id"], **answer})

    def deliver(self, tunnel: str, message: Any) -> None:
        self.tunnels[tunnel](None, None, SimpleNamespace(payload=json.dumps(message).encode()))

    def next(self) -> tuple[str, str]:
        message = self.sent.get(timeout=20)
        return message["method"], message["resource"]


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def channel(link: ScriptedLink) -> Channel:
    made = Channel(link)
    made.open()
    return made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.01,))


# ---- channel ------------------------------------------------------------------------------------------


def test_a_call_returns_the_answer_with_its_id(link: ScriptedLink, channel: Channel) -> None:
    assert channel.call("get", "/x", {"a": 1}, 20)["data"] == {"tunnel": "808"}
    sent = link.sent.get(timeout=1)
    assert sent["data"] == {"a": 1}
    assert len(sent["tunnel"]) < 64  # the controller cuts a longer one


def test_ids_are_from_the_upper_quarter_and_none_comes_twice(link: ScriptedLink, channel: Channel) -> None:
    """F7: clear of the SDK's 0 to 655,350 (0 is an event), of Node's counters and of the dispatcher's."""
    for _ in range(1000):
        channel.call("get", "/x", None, 20)
    ids = [link.sent.get_nowait()["id"] for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(3 * 2**30 <= each < 2**32 for each in ids)


def test_ids_begin_again_behind_the_last_one(link: ScriptedLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.randrange", lambda end: end - 1)
    channel = Channel(link)
    channel.open()
    channel.call("get", "/x", None, 20)
    channel.call("get", "/x", None, 20)
    assert [link.sent.get_nowait()["id"] for _ in range(2)] == [2**32 - 1, 3 * 2**30]


def test_a_call_ends_at_its_own_deadline_whatever_else_happens(link: ScriptedLink, channel: Channel) -> None:
    """F6: the SDK's timeouts come never, or early, depending on how much is acknowledged meanwhile."""
    link.controller = lambda message: None
    begun = time.monotonic()
    with pytest.raises(RegistrationError, match=r"no answer to get /x within 0\.2 s"):
        channel.call("get", "/x", None, 0.2)
    assert 0.2 <= time.monotonic() - begun < 2
    assert channel._waiting == {}


def test_a_call_without_a_link_fails_at_once(link: ScriptedLink, channel: Channel) -> None:
    link.controller = Mock(side_effect=RuntimeError("No connection"))
    with pytest.raises(RegistrationError, match="was not sent: No connection"):
        channel.call("get", "/x", None, 60)


def test_a_late_answer_and_one_to_nobody_are_dropped(link: ScriptedLink, channel: Channel) -> None:
    """F8: the SDK hands such an answer to the bundle's own handlers, as an event."""
    link.controller = lambda message: None
    with pytest.raises(RegistrationError):
        channel.call("get", "/x", None, 0.01)
    late = link.sent.get(timeout=1)
    ids: list[object] = [late["id"], 5, None, [], {}, "x"]
    for message_id in ids:
        link.deliver(channel.tunnel, {"id": message_id, "code": 200})
    link.controller = lambda message: {"code": 204}
    assert channel.call("get", "/x", None, 20)["code"] == 204


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"[]", b"5", b"{}", b'{"id":NaN}', b"[" * 100_000, b"\xff"]
)
def test_whatever_arrives_on_the_tunnel_the_network_thread_lives(
    link: ScriptedLink, channel: Channel, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """F5: paho ends its thread for an exception in a callback of a topic."""
    link.tunnels[channel.tunnel](None, None, SimpleNamespace(payload=payload))
    assert caplog.messages[0].endswith(f"dropped: expected an answer with an id, got {repr(payload)[:80]}")
    assert channel.call("get", "/x", None, 20)["code"] == 200


# ---- registration -------------------------------------------------------------------------------------


class Bench:
    """A registration on a scripted link, with what it reported."""

    def __init__(self, link: ScriptedLink, channel: Channel) -> None:
        self.link = link
        self.channel = channel
        self.accepted: queue.Queue[tuple[str, str]] = queue.Queue()
        self.ready: queue.Queue[int] = queue.Queue()
        self.forgotten: queue.Queue[float] = queue.Queue()
        self.profiles = [PROFILE]
        self.registration = Registration(
            channel,
            lambda: self.profiles,
            Listener(
                lambda role, tunnel: self.accepted.put((role, tunnel)),
                lambda: self.ready.put(self.registration.count),
                self.forgotten.put,
            ),
            lambda: OWN,
            PROCESS,
        )

    def registered(self) -> int:
        """Wait until registered; returns the count."""
        return self.ready.get(timeout=20)

    def connect(self) -> int:
        """There is a connection; wait until registered over it, and return the count."""
        self.registration.connected()
        return self.registered()


@pytest.fixture
def bench(link: ScriptedLink, channel: Channel) -> Iterator[Bench]:
    made = Bench(link, channel)
    made.registration.start()
    yield made
    link.controller = lambda message: OK
    made.registration.stop(5)
    assert not any(thread.name == "sdk-registration" for thread in threading.enumerate())


def test_it_registers_at_once_after_a_connect(bench: Bench) -> None:
    """F14: the SDK waits up to five seconds first."""
    assert not bench.registration.registered.is_set()
    assert bench.connect() == 1
    assert bench.registration.registered.is_set()
    assert bench.accepted.get_nowait() == ("model", "808")
    assert [bench.link.next() for _ in range(2)] == [
        ("post", "/controller/registration"),
        ("get", OWN),  # when it comes back, the broker has our subscriptions
    ]


def test_every_profile_is_registered(bench: Bench) -> None:
    bench.profiles = [PROFILE, {**PROFILE, "name": "ma-view", "role": "view", "resources": ["/a"]}]
    bench.connect()
    assert [bench.accepted.get_nowait()[0] for _ in range(2)] == ["model", "view"]
    before = list(iter(bench.link.next, ("get", OWN)))
    assert before.count(("post", REGISTRATION)) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        None,
        {"code": 423, "data": {"message": "resoures is locked"}},
        {"code": 403, "data": {"message": "'id' was used, please use another 'id'"}},
        {"code": 403, "data": {"message": "component had beed already registered"}},
        {"code": 404},
        {"code": 200, "data": {}},
        {"code": 200, "data": {"tunnel": 5}},
        {"code": 200, "data": {"tunnel": ""}},
        {"code": 200, "data": "x"},
        {"data": None},
        {"code": "200"},
    ],
)
def test_a_refusal_is_followed_by_another_try_with_other_ids(
    bench: Bench, refusal: Message | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    seen: list[int] = []

    def controller(message: Message) -> Message | None:
        seen.append(message["id"])
        return refusal if len(seen) <= 2 else OK

    bench.link.controller = controller
    assert bench.connect() == 1
    assert len(seen) == len(set(seen)) > 2
    assert not caplog.records  # it is daily life


def test_what_went_wrong_is_told_once_and_again_when_it_was_well_meanwhile(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    refusals = iter([True, True, False, True, True])
    bench.link.controller = lambda message: {"code": 423} if next(refusals, False) else OK
    for count in (1, 2):
        assert bench.connect() == count
        told = [record.getMessage() for record in caplog.records]
        assert told == ["not registered: post of ma: answered 423 None"] * count


def test_an_unforeseen_error_does_not_end_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    broken: Message = {"name": "no role and nothing else"}
    bench.profiles = [broken]
    bench.registration.connected()
    bench.link.next()
    bench.profiles = [PROFILE]
    assert bench.registered() == 1
    assert "KeyError" in caplog.text


def test_a_newer_connection_overtakes_a_registration_that_waits(bench: Bench) -> None:
    """F3: the SDK's on_connect joins the old one on the network thread, which never ends: dead for ever."""
    bench.link.controller = lambda message: None
    bench.registration.connected()
    bench.link.next()
    bench.link.controller = lambda message: OK
    begun = time.monotonic()
    bench.registration.connected()
    assert time.monotonic() - begun < 1  # never joins
    assert bench.registered() == 1
    assert time.monotonic() - begun < module.ANSWER_S  # nor waits for the old one's deadline


def test_many_connects_in_a_row_end_in_one_registration(bench: Bench) -> None:
    for _ in range(50):
        bench.registration.disconnected()
        bench.registration.connected()
    last = 0
    while not bench.registration.registered.is_set() or not bench.ready.empty():
        last = bench.registered()
    assert last == bench.registration.count
    assert sum(thread.name == "sdk-registration" for thread in threading.enumerate()) == 1


@pytest.mark.usefixtures("_impatient")
def test_without_a_link_nothing_is_tried(bench: Bench) -> None:
    """Nor is it checked whether requests reach us, whose time comes over and over here."""
    with pytest.raises(queue.Empty):
        bench.link.sent.get(timeout=0.1)
    bench.connect()
    bench.registration.disconnected()
    assert not bench.registration.registered.is_set()
    bench.link.sent.queue.clear()
    bench.registration.again()
    with pytest.raises(queue.Empty):
        bench.link.sent.get(timeout=0.1)
    assert bench.connect() == 2


def test_again_registers_anew_and_only_once_at_a_time(bench: Bench) -> None:
    """F2: the controller was restarted and knows nobody."""
    assert bench.connect() == 1
    posts, asked, answering = [], threading.Event(), threading.Event()

    def controller(message: Message) -> Message:
        posts.append(message["method"])
        asked.set()
        assert answering.wait(20)
        return OK

    bench.link.controller = controller
    bench.registration.again()
    assert not bench.registration.registered.is_set()
    assert asked.wait(20)
    for _ in range(5):
        bench.registration.again()
    answering.set()
    assert bench.registered() == 2
    assert bench.registration.registered.is_set()
    with pytest.raises(queue.Empty):
        bench.ready.get(timeout=0.1)
    assert posts == ["get", "post"]


def test_a_controller_that_has_forgotten_us_is_told_of_before_it_knows_us_again(bench: Bench) -> None:
    """Afterwards nothing tells that it was restarted: who is not registered yet would seem to be missing."""
    bench.connect()
    assert bench.forgotten.empty(), "at the start it never knew us"
    came: list[str] = []

    def controller(message: Message) -> Message:
        if message["method"] == "post":
            came.extend("told" for _ in range(bench.forgotten.qsize()))
        came.append(message["method"])
        return OK if came.count("post") == 3 else {"code": 423}

    before_s = time.monotonic()
    bench.link.controller = controller
    bench.registration.again()
    bench.registered()
    assert came == ["get", *["told", "post"] * 3], "once, however often it is tried"
    assert bench.forgotten.get() < before_s


def test_a_controller_that_still_knows_us_has_forgotten_nobody(bench: Bench) -> None:
    """The connection was another one."""
    bench.connect()
    bench.link.controller = lambda message: {**OK, "data": {**OK["data"], "resources": [OWN]}}
    bench.connect()
    assert bench.forgotten.empty()


def test_stop_takes_the_registration_back(bench: Bench) -> None:
    """F13: the SDK leaves it with the controller for ever: who asks waits for the ttl."""
    bench.connect()
    bench.link.sent.queue.clear()
    bench.registration.stop(5)
    assert bench.link.next() == ("delete", "/controller/registration")
    assert not bench.registration.registered.is_set()
    bench.registration.stop(5)
    assert bench.link.sent.empty(), "once"


def test_what_was_asked_before_the_last_registration_is_old_news(bench: Bench) -> None:
    asked_s = time.monotonic()
    assert bench.connect() == 1
    bench.registration.again(asked_s)
    assert bench.registration.registered.is_set()
    bench.registration.again(time.monotonic())
    assert bench.registered() == 2


def test_stop_is_bounded_and_ends_a_registration_under_way(bench: Bench) -> None:
    bench.link.controller = lambda message: None
    bench.registration.connected()
    bench.link.next()
    begun = time.monotonic()
    bench.registration.stop(0.3)
    assert time.monotonic() - begun < 1.5
    bench.registration.again()
    bench.registration.connected()
    assert not bench.registration.registered.is_set()


def test_all_that_stop_asks_for_has_one_deadline(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.profiles = [PROFILE] * 3
    bench.connect()
    times_s, waits_s = itertools.count(100.0, 3.0), list[float]()

    def silence(method: str, _resource: str, _data: object, timeout_s: float) -> Message:
        waits_s.append(timeout_s)
        raise Unanswered(method)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=times_s.__next__))
    monkeypatch.setattr(bench.channel, "call", silence)
    bench.registration.stop(5)
    assert waits_s == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("ends", ["disconnected", "stop"])
def test_a_link_that_is_lost_at_the_last_moment_is_not_registered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """All was answered, and is of no use any more."""
    ended = threading.Event()
    ending = threading.Thread(target=getattr(bench.registration, ends), args=[5][: ends == "stop"])

    def deliver(tunnel: str, message: Message) -> None:
        ScriptedLink.deliver(bench.link, tunnel, message)
        if message["data"] == ME["data"]:
            monkeypatch.setattr(bench.channel, "cancel", lambda _: ended.set())
            ending.start()
            assert ended.wait(20)

    monkeypatch.setattr(bench.link, "deliver", deliver)
    bench.registration.connected()
    assert ended.wait(20)
    ending.join(20)
    monkeypatch.undo()
    bench.registration.stop(5)
    assert (bench.registration.count, bench.ready.empty()) == (0, True)
    assert not bench.registration.registered.is_set()


def test_stop_before_the_start_is_nothing(link: ScriptedLink, channel: Channel) -> None:
    Bench(link, channel).registration.stop(1)
    assert link.sent.empty()


# ---- somebody else has our name -----------------------------------------------------------------------

OTHER = "/system/ma/two"
THEM: Message = {"code": 200, "data": {"process": "another", "pid": 4, "host": "gw"}}


class Rival:
    """A controller at which somebody else has our name, and that somebody's answers."""

    def __init__(self, link: ScriptedLink, *resources: str) -> None:
        self.owned: Any = {"resources": list(resources)}
        self.answer: Message | None = THEM
        self.answers: Iterator[Message | None] = iter(())  # the first ones, where they are others
        self.holds = True
        #: What the controller itself answers once after each time that it asked; None: nothing.
        self.pause: Message | None = TAKEN
        self.pausing = False
        self.looked_for: set[str] = set()
        self.deleted: queue.Queue[Message] = queue.Queue()
        self.asked: queue.Queue[str] = queue.Queue()
        link.controller = self

    def __call__(self, message: Message) -> Message | None:
        resource = message["resource"]
        if self.pausing and message["method"] == "post":
            self.pausing = False
            return self.pause
        if resource.startswith(DEPENDENCY):
            self.looked_for.add(resource.removeprefix(DEPENDENCY))
            return {"code": 200, "data": self.owned}
        if isinstance(self.owned, dict) and resource in self.owned["resources"]:
            self.asked.put(resource)
            self.pausing = self.pause is not TAKEN
            return next(self.answers, self.answer)
        if message["method"] == "delete":
            self.deleted.put(message)
            self.holds = False
        return TAKEN if self.holds else OK


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSWER_S", "CHECK_ANSWER_S", "PREDECESSOR_S"):
        monkeypatch.setattr(module, name, 0.05)
    for name, seconds in (("CHECK_S", 0.01), ("DEAD_S", 0.5)):
        monkeypatch.setattr(module, name, seconds)


@pytest.mark.parametrize(
    ("resource", "who"), [(OTHER, "installation two"), ("/system/ma", "an earlier version")]
)
@pytest.mark.usefixtures("_impatient")
def test_a_name_is_not_taken_from_who_lives(
    bench: Bench, resource: str, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    rival = Rival(bench.link, "/a", "/system/ma", resource)
    bench.registration.connected()
    for _ in range(5):
        assert rival.asked.get(timeout=20) == resource
    assert not bench.registration.registered.is_set()
    said = f"another ma, {who} (process 4 on gw), has our resources: stop one of the two"
    assert str(bench.registration.reason).startswith(said)
    assert [said in record.getMessage() for record in caplog.records] == [True], "once"
    bench.registration.stop(5)
    assert rival.deleted.empty(), "what is theirs is not deregistered"


@pytest.mark.usefixtures("_impatient")
def test_a_name_is_taken_over_when_who_had_it_has_left(bench: Bench) -> None:
    rival = Rival(bench.link, "/a", OTHER)
    bench.registration.connected()
    rival.asked.get(timeout=20)
    assert rival.looked_for == {"/a"}, "what it is known by to everybody"
    rival.holds = False
    assert bench.registered() == 1
    assert rival.deleted.empty()
    assert bench.registration.reason is None


def _another(_: Bench, rival: Rival) -> None:
    rival.owned = {"resources": ["/a", "/system/ma/three"]}


def _a_new_link(bench: Bench, _: Rival) -> None:
    bench.registration.connected()


@pytest.mark.parametrize(
    ("resource", "answers", "times"),
    [
        (OTHER, [], 3),
        ("/system/ma", [], 3),  # an earlier version
        (OTHER, [None, THEM], 5),  # as if it had just begun
        (OTHER, [None, {"code": 423}], 4),  # that says nothing
        (OTHER, [_another], 4),  # that is not the one that was silent before
        (OTHER, [None, _a_new_link], 5),  # what it said meanwhile was lost
    ],
)
@pytest.mark.usefixtures("_impatient")
def test_a_minute_of_silence_is_without_interruption(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, resource: str, answers: Sequence[Any], times: int
) -> None:
    """After some answers, and what happens meanwhile, nothing is answered any more."""
    clock = itertools.count(0.0, 30.0)  # 30 s later at each look at it, which is taken in silence only
    monkeypatch.setattr(module, "DEAD_S", 60.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.__next__))
    rival = Rival(bench.link, "/a", resource)
    rival.answer = None
    rival.answers = (one(bench, rival) if callable(one) else one for one in answers)
    assert bench.connect() == 1
    assert rival.asked.get_nowait() == resource
    assert (rival.asked.qsize(), rival.deleted.qsize()) == (times - 1, 1)


@pytest.mark.parametrize(("pause", "taken"), [(None, False), ({"code": 423}, True)])
@pytest.mark.usefixtures("_impatient")
def test_only_while_the_controller_answers_somebody_counts_as_dead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, pause: Message | None, taken: bool
) -> None:
    now = iter(range(0, 10_000, 50))  # 50 s later at each look, of the 60 s that it takes
    monkeypatch.setattr(module, "DEAD_S", 60.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    rival = Rival(bench.link, "/a", OTHER)
    rival.answer, rival.pause = None, pause
    bench.registration.connected()
    for _ in range(3 if taken else 5):
        assert rival.asked.get(timeout=20) == OTHER
    if taken:
        assert bench.registered() == 1
    assert rival.deleted.empty() is not taken


@pytest.mark.parametrize("adopts", [False, True])
@pytest.mark.usefixtures("_impatient")
def test_what_a_dead_process_before_us_has_left_is_taken_at_once(bench: Bench, adopts: bool) -> None:
    """And not gone on with, where that is wished: nobody answers on it."""
    rival = Rival(bench.link, "/a", OWN)
    bench.link.door = None
    bench.registration.adopts = adopts
    bench.registration.connected()
    rival.deleted.get(timeout=20)
    bench.link.door = ME
    assert bench.registered() == 1
    assert bench.accepted.get(timeout=20) == ("model", "808")


@pytest.mark.parametrize(
    ("count", "answer_s"), [(0, module.PREDECESSOR_S), (1, module.ANSWER_S), (2, module.ANSWER_S)]
)
def test_only_before_the_first_time_nobody_is_expected_to_answer_for_us(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int, answer_s: float
) -> None:
    """A process before us is hardly there any more; this one may be busy."""
    waited: list[float] = []
    registration = bench.registration
    registration.count = count
    monkeypatch.setattr(registration, "_owned", lambda _: ["/a", OWN])
    monkeypatch.setattr(registration, "_who", lambda _, timeout_s: waited.append(timeout_s))
    assert not registration._reached({"resources": ["/a", OWN]})
    assert waited == [answer_s]


def test_where_we_are_known_and_reached_nothing_is_done(bench: Bench) -> None:
    rival = Rival(bench.link, "/a", OWN)
    assert bench.connect() == 1
    assert rival.deleted.empty()
    assert bench.accepted.empty(), "the tunnel is the one we have"
    bench.registration.stop(5)
    assert rival.deleted.qsize() == 1, "it is ours to take back"


def test_the_tunnel_of_an_earlier_process_is_gone_on_with_while_our_resources_are_locked(
    bench: Bench,
) -> None:
    """A caller's POST was lost with that process, and nobody is registered anew before its time is over."""

    def controller(message: Message) -> Message:
        known = message["resource"].startswith(DEPENDENCY)
        return {"code": 200, "data": {"resources": ["/a", OWN]}} if known else {"code": 423, "data": {}}

    bench.link.controller = controller
    bench.registration.adopts = True
    assert bench.connect() == 1
    assert bench.accepted.empty()


@pytest.mark.usefixtures("_impatient")
def test_a_copy_of_our_data_directory_is_named(bench: Bench) -> None:
    rival = Rival(bench.link, "/a", OWN)
    bench.link.door = THEM
    bench.registration.connected()
    while "its data directory is a copy" not in str(bench.registration.reason):
        bench.link.sent.get(timeout=20)
    assert "(process 4 on gw)" in str(bench.registration.reason)
    assert rival.deleted.empty()


@pytest.mark.parametrize(
    "owned",
    [{"resources": []}, {"resources": [5, None, "/system/mad"]}, {"resources": "/system/ma"}, [], "no"],
)
def test_a_name_without_our_resources_is_taken(bench: Bench, owned: Any) -> None:
    """As before: who has nothing that could be asked for is no other puppetmaster."""
    rival = Rival(bench.link)
    rival.owned = owned
    assert bench.connect() == 1
    assert rival.deleted.qsize() == 1


def test_a_view_is_never_asked_for_anything(bench: Bench) -> None:
    rival = Rival(bench.link, "/a", OTHER)
    bench.profiles = [{"name": "ma-view", "role": "view", "resources": ["/a"]}]
    assert bench.connect() == 1
    assert (rival.asked.empty(), rival.deleted.qsize()) == (True, 1)
    assert [bench.link.next()[1] for _ in range(bench.link.sent.qsize())] == [REGISTRATION] * 3


# ---- registered, and not reached ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "reason"),
    [
        (None, module.NOT_REACHED),
        ({"code": 404}, f"{OWN}: answered 404 None"),
        ({"code": 403, "data": "forbidden"}, f"{OWN}: answered 403 forbidden"),
        (THEM, "requests to us reach another process (process 4 on gw)"),
        ({"code": 200, "data": {"process": 5}}, "requests to us reach another process"),
        ({"code": 200, "data": "pid"}, "requests to us reach another process"),
        ({"code": 200, "data": None}, "requests to us reach another process"),
    ],
)
@pytest.mark.usefixtures("_impatient")
def test_who_is_not_reached_registers_again(
    bench: Bench, door: Message | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert bench.connect() == 1
    bench.link.sent.queue.clear()
    bench.link.controller = lambda message: {"code": 500}
    bench.link.door = door
    while bench.link.next() != ("post", REGISTRATION):
        pass
    assert not bench.registration.registered.is_set()
    assert f"registering again: {reason}\n" in caplog.text
    bench.link.controller, bench.link.door = lambda message: OK, ME
    assert bench.registered() == 2


@pytest.mark.parametrize(("door", "times"), [(None, module.CHECKS), ({"code": 404}, 1), (THEM, 1), (ME, 1)])
@pytest.mark.usefixtures("_impatient")
def test_only_silence_is_made_sure_of(
    link: ScriptedLink, channel: Channel, door: Message | None, times: int
) -> None:
    link.door = door
    Bench(link, channel).registration._check(0)
    assert [link.next() for _ in range(link.sent.qsize())] == [("get", OWN)] * times


@pytest.mark.parametrize(("stopped", "generation"), [(True, 0), (False, 7)])
@pytest.mark.usefixtures("_impatient")
def test_what_was_found_out_too_late_is_told_to_nobody(
    link: ScriptedLink, channel: Channel, caplog: pytest.LogCaptureFixture, stopped: bool, generation: int
) -> None:
    registration = Bench(link, channel).registration
    if stopped:
        registration.stop(1)
    link.door = None
    registration._check(generation)
    assert (registration.reason, caplog.records) == (None, [])


@pytest.mark.usefixtures("_impatient")
def test_who_is_reached_or_at_work_stays_registered(bench: Bench) -> None:
    assert bench.connect() == 1
    for door in (ME, {"code": 423, "data": {"message": "resource is locked"}}):
        bench.link.door = door
        bench.link.sent.queue.clear()
        assert {bench.link.next() for _ in range(5)} == {("get", OWN)}
        assert bench.registration.registered.is_set()


def test_who_was_never_reached_is_not_registered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller took us in, but what it sends us is lost: an ACL, for example."""
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    bench.link.door = None
    bench.registration.connected()
    for _ in range(3):
        while bench.link.next() != ("get", OWN):
            pass
        assert not bench.registration.registered.is_set()
    assert bench.registration.reason == module.NOT_REACHED
