"""A combination of docs/verdict.md as it is played on the engine, in virtual time."""

import itertools
from collections import Counter

from puppetmaster.clock import iso
from puppetmaster.errors import Conflict
from puppetmaster.model.job import Job, JobStatus
from puppetmaster.model.request import Request
from tests.verdict_page import POLICIES, Combination
from tests.virtual import Event, World, body

START_S, TIMEOUT_S, GRACE_S = 100.0, 50.0, 5.0
#: Of a request. Where none is to end by it, it is longer than anything else that happens.
SHORT_S, LONG_S = 40.0, 5000.0
CONTROLS = {
    "cancel": JobStatus.CANCELED,
    "forced cancel": JobStatus.CANCELED,
    "pause": JobStatus.PAUSED,
    "resume": JobStatus.DISPATCHING,
}
#: More steps than this, and it would never end.
STEPS_MOST = 50

_numbers = itertools.count()


class Play:
    """One job through one combination; ``before`` are its requests as they are when *control* begins."""

    def __init__(self, world: World, combination: Combination) -> None:
        self.world = world
        self.combination = combination
        self.seen: list[list[str]] = []
        world.sent.clear()
        self.id = self._create().id
        self._answer()
        self.before = self._look()
        for event in (combination.control, combination.then):
            self._happen(event)
            self._look()

    def job(self) -> Job | None:
        """The job on disk; None: it is removed."""
        return self.world.store.now.job(self.id)

    def requests(self) -> list[Request]:
        """Its requests on disk."""
        return self.world.store.now.requests({"job": self.id})

    def _look(self) -> list[Request]:
        requests = self.requests()
        self.seen.append([one.status.value for one in requests])
        return requests

    def first_failures(self) -> tuple[int, int]:
        """When first something had failed: how many, and of how many that were tried and done."""
        for statuses in self.seen:
            counts = Counter(statuses)
            failed = counts["error"] + counts["timeout"] + counts["unknown"]
            if failed:
                return failed, failed + counts["resolved"]
        raise AssertionError("nothing failed")

    # -- what happens -------------------------------------------------------------------------------

    def _create(self) -> Job:
        one = self.combination
        number = next(_numbers)
        more = dict(POLICIES[one.policy])
        if one.answered == "not started":
            more["startAt"] = iso(self.world.clock.wall_s() + START_S)
        more["requestTimeout"] = SHORT_S if one.badly == "no answer" else LONG_S
        more["timeout"] = TIMEOUT_S if one.then == "timeout" else None
        return self.world.create(
            body("post", *(f"{number}{letter}" for letter in "abcd"), concurrency=2, **more)
        )

    def _answer(self) -> None:
        """In one turn: otherwise what waits would be sent between the two."""
        answered, world = self.combination.answered, self.world
        first, second = self._ids()[:2]
        if answered == "one well":
            world.run(self._well(first))
        elif answered == "both well":
            world.run(self._well(first), self._well(second))
        elif answered == "one badly":
            self._fail(first, second)
        elif answered == "well and badly":
            self._fail(first, None)

    def _ids(self) -> list[int]:
        return [one.id for one in self.requests()]

    def _well(self, id_: int, code: int = 200) -> Event:
        return self.world.answered(self.world.last(id_).message, code)

    def _fail(self, first: int, other: int | None) -> None:
        """The first is answered badly; the second is in flight still if it is the ``other``, or answered."""
        world, badly = self.world, self.combination.badly
        answers = [] if other is not None else [self._well(first + 1)]
        if badly == "error":
            world.run(self._well(first, 500), *answers)
        elif badly == "408":
            expired = world.refused(world.last(first).message, 408, "session failed due to ttl expired .")
            world.run(expired, *answers)
        else:
            wait_s = SHORT_S if badly == "no answer" else GRACE_S
            if badly == "lost":
                world.restart()
            if other is not None:
                self._send_anew(other, wait_s / 2)
                wait_s /= 2
            world.clock.monotonic_s += wait_s
            world.run(*answers)

    def _send_anew(self, id_: int, after_s: float) -> None:
        """A request in flight is refused and sent again, so that its time begins later."""
        self._happen("pause")
        self.world.run(self.world.refused(self.world.last(id_).message))
        self.world.advance(after_s)
        self._happen("resume")

    def _happen(self, event: str) -> None:
        if event in CONTROLS:
            self._control(CONTROLS[event], force=event == "forced cancel")
        elif event == "removal":
            self.world.do(lambda engine: engine.delete(self.id))
        elif event == "timeout":
            self.world.advance(TIMEOUT_S)
        elif event == "restart":
            self.world.restart()
            self.world.advance(GRACE_S)

    def _control(self, wanted: JobStatus, *, force: bool) -> None:
        """Conflict comes of a job that has ended, or that is being stopped and shall go on or wait."""
        job = self.world.engine.state.find_job(self.id)
        refused = job.final or (job.ending is not None and wanted is not JobStatus.CANCELED)
        try:
            self.world.do(lambda engine: engine.control(self.id, wanted, force=force))
        except Conflict:
            assert refused, self.combination
        else:
            assert not refused, self.combination

    # -- the end ------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Answer what is in flight, and let time pass, until it has ended or waits for somebody."""
        code = 200 if self.combination.last == "well" else 500
        for _ in range(STEPS_MOST):
            job = self.job()
            if job is None or job.final:
                return
            flying = [one.id for one in self.requests() if one.status == "sent"]
            if flying:
                self.world.run(*(self._well(id_, code) for id_ in flying))
                self._look()
            elif job.status is JobStatus.PAUSED:
                return
            else:
                due_s = self.world.engine.timers.next_s()
                assert due_s is not None, f"{self.combination}: nothing will ever happen to it again"
                self.world.advance(due_s - self.world.clock.now_s())
        raise AssertionError(f"{self.combination}: it does not end")

    def push(self) -> None:
        """Resume it until it has ended."""
        for _ in range(STEPS_MOST):
            job = self.job()
            if job is None or job.final:
                return
            self._happen("resume")
            self.finish()
        raise AssertionError(f"{self.combination}: it does not end")

    def answer_again(self) -> None:
        """Everything that was ever sent of it is answered once more, and well."""
        self.world.run(*(self.world.answered(one.message) for one in self.world.sent))
