"""How long messages may be: the smaller of the setting and what the broker says."""

import logging

import pytest

from puppetmaster.bus import packets
from puppetmaster.bus.limit import AMPLE_BYTES, Limit
from puppetmaster.model.message import MESSAGE_LIMIT_BYTES, Capacity

MOST = MESSAGE_LIMIT_BYTES


@pytest.mark.parametrize(
    ("setting", "told", "in_force", "source"),
    [
        (MOST, None, MOST, "controller"),
        (MOST, packets.LARGEST_BYTES, MOST, "controller"),
        (MOST, AMPLE_BYTES, MOST, "controller"),
        (MOST, 100_000, 100_000, "broker"),
        (MOST, MOST, MOST - 1, "broker"),  # what is sent is shorter, and may be longer when it is passed on
        (MOST, 2 * MOST, MOST - 1, "broker"),
        (50_000, None, 50_000, "setting"),
        (50_000, 100_000, 50_000, "setting"),
        (50_000, 50_000, 50_000, "setting"),
        (100_000, 50_000, 50_000, "broker"),
        (50_000, packets.LARGEST_BYTES, 50_000, "setting"),
    ],
)
def test_the_smaller_counts(setting: int, told: int | None, in_force: int, source: str) -> None:
    limit = Limit(setting)
    if told is not None:
        limit.learn(told)
    assert limit.capacity == Capacity(in_force)
    assert limit.view() == {"value": in_force, "from": source}
    limit.learn(packets.LARGEST_BYTES)
    assert limit.capacity == Capacity(setting), "a broker that carries more now is believed"


def test_a_setting_that_is_too_high_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    limit = Limit(100_000)
    for _ in range(3):
        limit.learn(50_000)
    (record,) = caplog.records
    assert record.getMessage() == (
        "the broker takes no packet of more than 50000 bytes: what is longer is refused; "
        "PUPPETMASTER_BROKER_LIMIT_BYTES is 100000, and the smaller of the two counts"
    )


def test_a_broker_that_carries_too_little_is_said_with_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    Limit().learn(2_000)
    assert "puppetmaster needs 10000: raise its limit" in caplog.text
