"""The bundle's process stands still for longer than its requests have time, on an untouched broker."""

import time
from collections import Counter
from pathlib import Path

from tests.conftest import any_broker
from tests.desk import until
from tests.flow import batch, running

TIMEOUT_S = 3.0
#: More than an untouched broker brings before something is acknowledged.
GATEWAYS = [f"cg-{number:02}" for number in range(1, 41)]
NEXT_WAVE = "cg-41"


def test_answers_that_came_meanwhile_count_before_any_timeout(tmp_path: Path) -> None:
    any_broker()
    fleet = ["--to", "cg-[01-41]", "--slow", "cg-[01-40]:1.5"]
    with running(tmp_path, *fleet, shape="one-model", tuned=False) as flow:
        job = flow.create(
            batch(
                "get",
                [*GATEWAYS, NEXT_WAVE],
                waves=[len(GATEWAYS)],
                gate={"onFail": "abort"},
                concurrency=len(GATEWAYS),
                requestTimeout=TIMEOUT_S,
                retry={"attempts": 2, "delay": 0},
            )
        )
        until(lambda: len(flow.commands(*GATEWAYS)) == len(GATEWAYS), "all are asked")
        last_s = flow.commands(*GATEWAYS)[-1].t_s
        with flow.standing_still():  # no clock of the process can be set: it is the machine's
            time.sleep(max(0.0, last_s + TIMEOUT_S + 0.5 - time.monotonic()))
        ended = flow.ended(job)
        assert (ended["status"], ended["counts"]["resolved"]) == ("resolved", len(GATEWAYS) + 1)
        reached = Counter(command.destination for command in flow.commands(*GATEWAYS, NEXT_WAVE))
        assert set(reached.values()) == {1}, "nothing is sent twice"
        assert {request["attempts"] for request in flow.requests(job)} == {1}
