"""How signals are noticed: never in the middle of what they interrupt, and at once."""

import signal
import threading
import time

import pytest

from puppetmaster.bundle.signals import NUMBERS, Signals


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in NUMBERS]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_noticed_and_interrupts_nothing(number: signal.Signals) -> None:
    reached = False
    with Signals() as signals:
        signal.raise_signal(number)
        reached = True
        assert signals.seen
    assert reached


def test_a_wait_ends_with_a_signal_that_another_thread_was_given() -> None:
    entered = threading.Event()

    def interrupt() -> None:
        entered.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with Signals() as signals:
        begun_s = time.monotonic()
        entered.set()
        while not signals.seen:
            signals.wait(60)
        assert time.monotonic() - begun_s < 30
    thread.join()


def test_a_wait_ends_by_itself() -> None:
    with Signals() as signals:
        signals.wait(0.001)
        assert not signals.seen


def test_signals_that_come_before_the_wait_end_it() -> None:
    with Signals() as signals:
        for _ in range(5000):  # more than the bytes that are kept: none of them blocks
            signal.raise_signal(signal.SIGINT)
        signals.wait(60)
        assert signals.seen


def test_the_handlers_are_given_back() -> None:
    before = handlers()
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    with Signals():
        assert handlers() != before
    assert handlers() == before
    assert signal.set_wakeup_fd(descriptor) == descriptor
    with Signals(take=False):
        assert handlers() == before
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert handlers() == before, "what others change is given back too"


def test_on_another_thread_it_leaves_the_signals_alone() -> None:
    before = handlers()
    seen: list[object] = []

    def elsewhere() -> None:
        with Signals() as signals:
            signals.wait(0.001)
            seen.append(handlers())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
