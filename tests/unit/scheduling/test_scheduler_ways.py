"""Gateways that can be asked directly, and their way back to the remote bundle."""

from puppetmaster.scheduling.scheduler import LOCKED, Scheduler
from tests.unit.scheduling.lanes import CACHE_S, picks, reads, set_window, teach, writes


class Ways:
    """Scheduler of job 1 with gateways of which some can be asked directly; all others are of one owner."""

    def __init__(self, direct: str = "") -> None:
        self.direct = direct
        self.scheduler = Scheduler(100, CACHE_S, direct=lambda destination: destination in self.direct)
        set_window(self.scheduler, 100)
        self.scheduler.open_job(1, None)

    def reroute(self, direct: str) -> None:
        before, self.direct = self.direct, direct
        for destination in before + direct:
            self.scheduler.rerouted(destination)


def test_who_is_asked_directly_has_a_lock_of_its_own_and_no_question_is_needed() -> None:
    ways = Ways("ab")
    writes(ways.scheduler, 1, "aabc", 1)
    assert picks(ways.scheduler) == [1, 3]
    assert ways.scheduler.why(4, 0.0) == "the controller is asked who owns its lock"
    assert list(ways.scheduler.questions(9)) == ["c"]
    reads(ways.scheduler, 1, "a", 5)
    ways.scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert picks(ways.scheduler) == [], "others hold the lock of a"
    assert ways.scheduler.why(2, 0.0) == "request 1 of job 1 to the same destination is before it"


def test_what_waits_for_the_controllers_word_goes_when_there_is_a_direct_way() -> None:
    ways = Ways()
    writes(ways.scheduler, 1, "ab", 1)
    ways.scheduler.add(3, 1, "c", write=True, remote_only=True)
    assert picks(ways.scheduler) == []
    ways.reroute("ac")
    assert picks(ways.scheduler) == [1]
    assert list(ways.scheduler.questions(9)) == ["b", "c"], "nobody asks for a any more"
    teach(ways.scheduler, "bc")
    assert picks(ways.scheduler) == [2, 3]


def test_what_is_delayed_waits_on_whatever_the_way() -> None:
    ways = Ways("a")
    reads(ways.scheduler, 1, "a", 1)
    assert picks(ways.scheduler) == [1]
    ways.scheduler.delay(1, 5.0, "it failed")
    ways.reroute("")
    assert picks(ways.scheduler) == []
    assert ways.scheduler.why(1, 0.0) == "it failed; it is tried again in 5.0 s"
    ways.scheduler.wake(1, 5.0)
    assert list(ways.scheduler.questions(9)) == ["a"]
    ways.scheduler.rerouted("nobody")


def test_a_controller_that_has_forgotten_all_is_not_asked_for_who_is_asked_directly() -> None:
    ways = Ways("a")
    writes(ways.scheduler, 1, "ab", 1)
    ways.scheduler.forget_all()
    assert list(ways.scheduler.questions(9)) == ["b"]
