"""The wall clock is set back and forth by a day while timers run: none of them moves."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.model.job import Job
from puppetmaster.model.request import RequestStatus
from tests.desk import JumpingClock
from tests.torture.fuzzing import Target

DAY_S = 86_400.0
#: Later than its time a timer may fire on a busy machine; a day's error is far beyond.
SLACK_S = 2.0


class SteppedClock(JumpingClock):
    """The machine's clocks, of which the wall's can be set, and the machine be started anew."""

    step_s = 0.0
    starts = 0

    def wall_s(self) -> float:
        return super().wall_s() + self.step_s

    def boot(self) -> str:
        return f"start {self.starts}"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> type[SteppedClock]:
    monkeypatch.setattr("puppetmaster.app.Clock", SteppedClock)
    monkeypatch.setattr(SteppedClock, "step_s", 0.0)
    monkeypatch.setattr(SteppedClock, "starts", 0)
    return SteppedClock


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Target]]:
    """Starts the bundle; the one that ran before it ends."""
    running: list[Target] = []

    def starting() -> Target:
        if running:
            running.pop().close()
        running.append(Target(tmp_path, request_timeout_s=30.0, grace_s=0.5))
        return running[0]

    yield starting
    running.pop().close()


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
@pytest.mark.parametrize("whose", ["requestTimeout", "timeout"])
def test_a_timeout(start: Callable[[], Target], clock: type[SteppedClock], step_s: float, whose: str) -> None:
    target = start()
    created_s = _create(target, **{whose: 0.6})
    clock.step_s = step_s
    job = _ended(target)
    assert 0.55 <= time.monotonic() - created_s <= 0.6 + SLACK_S
    assert job.status == ("timeout" if whose == "timeout" else "resolved")
    assert job.counts[RequestStatus.TIMEOUT] == 1


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_a_jobs_timeout_over_a_restart_of_the_program(
    start: Callable[[], Target], clock: type[SteppedClock], step_s: float
) -> None:
    created_s = _create(start(), timeout=2.5, idempotent=True)
    clock.step_s = step_s
    job = _ended(start())
    assert 2.4 <= time.monotonic() - created_s <= 2.5 + SLACK_S
    assert job.status == "timeout"


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_the_grace_after_a_restart(
    start: Callable[[], Target], clock: type[SteppedClock], step_s: float
) -> None:
    _create(start())
    clock.step_s = step_s
    target = start()
    restarted_s = time.monotonic()
    job = _ended(target)
    assert 0.3 <= time.monotonic() - restarted_s <= 0.5 + SLACK_S
    assert job.counts[RequestStatus.UNKNOWN] == 1


@pytest.mark.parametrize(("step_s", "least_s"), [(DAY_S, 0.0), (-DAY_S, 1.0)])
def test_a_restart_of_the_machine_with_a_wrong_clock_makes_no_job_endless(
    start: Callable[[], Target], clock: type[SteppedClock], step_s: float, least_s: float
) -> None:
    _create(start(), timeout=1.2, idempotent=True)
    clock.step_s = step_s
    clock.starts = 1
    target = start()
    restarted_s = time.monotonic()
    job = _ended(target)
    assert least_s <= time.monotonic() - restarted_s <= 1.2 + SLACK_S
    assert job.status == "timeout"


def _create(target: Target, **more: Any) -> float:
    """A job of one request that nobody answers; returns when it was in flight."""
    item = {"method": "post", "resource": "/a", "__request": {"destination": "x"}}
    mailbox = target.bundle.app.hub.subscribe()
    created_s = time.monotonic()
    job = target.bundle.app.service.create_job({"batch": [item], **more})
    target.bundle.app.service.begin(job["id"])
    while not target.in_flight:
        assert mailbox.take(5)
    target.bundle.app.hub.unsubscribe(mailbox)
    return created_s


def _ended(target: Target) -> Job:
    """The job once it has ended."""
    mailbox = target.bundle.app.hub.subscribe()
    with target.bundle.app.store.reading() as reader:
        job = reader.job(1)
    while job is None or not job.final:
        changes = mailbox.take(10)
        assert changes, "the job did not end within 10 s"
        job = changes[-1].job
    return job
