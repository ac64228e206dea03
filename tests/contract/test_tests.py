"""The tests are for readers, too: no file is too long, and the last line says what was left out."""

import os
import subprocess
import sys

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
