"""The loop: what arrives is decided on, made durable, and only then acted on, whatever goes wrong."""

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import pytest

from puppetmaster import dispatcher as dispatcher_module
from puppetmaster.api import bodies
from puppetmaster.api.service import Service
from puppetmaster.bus.client import (
    Answered,
    ConnectionChanged,
    ControllerChanged,
    ControllerForgot,
    Room,
    Synced,
)
from puppetmaster.bus.connection import Receipt
from puppetmaster.clock import seconds
from puppetmaster.engine.engine import Engine
from puppetmaster.errors import NotFound, StoreError, Unavailable
from puppetmaster.jsoncodec import WAITING_BYTES
from puppetmaster.model import reply
from puppetmaster.model.job import JobStatus
from puppetmaster.model.message import Outgoing
from puppetmaster.model.template import NewTemplate
from puppetmaster.settings import Settings
from puppetmaster.store.base import Changes, Ids, Keep, Look, Now
from puppetmaster.store.memory import MemoryStore
from tests.desk import WAIT_S, Desk, JumpingClock, until
from tests.examples import LATER, a_job, counts
from tests.virtual import body

MemoryDesk = Desk[MemoryStore]
#: In place of the dispatcher's own half second, and its second between two looks at the clock.
RETRY_S, SLEEP_S = 0.1, 0.15


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "STORE_RETRY_S", RETRY_S)
    monkeypatch.setattr(dispatcher_module, "LONGEST_SLEEP_S", SLEEP_S)


@pytest.fixture
def desk() -> Iterator[MemoryDesk]:
    made = Desk(MemoryStore(), grace_s=0.05)
    yield made
    made.store.full = False
    made.close()
    assert made.bus.unrecorded == []


class Gate:
    """A verb that holds the dispatcher until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _engine: Engine) -> str:
        self.reached.set()
        assert self.opened.wait(WAIT_S)
        return "passed"


# -- what happens on the bus -----------------------------------------------------------------------


def test_what_has_not_left_waits_again(desk: MemoryDesk) -> None:
    desk.bus.refusing = True
    job = desk.create("a", "b")
    desk.dispatcher.do(lambda engine: engine.lifecycle.begin_job(job.id))
    until(lambda: desk.bus.refused, "they cannot leave")
    desk.post(ConnectionChanged(up=False))
    until(lambda: desk.status(job.first) == "pending" and desk.in_flight() == 0, "they wait again")
    assert desk.bus.sent == []
    desk.bus.refusing = False
    desk.post(ConnectionChanged(up=True), ControllerChanged(up=True))
    until(lambda: len(desk.bus.sent) == 2, "they leave")
    with desk.store.reading() as reader:
        assert [one.attempts for one in reader.requests({"job": job.id})] == [1, 1]


def test_messages_that_a_broken_connection_names_wait_again(desk: MemoryDesk) -> None:
    job = desk.sent("a", "b")
    first, second = desk.bus.sent
    desk.post(ConnectionChanged(up=False, unsent=(second,)))
    until(lambda: desk.status(second) == "pending", "the one that has not left waits")
    assert desk.status(first) == "sent", "of the other nobody knows"
    desk.post(ConnectionChanged(up=True), ControllerChanged(up=True))
    until(lambda: desk.bus.sent.count(second) == 2, "it leaves, under the same id: nobody has seen that")
    assert job.total == 2


def test_a_controller_that_has_forgotten_us_brings_no_answers(desk: MemoryDesk) -> None:
    job = desk.sent("a", timeout=None)
    now_s = time.monotonic()
    desk.post(ControllerForgot(None, now_s))
    assert (desk.in_flight(), len(desk.bus.sent)) == (1, 1), "who never knew us takes nothing away"
    desk.post(ControllerForgot(now_s + 1, now_s + 1))
    until(lambda: len(desk.bus.sent) == 2, "a read is made again, after the grace time")
    assert desk.bus.sent[0] == job.first != desk.bus.sent[1]


def test_what_does_not_leave_because_the_broker_is_slow_leaves_when_it_has_room(desk: MemoryDesk) -> None:
    desk.bus.waiting_bytes = WAITING_BYTES
    job = desk.create("a", "b")
    desk.dispatcher.call(lambda engine: engine.lifecycle.begin_job(job.id), WAIT_S)
    assert desk.bus.sent == []
    desk.bus.waiting_bytes = 0
    desk.post(Room())
    until(lambda: len(desk.bus.sent) == 2, "they leave")


def test_the_bus_knows_that_answers_are_waited_for_before_it_is_given_what_they_answer(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    send = desk.bus.send

    def sending(commands: Sequence[Outgoing]) -> bool:
        told.append(desk.bus.in_flight)
        return send(commands)

    monkeypatch.setattr(desk.bus, "send", sending)
    desk.sent("a", "b")
    assert told == [2]
    for message in desk.bus.sent:
        desk.answer(message)
    until(lambda: desk.bus.in_flight == 0, "nothing is waited for any more")


# -- acknowledged when it is on disk ---------------------------------------------------------------


def test_an_answer_is_acknowledged_when_it_is_on_disk(desk: MemoryDesk) -> None:
    seen: list[str] = []
    job = desk.sent("a")
    desk.bus.watch = lambda _: seen.append(desk.status(job.first))
    desk.answer(job.first)
    until(lambda: desk.bus.acknowledged, "it is acknowledged")
    assert seen == ["resolved"]


def test_an_answer_for_nobody_is_acknowledged_too(desk: MemoryDesk) -> None:
    desk.answer(12345)
    until(lambda: desk.bus.acknowledged == [345], "it is acknowledged")


def test_who_may_have_been_replaced_sends_and_acknowledges_nothing(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.sent("a")
    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "may_act", lambda: False)
        desk.answer(job.first)
        until(lambda: desk.status(job.first) == "resolved", "it is on disk")
        desk.create("b")
        desk.dispatcher.look(lambda engine: None, WAIT_S)
        assert (desk.bus.sent, desk.bus.acknowledged) == ([job.first], [])
    until(lambda: desk.bus.acknowledged == [job.first % 1000], "the answer is acknowledged")
    until(lambda: len(desk.bus.sent) == 2, "the other command leaves")


def _broken(*_: Any) -> None:
    raise StoreError("The store cannot be read: Input/output error.")


def test_an_answer_that_cannot_be_taken_in_is_kept_until_it_can(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More than a broker brings before something is acknowledged: none is lost, and none holds up others."""
    job = desk.create(*[f"g{number}" for number in range(30)], requestTimeout=0.2)
    until(lambda: desk.status(job.request_ids[-1]) == "timeout", "nobody answers in time")
    with monkeypatch.context() as patch:
        patch.setattr(type(desk.store.now), "request", _broken)
        for id_ in job.request_ids:
            desk.answer(id_)
        until(lambda: len(desk.bus.acknowledged) == 30, "the broker need not keep them any more")
        until(lambda: len(desk.dispatcher._untaken) == 30, "they are kept here")
    until(lambda: {desk.status(id_) for id_ in job.request_ids} == {"resolved"}, "they are taken in")
    assert len(desk.bus.acknowledged) == 30, "once each"
    assert desk.dispatcher._untaken == {}
    assert caplog.text.count("could not be taken in, and is tried again: The store cannot be read") == 30


def test_an_answer_that_is_tried_in_vain_is_tried_less_often(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def broken(*_: Any) -> None:
        tries.append(time.monotonic())
        raise OSError("Input/output error")

    monkeypatch.setattr(desk.engine.delivery, "answered", broken)
    desk.answer(77)
    until(lambda: len(tries) >= 4, "it is tried again")
    waits_s = [after - before for before, after in itertools.pairwise(tries)]
    for wait_s, least_s in zip(waits_s, (0.1, 0.2, 0.4), strict=False):
        assert wait_s >= least_s * 0.9


def test_an_answer_that_is_neither_taken_in_nor_kept_is_not_acknowledged(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again with the next connection."""
    monkeypatch.setattr(dispatcher_module, "AGAIN_MOST", 0)
    job = desk.sent("a")
    desk.answer(job.first)
    until(lambda: desk.status(job.first) == "resolved", "it is answered")
    desk.bus.acknowledged.clear()

    with monkeypatch.context() as patch:
        patch.setattr(type(desk.store.now), "request", _broken)
        desk.answer(job.first + 1)
        desk.in_flight()
    desk.answer(77)
    until(lambda: desk.bus.acknowledged, "the next one is acknowledged")
    assert desk.bus.acknowledged == [77]


def test_the_bus_is_told_what_was_taken_in(desk: MemoryDesk) -> None:
    """Else it would read nothing any more."""
    told = reply.read({"id": 1, "code": 200, "data": {}})
    desk.post(*[Answered(number, told, Receipt(1, number), size_bytes=1000) for number in range(1, 6)])
    until(lambda: desk.bus.released_bytes == 5000, "there is room again")


def test_answers_that_could_not_be_taken_in_are_kept_up_to_some_bytes(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker keeps the others."""
    monkeypatch.setattr(dispatcher_module, "AGAIN_BYTES", 2500)
    monkeypatch.setattr(dispatcher_module, "AGAIN_FIRST_S", 0.5)
    told = reply.read({"id": 1, "code": 200, "data": {}})
    with monkeypatch.context() as patch:
        patch.setattr(desk.engine.delivery, "answered", _broken)
        desk.post(*[Answered(number, told, Receipt(1, number), size_bytes=1000) for number in range(1, 6)])
        until(lambda: desk.bus.released_bytes == 5000, "all have been looked at")
        assert desk.bus.acknowledged == [1, 2, 3]
    until(lambda: not desk.dispatcher._untaken, "they are taken in")
    assert desk.dispatcher._untaken_bytes == 0


def test_an_answer_that_is_kept_and_tried_in_vain_stays_kept(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is acknowledged, so that the broker would not bring it again."""
    monkeypatch.setattr(dispatcher_module, "AGAIN_BYTES", 2500)
    told = reply.read({"id": 1, "code": 200, "data": {}})
    tried: list[int] = []

    def answered(message: int, *_: Any) -> None:
        tried.append(message)
        if tried.count(message) < 3:
            raise StoreError("It cannot be read.")

    monkeypatch.setattr(desk.engine.delivery, "answered", answered)
    sizes = {1: 2000, 2: 400, 3: 2000}
    desk.post(
        *[Answered(number, told, Receipt(1, number), size_bytes=size) for number, size in sizes.items()]
    )
    until(lambda: desk.bus.acknowledged == [1, 2, 3], "they are kept")
    until(lambda: not desk.dispatcher._untaken, "none is left")
    assert sorted(tried) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert desk.dispatcher._untaken_bytes == 0


def test_what_is_kept_here_counts_as_in_memory_until_it_is_written(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus reads no more than so much. What is not read may be the answer that a timer asks for.

    They are acknowledged: else they would hold up what is behind them, the controller's word included.
    """
    monkeypatch.setattr(dispatcher_module, "CATCH_UP_S", 0.0)
    monkeypatch.setattr(dispatcher_module, "HELD_BYTES", 2000)
    job = desk.sent("a", "b", "c", requestTimeout=30)
    one, two, three = job.request_ids
    desk.store.full = True
    desk.answer(one, size_bytes=1999)
    tries = commits_of(desk.store, monkeypatch)
    until(lambda: tries and desk.bus.acknowledged, "it is kept")
    assert (desk.bus.released_bytes, desk.status(one)) == (0, "sent")
    desk.answer(two, size_bytes=1)
    desk.in_flight()
    desk.post(Synced())  # asked for before so much was kept
    until(lambda: desk.bus.syncs == 1, "more may have come behind what was answered")
    desk.clock.ahead_s += 60
    desk.post(Synced())
    tries.clear()
    until(lambda: len(tries) > 2, "it is tried to write them")
    assert desk.in_flight() == 1, "nobody says that the third was not answered"
    assert (desk.bus.released_bytes, desk.bus.syncs) == (0, 1)
    monkeypatch.setattr(dispatcher_module, "CATCH_UP_S", WAIT_S)
    desk.store.full = False
    until(lambda: desk.bus.released_bytes == 2000, "more may be read")
    until(lambda: desk.bus.syncs == 2, "all that is on its way is asked for")
    desk.answer(three)
    desk.post(Synced())
    until(lambda: desk.status(three) == "resolved", "it is answered")
    assert [desk.status(id_) for id_ in (one, two)] == ["resolved", "resolved"]


@pytest.mark.parametrize("fails", ["at once", "when it is written"])
def test_nothing_is_kept_of_a_call_that_failed(desk: MemoryDesk, fails: str) -> None:
    """Python's search for cycles counts objects, not bytes, and the body of a POST has up to 16 MB."""

    class Verb:
        def __call__(self, engine: Engine) -> Any:
            if fails == "at once":
                raise Unavailable
            return engine.create(bodies.parse_job(body("get", "a"), 10))

    verb = Verb()
    kept = weakref.ref(verb)
    desk.store.full = True
    gc.collect()
    gc.disable()
    try:
        with suppress(Unavailable, StoreError):
            desk.dispatcher.create(verb, WAIT_S)
        del verb
        until(lambda: kept() is None, "it is gone")
    finally:
        gc.enable()


# -- a process that stood still --------------------------------------------------------------------


def test_what_came_while_this_process_stood_still_is_read_before_timers_fire(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "CATCH_UP_S", WAIT_S)
    job = desk.sent("a", "b", "c", requestTimeout=30)
    assert desk.bus.syncs == 0
    desk.clock.ahead_s += 60
    until(lambda: desk.bus.syncs == 1, "all that is on its way is asked for")
    desk.answer(job.first)
    desk.post(Synced())
    until(lambda: desk.bus.syncs == 2, "the broker may have more, now that this is acknowledged")
    assert desk.bus.acknowledged == [job.first % 1000]
    desk.answer(job.first + 1)
    desk.post(Synced())
    until(lambda: desk.bus.syncs == 3, "and more")
    assert desk.status(job.request_ids[-1]) == "sent", "its time is over, but it may be answered"
    desk.post(Synced())
    until(lambda: desk.status(job.request_ids[-1]) == "timeout", "nothing came: it is not answered")
    assert [desk.status(id_) for id_ in job.request_ids] == ["resolved", "resolved", "timeout"]
    desk.in_flight()
    assert desk.bus.syncs == 3


def test_a_connection_that_was_lost_meanwhile_is_waited_for(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its broker has kept the answers; the loss alone must not end what is in doubt."""
    monkeypatch.setattr(dispatcher_module, "CATCH_UP_S", WAIT_S)
    job = desk.sent("a", "b", requestTimeout=30)
    desk.clock.ahead_s += 60
    until(lambda: desk.bus.syncs == 1, "all that is on its way is asked for")
    desk.post(ConnectionChanged(up=False))
    desk.post(ConnectionChanged(up=True), ControllerChanged(up=True))
    desk.in_flight()
    assert len(desk.bus.sent) == 2, "none of them is repeated yet"
    desk.answer(job.first)
    desk.answer(job.request_ids[-1])
    desk.post(Synced())
    until(lambda: desk.status(job.request_ids[-1]) == "resolved", "both are answered")
    assert len(desk.bus.sent) == 2


def test_timers_are_not_held_for_ever(desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "CATCH_UP_S", 0.2)
    job = desk.sent("a", requestTimeout=30)
    desk.clock.ahead_s += 60
    until(lambda: desk.status(job.first) == "timeout", "nobody says that all is there, and time goes on")
    assert desk.bus.syncs == 1


def test_timers_fire_also_when_every_turn_takes_long(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "CATCH_UP_S", WAIT_S)
    job = desk.sent("a", requestTimeout=30)
    desk.clock.ahead_s += 60
    until(lambda: desk.bus.syncs == 1, "all that is on its way is asked for")
    gate = Gate()
    desk.dispatcher.do(gate)
    assert gate.reached.wait(WAIT_S)
    desk.post(Synced())
    desk.clock.ahead_s += 3
    gate.opened.set()
    until(lambda: desk.status(job.first) == "timeout", "they fire")


# -- a disk that fails -----------------------------------------------------------------------------


def commits_of(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> list[Changes]:
    """What is tried to be committed from now on."""
    commit, tries = store.commit, list[Changes]()

    def counted(changes: Changes) -> None:
        tries.append(changes)
        commit(changes)

    monkeypatch.setattr(store, "commit", counted)
    return tries


def turns_of(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When something is decided from now on (monotonic clock)."""
    decide, turns = Engine.decide, list[float]()

    def counted(engine: Engine) -> Any:
        turns.append(time.monotonic())
        return decide(engine)

    monkeypatch.setattr(Engine, "decide", counted)
    return turns


@pytest.mark.parametrize("sweeping", [False, True])
def test_a_disk_that_fails_is_tried_again_now_and_then(
    desk: MemoryDesk, sweeping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.sent("a")
    turns, tries = turns_of(monkeypatch), commits_of(desk.store, monkeypatch)
    desk.store.full = True
    desk.dispatcher._sweeping = sweeping
    desk.answer(job.first)
    until(lambda: len(tries) >= 4, "it is tried again")
    took_s = turns[-1] - turns[0]
    assert took_s >= 3 * RETRY_S * 0.9
    assert len(turns) < 10 + 10 * took_s, "in between it sleeps"


def test_a_restart_on_a_disk_that_fails_sleeps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Desk(MemoryStore())) as first:
        first.sent("a")
    store = MemoryStore(first.store.memory)
    store.full = True
    turns, tries = turns_of(monkeypatch), commits_of(store, monkeypatch)
    with closing(Desk(store, grace_s=0.0)) as desk:
        until(lambda: len(tries) >= 3, "it is tried again")
        assert len(turns) < 20 + 10 * (turns[-1] - turns[0]), "in between it sleeps"
        assert desk.bus.sent == []
        desk.store.full = False


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda engine: engine.control(1, JobStatus.PAUSED, force=False), [JobStatus.PAUSED]),
        (lambda engine: engine.delete(1), []),
    ],
    ids=["pause", "delete"],
)
def test_a_change_that_cannot_be_written_is_told_at_once_and_done_all_the_same(
    desk: MemoryDesk, change: Callable[[Engine], Any], shown: list[JobStatus]
) -> None:
    job = desk.create("a", "b", concurrency=1)
    until(lambda: desk.bus.sent, "it leaves")
    desk.store.full = True
    with pytest.raises(StoreError, match="It is in force, and will be written down as soon as that can be"):
        desk.dispatcher.call(change, WAIT_S)
    with pytest.raises(Unavailable, match="Nothing was changed"):
        desk.dispatcher.call(lambda engine: engine.delete(job.id), WAIT_S)
    desk.store.full = False

    def stored() -> list[JobStatus]:
        with desk.store.reading() as reader:
            return [one.status for one in reader.jobs({})]

    until(lambda: stored() == shown, "it is written down")


def test_a_template_that_has_the_id_of_a_job_that_was_not_created_is_in_force(desk: MemoryDesk) -> None:
    gate, new = Gate(), NewTemplate(name="nightly", job=body("get", "a"))
    with ThreadPoolExecutor(2) as pool:
        desk.dispatcher.do(gate)
        assert gate.reached.wait(WAIT_S)
        job = pool.submit(desk.create, "a")
        template = pool.submit(desk.dispatcher.call, lambda engine: engine.put_template(None, new), WAIT_S)
        until(lambda: desk.dispatcher._inbox.qsize() == 2, "both wait")
        desk.store.full = True
        gate.opened.set()
        with pytest.raises(StoreError, match="No job was created"):
            job.result(WAIT_S)
        with pytest.raises(StoreError, match="It is in force"):
            template.result(WAIT_S)


# -- what was removed ------------------------------------------------------------------------------


def test_what_was_removed_is_swept_though_nothing_happens(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.create("a")
    parts = list(range(10))
    monkeypatch.setattr(desk.store, "sweep", lambda: bool(parts and parts.pop()))
    desk.dispatcher.call(lambda engine: engine.delete(job.id), WAIT_S)
    until(lambda: not parts, "all parts go")


def test_a_sweep_that_fails_is_taken_up_again(desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puppetmaster.dispatcher.PRUNE_S", 0.05)
    desk.dispatcher._prune_s = 0.0
    job = desk.create("a")
    parts, failed = list(range(10)), threading.Event()

    def flaky() -> bool:
        if len(parts) == 5 and not failed.is_set():
            failed.set()
            raise StoreError("The disk is full.")
        return bool(parts and parts.pop())

    monkeypatch.setattr(desk.store, "sweep", flaky)
    desk.dispatcher.call(lambda engine: engine.delete(job.id), WAIT_S)
    until(lambda: not parts, "all parts go")
    assert failed.is_set()


def test_many_jobs_that_need_not_be_kept_go_one_after_the_other_while_others_are_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("puppetmaster.store.base.PART", 5)
    monkeypatch.setattr("puppetmaster.store.base.MOST", 40)
    caplog.set_level("INFO", "sanji.puppetmaster.dispatcher")
    store = MemoryStore()
    given = {"status": JobStatus.RESOLVED, "finished_at": LATER, "total": 1, "counts": counts(resolved=1)}
    ended = {id_: a_job(id=id_, first=store.ids.next_request + id_, **given) for id_ in range(1, 101)}
    store.commit(Changes(jobs=ended, ids=Ids(101, ended[100].first + 1)))
    with closing(Desk(store, keep=Keep(3, float("inf"), 2**62))) as desk:
        job = desk.sent("a")

        def kept() -> list[int]:
            with desk.store.reading() as reader:
                return [one.id for one in reader.jobs({})]

        until(lambda: len(kept()) == 4, "they go, though nothing happens")
        assert sorted(kept()) == [98, 99, 100, job.id]
        until(lambda: "17 jobs are removed" in caplog.text, "it is said")
        assert caplog.text.count("jobs are removed: there are more than is kept") == 3


DAYS_S = 86400.0


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryDesk]:
    """Its clock is 60 days behind, and ended jobs are kept for 30."""
    monkeypatch.setattr("puppetmaster.dispatcher.PRUNE_S", 0.0)
    monkeypatch.setattr("puppetmaster.clock.SETTLE_S", 0.0)
    clock = JumpingClock()
    clock.step_s = -60 * DAYS_S
    with closing(Desk(MemoryStore(), clock=clock, keep=Keep(2**62, 30 * DAYS_S, 2**62))) as desk:
        yield desk


def test_what_has_just_ended_is_kept_when_the_clock_is_set(
    behind: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall_s = time.time()
    job = behind.sent("a")
    behind.answer(job.first)
    until(lambda: behind.status(job.first) == "resolved", "it ends")
    outlived, looks = behind.store.outlived, list[Now]()

    def looked(look: Look) -> dict[int, str]:
        looks.append(look.now)
        return outlived(look)

    monkeypatch.setattr(behind.store, "outlived", looked)
    behind.clock.step_s = 0.0
    until(lambda: behind.in_flight() == 0 and [one for one in looks if one.wall_s >= wall_s][2:], "it looks")
    assert behind.status(job.first) == "resolved"


def test_when_a_job_began_is_noted_anew_when_the_clock_is_set(behind: MemoryDesk) -> None:
    began_s = time.time()
    job = behind.sent("a", timeout=3600)
    behind.clock.step_s = 0.0

    def noted_s() -> float:
        return seconds(str(behind.job(job.id).timed_at))

    until(lambda: noted_s() > began_s - 1, "it is noted anew")
    assert noted_s() < time.time() + 1


# -- callers ---------------------------------------------------------------------------------------


def test_a_call_that_its_caller_gave_up_is_not_done_later(desk: MemoryDesk) -> None:
    gate, done = Gate(), threading.Event()
    holder = threading.Thread(target=lambda: desk.dispatcher.look(gate, WAIT_S))
    holder.start()
    assert gate.reached.wait(WAIT_S)
    with pytest.raises(Unavailable, match=r"Not begun within 0\.05 s: nothing was changed"):
        desk.dispatcher.call(lambda _: done.set(), 0.05)
    gate.opened.set()
    holder.join()
    desk.in_flight()
    assert not done.is_set()


def test_a_call_that_is_under_way_may_be_done(desk: MemoryDesk) -> None:
    gate = Gate()
    with pytest.raises(Unavailable, match=r"Not confirmed within 0\.05 s: look again later"):
        desk.dispatcher.call(gate, 0.05)
    gate.opened.set()
    assert desk.in_flight() == 0


def test_who_calls_hears_what_went_wrong_and_the_loop_goes_on(
    desk: MemoryDesk, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_engine: Engine) -> None:
        raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError):
        desk.dispatcher.call(broken, WAIT_S)
    with pytest.raises(NotFound):
        desk.dispatcher.call(lambda engine: engine.delete(99), WAIT_S)
    assert desk.in_flight() == 0
    assert "a call failed" in caplog.text


def test_an_event_that_goes_wrong_does_not_stop_the_loop(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> None:
        raise ZeroDivisionError("oops")

    until(lambda: desk.dispatcher.look(lambda engine: engine.controller_up, WAIT_S), "it is up")
    with monkeypatch.context() as patch:
        patch.setattr(desk.engine, "connection", broken)
        desk.post(ConnectionChanged(up=True))
        desk.in_flight()
    assert "a step of the dispatcher failed" in caplog.text
    desk.sent("a")


def test_a_rerun_that_is_asked_for_again_is_answered_when_it_is_on_disk(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.create(*[f"g{number}" for number in range(3000)], startAt="2999-01-01T00:00:00Z")
    with desk.store.reading() as reader:
        assert reader.count_requests({"job": first.id}) == 3000, "it is answered when it exists"
    desk.dispatcher.call(lambda engine: engine.control(first.id, JobStatus.CANCELED, force=False), WAIT_S)
    service = Service(Settings(), desk.store, desk.dispatcher)
    asked = {"rerun": {"job": first.id}, "key": "k"}
    until(lambda: desk.dispatcher.look(lambda engine: not engine.state.open_jobs, WAIT_S), "it ends")
    begun, repeated, answered = threading.Event(), threading.Event(), threading.Event()
    commit, look = desk.store.commit, desk.dispatcher.look

    def held(changes: Changes) -> None:
        if changes.drafts:
            begun.set()
            assert repeated.wait(WAIT_S)
        if changes.completed:
            assert not answered.wait(0.2), "it is answered before it is on disk"
        commit(changes)

    def ask() -> None:
        service.create_job(asked)
        answered.set()

    def seen(verb: Any, timeout_s: float) -> Any:
        if begun.is_set():
            threading.Timer(0.05, repeated.set).start()
        return look(verb, timeout_s)

    monkeypatch.setattr(desk.store, "commit", held)
    monkeypatch.setattr(desk.dispatcher, "look", seen)
    posts = [threading.Thread(target=ask), threading.Thread(target=ask)]
    posts[0].start()
    assert begun.wait(WAIT_S)
    posts[1].start()
    for post in posts:
        post.join()
    with desk.store.reading() as reader:
        assert reader.count_jobs({}) == 2


def test_a_large_job_that_cannot_be_written_is_refused(desk: MemoryDesk) -> None:
    desk.store.full = True
    with pytest.raises(StoreError, match="No job was created"):
        desk.create(*[f"g{number}" for number in range(3000)])
    desk.store.full = False
    until(lambda: not desk.dispatcher.look(lambda engine: engine.stalled, WAIT_S), "the disk is back")
    assert desk.create("a").id == 2


def test_who_has_given_up_silences_nobody_when_it_stops() -> None:
    first, last = Gate(), Gate()
    with closing(Desk(MemoryStore())) as desk, ThreadPoolExecutor(1) as pool:
        desk.dispatcher.do(first)
        assert first.reached.wait(WAIT_S)
        desk.dispatcher.do(last)
        desk.dispatcher._inbox.put(None)  # as stop() does: what comes after this turn is turned away
        first.opened.set()
        assert last.reached.wait(WAIT_S)
        with pytest.raises(Unavailable, match="Not begun within"):
            desk.dispatcher.call(lambda _: None, 0.01)
        waits = pool.submit(desk.dispatcher.call, lambda _: None, WAIT_S)
        until(lambda: desk.dispatcher._inbox.qsize() == 2, "it waits behind the one that has given up")
        last.opened.set()
        with pytest.raises(Unavailable, match="Puppetmaster is stopping: nothing was changed"):
            waits.result(WAIT_S)


def test_who_waits_when_it_stops_is_told() -> None:
    desk, gate = Desk(MemoryStore()), Gate()
    desk.dispatcher.do(gate)
    assert gate.reached.wait(WAIT_S)
    stopper = threading.Thread(target=lambda: desk.dispatcher.stop(WAIT_S))
    stopper.start()
    until(lambda: desk.dispatcher._stopped.is_set(), "it is to stop")
    with pytest.raises(Unavailable, match="Puppetmaster is stopping: nothing was changed"):
        desk.dispatcher.call(lambda _: None, WAIT_S)
    gate.opened.set()
    stopper.join()
    assert not desk.dispatcher.running
    desk.store.close()


def test_who_calls_at_the_moment_of_the_end_is_turned_away_at_once(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.dispatcher.stop(WAIT_S)
    monkeypatch.setattr(desk.dispatcher, "_stopped", threading.Event())  # as it was looked at just before
    with pytest.raises(Unavailable, match="Puppetmaster is stopping: nothing was changed"):
        desk.dispatcher.call(lambda _: None, 0.0)
    desk.store.close()


# -- who looks after us ----------------------------------------------------------------------------


def test_a_turn_is_told_and_a_dispatcher_that_stands_still_tells_nothing(desk: MemoryDesk) -> None:
    turns, gate = threading.Semaphore(0), Gate()
    desk.dispatcher.turned = turns.release
    try:
        assert turns.acquire(timeout=WAIT_S)
        desk.dispatcher.do(gate)
        assert gate.reached.wait(WAIT_S)
        while turns.acquire(blocking=False):
            pass  # of turns before it
        desk.dispatcher.do(lambda _: None)
        assert not turns.acquire(blocking=False)
    finally:
        gate.opened.set()
        assert turns.acquire(timeout=WAIT_S)
