"""Long work is done in parts, in the order in which it came."""

from collections.abc import Iterator

import pytest

from puppetmaster.engine import background as module
from puppetmaster.engine import delivery
from puppetmaster.engine.background import Chore, Chores
from tests.unit.engine.verbs import names
from tests.virtual import World, body


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 3)


def count(to: int, done: list[str], name: str = "") -> Chore:
    for number in range(to):
        done.append(f"{name}{number}")
        yield
    done.append(f"{name}end")


@pytest.fixture
def chores() -> Chores:
    made = Chores()
    made.begin()
    return made


def test_what_is_short_is_done_at_once(chores: Chores) -> None:
    done: list[str] = []
    chores.add(count(2, done))
    assert done == ["0", "1", "end"]
    assert not chores


def test_what_is_long_is_done_in_parts(chores: Chores) -> None:
    done: list[str] = []
    chores.add(count(7, done))
    assert done == ["0", "1", "2"]
    assert chores
    chores.work()
    assert len(done) == 3, "this turn has no steps left"
    for _ in range(2):
        chores.begin()
        chores.work()
    assert done == ["0", "1", "2", "3", "4", "5", "6", "end"]
    assert not chores


def test_what_fits_exactly_ends_in_the_next_turn(chores: Chores) -> None:
    done: list[str] = []
    chores.add(count(3, done))
    assert chores
    chores.begin()
    chores.work()
    assert done == ["0", "1", "2", "end"]
    assert not chores


def test_one_after_the_other(chores: Chores) -> None:
    done: list[str] = []
    chores.add(count(4, done, "a"))
    chores.add(count(1, done, "b"))
    assert done == ["a0", "a1", "a2"], "who came later waits, though it is short"
    chores.begin()
    chores.work()
    assert done == ["a0", "a1", "a2", "a3", "aend", "b0", "bend"]


def test_one_that_adds_another_comes_first(chores: Chores) -> None:
    done: list[str] = []

    def adding() -> Iterator[None]:
        done.append("a")
        yield
        chores.add(count(1, done, "b"))
        done.append("aend")

    chores.add(adding())
    chores.work()
    assert done == ["a", "aend", "b0", "bend"]


def test_one_that_fails_is_not_tried_again(chores: Chores) -> None:
    def failing() -> Iterator[None]:
        yield
        raise ZeroDivisionError

    done: list[str] = []
    with pytest.raises(ZeroDivisionError):
        chores.add(failing())
    chores.add(count(1, done))
    chores.begin()
    chores.work()
    assert done == ["0", "end"]
    assert not chores


def test_gateways_that_have_gone_are_found_away_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of the server fails: all bridges say so at once, while a large job runs."""
    monkeypatch.setattr(delivery, "MOST_UNSENT", 3)
    monkeypatch.setattr(module, "STEPS", 500)
    job = world.create(body("post", *names(10), concurrency=1))
    for name in names(10):
        world.engine.bridge(name, connected=False)
    world.turn(world.answered(job.first))
    assert world.statuses(job).count("error") == 3
    world.run()
    assert world.statuses(job).count("error") == 9
