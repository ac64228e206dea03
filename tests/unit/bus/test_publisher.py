"""Events on the bus: creation, end and removal always, all else once a second, the last state at last."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster import jsoncodec
from puppetmaster.bus import publisher
from puppetmaster.bus.publisher import INTERVAL_S, Publisher
from puppetmaster.clock import Clock
from puppetmaster.events import Change, Hub, Kind
from puppetmaster.model.job import Job, JobStatus
from tests.examples import LATER, a_job, counts

WAIT_S = 30.0


class _Bus:
    """Keeps what was sent; the first ``failing`` messages go wrong."""

    def __init__(self) -> None:
        self.failing = 0
        #: So many messages leave before the bus is down; None: it is up.
        self.room: int | None = None
        self.sent: list[dict[str, Any]] = []
        self.got = threading.Semaphore(0)
        self.tries = 0

    def send(self, payload: bytes) -> bool:
        self.tries += 1
        if self.failing:
            self.failing -= 1
            raise OSError("the network is down")
        if self.room == 0:
            return False
        if self.room is not None:
            self.room -= 1
        self.sent.append(jsoncodec.decode(payload))
        self.got.release()
        return True

    @property
    def methods(self) -> list[str]:
        return [event["method"] for event in self.sent]


class _Desk:
    """A publisher. Its thread does not run: a test calls ``announce`` with a time of its own."""

    def __init__(self) -> None:
        self.hub, self.bus = Hub(), _Bus()
        self.publisher = Publisher(self.hub, self.bus.send, Clock())

    def at(self, now_s: float, *changes: Change) -> list[str]:
        """Announce, and tell which methods went out."""
        self.bus.sent.clear()
        self.publisher.announce(list(changes), now_s)
        return self.bus.methods


@pytest.fixture
def desk() -> _Desk:
    return _Desk()


def _ended(**given: Any) -> Job:
    return a_job(status=JobStatus.RESOLVED, finished_at=LATER, counts=counts(resolved=3), **given)


def _change(kind: str, **given: Any) -> Change:
    return Change.of(Kind(kind), _ended(**given) if kind == "ended" else a_job(**given))


# While the bus is down


def test_creation_end_and_removal_are_told_when_the_bus_is_back(desk: _Desk) -> None:
    desk.bus.room = 0
    assert desk.at(0, _change("created")) == []
    assert desk.at(5, _change("changed")) == []
    assert desk.at(9, _change("ended")) == []
    desk.bus.room = None
    assert desk.at(10) == ["post", "put"]
    assert desk.bus.sent[1]["data"]["status"] == "resolved"
    assert desk.at(20) == []
    desk.bus.room = 0
    assert desk.at(30, _change("deleted")) == []
    desk.bus.room = None
    assert desk.at(31) == ["delete"]


def test_what_was_told_before_the_bus_went_down_is_not_told_again(desk: _Desk) -> None:
    desk.bus.room = 1
    assert desk.at(0, _change("created"), _change("ended")) == ["post"]
    desk.bus.room = None
    assert desk.at(1) == ["put"]
    desk.bus.room = 1
    assert desk.at(5, _change("ended"), _change("deleted")) == ["put"]
    desk.bus.room = None
    assert desk.at(6) == ["delete"]


def test_news_of_a_long_outage_have_a_bound(desk: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "MOST_HELD", 3)
    desk.bus.room = 0
    for id_ in range(1, 10):
        desk.at(id_, _change("ended", id=id_))
    desk.bus.room = None
    desk.at(20)
    assert [event["data"]["id"] for event in desk.bus.sent] == [7, 8, 9]


# What is said


def test_a_bus_that_is_down_is_tried_with_one_event_at_a_time(desk: _Desk) -> None:
    """There may be 2,000 held, to be made anew four times a second."""
    desk.bus.room = 0
    desk.at(0, *(_change("created", id=number) for number in range(1, 101)))
    desk.at(0.25)
    assert desk.bus.tries == 2
    desk.bus.room = None
    assert desk.at(0.5) == ["post"] * 100


def test_an_event_of_the_sanji_contract(desk: _Desk) -> None:
    desk.at(0, _change("changed", id=123145, timeout_s=36000))
    assert desk.bus.sent == [
        {
            "code": 200,
            "method": "put",
            "resource": "/jobs/123145",
            "data": a_job(id=123145, timeout_s=36000).view(),
        }
    ]
    assert "requests" not in desk.bus.sent[0]["data"]
    assert "id" not in desk.bus.sent[0]


@pytest.mark.parametrize(
    ("kinds", "methods"),
    [
        (["created"], ["post"]),
        (["changed"], ["put"]),
        (["ended"], ["put"]),
        (["deleted"], ["delete"]),
        (["created", "changed"], ["post"]),
        (["created", "ended"], ["post", "put"]),
        (["changed", "ended"], ["put"]),
        (["changed", "deleted"], ["delete"]),
        (["ended", "deleted"], ["put", "delete"]),
        (["created", "ended", "deleted"], ["post", "put", "delete"]),
        (["created", "deleted"], ["post", "delete"]),
    ],
)
def test_the_methods(desk: _Desk, kinds: list[str], methods: list[str]) -> None:
    assert desk.at(0, *map(_change, kinds)) == methods


def test_only_the_removal_shows_the_job_as_deleted(desk: _Desk) -> None:
    desk.at(0, _change("created"), _change("ended"), Change.of(Kind.DELETED, _ended()))
    assert [event["data"]["status"] for event in desk.bus.sent] == ["resolved", "resolved", "deleted"]
    assert [event["data"]["progress"] for event in desk.bus.sent] == [100, 100, 100]


def test_what_the_bus_cannot_carry_is_made_to_fit(desk: _Desk) -> None:
    desk.at(0, _change("changed", name="a\0\ud800"))
    assert desk.bus.sent[0]["data"]["name"] == "a\ufffd\ufffd"
    assert jsoncodec.faults(desk.bus.sent, "") == []


# How often


def test_changes_go_out_once_in_an_interval_and_the_last_one_arrives(desk: _Desk) -> None:
    assert desk.at(100.0, _change("changed", name="a")) == ["put"]
    assert desk.at(100.2, _change("changed", name="b")) == []
    assert desk.at(100.9, _change("changed", name="c")) == []
    assert desk.at(100.99) == []
    assert desk.at(101.0) == ["put"]
    assert desk.bus.sent[0]["data"]["name"] == "c"
    assert desk.at(105.0) == []


def test_each_job_has_its_own_interval(desk: _Desk) -> None:
    assert desk.at(0.0, _change("changed", id=1)) == ["put"], "at once, whatever the clock shows"
    assert desk.at(0.5, _change("changed", id=1), _change("changed", id=2)) == ["put"]
    assert desk.bus.sent[0]["resource"] == "/jobs/2"
    assert desk.at(1.0) == ["put"]
    assert desk.bus.sent[0]["resource"] == "/jobs/1"


@pytest.mark.parametrize(("kind", "method"), [("created", "post"), ("ended", "put"), ("deleted", "delete")])
def test_what_is_marked_does_not_wait(desk: _Desk, kind: str, method: str) -> None:
    desk.at(0.0, _change("changed"))
    assert desk.at(0.1, _change("changed", name="held")) == []
    assert desk.at(0.2, _change(kind)) == [method]
    assert desk.at(5.0) == []


def test_late_answers_after_the_end_are_no_further_ends(desk: _Desk) -> None:
    assert desk.at(0.0, _change("ended")) == ["put"]
    late = [_change("ended", name=str(number)) for number in range(10)]
    assert [desk.at(0.05 + number / 20, change) for number, change in enumerate(late)] == [[]] * 10
    assert desk.at(1.0) == ["put"]
    assert desk.bus.sent[0]["data"]["name"] == "9"
    assert desk.at(1.5, _change("deleted")) == ["delete"]


def test_nothing_is_remembered_of_jobs_that_are_quiet(desk: _Desk) -> None:
    for number in range(1, 1001):
        desk.at(number * INTERVAL_S, _change("changed", id=number))
    assert len(desk.publisher._last) <= 2
    assert desk.publisher._held == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["changed", "changed", "created", "ended"]),
            st.integers(1, 2),
            st.sampled_from([0.0, 0.125, 0.5, 0.75]),
        ),
        max_size=30,
    )
)
def test_never_more_than_the_api_says_and_always_the_last_state(steps: list[tuple[str, int, float]]) -> None:
    desk, now_s = _Desk(), 0.0
    told_s: dict[int, float] = {}
    last: dict[int, str] = {}
    shown: dict[int, str] = {}
    for number, (kind, id_, pause_s) in enumerate([*steps, ("none", 0, INTERVAL_S)]):
        now_s += pause_s
        if id_:
            last[id_] = str(number)
        desk.at(now_s, *([_change(kind, id=id_, name=str(number))] if id_ else []))
        for event in desk.bus.sent:
            told = event["data"]["id"]
            shown[told] = event["data"]["name"]
            if told != id_ or kind == "changed":
                assert told not in told_s or now_s - told_s[told] >= INTERVAL_S
        told_s.update({event["data"]["id"]: now_s for event in desk.bus.sent})
    assert shown == last


# Its thread


@pytest.fixture
def running(desk: _Desk) -> Iterator[_Desk]:
    """One whose thread runs."""
    desk.publisher.start()
    yield desk
    desk.publisher.stop()


def test_what_is_held_goes_out_by_itself(running: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "INTERVAL_S", 0.1)
    running.hub.post([_change("created")])
    assert running.bus.got.acquire(timeout=WAIT_S)
    running.hub.post([_change("changed", name="last")])
    assert running.bus.got.acquire(timeout=WAIT_S)
    assert running.bus.sent[-1]["data"]["name"] == "last"


def test_only_while_something_is_held_it_looks_again_by_itself(
    desk: _Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread = iter([[_change("changed")], [_change("changed", name="held")], [], None])
    waits_s: list[float | None] = []

    def take(timeout_s: float | None) -> list[Change] | None:
        waits_s.append(timeout_s)
        return next(unread)

    monkeypatch.setattr(Clock, "now_s", lambda _: 1000.0)
    desk.publisher._stopping.set()
    monkeypatch.setattr(desk.publisher._mailbox, "take", take)
    desk.publisher._run()
    assert waits_s == [None, None, INTERVAL_S / 4, INTERVAL_S / 4]
    assert desk.bus.methods == ["put", "put"], "the end does not wait for the interval to be over"


def test_changes_that_follow_each_other_quickly_are_looked_at_together(
    desk: _Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PAUSE_S", WAIT_S)
    looks: list[int] = []
    announce = desk.publisher.announce

    def look(changes: list[Change], now_s: float) -> None:
        looks.append(len(changes))
        announce(changes, now_s)

    monkeypatch.setattr(desk.publisher, "announce", look)
    desk.publisher.start()
    desk.hub.post([_change("created")])
    assert desk.bus.got.acquire(timeout=WAIT_S)
    for number in range(100):
        desk.hub.post([_change("changed", name=str(number))])
    desk.hub.post([_change("ended")])
    desk.publisher.stop()
    assert looks == [1, 1, 0]
    assert desk.bus.methods == ["post", "put"]


def test_what_goes_wrong_does_not_end_it(running: _Desk, caplog: pytest.LogCaptureFixture) -> None:
    running.bus.failing = 1
    for id_ in (1, 2, 3):
        running.hub.post([_change("created", id=id_)])
    assert running.bus.got.acquire(timeout=WAIT_S)
    assert "job changes were not announced" in caplog.text


def test_stopping_tells_what_is_unread_and_what_is_held(desk: _Desk) -> None:
    desk.hub.post([_change("created", id=1)])
    desk.hub.post([_change("changed", id=2, name="a")])
    desk.publisher.announce([_change("changed", id=2)], Clock().now_s())
    desk.publisher.start()
    desk.publisher.stop()
    assert [(event["method"], event["resource"]) for event in desk.bus.sent] == [
        ("put", "/jobs/2"),
        ("post", "/jobs/1"),
        ("put", "/jobs/2"),
    ]
    desk.hub.post([_change("created", id=3)])
    assert len(desk.bus.sent) == 3
