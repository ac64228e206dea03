"""Following a job, with a clock and pauses of the test's own."""

from collections.abc import Callable
from typing import Any

import pytest

from puppetmaster.cli import follow as watch
from puppetmaster.cli.client import Refused, Unreachable
from puppetmaster.cli.follow import News, Pace, Removed
from tests.fake_http import Asked, FakeServer, Reply, job, request


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


def follow(server: FakeServer) -> list[News]:
    clock = Clock()
    return list(watch.follow(server.client(timeout_s=5), 7, pause=clock.pause, now=clock))


def told(*replies: Reply | None, failures: Callable[[], list[Any]] = list) -> Callable[[Asked], Reply | None]:
    """Answers of a job one after the other; the last one for ever."""
    left = list(replies)

    def answer(asked: Asked) -> Reply | None:
        if "/requests" in asked.path:
            return Reply(failures())
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def test_news_come_when_something_changed() -> None:
    first = Reply(job("dispatching", pending=2), headers={"ETag": '"1"'})
    same = Reply(b"", 304, {"ETag": '"1"'})
    with FakeServer(told(first, same, same, Reply(job(resolved=2)))) as server:
        news = follow(server)
    assert [(one.job["status"], one.fresh) for one in news] == [
        ("dispatching", True),
        ("dispatching", False),
        ("dispatching", False),
        ("resolved", True),
    ]
    assert all("requests" not in one.job for one in news)
    assert {asked.path for asked in server.asked} == {"/jobs/7?collection=false&limit=0"}
    assert server.asked[1].headers["If-None-Match"] == '"1"'


def test_each_failure_is_told_once() -> None:
    grown = iter([[request("a")], [request("a"), request("b", request_id=2**31 + 1)]])
    replies = [Reply(job("dispatching", pending=1, error=1)), Reply(job(error=2))]
    with FakeServer(told(*replies, failures=lambda: next(grown))) as server:
        news = follow(server)
    assert [[one["__request"]["destination"] for one in each.failures] for each in news] == [["a"], ["b"]]


def waiting(asked: Asked) -> bool:
    return "status=pending" in asked.path


def test_what_a_job_waits_for_when_nothing_goes_on() -> None:
    """Asked once a second, after two in which nothing got done; kept while it is tried again."""
    idle, tried = (
        Reply(job("dispatching", **counts)) for counts in ({"pending": 2}, {"pending": 1, "sent": 1})
    )
    moved = Reply(job("dispatching", pending=1, resolved=1))
    replies = [*[idle] * 12, tried, idle, moved, moved]
    waits = {"__request": {**request("a", "pending")["__request"], "why": "the bus is down"}}
    with FakeServer(told(*replies, Reply(job(resolved=2)), failures=lambda: [waits])) as server:
        news = follow(server)
        asked = [one for one in server.asked if waiting(one)]
    told_at = [index for index, one in enumerate(news) if one.waits]
    assert told_at == list(range(7, 14))
    assert {news[index].waits for index in told_at} == {"the bus is down"}
    assert [one.path for one in asked] == ["/jobs/7/requests?status=pending&limit=1"] * 2


@pytest.mark.parametrize(
    "still",
    [
        job("dispatching", sent=2),
        job("paused", pending=2),
        {**job("dispatching", pending=2), "reason": "enough", "ending": "canceled"},
    ],
)
def test_a_job_that_says_itself_what_it_waits_for_is_not_asked(still: dict[str, Any]) -> None:
    with FakeServer(told(*[Reply(still)] * 20, Reply(job(resolved=2)))) as server:
        assert {one.waits for one in follow(server)} == {None}
        assert [asked for asked in server.asked if waiting(asked)] == []


def test_failures_are_not_asked_for_at_every_look() -> None:
    replies = [Reply(job("dispatching", pending=9 - n, error=n + 1)) for n in range(5)]
    with FakeServer(told(*replies, Reply(job(error=10)))) as server:
        follow(server)
    looks = [asked for asked in server.asked if "/requests" in asked.path]
    assert len(looks) == 3  # at once, one second later, and at the end


def test_a_job_that_is_not_there() -> None:
    with FakeServer() as server, pytest.raises(Refused) as caught:
        follow(server)
    assert not isinstance(caught.value, Removed)


def test_puppetmaster_is_away_for_a_while() -> None:
    running = Reply(job("dispatching", pending=1))
    stopping = Reply({"message": "stopping"}, 503)
    with FakeServer(told(running, stopping, stopping, Reply(job(resolved=1)))) as server:
        news = follow(server)
    assert [one.trouble is None for one in news] == [True, False, False, True]
    assert [one.job["status"] for one in news] == ["dispatching"] * 3 + ["resolved"]


def test_patience_ends() -> None:
    replies = [Reply(job("dispatching", pending=1)), Reply({"message": "stopping"}, 503)]
    clock = Clock()
    with FakeServer(told(*replies)) as server, pytest.raises(Unreachable, match="stopping"):
        list(watch.follow(server.client(), 7, pause=lambda s: clock.pause(10), now=clock))
    assert watch.PATIENCE_S < clock.now_s - 100 <= watch.PATIENCE_S + 20


def test_what_does_not_pass_ends_at_once() -> None:
    replies = [Reply(job("dispatching", pending=1)), Reply({"message": "token"}, 401)]
    with FakeServer(told(*replies)) as server, pytest.raises(Unreachable, match="TOKEN"):
        follow(server)


def test_the_first_look_is_not_repeated() -> None:
    with FakeServer(lambda asked: Reply({"message": "stopping"}, 503)) as server, pytest.raises(Unreachable):
        follow(server)
    assert len(server.asked) == 1


def test_the_time_left() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.left_s(job("dispatching", pending=100)) is None
    clock.pause(10)
    assert pace.left_s(job("dispatching", pending=80, resolved=20)) == 40
    clock.pause(100)
    assert pace.left_s(job("dispatching", pending=79, resolved=21)) == 79 * 100  # that of late
    clock.pause(10)
    assert pace.left_s(job("paused", pending=79, resolved=21)) is None
    clock.pause(1000)
    assert pace.left_s(job("dispatching", pending=79, resolved=21)) is None
    clock.pause(10)
    assert pace.left_s(job("dispatching", pending=78, resolved=22)) == 780
