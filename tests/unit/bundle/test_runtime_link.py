"""SteadySanji when the broker is away or slow, and when the link comes and goes."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace
from typing import Any

import pytest

from puppetmaster.bundle import sdk
from tests.unit.bundle.benches import Bench


def test_answers_without_a_broker_end_no_dispatcher(steady: Bench) -> None:
    """F4: the SDK raises in its error handler, and each time a dispatcher ends."""
    steady.link.away = True
    for number in range(6):
        steady.deliver({"id": 100 + number, "method": "get", "resource": "/things/1"})
        steady.bundle.calls.get(timeout=10)
    steady.link.away = False
    assert steady.ask("get", "/things/1")["id"] == 1
    assert steady.alive() == 4


@pytest.mark.parametrize("away", [False, True])
def test_an_event_waits_for_no_acknowledgement(steady: Bench, away: bool) -> None:
    """F10, F11, F12: the SDK waits, and fails without a broker."""
    steady.link.away = away
    steady.bundle.publish.event.put("/jobs/1", data={"id": 1, "name": "\0"})
    if not away:
        assert steady.answer() == {
            "code": 200,
            "method": "put",
            "resource": "/jobs/1",
            "data": {"id": 1, "name": "\ufffd"},
            "qos": 0,
        }


def test_acknowledgements_do_not_hold_back_a_timeout(steady: Bench) -> None:
    """F6, F10, F11: the SDK's sessions age only while no acknowledgement comes."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(steady.bundle.publish.direct.get, "/x", timeout=0.5)
        steady.answer()
        for mid in range(1000, 1100):  # 10 s of traffic at most
            steady.bundle.on_publish(None, None, mid)
            wait([asked], 0.1)
        with pytest.raises(sdk.SdkTimeout):
            asked.result(0)


def test_the_queue_of_acknowledgements_stays_empty(steady: Bench) -> None:
    """F10: the SDK's holds 100, and drops what comes then."""
    for mid in range(500):
        steady.bundle.on_publish(None, None, mid)
    assert steady.bundle._session.resolve_queue.empty()


def test_connecting_never_joins_a_thread(steady: Bench) -> None:
    """F3: registration under way when the link flaps."""
    for _ in range(20):
        begun = time.monotonic()
        steady.bundle.on_connect(None, None, {}, 0)
        steady.bundle.on_disconnect(None, None, 1)
        assert time.monotonic() - begun < 1


def test_a_refused_connection_is_not_registered(steady: Bench, caplog: pytest.LogCaptureFixture) -> None:
    steady.bundle.on_connect(None, None, {}, 5)
    assert steady.link.published.empty()
    assert "refused the connection with code 5" in caplog.text


def test_connecting_subscribes_the_channel_and_what_is_there(
    steady: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    steady.bundle.on_connect(None, None, {}, 0)
    assert steady.link.subscribed == {"internel": ("i", None), "model": (None, None), "view": (None, None)}
    assert steady.link.tunnels["channel"][0] == steady.bundle.channel.tunnel
    assert caplog.records == []


def test_the_tunnel_that_the_controller_gives_takes_the_place_of_the_one_before(steady: Bench) -> None:
    for tunnel, unheard in (("1", []), ("1", []), ("2", ["1"])):
        steady.bundle._accept("model", tunnel)
        assert steady.link.tunnels["model"] == (tunnel, steady.bundle.on_sanji_message)
        assert steady.link.unheard == unheard


def test_where_the_sdk_looks_for_it_is_said_that_we_are_registered(steady: Bench) -> None:
    steady.bundle.registration.count = 3
    assert not steady.bundle.is_ready.is_set()
    steady.bundle._accept("model", "808")
    steady.bundle._announce()
    said = steady.bundle.bundle.profile
    assert (said["currentTunnels"], said["regCount"]) == (["i", "808", None], 3)
    assert steady.bundle.is_ready.is_set()
    assert steady.bundle.registered is steady.bundle.registration.registered


@pytest.mark.parametrize(
    ("link", "registration", "reason"),
    [
        (None, None, None),
        (None, "refused", "refused"),
        (SimpleNamespace(reason=None), "refused", "refused"),
        (SimpleNamespace(reason="gone"), "refused", "the bus door has no connection to the broker: gone"),
    ],
)
def test_why_requests_do_not_reach_us(
    steady: Bench, link: Any, registration: Any, reason: str | None
) -> None:
    if link is not None:
        setattr(steady.link, "attempts", link)  # noqa: B010 # the SDK's own connection has none
    steady.bundle.registration.reason = registration
    assert steady.bundle.why_not_registered() == reason
