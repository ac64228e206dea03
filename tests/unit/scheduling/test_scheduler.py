"""One in flight for each destination, in the order of creation, and why a request waits."""

from puppetmaster.scheduling.scheduler import LOCKED
from tests.unit.scheduling.lanes import lanes_of, picks, reads, teach, writes


def test_one_that_was_in_flight_before_takes_its_slot_again() -> None:
    scheduler = lanes_of(1, limit=2, most=2, known=True)
    scheduler.add(1, 1, "a", write=True, in_flight=True)
    reads(scheduler, 1, "abc", 2)
    assert scheduler.in_flight == 1
    teach(scheduler, "abc")
    assert picks(scheduler) == [3]
    scheduler.remove(1)
    assert len(picks(scheduler)) == 1


def test_one_that_was_in_flight_before_is_not_joined_by_an_older_one() -> None:
    scheduler = lanes_of(1, known=True)
    scheduler.add(5, 1, "a", write=False, in_flight=True)
    reads(scheduler, 1, "a", 1)
    assert picks(scheduler) == []
    assert scheduler.why(1, 0.0) == "request 5 of job 1 to the same destination is in flight"


def test_one_that_was_in_flight_before_can_be_put_back() -> None:
    scheduler = lanes_of(1, known=True)
    scheduler.add(1, 1, "a", write=False, in_flight=True)
    scheduler.put_back(1)
    assert picks(scheduler) == [1]


# -- why -------------------------------------------------------------------------------------------


def test_why_names_a_command_of_ours_that_was_not_answered_in_its_time() -> None:
    """The controller keeps the lock until the ttl of its owner is over."""
    scheduler = lanes_of(1, 2, 3)
    teach(scheduler, "ab")
    writes(scheduler, 1, "a", 1)
    assert picks(scheduler) == [1]
    assert scheduler.overdue(1, 77, 5.0) is None, "nobody has to wait for the owner of one gateway"
    scheduler.remove(1)
    for id_, now_s in ((2, 5.0), (3, 9.0)):
        teach(scheduler, "a", now_s=now_s)
        writes(scheduler, id_, "a", id_)
        assert picks(scheduler, now_s) == [id_]
        scheduler.delay(id_, now_s + 2, LOCKED, locked=True)
        said = scheduler.why(id_, now_s)
        scheduler.remove(id_)
        scheduler.came(
            77, now_s
        )  # the controller gives up: whoever holds the lock from here is somebody else
        whose = "request 1, which was not answered in its time, until its owner's ttl is over"
        assert said == f"locked by {whose if id_ == 2 else 'somebody else'}; it is tried again in 2.0 s"


def test_why_tells_locks() -> None:
    scheduler = lanes_of(1)
    writes(scheduler, 1, "abc", 1)
    assert scheduler.why(1, 0.0) == "the controller is asked who owns its lock"
    teach(scheduler, "a", ["/remote/a", "/remote/b"])
    assert picks(scheduler) == [1]
    assert scheduler.why(2, 0.0) == "request 1 holds the lock of /remote/a and 1 more"
    assert scheduler.why(3, 0.0) == "the controller is asked who owns its lock"
    scheduler.delay(1, 5.0, LOCKED, locked=True)
    assert (
        scheduler.why(1, 0.0)
        == scheduler.why(2, 0.0)
        == "locked by somebody else; it is tried again in 5.0 s"
    )
