"""What a job is to do, in words."""

from typing import Any

import pytest

from puppetmaster.cli import wording
from puppetmaster.cli.wording import PATTERNS, Step
from tests.fake_http import job, request

NOW_S = 1767323045.0  # 2026-01-02T03:04:05Z


def said(**given: Any) -> dict[str, str]:
    return dict(wording.policies({**job("pending", pending=20), **given}, NOW_S, lambda at: f"<{at}>"))


AUTOMATIC = {"concurrency": "automatic: it grows while answers come"}


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ({}, {}),
        ({"concurrency": 1}, {"concurrency": "at most 1 request in flight"}),
        ({"concurrency": "10%"}, {"concurrency": "at most 2 requests in flight (10%)"}),
        ({"rate": 0.5}, {"rate": "at most 0.5 requests sent per second"}),
        ({"waves": [1, "10%"]}, {"waves": "1, 1, 18", "gate": "the job pauses when any of a wave failed"}),
        (
            {"waves": ["100%"], "gate": {"errors": "5%", "soak": 60, "onFail": "abort"}},
            {
                "waves": "20",
                "gate": "a rest of 1 min 00 s after each wave; "
                "the job is aborted when more than 5% of a wave failed",
            },
        ),
        ({"abort": {"errors": 0}}, {"abort": "when any failed"}),
        ({"abort": {"errors": "5%", "after": 10}}, {"abort": "when more than 5% failed, once 10 are done"}),
        (
            {"retry": {"attempts": 3, "on": ["timeout"], "delay": 2}},
            {
                "attempts": "up to 3 in all, after a timeout of a get; the second 1 to 2 s later, "
                "then 2 times as long each time, at most 300 s",
            },
        ),
        (
            {"retry": {"attempts": 2}, "idempotent": True},
            {
                "attempts": "up to 2 in all, after an error or a timeout; the second 2.5 to 5 s later",
                "idempotent": "what may have run is sent again",
            },
        ),
        (
            {"retry": {"attempts": 2, "on": ["timeout"]}, "idempotent": False},
            {
                "attempts": "one: what may have run is not sent again",
                "idempotent": "what may have run is not sent again",
            },
        ),
        (
            {"maintenance": {"cron": "0 1 * * *", "duration": 14400}},
            {"maintenance": "sent only at 0 1 * * * (UTC), for 4 h 00 min each"},
        ),
        ({"deliveryTimeout": 86400}, {"delivery": "waits up to 24 h 00 min for a gateway that is away"}),
        (
            {"requestTimeout": 8, "timeout": 36000},
            {"answers": "within 8 s each", "timeout": "10 h 00 min for the whole job"},
        ),
        ({"startAt": "2026-01-02T05:04:05Z"}, {"start": "not before <2026-01-02T05:04:05Z>, in 2 h 00 min"}),
        ({"startAt": "2026-01-01T00:00:00Z"}, {"start": "at once: <2026-01-01T00:00:00Z> was past"}),
    ],
)
def test_each_policy_has_its_sentence(given: dict[str, Any], sentences: dict[str, str]) -> None:
    assert said(**given) == AUTOMATIC | sentences


def steps(destinations: list[str], sizes: list[int], **more: Any) -> list[Step]:
    requests = [{**request(one, "pending", 0), **more} for one in destinations]
    return wording.steps({"waveSizes": sizes, "requests": requests})


def test_a_step_for_each_wave() -> None:
    command = "post /system/reboot"
    assert steps([f"cg-{number:02}" for number in range(1, 21)], [1, 1, 18]) == [
        (1, 1, command, "cg-01"),
        (2, 1, command, "cg-02"),
        (3, 18, command, "cg-[03-20]"),
    ]


def test_a_step_for_each_command() -> None:
    """Also where gateway after gateway gets all commands."""
    first, second = request("a", "pending"), {**request("b", "pending"), "data": {"zone": "UTC"}}
    found = wording.steps({"waveSizes": [4], "requests": [first, second, second, first]})
    assert [(one.requests, one.command, one.to) for one in found] == [
        (2, "post /system/reboot", "a a"),
        (2, 'post /system/reboot {"zone": "UTC"}', "b b"),
    ]


def test_data_are_not_shown_without_end() -> None:
    (found,) = steps(["a"], [1], data={"a": "x" * 1_000_000})
    assert len(found.command) < 200
    assert found.command.startswith('post /system/reboot {"a": "xxx')


def test_names_without_an_order_are_not_all_told() -> None:
    (found,) = steps([f"cg-{number}" for number in range(0, 2 * PATTERNS + 6, 2)], [PATTERNS + 3])
    assert found.to.startswith("cg-0 cg-2 cg-4 ")
    assert found.to.endswith(f"cg-{2 * PATTERNS - 2} and 3 more")


def test_many_requests_are_one_step() -> None:
    (found,) = steps([f"cg-{number}" for number in range(5000)], [5000])
    assert found[:2] == (1, 5000)
    assert found.to == "cg-[0-4999]"
