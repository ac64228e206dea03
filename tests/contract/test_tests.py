"""The tests are for readers, too: a file of them is about one thing, and short enough to be read."""

from tests import ROOT

MOST_LINES = 800


def test_no_file_of_tests_is_too_long() -> None:
    files = (ROOT / "tests").rglob("*.py")
    lines = {file.relative_to(ROOT).as_posix(): len(file.read_text("utf-8").splitlines()) for file in files}
    long = {name: many for name, many in lines.items() if many > MOST_LINES}
    assert long == {}, "split it by what its tests are about"
