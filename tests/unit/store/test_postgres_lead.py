"""Who leads a bus, and what becomes of those that do not."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from threading import Condition, Event, Thread
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from puppetmaster.errors import NotLeading, StoreError
from puppetmaster.model.leadership import Free
from puppetmaster.store.base import Changes
from puppetmaster.store.postgres import connection, lead, turns
from puppetmaster.store.postgres.connection import Connection, Door
from puppetmaster.store.postgres.lead import LEASE_S, MARGIN_S
from puppetmaster.store.postgres.store import PostgresStore
from sandbox.postgres import Cluster
from sandbox.process import Process
from tests.desk import until
from tests.postgres import MEMORY
from tests.stored import as_ended, creation, everything, fill

WAIT_S = 30.0
#: A process that leads until it is ended.
LEADS = """
import sys, time
from puppetmaster.store.postgres.store import PostgresStore
store = PostgresStore(sys.argv[1])
print("leads", flush=True)
time.sleep(600)
"""
#: Ends the sessions of this name.
ENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'"


class Ended(BaseException):
    """Instead of the end of the process."""


class Leader(PostgresStore):
    """A store that notes that its process would have ended."""

    def __init__(self, where: str, waiting: Callable[[str], None] | None = None) -> None:
        self.over = Event()
        super().__init__(where, waiting=waiting, ended=self._ended)

    def _ended(self, why: str) -> NoReturn:
        assert "Another puppetmaster has taken the lead" in why
        self.over.set()
        raise Ended


def away() -> NoReturn:
    raise StoreError("away")


@pytest.fixture
def first(where: str) -> Iterator[Leader]:
    with closing(Leader(where)) as leader:
        yield leader


def test_while_one_leads_another_is_refused(first: Leader, where: str) -> None:
    fill(first, 1)
    with pytest.raises(NotLeading, match=r"Another puppetmaster leads with .*: stop it, or give") as caught:
        PostgresStore(where)
    assert caught.value.exit_code == 75
    fill(first, 2)
    assert not first.over.is_set()


def test_who_stops_gives_the_lead_away(first: Leader, where: str, sql: Any) -> None:
    assert sql("SELECT epoch, lease_until > now() FROM buses") == [(1, True)]
    first.close()
    assert sql("SELECT owner, lease_until > now() FROM buses") == [(None, False)]
    with closing(PostgresStore(where)) as second:
        shown = second.leadership()
        assert (second.known.epoch, shown.epoch, shown.free, shown.former) == (2, 2, Free.STOPPED, None)


def test_who_has_given_the_lead_away_asks_nothing_more(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be told that it leads, over a connection that nobody closes."""
    store = PostgresStore(where)
    given = store._lead
    given.connected, given._cut_s = (lambda: False), -math.inf
    store.close()
    made: list[Door] = []
    monkeypatch.setattr(Door, "connect", made.append)
    assert not given.confirm()
    given.register("tunnel")
    given._look_for_a_better()
    assert made == []


def test_who_was_killed_is_followed_at_once(where: str) -> None:
    with Process("leader", [sys.executable, "-c", LEADS, where], ready="leads") as process:
        process.kill()
    ends = Event()
    for _ in range(100):  # its sessions are gone a moment after it
        try:
            PostgresStore(where).close()
        except NotLeading:
            ends.wait(0.01)
        else:
            return
    pytest.fail("its lease was waited for")


def test_who_stands_still_is_followed_when_its_lease_is_over_and_writes_nothing_more(
    first: Leader, where: str, sql: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fill(first, 1)
    former = first.leadership().name
    sql("UPDATE buses SET lease_until = now()")
    with closing(PostgresStore(where)) as second:
        shown = second.leadership()
        assert (shown.epoch, shown.free, shown.former) == (2, Free.EXPIRED, former)
        assert f"leads, as leader number 2: {shown.why}" in caplog.text
        assert shown.view()["takeover"] == {"why": "expired", "from": former, "message": shown.why}
        fill(second, 2)
        with pytest.raises(Ended):
            first.commit(Changes(jobs={1: as_ended(creation(1).jobs[1])}))
        assert first.over.is_set()
        assert [job.finished_at for job in everything(second)[0]] == [None, None]
        fill(second, 3)


def test_who_has_nothing_to_write_notices_too(where: str, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "RENEW_S", 0.01)
    with closing(Leader(where)) as leader:
        sql("UPDATE buses SET epoch = epoch + 1")
        assert leader.over.wait(WAIT_S)


def test_a_lease_is_renewed_while_nothing_is_written(
    where: str, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "RENEW_S", 0.01)
    with closing(Leader(where)) as leader:
        sql("UPDATE buses SET lease_until = '-infinity'")
        until(lambda: sql("SELECT lease_until > now() FROM buses") == [(True,)], "it is renewed")
        assert not leader.over.is_set()


def test_the_sessions_of_who_is_followed_are_ended(
    first: Leader, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may have a transaction open, which would hold up the next leader."""
    first._turns.connection.execute("BEGIN")
    first._turns.connection.execute("UPDATE buses SET turn = turn")
    # Its lease is over, which nobody can write into the row that it holds.
    monkeypatch.setattr(lead, "_SEEN", lead._SEEN.replace("lease_until > now()", "false"))
    with closing(PostgresStore(where)) as second:
        fill(second, 1)
        with pytest.raises(StoreError, match="terminating connection"):
            first.now.jobs({})


def test_the_end_of_a_process_that_lost_the_lead() -> None:
    code = "from puppetmaster.store.postgres.lead import end_process; end_process('It is lost.')"
    with Process("lost", [sys.executable, "-c", code]) as process:
        assert process.wait(WAIT_S) == 75
        assert "It is lost. This process ends." in process.output()


def test_the_first_leader_is_shown(first: Leader, sql: Any) -> None:
    shown = first.leadership()
    ((owner, since),) = sql("SELECT owner, extract(epoch FROM now()) FROM buses")
    assert (shown.name, shown.epoch, shown.free, shown.former) == (owner, 1, Free.FIRST, None)
    assert 0 <= float(since) - shown.since_s < WAIT_S
    assert shown.sure
    assert 0 < shown.lease_s <= LEASE_S
    first._lead.doubt()
    assert not first.leadership().sure


# One that waits


class Waits:
    """What a standby is told; ``at`` is what is done at some of its looks, the first of which is number 1."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.at: dict[int, Callable[[], object]] = {}

    def __call__(self, said: str) -> None:
        self.said.append(said)
        if len(self.said) in self.at:
            self.at[len(self.said)]()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    monkeypatch.setattr(lead, "LOOK_S", 0.01)
    return Waits()


def test_of_two_that_wait_one_takes_over(
    first: Leader, where: str, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = list[Leader]()

    def faster() -> None:
        first.close()
        third.append(Leader(where))

    waits.at[3] = faster
    real = lead.Lead._look

    def look(self: lead.Lead) -> Any:
        """At the fourth look of the second the first is seen to be gone, and the third has been faster."""
        seen = real(self)
        if len(waits.said) == 3 and third and not third[0].over.is_set():
            waits.said.append("late")
            return seen._replace(epoch=seen.epoch - 1, owner=None)
        if len(waits.said) == 6:
            third[0].close()
        return seen

    monkeypatch.setattr(lead.Lead, "_look", look)
    with closing(Leader(where, waits)) as second:
        assert second.known.epoch == 3
        assert not third[0].over.is_set()


def test_a_server_that_is_started_again_makes_nobody_a_leader(
    first: Leader, where: str, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All sessions are gone then, the leader's and the standby's."""
    real = lead.Lead._look

    def look(self: lead.Lead) -> Any:
        if len(waits.said) == 5:
            raise StoreError("the server is away")
        seen = real(self)
        return seen._replace(alive=False) if len(waits.said) in (6, 7, 8) else seen

    monkeypatch.setattr(lead.Lead, "_look", look)
    waits.at[12] = first.close
    with closing(Leader(where, waits)) as second:
        assert waits.said[5] == "the server is away"
        assert len(waits.said) >= 12, "its sessions said nothing for a while"
        assert second.known.epoch == 2
    assert not first.over.is_set()


def test_a_standby_is_told_that_the_lead_is_free(
    first: Leader, where: str, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_s: list[float] = []

    def stops() -> None:
        stopped_s.append(time.monotonic())
        threading.Timer(0.2, first.close).start()
        monkeypatch.setattr(lead, "LOOK_S", 4 * LEASE_S)  # it does not look by itself any more

    waits.at[3] = stops
    with closing(Leader(where, waits)) as second:
        assert second.known.epoch == 2
        assert time.monotonic() - stopped_s[0] < LEASE_S - MARGIN_S, "it was told"


def test_a_standby_looks_when_the_lease_is_over(
    first: Leader, where: str, sql: Any, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stands_still() -> None:
        monkeypatch.setattr(first._lead, "confirm", lambda: True)
        monkeypatch.setattr(lead, "LOOK_S", WAIT_S)
        sql("UPDATE buses SET lease_until = now() + interval '0.5 s'")

    waits.at[1] = stands_still
    begun_s = time.monotonic()
    with closing(Leader(where, waits)) as second:
        assert second.leadership().free == Free.EXPIRED
        assert time.monotonic() - begun_s < WAIT_S
        with pytest.raises(Ended):
            fill(first, 1)
    assert first.over.is_set()


def test_who_takes_the_lead_waits_for_a_standby_server_with_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that waits would not feed its watchdog, and would not answer over HTTP any more."""
    said: list[str] = []
    monkeypatch.setattr(connection, "ANSWER_S", 0.2)
    monkeypatch.setattr(lead, "LEASE_S", 0.3)
    with Cluster(directory=MEMORY if MEMORY.is_dir() else None) as own, ExitStack() as ends:
        with closing(PostgresStore(own.url())) as store:
            fill(store, 1)
        own.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        own.run("SELECT pg_reload_conf()")
        until(lambda: own.run("SHOW synchronous_standby_names") == "nobody", "it is set")
        standby = Thread(target=lambda: ends.callback(Leader(own.url(), said.append).close))
        standby.start()
        until(lambda: sum("did not answer within 0.2 s" in one for one in said) > 5, "it tries again")
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'puppetmaster %'"
        assert int(own.run(sessions)) < 4, "what was given up is ended at the server"
        own.run("ALTER SYSTEM RESET synchronous_standby_names")
        own.run("SELECT pg_reload_conf()")
        standby.join(WAIT_S)
        assert not standby.is_alive(), "it leads"


@pytest.mark.parametrize("both", [True, False], ids=["server restarted", "the leader's only"])
def test_sessions_that_end_with_the_standbys_own_say_nothing(
    first: Leader, where: str, sql: Any, waits: Waits, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    """A server that was started again has ended all of them."""
    monkeypatch.setattr(first._lead, "confirm", lambda: True)  # its sessions stay away
    monkeypatch.setattr(lead, "GONE_S", 0.0)
    whose = "application_name LIKE 'puppetmaster %'" if both else "application_name = owner"
    ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity, buses WHERE {whose}"
    waits.at = {3: lambda: sql(ends), 20: first.close}
    with closing(Leader(where, waits)) as second:
        assert second.leadership().free == (Free.STOPPED if both else Free.GONE)
        assert (len(waits.said) >= 20) == both


def test_a_standby_takes_over_from_who_stops_and_makes_no_connection_before_it_sends(
    first: Leader, where: str, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes as long as a turn. Its lease is renewed over another one, which a thread makes meanwhile."""
    made: list[str] = []
    real = Door.connect

    def connect(self: Door) -> Connection:
        made.append(threading.current_thread().name)
        return real(self)

    fill(first, 1)
    waits.at[3] = first.close
    monkeypatch.setattr(Door, "connect", connect)
    with closing(Leader(where, waits)) as second:
        assert "Another puppetmaster leads with" in waits.said[0]
        assert "this one waits to take over" in waits.said[0]
        assert second.known.epoch == 2
        assert made.count("MainThread") == 1, "to wait with"
        fill(second, 2)
        assert second.confirm()
        assert made.count("MainThread") == 1
        assert len(everything(second)[0]) == 2


# A leader without a broker


class Cut:
    """A leader whose broker goes away, and one that waits and is asked whether it reaches the broker."""

    def __init__(
        self, first: Leader, where: str, monkeypatch: pytest.MonkeyPatch, *, connected: bool | None = True
    ) -> None:
        monkeypatch.setattr(lead, "RENEW_S", 0.01)
        monkeypatch.setattr(lead, "RESIGN_S", 0.05)
        self.connected: bool | None = connected
        self.reaches = True
        self.resigned, self.asked_often = Event(), Event()
        self.asked = self.looks = 0
        self._looked = Condition()
        self._waiter = Thread(
            target=lambda: PostgresStore(where, waiting=lambda _: None, reaches=self._ask).close()
        )
        first.resigns(self._look, self.resigned.set)
        self._waiter.start()

    def _look(self) -> bool | None:
        with self._looked:
            self.looks += 1
            self._looked.notify_all()
        return self.connected

    def looked(self, times: int) -> None:
        """Wait until the leader has looked so often whether it is connected."""
        with self._looked:
            enough = self.looks + times
            assert self._looked.wait_for(lambda: self.looks >= enough, WAIT_S)

    def _ask(self) -> bool:
        self.asked += 1
        if self.asked > 2 * lead.ASKS:
            self.asked_often.set()
        return self.reaches

    def end(self) -> None:
        """Wait for the other one, which has taken the lead."""
        self._waiter.join(WAIT_S)
        assert not self._waiter.is_alive()


@pytest.fixture
def cut(
    first: Leader, where: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Cut]:
    made = Cut(first, where, monkeypatch, connected=getattr(request, "param", True))
    yield made
    first.close()
    made.end()


def test_a_leader_without_a_broker_resigns_for_one_that_reaches_it(cut: Cut) -> None:
    cut.looked(2)
    assert cut.asked == 0
    cut.connected = False
    assert cut.resigned.wait(WAIT_S)
    assert cut.asked >= lead.ASKS, "once may be the moment at which the broker is back"


def test_while_nobody_reaches_the_broker_nobody_resigns(cut: Cut) -> None:
    cut.reaches = False
    cut.looked(2)
    cut.connected = False
    assert cut.asked_often.wait(WAIT_S)
    assert not cut.resigned.is_set()


@pytest.mark.parametrize("cut", [False], indirect=True)
def test_who_had_a_connection_that_nobody_saw_resigns_as_soon(cut: Cut) -> None:
    assert cut.resigned.wait(WAIT_S)


@pytest.mark.parametrize("cut", [None], indirect=True)
def test_who_was_never_connected_keeps_the_lead_for_longer(cut: Cut) -> None:
    """If a broker lets nobody in, two would resign for each other again and again."""
    cut.looked(100)
    assert cut.asked == 0
    assert not cut.resigned.is_set()


# The window of trust


def test_who_renews_may_act_until_shortly_before_the_lease_is_over(
    first: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first._lead.doubt()
    fill(first, 1)
    assert first.may_act(), "a turn renews too"
    now_s = [time.monotonic()]
    monkeypatch.setattr(lead, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=None))
    first._lead.doubt()
    assert not first.may_act()
    assert first.confirm()
    now_s[0] += LEASE_S - MARGIN_S - 0.01
    assert first.may_act()
    now_s[0] += 0.02
    assert not first.may_act()


def test_who_has_lost_its_connections_may_not_act_until_it_was_renewed_and_leads_on(
    first: Leader, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the database is away: nobody else leads meanwhile."""
    assert first.may_act()
    with monkeypatch.context() as patch:
        patch.setattr(first._door, "connect", away)
        patch.setattr(turns, "SETTLE_S", 0.0)
        sql(ENDS.format(first._door.name))
        with pytest.raises(StoreError):
            fill(first, 1)
        assert not first.may_act()
        for _ in range(2):
            assert not first.confirm(), "nobody can be asked"
        sql("UPDATE buses SET lease_until = now()")
    assert first.confirm()
    assert first.may_act()
    assert not first.over.is_set()
    assert sql("SELECT lease_until > now() FROM buses") == [(True,)]
    fill(first, 2)


def test_what_was_renewed_before_a_connection_was_lost_does_not_end_the_doubt(first: Leader) -> None:
    """Two threads note such things, and who is replaced must not acknowledge what the next leader needs."""
    begun_s = time.monotonic()
    with first._lead._lock:  # nobody renews meanwhile
        first._lead.doubt()
        first._lead.renewed(begun_s)
        assert not first.may_act()
    assert first.confirm()
    assert first.may_act()


def test_the_tunnel_of_who_led_is_known_to_the_next_one(first: Leader, where: str) -> None:
    assert first.tunnel is None
    first.tunnel = "808"
    first.close()
    with closing(PostgresStore(where)) as second:
        assert second.tunnel == "808"


def test_the_thread_that_renews_is_one_of_those_that_must_run(first: Leader) -> None:
    assert [(thread.name, thread.is_alive()) for thread in first.threads] == [("pm-lead", True)]
    first.close()
    assert not first.threads[0].is_alive()


def test_a_server_that_does_not_answer_holds_up_no_end(
    first: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "CLOSE_S", 0.0)
    with first._lead._lock:  # somebody waits for its answer
        first.close()
    monkeypatch.undo()
    first.close()
