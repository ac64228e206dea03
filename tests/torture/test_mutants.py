"""The mutants: each is one small fault, the same seed draws the same, and there are tests for each module."""

import ast

import pytest

from tests import ROOT
from tests.mutants import GROUPS, TELLING, Mutant, draw, mutants

SOURCE = '''"""A module."""

LIMIT = 5


def verb(left: int, right: int = 3, *, quick: bool = False) -> int | None:
    """Words."""
    assert left, "an assertion is none of its behaviour"
    log.info("so many: %s", left + 1)
    _logger.warning("so few: %s", left - 1)
    if left < right and not quick:
        left += min(left, 7)
        raise ValueError(f"{left + 1}")
    self.é = left
    for one in range(left):
        tell(one)
        continue
    return left if left == right else None
'''
FAULTS = [
    ("right: int = 3", "right: int = 4"),
    ("quick: bool = False", "quick: bool = True"),
    ("left < right", "left <= right"),
    ("left < right and not quick", "left < right or (not quick)"),
    ("left < right and not quick", "left < right"),
    ("left < right and not quick", "not quick"),
    ("if left < right and not quick", "if True"),
    ("if left < right and not quick", "if False"),
    ("if left < right and not quick", "if not (left < right and (not quick))"),
    ("not quick", "quick"),
    ("left += min(left, 7)", "pass"),
    ("min(left, 7)", "max(left, 7)"),
    ("min(left, 7)", "min(left, 8)"),
    ('raise ValueError(f"{left + 1}")', "pass"),
    ("self.é = left", "pass"),
    ("tell(one)", "pass"),
    ("continue", "break"),
    ("return left if left == right else None", "return None"),
    ("left == right", "left != right"),
    ("left if left == right else None", "None if left == right else left"),
    ("left if left == right else None", "left if True else None"),
    ("left if left == right else None", "left if False else None"),
    ("left if left == right else None", "left if not left == right else None"),
]


def plain(source: str) -> str:
    """Without what only the writing of it differs in."""
    return ast.unparse(ast.parse(source))


@pytest.fixture(scope="module")
def every() -> list[Mutant]:
    return list(mutants("bus", "x", SOURCE))


@pytest.mark.parametrize(("good", "bad"), FAULTS)
def test_what_is_put_in_the_place_of_what(every: list[Mutant], good: str, bad: str) -> None:
    assert plain(SOURCE.replace(good, bad)) in [plain(one.mutated) for one in every]


def test_nothing_else_is_changed(every: list[Mutant]) -> None:
    expected = {plain(SOURCE.replace(good, bad)) for good, bad in FAULTS}
    assert {plain(one.mutated) for one in every} - expected == set()


def test_a_fault_is_shown_as_a_diff(every: list[Mutant]) -> None:
    shown = next(one.diff for one in every if "left <= right" in one.mutated)
    assert "--- puppetmaster/x.py\n" in shown
    assert "-    if left < right and not quick:\n+    if (left <= right) and not quick:\n" in shown


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    assert draw(3, 5, ["bus"]) == draw(3, 5, ["bus"]) != draw(4, 5, ["bus"])
    assert [one.group for one in draw(3, 2)] == [group for group in GROUPS for _ in range(2)]


@pytest.mark.parametrize("group", GROUPS)
def test_each_module_is_in_one_group_and_has_tests(group: str) -> None:
    for module in GROUPS[group].modules.split():
        assert (ROOT / f"puppetmaster/{module}.py").exists()
        assert [other for other in GROUPS if module in GROUPS[other].modules.split()] == [group]
    missing = [name for name in GROUPS[group].tests.split() if not (ROOT / "tests" / name).exists()]
    assert not missing, f"{group}: there are no such tests"


def test_every_mutant_of_the_product_can_be_read_and_is_none_of_the_log() -> None:
    for mutant in draw(5, 15):
        assert ast.dump(ast.parse(mutant.mutated)) != ast.dump(ast.parse(mutant.source))
        removed = [line[1:].strip() for line in mutant.diff.splitlines()[3:] if line.startswith("-")]
        assert not removed[0].startswith(TELLING)
