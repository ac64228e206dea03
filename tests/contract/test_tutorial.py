"""The commands of the tutorial and of a how-to run, one after the other, and show what the page says."""

import os
import re
import shlex
from pathlib import Path

import pytest

from puppetmaster.cli.called import NAME, VARIABLE
from puppetmaster.store.sqlite.store import SqliteStore
from sandbox.demo import FLEET
from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests import ROOT
from tests.conftest import require
from tests.desk import until
from tests.terminal import Terminal
from tests.web_client import fetch

#: Each page, and how many commands it has at least.
PAGES = {"tutorial.md": 8, "howto/steps.md": 4}


def blocks(page: str, kind: str) -> list[str]:
    """What stands in the blocks of a kind, without the blanks in front of blocks that are in a list."""
    found = re.findall(
        rf"^( *)```{kind}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return [re.sub(f"^{blanks}", "", block, flags=re.MULTILINE) for blanks, block in found]


def commands(page: str) -> list[tuple[str, list[str]]]:
    """The commands, in order, each with the lines that are shown below it."""
    parts = [part for block in blocks(page, "console") for part in block.split("$ ")[1:]]
    return [(command, shown.splitlines()) for command, shown in (part.split("\n", 1) for part in parts)]


def pattern(shown: str) -> str:
    """What a line that is shown may be: ``..`` is anything, and times differ from run to run."""
    escaped = re.escape(shown).replace(r"\.\.", ".*")
    return re.sub(r"after\\ [0-9\\.]+\\ s", r"after\\ [0-9.]+\\ s", escaped)


def lacking(shown: list[str], came: str) -> list[str]:
    """The lines that are shown and did not come, in this order."""
    lines = iter(came.splitlines())
    return [one for one in shown if not any(re.fullmatch(pattern(one), line) for line in lines)]


def test_what_is_lacking() -> None:
    assert lacking(["a", "c after 0.4 s: .."], "a\nb\nc after 12 s: all\n") == []
    assert lacking(["c", "a"], "a\nc\n") == ["a"]
    assert lacking(["ab"], "abc\n") == ["ab"]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(page: str, tmp_path: Path) -> None:
    require("mosquitto")
    port = free_port()
    SqliteStore(tmp_path / "data").close()
    env = {**os.environ, "PUPPETMASTER_URL": f"http://127.0.0.1:{port}", "PUPPETMASTER_TOKEN": ""}
    env[VARIABLE] = NAME  # what is proposed begins as what the page has typed
    assert len(commands(page)) >= PAGES[page]
    for job in blocks(page, "json"):
        (tmp_path / "steps.json").write_text(job)

    def nothing_moves() -> bool:
        jobs = fetch(port, "GET", "/jobs").json
        return all(one["status"] == "paused" or one["finishedAt"] for one in jobs)

    with Gateway(tmp_path, fleet=FLEET, settings={"PUPPETMASTER_HTTP": f"127.0.0.1:{port}"}):
        for command, shown in commands(page):
            program, *words = shlex.split(command.replace("steps.json", str(tmp_path / "steps.json")))
            assert program == "puppetmaster"
            with Terminal(*words, env=env, columns=100) as terminal:
                came = terminal.end().text
            assert lacking(shown, came) == [], f"{command} shows {came}"
            until(nothing_moves, "each job has ended, or waits for a person")
