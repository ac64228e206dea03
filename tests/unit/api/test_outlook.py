"""What a job would do, in sentences: how many, in which order, what stops it, what is sent twice."""

from typing import Any

import pytest

from puppetmaster.api import bodies, outlook
from puppetmaster.clock import iso, seconds

NOW = "2026-01-02T03:04:05.000Z"
PAST = "2026-01-01T00:00:00Z"


def told(methods: str = "post", number: int = 20, **given: Any) -> list[str]:
    to = [f"cg-{index:02}" for index in range(number)]
    batch = [{"method": one, "resource": "/x", "__request": {"destination": to}} for one in methods.split()]
    spec = bodies.parse_job({"batch": batch, **given}, 1000)
    return outlook.sentences(spec, spec.job(0, 1, NOW, seconds(NOW), 60.0))


def test_four_sentences() -> None:
    assert told() == [
        "20 requests to 20 gateways: post /x.",
        "They are sent in the order of the batch, past gateways that are busy, "
        "as many at once as answers come for.",
        "Nothing stops it by itself: each request is tried, however many fail.",
        "Nothing is sent twice: what may have run, as after a timeout, is not sent again.",
    ]


@pytest.mark.parametrize(
    ("methods", "number", "sentence"),
    [
        ("get", 1, "1 request to 1 gateway: get /x."),
        ("get put", 20, "40 requests to 20 gateways: get /x and 1 more."),
    ],
)
def test_how_many(methods: str, number: int, sentence: str) -> None:
    assert told(methods, number)[0] == sentence


BUSY = "in the order of the batch, past gateways that are busy"


@pytest.mark.parametrize(
    ("number", "given", "sentence"),
    [
        (1, {"concurrency": 5}, "It is sent as soon as its gateway is free."),
        (20, {"concurrency": "10%"}, f"They are sent {BUSY}, at most 2 at once."),
        (20, {"concurrency": 3, "rate": 0.5}, f"They are sent {BUSY}, at most 3 at once and 0.5 a second."),
        (
            20,
            {"waves": [1, "10%", "100%"], "concurrency": 3},
            "They are sent in 3 waves of 1, 1 and 18, each when the one before it is done; "
            f"within a wave {BUSY}, at most 3 at once.",
        ),
        (
            20,
            {"waves": list(range(1, 13)), "gate": {"soak": 60}, "concurrency": 3},
            f"They are sent in 13 waves of {', '.join('1' * 10)} and 3 more, each when the one before it is "
            f"done and has rested for 60 s; within a wave {BUSY}, at most 3 at once.",
        ),
    ],
)
def test_in_which_order(number: int, given: dict[str, Any], sentence: str) -> None:
    assert told(number=number, **given)[1] == sentence


def test_steps_and_waves_of_gateways() -> None:
    given: dict[str, Any] = {
        "onFail": "stop",
        "waves": [1, "50%"],
        "gate": {"errors": "5%"},
        "abort": {"errors": "10%"},
    }
    assert told("post put", **given)[:3] == [
        "40 requests to 20 gateways: post /x and 1 more.",
        "They are sent in 3 waves of 1, 9 and 10 gateways, each when the one before it is done; "
        f"within a wave {BUSY}, as many at once as answers come for; "
        "a gateway gets each request when its one before ended well, and no more when that failed.",
        "It is aborted when more than 10% of the gateways that are done failed, looked at once 10 are done; "
        "it pauses when more than 5% of the gateways of a wave but the last failed.",
    ]
    assert told("post put", waves=[1, "5%", "100%"])[-1] == (
        'Of 20 gateways, waves[1] ("5%") adds nobody: it ends where the one before it does.'
    )


def test_that_gateways_are_waited_for() -> None:
    assert told(deliveryTimeout=3600)[2] == (
        "A request to a gateway that is away waits for it for up to 3600 s, keeps nobody else from being "
        "sent, and is sent when the gateway is back."
    )
    assert len(told(deliveryTimeout=0)) == len(told())


WAVES = {"waves": [1, "100%"]}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"abort": {"errors": 0}}, "It is aborted when any of those that are done failed."),
        (
            {"abort": {"errors": "10%"}},
            "It is aborted when more than 10% of those that are done failed, looked at once 10 are done.",
        ),
        (
            {"abort": {"errors": "5%"}},
            "It is not aborted, however many fail: that is looked at once 20 are done, of 20.",
        ),
        (WAVES, "It pauses when any of a wave but the last failed."),
        ({"waves": ["100%"]}, "Nothing stops it by itself: each request is tried, however many fail."),
        (
            {**WAVES, "gate": {"errors": "5%", "onFail": "abort"}, "abort": {"errors": 3}, "timeout": 36000},
            "It is aborted when more than 3 of those that are done failed; "
            "it is aborted when more than 5% of a wave but the last failed; "
            "it ends 36000 s after its start, done or not.",
        ),
    ],
)
def test_what_stops_it(given: dict[str, Any], sentence: str) -> None:
    assert told(**given)[2] == sentence


LATER = "2.5 to 5 s later, then 2 times as long each time, at most 300 s"
LOST = "in flight when the bundle or the bus went away"
NOTHING = "Nothing is sent twice: what may have run, as after a timeout, is not sent again."
RETRY = {"retry": {"attempts": 3}}


@pytest.mark.parametrize(
    ("methods", "given", "sentence"),
    [
        ("get", {}, f"Only what was {LOST} is sent twice."),
        ("post", {"idempotent": True}, f"Only what was {LOST} is sent twice."),
        ("get", {"idempotent": False}, NOTHING),
        ("get put", {}, f"Only a get that was {LOST} is sent twice."),
        (
            "post",
            RETRY,
            f"Each request is sent up to 3 times, again after an error, {LATER}; "
            "what may have run, as after a timeout, is not sent again.",
        ),
        (
            "get",
            RETRY,
            f"Each request is sent up to 3 times, again after an error or a timeout, {LATER}; "
            f"what was {LOST} is sent again too.",
        ),
        (
            "get put",
            RETRY,
            f"Each request is sent up to 3 times, again after an error or a timeout of a get, {LATER}; "
            "of what may have run, as after a timeout, only a get is sent again.",
        ),
        ("post", {"retry": {"attempts": 3, "on": ["timeout"]}}, NOTHING),
    ],
)
def test_what_is_sent_twice(methods: str, given: dict[str, Any], sentence: str) -> None:
    assert told(methods, **given)[3] == sentence


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ({"startAt": PAST}, [f"It starts at once: {PAST} is past."]),
        ({"startAt": iso(seconds(NOW) + 1)}, []),
        (
            {"waves": ["1%", "2%"]},
            ['Of 20 requests, waves[1] ("2%") adds nobody: it ends where the one before it does.'],
        ),
        (
            {"waves": [1, "1%", "100%", 30]},
            [
                'Of 20 requests, waves[1] ("1%") and waves[3] (30) add nobody: '
                "they end where the one before them does."
            ],
        ),
    ],
)
def test_what_may_not_be_meant_is_told(given: dict[str, Any], sentences: list[str]) -> None:
    assert told(**given)[4:] == sentences


NIGHTLY = {"cron": "0 1 * * *", "duration": 3600}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["the next one opens at 2026-01-03T01:00:00.000Z. Outside of them requests wait."]),
        (
            {"maintenance": {**NIGHTLY, "cron": "0 3 * * *"}},
            ["; one is open until 2026-01-02T04:00:00.000Z."],
        ),
        ({"startAt": "2026-01-04T01:30:00Z"}, ["is open until 2026-01-04T02:00:00.000Z."]),
        (
            {"timeout": 60},
            ["opens at 2026-01-03T01:00:00.000Z.", "Its timeout is over before a window opens"],
        ),
        ({"timeout": 1e6}, ["opens at 2026-01-03T01:00:00.000Z."]),
    ],
)
def test_when_requests_may_be_sent(given: dict[str, Any], expected: list[str]) -> None:
    found = [one for one in told(**{"maintenance": NIGHTLY, **given}) if "window" in one]
    assert len(found) == len(expected)
    assert all(part in one for part, one in zip(expected, found, strict=True))
    if "maintenance" not in given:
        assert found[0].startswith(
            "Requests are sent only in maintenance windows of 3600 s, at 0 1 * * * (UTC)"
        )
