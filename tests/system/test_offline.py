"""A remote bundle for all gateways says by a code who is offline (``PUPPETMASTER_OFFLINE_CODES``)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus_client import Message
from tests.conftest import any_broker
from tests.flow import SETTINGS, Flow, batch, running

OFFLINE = 599
#: A gateway is tried again after 10 s at the latest, the first time.
WAITS_S = 60


class RemoteBundle:
    """It owns ``/remote/+``. Gateways in ``away`` are offline, and run nothing."""

    def __init__(self, flow: Flow, *away: str) -> None:
        self.away = set(away)
        #: How often each gateway ran a command, and how often it was asked for while it was offline.
        self.ran: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        flow.stage.register_model("remote", ["/remote/+"], self._take, ttl=60)

    def _take(self, message: Message) -> tuple[int, object]:
        name = message["resource"].rpartition("/")[2]
        if name in self.away:
            self.refused[name] += 1
            return OFFLINE, {"message": f"{name} is offline"}
        self.ran[name] += 1
        command = message["data"]
        return 200, {"code": 200, "method": command["method"], "resource": command["resource"], "data": {}}


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    any_broker()
    settings = {**SETTINGS, "PUPPETMASTER_OFFLINE_CODES": f"598,{OFFLINE}"}
    with running(tmp_path, settings=settings) as started:
        yield started


def test_who_is_offline_is_waited_for_and_holds_up_nobody(flow: Flow) -> None:
    remote = RemoteBundle(flow, "away", "gone")
    job = flow.create(batch("post", ["away", "here", "gone", "there"], deliveryTimeout=WAITS_S))
    flow.until(job, lambda shown: shown["finishCount"] == 2)
    waiting = [one for one in flow.requests(job) if one["status"] == "pending"]
    assert [one["destination"] for one in waiting] == ["away", "gone"]
    assert {one["whyCode"] for one in waiting} == {"absent"}
    assert waiting[0]["why"].startswith("not connected since ")
    # The bridge of the one says that it is back; the other is tried after some seconds.
    remote.away.clear()
    flow.stage.send(b"1", "/cgs/away/connection_status")
    flow.until(job, lambda shown: shown["finishCount"] == 3)
    assert remote.ran["away"] == 1
    assert flow.ended(job)["finishCount"] == 4
    assert remote.ran == Counter(["away", "here", "gone", "there"])
    assert remote.refused == Counter(["away", "gone"])
