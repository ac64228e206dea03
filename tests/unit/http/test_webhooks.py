"""The thread that tells webhooks: against a real server that fails, hangs, redirects and comes back."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from puppetmaster.clock import Clock, iso
from puppetmaster.engine.outbox import Outbox
from puppetmaster.http import webhooks as module
from puppetmaster.http.webhooks import Webhooks, _refusal
from puppetmaster.model.notice import Hook, Hooks, Notice, Owed
from tests.receiver import KEY, Got, Receiver

INSTALLATION = "0123456789abcdef"


class Reports:
    """Stands for the outbox: notes what it is told, and by whom it can be waited for."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, int]] = []
        self._changed = threading.Condition()

    def take(self, what: Callable[[Outbox], None]) -> None:
        what(self)  # type: ignore[arg-type]  # has the three methods that are called

    def _note(self, what: str, id_: int) -> None:
        with self._changed:
            self.noted.append((what, id_))
            self._changed.notify_all()

    def told(self, id_: int) -> None:
        self._note("told", id_)

    def failed(self, id_: int) -> None:
        self._note("failed", id_)

    def give_up(self, id_: int) -> None:
        self._note("given up", id_)

    def use(self, hooks: Hooks) -> None:
        self._note("uses", len(hooks))

    def wait(self, *wanted: tuple[str, int]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(wanted) <= set(self.noted), 30), self.noted


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_S", 0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def notice(number: int, at: str = "") -> Notice:
    return Notice(
        f"job-{number}-3", "puppetmaster.job.ended", f"/jobs/{number}", at or iso(time.time()), {"n": number}
    )


def owed(number: int, hook: str = "ops", **more: Any) -> Owed:
    return Owed(number, hook, notice(number), **more)


@contextmanager
def telling(*hooks: Hook, settings: Callable[[], Hooks] | None = None) -> Iterator[tuple[Webhooks, Reports]]:
    """Tells these, or those that the ``settings`` name now."""
    reports = Reports()
    started = Webhooks(settings or (lambda: hooks), INSTALLATION, reports.take, Clock())
    started.start()
    try:
        yield started, reports
    finally:
        started.stop()
        assert not started.thread.is_alive()


def owing(hook: Hook, *wanted: tuple[str, int]) -> Any:
    """Owe it job 1 until all of this is reported. Returns what is shown of it then."""
    with telling(hook) as (webhooks, reports):
        webhooks.post([owed(1, hook.name)])
        reports.wait(*wanted)
        return webhooks.view()[hook.name]


def ops(receiver: Receiver) -> Hook:
    return Hook("ops", receiver.url, KEY)


def test_what_https_needs_is_not_loaded_before_it_is_needed(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than all the rest of a takeover."""
    monkeypatch.setattr(ssl, "create_default_context", None)
    owing(ops(receiver), ("told", 1))


def test_what_comes_is_signed_and_a_cloud_event(receiver: Receiver) -> None:
    owing(ops(receiver), ("told", 1))
    (got,) = receiver.got
    event = got.checked()
    assert got.path == "/hook?team=ops"
    assert got.headers["content-type"].startswith("application/cloudevents+json")
    assert event["source"] == f"urn:puppetmaster:{INSTALLATION}"
    assert (event["id"], event["subject"], event["data"]) == (f"{INSTALLATION}-job-1-3", "/jobs/1", {"n": 1})
    with pytest.raises(WebhookVerificationError):
        got._replace(body=got.body.replace(b"/jobs/1", b"/jobs/2")).checked()
    with pytest.raises(WebhookVerificationError):
        got._replace(headers={**got.headers, "webhook-id": "another"}).checked()


def test_it_is_tried_again_until_it_is_taken_in_order_and_under_one_id(receiver: Receiver) -> None:
    answers: Iterator[tuple[int, dict[str, str]] | None] = iter(
        [(500, {}), None, (404, {}), (204, {}), (200, {})]
    )
    receiver.answer = lambda _: next(answers)
    with telling(ops(receiver)) as (webhooks, reports):
        webhooks.post([owed(1), owed(2)])
        reports.wait(("told", 2))
        assert webhooks.view() == {"ops": {"waiting": 0, "reason": None}}
    assert [got.checked()["subject"] for got in receiver.got] == ["/jobs/1"] * 4 + ["/jobs/2"]
    assert len({got.id for got in receiver.got}) == 2
    assert reports.noted == [("failed", 1)] * 3 + [("told", 1), ("told", 2)]


def test_one_that_is_down_is_told_when_it_is_back(receiver: Receiver) -> None:
    receiver.down()
    with telling(ops(receiver)) as (webhooks, reports):
        webhooks.post([owed(1)])
        reports.wait(("failed", 1))
        assert webhooks.view() == {"ops": {"waiting": 1, "reason": "nothing listens there"}}
        receiver.up()
        reports.wait(("told", 1))


def test_one_that_hangs_keeps_the_others_waiting_for_one_attempt_only(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        hanging = Hook("hangs", f"http://127.0.0.1:{silent.getsockname()[1]}/", KEY)
        with telling(hanging, ops(receiver)) as (webhooks, reports):
            webhooks.post([owed(number, "hangs") for number in range(10, 20)])
            webhooks.post([owed(1), owed(2)])
            reports.wait(("told", 1), ("told", 2), ("failed", 10))
            assert webhooks.view()["hangs"]["waiting"] == 10
            assert {id_ for what, id_ in reports.noted if what == "failed"} == {10}


def test_one_that_sends_a_byte_now_and_then_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPT_S", 0.3)
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            try:
                while not stop.wait(0.05):
                    connection.sendall(b"H")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=[server], daemon=True).start()
        slow = Hook("slow", f"http://127.0.0.1:{server.getsockname()[1]}/", KEY)
        owing(slow, ("failed", 1))
        stop.set()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    with Receiver() as other:
        receiver.answer = lambda _: (status, {"Location": other.url})
        with telling(ops(receiver)) as (webhooks, reports):
            webhooks.post([owed(1)])
            reports.wait(("failed", 1))
            assert str(status) in webhooks.view()["ops"]["reason"]
            receiver.wait(2)
        assert other.got == []


def test_one_that_is_gone_is_told_no_more_of_it(receiver: Receiver) -> None:
    receiver.answer = lambda _: (410, {})
    owing(ops(receiver), ("given up", 1))
    assert len(receiver.got) == 1


def test_after_so_many_attempts_or_so_long_it_is_given_up(receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {})
    old = owed(2)._replace(notice=notice(2, iso(time.time() - 4 * 86400)))
    with telling(ops(receiver)) as (webhooks, reports):
        webhooks.post([owed(1, attempts=module.MOST_ATTEMPTS - 2), old])
        reports.wait(("given up", 1), ("given up", 2))
    assert reports.noted == [("failed", 1), ("failed", 1), ("given up", 1), ("failed", 2), ("given up", 2)]


def test_what_a_webhook_is_owed_that_is_no_longer_in_the_settings_is_given_up(receiver: Receiver) -> None:
    with telling(ops(receiver)) as (webhooks, reports):
        webhooks.post([owed(1, "other"), owed(2)])
        reports.wait(("given up", 1), ("told", 2))


def test_the_settings_may_name_others_while_it_runs(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook moves while it is waited for, one is gone, and one is new."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "FIRST_S", 1000.0)
    monkeypatch.setattr(module, "LONGEST_S", 1000.0)
    with Receiver() as moved:
        receiver.down()
        named: list[Hooks] = [(ops(receiver), Hook("gone", receiver.url, KEY))]
        with telling(settings=lambda: named[-1]) as (webhooks, reports):
            webhooks.post([owed(1), owed(2, "gone")])
            reports.wait(("failed", 1), ("failed", 2))
            named.append((ops(moved), Hook("new", moved.url, KEY)))
            reports.wait(("told", 1), ("given up", 2), ("uses", 2))
            assert webhooks.names() == ("ops", "new")
            webhooks.post([owed(3, "new")])
            reports.wait(("told", 3))


def test_a_webhook_that_moves_while_it_is_asked_is_asked_at_once_where_it_is_now(receiver: Receiver) -> None:
    """What the former place said holds for that place only."""
    named: list[Hooks] = [(ops(receiver),)]
    with Receiver() as moved, telling(settings=lambda: named[-1]) as (webhooks, reports):

        def gone(_: Got) -> tuple[int, dict[str, str]]:
            named.append((ops(moved),))
            assert webhooks.names() == ("ops",)
            return 410, {}

        receiver.answer = gone
        webhooks.post([owed(1)])
        reports.wait(("told", 1))
    assert reports.noted == [("uses", 1), ("told", 1)]


def test_the_webhooks_that_are_reported_last_are_those_that_hold(receiver: Receiver) -> None:
    """Two threads look at the settings, and nobody would report the newer ones again."""
    named: list[Hooks] = [()]
    reported: list[Hooks] = []

    class Later(Reports):
        def use(self, hooks: Hooks) -> None:
            if not reported:
                reported.append(())
                named.append((ops(receiver), Hook("new", receiver.url, KEY)))
                other.start()
                other.join(0.2)  # without the lock it would report first
            reported.append(hooks)

    webhooks = Webhooks(lambda: named[-1], INSTALLATION, Later().take, Clock())
    other = threading.Thread(target=webhooks.names)
    named.append((ops(receiver),))
    webhooks.names()
    other.join()
    assert reported[-1] is webhooks.hooks is named[-1]


@pytest.mark.parametrize(
    ("status", "after", "wait_s"), [(503, "7", 7.0), (429, "30", 30.0), (500, "7", 0.0), (503, "soon", 0.0)]
)
def test_one_that_says_when_to_come_back_is_left_alone_until_then(
    status: int, after: str, wait_s: float
) -> None:
    refusal = _refusal(status, after)
    assert refusal is not None
    assert refusal.wait_s == wait_s


def test_a_fault_of_our_own_ends_no_thread(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Webhooks._attempt, iter([True])

    def failing(self: Webhooks, hook: Hook, one: Owed) -> Any:
        if next(calls, False):
            raise RuntimeError("ours")
        return real(self, hook, one)

    monkeypatch.setattr(Webhooks, "_attempt", failing)
    owing(ops(receiver), ("failed", 1), ("told", 1))


def test_one_that_is_down_for_weeks_ends_no_thread(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No float would hold the wait after 512 failures, which take about 16 days."""
    assert module.FACTOR**module.ENOUGH >= 3600, "the wait is the longest by then"
    monkeypatch.setattr(module, "FACTOR", 1e30)
    answers = iter([500] * 12)
    receiver.answer = lambda _: (next(answers, 204), {})
    owing(ops(receiver), ("told", 1))


def test_a_certificate_is_verified(
    receiver: Receiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.down()
    receiver.certificate = certificate
    receiver.up()
    secure = Hook("ops", receiver.url.replace("http:", "https:"), KEY)
    assert "its certificate is not trusted" in owing(secure, ("failed", 1))["reason"]
    assert receiver.got == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    owing(secure, ("told", 1))
    owing(Hook("ops", secure.url.replace("127.0.0.1", "localhost"), KEY), ("failed", 1))
    got: Got = receiver.got[0]
    assert got.checked()
    assert len(receiver.got) == 1
