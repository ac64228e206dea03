"""The tests are for readers, too: no file is too long, and the last line says what was left out.

And a module that only one other uses has tests of its own, or is a part of that other one.
"""

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests import ROOT

MOST_LINES = 800


def test_no_file_of_tests_is_too_long() -> None:
    files = (ROOT / "tests").rglob("*.py")
    lines = {file.relative_to(ROOT).as_posix(): len(file.read_text("utf-8").splitlines()) for file in files}
    long = {name: many for name, many in lines.items() if many > MOST_LINES}
    assert long == {}, "split it by what its tests are about"


def test_the_last_line_says_what_was_skipped_and_what_brings_it() -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/http/test_metrics.py"]
    env = {**os.environ, "SANDBOX_BROKER": "amqtt", "CI": ""}
    ran = subprocess.run(
        [*argv, "-k", "real_bus"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == (
        "1 tests need what is not installed here. To run them too: apt-get install mosquitto"
    )


def imported(files: Iterable[Path], modules: set[str]) -> Counter[str]:
    """How many of these files import each of these modules."""
    found: Counter[str] = Counter()
    for file in files:
        names = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        found.update(names & modules)
    return found


def test_a_module_that_only_one_other_uses_is_tested_by_itself() -> None:
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for file in (ROOT / "puppetmaster").rglob("*.py")
        if not file.name.startswith("__")
    }
    users = imported(files.values(), set(files))
    tested = imported((ROOT / "tests").rglob("test_*.py"), set(files))
    named = {file.stem for file in (ROOT / "tests" / "unit").rglob("test_*.py")}
    parts = [
        module
        for module, file in files.items()
        if users[module] < 2 and not tested[module] and f"test_{file.stem}" not in named
    ]
    assert parts == [], "make it a part of what uses it, or test it by itself"
