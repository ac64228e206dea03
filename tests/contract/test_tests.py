"""The tests are for readers, too: a file of them is about one thing, and short enough to be read."""

from tests import ROOT

MOST_LINES = 800
#: Files that are longer, with their lines. Nothing is added here, and no figure grows.
LONGER = {
    "page/test_page.py": 1149,
    "unit/engine/test_engine.py": 1728,
    "unit/engine/test_policies.py": 1204,
}


def test_no_file_of_tests_is_too_long() -> None:
    tests = ROOT / "tests"
    lines = {
        file.relative_to(tests).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in tests.rglob("*.py")
    }
    long = {name: many for name, many in lines.items() if many > LONGER.get(name, MOST_LINES)}
    assert long == {}, "split it by what its tests are about"
    mended = [name for name in LONGER if lines.get(name, 0) <= MOST_LINES]
    assert mended == [], "take it out of LONGER"
