"""How SteadySanji is made, started and stopped."""

import inspect
import logging
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from puppetmaster.bundle import envelope, runtime, sdk
from puppetmaster.bundle.runtime import SteadySanji
from puppetmaster.errors import PuppetmasterError
from tests.desk import until
from tests.unit.bundle.benches import PROFILE, Bench, DeadLink, Steady, described


def test_a_bundle_without_a_role_is_a_model() -> None:
    """F22: the SDK's registration thread ends with a KeyError."""
    bundle = described()
    del bundle.profile["role"]
    made = Steady(bundle=bundle, connection=DeadLink())
    assert made.get_profile("model")["role"] == "model"
    made.stop()


def test_patterns_of_routes_are_registered_with_wildcards(steady: Bench) -> None:
    (profile,) = steady.bundle._profiles()
    assert profile["resources"] == ["/things/+", f"/system/sample/{steady.bundle.installation}"]


def test_a_view_has_no_resource_of_its_own() -> None:
    view = {"methods": ["put"], "resource": "/jobs/:id", "role": "view"}
    bench = Bench(resources=[*PROFILE["resources"], view])
    assert [(one["name"], len(one["resources"])) for one in bench.bundle._profiles()] == [
        ("sample", 2),
        ("sample-view", 1),
    ]
    bench.close()


def _decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(self: Any) -> None:
        self.was_called = True

    return wrapper


def test_only_routes_are_run_when_a_bundle_is_made() -> None:
    """F21: the SDK takes every method whose name is "wrapper" for a route."""

    class SteadyDecorated(Steady):
        @_decorated
        def helper(self) -> None: ...

    bench = Bench(SteadyDecorated)
    assert not hasattr(bench.bundle, "was_called")
    bench.close()


def test_no_property_is_evaluated_when_a_bundle_is_made() -> None:
    """F21: the SDK evaluates every attribute before init; ours has none that does anything."""
    assert [
        name for name, _ in inspect.getmembers(SteadySanji, lambda member: isinstance(member, property))
    ] == []


def test_init_gets_what_was_given_and_can_already_send_events() -> None:
    class Eager(Steady):
        def init(self, *_args: Any, **kwargs: Any) -> None:
            super().init()
            self.given = kwargs
            self.publish.event.put("/jobs/1", data=1)

    link = DeadLink()
    profile = described()
    event = threading.Event()
    made = Eager(bundle=profile, connection=link, stop_event=event, service="s")
    assert made.given == {"bundle": profile, "connection": link, "stop_event": event, "service": "s"}
    assert made.stop_event is event
    assert link.published.get_nowait()["data"] == 1
    made.stop()


def test_making_one_leaves_the_signals_alone() -> None:
    """The SDK takes SIGINT when it is made; here start() does, and gives it back."""

    class Looking(Steady):
        def init(self, *_args: Any, **_kwargs: Any) -> None:
            super().init()
            self.meanwhile = signal.getsignal(signal.SIGTERM)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    made = Looking(bundle=described(), connection=DeadLink())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert made.meanwhile == before[1], "what asks it to end then does so"
    made.stop()


def test_without_a_connection_it_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: the SDK refuses, and its own one would take the port for a string."""
    monkeypatch.setenv(sdk.PORT_VARIABLE, "1899")
    made = Steady(bundle=described())
    assert made._conn.broker_port == 1899
    assert made._conn.client.on_disconnect == made.on_disconnect
    assert made._conn.instead is envelope.refused
    made.stop()


def test_the_sdks_mockup_serves_to_test_handlers() -> None:
    """F18: `mock` is in tests/requirements.txt; no answer waits for Mockup, which never acknowledges."""
    from sanji.connection.mockup import Mockup

    made = Steady(bundle=described(), connection=Mockup())
    response = Mock()
    made.get(message=SimpleNamespace(param={"id": "1"}, query={}), response=response, test=True)
    response.assert_called_once_with(data={"id": "1", "query": {}})
    made.publish.create_response(sdk.Message({"id": 1, "method": "get", "resource": "/a"}), "me")(data=1)
    made.stop()


def test_stop_calls_before_stop_once_and_survives_it(caplog: pytest.LogCaptureFixture) -> None:
    class Leaving(Steady):
        left = 0

        def before_stop(self) -> None:
            self.left += 1
            raise KeyError("oh")

    bench = Bench(Leaving)
    bench.close()
    bench.bundle.stop()
    assert bench.bundle.left == 1
    assert "before_stop() failed" in caplog.text


def test_stop_does_not_wait_for_a_busy_handler(steady: Bench) -> None:
    """F13: the SDK joins it without limit."""
    steady.occupy(1)
    begun = time.monotonic()
    steady.bundle.stop()
    assert time.monotonic() - begun < 3
    steady.bundle.gate.set()
    assert steady.answer(100)["code"] == 200
    for thread in steady.threads:
        thread.join(10)


def test_requests_that_wait_are_answered_while_it_deregisters(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(_timeout_s: float) -> None:
        steady.bundle.gate.set()
        until(lambda: steady.link.published.qsize() == 50, "all are answered")

    monkeypatch.setattr(steady.bundle.registration, "stop", answered)
    steady.occupy(1)
    for number in range(1, 50):
        steady.deliver({"id": number, "method": "get", "resource": "/things/1"})
    steady.bundle.stop()


def test_start_returns_when_stop_event_is_set_and_run_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Running(Steady):
        def run(self) -> None:
            raise KeyError(f"ready: {self.is_ready.is_set()}")

    made = Running(bundle=described(), connection=DeadLink())
    thread = threading.Thread(target=made.start, name="test-start")
    with caplog.at_level(logging.ERROR):
        thread.start()
        until(lambda: hasattr(made, "main_thread") and made.main_thread.ident, "it waits to be run")
        made.is_ready.set()
        made.stop_event.set()
        thread.join(10)
        made.main_thread.join(10)
    assert not thread.is_alive()
    assert "run() failed" in caplog.text
    assert "KeyError: 'ready: True'" in caplog.text, "not before it is registered"
    assert made.main_thread.daemon, "it may go on for ever"


@pytest.mark.parametrize(
    ("before", "stopping", "fault"),
    [(None, False, "the thread sdk-some has ended"), ("older", False, "older"), (None, True, "None")],
)
def test_a_thread_that_ends_is_a_fault_unless_all_end(
    steady: Bench, monkeypatch: pytest.MonkeyPatch, before: str | None, stopping: bool, fault: str
) -> None:
    thread = threading.Thread(target=int, name="sdk-some")
    monkeypatch.setattr(steady.bundle, "threads", lambda: [thread, threading.current_thread()])
    steady.bundle._look_after_threads()
    assert steady.bundle.fault is None
    thread.start()
    thread.join()
    steady.bundle.fault = before
    if stopping:
        steady.bundle.stop_event.set()
    steady.bundle._look_after_threads()
    assert str(steady.bundle.fault).startswith(fault)


def test_start_returns_when_a_stop_on_another_thread_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "STOP_S", 600.0)

    class Leaving(Steady):
        def before_stop(self) -> None:
            self.calls.put("leaving")
            self.gate.wait(60)

    made = Leaving(bundle=described(), connection=DeadLink())
    starting = threading.Thread(target=made.start, name="test-start")
    stopping = threading.Thread(target=made.stop, name="test-stop")
    starting.start()
    stopping.start()
    made.calls.get(timeout=10)
    starting.join(0.3)
    assert starting.is_alive()
    made.gate.set()
    for thread in (starting, stopping):
        thread.join(10)
    assert not starting.is_alive()
    assert not made.is_ready.is_set()
    assert not made._session.thread_aging.is_alive()


@pytest.mark.parametrize("alone", [True, False])
def test_a_fault_ends_it_where_it_is_alone_in_its_process(
    monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Beside other bundles it says what is wrong, and goes on as far as it can."""
    limits_s: list[int] = []
    monkeypatch.setattr(runtime, "end_within", limits_s.append)
    made = Steady(bundle=described(), connection=DeadLink())
    ended = threading.Thread(target=int, name="sdk-some")
    ended.start()
    ended.join()
    monkeypatch.setattr(made, "threads", lambda: [ended])
    made.alone = alone
    starting = threading.Thread(target=made.start, name="test-start")
    starting.start()
    until(lambda: made.fault, "it was seen")
    if not alone:
        starting.join(0.3)
        assert starting.is_alive()
        made.exit()
    starting.join(10)
    assert not starting.is_alive()
    assert limits_s == [runtime.LAST_S] * alone


def test_what_cannot_be_started_is_told_with_the_cure(steady: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady.bundle, "_create_thread_pool", Mock(side_effect=RuntimeError("no more")))
    with pytest.raises(PuppetmasterError, match=r"a thread for requests cannot be started \(no more\): give"):
        steady.bundle._start_threads()


def test_the_connection_is_waited_for_when_the_handlers_were(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[Any, float]] = []
    conn_thread = steady.bundle.conn_thread = threading.Thread(target=int, name="sdk-connection")
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: 100.0))
        patch.setattr(runtime, "_join", lambda thread, deadline_s: waits.append((thread, deadline_s)))
        steady.bundle._stop_threads()
    assert waits == [*((thread, 100.5) for thread in steady.threads), (conn_thread, 101.0)]


def test_every_thread_has_a_name_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    made = Steady(bundle=described(), connection=DeadLink())
    made._start_threads()
    names = {thread.name for thread in set(threading.enumerate()) - before}
    made.stop()
    assert {"sdk-aging", "sdk-registration", "sdk-dispatch-0", "sdk-dispatch-2", "sdk-resolve-0"} <= names
    assert all(name.startswith("sdk-") for name in names)
    assert "sdk-run" not in names, "it has no run()"
    assert "failed" not in caplog.text, "nor a before_stop()"
    assert made.stop_event.is_set()
    assert made._conn.connects == 1


def test_the_thread_of_the_sdks_sessions_is_woken_to_end(
    steady: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, woken = steady.bundle._session, list[bool]()
    monkeypatch.setattr(
        session.resolve_queue, "put_nowait", lambda _: woken.append(session.stop_event.is_set())
    )
    steady.bundle.stop()
    assert woken == [True]


@pytest.mark.parametrize(
    ("ident", "deadline_s", "waits_s"), [(5, 103.0, [3.0]), (5, 97.0, [0.0]), (None, 103.0, [])]
)
def test_a_thread_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch, ident: int | None, deadline_s: float, waits_s: list[float]
) -> None:
    waited_s: list[float] = []
    thread: Any = SimpleNamespace(ident=ident, join=waited_s.append)
    monkeypatch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: 100.0))
    runtime._join(thread, deadline_s)
    assert waited_s == waits_s
    runtime._join(threading.current_thread(), deadline_s)  # it would wait for itself
